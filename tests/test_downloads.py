"""Files that others publish: fetched once, and taken only with the known checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from ganforge.downloads import checksum, fetch
from ganforge.errors import RequestError

CONTENT = b"weights that somebody published"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    file = tmp_path / "published.bin"
    file.write_bytes(CONTENT)
    return file


def test_a_file_is_fetched_once_and_then_kept(published: Path) -> None:
    url = published.as_uri()
    kept = fetch(url, SHA256[:8], "the file")
    assert kept.read_bytes() == CONTENT
    assert checksum(kept) == SHA256
    published.unlink()
    assert fetch(url, SHA256, "the file") == kept


def test_a_download_of_another_checksum_is_refused_and_not_kept(published: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the file could not be fetched from .*invalid hash value.*give a file"):
        fetch(published.as_uri(), "0" * 8, "the file")
    assert not list((tmp_path / "cache" / "checkpoints").glob("*"))


def test_a_kept_file_that_was_changed_is_refused_by_name(published: Path) -> None:
    kept = fetch(published.as_uri(), SHA256, "the file")
    kept.write_bytes(b"something else")
    with pytest.raises(RequestError, match=r"published\.bin: is not the file, whose SHA-256 begins with"):
        fetch(published.as_uri(), SHA256, "the file")


def test_what_cannot_be_reached_is_one_line(published: Path) -> None:
    published.unlink()
    with pytest.raises(RequestError, match="could not be fetched"):
        fetch(published.as_uri(), SHA256, "the file")
