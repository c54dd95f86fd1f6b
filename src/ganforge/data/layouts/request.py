"""What is asked of a SOURCE, and the protocol of the layouts that may answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ganforge.batches import Batch, ImageSpec
from ganforge.data.layouts.albums import Album
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.serving import Side, fingerprint
from ganforge.data.reading import Reading, Split
from ganforge.data.source import Finite

T = TypeVar("T")


class Opened(Finite):
    """A source and how it came about: `layout` names what was found, `bad` says of each file left out why, `request` what was asked."""

    layout: str = ""
    request: Request | None = None

    def __init__(
        self,
        name: str,
        spec: ImageSpec,
        kinds: tuple[type[Batch], ...],
        sides: Sequence[Side],
        notes: Iterable[str],
        facts: Iterable[object],
    ) -> None:
        super().__init__(name, spec, kinds, [*notes, *dict.fromkeys(note for side in sides for note in side.notes)])
        self.bad = {file: why for side in sides for file, why in side.bad.items()}
        self.slow = any(side.pixels.slow for side in sides)
        self.fingerprint = fingerprint(facts)


class Request:
    """A SOURCE as its `places` (one, or two joined by a comma), and how it is to be read; `kinds` as of `open_source`."""

    def __init__(self, text: str, places: Sequence[Place], split: Split, reading: Reading, kinds: tuple[type[Batch], ...] = ()) -> None:
        self.text = text
        self.places = tuple(places)
        self.split = split
        self.reading = reading
        self.kinds = kinds
        self._found: dict[Callable[[Request], Any], Any] = {}

    @property
    def albums(self) -> list[Album]:
        """The pictures asked for, of each place; RequestError where there are none of this split."""
        return [place.album(self.split) for place in self.places]

    @property
    def album(self) -> Album:
        """The pictures asked for, of the only place."""
        return self.albums[0]

    @property
    def directed(self) -> list[Album]:
        """The two albums, the input first, as `--direction` says."""
        return self.in_direction(self.albums)

    def in_direction(self, pair: Sequence[T]) -> list[T]:
        """Two things, the input's first."""
        return list(pair) if self.reading.direction == "AtoB" else list(pair)[::-1]

    def once(self, find: Callable[[Request], T]) -> T:
        """What `find` finds; it looks only once, and must give what nobody changes."""
        if find not in self._found:
            self._found[find] = find(self)
        found: T = self._found[find]
        return found


@dataclass(frozen=True)
class Layout:
    """One meaning that a SOURCE of so many `places` can have: `name` says it to a person, `kind` is what it is opened for.

    `refusal` says why this SOURCE does not have this meaning, or None where it does; `open` makes the source.
    """

    kind: type[Batch]
    name: str
    refusal: Callable[[Request], str | None]
    open: Callable[[Request], Opened]
    places: int = 1
