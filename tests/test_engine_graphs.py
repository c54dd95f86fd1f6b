"""Rounds recorded and replayed: on the processor with a tape that does what stream capture does, on a GPU where there is one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tape import Tape
from tasks import answers
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from variants import Variant, variants, wrap_play

from ganforge import schedules
from ganforge.batches import Points
from ganforge.data import Stream, from_arrays
from ganforge.engine import Settings, Trainer
from ganforge.engine.checkpoint import read_checkpoint, write_checkpoint
from ganforge.engine.graphs import MOST, REHEARSALS, CudaRecorder, Recorder, recorder_for
from ganforge.errors import TrainingError
from ganforge.game import Game, Move, Phase, Player, Schedule, Seen

CPU = torch.device("cpu")
descent = partial(torch.optim.SGD, lr=0.1)


def assert_identical(a: Any, b: Any) -> None:
    """Bit for bit, through dicts and lists."""
    (left, shape), (right, other) = tree_flatten(a), tree_flatten(b)
    assert shape == other
    for x, y in zip(left, right, strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y


def everything(trainer: Trainer) -> Any:
    """The whole state of the run, as it is now."""
    return copy.deepcopy([dict(trainer.game.state_dict()), trainer.state()])


def build(variant: Variant, recorder: Recorder | None, game: Game | None = None, device: torch.device = CPU, **settings: Any) -> Trainer:
    options = Settings(**{"rounds": 50, "batch_size": variant.batch_size, **settings})
    stream = Stream(variant.source(), variant.kind, seed=options.seed, device=device)
    return Trainer(game or variant.build(), stream, options, device, recorder=recorder)


def eager(trainer: Trainer) -> Trainer:
    """The same trainer, its seats capturable, without graphs."""
    assert trainer.graphs is not None
    trainer.graphs = None
    return trainer


def counting(game: Game) -> list[int]:
    """How often the Python of a round was run: the list has one entry more each time."""
    plays: list[int] = []

    def counted(moves: Iterator[Move]) -> Iterator[Move]:
        plays.append(1)
        return moves

    wrap_play(game, counted)
    return plays


def told_by(trainer: Trainer) -> dict[str, float]:
    """What the moves saw. Norms of gradients are not noted where rounds are recorded, which run no Python."""
    return {key: value for key, value in trainer.ledger.read().items() if not key.startswith("grad/")}


def play_until_replayed(trainer: Trainer, tape: Tape, replays: int) -> list[dict[str, float]]:
    """The ledger after each round; pictures are drawn in between, as a session does."""
    told = []
    while sum(tape.replays) < replays:
        trainer.play_round()
        told.append(trainer.ledger.read())
        with trainer.at_rest():
            answers(trainer.game, trainer.stream.at(0, 2), trainer.stream.source.spec)
        assert len(told) < 40
    return told


def assert_replays_are_rounds(variant: Variant, replays: int = 8, **settings: Any) -> None:
    tape, game = Tape(), variant.build()
    plays = counting(game)
    replaying = build(variant, tape, game, **settings)
    torch.manual_seed(5)
    told = play_until_replayed(replaying, tape, replays)
    played = eager(build(variant, Tape(), **settings))
    torch.manual_seed(5)
    # A weight used twice has its gradients rounded differently if it was converted to bf16 once.
    with torch.autocast("cpu", enabled=False, cache_enabled=False):
        for row in told:
            played.play_round()
            assert row == told_by(played)
    assert_identical(everything(replaying), everything(played))
    assert tape.replays == [replays]
    assert len(tape.recordings[0].calls) > 50
    # All rounds but the replayed ones ran Python, and so did the recording.
    assert len(plays) == (len(told) - replays + 1) * replaying.settings.accumulate


@pytest.mark.parametrize("variant", variants(), ids=str)
def test_replayed_rounds_are_bit_for_bit_the_rounds_played(variant: Variant) -> None:
    assert_replays_are_rounds(variant)


def one(name: str) -> Variant:
    return next(variant for variant in variants() if str(variant) == name)


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"precision": "bf16"}, {"augment": "diffaugment"}, {"augment": "ada"}], ids=str)
def test_replayed_rounds_are_the_rounds_played_whatever_the_engine_adds(settings: dict[str, Any]) -> None:
    assert_replays_are_rounds(one("dcgan-tiny-Images"), replays=6, **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_graphs_play_the_rounds_too(precision: str) -> None:
    device = torch.device("cuda")
    for variant in variants():
        if variant.preset == "tiny":
            states = []
            for graphs in (True, False):
                trainer = build(variant, CudaRecorder(device), device=device, precision=precision)
                torch.manual_seed(5)
                for _ in range(12):
                    (trainer if graphs else eager(trainer)).play_round()
                states.append(trainer.game.state_dict() | {f"loss {name}": torch.tensor(v) for name, v in told_by(trainer).items()})
                assert not trainer.remarks
            torch.testing.assert_close(states[0], states[1], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["dcgan-small-Images", "gan-1d-early-Points", "wgan-gp-tiny-Points"])
def test_a_run_resumed_after_replayed_rounds_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    variant, tape = one(name), Tape()
    play_until_replayed(whole := build(variant, tape), tape, 3)
    write_checkpoint(tmp_path / "000001", whole.game, whole.state())
    before = whole.round
    play_until_replayed(whole, tape, 9)
    recording = build(variant, again := Tape(), variant.build(seed=9))
    playing = eager(build(variant, Tape(), variant.build(seed=8)))
    for resumed in (recording, playing):
        resumed.load(read_checkpoint(tmp_path / "000001", resumed.game))
        for _ in range(whole.round - before):
            resumed.play_round()
        assert_identical(everything(resumed), everything(whole))
    assert sum(again.replays) == whole.round - before - REHEARSALS


def test_a_trainer_that_loads_a_state_forgets_what_it_had_recorded(tmp_path: Path) -> None:
    variant, tape = one("dcgan-small-Images"), Tape()
    play_until_replayed(trainer := build(variant, tape), tape, 2)
    write_checkpoint(tmp_path / "000001", trainer.game, trainer.state())
    play_until_replayed(trainer, tape, 8)
    expected = everything(trainer)
    trainer.load(read_checkpoint(tmp_path / "000001", trainer.game))
    for _ in range(6):
        trainer.play_round()
    assert_identical(everything(trainer), expected)
    assert tape.replays == [8, 3]


@pytest.mark.parametrize("graphs_first", [True, False])
@pytest.mark.parametrize(("name", "rate"), [("dcgan-small-Images", 5e-4), ("gan-adam-Images", 2e-4)])
def test_a_run_may_go_on_with_or_without_graphs(name: str, rate: float, graphs_first: bool, tmp_path: Path) -> None:
    variant = one(name)
    first, second = (build(variant, Tape() if graphs else None) for graphs in (graphs_first, not graphs_first))
    for _ in range(6):
        first.play_round()
    write_checkpoint(tmp_path / "000001", first.game, first.state())
    for _ in range(6):
        first.play_round()
    state = read_checkpoint(tmp_path / "000001", second.game)
    assert repr(state["seats"]["generator"]["optimiser"]["param_groups"][0]["lr"]) == repr(rate)
    second.load(state)
    for _ in range(6):
        second.play_round()
    torch.testing.assert_close(dict(first.game.state_dict()), dict(second.game.state_dict()), rtol=1e-4, atol=1e-6)
    assert second.seats["generator"].optimiser.param_groups[0]["capturable"] is not graphs_first


class Toy(Game):
    """A number v; every move descends v itself: each step of plain descent takes the learning rate from it."""

    def __init__(
        self, *, optimiser: Callable[..., torch.optim.Optimizer] = descent, schedule: Schedule | None = None, ema: float = 0.0
    ) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(1.0))
        self.total: Tensor
        self.register_buffer("total", torch.zeros(()))
        self.player = Player([self.v], optimiser, schedule, ema=ema)
        self.plays = 0

    def players(self) -> dict[str, Player]:
        return {"v": self.player}

    def move(self, **seen: Tensor) -> Move:
        return Move("v", self.v * 1, **seen)

    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        self.plays += 1
        seen = yield self.move(x=next(batches).x.requires_grad_())
        self.total += seen["x"]


def toy_trainer(game: Game, tape: Tape, **settings: Any) -> Trainer:
    options = Settings(**{"rounds": 100, "batch_size": 2, **settings})
    stream = Stream(from_arrays(torch.arange(8.0)[:, None].numpy()), Points, seed=0, device=CPU)
    return Trainer(game, stream, options, CPU, recorder=tape)


def test_each_round_has_its_own_batch_learning_rate_and_losses_in_the_log() -> None:
    tape, game = Tape(), Toy(schedule=schedules.linear_decay(0, 20))
    trainer = toy_trainer(game, tape, accumulate=4)
    values, before = [], 1.0
    for number in range(12):
        trainer.play_round()
        values.append(before)
        before -= 0.1 * (1 - number / 20)
        torch.testing.assert_close(game.v.item(), before)
    # Eight numbers, 0 to 7, in each round: whatever their order, they come back with the mean 3.5, once a round.
    torch.testing.assert_close(game.total.item(), 12 * 3.5)
    assert trainer.cursor == 12 * 8
    assert trainer.ledger.read() == pytest.approx({"loss/v": sum(values) / 12, "x": 3.5})
    assert tape.replays == [12 - REHEARSALS]
    assert game.plays == (REHEARSALS + 1) * 4
    assert trainer.seats["v"].steps == 12


class Twice(Toy):
    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        next(batches)
        yield self.move()
        yield self.move()


def test_averaged_weights_follow_the_formula_in_every_step_of_a_replayed_round() -> None:
    # Without a schedule the host may keep the learning rate.
    tape, game = Tape(), Twice(ema=0.9, optimiser=partial(descent, foreach=True))
    trainer = toy_trainer(game, tape)
    value = average = 1.0
    for number in range(10):
        trainer.play_round()
        for step in (2 * number + 1, 2 * number + 2):
            value -= 0.1
            decay = min(0.9, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * value
    torch.testing.assert_close(trainer.seats["v"].average[0].item(), average)
    assert trainer.seats["v"].steps == 20
    assert tape.replays == [7]


class Lazy(Toy):
    """Makes a second move in every fourth round."""

    def variant(self) -> Hashable:
        return self.round % 4 == 0

    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        next(batches)
        self.plays += 1
        yield self.move()
        if self.round % 4 == 0:
            yield self.move(often=self.v)


def test_every_variant_of_a_round_has_its_graph() -> None:
    tape, game = Tape(), Lazy()
    trainer = toy_trainer(game, tape)
    for _ in range(16):
        trainer.play_round()
    torch.testing.assert_close(game.v.item(), 1 - 0.1 * (16 + 4))
    assert sorted(tape.replays) == [1, 9]
    assert game.plays == 2 * (REHEARSALS + 1)
    assert not trainer.remarks
    assert len(trainer.ledger._values["often"]) == 4


def test_a_phase_that_begins_with_a_fresh_optimiser_is_recorded_anew() -> None:
    class Phased(Toy):
        def phases(self) -> list[Phase]:
            return [Phase("first", self.play, rounds=5), Phase("second", self.play, fresh=True)]

    tape, game = Tape(), Phased(optimiser=partial(torch.optim.Adam, lr=0.1))
    trainer = toy_trainer(game, tape, rounds=6)
    for _ in range(11):
        trainer.play_round()
    assert tape.replays == [2, 3]
    assert int(trainer.seats["v"].optimiser.state[game.v]["step"]) == 6
    # The gradient is always 1, so Adam's steps are the learning rate, before and after it forgets.
    torch.testing.assert_close(game.v.item(), 1 - 11 * 0.1, rtol=1e-5, atol=1e-5)


class Reading(Toy):
    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        next(batches)
        yield Move("v", self.v * (1 + self.round))


class Unlike(Toy):
    def variant(self) -> Hashable:
        return self.round


class Uneven(Toy):
    draws = (2, 2, 1)

    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        for _ in range(self.draws[min(self.plays, 2)]):
            self.total += next(batches).x.mean()
        self.plays += 1
        yield self.move()


class MoreAndMore(Uneven):
    draws = (1, 2, 2)


class Replacing(Toy):
    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        self.total = self.total + next(batches).x.mean()
        yield self.move()


class ReplacingData(Toy):
    def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
        next(batches)
        yield self.move()
        for _ in range(2):  # The second time the first memory is free again.
            self.v.data = self.v.data.clamp(-1, 1)


class HostSteps(torch.optim.SGD):
    """Counts its steps in Python, as optimisers of old did."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        state = self.state[self.param_groups[0]["params"][0]]
        state["step"] = state.get("step", 0) + 1


