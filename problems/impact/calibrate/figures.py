"""Figures of a calibration; each states its unit and how to read its sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.plotting import PALETTE, figure, graph_objects

if TYPE_CHECKING:
    from crosswind.problems.impact.calibrate.model import Calibration
    from crosswind.problems.impact.calibrate.promotion import Promotion

__all__ = [
    "plot_costs",
    "plot_decision",
    "plot_differences",
    "plot_drift",
    "plot_entries",
    "plot_names",
    "plot_out_of_sample",
    "plot_stability",
]


def _colours(calibration: Calibration) -> dict[str, str]:
    """Return one colour per model, the same in every figure."""
    return {label: PALETTE[k % len(PALETTE)] for k, label in enumerate(calibration.fitted)}


def _seconds(value: float) -> str:
    return f"{value:g} s" if value < 120 else f"{value / 60:g} min"


def _arms(low: Any, mid: Any, high: Any) -> dict[str, Any]:
    # A percentile interval need not hold its own estimate; an arm of negative length would be drawn inverted.
    up, down = np.maximum(np.asarray(high) - mid, 0.0), np.maximum(np.asarray(mid) - low, 0.0)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}


def plot_out_of_sample(calibration: Calibration) -> Any:
    """Out-of-sample R² by horizon and model, mean over names, with intervals."""
    go = graph_objects()
    table = calibration.out_of_sample()
    colours = _colours(calibration)
    fig = figure(
        f"Out of sample, mean of names, with {calibration.settings['level']:.0%} intervals",
        "horizon",
        "R² (higher is better; below 0 is worse than no model)",
    )
    for label in calibration.scores.held:
        part = table.loc[label]
        fig.add_trace(
            go.Bar(
                x=[_seconds(h) for h in part.index],
                y=part["mean"],
                name=label,
                marker_color=colours[label],
                error_y=_arms(part["low"], part["mean"], part["high"]),
            )
        )
    low = float(table["mean"].min())
    if low < -2.0 * abs(float(table["mean"].max())):  # one that blows up would flatten all others
        fig.update_layout(yaxis={"range": [-abs(float(table["high"].max())), 1.15 * float(table["high"].max())]})
        fig.add_annotation(
            text=f"bars that leave the figure end at {low:.2g} at worst",
            showarrow=False,
            x=0.0,
            xref="paper",
            xanchor="left",
            y=0.0,
            yref="paper",
            yanchor="bottom",
        )
    fig.update_layout(barmode="group")
    return fig


def plot_differences(calibration: Calibration) -> Any:
    """Paired differences of R² against the reference by horizon, with intervals."""
    go = graph_objects()
    table = calibration.differences()
    colours = _colours(calibration)
    fig = figure(
        f"Paired difference to {calibration.reference}, with {calibration.settings['level']:.0%} intervals",
        f"difference of R² (right of 0 is better than {calibration.reference})",
    )
    for label in table.index.get_level_values("model").unique():
        part = table.loc[label]
        fig.add_trace(
            go.Scatter(
                x=part["difference"],
                y=[f"{label}, {_seconds(h)}" for h in part.index],
                mode="markers",
                marker={"color": colours[label], "size": 9},
                error_x=_arms(part["low"], part["difference"], part["high"]),
                name=label,
                showlegend=False,
            )
        )
    fig.add_vline(x=0.0, line={"color": "#555", "width": 1})
    worst = float(table["low"].min())
    best = float(table["high"].max())
    if worst < -4.0 * max(best, 1e-12):
        left = -3.0 * max(best, 1e-3)
        fig.update_layout(xaxis={"range": [left, 1.2 * max(best, 1e-3)]})
        gone = table[table["difference"] < left]
        for (label, horizon), value in zip(gone.index.to_list(), gone["difference"].tolist(), strict=True):
            fig.add_annotation(
                text=f"◂ {value:.2g}",
                showarrow=False,
                font={"color": colours[label]},
                x=left,
                xanchor="left",
                y=f"{label}, {_seconds(horizon)}",
            )
    rows = len(table) or 1
    fig.update_layout(
        yaxis={"autorange": "reversed", "automargin": True, "zeroline": False},
        height=max(280, 110 + 22 * rows),
    )
    return fig


def plot_names(calibration: Calibration) -> Any:
    """Out-of-sample R² of single buckets by name and model."""
    go = graph_objects()
    table = calibration.out_of_sample().xs(calibration.horizons_s[0], level="horizon_s")
    names = list(calibration.names)
    colours = _colours(calibration)
    fig = figure(
        f"Out of sample by name, {_seconds(calibration.horizons_s[0])}",
        "",
        "R² (higher is better; below 0 is worse than no model)",
    )
    if len(names) <= 20:
        for label, row in table.iterrows():
            fig.add_trace(go.Bar(x=names, y=row[names], name=str(label), marker_color=colours[str(label)]))
        fig.update_layout(barmode="group")
    else:
        for label, row in table.iterrows():
            fig.add_trace(go.Box(y=row[names], name=str(label), marker_color=colours[str(label)], showlegend=False))
    low, high = float(table[names].min().min()), float(table[names].max().max())
    if low < -2.0 * abs(high):
        fig.update_layout(yaxis={"range": [-abs(high), 1.15 * abs(high)]})
    return fig


def plot_costs(calibration: Calibration) -> Any:
    """Promised over realised cost of optimised schedules by model; 1 keeps its promise."""
    go = graph_objects()
    table = calibration.costs[calibration.costs["bounded"]]
    fig = figure(
        "Promised over realised cost of optimised schedules",
        "promised/realised, no unit (below 1 promises too much; the whiskers are the ruler's noise)",
    )
    top = float(np.nanmax([3.0, *np.minimum(table["ratio"].replace(np.inf, 3.0), 6.0)]))
    shown = table["ratio"].clip(upper=top)
    high = table["ratio_high"].clip(upper=2.0 * top)
    fig.add_trace(
        go.Scatter(
            x=shown,
            y=list(table.index),
            mode="markers",
            marker={"size": 10, "color": [_colours(calibration)[label] for label in table.index]},
            error_x=_arms(table["ratio_low"].clip(upper=top), shown, high),
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            showlegend=False,
        )
    )
    if calibration.recovery is not None:
        true = calibration.recovery["promised_over_realised"].reindex(table.index)
        fig.add_trace(
            go.Scatter(
                x=true.clip(upper=top),
                y=list(table.index),
                mode="markers",
                marker={"symbol": "diamond-open", "size": 10, "color": "#000"},
                name="under the simulator's truth",
            )
        )
    fig.add_vline(x=1.0, line={"color": "#555", "width": 1})
    missing = [label for label in calibration.costs.index if label not in table.index]
    if missing:
        title = f"Promised over realised cost of optimised schedules; profit without end: {', '.join(missing)}"
        fig.update_layout(title={"text": title})
    fig.update_layout(
        xaxis={"range": [0.0, 1.05 * top]},
        yaxis={"autorange": "reversed", "automargin": True, "zeroline": False},
        height=max(280, 130 + 30 * len(table)),
    )
    return fig


def plot_stability(calibration: Calibration) -> Any:
    """R² on the half fitted and on the other half, by model, with the distance of the two kernels beside."""
    go = graph_objects()
    table = calibration.halves
    fig = figure("Stability of halves", "", "R², mean of names (higher is better)")
    fig.add_trace(go.Bar(x=list(table.index), y=table["r2_within"], name="on the half fitted", marker_color=PALETTE[5]))
    fig.add_trace(go.Bar(x=list(table.index), y=table["r2_across"], name="on the other half", marker_color=PALETTE[0]))
    fig.add_trace(
        go.Scatter(
            x=list(table.index),
            y=table["distance"],
            yaxis="y2",
            mode="markers",
            marker={"symbol": "diamond", "size": 10, "color": PALETTE[1]},
            name="distance of the kernels (right)",
        )
    )
    fig.update_layout(
        barmode="group",
        yaxis2={
            "title": "distance, relative to the mean kernel",
            "overlaying": "y",
            "side": "right",
            "rangemode": "tozero",
            "tickformat": ".2f",
            "showgrid": False,
        },
        margin={"r": 70},
    )
    low = float(table[["r2_within", "r2_across"]].min().min())
    high = float(table[["r2_within", "r2_across"]].max().max())
    if low < -2.0 * abs(high):
        fig.update_layout(yaxis={"range": [-abs(high), 1.15 * abs(high)]})
    return fig


def plot_drift(calibration: Calibration) -> Any:
    """Distance of each period's fit from the fit on all rows, against what noise alone would give."""
    go = graph_objects()
    table = calibration.drift
    fig = figure(
        f"Drift of the matrix ({calibration.main})",
        "",
        "distance from the fit on all rows, relative (above the noise level the matrix has moved)",
    )
    x = [str(label) for label in table.index]
    fig.add_trace(go.Bar(x=x, y=table["distance"], name="kernel", marker_color=PALETTE[0]))
    fig.add_trace(go.Bar(x=x, y=table["cross_distance"], name="cross terms alone", marker_color=PALETTE[5]))
    fig.add_trace(
        go.Scatter(
            x=x,
            y=table["noise_q90"],
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 40, "color": PALETTE[1], "line": {"width": 2}},
            name="kernel, 90 % quantile of noise",
        )
    )
    fig.update_layout(barmode="group", xaxis={"type": "category"})
    return fig


