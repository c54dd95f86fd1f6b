"""Kills a training run with SIGKILL at random moments, resumes it, and compares the weights with those of an undisturbed run.

    python benchmarks/kill.py --kills 20

Each trial starts the same command, kills it at a random moment after its first checkpoint, resumes it with `--resume` (killing again
with probability 1/2), and demands that `game.safetensors` equals the undisturbed run's byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(out: Path, arguments: argparse.Namespace, *more: str) -> list[str]:
    train = [sys.executable, "-m", "ganforge", "train", arguments.game, "--data", arguments.data, "--rounds", str(arguments.rounds)]
    options = ["--seed", "1", "--checkpoint-every", str(arguments.every), "--out", str(out)]
    return [*train, *options, *arguments.options, *more]


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("[0-9]*"))


def run_and_kill(line: list[str], out: Path, wait: float, known: int) -> bool:
    """Kills `wait` seconds after a checkpoint beyond the `known` ones has come; False where the run ended before."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not [c for c in checkpoints(out) if int(c.name) > known]:
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(wait)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def digest(out: Path) -> str:
    return hashlib.sha256((out / "game.safetensors").read_bytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--game", default="dcgan")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--every", type=int, default=25, help="rounds between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", help="further options of the game, after --")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "A"
        began = time.monotonic()
        subprocess.run(command(whole, arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        print(f"undisturbed: {seconds:.1f} s, {digest(whole)}", flush=True)
        kills = 0
        while kills < arguments.kills:
            out = Path(folder) / "B"
            shutil.rmtree(out, ignore_errors=True)
            more: list[str] = []
            struck: list[int] = []
            while run_and_kill(command(out, arguments, *more), out, moments.uniform(0, 0.6 * seconds), struck[-1] if struck else 0):
                struck.append(int(checkpoints(out)[-1].name))
                kills += 1
                more = ["--resume"]
                if moments.random() < 0.5 or kills >= arguments.kills:
                    break
            if struck:
                subprocess.run(command(out, arguments, "--resume"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            same = digest(out) == digest(whole)
            print(
                f"kills so far {kills:2d}; resumed from {struck or 'nowhere (it ended first)'}: {'identical' if same else 'DIFFERENT'}",
                flush=True,
            )
            if not same:
                sys.exit(1)
        print(f"{kills} kills, {kills} identical")


if __name__ == "__main__":
    main()
