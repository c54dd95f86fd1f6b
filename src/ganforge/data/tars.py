"""WebDataset shards: uncompressed tar files, read at any place without unpacking them."""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import json
import math
import re
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ganforge.data.decode import SUFFIXES
from ganforge.data.shelves import Shelf, hidden, kinds_of, readable, split_suffix
from ganforge.errors import RequestError
from ganforge.files import write_json

_RULES = "1"  # part of the key of a kept index
_MOST = 1_000_000  # shards that one pattern names: more are a slip of the hand, and take all memory
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class _Shard:
    """Where the members of a tar file lie: `names` sorted, `places` [n, 2] the (offset, bytes) of each."""

    path: Path
    mtime_ns: int
    names: list[str]
    places: NDArray[np.int64]

    def find(self, name: str) -> int | None:
        """The number of a member."""
        at = bisect.bisect_left(self.names, name)
        return at if at < len(self.names) and self.names[at] == name else None

    def read(self, member: int) -> bytes:
        """The bytes of a member; the file is opened anew, so that no number of shards or threads exhausts the open files."""
        offset, size = self.places[member].tolist()
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def pictures(self) -> list[int]:
        """Numbers of the members that are pictures, as they lie in the file.

        Members with one name up to the first dot are a sample, as WebDataset has it; where it holds KEY.jpg, KEY.mask.png lies beside.
        """
        found = [at for at, name in enumerate(self.names) if split_suffix(name)[1] in SUFFIXES and not hidden(name)]
        plain = {key for key, ending in map(_sample, (self.names[at] for at in found)) if "." not in ending}
        chosen = [at for at in found if _sample(self.names[at])[0] not in plain or "." not in _sample(self.names[at])[1]]
        return sorted(chosen, key=lambda at: int(self.places[at, 0]))


class TarShelf(Shelf):
    """The pictures of the shards that `text` names: a .tar file, a pattern (`shards/*.tar`) or a range (`shards/{000..010}.tar`).

    Where the members lie is read once, and kept in the folder `cache` if one is given. RequestError where a shard is missing, damaged
    or compressed, or where none holds a picture.
    """

    def __init__(self, text: str, cache: Path | None = None) -> None:
        paths = _expanded(text)
        self.origin = text
        self._shards = [_indexed(path, cache) for path in paths]
        self.identity = repr([str(path.resolve()) for path in paths])
        chosen = [shard.pictures() for shard in self._shards]
        self.names = [shard.names[at] for shard, members in zip(self._shards, chosen, strict=True) for at in members]
        if not self.names:
            held = kinds_of(name for shard in self._shards for name in shard.names)
            raise RequestError(f"{text}: no picture found (.jpg, .png, .webp, ...); the shards hold {held or 'no file'}")
        self.runs = tuple(len(members) for members in chosen if members)
        self.notes = [f"{len(paths)} shards"] if len(paths) > 1 else []
        self._member = np.array([at for members in chosen for at in members], dtype=np.int64)
        self._shard = np.repeat(np.arange(len(chosen)), [len(members) for members in chosen])

    def _of(self, number: int) -> tuple[_Shard, int]:
        return self._shards[self._shard[number]], int(self._member[number])

    def open(self, number: int) -> BinaryIO:
        """The member, in memory."""
        shard, member = self._of(number)
        return io.BytesIO(shard.read(member))

    def stamp(self, number: int) -> tuple[int, int]:
        """(bytes of the member, when the shard was written)."""
        shard, member = self._of(number)
        return int(shard.places[member, 1]), shard.mtime_ns

    def place(self, number: int) -> str:
        """Shard and member."""
        return readable(f"{self._of(number)[0].path}/{self.names[number]}")

    def sidecar(self, number: int, suffix: str) -> bytes | None:
        """The member of the same sample with this suffix: 0001.cls of 0001.jpg, and of 0001.left.jpg."""
        shard, _ = self._of(number)
        name = self.names[number]
        for key in (split_suffix(name)[0], _sample(name)[0]):
            member = shard.find(key + suffix)
            if member is not None:
                return shard.read(member)
        return None


def is_shards(text: str) -> bool:
    """Whether `text` names tar files."""
    return bool(re.search(r"\.(tar|tgz|tar\.\w+)$", text))


def _expanded(text: str) -> list[Path]:
    """The paths that `text` names, all of them files."""
    if not text.endswith(".tar"):
        raise RequestError(f"{text}: compressed shards cannot be read at any place; unpack them to .tar")
    choices: list[Sequence[str]] = []
    counts = [int(last) - int(first) + 1 for first, last in _RANGE.findall(text)]
    if not all(0 < count <= _MOST for count in counts) or math.prod(counts) > _MOST:
        raise RequestError(f"{text}: names {math.prod(max(0, count) for count in counts)} shards; a range counts up, to 1,000,000 at most")
    for piece in re.split(r"(\{\d+\.\.\d+\})", text):
        limits = _RANGE.fullmatch(piece)
        if limits is None:
            choices.append([piece])
            continue
        first, last = limits.groups()
        choices.append([str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)])
    named = [Path("".join(pieces)).expanduser() for pieces in itertools.product(*choices)]
    paths = [path for name in named for path in ([name] if name.is_file() else _matching(name) or [name])]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise RequestError(f"{text}: {len(missing)} of {len(paths)} shards are missing, the first {missing[0]}")
    return paths


def _matching(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    return sorted(anchor.glob(str(pattern.relative_to(anchor))))


def _indexed(path: Path, cache: Path | None) -> _Shard:
    stat = path.stat()
    key = hashlib.sha256(repr((_RULES, str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode("utf-8", "backslashreplace"))
    kept = None if cache is None else cache / f"shard-{key.hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if kept is not None:
            found = json.loads(kept.read_bytes())
            return _Shard(path, stat.st_mtime_ns, list(found["names"]), np.array(found["places"], dtype=np.int64).reshape(-1, 2))
    names, places = _members(path)
    if kept is not None:
        with suppress(OSError):  # A cache that cannot be written costs time at the next start, and nothing else.
            write_json(kept, {"shard": readable(str(path)), "names": names, "places": places}, durable=False)
    return _Shard(path, stat.st_mtime_ns, names, np.array(places, dtype=np.int64).reshape(-1, 2))


def _members(path: Path) -> tuple[list[str], list[tuple[int, int]]]:
    """Names of the files in a tar file, sorted, and the (offset, bytes) of each."""
    try:
        with tarfile.open(path, "r:") as archive:
            found = {member.name: (member.offset_data, member.size) for member in archive if member.isreg()}
            # tarfile takes garbage or a missing rest for the end.
            with path.open("rb") as file:
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise ValueError("the mark of its end is missing")
    except (OSError, tarfile.TarError, ValueError) as error:
        raise RequestError(f"{path}: not an uncompressed tar file, or one that was cut short ({error})") from None
    names = sorted(found)
    return names, [found[name] for name in names]


def _sample(name: str) -> tuple[str, str]:
    """A member's sample and the rest: up to the first dot of the last part of the name."""
    folder, _, last = name.rpartition("/")
    key, _, ending = last.partition(".")
    return (f"{folder}/{key}" if folder else key), ending
