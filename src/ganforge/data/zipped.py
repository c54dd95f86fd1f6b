"""A zip of pictures, read without unpacking it."""

from __future__ import annotations

import io
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from ganforge.data.decode import SUFFIXES, BadPictureError
from ganforge.data.shelves import Shelf, hidden, kinds_of, split_suffix
from ganforge.errors import RequestError

_LARGEST = 2**29  # bytes of one picture unpacked; a few kilobytes of a zip can promise terabytes
_ENCRYPTED = 0x1


class ZipShelf(Shelf):
    """The pictures in the zip file `path`, sorted by name, without the top folder that holds them all, if there is one.

    Hidden files are left out, others counted in the notes. A zip within the zip is not opened. RequestError where the file is no zip,
    holds no picture, or one that is encrypted.
    """

    def __init__(self, path: Path) -> None:
        self.origin = str(path)
        self.identity = str(path.resolve())
        try:
            # An open file, not a path: then no thread's closing of a member can close the archive.
            file = path.open("rb")
            weakref.finalize(self, file.close)
            self._archive = zipfile.ZipFile(file)
            self._mtime = path.stat().st_mtime_ns
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise RequestError(f"{path}: not a zip file, or one that was cut short ({error})") from None
        # Where a name comes twice the last one counts, as in every unpacker.
        infos = {info.filename: info for info in self._archive.infolist() if not info.is_dir() and not hidden(info.filename)}
        names = sorted(name for name in infos if split_suffix(name)[1] in SUFFIXES)
        others = sorted(infos.keys() - set(names))
        if not names:
            hint = "; unpack it: a zip within a zip is not read" if any(split_suffix(name)[1] == ".zip" for name in others) else ""
            raise RequestError(f"{path}: no picture found (.jpg, .png, .webp, ...); it holds {kinds_of(others) or 'no file'}{hint}")
        for name in names:
            if infos[name].flag_bits & _ENCRYPTED:
                raise RequestError(f"{path}: {name} is encrypted; unpack the zip with its password, and give the folder")
        tops = {name.partition("/")[0] for name in names}
        top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in names) else ""
        self.names = [name.removeprefix(top) for name in names]
        self.others = [name.removeprefix(top) for name in others]
        self.notes = [f"{len(others)} files that are no pictures ignored ({kinds_of(others)})"] if others else []
        self._infos = [infos[name] for name in names]
        self._others = {name.removeprefix(top): infos[name] for name in others}

    def open(self, number: int) -> BinaryIO:
        """The member, unpacked into memory."""
        return io.BytesIO(self._bytes(self._infos[number], self.place(number)))

    def _bytes(self, info: zipfile.ZipInfo, place: str) -> bytes:
        if info.file_size > _LARGEST:
            raise BadPictureError(place, f"{info.file_size} bytes, more than {_LARGEST}")
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadPictureError(place, f"damaged in the zip ({error})") from None

    def stamp(self, number: int) -> tuple[int, int]:
        """(bytes of the member, when the zip was written, moved by the member's check sum)."""
        return self._infos[number].file_size, self._mtime ^ self._infos[number].CRC

    def read_other(self, name: str) -> bytes:
        """The member."""
        if name not in self._others:
            return super().read_other(name)
        return self._bytes(self._others[name], f"{self.origin}/{name}")
