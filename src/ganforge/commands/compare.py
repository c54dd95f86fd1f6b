"""`ganforge compare`: which of several runs is better, all measured on the same data in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from pickle import UnpicklingError

import torch
from rich.table import Table
from rich.text import Text

from ganforge.commands.measured import Bench, Entry, MeasureOptions, console_for_tables, entry_of
from ganforge.commands.side_by_side import drawn
from ganforge.data import Finite, Split
from ganforge.engine import Settings
from ganforge.engine.settings import FIXED_ON_RESUME
from ganforge.errors import RequestError, TrainingError
from ganforge.files import atomic_write, write_json
from ganforge.metrics import Section
from ganforge.metrics.comparing import Comparison, Measured, MixedError, names_of
from ganforge.metrics.comparing import compare as as_table
from ganforge.metrics.manifolds import ExtractorError
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
class CompareOptions(MeasureOptions):
    """Options of `compare`."""

    each: bool = False
    """A column for each run, also for those that differ in nothing but their seed; else these are one, with mean and deviation."""
    out: str = "compare"
    """What the files are called: NAME.md, NAME.json and NAME.png, or a folder for compare.md and so on."""


def compare_command(arguments: list[str], about: str) -> int:
    """Prints one table of all runs, and writes it as Markdown and JSON beside a picture; 1 where a run could not be measured."""
    runs = list(takewhile(lambda word: not word.startswith("-"), arguments))
    told = f"{about}\n\n" + "\n".join(f"  ganforge {line}" for line in _EXAMPLES.splitlines())
    options = parse(CompareOptions, arguments[len(runs) :], "compare RUN RUN ...", told)
    outs = _outs(options)
    entries, options = _entries(runs, options)
    comparison = _measure(entries, options, say=lambda line: print(line, file=sys.stderr))
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

    What a run keeps of an evaluation in just this way, of these weights, is taken; otherwise it is measured, and that is kept.
    RequestError where a folder is no run, or where the runs cannot be measured on the same data.
    """
    options = options or CompareOptions()
    return _measure(*_entries(runs, options))


def _entries(runs: Sequence[str | Path], options: CompareOptions) -> tuple[list[Entry], CompareOptions]:
    """The runs with what each is measured on, which is the same; and the options with the split of it."""
    if len(runs) < 2:
        raise RequestError("compare: name two runs or more, e.g. ganforge compare runs/small runs/large; evaluate measures one")
    folders = [RunFolder(Path(run)) for run in runs]
    names = names_of([folder.path for folder in folders])
    records = [RunRecord.read(folder.record) for folder in folders]
    for name, folder, record in zip(names, folders, records, strict=True):
        if not folder.weights.exists():
            raise RequestError(f"{folder.path}: has no {folder.weights.name} yet; train it to its end, or to a checkpoint, first")
        if record.spec.shape != records[0].spec.shape:
            raise RequestError(f"{names[0]} is of {records[0].spec}, {name} of {record.spec}: only runs of one shape are compared")
    if options.split is None:
        options = replace(options, split=_split_there(folders[0], options))
    entries = [entry_of(folder, options, name) for name, folder in zip(names, folders, strict=True)]
    for entry in entries:
        if entry.data != entries[0].data:
            there = [f"{each.name} on {each.record.data['source']!r}" for each in (entries[0], entry)]
            how = "give --data SOURCE to measure both on the same" if options.data is None else "it is cut, scaled or masked otherwise"
            raise RequestError(f"{there[0]} and {there[1]}: trained on different data, or read in different ways; {how}")
    return entries, options


def _split_there(folder: RunFolder, options: CompareOptions) -> Split:
    try:
        entry_of(folder, replace(options, split="test"))
    except RequestError:
        return "train"
    return "test"


def _measure(entries: Sequence[Entry], options: CompareOptions, say: Say | None = None) -> Comparison:
    """The table of all; where numbers of an earlier time are of another extractor than today's, those runs are measured anew."""
    bench = Bench.of(options)
    try:
        return _table(entries, bench, options.each, say)
    except MixedError:
        pass
    try:
        return _table(entries, bench, options.each, say, fresh=True)
    except MixedError as error:
        raise RequestError(f"{error}; give --features pixels, or labelled pictures for all with --labelled") from None


def _table(entries: Sequence[Entry], bench: Bench, each: bool, say: Say | None, fresh: bool = False) -> Comparison:
    """The table of all; with `fresh` no column is of an earlier evaluation."""
    measured, notes, options = [], list[str](), bench.options
    for number, entry in enumerate(entries, 1):
        costs, sections = _costs(entry), list[Section]()
        try:
            game = load(entry.folder.path, device=options.device)
            costs["parameters"] = sum(p.numel() for p in {p for player in game.players().values() for p in player.parameters()})
            evaluation = bench.evaluation(entry, game)
            found = None if fresh else evaluation.read()
            if found is None:
                if say is not None:
                    say(f"measuring {entry.name}, {number} of {len(entries)}")
                found = evaluation.sections()
                evaluation.keep(found)
            sections = found
        except ExtractorError:
            # It would make none for the others either.
            raise
        except (RequestError, TrainingError) as error:
            # One that has diverged does not hide the others.
            notes.append(f"{entry.name}: not measured: {error}")
        seed = entry.record.settings.get("seed", 0)
        measured.append(Measured(entry.name, sections, entry.data, entry.record.game, costs, _configuration(entry.record), seed))
    if not any(run.sections for run in measured):
        raise RequestError(notes[0])
    part = "" if not isinstance(entries[0].source, Finite) else f"{options.split} part, "
    about = f"{entries[0].source.name}, {part}{options.n} samples or pictures at most, seed {options.seed}"
    return as_table(measured, each, about, notes)


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
    console = console_for_tables()
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
