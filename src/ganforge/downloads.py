"""Files that others publish: fetched once, kept, and taken only with the checksum that is known."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from ganforge.errors import RequestError


def fetch(url: str, sha256: str, what: str) -> Path:
    """The file at `url`, from torch's own cache (`TORCH_HOME`) or else downloaded into it; `sha256` may be its first 8 digits or more.

    `what` names it for people. RequestError where it cannot be fetched or is another file; the way out is always a file of one's own.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise RequestError(f"{what} could not be fetched from {url} ({error}); give a file of it") from None
    found = checksum(path)
    if not found.startswith(sha256):
        raise RequestError(
            f"{path}: is not {what}, whose SHA-256 begins with {sha256}; this one's is {found[:16]}. Remove it, or give a file"
        )
    return path


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in 64 digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