def plot_entries(calibration: Calibration, most: int = 30) -> Any:
    """Cross terms of G_0 with their intervals, largest first, scaled by self-impact."""
    go = graph_objects()
    bands = calibration.bands
    fig = figure(
        f"Cross terms of {calibration.main}, with {calibration.settings['level']:.0%} intervals",
        "",
        "G₀ scaled by self-impact, no unit (positive: a buy of one moves the other up)",
    )
    if bands is None:
        return fig
    table = bands.entries().reset_index()
    own = dict(zip(calibration.names, np.sqrt(np.diag(bands.model.immediate)), strict=True))
    place = {name: k for k, name in enumerate(calibration.names)}
    table = table[[place[a] < place[b] for a, b in zip(table["moves"], table["flow_in"], strict=True)]]
    unit = np.array([own[a] * own[b] for a, b in zip(table["moves"], table["flow_in"], strict=True)])
    for column in ("estimate", "low", "high"):
        table[column] = table[column] / unit
    table = table.reindex(table["estimate"].abs().sort_values(ascending=False).index).head(most)
    fig.add_trace(
        go.Scatter(
            x=[f"{a} – {b}" for a, b in zip(table["moves"], table["flow_in"], strict=True)],
            y=table["estimate"],
            mode="markers",
            marker={"size": 8, "color": [PALETTE[0] if s else "#aab4bd" for s in table["significant"]]},
            error_y=_arms(table["low"], table["estimate"], table["high"]),
            showlegend=False,
        )
    )
    fig.add_annotation(
        text="grey: the interval holds 0",
        showarrow=False,
        x=1.0,
        xref="paper",
        xanchor="right",
        y=1.02,
        yref="paper",
        yanchor="bottom",
    )
    return fig


