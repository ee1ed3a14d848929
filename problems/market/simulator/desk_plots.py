"""Figure of a desk order: what was planned, what was planned in the end, what was done."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.problems.market.simulator.desk_order import DeskOrder
from crosswind.problems.plotting import PALETTE, figure

__all__ = ["plot_order"]


def plot_order(order: DeskOrder) -> Any:
    """Draw the running gross shares of the first plan, the last plan and the fills; lines mark what changed when.

    Parameters
    ----------
    order
        The parent; the names are added up without their sides.

    Returns
    -------
    plotly.graph_objects.Figure
        Nothing is shown.

    Raises
    ------
    MissingDependency
        If plotly is not installed.
    """
    fig = figure(f"{order.name}: {order.kind}", "slice", "gross shares,<br>running", 380)
    edges = list(range(order.slices + 1))
    curves = {"first plan": order.plan, "last plan": order.final_plan, "done": order.fills}
    for color, (label, frame) in zip(PALETTE, curves.items(), strict=False):
        running = np.append(0.0, frame.abs().sum(axis=1).to_numpy().cumsum())
        fig.add_scatter(x=edges, y=running.tolist(), mode="lines", name=label, line={"color": color, "width": 1.5})
    for k, _ in order.revisions:
        fig.add_vline(x=k, line={"color": "#999", "width": 1, "dash": "dot"}, annotation_text="revised")
    if order.cancelled_at is not None:
        fig.add_vline(x=order.cancelled_at, line={"color": "#c33", "width": 1}, annotation_text="cancelled")
    return fig
