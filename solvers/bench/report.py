"""What a report of a run says: parts with prose, figures and tables; and the Markdown summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crosswind.solvers.bench import plots, tables
from crosswind.solvers.bench.steps import ratio_table, ratio_text, step_table

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.solvers.bench.engine import BenchResult

__all__ = ["Part", "footer", "parts", "summary_markdown", "tiles"]


@dataclass(frozen=True)
class Part:
    """One part of the report: a heading, a paragraph that says what is seen, figures, tables by caption."""

    title: str
    text: str
    figures: Sequence[Any] = ()
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def parts(result: BenchResult) -> list[Part]:
    """Return the parts of the report in order.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    found = []
    cold = tables.groups(result, "cold")
    if cold:
        found.append(
            Part(
                "Success",
                "Each cell is the share of programs whose answer passed our own certificate at the asked accuracy. "
                "What a backend says of itself counts nowhere; where it claimed success and was wrong, it is told.",
                figures=[plots.success_heatmap(result)],
            )
        )
    for suite in dict.fromkeys(name for name, _ in cold):
        found.append(_cold(result, suite, [accuracy for name, accuracy in cold if name == suite]))
    streams = tables.groups(result, "sequence")
    for suite in dict.fromkeys(name for name, _ in streams):
        found.append(_streams(result, suite, [accuracy for name, accuracy in streams if name == suite]))
    for suite, accuracy in tables.groups(result, "anytime"):
        found.append(
            Part(
                f"{suite}: anytime",
                "Each backend was stopped after a given time and its iterate graded. One that cannot be stopped has "
                "nothing to show before it ends: its curve starts there. Median over the programs; no line where more "
                "than half of them had no iterate yet.",
                figures=[plots.anytime_figure(result, suite, accuracy)],
                tables={"Worst relative measure after a given time": tables.anytime_table(result, suite, accuracy)},
            )
        )
    odd = tables.disagreements(result)
    found.append(
        Part(
            "Disagreements",
            "Every row in which a backend's word and our verdict differ, and every crash, kill or exception."
            if len(odd)
            else "No backend's word differed from our verdict, and none crashed or was killed.",
            tables={f"{len(odd)} rows": odd.set_index("solver")} if len(odd) else {},
        )
    )
    found.append(_setting(result))
    return found


def _cold(result: BenchResult, suite: str, accuracies: list[float]) -> Part:
    figures: list[Any] = []
    for accuracy in accuracies:
        figures += [plots.profile_figure(result, suite, accuracy), plots.mean_bars(result, suite, accuracy)]
    text = result.facts.get("suites", {}).get(suite, "")
    text = f"{text[:1].upper()}{text[1:]}. " if text else ""
    return Part(
        f"{suite}: cold",
        f"{text}Every call sets up and solves from nothing. sgm: shifted geometric mean of the "
        "median times over the programs that the solver solved; sgm_all: the same with failures at the time limit; "
        "the shift is a tenth of the median of all successes. first: a call before the timed ones, compilation "
        "included. p99 and p99.9 stand only where 100 and 1000 calls were timed. peak: of the worker during a cell.",
        figures=figures,
        tables={f"accuracy {a:.0e}": tables.cold_table(result, suite, a) for a in accuracies},
    )


def _streams(result: BenchResult, suite: str, accuracies: list[float]) -> Part:
    return Part(
        f"{suite}: sequence",
        "Every solver got the same stream of programs of a receding horizon, kept its set-up and started warm where it "
        "can. missed: share of steps later than the deadline. action_error: largest distance of the first trade from "
        "the reference's, over the stream's largest trade. regret: what it costs to carry the first trade out and be "
        "optimal after it, over the optimal cost; infinite where no feasible plan is left. Steps by size: µs of the "
        "processor, pooled over the seeds, set-ups left out; error: largest distance of a variable to the reference's, "
        "over the stream's largest; reference: how far from proven the reference itself is.",
        figures=[plots.time_steps(result, suite, accuracy) for accuracy in accuracies],
        tables=_stream_tables(result, suite, accuracies),
    )


def _stream_tables(result: BenchResult, suite: str, accuracies: list[float]) -> dict[str, pd.DataFrame]:
    found = {}
    for a in accuracies:
        found[f"accuracy {a:.0e}"] = tables.sequence_table(result, suite, a)
        found |= {f"{caption}, accuracy {a:.0e}": table for caption, table in _steps(result, suite, a).items()}
    return found


