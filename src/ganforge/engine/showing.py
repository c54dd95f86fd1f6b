"""The pictures of a run: the same latents and the same inputs through time, the curves of losses and scores, the animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ganforge import pictures
from ganforge.batches import Batch, ImageSpec, LowHigh, Masked, Pairs
from ganforge.capabilities import Edits, Inpaints, Samples, SamplesClasses, SamplesText, Translates, Upscales, ends_of, judge
from ganforge.data import Stream
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.runs import RunFolder
from ganforge.use.sample import draw

_COMPARED = 12


def show(game: Game, stream: Stream, path: Path, seed: int, values: dict[str, float]) -> None:
    """Draws what the game can do, from the same latents and inputs at each call. The caller guards its random state and mode."""
    spec, caption = stream.source.spec, "  ".join(f"{name} {value:.2f}" for name, value in values.items() if "/" not in name)
    torch.manual_seed(seed)
    groups = answers(game, stream.at(0, _COMPARED)) if isinstance(spec, ImageSpec) else []
    if groups:
        with atomic_write(path) as temporary:
            pictures.captioned(pictures.compared(groups), caption).save(temporary)
    elif isinstance(game, Samples):
        classes = len(spec.classes) if isinstance(spec, ImageSpec) and isinstance(game, SamplesClasses) else None
        critic = judge(game)
        pictures.portrait(
            path,
            _of_each_class(game, classes) if classes else draw(game, 64 if isinstance(spec, ImageSpec) else 2000),
            spec,
            source=stream.source,
            judge=critic.judge if critic else None,
            caption=caption,
            columns=classes,
        )


def answers(game: Game, batch: Batch) -> list[Sequence[Tensor]]:
    """What the game makes of the pictures of a batch: groups of pictures [n, C, H, W], of which those of one number belong together.

    A picture, what the game makes of it, and, where that is known, what it should be. Empty where the game makes nothing of pictures.
    """
    fields, groups = batch.tensors(), list[Sequence[Tensor]]()
    if isinstance(game, Translates):
        for way in game.ways:
            given, wanted = ends_of(way)
            truth = [fields[wanted]] if isinstance(batch, Pairs) else []
            groups.append([fields[given], game.translate(fields[given], way), *truth])
    if isinstance(game, Upscales) and isinstance(batch, LowHigh):
        groups.append([batch.low, game.upscale(batch.low), batch.high])
    if isinstance(game, Inpaints) and isinstance(batch, Masked):
        groups.append([batch.image * (1 - batch.mask), game.inpaint(batch.image, batch.mask), batch.image])
    if isinstance(game, Edits):
        groups.append([batch.x, *(game.edit(batch.x, {dial: greatest}) for dial, (_, greatest) in game.dials.items())])
    if isinstance(game, SamplesText) and "text" in fields:
        groups.append([batch.x, game.sample(game.latent_of_text(fields["text"]))])
    return groups


def _of_each_class(game: SamplesClasses, classes: int) -> Tensor:
    """As many samples of each class as make a sheet, a class in each column."""
    rows = max(1, 80 // classes)
    return game.sample(game.latent_of_class(torch.arange(classes, device=game.latent(1).device).repeat(rows))).float()


def finish(folder: RunFolder) -> None:
    """Draws what needs the whole run: the curves, and the animation where there are pictures to animate."""
    rows = folder.metric_rows()
    if rows:
        pictures.history(folder.curves, rows)
    frames = folder.samples()
    if len(frames) > 1:
        pictures.animation(frames, folder.animation)
