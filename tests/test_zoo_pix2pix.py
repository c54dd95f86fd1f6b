"""pix2pix: the half of the discriminator's loss, the distance, the condition, dropout as the only noise."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, Pairs
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.zoo.pix2pix import Pix2Pix

SPEC = ImageSpec(32, 32, 3)


def small(**hyper: Any) -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(SPEC, **{"width": 4, "layers": 1, "norm": "instance", **hyper})


def pairs(n: int = 3) -> Pairs:
    torch.manual_seed(1)
    return Pairs(torch.rand(n, *SPEC.shape) * 2 - 1, torch.rand(n, *SPEC.shape) * 2 - 1)


def moves(game: Pix2Pix, batch: Pairs) -> tuple[Move, Move]:
    play = cast(Generator[Move, Any, None], game.play(iter([batch])))
    return play.send(None), play.send(None)


def loss(move: Move) -> Tensor:
    (only,) = move.losses.values()
    return only


def last(network: nn.Module) -> nn.Conv2d:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][-1]


def test_networks_have_the_papers_numbers_of_parameters() -> None:
    with torch.device("meta"):
        game = Pix2Pix(ImageSpec(256, 256, 3))
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512) + 2 * (128 + 256 + 4 * 512)
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3 + 2 * (4 * 512 + 256 + 128 + 64)
    assert sum(p.numel() for p in game.generator.parameters()) == down + up == 54_413_955
    judge = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1 + 2 * (128 + 256 + 512)
    assert sum(p.numel() for p in game.discriminator.parameters()) == judge == 2_768_705


def test_a_discriminator_that_cannot_tell_loses_ln_2_and_so_does_the_generator_to_it() -> None:
    game = small()
    nn.init.zeros_(last(game.discriminator).weight)
    first, second = moves(game, pairs())
    assert loss(first).item() == pytest.approx(math.log(2))
    assert loss(second).item() == pytest.approx(math.log(2) + 100 * second.seen["l1"].item())


def test_the_distance_is_the_mean_over_all_pixels() -> None:
    game, batch = small(), pairs()
    nn.init.zeros_([layer for layer in game.generator.modules() if isinstance(layer, nn.ConvTranspose2d)][-1].weight)
    _, second = moves(game, batch)
    assert second.seen["l1"].item() == pytest.approx(batch.b.abs().mean().item())


def test_the_discriminator_sees_the_input_beside_the_answer() -> None:
    game, batch = small(), pairs()
    right, wrong = game.judge_pair(batch.a, batch.b), game.judge_pair(batch.a.roll(1, 0), batch.b)
    assert (right - wrong).abs().min() > 0


def test_one_answer_serves_both_moves() -> None:
    game, batch = small(), pairs()
    asked = []
    game.generator.register_forward_hook(lambda *_: asked.append(1))
    moves(game, batch)
    assert len(asked) == 1


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_in_use_dropout_stays_on_and_each_picture_is_normalised_alone(norm: str) -> None:
    game, image = small(norm=norm).eval(), pairs().a
    with torch.no_grad():
        assert (game.translate(image) - game.translate(image)).abs().max() > 0
        for layer in game.generator.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        alone = torch.cat([game.translate(one) for one in image.split(1)])
        torch.testing.assert_close(game.translate(image), alone)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 31), (7, 90)])
def test_it_translates_any_size_and_keeps_it(height: int, width: int) -> None:
    with torch.no_grad():
        assert small().eval().translate(torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)


def test_the_u_net_is_as_deep_as_the_picture_allows() -> None:
    convolutions = [layer for layer in small(width=2).generator.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 5
    shallow = [layer for layer in small(width=2, depth=3).generator.modules() if isinstance(layer, nn.Conv2d)]
    assert len(shallow) == 3


def test_pictures_too_small_for_the_patches_are_refused() -> None:
    with pytest.raises(RequestError, match="needs 24 pixels a side"):
        Pix2Pix(ImageSpec(16, 16, 1), layers=3, width=2)
