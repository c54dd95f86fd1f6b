import itertools
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from noise import with_noise_per_sample, with_plain_descent
from torch import Tensor, nn
from variants import Variant

from ganforge.batches import ImageSpec, Unpaired
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.nets.mlp import mlp
from ganforge.zoo.cyclegan import CycleGAN, Pool

SMALL = partial(CycleGAN, ImageSpec(8, 8, 1), width=2, blocks=1, layers=1)
TINY = Variant("cyclegan", "tiny", Unpaired)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pictures(n: int = 2) -> Iterator[Unpaired]:
    return itertools.repeat(Unpaired(torch.rand(n, 1, 8, 8), -torch.rand(n, 1, 8, 8)))


class Plus(nn.Module):
    """Adds a number to all pixels."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.number


class Says(nn.Module):
    """A discriminator that says the same to everything."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit.expand(len(x), 1, 3, 3)


class Mean(nn.Module):
    """A discriminator that says a picture's mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3), keepdim=True)


def made_of(game: CycleGAN, g: nn.Module, f: nn.Module, d_x: nn.Module, d_y: nn.Module) -> CycleGAN:
    game.generators["a2b"], game.generators["b2a"] = g, f
    game.discriminators["a"], game.discriminators["b"] = d_x, d_y
    return game


def test_at_256_pixels_it_has_the_parameters_of_the_layers_counted_by_hand() -> None:
    with torch.device("meta"):
        game = CycleGAN(ImageSpec(256, 256, 3))

    def conv(kernel: int, inputs: int, outputs: int) -> int:
        return kernel**2 * inputs * outputs + outputs

    resampling = 2 * 9 * (64 * 128 + 128 * 256) + (128 + 256) + (128 + 64)
    generator = conv(7, 3, 64) + resampling + 9 * 2 * conv(3, 256, 256) + conv(7, 64, 3)
    assert count(game.generators) == 2 * generator == 2 * 11_378_179
    discriminator = conv(4, 3, 64) + conv(4, 64, 128) + conv(4, 128, 256) + conv(4, 256, 512) + conv(4, 512, 1)
    assert count(game.discriminators) == 2 * discriminator == 2 * 2_764_737


@pytest.mark.parametrize(
    ("size", "blocks", "patches"), [(256, 9, 30), (128, 6, 14), (64, 6, 6), (32, 3, 6), (28, 3, 5), (16, 3, 6), (8, 3, 2)]
)
def test_smaller_pictures_have_smaller_networks(size: int, blocks: int, patches: int) -> None:
    game, shortest = (CycleGAN(ImageSpec(size, size, 3), width=4, pool=0, blocks=number) for number in (0, 1))
    assert count(game.generators) - count(shortest.generators) == 2 * (blocks - 1) * 2 * (9 * 16 * 16 + 16)
    image = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        assert game.discriminators["b"](image).shape == (1, 1, patches, patches)
        assert game.translate(image, "b2a").shape == image.shape


@pytest.mark.parametrize("pool", [0, 3])
def test_losses_are_the_formulas(pool: int) -> None:
    game = made_of(SMALL(pool=pool, cycle=10.0, identity=0.5), Plus(0.3), Plus(-0.1), Says(0.5), Says(0.2))
    generators, discriminators = game.play(pictures())
    adversarial = (0.2 - 1) ** 2 + (0.5 - 1) ** 2
    there_and_back, kept = 0.2 + 0.2, 0.3 + 0.1  # 0.3 - 0.1 to everything, whichever comes first
    assert generators.losses["generators",].item() == pytest.approx(adversarial + 10 * (there_and_back + 0.5 * kept), rel=1e-5)
    apart = ((0.2 - 1) ** 2 + 0.2**2) / 2 + ((0.5 - 1) ** 2 + 0.5**2) / 2
    assert discriminators.losses["discriminators",].item() == pytest.approx(apart)


def test_generators_that_change_nothing_have_only_the_adversarial_loss() -> None:
    game = made_of(SMALL(identity=0.5), Plus(0.0), Plus(0.0), Says(0.5), Says(0.5))
    generators, discriminators = game.play(pictures())
    assert generators.losses["generators",].item() == pytest.approx(0.25 + 0.25)
    assert discriminators.losses["discriminators",].item() == pytest.approx(0.25 + 0.25)


def test_each_discriminator_judges_its_own_domain() -> None:
    game = SMALL()
    judged: dict[str, list[Tensor]] = {"a": [], "b": []}
    for domain, network in game.discriminators.items():
        network.register_forward_hook(lambda _m, inputs, _y, domain=domain: judged[domain].append(inputs[0]))
    batches = pictures()
    x, y = next(batches).a, next(batches).b
    moves = game.play(batches)
    next(moves)
    fakes = {"b": game.translate(x, "a2b"), "a": game.translate(y, "b2a")}
    next(moves)
    for domain, real in (("a", x), ("b", y)):
        while_fooled, while_told = judged[domain]
        assert torch.equal(while_fooled, fakes[domain])
        assert torch.equal(while_told, torch.cat([real, fakes[domain]]))


def test_the_discriminators_see_what_the_generators_made_before_they_moved() -> None:
    plus = Plus(0.25)
    game = made_of(SMALL(pool=0), plus, Plus(0.0), Mean(), Mean())
    batches = pictures()
    moves = game.play(batches)
    next(moves)
    with torch.no_grad():
        plus.number.fill_(9.0)
    seen, batch = next(moves).seen, next(batches)
    means = torch.stack([each.mean((1, 2, 3)) for each in (batch.a, batch.b)])
    torch.testing.assert_close(seen["fake"].mean(), (means[0] + 0.25 + means[1]).mean() / 2)
    torch.testing.assert_close(seen["real"].mean(), means.mean())


def test_the_discriminators_loss_has_no_slope_in_the_generators() -> None:
    game = SMALL(pool=0)
    _, move = game.play(pictures())
    move.losses["discriminators",].backward()
    assert all(p.grad is None for p in game.generators.parameters())
    assert all(p.grad is not None for p in game.discriminators.parameters())


def test_the_rate_is_constant_and_then_falls_to_zero() -> None:
    for player in CycleGAN(ImageSpec(8, 8, 1), width=2, layers=1).players().values():
        assert player.schedule
        assert [player.schedule(round) for round in (0, 133_399, 200_100, 266_800)] == [1.0, 1.0, 0.5, 0.0]


def numbered(n: int, start: int = 0) -> Tensor:
    """Pictures [n, 1, 2, 2], all pixels of the k-th are start + k."""
    return torch.arange(float(start), start + n).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def numbers(images: Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].int().tolist()


def test_a_pool_without_size_gives_back_what_it_was_given() -> None:
    fresh = numbered(5)
    assert Pool(0, (1, 2, 2))(fresh) is fresh


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_pool_keeps_the_first_pictures_and_gives_them_out_at_once(batch: int) -> None:
    pool = Pool(7, (1, 2, 2))
    for start in range(0, 7 - batch + 1, batch):
        assert numbers(pool(numbered(batch, start))) == list(range(start, start + batch))
    assert numbers(pool.pictures)[: 7 - 7 % batch] == list(range(7 - 7 % batch))
    assert pool.held.item() == 7 - 7 % batch


def test_no_picture_is_lost_or_given_out_twice_once_a_pool_is_full() -> None:
    torch.manual_seed(0)
    pool = Pool(7, (1, 2, 2))
    pool(numbered(7))
    given = numbers(pool(numbered(400, 7)))
    assert pool.held.item() == 7
    assert sorted(given + numbers(pool.pictures)) == list(range(407))


def test_half_of_what_a_full_pool_gives_is_the_newest_and_the_rest_comes_from_everywhere_in_it() -> None:
    torch.manual_seed(0)
    pool, n = Pool(4, (1, 2, 2)), 2000
    pool(numbered(4))
    newest, places = 0, [0] * 4
    for k in range(4, n + 4):
        before = numbers(pool.pictures)
        (given,) = numbers(pool(numbered(1, k)))
        newest += given == k
        if given != k:
            places[before.index(given)] += 1
    # Five standard deviations.
    assert abs(newest - n / 2) < 5 * (n / 4) ** 0.5
    assert all(abs(place - n / 8) < 5 * (n * 7 / 64) ** 0.5 for place in places)


def test_a_pool_of_a_negative_size_is_refused() -> None:
    with pytest.raises(RequestError, match="pool = -1"):
        SMALL(pool=-1)


def test_without_pools_accumulated_rounds_equal_one_round_of_a_larger_batch() -> None:
    results = []
    for of, batch in ((1, 8), (2, 4)):
        torch.manual_seed(0)
        game = SMALL(pool=0, identity=0.5)
        assert not game.couples_samples
        start = [p.detach().clone() for p in game.parameters()]
        with_plain_descent(game)
        with_noise_per_sample(game, range(of))
        trainer = TINY.trainer(game, batch_size=batch, accumulate=of)
        for _ in range(2):
            trainer.play_round()
        results.append(list(game.parameters()))
    for before, large, parts in zip(start, *results, strict=True):
        assert (large - parts).norm() <= 2e-3 * (large - before).norm() + 1e-6


def test_accumulated_rounds_keep_all_their_pictures() -> None:
    game = SMALL(pool=50)
    trainer = TINY.trainer(game, batch_size=4, accumulate=3)
    trainer.play_round()
    for pool in game.pools.values():
        assert isinstance(pool, Pool)
        assert pool.held.item() == 12
        assert len({tuple(picture.flatten().tolist()) for picture in pool.pictures[:12]}) == 12


def descend(game: CycleGAN, batches: Iterator[Unpaired], rounds: int, lr: float) -> Move:
    optimisers = {name: torch.optim.Adam(player.parameters(), lr=lr, betas=(0.5, 0.999)) for name, player in game.players().items()}
    for _ in range(rounds):
        for move in game.play(batches):
            (name,) = move.players
            optimisers[name].zero_grad()
            move.losses[name,].backward(inputs=[p for group in optimisers[name].param_groups for p in group["params"]])
            optimisers[name].step()
    return move


def test_two_clouds_of_points_become_each_other_and_come_back() -> None:
    torch.manual_seed(0)

    def clouds(n: int) -> Unpaired:
        return Unpaired(0.3 * torch.randn(n, 2) - torch.tensor([2.0, 0.0]), 0.3 * torch.randn(n, 2) + torch.tensor([2.0, 0.0]))

    game = made_of(SMALL(pool=0), mlp(2, 64, 64, 2), mlp(2, 64, 64, 2), mlp(2, 64, 64, 1), mlp(2, 64, 64, 1))
    descend(game, iter(lambda: clouds(64), None), rounds=400, lr=1e-3)
    with torch.no_grad():
        cloud = clouds(4000)
        there = game.translate(cloud.a, "a2b")
        back = game.translate(there, "b2a")
    # The pairing is not asked for: any turning or mirroring of the cloud is as good.
    assert (there.mean(0) - torch.tensor([2.0, 0.0])).norm() < 0.1
    assert ((there.std(0) - 0.3).abs() < 0.1).all()
    assert (back - cloud.a).abs().mean() < 0.1
