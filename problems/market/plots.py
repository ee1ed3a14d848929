"""Figures of market data."""

from __future__ import annotations

from typing import Any

from crosswind.problems.market.events import MarketEvents
from crosswind.problems.plotting import PALETTE, figure

__all__ = ["plot_events"]


def plot_events(events: MarketEvents) -> Any:
    """Draw each name's move of the mid since its session's start [bps], and its cumulative flow [currency, buy > 0].

    Nights are cut out: the axis counts buckets, and vertical lines part the sessions.

    Parameters
    ----------
    events
        The buckets; resample before to keep the figure small.

    Returns
    -------
    plotly.graph_objects.Figure
        Two panels, one line per name in each; nothing is shown.

    Raises
    ------
    MissingDependency
        If plotly is not installed.
    """
    title = f"Price and signed flow, {events.tz}"
    fig = figure(title, "bucket, sessions joined", "move since<br>the open [bps]", 560)
    session = events.session.to_numpy()
    ticks = [str(t) for t in events.index.tz_convert(events.tz).strftime("%m-%d %H:%M:%S")]
    place = list(range(len(ticks)))
    first = events.mid.groupby(session).transform("first")
    move_bps = (events.mid / first - 1.0) * 1e4
    total = events.flow.groupby(session).cumsum()
    for k, name in enumerate(events.names):
        line = {"color": PALETTE[k % len(PALETTE)], "width": 1.2}
        common = {"x": place, "mode": "lines", "line": line, "name": name, "legendgroup": name, "text": ticks}
        fig.add_scatter(y=move_bps[name].tolist(), **common)
        fig.add_scatter(y=total[name].tolist(), showlegend=False, yaxis="y2", **common)
    starts = [i for i in place[1:] if session[i] != session[i - 1]]
    for at in starts:
        fig.add_vline(x=at - 0.5, line={"color": "#999", "width": 1, "dash": "dot"})
    fig.update_layout(
        yaxis={"domain": [0.54, 1.0]},
        yaxis2={
            "domain": [0.0, 0.46],
            "title": f"cumulative flow<br>[{events.currency}, buy > 0]",
            "zerolinecolor": "#999",
        },
        xaxis={"anchor": "y2"},
    )
    return fig
