"""Of games that sort, describe or classify pictures: what their groups, codes and classes are worth, told by labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ganforge.batches import Labelled, SemiLabelled, TwoDomains
from ganforge.capabilities import Classifies, Clusters, Encodes
from ganforge.metrics.extractors import Pixels
from ganforge.metrics.features import classes_of, places_of
from ganforge.metrics.findings import NotMeasuredError, Score, Section
from ganforge.metrics.manifolds import MOST, Features, as_features
from ganforge.metrics.material import Material, Part, as_kind, request_of, told
from ganforge.metrics.readers import reader_of, taught_on

Numbers = NDArray[np.int64]

_NEIGHBOURS = 5


def clusters(game: Clusters, material: Material) -> Section:
    """How far the groups that the game found are the classes; beside it k-means on pixels with as many groups."""
    part = _tested(material)
    images, labels = _labelled(part)
    said = told(game.cluster, images, material.device)
    groups, count = said.argmax(dim=1).numpy(), said.shape[1]
    pixels = Pixels().features(images)
    with warnings.catch_warnings():
        # Fewer different pictures than groups.
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = KMeans(min(count, len(pixels)), n_init=4, random_state=material.seed).fit_predict(pixels).astype(np.int64)
    name, accuracy = ("matching", matched_accuracy) if count <= len(classes_of(part)) else ("majority", majority_accuracy)
    measures: dict[str, Callable[[Numbers, Numbers], float]] = {
        f"cluster accuracy ({name})": accuracy,
        "NMI": lambda found, true: float(normalized_mutual_info_score(true, found)),
        "ARI": lambda found, true: float(adjusted_rand_score(true, found)),
    }
    scores = [
        Score(what, of(groups, labels), beside={"k-means on pixels": of(plain, labels)}, better="higher") for what, of in measures.items()
    ]
    used = int((np.bincount(groups, minlength=count) > 0).sum())
    return Section("groups", scores, [f"{used} of {count} groups are used, for {len(classes_of(part))} classes"])


def matched_accuracy(groups: Numbers, labels: Numbers) -> float:
    """The share right where each group stands for a class of its own, under the best such matching (Kuhn 1955); both [n], from 0."""
    size = int(max(groups.max(), labels.max())) + 1
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def majority_accuracy(groups: Numbers, labels: Numbers) -> float:
    """The share right where each group stands for the class that most of it has; this is looked up in one half and counted in the other.

    Each half serves the other; a group that a half does not have stands for nothing there, and is wrong.
    """
    counts = np.zeros((2, int(groups.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    half = np.random.default_rng(0).permutation(len(labels)) % 2
    np.add.at(counts, (half, groups, labels), 1)
    meaning = np.where(counts.sum(axis=2) > 0, counts.argmax(axis=2), -1)
    return float(np.mean(meaning[1 - half, groups] == labels))


def codes(game: Encodes, material: Material) -> Section:
    """What the codes know of the classes: a linear classifier and 5 nearest neighbours, taught on some pictures and tested on others."""
    learn, test = material.labelled()
    found = []
    for part in (learn.first(MOST), test.first(material.n)):
        images, labels = _labelled(part)
        coded = told(game.encode, images, material.device)
        found.append((as_features(coded), Pixels().features(images), _in_terms(labels, part, classes_of(learn))))
    (learned, pixels, truth), (tested, tested_pixels, true) = found
    scores = []
    for name, accuracy in (("linear probe", probe_accuracy), (f"{_NEIGHBOURS} nearest neighbours", neighbour_accuracy)):
        plain = accuracy(pixels, truth, tested_pixels, true)
        scores.append(Score(f"{name} on codes", accuracy(learned, truth, tested, true), beside={"on pixels": plain}, better="higher"))
    return Section("codes", scores, [f"codes of {learned.shape[1]} numbers"])


def probe_accuracy(learn: Features, labels: Numbers, test: Features, true: Numbers) -> float:
    """The share of [m, d] that logistic regression on standardised features [n, d] gets right."""
    if len(np.unique(labels)) < 2:
        return float(np.mean(true == labels[0]))
    with warnings.catch_warnings():
        # Classes that overlap never let the fit converge; its accuracy is measured, whatever it came to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(learn, labels)
    return float(np.mean(model.predict(test) == true))


def neighbour_accuracy(learn: Features, labels: Numbers, test: Features, true: Numbers) -> float:
    """The share of [m, d] of which most of the 5 nearest among [n, d] have the class."""
    model = KNeighborsClassifier(min(_NEIGHBOURS, len(learn))).fit(learn, labels)
    return float(np.mean(model.predict(test) == true))


def classes(game: Classifies, material: Material) -> Section:
    """The game's error; beside it that of a plain classifier taught on exactly the labelled pictures that the game had."""
    names = material.spec.classes
    if not names:
        raise NotMeasuredError(f"data {material.trained.name!r} has no classes")
    part = _tested(material)
    images, own = _labelled(part)
    labels = _in_terms(own, part, names)
    said = told(game.classify, images, material.device).argmax(dim=1).numpy()
    plain, what = _plain(material, images, labels)
    beside = {} if plain is None else {what: plain}
    confusion = confusion_matrix(labels, said, labels=np.arange(len(names)))
    details = {"classes": list(names), "confusion (rows: true, columns: said)": confusion.tolist()}
    return Section("classes", [Score("error", float(np.mean(said != labels)), beside=beside, better="lower")], [], details)


