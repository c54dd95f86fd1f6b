"""`ganforge compare`: which of several runs is better, all measured on the same data in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ganforge.batches import KINDS, Images, ImageSpec, Labelled
from ganforge.commands.evaluate import EvaluateOptions, _features, _told
from ganforge.commands.given import at_least_one
from ganforge.commands.side_by_side import Entry, drawn
from ganforge.data import Finite, Reading, Source, Split, open_source
from ganforge.engine import Settings
from ganforge.engine.settings import FIXED_ON_RESUME
from ganforge.errors import RequestError, TrainingError
from ganforge.files import atomic_write, write_json
from ganforge.game import Game
from ganforge.metrics import Extractor, Score, Section, Space, examine, open_extractor
from ganforge.metrics.comparing import Comparison, Measured, MixedError, identity
from ganforge.metrics.comparing import compare as as_table
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.load import load

_EXAMPLES = """\
compare runs/small runs/large
compare runs/wgan-0 runs/wgan-1 runs/wgan-2 runs/dcgan-0 runs/dcgan-1 --out seeds
compare runs/shoes runs/bags --data photos --split train --out tables/"""
_SUFFIXES = (".md", ".json", ".png")
Say = Callable[[str], None]


@dataclass(frozen=True)
class CompareOptions:
    """Options of `compare`."""

    data: str | None = None
    """SOURCE to measure all runs on; None: what they were trained on, if that is the same."""
    split: Split | None = None
    """The pictures to train on, or those to test on; None: those to test on, where there are such."""
    n: int = 2000
    """How many samples, or pictures."""
    seed: int = 0
    """The same seed gives the same samples."""
    size: str | None = None
    """Cut the pictures to this size, 256 or 96x64, for games that take any; None: as the runs read them."""
    features: str = "auto"
    """The features that pictures are compared in, as of evaluate: pixels, classifier, classifier:RUN, inception, a FILE; auto."""
    metrics: str | None = None
    """Only these measures, by name, with commas: fid,kid; None: all."""
    lpips: str | None = None
    """Measure LPIPS too, as of evaluate: vgg, or a TorchScript FILE."""
    labelled: str | None = None
    """SOURCE of labelled pictures for independent classifiers; None: the runs' data, where they have labels."""
    each: bool = False
    """A column for each run, also for those that differ in nothing but their seed; else these are one, with mean and deviation."""
    out: str = "compare"
    """What the files are called: NAME.md, NAME.json and NAME.png, or a folder for compare.md and so on."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite files that exist."""


def compare_command(arguments: list[str], about: str) -> int:
    """Prints one table of all runs, and writes it as Markdown and JSON beside a picture; 1 where a run could not be measured."""
    runs = list(takewhile(lambda word: not word.startswith("-"), arguments))
    told = f"{about}\n\n" + "\n".join(f"  ganforge {line}" for line in _EXAMPLES.splitlines())
    options = parse(CompareOptions, arguments[len(runs) :], "compare RUN RUN ...", told)
    outs = _outs(options)
    entries, split = _entries(runs, options)
    comparison = _measure(entries, split, options, say=lambda line: print(line, file=sys.stderr))
    markdown, record, picture = outs
    try:
        sheet = drawn([entry for entry in entries if entry.name not in comparison.failed], options.seed, options.device)
        with atomic_write(picture) as temporary:
            sheet.save(temporary)
    except RequestError as error:
        # That of an earlier time would be taken for this one's.
        picture.unlink(missing_ok=True)
        comparison = replace(comparison, notes=(*comparison.notes, str(error)))
    write_json(record, asdict(comparison))
    with atomic_write(markdown) as temporary:
        temporary.write_text(comparison.markdown(picture.name if picture.exists() else ""), encoding="utf-8")
    _print(comparison)
    print(*(out for out in outs if out.exists()), sep="\n")
    return 1 if comparison.failed else 0


