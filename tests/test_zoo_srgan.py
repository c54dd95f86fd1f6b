"""SRGAN: its sizes, how far it sees, its two phases, its two contents, and what the second phase adds to the first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec, LowHigh
from ganforge.data import Stream, from_fields
from ganforge.engine import Settings, Trainer
from ganforge.errors import RequestError
from ganforge.game import Move, Player
from ganforge.zoo.srgan import SRGAN

SMALL: dict[str, Any] = {"width": 4, "blocks": 1, "discriminator_width": 4, "stages": 2, "units": 8}


def build(size: int = 8, factor: int = 2, channels: int = 1, **hyper: Any) -> SRGAN:
    torch.manual_seed(0)
    return SRGAN(ImageSpec(size, size, channels, factor=factor), **{**SMALL, **hyper})


def pictures(n: int = 4) -> Iterator[LowHigh]:
    torch.manual_seed(1)
    return itertools.repeat(LowHigh(2 * torch.rand(n, 1, 4, 4) - 1, 2 * torch.rand(n, 1, 8, 8) - 1))


def count(player: Player) -> int:
    return sum(p.numel() for p in player.parameters())


def test_at_the_papers_size_it_has_the_papers_layers() -> None:
    with torch.device("meta"):
        players = SRGAN(ImageSpec(96, 96, 3, factor=4)).players()
    # Ends with a bias and one slope; 16 blocks and the half of one behind them without, normalised; two doublings.
    ends = (81 * 3 * 64 + 64) + 1 + (81 * 64 * 3 + 3)
    trunk = 16 * (2 * 9 * 64 * 64 + 2 * 2 * 64 + 1) + 9 * 64 * 64 + 2 * 64
    assert count(players["generator"]) == ends + trunk + 2 * (9 * 64 * 256 + 256 + 1)
    convolutions = [9 * a * b + 2 * b for a, b in ((64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))]
    assert count(players["discriminator"]) == (27 * 64 + 64) + sum(convolutions) + (512 * 6 * 6 * 1024 + 1024) + (1024 + 1)


def test_the_papers_network_reaches_forty_pixels() -> None:
    with torch.device("meta"):
        game = SRGAN(ImageSpec(96, 96, 3, factor=4))
    # 4 by the first 9x9, 2 by each block, 1 by what follows; of large pixels 4, that is 2 after halving, 1 more, 2 after halving, 1 more.
    assert game.reach == 4 + 16 * 2 + 1 + 3


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_pixel_farther_away_than_reach_has_exactly_no_influence_and_at_reach_it_has_some(factor: int, blocks: int) -> None:
    # In double precision torch's convolutions are plain sums, in which what does not belong has no part, not even by rounding.
    game = build(factor=factor, blocks=blocks).double().eval()
    side, place = 2 * game.reach + 5, game.reach + 2
    low = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    own = game.upscale(low)[..., factor * place : factor * (place + 1), factor * place : factor * (place + 1)]
    (slope,) = torch.autograd.grad((own * torch.randn_like(own)).sum(), low)
    seen = slope[0, 0] != 0
    near = (torch.arange(side) - place).abs() <= game.reach
    assert not seen[~near].any()
    assert not seen[:, ~near].any()
    for edge in (place - game.reach, place + game.reach):
        assert seen[edge].any()
        assert seen[:, edge].any()


def test_a_discriminator_that_knows_nothing_loses_2_ln_2_and_adds_ln_2_by_its_weight() -> None:
    game = build(adversarial=0.25)
    for parameter in game.discriminator.parameters():
        nn.init.zeros_(parameter)
    batch = next(pictures())
    judged, made = list(game.play(iter([batch])))
    torch.testing.assert_close(judged.losses[("discriminator",)], torch.tensor(2 * math.log(2)))
    content = (game.generator(batch.low) - batch.high).square().mean()
    torch.testing.assert_close(made.losses[("generator",)], content + 0.25 * math.log(2))


def test_the_first_phase_is_the_mean_squared_error_and_moves_the_generator_alone() -> None:
    game, batch = build(pretrain_rounds=7), next(pictures())
    (move,) = list(game.pretrain(iter([batch])))
    assert move.players == ("srresnet",)
    torch.testing.assert_close(move.losses[("srresnet",)], (game.generator(batch.low) - batch.high).square().mean())
    assert [(phase.name, phase.rounds) for phase in game.phases()] == [("pretrain", 7), ("play", None)]


def test_the_second_phase_begins_with_the_weights_of_the_first_and_without_its_moments() -> None:
    batch = next(pictures(16))
    high = torch.randint(0, 256, (16, 8, 8, 1), dtype=torch.uint8)
    source = from_fields(LowHigh, low=torch.randint(0, 256, (16, 4, 4, 1), dtype=torch.uint8), high=high)
    game = build(pretrain_rounds=3, pretrain_lr=1e-2, lr=1e-3, lr_every=2)
    trainer = Trainer(game, Stream(source, LowHigh, seed=0, device=torch.device("cpu")), Settings(rounds=4), torch.device("cpu"))
    before = game.generator(batch.low)
    for _ in range(3):
        trainer.play_round()
    assert not torch.equal(game.generator(batch.low), before)
    assert not trainer.seats["generator"].optimiser.state
    assert not trainer.seats["discriminator"].optimiser.state
    rates = []
    for _ in range(4):
        trainer.play_round()
        rates.append(trainer.seats["generator"].optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert {float(state["step"]) for state in trainer.seats["generator"].optimiser.state.values()} == {4}
    assert {float(state["step"]) for state in trainer.seats["srresnet"].optimiser.state.values()} == {3}
    assert trainer.seats["srresnet"].parameters == trainer.seats["generator"].parameters


def test_the_rate_of_the_first_phase_stays_or_falls_along_a_cosine() -> None:
    assert build(pretrain_rounds=100).players()["srresnet"].schedule is None
    schedule = build(pretrain_rounds=100, pretrain_cosine=True).players()["srresnet"].schedule
    assert schedule is not None
    assert [float(schedule(round)) for round in (0, 50, 100)] == pytest.approx([1, 0.5, 0])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first three convolutions of a VGG19, untrained."""
    torch.manual_seed(2)
    state: dict[str, Tensor] = {}
    for place, inputs, outputs in ((0, 3, 64), (2, 64, 64), (5, 64, 128)):
        state |= {f"features.{place}.weight": 0.1 * torch.randn(outputs, inputs, 3, 3), f"features.{place}.bias": torch.randn(outputs)}
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(state, path)
    return path


