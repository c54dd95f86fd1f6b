"""Augmentations of pictures for training with few: what a discriminator sees, of real and of generated pictures alike.

Pure functions of float pictures [n, C, H, W] in [-1, 1], differentiable, on any device. They wait for nothing, and draw what they need
from torch's random state on the pictures' device, a row for each picture. Values may leave [-1, 1], as in the papers' codes. Every C is
taken; what needs colours (saturation, hue) is done to 3 channels and passed over, without a draw, for any other number.

- `diff_augment`: Differentiable Augmentation for Data-Efficient GAN Training. Zhao et al., NeurIPS 2020, arXiv:2006.10738.
- `ada`, `adapted`: Training Generative Adversarial Networks with Limited Data. Karras et al., NeurIPS 2020, arXiv:2006.06676.

Ranges and probabilities are those of mit-han-lab/data-efficient-gans and NVlabs/stylegan2-ada-pytorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganforge.errors import RequestError


def diff_augment(images: Tensor, policy: Sequence[str] = ("color", "translation", "cutout")) -> Tensor:
    """DiffAugment: the operations named, in that order, each on every picture; RequestError where a name is none of `POLICIES`."""
    for name in policy:
        if name not in POLICIES:
            raise RequestError(f"augmentation policy {name!r} is unknown; DiffAugment has {', '.join(POLICIES)}")
        images = POLICIES[name](images)
    return images


def color(images: Tensor) -> Tensor:
    """Brightness, saturation, contrast.

    Adds U(-1/2, 1/2), multiplies what differs from a pixel's grey by U(0, 2) if there are 3 channels, and what differs from the
    picture's mean by U(1/2, 3/2).
    """
    images = images + _uniform(images) - 0.5
    if images.shape[1] == 3:
        images = _stretched(images, images.mean(1, keepdim=True), 2 * _uniform(images))
    return _stretched(images, images.mean((1, 2, 3), keepdim=True), 0.5 + _uniform(images))


def translation(images: Tensor, ratio: float = 1 / 8) -> Tensor:
    """Moves each picture by up to `ratio` of its sides, whole pixels of equal chance; what comes into view is 0, the mid grey."""
    height, width = images.shape[2:]
    rows, columns = _shifted(images, height, ratio), _shifted(images, width, ratio)
    within = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    at = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    return _picked(images, at) * within[:, None]


def cutout(images: Tensor, ratio: float = 1 / 2) -> Tensor:
    """Makes a rectangle of `ratio` of the sides 0, the mid grey. Its centre is any pixel, so that a part of it may lie outside."""
    kept = [_outside(images, side, int(side * ratio + 0.5)) for side in images.shape[2:]]
    return images * (kept[0][:, :, None] | kept[1][:, None, :])[:, None]


POLICIES: dict[str, Callable[[Tensor], Tensor]] = {"color": color, "translation": translation, "cutout": cutout}
"""DiffAugment's operations, by the names that its users know."""


def ada(images: Tensor, p: Tensor) -> Tensor:
    """The pipeline "bgc" of ADA: blitting, geometry, colour. Each transformation is made with probability `p`, a scalar tensor.

    Departures: where the paper doubles the resolution by a wavelet filter, samples there, and filters again, the picture itself is
    sampled once, bilinearly, so that what is turned or scaled is somewhat softer and, made smaller, not filtered against aliasing;
    beyond its borders the picture is reflected without end. Computed in float32 also under autocast; p = 0 is the identity to rounding.
    """
    with torch.autocast(images.device.type, enabled=False):
        n, _, height, width = images.shape
        matrix = blitting(n, height, width, p) @ geometry(n, height, width, p)
        return recoloured(resampled(images.float(), matrix), p).to(images.dtype)


def adapted(p: Tensor, sign: Tensor, images: Tensor, target: float = 0.6, span: int = 500_000) -> Tensor:
    """ADA's p after `images` more real pictures, on which the mean of sign(D) was `sign`, the paper's r_t. All are scalar tensors.

    Above the target D has begun to remember the pictures and p rises, else it falls, by a step that takes it from 0 to 1 in `span`
    pictures. It stays within [0, 1], where probabilities end; the authors' code bounds it below alone.
    """
    return (p + (sign - target).sign() * images / span).clamp(0, 1)


# A matrix takes places of the picture to come, in pixels from its centre, to places of the given one. What is done first is its leftmost
# factor's inverse; the inverse of each has the same law as itself, so that the factors are drawn as they are.


def blitting(n: int, height: int, width: int, p: Tensor) -> Tensor:
    """[n, 3, 3]: a mirroring (half of the time), 0 to 3 quarter turns, a move of whole pixels by up to an eighth of the sides."""
    mirrored = _maybe(p, (2 * _rand(p, n)).floor(), 0)
    quarters = _maybe(p, (4 * _rand(p, n)).floor(), 0)
    move = _maybe(p, (2 * _rand(p, n, 2) - 1) / 8, 0)
    turn = _rotation(quarters * (math.pi / 2))
    return _scaling(1 - 2 * mirrored, torch.ones_like(mirrored)) @ turn @ _move((move[:, 0] * width).round(), (move[:, 1] * height).round())


def geometry(n: int, height: int, width: int, p: Tensor) -> Tensor:
    """[n, 3, 3]: scale 2^N(0, 0.2^2), a turn, sides stretched by 2^N(0, 0.2^2) and its inverse, a turn, a move N(0, 1/8^2) of the sides.

    Turns are of any angle; each is made with probability 1 - sqrt(1 - p), so that there is one with probability p.
    """
    p_turn = 1 - (1 - p).sqrt()
    scale = _maybe(p, torch.exp2(0.2 * _randn(p, n)), 1)
    before = _maybe(p_turn, _angles(p, n), 0)
    stretch = _maybe(p, torch.exp2(0.2 * _randn(p, n)), 1)
    after = _maybe(p_turn, _angles(p, n), 0)
    move = _maybe(p, _randn(p, n, 2) / 8, 0)
    stretched = _rotation(before) @ _scaling(stretch, 1 / stretch) @ _rotation(after)
    return _scaling(scale, scale) @ stretched @ _move(move[:, 0] * width, move[:, 1] * height)


