"""Two processes on one machine, for every game: two ranks are one rank with the whole batch; what is lost is told, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_job import BATCH, has_statistics, quiet, weights
from torch import Tensor, nn
from variants import Variant, variants

HERE = Path(__file__).parent
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes have filled."""
    out = tmp_path_factory.mktemp("ranks")
    job = subprocess.run([*LAUNCH, str(HERE / "ranks_job.py"), str(out)], env=QUIET, capture_output=True, text=True, timeout=300)
    assert job.returncode == 0, job.stderr[-3000:]
    return out


def alone(variant: Variant, batch: int, *, statistics: bool) -> dict[str, Tensor]:
    game = quiet(variant.build(), [0], keep_statistics=statistics)
    trainer = variant.trainer(game, batch_size=batch)
    for _ in range(2):
        trainer.play_round()
    return weights(game)


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor], variant: Variant) -> None:
    for name, value in expected.items():
        moved, apart = (value - start[name]).float().norm(), (value - found[name]).float().norm()
        assert apart <= 2e-3 * moved + 1e-6, f"{variant} {name}: {apart:.2e} apart after moving by {moved:.2e}"


def test_two_ranks_equal_one_with_the_whole_batch_in_every_game(left: Path) -> None:
    compared = 0
    for variant in variants():
        if variant.cls.couples_samples:
            continue
        first, second = (torch.load(left / f"{variant}-{rank}.pt") for rank in (0, 1))
        start = weights(variant.build())
        for key, batch in (("share", BATCH), ("accumulated", 2 * BATCH)):
            assert all(torch.equal(first[key][name], second[key][name]) for name in first[key]), f"{variant}: the ranks differ"
            assert_near(first[key], alone(variant, batch, statistics=False), start, variant)
            compared += 1
    assert compared > 10


def test_synchronised_batch_statistics_are_those_of_the_whole_batch(left: Path) -> None:
    with_statistics = [variant for variant in variants() if not variant.cls.couples_samples and has_statistics(variant)]
    assert with_statistics
    for variant in with_statistics:
        found = torch.load(left / f"{variant}-1.pt")["synchronised"]
        assert_near(found, alone(variant, BATCH, statistics=True), weights(variant.build()), variant)


def test_two_ranks_stopped_and_resumed_are_the_uninterrupted_run_bit_for_bit(left: Path) -> None:
    for variant in variants():
        if variant.preset == "tiny":
            for rank in (0, 1):
                found = torch.load(left / f"{variant}-{rank}.pt")
                assert all(torch.equal(found["whole"][name], found["resumed"][name]) for name in found["whole"]), f"{variant}, rank {rank}"


def test_ranks_draw_noise_of_their_own(left: Path) -> None:
    """Where batch statistics belong to the rank, so do the running ones: they differ as the noise does."""
    differ = []
    for variant in variants():
        if variant.preset == "tiny" and has_statistics(variant):
            first, second = (torch.load(left / f"{variant}-{rank}.pt")["whole"] for rank in (0, 1))
            differ += [name for name in first if "running" in name and not torch.equal(first[name], second[name])]
    assert differ


def test_buckets_average_and_overlapping_changes_no_bit(left: Path) -> None:
    stored = [torch.load(left / f"buckets-{rank}.pt") for rank in (0, 1)]
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    network(torch.cat([each["x"] for each in stored])).square().mean().backward()
    for each in stored:
        assert each["plain"][-1] is None, "nobody had a gradient for it"
        assert each["overlapped"][-1] is None
        for parameter, plain, overlapped in zip(network.parameters(), each["plain"], each["overlapped"], strict=False):
            torch.testing.assert_close(plain, parameter.grad)
            assert torch.equal(plain, overlapped)


def launched(out: Path, *options: str) -> subprocess.Popen[str]:
    train = ["-m", "ganforge", "train", "dcgan", "--preset", "tiny", "--out", str(out), *options]
    return subprocess.Popen([*LAUNCH, *train], env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended_well(run: subprocess.Popen[str]) -> bool:
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said[-2000:]
    return True


def workers_of(launcher: subprocess.Popen[str]) -> list[int]:
    """The processes that the launcher started, in the order of their ranks."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == launcher.pid and b"ganforge" in command:
            found.append(int(stat.parent.name))
    return sorted(found)


def wait_for(path: Path, launcher: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert launcher.poll() is None, launcher.communicate()[0][-2000:]
        assert time.monotonic() < until
        time.sleep(0.02)


def digest(out: Path) -> bytes:
    return (out / "game.safetensors").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc")
def test_a_killed_rank_is_told_of_at_once_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = launched(tmp_path / "whole", "--rounds", "240", "--checkpoint-every", "40")
    assert ended_well(whole)
    run = launched(tmp_path / "run", "--rounds", "240", "--checkpoint-every", "40")
    wait_for(tmp_path / "run" / "checkpoints" / "000040", run)
    os.kill(workers_of(run)[1], signal.SIGKILL)
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "rank 0 lost another rank" in said
    assert "the last good checkpoint is" in said
    again = launched(tmp_path / "run", "--rounds", "240", "--checkpoint-every", "40", "--resume")
    assert ended_well(again)
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_an_interrupt_of_the_launcher_stops_all_ranks_after_one_checkpoint_and_one_rank_can_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = launched(out, "--rounds", "100000", "--checkpoint-every", "30")
    wait_for(out / "checkpoints" / "000030", run)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert said.count("checkpoint written. To go on: ganforge train dcgan") == 1
    assert json.loads((out / "state.json").read_text())["status"] == "interrupted"
    stopped = max(int(path.name) for path in (out / "checkpoints").glob("[0-9]*"))
    line = [sys.executable, "-m", "ganforge", "train", "dcgan", "--preset", "tiny", "--out", str(out)]
    one = subprocess.run([*line, "--rounds", str(stopped + 20), "--resume"], env=QUIET, capture_output=True, text=True, timeout=120)
    assert one.returncode == 0, one.stderr
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["round"] == stopped + 20


def test_a_wrong_request_is_said_once_for_all_ranks(tmp_path: Path) -> None:
    run = launched(tmp_path / "run", "--rounds", "10", "--batch-size", "7")
    said, _ = run.communicate(timeout=60)
    complaints: list[Any] = [line for line in said.splitlines() if line.startswith("ganforge: ")]
    assert complaints == ["ganforge: phase play: a batch of 7 cannot be shared among 2 ranks; give --batch-size 8"]
    assert not (tmp_path / "run").exists()
