from __future__ import annotations

import copy
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule
from variants import Variant, variants

from ganforge.engine.checkpoint import read_checkpoint, write_checkpoint
from ganforge.engine.compiling import compile_networks, eager, networks
from ganforge.game import Game
from ganforge.penalties import gradient_penalty


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that notes the graphs it is given and runs them as they were traced, forward and backward."""

    def __init__(self, then: str = "aot_eager") -> None:
        self.graphs: list[GraphModule] = []
        self.then = torch._dynamo.lookup_backend(then)

    def __call__(self, graph: GraphModule, inputs: list[Any]) -> Any:
        self.graphs.append(graph)
        return self.then(graph, inputs)


def silence(line: str) -> None:
    raise AssertionError(f"nothing was to be said: {line}")


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def game_of(**parts: nn.Module) -> Any:
    game = Game()
    for name, part in parts.items():
        setattr(game, name, part)
    return game


def compiled(network: nn.Module, backend: Callable[..., Any] | str, say: Callable[[str], None] = silence) -> Any:
    """A copy of the network, compiled as the only one of a game."""
    game = game_of(network=copy.deepcopy(network))
    compile_networks(game, say, backend)
    return game.network


def test_the_networks_of_a_game_are_its_children_with_parameters_and_a_forward() -> None:
    trunk = small()
    game = game_of(
        generator=small(),
        discriminators=nn.ModuleDict({"a": small(), "b": nn.ModuleList([small()])}),
        trunk=trunk,
        head=nn.Sequential(trunk, nn.Linear(1, 1)),
        shape=nn.Flatten(),
    )
    assert list(networks(game)) == ["generator", "discriminators.a", "discriminators.b.0", "head"]


def test_a_bare_sequence_is_compiled_once_and_gives_the_eager_numbers() -> None:
    plain, backend = small(), Counting()
    network = compiled(plain, backend)
    assert backend.graphs == []
    for _ in range(3):
        x = torch.randn(4, 3)
        torch.testing.assert_close(network(x), plain(x))
    assert len(backend.graphs) == 1
    network(x).square().sum().backward()
    plain(x).square().sum().backward()
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_its_forward_stays_eager() -> None:
    backend = Counting()
    network = compiled(small(), backend)
    network.forward(torch.randn(4, 3))
    assert backend.graphs == []


def test_each_shape_is_compiled_for_itself_and_more_than_eight_of_them() -> None:
    backend = Counting("eager")
    network = compiled(nn.Linear(2, 1), backend)
    for n in range(2, 14):
        network(torch.randn(n, 2))
    network(torch.randn(5, 2))
    assert len(backend.graphs) == 12


@pytest.mark.parametrize("order", ["before", "after", "in between"])
def test_hooks_act_on_a_compiled_network_whenever_they_came(order: str) -> None:
    network = small()
    x = torch.randn(4, 3)
    expected = network(2 * x) + 1

    def register(to: nn.Module) -> None:
        to.register_forward_pre_hook(lambda _module, inputs: 2 * inputs[0])
        to.register_forward_hook(lambda _module, _inputs, y: y + 1)

    if order == "before":
        register(network)
    game, backend = game_of(network=network), Counting()
    compile_networks(game, silence, backend)
    if order == "in between":
        game.network(x)
    if order != "before":
        register(network)
    torch.testing.assert_close(game.network(x), expected)
    assert len(backend.graphs) == 1
    # Hooks are not traced: what they do may be anything.
    assert not any("mul" in str(node.target) for node in backend.graphs[0].graph.nodes)


def test_copies_and_state_are_those_of_the_plain_network() -> None:
    plain, backend = small(), Counting()
    network = compiled(plain, backend)
    x = torch.randn(4, 3)
    network(x)
    assert list(network.state_dict()) == list(plain.state_dict())
    stored = io.BytesIO()
    torch.save(network, stored)
    stored.seek(0)
    other = torch.randn(7, 3)
    for made in (copy.deepcopy(network), torch.load(stored, weights_only=False)):
        torch.testing.assert_close(made(other), plain(other))
    assert len(backend.graphs) == 1


def test_what_is_drawn_eagerly_compiles_nothing() -> None:
    backend = Counting()
    network = small()
    game = game_of(network=network)
    compile_networks(game, silence, backend)
    with suppress(ZeroDivisionError), eager(game):
        network(torch.randn(64, 3))
        raise ZeroDivisionError
    assert backend.graphs == []
    network(torch.randn(4, 3))
    assert len(backend.graphs) == 1


class Deciding(nn.Module):
    """Reads a value on its way, which no single graph can do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y if y.sum().item() > 0 else 2 * y


