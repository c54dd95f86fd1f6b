"""StarGAN: the penalty on the sum of patches, permuted labels, the way back, what an edit asks for."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Attributed, ImageSpec
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.nets import translator
from ganforge.nets.blocks import joined
from ganforge.zoo.stargan import Discriminator, StarGAN, naming

NAMES = ("Blond", "Male", "Smiling")
SPEC = ImageSpec(8, 8, 3, attributes=NAMES)


def small(spec: ImageSpec = SPEC, **hyper: Any) -> StarGAN:
    torch.manual_seed(0)
    return StarGAN(spec, **{"width": 4, "blocks": 1, "downs": 1, "critic_width": 4, "n_critic": 2, **hyper})


def batches(spec: ImageSpec = SPEC, n: int = 6) -> Iterator[Attributed]:
    torch.manual_seed(1)
    while True:
        yield Attributed(torch.rand(n, *spec.shape) * 2 - 1, torch.randint(0, 2, (n, len(spec.attributes))).float())


def moves(game: StarGAN, given: Iterator[Attributed]) -> list[Move]:
    return list(cast(Generator[Move, Any, None], game.play(given)))


def loss(move: Move) -> Tensor:
    (only,) = move.losses.values()
    return only


def silenced(game: StarGAN) -> StarGAN:
    """D says nothing of anything, and all that G makes is mid-grey."""
    head = [layer for layer in game.generator.modules() if isinstance(layer, nn.Conv2d)][-1]
    for layer in (game.discriminator.source, game.discriminator.domain, head):
        nn.init.zeros_(layer.weight)
    return game


def asked_of(game: StarGAN, made: list[Tensor], given: list[Tensor]) -> None:
    """Notes what the generator is given and what it makes."""

    def note(_: nn.Module, args: tuple[Tensor], answer: Tensor) -> None:
        given.append(args[0].detach())
        made.append(answer.detach())

    game.generator.register_forward_hook(note)


def test_networks_have_the_papers_numbers_of_parameters() -> None:
    with torch.device("meta"):
        game = StarGAN(ImageSpec(128, 128, 3, attributes=("a", "b", "c", "d", "e")))
    gains = 2 * (64 + 128 + 256 + 6 * 2 * 256 + 128 + 64)
    resized = 2 * 16 * (64 * 128 + 128 * 256)
    generator = 49 * (3 + 5) * 64 + resized + 6 * 2 * 9 * 256 * 256 + 49 * 64 * 3 + gains
    assert sum(p.numel() for p in game.generator.parameters()) == generator == 8_430_528
    maps = [3, 64, 128, 256, 512, 1024, 2048]
    trunk = sum(16 * a * b + b for a, b in pairwise(maps))
    assert sum(p.numel() for p in game.discriminator.parameters()) == trunk + 9 * 2048 + 4 * 2048 * 5 == 44_762_048


@pytest.mark.parametrize(
    ("height", "width", "layers", "left"),
    [(256, 256, 6, (4, 4)), (128, 128, 6, (2, 2)), (48, 48, 4, (3, 3)), (32, 32, 4, (2, 2)), (28, 28, 3, (3, 3)), (8, 20, 2, (2, 5))],
)
def test_the_discriminator_halves_to_two_or_three_pixels_but_six_times_at_most(
    height: int, width: int, layers: int, left: tuple[int, int]
) -> None:
    critic = Discriminator((1, height, width), 3, 1, 0)
    assert sum(isinstance(layer, nn.Conv2d) for layer in critic.trunk) == layers
    scores, logits = critic(torch.zeros(2, 1, height, width))
    assert scores.shape == (2, 1, *left)
    assert critic.domain.kernel_size == left
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_the_penalty_is_on_the_slope_of_the_sum_over_the_patches(slope: float) -> None:
    spec = ImageSpec(4, 4, 1, attributes=("a",))
    game = small(spec, width=2, critic_width=1, layers=1, n_critic=1)
    first, last = cast(nn.Conv2d, game.discriminator.trunk[0]), game.discriminator.source
    with torch.no_grad():
        for parameter in (first.weight, last.weight):
            parameter.zero_()
        # Each of the four patches is the sum of its own four pixels, far on the straight side of the ReLU, times the slope.
        first.weight[:, :, 1:3, 1:3] = slope
        cast(Tensor, first.bias).fill_(100)
        last.weight[:, :, 1, 1] = 1
    move, _ = moves(game, batches(spec))
    # 16 pixels of that slope: of length 4 * slope. Of the mean over the patches it would be of length slope.
    assert move.seen["penalty"].item() == pytest.approx((4 * slope - 1) ** 2, abs=1e-5)


def test_where_the_discriminator_knows_nothing_the_losses_are_known() -> None:
    given = batches()
    game, seen = silenced(small()), [next(given), next(given)]
    first, second, third = moves(game, iter(seen))
    assert loss(first).item() == pytest.approx(10 + 3 * math.log(2), rel=1e-5)
    assert loss(second).item() == loss(first).item()
    assert loss(third).item() == pytest.approx(3 * math.log(2) + 10 * seen[-1].image.abs().mean().item(), rel=1e-5)


def test_weights_of_the_losses_are_those_asked_for() -> None:
    batch = next(batches())
    game = silenced(small(penalty=2.0, classification=3.0, reconstruction=5.0))
    first, _, third = moves(game, iter([batch, batch]))
    assert loss(first).item() == pytest.approx(2 + 9 * math.log(2), rel=1e-5)
    assert loss(third).item() == pytest.approx(9 * math.log(2) + 5 * batch.image.abs().mean().item(), rel=1e-5)


def test_scores_count_with_the_critics_sign() -> None:
    game, batch = small(penalty=0.0, classification=0.0, reconstruction=0.0), next(batches())
    made: list[Tensor] = []
    asked_of(game, made, [])
    first, _, last = moves(game, iter([batch, batch]))
    assert loss(first).item() == pytest.approx((game.judge(made[0]).mean() - game.judge(batch.image).mean()).item(), abs=1e-6)
    assert loss(last).item() == pytest.approx(-game.judge(made[2]).mean().item(), abs=1e-6)


def test_naming_sums_over_attributes_and_averages_over_pictures() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    chance = logits.sigmoid()
    right = torch.where(labels > 0, chance, 1 - chance)
    torch.testing.assert_close(naming(logits, labels), -right.log().sum(1).mean())


def test_each_round_asks_for_labels_of_the_batch_in_another_order_and_the_way_back_for_the_own() -> None:
    game, made, given = small(n_critic=3), list[Tensor](), list[Tensor]()
    asked_of(game, made, given)
    source = batches(n=16)
    seen = [next(source) for _ in range(3)]
    moves(game, iter(seen))
    assert len(given) == 5, "one picture for each step of D, one for G's, and the way back"
    for batch, put in zip(seen, given, strict=False):
        asked = put[:, 3:, 0, 0]
        assert torch.equal(put, joined(batch.image, asked))
        assert not torch.equal(asked, batch.attribute)
        assert sorted(asked.tolist()) == sorted(batch.attribute.tolist())
    torch.testing.assert_close(given[3], given[2])
    torch.testing.assert_close(given[4], joined(made[3], seen[-1].attribute))


def test_only_the_generators_move_pulls_at_the_generator() -> None:
    game = small()
    first, *_, last = moves(game, batches())
    pulled = torch.autograd.grad(loss(first), list(game.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in pulled)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss(last), list(game.generator.parameters())))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_edit_asks_for_what_is_named_and_otherwise_for_what_the_discriminator_reads(value: float) -> None:
    game, given = small().eval(), list[Tensor]()
    asked_of(game, [], given)
    image = next(batches(n=32)).image
    with torch.no_grad():
        game.edit(image, {"Male": value})
        _, logits = game.discriminator(image)
    asked = given[-1][:, 3:]
    assert (asked == asked[:, :, :1, :1]).all()
    assert torch.equal(asked[:, 1, 0, 0], torch.full((32,), value))
    for column in (0, 2):
        assert torch.equal(asked[:, column, 0, 0] == 1, logits[:, column] > 0)
        assert set(asked[:, column, 0, 0].tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(game.encode(image), logits.sigmoid())


def test_reflected_at_the_edge_labels_would_be_lost_to_the_first_normalisation() -> None:
    game, image = small().eval(), next(batches()).image
    none, all_of_them = torch.zeros(6, 3), torch.ones(6, 3)
    torch.manual_seed(0)
    reflecting = translator.generator(
        6, 3, 4, 1, downs=1, kernel=4, reflect=True, norm=partial(nn.InstanceNorm2d, affine=True), bias=False
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(reflecting(joined(image, none)), reflecting(joined(image, all_of_them)), atol=1e-4, rtol=0)
        assert (game.generator(joined(image, none)) - game.generator(joined(image, all_of_them))).abs().max() > 0.01


def test_pictures_without_attributes_are_refused() -> None:
    with pytest.raises(RequestError, match="data without attributes"):
        StarGAN(ImageSpec(8, 8, 3))


def test_more_layers_than_the_picture_has_room_for_are_refused() -> None:
    with pytest.raises(RequestError, match=r"pictures of 16x16: 4 --layers need 32 pixels a side"):
        small(ImageSpec(16, 16, 3, attributes=NAMES), layers=4)
    with pytest.raises(RequestError, match="needs at least one step"):
        small(n_critic=0)