def _plain(material: Material, images: Tensor, labels: Numbers) -> tuple[float | None, str]:
    """The error of a plain classifier taught on the labels that the game had, and what it is called."""
    trained, names = material.trained, material.spec.classes
    if SemiLabelled in trained.kinds or TwoDomains in trained.kinds:
        known, true = _had(material)
        reader = taught_on(known, true, len(names))
        what = "plain classifier, source only" if TwoDomains in trained.kinds else f"plain classifier on the {len(known):,} labels"
    else:
        learn, _ = material.parts(Labelled)
        reader, what = reader_of("classes", learn, len(names)), "plain classifier"
    return float(np.mean(reader.says(images).argmax(dim=1).numpy() != labels)), what


def _had(material: Material) -> tuple[Tensor, Tensor]:
    """The labelled pictures that a game had which learned from few labels, or from those of another domain."""
    source = material.trained
    kind, field = (SemiLabelled, "labelled") if SemiLabelled in source.kinds else (TwoDomains, "source")
    whole = as_kind(source, kind)
    assert whole is not None
    request = request_of(source)
    kept = None if request is None or kind is TwoDomains else request.reading.labels
    # The labelled side of a source begins again where it is the shorter one: so many are once each.
    part = Part(whole, torch.arange(min(whole.count, kept or MOST)))
    batches = [batch.tensors() for batch in part.batches(kind)]
    return torch.cat([batch[field] for batch in batches]), torch.cat([batch["label"] for batch in batches])


def _tested(material: Material) -> Part:
    """The labelled pictures that the game is tested on; of two domains, those of the second."""
    source = as_kind(material.tested, Labelled, side=int(TwoDomains in material.tested.kinds))
    if source is None and material.labels is not None:
        source = material.labels[1]
    if source is None:
        hint = "; name labelled pictures with --data or --labelled"
        raise NotMeasuredError(f"data {material.tested.name!r} has no labels{hint}")
    return Part.of(source, material.seed).first(material.n)


def _labelled(part: Part) -> tuple[Tensor, Numbers]:
    """All pictures and their labels."""
    batches = [batch.tensors() for batch in part.batches(Labelled)]
    return torch.cat([batch["image"] for batch in batches]), torch.cat([batch["label"] for batch in batches]).numpy()


def _in_terms(labels: Numbers, part: Part, names: tuple[str, ...]) -> Numbers:
    """The labels of a part as indices into `names`; -1 for a class that is none of them."""
    placed: Numbers = places_of(part, names).numpy()[labels]
    return placed
