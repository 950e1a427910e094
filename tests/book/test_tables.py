from msun_lite.book.tables import table


def test_words_stand_left_numbers_right_and_units_stay_with_their_numbers():
    rows = [
        {"scale": "f1, 8 px", "top-1": 61.234, "of Vanilla's": "5 %"},
        {"scale": "f2", "top-1": 7, "of Vanilla's": ""},
    ]
    head, sides, first, second = table(rows, digits=".1f").data.splitlines()
    assert [side.strip(" -") for side in sides.strip("|").split("|")] == [":", ":", ":"]
    assert [side.strip()[0] for side in sides.strip("|").split("|")] == [":", "-", "-"]
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["f1, 8\u00a0px", "61.2", "5\u00a0%"]
    assert [cell.strip() for cell in second.strip("|").split("|")] == ["f2", "7", ""]
    assert "of Vanilla's" in head


def test_rows_of_cells_have_their_headers_given():
    text = table([["MSUN", "native", 0.5]], ["network", "fed", "CKA"], words=2).data
    head, sides, row = text.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["network", "fed", "CKA"]
    assert [side.strip()[0] for side in sides.strip("|").split("|")] == [":", ":", "-"]
    assert "0.50" in row
