import os

import pytest

from msun_lite.utils.errors import UserError, one_line_errors, printable


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("a plain name, with é and 猫.jpg", "a plain name, with é and 猫.jpg"),
        ("two\nlines\r.jpg", r"two\nlines\r.jpg"),
        ("\x1b[31mred\x07.jpg", r"\x1b[31mred\x07.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("right\u202eto left", r"right\u202eto left"),
    ],
)
def test_names_are_shown_on_one_line_without_codes_for_a_terminal(name, printed):
    assert printable(name) == printed
    printable(name).encode()


def test_an_error_reaches_the_terminal_without_escape_codes(capsys):
    @one_line_errors
    def main():
        raise UserError("\x1b[2J: no such folder\nat all")

    assert main() == 2
    assert capsys.readouterr().err == "error: \\x1b[2J: no such folder at all\n"
