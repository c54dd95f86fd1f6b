"""Runs side by side: which is best, what may stand in one row, what is measured anew, what the table and the picture hold."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makeshift import SPEC, Sampler, Say, one_line, run
from PIL import Image
from torch import Tensor, nn

from ganforge import zoo
from ganforge.batches import Batch, Images, ImageSpec, Labelled, LowHigh, Masked, Pairs, SemiLabelled, images_to_bytes
from ganforge.capabilities import sampler
from ganforge.commands import measured as command
from ganforge.commands import side_by_side
from ganforge.commands.compare import CompareOptions, compare
from ganforge.commands.measured import Entry
from ganforge.commands.side_by_side import drawn
from ganforge.data import from_arrays, from_fields, open_source
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.metrics import Score, Section, examine, readers
from ganforge.metrics.comparing import Measured, MixedError, identity
from ganforge.metrics.comparing import compare as table_of
from ganforge.pictures.rows import labelled, tiled
from ganforge.runs import RunFolder, RunRecord, to_json
from ganforge.use.load import load
from ganforge.use.sample import draw
from ganforge.use.seeds import seeded
from ganforge.weights import save_weights

OPTIONS = "--n 24 --metrics fid,kid"


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))


def of(name: str, *scores: Score, seed: int = 0, configuration: str | None = None, **more: Any) -> Measured:
    return Measured(name, [Section("samples", list(scores))], seed=seed, configuration=configuration, **more)


def pictures(path: Path, seed: int = 0) -> Path:
    chance = np.random.default_rng(seed)
    train, test = chance.integers(0, 256, (2, 40, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=train, test_images=test)
    return path


def made(folder: Path, seed: int = 0, lr: float = 0.1, data: str = "in.npz", size: int = 8, **reading: Any) -> Path:
    """A run as training leaves it, of a tiny game whose weights follow from the seed."""
    spec, cls = ImageSpec(size, size, 1), zoo.find("dcgan")
    hyper = {**{key: value for key, value in cls.presets["tiny"].options.items() if key in ("width", "latent_dim")}, "lr": lr}
    torch.manual_seed(seed)
    record = RunRecord("dcgan", hyper, spec, {"source": data, "kind": "Images", **reading}, {"rounds": 5, "seed": seed}, {}, "")
    record.outcome = {"rounds": 5, "seconds": 2.0 + 2 * seed, "peak_mib": 100.0}
    record.write(RunFolder(folder).record)
    save_weights(cls(spec, **hyper), RunFolder(folder).weights)
    return folder


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Two seeds of one configuration, and a run of another learning rate, in the folder where the test now is."""
    monkeypatch.chdir(tmp_path)
    pictures(Path("in.npz"))
    for name, seed, lr in (("slow-seed0", 0, 0.1), ("slow-seed1", 1, 0.1), ("fast", 0, 0.2)):
        made(Path(name), seed, lr)
    return "slow-seed0", "slow-seed1", "fast"


