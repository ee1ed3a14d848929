"""What a row can only be told once all are there: the error of its objective against the best certified one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from crosswind.solvers.solution import Status

__all__ = ["finish"]

Row = dict[str, Any]


def finish(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in a fixed order with ``best_objective``, ``objective_error`` and contradicted claims filled in.

    The best certified objective of a program is that of the iterate with the smallest certificate among those that
    passed. ``objective_error`` is the distance to it over its size (or over 1e-12 where it is zero). A claim that there
    is no solution is wrong where somebody's solution passed.
    """
    found = [dict(row) for row in rows]
    best: dict[str, Row] = {}
    for row in found:
        if row["mode"] == "sequence" or row.get("status") != Status.OPTIMAL.name:
            continue
        known = best.get(row["digest"])
        if known is None or _rank(row) < _rank(known):
            best[row["digest"]] = row
    for row in found:
        reference = best.get(row["digest"])
        if reference is None:
            continue
        row["best_objective"] = reference["objective"]
        row["best_by"] = f"{reference['solver']} at {reference['accuracy']:.0e}"
        row["objective_error"] = _error(row.get("objective"), reference["objective"])
        for point in row.get("points") or ():
            point["objective_error"] = _error(point["objective"], reference["objective"])
        if row.get("claimed") in ("INFEASIBLE", "UNBOUNDED"):
            row["claimed_wrong"] = True
    return sorted(found, key=lambda row: (row["suite"], row["mode"], row["case"], -row["accuracy"], row["solver"]))


def _rank(row: Row) -> tuple[float, str, float]:
    return row["worst"], row["solver"], row["accuracy"]


def _error(value: float | None, best: float) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return abs(value - best) / max(abs(best), 1e-12)
