"""The run folder: what is where in it, and the record from which its game can be built again.

run.json               game, hyper-parameters, data, settings, versions, command
metrics.jsonl          one line per logged round
state.json, run.lock   status and progress; a lock that the operating system frees when its trainer dies
samples/000500.png     fixed latents through time
checkpoints/000500/    game.safetensors and trainer.pt
game.safetensors       the (averaged) weights for use
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy
import torch

from ganforge import __version__, zoo
from ganforge.batches import Spec, spec_from_json, spec_to_json
from ganforge.errors import RequestError
from ganforge.files import write_json
from ganforge.game import Game, registered_name

G = TypeVar("G", bound=Game)


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
        """Reads it; RequestError where the file is missing or is no such record."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**stored, "spec": spec_from_json(stored["spec"])})
        except FileNotFoundError:
            raise RequestError(
                f"{path.parent}: not a run folder (it has no {path.name}); give the folder that `ganforge train` wrote"
            ) from None
        except (OSError, TypeError, KeyError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RequestError(f"{path}: not a record of a run ({error})") from None

    def build(self, game: type[Game] | None = None) -> Game:
        """A new game as recorded, with fresh weights. A game that is not in the zoo must be given as a class."""
        if game is None and "." in self.game:
            raise RequestError(
                f"the run's game {self.game} is not in the zoo; give its class, e.g. ganforge.load(run, {self.game.split('.')[-1]})"
            )
        return build(game or zoo.find(self.game), self.spec, from_json(self.hyper))


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
    try:
        built: G = game(spec, **hyper)
        for name, player in built.players().items():
            if not sum(parameter.numel() for parameter in player.parameters()):
                raise RequestError(f"{game_name(game)}: the {name} has no parameters with {hyper}; give it some width")
            player.optimiser(player.parameters())
    except RequestError:
        raise
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise RequestError(f"{game_name(game)} cannot be built for {spec} with {hyper}: {' '.join(str(error).split())}") from error
    return built


def game_name(game: type[Game]) -> str:
    """Its name in the zoo, or `module.Class` for a game of one's own."""
    return registered_name(game) or f"{game.__module__}.{game.__qualname__}"


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
