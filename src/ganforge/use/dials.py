"""Named properties set to values: of given pictures, or of samples."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ganforge.capabilities import Edits, Steers, able
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.seeds import seeded

Sweep = Mapping[str, tuple[float, float]]
"""Each dial with its first and its last value."""
REACH = (-3.0, 3.0)
"""How far a direction of the latent goes as a dial: beyond three deviations the generator has seen next to nothing."""
_NAMED = 12


def edit(game: Game, image: Tensor, values: Mapping[str, float], seed: int = 0) -> Tensor:
    """[n, C, H, W] to the same with these properties set, the others as they are; RequestError names a dial that is wrong."""
    editor = able(game, Edits)
    check(editor.dials, values)
    with torch.no_grad(), seeded(seed, game.device):
        return editor.edit(image.to(game.device), values).float()


def steer(game: Game, latent: Tensor, values: Mapping[str, float], directions: Mapping[str, Tensor] | None = None) -> Tensor:
    """Latents with these dials turned, [n, ...] to [n, ...]; RequestError names a dial that is wrong.

    The game's own dials are set to their values; of `directions`, each a step [k], so many are added to latents [n, k]: 0 changes nothing.
    """
    own = able(game, Steers).dials if directions is None else dials_of(game)
    check({**dict.fromkeys(directions or (), REACH), **own}, values)
    turned = latent.to(game.device)
    with torch.no_grad():
        for name, step in (directions or {}).items():
            if name in values and name not in own:
                turned = turned + values[name] * step.to(turned)
        # Afterwards, so that what is set is what it was set to.
        mine = {name: value for name, value in values.items() if name in own}
        return able(game, Steers).steer(turned, mine) if mine else turned


def dials_of(game: Game) -> Mapping[str, tuple[float, float]]:
    """The dials that the game's own latents have; most have none."""
    return game.dials if isinstance(game, Steers) else {}


def parse_dials(text: str) -> dict[str, tuple[float, float]]:
    """The dials of `smile=1,age=-1..1`, each from a value to a value; RequestError says what is not understood."""
    dials: dict[str, tuple[float, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = part.partition("=")
        first, _, last = value.partition("..")
        try:
            pair = float(first), float(last or first)
        except ValueError:
            pair = math.nan, math.nan
        if not sign or not all(map(math.isfinite, pair)) or value.endswith(".."):
            raise RequestError(f"--set {part}: must be a name and a number, smile=1, or from one to another, smile=0..1")
        if name.strip() in dials:
            raise RequestError(f"--set {part}: {name.strip()} is set twice")
        dials[name.strip()] = pair
    return dials


def steps_of(sweep: Sweep, steps: int) -> list[dict[str, float]]:
    """`steps` settings from the first values to the last, all dials together; a single one where none moves."""
    if all(first == last for first, last in sweep.values()):
        return [{name: first for name, (first, _) in sweep.items()}]
    if steps < 2:
        raise RequestError(f"--steps {steps}: from one value to another takes at least 2")
    parts = [step / (steps - 1) for step in range(steps)]
    return [{name: first + (last - first) * part for name, (first, last) in sweep.items()} for part in parts]


def check(dials: Mapping[str, tuple[float, float]], values: Mapping[str, float]) -> None:
    """RequestError where a value is of no dial, or beyond its range."""
    for name, value in values.items():
        if name not in dials:
            near = difflib.get_close_matches(name, dials, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? It" if near else "it"
            raise RequestError(f"--set {name}: is no dial of this game; {hint} has {described(dials)}")
        least, greatest = dials[name]
        if not least <= value <= greatest:
            raise RequestError(f"--set {name}={value:g}: {name} goes from {least:g} to {greatest:g}")


def described(dials: Mapping[str, tuple[float, float]]) -> str:
    """smile 0..1, age -1..1; the first of many."""
    told = [f"{name} {least:g}..{greatest:g}" for name, (least, greatest) in dials.items()]
    return ", ".join(told[:_NAMED]) + (f" and {len(told) - _NAMED} more (--list)" if len(told) > _NAMED else "") or "none"
