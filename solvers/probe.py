"""Which backends really solve a program today, and what each of them can do."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crosswind.solvers.backends.base import Claim, Options, Program
from crosswind.solvers.certify import certify
from crosswind.solvers.errors import MissingDependency
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram
from crosswind.solvers.registry import backend, backend_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["available_solvers", "solver_table"]


@lru_cache(maxsize=1)
def available_solvers() -> tuple[str, ...]:
    """Return the names of the backends that work here, "cvxpy" when it is installed."""
    return tuple(
        name for name in backend_names() if _installed(name) and (name == "cvxpy" or _probe(name, conic=False)[0] == "")
    )


def _installed(name: str) -> bool:
    try:
        return backend(name).installed()
    except MissingDependency:
        return False


def solver_table() -> pd.DataFrame:
    """Return one row per backend: version, licence, what it can do, and the outcome of a real tiny solve."""
    import pandas as pd

    rows: dict[str, dict[str, object]] = {}
    for name in backend_names():
        try:
            found = backend(name)
        except MissingDependency as err:
            rows[name] = {"quadratic": str(err), "cones": "no"}
            continue
        trouble, worst, milliseconds = _probe(name, conic=False)
        cones = (_probe(name, conic=True)[0] or "ok") if found.conic else "no"
        rows[name] = {
            "version": found.version(),
            "licence": found.licence,
            "quadratic": trouble or "ok",
            "cones": cones,
            "worst_rel": worst,
            "milliseconds": milliseconds,
            "warm_start": found.warm_starts,
            "time_limit": found.keeps_time,
            "proofs": found.gives_proofs,
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "solver"
    return frame


def _probe(name: str, conic: bool) -> tuple[str, float, float]:
    """Solve a tiny program of known answer; return the trouble ("" for none), our worst measure, milliseconds."""
    program: Program
    if conic:
        # Project (1, 1) on the disc of radius one: x = (1, 1)/√2.
        facing = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
        program = ConeProgram(np.eye(2), np.full(2, -1.0), facing, np.array([1.0, 0.0, 0.0]), (Cone("soc", 3),))
        answer = np.full(2, np.sqrt(0.5))
    else:
        # Share one unit between two quadratic costs 1 : 3, the first capped at 0.7.
        one = np.ones(1)
        program = QuadraticProgram(
            np.diag([1.0, 3.0]), np.zeros(2), np.ones((1, 2)), one, one, lb=np.zeros(2), ub=np.array([0.7, 1.0])
        )
        answer = np.array([0.7, 0.3])
    start = time.perf_counter()
    try:
        prepared = backend(name).prepare(program, Options(tol=1e-6))
        raw = prepared.solve(None, None)
    except Exception as err:  # whatever a broken installation raises is the answer to the question
        return f"{type(err).__name__}: {err}", float("inf"), float("nan")
    milliseconds = 1e3 * (time.perf_counter() - start)
    certificate = certify(program, raw.x, raw.y, None if conic else raw.z, raw.s, tol=1e-5)
    if raw.claim is not Claim.SOLVED:
        return f"said {raw.word!r}", certificate.worst, milliseconds
    if not certificate.passes() or not np.allclose(raw.x, answer, atol=1e-4):
        return "gave a wrong answer", certificate.worst, milliseconds
    return "", certificate.worst, milliseconds
