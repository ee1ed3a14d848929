"""Tail measures over scenarios with one shared quadratic kernel: solved by their structure and certified."""

from __future__ import annotations

from crosswind.solvers.tail.certificate import TailBound, lower_bound
from crosswind.solvers.tail.problem import TailProgram, tail_caps, worst_mean
from crosswind.solvers.tail.solution import TailSolution
from crosswind.solvers.tail.solve import solve_tail

__all__ = ["TailBound", "TailProgram", "TailSolution", "lower_bound", "solve_tail", "tail_caps", "worst_mean"]
