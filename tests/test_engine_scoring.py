"""Scores while a run trains, and the best that it has been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ganforge
from ganforge.cli import main
from ganforge.data import Reading
from ganforge.metrics import evaluate
from ganforge.runs import RunFolder

GAME = "train dcgan --preset tiny --data digits --channels 1 --size 8 --batch-size 8 --log-every 4 --checkpoint-every 6 --no-watch"
SCORES = "--evaluate-every 3 --evaluate-n 64 --evaluate-metrics fid,manifold --evaluate-features pixels"


def run(out: Path, *more: str) -> int:
    return main([*GAME.split(), *SCORES.split(), "--out", str(out), *more])


def scores(out: Path, name: str = "score/FID (pixels)") -> dict[int, float]:
    return {row["round"]: row[name] for row in RunFolder(out).metric_rows() if name in row}


def test_scores_are_logged_when_asked_for_and_are_those_of_evaluate(tmp_path: Path) -> None:
    assert run(tmp_path / "run", "--rounds", "7") == 0
    logged = scores(tmp_path / "run")
    assert list(logged) == [3, 6, 7]
    source = ganforge.open_source("digits", reading=Reading(size="8", channels=1))
    again = evaluate(ganforge.load(tmp_path / "run"), source, n=64, features="pixels", metrics=("fid",))
    assert logged[7] == pytest.approx(again["FID (pixels)"], rel=1e-5)


def test_the_best_is_kept_as_a_run_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "--rounds", "12", "--best", "coverage") == 0
    logged = scores(tmp_path / "run", "score/coverage")
    best = json.loads((tmp_path / "run" / "best" / "run.json").read_text())["outcome"]
    assert best["coverage"] == pytest.approx(max(logged.values()), abs=1e-3)
    assert best["rounds"] == min(number for number, value in logged.items() if value == max(logged.values()))
    assert f"round {best['rounds']}: the best so far, coverage" in capfd.readouterr().err
    assert main(["sample", str(tmp_path / "run" / "best"), "--n", "4", "--out", str(tmp_path / "best.png")]) == 0


def test_a_resumed_run_ends_in_the_same_best(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", "--rounds", "12") == 0
    assert run(tmp_path / "parts", "--rounds", "6") == 0
    assert run(tmp_path / "parts", "--rounds", "12", "--resume") == 0
    assert scores(tmp_path / "parts") == scores(tmp_path / "whole")
    weights = [(tmp_path / each / "best" / "game.safetensors").read_bytes() for each in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_scoring_changes_nothing_of_the_run(tmp_path: Path) -> None:
    assert run(tmp_path / "scored", "--rounds", "7") == 0
    assert main([*GAME.split(), "--rounds", "7", "--out", str(tmp_path / "alone")]) == 0
    weights = [(tmp_path / each / "game.safetensors").read_bytes() for each in ("scored", "alone")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "alone" / "best").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--best Fidelity", "--best Fidelity: no score is called so; there are"),
        ("--evaluate-metrics fidd", "no measure is called 'fidd'; did you mean fid?"),
        ("--evaluate-every 0", "--evaluate-every 0: must be at least 1"),
        ("--evaluate-features nowhere.onnx", "nowhere.onnx"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_round(
    words: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", "--rounds", "7", *words.split()) == 2
    assert said in capfd.readouterr().err
    assert not RunFolder(tmp_path / "run").metric_rows()


def test_a_new_run_in_the_same_folder_forgets_the_old_best(tmp_path: Path) -> None:
    assert run(tmp_path / "run", "--rounds", "6") == 0
    assert main([*GAME.split(), "--rounds", "6", "--overwrite", "--out", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / "best").exists()


def test_scores_do_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    words: list[Any] = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ganforge"]
    words += [*GAME.split(), *SCORES.split(), "--rounds", "3", "--out", str(tmp_path / "run")]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    job = subprocess.run(words, env=quiet, capture_output=True, text=True, timeout=120)
    assert job.returncode == 0, job.stderr[-3000:]
    words = ["evaluate", tmp_path / "run", "--n", 64, "--features", "pixels", "--metrics", "fid"]
    assert main([*map(str, words), "--out", str(tmp_path / "alone.json")]) == 0
    alone = json.loads((tmp_path / "alone.json").read_text())["measures"]["FID (pixels)"]
    assert scores(tmp_path / "run")[3] == pytest.approx(alone, rel=1e-5)
