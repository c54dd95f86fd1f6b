"""`ganforge info`."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from ganforge import zoo
from ganforge.commands.catalogue import named_first, tasks_of
from ganforge.commands.game_options import help_of, parse_with_game, spec_for
from ganforge.data import Reading
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import build


@dataclass(frozen=True)
class InfoOptions:
    """Options of `info`."""

    data: str | None = None
    """Build the players for this SOURCE; None: pictures of --size (64) and --channels (3), or the game's own points."""
    preset: str | None = None
    """A named setting of the game."""
    json: bool = False
    """As JSON, for scripts."""
    reading: Reading = field(default_factory=Reading)


def info_command(arguments: list[str], about: str) -> int:
    """Prints what one game is made of, as built for the data asked for."""
    name, rest = named_first(arguments, "info")
    if name is None:
        parse(InfoOptions, rest, "info GAME", about)
        return 0
    game = zoo.find(name)
    options, hyper = parse_with_game(InfoOptions, game, rest, f"info {name}", about)
    told = _tell(name, game, options, hyper)
    if options.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print_info(game, told)
    return 0


def _tell(name: str, game: type[Game], options: InfoOptions, hyper: dict[str, Any]) -> dict[str, Any]:
    entry = zoo.catalogue()[name]
    spec = spec_for(game, options.data, options.reading)
    built = build(game, spec, hyper)
    helps = help_of(game)
    chosen = game.presets[options.preset].options if options.preset else {}
    defaults = {key: parameter.default for key, parameter in inspect.signature(game).parameters.items() if key in helps or key in hyper}
    return {
        "name": name,
        "paper": entry.paper,
        "reads": entry.reads,
        "can": tasks_of(entry),
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
