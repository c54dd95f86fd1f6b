"""Which pictures a user means, and where the result of each goes."""

from __future__ import annotations

import glob
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ganforge.data.decode import SUFFIXES
from ganforge.data.folder import FolderShelf
from ganforge.data.shelves import readable, split_suffix
from ganforge.errors import RequestError
from ganforge.use.images import WRITTEN


@dataclass(frozen=True)
class Found:
    """The pictures that a user named: `names`, with "/", are their places within `root`. `many` where a folder or a pattern was named."""

    root: Path
    names: list[str]
    many: bool

    def file(self, name: str) -> Path:
        """Where the picture of this name is."""
        return self.root / name


@dataclass(frozen=True)
class Job:
    """One picture, its name among the others, and the files to be made of it."""

    file: Path
    name: str
    outs: tuple[Path, ...]

    @property
    def place(self) -> str:
        """The picture, for messages."""
        return readable(str(self.file))


def find(given: str) -> Found:
    """The picture of a file, those of a folder and below, or those that a pattern matches, sorted; RequestError where there is none."""
    path = Path(given)
    if path.is_dir():
        return Found(path, list(FolderShelf(path).names), True)
    if path.exists():
        return Found(path.parent, [path.name], False)
    if not glob.has_magic(given):
        raise RequestError(f"{given}: there is no such file or folder")
    fixed = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
    root = Path(*path.parts[:fixed])
    matches = [match for match in glob.glob(given, recursive=True) if split_suffix(match)[1] in SUFFIXES and Path(match).is_file()]  # noqa: PTH207, Path.glob cannot begin at a root
    if not matches:
        raise RequestError(f"{given}: no picture matches (.jpg, .png, .webp, ...)")
    return Found(root, sorted(Path(match).relative_to(root).as_posix() for match in matches), True)


def plan(found: Found, out: str, n: int = 1, force: bool = False, resume: bool = False) -> list[Job]:
    """A job for each picture, with `n` files each: a.png, or a_0.png, a_1.png, ...; the names within OUT are those within the root.

    OUT is a folder, or for a single picture also a .png or .jpg file. Pictures that lie in OUT themselves are left out. With `resume` so
    are those whose results are there. RequestError where a file is there already and `force` is not given, or would be its own picture.
    """
    names = _without(found, out)
    if _is_folder(found, out):
        targets = dict(zip(names, (Path(out) / target for target in _targets(names)), strict=True))
    else:
        targets = {names[0]: Path(out)}
    jobs = [Job(found.file(name), name, _numbered(targets[name], n)) for name in names]
    if resume:
        jobs = [job for job in jobs if not all(path.exists() for path in job.outs)]
    there = [path for job in jobs for path in job.outs if path.exists()]
    if there and not force and not resume:
        raise RequestError(f"--out: {readable(str(there[0]))} exists; --force overwrites it, --resume makes only what is not there yet")
    inputs = {job.file.resolve() for job in jobs} if there else set()
    own = next((path for path in there if path.resolve() in inputs), None)
    if own is not None:
        raise RequestError(f"--out {out}: {readable(str(own))} is one of the pictures to be read; give another place")
    return jobs


def _is_folder(found: Found, out: str) -> bool:
    path = Path(out)
    suffix = split_suffix(path.name)[1]
    if path.is_dir() or out.endswith("/"):
        return True
    if found.many and (path.exists() or suffix in SUFFIXES):
        raise RequestError(f"--out {out}: there are {len(found.names)} pictures; give a folder")
    if found.many or not (suffix or path.exists()):
        return True
    if suffix not in WRITTEN:
        raise RequestError(f"--out {out}: must end in {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}, or be a folder (end it in /)")
    return False


def _without(found: Found, out: str) -> list[str]:
    """The names but those of results of an earlier time, where OUT lies within the pictures' folder."""
    root, folder = found.root.resolve(), Path(out).resolve()
    if not found.many or root not in folder.parents:
        return found.names
    prefix = folder.relative_to(root).as_posix() + "/"
    names = [name for name in found.names if not name.startswith(prefix)]
    if not names:
        raise RequestError(f"--out {out}: holds all the pictures; give another folder")
    return names


def _targets(names: list[str]) -> list[str]:
    """A name in .png for each, all different, on file systems too that do not tell A.png from a.png."""
    stems = Counter(_folded(split_suffix(name)[0]) for name in names)
    taken: set[str] = set()
    targets = []
    for name in names:
        stem = split_suffix(name)[0]
        wanted = stem if stems[_folded(stem)] == 1 else name
        candidates = [wanted, *(f"{wanted}_{number}" for number in range(2, len(names) + 2))]
        target = next(each for each in candidates if _folded(each) not in taken)
        taken.add(_folded(target))
        targets.append(f"{target}.png")
    return targets


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(path: Path, n: int) -> tuple[Path, ...]:
    if n == 1:
        return (path,)
    digits = len(str(n - 1))
    return tuple(path.with_name(f"{path.stem}_{number:0{digits}}{path.suffix}") for number in range(n))
