"""`--compile`: the networks of a game are compiled in place, and the game need not know.

A network is called as before: its hooks run as they are, around its compiled forward. `network.forward` stays eager, and so does what is
drawn `eager`ly between rounds. Only calls change; parameters, names, copies and files of a game do not.

The price: a compiled backward computes all gradients of a network at once, so also those of a discriminator's weights when only the
generator moves. Where kernels are long, as on a CPU, that is more than what compiling saves.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ganforge.game import Game

Forward = Callable[..., Any]
Backend = str | Callable[..., Any]


def networks(game: Game) -> dict[str, nn.Module]:
    """The networks of a game by name: its direct children, or those of its lists and dictionaries, that have parameters and a forward.

    Of a network that is a part of another one only the whole counts.
    """
    found = dict(_candidates(game))
    parts = {part for network in found.values() for part in network.modules() if part is not network}
    return {name: network for name, network in found.items() if network not in parts}


def _candidates(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if type(child).forward is nn.Module.forward:
            yield from ((f"{name}.{inner}", network) for inner, network in _candidates(child))
        elif any(True for _ in child.parameters()):
            yield name, child


@contextmanager
def forward_replaced(replacements: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Within the block these modules, when called, run another forward; their hooks run around it."""
    # In the instance's dictionary, where it comes before the class's method. Not by setattr, which is slow on modules.
    before = {module: vars(module).get("forward") for module in replacements}
    for module, forward in replacements.items():
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = own


class CompiledNetwork:
    """How a compiled network is called, until something of it cannot be compiled: then `say` gets one line and it is eager for good."""

    def __init__(self, name: str, network: nn.Module, say: Callable[[str], None], backend: Backend) -> None:
        self._name, self._network, self._say, self._backend = name, network, say, backend
        self._forward: Forward = network.forward
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the network gives."""
        with forward_replaced({self._network: self._compiled_forward}):
            return self._network._call_impl(*args, **kwargs)

    def _compiled_forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.whole(_answer, *args, **kwargs)

    def whole(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`function(network.forward, *args, **kwargs)`, compiled with the network in it: what a penalty, a fixed function, asks for."""
        if function not in self._compiled:
            self._compiled[function] = _compile(function, self._forward, self._backend)
        try:
            return self._compiled[function](*args, **kwargs)
        except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
            # Nothing has run yet: a graph is compiled as a whole, with its backward, before it is run for the first time.
            reason = getattr(error, "inner_exception", error)
            line = next(iter(str(reason).strip().splitlines()), "no reason given")
            self._say(f"--compile: {self._name} stays eager ({type(reason).__name__}: {line})")
            self._network._compiled_call_impl = None
        return function(self._forward, *args, **kwargs)


def compile_networks(game: Game, say: Callable[[str], None], backend: Backend = "inductor") -> None:
    """Compiles each network of the game in place; what that costs, minutes perhaps, is paid when it is first called.

    Shapes are static: each new one is compiled anew. A network that cannot be compiled whole is named by a line to `say` and stays eager.
    The results are those of the eager network to rounding, the random numbers the same. Call it when the game is on its device.
    """
    _prepare_torch()
    for name, network in networks(game).items():
        # Torch's own slot for a compiled call, which copies and pickles of a module leave behind.
        network._compiled_call_impl = CompiledNetwork(name, network, say, backend)


def _prepare_torch() -> None:
    # Phases of growing pictures have more shapes than the 8 that torch allows; a simultaneous move runs the backward of one graph twice.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    torch._functorch.config.donated_buffer = False
    # The one line about a failure is ours. Torch's tracer also warns of its own doings, and stumbles over that if warnings are errors.
    if "TORCH_LOGS" not in os.environ:
        torch._logging._internal.set_logs(all=logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|subclasses)")


@contextmanager
def eager(game: Game) -> Iterator[None]:
    """Within the block no network of the game runs compiled: pictures drawn now and then are not worth compiling for."""
    compiled = {module: module._compiled_call_impl for module in game.modules() if module._compiled_call_impl is not None}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


def _answer(forward: Forward, *args: Any, **kwargs: Any) -> Any:
    return forward(*args, **kwargs)


def _compile(function: Callable[..., Any], forward: Forward, backend: Backend) -> Callable[..., Any]:
    # A frame of our own: given a bare nn.Sequential, whose forward is torch's own code, dynamo would silently compile nothing.
    def traced(*args: Any, **kwargs: Any) -> Any:
        return function(forward, *args, **kwargs)

    def compiler(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        # The backward too, or one that cannot be compiled would end the run in the midst of a move.
        whole = torch._functorch.config.patch(force_non_lazy_backward_lowering=True)
        # Dropout draws what eager dropout draws.
        faithful = torch._inductor.config.patch(fallback_random=True)
        with whole, faithful, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch._dynamo.lookup_backend(backend)(graph, inputs)

    return torch.compile(traced, backend=compiler, fullgraph=True, dynamic=False)
