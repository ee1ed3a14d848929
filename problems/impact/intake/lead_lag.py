"""Lead and lag of two clocks: the Hayashi–Yoshida covariance and its curve over shifts, on ticks as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.features.arrays import times, vector
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["LeadLag", "hayashi_yoshida", "hayashi_yoshida_lead_lag", "hayashi_yoshida_parts"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def hayashi_yoshida_parts(time_x: Int, x: Float, time_y: Int, y: Float) -> Float:
    """Return the share of each increment of x in the Hayashi–Yoshida covariance, (n − 1,).

    Increment i of x, over (t_{i−1}, t_i], is multiplied by the sum of the increments of y whose intervals overlap with
    it. These are consecutive, so their sum is a difference of two levels of y, found by bisection: O(n log m) in all.
    """
    if len(x) < 2 or len(y) < 2:
        return np.zeros(max(0, len(x) - 1))
    # Increment j of y, over (s_{j−1}, s_j], overlaps with (a, b] where s_j > a and s_{j−1} < b.
    first = np.clip(np.searchsorted(time_y, time_x[:-1], side="right") - 1, 0, None)
    last = np.clip(np.searchsorted(time_y, time_x[1:], side="left"), None, len(y) - 1)
    # Empty where x's interval lies wholly before or after those of y.
    return np.asarray(np.diff(x) * np.where(last > first, y[last] - y[first], 0.0))


def hayashi_yoshida(
    time_x: npt.ArrayLike | pd.DatetimeIndex,
    x: npt.ArrayLike,
    time_y: npt.ArrayLike | pd.DatetimeIndex,
    y: npt.ArrayLike,
    shift_s: float = 0.0,
) -> float:
    """Covariance of two prices over their common span, from asynchronous ticks without sampling or interpolation.

    Σ_{i,j} (x_{t_i} − x_{t_{i−1}})(y_{s_j} − y_{s_{j−1}}) 1{(t_{i−1}, t_i] ∩ (s_{j−1} − θ, s_j − θ] ≠ ∅}.

    Parameters
    ----------
    time_x, time_y
        Times of the ticks, strictly ascending: int64 nanoseconds or a tz-aware DatetimeIndex.
    x, y
        (Log) prices at them.
    shift_s
        θ [s]: y is set back by so much. The covariance is largest where x leads y by θ.

    Returns
    -------
    float
        In squares of the prices' unit; unbiased for independent ticks, unlike that of prices sampled on a grid.

    Raises
    ------
    InvalidInput
        Times that are naive, repeat or go back; prices that are not finite or not as many.

    References
    ----------
    Hayashi and Yoshida, "On covariance estimation of non-synchronously observed diffusion processes", Bernoulli 11
    (2005); with a shift: Hoffmann, Rosenbaum and Yoshida, Bernoulli 19 (2013).
    """
    (tx, px), (ty, py) = _ticks(time_x, x, "x"), _ticks(time_y, y, "y")
    return float(hayashi_yoshida_parts(tx, px, ty - _nanoseconds(shift_s), py).sum())


def _nanoseconds(seconds: float) -> int:
    if not np.isfinite(seconds):
        raise InvalidInput("must be finite", field="shift_s", value=seconds)
    return round(float(seconds) * 1e9)


def _ticks(when: Any, price: Any, name: str) -> tuple[Int, Float]:
    stamps = times(when, f"time_{name}")
    if (np.diff(stamps) == 0).any():
        raise InvalidInput(
            "repeats a time",
            field=f"time_{name}",
            value=int(stamps[int(np.argmax(np.diff(stamps) == 0))]),
            remedy="keep the last tick of each time",
        )
    return stamps, vector(price, name, len(stamps))


@dataclass(frozen=True, eq=False)
class LeadLag:
    """Covariance of two names over shifts of the second one's clock, from ticks or from buckets.

    Parameters
    ----------
    covariance
        Shift θ [s] → covariance, summed over the sessions.
    correlation
        The same over the square roots of both realised variances; not bounded by 1, and shrunk by ticks that bounce.
    shift_s
        θ of the largest |correlation|: positive where the first name leads, or the second one's clock is late [s].
    interval_s
        Percentile interval of θ over blocks of time drawn with replacement, at ``level``.
    ratio
        Σ_{θ>0} ρ²/Σ_{θ<0} ρ²: above 1 the first name leads; it also tells small leads that no peak shows.
    level
        Of the interval.
    """

    covariance: pd.Series
    correlation: pd.Series
    shift_s: float
    interval_s: tuple[float, float]
    ratio: float
    level: float

    def to_frame(self) -> pd.DataFrame:
        """Return covariance and correlation by shift [s]."""
        return pd.DataFrame({"covariance": self.covariance, "correlation": self.correlation})

    def summary(self) -> str:
        """Return the shift with its interval, in one line."""
        low, high = self.interval_s
        peak = self.correlation.loc[self.shift_s]
        plain = self.correlation.iloc[int(np.argmin(np.abs(self.correlation.index)))]
        return (
            f"second name {self.shift_s:+g} s behind the first ({self.level:.0%} interval {low:g} to {high:g} s), "
            f"correlation {peak:.3f} there, {plain:.3f} "
            f"unshifted; lead ratio {self.ratio:.2f}"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"

    def plot(self) -> Any:
        """Return a plotly figure of the curve, the interval shaded."""
        from crosswind.problems.plotting import figure

        fig = figure("Lead and lag", "shift of the second clock [s], > 0: the first leads", "correlation")
        fig.add_scatter(x=self.correlation.index, y=self.correlation, mode="lines+markers", name="correlation")
        fig.add_vrect(x0=self.interval_s[0], x1=self.interval_s[1], opacity=0.15, line_width=0)
        return fig.add_vline(x=self.shift_s, line_dash="dot")


def hayashi_yoshida_lead_lag(
    time_x: npt.ArrayLike | pd.DatetimeIndex,
    x: npt.ArrayLike,
    time_y: npt.ArrayLike | pd.DatetimeIndex,
    y: npt.ArrayLike,
    shifts_s: Sequence[float],
    *,
    block_s: float = 300.0,
    session_gap_s: float = 3600.0,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> LeadLag:
    """Return the covariance over a grid of shifts, where it peaks, and how sure that is.

    Parameters
    ----------
    time_x, x, time_y, y
        As for :func:`hayashi_yoshida`.
    shifts_s
        Grid of θ [s], ascending.
    block_s
        Length of the blocks of time for the interval [s]; longer than the shifts.
    session_gap_s
        Increments over a longer gap [s], as over night, are left out.
    draws, level, seed
        Number of bootstrap draws, level of the interval, seed.

    Raises
    ------
    InvalidInput
        As :func:`hayashi_yoshida`; a grid that is empty or not ascending.
    DataGap
        Fewer than two blocks, or a name that does not move.
    """
    (tx, px), (ty, py) = _ticks(time_x, x, "x"), _ticks(time_y, y, "y")
    grid = vector(shifts_s, "shifts_s")
    if len(grid) < 2 or (np.diff(grid) <= 0).any():
        raise InvalidInput("two or more ascending shifts are needed", field="shifts_s", value=grid)
    check_draws(draws, level)
    gap = _nanoseconds(session_gap_s)
    dx, dy = (np.where(np.diff(t) <= gap, np.diff(p), 0.0) for t, p in ((tx, px), (ty, py)))
    # Levels without the moves over night: everything below is in differences of them.
    px, py = (np.concatenate([[0.0], np.cumsum(d)]) for d in (dx, dy))
    variance = float((dx**2).sum() * (dy**2).sum())
    if variance <= 0:
        raise DataGap("a name does not move", field="x, y", value=variance, remedy="give ticks with price changes")
    block = (tx[1:] - tx[0]) // max(1, _nanoseconds(block_s))
    _, code = np.unique(block, return_inverse=True)
    blocks = int(code.max()) + 1
    if blocks < 2:
        raise DataGap("fewer than two blocks", field="block_s", value=block_s, remedy="shorter blocks or longer data")
    parts = np.empty((blocks, len(grid)))
    for k, theta in enumerate(grid):
        parts[:, k] = np.bincount(code, hayashi_yoshida_parts(tx, px, ty - _nanoseconds(theta), py), blocks)
    return lead_lag_of(parts, grid, np.sqrt(variance), draws, level, seed)


def lead_lag_of(parts: Float, shifts_s: Float, scale: float, draws: int, level: float, seed: int) -> LeadLag:
    """Return the peak of a curve and its interval.

    Parameters
    ----------
    parts
        Products by block of time and shift (blocks, L).
    shifts_s
        Shifts [s], ascending, (L,).
    scale
        What turns the sum over blocks into a correlation.
    draws, level, seed
        Of the bootstrap over blocks.
    """
    total = parts.sum(axis=0)
    covariance = pd.Series(total, pd.Index(shifts_s, name="shift_s"), name="covariance")
    correlation = (covariance / scale).rename("correlation")
    squares = correlation.to_numpy() ** 2
    ahead, behind = float(squares[shifts_s > 0].sum()), float(squares[shifts_s < 0].sum())
    ratio = ahead / behind if behind > 0 else float("inf")
    # Among equal peaks the one nearest to zero.
    order = np.argsort(np.abs(shifts_s), kind="stable")
    held = shifts_s[order]
    peak = held[int(np.argmax(np.abs(total[order])))]
    tops = held[np.argmax(np.abs(resampled(parts, draws, np.random.default_rng(seed)))[:, order], axis=1)]
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(tops, [tail, 1.0 - tail], method="nearest")
    return LeadLag(covariance, correlation, float(peak), (float(low), float(high)), ratio, level)


def check_draws(draws: int, level: float) -> None:
    """Refuse a number of bootstrap draws or a level that makes no interval.

    Raises
    ------
    InvalidInput
        Fewer than 20 draws, or a level outside (0, 1).
    """
    if draws < 20:
        raise InvalidInput("at least 20 draws are needed", field="draws", value=draws, remedy="e.g. 500")
    if not 0 < level < 1:
        raise InvalidInput("lies between 0 and 1", field="level", value=level, remedy="e.g. 0.95")


def resampled(parts: Float, draws: int, rng: np.random.Generator) -> Float:
    """Return sums over blocks drawn with replacement: parts (blocks, …) → (draws, …)."""
    blocks = len(parts)
    counts = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=draws).astype(np.float64)
    return np.asarray((counts @ parts.reshape(blocks, -1)).reshape(draws, *parts.shape[1:]))
