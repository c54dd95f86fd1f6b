"""From what the user wrote to a shelf of encoded pictures."""

from __future__ import annotations

from pathlib import Path

from ganforge.data.cache import cache_root
from ganforge.data.folder import FolderShelf
from ganforge.data.hub import hub_shelf, is_saved, saved_shelf
from ganforge.data.reading import Reading
from ganforge.data.shelves import Shelf
from ganforge.data.tars import TarShelf, is_shards
from ganforge.data.zipped import ZipShelf


def find_shelf(text: str, reading: Reading) -> Shelf | None:
    """The pictures that `text` names: a folder, a zip, tar shards (a file, a pattern, a range), a saved data set, `hub:NAME[:SPLIT]`.

    None where it names nothing of these. RequestError where it does and cannot be read.
    """
    if text.startswith("hub:"):
        return hub_shelf(text)
    if is_shards(text):
        return TarShelf(text, cache_root(reading.cache))
    try:
        path = Path(text).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # A name too long to be one, or of an unknown user's home.
        return None
    if text and is_folder:
        return saved_shelf(path) if is_saved(path) else FolderShelf(path)
    return ZipShelf(path) if is_file and path.suffix.lower() == ".zip" else None