def compare(runs: Sequence[str | Path], options: CompareOptions | None = None) -> Comparison:
    """The table of these run folders, two or more; its rows are numbers, and a notebook shows it as Markdown.

    A run's evaluation.json is taken where it was made in just this way and is newer than its weights; otherwise the run is measured, and
    the file written. RequestError where a folder is no run, or where the runs cannot be measured on the same data.
    """
    options = options or CompareOptions()
    return _measure(*_entries(runs, options), options)


def _entries(runs: Sequence[str | Path], options: CompareOptions) -> tuple[list[Entry], Split]:
    """The runs with what each is measured on, which is the same, and the split of it."""
    at_least_one("--n", options.n)
    if len(runs) < 2:
        raise RequestError("compare: name two runs or more, e.g. ganforge compare runs/small runs/large; evaluate measures one")
    folders = [RunFolder(Path(run)) for run in runs]
    names = _names([folder.path for folder in folders])
    records = []
    for folder in folders:
        records.append(RunRecord.read(folder.record))
        if not folder.weights.exists():
            raise RequestError(f"{folder.path}: has no {folder.weights.name} yet; train it to its end, or to a checkpoint, first")
    for name, record in zip(names, records, strict=True):
        if record.spec.shape != records[0].spec.shape:
            raise RequestError(f"{names[0]} is of {records[0].spec}, {name} of {record.spec}: only runs of one shape are compared")
    split = options.split or _split_there(records[0], options)
    entries = [Entry(*each, _measured_on(each[2], split, options)) for each in zip(names, folders, records, strict=True)]
    for entry in entries:
        if entry.data != entries[0].data:
            there = [f"{each.name} on {each.record.data['source']!r}" for each in (entries[0], entry)]
            how = "give --data SOURCE to measure both on the same" if options.data is None else "it is cut, scaled or masked otherwise"
            raise RequestError(f"{there[0]} and {there[1]}: trained on different data, or read in different ways; {how}")
    return entries, split


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as make all different; RequestError where a run is named twice."""
    parts = [path.resolve().parts for path in paths]
    twice = next((path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1), None)
    if twice is not None:
        raise RequestError(f"{twice}: is named twice; name each run once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(names):
            break
    return names


def _split_there(record: RunRecord, options: CompareOptions) -> Split:
    try:
        _measured_on(record, "test", options)
    except RequestError:
        return "train"
    return "test"


def _measured_on(record: RunRecord, split: Split, options: CompareOptions) -> Source:
    """What a run was trained on, or other data as that or as bare pictures."""
    if options.data is None:
        return _opened(record, record.data["source"], split, options.size)
    try:
        return _opened(record, options.data, split, options.size)
    except RequestError:
        return _opened(record, options.data, split, options.size, (Labelled, Images))


def _opened(record: RunRecord, data: str, split: Split, size: str | None = None, kinds: tuple[type[Images], ...] | None = None) -> Source:
    """A SOURCE in the shape of the run. What training makes random is left out: runs that differ in it are measured alike."""
    reading = replace(Reading.stored(record.data), flip=False, jitter=0)
    if isinstance(record.spec, ImageSpec):
        reading = replace(reading, size=size or f"{record.spec.width}x{record.spec.height}", channels=record.spec.channels)
    if size is not None:
        reading = replace(reading, fit="crop")
    # Runs did not always say what they read; then their specification does.
    kind = record.data.get("kind") or ("Labelled" if isinstance(record.spec, ImageSpec) and record.spec.classes else None)
    return open_source(data, kinds=kinds or ((KINDS[kind],) if kind else ()), split=split, reading=reading)


def _measure(entries: Sequence[Entry], split: Split, options: CompareOptions, say: Say | None = None) -> Comparison:
    """The table of all; where numbers of an earlier time are of another extractor than today's, those runs are measured anew."""
    try:
        return _table(entries, split, options, say)
    except MixedError:
        pass
    try:
        return _table(entries, split, options, say, fresh=True)
    except MixedError as error:
        raise RequestError(f"{error}; give --features pixels, or labelled pictures for all with --labelled") from None


