"""Of games that make new data: how near samples are to real ones, whether they are what was asked for, whether they are copies."""

from __future__ import annotations

import torch
from torch import Tensor

from ganforge.batches import Captioned, Images, ImageSpec, Labelled
from ganforge.capabilities import Samples, SamplesClasses, SamplesText
from ganforge.metrics.distances import fid, kid, nearest
from ganforge.metrics.features import classes_of, extractor_of, features_of, places_of
from ganforge.metrics.findings import NotMeasuredError, Score, Section
from ganforge.metrics.manifolds import MOST
from ganforge.metrics.material import Material, Part, as_kind, as_pictures, same
from ganforge.metrics.measuring import measure
from ganforge.metrics.readers import Reader, reader_of

_CANDIDATES = 100
_CHUNK = 256


def drawn(game: Samples, latent: Tensor) -> Tensor:
    """A sample for each latent, on the CPU, a few at a time."""
    return torch.cat([game.sample(part).float().cpu() for part in latent.split(_CHUNK)])


def samples(game: Samples, material: Material) -> Section:
    """The scores of `measure`; of pictures FID and KID too, and how near samples come to the pictures that the game learned from.

    Beside FID and KID stand those of other real pictures, where there are such. "nearest training picture" is the mean distance of a
    sample to it over that of a picture which the game has not seen: about 1 where samples are new, towards 0 where they are copies.
    """
    made = drawn(game, game.latent(material.n))
    tested = material.tested
    if not isinstance(tested.spec, ImageSpec):
        return Section("samples", [Score(name, value) for name, value in measure(made, tested, seed=material.seed).items()])
    real = as_kind(tested, Labelled) or as_kind(tested, Images)
    if real is None:
        raise NotMeasuredError(f"data {tested.name!r} cannot be read as pictures")
    scores = [Score(name, value) for name, value in measure(made, real, seed=material.seed).items()]
    extractor = extractor_of(material)
    reference = Part.of(real, material.seed).first(MOST)
    of_samples, of_reference = extractor.features(made), features_of(extractor, reference)
    seen, unseen = material.seen(), material.unseen()
    other = seen if unseen is not None and same(unseen.source, as_pictures(tested)) else unseen
    of_other = None if other is None else features_of(extractor, other.first(material.n))
    beside = {} if of_other is None else {"other real": fid(of_reference, of_other)}
    scores.append(Score(f"FID ({extractor.name})", fid(of_reference, of_samples), beside=beside))
    mean, spread = kid(of_reference, of_samples, material.seed)
    beside = {} if of_other is None else {"other real": kid(of_reference, of_other, material.seed)[0]}
    scores.append(Score(f"KID ({extractor.name})", mean, beside={"spread": spread, **beside}))
    if seen is not None and unseen is not None:
        of_seen = features_of(extractor, seen)
        ratio = nearest(of_samples, of_seen) / max(nearest(features_of(extractor, unseen), of_seen), 1e-12)
        scores.append(Score(f"nearest training picture ({extractor.name})", ratio, beside={"held-out": 1.0}))
    return Section("samples", scores)


def asked_classes(game: SamplesClasses, material: Material) -> Section:
    """The share of samples to which an independent classifier gives the class that was asked for, as many of each class."""
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
    beside = {"real held-out": read_right(reader, test, known), "chance": 1 / len(names)}
    scores = [
        Score("of the class asked for", right.double().mean().item(), beside=beside),
        Score("of the class asked for, worst class", of_class[least]),
    ]
    return Section("samples of a class", scores, [f"the worst class is {least}"], {"of the class asked for": of_class})


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
        scores.append(Score(f"own text among the first {most} of {count}", of["samples"], beside=beside))
    return Section("samples of a text", scores)


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
