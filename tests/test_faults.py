"""What breaks around a run: bytes that flip, disks that fill, clocks that jump, folders that vanish."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.tensorboard.writer import SummaryWriter

import ganforge
from ganforge import pictures, zoo
from ganforge.data import Reading
from ganforge.engine import Settings, Trainer, session, train
from ganforge.engine.checkpoint import DamagedError, read_checkpoint, write_checkpoint
from ganforge.errors import RequestError, TrainingError
from ganforge.files import write_json
from ganforge.runs import RunRecord

GAME = zoo.find("gan-1d")


def settings(rounds: int, **more: Any) -> Settings:
    return Settings(**{"rounds": rounds, "checkpoint_every": "10", "log_every": 10, "sample_every": 1000, **more})


def played(out: Path, rounds: int, **more: Any) -> bytes:
    train(GAME, "gaussian", settings(rounds), out=out, **more)
    return (out / "game.safetensors").read_bytes()


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["game.safetensors", "trainer.pt", "sha256.json"])
def test_a_flipped_byte_is_found_and_the_checkpoint_before_it_leads_to_the_same_weights(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = played(tmp_path / "whole", 50)
    played(tmp_path / "run", 30)
    flip_a_byte(tmp_path / "run" / "checkpoints" / "000030" / name)
    capsys.readouterr()
    assert played(tmp_path / "run", 50, resume=True) == whole
    said = capsys.readouterr().err
    assert "000030" in said
    assert "damaged" in said
    assert "going on from the checkpoint before it" in said
    assert (tmp_path / "run" / "checkpoints" / "damaged-000030").is_dir()
    assert (tmp_path / "run" / "checkpoints" / "000030").is_dir(), "written anew when the run came there again"


def test_where_every_checkpoint_is_damaged_the_run_is_refused(tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
        (checkpoint / "trainer.pt").unlink()
    with pytest.raises(RequestError, match="no checkpoint is whole; begin anew with --overwrite"):
        played(tmp_path / "run", 30, resume=True)


@pytest.mark.parametrize("state", [[1], {}, {"round": "x", "cursor": 0, "seats": {}}, {"round": 1, "cursor": 0, "seats": [1]}])
def test_a_state_that_is_none_is_damage_even_with_the_right_checksum(state: Any, tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    newest = tmp_path / "run" / "checkpoints" / "000020"
    torch.save(state, newest / "trainer.pt")
    (newest / "sha256.json").unlink()
    game = zoo.find("gan-1d")(ganforge.open_source("gaussian").spec)
    with pytest.raises(DamagedError, match=r"trainer\.pt: not a whole trainer state"):
        read_checkpoint(newest, game)


@pytest.mark.parametrize("sums", ['{"/dev/zero": "0"}', '["game.safetensors"]', "[" * 100_000, '{"game.safetensors": "0"}'])
def test_a_list_of_checksums_is_never_followed_out_of_the_checkpoint(sums: str, tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    newest = tmp_path / "run" / "checkpoints" / "000020"
    (newest / "sha256.json").write_text(sums)
    with pytest.raises(DamagedError, match="damaged"):
        read_checkpoint(newest, zoo.find("gan-1d")(ganforge.open_source("gaussian").spec))


def test_a_recorded_way_of_reading_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(RequestError, match=r"jitter = 'a': must be int"):
        Reading.stored({"jitter": "a"})


def test_a_checkpoint_of_the_time_before_checksums_is_still_read(tmp_path: Path) -> None:
    whole = played(tmp_path / "whole", 40)
    played(tmp_path / "run", 20)
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
        (checkpoint / "sha256.json").unlink()
    assert played(tmp_path / "run", 40, resume=True) == whole


def full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_full_in_a_sample_is_said_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = played(tmp_path / "whole", 30)
    monkeypatch.setattr(pictures, "portrait", full)
    monkeypatch.setattr(pictures, "history", full)
    train(GAME, "gaussian", settings(30, sample_every=5), out=tmp_path / "run")
    assert (tmp_path / "run" / "game.safetensors").read_bytes() == whole
    said = capsys.readouterr().err
    assert said.count("the samples could not be written ([Errno 28] No space left on device); training goes on") == 1
    assert said.count("the curves could not be written") == 1


def test_a_log_that_cannot_be_written_does_not_fail_a_run_that_came_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = played(tmp_path / "whole", 30)
    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    monkeypatch.setattr(SummaryWriter, "close", full)
    assert played(tmp_path / "run", 30) == whole
    assert capsys.readouterr().err.count("metrics.jsonl could not be written") == 1
    monkeypatch.setattr(session, "write_checkpoint", full)
    with pytest.raises(TrainingError, match="the checkpoint could not be written"):
        played(tmp_path / "other", 30)


def test_a_kill_after_the_last_checkpoint_leaves_only_the_weights_for_use_to_be_written(tmp_path: Path) -> None:
    whole = played(tmp_path / "run", 30)
    weights = tmp_path / "run" / "game.safetensors"
    weights.write_bytes(b"of round 20")
    assert played(tmp_path / "run", 30, resume=True) == whole
    weights.unlink()
    assert played(tmp_path / "run", 30, resume=True) == whole


def test_what_a_killed_run_was_writing_is_removed_when_it_goes_on(tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    torn = [tmp_path / "run" / name for name in (".game.4711-1.safetensors", ".state.4711-1.json", "samples/.000020.4711-1.png")]
    mine = tmp_path / "run" / ".gitignore"
    for file in (*torn, mine):
        file.write_text("half")
    played(tmp_path / "run", 30, resume=True)
    assert [file for file in (*torn, mine) if file.exists()] == [mine]


def test_the_state_says_what_ended_a_run_also_where_the_game_itself_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_self: Trainer) -> Any:
        raise ZeroDivisionError("no samples")

    monkeypatch.setattr(Trainer, "play_round", breaks)
    with pytest.raises(ZeroDivisionError):
        played(tmp_path / "run", 30)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["status"], state["message"]) == ("failed", "ZeroDivisionError: no samples")


def test_a_disk_full_in_a_checkpoint_ends_the_run_and_names_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = played(tmp_path / "whole", 40)

    def fills(path: Path, *rest: Any) -> None:
        full() if path.name == "000030" else write_checkpoint(path, *rest)

    monkeypatch.setattr(session, "write_checkpoint", fills)
    with pytest.raises(TrainingError, match=r"round 30: the checkpoint could not be written.*last good checkpoint is .*000020"):
        played(tmp_path / "run", 40)
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    assert played(tmp_path / "run", 40, resume=True) == whole


def test_a_clock_that_goes_backwards_disturbs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = played(tmp_path / "whole", 30)
    hour = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(hour)))
    assert played(tmp_path / "run", 30) == whole
    assert [row["round"] for row in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())] == [1, 10, 20, 30]


def test_a_folder_of_pictures_that_vanishes_while_training_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, level in enumerate(np.linspace(0, 255, 12)):
        Image.new("L", (8, 8), int(level)).save(folder / f"{number}.png")
    game = zoo.find("dcgan")
    hyper = {"width": 4, "latent_dim": 4}

    def run(out: Path) -> bytes:
        train(game, str(folder), settings(12, batch_size=4), out=out, hyper=hyper, reading=Reading(size="8"))
        return (out / "game.safetensors").read_bytes()

    whole = run(tmp_path / "whole")
    play = Trainer.play_round

    def vanishing(self: Trainer) -> Any:
        if self.round == 6:
            shutil.rmtree(folder)
            shutil.rmtree(tmp_path / "cache")
        return play(self)

    monkeypatch.setattr(Trainer, "play_round", vanishing)
    assert run(tmp_path / "run") == whole
    with pytest.raises(RequestError, match="is neither a file or folder that exists"):
        run(tmp_path / "again")


def test_the_data_may_lie_elsewhere_but_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    for number, level in enumerate(np.linspace(0, 255, 12)):
        Image.new("L", (8, 8), int(level)).save(tmp_path / "here" / f"{number}.png")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)

    def run(folder: str, out: str, rounds: int, **more: Any) -> bytes:
        hyper = {"width": 4, "latent_dim": 4}
        options = settings(rounds, batch_size=4)
        train(zoo.find("dcgan"), str(tmp_path / folder), options, out=tmp_path / out, hyper=hyper, reading=Reading(size="8"), **more)
        return (tmp_path / out / "game.safetensors").read_bytes()

    whole = run("here", "whole", 20)
    run("here", "run", 10)
    assert run("there", "run", 20, resume=True) == whole
    Image.effect_noise((64, 64), 60).save(tmp_path / "there" / "3.png")
    with pytest.raises(RequestError, match="cannot become"):
        run("there", "whole", 30, resume=True)
    Image.effect_noise((64, 64), 60).save(tmp_path / "here" / "3.png")
    with pytest.raises(RequestError, match="has changed since"):
        run("here", "whole", 30, resume=True)


def test_a_run_folder_may_be_moved_and_resumed(tmp_path: Path) -> None:
    whole = played(tmp_path / "whole", 40)
    played(tmp_path / "here", 20)
    shutil.copytree(tmp_path / "here", tmp_path / "far" / "away")
    shutil.rmtree(tmp_path / "here")
    assert played(tmp_path / "far" / "away", 40, resume=True) == whole


def test_the_memory_that_a_run_needed_is_in_its_log_and_in_its_record(tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["peak_mib"] > 50 for row in rows), "torch alone takes more"
    outcome = RunRecord.read(tmp_path / "run" / "run.json").outcome
    assert outcome["peak_mib"] >= rows[-1]["peak_mib"]
    assert outcome["rounds"] == 20
    assert outcome["seconds"] > 0


def test_a_record_without_what_came_later_is_read(tmp_path: Path) -> None:
    played(tmp_path / "run", 20)
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    del stored["outcome"]
    for key in ("fit", "flip", "factor", "kind", "fingerprint"):
        del stored["data"][key]
    for key in ("attributes", "text", "factor"):
        stored["spec"].pop(key, None)
    for key in ("sync_batchnorm", "augment", "augment_policy", "recompute", "compile", "cuda_graph"):
        del stored["settings"][key]
    write_json(tmp_path / "run" / "run.json", stored)
    assert played(tmp_path / "run", 40, resume=True) == played(tmp_path / "whole", 40)


def test_a_system_that_cannot_flush_directories_is_not_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def as_windows(path: Path, flags: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "open", as_windows)
    write_json(tmp_path / "value.json", 1)
    monkeypatch.undo()
    assert json.loads((tmp_path / "value.json").read_text()) == 1


def test_whoever_may_read_other_files_may_read_a_runs(tmp_path: Path) -> None:
    played(tmp_path / "run", 10)
    (tmp_path / "other").touch()
    expected = (tmp_path / "other").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "run").rglob("*") if path.suffix in (".safetensors", ".json", ".pt")} == {expected}
