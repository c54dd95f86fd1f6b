"""Trained games as ONNX files, which run without torch and without ganforge; each is compared with PyTorch before it is there."""

from __future__ import annotations

import json
import logging
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ganforge.batches import ImageSpec, PointSpec, Spec, images_from_bytes, images_to_bytes
from ganforge.capabilities import CAPABILITIES, Edits, able, can
from ganforge.errors import RequestError, TrainingError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.runs import game_name, versions
from ganforge.use.conditions import latents
from ganforge.use.seeds import seeded
from ganforge.use.translation import chosen_way

OUTPUTS = {
    "translate": "translated",
    "upscale": "large",
    "inpaint": "filled",
    "edit": "edited",
    "sample": "sample",
    "classify": "probabilities",
    "cluster": "groups",
    "encode": "codes",
}
"""What can be exported, each with the name of its output; where nothing is said, a game's first of them is."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""How far ONNX Runtime may be from PyTorch, where numbers are at most 1; larger ones are taken relative to the largest."""
_OPSET = 20
_LARGEST = 2**31 - 1  # bytes of a protobuf file
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_DRAWING = {torch.randn: "normal", torch.randn_like: "normal", torch.rand: "uniform", torch.rand_like: "uniform"}
_DROPPING = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


@dataclass(frozen=True)
class Exported:
    """What an ONNX file takes and gives. Axes are numbers, or names where any number will do."""

    name: str
    task: str
    way: str | None
    as_bytes: bool
    inputs: dict[str, list[int | str]]
    output: str
    spec: Spec
    size: tuple[int, int] | None
    """(height, width) of the pictures given: the usual one where any will do; None where none is given."""
    multiple: int
    """Of what the sides of pictures must be multiples; 0 where they must be `size`."""
    any_number: bool
    """Whether it takes any number of samples at a time, or one."""
    noise: dict[str, str]
    """The inputs that are chance, each "normal" (0 and 1) or "uniform" (from 0 to 1)."""
    without_dropout: bool
    """Whether the game drops units in use too, which the file does not."""
    dials: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The properties that `values` sets, in this order, with their ranges."""
    difference: float = 0.0
    """The largest from PyTorch, in units of the output."""
    checked: list[str] = field(default_factory=list)
    """The shapes at which they were compared."""
    mib: float = 0.0


class Draws(TorchFunctionMode):
    """Within it, what is drawn is noted in `seen`, or taken from `given`; dropout, also one that works in evaluation, passes all."""

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.given = None if given is None else iter(given)
        self.seen: list[Tensor] = []
        self.laws: list[str] = []
        self.dropped = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DROPPING:
            self.dropped |= bool(kwargs.get("training", args[2] if len(args) > 2 else False))
            return args[0]
        if func not in _DRAWING:
            return func(*args, **kwargs)
        drawn = func(*args, **kwargs) if self.given is None else next(self.given)
        self.seen.append(drawn)
        self.laws.append(_DRAWING[func])
        return drawn


class _Graph(nn.Module):
    """One task of a game as a module: the tensors given, then those drawn, to the tensor made."""

    def __init__(self, game: Game, spec: Spec, task: str, way: str | None, as_bytes: bool) -> None:
        super().__init__()
        self.game, self.task, self.way, self.as_bytes = game, task, way, as_bytes
        self.given = {"sample": ["latent"], "inpaint": ["image", "mask"], "edit": ["image", "values"]}.get(task, ["image"])
        if isinstance(spec, PointSpec) and task != "sample":
            self.given = ["point"]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors as of `inputs`, and the noise, to the output."""
        with Draws(tensors[len(self.given) :]):
            return self.make(*tensors[: len(self.given)])

    def make(self, *tensors: Tensor) -> Tensor:
        """The same with noise that is drawn."""
        given: list[Any] = list(tensors)
        if self.as_bytes and self.given[0] == "image":
            given[0] = images_from_bytes(given[0])
        if self.task == "translate":
            given.append(self.way)
        if self.task == "edit":
            given[1] = dict(zip(able(self.game, Edits).dials, given[1].unbind(), strict=True))
        made: Tensor = getattr(self.game, self.task)(*given)
        return images_to_bytes(made) if self.as_bytes and made.ndim == 4 else made.float()

    def inputs(self, spec: Spec, n: int, size: tuple[int, int] | None) -> tuple[Tensor, ...]:
        """Random tensors to give it."""
        if self.task == "sample":
            return (latents(self.game, n),)
        if isinstance(spec, PointSpec):
            return (torch.randn(n, *spec.shape),)
        size = size or spec.shape[1:]
        image = torch.rand(n, spec.channels, *size) * 2 - 1
        made = {"image": images_to_bytes(image) if self.as_bytes else image, "mask": (torch.rand(n, 1, *size) > 0.7).float()}
        if self.task == "edit":
            ranges = torch.tensor(list(able(self.game, Edits).dials.values()))
            made["values"] = ranges[:, 0] + torch.rand(len(ranges)) * (ranges[:, 1] - ranges[:, 0])
        return tuple(made[name] for name in self.given)


