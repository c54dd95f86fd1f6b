"""Runs that are broken on purpose, and healthy ones: does `ganforge doctor` name the cause, and stay silent where nothing ails?

    python benchmarks/broken.py               # all, about ten minutes of one core; a table at the end
    python benchmarks/broken.py blind ring    # some, by name
    python benchmarks/broken.py --seed 1      # other weights and noise than those that thresholds were set on

Every run is small: digits of 8 or 16 pixels, the ring of 8 Gaussians, a bell curve. The exit code is 1 where one is not told right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganforge import zoo
from ganforge.batches import Images, Points, images_to_bytes
from ganforge.data import Reading, Source, open_source
from ganforge.diagnosis import SIGNS, findings
from ganforge.engine import Settings, examined, train
from ganforge.errors import TrainingError
from ganforge.game import Game, Move, Player

GAN: Any = zoo.find("gan")
DCGAN: Any = zoo.find("dcgan")
WGAN: Any = zoo.find("wgan-gp")


class Blind(DCGAN):  # type: ignore[misc]
    """The discriminator does not learn: its rate is that of a typing mistake."""

    def players(self) -> dict[str, Player]:
        """A rate of 2e-14 in place of 2e-4."""
        players: dict[str, Player] = super().players()
        return players | {"discriminator": Player(self.discriminator, partial(torch.optim.Adam, lr=2e-14))}


class Greedy(GAN):  # type: ignore[misc]
    """Twenty steps of the generator for each of the discriminator."""

    def play(self, batches: Iterator[Images | Points]) -> Iterator[Move]:
        """The same game, out of balance."""
        yield from super().play(batches)
        for _ in range(20):
            fake = self.sample(self.latent(64))
            yield Move("generator", self.objective.generator(self.discriminator(fake)))


class Cut(DCGAN):  # type: ignore[misc]
    """A detach() too many: the first layers of the generator never learn."""

    def sample(self, latent: Tensor) -> Tensor:
        """The picture, cut off from what made its small beginnings."""
        made: Tensor = self.generator[2:](self.generator[:2](latent).detach())
        return made


class Shuffled(GAN):  # type: ignore[misc]
    """The hidden units of the generator change places after each round: what it makes stays the same, but no average of it is left."""

    def players(self) -> dict[str, Player]:
        """Averaged weights for the generator."""
        players: dict[str, Player] = super().players()
        return players | {"generator": Player(self.generator, self.optimiser, ema=0.999)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        """The same game."""
        yield from super().play(batches)
        first, second = self.generator[0], self.generator[2]
        for tensor, side in ((first.weight, 0), (first.bias, 0), (second.weight, 1)):
            tensor.data = tensor.data.roll(1, side)


class Dirac(Game):
    """The least game that never comes to rest (Mescheder et al., arXiv:1801.04406): one number each."""

    def __init__(self, _: object) -> None:
        super().__init__()
        self.place, self.slope = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(4 * torch.ones(1))

    def players(self) -> dict[str, Player]:
        """Plain steps, none of which is small."""
        descent = partial(torch.optim.SGD, lr=0.3)
        return {"critic": Player([self.slope], descent), "generator": Player([self.place], descent)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        """The critic slope * x, the generator z + place."""
        real, fake = next(batches).x, self.sample(self.latent(64)).detach()
        yield Move("critic", (self.slope * (fake.mean() - real.mean())).sum())
        yield Move("generator", -(self.slope * self.sample(self.latent(64)).mean()).sum())

    def latent(self, n: int) -> Tensor:
        """[n, 1]."""
        return torch.randn(n, 1)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, 1] to [n, 1]."""
        return latent + self.place

    def judge(self, x: Tensor) -> Tensor:
        """[n, 1] to [n]."""
        return (self.slope * x).flatten()


@dataclass(frozen=True)
class Case:
    """One run: what plays on what, and what the doctor should say of it ("" for nothing)."""

    expected: str
    game: type[Game]
    data: Callable[[Path], Source]
    settings: Settings
    hyper: dict[str, Any] = field(default_factory=dict)


def digits(_: Path, size: int = 16) -> Source:
    """The bundled digits."""
    return open_source("digits", reading=Reading(size=str(size), channels=1))


def bits(folder: Path) -> Source:
    """Digits as 0 and 1 in bytes, as a mask is stored: almost black."""
    return stored(folder, (pixels() > 127).astype(np.uint8))


def framed(folder: Path) -> Source:
    """Digits in a frame three pixels wide, which has the same pattern on all."""
    inner, frame = pixels(10), np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    images = np.tile(frame, (len(inner), 1, 1))
    images[:, 3:-3, 3:-3] = inner
    return stored(folder, images)


def few(folder: Path) -> Source:
    """Twenty digits to learn from; the others are held out."""
    images = pixels()
    np.savez(folder / "few.npz", train_images=images[:20], test_images=images[20:400])
    return open_source(str(folder / "few.npz"), reading=Reading(size="16", channels=1))


def pixels(size: int = 16) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """All digits, uint8 [n, size, size]."""
    source = digits(Path(), size)
    batch = source.gather(Images, torch.arange(source.count), torch.device("cpu"))  # type: ignore[attr-defined]
    made: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = images_to_bytes(batch.x).numpy()[..., 0]
    return made


