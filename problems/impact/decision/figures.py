"""Figures of a decision-focused calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.plotting import DIVERGING, PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.decision.model import DecisionCalibration

__all__ = ["plot_path", "plot_surface"]


def _where(calibration: DecisionCalibration, role: str) -> Any:
    frame = calibration.to_frame()
    return frame[frame["role"].str.contains(role)].iloc[0]


def plot_surface(calibration: DecisionCalibration) -> Any:
    """Two penalties on a full grid: a map of the saving. Else: saving against held-out R², with bounds."""
    go = graph_objects()
    names, table = calibration.parameters, calibration.table
    points = [("likelihood", "best held-out R²", "circle-open"), ("chosen", "chosen by cost", "x")]
    if len(names) == 2:
        grid = table.drop_duplicates(list(names)).pivot(index=names[0], columns=names[1], values="saving")
        whole = grid.dropna(how="any")
        if whole.size >= 4 and whole.size >= 0.9 * len(table):
            largest = float(np.abs(whole.to_numpy()).max())
            fig = figure(
                "Saving against the choice by held-out R², share of its promised cost (blue costs more, red saves)",
                names[1],
                names[0],
            )
            fig.add_trace(
                go.Heatmap(
                    x=[f"{v:.3g}" for v in whole.columns],
                    y=[f"{v:.3g}" for v in whole.index],
                    z=whole.to_numpy(),
                    zmin=-largest,
                    zmax=largest,
                    colorscale=DIVERGING,
                    colorbar={"tickformat": ".1%"},
                )
            )
            for k, (role, label, symbol) in enumerate(points):
                at = _where(calibration, role)
                if at[names[0]] in whole.index and at[names[1]] in whole.columns:
                    fig.add_trace(
                        go.Scatter(
                            x=[f"{at[names[1]]:.3g}"],
                            y=[f"{at[names[0]]:.3g}"],
                            mode="markers",
                            name=label,
                            marker={"symbol": symbol, "size": 16 - 4 * k, "color": "#000000", "line": {"width": 2}},
                        )
                    )
            fig.update_xaxes(type="category")
            fig.update_yaxes(type="category", zeroline=False)
            return fig
    fig = figure(
        f"Saving by held-out R², with {calibration.level:.0%} bounds for all points together",
        "held-out R² (higher is better)",
        "saving against the choice by R² (share of its promised cost; positive: cheaper)",
    )
    text = [", ".join(f"{n} {row[n]:.3g}" for n in names) for _, row in table.iterrows()]
    fig.add_trace(
        go.Scatter(
            x=table["r2"],
            y=table["saving"],
            text=text,
            mode="markers",
            name="tried",
            marker_color=PALETTE[5],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": table["high"] - table["saving"],
                "arrayminus": table["saving"] - table["low"],
                "thickness": 1.0,
                "width": 2,
            },
        )
    )
    for k, (role, label, symbol) in enumerate(points):
        at = _where(calibration, role)
        fig.add_trace(
            go.Scatter(
                x=[at["r2"]],
                y=[at["saving"]],
                mode="markers",
                name=label,
                marker={"symbol": symbol, "size": 14, "color": PALETTE[k], "line": {"width": 2}},
            )
        )
    return fig


def plot_path(calibration: DecisionCalibration) -> Any:
    """Cost by step of the gradient search."""
    if calibration.path is None:
        raise InvalidInput("there was no gradient search", field="search", value="grid", remedy='use search="gradient"')
    go = graph_objects()
    fig = figure(
        "Gradient search", "evaluation", "cost on held-out data (share of the promise of the choice by held-out R²)"
    )
    path = calibration.path
    text = [", ".join(f"{n} {row[n]:.3g}" for n in calibration.parameters) for _, row in path.iterrows()]
    fig.add_trace(go.Scatter(x=list(path.index), y=path["cost"], text=text, mode="lines+markers", name="cost"))
    return fig
