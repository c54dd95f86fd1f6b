"""The run folder: what is where in it, and the record from which its game can be built again.

run.json               game, hyper-parameters, data, settings, versions, command
metrics.jsonl          one line per logged round
state.json, run.lock   status and progress; a lock that the operating system frees when its trainer dies
samples/000500.png     fixed latents through time
checkpoints/000500/    game.safetensors and trainer.pt
game.safetensors       the (averaged) weights for use
best/                  run.json and game.safetensors of when it scored best
evaluation.json        what `ganforge evaluate` found last; evaluations/ has all that was measured
directions.safetensors what `ganforge directions` has learnt of its latents
"""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import numpy
import torch

from ganforge import __version__, zoo
from ganforge.batches import KINDS, Spec, brief, described, fits, spec_from_json, spec_to_json
from ganforge.errors import RequestError
from ganforge.files import write_json
from ganforge.game import Game, hyper_parameters, registered_name

G = TypeVar("G", bound=Game)
_LONGEST_RECORD = 4 * 2**20  # bytes of a JSON file; a thousand classes take a hundredth of it


@dataclass
class RunRecord:
    """What `run.json` holds: enough to build the game, and to know how it was trained."""

    game: str
    hyper: dict[str, Any]
    spec: Spec
    data: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    command: str
    outcome: dict[str, float] = field(default_factory=dict)
    """What the run came to, once it has ended: rounds, seconds of training, peak_mib of memory."""

    def write(self, path: Path) -> None:
        """Writes it, atomically."""
        write_json(path, {**asdict(self), "spec": spec_to_json(self.spec)})

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Reads it; RequestError where the file is missing or is no such record: a stranger may have written it."""
        if not path.exists():
            raise RequestError(f"{path.parent}: not a run folder (it has no {path.name}); give the folder that `ganforge train` wrote")
        stored = read_json(path)
        if not isinstance(stored, dict):
            raise RequestError(f"{path}: not a record of a run ({brief(stored)}); that is an object with the field game and others")
        known = get_type_hints(cls) | {"spec": dict[str, Any]}
        for entry in fields(cls):
            if entry.name not in stored and entry.default_factory is MISSING:
                raise RequestError(f"{path}: not a record of a run ({entry.name} is missing)")
        for name, value in stored.items():
            if name not in known:
                raise RequestError(f"{path}: this ganforge knows no field {brief(name)}; a newer one may have written it")
            if not fits(value, known[name]):
                raise RequestError(f"{path}: {name} = {brief(value)}: must be {described(known[name])}")
        for name in ("data", "settings"):
            for key, value in stored[name].items():
                if not isinstance(value, str | int | float | None):
                    raise RequestError(f"{path}: {name}: {brief(key)} = {brief(value)}: must be a word, a number, true, false or null")
        for key, wanted in (("source", str), ("kind", Literal[*KINDS])):
            value = stored["data"].get(key, "")
            if key in stored["data"] and not fits(value, wanted):
                raise RequestError(f"{path}: data: {key} = {brief(value)}: must be {described(wanted)}")
        try:
            return cls(**{**stored, "spec": spec_from_json(stored["spec"])})
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from None

    def build(self, game: type[Game] | None = None) -> Game:
        """A new game as recorded, with fresh weights. A game that is not in the zoo must be given as a class.

        Its players are not asked for, since some read files for it that only training needs. RequestError where a hyper-parameter is
        unknown or of another type, and where the game refuses the values.
        """
        if game is None and "." in self.game:
            cls = brief(self.game.rpartition(".")[2]).strip("'")
            raise RequestError(f"the run's game {brief(self.game)} is not in the zoo; give its class, e.g. ganforge.load(run, {cls})")
        listed, game = game is None, game or zoo.find(self.game[:100])
        known = hyper_parameters(game)
        for name, value in self.hyper.items():
            if name not in known:
                raise RequestError(f"{game_name(game)} has no hyper-parameter {brief(name)}; it has {', '.join(known) or 'none'}")
            # What a class of one's own says of its types may be less than what it takes.
            if listed and not fits(value, known[name].annotation):
                raise RequestError(
                    f"{game_name(game)}: hyper-parameter {name} = {brief(value)}: must be {described(known[name].annotation)}"
                )
        return _built(game, self.spec, from_json(self.hyper))


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run folder."""

    path: Path

    @property
    def record(self) -> Path:
        """run.json."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """state.json."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """run.lock."""
        return self.path / "run.lock"

    @property
    def weights(self) -> Path:
        """game.safetensors."""
        return self.path / "game.safetensors"

    @property
    def text(self) -> Path:
        """text.safetensors, where captions are read: what makes vectors of them."""
        return self.path / "text.safetensors"

    @property
    def directions(self) -> Path:
        """directions.safetensors, where directions of the latent were learnt."""
        return self.path / "directions.safetensors"

    @property
    def best(self) -> Path:
        """The run as it was when it scored best: a folder that is a run itself."""
        return self.path / "best"

    @property
    def evaluation(self) -> Path:
        """evaluation.json, the last one that `ganforge evaluate` wrote here."""
        return self.path / "evaluation.json"

    @property
    def evaluations(self) -> Path:
        """A folder of all that was measured, by how it was."""
        return self.path / "evaluations"

    @property
    def curves(self) -> Path:
        """The picture of losses and scores."""
        return self.path / "curves.png"

    @property
    def animation(self) -> Path:
        """The fixed latents through time."""
        return self.path / "progress.gif"

    def sample(self, round: int) -> Path:
        """The picture of the fixed latents at this round."""
        return self.path / "samples" / f"{round:06d}.png"

    def samples(self) -> list[Path]:
        """All such pictures, in the order of rounds."""
        return sorted((self.path / "samples").glob("[0-9]*.png"), key=_round_of)

    def checkpoint(self, round: int) -> Path:
        """The folder of this round's checkpoint."""
        return self.path / "checkpoints" / f"{round:06d}"

    def checkpoints(self) -> list[Path]:
        """All whole checkpoints, the newest last."""
        return sorted((path for path in (self.path / "checkpoints").glob("[0-9]*") if path.is_dir()), key=_round_of)

    def metric_rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line torn by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return self.record.exists()


