import dataclasses
import subprocess
import sys

import pytest

import msun_lite
from msun_lite import commands
from msun_lite.commands import COMMANDS, command_parser
from msun_lite.config import GROUPS, TrainConfig
from msun_lite.transfer.options import GROUPS as TRANSFER_GROUPS
from msun_lite.transfer.options import TransferConfig

HEAVY = """
import sys
from msun_lite.commands import start
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
