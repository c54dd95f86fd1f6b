"""The doctor: signs that are measured, rules that read them, and what a user sees of both."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganforge import Game, Move, Player, Settings, open_source, train, zoo
from ganforge.batches import Points
from ganforge.cli import main
from ganforge.data import Stream
from ganforge.diagnosis import SIGNS, Course, Seen, findings, signs
from ganforge.diagnosis.signs import higher
from ganforge.engine import Trainer, examined
from ganforge.errors import RequestError, TrainingError

WELL = {"spread": 1.0, "coverage": 0.9, "drift": 0.05, "told": 0.6, "low": -1.0, "high": 1.0, "scale": 0.5, "known": 0.5, "frame": 0.0}


def course(**changed: Any) -> Course:
    """A run of 1,200 rounds in which all is well, but for signs and values that are changed throughout, and facts."""
    facts = {name: changed.pop(name) for name in ("pictures", "micro", "normed", "count", "unreached", "failure") if name in changed}
    values = {f"health/{name}": value for name, value in (WELL | {k: v for k, v in changed.items() if k in SIGNS}).items()}
    values |= {"loss/discriminator": 1.2, "grad/generator": 1.0} | {k.replace("__", "/"): v for k, v in changed.items() if k not in SIGNS}
    filled = [{key: v[i] if isinstance(v, list) else v for key, v in values.items()} for i in range(12)]
    return Course([{"round": 100 * (i + 1), **row} for i, row in enumerate(filled)], **facts)


def causes(course: Course) -> list[str]:
    return [each.cause for each in findings(course)]


def test_where_all_is_well_nothing_is_found() -> None:
    assert causes(course()) == []
    assert causes(Course([])) == []
    assert causes(Course([{"round": 1, "phase": "play", "loss/generator": 1.0}])) == []


@pytest.mark.parametrize(
    ("cause", "changed"),
    [
        ("discriminator too strong", {"told": 1.0, "coverage": 0.05, "loss__discriminator": 0.001}),
        ("discriminator blind", {"told": 0.1, "coverage": 0.0}),
        ("mode collapse", {"spread": 0.2}),
        ("mode collapse", {"modes": 0.25}),
        ("oscillation", {"drift": 0.9}),
        ("exploding gradients", {"grad__generator": [1.0] * 4 + [10.0**i for i in range(8)]}),
        ("exploding gradients", {"failure": "round 7: the loss of generator is nan; there is no checkpoint yet"}),
        ("dead player", {"unreached": {"generator": ["first.weight"]}}),
        ("dead player", {"idle": 0.4, "unreached": {"generator": ["first.weight"]}}),
        ("dead player", {"grad__generator": [1.0] * 6 + [0.0] * 6}),
        ("average far from the live weights", {"average": 3.0}),
        ("data wrongly scaled", {"high": -0.99}),
        ("data wrongly scaled", {"scale": 400.0, "pictures": False}),
        ("a frame gives samples away", {"frame": 0.8}),
        ("too few pictures", {"known": 0.97, "count": 20}),
        ("batch normalisation over 1 sample", {"batchwise": 0.4, "micro": 1, "normed": True}),
    ],
)
def test_each_ailment_is_named_with_what_was_seen_and_what_to_try(cause: str, changed: dict[str, Any]) -> None:
    found = findings(course(**changed))
    assert [each.cause for each in found] == [cause]
    assert found[0].seen
    assert found[0].advice
    assert cause in str(found[0])


@pytest.mark.parametrize(
    "changed",
    [
        # A critic that is far ahead is right, while its loss is no logarithm.
        {"told": 1.0, "coverage": 0.05, "loss__discriminator": -0.4},
        # A game that has come to its end cannot be told apart either.
        {"told": 0.5, "coverage": 0.9},
        # An early spike is no explosion, nor are large numbers that were large at first.
        {"grad__generator": [1.0, 5000.0, *[2.0] * 10]},
        {"grad__generator": 5000.0},
        # A look or two prove nothing.
        {"spread": [1.0] * 10 + [0.1, 0.1]},
        # Samples that begin alike and spread out.
        {"spread": [0.02 * 1.3**i for i in range(12)]},
        # Large batches have statistics of their own that are good enough.
        {"batchwise": 0.4, "micro": 64, "normed": True},
        # A player that has learned rests for a moment.
        {"idle": 0.0, "unreached": {"generator": ["first.weight"]}},
        {"grad__generator": [1.0] * 10 + [0.0] * 2},
        # Points have units.
        {"low": 3.0, "high": 5.0, "scale": 4.0, "pictures": False},
    ],
)
def test_what_only_looks_like_an_ailment_is_none(changed: dict[str, Any]) -> None:
    assert causes(course(**changed)) == []


def test_a_young_game_whose_samples_are_still_alike_is_given_time() -> None:
    rows = [{"round": 20 * i, "health/spread": 0.14, "health/coverage": 0.0} for i in range(1, 13)]
    assert causes(Course(rows, planned=1000)) == []
    assert causes(Course(rows, planned=240)) == ["mode collapse"]
    fallen = [row | {"health/spread": 0.9} for row in rows[:3]] + rows[3:]
    assert causes(Course(fallen, planned=1000)) == ["mode collapse"]


def test_since_when_is_the_first_round_of_what_lasts() -> None:
    (found,) = findings(course(spread=[1.0, 0.2, 1.0, 1.0, *[0.2] * 8]))
    assert found.since == 500


def test_an_ailment_of_the_set_up_hides_what_comes_of_it() -> None:
    ill = {"spread": 0.1, "coverage": 0.0, "told": 1.0, "loss__discriminator": 0.0}
    assert causes(course(**ill)) == ["discriminator too strong"]
    assert causes(course(**ill, unreached={"generator": ["last.weight"]})) == ["dead player"]


def test_signs_of_samples_of_the_same_law_lie_where_all_is_well() -> None:
    generator = torch.Generator().manual_seed(0)
    real, made, held = (torch.randn(400, 2, generator=generator) for _ in range(3))
    found = signs(Seen(real, made, held=held, before=real.double().mean(0), judge=lambda x: x[:, 0]))
    near = {name: pytest.approx(value, abs=0.15) for name, value in (("spread", 1), ("drift", 0), ("told", 0.5), ("known", 0.5))}
    assert {name: found[f"health/{name}"] for name in near} == near
    assert found["health/coverage"] > 0.9


def test_signs_say_what_was_done_to_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 2, generator=generator)
    made = 0.25 * torch.randn(300, 2, generator=generator) + 5
    found = signs(Seen(real, made, live=real + 0.1, before=torch.zeros(2).double(), centres=torch.tensor([[5.0, 5.0], [0.0, 0.0]]),
                       judge=lambda x: -x.norm(dim=1)))  # fmt: skip
    assert found["health/spread"] == pytest.approx(0.25, rel=0.1)
    assert found["health/drift"] == pytest.approx(5, rel=0.1)
    assert found["health/coverage"] == 0
    assert found["health/modes"] == 0.5
    # What the players see are samples of the live weights.
    assert found["health/told"] == pytest.approx(0.5, abs=0.1)
    assert found["health/average"] > 10
    assert signs(Seen(real, made, judge=lambda x: -x.norm(dim=1)))["health/told"] > 0.99


def test_a_frame_that_is_missed_gives_away_and_one_that_is_hit_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    real, made = (2 * torch.rand(40, 1, 8, 8, generator=generator) - 1 for _ in range(2))
    frame = torch.ones(8, 8)
    frame[2:-2, 2:-2] = 0
    real, hit, missed = (torch.where(frame > 0, torch.tensor(value), x) for x, value in ((real, 0.3), (made, 0.3), (made, 0.25)))

    def judge(x: Tensor) -> Tensor:
        return -100 * (x[:, 0, 0] - 0.3).abs().sum(1) + x.mean((1, 2, 3))

    assert signs(Seen(real, missed, judge=judge))["health/frame"] > 0.9
    assert abs(signs(Seen(real, hit, judge=judge))["health/frame"]) < 0.5


def test_pairs_are_counted_as_a_plain_loop_counts_them() -> None:
    first, second = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 0.0])
    plain = [1.0 if a > b else 0.5 if a == b else 0.0 for a in first.tolist() for b in second.tolist()]
    assert higher(first, second) == pytest.approx(sum(plain) / len(plain))


def test_samples_that_are_no_numbers_leave_the_signs_of_the_data() -> None:
    found = signs(Seen(torch.randn(20, 2), torch.full((20, 2), torch.nan)))
    assert set(found) == {"health/low", "health/high", "health/scale"}


class Idle(Game):
    """A shift of noise, with a layer that nobody asks."""

    def __init__(self, _data: object) -> None:
        super().__init__()
        self.shift, self.slope, self.unused = nn.Parameter(torch.zeros(2)), nn.Linear(2, 1), nn.Linear(4, 4)

    def players(self) -> dict[str, Player]:
        sgd = partial(torch.optim.SGD, lr=0.01)
        return {"critic": Player(self.slope, sgd), "generator": Player([self.shift, *self.unused.parameters()], sgd)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        real = next(batches).x
        yield Move("critic", self.slope(self.sample(self.latent(8)).detach()).mean() - self.slope(real).mean())
        yield Move("generator", -self.slope(self.sample(self.latent(8))).mean())

    def latent(self, n: int) -> Tensor:
        return torch.randn(n, 2)

    def sample(self, latent: Tensor) -> Tensor:
        return latent + self.shift


def test_the_norms_of_gradients_are_logged_as_autograd_has_them() -> None:
    source = open_source("ring")
    stream = Stream(source, Points, seed=0, device=torch.device("cpu"))
    torch.manual_seed(0)
    game = Idle(source.spec)
    trainer = Trainer(game, stream, Settings(rounds=3, batch_size=8, log_every=2), torch.device("cpu"))
    trainer.play_round()
    weight = game.slope.weight.detach().clone()
    trainer.ledger.clear()
    trainer.play_round()
    logged = trainer.ledger.read()
    # The generator's gradient is minus the critic's slope, after the critic has moved.
    assert logged["grad/generator"] == pytest.approx(game.slope.weight.norm().item(), rel=1e-6)
    assert not torch.equal(weight, game.slope.weight)
    trainer.ledger.clear()
    trainer.play_round()
    assert not [key for key in trainer.ledger.read() if key.startswith("grad/")]


def test_a_layer_that_nobody_asks_is_named(tmp_path: Path) -> None:
    train(Idle, "ring", Settings(rounds=8, batch_size=8, log_every=2), out=tmp_path / "run")
    (found,) = findings(examined(tmp_path / "run", Idle, open_source("ring")))
    assert found.cause == "dead player"
    assert "the generator's unused.weight, unused.bias" in found.seen


def test_a_game_that_cannot_be_looked_at_is_played_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Odd(Idle):
        def latent(self, n: int) -> Tensor:
            if n == 512:
                raise RuntimeError("not now")
            return super().latent(n)

    train(Odd, "ring", Settings(rounds=8, batch_size=8, log_every=2, sample_every=3), out=tmp_path / "run")
    assert capfd.readouterr().err.count("the watch cannot look at this game (not now); training goes on without it") == 1
    assert (tmp_path / "run" / "game.safetensors").exists()


def few_pixels(folder: Path) -> str:
    """Pictures stored as 0 and 1 in bytes."""
    np.savez(folder / "bits.npz", images=np.random.default_rng(0).integers(0, 2, (40, 8, 8), dtype=np.uint8))
    return str(folder / "bits.npz")


def tiny(data: str, out: Path, *more: str) -> int:
    words = f"train dcgan --preset tiny --rounds 12 --log-every 2 --sample-every 2 --data {data} --channels 1 --out {out}"
    return main([*words.split(), *more])


def test_what_goes_wrong_is_said_while_training_and_by_the_doctor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert tiny(few_pixels(tmp_path), tmp_path / "run") == 0
    said = capfd.readouterr().err
    assert said.count("data wrongly scaled, from the start: all pixels lie between -1.00 and -0.99") == 1
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert main(["doctor", str(tmp_path / "run"), "--out", str(tmp_path / "found.json")]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("data wrongly scaled, from the start\n  seen ")
    assert json.loads((tmp_path / "found.json").read_text())["findings"][0]["cause"] == "data wrongly scaled"
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_without_the_watch_the_run_is_the_same_and_nothing_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = few_pixels(tmp_path)
    assert tiny(data, tmp_path / "watched") == 0
    capfd.readouterr()
    assert tiny(data, tmp_path / "alone", "--no-watch") == 0
    assert "wrongly" not in capfd.readouterr().err
    assert (tmp_path / "watched" / "game.safetensors").read_bytes() == (tmp_path / "alone" / "game.safetensors").read_bytes()
    assert not any("health/spread" in line for line in (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines())


def test_a_run_without_a_checkpoint_has_nothing_to_look_at(tmp_path: Path) -> None:
    assert tiny("digits", tmp_path / "run") == 0
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    with pytest.raises(RequestError, match="has no checkpoint yet to look at"):
        examined(tmp_path / "run", None, open_source("digits"))
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2


def test_batch_normalisation_of_one_sample_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"batch normalisation of a single sample.*--batch-size"):
        train(zoo.find("dcgan"), "digits", Settings(rounds=1, batch_size=1), out=tmp_path / "run", hyper={"width": 4})


def rows_of(section: str) -> list[list[str]]:
    """The cells of the table in a section of docs/doctor.md, without its head."""
    text = (
        (Path(__file__).parents[1] / "docs" / "doctor.md").read_text(encoding="utf-8").partition(f"## {section}")[2].partition("\n## ")[0]
    )
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_the_signs_as_they_are() -> None:
    assert rows_of("What it looks at") == [list(pair) for pair in SIGNS.items()]


def test_the_page_has_the_runs_that_the_doctor_was_checked_on() -> None:
    cases = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "broken.py"))["CASES"]
    assert [(name, said) for name, _, said in rows_of("What it was checked on")] == [
        (name, case.expected or "nothing") for name, case in cases.items()
    ]
