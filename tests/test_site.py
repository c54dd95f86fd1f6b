"""The site's builder where it can be wrong without a sound: links, lists, navigation, and its own check of what was built."""

from __future__ import annotations

from pathlib import Path

import build_site
import pytest


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two games, a guide, and an index that names the guide."""
    for name, value in {"ROOT": ".", "DOCS": "docs", "PAGES": "pages", "SITE": "built"}.items():
        monkeypatch.setattr(build_site, name, tmp_path / value)
    for name, text in {
        "docs/index.md": "# Home\n\n[guide](zebra.md)\n\n<!-- gallery -->\n[games](games/)\n<!-- /gallery -->\n",
        "docs/aardvark.md": "# Aardvark\n",
        "docs/zebra.md": "# Zebra\n\n[how](../HOW.md#steps), [code](../src/ganforge/zoo/gan.py), `[no](link)`\n",
        "docs/games/gan.md": "# gan\n\nThe first\nof them.\n\n![](../images/gan.png)\n",
        "docs/games/gan-1d.md": "# gan-1d\n\nOn the line.\n",
        "docs/images/gan.png": "",
        "HOW.md": "# How\n\n## Steps\n\n[back](docs/zebra.md)\n",
        "src/ganforge/zoo/gan.py": 'print("```")\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_links_out_of_the_docs_lead_to_pages_made_of_those_files(repository: Path) -> None:
    build_site.stage()
    pages = repository / "pages"
    assert "[how](source/HOW.md#steps), [code](source/src/ganforge/zoo/gan.py.md), `[no](link)`" in (pages / "zebra.md").read_text()
    assert "[back](../zebra.md)" in (pages / "source" / "HOW.md").read_text()
    page = (pages / "source" / "src" / "ganforge" / "zoo" / "gan.py.md").read_text()
    assert '````python\nprint("```")\n````' in page
    assert "[gan](../../../../games/gan.md)" in page


def test_a_link_to_no_file_stops_the_build(repository: Path) -> None:
    (repository / "docs" / "zebra.md").write_text("[gone](gone.md)", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"docs/zebra\.md: gone\.md is not a file"):
        build_site.stage()


def test_every_page_is_in_the_navigation_games_by_folder_and_guides_as_the_index_names_them(repository: Path) -> None:
    assert build_site.navigation() == [
        {"Home": "index.md"},
        {"Games": ["games/gan.md", "games/gan-1d.md"]},
        {"Guides": ["zebra.md", "aardvark.md"]},
    ]


def test_the_gallery_has_a_card_for_each_game(repository: Path) -> None:
    first, second = build_site.gallery().split("\n")[1:-1]
    assert 'href="games/gan.html"' in first
    assert 'src="images/gan.png"' in first
    assert "<span>The first of them.</span><small>Generative Adversarial Networks</small>" in first
    assert 'href="games/gan-1d.html"' in second
    assert "img" not in second


@pytest.mark.parametrize(
    ("github", "python_markdown"),
    [
        ("two:\n- a\n- b\n", "two:\n\n- a\n- b\n"),
        ("1. a\n   - b\n2. c\n", "1. a\n    - b\n2. c\n"),
        ("- a\n  goes on\n\n  and on\n", "- a\n    goes on\n\n    and on\n"),
        ("plain\ntext, 1.\n", "plain\ntext, 1.\n"),
    ],
)
def test_lists_are_written_as_python_markdown_reads_them(github: str, python_markdown: str) -> None:
    assert build_site.with_githubs_lists(github) == python_markdown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="b.html#here">', None),
        ('<a href="https://example.org/">', None),
        ('<a href="#nowhere">', "a.html: href=#nowhere leads nowhere"),
        ('<a href="b.html#nowhere">', "a.html: href=b.html#nowhere leads nowhere"),
        ('<a href="c.html">', "a.html: href=c.html leads nowhere"),
        ("<img src=x.png>", "a.html: src=x.png leads nowhere"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "a.html: loads https://example.org/x.css from another host"),
        ('<script async src="//example.org/x.js">', "a.html: loads //example.org/x.js from another host"),
        ('<span class="arithmatex">', "a.html: a formula was not set"),
        (r"<p>$\frac12$</p>", r"a.html: $\frac12$ was not taken for a formula"),
        (r"<code>$\frac12$</code>", None),
    ],
)
def test_what_is_wrong_with_a_built_page_is_said(repository: Path, text: str, fault: str | None) -> None:
    site = repository / "built"
    site.mkdir()
    (site / "a.html").write_text(text, encoding="utf-8")
    (site / "b.html").write_text('<h1 id="here">', encoding="utf-8")
    assert list(build_site.faults()) == ([fault] if fault else [])


def test_a_style_sheet_that_loads_from_another_host_is_seen(repository: Path) -> None:
    (repository / "built").mkdir()
    (repository / "built" / "a.css").write_text("a { src: url(fonts/a.woff2), url('https://example.org/a.woff2') }", encoding="utf-8")
    assert list(build_site.faults()) == ["a.css: loads https://example.org/a.woff2 from another host"]
