"""`ganforge data`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ganforge import pictures, zoo
from ganforge.batches import KINDS, Batch, ImageSpec
from ganforge.data import BUNDLED, Reading, Source, Split, contact_sheet, describe, open_source, served_kinds
from ganforge.data.cache import cache_root, clear_cache
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.options import parse


@dataclass(frozen=True)
class DataOptions:
    """Options of `data`."""

    kind: str | None = None
    """The batches to read the source as, e.g. Pairs; None: the richest that it shows itself."""
    split: Split = "train"
    """The pictures to train on, or those to test on."""
    out: str | None = None
    """Where to write a contact sheet, a PNG."""
    json: bool = False
    """As JSON, for scripts."""
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class ClearOptions:
    """Options of `data --clear`."""

    clear: bool = False
    """Remove all that ganforge keeps in the cache of decoded pictures."""
    cache: str | None = None
    """The folder of decoded pictures; None: $GANFORGE_CACHE or ~/.cache/ganforge."""


def data_command(arguments: list[str], about: str) -> int:
    """Prints what is in a source and which games can read it."""
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
    elif "--help" in arguments or "-h" in arguments:
        parse(DataOptions, arguments, "data SOURCE", f"{about}. Without a SOURCE, `ganforge data --clear [--cache DIR]` empties the cache.")
        return 0
    elif "--clear" in arguments:
        return _clear(parse(ClearOptions, arguments, "data", about))
    else:
        raise RequestError(f"data: name the source first, e.g. ganforge data digits; bundled are {', '.join(BUNDLED)}")
    options = parse(DataOptions, rest, f"data {name}", about)
    if options.kind not in (None, *KINDS):
        raise RequestError(f"--kind {options.kind}: there are {', '.join(KINDS)}")
    kind = KINDS[options.kind] if options.kind else None
    source = open_source(name, kinds=() if kind is None else (kind,), split=options.split, reading=options.reading)
    if kind is not None:
        source.require(kind)
    told = describe(source)
    served = {each.__name__ for each in served_kinds(source)}
    told["games"] = [entry.name for entry in zoo.catalogue().values() if served & set(entry.reads)]
    if options.out is not None:
        _draw(Path(options.out), source, kind)
        told["contact_sheet"] = options.out
    if options.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    console = Console(highlight=False, markup=False)
    for key, value in told.items():
        if value and key != "spec":
            console.print(f"{key.replace('_', ' '):14} {_in_words(value)}", soft_wrap=True)
    return 0


def _draw(path: Path, source: Source, kind: type[Batch] | None) -> None:
    shown = contact_sheet(source, kind)
    if isinstance(source.spec, ImageSpec):
        with atomic_write(path) as temporary:
            pictures.sheet(shown).save(temporary)
    else:
        pictures.portrait(path, shown.x, source.spec, source=source, judge=None)


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _clear(options: ClearOptions) -> int:
    root = cache_root(options.cache)
    if root is None:
        raise RequestError("data --clear --cache none: name the folder to clear, or leave --cache out")
    entries, freed = clear_cache(root)
    print(f"{root}: {entries} entries removed, {freed / 2**20:.1f} MiB freed")
    return 0
