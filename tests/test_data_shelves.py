"""Zips, tar shards and saved data sets: the same pictures as in a folder, wherever they lie; and what is refused."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganforge.data.decode import BadPictureError
from ganforge.data.finding import find_shelf
from ganforge.data.hub import HubShelf
from ganforge.data.pixels import read_pixels
from ganforge.data.reading import Reading
from ganforge.data.shelves import Shelf
from ganforge.errors import RequestError

READING = Reading(size="2", channels=1)


def encoded(level: int, suffix: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (5, 4), level).save(file, suffix)
    return file.getvalue()


def found(text: object) -> Shelf:
    shelf = find_shelf(str(text), READING)
    assert shelf is not None
    return shelf


def levels(shelf: Shelf) -> list[int]:
    """The first byte of each picture served, which is all there is to a flat grey one."""
    pixels = read_pixels(shelf, READING).pixels
    return [int(value) for value in pixels.take(np.arange(len(pixels)))[:, 0, 0, 0]]


def zipped(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: Mapping[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_serves_its_pictures_by_name_without_hidden_ones(tmp_path: Path, compression: int) -> None:
    members = {"b.png": encoded(2), "a/c.png": encoded(1), "__MACOSX/._b.png": b"x", "a/.d.png": b"x", "a/c.txt": b"a thing", "in.zip": b""}
    shelf = found(zipped(tmp_path / "a.zip", members, compression))
    assert shelf.names == ["a/c.png", "b.png"]
    assert levels(shelf) == [1, 2]
    assert shelf.notes == ["2 files that are no pictures ignored (1 .txt, 1 .zip)"]
    assert shelf.sidecars(".txt") == [b"a thing", None]
    assert shelf.others == ["a/c.txt", "in.zip"]


def test_the_one_top_folder_of_a_zip_is_no_part_of_the_names(tmp_path: Path) -> None:
    members = {"all/cat/1.png": encoded(1), "all/dog/1.png": encoded(2), "all/dog/1.txt": b"a dog", "readme.md": b""}
    shelf = found(zipped(tmp_path / "a.zip", members))
    assert shelf.names == ["cat/1.png", "dog/1.png"]
    assert shelf.others == ["dog/1.txt", "readme.md"]
    assert shelf.sidecar(1, ".txt") == b"a dog"


def test_threads_read_a_zip_at_once(tmp_path: Path) -> None:
    contents = {f"{number:03}.png": os.urandom(20_000) for number in range(60)}
    shelf = found(zipped(tmp_path / "a.zip", contents))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda number: shelf.open(number).read(), list(range(60)) * 4))
    assert read == [contents[name] for name in shelf.names] * 4


def test_a_zip_that_is_none_holds_none_or_is_locked_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "letter.zip").write_text("Dear reader")
    (tmp_path / "empty.zip").touch()
    whole = zipped(tmp_path / "whole.zip", {"a.png": encoded(1)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    for name in ("letter", "empty", "cut"):
        with pytest.raises(RequestError, match=rf"{name}\.zip: not a zip file, or one that was cut short"):
            found(tmp_path / f"{name}.zip")
    with pytest.raises(RequestError, match=r"outer\.zip: no picture found .*; it holds 1 \.zip; unpack it: a zip within a zip"):
        found(zipped(tmp_path / "outer.zip", {"inner.zip": whole}))
    # The flag that says "encrypted", in the member's own header and in the archive's directory.
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(RequestError, match=r"locked\.zip: a\.png is encrypted"):
        found(tmp_path / "locked.zip")


def test_a_damaged_member_of_a_zip_is_a_bad_picture_and_not_the_end(tmp_path: Path) -> None:
    noise = os.urandom(500)
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(1), "b.png": encoded(2) + noise}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(noise, noise[::-1]))
    pixels, numbers, notes, skipped = read_pixels(found(path), READING)
    assert numbers.tolist() == [0]
    assert len(pixels) == 1
    assert "Bad CRC-32" in skipped[1]
    assert notes[0].startswith("1 of 2 files skipped: b.png (damaged in the zip (")
    with pytest.raises(RequestError, match=r"a\.zip/b\.png: damaged in the zip .*leave out --strict"):
        read_pixels(found(path), Reading(size="2", strict=True))


def test_a_member_that_promises_too_much_is_never_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {"a.png": encoded(1), "b.png": encoded(2)})
    stored = path.read_bytes()
    at = stored.rindex(b"PK\1\2") + 24
    path.write_bytes(stored[:at] + struct.pack("<I", 2**31) + stored[at + 4 :])
    with pytest.raises(BadPictureError, match=r"bomb\.zip/b\.png: 2147483648 bytes, more than"):
        found(path).open(1)
    assert levels(found(path)) == [1]


def test_a_zip_written_again_is_read_again(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(1)})
    assert levels(found(path)) == [1]
    zipped(path, {"a.png": encoded(2)})
    os.utime(path, ns=(0, 1))
    assert levels(found(path)) == [2]


SHARDS = {
    "000.tar": {"0001.png": encoded(1), "0001.cls": b"7", "0002.png": encoded(2), "0002.cls": b"3", "0002.json": b'{"a": 1}'},
    "001.tar": {"0001.png": encoded(3), "0001.cls": b"5"},
    "002.tar": {"x/0004.jpg": encoded(90, "JPEG"), "x/0004.txt": b"a thing", "y/._5.png": b"x"},
}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name, members in SHARDS.items():
        tarred(tmp_path / "shards" / name, members)
    return tmp_path / "shards"


@pytest.mark.parametrize("pattern", ["{000..002}.tar", "*.tar", "00?.tar", "00{0..2}.tar"])
def test_shards_serve_their_samples_shard_by_shard(shards: Path, pattern: str) -> None:
    for _ in range(2):  # the second time from the kept index
        shelf = found(shards / pattern)
        assert shelf.names == ["0001.png", "0002.png", "0001.png", "x/0004.jpg"]
        assert shelf.runs == (2, 1, 1)
        assert levels(shelf)[:3] == [1, 2, 3]
        assert shelf.sidecars(".cls") == [b"7", b"3", b"5", None]
        assert shelf.sidecar(3, ".txt") == b"a thing"
        assert json.loads(shelf.sidecar(1, ".json") or b"") == {"a": 1}
        assert shelf.place(2) == f"{shards}/001.tar/0001.png"
        assert shelf.subset([0, 2, 3]).runs == (1, 1, 1)


def test_where_members_lie_is_read_once_for_each_shard(shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = levels(found(shards / "*.tar"))
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert levels(found(shards / "*.tar")) == first
    for kept in (tmp_path / "cache").glob("shard-*"):
        kept.write_text("{")
    assert levels(found(shards / "*.tar")) == first
    size = (shards / "001.tar").stat().st_size
    tarred(shards / "001.tar", {"0000.txt": b"moves what follows", "0001.png": encoded(33)})
    assert (shards / "001.tar").stat().st_size == size, "tar files come in blocks of 10 KiB"
    os.utime(shards / "001.tar", ns=(0, 1))
    assert levels(found(shards / "*.tar"))[2] == 33


def test_without_a_cache_shards_are_indexed_in_memory(shards: Path, tmp_path: Path) -> None:
    shelf = find_shelf(str(shards / "*.tar"), Reading(cache="none"))
    assert shelf is not None
    assert shelf.names[3] == "x/0004.jpg"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_with_long_names_are_found_in_every_tar_format(tmp_path: Path, form: int) -> None:
    name = "/".join(["long" * 10] * 3) + "/picture.png"
    shelf = found(tarred(tmp_path / "a.tar", {name: encoded(4), "b.png": encoded(5)}, form=form))
    assert shelf.names == [name, "b.png"]
    assert levels(shelf) == [4, 5]


def test_of_a_sample_with_several_pictures_the_plain_one_is_served(tmp_path: Path) -> None:
    plain = {"1.seg.png": encoded(9), "1.png": encoded(1), "2.png": encoded(2)}
    assert found(tarred(tmp_path / "a.tar", plain)).names == ["1.png", "2.png"]
    assert found(tarred(tmp_path / "a.tar", plain)).sidecar(0, ".seg.png") == encoded(9)
    sides = {"1.left.png": encoded(1), "1.right.png": encoded(2), "1.cls": b"4"}
    shelf = found(tarred(tmp_path / "b.tar", sides))
    assert shelf.names == ["1.left.png", "1.right.png"]
    assert shelf.sidecars(".cls") == [b"4", b"4"]


def test_missing_damaged_and_compressed_shards_are_refused_by_name(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"2 of 5 shards are missing, the first .*/003\.tar"):
        found(shards / "{000..004}.tar")
    with pytest.raises(RequestError, match=r"1 of 1 shards are missing, the first .*/no\*\.tar"):
        found(shards / "no*.tar")
    with pytest.raises(RequestError, match="compressed shards cannot be read at any place"):
        found(tarred(tmp_path / "a.tar.gz", SHARDS["000.tar"], "w:gz"))
    disguised = tarred(tmp_path / "b.tar", SHARDS["000.tar"], "w:gz")
    with pytest.raises(RequestError, match=r"b\.tar: not an uncompressed tar file"):
        found(disguised)
    whole = (shards / "000.tar").read_bytes()
    for length in (0, 20, tarfile.BLOCKSIZE + 20, 2 * tarfile.BLOCKSIZE, 2 * tarfile.BLOCKSIZE + 20):
        (shards / "000.tar").write_bytes(whole[:length])
        with pytest.raises(RequestError, match=r"000\.tar: not an uncompressed tar file, or one that was cut short"):
            found(shards / "*.tar")
    with pytest.raises(RequestError, match=r"no picture found .*; it holds 3 \.tar; name shards by a pattern, '.*/shards/\*\.tar'"):
        found(shards)
    with pytest.raises(RequestError, match=r"no picture found .*; the shards hold 2 \.txt"):
        found(tarred(tmp_path / "c.tar", {"a.txt": b"", "b.txt": b""}))


def test_a_bad_picture_in_a_shard_is_named_with_its_shard(shards: Path) -> None:
    tarred(shards / "001.tar", {"0001.png": b"no picture"})
    read = read_pixels(found(shards / "*.tar"), READING)
    assert read.numbers.tolist() == [0, 1, 3]
    with pytest.raises(RequestError, match=r"001\.tar/0001\.png: not a picture"):
        read_pixels(found(shards / "*.tar"), Reading(size="2", strict=True))


def test_no_more_files_are_open_than_are_read(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, opened, original = found(shards / "*.tar"), [], Path.open

    def noted(path: Path, mode: str) -> Any:
        opened.append(original(path, mode))
        return opened[-1]

    monkeypatch.setattr(Path, "open", noted)
    kept = [shelf.open(number) for number in range(4) for _ in range(5)]
    assert len(kept) == len(opened) == 20
    assert all(file.closed for file in opened)


def test_a_folder_zip_and_shard_of_the_same_files_serve_the_same(tmp_path: Path) -> None:
    members = {f"{kind}/{number}.png": encoded(10 * number) for kind in ("cat", "dog") for number in range(1, 4)}
    for name, content in members.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    shelves = [found(tmp_path / "folder"), found(zipped(tmp_path / "a.zip", members)), found(tarred(tmp_path / "a.tar", members))]
    assert all(list(shelf.names) == sorted(members) for shelf in shelves)
    assert all(levels(shelf) == [10, 20, 30] * 2 for shelf in shelves)


def test_a_data_set_of_the_hub_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    (tmp_path / "state.json").write_text("{}")
    for text in ("hub:mnist", str(tmp_path)):
        with pytest.raises(RequestError, match=r"pip install 'ganforge\[hub\]'"):
            find_shelf(text, READING)


def library() -> Any:
    return pytest.importorskip("datasets", reason="the extra `hub` is not installed")


def table(count: int) -> Any:
    datasets = library()

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
            "text": datasets.Value("string"),
            "n": datasets.Value("int32"),
        }
    )
    rows = {
        "image": [{"bytes": encoded(10 + row), "path": None} for row in range(count)],
        "kind": [row % 2 for row in range(count)],
        "text": [f"number\n{row}" for row in range(count)],
        "n": list(range(count)),
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set_serves_pictures_labels_and_captions(tmp_path: Path) -> None:
    table(3).save_to_disk(str(tmp_path / "set"))
    shelf = found(tmp_path / "set")
    assert shelf.names == ["0000000", "0000001", "0000002"]
    assert levels(shelf) == [10, 11, 12]
    assert shelf.classes == ("cat", "dog")
    assert shelf.sidecars(".cls") == [b"0", b"1", b"0"]
    assert shelf.sidecar(2, ".txt") == b"number 2"
    assert json.loads(shelf.sidecar(1, ".json") or b"") == {"kind": 1, "text": "number\n1", "n": 1}
    assert shelf.sidecar(1, ".other") is None


def test_splits_of_a_data_set_are_top_folders(tmp_path: Path) -> None:
    datasets = library()

    datasets.DatasetDict({"train": table(2), "test": table(1)}).save_to_disk(str(tmp_path / "set"))
    shelf = found(tmp_path / "set")
    assert shelf.names == ["train/0000000", "train/0000001", "test/0000000"]
    assert levels(shelf) == [10, 11, 10]
    assert levels(found(tmp_path / "set" / "test")) == [10]
    assert shelf.sidecars(".cls") == [b"0", b"1", b"0"]


def test_the_hub_is_read_by_load_dataset_with_and_without_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = library()

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    (tmp_path / "set").mkdir()
    for split, count in (("train", 3), ("test", 2)):
        table(count).to_parquet(str(tmp_path / "set" / f"{split}.parquet"))
    assert levels(found(f"hub:{tmp_path}/set:test")) == [10, 11]
    assert found(f"hub:{tmp_path}/set").names == ["train/0000000", "train/0000001", "train/0000002", "test/0000000", "test/0000001"]
    with pytest.raises(RequestError, match=r"^hub:.*:valid: `datasets` cannot load it \(.*\)$"):
        found(f"hub:{tmp_path}/set:valid")
    with pytest.raises(RequestError, match="hub:NAME"):
        found("hub:")


def test_a_data_set_without_pictures_or_damaged_is_refused(tmp_path: Path) -> None:
    datasets = library()

    datasets.Dataset.from_dict({"a": [1], "b": ["x"]}).save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(RequestError, match=r"no column holds pictures .*; it has a, b"):
        found(tmp_path / "numbers")
    table(2).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "set" / "state.json").write_text("{")
    with pytest.raises(RequestError, match=r"set: not a data set that `datasets` can load"):
        found(tmp_path / "set")


def test_a_row_without_a_picture_and_one_that_names_a_file_are_told_apart(tmp_path: Path) -> None:
    datasets = library()

    (tmp_path / "a.png").write_bytes(encoded(7))
    cells = [{"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": None, "path": str(tmp_path / "gone.png")}, None]
    made = datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image(decode=False)}))
    read = read_pixels(HubShelf("here", {"": made}), READING)
    assert read.numbers.tolist() == [0]
    assert read.skipped == {1: "cannot be opened: No such file or directory", 2: "empty file"}
