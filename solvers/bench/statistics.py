"""Statistics of times and successes: quantiles, shifted geometric means, profiles, bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["bootstrap_ratio", "performance_profile", "quantile", "shift_of", "shifted_geometric_mean"]

Array = NDArray[np.float64]


def quantile(values: Any, share: float) -> float:
    """Return the ``share`` quantile, NaN with fewer values than one per exceedance: p99 needs 100, p99.9 needs 1000.

    Fewer would give the maximum under another name.

    Examples
    --------
    >>> quantile(range(50), 0.99), quantile(range(1, 101), 0.99)
    (nan, 99.0)
    """
    found = np.asarray(list(values), dtype=np.float64)
    if found.size == 0 or found.size * (1.0 - share) < 1.0 - 1e-9:
        return float("nan")
    return float(np.quantile(found, share, method="inverted_cdf"))


def shift_of(times: Any) -> float:
    """Return a tenth of the median of the times of all solvers' successes together, 0 when there is none.

    The shift belongs to a group of programs, not to a solver, so that the means of all solvers can be compared; and it
    scales with the group, where a fixed one of seconds would turn a mean of microseconds into an arithmetic one.
    """
    found = np.asarray(list(times), dtype=np.float64)
    return 0.1 * float(np.median(found)) if found.size else 0.0


def shifted_geometric_mean(times: Any, shift: float) -> float:
    r"""Return :math:`\exp\big(\tfrac1n\sum\log(t_i + s)\big) - s`, NaN without times.

    Raises
    ------
    InvalidInput
        On negative times or shift, or when both are zero.

    Examples
    --------
    >>> shifted_geometric_mean([1.0, 4.0], 0.0)
    2.0
    """
    found = np.asarray(list(times), dtype=np.float64)
    if found.size == 0:
        return float("nan")
    moved = found + shift
    if shift < 0.0 or np.any(found < 0.0) or np.any(moved <= 0.0):
        raise InvalidInput("needs positive times", field="times", value=float(np.min(found)), remedy="use a shift > 0")
    return float(np.exp(np.mean(np.log(moved))) - shift)


def performance_profile(times: Mapping[str, Any], points: int = 200) -> tuple[Array, dict[str, Array]]:
    r"""Return Dolan and Moré's profiles, :math:`\rho_s(\tau) = |\{p: t_{ps} \le \tau \min_s t_{ps}\}| / |P|`.

    Parameters
    ----------
    times
        Solver to its times on the same programs, in the same order; NaN or ∞ where it failed. Programs that nobody
        solved stay in the count, so that no curve reaches one over them.
    points
        Number of ratios τ, spaced evenly in the logarithm from 1 to beyond the largest ratio.

    Returns
    -------
    tuple
        τ (points,) and solver to ρ (points,).

    Raises
    ------
    InvalidInput
        When the times differ in number, or there are none.

    Notes
    -----
    Dolan and Moré, Benchmarking optimization software with performance profiles, Mathematical Programming 91 (2002).
    """
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in times.items()}
    sizes = {values.shape for values in columns.values()}
    if len(sizes) != 1 or sizes == {(0,)}:
        raise InvalidInput("needs times on the same programs", field="times", value=sizes, remedy="one row a program")
    table = np.vstack([np.where(np.isfinite(values), values, np.inf) for values in columns.values()])
    best = np.min(table, axis=0)
    solved = np.isfinite(best)
    ratios = np.full_like(table, np.inf)
    ratios[:, solved] = table[:, solved] / np.maximum(best[solved], 1e-300)
    top = float(np.max(ratios[np.isfinite(ratios)], initial=1.0))
    tau = np.geomspace(1.0, max(top * 1.1, 2.0), points)
    share = [(row[None, :] <= tau[:, None] * (1.0 + 1e-12)).mean(axis=1) for row in ratios]
    return tau, dict(zip(columns, share, strict=True))


def bootstrap_ratio(
    one: Any, other: Any, *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the geometric mean of ``other / one`` over pairs with its percentile bootstrap interval.

    Pairs, not times, are drawn with replacement: programs differ by orders of magnitude, their ratios do not.

    Raises
    ------
    InvalidInput
        When the two differ in number, are empty or hold what is not positive and finite.

    Examples
    --------
    >>> bootstrap_ratio([1.0, 2.0], [2.0, 4.0])
    (2.0, 2.0, 2.0)
    """
    a, b = (np.asarray(list(values), dtype=np.float64) for values in (one, other))
    if a.shape != b.shape or a.size == 0 or not np.all((a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b)):
        raise InvalidInput("needs pairs of positive times", field="times", value=(a.size, b.size), remedy="match rows")
    logs = np.log(b / a)
    rng = np.random.default_rng(seed)
    means = logs[rng.integers(0, logs.size, (draws, logs.size))].mean(axis=1)
    low, high = np.quantile(means, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))
