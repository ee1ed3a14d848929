"""What a roll desk watches: congestion, depth elasticity, basis dislocation, legging exposure, deadline pressure."""

from __future__ import annotations

from crosswind.problems.roll.metrics.bands import metric_bands
from crosswind.problems.roll.metrics.baseline import RollVolumeBaseline
from crosswind.problems.roll.metrics.batch import roll_metrics
from crosswind.problems.roll.metrics.config import METRICS, RollMetricsConfig
from crosswind.problems.roll.metrics.functions import (
    basis_z,
    deadline_pressure,
    depth_elasticity,
    executable_pace,
    roll_participation,
)
from crosswind.problems.roll.metrics.legging import legging_exposure, legging_pairs
from crosswind.problems.roll.metrics.stream import MetricStream

__all__ = [
    "METRICS",
    "MetricStream",
    "RollMetricsConfig",
    "RollVolumeBaseline",
    "basis_z",
    "deadline_pressure",
    "depth_elasticity",
    "executable_pace",
    "legging_exposure",
    "legging_pairs",
    "metric_bands",
    "roll_metrics",
    "roll_participation",
]
