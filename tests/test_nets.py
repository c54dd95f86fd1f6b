import math

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec
from ganforge.errors import RequestError
from ganforge.nets import dcgan, init, resnet
from ganforge.nets.dcgan import Kernel
from ganforge.nets.mlp import Affine, Maxout, mlp
from ganforge.nets.sizes import halvings, side


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def sides_of(network: nn.Module, x: Tensor, kind: type[nn.Module]) -> list[int]:
    """The sides of the maps that layers of this kind give, in order."""
    sides: list[int] = []
    hooks = [m.register_forward_hook(lambda _m, _i, y: sides.append(y.shape[-1])) for m in network.modules() if isinstance(m, kind)]
    network(x)
    for hook in hooks:
        hook.remove()
    return sides


@pytest.mark.parametrize(("size", "sides"), [(8, [8, 4, 2]), (16, [16, 8, 4]), (28, [28, 14, 7, 4]), (64, [64, 32, 16, 8, 4])])
def test_sides_are_halved_to_four_and_at_least_twice(size: int, sides: list[int]) -> None:
    assert halvings(size) == sides


@pytest.mark.parametrize("shape", [(32, 16), (48, 48), (4, 4)])
def test_pictures_that_no_network_makes_are_refused_with_the_sizes_that_it_makes(shape: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"{shape[0]}x{shape[1]}.*8, 16 or 32"):
        side(ImageSpec(*shape), (8, 16, 32))
    assert side(ImageSpec(16, 16), (8, 16, 32)) == 16


def test_an_mlp_has_an_activation_between_its_layers_only() -> None:
    kinds = [type(layer) for layer in mlp(2, 5, 5, 1, activation=nn.Tanh)]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert count(mlp(2, 5, 5, 1)) == (2 * 5 + 5) + (5 * 5 + 5) + (5 + 1)


def test_a_maxout_unit_is_the_largest_of_its_linear_maps() -> None:
    layer, x = Maxout(3, units=2, pieces=4), torch.randn(5, 3)
    w, b = layer.linear.weight.view(2, 4, 3), layer.linear.bias.view(2, 4)
    expected = [[max((w[u, k] @ row + b[u, k]).item() for k in range(4)) for u in range(2)] for row in x]
    torch.testing.assert_close(layer(x), torch.tensor(expected))


def test_affine_maps_pixels_there_and_back() -> None:
    torch.testing.assert_close(Affine(0.5, 0.5)(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(Affine(2, -1)(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([-1.0, 0.0, 1.0]))


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
def test_every_level_doubles_the_side_exactly(size: int, kernel: Kernel) -> None:
    generator = dcgan.generator(3, (3, size, size), width=1, kernel=kernel)
    discriminator = dcgan.discriminator((3, size, size), width=1, kernel=kernel)
    below = halvings(size)[::-1]
    up = sides_of(generator, torch.randn(2, 3), nn.ConvTranspose2d)
    assert up == (below[1:] if kernel == 5 else below)
    down = sides_of(discriminator, torch.randn(2, 3, size, size), nn.Conv2d)
    assert down == (halvings(size)[1:] if kernel == 5 else [*halvings(size)[1:], 1])
    assert discriminator(torch.randn(2, 3, size, size)).shape == (2,)


def test_28_pixels_are_reached_by_cropping_8_to_7() -> None:
    generator = dcgan.generator(3, (1, 28, 28), width=1, norm=False)
    assert sides_of(generator, torch.randn(2, 3), nn.ConvTranspose2d) == [8, 14, 28]
    assert sides_of(generator, torch.randn(2, 3), dcgan.Crop) == [7]
    assert sides_of(dcgan.discriminator((1, 28, 28), width=1), torch.randn(2, 1, 28, 28), nn.Conv2d) == [14, 7, 4]


def test_the_finest_level_has_width_maps_and_each_below_it_twice_as_many() -> None:
    maps = [layer.in_channels for layer in dcgan.generator(3, (3, 64, 64), width=2).modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert maps == [16, 8, 4, 2]
    maps = [layer.out_channels for layer in dcgan.discriminator((3, 64, 64), width=2).modules() if isinstance(layer, nn.Conv2d)]
    assert maps == [2, 4, 8, 16]


@pytest.mark.parametrize("kernel", [4, 5])
def test_normalisation_spares_the_output_and_the_input(kernel: Kernel) -> None:
    # Four levels: G normalises the projection and three maps, D the last three of its four.
    shape = (3, 64, 64)
    for network, norms in ((dcgan.generator(3, shape, 1, kernel=kernel), 4), (dcgan.discriminator(shape, 1, kernel=kernel), 3)):
        assert sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules()) == norms
        assert all(layer.bias is None for layer in init.weighted(network))


def test_a_generator_of_the_paper_normalises_each_unit_of_its_projection() -> None:
    norm = next(m for m in dcgan.generator(3, (3, 64, 64), width=2).modules() if isinstance(m, nn.BatchNorm1d))
    assert norm.num_features == 16 * 4 * 4


def test_dcgan_weights_begin_with_a_standard_deviation_of_a_fiftieth() -> None:
    torch.manual_seed(0)
    for network in (dcgan.generator(100, (3, 32, 32), 32), dcgan.discriminator((3, 32, 32), 32)):
        init.dcgan(network)
        for layer in init.weighted(network):
            assert layer.weight.std().item() == pytest.approx(0.02, abs=0.001)
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.001)
        gains = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)])
        assert gains.mean().item() == pytest.approx(1, abs=0.01)
        assert gains.std().item() == pytest.approx(0.02, abs=0.005)


