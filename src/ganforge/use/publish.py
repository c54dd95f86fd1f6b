"""A trained run as a folder for others: what use needs, what a stranger wants to know, and nothing of the machine that made it."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import torch

from ganforge.data.text import load_encoder
from ganforge.errors import RequestError
from ganforge.files import atomic_write, write_json
from ganforge.game import Game
from ganforge.runs import RunFolder, RunRecord, read_json
from ganforge.use.card import card
from ganforge.use.images import as_picture, read_pixels, write_picture
from ganforge.use.load import folder_of, load
from ganforge.weights import save_weights

PICTURE = "samples.png"
_EVALUATION, _CARD, _ATTRIBUTES = "evaluation.json", "README.md", ".gitattributes"
# Last what makes a run of a folder: one that a kill left in between is none.
_FILES = ("game.safetensors", "text.safetensors", _EVALUATION, PICTURE, _CARD, _ATTRIBUTES, "run.json")
_OTHERS = (".git", ".cache")  # what a clone, and an upload that was broken off, leave in the folder
_LARGE = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"
_PLACED = re.compile(r"(?<![\w:/\\.~])(?:[A-Za-z]:[\\/]|\\\\|/|~[\w.-]*[\\/]|\.{1,2}[\\/])[^\s'\"<>|,;()\[\]]+")


def publish(
    run: str | Path, folder: str | Path, picture: Path | None = None, game: type[Game] | None = None, force: bool = False
) -> list[Path]:
    """Writes the run for others into `folder`, which `ganforge.load` reads and `hf upload` takes; returns its files.

    They are the weights, the record and the scores without paths and command lines, a card (README.md), and `picture`, or else the
    run's last. A game that is not in the zoo is built from the class given. RequestError where the run cannot be loaded, the folder holds
    other files, or without `force` these.
    """
    source, target = folder_of(run), Path(folder)
    there = _there(target, force)
    built, record = load(run, game), RunRecord.read(source.record)
    bare = _Bare(record, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, under its name, as the card says the name: an error, or a kill, leaves the folder as it was.
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=target.parent) as beside:
        made = RunFolder(Path(beside) / target.resolve().name)
        made.path.mkdir()
        save_weights(built, made.weights)
        bare.record().write(made.record)
        _write_text(made.path / _ATTRIBUTES, _LARGE)
        if source.text.exists():
            _publish_encoder(source.text, made.text)
        if (source.path / _EVALUATION).exists():
            write_json(made.path / _EVALUATION, bare.of(read_json(source.path / _EVALUATION)))
        shown = picture or next(reversed(source.samples()), None)
        if shown is not None:
            # Drawn anew: a file's bytes may be anything, and hold anything.
            write_picture(as_picture(torch.tensor(read_pixels(shown, None)).permute(2, 0, 1)), made.path / PICTURE)
        _write_text(made.path / _CARD, bare.text(card(made.path, game, picture=PICTURE if shown else None)))
        target.mkdir(exist_ok=True)
        written = [name for name in _FILES if (made.path / name).exists()]
        for name in written:
            (made.path / name).replace(target / name)
        for name in there - set(written):
            (target / name).unlink()
    return [target / name for name in written]


def _there(folder: Path, force: bool) -> set[str]:
    """The files of an earlier publication; RequestError where there are some and no `force`, or any others."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder}: is a file; give a folder")
    names = {path.name for path in folder.iterdir()} - set(_OTHERS) if folder.exists() else set()
    other = min(names - set(_FILES), default=None)
    if other is not None:
        raise RequestError(f"{folder}: holds {other!r}, which is none of the files that are published; give a new folder")
    if names and not force:
        raise RequestError(f"{folder}: holds {min(names)} already; --force writes it anew")
    return names


class _Bare:
    """What is told of a run, without the places and the names of the machine that made it: of a path its last part stays."""

    def __init__(self, record: RunRecord, run: RunFolder) -> None:
        self._record = record
        # Paths with spaces, and such as begin nowhere, are known from where they stand alone.
        told = {str(run.path), str(run.path.resolve())}
        for value in (*record.data.values(), *record.hyper.values()):
            told |= {value, *value.split(",")} if isinstance(value, str) else set()
        self._known = sorted((text for text in told if _alone(text) != text), key=len, reverse=True)

    def record(self) -> RunRecord:
        """The record, without the command line and the cache."""
        data = {key: _alone(value) if isinstance(value, str) else value for key, value in self._record.data.items()}
        hyper = {key: _alone(value) if isinstance(value, str) else value for key, value in self._record.hyper.items()}
        data |= {"cache": None} if "cache" in data else {}
        return replace(self._record, hyper=hyper, data=data, settings=self.of(self._record.settings), command="")

    def of(self, value: Any) -> Any:
        """The same JSON with bare texts."""
        if isinstance(value, dict):
            return {self.text(key): self.of(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.of(each) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Sentences in which paths may stand."""
        for path in self._known:
            text = text.replace(path, _alone(path))
        return _PLACED.sub(lambda found: _last(found[0]), text)


def _alone(text: str) -> str:
    """A path, or several with commas, each without its folders; names of the hub (hub:OWNER/NAME, hf:OWNER/NAME) stay as they are."""
    return ",".join(_without_folders(part) for part in text.split(","))


def _without_folders(text: str) -> str:
    scheme, colon, name = text.partition(":") if text.startswith(("hub:", "hf:")) else ("", "", text)
    return text if colon and not _is_placed(name) else scheme + colon + _last(name)


def _is_placed(name: str) -> bool:
    """Whether a model's or a data set's name is a place on this machine."""
    return _PLACED.match(name) is not None or Path(name).expanduser().exists()


def _last(path: str) -> str:
    # Both kinds of slashes divide there, whatever machine this is.
    return PureWindowsPath(path).name or path


def _publish_encoder(stored: Path, path: Path) -> None:
    encoder = load_encoder(stored)
    name = encoder.name.removeprefix("hf:")
    if encoder.name != name and _is_placed(name):
        raise RequestError(f"{stored}: captions are read by {name}, a model of this machine; publish it first, and train by its hf:NAME")
    encoder.save(path)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
