"""Of games whose answer is known: translations of aligned pairs, enlarged pictures, filled holes; beside each the simple way to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import combinations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganforge.batches import LowHigh, Masked, Pairs, images_from_bytes, images_to_bytes
from ganforge.capabilities import Inpaints, Translates, Upscales, ends_of
from ganforge.metrics.fidelity import l1, levels, luma, psnr, ssim
from ganforge.metrics.findings import NotMeasuredError, Score, Section
from ganforge.metrics.material import Material, Part, as_kind

Measure = Callable[[Tensor, Tensor], Tensor]
LEVELS = "of 255"

_INPUTS, _DRAWS = 32, 4
_BIHARMONIC = 16
_MEASURES: dict[str, tuple[Measure, str]] = {"L1": (l1, LEVELS), "PSNR": (psnr, "dB"), "SSIM": (ssim, "")}


class Tally:
    """Means over pictures of what is measured, for several ways to make them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[Tensor]] = {}

    def add(self, measure: str, way: str, values: Tensor) -> None:
        """A value of each of some pictures, [n]."""
        self._values.setdefault((measure, way), []).append(values)

    def score(self, measure: str, name: str, unit: str = "") -> Score:
        """The mean of the way "" as a score called `name`, those of all others beside it."""
        means = {way: torch.cat(values).mean().item() for (of, way), values in self._values.items() if of == measure}
        return Score(name, means.pop(""), unit, means)


def pairs(game: Translates, material: Material) -> Section:
    """For each way: L1, PSNR and SSIM to the picture that belongs to the input, and how much the answers to one input differ.

    Beside them the input as it is, and the mean of the pictures that were wanted in training. "diversity" is the mean L1 between two of
    4 answers to an input, over 32 inputs: 0 where there is only one answer.
    """
    part, learn = material.shown(Pairs), as_kind(material.trained, Pairs, "train")
    scores = []
    for way in game.ways:
        given, wanted = ends_of(way)
        tally, usual = Tally(), None if learn is None else _mean_picture(Part.of(learn).first(1000), wanted)
        for batch in part.batches(Pairs, material.device):
            a, b = batch.tensors()[given], levels(batch.tensors()[wanted])
            made = {"": levels(game.translate(a, way)), "input": levels(a)}
            made |= {} if usual is None else {"mean picture": levels(usual[None]).expand_as(b)}
            for name, (measure, _) in _MEASURES.items():
                for what, pictures in made.items():
                    tally.add(name, what, measure(pictures, b))
        scores += [tally.score(name, f"{way}: {name}", unit) for name, (_, unit) in _MEASURES.items()]
        scores.append(Score(f"{way}: diversity", _diversity(game, way, given, part, material), LEVELS))
    return Section("translations, against the pictures wanted", scores)


def _mean_picture(part: Part, field: str) -> Tensor:
    """The mean of all pictures of a field, [C, H, W]."""
    return sum((batch.tensors()[field].sum(dim=0) for batch in part.batches(Pairs)), torch.zeros(())) / len(part)


def _diversity(game: Translates, way: str, given: str, part: Part, material: Material) -> float:
    """The mean L1 in levels between two answers of different seeds to one input."""
    made = []
    for draw in range(_DRAWS):
        torch.manual_seed(material.seed + draw)
        batches = part.first(_INPUTS).batches(part.source.kinds[0], material.device)
        made.append(torch.cat([levels(game.translate(batch.tensors()[given], way)) for batch in batches]))
    return float(np.mean([l1(x, y).mean().item() for x, y in combinations(made, 2)]))


