"""Dataclasses as command lines, parsed by tyro; YAML files as the arguments they stand for; every complaint in one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from ganforge.errors import RequestError

T = TypeVar("T")


def parse(options: type[T], arguments: list[str], command: str, about: str = "") -> T:
    """The arguments as an instance of the dataclass; nested dataclasses are flat on the command line. RequestError says what is wrong."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, args=arguments, prog=f"ganforge {command}", description=about, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise RequestError(_in_one_line(complaint.getvalue(), arguments, names_of(options))) from None


def names_of(options: type) -> list[str]:
    """All option names of a dataclass, with those of nested ones; a field `class_` is the option `class`."""
    names: list[str] = []
    for entry in fields(options):
        inner = entry.default_factory if is_dataclass(entry.default_factory) else None
        names += names_of(inner) if isinstance(inner, type) else [entry.name.rstrip("_")]
    return names


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Values as a user would type them: {"lr": 0.1, "resume": True} gives --lr 0.1 --resume."""
    arguments: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        else:
            arguments += [f"--{option}", *(str(v) for v in (value if isinstance(value, list | tuple) else [value]))]
    return arguments


def read_config(path: Path, options: type, command: str) -> list[str]:
    """The arguments that a YAML file stands for. RequestError, naming the file, for what does not fit."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--config {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        raise RequestError(f"--config {path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RequestError(f"--config {path}: must hold lines of `option: value`")
    arguments = as_arguments({key.replace("-", "_"): value for key, value in values.items()})
    try:
        parse(options, arguments, command)
    except RequestError as error:
        raise RequestError(f"--config {path}: {error}") from None
    return arguments


def value_after(arguments: list[str], option: str) -> str | None:
    """The value of `--option VALUE` or `--option=VALUE`, the last one given, read before everything else is."""
    found = None
    for here, after in pairwise([*arguments, ""]):
        if here == option:
            found = after
        elif here.startswith(option + "="):
            found = here.partition("=")[2]
    return found


def _in_one_line(box: str, arguments: list[str], names: list[str]) -> str:
    """Tyro's framed complaint without its frame and its footer, with the nearest option where one was misspelt."""
    lines = [re.sub(r"^[│]\s?|\s*[│]$", "", line).strip() for line in box.splitlines() if line[:1] not in "╭╰"]
    sections = re.split(r"\n[─-]{10,}\n", "\n".join(lines))
    # Where the terminal has no box characters, the title is a section of its own.
    said = sections[0 if "╭" in box or len(sections) == 1 else 1].split()
    text = " ".join(said).strip() or "the options are wrong"
    text = re.sub(r"^Error parsing [a-z]\S*: ", "", text)
    wrong = re.search(
        r"^Error parsing (--\S+): .*?(?:invalid literal for int\(\) with base 10|could not convert string to float): (.*)$", text
    )
    if wrong:
        return f"{wrong[1]} {wrong[2]}: must be {'a whole number' if 'int()' in text else 'a number'}"
    if text.startswith("Unrecognized options"):
        spelt = [a.partition("=")[0] for a in arguments if a.startswith("--")]
        known = [f"--{name.replace('_', '-')}" for name in names]
        strange = [a for a in spelt if a.replace("_", "-") not in known and a.replace("--no-", "--") not in known]
        text = f"option {strange[0]} is unknown" if strange else text.replace("Unrecognized options: ", "not understood: ")
        near = difflib.get_close_matches(strange[0], known, n=1, cutoff=0.5) if strange else []
        return text + (f"; did you mean {near[0]}?" if near else "; --help lists the options")
    return text
