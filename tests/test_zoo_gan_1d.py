import itertools
import math

import pytest
import torch
from torch import nn

from ganforge.batches import Points, PointSpec
from ganforge.errors import RequestError
from ganforge.nets.init import weighted
from ganforge.penalties import MinibatchDiscrimination
from ganforge.zoo.gan_1d import GAN1D

LINE = PointSpec(1)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_have_the_tutorials_parameters() -> None:
    game = GAN1D(LINE)
    assert count(game.generator) == (1 * 4 + 4) + (4 * 1 + 1)
    assert count(game.discriminator) == (1 * 8 + 8) + (8 * 8 + 8) + (8 * 8 + 8) + (8 * 1 + 1)


def test_the_minibatch_layer_takes_the_place_of_the_third_hidden_layer() -> None:
    # Its bias, which the tutorial has, would cancel in every difference.
    game = GAN1D(LINE, minibatch=True)
    assert count(game.discriminator) == (1 * 8 + 8) + (8 * 8 + 8) + 8 * 5 * 3 + (8 + 5) + 1


def test_weights_begin_with_a_standard_deviation_of_one_whatever_the_width() -> None:
    game = GAN1D(LINE, hidden=100, minibatch=True)
    (minibatch,) = (m for m in game.discriminator.modules() if isinstance(m, MinibatchDiscrimination))
    second = list(weighted(game.discriminator))[1]
    assert second.weight.std().item() == pytest.approx(1, rel=0.02)
    assert minibatch.tensor.weight.std().item() == pytest.approx(0.02, rel=0.06)
    assert not any(layer.bias.any() for layer in weighted(game) if layer.bias is not None)
    assert max(layer.weight.std().item() for layer in weighted(GAN1D(LINE, hidden=100, init="torch").discriminator)) < 0.7


def test_stratified_noise_is_an_even_grid_moved_by_a_hundredth_at_most() -> None:
    z = GAN1D(LINE).latent(17)
    above = z[:, 0] - torch.linspace(-8, 8, 17)
    assert z.shape == (17, 1)
    assert above.min() >= 0
    assert above.max() <= 0.01 + 1e-6
    assert above.std() > 0


def test_independent_noise_is_uniform_on_the_range() -> None:
    z = GAN1D(LINE, stratified=False, noise_range=2.0).latent(10_000)
    assert z.abs().max() <= 2
    assert z.var().item() == pytest.approx(4 / 3, rel=0.05)
    assert not torch.equal(z, z.sort(0).values)


def test_a_round_is_a_step_of_each_with_new_noise() -> None:
    game = GAN1D(LINE)
    moves = list(game.play(itertools.repeat(Points(torch.randn(8, 1)))))
    assert [move.players for move in moves] == [("discriminator",), ("generator",)]
    moves[0].losses["discriminator",].backward()
    assert all(p.grad is None for p in game.generator.parameters())


def test_the_early_version_fits_the_density_first_and_then_starts_anew() -> None:
    assert [phase.name for phase in GAN1D(LINE).phases()] == ["play"]
    pretrain, play = GAN1D(LINE, pretrain=1000).phases()
    assert (pretrain.name, pretrain.rounds, pretrain.fresh) == ("pretrain", 1000, False)
    assert (play.name, play.rounds, play.fresh) == ("play", None, True)


def test_the_early_versions_rate_falls_by_a_twentieth_every_150_rounds() -> None:
    schedule = GAN1D(LINE, decay=0.95).players()["discriminator"].schedule
    assert schedule is not None
    assert [schedule(round) for round in (0, 149, 150, 300)] == pytest.approx([1, 1, 0.95, 0.95**2])


def test_pre_training_draws_the_density() -> None:
    torch.manual_seed(0)
    game = GAN1D(LINE, activation="tanh", optimiser="sgd", lr=0.03, decay=0.95, pretrain=1000)
    u = torch.linspace(-5, 5, 1001)[:, None]
    density = torch.exp(-2 * (u[:, 0] - 4) ** 2) * 2 / math.sqrt(2 * math.pi)
    assert density.square().mean().item() == pytest.approx(0.0563, abs=1e-3)  # what the answer 0 everywhere costs
    player = game.players()["discriminator"]
    optimiser = player.optimiser(player.parameters())
    for round in range(1000):
        assert player.schedule is not None
        optimiser.param_groups[0]["lr"] = 0.03 * float(player.schedule(round))
        (move,) = game.fit_density(itertools.repeat(Points(torch.zeros(12, 1))))
        optimiser.zero_grad()
        move.losses["discriminator",].backward()
        optimiser.step()
    assert (game.judge(u) - density).square().mean().item() < 0.03


def test_pre_trainings_loss_is_the_squared_distance_of_a_probability_from_the_density() -> None:
    game = GAN1D(LINE, pretrain=1, mean=1.0, std=0.5)
    for p in game.discriminator.parameters():
        nn.init.zeros_(p)
    (move,) = game.fit_density(itertools.repeat(Points(torch.zeros(200_000, 1))))
    # D = 1/2: E(1/2 - p(u))^2 over U[-5, 5], where p integrates to 1 and p^2 to 1 / (2 s sqrt pi) = 1 / sqrt pi.
    assert move.losses["discriminator",].item() == pytest.approx(0.25 - 0.1 + 0.1 / math.sqrt(math.pi), abs=1e-3)


def test_a_density_above_one_is_refused_by_pre_training_only() -> None:
    with pytest.raises(RequestError, match=r"std = 0\.39"):
        GAN1D(LINE, pretrain=10, std=0.39)
    GAN1D(LINE, pretrain=10, std=0.4)
    GAN1D(LINE, std=0.39)


def test_it_plays_on_the_line_only() -> None:
    with pytest.raises(RequestError, match="dimension 2"):
        GAN1D(PointSpec(2))
