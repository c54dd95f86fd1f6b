"""What one does with a trained game, on tensors: tiles, holes, dials, seeds, threads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import ganforge
from ganforge import use, zoo
from ganforge.batches import ImageSpec, images_from_bytes, images_to_bytes
from ganforge.errors import RequestError
from ganforge.game import Game, Player
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.conditions import class_number, noise_columns
from ganforge.use.dials import parse_dials, steps_of
from ganforge.use.seeds import seeded
from ganforge.weights import save_weights

SPEC = ImageSpec(16, 16, 3)
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Hole = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class Stub(Game):
    """A game of one parameter, so that it is somewhere."""

    def __init__(self, data: ImageSpec = SPEC) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def players(self) -> dict[str, Player]:
        return {"only": Player(self, partial(torch.optim.SGD, lr=0.1))}


class Enlarger(Stub):
    """Two 5x5 convolutions with zeros around, then pixels doubled: a low pixel is seen 4 pixels away, and no farther."""

    reach = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.Tanh(), nn.Conv2d(6, 12, 5, padding=2), nn.PixelShuffle(2))

    def upscale(self, image: Tensor) -> Tensor:
        return torch.tanh(self.layers(image))


class Filler(Stub):
    """Fills with the mean of what it may see, and remembers its masks; `white` fills with white instead."""

    def __init__(self, white: bool = False) -> None:
        super().__init__()
        self.white = white
        self.masks: list[Tensor] = []

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        assert image.shape[1:] == SPEC.shape
        assert mask.shape == (len(image), 1, *SPEC.shape[1:])
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        self.masks.append(mask)
        known = (image * (1 - mask)).sum((2, 3), keepdim=True) / (1 - mask).sum((2, 3), keepdim=True).clamp_min(1)
        return image * (1 - mask) + (torch.ones_like(known) if self.white else known) * mask


class Noisy(Stub):
    """Adds noise, in two ways."""

    ways = ("a2b", "b2a")

    def translate(self, image: Tensor, way: str) -> Tensor:
        noise = torch.randn_like(image) * self.weight
        return image + noise if way == "a2b" else image - noise


class Dials(Stub):
    """Sets channels of pictures, and entries of latents."""

    dials: Mapping[str, tuple[float, float]] = {"red": (-1.0, 1.0), "green": (0.0, 1.0)}

    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        edited = image.clone()
        for name, value in values.items():
            edited[:, list(self.dials).index(name)] = value
        return edited

    def latent(self, n: int) -> Tensor:
        return torch.randn(n, 3)

    def latent_of_class(self, label: Tensor) -> Tensor:
        return torch.cat([torch.randn(len(label), 2), label[:, None].float()], 1)

    def sample(self, latent: Tensor) -> Tensor:
        return latent[:, :, None, None].expand(-1, -1, 16, 16) * self.weight

    def steer(self, latent: Tensor, values: Mapping[str, float]) -> Tensor:
        return self.edit(latent, values)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("height", "width", "tile"), [(23, 31, 8), (16, 16, 5), (40, 9, 16), (7, 50, 1), (9, 9, 256)])
def test_tiles_are_the_whole_picture(height: int, width: int, tile: int) -> None:
    game, low = Enlarger(), noise(2, 3, height, width)
    whole = game.upscale(low).detach()
    parts: list[tuple[int, int]] = []
    torch.testing.assert_close(use.upscale(game, low, tile, report=lambda *part: parts.append(part)), whole, atol=1e-6, rtol=0)
    assert parts == [(i + 1, len(parts)) for i in range(-(-height // tile) * -(-width // tile))]


def test_tiles_with_less_than_the_reach_show_seams() -> None:
    game, low = Enlarger(), noise(1, 3, 20, 20)
    game.reach = 3
    assert (use.upscale(game, low, 8) - game.upscale(low)).abs().max() > 1e-4


def test_an_upscaled_picture_in_bytes_is_that_in_numbers_rounded() -> None:
    game, low = Enlarger(), noise(1, 3, 11, 13)
    made = use.upscale(game, low, 4, as_bytes=True)
    assert made.dtype == torch.uint8
    assert (made.int() - images_to_bytes(game.upscale(low)).permute(0, 3, 1, 2).int()).abs().max() <= 1


def fill(game: Game, picture: Pixels, hole: Hole) -> Pixels:
    """Through tensors and back to bytes, as a command does it."""
    image = images_from_bytes(torch.tensor(picture)[None])
    made: Pixels = images_to_bytes(use.inpaint(game, image, torch.tensor(hole)[None, None].float(), SPEC))[0].numpy()
    return made


def pixels_of(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@hypothesis.given(
    hole=st.tuples(st.integers(1, 70), st.integers(1, 70)).flatmap(
        lambda shape: arrays(bool, shape, elements=st.sampled_from([False] * 9 + [True]))
    )
)
@hypothesis.settings(max_examples=60)
def test_every_pixel_of_the_hole_is_filled_and_no_other_changes(hole: Hole) -> None:
    hypothesis.assume(not hole.all())
    picture = pixels_of(*hole.shape)
    made = fill(Filler(white=True), picture, hole)
    assert (made[~hole] == picture[~hole]).all()
    assert (made[hole] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 64), (10, 5000), (5, 7), (48, 20)])
def test_what_was_in_the_hole_does_not_matter(height: int, width: int) -> None:
    picture, hole = pixels_of(height, width), np.zeros((height, width), dtype=bool)
    hole[height // 3 : height // 2, width // 3 : width // 2] = True
    other = np.where(hole[..., None], 255 - picture, picture)
    assert (fill(Filler(), picture, hole) == fill(Filler(), other, hole)).all()


def test_a_picture_of_the_runs_size_is_filled_at_once_with_its_own_mask() -> None:
    game, hole = Filler(), np.zeros((16, 16), dtype=bool)
    hole[0, 0] = hole[5:9, 3:15] = hole[15, 10:] = True
    fill(game, pixels_of(16, 16), hole)
    (mask,) = game.masks
    assert (mask[0, 0].bool().numpy() == hole).all()


def test_a_small_hole_in_a_large_picture_is_seen_without_enlargement_and_a_large_one_is_at_most_half_its_window() -> None:
    game, hole = Filler(), np.zeros((200, 300), dtype=bool)
    hole[50:53, 60:64] = True
    hole[90:180, 100:140] = True
    fill(game, pixels_of(200, 300), hole)
    large, small = game.masks
    assert small.sum() == 3 * 4
    # 90 high: the window has 180, so of 16 rows the hole has 8, and one on each side of which it has a part.
    assert 8 <= large[0, 0, :, 8].sum() <= 10


def test_a_game_that_fills_only_the_middle_half_of_what_it_sees_fills_large_holes_too() -> None:
    class Middle(Filler):
        def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
            made = -torch.ones_like(image)
            made[:, :, 3:13, 3:13] = 1
            return torch.where(mask > 0, made, image)

    hole = np.zeros((109, 89), dtype=bool)
    hole[27:81, 22:66] = True
    assert (fill(Middle(), pixels_of(109, 89), hole)[hole] > 127).all()


def test_holes_far_apart_are_filled_apart_and_near_ones_together() -> None:
    for gap, times in ((3, 1), (100, 2)):
        game, hole = Filler(), np.zeros((60, 200), dtype=bool)
        hole[30:32, 20:22] = hole[30:32, 22 + gap : 24 + gap] = True
        fill(game, pixels_of(60, 200), hole)
        assert len(game.masks) == times


def test_a_game_of_grey_pictures_fills_the_colours_one_by_one() -> None:
    class Grey(Filler):
        def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
            assert image.shape == (3, 1, 16, 16)
            return super().inpaint(image.expand(-1, 3, -1, -1), mask)[:, :1]

    image, mask = noise(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[:, :, 4:8, 4:8] = 1
    made = use.inpaint(Grey(), image, mask, ImageSpec(16, 16, 1))
    torch.testing.assert_close(made, use.inpaint(Filler(), image, mask, SPEC))
    assert (made[mask.expand_as(made) == 0] == image[mask.expand_as(made) == 0]).all()


def test_a_hole_without_a_rim_and_a_mask_of_another_size_are_refused() -> None:
    with pytest.raises(RequestError, match="white everywhere"):
        fill(Filler(), pixels_of(8, 8), np.ones((8, 8), dtype=bool))
    with pytest.raises(RequestError, match="the mask is 9x8 and the picture 8x8"):
        fill(Filler(), pixels_of(8, 8), np.ones((8, 9), dtype=bool))


def test_answers_differ_from_each_other_and_do_not_depend_on_how_many_are_asked_for() -> None:
    image = noise(1, 3, 8, 8)
    five = use.translate(Noisy(), image, seed=3, n=5)
    assert five.shape == (5, 3, 8, 8)
    assert len({tuple(answer.flatten().tolist()) for answer in five}) == 5
    assert (use.translate(Noisy(), image, seed=3, n=2) == five[:2]).all()
    torch.testing.assert_close(use.translate(Noisy(), image, "b2a", seed=3) - image, image - five[:1])
    with pytest.raises(RequestError, match="a2c: this game goes a2b or b2a"):
        use.translate(Noisy(), image, "a2c")


def test_a_game_that_cannot_is_told_by_what_it_cannot() -> None:
    with pytest.raises(RequestError, match="Noisy cannot upscale; `ganforge list --can upscale`"):
        use.upscale(Noisy(), noise(1, 3, 8, 8))


def test_a_seed_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5, torch.device("cpu")):
        first = torch.rand(3)
    assert (torch.rand(3) == wanted).all()
    with seeded(5, torch.device("cpu")):
        assert (torch.rand(3) == first).all()


def test_a_loaded_game_serves_several_threads_without_gradients(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    RunRecord("mine.Noisy", {}, SPEC, {}, {}, {}, "").write(run.record)
    trained = Noisy()
    with torch.no_grad():
        trained.weight.fill_(0.25)
    save_weights(trained, run.weights)
    game = ganforge.load(tmp_path, Noisy)
    assert use.spec_of(tmp_path) == SPEC
    assert not game.training
    image = noise(1, 3, 16, 16)
    alone = [use.translate(game, image, seed=seed) for seed in range(40)]
    torch.testing.assert_close((alone[0] - image).std(), torch.tensor(0.25), atol=0.03, rtol=0)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: use.translate(game, image, seed=seed), range(40)))
    assert all((a == b).all() and not b.requires_grad for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("text", "dials"),
    [
        ("red=1", {"red": (1.0, 1.0)}),
        (" red = -0.5 , green=0..1,", {"red": (-0.5, -0.5), "green": (0.0, 1.0)}),
        ("red=-1..-0.25", {"red": (-1.0, -0.25)}),
        ("", {}),
    ],
)
def test_dials_are_read(text: str, dials: dict[str, tuple[float, float]]) -> None:
    assert parse_dials(text) == dials


@pytest.mark.parametrize("text", ["red", "red=", "red=high", "red=1..", "red=..1", "red=nan", "red=0..inf", "red=1=2"])
def test_dials_that_say_no_number_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"--set red.*smile=1"):
        parse_dials(text)


def test_a_sweep_goes_from_one_end_to_the_other_in_equal_steps() -> None:
    steps = steps_of({"red": (-1.0, 1.0), "green": (0.0, 0.0)}, 5)
    assert [step["red"] for step in steps] == [-1, -0.5, 0, 0.5, 1]
    assert {step["green"] for step in steps} == {0}
    assert steps_of({"red": (1.0, 1.0)}, 5) == [{"red": 1.0}]


def test_only_the_dials_named_are_turned_and_only_within_their_range() -> None:
    image, game = noise(2, 3, 16, 16), Dials()
    made = use.edit(game, image, {"green": 1.0})
    assert (made[:, 1] == 1).all()
    assert (made[:, [0, 2]] == image[:, [0, 2]]).all()
    assert (use.steer(game, image, {"green": 1.0}) == made).all()
    for values, said in (({"gren": 1.0}, "did you mean green"), ({"x": 1.0}, r"red -1..1, green 0..1"), ({"green": -1.0}, "from 0 to 1")):
        with pytest.raises(RequestError, match=said):
            use.edit(game, image, values)


def test_classes_are_named_or_numbered_and_a_name_wins() -> None:
    assert class_number("dog", ("cat", "dog")) == 1
    assert class_number("1", ("cat", "dog")) == 1
    assert class_number("1", ("1", "0")) == 0
    for asked, said in (("dgo", "did you mean 'dog'"), ("2", "2 classes"), ("-1", "cat, dog")):
        with pytest.raises(RequestError, match=said):
            class_number(asked, ("cat", "dog"))


def test_latents_of_each_class_have_the_same_noise() -> None:
    drawn = []
    for number in (0, 1):
        with use.seeded(2):
            drawn.append(use.latents_of_class(Dials(), number, 4))
    first, second = drawn
    assert (first[:, :2] == second[:, :2]).all()
    assert (second[:, 2] == 1).all()


def exif(path: Path) -> None:
    data = Image.Exif()
    data[0x0112] = 6
    Image.fromarray(pixels_of(12, 20)).save(path, exif=data)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("odd.jpg", lambda path: Image.fromarray(pixels_of(13, 17)).save(path)),
        ("turned.jpg", exif),
        ("grey.png", lambda path: Image.fromarray(pixels_of(9, 8)[..., 0]).save(path)),
        ("alpha.png", lambda path: Image.fromarray(np.dstack([pixels_of(9, 8), pixels_of(9, 8, 1)[..., 0]])).save(path)),
        ("deep.png", lambda path: Image.fromarray(pixels_of(9, 8)[..., 0].astype(np.uint16) * 257).save(path)),
        ("cmyk.tif", lambda path: Image.fromarray(pixels_of(9, 8)).convert("CMYK").save(path)),
        ("palette.png", lambda path: Image.fromarray(pixels_of(9, 8)).quantize(16).save(path)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_in_memory_is_read_as_its_file_is(name: str, save: object, channels: int, tmp_path: Path) -> None:
    assert callable(save)
    save(tmp_path / name)
    image = use.read_picture(tmp_path / name, channels)
    assert image.shape[:2] == (1, channels)
    with Image.open(tmp_path / name) as opened:
        torch.testing.assert_close(use.read_picture(opened, channels), image, atol=0, rtol=0)


def test_what_is_transparent_shows_white_and_a_turned_photo_stands_upright(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (use.read_picture(tmp_path / "clear.png", 3) == 1).all()
    exif(tmp_path / "turned.jpg")
    assert use.read_picture(tmp_path / "turned.jpg", 3).shape[2:] == (20, 12)
    assert use.read_picture(tmp_path / "turned.jpg", 3, longest=10).shape[2:] == (10, 6)
    assert use.read_picture(tmp_path / "turned.jpg", 3, longest=20).shape[2:] == (20, 12)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_written_and_read_again_is_the_same(channels: int, tmp_path: Path) -> None:
    whole = F.interpolate(noise(1, channels, 3, 4), size=(9, 12))
    bytes_ = images_to_bytes(whole)
    for form in (whole, whole[0], bytes_.permute(0, 3, 1, 2)):
        use.write_picture(form, tmp_path / "x.png")
        assert (images_to_bytes(use.read_picture(tmp_path / "x.png", channels)) == bytes_).all()
    assert use.as_picture(whole).mode == ("L" if channels == 1 else "RGB")
    with pytest.raises(RequestError, match=r"\[2, 3, 4, 4\]"):
        use.as_picture(torch.zeros(2, 3, 4, 4))


def test_the_noise_in_a_latent_is_told_from_the_class_or_the_text_that_is_asked_for() -> None:
    classes = ImageSpec(8, 8, 1, classes=("a", "b", "c"))
    of_classes = zoo.find("acgan")(classes, latent_dim=5, maps=(4,), width=4)
    assert noise_columns(of_classes, classes).tolist() == [True] * 5 + [False] * 3
    texts = ImageSpec(16, 16, 1, text=6)
    of_texts = zoo.find("stackgan")(texts, latent_dim=4, condition=3, width=4, judge_width=2, blocks=1, enlarge=2)
    assert noise_columns(of_texts, texts).tolist() == [True] * 10 + [False] * 6
