"""Pictures described in words: a table of captions, COCO's JSON, CUB's text folder, a text file beside each picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganforge.batches import Captioned
from ganforge.data.layouts.albums import Album, Files
from ganforge.data.layouts.images import Extra
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.request import Request
from ganforge.data.layouts.serving import Taken, sent
from ganforge.data.layouts.tables import Beside, read_table, tables_beside
from ganforge.data.shelves import split_suffix
from ganforge.data.text import TextEncoder, fit_encoder
from ganforge.errors import RequestError

CAPTION_COLUMNS = ("captions", "caption", "text", "description", "sentences", "sentence", "prompt")
"""What the column of captions may be called, in any case; a cell of it is a caption or a list of them."""
_PEEKED = 65_536  # bytes in which a table must speak of captions, or it is not read
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_]{2,}")


class Captions(Extra):
    """One or more captions of each picture; `rows` says which of the `vectors` [m, d] is that of a caption."""

    kind = Captioned

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        encoder: TextEncoder,
        rows: Mapping[str, int],
        vectors: Tensor,
        notes: Sequence[str] = (),
    ) -> None:
        self.texts = texts
        self.encoder = encoder
        self.notes = notes
        self.known = np.array([len(each) > 0 for each in texts], dtype=bool)
        self._rows = rows
        self._vectors = vectors

    def spec(self) -> dict[str, Any]:
        """See `Extra`."""
        return {"text": self.encoder.dimension}

    def facts(self) -> Iterable[object]:
        """See `Extra`."""
        return self.encoder.name, self.texts

    def subset(self, numbers: NDArray[np.int64]) -> Captions:
        """See `Extra`."""
        return Captions([self.texts[number] for number in numbers], self.encoder, self._rows, self._vectors, self.notes)

    def batch(self, taken: Taken) -> Captioned:
        """See `Extra`. Which of a picture's captions is chance; without a window it is the first."""
        texts = [self.texts[index] for index in taken.indices.tolist()]
        places = [0.0] * len(texts) if taken.window is None else taken.window.uniform(1, "caption")[:, 0].tolist()
        chosen = [each[min(int(place * len(each)), len(each) - 1)] for each, place in zip(texts, places, strict=True)]
        vectors = self._vectors[[self._rows[text] for text in chosen]]
        return Captioned(taken.image, sent(vectors, taken.image.device))


def captions_of(request: Request) -> Captions | str:
    """The captions of the pictures of the only place, from `--captions` or from what lies there; or why there are none.

    The encoder learns from the pictures to train on alone, so that vectors mean the same in every split.
    """
    place, reading = request.places[0], request.reading
    told = _told(place, request.album, reading.captions)
    if not isinstance(told, str) and reading.captions is None and Captioned not in request.kinds and not _are_sentences(told[0]):
        return "the texts that lie there are no sentences"
    trained = told if request.split == "train" else _told(place, place.album("train"), reading.captions)
    if isinstance(told, str) or isinstance(trained, str):
        return told if isinstance(told, str) else f"the pictures to train on: {trained}"
    texts, notes = told
    encoder = fit_encoder(reading.text_encoder, sorted({text for each in trained[0] for text in each}), reading.text_dim)
    distinct = sorted({text for each in texts for text in each})
    rows, vectors = {text: row for row, text in enumerate(distinct)}, torch.from_numpy(encoder.encode(distinct))
    return Captions(texts, encoder, rows, vectors, [f"{sum(map(len, texts))} captions, {len(distinct)} of them distinct", *notes])


def _told(place: Place, album: Album, file: str | None) -> tuple[list[list[str]], list[str]] | str:
    """The captions of each picture of the album, and notes; or why there are none."""
    if file is not None:
        path = Path(file).expanduser()
        if not path.is_file():
            raise RequestError(f"--captions {file}: no such file; give a CSV, TSV, JSONL or COCO JSON file")
        lines, where = read_captions(file, path.read_bytes()), file
    elif place.beside is None:
        return _by_sidecars(album) if isinstance(album, Files) else "an array has no captions"
    else:
        found = _lying_there(place.beside)
        if isinstance(found, str):
            return found
        lines, where = found
    number = {name: index for index, name in enumerate(album.paths)}
    texts: list[list[str]] = [[] for _ in range(len(album))]
    astray: list[str] = []
    for name, captions in lines:
        path_in = place.lookup(name)
        if path_in is None:
            astray.append(str(name))
        elif path_in in number:
            texts[number[path_in]] += [tidy for caption in captions if (tidy := " ".join(caption.split()))]
    bare = sum(not each for each in texts)
    if bare == len(texts):
        return f"{where}: no line names one of the pictures" + (f", e.g. {astray[0]}" if astray else "")
    notes = [f"captions of {where}"]
    notes += [f"{bare} pictures skipped because {where} has no caption for them"] if bare else []
    return texts, notes + ([f"{len(astray)} lines of {where} name no picture here"] if astray else [])


