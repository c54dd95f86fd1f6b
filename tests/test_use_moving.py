"""Between samples and through time: ways between latents, truncation, latents in files, movies of a training."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from makeshift import SPEC, Sampler, Say, files, one_line, pixels, run, serve
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ganforge import use, zoo
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.errors import RequestError
from ganforge.pictures import captioned, grid
from ganforge.use.latents import read_latents, write_latents

CLASSES = ImageSpec(8, 8, 1, classes=("a", "b", "c"))


class Law(Sampler):
    """Latents of one column for each law: normal, wide normal, normal about 2, uniform, of heavy tails; and what is asked for."""

    def latent(self, n: int) -> Tensor:
        normal, even = torch.randn(n, 3), torch.rand(n, 2)
        heavy = torch.log(even[:, 1] / (1 - even[:, 1])) ** 3
        return torch.cat([normal * torch.tensor([1, 5, 1]) + torch.tensor([0, 0, 2]), even[:, :1], heavy[:, None], torch.ones(n, 1)], 1)


class Quiet(Sampler):
    """Without noise of its own; grey like the last number of the latent, which is uniform, or green in the class."""

    def sample(self, latent: Tensor) -> Tensor:
        return latent[:, :, None, None].expand(-1, -1, 16, 16) * self.weight


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quiet:
    game = Quiet()
    serve(game, tmp_path, monkeypatch)
    return game


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    game = Sampler()
    serve(game, tmp_path, monkeypatch)
    return game


def shown(path: str) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """The frames of an animation and how many milliseconds each stays."""
    pictures, durations = [], []
    with Image.open(path) as moving:
        for index in range(getattr(moving, "n_frames", 1)):
            moving.seek(index)
            pictures.append(np.asarray(moving.convert("RGB")))
            durations.append(int(moving.info["duration"]))
    return pictures, durations


def test_normal_noise_about_zero_is_told_from_all_other_by_its_draws() -> None:
    assert use.normal_columns(Law(), SPEC).tolist() == [True, True, False, False, False, False]
    assert use.noise_columns(Law(), SPEC).tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("name", "hyper", "normal"),
    [
        ("dcgan", {"latent_dim": 20, "width": 4}, [False] * 20),
        ("dcgan", {"latent_dim": 20, "width": 4, "noise": "normal"}, [True] * 20),
        ("acgan", {"latent_dim": 5, "maps": (4,), "width": 4}, [True] * 5 + [False] * 3),
    ],
)
def test_the_noise_of_games_is_told_as_their_papers_say(name: str, hyper: dict[str, object], normal: list[bool]) -> None:
    assert use.normal_columns(zoo.find(name)(CLASSES, **hyper), CLASSES).tolist() == normal


def test_what_is_spherical_turns_at_an_even_speed_and_the_rest_goes_straight() -> None:
    ends = torch.tensor([[3.0, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 1.0], [0.0, -3.0, 0.0, 1.0]])
    path = use.path_between(ends, 3, torch.tensor([True, True, False, False]))
    assert path.shape == (7, 4)
    angles = [0, math.pi / 6, math.pi / 3, math.pi / 2]
    torch.testing.assert_close(path[:4, :2], torch.tensor([[3 * math.cos(a), 3 * math.sin(a)] for a in angles]))
    torch.testing.assert_close(path[:4, 2], torch.tensor([1, 2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(path[:, 2:].sum(1), torch.ones(7))
    # Opposite ends: no way round is the shortest.
    torch.testing.assert_close(path[3:, 1], torch.tensor([3.0, 1.0, -1.0, -3.0]))
    torch.testing.assert_close(path[[0, 3, 6]], ends)


def test_a_closed_way_returns_and_latents_keep_their_shape() -> None:
    ends = torch.randn(3, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    path = use.path_between(ends, 2, torch.ones(8, dtype=torch.bool), closed=True)
    assert path.shape == (6, 2, 1, 4)
    torch.testing.assert_close(path[::2], ends)
    torch.testing.assert_close(use.path_between(ends, 2, closed=True)[5], (ends[2] + ends[0]) / 2)


def test_between_normal_latents_the_sphere_keeps_the_norm_that_the_straight_way_loses() -> None:
    ends = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    round_, straight = (use.path_between(ends, 2, turn)[1].norm() for turn in (torch.ones(1000, dtype=torch.bool), None))
    assert abs(round_ / ends[0].norm() - 1) < 0.05
    assert abs(straight / ends[0].norm() - math.sqrt(0.5)) < 0.05


def test_truncation_scales_the_noise_about_its_mean_and_leaves_the_class() -> None:
    game = zoo.find("acgan")(CLASSES, latent_dim=5, maps=(4,), width=4)
    drawn = use.latents_of_class(game, 1, 6)
    half, none = use.truncated(game, CLASSES, drawn, 0.5), use.truncated(game, CLASSES, drawn, 0.0)
    assert use.truncated(game, CLASSES, drawn, 1.0) is drawn
    assert (half[:, 5:] == drawn[:, 5:]).all()
    assert (none[:, 5:] == drawn[:, 5:]).all()
    torch.testing.assert_close(half[:, :5], drawn[:, :5] / 2, atol=0.05, rtol=0)
    torch.testing.assert_close(half, (drawn + none) / 2)
    even = Sampler().latent(100)
    torch.testing.assert_close(use.truncated(Sampler(), SPEC, even, 0.2), 0.5 + 0.2 * (even - 0.5), atol=0.02, rtol=0)


def test_latents_of_a_file_are_those_that_were_written_picked_by_name_or_number(tmp_path: Path) -> None:
    latent = torch.rand(4, 3)
    write_latents(tmp_path / "all.npz", latent, ["me.jpg", "you.jpg", "0", "cat.png"])
    assert (read_latents(tmp_path / "all.npz", Sampler()) == latent).all()
    assert (read_latents(tmp_path / "all.npz", Sampler(), ("cat.png", "0", "1")) == latent[[3, 2, 1]]).all()
    # As others write it: float64, and without names.
    np.savez(tmp_path / "bare.npz", latents=latent.double().numpy())
    assert (read_latents(tmp_path / "bare.npz", Sampler(), ("3",)) == latent[3:]).all()


def test_a_file_that_holds_no_latents_of_the_game_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", codes=np.zeros((2, 3)))
    np.save(tmp_path / "array.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "pickled.npz", latents=np.array([{}]))
    np.savez(tmp_path / "wide.npz", latents=np.zeros((2, 5)))
    np.savez(tmp_path / "nan.npz", latents=np.full((2, 3), np.nan))
    np.savez(tmp_path / "huge.npz", latents=np.full((2, 3), 1e300))
    np.savez(tmp_path / "complex.npz", latents=np.zeros((2, 3), dtype=complex))
    np.savez(tmp_path / "words.npz", latents=np.full((2, 3), "1"))
    np.savez(tmp_path / "names.npz", latents=np.zeros((2, 3)), files=np.array(["a", "b", "c"]))
    np.savez(tmp_path / "off.npz", latents=np.zeros((2, 3)), files=np.array(["a", "b"]), errors=np.zeros(3))
    np.savez(tmp_path / "whole.npz", latents=np.zeros((2, 3)))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    (tmp_path / "text.npz").write_text("no archive")
    for name, says in (
        ("none.npz", "no such file"),
        ("codes.npz", "holds no latents"),
        ("array.npy", "holds no latents"),
        ("pickled.npz", "holds no latents"),
        ("text.npz", "holds no latents"),
        ("wide.npz", r"\[2, 5\]; this game's are \[n, 3\]"),
        ("nan.npz", "finite"),
        ("huge.npz", "finite"),
        ("complex.npz", "complex128 latents"),
        ("words.npz", "<U1 latents"),
        ("names.npz", "3 names and 0 errors for 2 latents"),
        ("off.npz", "2 names and 3 errors for 2 latents"),
        ("torn.npz", "holds no latents"),
    ):
        with pytest.raises(RequestError, match=f"{name}: .*{says}"):
            read_latents(tmp_path / name, Sampler())
    write_latents(tmp_path / "good.npz", torch.zeros(2, 3), ["a.png", "b.png"])
    for pick in ("c.png", "2", "-1"):
        with pytest.raises(RequestError, match=rf"--pick {pick}: .*a\.png, b\.png"):
            read_latents(tmp_path / "good.npz", Sampler(), (pick,))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sample run --truncation 1.5 --out x.png", "--truncation 1.5: goes from 0"),
        ("sample run --latents k.npz --n 3 --out x.png", "--latents and --n"),
        ("sample run --latents k.npz --class light --out x.png", "--latents and --class"),
        ("sample run --pick 1 --out x.png", "--pick: chooses among --latents"),
        ("sample run --keep k.npz --out x.png", "--keep k.npz: exists"),
        ("sample run --keep k.csv --out x.png", "--keep k.csv: must end in .npz"),
        ("sample run --out x.png --each x", "--out and --each"),
        ("sample run --each k.npz", "--each k.npz: k.npz is a file, not a folder"),
        ("sample run --out k.npz/deep/x.png", "--out k.npz/deep: k.npz is a file, not a folder"),
        ("sample run --out run.png --force", "--out run.png: is a folder"),
        ("interpolate run --latents k.npz --seeds 1 2 --out x.png", "--latents and --seeds"),
        ("interpolate run --latents k.npz --n 2 --out x.png", "--latents and --n"),
        ("interpolate run --latents k.npz --pick 0 --out x.png", "needs at least two ends"),
        ("interpolate run --class light --classes dark light --out x.png", "--class and --classes"),
        ("interpolate run --classes dark light --seeds 1 2 3 --out x.png", "3 seeds for 2 classes"),
        ("interpolate run --classes dark ligth --out x.png", "did you mean 'light'"),
        ("interpolate run --class all --out x.png", "the classes are dark, light"),
        ("interpolate run --n 0 --out x.png", "--n 0"),
        ("interpolate run --steps 0 --out x.png", "one step"),
        ("interpolate run --seconds 2 --out x.png", "a strip does not move"),
        ("interpolate run --seconds -2 --out x.gif", "--seconds -2"),
        ("interpolate run --seconds inf --out x.gif", "--seconds inf: an animation lasts longer than 0 and 600 at most"),
        ("interpolate run --seconds nan --out x.gif", "--seconds nan"),
        ("interpolate run --out x.avi", "must end in .png or .gif or .webp or .mp4"),
        ("interpolate run --out x.mp4", "install ffmpeg, or end the name in .gif or .webp"),
        ("movie run --out x.mp4", "install ffmpeg"),
        ("movie run --out x.gif", "run: the run has 1 of the two pictures"),
        ("movie run --out x.gif --width 0", "--width 0"),
        ("movie run --out x.gif --seconds 0", "--seconds 0"),
        ("movie run --out x.gif --seconds inf", "--seconds inf"),
        ("movie nowhere --out x.gif", "nowhere: not a run folder"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    line: str, says: str, noisy: Sampler, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_latents(Path("k.npz"), torch.rand(3, 3), ["a", "b", "c"])
    Path("run/samples").mkdir()
    Path("run.png").mkdir()
    Image.new("L", (8, 8)).save("run/samples/000500.png")
    before = files(".")
    monkeypatch.setenv("PATH", "nothing")
    assert run(line) == 2
    assert says in one_line(capsys)
    assert files(".") == before


def test_samples_kept_are_made_again_from_their_file(quiet: Quiet) -> None:
    assert run("sample run --n 5 --seed 3 --keep k.npz --each each") == 0
    with use.seeded(3):
        wanted = quiet.latent(5)
    with np.load("k.npz") as kept:
        assert (kept["latents"] == wanted.numpy()).all()
        assert kept["files"].tolist() == files("each")
    assert run("sample run --latents k.npz --pick seed3_00004.png 0 --each again") == 0
    for name, again in (("seed3_00004", "k_00000"), ("seed3_00000", "k_00001")):
        assert (pixels(f"each/{name}.png") == pixels(f"again/{again}.png")).all()
    assert run("sample run --class all --n 2 --keep all.npz --out all.png") == 0
    with np.load("all.npz") as kept:
        assert kept["latents"][:, 1].tolist() == [-1, -1, 1, 1]
        assert kept["files"].tolist() == [f"{name}_seed0_0000{i}.png" for name in ("dark", "light") for i in (0, 1)]


def test_a_file_of_latents_that_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", latents=np.zeros((1000, 3)))
    assert (tmp_path / "bomb.npz").stat().st_size < 1000
    assert len(read_latents(tmp_path / "bomb.npz", Sampler())) == 1000
    monkeypatch.setattr("ganforge.use.latents._MOST", 10_000)
    with pytest.raises(RequestError, match=r"bomb\.npz: not read"):
        read_latents(tmp_path / "bomb.npz", Sampler())


def test_a_name_may_end_in_capitals_and_is_of_that_kind(quiet: Quiet) -> None:
    assert run("sample run --n 4 --out a.PNG") == 0
    assert run("interpolate run --seeds 1 2 --seconds 0.8 --out b.GIF") == 0
    assert sum(shown("b.GIF")[1]) == 800
    with Image.open("a.PNG") as picture:
        assert picture.format == "PNG"


def test_one_of_each_class_makes_a_sheet_and_no_tower(quiet: Quiet, capsys: Say) -> None:
    assert run("sample run --class all --n 1 --out all.png") == 0
    assert capsys.readouterr().out == "all.png: one of each class, dark, light\n"
    height, width, _ = pixels("all.png").shape
    assert height < width
    assert pixels("all.png")[height // 2, [width // 4, 3 * width // 4], 1].tolist() == [0, 255]


def test_a_long_walk_is_folded_into_a_row_for_each_way(quiet: Quiet) -> None:
    assert run("interpolate run --seeds 1 2 3 --steps 2 --out both.png") == 0
    for number, seeds in enumerate(("1 2", "2 3")):
        assert run(f"interpolate run --seeds {seeds} --steps 2 --out one.png --force") == 0
        one = pixels("one.png")
        step = one.shape[0] - 2
        assert (pixels("both.png")[number * step : number * step + len(one)] == one).all()
    assert pixels("both.png").shape[0] == 2 * step + 2


def test_truncated_samples_are_nearer_to_their_mean(quiet: Quiet) -> None:
    for name, t in (("a", 1), ("b", 0.5), ("c", 0)):
        assert run(f"sample run --n 4 --truncation {t} --each {name}") == 0
    a, b, c = ([pixels(f"{name}/seed0_0000{i}.png")[0, 0].astype(int) for i in range(4)] for name in "abc")
    assert np.ptp(c, axis=0).max() == 0
    assert np.ptp(a, axis=0).max() > 20
    for full, half, mean in zip(a, b, c, strict=True):
        np.testing.assert_allclose(half, (full + mean) / 2, atol=1)


def test_a_class_becomes_another_while_the_noise_of_its_seed_stays(quiet: Quiet) -> None:
    assert run("interpolate run --classes dark light --seeds 5 --steps 2 --out way.png") == 0
    height, width, _ = pixels("way.png").shape
    cells = pixels("way.png")[height // 2, [width // 6, width // 2, 5 * width // 6]].astype(int)
    assert cells[:, 1].tolist() == [0, 128, 255]
    assert np.ptp(cells[:, 2]) <= 1
    assert run("interpolate run --classes all --seeds 5 --steps 2 --out all.png") == 0
    assert (pixels("all.png") == pixels("way.png")).all()
    assert run("interpolate run --classes dark light --seeds 5 6 --steps 2 --out two.png") == 0
    first, _, last = pixels("two.png")[height // 2, [width // 6, width // 2, 5 * width // 6]].astype(int)
    assert (first == cells[0]).all()
    assert abs(last[2] - first[2]) > 1


def test_each_of_several_walks_is_the_one_that_its_seeds_make_alone(noisy: Sampler) -> None:
    assert run("interpolate run --seeds 1 2 --steps 3 --n 2 --out both.png") == 0
    for seeds, rows in (("1 2", slice(None, 144 + 2)), ("3 4", slice(144 + 2, None))):
        assert run(f"interpolate run --seeds {seeds} --steps 3 --out one.png --force") == 0
        one = pixels("one.png")
        assert one.shape[0] == 144 + 4
        assert (pixels("both.png")[rows][:144] == one[: 144 + 2][:144]).all()


def test_a_way_leads_through_the_latents_of_a_file(quiet: Quiet) -> None:
    write_latents(Path("k.npz"), torch.tensor([[-1.0, 0, 1], [0, 0, 0], [1.0, -1, 0]]), ["me.jpg", "it.jpg", "you.jpg"])
    assert run("interpolate run --latents k.npz --pick me.jpg you.jpg --steps 2 --out way.png") == 0
    height, width, _ = pixels("way.png").shape
    cells = pixels("way.png")[height // 2, [width // 6, width // 2, 5 * width // 6]]
    wanted = images_to_bytes(torch.tensor([[-1.0, 0, 1], [0, -0.5, 0.5], [1, -1, 0]])[:, :, None, None])[:, 0, 0]
    assert np.abs(cells.astype(int) - wanted.numpy()).max() <= 1


def test_an_animation_lasts_as_long_as_asked_for_and_returns_without_a_stop(quiet: Quiet) -> None:
    assert run("interpolate run --seeds 1 2 --seconds 1 --n 4 --out way.gif") == 0
    pictures, durations = shown("way.gif")
    assert durations == [100] * 10
    moved = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise([*pictures, pictures[0]])]
    assert max(moved) < 3 * min(moved)
    with use.seeded(1):
        first = quiet.sample(quiet.latent(1))
    np.testing.assert_allclose(pictures[0][40, 40], images_to_bytes(first)[0, 0, 0], atol=6)
    assert run("interpolate run --seeds 1 2 3 --steps 2 --out six.gif") == 0
    assert sum(shown("six.gif")[1]) == 6000


def test_a_movie_shows_each_picture_of_the_training_with_its_round(quiet: Quiet) -> None:
    rounds = (1, 500, 1000, 2000000)
    for number in rounds:
        image = np.random.default_rng(number).integers(0, 256, (4, 24, 24, 1), dtype=np.uint8)
        Path("run/samples").mkdir(exist_ok=True)
        grid(image, scale=3).save(f"run/samples/{number:06d}.png")
    assert run("movie run --out movie.gif --seconds 2") == 0
    pictures, durations = shown("movie.gif")
    assert durations == [500, 500, 500, 2500]
    for number, picture in zip(rounds, pictures, strict=True):
        with Image.open(f"run/samples/{number:06d}.png") as drawn:
            assert (picture[..., 0] == np.asarray(captioned(drawn, f"round {number:,}"))).all()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on this machine")
def test_ways_and_movies_are_films_too(quiet: Quiet) -> None:
    assert run("interpolate run --classes dark light --seconds 0.4 --out way.mp4") == 0
    for number in (1, 2):
        Path("run/samples").mkdir(exist_ok=True)
        Image.new("L", (33, 21), 100 * number).save(f"run/samples/{number:06d}.png")
    assert run("movie run") == 0
    for name in ("way.mp4", "run/movie.mp4"):
        assert b"ftyp" in Path(name).read_bytes()[:16]
