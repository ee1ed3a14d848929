"""Figures of the branches: reliability curves, a decision's forecast, E[cost | LET] with its tail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.problems.roll.branches.model import BRANCHES
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.roll.branches.forecast import BranchForecast
    from crosswind.problems.roll.branches.legging import LeggingCost
    from crosswind.problems.roll.branches.probability import BranchScores

__all__ = ["plot_forecast", "plot_legging", "plot_reliability"]

_NAMES = {
    "spread_fill": "spread fill",
    "legged_fill": "legged fill",
    "partial_retry": "partial + retry",
    "forced_cross": "forced cross",
}


def plot_reliability(scores: BranchScores) -> Any:
    """Draw frequency against probability of each branch, with intervals over whole sessions."""
    go = graph_objects()
    fig = figure(
        f"Branch probabilities on {scores.sessions} held-out sessions",
        "predicted probability",
        "frequency (bars: interval over sessions)",
    )
    fig.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "#7F7F7F", "dash": "dot"}, showlegend=False)
    )
    for k, (name, curve) in enumerate(scores.curves.items()):
        table = curve.table
        fig.add_trace(
            go.Scatter(
                x=table["predicted"],
                y=table["observed"],
                mode="lines+markers",
                line={"color": PALETTE[k]},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": table["high"] - table["observed"],
                    "arrayminus": table["observed"] - table["low"],
                    "thickness": 1,
                },
                name=f"{_NAMES[name]}, slope {curve.slope:.2f}",
            )
        )
    fig.update_layout(legend={"orientation": "v", "x": 0.02, "xanchor": "left", "y": 0.98, "yanchor": "top"})
    return fig


def plot_forecast(forecast: BranchForecast, row: int = 0) -> Any:
    """Draw probability, mean and q95 of the branches of one decision, and what the mixture makes of them."""
    if not 0 <= row < len(forecast):
        raise InvalidInput("is no decision", field="row", value=row, remedy=f"0 to {len(forecast) - 1}")
    go = graph_objects()
    P = forecast.probabilities.iloc[row].to_numpy()
    names = [f"{_NAMES[name]}<br>{p:.1%}" for name, p in zip(BRANCHES, P, strict=True)] + ["all"]
    fig = figure(
        f"Cost of the decision: Ĉ {forecast.mean[row]:.1f}, q95 {forecast.q95[row]:.1f}",
        "branch and its probability",
        "currency per spread, positive = money lost",
    )
    bars = {
        "mean": [*forecast.means.iloc[row], forecast.mean[row]],
        "q95": [*forecast.branch_q95.iloc[row], forecast.q95[row]],
    }
    for k, (name, values) in enumerate(bars.items()):
        fig.add_trace(go.Bar(x=names, y=values, name=name, marker_color=PALETTE[k]))
    fig.add_trace(
        go.Scatter(
            x=["all"],
            y=[forecast.cvar95[row]],
            mode="markers",
            marker={"symbol": "diamond", "size": 10, "color": PALETTE[7]},
            name="CVaR95 of the mixture",
        )
    )
    fig.update_layout(barmode="group")
    return fig


def plot_legging(model: LeggingCost) -> Any:
    """Draw E[C | LET], q50, q95 and CVaR95 at the median volatility, and the classes of the data."""
    go = graph_objects()
    data = model.bins_
    let = np.linspace(float(data["let_s"].min()), float(data["let_s"].max()) * 1.05, 160)
    table = model.predict(let)
    fig = figure(
        f"Waiting for the second leg (lines: σ {model.sigma_:.1f} per √min; dots: data, any σ)",
        "legging exposure time [s]",
        "currency per spread, positive = money lost",
    )
    lines = {"mean": (0, "solid"), "q50": (6, "dot"), "q95": (1, "solid"), "cvar95": (3, "dash")}
    for name, (colour, dash) in lines.items():
        fig.add_trace(
            go.Scatter(
                x=let,
                y=table[name],
                mode="lines",
                line={"color": PALETTE[colour], "dash": dash},
                name={"mean": "E[cost | LET]", "cvar95": "CVaR95"}.get(name, name),
            )
        )
        error = {"type": "data", "array": 1.96 * data["error"], "thickness": 1} if name == "mean" else None
        fig.add_trace(
            go.Scatter(
                x=data["let_s"],
                y=data[name],
                mode="markers",
                marker={"color": PALETTE[colour], "size": 6},
                error_y=error,
                showlegend=False,
            )
        )
    return fig