def kept(run: str) -> Path:
    """The only evaluation that the run keeps."""
    (path,) = Path(run, "evaluations").iterdir()
    return path


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each run that is measured."""
    found: list[str] = []

    def counting(*given: Any, **options: Any) -> list[Section]:
        found.append("measured")
        return examine(*given, **options)

    monkeypatch.setattr(command, "examine", counting)
    return found


def test_the_best_of_a_row_is_the_lowest_or_the_highest_as_its_score_says() -> None:
    runs = [
        of(name, Score("FID", fid, better="lower"), Score("recall", recall, better="higher"), Score("classes", fid))
        for name, fid, recall in (("a", 3.0, 0.2), ("b", 1.0, 0.9), ("c", 2.0, 0.5))
    ]
    table = table_of(runs)
    best = {row.name: [cell is not None and cell.best for cell in row.cells] for row in table.rows}
    assert best == {"FID": [False, True, False], "recall": [False, True, False], "classes": [False, False, False]}
    reversed_best = [cell is not None and cell.best for cell in table_of([*runs[:1], *runs[2:]]).row("FID").cells]
    assert reversed_best == [False, True]


@pytest.mark.parametrize(
    ("values", "best"), [((1.0, 1.0), (False, False)), ((1.0, 1.0, 2.0), (True, True, False)), ((math.nan, 3.0, 4.0), (False, True, False))]
)
def test_equals_are_equally_good_and_what_is_no_number_is_not_the_best(values: tuple[float, ...], best: tuple[bool, ...]) -> None:
    row = table_of([of(str(number), Score("FID", value, better="lower")) for number, value in enumerate(values)]).row("FID")
    assert tuple(cell is not None and cell.best for cell in row.cells) == best


def test_seeds_of_one_configuration_are_a_column_of_their_mean_and_deviation() -> None:
    runs = [
        of(f"w-{seed}", Score("FID", value), seed=seed, configuration="w", costs={"seconds": value})
        for seed, value in enumerate((2.0, 4.0, 9.0))
    ]
    table = table_of([*runs, of("other", Score("FID", 7.0), configuration="o")])
    assert [(column.name, column.runs) for column in table.columns] == [("w", ("w-0", "w-1", "w-2")), ("other", ("other",))]
    for row in (table.row("FID"), table.row("seconds")):
        cell = row.cells[0]
        assert cell is not None
        assert (cell.value, cell.runs) == (5.0, 3)
        # (2 - 5)^2 + (4 - 5)^2 + (9 - 5)^2 = 26, over 2.
        assert cell.deviation == pytest.approx(math.sqrt(13))
    assert table.row("seconds").cells[1] is None
    assert "| runs | 3 | 1 |" in table.markdown()
    assert "5.000 ± 3.606" not in table.markdown()
    assert "5 ± 3.606" in table.markdown()


def test_each_run_has_its_own_column_where_that_is_asked_for_or_where_seeds_come_twice() -> None:
    runs = [of(name, Score("FID", 1.0), seed=seed, configuration="w") for name, seed in (("a", 0), ("b", 1))]
    assert len(table_of(runs).columns) == 1
    assert len(table_of(runs, each=True).columns) == 2
    assert len(table_of([*runs, of("c", Score("FID", 1.0), seed=1, configuration="w")]).columns) == 3
    assert len(table_of([replace(run, configuration=None) for run in runs]).columns) == 2


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("wgan-seed0", "wgan-seed1"), "wgan"),
        (("wgan_s10", "wgan_s11"), "wgan"),
        (("lr0.1-0", "lr0.1-1"), "lr0.1"),
        (("seed0", "seed1"), "seed0 and 1 more"),
        (("red", "blue"), "red and 1 more"),
    ],
)
def test_a_group_is_called_what_its_runs_have_in_common(names: tuple[str, str], name: str) -> None:
    runs = [of(each, Score("FID", 1.0), seed=seed, configuration="w") for seed, each in enumerate(names)]
    assert table_of(runs).columns[0].name == name


def test_numbers_of_two_extractors_or_of_two_sets_of_pictures_are_refused_by_name() -> None:
    with pytest.raises(MixedError, match=r"FID: a was measured in the features of inception 1, b in those of pixels 2"):
        table_of([of("a", Score("FID", 1.0, space="inception 1")), of("b", Score("FID", 1.0, space="pixels 2"))])
    with pytest.raises(RequestError, match=r"a was measured on data 12ab, b on 34cd"):
        table_of([of("a", Score("FID", 1.0), data="12ab"), of("b", Score("FID", 1.0), data="34cd")])
    with pytest.raises(RequestError, match="each once"):
        table_of([of("a", Score("FID", 1.0)), of("a", Score("FID", 1.0))])


def test_what_only_some_have_is_a_dash_and_what_stands_beside_is_shown_where_it_is_the_same_for_all() -> None:
    a = of("a", Score("FID", 1.0, beside={"other real": 0.5, "spread": 0.1}), Score("error", 0.25, beside={"plain": 0.5}))
    b = of("b", Score("FID", 2.0, beside={"other real": 0.5, "spread": 0.2}))
    table = table_of([a, b])
    assert table.row("FID").beside == {"other real": 0.5}
    assert "| FID | 1.000 | 2 | other real 0.500 |" in table.markdown()
    assert "| error | 0.250 | - | plain 0.500 |" in table.markdown()
    seeds = table_of([replace(run, configuration="w", seed=seed) for seed, run in enumerate((a, b))])
    assert "0.250 (1 of 2)" in seeds.markdown()


def test_a_note_names_the_runs_of_which_it_is_true_unless_these_are_all() -> None:
    def noted(name: str, *notes: str) -> Measured:
        return Measured(name, [Section("codes", [Score("probe", 1.0)], list(notes))])

    table = table_of([noted("a", "of 8 numbers", "odd"), noted("b", "of 8 numbers"), noted("c", "of 8 numbers", "odd")])
    assert table.notes == ("codes: of 8 numbers", "a, c: codes: odd")


def test_markdown_has_as_many_cells_in_every_line_and_marks_the_best() -> None:
    names = ("a|b", "plain")
    scores = [Score("L1", value, "of 255", {"input|raw": 9.0}, "lower") for value in (1.5, 2.5)]
    text = table_of(
        [of(name, score, game="g", costs={"rounds": 5}) for name, score in zip(names, scores, strict=True)], about="how"
    ).markdown("x.png")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert [len(line) for line in cells] == [5] * 5
    assert cells[0] == ["", r"a\|b", "plain", "better", "beside"]
    assert cells[3] == ["L1 [of 255]", "**1.500**", "2.500", "lower", r"input\|raw 9"]
    assert cells[4] == ["rounds", "5", "5", "", ""]
    assert text.startswith("how\n\n|")
    assert "![side by side](x.png)" in text


def test_the_same_pictures_are_known_whatever_is_read_of_them_and_others_are_not(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    images, labels = chance.integers(0, 256, (30, 12, 16), dtype=np.uint8), np.arange(30) % 3
    path = str(tmp_path / "in.npz")
    np.savez(path, images=images, labels=labels)

    def known(kind: type[Batch], **options: Any) -> str:
        return identity(open_source(path, kinds=(kind,), **{"size": 8, **options}), kind)

    same = {known(kind, labels=6) for kind in (Images, Labelled, SemiLabelled)}
    assert len(same) == 1
    others = [known(Images, size=6), known(Images, fit="stretch"), known(Masked), known(Masked, mask="block"), known(LowHigh)]
    images[29, 5, 5] += 1
    np.savez(path, images=images, labels=labels)
    assert len({*same, *others, known(Images)}) == 7
    assert identity(open_source("ring")) == "ring"
    assert identity(from_arrays(images)) != identity(from_arrays(images[:29]))


def test_the_command_groups_seeds_and_writes_a_table_a_record_and_a_picture(three: tuple[str, ...], capsys: Say) -> None:
    assert run(f"compare {' '.join(three)} {OPTIONS} --out found") == 0
    out, err = capsys.readouterr()
    assert err.count("measuring") == 3
    assert "test part" in out
    stored = json.loads(Path("found.json").read_text(encoding="utf-8"))
    again = compare(three, CompareOptions(n=24, metrics="fid,kid"))
    assert to_json(asdict(again)) == stored
    assert [(column["name"], len(column["runs"])) for column in stored["columns"]] == [("slow", 2), ("fast", 1)]
    fid = [json.loads(kept(name).read_text())["measures"]["FID (pixels)"] for name in three]
    row = again.row("FID (pixels)")
    assert row.cells[0] is not None
    assert row.cells[1] is not None
    assert row.cells[0].value == pytest.approx((fid[0] + fid[1]) / 2)
    assert row.cells[0].deviation == pytest.approx(abs(fid[0] - fid[1]) / math.sqrt(2))
    assert row.cells[1].value == fid[2]
    assert row.cells[1].best == (fid[2] < (fid[0] + fid[1]) / 2)
    seconds = again.row("seconds").cells[0]
    assert seconds is not None
    assert seconds.value == 3.0
    text = Path("found.md").read_text(encoding="utf-8")
    assert text == again.markdown("found.png")
    assert again._repr_markdown_() in text
    assert Path("found.png").stat().st_size > 0
    assert sum(line.endswith(("found.md", "found.json", "found.png")) for line in out.splitlines()) == 3


def test_the_table_that_is_printed_marks_the_same_best(three: tuple[str, ...], capsys: Say) -> None:
    assert run(f"compare {' '.join(three)} {OPTIONS} --each") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("FID"))
    row = compare(three, CompareOptions(n=24, metrics="fid,kid", each=True)).row("FID (pixels)")
    values = re.findall(r"\d+\.\d+ [ *]", line)
    assert [value.endswith("*") for value in values[:3]] == [cell is not None and cell.best for cell in row.cells]
    assert sum(value.endswith("*") for value in values) == 1


def test_an_evaluation_is_used_again_only_where_it_was_made_just_so_of_these_weights(three: tuple[str, ...], examined: list[str]) -> None:
    def measured(**options: Any) -> int:
        before = len(examined)
        compare(three, CompareOptions(**{"n": 24, "metrics": "fid", **options}))
        return len(examined) - before

    assert measured() == 3
    assert measured() == 0
    assert measured(each=True) == 0
    whole = kept("fast").read_text()
    kept("fast").write_text(whole[:200])
    assert measured() == 1
    assert kept("fast").read_text() == whole
    for other in ({"n": 20}, {"seed": 1}, {"split": "train"}, {"metrics": "fid,kid"}, {"features": "pixels"}):
        assert measured(**other) == 3, other
        assert measured(**other) == 0, other
    # None of these was lost by the others.
    assert measured() == 0
    made(Path("fast"), seed=7, lr=0.2)
    assert measured() == 1
    made(Path("fast"), lr=0.2)
    assert measured() == 0
    pictures(Path("in.npz"), seed=1)
    assert measured() == 3


def test_numbers_that_another_extractor_gave_earlier_are_measured_anew(three: tuple[str, ...], examined: list[str]) -> None:
    options = CompareOptions(n=24, metrics="fid")
    first = compare(three, options)
    path = kept("fast")
    stored = json.loads(path.read_text())
    stored["sections"][0]["scores"][0] |= {"space": "pixels of another day", "value": 0.0}
    path.write_text(json.dumps(stored))
    del examined[:]
    assert compare(three, options).rows == first.rows
    assert len(examined) == 3


def test_what_evaluate_found_in_just_this_way_is_used_and_its_file_is_left_alone(three: tuple[str, ...], examined: list[str]) -> None:
    assert run("evaluate fast --n 24 --metrics fid --split test") == 0
    assert run("evaluate fast --n 24 --metrics kid,fid --split test") == 0
    found, evaluations = Path("fast", "evaluation.json").read_text(), sorted(Path("fast", "evaluations").iterdir())
    assert found in [path.read_text() for path in evaluations]
    assert len(evaluations) == 2
    del examined[:]
    compare(three, CompareOptions(n=24, metrics="fid"))
    assert len(examined) == 2
    compare(three, CompareOptions(n=24, metrics="fid", split="train"))
    assert len(examined) == 5
    assert Path("fast", "evaluation.json").read_text() == found


def test_runs_that_read_their_pictures_with_other_chance_are_measured_on_the_same(three: tuple[str, ...]) -> None:
    Path("photos").mkdir()
    for number in range(12):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20), dtype=np.uint8)).save(f"photos/{number}.png")
    made(Path("calm"), data="photos", jitter=0, flip=False)
    made(Path("shaken"), data="photos", jitter=4, flip=True, lr=0.3)
    table = compare(["calm", "shaken"], CompareOptions(n=8, metrics="fid"))
    # The weights are the same, and so must be the numbers.
    cells = table.row("FID (pixels)").cells
    assert cells[0] is not None
    assert cells[0] == cells[1]


def test_a_run_that_has_diverged_is_named_and_does_not_hide_the_others(three: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    captured_rows = captured(monkeypatch)
    game = RunRecord.read(Path("fast", "run.json")).build()
    with torch.no_grad():
        for parameter in game.parameters():
            parameter.fill_(math.nan)
    save_weights(game, Path("fast", "game.safetensors"))
    assert run(f"compare {' '.join(three)} {OPTIONS} --out found") == 1
    text = Path("found.md").read_text(encoding="utf-8")
    assert re.search(r"- fast: not measured: .*diverged", text)
    assert re.search(r"\| FID \(pixels\) \| [^|]*± [^|]*\| - \|", text)
    assert list(captured_rows) == list(three[:2])


def test_what_cannot_be_written_is_said_after_the_table(three: tuple[str, ...], capsys: Say) -> None:
    Path("fast", "evaluations").touch()
    assert run(f"evaluate fast {OPTIONS}") == 0
    assert run(f"compare fast slow-seed0 {OPTIONS}") == 0
    Path("fast", "evaluation.json").unlink()
    Path("fast", "evaluation.json").mkdir()
    capsys.readouterr()
    assert run(f"evaluate fast {OPTIONS}") == 1
    out, err = capsys.readouterr()
    assert "FID (pixels)" in out
    assert re.fullmatch(r"ganforge: fast/evaluation\.json: cannot be written \(.*\); --out FILE\.json writes elsewhere\n", err)
    assert [path.name for path in Path("fast").iterdir() if path.name.startswith(".")] == []


def test_an_evaluation_that_is_interrupted_leaves_what_was_there(three: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"evaluate fast {OPTIONS}") == 0
    before = {path: path.read_bytes() for path in Path().rglob("*.json")}

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "examine", interrupted)
    assert run("evaluate fast --n 20") == 130
    assert run("compare fast slow-seed0 --n 20") == 130
    assert {path: path.read_bytes() for path in Path().rglob("*.json")} == before


def test_pictures_that_are_left_out_are_said_and_tables_that_are_no_terminal_s_are_not_folded(three: tuple[str, ...], capsys: Say) -> None:
    Path("photos").mkdir()
    for number in range(12):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 9), dtype=np.uint8)).save(f"photos/{number}.png")
    Path("photos/bad.png").write_bytes(b"no picture")
    assert run("evaluate fast --data photos --n 12") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1 of 13 files skipped: bad.png")
    measures = json.loads(Path("fast", "evaluation.json").read_text())["measures"]
    assert all(any(line.startswith(name) for line in lines) for name in measures)


def test_an_evaluation_does_not_see_the_chance_of_training(three: tuple[str, ...]) -> None:
    made(Path("calm"))
    made(Path("shaken"), flip=True, jitter=4)
    for name in ("calm", "shaken"):
        assert run(f"evaluate {name} --n 24 --split test") == 0
    calm, shaken = (json.loads(Path(name, "evaluation.json").read_text())["measures"] for name in ("calm", "shaken"))
    assert calm == shaken


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compare", "name two runs or more"),
        ("compare fast", "name two runs or more"),
        ("compare fast gone", "gone: not a run folder (it has no run.json)"),
        ("compare fast empty", "empty: not a run folder (it has no run.json)"),
        ("compare fast unfinished", "unfinished: has no game.safetensors yet"),
        ("compare fast ./fast", "fast: is named twice"),
        ("compare fast large", "fast is of 8x8, grey, large of 16x16, grey: only runs of one shape"),
        ("compare fast elsewhere", "give --data SOURCE"),
        ("compare fast slow-seed0 --data gone.npz", "gone.npz"),
        ("compare fast slow-seed0 --n 1", "--n 1: measures need 2 samples or more"),
        ("compare fast slow-seed0 --metrics fit", "no measure is called 'fit'; did you mean fid?"),
        ("compare fast slow-seed0 --metrics fid --features whole.onnx", "whole.onnx: there is no such file"),
        ("evaluate fast --metrics ,", "--metrics ',': names no measure"),
        ("evaluate fast --n 1", "--n 1: measures need 2 samples or more"),
        ("evaluate fast --data ring", "data 'ring' is of points of dimension 2, the run of 8x8, grey"),
        ("evaluate fast --labelled ring", "data 'ring' is of points"),
        ("evaluate fast --features classifier:", "no extractor is called that; did you mean classifier?"),
        ("evaluate fast --out taken.json", "taken.json: exists; --force overwrites it"),
        ("evaluate fast --out taken", "--out taken: must end in .json"),
        ("evaluate orphan", "orphan was trained on it; --data SOURCE measures on other data"),
        ("compare fast slow-seed0 --out taken", "taken.json exists; --force overwrites it"),
    ],
)
def test_a_wrong_request_is_one_line(three: tuple[str, ...], line: str, said: str, capsys: Say) -> None:
    Path("empty").mkdir()
    made(Path("unfinished"), lr=0.3).joinpath("game.safetensors").unlink()
    made(Path("large"), size=16)
    pictures(Path("other.npz"), seed=5)
    made(Path("elsewhere"), data="other.npz")
    made(Path("orphan"), data="gone.npz")
    Path("taken.json").touch()
    assert run(line) == 2
    assert said in one_line(capsys)


def test_runs_of_different_data_are_compared_on_data_that_are_named(three: tuple[str, ...]) -> None:
    pictures(Path("other.npz"), seed=5)
    made(Path("elsewhere"), data="other.npz")
    table = compare(["fast", "elsewhere"], CompareOptions(data="in.npz", n=24, metrics="fid"))
    assert table.about.startswith("in.npz, test part, 24 samples")
    assert all(row.cells[0] is not None and row.cells[1] is not None for row in table.rows)


def test_features_that_each_run_s_own_data_taught_are_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "_STEPS", (2, 2))
    chance = np.random.default_rng(0)
    for name in ("a", "b", "both"):
        np.savez(f"{name}.npz", images=chance.integers(0, 256, (30, 8, 8), dtype=np.uint8), labels=np.arange(30) % 2)
        made(Path(name), data=f"{name}.npz")
    assert run("compare a b --data both.npz --n 20 --metrics fid") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        r"FID \(classifier\): a was measured in the features of classifier (\w+), b in those of classifier (?!\1)\w+; .*--labelled", said
    )
    assert run("compare a b --data both.npz --n 20 --metrics fid --labelled both.npz") == 0
    assert run("compare a b --data both.npz --n 20 --metrics fid --features pixels --force") == 0


def test_results_go_where_out_says(three: tuple[str, ...], capsys: Say) -> None:
    for out, where in (("tables/", "tables/compare"), ("lr0.1", "lr0.1"), ("named.md", "named")):
        assert run(f"compare fast slow-seed0 {OPTIONS} --out {out}") == 0
        assert all(Path(where + suffix).exists() for suffix in (".md", ".json", ".png"))
    assert run(f"compare fast slow-seed0 {OPTIONS} --out named") == 2
    assert run(f"compare fast slow-seed0 {OPTIONS} --out named --force") == 0


def test_the_picture_has_a_row_of_the_same_seeds_for_each_run(three: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = captured(monkeypatch)
    assert run(f"compare {' '.join(three)} {OPTIONS} --seed 3") == 0
    assert list(rows) == list(three)
    for name in three:
        with seeded(3):
            assert torch.equal(rows[name], draw(sampler(load(name)), len(rows[name])))


def captured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The rows of the picture that is drawn, by their labels."""
    found: dict[str, Tensor] = {}

    def keep(rows: list[tuple[str, Tensor]]) -> Any:
        found.update(rows)
        return labelled(rows)

    monkeypatch.setattr(side_by_side, "labelled", keep)
    return found


