"""Rows summed up: success, claimed but wrong, times with failures left out and with failures at the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.solvers.bench.statistics import quantile, shift_of, shifted_geometric_mean
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.solvers.bench.engine import BenchResult

__all__ = [
    "anytime_table",
    "cold_table",
    "disagreements",
    "groups",
    "markdown",
    "profile_times",
    "quality_after",
    "select",
    "sequence_table",
    "summary_text",
]


def groups(result: BenchResult, mode: str) -> list[tuple[str, float]]:
    """Return the (suite, accuracy) that ``mode`` has rows for, suites in order, loosest accuracy first."""
    return sorted({(r["suite"], r["accuracy"]) for r in result.rows if r["mode"] == mode}, key=lambda g: (g[0], -g[1]))


def select(result: BenchResult, mode: str, suite: str, accuracy: float) -> pd.DataFrame:
    """Return the rows of one group as a frame."""
    chosen = [r for r in result.rows if (r["mode"], r["suite"], r["accuracy"]) == (mode, suite, accuracy)]
    return pd.DataFrame(chosen)


def cold_table(result: BenchResult, suite: str, accuracy: float) -> pd.DataFrame:
    """Return one row per solver, best first: successes, wrong claims, times [ms], memory [MB].

    ``sgm_ms`` is the shifted geometric mean of the median times over the programs that the solver itself solved, so it
    flatters one that solves only the easy ones; ``sgm_all_ms`` counts every failure at the time limit. The shift is a
    tenth of the median of all successes in the group. ``p99_ms`` and ``p999_ms`` are over all timed calls of the
    solver, missing where there are fewer than 100 or 1000.
    """
    frame = select(result, "cold", suite, accuracy)
    if frame.empty:
        raise InvalidInput("has no rows", field="suite", value=(suite, accuracy), remedy="one of the run's groups")
    shift = shift_of(frame.loc[frame["success"], "total_s"]) if frame["success"].any() else 0.0
    programs = frame["digest"].nunique()
    rows = {}
    for solver, part in frame.groupby("solver"):
        won = part[part["success"].astype(bool)]
        calls = [t for times in part.get("times_s", pd.Series(dtype=object)) if isinstance(times, list) for t in times]
        at_limit = part["time_limit_s"].where(~part["success"].astype(bool), part.get("total_s"))
        rows[solver] = {
            "programs": f"{len(part)} of {programs}",
            "success": float(part["success"].mean()),
            "claimed_wrong": int(part["claimed_wrong"].sum()),
            "crash_or_killed": int(part["outcome"].isin(["crash", "timeout", "memory"]).sum()),
            "sgm_ms": 1e3 * _mean(won.get("total_s"), shift),
            "sgm_all_ms": 1e3 * _mean(at_limit, shift),
            "setup_ms": 1e3 * _median(won.get("setup_s")),
            "solve_ms": 1e3 * _median(won.get("solve_s")),
            "p99_ms": 1e3 * quantile(calls, 0.99),
            "p999_ms": 1e3 * quantile(calls, 0.999),
            "first_ms": 1e3 * _median(part.get("first_s")),
            "iterations": _median(won.get("iterations")),
            "worst_certificate": _largest(won.get("worst")),
            "objective_error": _largest(won.get("objective_error")),
            "peak_mb": _largest(part.get("peak_mb")),
            "repeatable": bool(won["repeatable"].all()) if len(won) else False,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "solver"
    return table.sort_values(["success", "sgm_all_ms"], ascending=[False, True])


def sequence_table(result: BenchResult, suite: str, accuracy: float) -> pd.DataFrame:
    """Return one row per solver for the streams of a suite: steps right, deadlines missed, regret, times [ms]."""
    frame = select(result, "sequence", suite, accuracy)
    if frame.empty:
        raise InvalidInput("has no rows", field="suite", value=(suite, accuracy), remedy="one of the run's groups")
    rows: dict[Any, dict[str, Any]] = {}
    for solver, part in frame.groupby("solver"):
        ran = part[part["outcome"] == "ran"]
        steps = pd.DataFrame([step for item in ran.get("steps", []) for step in item])
        if steps.empty:
            rows[solver] = {"streams": f"0 of {len(part)}", "outcome": ", ".join(sorted(set(part["outcome"])))}
            continue
        total = steps["setup_s"] + steps["solve_s"]
        regret = steps["regret"].astype(float)
        rows[solver] = {
            "streams": f"{len(ran)} of {len(part)}",
            "steps": len(steps),
            "step_success": float((steps["status"] == "OPTIMAL").mean()),
            "claimed_wrong": int(((steps["claimed"] == "SOLVED") & (steps["status"] != "OPTIMAL")).sum()),
            "missed": float(steps["missed"].mean()),
            "median_ms": 1e3 * float(total.median()),
            "p99_ms": 1e3 * quantile(total, 0.99),
            "max_ms": 1e3 * float(total.max()),
            "warm": float(steps["warmed"].mean()),
            "updated": float(steps["updated"].mean()),
            "action_error": float(steps["action_error"].astype(float).max()),
            "regret_mean": float(regret.mean()),
            "regret_max": float(regret.max()),
            "iterations": float(steps["iterations"].median()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "solver"
    keys = [key for key in ("step_success", "median_ms") if key in table]
    return table.sort_values(keys, ascending=[False, True][: len(keys)]) if keys else table


def anytime_table(result: BenchResult, suite: str, accuracy: float, shares: Sequence[float] = ()) -> pd.DataFrame:
    """Return, per solver, the median over programs of the certificate's worst measure after a given time.

    The columns are times: ``shares`` of the time limit, default four powers of ten. Before a backend's first iterate
    the measure is ∞; a backend that cannot be stopped has none before its end.
    """
    frame = select(result, "anytime", suite, accuracy)
    if frame.empty:
        raise InvalidInput("has no rows", field="suite", value=(suite, accuracy), remedy="one of the run's groups")
    limit = float(frame["time_limit_s"].iloc[0])
    times = [share * limit for share in (shares or (1e-4, 1e-3, 1e-2, 1e-1, 1.0))]
    rows = {}
    for solver, part in frame.groupby("solver"):
        values = np.array(
            [[quality_after(points, t) for t in times] for points in part.get("points", [])], dtype=np.float64
        )
        rows[solver] = {
            f"after {1e3 * t:.3g} ms": float(np.median(column)) for t, column in zip(times, values.T, strict=True)
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "solver"
    return table.sort_values(list(table.columns)[::-1])


def quality_after(points: Any, seconds: float) -> float:
    """Return the worst measure of the iterate that was given the most time and was there after ``seconds``."""
    if not isinstance(points, list):
        return np.inf
    there = [p for p in points if p["used_s"] <= seconds]
    return float(max(there, key=lambda p: p["limit_s"] or np.inf)["worst"]) if there else np.inf


def profile_times(result: BenchResult, suite: str, accuracy: float) -> dict[str, list[float]]:
    """Return solver → median times over the programs of a group that all solvers take, ∞ for failures."""
    frame = select(result, "cold", suite, accuracy)
    table = frame.assign(
        t=frame["total_s"].where(frame["success"].astype(bool), np.inf) if "total_s" in frame else np.inf
    )
    wide = table.pivot_table(index="digest", columns="solver", values="t", aggfunc="first", dropna=False)
    return {str(solver): [float(v) if v == v else np.inf for v in wide[solver]] for solver in wide}


def disagreements(result: BenchResult) -> pd.DataFrame:
    """Return the rows in which a backend's word and our verdict differ, either way, with crashes and kills."""
    found = []
    for row in result.rows:
        unsaid = row["success"] and row.get("claimed") not in ("SOLVED", "INFEASIBLE", "UNBOUNDED")
        unsaid &= row["mode"] == "cold"
        if not (row["claimed_wrong"] or unsaid or row["outcome"] != "ran"):
            continue
        kind = "claimed but wrong" if row["claimed_wrong"] else "right but not claimed" if unsaid else row["outcome"]
        found.append(
            {
                "what": kind,
                "solver": row["solver"],
                "suite": row["suite"],
                "case": row["case"],
                "mode": row["mode"],
                "accuracy": f"{row['accuracy']:.0e}",
                "claimed": row.get("claimed", ""),
                "word": row.get("word", ""),
                "status": row["status"],
                "worst": row.get("worst"),
                "objective_error": row.get("objective_error"),
                "note": row.get("note", ""),
            }
        )
    columns = ["what", "solver", "suite", "case", "mode", "accuracy", "claimed", "word", "status"]
    frame = pd.DataFrame(found, columns=[*columns, "worst", "objective_error", "note"])
    return frame.sort_values(["what", "solver", "suite", "case"], ignore_index=True)


