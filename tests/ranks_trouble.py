"""What goes wrong on one of two ranks: played by ranks_job.py, run after run in the same processes; test_ranks.py judges what is left."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ganforge import cli
from ganforge.batches import Points, PointSpec
from ganforge.data import from_arrays
from ganforge.engine import Settings, session, train
from ganforge.engine import ranks as engine_ranks
from ganforge.engine.checkpoint import write_checkpoint
from ganforge.engine.ranks import joined
from ganforge.engine.synchronising import synchronise
from ganforge.game import Game, Move, Player

CPU = torch.device("cpu")


class Slope(Game):
    """One number that follows the data; what `trouble` does in round 5 of the rank that it is for comes before its move."""

    rounds, batch_size = 8, 4
    beginning: Callable[[], None] = staticmethod(lambda: None)
    trouble: Callable[[Tensor], Any] = staticmethod(lambda loss: loss)

    def __init__(self, data: PointSpec) -> None:
        super().__init__()
        self.beginning()
        self.line: nn.Module = nn.Linear(data.dimension, 1)
        self.played = 0

    def players(self) -> dict[str, Player]:
        return {"line": Player(self.line, partial(torch.optim.SGD, lr=0.01), ema=0.9)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        self.played += 1
        loss = self.line(next(batches).point).square().mean()
        yield Move("line", self.trouble(loss) if self.played == 5 else loss)


def told(game: type[Game], out: Path, **settings: Any) -> dict[str, Any]:
    """How a run of eight rounds ended here: the error and what it says, or the weights that came back."""
    source = from_arrays(torch.arange(32.0).reshape(16, 2).numpy() / 32)
    try:
        trained = train(game, source, Settings(**{"checkpoint_every": "2", "log_every": 1, **settings}), out=out)
    except BaseException as error:
        return {"error": type(error).__name__, "said": str(error), "reported": getattr(error, "reported", None)}
    return {"weights": [parameter.detach().flatten().tolist() for parameter in trained.parameters()]}


def main(out: Path, rank: int) -> None:
    found: dict[str, Any] = {name: told(Slope, out / name) for name in ("once", "again")}

    class RefusedThere(Slope):
        def beginning(self) -> None:
            if rank == 1:
                raise ValueError("no such width")

    class Late(Slope):
        def beginning(self) -> None:
            time.sleep(2.5 if rank == 0 else 0)

    class Breaking(Slope):
        def trouble(self, loss: Tensor) -> Tensor:
            def fail(_gradient: Tensor) -> None:
                raise RuntimeError("the skip connection timed out")

            if rank == 1:
                loss.register_hook(fail)
            return loss

    class Signalled(Slope):
        def trouble(self, loss: Tensor) -> Tensor:
            if rank == 0:
                signal.raise_signal(signal.SIGTERM)
            return loss

    class Normal(Slope):
        def __init__(self, data: PointSpec) -> None:
            super().__init__(data)
            self.line = nn.Sequential(nn.BatchNorm1d(data.dimension), nn.Linear(data.dimension, 1))

    class Drawing(Normal):
        def latent(self, n: int) -> Tensor:
            return torch.randn(n, 2)

        def sample(self, latent: Tensor) -> Tensor:
            return nn.functional.pad(self.line.train()(latent), (1, 0))

    found["still"] = told(Normal, out / "still", sync_batchnorm=True)
    found["drawing"] = told(Drawing, out / "drawing", sync_batchnorm=True)
    found["refused"] = told(RefusedThere, out / "refused")
    with mock.patch.object(engine_ranks, "PATIENCE", timedelta(seconds=1)):
        found["late"] = told(Late, out / "late")
    found["breaking"] = told(Breaking, out / "breaking")
    log = session.Session._log

    def gone(self: session.Session, *arguments: Any) -> None:
        if rank == 1 and self.trainer.round == 5:
            raise OSError("its disk is gone")
        log(self, *arguments)

    with mock.patch.object(session.Session, "_log", gone):
        found["gone"] = told(Slope, out / "gone")

    def slowly(*arguments: Any) -> None:
        time.sleep(1)
        write_checkpoint(*arguments)

    with mock.patch.object(session, "write_checkpoint", slowly):
        found["signalled"] = told(Signalled, out / "signalled", checkpoint_every="100")
        # At once, as the launcher looks at once when a process has left.
        found["signalled"]["status"] = json.loads((out / "signalled" / "state.json").read_text())["status"]
    found["command"] = command(["train", "dcgan", "--preset", "tiny", "--batch-size", "7", "--out", str(out / "command")])
    command(["train", "dcgan", "--preset", "tiny", "--rounds", "160", "--checkpoint-every", "40", "--out", str(out / "whole")])
    found["far"] = far(rank)
    (out / f"trouble-{rank}.json").write_text(json.dumps(found))


def command(line: list[str]) -> dict[str, Any]:
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(line)
    return {"code": code, "said": errors.getvalue()}


def far(rank: int) -> dict[str, list[float]]:
    """Synchronised batch normalisation of one half of numbers that lie far from zero, and the gradient of its input."""
    values = 1000 + torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    layer = nn.Sequential(nn.BatchNorm1d(3))
    with joined(CPU):
        synchronise(layer)
        x = values.chunk(2)[rank].clone().requires_grad_()
        normal = layer(x)
        normal.pow(3).mean().backward()
    assert x.grad is not None
    return {"normal": normal.flatten().tolist(), "gradient": x.grad.flatten().tolist()}
