"""`ganforge movie`: how a run's pictures came to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ganforge import pictures
from ganforge.commands.given import at_least_one, free_file, lasting, run_first
from ganforge.errors import RequestError
from ganforge.options import parse
from ganforge.pictures.animation import ANIMATED, check_animated
from ganforge.pictures.canvas import WIDTH
from ganforge.runs import RunFolder, RunRecord


@dataclass(frozen=True)
class MovieOptions:
    """Options of `movie`."""

    out: str | None = None
    """A .mp4 (by ffmpeg), .gif or .webp; None: movie.mp4 in the run folder."""
    seconds: float = 8.0
    """How long it lasts; the last picture stays 2 seconds longer."""
    width: int = WIDTH
    """Pixels across and high at most; larger pictures are shrunk."""
    force: bool = False
    """Overwrite a file that exists."""


def movie_command(arguments: list[str], about: str) -> int:
    """Writes the pictures that a run drew while it was trained as an animation, with the round below each."""
    run, rest = run_first(arguments, "movie")
    options = parse(MovieOptions, rest, "movie RUN", about)
    out = Path(options.out or run.path / "movie.mp4")
    free_file(out, ANIMATED, options.force or options.out is None)
    check_animated(out)
    at_least_one("--width", options.width)
    lasting(options.seconds)
    _film(run, out, options)
    print(out)
    return 0


def _film(run: RunFolder, out: Path, options: MovieOptions) -> None:
    RunRecord.read(run.record)
    frames = run.samples()
    if len(frames) < 2:
        raise RequestError(f"{run.path}: the run has {len(frames)} of the two pictures that a movie needs; see `train --sample-every`")
    rounds = [f"round {int(frame.stem):,}" for frame in frames]
    pictures.animation(frames, out, options.seconds, width=options.width, captions=rounds)