def stored(folder: Path, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Source:
    """From a file, as a user's own would be."""
    np.savez(folder / "data.npz", images=images)
    return open_source(str(folder / "data.npz"), reading=Reading(size="16", channels=1))


def ring(_: Path) -> Source:
    """8 Gaussians on a circle."""
    return open_source("ring")


def unit(folder: Path) -> Source:
    """4,000 draws of N(0, 1)."""
    np.save(folder / "unit.npy", np.random.default_rng(0).standard_normal((4000, 1)))
    return open_source(str(folder / "unit.npy"))


def bell(_: Path) -> Source:
    """A normal variable."""
    return open_source("gaussian")


def engine(rounds: int, batch: int = 32, **options: Any) -> Settings:
    """Many looks at a short run."""
    return Settings(rounds=rounds, batch_size=batch, log_every=max(1, rounds // 40), checkpoint_every="100m", **options)


_SMALL = {"width": 8, "latent_dim": 16, "noise": "normal", "lr": 5e-4}
_POINTS = {"latent_dim": 2, "noise": "normal", "optimiser": "adam", "lr": 1e-3, "betas": (0.5, 0.9), "decay": 1.0}
_CRITIC = {"latent_dim": 2, "width": 128, "penalty": 0.1, "lr": 1e-3}
_BELL = {"hidden": 32, "init": "torch", "noise_range": 1.0, "betas": (0.5, 0.999), "ema": 0.999}
_PIXELS = {"latent_dim": 16, "noise": "normal", "optimiser": "adam", "decay": 1.0, "units": 64, "maxout": 64, "dropout": False}

CASES = {
    "strong": Case("discriminator too strong", GAN, digits, engine(600), _PIXELS | {"saturating": True, "k": 10, "lr": 1e-3}),
    "blind": Case("discriminator blind", Blind, digits, engine(600), _SMALL),
    "collapse": Case("mode collapse", Greedy, ring, engine(800, 64), _POINTS),
    "dirac": Case("oscillation", Dirac, unit, engine(800, 64)),
    "exploding": Case("exploding gradients", WGAN, ring, engine(600, 64), _CRITIC | {"penalty": 0.0, "lr": 3e-3}),
    "cut": Case("dead player", Cut, digits, engine(200), _SMALL),
    "average": Case("average far from the live weights", Shuffled, ring, engine(1500, 128), _POINTS),
    "bits": Case("data wrongly scaled", DCGAN, bits, engine(200), _SMALL),
    "framed": Case("a frame gives samples away", DCGAN, framed, engine(600), _SMALL),
    "few": Case("too few pictures", DCGAN, few, engine(800, 20), _SMALL | {"width": 16}),
    "lone": Case("batch normalisation over 1 sample", DCGAN, digits, engine(800, 1), _SMALL | {"architecture": "torch"}),
    "digits": Case("", DCGAN, digits, engine(1500), _SMALL | {"ema": 0.999}),
    "ring": Case("", GAN, ring, engine(3000, 256), _POINTS),
    "wasserstein": Case("", WGAN, ring, engine(1000, 128), _CRITIC),
    "bell": Case("", zoo.find("gan-1d"), bell, engine(3000, 64), _BELL),
    "classes": Case("", zoo.find("acgan"), digits, engine(1500), {"latent_dim": 16, "maps": (32, 16), "width": 8, "lr": 5e-4}),
    "codes": Case("", zoo.find("infogan"), digits, engine(1500), {"latent_dim": 16, "width": 16}),
}


def told(case: Case, folder: Path, seed: int) -> list[str]:
    """What the doctor says of the run of a case."""
    source = case.data(folder)
    try:
        train(case.game, source, replace(case.settings, seed=seed), out=folder / "run", hyper=case.hyper)
    except TrainingError as error:
        print(f"  ended: {error}")
    course = examined(folder / "run", case.game, source)
    for name in SIGNS:
        values = [f"{value:.2f}" for _, value in course.sign(name)]
        if values:
            print(f"  {name:10} {' '.join(values[-12:])}")
    for key in sorted({key for row in course.rows for key in row if key.startswith(("grad/", "loss/"))}):
        values = [f"{value:.2g}" for _, value in course.series(key)]
        print(f"  {key:22} {' '.join(values[:: max(1, len(values) // 10)])}")
    found = findings(course)
    for each in found:
        print(f"  -> {each}")
    return [each.cause for each in found]


def main() -> int:
    """Plays the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(CASES)}; all where none is named")
    parser.add_argument("--seed", type=int, default=0, help="of weights, noise and the order of data")
    options = parser.parse_args()
    names = options.names or list(CASES)
    table, wrong = [], 0
    for name in names:
        case = CASES[name]
        print(f"{name}: expected {case.expected or 'silence'}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            said = told(case, Path(folder), options.seed)
        right = said == ([case.expected] if case.expected else [])
        wrong += not right
        table.append(f"| {name} | {case.expected or 'nothing'} | {', '.join(said) or 'nothing'} | {'yes' if right else 'NO'} |")
    print("\n| run | ails it | the doctor says | right |\n| --- | --- | --- | --- |", *table, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
