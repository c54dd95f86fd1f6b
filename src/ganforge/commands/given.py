"""What the commands that use a run have in common: the run that is named first, its pictures or data, and where results go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ganforge.batches import KINDS, Images, ImageSpec
from ganforge.data import Reading, Source, Split, open_source
from ganforge.data.shelves import readable
from ganforge.errors import RequestError
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.load import HUB, folder_of

_LONGEST = 600  # seconds of an animation, whose pictures are all in memory before the first is written


def about_pictures(about: str, examples: str, also: str = "") -> str:
    """What the help of a command that takes pictures says above its options."""
    where = "IN is a picture, a folder of pictures (and those below it), or a pattern in quotes, 'photos/*.jpg'."
    lines = "\n".join(f"  ganforge {line}" for line in examples.splitlines())
    return f"{about}\n\n{where} {also}".rstrip() + f"\n{lines}"


@dataclass(frozen=True)
class Writing:
    """Where a command computes, and what it does with files that are there."""

    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    resume: bool = False
    """Make only the files that are not there yet."""
    force: bool = False
    """Overwrite files that exist."""


def run_first(arguments: list[str], command: str) -> tuple[RunFolder, list[str]]:
    """The run folder, and the other arguments; RequestError where none is named."""
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
        return folder_of(name) if name.startswith(HUB) else RunFolder(Path(name)), rest
    if "--help" in arguments or "-h" in arguments:
        return RunFolder(Path("RUN")), arguments
    raise RequestError(f"{command}: name the run folder first, e.g. ganforge {command} runs/dcgan-digits")


def run_and_pictures(arguments: list[str], command: str) -> tuple[RunFolder, str, list[str]]:
    """The run folder, the file, folder or pattern of pictures after it, and the other arguments; RequestError where one is missing."""
    run, rest = run_first(arguments, command)
    if rest and not rest[0].startswith("-"):
        return run, rest[0], rest[1:]
    if "--help" in rest or "-h" in rest:
        return run, "IN", rest
    raise RequestError(f"{command}: name the pictures after the run, e.g. ganforge {command} {run.path} photos --out results")


def image_spec(run: RunFolder) -> ImageSpec:
    """The pictures that the run's game was made for; RequestError where it reads points."""
    spec = RunRecord.read(run.record).spec
    if not isinstance(spec, ImageSpec):
        raise RequestError(f"{run.path}: the run is of {spec}, not of pictures")
    return spec


def source_of(run: RunFolder, data: str | None = None) -> Source:
    """What the run was trained on, as it was read then, or other data read so."""
    return opened(RunRecord.read(run.record), data, chance=True)


def found_source(run: RunFolder) -> Source | None:
    """What the run was trained on, if it is still there: a published run has none."""
    try:
        return source_of(run)
    except RequestError:
        return None


def opened(
    record: RunRecord,
    data: str | None,
    split: Split = "train",
    size: str | None = None,
    kinds: tuple[type[Images], ...] = (),
    chance: bool = False,
) -> Source:
    """A SOURCE (None: what the run was trained on) in the shape of the run, whole pictures where another `size` is asked for.

    Without `chance` what training makes random is left out, as a measure must not depend on it. RequestError where it has another shape.
    """
    data = data or record.data.get("source")
    if not data:
        raise RequestError("the run's record names no data; give --data")
    reading = Reading.stored(record.data)
    if not chance:
        reading = replace(reading, flip=False, jitter=0)
    if isinstance(record.spec, ImageSpec):
        reading = replace(reading, size=size or f"{record.spec.width}x{record.spec.height}", channels=record.spec.channels)
    if size is not None:
        reading = replace(reading, fit="crop")
    # Runs did not always say what they read; then their specification does.
    kind = record.data.get("kind") or ("Labelled" if isinstance(record.spec, ImageSpec) and record.spec.classes else None)
    source = open_source(data, kinds=kinds or ((KINDS[kind],) if kind else ()), split=split, reading=reading)
    if type(source.spec) is not type(record.spec) or (size is None and source.spec.shape != record.spec.shape):
        raise RequestError(f"data {data!r} is of {source.spec}, the run of {record.spec}")
    return source


def at_least_one(option: str, value: int) -> None:
    """RequestError where it is not."""
    if value < 1:
        raise RequestError(f"{option} {value}: must be at least 1")


def free_file(out: str | Path, suffixes: tuple[str, ...], force: bool, option: str = "--out") -> Path:
    """Where a command writes a file of its own.

    RequestError where that ends in none of the suffixes, exists and is not to be overwritten, or cannot be made.
    """
    path = Path(out)
    if path.suffix.lower() not in suffixes:
        raise RequestError(f"{option} {out}: must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise RequestError(f"{option} {out}: is a folder; name a file")
    if path.exists() and not force:
        raise RequestError(f"{option} {out}: exists; --force overwrites it")
    free_folder(path.parent, option)
    return path


def free_folder(out: Path, option: str = "--out") -> Path:
    """A folder in which a command writes; RequestError where a file is in its way, or it cannot be written to."""
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise RequestError(f"{option} {readable(str(out))}: {readable(str(there))} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(f"{option} {readable(str(out))}: {readable(str(there))} cannot be written to")
    return out


def latents_alone(latents: str | None, pick: tuple[str, ...], others: Mapping[str, object] | None = None) -> None:
    """RequestError where latents are named, and with a value in `others`, option by option, what else would say which; or where some are
    picked, and of no file."""
    other = next((name for name, value in (others or {}).items() if value), None)
    if latents is not None and other is not None:
        raise RequestError(f"--latents and {other}: the file says which latents; leave {other} out")
    if latents is None and pick:
        raise RequestError("--pick: chooses among --latents; name their file too")


def lasting(seconds: float) -> None:
    """RequestError where an animation cannot last so long."""
    if not 0 < seconds <= _LONGEST:
        raise RequestError(f"--seconds {seconds:g}: an animation lasts longer than 0 and {_LONGEST} at most")