def features(image: Tensor, state: dict[str, Tensor]) -> Tensor:
    """phi_2,1: two convolutions, a pooling, one more, each with its ReLU, of what ImageNet's networks are given."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((image.expand(-1, 3, -1, -1) + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]
    for place in (0, 2, 5):
        x = F.max_pool2d(x, 2) if place == 5 else x
        x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
    return x


def test_with_features_the_content_is_their_distance_over_12_75_squared(weights: Path) -> None:
    game, batch = build(features=str(weights), layer="2_1"), next(pictures())
    game.players()
    made = batch.high.flip(0).requires_grad_()
    game.content(made, batch.high).backward()
    state = load_file(weights)
    expected = batch.high.flip(0).requires_grad_()
    distance = (features(expected, state) / 12.75 - features(batch.high, state) / 12.75).square().mean()
    distance.backward()
    torch.testing.assert_close(game.content(made, batch.high), distance)
    torch.testing.assert_close(made.grad, expected.grad)
    moves = list(game.play(iter([batch])))
    torch.testing.assert_close(moves[1].seen["content"], game.content(game.generator(batch.low), batch.high))


def test_the_features_are_nobodys_and_in_no_checkpoint(weights: Path) -> None:
    plain, game = build(), build(features=str(weights), layer="2_1")
    owned = {id(p) for player in game.players().values() for p in player.parameters()}
    assert {id(p) for p in game.parameters()} == owned
    assert game.state_dict().keys() == plain.state_dict().keys()


def test_who_only_upscales_needs_no_file_of_features_and_who_trains_does() -> None:
    game = build(features="gone.safetensors").eval()
    assert game.upscale(torch.zeros(1, 1, 5, 3)).shape == (1, 1, 10, 6)
    with pytest.raises(RequestError, match=r"gone\.safetensors: there is no such file"):
        game.players()


def test_without_features_it_says_so() -> None:
    (line,) = build().notes()
    assert "SRGAN-MSE" in line
    assert not build(features="vgg19").notes()


def test_what_cannot_be_is_refused(weights: Path) -> None:
    with pytest.raises(RequestError, match="--factor"):
        build(factor=1)
    with pytest.raises(RequestError, match="16 pixels a side"):
        build(size=8, stages=4)
    with pytest.raises(RequestError, match="pretrain_rounds = -1"):
        build(pretrain_rounds=-1)
    with pytest.raises(RequestError, match="lr_every = 0"):
        build(lr_every=0)
    with pytest.raises(RequestError, match=r"layer 2_1 of pictures of 1x1: it needs 2 pixels"):
        build(size=1, stages=0, features=str(weights), layer="2_1").players()


def test_where_the_small_picture_says_nothing_the_first_phase_is_grey_and_the_second_leaves_it() -> None:
    # A chequerboard averages to grey whichever squares are black, so the least error is grey, which nothing real is.
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    sign = torch.tensor([1.0, -1.0]).repeat(4)[:, None, None, None]
    batches = itertools.repeat(LowHigh(torch.zeros(8, 1, 4, 4), sign * board))
    game = build(adversarial=5.0)
    optimisers = {name: torch.optim.Adam(player.parameters(), 5e-3) for name, player in game.players().items()}

    def contrast(play: Callable[[Iterator[LowHigh]], Iterator[Move]], rounds: int) -> float:
        for _ in range(rounds):
            for move in play(batches):
                ((names, loss),) = move.losses.items()
                optimiser = optimisers[names[0]]
                optimiser.zero_grad()
                loss.backward(inputs=[p for group in optimiser.param_groups for p in group["params"]])
                optimiser.step()
        with torch.no_grad():
            return float(game.generator(torch.zeros(8, 1, 4, 4)).square().mean().sqrt())

    assert contrast(game.pretrain, 60) < 0.1
    assert contrast(game.play, 60) > 0.3
