"""Holes: where they are drawn, where they come from files, and that they stay with their picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from painted import CPU, everything, opened, paint
from PIL import Image

from ganforge.batches import Images, LowHigh, Masked
from ganforge.data import Stream, masks
from ganforge.errors import RequestError


def test_the_centre_hole_is_the_middle_half_of_each_side() -> None:
    mask = masks.centre(2, 8, 12)
    expected = np.zeros((8, 12))
    expected[2:6, 3:9] = 1
    assert (mask.numpy() == expected).all()
    assert mask.shape == (2, 1, 8, 12)


def test_a_block_is_one_rectangle_of_a_quarter_to_a_half_of_each_side_anywhere_within() -> None:
    mask = masks.block(torch.rand(2000, masks.BLOCK_COLUMNS, generator=torch.Generator().manual_seed(0)), 16, 32)[:, 0]
    rows, columns = mask.amax(dim=2), mask.amax(dim=1)
    assert torch.equal(mask, rows[:, :, None] * columns[:, None, :])
    for side, length in ((rows, 16), (columns, 32)):
        assert ((side.sum(dim=1) >= length / 4) & (side.sum(dim=1) <= length / 2)).all()
        assert ((side.diff(dim=1) != 0).sum(dim=1) <= 2).all()
        assert side[:, 0].any()
        assert side[:, -1].any()


def test_extreme_chance_keeps_a_block_within_the_picture() -> None:
    largest = float(np.nextafter(np.float32(1), np.float32(0)))
    for chance in (0.0, largest):
        assert masks.block(torch.full((1, masks.BLOCK_COLUMNS), chance), 9, 5).sum() >= 2


def strokes(chance: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """One mask, stroke by stroke and pixel by pixel, from the words of `masks.free`."""
    side = min(height, width)
    hole = np.zeros((height, width), dtype=bool)
    for stroke in chance.reshape(4, -1).astype(np.float64):
        y, x, radius = stroke[0] * height, stroke[1] * width, max(0.75, side * (1 / 16 + (1 / 6 - 1 / 16) * stroke[2]) / 2)
        heading = 2 * np.pi * stroke[3]
        for piece in range(int(stroke[4] * 6) + 1):
            heading += np.radians(120) * stroke[5 + piece] * (-1) ** piece
            length = side * (1 / 16 + (1 / 3 - 1 / 16) * stroke[11 + piece])
            down, across = np.sin(heading) * length, np.cos(heading) * length
            for i in range(height):
                for j in range(width):
                    along = np.clip(((i + 0.5 - y) * down + (j + 0.5 - x) * across) / length**2, 0, 1)
                    hole[i, j] |= (i + 0.5 - y - along * down) ** 2 + (j + 0.5 - x - along * across) ** 2 < radius**2
            y, x = y + down, x + across
    return hole


def test_strokes_are_what_a_slow_loop_draws() -> None:
    chance = torch.rand(3, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(1))
    for height, width in ((16, 16), (12, 20)):
        drawn = masks.free(chance, height, width)[:, 0].numpy() > 0
        slow = np.stack([strokes(row.numpy(), height, width) for row in chance])
        # A pixel on the very edge may fall to either side in single precision.
        assert (drawn != slow).mean() < 0.005


def test_strokes_leave_most_of_a_picture_and_always_take_some() -> None:
    mask = masks.free(torch.rand(500, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(0)), 64, 64)
    share = mask.mean(dim=(1, 2, 3))
    assert share.min() > 0.01
    assert share.max() < 0.6
    assert 0.15 < share.mean() < 0.25
    tiny = masks.free(torch.rand(200, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(0)), 4, 4)
    assert (tiny.sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("how", ["block", "free"])
def test_random_holes_differ_between_pictures_and_epochs_but_not_when_nothing_is_random(root: Path, how: str) -> None:
    source = opened(numbered(root), Masked, mask=how, size=16)
    drawn: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 9)
    assert len({mask.numpy().tobytes() for mask in drawn.mask}) == 9
    fixed = everything(source, Masked)
    assert torch.equal(fixed.mask, everything(source, Masked).mask)
    assert len({mask.numpy().tobytes() for mask in fixed.mask}) == 3


def numbered(root: Path) -> Path:
    for number in range(3):
        paint(root / f"{number}.png", 10 * number)
    return root


def stencil(path: Path, seed: int, size: int = 20) -> NDArray[np.bool_]:
    path.parent.mkdir(parents=True, exist_ok=True)
    hole = np.random.default_rng(seed).random((size, size)) > 0.6
    Image.fromarray((hole * 255).astype(np.uint8)).save(path)
    return hole


@pytest.mark.parametrize("options", [{"jitter": 4}, {"fit": "patch"}])
def test_mask_files_with_the_names_of_the_pictures_are_cut_and_mirrored_with_them(
    root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    for seed in range(4):
        hole = stencil(tmp_path / f"holes/{seed}.png", seed)
        Image.fromarray((hole * 200).astype(np.uint8)).save(root / f"{seed}.png")
    source = opened(root, Masked, mask=str(tmp_path / "holes"), size=16, flip=True, **options)
    batch: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 40)
    assert torch.equal(batch.mask, (batch.image > -1).float())
    assert len({mask.numpy().tobytes() for mask in batch.mask}) > 20


def test_mask_files_with_other_names_are_chosen_by_chance(root: Path, tmp_path: Path) -> None:
    holes = {stencil(tmp_path / f"holes/m{seed}.png", seed, 16).tobytes(): seed for seed in range(5)}
    source = opened(numbered(root), Masked, mask=str(tmp_path / "holes"), size=16)
    batch: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 200)
    chosen = [holes[(mask[0].numpy() > 0).tobytes()] for mask in batch.mask]
    assert all(20 < count < 65 for count in np.bincount(chosen, minlength=5))


def test_a_mask_that_is_nothing_is_refused_where_holes_are_wanted(root: Path) -> None:
    with pytest.raises(RequestError, match="--mask center: neither centre, block, free nor a folder"):
        opened(numbered(root), Masked, mask="center")
    assert opened(root, Images, mask="center").kinds == (Images, LowHigh)
