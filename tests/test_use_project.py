"""The latent of a picture: found where it is known, whatever lies beside it, and kept in a file as it is found."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from makeshift import Able, Say, files, one_line, pixels, run
from PIL import Image
from torch import Tensor, nn

from ganforge import use
from ganforge.batches import ImageSpec, PointSpec, Spec, images_to_bytes
from ganforge.commands import project as command
from ganforge.commands.each import Each
from ganforge.errors import RequestError
from ganforge.game import Game, Player
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.jobs import Job
from ganforge.use.project import error_of
from ganforge.use.seeds import seeded

NOISE, CLASSES = 6, ("up", "down", "left")
SPEC = ImageSpec(16, 16, 1, classes=CLASSES)


class Linear(Game):
    """Pictures that are a linear map of 6 numbers, whose columns are orthogonal; of uniform noise if asked for."""

    def __init__(self, data: ImageSpec = SPEC, uniform: bool = False) -> None:
        super().__init__()
        self.uniform = uniform
        mixed = torch.randn(256, NOISE, generator=torch.Generator().manual_seed(0))
        self.map = nn.Parameter(torch.linalg.qr(mixed)[0] * 3)

    def players(self) -> dict[str, Player]:
        return {"only": Player(self, partial(torch.optim.SGD, lr=0.1))}

    def latent(self, n: int) -> Tensor:
        return torch.rand(n, NOISE) if self.uniform else torch.randn(n, NOISE)

    def sample(self, latent: Tensor) -> Tensor:
        return (latent @ self.map.T).view(-1, 1, 16, 16)


class OfClasses(Linear):
    """The same, and in each class another bar that is white."""

    def latent(self, n: int) -> Tensor:
        return self.latent_of_class(torch.randint(len(CLASSES), (n,)))

    def latent_of_class(self, label: Tensor) -> Tensor:
        return torch.cat([0.2 * torch.randn(len(label), NOISE), torch.eye(len(CLASSES))[label]], 1)

    def sample(self, latent: Tensor) -> Tensor:
        bars = torch.zeros(len(CLASSES), 1, 16, 16)
        for number in range(len(CLASSES)):
            bars[number, :, 4 * number : 4 * number + 4] = 1
        return super().sample(latent[:, :NOISE]) + torch.einsum("nk,kchw->nchw", latent[:, NOISE:], bars) - 0.5


class Grainy(Linear):
    """With noise of its own in every sample."""

    def sample(self, latent: Tensor) -> Tensor:
        return super().sample(latent) + 0.1 * torch.randn(len(latent), 1, 16, 16)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `in` of three pictures that the game of classes made, and one that is none."""
    game = OfClasses()
    _serve(game, SPEC, tmp_path, monkeypatch)
    (tmp_path / "in").mkdir()
    with seeded(5):
        made = game.sample(game.latent_of_class(torch.tensor([2, 0, 1]))).detach()
    for name, each in zip("abc", images_to_bytes(made).numpy(), strict=True):
        Image.fromarray(each[..., 0]).save(f"in/{name}.png")
    Path("in/bad.png").write_text("no picture", encoding="utf-8")
    return tmp_path


