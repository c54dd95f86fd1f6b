"""The pictures of a collection that are nearest to given ones, to generated ones, or to what a sentence says."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import Captioned, Images, ImageSpec, Labelled, images_from_bytes
from ganforge.capabilities import Encodes, able
from ganforge.data import Finite, Reading, Source, open_source
from ganforge.data.cache import cache_root
from ganforge.data.decode import SUFFIXES
from ganforge.data.decoding import Recipe
from ganforge.data.finding import find_shelf
from ganforge.data.fit import Fit
from ganforge.data.layouts.images import Pictures
from ganforge.data.pixels import read_pixels
from ganforge.data.shelves import Shelf, split_suffix
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.use.jobs import Found, find

if TYPE_CHECKING:
    from ganforge.metrics.manifolds import Extractor, Features

_CHUNK = 64
_CPU = torch.device("cpu")

Report = Callable[[int, int], None]
"""Told after each batch how many pictures are done, of how many."""


def nearest(query: Tensor, features: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """For each row of `query` [q, d] the `n` nearest of `features` [m, d], or all m, the nearest first: (indices, distances), [q, n].

    Distances are Euclidean, and exactly 0 between equal rows; of rows as far away the first comes first.
    """
    # By matrix products it would be quicker, and a copy some hundredths away from itself.
    away = torch.cdist(query.to(features.device).float(), features.float(), compute_mode="donot_use_mm_for_euclid_dist")
    distances, indices = away.sort(dim=1, stable=True)
    return indices[:, :n], distances[:, :n]


@dataclass(frozen=True)
class Collection:
    """Pictures to look through. `names` [m] are those of the sound ones, `bad` says of each other, by its place, why it is left out.

    `images` gives those of some numbers, [n] int64 on the CPU, as [n, C, H, W] in [-1, 1], in the shape in which they are compared;
    `picture` one of them, [1, C, h, w], for people to look at, at this (height, width) where it comes from a file.
    """

    names: Sequence[str]
    bad: dict[str, str]
    images: Callable[[Tensor], Tensor]
    picture: Callable[[int, tuple[int, int]], Tensor]

    def features(self, extractor: Extractor, report: Report | None = None) -> Tensor:
        """What it makes of all pictures, [m, d], a few at a time: the pictures themselves need no memory. Kept in the cache."""
        # Means of pixels are made as quickly as they are read.
        path = None if extractor.name == "pixels" else self._place(extractor.identity)
        if path is not None:
            with suppress(OSError, SafetensorError, KeyError):
                return load_file(path)["rows"]
        rows = []
        for chunk in self._chunks():
            rows.append(torch.from_numpy(extractor.features(self.images(chunk))))
            if report is not None:
                report(int(chunk[-1]) + 1, len(self.names))
        made = torch.cat(rows)
        if path is not None:
            # Without a cache they are made again next time.
            with suppress(OSError), atomic_write(path) as temporary:
                save_file({"rows": made}, temporary)
        return made

    def _chunks(self) -> Sequence[Tensor]:
        chunks: Sequence[Tensor] = torch.arange(len(self.names)).split(_CHUNK)
        return chunks

    def _place(self, identity: str) -> Path | None:
        """Where features of these pictures are kept: told by the pixels, which are sooner read than understood."""
        root, digest = cache_root(), hashlib.sha256(repr(("collection", identity)).encode())
        for chunk in self._chunks() if root else ():
            digest.update(self.images(chunk).numpy().tobytes())
        return root and root / f"features-{digest.hexdigest()}.safetensors"


def open_collection(text: str, spec: ImageSpec, fit: Fit = "crop") -> Collection:
    """The pictures that `text` names (a picture, a pattern, any SOURCE of pictures), each brought to the shape of `spec` as `fit` says.

    Files are decoded once, in parallel, into the cache, and mapped from there. RequestError where there is no picture to read.
    """
    reading = Reading(size=f"{spec.width}x{spec.height}", channels=spec.channels, fit=fit)
    if glob.has_magic(text) or split_suffix(text)[1] in SUFFIXES:
        return _of_files(find_shelf(text, reading) or _Named(find(text)), reading, spec)
    shelf = find_shelf(text, reading)
    return _of_arrays(text, reading) if shelf is None else _of_files(shelf, reading, spec)


def _of_files(shelf: Shelf, reading: Reading, spec: ImageSpec) -> Collection:
    read = read_pixels(shelf, reading)
    if read.pixels.slow:
        raise RequestError(f"{shelf.origin}: {len(shelf)} pictures need a cache; let GANFORGE_CACHE be a folder with room for them")
    numbers = read.numbers.tolist()

    def picture(number: int, shape: tuple[int, int]) -> Tensor:
        pixels = Recipe(*shape, spec.channels, reading.fit).decode(shelf, numbers[number])
        return images_from_bytes(torch.tensor(pixels)[None])

    return Collection(
        [shelf.names[number] for number in numbers],
        {shelf.place(number): why for number, why in read.skipped.items()},
        lambda indices: images_from_bytes(torch.from_numpy(read.pixels.take(indices.numpy()))),
        picture,
    )


def _of_arrays(text: str, reading: Reading) -> Collection:
    source = open_source(text, kinds=(Images,), reading=reading)
    if not isinstance(source, Finite) or not isinstance(source.spec, ImageSpec):
        raise RequestError(f"data {text!r} are points; a collection is of pictures")
    names = [str(number) for number in range(source.count)]
    return Collection(
        names,
        {},
        lambda indices: source.gather(Images, indices, _CPU).x,
        lambda number, _: source.gather(Images, torch.tensor([number]), _CPU).x,
    )


class _Named(Shelf):
    """The pictures of a pattern, or a single one."""

    def __init__(self, found: Found) -> None:
        self.origin = str(found.root)
        self.identity = str(found.root.resolve())
        self.names = found.names
        self.notes = []

    def open(self, number: int) -> BinaryIO:
        return Path(self.origin, self.names[number]).open("rb")

    def stamp(self, number: int) -> tuple[int, int]:
        stat = Path(self.origin, self.names[number]).stat()
        return stat.st_size, stat.st_mtime_ns


def extractor_for(game: Game, spec: ImageSpec, asked: str = "auto", trained: Callable[[], Source] | None = None) -> Extractor:
    """The space to compare in: "pixels", "encoder" (the game's), "classifier" (taught on the labelled pictures of `trained`), "inception"
    or a file of a network; "auto" is the encoder where the game has one, else pixels. RequestError where there is no such.
    """
    # Here and not above: they bring scikit-learn, for which nobody should wait who only draws samples.
    from ganforge.metrics.extractors import game_extractor
    from ganforge.metrics.features import classes_of, open_extractor
    from ganforge.metrics.material import Part, as_kind
    from ganforge.metrics.readers import reader_of

    if asked == "encoder" or (asked == "auto" and isinstance(game, Encodes)):
        able(game, Encodes)
        return game_extractor(game, spec, "encoder")
    if asked != "classifier":
        return open_extractor("pixels" if asked == "auto" else asked, game.device)
    if trained is None:
        raise RequestError("features 'classifier': needs the labelled data that it is to be taught on")
    source = trained()
    labelled = as_kind(source, Labelled)
    learn = None if labelled is None else Part.of(labelled)
    if learn is None or len(classes_of(learn)) < 2:
        raise RequestError(f"--features classifier: the run's data {source.name!r} have no labels of two classes or more; pixels need none")
    return reader_of("classes", learn, len(classes_of(learn)))


@dataclass(frozen=True)
class _Words:
    """An extractor that makes of pictures what their captions would be, as vectors of length 1."""

    identity: str
    about: str
    features: Callable[[Tensor], Features]
    name: str = "words"


def search_by_words(text: str, trained: Source) -> tuple[Tensor, Extractor]:
    """The vector of a sentence, [1, d] of length 1, and what makes vectors of length 1 of pictures, so that near means that they fit.

    Pictures are read by a network that is taught on the captioned pictures of `trained`, and kept in the cache. RequestError where there
    are none, or no word of the sentence is in their captions.
    """
    from ganforge.metrics.manifolds import as_features
    from ganforge.metrics.material import Part, as_kind
    from ganforge.metrics.readers import reader_of

    captioned = as_kind(trained, Captioned)
    if not isinstance(captioned, Pictures) or captioned.encoder is None:
        raise RequestError(f"--text: the run's data {trained.name!r} have no captions to learn words from")
    vector = torch.from_numpy(captioned.encoder.encode([text]))
    if not vector.any():
        raise RequestError(f"--text {text!r}: none of these words is in the captions that the run was trained on")
    reader = reader_of("texts", Part.of(captioned), vector.shape[1])
    words = _Words(f"words of {reader.identity}", reader.about, lambda images: as_features(F.normalize(reader.says(images), dim=1)))
    return F.normalize(vector, dim=1), words
