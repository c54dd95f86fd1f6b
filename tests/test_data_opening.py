"""What a user can name as data, and what is answered to what a user cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganforge.batches import Images, ImageSpec, Labelled, images_to_bytes, spec_from_json
from ganforge.data import BUNDLED, Finite, contact_sheet_images, describe, from_arrays, open_source
from ganforge.errors import RequestError

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_source_opens_and_shows_samples_of_its_shape(name: str) -> None:
    source = open_source(name)
    assert source.name == name
    assert contact_sheet_images(source, 5).shape == (5, *source.spec.shape)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_description_survives_json_and_rebuilds_the_spec(name: str) -> None:
    source = open_source(name)
    described = json.loads(json.dumps(describe(source)))
    assert spec_from_json(described["spec"]) == source.spec
    assert described["kinds"] == [kind.__name__ for kind in source.kinds]
    assert described["count"] == (1797 if name == "digits" else None)


def test_digits_are_1797_labelled_grey_pictures_of_32_pixels() -> None:
    source = open_source("digits")
    assert source.spec == ImageSpec(32, 32, 1, tuple("0123456789"))
    assert source.kinds == (Labelled, Images)
    classes = describe(source)["classes"]
    assert isinstance(classes, dict)
    assert sum(classes.values()) == 1797
    assert all(170 <= count <= 185 for count in classes.values())


def test_digits_at_their_own_size_are_the_stored_0_to_16_spread_over_a_byte() -> None:
    source = open_source("digits", size=8, channels=3)
    pixels = images_to_bytes(contact_sheet_images(source, 1797)).numpy()
    assert pixels.shape == (1797, 8, 8, 3)
    assert set(np.unique(pixels)) == {round(level * 255 / 16) for level in range(17)}


def test_a_contact_sheet_shows_each_picture_of_a_small_source_once() -> None:
    source = from_arrays(np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8))
    shown = images_to_bytes(contact_sheet_images(source))[:, 0, 0, 0]
    assert sorted(shown.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size = 0: .*1 to 4096"),
        ({"size": -64}, r"size = -64: .*1 to 4096"),
        ({"size": 4097}, r"size = 4097: .*1 to 4096"),
        ({"channels": 2}, r"channels = 2: .*1 channel"),
        ({"workers": -1}, "workers = -1"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_source("digits", **options)


@pytest.mark.parametrize("options", [{"size": 8}, {"channels": 1}, {"labels": True}])
def test_points_have_no_size_channels_or_labels(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="'ring' is points"):
        open_source("ring", **options)


@pytest.mark.parametrize(("text", "hint"), [("digit", "digits"), ("Rings", "ring"), ("gausian", "gaussian")])
def test_a_misspelt_name_is_answered_with_the_nearest_and_all_bundled(text: str, hint: str) -> None:
    with pytest.raises(RequestError, match=f"{', '.join(BUNDLED)}.*did you mean '{hint}'"):
        open_source(text)


@pytest.mark.parametrize("text", ["", "/no/such/folder", "a\0b", "x" * 5000, "~no-such-user/x"])
def test_a_path_that_cannot_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestError, match=r"^data '.*(bundled|cannot be looked up)") as caught:
        open_source(text)
    assert "\n" not in str(caught.value)


def test_a_single_picture_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(RequestError, match="pictures are read from a folder"):
        open_source(str(tmp_path / "a.png"))


def test_a_folder_named_like_a_bundled_source_is_reached_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    Path("digits").mkdir()
    np.save("digits/a.npy", np.zeros(3))
    with pytest.raises(RequestError, match=r"no picture found .*1 \.npy"):
        open_source("./digits")
    assert isinstance(open_source("digits"), Finite)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")
@pytest.mark.parametrize(
    ("name", "count", "spec"),
    [
        ("mnist/mnist.npz", 10_000, ImageSpec(28, 28, 1, tuple("0123456789"))),
        ("celeba_attr", 3_000, ImageSpec(16, 16, 3)),
        ("cat2dog", 720, ImageSpec(16, 16, 3, ("testA", "testB", "trainA", "trainB"))),
    ],
)
def test_known_sets_open_whole(name: str, count: int, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path))
    source = open_source(str(SHARED / name), size=None if name.endswith("npz") else 16, strict=True)
    assert isinstance(source, Finite)
    assert (source.count, source.spec) == (count, spec)
    batch = source.gather(source.kinds[-1], torch.tensor([0, count - 1]), torch.device("cpu"))
    assert batch.x.shape == (2, *spec.shape)
