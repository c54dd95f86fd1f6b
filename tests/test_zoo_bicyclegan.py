"""BicycleGAN: two cycles in one round, the latent loss that E never feels, whose answers are real to whom, many answers to one input."""

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
from ganforge.zoo.bicyclegan import BicycleGAN

SPEC = ImageSpec(32, 32, 3)


def small(**hyper: Any) -> BicycleGAN:
    torch.manual_seed(0)
    return BicycleGAN(SPEC, **{"width": 4, "layers": 1, "latent_dim": 3, **hyper})


def pairs(n: int = 3, seed: int = 1) -> Pairs:
    torch.manual_seed(seed)
    return Pairs(torch.rand(n, *SPEC.shape) * 2 - 1, torch.rand(n, *SPEC.shape) * 2 - 1)


def moves(game: BicycleGAN, *batches: Pairs) -> list[Move]:
    torch.manual_seed(2)
    play = cast(Generator[Move, Any, None], game.play(iter(batches)))
    return [play.send(None) for _ in range(3)]


def loss(move: Move, player: str) -> Tensor:
    return move.losses[player,]


def gradients(move: Move, player: str, module: nn.Module) -> Tensor:
    given = torch.autograd.grad(loss(move, player), list(module.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([g.flatten() for g in given if g is not None])


def calls(module: nn.Module) -> list[tuple[Tensor, ...]]:
    """What the module is given from now on."""
    given: list[tuple[Tensor, ...]] = []
    module.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    return given


def say_half(discriminator: nn.Module) -> None:
    """Makes every network of it say 1/2 to everything."""
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels == 1:
            nn.init.zeros_(layer.weight)
            nn.init.constant_(cast(Tensor, layer.bias), 0.5)


def test_networks_have_the_authors_numbers_of_parameters() -> None:
    with torch.device("meta"):
        players = BicycleGAN(ImageSpec(256, 256, 3)).players()
    down = 16 * ((3 + 8) * 64 + (64 + 8) * 128 + (128 + 8) * 256 + (256 + 8) * 512 + 4 * (512 + 8) * 512) + 64 + 128 + 256 + 5 * 512
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 4 * 512 + 256 + 128 + 64 + 3
    blocks = sum(9 * i * i + i + 9 * i * o + o + i * o + o for i, o in ((64, 128), (128, 192), (192, 256), (256, 256)))
    encoder = 16 * 3 * 64 + 64 + blocks + 2 * (256 * 8 + 8)
    whole = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 128 + 256 + 512 + 1
    half = 16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256) + 32 + 64 + 128 + 256 + 1
    counted = {name: sum(p.numel() for p in player.parameters()) for name, player in players.items()}
    assert counted == {"generator": down + up, "encoder": encoder, "discriminator_vae": whole + half, "discriminator_lr": whole + half}
    assert list(counted.values()) == [54_794_627, 2_590_032, 3_458_978, 3_458_978]


@pytest.mark.parametrize("side", [256, 128, 64, 32])
def test_the_encoder_takes_the_mean_of_8x8_places(side: int) -> None:
    with torch.device("meta"):
        encoder = BicycleGAN(ImageSpec(side, side, 3)).encoder
        assert encoder.trunk(torch.empty(1, 3, side, side)).shape[2:] == (8, 8)


def test_losses_of_everybody_where_the_discriminators_say_one_half() -> None:
    game = small()
    say_half(game.discriminator_vae)
    say_half(game.discriminator_lr)
    first, second, third = moves(game, pairs(), pairs(seed=3))
    l1, kl, latent = (first.seen[name].item() for name in ("l1", "kl", "latent"))
    assert loss(first, "encoder").item() == pytest.approx(2 / 4 + 10 * l1 + 0.01 * kl)
    assert loss(first, "generator").item() == pytest.approx(4 / 4 + 10 * l1 + 0.01 * kl + 0.5 * latent)
    assert loss(second, "discriminator_vae").item() == pytest.approx(1)
    assert loss(third, "discriminator_lr").item() == pytest.approx(1)


def test_the_latent_loss_moves_the_generator_and_never_the_encoder() -> None:
    batches = pairs(), pairs(seed=3)
    without, strong = small(latent=0.0), small(latent=50.0)
    before, after = moves(without, *batches)[0], moves(strong, *batches)[0]
    assert torch.equal(gradients(before, "encoder", without.encoder), gradients(after, "encoder", strong.encoder))
    apart = gradients(before, "generator", without.generator) - gradients(after, "generator", strong.generator)
    assert apart.abs().max() > 0


def test_latents_are_those_of_the_encoder_and_of_the_prior() -> None:
    game = small()
    for layer, value in ((game.encoder.mean, 3.0), (game.encoder.log_variance, math.log(4))):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, value)
    given = calls(game.generator)
    first, _, _ = moves(game, pairs(256), pairs(256, seed=3))
    ((_, latents),) = given
    encoded, drawn = latents.unflatten(0, (-1, 2)).unbind(1)
    assert encoded.mean().item() == pytest.approx(3, abs=0.2)
    assert encoded.std().item() == pytest.approx(2, abs=0.2)
    assert drawn.mean().item() == pytest.approx(0, abs=0.1)
    assert drawn.std().item() == pytest.approx(1, abs=0.1)
    assert first.seen["kl"].item() == pytest.approx(3 * (9 + 4 - 1 - math.log(4)) / 2, rel=1e-5)


