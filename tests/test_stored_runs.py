"""Runs that older versions wrote are read, used and resumed. `tests/stored/VERSION` is as that version left it (dcgan, preset tiny)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganforge
from ganforge import zoo
from ganforge.capabilities import sampler
from ganforge.cli import main

STORED = sorted((Path(__file__).parent / "stored").iterdir())
every_version = pytest.mark.parametrize("run", STORED, ids=lambda path: path.name)


@every_version
def test_it_is_loaded_with_its_averaged_weights(run: Path) -> None:
    game = ganforge.load(run)
    assert isinstance(game, zoo.find("dcgan"))
    stored = load_file(run / "game.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in game.state_dict().items())
    able = sampler(game)
    assert able.sample(able.latent(3)).shape == (3, 1, 8, 8)


@every_version
def test_it_is_resumed_and_comes_near_to_what_it_came_to(run: Path, tmp_path: Path) -> None:
    """Near, and not equal: sums may round otherwise on another machine."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert main(["train", "dcgan", "--resume", "--out", str(out)]) == 0
    again, stored = load_file(out / "game.safetensors"), load_file(run / "game.safetensors")
    begun = load_file(run / "checkpoints" / "000020" / "game.safetensors")
    for name, value in stored.items():
        moved = (value.float() - begun[name].float()).norm()
        assert (again[name].float() - value.float()).norm() <= 0.05 * moved + 1e-6, name
    rows = [json.loads(line)["round"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1] == 30


@every_version
def test_every_command_that_takes_a_run_takes_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    assert main(["sample", str(run), "--n", "4", "--out", str(tmp_path / "grid.png")]) == 0
    assert main(["evaluate", str(run), "--n", "100", "--out", str(tmp_path / "scores.json")]) == 0
    assert "coverage" in json.loads((tmp_path / "scores.json").read_text())["measures"]
    assert main(["doctor", str(run), "--out", str(tmp_path / "found.json")]) == 0
    assert main(["publish", str(run), str(tmp_path / "published")]) == 0
    capsys.readouterr()


def test_this_version_is_stored_too() -> None:
    version = ".".join(ganforge.__version__.split(".")[:2])
    assert version in {path.name for path in STORED}, f"add tests/stored/{version}, a run of this version"