def export(game: Game, spec: Spec, out: Path, task: str | None = None, way: str | None = None, as_bytes: bool = False) -> Exported:
    """Writes one task of a game on the CPU (`OUTPUTS`; None: the first that it can) as an ONNX file, with its weights inside.

    Pictures are float32 [n, C, H, W] in [-1, 1], or with `as_bytes` uint8 [n, H, W, C], as files store them. n, and where the network
    takes any size H and W too, may be any. What the game draws by randn or rand is an input, `noise`; dropout is left out. RequestError
    where a package is missing, the game is on another device, cannot do the task, or does it in a way that ONNX has not; TrainingError,
    and no file, where ONNX Runtime and PyTorch differ by more than `TOLERANCE` (with `as_bytes`, pictures by more than 1 of 255).
    """
    check_packages()
    if game.device.type != "cpu":
        raise RequestError(f"the game is on {game.device}: a file is written, and compared, on the CPU; load the game there")
    task = chosen_task(game, task)
    if way is not None and task != "translate":
        raise RequestError(f"--way {way}: is for games that translate; this is to {task}")
    way = chosen_way(game, way) if task == "translate" else None
    if as_bytes and isinstance(spec, PointSpec):
        raise RequestError(f"--bytes: is for pictures; the game is of {spec}")
    graph = _Graph(game, spec, task, way, as_bytes).eval()
    with torch.no_grad(), seeded(0, game.device):
        size, multiple = _sizes(graph, spec)
        program, exported = _traced(graph, spec, out.name, size, multiple)
        proto = _labelled(program, exported, game)
        if proto.ByteSize() > _LARGEST:
            raise RequestError(f"--out {out}: the weights are {proto.ByteSize() / 2**30:.1f} GiB, and an ONNX file holds 2 at most")
        with atomic_write(out) as temporary:
            temporary.write_bytes(proto.SerializeToString())
            return _checked(temporary, graph, exported)


