"""From data to a decision: cross-validation, resampled intervals, held-out costs, stability, and promotion."""

from __future__ import annotations

from crosswind.problems.impact.calibrate.bands import Bands, bootstrap_matrices
from crosswind.problems.impact.calibrate.calibration import calibrate
from crosswind.problems.impact.calibrate.candidates import TunedHeuristic, complexity, default_estimators
from crosswind.problems.impact.calibrate.folds import Fold, TimeFolds, halves, time_folds
from crosswind.problems.impact.calibrate.model import Calibration
from crosswind.problems.impact.calibrate.promotion import Promotion, promote
from crosswind.problems.impact.calibrate.scores import Scores

__all__ = [
    "Bands",
    "Calibration",
    "Fold",
    "Promotion",
    "Scores",
    "TimeFolds",
    "TunedHeuristic",
    "bootstrap_matrices",
    "calibrate",
    "complexity",
    "default_estimators",
    "halves",
    "promote",
    "time_folds",
]
