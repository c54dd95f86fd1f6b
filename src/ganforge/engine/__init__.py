"""The engine: plays any game, and keeps its promises. It knows no game by name."""

from ganforge.engine.examination import examined
from ganforge.engine.ranks import leads
from ganforge.engine.session import Interrupted
from ganforge.engine.settings import Settings
from ganforge.engine.trainer import Trainer
from ganforge.engine.training import train

__all__ = ["Interrupted", "Settings", "Trainer", "examined", "leads", "train"]
