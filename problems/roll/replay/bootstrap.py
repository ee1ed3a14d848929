"""Tail measures of costs under a block bootstrap: whole days are drawn, with all their orders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.roll.model import FloatArray
from crosswind.solvers.errors import InvalidInput

__all__ = ["MEASURES", "block_weights", "measures"]

MEASURES = ("mean", "median", "q95", "cvar95")
_TAIL = 0.95
_CHUNK = 4_000_000  # numbers in one table of weights


def block_weights(blocks: Sequence[str], draws: int, seed: int) -> FloatArray:
    """Return how often each episode is drawn, (draws, episodes): days with replacement, as many as there are.

    Parameters
    ----------
    blocks
        Day of each episode.
    draws
        Number of draws.
    seed
        Seed.

    Raises
    ------
    InvalidInput
        Without an episode or a draw.
    """
    if not len(blocks) or draws < 1:
        raise InvalidInput(
            "nothing to draw", field="draws", value=(len(blocks), draws), remedy="pass episodes and a positive count"
        )
    names, owner = np.unique(np.asarray(blocks, dtype=str), return_inverse=True)
    generator = np.random.default_rng(seed)
    days = len(names)
    counts = generator.multinomial(days, np.full(days, 1.0 / days), size=draws)
    weights: FloatArray = counts[:, owner].astype(np.float64)
    return weights


def measures(costs: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return mean, median, q95 and CVaR95 of costs, one row per draw.

    Quantiles are those of the weighted sample: the least cost that is not exceeded with at least the probability. CVaR
    is that of Rockafellar and Uryasev (2002), ``q + E[(C − q)⁺] / 0.05``.

    Parameters
    ----------
    costs
        (E,).
    weights
        (D, E), not negative; None: one each.

    Returns
    -------
    ndarray (D, 4), or (4,) without weights
    """
    order = np.argsort(costs, kind="stable")
    held = costs[order]
    if weights is None:
        one: FloatArray = _weighted(held, np.ones((1, len(held))))[0]
        return one
    rows = max(1, _CHUNK // max(len(held), 1))
    parts = [_weighted(held, weights[k : k + rows][:, order]) for k in range(0, len(weights), rows)]
    return np.concatenate(parts)


def _weighted(costs: FloatArray, weights: FloatArray) -> FloatArray:
    running = np.cumsum(weights, axis=1)
    total = running[:, -1]
    out = np.empty((len(weights), 4))
    out[:, 0] = weights @ costs / total
    for column, share in ((1, 0.5), (2, _TAIL)):
        at: NDArray[np.int64] = np.argmax(running >= share * total[:, None] * (1.0 - 1e-12), axis=1)
        out[:, column] = costs[at]
    beyond = np.maximum(costs[None, :] - out[:, 2:3], 0.0)
    out[:, 3] = out[:, 2] + (weights * beyond).sum(axis=1) / ((1.0 - _TAIL) * total)
    return out
