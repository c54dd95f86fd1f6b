"""What the engine does with moves, phases, schedules, averages, and with games that break its rules."""

from __future__ import annotations

import math
import signal
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganforge import schedules
from ganforge.batches import Images, ImageSpec, Points, PointSpec
from ganforge.data import Finite, Reading, Stream, from_arrays
from ganforge.engine import Interrupted, Settings, Trainer, leads, train
from ganforge.engine.ledger import Ledger, NotFiniteError
from ganforge.engine.ranks import own_device
from ganforge.engine.report import Report
from ganforge.engine.session import Session
from ganforge.errors import RequestError, TrainingError
from ganforge.game import Game, Move, Phase, Player, Seen, hyper_parameters, reads, register
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.load import load

descent = partial(torch.optim.SGD, lr=0.1)


class Number(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(value))


class TwoNumbers(Game):
    """Two players with a number each: a's loss is (a - 1)^2 + ab, b's is (b + a)^2."""

    rounds, batch_size = 4, 2

    def __init__(self, data: PointSpec, *, together: bool = False, ema: float = 0.0) -> None:
        super().__init__()
        self.a = Number(0.5)
        self.b = Number(0.25)
        self.together, self.ema = together, ema
        self.total: Tensor
        self.register_buffer("total", torch.zeros(()))
        self.told: list[Any] = []

    def players(self) -> dict[str, Player]:
        return {"a": Player(self.a, descent, ema=self.ema), "b": Player(self.b, descent)}

    def losses(self) -> tuple[Tensor, Tensor]:
        a, b = self.a.v, self.b.v
        return (a - 1) ** 2 + a * b, (b + a) ** 2

    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        x = next(batches).x
        if self.together:
            loss_a, loss_b = self.losses()
            yield Move.together(a=loss_a, b=loss_b).saw(x=x)
            return
        yield Move("a", self.losses()[0], x=x)
        seen = yield Move("b", self.losses()[1], x=x)
        self.told.append(seen["x"])
        self.total += seen["x"]


def numbers(n: int = 8) -> Finite:
    return from_arrays(torch.arange(float(n))[:, None].numpy())


def trainer(game: Game, **settings: Any) -> Trainer:
    return Trainer(game, Stream(numbers(), Points, seed=0, device=torch.device("cpu")), Settings(**settings), torch.device("cpu"))


def test_moves_in_turn_see_each_other_and_moves_together_do_not() -> None:
    # By hand: a' = a - 0.1 (2 (a - 1) + b) = 0.575; b' = b - 0.1 * 2 (b + a), with the new a in turn, with the old one together.
    for together, b in ((False, 0.25 - 0.2 * (0.25 + 0.575)), (True, 0.25 - 0.2 * (0.25 + 0.5))):
        game = TwoNumbers(PointSpec(1), together=together)
        trainer(game).play_round()
        torch.testing.assert_close(game.a.v.detach(), torch.tensor(0.575))
        torch.testing.assert_close(game.b.v.detach(), torch.tensor(b))


def test_what_was_seen_is_the_mean_over_accumulated_rounds_and_the_state_after_the_last_yield_changes_once() -> None:
    game = TwoNumbers(PointSpec(1))
    engine = trainer(game, accumulate=4)
    engine.play_round()
    assert len(game.told) == 1
    torch.testing.assert_close(game.told[0], torch.tensor(3.5))  # the mean of 0..7, in four batches of two
    torch.testing.assert_close(game.total, torch.tensor(3.5))
    assert engine.cursor == 8


def test_accumulation_gives_the_gradient_of_the_mean() -> None:
    one, four = TwoNumbers(PointSpec(1)), TwoNumbers(PointSpec(1))
    trainer(one).play_round()
    trainer(four, accumulate=4).play_round()
    torch.testing.assert_close(one.a.v, four.a.v)


