"""Directions of the latent: those found are the algebra's, those learnt are the planted ones, and `edit` turns them."""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from makeshift import Able, Say, one_line, photo, pixels, run
from torch import Tensor, nn

from ganforge import use
from ganforge.batches import Attributed, ImageSpec, images_to_bytes
from ganforge.commands import directions as command
from ganforge.commands import edit
from ganforge.data import Finite, from_arrays, from_fields
from ganforge.errors import RequestError
from ganforge.game import Game, Player
from ganforge.metrics import readers
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.directions import Learnt, read_directions, write_directions
from ganforge.use.latents import write_latents
from ganforge.weights import save_weights

SIDE = 16
SPEC = ImageSpec(SIDE, SIDE, 1, classes=("dark", "light"))
NOISE, CLASSES = 4, 2


class Painter(Game):
    """Latents are 4 numbers of noise and a class of 2; a first layer, whose weights are given, mixes them, and `paint` does the rest."""

    def __init__(self, weight: Tensor, uniform: bool = False) -> None:
        super().__init__()
        self.words = nn.Linear(CLASSES, CLASSES)
        self.first = nn.Linear(NOISE + CLASSES, len(weight))
        self.first.weight.data = torch.cat([weight, torch.randn(len(weight), CLASSES)], 1)
        self.uniform = uniform

    def players(self) -> dict[str, Player]:
        return {"only": Player(self, partial(torch.optim.SGD, lr=0.1))}

    def latent(self, n: int) -> Tensor:
        noise = 2 * torch.rand(n, NOISE) - 1 if self.uniform else torch.randn(n, NOISE)
        return torch.cat([noise, torch.eye(CLASSES)[torch.randint(0, CLASSES, (n,))]], 1)

    def sample(self, latent: Tensor) -> Tensor:
        asked = self.words(latent[:, NOISE:])
        return self.paint(self.first(torch.cat([latent[:, :NOISE], asked], 1)))

    def paint(self, mixed: Tensor) -> Tensor:
        return mixed.reshape(-1, 1, SIDE, SIDE)


class Bent(Painter):
    """After an activation the last number weighs a hundred times as much, and then all are pixels of a row."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.last = nn.Linear(NOISE, SIDE * SIDE)

    def paint(self, mixed: Tensor) -> Tensor:
        weighted = mixed.relu() * torch.tensor([1.0, 1.0, 1.0, 100.0])
        drawn: Tensor = self.last(weighted)
        return drawn.reshape(-1, 1, SIDE, SIDE)


class Lamp(Painter):
    """The third number of the latent is the brightness, and the fourth that of the left half alone; the rest is not to be seen."""

    def __init__(self, heed: bool = True) -> None:
        weight = torch.zeros(2, NOISE)
        weight[0, 2] = weight[1, 3] = float(heed)
        super().__init__(weight)
        self.first.weight.data[:, NOISE:] = 0

    def paint(self, mixed: Tensor) -> Tensor:
        grain = 0.3 * torch.rand(len(mixed), 1, SIDE, SIDE)
        left = torch.linspace(1, 0, SIDE).round()
        drawn = (mixed[:, 0, None, None, None] + mixed[:, 1, None, None, None] * left).tanh() * 0.7 + grain - 0.15
        return drawn if mixed.std() > 0.05 else 2 * torch.rand(len(mixed), 1, 1, 1).expand_as(drawn) - 1


def like(first: Tensor, second: Tensor) -> float:
    """The cosine of the angle between two directions, whatever their signs."""
    return abs(float(nn.functional.cosine_similarity(first, second, dim=0)))


def shades(levels: Tensor) -> Tensor:
    """Pictures of one shade each, under a little grain: uint8 [n, 16, 16, 1]."""
    return images_to_bytes(levels[:, None, None, None] + 0.2 * torch.rand(len(levels), 1, SIDE, SIDE))


@pytest.fixture(autouse=True)
def _short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these pictures show is learned quickly, and few draws show what moves."""
    monkeypatch.setattr(readers, "_STEPS", (40, 40))
    monkeypatch.setattr(sys.modules[Learnt.__module__], "_PAIRS", 256)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def shaded() -> Finite:
    """Dark pictures and light ones."""
    level = torch.linspace(-0.9, 0.7, 160)
    return from_arrays(shades(level), (level > 0).long(), classes=SPEC.classes)


