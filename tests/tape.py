"""A recorder of rounds for a machine without a GPU: it does with the processor what stream capture and a CUDA graph do."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

HOST = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "lift_fresh"})
"""Where the host would wait for the device: for a number, a shape that depends on one, or a copy of numbers that lie in Python."""

INDEXING = {"index", "index_put", "index_put_", "_unsafe_index"}


def any_mask(indices: Any) -> bool:
    """How many elements a mask picks is known to the device alone."""
    return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(indices))


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class Recording(TorchDispatchMode):
    """Takes down each operation, below autograd and autocast, with the memory that it reads and writes."""

    def __init__(self, refused: Set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refused = refused
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[tuple[Tensor, bool]]]] = []
        self.found: dict[int, tuple[UntypedStorage, UntypedStorage]] = {}
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        if func.overloadpacket.__name__ in self.refused or (func.overloadpacket.__name__ in INDEXING and any_mask(args[1])):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in tensors_in((args, kwargs)):
            if key(tensor) not in self.made and key(tensor) not in self.found:
                self.found[key(tensor)] = (tensor.untyped_storage(), tensor.untyped_storage().clone())
        places = tree_map_only(Tensor, lambda tensor: tensor.detach(), (args, kwargs))
        results = func(*args, **kwargs)
        outputs = []
        for tensor in tensors_in(results):
            fresh = key(tensor) not in self.made and key(tensor) not in self.found
            outputs.append((tensor.detach(), fresh))
            if fresh:
                self.made[key(tensor)] = tensor.detach()
        self.calls.append((func, *places, outputs))
        return results

    def undo(self) -> None:
        """What stood before is as it was; what was made is there, but nothing was computed."""
        for storage, before in self.found.values():
            storage.copy_(before)
        for tensor in self.made.values():
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self.calls:
                results = tensors_in(func(*args, **kwargs))
                for (place, fresh), result in zip(outputs, results, strict=True):
                    if fresh:
                        assert (place.shape, place.dtype) == (result.shape, result.dtype)
                        place.copy_(result)


class Tape:
    """A Recorder; `recordings` are what it has taken down, `replays` counts how often each was replayed."""

    def __init__(self, refused: Set[str] = HOST) -> None:
        self.refused = refused
        self.recordings: list[Recording] = []
        self.replays: list[int] = []

    def rehearse(self, run: Callable[[], None]) -> None:
        run()

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        recording, number, noise = Recording(self.refused), len(self.recordings), torch.get_rng_state()
        with recording:
            run()
        recording.undo()
        torch.set_rng_state(noise)
        self.recordings.append(recording)
        self.replays.append(0)

        def replay() -> None:
            self.replays[number] += 1
            recording.replay()

        return replay
