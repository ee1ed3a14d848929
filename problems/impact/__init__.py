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
from crosswind.problems.impact.evaluate import Recovery, compare_models, recovery, truth_model
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
    "Recovery",
    "SequentialHeuristic",
    "compare_models",
    "make_dictionary",
    "recovery",
    "truth_model",
]
