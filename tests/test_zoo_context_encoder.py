import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from networks import Constant
from torch import Tensor, nn

from ganforge.batches import ImageSpec, Masked
from ganforge.data import masks
from ganforge.errors import RequestError
from ganforge.nets.init import weighted
from ganforge.zoo.context_encoder import ContextEncoder

GREY = ImageSpec(16, 16, 1)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def small(spec: ImageSpec = GREY, **hyper: object) -> ContextEncoder:
    torch.manual_seed(0)
    return ContextEncoder(spec, **{"width": 4, "bottleneck": 8, "overlap": 1} | hyper)  # type: ignore[arg-type]


def pictures(n: int = 4, channels: int = 1, size: int = 16) -> Iterator[Masked]:
    mask = masks.block(torch.rand(n, masks.BLOCK_COLUMNS), size, size)
    return itertools.repeat(Masked(2 * torch.rand(n, channels, size, size) - 1, mask))


class Paint(nn.Module):
    """A decoder that knows one colour."""

    def __init__(self, level: float, side: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))
        self.side = side

    def forward(self, code: Tensor) -> Tensor:
        return self.level.expand(len(code), 1, self.side, self.side)


def test_at_128_pixels_it_has_the_parameters_of_the_authors_code() -> None:
    with torch.device("meta"):
        game = ContextEncoder(ImageSpec(128, 128, 3))
    down = 16 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    norms = 2 * (64 + 128 + 256 + 512)
    assert count(game.encoder) == down + norms + 16 * 512 * 4000 + 2 * 4000
    up = 16 * (4000 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count(game.decoder) == up + 2 * (512 + 256 + 128 + 64)
    assert count(game.discriminator) == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512)


def test_for_any_region_at_128_pixels_decoder_and_discriminator_have_a_level_more() -> None:
    with torch.device("meta"):
        centre, whole = (ContextEncoder(ImageSpec(128, 128, 3), region=region) for region in ("centre", "any"))
    assert count(whole.encoder) == count(centre.encoder)
    level = 16 * 64 * 64 + 2 * 64
    assert count(whole.decoder) - count(centre.decoder) == level
    assert count(whole.discriminator) - count(centre.discriminator) == level


@pytest.mark.parametrize("region", ["centre", "any"])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_it_predicts_the_middle_or_the_whole_from_numbers_without_a_place(size: int, region: str) -> None:
    game = small(ImageSpec(size, size, 3), region=region, bottleneck=7)
    batch = next(pictures(3, 3, size))
    assert game.encoder(batch.image).shape == (3, 7, 1, 1)
    assert game.encode(batch.image).shape == (3, 7)
    made = game.predict(batch.image, batch.mask)
    assert made.shape == game.cut(batch.image).shape == (3, 3, *[size // (2 if region == "centre" else 1)] * 2)
    assert made.abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 64), (8, 8)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(RequestError, match=f"{height}x{width}"):
        ContextEncoder(ImageSpec(height, width, 1))


@pytest.mark.parametrize("overlap", [-1, 4])
def test_an_overlap_that_leaves_no_hole_is_refused(overlap: int) -> None:
    with pytest.raises(RequestError, match=f"overlap = {overlap}"):
        small(overlap=overlap)


def test_the_hole_is_the_centre_less_the_overlap() -> None:
    with_ring, without = small(overlap=1).hole, small(overlap=0).hole
    assert torch.equal(without, masks.centre(1, 16, 16))
    assert with_ring.sum() == 6 * 6
    assert torch.equal(with_ring[:, :, 5:11, 5:11], torch.ones(1, 1, 6, 6))


@pytest.mark.parametrize("region", ["centre", "any"])
def test_what_is_removed_is_not_seen(region: str) -> None:
    game = small(region=region).eval()
    batch = next(pictures())
    mask = game.hole.expand_as(batch.mask) if region == "centre" else batch.mask
    other = torch.where(mask > 0, torch.rand_like(batch.image), batch.image)
    assert torch.equal(game.predict(other, mask), game.predict(batch.image, mask))
    assert not torch.equal(game.predict(batch.image + 0.1, mask), game.predict(batch.image, mask))


def test_removed_pixels_have_the_authors_mean_colour() -> None:
    game = small(ImageSpec(16, 16, 3))
    seen: list[Tensor] = []
    game.encoder.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0]))
    next(game.play(pictures(4, 3)))
    red, green, blue = seen[0][0, :, 5:11, 5:11].flatten(1).unbind()
    for colour, level in ((red, -0.0824), (green, -0.1843), (blue, -0.0353)):
        assert colour.tolist() == pytest.approx([level] * 36, abs=1e-4)


