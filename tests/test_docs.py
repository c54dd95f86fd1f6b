"""The pages and the code cannot part: lines and formulas shown are the files', commands are parsed, parameters counted, links followed."""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from refresh_pages import refreshed

from ganforge import zoo
from ganforge.cli import COMMANDS
from ganforge.commands.apply import InpaintOptions, TranslateOptions, UpscaleOptions
from ganforge.commands.catalogue import ListOptions
from ganforge.commands.compare import CompareOptions
from ganforge.commands.data import DataOptions
from ganforge.commands.directions import DirectionsOptions
from ganforge.commands.doctor import DoctorOptions
from ganforge.commands.edit import EditOptions
from ganforge.commands.evaluate import EvaluateOptions
from ganforge.commands.export import ExportOptions
from ganforge.commands.game_options import parse_with_game, spec_for
from ganforge.commands.info import InfoOptions
from ganforge.commands.movie import MovieOptions
from ganforge.commands.nearest import NearestOptions
from ganforge.commands.project import ProjectOptions
from ganforge.commands.publish import PublishOptions
from ganforge.commands.tell import ClassifyOptions, ClusterOptions, EncodeOptions
from ganforge.commands.train import TrainOptions
from ganforge.commands.use import InterpolateOptions, SampleOptions
from ganforge.data import BUNDLED
from ganforge.errors import RequestError
from ganforge.options import parse

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_GAME: dict[str, type[Any]] = {"train": TrainOptions, "info": InfoOptions}
# Of a SOURCE, a RUN and pictures, which come first, so many; the words after them are options.
OTHERS: dict[str, tuple[type[Any], tuple[int, ...]]] = {
    "list": (ListOptions, (0,)),
    "data": (DataOptions, (1,)),
    "sample": (SampleOptions, (1,)),
    "interpolate": (InterpolateOptions, (1,)),
    "translate": (TranslateOptions, (2,)),
    "upscale": (UpscaleOptions, (2,)),
    "inpaint": (InpaintOptions, (2,)),
    "edit": (EditOptions, (1, 2)),
    "encode": (EncodeOptions, (2,)),
    "classify": (ClassifyOptions, (2,)),
    "cluster": (ClusterOptions, (2,)),
    "evaluate": (EvaluateOptions, (1,)),
    "doctor": (DoctorOptions, (1,)),
    "compare": (CompareOptions, (2, 3, 4, 5)),
    "movie": (MovieOptions, (1,)),
    "project": (ProjectOptions, (2,)),
    "nearest": (NearestOptions, (2,)),
    "directions": (DirectionsOptions, (1,)),
    "export": (ExportOptions, (1,)),
    "publish": (PublishOptions, (2,)),
}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shown(text: str) -> Iterator[tuple[str, str]]:
    """(file, lines) of each python block that says which file of src/ganforge it is from."""
    for match in re.finditer(r"^<!-- from (\S+) -->\n+```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def holds(whole: str, part: str) -> bool:
    """Whether the lines of `part` stand together in `whole`, whatever the indentation that they have in common."""
    wanted = textwrap.dedent(part).rstrip("\n").split("\n")
    lines = whole.split("\n")
    starts = range(len(lines) - len(wanted) + 1)
    return any(textwrap.dedent("\n".join(lines[i : i + len(wanted)])).split("\n") == wanted for i in starts)


def commands(text: str) -> list[list[str]]:
    """The words of every `$ ganforge ...` line of the console blocks, lines that end in a backslash joined."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    return [shlex.split(line.removeprefix("$ ganforge "), comments=True) for line in lines if line.startswith("$ ganforge ")]


def check(words: list[str]) -> None:
    """RequestError where the words name a command, a game, an option, a preset or a bundled source that there is not."""
    command, rest = words[0], [word for word in words[1:] if word not in ("-h", "--help")]
    if command not in COMMANDS:
        raise RequestError(f"command {command!r} is unknown")
    sources = [value for option, value in itertools.pairwise(rest) if option == "--data"]
    if command in WITH_GAME:
        parse_with_game(WITH_GAME[command], zoo.find(rest[0]), rest[1:], command, "")
    else:
        options, counts = OTHERS[command]
        named = sum(1 for _ in itertools.takewhile(lambda word: not word.startswith("-"), rest))
        if named not in counts:
            raise RequestError(f"{command}: names {named} runs, sources or pictures")
        parse(options, rest[named:], command)
        sources += rest[:1] if command == "data" else []
    for source in sources:
        # What has a slash or a dot is a path of the reader's.
        if source not in BUNDLED and not re.search(r"[/.]", source):
            raise RequestError(f"source {source!r} is unknown")


def players(words: list[str]) -> dict[str, int]:
    """The parameters of each player for the words after `ganforge info`, without memory for any."""
    game = zoo.find(words[0])
    options, hyper = parse_with_game(InfoOptions, game, words[1:], "info", "")
    spec = spec_for(game, options.data, options.reading)
    with torch.device("meta"):
        built = game(spec, **hyper)
    return {name: sum(p.numel() for p in player.parameters()) for name, player in built.players().items()}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def formulas(text: str) -> list[str]:
    """What stands between dollars, one or two, outside code; without spaces, so that lines may be broken anywhere."""
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", without_code(text), re.DOTALL)
    return ["".join((display or inline).split()) for display, inline in found]


def prose(text: str) -> str:
    """The text without code and formulas."""
    return re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", "", without_code(text), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page, and the site too."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_shown_are_the_lines_of_the_file(page: Path) -> None:
    for file, lines in shown(read(page)):
        assert holds(read(ROOT / "src" / "ganforge" / file), lines), f"{file} has no such lines any more:\n{lines}"


@pytest.mark.parametrize("name", zoo.catalogue())
def test_a_games_page_shows_the_whole_of_its_play(name: str) -> None:
    module = zoo.catalogue()[name].module.removeprefix("ganforge.").replace(".", "/") + ".py"
    source = read(ROOT / "src" / "ganforge" / module)
    play = re.search(r"^    def play\(.*?\n(?=\n    def |\Z)", source, re.MULTILINE | re.DOTALL)
    assert play
    assert any(file == module and holds(lines, play[0]) for file, lines in shown(read(ROOT / "docs" / "games" / f"{name}.md")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_shown_are_commands(page: Path) -> None:
    for words in commands(read(page)):
        check(words)


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.sh")), ids=name_of)
def test_commands_of_an_example_are_commands(script: Path) -> None:
    # Variables stand for paths, or for the word that they have by default.
    text = re.sub(r"\$(\w+)", r"\1/", re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", read(script))).replace("\\\n", " ")
    lines = [line for line in text.split("\n") if line.startswith("ganforge ")]
    assert lines
    for line in lines:
        check(shlex.split(line)[1:])


@pytest.mark.parametrize("name", zoo.catalogue())
def test_a_games_page_says_the_numbers_of_parameters_that_info_prints(name: str) -> None:
    text = read(ROOT / "docs" / "games" / f"{name}.md")
    asked = [words[1:] for words in commands(text) if words[:2] == ["info", name]]
    assert asked, f"show a line: $ ganforge info {name}"
    for words in asked:
        for player, count in players(words).items():
            assert f"{count:,}" in text, f"ganforge info {shlex.join(words)}: the {player} has {count:,} parameters"


@pytest.mark.parametrize("name", zoo.catalogue())
def test_a_games_page_lists_its_presets(name: str) -> None:
    text = read(ROOT / "docs" / "games" / f"{name}.md")
    assert [preset for preset in zoo.catalogue()[name].presets if f"`{preset}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?<=\]\()[^)\s]+|(?<=src=\")[^\"]+", prose(read(page))):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), f"{name_of(page)} links to {target}"
            assert not anchor or anchor in anchors(file), (
                f"{name_of(page)} links to {target}: the headings there are {sorted(anchors(file))}"
            )


@pytest.mark.parametrize("name", zoo.catalogue())
def test_a_games_page_has_the_formulas_of_its_docstring(name: str) -> None:
    page = formulas(read(ROOT / "docs" / "games" / f"{name}.md"))
    for formula in formulas(zoo.find(name).__doc__ or ""):
        if re.search(r"[\\=]", formula):
            assert any(formula in shown for shown in page), f"docs/games/{name}.md does not have the docstring's ${formula}$"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_are_as_refreshing_leaves_them(page: Path) -> None:
    assert refreshed(read(page)) == read(page), "run: python tools/refresh_pages.py"


def test_the_guide_lists_the_conformance_suite() -> None:
    proven = re.findall(r"^def (test_\w+)", read(ROOT / "tests" / "test_conformance.py"), re.MULTILINE)
    assert re.findall(r"^- `(test_\w+)`", read(ROOT / "CONTRIBUTING.md"), re.MULTILINE) == proven


@pytest.mark.parametrize(
    ("part", "same"),
    [
        ("for a in b:\n    yield a\n", True),
        ("        for a in b:\n            yield a\n", True),
        ("    yield a\n", True),
        ("for a in b:\n  yield a\n", False),
        ("for a in b:\n    yield b\n", False),
        ("for a in b:\n\n    yield a\n", False),
    ],
)
def test_a_line_that_differs_is_seen(part: str, same: bool) -> None:
    assert holds("def f():\n    for a in b:\n        yield a\n", part) is same


def test_a_marked_block_is_found() -> None:
    page = "text\n\n<!-- from zoo/x.py -->\n```python\na = 1\n```\n\n```python\nb = 2\n```\n"
    assert list(shown(page)) == [("zoo/x.py", "a = 1\n")]


@pytest.mark.parametrize(
    "line",
    [
        "trian dcgan",
        "train dcgam",
        "train dcgan --widht 4",
        "train dcgan --width four",
        "train dcgan --preset lsun",
        "train dcgan --data digit",
        "info dcgan --rounds 5",
        "data digits --width 3",
        "sample --n 4",
        "sample runs/a --m 4",
        "translate runs/a --out b.png",
        "translate runs/a b.png c.png --out d",
        "edit runs/a b.png --set smile=1 --wya b2a",
        "evaluate runs/a --data nowhere",
    ],
)
def test_a_command_that_is_wrong_is_seen(line: str) -> None:
    (words,) = commands(f"```console\n$ ganforge {line}\n```\n")
    with pytest.raises(RequestError):
        check(words)


def test_commands_are_read_from_console_blocks_without_their_comments_and_continuations() -> None:
    page = "```console\n$ ganforge train gan \\\n    --lr 0.1  # slow\nsaid\n$ ls\n```\n```\n$ ganforge nothing\n```\n"
    assert commands(page) == [["train", "gan", "--lr", "0.1"]]


def test_formulas_are_found_outside_code_whatever_their_line_breaks() -> None:
    assert formulas("$a = \\frac12$, `$b = 1$`, $$c\n= 2$$ and $d$\n\n```python\ne = '$f$'\n```\n") == ["a=\\frac12", "c=2", "d"]


def test_headings_have_githubs_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A bell curve\n\n## Data, & `more`: 2_3\n\n```bash\n# no heading\n```\n", encoding="utf-8")
    assert anchors(page) == {"a-bell-curve", "data--more-2_3"}


FILE = "class A:\n    def play(self):\n        # one\n        yield 1\n\n    def more(self):\n        return 2\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def play(self):\n    yield 0\n", "def play(self):\n    # one\n    yield 1\n"),
        ("yield 0\n", "yield 1\n"),
        ("# two\nyield 0\n", "# one\nyield 1\n"),
        ("return 2\n", "return 2\n"),
    ],
)
def test_a_block_is_refreshed_from_its_file(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "a.py").write_text(FILE, encoding="utf-8")
    page = "before\n\n<!-- from a.py -->\n```python\n{}```\n\n```python\nother = 0\n```\n"
    assert refreshed(page.format(old), tmp_path) == page.format(new)


def test_a_block_that_its_file_does_not_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FILE, encoding="utf-8")
    with pytest.raises(LookupError, match=r"a\.py has nothing like the block that begins with 'def gone"):
        refreshed("<!-- from a.py -->\n```python\ndef gone(self):\n    yield 1\n```\n", tmp_path)
