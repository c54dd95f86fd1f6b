"""Single pictures with what is known of each: a class, attributes, captions, a hole to fill, a smaller copy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganforge.batches import Batch, Images, ImageSpec, Labelled
from ganforge.data.layouts.albums import Album, Arrays, without_common_folders
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.request import Opened, Request
from ganforge.data.layouts.serving import Chance, Side, Taken, sent
from ganforge.data.order import Window
from ganforge.data.reading import Reading
from ganforge.data.shelves import listed, readable
from ganforge.data.text import TextEncoder
from ganforge.errors import RequestError


class Extra(ABC):
    """Something known of pictures, which makes a richer batch of them.

    `known` [n] says of which pictures it is known, `notes` are for a person.
    """

    kind: type[Batch]
    known: NDArray[np.bool_]
    notes: Sequence[str] = ()

    def spec(self) -> dict[str, Any]:
        """What it says of the specification: fields of `ImageSpec`."""
        return {}

    def facts(self) -> Iterable[object]:
        """What of it belongs into the fingerprint of a source."""
        return ()

    @abstractmethod
    def subset(self, numbers: NDArray[np.int64]) -> Extra:
        """The same of these pictures, in this order."""

    @abstractmethod
    def batch(self, taken: Taken) -> Batch:
        """A batch of `kind` of these pictures."""


class Plain(Extra):
    """Nothing but the picture."""

    kind = Images

    def __init__(self, count: int) -> None:
        self.known = np.ones(count, dtype=bool)

    def subset(self, numbers: NDArray[np.int64]) -> Plain:
        """See `Extra`."""
        return Plain(len(numbers))

    def batch(self, taken: Taken) -> Images:
        """See `Extra`."""
        return Images(taken.image)


class Labels(Extra):
    """A class of each picture: `labels` [n] are indices into `classes`, -1 where it is not known."""

    kind = Labelled

    def __init__(self, labels: NDArray[np.int64], classes: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.labels = torch.from_numpy(labels)
        self.classes = tuple(classes)
        self.known = labels >= 0
        self.notes = notes

    def spec(self) -> dict[str, Any]:
        """See `Extra`."""
        return {"classes": self.classes}

    def facts(self) -> Iterable[object]:
        """See `Extra`."""
        return self.classes, self.labels.numpy().tobytes()

    def subset(self, numbers: NDArray[np.int64]) -> Labels:
        """See `Extra`."""
        return Labels(self.labels.numpy()[numbers], self.classes, self.notes)

    def batch(self, taken: Taken) -> Labelled:
        """See `Extra`."""
        return Labelled(taken.image, sent(self.labels[taken.indices], taken.image.device))


class Pictures(Opened):
    """Pictures of one side, served as each of the `extras`, the richest first; `low` where the specification speaks of low pictures."""

    def __init__(
        self,
        name: str,
        side: Side,
        extras: Sequence[Extra],
        reading: Reading,
        notes: Iterable[str] = (),
        stamps: Iterable[object] = (),
        low: bool = False,
    ) -> None:
        fields = {key: value for extra in extras for key, value in extra.spec().items() if key != "factor" or low}
        height, width, channels = side.shape
        facts = [*stamps, *(fact for extra in extras for fact in extra.facts())]
        super().__init__(name, ImageSpec(height, width, channels, **fields), tuple(extra.kind for extra in extras), [side], notes, facts)
        self.count = len(side)
        self.runs = side.runs
        self.labels = next((extra.labels for extra in extras if isinstance(extra, Labels)), None)
        self.extras = {extra.kind: extra for extra in extras}
        self.texts: Sequence[Sequence[str]] = ()
        self.encoder: TextEncoder | None = None
        """What made numbers of the captions, where there are such."""
        self._side = side
        self._reading = reading

    def captions(self, index: int) -> list[str]:
        """All captions of one picture; none where there are no captions."""
        return list(self.texts[index]) if self.texts else []

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """Bytes are gathered and sent; all else happens on the device."""
        self.require(kind)
        chance = Chance.of(self._reading, window)
        image = self._side.images(indices, device, chance)
        # After the images: whatever is known must be that of the picture that stands in for a bad one.
        return self.extras[kind].batch(Taken(image, self._side.taken(indices), window, chance))


def find_labels(place: Place, album: Album, asked: bool = False) -> Labels | str:
    """The classes of the pictures: as their container has them, else the sub-folders; or why there are none.

    Sub-folders are classes where all pictures lie in two or more of them, or where classes are asked for. The classes are those of the
    pictures to train on, so that their numbers mean the same in every split.
    """
    trained = place.album("train")
    # Few folders have .cls files; where none lies there, a look for one beside each picture is saved.
    own = trained.given_labels() if place.beside is None or any(name.endswith(".cls") for name in place.beside) else None
    if own is not None:
        labels = own if album is trained else album.given_labels()
        if labels is None:
            return "these pictures have no labels, though those to train on have"
        names = trained.classes or tuple(str(number) for number in range(int(own.max()) + 1))
        return Labels(np.where(labels < len(names), labels, -1), names)
    if isinstance(trained, Arrays):
        return f"{trained.origin}: there are no labels beside the pictures (an array 'labels', or 'train_labels')"
    listings = [without_common_folders(each.names) if _has_classes(each) else each.names for each in (trained, album)]
    if not any("/" in name for name in listings[0]):
        return f"all {len(trained)} pictures lie in one folder; classes are sub-folders, one each"
    if not _has_classes(trained) and not asked:
        return "not all pictures lie in two or more sub-folders, one a class"
    classes = sorted({readable(name.partition("/")[0]) for name in listings[0] if "/" in name})
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number.get(readable(name.partition("/")[0]), -1) if "/" in name else -1 for name in listings[1]], dtype=np.int64)
    notes = [f"the {len(classes)} sub-folders are the classes"]
    outside = [readable(path) for path, label in zip(album.paths, labels, strict=True) if label < 0]
    if outside:
        notes.append(f"{len(outside)} pictures lie in no sub-folder of a class and have none: {listed(outside)}")
    return Labels(labels, classes, notes)


def _has_classes(album: Album) -> bool:
    names = without_common_folders(album.names)
    return bool(names) and all("/" in name for name in names)


def labels_of(request: Request) -> Labels | str:
    """The labels of the only place, asked for or not."""
    found = find_labels(request.places[0], request.album, asked=Labelled in request.kinds)
    if isinstance(found, Labels) and not found.known.all() and request.reading.strict and Labelled in request.kinds:
        path = request.album.paths[int(np.flatnonzero(~found.known)[0])]
        where = f"{request.album.origin}/{readable(path)}"
        raise RequestError(f"{where}: lies in no sub-folder, so it has no class; move it, or leave out --strict to skip such")
    return found
