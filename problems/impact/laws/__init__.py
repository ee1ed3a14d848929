"""Single-name laws of impact: square root, temporary and permanent, propagator; from orders or from flow."""

from __future__ import annotations

from crosswind.problems.impact.laws.almgren import AlmgrenLaw
from crosswind.problems.impact.laws.manipulation import Manipulation
from crosswind.problems.impact.laws.propagator import PropagatorLaw
from crosswind.problems.impact.laws.propagator_result import PropagatorFit
from crosswind.problems.impact.laws.result import LawFit
from crosswind.problems.impact.laws.square_root import SquareRootLaw
from crosswind.problems.impact.laws.tables import COLUMNS

__all__ = ["COLUMNS", "AlmgrenLaw", "LawFit", "Manipulation", "PropagatorFit", "PropagatorLaw", "SquareRootLaw"]
