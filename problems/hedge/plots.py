"""Figures of hedge replays; every axis states its unit and sign rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.hedge.attribution import COMPONENTS
from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.hedge.compare import HedgeComparison
    from crosswind.problems.hedge.run import HedgeReplay

__all__ = ["component_bars", "cost_waterfall", "frontier", "gap_paths"]

_COST = "cost [bps of parent notional; positive: money lost]"


def gap_paths(comparison: HedgeComparison, parent: str | None = None) -> Any:
    """Return the gap G over time by policy for one parent (default: the first).

    A policy that never trades waits in the legend for a click: its gap is the whole parent and flattens the others.

    Raises
    ------
    InvalidInput
        When the parent was not compared.
    """
    name = comparison.parents[0] if parent is None else parent
    if name not in comparison.parents:
        raise InvalidInput("was not compared", field="parent", value=name, remedy=f"use one of {comparison.parents}")
    go = graph_objects()
    fig = figure(f"Beta gap of {name}", "time [UTC]", "G = ΣβQ − H [currency at arrival; positive: short of the index]")
    trades = comparison.table()["futures_traded"] > 0.0
    for policy in comparison.policies:
        gap = comparison.replays[name, policy].gap
        shown = True if trades[policy] or not trades.any() else "legendonly"
        line = {"shape": "hv", "width": 1.5}
        fig.add_trace(go.Scatter(x=gap.index, y=gap.to_numpy(), name=policy, mode="lines", line=line, visible=shown))
    return fig


def component_bars(comparison: HedgeComparison) -> Any:
    """Return the mean components by policy as stacked bars; cash and residual are the same for all and left out.

    A policy that never trades is named in the title instead: its lag would flatten all the others.
    """
    go, table = graph_objects(), comparison.table()
    table, without = _hedging(table)
    fig = figure(
        f"Hedge cost by component, mean of {len(comparison.parents)} parents{without}", "policy", f"mean {_COST}"
    )
    for colour, name in zip(PALETTE, ("futures", "lag", "basis", "cross"), strict=False):
        fig.add_trace(go.Bar(x=list(table.index), y=table[f"{name}_bps"].to_numpy(), name=name, marker_color=colour))
    fig.add_trace(
        go.Scatter(
            x=list(table.index),
            y=table["hedge_cost_q95_bps"].to_numpy(),
            name="q95 of the sum",
            mode="markers",
            marker={"color": PALETTE[-1], "symbol": "line-ew-open", "size": 22},
        )
    )
    fig.update_layout(barmode="relative")
    return fig


def cost_waterfall(run: HedgeReplay) -> Any:
    """Return the waterfall of one replay's components to its net cost."""
    go, values = graph_objects(), run.components_bps
    fig = figure(f"Cost of {run.parent.name} hedged by {run.policy}", "component", _COST)
    fig.add_trace(
        go.Waterfall(
            x=[*COMPONENTS, "net"],
            y=[*(float(values[name]) for name in COMPONENTS), 0.0],
            measure=["relative"] * len(COMPONENTS) + ["total"],
            increasing={"marker": {"color": PALETTE[1]}},
            decreasing={"marker": {"color": PALETTE[2]}},
            totals={"marker": {"color": PALETTE[0]}},
        )
    )
    fig.update_layout(showlegend=False)
    return fig


def frontier(comparison: HedgeComparison) -> Any:
    """Return mean against q95 of the hedge cost, one colour per policy; open: the same with zero true impact.

    A policy that never trades is named in the title instead: it lies far outside.
    """
    go = graph_objects()
    table, without = _hedging(comparison.table())
    silent = None if comparison.zero_impact is None else comparison.zero_impact.table()
    note = "" if silent is None else "; open: no impact"
    fig = figure(
        f"Hedge cost over {len(comparison.parents)} parents{note}{without}",
        f"q95 of hedge {_COST}",
        f"mean hedge {_COST}",
        height=460,
    )
    for number, policy in enumerate(table.index):
        rows = [table.loc[policy], *([] if silent is None else [silent.loc[policy]])]
        colour = PALETTE[number % len(PALETTE)]
        fig.add_trace(
            go.Scatter(
                x=[float(row["hedge_cost_q95_bps"]) for row in rows],
                y=[float(row["hedge_cost_mean_bps"]) for row in rows],
                name=str(policy),
                mode="lines+markers",
                line={"color": colour, "width": 1},
                marker={"color": colour, "size": 11, "symbol": ["circle", "circle-open"][: len(rows)]},
                hovertemplate=f"{policy}: q95 %{{x:.3f}}, mean %{{y:.3f}}<extra></extra>",
            )
        )
    fig.update_layout(legend={"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1.0, "yanchor": "top"})
    return fig


def _hedging(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the policies that trade, and words on those that do not; all where none does."""
    trades = table["futures_traded"] > 0.0
    if not trades.any() or trades.all():
        return table, ""
    words = [
        f"{policy}: mean {row['hedge_cost_mean_bps']:.2f}, q95 {row['hedge_cost_q95_bps']:.2f}"
        for policy, row in table[~trades].iterrows()
    ]
    return table[trades], f" (not drawn: {'; '.join(words)})"
