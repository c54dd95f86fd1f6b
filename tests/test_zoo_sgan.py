import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, SemiLabelled
from ganforge.errors import RequestError
from ganforge.zoo.sgan import SGAN, Noise

TEN = tuple("0123456789")
SMALL = partial(SGAN, units=(16, 8), maps=(4, 8), generator_units=8, generator_maps=4, latent_dim=3)


def spec(size: int = 16, channels: int = 1) -> ImageSpec:
    return ImageSpec(size, size, channels, TEN)


def batch(n: int = 6, size: int = 16, seed: int = 0) -> SemiLabelled:
    generator = torch.Generator().manual_seed(seed)
    image, labelled = torch.rand(2, n, 1, size, size, generator=generator) * 2 - 1
    return SemiLabelled(image, labelled, torch.randint(0, 10, (n,), generator=generator))


def repeated(of: SemiLabelled) -> Iterator[SemiLabelled]:
    while True:
        yield of


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def with_logits_of_zero(game: SGAN) -> SGAN:
    for parameter in game.classifier.parameters():
        nn.init.zeros_(parameter)
    # Of weight normalisation only the scale may be 0; the direction must be one.
    for name, parameter in game.classifier.named_parameters():
        if name.endswith("original1"):
            nn.init.ones_(parameter)
    return game


def test_on_mnist_it_has_the_layers_of_the_authors_script() -> None:
    game = SGAN(spec(28))
    weights = 784 * 1000 + 1000 * 500 + 500 * 250 + 250 * 250 + 250 * 250 + 250 * 10
    # A bias and a scale for each unit.
    assert count(game.features, game.classifier) == weights + 2 * (1000 + 500 + 3 * 250 + 10)
    assert count(game.generator) == (100 * 500 + 2 * 500) + (500 * 500 + 2 * 500) + (500 * 784 + 2 * 784)
    kinds = [type(layer) for layer in [*game.features, *game.classifier]]
    assert kinds.count(Noise) == 6


@pytest.mark.parametrize(("few", "many"), [(96, 192), (64, 128)])
def test_on_cifar_and_svhn_it_has_the_layers_of_the_authors_scripts(few: int, many: int) -> None:
    game = SGAN(spec(32, 3), network="conv", maps=(few, many))
    weights = 9 * (3 * few + 2 * few * few + few * many + 3 * many * many) + 2 * many * many + 10 * many
    assert count(game.features, game.classifier) == weights + 2 * (3 * few + 6 * many + 10)
    up = 25 * (512 * 256 + 256 * 128 + 128 * 3)
    assert count(game.generator) == 100 * 8192 + up + 2 * (8192 + 256 + 128)
    sides = []
    for layer in game.features:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, y: sides.append(y.shape[2]))
    assert game.encode(torch.zeros(2, 3, 32, 32)).shape == (2, many)
    assert sides == [32, 32, 16, 16, 16, 8, 6, 6, 6]


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_discriminator_that_knows_nothing_has_the_losses_of_eleven_equal_classes(network: Any) -> None:
    game = with_logits_of_zero(SMALL(spec(), network=network, generator_loss="fool"))
    first, second = game.play(repeated(batch()))
    (loss,) = first.losses.values()
    assert first.seen["labelled"].item() == pytest.approx(math.log(10))
    assert first.seen["unlabelled"].item() == pytest.approx((math.log(11) - math.log(10) + math.log(11)) / 2)
    assert loss.item() == pytest.approx(2.302585 + 1.246603, abs=1e-5)
    for on in ("real", "fake"):
        torch.testing.assert_close(first.seen[on], torch.full((6,), 10 / 11))
    (loss,) = second.losses.values()
    assert loss.item() == pytest.approx(math.log(11 / 10), abs=1e-6)


