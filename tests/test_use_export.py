"""Exported games make what PyTorch makes where torch cannot be imported; what does not is not written; the scripts of a card run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from makeshift import Able, photo
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import ganforge
from ganforge import use, zoo
from ganforge.batches import ImageSpec, PointSpec, images_from_bytes, images_to_bytes
from ganforge.cli import main
from ganforge.errors import RequestError, TrainingError
from ganforge.game import Game, hyper_parameters
from ganforge.runs import RunFolder, RunRecord, game_name, to_json, versions
from ganforge.use.export import Draws, Exported
from ganforge.weights import save_weights

CLASSES = ("ant", "bee", "cow")
SPECS = {
    "dcgan": ImageSpec(8, 8, 1),
    "acgan": ImageSpec(8, 8, 1, classes=CLASSES),
    "pix2pix": ImageSpec(8, 8, 3),
    "pixelda": ImageSpec(8, 8, 3, classes=CLASSES),
    "srgan": ImageSpec(16, 16, 3, factor=2),
    "sgan": ImageSpec(8, 8, 1, classes=CLASSES),
    "context-encoder": ImageSpec(16, 16, 3),
}
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["ganforge"] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
with np.load(sys.argv[2]) as feeds:
    (made,) = session.run(None, dict(feeds))
np.save(sys.argv[3], made)
"""


def save_run(name: str, spec: ImageSpec, folder: Path) -> Path:
    """A run of the game's tiny preset, with weights that are fresh and batch statistics that are not."""
    cls = zoo.find(name)
    hyper = {key: value for key, value in cls.presets["tiny"].options.items() if key in hyper_parameters(cls)}
    torch.manual_seed(0)
    game = cls(spec, **hyper)
    for module in game.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    run = RunFolder(folder / name)
    every = {key: parameter.default for key, parameter in hyper_parameters(cls).items()} | hyper
    data = {"source": "/home/me/photos", "kind": "Images", "count": 1234}
    RunRecord(name, to_json(every), spec, data, {"seed": 5, "batch_size": 8}, versions(), "", {"rounds": 70.0, "seconds": 9.0}).write(
        run.record
    )
    save_weights(game, run.weights)
    return run.path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


