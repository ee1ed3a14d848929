"""Figures of roll replays; every axis states its unit and sign rule, every title where the spread book comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.replay.costs import COMPONENTS

if TYPE_CHECKING:
    from crosswind.problems.roll.replay.result import RollReplay

__all__ = ["replay_figure"]

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
