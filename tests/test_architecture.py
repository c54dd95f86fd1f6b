"""Who may know whom: the rooms of the house, the arrows between them, and what must not be named in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganforge import zoo

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "ganforge"

# A room is a module or a folder of the package. From below to above: each may know only what stands before it, and of that only what
# its line names. `ganforge` is the package's own front door, for users; inside, it is asked for the version alone.
KNOWS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "batches": {"errors"},
    "schedules": set(),
    "objectives": set(),
    "penalties": set(),
    "options": {"errors"},
    "capabilities": {"errors"},
    "devices": {"errors"},
    "augmentations": {"errors"},
    "weights": {"errors", "files"},
    "downloads": {"errors"},
    "game": {"batches", "errors"},
    "data": {"batches", "errors", "files"},
    "nets": {"batches", "downloads", "errors"},
    "zoo": {"batches", "errors", "game", "nets", "objectives", "penalties", "schedules"},
    "pictures": {"batches", "data", "errors", "files"},
    "metrics": {"batches", "capabilities", "data", "downloads", "errors", "files"},
    "runs": {"batches", "errors", "files", "game", "ganforge", "zoo"},
    "use": {"batches", "capabilities", "data", "devices", "errors", "files", "game", "metrics", "runs", "weights"},
    "diagnosis": {"metrics"},
    "engine": {
        "augmentations", "batches", "capabilities", "data", "devices", "diagnosis", "errors", "files", "game", "metrics", "pictures",
        "runs", "use", "weights",
    },
    "commands": {
        "batches", "capabilities", "data", "diagnosis", "engine", "errors", "files", "game", "metrics", "options", "pictures", "runs",
        "use", "zoo",
    },
    "cli": {"commands", "errors", "ganforge"},
    "__main__": {"cli"},
}  # fmt: skip
FRONT_DOOR = {"batches", "data", "engine", "game", "use"}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """`ganforge.data.source` is in the room data; the package itself is a room too."""
    return module.split(".")[1] if "." in module else module


def imports(source: str, module: str, known: set[str], is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of the text, at the top or within functions, for types or by `import_module` of a literal.

    `from a import b` is of a.b where that is one of the modules `known`. Of an f-string the part before its first gap counts.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") + ["__init__"] * is_package
                base = ".".join([*here[: -node.level], *base.split(".")]).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in known else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__") and node.args:
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value.rstrip(".")


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "ganforge"


def forbidden(source: str, module: str, known: set[str], is_package: bool = False) -> list[str]:
    """What the text of `module` imports and may not: another room that its room must not know, or one paper's file by name."""
    room = room_of(module)
    allowed = FRONT_DOOR if room == "ganforge" else KNOWS[room]
    found = []
    for line, target in imports(source, module, known, is_package):
        if not is_ours(target) or room_of(target) == room:
            continue
        if room_of(target) not in allowed:
            found.append(f"{module}:{line} imports {target}: the room {room} may know {', '.join(sorted(allowed)) or 'no other'}")
        elif target.startswith("ganforge.zoo."):
            found.append(f"{module}:{line} imports {target}: a game is asked for by ganforge.zoo.find, never by its file")
    return found


def names_written(source: str, names: set[str]) -> list[tuple[int, str]]:
    """(line, literal) of every string that is one of `names` and nothing more; a name within a longer text is an example."""
    constants = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str) and node.value in names]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may_know(module: str) -> None:
    file = MODULES[module]
    assert forbidden(file.read_text(encoding="utf-8"), module, set(MODULES), file.name == "__init__.py") == []


def test_the_arrows_go_only_downward_and_every_room_has_its_line() -> None:
    order = list(KNOWS)
    for room, allowed in KNOWS.items():
        above = {other for other in allowed - {"ganforge"} if order.index(other) >= order.index(room)}
        assert not above, f"{room} knows {above}, which is not below it"
    assert {room_of(module) for module in MODULES} == {*KNOWS, "ganforge"}


