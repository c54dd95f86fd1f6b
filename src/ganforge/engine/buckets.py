"""Gradients averaged over ranks in a few flat buckets, each sent as soon as it is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 25 * 2**20
"""Large enough that a message costs its bytes and not its start, small enough that the first leaves early."""


class Buckets:
    """The gradients of these parameters as flat buffers, the last parameters first, as backward comes to them first.

    With `overlap` a bucket is sent while backward still computes the others (a GPU has hardware to spare for it; a processor has not).
    Every rank must take the same moves: a parameter without a gradient here has none anywhere.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world: int, *, overlap: bool, size: int = BUCKET_BYTES) -> None:
        self._world = world
        self._buckets: list[_Bucket] = []
        held: list[nn.Parameter] = []
        for parameter in reversed(parameters):
            full = sum(p.numel() * p.element_size() for p in held) >= size
            if held and (full or held[0].dtype != parameter.dtype or held[0].device != parameter.device):
                self._buckets.append(_Bucket(held))
                held = []
            held.append(parameter)
        self._buckets.append(_Bucket(held))
        self._launched = 0
        self._launching = False
        if overlap:
            for bucket in self._buckets:
                for parameter in bucket.parameters:
                    parameter.register_post_accumulate_grad_hook(self._arrived(bucket))

    def _arrived(self, bucket: _Bucket) -> Callable[[Tensor], None]:
        def hook(_parameter: Tensor) -> None:
            if self._launching:
                bucket.arrived += 1
                self._launch_full()

        return hook

    def _launch_full(self) -> None:
        # In their order on every rank, or the messages of two ranks would not match.
        while self._launched < len(self._buckets) and self._buckets[self._launched].is_full():
            self._buckets[self._launched].launch()
            self._launched += 1

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Around the last backward of a move: what it accumulates is final."""
        self._launched = 0
        for bucket in self._buckets:
            bucket.arrived = 0
        self._launching = True
        try:
            yield
        finally:
            self._launching = False

    def finish(self) -> None:
        """Sends what is left, waits, and leaves the averages as the parameters' gradients."""
        for bucket in self._buckets[self._launched :]:
            bucket.launch()
        for bucket in self._buckets:
            bucket.finish(self._world)


class _Bucket:
    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.arrived = 0
        first = parameters[0]
        self._flat = torch.zeros(sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device)
        self._views: list[Tensor] = []
        offset = 0
        for parameter in parameters:
            # With the strides of the parameter (channels-last), so that a fused optimiser walks both alike.
            self._views.append(self._flat.as_strided(parameter.shape, torch.empty_like(parameter, device="meta").stride(), offset))
            offset += parameter.numel()
        self._work: dist.Work | None = None

    def is_full(self) -> bool:
        return self.arrived >= len(self.parameters)

    def launch(self) -> None:
        present = [(view, p.grad) for view, p in zip(self._views, self.parameters, strict=True) if p.grad is not None]
        if len(present) < len(self.parameters):
            self._flat.zero_()
        if present:
            torch._foreach_copy_([view for view, _ in present], [grad for _, grad in present])
        self._work = dist.all_reduce(self._flat, async_op=True)

    def finish(self, world: int) -> None:
        if self._work is not None:
            self._work.wait()
        self._work = None
        self._flat.div_(world)
        for view, parameter in zip(self._views, self.parameters, strict=True):
            if parameter.grad is not None:
                parameter.grad = view
