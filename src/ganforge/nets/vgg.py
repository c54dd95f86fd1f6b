"""Perceptual features: the maps of a VGG19 that was trained on ImageNet, from a file of its weights.

Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556. As a distance between pictures: Johnson et al., arXiv:1603.08155, and SRGAN,
arXiv:1609.04802; before the activation ESRGAN, arXiv:1809.00219.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.downloads import fetch
from ganforge.errors import RequestError

_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 512, 512, "pool", 512, 512, 512, 512)
_PUBLISHED, _SHA256 = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "dcbb9e9d"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19(nn.Module):
    """[n, 1 or 3, h, w] in [-1, 1] to the maps [n, c, h', w'] of one of its convolutions.

    `weights` is a file of torchvision's layout (`features.0.weight`, ...; .safetensors, or what torch.save writes, read without unpickling
    anything but tensors), or "vgg19": the published one, downloaded once into torch's own cache and checked by its hash. `layer` "5_4" is
    the fourth convolution after the fourth pooling; `activated` takes it after its ReLU.

    Fixed: it has no parameters, and its weights are in no checkpoint. RequestError where the file is not what it should be.
    """

    def __init__(self, weights: str, layer: str = "5_4", *, activated: bool = True) -> None:
        super().__init__()
        self.activated = activated
        self.steps = _steps(layer)
        state = _read(weights)
        inputs = 3
        for number, step in enumerate(self.steps):
            if step != "pool":
                for name, shape in (("weight", (int(step), inputs, 3, 3)), ("bias", (int(step),))):
                    key = f"features.{_place(number)}.{name}"
                    found = state.get(key)
                    if found is None or tuple(found.shape) != shape:
                        has = "it has no such entry" if found is None else f"there it is {list(found.shape)}"
                        raise RequestError(f"{weights}: {key} of a VGG19 in torchvision's layout is {list(shape)}; {has}")
                    self.register_buffer(f"{name}{number}", found.float(), persistent=False)
                inputs = int(step)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """[n, 1 or 3, h, w] in [-1, 1] to [n, c, h / 2^k, w / 2^k], k the poolings before the layer; grey is three equal channels."""
        x = ((image + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("deviation")
        for number, step in enumerate(self.steps):
            if step == "pool":
                x = F.max_pool2d(x, 2)
            else:
                x = F.conv2d(x, self.get_buffer(f"weight{number}"), self.get_buffer(f"bias{number}"), padding=1)
                if self.activated or number + 1 < len(self.steps):
                    x = F.relu(x)
        return x


def _steps(layer: str) -> tuple[int | str, ...]:
    """The convolutions (their maps) and poolings up to a layer."""
    match = re.fullmatch(r"([1-5])_([1-4])", layer)
    block, number = (int(match[1]), int(match[2])) if match else (0, 0)
    ends = [place for place, step in enumerate(_PLAN) if step == "pool"]
    begins = [0, *(end + 1 for end in ends)]
    place = begins[block - 1] + number - 1
    if match is None or place >= [*ends, len(_PLAN)][block - 1]:
        raise RequestError(f"layer {layer!r}: a VGG19 has 1_1, 1_2, 2_1, 2_2, 3_1 to 3_4, 4_1 to 4_4, 5_1 to 5_4")
    return _PLAN[: place + 1]


def _place(number: int) -> int:
    """Where torchvision's list has step `number`: there each convolution is followed by its ReLU."""
    return number + sum(step != "pool" for step in _PLAN[:number])


def _read(weights: str) -> dict[str, Tensor]:
    path = fetch(_PUBLISHED, _SHA256, "VGG19's weights") if weights == "vgg19" else Path(weights).expanduser()
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RequestError(f"{weights}: there is no such file; give the weights of a VGG19, or vgg19 to download them") from None
    except Exception as error:
        raise RequestError(f"{weights}: not a file of weights ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(state, dict):
        raise RequestError(f"{weights}: holds {type(state).__name__}, not the weights of a network by name")
    return state
