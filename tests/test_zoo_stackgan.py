"""StackGAN: the divergence, wrong pairs, a stage I that rests, the sizes of the networks."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Captioned, ImageSpec
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.zoo.stackgan import Conditioning, StackGAN

SPEC = ImageSpec(16, 16, 3, text=5)


def small(**hyper: Any) -> StackGAN:
    torch.manual_seed(0)
    sizes = {"latent_dim": 4, "condition": 3, "width": 4, "judge_width": 2, "blocks": 1, "enlarge": 2}
    return StackGAN(SPEC, **{**sizes, **hyper})


def batch(side: int = 16, n: int = 4) -> Captioned:
    torch.manual_seed(1)
    return Captioned(torch.rand(n, 3, side, side) * 2 - 1, torch.randn(n, 5))


def moves(game: StackGAN, stage: Literal[1, 2]) -> tuple[Move, Move, Generator[Move, Any, None]]:
    play = cast(Generator[Move, Any, None], game.play(iter([batch(8 * stage)]), stage=stage))
    return play.send(None), play.send(None), play


def loss(move: Move) -> Tensor:
    (only,) = move.losses.values()
    return only


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_networks_have_the_authors_numbers_of_parameters() -> None:
    with torch.device("meta"):
        game = StackGAN(ImageSpec(256, 256, 3, text=1024))
    ca = 1024 * 256 + 256
    up = sum(9 * m * m // 2 + m for m in (1024, 512, 256, 128)) + 9 * 64 * 3
    assert parameters(game.generator1) == ca + 228 * 16_384 + 2 * 16_384 + up
    judge = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 2 * (128 + 256 + 512)
    head = 9 * (512 + 128) * 512 + 2 * 512 + 16 * 512 + 1
    assert parameters(game.discriminator1) == judge + head
    encode = 9 * 3 * 128 + 16 * (128 * 256 + 256 * 512) + 2 * (256 + 512) + 9 * (512 + 128) * 512 + 2 * 512
    trunk = 4 * (2 * 9 * 512 * 512 + 4 * 512)
    up = sum(9 * m * m // 2 + m for m in (512, 256, 128, 64)) + 9 * 32 * 3
    assert parameters(game.generator2) == ca + encode + trunk + up
    deeper = 16 * (512 * 1024 + 1024 * 2048) + 2 * (1024 + 2048) + 9 * (2048 * 1024 + 1024 * 512) + 2 * (1024 + 512)
    assert parameters(game.discriminator2) == judge + deeper + head


def test_a_condition_is_the_mean_and_sigma_times_the_noise() -> None:
    torch.manual_seed(0)
    layer, text, noise = Conditioning(5, 3), torch.randn(2, 5), torch.randn(2, 3)
    condition, mean, log_variance = layer(text, noise)
    torch.testing.assert_close(condition, mean + log_variance.exp().sqrt() * noise)
    assert torch.equal(layer(text, torch.zeros(2, 3))[0], mean)


@pytest.mark.parametrize("stage", [1, 2])
def test_discriminators_that_cannot_tell_lose_2_ln_2(stage: Literal[1, 2]) -> None:
    game = small(kl=0.0)
    for network in (game.discriminator1, game.discriminator2):
        nn.init.zeros_(cast(nn.Conv2d, network.logit[-2]).weight)
    first, second, _ = moves(game, stage)
    assert loss(first).item() == pytest.approx(2 * math.log(2))
    assert loss(second).item() == pytest.approx(math.log(2))


def test_fakes_and_wrong_pairs_count_half_each_and_no_picture_meets_its_own_sentence() -> None:
    game = small()
    asked: list[Tensor] = []
    game.discriminator1.register_forward_pre_hook(lambda _module, given: asked.append(given[1]))
    play = cast(Generator[Move, Any, None], game.play(iter([batch(8)]), stage=1))
    move = play.send(None)
    right, wrong, fake = asked
    assert torch.equal(right, fake)
    assert (right != wrong).any(1).all()
    torch.testing.assert_close(right.sort(0).values, wrong.sort(0).values)
    logits = {name: torch.logit(value) for name, value in move.seen.items()}
    softplus = nn.functional.softplus
    expected = softplus(-logits["real"]).mean() + (softplus(logits["fake"]).mean() + softplus(logits["wrong"]).mean()) / 2
    torch.testing.assert_close(loss(move), expected)


def test_what_helps_the_discriminator_does_not_reach_the_condition() -> None:
    game = small()
    first, second, _ = moves(game, 1)
    loss(first).backward()
    assert all(p.grad is None for p in game.generator1.parameters())
    loss(second).backward()
    assert all(p.grad is not None for p in game.generator1.conditioning.parameters())


def test_stage_ii_leaves_stage_i_as_it_is_to_the_last_bit_of_its_statistics() -> None:
    game = small()
    before = {name: value.clone() for name, value in game.generator1.state_dict().items()}
    first, second, play = moves(game, 2)
    (loss(first) + loss(second)).backward()
    with pytest.raises(StopIteration):
        play.send(None)
    assert all(torch.equal(value, before[name]) for name, value in game.generator1.state_dict().items())
    assert all(p.grad is None for p in game.generator1.parameters())


def test_samples_are_those_of_stage_i_until_stage_ii_begins() -> None:
    game = small().eval()
    latent = game.latent_of_text(batch().text)
    with torch.no_grad():
        low = game.paint(latent, 1)[0]
        assert torch.equal(game.sample(latent), nn.functional.interpolate(low, size=(16, 16), mode="bilinear"))
        *_, play = moves(game, 2)
        with pytest.raises(StopIteration):
            play.send(None)
        game.eval()
        assert torch.equal(game.sample(latent), game.paint(latent, 2)[0])


def test_a_sentence_decides_what_is_made_and_noise_how() -> None:
    game = small().eval()
    text = batch().text
    with torch.no_grad():
        latent = game.latent_of_text(text[:1].expand(2, -1))
        assert (game.sample(latent)[0] - game.sample(latent)[1]).abs().max() > 0
        other = latent.clone()
        other[:, -5:] = text[1]
        assert (game.sample(latent) - game.sample(other)).abs().max() > 0


def test_sentences_of_none_in_particular_are_those_lately_read() -> None:
    game = small()
    *_, play = moves(game, 1)
    with pytest.raises(StopIteration):
        play.send(None)
    assert torch.equal(game.texts[:4], batch(8).text)
    drawn = game.latent(50)[:, -5:]
    assert all(any(torch.equal(row, text) for text in game.texts) for row in drawn)


@pytest.mark.parametrize(
    ("spec", "said"),
    [(ImageSpec(16, 16, 3), "without captions"), (ImageSpec(24, 24, 3, text=5), "24x24"), (ImageSpec(8, 8, 3, text=5), "8x8")],
)
def test_pictures_that_cannot_be_stacked_are_refused(spec: ImageSpec, said: str) -> None:
    with pytest.raises(RequestError, match=f"{said}.*squares of 8, 16"):
        StackGAN(spec, enlarge=2)
