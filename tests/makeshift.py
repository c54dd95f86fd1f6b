"""Games made up to try the commands on pictures of one's own: what they do can be checked by eye."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganforge.batches import ImageSpec
from ganforge.cli import main
from ganforge.commands import apply, edit, tell, use
from ganforge.game import Game, Player
from ganforge.runs import RunFolder, RunRecord

SPEC = ImageSpec(16, 16, 3, classes=("dark", "light"))
Say = pytest.CaptureFixture[str]


class Able(Game):
    """Can everything, in ways that can be checked by eye: negatives, doubled pixels, white fillings, red set to a value."""

    ways = ("a2b", "b2a")
    reach = 0
    dials: Mapping[str, tuple[float, float]] = {"red": (-1.0, 1.0), "green": (-1.0, 1.0)}

    def __init__(self, data: ImageSpec = SPEC) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.only: tuple[int, ...] | None = None

    def players(self) -> dict[str, Player]:
        return {"only": Player(self, partial(torch.optim.SGD, lr=0.1))}

    def translate(self, image: Tensor, way: str) -> Tensor:
        if self.only is not None and image.shape[1:] != self.only:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return -image if way == "a2b" else image + 0.5 * torch.randn_like(image)

    def upscale(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask > 0, torch.ones_like(image), image)

    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        changed = image.clone()
        for name, value in values.items():
            changed[:, list(self.dials).index(name)] = value
        return changed

    def encode(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def classify(self, x: Tensor) -> Tensor:
        light = (x.mean((1, 2, 3)) + 1) / 2
        return torch.stack([1 - light, light], 1)

    def cluster(self, x: Tensor) -> Tensor:
        return self.classify(x).flip(1)


class Sampler(Game):
    """Samples whose first channel is the dial, the second the class, the third noise."""

    dials: Mapping[str, tuple[float, float]] = {"red": (-1.0, 1.0)}

    def __init__(self, data: ImageSpec = SPEC) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def latent(self, n: int) -> Tensor:
        return torch.rand(n, 3)

    def latent_of_class(self, label: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(label)), label * 2.0 - 1, torch.rand(len(label))], 1)

    def latent_of_text(self, text: Tensor) -> Tensor:
        return torch.cat([text[:, :1], torch.rand(len(text), 2)], 1)

    def sample(self, latent: Tensor) -> Tensor:
        # A little noise of its own, as some games add it in each layer.
        noisy = latent * self.weight + 0.1 * torch.randn(len(latent), 1) * torch.tensor([0.0, 0.0, 1.0])
        return noisy[:, :, None, None].expand(-1, -1, 16, 16)

    def steer(self, latent: Tensor, values: Mapping[str, float]) -> Tensor:
        turned = latent.clone()
        turned[:, 0] = values["red"]
        return turned


def serve(game: Game, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command finds this game in the run folder `run`, in `folder`, where the test now is."""
    monkeypatch.chdir(folder)
    RunRecord("mine.Able", {}, SPEC, {"source": "in"}, {}, {}, "").write(RunFolder(folder / "run").record)
    for module in (apply, edit, tell, use):
        monkeypatch.setattr(module, "load", lambda path, device="cpu": game)


def photo(name: str, height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Writes a picture of noise, and returns its pixels as they were read back."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(name)
    return pixels(name)


def pixels(name: str | Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(name) as image:
        return np.asarray(image)


def run(line: str) -> int:
    return main(shlex.split(line))


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def one_line(say: Say) -> str:
    _, err = say.readouterr()
    assert err.count("\n") == 1, err
    assert err.startswith("ganforge: ")
    return err
