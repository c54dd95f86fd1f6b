"""Which pictures a command reads and where it writes: files, folders, patterns, names, what is in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from makeshift import Able, Sampler, Say, files, one_line, photo, pixels, run, serve
from PIL import Image

from ganforge import use


@pytest.fixture
def game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Able:
    """A game that can everything, served as that of the run folder `run`."""
    game = Able()
    serve(game, tmp_path, monkeypatch)
    return game


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """One that samples."""
    game = Sampler()
    serve(game, tmp_path, monkeypatch)
    return game


def test_one_picture_becomes_one_file_at_its_own_size(game: Able, capsys: Say) -> None:
    before = photo("horse.png", 13, 29)
    assert run("translate run horse.png --out deep/er/zebra.png") == 0
    assert capsys.readouterr().out == "deep/er/zebra.png\n"
    assert (pixels("deep/er/zebra.png") == 255 - before).all()
    assert run("translate run horse.png --out folder") == 0
    assert run("translate run horse.png --out small.jpg --size 8x6") == 0
    assert files("folder") == ["horse.png"]
    with Image.open("small.jpg") as small:
        assert (small.format, small.size) == ("JPEG", (8, 6))


def test_many_keep_their_names_and_a_bad_one_is_named_while_the_rest_is_done(game: Able, capsys: Say) -> None:
    for name in ("in/a.jpg", "in/b.PNG", "in/sub/猫 é.webp", "in/.hidden.png"):
        photo(name)
    Path("in/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    Path("in/empty.png").touch()
    Path("in/notes.txt").write_text("no picture")
    assert run("translate run in --out out") == 1
    out, err = capsys.readouterr()
    assert files("out") == ["a.png", "b.png", "sub/猫 é.png"]
    assert [line.split(":")[1] for line in err.splitlines()] == [" in/bad.jpg", " in/empty.png"]
    assert out == "3 of 5 pictures done, 3 files in out\n"


def test_pictures_of_one_stem_do_not_overwrite_each_other(game: Able) -> None:
    wanted = {}
    for seed, name in enumerate(("a.jpg", "a.png", "A.bmp", "a.jpg.png", "b.png")):
        wanted[name] = 255 - photo(f"in/{name}", seed=seed)
    assert run("translate run in --out out") == 0
    made = {name: pixels(Path("out") / name) for name in files("out")}
    assert len(made) == len({name.casefold() for name in made}) == 5
    assert {before.tobytes() for before in wanted.values()} == {after.tobytes() for after in made.values()}
    assert (made["b.png"] == wanted["b.png"]).all()


def test_several_answers_get_numbers_and_depend_on_the_seed_alone(game: Able) -> None:
    for name in ("in/a.png", "in/b.png"):
        photo(name)
    assert run("translate run in --out many --way b2a --n 11") == 0
    assert files("many")[:3] == ["a_00.png", "a_01.png", "a_02.png"]
    assert len(files("many")) == 22
    assert run("translate run in/b.png --out b.png --way b2a --n 2") == 0
    assert (pixels("b_1.png") == pixels("many/b_01.png")).all()
    assert (pixels("b_1.png") != pixels("b_0.png")).any()
    assert run("translate run in/b.png --out c.png --way b2a --seed 1") == 0
    assert (pixels("c.png") != pixels("b_0.png")).any()


def test_nothing_is_overwritten_unless_asked_for_and_resume_does_the_rest(game: Able, capsys: Say) -> None:
    for name in ("in/a.png", "in/b.png"):
        photo(name)
    Path("out").mkdir()
    Path("out/b.png").write_text("mine")
    assert run("translate run in --out out") == 2
    assert "out/b.png exists; --force" in one_line(capsys)
    assert files("out") == ["b.png"]
    assert run("translate run in --out out --resume") == 0
    assert files("out") == ["a.png", "b.png"]
    assert Path("out/b.png").read_text() == "mine"
    assert run("translate run in --out out --force") == 0
    assert pixels("out/b.png").shape == (16, 16, 3)


def test_results_within_the_folder_are_not_read_again_and_no_picture_is_overwritten_by_its_own_result(game: Able, capsys: Say) -> None:
    photo("in/a.png")
    for _ in range(2):
        assert run("translate run in --out in/out --force") == 0
        assert files("in") == ["a.png", "out/a.png"]
    capsys.readouterr()
    for line in ("translate run in --out in --force", "translate run in/a.png --out in/a.png --force"):
        assert run(line) == 2
        assert "one of the pictures to be read" in one_line(capsys)


def test_a_pattern_names_pictures_and_their_folders_are_kept(game: Able) -> None:
    for name in ("in/x/a.png", "in/y/a.png", "in/y/b.jpg", "in/c.png"):
        photo(name)
    Path("in/y/d.txt").touch()
    assert run("translate run 'in/*/*' --out out") == 0
    assert files("out") == ["x/a.png", "y/a.png", "y/b.png"]
    assert run("translate run 'in/**/a.*' --out deep") == 0
    assert files("deep") == ["x/a.png", "y/a.png"]


def test_ctrl_c_leaves_whole_files_and_nothing_else(game: Able, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        photo(name)
    saved, save = [], Image.Image.save

    def interrupted(image: Image.Image, path: Path) -> None:
        save(image, path)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    assert run("translate run in --out out") == 130
    assert files("out") == ["a.png"]
    assert pixels("out/a.png").shape == (16, 16, 3)


@pytest.mark.parametrize(
    "line", ["sample run --out there/x.png", "sample run --each there", "movie run --out there/deep/x.gif", "sample run"]
)
def test_a_folder_that_cannot_be_written_to_is_refused_before_work_begins(
    line: str, sampler: Sampler, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there").mkdir()
    # As root, who runs many a test, permissions forbid nothing.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) not in (Path("there"), Path("run")))
    monkeypatch.setattr(Sampler, "sample", lambda *_: pytest.fail("worked"))
    assert run(line) == 2
    assert f"{'there' if 'there' in line else 'run'} cannot be written to" in one_line(capsys)


def test_the_page_names_every_public_function() -> None:
    page = (Path(__file__).parents[1] / "docs" / "use.md").read_text(encoding="utf-8").partition("## From Python")[2]
    assert [name for name in use.__all__ if f"`{name}`" not in page and f"ganforge.use.{name}(" not in page] == []
    assert sorted(use.__all__) == use.__all__
    assert [name for name in use.__all__ if not hasattr(use, name)] == []