def _table(entries: Sequence[Entry], split: Split, options: CompareOptions, say: Say | None, fresh: bool = False) -> Comparison:
    """The table of all; with `fresh` no column is of an earlier evaluation."""
    features = _opened_features(options)
    measured, notes = [], list[str]()
    for number, entry in enumerate(entries, 1):
        costs, sections = _costs(entry), list[Section]()
        try:
            game = load(entry.folder.path, device=options.device)
            costs["parameters"] = sum(p.numel() for p in {p for player in game.players().values() for p in player.parameters()})
            how = _how(entry, split, options, features)
            found = None if fresh else _stored(entry.folder, how)
            if found is None and say is not None:
                say(f"measuring {entry.name}, {number} of {len(entries)}")
            sections = _evaluated(game, entry, split, options, features, how) if found is None else found
        except (RequestError, TrainingError) as error:
            # One that has diverged does not hide the others.
            notes.append(f"{entry.name}: not measured: {error}")
        seed = entry.record.settings.get("seed", 0)
        measured.append(Measured(entry.name, sections, entry.data, entry.record.game, costs, _configuration(entry.record), seed))
    if not any(run.sections for run in measured):
        raise RequestError(notes[0])
    part = "" if not isinstance(entries[0].source, Finite) else f"{split} part, "
    about = f"{entries[0].source.name}, {part}{options.n} samples or pictures at most, seed {options.seed}"
    return as_table(measured, options.each, about, notes)


def _opened_features(options: CompareOptions) -> str | Extractor:
    """The extractor that is named; a word where it is taught on the data."""
    features = _features(_as_evaluated(options, options.split or "train"))
    return open_extractor(features, options.device) if isinstance(features, str) and features not in ("auto", "classifier") else features


def _how(entry: Entry, split: Split, options: CompareOptions, features: str | Extractor) -> dict[str, Any]:
    """By what an evaluation is known again."""
    labels = None if options.labelled is None else [identity(source) for source in _labels(entry.record, options.labelled)]
    return {
        "split": split,
        "n": options.n,
        "seed": options.seed,
        "size": options.size,
        "features": options.features,
        "extractor": features if isinstance(features, str) else features.identity,
        "metrics": sorted(_metrics(options)),
        "lpips": options.lpips,
        "labelled": labels,
        "identity": entry.data,
    }


