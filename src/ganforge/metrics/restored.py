"""Of games whose answer is known: translations of aligned pairs, enlarged pictures, filled holes; beside each the simple way to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganforge.batches import LowHigh, Masked, Pairs, images_from_bytes, images_to_bytes
from ganforge.capabilities import Inpaints, Translates, Upscales, ends_of
from ganforge.metrics.fidelity import LEAST_SIDE, l1, levels, luma, ms_ssim, psnr, ssim, window
from ganforge.metrics.findings import NotMeasuredError, Score, Section, Space
from ganforge.metrics.material import Material, Part, as_kind

LEVELS = "of 255"

_INPUTS, _DRAWS = 32, 4
_BIHARMONIC = 16


@dataclass(frozen=True)
class Measure:
    """`of` two batches of pictures in levels, [n, C, H, W] each, a number for each two, [n]; the rest as in `Score`."""

    of: Callable[[Tensor, Tensor], Tensor]
    unit: str = ""
    better: Literal["lower", "higher"] = "higher"
    space: str = ""


_L1, _PSNR = Measure(l1, LEVELS, "lower"), Measure(psnr, "dB")


def likenesses(height: int, width: int) -> dict[str, Measure]:
    """PSNR and SSIM, and MS-SSIM where pictures of this size are large enough for its five scales."""
    return {"PSNR": _PSNR, "SSIM": Measure(ssim)} | ({"MS-SSIM": Measure(ms_ssim)} if min(height, width) >= LEAST_SIDE else {})


def conventions(colours: str, border: str, height: int, width: int, n: int) -> str:
    """A line that says how pictures of this size were compared, as numbers by other conventions are other numbers."""
    side = window(height, width)
    scales = "MS-SSIM at 5 scales" if min(height, width) >= LEAST_SIDE else f"no MS-SSIM below {LEAST_SIDE} pixels a side"
    return (
        f"{colours} of 8-bit pictures (0 to 255), {border}: {width}x{height}; SSIM by a Gaussian window of {side}x{side}, sigma 1.5, "
        f"wholly within the picture; {scales}; means over {n} pictures, of SSIM first over places and channels"
    )


def perceptual(material: Material, section: Section, height: int, width: int) -> dict[str, Measure]:
    """LPIPS where a network for it is given and takes pictures of this size; the section is told how, or why not."""
    network = material.lpips
    if network is None:
        return {}
    refusal = network.refusal(height, width)
    if refusal:
        section.notes.append(f"LPIPS not measured: {refusal}")
        return {}
    section.notes.append(f"LPIPS of whole pictures, {network.about}")
    section.spaces.append(Space("lpips", network.space, network.about))
    return {"LPIPS": Measure(network.distance, "", "lower", network.space)}


class Tally:
    """Means over pictures of what is measured, for several ways to make them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[Tensor]] = {}

    def add(self, measure: str, way: str, values: Tensor) -> None:
        """A value of each of some pictures, [n]."""
        self._values.setdefault((measure, way), []).append(values)

    def compare(self, measures: Mapping[str, Measure], made: Mapping[str, Tensor], wanted: Tensor) -> None:
        """Notes all measures of pictures made in several ways, by way, each [n, C, H, W] in levels as those `wanted`."""
        for name, measure in measures.items():
            for way, pictures in made.items():
                self.add(name, way, measure.of(pictures, wanted))

    def score(self, name: str, measure: Measure, title: str = "") -> Score:
        """The mean of the way "" as a score called `title` (else `name`), those of all others beside it."""
        means = {way: torch.cat(values).mean().item() for (of, way), values in self._values.items() if of == name}
        return Score(title or name, means.pop(""), measure.unit, means, measure.better, measure.space)


def pairs(game: Translates, material: Material) -> Section:
    """For each way: L1, PSNR, SSIM, MS-SSIM and LPIPS to the picture that belongs to the input, and how much the answers to one differ.

    Beside them the input as it is, and the mean of the pictures that were wanted in training. "diversity" is the mean L1, "LPIPS diversity"
    the mean LPIPS, between two of 4 answers to an input, over 32 inputs: 0 where there is only one answer.
    """
    part, learn = material.shown(Pairs), as_kind(material.trained, Pairs, "train")
    _, channels, height, width = next(part.first(1).batches(Pairs)).x.shape
    section = Section("translations, against the pictures wanted", [])
    section.notes.append(conventions("grey" if channels == 1 else "RGB", "no border left out", height, width, len(part)))
    seen = perceptual(material, section, height, width)
    measures = {"L1": _L1, **likenesses(height, width), **seen}
    for way in game.ways:
        given, wanted = ends_of(way)
        tally, usual = Tally(), None if learn is None else _mean_picture(Part.of(learn).first(1000), wanted)
        for batch in part.batches(Pairs, material.device):
            a, b = batch.tensors()[given], levels(batch.tensors()[wanted])
            made = {"": levels(game.translate(a, way)), "input": levels(a)}
            made |= {} if usual is None else {"mean picture": levels(usual[None]).expand_as(b)}
            tally.compare(measures, made, b)
        section.scores.extend(tally.score(name, measure, f"{way}: {name}") for name, measure in measures.items())
        answers = _answers(game, way, given, part, material)
        for name, measure in {"diversity": _L1, **{f"{name} diversity": each for name, each in seen.items()}}.items():
            value = _apart(answers, measure)
            section.scores.append(Score(f"{way}: {name}", value, measure.unit, better="higher", space=measure.space))
    return section