class Shared(Game):
    """Two players who descend one loss."""

    def __init__(self, data: PointSpec) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(1.0))
        self.q = nn.Parameter(torch.tensor(1.0))

    def players(self) -> dict[str, Player]:
        return {"first": Player([self.p], descent), "second": Player([self.q], descent)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        next(batches)
        yield Move(("first", "second"), self.p * self.q)


def test_one_loss_moves_several_players() -> None:
    game = Shared(PointSpec(1))
    trainer(game).play_round()
    torch.testing.assert_close(torch.stack([game.p.detach(), game.q.detach()]), torch.tensor([0.9, 0.9]))


class Phased(TwoNumbers):
    def __init__(self, data: PointSpec) -> None:
        super().__init__(data)
        self.seen_rounds: list[tuple[str, int, int]] = []

    def players(self) -> dict[str, Player]:
        adam = partial(torch.optim.Adam, lr=0.1)
        return {"a": Player(self.a, adam, schedule=schedules.exponential(0.5, every=2)), "b": Player(self.b, adam)}

    def phases(self) -> list[Phase]:
        return [Phase("warm", self.warm, rounds=3, batch_size=4), Phase("play", self.play, fresh=True)]

    def warm(self, batches: Iterator[Points]) -> Iterator[Move]:
        self.seen_rounds.append(("warm", self.round, len(next(batches))))
        yield Move("a", self.losses()[0])

    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        self.seen_rounds.append(("play", self.round, len(next(batches))))
        yield Move("a", self.losses()[0])
        yield Move("b", self.losses()[1])


def test_phases_have_their_own_rounds_batches_and_clock_and_may_begin_with_fresh_optimisers() -> None:
    game = Phased(PointSpec(1))
    engine = trainer(game, rounds=2)
    rates, steps = [], []
    assert engine.rounds == 5
    for _ in range(5):
        engine.play_round()
        optimiser = engine.seats["a"].optimiser
        rates.append(optimiser.param_groups[0]["lr"])
        steps.append(int(optimiser.state[game.a.v]["step"]))
    assert game.seen_rounds == [("warm", 0, 4), ("warm", 1, 4), ("warm", 2, 4), ("play", 0, 2), ("play", 1, 2)]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.1, 0.1])
    assert steps == [1, 2, 3, 1, 2]
    assert engine.cursor == 3 * 4 + 2 * 2


def test_the_runs_own_rounds_may_be_none_where_a_phase_has_some() -> None:
    engine = trainer(Phased(PointSpec(1)), rounds=0)
    assert engine.rounds == 3
    with pytest.raises(RequestError, match="--rounds 0: must be at least 1"):
        trainer(TwoNumbers(PointSpec(1)), rounds=0)


