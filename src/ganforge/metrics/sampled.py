"""Of games that make new data: how near samples are to real ones, how sure and how varied, and whether they are copies."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ganforge.batches import Images, ImageSpec, Labelled
from ganforge.capabilities import Samples
from ganforge.data import Finite
from ganforge.metrics.distances import fid, kid, nearest
from ganforge.metrics.extractors import Pixels
from ganforge.metrics.features import classifier_of, extractor_of
from ganforge.metrics.findings import NotMeasuredError, Score, Section, Space
from ganforge.metrics.images import inception_score
from ganforge.metrics.manifolds import MOST, Extractor, Features, manifold_scores
from ganforge.metrics.material import Material, Part, as_kind, as_pictures, same
from ganforge.metrics.measuring import check, measured
from ganforge.metrics.reference import features_of, probabilities_of

_CHUNK = 256
_NEIGHBOURS = 5
_PICTURE_METRICS = ("manifold", "fid", "kid", "inception-score", "memorisation")
SAMPLE_METRICS = ("points", *_PICTURE_METRICS)
"""The measures of samples: "points" of points and curves, the others of pictures."""


def drawn(game: Samples, latent: Tensor) -> Tensor:
    """A sample for each latent, on the CPU, a few at a time."""
    return torch.cat([game.sample(part).float().cpu() for part in latent.split(_CHUNK)])


def samples(game: Samples, material: Material) -> Section:
    """Of points the scores of `measure`; of pictures those of `Compared`."""
    tested = material.tested
    pictures = isinstance(tested.spec, ImageSpec)
    wanted = [name for name in (_PICTURE_METRICS if pictures else ("points",)) if material.wants(name)]
    if not wanted:
        of = f"pictures: they are measured by {', '.join(_PICTURE_METRICS)}" if pictures else "points: they are measured by points"
        raise NotMeasuredError(f"data {tested.name!r} are {of}")
    made = drawn(game, game.latent(material.n))
    if not pictures:
        scores, _ = measured(made, tested, material.seed)
        return Section("samples", scores)
    real = as_kind(tested, Labelled) or as_kind(tested, Images)
    if real is None:
        raise NotMeasuredError(f"data {tested.name!r} cannot be read as pictures")
    check(made, real)
    compared, section = Compared(made, real, material), Section("samples", [])
    for name in wanted:
        try:
            section.scores.extend(getattr(compared, name.replace("-", "_"))())
        except NotMeasuredError as error:
            section.notes.append(f"{name} not measured: {error}")
    if not section.scores:
        raise NotMeasuredError("; ".join(section.notes))
    section.notes.extend(compared.notes)
    section.spaces.extend(compared.spaces.values())
    return section


class Compared:
    """Pictures `made`, [n, C, H, W], beside real ones: a method for each measure; what two of them need is made once, and only then.

    Beside a score stands that of other real pictures, where there are such.
    """

    def __init__(self, made: Tensor, real: Finite, material: Material) -> None:
        self.notes: list[str] = []
        self.spaces: dict[str, Space] = {}
        self._made, self._real, self._material = made, real, material
        seen, unseen = material.seen(), material.unseen()
        self._other = seen if unseen is not None and same(unseen.source, as_pictures(material.tested)) else unseen

    @cached_property
    def _extractor(self) -> Extractor:
        found = extractor_of(self._material)
        self._name(found)
        return found

    @cached_property
    def _of_samples(self) -> Features:
        return self._extractor.features(self._made)

    @cached_property
    def _reference(self) -> Part:
        return Part.of(self._real, self._material.seed).first(MOST)

    @cached_property
    def _of_reference(self) -> Features:
        return features_of(self._extractor, self._reference)

    @cached_property
    def _of_other(self) -> Features | None:
        return None if self._other is None else features_of(self._extractor, self._other.first(self._material.n))

    def _name(self, extractor: Extractor) -> None:
        self.spaces[extractor.identity] = Space.of(extractor)

    def manifold(self) -> list[Score]:
        """Precision, recall, density and coverage of pixels, and in features where those are others; what `measure` says of classes."""
        if min(len(self._made), len(self._reference)) <= _NEIGHBOURS:
            raise NotMeasuredError(f"{_NEIGHBOURS} neighbours need {_NEIGHBOURS + 1} samples and real pictures or more")
        scores, spaces = measured(self._made, self._real, self._material.seed)
        self.spaces |= {space.identity: space for space in spaces}
        extractor = self._extractor
        if not isinstance(extractor, Pixels):
            count = min(len(self._of_reference), len(self._of_samples), MOST)
            values = manifold_scores(self._of_reference[:count], self._of_samples[:count], _NEIGHBOURS)
            for name, value in values.items():
                scores.append(Score(f"{name} ({extractor.name})", value, better="higher", space=extractor.identity))
        return scores

    def fid(self) -> list[Score]:
        """Fréchet's distance."""
        extractor, (n, d) = self._extractor, self._of_samples.shape
        if min(n, len(self._of_reference)) <= d:
            self.notes.append(
                f"FID ({extractor.name}): {n} samples and {len(self._of_reference)} real pictures in {d} dimensions give covariances of "
                "low rank, and an FID that is too high: compare it with others of as many alone"
            )
        beside = {} if self._of_other is None else {"other real": fid(self._of_reference, self._of_other)}
        value = fid(self._of_reference, self._of_samples)
        return [Score(f"FID ({extractor.name})", value, beside=beside, better="lower", space=extractor.identity)]

    def kid(self) -> list[Score]:
        """The kernel distance, and its spread."""
        extractor, seed = self._extractor, self._material.seed
        mean, spread = kid(self._of_reference, self._of_samples, seed)
        beside = {} if self._of_other is None else {"other real": kid(self._of_reference, self._of_other, seed)[0]}
        beside = {"spread": spread, **beside}
        return [Score(f"KID ({extractor.name})", mean, beside=beside, better="lower", space=extractor.identity)]

    def inception_score(self) -> list[Score]:
        """How sure a classifier is of each, and how evenly of all; beside it of as many real pictures, held out where there are such."""
        classifier = classifier_of(self._material)
        self._name(classifier)
        mean, spread = inception_score(classifier.probabilities(self._made))
        unseen = self._material.unseen()
        real, what = (self._reference, "real") if unseen is None else (unseen, "real held-out")
        of_real = inception_score(probabilities_of(classifier, real.first(len(self._made))))[0]
        beside = {"spread": spread, what: of_real}
        return [Score(f"inception score ({classifier.name})", mean, beside=beside, better="higher", space=classifier.identity)]

    def memorisation(self) -> list[Score]:
        """The mean distance of a sample to the nearest training picture over that of a picture which the game has not seen.

        About 1 where samples are new, towards 0 where they are copies.
        """
        seen, unseen = self._material.seen(), self._material.unseen()
        if seen is None or unseen is None:
            raise NotMeasuredError(f"data {self._material.trained.name!r} have no pictures that are known to be unseen in training")
        extractor = self._extractor
        of_seen = features_of(extractor, seen)
        ratio = nearest(self._of_samples, of_seen) / max(nearest(features_of(extractor, unseen), of_seen), 1e-12)
        return [Score(f"nearest training picture ({extractor.name})", ratio, beside={"held-out": 1.0}, space=extractor.identity)]
