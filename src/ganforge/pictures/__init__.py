"""Draws what games make and how they fared: contact sheets, plots, histories, animations."""

from ganforge.pictures.animation import animation
from ganforge.pictures.grids import captioned, grid, strip
from ganforge.pictures.history import history
from ganforge.pictures.portraits import portrait
from ganforge.pictures.sheets import compared, sheet

__all__ = ["animation", "captioned", "compared", "grid", "history", "portrait", "sheet", "strip"]