def entry(name: str, kind: str, source: Any) -> Entry:
    record = RunRecord("mine.Able", {}, SPEC, {"source": "in", "kind": kind}, {}, {}, "")
    return Entry(name, RunFolder(Path(name)), record, source)


class Translator(Game):
    """Answers every picture with its own brightness."""

    ways = ("a2b",)

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((), value))

    def translate(self, image: Tensor, way: str) -> Tensor:
        return self.weight.expand_as(image)


def test_translators_are_drawn_below_the_same_inputs_and_above_what_was_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randint(0, 256, (2, 20, 16, 16, 3), dtype=torch.uint8)
    source = from_fields(Pairs, a=a, b=b)
    games = {"dark": Translator(-1.0), "light": Translator(1.0)}
    monkeypatch.setattr(side_by_side, "load", lambda path, device: games[path.name])
    rows = captured(monkeypatch)
    drawn([entry(name, "Pairs", source) for name in games], seed=0, device="cpu")
    assert list(rows) == ["input", "dark", "light", "wanted"]
    assert (rows["dark"] == -1).all()
    assert (rows["light"] == 1).all()
    places = [next(i for i, each in enumerate(a) if torch.equal(each, picture)) for picture in images_to_bytes(rows["input"])]
    assert torch.equal(images_to_bytes(rows["wanted"]), b[places])


