"""Which extractor is meant: by its name, its file, or what the data at hand allow."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from torch import Tensor

from ganforge.errors import RequestError
from ganforge.metrics.extractors import Pixels
from ganforge.metrics.findings import NotMeasuredError
from ganforge.metrics.manifolds import Extractor, TellsClasses
from ganforge.metrics.material import CPU, Material, Part
from ganforge.metrics.pretrained import SUFFIXES, from_file, inception
from ganforge.metrics.readers import reader_of
from ganforge.metrics.reference import features_of

__all__ = ["Extractor", "Pixels", "classes_of", "classifier_of", "extractor_of", "features_of", "open_extractor", "places_of"]

_NAMES = ("auto", "pixels", "classifier", "inception")


def open_extractor(asked: str, device: torch.device | str = CPU) -> Extractor:
    """The extractor that needs no data: "pixels", "inception", or a TorchScript or ONNX file of one's own, on `device`.

    RequestError where there is none of this name, or the file is none.
    """
    if asked == "pixels":
        return Pixels()
    if asked == "inception":
        return inception(torch.device(device))
    if Path(asked).suffix in SUFFIXES:
        return from_file(Path(asked).expanduser(), torch.device(device))
    if Path(asked).is_dir():
        raise RequestError(f"features {asked!r}: is a folder; a run that encodes or classifies is named as classifier:{asked}")
    near = difflib.get_close_matches(asked, _NAMES, n=1)
    hint = f"did you mean {near[0]}? There are" if near else "there are"
    files = f"files that end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    raise RequestError(f"features {asked!r}: no extractor is called that; {hint} {', '.join(_NAMES)}, classifier:RUN, and {files}")


def extractor_of(material: Material, side: int = 0) -> Extractor:
    """The extractor that is asked for; "auto" is that of a classifier taught on labelled pictures, where there are such, else pixels."""
    if not isinstance(material.features, str):
        return material.features
    try:
        return _taught(material, side)
    except NotMeasuredError:
        if material.features == "classifier":
            raise
        return Pixels()


def classifier_of(material: Material) -> TellsClasses:
    """The extractor that is asked for, where it knows classes; else a classifier taught on labelled pictures."""
    asked = material.features
    return asked if isinstance(asked, TellsClasses) else _taught(material)


def _taught(material: Material, side: int = 0) -> TellsClasses:
    learn, _ = material.labelled(side)
    return reader_of("classes", learn, len(classes_of(learn)))


def classes_of(part: Part) -> tuple[str, ...]:
    """The names of the classes of labelled pictures."""
    classes: tuple[str, ...] = getattr(part.source.spec, "classes", ())
    return classes


def places_of(part: Part, names: tuple[str, ...]) -> Tensor:
    """For each class of labelled pictures its place in `names`, [k] int64; -1 for a class that is none of them.

    NotMeasuredError where all are none of them.
    """
    if set(names).isdisjoint(classes_of(part)):
        raise NotMeasuredError(f"the classes of {part.source.name!r} are {', '.join(classes_of(part))}; the run's are {', '.join(names)}")
    return torch.tensor([names.index(name) if name in names else -1 for name in classes_of(part)], dtype=torch.int64)
