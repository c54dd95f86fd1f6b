"""PixelDA: who moves with whom, the content that must stay, the closed forms of players who know nothing."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, TwoDomains
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.zoo.pixelda import Noisy, PixelDA, content_error, foreground

SPEC = ImageSpec(8, 8, 3, tuple("0123456789"))


def small(**hyper: Any) -> PixelDA:
    torch.manual_seed(0)
    return PixelDA(SPEC, **{"width": 4, "blocks": 1, **hyper})


def batch(n: int = 6) -> TwoDomains:
    torch.manual_seed(1)
    source, target = (torch.rand(n, *SPEC.shape) * 2 - 1 for _ in range(2))
    return TwoDomains(source, torch.arange(n) % 10, target)


def moves(game: PixelDA) -> tuple[Move, Move]:
    play = cast(Generator[Move, Any, None], game.play(iter([batch(), batch()])))
    return play.send(None), play.send(None)


def loss(move: Move) -> Tensor:
    (only,) = move.losses.values()
    return only


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_networks_have_the_papers_layers() -> None:
    with torch.device("meta"):
        game = PixelDA(ImageSpec(32, 32, 3, SPEC.classes))
    noise, blocks = 10 * 1024 + 2 * 1024, 6 * (2 * 9 * 64 * 64 + 4 * 64)
    assert parameters(game.generator) == noise + (9 * 4 * 64 + 64) + blocks + (64 * 3 + 3) == 458_755
    halved = sum(9 * w * 2 * w + 4 * w for w in (64, 128, 256))
    assert parameters(game.discriminator) == (9 * 3 * 64 + 64) + halved + (512 * 16 + 1) == 1_560_065
    private, shared = 25 * 3 * 32 + 32, 25 * 32 * 48 + 48
    assert parameters(game.classifier) == 2 * private + shared + (48 * 64 * 100 + 100) + (100 * 100 + 100) + (100 * 10 + 10) == 361_722


def test_players_who_know_nothing_lose_the_logarithms_of_their_choices() -> None:
    game = small(domain=1.0, style=1.0, task=1.0)
    for network in (game.discriminator, game.classifier):
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
    first, second = moves(game)
    assert loss(first).item() == pytest.approx(2 * math.log(2) + 2 * math.log(10), abs=1e-5)
    assert loss(second).item() == pytest.approx(math.log(2) + math.log(10), abs=1e-5)


def test_discriminator_and_classifier_move_together_and_nothing_of_them_reaches_the_generator() -> None:
    game = small()
    first, second = moves(game)
    assert first.players == ("discriminator", "classifier")
    loss(first).backward()
    assert all(p.grad is None for p in game.generator.parameters())
    assert all(p.grad is not None for p in [*game.discriminator.parameters(), *game.classifier.parameters()])
    loss(second).backward()
    assert all(p.grad is not None for p in game.generator.parameters())


def test_source_and_target_have_private_layers() -> None:
    game, x = small().eval(), batch().source
    before = game.classify(x)
    nn.init.zeros_(cast(nn.Conv2d, game.classifier.source[0]).weight)
    assert torch.equal(game.classify(x), before)
    nn.init.zeros_(cast(nn.Conv2d, game.classifier.target[0]).weight)
    assert not torch.equal(game.classify(x), before)


def test_content_may_be_shifted_and_costs_its_variance() -> None:
    x, y = batch().source, batch().target
    mask = foreground(x)
    mask[:, :, :4] = 0
    assert content_error(x, x + 0.3, mask).item() == pytest.approx(0, abs=1e-6)
    assert content_error(x, y + 0.3, mask).item() == pytest.approx(content_error(x, y, mask).item(), abs=1e-6)
    whole = torch.ones_like(mask)
    variance = (x - y).flatten(1).var(1, correction=0).mean()
    assert content_error(x, y, whole).item() == pytest.approx(variance.item(), abs=1e-6)
    assert content_error(x, y, torch.zeros_like(mask)).item() == 0


def test_foreground_is_what_is_not_black() -> None:
    image = torch.full((1, 3, 2, 2), -1.0)
    image[0, 1, 0, 1] = -0.9
    assert foreground(image)[0, 0].tolist() == [[0, 1], [0, 0]]


def test_noise_is_for_training() -> None:
    layer, x = Noisy(0.5), torch.zeros(2000)
    assert layer(x).std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(layer.eval()(x), x)


def test_one_picture_is_painted_in_many_ways() -> None:
    game, x = small().eval(), batch().source
    assert (game.translate(x) - game.translate(x)).abs().max() > 0


def test_a_source_without_labels_is_refused() -> None:
    with pytest.raises(RequestError, match="give pictures with labels"):
        PixelDA(ImageSpec(8, 8, 3))
