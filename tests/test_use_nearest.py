"""What is nearest in a collection: to pictures, to what a game makes, to words; found as a plain loop finds it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from makeshift import Able, Sampler, Say, one_line, photo, pixels, run
from PIL import Image
from torch import Tensor

from ganforge import use
from ganforge.batches import ImageSpec, PointSpec, Spec
from ganforge.commands import nearest as command
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.runs import RunFolder, RunRecord

SPEC = ImageSpec(16, 16, 3)


class Mean(Able):
    """Encodes by the mean colour, and makes pictures of a single one."""

    def latent(self, n: int) -> Tensor:
        return 2 * torch.rand(n, 3) - 1

    def sample(self, latent: Tensor) -> Tensor:
        return latent[:, :, None, None].expand(-1, -1, 16, 16)


def serve(game: Game, folder: Path, monkeypatch: pytest.MonkeyPatch, spec: Spec = SPEC, data: str = "in") -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GANFORGE_CACHE", str(folder / "cache"))
    kind = "Captioned" if isinstance(spec, ImageSpec) and spec.text else "Images"
    RunRecord("mine.Mean", {}, spec, {"source": data, "kind": kind}, {}, {}, "").write(RunFolder(folder / "run").record)
    monkeypatch.setattr(command, "load", lambda path, device="cpu": game)


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures of noise in `in`, three of them in a folder of it, to look through with a run of a game that encodes."""
    serve(Mean(), tmp_path, monkeypatch)
    for number in range(12):
        photo(f"in/{'deep/' if number < 3 else ''}{number:02d}.png", seed=number)
    return tmp_path


