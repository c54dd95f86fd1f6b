"""`train`: from a game's class and a source of data to a run folder. All that can be refused is refused before anything is written."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from ganforge.batches import Batch, ImageSpec, Labelled
from ganforge.data import Finite, Source, Stream, open_source
from ganforge.devices import choose_device
from ganforge.engine.checkpoint import read_checkpoint
from ganforge.engine.report import Report
from ganforge.engine.session import Session
from ganforge.engine.settings import FIXED_ON_RESUME, Settings
from ganforge.engine.trainer import Trainer
from ganforge.errors import RequestError
from ganforge.files import write_json
from ganforge.game import Game, hyper_parameters, reads
from ganforge.runs import RunFolder, RunRecord, build, game_name, to_json, versions
from ganforge.weights import load_weights

G = TypeVar("G", bound=Game)


def train(
    game: type[G],
    data: str | Source,
    settings: Settings | None = None,
    *,
    out: str | Path,
    hyper: Mapping[str, Any] | None = None,
    size: int | None = None,
    channels: int | None = None,
    workers: int = 0,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    note: str = "",
) -> G:
    """Trains a game and returns it as its users get it: averaged weights, evaluation mode.

    `data` is a SOURCE of the command line or an opened source; `hyper` are keyword arguments of the game. With `resume` the run in `out`
    goes on at its last checkpoint; without it a folder that holds a run is refused, unless `overwrite`. `note` is a line for the user,
    printed when all has been accepted.
    Raises RequestError for what cannot be done, TrainingError where the game fails, Interrupted after Ctrl-C.
    """
    settings = settings or Settings()
    resolved = _with_defaults(game, dict(hyper or {}))
    folder = RunFolder(Path(out))
    if isinstance(data, str):
        source = open_source(data, size=size, channels=channels, labels=Labelled in reads(game), workers=workers, strict=strict)
    else:
        source = data
    kind = choose_kind(game, source)
    device = choose_device(settings.device)
    record = RunRecord(
        game=game_name(game),
        hyper=to_json(resolved),
        spec=source.spec,
        data={"source": source.name, "size": size, "channels": channels, "count": source.count if isinstance(source, Finite) else None},
        settings=asdict(settings),
        versions=versions(),
        command=command or " ".join(sys.argv),
    )
    if resume and overwrite:
        raise RequestError("--resume goes on, --overwrite begins anew; give one of them")
    if resume:
        _check_resumable(folder, record)
    elif folder.holds_run() and not overwrite:
        raise RequestError(
            f"{folder.path} holds a run already; --resume goes on with it, --overwrite begins anew, --out chooses another folder"
        )

    with _determinism(settings.deterministic):
        torch.manual_seed(settings.seed)
        built = build(game, source.spec, resolved)
        trainer = Trainer(built, Stream(source, kind, seed=settings.seed, device=device), settings, device)
        with _holding(folder):
            if resume:
                trainer.load(read_checkpoint(folder.checkpoints()[-1], built))
            elif overwrite:
                _clear(folder)
            record.write(folder.record)
            unit = "images" if isinstance(source.spec, ImageSpec) else "points"
            with Report(folder, unit=unit, rounds=trainer.rounds, start=trainer.round) as report:
                if note:
                    report.say(note)
                Session(trainer, folder, source, report).run()
    load_weights(built, folder.weights)
    return built.eval()


def _with_defaults(game: type[Game], hyper: dict[str, Any]) -> dict[str, Any]:
    """Every hyper-parameter of the game with the value it gets, so that the run's record does not depend on today's defaults."""
    known = hyper_parameters(game)
    unknown = next((name for name in hyper if name not in known), None)
    if unknown is not None:
        raise RequestError(f"{game_name(game)} has no hyper-parameter {unknown!r}; it has {', '.join(known) or 'none'}")
    return {name: hyper.get(name, parameter.default) for name, parameter in known.items()}


def choose_kind(game: type[Game], source: Source) -> type[Batch]:
    """The batch type that the game likes best among those that the source has."""
    wanted = reads(game)
    for kind in wanted:
        if kind in source.kinds:
            return kind
    can, has = " or ".join(k.__name__ for k in wanted), ", ".join(k.__name__ for k in source.kinds)
    raise RequestError(f"--data {source.name}: {game_name(game)} reads {can}; this source has {has}")


def _check_resumable(folder: RunFolder, asked: RunRecord) -> None:
    stored = RunRecord.read(folder.record)
    if stored.game != asked.game:
        raise RequestError(f"{folder.path}: holds a run of {stored.game}, not of {asked.game}; give another --out")
    if stored.spec != asked.spec:
        raise RequestError(f"{folder.path}: was trained on {stored.spec}; the data given are {asked.spec}")
    pairs = [(key, stored.hyper.get(key), asked.hyper.get(key)) for key in stored.hyper | asked.hyper]
    pairs += [(key, stored.settings.get(key), asked.settings.get(key)) for key in sorted(FIXED_ON_RESUME)]
    pairs += [("data", stored.data["source"], asked.data["source"])]
    if stored.data["count"] != asked.data["count"]:
        raise RequestError(
            f"{folder.path}: was trained on {stored.data['count']} samples; {asked.data['source']} has {asked.data['count']} now"
        )
    for key, was, now in pairs:
        if was != now:
            raise RequestError(f"{folder.path}: was begun with --{key.replace('_', '-')} {was}; to resume it cannot become {now}")
    if not folder.checkpoints():
        raise RequestError(f"{folder.path}: there is no checkpoint to resume from; begin anew with --overwrite")


@contextmanager
def _holding(folder: RunFolder) -> Iterator[None]:
    """Keeps other trainers out of the folder; the operating system frees the lock when this process ends, however it ends."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / f".writable-{os.getpid()}", {})
        (folder.path / f".writable-{os.getpid()}").unlink()
        lock = FileLock(folder.lock, timeout=0)
        lock.acquire()
    except Timeout:
        raise RequestError(f"{folder.path}: another process trains here; wait for it, or give another --out") from None
    except OSError as error:
        raise RequestError(f"--out {folder.path}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _determinism(asked: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if asked:
        # cuBLAS reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not asked
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def _clear(folder: RunFolder) -> None:
    """Removes the old run's own files and nothing else; the lock stays, it is held."""
    for path in (folder.path / "checkpoints", folder.path / "samples", folder.path / "tensorboard"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (folder.record, folder.metrics, folder.state, folder.weights, folder.curves, folder.animation):
        path.unlink(missing_ok=True)
