"""The pictures of a run: fixed latents through time, the curves of losses and scores, the animation."""

from __future__ import annotations

from pathlib import Path

import torch

from ganforge import pictures
from ganforge.batches import ImageSpec
from ganforge.capabilities import can, judge, sampler
from ganforge.data import Source
from ganforge.game import Game
from ganforge.runs import RunFolder
from ganforge.use.sample import draw


def show(game: Game, source: Source, path: Path, seed: int, values: dict[str, float]) -> None:
    """Draws samples of the same latents at each call. The caller guards the random state and the mode of the game."""
    if not can(game, "sample"):
        return
    torch.manual_seed(seed)
    samples = draw(sampler(game), 64 if isinstance(source.spec, ImageSpec) else 2000)
    critic = judge(game)
    caption = "  ".join(f"{name} {value:.2f}" for name, value in values.items() if not name.startswith("loss/"))
    pictures.portrait(path, samples, source.spec, source=source, judge=critic.judge if critic else None, caption=caption)


def finish(folder: RunFolder) -> None:
    """Draws what needs the whole run: the curves, and the animation where there are pictures to animate."""
    rows = folder.metric_rows()
    if rows:
        pictures.history(folder.curves, rows)
    frames = folder.samples()
    if len(frames) > 1:
        pictures.animation(frames, folder.animation)