def check_packages() -> None:
    """RequestError where a package that export needs is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise RequestError(f"export needs {', '.join(missing)}; pip install 'ganforge[export]'")


def chosen_task(game: Game, task: str | None) -> str:
    """The task asked for, or the first of `OUTPUTS` that the game can; RequestError where it cannot."""
    if task is not None:
        able(game, CAPABILITIES[task])
        return task
    found = next((name for name in OUTPUTS if can(game, name)), None)
    if found is None:
        raise RequestError(f"{type(game).__name__} can do nothing that is exported: {', '.join(OUTPUTS)}")
    return found


def _sizes(graph: _Graph, spec: Spec) -> tuple[tuple[int, int] | None, int]:
    """The usual size of the pictures given, and the least multiple by which other sizes work: 0 where none does. Told by trying."""
    if not isinstance(spec, ImageSpec) or graph.task == "sample":
        return None, 0
    shrink = spec.factor if graph.task == "upscale" else 1
    height, width = spec.height // shrink, spec.width // shrink
    if graph.task not in ("translate", "upscale", "edit"):
        return (height, width), 0

    def works(multiple: int) -> bool:
        try:
            for rows, columns in _others((height, width), multiple):
                made = graph.make(*graph.inputs(spec, 1, (rows, columns)))
                sides = made.shape[1:3] if graph.as_bytes else made.shape[2:]
                if sides != (rows * shrink, columns * shrink):
                    return False
        except (RequestError, RuntimeError, ValueError):
            return False
        return True

    fits = (multiple for multiple in _MULTIPLES if height % multiple == width % multiple == 0)
    return (height, width), next(filter(works, fits), 0)


def _others(size: tuple[int, int], multiple: int) -> list[tuple[int, int]]:
    """Sizes unlike the usual one: a little larger, much larger, and half."""
    height, width = size
    half = [max(1, side // 2 // multiple) * multiple for side in size]
    return [(height + multiple, width + 2 * multiple), (2 * height + 3 * multiple, width), (half[0], half[1])]


def _traced(graph: _Graph, spec: Spec, name: str, size: tuple[int, int] | None, multiple: int) -> tuple[Any, Exported]:
    """The ONNX program, and what is known of it. RequestError where the game does what ONNX, or a file without chance, has not."""
    # Not the usual size, which a network may treat apart: as one that needs no margins.
    example = _others(size, multiple)[0] if size and multiple else size
    for n in (2, 1):
        given = graph.inputs(spec, n, example)
        with Draws() as draws:
            graph.make(*given)
        tensors = (*given, *draws.seen)
        sides = (1, 2) if graph.as_bytes else (2, 3)
        axes: list[dict[int, str]] = []
        for tensor in tensors:
            named = {0: "batch"} if n > 1 and len(tensor) == n and tensor.ndim > 1 else {}
            if multiple and tensor.ndim == 4:
                # What was drawn is as torch has it, whatever the pictures are as.
                named |= dict(zip(sides if len(axes) < len(given) else (2, 3), ("height", "width"), strict=True))
            axes.append(named)
        names = [*graph.given, *(f"noise{number or ''}" for number in range(len(draws.seen)))]
        program = _program(graph, tensors, axes)
        made = _last(program)
        if not isinstance(made.shape[0], int):
            break
    shapes = [[named.get(axis, side) for axis, side in enumerate(t.shape)] for named, t in zip(axes, tensors, strict=True)]
    exported = Exported(
        name=name,
        task=graph.task,
        way=graph.way,
        as_bytes=graph.as_bytes,
        inputs=dict(zip(names, shapes, strict=True)),
        output=OUTPUTS[graph.task],
        spec=spec,
        size=size,
        multiple=multiple,
        any_number=not isinstance(made.shape[0], int),
        noise=dict(zip(names[len(given) :], draws.laws, strict=True)),
        without_dropout=draws.dropped,
        dials=dict(able(graph.game, Edits).dials) if graph.task == "edit" else {},
    )
    return _written(program, exported, axes), exported


def _program(graph: _Graph, tensors: tuple[Tensor, ...], axes: list[dict[int, str]]) -> Any:
    free = tuple(dict.fromkeys(named, torch.export.Dim.AUTO) for named in axes)
    try:
        # A question about a size is answered as the example answers it; that other sizes agree, the comparison shows.
        program = torch.export.export(
            graph, tensors, dynamic_shapes={"tensors": free}, strict=False, prefer_deferred_runtime_asserts_over_guards=True
        )
    except Exception as error:
        raise RequestError(f"this game's {graph.task} cannot be traced by torch.export: {_first_line(error)}") from error
    chance = torch.Tag.nondeterministic_seeded
    nodes = (node.target for node in program.graph.nodes)
    drawn = next((str(target) for target in nodes if isinstance(target, torch._ops.OpOverload) and chance in target.tags), None)
    if drawn is not None:
        raise RequestError(f"this game's {graph.task} draws by {drawn}: a file cannot repeat that; only randn and rand become inputs")
    return program


def _last(program: Any) -> Tensor:
    """The output, as traced."""
    (made,) = next(node for node in program.graph.nodes if node.op == "output").args[0]
    value: Tensor = made.meta["val"]
    return value


def _written(program: Any, exported: Exported, axes: list[dict[int, str]]) -> Any:
    with _calm():
        try:
            return torch.onnx.export(
                program,
                input_names=list(exported.inputs),
                output_names=[exported.output],
                # The others' axes are the first one's.
                dynamic_shapes={"tensors": (axes[0], *[{} for _ in axes[1:]])},
                opset_version=_OPSET,
                custom_translation_table={operator.floordiv: _floor_division()},
                verbose=False,
            )
        except Exception as error:
            raise RequestError(f"this game's {exported.task} cannot be written as ONNX: {_first_line(error)}") from error


def _floor_division() -> Callable[..., Any]:
    """a // b of whole numbers as Python has it: torch's own translation rounds towards 0, wrong where `-(-side // 4)` rounds up."""
    from onnxscript import opset20 as onnx

    def floor_division(a: Any, b: Any) -> Any:
        return onnx.Div(onnx.Sub(a, onnx.Mod(a, b)), b)

    return floor_division


