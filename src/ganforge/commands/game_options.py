"""A game's hyper-parameters as options: names, types and defaults are its signature's, help is its docstring's. There is no second list."""

from __future__ import annotations

import difflib
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from docstring_parser import parse as parse_docstring

from ganforge.batches import ImageSpec, Points, Spec
from ganforge.data import Reading, open_source
from ganforge.errors import RequestError
from ganforge.game import Game, Preset, hyper_parameters, reads
from ganforge.options import as_arguments, names_of, parse, read_config, value_after

C = TypeVar("C")


def help_of(game: type[Game]) -> dict[str, str]:
    """What the `Args:` of the class's docstring say of each hyper-parameter."""
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parse_docstring(game.__doc__ or "").params}


def options_of(game: type[Game]) -> type:
    """A dataclass with a field per hyper-parameter, for `parse`."""
    helps = help_of(game)
    made: list[tuple[str, Any, Any]] = []
    for name, parameter in hyper_parameters(game).items():
        if parameter.default is parameter.empty:
            raise RequestError(f"{game.__qualname__}.__init__: {name} needs a default, the paper's")
        made.append((name, Annotated[parameter.annotation, tyro.conf.arg(help=helps.get(name, ""))], field(default=parameter.default)))
    return make_dataclass("Game", made)


def parse_with_game(
    common: type[C], game: type[Game], arguments: list[str], command: str, about: str, stored: dict[str, Any] | None = None
) -> tuple[C, dict[str, Any]]:
    """The common options and the game's hyper-parameters, from the preset, the stored run, the config file and the command line.

    Later ones win, in that order; the game's own way of reading comes before them all. RequestError for whatever does not fit.
    """
    own = options_of(game)
    both = make_dataclass("Options", [("common", common, field(default_factory=common)), ("game", own, field(default_factory=own))])
    _refuse_clashes(game, names_of(common), names_of(own))
    before = as_arguments({name: value for name, value in game.reading.items() if name != "size" and name in names_of(both)})
    preset = value_after(arguments, "--preset")
    if preset is not None and preset != "None":
        # A preset also speaks of options that this command may not have, such as the batch size.
        known = names_of(both)
        before += as_arguments({name: value for name, value in _preset(game, preset).options.items() if name in known})
    before += as_arguments(stored or {})
    config = value_after(arguments, "--config")
    if config is not None and config != "None":
        before += read_config(Path(config), both, command)
    parsed: Any = parse(both, before + arguments, command, about)
    return parsed.common, {name: getattr(parsed.game, name) for name in names_of(own)}


def spec_for(game: type[Game], data: str | None, reading: Reading) -> Spec:
    """The data specification to build a game for: that of `data`, or pictures as the game likes them, or the game's own points."""
    usual = game.reading.get("size", 64)
    if data is not None:
        return open_source(data, kinds=reads(game), reading=reading, usual_size=usual).spec
    kinds = [kind for kind in reads(game) if kind is not Points]
    if not kinds:
        return open_source(game.source).spec
    known: dict[str, Any] = {
        "label": {"classes": tuple(str(number) for number in range(10))},
        "attribute": {"attributes": tuple(f"attribute {number}" for number in range(5))},
        "text": {"text": reading.text_dim},
        "low": {"factor": reading.factor},
    }
    of_kind = {key: value for each in fields(kinds[0]) if each.name in known for key, value in known[each.name].items()}
    height, width = reading.shape() or (usual, usual)
    return ImageSpec(height, width, reading.channels or 3, **of_kind)


def _preset(game: type[Game], name: str) -> Preset:
    if name not in game.presets:
        near = difflib.get_close_matches(name, game.presets, n=1)
        raise RequestError(
            f"--preset {name}: unknown; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(game.presets) or 'none'}")
        )
    return game.presets[name]


def _refuse_clashes(game: type[Game], common: list[str], own: list[str]) -> None:
    clash = sorted(set(common) & set(own))
    if clash:
        raise RequestError(
            f"{game.__qualname__}.__init__: {clash[0]} is an option of the command already; give the hyper-parameter another name"
        )
