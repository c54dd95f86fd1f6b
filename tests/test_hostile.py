"""Run folders that a stranger made: whatever is in them, loading refuses in one line, soon, and runs none of it."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from variants import Variant, variants

import ganforge
from ganforge import zoo
from ganforge.batches import ImageSpec, PointSpec, spec_from_json, spec_to_json
from ganforge.cli import main
from ganforge.data.text import Tfidf, load_encoder
from ganforge.errors import RequestError
from ganforge.game import Game, hyper_parameters
from ganforge.runs import RunRecord, read_json, to_json
from ganforge.use.seeds import seeded
from ganforge.weights import save_weights

ENTRY = "generator.0.weight"
ONE_OF_EACH = list({variant.name: variant for variant in reversed(variants())}.values())


def write_run(game: Game, record: RunRecord, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / "run.json")
    save_weights(game, folder / "game.safetensors")
    return folder


def recorded(variant: Variant) -> RunRecord:
    """The record of a run of this variant, with every hyper-parameter."""
    hyper = {name: variant.hyper.get(name, known.default) for name, known in hyper_parameters(variant.cls).items()}
    return RunRecord(variant.name, to_json(hyper), variant.source().spec, {"source": "digits"}, {}, {}, "")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that loads, of a game with weights, biases and buffers."""
    variant = next(each for each in ONE_OF_EACH if each.name == "dcgan")
    return write_run(variant.build(), recorded(variant), tmp_path_factory.mktemp("sound") / "run")


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "run"))


def refusal(run: Path, game: type[Game] | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        ganforge.load(run, game)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 2000
    return line


def rewrite(run: Path, **fields: Any) -> None:
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def peak() -> float:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def weights_with(**others: Tensor | None) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        state = {**load_file(path), **others}
        save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path)

    return spoil


def header(text: str, length: int | None = None, after: bytes = b"") -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text.encode() + after))


def void(_: object) -> None:
    """What is done for its effect."""


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def as_link_to(target: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return spoil


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HUGE = '{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'
FALSE = '{"x": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4]}}'
SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "what torch.save writes": (lambda path: torch.save({"x": torch.ones(3)}, path), "not a whole safetensors file"),
    "empty": (lambda path: void(path.write_bytes(b"")), "not a whole safetensors file"),
    "cut off": (lambda path: void(path.write_bytes(path.read_bytes()[:-100])), "not a whole safetensors file"),
    "cut off in its header": (lambda path: void(path.write_bytes(path.read_bytes()[:100])), "not a whole safetensors file"),
    "a header that is no JSON": (header("{" * 50), "not a whole safetensors file"),
    "a header of 2^63 bytes": (header("{}", length=2**63), "its header would have 9223372036854775808 bytes"),
    "a header of 20 MiB": (header(" " * 20 * 2**20), "its header would have 20971520 bytes"),
    "a tensor of terabytes": (header(HUGE), "not a whole safetensors file"),
    "a tensor of another length than its shape": (header(FALSE, after=b"1234"), "not a whole safetensors file"),
    "a folder": (as_folder, "not a regular file"),
    "a pipe": (as_pipe, "not a regular file"),
    "a link to an endless device": (as_link_to("/dev/zero"), "not a regular file"),
    "a link to nothing": (as_link_to("nowhere"), "missing"),
    "an entry of another shape": (weights_with(**{ENTRY: torch.ones(3, 4)}), rf"{ENTRY} is \[3, 4\], and should be \[32, 4\]"),
    "an entry too few": (weights_with(**{ENTRY: None}), rf"{ENTRY} \[32, 4\] is missing"),
    "an entry too many": (weights_with(extra=torch.ones(1)), "has no 'extra'"),
    "whole numbers": (weights_with(**{ENTRY: torch.ones(32, 4, dtype=torch.int32)}), rf"{ENTRY} is torch.int32.*torch.float32"),
    "a weight that is no number": (weights_with(**{ENTRY: torch.full((32, 4), torch.nan)}), rf"{ENTRY} holds.*not finite.*diverged"),
    "a weight without end": (weights_with(**{ENTRY: torch.full((32, 4), torch.inf)}), rf"{ENTRY} holds.*not finite.*diverged"),
}


