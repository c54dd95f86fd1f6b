"""What the commands that use a run have in common: the run that is named first, and its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ganforge.batches import KINDS, ImageSpec
from ganforge.data import Reading, Source, Split, open_source
from ganforge.errors import RequestError
from ganforge.runs import RunFolder, RunRecord


def run_first(arguments: list[str], command: str) -> tuple[RunFolder, list[str]]:
    """The run folder, and the other arguments; RequestError where none is named."""
    if arguments and not arguments[0].startswith("-"):
        return RunFolder(Path(arguments[0])), arguments[1:]
    if "--help" in arguments or "-h" in arguments:
        return RunFolder(Path("RUN")), arguments
    raise RequestError(f"{command}: name the run folder first, e.g. ganforge {command} runs/dcgan-digits")


def source_of(run: RunFolder, data: str | None = None, split: Split = "train") -> Source:
    """What the run was trained on, or other data in the same shape."""
    record = RunRecord.read(run.record)
    reading = Reading.stored(record.data)
    if data is not None and isinstance(record.spec, ImageSpec):
        reading = replace(reading, size=f"{record.spec.width}x{record.spec.height}", channels=record.spec.channels)
    # Runs did not always say what they read; then their specification does.
    kind = record.data.get("kind") or ("Labelled" if isinstance(record.spec, ImageSpec) and record.spec.classes else None)
    return open_source(data or record.data["source"], kinds=(KINDS[kind],) if kind else (), split=split, reading=reading)


def at_least_one(option: str, value: int) -> None:
    """RequestError where it is not."""
    if value < 1:
        raise RequestError(f"{option} {value}: must be at least 1")
