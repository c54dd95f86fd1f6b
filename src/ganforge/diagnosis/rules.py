"""The rules: from the course of a run to what ails it. Thresholds were set on runs that were broken on purpose, and on healthy ones.

benchmarks/broken.py plays both kinds; docs/doctor.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from ganforge.diagnosis.signs import PREFIX

Row = Mapping[str, Any]

# What counts as lasting: so many looks, over such a share of the run.
_LOOKS, _TAIL = 4, 0.25
# A gradient that is so large, and so many times what it was at first.
_EXPLODED = 300.0
# Told apart in nearly all pairs, by a loss near 0, while so little of the real data is reached; a gradient that is gone.
_CERTAIN, _NAUGHT, _POOR, _FAINT = 0.995, 0.1, 0.3, 0.01
# Hardly better than chance, while next to nothing is reached and the samples stand still.
_CHANCE, _BAD, _CALM = 0.6, 0.1, 0.3
# Modes, spread, and coverage with spread, below which samples have collapsed; and the rounds before which that may be a beginning.
_FEW, _ALIKE, _THIN, _NARROW = 0.6, 0.5, 0.2, 0.75
_YOUNG = 500, 2000
# Standard deviations from one look to the next.
_RESTLESS = 0.5
# How much farther from real samples averaged weights are than live ones.
_FAR = 1.5
# The scale of points that networks are made for.
_LITTLE, _LARGE = 0.02, 20.0
# The share of the gap in scores that a frame explains, and of pairs in which a picture is known by heart.
_GIVEN_AWAY, _KNOWN = 0.5, 0.8
# Standard deviations that running statistics shift samples by, and the batches for which that is asked.
_MOVED, LONE = 0.1, 2
# The share of a player's parameters that may go without a gradient: biases that cancel do.
RESTING = 0.01


@dataclass(frozen=True)
class Course:
    """What is known of a run: the rows of its metrics.jsonl, the last of which may be of a look just taken, and some facts.

    `planned` is how many rounds it is to have, `pictures` says whether it is of pictures, `micro` how many samples pass the networks at
    once, `normed` whether they use batch statistics, `count` how many samples there are to learn from (None: endless); `unreached` has for
    each player that moves the parameters that got no gradient; `failure` is the message of a run that failed.
    """

    rows: Sequence[Row]
    planned: int = 0
    pictures: bool = True
    micro: int = 64
    normed: bool = False
    count: int | None = None
    unreached: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failure: str = ""

    @property
    def end(self) -> int:
        """The last round of which something is known."""
        return int(self.rows[-1]["round"]) if self.rows else 0

    def series(self, key: str) -> list[tuple[int, float]]:
        """(round, value) of every row that has the key; infinite for what is no number."""
        found = [(int(row["round"]), row[key]) for row in self.rows if isinstance(row.get(key), int | float)]
        return [(number, float(value) if math.isfinite(value) else math.inf) for number, value in found]

    def sign(self, name: str) -> list[tuple[int, float]]:
        """The course of a sign (see `signs`)."""
        return self.series(PREFIX + name)

    @property
    def nearness(self) -> str:
        """The sign that says how far samples have come to real ones: of a known mixture its modes, else coverage."""
        return "modes" if self.sign("modes") else "coverage"

    def rises(self, name: str) -> bool:
        """Whether a sign has grown from each of its last looks to the next, by a tenth in all."""
        values = [value for _, value in self.sign(name)][-_LOOKS:]
        return len(values) > 1 and values[-1] > 1.1 * values[0] and all(a < b for a, b in pairwise(values))

    def lasting(self, test: Callable[[Mapping[str, float]], bool], *names: str) -> tuple[int, dict[str, float]] | None:
        """Since which look, to the last, the signs named pass the test, and their last values; None where that is no lasting thing.

        Lasting are four looks that cover the last quarter of the run, or all where there are fewer.
        """
        keys = [PREFIX + name for name in names]
        looks = [row for row in self.rows if all(isinstance(row.get(key), int | float) for key in keys)]
        streak: list[Row] = []
        for row in reversed(looks):
            if not test({name: float(row[key]) for name, key in zip(names, keys, strict=True)}):
                break
            streak.append(row)
        if not streak or len(streak) < min(_LOOKS, len(looks)):
            return None
        since = int(streak[-1]["round"])
        if len(streak) < len(looks) and self.end - since < _TAIL * self.end:
            return None
        return since, {name: float(streak[0][key]) for name, key in zip(names, keys, strict=True)}


@dataclass(frozen=True)
class Finding:
    """What ails a run: its `cause` by name, what was `seen`, `since` which round, what `usually` causes it, what to try: `advice`."""

    cause: str
    seen: str
    since: int
    usually: str
    advice: str

    def __str__(self) -> str:
        since = f"since round {self.since}" if self.since else "from the start"
        return f"{self.cause}, {since}: {self.seen}. Usually: {self.usually}. Try: {self.advice}."


Rule = Callable[[Course], "Finding | None"]


def findings(course: Course) -> list[Finding]:
    """What ails a run. An ailment of its set-up hides those of the balance of the players, and these hide what only comes of them."""
    for kind in (_SETUP, _BALANCE, _OUTCOME):
        found = [each for rule in kind if (each := rule(course)) is not None]
        if found:
            return found
    return []


def adversary(key: str) -> bool:
    """Whether a player, or a key of metrics with its name, is of those that tell real from made."""
    return "discriminator" in key or "critic" in key


def _dead(course: Course) -> Finding | None:
    still = {player: since for player, values in _gradients(course).items() if (since := _still(values)) is not None}
    idle = course.sign("idle")
    # What has learned once may rest for the moment of a look.
    never = {} if idle and idle[-1][1] < RESTING else course.unreached
    if not still and not never:
        return None
    seen = [f"the {player}'s {_listed(names)} got no gradient whenever it was looked for" for player, names in never.items()]
    seen += [f"the {player} gets no gradient at all" for player in still if player not in never]
    return Finding(
        "dead player",
        "; ".join(seen),
        min(still.values(), default=0),
        "a detach() or no_grad() on the way, a layer that forward() leaves out, or ReLUs that too large a step has closed for all inputs",
        "look where the loss of that player comes from; a tenth of --lr if it once learned",
    )


def _still(gradients: Sequence[tuple[int, float]]) -> int | None:
    """Since when a gradient has been 0, to the last; None where it is not, or not for long."""
    moving = [number for number, value in gradients if value > 0]
    quiet = [number for number, _ in gradients if not moving or number > moving[-1]]
    return quiet[0] if len(quiet) >= max(_LOOKS, _TAIL * len(gradients)) else None


def _exploding(course: Course) -> Finding | None:
    lost = next((what for what in ("is nan", "is inf", "is -inf") if what in course.failure), "")
    failed = course.failure.split(";")[0]
    for key, values in _gradients(course).items():
        first, last = values[0][1], median(value for _, value in values[-max(1, len(values) // 4) :])
        if last > _EXPLODED * first and last > _EXPLODED:
            return Finding(
                "exploding gradients",
                f"the norm of the {key}'s gradient is {last:,.0f}, and was {first:.2g}" + (f"; {failed}" if lost else ""),
                next(number for number, value in values if value > 0.1 * last),
                "a learning rate too high, or a critic that nothing keeps smooth",
                "a tenth of --lr; a gradient penalty or spectral normalisation; Player(clip=1.0); --precision fp32",
            )
    if not lost:
        return None
    return Finding(
        "exploding gradients",
        failed,
        course.end,
        "a learning rate too high, a logarithm or a root of 0, or bf16 where it is too coarse",
        "a tenth of --lr; --precision fp32; clip the player's gradient",
    )


def _gradients(course: Course) -> dict[str, list[tuple[int, float]]]:
    """The course of each player's gradient."""
    keys = sorted({key for row in course.rows for key in row if key.startswith("grad/")})
    return {key.removeprefix("grad/"): values for key in keys if (values := course.series(key))}


