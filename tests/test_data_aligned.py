"""Two pictures a sample: pairs stay aligned, unpaired ones go their own ways, low ones are what high ones become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ganforge.batches import Batch, Images, ImageSpec, Labelled, LowHigh, Pairs, TwoDomains, Unpaired, images_to_bytes
from ganforge.data import Finite, Source, Stream, describe, open_source, served_kinds
from ganforge.data.layouts.lowhigh import shrunk
from ganforge.errors import RequestError, TrainingError

CPU = torch.device("cpu")
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")


def noise(seed: int, height: int = 20, width: int = 20) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def batches(source: Source, kind: type[Batch], size: int = 40) -> Any:
    return Stream(source, kind, seed=0, device=CPU).at(0, size)


def fields(batch: Batch) -> list[NDArray[np.uint8]]:
    return [images_to_bytes(tensor).numpy() for tensor in batch.tensors().values() if tensor.ndim == 4]


def side_by_side(root: Path, count: int = 6, height: int = 20, width: int = 20) -> str:
    """b is a with every byte inverted."""
    for seed in range(count):
        a = noise(seed, height, width)
        save(root / f"{seed}.png", np.concatenate([a, 255 - a], axis=1))
    return str(root)


def folders(root: Path, names: Sequence[str] = ("A", "B"), count: int = 6) -> str:
    for seed in range(count):
        save(root / names[0] / f"{seed}.png", noise(seed))
        save(root / names[1] / f"{seed}.bmp", 255 - noise(seed))
    return str(root)


@pytest.mark.parametrize("make", [side_by_side, folders])
@pytest.mark.parametrize(
    "options", [{"jitter": 4, "flip": True}, {"fit": "patch", "flip": True}, {"flip": True, "jitter": 4, "cache": "none"}]
)
def test_both_sides_of_a_pair_are_cut_and_mirrored_alike(tmp_path: Path, make: Any, options: dict[str, Any]) -> None:
    a, b = fields(batches(open_source(make(tmp_path), kinds=(Pairs,), size=16, **options), Pairs))
    assert (b == 255 - a).all()
    assert len({picture.tobytes() for picture in a}) > 30


def test_direction_says_which_side_is_the_input(tmp_path: Path) -> None:
    text = side_by_side(tmp_path, count=1)
    forth, back = (fields(batches(open_source(text, kinds=(Pairs,), size=20, direction=way), Pairs, 1)) for way in ("AtoB", "BtoA"))
    assert (forth[0] == noise(0)).all()
    assert (forth[0] == back[1]).all()
    assert (forth[1] == back[0]).all()


def test_the_size_is_that_of_one_half_and_nothing_bleeds_over_the_seam(tmp_path: Path) -> None:
    black_and_white = np.zeros((64, 128, 3), np.uint8)
    black_and_white[:, 64:] = 255
    save(tmp_path / "0.png", black_and_white)
    source = open_source(str(tmp_path), size=16)
    assert source.spec == ImageSpec(16, 16, 3)
    a, b = fields(batches(source, Pairs, 1))
    assert (a == 0).all()
    assert (b == 255).all()


def test_an_array_of_double_width_holds_pairs_too(tmp_path: Path) -> None:
    a = np.stack([noise(seed) for seed in range(3)])
    np.savez(tmp_path / "a.npz", images=np.concatenate([a, 255 - a], axis=2))
    one, other = fields(batches(open_source(str(tmp_path / "a.npz"), kinds=(Pairs,)), Pairs, 3))
    assert (one == 255 - other).all()


def test_two_sources_with_equal_names_are_pairs_whatever_lies_in_only_one(tmp_path: Path) -> None:
    folders(tmp_path, ("photos", "maps"))
    save(tmp_path / "photos" / "alone.png", noise(99))
    text = f"{tmp_path / 'photos'},{tmp_path / 'maps'}"
    source = open_source(text, size=20)
    a, b = fields(batches(source, Pairs, 6))
    assert (b == 255 - a).all()
    assert any("1 pictures" in note and "no partner: alone.png" in note for note in source.notes)
    with pytest.raises(RequestError, match=r"photos/alone\.png: has no partner"):
        open_source(text, kinds=(Pairs,), strict=True)


def test_a_pair_of_which_one_side_is_bad_is_left_out_and_named(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "A" / "2.png").write_bytes(b"no picture")
    (tmp_path / "B" / "4.bmp").write_bytes(b"")
    source = open_source(str(tmp_path), kinds=(Pairs,), size=20)
    assert isinstance(source, Finite)
    assert source.count == 4
    a, b = fields(source.gather(Pairs, torch.arange(4), CPU))
    assert (b == 255 - a).all()
    told = describe(source)
    assert told["bad_count"] == 2
    assert {Path(name).name for name in told["bad"]} == {"2.png", "4.bmp"}  # type: ignore[attr-defined]


def test_a_bad_picture_of_a_pair_that_is_decoded_as_it_is_drawn_stops_the_run_and_no_pair_is_mixed_up(tmp_path: Path) -> None:
    folders(tmp_path)
    whole = (tmp_path / "A" / "2.png").read_bytes()
    (tmp_path / "A" / "2.png").write_bytes(whole[: len(whole) // 2])
    source = open_source(str(tmp_path), kinds=(Pairs,), size=20, cache="none")
    assert isinstance(source, Finite)
    with pytest.raises(TrainingError, match=r"A/2\.png"):
        source.gather(Pairs, torch.arange(6), CPU)
    assert open_source(str(tmp_path), kinds=(Pairs,), size=20).slow is False


def test_a_grey_side_is_served_in_the_colours_of_the_other(tmp_path: Path) -> None:
    save(tmp_path / "A" / "0.png", noise(0)[..., 0])
    save(tmp_path / "B" / "0.png", noise(1))
    source = open_source(str(tmp_path), kinds=(Pairs,), size=20)
    a, b = fields(batches(source, Pairs, 1))
    assert (a == noise(0)[..., :1]).all()
    assert (b == noise(1)).all()


@pytest.mark.parametrize(
    ("names", "width", "reason"),
    [
        (["0", "1", "2"], 30, "0.png is 30x10, not two squares side by side"),
        (["A/one", "A/two", "B/three"], 10, "no picture of one has the name of one of the other (one.png against three.png)"),
        (["0", "1", "2"], 10, "there are no two folders A and B"),
    ],
)
def test_what_holds_no_pairs_is_refused_with_every_reason_in_one_line(tmp_path: Path, names: list[str], width: int, reason: str) -> None:
    for seed, name in enumerate(names):
        save(tmp_path / f"{name}.png", noise(seed, 10, width))
    with pytest.raises(RequestError, match=r"cannot serve Pairs; ") as caught:
        open_source(str(tmp_path), kinds=(Pairs,))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_sources_without_a_name_in_common_are_refused_with_an_example_of_each(tmp_path: Path) -> None:
    save(tmp_path / "x" / "one.png", noise(0))
    save(tmp_path / "y" / "two.png", noise(1))
    with pytest.raises(RequestError, match=r"no picture of one has the name of one of the other \(one\.png against two\.png\)"):
        open_source(f"{tmp_path / 'x'},{tmp_path / 'y'}", kinds=(Pairs,))


def test_cyclegans_folders_are_unpaired_and_folders_a_and_b_are_pairs_unless_asked_otherwise(tmp_path: Path) -> None:
    cyclegan, plain = folders(tmp_path / "1", ("trainA", "trainB")), folders(tmp_path / "2")
    assert open_source(cyclegan).kinds == (Unpaired,)
    assert open_source(plain).kinds == (Pairs,)
    assert open_source(cyclegan, kinds=(Pairs,)).kinds == (Pairs,)
    assert open_source(plain, kinds=(Unpaired,)).kinds == (Unpaired,)
    assert {Unpaired, Pairs, Labelled, Images} <= set(served_kinds(open_source(plain)))


def unequal(root: Path, a: int = 3, b: int = 5) -> str:
    for seed in range(a):
        save(root / "trainA" / f"{seed}.png", noise(seed))
    for seed in range(b):
        save(root / "trainB" / f"{seed}.png", noise(100 + seed))
    return str(root)


def test_each_side_of_unpaired_data_has_epochs_of_its_own(tmp_path: Path) -> None:
    source = open_source(unequal(tmp_path), size=20)
    assert isinstance(source, Finite)
    assert source.count == 5
    a, b = fields(batches(source, Unpaired, 15))
    for side, count, first in ((a, 3, 0), (b, 5, 100)):
        known = {noise(first + seed).tobytes(): seed for seed in range(count)}
        served = [known[picture.tobytes()] for picture in side]
        for start in range(0, 15, count):
            assert sorted(served[start : start + count]) == list(range(count))
    assert len({(x.tobytes(), y.tobytes()) for x, y in zip(a, b, strict=True)}) > 5


def test_the_sides_of_unpaired_data_are_mirrored_independently(tmp_path: Path) -> None:
    a, b = fields(batches(open_source(unequal(tmp_path, 1, 1), size=20, flip=True), Unpaired, 60))
    mirrored = np.array([[(picture != noise(seed)).any() for picture in side] for side, seed in ((a, 0), (b, 100))])
    assert all(15 < count < 45 for count in mirrored.sum(axis=1))
    assert 15 < (mirrored[0] != mirrored[1]).sum() < 45


def test_every_number_of_an_unpaired_source_is_a_picture_of_each_side(tmp_path: Path) -> None:
    source = open_source(unequal(tmp_path), size=20)
    assert isinstance(source, Finite)
    a, b = fields(source.gather(Unpaired, torch.arange(5), CPU))
    assert [picture.tobytes() for picture in a] == [noise(seed % 3).tobytes() for seed in range(5)]
    assert [picture.tobytes() for picture in b] == [noise(100 + seed).tobytes() for seed in range(5)]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(48, 48), (24, 72)])
def test_smaller_pictures_are_pillows_bicubic_to_one_grey_level(factor: int, shape: tuple[int, int]) -> None:
    pixels = noise(0, *shape)
    reference = np.asarray(Image.fromarray(pixels).resize((shape[1] // factor, shape[0] // factor), Image.Resampling.BICUBIC))
    high = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    low = shrunk(high, factor)
    served = images_to_bytes(low)[0].numpy()
    assert np.abs(served.astype(int) - reference).max() <= 1
    # What is served could have been saved in a file: it is bytes, not decimals between them.
    torch.testing.assert_close((low + 1) * 127.5, ((low + 1) * 127.5).round(), atol=1e-4, rtol=0)


def test_low_pictures_belong_to_their_high_ones_as_these_are_cut_and_mirrored(tmp_path: Path) -> None:
    for seed in range(4):
        save(tmp_path / f"{seed}.png", noise(seed, 40, 30))
    batch = batches(open_source(str(tmp_path), kinds=(LowHigh,), size=16, fit="patch", flip=True), LowHigh)
    assert torch.equal(batch.low, shrunk(batch.high, 4))


def test_the_factor_is_told_only_where_low_pictures_are_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "0.png", noise(0))
    plain, asked = open_source(str(tmp_path), size=16), open_source(str(tmp_path), kinds=(LowHigh,), size=16, factor=2)
    assert LowHigh in plain.kinds
    assert isinstance(plain.spec, ImageSpec)
    assert isinstance(asked.spec, ImageSpec)
    assert (plain.spec.factor, asked.spec.factor) == (1, 2)


def test_sizes_that_the_factor_does_not_divide_are_refused_with_the_nearest(tmp_path: Path) -> None:
    save(tmp_path / "0.png", noise(0))
    with pytest.raises(RequestError, match="pictures of 18x18 cannot be made 4 times smaller; --size 16x16 can"):
        open_source(str(tmp_path), kinds=(LowHigh,), size=18)
    assert LowHigh not in open_source(str(tmp_path), size=18).kinds


def low_and_high(root: Path, factor: int = 2, name: str = "{}") -> str:
    for seed in range(5):
        low = noise(seed, 12 + seed, 16)
        save(root / "LR" / f"{name.format(seed)}.png", low)
        save(root / "HR" / f"{seed}.png", low.repeat(factor, axis=0).repeat(factor, axis=1))
    return str(root)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("name", ["{}", "{}x{factor}"])
def test_two_folders_of_low_and_high_pictures_are_cut_at_the_same_place(tmp_path: Path, factor: int, name: str) -> None:
    text = low_and_high(tmp_path, factor, name.replace("{factor}", str(factor)))
    source = open_source(text, kinds=(LowHigh,), size=8 * factor, fit="patch", flip=True)
    assert source.spec == ImageSpec(8 * factor, 8 * factor, 3, factor=factor)
    low, high = fields(batches(source, LowHigh))
    assert (low.repeat(factor, axis=1).repeat(factor, axis=2) == high).all()
    assert len({picture.tobytes() for picture in low}) > 30


def test_jitter_moves_low_and_high_pictures_together(tmp_path: Path) -> None:
    for seed in range(4):
        low = noise(seed, 10, 10)
        save(tmp_path / "x" / f"{seed}.png", low)
        save(tmp_path / "y" / f"{seed}.png", low.repeat(2, axis=0).repeat(2, axis=1))
    text = f"{tmp_path / 'y'},{tmp_path / 'x'}"
    low, high = fields(batches(open_source(text, kinds=(LowHigh,), size=16, jitter=4, flip=True), LowHigh))
    assert (low.repeat(2, axis=1).repeat(2, axis=2) == high).all()
    assert len({picture.tobytes() for picture in low}) > 20
    with pytest.raises(RequestError, match="--jitter 3: must be divisible by 2"):
        open_source(text, kinds=(LowHigh,), size=16, jitter=3)


def test_high_pictures_of_odd_sizes_are_still_cut_where_the_low_ones_are(tmp_path: Path) -> None:
    for seed in range(3):
        low = noise(seed, 14, 15)
        high = low.repeat(3, axis=0).repeat(3, axis=1)
        save(tmp_path / "LR" / f"{seed}.png", low)
        save(tmp_path / "HR" / f"{seed}.png", high[:-1, :-2])
    low_, high_ = fields(batches(open_source(str(tmp_path), kinds=(LowHigh,), size=24, fit="patch"), LowHigh))
    assert (low_.repeat(3, axis=1).repeat(3, axis=2) == high_).all()


def test_two_folders_whose_sizes_are_in_no_ratio_are_refused_with_a_pair(tmp_path: Path) -> None:
    save(tmp_path / "LR" / "0.png", noise(0, 10, 10))
    save(tmp_path / "HR" / "0.png", noise(1, 25, 25))
    with pytest.raises(RequestError, match=r"0\.png: 10x10 and 25x25 pixels; low pictures are 2, 3, 4 or 8 times smaller"):
        open_source(f"{tmp_path / 'LR'},{tmp_path / 'HR'}", kinds=(LowHigh,))


def npz(path: Path, size: int, channels: int, count: int) -> Path:
    shape = (count, size, size, 3) if channels == 3 else (count, size, size)
    np.savez(path, train_images=np.random.default_rng(size).integers(0, 256, shape, dtype=np.uint8), train_labels=np.arange(count) % 3)
    return path


def test_two_domains_come_at_one_size_in_one_number_of_channels_with_the_labels_of_the_first(tmp_path: Path) -> None:
    source = open_source(f"{npz(tmp_path / 'a.npz', 14, 1, 6)},{npz(tmp_path / 'b.npz', 16, 3, 4)}", kinds=(TwoDomains,))
    assert source.spec == ImageSpec(16, 16, 3, ("0", "1", "2"))
    assert isinstance(source, Finite)
    assert source.count == 6
    batch = source.gather(TwoDomains, torch.arange(6), CPU)
    assert isinstance(batch, TwoDomains)
    assert batch.label.tolist() == [0, 1, 2, 0, 1, 2]
    grey, _ = fields(batch)
    assert (grey == grey[..., :1]).all()


def test_labels_travel_with_the_pictures_of_the_first_domain(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=np.broadcast_to(values[:, None, None] * 20, (6, 4, 4)), labels=values)
    np.savez(tmp_path / "b.npz", images=np.zeros((4, 4, 4), np.uint8), labels=np.arange(4) + 90)
    batch = batches(open_source(f"{tmp_path / 'a.npz'},{tmp_path / 'b.npz'}"), TwoDomains, 20)
    assert (fields(batch)[0][:, 0, 0, 0] == 20 * batch.label.numpy()).all()


def test_a_first_domain_without_labels_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8))
    text = f"{tmp_path / 'a.npz'},{npz(tmp_path / 'b.npz', 4, 1, 3)}"
    with pytest.raises(RequestError, match=r"a\.npz has no classes"):
        open_source(text, kinds=(TwoDomains,))
    assert open_source(text, kinds=(TwoDomains,), direction="BtoA").kinds == (TwoDomains,)


def test_one_source_is_no_two_domains_and_the_error_shows_how_two_are_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot serve TwoDomains; two sources LABELLED,OTHER: give two, with a comma"):
        open_source(str(npz(tmp_path / "a.npz", 4, 1, 3)), kinds=(TwoDomains,))


@needs_data
def test_the_halves_of_cityscapes_pairs_are_a_photo_and_a_painted_map() -> None:
    source = open_source(str(SHARED / "cityscapes_pairs"), size=64, strict=True)
    assert isinstance(source, Finite)
    assert (source.kinds, source.count) == ((Pairs,), 320)
    test = open_source(str(SHARED / "cityscapes_pairs"), size=64, split="test")
    assert isinstance(test, Finite)
    assert test.count == 60
    a, b = fields(source.gather(Pairs, torch.arange(20), CPU))
    # The maps are painted in strong colours, the streets are grey.
    street, painted = ((side.max(axis=3).astype(int) - side.min(axis=3)).mean() for side in (a, b))
    assert painted > 3 * street


@needs_data
def test_cat2dog_opens_as_cyclegans_folders_and_its_splits_share_no_picture() -> None:
    train, test = (open_source(str(SHARED / "cat2dog"), size=32, split=split, strict=True) for split in ("train", "test"))
    assert isinstance(train, Finite)
    assert isinstance(test, Finite)
    assert (train.kinds, train.count, test.count) == ((Unpaired,), 300, 60)
    seen = [
        [{picture.tobytes() for picture in side} for side in fields(each.gather(Unpaired, torch.arange(each.count), CPU))]
        for each in (train, test)
    ]
    assert [len(side) for side in seen[0]] == [300, 300]
    assert not (seen[0][0] | seen[0][1]) & (seen[1][0] | seen[1][1])


@needs_data
def test_mnist_and_mnist_m_are_two_domains_of_32_pixels_in_colour() -> None:
    source = open_source(f"{SHARED / 'mnist/mnist.npz'},{SHARED / 'mnist_m/mnist_m.npz'}")
    assert source.kinds == (TwoDomains,)
    assert source.spec == ImageSpec(32, 32, 3, tuple("0123456789"))
    assert any("10000 labelled" in note and "6000 without labels" in note for note in source.notes)


@needs_data
def test_patches_of_photographs_are_cut_at_their_own_scale() -> None:
    source = open_source(str(SHARED / "sr_photos"), kinds=(LowHigh,), size=96, fit="patch", strict=True)
    assert isinstance(source, Finite)
    assert source.count == 196
    batch = batches(source, LowHigh, 8)
    assert (batch.low.shape, batch.high.shape) == ((8, 3, 24, 24), (8, 3, 96, 96))
    assert torch.equal(batch.low, shrunk(batch.high, 4))
