"""U-Net, PatchGAN and the residual translator against hand counts, receptive fields and slow references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
import torch
from networks import assert_the_same_function_in_every_layout_and_precision
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.errors import RequestError
from ganforge.nets import init, patchgan, translator, unet
from ganforge.nets.blocks import Mirror, conv, joined

affine = partial(nn.InstanceNorm2d, affine=True)
stargan = partial(translator.generator, kernel=4, reflect=False, norm=affine, bias=False)

# Each small, with the channels of its input; all keep height and width but the discriminator.
SMALL: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "U-Net": (3, lambda: unet.generator(3, 1, 4, 3, norm=nn.InstanceNorm2d, bias=True, noise=nn.Identity)),
    "CycleGAN": (3, lambda: translator.generator(3, 1, 4, 2)),
    "StarGAN": (5, lambda: stargan(5, 3, 4, 2)),
    "PatchGAN": (3, lambda: patchgan.discriminator((3, 16, 16), 4, 2, norm=nn.InstanceNorm2d, bias=True)),
    "PixelGAN": (3, lambda: patchgan.discriminator((3, 16, 16), 4, 0, norm=nn.InstanceNorm2d, bias=True)),
}
every_network = pytest.mark.parametrize("name", SMALL)


def small(name: str, n: int = 2, side: int = 16) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    channels, make = SMALL[name]
    return make(), torch.rand(n, channels, side, side) * 2 - 1


def count(make: Callable[[], nn.Module]) -> int:
    """The parameters, without the memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


M = TypeVar("M", bound=nn.Module)


def of_kind(network: nn.Module, kind: type[M]) -> list[M]:
    return [m for m in network.modules() if isinstance(m, kind)]


# U-Net


def test_the_unet_of_256_pixels_has_54_million_parameters() -> None:
    # Convolutions of 16 taps, no bias but in the last; two numbers per normalised map.
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    assert down + up + norms == 54_413_955
    assert count(lambda: unet.generator(3, 3)) == 54_413_955
    assert count(lambda: unet.generator(3, 3, norm=affine)) == 54_413_955
    assert count(lambda: unet.generator(3, 3, downs=7)) == 54_413_955 - 16 * (512 + 1024) * 512 - 2 * 2 * 512


@pytest.mark.parametrize(("downs", "millions"), [(8, "54.408"), (6, "29.238")])
def test_grey_unets_have_the_parameters_that_users_of_the_authors_port_report(downs: int, millions: str) -> None:
    # junyanz/pytorch-CycleGAN-and-pix2pix, issue 1152: what the port prints for 256 and for 64 pixels.
    assert f"{count(lambda: unet.generator(1, 1, downs=downs)) / 1e6:.3f}" == millions


def test_bicyclegans_unet_takes_eight_more_maps_at_every_convolution_down() -> None:
    down = 16 * (11 * 64 + 72 * 128 + 136 * 256 + 264 * 512 + 4 * 520 * 512) + 64 + 128 + 256 + 5 * 512
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 4 * 512 + 256 + 128 + 64 + 3
    made = count(lambda: unet.generator(3, 3, latent_dim=8, norm=nn.InstanceNorm2d, bias=True, noise=nn.Identity))
    assert made == down + up == 54_794_627


