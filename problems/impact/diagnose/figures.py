"""Figures of a diagnosis; each states its unit and how to read its sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.diagnose.noise import CrossSignal
from crosswind.problems.impact.diagnose.prices import LimitPrices
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.calibrate.bands import Bands

__all__ = ["plot_bands", "plot_lead_lag", "plot_prices", "plot_round_trip", "plot_signal"]

_SHADE = ("rgba(0,114,178,0.18)", "rgba(213,94,0,0.18)", "rgba(0,158,115,0.18)")
_PER_MILLION_BPS = 1e10  # return per currency → bps per million


def _band(fig: Any, x: Any, low: Any, high: Any, shade: str, group: str) -> None:
    go = graph_objects()
    line = {"width": 0}
    shared = {"line": line, "mode": "lines", "legendgroup": group, "showlegend": False, "hoverinfo": "skip"}
    fig.add_trace(go.Scatter(x=x, y=high, **shared))
    fig.add_trace(go.Scatter(x=x, y=low, fill="tonexty", fillcolor=shade, **shared))


def plot_signal(signal: CrossSignal) -> Any:
    """Singular values of the cross terms, least squares beside the constrained fit, with the edge of pure noise."""
    go = graph_objects()
    rank = list(range(1, len(signal.raw) + 1))
    fig = figure(
        "Cross-impact against noise, before and after the constraints",
        "direction of cross-impact, strongest first",
        "correlation with own-flow residuals, no unit; below the line noise does as much",
    )
    fig.add_trace(go.Bar(x=rank, y=signal.raw, name="least squares (before)", marker_color=PALETTE[5]))
    fig.add_trace(go.Bar(x=rank, y=signal.fitted, name="constrained fit (after)", marker_color=PALETTE[0]))
    fig.add_hline(
        y=signal.edge,
        line={"color": PALETTE[1], "dash": "dash", "width": 1.5},
        annotation_text=f"noise edge {signal.edge:.3g}",
        annotation_position="top right",
        annotation_font_color=PALETTE[1],
    )
    fig.update_layout(barmode="group", xaxis={"dtick": 1 if len(rank) <= 20 else None})
    return fig


def plot_prices(prices: LimitPrices, most: int = 15) -> Any:
    """Binding limits with what loosening each by 1 % is worth to the fit, dearest first.

    Parameters
    ----------
    prices
        From `limit_prices`.
    most
        How many are drawn.
    """
    go = graph_objects()
    top = prices.to_frame().head(most)
    held = int(prices.table["binding"].sum())
    title = f"Binding limits, {len(top)} dearest of {held}" if held else "No limit binds"
    fig = figure(title, "fall of the objective if the limit is loosened by 1 % [% of its size]")
    colours = {"correlation": PALETTE[0], "floor": PALETTE[4], "psd": PALETTE[1]}
    for kind, colour in colours.items():
        part = top[top.index.get_level_values("limit") == kind]
        labels = [
            f"{' – '.join(x for x in (name, other) if x) or 'all names'}, {mode}" for _, mode, name, other in part.index
        ]
        if labels:
            word = {"correlation": "correlation bound", "floor": "self-impact floor", "psd": "positive semidefinite"}
            fig.add_trace(
                go.Bar(
                    y=labels,
                    x=100.0 * part["worth_1pct"].to_numpy(),
                    orientation="h",
                    name=word[kind],
                    marker_color=colour,
                )
            )
    order = [
        f"{' – '.join(x for x in (name, other) if x) or 'all names'}, {mode}" for _, mode, name, other in top.index
    ]
    fig.update_layout(
        yaxis={"categoryorder": "array", "categoryarray": order[::-1], "zeroline": False, "automargin": True},
        # Small shares as powers of ten: the usual "100µ" is no way to write a percentage.
        xaxis={"zeroline": True, "rangemode": "tozero", "exponentformat": "power"},
        height=max(260, 120 + 26 * len(top)),
        showlegend=True,
    )
    return fig


def plot_bands(bands: Bands, lags_s: Any) -> Any:
    """Decay of self- and cross-impact with resampled bands.

    Parameters
    ----------
    bands
        Resampled matrices.
    lags_s
        Lags (L,) > 0 [s].
    """
    go = graph_objects()
    table = bands.decay(lags_s) * _PER_MILLION_BPS
    fig = figure(
        f"Decay of impact, with {bands.level:.0%} bands of {len(bands.matrices)} resampled fits",
        "lag [s], logarithmic",
        f"impact [bps per million {bands.model.currency}], a buy moves prices up",
    )
    for k, (label, word) in enumerate((("self", "self, median name"), ("cross", "cross, mean of pairs"))):
        if label == "cross" and len(bands.model.names) < 2:
            continue
        _band(fig, table.index, table[f"{label}_low"], table[f"{label}_high"], _SHADE[k], label)
        fig.add_trace(
            go.Scatter(
                x=table.index, y=table[label], name=word, mode="lines", line={"color": PALETTE[k]}, legendgroup=label
            )
        )
    fig.update_layout(yaxis={"rangemode": "tozero"}, xaxis={"type": "log"})
    return fig


def plot_round_trip(model: ImpactModel) -> Any:
    """Worst round trip on 32 buckets: the schedule that ends flat and costs least; it must not pay."""
    go = graph_objects()
    trip = model.admissible()
    trades = trip.worst_round_trip
    verdict = "no round trip pays" if trip.admissible else f"a round trip earns {trip.profit_bps:.3g} bps"
    fig = figure(
        f"Worst round trip: {verdict}",
        "time [s]",
        "trade [share of the gross traded, buy positive]",
    )
    share = trades / max(float(np.abs(trades).sum()), np.finfo(float).tiny)
    order = np.argsort(-np.abs(share).sum(axis=0))
    shown = order[:6]
    for k in shown:
        fig.add_trace(go.Bar(x=trip.times_s, y=share[:, k], name=model.names[k]))
    rest = order[6:]
    if len(rest):
        fig.add_trace(
            go.Bar(x=trip.times_s, y=share[:, rest].sum(axis=1), name=f"{len(rest)} others, net", marker_color="#bbb")
        )
    fig.update_layout(barmode="relative")
    return fig


def plot_lead_lag(curves: pd.DataFrame) -> Any:
    """Lead–lag curves: correlation of one name's return with another's flow or return shifted in time.

    Parameters
    ----------
    curves
        Index lag [s], one column per pair. For a pair "A, B" optional columns "A, B low" and "A, B high" give a band.

    Raises
    ------
    InvalidInput
        An empty frame, an index that is not numeric and increasing, or non-finite values throughout.
    """
    lags = curves.index.to_numpy()
    if not len(curves.columns) or not np.issubdtype(lags.dtype, np.number) or (np.diff(lags) <= 0).any():
        raise InvalidInput(
            "needs an increasing index of lags [s] and a column per pair",
            field="curves",
            value=curves.shape,
            remedy="set_index to the lags and sort",
        )
    go = graph_objects()
    fig = figure(
        "Lead–lag curves", "lag [s]: to the right of 0 the second name follows the first", "correlation, no unit"
    )
    plain = [c for c in curves.columns if not str(c).endswith((" low", " high"))]
    for k, column in enumerate(plain[:8]):
        colour = PALETTE[k % len(PALETTE)]
        low, high = f"{column} low", f"{column} high"
        if low in curves.columns and high in curves.columns:
            _band(fig, lags, curves[low], curves[high], _SHADE[k % len(_SHADE)], str(column))
        line = {"color": colour}
        fig.add_trace(
            go.Scatter(x=lags, y=curves[column], name=str(column), mode="lines", line=line, legendgroup=str(column))
        )
    fig.add_vline(x=0.0, line={"color": "#999", "dash": "dot", "width": 1})
    return fig
