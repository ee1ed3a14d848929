"""The picture of stylised facts: eight panels, one line per market or name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.market.features.arrays import block_of
from crosswind.problems.plotting import PALETTE, figure
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market.features.stylised import StylisedFacts

__all__ = ["plot_facts"]

_COLUMNS = ((0.0, 0.2), (0.265, 0.465), (0.53, 0.73), (0.795, 1.0))
_ROWS = ((0.58, 1.0), (0.0, 0.40))
_PANELS = (  # title, x axis, log x, log y
    ("autocorrelation of |return|", "lag [s]", True, False),
    ("autocorrelation of flow signs", "lag [s]", True, True),
    ("correlation of returns (Epps)", "horizon [s]", True, False),
    ("response to signed flow over one-bucket sd", "horizon [s]", True, False),
    ("mean |return| by 13th of the session", "slice", False, False),
    ("kurtosis of returns", "horizon [s]", True, False),
    ("spread over its mean, quantiles", "quantile", False, False),
    ("depth over its mean, quantiles", "quantile", False, False),
)


def plot_facts(facts: Mapping[str, StylisedFacts]) -> Any:
    """Draw several markets' facts beside each other, medians over the names of each.

    Parameters
    ----------
    facts
        Label → facts; as many as there are colours tell apart, at most eight.

    Returns
    -------
    plotly.graph_objects.Figure
        Eight panels: clustering, memory of flow signs, Epps curve, response to flow, U-shape, kurtosis by horizon,
        spread and depth distributions.

    Raises
    ------
    InvalidInput
        If there are none.
    MissingDependency
        If plotly is not installed.
    """
    if not facts:
        raise InvalidInput("no facts", field="facts", value=0, remedy="pass {label: stylised_facts(events)}")
    fig = figure("", "", "", 640)
    fig.update_layout(width=1480, margin={"t": 74, "l": 56, "b": 52}, legend={"y": 1.07, "x": 0.5, "xanchor": "center"})
    for panel, (title, x_title, log_x, log_y) in enumerate(_PANELS):
        suffix = "" if panel == 0 else str(panel + 1)
        across, down = _COLUMNS[panel % 4], _ROWS[panel // 4]
        axis = {"zeroline": False, "domain": list(across), "anchor": f"y{suffix}", "title": x_title}
        fig.update_layout(
            {
                f"xaxis{suffix}": axis | {"type": "log" if log_x else "linear"} | ({"dtick": 1} if log_x else {}),
                f"yaxis{suffix}": {
                    "domain": list(down),
                    "anchor": f"x{suffix}",
                    "type": "log" if log_y else "linear",
                    **({"dtick": 1} if log_y else {}),
                    "title": "",
                },
            }
        )
        fig.add_annotation(
            text=title, x=across[0], y=down[1] + 0.045, xref="paper", yref="paper", showarrow=False, font={"size": 13}
        )
        fig.layout.annotations[-1].update(xanchor="left")
    for k, (label, one) in enumerate(facts.items()):
        colour = PALETTE[k % len(PALETTE)]
        for panel, (x, y) in enumerate(_curves(one)):
            suffix = "" if panel == 0 else str(panel + 1)
            y = np.where(y > 0, y, np.nan) if _PANELS[panel][3] else y
            fig.add_scatter(
                x=list(x),
                y=[float(v) for v in y],
                name=label,
                legendgroup=label,
                showlegend=panel == 0,
                mode="lines+markers",
                marker={"size": 4},
                line={"color": colour, "width": 1.6},
                xaxis=f"x{suffix}",
                yaxis=f"y{suffix}",
            )
    return fig


def _curves(facts: StylisedFacts) -> list[tuple[Any, Any]]:
    """Return the panels' x and y, medians over names."""
    clustering = block_of(facts.memory, "|return|").median(axis=1)
    signs = block_of(facts.memory, "sign").median(axis=1)
    epps = facts.epps.median(axis=1)  # NaN throughout for a single name
    # Over the sd of one bucket, markets of other volatility compare.
    response = (facts.response / facts.scalars["return_sd_bps"]).median(axis=1)
    vol = block_of(facts.shape, "|return|").median(axis=1)
    kurtosis = facts.tails["kurtosis"].groupby(level="horizon_s").median()
    spread = (block_of(facts.quantiles, "spread_bps") / facts.scalars["spread_bps"]).median(axis=1)
    depth = block_of(facts.quantiles, "depth").median(axis=1)
    return [(s.index, s.to_numpy()) for s in (clustering, signs, epps, response, vol, kurtosis, spread, depth)]
