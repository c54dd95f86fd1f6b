"""Places: one part of a SOURCE, its pictures split into those to train on and those to test on, and the files beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial

import numpy as np

from ganforge.data.layouts.albums import Album, Files
from ganforge.data.layouts.tables import SPLITS, Beside, Lookup, files_beside, splits_by_table
from ganforge.data.reading import Split
from ganforge.data.shelves import Shelf, kinds_of, listed, readable
from ganforge.errors import RequestError

# train, trainA, train_B, train2014: a split, whose it is, and COCO's year.
_FOLDER = re.compile(rf"({'|'.join(SPLITS)})(?:20\d\d)?[_-]?([ab])?", re.IGNORECASE)


class Place:
    """What a user named. `albums` make the pictures of each split: "train", and "val" or "test" where there are such."""

    def __init__(
        self,
        text: str,
        albums: Mapping[str, Callable[[], Album]],
        notes: Sequence[str] = (),
        beside: Beside | None = None,
        paths: Sequence[str] = (),
    ) -> None:
        self.text = text
        self.notes = list(notes)
        self.paths = paths
        """How the pictures of all splits are named within the whole; none for arrays."""
        self.beside = beside
        """The files among the pictures that are none, by name; None for what is no folder of files."""
        self._albums = albums
        self._opened: dict[str, Album] = {}

    @classmethod
    def of_shelf(cls, text: str, shelf: Shelf) -> Place:
        """The pictures of a shelf, split by the names of folders, or by a table that lies there; else all are to train on."""
        beside = files_beside(shelf)
        splits, names, notes = split_by_folders(text, shelf.names)
        if not splits:
            splits = splits_by_table(beside or {}, shelf.names) or ["train"] * len(names)
            if unknown := splits.count(""):
                notes.append(f"{unknown} pictures are not served, the table calls their split neither train, val nor test")

        def album(split: str) -> Album:
            chosen = np.flatnonzero([each == split for each in splits])
            return Files(shelf, chosen, [names[number] for number in chosen])

        albums = {split: partial(album, split) for split in SPLITS.values() if split in splits}
        notes = [*([] if beside else shelf.notes), *notes]
        if beside:
            notes.append(f"{len(beside)} files beside the pictures ({kinds_of(beside)})")
        return cls(text, albums, notes, beside, shelf.names)

    def album(self, split: Split) -> Album:
        """The pictures to train on or to test on (those called test, else those called val); RequestError where there are none."""
        name = next((name for name in (["train"] if split == "train" else ["test", "val"]) if name in self._albums), None)
        if name is None:
            where = "folders test/ or val/ beside train/, arrays test_images, a column split in a table"
            raise RequestError(f"data {self.text!r}: has no part to {'train' if split == 'train' else 'test'} on; such are {where}")
        return self._album(name)

    def _album(self, name: str) -> Album:
        if name not in self._opened:
            self._opened[name] = self._albums[name]()
        return self._opened[name]

    @cached_property
    def lookup(self) -> Lookup:
        """From how a table names a picture to its path."""
        return Lookup(self.paths)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many pictures each split has, unread ones included; empty where nothing is split."""
        return {} if set(self._albums) == {"train"} else {name: len(self._album(name)) for name in self._albums}


def split_by_folders(text: str, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The split of each picture by train/, val/ and test/ folders, its name without them, and notes; no splits where there are no such.

    trainA/x.jpg (CycleGAN) is A/x.jpg of train; so is A/train/x.jpg. What lies beside these folders is of the split "". RequestError
    where there is a part to test on and none to train on.
    """
    found = list(names)
    while found:
        tops = {name.partition("/")[0] for name in found if "/" in name}
        loose = [name for name in found if "/" not in name]
        if tops and all(_FOLDER.fullmatch(top) for top in tops):
            return _taken(text, found)
        if not loose and {top.lower() for top in tops} == {"a", "b"}:
            turned = [
                "/".join([second + top, *rest])
                for top, second, *rest in (name.split("/") if name.count("/") > 1 else [name, ""] for name in found)
            ]
            if all(_FOLDER.fullmatch(name.partition("/")[0]) for name in turned):
                return _taken(text, turned)
        if loose or len(tops) != 1:
            break
        found = [name.partition("/")[2] for name in found]
    return [], list(names), []


def _taken(text: str, names: list[str]) -> tuple[list[str], list[str], list[str]]:
    splits, rest, loose = [], [], []
    for name in names:
        top, _, within = name.partition("/")
        match = _FOLDER.fullmatch(top) if within else None
        if match is None:
            loose.append(readable(name))
        splits.append("" if match is None else SPLITS[match[1].lower()])
        rest.append(name if match is None else f"{match[2].upper()}/{within}" if match[2] else within)
    if "train" not in splits:
        held = ", ".join(sorted({f"{name.partition('/')[0]}/" for name in names if "/" in name}))
        raise RequestError(
            f"data {text!r}: holds {held} but no train/ to train on; name the folder that is meant, {text}/{held.split(',')[0]}"
        )
    return splits, rest, [f"{len(loose)} pictures are not served, they lie beside train/: {listed(loose)}"] if loose else []
