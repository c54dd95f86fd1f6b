"""The card of a trained game: what it is, what it was trained on and how, how good it was measured to be, how it is used.

Markdown, with the header that model hubs read. It says nothing that the run's files do not.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import yaml

from ganforge.batches import ImageSpec, Spec
from ganforge.capabilities import SamplesClasses, SamplesText
from ganforge.errors import RequestError
from ganforge.game import Game, hyper_parameters, registered_name
from ganforge.runs import RunFolder, RunRecord, from_json, read_json
from ganforge.use.conditions import latents, noise_columns
from ganforge.use.export import Exported, chosen_task
from ganforge.use.load import load
from ganforge.use.seeds import seeded

_AXES = {"height": 2, "width": 3}
_PIPELINES = {
    **dict.fromkeys(("translate", "upscale", "inpaint", "edit"), "image-to-image"),
    "sample": "unconditional-image-generation",
    "classify": "image-classification",
    "encode": "image-feature-extraction",
}
_USUAL = {"precision": "fp32", "accumulate": 1, "augment": "none"}
_DRAWS = 1 << 15


def card(run: str | Path, game: type[Game] | None = None, exported: Exported | None = None, picture: str | None = None) -> str:
    """The card of a run folder; with `exported` also that of its ONNX file, for whose use it has a script.

    `picture` is the name of a picture of samples that will lie beside the card. A game that is not in the zoo is built
    from the class given. RequestError where the folder is no run, or its evaluation.json is broken.
    """
    folder = RunFolder(Path(run))
    record, built = RunRecord.read(folder.record), load(run, game)
    task = exported.task if exported else chosen_task(built, None)
    data = Path(str(record.data.get("source", "data of its own"))).name
    parts = [
        _header(record, built, task, exported),
        f"# {record.game}, trained on {data}",
        *_about(type(built)),
        *([f"![samples]({picture})"] if picture else []),
        f"## Training\n\n{_training(record, type(built), data)}",
        f"## Measured\n\n{_measured(folder)}",
        f"## Use\n\n{_use(folder.path.name, built, record.spec, task, exported.way if exported else None)}",
        *([_onnx(built, exported)] if exported else []),
        f"## Limits\n\n{_limits(record.spec, data)}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(record: RunRecord, game: Game, task: str, exported: Exported | None) -> str:
    header: dict[str, Any] = {
        "library_name": "ganforge",
        "tags": ["generative-adversarial-network", record.game, *(["onnx"] if exported else [])],
    }
    if isinstance(record.spec, ImageSpec) and task in _PIPELINES:
        header["pipeline_tag"] = "text-to-image" if task == "sample" and isinstance(game, SamplesText) else _PIPELINES[task]
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _about(game: type[Game]) -> Iterator[str]:
    """What the game of a zoo file is, and its paper: the first paragraphs of the docstrings of its file and its class."""
    texts = [sys.modules[game.__module__].__doc__ if registered_name(game) else None, game.__doc__]
    yield from (" ".join(inspect.cleandoc(text).split("\n\n")[0].split()) for text in texts if text)


def _training(record: RunRecord, game: type[Game], data: str) -> str:
    outcome, settings = record.outcome, record.settings
    defaults = {name: parameter.default for name, parameter in hyper_parameters(game).items()}
    others = [f"{name} = {value}" for name, value in from_json(record.hyper).items() if value != defaults.get(name)]
    count, kind = record.data.get("count"), record.data.get("kind")
    rows = {
        "data": data + (f", {count:,} samples" if count else "") + (f", read as {kind}" if kind else ""),
        "made for": str(record.spec),
        "length": f"{outcome['rounds']:,.0f} rounds" if "rounds" in outcome else "",
        "batch size": str(settings.get("batch_size") or game.batch_size),
        "seconds": f"{outcome['seconds']:,.0f}" if "seconds" in outcome else "",
        "seed": str(settings.get("seed", "")),
        **{name: str(settings[name]) for name, usual in _USUAL.items() if settings.get(name, usual) != usual},
        "other than the game's defaults": ", ".join(others) or "nothing",
        "versions": ", ".join(f"{name} {record.versions[name]}" for name in ("ganforge", "torch", "python") if name in record.versions),
    }
    return _table(["", ""], [[name, value] for name, value in rows.items() if value])


def _measured(folder: RunFolder) -> str:
    path = folder.evaluation
    if not path.exists():
        return "This run was not measured: `ganforge evaluate` has written no evaluation.json."
    try:
        found = read_json(path)
        # Older versions wrote no sections.
        sections = found["sections"] if "sections" in found else [{"scores": _plain(found["measures"])}]
        rows = [row for section in sections for row in _scores(section)]
        part, most = found.get("split", "train"), found.get("n") or found["samples"]
        on = f"{Path(found['data']).name}, {part} part, {most:,} samples or pictures at most, seed {found['seed']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path}: is not what `ganforge evaluate` writes ({error}); write it anew") from None
    return f"By `ganforge evaluate`, on {on}.\n\n" + _table(["measure", "value", "beside it", "in the features of"], rows)


def _plain(measures: dict[str, float]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value, "unit": "", "beside": {}} for name, value in measures.items()]


def _scores(section: dict[str, Any]) -> Iterator[list[str]]:
    spaces = {space["identity"]: f"{space['name']} ({space['about']})" for space in section.get("spaces", [])}
    for score in section["scores"]:
        value = f"{score['value']:.4g} {score['unit']}".strip()
        beside = ", ".join(f"{what} {number:.4g}" for what, number in score["beside"].items())
        space = score.get("space", "")
        yield [score["name"], value, beside, spaces.get(space, space)]


def _use(run: str, game: Game, spec: Spec, task: str, way: str | None) -> str:
    """From Python and from the command line, with ganforge."""
    of_way = f', "{way}"' if way else ""
    calls = {
        "sample": "game.sample(game.latent(1))",
        "translate": f"ganforge.use.translate(game, picture{of_way})",
        "upscale": "ganforge.use.upscale(game, picture)",
        "inpaint": "ganforge.use.inpaint(game, picture, mask, spec)",
        "edit": f"ganforge.use.edit(game, picture, {{{json.dumps(_dial(game)[0])}: {_dial(game)[1]:g}}})",
    }
    lines = ["import ganforge", "", f'game, spec = ganforge.load("{run}"), ganforge.use.spec_of("{run}")']
    if task != "sample" and isinstance(spec, ImageSpec):
        # Not every translator takes other sizes; the commands find out, and a script that runs is worth more here.
        fixed = "" if task in ("upscale", "inpaint") else ", spec.shape[1:]"
        lines.append(f'picture = ganforge.use.read_picture("in.png", spec.channels{fixed})')
    if task == "inpaint":
        lines.append('mask = (ganforge.use.read_picture("mask.png", 1) > 0).float()  # white where something is to be filled')
    if task not in calls:
        lines.append(f"print(game.{task}(picture))")
    elif isinstance(spec, ImageSpec):
        lines += [
            *(["with ganforge.use.seeded(0):"] if task == "sample" else []),
            f'{"    " if task == "sample" else ""}ganforge.use.as_picture({calls[task]}).save("out.png")',
        ]
    else:
        lines.append(f"print({calls[task]})")
    options = {
        "sample": "--n 64 --seed 0",
        "translate": f"in.png{f' --way {way}' if way else ''}",
        "inpaint": "in.png --mask mask.png",
        "edit": f"in.png --set {_dial(game)[0]}={_dial(game)[1]:g}",
    }
    out = {"classify": "classes.csv", "cluster": "groups.csv", "encode": "codes.csv"}.get(task, "out.png")
    shell = f"ganforge {task} {run} {options.get(task, 'in.png')} --out {out}"
    return f"```python\n{chr(10).join(lines)}\n```\n\n```console\n$ {shell}\n```"


def _dial(game: Game) -> tuple[str, float]:
    dials = getattr(game, "dials", {})
    return next(((name, greatest) for name, (_, greatest) in dials.items()), ("name", 1.0))


def _onnx(game: Game, exported: Exported) -> str:
    """What the file takes and gives, and a script that uses it."""
    what = f"{exported.task}{f' {exported.way}' if exported.way else ''}"
    inputs = ", ".join(f"`{name}` [{', '.join(map(str, shape))}]" for name, shape in exported.inputs.items())
    numbers = "uint8, as files store them" if exported.as_bytes else "float32, from -1 (black) to 1 (white)"
    notes = [f"`{exported.name}` does one thing, {what}: {inputs} to `{exported.output}`. It needs neither torch nor ganforge."]
    if isinstance(exported.spec, ImageSpec):
        notes.append(f"Pictures are {numbers}.")
    if exported.size:
        height, width = exported.size
        notes.append(f"The run's own size is {width}x{height}." if exported.multiple else f"Pictures must be {width}x{height}.")
        if exported.multiple:
            others = f"multiples of {exported.multiple}" if exported.multiple > 1 else "any"
            notes.append(f"Other sides may be {others}, down to half of that.")
    if not exported.any_number:
        notes.append("It takes one picture at a time, since the game treats each by itself.")
    if exported.noise:
        laws = {"normal": "normal, of mean 0 and deviation 1", "uniform": "uniform, from 0 to 1"}
        drawn = ", ".join(f"`{name}` ({laws[law]})" for name, law in exported.noise.items())
        notes.append(f"Chance is given to it as {drawn}: another draw, another answer.")
    if exported.without_dropout:
        notes.append("The game drops units at random in use too; the file does not, and always gives the one answer between those.")
    if exported.dials:
        ranges = ", ".join(f"{name} ({least:g} to {greatest:g})" for name, (least, greatest) in exported.dials.items())
        notes.append(f"`values` are, for all pictures alike, {ranges}; each must be given.")
    unit = "of 255" if exported.as_bytes else "at most" if exported.output not in ("codes",) else "at most, relative to the largest number"
    notes.append(f"Compared with PyTorch at {', '.join(exported.checked)}, it differed by {exported.difference:.1g} {unit}.")
    return f"## ONNX\n\n{' '.join(notes)}\n\n```python\n{_script(game, exported)}\n```"


def _script(game: Game, exported: Exported) -> str:
    """Python that uses the file with numpy, Pillow and onnxruntime alone; it reads in.png (and mask.png) and writes out.png."""
    spec, first, feeds = exported.spec, next(iter(exported.inputs)), ", ".join(f'"{name}": {name}' for name in exported.inputs)
    imports = [
        "import numpy as np",
        "import onnxruntime",
        f"from PIL import Image{', ImageOps' if exported.size and not exported.multiple else ''}",
    ]
    lines = ["", f'session = onnxruntime.InferenceSession("{exported.name}")']
    if first == "latent":
        imports.insert(0, "import json")
        lines += _latent_lines(game, spec)
    elif isinstance(spec, ImageSpec) and exported.size:
        height, width = exported.size
        mode = "L" if spec.channels == 1 else "RGB"
        lines += [
            f'picture = Image.open("in.png").convert("{mode}")',
            *([] if exported.multiple else [f"picture = ImageOps.fit(picture, ({width}, {height}))"]),
            f"image = np.asarray(picture).reshape(1, picture.height, picture.width, {spec.channels})",
        ]
        if not exported.as_bytes:
            lines.append("image = (image / np.float32(127.5) - 1).transpose(0, 3, 1, 2)")
    else:
        lines.append(f"point = np.zeros((1, {spec.shape[0]}), np.float32)")
    if "mask" in exported.inputs:
        lines += [
            'mask = ImageOps.fit(Image.open("mask.png").convert("L"), picture.size)',
            "mask = np.float32(np.asarray(mask) > 127)[None, None]  # 1 where something is to be filled",
        ]
    if "values" in exported.inputs:
        values = ", ".join(f"{greatest:g}" for _, greatest in exported.dials.values())
        lines.append(f"values = np.float32([{values}])  # {', '.join(exported.dials)}")
    lines += ["rng = np.random.default_rng(0)"] * bool(exported.noise)
    for name, law in exported.noise.items():
        shape = ", ".join(
            "1" if side == "batch" else f"image.shape[{_AXES[side]}]" if side in _AXES else str(side) for side in exported.inputs[name]
        )
        lines.append(f"{name} = np.float32(rng.{'standard_normal' if law == 'normal' else 'random'}(({shape})))")
    lines.append(f"({exported.output},) = session.run(None, {{{feeds}}})")
    return "\n".join([*imports, *lines, *_shown(exported)])


def _shown(exported: Exported) -> list[str]:
    made = exported.output
    if made == "probabilities" and exported.spec.classes:  # type: ignore[union-attr]
        return [f"classes = {list(exported.spec.classes)}", f"print(classes[{made}[0].argmax()], {made}[0].max())"]  # type: ignore[union-attr]
    if made in ("probabilities", "groups", "codes") or not isinstance(exported.spec, ImageSpec):
        return [f"print({made})"]
    turn = [] if exported.as_bytes else [f"{made} = (({made} + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)"]
    return [*turn, f'Image.fromarray(np.hstack({made}).squeeze()).save("out.png")']


def _latent_lines(game: Game, spec: Spec) -> list[str]:
    """Eight latents: one that the file has as an example, then each stretch of its columns as the game draws them."""
    lines = ["rng = np.random.default_rng(0)"]
    lines += [
        'example = json.loads(session.get_modelmeta().custom_metadata_map["latent"])',
        "latent = np.tile(np.float32(example), (8, 1))",
    ]
    with torch.no_grad(), seeded(0, game.device):
        noise, drawn = noise_columns(game, spec), latents(game, _DRAWS).flatten(1)
        classes = spec.classes if isinstance(game, SamplesClasses) and isinstance(spec, ImageSpec) else ()
        asked = game.latent_of_class(torch.arange(len(classes))) if isinstance(game, SamplesClasses) and classes else drawn
    laws = [_law(column) if chance else "" for column, chance in zip(drawn.T, noise.tolist(), strict=True)]
    for law, group in groupby(range(len(laws)), key=laws.__getitem__):
        columns = list(group)
        here, part = f"latent[:, {columns[0]}:{columns[-1] + 1}]", drawn[:, columns]
        low, high, mean, spread = (float(f"{value:.2g}") for value in (part.min(), part.max(), part.mean(), part.std()))
        if law == "uniform":
            lines.append(f"{here} = rng.uniform({low:g}, {high:g}, (8, {len(columns)}))")
        elif law == "normal":
            lines.append(f"{here} = rng.normal({mean if abs(mean) > spread / 20 else 0:g}, {spread:g}, (8, {len(columns)}))")
        elif classes and len(columns) == len(classes) and asked[:, columns].equal(torch.eye(len(classes))):
            lines.append(f"{here} = np.eye({len(classes)})[0]  # the class {classes[0]!r}; they are, in this order, {', '.join(classes)}")
        else:
            what = "what is asked for" if law == "" else "noise of another law"
            lines.append(f"# {here} is {what}: here as in the example")
    return lines


def _law(column: torch.Tensor) -> str:
    """How noise is distributed, told by its kurtosis: 1.8 of uniform noise, 3 of normal."""
    standard = (column - column.mean()) / column.std()
    kurtosis = standard.pow(4).mean().item()
    return "uniform" if abs(kurtosis - 1.8) < 0.1 else "normal" if abs(kurtosis - 3) < 0.4 else "other"


def _limits(spec: Spec, data: str) -> str:
    pictures = "pictures" if isinstance(spec, ImageSpec) else "numbers"
    return (
        f"It has seen nothing but {data}, as {spec}; what it makes of other {pictures} was not tested. What it makes is invented and is no "
        f"record of anything, and what is frequent, rare or missing in the data is so in the results. Whoever publishes or sells results "
        f"must see to the rights in the data; a licence of the weights is not stated in the run."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Without the columns in which there is nothing."""
    kept = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
    head, *rows = (list(row) for row in zip(*kept, strict=True))
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/').strip() for cell in line)} |" for line in lines)
