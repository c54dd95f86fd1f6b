"""Blocks that networks share, SRResNet and the discriminator of SRGAN and ESRGAN, against hand counts and known functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from networks import assert_the_same_function_in_every_layout_and_precision
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.errors import RequestError
from ganforge.nets import srresnet
from ganforge.nets.blocks import AnySize, joined, mirrored, residual

SMALL: dict[str, Callable[[], nn.Module]] = {
    "SRResNet": lambda: srresnet.generator(3, 2, width=6, blocks=2),
    "SRGAN": lambda: srresnet.discriminator((3, 12, 16), width=4, stages=3, units=8),
    "ESRGAN": lambda: srresnet.discriminator((3, 12, 16), width=4, stages=3, units=8, kernel=4),
}
every_network = pytest.mark.parametrize("name", SMALL)


def small(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return SMALL[name](), torch.rand(4, 3, 12, 16) * 2 - 1


def count(make: Callable[[], nn.Module]) -> int:
    """The parameters, without the memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(("height", "width"), [(5, 4), (2, 3), (1, 6), (1, 1)])
@pytest.mark.parametrize(("rows", "columns"), [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((3, 2), (1, 3)), ((11, 9), (7, 15))])
def test_a_mirrored_picture_is_numpys_and_hands_each_copys_gradient_back(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, height, width, requires_grad=True)
    margins = ((0, 0), (0, 0), rows, columns)
    y = mirrored(x, rows, columns)
    np.testing.assert_array_equal(y.detach().numpy(), np.pad(x.detach().numpy(), margins, mode="reflect"))
    y.sum().backward()
    places = np.pad(np.arange(height * width).reshape(1, 1, height, width), margins, mode="reflect")
    copies = np.bincount(places.ravel(), minlength=height * width).reshape(height, width)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(copies, x.shape))


