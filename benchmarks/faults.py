"""A run through two kills, a full disk and a damaged checkpoint, against the same run undisturbed: equal weights, byte for byte.

    python benchmarks/faults.py [--rounds 4000] [-- --preset small]

The disk is a small tmpfs (root may mount one) that a ballast file fills while the run writes its checkpoints; without the right to mount, a
limit on the size of files stands for it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TMPFS = "48m"


class Run:
    """The same command again and again, until it has come to its end."""

    def __init__(self, out: Path, arguments: argparse.Namespace) -> None:
        self.out = out
        options = ["--rounds", str(arguments.rounds), "--seed", "1", "--checkpoint-every", str(arguments.every), "--out", str(out)]
        self.line = [sys.executable, "-m", "ganforge", "train", arguments.game, *options, *arguments.options]

    def start(self, limit: int | None = None) -> subprocess.Popen[str]:
        """Begins or resumes; `limit` is the largest file in bytes that it may write."""
        more = ["--resume"] if self.checkpoints() else []

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        return subprocess.Popen([*self.line, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=limited)

    def checkpoints(self) -> list[Path]:
        """The newest last."""
        return sorted((self.out / "checkpoints").glob("[0-9]*"))

    def until(self, process: subprocess.Popen[str], round: int) -> None:
        """Waits for a checkpoint at `round` or later."""
        while not [path for path in self.checkpoints() if int(path.name) >= round]:
            if process.poll() is not None:
                sys.exit(f"the run ended before round {round}: {process.communicate()[1][-500:]}")
            time.sleep(0.005)

    def digest(self) -> str:
        """Of the weights for use."""
        return hashlib.sha256((self.out / "game.safetensors").read_bytes()).hexdigest()[:16]


@contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """A folder on a small disk of its own, and whether it is one."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS}", "tmpfs", folder], capture_output=True).returncode == 0
        try:
            yield Path(folder), mounted
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def kill(run: Run, round: int, moments: random.Random) -> None:
    process = run.start()
    run.until(process, round)
    time.sleep(moments.uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    print(f"killed; the last checkpoint is {run.checkpoints()[-1].name}", flush=True)


def fill(run: Run, disk: Path, mounted: bool, round: int) -> None:
    process = run.start(limit=None if mounted else 20_000)
    ballast = disk / "ballast"
    if mounted:
        run.until(process, round)
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(65_536))
                    file.flush()
            except OSError:
                pass
    _, said = process.communicate(timeout=600)
    ballast.unlink(missing_ok=True)
    print(f"{'tmpfs' if mounted else 'limit'} full: exit {process.returncode}: {said.strip().splitlines()[-1]}", flush=True)
    if process.returncode != 1:
        sys.exit("a full disk must end the run with exit 1")


def damage(run: Run, moments: random.Random) -> None:
    file = run.checkpoints()[-1] / moments.choice(["game.safetensors", "trainer.pt"])
    content = bytearray(file.read_bytes())
    content[moments.randrange(len(content))] ^= 1 << moments.randrange(8)
    file.write_bytes(content)
    print(f"flipped one bit of {file.parent.name}/{file.name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="dcgan")
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--every", type=int, default=100, help="rounds between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", default=["--preset", "small"], help="further options of the game, after --")
    arguments = parser.parse_args()
    moments, rounds = random.Random(arguments.seed), arguments.rounds
    with tempfile.TemporaryDirectory() as folder, small_disk() as (disk, mounted):
        whole = Run(Path(folder) / "whole", arguments)
        began = time.monotonic()
        process = whole.start()
        if process.communicate() and process.returncode:
            sys.exit("the undisturbed run failed")
        print(f"undisturbed: {rounds} rounds in {time.monotonic() - began:.0f} s, {whole.digest()}", flush=True)
        run = Run(disk / "run", arguments)
        kill(run, rounds // 5, moments)
        fill(run, disk, mounted, 2 * rounds // 5)
        kill(run, 3 * rounds // 5, moments)
        damage(run, moments)
        last = run.start()
        _, said = last.communicate()
        print("resumed:", next((line for line in said.splitlines() if "damaged" in line), "no word of damage"), flush=True)
        same = run.digest() == whole.digest() and "damaged" in said
        print(f"{rounds} rounds, two kills, a full disk, a damaged checkpoint: {'identical' if same else 'DIFFERENT'} {run.digest()}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
