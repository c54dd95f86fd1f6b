"""`ganforge data`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ganforge import pictures, zoo
from ganforge.data import BUNDLED, contact_sheet_images, describe, open_source
from ganforge.errors import RequestError
from ganforge.options import parse


@dataclass(frozen=True)
class DataOptions:
    """Options of `data`."""

    size: int | None = None
    """Side of the pictures; None: the source's own."""
    channels: int | None = None
    """1 (grey) or 3 (RGB); None: the source's own."""
    workers: int = 0
    """Threads that decode pictures; 0: one per core."""
    strict: bool = False
    """Stop at the first bad picture instead of skipping and counting it."""
    out: str | None = None
    """Where to write a contact sheet, a PNG."""
    json: bool = False
    """As JSON, for scripts."""


def data_command(arguments: list[str], about: str) -> int:
    """Prints what is in a source and which games can read it."""
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
    elif "--help" in arguments or "-h" in arguments:
        parse(DataOptions, arguments, "data SOURCE", about)
        return 0
    else:
        raise RequestError(f"data: name the source first, e.g. ganforge data digits; bundled are {', '.join(BUNDLED)}")
    options = parse(DataOptions, rest, f"data {name}", about)
    source = open_source(name, size=options.size, channels=options.channels, workers=options.workers, strict=options.strict)
    told = describe(source)
    kinds = {kind.__name__ for kind in source.kinds}
    told["games"] = [entry.name for entry in zoo.catalogue().values() if kinds & set(entry.reads)]
    if options.out is not None:
        path = Path(options.out)
        pictures.portrait(path, contact_sheet_images(source), source.spec, source=source, judge=None)
        told["contact_sheet"] = str(path)
    if options.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    console = Console(highlight=False, markup=False)
    for key, value in told.items():
        if value not in (None, [], {}) and key != "spec":
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            console.print(f"{key.replace('_', ' '):14} {shown}", soft_wrap=True)
    return 0
