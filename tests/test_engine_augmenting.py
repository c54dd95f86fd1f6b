"""What a discriminator sees while its game plays, and how ADA's p follows what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from variants import Variant, variants

from ganforge import zoo
from ganforge.augmentations import diff_augment
from ganforge.batches import Images, ImageSpec, PointSpec
from ganforge.capabilities import judge, sampler
from ganforge.engine.augmenting import Augmenter
from ganforge.errors import RequestError, TrainingError
from ganforge.game import Game, Move, Player

SPEC = ImageSpec(8, 8, 1)


class Watching(nn.Module):
    """Passes on what it is given, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


class Sign(nn.Module):
    """A logit by a rule that no augmentation here disturbs: how many of the first `plus` pictures of a batch are real, it says."""

    def __init__(self, plus: int) -> None:
        super().__init__()
        self.plus = plus

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(torch.arange(len(x)) < self.plus, 3.0, -0.5) + 0 * x.mean((1, 2, 3))


class Plain(Game):
    """The smallest game with a generator, a discriminator and a judge."""

    def __init__(self, data: ImageSpec, *, answer: nn.Module | None = None) -> None:
        super().__init__()
        self.watching = Watching()
        self.generator = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Unflatten(1, data.shape))
        answer = answer or nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(64, 1), nn.Flatten(0))
        self.discriminator = nn.Sequential(self.watching, answer)

    def players(self) -> dict[str, Player]:
        sgd = partial(torch.optim.SGD, lr=0.01)
        return {"discriminator": Player(self.discriminator, sgd), "generator": Player(self.generator, sgd)}

    def judge(self, x: Tensor) -> Tensor:
        score: Tensor = self.discriminator(x)
        return score.flatten(1).mean(1).sigmoid() if score.ndim > 1 else score.sigmoid()


def heard(augmenter: Augmenter) -> tuple[float, float]:
    return float(augmenter.signs), float(augmenter.scored)


def a_round(augmenter: Augmenter, game: Plain, number: int, n: int = 8, average: Callable[[Tensor], Tensor] | None = None) -> None:
    """What a trainer does: real pictures are served, judged, and fakes too."""
    real = Images(torch.rand(n, 1, 8, 8) * 2 - 1)
    with augmenter.playing():
        augmenter.note_real(real)
        game.discriminator(real.image)
        game.discriminator(game.generator(torch.randn(n, 3)))
    augmenter.end_round(number, n, *([average] if average else []))


judging = [
    variant for variant in variants() if issubclass(variant.kind, Images) and {"judge", "sample"} <= zoo.catalogue()[variant.name].methods
]


@contextmanager
def skipped_where_refused() -> Iterator[None]:
    """A game may compare answers with the picture itself, have no logits, or judge real pictures and fakes as one batch."""
    try:
        yield
    except (RequestError, TrainingError) as refused:
        reason = str(refused)
        if not any(known in reason for known in ("uses x besides", "needs logits", "as it was served")):
            raise
    else:
        return
    pytest.skip(reason)


@pytest.mark.parametrize("variant", judging, ids=str)
def test_the_networks_found_are_those_that_judge_and_not_those_that_generate(variant: Variant) -> None:
    game, spec = variant.build(), variant.source().spec
    with skipped_where_refused():
        networks = Augmenter(game, spec, "diffaugment").networks
    critic = judge(game)
    assert critic is not None
    critic.judge(torch.rand(4, *spec.shape)).sum().backward()
    judges = {name for name, parameter in game.named_parameters() if parameter.grad is not None}
    game.zero_grad(set_to_none=True)
    sampler(game).sample(sampler(game).latent(4)).sum().backward()
    generators = {name for name, parameter in game.named_parameters() if parameter.grad is not None}
    found = {f"{network}.{name}" for network in networks for name, _ in game.get_submodule(network).named_parameters()}
    assert found
    assert found <= judges - generators


