"""Extractors against the networks that they are made of, the reference cache, and what is taken in features."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from pathlib import Path
from typing import Any

import makeshift
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganforge import downloads
from ganforge.batches import ImageSpec
from ganforge.commands import evaluate as command
from ganforge.commands import measured
from ganforge.data import Finite, from_arrays, open_source
from ganforge.errors import RequestError
from ganforge.metrics import Extractor, evaluate, examine, game_extractor, material, open_extractor, pretrained, readers
from ganforge.metrics.distances import fid, kid, mmd
from ganforge.metrics.extractors import Pixels, resized
from ganforge.metrics.images import inception_score
from ganforge.metrics.manifolds import Features, as_features
from ganforge.metrics.reference import features_of

N = 60
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")), reason="needs onnx and onnxruntime"
)


def pictures(n: int, channels: int = 1, side: int = 12, seed: int = 0) -> Tensor:
    """Pictures at the levels that bytes have, [n, channels, side, side] in [-1, 1]."""
    levels = torch.randint(0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(seed))
    return levels / 127.5 - 1


def in_bytes(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return images.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()


class Net(nn.Module):
    """What an own file holds: [n, channels, H, W] to [n, 4, 2, 2]."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


class Detector(nn.Module):
    """Called as the Inception network of the StyleGAN2-ADA line is; its features are the means of each third of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(9, 5)

    def forward(self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False) -> Tensor:
        features = nn.functional.adaptive_avg_pool2d(img.float(), (3, 1)).flatten(1)
        if return_features:
            return features
        logits = features @ self.head.weight.T / 255
        if not no_output_bias:
            logits = logits + self.head.bias
        return logits.softmax(dim=1)


def script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


def onnx(path: Path, shape: list[int | str], weight: Tensor) -> Path:
    """A convolution as an ONNX file with this input shape."""
    from onnx import TensorProto, helper, numpy_helper, save

    kernel = numpy_helper.from_array(weight.numpy(), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    put, got = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, each)
        for name, each in (("x", shape), ("y", [shape[0], len(weight), None, None]))
    )
    model = helper.make_model(helper.make_graph([node], "g", [put], [got], [kernel]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    save(model, str(path))
    return path


class Plain:
    """Samples that are no real pictures, of a number of channels."""

    def __init__(self, channels: int = 1, side: int = 12) -> None:
        self.channels, self.side = channels, side

    def latent(self, n: int) -> Tensor:
        return torch.randn(n, 1)

    def sample(self, latent: Tensor) -> Tensor:
        made = torch.randn(len(latent), self.channels, self.side, self.side, generator=torch.Generator().manual_seed(3))
        return (0.5 * made + 0.2 * latent[:, :, None, None]).clamp(-1, 1)


@pytest.fixture(autouse=True)
def _short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_STEPS", (20, 20))


def test_a_torchscript_gives_what_its_module_gives_and_is_shown_grey_pictures_in_colours(tmp_path: Path) -> None:
    net, images = Net(), pictures(70)
    made = open_extractor(str(script(net, tmp_path / "mine.pt")))
    expected = as_features(net(images.expand(-1, 3, -1, -1)).detach())
    np.testing.assert_allclose(made.features(images), expected, rtol=1e-5, atol=1e-6)
    assert made.features(images).shape == (70, 16)
    assert made.name == "mine"
    grey = Net(channels=1)
    np.testing.assert_allclose(
        open_extractor(str(script(grey, tmp_path / "grey.torchscript"))).features(images), as_features(grey(images).detach()), rtol=1e-5
    )


@needs_onnx
@pytest.mark.parametrize("shape", [["n", "c", "h", "w"], [1, 3, 8, 8], [4, 3, 8, 8]])
def test_an_onnx_gives_what_its_convolution_gives_at_the_size_and_number_that_it_says(tmp_path: Path, shape: list[int | str]) -> None:
    weight = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    images = pictures(7, channels=3)
    made = open_extractor(str(onnx(tmp_path / "mine.onnx", shape, weight)))
    shown = images if isinstance(shape[2], str) else nn.functional.interpolate(images, size=(8, 8), mode="bilinear", antialias=True)
    np.testing.assert_allclose(made.features(images), as_features(nn.functional.conv2d(shown, weight)), rtol=1e-4, atol=1e-5)
    assert ("8x8" in made.about) == (shape[2] == 8)


@needs_onnx
def test_an_onnx_of_one_channel_refuses_colours_and_one_of_three_repeats_grey(tmp_path: Path) -> None:
    grey = open_extractor(str(onnx(tmp_path / "grey.onnx", ["n", 1, "h", "w"], torch.ones(1, 1, 3, 3))))
    with pytest.raises(RequestError, match="grey takes pictures of 1 channels; these have 3"):
        grey.features(pictures(2, channels=3))
    colour = open_extractor(str(onnx(tmp_path / "colour.onnx", ["n", 3, "h", "w"], torch.ones(1, 3, 3, 3))))
    np.testing.assert_allclose(colour.features(pictures(2)), 3 * grey.features(pictures(2)), rtol=1e-5, atol=1e-5)
    with pytest.raises(RequestError, match=r"last\.onnx: takes \['n', 28, 28, 1\], pictures of 28 channels"):
        open_extractor(str(onnx(tmp_path / "last.onnx", ["n", 28, 28, 1], torch.ones(1, 28, 1, 1))))
    flat = onnx(tmp_path / "flat.onnx", ["n", 3], torch.ones(1, 1, 3, 3))
    with pytest.raises(RequestError, match=r"flat\.onnx: (takes|is no ONNX)"):
        open_extractor(str(flat))


def test_a_file_called_as_inception_is_shown_levels_at_its_size_by_pillows_bicubic_filter(tmp_path: Path) -> None:
    images = pictures(3, channels=1, side=20)
    detector = open_extractor(str(script(Detector(), tmp_path / "copy.pt")))
    expected = []
    for picture in in_bytes(images)[..., 0]:
        large = np.asarray(Image.fromarray(picture.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC))
        thirds = nn.functional.adaptive_avg_pool2d(torch.from_numpy(large.copy())[None], (3, 1)).flatten()
        expected.append(thirds.repeat(3))
    np.testing.assert_allclose(detector.features(images), torch.stack(expected).numpy(), rtol=1e-4)
    assert detector.name == "copy"


def test_the_published_inception_network_and_a_copy_of_its_file_are_one_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = script(Detector(), tmp_path / "inception-2015-12-05.pt")
    copy = tmp_path / "copy.pt"
    copy.write_bytes(published.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained, "INCEPTION", published.as_uri())
    with pytest.raises(RequestError, match=r"the Inception network could not be fetched.*give a file of it"):
        open_extractor("inception")
    monkeypatch.setattr(pretrained, "INCEPTION_SHA256", downloads.checksum(published))
    by_name, by_file = open_extractor("inception"), open_extractor(str(copy))
    assert by_name.name == by_file.name == "inception"
    assert by_name.identity == by_file.identity
    np.testing.assert_array_equal(by_name.features(pictures(4)), by_file.features(pictures(4)))


def test_the_inception_score_of_a_file_is_of_its_probabilities_without_output_bias(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Detector()
    with torch.no_grad():
        module.head.weight.mul_(8)
        module.head.bias.copy_(torch.tensor([9.0, 0, 0, 0, 0]))
    path = script(module, tmp_path / "copy.pt")
    source = from_arrays(in_bytes(pictures(N)))
    found = evaluate(Plain(), source, n=N, features=str(path), metrics=["inception-score"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Plain().sample(Plain().latent(N))
    levels = ((made + 1) * 127.5).round().expand(-1, 3, -1, -1)
    probabilities = module(resized(levels, (299, 299), "bicubic"), no_output_bias=True).detach()
    assert found["inception score (copy)"] == pytest.approx(by_loops(probabilities, 10)[0], rel=1e-4)
    assert found["inception score (copy), spread"] == pytest.approx(by_loops(probabilities, 10)[1], rel=1e-2, abs=1e-5)


def by_loops(probabilities: Tensor, parts: int) -> tuple[float, float]:
    """The Inception Score of equal parts, term by term."""
    scores = []
    for part in probabilities.double().chunk(parts):
        marginal = [sum(row[k] for row in part.tolist()) / len(part) for k in range(part.shape[1])]
        terms = [sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True) if p > 0) for row in part.tolist()]
        scores.append(math.exp(sum(terms) / len(part)))
    return float(np.mean(scores)), float(np.std(scores))


def test_the_inception_score_is_one_of_what_cannot_be_told_and_the_number_of_classes_of_sure_even_ones() -> None:
    assert inception_score(np.full((50, 4), 0.25, dtype=np.float32)) == pytest.approx((1, 0))
    assert inception_score(np.eye(4, dtype=np.float32)[np.arange(80) % 4]) == pytest.approx((4, 0))
    assert inception_score(np.eye(4, dtype=np.float32)[np.zeros(80, dtype=int)]) == pytest.approx((1, 0))
    rows = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert inception_score(rows.numpy()) == pytest.approx(by_loops(rows, 10), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.pt", None, "there is no such file"),
        ("none.pt", b"", "is an empty file"),
        ("none.onnx", b"", "is an empty file"),
        ("no.onnx", None, "there is no such file"),
        ("bad.pt", b"hello", "is no TorchScript file"),
        ("bad.onnx", b"hello", "is no ONNX file|pip install onnxruntime"),
    ],
)
def test_a_file_that_holds_no_network_is_refused_by_name_in_one_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=rf"{name}: ({words})") as raised:
        open_extractor(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_weights_alone_are_no_torchscript(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(RequestError, match=r"weights\.pth: is no TorchScript file") as raised:
        open_extractor(str(tmp_path / "weights.pth"))
    assert "\n" not in str(raised.value)


class Sums(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(1, 2, 3))


class Roots(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sqrt()


@pytest.mark.parametrize(
    ("module", "channels", "words"),
    [
        (Net(channels=5), 3, "cannot take pictures of 3 channels, 12x12 .*5 channels"),
        (Net(channels=5), 1, "cannot take pictures of 3 channels, 12x12"),
        (Sums(), 3, r"makes \[60\] of 60 pictures; an extractor makes \[60, d\]"),
        (Roots(), 1, "no finite numbers"),
    ],
)
def test_a_network_that_makes_no_features_of_these_pictures_is_refused_in_one_line(
    tmp_path: Path, module: nn.Module, channels: int, words: str
) -> None:
    made = open_extractor(str(script(module, tmp_path / "mine.pt")))
    with pytest.raises(RequestError, match=words) as raised:
        made.features(pictures(N, channels))
    assert "\n" not in str(raised.value)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.flatten(1) + y.flatten(1)


class Deaf(nn.Module):
    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("module", "words"),
    [(Two(), r"mine\.pt: takes \(x, y\); an extractor is called with pictures alone"), (Deaf(), r"mine\.pt: is no TorchScript .*forward")],
)
def test_a_script_that_is_not_called_with_pictures_alone_is_refused_when_it_is_opened(
    tmp_path: Path, module: nn.Module, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        open_extractor(str(script(module, tmp_path / "mine.pt")))


def test_a_folder_is_no_extractor_and_the_way_to_name_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"is a folder; a run .* is named as classifier:{tmp_path}"):
        open_extractor(str(tmp_path))


class Makes(Plain):
    """Samples, and classes of pictures: two things that are measured, the second without features."""

    def classify(self, image: Tensor) -> Tensor:
        return torch.full((len(image), 2), 0.5)


def test_an_extractor_that_makes_no_features_ends_an_evaluation_that_could_measure_other_things(tmp_path: Path) -> None:
    source = from_arrays(in_bytes(pictures(N)), np.arange(N) % 2)
    assert "error" in evaluate(Makes(), source, n=40, features="pixels")
    with pytest.raises(RequestError, match=r"^\S*sums\.pt: makes \[40\] of 40 pictures"):
        evaluate(Makes(), source, n=40, features=str(script(Sums(), tmp_path / "sums.pt")), metrics=["fid", "error"])


def test_features_are_kept_apart_for_each_way_in_which_the_same_pictures_are_cut(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.random.default_rng(0).integers(0, 256, (20, 12, 16), dtype=np.uint8))

    def kept(**reading: Any) -> Features:
        source = open_source(str(tmp_path / "a.npz"), cache=str(tmp_path / "cache"), **reading)
        assert isinstance(source, Finite)
        part = material.Part.of(source)
        found = features_of(Pixels(), part)
        np.testing.assert_array_equal(found, Pixels().features(part.images()))
        return found

    for reading in ({"size": 8}, {"size": 6}, {"size": 8, "fit": "stretch"}, {"size": 8, "jitter": 4}, {"size": 8, "channels": 3}):
        kept(**reading)
    files = len(list((tmp_path / "cache").glob("features-*")))
    kept(size=8, workers=1, flip=True)
    assert len(list((tmp_path / "cache").glob("features-*"))) == files == 5


def test_identities_are_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one = open_extractor(str(script(Net(), tmp_path / "mine.pt"))).identity
    (tmp_path / "elsewhere" / "mine.pt").write_bytes((tmp_path / "mine.pt").read_bytes())
    assert open_extractor(str(tmp_path / "elsewhere" / "mine.pt")).identity == one
    assert open_extractor(str(script(Net(seed=1), tmp_path / "mine.pt"))).identity != one


class Trained(nn.Module):
    """A game that encodes and classifies colour pictures of 8 a side."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(3 * 8 * 8, 4)

    def encode(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x.flatten(1))
        return made

    def classify(self, x: Tensor) -> Tensor:
        return self.encode(x).softmax(dim=1)


