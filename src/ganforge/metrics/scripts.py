"""Networks in TorchScript files, and what goes wrong with a file in a line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from ganforge.errors import RequestError


def open_script(path: Path, device: torch.device) -> tuple[Any, dict[str, bool]]:
    """The module of a TorchScript, on `device`, and the names of what it is called with: whether each may be left out.

    RequestError where the file is none. A TorchScript is a program, that may do what any may.
    """
    check_file(path)
    try:
        with warnings.catch_warnings():
            # torch would rather have its own successor of the format that the networks of the field are published in.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device).eval()
        return module, {argument.name: argument.has_default_value() for argument in module.forward.schema.arguments[1:]}
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        raise RequestError(f"{path}: is no TorchScript file ({last_line(error)}); write one with torch.jit.trace(...).save(...)") from None


def check_file(path: Path) -> None:
    """RequestError where there is no file, or an empty one."""
    if not path.is_file() or not path.stat().st_size:
        what = "there is no such file" if not path.exists() else "is a folder, not a file" if path.is_dir() else "is an empty file"
        raise RequestError(f"{path}: {what}")


def last_line(error: Exception) -> str:
    """What an error says at its end, below any listing of code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
