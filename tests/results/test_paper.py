import pytest

from msun_lite.results import paper


def test_the_tables_are_whole():
    assert [len(paper.rows(table)) for table in ("I", "II", "III", "IV", "V", "VI")] == [8, 12, 24, 12, 7, 6]


def test_rows_are_found_by_their_values():
    (row,) = paper.rows("II", backbone="ResNet50", method="MSUN")
    assert (row["32"], row["224"], row["params_M"]) == (61.83, 75.06, 26.0)
    assert paper.rows("V", blocks=9) == []


def test_the_means_of_table_two_are_those_of_table_six():
    sizes = [str(size) for size in range(32, 225, 16)]
    for method, name in (("MST", "MST"), ("MSUN", "SNet+UNet+SI")):
        (row,) = paper.rows("II", backbone="ResNet50", method=method)
        (mean,) = paper.rows("VI", method=name)
        assert sum(row[size] for size in sizes) / 13 == pytest.approx(mean["avg_accuracy"], abs=0.01)
