"""Stand-ins that do a task perfectly, and others that do nothing: what is measured of them is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganforge.batches import Attributed, Captioned, Labelled, LowHigh, Masked, Pairs, SemiLabelled, TwoDomains, Unpaired
from ganforge.data import Finite, Source, from_arrays, from_fields, open_source
from ganforge.errors import RequestError
from ganforge.metrics import evaluate, examine, material, readers
from ganforge.metrics.fidelity import l1, levels, psnr
from ganforge.metrics.restored import enlarged, mean_colour

SIDE = 12
N = 60


def patches(label: Tensor, seed: int = 0, side: int = SIDE) -> Tensor:
    """Grey pictures with one bright quarter, 0 to 3, which says the class, under a little noise: [n, 1, side, side] in [-1, 1]."""
    half = side // 2
    quarters = torch.zeros(len(label), 2, 2)
    quarters[torch.arange(len(label)), label // 2, label % 2] = 1
    bright = quarters.repeat_interleave(half, 1).repeat_interleave(half, 2)[:, None]
    grain = torch.rand(bright.shape, generator=torch.Generator().manual_seed(seed))
    return 1.2 * bright - 0.9 + 0.3 * grain


def in_bytes(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return images.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()


def kinds(n: int = N) -> Tensor:
    return torch.arange(n) % 4


def read(images: Tensor) -> Tensor:
    """Which quarter is brightest."""
    return nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 2).flatten(1).argmax(dim=1)


@pytest.fixture(autouse=True)
def _short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these pictures show is learned quickly."""
    monkeypatch.setattr(readers, "_STEPS", (60, 60))


@pytest.fixture(scope="module")
def quarters() -> Finite:
    return from_arrays(in_bytes(patches(kinds())), kinds().numpy())


def npz(path: Path, colour: float = 1.0, offset: int = 0, n: int = N) -> Path:
    """Labelled pictures with a part to test on."""
    both = [in_bytes(colour * patches(kinds(n), seed=offset + part)) for part in (1, 2)]
    label = kinds(n).numpy()
    np.savez(path, train_images=both[0], train_labels=label, test_images=both[1], test_labels=label)
    return path


class Sampler:
    """Latents hold the class."""

    def __init__(self, heed: bool = True) -> None:
        self.heed = heed

    def latent(self, n: int) -> Tensor:
        return self.latent_of_class(torch.randint(0, 4, (n,)))

    def latent_of_class(self, label: Tensor) -> Tensor:
        return label if self.heed else torch.zeros_like(label)

    def sample(self, latent: Tensor) -> Tensor:
        return patches(latent, seed=9)


class Answers:
    """Gives for a picture what is written for it, found by the picture itself."""

    def __init__(self, asked: Tensor, answer: Tensor) -> None:
        self.asked, self.answer = levels(asked).flatten(1), answer

    def __call__(self, images: Tensor) -> Tensor:
        return self.answer[torch.cdist(levels(images).flatten(1), self.asked).argmin(dim=1)]


def test_samples_of_the_class_asked_for_are_all_right_and_heedless_ones_at_chance(quarters: Finite) -> None:
    good, heedless = (evaluate(Sampler(heed), quarters, n=80) for heed in (True, False))
    assert good["of the class asked for"] == 1
    assert good["of the class asked for, real held-out"] == 1
    assert good["of the class asked for, chance"] == 0.25
    assert heedless["of the class asked for"] == 0.25
    assert heedless["of the class asked for, worst class"] == 0
    assert good["FID (classifier)"] < 0.2 * heedless["FID (classifier)"]
    assert good["classes covered"] == 4
    assert heedless["classes covered"] == 1


def test_fid_is_of_pixels_where_nothing_is_labelled_or_where_pixels_are_asked_for(quarters: Finite) -> None:
    bare = from_arrays(in_bytes(patches(kinds())))
    assert "FID (pixels)" in evaluate(_Plain(), bare, n=40)
    assert "FID (pixels)" in evaluate(_Plain(), quarters, n=40, features="pixels")
    with pytest.raises(RequestError, match="cannot be read as Labelled"):
        evaluate(_Plain(), bare, n=40, features="classifier")


class _Plain:
    def latent(self, n: int) -> Tensor:
        return torch.randint(0, 4, (n,))

    def sample(self, latent: Tensor) -> Tensor:
        return patches(latent, seed=5)


