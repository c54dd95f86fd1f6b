"""The doctor's visit: a run as its last checkpoint has it, looked at, and played on for a few rounds that are then forgotten."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import torch

from ganforge.batches import KINDS
from ganforge.data import Source, Stream
from ganforge.devices import choose_device
from ganforge.diagnosis import Course
from ganforge.engine.checkpoint import read_checkpoint
from ganforge.engine.ledger import NotFiniteError
from ganforge.engine.settings import Settings
from ganforge.engine.trainer import Trainer
from ganforge.engine.training import choose_kind
from ganforge.engine.watching import Watch
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.runs import RunFolder, RunRecord

_ROUNDS = 3


def examined(run: Path, game: type[Game] | None, source: Source, device: str = "cpu") -> Course:
    """What is known of a run (the folder is only read): its metrics, a look at its last checkpoint, and the gradients of 3 more rounds.

    `source` is what it was trained on; a game that is not in the zoo is built from the class given. RequestError where there is no run.
    """
    folder = RunFolder(run)
    record = RunRecord.read(folder.record)
    rows = [row for row in folder.metric_rows() if isinstance(row.get("round"), int)]
    failure = _failure(folder)
    checkpoints = folder.checkpoints()
    if not checkpoints and not failure:
        raise RequestError(
            f"{run}: has no checkpoint yet to look at; the first is written after some minutes, or with --checkpoint-every 100"
        )
    kept = {field.name: record.settings[field.name] for field in fields(Settings) if field.name in record.settings}
    settings = Settings(**{**kept, "log_every": 1, "device": device, "compile": False, "cuda_graph": False})
    place = choose_device(device)
    built = record.build(game)
    kind = KINDS.get(record.data.get("kind", "")) or choose_kind(type(built), source)
    trainer = Trainer(built, Stream(source, kind, seed=settings.seed, device=place), settings, place)
    watch = Watch(trainer)
    if checkpoints:
        trainer.load(read_checkpoint(checkpoints[-1], built))
        now = {"round": trainer.round, **watch.look()}
        with suppress(NotFiniteError), torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            for _ in range(_ROUNDS):
                trainer.play_round()
            now |= trainer.ledger.read()
        # What was seen then counts before what is seen of it now: an earlier look is behind it.
        then = next((row for row in rows if row["round"] == now["round"]), {})
        rows = [*(row for row in rows if row["round"] < now["round"]), now | then]
    return watch.course(rows, failure)


def _failure(folder: RunFolder) -> str:
    with suppress(OSError, ValueError, KeyError):
        state = json.loads(folder.state.read_text(encoding="utf-8"))
        return str(state["message"]) if state["status"] == "failed" else ""
    return ""
