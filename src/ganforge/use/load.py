"""From a run folder to a game that is ready for use. The folder may be a stranger's: nothing in it is run, nor believed before it fits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ganforge.batches import Spec
from ganforge.devices import choose_device
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.seeds import seeded
from ganforge.weights import Shapes, check_finite, check_shapes, load_weights, shapes_of

HUB = "hub:"
"""What a RUN begins with that is a repository of the Hugging Face hub."""
USED = ("run.json", "game.safetensors", "text.safetensors")
"""The files of a run folder that use reads."""
_PLENTY = 10**6
_ENDLESS = "its hyper-parameters ask for many more layers than game.safetensors has"


def load(run: str | Path, game: type[Game] | None = None, device: str = "cpu") -> Game:
    """The trained game of a run folder: averaged weights, evaluation mode, gradients off. Its methods may be called from several threads.

    `run` may also be hub:OWNER/NAME, a folder that `publish` made and that lies on the Hugging Face hub. A game that is not in the zoo is
    built from the class given. RequestError where the folder is no run, its files are broken, or the weights do not fit or have diverged.
    """
    folder = folder_of(run)
    record, on = RunRecord.read(folder.record), choose_device(device)
    stored = shapes_of(folder.weights)
    _check_plan(record, game, folder, stored)
    # Torch's random state belongs to the process, and another thread may be drawing from it.
    with seeded(0):
        built = _built(record, game, stored)
    load_weights(built, folder.weights)
    check_finite(built, folder.weights)
    return built.to(on).eval().requires_grad_(False)


def spec_of(run: str | Path) -> Spec:
    """What the game of a run folder was made for: the size and the channels of its pictures, the names of its classes."""
    return RunRecord.read(folder_of(run).record).spec


def folder_of(run: str | Path) -> RunFolder:
    """The folder of a run, fetched first where it is hub:OWNER/NAME; RequestError where there is none."""
    folder = RunFolder(_fetched(str(run).removeprefix(HUB)) if str(run).startswith(HUB) else Path(run))
    if not folder.path.is_dir():
        raise RequestError(f"{folder.path}: there is no such run folder")
    return folder


def _fetched(name: str) -> Path:
    """The files of a repository of the hub that use reads, and no others."""
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError:
        raise RequestError(f"{HUB}{name}: needs the extra `hub`: pip install 'ganforge[hub]'") from None
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(USED)))
    except Exception as error:  # Of the network, of the name, of the disk: there is no common base for them.
        raise RequestError(f"{HUB}{name}: cannot be fetched ({str(error).strip().partition(chr(10))[0]})") from None


def _built(record: RunRecord, game: type[Game] | None, stored: Shapes) -> Game:
    """The game as recorded. A class of one's own may make some of its networks only when it is asked for its players."""
    built = record.build(game)
    if game is not None and stored.keys() - built.state_dict().keys():
        built.players()
    return built


def _check_plan(record: RunRecord, game: type[Game] | None, folder: RunFolder, stored: Shapes) -> None:
    """Builds the game without memory for it, and compares: what hyper-parameters ask for must be what the file has."""
    # First with a bound on numbers, as 2 ** layers alone takes minutes; a number of rounds may be beyond it, and no network's size is.
    bounded = {name: min(value, _PLENTY) if isinstance(value, int) else value for name, value in record.hyper.items()}
    for each in [replace(record, hyper=bounded)] * (bounded != record.hyper) + [record]:
        try:
            with torch.device("meta"), _Sketch(1000 + 100 * len(stored)), nullcontext() if game else _few_lines(5000 + 100 * len(stored)):
                plan = _built(each, game, stored)
        except Exception as error:
            refused = isinstance(error, RequestError) and error.__cause__ is None
            # A class of one's own may look at its numbers, which there are none of here; it is trusted.
            if game is not None and not refused:
                return
            raise (RequestError(f"{folder.record}: {error}") if isinstance(error, RequestError) else error) from error
        check_shapes(plan, folder.weights, stored)


class _Sketch(TorchFunctionMode):
    """Counts what is asked of torch, as a billion layers would never end; and leaves out what on meta would import torch's compiler."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise RequestError(_ENDLESS)
        kwargs = kwargs or {}
        if func is torch.Tensor.normal_ or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        # Numbers that the game itself writes down are few, and may be reckoned with.
        return func(*args, **({"device": "cpu"} | kwargs if func is torch.tensor else kwargs))


@contextmanager
def _few_lines(most: int) -> Iterator[None]:
    """RequestError where more lines of ganforge are run, in this thread: a list of a billion names asks nothing of torch."""
    left, before = most, sys.gettrace()

    def count(frame: FrameType, _event: str, _arg: object) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith("ganforge."):
            return None
        left -= 1
        if left < 0:
            raise RequestError(_ENDLESS)
        return count

    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)
