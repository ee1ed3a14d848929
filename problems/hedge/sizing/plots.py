"""Figures of sized hedges; every axis states its unit and sign rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.plotting import PALETTE, figure, graph_objects

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.hedge.sizing.result import HedgeSize
    from crosswind.problems.hedge.sizing.strategies import TransitionPlan
    from crosswind.problems.market.funding import FundingRates

__all__ = ["exposure_bars", "funding_path", "move_curve", "transition_paths", "what_if_bars"]

_MONEY = "change of value [currency; positive: gained]"


def move_curve(size: HedgeSize) -> Any:
    """Return what a move of all factors does to spot, futures and net."""
    go, table = graph_objects(), size.grid()
    fig = figure("What a move of the market does", "move of all factors [%]", _MONEY)
    for colour, name in zip(PALETTE, ("spot", "futures", "net"), strict=False):
        width, dash = (3, "solid") if name == "net" else (1.5, "dash")
        line = {"color": colour, "width": width, "dash": dash}
        fig.add_trace(go.Scatter(x=100.0 * table.index, y=table[name], name=name, mode="lines", line=line))
    return fig


def what_if_bars(size: HedgeSize, move: float = -0.10, basis_move: float = 0.0) -> Any:
    """Return the change of each line under one move, and the net."""
    go, table = graph_objects(), size.what_if(move, basis_move)
    fig = figure(
        f"A move of {100 * move:+.0f} % and of the basis by {1e4 * basis_move:+.0f} bps, line by line",
        "line",
        _MONEY,
        height=480,
    )
    labels = [" ".join(part for part in label if part) for label in table.index]
    kinds = ["total" if not part else "relative" for _, part in table.index]
    fig.add_trace(
        go.Waterfall(
            x=labels,
            y=[0.0 if kind == "total" else float(v) for kind, v in zip(kinds, table["change"], strict=True)],
            measure=kinds,
            text=[f"{v:+,.0f}" for v in table["change"]],
            increasing={"marker": {"color": PALETTE[2]}},
            decreasing={"marker": {"color": PALETTE[1]}},
            totals={"marker": {"color": PALETTE[0]}},
        )
    )
    fig.update_layout(showlegend=False)
    return fig


def exposure_bars(size: HedgeSize) -> Any:
    """Return exposure by factor: spot, hedge and net."""
    go, table = graph_objects(), size.exposures()
    fig = figure("Exposure by factor", "factor", "exposure [currency per unit of relative move; positive: long]")
    for colour, name in zip(PALETTE, ("spot", "hedge", "net"), strict=False):
        fig.add_trace(go.Bar(x=list(table.index), y=table[name], name=name, marker_color=colour))
    fig.update_layout(barmode="group")
    return fig


def transition_paths(plan: TransitionPlan) -> Any:
    """Return spot, short and net of a transition over time."""
    go, table = graph_objects(), plan.table
    fig = figure("Transition: the short goes as the spot goes", "time [UTC]", "value [currency; positive: long]")
    for colour, name in zip(PALETTE, ("spot", "short", "net"), strict=False):
        line = {"color": colour, "shape": "hv", "width": 3 if name == "net" else 1.5}
        fig.add_trace(go.Scatter(x=table.index, y=table[name], name=name, mode="lines", line=line))
    return fig


def funding_path(rates: FundingRates, notional: float) -> Any:
    """Return what a short of constant notional has received from a perpetual's funding, cumulated.

    Parameters
    ----------
    rates
        Recorded rates.
    notional
        Size of the short [currency], > 0.
    """
    go = graph_objects()
    earned: pd.Series[float] = -rates.paid(-abs(float(notional)))
    fig = figure(
        f"Funding received by a short of {abs(notional):,.0f} {rates.name}",
        "settlement [UTC]",
        "cumulated [currency; positive: received]",
    )
    line = {"color": PALETTE[0], "width": 1.5, "shape": "hv"}
    fig.add_trace(go.Scatter(x=earned.index, y=np.cumsum(earned.to_numpy()), mode="lines", line=line, name="received"))
    fig.update_layout(showlegend=False)
    return fig
