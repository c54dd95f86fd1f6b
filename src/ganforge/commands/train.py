"""`ganforge train`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ganforge import zoo
from ganforge.commands.catalogue import named_first
from ganforge.commands.game_options import parse_with_game
from ganforge.data import Reading
from ganforge.engine import Interrupted, Settings, leads, train
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord


@dataclass(frozen=True)
class TrainOptions:
    """What is trained on, and where the run goes."""

    data: str | None = None
    """SOURCE: digits, gaussian, curves, sine, ring, grid, a folder, a file, shards, hub:NAME, or two with a comma; None: the game's own."""
    out: str | None = None
    """The run folder; None: runs/GAME-SOURCE."""
    resume: bool = False
    """Go on at the last checkpoint of the run folder."""
    overwrite: bool = False
    """Begin anew in a folder that holds a run."""
    config: str | None = None
    """A YAML file of options; the command line wins."""
    preset: str | None = None
    """A named setting of the game (see ganforge info GAME); config and command line win."""
    reading: Reading = field(default_factory=Reading)
    engine: Settings = field(default_factory=Settings)


def train_command(arguments: list[str], about: str) -> int:
    """Trains, prints where everything lies, returns the exit code."""
    name, rest = named_first(arguments, "train")
    if name is None:
        parse(TrainOptions, rest, "train GAME", f"{about}. Games: {', '.join(zoo.catalogue())}")
        return 0
    game = zoo.find(name)
    options, hyper = parse_with_game(TrainOptions, game, rest, f"train {name}", about)
    folder = RunFolder(Path(options.out) if options.out else Path("runs") / f"{name}-{Path(options.data or game.source).stem}")
    if options.resume:
        # Once more, upon what the run was begun with, so that `--resume` alone goes on as begun.
        options, hyper = parse_with_game(TrainOptions, game, rest, f"train {name}", about, _stored(folder, name))
    command = shlex.join(["ganforge", "train", *arguments])
    try:
        train(
            game,
            options.data or game.source,
            options.engine,
            out=folder.path,
            hyper=hyper,
            reading=options.reading,
            resume=options.resume,
            overwrite=options.overwrite,
            command=command,
            note=_fitting_presets(game, options),
        )
    except Interrupted as stop:
        if not leads():
            return 130
        again = [argument for argument in arguments if argument not in ("--resume", "--overwrite")]
        print(f"ganforge: {stop}; checkpoint written. To go on: {shlex.join(['ganforge', 'train', *again, '--resume'])}", file=sys.stderr)
        return 130
    if leads():
        _print_where(folder)
    return 0


def _stored(folder: RunFolder, name: str) -> dict[str, Any]:
    """The options that a run was begun with."""
    record = RunRecord.read(folder.record)
    if record.game != name:
        raise RequestError(f"{folder.path}: holds a run of {record.game}, not of {name}; give another --out")
    return {"data": record.data.get("source"), **asdict(Reading.stored(record.data)), **record.settings, **record.hyper}


def _fitting_presets(game: type[Game], options: TrainOptions) -> str:
    """The paper's defaults are rarely those for other data: where the game has settings for these and none was asked for, say so."""
    data = options.data or game.source
    fitting = [name for name, preset in game.presets.items() if preset.options.get("data") == data and name != "tiny"]
    if options.preset or options.resume or not fitting:
        return ""
    return f"for {data} there are settings of their own: --preset {' or --preset '.join(fitting)}"


def _print_where(folder: RunFolder) -> None:
    samples = folder.samples()
    print(f"run        {folder.path}")
    for label, path in (
        ("samples", samples[-1] if samples else None),
        ("curves", folder.curves),
        ("animation", folder.animation),
        ("weights", folder.weights),
    ):
        if path is not None and path.exists():
            print(f"{label:10} {path}")
