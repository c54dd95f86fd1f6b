"""What games read: the typed batches, and the specifications that a game is built from.

A game names the batch it reads in the signature of `play`; the data room makes it from whatever the user has. Images are float
tensors in [-1, 1], NCHW; labels are int64; points are float rows.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional as F

from ganforge.errors import RequestError


@dataclass(frozen=True)
class ImageSpec:
    """Pictures of one shape, `height` and `width` in pixels, 1 (grey) or 3 (RGB) channels, and what comes with each picture.

    `classes` and `attributes` are the names of labels and of attributes, `text` the length of a caption's vector, `factor` how many
    times smaller the low pictures of `LowHigh` are; both sides of pairs and of two domains have the shape of one picture.
    """

    height: int
    width: int
    channels: int = 3
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    text: int = 0
    factor: int = 1

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise RequestError(f"size {self.width}x{self.height}: a picture needs at least one pixel")
        if self.channels not in (1, 3):
            raise RequestError(f"channels = {self.channels}: pictures have 1 channel (grey) or 3 (RGB)")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width), the shape of one picture as a tensor."""
        return self.channels, self.height, self.width

    def __str__(self) -> str:
        parts = [f"{self.width}x{self.height}", "grey" if self.channels == 1 else "RGB"]
        parts += [f"{len(self.classes)} classes"] if self.classes else []
        parts += [f"{len(self.attributes)} attributes"] if self.attributes else []
        parts += [f"captions as {self.text} numbers"] if self.text else []
        parts += [f"and {self.factor} times smaller"] if self.factor > 1 else []
        return ", ".join(parts)


@dataclass(frozen=True)
class PointSpec:
    """Rows of `dimension` numbers. `abscissae`, where given, are the places at which a row is a curve's ordinates."""

    dimension: int
    abscissae: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int]:
        """(dimension,), the shape of one point as a tensor."""
        return (self.dimension,)

    def __str__(self) -> str:
        return f"curves of {self.dimension} points" if self.abscissae else f"points of dimension {self.dimension}"


def images_from_bytes(pixels: Tensor) -> Tensor:
    """uint8 [n, H, W, C] (as files store pictures) to float [n, C, H, W] in [-1, 1], channels-last in memory; 0 is -1 and 255 is 1."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def images_to_bytes(images: Tensor) -> Tensor:
    """Float [n, C, H, W] in [-1, 1] to uint8 [n, H, W, C]: the inverse of `images_from_bytes`; what lies outside is clipped."""
    return images.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


Spec = ImageSpec | PointSpec
_SPECS = {"images": ImageSpec, "points": PointSpec}
_LONGEST = 16_384  # pixels a side of a picture, in a record that may be a stranger's


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A JSON object from which `spec_from_json` makes an equal specification."""
    kind = next(name for name, cls in _SPECS.items() if type(spec) is cls)
    return {"kind": kind, **asdict(spec)}


