"""Figures of a cross-impact model: matrix with spectrum, decay, out-of-sample scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.plotting import DIVERGING, PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

__all__ = ["cluster_order", "plot_decay", "plot_matrix", "plot_scores"]


def plot_matrix(model: ImpactModel, sectors: pd.Series | None = None) -> Any:
    """Heatmap of C_ij = G_0,ij/√(G_0,ii G_0,jj) with the spectrum of C beside it.

    Parameters
    ----------
    model
        The model.
    sectors
        Series name → sector; names are ordered by sector, with a line between two. None: by clusters of the matrix.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    go = graph_objects()
    names, cuts = list(model.names), []
    if sectors is not None:
        labels = sectors.reindex(names).astype(str).sort_values(kind="stable")
        names = [str(n) for n in labels.index]
        cuts = [k for k in range(1, len(names)) if labels.iloc[k] != labels.iloc[k - 1]]
    else:
        names = [names[k] for k in cluster_order(model)]
    C = model.subset(names).correlation
    values = np.linalg.eigvalsh(0.5 * (C.to_numpy() + C.to_numpy().T))[::-1]
    fig = figure("Immediate cross-impact, each name scaled by its self-impact")
    largest = float(np.abs(C.to_numpy() - np.diag(np.diag(C))).max(initial=0.0)) or 1.0
    shown = C.to_numpy().copy()
    np.fill_diagonal(shown, np.nan)  # the diagonal is 1 by scaling and would drown the cross terms
    fig.add_trace(
        go.Heatmap(
            z=shown,
            x=names,
            y=names,
            zmin=-largest,
            zmax=largest,
            colorscale=[list(step) for step in DIVERGING],
            colorbar={"title": "C<sub>ij</sub>", "x": 0.54, "xanchor": "left", "len": 0.9, "thickness": 18},
            hovertemplate="flow in %{x} moves %{y}: %{z:.3f}<extra></extra>",
        )
    )
    fig.add_trace(
        go.Bar(
            x=list(range(1, len(values) + 1)),
            y=values,
            xaxis="x2",
            yaxis="y2",
            marker_color=[PALETTE[1] if v < 0 else PALETTE[0] for v in values],
            name="eigenvalues",
            showlegend=False,
            hovertemplate="eigenvalue %{x}: %{y:.4f}<extra></extra>",
        )
    )
    fig.update_layout(
        xaxis={"domain": [0.0, 0.53], "title": "flow in"},
        yaxis={"title": "moves", "autorange": "reversed", "zeroline": False},
        shapes=[
            {"type": "line", "line": {"color": "#444", "width": 1}, "x0": a, "x1": b, "y0": c, "y1": d}
            for k in cuts
            for a, b, c, d in ((k - 0.5, k - 0.5, -0.5, len(names) - 0.5), (-0.5, len(names) - 0.5, k - 0.5, k - 0.5))
        ],
        xaxis2={"domain": [0.73, 1.0], "title": "eigenvalue (largest first)", "anchor": "y2"},
        yaxis2={"anchor": "x2", "title": "size, no unit; below 0 is inadmissible", "zeroline": True},
    )
    return fig


def cluster_order(model: ImpactModel) -> list[int]:
    """Order of the names (N,) that puts those of strong cross-impact beside each other.

    Average linkage on 1 − C_ij with the leaves turned so that neighbours are close; deterministic.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    C = model.correlation.to_numpy()
    if len(C) < 3:
        return list(range(len(C)))
    distance = np.clip(1.0 - 0.5 * (C + C.T), 0.0, 4.0)
    np.fill_diagonal(distance, 0.0)
    if np.ptp(distance[~np.eye(len(C), dtype=bool)]) == 0:  # no cross terms: nothing to order by
        return list(range(len(C)))
    flat = squareform(distance, checks=False)
    tree = linkage(flat, method="average")
    # Turning the leaves takes N² memory and longer than the fit for very many names.
    return [int(k) for k in leaves_list(optimal_leaf_ordering(tree, flat) if len(C) <= 300 else tree)]


def plot_decay(model: ImpactModel, horizon_s: float | None = None, points: int = 120) -> Any:
    """Impact by lag, from half a bucket on: median self-impact and mean cross-impact [bps per million of currency].

    Parameters
    ----------
    model
        The model.
    horizon_s
        Last lag [s]; None: where the slowest fading shape has fallen to a tenth, or 20 buckets.
    points
        Number of lags drawn, equally apart on the logarithmic axis.

    Raises
    ------
    InvalidInput
        A horizon that is not positive.
    """
    go = graph_objects()
    if horizon_s is None:
        if model.family == "exponential" and (model.rates_per_s > 0).any():
            horizon_s = float(np.log(10.0) / model.rates_per_s[model.rates_per_s > 0].min())
        else:
            horizon_s = (max(model.lags) + 2 if model.lags else 20) * model.bucket_s
    first = 0.5 * model.bucket_s
    if not horizon_s > 0:
        raise InvalidInput("must be positive", field="horizon_s", value=horizon_s, remedy="give seconds")
    # Half-lives differ by powers of ten: on a linear axis the fast ones would be one stroke at its left end.
    lags = np.geomspace(min(first, 0.5 * horizon_s), horizon_s, points)
    G = model.impact(lags) * 1e10  # return per currency → bps per million
    n = len(model.names)
    own = np.diagonal(G, axis1=1, axis2=2)
    shape = "hv" if model.family == "monotone" else "linear"
    fig = figure(
        "Decay of impact", "lag [s], logarithmic", f"impact [bps per million {model.currency}], a buy moves prices up"
    )
    low, high = np.quantile(own, [0.25, 0.75], axis=1)
    fig.add_trace(go.Scatter(x=lags, y=high, line={"width": 0, "shape": shape}, showlegend=False, hoverinfo="skip"))
    fig.add_trace(
        go.Scatter(
            x=lags,
            y=low,
            fill="tonexty",
            fillcolor="rgba(0,114,178,0.15)",
            line={"width": 0, "shape": shape},
            name="self, quartiles of names",
        )
    )
    median = np.median(own, axis=1)
    fig.add_trace(go.Scatter(x=lags, y=median, line={"color": PALETTE[0], "shape": shape}, name="self, median name"))
    if n > 1:
        cross = (G.sum(axis=(1, 2)) - own.sum(axis=1)) / (n * (n - 1))
        line = {"color": PALETTE[1], "shape": shape}
        fig.add_trace(go.Scatter(x=lags, y=cross, line=line, name="cross, mean of pairs"))
    fig.update_layout(xaxis={"type": "log"})
    return fig


def plot_scores(table: pd.DataFrame) -> Any:
    """Bars of out-of-sample R² by name and model, from the table of `compare_models`.

    Raises
    ------
    InvalidInput
        A table of another form.
    """
    if "mean" not in table.columns:
        raise InvalidInput("not a table of compare_models", field="table", value=list(table.columns))
    go = graph_objects()
    columns = list(table.columns[: list(table.columns).index("mean") + 1])
    fig = figure(
        "Out of sample, against the forecast of no impact", "", "R² (higher is better; below 0 is worse than none)"
    )
    for model, row in table[columns].iterrows():
        fig.add_trace(go.Bar(x=columns, y=row.to_numpy(float), name=str(model)))
    fig.update_layout(barmode="group")
    return fig
