"""What a trained game can do, one protocol per user task. Commands and metrics ask for the capability, never for a model's name.

All methods take and give tensors on the game's device; pictures are [n, C, H, W] in [-1, 1]. Where a method draws noise, it comes from
torch's own random state, so that a seed names a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from ganforge.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

P = TypeVar("P")


@runtime_checkable
class Samples(Protocol):
    """Makes new data from noise: the games that `sample` and `interpolate` serve."""

    def latent(self, n: int) -> Tensor:
        """`n` draws from the prior, [n, ...]; where samples are made on a condition, a random one is part of each."""
        ...

    def sample(self, latent: Tensor) -> Tensor:
        """One sample per latent, [n, *spec.shape]: pictures in [-1, 1], points in the data's units."""
        ...


@runtime_checkable
class SamplesClasses(Samples, Protocol):
    """Makes new data of a class that is asked for: `sample --class`."""

    def latent_of_class(self, label: Tensor) -> Tensor:
        """A latent for each label, [n] int64 (an index into `spec.classes`) to [n, ...]: fresh noise, and that class."""
        ...


@runtime_checkable
class SamplesText(Samples, Protocol):
    """Makes new data from words: `sample --text`."""

    def latent_of_text(self, text: Tensor) -> Tensor:
        """A latent for each vector of a text, [n, spec.text] to [n, ...]: fresh noise, and that text."""
        ...


@runtime_checkable
class Steers(Samples, Protocol):
    """Has latents with named dials that mean something, found without labels: `edit` of samples."""

    dials: Mapping[str, tuple[float, float]]
    """Each dial with its least and greatest value."""

    def steer(self, latent: Tensor, values: Mapping[str, float]) -> Tensor:
        """The same latents with these dials turned to these values, [n, ...] to [n, ...]."""
        ...


@runtime_checkable
class Edits(Protocol):
    """Changes named properties of a given picture and leaves the rest: `edit` of pictures."""

    dials: Mapping[str, tuple[float, float]]
    """Each property that can be set, with its least and greatest value."""

    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] to the same with these properties set and all others as they are; any height and width that the game says."""
        ...


@runtime_checkable
class Translates(Protocol):
    """Makes of a picture its counterpart in another domain."""

    ways: tuple[str, ...]
    """What can be made of what, as fields of the batch that the game reads, the usual way first: ("a2b", "b2a"), ("source2target",)."""

    def translate(self, image: Tensor, way: str) -> Tensor:
        """[n, C, H, W] to [n, C, H, W], `way` one of `ways`; a game with many answers draws one."""
        ...


@runtime_checkable
class Upscales(Protocol):
    """Makes of a small picture a large one."""

    reach: int
    """How many pixels of the small picture away from its own place a pixel of the large one still depends on: tiles overlap by that."""

    def upscale(self, image: Tensor) -> Tensor:
        """[n, C, h, w] to [n, C, spec.factor * h, spec.factor * w], any height and width."""
        ...


@runtime_checkable
class Inpaints(Protocol):
    """Fills holes."""

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        """[n, *spec.shape] and [n, 1, H, W] (1 in the hole, 0 elsewhere) to [n, *spec.shape]; outside the hole, bit for bit the picture."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Makes numbers of a sample: its code, or features of it."""

    def encode(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to [n, k]."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """Says which class a picture belongs to."""

    def classify(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to [n, len(spec.classes)]: probabilities, in the order of the spec's classes."""
        ...


@runtime_checkable
class Clusters(Protocol):
    """Sorts samples into groups that it found by itself, without labels."""

    def cluster(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to [n, k]: the probability of each group; the groups have no names."""
        ...


@runtime_checkable
class Judges(Protocol):
    """Says how real something looks: the games whose decision boundary can be drawn."""

    def judge(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to [n]: the probability of being real, or the critic's score where the game has no probabilities."""
        ...


def ends_of(way: str) -> tuple[str, str]:
    """Of a way of `Translates` the field of the batch that is given and that which is wanted: "a2b" is ("a", "b")."""
    given, wanted = way.split("2")
    return given, wanted


CAPABILITIES: dict[str, type] = {
    "sample": Samples,
    "sample-class": SamplesClasses,
    "sample-text": SamplesText,
    "edit-samples": Steers,
    "edit": Edits,
    "translate": Translates,
    "upscale": Upscales,
    "inpaint": Inpaints,
    "encode": Encodes,
    "classify": Classifies,
    "cluster": Clusters,
    "judge": Judges,
}
"""The user tasks by name."""

_METHODS = {"sample-class": "latent_of_class", "sample-text": "latent_of_text", "edit-samples": "steer"}


def method_of(task: str) -> str:
    """The method by which a game does this user task, as a rule of the same name."""
    return _METHODS.get(task, task)


def can(game: object, task: str) -> bool:
    """Whether the game does this user task, one of `CAPABILITIES`."""
    return isinstance(game, CAPABILITIES[task])


def able(game: object, protocol: type[P]) -> P:
    """The game as one that does the task of `protocol`; RequestError, with the way to the games that can, where it does not."""
    if not isinstance(game, protocol):
        task = next(name for name, each in CAPABILITIES.items() if each is protocol)
        raise RequestError(f"{type(game).__name__} cannot {task}; `ganforge list --can {task}` names the games that can")
    return game


def sampler(game: object) -> Samples:
    """The game as one that samples; RequestError where it cannot."""
    return able(game, Samples)


def judge(game: object) -> Judges | None:
    """The game, if it can judge."""
    return game if isinstance(game, Judges) else None
