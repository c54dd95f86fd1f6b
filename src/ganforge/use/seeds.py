"""A seed names a result, whatever else the process draws."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ganforge.errors import RequestError

_CPU = torch.device("cpu")
# torch's random state belongs to the process: two threads that seed it at once would draw from each other's.
_ALONE = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """What is drawn within, on the CPU and on `device`, depends on `seed` alone; afterwards the random state is as it was.

    Threads wait for each other.
    """
    if not -(2**63) <= seed < 2**64:
        raise RequestError(f"--seed {seed}: must fit into 64 bits")
    with _ALONE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
