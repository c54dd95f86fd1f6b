"""Animations: frame by frame and millisecond by millisecond; films by a stand-in for ffmpeg and, where there is one, by the real."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganforge.errors import RequestError, TrainingError
from ganforge.pictures import animation, captioned


def drawn(path: Path) -> NDArray[np.int64]:
    """The colours of a written picture, [H, W, 3]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


def frames(folder: Path, count: int, size: tuple[int, int] = (40, 30), colour: bool = True) -> list[Path]:
    """Pictures on white, in each a block that is further to the right and of another shade than in the one before."""
    paths = []
    for index in range(count):
        picture = Image.new("RGB" if colour else "L", size, "white")
        shade = 200 * index // max(1, count - 1)
        picture.paste((shade, 40, 90) if colour else shade, (index % size[0], 5, index % size[0] + 4, 15))
        paths.append(folder / f"{index:03}.png")
        picture.save(paths[-1])
    return paths


def shown(path: Path) -> tuple[list[NDArray[np.int64]], list[int]]:
    """The frames of an animation and how many milliseconds each stays."""
    pictures, durations = [], []
    with Image.open(path) as moving:
        for index in range(getattr(moving, "n_frames", 1)):
            moving.seek(index)
            pictures.append(np.asarray(moving.convert("RGB")).astype(np.int64))
            durations.append(int(moving.info["duration"]))
    return pictures, durations


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_shares_its_seconds_and_holds_the_last_frame(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"run{suffix}"
    paths = frames(tmp_path, 10)
    animation(paths, out, seconds=2.0)
    pictures, durations = shown(out)
    assert durations == [200] * 9 + [2200]
    for path, picture in zip(paths, pictures, strict=True):
        assert np.abs(picture - drawn(path)).mean() < 3
    if suffix == ".gif":
        assert (pictures[0][0, 0] == 255).all()


def test_grey_pictures_come_through_a_gif_unchanged(tmp_path: Path) -> None:
    paths = frames(tmp_path, 5, colour=False)
    animation(paths, tmp_path / "run.gif", seconds=1.0)
    for path, picture in zip(paths, shown(tmp_path / "run.gif")[0], strict=True):
        assert (picture == drawn(path)).all()


def test_of_too_many_frames_evenly_chosen_ones_are_shown_with_both_ends(tmp_path: Path) -> None:
    paths = frames(tmp_path, 81, colour=False)
    animation(paths, tmp_path / "run.gif", seconds=1.0)
    pictures, durations = shown(tmp_path / "run.gif")
    assert durations == [40] * 24 + [2040]
    assert (pictures[0] == drawn(paths[0])).all()
    assert (pictures[-1] == drawn(paths[80])).all()


def test_frames_of_several_sizes_fill_one_of_at_most_720_pixels(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    animation(frames(tmp_path / "small", 1, (10, 10)) + frames(tmp_path, 1, (1440, 960)), tmp_path / "run.gif", seconds=1.0)
    assert [picture.shape for picture in shown(tmp_path / "run.gif")[0]] == [(480, 720, 3)] * 2


@pytest.mark.parametrize(
    ("name", "count", "seconds", "words"), [("a.avi", 1, 8, ".webp or .mp4"), ("a.gif", 0, 8, "no frames"), ("a.gif", 1, 0, "seconds")]
)
def test_an_animation_that_cannot_be_is_refused(name: str, count: int, seconds: float, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        animation(frames(tmp_path, count), tmp_path / name, seconds)


def test_a_frame_that_is_no_picture_is_named_and_what_was_there_stays(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.png", tmp_path / "run.gif"
    bad.write_text("not a picture")
    out.write_bytes(b"before")
    with pytest.raises(RequestError, match=r"bad\.png"):
        animation([*frames(tmp_path, 2), bad], out)
    assert out.read_bytes() == b"before"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> Path:
    """A program `ffmpeg`, the only one on the PATH, that notes its words and what it reads, then does as `ending` says."""
    program = folder / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\nheard = sys.stdin.buffer.read()\n"
        f"pathlib.Path({str(folder / 'heard')!r}).write_bytes(heard)\n"
        f"pathlib.Path({str(folder / 'words')!r}).write_text(json.dumps(sys.argv))\n"
        f"out = pathlib.Path(sys.argv[-1].removeprefix('file:'))\nassert not heard or not out.exists()\n{ending}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for ffmpeg is a script")
def test_ffmpeg_is_given_every_pixel_of_every_frame_and_how_fast_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", monkeypatch, "out.write_bytes(b'film')")
    paths = frames(tmp_path, 5, (41, 31))
    animation(paths, tmp_path / "run.mp4", seconds=2.0, hold=0.8)
    assert (tmp_path / "run.mp4").read_bytes() == b"film"
    heard = np.frombuffer((tmp_path / "bin" / "heard").read_bytes(), np.uint8).reshape(-1, 31, 41, 3)
    wanted = [drawn(path) for path in [*paths, paths[-1], paths[-1]]]
    assert (heard == np.stack(wanted)).all()
    words = json.loads((tmp_path / "bin" / "words").read_text())
    told = dict(itertools.pairwise(words))
    assert (told["-s"], float(told["-framerate"]), told["-pix_fmt"]) == ("41x31", 2.5, "rgb24")
    assert (told["-c:v"], told["-movflags"]) == ("libx264", "+faststart")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(path.name for path in paths), "bin", "run.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for ffmpeg is a script")
@pytest.mark.parametrize("read", [True, False], ids=["at the end", "at once"])
def test_what_ffmpeg_complains_of_is_said_in_one_line_and_what_was_there_stays(
    read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = stand_in(tmp_path / "bin", monkeypatch, "out.write_text('half'); sys.exit('[x] no codec\\nbye')")
    if not read:
        program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('[x] no codec\\nbye')\n")
    (tmp_path / "run.mp4").write_bytes(b"before")
    # More than a pipe holds, so that the one who writes notices where nobody reads.
    with pytest.raises(TrainingError, match=r"^ffmpeg failed with exit code 1: \[x\] no codec bye$"):
        animation(frames(tmp_path, 4, (300, 300)), tmp_path / "run.mp4")
    assert (tmp_path / "run.mp4").read_bytes() == b"before"
    assert not list(tmp_path.glob(".run*"))


def test_without_ffmpeg_another_ending_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match=r"install ffmpeg, or end the name in \.gif or \.webp"):
        animation(frames(tmp_path, 2), tmp_path / "run.mp4")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on this machine")
def test_a_film_shows_the_pictures_for_as_long_as_asked_for_on_an_even_size(tmp_path: Path) -> None:
    paths = frames(tmp_path, 5, (81, 61))
    animation(paths, tmp_path / "run.mp4", seconds=2.0, hold=1.2)
    read = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "run.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    film = np.frombuffer(subprocess.run(read, check=True, capture_output=True).stdout, np.uint8).reshape(-1, 62, 82, 3).astype(np.int64)
    # 25 a second: ten of each of the five pictures, and 30 more of the last.
    assert len(film) == 80
    for number, path in enumerate(paths):
        middle = film[10 * number + 5]
        assert np.abs(middle[:61, :81] - drawn(path)).mean() < 4
        assert (middle[:, 81] > 240).all()
    assert np.abs(film[-1] - film[45]).mean() < 2
    raw = (tmp_path / "run.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat"), "a browser begins before it has the whole"


def test_captions_stand_below_their_frames(tmp_path: Path) -> None:
    paths = frames(tmp_path, 60, (120, 30), colour=False)
    animation(paths, tmp_path / "run.gif", seconds=1.0, captions=[f"round {i}" for i in range(60)])
    pictures, _ = shown(tmp_path / "run.gif")
    for chosen, picture in ((0, pictures[0]), (59, pictures[-1])):
        with Image.open(paths[chosen]) as frame:
            assert (picture[..., 0] == np.asarray(captioned(frame, f"round {chosen}"))).all()


def test_a_film_is_as_wide_as_asked_for_at_most(tmp_path: Path) -> None:
    animation(frames(tmp_path, 2, (100, 60)), tmp_path / "run.gif", width=50)
    assert shown(tmp_path / "run.gif")[0][0].shape == (30, 50, 3)
    animation(frames(tmp_path, 2, (100, 60)), tmp_path / "run.gif", width=500)
    assert shown(tmp_path / "run.gif")[0][0].shape == (60, 100, 3)
