"""One side of a batch: decoded pictures, cut and mirrored by the chance of each sample, as images on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganforge.batches import images_from_bytes
from ganforge.data.order import Order, Window
from ganforge.data.pixels import Pixels
from ganforge.data.reading import Reading


@dataclass(frozen=True)
class Chance:
    """What is random in the pictures of a batch: `corner` [n, 2] in [0, 1), where each is cut; `flip` [n], whether it is mirrored."""

    corner: NDArray[np.float32] | None = None
    flip: Tensor | None = None

    @classmethod
    def of(cls, reading: Reading, window: Window | None, side: str = "") -> Chance:
        """The chance of a window; `side` names one that has chance of its own. Without a window nothing is random."""
        if window is None:
            return cls()
        cuts = reading.jitter or reading.fit == "patch"
        return cls(
            window.uniform(2, f"corner{side}").numpy() if cuts else None,
            window.uniform(1, f"flip{side}")[:, 0] < 0.5 if reading.flip else None,
        )


@dataclass(frozen=True)
class Side:
    """Decoded pictures: picture i of this side is number `rows[i]` of `pixels`; `served[i]` is its number in the album it was read from.

    `bad` says of each file that is missing why it is; `runs` are stretches that are best read in order, as of `Finite`.
    """

    pixels: Pixels
    rows: NDArray[np.int64]
    served: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    runs: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.pixels.height, self.pixels.width, self.pixels.channels

    def subset(self, numbers: NDArray[np.int64]) -> Side:
        """The pictures at these places of this side, in this order."""
        kept = self.runs if len(numbers) == len(self) and (numbers[:-1] < numbers[1:]).all() else None
        return Side(self.pixels, self.rows[numbers], self.served[numbers], self.notes, self.bad, kept)

    def bytes(self, indices: Tensor, device: torch.device, chance: Chance) -> Tensor:
        """uint8 [n, H, W, C] on `device`."""
        taken = sent(torch.from_numpy(self.pixels.take(self.rows[indices.numpy()], chance.corner)), device)
        if chance.flip is None:
            return taken
        # Mirrored as bytes: a quarter of the memory, and the images stay channels-last.
        return torch.where(sent(chance.flip, device)[:, None, None, None], taken.flip(2), taken)

    def taken(self, indices: Tensor) -> Tensor:
        """The places on this side of the pictures that were served for `indices`: another stands in for a bad one (see `Pixels`)."""
        if not self.pixels.slow:
            return indices
        place = np.empty(len(self.pixels), dtype=np.int64)
        place[self.rows] = np.arange(len(self))
        return torch.from_numpy(place[self.pixels.taken(self.rows[indices.numpy()])])

    def images(self, indices: Tensor, device: torch.device, chance: Chance) -> Tensor:
        """Float [n, C, H, W] in [-1, 1] on `device`; the conversion runs there."""
        return images_from_bytes(self.bytes(indices, device, chance))


@dataclass(frozen=True)
class Taken:
    """Pictures of a batch before it has a kind: `image` on its device, their numbers `indices` (on the CPU), and their chance."""

    image: Tensor
    indices: Tensor
    window: Window | None
    chance: Chance


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; only from pinned memory does the copy run beside the device's work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fingerprint(parts: Iterable[object]) -> str:
    """16 hexadecimal digits that change when any of the parts (bytes, or what `repr` tells apart) does."""
    digest = hashlib.sha256()
    for part in parts:
        piece = part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace")
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:16]


def drawn(window: Window | None, indices: Tensor, columns: int, purpose: str, device: torch.device) -> Tensor:
    """[n, columns] in [0, 1) on `device`: the chance of the window; without one a fixed draw for each of the `indices`."""
    if window is not None:
        return sent(window.uniform(columns, purpose), device)
    rows = [_FIXED.window(int(index), 1).uniform(columns, purpose) for index in indices.tolist()]
    return sent(torch.cat(rows), device)


_FIXED = Order(0)