def plot_decision(promotion: Promotion) -> Any:
    """Each candidate's score behind the best eligible one's, with one standard error; green is what was promoted."""
    go = graph_objects()
    table = promotion.table
    known = table[np.isfinite(table["behind_best"])]
    fig = figure(
        f"Promoted: {promotion.choice}",
        f"R² less that of {promotion.best} (whiskers: {promotion.rule['errors']:g} standard errors of the difference)",
    )
    groups = {
        "promoted": (known["promoted"], PALETTE[2]),
        "eligible": (known["eligible"] & ~known["promoted"], PALETTE[0]),
        "not eligible": (~known["eligible"], "#aab4bd"),
    }
    for label, (where, colour) in groups.items():
        part = known[where.astype(bool)]
        if not len(part):
            continue
        fig.add_trace(
            go.Scatter(
                x=part["behind_best"],
                y=list(part.index),
                mode="markers",
                marker={"size": 11, "color": colour},
                error_x={"type": "data", "array": promotion.rule["errors"] * part["se"], "width": 3},
                customdata=part["reason"],
                hovertemplate="%{y}: %{customdata}<extra></extra>",
                name=label,
            )
        )
    fig.add_vline(x=0.0, line={"color": "#555", "width": 1})
    worst = float(known["behind_best"][known["eligible"]].min())
    if float(known["behind_best"].min()) < 5.0 * min(worst, -1e-3):
        fig.update_layout(xaxis={"range": [4.0 * min(worst, -1e-3), -1.5 * min(worst, -1e-3)]})
    fig.update_layout(
        yaxis={
            "categoryorder": "array",
            "categoryarray": list(known.index)[::-1],
            "automargin": True,
            "zeroline": False,
        },
        height=max(280, 130 + 30 * len(known)),
    )
    return fig