@contextmanager
def _calm() -> Iterator[None]:
    """Without what torch.onnx says to others than us: that torchvision is absent, and that a class of its own is deprecated."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")

    def of_us(record: logging.LogRecord) -> bool:
        return "torchvision is not installed" not in record.getMessage()

    log.addFilter(of_us)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            yield
    finally:
        log.removeFilter(of_us)


def _labelled(program: Any, exported: Exported, game: Game) -> Any:
    """The file's contents: without the paths of source files that tracing notes, and with what a user must know."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    model = program.model
    ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = "ganforge", versions()["ganforge"]
    told: dict[str, Any] = {
        "game": game_name(type(game)),
        "task": exported.task,
        "way": exported.way,
        "images": "uint8 [n, H, W, C]" if exported.as_bytes else "float32 [n, C, H, W] in [-1, 1]",
        "classes": getattr(exported.spec, "classes", ()),
        "dials": exported.dials,
        "noise": exported.noise,
        "latent": latents(game, 1)[0].tolist() if exported.task == "sample" else (),
    }
    model.metadata_props.update({name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items() if value})
    return program.model_proto


def _checked(file: Path, graph: _Graph, exported: Exported) -> Exported:
    """The same with the largest difference from PyTorch; TrainingError where that is too large, or ONNX Runtime refuses the file."""
    import onnx
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what fails is said in our own line
    differences: list[float] = []
    checked: list[str] = []
    sizes: list[tuple[int, int] | None] = [exported.size]
    if exported.size is not None and exported.multiple:
        sizes += _others(exported.size, exported.multiple)
    try:
        onnx.checker.check_model(file, full_check=True)
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        for number, size in enumerate(sizes):
            for n in (1, 3) if exported.any_number and number < 2 else (1,):
                given = graph.inputs(exported.spec, n, size)
                with Draws() as draws:
                    wanted = graph.make(*given)
                feeds = {name: t.numpy() for name, t in zip(exported.inputs, (*given, *draws.seen), strict=True)}
                (made,) = session.run([exported.output], feeds)
                differences.append(_difference(torch.from_numpy(made), wanted))
                checked.append("x".join(map(str, given[0].shape)))
    except Exception as error:
        raise TrainingError(f"the ONNX file of {exported.task} does not run: {_first_line(error)}") from error
    limit, worst = 1.0 if wanted.dtype == torch.uint8 else TOLERANCE, torch.tensor(differences).max().item()
    if not worst <= limit:
        told = ", ".join(f"{each:.2g} for {shape}" for shape, each in zip(checked, differences, strict=True))
        raise TrainingError(f"the ONNX file of {exported.task} differs from PyTorch by more than {limit:g}, so there is none: by {told}")
    return replace(exported, difference=worst, checked=checked, mib=file.stat().st_size / 2**20)


def _difference(made: Tensor, wanted: Tensor) -> float:
    """The largest, in units of `wanted` where that is at most 1, else relative to the largest; infinite where shapes differ."""
    if made.shape != wanted.shape:
        return math.inf
    scale = 1.0 if wanted.dtype == torch.uint8 else max(1.0, wanted.abs().max().item())
    return (made.double() - wanted.double()).abs().max().item() / scale


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
