"""Seats that step by the device alone, and the tape on which their steps are recorded."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tape import HOST, Tape
from torch import Tensor, nn

from ganforge import schedules
from ganforge.engine.seat import Seat
from ganforge.game import Player

FUSED = [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, partial(torch.optim.SGD, momentum=0.9)]
# On a GPU the others take this way by themselves.
FOREACH = [partial(getattr(torch.optim, name), foreach=True) for name in ("Adam", "RMSprop", "Adamax", "NAdam", "RAdam", "Adadelta")]


def step(seat: Seat) -> None:
    (seat.parameters[0] - torch.randn(5)).square().sum().backward(inputs=seat.parameters)
    seat.step()


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("optimiser", [*FUSED, *FOREACH], ids=lambda factory: getattr(factory, "func", factory).__name__)
def test_a_capturable_seat_steps_like_any_other_also_when_replayed(
    optimiser: Callable[..., torch.optim.Optimizer], scheduled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("adam", "rmsprop", "adamax", "nadam", "radam", "adadelta"):
        # Torch lets only devices that can capture ask for it; what it then computes is the same everywhere.
        monkeypatch.setattr(sys.modules[f"torch.optim.{module}"], "_get_capturable_supported_devices", lambda *_args, **_more: ["cpu"])
    values = []
    for capturable in (False, True):
        v = nn.Parameter(torch.linspace(-1, 1, 5))
        schedule = schedules.exponential(0.9) if scheduled else None
        seat = Seat("v", Player([v], partial(optimiser, lr=0.03), schedule, ema=0.99, clip=0.5), capturable)
        # These ask for a number that lies in Python, but only of counts of steps that lie there too.
        tape = Tape(HOST - {"lift_fresh"})

        play: Callable[[], None] = partial(step, seat)
        torch.manual_seed(0)
        for number in range(12):
            seat.schedule(number)
            if capturable and number == 4:
                play = tape.record(play)
            play()
        assert sum(tape.replays) == (8 if capturable else 0)
        values.append([v.detach(), seat.average[0]])
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=1e-5)
    if not scheduled and optimiser in FUSED:
        assert torch.equal(values[0][0], values[1][0])


def test_a_schedule_that_reads_a_buffer_is_not_waited_for_by_a_capturable_seat() -> None:
    factor = torch.tensor(0.5)
    seat = Seat(
        "v", Player([nn.Parameter(torch.zeros(()))], partial(torch.optim.SGD, lr=0.1), schedule=lambda _round: factor), capturable=True
    )

    def begin() -> None:
        seat.schedule(0)

    Tape().record(begin)()  # It would refuse to wait.
    assert seat.state()["optimiser"]["param_groups"][0]["lr"] == pytest.approx(0.05)


def test_a_tape_does_nothing_when_it_records_and_everything_but_python_when_it_replays() -> None:
    tape, x, ran = Tape(), torch.zeros(3), itertools.count()
    doubled: list[Tensor] = []

    def run() -> None:
        next(ran)
        x.add_(torch.rand(3))
        doubled.append(2 * x.view(3, 1))

    torch.manual_seed(0)
    noise = [torch.rand(3) for _ in range(3)]
    torch.manual_seed(0)
    replay = tape.record(run)
    assert torch.equal(x, torch.zeros(3))
    assert doubled[0].isnan().all()
    replay()
    replay()
    assert torch.equal(x, noise[0] + noise[1])
    assert torch.equal(doubled[0], 2 * (noise[0] + noise[1])[:, None])
    x.fill_(1.0)
    replay()
    assert torch.equal(doubled[0], 2 * (1 + noise[2])[:, None])
    assert next(ran) == 1
    assert tape.replays == [3]


def test_a_tape_refuses_what_stream_capture_refuses() -> None:
    x = torch.ones(3)
    asked: list[Callable[[], Any]] = [x.sum().item, x.nonzero, lambda: x[x > 0], lambda: torch.tensor(2.0), lambda: bool(x[0] > 0)]
    for waiting in asked:
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            Tape().record(waiting)
