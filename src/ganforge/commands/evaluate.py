"""`ganforge evaluate`: how good a run is at what it can do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ganforge.batches import Images, ImageSpec, Labelled
from ganforge.commands.given import at_least_one, image_spec, run_first, source_of
from ganforge.data import Finite, Reading, Source, Split, open_source
from ganforge.errors import RequestError
from ganforge.files import write_json
from ganforge.metrics import Extractor, Section, examine, game_extractor
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.load import load


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    data: str | None = None
    """SOURCE to measure on; None: what the run was trained on."""
    split: Split = "train"
    """The pictures to train on, or those to test on."""
    n: int = 2000
    """How many samples, or pictures."""
    seed: int = 0
    """The same seed gives the same samples."""
    size: str | None = None
    """Cut the pictures to this size, 256 or 96x64, for games that take any; None: as the run read them."""
    features: str = "auto"
    """The features that pictures are compared in: pixels, classifier (taught on labelled pictures), classifier:RUN, inception, or a FILE
    (.pt, .pth, .torchscript, .onnx); auto: classifier where there are labels, else pixels."""
    metrics: str | None = None
    """Only these measures, by name, with commas: fid,kid; None: all."""
    lpips: str | None = None
    """Measure LPIPS too where pictures are compared with those wanted: vgg, which is fetched once (528 MB), or a TorchScript FILE."""
    labelled: str | None = None
    """SOURCE of labelled pictures for independent classifiers; None: the run's data, where they have labels."""
    out: str | None = None
    """The JSON file to write; None: evaluation.json in the run folder."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""


def evaluate_command(arguments: list[str], about: str) -> int:
    """Prints the measures of everything that a run's game can do, and writes them as JSON."""
    run, rest = run_first(arguments, "evaluate")
    options = parse(EvaluateOptions, rest, "evaluate RUN", about)
    at_least_one("--n", options.n)
    game = load(run.path, device=options.device)
    source = _measured_on(run, options)
    sections = examine(
        game,
        source,
        trained=_trained_on(run, source, options),
        labels=_labels(run, options.labelled),
        n=options.n,
        seed=options.seed,
        features=_features(options),
        metrics=[name.strip() for name in options.metrics.split(",")] if options.metrics else (),
        lpips=options.lpips,
    )
    out = Path(options.out or run.path / "evaluation.json")
    write_json(out, _told(run, source, options, sections))
    _print(sections, f"{source.name}, {options.split} part, {options.n} samples or pictures at most, seed {options.seed}")
    print(out)
    return 0


def _features(options: EvaluateOptions) -> str | Extractor:
    """What is asked for; of a run, its game."""
    kind, colon, named = options.features.partition(":")
    if kind != "classifier" or not colon:
        return options.features
    run = RunFolder(Path(named))
    return game_extractor(load(run.path, device=options.device), image_spec(run), f"classifier:{run.path.resolve().name}")


def _measured_on(run: RunFolder, options: EvaluateOptions) -> Source:
    """The run's data, or other data in the same shape, as what the run reads or else as labelled or bare pictures."""
    if options.data is None:
        return source_of(run, split=options.split, size=options.size)
    try:
        return source_of(run, options.data, options.split, options.size)
    except RequestError:
        return _opened(run, options.data, options.split, (Labelled, Images))


def _trained_on(run: RunFolder, source: Source, options: EvaluateOptions) -> Source:
    """The run's own data; where they are gone, those that it is measured on."""
    if options.data is None and options.split == "train":
        return source
    try:
        return source_of(run)
    except RequestError:
        return source


def _opened(run: RunFolder, data: str, split: Split, kinds: tuple[type[Images], ...]) -> Source:
    """Other pictures in the shape of the run's."""
    record = RunRecord.read(run.record)
    if not isinstance(record.spec, ImageSpec):
        raise RequestError(f"--data {data}: the run makes points")
    size = f"{record.spec.width}x{record.spec.height}"
    return open_source(
        data, kinds=kinds, split=split, reading=replace(Reading.stored(record.data), size=size, channels=record.spec.channels)
    )


def _labels(run: RunFolder, data: str | None) -> tuple[Finite, Finite] | None:
    """Labelled pictures to learn from and to test on; where they have no part to test on, twice the same."""
    if data is None:
        return None
    learn = _opened(run, data, "train", (Labelled,))
    try:
        test = _opened(run, data, "test", (Labelled,))
    except RequestError:
        test = learn
    assert isinstance(learn, Finite)
    assert isinstance(test, Finite)
    return learn, test


def _told(run: RunFolder, source: Source, options: EvaluateOptions, sections: list[Section]) -> dict[str, object]:
    """What the JSON file holds."""
    scores = [score for section in sections for score in section.scores]
    spaces = {space.identity: asdict(space) for section in sections for space in section.spaces}
    return {
        "run": str(run.path),
        "data": source.name,
        "fingerprint": source.fingerprint if isinstance(source, Finite) else "",
        "split": options.split,
        "n": options.n,
        "seed": options.seed,
        "features": options.features,
        "measures": {score.name: score.value for score in scores},
        "beside": {score.name: dict(score.beside) for score in scores if score.beside},
        "better": {score.name: score.better for score in scores},
        "space": {score.name: score.space for score in scores},
        "extractors": list(spaces.values()),
        "sections": [asdict(section) for section in sections],
    }


def _print(sections: list[Section], title: str) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(title)
    for section in sections:
        table = Table(box=None, show_header=True, header_style="bold", pad_edge=False)
        table.add_column(section.title, no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("", style="dim")
        for score in section.scores:
            unit = f" {score.unit}" if score.unit else ""
            table.add_row(
                score.name, _shown(score.value) + unit, ", ".join(f"{what} {_shown(each)}" for what, each in score.beside.items())
            )
        console.print()
        console.print(table, soft_wrap=False)
        for note in section.notes:
            console.print(note, style="dim")


def _shown(value: float) -> str:
    """Three digits after the point, or three that say something."""
    if float(value).is_integer() and abs(value) > 1:
        return str(int(value))
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"
