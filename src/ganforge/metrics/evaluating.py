"""Everything that can be measured of a game: which measures follows from what it can do and from what the data carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ganforge.batches import Pairs
from ganforge.capabilities import (
    Classifies,
    Clusters,
    Edits,
    Encodes,
    Inpaints,
    Samples,
    SamplesClasses,
    SamplesText,
    Translates,
    Upscales,
)
from ganforge.data import Finite, Source
from ganforge.errors import RequestError
from ganforge.metrics.edited import edits
from ganforge.metrics.findings import Section, flat
from ganforge.metrics.labelled import classes, clusters, codes
from ganforge.metrics.material import CPU, Material
from ganforge.metrics.restored import inpaints, pairs, upscales
from ganforge.metrics.sampled import asked_classes, asked_texts, samples
from ganforge.metrics.translated import domains

FEATURES = ("auto", "pixels", "classifier")
"""The spaces in which pictures are compared; "auto" is the classifier's where there are labelled pictures, else pixels."""


def translations(game: Translates, material: Material) -> Section:
    """Against the pictures wanted, where the data say which those are, else between domains."""
    return (pairs if Pairs in material.tested.kinds else domains)(game, material)


_MEASURES: tuple[tuple[type, Callable[[Any, Material], Section]], ...] = (
    (Samples, samples),
    (SamplesClasses, asked_classes),
    (SamplesText, asked_texts),
    (Clusters, clusters),
    (Encodes, codes),
    (Classifies, classes),
    (Translates, translations),
    (Upscales, upscales),
    (Inpaints, inpaints),
    (Edits, edits),
)

_GIVEN = (Classifies, Translates, Upscales, Inpaints)
"""What is easier with pictures that were seen in training."""


def evaluate(game: object, source: Source, **options: Any) -> dict[str, float]:
    """All numbers of `examine` by name: a score, and as "NAME, bicubic" what stands beside it."""
    return flat(examine(game, source, **options))


def examine(
    game: object,
    source: Source,
    *,
    trained: Source | None = None,
    labels: tuple[Finite, Finite] | None = None,
    n: int = 2000,
    seed: int = 0,
    features: str = "auto",
) -> list[Section]:
    """A section for everything that the game can do and the data can measure; the notes of the last say what could not be, and why.

    `source` is what the game is measured on, `trained` what it learned from (None: the same). `labels` are two sources of labelled
    pictures, for independent classifiers to learn from and to be tested on, where the data themselves have none. `n` samples or pictures
    are taken, chosen by `seed`; equal arguments give equal numbers. `features` is one of `FEATURES`. The game is neither taught nor
    changed, and torch's random state is left as it was. RequestError where nothing can be measured.
    """
    if n < 2:
        raise RequestError(f"n = {n}: measures need 2 samples or more")
    if features not in FEATURES:
        raise RequestError(f"features = {features!r}: there are {', '.join(FEATURES)}")
    device = next((p.device for p in game.parameters()), CPU) if isinstance(game, nn.Module) else CPU
    material = Material(source, trained or source, labels, n, seed, device, features)
    found, reasons = [], []
    with _at_rest(game, device):
        for task, measured in _MEASURES:
            if isinstance(game, task):
                # Each begins anew, so that one more measure changes no other.
                torch.manual_seed(seed)
                try:
                    section = measured(game, material)
                    if task in _GIVEN and source is material.trained:
                        section.notes.append(
                            "measured on pictures that the game learned from; where data have a part to test on, take that"
                        )
                    found.append(section)
                except RequestError as error:  # what cannot be measured here, or what the game does not do in this setting
                    reasons.append(str(error))
    if not found:
        raise RequestError("nothing can be measured: " + ("; ".join(dict.fromkeys(reasons)) or f"{type(game).__name__} does no task"))
    found[-1].notes.extend(f"not measured: {reason}" for reason in dict.fromkeys(reasons))
    return found


@contextmanager
def _at_rest(game: object, device: torch.device) -> Iterator[None]:
    """In evaluation mode, without gradients, on a random state of its own; all is as it was afterwards."""
    modules = list(game.modules()) if isinstance(game, nn.Module) else []
    training = [module.training for module in modules]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, was in zip(modules, training, strict=True):
                module.training = was
