"""What is drawn: contact sheets to the pixel, and plots by what must and must not change in them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ganforge.batches import ImageSpec, PointSpec, images_from_bytes
from ganforge.data import from_arrays
from ganforge.data.synthetic import Curves, Gaussian, Mixture, Sines
from ganforge.errors import RequestError
from ganforge.pictures import grid, history, portrait, strip

Pixels = NDArray[np.uint8]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def drawn(path: Path) -> NDArray[np.int64]:
    """The colours of a written picture, [H, W, 3]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


def warmth(picture: NDArray[np.int64]) -> tuple[int, int]:
    """How many pixels above the legend are blue, the colour of the real, and how many vermilion, that of the generated."""
    lean = picture[:-60, :, 0] - picture[:-60, :, 2]
    return int((lean < -60).sum()), int((lean > 60).sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_picture_at_its_place_enlarged_without_blur(channels: int) -> None:
    images = noise(5, 4, 6, channels)
    sheet = np.asarray(grid(images, columns=3, scale=2)).reshape(2 + 2 * (8 + 2), 2 + 3 * (12 + 2), channels)
    for index, picture in enumerate(images):
        top, left = 2 + 10 * (index // 3), 2 + 14 * (index % 3)
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            assert (sheet[top + y : top + 8 : 2, left + x : left + 12 : 2] == picture).all()
    assert (sheet[12:, 2 + 2 * 14 :] == 255).all()


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (7, 3), (10, 5), (12, 4), (16, 4), (64, 8), (100, 10)])
def test_a_grid_is_about_square_and_full_where_it_can_be(n: int, columns: int) -> None:
    assert grid(np.zeros((n, 5, 5, 1), np.uint8), scale=1).width == 2 + columns * 7


def test_tall_pictures_make_a_grid_of_more_columns() -> None:
    assert grid(np.zeros((8, 40, 20, 1), np.uint8), scale=1).size == (2 + 4 * 22, 2 + 2 * 42)


@pytest.mark.parametrize(("n", "side"), [(64, 8), (64, 28), (9, 64), (1, 5)])
def test_small_pictures_are_enlarged_to_a_sheet_of_about_six_hundred_pixels(n: int, side: int) -> None:
    assert 450 <= grid(np.zeros((n, side, side, 3), np.uint8)).width <= 750