def _stored(run: RunFolder, how: dict[str, Any]) -> list[Section] | None:
    """What evaluation.json says, where it was made just so, of the weights that are there now."""
    path = run.path / "evaluation.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if path.stat().st_mtime_ns <= run.weights.stat().st_mtime_ns or any(stored.get(key, "") != how[key] for key in how):
            return None
        return [_section(**section) for section in stored["sections"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _section(scores: list[Any], spaces: list[Any], **fields: Any) -> Section:
    return Section(scores=[Score(**score) for score in scores], spaces=[Space(**space) for space in spaces], **fields)


def _metrics(options: CompareOptions) -> list[str]:
    return [name.strip() for name in options.metrics.split(",")] if options.metrics else []


def _as_evaluated(options: CompareOptions, split: Split) -> EvaluateOptions:
    """The same as options of `evaluate`."""
    shared = {field.name for field in fields(EvaluateOptions)} & {field.name for field in fields(options)} - {"split", "out"}
    return EvaluateOptions(split=split, **{name: getattr(options, name) for name in shared})


def _evaluated(
    game: Game, entry: Entry, split: Split, options: CompareOptions, features: str | Extractor, how: dict[str, Any]
) -> list[Section]:
    """What `evaluate` finds, on exactly these data, written where it writes it."""
    try:
        trained = _opened(entry.record, entry.record.data["source"], "train")
    except RequestError:
        trained = entry.source
    sections = examine(
        game,
        entry.source,
        trained=entry.source if identity(trained, entry.kind) == entry.data else trained,
        labels=None if options.labelled is None else _labels(entry.record, options.labelled),
        n=options.n,
        seed=options.seed,
        features=features,
        metrics=_metrics(options),
        lpips=options.lpips,
    )
    # In a folder that only its owner may write, it is measured again next time.
    with suppress(OSError):
        write_json(
            entry.folder.path / "evaluation.json", {**_told(entry.folder, entry.source, _as_evaluated(options, split), sections), **how}
        )
    return sections


def _labels(record: RunRecord, data: str) -> tuple[Finite, Finite]:
    """Labelled pictures to learn from and to test on; where they have no part to test on, twice the same."""
    learn = _opened(record, data, "train", kinds=(Labelled,))
    try:
        test = _opened(record, data, "test", kinds=(Labelled,))
    except RequestError:
        test = learn
    assert isinstance(learn, Finite)
    assert isinstance(test, Finite)
    return learn, test


def _configuration(record: RunRecord) -> str:
    """Equal for runs that differ in nothing but their seed, and in what changes no weight."""
    settings = asdict(Settings()) | record.settings
    same_data = {"source"} if record.data.get("fingerprint") else set()
    return json.dumps(
        {
            "game": record.game,
            "hyper": record.hyper,
            "spec": str(record.spec),
            "data": {key: value for key, value in record.data.items() if key not in {"workers", "strict", "cache"} | same_data},
            "settings": {key: settings.get(key) for key in sorted(FIXED_ON_RESUME - {"seed"})},
            "rounds": record.outcome.get("rounds", settings["rounds"]),
        },
        sort_keys=True,
        default=str,
    )


def _costs(entry: Entry) -> dict[str, float]:
    """What the run took, as far as it is known."""
    outcome = {"rounds": "rounds", "seconds": "seconds", "peak_mib": "peak MiB"}
    costs = {name: entry.record.outcome[key] for key, name in outcome.items() if key in entry.record.outcome}
    checkpoints = entry.folder.checkpoints()
    if checkpoints:
        with suppress(OSError, RuntimeError, EOFError, KeyError, TypeError, UnpicklingError):
            # Mapped, so that the optimisers' states are not read.
            state = torch.load(checkpoints[-1] / "trainer.pt", weights_only=True, map_location="cpu", mmap=True)
            if state["round"] == costs.get("rounds"):
                costs["samples seen"] = state["cursor"]
    return costs


def _outs(options: CompareOptions) -> tuple[Path, ...]:
    """NAME.md, NAME.json, NAME.png; RequestError where one is there and is not to be overwritten."""
    path = Path(options.out)
    if options.out.endswith("/") or path.is_dir():
        path = path / "compare"
    elif path.suffix in _SUFFIXES:
        path = path.with_suffix("")
    outs = tuple(path.with_name(path.name + suffix) for suffix in _SUFFIXES)
    there = next((out for out in outs if out.exists()), None)
    if there is not None and not options.force:
        raise RequestError(f"--out {options.out}: {there} exists; --force overwrites it")
    return outs


def _print(comparison: Comparison) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        # A file or another program takes a table as wide as it is.
        console.width = 1000
    header, *lines = comparison.cells(lambda text: f"{text} *")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, title in enumerate(header):
        column = 0 < number <= len(comparison.columns)
        table.add_column(f"{title}  " if column else title, justify="right" if column else "left", no_wrap=column, overflow="fold")
    for first, *texts in lines:
        # What is not the best has blanks for its mark, so that numbers stand below each other.
        numbers = [Text(text, "bold") if text.endswith("*") else Text(f"{text}  ") for text in texts[: len(comparison.columns)]]
        table.add_row(first, *numbers, *texts[len(comparison.columns) :])
    console.print(comparison.about)
    console.print()
    console.print(table, soft_wrap=False)
    for note in comparison.notes:
        console.print(note, style="dim")