REFUSED: dict[str, Callable[[], Toy]] = {
    "Reading reads self.round while it plays; say in variant() which rounds are alike": Reading,
    f"variant() of Unlike tells more than {MOST} kinds of rounds apart": Unlike,
    "rounds of one variant drew 2 batches, then 1": Uneven,
    "rounds of one variant drew 1 batches, then 2": MoreAndMore,
    "a round replaces total; let it write into the old tensor, as copy_() does": Replacing,
    "a round replaces v; let it write into the old tensor, as copy_() does": ReplacingData,
    "v has a schedule, but its SGD takes the learning rate from the host": partial(
        Toy, optimiser=partial(descent, foreach=True), schedule=schedules.exponential(0.5)
    ),
    "step 0 of v's HostSteps is kept by the host": partial(Toy, optimiser=partial(HostSteps, lr=0.1)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_where_a_replay_would_be_wrong_the_reason_is_said_once_and_all_rounds_are_played(reason: str) -> None:
    tape = Tape()
    trainer, played = toy_trainer(REFUSED[reason](), tape), eager(toy_trainer(REFUSED[reason](), Tape()))
    for _ in range(MOST + 6):
        trainer.play_round()
        played.play_round()
    assert trainer.remarks == [f"--cuda-graph: {reason}; rounds are played without graphs"]
    assert_identical(everything(trainer), everything(played))
    assert not tape.replays


def test_a_round_that_waits_for_the_device_ends_the_run_in_one_line() -> None:
    class Waiting(Toy):
        def play(self, batches: Iterator[Points]) -> Generator[Move, Seen, None]:
            yield Move("v", self.v * next(batches).x.mean().item())

    trainer = toy_trainer(Waiting(), Tape())
    for _ in range(REHEARSALS):
        trainer.play_round()
    with pytest.raises(TrainingError, match=r"cannot be recorded as a CUDA graph \(.*_local_scalar_dense.*\); train without --cuda-graph$"):
        trainer.play_round()


def test_only_a_cuda_gpu_and_one_rank_have_a_recorder() -> None:
    said: list[str] = []
    assert recorder_for(CPU, 1, said.append) is None
    assert recorder_for(torch.device("cuda"), 2, said.append) is None
    assert said == [
        "--cuda-graph: the device is cpu and no CUDA GPU; rounds are played without graphs",
        "--cuda-graph: there are 2 ranks, and what they tell each other is not recorded; rounds are played without graphs",
    ]


def test_the_number_of_the_round_is_assigned_and_read_as_ever_and_reading_is_noticed() -> None:
    game = Toy()
    assert not game.round_was_read
    game.round = 7
    assert not game.round_was_read
    assert game.round == 7
    assert game.round_was_read
    assert Toy().round == 0
