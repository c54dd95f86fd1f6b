import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, Points, PointSpec, SemiLabelled
from ganforge.capabilities import SamplesClasses
from ganforge.data import Stream, from_arrays, from_fields
from ganforge.engine import Settings, Trainer
from ganforge.errors import RequestError
from ganforge.game import Move
from ganforge.zoo.aae import AAE

CPU = torch.device("cpu")
SPEC = ImageSpec(4, 4, 1, classes=("top", "middle", "bottom"))
SMALL = partial(AAE, SPEC, width=16, latent_dim=2, groups=5, init_std=0.0)
VARIANTS = {
    "unsupervised": ["autoencoder", "z_discriminator", "encoder"],
    "supervised": ["autoencoder", "z_discriminator", "encoder"],
    "clustering": ["autoencoder", "z_discriminator", "y_discriminator", "encoder"],
    "semi-supervised": ["autoencoder", "z_discriminator", "y_discriminator", "encoder", "classifier"],
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def mlp_of_1000(inputs: int, outputs: int) -> int:
    return (inputs * 1000 + 1000) + (1000 * 1000 + 1000) + (1000 * outputs + outputs)


def rows(label: Tensor) -> Tensor:
    """Pictures of which the class is the row that is bright, [n, 1, 4, 4], with noise."""
    image = 0.4 * torch.randn(len(label), 1, 4, 4) - 0.6
    image[torch.arange(len(label)), 0, label] += 1.2
    return image.clamp(-1, 1)


def batch(n: int = 6) -> SemiLabelled:
    label = torch.arange(n) % 3
    return SemiLabelled(rows(label.flip(0)), rows(label), label)


def losses(game: AAE, given: Any, seed: int = 0) -> dict[str, float]:
    """Of each move of one round in which nobody steps."""
    torch.manual_seed(seed)
    moves: Iterator[Move] = game.play(itertools.repeat(given))
    return {name: loss.item() for move in moves for (name,), loss in move.losses.items()}


def trained(game: AAE, stream: Stream, rounds: int) -> AAE:
    torch.manual_seed(0)
    trainer = Trainer(game, stream, Settings(rounds=rounds, batch_size=60), CPU)
    for _ in range(rounds):
        trainer.play_round()
    return game.eval()


def test_on_mnist_every_network_has_two_layers_of_1000() -> None:
    game = AAE(ImageSpec(28, 28, 1))
    assert count(game.encoder) == mlp_of_1000(784, 8)
    assert count(game.decoder) == mlp_of_1000(8, 784)
    assert count(game.discriminators) == mlp_of_1000(8, 1)


@pytest.mark.parametrize(("variant", "kinds"), [("semi-supervised", 10), ("clustering", 16)])
def test_an_inferred_y_has_outputs_of_the_same_encoder_and_an_adversary_of_its_own(variant: Any, kinds: int) -> None:
    game = AAE(ImageSpec(28, 28, 1, classes=tuple("0123456789")), variant=variant, latent_dim=10)
    assert count(game.encoder) == mlp_of_1000(784, kinds + 10)
    assert count(game.decoder) == mlp_of_1000(kinds + 10, 784)
    assert count(game.discriminators) == mlp_of_1000(10, 1) + mlp_of_1000(kinds, 1)


def test_a_known_y_reaches_the_decoder_alone() -> None:
    game = AAE(ImageSpec(28, 28, 1, classes=tuple("0123456789")), variant="supervised", latent_dim=10)
    assert count(game.encoder) == mlp_of_1000(784, 10)
    assert count(game.decoder) == mlp_of_1000(20, 784)
    assert count(game.discriminators) == mlp_of_1000(10, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_round_is_reconstruction_then_discriminators_then_encoder_then_classes(variant: Any) -> None:
    game = SMALL(variant=variant)
    assert list(losses(game, batch())) == VARIANTS[variant]
    assert set(game.players()) == set(VARIANTS[variant])


def test_at_the_first_weights_each_discriminator_has_two_ln_2_and_the_encoder_ln_2_of_each() -> None:
    game = AAE(SPEC, variant="semi-supervised", width=64)
    found = losses(game, batch())
    for name in ("z_discriminator", "y_discriminator"):
        assert found[name] == pytest.approx(2 * math.log(2), abs=1e-3)
    assert found["encoder"] == pytest.approx(2 * math.log(2), abs=1e-3)
    assert found["classifier"] == pytest.approx(math.log(3), abs=1e-3)


def test_reconstruction_is_half_the_squared_distance() -> None:
    game = AAE(PointSpec(3), width=4)
    for parameter in game.decoder.parameters():
        nn.init.zeros_(parameter)
    points = torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]])
    assert losses(game, Points(points))["autoencoder"] == pytest.approx((9 + 25) / 2 / 2)