@pytest.mark.parametrize("region", ["centre", "any"])
def test_outside_the_hole_the_picture_is_bit_for_bit_itself(region: str) -> None:
    game = small(region=region).eval()
    batch = next(pictures())
    with torch.no_grad():
        filled = game.inpaint(batch.image, batch.mask)
    assert torch.equal(filled[batch.mask == 0], batch.image[batch.mask == 0])
    assert not torch.isclose(filled[batch.mask > 0], batch.image[batch.mask > 0]).all()


def test_what_is_filled_is_the_prediction_at_its_place_and_the_mean_colour_where_there_is_none() -> None:
    game = small(overlap=0).eval()
    game.decoder = Paint(0.5, 8)
    mask = torch.ones(1, 1, 16, 16)
    mask[:, :, 0] = 0
    filled = game.inpaint(torch.full((1, 1, 16, 16), -1.0), mask)
    assert (filled[0, 0, 0] == -1).all()
    assert (filled[0, 0, 4:12, 4:12] == 0.5).all()
    assert filled[0, 0, 1:4].flatten().tolist() == pytest.approx([game.mean.item()] * 48)


@pytest.mark.parametrize("logit", [0.0, 2.0])
def test_losses_are_those_of_a_constant_discriminator(logit: float) -> None:
    game = small(overlap=0, lambda_rec=0.9, lambda_adv=0.1)
    game.discriminator, game.decoder = Constant(logit), Paint(0.25, 8)
    discriminator, generator = game.play(itertools.repeat(Masked(torch.zeros(4, 1, 16, 16), torch.zeros(4, 1, 16, 16))))
    probability = 1 / (1 + math.exp(-logit))
    assert discriminator.losses["discriminator",].item() == pytest.approx(-math.log(probability) - math.log(1 - probability))
    assert generator.losses["generator",].item() == pytest.approx(0.9 * 0.25**2 - 0.1 * math.log(probability))


@pytest.mark.parametrize(("size", "overlap", "ring", "inside"), [(128, 4, 960, 56**2), (16, 1, 28, 6**2), (16, 0, 0, 8**2)])
def test_in_the_ring_that_was_shown_errors_weigh_ten_times(size: int, overlap: int, ring: int, inside: int) -> None:
    game = small(ImageSpec(size, size, 1), width=1, overlap=overlap, lambda_adv=0.0)
    game.decoder = Paint(1.0, size // 2)
    _, generator = game.play(itertools.repeat(Masked(torch.zeros(2, 1, size, size), masks.centre(2, size, size))))
    assert generator.losses["generator",].item() == pytest.approx(0.999 * (ring * 10 + inside) / (size // 2) ** 2)
    assert generator.seen["error"].mean().item() == 1  # as it is told, without weights


@pytest.mark.parametrize(("overlap_weight", "expected"), [(1.0, 1.0), (0.0, 0.25), (10.0, 0.25 + 0.75 * 10)])
def test_for_any_region_the_weight_goes_by_the_mask(overlap_weight: float, expected: float) -> None:
    game = small(region="any", overlap_weight=overlap_weight, lambda_rec=1.0, lambda_adv=0.0)
    game.decoder = Paint(1.0, 16)
    _, generator = game.play(itertools.repeat(Masked(torch.zeros(2, 1, 16, 16), masks.centre(2, 16, 16))))
    assert generator.losses["generator",].item() == pytest.approx(expected)


def test_real_and_predicted_regions_pass_the_discriminator_apart_and_the_generator_runs_once() -> None:
    game = small()
    passes: list[tuple[str, tuple[int, ...]]] = []
    game.encoder.register_forward_hook(lambda _m, i, _y: passes.append(("F", tuple(i[0].shape[2:]))))
    game.discriminator.register_forward_hook(lambda _m, i, _y: passes.append(("D", tuple(i[0].shape[2:]))))
    assert [move.players for move in game.play(pictures())] == [("discriminator",), ("generator",)]
    assert passes == [("F", (16, 16)), ("D", (8, 8)), ("D", (8, 8)), ("D", (8, 8))]


def test_the_generator_steps_ten_times_as_far() -> None:
    rates = {name: player.optimiser(player.parameters()).param_groups[0]["lr"] for name, player in small().players().items()}
    assert rates == pytest.approx({"discriminator": 2e-4, "generator": 2e-3})


def test_convolutions_have_no_biases_and_begin_as_dcgans() -> None:
    for layer in weighted(small(width=32)):
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