class Files:
    """Each file, exported once for all tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[tuple[str, str | None], tuple[Path, Game, Exported]] = {}

    def of(self, name: str, task: str | None = None) -> tuple[Path, Game, Exported]:
        if (name, task) not in self.done:
            run = save_run(name, SPECS[name], self.folder)
            game, out = ganforge.load(run), self.folder / f"{name}-{task}.onnx"
            self.done[name, task] = out, game, use.export(game, use.spec_of(run), out, task)
        return self.done[name, task]


@pytest.fixture(scope="module")
def files(folder: Path) -> Files:
    return Files(folder)


def without_torch(file: Path, feeds: Mapping[str, Tensor], folder: Path) -> Tensor:
    """What the file makes in a process that can import neither torch nor ganforge."""
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in feeds.items()}
    np.savez(folder / "in.npz", **arrays)
    words = [sys.executable, "-c", WITHOUT_TORCH, str(file), str(folder / "in.npz"), str(folder / "out.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(folder / "out.npy"))


def same(made: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 1e-3, "a constant proves nothing"
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)


def pictures(n: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("name", ["dcgan", "acgan"])
def test_samples_are_pytorchs(name: str, files: Files, tmp_path: Path) -> None:
    file, game, exported = files.of(name)
    latent = game.latent(5)  # type: ignore[operator]
    assert exported.inputs == {"latent": ["batch", latent.shape[1]]}
    same(without_torch(file, {"latent": latent}, tmp_path), game.sample(latent))  # type: ignore[operator]


@pytest.mark.parametrize(("name", "height", "width"), [("pix2pix", 23, 37), ("srgan", 13, 21)])
def test_pictures_of_any_number_and_size_become_pytorchs(name: str, height: int, width: int, files: Files, tmp_path: Path) -> None:
    file, game, exported = files.of(name)
    image = pictures(5, 3, height, width)
    assert exported.inputs == {"image": ["batch", 3, "height", "width"]}
    with Draws():
        wanted = game.upscale(image) if name == "srgan" else game.translate(image, "a2b")  # type: ignore[operator]
    same(without_torch(file, {"image": image}, tmp_path), wanted)


def test_the_noise_of_a_translation_is_an_input(files: Files, tmp_path: Path) -> None:
    file, game, exported = files.of("pixelda")
    assert exported.noise == {"noise": "uniform"}
    image = pictures(5, 3, 8, 8)
    with use.seeded(1):
        wanted = game.translate(image)  # type: ignore[operator]
    with use.seeded(1):
        noise = torch.rand(5, int(exported.inputs["noise"][1]))
    same(without_torch(file, {"image": image, "noise": noise}, tmp_path), wanted)
    assert not torch.allclose(game.translate(image), wanted, atol=1e-4)  # type: ignore[operator]


def test_dropout_that_works_in_use_is_left_out_and_said(files: Files) -> None:
    _, game, exported = files.of("pix2pix")
    image = pictures(1, 3, 8, 8)
    with Draws() as draws:
        once, again = (game.translate(image, "a2b") for _ in range(2))  # type: ignore[operator]
    assert torch.equal(once, again)
    assert not torch.equal(once, game.translate(image, "a2b"))  # type: ignore[operator]
    assert draws.dropped
    assert exported.without_dropout
    assert not files.of("srgan")[2].without_dropout


def test_probabilities_are_pytorchs(files: Files, tmp_path: Path) -> None:
    file, game, _ = files.of("sgan", "classify")
    image = pictures(5, 1, 8, 8)
    made = without_torch(file, {"image": image}, tmp_path)
    same(made, game.classify(image))  # type: ignore[operator]
    torch.testing.assert_close(made.sum(1), torch.ones(5))
    assert json.loads({entry.key: entry.value for entry in onnx.load(file).metadata_props}["classes"]) == list(CLASSES)


def test_holes_are_filled_as_by_pytorch_and_nothing_else_is_changed(files: Files, tmp_path: Path) -> None:
    file, game, _ = files.of("context-encoder")
    image, mask = pictures(5, 3, 16, 16), torch.zeros(5, 1, 16, 16)
    mask[:, :, 5:11, 6:12] = 1
    made = without_torch(file, {"image": image, "mask": mask}, tmp_path)
    same(made, game.inpaint(image, mask))  # type: ignore[operator]
    outside = mask.expand_as(image) == 0
    assert torch.equal(made[outside], image[outside])
    assert not torch.allclose(made[~outside], image[~outside], atol=0.1)


def test_a_file_says_whose_it_is_and_holds_its_weights_and_no_paths(files: Files) -> None:
    file, game, exported = files.of("acgan")
    model = onnx.load(file, load_external_data=False)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert (model.producer_name, model.producer_version) == ("ganforge", ganforge.__version__)
    assert (told["game"], told["task"]) == ("acgan", "sample")
    assert "[-1, 1]" in told["images"]
    assert len(json.loads(told["latent"])) == exported.inputs["latent"][1]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    weights = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    # The generator alone, some of its normalisations folded into its convolutions; what judges is of no use to who draws samples.
    players = {name: sum(p.numel() for p in player.parameters()) for name, player in game.players().items()}
    assert 0.9 * players["generator"] < weights < 1.1 * players["generator"] < sum(players.values()) - 500
    assert str(Path(__file__).parents[1]).encode() not in file.read_bytes()


class Rounding(Able):
    """Rounds sides up by floor division of what is negative, which ONNX's own division rounds the other way."""

    def translate(self, image: Tensor, way: str) -> Tensor:
        side = image.shape[3]
        missing = -(-side // 4) * 4 - side
        return (F.pad(image, (0, missing), value=0.5).cumsum(3) * self.weight)[:, :, :, missing : missing + side] / 8


class Halving(Able):
    """Halves, doubles and joins: sides must be even. What it draws has the size of the picture."""

    def translate(self, image: Tensor, way: str) -> Tensor:
        low = F.avg_pool2d(image, 2)
        noisy = low + torch.rand_like(low) * self.weight
        return torch.tanh(image + noisy.repeat_interleave(2, 2).repeat_interleave(2, 3))


class Choosing(Able):
    """Draws by what is no input."""

    def classify(self, x: Tensor) -> Tensor:
        return torch.bernoulli(torch.sigmoid(x.mean((2, 3)) * self.weight))


SPEC = ImageSpec(16, 16, 3, classes=CLASSES)


def at_rest(game: Game) -> Game:
    return game.eval().requires_grad_(False)


def test_sizes_are_rounded_up_as_python_does(tmp_path: Path) -> None:
    game = at_rest(Rounding())
    exported = use.export(game, SPEC, tmp_path / "x.onnx")
    assert exported.multiple == 1
    image = pictures(2, 3, 5, 10)
    same(without_torch(tmp_path / "x.onnx", {"image": image}, tmp_path), game.translate(image, "a2b"))  # type: ignore[operator]


def test_the_multiple_that_sides_must_have_is_found_and_noise_goes_with_the_size(tmp_path: Path) -> None:
    game = at_rest(Halving())
    exported = use.export(game, SPEC, tmp_path / "x.onnx")
    assert exported.multiple == 2
    assert exported.noise == {"noise": "uniform"}
    image = pictures(4, 3, 10, 22)
    with Draws() as draws:
        wanted = game.translate(image, "a2b")  # type: ignore[operator]
    (noise,) = draws.seen
    assert noise.shape == (4, 3, 5, 11)
    same(without_torch(tmp_path / "x.onnx", {"image": image, "noise": noise}, tmp_path), wanted)


def test_values_of_an_edit_are_an_input(tmp_path: Path) -> None:
    exported = use.export(at_rest(Able()), SPEC, tmp_path / "x.onnx", "edit")
    assert exported.inputs["values"] == [2]
    image, values = pictures(3, 3, 16, 16), torch.tensor([0.25, -0.5])
    made = without_torch(tmp_path / "x.onnx", {"image": image, "values": values}, tmp_path)
    assert (made[:, 0] == 0.25).all()
    assert (made[:, 1] == -0.5).all()
    assert torch.equal(made[:, 2], image[:, 2])


def test_bytes_in_and_out_are_those_of_files(files: Files, tmp_path: Path) -> None:
    _, game, _ = files.of("srgan")
    use.export(game, SPECS["srgan"], tmp_path / "x.onnx", as_bytes=True)
    pixels = torch.randint(0, 256, (2, 9, 14, 3), dtype=torch.uint8)
    made = without_torch(tmp_path / "x.onnx", {"image": pixels}, tmp_path)
    wanted = images_to_bytes(game.upscale(images_from_bytes(pixels)))  # type: ignore[operator]
    assert made.dtype == torch.uint8
    assert made.shape == (2, 18, 28, 3)
    assert (made.int() - wanted.int()).abs().max() <= 1
    assert wanted.float().std() > 1


def test_a_file_that_differs_is_not_written(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, game, _ = files.of("sgan", "classify")
    true = onnxruntime.InferenceSession.run

    def off(session: Any, *arguments: Any) -> list[NDArray[np.float32]]:
        return [made + np.float32(0.001) for made in true(session, *arguments)]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", off)
    with pytest.raises(TrainingError, match=r"differs from PyTorch by more than 0\.0001.*by 0\.001 for 1x1x8x8"):
        use.export(game, SPECS["sgan"], tmp_path / "x.onnx", "classify")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_in_a_line(tmp_path: Path) -> None:
    out, able = tmp_path / "x.onnx", at_rest(Able())
    for task, way, as_bytes, game, spec, said in (
        ("classify", None, False, at_rest(Choosing()), SPEC, "draws by aten.bernoulli"),
        ("sample", None, False, able, SPEC, "Able cannot sample"),
        (None, "c2d", False, able, SPEC, "c2d: this game goes a2b or b2a"),
        ("encode", "a2b", False, able, SPEC, "is for games that translate"),
        ("encode", None, True, able, PointSpec(2), "--bytes: is for pictures"),
        ("encode", None, False, at_rest(Able()).to("meta"), SPEC, "is on meta: a file is written, and compared, on the CPU"),
    ):
        with pytest.raises(RequestError, match=said):
            use.export(game, spec, out, task, way, as_bytes)
    assert not out.exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_its_packages_the_command_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "run", "--out", "x.onnx"]) == 2
    assert capsys.readouterr().err == f"ganforge: export needs {package}; pip install 'ganforge[export]'\n"


