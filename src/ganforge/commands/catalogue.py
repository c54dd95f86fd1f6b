"""`ganforge list`, and the games that commands name."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ganforge import zoo
from ganforge.capabilities import CAPABILITIES, method_of
from ganforge.errors import RequestError
from ganforge.options import parse


@dataclass(frozen=True)
class ListOptions:
    """Options of `list`."""

    can: str | None = None
    """Only the games that can do this."""
    json: bool = False
    """As JSON, for scripts."""


def list_command(arguments: list[str], about: str) -> int:
    """Prints the catalogue, read from the text of the zoo's files."""
    options = parse(ListOptions, arguments, "list", about)
    if options.can and options.can not in CAPABILITIES:
        raise RequestError(f"--can {options.can}: unknown; games can {', '.join(CAPABILITIES)}")
    entries = [entry for entry in zoo.catalogue().values() if options.can is None or options.can in tasks_of(entry)]
    if options.json:
        rows = [{"name": e.name, "paper": e.paper, "reads": e.reads, "can": tasks_of(e), "presets": e.presets} for e in entries]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("game", "reads", "can", "paper"):
        table.add_column(column, no_wrap=column != "paper")
    for entry in entries:
        table.add_row(entry.name, " | ".join(entry.reads), ", ".join(tasks_of(entry)), entry.paper)
    Console(highlight=False, markup=False).print(table)
    return 0


def named_first(arguments: list[str], command: str) -> tuple[str | None, list[str]]:
    """The game's name and the other arguments; (None, arguments) where only help is asked. RequestError where no game is named."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if "--help" in arguments or "-h" in arguments:
        return None, arguments
    raise RequestError(f"{command}: name the game first, e.g. ganforge {command} dcgan; the games are {', '.join(zoo.catalogue())}")


def tasks_of(entry: zoo.Entry) -> list[str]:
    """What the game of this entry can do, by the names of `CAPABILITIES`."""
    return [task for task in CAPABILITIES if method_of(task) in entry.methods]
