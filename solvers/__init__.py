"""How a convex program is solved, certified and reported; knows no finance."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosswind.solvers.certify import certify as certify
    from crosswind.solvers.cones import smat as smat
    from crosswind.solvers.cones import svec as svec
    from crosswind.solvers.elastic import ElasticReport as ElasticReport
    from crosswind.solvers.elastic import elastic as elastic
    from crosswind.solvers.program import Cone as Cone
    from crosswind.solvers.program import ConeProgram as ConeProgram
    from crosswind.solvers.program import QuadraticProgram as QuadraticProgram
    from crosswind.solvers.registry import available_solvers as available_solvers
    from crosswind.solvers.registry import solver_table as solver_table
    from crosswind.solvers.session import Session as Session
    from crosswind.solvers.solution import Attempt as Attempt
    from crosswind.solvers.solution import Certificate as Certificate
    from crosswind.solvers.solution import Proof as Proof
    from crosswind.solvers.solution import Solution as Solution
    from crosswind.solvers.solution import Status as Status
    from crosswind.solvers.solve import solve as solve

_HOME = {
    "Attempt": "solution",
    "Certificate": "solution",
    "Cone": "program",
    "ConeProgram": "program",
    "ElasticReport": "elastic",
    "Proof": "solution",
    "QuadraticProgram": "program",
    "Session": "session",
    "Solution": "solution",
    "Status": "solution",
    "available_solvers": "registry",
    "certify": "certify",
    "elastic": "elastic",
    "smat": "cones",
    "solve": "solve",
    "solver_table": "registry",
    "svec": "cones",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
