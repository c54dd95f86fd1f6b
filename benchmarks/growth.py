"""Time per picture and peak memory for 1,000, 10,000 and 100,000 pictures: both must not grow with their number.

    python benchmarks/growth.py [--counts 1000 10000 100000]

A folder of links to 500 JPEGs of 96 pixels is opened at 32x32 by a process of its own: once with an empty cache, once again; then 100
batches of 64 are drawn. `mapped` memory is what the process read of the cache through the page cache: the kernel takes it back at will.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 500


def links(folder: Path, originals: list[Path], count: int) -> None:
    folder.mkdir()
    for number in range(count):
        os.link(originals[number % len(originals)], folder / f"{number:07d}.jpg")


def worker(folder: str, cache: str) -> None:
    """Prints the seconds of opening and of drawing, and the memory, of this process."""
    import torch

    from ganforge.batches import Images
    from ganforge.data import Finite, Stream, open_source

    def anonymous() -> float:
        """The most resident memory so far, in MiB, and of now only what belongs to the process alone."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        return int(status["RssAnon"].split()[0]) / 1024

    before = anonymous()
    began = time.perf_counter()
    source = open_source(folder, kinds=(Images,), size=32, channels=3, cache=cache)
    opened = time.perf_counter() - began
    assert isinstance(source, Finite)
    stream = Stream(source, Images, seed=0, device=torch.device("cpu"))
    stream.at(0, 64)
    began = time.perf_counter()
    for number in range(100):
        stream.at(64 * number, 64)
    drawn = time.perf_counter() - began
    peak = (
        int(dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)["VmHWM"].split()[0])
        / 1024
    )
    print(json.dumps({"count": source.count, "opened": opened, "drawn": drawn, "own": anonymous() - before, "peak": peak}))


def measured(folder: Path, cache: Path) -> dict[str, float]:
    line = [sys.executable, __file__, "--worker", str(folder), str(cache)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "originals").mkdir()
        generator = np.random.default_rng(0)
        originals = [scratch / "originals" / f"{number}.jpg" for number in range(DISTINCT)]
        for file in originals:
            coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            coarse.resize((96, 96), Image.Resampling.BICUBIC).save(file, quality=90)
        print("pictures   cold, us a picture   warm opening, us a picture   drawing, us a picture   own memory, MiB   peak, MiB (cold)")
        for count in arguments.counts:
            links(scratch / f"folder{count}", originals, count)
            cold = measured(scratch / f"folder{count}", scratch / f"cache{count}")
            warm = measured(scratch / f"folder{count}", scratch / f"cache{count}")
            print(
                f"{count:8,}   {1e6 * cold['opened'] / count:19.1f}   {1e6 * warm['opened'] / count:26.2f}   "
                f"{1e6 * warm['drawn'] / 6400:21.2f}   {warm['own']:15.0f}   {cold['peak']:16.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
