"""A run: the loop around the rounds, what is logged, drawn and saved between them, and how it stops."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from ganforge.data import Source
from ganforge.engine.checkpoint import prune, write_checkpoint
from ganforge.engine.ledger import NotFiniteError
from ganforge.engine.report import Report, round_to
from ganforge.engine.seat import averaged
from ganforge.engine.showing import finish, show
from ganforge.engine.trainer import Trainer
from ganforge.errors import TrainingError
from ganforge.game import Phase
from ganforge.runs import RunFolder
from ganforge.weights import save_weights


class Interrupted(KeyboardInterrupt):
    """Training stopped as asked, after a checkpoint at `round`."""

    def __init__(self, round: int) -> None:
        super().__init__(f"stopped after round {round}")
        self.round = round


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
                # Read once: a signal that comes from here on stops the next round, after a checkpoint of its own.
                last, stopping = trainer.round == trainer.rounds, self._stop
                if trainer.round % settings.log_every == 0 or trainer.round == 1 or last:
                    self._log(phase, before + time.monotonic() - began)
                if trainer.round % self._sample_every == 0 or last:
                    self._show()
                if self._checkpoint_due() or last or stopping:
                    self._checkpoint()
                if self.report.due() or last:
                    self._latest = {**self._latest, **self._read()}
                    self.report.tick(trainer.round, trainer.cursor, phase, self._latest)
                if stopping and not last:
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
            self._fail(TrainingError(f"{error}; {self._last_good()}; try a smaller learning rate, or --precision fp32"))

    def _last_good(self) -> str:
        checkpoints = self.folder.checkpoints()
        return f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"

    def _fail(self, error: TrainingError) -> NoReturn:
        # On a full disk even this cannot be written; the error is what matters.
        with suppress(OSError):
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
        try:
            if not path.exists():
                write_checkpoint(path, self.trainer.game, self.trainer.state())
            with averaged(self.trainer.seats.values()):
                save_weights(self.trainer.game, self.folder.weights)
        except OSError as error:
            self._fail(TrainingError(f"round {self.trainer.round}: the checkpoint could not be written ({error}); {self._last_good()}"))
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
