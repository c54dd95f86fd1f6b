"""What people and programs see of a run while it lasts: the progress line, metrics.jsonl, TensorBoard, state.json."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text
from torch.utils.tensorboard.writer import SummaryWriter

from ganforge.files import write_json
from ganforge.runs import RunFolder


class _Values(ProgressColumn):
    """What players lose and see: the one column that gives way on a narrow terminal."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["values"], no_wrap=True, overflow="ellipsis")


def _firm() -> Column:
    return Column(no_wrap=True)


class Report:
    """Reports one run. On a terminal a live line, elsewhere a plain line now and then; the files are the same."""

    def __init__(
        self, folder: RunFolder, *, unit: str, rounds: int, start: int, console: Console | None = None, plain_seconds: float = 30.0
    ) -> None:
        self._folder = folder
        self._unit = unit
        self._rounds = rounds
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._plain_seconds = plain_seconds
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12, table_column=_firm()),
            MofNCompleteColumn(table_column=_firm()),
            TextColumn("{task.fields[speed]}"),
            TextColumn("[progress.remaining]{task.fields[left]}"),
            _Values(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task: TaskID = self._progress.add_task("", total=rounds, completed=start, speed="", left="", values="")
        self._drop_rows_after(start)
        self._metrics = folder.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=start + 1 if start else None)
        self._last_state = self._last_plain = -1e9
        self._recent: list[tuple[float, int, int]] = []
        self.speed = 0.0

    def _drop_rows_after(self, round: int) -> None:
        """A resumed run plays these rounds again; the rows would be there twice."""
        rows = [row for row in self._folder.metric_rows() if row["round"] <= round]
        temporary = self._folder.metrics.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(self._folder.metrics)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        # What a full disk did not take has been said; how the run itself ended matters more.
        with suppress(OSError):
            self._metrics.close()
        with suppress(OSError):
            self._board.close()

    def due(self) -> bool:
        """Whether a second has passed since `tick` last told anybody."""
        return time.monotonic() - self._last_state >= 1.0

    def tick(self, round: int, samples: int, phase: str, values: dict[str, float]) -> None:
        """Tells where the run stands; `samples` have been drawn in all, `values` are the latest averages."""
        now = time.monotonic()
        self._last_state = now
        self._recent = [*self._recent[-9:], (now, samples, round)]
        seconds = now - self._recent[0][0]
        left = ""
        if seconds > 0:
            self.speed = (samples - self._recent[0][1]) / seconds
            rate = (round - self._recent[0][2]) / seconds
            left = _clock((self._rounds - round) / rate) + " left" if rate else ""
        speed = f"{self.speed:,.0f} {self._unit}/s"
        shown = "  ".join(_value(key, value) for key, value in values.items() if not key.startswith("grad/"))
        self._progress.update(self._task, completed=round, description=phase, speed=speed, left=left, values=shown)
        if not self._live and now - self._last_plain >= self._plain_seconds:
            self._last_plain = now
            self._console.print(f"{phase} {round}/{self._rounds}  {speed}  {left}  {shown}", soft_wrap=True, highlight=False)
        self.status("running", round, phase)

    def status(self, status: str, round: int, phase: str, message: str = "") -> None:
        """Renews state.json."""
        write_state(self._folder.state, status, round=round, rounds=self._rounds, phase=phase, rate=round_to(self.speed), message=message)

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl and to TensorBoard."""
        self._metrics.write(json.dumps(row) + "\n")
        self._metrics.flush()
        for key, value in row.items():
            if isinstance(value, float) and key != "seconds":
                self._board.add_scalar(key, value, row["round"])

    def say(self, text: str) -> None:
        """One line above the progress line."""
        self._progress.console.print(text, soft_wrap=True, highlight=False, markup=False)


class Silence(Report):
    """The report of the ranks after the first: none."""

    def __init__(self) -> None:
        self.speed = 0.0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing was opened."""

    def __enter__(self) -> Self:
        return self

    def due(self) -> bool:
        """Never."""
        return False

    def tick(self, round: int, samples: int, phase: str, values: dict[str, float]) -> None:
        """Nothing."""

    def status(self, status: str, round: int, phase: str, message: str = "") -> None:
        """Nothing."""

    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


def write_state(path: Path, status: str, **values: Any) -> None:
    """state.json: `status` is running, finished, interrupted or failed."""
    write_json(path, {"status": status, **values, "time": round_to(time.time())}, durable=False)


def round_to(value: float) -> float:
    """To three decimals: enough for people, short for files."""
    return round(value, 3)


def _value(key: str, value: float) -> str:
    names = {"real": "D(real)", "fake": "D(fake)"}
    return f"{names.get(key, key.removeprefix('loss/'))} {value:.3f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
