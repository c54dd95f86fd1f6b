"""How a run is measured, on what, and the file of what was found: what `evaluate` and `compare` have in common."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ganforge.batches import KINDS, Batch, Images, ImageSpec, Labelled
from ganforge.commands.given import image_spec, opened
from ganforge.data import Finite, Source, Split
from ganforge.errors import RequestError
from ganforge.files import write_json
from ganforge.game import Game
from ganforge.metrics import Extractor, Section, examine, game_extractor, open_extractor
from ganforge.metrics.comparing import identity
from ganforge.metrics.evaluating import known_measures
from ganforge.metrics.extractors import weights_hash
from ganforge.metrics.findings import section_of
from ganforge.metrics.material import Part
from ganforge.metrics.perceptual import Perceptual
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.load import load


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how."""

    data: str | None = None
    """SOURCE to measure on; None: what was trained on."""
    split: Split | None = None
    """The pictures to train on, or those to test on; None: those to test on, where there are such."""
    n: int = 2000
    """How many samples, or pictures."""
    seed: int = 0
    """The same seed gives the same samples."""
    size: str | None = None
    """Cut the pictures to this size, 256 or 96x64, for games that take any; None: as they were trained on."""
    features: str = "auto"
    """The features that pictures are compared in: pixels, classifier (taught on labelled pictures), classifier:RUN, inception, or a FILE
    (.pt, .pth, .torchscript, .onnx); auto: classifier where there are labels, else pixels."""
    metrics: str | None = None
    """Only these measures, by name, with commas: fid,kid; None: all."""
    lpips: str | None = None
    """Measure LPIPS too where pictures are compared with those wanted: vgg, which is fetched once (528 MB), or a TorchScript FILE."""
    labelled: str | None = None
    """SOURCE of labelled pictures for independent classifiers; None: what was trained on, where it has labels."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite files that exist."""


@dataclass(frozen=True)
class Entry:
    """A run that is measured: its `name` in a table, and the `source` that it is measured on."""

    name: str
    folder: RunFolder
    record: RunRecord
    source: Source

    @property
    def kind(self) -> type[Batch] | None:
        """What its game reads, where the source serves that."""
        kind = KINDS.get(self.record.data.get("kind") or "", self.source.kinds[0])
        return kind if kind in self.source.kinds else None

    @cached_property
    def data(self) -> str:
        """Of which pictures its numbers are: see `identity`."""
        return identity(self.source, self.kind)

    def batch(self, n: int, seed: int, device: torch.device) -> Batch | None:
        """The first `n` of what the run is measured on, as what its game reads; None where the source is not of that kind."""
        if self.kind is None or not isinstance(self.source, Finite):
            return None
        return next(Part.of(self.source, seed).first(n).batches(self.kind, device))


@dataclass(frozen=True)
class Bench:
    """The options, and what they name beside data, for all runs: the measures, an extractor or a word for one, a network for LPIPS."""

    options: MeasureOptions
    metrics: tuple[str, ...]
    features: str | Extractor
    lpips: Perceptual | None

    @classmethod
    def of(cls, options: MeasureOptions) -> Bench:
        """RequestError where something that is named is not there, or is not what it should be."""
        if options.n < 2:
            raise RequestError(f"--n {options.n}: measures need 2 samples or more")
        metrics = [] if options.metrics is None else sorted({name.strip() for name in options.metrics.split(",")} - {""})
        if options.metrics is not None and not metrics:
            raise RequestError(f"--metrics {options.metrics!r}: names no measure; give some with commas, fid,kid, or leave it out for all")
        known_measures(metrics)
        kind, _, named = options.features.partition(":")
        features: str | Extractor = options.features
        if kind == "classifier" and named:
            run = RunFolder(Path(named))
            features = game_extractor(load(run.path, device=options.device), image_spec(run), f"classifier:{run.path.resolve().name}")
        elif features not in ("auto", "classifier"):
            features = open_extractor(options.features, options.device)
        lpips = None if options.lpips is None else Perceptual(options.lpips, options.device)
        return cls(options, tuple(metrics), features, lpips)

    def evaluation(self, entry: Entry, game: Game) -> Evaluation:
        """What is to be measured of a run; nothing is measured yet."""
        options, record = self.options, entry.record
        trained = entry.source
        if options.data is not None or options.split != "train":
            with suppress(RequestError):
                trained = opened(record, None, "train", options.size)
        return Evaluation(self, entry, game, trained, None if options.labelled is None else _labels(record, options.labelled))


