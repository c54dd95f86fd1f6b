"""Learning-rate schedules: pure functions from a round's number (in its phase) to the factor on the learning rate.

They depend on nothing else, so that a resumed run needs no more than the round, and a longer run begins like a shorter one.
A constant rate is `Player(schedule=None)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def linear_decay(start: int, end: int) -> Callable[[int], float]:
    """1 until round `start`, then linearly to 0 at round `end` and after."""
    return lambda round: 1.0 if round < start else max(0.0, (end - round) / max(1, end - start))


def exponential(rate: float, every: int = 1) -> Callable[[int], float]:
    """`rate` ** (round // every): a staircase, or smooth with `every` = 1."""
    return lambda round: rate ** (round // every)


def cosine(end: int) -> Callable[[int], float]:
    """Half a cosine from 1 at round 0 to 0 at round `end` and after. SGDR without restarts, arXiv:1608.03983, eq. (5)."""
    return lambda round: (1 + math.cos(math.pi * min(round, end) / end)) / 2
