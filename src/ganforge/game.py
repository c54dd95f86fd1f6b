"""The whole abstraction: a Game has Players; its `play` is the paper's algorithm box, a generator that yields Moves.

One call of `play` is one round. For each move that it yields, the engine computes the gradients of the players named (and of nobody
else), steps their optimisers, and resumes `play` with what the move saw. Everything that outlives a round is a parameter or a buffer
of the game, so that a checkpoint is complete by construction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor, nn

from ganforge.batches import Batch
from ganforge.errors import RequestError, TrainingError

Seen = Mapping[str, Tensor]
"""What `yield` gives back to `play`: the averages, over accumulated rounds, of the values that the move named."""

Schedule = Callable[[int], float | Tensor]
"""From a round's number in its phase to the factor on the learning rate (where it depends on data, a buffer, read each round)."""


@dataclass(frozen=True)
class Player:
    """Parameters that move together, and how they move.

    `optimiser` takes the list of parameters, e.g. `partial(torch.optim.Adam, lr=2e-4)`; `ema` is the decay of the averaged weights
    that are used after training (0: none); `clip` bounds the norm of the player's gradient (0: none).
    """

    module: nn.Module | Iterable[nn.Parameter]
    optimiser: Callable[..., torch.optim.Optimizer]
    schedule: Schedule | None = None
    ema: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            object.__setattr__(self, "module", tuple(self.module))

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that this player moves, each once."""
        return list(dict.fromkeys(self.module.parameters() if isinstance(self.module, nn.Module) else self.module))


class Move:
    """`yield Move("generator", loss, fake=D(fake))`: these players descend this loss; the values named are logged and come back.

    `players` is a name or a tuple of names; `loss` a scalar; each value of `seen` a tensor of any shape, of which the mean is taken.
    """

    def __init__(self, players: str | tuple[str, ...], loss: Tensor, **seen: Tensor) -> None:
        self.losses: dict[tuple[str, ...], Tensor] = {(players,) if isinstance(players, str) else players: loss}
        self.seen = seen

    @classmethod
    def together(cls, **losses: Tensor) -> Move:
        """A simultaneous move: each loss goes to its own player, all gradients are taken before anyone steps."""
        if not losses:
            raise TrainingError("Move.together() names no player; write Move.together(discriminator=..., generator=...)")
        move = cls.__new__(cls)
        move.losses = {(name,): loss for name, loss in losses.items()}
        move.seen = {}
        return move

    def saw(self, **seen: Tensor) -> Move:
        """The same move with these values logged and returned too: `Move.together(...).saw(real=..., fake=...)`."""
        self.seen = {**self.seen, **seen}
        return self

    @property
    def players(self) -> tuple[str, ...]:
        """The names of all that move."""
        return tuple(name for names in self.losses for name in names)


@dataclass(frozen=True)
class Phase:
    """A stretch of rounds played by one generator function. `None` means the run's own: its rounds, batch size, picture size."""

    name: str
    play: Callable[[Iterator[Any]], Iterator[Move]]
    rounds: int | None = None
    batch_size: int | None = None
    size: int | None = None
    fresh: bool = False
    """Whether the optimisers forget their moments when this phase begins. Schedules always count the rounds of the phase."""


class Preset:
    """A named setting of a game: `about` says whose; `options` are values of the game's and of train's options."""

    def __init__(self, about: str, **options: Any) -> None:
        self.about = about
        self.options = options


class Game(nn.Module):
    """Subclass it, write `players` and `play`, and `ganforge.train` does the rest.

    The keyword arguments of `__init__` after the data's specification are the hyper-parameters: the command line, the config file and
    the documentation are derived from their names, types and defaults, and from the `Args:` of the docstring.
    """

    rounds: int = 10_000
    """The paper's length of a run, where `--rounds` says nothing."""
    batch_size: int = 64
    """The paper's batch size, where `--batch-size` says nothing."""
    source: ClassVar[str] = "digits"
    """The data that show the game best, where `--data` says nothing."""
    reading: ClassVar[dict[str, Any]] = {}
    """How the paper's pictures are read, as options of train: flip, jitter, fit, ...; `size` holds for data without a size of their own."""
    presets: ClassVar[dict[str, Preset]] = {}
    """Other settings, by name. `tiny` makes widths and lengths small enough to test in a blink; the games of the zoo must have it."""
    couples_samples: bool = False
    """True where a sample's loss depends on its batch through more than batch normalisation: K accumulated batches are not one."""

    _round = 0
    round_was_read = False
    """Whether anybody has asked for `round` since this was last set to False: such rounds are not all alike."""

    def players(self) -> dict[str, Player]:
        """The players by name. Called once, before the first round."""
        raise NotImplementedError(f"{type(self).__name__} has no players(): return {{'generator': Player(...), ...}}")

    def play(self, batches: Iterator[Any]) -> Iterator[Move]:
        """One round: draw from `batches`, yield moves. What depends on the data is updated after the last `yield`, once a round."""
        raise NotImplementedError(f"{type(self).__name__} has no play(): write the paper's algorithm box as a generator of moves")

    def phases(self) -> list[Phase]:
        """What is played, in order; one endless phase unless the paper pre-trains, grows or stacks."""
        return [Phase("play", self.play)]

    def notes(self) -> list[str]:
        """Lines for the user, said when a run begins: what of the paper this setting leaves out, and how to have it."""
        return []

    def variant(self) -> Hashable:
        """Rounds with equal variants make the same moves by the same operations: what play() asks of `round`, as `self.round % 16 == 0`."""
        return None

    @property
    def round(self) -> int:
        """The number of the current round in its phase, from 0. The engine sets it."""
        self.round_was_read = True
        return self._round

    @round.setter
    def round(self, number: int) -> None:
        self._round = number

    @property
    def device(self) -> torch.device:
        """Where the parameters live: noise is drawn there."""
        return next(self.parameters()).device


def reads(game: type[Game]) -> tuple[type[Batch], ...]:
    """The batch types in the signature of `play`, the best liked first: `Iterator[Images | Points]` gives (Images, Points)."""
    try:
        (wanted,) = get_args(get_type_hints(game.play)["batches"])
    except (KeyError, ValueError):
        raise RequestError(f"{game.__qualname__}.play must say what it reads: def play(self, batches: Iterator[Images])") from None
    return get_args(wanted) or (wanted,)


def hyper_parameters(game: type[Game]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of `__init__`, annotations resolved: every option that the game has."""
    hints = get_type_hints(game.__init__)
    given = inspect.signature(game).parameters
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in given.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


G = TypeVar("G", bound=type[Game])
_registry: dict[str, type[Game]] = {}


def register(name: str) -> Callable[[G], G]:
    """The only act of registration: `@register("wgan-gp")`. A name already taken by another class raises."""

    def enter(cls: G) -> G:
        taken = _registry.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise RequestError(f"the game {name!r} is registered already, by {taken.__module__}.{taken.__qualname__}")
        _registry[name] = cls
        return cls

    return enter


def registered_name(cls: type[Game]) -> str | None:
    """The name under which this very class is registered, or None for a game of a notebook."""
    return next((name for name, known in _registry.items() if known is cls), None)


def registered(name: str) -> type[Game] | None:
    """The class registered under this name so far, or None."""
    return _registry.get(name)
