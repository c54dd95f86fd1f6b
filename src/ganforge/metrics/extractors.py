"""Extractors that need no file, pixels and trained games; and how pictures come to the size and the channels of any."""

from __future__ import annotations

import hashlib
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec
from ganforge.capabilities import Classifies, Encodes
from ganforge.errors import RequestError
from ganforge.metrics.manifolds import Extractor, ExtractorError, Features, as_features
from ganforge.metrics.material import CPU, told

_SIDE = 16
_LEAST = 1e-6


def identity_of(name: str, *facts: object) -> str:
    """The name and a hash of all that the features follow from."""
    return f"{name} {hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"


def weights_hash(module: nn.Module) -> str:
    """Changes when any parameter or buffer does."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        kept = value.detach().cpu().contiguous()
        digest.update(repr((name, tuple(kept.shape), str(kept.dtype))).encode())
        digest.update(kept.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def resized(images: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """[n, C, H, W] to [n, C, *size], smoothed where it shrinks: without that, coarse pixels would be features (arXiv:2104.11222)."""
    return images if images.shape[2:] == size else F.interpolate(images, size=size, mode=mode, antialias=True)


def in_channels(images: Tensor, channels: int, whose: str) -> Tensor:
    """The same pictures in so many channels: grey ones are repeated; ExtractorError for all others."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    raise ExtractorError(f"{whose} takes pictures of {channels} channels; these have {images.shape[1]}")


class Pixels:
    """The pixels themselves, averaged down to at most 16 a side: alike is what has the same layout of light and colour."""

    name = "pixels"
    about = f"means of pixels, at most {_SIDE} a side, in [-1, 1]"
    identity = identity_of(name, about)

    def features(self, images: Tensor) -> Features:
        """See `Extractor`."""
        size = min(_SIDE, images.shape[2]), min(_SIDE, images.shape[3])
        return as_features(F.interpolate(images.float().cpu(), size=size, mode="area"))


class _Coder:
    """What a trained game makes of pictures: its codes where it encodes, else the logarithms of its classes' probabilities."""

    def __init__(self, game: nn.Module, spec: ImageSpec, name: str) -> None:
        encodes = isinstance(game, Encodes)
        what = "codes" if encodes else f"logarithms of the classes' probabilities (at least {_LEAST})"
        self.name = name
        self.about = f"{what} of pictures of {spec.width}x{spec.height}, {spec.channels} channels, antialiased bilinear, in [-1, 1]"
        self.identity = identity_of(name, self.about, type(game).__name__, weights_hash(game))
        self._game, self._spec, self._encodes = game, spec, encodes
        self._device = next((parameter.device for parameter in game.parameters()), CPU)

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """See `Extractor`."""
        if self._encodes:
            game = cast(Encodes, self._game)
            return as_features(told(lambda chunk: game.encode(self._brought(chunk)), images, self._device))
        return as_features(self._classes(images).clamp_min(_LEAST).log())

    def _classes(self, images: Tensor) -> Tensor:
        game = cast(Classifies, self._game)
        return told(lambda chunk: game.classify(self._brought(chunk)), images, self._device)

    def _brought(self, images: Tensor) -> Tensor:
        return resized(in_channels(images.float(), self._spec.channels, self.name), self._spec.shape[1:])


class _Classifier(_Coder):
    """A trained game that classifies, and may encode too."""

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Features:
        """See `TellsClasses`."""
        return as_features(self._classes(images))


def game_extractor(game: nn.Module, spec: ImageSpec, name: str) -> Extractor:
    """The features of a trained game at rest that encodes or classifies pictures of `spec`; RequestError where it does neither."""
    if isinstance(game, Classifies):
        return _Classifier(game, spec, name)
    if isinstance(game, Encodes):
        return _Coder(game, spec, name)
    raise RequestError(f"{name}: {type(game).__name__} neither encodes nor classifies; `ganforge list --can classify` names games that can")
