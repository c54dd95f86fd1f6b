"""A run as a folder for others: it does what the run does, and says nothing of the machine that made it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from makeshift import Sampler, one_line, pixels
from PIL import Image, PngImagePlugin
from torch import Tensor
from variants import Variant, variants

import ganforge
from ganforge import use
from ganforge.batches import ImageSpec
from ganforge.capabilities import Edits, Inpaints, Samples, SamplesText, Steers, Translates, Upscales
from ganforge.cli import main
from ganforge.data.text import Tfidf
from ganforge.errors import RequestError
from ganforge.game import Game, hyper_parameters
from ganforge.runs import RunFolder, RunRecord, to_json
from ganforge.use.publish import publish
from ganforge.use.sample import draw
from ganforge.weights import save_weights

ONE_OF_EACH = list({variant.name: variant for variant in reversed(variants())}.values())
DRAWN = {"game.safetensors", "samples.png", "README.md", ".gitattributes", "run.json"}
SECRET = "alice"
Say = pytest.CaptureFixture[str]


def made(variant: Variant, folder: Path) -> RunFolder:
    """A run as training leaves it, of data and with a command line that tell where it was made and by whom."""
    hyper = {name: variant.hyper.get(name, known.default) for name, known in hyper_parameters(variant.cls).items()}
    home = f"/home/{SECRET}/my pictures"
    data = {"source": f"{home}/faces,{home}/masks of faces", "mask": f"{home}/holes", "captions": f"data/{SECRET}/words.csv", "cache": home}
    spec = variant.source().spec
    run, game = RunFolder(folder), variant.build(seed=3)
    command = f"ganforge train {variant.name} --data {home}/faces --out {folder}"
    RunRecord(variant.name, to_json(hyper), spec, data, {"seed": 3}, {"ganforge": "0.2.0"}, command).write(run.record)
    save_weights(game, run.weights)
    if isinstance(game, SamplesText) and isinstance(spec, ImageSpec):
        words = [f"{'word' * (1 + number % 7)} thing{number}" for number in range(12)]
        encoder = Tfidf.fit(words, spec.text)
        assert encoder.dimension == spec.text
        encoder.save(run.text)
    for number in (5, 40):
        run.sample(number).parent.mkdir(exist_ok=True)
        secret = PngImagePlugin.PngInfo()
        secret.add_text("Author", SECRET)
        Image.new("RGB", (9, 7), (number, 0, 255)).save(run.sample(number), pnginfo=secret)
    told = {
        "run": str(folder),
        "data": data["source"],
        "split": "train",
        "n": 9,
        "seed": 0,
        "sections": [
            {
                "title": "samples",
                "scores": [{"name": "recall", "value": 0.5, "unit": "", "beside": {}}],
                "notes": [f"not measured: data '{home}/faces' has one class; see {folder}/metrics.jsonl and ~{SECRET}/notes"],
                "details": {},
            }
        ],
    }
    (folder / "evaluation.json").write_text(json.dumps(told))
    for name in ("metrics.jsonl", "state.json", "run.lock"):
        (folder / name).write_text(SECRET)
    return run


def of(name: str) -> Variant:
    return next(variant for variant in ONE_OF_EACH if variant.name == name)


def drawn(game: Game, seed: int = 0) -> Tensor:
    assert isinstance(game, Samples)
    with use.seeded(seed):
        return draw(game, 5)


@pytest.mark.parametrize("variant", ONE_OF_EACH, ids=lambda variant: variant.name)
def test_what_is_published_does_what_the_run_does_and_says_nothing_of_its_machine(variant: Variant, tmp_path: Path, capsys: Say) -> None:
    run, out = made(variant, tmp_path / "run"), tmp_path / "out" / f"{variant.name}-small"
    assert main(["publish", str(run.path), str(out)]) == 0
    assert f"hf upload OWNER/NAME {out}" in capsys.readouterr().out
    text = {"text.safetensors"} if run.text.exists() else set()
    assert {path.name for path in out.iterdir()} == DRAWN | {"evaluation.json"} | text
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name], "something was left beside it"
    for file in out.iterdir():
        content = file.read_bytes().decode("latin-1")
        assert SECRET not in content, file.name
        assert str(tmp_path) not in content, file.name
    before, after = ganforge.load(run.path), ganforge.load(out)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())
    if isinstance(before, Samples):
        assert torch.equal(drawn(before), drawn(after))
    else:
        assert (pixels(out / "samples.png") == (40, 0, 255)).all(), "the run's last picture"
    assert use.spec_of(out) == use.spec_of(run.path)


def test_its_record_keeps_what_is_of_use_and_names_data_without_their_folders(tmp_path: Path) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    publish(run.path, tmp_path / "out")
    before, after = (RunRecord.read(RunFolder(path).record) for path in (run.path, tmp_path / "out"))
    assert after.data == {"source": "faces,masks of faces", "mask": "holes", "captions": "words.csv", "cache": None}
    assert after == replace(before, data=after.data, command="")
    note = json.loads((tmp_path / "out" / "evaluation.json").read_text())["sections"][0]["notes"][0]
    assert note == "not measured: data 'faces' has one class; see run/metrics.jsonl and notes"


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("digits", "digits"),
        ("data/faces", "faces"),
        ("../shared/mnist.npz", "mnist.npz"),
        ("/data/shards-{000000..000009}.tar", "shards-{000000..000009}.tar"),
        ("C:\\Users\\me\\faces", "faces"),
        ("~/faces/", "faces"),
        ("horses,/x/zebras", "horses,zebras"),
        ("hub:someone/faces", "hub:someone/faces"),
        ("hub:/x/someone/faces:train", "hub:faces:train"),
    ],
)
def test_of_a_source_its_own_name_stays(source: str, published: str, tmp_path: Path) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    record = RunRecord.read(run.record)
    replace(record, data={"source": source}).write(run.record)
    publish(run.path, tmp_path / "out")
    assert RunRecord.read(RunFolder(tmp_path / "out").record).data["source"] == published


@pytest.mark.parametrize(
    "sentence",
    [
        "1/2 of 3 and/or 4 km/h, arXiv:1411.1784, https://arxiv.org/abs/1411.1784, 50 / 60, ...",
        "`game.sample(latent)` is [n, C, H/2, W/2]; see someone/faces, docs/games/dcgan.md",
    ],
)
def test_what_only_looks_a_little_like_a_path_is_left_alone(sentence: str, tmp_path: Path) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    path = run.path / "evaluation.json"
    told = json.loads(path.read_text())
    told["sections"][0]["notes"] = [sentence]
    path.write_text(json.dumps(told))
    publish(run.path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["sections"][0]["notes"] == [sentence]


def test_a_file_that_training_read_is_named_and_not_needed(tmp_path: Path) -> None:
    variant = next(each for each in ONE_OF_EACH if "features" in hyper_parameters(each.cls))
    run = made(variant, tmp_path / "run")
    record = RunRecord.read(run.record)
    replace(record, hyper={**record.hyper, "features": f"/home/{SECRET}/vgg.pth"}).write(run.record)
    publish(run.path, tmp_path / "out")
    assert RunRecord.read(RunFolder(tmp_path / "out").record).hyper["features"] == "vgg.pth"
    ganforge.load(tmp_path / "out")


def test_the_command_line_draws_the_same_of_both(tmp_path: Path, capsys: Say) -> None:
    run, out = made(of("dcgan"), tmp_path / "run"), tmp_path / "out"
    assert main(["publish", str(run.path), str(out)]) == 0
    published = pixels(out / "samples.png")
    for folder in (run.path, out):
        assert main(["sample", str(folder), "--seed", "4", "--out", str(tmp_path / f"{folder.name}.png")]) == 0
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert not np.array_equal(pixels(tmp_path / "run.png"), published)
    assert main(["sample", str(run.path), "--out", str(tmp_path / "usual.png")]) == 0
    assert np.array_equal(pixels(tmp_path / "usual.png"), published), "its picture is that of seed 0"
    capsys.readouterr()


def test_words_are_understood_as_by_the_run(tmp_path: Path, capsys: Say) -> None:
    variant = next(each for each in ONE_OF_EACH if isinstance(each.build(), SamplesText))
    run, out = made(variant, tmp_path / "run"), tmp_path / "out"
    assert main(["publish", str(run.path), str(out)]) == 0
    for folder in (run.path, out):
        assert main(["sample", str(folder), "--text", "word thing0", "--n", "4", "--out", str(tmp_path / f"{folder.name}.png")]) == 0
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    capsys.readouterr()


def test_words_of_no_caption_are_named_and_an_encoder_of_another_run_is_refused(tmp_path: Path, capsys: Say) -> None:
    run, out = made(of("stackgan"), tmp_path / "run"), ["--n", "2", "--out", str(tmp_path / "a.png"), "--force"]
    assert main(["sample", str(run.path), "--text", "word Elephant", *out]) == 0
    assert capsys.readouterr().err == "ganforge: not in the captions of the run, and of no effect: elephant\n"
    Tfidf.fit(["word one", "word two"], 2).save(run.text)
    assert main(["sample", str(run.path), "--text", "word", *out]) == 2
    assert "makes 2 numbers of a text, the game reads 6; it is of another run" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--seed 99999999999999999999", "--device meta"])
def test_a_seed_too_large_and_a_device_without_memory_are_refused(words: str, tmp_path: Path, capsys: Say) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    assert main(["sample", str(run.path), "--n", "2", "--out", str(tmp_path / "a.png"), *words.split()]) == 2
    assert one_line(capsys).startswith("ganforge: " + words.split()[0])


def test_points_of_a_published_run_are_drawn_without_its_data(tmp_path: Path, capsys: Say) -> None:
    points = tmp_path / "points.npy"
    np.save(points, np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32))
    assert main(f"train gan --preset tiny --rounds 1 --data {points} --out {tmp_path / 'run'}".split()) == 0
    assert main(["publish", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    points.unlink()
    assert main(["sample", str(tmp_path / "out"), "--n", "8", "--out", str(tmp_path / "a.png")]) == 0
    capsys.readouterr()


def test_captions_read_by_a_model_of_this_machine_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    run.text.touch()
    monkeypatch.setattr(sys.modules[publish.__module__], "load_encoder", lambda path: SimpleNamespace(name=f"hf:/home/{SECRET}/bert"))
    with pytest.raises(RequestError, match="a model of this machine"):
        publish(run.path, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_its_card_begins_with_what_hubs_read_and_shows_its_picture(tmp_path: Path) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    publish(run.path, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "ganforge"
    assert "](samples.png)" in body
    assert "0.5" in body
    shutil.rmtree(run.sample(0).parent)
    publish(run.path, tmp_path / "bare")
    assert "samples.png" not in (tmp_path / "bare" / "README.md").read_text()
    assert not (tmp_path / "bare" / "samples.png").exists()


def test_large_files_are_marked_as_such(tmp_path: Path) -> None:
    publish(made(of("dcgan"), tmp_path / "run").path, tmp_path / "out")
    assert "*.safetensors filter=lfs diff=lfs merge=lfs -text\n" in (tmp_path / "out" / ".gitattributes").read_text()


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_a_folder_with_anything_else_in_it_is_refused_and_left_as_it_is(tmp_path: Path, capsys: Say) -> None:
    run, out = made(of("dcgan"), tmp_path / "run"), tmp_path / "out"
    publish(run.path, out)
    before = state(out)
    assert main(["publish", str(run.path), str(out)]) == 2
    assert "already; --force writes it anew" in one_line(capsys)
    (out / "thesis.tex").write_text("years of work")
    assert main(["publish", str(run.path), str(out), "--force"]) == 2
    assert "holds 'thesis.tex', which is none of the files" in one_line(capsys)
    assert state(out) == {**before, "thesis.tex": b"years of work"}
    assert main(["publish", str(run.path), str(run.path), "--force"]) == 2
    assert "which is none of the files" in one_line(capsys)
    assert main(["publish", str(run.path), str(run.record)]) == 2
    assert "is a file; give a folder" in one_line(capsys)
    assert main(["publish", str(run.path)]) == 2
    assert "name a folder after the run" in one_line(capsys)


def test_published_again_it_is_of_today_and_a_clone_may_be_the_place(tmp_path: Path) -> None:
    run, out = made(of("dcgan"), tmp_path / "run"), tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    publish(run.path, out)
    (run.path / "evaluation.json").unlink()
    other = of("dcgan").build(seed=8)
    save_weights(other, run.weights)
    publish(run.path, out, force=True)
    assert not (out / "evaluation.json").exists()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in ganforge.load(out).state_dict().items())
    assert (out / ".git").is_dir()


def test_a_run_that_cannot_be_loaded_leaves_no_folder(tmp_path: Path, capsys: Say) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    game = of("dcgan").build()
    with torch.no_grad():
        next(game.parameters()).fill_(torch.nan)
    save_weights(game, run.weights)
    assert main(["publish", str(run.path), str(tmp_path / "out")]) == 2
    assert "the run has diverged" in one_line(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_picture_that_is_a_link_to_something_private_is_not_given_away(tmp_path: Path) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    (tmp_path / "key").write_text(SECRET)
    run.sample(99).symlink_to(tmp_path / "key")
    with pytest.raises(RequestError, match=r"000099\.png"):
        publish(run.path, tmp_path / "out")


def test_a_game_of_ones_own_is_published_by_its_class(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    RunRecord("mine.Sampler", {}, ImageSpec(16, 16, 3, ("dark", "light")), {"source": "x"}, {}, {}, "").write(run.record)
    save_weights(Sampler(), run.weights)
    publish(run.path, tmp_path / "out", game=Sampler)
    assert isinstance(ganforge.load(tmp_path / "out", Sampler), Sampler)


@pytest.fixture
def plain_folder() -> Iterator[Path]:
    """A folder that other users can reach, as those of tmp_path cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(sys.platform == "win32", reason="folders are protected otherwise there")