def test_linear_networks_reconstruct_as_principal_components_do() -> None:
    torch.manual_seed(0)
    game = AAE(PointSpec(5), latent_dim=2, width=4)
    points = torch.randn(200, 5) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.7, 0.5])) @ torch.randn(5, 5) + 1
    game.encoder, game.decoder = nn.Sequential(nn.Linear(5, 2)), nn.Sequential(nn.Linear(2, 5))
    parameters = [*game.encoder.parameters(), *game.decoder.parameters()]
    search = torch.optim.LBFGS(parameters, max_iter=100, history_size=20, line_search_fn="strong_wolfe")

    def error() -> Tensor:
        search.zero_grad()
        (loss,) = next(game.play(itertools.repeat(Points(points)))).losses.values()
        loss.backward()
        return loss

    search.step(error)
    discarded = torch.linalg.eigvalsh(torch.cov(points.T, correction=0))[:3].sum()
    assert error().item() == pytest.approx(discarded.item() / 2, rel=1e-3)


def test_only_the_variants_with_labels_look_at_the_labelled() -> None:
    given, other = batch(), batch()
    relabelled = SemiLabelled(given.image, given.labelled, 2 - given.label)
    elsewhere = SemiLabelled(other.image, given.labelled, given.label)
    for variant in VARIANTS:
        game = SMALL(variant=variant)  # type: ignore[arg-type]
        here, there, anew = (losses(game, each) for each in (given, elsewhere, relabelled))
        seen = {name for name in here if here[name] != anew[name]}
        expected = {"supervised": {"autoencoder"}, "semi-supervised": {"classifier"}}
        assert seen == expected.get(variant, set())
        # Labelled pictures are all that the supervised variant sees.
        assert (here["autoencoder"] == there["autoencoder"]) == (variant == "supervised")


def test_each_adversary_sees_its_own_part_of_the_code() -> None:
    game = SMALL(variant="clustering").eval()
    code, other = game.latent(4), game.latent(4)
    mixed = torch.cat([code[:, :5], other[:, 5:]], 1)
    y, z = game.discriminators["y_discriminator"], game.discriminators["z_discriminator"]
    assert torch.equal(y(mixed), y(code))
    assert torch.equal(z(mixed), z(other))
    assert not torch.equal(z(mixed), z(code))


def test_noise_blurs_what_the_adversary_of_y_sees_while_it_learns() -> None:
    def y_of(game: AAE) -> nn.Module:
        return next(game.discriminators["y_discriminator"].children())

    game = SMALL(variant="clustering", noise=0.3)
    blurred = y_of(game)(torch.zeros(20_000, 7))
    assert blurred.shape == (20_000, 5)
    assert blurred.std().item() == pytest.approx(0.3, rel=0.02)
    assert not y_of(game.eval())(torch.zeros(4, 7)).any()
    assert not y_of(SMALL(variant="clustering"))(torch.zeros(4, 7)).any()


