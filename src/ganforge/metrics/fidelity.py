"""How near a picture is to the one that was wanted, pixel by pixel: L1, PSNR, SSIM, MS-SSIM, in levels of 0 to 255."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import images_to_bytes

_HIGHEST = 100.0
_WINDOW, _SIGMA = 11, 1.5
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

LEAST_SIDE = (_WINDOW - 1) * 2 ** (len(_WEIGHTS) - 1) + 1
"""The shortest side for MS-SSIM, 161: the window must lie within the smallest of the five scales."""


def levels(images: Tensor) -> Tensor:
    """[n, C, H, W] in [-1, 1] to the levels 0 to 255 that a file would have, float64 on the CPU."""
    return images_to_bytes(images).permute(0, 3, 1, 2).double().cpu()


def l1(made: Tensor, wanted: Tensor, where: Tensor | None = None) -> Tensor:
    """The mean difference of each picture, [n], in levels; `where` [n, 1, H, W] of 0 and 1 says of which pixels, at least one of each."""
    return _mean((made - wanted).abs(), where)


def psnr(made: Tensor, wanted: Tensor, where: Tensor | None = None) -> Tensor:
    """10 log10(255^2 / mean squared difference) of each picture, [n], in dB; 100 where both are equal."""
    return (10 * torch.log10(255**2 / _mean((made - wanted).square(), where))).clamp(max=_HIGHEST)


def _mean(values: Tensor, where: Tensor | None) -> Tensor:
    if where is None:
        return values.flatten(1).mean(dim=1)
    weights = where.to(values).expand_as(values)
    return (values * weights).flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1)


def window(height: int, width: int) -> int:
    """The side of SSIM's window: 11, or the largest odd one that fits into smaller pictures."""
    return min(_WINDOW, *((side - 1) // 2 * 2 + 1 for side in (height, width)))


def ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """The structural similarity of each picture, [n]: 1 where both are equal. Of colours the mean over the channels.

    Wang et al. 2004 (IEEE TIP 13:4): a Gaussian window of 11x11 with standard deviation 1.5 wherever it lies wholly within the picture,
    K_1 = 0.01, K_2 = 0.03. Of pictures below 11 pixels the window is the largest odd one that fits.
    """
    return _likeness(made, wanted)[0].mean(dim=1)


def ms_ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """SSIM at five scales in one number of each picture, [n], 0 to 1; pictures of `LEAST_SIDE` a side or more, else ValueError.

    Wang, Simoncelli and Bovik 2003 (Asilomar, "Multiscale structural similarity for image quality assessment"): contrast and structure at
    each scale, luminance at the last, to the powers of their table. A scale is the mean of 2x2 pixels of that before, edges repeated;
    what is below 0 counts as 0, as powers of it are none.
    """
    if min(made.shape[2:]) < LEAST_SIDE:
        raise ValueError(f"pictures of {made.shape[3]}x{made.shape[2]}: MS-SSIM needs {LEAST_SIDE} pixels a side or more")
    product = torch.ones(made.shape[:2], dtype=made.dtype)
    for scale, weight in enumerate(_WEIGHTS):
        if scale:
            # ceil_mode divides by what lies within, which is what repeating an odd edge gives.
            made, wanted = (F.avg_pool2d(pictures, 2, ceil_mode=True) for pictures in (made, wanted))
        whole, contrast = _likeness(made, wanted)
        product *= (whole if scale == len(_WEIGHTS) - 1 else contrast).clamp_min(0) ** weight
    return product.mean(dim=1)


def _likeness(made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its factor of contrast and structure alone: [n, C] each, means over all places of the window."""
    size = window(made.shape[2], made.shape[3])
    bell = torch.exp(-(torch.arange(size, dtype=made.dtype) - size // 2).square() / (2 * _SIGMA**2))
    bell /= bell.sum()

    def blurred(images: Tensor) -> Tensor:
        rows = images.flatten(0, 1)[:, None]
        return F.conv2d(F.conv2d(rows, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))

    mean_x, mean_y = blurred(made), blurred(wanted)
    var_x, var_y = blurred(made.square()) - mean_x.square(), blurred(wanted.square()) - mean_y.square()
    cov = blurred(made * wanted) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    contrast = (2 * cov + c2) / (var_x + var_y + c2)
    whole, alone = (values.flatten(1).mean(dim=1).view(made.shape[:2]) for values in (luminance * contrast, contrast))
    return whole, alone


def luma(pictures: Tensor) -> Tensor:
    """Y of ITU-R BT.601, 16 to 235, of levels [n, 3, H, W], as MATLAB's rgb2ycbcr gives it; grey pictures stay as they are."""
    if pictures.shape[1] == 1:
        return pictures
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=pictures.dtype) / 255
    return 16 + torch.einsum("nchw,c->nhw", pictures, weights)[:, None]