def test_of_a_folder_that_cannot_be_written_samples_go_elsewhere(plain_folder: Path, capsys: Say) -> None:
    out, elsewhere = plain_folder / "out", plain_folder / "elsewhere"
    publish(made(of("dcgan"), plain_folder / "run").path, out)
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    out.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # to root nothing is protected
        assert main(["sample", str(out)]) != 0
        err = one_line(capsys)
        assert str(out) in err
        assert "Permission denied" in err
        assert main(["sample", str(out), "--out", str(elsewhere / "x.png")]) == 0
        assert (elsewhere / "x.png").exists()
    finally:
        os.seteuid(user)
        out.chmod(0o755)
    capsys.readouterr()


def test_a_run_of_the_hub_is_fetched_and_nothing_of_it_but_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(of("dcgan"), tmp_path / "run")
    asked: list[Any] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, sorted(allow_patterns)))
        if name != "someone/faces":
            raise OSError("404 Client Error\nRepository Not Found")
        return str(run.path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert torch.equal(drawn(ganforge.load("hub:someone/faces")), drawn(ganforge.load(run.path)))
    assert use.spec_of("hub:someone/faces") == use.spec_of(run.path)
    assert asked[0] == ("someone/faces", ["game.safetensors", "run.json", "text.safetensors"])
    with pytest.raises(RequestError, match=r"hub:no/one: cannot be fetched \(404 Client Error\)$"):
        ganforge.load("hub:no/one")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RequestError, match=r"needs the extra `hub`"):
        ganforge.load("hub:someone/faces")


