"""Few labels among many pictures: which are kept, in what order both kinds come, and whose class a label says."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted import CPU, everything, levels, paint
from torch import Tensor

from ganforge.batches import ImageSpec, Labelled, SemiLabelled, images_to_bytes
from ganforge.data import Finite, Stream, describe, open_source
from ganforge.errors import RequestError

SHARED = Path(__file__).parents[2] / "shared" / "data"
CLASSES = ("ant", "bee", "cat")


def collection(root: Path, counts: tuple[int, ...] = (8, 8, 8)) -> Path:
    """Flat pictures in classes: number k of class c has the level 80 c + 2 k."""
    for c, count in enumerate(counts):
        for k in range(count):
            paint(root / CLASSES[c] / f"{k}.png", 80 * c + 2 * k)
    return root


def opened(root: Path | str, **options: Any) -> Finite:
    source = open_source(str(root), kinds=(SemiLabelled,), **{"size": 4, **options})
    assert isinstance(source, Finite)
    assert source.kinds == (SemiLabelled,)
    return source


def level(images: Tensor) -> list[int]:
    return [int(value) for value in images_to_bytes(images)[:, 0, 0, 0]]


def kept(source: Finite) -> list[int]:
    """The levels of the pictures with a class, in order."""
    return sorted(set(level(everything(source, SemiLabelled).labelled)))


def per_class(found: list[int]) -> list[int]:
    counts = Counter(value // 80 for value in found)
    return [counts[c] for c in range(3)]


@pytest.mark.parametrize(("labels", "each"), [(3, [1, 1, 1]), (12, [4, 4, 4]), (23, None), (24, [8, 8, 8])])
def test_as_many_of_each_class_keep_it(root: Path, labels: int, each: list[int] | None) -> None:
    found = kept(opened(collection(root), labels=labels))
    assert len(found) == labels
    assert each is None or per_class(found) == each
    assert max(per_class(found)) - min(per_class(found)) <= 1


def test_a_class_with_few_pictures_keeps_all_of_them_and_others_make_up_for_it(root: Path) -> None:
    assert per_class(kept(opened(collection(root, (8, 2, 8)), labels=12))) == [5, 2, 5]


def test_without_a_number_every_picture_keeps_its_class(root: Path) -> None:
    assert len(kept(opened(collection(root)))) == 24


def test_the_same_ones_are_kept_whatever_the_seed_the_size_and_the_place(root: Path, tmp_path: Path) -> None:
    first = kept(opened(collection(root), labels=6))
    assert first == kept(opened(root, labels=6, size=8, cache="none"))
    assert first == kept(opened(collection(tmp_path / "a copy"), labels=6))
    for seed in (1, 2):
        stream = Stream(opened(root, labels=6), SemiLabelled, seed=seed, device=CPU)
        assert sorted(level(stream.at(0, 6).labelled)) == first  # type: ignore[attr-defined]
    # Those of a smaller number are among those of a larger one, and no fixed corner of the folder.
    assert set(first) < set(kept(opened(root, labels=12)))
    assert first != [80 * c + 2 * k for c in range(3) for k in range(2)]


def test_other_labels_are_another_source(root: Path) -> None:
    prints = [opened(collection(root), labels=labels).fingerprint for labels in (6, 6, 9, None)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_an_epoch_has_each_picture_once_and_each_labelled_one_equally_often(root: Path) -> None:
    stream = Stream(opened(collection(root), labels=6), SemiLabelled, seed=3, device=CPU)
    many, few = [], []
    for cursor in range(0, 24, 4):
        batch: Any = stream.at(cursor, 4)
        assert batch.image.shape == batch.labelled.shape == (4, 1, 4, 4)
        assert batch.label.shape == (4,)
        many += level(batch.image)
        few += level(batch.labelled)
    # The labelled pictures are among all.
    assert sorted(many) == sorted(80 * c + 2 * k for c in range(3) for k in range(8))
    assert set(Counter(few).values()) == {4}
    assert set(few) <= set(many)
    # Each pass over the few is a permutation of its own.
    passes = [few[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert any(one != passes[0] for one in passes)


def test_both_kinds_have_an_order_of_their_own(root: Path) -> None:
    stream = Stream(opened(collection(root)), SemiLabelled, seed=0, device=CPU)
    batch: Any = stream.at(0, 24)
    assert sorted(level(batch.image)) == sorted(level(batch.labelled))
    assert level(batch.image) != level(batch.labelled)


@pytest.mark.parametrize("options", [{}, {"cache": "none"}, {"flip": True}, {"workers": 2}])
def test_a_label_is_that_of_the_picture_beside_it(root: Path, options: dict[str, Any]) -> None:
    source = opened(collection(root, (5, 8, 3)), labels=9, **options)
    assert isinstance(source.spec, ImageSpec)
    assert source.spec.classes == CLASSES
    stream = Stream(source, SemiLabelled, seed=0, device=CPU)
    for cursor in range(0, 40, 8):
        batch: Any = stream.at(cursor, 8)
        assert batch.label.dtype == torch.int64
        assert [value // 80 for value in level(batch.labelled)] == batch.label.tolist()


@pytest.mark.parametrize("cache", [None, "none"])
def test_a_label_is_that_of_the_picture_beside_it_where_others_are_bad(root: Path, cache: str | None) -> None:
    """Also where a bad picture is noticed as it is drawn, and another one stands in for it."""
    collection(root)
    for c in CLASSES:
        (root / c / "0.png").write_bytes(b"no picture")
        # The last of a class: the next sound one is of another.
        (root / c / "7.png").write_bytes(b"no picture")
    source = opened(root, **({"cache": cache} if cache else {}))
    stream = Stream(source, SemiLabelled, seed=0, device=CPU)
    for cursor in range(0, 48, 8):
        batch: Any = stream.at(cursor, 8)
        assert [value // 80 for value in level(batch.labelled)] == batch.label.tolist()


def test_what_is_mirrored_or_cut_is_so_apart_on_both_sides(root: Path) -> None:
    from PIL import Image

    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8) * 30, (8, 8))
    for c, k in itertools.product(CLASSES[:2], range(16)):
        (root / c).mkdir(exist_ok=True)
        Image.fromarray(ramp).save(root / c / f"{k}.png")
    batch: Any = Stream(opened(root, size=8, flip=True), SemiLabelled, seed=0, device=CPU).at(0, 32)
    mirrored = [images[:, 0, 0, 0] > images[:, 0, 0, 7] for images in (batch.image, batch.labelled)]
    for side in mirrored:
        assert 4 < int(side.sum()) < 28
    assert not torch.equal(*mirrored)


def test_a_position_says_all_that_a_resumed_run_needs(root: Path) -> None:
    def stream() -> Stream:
        return Stream(opened(collection(root), labels=6), SemiLabelled, seed=5, device=CPU)

    whole = stream()
    before = [whole.at(cursor, 5) for cursor in range(0, 60, 5)]
    resumed = stream()
    for cursor in (55, 30, 5):
        there, again = before[cursor // 5].tensors(), resumed.at(cursor, 5).tensors()
        assert there.keys() == again.keys() == {"image", "labelled", "label"}
        assert all(torch.equal(there[name], again[name]) for name in there)


def test_two_batches_are_one_of_twice_the_size(root: Path) -> None:
    stream = Stream(opened(collection(root), labels=6, flip=True), SemiLabelled, seed=5, device=CPU)
    halves, whole = [stream.at(cursor, 8).tensors() for cursor in (16, 24)], stream.at(16, 16).tensors()
    for name, tensor in whole.items():
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (2, "--labels 2: 24 pictures in 3 classes have one; give a number between"),
        (25, "--labels 25: 24 pictures in 3 classes have one; give a number between"),
        (0, "--labels 0: at least one picture must keep its class"),
        (-3, "--labels -3: at least one picture must keep its class"),
    ],
)
def test_too_few_and_too_many_are_refused(root: Path, labels: int, said: str) -> None:
    collection(root)
    with pytest.raises(RequestError, match=re.escape(said)):
        opened(root, labels=labels)


def test_five_labels_for_ten_digits_are_refused() -> None:
    with pytest.raises(RequestError, match="--labels 5: 1797 pictures in 10 classes have one; give a number between"):
        opened("digits", labels=5, size=8)


def test_pictures_without_classes_are_refused(root: Path) -> None:
    paint(root / "1.png", 1)
    with pytest.raises(RequestError, match=r"cannot serve SemiLabelled; .*classes are sub-folders"):
        opened(root)


def test_stray_pictures_are_seen_without_a_class(root: Path) -> None:
    collection(root, (3, 3, 0))
    paint(root / "stray.png", 250)
    source = opened(root, labels=4)
    batch = everything(source, SemiLabelled)
    assert sorted(level(batch.image)) == [0, 2, 4, 80, 82, 84, 250]
    assert 250 not in level(batch.labelled)
    assert batch.label.min() >= 0


def test_arrays_serve_it_too_and_a_test_part_is_not_touched(tmp_path: Path) -> None:
    def pictures(levels: range) -> Any:
        return np.stack([np.full((4, 4), value, dtype=np.uint8) for value in levels])

    path = tmp_path / "a.npz"
    np.savez(
        path,
        train_images=pictures(range(20)), train_labels=np.arange(20) % 2,
        test_images=pictures(range(100, 106)), test_labels=np.arange(6) % 2,
    )  # fmt: skip
    batch = everything(opened(path, labels=4), SemiLabelled)
    assert sorted(level(batch.image)) == list(range(20))
    assert len(set(level(batch.labelled))) == 4
    assert [value % 2 for value in level(batch.labelled)] == batch.label.tolist()
    # With its classes all over, as it is measured.
    measured: Any = open_source(str(path), kinds=(Labelled,), split="test", labels=4)
    assert sorted(levels(everything(measured, Labelled))) == list(range(100, 106))


def test_it_is_described_with_how_many_keep_their_class(root: Path) -> None:
    source = opened(collection(root), labels=6)
    told = describe(source)
    assert (told["kinds"], told["count"], told["layout"]) == (["SemiLabelled"], 24, "pictures, few of them in classes")
    assert told["notes"] == ["the 3 sub-folders are the classes", "6 of 24 pictures keep their class"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")
def test_a_hundred_labels_of_mnist_are_ten_of_each_digit() -> None:
    source = opened(str(SHARED / "mnist" / "mnist.npz"), labels=100, size=28)
    assert source.count == 10_000
    batch = source.gather(SemiLabelled, torch.arange(100), CPU)
    assert isinstance(batch, SemiLabelled)
    assert Counter(batch.label.tolist()) == dict.fromkeys(range(10), 10)
