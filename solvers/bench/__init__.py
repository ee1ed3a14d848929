"""The benchmark over the backends: programs in, graded rows, statistics and a report's parts out; knows no finance.

Importing this package loads nothing of a solver, a plot or a table format.
"""

from __future__ import annotations

from crosswind.solvers.bench.compare import Comparison, compare
from crosswind.solvers.bench.engine import BenchResult, load_result, run_bench
from crosswind.solvers.bench.plan import MODES, Cell, Plan
from crosswind.solvers.bench.statistics import performance_profile, shifted_geometric_mean
from crosswind.solvers.bench.suites import Case, Race, Stream, Suite, folder_suite, register_suite, suite_names

__all__ = [
    "MODES",
    "BenchResult",
    "Case",
    "Cell",
    "Comparison",
    "Plan",
    "Race",
    "Stream",
    "Suite",
    "compare",
    "folder_suite",
    "load_result",
    "performance_profile",
    "register_suite",
    "run_bench",
    "shifted_geometric_mean",
    "suite_names",
]
