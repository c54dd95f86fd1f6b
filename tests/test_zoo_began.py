import itertools
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec
from ganforge.errors import RequestError
from ganforge.nets.init import weighted
from ganforge.zoo.began import BEGAN

GREY = ImageSpec(8, 8, 1)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def small(**hyper: object) -> BEGAN:
    torch.manual_seed(0)
    return BEGAN(GREY, width=4, latent_dim=4, **hyper)  # type: ignore[arg-type]


def pictures(n: int = 8) -> Iterator[Images]:
    return itertools.repeat(Images(torch.rand(n, 1, 8, 8)))


def play(game: BEGAN, real: float, fake: float, rounds: int = 1) -> None:
    """Rounds that saw these errors, whatever the networks said."""
    for _ in range(rounds):
        moves = game.play(pictures(1))
        next(moves)
        with pytest.raises(StopIteration):
            moves.send({"real": torch.tensor(real), "fake": torch.tensor(fake)})


class Times(nn.Module):
    """A picture times a number: its error is |1 - number| times the picture's mean absolute value."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number))

    def forward(self, x: Tensor) -> Tensor:
        return self.number * x


class Same(nn.Module):
    """A generator of pictures that are everywhere its one weight."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, z: Tensor) -> Tensor:
        return self.level.expand(len(z), 1, 8, 8)


def test_at_64_pixels_it_has_the_parameters_of_the_layers_counted_by_hand() -> None:
    game = BEGAN(ImageSpec(64, 64, 3))

    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    decoder = 65 * 8192 + 8 * conv(128, 128) + conv(128, 3)
    assert count(game.generator) == decoder == 1_716_611
    levels = (
        3 * conv(128, 128) + conv(128, 256) + 2 * conv(256, 256) + conv(256, 384) + 2 * conv(384, 384) + conv(384, 512) + conv(512, 512)
    )
    assert count(game.discriminator) == conv(3, 128) + levels + (8 * 8 * 512 + 1) * 64 + decoder


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_every_power_of_two_is_coded_in_maps_of_8_pixels(size: int) -> None:
    game = BEGAN(ImageSpec(size, size, 3), width=2, latent_dim=5)
    shapes: list[tuple[int, ...]] = []
    (last,) = (layer for layer in game.discriminator[0].children() if isinstance(layer, nn.Flatten))
    last.register_forward_hook(lambda _m, inputs, _y: shapes.append(tuple(inputs[0].shape)))
    x = torch.rand(3, 3, size, size)
    assert game.encode(x).shape == (3, 5)
    levels = {8: 1, 16: 2, 32: 3, 64: 4}[size]
    assert shapes == [(3, 2 * levels, 8, 8)]
    assert game.sample(game.latent(3)).shape == (3, 3, size, size)
    assert game.discriminator(x).shape == x.shape


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 64), (4, 4)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(RequestError, match=f"{height}x{width}"):
        BEGAN(ImageSpec(height, width, 1))


@pytest.mark.parametrize("hyper", [{"gamma": 0.0}, {"gamma": 1.5}, {"patience": 0}])
def test_settings_without_a_meaning_are_refused(hyper: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(hyper))):
        small(**hyper)


def test_weights_begin_with_glorots_variance_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    for layer in weighted(BEGAN(ImageSpec(16, 16, 3), width=32)):
        fans = layer.weight[0].numel() + layer.weight.shape[0] * layer.weight[0, 0].numel()
        assert layer.weight.var().item() == pytest.approx(2 / fans, rel=0.15)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_the_noise_is_uniform_on_minus_one_to_one() -> None:
    z = small().latent(5000)
    assert z.abs().max() <= 1
    assert z.var().item() == pytest.approx(1 / 3, rel=0.03)
    assert z.mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("eta", [1, 2])
def test_the_error_is_the_mean_over_pixels_of_the_differences_powers(eta: Literal[1, 2]) -> None:
    game = small(eta=eta)
    game.discriminator = nn.Sequential(Times(0.25))
    x = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
    expected = [sum((0.75 * abs(v)) ** eta for v in picture.flatten().tolist()) / 64 for picture in x]
    torch.testing.assert_close(game.error(x), torch.tensor(expected))
    torch.testing.assert_close(game.judge(x), -torch.tensor(expected))


def test_errors_are_not_rounded_under_autocast() -> None:
    game = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert game.error(torch.rand(2, 1, 8, 8)).dtype == torch.float32


