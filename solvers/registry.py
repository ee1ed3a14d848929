"""The backends by name: which are there, what they can do, and whether they really solve a program today."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Program
from crosswind.solvers.certify import certify
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["available_solvers", "backend", "chain_of", "solver_table"]

_NAMES = ("piqp", "clarabel", "osqp", "cvxpy")
AUTO_QUADRATIC = ("piqp", "clarabel")
AUTO_CONIC = ("clarabel",)


@lru_cache(maxsize=32)
def backend(name: str) -> Backend:
    """Return the backend called ``name``: one of piqp, clarabel, osqp, cvxpy or cvxpy:SOLVER.

    Raises
    ------
    InvalidInput
        On an unknown name; the message lists what is there.
    MissingDependency
        When the backend's package is not installed.
    """
    head, _, tail = name.partition(":")
    found: Backend
    if head == "piqp" and not tail:
        from crosswind.solvers.backends.piqp import Piqp

        found = Piqp()
    elif head == "clarabel" and not tail:
        from crosswind.solvers.backends.clarabel import Clarabel

        found = Clarabel()
    elif head == "osqp" and not tail:
        from crosswind.solvers.backends.osqp import Osqp

        found = Osqp()
    elif head == "cvxpy":
        from crosswind.solvers.backends.cvxpy_bridge import CvxpyBridge

        found = CvxpyBridge(tail or None)
    else:
        raise InvalidInput(
            "unknown solver",
            field="solver",
            value=name,
            remedy=f"one of auto, {', '.join(available_solvers())} or cvxpy:SOLVER",
        )
    if not found.installed():
        raise MissingDependency(
            f"the package {found.module} is not installed",
            field="solver",
            value=name,
            remedy=f"pip install {found.module}",
        )
    return found


def chain_of(solver: object, program: Program, time_limit: float | None = None) -> tuple[str, ...]:
    """Return the chain of backend names that ``solver`` means for ``program``, every name checked.

    ``"auto"`` is ("piqp", "clarabel") for a quadratic program and ("clarabel",) for cones. PIQP cannot be stopped by
    the clock, so with a time limit ``"auto"`` is ("clarabel",).

    Raises
    ------
    InvalidInput
        On an unknown name, an empty chain, or a backend that cannot take cones.
    """
    conic = isinstance(program, ConeProgram)
    if isinstance(solver, str):
        if solver == "auto":
            return AUTO_CONIC if conic or time_limit is not None else AUTO_QUADRATIC
        chain: tuple[str, ...] = (solver,)
    elif isinstance(solver, (tuple, list)) and solver and all(isinstance(name, str) for name in solver):
        chain = tuple(solver)
    else:
        raise InvalidInput(
            "expected a name or a tuple of names", field="solver", value=solver, remedy="for example 'auto'"
        )
    for name in chain:
        if conic and not backend(name).conic:
            raise InvalidInput(
                "this solver takes no cones", field="solver", value=name, remedy="use clarabel or cvxpy:SOLVER"
            )
    return chain


@lru_cache(maxsize=1)
def available_solvers() -> tuple[str, ...]:
    """Return the names of the backends that work here, "cvxpy" when it is installed.

    The direct backends are probed with a real tiny solve, once per process; cvxpy takes seconds to import and is probed
    only by :func:`solver_table`.
    """
    return tuple(
        name for name in _NAMES if backend_installed(name) and (name == "cvxpy" or _probe(name, conic=False)[0] == "")
    )


def backend_installed(name: str) -> bool:
    """Tell whether the package behind ``name`` can be found."""
    try:
        return backend(name).installed()
    except MissingDependency:
        return False


def solver_table() -> pd.DataFrame:
    """Return one row per backend: version, licence, what it can do, and the outcome of a real tiny solve.

    Columns ``version``, ``licence``, ``quadratic`` and ``cones`` ("ok", the failure's text, or "no"), ``worst_rel``
    (our certificate of the tiny solve), ``milliseconds``, ``warm_start``, ``time_limit``, ``proofs`` (returns
    certificate vectors).
    """
    import pandas as pd

    rows: dict[str, dict[str, object]] = {}
    for name in _NAMES:
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
