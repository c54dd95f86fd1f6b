"""What a game is measured with: pictures that it learned from, others that it did not, and both as richer batches where they can be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ganforge.batches import Batch, Images, ImageSpec, Labelled, Pairs, TwoDomains, Unpaired
from ganforge.data import Finite, Source, Split
from ganforge.data.cache import cache_root
from ganforge.data.layouts.request import Opened, Request
from ganforge.data.opening import LAYOUTS
from ganforge.errors import RequestError
from ganforge.metrics.findings import NotMeasuredError
from ganforge.metrics.manifolds import Extractor
from ganforge.metrics.perceptual import Perceptual

CHUNK = 64
"""Pictures that a game or a network sees at a time; no score depends on it."""
CPU = torch.device("cpu")
_MOST = 10_000
_KEPT_BACK = 0.2


def told(of: Callable[[Tensor], Tensor], inputs: Tensor, device: torch.device, size: int = CHUNK) -> Tensor:
    """What a game says of pictures, or makes of latents, [n, ...], `size` of them at a time: [n, ...], float32, on the CPU."""
    return torch.cat([of(chunk.to(device)).float().cpu() for chunk in inputs.split(size)])


@dataclass(frozen=True)
class Part:
    """The pictures of `source` at `indices` [n], in this order; nothing about them is random."""

    source: Finite
    indices: Tensor

    @classmethod
    def of(cls, source: Finite, seed: int = 0) -> Part:
        """All of a source, at most 10,000, shuffled by the seed."""
        return cls(source, torch.randperm(source.count, generator=torch.Generator().manual_seed(seed))[:_MOST])

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, n: int) -> Part:
        """The first `n`, or all."""
        return replace(self, indices=self.indices[:n])

    def batches(self, kind: type[Batch], device: torch.device = CPU) -> Iterator[Batch]:
        """All as batches of `kind`."""
        for chunk in self.indices.split(CHUNK):
            yield self.source.gather(kind, chunk, device)

    def divided(self) -> tuple[Part, Part]:
        """Four fifths to learn from, and the rest to see what was learnt."""
        kept = max(1, round(_KEPT_BACK * len(self)))
        return replace(self, indices=self.indices[kept:]), replace(self, indices=self.indices[:kept])

    def images(self) -> Tensor:
        """All pictures, [n, C, H, W]."""
        return torch.cat([batch.x for batch in self.batches(self.source.kinds[0])])

    @property
    def fingerprint(self) -> str:
        """Changes when any pixel or label that `batches` serves does; "" where that cannot be known."""
        if not self.source.fingerprint:
            return ""
        request = request_of(self.source)
        # Files may be cut in many ways to one shape; where they are kept, and what is random in training, makes no other pictures.
        reading = request and replace(request.reading, size=None, channels=None, flip=False, workers=0, strict=False, cache=None)
        facts = (self.source.spec.shape, reading, self.indices.tolist())
        return f"{self.source.fingerprint} {hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"

    @property
    def cache(self) -> Path | None:
        """The folder in which what is learnt from these pictures may be kept; None: nowhere."""
        request = request_of(self.source)
        return None if request is None else cache_root(request.reading.cache)


@dataclass(frozen=True)
class Material:
    """`tested` is what a game is measured on, `trained` what it learned from (the same where nothing is held out).

    `labels` are two sources of labelled pictures, to learn from and to test on, that replace those found; `n` is how many samples or
    pictures a measure takes, `seed` which ones; `device` is the game's; `features` is an extractor, "classifier" or "auto"; `metrics` are
    the measures that are wanted; `lpips` compares two pictures, where a network for that is given.
    """

    tested: Source
    trained: Source
    labels: tuple[Finite, Finite] | None
    n: int
    seed: int
    device: torch.device
    features: str | Extractor
    metrics: frozenset[str]
    lpips: Perceptual | None = None

    def wants(self, *metrics: str) -> bool:
        """Whether any of these measures is asked for."""
        return not self.metrics.isdisjoint(metrics)

    @property
    def spec(self) -> ImageSpec:
        """That of the pictures that the game learned from."""
        if not isinstance(self.trained.spec, ImageSpec):
            raise NotMeasuredError(f"data {self.trained.name!r} are points; this is measured on pictures")
        return self.trained.spec

    def shown(self, kind: type[Batch]) -> Part:
        """At most `n` of the pictures that the game is measured on, as `kind`."""
        source = as_kind(self.tested, kind)
        if source is None:
            raise NotMeasuredError(f"data {self.tested.name!r} cannot be read as {kind.__name__}")
        return Part.of(source, self.seed).first(self.n)

    def labelled(self, side: int = 0) -> tuple[Part, Part]:
        """Labelled pictures to learn from, and others to test on; of two domains, those of one `side`."""
        if self.labels is not None:
            learn, test = (Part.of(source) for source in self.labels)
            return learn.divided() if same(learn.source, test.source) else (learn, test)
        learn, test = self.parts(Labelled, side)
        spec = learn.source.spec
        if isinstance(spec, ImageSpec) and len(spec.classes) < 2:
            raise NotMeasuredError(f"data {self.trained.name!r} has one class; name labelled pictures with --labelled")
        return learn, test

    def parts(self, kind: type[Batch], side: int = 0) -> tuple[Part, Part]:
        """Pictures to learn from, and others to test on, as `kind`: those of the split to test on, else a fifth of the others."""
        learn = as_kind(self.trained, kind, "train", side) or as_kind(self.tested, kind, "train", side)
        if learn is None:
            hint = "; name such pictures with --labelled" if kind is Labelled else ""
            raise NotMeasuredError(f"data {self.trained.name!r} cannot be read as {kind.__name__}{hint}")
        held = as_kind(self.tested, kind, None, side)
        if held is None or same(held, learn):
            held = as_kind(self.trained, kind, "test", side)
        return Part.of(learn).divided() if held is None else (Part.of(learn), Part.of(held))

    def seen(self) -> Part | None:
        """Pictures that the game learned from; None where they cannot be had."""
        source = as_pictures(self.trained, "train")
        return None if source is None else Part.of(source, self.seed)

    def unseen(self) -> Part | None:
        """At most `n` pictures that the game did not learn from, of its own data where there are such; None where there are none."""
        seen = as_pictures(self.trained, "train")
        # Pictures of another law are far from all that was seen; beside them any sample would look like a copy.
        for source in (as_pictures(self.trained, "test"), as_pictures(self.tested)):
            if source is not None and seen is not None and not same(source, seen):
                return Part.of(source, self.seed).first(self.n)
        return None


def request_of(source: Source) -> Request | None:
    """What was asked for when the source was opened; None where that is not known."""
    return source.request if isinstance(source, Opened) else None


def same(first: Finite, second: Finite | None) -> bool:
    """Whether both serve the same pictures."""
    return second is not None and (first is second or (bool(first.fingerprint) and first.fingerprint == second.fingerprint))


def as_kind(source: Source, kind: type[Batch], split: Split | None = None, side: int = 0) -> Finite | None:
    """The same SOURCE read as `kind`, in the same shape, its pictures of `split` (None: as they are); None where it cannot be.

    Of two domains that are to be read as single pictures, `side` says which. A source that was made of arrays has no split to test on.
    """
    asked = request_of(source)
    if isinstance(source, Finite) and kind in source.kinds and (split is None or asked is None or split == asked.split):
        return source if asked is not None or split != "test" else None
    if asked is None or not isinstance(source.spec, ImageSpec):
        return None
    places = asked.places
    if kind in (Images, Labelled) and not {Pairs, Unpaired, TwoDomains}.isdisjoint(source.kinds):
        if len(places) == 1:
            # Folders A and B of one place would be read as classes.
            return None
        places = (asked.in_direction(places)[side],)
    reading = replace(asked.reading, size=f"{source.spec.width}x{source.spec.height}", channels=source.spec.channels)
    request = Request(", ".join(place.text for place in places), places, split or asked.split, reading, (kind,))
    try:
        for layout in LAYOUTS:
            if layout.kind is kind and layout.places == len(places) and layout.refusal(request) is None:
                opened = layout.open(request)
                opened.layout, opened.request = layout.name, request
                return opened
    except RequestError:
        # There is no such split, or none of its pictures can be read so.
        return None
    return None


def as_pictures(source: Source, split: Split | None = None) -> Finite | None:
    """The same SOURCE read as single pictures, whatever else is known of them; None where it cannot be."""
    return as_kind(source, Images, split) or as_kind(source, Labelled, split)