class Sorts(nn.Module):
    """A game that classifies alone, and is certain where it can be."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def classify(self, x: Tensor) -> Tensor:
        light = (x.mean(dim=(1, 2, 3)) > 0).float()
        return torch.stack([1 - light, light], dim=1)


SPEC = ImageSpec(8, 8, 3, classes=("a", "b", "c", "d"))


def test_a_trained_game_gives_its_codes_of_pictures_at_its_own_size_and_else_the_logarithms_of_its_classes() -> None:
    game, images = Trained(), pictures(70)
    found = game_extractor(game, SPEC, "classifier:mine")
    shown = resized(images.expand(-1, 3, -1, -1), (8, 8))
    np.testing.assert_allclose(found.features(images), game.encode(shown).detach().numpy(), rtol=1e-4, atol=1e-6)
    sorts = game_extractor(Sorts(), SPEC, "sorts")
    light = shown.mean(dim=(1, 2, 3)) > 0
    np.testing.assert_allclose(sorts.features(images)[:, 1], np.where(light, 0, math.log(1e-6)), rtol=1e-5)
    with pytest.raises(RequestError, match="Linear neither encodes nor classifies"):
        game_extractor(nn.Linear(2, 2), SPEC, "mine")


def test_the_identity_of_a_trained_game_is_of_its_weights() -> None:
    first, again, other = (game_extractor(Trained(seed), SPEC, "mine").identity for seed in (0, 0, 1))
    assert first == again != other
    assert game_extractor(Trained(), SPEC, "another").identity != first


def test_shrinking_smooths_so_that_a_fine_pattern_becomes_grey() -> None:
    board = torch.ones(1, 1, 64, 64)
    board[:, :, ::2, 1::2] = board[:, :, 1::2, ::2] = -1
    assert resized(board, (16, 16))[:, :, 2:-2, 2:-2].abs().max() < 0.02


class Counted:
    """Pixels, and how many pictures it was shown."""

    name, identity, about = "counted", "counted 1", "as they are"

    def __init__(self) -> None:
        self.shown = 0

    def features(self, images: Tensor) -> Features:
        self.shown += len(images)
        return Pixels().features(images)


@pytest.fixture
def stored(tmp_path: Path) -> Finite:
    path = tmp_path / "a.npz"
    np.savez(path, train_images=in_bytes(pictures(N, seed=1)), test_images=in_bytes(pictures(N, seed=2)))
    source = open_source(str(path), cache=str(tmp_path / "cache"))
    assert isinstance(source, Finite)
    return source


def test_features_of_real_pictures_are_taken_once_for_all_evaluations(stored: Finite, tmp_path: Path) -> None:
    first, again = Counted(), Counted()
    scores = evaluate(Plain(), stored, n=40, features=first)
    # The samples, the training part, and 40 of the part that was not seen in training.
    assert first.shown == 40 + N + 40
    assert evaluate(Plain(), stored, n=40, features=again) == scores
    assert again.shown == 40
    for kept in (tmp_path / "cache").glob("features-*.safetensors"):
        kept.write_bytes(b"torn")
    assert evaluate(Plain(), stored, n=40, features=first) == scores


def test_another_extractor_or_other_pictures_find_nothing_kept(stored: Finite, tmp_path: Path) -> None:
    evaluate(Plain(), stored, n=40, features=Counted(), metrics=["fid"])
    other = Counted()
    other.identity = "counted 2"
    evaluate(Plain(), stored, n=40, features=other, metrics=["fid"])
    assert other.shown == 40 + N + 40
    np.savez(tmp_path / "a.npz", train_images=in_bytes(pictures(N, seed=5)), test_images=in_bytes(pictures(N, seed=2)))
    changed, source = Counted(), open_source(str(tmp_path / "a.npz"), cache=str(tmp_path / "cache"))
    evaluate(Plain(), source, n=40, features=changed, metrics=["fid"])
    assert changed.shown >= 40 + N


def test_what_is_not_asked_for_is_not_done(stored: Finite, monkeypatch: pytest.MonkeyPatch) -> None:
    all_scores = evaluate(Plain(), stored, n=40, features=Counted())
    monkeypatch.setattr(readers, "reader_of", lambda *_: pytest.fail("a classifier was taught"))
    counted = Counted()
    assert evaluate(Plain(), stored, n=40, features=counted, metrics=["kid"]) == {
        name: value for name, value in all_scores.items() if name.startswith("KID")
    }
    nothing = Counted()
    labelled = from_arrays(in_bytes(pictures(N)), np.arange(N) % 2)
    monkeypatch.undo()
    monkeypatch.setattr(readers, "_STEPS", (20, 20))
    evaluate(Plain(), labelled, n=40, features=nothing, metrics=["inception-score"])
    assert nothing.shown == 0


def test_no_score_depends_on_what_else_is_measured_or_in_which_order(stored: Finite) -> None:
    whole = evaluate(Plain(), stored, n=40)
    parts: dict[str, float] = {}
    for name in ("memorisation", "kid", "manifold", "fid"):
        parts |= evaluate(Plain(), stored, n=40, metrics=[name])
    assert parts == whole
    assert evaluate(Plain(), stored, n=40, metrics=["kid", "fid"]) == evaluate(Plain(), stored, n=40, metrics=["fid", "kid"])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_no_score_of_a_file_depends_on_how_many_pictures_are_looked_at_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    source = from_arrays(in_bytes(pictures(N)))
    extractor = open_extractor(str(script(Net(), tmp_path / "mine.pt")))
    usual = evaluate(Plain(), source, n=50, features=extractor)
    monkeypatch.setattr(material, "CHUNK", chunk)
    assert evaluate(Plain(), source, n=50, features=extractor) == pytest.approx(usual, rel=1e-5, abs=1e-5)


def test_every_score_in_features_names_its_space_and_its_direction(tmp_path: Path) -> None:
    source = from_arrays(in_bytes(pictures(N)), np.arange(N) % 2)
    extractor = open_extractor(str(script(Net(), tmp_path / "mine.pt")))
    (section,) = examine(Plain(), source, n=40, features=extractor, metrics=["fid", "kid", "manifold", "inception-score"])
    spaces = {space.identity: space for space in section.spaces}
    scores = {score.name: score for score in section.scores}
    for name, better in (("FID (mine)", "lower"), ("KID (mine)", "lower"), ("recall (mine)", "higher")):
        assert (scores[name].space, scores[name].better) == (extractor.identity, better)
    assert spaces[extractor.identity].about == extractor.about
    assert scores["inception score (classifier)"].space.startswith("classifier ")
    assert all(score.space in spaces for score in section.scores)
    assert any("low rank" in note for note in section.notes) == (extractor.features(pictures(1)).shape[1] >= 40)


def test_few_samples_in_many_dimensions_are_said_to_make_an_fid_too_high() -> None:
    source = from_arrays(in_bytes(pictures(N)))
    (few,) = examine(Plain(), source, n=40, features="pixels", metrics=["fid"])
    assert any("40 samples and 60 real pictures in 144 dimensions" in note for note in few.notes)


def test_a_few_samples_have_distances_though_no_neighbours() -> None:
    (section,) = examine(Plain(), from_arrays(in_bytes(pictures(N))), n=4, metrics=["fid", "manifold"])
    assert [score.name for score in section.scores] == ["FID (pixels)"]
    assert section.notes[0] == "manifold not measured: 5 neighbours need 6 samples and real pictures or more"


def halves(n: int, seed: int) -> tuple[Features, Features]:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(6, 6))
    first, second = ((rng.normal(size=(n, 6)) @ mix).astype(np.float32) for _ in range(2))
    return first, second


def test_kid_has_no_bias_at_any_size_and_fid_falls_with_it() -> None:
    distances = []
    for n, seeds in ((50, 60), (200, 30), (800, 8)):
        pairs = [halves(n, seed) for seed in range(seeds)]
        values = np.array([mmd(first.astype(np.float64), second.astype(np.float64)) for first, second in pairs])
        assert abs(values.mean()) < 3 * values.std() / math.sqrt(seeds)
        distances.append(np.mean([fid(first, second) for first, second in pairs]))
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 0


def test_fid_is_of_the_formula_where_a_space_has_more_dimensions_than_rows() -> None:
    # The covariances S and 9 S have the overlap 3 S, whatever their rank: what is left is tr(S + 9 S - 6 S).
    rows = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    centred = rows - rows.mean(axis=0)
    assert fid(centred, 3 * centred) == pytest.approx(4 * centred.astype(np.float64).var(axis=0, ddof=1).sum(), rel=1e-4)


def test_kid_of_parts_is_within_its_spread_of_the_whole() -> None:
    first, second = halves(200, 1)
    mean, spread = kid(first, second + 0.5, 0)
    assert mean == pytest.approx(mmd(first.astype(np.float64), second.astype(np.float64) + 0.5), abs=spread)


class ByClass:
    """Samples of class 0 are real ones, those of class 1 are not."""

    def latent(self, n: int) -> Tensor:
        return self.latent_of_class(torch.arange(n) % 2)

    def latent_of_class(self, label: Tensor) -> Tensor:
        return label

    def sample(self, latent: Tensor) -> Tensor:
        return two_kinds(latent, seed=4) * torch.where(latent == 1, -1.0, 1.0)[:, None, None, None]


def two_kinds(label: Tensor, seed: int) -> Tensor:
    """Pictures of noise whose left or right half, by the class, is lighter."""
    made = 0.4 * torch.rand(len(label), 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 0.2
    made[label == 0, :, :, :4] += 0.7
    made[label == 1, :, :, 4:] += 0.3
    return made


@pytest.mark.parametrize("count", [120, 130])
def test_the_class_of_the_highest_fid_is_named_and_those_of_few_real_pictures_are_left_out(count: int) -> None:
    labels = torch.cat([torch.arange(120) % 2, torch.full((count - 120,), 2)])
    source = from_arrays(in_bytes(two_kinds(labels, seed=1)), labels.numpy())
    (section,) = examine(ByClass(), source, n=120, features="pixels", metrics=["classes"])
    assert set(section.details["FID (pixels)"]) == {"0", "1"}
    assert section.details["FID (pixels)"]["1"] > 5 * section.details["FID (pixels)"]["0"]
    worst = next(score for score in section.scores if score.name == "FID (pixels), worst class")
    assert worst.value == section.details["FID (pixels)"]["1"]
    assert any("is 1, of 2 with" in note for note in section.notes)


def test_an_extractor_is_known_by_its_protocol(tmp_path: Path) -> None:
    found: list[Extractor] = [Pixels(), open_extractor("pixels"), open_extractor(str(script(Net(), tmp_path / "mine.pt")))]
    assert found[0].identity == found[1].identity != found[2].identity


class InTraining(nn.Module, Plain):
    """A game between two of its moves."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        Plain.__init__(self)
        self.norm = nn.BatchNorm2d(1)

    def sample(self, latent: Tensor) -> Tensor:
        made: Tensor = self.norm(Plain.sample(self, latent))
        return made.clamp(-1, 1)


