import contextlib
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import msun_lite
from msun_lite import commands
from msun_lite.commands import COMMANDS, command_parser
from msun_lite.config import GROUPS, TrainConfig
from msun_lite.transfer.options import GROUPS as TRANSFER_GROUPS
from msun_lite.transfer.options import TransferConfig

ROOT = Path(__file__).parents[1]
IN_CHECKOUT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
"""An environment in which the package is found in the checkout, not installed."""

HEAVY = """
import sys
from msun_lite.commands import main, start
try:
    code = start(sys.argv[1], sys.argv[2:])
except SystemExit as stop:
    code = stop.code
print(code, *(name for name in ("torch", "torchvision", "numpy", "matplotlib") if name in sys.modules), file=sys.stderr)
"""


def _run(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, encoding="utf-8", **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_mistyped_options_do_not_wait_for_torch(name):
    shown = _run("-c", HEAVY, name, "--help")
    assert shown.stderr == "0\n"
    assert COMMANDS[name].summary in " ".join(shown.stdout.split())
    mistyped = _run("-c", HEAVY, name, "--print-confic")
    assert mistyped.stderr.splitlines() == ["error: unknown option --print-confic, did you mean --print_config?", "2"]


def test_printing_the_configuration_does_not_wait_for_torch():
    assert _run("-c", HEAVY, "train", "--preset", "lite", "--print_config").stderr == "0\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_module_run_as_a_command_is_that_command(name, tmp_path):
    done = _run("-m", f"msun_lite.{name}", "--nothing-like-it", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown option --nothing-like-it\n"


def test_the_package_lists_its_commands_and_runs_them(capsys):
    assert commands.main([]) == 0
    listed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:<11}{command.summary}\n" in listed
    assert commands.main(["trian"]) == 2
    assert "did you mean train?, got 'trian'" in capsys.readouterr().err
    assert commands.main(["cost", "--blocks", "nine"]) == 2
    assert capsys.readouterr().err == "error: blocks: expected int, got 'nine'\n"
    assert _run("-m", "msun_lite").stdout == listed


@pytest.mark.parametrize(
    ("program", "called"),
    [("/any/bin/msun-lite", "msun-lite"), ("/any/msun_lite/__main__.py", "python -m msun_lite")],
)
def test_usage_says_how_the_command_was_called(program, called, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program])
    for words, expected in (
        ([], f"usage: {called} COMMAND "),
        (["train", "--help"], f"usage: {called} train "),
        (["data"], f"usage: {called} data SCRIPT "),
        (["data", "mixed_sizes", "--help"], f"usage: {called} data mixed_sizes "),
    ):
        with contextlib.suppress(SystemExit):
            commands.main(words)
        assert capsys.readouterr().out.startswith(expected)


def test_a_checkout_runs_its_scripts_of_data_from_anywhere(tmp_path):
    listed = _run("-c", "from msun_lite.commands import main; main(['data'])", cwd=tmp_path, env=IN_CHECKOUT).stdout
    assert all(f"\n  {script.stem}  " in listed for script in (ROOT / "data_scripts").glob("*.py"))
    script = str(ROOT / "data_scripts" / "get_imagenette.py")
    for words, called in (
        (["-m", "msun_lite", "data", "get_imagenette"], "python -m msun_lite data get_imagenette"),
        ([script], f"python {script}"),
    ):
        shown = _run(*words, "--help", cwd=tmp_path, env=IN_CHECKOUT).stdout
        assert shown.startswith(f"usage: {called} [--source SOURCE]")


def test_an_unknown_script_of_data_is_refused_with_a_suggestion(capsys):
    assert commands.main(["data", "make-shards"]) == 2
    assert "did you mean make_shards?, got 'make-shards'" in capsys.readouterr().err


def test_listing_the_scripts_of_data_does_not_wait_for_torch():
    assert _run("-c", HEAVY.replace("start(sys.argv[1], sys.argv[2:])", "main(sys.argv[1:])"), "data").stderr == "0\n"


@pytest.mark.parametrize(("options", "groups"), [(TrainConfig, GROUPS), (TransferConfig, TRANSFER_GROUPS)])
def test_every_option_is_in_a_group_of_help(options, groups):
    names = [field.name for field in dataclasses.fields(options)]
    assert min(names.index(first) for first in groups.values()) == 0


def test_the_groups_of_help_are_in_their_order():
    text = command_parser("train").format_help()
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)


def test_public_names_can_be_had_from_the_package_though_they_are_imported_late():
    from msun_lite.networks.msun import MSUN

    assert msun_lite.MSUN is MSUN
    for name in msun_lite.__all__:
        assert getattr(msun_lite, name).__name__ == name
        assert name in dir(msun_lite)
    with pytest.raises(AttributeError, match="no attribute 'MSUM'"):
        _ = msun_lite.MSUM
