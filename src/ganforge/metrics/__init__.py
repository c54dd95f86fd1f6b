"""Says in numbers how good a game is at what it can do: against a known truth where the data have one, otherwise against real data."""

from ganforge.metrics.evaluating import evaluate, examine
from ganforge.metrics.findings import Score, Section
from ganforge.metrics.measuring import measure

__all__ = ["Score", "Section", "evaluate", "examine", "measure"]
