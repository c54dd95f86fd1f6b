"""Builds docs/ into site/: `make docs`. The pages are GitHub's own; what GitHub does by itself is done here.

Pages are copied to build/docs/pages. A link to a file outside docs/ leads to a page made of that file, the gallery of games is filled in,
zensical makes HTML, KaTeX sets the formulas, and every link, picture and host of the result is checked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from ganforge import zoo

ROOT = Path(__file__).resolve().parents[1]
TOOLS, DOCS = ROOT / "tools", ROOT / "docs"
BUILD = ROOT / "build" / "docs"
PAGES, SITE = BUILD / "pages", BUILD / "site"
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()[^)\s]+|(?<=src=\")[^\"]+")
GALLERY = re.compile(r"<!-- gallery -->.*?<!-- /gallery -->", re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


def stage() -> None:
    """Lays out build/docs/pages: the pages of docs/, and one for each file that they link to, and those for theirs."""
    shutil.rmtree(PAGES, ignore_errors=True)
    waiting, done = sorted(path for path in DOCS.rglob("*") if path.is_file()), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        place = PAGES / _staged(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text, linked = _relinked(path)
            waiting += linked
            if path == DOCS / "index.md":
                text = "---\nhide: [navigation, toc]\n---\n\n" + GALLERY.sub(lambda _: gallery(), text)
            elif path.parent == DOCS / "games":
                text = "---\nhide: [toc]\n---\n\n" + text
            place.write_text(text, encoding="utf-8")
        elif place.suffix == ".md":
            place.write_text(_page_of_a_file(path), encoding="utf-8")
        else:
            shutil.copyfile(path, place)


def _staged(path: Path) -> Path:
    """Where the page of a file of the repository is, relative to the site's pages."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS)
    place = Path("source") / path.relative_to(ROOT)
    return place if path.suffix == ".md" else place.with_name(f"{place.name}.md")


def _relinked(page: Path) -> tuple[str, list[Path]]:
    """The page's text with its links as the site has them, and the files outside docs/ to which they lead."""
    linked: list[Path] = []

    def moved(match: re.Match[str]) -> str:
        target, hash_, anchor = match[0].partition("#")
        if "://" in target or not target:
            return match[0]
        path = Path(os.path.normpath(page.parent / target))
        if not path.is_file():
            sys.exit(f"{page.relative_to(ROOT)}: {target} is not a file; a page can only link to files")
        if not path.is_relative_to(DOCS):
            linked.append(path)
        return Path(os.path.relpath(_staged(path), _staged(page).parent)).as_posix() + hash_ + anchor

    text = page.read_text(encoding="utf-8")
    if page == DOCS / "index.md":
        text = GALLERY.sub("<!-- gallery --><!-- /gallery -->", text)
    pieces, end = [], 0
    for code in CODE.finditer(text):
        pieces += [LINK.sub(moved, with_githubs_lists(text[end : code.start()])), code[0]]
        end = code.end()
    return "".join([*pieces, LINK.sub(moved, with_githubs_lists(text[end:]))]), linked


def with_githubs_lists(text: str) -> str:
    """Python-Markdown wants an empty line before a list, and four spaces for what belongs to an item; GitHub takes two or three."""
    text = re.sub(r"^(?! *(?:[-*]|\d+\.) )(\S.*)\n(?=(?:[-*]|1\.) )", r"\1\n\n", text, flags=re.MULTILINE)
    return re.sub(r"^ {2,6}(?=\S)", lambda spaces: "    " if len(spaces[0]) < 4 else "        ", text, flags=re.MULTILINE)


