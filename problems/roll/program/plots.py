"""Pictures of a roll plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosswind.problems.roll.program.assembly import COMPONENTS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.problems.roll.program.plan import RollPlan

__all__ = ["plan_figure"]


def plan_figure(plan: RollPlan) -> go.Figure:
    """Return three panels: what remains with its band, what is crossed, the costs with mean, quantile and tail."""
    from plotly.subplots import make_subplots

    frame = plan.to_frame()
    minutes = frame["start_s"] / 60.0
    figure = make_subplots(
        rows=1,
        cols=3,
        subplot_titles=("Still to be done [spreads]", "Given up to crossing [spreads]", "Cost a spread [currency]"),
    )
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=minutes, y=frame["remaining_q95"], row=1, col=1, **band)
    figure.add_scatter(
        x=minutes, y=frame["remaining_q05"], fill="tonexty", fillcolor="rgba(23,50,77,.15)", row=1, col=1, **band
    )
    figure.add_scatter(x=minutes, y=frame["remaining"], name="remaining, mean (band 5–95 %)", row=1, col=1)
    figure.add_bar(x=minutes, y=frame["crossed"], name="crossed, mean", row=1, col=2)
    planned = frame["cross"] + frame["legs_at_once"] + frame["legs_one_by_one"]
    figure.add_scatter(x=minutes, y=planned, name="if nothing fills", mode="lines", line_shape="hv", row=1, col=2)
    costs = plan.costs / plan.quantity
    p = plan.assembly.scenarios.probabilities
    figure.add_histogram(x=costs, name="scenarios", nbinsx=40, row=1, col=3)
    for value, name in ((plan.mean, "mean"), (plan.q95, "Q"), (plan.cvar95, "CVaR")):
        figure.add_vline(x=value / plan.quantity, line_dash="dot", annotation_text=name, row=1, col=3)
    means = p @ plan.components.to_numpy() / plan.quantity
    split = ", ".join(f"{name} {value:+.2f}" for name, value in zip(COMPONENTS, means, strict=True))
    figure.update_xaxes(title_text="minutes from now", row=1, col=1)
    figure.update_xaxes(title_text="minutes from now", row=1, col=2)
    figure.update_xaxes(title_text="positive: money lost", row=1, col=3)
    figure.update_layout(
        title=f"{plan.name}: {plan.quantity:.0f} spreads; mean {split}", legend={"orientation": "h", "y": -0.2}
    )
    return figure