def _are_sentences(texts: Sequence[Sequence[str]]) -> bool:
    """Whether most have several words: boxes of numbers, keys and names of files lie beside pictures too."""
    lines = [each[0] for each in texts if each]
    return sum(len(_WORD.findall(line)) > 1 for line in lines) > len(lines) / 2


def read_captions(origin: str, data: bytes) -> list[tuple[object, list[str]]]:
    """(how a picture is named, its captions) of each row of a table or of COCO's JSON; RequestError where there are no captions."""
    suffix = PurePosixPath(origin).suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl", ".json"):
        raise RequestError(f"{origin}: captions are read from a CSV, TSV, JSONL or COCO JSON file")
    if suffix == ".json" and data.lstrip()[:1] == b"{":
        return _coco(origin, data)
    table = read_table(origin, data)
    file, column = table.file, table.column(CAPTION_COLUMNS)
    if column is None:
        raise RequestError(f"{origin}: no column of captions; call it 'caption'. It has {', '.join(map(repr, table.columns))}")
    return [(name, _sentences(origin, cell)) for name, cell in zip(table.cells[file], table.cells[column], strict=True)]


def _sentences(origin: str, cell: object) -> list[str]:
    if cell is None:
        return []
    cells = cell if isinstance(cell, list) else [cell]
    if not all(isinstance(each, str) for each in cells):
        raise RequestError(f"{origin}: a caption is text or a list of texts, not {str(cell)[:40]!r}")
    return [str(each) for each in cells]


def _coco(origin: str, data: bytes) -> list[tuple[object, list[str]]]:
    """`images` [{id, file_name}] and `annotations` [{image_id, caption}]: Microsoft COCO Captions, arXiv:1504.00325."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{origin}: no JSON ({error})") from None
    missing = [name for name in ("images", "annotations") if not isinstance(found.get(name), list)]
    if missing:
        raise RequestError(f"{origin}: COCO captions have 'images' and 'annotations'; {' and '.join(map(repr, missing))} missing")
    try:
        files = {image["id"]: image["file_name"] for image in found["images"]}
        return [
            (files.get(note["image_id"], f"image {note['image_id']}"), _sentences(origin, note["caption"])) for note in found["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise RequestError(
            f"{origin}: not COCO captions, an image or an annotation has no {error} (is it the file of instances?)"
        ) from None


def _lying_there(beside: Beside) -> tuple[list[tuple[object, list[str]]], str] | str:
    """All tables of captions that lie with the pictures, else text files by the names of pictures."""
    tables = [name for name, _ in tables_beside(beside)] + [name for name in sorted(beside) if _may_be_coco(name)]
    lines: list[tuple[object, list[str]]] = []
    used, reasons = [], []
    for name in tables:
        if not _may_be_coco(name) and not any(word.encode() in beside[name]()[:_PEEKED].lower() for word in CAPTION_COLUMNS):
            continue
        try:
            lines += read_captions(name, beside[name]())
            used.append(name)
        except RequestError as error:
            reasons.append(str(error))
    if used:
        return lines, " and ".join(used)
    texts = [name for name in sorted(beside) if name.lower().endswith(".txt")]
    lines = [(split_suffix(name)[0], beside[name]().decode("utf-8", "replace").splitlines()) for name in texts]
    if not lines:
        return reasons[0] if reasons else "there is no table of captions and no .txt beside the pictures"
    return lines, "the .txt files"


def _may_be_coco(name: str) -> bool:
    return "caption" in name.lower() and name.lower().endswith(".json")


def _by_sidecars(album: Files) -> tuple[list[list[str]], list[str]] | str:
    """What shards and data sets hold for each picture: lines of text, else `caption` of its JSON."""
    texts = [(each or b"").decode("utf-8", "replace").splitlines() for each in album.sidecars(".txt")]
    if not any(texts):
        texts = [_caption_of(each) for each in album.sidecars(".json")]
    texts = [[tidy for line in lines if (tidy := " ".join(line.split()))] for lines in texts]
    bare = sum(not each for each in texts)
    if bare == len(texts):
        return "no text belongs to the pictures"
    return texts, [f"{bare} pictures skipped because they have no caption"] if bare else []


def _caption_of(data: bytes | None) -> list[str]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return []
    told: object = next((found[name] for name in CAPTION_COLUMNS if isinstance(found, dict) and found.get(name)), [])
    return [line for line in (told if isinstance(told, list) else [told]) if isinstance(line, str)]
