"""The pages of docs/tasks do what they say: every command and script shown is run, in its order, on small folders like the reader's.

What makes it quick is said here, in `made_small`, and nowhere in the pages: the game's own preset for tests, and few samples.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_docs import commands

from ganforge import load, zoo
from ganforge.cli import main
from ganforge.options import as_arguments

PAGES = Path(__file__).parents[1] / "docs" / "tasks"
FEWER = {
    "evaluate": ["--n", "16"],
    "compare": ["--n", "16"],
    "directions": ["--n", "400"],
    "project": ["--steps", "3"],
}
"""Appended to these commands; a later option wins over the page's."""
LONGER = {"runs/portraits": 200}
"""Rounds of a run of which directions are learnt: samples must differ by then."""
NEEDS = {"export": ("onnx", "onnxruntime", "onnxscript")}
"""Packages that may be absent; without them the command is left out, and said."""


def made_small(words: list[str]) -> list[str]:
    """The command as it is run here: a game trains in its `tiny` preset, in colour, for two rounds or LONGER; FEWER for the others."""
    if words[0] != "train":
        return words + FEWER.get(words[0], [])
    small = {**zoo.find(words[1]).presets["tiny"].options, "channels": 3, "rounds": LONGER.get(words[-1], 2)}
    # A page asks for the groups that there are without the preset.
    small.pop("categories", None)
    if "--evaluate-every" in words:
        small |= {"evaluate_every": 1, "evaluate_n": 16}
    return words + as_arguments(small)


def picture(path: str, level: int = 0, width: int = 24, height: int = 20) -> None:
    """Noise that its name decides, brighter with `level`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.encode())).integers(0, 150, (height, width, 3)) + 50 * level
    Image.fromarray(noise.astype(np.uint8)).save(path)


def pictures(folder: str, count: int, level: int = 0, suffix: str = "jpg") -> None:
    """A folder of them."""
    for number in range(count):
        picture(f"{folder}/{number:04}.{suffix}", level)


def split(*folders: str) -> None:
    """Folders with a part to train on and one to test on."""
    for folder in folders:
        pictures(f"{folder}/train", 16)
        pictures(f"{folder}/test", 6)


def mask(path: str) -> None:
    """White strokes on black, as large as the pictures."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    drawn = np.zeros((20, 24), np.uint8)
    drawn[5:9, 3:20] = 255
    Image.fromarray(drawn).save(path)


