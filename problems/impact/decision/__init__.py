"""Calibration by decisions: penalties and kernels chosen by what their schedules cost on data they have not seen."""

from __future__ import annotations

from crosswind.problems.impact.decision.model import DecisionCalibration
from crosswind.problems.impact.decision.parents import ParentBaskets, draw_parents
from crosswind.problems.impact.decision.refine import Refinement
from crosswind.problems.impact.decision.run import calibrate_decision

__all__ = ["DecisionCalibration", "ParentBaskets", "Refinement", "calibrate_decision", "draw_parents"]
