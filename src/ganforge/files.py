"""Files that are whole or absent: a kill at any moment leaves what was there before."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Asked for once, at import: to ask is to set it, which threads would notice.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`, with its suffix; renamed over `path` when the block ends well, removed when it does not.

    `durable` waits for the disk, so that the new file survives a power cut too; what is renewed each second does not need that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}{path.suffix}")
    try:
        yield temporary
        # Some writers make files that only their owner reads; a run is shared.
        temporary.chmod(0o666 & ~_UMASK)
        if durable:
            flush_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Waits until the file's contents, or the directory's entries, would survive a power cut."""
    # Windows flushes only what may be written, and directories not at all.
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Writes human-readable JSON, atomically."""
    with atomic_write(path, durable) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