@pytest.fixture
def lamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shaded: Finite) -> Lamp:
    """A run of the lamp in the folder `run`, where the test now is, with labelled pictures in shaded.npz."""
    monkeypatch.chdir(tmp_path)
    game = Lamp()
    RunRecord("mine.Lamp", {}, SPEC, {"source": "none"}, {}, {}, "").write(RunFolder(Path("run")).record)
    save_weights(game, RunFolder(Path("run")).weights)
    level = torch.linspace(-0.9, 0.7, 160)
    np.savez("shaded.npz", images=shades(level), labels=(level > 0).long(), class_names=np.array(SPEC.classes))
    for module in (edit, command):
        monkeypatch.setattr(module, "load", lambda path, device="cpu": game)
    return game


def test_sefa_are_the_right_singular_vectors_of_the_first_layer_in_their_order() -> None:
    weight = torch.randn(SIDE * SIDE, NOISE) * torch.tensor([1.0, 2.0, 4.0, 8.0])
    vectors = torch.linalg.svd(weight).Vh
    found = use.directions(Painter(weight), SPEC)
    assert [name for name in found if name.startswith("sefa")] == ["sefa1", "sefa2", "sefa3", "sefa4"]
    for number, vector in enumerate(vectors, 1):
        assert like(found[f"sefa{number}"][:NOISE], vector) > 0.99


def test_the_layer_to_which_the_noise_comes_first_may_take_more_or_fewer_numbers_than_a_latent_has() -> None:
    wide = Painter(torch.randn(SIDE * SIDE, NOISE))
    wide.first = nn.Linear(NOISE, SIDE * SIDE)
    wide.first.weight.data *= torch.tensor([1.0, 2.0, 4.0, 8.0])
    wide.sample = lambda latent: wide.paint(wide.first(latent[:, :NOISE] + wide.words(latent[:, NOISE:]).sum(1, True)))  # type: ignore[method-assign]
    assert like(use.directions(wide, SPEC)["sefa1"][:NOISE], torch.linalg.svd(wide.first.weight.detach()).Vh[0]) > 0.99


@pytest.mark.parametrize(("uniform", "deviation"), [(False, 1.0), (True, 3**-0.5)])
def test_a_step_is_one_deviation_of_the_noise_and_leaves_what_is_asked_for(uniform: bool, deviation: float) -> None:
    game = Painter(torch.randn(SIDE * SIDE, NOISE), uniform)
    found = use.directions(game, SPEC)
    for step in found.values():
        assert float(step.norm()) == pytest.approx(deviation, rel=0.1)
    before = game.latent(5)
    after = use.steer(game, before, {"sefa1": -3, "pca2": 2.5}, found)
    assert (after[:, NOISE:] == before[:, NOISE:]).all()
    torch.testing.assert_close(after - before, (-3 * found["sefa1"] + 2.5 * found["pca2"]).expand(5, -1))


