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
from safetensors.torch import load_file
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
        # A bias that batch normalisation takes away again moves by rounding errors alone.
        assert apart <= 2e-3 * moved + 1e-4, f"{variant} {name}: {apart:.2e} apart after moving by {moved:.2e}"


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


def troubles(left: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the first rank and what the second one was told of the run of this name."""
    first, second = (json.loads((left / f"trouble-{rank}.json").read_text())[name] for rank in (0, 1))
    return first, second


def status(left: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((left / name / "state.json").read_text()))


def test_the_same_processes_can_train_again_and_all_get_the_averaged_weights(left: Path) -> None:
    results = [*troubles(left, "once"), *troubles(left, "again")]
    game = load_file(left / "once" / "game.safetensors")
    assert all(each["weights"] == [value.flatten().tolist() for value in game.values()][::-1] for each in results)


def test_what_only_the_second_rank_refuses_the_first_one_says(left: Path) -> None:
    first, second = troubles(left, "refused")
    assert (first["error"], first["reported"]) == ("RequestError", False)
    assert first["said"].startswith("rank 1 on ")
    assert first["said"].endswith("no such width")
    assert second["reported"] is True


def test_a_rank_that_opens_its_data_for_longer_than_a_round_may_take_is_waited_for(left: Path) -> None:
    assert all("weights" in each for each in troubles(left, "late"))


def test_an_error_of_the_game_is_not_taken_for_a_lost_rank_whatever_it_says(left: Path) -> None:
    first, second = troubles(left, "breaking")
    assert (second["error"], second["said"]) == ("RuntimeError", "the skip connection timed out")
    assert first["error"] == "LostRankError"
    assert "(rank 1: the skip connection timed out)" in first["said"]
    assert status(left, "breaking")["message"] == first["said"]


def test_a_rank_lost_between_rounds_is_told_with_the_last_good_checkpoint_too(left: Path) -> None:
    first, second = troubles(left, "gone")
    assert second["error"] == "OSError"
    assert "after round 5: rank 0 lost another rank (rank 1: its disk is gone)" in first["said"]
    assert first["said"].endswith("000004; --resume goes on from it")
    assert status(left, "gone")["status"] == "failed"


def test_nobody_leaves_an_interrupted_run_while_the_first_rank_writes(left: Path) -> None:
    """Or a launcher, told that one has left, would end the writer."""
    for each in troubles(left, "signalled"):
        assert each["error"] == "Interrupted"
        assert each["status"] == "interrupted"


def test_synchronised_batch_normalisation_holds_far_from_zero(left: Path) -> None:
    values = (1000 + torch.randn(16, 3, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    whole = nn.BatchNorm1d(3).double()(values)
    whole.pow(3).mean().backward()
    found = troubles(left, "far")
    normal, gradient = (torch.tensor([each[key] for each in found]).reshape(16, 3).double() for key in ("normal", "gradient"))
    torch.testing.assert_close(normal, whole, rtol=1e-3, atol=1e-3)
    # Each rank has the gradient of its own mean; the whole batch's is the mean of theirs.
    assert values.grad is not None
    torch.testing.assert_close(gradient / 2, values.grad, rtol=1e-2, atol=1e-3)


def test_what_the_first_rank_draws_does_not_wait_for_the_others(left: Path) -> None:
    """Nor disturb them: a game may normalise by the batch also where it only draws."""
    drawing, still = troubles(left, "drawing"), troubles(left, "still")
    assert drawing[0]["weights"] == still[0]["weights"]
    assert drawing == still


def test_a_wrong_request_is_said_once_for_all_ranks(left: Path) -> None:
    first, second = troubles(left, "command")
    assert first["said"] == "ganforge: phase play: a batch of 7 cannot be shared among 2 ranks; give --batch-size 8\n"
    assert second["said"] == ""
    assert first["code"] == second["code"] == 2
    assert not (left / "command").exists()


def launched(out: Path, *options: str) -> subprocess.Popen[str]:
    train = ["-m", "ganforge", "train", "dcgan", "--preset", "tiny", "--out", str(out), *options]
    return subprocess.Popen([*LAUNCH, *train], env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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
def test_a_killed_rank_is_told_of_at_once_and_the_run_goes_on_from_its_checkpoint(left: Path, tmp_path: Path) -> None:
    run = launched(tmp_path / "run", "--rounds", "160", "--checkpoint-every", "40")
    wait_for(tmp_path / "run" / "checkpoints" / "000040", run)
    os.kill(workers_of(run)[1], signal.SIGKILL)
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "rank 0 lost another rank" in said
    assert "the last good checkpoint is" in said
    again = launched(tmp_path / "run", "--rounds", "160", "--checkpoint-every", "40", "--resume")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said[-2000:]
    assert digest(tmp_path / "run") == digest(left / "whole")


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
    assert "the run came here with 2 ranks and goes on with 1: from here on it is another run" in one.stderr
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["round"] == stopped + 20
