"""`ganforge nearest`: the pictures of a collection that are nearest to others, or to what a sentence says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import Samples, able
from ganforge.commands.each import Each
from ganforge.commands.given import about_pictures, at_least_one, free_file, image_spec, run_and_pictures, source_of
from ganforge.commands.tell import Filing
from ganforge.data import Source
from ganforge.data.shelves import readable
from ganforge.errors import RequestError, TrainingError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.metrics.manifolds import Extractor
from ganforge.options import parse
from ganforge.pictures.rows import tiled
from ganforge.use.conditions import latents
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Job, find
from ganforge.use.load import load
from ganforge.use.nearest import Collection, extractor_for, nearest, open_collection, search_by_words
from ganforge.use.sample import render
from ganforge.use.seeds import seeded

_ALSO = "Here they are the collection that is looked through, which may also be any SOURCE of pictures."
_EXAMPLES = """\
nearest runs/faces photos --seed 0 1 2 --out copies.png
nearest runs/faces photos --to me.jpg --n 12 --out alike.png --csv alike.csv
nearest runs/birds photos --text "a small red bird" --out red.png"""
_SIDE = 112
_ROWS = 64
_SOME = 50


@dataclass(frozen=True)
class NearestOptions:
    """Options of `nearest`."""

    out: str
    """The .png file of a sheet: a row for each query, the query first, then what is nearest to it, with distances."""
    to: str | None = None
    """Nearest to these: a picture, a folder, a pattern."""
    seed: tuple[int, ...] = ()
    """Nearest to what the game makes of these seeds, as `sample --n 1 --seed` does: are they copies?"""
    text: str | None = None
    """Those that this sentence describes, where the run was trained on captions."""
    n: int = 8
    """How many for each."""
    features: str = "auto"
    """What is compared: pixels, encoder (the game's own), classifier (taught on the run's labels), inception or a file of a network; auto:
    encoder where the game has one, else pixels. A text has its own."""
    csv: str | None = None
    """A .csv file too: query, rank, file, distance."""
    filing: Filing = field(default_factory=Filing)


@dataclass(frozen=True)
class _Query:
    """What is looked for: its name, and its picture [1, C, H, W] where it is one."""

    name: str
    image: Tensor | None = None


def nearest_command(arguments: list[str], about: str) -> int:
    """Looks through a collection."""
    run, given, rest = run_and_pictures(arguments, "nearest")
    options = parse(NearestOptions, rest, "nearest RUN IN", about_pictures(about, _EXAMPLES, _ALSO))
    spec = image_spec(run)
    return nearest_pictures(load(run.path, device=options.filing.device), spec, given, options, lambda: source_of(run))


def nearest_pictures(game: Game, spec: ImageSpec, given: str, options: NearestOptions, trained: Callable[[], Source]) -> int:
    """The files on the console, a sheet, and a table where one is wanted; the exit code. `trained` opens what the run learned from."""
    if (options.to is not None) + bool(options.seed) + (options.text is not None) != 1:
        raise RequestError("nearest: say to what, by one of --to PICTURE, --seed 0 and --text 'a sentence'")
    at_least_one("--n", options.n)
    out = free_file(options.out, (".png",), options.filing.force)
    table = None if options.csv is None else free_file(options.csv, (".csv",), options.filing.force, "--csv")
    console = Console(stderr=True)
    each = Each("reading")
    queries = _queries(game, spec, options, each)
    collection = open_collection(given, spec, options.filing.fit)
    for place, why in collection.bad.items():
        console.print(f"ganforge: {readable(place)}: {why}", soft_wrap=True, markup=False, highlight=False)
    # A network may have to learn to read first.
    with console.status("getting ready to compare"):
        extractor, rows = _space(game, spec, options, queries, trained)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking through the collection")
        features = collection.features(extractor, lambda done, total: bar.update(task, completed=done, total=total))
    indices, distances = nearest(rows, features, options.n)
    if options.text is not None:
        # Of vectors of length 1: one less their cosine, in the same order.
        distances = distances.square() / 2
    found = list(zip(queries, indices.tolist(), distances.tolist(), strict=True))
    write_picture(_sheet(collection, found[:_ROWS], spec), out)
    if table is not None:
        _write(table, collection, found)
    for query, numbers, away in found:
        print(readable(query.name))
        for number, distance in zip(numbers, away, strict=True):
            print(f"  {distance:.4f}  {readable(collection.names[number])}")
    print(f"{out}: " + _told(extractor.name, features, options.text is None) + (f"; the first {_ROWS} rows" if len(found) > _ROWS else ""))
    return 1 if collection.bad or each.failed else 0


def _queries(game: Game, spec: ImageSpec, options: NearestOptions, each: Each) -> list[_Query]:
    """What is looked for; TrainingError where none of the pictures can be read."""
    if options.text is not None:
        return [_Query(options.text)]
    queries: list[_Query] = []
    if options.to is None:
        for seed in options.seed:
            with seeded(seed, game.device):
                made = render(able(game, Samples), latents(game, 1)).cpu()
            # As a file would have it: games may make more than white.
            queries.append(_Query(f"seed {seed}", made.clamp(-1, 1)))
        return queries

    def work(job: Job) -> None:
        queries.append(_Query(job.name, read_picture(job.file, spec.channels, spec.shape[1:], options.filing.fit)))

    found = find(options.to)
    each.run([Job(found.file(name), name, ()) for name in found.names], work)
    if not queries:
        raise TrainingError(f"--to {options.to}: none of the pictures could be read")
    return queries


def _space(
    game: Game, spec: ImageSpec, options: NearestOptions, queries: list[_Query], trained: Callable[[], Source]
) -> tuple[Extractor, Tensor]:
    """What makes features of pictures, and those of the queries, [q, d]."""
    if options.text is not None:
        vector, words = search_by_words(options.text, trained())
        return words, vector
    extractor = extractor_for(game, spec, options.features, trained)
    images = torch.cat([query.image for query in queries if query.image is not None])
    return extractor, torch.from_numpy(extractor.features(images))


def _told(name: str, features: Tensor, of_pictures: bool) -> str:
    """What the distances are; for comparison, how far pictures of the collection lie from each other."""
    if not of_pictures:
        return f"{len(features)} pictures, by the angle to the words"
    some = features[:: -(-len(features) // _SOME)]
    # The nearest of all is the picture itself.
    own = nearest(some, features, 2)[1][:, -1].median()
    return f"{len(features)} pictures, compared by {name}; they themselves are {own:.4f} from their nearest (median)"


def _sheet(collection: Collection, found: list[tuple[_Query, list[int], list[float]]], spec: ImageSpec) -> Image.Image:
    """A row for each query: its picture, then what was found with its distance; where it has none, its words below."""
    scale = max(1, round(_SIDE / spec.width))
    shape = spec.height * scale, spec.width * scale
    rows = []
    for query, numbers, away in found:
        tiles = [] if query.image is None else [_tile(query.image, shape, query.name)]
        tiles += [
            _tile(collection.picture(number, shape), shape, f"{distance:.3f}") for number, distance in zip(numbers, away, strict=True)
        ]
        row = tiled(tiles, columns=len(tiles))
        rows.append(row if query.image is not None else pictures.captioned(row, query.name))
    return tiled(rows, columns=1)


def _tile(image: Tensor, shape: tuple[int, int], caption: str) -> Image.Image:
    """A picture [1, C, H, W], enlarged without blur where it is small, with a caption."""
    shown = image if image.shape[2:] == shape else F.interpolate(image, size=shape, mode="nearest")
    return pictures.captioned(pictures.grid(images_to_bytes(shown).numpy(), scale=1).convert("RGB"), caption)


def _write(table: Path, collection: Collection, found: list[tuple[_Query, list[int], list[float]]]) -> None:
    # Names of files that are no UTF-8 are written as the bytes that they are.
    with atomic_write(table) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "rank", "file", "distance"])
        for query, numbers, away in found:
            for rank, (number, distance) in enumerate(zip(numbers, away, strict=True), start=1):
                writer.writerow([query.name, rank, collection.names[number], repr(distance)])
