import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, Labelled
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.nets.init import weighted
from ganforge.nets.mlp import mlp
from ganforge.zoo.acgan import ACGAN

TEN = tuple("0123456789")


def tiny(classes: int = 3, **hyper: Any) -> ACGAN:
    return ACGAN(ImageSpec(8, 8, 1, classes=TEN[:classes]), **{"latent_dim": 4, "maps": (8, 4), "width": 2, **hyper})


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def batches(labels: Tensor) -> Iterator[Labelled]:
    return itertools.repeat(Labelled(torch.rand(len(labels), 1, 8, 8) * 2 - 1, labels))


def discriminators_parameters(channels: int, features: int) -> int:
    maps = [channels, 16, 32, 64, 128, 256, 512]
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(maps))
    return convolutions + sum(2 * b for b in maps[2:]) + features * 11 + 11


class Says(nn.Module):
    """A discriminator that says what it is told to say, call after call."""

    def __init__(self, *logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.ParameterList(logits)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        said: Tensor = self.logits[self.calls - 1]
        assert len(said) == len(x)
        return said


def descend(game: Game, served: Iterator[Labelled], rounds: int, lr: float) -> None:
    """Plays with Adam and nothing else of the engine."""
    players = {name: player.parameters() for name, player in game.players().items()}
    optimisers = {name: torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999)) for name, parameters in players.items()}
    for _ in range(rounds):
        for move in game.play(served):
            (name,) = move.players
            move.losses[name,].backward(inputs=players[name])
            optimisers[name].step()
            optimisers[name].zero_grad()


def test_for_cifar_it_has_the_papers_parameters() -> None:
    game = ACGAN(ImageSpec(32, 32, 3, classes=TEN))
    project = 110 * 384 * 16 + 384 * 16
    up = (25 * 384 * 192 + 192) + (25 * 192 * 96 + 96) + (25 * 96 * 3 + 3)
    assert count(game.generator) == project + up + 2 * (192 + 96)
    assert count(game.discriminator) == discriminators_parameters(3, 4 * 4 * 512)


def test_for_imagenet_it_has_the_papers_parameters() -> None:
    game = ACGAN(ImageSpec(128, 128, 3, classes=TEN), maps=ACGAN.presets["imagenet"].options["maps"])
    maps = [768, 384, 256, 192, 64, 3]
    up = sum(25 * a * b + b for a, b in itertools.pairwise(maps))
    assert count(game.generator) == (110 + 1) * 768 * 16 + up + 2 * sum(maps[1:-1])
    assert count(game.discriminator) == discriminators_parameters(3, 16 * 16 * 512)


def test_both_networks_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    game = ACGAN(ImageSpec(32, 32, 3, classes=TEN), maps=(96, 48, 24))
    for layer in [*weighted(game.generator), *weighted(game.discriminator)]:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(("height", "width", "maps"), [(8, 8, (4,)), (28, 28, (8, 4)), (16, 32, (8, 4, 2)), (64, 64, (8, 8, 4, 2))])
def test_pictures_of_any_multiple_are_made_and_judged(height: int, width: int, maps: tuple[int, ...]) -> None:
    game = ACGAN(ImageSpec(height, width, 3, classes=TEN), maps=maps, width=1).eval()
    made = game.sample(game.latent(5))
    assert made.shape == (5, 3, height, width)
    assert made.abs().max() <= 1
    assert game.judge(made).shape == (5,)
    assert game.classify(made).shape == (5, 10)


@pytest.mark.parametrize(("height", "width", "maps"), [(28, 28, (8, 4, 2)), (16, 20, (8, 4, 2)), (16, 16, ())])
def test_sides_that_cannot_be_reached_by_doubling_are_refused(height: int, width: int, maps: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=f"{height}x{width}"):
        ACGAN(ImageSpec(height, width, 1, classes=TEN), maps=maps)


@pytest.mark.parametrize("classes", [(), ("digit",)])
def test_data_without_two_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=f"{len(classes)} classes"):
        ACGAN(ImageSpec(32, 32, 1, classes=classes))


def test_where_the_discriminator_knows_nothing_the_losses_are_those_of_a_coin_and_of_a_die() -> None:
    game = tiny(10)
    nothing = torch.zeros(8, 11)
    game.discriminator = Says(nothing, nothing, nothing)
    discriminator, generator = game.play(batches(torch.arange(8)))
    assert discriminator.losses["discriminator",].item() == pytest.approx(2 * math.log(2) + 2 * math.log(10), rel=1e-6)
    assert generator.losses["generator",].item() == pytest.approx(math.log(2) + math.log(10), rel=1e-6)


def test_losses_are_the_papers_sums_written_out() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([2, 0, 1, 1])
    real, fake, again = (torch.randn(4, 4) for _ in range(3))
    game = tiny(3)
    game.discriminator = Says(real, fake, again)
    discriminator, generator = game.play(batches(labels))

    def source(row: list[float], is_real: bool) -> float:
        """log P(S = real | X), or of fake."""
        return -math.log(1 + math.exp(-row[0] if is_real else row[0]))

    def named(row: list[float], c: int) -> float:
        """log P(C = c | X)."""
        return row[1 + c] - math.log(sum(math.exp(logit) for logit in row[1:]))

    rows = list(zip(real.tolist(), fake.tolist(), again.tolist(), labels.tolist(), strict=True))
    l_s = sum(source(r, True) + source(f, False) for r, f, _, _ in rows) / 4
    l_c = sum(named(r, c) + named(f, c) for r, f, _, c in rows) / 4
    assert discriminator.losses["discriminator",].item() == pytest.approx(-l_s - l_c, rel=1e-5)
    l_g = -sum(source(g, True) + named(g, c) for _, _, g, c in rows) / 4
    assert generator.losses["generator",].item() == pytest.approx(l_g, rel=1e-5)
    for name, kind in (("right_on_real", 0), ("right_on_fake", 1)):
        named_right = [row[kind].index(max(row[kind][1:])) == 1 + row[3] for row in rows]
        assert discriminator.seen[name].mean().item() == sum(named_right) / 4


