"""One round: advance `play` from move to move, and for each move take the gradients, average, step, and tell what was seen."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from ganforge.engine.ranks import Alone
from ganforge.engine.seat import Seat
from ganforge.errors import TrainingError
from ganforge.game import Move

Play = Generator[Move, Mapping[str, Tensor] | None, None]


class Sight(Mapping[str, Tensor]):
    """What a move saw, averaged over accumulated rounds and ranks when it is asked for, so that nobody pays for what nobody reads."""

    def __init__(self, moves: list[Move], ranks: Alone) -> None:
        self._seen = [move.seen for move in moves]
        self._ranks = ranks

    def __getitem__(self, name: str) -> Tensor:
        """The mean, a scalar tensor without a graph; no host synchronisation. Every rank must ask, as each runs the same `play`."""
        return self._ranks.mean(torch.stack([seen[name].detach().float().mean() for seen in self._seen]).mean())

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen[0])

    def __len__(self) -> int:
        return len(self._seen[0])


def play_round(
    rounds: list[Iterator[Move]],
    seats: Mapping[str, Seat],
    note: Callable[[Move], None],
    number: int,
    autocast: Callable[[], AbstractContextManager[object]],
    ranks: Alone,
) -> None:
    """Plays the given rounds in lockstep: each advances to its next move and its backward runs at once, then one step for all.

    After the last step only the first is resumed (so that state kept after the last `yield` changes once); the others are closed.
    `note` is told every move once its gradients are taken.
    """
    plays = [cast(Play, play) for play in rounds]
    sight: Sight | None = None
    while True:
        moves: list[Move] = []
        for k, play in enumerate(plays):
            move = _next_move(play, sight, autocast)
            if move is None and k == 0:
                for other in plays[1:]:
                    other.close()
                return
            if move is None or (moves and move.players != moves[0].players):
                ended = "ended" if move is None else f"moved {move.players}"
                raise TrainingError(
                    f"round {number}: accumulated rounds must make equal moves; one {ended} where the first moved {moves[0].players}"
                )
            last = k == len(plays) - 1
            _take_gradients(move, seats, 1 / len(plays), number, ranks.averaging if last else _not_yet)
            # Only values are kept: the graph of this micro-batch is freed before the next one is built.
            move.losses = {names: loss.detach() for names, loss in move.losses.items()}
            # What nothing was computed for is memory of the game's own, which it may change before anybody reads this.
            move.seen = {name: v.detach() if v.grad_fn is not None else v.detach().clone() for name, v in move.seen.items()}
            note(move)
            moves.append(move)
        ranks.averaged()
        for name in dict.fromkeys(moves[0].players):
            seats[name].step()
        sight = Sight(moves, ranks)


def _next_move(play: Play, sight: Sight | None, autocast: Callable[[], AbstractContextManager[object]]) -> Move | None:
    with autocast():
        try:
            return play.send(sight)
        except StopIteration:
            return None
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(f"batch normalisation of a single sample: {error}; give a larger --batch-size") from error


def _not_yet(_parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
    """More gradients are to be accumulated before they are averaged."""
    return nullcontext()


def _take_gradients(
    move: Move,
    seats: Mapping[str, Seat],
    scale: float,
    number: int,
    averaging: Callable[[Sequence[nn.Parameter]], AbstractContextManager[None]],
) -> None:
    remaining = len(move.losses)
    for names, loss in move.losses.items():
        unknown = [name for name in names if name not in seats]
        if unknown:
            raise TrainingError(f"round {number}: the move names player {unknown[0]!r}; players() has {', '.join(seats)}")
        if loss.ndim != 0 or not loss.requires_grad:
            seen = f"shape {tuple(loss.shape)}" if loss.ndim else "no gradient (was everything detached?)"
            raise TrainingError(f"round {number}: the loss of {'+'.join(names)} must be a scalar with a gradient; it has {seen}")
        remaining -= 1
        inputs = [parameter for name in names for parameter in seats[name].parameters]
        if len(set(inputs)) != len(inputs):
            raise TrainingError(
                f"round {number}: {' and '.join(names)} share parameters, which one move would step twice; let one of them move"
            )
        with averaging(inputs):
            (loss * scale if scale != 1 else loss).backward(inputs=inputs, retain_graph=remaining > 0)