@dataclass(frozen=True)
class Evaluation:
    """One run on the bench; `trained` is what it learned from, or, where that is gone, what it is measured on; `labels` as of `examine`."""

    bench: Bench
    entry: Entry
    game: Game
    trained: Source
    labels: tuple[Finite, Finite] | None

    @cached_property
    def how(self) -> dict[str, Any]:
        """Equal for evaluations that would find the same, but for the classifiers that they teach."""
        bench, options = self.bench, self.bench.options
        return {
            "identity": self.entry.data,
            "trained": identity(self.trained),
            "labelled": None if self.labels is None else [identity(source) for source in self.labels],
            "weights": weights_hash(self.game),
            "n": options.n,
            "seed": options.seed,
            "extractor": bench.features if isinstance(bench.features, str) else bench.features.identity,
            "metrics": list(bench.metrics),
            "lpips": None if bench.lpips is None else bench.lpips.space,
        }

    @property
    def kept(self) -> Path:
        """Where it is kept in the run folder, beside all that were made otherwise."""
        key = hashlib.sha256(json.dumps(self.how, sort_keys=True).encode()).hexdigest()[:16]
        return self.entry.folder.evaluations / f"{key}.json"

    def sections(self) -> list[Section]:
        """Measures."""
        options = self.bench.options
        return examine(
            self.game,
            self.entry.source,
            trained=self.trained,
            labels=self.labels,
            n=options.n,
            seed=options.seed,
            features=self.bench.features,
            metrics=self.bench.metrics,
            lpips=self.bench.lpips,
        )

    def write(self, path: Path, sections: list[Section]) -> None:
        """What was found, and how, as JSON."""
        options, source = self.bench.options, self.entry.source
        scores = [score for section in sections for score in section.scores]
        found = {
            "run": str(self.entry.folder.path),
            "data": source.name,
            "fingerprint": source.fingerprint if isinstance(source, Finite) else "",
            "split": options.split,
            "size": options.size,
            "features": options.features,
            **self.how,
            "measures": {score.name: score.value for score in scores},
            "beside": {score.name: dict(score.beside) for score in scores if score.beside},
            "better": {score.name: score.better for score in scores},
            "space": {score.name: score.space for score in scores},
            "extractors": list({space.identity: asdict(space) for section in sections for space in section.spaces}.values()),
            "sections": [asdict(section) for section in sections],
        }
        write_json(path, found)

    def keep(self, sections: list[Section]) -> None:
        """For the next time; in a folder that only its owner may write, it is measured again then."""
        with suppress(OSError):
            self.write(self.kept, sections)

    def read(self) -> list[Section] | None:
        """What was found when it was made in just this way; None where it was not, or the file is damaged."""
        try:
            stored = json.loads(self.kept.read_text(encoding="utf-8"))
            return [section_of(section) for section in stored["sections"]] if self.how.items() <= stored.items() else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def entry_of(folder: RunFolder, options: MeasureOptions, name: str = "") -> Entry:
    """The run with what it is measured on: what it was trained on, or other data read as that or as labelled or bare pictures."""
    record = RunRecord.read(folder.record)
    split = options.split or "train"
    if options.data is None:
        try:
            source = opened(record, None, split, options.size)
        except RequestError as error:
            if options.size is not None or split == "test":
                raise
            raise RequestError(f"{error} ({folder.path} was trained on it; --data SOURCE measures on other data)") from None
    else:
        try:
            source = opened(record, options.data, split, options.size)
        except RequestError:
            if not isinstance(record.spec, ImageSpec):
                raise
            source = opened(record, options.data, split, options.size, (Labelled, Images))
    return Entry(name or str(folder.path), folder, record, source)


def _labels(record: RunRecord, data: str) -> tuple[Finite, Finite]:
    """Labelled pictures to learn from and to test on; where they have no part to test on, twice the same."""
    learn = opened(record, data, "train", kinds=(Labelled,))
    try:
        test = opened(record, data, "test", kinds=(Labelled,))
    except RequestError:
        test = learn
    if not isinstance(learn, Finite) or not isinstance(test, Finite):
        raise RequestError(f"--labelled {data}: holds points, not labelled pictures")
    return learn, test


def console_for_tables() -> Console:
    """As wide as the terminal; a file or another program takes a table as wide as it is."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 1000
    return console