def test_the_discriminator_learns_classes_from_fakes_too_and_sends_the_generator_no_gradient() -> None:
    game, labels = tiny(3), torch.tensor([2, 0, 1, 1])
    said = Says(*(torch.randn(4, 4) for _ in range(3)))
    game.discriminator = said
    next(game.play(batches(labels))).losses["discriminator",].backward()
    fake = said.logits[1]
    wrong = fake[:, 1:].softmax(1) - torch.eye(3)[labels]  # the slope of cross-entropy in its logits
    torch.testing.assert_close(fake.grad, torch.cat([fake[:, :1].sigmoid(), wrong], 1).detach() / 4)
    assert all(p.grad is None for p in game.generator.parameters())


def test_the_generator_is_moved_by_what_the_class_head_alone_says() -> None:
    slopes = []
    for scale in (1.0, -1.0):
        torch.manual_seed(0)
        game = tiny(3, dropout=0.0)
        *_, head = weighted(game.discriminator)
        with torch.no_grad():
            head.weight[1:] *= scale
        *_, move = game.play(batches(torch.tensor([0, 1, 2, 0])))
        move.losses["generator",].backward()
        slopes.append(torch.cat([p.grad.flatten() for p in game.generator.parameters() if p.grad is not None]))
    assert (slopes[0] - slopes[1]).norm() > 0.1 * slopes[0].norm()


def test_fakes_are_of_the_classes_of_the_real_pictures_beside_them() -> None:
    game, labels = tiny(3), torch.tensor([2, 2, 2, 0, 1, 2, 2, 2])
    asked: list[Tensor] = []
    game.generator.register_forward_pre_hook(lambda _module, given: asked.append(given[0]))
    assert [move.players for move in game.play(batches(labels))] == [("discriminator",), ("generator",)]
    (latent,) = asked
    assert latent.shape == (8, 4 + 3)
    assert torch.equal(latent[:, 4:], torch.eye(3)[labels])


def test_a_random_latent_has_every_class_equally_often_and_standard_normal_noise() -> None:
    torch.manual_seed(0)
    latent = tiny(3).latent(6000)
    z, c = latent[:, :4], latent[:, 4:]
    assert torch.equal(c.amax(1), torch.ones(6000))
    assert torch.equal(c.sum(1), torch.ones(6000))
    assert c.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    assert torch.corrcoef(latent.T)[:4, 4:].abs().max() < 0.05


def test_the_class_shows_even_where_the_noise_is_zero() -> None:
    # Where class and noise are multiplied, as is common, it does not.
    game = tiny(3).eval()
    made = game.sample(torch.cat([torch.zeros(3, 4), torch.eye(3)], 1))
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[1], made[2])


def test_the_first_logit_says_how_real_and_the_others_which_class() -> None:
    game = tiny(3)
    game.discriminator = Says(torch.tensor([[0.0, 1.0, 1.0, 1.0], [math.log(3), 0.0, 0.0, math.log(2)]]))
    assert game.judge(torch.zeros(2, 1, 8, 8)).tolist() == pytest.approx([0.5, 0.75])
    game.discriminator.calls = 0
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5]])
    torch.testing.assert_close(game.classify(torch.zeros(2, 1, 8, 8)), expected)


def test_even_a_perfect_generator_is_told_to_leave_the_border_between_two_classes() -> None:
    # Two unit Gaussians at -1 and 1, made perfectly: the best D says 0 of the source, so only the class pulls, by d/dx -log sigma(2x).
    class Gaussians(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.means = nn.Parameter(torch.tensor([-1.0, 1.0]))

        def forward(self, latent: Tensor) -> Tensor:
            return latent[:, :1] + latent[:, 1:] @ self.means[:, None]

    class Best(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0 * x, -x, x], 1)

    torch.manual_seed(0)
    game = tiny(2, latent_dim=1)
    game.generator, game.discriminator = Gaussians(), Best()
    *_, move = game.play(itertools.repeat(Labelled(torch.zeros(40_000, 1), torch.arange(40_000) % 2)))
    move.losses["generator",].backward()
    x = torch.linspace(-7, 9, 4001)
    density = (-((x - 1) ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    pull = torch.trapezoid(density * 2 / (1 + (2 * x).exp()), x).item()  # -E[d/dx -log sigma(2x)] over the class at 1: outwards
    assert pull > 0.2
    assert game.generator.means.grad is not None
    assert game.generator.means.grad.tolist() == pytest.approx([pull / 2, -pull / 2], rel=0.05)  # each class is half of the batch


def test_of_three_clouds_it_makes_the_one_that_is_asked_for() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    game = tiny(3)
    game.generator, game.discriminator = mlp(4 + 3, 32, 32, 2), mlp(2, 32, 32, 1 + 3)

    def served() -> Iterator[Labelled]:
        while True:
            label = torch.randint(3, (64,))
            yield Labelled(centres[label] + 0.1 * torch.randn(64, 2), label)

    descend(game, served(), rounds=400, lr=1e-3)
    label = torch.arange(3).repeat(200)
    with torch.no_grad():
        made = game.sample(game.latent_of_class(label))
        named = game.classify(centres).argmax(1)
    nearest = torch.cdist(made, centres).argmin(1)
    assert (nearest == label).float().mean() > 0.97
    assert named.tolist() == [0, 1, 2]
