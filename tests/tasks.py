"""What a game answers to whoever uses it, by its capabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor

from ganforge.batches import Batch, ImageSpec, LowHigh, Spec
from ganforge.capabilities import (
    Classifies,
    Clusters,
    Edits,
    Encodes,
    Inpaints,
    Judges,
    Samples,
    SamplesClasses,
    SamplesText,
    Steers,
    Translates,
    Upscales,
)
from ganforge.errors import RequestError
from ganforge.game import Game


def answers(game: Game, batch: Batch, spec: Spec) -> dict[str, Tensor]:
    """All that the game can say to a batch, by task; what it refuses in this setting (RequestError) is left out."""
    said: dict[str, Tensor] = {}
    for task, ask in _questions(game, batch, spec):
        with suppress(RequestError):
            said[task] = ask()
    return said


def _questions(game: Game, batch: Batch, spec: Spec) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    fields, n = batch.tensors(), len(batch)
    if isinstance(game, Samples):
        # Some papers spread the latents of a draw evenly, so that only equal draws are comparable.
        yield "sample", lambda: game.sample(game.latent(8)[:n])
    if isinstance(game, SamplesClasses) and isinstance(spec, ImageSpec):
        yield "sample --class", lambda: game.sample(game.latent_of_class(torch.arange(n) % len(spec.classes)))
    if isinstance(game, SamplesText):
        yield "sample --text", lambda: game.sample(game.latent_of_text(fields["text"]))
    if isinstance(game, Steers):
        least = {dial: low for dial, (low, _) in game.dials.items()}
        yield "steer", lambda: game.sample(game.steer(game.latent(8)[:n], least))
    if isinstance(game, Edits):
        for dial, (_, greatest) in game.dials.items():
            yield f"edit {dial}", lambda dial=dial, greatest=greatest: game.edit(batch.x, {dial: greatest})  # type: ignore[misc]
    if isinstance(game, Translates):
        for way in game.ways:
            yield f"translate {way}", lambda way=way: game.translate(fields[way.split("2")[0]], way)  # type: ignore[misc]
    if isinstance(game, Upscales) and isinstance(batch, LowHigh):
        yield "upscale", lambda: game.upscale(batch.low)
    if isinstance(game, Inpaints):
        yield "inpaint", lambda: game.inpaint(batch.x, fields["mask"])
    if isinstance(game, Encodes):
        yield "encode", lambda: game.encode(batch.x)
    if isinstance(game, Classifies):
        yield "classify", lambda: game.classify(batch.x)
    if isinstance(game, Clusters):
        yield "cluster", lambda: game.cluster(batch.x)
    if isinstance(game, Judges):
        yield "judge", lambda: game.judge(batch.x)
