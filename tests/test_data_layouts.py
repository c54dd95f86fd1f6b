"""What holds of every kind of batch: exact chance, honest shapes, fingerprints, and test pictures that are never trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ganforge.batches import (
    Attributed,
    Batch,
    Captioned,
    Images,
    ImageSpec,
    Labelled,
    LowHigh,
    Masked,
    Pairs,
    TwoDomains,
    Unpaired,
    images_to_bytes,
)
from ganforge.data import Finite, Source, Stream, open_source
from ganforge.errors import RequestError
from ganforge.pictures import sheet
from ganforge.pictures.sheets import side_by_side

CPU = torch.device("cpu")
COUNT = 7


@pytest.fixture(autouse=True, scope="module")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = os.environ.get("GANFORGE_CACHE")
    os.environ["GANFORGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("GANFORGE_CACHE") if before is None else os.environ.update(GANFORGE_CACHE=before)


def paint(path: Path, seed: int, height: int = 20, width: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def images(root: Path) -> str:
    for number in range(COUNT):
        paint(root / f"{number}.png", number)
    return str(root)


def classes(root: Path) -> str:
    for number in range(COUNT):
        paint(root / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    return str(root)


def attributes(root: Path) -> str:
    rows = [f"{number}.png {1 if number % 2 else -1} {1 if number > 3 else -1}" for number in range(COUNT)]
    images(root / "img")
    (root / "list_attr_celeba.txt").write_text("\n".join([str(COUNT), "Smiling Male", *rows]))
    return str(root)


def captions(root: Path) -> str:
    said = [
        {"file": f"{number}.png", "captions": [f"picture number {number} of it", f"{number} is the one here"]} for number in range(COUNT)
    ]
    images(root)
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, said)))
    return str(root)


def halves(root: Path) -> str:
    for number in range(COUNT):
        paint(root / f"{number}.png", number, width=40)
    return str(root)


def domains(root: Path) -> str:
    for number in range(COUNT + 3):
        paint(root / f"train{'A' if number < COUNT else 'B'}" / f"{number}.png", number)
    return str(root)


def low_and_high(root: Path) -> str:
    for number in range(COUNT):
        paint(root / "LR" / f"{number}.png", number, 10, 10)
        Image.open(root / "LR" / f"{number}.png").resize((20, 20), Image.Resampling.NEAREST).save(_made(root / "HR" / f"{number}.png"))
    return str(root)


def two(root: Path) -> str:
    return f"{classes(root / 'x')},{images(root / 'y')}"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


RANDOM: dict[str, Any] = {"size": 16, "jitter": 4, "flip": True}
CASES: dict[str, tuple[Callable[[Path], str], type[Batch], dict[str, Any]]] = {
    "images": (images, Images, RANDOM),
    "patches": (images, Images, {"size": 16, "fit": "patch", "flip": True}),
    "classes": (classes, Labelled, RANDOM),
    "attributes": (attributes, Attributed, RANDOM),
    "captions": (captions, Captioned, RANDOM),
    "holes in the centre": (images, Masked, RANDOM),
    "blocks": (images, Masked, {**RANDOM, "mask": "block"}),
    "strokes": (images, Masked, {**RANDOM, "mask": "free"}),
    "made smaller": (images, LowHigh, RANDOM),
    "low and high": (low_and_high, LowHigh, RANDOM),
    "low and high patches": (low_and_high, LowHigh, {"size": 16, "fit": "patch", "flip": True}),
    "halves": (halves, Pairs, RANDOM),
    "unpaired": (domains, Unpaired, RANDOM),
    "two domains": (two, TwoDomains, RANDOM),
    "decoded as drawn": (images, Images, {**RANDOM, "cache": "none"}),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Finite]:
    kept: dict[str, Source] = {}

    def open_case(name: str) -> Finite:
        make, kind, options = CASES[name]
        if name not in kept:
            kept[name] = open_source(make(tmp_path_factory.mktemp("data")), kinds=(kind,), **options)
        found = kept[name]
        assert isinstance(found, Finite)
        return found

    return open_case


def stream(source: Source, seed: int = 0) -> Stream:
    return Stream(source, source.kinds[0], seed=seed, device=CPU)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.tensors().values(), other.tensors().values(), strict=True))


def joined(*batches: Batch) -> Batch:
    return type(batches[0])(**{name: torch.cat([batch.tensors()[name] for batch in batches]) for name in batches[0].tensors()})


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5)
@given(cursor=st.integers(0, 30), first=st.integers(1, 9), second=st.integers(1, 9))
def test_two_batches_equal_one_in_every_field(name: str, opened: Callable[[str], Finite], cursor: int, first: int, second: int) -> None:
    kind = CASES[name][1]
    one = Stream(opened(name), kind, seed=3, device=CPU)
    assert same(joined(one.at(cursor, first), one.at(cursor + first, second)), one.at(cursor, first + second))


@pytest.mark.parametrize("name", CASES)
def test_calls_in_any_order_and_sources_opened_again_give_the_same_batches(name: str, opened: Callable[[str], Finite]) -> None:
    kind, source = CASES[name][1], opened(name)
    one, other = Stream(source, kind, seed=1, device=CPU), Stream(source, kind, seed=1, device=CPU)
    late = one.at(20, 5)
    assert same(one.at(0, 5), other.at(0, 5))
    assert same(other.at(20, 5), late)
    assert not same(Stream(source, kind, seed=2, device=CPU).at(0, 5), one.at(0, 5))


@pytest.mark.parametrize("name", CASES)
def test_batches_have_the_shapes_that_the_specification_says(name: str, opened: Callable[[str], Finite]) -> None:
    kind, source = CASES[name][1], opened(name)
    spec = source.spec
    assert isinstance(spec, ImageSpec)
    shapes = {
        "label": (),
        "attribute": (len(spec.attributes),),
        "text": (spec.text,),
        "mask": (1, spec.height, spec.width),
        "low": (spec.channels, spec.height // spec.factor, spec.width // spec.factor),
    }
    batch = Stream(source, kind, seed=0, device=CPU).at(0, 5)
    assert type(batch) is kind
    for field, tensor in batch.tensors().items():
        assert tensor.shape == (5, *shapes.get(field, spec.shape))
        assert tensor.dtype == (torch.int64 if field == "label" else torch.float32)
        assert tensor.min() >= -1
        assert field in ("label",) or tensor.max() <= 1
        if tensor.ndim == 4 and tensor.shape[1] == 3:
            assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CASES)
def test_without_a_window_nothing_is_random(name: str, opened: Callable[[str], Finite]) -> None:
    kind, source = CASES[name][1], opened(name)
    everything = torch.arange(source.count)
    first = source.gather(kind, everything, CPU)
    assert same(first, source.gather(kind, everything, CPU))
    # The pictures of one index are those of the same index, whatever else is asked for with it.
    assert same(source.gather(kind, everything[2:4], CPU), type(first)(**{key: value[2:4] for key, value in first.tensors().items()}))


@pytest.mark.parametrize("name", CASES)
def test_the_global_random_state_is_not_touched(name: str, opened: Callable[[str], Finite]) -> None:
    before = torch.get_rng_state()
    Stream(opened(name), CASES[name][1], seed=0, device=CPU).at(0, 5)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", CASES)
def test_a_contact_sheet_shows_every_picture_of_a_sample(name: str, opened: Callable[[str], Finite]) -> None:
    batch = Stream(opened(name), CASES[name][1], seed=0, device=CPU).at(0, 4)
    sides = sum(tensor.ndim == 4 for tensor in batch.tensors().values())
    assert side_by_side(batch).shape == (4, 3, 16, 16 * sides)
    assert sheet(batch).width > sheet(batch).height / 2


def test_flips_and_cuts_come_in_all_their_ways(opened: Callable[[str], Finite]) -> None:
    source = opened("images")
    whole = images_to_bytes(open_whole(source).x)
    seen = set()
    for cursor in range(0, 40 * COUNT, COUNT):
        window = stream(source).order.window(cursor, COUNT)
        served = images_to_bytes(source.batch(Images, window, CPU).x)
        for picture, index in zip(served, window.indices(COUNT).tolist(), strict=True):
            seen.add(where(picture, whole[index]))
    assert {flip for flip, _, _ in seen} == {False, True}
    assert {(top, left) for _, top, left in seen} == {(top, left) for top in range(5) for left in range(5)}


def open_whole(source: Source) -> Batch:
    whole = open_source(source.name, kinds=(Images,), size=20)
    assert isinstance(whole, Finite)
    return whole.gather(Images, torch.arange(whole.count), CPU)


def where(cut: Tensor, whole: Tensor) -> tuple[bool, int, int]:
    """How the picture was cut from the whole one: (mirrored, top, left)."""
    found = [
        (flip, top, left)
        for flip in (False, True)
        for top in range(5)
        for left in range(5)
        if torch.equal(cut.flip(1) if flip else cut, whole[top : top + 16, left : left + 16])
    ]
    assert len(found) == 1
    return found[0]


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda root: paint(root / "a" / "0.png", 200, 11),
    "removed": lambda root: (root / "a" / "0.png").unlink(),
    "added": lambda root: paint(root / "a" / "9.png", 9),
    "renamed": lambda root: (root / "a" / "0.png").rename(root / "a" / "00.png"),
    "moved to another class": lambda root: (root / "a" / "0.png").rename(root / "b" / "0.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_changes_with_the_files_and_not_without(tmp_path: Path, change: str) -> None:
    for name in ("a/0", "a/1", "b/2"):
        paint(tmp_path / f"{name}.png", 0)
    before = fingerprint(tmp_path)
    assert before
    assert fingerprint(tmp_path) == before == fingerprint(tmp_path, size=8)
    os.utime(tmp_path / "a" / "0.png", ns=(0, 1))
    assert fingerprint(tmp_path) == before, "as of a copy"
    CHANGES[change](tmp_path)
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize(
    ("make", "kind", "table"), [(attributes, Attributed, "list_attr_celeba.txt"), (captions, Captioned, "captions.jsonl")]
)
def test_a_fingerprint_changes_with_a_row_of_the_table(tmp_path: Path, make: Callable[[Path], str], kind: type[Batch], table: str) -> None:
    make(tmp_path)
    before, plain = fingerprint(tmp_path, kind), fingerprint(tmp_path, Images)
    text = (tmp_path / table).read_text()
    (tmp_path / table).write_text(text.replace("1 1", "1 -1", 1).replace("number 3", "number three"))
    assert fingerprint(tmp_path, kind) != before
    assert fingerprint(tmp_path, Images) == plain


def fingerprint(path: Path, *kinds: type[Batch], **options: Any) -> str:
    source = open_source(str(path), kinds=kinds, **options)
    assert isinstance(source, Finite)
    return source.fingerprint


def test_a_fingerprint_of_arrays_follows_their_bytes_and_labels(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 4), np.uint8)
    seen = set()
    for edit, labels in ((0, [0, 1, 1]), (1, [0, 1, 1]), (0, [0, 1, 0])):
        pixels[1, 2, 3] = edit
        np.savez(tmp_path / "a.npz", images=pixels, labels=labels)
        seen |= {fingerprint(tmp_path / "a.npz"), fingerprint(tmp_path / "a.npz")}
    assert len(seen) == 3


SPLIT = {
    "train and test": ({"train/0": 0, "train/1": 1, "test/2": 2}, {0, 1}, {2}),
    "train, val and test": ({"train/0": 0, "val/1": 1, "test/2": 2}, {0}, {2}),
    "train and validation": ({"train/0": 0, "validation/1": 1}, {0}, {1}),
    "capital letters": ({"Train/0": 0, "Test/1": 1}, {0}, {1}),
    "below another folder": ({"data/set/train/0": 0, "data/set/test/1": 1}, {0}, {1}),
    "years": ({"train2014/0": 0, "val2014/1": 1}, {0}, {1}),
    "classes in splits": ({"train/a/0": 0, "train/b/1": 1, "test/a/2": 2}, {0, 1}, {2}),
    "splits in A and B": ({"A/train/0": 0, "B/train/1": 1, "A/test/2": 2, "B/test/3": 3}, {0, 1}, {2, 3}),
    "CycleGAN": ({"trainA/0": 0, "trainB/1": 1, "testA/2": 2, "testB/3": 3}, {0, 1}, {2, 3}),
    "stray pictures": ({"train/0": 0, "test/1": 1, "sample": 2}, {0}, {1}),
}


@pytest.mark.parametrize("case", SPLIT)
def test_pictures_to_test_on_are_never_trained_on(tmp_path: Path, case: str) -> None:
    files, trained, tested = SPLIT[case]
    for name, seed in files.items():
        paint(tmp_path / f"{name}.png", seed)
    assert seeds(str(tmp_path), "train") == trained
    assert seeds(str(tmp_path), "test") == tested


def seeds(text: str, split: Any) -> set[int]:
    """The seeds of the pictures that are served."""
    known = {np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8).tobytes(): seed for seed in range(10)}
    source = open_source(text, kinds=(Images,), split=split, size=20)
    assert isinstance(source, Finite)
    served = images_to_bytes(source.gather(Images, torch.arange(source.count), CPU).x).contiguous().numpy()
    return {known[picture.tobytes()] for picture in served}


@pytest.mark.parametrize("names", [["train", "car", "plane"], ["one", "two"], ["a.png"]])
def test_without_a_split_all_pictures_are_trained_on_and_none_can_be_tested_on(tmp_path: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        paint(tmp_path / (name if name.endswith("png") else f"{name}/0.png"), seed)
    assert seeds(str(tmp_path), "train") == set(range(len(names)))
    with pytest.raises(RequestError, match=r"has no part to test on; such are folders test/"):
        open_source(str(tmp_path), split="test")


def test_a_folder_of_test_pictures_alone_is_not_trained_on_by_mistake(tmp_path: Path) -> None:
    paint(tmp_path / "test" / "0.png", 0)
    paint(tmp_path / "val" / "0.png", 1)
    with pytest.raises(RequestError, match=r"holds test/, val/ but no train/ to train on; name the folder that is meant, .*/test/"):
        open_source(str(tmp_path))
    assert seeds(f"{tmp_path}/test", "train") == {0}


def test_numbers_of_classes_mean_the_same_in_every_split(tmp_path: Path) -> None:
    for name in ("train/ant/0", "train/bee/1", "train/cat/2", "test/cat/3", "test/bee/4", "test/dog/5"):
        paint(tmp_path / f"{name}.png", 0)
    source = open_source(str(tmp_path), kinds=(Labelled,), split="test")
    assert isinstance(source, Finite)
    assert isinstance(source.spec, ImageSpec)
    assert source.spec.classes == ("ant", "bee", "cat")
    assert source.labels is not None
    assert source.labels.tolist() == [1, 2]
    assert any("1 pictures lie in no sub-folder" in note and "test/dog/5.png" in note for note in source.notes)
