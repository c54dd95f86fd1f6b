"""How much memory a run has needed."""

from __future__ import annotations

import sys

import torch


def peak_memory(device: torch.device) -> float:
    """The most that this process has held so far, in MiB: on a GPU what its tensors held there, elsewhere the resident memory.

    0 on Windows, which has no such count.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource

    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
