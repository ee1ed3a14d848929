"""From calls to a row: every iterate graded by our certificate, in the engine's process, on the engine's program."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Claim, Program, Raw
from crosswind.solvers.bench.lane import Lost
from crosswind.solvers.bench.messages import Call, Done, Failed, Loaded
from crosswind.solvers.bench.plan import Cell
from crosswind.solvers.bench.reference import Held, references
from crosswind.solvers.bench.statistics import quantile
from crosswind.solvers.certify import certify
from crosswind.solvers.grade import grade
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.solution import Certificate, Status

__all__ = ["judge"]

_VERDICTS = (Status.OPTIMAL, Status.INFEASIBLE, Status.UNBOUNDED)
_CLAIMS = {
    Claim.SOLVED: (Status.OPTIMAL,),
    Claim.INFEASIBLE: (Status.INFEASIBLE,),
    Claim.UNBOUNDED: (Status.UNBOUNDED, Status.INFEASIBLE),
}


def judge(
    cell: Cell, programs: tuple[Program, ...], loaded: Loaded | None, answer: Done | Failed | Lost
) -> dict[str, Any]:
    """Return the row of a cell as plain data.

    Parameters
    ----------
    cell
        What was measured.
    programs
        One, or the stream; the engine's own copies.
    loaded
        What the worker told about its solver, None when it could not load it.
    answer
        Its calls, or why there are none.

    Returns
    -------
    dict
        Plain numbers and texts; the columns are described in the documentation of the benchmark.
    """
    row = _identity(cell, programs)
    row["import_s"] = None if loaded is None else loaded.import_s
    row["compiles"] = None if loaded is None else loaded.compiles
    if isinstance(answer, Lost):
        status = Status.TIME_LIMIT if answer.outcome == "timeout" else Status.NUMERICAL
        lost = {"outcome": answer.outcome, "status": status.name, "claimed": "", "word": "", "note": answer.text}
        return row | lost | {"success": False, "claimed_wrong": False, "lost_in_first": answer.first}
    if isinstance(answer, Failed):
        status = Status.INVALID if answer.refused else Status.NUMERICAL
        note = f"{answer.kind}: {answer.text}"
        failed = {
            "outcome": "refused" if answer.refused else "raised",
            "status": status.name,
            "claimed": "",
            "word": "",
        }
        return row | failed | {"note": note, "success": False, "claimed_wrong": False}
    row |= {"outcome": "ran", "note": "", "first_s": answer.first.total_s}
    row |= {"base_mb": answer.base_mb, "peak_mb": answer.peak_mb}
    row |= _times(answer.calls)
    if cell.mode == "sequence":
        return row | _sequence(cell, programs, answer.calls)
    row |= _verdict(cell, programs[0], answer.calls)
    if cell.mode == "anytime":
        row["points"] = [_point(programs[0], call, cell.accuracy) for call in answer.calls]
    return row


def _identity(cell: Cell, programs: tuple[Program, ...]) -> dict[str, Any]:
    program = programs[0]
    return {
        "key": cell.key,
        "suite": cell.suite,
        "case": cell.case,
        "digest": cell.digest,
        "kind": "cone" if isinstance(program, ConeProgram) else "qp",
        "variables": program.n,
        "rows": program.m,
        "nonzeros": int(program.P.nnz + program.A.nnz),
        "seed": cell.seed,
        "quick": cell.quick,
        "solver": cell.solver,
        "version": cell.version,
        "mode": cell.mode,
        "accuracy": cell.accuracy,
        "settings": json.dumps(cell.settings, sort_keys=True, default=repr),
        "time_limit_s": cell.time_limit_s,
        "deadline_s": cell.deadline_s if cell.deadline_s == cell.deadline_s else None,
        "group": cell.group,
    }


def _times(calls: tuple[Call, ...]) -> dict[str, Any]:
    setup, solved = ([getattr(call, name) for call in calls] for name in ("setup_s", "solve_s"))
    totals = np.array([call.total_s for call in calls])
    return {
        "samples": len(calls),
        "setup_s": float(np.median(setup)),
        "solve_s": float(np.median(solved)),
        "total_s": float(np.median(totals)),
        "total_p99_s": quantile(totals, 0.99),
        "total_p999_s": quantile(totals, 0.999),
        "total_max_s": float(np.max(totals)),
        "times_s": [float(value) for value in totals],
    }


def _verdict(cell: Cell, program: Program, calls: tuple[Call, ...]) -> dict[str, Any]:
    """Grade every repeat and keep the worst: a backend that is right now and then is not right."""
    graded: list[tuple[bool, Call, Status, Certificate, str]] = []
    for call in calls if cell.mode == "cold" else calls[-1:]:
        if graded and _same(call.raw, graded[0][1].raw):
            continue
        status, certificate, note = _graded(program, call.raw, cell.accuracy)
        graded.append((status in _VERDICTS, call, status, certificate, note))
    good, call, status, certificate, note = min(graded, key=lambda item: (item[0], -item[3].worst))
    in_time = bool(np.median([call.total_s for call in calls]) <= cell.time_limit_s) if cell.mode == "cold" else True
    if not in_time:
        status, note = Status.TIME_LIMIT, f"past the time limit; {note}".rstrip("; ")
    claim = call.raw.claim
    return {
        "claimed": claim.name,
        "word": call.raw.word,
        "status": status.name,
        "success": bool(good and in_time),
        "claimed_wrong": claim in _CLAIMS and not (good and status in (*_CLAIMS[claim], Status.TIME_LIMIT)),
        "iterations": call.raw.iterations,
        "repeatable": len(graded) == 1,
        "note": note,
        **_measures(certificate),
    }


def _graded(program: Program, raw: Raw, accuracy: float) -> tuple[Status, Certificate, str]:
    """Grade an iterate; one of the wrong shape is worth nothing."""
    shapes = ((raw.x, program.n), (raw.y, program.m), (raw.z, program.n))
    if any(part.shape != (size,) for part, size in shapes):
        nothing = np.full(program.n, np.nan)
        worthless = certify(program, nothing, np.full(program.m, np.nan), tol=accuracy)
        return Status.NUMERICAL, worthless, f"shapes {[part.shape for part, _ in shapes]} do not fit the program"
    status, certificate, _, note = grade(program, raw, accuracy)
    return status, certificate, note


def _same(one: Raw, other: Raw) -> bool:
    return one.claim is other.claim and all(
        np.array_equal(getattr(one, key), getattr(other, key), equal_nan=True) for key in ("x", "y", "z")
    )


def _measures(certificate: Certificate) -> dict[str, float]:
    keys = ("primal", "dual", "gap", "primal_rel", "dual_rel", "gap_rel", "worst", "objective", "lower_bound")
    return {key: float(getattr(certificate, key)) for key in keys}


def _point(program: Program, call: Call, accuracy: float) -> dict[str, Any]:
    _, certificate, _ = _graded(program, call.raw, accuracy)
    return {
        "limit_s": call.limit_s,
        "used_s": call.total_s,
        "claimed": call.raw.claim.name,
        "worst": certificate.worst,
        "primal_rel": certificate.primal_rel,
        "objective": certificate.objective,
    }


def _sequence(cell: Cell, programs: tuple[Program, ...], calls: tuple[Call, ...]) -> dict[str, Any]:
    action = np.array(cell.action, dtype=np.intp)
    known = references(programs)
    scale = max((float(np.max(np.abs(ref.x[action]), initial=0.0)) for ref in known), default=0.0) or 1.0
    length = max((float(np.max(np.abs(ref.x), initial=0.0)) for ref in known), default=0.0) or 1.0
    held = Held(1e-8, verify=False)
    steps: list[dict[str, Any]] = []
    for call, program, (best, value, sure) in zip(calls, programs, known, strict=True):
        status, certificate, note = _graded(program, call.raw, cell.accuracy)
        x = call.raw.x
        usable = x.shape == (program.n,) and bool(np.isfinite(x).all())
        miss = np.abs(x - best) if usable else np.full(program.n, np.inf)
        steps.append(
            {
                "step": call.step,
                "setup_s": call.setup_s,
                "solve_s": call.solve_s,
                "cpu_s": call.cpu_s,
                "missed": bool(call.total_s > cell.deadline_s),
                "updated": call.updated,
                "warmed": call.warmed,
                "claimed": call.raw.claim.name,
                "status": status.name,
                "worst": certificate.worst,
                "iterations": call.raw.iterations,
                "action_error": float(np.max(miss[action], initial=0.0)) / scale,
                "solution_error": float(np.max(miss, initial=0.0)) / length,
                "reference_worst": sure,
                "regret": _regret(held, program, x, action, value, scale) if usable else np.inf,
                "note": note,
            }
        )
    good = [step["status"] == Status.OPTIMAL.name for step in steps]
    wrong = [step["claimed"] == Claim.SOLVED.name and not ok for step, ok in zip(steps, good, strict=True)]
    regret = np.array([step["regret"] for step in steps])
    bad = next((step for step, ok in zip(steps, good, strict=True) if not ok), steps[-1])
    return {
        "claimed": bad["claimed"],
        "word": "",
        "status": bad["status"],
        "success": all(good),
        "claimed_wrong": any(wrong),
        "note": bad["note"] if not all(good) else "",
        "worst": max(step["worst"] for step in steps),
        "iterations": int(np.median([step["iterations"] for step in steps])),
        "step_success": float(np.mean(good)),
        "step_claimed_wrong": float(np.mean(wrong)),
        "miss_rate": float(np.mean([step["missed"] for step in steps])),
        "warm_share": float(np.mean([step["warmed"] for step in steps])),
        "update_share": float(np.mean([step["updated"] for step in steps])),
        "action_error_max": max(step["action_error"] for step in steps),
        "solution_error_max": max(step["solution_error"] for step in steps),
        "reference_worst": max(step["reference_worst"] for step in steps),
        "regret_mean": float(np.mean(regret)),
        "regret_max": float(np.max(regret)),
        "steps": steps,
    }


def _regret(held: Held, program: Program, x: Vector, action: Any, best: float, scale: float) -> float:
    r"""Return what it costs to carry the action out and to be optimal afterwards, over the reference's cost.

    .. math:: \big(\min\{f(v): v_a = x_a\} - f^*\big) \,/\, |f^*|

    The action is clipped to its box first, as any controller does, and one below a billionth of ``scale``, the
    stream's largest, is none. An action after which no feasible plan is left costs ∞.
    """
    if not isinstance(program, QuadraticProgram) or best != best:
        return float("nan")
    lb, ub = program.lb.copy(), program.ub.copy()
    carried = np.clip(x[action], lb[action], ub[action])
    lb[action] = ub[action] = np.where(np.abs(carried) < 1e-9 * scale, 0.0, carried)
    found = held.solve(program.with_vectors(lb=lb, ub=ub))
    if not found.status.usable:
        return float("inf")
    return max(found.objective - best, 0.0) / (abs(best) or 1.0)