def _mean_picture(part: Part, field: str) -> Tensor:
    """The mean of all pictures of a field, [C, H, W]."""
    return sum((batch.tensors()[field].sum(dim=0) for batch in part.batches(Pairs)), torch.zeros(())) / len(part)


def _answers(game: Translates, way: str, given: str, part: Part, material: Material) -> list[Tensor]:
    """Answers of different seeds to the same inputs, in levels, [m, C, H, W] each."""
    made = []
    for draw in range(_DRAWS):
        torch.manual_seed(material.seed + draw)
        batches = part.first(_INPUTS).batches(part.source.kinds[0], material.device)
        made.append(torch.cat([levels(game.translate(batch.tensors()[given], way)) for batch in batches]))
    return made


def _apart(answers: list[Tensor], measure: Measure) -> float:
    """The mean of a measure between two answers to one input."""
    return float(np.mean([measure.of(x, y).mean().item() for x, y in combinations(answers, 2)]))


def upscales(game: Upscales, material: Material) -> Section:
    """PSNR, SSIM and MS-SSIM of the luma (BT.601), a border of `factor` pixels left out, and LPIPS; beside a bicubic enlargement's."""
    part, tally = material.shown(LowHigh), Tally()
    first = next(part.first(1).batches(LowHigh)).tensors()
    _, channels, height, width = first["high"].shape
    factor = height // first["low"].shape[2]
    inner = height - 2 * factor, width - 2 * factor
    section = Section("enlarged pictures", [])
    colours = "grey" if channels == 1 else "Y of BT.601 (16 to 235)"
    section.notes.append(conventions(colours, f"{factor} pixels at each border left out", *inner, len(part)))
    measures, seen = likenesses(*inner), perceptual(material, section, height, width)
    for batch in part.batches(LowHigh, material.device):
        low, wanted = batch.tensors()["low"], levels(batch.tensors()["high"])
        made = {"": levels(game.upscale(low)), "bicubic": levels(enlarged(low, factor))}
        tally.compare(seen, made, wanted)
        tally.compare(measures, {way: _inner(luma(large), factor) for way, large in made.items()}, _inner(luma(wanted), factor))
    section.scores.extend(tally.score(name, measure, f"{name} of Y") for name, measure in measures.items())
    section.scores.extend(tally.score(name, measure) for name, measure in seen.items())
    return section


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
    """PSNR and L1 in the hole, LPIPS of the whole picture, beside the mean colour around it, and, of the first 16, biharmonic inpainting.

    The game is given pictures whose hole is grey: what was there it cannot see. Biharmonic inpainting needs scikit-image.
    """
    part, tally = material.shown(Masked), Tally()
    _, channels, height, width = next(part.first(1).batches(Masked)).x.shape
    section = Section("filled holes", [])
    colours = "grey" if channels == 1 else "RGB"
    section.notes.append(f"{colours} of 8-bit pictures (0 to 255), the pixels in the hole alone; means over {len(part)} pictures")
    seen = perceptual(material, section, height, width)
    for _, image, mask, filled in _filled(game, part, material):
        made = {way: levels(pictures) for way, pictures in {"": filled, "mean colour": mean_colour(image, mask)}.items()}
        tally.compare(_in_hole(mask) | seen, made, levels(image))
    section.scores.extend(tally.score(name, measure, f"{name} in the hole") for name, measure in _in_hole().items())
    section.scores.extend(tally.score(name, measure, f"{name} of the whole picture") for name, measure in seen.items())
    few, smooth = part.first(_BIHARMONIC), Tally()
    try:
        for _, image, mask, filled in _filled(game, few, material):
            made = {"": levels(filled), "biharmonic": levels(biharmonic(image, mask))}
            smooth.compare(_in_hole(mask), made, levels(image))
        section.scores.append(smooth.score("PSNR", _PSNR, f"PSNR in the hole, first {len(few)}"))
    except ImportError:
        section.notes.append("no biharmonic inpainting to compare with: pip install scikit-image")
    return section


def _in_hole(mask: Tensor | None = None) -> dict[str, Measure]:
    return {
        "PSNR": replace(_PSNR, of=partial(psnr, where=mask)),
        "L1": replace(_L1, of=partial(l1, where=mask)),
    }


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
