"""What an evaluation finds: scores with what they are to be read against, in sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ganforge.errors import RequestError
from ganforge.metrics.manifolds import Extractor

Better = Literal["lower", "higher", ""]
"""Which way a score is better; "" where neither is."""


class NotMeasuredError(RequestError):
    """The data at hand lack what a measure needs: one line that says what."""


@dataclass(frozen=True)
class Score:
    """One number, its `unit` ("" for shares and counts), and `beside` it what the same measure gives for something known.

    `better` says which way is better ("" where neither is); `space` is the identity of the extractor in whose features it was taken ("" for
    none): numbers of two spaces must not be compared.
    """

    name: str
    value: float
    unit: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)
    better: Better = ""
    space: str = ""


@dataclass(frozen=True)
class Space:
    """The extractor in whose features, or by whose verdicts, scores were taken: see `manifolds.Extractor`."""

    name: str
    identity: str
    about: str

    @classmethod
    def of(cls, extractor: Extractor) -> Space:
        """What is to be known of an extractor beside its scores."""
        return cls(extractor.name, extractor.identity, extractor.about)


@dataclass(frozen=True)
class Section:
    """The scores of one thing that a game can do.

    `details` are what JSON has and a table has no room for, `notes` lines for a person, `spaces` what the scores' `space` names.
    """

    title: str
    scores: list[Score]
    notes: list[str] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)
    spaces: list[Space] = field(default_factory=list)


def section_of(stored: Mapping[str, Any]) -> Section:
    """The section of which `dataclasses.asdict` made this; KeyError, TypeError or AttributeError where it is none."""
    spaces = [Space(**space) for space in stored["spaces"]]
    return Section(**{**stored, "scores": [Score(**score) for score in stored["scores"]], "spaces": spaces})


def flat(sections: Iterable[Section]) -> dict[str, float]:
    """All numbers by name, that of a score first, then what stands beside it: {"PSNR": 25.1, "PSNR, bicubic": 24.1}."""
    found: dict[str, float] = {}
    for score in (score for section in sections for score in section.scores):
        found[score.name] = score.value
        found |= {f"{score.name}, {what}": value for what, value in score.beside.items()}
    return found