def calls(game: Game, spec: Any, x: Tensor) -> list[Callable[[int], Tensor]]:
    """Each thing that the game does for a user, by a number that names the result."""
    found: list[Callable[[int], Tensor]] = []
    if isinstance(game, Samples):
        found.append(lambda seed: drawn(game, seed))
    if isinstance(game, Steers):
        dial, (_, most) = next(iter(game.dials.items()))
        latent = game.latent(2)
        found.append(lambda seed: use.steer(game, latent + seed, {dial: most}))
    if isinstance(game, Translates):
        found += [lambda seed, way=way: use.translate(game, x[seed % len(x)][None], way, seed, n=2) for way in game.ways]  # type: ignore[misc]
    if isinstance(game, Edits):
        dial, (_, most) = next(iter(game.dials.items()))
        found.append(lambda seed: use.edit(game, x[seed % len(x)][None], {dial: most}, seed))
    if isinstance(game, Inpaints):
        mask = torch.zeros_like(x[:1, :1])
        mask[..., 2:5, 3:6] = 1
        found.append(lambda seed: use.inpaint(game, x[seed % len(x)][None], mask, spec, seed))
    if isinstance(game, Upscales):
        found.append(lambda seed: use.upscale(game, x[seed % len(x)][None], tile=3))
    return found


@pytest.mark.parametrize("variant", ONE_OF_EACH, ids=lambda variant: variant.name)
def test_a_loaded_game_gives_eight_threads_what_it_gives_one(variant: Variant, tmp_path: Path) -> None:
    run = made(variant, tmp_path)
    game, spec = ganforge.load(run.path), use.spec_of(run.path)
    tasks = calls(game, spec, variant.batch().x)
    assert tasks, "a game does something"
    jobs = [(task, seed) for seed in range(6) for task in tasks]
    alone = [task(seed) for task, seed in jobs]
    assert any(not torch.equal(alone[0], other) for other in alone[len(tasks) :: len(tasks)]), "every number gives the same"
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: job[0](job[1]), jobs))
    # Not bit for bit: into how many parts torch cuts a sum depends on how busy its own threads are.
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not any(made.requires_grad for made in together)
