"""LPIPS: how far apart two pictures look to a network that has learned from judgements of people; read from a TorchScript."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ganforge.downloads import checksum, fetch
from ganforge.errors import RequestError
from ganforge.metrics.scripts import last_line, open_script

# NVIDIA prints no checksum; this one stands in the Git LFS pointer of the file in pbizimis/cp-backend and in others' code that loads it.
_PUBLISHED = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/vgg16.pt"
_SHA256 = "b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3"
_CHUNK = 8
_TRIAL = 64


class Perceptual:
    """LPIPS of Zhang et al. 2018, arXiv:1801.03924, by a network in a file.

    `weights` is "vgg" (the `vgg16.pt` of NVlabs/stylegan2-ada-pytorch, fetched once and checked) or a TorchScript, called in one of two
    ways, as its arguments say: `f(images, resize_images=False, return_lpips=True)`, images in 0 to 255, to rows whose squared Euclidean
    distance is LPIPS, as that file; or `f(x, y)`, pictures in [-1, 1], to the n distances. RequestError for any other file.
    """

    def __init__(self, weights: str, device: torch.device | str = "cpu") -> None:
        path = fetch(_PUBLISHED, _SHA256, "LPIPS's vgg16.pt") if weights == "vgg" else Path(weights).expanduser()
        self._network, arguments = open_script(path, torch.device(device))
        self._device = torch.device(device)
        self._embeds = "return_lpips" in arguments
        if not self._embeds and list(arguments.values()).count(False) != 2:
            takes = ", ".join(arguments)
            raise RequestError(
                f"{weights}: takes ({takes}); LPIPS needs a TorchScript f(x, y) of two pictures, or one with return_lpips as vgg16.pt has"
            )
        self.space = f"lpips {checksum(path)}"
        """Names the network: distances by two networks cannot be compared."""
        self.about = f"{'levels 0 to 255' if self._embeds else 'values in [-1, 1]'} in RGB, not resized; grey is repeated"
        """How pictures are shown to it."""
        refusal = self.refusal(_TRIAL, _TRIAL)
        if refusal:
            raise RequestError(f"{weights}: does not measure LPIPS: {refusal}")

    @torch.no_grad()
    def distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The distance of each picture, [n, C, H, W] in levels of 0 to 255, to the other of its number: [n], 0 where both are equal.

        Grey pictures are shown in three equal channels. RequestError where the network cannot take them.
        """
        values = [self._of(x, y) for x, y in zip(made.split(_CHUNK), wanted.split(_CHUNK), strict=True)]
        return torch.cat(values)

    def _of(self, made: Tensor, wanted: Tensor) -> Tensor:
        x, y = (pictures.float().to(self._device).expand(-1, 3, -1, -1) for pictures in (made, wanted))
        found: Tensor
        try:
            if self._embeds:
                rows = self._network(torch.cat([x, y]), resize_images=False, return_lpips=True).flatten(1).double()
                found = (rows[: len(x)] - rows[len(x) :]).square().sum(dim=1)
            else:
                found = self._network(x / 127.5 - 1, y / 127.5 - 1).double().flatten()
        except (RuntimeError, AttributeError) as error:
            raise RequestError(f"pictures of {x.shape[3]}x{x.shape[2]} are refused ({last_line(error)})") from None
        if len(found) != len(x):
            raise RequestError(f"{len(found)} numbers for {len(x)} pairs of pictures")
        return found.cpu()

    def refusal(self, height: int, width: int) -> str:
        """Why pictures of this size cannot be compared, in a line; "" where they can."""
        x, y = torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(0)).round(decimals=2) * 255
        try:
            apart, same = self.distance(x, y), self.distance(x, x)
        except RequestError as error:
            return str(error)
        if not (apart > 0).all() or not apart.isfinite().all():
            return f"two pictures of noise of {width}x{height} are {apart[0].item():.3g} apart, which should be above 0"
        if same.abs().max() > 1e-3 * apart.max():
            return f"a picture is {same[0].item():.3g} away from itself, not 0"
        return ""
