"""What several runs make, below each other: of the same inputs where they answer to pictures, else from the same seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ganforge import pictures
from ganforge.batches import Batch, ImageSpec
from ganforge.capabilities import Edits, Samples, SamplesText, able
from ganforge.commands.measured import Entry
from ganforge.engine.showing import answers
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.pictures.rows import labelled, tiled
from ganforge.use.conditions import latents
from ganforge.use.load import load
from ganforge.use.sample import render
from ganforge.use.seeds import seeded

_ACROSS, _FEWEST, _MOST = 640, 4, 10
_POINTS = 2000


def drawn(entries: Sequence[Entry], seed: int, device: str) -> Image.Image:
    """The sheet, or for points the plots, of all runs; RequestError, which says why, where they cannot be drawn together."""
    spec = entries[0].record.spec
    if not isinstance(spec, ImageSpec):
        return _plots(entries, seed, device)
    n = max(_FEWEST, min(_MOST, _ACROSS // spec.width))
    answered: list[tuple[str, list[_Answer]]] = []
    sampled: list[tuple[str, Tensor]] = []
    for entry in entries:
        game = load(entry.folder.path, device=device)
        with torch.no_grad(), seeded(seed, game.device):
            answered.append((entry.name, _answers(game, entry.batch(n, seed, game.device))))
        if isinstance(game, Samples):
            with seeded(seed, game.device):
                sampled.append((entry.name, render(game, latents(game, n)).cpu()))
    kinds = {tuple((len(answer.made), answer.wanted is None) for answer in found) for _, found in answered}
    if len(kinds) == 1 and kinds != {()}:
        return labelled(_rows(answered))
    if len(sampled) == len(entries):
        return labelled(sampled)
    raise RequestError("there is no picture of all runs: they do different things")


@dataclass(frozen=True)
class _Answer:
    """What a game makes of the pictures `given`, by name where it makes several things, and what it should be where that is known.

    `what` says what is given: pictures, or texts, for which real pictures of them stand.
    """

    what: str
    given: Tensor
    made: dict[str, Tensor]
    wanted: Tensor | None


def _answers(game: Game, batch: Batch | None) -> list[_Answer]:
    found = []
    for first, *others in [] if batch is None else answers(game, batch):
        wanted = [each for each in others if any(each is field for field in batch.tensors().values())] if batch else []
        made = [each.cpu() for each in others if not any(each is field for field in wanted)]
        names = list(game.dials) if isinstance(game, Edits) and len(made) > 1 else [""] * len(made)
        what = "real" if isinstance(game, SamplesText) else "input"
        found.append(_Answer(what, first.cpu(), dict(zip(names, made, strict=True)), wanted[0].cpu() if wanted else None))
    return found


def _rows(answered: Sequence[tuple[str, list[_Answer]]]) -> list[tuple[str, Tensor]]:
    """The input, each run's answer to it, and what it should be."""
    rows = []
    for together in zip(*(found for _, found in answered), strict=True):
        rows.append((together[0].what, together[0].given))
        for number in range(len(together[0].made)):
            for (name, _), answer in zip(answered, together, strict=True):
                what, made = list(answer.made.items())[number]
                rows.append((f"{name}: {what}" if what else name, made))
        if together[0].wanted is not None:
            rows.append(("wanted", together[0].wanted))
    return rows


def _plots(entries: Sequence[Entry], seed: int, device: str) -> Image.Image:
    plots = []
    with tempfile.TemporaryDirectory() as folder:
        for number, entry in enumerate(entries):
            game = load(entry.folder.path, device=device)
            with seeded(seed, game.device):
                samples = render(able(game, Samples), latents(game, _POINTS)).cpu()
            path = Path(folder) / f"{number}.png"
            pictures.portrait(path, samples, entry.record.spec, source=entry.source, caption=entry.name)
            with Image.open(path) as plot:
                plots.append(plot.convert("RGB"))
    return tiled(plots)