def test_fan_average_weights_have_the_scripts_standard_deviation() -> None:
    # Of the 25 taps of a convolution with stride 2, a pixel of the fine side meets 25 / 4.
    conv, deconv = nn.Conv2d(64, 128, 5, stride=2), nn.ConvTranspose2d(128, 64, 5, stride=2)
    for layer, variance in ((conv, 4 / (64 * 25 + 128 * 25 / 4)), (deconv, 4 / (128 * 25 / 4 + 64 * 25)), (nn.Linear(300, 500), 4 / 800)):
        init.fan_average(layer, gain=math.sqrt(2))
        assert layer.weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)
        assert layer.weight.abs().max().item() <= math.sqrt(3 * variance)
        assert layer.bias is not None
        assert not layer.bias.any()


def silence(block: resnet.ResidualBlock) -> None:
    """Leaves the shortcut alone, and there nothing but the resizing."""
    for layer in init.weighted(block.residual):
        nn.init.zeros_(layer.weight)
    for layer in init.weighted(block.shortcut):
        assert isinstance(layer, nn.Conv2d)
        nn.init.dirac_(layer.weight)


def test_a_silent_residual_block_is_its_shortcut() -> None:
    x = torch.randn(2, 3, 4, 4)
    for resize, expected in (
        ("keep", x),
        ("up", x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        ("down", x.view(2, 3, 2, 2, 2, 2).mean((3, 5))),
    ):
        block = resnet.ResidualBlock(3, 3, resize)  # type: ignore[arg-type]
        silence(block)
        torch.testing.assert_close(block(x), expected)


def test_a_residual_block_adds_what_its_two_convolutions_make() -> None:
    block, x = resnet.ResidualBlock(3, 5, "down"), torch.randn(2, 3, 4, 4)
    first, second = (m for m in block.residual.modules() if isinstance(m, nn.Conv2d))
    (short,) = (m for m in block.shortcut.modules() if isinstance(m, nn.Conv2d))
    # The script's order: the convolution of the shortcut before the mean.
    expected = nn.functional.avg_pool2d(second(first(x.relu()).relu()) + short(x), 2)
    torch.testing.assert_close(block(x), expected)


def test_resnets_have_the_sizes_of_the_script() -> None:
    w, k = 128, 9 * 128 * 128 + 128  # width; a 3x3 convolution between equal widths
    shortcut = w * w + w
    generator = (128 * 16 * w + 16 * w) + 3 * (2 * k + shortcut + 2 * 2 * w) + 2 * w + (9 * w * 3 + 3)
    assert count(resnet.generator(128, (3, 32, 32), w)) == generator
    first = (9 * 3 * w + w) + k + (3 * w + w)
    assert count(resnet.critic((3, 32, 32), w)) == first + (2 * k + shortcut) + 2 * (2 * k) + (w + 1)


@pytest.mark.parametrize("size", [8, 16, 64])
def test_resnets_fit_every_power_of_two(size: int) -> None:
    pictures = resnet.generator(5, (1, size, size), width=2)(torch.randn(3, 5))
    assert pictures.shape == (3, 1, size, size)
    assert pictures.abs().max() <= 1
    critic = resnet.critic((1, size, size), width=2)
    assert critic(pictures).shape == (3,)
    # Nothing in a critic ties samples together: alone a picture scores as it does in a batch.
    torch.testing.assert_close(critic(pictures[:1]), critic(pictures)[:1])