def test_the_unet_halves_to_one_pixel_and_normalises_neither_its_ends_nor_its_bottom() -> None:
    network = unet.generator(3, 3, 1, 8, widest=2, norm=nn.InstanceNorm2d)
    sides: list[int] = []
    for layer in of_kind(network, nn.Conv2d) + of_kind(network, nn.ConvTranspose2d):
        layer.register_forward_hook(lambda _m, _i, y: sides.append(y.shape[-1]))
    assert network(torch.randn(1, 3, 256, 256)).shape == (1, 3, 256, 256)
    assert sides == [128, 64, 32, 16, 8, 4, 2, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    (net,) = of_kind(network, unet.UNet)
    assert [len(of_kind(down, nn.InstanceNorm2d)) for down in net.downs] == [0, 1, 1, 1, 1, 1, 1, 0]
    assert [len(of_kind(up, nn.InstanceNorm2d)) for up in net.ups] == [1, 1, 1, 1, 1, 1, 1, 0]


def test_the_unet_equals_the_recursion_whose_skips_are_taken_after_the_leaky_relu() -> None:
    network = unet.generator(3, 2, 4, 4, norm=affine, noise=nn.Identity)
    (net,) = of_kind(network, unet.UNet)
    x = torch.randn(2, 3, 16, 32)

    def level(x: Tensor, depth: int) -> Tensor:
        last = depth == 3
        # Zero padding and a stride are part of the layers; all that is between them is written out.
        (halve,), (double,) = of_kind(net.downs[depth], nn.Conv2d), of_kind(net.ups[3 - depth], nn.ConvTranspose2d)
        y = halve(x)
        if 0 < depth < 3:
            y = F.instance_norm(y)
        y = F.relu(y) if last else level(F.leaky_relu(y, 0.2), depth + 1)
        y = double(y)
        return y.tanh() if depth == 0 else F.relu(torch.cat([F.instance_norm(y), x], 1))

    torch.testing.assert_close(network(x), level(x, 0))


def test_dropout_follows_the_three_innermost_ups_and_works_as_the_game_chooses() -> None:
    x = torch.randn(1, 3, 32, 32)
    same_in_use, same_in_training = {}, {}
    for kind in (unet.Noise, nn.Dropout, nn.Identity):
        network = unet.generator(3, 3, 8, 5, norm=nn.InstanceNorm2d, noise=kind)
        (net,) = of_kind(network, unet.UNet)
        assert [len(of_kind(up, kind)) for up in net.ups] == [1, 1, 1, 0, 0]
        same_in_training[kind] = torch.equal(network.train()(x), network(x))
        same_in_use[kind] = torch.equal(network.eval()(x), network(x))
    assert same_in_training == {unet.Noise: False, nn.Dropout: False, nn.Identity: True}
    assert same_in_use == {unet.Noise: False, nn.Dropout: True, nn.Identity: True}


def test_noise_drops_half_and_doubles_the_rest_in_use_too() -> None:
    y = unet.Noise().eval()(torch.ones(100_000))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert y.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("level", range(4))
def test_the_latent_reaches_every_level_by_itself(level: int) -> None:
    network = unet.generator(3, 1, 4, 4, latent_dim=2, norm=nn.InstanceNorm2d, bias=True, noise=nn.Identity)
    (net,) = of_kind(network, unet.UNet)
    for other, down in enumerate(net.downs):
        (halve,) = of_kind(down, nn.Conv2d)
        if other != level:
            nn.init.zeros_(halve.weight[:, -2:])
    x, latent = torch.randn(1, 3, 16, 16), torch.randn(2, 1, 2)
    assert not torch.allclose(network(x, latent[0]), network(x, latent[1]))
    nn.init.zeros_(of_kind(net.downs[level], nn.Conv2d)[0].weight[:, -2:])
    torch.testing.assert_close(network(x, latent[0]), network(x, latent[1]))


@pytest.mark.parametrize(
    ("height", "width", "downs"), [(256, 256, 8), (512, 300, 8), (128, 128, 7), (32, 32, 5), (28, 28, 4), (8, 9, 3), (1, 1, 1)]
)
def test_pictures_are_halved_as_often_as_they_can_be(height: int, width: int, downs: int) -> None:
    assert unet.deepest(height, width) == unet.deepest(width, height) == downs
    assert unet.generator(1, 1, 1, downs, widest=1, noise=nn.Identity).eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_statistics_of_the_batch_at_hand_are_instance_normalisation_where_it_holds_one_picture() -> None:
    x = torch.randn(1, 3, 16, 16)
    networks = []
    for norm in (partial(nn.BatchNorm2d, track_running_stats=False), affine):
        torch.manual_seed(0)
        networks += [unet.generator(3, 3, 4, 3, norm=norm, noise=nn.Identity).eval()]
    torch.testing.assert_close(networks[0](x), networks[1](x))
    assert not list(networks[0].buffers())


# PatchGAN


def test_the_patchgans_of_pix2pix_and_cyclegan_have_their_parameters() -> None:
    # 16 taps; the first and the last have a bias; BatchNorm: two numbers per map.
    taps = 64 * 128 + 128 * 256 + 256 * 512 + 512
    pix2pix, cyclegan = 16 * (6 * 64 + taps) + 64 + 1 + 2 * (128 + 256 + 512), 16 * (3 * 64 + taps) + 64 + 128 + 256 + 512 + 1
    assert count(lambda: patchgan.discriminator((6, 256, 256))) == pix2pix == 2_768_705
    assert count(lambda: patchgan.discriminator((3, 256, 256), norm=nn.InstanceNorm2d, bias=True)) == cyclegan == 2_764_737
    pixel = (6 * 64 + 64) + 64 * 128 + 2 * 128 + (128 + 1)
    assert count(lambda: patchgan.discriminator((6, 256, 256), layers=0)) == pixel


@pytest.mark.parametrize(("layers", "millions"), [(3, "2.765"), (2, "0.662")])
def test_grey_patchgans_have_the_parameters_that_users_of_the_authors_port_report(layers: int, millions: str) -> None:
    assert f"{count(lambda: patchgan.discriminator((2, 64, 64), layers=layers)) / 1e6:.3f}" == millions


@pytest.mark.parametrize(("layers", "patch"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_logit_sees_exactly_its_patch(layers: int, patch: int) -> None:
    network = patchgan.discriminator((1, 512, 512), 1, layers, norm=nn.Identity).double()
    for layer in init.weighted(network):
        # Positive weights on a positive picture: nothing cancels and no unit is off.
        nn.init.constant_(layer.weight, 0.1)
    x = torch.ones(1, 1, 512, 512, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    rows, columns = (x.grad[0, 0].sum(dim) != 0 for dim in (1, 0))
    assert rows.sum() == columns.sum() == patch
    top, left = (int(side.int().argmax()) for side in (rows, columns))
    assert (x.grad[0, 0, top : top + patch, left : left + patch] > 0).all()


@pytest.mark.parametrize(
    ("side", "layers", "logits"), [(256, 3, 30), (128, 3, 14), (32, 3, 2), (32, 1, 14), (24, 3, 1), (6, 1, 1), (5, 0, 5)]
)
def test_patches_are_as_many_as_the_papers(side: int, layers: int, logits: int) -> None:
    network = patchgan.discriminator((3, side, side), 1, layers)
    assert network(torch.randn(2, 3, side, side)).shape == (2, 1, logits, logits)


@pytest.mark.parametrize(("shape", "layers"), [((3, 16, 32), 3), ((3, 23, 23), 3), ((1, 5, 8), 1)])
def test_pictures_without_a_single_patch_are_refused(shape: tuple[int, int, int], layers: int) -> None:
    with pytest.raises(RequestError, match=f"{shape[2]}x{shape[1]}: a PatchGAN of {layers} layers needs {3 * 2**layers} pixels"):
        patchgan.discriminator(shape, 1, layers)


def test_a_patchgan_of_pix2pix_is_its_layers_one_after_the_other() -> None:
    network, x = patchgan.discriminator((3, 32, 32), 2, 2, norm=affine), torch.randn(2, 3, 32, 32)
    first, second, third, last = of_kind(network, nn.Conv2d)
    y = F.leaky_relu(F.conv2d(x, first.weight, first.bias, 2, 1), 0.2)
    y = F.leaky_relu(F.instance_norm(F.conv2d(y, second.weight, None, 2, 1)), 0.2)
    y = F.leaky_relu(F.instance_norm(F.conv2d(y, third.weight, None, 1, 1)), 0.2)
    torch.testing.assert_close(network(x), F.conv2d(y, last.weight, last.bias, 1, 1))


def test_maps_double_to_eight_times_the_width() -> None:
    assert [m.out_channels for m in of_kind(patchgan.discriminator((1, 96, 96), 2, 5), nn.Conv2d)] == [2, 4, 8, 16, 16, 16, 1]
    assert [m.out_channels for m in of_kind(unet.generator(3, 1, 2, 6), nn.Conv2d)] == [2, 4, 8, 16, 16, 16]
    assert [m.out_channels for m in of_kind(unet.generator(3, 1, 2, 4, widest=2), nn.Conv2d)] == [2, 4, 4, 4]
    assert [m.out_channels for m in of_kind(unet.generator(3, 1, 2, 4, widest=2), nn.ConvTranspose2d)] == [4, 4, 2, 1]


def test_a_pyramid_halves_by_the_mean_of_the_pixels_that_there_are() -> None:
    x = torch.randn(2, 3, 7, 8)
    whole, half, quarter = patchgan.Pyramid(nn.Identity(), nn.Identity(), nn.Identity())(x)
    assert torch.equal(whole, x)
    expected = torch.stack(
        [
            torch.stack([x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((2, 3)) for j in range(0, 8, 2)], -1)
            for i in range(0, 7, 2)
        ],
        -2,
    )
    torch.testing.assert_close(half, expected)
    assert quarter.shape == (2, 3, 2, 2)


def test_each_network_of_a_pyramid_sees_its_own_scale() -> None:
    pyramid = patchgan.Pyramid(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1))
    assert [tuple(said.shape) for said in pyramid(torch.randn(1, 1, 6, 6))] == [(1, 1, 6, 6), (1, 2, 3, 3)]


# The residual translator


def test_the_translators_of_cyclegan_and_stargan_have_their_parameters() -> None:
    block = 2 * (9 * 256 * 256 + 256)
    ends = (
        (49 * 3 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256) + (9 * 256 * 128 + 128) + (9 * 128 * 64 + 64) + (49 * 64 * 3 + 3)
    )
    assert count(lambda: translator.generator(3, 3)) == ends + 9 * block == 11_378_179
    assert count(lambda: translator.generator(3, 3, blocks=6)) == ends + 6 * block == 7_837_699
    # Five labels beside the picture; no bias; gain and shift per normalised map.
    block = 2 * (9 * 256 * 256 + 2 * 256)
    ends = 49 * 8 * 64 + 16 * (64 * 128 + 128 * 256) * 2 + 49 * 64 * 3 + 2 * (64 + 128 + 256 + 128 + 64)
    assert count(lambda: stargan(8, 3, blocks=6)) == ends + 6 * block == 8_430_528


def test_the_translator_works_at_a_quarter_of_the_size() -> None:
    for network in (translator.generator(3, 3, 2, 2), stargan(3, 3, 2, 2)):
        sides: list[int] = []
        for layer in init.weighted(network):
            layer.register_forward_hook(lambda _m, _i, y, sides=sides: sides.append(y.shape[-1]))
        network(torch.randn(1, 3, 16, 16))
        assert sides == [16, 8, 4, 4, 4, 4, 4, 8, 16, 16]
    deep = translator.generator(1, 1, 2, 1, downs=3)
    assert deep(torch.randn(1, 1, 8, 24)).shape == (1, 1, 8, 24)


def test_a_translator_is_its_layers_one_after_the_other() -> None:
    network, x = translator.generator(3, 3, 2, 1, downs=1), torch.randn(2, 3, 8, 8)
    stem, down, one, two, head = of_kind(network, nn.Conv2d)
    (up,) = of_kind(network, nn.ConvTranspose2d)

    def mirror(y: Tensor, layer: nn.Conv2d, width: int) -> Tensor:
        return F.conv2d(F.pad(y, [width] * 4, "reflect"), layer.weight, layer.bias)

    y = F.instance_norm(mirror(x, stem, 3)).relu()
    y = F.instance_norm(F.conv2d(y, down.weight, down.bias, 2, 1)).relu()
    y = y + F.instance_norm(mirror(F.instance_norm(mirror(y, one, 1)).relu(), two, 1))
    y = F.instance_norm(F.conv_transpose2d(y, up.weight, up.bias, 2, 1, 1)).relu()
    torch.testing.assert_close(network(x), mirror(y, head, 3).tanh())


def test_constant_label_maps_survive_zero_padding_and_not_reflection() -> None:
    # Mirrored, a constant map stays constant, its convolution too, and instance normalisation subtracts it.
    x, labels = torch.randn(1, 3, 12, 12), torch.eye(2).unsqueeze(1)
    torch.manual_seed(0)
    blind, seeing = translator.generator(5, 3, 8, 1), translator.generator(5, 3, 8, 1, reflect=False)
    for network, same in ((blind, True), (seeing, False)):
        ours, others = (network(joined(x, label)) for label in labels)
        assert torch.allclose(ours, others, atol=1e-4) == same


def test_reflection_pads_the_outer_and_the_residual_convolutions_only() -> None:
    assert [m.width for m in of_kind(translator.generator(3, 3, 2, 2), Mirror)] == [3, 1, 1, 1, 1, 3]
    assert not of_kind(stargan(3, 3, 2, 2), Mirror)
    x, kernel = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5), torch.ones(1, 1, 3, 3)
    convolve = nn.Sequential(*conv(1, 1, 3, reflect=True, bias=False))
    of_kind(convolve, nn.Conv2d)[0].weight.data = kernel
    torch.testing.assert_close(convolve(x)[0, 0, 0], 3 * torch.tensor([2.0, 3, 6, 9, 10]))


# All of them


@every_network
def test_a_pictures_result_does_not_depend_on_its_batch(name: str) -> None:
    network, x = small(name, n=3)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (30, 9), (5, 40), (2, 1)])
