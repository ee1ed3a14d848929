"""Solve a program through an explicit chain of backends and grade every iterate ourselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart, guarded
from crosswind.solvers.certify import certify
from crosswind.solvers.cones import project_dual
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.face import sharpened
from crosswind.solvers.grade import grade
from crosswind.solvers.matrices import Vector
from crosswind.solvers.phase_one import find_feasible
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.proofs import prove_infeasible
from crosswind.solvers.registry import backend, chain_of
from crosswind.solvers.solution import Attempt, Proof, Solution, Status

__all__ = ["TIGHTER", "run_chain", "solve", "warm_point"]

TIGHTER = 1e-3
"""How much more a backend is asked for once more whose claim did not pass."""

_log = logging.getLogger(__name__)
# What we disagree about is kept in the Solution; it reaches a terminal only where the application sets logging up.
logging.getLogger("crosswind").addHandler(logging.NullHandler())

_FINAL = (Status.OPTIMAL, Status.INFEASIBLE, Status.UNBOUNDED)
_ORDER = (
    Status.OPTIMAL,
    Status.INFEASIBLE,
    Status.UNBOUNDED,
    Status.FEASIBLE,
    Status.INACCURATE,
    Status.TIME_LIMIT,
    Status.ITERATION_LIMIT,
    Status.NUMERICAL,
)


def solve(
    program: Program,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-6,
    time_limit: float | None = None,
    warm_start: Solution | tuple[Vector, Vector, Vector] | None = None,
    verify: bool = True,
    **settings: Any,
) -> Solution:
    r"""Solve a convex program and grade the answer by our own certificate.

    Parameters
    ----------
    program
        A :class:`QuadraticProgram` or :class:`ConeProgram`.
    solver
        A backend's name, a tuple of names tried in order until one gives OPTIMAL or a verified proof, or ``"auto"``:
        ("piqp", "clarabel") for quadratic programs, ("clarabel",) for cones or with a time limit. Nothing outside the
        chain ever provides the iterate; every call is recorded in ``Solution.attempts``.
    tol
        Asked relative accuracy of primal and dual residual and gap; backends are set tighter, the certificate decides.
    time_limit
        Seconds for the whole chain. PIQP cannot be stopped by the clock.
    warm_start
        A former Solution or (x, y, z), used by backends that can.
    verify
        False skips the convexity check of ``P`` (the caller vouches for it). The certificate is always taken, and
        INFEASIBLE and UNBOUNDED are never given without a verified proof.
    **settings
        Passed on to every backend of the chain by its own names.

    Returns
    -------
    Solution
        Solver trouble is told by its status and never raised.

    Raises
    ------
    InvalidInput
        On a program that is not convex, unknown solver names or settings, a tolerance outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from crosswind.solvers.program import QuadraticProgram
    >>> solve(QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0)).x.round(6).tolist()
    [0.5, 0.5]
    """
    check_request(program, tol, time_limit)
    chain = chain_of(solver, program, time_limit)
    if verify:
        program.require_convex()
    options = Options(tol, time_limit, settings)
    warm = warm_point(program, warm_start)
    return run_chain(program, chain, options, warm, lambda found, how: found.prepare(program, how))


def check_request(program: object, tol: float, time_limit: float | None) -> None:
    """Refuse what is no program and nonsensical tolerances or limits.

    Raises
    ------
    InvalidInput
        Naming the argument.
    """
    if not isinstance(program, (QuadraticProgram, ConeProgram)):
        raise InvalidInput(
            "expected a program",
            field="program",
            value=type(program).__name__,
            remedy="build a QuadraticProgram or ConeProgram",
        )
    if not 0.0 < tol < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="for example 1e-6")
    if time_limit is not None and not time_limit > 0.0:
        raise InvalidInput("must be positive", field="time_limit", value=time_limit, remedy="give seconds, or None")


def warm_point(program: Program, start: object) -> WarmStart | None:
    """Return a finite warm start of the right shape, or ``None`` when there is none to use.

    Raises
    ------
    InvalidInput
        On wrong shapes; a Solution without a finite iterate is silently no start.
    """
    if start is None:
        return None
    if isinstance(start, Solution):
        parts = (start.x, start.y, start.z)
    elif isinstance(start, (tuple, list)) and len(start) == 3:
        parts = tuple(np.asarray(part, dtype=np.float64) for part in start)  # type: ignore[assignment]
    else:
        raise InvalidInput("expected a Solution or (x, y, z)", field="warm_start", value=type(start).__name__)
    for part, size, name in zip(parts, (program.n, program.m, program.n), "xyz", strict=True):
        if part.shape != (size,):
            raise InvalidInput(f"{name} expected shape ({size},)", field="warm_start", value=part.shape)
    return WarmStart(*parts) if all(np.isfinite(part).all() for part in parts) else None


def run_chain(
    program: Program,
    chain: tuple[str, ...],
    options: Options,
    warm: WarmStart | None,
    prepare: Callable[[Backend, Options], Prepared],
) -> Solution:
    """Call the backends of ``chain`` in order until one answer is final; return the best with all attempts."""
    if program.n == 0:
        return _constant_program(program, options)
    begin = time.perf_counter()
    attempts: list[Attempt] = []
    best: Solution | None = None
    claimed = False
    queue = [(name, options) for name in chain]
    while queue:
        name, how = queue.pop(0)
        found = backend(name)
        left = None if options.time_limit is None else options.time_limit - (time.perf_counter() - begin)
        if left is not None and left <= 0.0 and best is not None:
            break
        candidate, raw_claim, note = _attempt(found, program, how, options.tol, warm, prepare, left)
        claimed |= raw_claim is Claim.INFEASIBLE
        seconds = candidate.setup_s + candidate.solve_s
        attempts.append(Attempt(name, candidate.backend_status, candidate.status, seconds, note, raw_claim.value))
        if best is None or _rank(candidate) < _rank(best):
            best = candidate
        if best.status in _FINAL:
            break
        if raw_claim is Claim.SOLVED and how is options:
            # It stopped by its own, looser rule (often relative to 1 + data): once more, a thousand times tighter.
            queue.insert(0, (name, Options(TIGHTER * options.tol, options.time_limit, options.settings)))
    assert best is not None
    if best.status is Status.NUMERICAL or (best.status not in _FINAL and claimed):
        best = _prove(program, best, options, attempts)
    best = replace(best, attempts=tuple(attempts))
    if best.disagrees:
        _log.warning("%s", best.disagreement)
    return best


def _attempt(
    found: Backend,
    program: Program,
    options: Options,
    tol: float,
    warm: WarmStart | None,
    prepare: Callable[[Backend, Options], Prepared],
    time_left: float | None,
) -> tuple[Solution, Claim, str]:
    start = time.perf_counter()
    prepared = guarded(lambda: prepare(found, options))
    between = time.perf_counter()
    raw: Raw | Exception
    if isinstance(prepared, Exception):
        raw = prepared
    else:
        ready = prepared
        # What set-up took is gone; zero would be refused, so the backend gets a microsecond to stop by itself.
        limit = max(time_left - (between - start), 1e-6) if time_left is not None and found.keeps_time else None
        raw = guarded(lambda: _checked(program, ready.solve(warm, limit)))
    if isinstance(raw, Exception):
        nothing = np.full(program.n, np.nan)
        raw = Raw(Claim.FAILED, f"{type(raw).__name__}: {raw}", nothing, np.full(program.m, np.nan), nothing)
    end = time.perf_counter()
    status, certificate, proof, note = grade(program, raw, tol)
    if isinstance(program, ConeProgram) and status is not Status.OPTIMAL:
        # An interior point that stops a digit short points to its face: some Newton steps there are cheaper than the
        # same solver asked for more.
        nearer = sharpened(raw, program, tol)
        if nearer is not raw:
            raw = nearer
            status, certificate, proof, note = grade(program, raw, tol)
            note = f"after Newton steps on the face of the cones; {note}".rstrip("; ")
        end = time.perf_counter()
    if proof is not None:
        raw = _without_iterate(program, raw, proof)
    solution = Solution(
        x=raw.x,
        y=raw.y,
        z=raw.z,
        s=raw.s if raw.s is not None else np.zeros(0),
        status=status,
        certificate=certificate,
        objective=certificate.objective if proof is None else _worth(proof),
        backend=found.name,
        backend_status=raw.word,
        setup_s=between - start,
        solve_s=end - between,
        iterations=raw.iterations,
        settings={"tol": tol, "time_limit": options.time_limit} | options.settings,
        proof=proof,
        var_names=program.var_names,
    )
    return solution, raw.claim, note


def _checked(program: Program, raw: object) -> Raw:
    """Refuse an answer that is no answer: wrong types and shapes are the backend's failure, not the caller's."""
    if not isinstance(raw, Raw):
        raise TypeError(f"the backend returned {type(raw).__name__} in place of Raw")
    sizes = [("x", raw.x, program.n), ("y", raw.y, program.m), ("z", raw.z, program.n)]
    if raw.s is not None:
        sizes.append(("s", raw.s, program.m))
    if raw.ray is not None:
        sizes.append(("ray", raw.ray, program.n))
    if raw.farkas is not None:
        sizes += [("farkas y", raw.farkas[0], program.m), ("farkas z", raw.farkas[1], program.n)]
    for name, value, size in sizes:
        if np.shape(value) != (size,):
            raise ValueError(f"the backend returned {name} of shape {np.shape(value)}, not ({size},)")
    return raw


def _prove(program: Program, best: Solution, options: Options, attempts: list[Attempt]) -> Solution:
    """Look for the proof that a claim of infeasibility, or a failure, lacks, through our own phase one."""
    start = time.perf_counter()
    _, proof = find_feasible(program)
    seconds = time.perf_counter() - start
    status = best.status if proof is None else Status.INFEASIBLE
    note = "no proof found" if proof is None else "Farkas certificate from the least-squares violation, verified"
    attempts.append(Attempt("phase one", "", status, seconds, note))
    if proof is None:
        return best
    nothing = np.full(program.n, np.nan)
    return replace(best, status=status, proof=proof, x=nothing, y=proof.y, z=proof.z, objective=_worth(proof))


def _constant_program(program: Program, options: Options) -> Solution:
    """Grade the program without variables: the constant, if zero keeps the rows."""
    nothing, y = np.zeros(0), np.zeros(program.m)
    certificate = certify(program, nothing, y, tol=options.tol)
    proof = None
    status = Status.OPTIMAL
    if not certificate.passes():
        status = Status.NUMERICAL
        if isinstance(program, QuadraticProgram):
            y = np.where(program.u < 0.0, 1.0, np.where(program.l > 0.0, -1.0, 0.0))
        else:
            y = project_dual(program.cones, -program.b)  # what −b has in K* separates b from K (Moreau)
        proof = prove_infeasible(program, y)
        status = Status.INFEASIBLE if proof is not None else status
    slack = program.b if isinstance(program, ConeProgram) else np.zeros(0)
    return Solution(
        nothing,
        np.zeros(program.m),
        nothing,
        status,
        certificate,
        certificate.objective,
        "none",
        "",
        s=slack,
        proof=proof,
    )


def _without_iterate(program: Program, raw: Raw, proof: Proof) -> Raw:
    """Replace an iterate that means nothing by what is proved: Farkas' multipliers, or no number at all."""
    nothing = np.full(program.n, np.nan)
    if proof.kind == "infeasible":
        return replace(raw, x=nothing, y=proof.y, z=proof.z, s=None)
    return replace(raw, x=nothing, y=np.full(program.m, np.nan), z=nothing, s=None)


def _worth(proof: Proof) -> float:
    return np.inf if proof.kind == "infeasible" else -np.inf


def _rank(solution: Solution) -> tuple[int, float]:
    return _ORDER.index(solution.status), solution.certificate.worst