def test_a_game_in_training_goes_on_as_if_it_had_not_been_measured(stored: Finite) -> None:
    game: Any = InTraining().train()
    game.norm.weight.grad = torch.ones(1)
    state, weights = torch.get_rng_state(), {name: value.clone() for name, value in game.state_dict().items()}
    for _ in range(2):
        examine(game, stored, n=40, metrics=["fid", "kid"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert game.training
    assert game.norm.weight.requires_grad
    assert torch.equal(game.norm.weight.grad, torch.ones(1))
    assert all(torch.equal(value, weights[name]) for name, value in game.state_dict().items())


def test_a_run_lends_its_features_and_the_file_says_where_each_number_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    makeshift.serve(makeshift.Sampler(), tmp_path, monkeypatch)
    (tmp_path / "lent").symlink_to(tmp_path / "run")
    monkeypatch.setattr(command, "load", lambda path, device="cpu": makeshift.Sampler())
    monkeypatch.setattr(measured, "load", lambda path, device="cpu": makeshift.Able())
    for number in range(12):
        makeshift.photo(f"in/{('dark', 'light')[number % 2]}/{number}.png", seed=number)
    assert makeshift.run("evaluate run --data in --n 20 --features classifier:lent --metrics fid,inception-score --out told.json") == 0
    told = json.loads(Path("told.json").read_text())
    (extractor,) = told["extractors"]
    assert set(told["measures"]) == {f"{name} ({extractor['name']})" for name in ("FID", "inception score")}
    assert set(told["space"].values()) == {extractor["identity"]}
    assert set(told["better"].values()) == {"lower", "higher"}
    assert "16x16, 3 channels" in extractor["about"]
    assert told["fingerprint"]
    assert (told["split"], told["n"], told["seed"]) == ("train", 20, 0)


def test_an_unknown_measure_is_refused_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: makeshift.Say) -> None:
    makeshift.serve(makeshift.Sampler(), tmp_path, monkeypatch)
    monkeypatch.setattr(command, "load", lambda path, device="cpu": makeshift.Sampler())
    makeshift.photo("in/dark/1.png")
    assert makeshift.run("evaluate run --data in --metrics fid,kit") == 2
    assert "no measure is called 'kit'; did you mean kid?" in makeshift.one_line(capsys)