def table(path: str, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV of these rows."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def sketches() -> None:
    split("sketches", "shoes")
    picture("drawing.png")


def animals() -> None:
    split("horses", "zebras")
    picture("meadow.jpg", width=90, height=60)


def small_and_large() -> None:
    split("photos")
    picture("small.jpg")
    pictures("albums/summer", 2)


def holes() -> None:
    split("photos")
    picture("holiday.png")
    mask("scratch.png")
    for number in range(2):
        picture(f"album/{number}.jpg")
        mask(f"masks/{number}.png")


def captioned() -> None:
    pictures("faces", 24)
    said = ["a smiling woman with blond hair", "a man with black hair", "a woman with black hair", "a smiling man with blond hair"]
    table("faces/captions.csv", [{"file": f"{number:04}.jpg", "caption": said[number % 4]} for number in range(24)])


def attributed() -> None:
    """A smile is a picture brighter below, blond hair one brighter on the left: of samples of any game some are so and some not."""
    picture("me.jpg")
    pictures("album", 2)
    signs = list(product((0, 1), repeat=3)) * 8
    for number, (smiling, blond, _) in enumerate(signs):
        path = f"celeba/{number:04}.jpg"
        picture(path)
        pixels = np.asarray(Image.open(path)).astype(int)
        lit = 80 * (2 * smiling - 1) * np.linspace(-1, 1, 20)[:, None] - 80 * (2 * blond - 1) * np.linspace(-1, 1, 24)
        Image.fromarray((pixels + lit[..., None]).clip(0, 255).astype(np.uint8)).save(path)
    rows = [{"file": f"{number:04}.jpg", "Smiling": a, "Blond_Hair": b, "Male": c} for number, (a, b, c) in enumerate(signs)]
    table("celeba/table.csv", rows)


def few_labels() -> None:
    pictures("scans", 24, suffix="png")
    for folder in ("scans", "checked"):
        for level, name in enumerate(("three", "eight", "nine")):
            pictures(f"{folder}/{name}", 20, level, "png")
    for number in range(4):
        picture(f"new/{900 + number:04}.png")


def classes() -> None:
    pictures("photos", 24)
    for level, name in enumerate(("cat", "dog")):
        pictures(f"classes/{name}", 12, level)


FOLDERS: dict[str, Callable[[], object]] = {
    "new-pictures": lambda: pictures("photos", 24),
    "sketch-to-photo": sketches,
    "horse-to-zebra": animals,
    "larger-pictures": small_and_large,
    "fill-holes": holes,
    "words-to-pictures": captioned,
    "hair-and-smile": attributed,
    "few-labels": few_labels,
    "baselines": classes,
}
"""What the reader of each page has."""


def steps(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of the blocks that are to be run, in order."""
    for match in re.finditer(r"^```(console|python)\n.*?^```$", page, re.MULTILINE | re.DOTALL):
        yield match[1], match[0]


def outs(words: list[str]) -> list[Path]:
    """What a command says that it will write."""
    return [Path(value) for option, value in pairwise(words) if option in ("--out", "--each", "--keep", "--csv")]


def check(path: Path) -> None:
    """Fails where the path is not there, is empty, or cannot be read as what its name says."""
    if (path / "run.json").exists():
        load(path)
    elif path.is_dir():
        within = [file for file in sorted(path.rglob("*")) if file.is_file()]
        assert within, f"{path} is empty"
        for file in within:
            check(file)
    elif not path.stat().st_size:
        raise AssertionError(f"{path} is empty")
    elif path.suffix in (".png", ".jpg", ".gif"):
        with Image.open(path) as image:
            image.load()
            assert path.suffix != ".gif" or getattr(image, "n_frames", 1) > 1, f"{path} does not move"
    elif path.suffix == ".csv":
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert len(rows) > 1, f"{path} has no rows"
    elif path.suffix == ".json":
        assert json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            assert all(len(arrays[name]) for name in arrays.files)
    elif path.suffix == ".onnx":
        # Not at the top: the package may be absent, and then no such file is made.
        importlib.import_module("onnx").checker.check_model(str(path))


def perform(page: str) -> list[str]:
    """Runs what a page shows, in the current folder, and checks what it writes; the commands that were left out, and why."""
    left = []
    for language, text in steps(page):
        if language == "python":
            exec(compile(text.removeprefix("```python\n").removesuffix("```"), "page", "exec"), {})
            continue
        for words in commands(text + "\n"):
            missing = [name for name in NEEDS.get(words[0], ()) if importlib.util.find_spec(name) is None]
            if missing:
                left.append(f"ganforge {shlex.join(words)}: {', '.join(missing)} is not installed")
                continue
            there = [out for out in outs(words) if out.exists() and not out.is_dir()]
            assert not there, f"{there[0]} is written twice"
            assert main(made_small(words)) == 0, f"ganforge {shlex.join(words)}"
            for out in outs(words):
                check(out)
    return left


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lays out what the page speaks of in an empty folder, and does there what it shows."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GANFORGE_CACHE", str(folder / "cache"))
    FOLDERS[name]()
    return perform((PAGES / f"{name}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FOLDERS)
def test_what_a_page_shows_works_in_its_order_and_leaves_the_files_it_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_page(name, tmp_path, monkeypatch)
    if left:
        pytest.skip("all but these worked: " + "; ".join(left))


def test_every_page_is_run_and_listed() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == set(FOLDERS)
    assert pages == set(re.findall(r"\(([\w-]+)\.md\)", (PAGES / "index.md").read_text(encoding="utf-8")))
    for name in pages:
        assert sum(1 for _ in steps((PAGES / f"{name}.md").read_text(encoding="utf-8"))) > 3


GOOD = "train dcgan --data photos/ --size 64 --out runs/photos"


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (f"$ ganforge {GOOD} --widht 4", "--widht"),
        ("$ ganforge data pictures/", "data pictures/"),
        (f"$ ganforge {GOOD}\n$ ganforge sample runs/photo --out new.png", "sample runs/photo"),
        (f"$ ganforge {GOOD}\n$ ganforge upscale runs/photos photos/ --out large/", "upscale runs/photos"),
        ("$ ganforge data photos/ --out sheet.png\n$ ganforge data photos/ --out sheet.png", "written twice"),
    ],
)
def test_a_page_with_a_command_that_does_not_work_fails(page: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    pictures("photos", 8)
    with pytest.raises(AssertionError, match=says):
        perform(f"```console\n{page}\n```\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.png", b"no picture"), ("a.gif", b""), ("a.csv", b"file,class\n"), ("a.json", b"{"), ("a.onnx", b""), ("folder/a.png", b"no")],
)
def test_a_file_that_is_not_what_its_name_says_is_seen(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises((AssertionError, OSError, ValueError)):
        check(path if path.parent == tmp_path else path.parent)


def test_a_file_that_is_named_and_not_written_is_seen(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone\.csv"):
        check(tmp_path / "gone.csv")