def test_its_losses_are_those_of_a_softmax_over_ten_classes_and_an_eleventh() -> None:
    game = SMALL(spec(), weight=0.7).eval()
    seen = batch()
    torch.manual_seed(1)
    move = next(game.play(repeated(seen)))
    torch.manual_seed(1)
    fake = game.sample(game.latent(6))

    def probabilities(x: Tensor) -> list[list[float]]:
        return [[math.exp(v) / (sum(map(math.exp, row)) + 1) for v in row] for row in game.logits(x).tolist()]

    labelled = unlabelled = 0.0
    for row, label in zip(probabilities(seen.labelled), seen.label.tolist(), strict=True):
        labelled -= math.log(row[label] / sum(row)) / 6  # -log p(y | x, y <= K)
    for real, made in zip(probabilities(seen.image), probabilities(fake), strict=True):
        generated = 1 - sum(made)
        unlabelled -= (math.log(sum(real)) + math.log(generated)) / 12
    (loss,) = move.losses.values()
    assert loss.item() == pytest.approx(labelled + 0.7 * unlabelled, rel=1e-5)
    assert game.judge(seen.image).tolist() == pytest.approx([sum(row) for row in probabilities(seen.image)], rel=1e-5)


def test_raising_all_logits_alike_changes_what_is_real_and_not_which_class_it_is() -> None:
    game = SMALL(spec()).eval()
    told = []
    classes = game.classify(batch().image)
    for raised in (0.0, 2.0):
        with torch.no_grad():
            next(module for module in game.classifier if isinstance(module, nn.Linear)).bias.fill_(raised)
        torch.manual_seed(1)
        told.append(next(game.play(repeated(batch()))).seen)
    torch.testing.assert_close(told[0]["labelled"], told[1]["labelled"])
    torch.testing.assert_close(classes, game.classify(batch().image))
    assert (told[1]["real"] > told[0]["real"]).all()
    assert (told[1]["fake"] > told[0]["fake"]).all()


def test_feature_matching_sees_the_means_of_batches_and_not_who_is_in_which_place() -> None:
    game = SMALL(spec()).eval()
    real, fake = batch(seed=1).image, batch(seed=2).image
    mixed = torch.tensor([3, 0, 5, 1, 4, 2])
    assert game.generator_objective(real, real[mixed]).item() == pytest.approx(0, abs=1e-10)
    apart = game.generator_objective(real, fake)
    assert apart > 1e-4
    torch.testing.assert_close(game.generator_objective(real[mixed], fake), apart)
    torch.testing.assert_close(game.generator_objective(real, fake[mixed]), apart)


@pytest.mark.parametrize(("loss", "power"), [("feature-matching", 2), ("feature-matching-l1", 1)])
def test_feature_matching_is_the_mean_difference_of_the_mean_features(loss: Any, power: int) -> None:
    game = SMALL(spec(2), generator_loss=loss)
    game.features = nn.Sequential(nn.Flatten())
    real = torch.tensor([[1.0, 0.0, 3.0, 1.0], [3.0, 0.0, 1.0, 1.0]]).view(2, 1, 2, 2)
    fake = torch.tensor([[4.0, 0.0, 0.0, 1.0], [4.0, 2.0, 0.0, 1.0], [1.0, 1.0, 3.0, 1.0]]).view(3, 1, 2, 2).requires_grad_()
    # The means: 2, 0, 2, 1 and 3, 1, 1, 1.
    found = game.generator_objective(real, fake)
    assert found.item() == pytest.approx(3 / 4)
    (slopes,) = torch.autograd.grad(found, fake)
    # Each fake moves its mean by a third; the sign is that of the way from the real mean to theirs.
    expected = torch.tensor([1.0, 1.0, -1.0, 0.0]) * power / 3 / 4
    torch.testing.assert_close(slopes.flatten(1), expected.expand(3, 4))


@pytest.mark.parametrize("loss", ["feature-matching", "feature-matching-l1"])
def test_the_mean_of_the_real_features_is_a_target_and_not_to_be_moved(loss: Any) -> None:
    game = SMALL(spec(), generator_loss=loss)
    real, fake = batch().image.requires_grad_(), batch(seed=1).image.requires_grad_()
    game.generator_objective(real, fake).backward()
    assert real.grad is None
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0


