"""The weights of a game as a safetensors file: nothing is ever unpickled, and nothing read before it is known to fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganforge.errors import RequestError
from ganforge.files import atomic_write

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each entry."""
_LONGEST_HEADER = 16 * 2**20  # bytes; the library reads six times as much, and a thousand entries take a hundredth of it


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


def shapes_of(path: Path) -> Shapes:
    """The entries of a safetensors file, by its header alone; RequestError where the file is missing, broken or something else."""
    if not path.exists():
        raise RequestError(f"{path}: missing; the run has not come to its first checkpoint")
    if not path.is_file():
        raise RequestError(f"{path}: not a regular file")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise RequestError(f"{path}: not a whole safetensors file (its header would have {length} bytes)")
        with safe_open(path, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118, no mapping
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path}: not a whole safetensors file ({error})") from None


def check_shapes(module: nn.Module, path: Path, stored: Shapes) -> None:
    """RequestError, which names an entry, where those of the file are not those of the module, which may be on the device meta."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name, shape in wanted.items():
        if name not in stored:
            raise RequestError(f"{path}: the weights are of another game: {name} {list(shape)} is missing")
        if stored[name] != shape:
            raise RequestError(f"{path}: the weights are of another game: {name} is {list(stored[name])}, and should be {list(shape)}")
    extra = next((name for name in stored if name not in wanted), None)
    if extra is not None:
        raise RequestError(f"{path}: the weights are of another game, which has no {extra[:200]!r}")


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote; RequestError where the file is missing, broken or of another game."""
    check_shapes(module, path, shapes_of(path))
    try:
        state = load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RequestError(f"{path}: not a whole safetensors file ({error})") from None
    for name, tensor in module.state_dict().items():
        if state[name].dtype != tensor.dtype:
            raise RequestError(f"{path}: the weights are of another game: {name} is {state[name].dtype}, and should be {tensor.dtype}")
    module.load_state_dict(state)


def check_finite(module: nn.Module, path: Path) -> None:
    """RequestError, which names an entry of the file, where a parameter is not finite or a buffer is not a number."""
    # A buffer may be infinite by intention, as the best score so far is before the first.
    broken = [name for name, tensor in module.named_parameters() if not tensor.isfinite().all()]
    broken += [name for name, tensor in module.named_buffers() if tensor.isnan().any()]
    if broken:
        raise RequestError(
            f"{path}: {broken[0]} holds numbers that are not finite: the run has diverged; use one of its earlier checkpoints"
        )


def _without_sharing(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors refuses two names for one memory (tied weights): the later name gets a copy."""
    seen: set[int] = set()
    for name, tensor in state.items():
        if tensor.data_ptr() in seen and tensor.numel():
            state[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return state
