"""`ganforge encode`, `classify` and `cluster`: pictures in, a table out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganforge.batches import ImageSpec
from ganforge.capabilities import Classifies, Clusters, Encodes, able
from ganforge.commands.apply import Fit
from ganforge.commands.each import Each
from ganforge.commands.given import about_pictures, free_file, image_spec, run_and_pictures
from ganforge.data.shelves import readable
from ganforge.errors import TrainingError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.options import parse
from ganforge.use.images import read_picture
from ganforge.use.jobs import Found, Job, find
from ganforge.use.load import load

_BATCH = 64


@dataclass(frozen=True)
class Filing:
    """How pictures are read, and what is done with a file that is there."""

    fit: Fit = "crop"
    """How a picture comes to the run's size: cut, padded with white, or stretched."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite a file that exists."""


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`."""

    out: str
    """A .csv file (the name of the picture, its numbers), an .npz file of `codes` and `files`, or an .npy file of the codes alone."""
    filing: Filing = field(default_factory=Filing)


@dataclass(frozen=True)
class ClassifyOptions:
    """Options of `classify`."""

    out: str | None = None
    """A .csv file: picture, class, its probability, and the probability of each class; None: print the first three."""
    filing: Filing = field(default_factory=Filing)


@dataclass(frozen=True)
class ClusterOptions:
    """Options of `cluster`."""

    out: str | None = None
    """A .csv file: picture, group, its probability, and the probability of each group; None: print the first three."""
    filing: Filing = field(default_factory=Filing)


def encode_command(arguments: list[str], about: str) -> int:
    """Writes the codes of pictures."""
    run, given, rest = run_and_pictures(arguments, "encode")
    options = parse(EncodeOptions, rest, "encode RUN IN", about_pictures(about, "encode runs/aae photos --out codes.csv"))
    return encode_pictures(load(run.path, device=options.filing.device), image_spec(run), given, options)


def classify_command(arguments: list[str], about: str) -> int:
    """Writes the classes of pictures."""
    run, given, rest = run_and_pictures(arguments, "classify")
    options = parse(ClassifyOptions, rest, "classify RUN IN", about_pictures(about, "classify runs/sgan photos --out classes.csv"))
    return classify_pictures(load(run.path, device=options.filing.device), image_spec(run), given, options)


def cluster_command(arguments: list[str], about: str) -> int:
    """Writes the groups of pictures."""
    run, given, rest = run_and_pictures(arguments, "cluster")
    options = parse(ClusterOptions, rest, "cluster RUN IN", about_pictures(about, "cluster runs/infogan photos --out groups.csv"))
    return cluster_pictures(load(run.path, device=options.filing.device), image_spec(run), given, options)


def encode_pictures(game: Game, spec: ImageSpec, given: str, options: EncodeOptions) -> int:
    """The exit code; the file holds the sound pictures in the order of their names."""
    encoder = able(game, Encodes)
    out = free_file(options.out, (".csv", ".npy", ".npz"), options.filing.force)
    names, codes, code = _told(game, spec, find(given), options.filing.fit, encoder.encode, "encoding")
    if out.suffix == ".csv":
        numbers = map(str, range(codes.shape[1]))
        _write(out, ["file", *numbers], [[name, *map(repr, row)] for name, row in zip(names, codes.tolist(), strict=True)])
    else:
        with atomic_write(out) as temporary:
            if out.suffix == ".npy":
                np.save(temporary, codes.numpy())
            else:
                np.savez(temporary, codes=codes.numpy(), files=np.array(list(map(readable, names))))
    print(f"{len(names)} pictures, {codes.shape[1]} numbers each: {out}")
    return code


def classify_pictures(game: Game, spec: ImageSpec, given: str, options: ClassifyOptions) -> int:
    """The exit code; classes are called as in the data that the run was trained on."""
    return _sorted(game, spec, given, options.out, options.filing, able(game, Classifies).classify, "class", spec.classes)


def cluster_pictures(game: Game, spec: ImageSpec, given: str, options: ClusterOptions) -> int:
    """The exit code; groups are called by their numbers, since what they have in common nobody has told the game."""
    return _sorted(game, spec, given, options.out, options.filing, able(game, Clusters).cluster, "group", ())


def _sorted(
    game: Game,
    spec: ImageSpec,
    given: str,
    out: str | None,
    filing: Filing,
    probabilities_of: Callable[[Tensor], Tensor],
    noun: str,
    labels: Sequence[str],
) -> int:
    path = None if out is None else free_file(out, (".csv",), filing.force)
    names, probabilities, code = _told(game, spec, find(given), filing.fit, probabilities_of, f"telling the {noun}")
    labels = labels or [str(number) for number in range(probabilities.shape[1])]
    rows = []
    for name, row in zip(names, probabilities.tolist(), strict=True):
        best = max(range(len(row)), key=row.__getitem__)
        rows.append([name, labels[best], f"{row[best]:.6f}", *(f"{each:.6f}" for each in row)])
    if path is not None:
        _write(path, ["file", noun, "probability", *labels], rows)
        print(f"{len(rows)} pictures: {path}")
    else:
        for name, label, probability, *_ in rows:
            print(f"{readable(name)}  {label}  {float(probability):.3f}")
    return code


def _told(game: Game, spec: ImageSpec, found: Found, fit: Fit, of: Callable[[Tensor], Tensor], verb: str) -> tuple[list[str], Tensor, int]:
    """The names of the sound pictures, what `of` says of each, [n, k], and the exit code; TrainingError where none is sound."""
    each, names, told = Each(verb), [], []
    waiting: list[Tensor] = []

    def flush() -> None:
        if not waiting:
            return
        try:
            with torch.no_grad():
                told.append(of(torch.cat(waiting).to(game.device)).float().cpu())
        except RuntimeError as error:
            raise TrainingError(f"{verb}: {error}") from error
        waiting.clear()

    def work(job: Job) -> None:
        waiting.append(read_picture(job.file, spec.channels, spec.shape[1:], fit))
        names.append(job.name)
        if len(waiting) == _BATCH:
            flush()

    code = each.run([Job(found.file(name), name, ()) for name in found.names], work)
    flush()
    if not told:
        raise TrainingError("none of the pictures could be read")
    return names, torch.cat(told), code


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    # Names of files that are no UTF-8 are written as the bytes that they are.
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header, *rows])
