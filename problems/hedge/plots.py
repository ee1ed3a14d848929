"""Figures of hedge replays; every axis states its unit and sign rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.hedge.attribution import COMPONENTS
from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.compare import HedgeComparison
    from crosswind.problems.hedge.run import HedgeReplay

__all__ = ["component_bars", "cost_waterfall", "frontier", "gap_paths"]

_COST = "cost [bps of parent notional; positive: money lost]"


def gap_paths(comparison: HedgeComparison, parent: str | None = None) -> Any:
    """Return the gap G over time by policy for one parent (default: the first).

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
    for policy in comparison.policies:
        gap = comparison.replays[name, policy].gap
        fig.add_trace(go.Scatter(x=gap.index, y=gap.to_numpy(), name=policy, mode="lines", line={"shape": "hv"}))
    return fig


def component_bars(comparison: HedgeComparison) -> Any:
    """Return the mean components by policy as stacked bars; cash and residual are the same for all and left out."""
    go, table = graph_objects(), comparison.table()
    fig = figure(f"Hedge cost by component, mean of {len(comparison.parents)} parents", "policy", f"mean {_COST}")
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
    """Return mean against q95 of the hedge cost, one point per policy; grey points: the same with zero true impact."""
    go = graph_objects()
    fig = figure(
        f"Hedge cost over {len(comparison.parents)} parents",
        f"q95 of hedge {_COST}",
        f"mean hedge {_COST}",
    )
    pairs = [("assumed impact", comparison, PALETTE[0])]
    if comparison.zero_impact is not None:
        pairs.append(("zero true impact", comparison.zero_impact, PALETTE[6]))
    for name, source, colour in pairs:
        table = source.table()
        fig.add_trace(
            go.Scatter(
                x=table["hedge_cost_q95_bps"].to_numpy(),
                y=table["hedge_cost_mean_bps"].to_numpy(),
                text=list(table.index),
                name=name,
                mode="markers+text",
                textposition="top center",
                marker={"color": colour, "size": 10},
            )
        )
    return fig
