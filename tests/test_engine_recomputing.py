from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.parametrizations import spectral_norm
from variants import Variant, variants

from ganforge.engine.compiling import compile_networks
from ganforge.engine.recomputing import recompute_networks
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.penalties import gradient_penalty


def deep(layers: int = 16, width: int = 8) -> nn.Sequential:
    return nn.Sequential(*itertools.chain.from_iterable((nn.Linear(width, width), nn.Tanh()) for _ in range(layers // 2)))


def game_of(network: nn.Module) -> Game:
    game = Game()
    game.network = network
    return game


def twins(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The network as it is, and an equal one that recomputes."""
    game = game_of(copy.deepcopy(network))
    recompute_networks(game)
    recomputing = game.network
    assert isinstance(recomputing, nn.Module)
    return network, recomputing


def assert_same_gradients(plain: nn.Module, recomputing: nn.Module) -> None:
    for (name, a), b in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        assert torch.equal(a.grad, b.grad), name


def kept(network: nn.Module, x: Tensor) -> int:
    """The bytes, parameters aside, that are held between forward and backward."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    stored: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            stored[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x)
    return sum(tensor.untyped_storage().nbytes() for tensor in stored.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", [v for v in variants() if v.preset == "tiny"], ids=str)
def test_a_game_plays_the_same_rounds_bit_for_bit(variant: Variant, precision: str) -> None:
    plain, recomputing = variant.trainer(precision=precision), variant.trainer(precision=precision)
    try:
        recompute_networks(recomputing.game)
    except RequestError as error:
        pytest.skip(str(error))
    drawn = []
    for trainer in (plain, recomputing):
        torch.manual_seed(3)
        for _ in range(3):
            trainer.play_round()
        drawn.append(torch.get_rng_state())
    assert torch.equal(*drawn)
    assert plain.ledger.read() == recomputing.ledger.read()
    for (name, a), b in zip(plain.game.state_dict().items(), recomputing.game.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("layers", [4, 9, 16, 30])
def test_of_n_equal_layers_about_the_root_of_n_are_kept(layers: int) -> None:
    sequence = nn.Sequential(*(nn.Tanh() for _ in range(layers - 1)), nn.Linear(8, 8))
    plain, recomputing = twins(sequence)
    x = torch.randn(32, 8, requires_grad=True)
    one = x.untyped_storage().nbytes()
    # A tanh keeps its output, the linear layer its input, which is the last tanh's output.
    assert kept(plain, x) == (layers - 1) * one
    assert kept(recomputing, x) == round(layers**0.5) * one


def test_the_gradients_are_the_same_when_a_network_is_used_twice_in_a_move() -> None:
    plain, recomputing = twins(nn.Sequential(deep(), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 1)))
    for network in (plain, recomputing):
        torch.manual_seed(1)
        loss = network(torch.randn(6, 8)).square().mean() - network(torch.randn(6, 8)).mean()
        loss.backward(inputs=list(network.parameters()))
    assert_same_gradients(plain, recomputing)


def test_a_graph_can_be_walked_twice() -> None:
    plain, recomputing = twins(nn.Sequential(deep(), nn.BatchNorm1d(8), nn.Dropout(0.3), spectral_norm(nn.Linear(8, 8)), nn.ReLU()))
    for network in (plain, recomputing):
        torch.manual_seed(1)
        scores = network(torch.randn(6, 8))
        parameters = list(network.parameters())
        scores.square().mean().backward(inputs=parameters, retain_graph=True)
        scores.mean().backward(inputs=parameters)
    assert_same_gradients(plain, recomputing)


def test_running_statistics_move_once_and_the_repetition_changes_no_random_number() -> None:
    first, norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
    game = game_of(nn.Sequential(first, norm, nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)))
    recompute_networks(game)
    x = torch.randn(64, 8)
    scores = game.network(x)  # type: ignore[operator]
    drawn = torch.get_rng_state()
    scores.sum().backward()
    assert torch.equal(drawn, torch.get_rng_state())
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * first(x).mean(0))


def test_a_layer_that_iterates_on_its_buffers_does_so_once_and_repeats_what_it_did() -> None:
    plain, recomputing = twins(nn.Sequential(*(spectral_norm(nn.Linear(8, 8)) for _ in range(4)), nn.Tanh(), nn.Linear(8, 1)))
    for network in (plain, recomputing):
        torch.manual_seed(2)
        (network(torch.randn(5, 8)).square().sum() + network(torch.randn(5, 8)).sum()).backward()
    assert_same_gradients(plain, recomputing)
    for (name, a), b in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_penalty_can_be_taken_of_a_network_that_recomputes() -> None:
    plain, recomputing = twins(nn.Sequential(deep(), nn.Flatten(0)))
    for network in (plain, recomputing):
        torch.manual_seed(1)
        real, fake = torch.randn(2, 4, 8)
        (network(real).mean() + gradient_penalty(network, real, fake)).backward()
    assert_same_gradients(plain, recomputing)


class Skipping(nn.Module):
    """A sequence beside a short cut, within a module with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = deep(), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(x + self.body(x))
        return y


def test_a_sequence_within_a_network_is_cut_and_the_networks_own_forward_stays_plain() -> None:
    plain, recomputing = twins(Skipping())
    x = torch.randn(4, 8, requires_grad=True)
    assert kept(recomputing, x) < kept(plain, x)
    assert kept(nn.Sequential(), x) == 0

    class Plainly(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.network.forward(x)
            return y

    assert kept(Plainly(recomputing), x) == kept(plain, x)


def test_hooks_of_the_network_run_once_a_call_and_act() -> None:
    _, network = twins(deep())
    calls: list[str] = []

    def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        calls.append("before")
        return 2 * inputs[0]

    network.register_forward_pre_hook(before)
    network.register_forward_hook(lambda *_: calls.append("after"))
    x = torch.randn(3, 8)
    y = network(x)
    y.sum().backward()
    assert calls == ["before", "after"]
    assert torch.equal(y, network.forward(2 * x))


def test_a_copy_of_a_network_that_recomputes_is_plain() -> None:
    plain, recomputing = twins(deep())
    x = torch.randn(4, 8)
    assert kept(copy.deepcopy(recomputing), x) == kept(plain, x) > kept(recomputing, x)
    assert list(recomputing.state_dict()) == list(plain.state_dict())


def test_without_gradients_nothing_is_kept_and_the_samples_are_the_same() -> None:
    plain, recomputing = twins(nn.Sequential(deep(), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)))
    x = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), recomputing.eval()(x))
        assert kept(recomputing, x) == 0


def test_a_game_without_a_sequence_to_cut_is_refused() -> None:
    with pytest.raises(RequestError, match=r"--recompute: no network of Game has an nn\.Sequential of 4"):
        recompute_networks(game_of(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))))


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_game_is_refused() -> None:
    game = game_of(deep())
    compile_networks(game, print, backend="eager")
    with pytest.raises(RequestError, match="--recompute with --compile"):
        recompute_networks(game)
