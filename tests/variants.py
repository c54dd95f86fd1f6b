"""Every registered game, in each of its presets, on each kind of data that it reads, small enough to test in a blink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import torch
from torch import Tensor

from ganforge import zoo
from ganforge.batches import Batch, Points
from ganforge.data import Source, Stream, from_fields, open_source
from ganforge.engine import Settings, Trainer
from ganforge.game import Game, Move, Phase, hyper_parameters, reads


@dataclass(frozen=True)
class Variant:
    name: str
    preset: str
    kind: type[Batch]

    def __str__(self) -> str:
        return f"{self.name}-{self.preset}-{self.kind.__name__}"

    @property
    def cls(self) -> type[Game]:
        return zoo.find(self.name)

    @property
    def options(self) -> dict[str, Any]:
        """The preset's own choices, made small by what `tiny` says of widths and lengths."""
        presets = self.cls.presets
        return {**presets[self.preset].options, **presets["tiny"].options}

    @property
    def hyper(self) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if key in hyper_parameters(self.cls)}

    @property
    def batch_size(self) -> int:
        return int(self.options.get("batch_size", 8))

    def source(self) -> Source:
        """Forty random samples of the kind, or the game's own law."""
        if self.kind is Points:
            points = open_source(self.cls.source)
            return points if Points in points.kinds else open_source("ring")
        generator = torch.Generator().manual_seed(7)
        size, channels = int(self.options.get("size", 8)), self.options.get("channels", 1)

        def pictures(side: int = size) -> Tensor:
            return torch.randint(0, 256, (40, side, side, channels), dtype=torch.uint8, generator=generator)

        made: dict[str, Callable[[], Tensor]] = {
            "label": lambda: torch.arange(40) % 3,
            "attribute": lambda: torch.randint(0, 2, (40, 3), generator=generator).float(),
            "text": lambda: torch.randn(40, 6, generator=generator),
            "mask": lambda: 255 * torch.randint(0, 2, (40, size, size), dtype=torch.uint8, generator=generator),
            "low": lambda: pictures(max(1, size // 2)),
        }
        fields: dict[str, Any] = {field.name: made.get(field.name, pictures)() for field in dataclass_fields(self.kind)}
        return from_fields(self.kind, **fields)

    def batch(self, size: int = 4) -> Batch:
        """The first samples of the source."""
        return Stream(self.source(), self.kind, seed=0, device=torch.device("cpu")).at(0, size)

    def build(self, seed: int = 0) -> Game:
        torch.manual_seed(seed)
        return self.cls(self.source().spec, **self.hyper)

    def trainer(self, game: Game | None = None, **settings: Any) -> Trainer:
        options = Settings(**{"rounds": 6, "batch_size": self.batch_size, **settings})
        game = game or self.build(options.seed)
        stream = Stream(self.source(), self.kind, seed=options.seed, device=torch.device("cpu"))
        return Trainer(game, stream, options, torch.device("cpu"))


def variants() -> list[Variant]:
    return [
        Variant(name, preset, kind)
        for name in zoo.catalogue()
        for preset in dict.fromkeys(["tiny", *zoo.find(name).presets])
        for kind in reads(zoo.find(name))
    ]


def wrap_play(game: Game, wrapper: Callable[[Iterator[Move]], Iterator[Move]]) -> None:
    """Every round of every phase of this game passes through `wrapper`."""
    phases = game.phases()

    def wrapped(phase: Phase) -> Phase:
        return Phase(phase.name, lambda batches: wrapper(phase.play(batches)), phase.rounds, phase.batch_size, phase.size, phase.fresh)

    game.phases = lambda: [wrapped(phase) for phase in phases]  # type: ignore[method-assign]
