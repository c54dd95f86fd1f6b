"""Everything that can be measured of a game: which measures follows from what it can do and from what the data carry."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
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
from ganforge.metrics.asked import asked_classes, asked_texts
from ganforge.metrics.edited import edits
from ganforge.metrics.features import open_extractor
from ganforge.metrics.findings import NotMeasuredError, Section, flat
from ganforge.metrics.labelled import classes, clusters, codes
from ganforge.metrics.manifolds import Extractor, ExtractorError
from ganforge.metrics.material import CPU, Material, same
from ganforge.metrics.perceptual import Perceptual
from ganforge.metrics.restored import inpaints, pairs, upscales
from ganforge.metrics.sampled import SAMPLE_METRICS, samples
from ganforge.metrics.translated import domains


def translations(game: Translates, material: Material) -> Section:
    """Against the pictures wanted, where the data say which those are, else between domains."""
    name, measured = ("pairs", pairs) if Pairs in material.tested.kinds else ("domains", domains)
    if not material.wants(name):
        raise NotMeasuredError(f"translations of data {material.tested.name!r} are measured by {name}")
    return measured(game, material)


_MEASURES: tuple[tuple[type, Callable[[Any, Material], Section], tuple[str, ...]], ...] = (
    (Samples, samples, SAMPLE_METRICS),
    (SamplesClasses, asked_classes, ("classes",)),
    (SamplesText, asked_texts, ("texts",)),
    (Clusters, clusters, ("groups",)),
    (Encodes, codes, ("codes",)),
    (Classifies, classes, ("error",)),
    (Translates, translations, ("pairs", "domains")),
    (Upscales, upscales, ("upscaled",)),
    (Inpaints, inpaints, ("holes",)),
    (Edits, edits, ("edits",)),
)

METRICS = tuple(name for *_, names in _MEASURES for name in names)
"""The names of all measures."""

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
    features: str | Extractor = "auto",
    metrics: Sequence[str] = (),
    lpips: str | Perceptual | None = None,
) -> list[Section]:
    """A section for everything that the game can do and the data can measure; the notes of the last say what could not be, and why.

    `source` is what the game is measured on, `trained` what it learned from (None: the same). `labels` are two sources of labelled
    pictures, for independent classifiers to learn from and to be tested on, where the data themselves have none. `n` samples or pictures
    are taken, chosen by `seed`; equal arguments give equal numbers. `features` is an extractor, or what `open_extractor` makes one of;
    "classifier" is taught on labelled pictures, "auto" is that where there are such, else pixels. `metrics` are some of `METRICS`; none
    named: all. What is not asked for costs nothing, and features of real pictures are kept for the next time. `lpips` is a
    `perceptual.Perceptual`, or names the weights of one (None: without).

    The game is neither taught nor changed, and torch's random state is left as it was. RequestError where nothing can be measured,
    ExtractorError where the extractor makes no features of these pictures.
    """
    if n < 2:
        raise RequestError(f"n = {n}: measures need 2 samples or more")
    wanted = known_measures(metrics)
    device = next((p.device for p in game.parameters()), CPU) if isinstance(game, nn.Module) else CPU
    if isinstance(features, str) and features not in ("auto", "classifier"):
        features = open_extractor(features, device)
    network = Perceptual(lpips, device) if isinstance(lpips, str) else lpips
    material = Material(source, trained or source, labels, n, seed, device, features, wanted, network)
    found, reasons = [], []
    with _at_rest(game, device):
        for task, measured, names in _MEASURES:
            if not material.wants(*names):
                continue
            if not isinstance(game, task):
                if metrics:
                    reasons.append(f"{type(game).__name__} does nothing that is measured by {' or '.join(wanted.intersection(names))}")
                continue
            # Each begins anew, so that one more measure changes no other.
            torch.manual_seed(seed)
            try:
                section = measured(game, material)
            except ExtractorError:
                raise
            except RequestError as error:  # what cannot be measured here, or what the game does not do in this setting
                reasons.append(str(error))
                continue
            if task in _GIVEN and isinstance(source, Finite) and isinstance(material.trained, Finite) and same(source, material.trained):
                section.notes.append("measured on pictures that the game learned from; where data have a part to test on, take that")
            found.append(section)
    if not found:
        raise RequestError("nothing can be measured: " + ("; ".join(dict.fromkeys(reasons)) or f"{type(game).__name__} does no task"))
    found[-1].notes.extend(f"not measured: {reason}" for reason in dict.fromkeys(reasons))
    return found


def known_measures(metrics: Sequence[str]) -> frozenset[str]:
    """The measures that are meant, all where none is named; RequestError, with the nearest name, for one that there is not."""
    for name in metrics:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {near[0]}? There are" if near else "there are"
            raise RequestError(f"metrics: no measure is called {name!r}; {hint} {', '.join(METRICS)}")
    return frozenset(metrics or METRICS)


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
