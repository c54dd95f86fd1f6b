"""Noise that belongs to samples, so that a batch in parts can be compared with the whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from variants import wrap_play

from ganforge.game import Game, Move


class NoisePerSample(TorchFunctionMode):
    """Draws every random number as a function of (call, row of the large batch), whatever the batch that it is drawn for."""

    FACTORIES = (torch.randn, torch.rand)
    ROWWISE = (torch.randn_like, torch.rand_like, torch.bernoulli, torch.dropout, nn.functional.dropout, nn.functional.dropout2d)
    IN_PLACE = (Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_)

    def __init__(self) -> None:
        super().__init__()
        self.k = 0
        self.call = 0

    def _row(self, row: int, rows: int) -> None:
        torch.manual_seed(self.call * 1009 + self.k * rows + row)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if "generator" in kwargs:
            # The data's own order is no noise of the game's.
            return func(*args, **kwargs)
        if func in self.FACTORIES:
            shape = tuple(args[0]) if len(args) == 1 and not isinstance(args[0], int) else args
            rows = []
            for row in range(shape[0]):
                self._row(row, shape[0])
                rows.append(func(1, *shape[1:], **kwargs))
            self.call += 1
            return torch.cat(rows)
        if func in self.ROWWISE:
            rows = []
            for row in range(len(args[0])):
                self._row(row, len(args[0]))
                rows.append(func(args[0][row : row + 1], *args[1:], **kwargs))
            self.call += 1
            return torch.cat(rows)
        if func in self.IN_PLACE:
            for row in range(len(args[0])):
                self._row(row, len(args[0]))
                func(args[0][row : row + 1], *args[1:], **kwargs)
            self.call += 1
            return args[0]
        return func(*args, **kwargs)


def with_noise_per_sample(game: Game, parts: Sequence[int]) -> None:
    """Tells the noise which part of the large batch each round computes: the lockstep rounds of this process play `parts`, in turn."""
    noise = NoisePerSample()
    # One counter of calls per lockstep round: they advance in turn.
    calls = dict.fromkeys(parts, 0)
    begun = [0]

    def tracked(moves: Iterator[Move]) -> Iterator[Move]:
        k = parts[begun[0] % len(parts)]
        begun[0] += 1
        generator = cast(Generator[Move, Any, None], moves)
        seen = None
        while True:
            noise.k, noise.call = k, calls[k]
            try:
                with noise:
                    move = generator.send(seen)
            except StopIteration:
                return
            finally:
                calls[k] = noise.call
            seen = yield move

    wrap_play(game, tracked)


def with_plain_descent(game: Game) -> None:
    """Adam divides by the gradient's size and so makes steps of rounding errors; plain descent keeps small what is small."""
    players = {name: replace(player, optimiser=partial(torch.optim.SGD, lr=0.05)) for name, player in game.players().items()}
    game.players = lambda: players  # type: ignore[method-assign]