def table(name: str = "found.csv") -> list[dict[str, str]]:
    with Path(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@hypothesis.given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_the_order_is_that_of_a_plain_loop(queries: int, count: int, width: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few values, so that many are as far away.
    query, features = (torch.randint(-2, 3, (rows, width), generator=generator).float() for rows in (queries, count))
    indices, distances = use.nearest(query, features, n)
    for row, found, away in zip(query.tolist(), indices.tolist(), distances.tolist(), strict=True):
        squares = [sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) for other in features.tolist()]
        order = sorted(range(count), key=lambda number: squares[number])[:n]
        assert found == order
        assert away == pytest.approx([squares[number] ** 0.5 for number in order])


def test_a_copy_is_at_no_distance_at_all_among_many() -> None:
    features = torch.randn(300, 700, generator=torch.Generator().manual_seed(0)) * 100
    indices, distances = use.nearest(features[[7, 299]], features, 2)
    assert indices[:, 0].tolist() == [7, 299]
    assert distances[:, 0].tolist() == [0.0, 0.0]
    assert distances[:, 1].min() > 0


def test_a_collection_of_files_has_their_names_and_their_pixels(album: Path) -> None:
    found = use.open_collection("in", SPEC)
    assert found.names == [f"{number:02d}.png" for number in range(3, 12)] + [f"deep/{number:02d}.png" for number in range(3)]
    images = found.images(torch.tensor([0, 11]))
    for image, name in zip(images, ("in/03.png", "in/deep/02.png"), strict=True):
        assert np.array_equal(((image + 1) * 127.5).round().permute(1, 2, 0).numpy(), pixels(name))
    assert use.open_collection("in/0[5-7].png", SPEC).names == ["05.png", "06.png", "07.png"]
    assert use.open_collection("in/05.png", SPEC).names == ["05.png"]
    shutil.make_archive("packed", "zip", "in")
    assert use.open_collection("packed.zip", SPEC).names == found.names


def test_a_collection_may_be_an_array_whose_pictures_have_numbers(album: Path) -> None:
    shades = np.stack([np.full((16, 16, 3), shade, dtype=np.uint8) for shade in (0, 100, 200)])
    np.savez("shades.npz", images=shades)
    Image.fromarray(shades[1]).save("grey.png")
    assert run("nearest run shades.npz --to grey.png --n 2 --features pixels --out x.png --csv found.csv") == 0
    assert [row["file"] for row in table()] == ["1", "0"]
    with pytest.raises(RequestError, match="points"):
        use.open_collection("ring", SPEC)


@pytest.mark.parametrize("features", ["auto", "pixels", "encoder"])
def test_copies_come_first_at_distance_zero(album: Path, features: str, capsys: Say) -> None:
    shutil.copytree("in/deep", "wanted")
    assert run(f"nearest run in --to wanted --n 3 --features {features} --out sheet.png --csv found.csv") == 0
    rows = table()
    assert [(row["query"], row["rank"]) for row in rows] == [(f"{query:02d}.png", str(rank)) for query in range(3) for rank in (1, 2, 3)]
    for row in rows[::3]:
        assert row["file"] == f"deep/{row['query']}"
        assert float(row["distance"]) == 0
    distances = np.array([float(row["distance"]) for row in rows]).reshape(3, 3)
    assert (np.diff(distances) > 0).all()
    out = capsys.readouterr().out
    assert out.startswith("00.png\n  0.0000  deep/00.png\n")
    assert f"compared by {'pixels' if features == 'pixels' else 'encoder'}" in out


def test_distances_of_the_encoder_are_those_of_its_codes(album: Path) -> None:
    assert run("nearest run in --to in/05.png --n 12 --out sheet.png --csv found.csv") == 0
    codes = {name: pixels(f"in/{name}").reshape(-1, 3).mean(axis=0) / 127.5 for name in use.open_collection("in", SPEC).names}
    away = {name: float(np.linalg.norm(code - codes["05.png"])) for name, code in codes.items()}
    assert [row["file"] for row in table()] == sorted(away, key=lambda name: away[name])
    assert [float(row["distance"]) for row in table()] == pytest.approx(sorted(away.values()), abs=1e-5)


def test_what_a_game_makes_of_seeds_is_found_where_it_was_copied_from(album: Path) -> None:
    game = Mean()
    for seed in (3, 8):
        with use.seeded(seed):
            use.write_picture(game.sample(game.latent(1)), album / f"in/made{seed}.png")
    assert run("nearest run in --seed 3 8 --n 1 --out sheet.png --csv found.csv") == 0
    assert [(row["query"], row["file"]) for row in table()] == [("seed 3", "made3.png"), ("seed 8", "made8.png")]
    # A level of 255 is the most that the file has rounded away.
    assert max(float(row["distance"]) for row in table()) < 2 / 255


def test_the_sheet_has_the_query_first_and_then_what_is_near_as_it_is(album: Path) -> None:
    assert run("nearest run in --to in/05.png --n 2 --out sheet.png --csv found.csv") == 0
    sheet, scale = pixels("sheet.png"), 7
    wide = 16 * scale + 4
    assert sheet.shape[1] == 3 * wide
    first = sheet[2 : 2 + 16 * scale : scale, 2 : 2 + 16 * scale : scale]
    assert np.array_equal(first, pixels("in/05.png"))
    third = sheet[2 : 2 + 16 * scale, 2 * wide + 2 : 2 * wide + 2 + 16 * scale]
    with Image.open(f"in/{table()[1]['file']}") as image:
        # Files are shown at the size of the sheet, enlarged as all files are: by bicubic interpolation.
        enlarged = np.asarray(image.resize((16 * scale, 16 * scale), Image.Resampling.BICUBIC))
    assert np.array_equal(third, enlarged)


def test_features_of_a_collection_are_kept_until_a_picture_or_the_game_is_another(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []

    def encode(self: Mean, x: Tensor) -> Tensor:
        shown.append(len(x))
        return x.mean((2, 3)) * self.weight

    monkeypatch.setattr(Mean, "encode", encode)

    def seen(line: str = "nearest run in --to in/05.png --n 3 --out x.png --csv found.csv --force") -> tuple[int, list[dict[str, str]]]:
        shown.clear()
        assert run(line) == 0
        return sum(shown), table()

    first, again = seen(), seen()
    assert (first[0], again[0]) == (13, 1)
    assert first[1] == again[1]
    kept = next(path for path in (album / "cache").glob("features-*.safetensors"))
    kept.write_bytes(b"torn")
    assert seen() == first
    photo("in/05.png", seed=99)
    assert seen()[0] == 13
    serve(other := Mean(), album, monkeypatch)
    other.weight.data += 1
    assert seen()[0] == 13
    assert seen("nearest run in --to in/05.png --features pixels --out x.png --csv found.csv --force")[0] == 0
    assert len(list((album / "cache").glob("features-*"))) == 3


def test_from_python_a_classifier_needs_the_data_to_be_taught_on(album: Path) -> None:
    mine, all_of_them = use.open_collection("in/05.png", SPEC), use.open_collection("in", SPEC)
    extractor = use.extractor_for(Mean(), SPEC)
    numbers, distances = use.nearest(mine.features(extractor), all_of_them.features(extractor), 1)
    assert (all_of_them.names[int(numbers)], float(distances)) == ("05.png", 0.0)
    with pytest.raises(RequestError, match="labelled data"):
        use.extractor_for(Mean(), SPEC, "classifier")


def test_bad_pictures_are_named_and_passed_over(album: Path, capsys: Say) -> None:
    Path("in/04.png").write_text("no picture", encoding="utf-8")
    shutil.copytree("in", "wanted")
    assert run("nearest run in --to wanted --n 1 --out sheet.png --csv found.csv") == 1
    err = capsys.readouterr().err
    assert sorted(line.split(": ")[1] for line in err.splitlines()) == ["in/04.png", "wanted/04.png"]
    assert [row["file"] for row in table()] == [row["query"] for row in table()]
    assert len(table()) == 11


def test_a_game_without_an_encoder_is_compared_by_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    serve(Sampler(), tmp_path, monkeypatch)
    photo("in/a.png")
    assert run("nearest run in --seed 0 --out sheet.png") == 0
    assert "compared by pixels" in capsys.readouterr().out
    assert run("nearest run in --seed 0 --features encoder --out other.png") == 2
    assert "Sampler cannot encode" in one_line(capsys)


def test_a_classifier_is_taught_on_the_labels_of_the_run(album: Path, capsys: Say) -> None:
    for number in range(8):
        # What tells the classes is the same, and little of the picture.
        shades = np.random.default_rng(number).integers(60, 200, (16, 16, 3), dtype=np.uint8)
        shades[:4, :4] = 255 * (number % 2)
        Path(f"classed/{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(shades).save(f"classed/{number % 2}/{number}.png")
    record = RunRecord.read(RunFolder(Path("run")).record)
    record.data["source"] = "classed"
    record.write(RunFolder(Path("run")).record)
    line = "nearest run classed --to classed --features classifier --n 4 --out x.png --csv found.csv"
    assert run(line) == 0
    assert "compared by classifier" in capsys.readouterr().out
    assert all(row["query"].split("/")[0] == row["file"].split("/")[0] for row in table())


def test_words_find_the_pictures_that_they_describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    generator = np.random.default_rng(0)
    serve(Mean(), tmp_path, monkeypatch, ImageSpec(16, 16, 3, text=2), "taught")
    lines = []
    for folder, count in (("taught", 32), ("looked", 12)):
        Path(folder).mkdir()
        for number in range(count):
            noisy = generator.integers(0, 90, (16, 16, 3), dtype=np.uint8)
            noisy[3:13, 3:13, 0 if number % 2 else 2] = 255
            Image.fromarray(noisy).save(f"{folder}/{number:02d}.png")
            lines.append(json.dumps({"file": f"{number:02d}.png", "caption": f"a {'red' if number % 2 else 'blue'} square"}))
    Path("taught/captions.jsonl").write_text("\n".join(lines[:32]), encoding="utf-8")
    for colour, odd in (("red", 1), ("blue", 0)):
        assert run(f"nearest run looked --text 'something {colour}' --n 6 --out {colour}.png --csv {colour}.csv") == 0
        assert sorted(row["file"] for row in table(f"{colour}.csv")) == [f"{number:02d}.png" for number in range(odd, 12, 2)]
        distances = [float(row["distance"]) for row in table(f"{colour}.csv")]
        assert distances == sorted(distances)
        assert 0 <= distances[0] < distances[-1] < 1
    capsys.readouterr()
    assert run("nearest run looked --text 'ein Haus' --out other.png") == 2
    assert "none of these words" in one_line(capsys)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nearest run in --out x.png", "by one of --to PICTURE, --seed 0 and --text"),
        ("nearest run in --to in --seed 1 --out x.png", "by one of"),
        ("nearest run in --seed 1 --n 0 --out x.png", "--n 0: must be at least 1"),
        ("nearest run in --seed 1 --out x.pdf", "must end in .png"),
        ("nearest run in --seed 1 --out in/05.png", "exists; --force"),
        ("nearest run in --seed 1 --out x.png --csv x.txt", "--csv x.txt: must end in .csv"),
        ("nearest run in --seed 1 --out x.png --csv there.csv", "--csv there.csv: exists"),
        ("nearest run nowhere --seed 1 --out x.png", "'nowhere' is neither a file or folder"),
        ("nearest run 'in/*.tif' --seed 1 --out x.png", "no picture matches"),
        ("nearest run in --to nowhere.png --out x.png", "nowhere.png: there is no such file"),
        ("nearest run in --seed 1 --features pixel --out x.png", "did you mean pixels?"),
        ("nearest run in --seed 1 --features classifier --out x.png", "have no labels"),
        ("nearest run in --text 'a dog' --out x.png", "have no captions"),
    ],
)
def test_a_wrong_request_is_one_line(album: Path, capsys: Say, line: str, says: str) -> None:
    Path("there.csv").touch()
    assert run(line) == 2
    assert says in one_line(capsys)
    assert not Path("x.png").exists()


def test_games_of_points_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    serve(Mean(), tmp_path, monkeypatch, PointSpec(2))
    assert run("nearest run in --seed 0 --out x.png") == 2
    assert "not of pictures" in one_line(capsys)