def test_the_table_in_the_documentation_is_this_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows: dict[str, set[str]] = {}
    for line in text.splitlines():
        cells = [set(re.findall(r"`(\w+)`", cell)) for cell in line.strip("| ").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            rows |= dict.fromkeys(cells[0], cells[1])
    assert {room: rows.get(room) for room in KNOWS} == KNOWS


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ganforge.data.stream", "from ganforge.engine import Trainer"),
        ("ganforge.data.stream", "def f():\n    import ganforge.game"),
        ("ganforge.nets.mlp", "from ganforge.data import Source"),
        ("ganforge.objectives", "from .engine import rounds"),
        ("ganforge.nets.mlp", "from ..commands import train"),
        ("ganforge.zoo.gan", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ganforge.metrics import measure"),
        ("ganforge.zoo.gan", "from ganforge import pictures"),
        ("ganforge.zoo.gan", "import importlib\nimportlib.import_module('ganforge.use.load')"),
        ("ganforge.engine.rounds", "from ganforge.zoo import find"),
        ("ganforge.engine.rounds", "from ganforge import Game"),
        ("ganforge.use.load", "from importlib import import_module\nimport_module(f'ganforge.commands.{x}')"),
        ("ganforge.runs", "from ganforge.zoo import dcgan"),
        ("ganforge.commands.train", "from ganforge.zoo.dcgan import DCGAN"),
        ("ganforge.commands.train", "import ganforge.zoo.dcgan"),
    ],
)
def test_a_forbidden_import_is_found_wherever_it_hides(module: str, source: str) -> None:
    assert len(forbidden(source, module, set(MODULES))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ganforge.data.stream", "import torch\nfrom ganforge.data.source import Source\nfrom ganforge.errors import RequestError"),
        ("ganforge.data.stream", "from .source import Source\nfrom ..batches import Batch"),
        ("ganforge.commands.train", "from ganforge import zoo\nfrom ganforge.zoo import find\nfrom . import catalogue"),
        ("ganforge.runs", "import ganforge\nfrom ganforge import zoo"),
    ],
)
def test_an_allowed_import_is_let_through(module: str, source: str) -> None:
    assert forbidden(source, module, set(MODULES)) == []


def test_a_package_resolves_its_relative_imports_from_itself() -> None:
    assert list(imports("from .x import y", "ganforge.data", set(), is_package=True)) == [(1, "ganforge.data.x")]
    assert list(imports("from . import x", "ganforge.data.stream", {"ganforge.data.x"})) == [(1, "ganforge.data.x")]


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) not in ("zoo", "nets")])
def test_no_game_is_known_by_name(module: str) -> None:
    found = names_written(MODULES[module].read_text(encoding="utf-8"), set(zoo.catalogue()))
    assert not found, f"{module}: ask for a capability, a batch type or a method of Game instead of {found}"


def test_a_written_name_is_found_and_an_example_is_not() -> None:
    source = 'if game == "dcgan":\n    print("e.g. ganforge train dcgan")\nwrong = f"{x}" in ("wgan-gp", y)'
    assert names_written(source, {"dcgan", "wgan-gp"}) == [(1, "dcgan"), (3, "wgan-gp")]


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_nothing_imports_torchvision(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        found = [line for line, module in imports(file.read_text(encoding="utf-8"), "", set()) if module.split(".")[0] == "torchvision"]
        assert not found, f"{file}: line {found}"


@pytest.mark.parametrize("name", zoo.catalogue())
def test_a_game_has_its_page_and_its_row(name: str) -> None:
    page = ROOT / "docs" / "games" / f"{name}.md"
    assert page.is_file(), f"write {page}"
    assert page.read_text(encoding="utf-8").startswith(f"# {name}\n")
    rows = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    assert any(f"[{name}]" in row for row in rows if row.startswith("|")), f"docs/results.md has no row with [{name}]"