class NoSync(TorchDispatchMode):
    """Raises where the host would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func._schema.name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
@pytest.mark.parametrize("variant", judging, ids=str)
def test_every_such_game_plays_augmented_without_waiting_for_the_device(variant: Variant, kind: Any) -> None:
    trainer, plain = variant.trainer(), variant.trainer()
    with skipped_where_refused():
        augmenter = Augmenter(trainer.game, variant.source().spec, kind)
        batch_at = trainer.stream.at

        def noted(*args: Any, **kwargs: Any) -> Any:
            batch = batch_at(*args, **kwargs)
            augmenter.note_real(batch)
            return batch

        trainer.stream.at = noted  # type: ignore[method-assign]
        augmenter.p.fill_(0.5)
        with NoSync():  # type: ignore[no-untyped-call]
            for number in range(1, 5):
                with augmenter.playing():
                    trainer.play_round()
                augmenter.end_round(number, trainer.cursor)
                plain.play_round()
    assert kind == "diffaugment" or augmenter.p != 0.5
    assert not any(total.requires_grad for total in augmenter.buffers())
    weights = zip(trainer.game.parameters(), plain.game.parameters(), strict=True)
    assert any(not torch.equal(augmented, other) for augmented, other in weights)


def test_a_policy_is_seen_in_training_while_playing_and_nowhere_else() -> None:
    game, x = Plain(SPEC), torch.rand(4, 1, 8, 8)
    augmenter = Augmenter(game, SPEC, "diffaugment", ("translation", "cutout"))
    assert augmenter.networks == ("discriminator",)
    game.watching.seen.clear()
    torch.manual_seed(1)
    expected = diff_augment(x, ("translation", "cutout"))
    torch.manual_seed(1)
    with augmenter.playing():
        game.discriminator(x)
        game.discriminator.forward(x)
        game.eval()
        game.discriminator(x)
        game.train()
    game.discriminator(x)
    augmented, *untouched = game.watching.seen
    assert torch.equal(augmented, expected)
    assert not torch.equal(augmented, x)
    assert len(untouched) == 3
    assert all(seen is x for seen in untouched)


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_the_generator_learns_through_the_augmentation(kind: Any) -> None:
    game = Plain(SPEC)
    augmenter = Augmenter(game, SPEC, kind)
    augmenter.p.fill_(1)
    with augmenter.playing():
        game.discriminator(game.generator(torch.randn(8, 3))).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in game.generator.parameters())


def test_building_one_leaves_the_game_and_the_random_state_as_they_were() -> None:
    game = Plain(SPEC, answer=nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 1), nn.Flatten(0)))
    game.generator.eval()
    modes, random = [module.training for module in game.modules()], torch.get_rng_state()
    state = {name: value.clone() for name, value in game.state_dict().items()}
    augmenter = Augmenter(game, SPEC, "ada")
    assert [module.training for module in game.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert game.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in game.state_dict().items())
    assert augmenter not in list(game.modules())
    assert list(augmenter.children()) == []


@pytest.mark.parametrize(("plus", "rises"), [(7, True), (6, False), (0, False)])
def test_p_moves_each_fourth_round_by_the_pictures_served_since_and_by_the_sign_on_the_real_ones(plus: int, rises: bool) -> None:
    # 7 of 8 positive is a mean sign of 0.75, 6 of 8 one of 0.5; the target is 0.6.
    game = Plain(SPEC, answer=Sign(plus))
    augmenter = Augmenter(game, SPEC, "ada")
    augmenter.p.fill_(0.5)
    for number in range(1, 9):
        a_round(augmenter, game, number)
        steps = number // 4 * (1 if rises else -1)
        torch.testing.assert_close(augmenter.p, torch.tensor(0.5 + steps * 32 / 500_000), rtol=0, atol=1e-7)
        since = number % 4
        assert heard(augmenter) == (since * (2 * plus - 8), since * 8)


def test_patches_count_as_one_picture_and_a_column_as_its_logits() -> None:
    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (torch.tensor([[1.0, 2.0], [3.0, -1.0]]) + 0 * x.mean()).expand(len(x), 1, 2, 2)

    for answer, per_picture in ((Patches(), 0.5), (nn.Sequential(Sign(8), nn.Unflatten(0, (-1, 1))), 1.0)):
        game = Plain(SPEC, answer=answer)
        augmenter = Augmenter(game, SPEC, "ada")
        a_round(augmenter, game, 1)
        assert heard(augmenter) == (8 * per_picture, 8)


def test_real_pictures_are_known_by_identity_and_only_within_their_round() -> None:
    game = Plain(SPEC, answer=Sign(8))
    augmenter = Augmenter(game, SPEC, "ada")
    real = Images(torch.rand(8, 1, 8, 8))
    with augmenter.playing():
        augmenter.note_real(real)
        game.discriminator(real.image.clone())
        assert heard(augmenter) == (0, 0)
        game.discriminator(real.image)
        game.discriminator(real.image.clone())
        assert heard(augmenter) == (8, 8)
    augmenter.end_round(1, 8)
    with augmenter.playing():
        game.discriminator(real.image)
    assert heard(augmenter) == (8, 8)


def test_ranks_move_by_the_average_of_what_they_heard() -> None:
    # Alone the first would rise (0.75) and the second fall (0.25); together they are below the target.
    games = [Plain(SPEC, answer=Sign(plus)) for plus in (7, 5)]
    augmenters = [Augmenter(game, SPEC, "ada") for game in games]
    for augmenter, game in zip(augmenters, games, strict=True):
        augmenter.p.fill_(0.5)
        for number in range(1, 4):
            a_round(augmenter, game, number)
    mean = torch.tensor([4 * 8 * 0.5, 4 * 8.0])
    asked: list[Tensor] = []

    def average(values: Tensor) -> Tensor:
        asked.append(values)
        return mean

    for augmenter, game in zip(augmenters, games, strict=True):
        a_round(augmenter, game, 4, average=average)
        torch.testing.assert_close(augmenter.p, torch.tensor(0.5 - 32 / 500_000), rtol=0, atol=1e-7)
    torch.testing.assert_close(torch.stack(asked).mean(0), mean)


def test_a_stretch_without_real_pictures_leaves_p_where_it_is() -> None:
    game = Plain(SPEC)
    augmenter = Augmenter(game, SPEC, "ada")
    a_round(augmenter, game, 1)
    augmenter.p.fill_(0.5)
    for total in (augmenter.signs, augmenter.scored):
        total.zero_()
    for number in range(2, 13):
        with augmenter.playing():
            augmenter.note_real(Images(torch.rand(8, 1, 8, 8)))
            if number > 8:
                game.discriminator(game.generator(torch.randn(8, 3)))
        augmenter.end_round(number, 8)
    assert augmenter.p == 0.5


@pytest.mark.parametrize("pretraining", [0, 6])
def test_a_game_that_never_judges_real_pictures_alone_is_told_so_in_the_fourth_round_with_a_judgement(pretraining: int) -> None:
    game = Plain(SPEC)
    augmenter = Augmenter(game, SPEC, "ada")

    def joined(number: int) -> None:
        real = Images(torch.rand(4, 1, 8, 8))
        with augmenter.playing():
            augmenter.note_real(real)
            game.discriminator(torch.cat([real.image, game.generator(torch.randn(4, 3))]))
        augmenter.end_round(number, 4)

    joined(1)
    for number in range(2, 2 + pretraining):
        augmenter.end_round(number, 8)
    joined(pretraining + 2)
    joined(pretraining + 3)
    with pytest.raises(TrainingError, match=rf"^round {pretraining + 4}: --augment ada needs .* discriminator .* --augment diffaugment$"):
        joined(pretraining + 4)


def test_a_stored_state_goes_on_as_the_uninterrupted_one() -> None:
    def play(augmenter: Augmenter, game: Plain, first: int, last: int) -> list[Tensor]:
        game.watching.seen.clear()
        for number in range(first, last + 1):
            torch.manual_seed(number)
            a_round(augmenter, game, number)
        return game.watching.seen

    whole = Plain(SPEC, answer=Sign(8))
    uninterrupted = Augmenter(whole, SPEC, "ada")
    uninterrupted.p.fill_(0.3)
    play(uninterrupted, whole, 1, 6)
    stored = {name: value.clone() for name, value in uninterrupted.state_dict().items()}
    expected = play(uninterrupted, whole, 7, 9)
    other = Plain(SPEC, answer=Sign(8))
    other.load_state_dict(whole.state_dict())
    resumed = Augmenter(other, SPEC, "ada")
    resumed.load_state_dict(stored)
    seen = play(resumed, other, 7, 9)
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    assert uninterrupted.p > 0.3


def refusal(game: Game, spec: Any = SPEC, kind: Any = "diffaugment", **policy: Any) -> str:
    with pytest.raises(RequestError) as caught:
        Augmenter(game, spec, kind, **policy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Judging(Plain):
    """Judges by a function of its own."""

    def __init__(self, rule: Callable[[Judging, Tensor], Tensor], **answer: nn.Module) -> None:
        super().__init__(SPEC, **answer)
        self.rule = rule

    def judge(self, x: Tensor) -> Tensor:
        return self.rule(self, x)


class Mute(Game):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(2, 2)

    def play(self, batches: Iterator[Images]) -> Iterator[Move]:
        yield from ()


def test_what_cannot_be_augmented_is_refused_in_one_line() -> None:
    assert "the data are points of dimension 2; only pictures" in refusal(Plain(SPEC), PointSpec(2))
    assert "Mute has no judge(x)" in refusal(Mute())
    changed = Judging(lambda self, x: self.discriminator(x * 0.5))
    assert "judge(x) of Judging gives no network x itself" in refusal(changed)
    assert "'colour' is unknown" in refusal(Plain(SPEC), policy=("colour",))


def test_a_judge_that_compares_with_the_picture_itself_is_refused() -> None:
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    energy = Judging(lambda self, x: -(self.discriminator(x) - x).square().mean((1, 2, 3)), answer=decoder)
    assert "judge(x) of Judging uses x besides what it gives to discriminator" in refusal(energy)


def test_several_networks_and_a_trunk_are_found_where_they_take_the_picture_itself() -> None:
    both = Judging(lambda self, x: self.discriminator[1](x) + self.watching(x).mean((1, 2, 3)))
    assert Augmenter(both, SPEC, "diffaugment").networks == ("discriminator.1", "watching")
    trunk = Judging(lambda self, x: self.discriminator(x).mean(1), answer=nn.Flatten())
    assert Augmenter(trunk, SPEC, "diffaugment").networks == ("discriminator",)
    assert "discriminator of Judging answers 2 pictures with [2, 64]; its rule needs logits" in refusal(trunk, kind="ada")


def test_pictures_given_by_name_cannot_be_augmented_unnoticed() -> None:
    game = Plain(SPEC, answer=Sign(1))
    augmenter = Augmenter(game, SPEC, "diffaugment")
    with augmenter.playing(), pytest.raises(TrainingError, match="positional"):
        game.discriminator(input=torch.rand(2, 1, 8, 8))
