"""Scores of a game while it trains, and the best that it has been: a folder in the run that is a run itself."""

from __future__ import annotations

import math
import shutil

from ganforge.engine.report import round_to
from ganforge.engine.trainer import Trainer
from ganforge.errors import RequestError
from ganforge.metrics import Score, examine
from ganforge.metrics.material import as_kind
from ganforge.runs import RunFolder, RunRecord
from ganforge.weights import save_weights

PREFIX = "score/"
"""What the keys of scores begin with in metrics.jsonl."""


class Scoring:
    """Measures a trainer's game as its users would get it, always on the same pictures, and keeps the best by one score."""

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.trainer = trainer
        self.folder = folder
        source = trainer.stream.source
        held = as_kind(source, trainer.stream.kind, "test")
        self._source = source if held is None else held

    def measure(self) -> list[Score]:
        """All scores that `--evaluate-metrics` names; RequestError where there is none, or none is called as `--best` says."""
        settings = self.trainer.settings
        sections = examine(
            self.trainer.game,
            self._source,
            trained=self.trainer.stream.source,
            n=settings.evaluate_n,
            seed=settings.seed,
            features=settings.evaluate_features,
            metrics=tuple(filter(None, (name.strip() for name in settings.evaluate_metrics.split(",")))),
        )
        scores = [score for section in sections for score in section.scores]
        self.chosen(scores)
        return scores

    def chosen(self, scores: list[Score]) -> Score | None:
        """The score by which the best is kept: that which `--best` names, by its beginning; else the first that should be low, or high."""
        wanted, sided = self.trainer.settings.best, [score for score in scores if score.better]
        if wanted is None:
            return next((score for score in sided if score.better == "lower"), sided[0] if sided else None)
        found = next((score for score in sided if score.name.casefold().startswith(wanted.casefold())), None)
        if found is None:
            raise RequestError(f"--best {wanted}: no score is called so; there are {', '.join(score.name for score in sided) or 'none'}")
        return found

    def keep_if_best(self, scores: list[Score]) -> Score | None:
        """The score by which this is the best so far, or None.

        The best lies in the run's folder `best`, which `load` and every command take for a run.
        """
        score = self.chosen(scores)
        if score is None or math.isnan(score.value):
            return None
        best = RunFolder(self.folder.best)
        if best.weights.exists():
            before = RunRecord.read(best.record).outcome.get(score.name)
            better = before is None or (score.value < before if score.better == "lower" else score.value > before)
            if not better:
                return None
        record = RunRecord.read(self.folder.record)
        record.outcome = {"rounds": self.trainer.round, score.name: round_to(score.value)}
        save_weights(self.trainer.game, best.weights)
        if self.folder.text.exists():
            shutil.copyfile(self.folder.text, best.text)
        record.write(best.record)
        return score