@pytest.mark.parametrize("reflect", [True, False])
def test_a_residual_block_is_two_convolutions_added_to_what_came_in(reflect: bool) -> None:
    block, x = residual(3, nn.InstanceNorm2d, nn.ELU, reflect=reflect, bias=True), torch.randn(2, 3, 5, 4)
    first, second = convolutions(block)
    mode = "reflect" if reflect else "constant"

    def normal(y: Tensor) -> Tensor:
        return (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    inner = F.elu(normal(F.conv2d(F.pad(x, (1, 1, 1, 1), mode), first.weight, first.bias)))
    expected = x + normal(F.conv2d(F.pad(inner, (1, 1, 1, 1), mode), second.weight, second.bias))
    torch.testing.assert_close(block(x), expected)


def test_each_residual_block_has_activations_of_its_own() -> None:
    blocks = [residual(2, nn.BatchNorm2d, nn.PReLU) for _ in range(3)]
    assert len({id(m) for block in blocks for m in block.modules() if isinstance(m, nn.PReLU)}) == 3


class Watching(nn.Module):
    """Doubles what it sees, and remembers it."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        self.seen = [x, *others]
        return 2 * x


@pytest.mark.parametrize(("size", "inner"), [((8, 4), (8, 4)), ((5, 9), (8, 12)), ((1, 2), (4, 4)), ((13, 3), (16, 4))])
def test_a_picture_that_does_not_fit_is_mirrored_up_and_cropped_back(size: tuple[int, int], inner: tuple[int, int]) -> None:
    watching, x, other = Watching(), torch.randn(2, 3, *size), torch.randn(2, 7)
    torch.testing.assert_close(AnySize(watching, 4)(x, other), 2 * x)
    assert watching.seen[0].shape[2:] == inner
    assert watching.seen[1] is other
    # As much above as below, and left as right.
    top, left = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
    torch.testing.assert_close(watching.seen[0][:, :, top : top + size[0], left : left + size[1]], x)


def test_a_network_may_ask_for_a_least_size() -> None:
    watching, x = Watching(), torch.randn(1, 1, 3, 9)
    assert AnySize(watching, 4, least=8)(x).shape == x.shape
    assert watching.seen[0].shape[2:] == (8, 12)


def test_a_joined_vector_stands_at_every_place() -> None:
    x, vector = torch.randn(2, 3, 4, 5), torch.randn(2, 6)
    both = joined(x, vector)
    assert both.shape == (2, 9, 4, 5)
    assert torch.equal(both[:, :3], x)
    assert all(torch.equal(both[:, 3:, i, j], vector) for i in range(4) for j in range(5))


def test_srresnet_has_its_parameters() -> None:
    # A block: two convolutions without bias, two normalisations of 64 maps, one slope; after all blocks once more the half of it.
    ends = (81 * 3 * 64 + 64) + 1 + (81 * 64 * 3 + 3)
    trunk = 16 * (2 * 9 * 64 * 64 + 2 * 2 * 64 + 1) + (9 * 64 * 64 + 2 * 64)
    double, triple = 9 * 64 * 256 + 256 + 1, 9 * 64 * 576 + 576 + 1
    assert count(lambda: srresnet.generator(3, 4)) == ends + trunk + 2 * double == 1_547_350
    for factor, ups in ((2, double), (3, triple), (6, double + triple), (8, 3 * double)):
        assert count(partial(srresnet.generator, 3, factor)) == ends + trunk + ups


def test_the_discriminators_of_srgan_and_esrgan_have_their_parameters() -> None:
    doublings = ((64, 128), (128, 256), (256, 512))
    srgan = (27 * 64 + 64) + 9 * 64 * 64 + 2 * 64 + sum(9 * (a * b + b * b) + 2 * 2 * b for a, b in doublings)
    assert count(lambda: srresnet.discriminator((3, 96, 96))) == srgan + (6 * 6 * 512 * 1024 + 1024) + (1024 + 1) == 23_563_649
    esrgan = (27 * 64 + 64) + 16 * 64 * 64 + 2 * 64 + sum(9 * a * b + 16 * b * b + 2 * 2 * b for a, b in (*doublings, (512, 512)))
    made = count(lambda: srresnet.discriminator((3, 128, 128), stages=5, units=100, kernel=4))
    assert made == esrgan + (4 * 4 * 512 * 100 + 100) + (100 + 1) == 14_499_401


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 3)])
def test_a_picture_of_any_size_becomes_factor_times_larger(factor: int, size: tuple[int, int]) -> None:
    network = srresnet.generator(1, factor, width=2, blocks=1)
    assert network(torch.randn(2, 1, *size)).shape == (2, 1, factor * size[0], factor * size[1])


@pytest.mark.parametrize("factor", [1, 0, -2])
def test_a_factor_that_enlarges_nothing_is_refused(factor: int) -> None:
    with pytest.raises(RequestError, match=rf"factor {factor}: .*2, 3, 4"):
        srresnet.generator(3, factor)


def test_a_generator_of_identities_enlarges_by_nearest_neighbour() -> None:
    # Each convolution hands its maps on, the pixel shuffle puts four equal ones side by side, and the trunk adds nothing.
    network, x = srresnet.generator(3, 4, width=3, blocks=2), torch.rand(2, 3, 5, 6)
    stem, *blocks, merge, first, second, last = convolutions(network)
    for layer in (stem, last):
        nn.init.dirac_(layer.weight)
    for layer in (first, second):
        nn.init.zeros_(layer.weight)
        for maps in range(12):
            nn.init.ones_(layer.weight[maps, maps // 4, 1, 1])
    for layer in (*blocks, merge):
        nn.init.zeros_(layer.weight)
    for layer in (stem, first, second, last):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    torch.testing.assert_close(network(x), x.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert len(blocks) == 4


def test_the_trunk_is_added_to_what_came_into_it_block_by_block_and_as_a_whole() -> None:
    network = srresnet.generator(3, 2, width=4, blocks=3).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == layer.out_channels == 4:
            nn.init.dirac_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    x = torch.rand(1, 4, 5, 5)
    # Of positive x every block of identities makes 2x; three of them 8x, and the way around the trunk one x more.
    torch.testing.assert_close(network[2](x), 9 * x)


def test_a_part_of_a_picture_is_enlarged_as_in_the_whole() -> None:
    network = srresnet.generator(3, 2, width=4, blocks=1).eval()
    x = torch.randn(1, 3, 40, 40)
    # It sees 4 + 2 + 1 + 1 pixels of the small picture around its own, and 4 of the large one, which are 2: 10 in all.
    part = network(x[:, :, 2:-2, 3:])[:, :, 20:-20, 20:-20]
    torch.testing.assert_close(part, network(x)[:, :, 24:-24, 26:-20])
    assert part.shape[2:] == (32, 34)


@pytest.mark.parametrize(("shape", "kernel"), [((3, 8, 8), 3), ((1, 28, 28), 3), ((3, 9, 30), 3), ((3, 9, 30), 4), ((3, 15, 8), 4)])
def test_the_dense_layers_fit_whatever_size_the_discriminator_is_built_for(shape: tuple[int, int, int], kernel: int) -> None:
    network = srresnet.discriminator(shape, width=2, stages=3, units=5, kernel=kernel)
    assert network(torch.randn(3, *shape)).shape == (3,)


@pytest.mark.parametrize("kernel", [3, 4])
def test_pictures_too_small_to_be_halved_so_often_are_refused(kernel: int) -> None:
    with pytest.raises(RequestError, match=r"32x15: .*16 pixels"):
        srresnet.discriminator((3, 15, 32), width=2, kernel=kernel)


def test_the_discriminator_normalises_all_convolutions_but_the_first() -> None:
    layers = [type(layer).__name__ for layer in srresnet.discriminator((3, 8, 8), 2, stages=2, units=3)]
    assert layers == [
        "Conv2d",
        "LeakyReLU",
        *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3,
        "Flatten",
        "Linear",
        "LeakyReLU",
        "Linear",
        "Flatten",
    ]
    made = convolutions(srresnet.discriminator((3, 64, 64), 2, stages=5))
    assert {m.negative_slope for m in srresnet.discriminator((3, 8, 8), 2, stages=2).modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [(m.out_channels, m.stride[0]) for m in made] == [(maps, stride) for maps in (2, 4, 8, 16, 16) for stride in (1, 2)]
    assert [m.bias is None for m in made] == [False, *[True] * 9]


@every_network
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network, x = small(name)
    x.requires_grad_()
    (network(x) - 0.3).square().mean().backward()
    for parameter, tensor in network.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.isfinite().all(), parameter
        assert tensor.grad.abs().max() > 0, parameter
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@every_network
def test_channels_last_and_bf16_are_the_same_function(name: str) -> None:
    network, x = small(name)
    assert_the_same_function_in_every_layout_and_precision(network, x)


@every_network
def test_in_use_a_pictures_result_does_not_depend_on_its_batch(name: str) -> None:
    network, x = small(name)
    network(x)
    network.eval()
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-4, atol=1e-5)
