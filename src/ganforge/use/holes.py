"""Holes of any shape in pictures of any size, for games that fill holes in pictures of one size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import ImageSpec
from ganforge.capabilities import Inpaints, able
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.seeds import seeded


class Window(NamedTuple):
    """A rectangle of pixels within a picture."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Where it is, as an index of [H, W]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def inpaint(game: Game, image: Tensor, mask: Tensor, spec: ImageSpec, seed: int = 0) -> Tensor:
    """[1, C, H, W] and its hole, [1, 1, H, W] (1 in it, else 0), to [1, C, H, W] on the CPU: outside the hole, bit for bit the picture.

    `spec` is what the game was made for. A picture of that size is filled at once. In others each connected piece of the hole, the
    largest first, gets a window of the game's aspect in which it is at most half as high and as wide; where the picture is too small for
    that it goes on in its mirror image. The window is brought to the game's size and back, and other pieces of about that size within it
    are filled along with it. A game of grey pictures fills the colours of others one by one.
    RequestError where hole and picture are of different sizes, or nothing but hole is left to go by.
    """
    filler, shape = able(game, Inpaints), spec.shape[1:]
    if mask.shape[2:] != image.shape[2:]:
        raise RequestError(f"the mask is {_size(mask)} and the picture {_size(image)}; they must be of one size")
    hole: NDArray[np.bool_] = (mask[0, 0] > 0.5).cpu().numpy()
    if hole.all():
        raise RequestError("the mask is white everywhere: what is to be filled is white, what is to be kept is black")
    height, width = hole.shape
    above, before = _margins(hole, shape)
    hole = np.pad(hole, ((above, above), (before, before)), mode="reflect")
    mirrored = np.pad(image.float().cpu().numpy(), ((0, 0), (0, 0), (above, above), (before, before)), mode="reflect")
    filled, grey = torch.from_numpy(mirrored), spec.channels == 1
    with torch.no_grad(), seeded(seed, game.device):
        for window, piece in _pieces(hole, shape):
            down, across = window.pixels
            seen = filled[:, :, down, across]
            made = _fill(filler, game.device, seen.transpose(0, 1) if grey else seen, torch.from_numpy(hole[window.pixels]), shape)
            seen[:, :, torch.from_numpy(piece)] = (made.transpose(0, 1) if grey else made)[:, :, torch.from_numpy(piece)]
            hole[window.pixels][piece] = False
    return filled[:, :, above : above + height, before : before + width].contiguous()


def _margins(hole: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[int, int]:
    """How many rows above and below, and columns before and behind, the picture lacks for windows twice as large as its holes.

    At most as many as it has: in a narrow strip the windows of long holes stay narrow.
    """
    if hole.shape == shape:
        return 0, 0
    boxes = [_box(found) for found in ndimage.find_objects(ndimage.label(hole, np.ones((3, 3)))[0])]
    scale = max((max(2 * box.height / shape[0], 2 * box.width / shape[1]) for box in boxes), default=0.0)
    down, across = (max(0, math.ceil(scale * side) - there) for side, there in zip(shape, hole.shape, strict=True))
    return min(-(-down // 2), hole.shape[0]), min(-(-across // 2), hole.shape[1])


def _pieces(hole: NDArray[np.bool_], shape: tuple[int, int]) -> list[tuple[Window, NDArray[np.bool_]]]:
    """Windows, and which pixels of each are filled in it: every pixel of the hole in one of them."""
    if hole.shape == shape:
        return [(Window(0, 0, *shape), hole)] if hole.any() else []
    labels, _ = ndimage.label(hole, np.ones((3, 3)))
    boxes = [_box(found) for found in ndimage.find_objects(labels)]
    windows = [_window(box, hole.shape, shape) for box in boxes]
    waiting = sorted(range(len(boxes)), key=lambda number: -boxes[number].height * boxes[number].width)
    pieces = []
    while waiting:
        window = windows[waiting[0]]
        # A piece that could be filled in more than twice the detail waits for a window of its own.
        within = {number for number in waiting if _holds(window, boxes[number]) and 2 * windows[number].height >= window.height}
        pieces.append((window, np.isin(labels[window.pixels], [number + 1 for number in within])))
        waiting = [number for number in waiting if number not in within]
    return pieces


def _box(found: tuple[slice, ...]) -> Window:
    down, across = found
    return Window(down.start, across.start, down.stop - down.start, across.stop - across.start)


def _holds(window: Window, box: Window) -> bool:
    down, across = box.top - window.top, box.left - window.left
    return down >= 0 and across >= 0 and down + box.height <= window.height and across + box.width <= window.width


def _window(box: Window, whole: tuple[int, ...], shape: tuple[int, int]) -> Window:
    """Around the box, twice its size and not smaller than `shape` and of its aspect; all of this only as far as the picture goes."""
    scale = max(1.0, 2 * box.height / shape[0], 2 * box.width / shape[1])
    # The largest of the aspect that the picture holds; a hole that has grown in the mirror may be larger, and the aspect gives way.
    scale = min(scale, whole[0] / shape[0], whole[1] / shape[1])
    height, width = (min(max(round(scale * side), hole * 4 // 3), limit) for side, hole, limit in zip(shape, box[2:], whole, strict=True))
    top, left = box.top + (box.height - height) // 2, box.left + (box.width - width) // 2
    return Window(max(0, min(top, whole[0] - height)), max(0, min(left, whole[1] - width)), height, width)


def _fill(game: Inpaints, device: torch.device, image: Tensor, hole: Tensor, shape: tuple[int, int]) -> Tensor:
    """[n, c, h, w] and its hole, [h, w], through the game at `shape` and back to [n, c, h, w]; only the hole's pixels are of use."""
    size, mask = hole.shape, hole.float().expand(len(image), 1, -1, -1)
    if size != shape:
        # A triangle filter, whose weights are never negative: a pixel of which any part was hole is hole, and no other sees the hole.
        image = F.interpolate(image, size=shape, mode="bilinear", antialias=True)
        mask = (F.interpolate(mask, size=shape, mode="bilinear", antialias=True) > 0).float()
    made = game.inpaint(image.to(device), mask.to(device)).float().cpu()
    return made if size == shape else F.interpolate(made, size=list(size), mode="bicubic", antialias=True).clamp(-1, 1)


def _size(pictures: Tensor) -> str:
    return f"{pictures.shape[3]}x{pictures.shape[2]}"