def _round_of(path: Path) -> int:
    """By number: from a million rounds on the names have seven digits."""
    return int(path.stem)


def build(game: type[G], spec: Spec, hyper: dict[str, Any]) -> G:
    """The game with its players' optimisers tried once, so that a learning rate or a width that torch refuses is a wrong request."""
    built = _built(game, spec, hyper)
    try:
        for name, player in built.players().items():
            if not sum(parameter.numel() for parameter in player.parameters()):
                raise RequestError(f"{game_name(game)}: the {name} has no parameters with {hyper}; give it some width")
            player.optimiser(player.parameters())
    except RequestError:
        raise
    except _REFUSALS as error:
        raise _refused(game, spec, hyper, error) from error
    return built


_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What games and torch raise at values that make no network."""


def _built(game: type[G], spec: Spec, hyper: dict[str, Any]) -> G:
    try:
        return game(spec, **hyper)
    except RequestError:
        raise
    except _REFUSALS as error:
        raise _refused(game, spec, hyper, error) from error


def _refused(game: type[Game], spec: Spec, hyper: dict[str, Any], error: BaseException) -> RequestError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return RequestError(f"{game_name(game)} cannot be built for {spec} with {str(hyper)[:1000]}: {reason[:500]}")


def game_name(game: type[Game]) -> str:
    """Its name in the zoo, or `module.Class` for a game of one's own."""
    return registered_name(game) or f"{game.__module__}.{game.__qualname__}"


def read_json(path: Path) -> Any:
    """What a JSON file holds, which a stranger may have written; RequestError in one line where it is none.

    Refused, too, are files of more than 4 MiB, before they are read, what is no regular file (a pipe would keep the reader waiting), two
    fields of one name, and NaN.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LONGEST_RECORD:
            what = f"{about.st_size} bytes, more than {_LONGEST_RECORD}" if stat.S_ISREG(about.st_mode) else "not a regular file"
            raise RequestError(f"{path}: not read ({what})")
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once, parse_constant=_number)
    except RequestError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not JSON that can be read ({str(error)[:200]})") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {brief(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def _number(text: str) -> float:
    # Infinity may be meant: no limit.
    if text == "NaN":
        raise ValueError("NaN is not a number")
    return float(text)


def to_json(value: Any) -> Any:
    """Tuples become lists, as JSON has no tuples."""
    return json.loads(json.dumps(value))


def from_json(hyper: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples again: hyper-parameters have no lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in hyper.items()}


def versions() -> dict[str, str]:
    """Of what made the run."""
    return {
        "ganforge": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "python": sys.version.split()[0],
        "threads": str(torch.get_num_threads()),
    }