def spec_from_json(stored: object) -> Spec:
    """The specification that `spec_to_json` wrote; RequestError where the object is none, or of pictures too large to be true."""
    kind = stored.get("kind") if isinstance(stored, dict) else None
    if not isinstance(stored, dict) or not isinstance(kind, str) or kind not in _SPECS:
        raise RequestError(f"data spec of kind {brief(kind)} is unknown; this ganforge knows {', '.join(_SPECS)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items() if key != "kind"}
    known = get_type_hints(_SPECS[kind])
    for key, value in values.items():
        if key not in known:
            raise RequestError(
                f"data spec: {brief(key)} is no field of {kind}, which have {', '.join(known)}; a newer ganforge may have it"
            )
        if not fits(value, known[key]):
            raise RequestError(f"data spec: {key} = {brief(value)}: must be {described(known[key])}")
        least, most = (0 if key == "text" else 1), (_LONGEST if key in ("height", "width") else 2**24)
        if isinstance(value, int) and not least <= value <= most:
            raise RequestError(f"data spec: {key} = {brief(value)}: must be {least} to {most}")
    lacking = [field.name for field in fields(_SPECS[kind]) if field.default is MISSING and field.name not in values]
    if lacking:
        raise RequestError(f"data spec: {lacking[0]} is missing")
    spec: Spec = _SPECS[kind](**values)
    return spec


def fits(value: object, annotation: Any) -> bool:
    """Whether a value read from JSON is of the type that an annotation says; a list may stand for a tuple, an int for a float."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(value) == len(each) and all(map(fits, value, each))
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, inner[1]) for each in value.values())
    if annotation in (int, float):
        return isinstance(value, int | annotation) and not isinstance(value, bool)
    # What JSON cannot say is left to whoever reads it.
    return annotation not in (str, bool, NoneType) or isinstance(value, annotation)


def described(annotation: Any) -> str:
    """An annotation in an error's words: int, `tuple[float, float]`, `'a' or 'b'`."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def brief(value: object) -> str:
    """A value that a stranger may have written, for one line of an error: printable, and of some sixty characters at most."""
    text = repr(value[:100] if isinstance(value, str | list | tuple) else value) if not isinstance(value, dict) else "{...}"
    return text if len(text) <= 60 else f"{text[:60]}..."


@dataclass(frozen=True)
class Batch:
    """The base of what `next(batches)` gives. All fields are tensors whose first dimension is the batch."""

    @property
    def x(self) -> Tensor:
        """The real samples, x in the papers' formulas: the first field."""
        return next(iter(self.tensors().values()))

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> dict[str, Tensor]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def resized(self, scale: float) -> Batch:
        """The same batch with its pictures averaged down to `scale` (below 1) of their sides; other fields are as they were."""
        shrunk = {
            name: F.interpolate(t, size=[max(1, round(side * scale)) for side in t.shape[2:]], mode="area")
            for name, t in self.tensors().items()
            if t.ndim == 4
        }
        return replace(self, **shrunk)


@dataclass(frozen=True)
class Images(Batch):
    """Pictures: `image` is [n, C, H, W] in [-1, 1]."""

    image: Tensor


@dataclass(frozen=True)
class Labelled(Images):
    """Pictures with a class each: `label` is [n], int64, an index into the spec's `classes`."""

    label: Tensor


@dataclass(frozen=True)
class SemiLabelled(Images):
    """Many pictures, and beside them as many from the few whose class is known: `labelled` [n, C, H, W], `label` [n] as of `Labelled`.

    Both are drawn apart: `image` from all pictures, the labelled ones included, `labelled` over and over from the few.
    """

    labelled: Tensor
    label: Tensor


@dataclass(frozen=True)
class Pairs(Batch):
    """Aligned pictures: `a` (the input) and `b` (what it becomes) are [n, C, H, W] in [-1, 1]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Unpaired(Batch):
    """Pictures of two domains that have nothing to do with each other: `a` and `b` are [n, C, H, W] in [-1, 1]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class LowHigh(Batch):
    """Super-resolution: `high` is [n, C, H, W], `low` [n, C, H / factor, W / factor], both in [-1, 1]."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Masked(Images):
    """Pictures with holes to fill: `mask` is [n, 1, H, W], 1 in the hole and 0 elsewhere; `image` is whole."""

    mask: Tensor


@dataclass(frozen=True)
class Attributed(Images):
    """Pictures with properties: `attribute` is [n, k] of 0 and 1, in the order of the spec's `attributes`."""

    attribute: Tensor


@dataclass(frozen=True)
class Captioned(Images):
    """Pictures described in words: `text` is [n, spec.text], the vector of one of the picture's captions."""

    text: Tensor


@dataclass(frozen=True)
class TwoDomains(Batch):
    """Labelled pictures of one domain, and others of a second: `source` and `target` are [n, C, H, W], `label` [n] belongs to `source`."""

    source: Tensor
    label: Tensor
    target: Tensor


@dataclass(frozen=True)
class Points(Batch):
    """Points or curves: `point` is [n, d], in the data's own units."""

    point: Tensor


KINDS: dict[str, type[Batch]] = {
    kind.__name__: kind
    for kind in (
        Images,
        Labelled,
        SemiLabelled,
        Pairs,
        Unpaired,
        LowHigh,
        Masked,
        Attributed,
        Captioned,
        TwoDomains,
        Points,
    )
}
"""All batch types by name."""