def upscales(game: Upscales, material: Material) -> Section:
    """PSNR and SSIM of the luma (BT.601), a border of `factor` pixels left out, beside those of a bicubic enlargement (Pillow's)."""
    part, tally = material.shown(LowHigh), Tally()
    for batch in part.batches(LowHigh, material.device):
        low, high = batch.tensors()["low"], batch.tensors()["high"]
        factor = high.shape[2] // low.shape[2]
        wanted = _inner(luma(levels(high)), factor)
        for way, large in {"": game.upscale(low), "bicubic": enlarged(low, factor)}.items():
            made = _inner(luma(levels(large)), factor)
            tally.add("PSNR", way, psnr(made, wanted))
            tally.add("SSIM", way, ssim(made, wanted))
    return Section("enlarged pictures", [tally.score("PSNR", "PSNR of Y", "dB"), tally.score("SSIM", "SSIM of Y")])


def _inner(pictures: Tensor, border: int) -> Tensor:
    return pictures[:, :, border:-border, border:-border]


def enlarged(low: Tensor, factor: int) -> Tensor:
    """[n, C, h, w] in [-1, 1] to `factor` times as many pixels a side, by Pillow's bicubic filter (a = -0.5) in bytes."""
    made = []
    for pixels in images_to_bytes(low).cpu().numpy():
        height, width, channels = pixels.shape
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        large = picture.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
        made.append(np.asarray(large).reshape(height * factor, width * factor, channels))
    return images_from_bytes(torch.from_numpy(np.stack(made)))


def inpaints(game: Inpaints, material: Material) -> Section:
    """PSNR and L1 in the hole, beside the mean colour of what surrounds it, and, of the first 16, biharmonic inpainting.

    The game is given pictures whose hole is grey: what was there it cannot see. Biharmonic inpainting needs scikit-image.
    """
    part, tally, scores = material.shown(Masked), Tally(), []
    for _, image, mask, filled in _filled(game, part, material):
        wanted = levels(image)
        for way, made in {"": filled, "mean colour": mean_colour(image, mask)}.items():
            tally.add("PSNR", way, psnr(levels(made), wanted, mask))
            tally.add("L1", way, l1(levels(made), wanted, mask))
    scores = [tally.score("PSNR", "PSNR in the hole", "dB"), tally.score("L1", "L1 in the hole", LEVELS)]
    few, smooth = part.first(_BIHARMONIC), Tally()
    try:
        for _, image, mask, filled in _filled(game, few, material):
            smooth.add("PSNR", "", psnr(levels(filled), levels(image), mask))
            smooth.add("PSNR", "biharmonic", psnr(levels(biharmonic(image, mask)), levels(image), mask))
    except ImportError:
        return Section("filled holes", scores, ["no biharmonic inpainting to compare with: pip install scikit-image"])
    return Section("filled holes", [*scores, smooth.score("PSNR", f"PSNR in the hole, first {len(few)}", "dB")])


def _filled(game: Inpaints, part: Part, material: Material) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    for number, batch in enumerate(part.batches(Masked, material.device)):
        image, mask = batch.tensors()["image"], batch.tensors()["mask"]
        if not mask.flatten(1).any(dim=1).all():
            raise NotMeasuredError(f"data {part.source.name!r}: a mask has no hole")
        yield number, image.cpu(), mask.cpu(), game.inpaint(image * (1 - mask), mask).cpu()


def mean_colour(image: Tensor, mask: Tensor) -> Tensor:
    """[n, C, H, W] with the hole in the mean colour of everything outside it."""
    around = (image * (1 - mask)).sum(dim=(2, 3), keepdim=True) / (1 - mask).sum(dim=(2, 3), keepdim=True).clamp_min(1)
    return torch.where(mask > 0, around, image)


def biharmonic(image: Tensor, mask: Tensor) -> Tensor:
    """[n, C, H, W] with the hole filled as smoothly as can be, by scikit-image; ImportError without it."""
    restoration = import_module("skimage.restoration")
    pictures = [
        restoration.inpaint_biharmonic(picture.permute(1, 2, 0).double().numpy(), hole[0].numpy() > 0, channel_axis=-1)
        for picture, hole in zip(image, mask, strict=True)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().clamp(-1, 1)
