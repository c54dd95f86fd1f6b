"""The games: one file per paper, found by folder, never by a list.

What a file holds is read from its text, so that `ganforge list` answers before torch is imported.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ganforge.errors import RequestError

if TYPE_CHECKING:
    from ganforge.game import Game


@dataclass(frozen=True)
class Entry:
    """One game as its file tells it: `paper` is the first paragraph of the class's docstring, `methods` the names it defines."""

    name: str
    module: str
    cls: str
    paper: str
    reads: tuple[str, ...]
    methods: frozenset[str]
    presets: tuple[str, ...]


@cache
def catalogue() -> dict[str, Entry]:
    """Every game of this folder by name, in alphabetical order."""
    entries = [entry for file in Path(__file__).parent.glob("[!_]*.py") for entry in _entries(file)]
    found = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
    if len(found) < len(entries):
        raise RequestError(f"two files of the zoo register one name; they register {', '.join(sorted(entry.name for entry in entries))}")
    return found


def find(name: str) -> type[Game]:
    """The class of the game of this name; RequestError, with the nearest name, where there is none."""
    entry = catalogue().get(name)
    if entry is None:
        near = difflib.get_close_matches(name, catalogue(), n=1, cutoff=0.5)
        raise RequestError(
            f"game {name!r} is unknown; " + (f"did you mean {near[0]!r}?" if near else f"the games are {', '.join(catalogue())}")
        )
    game: type[Game] = getattr(import_module(entry.module), entry.cls)
    return game


def _entries(file: Path) -> Iterator[Entry]:
    try:
        body = ast.parse(file.read_text(encoding="utf-8"), filename=str(file)).body
    except SyntaxError as error:
        raise RequestError(f"{file}, line {error.lineno}: not Python ({error.msg}); mend it, or take it out of the zoo") from None
    for node in body:
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            if isinstance(node, ast.ClassDef) and isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register":
                yield _entry(f"ganforge.zoo.{file.stem}", node, ast.literal_eval(decorator.args[0]))


def _entry(module: str, node: ast.ClassDef, name: str) -> Entry:
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    annotation = methods["play"].args.args[1].annotation if "play" in methods else None
    return Entry(
        name=name,
        module=module,
        cls=node.name,
        paper=(ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " "),
        reads=tuple(ast.unparse(annotation.slice).split(" | ")) if isinstance(annotation, ast.Subscript) else (),
        methods=frozenset(methods),
        presets=tuple(_preset_names(node)),
    )


def _preset_names(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == "presets" and isinstance(item.value, ast.Dict):
            yield from (ast.literal_eval(key) for key in item.value.keys if key is not None)
