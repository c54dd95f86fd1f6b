"""Directions of the latent, as dials of games that only sample: found in the generator itself, or learnt from what samples show.

A direction is a step, [k] as a row of latents: one standard deviation of the noise along it, and 0 where a latent holds a condition.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ganforge.batches import Attributed, ImageSpec, Labelled, Spec
from ganforge.capabilities import Samples, able
from ganforge.data import Source
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.runs import RunFolder
from ganforge.use.conditions import latents, noise_columns
from ganforge.use.seeds import seeded

if TYPE_CHECKING:
    from ganforge.metrics.material import Part

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
_PAIRS = 1024
_SIGNS = 16
_CHUNK = 64
_TRIED = 256
_TURN = 2.0
_FEWEST = 20
_BLIND = 1e-9
_LEARNT = 4  # of 5 parts; the fifth is to test on

Sees = Callable[[Tensor], Tensor]
"""From pictures [n, C, H, W] to what they show, [n, k] of bool."""


def directions(game: Game, spec: Spec, count: int = 8) -> dict[str, Tensor]:
    """Directions found without labels, each [k], the strongest first: sefa1, sefa2, ... and pca1, pca2, ..., `count` of each at most.

    sefa: the eigenvectors of A^T A, where A is the first layer that the noise comes to (Shen and Zhou 2020, arXiv:2007.06600). pca: the
    directions with which the principal components grow of what comes out of the first activation, by regression (Härkönen et al. 2020,
    arXiv:2004.02546). The noise itself is alike in all directions and has no principal components, and those of A z are again sefa.
    Along each direction samples become brighter. None of a game without such a layer; the same at every call.
    """
    noise = noise_columns(game, spec).to(game.device)
    with seeded(0, game.device):
        pairs = max(_PAIRS, 4 * int(noise.sum()))
        here, there = latents(game, pairs), latents(game, pairs)
    # What is asked for is the same on both sides of a difference, so that it is noise alone that makes the difference.
    there[:, ~noise] = here[:, ~noise]
    first, bent = _places(game, here[:1], there[:1])
    if first is None:
        return {}
    spread = here[:, noise].std(dim=0).clamp_min(1e-12)
    moved = ((here - there)[:, noise] / spread).cpu().double()
    change = [_features(game, each, first, given=False) for each in (here, there)]
    weight = torch.linalg.lstsq(moved, change[0] - change[1]).solution
    powers, vectors = torch.linalg.eigh(weight @ weight.T)
    # What a layer is blind to is no direction.
    found = {"sefa": vectors[:, powers > _BLIND * powers[-1]].flip(1)}
    change = [_features(game, each, bent, given=True) for each in (here, there)]
    scores = torch.linalg.eigh((change[0] - change[1]) @ (change[0] - change[1]).T).eigenvectors.flip(1)[:, : len(weight)]
    found["pca"] = torch.linalg.lstsq(moved, scores).solution
    named = {}
    for name, columns in found.items():
        for number, normal in enumerate(columns.T[:count], 1):
            step = _step(normal, noise, spread, here)
            named[f"{name}{number}"] = step * _sign(game, here[:_SIGNS], step)
    return named


@dataclass(frozen=True)
class Direction:
    """A learnt direction, with what there is to say for it.

    `read` is the balanced accuracy of the independent reader on real pictures that it was not taught on. `auc` says how well the latents
    along `step` tell samples that show it from others, all of which it was not learnt from (0.5: not at all). Of samples that do not show
    it, the share `confirmed` does after two steps, and `by_chance` after two steps in a direction drawn at random.
    """

    step: Tensor
    read: float
    auc: float
    confirmed: float
    by_chance: float


@dataclass(frozen=True)
class Learnt:
    """Directions by the names of attributes or classes; for each that is left out, the reason."""

    directions: dict[str, Direction]
    left_out: dict[str, str]


def learn_directions(game: Game, spec: ImageSpec, source: Source, n: int = 2000, seed: int = 0, without: Sequence[str] = ()) -> Learnt:
    """For each attribute of `source`, or else each class, the direction that turns it on (Shen et al. 2020, arXiv:1907.10786).

    An independent reader, taught on `source`, says what `n` samples show; the direction is the normal of the plane by which logistic
    regression parts the noise of four fifths of them; the others test it. The directions named by `without` are projected out of all
    others. What separates no better than chance is left out. RequestError where the data have neither attributes nor classes, are of
    other channels, or know no such name as in `without`, and for fewer than 40 samples.
    """
    if n < 2 * _FEWEST:
        raise RequestError(f"{n} samples: must be at least {2 * _FEWEST}, as a direction takes {_FEWEST} that show it and {_FEWEST} others")
    # Here, because scikit-learn takes a second to import and most of what knows this room learns nothing.
    from ganforge.metrics.material import Part, as_kind
    from ganforge.metrics.readers import reader_of

    labelled = as_kind(source, Attributed) or as_kind(source, Labelled)
    names = () if labelled is None or not isinstance(labelled.spec, ImageSpec) else labelled.spec.attributes or labelled.spec.classes
    kind = Attributed if labelled is not None and Attributed in labelled.kinds else Labelled
    if labelled is None or len(names) < (1 if kind is Attributed else 2):
        raise RequestError(f"data {source.name!r}: carry neither attributes nor classes to learn from; name pictures that do with --data")
    if labelled.spec.shape[0] != spec.channels:
        raise RequestError(f"data {source.name!r}: have {labelled.spec.shape[0]} channels, the samples {spec.channels}")
    strange = next((name for name in without if name not in names), None)
    if strange is not None:
        near = difflib.get_close_matches(strange, names, n=1, cutoff=0.5)
        known = f"did you mean {near[0]}?" if near else f"they have {', '.join(names)}"
        raise RequestError(f"--without {strange}: data {source.name!r} do not have it; {known}")
    taught, held = Part.of(labelled).divided()
    reader = reader_of("attributes" if kind is Attributed else "classes", taught, len(names))

    def sees(images: Tensor) -> Tensor:
        said = reader.says(images)
        return said > 0 if kind is Attributed else nn.functional.one_hot(said.argmax(dim=1), len(names)) > 0

    noise = noise_columns(game, spec).to(game.device)
    with seeded(seed, game.device):
        drawn, tried = latents(game, n), latents(game, min(n, _TRIED))
        random = torch.randn(int(noise.sum()), device=game.device)
    spread = drawn[:, noise].std(dim=0).clamp_min(1e-12)
    placed = ((drawn[:, noise] - drawn[:, noise].mean(dim=0)) / spread).cpu().double()
    shown = _shown(game, sees, drawn, seed)
    normals, left_out = _normals(placed, shown, names)
    normals = _freed(normals, left_out, without)
    read, before = _read_right(sees, held, kind, len(names)), _shown(game, sees, tried, seed)
    astray = _shown(game, sees, tried + _TURN * _step(random, noise, spread, drawn), seed)
    tests = slice(n * _LEARNT // 5, None)
    found = {}
    for name, normal in normals.items():
        column = names.index(name)
        auc, chance = _auc(placed[tests] @ normal, shown[tests, column])
        if not auc > chance:
            left_out[name] = f"too few samples show it to say that the latent tells it better than chance (AUC {auc:.2f})"
            continue
        step = _step(normal, noise, spread, drawn)
        after, lacking = _shown(game, sees, tried + _TURN * step, seed)[:, column], ~before[:, column]
        confirmed, by_chance = (float(seen[lacking].double().mean()) for seen in (after, astray[:, column]))
        if not confirmed > by_chance:
            left_out[name] = f"two steps show it in {confirmed:.0%} of samples, two in a random direction in {by_chance:.0%}"
            continue
        found[_as_dial(name)] = Direction(step.cpu(), read[column], auc, confirmed, by_chance)
    return Learnt(found, left_out)


def write_directions(run: RunFolder, learnt: Learnt) -> None:
    """Writes them into the run folder as safetensors, atomically, with what there is to say for them."""
    told = {name: {key: value for key, value in vars(each).items() if key != "step"} for name, each in learnt.directions.items()}
    about = {"directions": json.dumps(told), "weights": _weights(run)}
    with atomic_write(run.directions) as temporary:
        save_file({name: each.step.contiguous() for name, each in learnt.directions.items()}, temporary, about)


def read_directions(run: RunFolder) -> tuple[dict[str, Direction], bool]:
    """The learnt directions of a run folder, none where nothing was learnt, and whether they are of the weights that it has now.

    RequestError where the file is broken.
    """
    if not run.directions.exists():
        return {}, True
    try:
        with safe_open(run.directions, "pt") as stored:
            about = stored.metadata()
            told = json.loads(about["directions"])
            found = {
                name: Direction(stored.get_tensor(name), *(float(each[key]) for key in ("read", "auc", "confirmed", "by_chance")))
                for name, each in told.items()
            }
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{run.directions}: holds no directions ({error}); `ganforge directions RUN --force` learns them anew") from None
    return found, about.get("weights") == _weights(run)


def _weights(run: RunFolder) -> str:
    """Changes when the run is trained further."""
    with run.weights.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


class _ReachedError(Exception):
    """What is wanted of the game has been seen."""


def _watch(game: Game, latent: Tensor, see: Callable[[int, Tensor, Tensor], bool]) -> Tensor | None:
    """Samples, and calls `see(number, given, made)` for each call of a layer, until that says True; the samples, None if it did."""
    # Other threads may sample with the same layers meanwhile.
    thread, numbers = threading.get_ident(), itertools.count()

    def hook(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if threading.get_ident() == thread and see(next(numbers), given[0], made):
            raise _ReachedError

    hooks = [module.register_forward_hook(hook) for module in game.modules() if isinstance(module, _LAYERS)]
    try:
        with torch.no_grad(), seeded(0, game.device), suppress(_ReachedError):
            return able(game, Samples).sample(latent)
    finally:
        for each in hooks:
            each.remove()
    return None


def _places(game: Game, here: Tensor, there: Tensor) -> tuple[int | None, int | None]:
    """Of the calls of layers the first that the noise comes to, and the first that it comes to bent by an activation; None: none.

    What is not bent is, halfway between two latents, halfway between what it is of each.
    """
    places: list[int] = []

    def see(number: int, given: Tensor, _: Tensor) -> bool:
        if len(given) != 3 or torch.equal(given[0], given[1]):
            return False
        apart = (given[0] - given[1]).abs().max()
        bent = bool((given[2] - (given[0] + given[1]) / 2).abs().max() > 1e-3 * apart)
        if not places or bent:
            places.append(number)
        return bent and len(places) > 1

    _watch(game, torch.cat([here, there, (here + there) / 2]), see)
    return places[0] if places else None, places[1] if len(places) > 1 else None


def _features(game: Game, latent: Tensor, place: int | None, given: bool) -> Tensor:
    """What the layer of this call is given, or makes, for each latent, [n, m] on the CPU; without a place the samples themselves."""
    found: list[Tensor] = []

    def see(number: int, taken: Tensor, made: Tensor) -> bool:
        if number == place:
            found.append((taken if given else made).flatten(1).cpu().double())
        return number == place

    for part in latent.split(_CHUNK):
        samples = _watch(game, part, see)
        if samples is not None:
            found.append(samples.flatten(1).cpu().double())
    return torch.cat(found)


def _step(normal: Tensor, noise: Tensor, spread: Tensor, like: Tensor) -> Tensor:
    """The step of one deviation along a normal, [d] over columns of noise scaled to deviation 1: [k], 0 in the other columns."""
    step = torch.zeros_like(like[0])
    step[noise] = (normal / normal.norm()).to(spread) * spread
    return step


def _sign(game: Game, latent: Tensor, step: Tensor) -> float:
    """1 where samples become brighter along the step, -1 where they become darker."""
    with torch.no_grad(), seeded(0, game.device):
        ahead, back = able(game, Samples).sample(torch.cat([latent + _TURN * step, latent - _TURN * step])).chunk(2)
    return 1.0 if ahead.mean() >= back.mean() else -1.0


def _shown(game: Game, sees: Sees, latent: Tensor, seed: int) -> Tensor:
    """What is seen in the sample of each latent, [n, k] of bool."""
    shown = []
    for number, part in enumerate(latent.split(_CHUNK)):
        # By the chunk, so that other threads need not wait for all of them.
        with torch.no_grad(), seeded(seed + number, game.device):
            samples = able(game, Samples).sample(part)
        shown.append(sees(samples))
    return torch.cat(shown)


def _read_right(sees: Sees, held: Part, kind: type[Attributed] | type[Labelled], count: int) -> list[float]:
    """Of each attribute or class the balanced accuracy on real pictures; not a number where all of these have it, or none."""
    seen, true = [], []
    for batch in held.batches(kind):
        answer = batch.tensors()["attribute" if kind is Attributed else "label"]
        seen.append(sees(batch.x))
        true.append(answer > 0 if kind is Attributed else nn.functional.one_hot(answer, count) > 0)
    said, truth = torch.cat(seen).double(), torch.cat(true).double()
    hits, passes = (said * truth).sum(dim=0) / truth.sum(dim=0), ((1 - said) * (1 - truth)).sum(dim=0) / (1 - truth).sum(dim=0)
    return [float(each) for each in (hits + passes) / 2]


def _normals(noise: Tensor, shown: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The unit normal [d] of each name, by logistic regression of `shown` [n, k] on `noise` [n, d]; for each name without, the reason."""
    from sklearn.linear_model import LogisticRegression

    normals, left_out = {}, {}
    learnt = slice(len(noise) * _LEARNT // 5)
    for name, shows in zip(names, shown.T, strict=True):
        many = int(shows.sum())
        if min(many, len(shows) - many) < _FEWEST:
            left_out[name] = f"{many} of {len(shows)} samples show it"
            continue
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(noise[learnt].numpy(), shows[learnt].numpy())
        normals[name] = nn.functional.normalize(torch.from_numpy(model.coef_[0]).double(), dim=0)
    return normals, left_out


def _freed(normals: dict[str, Tensor], left_out: Mapping[str, str], without: Sequence[str]) -> dict[str, Tensor]:
    """The normals with those of `without` projected out of all others; RequestError where one of `without` has none."""
    for name in without:
        if name not in normals:
            raise RequestError(f"--without {name}: {left_out[name]}, so it has no direction")
    if not without:
        return normals
    basis = torch.linalg.qr(torch.stack([normals[name] for name in without], dim=1)).Q
    return {name: each if name in without else each - basis @ (basis.T @ each) for name, each in normals.items()}


def _auc(along: Tensor, shows: Tensor) -> tuple[float, float]:
    """The AUC of [n] numbers, and the least that is better than chance: three deviations of Wilcoxon's statistic above a half."""
    from sklearn.metrics import roc_auc_score

    many, few = int(shows.sum()), int((~shows).sum())
    if not many * few:
        return 0.5, 0.5
    return float(roc_auc_score(shows.numpy(), along.numpy())), 0.5 + 3 * ((many + few + 1) / (12 * many * few)) ** 0.5


def _as_dial(name: str) -> str:
    """The name as `--set` can say it."""
    return name.replace(",", "_").replace("=", "_").strip()
