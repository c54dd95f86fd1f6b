"""From a run folder to a game that is ready for use."""

from __future__ import annotations

from pathlib import Path

from ganforge.batches import Spec
from ganforge.devices import choose_device
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.runs import RunFolder, RunRecord
from ganforge.weights import load_weights


def load(run: str | Path, game: type[Game] | None = None, device: str = "cpu") -> Game:
    """The trained game of a run folder: averaged weights, evaluation mode, gradients off. Its methods may be called from several threads.

    A game that is not in the zoo is built from the class given. RequestError where the folder is no run or its files are broken.
    """
    folder = _run(run)
    built = RunRecord.read(folder.record).build(game)
    load_weights(built, folder.weights)
    return built.to(choose_device(device)).eval().requires_grad_(False)


def spec_of(run: str | Path) -> Spec:
    """What the game of a run folder was made for: the size and the channels of its pictures, the names of its classes."""
    return RunRecord.read(_run(run).record).spec


def _run(run: str | Path) -> RunFolder:
    folder = RunFolder(Path(run))
    if not folder.path.is_dir():
        raise RequestError(f"{folder.path}: there is no such run folder")
    return folder
