"""Cross-impact: estimation under all no-arbitrage constraints at once, baselines, diagnosis."""

from __future__ import annotations

from crosswind.problems.impact.features import Dictionary, make_dictionary
from crosswind.problems.impact.model import ImpactModel

__all__ = ["Dictionary", "ImpactModel", "make_dictionary"]
