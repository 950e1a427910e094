"""What is printed reaches any terminal, and never costs a result; text files are UTF-8 on every machine."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from msun_lite import cost
from msun_lite.evaluate import __main__ as evaluate
from msun_lite.results.tables import accuracy_table
from msun_lite.train import __main__ as train
from msun_lite.utils.cli import read_yaml
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import note, show

ROOT = Path(__file__).parents[2]
TALK = """
import sys, time
from pathlib import Path
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.progress import note

@one_line_errors
def main():
    note("first é")
    time.sleep(float(sys.argv[2]))
    note("second")
    Path(sys.argv[1]).write_text("the result")

sys.exit(main())
"""
LATIN = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _record(name):
    top1 = {"top1": {"8": 50.0}, "mean_top1": 50.0}
    about = {"routing": "nearest", "feeding": "upsampled", "data": {"name": "scenes", "val": 2, "classes": 2}}
    about["env"] = {"device": "cpu", "precision": "fp32"}
    costs = {"params": 1, "mean_flops": 1}
    return {"run": name, "sizes": [8], **costs, "refused": {}, "per_subnet": {"8": {}}, **top1, **about}


def test_a_terminal_without_a_character_gets_it_escaped(tmp_path):
    command = [sys.executable, "-c", TALK, str(tmp_path / "result"), "0"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"first", b"\\xe9", b"second"], b"")


def test_a_reader_that_goes_away_stops_nothing(tmp_path):
    command = [sys.executable, "-c", TALK, str(tmp_path / "result"), "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stdout.readline() == "first é\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
    assert (tmp_path / "result").read_text() == "the result"


@pytest.mark.parametrize("module", [evaluate, cost])
def test_a_result_is_written_before_it_is_printed(module, tmp_path, monkeypatch):
    def no_terminal(text):
        assert (tmp_path / "result.json").exists()
        raise UserError("no terminal")

    monkeypatch.setattr(module, "show", no_terminal)
    if module is cost:
        assert cost.main(["--arch", "resnet_lite", "--scales", "8,16", "--json", str(tmp_path / "result.json")]) == 2
    else:
        with pytest.raises(UserError, match="no terminal"):
            evaluate._show(_record("a"), str(tmp_path / "result.json"))
    assert (tmp_path / "result.json").stat().st_size > 0


def test_names_with_codes_for_terminals_are_shown_escaped(capsys):
    note("a\nb\x1b[2J")
    show(accuracy_table({"c\r\x1b]0;title\x07": _record("c")}))
    show("one\ntwo\x1b[0m")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a\\nb\\x1b[2J"
    assert "c\\r\\x1b]0;title\\x07" in lines[3]
    assert lines[-2:] == ["one", "two\\x1b[0m"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_options_means_the_same_in_every_locale(tmp_path, encoding):
    (tmp_path / "options.yaml").write_text("data: Bücher/é\nlr: 1e-3\n", encoding=encoding)
    command = [sys.executable, "-m", "msun_lite.train", "--config", "options.yaml", "--print_config"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**LATIN, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode("ascii").splitlines()
    assert "data: B\\xfccher/\\xe9" in lines
    assert "lr: 0.001" in lines


def test_a_windows_path_survives_yaml_or_is_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "options.yaml"
    path.write_text("data: C:\\new\\table\nlr: 1e-3\n")
    assert read_yaml(path) == {"data": "C:\\new\\table", "lr": 1e-3}
    for text in ('data: "C:\\new\\table"\n', 'data: "C:\\Users\\me"\n'):
        path.write_text(text)
        assert train.main(["--config", str(path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path}: ")
        assert error.endswith("YAML takes a backslash as it is without quotes, but as an escape within double ones\n")
        assert error.count("\n") == 1


def _in_the_locales_encoding(path):
    """Return the lines of a source file that read or write text without saying in which encoding."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if not _says_the_encoding(call)]


def _says_the_encoding(call):
    """Return whether a call gives its encoding, or needs none."""
    words = {word.arg: word.value for word in call.keywords}
    owner, name = getattr(call.func, "value", None), getattr(call.func, "attr", getattr(call.func, "id", ""))
    if "encoding" in words or getattr(owner, "id", "") in ("Image", "tarfile"):
        return True
    if name == "open":
        modes = [one.value for one in (*call.args, *words.values()) if _is_mode(one)]
        return not modes or any("b" in mode for mode in modes)
    return "text" not in words and not (owner is not None and name in ("read_text", "write_text"))


def _is_mode(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and set(node.value) <= set("rwaxbt+")


@pytest.mark.parametrize("folder", ["msun_lite", "data_scripts", "tools", "benchmarks"])
def test_no_text_is_read_or_written_in_the_locales_encoding(folder):
    found = {str(path): _in_the_locales_encoding(path) for path in sorted((ROOT / folder).glob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}
