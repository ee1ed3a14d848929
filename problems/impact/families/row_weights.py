"""Rows weighed by how quiet the market is around them: least squares where volatility moves.

Noise of a return has no constant variance: the open and the close are several times as wide as noon, and volatility
comes in clusters. Least squares stays unbiased there, but the loud hours, which tell least, count most. With
var ε_t = s_t² Σ the fit of least variance weighs row t by 1/s_t² (Aitken, 1936); here

    s_t = mean over names i and buckets τ beside t of |r_iτ| / mean |r_i|,

over ``span`` buckets on both sides, within the session and without t itself: a row's own return has no part in its own
weight, so the weights are no function of the noise they weigh. One weight for all names keeps one S for all rows of the
program. Means of absolute values, as single prints would own means of squares.

References
----------
Aitken (1936), on least squares and linear combinations of observations; Andersen and Bollerslev (1997), intraday
periodicity and volatility persistence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import session_rows
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import InvalidInput

__all__ = ["check_row_weights", "volatility_weights"]

Array = NDArray[np.float64]

_QUIETEST = 0.2  # of the mean volatility: no row weighs more than 25 mean ones, however still the market stood


def check_row_weights(row_weights: str, span: int) -> bool:
    """Return whether rows are weighed.

    Raises
    ------
    InvalidInput
        An unknown word, a span that is not a whole number of buckets, one or more.
    """
    if row_weights not in ("equal", "volatility"):
        raise InvalidInput(
            "unknown weights of rows", field="row_weights", value=row_weights, remedy='use "equal" or "volatility"'
        )
    whole = isinstance(span, (int, np.integer)) and not isinstance(span, bool)
    if not whole or span < 1:
        raise InvalidInput(
            "a whole number of buckets is needed, one or more", field="weight_span", value=span, remedy="e.g. 10"
        )
    return row_weights == "volatility"


def volatility_weights(sample: Sample, span: int = 10) -> Array:
    """Return the weight 1/s_t² of each bucket, (T,), mean 1 over the rows of the fit; 0 where a bucket is no row.

    Parameters
    ----------
    sample
        Rows with returns after factors.
    span
        Buckets on either side from which s_t is taken; where a session has no other row, s_t is the mean one.
    """
    use = sample.use
    size = np.abs(np.where(use[:, None], sample.target, 0.0))
    mean = size.sum(axis=0) / max(int(use.sum()), 1)
    moved = mean > 0
    loud = (size[:, moved] / mean[moved]).mean(axis=1) if moved.any() else np.zeros(len(size))
    level = np.ones(len(size))
    for part in session_rows(sample.session):
        total, count = _beside(loud[part], span), _beside(use[part].astype(np.float64), span)
        level[part] = np.where(count > 0, total / np.maximum(count, 1.0), 1.0)
    weight = np.where(use, np.maximum(level, _QUIETEST) ** -2.0, 0.0)
    return np.asarray(weight / weight[use].mean()) if use.any() else weight


def _beside(values: Array, span: int) -> Array:
    """Sum over the ``span`` entries on either side, without the entry itself."""
    ends = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    return np.asarray(ends[np.minimum(at + span + 1, len(values))] - ends[np.maximum(at - span, 0)] - values)
