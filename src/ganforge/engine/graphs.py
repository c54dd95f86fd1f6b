"""Whole rounds as CUDA graphs: what a round makes the device do is recorded once, then replayed by a single launch.

Rounds of one variant (`Game.variant`) are alike. The first few are rehearsed: played as ever, and watched for what a replay would miss.
Then one is recorded on copies of its batches. From there on a round is new batches copied into these and one replay: no Python of the
game runs, and only memory that stood at the recording is read and written. Where that cannot be right the user is told so in a line,
and all rounds are played as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from ganforge.batches import Batch
from ganforge.engine.seat import Seat
from ganforge.errors import TrainingError
from ganforge.game import Game, Move

REHEARSALS = 3
"""Rounds of a variant that are played before one is recorded: libraries choose their kernels, optimisers make their state."""
MOST = 16
"""Variants of a phase; with more of them no graph would be replayed often enough to pay."""

Note = Callable[[Move], None]
Run = Callable[[Sequence[Iterator[Batch]], Note], None]


class Serving(Iterator[Batch], Protocol):
    """The batches of one round, and how many were taken."""

    taken: int


class Recorder(Protocol):
    """What records a function's work on the device."""

    def rehearse(self, run: Callable[[], None]) -> None:
        """Calls it as it would be recorded."""

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Calls it without the device doing any of its work; what is returned makes the device do it all, each time it is called."""


class CudaRecorder:
    """Records by CUDA's stream capture. All graphs share one pool of memory: of a replay only what was told is read afterwards."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def rehearse(self, run: Callable[[], None]) -> None:
        """On the stream of the recordings, as the default one cannot be captured."""
        around = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            run()
        around.wait_stream(self._stream)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """One graph."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may pin memory for the next batches meanwhile: that is no part of it, and no error.
        capture = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(self._device), capture:
            run()
        return graph.replay


def recorder_for(device: torch.device, world: int, say: Callable[[str], None]) -> Recorder | None:
    """What records the rounds of `world` ranks on this device; None, and `say` is told why, where nothing does."""
    if device.type != "cuda":
        say(f"--cuda-graph: the device is {device} and no CUDA GPU; rounds are played without graphs")
        return None
    if world > 1:
        say(f"--cuda-graph: there are {world} ranks, and what they tell each other is not recorded; rounds are played without graphs")
        return None
    return CudaRecorder(device)


class _Take:
    """A recorded round: where its batches are put, its replay, and what it tells."""

    def __init__(self, drawn: list[list[Batch]], run: Run, seats: Mapping[str, Seat], recorder: Recorder) -> None:
        self._batches = [[replace(b, **{name: t.clone() for name, t in b.tensors().items()}) for b in row] for row in drawn]
        self._seats = list(seats.values())
        self._moves: list[Move] = []
        before = [seat.steps for seat in self._seats]
        try:
            self._replay = recorder.record(lambda: self._play(run))
        except RuntimeError as error:
            # There is no playing on: torch does not say in what state a failed capture leaves its allocator and generators.
            reason = str(error.__context__ or error).strip().partition("\n")[0]
            raise TrainingError(f"the round cannot be recorded as a CUDA graph ({reason}); train without --cuda-graph") from error
        self._steps = [seat.steps - steps for seat, steps in zip(self._seats, before, strict=True)]
        for seat, steps in zip(self._seats, before, strict=True):
            seat.steps = steps

    def _play(self, run: Run) -> None:
        run([iter(row) for row in self._batches], self._moves.append)
        values = [value for move in self._moves for value in (*move.losses.values(), *move.seen.values())]
        self._values = torch.stack([value.detach().float().mean() for value in values])
        # Only names are needed: what is still referred to when the recording ends keeps its memory from all other graphs.
        self._moves = [_retold(move, iter(self._values.unbind())) for move in self._moves]

    def play(self, drawn: list[list[Batch]], note: Note) -> None:
        """The same round on these batches."""
        # Without gradients, as a game may have asked for those with respect to a batch.
        with torch.no_grad():
            for mine, theirs in zip(chain(*self._batches), chain(*drawn), strict=True):
                for into, new in zip(mine.tensors().values(), theirs.tensors().values(), strict=True):
                    into.copy_(new, non_blocking=True)
        self._replay()
        for seat, steps in zip(self._seats, self._steps, strict=True):
            seat.steps += steps
        # The next replay writes over the values, which are read much later.
        values = iter(self._values.clone().unbind())
        for move in self._moves:
            note(_retold(move, values))


def _retold(move: Move, values: Iterator[Tensor]) -> Move:
    """A copy of the move with these values, in their order, in place of its own."""
    retold = copy(move)
    retold.losses = {names: next(values) for names in move.losses}
    retold.seen = {name: next(values) for name in move.seen}
    return retold


@dataclass
class _Variant:
    rehearsed: int = 0
    draws: int = 0
    take: _Take | None = None


class Graphs:
    """Plays rounds of `game`, of which the `seats` are capturable, as graphs where it can; `say` takes a line for the user."""

    def __init__(self, game: Game, seats: Mapping[str, Seat], recorder: Recorder, say: Callable[[str], None]) -> None:
        self.game, self.seats, self.recorder, self.say = game, seats, recorder, say
        self.refused = False
        self._stage: Hashable = None
        self._variants: dict[Hashable, _Variant] = {}

    def play(self, stage: Hashable, servings: Sequence[Serving], run: Run, note: Note) -> None:
        """Does what `run(servings, note)` does. Each serving is for one of the rounds played in lockstep; nothing was taken of it yet.

        `stage` is what beside the variant makes rounds alike: phase, batch size, resolution. TrainingError where recording fails.
        """
        if self.refused:
            run(servings, note)
            return
        # A new optimiser, or a restored one, has other memory than that of the recordings.
        stage = stage, *(seat.version for seat in self.seats.values())
        if stage != self._stage:
            self._stage = stage
            self._variants.clear()
        variant = self._variants.setdefault(self.game.variant(), _Variant())
        # Autocast converts weights anew at each use: none converted outside of a graph must be used within. Enabled it is by `run`.
        with torch.autocast(self.game.device.type, enabled=False, cache_enabled=False):
            drawn = [[next(serving) for _ in range(variant.draws)] for serving in servings]
            if variant.rehearsed < REHEARSALS:
                self._rehearse(variant, drawn, servings, run, note)
                return
            variant.take = variant.take or _Take(drawn, run, self.seats, self.recorder)
            variant.take.play(drawn, note)

    def _rehearse(self, variant: _Variant, drawn: list[list[Batch]], servings: Sequence[Serving], run: Run, note: Note) -> None:
        before, expected = self._kept(), variant.draws
        rows = [iter(row) for row in drawn]
        batches = [chain(row, serving) for row, serving in zip(rows, servings, strict=True)]
        self.game.round_was_read = False
        if variant.rehearsed:
            self.recorder.rehearse(lambda: run(batches, note))
        else:
            # What it will draw is not known: here they come on the stream on which threads that draw ahead put them.
            run(batches, note)
        for row, serving in zip(rows, servings, strict=True):
            serving.taken -= len(list(row))
        variant.draws = servings[0].taken
        variant.rehearsed += 1
        obstacle = ""
        if self.game.round_was_read and type(self.game).variant is Game.variant:
            obstacle = f"{type(self.game).__name__} reads self.round while it plays; say in variant() which rounds are alike"
        elif len(self._variants) > MOST:
            obstacle = f"variant() of {type(self.game).__name__} tells more than {MOST} kinds of rounds apart"
        elif variant.rehearsed > 1 and variant.draws != expected:
            obstacle = f"rounds of one variant drew {expected} batches, then {variant.draws}"
        elif variant.rehearsed == REHEARSALS:
            obstacle = self._missed(before)
        if obstacle:
            self.refused = True
            self._variants.clear()
            self.say(f"--cuda-graph: {obstacle}; rounds are played without graphs")

    def _kept(self) -> dict[str, Any]:
        """All that outlives a round, by name; the memory of tensors, which nothing else can get as long as it is referred to."""
        kept: dict[str, Any] = {**dict(self.game.named_parameters()), **dict(self.game.named_buffers())}
        for seat in self.seats.values():
            for number, state in seat.optimiser.state_dict()["state"].items():
                kept |= {f"{key} {number} of {seat.name}'s {type(seat.optimiser).__name__}": value for key, value in state.items()}
        return {name: value.detach() if isinstance(value, Tensor) else value for name, value in kept.items() if value is not None}

    def _missed(self, before: dict[str, Any]) -> str:
        """What a round needs from the host, or leaves elsewhere than it found it."""
        for seat in self.seats.values():
            if seat.player.schedule is not None and not seat.rates_on_device:
                return f"{seat.name} has a schedule, but its {type(seat.optimiser).__name__} takes the learning rate from the host"
        for name, value in self._kept().items():
            if not isinstance(value, Tensor) or value.device.type != self.game.device.type:
                return f"{name} is kept by the host"
            if name not in before or before[name].data_ptr() != value.data_ptr():
                return f"a round replaces {name}; let it write into the old tensor, as copy_() does"
        return ""
