"""`--recompute`: less memory between forward and backward, about a third more time; the numbers stay the same.

Training Deep Nets with Sublinear Memory Cost. Chen, Xu, Zhang, Guestrin, 2016, arXiv:1604.06174: of a sequence of n layers only about
sqrt(n) activations are kept; backward computes the others again, a segment at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ganforge.engine.compiling import Forward, forward_replaced, networks
from ganforge.errors import RequestError
from ganforge.game import Game

SHORTEST = 4
"""Children of a sequence from which on it is cut: fewer make segments of one layer, of which nothing is left out."""


def recompute_networks(game: Game) -> None:
    """Lets each network of the game, in place, keep only the borders of the segments of its sequences.

    `network.forward` stays as it is, for penalties. RequestError where the networks are compiled (a compiler chooses by itself what to
    keep), or where none has a sequence of four layers or more.
    """
    found = [(network, _segmented(network)) for network in networks(game).values()]
    if any(network._compiled_call_impl is not None for network, _ in found):
        raise RequestError("--recompute with --compile: compiled networks choose by themselves what to keep; give one of the two")
    if not any(sequences for _, sequences in found):
        raise RequestError(f"--recompute: no network of {type(game).__name__} has an nn.Sequential of {SHORTEST} layers or more to cut")
    for network, sequences in found:
        if sequences:
            # Torch's slot for a compiled call: whoever calls the network comes by, and its copies are plain.
            network._compiled_call_impl = partial(_call, network, sequences)


def _call(network: nn.Module, sequences: dict[nn.Module, Forward], /, *args: Any, **kwargs: Any) -> Any:
    with forward_replaced(sequences):
        return network._call_impl(*args, **kwargs)


def _segmented(network: nn.Module) -> dict[nn.Module, Forward]:
    return {sequence: _in_segments(sequence) for sequence in _sequences(network)}


def _sequences(module: nn.Module) -> Iterator[nn.Sequential]:
    """The outermost sequences that are long enough."""
    if type(module) is nn.Sequential and len(module) >= SHORTEST:
        yield module
    else:
        for child in module.children():
            yield from _sequences(child)


def _in_segments(sequence: nn.Sequential) -> Forward:
    """The sequence's forward, of which only what passes between segments is kept."""
    length = math.ceil(len(sequence) / round(math.sqrt(len(sequence))))
    segments = [sequence[begin : begin + length] for begin in range(0, len(sequence), length)]

    def forward(x: Tensor) -> Any:
        for segment in segments:
            x = checkpoint(segment, x, use_reentrant=False, context_fn=partial(_twice, segment))
        return x

    return forward


def _twice(segment: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of a segment's forward and of its repetition."""
    return nullcontext(), _BuffersAsNow(segment)


class _BuffersAsNow:
    """Within it, on any number of entries, the module's buffers are what they are now; afterwards they are as if nothing had been.

    So what a layer does to its buffers (running statistics, power iterations) is done once, and its repetition finds what it found.
    """

    def __init__(self, module: nn.Module) -> None:
        self._owners = [inner for inner in module.modules() if inner._buffers]
        self._now = [{name: _copy(buffer) for name, buffer in owner._buffers.items()} for owner in self._owners]

    def __enter__(self) -> None:
        self._live = [dict(owner._buffers) for owner in self._owners]
        for owner, now in zip(self._owners, self._now, strict=True):
            owner._buffers.update({name: _copy(buffer) for name, buffer in now.items()})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for owner, live in zip(self._owners, self._live, strict=True):
            owner._buffers.update(live)


def _copy(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()
