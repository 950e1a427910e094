"""How every command reads its options: the words of the command line, YAML files, and errors in one line."""

import codecs
import contextlib
import io
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_parsing_settings

from msun_lite.utils.errors import UserError, did_you_mean

set_parsing_settings(docstring_parse_attribute_docstrings=True)

BACKSLASHES = "YAML takes a backslash as it is without quotes, but as an escape within double ones"
"""What is to know where a Windows path was written into a YAML file."""


Options = TypeVar("Options")
"""The options of a command, a dataclass with a method `check`."""


class CommandLine(str):
    """A command line as text, which records keep, with the names of the options that it gives.

    Args:
        name: of the command.
        words: its arguments.
    """

    given: frozenset[str]

    def __new__(cls, name: str, words: Sequence[str]) -> "CommandLine":
        """Join the words as a shell takes them."""
        line = super().__new__(cls, shlex.join(["python", "-m", f"msun_lite.{name}", *words]))
        options = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
        line.given = frozenset(option.replace("-", "_") for option in options)
        return line


class OneLineParser(ArgumentParser):
    """An argument parser whose errors are one line and exit code 2; options are never abbreviated.

    Args:
        prog: what the user calls the command by; the script as it was called by default.
        presets: gives the options of a preset by its name, of the default one for None; for commands with --preset.
        stored: reads a run's config.yaml into a dataclass; for commands with --resume.
    """

    def __init__(
        self,
        *args,
        prog: str | None = None,
        presets: Callable[[str | None], dict] | None = None,
        stored: Callable[[Path], object] | None = None,
        **kwargs,
    ):
        super().__init__(*args, prog=prog or shlex.join(["python", sys.argv[0]]), allow_abbrev=False, **kwargs)
        self.presets, self.stored = presets, stored

    def validate(self, namespace: Namespace, **options) -> None:
        """Check the types of all values; None is a value like any other here, whatever it was set by."""
        super().validate(namespace, **options)  # names what is missing as that
        super().validate(namespace, **{**options, "skip_unset": False})

    def set_preset(self, preset: str | None) -> None:
        """Give the options that a preset has other defaults."""
        options, known = self.presets(preset), [action.dest for action in self._actions]
        if unknown := [name for name in options if name not in known]:
            raise UserError(f"{preset}: unknown option {unknown[0]!r}{did_you_mean(unknown[0], known)}")
        self.set_defaults(options)

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise the message as a `UserError`, with a suggestion for a mistyped option."""
        message = " ".join(str(message).split())
        if unknown := re.match(r"[Uu]nrecognized arguments: ([^\s=]+)", message):
            known = [action.option_strings[0] for action in self._actions if action.option_strings]
            raise UserError(f"unknown option {unknown[1]}{did_you_mean(unknown[1], known)}")
        if unknown := re.match(r"Option '(.+)' is not accepted", message):
            names = [action.dest for action in self._actions]
            raise UserError(f"unknown option {unknown[1]!r}{did_you_mean(unknown[1], names)}")
        listed = re.match(r'Parser key "(.+?)": .*(?:Got|Given) value: ?(.*)', message)
        if listed and (kind := _elements(self, listed[1])) in LISTS:
            raise UserError(f"{listed[1]}: expected {LISTS[kind]}, got {listed[2]!r}")
        if wrong := re.match(r'Parser key "(.+?)": .*Union subtypes.*?\[(.*?)\].*Given value: ?(.*)', message):
            kinds = [kind for kind in re.findall(r"'(\w+)'", wrong[2]) if kind != "NoneType"]
            raise UserError(f"{wrong[1]}: expected {' or '.join(kinds)}, got {wrong[3]!r}")
        if wrong := re.match(r'Parser key "(.+?)": (.*) Got value: ?(.*)', message):
            raise UserError(f"{wrong[1]}: {_plain_expectation(wrong[2])}, got {wrong[3]!r}")
        raise UserError(message)


def _plain_expectation(text: str) -> str:
    """Return a type error of the parser in plain words: `expected int`, `expected one of a, b`."""
    if choices := re.search(r"Literal\[(.*?)\]", text):
        return f"expected one of {choices[1].replace(chr(39), '')}"
    kinds = dict.fromkeys(re.findall(r"Expected an? <class '(\w+)'>", text))
    return f"expected {' or '.join(kinds)}" if kinds else text


LISTS = {int: "whole numbers such as 32,48,64", float: "numbers such as 0.5,0.5,0.5"}
"""What the elements of the options that are lists may be, and how they are written."""


def _elements(parser: ArgumentParser, name: str) -> type | None:
    """Return the type of the elements of an option that is a list, None of one that is none."""
    for action in parser._actions:
        if action.dest == name:
            hint = getattr(action, "_typehint", None)
            kinds = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is list]
            return get_args(kinds[0])[0] if kinds else None
    return None


def options_parser(
    options: type, groups: dict[str, str], prog: str, description: str, skip: set[str] | None = None, **hooks
) -> OneLineParser:
    """Return a parser of all fields of the dataclass `options` but `skip`, with --config and --print_config.

    Args:
        options: a dataclass.
        groups: title -> the field that a group of options begins with, in the order of --help; a group goes on to where
            the next field of another begins.
        prog: what the command is called.
        description: what it does.
        skip: fields that are no options here.
        hooks: those of `OneLineParser`.
    """
    usage = f"{prog} [OPTIONS]"  # all of them would fill the screen before what they mean
    parser = OneLineParser(prog=prog, usage=usage, description=description, **hooks)
    parser.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml.")
    names = [field.name for field in fields(options)]
    starts = sorted(map(names.index, groups.values()))
    ends = dict(zip(starts, [*starts[1:], len(names)], strict=True))
    for title, first in groups.items():
        begin = names.index(first)
        others = {*names[:begin], *names[ends[begin] :]}
        parser.add_argument_group(title).add_class_arguments(options, as_group=False, skip=others | (skip or set()))
    return parser


def parse(parser: OneLineParser, argv: list[str] | None = None) -> Namespace:
    """Parse `argv` (the command line by default): the preset, then --config, then the options.

    Of several --config files a later one wins; wherever they stand, what the command line itself says wins over them.
    With --resume the options stored in the run folder --out take the place of the preset's. Beside
    jsonargparse's syntax, `--resume` stands for `--resume true`, `--scales 8,32` for a list and `--batch-size` for
    `--batch_size`.
    """
    files, words = _take_files(_spell_out(parser, sys.argv[1:] if argv is None else argv))
    in_files = {}
    for file in files:
        in_files |= read_yaml(Path(file))

    def given(name: str) -> object:
        """Return the value of an option before it is parsed, None if there is none."""
        return (_values(words, f"--{name}") or [in_files.get(name)])[-1]

    # A positional that the command line lacks is set to its default, after the files.
    positionals = {action.dest for action in parser._actions if not action.option_strings}
    parser.set_defaults({name: value for name, value in in_files.items() if name in positionals})
    if parser.presets:
        parser.set_preset(given("preset"))
    if parser.stored and str(given("resume")).lower() in ("true", "auto") and given("out"):
        path = Path(str(given("out"))) / "config.yaml"
        if path.is_file():
            options = asdict(parser.stored(path)) | {"resume": True}
            parser.set_defaults(options | ({"max_minutes": None} if "max_minutes" in options else {}))
    # jsonargparse prints a hint after some errors; the one line is ours.
    with contextlib.redirect_stderr(io.StringIO()):
        # Not the files themselves: jsonargparse reads them in the locale's encoding, whatever they are in.
        options = parser.parse_args([*([f"--config={json.dumps(in_files)}"] if files else []), *words])
    if empty := [name for name, value in vars(options).items() if value == ""]:
        raise UserError(f"{empty[0]}: expected something, got ''")  # as paths, a variable that is not set means here
    return options


def _take_files(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the files that `argv` names by --config, and the other words."""
    files, words, rest = [], [], iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        file = (value if equals else next(rest, None)) if name == "--config" else None
        if file is None:
            words.append(word)
        else:
            files.append(file)
    return files, words