@pytest.fixture(scope="module")
def exported_run(folder: Path) -> Path:
    """A run with measures and a picture, exported by the command."""
    run = RunFolder(save_run("acgan", SPECS["acgan"], folder / "command"))
    score = {"name": "FID", "value": 12.345678, "unit": "", "beside": {"other real": 1.5}, "better": "lower", "space": "abc"}
    space = {"name": "probe", "identity": "abc", "about": "a classifier of ants"}
    found = {
        "data": "/home/me/photos",
        "split": "test",
        "n": 500,
        "seed": 0,
        "sections": [{"title": "", "scores": [score], "spaces": [space]}],
    }
    (run.path / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    run.sample(70).parent.mkdir()
    Image.new("L", (4, 4), 77).save(run.sample(70))
    assert main(["export", str(run.path), "--out", str(folder / "command" / "model.onnx")]) == 0
    return run.path


def test_the_card_says_what_the_runs_files_say(exported_run: Path) -> None:
    text = (exported_run.parent / "model.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert header == {
        "library_name": "ganforge",
        "tags": ["generative-adversarial-network", "acgan", "onnx"],
        "pipeline_tag": "unconditional-image-generation",
    }
    assert "arXiv:1610.09585" in text
    assert "| data | photos, 1,234 samples, read as Images |" in text
    assert "| length | 70 rounds |" in text
    assert "| seed | 5 |" in text
    assert "| FID | 12.35 | other real 1.5 | probe (a classifier of ants) |" in text
    assert "![samples](model.png)" in text
    assert "/home/me" not in text
    settings = re.search(r"other than the game's defaults \| (.*) \|", text)
    assert settings
    record = RunRecord.read(RunFolder(exported_run).record)
    defaults = {key: parameter.default for key, parameter in hyper_parameters(zoo.find("acgan")).items()}
    for key, value in defaults.items():
        assert (f"{key} = " in settings[1]) == (to_json(value) != record.hyper[key])
    with Image.open(exported_run.parent / "model.png") as picture:
        assert picture.getpixel((0, 0)) == 77


def test_a_run_that_was_not_measured_says_so(files: Files) -> None:
    files.of("srgan")
    text = use.card(files.folder / "srgan")
    assert "This run was not measured" in text
    assert "## ONNX" not in text
    assert "pipeline_tag: image-to-image" in text


def test_what_an_older_version_measured_is_in_the_card_too(tmp_path: Path) -> None:
    run = save_run("dcgan", SPECS["dcgan"], tmp_path)
    (run / "evaluation.json").write_text('{"data": "a/b.npz", "samples": 2000, "seed": 0, "measures": {"coverage": 0.5}}', encoding="utf-8")
    text = use.card(run)
    assert "on b.npz, train part, 2,000 samples" in text
    assert "| coverage | 0.5 |" in text


def test_a_broken_evaluation_is_named(files: Files, tmp_path: Path) -> None:
    run = save_run("dcgan", SPECS["dcgan"], tmp_path)
    (run / "evaluation.json").write_text('{"sections": 3}', encoding="utf-8")
    with pytest.raises(RequestError, match=r"evaluation\.json: is not what"):
        use.card(run)


def scripts(text: str, beginning: str) -> list[str]:
    return [block for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if block.startswith(beginning)]


@pytest.mark.parametrize(
    ("name", "task"),
    [("acgan", None), ("pix2pix", None), ("pixelda", None), ("srgan", None), ("sgan", "classify"), ("context-encoder", None)],
)
def test_the_scripts_of_a_card_run(
    name: str, task: str | None, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, game, exported = files.of(name, task)
    text = use.card(files.folder / name, type(game), exported)
    monkeypatch.chdir(tmp_path)
    photo("in.png", SPECS[name].height, SPECS[name].width)
    Image.fromarray(np.pad(np.full((6, 6), 255, np.uint8), 5)).save("mask.png")
    for block, module in (
        ((scripts(text, "import json")[:1] or scripts(text, "import numpy"))[0], file.parent),
        (scripts(text, "import ganforge")[0], files.folder),
    ):
        block = block.replace(f'"{exported.name}"', f'"{module / exported.name}"').replace(f'load("{name}")', f'load("{module / name}")')
        block = block.replace(f'spec_of("{name}")', f'spec_of("{module / name}")')
        Path("out.png").unlink(missing_ok=True)
        exec(compile(block, "card", "exec"), {})
        if task == "classify":
            said = capsys.readouterr().out
            assert any(each in said for each in CLASSES) or "tensor([[" in said
        else:
            with Image.open("out.png") as picture:
                size = SPECS[name].height * (2 if name == "srgan" else 1)
                assert picture.height == size


def test_a_script_draws_latents_as_the_game_does(files: Files) -> None:
    exported = files.of("acgan")[2]
    (block,) = scripts(use.card(files.folder / "acgan", exported=exported), "import json")
    noise = int(exported.inputs["latent"][1]) - 3
    assert f"latent[:, 0:{noise}] = rng.normal(0, 1, (8, {noise}))" in block
    assert f"latent[:, {noise}:{noise + 3}] = np.eye(3)[0]  # the class 'ant'; they are, in this order, ant, bee, cow" in block


def test_nothing_is_overwritten_without_force(exported_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported_run.parent / "model.onnx"
    assert main(["export", str(exported_run), "--out", str(out)]) == 2
    assert f"--out {out}: exists; --force" in capsys.readouterr().err
    other = out.with_name("other.onnx")
    other.with_suffix(".md").write_text("mine", encoding="utf-8")
    assert main(["export", str(exported_run), "--out", str(other)]) == 2
    assert "other.md exists" in capsys.readouterr().err
    assert not other.exists()
    assert other.with_suffix(".md").read_text(encoding="utf-8") == "mine"


def test_a_game_of_ones_own_has_a_card_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    RunRecord(game_name(Able), {}, SPEC, {"source": "in"}, {}, {}, "").write(run.record)
    save_weights(Able(), run.weights)
    text = use.card(tmp_path, Able)
    assert "Can everything, in ways that can be checked by eye" in text
