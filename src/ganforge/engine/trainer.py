"""Rounds in the order of the phases: the state of a run in memory, complete and restorable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ganforge.batches import Batch
from ganforge.data import Stream
from ganforge.engine.ledger import Ledger
from ganforge.engine.rounds import play_round
from ganforge.engine.seat import Seat, averaged
from ganforge.engine.settings import Settings
from ganforge.errors import TrainingError
from ganforge.game import Game, Phase


class Serving:
    """The batches of one of `of` lockstep rounds: it takes every `of`-th micro-batch of the stream, from number `k`."""

    def __init__(self, stream: Stream, cursor: int, size: int, resolution: int | None, k: int, of: int) -> None:
        self._at = partial(stream.at, size=size, resolution=resolution)
        self._size = size
        self._next = cursor + k * size
        self._stride = of * size
        self.taken = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self._at(self._next)
        self._next += self._stride
        self.taken += 1
        return batch


class Trainer:
    """Plays a game on a stream of batches. Its state (with the game's) is complete: equal states play on equally, bit for bit."""

    def __init__(self, game: Game, stream: Stream, settings: Settings, device: torch.device) -> None:
        self.game = game.to(device=device)
        # Convolutions run faster on it, everywhere we measured; other layers do not notice.
        self.game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stream = stream
        self.settings = settings
        self.device = device
        self.seats = {name: Seat(name, player) for name, player in game.players().items()}
        self.ledger = Ledger()
        self.round = 0
        self.cursor = 0
        self.phases = _with_rounds(game, settings)
        self.rounds = sum(phase.rounds or 0 for phase in self.phases)

    def phase(self) -> tuple[Phase, int]:
        """The phase of the next round, and the number of its first round."""
        begin = 0
        for phase in self.phases:
            rounds = phase.rounds or 0
            if self.round < begin + rounds:
                return phase, begin
            begin += rounds
        last = self.phases[-1]
        return last, begin - (last.rounds or 0)

    def play_round(self) -> Phase:
        """One round of the engine: `accumulate` rounds of the game in lockstep. Returns the phase it belongs to."""
        phase, begin = self.phase()
        self.game.round = self.round - begin
        for seat in self.seats.values():
            if phase.fresh and self.game.round == 0:
                seat.begin()
            seat.schedule(self.game.round)
        size = phase.batch_size or self.settings.batch_size or self.game.batch_size
        of = self.settings.accumulate
        servings = [Serving(self.stream, self.cursor, size, phase.size, k, of) for k in range(of)]
        play_round([iter(phase.play(serving)) for serving in servings], self.seats, self.ledger, self.round + 1, self._autocast())
        if len({serving.taken for serving in servings}) != 1:
            raise TrainingError(f"round {self.round}: accumulated rounds drew unequal numbers of batches")
        self.cursor += servings[0].taken * of * size
        self.round += 1
        return phase

    def _autocast(self) -> Callable[[], AbstractContextManager[object]]:
        if self.settings.precision == "fp32":
            return nullcontext
        return partial(torch.autocast, self.device.type, torch.bfloat16)

    def state(self) -> dict[str, Any]:
        """All that the weights and buffers of the game do not hold."""
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        mps = [torch.mps.get_rng_state()] if self.device.type == "mps" else []
        return {
            "round": self.round,
            "cursor": self.cursor,
            "seats": {name: seat.state() for name, seat in self.seats.items()},
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda, "mps": mps},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.round, self.cursor = state["round"], state["cursor"]
        for name, seat in self.seats.items():
            seat.load(state["seats"][name])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
        if self.device.type == "mps" and state["random"]["mps"]:
            torch.mps.set_rng_state(state["random"]["mps"][0])

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Within the block the game is as its users get it (averaged weights, evaluation mode); afterwards nothing has changed."""
        training = [module for module in self.game.modules() if module.training]
        devices = [self.device] if self.device.type == "cuda" else []
        with averaged(self.seats.values()), torch.random.fork_rng(devices), torch.no_grad():
            self.game.eval()
            try:
                yield
            finally:
                for module in training:
                    module.training = True


def _with_rounds(game: Game, settings: Settings) -> list[Phase]:
    """The phases, each with its number of rounds: its own, or else the run's."""
    rounds = game.rounds if settings.rounds is None else settings.rounds
    return [phase if phase.rounds is not None else replace(phase, rounds=rounds) for phase in game.phases()]