def test_pca_is_of_what_the_activation_lets_through_and_of_a_linear_game_it_is_sefa() -> None:
    weight = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    bent = use.directions(Bent(weight), SPEC)
    axes = torch.eye(NOISE)
    assert like(bent["sefa1"][:NOISE], axes[0]) > 0.99
    assert like(bent["pca1"][:NOISE], axes[3]) > 0.99
    straight = use.directions(Painter(weight.repeat(SIDE * SIDE // NOISE, 1)), SPEC)
    for number in range(1, NOISE + 1):
        assert like(straight[f"pca{number}"], straight[f"sefa{number}"]) > 0.95


def test_along_each_direction_samples_become_brighter_and_every_call_finds_the_same() -> None:
    game = Bent(torch.randn(NOISE, NOISE))
    with torch.no_grad():
        game.last.weight += 0.1
    found, again = use.directions(game, SPEC), {}
    latent = game.latent(200)
    with torch.no_grad():
        for step in found.values():
            assert game.sample(latent + step).mean() > game.sample(latent - step).mean()
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            game.sample(torch.zeros(1, NOISE + CLASSES))

    beside = threading.Thread(target=draw)
    beside.start()
    try:
        again = use.directions(game, SPEC)
    finally:
        stop.set()
        beside.join()
    assert found.keys() == again.keys()
    assert all((found[name] == again[name]).all() for name in found)
    assert not any(module._forward_hooks for module in game.modules())


def test_a_game_without_layers_has_no_directions() -> None:
    game = Painter(torch.randn(SIDE * SIDE, NOISE))
    game.sample = lambda latent: latent[:, :1, None, None].expand(-1, 1, SIDE, SIDE)  # type: ignore[method-assign]
    assert use.directions(game, SPEC) == {}


def test_the_direction_learnt_from_dark_and_light_is_the_number_that_is_the_brightness(shaded: Finite) -> None:
    learnt = use.learn_directions(Lamp(), SPEC, shaded, n=400).directions
    planted = torch.tensor([0.0, 0, 1, 0.5, 0, 0])
    for name, sign in (("light", 1), ("dark", -1)):
        direction = learnt[name]
        assert float(nn.functional.cosine_similarity(direction.step, sign * planted, dim=0)) > 0.9
        assert (direction.step[NOISE:] == 0).all()
        assert direction.read > 0.9
        assert direction.auc > 0.9
        assert direction.confirmed > max(0.8, direction.by_chance)


def test_what_the_latent_does_not_tell_is_left_out_with_a_reason(shaded: Finite) -> None:
    learnt = use.learn_directions(Lamp(heed=False), SPEC, shaded, n=300)
    assert learnt.directions == {}
    assert set(learnt.left_out) == {"dark", "light"}
    assert all("better than chance" in why for why in learnt.left_out.values())


def test_a_direction_without_another_is_at_right_angles_to_it() -> None:
    level = torch.linspace(-0.9, 0.7, 40).repeat(4)
    left = torch.randint(0, 2, (len(level),))
    images = shades(level)
    images[left > 0, :, : SIDE // 2] = 255
    data = from_fields(Attributed, attributes=("light", "left"), image=images, attribute=torch.stack([(level > 0).long(), left], 1))
    game = Lamp()
    both = use.learn_directions(game, SPEC, data, n=400).directions
    freed = use.learn_directions(game, SPEC, data, n=400, without=("left",)).directions
    assert like(both["light"].step, both["left"].step) > 0.05
    assert like(freed["light"].step, freed["left"].step) < 0.02
    assert (freed["left"].step == both["left"].step).all()
    with pytest.raises(RequestError, match=r"--without lefd: .* did you mean left"):
        use.learn_directions(game, SPEC, data, n=50, without=("lefd",))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (from_arrays(np.zeros((9, SIDE, SIDE, 1), np.uint8)), "neither attributes nor classes"),
        (from_arrays(np.zeros((9, SIDE, SIDE, 3), np.uint8), np.arange(9) % 2), "have 3 channels, the samples 1"),
    ],
)
def test_data_that_teach_nothing_are_refused(data: Finite, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        use.learn_directions(Lamp(), SPEC, data, n=50)


def test_directions_are_learnt_once_listed_and_make_a_strip(lamp: Lamp, capsys: Say) -> None:
    assert run("directions run --n 400 --data shaded.npz") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["dark", "light"]
    before = Path("run/directions.safetensors").read_bytes()
    assert run("directions run --n 400 --data shaded.npz --seed 3") == 2
    assert "--force learns directions anew" in one_line(capsys)
    assert Path("run/directions.safetensors").read_bytes() == before
    assert run("directions run --n 400 --data shaded.npz --seed 3 --force") == 0
    assert Path("run/directions.safetensors").read_bytes() != before
    capsys.readouterr()
    assert run("edit run --list") == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    names = ["dark", "light", "sefa1", "sefa2", *(f"pca{number}" for number in range(1, NOISE + 1))]
    assert listed == [[name, "-3..3"] for name in names]
    assert run("edit run --set light=-3..3,sefa2=0 --steps 3 --n 4 --out strip.png") == 0
    strip = pixels("strip.png")
    side = strip.shape[1] // 3
    cells = [[strip[row * side + side // 2, column * side + 3 * side // 4] for column in range(3)] for row in range(4)]
    assert all(row[0] < row[1] < row[2] for row in cells)
    assert strip.shape[0] > 4 * side
    assert run("edit run --set light=1 --n 4 --out strip.png") == 2
    assert "exists" in one_line(capsys)


def test_an_unknown_dial_is_named_with_the_nearest_and_pictures_with_the_way_to_their_latents(lamp: Lamp, capsys: Say) -> None:
    photo("x.png")
    for line, says in (
        ("edit run --set sefa9=1 --out y.png", "did you mean sefa"),
        ("edit run --set sefa1=4 --out y.png", "sefa1 goes from -3 to 3"),
        ("edit run x.png --set sefa1=1 --out y.png", "ganforge project RUN IN --out found"),
        ("edit run --set sefa1=1 --latents x.png --out y.png", "holds no latents"),
        ("edit run --set sefa1=1 --out y.gif", "must end in .png"),
        ("directions run", "none"),
    ):
        assert run(line) == 2
        assert says in one_line(capsys)
    assert not Path("y.png").exists()


def test_latents_of_a_file_are_edited_instead_of_samples(lamp: Lamp, capsys: Say) -> None:
    latent = torch.zeros(2, NOISE + CLASSES)
    latent[:, 2] = torch.tensor([-3.0, 3.0])
    write_latents(Path("mine.npz"), latent, ["a.png", "b.png"])
    assert run("edit run --set sefa1=0 --latents mine.npz --out mine.png") == 0
    sheet = pixels("mine.png")
    assert sheet[sheet.shape[1] // 4, sheet.shape[1] // 4] < 100 < 156 < sheet[sheet.shape[1] // 4, 3 * sheet.shape[1] // 4]


def test_what_can_be_refused_is_refused_before_directions_are_looked_for(lamp: Lamp, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("edit run") == 2
    assert "e.g. --set sefa1=3; this game has sefa1 -3..3, " in one_line(capsys)
    monkeypatch.setattr(edit, "directions", lambda *_: pytest.fail("looked for"))
    write_latents(Path("wide.npz"), torch.zeros(2, 99), ["a", "b"])
    for line, says in (
        ("edit run --set sefa1=1 --latents wide.npz --out x.png", "this game's are [n, 6]"),
        ("edit run --set sefa1=1 --pick 1 --out x.png", "--pick: chooses among --latents"),
        ("directions run --n 39 --data shaded.npz", "39 samples: must be at least 40"),
    ):
        assert run(line) == 2
        assert says in one_line(capsys)


def test_directions_of_other_weights_are_said_to_be_and_a_broken_file_is_one_line(
    lamp: Lamp, shaded: Finite, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(Path("run"))
    write_directions(folder, use.learn_directions(lamp, SPEC, shaded, n=400))
    assert read_directions(folder)[1]
    assert run("edit run --set light=1 --out a.png") == 0
    assert capsys.readouterr().err == ""
    save_weights(Lamp(), folder.weights)
    assert not read_directions(folder)[1]
    assert run("edit run --set light=1 --out b.png") == 0
    assert "learnt of earlier weights" in one_line(capsys)
    folder.directions.write_bytes(b"nothing")
    assert run("edit run --set light=1 --out c.png") == 2
    assert "--force" in one_line(capsys)


def test_what_is_written_is_what_is_read(lamp: Lamp, shaded: Finite) -> None:
    learnt = use.learn_directions(lamp, SPEC, shaded, n=400)
    folder = RunFolder(Path("run"))
    write_directions(folder, learnt)
    read, _ = read_directions(folder)
    assert list(read) == list(learnt.directions)
    for name, direction in learnt.directions.items():
        assert (read[name].step == direction.step).all()
        assert (read[name].read, read[name].auc, read[name].confirmed) == (direction.read, direction.auc, direction.confirmed)
    write_directions(folder, Learnt({}, {}))
    assert read_directions(folder)[0] == {}


def test_a_game_that_edits_pictures_has_no_use_for_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.chdir(tmp_path)
    RunRecord("mine.Able", {}, SPEC, {"source": "in"}, {}, {}, "").write(RunFolder(Path("run")).record)
    monkeypatch.setattr(edit, "load", lambda path, device="cpu": Able())
    assert run("edit run --set red=1 --latents mine.npz --out x.png") == 2
    assert "name them after the run" in one_line(capsys)


def test_a_run_that_begins_anew_forgets_its_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(Path("run"))
    RunRecord("mine.Lamp", {}, SPEC, {"source": "none"}, {}, {}, "").write(folder.record)
    folder.directions.write_bytes(b"old")
    assert run("train gan --data gaussian --preset tiny --rounds 1 --out run --overwrite") == 0
    assert not folder.directions.exists()
