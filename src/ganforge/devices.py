"""Where tensors live."""

from __future__ import annotations

import torch

from ganforge.errors import RequestError


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU, or the CPU. RequestError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RequestError(
            f"--device {name}: not usable here ({str(error).splitlines()[0][:120]}); give cpu, cuda, cuda:1 or mps"
        ) from None
    return device
