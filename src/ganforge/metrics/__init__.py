"""Says in numbers how good a game is at what it can do: against a known truth where the data have one, otherwise against real data."""

from ganforge.metrics.evaluating import METRICS, evaluate, examine
from ganforge.metrics.extractors import game_extractor
from ganforge.metrics.features import open_extractor
from ganforge.metrics.findings import Score, Section, Space
from ganforge.metrics.manifolds import Extractor
from ganforge.metrics.measuring import measure

__all__ = ["METRICS", "Extractor", "Score", "Section", "Space", "evaluate", "examine", "game_extractor", "measure", "open_extractor"]
