"""The run as a page of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.workflow.model import RunResult

__all__ = ["one_parent_table", "policy_table", "summary_text"]


def policy_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a policy comparison that a desk reads first."""
    columns = {
        "hedge_cost_mean_bps": "mean",
        "hedge_cost_q95_bps": "q95",
        "futures_bps": "futures",
        "lag_bps": "lag",
        "basis_bps": "basis",
        "cross_bps": "cross",
        "lag_std_bps": "lag sd",
    }
    return table[list(columns)].rename(columns=columns)


def one_parent_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the hedge cost of a single parent and its parts; quantiles and deviations of one draw say nothing."""
    return policy_table(table).rename(columns={"mean": "hedge cost"}).drop(columns=["q95", "lag sd"])


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _table(table: pd.DataFrame, digits: int = 3) -> str:
    return _indent(table.to_string(float_format=f"{{:.{digits}f}}".format, na_rep="–"))


def summary_text(result: RunResult) -> str:
    """Return the whole run as text: data, fit, schedule, hedge, checks. Positive costs are money lost."""
    r = result
    scores = r.out_of_sample[[*r.train.names, "mean", "admissible", "violation", "seconds"]]
    lines = [
        f"crosswind run on {r.source}  [configuration {r.configuration}]",
        f"fitted on {', '.join(map(str, r.train.days))}; tested on {', '.join(map(str, r.test.days))}; "
        f"{len(r.train.names)} names, buckets of {r.train.bucket_s:g} s",
        "",
        "Impact: out-of-sample R² of bucket returns by name (best mean first)",
        _table(scores.sort_values("mean", ascending=False)),
    ]
    if r.recovery is not None:
        lines += ["", "Distance to the simulator's truth (lower is better)", _table(r.recovery)]
    columns = ["spread", "temporary", "impact_self", "impact_cross", "expected", "risk", "total", "breaches"]
    lines += [
        "",
        "Schedule: costs under the fitted model [bps of parent notional]",
        _table(r.schedules[columns]),
        "",
        _indent(r.schedule.summary()),
    ]
    if r.hedge is not None:
        h = r.hedge
        lines += [
            "",
            f"Hedge with {h.settings['future']}: cost over {len(h.comparison.parents)} parents of "
            f"{h.settings['parent_minutes']} minutes on the last day [bps of parent notional]",
            _table(policy_table(h.comparison.table())),
            f"  paired difference against {h.comparison.baseline}, with 95 % bootstrap intervals",
            _table(h.comparison.differences()),
        ]
        if h.comparison.zero_impact is not None:
            lines += ["  the same without any impact", _table(policy_table(h.comparison.zero_impact.table()))]
        lines += ["  the day's basket, one draw", _table(one_parent_table(h.day.table()))]
    lines += ["", "Checks", _indent(_checks(result))]
    if r.notes:
        lines += ["", "Notes", *(f"  {note}" for note in r.notes)]
    if r.fallbacks:
        lines += ["", "Fallbacks used", *(f"  {name}" for name in r.fallbacks)]
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in r.timings.items())
    lines += ["", f"time: {seconds}"]
    if r.out is not None:
        lines.append(f"written to {r.out}/: summary.json, tables/*.parquet, report.html")
    return "\n".join(lines)


def _checks(result: RunResult) -> str:
    rows = []
    for check in result.checks:
        rule = ">=" if check.at_least else "<="
        rows.append(
            f"{'ok  ' if check.passed else 'FAIL'} {check.name:<58} {check.value:>10.2e} {rule} {check.limit:.0e}"
        )
    return "\n".join(rows)
