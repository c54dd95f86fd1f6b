"""The loop: rounds in the order of the phases, with logs, pictures and checkpoints between them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import torch

from ganforge.batches import Batch
from ganforge.data import Source, Stream
from ganforge.engine.checkpoint import prune, write_checkpoint
from ganforge.engine.ledger import Ledger, NotFiniteError
from ganforge.engine.report import Report, round_to
from ganforge.engine.rounds import play_round
from ganforge.engine.seat import Seat, averaged
from ganforge.engine.settings import Settings
from ganforge.engine.showing import finish, show
from ganforge.errors import TrainingError
from ganforge.game import Game, Phase
from ganforge.runs import RunFolder
from ganforge.weights import save_weights


class Interrupted(KeyboardInterrupt):
    """Training stopped as asked, after a checkpoint at `round`."""

    def __init__(self, round: int) -> None:
        super().__init__(f"stopped after round {round}")
        self.round = round


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


class Session:
    """A trainer at work in a run folder: what is written when, and how it stops."""

    def __init__(self, trainer: Trainer, folder: RunFolder, source: Source, report: Report) -> None:
        self.trainer = trainer
        self.folder = folder
        self.source = source
        self.report = report
        self._every_rounds, self._every_seconds = trainer.settings.checkpoint_interval()
        self._sample_every = trainer.settings.sample_every or max(1, trainer.rounds // 24)
        self._saved_at = time.monotonic()
        self._latest: dict[str, float] = {}
        self._stop = False

    def run(self) -> None:
        """Plays to the last round. Raises Interrupted after Ctrl-C or SIGTERM, TrainingError where the game fails."""
        trainer, settings = self.trainer, self.trainer.settings
        if trainer.round == 0:
            self._show()
        began, before = time.monotonic(), self._seconds_so_far()
        with self._stopping():
            while trainer.round < trainer.rounds:
                phase = self._play().name
                last = trainer.round == trainer.rounds
                if trainer.round % settings.log_every == 0 or trainer.round == 1 or last:
                    self._log(phase, before + time.monotonic() - began)
                if trainer.round % self._sample_every == 0 or last:
                    self._show()
                if self._checkpoint_due() or last or self._stop:
                    self._checkpoint()
                if self.report.due() or last:
                    self._latest = {**self._latest, **self._read()}
                    self.report.tick(trainer.round, trainer.cursor, phase, self._latest)
                if self._stop and not last:
                    self.report.say(f"stopped; round {trainer.round} is saved")
                    finish(self.folder)
                    self.report.status("interrupted", trainer.round, phase)
                    raise Interrupted(trainer.round)
        finish(self.folder)
        self.report.status("finished", trainer.round, trainer.phases[-1].name)

    def _play(self) -> Phase:
        try:
            return self.trainer.play_round()
        except TrainingError as error:
            self._fail(error)

    def _read(self) -> dict[str, float]:
        try:
            return self.trainer.ledger.read()
        except NotFiniteError as error:
            checkpoints = self.folder.checkpoints()
            good = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
            self._fail(TrainingError(f"{error}; {good}; try a smaller learning rate, or --precision fp32"))

    def _fail(self, error: TrainingError) -> NoReturn:
        self.report.status("failed", self.trainer.round, self.trainer.phase()[0].name, str(error))
        raise error

    def _log(self, phase: str, seconds: float) -> None:
        self._latest = self._read()
        self.trainer.ledger.clear()
        self.report.log(
            {
                "round": self.trainer.round,
                "phase": phase,
                "seconds": round_to(seconds),
                "speed": round_to(self.report.speed),
                **self._latest,
            }
        )

    def _seconds_so_far(self) -> float:
        rows = self.folder.metric_rows()
        return float(rows[-1]["seconds"]) if rows else 0.0

    def _checkpoint_due(self) -> bool:
        if self._every_rounds:
            return self.trainer.round % self._every_rounds == 0
        return time.monotonic() - self._saved_at >= (self._every_seconds or 0.0)

    def _checkpoint(self) -> None:
        # A loss that is not finite must not reach a checkpoint: read before writing.
        self._read()
        path = self.folder.checkpoint(self.trainer.round)
        if not path.exists():
            write_checkpoint(path, self.trainer.game, self.trainer.state())
        with averaged(self.trainer.seats.values()):
            save_weights(self.trainer.game, self.folder.weights)
        prune(self.folder.checkpoints(), self.trainer.settings.keep)
        self._saved_at = time.monotonic()

    def _show(self) -> None:
        with self.trainer.at_rest():
            show(self.trainer.game, self.source, self.folder.sample(self.trainer.round), self.trainer.settings.seed, self._latest)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the round and saves, the second ends at once; nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_number: int, _frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            # Nothing is printed here: the signal may have come in the middle of printing.
            self._stop = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _with_rounds(game: Game, settings: Settings) -> list[Phase]:
    """The phases, each with its number of rounds: its own, or else the run's."""
    rounds = game.rounds if settings.rounds is None else settings.rounds
    return [phase if phase.rounds is not None else replace(phase, rounds=rounds) for phase in game.phases()]
