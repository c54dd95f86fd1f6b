"""Of games that translate between domains whose pictures do not belong together: what comes back, how it looks, what it still shows."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from ganforge.batches import Batch, Labelled, TwoDomains, Unpaired
from ganforge.capabilities import Translates, ends_of
from ganforge.metrics.asked import read_right
from ganforge.metrics.distances import kid
from ganforge.metrics.features import classes_of, extractor_of, places_of
from ganforge.metrics.fidelity import l1, levels
from ganforge.metrics.findings import NotMeasuredError, Score, Section, Space
from ganforge.metrics.manifolds import Extractor
from ganforge.metrics.material import Material, Part, as_kind, told
from ganforge.metrics.readers import Reader, reader_of
from ganforge.metrics.restored import LEVELS


def domains(game: Translates, material: Material) -> Section:
    """For each way: KID between translations and real pictures of the other domain, labels that survive, and what comes back.

    Beside KID that of the inputs as they are. "label kept" is the share of translations in which a classifier taught on real pictures of
    the other domain reads the label of the input; beside it the share of inputs as they are, and of real held-out pictures of that
    domain. "cycle error" is the mean L1 of what goes both ways to the input.
    """
    kind = next((kind for kind in (Unpaired, TwoDomains) if kind in material.tested.kinds), None)
    if kind is None:
        raise NotMeasuredError(f"data {material.tested.name!r} are neither pairs nor of two domains")
    sides = [field.name for field in fields(kind) if field.name != "label"]
    scores: list[Score] = []
    notes: list[str] = []
    spaces: dict[str, Space] = {}
    for way in game.ways:
        given, wanted = ends_of(way)
        inputs, real = (_pictures(material, kind, side) for side in (given, wanted))
        made = _through(game, inputs, way, material.device)
        extractor = extractor_of(material, sides.index(wanted))
        spaces[extractor.identity] = Space.of(extractor)
        scores.append(_distance(extractor, material.seed, way, inputs, made, real))
        try:
            kept, reader = _label_kept(game, material, way, sides.index(given), sides.index(wanted))
            spaces[reader.identity] = Space.of(reader)
            scores.append(kept)
        except NotMeasuredError as error:
            notes.append(f"{way}: labels not measured: {error}")
        back = f"{wanted}2{given}"
        if back in game.ways:
            returned = _through(game, made, back, material.device)
            scores.append(Score(f"{way}: cycle error", l1(levels(returned), levels(inputs)).mean().item(), LEVELS, better="lower"))
    return Section("translations, between domains", scores, notes, spaces=list(spaces.values()))


def _through(game: Translates, images: Tensor, way: str, device: torch.device) -> Tensor:
    return told(lambda chunk: game.translate(chunk, way), images, device)


def _pictures(material: Material, kind: type[Batch], field: str) -> Tensor:
    """At most n different pictures of one side, [m, C, H, W]: the shorter side of a source begins again."""
    pictures = torch.cat([batch.tensors()[field] for batch in material.shown(kind).batches(kind)])
    first = {picture.numpy().tobytes(): number for number, picture in reversed(list(enumerate(pictures)))}
    return pictures[sorted(first.values())]


def _distance(extractor: Extractor, seed: int, way: str, inputs: Tensor, made: Tensor, real: Tensor) -> Score:
    of_real = extractor.features(real)
    mean, spread = kid(of_real, extractor.features(made), seed)
    beside = {"spread": spread, "untranslated": kid(of_real, extractor.features(inputs), seed)[0]}
    return Score(f"{way}: KID ({extractor.name})", mean, beside=beside, better="lower", space=extractor.identity)


def _label_kept(game: Translates, material: Material, way: str, given: int, wanted: int) -> tuple[Score, Reader]:
    learn, test = material.labelled(wanted)
    source = as_kind(material.tested, Labelled, side=given)
    if source is None:
        raise NotMeasuredError(f"data {material.tested.name!r}: the pictures to translate have no labels")
    names = classes_of(learn)
    reader = reader_of("classes", learn, len(names))
    part = Part.of(source, material.seed).first(material.n)
    place = places_of(part, names)
    kept, before = [], []
    for batch in part.batches(Labelled):
        true = place[batch.tensors()["label"]]
        kept.append(reader.says(game.translate(batch.x.to(material.device), way)).argmax(dim=1) == true)
        before.append(reader.says(batch.x).argmax(dim=1) == true)
    beside = {"untranslated": torch.cat(before).double().mean().item(), "real held-out": read_right(reader, test, names)}
    share = torch.cat(kept).double().mean().item()
    return Score(f"{way}: label kept", share, beside=beside, better="higher", space=reader.identity), reader
