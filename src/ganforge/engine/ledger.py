"""What happened since the last log: losses and seen values, kept as tensors and read by the host in one transfer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ganforge.errors import TrainingError
from ganforge.game import Move

_KEPT = 4096  # numbers; averaging fewer at once costs more time than keeping them costs memory


class NotFiniteError(TrainingError):
    """A loss became infinite or not a number in `round`, which the players named descended."""

    def __init__(self, round: int, players: str, value: float) -> None:
        super().__init__(f"round {round}: the loss of {players} is {value}")
        self.round = round
        self.players = players


class Ledger:
    """Collects moves without synchronising; `read` averages them, `clear` forgets them."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._rounds: dict[str, list[int]] = {}

    def add(self, number: int, move: Move) -> None:
        """Notes the losses (as `loss/PLAYER`) and the seen values of one move of round `number`."""
        for names, loss in move.losses.items():
            self.note(number, f"loss/{'+'.join(names)}", loss)
        for name, value in move.seen.items():
            self.note(number, name, value.detach())

    def note(self, number: int, key: str, value: Tensor) -> None:
        """Notes one value of round `number`; of a large tensor only the mean is kept."""
        self._values.setdefault(key, []).append(value if value.numel() <= _KEPT else value.float().mean())
        self._rounds.setdefault(key, []).append(number)

    def read(self, mean: Callable[[Tensor], Tensor] = lambda values: values) -> dict[str, float]:
        """The means since the last `clear`. Raises NotFiniteError at the first loss, by round, that is not finite.

        `mean` averages over ranks; each has noted the same moves, as each plays the same game.
        """
        if not self._values:
            return {}
        means = [torch.stack([value.float().mean() for value in values]) for values in self._values.values()]
        numbers = mean(torch.cat(means)).tolist()
        averages: dict[str, float] = {}
        bad: list[NotFiniteError] = []
        for key, rounds in self._rounds.items():
            row, numbers = numbers[: len(rounds)], numbers[len(rounds) :]
            averages[key] = sum(row) / len(row)
            if key.startswith("loss/"):
                bad += [NotFiniteError(n, key.removeprefix("loss/"), v) for n, v in zip(rounds, row, strict=True) if not math.isfinite(v)][
                    :1
                ]
        if bad:
            raise min(bad, key=lambda error: error.round)
        return averages

    def clear(self) -> None:
        """Begins anew."""
        self._values.clear()
        self._rounds.clear()