def _steps(result: BenchResult, suite: str, accuracy: float) -> dict[str, pd.DataFrame]:
    """Return the tables of steps by size, and of ratios where the suite says what is compared with what."""
    found = {"steps by size": step_table(result, suite, accuracy).set_index("group")}
    ratios = ratio_table(result, suite, accuracy)
    if len(ratios):
        first = result.facts["races"][suite]["lanes"][0]
        found[f"how many times faster {first} is"] = ratio_text(ratios).set_index("group")
    return found


def _setting(result: BenchResult) -> Part:
    import pandas as pd

    machine, plan = result.facts.get("machine", {}), result.facts.get("plan", {})
    facts = {
        **{key: machine.get(key) for key in ("processor", "architecture", "cores", "memory_mb", "load", "system")},
        "threads of a worker": ", ".join(f"{k}={v}" for k, v in machine.get("threads", {}).items()),
        **{key: plan.get(key) for key in ("suites", "modes", "accuracies", "time_limit_s", "repeats", "quick")},
        "settings": plan.get("settings") or "each backend's own, tolerances by accuracy",
        "seeds": sorted({row["seed"] for row in result.rows if row.get("seed") is not None}),
        "executor": result.facts.get("executor"),
        "started": result.facts.get("started"),
        "ended": result.facts.get("ended"),
        "notes": "; ".join(result.facts.get("notes", [])) or "none",
    }
    shown = {key: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in facts.items()}
    versions = {**machine.get("versions", {}), **result.facts.get("solvers", {})}
    return Part(
        "Setting",
        "Where and how this was measured. Times travel between machines only as ratios.",
        tables={
            "Run": pd.DataFrame({"value": shown}).rename_axis("what"),
            "Versions": pd.DataFrame({"version": versions}).rename_axis("package"),
        },
    )


def tiles(result: BenchResult) -> dict[str, str]:
    """Return the few figures that stand at the top."""
    rows = result.rows
    claims = [row for row in rows if row.get("claimed")]
    wrong = sum(bool(row["claimed_wrong"]) for row in rows)
    return {
        "programs and streams": str(len({row["digest"] for row in rows})),
        "solvers": str(len({row["solver"] for row in rows})),
        "cells": str(len(rows)),
        "claimed but wrong": f"{wrong} of {len(claims)}",
        "crashed, killed or raised": str(sum(row["outcome"] != "ran" for row in rows)),
    }


def footer(result: BenchResult) -> dict[str, object]:
    """Return the facts for the foot of the page."""
    machine, plan = result.facts.get("machine", {}), result.facts.get("plan", {})
    seeds = sorted({row["seed"] for row in result.rows if row.get("seed") is not None})
    return {
        "processor": machine.get("processor", "unknown"),
        "threads": "1 a worker",
        "time limit [s]": plan.get("time_limit_s", "unknown"),
        "seeds": ", ".join(map(str, seeds)),
        **machine.get("versions", {}),
        **result.facts.get("solvers", {}),
    }


def summary_markdown(result: BenchResult) -> str:
    """Return the tables of the run as Markdown, with machine, versions, threads, settings and seeds."""
    lines = ["# Benchmark", ""]
    lines.append(" · ".join(f"{label}: {value}" for label, value in tiles(result).items()))
    for mode, make in (
        ("cold", tables.cold_table),
        ("sequence", tables.sequence_table),
        ("anytime", tables.anytime_table),
    ):
        for suite, accuracy in tables.groups(result, mode):
            lines += ["", f"## {suite}, {mode}, accuracy {accuracy:.0e}", ""]
            lines.append(tables.markdown(make(result, suite, accuracy)))
            if mode == "sequence":
                for caption, table in _steps(result, suite, accuracy).items():
                    lines += ["", f"### {suite}, {caption}, accuracy {accuracy:.0e}", "", tables.markdown(table)]
    odd = tables.disagreements(result)
    lines += ["", "## Disagreements", ""]
    lines.append(tables.markdown(odd.set_index("solver")) if len(odd) else "None.")
    for caption, table in _setting(result).tables.items():
        lines += ["", f"## {caption}", "", tables.markdown(table)]
    return "\n".join(lines) + "\n"
