"""GANs as their papers write them: Algorithm 1 is the program.

Names are imported when they are first used, so that `ganforge --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from ganforge import use
    from ganforge.batches import Images, ImageSpec, Labelled, Points, PointSpec
    from ganforge.data import from_arrays, open_source
    from ganforge.engine import Settings, train
    from ganforge.game import Game, Move, Phase, Player, Preset, register
    from ganforge.use.load import load

_homes = {
    "ganforge.batches": ("ImageSpec", "Images", "Labelled", "PointSpec", "Points"),
    "ganforge.data": ("from_arrays", "open_source"),
    "ganforge.engine": ("Settings", "train"),
    "ganforge.game": ("Game", "Move", "Phase", "Player", "Preset", "register"),
    "ganforge.use.load": ("load",),
}
_home_of = {name: home for home, names in _homes.items() for name in names}

__all__ = [
    "Game",
    "ImageSpec",
    "Images",
    "Labelled",
    "Move",
    "Phase",
    "Player",
    "PointSpec",
    "Points",
    "Preset",
    "Settings",
    "from_arrays",
    "load",
    "open_source",
    "register",
    "train",
    "use",
]


def __getattr__(name: str) -> Any:
    if name == "use":
        return import_module("ganforge.use")
    if name in _home_of:
        return getattr(import_module(_home_of[name]), name)
    raise AttributeError(f"module 'ganforge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
