"""Scores of pictures, in the space of their pixels and, where there are labels, in the space of a classifier's verdicts."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import Images, Labelled
from ganforge.data.source import Source
from ganforge.metrics.manifolds import MOST, Features, as_features, least_share, manifold_scores, real_samples

_SIDE = 32
_SURE = 0.9
_SPLITS = 10


def image_scores(samples: Tensor, source: Source, *, seed: int, neighbours: int) -> dict[str, float]:
    """Scores of `samples`, [n, C, H, W] in [-1, 1], by name.

    "precision", "recall", "density" and "coverage" compare them with as many real pictures, at most 5,000, pixel by pixel, both averaged
    down to at most 32 pixels a side: a distance over more pixels is ruled by detail that no eye compares. A source with labels adds
    `class_scores`.
    """
    labelled = Labelled in source.kinds
    batches = real_samples(source, Labelled if labelled else Images, 2 * MOST if labelled else min(MOST, len(samples)), seed)
    real, generated = np.concatenate([_pixels(batch.x) for batch in batches]), _pixels(samples[:MOST])
    count = min(len(real), len(generated))
    scores = manifold_scores(real[:count], generated[:count], neighbours)
    if labelled:
        labels = torch.cat([batch.tensors()["label"] for batch in batches]).numpy()
        scores |= class_scores(real, labels, generated, seed=seed, neighbours=neighbours)
    return scores


def class_scores(real: Features, labels: NDArray[np.int64], generated: Features, *, seed: int, neighbours: int) -> dict[str, float]:
    """What a classifier, taught with one half of the labelled real pictures, [n, d] with classes [n], says of the generated, [m, d].

    "classifier accuracy" and "real share confident" are taken on the other half, so that the rest can be read against them. A sample is
    assigned confidently where a class has a probability of 0.9 or more; "share confident" counts those, "classes covered" the
    classes to which at least 1 % of all samples are so assigned, and "class entropy" is that of the assigned classes' shares, 1 where
    they are even. "class precision" and so on compare the classifier's logits of the samples and of as many pictures of the other half;
    they see which classes there are and how typical, but noise, of which the classifier knows nothing, may look like an odd picture to
    it. Nothing where the halves are too small or hold one class only.
    """
    half = len(real) // 2
    kinds = len(np.unique(labels))
    if len(np.unique(labels[:half])) < 2 or min(len(real) - half, len(generated)) <= neighbours:
        return {}
    classifier = Classifier(real[:half], labels[:half], seed)
    others, verdicts = classifier.probabilities(real[half:]), classifier.probabilities(generated)
    sure = verdicts.max(axis=1) >= _SURE
    shares = np.bincount(verdicts[sure].argmax(axis=1), minlength=kinds) / len(generated)
    count = min(len(real) - half, len(generated))
    return {
        "classifier accuracy": float(np.mean(classifier.classes[others.argmax(axis=1)] == labels[half:])),
        "real share confident": float(np.mean(others.max(axis=1) >= _SURE)),
        "share confident": float(sure.mean()),
        "classes": float(kinds),
        "classes covered": float((shares >= least_share(kinds)).sum()),
        "class entropy": evenness(shares),
    } | manifold_scores(classifier.logits(real[half:][:count]), classifier.logits(generated[:count]), neighbours, "class ")


class Classifier:
    """Logistic regression on random radial features (Nyström's): it knows what it has not seen, and is never sure of noise.

    `features` are [n, d], `labels` [n]; about 99 % right on the bundled digits, 95 % on MNIST, 40 % on CIFAR-10, in seconds.
    """

    def __init__(self, features: Features, labels: NDArray[np.int64], seed: int) -> None:
        # The width of the kernel follows the data: the mean squared distance of two pictures is twice this variance.
        width = float(features.var(axis=0).sum()) or 1.0
        radial = Nystroem(gamma=1 / width, n_components=min(1000, len(features)), random_state=seed)
        self._model = make_pipeline(radial, LogisticRegression(C=100, max_iter=300))
        with warnings.catch_warnings():
            # Classes that overlap never let the fit converge; its accuracy is measured, whatever it came to.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(features, labels)
        self.classes: NDArray[np.int64] = self._model.classes_

    def probabilities(self, features: Features) -> NDArray[np.float64]:
        """[n, d] to [n, k], rows that sum to 1; columns as in `classes`."""
        probabilities: NDArray[np.float64] = self._model.predict_proba(features)
        return probabilities

    def logits(self, features: Features) -> Features:
        """[n, d] to [n, k], or [n, 1] for two classes."""
        logits: Features = self._model.decision_function(features).astype(np.float32).reshape(len(features), -1)
        return logits


def evenness(shares: NDArray[np.float64]) -> float:
    """The entropy of `shares`, [k], scaled to sum 1, over that of k equal ones: 1 where all are equal, 0 where one has all or none any."""
    held = shares[shares > 0] / max(shares.sum(), 1e-12)
    return abs(float((held * np.log(held)).sum() / math.log(len(shares)))) if len(shares) > 1 else 0.0


def inception_score(probabilities: Features) -> tuple[float, float]:
    """exp of the mean KL(p(y|x) || p(y)) of rows [n, k], at least 2: its (mean, standard deviation) over 10 parts, fewer below 20 rows.

    Salimans et al. 2016, arXiv:1606.03498, section 4. 1 where all rows are equal, k where each is sure and the classes are even.
    """
    parts = np.array_split(probabilities.astype(np.float64), min(_SPLITS, len(probabilities) // 2))
    scores = [np.exp(rel_entr(part, part.mean(axis=0)).sum(axis=1).mean()) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def _pixels(images: Tensor) -> Features:
    """[n, C, H, W] to rows of the pixels that are compared."""
    size = min(_SIDE, images.shape[2]), min(_SIDE, images.shape[3])
    return as_features(F.interpolate(images.float(), size=size, mode="area"))
