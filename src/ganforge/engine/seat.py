"""A player at the table: its parameters, the optimiser that moves them, their average, and what a checkpoint keeps of these."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganforge.errors import TrainingError
from ganforge.game import Player


class Seat:
    """One player while it plays.

    A `capturable` seat steps by the device alone, so that its steps can be recorded once and replayed: whatever changes from one to the
    next (learning rates, counts of steps) lies in tensors. It computes what any other does, to rounding; their states are the same.
    """

    def __init__(self, name: str, player: Player, capturable: bool = False) -> None:
        self.name = name
        self.player = player
        self.capturable = capturable
        self.parameters = player.parameters()
        if not self.parameters:
            raise TrainingError(f"player {name!r} has no parameters")
        if not 0 <= player.ema < 1:
            raise TrainingError(f"player {name!r}: ema = {player.ema}; the decay of an average is at least 0 and below 1")
        self.steps = 0
        self._counted = torch.zeros((), device=self.parameters[0].device)
        self.average = [parameter.detach().clone() for parameter in self.parameters] if player.ema else []
        self.version = 0
        """Changes with the memory that the optimiser uses."""
        self.listening = False
        """Whether the norms of the gradients are noted at each step."""
        self.gradient: Tensor | None = None
        """The norm of the last gradient that was noted, a scalar."""
        self._reached: Tensor | None = None
        self.begin()

    def begin(self) -> None:
        """A new optimiser without moments, at the player's own learning rate."""
        factory = self.player.optimiser
        known = inspect.signature(factory).parameters
        # Fused where torch can and the game has not chosen otherwise.
        undecided = all(name in known and known[name].default is None for name in ("fused", "foreach"))
        chosen = {"fused": True} if undecided else {}
        if self.capturable and "capturable" in known:
            chosen["capturable"] = True
        self.optimiser = factory(self.parameters, **chosen)
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self._settle()

    def _settle(self) -> None:
        """Puts the learning rates where a new or restored optimiser reads them."""
        groups = self.optimiser.param_groups
        self.version += 1
        self._now = [group["lr"] for group in groups]
        self.rates_on_device = False
        if self.capturable and self.player.schedule is not None:
            self._put_rates_on_device()

    def _put_rates_on_device(self) -> None:
        """Where the optimiser would not wait for the device to read a tensor."""
        groups = self.optimiser.param_groups
        self.rates_on_device = all(group.get("capturable") or group.get("fused") for group in groups)
        if self.rates_on_device:
            for group in groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=self.parameters[0].device)

    def schedule(self, round: int) -> None:
        """Sets the learning rate of this round of the phase."""
        if self.player.schedule is None:
            return
        factor = self.player.schedule(round)
        if isinstance(factor, Tensor) and not self.rates_on_device:
            self._put_rates_on_device()
        self._now = [rate * (factor if self.rates_on_device else float(factor)) for rate in self._rates]
        for group, rate in zip(self.optimiser.param_groups, self._now, strict=True):
            if self.rates_on_device:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self) -> None:
        """Clips, steps, averages, and drops the gradients, so that none is left for another player's move."""
        if self.listening:
            self._listen()
        if self.player.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.player.clip)
        self.optimiser.step()
        for parameter in self.parameters:
            parameter.grad = None
        self.steps += 1
        if self.average:
            with torch.no_grad():
                self._renew_average()

    def _listen(self) -> None:
        nothing = torch.zeros((), device=self.parameters[0].device)
        norms = torch.stack(torch._foreach_norm([nothing if p.grad is None else p.grad for p in self.parameters]))
        self.gradient = norms.norm()
        # What is not finite is a gradient too.
        reached = norms != 0
        self._reached = reached if self._reached is None else self._reached | reached

    @property
    def listened(self) -> bool:
        """Whether a gradient was ever noted."""
        return self._reached is not None

    def unreached(self) -> list[nn.Parameter]:
        """The parameters that got no gradient whenever it was listened; none where it never was."""
        if self._reached is None:
            return []
        return [p for p, reached in zip(self.parameters, self._reached.tolist(), strict=True) if not reached]

    def _renew_average(self) -> None:
        # Young averages forget faster, or the initial weights would colour the first thousands of steps.
        if not self.capturable:
            decay = min(self.player.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - decay)
            return
        # The same by a count that a replay can read: it runs no Python.
        self._counted += 1
        forgotten = (9 / (10 + self._counted)).clamp(min=1 - self.player.ema)
        apart = torch._foreach_sub(list[Tensor](self.parameters), self.average)
        torch._foreach_mul_(apart, forgotten)
        torch._foreach_add_(self.average, apart)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the weights; tensors and plain values only."""
        optimiser = self.optimiser.state_dict()
        if self.rates_on_device:
            for group, rate in zip(optimiser["param_groups"], self._now, strict=True):
                group["lr"] = float(rate)
        return {"steps": self.steps, "optimiser": optimiser, "average": self.average}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`, of either kind of seat."""
        self.steps = state["steps"]
        self._counted.fill_(self.steps)
        stored = state["optimiser"]
        pairs = zip(self.optimiser.param_groups, stored["param_groups"], strict=True)
        # How its optimiser computes is a seat's own affair; the state says what it remembers.
        groups = [theirs | {"capturable": mine["capturable"]} if "capturable" in mine else theirs for mine, theirs in pairs]
        self.optimiser.load_state_dict(stored | {"param_groups": groups})
        self._settle()
        for mine, kept in zip(self.average, state["average"], strict=True):
            mine.copy_(kept)


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
