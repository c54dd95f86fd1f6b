"""`ganforge list` and `ganforge info`."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ganforge import zoo
from ganforge.capabilities import CAPABILITIES
from ganforge.errors import RequestError
from ganforge.options import parse

if TYPE_CHECKING:
    from ganforge.game import Game


@dataclass(frozen=True)
class ListOptions:
    """Options of `list`."""

    can: str | None = None
    """Only the games that can do this."""
    json: bool = False
    """As JSON, for scripts."""


@dataclass(frozen=True)
class InfoOptions:
    """Options of `info`."""

    data: str | None = None
    """Build the players for this SOURCE; None: pictures of --size and --channels, or the game's own points."""
    size: int = 64
    """Side of the pictures."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    preset: str | None = None
    """A named setting of the game."""
    json: bool = False
    """As JSON, for scripts."""


def list_command(arguments: list[str], about: str) -> int:
    """Prints the catalogue, read from the text of the zoo's files."""
    options = parse(ListOptions, arguments, "list", about)
    if options.can and options.can not in CAPABILITIES:
        raise RequestError(f"--can {options.can}: unknown; games can {', '.join(CAPABILITIES)}")
    entries = [entry for entry in zoo.catalogue().values() if options.can is None or options.can in entry.methods]
    if options.json:
        rows = [{"name": e.name, "paper": e.paper, "reads": e.reads, "can": _can(e), "presets": e.presets} for e in entries]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("game", "reads", "can", "paper"):
        table.add_column(column, no_wrap=column != "paper")
    for entry in entries:
        table.add_row(entry.name, " | ".join(entry.reads), ", ".join(_can(entry)), entry.paper)
    Console(highlight=False, markup=False).print(table)
    return 0


def info_command(arguments: list[str], about: str) -> int:
    """Prints what one game is made of, as built for the data asked for."""
    name, rest = named_first(arguments, "info")
    if name is None:
        parse(InfoOptions, rest, "info GAME", about)
        return 0
    game = zoo.find(name)
    game_options = import_module("ganforge.commands.game_options")
    options, hyper = game_options.parse_with_game(InfoOptions, game, rest, f"info {name}", about)
    told = _tell(name, game, options, hyper)
    if options.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print_info(game, told)
    return 0


def named_first(arguments: list[str], command: str) -> tuple[str | None, list[str]]:
    """The game's name and the other arguments; (None, arguments) where only help is asked. RequestError where no game is named."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if "--help" in arguments or "-h" in arguments:
        return None, arguments
    raise RequestError(f"{command}: name the game first, e.g. ganforge {command} dcgan; the games are {', '.join(zoo.catalogue())}")


def _can(entry: zoo.Entry) -> list[str]:
    return [task for task in CAPABILITIES if task in entry.methods]


def _tell(name: str, game: type[Game], options: InfoOptions, hyper: dict[str, Any]) -> dict[str, Any]:
    game_options = import_module("ganforge.commands.game_options")
    entry = zoo.catalogue()[name]
    spec = game_options.spec_for(game, options.data, options.size, options.channels)
    built = import_module("ganforge.runs").build(game, spec, hyper)
    helps = game_options.help_of(game)
    chosen = game.presets[options.preset].options if options.preset else {}
    defaults = {key: parameter.default for key, parameter in inspect.signature(game).parameters.items() if key in helps or key in hyper}
    return {
        "name": name,
        "paper": entry.paper,
        "reads": entry.reads,
        "can": _can(entry),
        "data": str(spec),
        "players": {player: sum(p.numel() for p in seat.parameters()) for player, seat in built.players().items()},
        "phases": [phase.name for phase in built.phases()],
        "rounds": chosen.get("rounds", built.rounds),
        "batch_size": chosen.get("batch_size", built.batch_size),
        "hyper_parameters": {
            key: {"default": defaults.get(key), "value": value, "help": helps.get(key, "")} for key, value in hyper.items()
        },
        "presets": {key: {"about": preset.about, **preset.options} for key, preset in game.presets.items()},
    }


def _print_info(game: type[Game], told: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False)
    for paragraph in inspect.cleandoc(game.__doc__ or "").split("\nArgs:")[0].strip().split("\n\n"):
        console.print(" ".join(paragraph.split()), "\n", sep="")
    console.print(f"reads    {' | '.join(told['reads'])}\ncan      {', '.join(told['can'])}")
    console.print(f"rounds   {told['rounds']:,} of batch {told['batch_size']}; phases: {', '.join(told['phases'])}")
    console.print(f"players  for {told['data']}:")
    for player, count in told["players"].items():
        console.print(f"         {player:16} {count:>12,} parameters")
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for column in ("hyper-parameter", "default", "what it is"):
        table.add_column(column)
    for key, entry in told["hyper_parameters"].items():
        value = entry["default"] if entry["value"] == entry["default"] else f"{entry['default']} (here {entry['value']})"
        table.add_row(f"--{key.replace('_', '-')}", str(value), entry["help"])
    console.print()
    console.print(table)
    for key, preset in told["presets"].items():
        console.print(f"\n--preset {key}: {preset['about']}")
        console.print("  " + ", ".join(f"{k} {v}" for k, v in preset.items() if k != "about"), style="dim")
