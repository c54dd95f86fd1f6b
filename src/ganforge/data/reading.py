"""How a SOURCE is read: one dataclass, which is also the options of every command that takes a SOURCE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from ganforge.batches import brief, described, fits
from ganforge.errors import RequestError

LARGEST = 4096
"""The largest side of a picture that is served."""
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Reading:
    """How pictures are found, decoded and served. What a source does not need is ignored."""

    size: str | None = None
    """Pixels: 64, or width x height, 96x64; None: the source's own (64 for folders)."""
    channels: int | None = None
    """1 (grey) or 3 (RGB); None: the source's own."""
    fit: Literal["crop", "pad", "stretch", "patch"] = "crop"
    """How a picture of another shape comes to the size: cut, padded with white, stretched; or patches cut at random at its own scale."""
    flip: bool = False
    """Mirror pictures at random, left to right."""
    jitter: int = 0
    """Decode so many pixels larger, then cut at random (pix2pix: 30 of 286)."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Which side of pairs and of two domains is the input."""
    factor: int = 4
    """How many times smaller the low pictures of super-resolution are: 2, 3, 4 or 8."""
    mask: str = "centre"
    """The holes to fill: centre, block (one at random), free (strokes), or a folder of mask files (white: hole)."""
    labels: int | None = None
    """How many pictures keep their class where few do, as many of each class; None: all. Which ones depends on the data alone."""
    attributes: str | None = None
    """Which columns of an attribute table, with commas: Smiling,Male; None: all."""
    captions: str | None = None
    """A CSV, JSONL or COCO JSON file of captions; None: the one that lies with the pictures."""
    text_encoder: str = "tfidf"
    """What makes numbers of captions: tfidf (fitted on them), or hf:NAME of a Hugging Face model (an extra)."""
    text_dim: int = 128
    """How many numbers tfidf makes of a caption."""
    workers: int = 0
    """Threads that decode pictures; 0: one per core. The weights do not depend on it."""
    strict: bool = False
    """Stop at the first bad picture instead of skipping and counting it."""
    cache: str | None = None
    """Folder of decoded pictures; None: $GANFORGE_CACHE or ~/.cache/ganforge. `none` decodes each batch as it is drawn."""

    def __post_init__(self) -> None:
        self.shape()
        if self.channels not in (None, 1, 3):
            raise RequestError(f"--channels {self.channels}: pictures have 1 channel (grey) or 3 (RGB)")
        if self.factor not in (2, 3, 4, 8):
            raise RequestError(f"--factor {self.factor}: low pictures are 2, 3, 4 or 8 times smaller")
        for name, least in {"jitter": 0, "text_dim": 1, "workers": 0}.items():
            if getattr(self, name) < least:
                raise RequestError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        if self.labels is not None and self.labels < 1:
            raise RequestError(f"--labels {self.labels}: at least one picture must keep its class")
        if self.jitter > LARGEST:
            raise RequestError(f"--jitter {self.jitter}: must be at most {LARGEST}")

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> Reading:
        """From what `run.json` says of a run's data; what an older run does not say is as it was then, by default."""
        values = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        if values.get("size") is not None:
            values["size"] = str(values["size"])
        hints = get_type_hints(cls)
        for name, value in values.items():
            if not fits(value, hints[name]):
                raise RequestError(f"the record of the data: {name} = {brief(value)}: must be {described(hints[name])}")
        return cls(**values)

    def shape(self) -> tuple[int, int] | None:
        """(height, width) as asked for, or None. RequestError where `size` is neither 64 nor 96x64, or out of 1..4096."""
        if self.size is None:
            return None
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(self.size))
        if match is None:
            raise RequestError(f"--size {self.size}: give pixels, 64, or width x height, 96x64")
        width, height = int(match[1]), int(match[2] or match[1])
        if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
            raise RequestError(f"--size {self.size}: pictures are of 1 to {LARGEST} pixels a side")
        return height, width
