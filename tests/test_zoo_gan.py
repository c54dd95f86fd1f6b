import itertools
import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec, Points, PointSpec
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.nets.mlp import Affine
from ganforge.zoo.gan import GAN

SMALL = partial(GAN, latent_dim=4, units=8, maxout=4, pieces=2, point_units=8)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def of(real: Tensor) -> Iterator[Points]:
    return itertools.repeat(Points(real))


def test_at_the_size_of_mnist_it_has_the_parameters_of_the_authors_file() -> None:
    game = GAN(ImageSpec(28, 28, 1))
    assert count(game.generator) == (100 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 784 + 784)
    assert count(game.discriminator) == (784 * 240 * 5 + 240 * 5) + (240 * 240 * 5 + 240 * 5) + (240 + 1)


def test_points_meet_three_hidden_layers_of_128() -> None:
    game = GAN(PointSpec(2), latent_dim=2)
    hidden = (2 * 128 + 128) + 2 * (128 * 128 + 128)
    assert count(game.generator) == hidden + 128 * 2 + 2
    assert count(game.discriminator) == hidden + 128 + 1


def test_weights_begin_in_the_ranges_of_the_authors_file() -> None:
    game = GAN(ImageSpec(8, 8, 1))
    for network, bound in ((game.generator, 0.05), (game.discriminator, 0.005)):
        weights = torch.cat([p.flatten() for p in network.parameters() if p.ndim == 2])
        assert weights.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not any(p.any() for p in network.parameters() if p.ndim == 1)


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_both_noises_have_mean_zero_and_variance_one(noise: str) -> None:
    z = SMALL(PointSpec(2), noise=noise).latent(20_000)  # type: ignore[arg-type]
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.var().item() == pytest.approx(1, abs=0.02)
    assert (z.abs().max() <= math.sqrt(3)) == (noise == "uniform")


def test_pictures_of_any_shape_are_made_in_range_and_judged_as_probabilities() -> None:
    spec = ImageSpec(6, 10, 3)
    game = SMALL(spec).eval()
    pictures = game.sample(1e3 * game.latent(7))
    assert pictures.shape == (7, *spec.shape)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    # Weights within 0.005 leave the untrained discriminator undecided.
    torch.testing.assert_close(game.judge(pictures), torch.full((7,), 0.5), atol=0.01, rtol=0)


def test_the_discriminator_drops_a_fifth_of_the_pixels_and_keeps_the_rests_mean() -> None:
    game = SMALL(ImageSpec(50, 50, 1))
    pixels = next(m for m in game.discriminator.modules() if isinstance(m, nn.Dropout))
    white = pixels(torch.ones(10, 2500))
    assert (white == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert white.max().item() == pytest.approx(1.25)
    rates = [m.p for m in game.discriminator.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.2, 0.5, 0.5]
    assert not any(m.p for m in SMALL(ImageSpec(8, 8, 1), dropout=False).modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize("k", [1, 3])
def test_a_round_is_k_steps_of_the_discriminator_on_fresh_batches_and_one_of_the_generator(k: int) -> None:
    batches = iter([Points(torch.full((8, 2), float(i))) for i in range(5)])
    moves = [move.players for move in SMALL(PointSpec(2), k=k).play(batches)]
    assert moves == [("discriminator",)] * k + [("generator",)]
    assert next(batches).point[0, 0] == k


def test_a_discriminators_move_sends_no_gradient_to_the_generator() -> None:
    game = SMALL(ImageSpec(8, 8, 1))
    move = next(game.play(itertools.repeat(Images(torch.rand(8, 1, 8, 8)))))
    move.losses["discriminator",].backward()
    assert all(p.grad is None for p in game.generator.parameters())
    assert all(p.grad is not None for p in game.discriminator.parameters())


@pytest.mark.parametrize("saturating", [False, True])
def test_an_undecided_discriminator_gives_the_papers_values(saturating: bool) -> None:
    game = SMALL(PointSpec(2), saturating=saturating)
    for p in game.discriminator.parameters():
        nn.init.zeros_(p)
    discriminator, generator = game.play(of(torch.randn(8, 2)))
    assert discriminator.losses["discriminator",].item() == pytest.approx(2 * math.log(2))
    assert generator.losses["generator",].item() == pytest.approx(-math.log(2) if saturating else math.log(2))
    assert {name: seen.mean().item() for name, seen in discriminator.seen.items()} == {"real": 0.5, "fake": 0.5}


def test_the_rate_is_divided_after_every_round() -> None:
    schedule = GAN(PointSpec(2)).players()["generator"].schedule
    assert schedule is not None
    assert schedule(0) == 1
    # 500 rounds are an epoch of the 50,000 digits of the file's training set.
    assert schedule(500) == pytest.approx(math.exp(-500 * math.log(1.000004)))


def test_no_step_at_all_is_refused() -> None:
    with pytest.raises(RequestError, match="k = 0"):
        SMALL(PointSpec(2), k=0)


def test_a_trained_discriminator_is_the_log_ratio_of_the_densities() -> None:
    # p = N(0, 1), q = N(2, 1): D's logit is log p/q = 2 - 2x.
    torch.manual_seed(0)
    game = GAN(PointSpec(1), latent_dim=1, noise="normal", point_units=16, optimiser="adam", lr=0.01)
    game.generator = nn.Sequential(Affine(1, 2))
    player = game.players()["discriminator"]
    optimiser = player.optimiser(player.parameters())
    for _ in range(300):
        real = torch.randn(1024, 1)
        move: Move = next(game.play(of(real)))
        optimiser.zero_grad()
        move.losses["discriminator",].backward()
        optimiser.step()
    x = torch.linspace(-0.5, 2.5, 7)[:, None]
    torch.testing.assert_close(torch.logit(game.judge(x)).detach(), 2 - 2 * x[:, 0], atol=0.35, rtol=0)
