"""A player at the table: its parameters, the optimiser that moves them, their average, and what a checkpoint keeps of these."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ganforge.errors import TrainingError
from ganforge.game import Player


class Seat:
    """One player while it plays."""

    def __init__(self, name: str, player: Player) -> None:
        self.name = name
        self.player = player
        self.parameters = player.parameters()
        if not self.parameters:
            raise TrainingError(f"player {name!r} has no parameters")
        if not 0 <= player.ema < 1:
            raise TrainingError(f"player {name!r}: ema = {player.ema}; the decay of an average is at least 0 and below 1")
        self.steps = 0
        self.average = [parameter.detach().clone() for parameter in self.parameters] if player.ema else []
        self.begin()

    def begin(self) -> None:
        """A new optimiser without moments, at the player's own learning rate."""
        factory = self.player.optimiser
        known = inspect.signature(factory).parameters
        # Fused where torch can and the game has not chosen otherwise.
        undecided = all(name in known and known[name].default is None for name in ("fused", "foreach"))
        self.optimiser = factory(self.parameters, **({"fused": True} if undecided else {}))
        self._rates = [group["lr"] for group in self.optimiser.param_groups]

    def schedule(self, round: int) -> None:
        """Sets the learning rate of this round of the phase."""
        if self.player.schedule is None:
            return
        factor = float(self.player.schedule(round))
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def step(self) -> None:
        """Clips, steps, averages, and drops the gradients, so that none is left for another player's move."""
        if self.player.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.player.clip)
        self.optimiser.step()
        for parameter in self.parameters:
            parameter.grad = None
        self.steps += 1
        if self.average:
            # Young averages forget faster, or the initial weights would colour the first thousands of steps.
            decay = min(self.player.ema, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - decay)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the weights; tensors and plain values only."""
        return {"steps": self.steps, "optimiser": self.optimiser.state_dict(), "average": self.average}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.steps = state["steps"]
        self.optimiser.load_state_dict(state["optimiser"])
        for mine, stored in zip(self.average, state["average"], strict=True):
            mine.copy_(stored)


@contextmanager
def averaged(seats: Iterable[Seat]) -> Iterator[None]:
    """Within the block the game holds the averaged weights, of the players that have an average."""
    pairs = [pair for seat in seats for pair in zip(seat.parameters, seat.average, strict=False)]

    def swap() -> None:
        for parameter, average in pairs:
            parameter.data, average.data = average.data, parameter.data

    swap()
    try:
        yield
    finally:
        swap()