@pytest.mark.parametrize("name", ["U-Net", "CycleGAN", "StarGAN"])
def test_a_translator_keeps_every_size_in_training_and_in_use(name: str, size: tuple[int, int]) -> None:
    network, _ = small(name)
    x = torch.randn(2, SMALL[name][0], *size)
    for mode in (True, False):
        y = network.train(mode)(x)
        assert y.shape[2:] == size
        assert y.abs().max() <= 1
        assert y.isfinite().all()


@every_network
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network, x = small(name)
    x.requires_grad_()
    (network(x) - 0.3).square().mean().backward()
    assert x.grad is not None
    for parameter, tensor in network.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.isfinite().all(), parameter
        if parameter.endswith("weight"):
            assert tensor.grad.abs().max() > 0, parameter
    assert x.grad.abs().max() > 0


@every_network
def test_channels_last_and_bf16_are_the_same_function(name: str) -> None:
    network, x = small(name)
    assert_the_same_function_in_every_layout_and_precision(network, x)


@pytest.mark.parametrize(
    "make",
    [partial(unet.generator, 3, 3, 32, 4), partial(patchgan.discriminator, (6, 64, 64), 32), partial(translator.generator, 3, 3, 32, 2)],
)
def test_the_papers_initialisation_reaches_every_layer(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make()
    init.dcgan(network)
    gains = 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            # Four standard errors of the estimate from this many weights.
            assert layer.weight.std().item() == pytest.approx(0.02, abs=4 * 0.02 / (2 * layer.weight.numel()) ** 0.5)
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm2d):
            gains += 1
            assert layer.weight.std().item() == pytest.approx(0.02, abs=0.01)
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)
    assert sum(p.numel() for p in network.parameters()) == sum(
        p.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) for p in m.parameters()
    )
    assert gains == len(of_kind(network, nn.BatchNorm2d))
