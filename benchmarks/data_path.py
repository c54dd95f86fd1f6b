"""Pictures per second on the device: from a folder, the first time and every other time, beside torch's DataLoader with Pillow per sample.

    python benchmarks/data_path.py [--pictures 4000] [--repeats 3]

- DataLoader: what public scripts do each epoch: open, RGB, resize the shorter side (bilinear), cut the centre, scale to [-1, 1], collate;
  two worker processes, or none, whichever is faster here.
- cold: `open_source` on a folder that it never saw, decoding into an empty cache, then one epoch of batches.
- warm: one epoch of batches of a folder that is in the cache, opening included.

The files are in the page cache for all of them. Then a DCGAN of 64 pixels is trained from the folder, and its waiting for data is timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganforge import zoo
from ganforge.batches import Images
from ganforge.data import Finite, Stream, open_source
from ganforge.engine import Settings, Trainer

CPU = torch.device("cpu")
BATCH = 64


def write_pictures(folder: Path, count: int, side: int, suffix: str) -> None:
    """Smooth random pictures with some grain, about as hard to decode as photographs; sides within a fifth of `side`."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        width, height = generator.integers(side - side // 5, side + side // 5 + 1, 2) if suffix == ".jpg" else (side, side)
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
            (int(width), int(height)), Image.Resampling.BICUBIC
        )
        grain = generator.integers(-12, 13, (int(height), int(width), 3))
        pixels = np.clip(np.asarray(coarse, dtype=np.int64) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}{suffix}", quality=90)


class PerSample(Dataset[Tensor]):
    """Pillow for each sample, as public scripts have it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.files = sorted(folder.iterdir())
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as opened:
            image = opened.convert("RGB")
        scale = self.size / min(image.size)
        wide, high = max(self.size, round(image.width * scale)), max(self.size, round(image.height * scale))
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - self.size) // 2, (high - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float().div(127.5).sub(1)


def epoch_of_loader(folder: Path, size: int, workers: int) -> int:
    count = 0
    for batch in DataLoader(PerSample(folder, size), BATCH, shuffle=True, num_workers=workers):
        count += len(batch)
    return count


def epoch_of_source(folder: Path, size: int, cache: Path) -> int:
    source = open_source(str(folder), kinds=(Images,), size=size, channels=3, cache=str(cache))
    assert isinstance(source, Finite)
    stream = Stream(source, Images, seed=0, device=CPU)
    count = source.count
    for cursor in range(0, count, BATCH):
        stream.at(cursor, min(BATCH, count - cursor))
    return count


def per_second(epoch: Callable[[], int]) -> float:
    began = time.perf_counter()
    return epoch() / (time.perf_counter() - began)


def compare(title: str, folder: Path, size: int, repeats: int, scratch: Path) -> None:
    speeds: dict[str, list[float]] = {"DataLoader, 0 workers": [], "DataLoader, 2 workers": [], "cold": [], "warm": []}
    for repeat in range(repeats):
        cache = scratch / f"cache-{folder.name}-{repeat}"
        speeds["DataLoader, 0 workers"].append(per_second(lambda: epoch_of_loader(folder, size, 0)))
        speeds["cold"].append(per_second(lambda: epoch_of_source(folder, size, cache)))  # noqa: B023
        speeds["DataLoader, 2 workers"].append(per_second(lambda: epoch_of_loader(folder, size, 2)))
        speeds["warm"].append(per_second(lambda: epoch_of_source(folder, size, cache)))  # noqa: B023
    print(f"\n{title}, to {size}x{size}, {repeats} repeats")
    best = max(("DataLoader, 0 workers", "DataLoader, 2 workers"), key=lambda name: statistics.median(speeds[name]))
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, speeds[best], strict=True))
        print(f"  {name:24} {statistics.median(found):10,.0f} pictures/s   {ratio:7.2f}x the better DataLoader", flush=True)


def waiting(folder: Path, cache: Path, rounds: int = 20) -> None:
    source = open_source(str(folder), kinds=(Images,), size=64, channels=3, cache=str(cache))
    stream = Stream(source, Images, seed=0, device=CPU)
    waited = [0.0]
    at = stream.at

    def timed(cursor: int, size: int, resolution: int | None = None) -> object:
        began = time.perf_counter()
        batch = at(cursor, size, resolution)
        waited[0] += time.perf_counter() - began
        return batch

    stream.at = timed  # type: ignore[method-assign, assignment]
    torch.manual_seed(0)
    game = zoo.find("dcgan")(source.spec, architecture="torch", width=64, noise="normal")
    trainer = Trainer(game, stream, Settings(batch_size=64, rounds=10**6, precision="bf16"), CPU)
    for _ in range(2):
        trainer.play_round()
    waited[0], began = 0.0, time.perf_counter()
    for _ in range(rounds):
        trainer.play_round()
    seconds = time.perf_counter() - began
    share = 100 * waited[0] / seconds
    print(f"\nDCGAN, 64 pixels, batch 64, bf16: {1000 * seconds / rounds:.0f} ms a round, {share:.2f} % of it waiting for data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        photos, digits = scratch / "photos", scratch / "digits"
        write_pictures(photos, arguments.pictures, 250, ".jpg")
        write_pictures(digits, arguments.pictures, 28, ".png")
        compare(f"{arguments.pictures} JPEGs of about 250 pixels", photos, 64, arguments.repeats, scratch)
        compare(f"{arguments.pictures} PNGs of 28x28", digits, 28, arguments.repeats, scratch)
        waiting(photos, scratch / "cache-photos-0")


if __name__ == "__main__":
    main()
