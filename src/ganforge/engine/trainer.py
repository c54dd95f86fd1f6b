"""Rounds in the order of the phases: the state of a run in memory, complete and restorable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganforge.batches import Batch
from ganforge.data import Stream
from ganforge.data.ahead import Ahead
from ganforge.engine.augmenting import Augmenter
from ganforge.engine.compiling import compile_networks, eager
from ganforge.engine.graphs import Graphs, Recorder, recorder_for
from ganforge.engine.ledger import Ledger
from ganforge.engine.ranks import Alone, seeded
from ganforge.engine.recomputing import recompute_networks
from ganforge.engine.rounds import play_round
from ganforge.engine.seat import Seat, averaged
from ganforge.engine.settings import Settings
from ganforge.engine.synchronising import apart, synchronise
from ganforge.errors import RequestError, TrainingError
from ganforge.game import Game, Move, Phase


class Serving:
    """The batches of one of `of` rounds played side by side: it takes every `of`-th micro-batch of the stream, from number `k`."""

    def __init__(self, at: Callable[..., Batch], cursor: int, size: int, resolution: int | None, k: int, of: int) -> None:
        self._at = partial(at, size=size, resolution=resolution)
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
    """Plays a game on a stream of batches. Its state (with the game's) is complete: equal states play on equally, bit for bit.

    With several `ranks` each has a trainer, which plays its share of every batch.
    """

    def __init__(
        self,
        game: Game,
        stream: Stream,
        settings: Settings,
        device: torch.device,
        ranks: Alone | None = None,
        recorder: Recorder | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.game = game.to(device=device)
        # Convolutions run faster on it, everywhere we measured; other layers do not notice.
        self.game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ranks = ranks or Alone()
        if settings.sync_batchnorm and self.ranks.world > 1:
            synchronise(self.game)
        self.stream = stream
        self._at = Ahead(stream.at).at if stream.source.slow else stream.at
        self.settings = settings
        self.remarks: list[str] = []
        """Lines for the user, until somebody listens."""
        self._listener = say
        self.device = device
        if settings.cuda_graph and recorder is None:
            recorder = self._recorder()
        self.seats = {name: Seat(name, player, capturable=recorder is not None) for name, player in game.players().items()}
        self.graphs = Graphs(self.game, self.seats, recorder, self.say) if recorder is not None else None
        self.ledger = Ledger()
        self.round = 0
        self.cursor = 0
        self.phases = _with_rounds(game, settings)
        self.rounds = sum(phase.rounds or 0 for phase in self.phases)
        if self.rounds < 1:
            raise RequestError("--rounds 0: must be at least 1, as no phase of this game has rounds of its own")
        for phase in self.phases:
            self.share(phase)
        self.augmenter: Augmenter | None = None
        if settings.augment != "none":
            self.augmenter = Augmenter(self.game, stream.source.spec, settings.augment, tuple(settings.augment_policy.split(",")))
        if settings.recompute and settings.compile:
            raise RequestError("--recompute with --compile: compiled networks choose by themselves what to keep; give one of the two")
        if settings.recompute:
            recompute_networks(self.game)
        if settings.compile:
            compile_networks(self.game, self.say)

    def say(self, text: str) -> None:
        """A line for the user: kept until somebody listens."""
        if self._listener is None:
            self.remarks.append(text)
        else:
            self._listener(text)

    def listen(self, listener: Callable[[str], None]) -> None:
        """From now on `listener` gets the lines for the user, those kept so far first."""
        self._listener = listener
        for remark in self.remarks:
            listener(remark)
        self.remarks.clear()

    def _recorder(self) -> Recorder | None:
        if self.settings.recompute:
            self.say("--cuda-graph: --recompute asks for random states while the round is recorded; rounds are played without graphs")
            return None
        return recorder_for(self.device, self.ranks.world, self.say)

    def _noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they come to the game, of each of which the augmenter is told that it is real."""
        for batch in batches:
            if self.augmenter:
                self.augmenter.note_real(batch)
            yield batch

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
        size, rank, world = self.share(phase), self.ranks.rank, self.ranks.world
        of = self.settings.accumulate * world
        servings = [Serving(self._at, self.cursor, size, phase.size, k, of) for k in range(rank, of, world)]
        note = partial(self.ledger.add, self.round + 1)

        def run(batches: Sequence[Iterator[Batch]], note: Callable[[Move], None]) -> None:
            rounds = [iter(phase.play(self._noted(each))) for each in batches]
            play_round(rounds, self.seats, note, self.round + 1, self._autocast(), self.ranks)

        # A recorded round runs no Python that could listen.
        listening = self.graphs is None and ((self.round + 1) % self.settings.log_every == 0 or self.round == 0)
        for seat in self.seats.values():
            seat.listening = listening
            seat.gradient = None
        with self.augmenter.playing() if self.augmenter else nullcontext():
            if self.graphs is None:
                run(servings, note)
            else:
                self.graphs.play((phase.name, size, phase.size), servings, run, note)
        if len({serving.taken for serving in servings}) != 1:
            raise TrainingError(f"round {self.round}: accumulated rounds drew unequal numbers of batches")
        self.cursor += servings[0].taken * of * size
        self.round += 1
        for name, seat in self.seats.items():
            if seat.gradient is not None:
                self.ledger.note(self.round, f"grad/{name}", seat.gradient)
        if self.augmenter:
            self.augmenter.end_round(self.round, servings[0].taken * of * size, self.ranks.mean)
            if self.settings.augment == "ada":
                self.ledger.note(self.round, "ada_p", self.augmenter.p.clone())
        return phase

    def share(self, phase: Phase) -> int:
        """How many samples of each batch of the phase are this rank's."""
        size, world = phase.batch_size or self.settings.batch_size or self.game.batch_size, self.ranks.world
        if size % world:
            near = max(1, round(size / world)) * world
            raise RequestError(f"phase {phase.name}: a batch of {size} cannot be shared among {world} ranks; give --batch-size {near}")
        return size // world

    def _autocast(self) -> Callable[[], AbstractContextManager[object]]:
        if self.settings.precision == "fp32":
            return nullcontext
        return partial(torch.autocast, self.device.type, torch.bfloat16)

    def state(self) -> dict[str, Any]:
        """All that the weights and buffers of the game do not hold, for the first rank; every rank must ask."""
        own = {"random": self._random(), "buffers": self._buffers() if self.ranks.rank else {}}
        if self.augmenter:
            own["augmenter"] = {name: value.cpu() for name, value in self.augmenter.state_dict().items()}
        return {
            "round": self.round,
            "cursor": self.cursor,
            "seats": {name: seat.state() for name, seat in self.seats.items()},
            "ranks": self.ranks.gather(own),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; the weights and buffers of the game are those of the first rank.

        There may be more ranks than there were: then the new ones begin with noise of their own, and the run is another one.
        """
        self.round, self.cursor = state["round"], state["cursor"]
        for name, seat in self.seats.items():
            seat.load(state["seats"][name])
        # Before ranks, the only random state lay beside the seats.
        stored = state["ranks"] if "ranks" in state else [{"random": state["random"], "buffers": {}}]
        if self.ranks.rank >= len(stored):
            torch.manual_seed(seeded(self.settings.seed, self.ranks.rank, self.round))
        own = stored[min(self.ranks.rank, len(stored) - 1)]
        if self.augmenter:
            self.augmenter.load_state_dict(own["augmenter"])
        if self.ranks.rank >= len(stored):
            return
        buffers = dict(self.game.named_buffers())
        for name, value in own["buffers"].items():
            buffers[name].copy_(value)
        self._set_random(own["random"])

    def _buffers(self) -> dict[str, Tensor]:
        # What is fixed and comes from a file is not in the state.
        kept = self.game.state_dict().keys()
        return {name: buffer.cpu() for name, buffer in self.game.named_buffers() if name in kept}

    def _random(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        if self.device.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return states

    def _set_random(self, states: Mapping[str, Any]) -> None:
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and len(states.get("cuda", ())):
            torch.cuda.set_rng_state(states["cuda"], self.device)
        if self.device.type == "mps" and len(states.get("mps", ())):
            torch.mps.set_rng_state(states["mps"])

    @contextmanager
    def at_rest(self, average: bool = True) -> Iterator[None]:
        """Within the block the game is as its users get it (averaged weights, evaluation mode); afterwards nothing has changed.

        With `average` False the weights are those that are played.
        """
        training = [module for module in self.game.modules() if module.training]
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            averaged(self.seats.values() if average else ()),
            torch.random.fork_rng(devices),
            torch.no_grad(),
            eager(self.game),
            apart(self.game),
        ):
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
