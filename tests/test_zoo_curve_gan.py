import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Points, PointSpec
from ganforge.zoo.curve_gan import CurveGAN

PLACES = torch.linspace(-2, 2, 15)
SPEC = PointSpec(15, tuple(PLACES.tolist()))


def parabolas(n: int) -> Tensor:
    """y = a t^2 + (a - 1), a ~ U[1, 3]."""
    a = 1 + 2 * torch.rand(n, 1)
    return a * PLACES**2 + (a - 1)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_have_the_tutorials_parameters() -> None:
    game = CurveGAN(SPEC)
    assert count(game.generator) == (5 * 128 + 128) + (128 * 15 + 15)
    assert count(game.discriminator) == (15 * 128 + 128) + (128 + 1)


def test_by_default_both_move_at_once_on_the_minimax_losses() -> None:
    game = CurveGAN(SPEC)
    (move,) = game.play(itertools.repeat(Points(parabolas(64))))
    assert move.losses.keys() == {("discriminator",), ("generator",)}
    seen = {name: value.mean() for name, value in move.seen.items()}
    assert torch.equal(seen["score"], -move.losses["discriminator",])
    assert torch.equal(seen["accuracy"], seen["real"])
    # L_D + L_G = -E log D(x), as the generator's loss is the discriminator's on generated curves, sign changed.
    total = move.losses["discriminator",] + move.losses["generator",]
    torch.testing.assert_close(total, -move.seen["real"].log().mean(), rtol=1e-4, atol=1e-5)


def test_an_undecided_discriminator_scores_as_the_tutorial_says() -> None:
    game = CurveGAN(SPEC)
    for p in game.discriminator.parameters():
        nn.init.zeros_(p)
    (move,) = game.play(itertools.repeat(Points(parabolas(8))))
    assert move.seen["accuracy"].mean().item() == 0.5
    assert move.seen["score"].item() == pytest.approx(-2 * math.log(2))
    assert move.losses["generator",].item() == pytest.approx(-math.log(2))


def test_by_turns_the_generator_answers_the_discriminator_that_has_just_moved() -> None:
    game = CurveGAN(SPEC, simultaneous=False, saturating=False)
    play = game.play(itertools.repeat(Points(parabolas(8))))
    assert next(play).players == ("discriminator",)
    for p in game.discriminator.parameters():
        nn.init.zeros_(p)
    move = next(play)
    assert move.players == ("generator",)
    assert move.losses["generator",].item() == pytest.approx(math.log(2))


def test_it_paints_curves_of_any_number_of_places() -> None:
    game = CurveGAN(PointSpec(7), hidden=4)
    curves = game.sample(game.latent(3))
    assert curves.shape == (3, 7)
    assert game.judge(curves).shape == (3,)


def test_the_tutorials_training_paints_parabolas() -> None:
    torch.manual_seed(0)
    game = CurveGAN(SPEC)
    seats = {name: (player.parameters(), player.optimiser(player.parameters())) for name, player in game.players().items()}
    for _ in range(2000):
        (move,) = game.play(iter([Points(parabolas(64))]))
        gradients = {name: torch.autograd.grad(loss, seats[name][0], retain_graph=True) for (name,), loss in move.losses.items()}
        for name, (parameters, optimiser) in seats.items():
            for parameter, gradient in zip(parameters, gradients[name], strict=True):
                parameter.grad = gradient
            optimiser.step()
    curves = game.sample(game.latent(1000)).detach()
    basis = torch.stack([PLACES**2, PLACES, torch.ones(15)], 1)
    fit = torch.linalg.lstsq(basis, curves.T).solution
    assert 1.5 < fit[0].mean() < 2.6
    assert (basis @ fit - curves.T).square().mean().sqrt() < 0.6