def test_the_entry_that_is_spoilt_here_is_one_of_the_game(sound: Path) -> None:
    assert load_file(sound / "game.safetensors")[ENTRY].shape == (32, 4)
    ganforge.load(sound)


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_weights_are_refused_in_a_line_that_names_what_is_wrong(case: str, run: Path) -> None:
    spoil, said = SPOILT[case]
    spoil(run / "game.safetensors")
    before = peak()
    with pytest.raises(RequestError, match=said):
        ganforge.load(run)
    assert "game.safetensors" in refusal(run)
    assert peak() - before < 64


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


RECORDS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "deeply nested": (lambda _: deep(100_000).encode(), "not JSON"),
    "nested within": (lambda text: text.replace('"digits"', deep(100_000)).encode(), "not JSON"),
    "a little nested": (lambda text: text.replace('"digits"', deep(500)).encode(), "data: 'source'"),
    "not UTF-8": (lambda text: text.replace("digits", "é").encode("latin-1"), "not JSON"),
    "UTF-16": (lambda text: text.encode("utf-16"), "not JSON"),
    "an array": (lambda _: b"[1, 2]", "not a record"),
    "a word": (lambda _: b'"dcgan"', "not a record"),
    "nothing": (lambda _: b"", "not JSON"),
    "NaN": (lambda text: text.replace("0.0002", "NaN").encode(), "NaN is not a number"),
    "a number of many digits": (lambda text: text.replace("0.0002", "1" * 10_000).encode(), "not JSON"),
    "a field twice": (lambda text: text.replace('"hyper": {', '"hyper": {}, "hyper": {', 1).encode(), "'hyper' stands there twice"),
    "a field twice within": (lambda text: text.replace('"lr"', '"ema"').encode(), "'ema' stands there twice"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_what_is_no_record_is_refused(case: str, run: Path) -> None:
    write, said = RECORDS[case]
    path = run / "run.json"
    text = path.read_text()
    path.write_bytes(write(text))
    assert path.read_bytes() != text.encode(), "nothing was spoilt"
    line = refusal(run)
    assert said in line
    assert "run.json" in line


def test_a_record_of_a_gigabyte_is_not_read(run: Path) -> None:
    with (run / "run.json").open("r+b") as file:
        file.truncate(2**30)
    before = peak()
    assert "1073741824 bytes, more than 4194304" in refusal(run)
    assert peak() - before < 64


def test_a_record_that_is_a_pipe_or_a_device_is_not_waited_for(run: Path) -> None:
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")
    assert "not a regular file" in refusal(run)
    (run / "run.json").unlink()
    (run / "run.json").symlink_to("/dev/zero")
    assert "not a regular file" in refusal(run)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a field of the future": ({"frames": 3}, "no field 'frames'; a newer one"),
    "hyper a list": ({"hyper": [1]}, "hyper = [1]: must be dict"),
    "a spec that is a word": ({"spec": "64x64"}, "spec = '64x64': must be"),
    "a game that is a number": ({"game": 3}, "game = 3: must be str"),
    "data that are a word": ({"data": "digits"}, "data = 'digits': must be"),
    "a command that is none": ({"command": None}, "command = None: must be str"),
    "an outcome in words": ({"outcome": {"rounds": "many"}}, "outcome = {...}: must be dict[str, float]"),
    "data of a kind of the future": ({"data": {"kind": "Videos"}}, "data: kind = 'Videos': must be 'Images' or"),
    "a source that is a number": ({"data": {"source": 3}}, "data: source = 3: must be str"),
    "a source that is a list": ({"data": {"source": ["a", "b"]}}, "'source' = ['a', 'b']: must be a word"),
    "a game nobody knows": ({"game": "dcgam"}, "did you mean 'dcgan'"),
    "a game that climbs out": ({"game": "../../evil"}, "'../../evil' is not in the zoo"),
    "a game that is a place": ({"game": "/tmp/evil"}, "'/tmp/evil' is unknown"),
    "a module as a game": ({"game": "os.system"}, "'os.system' is not in the zoo; give its class, e.g. ganforge.load(run, system)"),
    "a game that would move the cursor": ({"game": "\x1b[2Jdcgan"}, "'\\x1b[2Jdcgan' is unknown"),
    "a game of a million letters": ({"game": "a" * 10**6}, "is unknown"),
    "no hyper-parameter of the game": ({"hyper": {"depth": 3}}, "dcgan has no hyper-parameter 'depth'; it has architecture, width"),
    "a word for a number": ({"hyper": {"width": "4"}}, "width = '4': must be int"),
    "a fraction for a number": ({"hyper": {"width": 4.5}}, "width = 4.5: must be int"),
    "true for a number": ({"hyper": {"width": True}}, "width = True: must be int"),
    "a number for a word": ({"hyper": {"noise": 1}}, "noise = 1: must be 'uniform' or 'normal'"),
    "an unknown choice": ({"hyper": {"noise": "cauchy"}}, "noise = 'cauchy': must be 'uniform' or 'normal'"),
    "three numbers for two": ({"hyper": {"betas": [0.5, 0.9, 0.9]}}, "betas = [0.5, 0.9, 0.9]: must be tuple[float, float]"),
    "nothing for a number": ({"hyper": {"lr": None}}, "lr = None: must be float"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_record_with_a_wrong_field_is_refused_by_its_name(case: str, run: Path) -> None:
    fields, said = FIELDS[case]
    rewrite(run, **fields)
    line = refusal(run)
    assert said in line
    assert line.startswith(f"{run / 'run.json'}: ")


def test_infinity_may_be_meant(run: Path) -> None:
    rewrite(run, hyper={**json.loads((run / "run.json").read_text())["hyper"], "lr": float("inf")})
    assert "Infinity" in (run / "run.json").read_text()
    ganforge.load(run)


@pytest.mark.parametrize("field", ["game", "hyper", "spec", "data", "settings", "versions", "command"])
def test_a_record_without_a_field_is_refused_by_its_name(field: str, run: Path) -> None:
    stored = json.loads((run / "run.json").read_text())
    del stored[field]
    (run / "run.json").write_text(json.dumps(stored))
    assert f"{field} is missing" in refusal(run)


SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "of another kind": ({"kind": "sounds"}, "of kind 'sounds' is unknown; this ganforge knows images, points"),
    "of no kind": ({"kind": ["images"]}, "of kind ['images'] is unknown"),
    "too large to be true": ({"height": 10**9}, "height = 1000000000: must be 1 to 16384"),
    "of no pixels": ({"width": 0}, "width = 0: must be 1 to"),
    "of half a pixel": ({"width": 8.5}, "width = 8.5: must be int"),
    "of two channels": ({"channels": 2}, "channels = 2"),
    "with numbers for names": ({"classes": [1, 2]}, "classes = (1, 2): must be tuple[str, ...]"),
    "with one name for many": ({"classes": "cat"}, "classes = 'cat': must be tuple[str, ...]"),
    "with a field of the future": ({"frames": 3}, "'frames' is no field of images"),
    "times nothing smaller": ({"factor": 0}, "factor = 0: must be 1 to"),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_specification_that_cannot_be_is_refused_by_its_field(case: str, run: Path) -> None:
    fields, said = SPECS[case]
    rewrite(run, spec={**json.loads((run / "run.json").read_text())["spec"], **fields})
    line = refusal(run)
    assert said in line
    assert "run.json" in line


def test_a_specification_lacks_nothing_that_has_no_default() -> None:
    for spec, field in ((ImageSpec(8, 8), "width"), (PointSpec(2), "dimension")):
        stored = spec_to_json(spec)
        del stored[field]
        with pytest.raises(RequestError, match=f"{field} is missing"):
            spec_from_json(stored)


def test_a_network_of_hundreds_of_gigabytes_is_refused_before_there_is_any(run: Path) -> None:
    for width in (10**5, 10**9, 10**30):
        rewrite(run, hyper={**json.loads((run / "run.json").read_text())["hyper"], "width": width})
        before = peak()
        line = refusal(run)
        assert "and should be" in line or "cannot be built" in line
        assert peak() - before < 64


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("variant", ONE_OF_EACH, ids=lambda variant: variant.name)
def test_no_hyper_parameter_of_any_game_keeps_the_loader_busy(variant: Variant, tmp_path: Path) -> None:
    """A billion layers, names or doublings: it either changes no network (a number of rounds), or is refused, and both at once."""
    record, game = recorded(variant), variant.build()
    write_run(game, record, tmp_path)
    loaded = ganforge.load(tmp_path)
    assert all(torch.equal(value, game.state_dict()[name]) for name, value in loaded.state_dict().items())
    before = peak()
    for name, value in record.hyper.items():
        numbers = isinstance(value, list) and all(isinstance(each, int) for each in value)
        if type(value) is int or numbers:
            rewrite(tmp_path, hyper={**record.hyper, name: [10**9] * len(value) if numbers else 10**18})
            with suppress(RequestError):
                again = ganforge.load(tmp_path)
                assert all(torch.equal(value, game.state_dict()[key]) for key, value in again.state_dict().items())
    assert peak() - before < 256


class Own(Game):
    """Looks at its own numbers when it is built, which the device meta has none of."""

    def __init__(self, data: ImageSpec, *, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        self.largest = float(self.layer.weight.detach().max())


class Deep(Game):
    """As many layers as are asked for."""

    def __init__(self, data: ImageSpec, *, depth: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(depth))


class Late(Game):
    """Makes a network only when it is asked for its players."""

    def __init__(self, data: ImageSpec) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)

    def players(self) -> dict[str, Any]:
        self.second = nn.Linear(2, 2)
        return {}


@pytest.mark.parametrize("cls", [Own, Late])
def test_a_class_of_ones_own_may_look_at_its_numbers_and_make_networks_late(cls: type[Game], tmp_path: Path) -> None:
    game = cls(ImageSpec(8, 8))
    if isinstance(game, Late):
        game.players()
    write_run(game, RunRecord(f"mine.{cls.__name__}", {}, ImageSpec(8, 8), {}, {}, {}, ""), tmp_path)
    loaded = ganforge.load(tmp_path, cls)
    assert all(torch.equal(value, game.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert f"give its class, e.g. ganforge.load(run, {cls.__name__})" in refusal(tmp_path)
    if cls is Own:
        rewrite(tmp_path, hyper={"width": 5})
        assert "layer.weight is [2, 3], and should be [2, 5]" in refusal(tmp_path, cls)


def test_a_class_of_ones_own_is_not_given_layers_without_end(tmp_path: Path) -> None:
    write_run(Deep(ImageSpec(8, 8)), RunRecord("mine.Deep", {"depth": 1}, ImageSpec(8, 8), {}, {}, {}, ""), tmp_path)
    ganforge.load(tmp_path, Deep)
    rewrite(tmp_path, hyper={"depth": 20_000})
    assert "many more layers than game.safetensors has" in refusal(tmp_path, Deep)


def test_nothing_in_the_folder_is_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(canary))).close()
    assert canary.exists(), "the canary does not sing"
    canary.unlink()
    for name in ("game.py", "__init__.py", "conftest.py", "sitecustomize.py", "evil.py", "dcgan.py"):
        (run / name).write_text(f"open({str(canary)!r}, 'w').close()")
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(str(run))
    ganforge.load(run)
    for game in ("evil", "evil.Game", "run.evil", "game.Game"):
        rewrite(run, game=game)
        refusal(run)
    rewrite(run, game="dcgan")
    torch.save({"x": Canary(canary)}, run / "game.safetensors")
    refusal(run)
    (run / "game.safetensors").write_bytes(pickle.dumps(Canary(canary)))
    refusal(run)
    assert not canary.exists()


def test_loading_opens_no_file_that_a_record_names(tmp_path: Path) -> None:
    """A game whose training reads a file of weights is used without it; and data are not looked for."""
    variant = next(each for each in ONE_OF_EACH if "features" in hyper_parameters(each.cls))
    record = recorded(variant)
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    record.hyper["features"], record.data["source"] = pipe, pipe
    write_run(variant.build(), record, tmp_path / "run")
    ganforge.load(tmp_path / "run")


def test_links_to_regular_files_are_followed_as_the_hubs_cache_is_made_of_them(run: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in run.iterdir():
        (linked / file.name).symlink_to(file)
    assert torch.equal(ganforge.load(linked).state_dict()[ENTRY], ganforge.load(run).state_dict()[ENTRY])


@pytest.mark.parametrize("command", ["sample", "interpolate", "evaluate", "encode in.png", "translate in.png", "upscale in.png"])
def test_every_command_answers_a_spoilt_run_with_one_line(
    command: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    verb, *pictures = command.split()
    (run / "run.json").write_text(deep(100_000))
    assert main([verb, "run", *pictures, "--out", "out.json" if verb == "evaluate" else "out.png"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("ganforge: run/run.json: not JSON")


def test_a_resumption_answers_a_spoilt_record_with_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(run, hyper=[])
    assert main(["train", "dcgan", "--resume", "--out", str(run)]) == 2
    assert "hyper = []: must be dict" in capsys.readouterr().err


def encoder() -> dict[str, Any]:
    return {"rarity": np.ones(3), "directions": np.eye(2, 3)}


WORDS = json.dumps(["a", "red", "bird"])
ENCODERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "too few weights": ({**encoder(), "rarity": np.ones(2)}, {"encoder": "tfidf", "vocabulary": WORDS}),
    "directions of other words": ({**encoder(), "directions": np.eye(2)}, {"encoder": "tfidf", "vocabulary": WORDS}),
    "no weights": ({"directions": np.eye(2, 3)}, {"encoder": "tfidf", "vocabulary": WORDS}),
    "whole numbers": ({**encoder(), "rarity": np.ones(3, np.int64)}, {"encoder": "tfidf", "vocabulary": WORDS}),
    "no numbers": ({**encoder(), "rarity": np.full(3, np.nan)}, {"encoder": "tfidf", "vocabulary": WORDS}),
    "a word twice": (encoder(), {"encoder": "tfidf", "vocabulary": '["a", "a", "b"]'}),
    "words that are none": (encoder(), {"encoder": "tfidf", "vocabulary": "[1, 2, 3]"}),
    "a vocabulary of another form": (encoder(), {"encoder": "tfidf", "vocabulary": '{"a": 0}'}),
    "a nested vocabulary": (encoder(), {"encoder": "tfidf", "vocabulary": deep(100_000)}),
    "no vocabulary": (encoder(), {"encoder": "tfidf"}),
    "no encoder": (encoder(), {}),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_a_spoilt_text_encoder_is_refused_by_its_file(case: str, tmp_path: Path) -> None:
    tensors, about = ENCODERS[case]
    path = tmp_path / "text.safetensors"
    save_arrays(encoder(), path, {"encoder": "tfidf", "vocabulary": WORDS})
    assert isinstance(load_encoder(path), Tfidf)
    save_arrays(tensors, path, about)
    with pytest.raises(RequestError, match=r"text\.safetensors: holds no text encoder") as caught:
        load_encoder(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [as_pipe, as_link_to("/dev/zero"), header(HUGE), header("{}", length=2**62)])
def test_a_text_encoder_that_is_no_file_or_would_be_huge_is_refused(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.touch()
    spoil(path)
    with pytest.raises(RequestError, match=r"text\.safetensors: holds no text encoder"):
        load_encoder(path)


def test_json_is_read_as_it_is_written(tmp_path: Path) -> None:
    written = {"a": [1, 2.5, None, True, "é\n"], "b": {"c": []}}
    (tmp_path / "x.json").write_text(json.dumps(written))
    assert read_json(tmp_path / "x.json") == written


def test_several_threads_load_at_once_while_others_draw(sound: Path) -> None:
    """Loading fills networks with chance first; no other thread may miss it."""
    game = ganforge.load(sound)
    torch.manual_seed(1)
    state = torch.get_rng_state()

    def work(number: int) -> Tensor:
        if number % 2:
            loaded: Tensor = ganforge.load(sound).state_dict()[ENTRY]
            return loaded
        with seeded(number):
            return torch.cat([torch.rand(100) for _ in range(50)])

    alone = [work(number) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, range(24)))
    assert all(map(torch.equal, alone, together))
    assert torch.equal(alone[1], game.state_dict()[ENTRY])
    assert torch.equal(torch.get_rng_state(), state), "loading draws from the user's random state"


def test_each_game_is_tried_here() -> None:
    assert {variant.name for variant in ONE_OF_EACH} == set(zoo.catalogue())