class Growing(Game):
    """Plays on 4x4 pictures, then on 8x8."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(1.0))
        self.shapes: list[tuple[int, ...]] = []

    def players(self) -> dict[str, Player]:
        return {"p": Player([self.p], descent)}

    def phases(self) -> list[Phase]:
        return [Phase("small", self.play, rounds=1, size=4), Phase("large", self.play)]

    def play(self, batches: Iterator[Images]) -> Iterator[Move]:
        image = next(batches).image
        self.shapes.append(tuple(image.shape))
        yield Move("p", self.p * image.mean())


def test_a_phase_may_have_its_own_picture_size() -> None:
    source = from_arrays(torch.randint(0, 256, (8, 8, 8, 1), dtype=torch.uint8).numpy())
    game = Growing(source.spec)
    engine = Trainer(
        game, Stream(source, Images, seed=0, device=torch.device("cpu")), Settings(rounds=1, batch_size=2), torch.device("cpu")
    )
    engine.play_round()
    engine.play_round()
    assert game.shapes == [(2, 1, 4, 4), (2, 1, 8, 8)]


def test_a_game_says_how_its_pictures_are_read_where_nobody_else_does(tmp_path: Path) -> None:
    class Mirrored(Growing):
        reading: ClassVar[dict[str, Any]] = {"size": 16, "flip": True}

    (tmp_path / "data").mkdir()
    for number in range(2):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "data" / f"{number}.png")
    settings = Settings(rounds=1, batch_size=2)
    train(Mirrored, str(tmp_path / "data"), settings, out=tmp_path / "usual")
    train(Mirrored, str(tmp_path / "data"), settings, out=tmp_path / "asked", reading=Reading(size="8"))
    usual, asked = (RunRecord.read(RunFolder(tmp_path / name).record) for name in ("usual", "asked"))
    assert (usual.spec, usual.data["flip"]) == (ImageSpec(16, 16, 3), True)
    assert (asked.spec, asked.data["flip"]) == (ImageSpec(8, 8, 3), False)


def test_what_a_setting_leaves_out_is_said_when_the_run_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Honest(Growing):
        def notes(self) -> list[str]:
            return ["without perceptual features"]

    source = from_arrays(torch.randint(0, 256, (8, 8, 8, 1), dtype=torch.uint8).numpy())
    train(Honest, source, Settings(rounds=1, batch_size=2), out=tmp_path / "run")
    assert "without perceptual features" in "".join(capsys.readouterr())


def test_averaged_weights_follow_the_formula_and_leave_the_live_ones_alone() -> None:
    game = TwoNumbers(PointSpec(1), ema=0.9)
    engine = trainer(game)
    expected = 0.5
    for step in range(1, 41):
        engine.play_round()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * float(game.a.v.detach())
    live = float(game.a.v.detach())
    with engine.at_rest():
        assert float(game.a.v.detach()) == pytest.approx(expected, rel=1e-5)
        assert float(game.a.v.detach()) != live
        assert not game.training
    assert float(game.a.v.detach()) == live
    assert game.training


def test_a_clipped_player_takes_a_step_of_bounded_length() -> None:
    class Steep(Shared):
        def players(self) -> dict[str, Player]:
            return {"first": Player([self.p], descent, clip=0.5), "second": Player([self.q], descent)}

        def play(self, batches: Iterator[Points]) -> Iterator[Move]:
            next(batches)
            yield Move("first", 100 * self.p)
            yield Move("second", 100 * self.q)

    game = Steep(PointSpec(1))
    trainer(game).play_round()
    torch.testing.assert_close(torch.stack([game.p.detach(), game.q.detach()]), torch.tensor([0.95, -9.0]))


def test_schedules_have_the_values_of_their_formulas() -> None:
    decay, stairs, wave = schedules.linear_decay(100, 200), schedules.exponential(0.95, 150), schedules.cosine(100)
    assert [decay(r) for r in (0, 99, 150, 200, 500)] == pytest.approx([1, 1, 0.5, 0, 0])
    assert [stairs(r) for r in (0, 149, 150, 300)] == pytest.approx([1, 1, 0.95, 0.95**2])
    assert [wave(r) for r in (0, 25, 50, 100, 101)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0, 0])


def test_a_learning_rate_may_depend_on_the_data_through_a_buffer() -> None:
    class Plateau(TwoNumbers):
        factor: Tensor

        def players(self) -> dict[str, Player]:
            self.register_buffer("factor", torch.tensor(0.5))
            return {"a": Player(self.a, descent, schedule=lambda _round: self.factor), "b": Player(self.b, descent)}

    engine = trainer(Plateau(PointSpec(1)))
    engine.play_round()
    assert engine.seats["a"].optimiser.param_groups[0]["lr"] == pytest.approx(0.05)


BROKEN = {
    "players() has a, b": lambda game: iter([Move("c", game.losses()[0])]),
    "must be a scalar with a gradient; it has shape (2,)": lambda game: iter([Move("a", torch.stack(game.losses()))]),
    "it has no gradient": lambda game: iter([Move("a", game.losses()[0].detach())]),
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_game_that_breaks_a_rule_is_told_which(complaint: str) -> None:
    class Broken(TwoNumbers):
        def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
            yield from BROKEN[complaint](self)

    with pytest.raises(TrainingError, match="round 1: ") as caught:
        trainer(Broken(PointSpec(1))).play_round()
    assert complaint in str(caught.value)


def test_accumulated_rounds_that_part_ways_are_refused() -> None:
    class Parting(TwoNumbers):
        count = 0

        def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
            next(batches)
            Parting.count += 1
            yield Move("a" if Parting.count % 2 else "b", self.losses()[Parting.count % 2 - 1])

    with pytest.raises(TrainingError, match="must make equal moves"):
        trainer(Parting(PointSpec(1)), accumulate=2).play_round()


def test_the_ledger_names_the_first_bad_round() -> None:
    ledger = Ledger()
    for number, value in enumerate([1.0, math.inf, math.nan]):
        ledger.add(number, Move("a", torch.tensor(value)))
        ledger.add(number, Move("b", torch.tensor(0.0)))
    with pytest.raises(NotFiniteError, match="round 1: the loss of a is inf"):
        ledger.read()


def test_the_ledger_averages_losses_and_what_was_seen() -> None:
    ledger = Ledger()
    ledger.add(0, Move("a", torch.tensor(1.0), real=torch.tensor([0.0, 1.0])))
    ledger.add(1, Move("a", torch.tensor(3.0), real=torch.tensor([1.0, 1.0])))
    assert ledger.read() == {"loss/a": 2.0, "real": 0.75}
    ledger.clear()
    assert ledger.read() == {}


def test_what_a_game_shows_of_its_own_memory_is_what_it_was_then() -> None:
    class Counting(TwoNumbers):
        def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
            next(batches)
            seen = yield Move("a", self.losses()[0], total=self.total)
            self.total += 1
            self.told.append(float(seen["total"]))

    game = Counting(PointSpec(1))
    engine = trainer(game)
    for _ in range(3):
        engine.play_round()
    assert game.told == [0, 1, 2]
    assert engine.ledger.read()["total"] == 1


def test_a_setting_that_has_a_few_values_has_no_other() -> None:
    with pytest.raises(RequestError, match=r"--precision fp16: give fp32 or bf16"):
        Settings(precision=cast(Any, "fp16"))


def test_what_a_launcher_says_is_believed_only_where_it_makes_sense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    assert leads(), "of one process, whatever another program meant by RANK"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not leads()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="2 processes on a machine with 1 GPUs"):
        own_device(torch.device("cuda"))
    for size, complaint in (("2", "the other ranks were not reached .*start with torchrun"), ("two", "WORLD_SIZE=two: must be the number")):
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(RequestError, match=complaint):
            train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_program_around_it_keeps_its_own_way_with_signals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)  # What Python says of a handler that it cannot call.

    def untouchable(*_: Any) -> None:
        raise AssertionError("could not be put back")

    monkeypatch.setattr(signal, "signal", untouchable)
    train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path / "run")


def test_a_run_of_a_game_of_ones_own_can_be_trained_resumed_and_loaded(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = Settings(rounds=4, checkpoint_every="2", log_every=2)
    whole = train(TwoNumbers, numbers(), settings, out=tmp_path / "whole", hyper={"ema": 0.5})
    train(TwoNumbers, numbers(), Settings(rounds=2, checkpoint_every="2", log_every=2), out=out, hyper={"ema": 0.5})
    resumed = train(TwoNumbers, numbers(), settings, out=out, hyper={"ema": 0.5}, resume=True)
    assert (out / "game.safetensors").read_bytes() == (tmp_path / "whole" / "game.safetensors").read_bytes()
    for game in (resumed, load(out, TwoNumbers)):
        assert {k: float(v) for k, v in game.state_dict().items()} == {k: float(v) for k, v in whole.state_dict().items()}
    rows = [[row["round"] for row in RunFolder(path).metric_rows()] for path in (out, tmp_path / "whole")]
    assert rows[1] == [1, 2, 4]
    assert rows[0] == rows[1]
    with pytest.raises(RequestError, match="is not in the zoo; give its class"):
        load(out)


def test_only_the_last_checkpoints_stay(tmp_path: Path) -> None:
    train(TwoNumbers, numbers(), Settings(rounds=6, checkpoint_every="1", keep=2), out=tmp_path / "run")
    assert [path.name for path in RunFolder(tmp_path / "run").checkpoints()] == ["000005", "000006"]


def test_a_run_is_not_overwritten_unless_asked_and_then_leaves_other_files_alone(tmp_path: Path) -> None:
    train(TwoNumbers, numbers(), Settings(rounds=3, checkpoint_every="1"), out=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds a run already"):
        train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path)
    train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path, overwrite=True)
    assert [path.name for path in RunFolder(tmp_path).checkpoints()] == ["000001"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "hyper", "complaint"),
    [
        ({"seed": 1}, {}, "was begun with --seed 0; to resume it cannot become 1"),
        ({"batch_size": 3}, {}, "was begun with --batch-size None; to resume it cannot become 3"),
        ({}, {"ema": 0.5}, "was begun with --ema 0.0; to resume it cannot become 0.5"),
    ],
)
def test_a_resumed_run_must_be_the_same_run(tmp_path: Path, settings: dict[str, Any], hyper: dict[str, Any], complaint: str) -> None:
    train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path)
    with pytest.raises(RequestError) as caught:
        train(TwoNumbers, numbers(), Settings(rounds=1, **settings), out=tmp_path, hyper=hyper, resume=True)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(("owner", "moment"), [(Trainer, "play_round"), (Session, "_log"), (Session, "_clock_says_save"), (Report, "due")])
def test_a_signal_at_any_moment_of_the_loop_stops_after_a_checkpoint(
    owner: type, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(owner, moment)
    calls: list[str] = []

    def interrupted(self: object, *arguments: Any) -> Any:
        calls.append(moment)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(owner, moment, interrupted)
    with pytest.raises(Interrupted) as stopped:
        train(TwoNumbers, numbers(), Settings(rounds=1000, checkpoint_every="1000", log_every=1, sample_every=1), out=tmp_path)
    assert [int(path.name) for path in RunFolder(tmp_path).checkpoints()] == [stopped.value.round]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file")

    train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="round 2: the checkpoint could not be written") as caught:
        train(TwoNumbers, numbers(), Settings(rounds=3, checkpoint_every="1"), out=tmp_path, resume=True)
    assert f"the last good checkpoint is {tmp_path / 'checkpoints' / '000001'}" in str(caught.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000001"]


def test_a_checkpoint_torn_by_a_kill_is_not_seen(tmp_path: Path) -> None:
    train(TwoNumbers, numbers(), Settings(rounds=2, checkpoint_every="1"), out=tmp_path)
    torn = tmp_path / "checkpoints" / ".000003.4711"
    torn.mkdir()
    (torn / "game.safetensors").write_bytes(b"half")
    assert [path.name for path in RunFolder(tmp_path).checkpoints()] == ["000001", "000002"]
    train(TwoNumbers, numbers(), Settings(rounds=3, checkpoint_every="1"), out=tmp_path, resume=True)
    assert not torn.exists()


def test_a_second_trainer_is_kept_out(tmp_path: Path) -> None:
    from filelock import FileLock

    tmp_path.joinpath("run").mkdir()
    with FileLock(tmp_path / "run" / "run.lock"), pytest.raises(RequestError, match="another process trains here"):
        train(TwoNumbers, numbers(), Settings(rounds=1), out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_game_reads_what_its_play_says() -> None:
    assert reads(TwoNumbers) == (Points,)
    assert list(hyper_parameters(TwoNumbers)) == ["together", "ema"]

    class Mute(Game):
        def play(self, batches):  # type: ignore[no-untyped-def]
            yield

    with pytest.raises(RequestError, match="must say what it reads"):
        reads(Mute)
    with pytest.raises(RequestError, match="reads Images; this source has Points"):
        train(Growing, numbers(), out="nowhere")


def test_a_name_is_registered_once() -> None:
    register("only-in-this-test")(TwoNumbers)
    with pytest.raises(RequestError, match="registered already"):
        register("only-in-this-test")(Shared)


def test_a_broken_record_is_refused_by_name(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"game": "gan"}', '{"game": "gan", "hyper": {}, "spec": {"kind": "sounds"}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RequestError):
            RunRecord.read(tmp_path / "run.json")