def _serve(game: Game, spec: Spec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    RunRecord("mine.Linear", {}, spec, {"source": "in"}, {}, {}, "").write(RunFolder(folder / "run").record)
    monkeypatch.setattr(command, "load", lambda path, device="cpu": game)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_latent_of_a_linear_game_is_found(uniform: bool) -> None:
    game = Linear(uniform=uniform)
    with seeded(3):
        known = game.latent(1)
    latent, picture = use.project(game, game.sample(known).detach(), SPEC)
    torch.testing.assert_close(latent, known, atol=1e-2, rtol=0)
    torch.testing.assert_close(picture, game.sample(known).detach(), atol=1e-2, rtol=0)
    assert game.map.grad is None


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_the_class_of_a_picture_is_found_and_stays_whole(label: int) -> None:
    game = OfClasses()
    with seeded(4):
        image = game.sample(game.latent_of_class(torch.tensor([label]))).detach()
    latent, picture = use.project(game, image, SPEC, steps=90)
    assert latent[0, NOISE:].tolist() == torch.eye(len(CLASSES))[label].tolist()
    assert error_of(picture, image) < 1


def test_a_class_that_is_asked_for_is_kept_however_wrong() -> None:
    game = OfClasses()
    image = game.sample(torch.tensor([[0.0] * NOISE + [1.0, 0.0, 0.0]])).detach()
    latent, picture = use.project(game, image, SPEC, steps=30, label=1)
    assert latent[0, NOISE:].tolist() == [0.0, 1.0, 0.0]
    assert error_of(picture, image) > 20


def test_the_latent_stays_where_draws_lie() -> None:
    # No latent that is drawn makes this picture: its own would have 50 in each column.
    game = Linear(uniform=True)
    latent, _ = use.project(game, game.sample(torch.full((1, NOISE), 50.0)).detach(), SPEC, steps=60)
    assert latent.min() >= 0
    assert latent.max() <= 1
    normal = Linear()
    latent, _ = use.project(normal, normal.sample(torch.full((1, NOISE), 50.0)).detach(), SPEC, steps=60)
    with seeded(1):
        assert latent.norm() < 1.3 * normal.latent(2048).norm(dim=1).max()


def test_a_code_as_long_as_a_latent_is_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Coded(Linear):
        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.map / 9

    # A step that moves nothing leaves the best start: without the code, one of 256 draws.
    monkeypatch.setattr(import_module("ganforge.use.project"), "_RATE", 0.0)
    game = Coded()
    with seeded(3):
        known = game.latent(1)
    image = game.sample(known).detach()
    torch.testing.assert_close(use.project(game, image, SPEC, steps=3)[0], known, atol=1e-3, rtol=0)
    assert not torch.allclose(use.project(Linear(), image, SPEC, steps=3)[0], known, atol=1e-1)


def test_the_same_seed_gives_the_same_latent_also_of_a_game_with_noise_of_its_own() -> None:
    game = Grainy()
    image = Linear().sample(torch.ones(1, NOISE)).detach()
    first, again, other = (use.project(game, image, SPEC, steps=20, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_random_state_is_left_as_it_was() -> None:
    before = torch.random.get_rng_state()
    use.project(Grainy(), torch.zeros(1, 1, 16, 16), SPEC, steps=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_report_counts_the_steps_and_the_error_falls() -> None:
    said: list[tuple[int, int, float]] = []
    use.project(Linear(), Linear().sample(torch.ones(1, NOISE)).detach(), SPEC, steps=30, report=lambda *told: said.append(told))
    assert [each[:2] for each in said] == [(step, 30) for step in range(1, 31)]
    assert said[-1][2] < said[0][2]


@pytest.mark.parametrize(
    ("shape", "steps", "says"),
    [((2, 1, 16, 16), 10, "this game's are"), ((1, 3, 16, 16), 10, "this game's are"), ((1, 1, 16, 16), 0, "at least 1")],
)
def test_a_request_that_cannot_be_met_is_refused(shape: tuple[int, ...], steps: int, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        use.project(Linear(), torch.zeros(shape), SPEC, steps=steps)


def test_a_folder_gives_pictures_beside_each_other_and_a_table_of_latents(serve: Path, capsys: Say) -> None:
    assert run("project run in --out out --steps 60") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith("ganforge: in/bad.png: not a picture")
    assert out.startswith("3 pictures, off by ")
    assert files("out") == ["a.png", "b.png", "c.png", "latents.npz"]
    with np.load("out/latents.npz", allow_pickle=False) as table:
        assert sorted(table.files) == ["errors", "files", "latents"]
        assert table["files"].tolist() == ["a.png", "b.png", "c.png"]
        assert table["latents"].dtype == np.float32
        assert table["latents"].shape == (3, NOISE + len(CLASSES))
        assert table["latents"][:, NOISE:].argmax(1).tolist() == [2, 0, 1]
        assert table["errors"].shape == (3,)
        assert table["errors"].max() < 5
    # Given on the left, enlarged by a whole factor, with lines around.
    both, given = pixels("out/a.png").astype(int), pixels("in/a.png")
    scale = (both.shape[0] - 4) // 16
    assert np.array_equal(both[2 : 2 + 16 * scale : scale, 2 : 2 + 16 * scale : scale], given)


def test_the_same_picture_alone_has_the_same_latent_and_is_written_alone(serve: Path) -> None:
    assert run("project run in --out all --steps 20") == 1
    assert run("project run in/b.png --out one --steps 20 --alone") == 0
    with np.load("all/latents.npz") as every, np.load("one/latents.npz") as single:
        assert np.array_equal(every["latents"][1], single["latents"][0])
    assert pixels("one/b.png").shape == (16, 16)


def test_who_watches_sees_how_far_a_picture_is_off(serve: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    each = Each("projecting")
    jobs = [Job(Path("in/[b]a\nc.png"), "", ())]

    def work(job: Job) -> None:
        each.parts(job)(2, 9, "off by 12.3 of 255")
        each._bar.refresh()

    assert each.run(jobs, work) == 0
    assert "[b]a\ufffdc.png  off by 12.3 of 255" in re.sub(r"\x1b\[[0-9;?]*\w", "", capsys.readouterr().err)
    told: list[str] = []
    monkeypatch.setattr(Each, "parts", lambda self, job: lambda done, total, said: told.append(f"{done} {total} {said}"))
    assert run("project run in/a.png --out out --steps 3") == 0
    assert [line.split(" off by ")[0] for line in told] == ["1 3", "2 3", "3 3"]
    assert all(re.fullmatch(r"[\d ]+ off by \d+\.\d of 255", line) for line in told)


def test_what_is_there_is_kept_and_resume_adds_what_is_missing(serve: Path, capsys: Say) -> None:
    assert run("project run in/a.png --out out --steps 5") == 0
    capsys.readouterr()
    assert run("project run in/b.png --out out --steps 5") == 2
    assert "out/latents.npz exists" in one_line(capsys)
    stamp = Path("out/a.png").stat().st_mtime_ns
    Path("in/bad.png").unlink()
    assert run("project run in --out out --steps 5 --resume") == 0
    assert Path("out/a.png").stat().st_mtime_ns == stamp
    with np.load("out/latents.npz") as table:
        assert table["files"].tolist() == ["a.png", "b.png", "c.png"]
    Path("out/latents.npz").write_bytes(b"nothing")
    capsys.readouterr()
    assert run("project run in --out out --resume") == 2
    assert "holds no latents" in one_line(capsys)
    assert run("project run in/c.png --out out --steps 5 --force") == 0
    with np.load("out/latents.npz") as table:
        assert table["files"].tolist() == ["c.png"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--out x.png", "give a folder"),
        ("--out x --class middle", "is none of the run's 3 classes"),
        ("--out x --steps 0", "--steps 0: must be at least 1"),
        ("--out x --restarts 0", "--restarts 0: must be at least 1"),
        ("--out in/a.png/x", "in/a.png is a file, not a folder"),
    ],
)
def test_a_wrong_request_is_one_line(serve: Path, capsys: Say, options: str, says: str) -> None:
    assert run(f"project run in {options}") == 2
    assert says in one_line(capsys)
    assert not Path("x").exists()


def test_games_that_make_no_pictures_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    _serve(Able(), SPEC, tmp_path, monkeypatch)
    assert run("project run in --out out") == 2
    assert "Able cannot sample" in one_line(capsys)
    _serve(Linear(), PointSpec(2), tmp_path, monkeypatch)
    assert run("project run in --out out") == 2
    assert "not of pictures" in one_line(capsys)
    _serve(Linear(), SPEC, tmp_path, monkeypatch)
    assert run("project run in --out out --class up") == 2
    assert "Linear cannot sample-class" in one_line(capsys)
