"""`ganforge doctor`: what goes wrong in a run, since when, why as a rule, and what to try."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from ganforge.commands.given import run_first, source_of
from ganforge.diagnosis import SIGNS, Course, Finding, findings
from ganforge.engine import examined
from ganforge.files import write_json
from ganforge.options import parse


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `doctor`."""

    data: str | None = None
    """SOURCE, where what the run was trained on has moved."""
    out: str | None = None
    """A JSON file for what was found, with the course of every sign."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""


def doctor_command(arguments: list[str], about: str) -> int:
    """Prints what ails a run, or that nothing was found. The run is only read, and may be in training meanwhile."""
    run, rest = run_first(arguments, "doctor")
    options = parse(DoctorOptions, rest, "doctor RUN", about)
    course = examined(run.path, None, source_of(run, options.data), options.device)
    found = findings(course)
    if options.out is not None:
        signs = {name: course.sign(name) for name in SIGNS}
        write_json(Path(options.out), {"run": str(run.path), "findings": [asdict(each) for each in found], "signs": signs})
    _print(course, found)
    return 0


def _print(course: Course, found: list[Finding]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in found:
        since = f"since round {finding.since}" if finding.since else "from the start"
        console.print(f"{finding.cause}, {since}", style="bold")
        for label, text in (("seen", finding.seen), ("usually", finding.usually), ("try", finding.advice)):
            console.print(f"  {label:8} {text}")
    if not found:
        console.print(f"nothing found, up to round {course.end}")
    last = {name: values[-1][1] for name in SIGNS if (values := course.sign(name))}
    console.print(
        "signs: " + (", ".join(f"{name} {value:.2f}" for name, value in last.items()) or "none of a game that samples"), style="dim"
    )
