"""`ganforge publish`: a trained run as a folder for others."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ganforge import pictures
from ganforge.batches import ImageSpec
from ganforge.capabilities import Samples, judge
from ganforge.commands.given import found_source, run_first
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.conditions import latents
from ganforge.use.load import load
from ganforge.use.publish import PICTURE, publish
from ganforge.use.sample import render
from ganforge.use.seeds import seeded

_ABOUT = "{}\n\nDIR gets the weights, run.json and evaluation.json without paths, a card and a picture; other files in it are refused."


@dataclass(frozen=True)
class PublishOptions:
    """Options of `publish`."""

    force: bool = False
    """Write anew what an earlier `publish` left in DIR."""


def publish_command(arguments: list[str], about: str) -> int:
    """Writes the folder, and says how it is uploaded."""
    run, rest = run_first(arguments, "publish")
    asks = "--help" in rest or "-h" in rest
    if not asks and (not rest or rest[0].startswith("-")):
        raise RequestError(f"publish: name a folder after the run, e.g. ganforge publish {run.path} {run.path.name}-published")
    options = parse(PublishOptions, rest if asks else rest[1:], "publish RUN DIR", _ABOUT.format(about))
    game, folder = load(run.path), Path(rest[0])
    with tempfile.TemporaryDirectory() as beside:
        picture = Path(beside) / PICTURE
        drawn = isinstance(game, Samples) and _draw(game, run, picture)
        files = publish(run.path, folder, picture if drawn else None, force=options.force)
    print(f"{folder}: {', '.join(file.name for file in files)}; {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB")
    print(f"To upload it (pip install huggingface_hub): hf upload OWNER/NAME {shlex.quote(str(folder))}")
    return 0


def _draw(game: Game, run: RunFolder, path: Path) -> bool:
    """What `ganforge sample` draws of seed 0."""
    assert isinstance(game, Samples)
    with seeded(0, game.device):
        samples = render(game, latents(game, 64))
    spec, critic = RunRecord.read(run.record).spec, judge(game)
    source = None if isinstance(spec, ImageSpec) else found_source(run)
    pictures.portrait(path, samples, spec, source=source, judge=critic.judge if critic else None)
    return True
