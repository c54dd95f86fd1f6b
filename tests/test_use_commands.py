"""What the commands for pictures of one's own make, and what they say where a request or a picture is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from makeshift import SPEC, Able, Sampler, Say, files, one_line, photo, pixels, run, serve
from PIL import Image

from ganforge.batches import ImageSpec, PointSpec
from ganforge.data.text import fit_encoder
from ganforge.runs import RunFolder, RunRecord


@pytest.fixture
def game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Able:
    """A game that can everything, served as that of the run folder `run`."""
    game = Able()
    serve(game, tmp_path, monkeypatch)
    return game


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """A game that samples, in its place."""
    game = Sampler()
    serve(game, tmp_path, monkeypatch)
    return game


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("translate run", "name the pictures after the run"),
        ("translate run nowhere.png --out x.png", "nowhere.png: there is no such file"),
        ("translate run 'in/*.tif' --out x", "in/*.tif: no picture matches"),
        ("translate run empty --out x", "empty: no picture found"),
        ("translate run in --out x.png", "there are 2 pictures; give a folder"),
        ("translate run in --out file", "there are 2 pictures; give a folder"),
        ("translate run in/a.png --out x.tiff", "must end in .png, .jpg or .jpeg"),
        ("translate run in/a.png --out x.png --way c2d", "--way c2d: this game goes a2b or b2a"),
        ("translate run in/a.png --out x.png --n 0", "--n 0: must be at least 1"),
        ("translate run in/a.png --out x.png --size big", "--size big"),
        ("translate run in/a.png --out x.png --sise 3", "did you mean --size"),
        ("translate run in/a.png", "--out"),
        ("upscale run in/a.png --out x.png --tile 0", "--tile 0: must be at least 1"),
        ("inpaint run in/a.png --out x.png --mask nowhere.png", "nowhere.png: there is no such file"),
        ("inpaint run in --out x --mask masks", "has no picture named as b.png"),
        ("edit run in/a.png --set gren=1 --out x.png", "did you mean green? It has red -1..1, green -1..1"),
        ("edit run in/a.png --set red=0..2 --out x.png", "red goes from -1 to 1"),
        ("edit run in/a.png --out x.png", "--set red=1; this game has red -1..1"),
        ("edit run in/a.png --set red=1", "--out"),
        ("edit run --set red=1 --out x.png", "name them after the run"),
        ("encode run in --out codes.txt", "must end in .csv or .npy or .npz"),
        ("classify run in --out file", "must end in .csv"),
        ("cluster run in --out groups.csv", "groups.csv: exists"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(line: str, says: str, game: Able, capsys: Say) -> None:
    for name in ("in/a.png", "in/b.png", "masks/a.png"):
        photo(name)
    Path("empty").mkdir()
    Path("file").write_text("in the way")
    Path("groups.csv").write_text("mine")
    before = files(".")
    assert run(line) == 2
    assert says in one_line(capsys)
    assert files(".") == before


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 5000), (2000, 3)])
@pytest.mark.parametrize(
    "line", ["translate run x.png", "upscale run x.png", "inpaint run x.png --mask m.png", "edit run x.png --set red=0"]
)
def test_pictures_of_odd_shapes_are_served(line: str, height: int, width: int, game: Able, capsys: Say) -> None:
    photo("x.png", height, width)
    white = np.zeros((height, width), np.uint8)
    white[:, width // 2] = 255
    Image.fromarray(white).save("m.png")
    code = run(f"{line} --out y.png")
    if "inpaint" in line and height == width == 1:
        assert code == 1
        assert "white everywhere" in one_line(capsys)
        return
    assert code == 0
    made = pixels("y.png").shape[:2]
    longest = max(height, width, 2048)
    scaled = (max(1, round(height * 2048 / longest)), max(1, round(width * 2048 / longest)))
    assert made == {"u": (2 * height, 2 * width), "i": (height, width), "e": (16, 16), "t": scaled}[line[0]]


def test_a_size_that_the_game_refuses_is_brought_to_that_of_the_run_with_a_note(game: Able, capsys: Say) -> None:
    game.only = SPEC.shape
    for name, side in (("in/a.png", 16), ("in/b.png", 20), ("in/c.png", 20)):
        photo(name, side, side)
    assert run("translate run in --out out") == 0
    assert "in/b.png: 20x20 is no size for this game; such pictures come out at the run's 16x16" in one_line(capsys)
    assert [pixels(f"out/{name}.png").shape[0] for name in "abc"] == [16, 16, 16]
    assert run("translate run in/b.png --out x.png --size 20") == 1
    assert "in/b.png: mat1 and mat2" in one_line(capsys)


def test_upscale_writes_every_pixel_of_every_tile(game: Able) -> None:
    before = photo("x.png", 21, 34)
    assert run("upscale run x.png --out y.png --tile 8") == 0
    assert (pixels("y.png") == before.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_a_game_of_grey_pictures_upscales_and_fills_the_colours_one_by_one(game: Able) -> None:
    RunRecord("x", {}, ImageSpec(16, 16, 1), {}, {}, {}, "").write(RunFolder(Path("grey")).record)
    before = photo("x.png", 20, 30)
    assert run("upscale grey x.png --out y.png") == 0
    assert (pixels("y.png") == before.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert run("inpaint grey x.png --mask centre --out z.png") == 0
    hole = np.zeros((20, 30), bool)
    hole[5:15, 7:22] = True
    assert (pixels("z.png") == np.where(hole[..., None], 255, before)).all()
    Image.fromarray(before[..., 0]).save("grey.png")
    assert run("upscale grey grey.png --out y.png --force") == 0
    assert pixels("y.png").shape == (40, 60)


def test_inpaint_fills_what_is_white_and_leaves_all_else_as_it_is(game: Able, capsys: Say) -> None:
    befores = {name: photo(f"in/{name}", 40, 50, seed) for seed, name in enumerate(("a.png", "b.png"))}
    hole = np.zeros((40, 50), np.uint8)
    hole[3:9, 5:30] = 255
    Image.fromarray(hole).save("mask.png")
    Path("masks").mkdir()
    for name, mask in (("a.jpg", hole), ("b.jpg", hole.T.copy())):
        Image.fromarray(mask).save(Path("masks") / name, quality=100)
    for line, count in (("--mask mask.png --out one", 2), ("--mask centre --out middle", 2)):
        assert run(f"inpaint run in {line}") == 0
        assert len(files(line.split()[-1])) == count
    for name, before in befores.items():
        made = pixels(f"one/{name}")
        assert (made[hole > 0] == 255).all()
        assert (made[hole == 0] == before[hole == 0]).all()
        assert (pixels(f"middle/{name}")[10:30, 12:37] == 255).all()
    capsys.readouterr()
    assert run("inpaint run in --mask masks --out two") == 1
    assert "in/b.png: the mask is 40x50 and the picture 50x40" in one_line(capsys)
    assert files("two") == ["a.png"]
    Image.fromarray(hole * 0).save("black.png")
    assert run("inpaint run in/a.png --mask black.png --out x.png") == 1
    assert "black.png: nothing in the mask is white" in one_line(capsys)


def test_edit_sets_what_is_named_and_a_sweep_makes_a_strip(game: Able, capsys: Say) -> None:
    before = photo("x.png")
    assert run("edit run x.png --set red=1 --out y.png") == 0
    made = pixels("y.png")
    assert (made[..., 0] == 255).all()
    assert (made[..., 1:] == before[..., 1:]).all()
    assert run("edit run x.png --set red=-1..1,green=1 --steps 3 --out strip.png") == 0
    # Below are two lines of text: the values, and the names.
    strip = pixels("strip.png")
    height, width = len(strip) - 2 * 26, strip.shape[1]
    assert strip[height:].min() < 100
    middles = strip[height // 2, [width // 6, width // 2, 5 * width // 6]]
    assert middles[:, 0].tolist() == [0, 128, 255]
    assert middles[:, 1].tolist() == [255, 255, 255]
    capsys.readouterr()
    assert run("edit run x.png --set red=1,red=0 --out z.png") == 2
    assert "red is set twice" in one_line(capsys)
    assert run("edit run --list") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["red", "-1..1"], ["green", "-1..1"]]


def test_edit_steers_samples_where_the_game_has_such_dials(sampler: Sampler, capsys: Say) -> None:
    assert run("edit run --set red=-1..1 --steps 2 --n 3 --out sheet.png") == 0
    sheet = pixels("sheet.png")
    height, width, _ = sheet.shape
    cells = sheet[[height // 6, height // 2, 5 * height // 6]][:, [width // 4, 3 * width // 4]]
    assert cells[:, :, 0].tolist() == [[0, 255]] * 3
    assert (cells[:, 0, 2] == cells[:, 1, 2]).all()
    assert len(set(cells[:, 0, 2].tolist())) == 3
    photo("x.png")
    capsys.readouterr()
    assert run("edit run x.png --set red=1 --out y.png") == 2
    assert "steers samples" in one_line(capsys)


def test_sample_makes_the_class_or_the_text_that_is_asked_for(sampler: Sampler, capsys: Say) -> None:
    for asked, green in (("light", 255), ("0", 0)):
        assert run(f"sample run --class {asked} --n 4 --out c.png --force") == 0
        assert pixels("c.png")[20, 20, 1] == green
    assert run("sample run --class all --n 3 --out all.png") == 0
    assert "a row of each class, dark, light" in capsys.readouterr().out
    height, width, _ = pixels("all.png").shape
    rows = pixels("all.png")[[height // 4, 3 * height // 4]][:, [width // 6, width // 2, 5 * width // 6]]
    assert rows[:, :, 1].tolist() == [[0] * 3, [255] * 3]
    assert (rows[0, :, 2] == rows[1, :, 2]).all()
    assert run("sample run --class all --n 2 --each each") == 0
    assert files("each") == ["dark_seed0_00000.png", "dark_seed0_00001.png", "light_seed0_00000.png", "light_seed0_00001.png"]
    assert run("interpolate run --class light --seeds 1 2 --out way.png") == 0
    assert pixels("way.png")[20, 20, 1] == 255
    assert run("interpolate run --class light --seeds 1 2 --out again.png") == 0
    assert (pixels("way.png") == pixels("again.png")).all()
    fit_encoder("tfidf", ["a red bird", "a blue bird", "a green bird"], 4).save(RunFolder(Path("run")).text)
    for name in ("t.png", "u.png"):
        assert run(f"sample run --text 'red bird' --n 4 --out {name}") == 0
    assert (pixels("t.png") == pixels("u.png")).all()
    capsys.readouterr()
    for line, says in (
        ("--class ligth", "did you mean 'light'"),
        ("--class light --text bird", "--class and --text"),
        ("--text submarine", "none of these words"),
    ):
        assert run(f"sample run {line} --out x.png") == 2
        assert says in one_line(capsys)
    assert run("interpolate run --seeds --out x.png") == 2
    assert "name at least two" in one_line(capsys)


@pytest.mark.parametrize(("command", "noun", "first"), [("classify", "class", "dark"), ("cluster", "group", "1")])
def test_tables_have_a_row_for_each_sound_picture(command: str, noun: str, first: str, game: Able, capsys: Say) -> None:
    for name, value in (("in/black.png", 0), ("in/sub/white.png", 255), ("in/grey, pale.jpg", 204)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 30), value).save(name)
    Path("in/bad.png").write_text("no picture")
    assert run(f"{command} run in --out t.csv") == 1
    assert "in/bad.png: not a picture" in one_line(capsys)
    with Path("t.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", noun, "probability", *(SPEC.classes if noun == "class" else ["0", "1"])]
    assert [row[0] for row in rows] == ["black.png", "grey, pale.jpg", "sub/white.png"]
    assert rows[0][1] == first
    assert float(rows[0][2]) == 1
    assert float(rows[1][2]) == pytest.approx(0.8, abs=1e-3)
    assert run(f"{command} run in/black.png") == 0
    assert capsys.readouterr().out == f"black.png  {first}  1.000\n"


def test_codes_are_written_as_a_table_or_as_arrays(game: Able) -> None:
    wanted = []
    for number in range(70):
        before = photo(f"in/{number:02d}.png", seed=number)
        wanted.append(before.mean((0, 1)) / 127.5 - 1)
    for suffix in ("csv", "npy", "npz"):
        assert run(f"encode run in --out codes.{suffix}") == 0
    with Path("codes.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "0", "1", "2"]
    assert [row[0] for row in rows] == [f"{number:02d}.png" for number in range(70)]
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows], wanted, atol=1e-6)
    np.testing.assert_allclose(np.load("codes.npy"), wanted, atol=1e-6)
    with np.load("codes.npz") as stored:
        np.testing.assert_allclose(stored["codes"], wanted, atol=1e-6)
        assert stored["files"].tolist() == [row[0] for row in rows]


def test_a_folder_without_one_sound_picture_is_a_failure(game: Able, capsys: Say) -> None:
    Path("in").mkdir()
    Path("in/bad.png").write_text("no picture")
    assert run("encode run in --out codes.csv") == 1
    assert "none of the pictures" in capsys.readouterr().err
    assert not Path("codes.csv").exists()


@pytest.mark.parametrize(
    "line",
    [
        "translate run x.png --out y.png",
        "upscale run x.png --out y.png",
        "inpaint run x.png --mask centre --out y.png",
        "encode run x.png --out y.csv",
        "classify run x.png",
        "cluster run x.png",
    ],
)
def test_a_game_without_the_capability_is_told_so(line: str, sampler: Sampler, capsys: Say) -> None:
    photo("x.png")
    assert run(line) == 2
    assert f"Sampler cannot {line.split()[0]}; `ganforge list --can {line.split()[0]}`" in one_line(capsys)


def test_a_run_of_points_reads_no_pictures(game: Able, capsys: Say) -> None:
    photo("x.png")
    RunRecord("x", {}, PointSpec(2), {}, {}, {}, "").write(RunFolder(Path("points")).record)
    assert run("translate points x.png --out y.png") == 2
    assert "points: the run is of points of dimension 2, not of pictures" in one_line(capsys)
