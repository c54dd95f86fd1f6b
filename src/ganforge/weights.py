"""The weights of a game as a safetensors file: nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ganforge.errors import RequestError
from ganforge.files import atomic_write


def save_weights(module: nn.Module, path: Path) -> None:
    """Parameters and buffers as safetensors, atomically; OSError where they cannot be written.

    Memory formats do not matter: equal values give equal bytes.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_write(path) as temporary:
        try:
            save_file(_without_sharing(state), temporary)
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from None


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote; RequestError where the file is missing, broken or of another game."""
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing; the run has not come to its first checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path}: not a whole safetensors file ({error})") from None
    except RuntimeError as error:
        raise RequestError(f"{path}: the weights are of another game ({' '.join(str(error).split())[:300]})") from None


def _without_sharing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Safetensors refuses two names for one memory (tied weights): the later name gets a copy."""
    seen: set[int] = set()
    for name, tensor in state.items():
        if tensor.data_ptr() in seen and tensor.numel():
            state[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return state
