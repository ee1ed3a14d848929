"""How a convex program is solved, certified and reported; knows no finance.

Importing this package loads numpy and scipy only; each backend is imported by the first solve that asks for it.
"""

from __future__ import annotations

# Bound here and not lazily: the functions solve, certify and elastic share the names of their modules, and a lazy
# attribute would give whichever of the two was touched last.
from crosswind.solvers.certify import certify
from crosswind.solvers.cones import smat, svec
from crosswind.solvers.elastic import ElasticReport, elastic
from crosswind.solvers.isolate import IsolatedRun, solve_isolated
from crosswind.solvers.probe import available_solvers, solver_table
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram
from crosswind.solvers.registry import register_backend
from crosswind.solvers.session import Session
from crosswind.solvers.solution import Attempt, Certificate, Proof, Solution, Status
from crosswind.solvers.solve import solve

__all__ = [
    "Attempt",
    "Certificate",
    "Cone",
    "ConeProgram",
    "ElasticReport",
    "IsolatedRun",
    "Proof",
    "QuadraticProgram",
    "Session",
    "Solution",
    "Status",
    "available_solvers",
    "certify",
    "elastic",
    "register_backend",
    "smat",
    "solve",
    "solve_isolated",
    "solver_table",
    "svec",
]
