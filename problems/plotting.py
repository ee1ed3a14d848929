"""One look for every figure: unit and sign rule in the titles, colours that survive grey print and colour blindness."""

from __future__ import annotations

from typing import Any

from crosswind.solvers.errors import MissingDependency

__all__ = ["DIVERGING", "PALETTE", "figure", "graph_objects"]

# Okabe and Ito (2008): distinguishable for the common forms of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
# Blue is negative, red positive, white zero: for matrices drawn symmetric around zero.
DIVERGING = ((0.0, "#2166AC"), (0.25, "#92C5DE"), (0.5, "#FFFFFF"), (0.75, "#F4A582"), (1.0, "#B2182B"))


def graph_objects() -> Any:
    """Return ``plotly.graph_objects``, imported on first use.

    Raises
    ------
    MissingDependency
        When plotly is not installed; the remedy names the extra.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as err:
        raise MissingDependency(
            "plotly draws the figures and is not installed", field="plotly", remedy="pip install 'crosswind[report]'"
        ) from err
    return go


def _wrapped(text: str, width: int = 46) -> str:
    """Break an axis title at a space so that it fits the height of a figure; markup is left alone."""
    if len(text) <= width or "<" in text:
        return text
    at = text.find(" ", len(text) // 2 - 4)
    return text if at < 0 else f"{text[:at]}<br>{text[at + 1 :]}"


def figure(title: str, x_title: str = "", y_title: str = "", height: int = 420) -> Any:
    """Return an empty plotly figure in the house style; the axis titles should state units and sign rules."""
    fig = graph_objects().Figure()
    fig.update_layout(
        title={"text": title, "x": 0.01, "xanchor": "left", "font": {"size": 16}},
        template="plotly_white",
        colorway=list(PALETTE),
        font={"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 12},
        margin={"l": 70, "r": 24, "t": 56, "b": 56},
        height=height,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "right", "x": 1.0},
        xaxis={"title": x_title, "zeroline": False},
        yaxis={"title": _wrapped(y_title), "zeroline": True, "zerolinecolor": "#999"},
    )
    return fig
