"""The steps of streams pooled by size: how long they take, how right they are, and how many times faster one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.solvers.bench.statistics import quantile
from crosswind.solvers.bench.tables import select

if TYPE_CHECKING:
    from crosswind.solvers.bench.engine import BenchResult

__all__ = ["QUANTILES", "ratio_table", "ratio_text", "step_table"]

QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
_CLOSE = 1e-6
_LATER = ("cpu_s", "solution_error", "reference_worst")  # what rows of earlier versions lack


def step_table(result: BenchResult, suite: str, accuracy: float) -> pd.DataFrame:
    """Return one row per group of streams and solver.

    ``steps`` are those on a set-up that was kept: the first of each stream, and those after a failure, set up and are
    counted as ``setups`` (their time is in no quantile). Times are µs of the processor for update, solve and the fetch
    of the solution: the median, p99 and p99.9 over all seeds (missing below 100 and 1000 steps); ``wall`` are µs by the
    clock on the wall. ``error`` is the largest distance of a variable to the reference's, by the largest variable of
    the stream: its median, p99 and maximum, and the share of steps within 1e-6.
    """
    frame = select(result, "sequence", suite, accuracy)
    race = result.facts.get("races", {}).get(suite) or {"lanes": (), "goals": {}}
    named = frame["group"] if "group" in frame else frame["case"]  # rows of a run before there were groups
    frame = frame.assign(group=named.fillna(frame["case"]))
    frame["first"] = _places(frame["group"], tuple(race["goals"]))
    frame["second"] = _places(frame["solver"], tuple(race["lanes"]))
    rows = []
    for (_, group, _, solver), part in frame.groupby(["first", "group", "second", "solver"]):
        ran = part[part["outcome"] == "ran"]
        steps = pd.DataFrame([step for item in ran.get("steps", []) for step in item])
        row: dict[str, Any] = {"group": group, "solver": solver, "streams": f"{len(ran)} of {len(part)}"}
        if len(steps):
            steps = steps.reindex(columns=[*dict.fromkeys((*steps.columns, *_LATER))])
            kept = steps[steps["updated"].astype(bool)]
            cpu = 1e6 * kept["cpu_s"].astype(float)
            wall = 1e6 * (kept["setup_s"] + kept["solve_s"]).astype(float)
            error = steps["solution_error"].astype(float)
            row |= {"steps": len(kept), "setups": len(steps) - len(kept)}
            row |= {f"{name}_us": quantile(cpu, share) for name, share in QUANTILES.items()}
            row |= {f"wall_{name}_us": quantile(wall, share) for name, share in QUANTILES.items()}
            row |= {
                "certified": float((steps["status"] == "OPTIMAL").mean()),
                "error_p50": quantile(error, 0.5),
                "error_p99": quantile(error, 0.99),
                "error_max": float(error.max()),
                "within_1e-6": float((error <= _CLOSE).mean()),
                "iterations": float(steps["iterations"].median()),
                "reference": float(steps["reference_worst"].astype(float).max()),
            }
        else:
            row |= {"steps": 0, "setups": 0, "outcome": ", ".join(sorted(set(part["outcome"])))}
        rows.append(row)
    return pd.DataFrame(rows)


def _places(names: pd.Series[Any], order: tuple[str, ...]) -> pd.Series[Any]:
    """Return where each name stands in ``order``, those that do not stand there last."""
    return names.map({name: order.index(name) if name in order else len(order) for name in names.unique()})


def ratio_table(result: BenchResult, suite: str, accuracy: float) -> pd.DataFrame:
    """Return how many times faster the suite's first lane is than each other solver, by group: p50, p99, p99.9.

    Empty where the suite names no lanes or the first one did not run. ``goal_…`` are the suite's goals, at the accuracy
    they are meant for; ``met_…`` whether they were reached, None where there is no goal or no ratio.
    """
    race = result.facts.get("races", {}).get(suite)
    table = step_table(result, suite, accuracy)
    first = race["lanes"][0] if race else ""
    if race is None or "p50_us" not in table or first not in set(table["solver"]):
        return pd.DataFrame()
    base = table[table["solver"] == first].set_index("group")
    rows = []
    for row in table.to_dict(orient="records"):
        if row["solver"] == first:
            continue
        goals = race["goals"].get(row["group"], {}).get(row["solver"]) if accuracy == race["accuracy"] else None
        found: dict[str, Any] = {"group": row["group"], "solver": row["solver"]}
        for (name, _), goal in zip(QUANTILES.items(), goals or (None,) * 3, strict=True):
            mine = float(base.loc[row["group"], f"{name}_us"]) if row["group"] in base.index else float("nan")
            ratio = float(row[f"{name}_us"]) / mine
            found |= {name: ratio, f"goal_{name}": goal}
            found[f"met_{name}"] = None if goal is None or not np.isfinite(ratio) else bool(ratio >= goal)
        rows.append(found)
    return pd.DataFrame(rows, dtype=object)  # None is no goal, NaN no ratio


def ratio_text(ratios: pd.DataFrame) -> pd.DataFrame:
    """Return the ratios for people: the goal in brackets, ``missed`` where it was not reached."""
    rows = []
    for row in ratios.to_dict(orient="records"):
        shown = {"group": row["group"], "solver": row["solver"]}
        for name in QUANTILES:
            ratio, goal, met = row[name], row[f"goal_{name}"], row[f"met_{name}"]
            text = f"{ratio:.3g}" if np.isfinite(ratio) else "–"
            text += "" if goal is None else f" (goal {goal:g}{', missed' if met is False else ''})"
            shown[name] = text
        rows.append(shown)
    return pd.DataFrame(rows)
