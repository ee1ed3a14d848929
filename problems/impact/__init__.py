"""Cross-impact: estimation under all no-arbitrage constraints at once, baselines, diagnosis."""

from __future__ import annotations

from crosswind.problems.impact.baselines import (
    DiagonalNNLS,
    FullOLS,
    KyleImpact,
    OwnFlowOLS,
    SequentialHeuristic,
)
from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import Dictionary, make_dictionary
from crosswind.problems.impact.model import ImpactModel

__all__ = [
    "CrossImpact",
    "DiagonalNNLS",
    "Dictionary",
    "FullOLS",
    "ImpactEstimator",
    "ImpactModel",
    "KyleImpact",
    "OwnFlowOLS",
    "SequentialHeuristic",
    "make_dictionary",
]