@pytest.mark.parametrize("k", [0.0, 0.3])
def test_losses_and_the_measure_are_the_formulas(k: float) -> None:
    game = small(gamma=0.5)
    game.discriminator, game.generator = nn.Sequential(Times(0.5)), Same(0.8)
    game.k.fill_(k)
    move = next(game.play(itertools.repeat(Images(torch.full((3, 1, 8, 8), 0.4)))))
    real, fake = 0.2, 0.4  # half of what a picture's pixels are
    assert move.losses["discriminator",].item() == pytest.approx(real - k * fake)
    assert move.losses["generator",].item() == pytest.approx(fake)
    assert move.seen["M"].item() == pytest.approx(real + abs(0.5 * real - fake))


@pytest.mark.parametrize(("real", "fake", "expected"), [(1.0, 0.2, 0.0003), (1.0, 0.9, -0.0004), (1.0, 0.5, 0.0), (0.4, 0.1, 0.0001)])
def test_k_follows_the_balance(real: float, fake: float, expected: float) -> None:
    game = small(gamma=0.5, lambda_k=0.001)
    game.k.fill_(0.5)
    play(game, real, fake, rounds=3)
    assert game.k.item() - 0.5 == pytest.approx(3 * expected, abs=1e-6)


@pytest.mark.parametrize(("start", "fake", "end"), [(0.9999, 0.2, 1.0), (0.0001, 0.9, 0.0)])
def test_k_stays_between_0_and_1(start: float, fake: float, end: float) -> None:
    game = small(gamma=0.5, lambda_k=0.001)
    game.k.fill_(start)
    play(game, 1.0, fake)
    assert game.k.item() == end


def test_at_k_0_the_discriminator_is_an_auto_encoder_of_real_pictures() -> None:
    game, batches = small(), pictures()
    parameters = list(game.discriminator.parameters())
    real = next(batches).image
    plain = torch.autograd.grad((real - game.discriminator(real)).abs().mean(), parameters)
    loss = next(game.play(batches)).losses["discriminator",]
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), plain)


def test_the_discriminators_loss_has_no_slope_in_the_generator() -> None:
    game = small()
    game.k.fill_(0.5)
    next(game.play(pictures())).losses["discriminator",].backward()
    assert all(p.grad is None for p in game.generator.parameters())
    assert all(p.grad is not None for p in game.discriminator.parameters())


def test_the_generator_is_pulled_by_what_is_copied_and_by_what_should_be_copied() -> None:
    # |g - c g| = (1 - c) |g|: with the picture as a fixed target the slope would be -c, and the generator would run away from 0.
    game = small()
    game.discriminator, game.generator = nn.Sequential(Times(0.25)), Same(0.5)
    next(game.play(pictures())).losses["generator",].backward()
    assert isinstance(game.generator.level.grad, Tensor)
    assert game.generator.level.grad.item() == pytest.approx(1 - 0.25)


def test_both_players_move_at_once_on_noise_of_their_own() -> None:
    game = small()
    drawn: list[Tensor] = []
    game.generator.register_forward_hook(lambda _m, inputs, _y: drawn.append(inputs[0]))
    moves = [move.players for move in itertools.islice(game.play(pictures(6)), 1)]
    assert moves == [("discriminator", "generator")]
    z_d, z_g = drawn
    assert z_d.shape == z_g.shape == (6, 4)
    assert not torch.equal(z_d, z_g)


@pytest.mark.parametrize(
    ("measures", "rates"),
    [
        ((1.0, 1.0), (1, 0.5)),
        ((1.0, 0.98), (1, 1)),
        ((1.0, 0.995, 0.5, 0.499), (1, 0.5, 0.5, 0.25)),
        ((0.5, 0.6, 0.5), (1, 0.5, 0.5)),
    ],
)
def test_the_learning_rate_is_halved_when_the_measure_stalls(measures: tuple[float, ...], rates: tuple[float, ...]) -> None:
    game = small(patience=3, gamma=0.5)
    schedules = [player.schedule for player in game.players().values()]
    for measure, rate in zip(measures, rates, strict=True):
        play(game, measure, measure / 2, rounds=3)  # at equilibrium M is L(x)
        assert [schedule and float(schedule(0)) for schedule in schedules] == [rate, rate]


def test_the_mean_of_the_measure_is_compared_and_not_its_last_value() -> None:
    game = small(patience=2, gamma=0.5)
    for real in (1.0, 1.0, 0.1, 1.7):
        play(game, real, real / 2)
    assert game.rate.item() == 1
    for real in (0.1, 1.7):
        play(game, real, real / 2)
    assert game.rate.item() == 0.5
