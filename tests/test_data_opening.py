"""What a user can name as data, and what is answered to what a user cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganforge.batches import Images, ImageSpec, Labelled, LowHigh, Masked, Points, SemiLabelled, images_to_bytes, spec_from_json
from ganforge.commands.data import data_command
from ganforge.data import BUNDLED, Finite, Reading, contact_sheet, describe, from_arrays, open_source, served_kinds
from ganforge.errors import RequestError

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_source_opens_and_shows_samples_of_its_shape(name: str) -> None:
    source = open_source(name)
    assert source.name == name
    assert contact_sheet(source, n=5).x.shape == (5, *source.spec.shape)


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
    assert source.kinds == (Labelled, Images, Masked, LowHigh)
    assert served_kinds(source) == (*source.kinds, SemiLabelled)
    classes = describe(source)["classes"]
    assert isinstance(classes, dict)
    assert sum(classes.values()) == 1797
    assert all(170 <= count <= 185 for count in classes.values())


def test_digits_at_their_own_size_are_the_stored_0_to_16_spread_over_a_byte() -> None:
    source = open_source("digits", size=8, channels=3)
    pixels = images_to_bytes(contact_sheet(source, n=1797).x).numpy()
    assert pixels.shape == (1797, 8, 8, 3)
    assert set(np.unique(pixels)) == {round(level * 255 / 16) for level in range(17)}


def test_a_contact_sheet_shows_each_picture_of_a_small_source_once() -> None:
    source = from_arrays(np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8))
    shown = images_to_bytes(contact_sheet(source).x)[:, 0, 0, 0]
    assert sorted(shown.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"--size 0: .*1 to 4096"),
        ({"size": -64}, r"--size -64: give pixels, 64, or width x height, 96x64"),
        ({"size": 4097}, r"--size 4097: .*1 to 4096"),
        ({"size": "64 x 64"}, "give pixels"),
        ({"channels": 2}, r"--channels 2: .*1 channel"),
        ({"workers": -1}, "--workers -1: must be at least 0"),
        ({"factor": 5}, "--factor 5: low pictures are 2, 3, 4 or 8 times smaller"),
        ({"direction": "AtoC"}, "--direction AtoC: must be AtoB or BtoA"),
        ({"fit": "cut"}, "--fit cut: must be crop or pad or stretch or patch"),
        ({"beats": True}, "no option 'beats'; it has size, channels"),
        ({"sise": 8}, "no option 'sise'; did you mean 'size'"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_source("digits", **options)


def test_options_replace_fields_of_the_reading() -> None:
    reading = Reading(size="16", channels=3)
    assert open_source("digits", reading=reading).spec.shape == (3, 16, 16)
    assert open_source("digits", reading=reading, size=8).spec.shape == (3, 8, 8)
    assert open_source("digits", reading=reading, size="24x8", channels=1).spec.shape == (1, 8, 24)


def test_points_have_no_use_for_the_options_of_pictures() -> None:
    assert open_source("ring", size=8, channels=1, kinds=(Images,)).kinds == (Points,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits,digits,digits", "3 sources; a comma joins two"),
        ("digits,ring", "'ring' is points; a comma joins two sources of pictures"),
        ("digits,digit", r"'digit' is neither .* did you mean 'digits'"),
        ("digits,", "'' is neither"),
    ],
)
def test_two_sources_that_cannot_be_joined_are_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_source(text)


def test_a_folder_with_a_comma_in_its_name_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cats,dogs").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "cats,dogs" / "a.png")
    assert open_source(str(tmp_path / "cats,dogs"), size=4).kinds == (Images, Masked, LowHigh)


def test_what_no_picture_can_be_is_refused() -> None:
    with pytest.raises(RequestError, match="'digits' cannot serve Points; it holds pictures"):
        open_source("digits", kinds=(Points,))


def test_the_earliest_kind_that_can_be_served_is_the_one_that_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    # Without classes a game that likes labels best gets what it likes next, with them the labels.
    assert open_source(str(tmp_path), kinds=(Labelled, LowHigh, Images), size=8).spec == ImageSpec(8, 8, 1, factor=4)
    assert open_source("digits", kinds=(Labelled, LowHigh), size=8).spec == ImageSpec(8, 8, 1, tuple("0123456789"))


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
    with pytest.raises(RequestError, match=r"a single file is an \.npz, .*pictures are read from a folder"):
        open_source(str(tmp_path / "a.png"))


def test_a_folder_named_like_a_bundled_source_is_reached_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    Path("digits").mkdir()
    np.save("digits/a.npy", np.zeros(3))
    with pytest.raises(RequestError, match=r"no picture found .*1 \.npy"):
        open_source("./digits")
    assert isinstance(open_source("digits"), Finite)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert data_command(list(arguments), "") == 0
    return capsys.readouterr().out


def test_the_command_tells_as_json_what_describe_tells(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "digits", "--json", "--size", "8"))
    assert {key: told[key] for key in ("layout", "count", "bad_count")} == {"layout": "pictures in classes", "count": 1797, "bad_count": 0}
    described = json.loads(json.dumps(describe(open_source("digits", size=8))))
    assert told == {**described, "games": told["games"]}
    assert "dcgan" in told["games"]


def test_the_command_names_the_games_of_whatever_the_source_could_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "digits", "--kind", "LowHigh", "--factor", "2", "--out", str(tmp_path / "sheet.png"))
    assert "and 2 times smaller" in shown
    assert "could serve    Labelled; Images; Masked; LowHigh" in shown
    assert "wgan-gp" in shown
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 64


def test_the_command_draws_points_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "ring", "--out", str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 720


def test_the_command_refuses_points_where_pictures_are_asked_for() -> None:
    with pytest.raises(RequestError, match="'ring' serves Points, not Pairs"):
        data_command(["ring", "--kind", "Pairs"], "")


def test_a_usual_size_is_for_pictures_that_have_none_of_their_own_when_none_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "folder" / "a.png")
    np.savez(tmp_path / "own.npz", images=np.zeros((2, 10, 12), dtype=np.uint8))
    assert open_source(str(tmp_path / "folder"), usual_size=24).spec == ImageSpec(24, 24, 3)
    assert open_source(str(tmp_path / "folder"), usual_size=24, size="8x6").spec == ImageSpec(6, 8, 3)
    assert open_source(str(tmp_path / "own.npz"), usual_size=24).spec == ImageSpec(10, 12, 1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")
@pytest.mark.parametrize(
    ("name", "count", "spec", "layout"),
    [
        ("mnist/mnist.npz", 10_000, ImageSpec(28, 28, 1, tuple("0123456789")), "pictures in classes"),
        ("faces/faces.npz", 2_000, ImageSpec(64, 64, 3), "pictures"),
        ("cityscapes_pairs", 320, ImageSpec(16, 16, 3), "files with two pictures side by side"),
        ("cat2dog", 300, ImageSpec(16, 16, 3), "folders trainA and trainB"),
        ("sr_photos", 196, ImageSpec(16, 16, 3), "pictures"),
    ],
)
def test_known_sets_open_whole(
    name: str, count: int, spec: ImageSpec, layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path))
    source = open_source(str(SHARED / name), size=None if name.endswith("npz") else 16, strict=True)
    assert isinstance(source, Finite)
    assert (source.count, source.spec, describe(source)["layout"]) == (count, spec, layout)
    batch = source.gather(source.kinds[-1], torch.tensor([0, count - 1]), torch.device("cpu"))
    assert batch.x.shape[0] == 2
    assert describe(source)["bad_count"] == 0