def test_a_network_that_cannot_be_traced_stays_eager_with_one_line_and_the_others_are_compiled() -> None:
    said: list[str] = []
    backend = Counting()
    game = game_of(good=small(), bad=Deciding())
    plain = copy.deepcopy(game.bad)
    compile_networks(game, said.append, backend)
    for _ in range(2):
        x = torch.randn(5, 3)
        game.good(x)
        game.bad(x).sum().backward()
        plain(x).sum().backward()
    assert len(backend.graphs) == 1
    assert torch.equal(game.bad.linear.weight.grad, plain.linear.weight.grad)
    (line,) = said
    assert line.startswith("--compile: bad stays eager (")
    assert "\n" not in line


def refuses(*_: Any) -> Any:
    raise ValueError("no such instruction\nand a long explanation")


@pytest.mark.parametrize("backend", [refuses, aot_autograd(fw_compiler=lambda graph, _inputs: graph, bw_compiler=refuses)])
def test_a_compiler_that_fails_also_at_the_backward_is_noticed_before_anything_has_run(backend: Callable[..., Any]) -> None:
    said: list[str] = []
    plain = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    network = compiled(plain, backend, said.append)
    for _ in range(2):
        x = torch.randn(5, 3)
        network(x).sum().backward()
        plain(x).sum().backward()
    assert said == ["--compile: network stays eager (ValueError: no such instruction)"]
    for a, b in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_an_error_of_the_network_itself_is_raised_as_it_is() -> None:
    network = compiled(small(), "aot_eager", lambda line: None)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.randn(4, 5))


def test_it_runs_under_autocast() -> None:
    plain, backend = small(), Counting()
    network = compiled(plain, backend)
    x = torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = network(x), plain(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(network(x), plain(x))
    assert len(backend.graphs) == 2


def test_a_penalty_is_compiled_with_the_network_whose_hooks_it_passes_by() -> None:
    plain, backend = nn.Sequential(small(), nn.Tanh(), nn.Flatten(0)), Counting()
    network = compiled(plain, backend)
    network.register_forward_pre_hook(lambda _module, inputs: 5 * inputs[0])
    real, fake = torch.randn(2, 6, 3)
    penalties = []
    for critic in (plain, network):
        torch.manual_seed(4)
        penalties.append(gradient_penalty(critic, real, fake))
        penalties[-1].backward()
    assert len(backend.graphs) == 1
    torch.testing.assert_close(*penalties)
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        # The slopes do not depend on biases behind which all is linear: eager autograd then says nothing, the compiler 0.
        torch.testing.assert_close(torch.zeros_like(a) if a.grad is None else a.grad, torch.zeros_like(b) if b.grad is None else b.grad)


@pytest.mark.parametrize("variant", list({v.name: v for v in variants() if v.preset == "tiny"}.values()), ids=str)
def test_a_game_plays_to_the_eager_losses_and_resumes_bit_for_bit(variant: Variant, tmp_path: Path) -> None:
    plain, whole = variant.trainer(), variant.trainer()
    backend = Counting()
    compile_networks(whole.game, silence, backend)
    for trainer in (plain, whole):
        torch.manual_seed(3)
        for number in range(3):
            if number == 1 and trainer is whole:
                write_checkpoint(tmp_path / "1", trainer.game, trainer.state())
            trainer.play_round()
    assert len(backend.graphs) >= len(networks(whole.game))
    expected = plain.ledger.read()
    assert whole.ledger.read() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    resumed = variant.trainer(variant.build(seed=99))
    compile_networks(resumed.game, silence, backend)
    resumed.load(read_checkpoint(tmp_path / "1", resumed.game))
    for _ in range(2):
        resumed.play_round()
    for (name, a), b in zip(whole.game.state_dict().items(), resumed.game.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="Inductor needs a C++ compiler, and there is none")
def test_inductor_gives_the_eager_numbers_and_draws_the_eager_dropout() -> None:
    plain = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(8, 1))
    network = compiled(plain, "inductor")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for each in (plain, network):
        torch.manual_seed(6)
        each(torch.randn(4, 3)).square().sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
