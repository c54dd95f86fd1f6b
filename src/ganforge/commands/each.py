"""Picture by picture: progress, the bad ones by name, and the exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ganforge.data.decode import BadPictureError
from ganforge.data.shelves import readable
from ganforge.errors import RequestError, TrainingError
from ganforge.use.jobs import Job


class Parts(Protocol):
    """Told of one picture that so many parts of all are done, and what else there is to say of it."""

    def __call__(self, done: int, total: int, said: str = "") -> None:
        """Draws it, where a person is watching."""
        ...


class Each:
    """Works through jobs; where a person is watching, with a bar. A picture that fails is named in a line, and the rest is done."""

    def __init__(self, verb: str) -> None:
        self.failed = 0
        self._noted = False
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._verb = verb

    def run(self, jobs: Sequence[Job], work: Callable[[Job], None]) -> int:
        """`work(job)` for each; the exit code, 1 where a picture failed. What ails all of them (a full disk) ends it."""
        with self._bar:
            task = self._bar.add_task(self._verb, total=len(jobs), visible=len(jobs) > 1)
            for job in jobs:
                try:
                    work(job)
                except BadPictureError as error:
                    self._fail(str(error))
                except TrainingError:
                    raise
                except (RequestError, RuntimeError) as error:
                    self._fail(f"{job.place}: {error}")
                except OSError as error:
                    # The name of this one, with what is added to it, and not of the others.
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    self._fail(f"{job.place}: {error.strerror}")
                self._bar.advance(task)
        return 1 if self.failed else 0

    def parts(self, job: Job) -> Parts:
        """What to call as the parts of one large picture are done: a bar of its own, with what is said behind the picture's name."""
        name = readable(job.file.name)
        task = self._bar.add_task(name, visible=False)

        def report(done: int, total: int, said: str = "") -> None:
            text = f"{name}  {said}" if said else name
            self._bar.update(task, completed=done, total=total, description=text, visible=total > 1 and done < total)

        return report

    def note(self, text: str) -> None:
        """Says it of the first picture, however many it is true of."""
        if not self._noted:
            self._say(text)
        self._noted = True

    def _fail(self, text: str) -> None:
        self.failed += 1
        self._say(text)

    def _say(self, text: str) -> None:
        line = " ".join(readable(text).split())
        self._console.print(f"ganforge: {line}", soft_wrap=True, markup=False, highlight=False)


def print_done(jobs: Sequence[Job], failed: int, out: str) -> None:
    """One line on where the results are."""
    done = [path for job in jobs for path in job.outs if path.exists()]
    if len(jobs) == 1 and done:
        print(*(readable(str(path)) for path in done), sep="\n")
    elif len(jobs) != 1:
        print(f"{len(jobs) - failed} of {len(jobs)} pictures done, {len(done)} files in {out}")
