"""How any game is trained: the options that every `ganforge train` has beside the game's own."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_origin, get_type_hints

from ganforge.errors import RequestError


@dataclass(frozen=True)
class Settings:
    """How the engine plays; the same for every game."""

    rounds: int | None = None
    """Rounds to play, in the phases that do not fix their own number; None: the game's own length."""
    batch_size: int | None = None
    """Samples per batch, of all ranks together; None: the game's own."""
    seed: int = 0
    """Seed of the weights, the noise and the order of the data."""
    checkpoint_every: str = "2m"
    """Minutes between checkpoints (10m), or rounds (500)."""
    keep: int = 3
    """How many of the last checkpoints stay."""
    log_every: int = 50
    """Rounds between two lines of metrics.jsonl; losses stay on the device in between."""
    sample_every: int | None = None
    """Rounds between two pictures of the fixed latents; None: about 24 in all."""
    evaluate_every: int | None = None
    """Rounds between two evaluations, as of ganforge evaluate; their scores are drawn as curves, and RUN/best has the best. None: never."""
    evaluate_metrics: str = ""
    """Which measures, with commas (see ganforge evaluate); none named: all."""
    evaluate_features: str = "auto"
    """Where pictures are compared (see ganforge evaluate)."""
    evaluate_n: int = 1000
    """How many samples, or pictures, an evaluation takes."""
    best: str | None = None
    """The score by which the best is kept, as FID; None: the first that should be low, as FID or L1, else high."""
    watch: bool = True
    """Look at the game when pictures are drawn, and say in time what goes wrong (see ganforge doctor)."""
    accumulate: int = 1
    """Rounds played in lockstep, their gradients averaged: a batch K times larger in the memory of one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; penalties and optimisers stay in fp32."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    deterministic: bool = False
    """Refuse operations that may differ between two runs (needed on a GPU for bit-exact resumption; the CPU always is)."""

    sync_batchnorm: bool = False
    """With several ranks: batch normalisation over the batches of all of them, not each rank's own."""

    augment: Literal["none", "diffaugment", "ada"] = "none"
    """For few pictures: what the discriminator sees is augmented, always the same way or (ada) the more the better it knows them."""
    augment_policy: str = "color,translation,cutout"
    """What diffaugment does, with commas."""
    recompute: bool = False
    """Keep some activations and compute the others again in backward: less memory, about a third more time."""
    compile: bool = False
    """Compile the networks, and gradient penalties with them; the first rounds wait for the compiler."""
    cuda_graph: bool = False
    """Record a whole round once and let the GPU replay it."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Settings).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise RequestError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {' or '.join(get_args(kind))}")
        least = {"rounds": 0, "batch_size": 1, "keep": 1, "log_every": 1, "sample_every": 1, "accumulate": 1, "seed": 0}
        least |= {"evaluate_every": 1, "evaluate_n": 2}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise RequestError(f"--{name.replace('_', '-')} {value}: must be at least {bound}")
        if not re.fullmatch(r"[1-9]\d*m?", self.checkpoint_every):
            raise RequestError(f"--checkpoint-every {self.checkpoint_every}: give rounds (500) or minutes (10m)")

    def checkpoint_interval(self) -> tuple[int | None, float | None]:
        """(rounds, None) or (None, seconds)."""
        if self.checkpoint_every.endswith("m"):
            return None, 60.0 * int(self.checkpoint_every[:-1])
        return int(self.checkpoint_every), None


_LEVERS = {"recompute", "compile", "cuda_graph"}  # the same sums, rounded otherwise
FREE_ON_RESUME = frozenset(
    {
        "rounds",
        "checkpoint_every",
        "keep",
        "log_every",
        "sample_every",
        "watch",
        "evaluate_every",
        "evaluate_metrics",
        "evaluate_features",
        "evaluate_n",
        "best",
        "device",
        *_LEVERS,
    }
)
"""What a resumed run may choose anew; everything else would make it another run."""

FIXED_ON_RESUME = frozenset(field.name for field in fields(Settings)) - FREE_ON_RESUME
