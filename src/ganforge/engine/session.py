"""A run: the loop around the rounds, what is logged, drawn and saved between them, and how it stops."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ganforge.engine.checkpoint import prune, write_checkpoint
from ganforge.engine.ledger import NotFiniteError
from ganforge.engine.memory import peak_memory
from ganforge.engine.ranks import LostRankError
from ganforge.engine.report import Report, round_to
from ganforge.engine.scoring import PREFIX as SCORED
from ganforge.engine.scoring import Scoring
from ganforge.engine.seat import averaged
from ganforge.engine.showing import finish, show
from ganforge.engine.trainer import Trainer
from ganforge.engine.watching import Watch
from ganforge.errors import RequestError, TrainingError
from ganforge.runs import RunFolder, RunRecord
from ganforge.weights import save_weights


class Interrupted(KeyboardInterrupt):
    """Training stopped as asked, after a checkpoint at `round`."""

    def __init__(self, round: int) -> None:
        super().__init__(f"stopped after round {round}")
        self.round = round


class Session:
    """A trainer at work in a run folder: what is written when, and how it stops."""

    def __init__(self, trainer: Trainer, folder: RunFolder, report: Report) -> None:
        self.trainer = trainer
        self.folder = folder
        self.report = report
        self.ranks = trainer.ranks
        self._leads = self.ranks.rank == 0
        self._watch = Watch(trainer) if trainer.settings.watch else None
        self._scoring = Scoring(trainer, folder) if trainer.settings.evaluate_every else None
        self._every_rounds, self._every_seconds = trainer.settings.checkpoint_interval()
        self._sample_every = trainer.settings.sample_every or max(1, trainer.rounds // 24)
        self._saved_at = time.monotonic()
        self._latest: dict[str, float] = {}
        self._troubles: set[str] = set()
        self._asked_at: float | None = None

    def run(self) -> None:
        """Plays to the last round. Raises Interrupted after Ctrl-C or SIGTERM, TrainingError where the game fails."""
        trainer, settings = self.trainer, self.trainer.settings
        began, before = time.monotonic(), self._seconds_so_far()
        over = trainer.round >= trainer.rounds
        # Signals outermost: a launcher that ends this rank because another has died must not cut short what it has to say.
        with self._stopping(), self._failing(), self.ranks.watching():
            if trainer.round == 0:
                self._show()
                if self._scoring and self._leads:
                    # What cannot be measured is refused before the first round.
                    with trainer.at_rest():
                        self._scoring.measure()
            while trainer.round < trainer.rounds:
                phase = trainer.play_round().name
                # Asked once: a signal that comes from here on stops the next round, after a checkpoint of its own.
                last = trainer.round == trainer.rounds
                stopping, save = self.ranks.agree([self._asked_at is not None, self._clock_says_save()])
                if trainer.round % settings.log_every == 0 or trainer.round == 1 or last or self._time_to_score():
                    self._log(phase, before + time.monotonic() - began)
                if trainer.round % self._sample_every == 0 or last:
                    self._show()
                if save or last or stopping or self._count_says_save():
                    self._checkpoint()
                if self.report.due() or last:
                    self._tick(phase)
                if stopping and not last:
                    self.report.say(f"stopped; round {trainer.round} is saved")
                    self._finish("interrupted", phase)
                    # A launcher ends the others as soon as one has left, so nobody leaves while the first still writes.
                    self.ranks.shared(None)
                    raise Interrupted(trainer.round)
            if over:
                # A kill between the last checkpoint and the weights for use leaves only these to be written.
                self._checkpoint()
        self._finish("finished", trainer.phases[-1].name)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What ends the run stays in state.json; a lost rank comes with what can be done about it."""
        try:
            yield
        except LostRankError as error:
            again = "; --resume goes on from it" if self.folder.checkpoints() else ""
            lost = LostRankError(f"after round {self.trainer.round}: {error}; {self._last_good()}{again}")
            self._failed(lost)
            raise lost from error
        except Exception as error:
            self._failed(error)
            raise

    def _failed(self, error: Exception) -> None:
        # On a full disk even this cannot be written; the error is what matters.
        with suppress(OSError):
            told = str(error) if isinstance(error, RequestError | TrainingError) else f"{type(error).__name__}: {error}"
            self.report.status("failed", self.trainer.round, self.trainer.phase()[0].name, told)

    def _read(self) -> dict[str, float]:
        """The averages over ranks since the last log; all ranks read in the same rounds."""
        try:
            return self.trainer.ledger.read(self.ranks.mean)
        except NotFiniteError as error:
            failure = TrainingError(f"{error}; {self._last_good()}; try a smaller learning rate, or --precision fp32")
            failure.reported = not self._leads
            raise failure from error

    def _last_good(self) -> str:
        checkpoints = self.folder.checkpoints()
        return f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"

    def _finish(self, status: str, phase: str) -> None:
        if self._leads:
            with self._going_on("the curves"):
                finish(self.folder)
            with self._going_on("state.json"):
                self.report.status(status, self.trainer.round, phase)
            with self._going_on("run.json"):
                record = RunRecord.read(self.folder.record)
                record.outcome = {"rounds": self.trainer.round, "peak_mib": round_to(peak_memory(self.trainer.device))}
                record.outcome["seconds"] = round_to(self._seconds_so_far())
                record.write(self.folder.record)

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """What is only looked at may fail (a full disk, a folder gone): said once, and the game goes on. Checkpoints may not."""
        try:
            yield
        except OSError as error:
            if what not in self._troubles:
                self._troubles.add(what)
                self.report.say(f"round {self.trainer.round}: {what} could not be written ({error}); training goes on")

    def _log(self, phase: str, seconds: float) -> None:
        self._latest = self._read()
        self.trainer.ledger.clear()
        row = {"round": self.trainer.round, "phase": phase, "seconds": round_to(seconds), "speed": round_to(self.report.speed)}
        row |= {"peak_mib": round_to(peak_memory(self.trainer.device)), **self._latest}
        looks = self._watch is not None and self._leads and self._time_to_look()
        if self._time_to_score() and self._leads:
            row |= self._scores()
        with self._going_on("metrics.jsonl"):
            self.report.log(row | (self._look() if looks else {}))
        for finding in self._watch.news(self.folder.metric_rows()) if self._watch and looks else ():
            self.report.say(f"round {self.trainer.round}: {finding}")

    def _look(self) -> dict[str, float]:
        """The signs of now. What only looks must not end a game, whatever that game's samples are."""
        try:
            return self._watch.look() if self._watch else {}
        except Exception as error:
            self._watch = None
            self.report.say(f"round {self.trainer.round}: the watch cannot look at this game ({error}); training goes on without it")
            return {}

    def _time_to_score(self) -> bool:
        every, done = self.trainer.settings.evaluate_every, self.trainer.round
        return every is not None and (done % every == 0 or done == self.trainer.rounds)

    def _scores(self) -> dict[str, float]:
        """The scores of now; the best so far is kept. An evaluation that fails does not end the game."""
        assert self._scoring is not None
        with self.trainer.at_rest():
            try:
                scores = self._scoring.measure()
                with self._going_on("the best weights"):
                    best = self._scoring.keep_if_best(scores)
                    if best is not None:
                        self.report.say(f"round {self.trainer.round}: the best so far, {best.name} {best.value:.4g}")
            except (RequestError, TrainingError) as error:
                self.report.say(f"round {self.trainer.round}: not measured: {error}")
                return {}
        return {SCORED + score.name: score.value for score in scores if score.better}

    def _time_to_look(self) -> bool:
        """As often as pictures are drawn, but where there is a line to log it in."""
        done, since = self.trainer.round, self.trainer.round - self.trainer.settings.log_every
        return done == self.trainer.rounds or done // self._sample_every > max(since, 0) // self._sample_every

    def _tick(self, phase: str) -> None:
        # Its own values alone: this happens by the clock, when the other ranks are elsewhere. What is not finite is found with the rest.
        with suppress(NotFiniteError):
            self._latest = {**self._latest, **self.trainer.ledger.read()}
        with self._going_on("state.json"):
            self.report.tick(self.trainer.round, self.trainer.cursor, phase, self._latest)

    def _seconds_so_far(self) -> float:
        rows = self.folder.metric_rows()
        return float(rows[-1]["seconds"]) if rows else 0.0

    def _count_says_save(self) -> bool:
        return self._every_rounds is not None and self.trainer.round % self._every_rounds == 0

    def _clock_says_save(self) -> bool:
        # The first rank's clock: those of two machines differ.
        return self._leads and self._every_seconds is not None and time.monotonic() - self._saved_at >= self._every_seconds

    def _checkpoint(self) -> None:
        # A loss that is not finite must not reach a checkpoint: read before writing.
        self._read()
        path, state = self.folder.checkpoint(self.trainer.round), self.trainer.state()
        self._saved_at = time.monotonic()
        if not self._leads:
            return
        try:
            if not path.exists():
                write_checkpoint(path, self.trainer.game, state)
            with averaged(self.trainer.seats.values()):
                save_weights(self.trainer.game, self.folder.weights)
        except OSError as error:
            reason = f"round {self.trainer.round}: the checkpoint could not be written ({error}); {self._last_good()}"
            raise TrainingError(reason) from error
        prune(self.folder.checkpoints(), self.trainer.settings.keep)
        self._saved_at = time.monotonic()

    def _show(self) -> None:
        if self._leads:
            with self.trainer.at_rest(), self._going_on("the samples"):
                show(
                    self.trainer.game, self.trainer.stream, self.folder.sample(self.trainer.round), self.trainer.settings.seed, self._latest
                )

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the round and saves, one a second later ends at once; nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_number: int, _frame: FrameType | None) -> None:
            # A launcher passes on the Ctrl-C that the terminal has sent us already: within a second two are one.
            if self._asked_at is not None and time.monotonic() - self._asked_at > 1.0:
                raise KeyboardInterrupt
            # Nothing is printed here: the signal may have come in the middle of printing.
            self._asked_at = self._asked_at or time.monotonic()

        # A handler that is not Python's, which a program around it may have set, could not be put back.
        ours = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
        before = {number: signal.signal(number, ask) for number in ours}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
