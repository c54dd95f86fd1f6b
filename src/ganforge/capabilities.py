"""What a trained game can do, one protocol per user task. Commands and metrics ask for the capability, never for a model's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ganforge.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Samples(Protocol):
    """Makes new data from noise: the games that `sample` and `interpolate` serve."""

    def latent(self, n: int) -> Tensor:
        """`n` draws from the prior, [n, ...], on the game's device, from torch's own random state."""
        ...

    def sample(self, latent: Tensor) -> Tensor:
        """One sample per latent, [n, *spec.shape]: pictures in [-1, 1], points in the data's units."""
        ...


@runtime_checkable
class Judges(Protocol):
    """Says how real something looks: the games whose decision boundary can be drawn."""

    def judge(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to [n]: the probability of being real, or the critic's score where the game has no probabilities."""
        ...


CAPABILITIES: dict[str, type] = {"sample": Samples, "judge": Judges}
"""The user tasks by the name of the method that does them."""


def can(game: object, task: str) -> bool:
    """Whether the game does this user task, one of `CAPABILITIES`."""
    return isinstance(game, CAPABILITIES[task])


def sampler(game: object) -> Samples:
    """The game as one that samples; RequestError where it cannot."""
    if not isinstance(game, Samples):
        raise RequestError(f"{type(game).__name__} cannot sample; `ganforge list --can sample` names the games that can")
    return game


def judge(game: object) -> Judges | None:
    """The game, if it can judge."""
    return game if isinstance(game, Judges) else None
