import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec, Points, PointSpec
from ganforge.errors import RequestError
from ganforge.zoo.wgan_gp import WGANGP

SMALL = partial(WGANGP, width=4, latent_dim=3)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_on_mnist_it_has_the_parameters_of_the_authors_script() -> None:
    game = WGANGP(ImageSpec(28, 28, 1))
    d = 64
    up = (25 * 4 * d * 2 * d + 2 * d) + (25 * 2 * d * d + d) + (25 * d + 1)
    assert count(game.generator) == (128 * 16 * 4 * d + 16 * 4 * d) + up
    down = (25 * d + d) + (25 * d * 2 * d + 2 * d) + (25 * 2 * d * 4 * d + 4 * d)
    assert count(game.critic) == down + 16 * 4 * d + 1


def test_on_cifar_it_has_the_parameters_of_the_authors_script() -> None:
    game = WGANGP(ImageSpec(32, 32, 3), width=128, generator_norm=True)
    d = 128
    up = (25 * 4 * d * 2 * d + 2 * d) + (25 * 2 * d * d + d) + (25 * d * 3 + 3)
    assert count(game.generator) == (128 * 8192 + 8192) + up + 2 * (8192 + 2 * d + d)
    down = (25 * 3 * d + d) + (25 * d * 2 * d + 2 * d) + (25 * 2 * d * 4 * d + 4 * d)
    assert count(game.critic) == down + 8192 + 1


def test_the_toy_networks_have_three_hidden_layers_of_512() -> None:
    game = WGANGP(PointSpec(2), width=512, latent_dim=2)
    hidden = (2 * 512 + 512) + 2 * (512 * 512 + 512)
    assert count(game.generator) == hidden + 512 * 2 + 2
    assert count(game.critic) == hidden + 512 + 1


def test_no_critic_has_batch_statistics() -> None:
    for network in ("mlp", "dcgan", "resnet"):
        game = SMALL(ImageSpec(16, 16, 1), network=network, generator_norm=True)
        assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in game.critic.modules())
        norms = sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in game.generator.modules())
        assert (norms > 0) == (network != "mlp")


@pytest.mark.parametrize(
    ("network", "size"), [(n, s) for n in ("mlp", "dcgan", "resnet") for s in (8, 16, 28, 32, 64) if (n, s) != ("resnet", 28)]
)
def test_pictures_are_made_in_range_and_scored(network: Any, size: int) -> None:
    game = SMALL(ImageSpec(size, size, 3), network=network)
    made = game.sample(game.latent(5))
    assert made.shape == (5, 3, size, size)
    assert made.abs().max() <= 1
    assert game.judge(made).shape == (5,)


@pytest.mark.parametrize(("network", "height", "width"), [("dcgan", 48, 48), ("dcgan", 32, 64), ("resnet", 28, 28), ("resnet", 4, 4)])
def test_sizes_that_a_network_cannot_make_are_refused(network: Any, height: int, width: int) -> None:
    with pytest.raises(RequestError, match=f"{height}x{width}"):
        SMALL(ImageSpec(height, width, 1), network=network)


def test_a_round_without_the_critic_is_refused() -> None:
    with pytest.raises(RequestError, match="n_critic = 0"):
        SMALL(PointSpec(2), n_critic=0)


def test_a_round_is_n_critic_steps_on_fresh_batches_and_one_of_the_generator() -> None:
    batches = iter([Points(torch.full((8, 2), float(i))) for i in range(9)])
    moves = [move.players for move in SMALL(PointSpec(2)).play(batches)]
    assert moves == [("critic",)] * 5 + [("generator",)]
    assert next(batches).point[0, 0] == 5


def test_the_critics_loss_is_line_7_of_what_it_sees() -> None:
    game = SMALL(ImageSpec(8, 8, 1), penalty=10.0)
    move = next(game.play(itertools.repeat(Images(torch.rand(8, 1, 8, 8)))))
    real, fake, distance, penalty = (move.seen[name].mean() for name in ("real", "fake", "wasserstein", "penalty"))
    torch.testing.assert_close(distance, real - fake)
    torch.testing.assert_close(move.losses["critic",], fake - real + 10 * penalty)
    move.losses["critic",].backward()
    assert all(p.grad is None for p in game.generator.parameters())


def test_the_generator_raises_its_scores_on_a_batch_of_its_own_size() -> None:
    game = SMALL(PointSpec(2), generator_batch=2, n_critic=1)
    scored: list[Tensor] = []
    game.critic.register_forward_hook(lambda _m, _i, y: scored.append(y))
    *_, move = game.play(itertools.repeat(Points(torch.randn(8, 2))))
    assert len(scored[-1]) == 16
    torch.testing.assert_close(move.losses["generator",], -scored[-1].mean())


@pytest.mark.parametrize(("lr_end", "factors"), [(0, None), (100, [1.0, 0.5, 0.0])])
def test_the_rate_falls_to_zero_where_the_script_lets_it(lr_end: int, factors: list[float] | None) -> None:
    schedule = SMALL(PointSpec(2), lr_end=lr_end).players()["critic"].schedule
    assert (schedule and [schedule(round) for round in (0, 50, 100)]) == factors


def test_a_linear_critic_between_two_points_learns_the_slope_of_the_tradeoff() -> None:
    # Real at d = 1, generated at 0: the slope is 1 + d / 2L and the loss -(d + d^2 / 4L), with L = 10.
    game = SMALL(PointSpec(1), n_critic=1)
    linear = nn.Linear(1, 1)
    game.generator, game.critic = nn.Linear(3, 1), nn.Sequential(linear, nn.Flatten(0))
    for p in game.generator.parameters():
        nn.init.zeros_(p)
    # There is a second, worse optimum at the slope -(1 - d / 2L).
    nn.init.ones_(linear.weight)
    player = game.players()["critic"]
    optimiser = torch.optim.SGD(player.parameters(), lr=0.05)
    for _ in range(10):
        move = next(game.play(itertools.repeat(Points(torch.ones(8, 1)))))
        optimiser.zero_grad()
        move.losses["critic",].backward()
        optimiser.step()
    slope = (game.judge(torch.ones(1, 1)) - game.judge(torch.zeros(1, 1))).item()
    assert slope == pytest.approx(1.05, abs=1e-4)
    assert move.losses["critic",].item() == pytest.approx(-1.025, abs=1e-4)