def _values(words: list[str], option: str) -> list[str]:
    """Return the values that the command line gives to `option`, before they are parsed."""
    values = []
    for word, after in itertools.pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name == option:
            values.append(value if equals else after)
    return values


def _spell_out(parser: OneLineParser, argv: list[str]) -> list[str]:
    """Return `argv` with underscores for dashes in options, true after bare switches, and brackets around lists."""
    defaults = {f"--{name}": value for name, value in vars(parser.get_defaults()).items()}
    argv = [_with_underscores(parser, word) for word in argv]
    words = []
    for position, word in enumerate(argv):
        after = argv[position + 1] if position + 1 < len(argv) else "--"
        before = argv[position - 1] if position else ""
        name, equals, value = word.partition("=")
        if isinstance(defaults.get(word), bool) and after.startswith("--"):
            word = f"{word}=true"
        elif _is_list(parser, before, word):
            word = f"[{word}]"
        elif equals and _is_list(parser, name, value):
            word = f"{name}=[{value}]"
        words.append(word)
    return words


def _is_list(parser: OneLineParser, option: str, value: str) -> bool:
    """Return whether `value` is what `option` of the command line takes as a list: numbers and commas."""
    kind = _elements(parser, option.removeprefix("--"))
    return kind is not None and re.fullmatch(r"[\d,]+" if kind is int else r"[-+\d.,eE]+", value) is not None


def _with_underscores(parser: OneLineParser, word: str) -> str:
    """Return an option that is spelt `--batch-size` as `--batch_size`, any other word as it is."""
    name, *value = word.split("=", 1)
    known = {option for action in parser._actions for option in action.option_strings}
    spelt = f"--{name[2:].replace('-', '_')}"
    return "=".join([spelt, *value]) if name.startswith("--") and spelt in known else word


def read_yaml(path: Path) -> dict:
    """Return the options in a YAML file: in UTF-8, or with its byte order mark UTF-16, whatever the locale is.

    Raises:
        UserError: if it is missing, no YAML, or no mapping from options to values.
    """
    content = b""
    try:
        content = path.read_bytes()
        utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        options = get_loader("yaml")(content.decode("utf-16" if utf16 else "utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        hint = f"; {BACKSLASHES}" if isinstance(error, yaml.YAMLError) and b"\\" in content else ""
        raise UserError(f"{path}: expected a YAML file of options, got: {error}{hint}") from None
    if not isinstance(options, dict):
        raise UserError(f"{path}: expected a YAML file of options, got {type(options).__name__}")
    for name, value in options.items():
        if isinstance(value, str) and not value.isprintable():
            raise UserError(f"{path}: {name}: expected text on one line, got {value!r}; {BACKSLASHES}")
    return options


def read_options(path: Path, parser: OneLineParser, kind: type[Options]) -> Options:
    """Return the checked options that a run's config.yaml holds.

    Args:
        path: of the file.
        parser: of these options.
        kind: the dataclass that they make; its `check` raises a `UserError` for a value that cannot work.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    stored = read_yaml(path)
    try:
        found = parser.parse_object(stored)
        found.pop("config", None)
        options = kind(**found.as_dict())
        options.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return options


def dump_yaml(config) -> str:
    """Return a configuration, a dataclass, as YAML that `--config` reads."""
    return yaml.safe_dump(asdict(config), sort_keys=False)
