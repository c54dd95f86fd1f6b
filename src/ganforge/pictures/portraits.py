"""One picture that shows what a game makes, whatever it makes: a contact sheet, a density, painted curves, points in the plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ganforge.batches import ImageSpec, Points, PointSpec, Spec, images_to_bytes
from ganforge.data.source import Finite, Source
from ganforge.data.stream import Stream
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.pictures import plots
from ganforge.pictures.grids import captioned, grid


@runtime_checkable
class _KnowsDensity(Protocol):
    def density(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class _KnowsBounds(Protocol):
    def bounds(self) -> tuple[Tensor, Tensor]: ...


def portrait(
    path: Path,
    samples: Tensor,
    spec: Spec,
    *,
    source: Source | None = None,
    judge: Callable[[Tensor], Tensor] | None = None,
    caption: str = "",
    columns: int | None = None,
) -> None:
    """Draws `samples`, [n, *spec.shape], to `path` in the way that suits `spec`, with the caption in a corner.

    Pictures make a contact sheet. Points on the line make a density beside the real one of `source`, curves are painted between the
    bounds of the real ones, points in the plane lie over faint real ones; of more dimensions the first two are drawn. `judge`, [n, d]
    to [n], adds its verdict at every place of the line or the plane; `columns` are those of a contact sheet. RequestError where the samples
    have another shape than `spec`.
    """
    if samples.shape[1:] != spec.shape or len(samples) == 0:
        raise RequestError(
            f"{path}: samples of shape {list(samples.shape)}; {spec} are [n, {', '.join(map(str, spec.shape))}], n at least 1"
        )
    if isinstance(spec, ImageSpec):
        sheet = captioned(grid(images_to_bytes(samples).cpu().numpy(), columns), caption)
        with atomic_write(path) as temporary:
            sheet.save(temporary)
        return
    real = _real(source)
    if spec.abscissae:
        bounds = source.bounds() if isinstance(source, _KnowsBounds) else None
        plots.curves(path, samples, spec.abscissae, real=real, bounds=bounds, caption=caption)
    elif spec.dimension == 1:
        truth = source.density if isinstance(source, _KnowsDensity) else None
        plots.density(path, samples, real=real, truth=truth, judge=judge, caption=caption)
    else:
        plots.plane(path, samples, real=real, judge=judge, caption=caption)


def _real(source: Source | None) -> Tensor | None:
    """A few thousand real points, the same at every call, or fewer where there are no more."""
    if source is None or not isinstance(source.spec, PointSpec):
        return None
    count = min(source.count, 4096) if isinstance(source, Finite) else 4096
    return Stream(source, Points, seed=0, device=torch.device("cpu")).at(0, count).x