def test_a_strip_is_one_row_in_order() -> None:
    images = noise(7, 3, 3, 1)
    row = np.asarray(strip(images))
    scale = (row.shape[0] - 4) // 3
    assert row.shape == (3 * scale + 4, 7 * (3 * scale + 2) + 2)
    assert (row[2, 2 :: 3 * scale + 2][:7] == images[:, 0, 0, 0]).all()


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (np.zeros((2, 4, 4, 3)), {}, "float64"),
        (np.zeros((2, 3, 4, 4), np.uint8), {}, r"\[2, 3, 4, 4\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "at least one"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"columns": 0}, "columns = 0"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"scale": 0}, "scale = 0"),
    ],
)
def test_what_makes_no_grid_is_refused(images: Pixels, options: dict[str, int], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        grid(images, **options)


def test_the_portrait_of_pictures_is_their_grid_with_the_caption_below(tmp_path: Path) -> None:
    images = noise(6, 8, 8, 3)
    plain, captioned = tmp_path / "plain.png", tmp_path / "captioned.png"
    samples = images_from_bytes(torch.from_numpy(images))
    portrait(plain, samples, ImageSpec(8, 8, 3))
    portrait(captioned, samples, ImageSpec(8, 8, 3), caption="round 500 " + "and so on " * 50)
    sheet = np.asarray(grid(images))
    assert (drawn(plain) == sheet).all()
    below = drawn(captioned)[len(sheet) :]
    assert (drawn(captioned)[: len(sheet)] == sheet).all()
    assert below.min() < 100
    assert (below[:, :6] == 255).all()
    assert (below[:, -6:] == 255).all()


@pytest.mark.parametrize("law", [Gaussian(), Mixture.ring(), Curves()], ids=lambda law: law.name)
def test_a_portrait_of_points_shows_the_real_in_blue_and_the_generated_in_vermilion(
    law: Gaussian | Mixture | Curves, tmp_path: Path
) -> None:
    samples = law.draw(100, torch.Generator().manual_seed(1)) + 0.1
    portrait(tmp_path / "both.png", samples, law.spec, source=law)
    portrait(tmp_path / "alone.png", samples, law.spec)
    (blue, vermilion), (none, all_of_it) = warmth(drawn(tmp_path / "both.png")), warmth(drawn(tmp_path / "alone.png"))
    assert min(blue, vermilion, all_of_it) > 100
    assert none == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.png", "both.png"]


@pytest.mark.parametrize("law", [Gaussian(), Mixture.grid(), Sines()], ids=lambda law: law.name)
def test_the_axes_follow_the_real_data_and_not_the_generated(law: Gaussian | Mixture | Sines, tmp_path: Path) -> None:
    samples = law.draw(100, torch.Generator().manual_seed(1))
    portrait(tmp_path / "near.png", samples, law.spec, source=law)
    portrait(tmp_path / "far.png", 3 * samples - 5, law.spec, source=law)
    near, far = drawn(tmp_path / "near.png"), drawn(tmp_path / "far.png")
    assert (near[:, :50] == far[:, :50]).all(), "the scale on the left"
    assert (near[-80:] == far[-80:]).all(), "the scale and the legend below"
    assert (near != far).any()


def test_what_lies_beyond_the_axis_of_a_density_is_said(tmp_path: Path) -> None:
    law = Gaussian()
    portrait(tmp_path / "gone.png", torch.full((50, 1), 1000.0), law.spec, source=law)
    gone = drawn(tmp_path / "gone.png")
    assert warmth(gone[:120, 480:])[1] > 20
    assert warmth(gone[:120, :480])[1] == 0


@pytest.mark.parametrize(
    ("spec", "calls"), [(PointSpec(1), True), (PointSpec(2), True), (PointSpec(3), False), (PointSpec(2, (0.0, 1.0)), False)]
)
def test_the_judge_is_asked_about_places_of_the_picture_without_gradients(spec: PointSpec, calls: bool, tmp_path: Path) -> None:
    asked: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        asked.append(x)
        return x.sum(dim=1)

    samples = seeded(40, spec.dimension)
    portrait(tmp_path / "judged.png", samples, spec, judge=judge)
    assert bool(asked) == calls
    if calls:
        places = torch.cat(asked)
        assert places.shape[1:] == spec.shape
        assert places.dtype == samples.dtype
        assert (places.amin(0) <= samples.amin(0)).all()
        assert (places.amax(0) >= samples.amax(0)).all()


@pytest.mark.parametrize(("dimension", "verdict"), [(1, 0.5), (1, math.nan), (2, 0.5), (2, -7.0), (2, math.nan)])
def test_a_judge_that_says_the_same_everywhere_can_be_drawn(dimension: int, verdict: float, tmp_path: Path) -> None:
    portrait(tmp_path / "flat.png", seeded(20, dimension), PointSpec(dimension), judge=lambda x: torch.full((len(x),), verdict))
    assert warmth(drawn(tmp_path / "flat.png"))[1] > 100


@pytest.mark.parametrize(("dimension", "value"), [(1, 3.0), (1, math.nan), (2, 3.0), (5, math.nan)])
def test_a_generator_that_says_one_thing_only_can_be_drawn(dimension: int, value: float, tmp_path: Path) -> None:
    real = from_arrays(np.random.default_rng(0).normal(size=(50, dimension)))
    for source in (real, None):
        portrait(tmp_path / "collapsed.png", torch.full((10, dimension), value), PointSpec(dimension), source=source)
        assert drawn(tmp_path / "collapsed.png").shape[1] == 720


def test_samples_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\[4, 3\].*\[n, 2\]"):
        portrait(tmp_path / "none.png", torch.zeros(4, 3), PointSpec(2))
    assert not list(tmp_path.iterdir())


def rows(rounds: int) -> list[dict[str, float | int | str]]:
    rng = np.random.default_rng(0)
    return [
        {"round": i, "seconds": i / 9, "speed": 9.0, "loss/generator": rng.normal(), "real": rng.random(), "distance": 30 * rng.random()}
        for i in range(rounds)
    ]


def losses(rounds: int) -> list[dict[str, float | int | str]]:
    return [{key: row[key] for key in ("round", "loss/generator")} for row in rows(rounds)]


def history_of(records: list[dict[str, float | int | str]], path: Path) -> NDArray[np.int64]:
    history(path, records)
    return drawn(path)


def test_a_history_has_a_panel_for_losses_one_for_shares_and_one_for_the_rest(tmp_path: Path) -> None:
    heights = [len(history_of(records, tmp_path / "history.png")) for records in (rows(30), losses(30))]
    assert heights == [790, 310]


def test_a_round_logged_twice_counts_as_it_was_logged_last(tmp_path: Path) -> None:
    clean = losses(20)
    wrong: list[dict[str, float | int | str]] = [{**row, "loss/generator": 99.0} for row in clean[10:15]]
    assert (history_of(clean[:15] + wrong + clean[10:], tmp_path / "a.png") == history_of(clean, tmp_path / "b.png")).all()


def test_lone_spikes_and_holes_do_not_stretch_the_scale(tmp_path: Path) -> None:
    clean: list[dict[str, float | int | str]] = [{"round": i, "loss/generator": 0.01 * i} for i in range(500)]
    wild = [dict(row) for row in clean]
    for place, value in ((7, 1e6), (8, math.nan), (9, math.inf)):
        wild[place]["loss/generator"] = value
    heights = []
    for records in (clean, wild):
        picture = history_of(records, tmp_path / "history.png")[40:-50]
        heights.append(int((picture[:, :, 0] - picture[:, :, 2] < -60).any(axis=1).sum()))
    assert min(heights) > 150, "the line fills its panel from top to bottom"


def test_a_phase_is_marked_where_it_changes(tmp_path: Path) -> None:
    plain = history_of(losses(20), tmp_path / "a.png")
    one = history_of([{**row, "phase": "play"} for row in losses(20)], tmp_path / "b.png")
    two = history_of([{**row, "phase": "pretrain" if row["round"] in range(8) else "play"} for row in losses(20)], tmp_path / "c.png")
    assert (plain == one).all()
    assert (plain != two).any()


@pytest.mark.parametrize("records", [[], [{"round": 1, "seconds": 2.0}], [{"round": 1, "loss/d": math.nan}], [{"loss/d": 1.0}]])
def test_a_history_of_nothing_is_refused(records: list[dict[str, float | int | str]], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="history"):
        history(tmp_path / "history.png", records)


def test_importing_the_room_does_not_import_matplotlib() -> None:
    code = "import sys, ganforge.pictures; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
