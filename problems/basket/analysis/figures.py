"""Figures of the analyses; each states its unit and sign rule, a positive cost is money lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.plotting import DIVERGING, PALETTE, figure, graph_objects

if TYPE_CHECKING:
    from crosswind.problems.basket.analysis.frontier import Frontier
    from crosswind.problems.basket.analysis.pretrade import Capacity, CostCurve
    from crosswind.problems.basket.analysis.robust import GuardedSchedule
    from crosswind.problems.basket.analysis.scenarios import ScenarioTable
    from crosswind.problems.basket.analysis.sensitivity import ScheduleSensitivities
    from crosswind.problems.basket.analysis.split import CostSplit

__all__ = [
    "capacity_figure",
    "cost_curve_figure",
    "frontier_figure",
    "guard_figure",
    "pair_costs",
    "scenario_bars",
    "sensitivity_bars",
]

_COST = "cost [bps of parent notional, > 0 is money lost]"
_PARTS = {
    "spread": "spread",
    "temporary": "temporary",
    "three_halves": "square-root",
    "impact_self": "self-impact",
    "impact_cross": "cross-impact",
    "drift": "drift",
    "urgency": "urgency",
}


def _below(fig: Any, room: int = 60) -> Any:
    """Put the legend under the axis, with room for its lines."""
    fig.update_layout(
        legend={"orientation": "h", "x": 0.0, "xanchor": "left", "y": -0.22, "yanchor": "top"},
        margin={"b": 60 + room},
        height=(fig.layout.height or 420) + room,
    )
    return fig


def frontier_figure(curve: Frontier, points: tuple[Any, ...] = ()) -> Any:
    """Return the efficient frontier with the problem's own λ, the knee, and strategies scored beside it.

    Parameters
    ----------
    curve
        The frontier.
    points
        Strategies (``name`` and ``schedule``); those that break limits or do not finish are drawn hollow.
    """
    from crosswind.problems.basket.analysis.frontier import risk_of

    p, table = curve.problem, curve.table
    fig = figure(
        "Efficient frontier", "risk [bps of parent notional, one standard deviation]", f"expected {_COST}", height=460
    )
    fig.add_scatter(
        x=table["sd_bps"],
        y=table["expected_bps"],
        mode="lines+markers",
        name="optimal",
        marker={"size": 5},
        line={"color": PALETTE[0]},
        text=[f"λ = {lam:.3g}" for lam in table.index],
        hovertemplate="%{text}: risk %{x:.2f}, cost %{y:.2f}<extra></extra>",
    )
    knee = table.loc[curve.knee]
    fig.add_scatter(
        x=[knee["sd_bps"]],
        y=[knee["expected_bps"]],
        mode="markers",
        name=f"knee, λ = {curve.knee:.2g}",
        marker={"symbol": "diamond", "size": 11, "color": PALETTE[4], "line": {"color": "#000", "width": 1}},
    )
    for k, strategy in enumerate(points):
        trades = strategy.schedule(p)
        costs = p.score(trades)
        sd = p.to_bps(risk_of(p, trades.to_numpy()))
        cost = p.to_bps(float(costs["total"] - costs["risk"]))
        broken = not p.breaches(trades).empty
        colour = PALETTE[(k + 1) % len(PALETTE)]
        fig.add_scatter(
            x=[sd],
            y=[cost],
            mode="markers",
            name=strategy.name + (" *" if broken else ""),
            marker={
                "size": 10,
                "color": "#FFF" if broken else colour,
                "line": {"color": colour, "width": 2},
                "symbol": "circle",
            },
        )
    fig.update_xaxes(
        title="risk [bps of parent notional, one standard deviation]" + ("; * breaks a limit" * bool(points))
    )
    fig.update_yaxes(zeroline=False)
    return _below(fig)


def scenario_bars(table: ScenarioTable) -> Any:
    """Return expected cost and risk price of each scenario, kept beside re-optimised, with what the new one saves."""
    rows = table.table
    fig = figure("What if: the schedule kept, and made anew", "", f"total {_COST}", height=440)
    names = [
        f"{name} *" if broken else str(name) for name, broken in zip(rows.index, rows["kept_breaches"], strict=True)
    ]
    for label, column, colour in (("kept", "kept_total", PALETTE[6]), ("re-optimised", "new_total", PALETTE[0])):
        fig.add_bar(
            x=names,
            y=rows[column],
            name=label,
            marker_color=colour,
            text=[f"{v:.2f}" if np.isfinite(v) else "none" for v in rows[column]],
            textposition="outside",
            cliponaxis=False,
        )
    fig.update_layout(barmode="group")
    fig.update_xaxes(title="* kept, it breaks a limit there" if rows["kept_breaches"].any() else "")
    return _below(fig, 40)


def cost_curve_figure(curve: CostCurve) -> Any:
    """Return stacked cost components by horizon, with the risk of waiting as a line over them."""
    table = curve.table
    x = [f"{label}<br>peak {peak:.0%}" if np.isfinite(peak) else str(label) for label, peak in
         zip(table.index, table["peak_participation"], strict=True)]  # fmt: skip
    fig = figure("Cost by the time to be done", "done within, and largest share of volume", _COST, height=460)
    for k, (part, label) in enumerate(_PARTS.items()):
        if part in table and (table[part].fillna(0.0).abs() > 0.0).any():
            fig.add_bar(x=x, y=table[part], name=label, marker_color=PALETTE[k])
    fig.add_scatter(
        x=x,
        y=table["sd_bps"],
        name="risk of waiting, one sd",
        mode="lines+markers",
        line={"color": "#000", "dash": "dash", "width": 1.5},
    )
    fig.update_layout(barmode="relative")
    fig.update_xaxes(type="category")
    return _below(fig, 70)


def capacity_figure(found: Capacity) -> Any:
    """Return the cost by size of the basket with the budget as a line and the capacity marked."""
    table = found.table.dropna()
    notional = 1e-6 * found.problem.parent_notional * table.index.to_numpy(dtype=np.float64)
    fig = figure(
        "Capacity within a cost budget",
        "gross notional [M currency]",
        "cost [bps of that notional, > 0 is money lost]",
    )
    fig.add_scatter(x=notional, y=table["cost_bps"], mode="lines+markers", name="cost", line={"color": PALETTE[0]})
    fig.add_scatter(
        x=[0.0, float(notional.max(initial=1.0))],
        y=[found.budget_bps] * 2,
        mode="lines",
        name="budget",
        line={"color": "#000", "dash": "dash", "width": 1.5},
    )
    if 0.0 < found.multiple < np.inf:
        fig.add_scatter(
            x=[1e-6 * found.notional],
            y=[found.cost_bps],
            mode="markers",
            name=f"capacity, bound by {found.binds}",
            marker={"symbol": "diamond", "size": 11, "color": PALETTE[1]},
        )
    fig.update_yaxes(rangemode="tozero")
    return _below(fig, 40)


def guard_figure(found: GuardedSchedule) -> Any:
    """Return the cost by state of both schedules, dearest first; for a bound, their costs as believed and at worst."""
    title = f"Guarded against {found.kind}"
    fig = figure(title if len(title) < 70 else "Guarded schedule", "", f"total {_COST}", height=440)
    if found.states.empty:
        rows = found.table.rename(columns={"believed": "as believed", "guarded_against": "in the worst case"})
        for label, colour in (("nominal", PALETTE[6]), ("guarded", PALETTE[0])):
            fig.add_bar(
                x=list(rows.columns),
                y=rows.loc[label],
                name=label,
                marker_color=colour,
                text=[f"{v:.3f}" for v in rows.loc[label]],
                textposition="outside",
                cliponaxis=False,
            )
        fig.update_layout(barmode="group")
        return _below(fig, 40)
    states = found.states.sort_values("nominal", ascending=False, kind="stable")
    x = np.arange(1, len(states) + 1)
    for label, colour in (("nominal", PALETTE[6]), ("guarded", PALETTE[0])):
        fig.add_scatter(x=x, y=states[label], mode="lines+markers", name=label, line={"color": colour})
    weighted = np.flatnonzero(found.weights.reindex(states.index).to_numpy() > 1e-6)
    fig.add_scatter(
        x=x[weighted],
        y=states["guarded"].to_numpy()[weighted],
        mode="markers",
        name="states that decide",
        marker={"symbol": "diamond-open", "size": 12, "color": PALETTE[1], "line": {"width": 2}},
    )
    fig.update_xaxes(title="state, dearest first")
    return _below(fig, 40)


def sensitivity_bars(found: ScheduleSensitivities) -> Any:
    """Return how the optimal cost moves per +1 % of each parameter."""
    table = found.to_frame()[::-1]
    side = [
        "ONE-SIDED: " if found.degenerate else "",
        "change of cost per +1 % [bps of parent notional, > 0 is money lost]",
    ]
    fig = figure("What the cost is sensitive to", "".join(side), "", height=max(300, 26 * len(table) + 140))
    fig.add_bar(
        x=table["cost_bps"],
        y=[str(n) for n in table.index],
        orientation="h",
        marker_color=[PALETTE[1] if v > 0.0 else PALETTE[2] for v in table["cost_bps"]],
        text=[f"{v:+.3f}" for v in table["cost_bps"]],
        textposition="outside",
        cliponaxis=False,
    )
    span = float(table["cost_bps"].abs().max()) or 1.0
    low, high = float(table["cost_bps"].min()), float(table["cost_bps"].max())
    room = 0.16 * (max(high, 0.0) - min(low, 0.0) or span)  # for the numbers beside the bars
    ends = [min(low - room, 0.0) if low < 0.0 else 0.0, max(high + room, 0.0)]
    fig.update_xaxes(zeroline=True, zerolinecolor="#999", range=ends)
    fig.update_layout(margin={"l": 150})
    return fig


def pair_costs(split: CostSplit) -> Any:
    """Return a heatmap of the impact cost by pair, of sectors where the problem has them, else of names."""
    named = split.problem.sectors is not None
    table: pd.DataFrame = (split.by_sector() if named else split.pairs).map(split.problem.to_bps)
    values = table.to_numpy()
    bound = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    what = "sectors" if named else "names"
    title = f"Impact cost by pair of {what}; cross-impact is {split.cross_share:.0%} of it"
    size = max(380, min(26 * len(table) + 200, 1000))
    fig = figure(title, "", "", height=size)
    short = len(table) <= 12
    fig.add_trace(
        graph_objects().Heatmap(
            z=values,
            x=list(table.columns),
            y=list(table.index),
            zmin=-bound,
            zmax=bound,
            colorscale=[list(stop) for stop in DIVERGING],
            text=[[f"{v:.2f}" for v in row] for row in values] if short else None,
            texttemplate="%{text}" if short else None,
            colorbar={"title": {"text": "[bps of parent, > 0 is money lost]", "side": "right"}},
        )
    )
    fig.update_xaxes(type="category")
    fig.update_yaxes(autorange="reversed", type="category", zeroline=False)
    return fig