def _mean(values: Any, shift: float) -> float:
    found = [] if values is None else [float(v) for v in values if v == v]
    return shifted_geometric_mean(found, shift)


def _median(values: Any) -> float:
    found = [] if values is None else [float(v) for v in values if v is not None and v == v]
    return float(np.median(found)) if found else float("nan")


def _largest(values: Any) -> float:
    found = [] if values is None else [float(v) for v in values if v is not None and v == v]
    return max(found) if found else float("nan")


_SHOWN = {
    "cold": ["programs", "success", "claimed_wrong", "crash_or_killed", "sgm_ms", "sgm_all_ms", "setup_ms", "solve_ms"],
    "sequence": ["streams", "step_success", "claimed_wrong", "missed", "median_ms", "p99_ms", "regret_max", "warm"],
}
_STEPS_SHOWN = [
    *("group", "solver", "outcome", "steps", "setups", "p50_us", "p99_us", "p999_us", "certified"),
    *("error_p50", "error_p99", "error_max", "within_1e-6"),
]


def summary_text(result: BenchResult) -> str:
    """Return the tables of all groups as text for a terminal."""
    parts = []
    for mode, make in (("cold", cold_table), ("sequence", sequence_table), ("anytime", anytime_table)):
        for suite, accuracy in groups(result, mode):
            table = make(result, suite, accuracy)
            shown = [c for c in _SHOWN.get(mode, list(table.columns)) if c in table]
            parts.append(f"{suite}, {mode}, accuracy {accuracy:.0e}\n{_text(table[shown])}")
            if mode == "sequence":
                parts += _steps_text(result, suite, accuracy)
    odd = disagreements(result)
    counts = odd["what"].value_counts()
    told = ", ".join(f"{n} {what}" for what, n in counts.items()) or "none"
    parts.append(f"{len(result.rows)} cells; where a backend's word and ours differ, or it ended badly: {told}")
    parts += [f"note: {note}" for note in result.facts.get("notes", [])]
    return "\n\n".join(parts)


def _steps_text(result: BenchResult, suite: str, accuracy: float) -> list[str]:
    from crosswind.solvers.bench.steps import ratio_table, ratio_text, step_table

    steps = step_table(result, suite, accuracy)
    shown = [name for name in _STEPS_SHOWN if name in steps]
    parts = [
        f"{suite}, steps by size, accuracy {accuracy:.0e}; µs of the processor for update, solve, solution; "
        f"errors by the stream's largest variable\n{_text(steps[shown].set_index(['group', 'solver']))}"
    ]
    ratios = ratio_table(result, suite, accuracy)
    if len(ratios):
        first = result.facts["races"][suite]["lanes"][0]
        table = ratio_text(ratios).set_index(["group", "solver"])
        parts.append(f"{suite}: how many times faster {first} is, accuracy {accuracy:.0e}\n{_text(table)}")
    return parts


def _text(table: pd.DataFrame) -> str:
    return table.to_string(float_format=lambda v: f"{v:.3g}", na_rep="–")


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown with its index as first column; missing is a dash."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for label, row in zip(table.index, table.itertuples(index=False), strict=True):
        cells = [str(label), *(_cell(value) for value in row)]
        lines.append(f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.3g}"
    return str(value)