def resampled(images: Tensor, matrix: Tensor) -> Tensor:
    """Each picture at the places [n, 3, 3] to which its matrix takes the pixels: bilinear, reflected about the outermost pixels.

    As `grid_sample` does with `align_corners`, but its gradient is deterministic where torch is told to be, also on a GPU.
    """
    n, _, height, width = images.shape
    down, right = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (height, width))
    places = torch.stack(torch.broadcast_tensors(right, down[:, None], torch.ones_like(right)), -1).view(1, -1, 3) @ matrix.mT
    left, x = _neighbours(places[..., 0], width)
    top, y = _neighbours(places[..., 1], height)
    next_right, next_down = min(width - 1, 1), min(height - 1, 1) * width
    at = (top * width + left).view(n, height, width)
    x, y = (way.view(n, 1, height, width).to(images.dtype) for way in (x, y))
    upper = torch.lerp(_picked(images, at), _picked(images, at + next_right), x)
    lower = torch.lerp(_picked(images, at + next_down), _picked(images, at + next_down + next_right), x)
    return torch.lerp(upper, lower, y)


def recoloured(images: Tensor, p: Tensor) -> Tensor:
    """ADA's colours, each with probability p: adds N(0, 0.2^2), multiplies by 2^N(0, 0.5^2); of 1 or 3 channels, negates luma half
    of the time; of 3, turns the hue by any angle and multiplies the saturation by 2^N(0, 1). Luma is the mean of the channels.
    """
    n, channels = images.shape[:2]
    brightness = _maybe(p, 0.2 * _randn(p, n, 1, 1, 1), 0)
    contrast = _maybe(p, torch.exp2(0.5 * _randn(p, n, 1, 1, 1)), 1)
    images = contrast * (images + brightness)
    if channels not in (1, 3):
        return images
    flipped = 1 - 2 * _maybe(p, (2 * _rand(p, n, 1, 1, 1)).floor(), 0)
    if channels == 1:
        return flipped * images
    luma = images.mean(1, keepdim=True)
    angle = _maybe(p, _angles(p, n), 0)
    saturation = _maybe(p, torch.exp2(_randn(p, n, 1, 1, 1)), 1)
    return flipped * luma + saturation * rotated_hue(images - luma, angle)


def rotated_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Colours [n, 3, H, W] turned about the axis of greys by `angle` [n], in radians; a third of a turn makes red green, green blue."""
    luma = images.mean(1, keepdim=True)
    across = (images.roll(1, 1) - images.roll(-1, 1)) / math.sqrt(3)  # (1, 1, 1) / sqrt(3) x image
    angle = angle.view(-1, 1, 1, 1)
    return luma + angle.cos() * (images - luma) + angle.sin() * across


def _uniform(images: Tensor) -> Tensor:
    """A number of U(0, 1) for each picture, [n, 1, 1, 1]."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)


def _stretched(images: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    return middle + (images - middle) * factor


def _shifted(images: Tensor, side: int, ratio: float) -> Tensor:
    """[n, side]: 0 to side - 1, moved by a whole number for each picture."""
    most = int(side * ratio + 0.5)
    shift = (torch.rand(len(images), 1, device=images.device) * (2 * most + 1)).long() - most
    return torch.arange(side, device=images.device) + shift


def _outside(images: Tensor, side: int, size: int) -> Tensor:
    """[n, side]: False on a stretch of `size` about a place drawn for each picture."""
    # An even stretch has its centre between two pixels; one place more gives both ends of the side the same chance.
    centre = (torch.rand(len(images), 1, device=images.device) * (side + 1 - size % 2)).long()
    offset = torch.arange(side, device=images.device) - centre + size // 2
    return (offset < 0) | (offset >= size)


def _picked(images: Tensor, at: Tensor) -> Tensor:
    """For each place [n, H, W] the pixel of that number, row by row; of all channels."""
    flat = at.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, flat).view_as(images)


def _neighbours(offset: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """For places, in pixels from the centre: the pixel before each, after reflection, and how far it is on the way to the next."""
    period = max(2 * (side - 1), 1)
    place = (offset + (side - 1) / 2).remainder(period)
    place = torch.minimum(place, period - place)
    before = place.floor().clamp(0, max(side - 2, 0))
    return before.long(), place - before


def _rand(p: Tensor, *shape: int) -> Tensor:
    return torch.rand(*shape, device=p.device)


def _randn(p: Tensor, *shape: int) -> Tensor:
    return torch.randn(*shape, device=p.device)


def _angles(p: Tensor, n: int) -> Tensor:
    return (2 * _rand(p, n) - 1) * math.pi


def _maybe(p: Tensor, drawn: Tensor, neutral: float) -> Tensor:
    """Each row of what was drawn with probability p, else the value that changes nothing."""
    chance = _rand(p, len(drawn), *[1] * (drawn.ndim - 1))
    return torch.where(chance < p, drawn, neutral)


def _matrix(*top: Tensor) -> Tensor:
    """[n, 3, 3] from the two upper rows, six tensors [n]."""
    zero, one = torch.zeros_like(top[0]), torch.ones_like(top[0])
    return torch.stack([*top, zero, zero, one], 1).view(-1, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _matrix(x, zero, zero, zero, y, zero)


def _rotation(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return _matrix(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero)


def _move(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix(one, zero, x, zero, one, y)
