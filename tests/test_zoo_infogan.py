import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec, Points, PointSpec
from ganforge.errors import RequestError
from ganforge.zoo.infogan import InfoGAN

SMALL: dict[str, Any] = {"width": 2, "units": 16, "latent_dim": 3}


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def build(**hyper: Any) -> InfoGAN:
    torch.manual_seed(0)
    return InfoGAN(ImageSpec(8, 8, 1), **{**SMALL, **hyper})


def pictures(n: int = 8) -> Iterator[Images]:
    return itertools.repeat(Images(2 * torch.rand(n, 1, 8, 8) - 1))


class Says(nn.Module):
    """A head that says the same of everything."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values).squeeze(0) if len(values) == 1 else torch.tensor(values))

    def forward(self, x: Tensor) -> Tensor:
        return self.values.expand(len(x), *self.values.shape)


class ShowsItsCode(nn.Module):
    """A generator whose sample is its categorical code."""

    def __init__(self, latent_dim: int, categories: int) -> None:
        super().__init__()
        self.keep = slice(latent_dim, latent_dim + categories)

    def forward(self, latent: Tensor) -> Tensor:
        return latent[:, self.keep]


def test_at_28_pixels_it_has_the_parameters_of_the_authors_launcher() -> None:
    game = InfoGAN(ImageSpec(28, 28, 1))
    base = 128 * 7 * 7
    linears = (74 * 1024 + 1024 + 2 * 1024) + (1024 * base + base + 2 * base)
    assert count(game.generator) == linears + (128 * 64 * 16 + 64 + 2 * 64) + (64 * 16 + 1)
    trunk = (64 * 16 + 64) + (64 * 128 * 16 + 128 + 2 * 128) + (base * 1024 + 1024 + 2 * 1024)
    heads = (1024 + 1) + (1024 * 128 + 128 + 2 * 128) + (128 * 12 + 12)
    assert count(game.trunk, game.score, game.recogniser) == trunk + heads
    assert count(*[player.module for player in game.players().values() if isinstance(player.module, nn.Module)]) == count(game)


def test_with_sigma_learned_there_are_the_14_outputs_of_the_authors_code() -> None:
    assert build(learn_sigma=True).recogniser[-1].out_features == 14
    assert build().recogniser[-1].out_features == 12


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_pictures_of_these_sizes_are_made_and_judged_in_their_range(size: int) -> None:
    game = InfoGAN(ImageSpec(size, size, 3), **SMALL)
    made = game.sample(game.latent(4))
    assert made.shape == (4, 3, size, size)
    assert made.abs().max() <= 1
    assert ((game.judge(made) > 0) & (game.judge(made) < 1)).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match="12x12"):
        InfoGAN(ImageSpec(12, 12, 1))
    with pytest.raises(RequestError, match="at least one code"):
        build(categorical=0, continuous=0)
    with pytest.raises(RequestError, match="two values"):
        build(categories=1)
    faces = build(categorical=0, continuous=5)
    assert faces.encode(faces.sample(faces.latent(2))).shape == (2, 5)
    with pytest.raises(RequestError, match="--categorical 1"):
        faces.cluster(torch.zeros(2, 1, 8, 8))


def test_the_prior_is_uniform_noise_one_hot_rows_and_uniform_codes() -> None:
    game = build(categorical=2, categories=5, continuous=3)
    latent = game.latent(20_000)
    z, categories, codes = latent[:, :3], latent[:, 3:13].reshape(-1, 2, 5), latent[:, 13:]
    assert codes.shape == (20_000, 3)
    for uniform in (z, codes):
        assert uniform.mean().abs() < 0.02
        assert uniform.var().item() == pytest.approx(1 / 3, rel=0.03)
        assert uniform.abs().max() <= 1
    assert torch.equal(categories.sum(2), torch.ones(20_000, 2))
    assert set(categories.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(categories.mean(0), torch.full((2, 5), 0.2), atol=0.015, rtol=0)
    # Independent: every one of the 25 pairs is equally likely.
    torch.testing.assert_close(categories[:, 0].T @ categories[:, 1] / 20_000, torch.full((5, 5), 0.04), atol=0.008, rtol=0)


def test_a_recogniser_that_knows_nothing_bounds_the_information_by_zero_and_one_that_knows_all_by_the_entropy() -> None:
    game = build(continuous=0)
    latent = game.latent(50)
    categories = latent[:, 3:]
    categorical, continuous = game.bounds(torch.zeros(50, 10), latent)
    torch.testing.assert_close(categorical, torch.zeros(50), atol=1e-6, rtol=0)
    assert torch.equal(continuous, torch.zeros(50))
    torch.testing.assert_close(game.bounds(100 * categories, latent)[0], torch.full((50,), 2.302585))
    # Sure, and wrong: the bound has no floor.
    assert game.bounds(-100 * categories, latent)[0].max() < -90


def test_with_sigma_one_the_continuous_bound_is_that_of_the_closed_forms() -> None:
    game = build()
    latent = game.latent(20_001)
    latent[:, -2:] = torch.linspace(-1, 1, 20_001)[:, None]
    known, unknown = torch.zeros(20_001, 12), torch.zeros(20_001, 12)
    known[:, 10:] = latent[:, -2:]
    entropy = math.log(2)
    assert game.bounds(known, latent)[1].mean().item() == pytest.approx(2 * (entropy - 0.918939), abs=1e-5)
    assert game.bounds(unknown, latent)[1].mean().item() == pytest.approx(2 * (entropy - 1.085606), abs=1e-4)


def test_the_bounds_are_log_likelihoods_plus_entropies_of_torchs_distributions() -> None:
    game = build(categorical=3, categories=4, continuous=2, learn_sigma=True)
    latent, told = game.latent(6), torch.randn(6, 3 * 4 + 4)
    categories, codes = latent[:, 3:15].reshape(6, 3, 4), latent[:, 15:]
    categorical = torch.distributions.Categorical(logits=told[:, :12].reshape(6, 3, 4)).log_prob(categories.argmax(2)).sum(1)
    normal = torch.distributions.Normal(told[:, 12:14], (told[:, 14:] / 2).exp()).log_prob(codes).sum(1)
    expected = categorical + 3 * math.log(4), normal + 2 * torch.distributions.Uniform(-1.0, 1.0).entropy()
    torch.testing.assert_close(game.bounds(told, latent), expected)


def test_both_losses_are_the_adversarial_ones_less_lambda_times_the_information() -> None:
    game = build(information=0.5)
    game.score, game.recogniser = Says(2.0), Says(*[0.0] * 12)  # type: ignore[assignment]
    torch.manual_seed(1)
    discriminator, generator = game.play(pictures(4096))
    # E log Q + H of a uniform Q is 0; of a continuous code told to be 0 with sigma 1, ln 2 - (log(2 pi) + E c^2) / 2.
    information = 2 * (math.log(2) - 0.5 * (math.log(2 * math.pi) + 1 / 3))
    surprise = math.log(1 + math.exp(-2))
    assert discriminator.losses["discriminator",].item() == pytest.approx(surprise + 2 + surprise - 0.5 * information, abs=5e-3)
    assert generator.losses["generator",].item() == pytest.approx(surprise - 0.5 * information, abs=5e-3)
    assert discriminator.seen["categorical"].mean().item() == pytest.approx(0, abs=1e-5)
    assert discriminator.seen["continuous"].mean().item() == pytest.approx(information, abs=1e-2)
    assert discriminator.seen["real"].mean().item() == pytest.approx(math.exp(-surprise))


def gradients(game: InfoGAN, move: int) -> dict[str, float]:
    """The largest gradient in each of its networks by the loss of its first or second move."""
    (loss,) = next(itertools.islice(game.play(pictures()), move, None)).losses.values()
    loss.backward()
    networks = {"generator": game.generator, "trunk": game.trunk, "score": game.score, "recogniser": game.recogniser}
    return {
        name: max((p.grad.abs().max().item() for p in network.parameters() if p.grad is not None), default=0.0)
        for name, network in networks.items()
    }


def test_a_discriminators_move_pulls_on_the_recogniser_and_never_on_the_generator() -> None:
    pulls = gradients(build(), 0)
    assert pulls["generator"] == 0
    assert min(pulls["trunk"], pulls["score"], pulls["recogniser"]) > 0


def test_without_lambda_the_recogniser_feels_nothing() -> None:
    assert gradients(build(information=0.0), 0)["recogniser"] == 0


@pytest.mark.parametrize("move", [0, 1])
def test_the_information_alone_moves_the_trunk_and_the_generator_each_in_its_turn(move: int) -> None:
    game = build()
    game.score = Says(0.0)  # type: ignore[assignment]
    pulls = gradients(game, move)
    assert pulls["trunk"] > 0
    assert (pulls["generator"] > 0) == (move == 1)


def test_real_and_generated_pass_apart_the_recogniser_sees_no_real_ones_and_each_player_draws_its_own_codes() -> None:
    game = build()
    latents: list[Tensor] = []
    trunk: list[int] = []
    told: list[int] = []
    game.generator.register_forward_pre_hook(lambda _m, i: latents.append(i[0]))
    game.trunk.register_forward_hook(lambda _m, i, _y: trunk.append(len(i[0])))
    game.recogniser.register_forward_hook(lambda _m, i, _y: told.append(len(i[0])))
    assert [move.players for move in game.play(pictures(8))] == [("discriminator",), ("generator",)]
    assert (trunk, told) == ([8, 8, 8], [8, 8])
    assert not torch.equal(*latents)


def test_of_a_generator_that_shows_its_code_the_recogniser_learns_it_all() -> None:
    torch.manual_seed(0)
    game = InfoGAN(PointSpec(8), latent_dim=2, categories=8, continuous=0, units=128)
    game.generator = ShowsItsCode(2, 8)
    player = game.players()["discriminator"]
    adam = torch.optim.Adam(player.parameters(), lr=1e-2)
    seen = torch.zeros(())
    for _ in range(100):
        adam.zero_grad()
        move = next(game.play(itertools.repeat(Points(torch.randn(64, 8)))))
        move.losses["discriminator",].backward()
        adam.step()
        seen = move.seen["categorical"].mean()
    assert math.log(8) - 0.02 < seen.item() < math.log(8)
    game.eval()
    assert game.cluster(torch.eye(8)).argmax(1).tolist() == list(range(8))


def test_dials_turn_the_codes_they_name_and_nothing_else() -> None:
    game = build()
    assert game.dials == {"category": (0, 9), "c1": (-2, 2), "c2": (-2, 2)}
    latent = game.latent(5)
    before = latent.clone()
    turned = game.steer(latent, {"category": 7, "c2": -2.0})
    assert torch.equal(latent, before)
    assert turned[:, 3:13].argmax(1).tolist() == [7] * 5
    assert torch.equal(turned[:, 3:13].sum(1), torch.ones(5))
    assert turned[:, 14].tolist() == [-2.0] * 5
    assert torch.equal(turned[:, [0, 1, 2, 13]], latent[:, [0, 1, 2, 13]])
    several = build(categorical=2, categories=4, continuous=1)
    assert list(several.dials) == ["category1", "category2", "c1"]
    assert several.steer(several.latent(3), {"category2": 2.9})[:, 7:11].tolist() == [[0, 0, 0, 1]] * 3


def test_a_code_is_the_probabilities_of_the_categories_and_the_means() -> None:
    game = build(categorical=2, categories=3, continuous=1, learn_sigma=True)
    game.recogniser = Says(0.0, math.log(2), math.log(5), 0.0, 0.0, math.log(2), 0.25, 9.0)  # type: ignore[assignment]
    x = game.sample(game.latent(2))
    expected = torch.tensor([0.125, 0.25, 0.625, 0.25, 0.25, 0.5, 0.25]).expand(2, 7)
    torch.testing.assert_close(game.encode(x), expected)
    torch.testing.assert_close(game.cluster(x), expected[:, :3])
