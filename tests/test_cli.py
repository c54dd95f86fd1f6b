"""The command line as a user runs it: subprocesses, real files, bad requests."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from ganforge.cli import COMMANDS, main

TINY = "--preset tiny --size 8 --channels 1 --batch-size 8"


def start(arguments: str, folder: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GANFORGE_CACHE": str(folder / "cache"),
        "PYTHONWARNINGS": "ignore",
        "COLUMNS": "100",
    }
    line = [sys.executable, "-m", "ganforge", *shlex.split(arguments)]
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ganforge(arguments: str, folder: Path, code: int = 0) -> tuple[str, str]:
    process = start(arguments, folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


def pictures(folder: Path, n: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of six rounds, `run`."""
    folder = tmp_path_factory.mktemp("trained")
    out, err = ganforge(f"train dcgan {TINY} --data digits --rounds 6 --checkpoint-every 2 --out run", folder)
    for name in ("samples/000006.png", "curves.png", "progress.gif", "game.safetensors"):
        assert f"run/{name}" in out
        assert (folder / "run" / name).stat().st_size > 0
    assert "Traceback" not in err
    return folder


def test_a_run_folder_holds_what_it_promises(trained: Path) -> None:
    run = trained / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["game"] == "dcgan"
    assert record["hyper"]["width"] == 4
    assert record["command"].startswith("ganforge train dcgan")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 6]
    assert {"loss/discriminator", "loss/generator", "real", "fake", "accuracy", "seconds", "speed", "phase"} <= rows[-1].keys()
    state = json.loads((run / "state.json").read_text())
    assert (state["status"], state["round"], state["rounds"]) == ("finished", 6, 6)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["000002", "000004", "000006"]
    assert list((run / "tensorboard").glob("events.*"))
    assert load_file(run / "game.safetensors").keys() >= load_file(run / "checkpoints/000006/game.safetensors").keys()


