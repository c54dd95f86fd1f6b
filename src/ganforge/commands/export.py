"""`ganforge export`: a trained game as an ONNX file, with a card that says what it is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ganforge.commands.given import free_file, run_first
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.card import card
from ganforge.use.export import Exported, check_packages, export
from ganforge.use.load import load


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    out: str
    """The .onnx file; beside it come a card of the same name, .md, and a picture of samples, .png."""
    task: Literal["translate", "upscale", "inpaint", "edit", "sample", "classify", "cluster", "encode"] | None = None
    """What the file does; None: the first of these that the game can."""
    way: str | None = None
    """Of a translation, such as b2a; None: the game's usual way."""
    bytes: bool = False
    """Pictures in and out as bytes, [n, H, W, C] from 0 to 255, instead of float32 [n, C, H, W] from -1 to 1."""
    force: bool = False
    """Overwrite files that exist."""


def export_command(arguments: list[str], about: str) -> int:
    """Writes the ONNX file of a run, compared with PyTorch, and its card."""
    run, rest = run_first(arguments, "export")
    options = parse(ExportOptions, rest, "export RUN", about)
    free_file(options.out, (".onnx",), options.force)
    check_packages()
    return export_run(load(run.path), run, options)


def export_run(game: Game, run: RunFolder, options: ExportOptions) -> int:
    """Writes the file, then its card and its picture; the exit code."""
    out, samples = Path(options.out), run.samples()
    card_file, picture = out.with_suffix(".md"), out.with_suffix(".png") if samples else None
    taken = next((path for path in (card_file, picture) if path and path.exists()), None)
    if taken and not options.force:
        raise RequestError(f"--out {out}: {taken} exists; --force overwrites it")
    exported = export(game, RunRecord.read(run.record).spec, out, options.task, options.way, options.bytes)
    with atomic_write(card_file) as temporary:
        text = card(run.path, type(game), exported, picture.name if picture else None)
        temporary.write_text(text, encoding="utf-8")
    if picture:
        with atomic_write(picture) as temporary:
            shutil.copyfile(samples[-1], temporary)
    print(_told(out, exported))
    print(f"{card_file}: what it is, and how it is used")
    return 0


def _told(out: Path, exported: Exported) -> str:
    inputs = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in exported.inputs.items())
    way = f" {exported.way}" if exported.way else ""
    return f"{out}: {exported.task}{way}, {inputs} to {exported.output}, {exported.mib:.2f} MiB, as PyTorch to {exported.difference:.1g}"