class Copies(_Plain):
    """Samples are the pictures that it was given."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures

    def latent(self, n: int) -> Tensor:
        return torch.arange(n)

    def sample(self, latent: Tensor) -> Tensor:
        return self.pictures[latent % len(self.pictures)]


def test_copies_of_training_pictures_are_at_distance_nought_and_held_out_pictures_at_one(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    stored = np.load(path)
    source = open_source(str(path), cache=str(tmp_path))
    for part, expected in (("train", 0), ("test", 1)):
        pictures = torch.from_numpy(stored[f"{part}_images"]).permute(0, 3, 1, 2) / 127.5 - 1
        scores = evaluate(Copies(pictures), source, n=N, features="pixels")
        assert scores["nearest training picture (pixels)"] == pytest.approx(expected, abs=1e-3)


def test_copies_are_told_by_pictures_of_their_own_data_whatever_they_are_measured_on(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    trained = open_source(str(path), cache=str(tmp_path))
    held = torch.from_numpy(np.load(path)["test_images"]).permute(0, 3, 1, 2) / 127.5 - 1
    # Far from all that was seen: beside such pictures any sample would look like a copy.
    other = from_arrays(in_bytes(-patches(kinds())))
    scores = evaluate(Copies(held), other, trained=trained, n=N, features="pixels", metrics=["memorisation"])
    assert scores["nearest training picture (pixels)"] == pytest.approx(1, abs=1e-3)


def test_pictures_of_none_of_the_classes_measure_nothing_and_are_named(quarters: Finite) -> None:
    images, places = in_bytes(patches(kinds())), kinds().numpy()
    other = from_arrays(images, places, classes=("red", "green", "blue", "white"))
    with pytest.raises(RequestError, match=r"the classes of '.*' are red, green, blue, white; the run's are 0, 1, 2, 3"):
        evaluate(Sorts(4), other, trained=quarters, metrics=["codes", "error"])
    asked = evaluate(Sampler(), other, trained=quarters, n=80, features="pixels", metrics=["classes"])
    # The classifier was taught on the run's own pictures; on these there is nothing that it could read right.
    assert asked == {"of the class asked for": 1, "of the class asked for, chance": 0.25, "of the class asked for, worst class": 1}


class Words:
    """The text is the one-hot place of a bright square."""

    def latent(self, n: int) -> Tensor:
        return torch.eye(16)[torch.arange(n) % 16]

    def latent_of_text(self, text: Tensor) -> Tensor:
        return text

    def sample(self, latent: Tensor) -> Tensor:
        return placed(latent)


class Deaf(Words):
    def latent_of_text(self, text: Tensor) -> Tensor:
        return self.latent(1).expand_as(text)


def placed(text: Tensor) -> Tensor:
    return 1.8 * text.view(-1, 1, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3) - 0.9


def test_samples_of_their_text_are_found_first_and_those_of_a_deaf_game_at_chance() -> None:
    text = torch.eye(16).repeat(12, 1)
    source = from_fields(Captioned, image=in_bytes(placed(text)), text=text)
    heard, deaf = (evaluate(game, source, n=96) for game in (Words(), Deaf()))
    # Not each of the 16 texts need be among those held out.
    name = next(name for name in heard if name.startswith("own text among the first 1 "))
    assert heard[name] > 0.9
    assert heard[f"{name}, real held-out"] > 0.9
    assert heard[f"{name}, chance"] == pytest.approx(1 / int(name.split()[-1]))
    assert deaf[name] < 0.2


def test_equal_texts_of_a_batch_are_not_held_against_each_other() -> None:
    texts = nn.functional.normalize(torch.randn(30, 115, generator=torch.Generator().manual_seed(0)), dim=1).repeat(2, 1)
    loss = readers._which_text(texts, texts)
    logits = (texts[:30] @ texts[:30].T / 0.1).double()
    # Each of the two equal ones shares the probability that one alone would have.
    assert loss.item() == pytest.approx((math.log(2) - logits.log_softmax(dim=1).diagonal()).mean().item(), abs=1e-4)


class Sorts:
    def __init__(self, groups: int) -> None:
        self.groups = groups

    def cluster(self, x: Tensor) -> Tensor:
        return torch.eye(self.groups)[(read(x) + 1) % self.groups]

    def encode(self, x: Tensor) -> Tensor:
        return torch.eye(4)[read(x)]

    def classify(self, x: Tensor) -> Tensor:
        return torch.eye(4)[read(x) if self.groups == 4 else torch.zeros(len(x), dtype=torch.long)]


def test_groups_codes_and_classes_that_know_everything_have_the_best_values(quarters: Finite) -> None:
    scores = evaluate(Sorts(4), quarters)
    for name in ("cluster accuracy (matching)", "NMI", "ARI", "linear probe on codes", "5 nearest neighbours on codes"):
        assert scores[name] == pytest.approx(1)
    assert scores["error"] == 0
    assert scores["error, plain classifier"] == 0


def test_one_group_and_one_class_for_all_are_worth_chance(quarters: Finite) -> None:
    sections = {section.title: section for section in examine(Sorts(1), quarters)}
    values = {score.name: score.value for section in sections.values() for score in section.scores}
    assert values["cluster accuracy (matching)"] == 0.25
    assert values["NMI"] == pytest.approx(0)
    assert values["ARI"] == pytest.approx(0)
    assert values["error"] == 0.75
    assert sections["classes"].details["confusion (rows: true, columns: said)"] == [[15, 0, 0, 0]] * 4


def test_more_groups_than_classes_are_counted_by_majority(quarters: Finite) -> None:
    assert evaluate(Sorts(9), quarters)["cluster accuracy (majority)"] == 1


def test_a_game_of_few_labels_is_compared_with_a_classifier_of_just_those(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    trained = open_source(str(path), kinds=(SemiLabelled,), labels=8, cache=str(tmp_path))
    tested = open_source(str(path), kinds=(SemiLabelled,), split="test", labels=8, cache=str(tmp_path))
    scores = evaluate(Sorts(4), tested, trained=trained)
    assert scores["error"] == 0
    assert scores["error, plain classifier on the 8 labels"] < 0.5


class Adapts:
    ways = ("source2target",)

    def classify(self, x: Tensor) -> Tensor:
        return torch.eye(4)[read(-x)]

    def translate(self, image: Tensor, way: str) -> Tensor:
        return -image


class KeepsAll(Adapts):
    def translate(self, image: Tensor, way: str) -> Tensor:
        return image


def test_a_game_of_two_domains_is_tested_on_the_target_beside_a_classifier_of_the_source(tmp_path: Path) -> None:
    # The target is the negative: what is taught on the source alone reads it wrongly.
    here, there = npz(tmp_path / "a.npz"), npz(tmp_path / "b.npz", colour=-1, offset=5)
    trained, tested = (open_source(f"{here},{there}", kinds=(TwoDomains,), split=split, cache=str(tmp_path)) for split in ("train", "test"))
    target = open_source(str(there), kinds=(Labelled,), split="test", cache=str(tmp_path))
    scores, idle = (evaluate(game, tested, trained=trained) for game in (Adapts(), KeepsAll()))
    assert scores["error"] == 0
    assert scores["error, plain classifier, source only"] > 0.3
    assert evaluate(Adapts(), target, trained=trained)["error, plain classifier, source only"] > 0.3
    assert scores["source2target: label kept"] == 1
    assert scores["source2target: label kept, real held-out"] == 1
    assert idle["source2target: label kept"] == scores["source2target: label kept, untranslated"] < 0.7
    kid = "source2target: KID (classifier)"
    assert scores[kid] < 0.1 * scores[f"{kid}, untranslated"]
    assert idle[kid] == idle[f"{kid}, untranslated"]


class Swaps:
    ways = ("a2b", "b2a")

    def translate(self, image: Tensor, way: str) -> Tensor:
        return image + 0.4 if way == "a2b" else image - 0.4


class Shifts(Swaps):
    def translate(self, image: Tensor, way: str) -> Tensor:
        return image + 0.1


def test_what_goes_there_and_back_has_no_error_and_a_shift_has_its_levels() -> None:
    a = patches(kinds(40), seed=1) - 0.1
    b = patches(kinds(24), seed=2).clamp(-0.5, 0.9)
    source = from_fields(Unpaired, a=in_bytes(a[:24]), b=in_bytes(b))
    there_and_back, shifted = evaluate(Swaps(), source), evaluate(Shifts(), source)
    assert there_and_back["a2b: cycle error"] == 0
    assert shifted["b2a: cycle error"] == pytest.approx(0.2 * 127.5, abs=1.5)
    assert "a2b: KID (pixels), untranslated" in shifted
    assert "a2b: label kept" not in shifted


class Draws:
    ways = ("a2b",)

    def translate(self, image: Tensor, way: str) -> Tensor:
        return torch.full_like(image, 2 * torch.rand(()).item() - 1)


class Knows:
    ways = ("a2b",)

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self._b = Answers(a, b)

    def translate(self, image: Tensor, way: str) -> Tensor:
        return self._b(image)


@pytest.fixture(scope="module")
def aligned() -> tuple[Tensor, Tensor, Finite]:
    a, b = patches(kinds(20), seed=1), patches(3 - kinds(20), seed=2)
    return a, b, from_fields(Pairs, a=in_bytes(a), b=in_bytes(b))


def test_a_translation_that_knows_the_answer_is_perfect(aligned: tuple[Tensor, Tensor, Finite]) -> None:
    a, b, source = aligned
    scores = evaluate(Knows(a, b), source)
    assert scores["a2b: L1"] == 0
    assert scores["a2b: PSNR"] == 100
    assert scores["a2b: SSIM"] == pytest.approx(1)
    assert scores["a2b: diversity"] == 0
    assert scores["a2b: L1, input"] == pytest.approx(l1(levels(a), levels(b)).mean().item())
    assert scores["a2b: L1, mean picture"] == pytest.approx(
        l1(levels(b.mean(0, keepdim=True)).expand(20, -1, -1, -1), levels(b)).mean(), abs=1
    )


def test_diversity_is_the_mean_difference_of_answers_with_different_seeds(aligned: tuple[Tensor, Tensor, Finite]) -> None:
    answers = []
    for seed in range(7, 11):
        torch.manual_seed(seed)
        answers.append(levels(torch.rand(()).mul(2).sub(1).view(1, 1, 1, 1)).item())
    expected = np.mean([abs(x - y) for x, y in itertools.combinations(answers, 2)])
    assert evaluate(Draws(), aligned[2], seed=7)["a2b: diversity"] == pytest.approx(expected)


class Enlarges:
    reach = 2

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = answers

    def upscale(self, image: Tensor) -> Tensor:
        return self.answers(image) if self.answers else enlarged(image, 2)


def test_enlarging_is_measured_against_bicubic() -> None:
    high = patches(kinds(8), seed=3, side=24)
    low = nn.functional.avg_pool2d(high, 2)
    source = from_fields(LowHigh, low=in_bytes(low), high=in_bytes(high))
    perfect, plain = evaluate(Enlarges(Answers(low, high)), source), evaluate(Enlarges(), source)
    assert perfect["PSNR of Y"] == 100
    assert perfect["SSIM of Y"] == pytest.approx(1)
    assert plain["PSNR of Y"] == plain["PSNR of Y, bicubic"] == perfect["PSNR of Y, bicubic"] < 40
    assert plain["SSIM of Y"] == plain["SSIM of Y, bicubic"]


class Fills:
    def __init__(self, whole: Tensor | None = None) -> None:
        self.whole = whole

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        if self.whole is None:
            return mean_colour(image, mask)
        close = torch.cdist(image.flatten(1), (self.whole * (1 - mask[:1])).flatten(1)).argmin(dim=1)
        return torch.where(mask > 0, self.whole[close], image)


class Peeks(Fills):
    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        return image


def test_a_hole_is_measured_alone_and_what_was_in_it_is_not_shown() -> None:
    whole = torch.round((patches(kinds(8), seed=4) + 1) * 127.5) / 127.5 - 1
    mask = torch.zeros(8, SIDE, SIDE)
    mask[:, 3:9, 3:9] = 1
    source = from_fields(Masked, image=in_bytes(whole), mask=mask.numpy())
    perfect, mean, peeked = (evaluate(game, source) for game in (Fills(whole), Fills(), Peeks()))
    assert (perfect["PSNR in the hole"], perfect["L1 in the hole"]) == (100, 0)
    assert mean["PSNR in the hole"] == mean["PSNR in the hole, mean colour"]
    grey = psnr(torch.full_like(whole, 128).double(), levels(whole), mask[:, None]).mean().item()
    assert peeked["PSNR in the hole"] == pytest.approx(grey)


class Dials:
    dials: Mapping[str, tuple[float, float]] = {"left": (0.0, 1.0), "sound": (0.0, 1.0)}

    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        made = image.clone()
        made[..., : SIDE // 2] = 1.6 * values["left"] - 0.8
        return made


class Stuck(Dials):
    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        return image


def test_edits_that_are_seen_are_confirmed_and_those_that_do_nothing_are_not() -> None:
    has = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (N, 2))).float()
    image = torch.full((N, 1, SIDE, SIDE), -0.8)
    image[..., : SIDE // 2] += 1.6 * has[:, :1, None, None]
    image[..., SIDE // 2 :] += 1.6 * has[:, 1:, None, None]
    source = from_fields(Attributed, image=in_bytes(image), attribute=has, attributes=("left", "right"))
    scores, stuck = evaluate(Dials(), source), evaluate(Stuck(), source)
    assert scores["left: edits confirmed"] == 1
    assert scores["left: edits confirmed, classifier on real, balanced"] == 1
    assert scores["left: change when asked for what is"] == pytest.approx(0, abs=0.5)
    assert stuck["left: edits confirmed"] == scores["left: edits confirmed, not edited"] == 0
    assert not any(name.startswith("right") for name in scores)


class Noticed(nn.Module, Sampler):
    """A network, in training, with statistics that a forward pass in training would change."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.heed = True
        self.norm = nn.BatchNorm2d(1)

    def sample(self, latent: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        made: Tensor = self.norm(patches(latent, seed=9))
        return made.clamp(-1, 1)


def test_the_game_and_the_random_state_are_left_as_they_were(quarters: Finite) -> None:
    game = Noticed().train()
    before = {name: value.clone() for name, value in game.state_dict().items()}
    state = torch.get_rng_state()
    first = evaluate(game, quarters, n=40, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert game.training
    assert game.norm.training
    assert all(torch.equal(value, before[name]) for name, value in game.state_dict().items())
    torch.manual_seed(123)
    assert evaluate(game, quarters, n=40, seed=5) == first
    assert evaluate(game, quarters, n=40, seed=6) != first


def test_no_score_depends_on_how_many_pictures_are_looked_at_at_a_time(quarters: Finite, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, sorts = evaluate(Sampler(), quarters, n=50), evaluate(Sorts(4), quarters, n=50)
    monkeypatch.setattr(material, "CHUNK", 7)
    assert evaluate(Sorts(4), quarters, n=50) == pytest.approx(sorts, rel=1e-5, abs=1e-5)
    assert evaluate(Sampler(), quarters, n=50) == pytest.approx(sampler, rel=1e-5, abs=1e-5)


def test_what_a_classifier_learned_is_kept_for_the_next_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source: Source = open_source(str(npz(tmp_path / "a.npz")), cache=str(tmp_path / "cache"))
    monkeypatch.setattr(readers, "_recent", {})
    first = evaluate(Sampler(), source, n=40)
    (kept,) = (tmp_path / "cache").glob("reader-*.safetensors")
    teach = readers._teach
    monkeypatch.setattr(readers, "_recent", {})
    monkeypatch.setattr(readers, "_teach", lambda *_: pytest.fail("it was taught again"))
    assert evaluate(Sampler(), source, n=40) == first
    monkeypatch.setattr(readers, "_recent", {})
    monkeypatch.setattr(readers, "_teach", teach)
    kept.write_bytes(b"torn")
    assert evaluate(Sampler(), source, n=40) == first


@pytest.mark.parametrize(
    ("game", "options", "words"),
    [
        (object(), {}, "nothing can be measured: object does no task"),
        (Sorts(4), {}, "has no labels; name labelled pictures"),
        (Draws(), {}, "neither pairs nor of two domains"),
        (Sorts(4), {"n": 1}, "n = 1"),
        (Sorts(4), {"features": "inceptoin"}, "'inceptoin'.*did you mean inception"),
        (Sorts(4), {"features": "clip"}, "'clip'.*auto, pixels, classifier, inception, classifier:RUN, and files that end in"),
        (Sorts(4), {"metrics": ["nmi", "groups"]}, "'nmi'.*there are points, manifold, fid, kid"),
        (Sorts(4), {"metrics": ["group"]}, "'group'; did you mean groups"),
        (Sorts(4), {"metrics": ["edits"]}, "Sorts does nothing that is measured by edits"),
        (Sampler(), {"metrics": ["points"]}, "are pictures: they are measured by manifold, fid"),
        (Draws(), {"metrics": ["pairs"]}, "translations of data 'arrays' are measured by domains"),
    ],
)
def test_what_cannot_be_measured_is_one_line(game: object, options: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        evaluate(game, from_arrays(in_bytes(patches(kinds()))), **options)
    assert "\n" not in str(raised.value)


def test_labels_may_come_from_another_source(quarters: Finite) -> None:
    bare = from_arrays(in_bytes(patches(kinds(), seed=3)))
    assert evaluate(Sorts(4), bare, labels=(quarters, quarters))["NMI"] == pytest.approx(1)


def test_what_could_not_be_measured_is_said(quarters: Finite) -> None:
    bare = from_arrays(in_bytes(patches(kinds())))
    sections = examine(Sampler(), bare, n=40)
    assert [section.title for section in sections] == ["samples"]
    assert [note.partition(":")[0] for note in sections[-1].notes] == [
        "inception-score not measured",
        "memorisation not measured",
        "FID (pixels)",
        "not measured",
    ]
    assert sections[-1].notes[-1] == "not measured: data 'arrays' has no classes"
