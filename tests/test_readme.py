"""The first thing that a reader tries must work: the example of a game of one's own, in both languages, and the one in examples/."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ganforge import Settings, train
from ganforge.runs import RunFolder

ROOT = Path(__file__).parents[1]


def example(page: str) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_readmes_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example("README.md"), "README.md", "exec"), {"__name__": "__main__"})
    rows = RunFolder(tmp_path / "runs/mine").metric_rows()
    assert rows[-1]["round"] == 500
    assert 0.5 < rows[-1]["loss/discriminator"] < 1.5


def test_both_readmes_show_the_same_example_and_commands() -> None:
    assert example("README.md") == example("README.zh.md")
    english, chinese = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "README.zh.md"))
    assert re.findall(r"^\$ ([^#\n]+?) *(?:#|$)", english, re.MULTILINE) == re.findall(r"^\$ ([^#\n]+?) *(?:#|$)", chinese, re.MULTILINE)


def test_the_example_file_makes_a_game_that_samples(tmp_path: Path) -> None:
    mine = runpy.run_path(str(ROOT / "examples" / "own_game.py"))["MyGAN"]
    game = train(mine, "ring", Settings(rounds=2, batch_size=8), out=tmp_path / "run", hyper={"width": 4})
    assert game.sample(game.latent(5)).shape == (5, 2)
    assert (tmp_path / "run/samples/000002.png").exists()
