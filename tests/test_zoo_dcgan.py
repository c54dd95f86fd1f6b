import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from networks import Constant
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec
from ganforge.errors import RequestError
from ganforge.nets.init import weighted
from ganforge.zoo.dcgan import DCGAN


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pictures(n: int, size: int = 16) -> Iterator[Images]:
    return itertools.repeat(Images(torch.rand(n, 1, size, size)))


def test_at_64_pixels_it_has_the_parameters_of_the_authors_code() -> None:
    game = DCGAN(ImageSpec(64, 64, 3))
    up = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    norms = 2 * (16 * 1024 + 512 + 256 + 128)
    assert count(game.generator) == 100 * 16 * 1024 + up + norms
    down = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    assert count(game.discriminator) == down + 2 * (256 + 512 + 1024) + 16 * 1024


def test_at_64_pixels_the_other_architecture_has_those_of_dcgan_torch() -> None:
    game = DCGAN(ImageSpec(64, 64, 3), architecture="torch", width=64)
    up = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count(game.generator) == up + 2 * (512 + 256 + 128 + 64)
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert count(game.discriminator) == down + 2 * (128 + 256 + 512)


@pytest.mark.parametrize("architecture", ["paper", "torch"])
@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256])
def test_every_power_of_two_is_made_and_judged(size: int, architecture: str) -> None:
    game = DCGAN(ImageSpec(size, size, 1), width=1, architecture=architecture)  # type: ignore[arg-type]
    made = game.sample(game.latent(3))
    assert made.shape == (3, 1, size, size)
    assert made.abs().max() <= 1
    judged = game.judge(made)
    assert judged.shape == (3,)
    assert judged.min() > 0
    assert judged.max() < 1


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 64), (4, 4), (512, 512)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(RequestError, match=f"{height}x{width}"):
        DCGAN(ImageSpec(height, width, 1))


def test_both_networks_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    game = DCGAN(ImageSpec(32, 32, 1), width=32)
    for layer in [*weighted(game.generator), *weighted(game.discriminator)]:
        assert layer.weight.std().item() == pytest.approx(0.02, abs=0.001)
        assert layer.bias is None


def test_before_training_pictures_are_grey() -> None:
    torch.manual_seed(0)
    game = DCGAN(ImageSpec(32, 32, 1), width=16)
    assert abs(game.sample(game.latent(64)).mean().item()) < 0.05


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_the_noise_is_uniform_on_minus_one_to_one_or_standard_normal(noise: str) -> None:
    z = DCGAN(ImageSpec(8, 8, 1), width=1, noise=noise).latent(1000)  # type: ignore[arg-type]
    assert z.var().item() == pytest.approx(1 if noise == "normal" else 1 / 3, rel=0.03)
    assert (z.abs().max() <= 1) == (noise == "uniform")


@pytest.mark.parametrize(("logit", "accuracy"), [(2.0, 0.5), (-1.0, 0.5)])
def test_losses_and_what_is_seen_are_those_of_a_constant_discriminator(logit: float, accuracy: float) -> None:
    game = DCGAN(ImageSpec(16, 16, 1), width=2)
    game.discriminator = Constant(logit)
    discriminator, generator = game.play(pictures(8))
    probability = 1 / (1 + math.exp(-logit))
    assert discriminator.losses["discriminator",].item() == pytest.approx(-math.log(probability) - math.log(1 - probability), rel=1e-5)
    assert generator.losses["generator",].item() == pytest.approx(-math.log(probability), rel=1e-5)
    seen = {name: value.mean().item() for name, value in discriminator.seen.items()}
    assert seen == pytest.approx({"real": probability, "fake": probability, "accuracy": accuracy}, rel=1e-5)


def test_accuracy_is_the_share_of_both_kinds_told_right() -> None:
    class Brightness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))

    game = DCGAN(ImageSpec(16, 16, 1), width=2)
    game.generator, game.discriminator = nn.Sequential(Dark()), Brightness()
    real = torch.ones(8, 1, 16, 16)
    real[:2] = -1  # two of eight real pictures look generated, all generated ones do: 14 of 16 are told right
    move = next(game.play(itertools.repeat(Images(real))))
    assert move.seen["accuracy"].mean().item() == 14 / 16


class Dark(nn.Module):
    """A generator of black pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(-1.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.level.expand(len(z), 1, 16, 16)


def test_real_and_generated_pictures_pass_the_discriminator_apart_and_the_generator_runs_once() -> None:
    game = DCGAN(ImageSpec(16, 16, 1), width=2)
    passes: list[tuple[str, int]] = []
    game.generator.register_forward_hook(lambda _m, i, _y: passes.append(("G", len(i[0]))))
    game.discriminator.register_forward_hook(lambda _m, i, _y: passes.append(("D", len(i[0]))))
    assert [move.players for move in game.play(pictures(8))] == [("discriminator",), ("generator",)]
    assert passes == [("G", 8), ("D", 8), ("D", 8), ("D", 8)]


def test_the_generator_answers_the_discriminator_that_has_just_moved() -> None:
    game = DCGAN(ImageSpec(16, 16, 1), width=2)
    game.discriminator = Constant(0.0)
    play = game.play(pictures(8))
    next(play)
    nn.init.constant_(game.discriminator.logit, 3.0)
    assert next(play).losses["generator",].item() == pytest.approx(math.log(1 + math.exp(-3)), rel=1e-5)


def test_a_discriminators_move_sends_no_gradient_to_the_generator() -> None:
    game = DCGAN(ImageSpec(16, 16, 1), width=2)
    next(game.play(pictures(8))).losses["discriminator",].backward()
    assert all(p.grad is None for p in game.generator.parameters())
    assert all(p.grad is not None for p in game.discriminator.parameters())