def test_sample_writes_the_same_grid_for_the_same_seed_and_single_files(trained: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ganforge(f"sample run --n 9 --seed {seed} --out {name}.png", trained)
    a, b, c = (pixels(trained / f"{name}.png") for name in "abc")
    assert (a == b).all()
    assert a.shape == c.shape
    assert (a != c).any()
    ganforge("sample run --n 3 --each single", trained)
    files = sorted((trained / "single").iterdir())
    assert len(files) == 3
    assert pixels(files[0]).shape == (8, 8)


def test_interpolate_writes_a_strip_and_an_animation(trained: Path) -> None:
    ganforge("interpolate run --seeds 1 2 --steps 4 --out strip.png", trained)
    ganforge("interpolate run --seeds 1 2 --steps 4 --out way.gif", trained)
    height, width = pixels(trained / "strip.png").shape
    assert width > 4 * height
    with Image.open(trained / "way.gif") as way:
        assert getattr(way, "n_frames", 1) > 1


def test_evaluate_measures_and_writes_json(trained: Path) -> None:
    out, _ = ganforge("evaluate run --n 200", trained)
    measures = json.loads((trained / "run" / "evaluation.json").read_text())["measures"]
    assert {"precision", "recall", "density", "coverage", "classes covered"} <= measures.keys()
    for name in measures:
        assert name in out


def test_every_command_has_its_help_and_says_where_its_words_go(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: ganforge {command}")
        assert COMMANDS[command][1].split(":")[0] in " ".join(out.split())


def test_a_run_is_asked_for_what_it_can_do(trained: Path) -> None:
    pictures(trained / "in", 2)
    for line, task in (
        ("translate run in --out made", "translate"),
        ("upscale run in --out made", "upscale"),
        ("classify run in", "classify"),
        ("sample run --class 3 --out made.png", "sample-class"),
    ):
        out, err = ganforge(line, trained, code=2)
        assert (out, err) == ("", f"ganforge: DCGAN cannot {task}; `ganforge list --can {task}` names the games that can\n")
    assert not list(trained.glob("made*"))


def test_list_info_and_data_speak_json(tmp_path: Path) -> None:
    games = json.loads(ganforge("list --json", tmp_path)[0])
    assert {"dcgan", "gan", "gan-1d", "curve-gan", "wgan-gp"} <= {game["name"] for game in games}
    info = json.loads(ganforge("info dcgan --size 32 --channels 1 --width 16 --json", tmp_path)[0])
    assert info["players"].keys() == {"discriminator", "generator"}
    assert all(count > 1000 for count in info["players"].values())
    assert info["hyper_parameters"]["width"] == {"default": 128, "value": 16, "help": info["hyper_parameters"]["width"]["help"]}
    assert info["reads"] == ["Images"]
    assert "sample" in info["can"]
    assert "arXiv:1511.06434" in info["paper"]
    data = json.loads(ganforge("data digits --json", tmp_path)[0])
    assert data["count"] == 1797
    assert "dcgan" in data["games"]


def test_help_and_a_misspelt_command_do_not_import_torch(tmp_path: Path) -> None:
    code = "import sys; from ganforge.cli import main; main({}); sys.exit('torch' in sys.modules)"
    for arguments in (["--help"], ["trian"], ["list"]):
        process = subprocess.run([sys.executable, "-c", code.format(arguments)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
    assert "did you mean 'train'" in ganforge("trian", tmp_path, code=2)[1]


def test_a_folder_of_pictures_trains_and_bad_files_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    out, _ = ganforge("data photos --size 8 --out sheet.png", tmp_path)
    assert "12" in out
    assert "broken.jpg" in out
    assert (tmp_path / "sheet.png").exists()
    ganforge(f"train dcgan {TINY} --channels 3 --data photos --rounds 2 --out run", tmp_path)
    assert json.loads((tmp_path / "run/run.json").read_text())["spec"]["channels"] == 3
    assert "broken.jpg" in ganforge(f"train dcgan {TINY} --data photos --strict --rounds 2 --out other", tmp_path, code=2)[1]
    assert not (tmp_path / "other").exists()


def test_the_weights_do_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "photos", 40)
    weights = []
    for workers in (1, 3):
        monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / f"cache{workers}"))
        out = tmp_path / f"run{workers}"
        assert main(shlex.split(f"train dcgan {TINY} --data {tmp_path / 'photos'} --workers {workers} --rounds 3 --out {out}")) == 0
        weights.append((out / "game.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_data_that_have_settings_of_their_own_are_pointed_to_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"train wgan-gp --data ring --width 4 --n-critic 1 --batch-size 4 --rounds 1 --out {tmp_path}"
    assert main(shlex.split(f"{line}/a")) == 0
    assert "--preset toy or --preset ring" in capsys.readouterr().err
    assert main(shlex.split(f"{line}/b --preset ring")) == 0
    assert "--preset" not in capsys.readouterr().err


def test_options_come_from_preset_then_config_then_command_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("latent_dim: 6\nlr: 0.001\nbetas: [0.1, 0.2]\nrounds: 3\nout: run\n")
    ganforge(f"train dcgan {TINY} --config mine.yaml --rounds 2 --lr 0.01", tmp_path)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["hyper"]["width"] == 4
    assert record["hyper"]["latent_dim"] == 6
    assert record["hyper"]["lr"] == 0.01
    assert record["hyper"]["betas"] == [0.1, 0.2]
    assert record["settings"]["rounds"] == 2


def test_resume_alone_goes_on_as_begun_and_may_go_further(tmp_path: Path) -> None:
    ganforge(f"train gan {TINY} --data digits --rounds 8 --seed 1 --out whole", tmp_path)
    ganforge(f"train gan {TINY} --data digits --rounds 3 --seed 1 --out parts", tmp_path)
    ganforge("train gan --resume --out parts --rounds 8", tmp_path)
    assert (tmp_path / "whole/game.safetensors").read_bytes() == (tmp_path / "parts/game.safetensors").read_bytes()
    rows = [json.loads(line)["round"] for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert rows == [1, 3, 8]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


ADAM = f"{TINY} --optimiser adam --lr 1e-4 --decay 1"
LONG = f"train gan {ADAM} --data digits --rounds 1200 --seed 1 --checkpoint-every 100 --sample-every 1200"


def test_killed_at_any_moment_and_resumed_the_weights_are_those_of_the_undisturbed_run(tmp_path: Path) -> None:
    ganforge(f"{LONG} --out whole", tmp_path)
    for delay in (0.0, 0.3):
        process = start(f"{LONG} --out killed --overwrite", tmp_path)
        wait_for(lambda: list((tmp_path / "killed/checkpoints").glob("[0-9]*")), process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        ganforge(f"{LONG} --out killed --resume", tmp_path)
        assert (tmp_path / "whole/game.safetensors").read_bytes() == (tmp_path / "killed/game.safetensors").read_bytes()


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    line = f"train gan {ADAM} --data digits --rounds 1000000 --checkpoint-every 1000000 --sample-every 1000000 --out run"
    process = start(line, tmp_path)
    wait_for(lambda: (tmp_path / "run/metrics.jsonl").exists() and (tmp_path / "run/metrics.jsonl").stat().st_size, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"ganforge {line} --resume" in err
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("[0-9]*")
    assert torch.load(checkpoint / "trainer.pt", weights_only=True)["round"] == int(checkpoint.name)
    assert json.loads((tmp_path / "run/state.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run/curves.png").exists()


def _truncated_jpeg(folder: Path) -> None:
    pictures(folder / "whole", 1)
    Image.open(folder / "whole/00.png").save(folder / "full.jpg")
    folder.joinpath("photos").mkdir()
    folder.joinpath("photos", "cut.jpg").write_bytes(folder.joinpath("full.jpg").read_bytes()[:200])


def _zero_byte(folder: Path) -> None:
    folder.joinpath("photos").mkdir()
    folder.joinpath("photos", "empty.png").touch()


def _text_files(folder: Path) -> None:
    folder.joinpath("photos").mkdir()
    folder.joinpath("photos", "notes.txt").write_text("no picture")


def _empty_folder(folder: Path) -> None:
    folder.joinpath("photos").mkdir()


def _npz_without_images(folder: Path) -> None:
    np.savez(folder / "data.npz", pictures=np.zeros((4, 8, 8), np.uint8))


def _floats_out_of_range(folder: Path) -> None:
    np.savez(folder / "data.npz", images=np.full((4, 8, 8), 300.0))


def _run_of_another_game(folder: Path) -> None:
    assert main(shlex.split(f"train gan {TINY} --data digits --rounds 1 --out {folder / 'run'}")) == 0


def _run_without_checkpoint(folder: Path) -> None:
    _run_of_another_game(folder)
    for file in sorted((folder / "run/checkpoints").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


def _file_in_the_way(folder: Path) -> None:
    folder.joinpath("file").write_text("in the way")


def _nothing(folder: Path) -> None:
    pass


BAD_REQUESTS = [
    ("unknown game", _nothing, "train dcgam --data digits", ["dcgam", "did you mean 'dcgan'"]),
    ("misspelt option", _nothing, "train dcgan --latent-dimm 3", ["--latent-dimm", "did you mean --latent-dim"]),
    ("text for a number", _nothing, "train dcgan --rounds ten", ["--rounds 'ten'", "whole number"]),
    ("negative rounds", _nothing, "train dcgan --rounds -5", ["--rounds -5", "at least 0"]),
    ("empty folder", _empty_folder, "train dcgan --data photos", ["photos"]),
    ("folder of text files", _text_files, "train dcgan --data photos", ["photos"]),
    ("truncated JPEG", _truncated_jpeg, "train dcgan --data photos --strict", ["cut.jpg"]),
    ("size not a power of two", _nothing, "train dcgan --data digits --size 48", ["48x48", "32, 64"]),
    ("channels 2", _nothing, "train dcgan --data digits --channels 2", ["--channels 2", "1", "3"]),
    ("resume of a run of another game", _run_of_another_game, "train dcgan --data digits --out run --resume", ["run of gan", "--out"]),
    ("run folder without a checkpoint", _run_without_checkpoint, "train gan --out run --resume", ["run", "no checkpoint", "--overwrite"]),
    ("unwritable output", _file_in_the_way, "train dcgan --data digits --out file/run", ["file/run", "cannot be written"]),
    ("npz without images", _npz_without_images, "train dcgan --data data.npz", ["data.npz", "images", "pictures"]),
    ("float images out of range", _floats_out_of_range, "train dcgan --data data.npz", ["data.npz", "300"]),
    ("zero-byte file", _zero_byte, "train dcgan --data photos --strict", ["empty.png"]),
    ("unknown data", _nothing, "train dcgan --data nowhere", ["nowhere", "digits"]),
    ("points for pictures", _nothing, "train dcgan --data ring", ["ring", "dcgan reads Images", "Points"]),
    ("unknown device", _nothing, "train dcgan --device abacus", ["abacus", "cuda"]),
    (
        "bad config",
        lambda folder: folder.joinpath("c.yaml").write_text("lr: fast"),
        "train dcgan --config c.yaml",
        ["c.yaml", "--lr 'fast'"],
    ),
    ("no run", _nothing, "sample nowhere", ["nowhere"]),
    ("run exists", _run_of_another_game, "train gan --data digits --out run", ["holds a run", "--resume", "--overwrite"]),
]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "cache" not in p.parts and p.name != "run.lock"
    }


@pytest.mark.parametrize(
    ("prepare", "line", "says"), [row[1:] for row in BAD_REQUESTS], ids=[row[0].replace(" ", "-") for row in BAD_REQUESTS]
)
def test_a_bad_request_is_one_line_and_leaves_everything_as_it_was(
    prepare: Callable[[Path], object],
    line: str,
    says: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In this process, as 21 times the import of torch would be a minute.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))
    prepare(tmp_path)
    before = tree(tmp_path)
    capsys.readouterr()
    assert main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("ganforge: ")
    for word in says:
        assert word in err
    assert tree(tmp_path) == before


def test_a_bad_request_exits_with_2_in_a_process_of_its_own(tmp_path: Path) -> None:
    out, err = ganforge("train dcgan --latent-dimm 3", tmp_path, code=2)
    assert (out, err) == ("", "ganforge: option --latent-dimm is unknown; did you mean --latent-dim?\n")