def test_latents_are_one_hots_of_equal_chance_and_a_gaussian() -> None:
    latent = SMALL(variant="clustering", prior_std=5.0).latent(20_000)
    y, z = latent[:, :5], latent[:, 5:]
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(y.sum(1), torch.ones(20_000))
    torch.testing.assert_close(y.mean(0), torch.full((5,), 0.2), atol=0.015, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), 25 * torch.eye(2), atol=1.0, rtol=0)
    assert SMALL().latent(3).shape == (3, 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_class_can_be_asked_for_where_y_is_the_class(variant: Any) -> None:
    game = SMALL(variant=variant)
    assert isinstance(game, SamplesClasses) == (variant in ("supervised", "semi-supervised"))
    if isinstance(game, SamplesClasses):
        label = torch.tensor([2, 0, 1, 1])
        latent = game.latent_of_class(label)
        assert torch.equal(latent[:, :3].argmax(1), label)
        assert torch.equal(latent[:, :3].sum(1), torch.ones(4))
        assert game.sample(latent).shape == (4, 1, 4, 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_variant_did_not_learn_it_refuses_in_one_line(variant: Any) -> None:
    game, x = SMALL(variant=variant).eval(), rows(torch.arange(3))
    for ask, able, kinds in ((game.classify, "semi-supervised", 3), (game.cluster, "clustering", 5)):
        if variant == able:
            said = ask(x)
            assert said.shape == (3, kinds)
            torch.testing.assert_close(said.sum(1), torch.ones(3))
        else:
            with pytest.raises(RequestError, match=f"^this game is of the variant {variant}; .*--variant {able}"):
                ask(x)


@pytest.mark.parametrize("variant", ["supervised", "semi-supervised"])
@pytest.mark.parametrize("spec", [ImageSpec(4, 4, 1), PointSpec(2)], ids=str)
def test_variants_with_labels_refuse_data_without_classes(variant: Any, spec: Any) -> None:
    with pytest.raises(RequestError, match=f"^variant = {variant}: the data have no classes"):
        AAE(spec, variant=variant)


def test_one_group_is_refused() -> None:
    with pytest.raises(RequestError, match="groups = 1"):
        SMALL(variant="clustering", groups=1)


def test_all_learning_rates_fall_tenfold_at_the_drop() -> None:
    for player in SMALL(variant="semi-supervised", lr_drop=7).players().values():
        assert player.schedule is not None
        assert [player.schedule(round) for round in (0, 6, 7, 100)] == [1.0, 1.0, 0.1, 0.1]
    assert all(player.schedule is None for player in SMALL(lr_drop=0).players().values())


def test_phases_that_share_the_encoder_have_optimisers_of_their_own() -> None:
    game = SMALL(variant="semi-supervised")
    players = game.players()
    encoder = set(game.encoder.parameters())
    assert [name for name, player in players.items() if encoder <= set(player.parameters())] == ["autoencoder", "encoder", "classifier"]
    built = [players[name].optimiser(players[name].parameters()) for name in VARIANTS["semi-supervised"]]
    adam, sgd = torch.optim.Adam, torch.optim.SGD
    assert [type(optimiser) for optimiser in built] == [adam, sgd, sgd, sgd, sgd]
    assert [group["momentum"] for optimiser in built for group in optimiser.param_groups if "momentum" in group] == [0.1, 0.1, 0.1, 0.9]


def test_with_few_labels_it_learns_the_classes_and_uses_each_as_often() -> None:
    torch.manual_seed(0)
    label = torch.arange(300) % 3
    pixels = ((rows(label) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1)
    # Thirty pictures keep their class, and come ten times.
    source = from_fields(SemiLabelled, image=pixels, labelled=pixels[:30].repeat(10, 1, 1, 1), label=label)
    game = trained(SMALL(variant="semi-supervised", noise=0.3, prior_std=1.0), Stream(source, SemiLabelled, seed=0, device=CPU), 150)
    with torch.no_grad():
        said = game.classify(rows(label))
    assert (said.argmax(1) == label).float().mean() > 0.95
    # Each class of the prior is used as often as the others: the entropy of the mean is ln 3.
    mean = said.mean(0)
    assert -(mean * mean.log()).sum().item() == pytest.approx(math.log(3), abs=0.02)


def test_the_adversary_makes_the_codes_of_a_ring_the_prior() -> None:
    turn = torch.linspace(0, 2 * math.pi, 241)[:-1]
    points = 4 * torch.stack([turn.cos(), turn.sin(), (2 * turn).sin()], 1)
    widths = {}
    for rate in (0.1, 0.0):
        torch.manual_seed(1)
        game = AAE(PointSpec(3), width=32, latent_dim=2, prior_std=1.0, init_std=0.0, adversarial_lr=rate)
        trained(game, Stream(from_arrays(points.numpy()), Points, seed=0, device=CPU), 250)
        with torch.no_grad():
            widths[rate] = torch.linalg.eigvalsh(torch.cov(game.encode(points).T))
    assert widths[0.1].max() < 4
    assert widths[0.1].min() > 0.1
    assert widths[0.0].max() > 10
