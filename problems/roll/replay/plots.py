"""Figures of roll replays; every axis states its unit and sign rule, every title where the spread book comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.replay.costs import COMPONENTS

if TYPE_CHECKING:
    from crosswind.problems.roll.replay.compare import RollComparison
    from crosswind.problems.roll.replay.result import RollReplay

__all__ = ["comparison_figure", "replay_figure"]

_SHADE = {Regime.CROWDED: "#E69F00", Regime.BASIS_STRESS: "#D55E00", Regime.DEADLINE: "#0072B2"}


def replay_figure(replay: RollReplay) -> Any:
    """Return the spreads still to be done over time, with fills by kind and the regimes as shades."""
    go = graph_objects()
    fig = figure(
        f"{replay.policy} on {replay.episode} ({replay.source})", "time [UTC]", "spreads still to be done [contracts]"
    )
    fig.add_trace(
        go.Scatter(
            x=replay.times, y=replay.remaining, name="remaining", mode="lines", line={"shape": "hv", "width": 1.5}
        )
    )
    fills = replay.to_frame()
    # First legs and spreads take from what remains; second legs only close an open one.
    fills = fills[fills["let_s"].isna()]
    left = replay.size - fills["units"].abs().cumsum()
    for colour, (kind, part) in zip(PALETTE[1:], left.groupby(fills["kind"], sort=False), strict=False):
        cost = fills.loc[fills["kind"] == kind, list(COMPONENTS)].sum(axis=1)
        fig.add_trace(
            go.Scatter(
                x=part.index,
                y=part.to_numpy(),
                name=str(kind),
                mode="markers",
                marker={"color": colour, "size": 6},
                customdata=cost.to_numpy(),
                hovertemplate="%{x}<br>%{y} left, cost %{customdata:.2f} [currency; positive: money lost]",
            )
        )
    edges = [0] + [k for k in range(1, len(replay.regimes)) if replay.regimes[k] is not replay.regimes[k - 1]]
    for begin, end in zip(edges, [*edges[1:], len(replay.regimes)], strict=True):
        if not replay.regimes or replay.regimes[begin] not in _SHADE:
            continue
        colour = _SHADE[replay.regimes[begin]]
        fig.add_vrect(
            x0=replay.times[begin],
            x1=replay.times[end - 1],
            fillcolor=colour,
            opacity=0.12,
            line_width=0,
            layer="below",
        )
    return fig


def comparison_figure(comparison: RollComparison) -> Any:
    """Return the mean components by policy as stacked bars, with q95 and its bounds as marks."""
    go, table = graph_objects(), comparison.table()
    fig = figure(
        f"Roll cost by component, {comparison.episodes} orders ({'; '.join(comparison.sources)})",
        "policy",
        "cost per spread [currency; positive: money lost]",
    )
    for colour, name in zip(PALETTE, COMPONENTS, strict=False):
        bar = go.Bar(x=list(table.index), y=table[name].to_numpy(), name=name.replace("_", " "), marker_color=colour)
        fig.add_trace(bar)
    q95 = table["q95"]
    bounds = {
        "type": "data",
        "symmetric": False,
        "array": (table["q95_high"] - q95).to_numpy(),
        "arrayminus": (q95 - table["q95_low"]).to_numpy(),
    }
    marker = {"color": PALETTE[-1], "symbol": "diamond", "size": 8}
    fig.add_trace(
        go.Scatter(x=list(table.index), y=q95.to_numpy(), name="q95", mode="markers", marker=marker, error_y=bounds)
    )
    fig.update_layout(barmode="relative")
    return fig
