"""Split conformal bounds with a finite-sample guarantee, by group and by cluster."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.checks import check_features, check_groups, check_levels
from crosswind.solvers.errors import InvalidInput

__all__ = ["ConformalQuantiles", "SplitConformal", "conformal_quantile"]

_ROUNDING = 1e-12


def conformal_quantile(scores: Any, level: float, clusters: Any = None) -> float:
    """Return the correction c with P(s_new ≤ c) ≥ level for a new score that is exchangeable with the given ones.

    Without clusters the ⌈(n + 1) level⌉-th smallest score, +inf where that exceeds n. With clusters, whole ones being
    exchangeable and the scores in each: the level-quantile of the law that gives each of the K clusters the mass
    1/(K + 1), spread over its scores, and the rest to +inf; the guarantee is for a score of a new cluster.

    Parameters
    ----------
    scores
        (n,), may be empty.
    level
        In (0, 1).
    clusters
        Labels (n,), e.g. the day of each score.

    Raises
    ------
    InvalidInput
        NaN or inf, a level out of range, clusters of another length.

    References
    ----------
    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world" (2005), section 2.2; Lee, Barber and Willett,
    "Distribution-free inference with hierarchical data" (2023), section 3.
    """
    values = finite_array("scores", scores, ndim=1)
    alpha = float(check_levels(level, "level")[0])
    if values.size == 0:
        return float("inf")
    codes = np.arange(values.size) if clusters is None else check_groups(clusters, values.size, "clusters")[0]
    sizes = np.bincount(codes)
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(1.0 / sizes[codes[order]]) / (len(sizes) + 1.0)
    at = int(np.searchsorted(mass, alpha - _ROUNDING))
    return float(values[order[at]]) if at < values.size else float("inf")


class _Mondrian(Parameters):
    """Corrections by group, with the pooled one where a group is too small and that is asked for."""

    fallback: str
    groups_: list[Any]
    pool_: FloatArray
    rows_: pd.Series[Any]
    pooled_: list[Any]
    _table: FloatArray

    def _learn(self, scores: FloatArray, levels: FloatArray, groups: Any, clusters: Any) -> None:
        if self.fallback not in ("infinite", "pooled"):
            raise InvalidInput('"infinite" or "pooled"', field="fallback", value=self.fallback, remedy="choose one")
        n = len(scores)
        codes, labels = check_groups(np.zeros(n, dtype=int) if groups is None else groups, n)
        nested = None if clusters is None else check_groups(clusters, n, "clusters")[0]

        def bounds(rows: NDArray[np.bool_]) -> list[float]:
            inside = None if nested is None else nested[rows]
            return [conformal_quantile(scores[rows, k], level, inside) for k, level in enumerate(levels)]

        table = np.array([bounds(codes == g) for g in range(len(labels))]).reshape(len(labels), len(levels))
        self.pool_ = np.array(bounds(np.ones(n, dtype=bool)))
        poor = np.isinf(table).any(axis=1)
        self.pooled_ = []
        if self.fallback == "pooled":
            self.pooled_ = [labels[g] for g in np.flatnonzero(poor)]
            table = np.where(np.isinf(table), self.pool_, table)
        self._table, self.groups_ = table, list(labels)
        self.rows_ = pd.Series(np.bincount(codes, minlength=len(labels)), index=pd.Index(labels, name="group"))
        self._grouped = groups is not None

    def _corrections(self, groups: Any, rows: int) -> FloatArray:
        if not self._grouped:
            return np.broadcast_to(self._table[0], (rows, self._table.shape[1]))
        if groups is None:
            raise InvalidInput("is missing", field="groups", value=None, remedy="pass the group of each row")
        codes, labels = check_groups(groups, rows)
        known = {label: g for g, label in enumerate(self.groups_)}
        default = self.pool_ if self.fallback == "pooled" else np.full(self._table.shape[1], np.inf)
        table = np.array([self._table[known[x]] if x in known else default for x in labels])
        return table.reshape(len(labels), self._table.shape[1])[codes]


class ConformalQuantiles(_Mondrian):
    """Upper quantiles of another model, moved so that P(y ≤ q_τ(x)) ≥ τ holds in every group.

    Learns, by group and level, the conformal quantile at τ of the scores (y − q_τ(x))/scale(x) on data that the model
    has not seen; the corrected quantile is q_τ(x) + c scale(x). For n scores without ties, coverage lies in
    [τ, τ + 1/(n + 1)]. Corrected quantiles are put in order by a running maximum, which keeps the lower bound.

    Parameters
    ----------
    levels
        τ of the columns.
    fallback
        What a group too small for a level gets: "infinite" (the honest bound) or "pooled", the correction of all groups
        together, whose guarantee holds on average over groups only; `pooled_` names those groups.

    Attributes
    ----------
    correction_
        Groups × levels.
    pool_
        Corrections of all groups together (K,); infinite where even these are too few.
    rows_
        Scores by group.
    pooled_
        Groups that use the pooled correction at some level.

    References
    ----------
    Romano, Patterson and Candès, "Conformalized quantile regression" (2019); Vovk et al. (2005), section 4.5 for
    groups.
    """

    correction_: pd.DataFrame

    def __init__(self, levels: Any = (0.5, 0.9, 0.95), fallback: str = "infinite") -> None:
        self.levels = levels
        self.fallback = fallback

    def fit(self, quantiles: Any, y: Any, groups: Any = None, clusters: Any = None, scale: Any = None) -> Self:
        """Learn the corrections.

        Parameters
        ----------
        quantiles
            Predicted quantiles (n, K) of rows that the model has not been fitted on.
        y
            What came (n,).
        groups
            Labels (n,), e.g. the regime; None: one group.
        clusters
            Labels (n,) of rows that depend on each other, e.g. the day; see :func:`conformal_quantile`.
        scale
            Width (n,), > 0, in whose units corrections are; None: 1.

        Raises
        ------
        InvalidInput
            NaN or inf, other shapes, a scale that is not positive.
        """
        levels = check_levels(self.levels)
        Q = check_features(quantiles, len(levels), "quantiles")
        y = finite_array("y", y, (len(Q),))
        width = _widths(scale, len(Q))
        self._learn((y[:, None] - Q) / width[:, None], levels, groups, clusters)
        self.correction_ = pd.DataFrame(self._table, self.rows_.index, pd.Index(levels, name="level"))
        return self

    def predict(self, quantiles: Any, groups: Any = None, scale: Any = None) -> FloatArray:
        """Return the corrected quantiles (n, K), not decreasing along a row.

        Raises
        ------
        InvalidInput
            Not fitted, other shapes, groups that are missing.
        """
        self._require("correction_")
        Q = check_features(quantiles, self._table.shape[1], "quantiles")
        moved = Q + self._corrections(groups, len(Q)) * _widths(scale, len(Q))[:, None]
        return np.maximum.accumulate(moved, axis=1)


class SplitConformal(_Mondrian):
    """Intervals around predictions with P(y in the interval) ≥ level in every group.

    For point predictions m(x) the score is |y − m(x)|/scale(x); for intervals (l(x), h(x)), for example two regression
    quantiles, max(l − y, y − h)/scale. The interval is widened (or narrowed) by the scores' conformal quantile.

    Parameters
    ----------
    level
        Coverage.
    fallback
        As in :class:`ConformalQuantiles`.

    Attributes
    ----------
    correction_
        By group, in units of the scale.
    pool_, rows_, pooled_
        As in :class:`ConformalQuantiles`.

    References
    ----------
    Lei et al., "Distribution-free predictive inference for regression", JASA 113 (2018); Romano et al. (2019).
    """

    correction_: pd.Series[Any]

    def __init__(self, level: float = 0.9, fallback: str = "infinite") -> None:
        self.level = level
        self.fallback = fallback

    def fit(self, prediction: Any, y: Any, groups: Any = None, clusters: Any = None, scale: Any = None) -> Self:
        """Learn the corrections from predictions (n,) or intervals (n, 2) of rows that the model has not seen.

        Raises
        ------
        InvalidInput
            As :meth:`ConformalQuantiles.fit`.
        """
        low, high = _ends(prediction)
        y = finite_array("y", y, (len(low),))
        scores = np.maximum(low - y, y - high) / _widths(scale, len(low))
        self._learn(scores[:, None], check_levels(finite_scalar("level", self.level), "level"), groups, clusters)
        self.correction_ = pd.Series(self._table[:, 0], self.rows_.index)
        return self

    def predict(self, prediction: Any, groups: Any = None, scale: Any = None) -> FloatArray:
        """Return intervals (n, 2); where a correction below zero would turn one round, its middle twice.

        Raises
        ------
        InvalidInput
            Not fitted, other shapes, groups that are missing.
        """
        self._require("correction_")
        low, high = _ends(prediction)
        move = self._corrections(groups, len(low))[:, 0] * _widths(scale, len(low))
        middle = 0.5 * (low + high)
        return np.column_stack([np.minimum(low - move, middle), np.maximum(high + move, middle)])


def _ends(prediction: Any) -> tuple[FloatArray, FloatArray]:
    P = check_features(prediction, field="prediction")
    if P.shape[1] == 1:
        return P[:, 0], P[:, 0]
    if P.shape[1] != 2 or (P[:, 0] > P[:, 1]).any():
        raise InvalidInput(
            "is neither (n,) nor ordered pairs (n, 2)", field="prediction", value=P.shape, remedy="pass low ≤ high"
        )
    return P[:, 0], P[:, 1]


def _widths(scale: Any, rows: int) -> FloatArray:
    width = finite_array("scale", 1.0 if scale is None else scale, (rows,))
    if (width <= 0.0).any():
        raise InvalidInput("must be positive", field="scale", value=float(width.min()), remedy="give widths above zero")
    return width