def test_the_generator_answers_to_pictures_that_the_discriminator_has_not_just_seen() -> None:
    game, served = SMALL(spec()).eval(), [batch(seed=seed) for seed in range(3)]
    batches = iter(served)
    torch.manual_seed(3)
    moves = list(game.play(batches))
    assert [move.players for move in moves] == [("discriminator",), ("generator",)]
    assert next(batches) is served[2]
    torch.manual_seed(3)
    game.latent(6)
    (loss,) = moves[1].losses.values()
    torch.testing.assert_close(loss, game.generator_objective(served[1].image, game.sample(game.latent(6))))


def test_without_weight_the_discriminator_learns_from_labels_alone() -> None:
    game, seen = SMALL(spec(), weight=0.0).eval(), batch()
    move = next(game.play(repeated(seen)))
    (loss,) = move.losses.values()
    right = game.classify(seen.labelled)[torch.arange(6), seen.label]
    torch.testing.assert_close(loss, -right.log().mean())


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_weights_are_a_direction_and_a_scale(network: Any) -> None:
    game = SMALL(spec(), network=network).eval()
    before = game.logits(batch().image)
    layers = [layer for layer in [*game.features, *game.classifier] if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert len(layers) == (3 if network == "mlp" else 10)
    with torch.no_grad():
        for layer in layers:
            dict(layer.named_parameters())["parametrizations.weight.original1"].mul_(7)
    torch.testing.assert_close(game.logits(batch().image), before)
    with torch.no_grad():
        dict(layers[-1].named_parameters())["parametrizations.weight.original0"].mul_(3)
    torch.testing.assert_close(game.logits(batch().image), 3 * before)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_signal_neither_dies_nor_explodes_on_its_way_to_the_features(network: Any) -> None:
    """The network of full width: He's weights keep the mean square, and noise adds a quarter before each of the mlp's layers."""
    torch.manual_seed(0)
    game = SGAN(spec(32), network=network)
    features = game.encode(torch.rand(16, 1, 32, 32) * 2 - 1)
    assert 0.05 < features.square().mean() < 5


def test_noise_is_there_while_it_trains_and_of_the_size_said() -> None:
    noise, x = Noise(0.3), torch.randn(400, 500)
    added = noise(x) - x
    assert added.mean().item() == pytest.approx(0, abs=3e-3)
    assert added.std().item() == pytest.approx(0.3, abs=3e-3)
    assert torch.equal(noise.eval()(x), x)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_at_rest_it_says_of_a_picture_the_same_whatever_lies_beside_it(network: Any) -> None:
    game, pictures = SMALL(spec(), network=network), batch().image
    assert not torch.equal(game.classify(pictures), game.classify(pictures))
    game.eval()
    classes = game.classify(pictures)
    assert classes.shape == (6, 10)
    torch.testing.assert_close(classes.sum(1), torch.ones(6))
    torch.testing.assert_close(game.classify(pictures[2:3]), classes[2:3])
    torch.testing.assert_close(game.encode(pictures[2:3]), game.encode(pictures)[2:3])
    torch.testing.assert_close(game.judge(pictures[2:3]), game.judge(pictures)[2:3])


@pytest.mark.parametrize(("network", "sizes"), [("mlp", (1, 8, 28, 30)), ("conv", (16, 28, 32, 64))])
def test_pictures_are_made_in_range_of_any_size_that_a_network_has(network: Any, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        game = SMALL(spec(size, 3), network=network)
        made = game.sample(game.latent(4))
        assert made.shape == (4, 3, size, size)
        assert made.abs().max() <= 1
        assert game.encode(made).shape == (4, 8)


def test_a_copy_of_a_game_is_its_own() -> None:
    game = SMALL(spec()).eval()
    other = copy.deepcopy(game)
    before = game.classify(batch().image)
    torch.testing.assert_close(other.classify(batch().image), before)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(game.classify(batch().image), before)


def test_what_it_cannot_learn_from_is_refused() -> None:
    with pytest.raises(RequestError, match="data of 0 classes"):
        SMALL(ImageSpec(16, 16, 1))
    with pytest.raises(RequestError, match="pictures of 8x8"):
        SMALL(spec(8), network="conv")
    with pytest.raises(RequestError, match="units"):
        SMALL(spec(), units=())