def _page_of_a_file(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    games = [entry.name for entry in zoo.catalogue().values() if name == f"src/{entry.module.replace('.', '/')}.py"]
    up = "../" * name.count("/") + "../"
    words = "".join(f"The whole file of [{game}]({up}games/{game}.md), whose page says what its lines do.\n\n" for game in games)
    # Four backticks: the file may hold three.
    lines = f"````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8').rstrip()}\n````\n"
    # Not searched: whoever looks for a word wants a page that explains it.
    return f"---\nhide: [navigation, toc]\nsearch:\n  exclude: true\n---\n\n# {name.removeprefix('src/ganforge/')}\n\n{words}{lines}"


def gallery() -> str:
    """A card for each game: the first picture and the line under the title of its page, and its paper as the catalogue has it."""
    cards = []
    for page in sorted((DOCS / "games").glob("*.md"), key=lambda page: page.stem):
        name, text = page.stem, page.read_text(encoding="utf-8")
        line = " ".join(text.split("\n\n")[1].split())
        picture = re.search(r"!\[[^\]]*\]\(\.\./([^)\s]+)\)|<img src=\"\.\./([^\"]+)\"", text)
        shown = f'<img src="{picture[1] or picture[2]}" alt="" loading="lazy">' if picture else ""
        title = re.split(r"\.\s", zoo.catalogue()[name].paper)[0]
        cards.append(f'<a class="card" href="games/{name}.html">{shown}<b>{name}</b><span>{line}</span><small>{title}</small></a>')
    return '<div class="gallery">\n' + "\n".join(cards) + "\n</div>"


def navigation() -> list[object]:
    """The pages of docs/ in the order in which the index links to them, then those it does not link to; the games by folder."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = [Path(os.path.normpath(DOCS / target)) for target in LINK.findall(index) if target.endswith(".md")]
    guides = [path for path in linked if path.parent in (DOCS, ROOT)] + sorted(DOCS.glob("*.md"))
    rest = [_staged(path).as_posix() for path in dict.fromkeys(guides) if path != DOCS / "index.md"]
    games, tasks = ([f"{folder}/{name}.md" for name in _pages(folder)] for folder in ("games", "tasks"))
    return [{"Home": "index.md"}, *([{"Tasks": tasks}] if tasks else []), {"Games": games}, {"Guides": rest}]


def _pages(folder: str) -> list[str]:
    """The names of the pages of a folder of docs/, its index first."""
    return sorted((path.stem for path in (DOCS / folder).glob("*.md")), key=lambda name: (name != "index", name))


def faults() -> Iterator[str]:
    """What is wrong with the site: a link or picture that leads nowhere, something loaded from another host, a formula left as it was."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(SITE.rglob("*.html"))}
    anchors = {path: set(re.findall(r"\sid=\"([^\"]+)\"", text)) for path, text in pages.items()}
    for path, text in pages.items():
        where = path.relative_to(SITE)
        if 'class="arithmatex"' in text:
            yield f"{where}: a formula was not set"
        if left := re.search(r"\$[^$<]*\\[a-zA-Z][^$<]*\$", re.sub(r"<(pre|code|script)\b.*?</\1>", "", text, flags=re.DOTALL)):
            yield f"{where}: {left[0]} was not taken for a formula"
        for tag, attribute, value in re.findall(r"<(\w+)\b[^>]*?\s(href|src)=\"?([^\"\s>]+)", text):
            target, _, anchor = unescape(value).partition("#")
            if "://" in target or target.startswith("//"):
                if tag != "a":
                    yield f"{where}: loads {value} from another host"
            # The page of what is not found is served from any place, so its links are absolute.
            elif where.name != "404.html" and not target.startswith(("data:", "mailto:")):
                file = Path(os.path.normpath(path.parent / unquote(target))) if target else path
                if not file.is_file() or (anchor and file in anchors and unquote(anchor) not in anchors[file]):
                    yield f"{where}: {attribute}={value} leads nowhere"
    for path in SITE.rglob("*.css"):
        for value in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(SITE)}: loads {value} from another host"


def main() -> int:
    """Stages, builds, sets formulas, checks; the exit code is that of the first step that fails."""
    stage()
    for file in ("package.json", "package-lock.json", "set_formulas.mjs"):
        shutil.copyfile(TOOLS / file, BUILD / file)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=BUILD, check=True)
    katex = BUILD / "node_modules" / "katex" / "dist"
    # The other formats of the fonts are for browsers of before 2018.
    shutil.copytree(katex / "fonts", PAGES / "assets" / "katex" / "fonts", ignore=shutil.ignore_patterns("*.ttf", "*.woff"))
    shutil.copy(katex / "katex.min.css", PAGES / "assets" / "katex")
    shutil.copyfile(BUILD / "node_modules" / "iframe-worker" / "shim" / "index.js", PAGES / "assets" / "iframe-worker.js")
    # JSON is YAML, and INHERIT keeps the settings where they can be read.
    (BUILD / "mkdocs.yml").write_text(json.dumps({"INHERIT": "../../tools/site.yml", "nav": navigation()}), encoding="utf-8")
    # Not --strict, which ends in a traceback: faults() looks for broken links too, also in HTML that a page has of its own.
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "-f", BUILD / "mkdocs.yml"], check=True)
    subprocess.run(["node", "set_formulas.mjs", SITE], cwd=BUILD, check=True)
    if found := list(faults()):
        print("\n".join(found))
        return 1
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    SITE.rename(ROOT / "site")
    count = sum(1 for _ in (ROOT / "site").rglob("*.html"))
    print(f"site/index.html: {count} pages; every link leads somewhere, nothing is loaded from other hosts")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