def test_runs_that_do_different_things_have_a_table_and_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randint(0, 256, (2, 20, 16, 16, 3), dtype=torch.uint8)
    games = {"translator": Translator(0.0), "sampler": Sampler()}
    monkeypatch.setattr(side_by_side, "load", lambda path, device: games[path.name])
    with pytest.raises(RequestError, match="they do different things"):
        drawn([entry(name, "Pairs", from_fields(Pairs, a=a, b=b)) for name in games], seed=0, device="cpu")


def test_rows_of_pictures_stand_below_each_other_at_the_same_place() -> None:
    chance = torch.Generator().manual_seed(0)
    large, small = torch.rand(3, 3, 8, 8, generator=chance) * 2 - 1, torch.rand(3, 1, 4, 4, generator=chance) * 2 - 1
    sheet = np.asarray(labelled([("large", large), ("a much longer name", small)]))
    wide = sheet.shape[1]
    scale = round(720 / 24)
    left = wide - (3 * (8 * scale + 2) + 2)
    tall = 8 * scale + 4
    assert sheet.shape == (2 * tall, wide, 3)
    for row, pictures in enumerate((images_to_bytes(large), images_to_bytes(small))):
        factor = 8 * scale // pictures.shape[1]
        for number, picture in enumerate(pictures.numpy()):
            top, start = row * tall + 2, left + 2 + number * (8 * scale + 2)
            shown = sheet[top : top + 8 * scale, start : start + 8 * scale]
            assert (shown == np.broadcast_to(picture, (*picture.shape[:2], 3)).repeat(factor, 0).repeat(factor, 1)).all()
    assert (sheet[:tall, :left] < 128).any()


def test_plots_are_tiled_without_loss() -> None:
    sheets = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    tiles = np.asarray(tiled(sheets))
    assert tiles.shape == (6, 8, 3)
    assert [tuple(tiles[y, x]) for y, x in ((0, 0), (0, 7), (5, 0), (5, 7))] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
