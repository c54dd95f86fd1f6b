"""Extractors in files: the Inception network of the field, any TorchScript, any ONNX."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganforge.batches import images_to_bytes
from ganforge.downloads import checksum, fetch
from ganforge.errors import RequestError
from ganforge.metrics.extractors import identity_of, in_channels, resized
from ganforge.metrics.manifolds import Extractor, ExtractorError, Features, as_features
from ganforge.metrics.material import CPU, told
from ganforge.metrics.scripts import check_file, last_line, open_script

INCEPTION = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
# NVIDIA prints no checksum; this is that of the copies in hngan/webui-models and hngan/env_diffusers_x on Hugging Face (95,607,719 bytes).
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
SUFFIXES = (".pt", ".pth", ".torchscript", ".onnx")
_SIDE = 299
_GREY_OR_COLOUR = (1, 3)


def inception(device: torch.device = CPU) -> Extractor:
    """The Inception network of FID, fetched once; RequestError where it cannot be had."""
    return from_file(fetch(INCEPTION, INCEPTION_SHA256, "the Inception network"), device)


def from_file(path: Path, device: torch.device = CPU) -> Extractor:
    """A TorchScript or ONNX file as an extractor; RequestError where it is none."""
    if path.suffix == ".onnx":
        return Onnx(path)
    module, arguments = open_script(path, device)
    if list(arguments.values()).count(False) != 1:
        raise RequestError(f"{path}: takes ({', '.join(arguments)}); an extractor is called with pictures alone")
    return (Inception if {"return_features", "no_output_bias"} <= arguments.keys() else Script)(path, module, device)


class Inception:
    """The call of NVlabs/stylegan2-ada-pytorch: `f(levels 0 to 255 in RGB, return_features=True)`, or probabilities without output bias.

    Pictures are rounded to levels, as files would have them, and brought to 299 a side by the antialiased bicubic filter of Parmar et al.,
    arXiv:2104.11222; the file's own resizing, which smooths nothing, then finds them at their size.
    """

    def __init__(self, path: Path, module: Any, device: torch.device) -> None:
        found = checksum(path)
        self.name = "inception" if found == INCEPTION_SHA256 else path.stem
        self.about = f"levels 0 to 255 in RGB, {_SIDE}x{_SIDE}, antialiased bicubic; grey is repeated"
        self.identity = identity_of(self.name, self.about, found)
        self._path, self._module, self._device = path, module, device

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """See `Extractor`: [n, 2048] of the Inception network."""
        return self._told(lambda levels: self._module(levels, return_features=True), images)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Features:
        """See `TellsClasses`: [n, 1008] of the Inception network, as its Inception Scores are taken."""
        return self._told(lambda levels: self._module(levels, no_output_bias=True), images)

    def _told(self, of: Callable[[Tensor], Tensor], images: Tensor) -> Features:
        def shown(chunk: Tensor) -> Tensor:
            levels = images_to_bytes(in_channels(chunk, 3, self.name)).permute(0, 3, 1, 2).float()
            return _rows(self._path, of, resized(levels, (_SIDE, _SIDE), "bicubic"))

        return as_features(told(shown, images, self._device))


class Script:
    """A TorchScript f(pictures [n, C, H, W] in [-1, 1]) to n rows of any shape, at the pictures' own size."""

    def __init__(self, path: Path, module: Any, device: torch.device) -> None:
        self.name = path.stem
        self.about = "pictures in [-1, 1] at their own size; grey is repeated where the file takes colours"
        self.identity = identity_of(self.name, self.about, checksum(path))
        self._path, self._module, self._device = path, module, device

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """See `Extractor`."""
        channels = self._channels(images[:1].to(self._device).float())
        return as_features(
            told(lambda chunk: _rows(self._path, self._module, in_channels(chunk.float(), channels, self.name)), images, self._device)
        )

    def _channels(self, one: Tensor) -> int:
        """How many the file takes: those of the pictures, or of grey ones 3. The file itself is asked, as nothing in it says so."""
        if one.shape[1] == 1:
            try:
                self._module(one)
            except RuntimeError:
                return 3
        return one.shape[1]


class Onnx:
    """An ONNX of one input, float pictures [n, C, H, W] in [-1, 1], and n rows of any shape as its first output, run by onnxruntime.

    What the file says of C, H, W and of n is heeded. RequestError for any other file, and without onnxruntime.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self._path = path
        try:
            runtime = import_module("onnxruntime")
        except ImportError:
            raise RequestError(f"{path}: ONNX files are run by onnxruntime: pip install onnxruntime") from None
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception of its own for each of its complaints
            raise RequestError(f"{path}: is no ONNX file that can be run ({last_line(error)})") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            takes = ", ".join(f"{each.type} {each.shape}" for each in inputs)
            raise RequestError(f"{path}: takes {takes}; an extractor takes one input of float pictures [n, C, H, W]")
        self._input = inputs[0].name
        self._count, self._channels, *size = (each if isinstance(each, int) else None for each in inputs[0].shape)
        if self._channels not in (None, *_GREY_OR_COLOUR):
            raise RequestError(
                f"{path}: takes {inputs[0].shape}, pictures of {self._channels} channels; an extractor takes [n, 1 or 3, H, W]"
            )
        self._size = (size[0], size[1]) if size[0] and size[1] else None
        shown = f"{self._size[1]}x{self._size[0]}, antialiased bilinear" if self._size else "at their own size"
        self.name = path.stem
        self.about = f"pictures in [-1, 1], {shown}; grey is repeated where the file takes colours"
        # Exporters put the weights of large networks into a second file.
        hashes = [checksum(file) for file in (path, path.with_name(f"{path.name}.data")) if file.is_file()]
        self.identity = identity_of(self.name, self.about, *hashes)

    def features(self, images: Tensor) -> Features:
        """See `Extractor`."""
        return as_features(told(self._of, images, CPU))

    def _of(self, images: Tensor) -> Tensor:
        shown = in_channels(images.float(), self._channels or images.shape[1], self.name)
        shown = resized(shown, self._size) if self._size else shown
        if self._count is None:
            return self._run(shown)
        return torch.cat([self._run(_filled(part, self._count))[: len(part)] for part in shown.split(self._count)])

    def _run(self, shown: Tensor) -> Tensor:
        def run(batch: Tensor) -> Tensor:
            try:
                return torch.from_numpy(np.asarray(self._session.run(None, {self._input: batch.contiguous().numpy()})[0]))
            except Exception as error:  # as above
                raise RuntimeError(error) from None

        return _rows(self._path, run, shown)


def _filled(part: Tensor, count: int) -> Tensor:
    """As many as the file takes at once; the last is repeated."""
    return torch.cat([part, part[-1:].expand(count - len(part), -1, -1, -1)])


def _rows(path: Path, of: Callable[[Tensor], Any], shown: Tensor) -> Tensor:
    """What the file makes of pictures, [n, d]; ExtractorError where it cannot take them, or gives no row of numbers for each."""
    n, channels, height, width = shown.shape
    try:
        made = of(shown)
    except RuntimeError as error:
        raise ExtractorError(f"{path}: cannot take pictures of {channels} channels, {width}x{height} ({last_line(error)})") from None
    if not isinstance(made, Tensor) or made.dim() < 2 or len(made) != n:
        shape = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ExtractorError(f"{path}: makes {shape} of {n} pictures; an extractor makes [{n}, d] of them")
    rows = made.flatten(1).float()
    if not torch.isfinite(rows).all():
        raise ExtractorError(f"{path}: makes features that are no finite numbers")
    return rows
