"""Copies the lines that pages show from the files that they name: `python tools/refresh_pages.py`.

A page says `<!-- from zoo/dcgan.py -->` above a python block: the block is so many statements of src/ganforge/zoo/dcgan.py. The copy is
kept in the page so that GitHub shows it; where the file has changed, the statements most like the old block take its place.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ganforge"
BLOCK = re.compile(r"^<!-- from (?P<file>\S+) -->\n+```python\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)


def refreshed(text: str, package: Path = PACKAGE) -> str:
    """The page's text with each marked block as its file under `package` has it now; LookupError where the file has nothing like it."""

    def copied(match: re.Match[str]) -> str:
        source = (package / match["file"]).read_text(encoding="utf-8")
        start, end = match.start("lines") - match.start(), match.end("lines") - match.start()
        return match[0][:start] + _nearest(match["lines"], source, match["file"]) + match[0][end:]

    return BLOCK.sub(copied, text)


def _nearest(block: str, source: str, file: str) -> str:
    runs = list(_runs(block, source))
    if block in runs:
        return block
    likeness, lines = max(((SequenceMatcher(None, block, run, autojunk=False).ratio(), run) for run in runs), default=(0, ""))
    # Below a half, two pieces of Python share little but its keywords.
    if likeness < 0.5:
        raise LookupError(f"src/ganforge/{file} has nothing like the block that begins with {block.strip().splitlines()[0]!r}")
    return lines


def _runs(block: str, source: str) -> Iterator[str]:
    """Every run of as many neighbouring statements as the block has, beginning with one of the same kind and name, without indentation."""
    wanted = ast.parse(textwrap.dedent(block)).body
    comments = block.lstrip().startswith("#")
    lines = source.splitlines(keepends=True)
    values = (value for node in ast.walk(ast.parse(source)) for _, value in ast.iter_fields(node))
    for body in (value for value in values if isinstance(value, list) and all(isinstance(item, ast.stmt) for item in value)):
        for i in range(len(body) - len(wanted) + 1):
            run = body[i : i + len(wanted)]
            if type(run[0]) is type(wanted[0]) and getattr(run[0], "name", None) == getattr(wanted[0], "name", None):
                first = min([run[0].lineno, *(each.lineno for each in getattr(run[0], "decorator_list", []))]) - 1
                while comments and lines[first - 1].lstrip().startswith("#"):
                    first -= 1
                yield textwrap.dedent("".join(lines[first : run[-1].end_lineno]))


def main() -> int:
    """Rewrites the pages whose blocks are not their files' any more, and names them."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        try:
            new = refreshed(text)
        except (LookupError, OSError, SyntaxError) as error:
            sys.exit(f"{page.relative_to(ROOT)}: {error}")
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"refreshed {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
