"""Of games that make what is asked for, a class or a text: whether they heed it, and how near each class is to real ones."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from ganforge.batches import Captioned, Labelled
from ganforge.capabilities import SamplesClasses, SamplesText
from ganforge.metrics.distances import fid
from ganforge.metrics.features import classes_of, extractor_of, places_of
from ganforge.metrics.findings import NotMeasuredError, Score, Section, Space
from ganforge.metrics.manifolds import MOST, Extractor, Features
from ganforge.metrics.material import Material, Part, as_kind, same
from ganforge.metrics.readers import Reader, reader_of
from ganforge.metrics.reference import features_of
from ganforge.metrics.sampled import drawn

_CANDIDATES = 100
_ENOUGH = 50


def asked_classes(game: SamplesClasses, material: Material) -> Section:
    """The share of samples to which an independent classifier gives the class that was asked for, as many of each class; FID by class."""
    names = material.spec.classes
    if not names:
        raise NotMeasuredError(f"data {material.trained.name!r} has no classes")
    learn, test = material.labelled()
    known = classes_of(learn)
    if set(names) - set(known):
        raise NotMeasuredError(f"the classes of {learn.source.name!r} are {', '.join(known)}; the run's are {', '.join(names)}")
    reader = reader_of("classes", learn, len(known))
    asked = torch.arange(max(material.n, len(names))) % len(names)
    made = drawn(game, game.latent_of_class(asked.to(material.device)))
    right = reader.says(made).argmax(dim=1) == torch.tensor([known.index(name) for name in names])[asked]
    of_class = {name: right[asked == number].double().mean().item() for number, name in enumerate(names)}
    least = min(of_class, key=lambda name: of_class[name])
    beside = {"chance": 1 / len(names)}
    with suppress(NotMeasuredError):
        beside = {"real held-out": read_right(reader, test, known), **beside}
    scores = [
        Score("of the class asked for", right.double().mean().item(), beside=beside, better="higher", space=reader.identity),
        Score("of the class asked for, worst class", of_class[least], better="higher", space=reader.identity),
    ]
    extractor = extractor_of(material)
    notes = [f"the class that is least often made is {least}"]
    details: dict[str, dict[str, float]] = {"of the class asked for": of_class}
    try:
        apart, other = fid_of_class(extractor, material, made, asked)
        worst = max(apart, key=lambda name: apart[name])
        name = f"FID ({extractor.name})"
        beside = {"other real": other[worst]} if worst in other else {}
        scores.append(Score(f"{name}, worst class", apart[worst], beside=beside, better="lower", space=extractor.identity))
        notes.append(f"the class of the highest {name} is {worst}, of {len(apart)} with {_ENOUGH} real pictures or more")
        details |= {name: apart, f"{name}, other real": other}
    except NotMeasuredError as error:
        notes.append(str(error))
    spaces = {each.identity: Space.of(each) for each in (reader, extractor)}
    return Section("samples of a class", scores, notes, details, list(spaces.values()))


def fid_of_class(extractor: Extractor, material: Material, made: Tensor, asked: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """For each class with enough real pictures Fréchet's distance of its samples to those; and of as many other real ones, where there are.

    `made` are samples, [n, C, H, W], `asked` their classes, [n], by their place in the run's.
    """
    names = material.spec.classes
    tested = as_kind(material.tested, Labelled)
    if tested is None:
        raise NotMeasuredError(f"FID by class not measured: data {material.tested.name!r} have no labels")
    held = (as_kind(material.trained, Labelled, "train"), as_kind(material.trained, Labelled, "test"))
    other = next((source for source in held if source is not None and not same(tested, source)), None)
    reference = _by_class(extractor, Part.of(tested, material.seed).first(MOST), names)
    rows = extractor.features(made)
    of_made = {name: rows[(asked == number).numpy()] for number, name in enumerate(names)}
    enough = [name for name in names if len(reference[name]) >= _ENOUGH and len(of_made[name]) > 1]
    if not enough:
        raise NotMeasuredError(f"FID by class not measured: no class has {_ENOUGH} real pictures and 2 samples")
    of_other = {} if other is None else _by_class(extractor, Part.of(other, material.seed).first(MOST), names)
    as_many = {name: of_other[name][: len(of_made[name])] for name in enough if len(of_other.get(name, ())) >= len(of_made[name])}
    return (
        {name: fid(reference[name], of_made[name]) for name in enough},
        {name: fid(reference[name], others) for name, others in as_many.items()},
    )


def _by_class(extractor: Extractor, part: Part, names: tuple[str, ...]) -> dict[str, Features]:
    """The features of the real pictures of each class."""
    labels = places_of(part, names)[torch.cat([batch.tensors()["label"] for batch in part.batches(Labelled)])]
    rows = features_of(extractor, part)
    return {name: rows[(labels == number).numpy()] for number, name in enumerate(names)}


def read_right(reader: Reader, test: Part, known: tuple[str, ...]) -> float:
    """The share of labelled pictures that a reader of the classes `known` reads right."""
    place = places_of(test, known)
    right = [reader.says(batch.x).argmax(dim=1) == place[batch.tensors()["label"]] for batch in test.batches(Labelled)]
    return torch.cat(right).double().mean().item()


def asked_texts(game: SamplesText, material: Material) -> Section:
    """Retrieval: the share of samples whose own text an independent reader finds first, or among the first 10, of 100 different texts."""
    learn, test = material.parts(Captioned)
    test = test.first(material.n)
    texts = torch.cat([batch.tensors()["text"] for batch in test.batches(Captioned)])
    reader = reader_of("texts", learn, texts.shape[1])
    made = drawn(game, game.latent_of_text(texts.to(material.device)))
    found = {what: ranks(reader.says(images), texts) for what, images in (("samples", made), ("real", test.images()))}
    count = min(_CANDIDATES, len(texts.unique(dim=0)))
    scores = []
    for most in (1, 10):
        of = {what: (rank < most).double().mean().item() for what, rank in found.items()}
        beside = {"real held-out": of["real"], "chance": min(1.0, most / count)}
        name = f"own text among the first {most} of {count}"
        scores.append(Score(name, of["samples"], beside=beside, better="higher", space=reader.identity))
    return Section("samples of a text", scores, spaces=[Space.of(reader)])


def ranks(outputs: Tensor, texts: Tensor) -> Tensor:
    """For each row of `outputs` [n, d] how many of up to 99 other texts are as near or nearer than its own, a row of `texts` [n, d].

    Near by the angle. The other texts differ from its own and from each other; which ones they are depends on the row's number alone.
    """
    distinct, own = texts.unique(dim=0, return_inverse=True)
    nearness = torch.nn.functional.normalize(outputs, dim=1) @ torch.nn.functional.normalize(distinct, dim=1).T
    order = torch.rand(len(texts), len(distinct), generator=torch.Generator().manual_seed(0))
    order.scatter_(1, own[:, None], 2.0)
    others = order.argsort(dim=1)[:, : min(_CANDIDATES, len(distinct)) - 1]
    # What is no number is not nearer than anything.
    return (~(nearness.gather(1, others) < nearness.gather(1, own[:, None]))).sum(dim=1)