def _too_strong(course: Course) -> Finding | None:
    near = course.nearness
    lasting = course.lasting(lambda sign: sign["told"] > _CERTAIN and sign[near] < _POOR, "told", near)
    losses = {key: course.series(key) for row in course.rows[-1:] for key in row if key.startswith("loss/") and adversary(key)}
    if lasting is None:
        return None
    for key, values in losses.items():
        recent = [value for _, value in values[-max(1, len(values) // 4) :]]
        # Losses that go below 0 are no logarithms or squares, and 0 means nothing there.
        if min(value for _, value in values) < 0 or median(recent) > _NAUGHT:
            continue
        since, sign = lasting
        faint = min((v[-1][1] / max(each for _, each in v) for name, v in _gradients(course).items() if not adversary(name)), default=1.0)
        gone = f"; the generator's gradient is {faint:.1g} of what it was" if faint < _FAINT else ""
        return Finding(
            "discriminator too strong",
            f"the {key.removeprefix('loss/')}'s loss is {median(recent):.2g}, it tells real from made in {sign['told']:.1%} of pairs, and "
            f"the samples do not come nearer ({near} {sign[near]:.2f}){gone}",
            since,
            "a discriminator larger or faster than the generator, more steps of it in a round, or the minimax loss",
            "a smaller learning rate or fewer steps for it (or a larger one for the generator); the non-saturating loss; "
            "--augment diffaugment; a gradient penalty",
        )
    return None


def _blind(course: Course) -> Finding | None:
    near = course.nearness
    lasting = course.lasting(lambda sign: sign["told"] < _CHANCE and sign[near] < _BAD and sign["drift"] < _CALM, "told", near, "drift")
    if lasting is None:
        return None
    since, sign = lasting
    return Finding(
        "discriminator blind",
        f"it tells real from made in {sign['told']:.0%} of pairs, chance is 50 %, and still the samples are far from real "
        f"({near} {sign[near]:.2f})",
        since,
        "a learning rate of 0 or far too small for it, labels of real and made mixed up, or too small a network",
        "a larger learning rate or more steps for the discriminator; look which of its two losses is for real",
    )


def _collapse(course: Course) -> Finding | None:
    if not course.sign("spread"):
        return None
    few = course.lasting(lambda sign: sign["modes"] < _FEW, "modes")
    alike = course.lasting(lambda sign: sign["spread"] < _ALIKE, "spread")
    thin = course.lasting(lambda sign: sign["coverage"] < _THIN and sign["spread"] < _NARROW, "coverage", "spread")
    lasting = alike or few or thin
    spreads = [value for _, value in course.sign("spread")]
    # Most games begin with samples that are all alike, and some stay so for a while.
    young = course.end < course.planned and course.end < max(_YOUNG[0], min(course.planned / 2, _YOUNG[1]))
    early = young and spreads[-1] > 0.5 * max(spreads)
    if lasting is None or early or course.rises("spread") or course.rises(course.nearness):
        return None
    since, sign = lasting
    seen = ["the samples hop from one mode to another"] if course.lasting(lambda sign: sign["drift"] > _RESTLESS, "drift") else []
    if "spread" in sign:
        seen.append(f"two samples are {sign['spread']:.2f} times as far apart as two real ones")
    if "coverage" in sign:
        seen.append(f"something is made near {sign['coverage']:.0%} of the real ones")
    if "modes" in sign:
        seen.append(f"{sign['modes']:.0%} of the modes are made")
    return Finding(
        "mode collapse",
        ", ".join(seen),
        since,
        "a generator that moves faster than the discriminator can answer, or a loss that is content with one good picture",
        "fewer or smaller steps for the generator, more for the discriminator; a Wasserstein loss with gradient penalty (wgan-gp); "
        "larger batches",
    )


def _oscillation(course: Course) -> Finding | None:
    drifts = course.sign("drift")
    recent = [value for _, value in drifts[-max(_LOOKS, len(drifts) // 4) :]]
    narrow = course.lasting(lambda sign: sign["spread"] < _ALIKE, "spread")
    if len(drifts) < _LOOKS or median(recent) < _RESTLESS or narrow:
        return None
    return Finding(
        "oscillation",
        f"from one look to the next the mean of the samples moves by {median(recent):.2f} standard deviations of the real data",
        next(number for number, value in drifts if value > _RESTLESS),
        "steps too large, or momentum: the players chase each other round the equilibrium",
        "a tenth of --lr; a momentum of 0 (Adam's first beta 0 to 0.5); averaged weights (--ema 0.999); a gradient penalty",
    )


def _average(course: Course) -> Finding | None:
    lasting = course.lasting(lambda sign: sign["average"] > _FAR, "average")
    if lasting is None:
        return None
    since, sign = lasting
    return Finding(
        "average far from the live weights",
        f"samples of the averaged weights are {sign['average']:.2f} times as far from real ones as those of the live weights",
        since,
        "an average that reaches back to worse weights, or weights that jump about so that their mean is none of them",
        "a smaller --ema (0.999 looks back about 1,000 steps); a smaller --lr; a longer run",
    )


def _scaled(course: Course) -> Finding | None:
    low, high, scale = (course.sign(name) for name in ("low", "high", "scale"))
    if not scale:
        return None
    least, most, size = low[-1][1], high[-1][1], scale[-1][1]
    if course.pictures and (most < 0 or least > 0):
        return Finding(
            "data wrongly scaled",
            f"all pixels lie between {least:.2f} and {most:.2f}, of -1 to 1",
            0,
            "pictures stored as 0 and 1 in bytes, 12 of 16 bits, or an array divided twice",
            "look at them with `ganforge data`; store bytes of 0 to 255, or floats within [0, 1] or [-1, 1]",
        )
    if not course.pictures and not _LITTLE < size < _LARGE:
        return Finding(
            "data wrongly scaled",
            f"the points' root mean square is {size:.3g}; networks and learning rates are made for about 1",
            0,
            "raw units",
            "divide the points by their standard deviation",
        )
    return None


def _framed(course: Course) -> Finding | None:
    lasting = course.lasting(lambda sign: sign["frame"] > _GIVEN_AWAY, "frame")
    if lasting is None:
        return None
    since, sign = lasting
    return Finding(
        "a frame gives samples away",
        f"put right what never changes in real pictures, and {sign['frame']:.0%} of the gap between the scores of real and made closes",
        since,
        "a margin or a frame, alike in all pictures, that the generator hits only nearly",
        "cut the margin away (--fit crop, or a smaller --size after cropping); --augment diffaugment --augment-policy translation",
    )


def _by_heart(course: Course) -> Finding | None:
    lasting = course.lasting(lambda sign: sign["known"] > _KNOWN, "known")
    if lasting is None or course.count is None:
        return None
    since, sign = lasting
    return Finding(
        "too few pictures",
        f"the discriminator knows the {course.count:,} pictures by heart: in {sign['known']:.0%} of pairs it prefers them to held-out ones",
        since,
        "too few pictures for a discriminator of this size and a run of this length",
        "--augment ada or diffaugment; more pictures; --flip; a smaller discriminator; stop earlier",
    )


def _lone(course: Course) -> Finding | None:
    lasting = course.lasting(lambda sign: sign["batchwise"] > _MOVED, "batchwise")
    if lasting is None or not course.normed or course.micro > LONE:
        return None
    since, sign = lasting
    return Finding(
        f"batch normalisation over {course.micro} sample{'s' if course.micro > 1 else ''}",
        f"with running statistics samples move by {sign['batchwise']:.2f} standard deviations from those that the players saw",
        since,
        "--batch-size, or what a rank gets of it, too small for batch normalisation",
        "a larger --batch-size (--accumulate does not help: each part is normalised alone); --sync-batchnorm with several ranks; "
        "instance or group normalisation",
    )


def _listed(names: Sequence[str]) -> str:
    """At most three of them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


_SETUP: tuple[Rule, ...] = (_dead, _scaled, _lone, _framed, _by_heart)
_BALANCE: tuple[Rule, ...] = (_exploding, _too_strong, _blind, _average)
_OUTCOME: tuple[Rule, ...] = (_oscillation, _collapse)
