"""LPIPS by networks whose answers are known in closed form, in both ways of calling; and everything that is no such network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import LowHigh, Masked, Pairs, images_to_bytes
from ganforge.data import Finite, from_fields
from ganforge.downloads import checksum
from ganforge.errors import RequestError
from ganforge.metrics import Score, Space, examine, perceptual
from ganforge.metrics.fidelity import levels
from ganforge.metrics.perceptual import Perceptual
from ganforge.metrics.restored import enlarged, mean_colour

Save = Callable[[nn.Module], str]


class Rows(nn.Module):
    """As vgg16.pt is called: the distance of two pictures is the sum of the squared differences of their levels, over 255^2."""

    def forward(self, img: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        if resize_images or not return_lpips:
            return torch.zeros(len(img), 1)
        return img.flatten(1) / 255


class Two(nn.Module):
    """The mean difference of two pictures, 2 from black to white, in the shape that many give."""

    def forward(self, x: Tensor, y: Tensor, spatial: bool = False) -> Tensor:
        return (x - y).abs().mean(dim=(1, 2, 3), keepdim=True)


class Windows(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().unfold(2, 20, 20).flatten(1).mean(1)


class Alone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))


class Likeness(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return 1 / (1 + (x - y).square().mean((1, 2, 3)))


class OneNumber(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean()


class Blind(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return 0 * (x - y).mean((1, 2, 3))


class Strict(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).view(x.size(0), 3 * 16 * 16).square().sum(1)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def saved(network: nn.Module) -> str:
        path = tmp_path / f"{type(network).__name__}.pt"
        # What people have are TorchScripts, though torch would rather that nobody made new ones.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(network).save(str(path))
        return str(path)

    return saved


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).double()


def test_rows_are_made_of_levels_and_their_squared_distance_is_taken(save: Save) -> None:
    x, y = noise(20, 3, 16, 12), noise(20, 3, 16, 12, seed=1)
    expected = ((x - y) / 255).square().flatten(1).sum(1)
    torch.testing.assert_close(Perceptual(save(Rows())).distance(x, y), expected, rtol=1e-5, atol=0)


def test_a_function_of_two_sees_them_in_minus_one_to_one(save: Save) -> None:
    x, y = noise(20, 3, 16, 12), noise(20, 3, 16, 12, seed=1)
    expected = ((x - y) / 127.5).abs().mean((1, 2, 3))
    torch.testing.assert_close(Perceptual(save(Two())).distance(x, y), expected, rtol=1e-5, atol=0)
    black, white = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 255)
    assert Perceptual(save(Two())).distance(black, white).item() == 2


@pytest.mark.parametrize("network", [Rows(), Two()])
def test_grey_pictures_are_shown_in_three_equal_channels(network: nn.Module, save: Save) -> None:
    x, y = noise(3, 1, 16, 16), noise(3, 1, 16, 16, seed=1)
    lpips = Perceptual(save(network))
    assert torch.equal(lpips.distance(x, y), lpips.distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("network", [Rows(), Two()])
def test_no_distance_depends_on_how_many_pictures_are_looked_at_at_a_time(
    network: nn.Module, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = noise(11, 3, 16, 16), noise(11, 3, 16, 16, seed=1)
    lpips = Perceptual(save(network))
    whole = lpips.distance(x, y)
    monkeypatch.setattr(perceptual, "_CHUNK", 3)
    torch.testing.assert_close(lpips.distance(x, y), whole, rtol=1e-6, atol=0)


def test_the_space_is_the_files_checksum(save: Save) -> None:
    path = save(Two())
    assert Perceptual(path).space == f"lpips {checksum(Path(path))}"


def test_reading_and_comparing_leave_the_random_state_as_it_was(save: Save) -> None:
    path, before = save(Two()), torch.get_rng_state()
    Perceptual(path).distance(noise(1, 3, 16, 16), noise(1, 3, 16, 16))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Alone(), r"Alone\.pt: takes \(x\); LPIPS needs a TorchScript f\(x, y\)"),
        (Likeness(), r"Likeness\.pt: does not measure LPIPS: a picture is 1 away from itself, not 0"),
        (OneNumber(), r"OneNumber\.pt: does not measure LPIPS: 1 numbers for 2 pairs"),
        (Blind(), r"Blind\.pt: does not measure LPIPS: two pictures of noise of 64x64 are 0 apart"),
        (Strict(), r"Strict\.pt: does not measure LPIPS: pictures of 64x64 are refused \(RuntimeError: shape"),
    ],
)
def test_a_network_that_measures_something_else_is_refused_in_one_line(network: nn.Module, words: str, save: Save) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        Perceptual(save(network))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_torchscript_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("LPIPS")
    for name, words in (
        ("weights.pt", "is no TorchScript"),
        ("text.pt", "is no TorchScript"),
        ("none.pt", "no such file"),
        ("", "is a folder, not a file"),
    ):
        with pytest.raises(RequestError, match=words) as raised:
            Perceptual(str(tmp_path / name))
        assert "\n" not in str(raised.value)


def test_vgg_is_the_published_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16.pt").write_bytes(b"another network")
    with pytest.raises(RequestError, match=r"vgg16\.pt: is not LPIPS's vgg16\.pt, whose SHA-256 begins with b437eb09"):
        Perceptual("vgg")


def test_vgg_is_read_from_the_files_kept_where_it_was_fetched(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "checkpoints" / "vgg16.pt"
    kept.parent.mkdir()
    Path(save(Rows())).rename(kept)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual, "_SHA256", checksum(kept))
    assert Perceptual("vgg").distance(torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 255)).item() == 3 * 16 * 16


SIDE = 24


class Does:
    """Answers with noise of its own seed, with pixels twice as large, with grey."""

    ways = ("a2b",)
    reach = 0

    def translate(self, image: Tensor, way: str) -> Tensor:
        return (image + torch.randn(())).clamp(-1, 1)

    def upscale(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        return image


PICTURES, OTHERS = (noise(3, 3, SIDE, SIDE, seed=seed) / 127.5 - 1 for seed in (0, 1))
SMALL = nn.functional.avg_pool2d(PICTURES, 2)
HOLES = torch.zeros(3, SIDE, SIDE).index_fill(2, torch.arange(8), 1)


def source_of(kind: type) -> Finite:
    pixels, others, small = (images_to_bytes(images).numpy() for images in (PICTURES, OTHERS, SMALL))
    if kind is Pairs:
        return from_fields(Pairs, a=pixels, b=others)
    return from_fields(LowHigh, low=small, high=pixels) if kind is LowHigh else from_fields(Masked, image=pixels, mask=HOLES.numpy())


def scores(kind: type, lpips: str | None) -> dict[str, Score]:
    return {score.name: score for score in examine(Does(), source_of(kind), seed=5, lpips=lpips)[0].scores}


def apart(x: Tensor, y: Tensor) -> float:
    """What `Two` says of pictures in [-1, 1] that were rounded to bytes."""
    return float(((levels(x) - levels(y)) / 127.5).abs().mean())


def test_lpips_stands_beside_psnr_wherever_pictures_are_compared_whole(save: Save) -> None:
    path = save(Two())
    image = images_to_bytes(PICTURES).permute(0, 3, 1, 2) / 127.5 - 1
    small = images_to_bytes(SMALL).permute(0, 3, 1, 2) / 127.5 - 1
    hole = HOLES[:, None]
    found = [scores(Pairs, path)["a2b: LPIPS"], scores(LowHigh, path)["LPIPS"], scores(Masked, path)["LPIPS of the whole picture"]]
    assert [score.better for score in found] == ["lower"] * 3
    assert {score.space for score in found} == {f"lpips {checksum(Path(path))}"}
    assert found[0].beside["input"] == pytest.approx(apart(PICTURES, OTHERS), rel=1e-4)
    assert found[1].value == pytest.approx(apart(Does().upscale(small), PICTURES), rel=1e-4)
    assert found[1].beside == pytest.approx({"bicubic": apart(enlarged(small, 2), PICTURES)}, rel=1e-4)
    assert found[2].value == pytest.approx(apart(image * (1 - hole), PICTURES), rel=1e-4)
    assert found[2].beside == pytest.approx({"mean colour": apart(mean_colour(image, hole), PICTURES)}, rel=1e-4)


def test_diversity_is_the_mean_distance_of_answers_with_different_seeds(save: Save) -> None:
    answers = []
    for seed in range(5, 9):
        torch.manual_seed(seed)
        answers.append(Does().translate(images_to_bytes(PICTURES).permute(0, 3, 1, 2) / 127.5 - 1, "a2b"))
    found = scores(Pairs, save(Two()))["a2b: LPIPS diversity"]
    assert found.value == pytest.approx(np.mean([apart(x, y) for x, y in combinations(answers, 2)]), rel=1e-4)
    assert (found.better, found.space[:6]) == ("higher", "lpips ")


@pytest.mark.parametrize(("network", "words"), [(Rows(), "levels 0 to 255"), (Two(), "values in [-1, 1]")])
def test_how_pictures_are_shown_to_the_network_is_said(network: nn.Module, words: str, save: Save) -> None:
    path = save(network)
    (found,) = examine(Does(), source_of(Pairs), lpips=path)
    about = f"{words} in RGB, not resized; grey is repeated"
    assert found.spaces == [Space("lpips", f"lpips {checksum(Path(path))}", about)]
    assert f"LPIPS of whole pictures, {about}" in found.notes


@pytest.mark.parametrize("kind", [Pairs, LowHigh, Masked])
def test_lpips_changes_no_other_score_and_is_not_there_unasked(kind: type, save: Save) -> None:
    plain, more = scores(kind, None), scores(kind, save(Two()))
    assert not any("LPIPS" in name for name in plain)
    assert {name: score for name, score in more.items() if "LPIPS" not in name} == plain


def test_pictures_too_small_for_the_network_cost_lpips_alone(save: Save) -> None:
    (found,) = examine(Does(), from_fields(Pairs, a=(tiny := np.zeros((2, 12, 12, 3), np.uint8)), b=tiny), lpips=save(Windows()))
    assert {"a2b: PSNR", "a2b: SSIM"} < {score.name for score in found.scores}
    assert not any("LPIPS" in score.name for score in found.scores)
    assert [note for note in found.notes if "LPIPS not measured: pictures of 12x12 are refused" in note]
    assert not [note for note in found.notes if "\n" in note]


def test_a_wrong_file_ends_an_evaluation_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        examine(Does(), source_of(Pairs), lpips=str(tmp_path / "none.pt"))
