"""The watch: looks at a game between its rounds, and says in time what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec
from ganforge.capabilities import Judges, Samples, judge
from ganforge.data import Source
from ganforge.diagnosis import Course, Finding, Seen, findings, signs
from ganforge.diagnosis.rules import LONE, RESTING
from ganforge.diagnosis.signs import PREFIX
from ganforge.engine.trainer import Trainer
from ganforge.metrics.material import as_kind, as_pictures, told

_PICTURES, _POINTS = 128, 512
_PATIENCE = 6


class Watch:
    """Takes signs of a trainer's game and keeps the course of them; changes nothing of the game, its random state or its data."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._before: Tensor | None = None
        self._shown: tuple[Tensor, Tensor | None] | None = None
        self._said: set[str] = set()

    def look(self) -> dict[str, float]:
        """The signs (see `diagnosis.SIGNS`) of the game as it is now; of a game that makes no new data, few."""
        return {**self._samples(), **self._idle()}

    def _samples(self) -> dict[str, float]:
        trainer, game = self.trainer, self.trainer.game
        if not isinstance(game, Samples):
            return {}
        pictures = isinstance(trainer.stream.source.spec, ImageSpec)
        count = _PICTURES if pictures else _POINTS
        critic = judge(game)
        with trainer.at_rest():
            torch.manual_seed(trainer.settings.seed)
            latent = game.latent(count)
            made = told(game.sample, latent, trainer.device)
        averages = any(seat.average for seat in trainer.seats.values())
        if self._shown is None:
            # Always the same ones, opened and decoded once.
            held = held_out(trainer.stream.source, count) if pictures else None
            self._shown = trainer.stream.at(0, count).x.float().cpu(), held
        real, held = self._shown
        with trainer.at_rest(average=False):
            seen = Seen(
                real=real,
                made=made,
                live=told(game.sample, latent, trainer.device) if averages else None,
                batchwise=self._batchwise(game, latent),
                held=held,
                before=self._before,
                centres=getattr(trainer.stream.source, "centres", None),
                judge=None if critic is None else lambda x: self._judged(critic, x),
            )
            found = signs(seen)
        self._before = made.double().mean(0)
        return found

    def _batchwise(self, game: Samples, latent: Tensor) -> Tensor | None:
        """Samples by the statistics of their own batch, where batches are so small that this may be another game."""
        if not self.normed() or self.micro() > LONE:
            return None
        with _by_own_statistics(self.trainer.game):
            return told(game.sample, latent, self.trainer.device, self.micro())

    def _judged(self, critic: Judges, x: Tensor) -> Tensor:
        """As it is played: with batch normalisation, by the statistics of batches that are all real or all made."""
        with _by_own_statistics(self.trainer.game):
            return told(critic.judge, x, self.trainer.device)

    def micro(self) -> int:
        """How many samples pass the networks at once."""
        return self.trainer.share(self.trainer.phase()[0])

    def normed(self) -> bool:
        """Whether a network uses the statistics of a batch."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.trainer.game.modules())

    def course(self, rows: list[dict[str, Any]], failure: str = "") -> Course:
        """All that is known of the run, given the rows of its metrics."""
        trainer = self.trainer
        return Course(
            rows,
            planned=trainer.rounds,
            pictures=isinstance(trainer.stream.source.spec, ImageSpec),
            micro=self.micro(),
            normed=self.normed(),
            count=getattr(trainer.stream.source, "count", None),
            unreached=self._unreached(),
            failure=failure,
        )

    def _idle(self) -> dict[str, float]:
        shares = [
            sum(p.numel() for p in seat.unreached()) / sum(p.numel() for p in seat.parameters)
            for seat in self.trainer.seats.values()
            if seat.listened
        ]
        return {PREFIX + "idle": max(shares)} if shares else {}

    def _unreached(self) -> dict[str, list[str]]:
        """The parameters without a gradient, by players that have more than a few: biases that cancel may rest."""
        names, found = {id(p): name for name, p in self.trainer.game.named_parameters()}, {}
        for name, seat in self.trainer.seats.items():
            idle = seat.unreached()
            if sum(p.numel() for p in idle) > RESTING * sum(p.numel() for p in seat.parameters):
                found[name] = [names.get(id(p), "a parameter outside the game") for p in idle]
        return found

    def news(self, rows: list[dict[str, Any]]) -> list[Finding]:
        """What has been found and not been said yet. The first looks at a game are too early to tell."""
        if sum(any(key.startswith(PREFIX) for key in row) for row in rows) < _PATIENCE:
            return []
        new = [each for each in findings(self.course(rows)) if each.cause not in self._said]
        self._said |= {each.cause for each in new}
        return new


def held_out(source: Source, count: int) -> Tensor | None:
    """Pictures of the source's part to test on, [at most count, C, H, W]; None where it has none."""
    learned, other = as_pictures(source, "train"), as_pictures(source, "test")
    if other is None or (learned is not None and other.fingerprint == learned.fingerprint):
        return None
    chosen = torch.randperm(other.count, generator=torch.Generator().manual_seed(0))[:count]
    kind = Images if as_kind(other, Images) is not None else other.kinds[0]
    return other.gather(kind, chosen, torch.device("cpu")).x.float()


@contextmanager
def _by_own_statistics(game: nn.Module) -> Iterator[None]:
    """Within the block batch normalisation takes each batch's own statistics; what it learns of them is forgotten afterwards."""
    kept: Mapping[str, Tensor] = {name: buffer.clone() for name, buffer in game.named_buffers()}
    norms = [module for module in game.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    try:
        for module in norms:
            module.training = True
        yield
    finally:
        for module in norms:
            module.training = False
        for name, buffer in game.named_buffers():
            buffer.copy_(kept[name])