def test_one_discriminator_sees_the_answers_of_the_pair_and_the_other_those_of_a_second_batch() -> None:
    game, batch, other = small(), pairs(), pairs(seed=3)
    vae, lr, answers = calls(game.discriminator_vae), calls(game.discriminator_lr), calls(game.encoder)
    moves(game, batch, other)
    (back,), (of_vae,) = vae
    (fresh,), (of_lr,) = lr
    assert torch.equal(of_vae, torch.cat([batch.b, back]))
    assert torch.equal(of_lr, torch.cat([other.b, fresh]))
    assert torch.equal(answers[0][0], batch.b)
    assert torch.equal(answers[1][0], fresh)
    assert not torch.equal(back, fresh)
    assert not of_vae.requires_grad
    assert not of_lr.requires_grad


def test_conditional_discriminators_see_each_answer_beside_its_own_input() -> None:
    game, batch, other = small(conditional=True), pairs(), pairs(seed=3)
    vae, lr = calls(game.discriminator_vae), calls(game.discriminator_lr)
    moves(game, batch, other)
    for ((of_generator,), (of_all,)), real in ((vae, batch), (lr, other)):
        assert torch.equal(of_generator[:, :3], batch.a)
        assert torch.equal(of_all[:, :3], torch.cat([real.a, batch.a]))
        assert torch.equal(of_all[:3, 3:], real.b)


def test_an_input_has_many_answers_and_a_seed_or_a_latent_names_one() -> None:
    game, batch = small().eval(), pairs()
    with torch.no_grad():
        torch.manual_seed(5)
        first, second = game.translate(batch.a), game.translate(batch.a)
        torch.manual_seed(5)
        assert torch.equal(game.translate(batch.a), first)
        assert (first - second).abs().amax((1, 2, 3)).min() > 0
        torch.manual_seed(5)
        assert torch.equal(game.answer(batch.a, torch.randn(3, 3)), first)
        assert game.encode(batch.b).shape == (3, 3)
        assert torch.equal(game.encode(batch.b), game.encoder(batch.b)[0])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 31), (7, 90)])
def test_it_translates_any_size_and_keeps_it(height: int, width: int) -> None:
    with torch.no_grad():
        assert small().eval().translate(torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize(
    ("hyper", "said"), [({"latent_dim": 0}, "latent_dim = 0"), ({"scales": 0}, "scales = 0"), ({"layers": 3}, "24 pixels")]
)
def test_what_cannot_be_is_refused(hyper: dict[str, int], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        small(**hyper)
