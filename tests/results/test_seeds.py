import json

import pytest

from msun_lite.results.seeds import Lead, average_seeds, read_seeds, two_standard_errors
from msun_lite.results.tables import accuracy_table
from msun_lite.results.words import describe_points, describe_seeds, describe_sizes, join_words, number_word, seed_count
from tests import runs


def summary(seed, *top1):
    sizes = [8, 16, 24][: len(top1)]
    accuracies = {str(size): value for size, value in zip(sizes, top1, strict=True)}
    return runs.summary(seed=seed, sizes=sizes, scales=sizes, top1=accuracies, mean_top1=sum(top1) / len(top1))


def test_the_records_of_a_run_are_found_by_seed_and_those_of_longer_names_are_not(tmp_path):
    for name, seed in (("msun", 10), ("msun", 2), ("msun-warm", 0), ("mst", 2)):
        folder = tmp_path / f"{name}-seed{seed}"
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(summary(seed, 50.0)))
    assert list(read_seeds(tmp_path, "msun")) == [2, 10]
    assert list(read_seeds(tmp_path, "msun-warm")) == [0]
    assert read_seeds(tmp_path, "nothing") == {}


def test_seeds_are_averaged_at_every_size_with_their_spread():
    found = average_seeds({0: summary(0, 50.0, 70.0), 2: summary(2, 54.0, 72.0)})
    assert found["top1"] == {"8": 52.0, "16": 71.0}
    assert found["mean_top1"] == 61.5
    assert found["spread"] == pytest.approx({"8": 8**0.5, "16": 2**0.5, "mean": 4.5**0.5})
    assert found["seeds"] == 2
    lines = accuracy_table({"MST": found, "one": average_seeds({0: summary(0, 50.0, 70.0)})}).splitlines()
    assert lines[2].split() == ["MST", "0.00", "0.000", "61.50", "52.0", "71.0"]
    assert lines[3].split() == ["±", "over", "two", "seeds", "2.12", "2.8", "1.4"]
    assert lines[4].split() == ["one", "0.00", "0.000", "60.00", "50.0", "70.0"]
    assert len(lines) == 5


def test_two_standard_errors_of_an_accuracy():
    assert two_standard_errors(1600, 80) == pytest.approx(2.0)
    assert two_standard_errors(1600, 50) == pytest.approx(2.5)


def test_a_lead_is_taken_seed_by_seed_over_the_seeds_that_both_have():
    one = {0: summary(0, 50.0, 70.0, 90.0), 1: summary(1, 52.0, 71.0, 89.0), 5: summary(5, 0.0, 0.0, 0.0)}
    other = {0: summary(0, 45.0, 69.0, 93.0), 1: summary(1, 49.0, 70.0, 91.0)}
    lead = Lead(one, other)
    assert lead.at(8) == lead.at("8") == [5.0, 3.0]
    assert lead.mean() == pytest.approx([1.0, 2 / 3])
    assert lead.sizes_ahead() == [8]
    assert lead.sizes_undecided() == [16]
    assert Lead(other, one).sizes_ahead() == [24]
    assert lead.describe(lead.at(8)) == "4.0 points (3.0 to 5.0 over two seeds)"
    assert lead.describe(lead.at(16)) == "1.0 points (1.0 to 1.0 over two seeds), which may be chance"
    assert lead.ahead_or_behind(lead.at(8)) == "4.0 points ahead (3.0 to 5.0 over two seeds)"
    assert lead.ahead_or_behind(lead.at(24)) == "2.5 points behind (2.0 to 3.0 over two seeds)"
    assert lead.ahead_or_behind([-1.0, 0.0]) == "0.5 points behind (0.0 to 1.0 over two seeds), which may be chance"


def test_what_may_be_chance_goes_by_the_accuracies_in_question():
    low, high = {0: summary(0, 40.0, 60.0)}, {0: summary(0, 75.0, 85.0)}
    assert Lead(low, low).chance == two_standard_errors(1600, 50)
    assert Lead(high, high).chance == two_standard_errors(1600, 80)
    assert Lead(low, high).chance == two_standard_errors(1600, 65)


def test_words():
    assert describe_points([-1.26]) == "−1.3 points (one seed)"
    assert describe_points([-2.0, 1.0]) == "−0.5 points (−2.0 to 1.0 over two seeds)"
    assert [number_word(count) for count in (1, 12, 13)] == ["one", "twelve", "13"]
    assert [join_words(words) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert [seed_count(count) for count in (1, 2)] == ["one seed", "two seeds"]
    assert describe_seeds({"A": 1, "B": 2, "C": 2}) == "one seed of A, two of B and C"
    assert describe_seeds({"A": 2, "B": 2}) == "two seeds each"
    grid = [8, 16, 24, 32, 40]
    assert describe_sizes([16, 24, 32], grid) == "from 16 to 32 px"
    assert describe_sizes([8, 16, 40], grid) == "at 8, 16 and 40 px"
    assert describe_sizes([8, 16], grid) == "at 8 and 16 px"
    assert describe_sizes([], grid) == "at no size"
