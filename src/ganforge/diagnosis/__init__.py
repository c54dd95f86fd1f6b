"""Says what goes wrong in a game, since when, why as a rule, and what to try: signs are measured, rules read them."""

from ganforge.diagnosis.rules import Course, Finding, findings
from ganforge.diagnosis.signs import SIGNS, Seen, signs

__all__ = ["SIGNS", "Course", "Finding", "Seen", "findings", "signs"]
