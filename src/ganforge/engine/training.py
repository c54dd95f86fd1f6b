"""`train`: from a game's class and a source of data to a run folder. All that can be refused is refused before anything is written."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from ganforge.batches import Batch, ImageSpec
from ganforge.data import Finite, Reading, Source, Stream, open_source
from ganforge.devices import choose_device
from ganforge.engine.checkpoint import read_newest
from ganforge.engine.ranks import joined, own_device, seeded
from ganforge.engine.report import Report, Silence
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
    reading: Reading | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    note: str = "",
) -> G:
    """Trains a game and returns it as its users get it: averaged weights, evaluation mode.

    `data` is a SOURCE of the command line, read as `reading` says (None: as the game likes it), or an opened source; `hyper` are keyword
    arguments of the game. With `resume` the run in `out` goes on at its last checkpoint; without it a folder that holds a run is refused,
    unless `overwrite`. `note` is a line for the user, printed when all has been accepted. Under a launcher such as torchrun every process
    calls it alike.
    Raises RequestError for what cannot be done, TrainingError where the game fails, Interrupted after Ctrl-C.
    """
    settings, folder = settings or Settings(), RunFolder(Path(out))
    usual = dict(game.reading)
    size = usual.pop("size", None)
    reading = reading or Reading(**usual)
    resolved = _with_defaults(game, dict(hyper or {}))
    if resume and overwrite:
        raise RequestError("--resume goes on, --overwrite begins anew; give one of them")
    device = own_device(choose_device(settings.device))
    with joined(device) as ranks, ExitStack() as held:
        with ranks.opening():
            source = open_source(data, kinds=reads(game), reading=reading, usual_size=size) if isinstance(data, str) else data
            kind = choose_kind(game, source)
            record = RunRecord(
                game=game_name(game),
                hyper=to_json(resolved),
                spec=source.spec,
                data={"source": source.name, "kind": kind.__name__, **asdict(reading), **_identity(source)},
                settings=asdict(settings),
                versions=versions() | {"ranks": str(ranks.world)},
                command=command or " ".join(sys.argv),
            )
            held.enter_context(_determinism(settings.deterministic))
            torch.manual_seed(settings.seed)
            built = build(game, source.spec, resolved)
            trainer = Trainer(built, Stream(source, kind, seed=settings.seed, device=device), settings, device, ranks)
        state, remarks = None, [*([note] if note else []), *built.notes()]
        with ranks.opening():
            if ranks.rank == 0:
                _check_folder(folder, record, resume, overwrite)
                held.enter_context(_holding(folder))
                if overwrite:
                    _clear(folder)
                if resume:
                    state = read_newest(folder.checkpoints(), built, remarks.append)
        state = ranks.shared(state)
        ranks.alike(built)
        if state is not None:
            trainer.load(state)
            were = len(state["ranks"]) if "ranks" in state else 1
            if were != ranks.world:
                remarks.append(f"the run came here with {were} ranks and goes on with {ranks.world}: from here on it is another run")
        elif ranks.rank:
            torch.manual_seed(seeded(settings.seed, ranks.rank))
        with _report(folder, source, trainer, record) as report:
            for remark in remarks:
                report.say(remark)
            trainer.listen(report.say)
            Session(trainer, folder, report).run()
        if ranks.rank == 0:
            load_weights(built, folder.weights)
        ranks.alike(built)
    return built.eval()


def _report(folder: RunFolder, source: Source, trainer: Trainer, record: RunRecord) -> Report:
    if trainer.ranks.rank:
        return Silence()
    record.write(folder.record)
    encoder = getattr(source, "encoder", None)
    if encoder is not None:
        encoder.save(folder.text)
    unit = "images" if isinstance(source.spec, ImageSpec) else "points"
    return Report(folder, unit=unit, rounds=trainer.rounds, start=trainer.round)


def _identity(source: Source) -> dict[str, Any]:
    """By what a resumed run knows its data again."""
    return {"count": source.count, "fingerprint": source.fingerprint} if isinstance(source, Finite) else {"count": None, "fingerprint": ""}


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


_MEANT = tuple(sorted({field.name for field in fields(Reading)} - {"size", "channels", "workers", "strict", "cache"}))
"""The ways of reading that make other batches; size and channels are compared as the specification that they come to."""


def _check_folder(folder: RunFolder, asked: RunRecord, resume: bool, overwrite: bool) -> None:
    if resume:
        _check_resumable(folder, asked)
    elif folder.holds_run() and not overwrite:
        raise RequestError(
            f"{folder.path} holds a run already; --resume goes on with it, --overwrite begins anew, --out chooses another folder"
        )


def _check_resumable(folder: RunFolder, asked: RunRecord) -> None:
    stored = RunRecord.read(folder.record)
    if stored.game != asked.game:
        raise RequestError(f"{folder.path}: holds a run of {stored.game}, not of {asked.game}; give another --out")
    if stored.spec != asked.spec:
        raise RequestError(f"{folder.path}: was trained on {stored.spec}; the data given are {asked.spec}")
    pairs = [(key, stored.hyper.get(key), asked.hyper.get(key)) for key in stored.hyper | asked.hyper]
    # What was no setting yet was as its default is.
    before = asdict(Settings()) | stored.settings
    pairs += [(key, before[key], asked.settings[key]) for key in sorted(FIXED_ON_RESUME)]
    known_again = asked.data["fingerprint"] and stored.data.get("fingerprint") == asked.data["fingerprint"]
    # The same data may lie elsewhere now.
    pairs += [] if known_again else [("data", stored.data["source"], asked.data["source"])]
    pairs += [(key, stored.data[key], asked.data[key]) for key in _MEANT if key in stored.data]
    if stored.data["count"] != asked.data["count"]:
        raise RequestError(
            f"{folder.path}: was trained on {stored.data['count']} samples; {asked.data['source']} has {asked.data['count']} now"
        )
    same_place = stored.data["source"] == asked.data["source"]
    if same_place and stored.data.get("fingerprint") and stored.data["fingerprint"] != asked.data["fingerprint"]:
        raise RequestError(
            f"{folder.path}: {asked.data['source']} has changed since (a file was edited, renamed or replaced); undo it, or begin anew"
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
        _sweep(folder)
        yield
    finally:
        lock.release()


def _sweep(folder: RunFolder) -> None:
    """Removes what a killed trainer was writing; checkpoints sweep for themselves."""
    for file in (folder.record, folder.weights, folder.state, folder.curves, folder.animation):
        for torn in file.parent.glob(f".{file.stem}.*{file.suffix}"):
            torn.unlink(missing_ok=True)
    for torn in folder.sample(0).parent.glob(".[0-9]*"):
        torn.unlink(missing_ok=True)


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
    for path in (folder.path / "checkpoints", folder.path / "samples", folder.path / "tensorboard", folder.best, folder.evaluations):
        shutil.rmtree(path, ignore_errors=True)
    learnt = (folder.weights, folder.text, folder.directions, folder.evaluation)
    for path in (folder.record, folder.metrics, folder.state, *learnt, folder.curves, folder.animation):
        path.unlink(missing_ok=True)
