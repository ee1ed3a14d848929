"""Statistics behind the stylised facts: tail index, autocorrelation, correlation by horizon, response to flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.features.arrays import Float, Int, positives, times, vector
from crosswind.solvers.errors import InvalidInput

__all__ = ["autocorrelation", "epps_curve", "hill_index", "kurtosis", "loglog_slope", "response_function"]


def hill_index(values: npt.ArrayLike, share: float = 0.05) -> float:
    """Return Hill's estimate of the tail exponent α of P(|x| > u) ~ u^−α.

    1/α̂ = (1/k) Σ_{i ≤ k} ln(|x|_(i)/|x|_(k+1)) over the k largest of n values, k = ⌊share · n⌋; its relative standard
    error is 1/√k for independent values.

    Parameters
    ----------
    values
        (n,); NaN are left out, signs do not matter.
    share
        Part of the sample that counts as tail, in (0, 1).

    Returns
    -------
    float
        α̂; small is fat. NaN if fewer than 10 values lie in the tail, or the tail is constant or zero.

    Raises
    ------
    InvalidInput
        On inf or a share outside (0, 1).

    Notes
    -----
    Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3 (1975).
    """
    x = np.abs(vector(values, "values", allow_nan=True))
    x = x[np.isfinite(x)]
    if not 0.0 < share < 1.0:
        raise InvalidInput("not within (0, 1)", field="share", value=share, remedy="pass e.g. 0.05")
    k = int(share * len(x))
    if k < 10:
        return float("nan")
    top = np.sort(x)[-(k + 1) :]
    if top[0] <= 0 or top[-1] == top[0]:
        return float("nan")
    return float(1.0 / np.log(top[1:] / top[0]).mean())


def kurtosis(values: npt.ArrayLike) -> float:
    """Return E[(x − x̄)⁴]/E[(x − x̄)²]², 3 for Gaussians; NaN are left out, NaN for a constant or an empty sample.

    Raises
    ------
    InvalidInput
        On inf.
    """
    x = vector(values, "values", allow_nan=True)
    x = x[np.isfinite(x)]
    if len(x) < 2 or np.ptp(x) == 0:
        return float("nan")
    centred = x - x.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def autocorrelation(values: npt.ArrayLike, lags: int, session: Sequence[Any] | npt.NDArray[Any] | None = None) -> Float:
    """Return the autocorrelation at lags 0 … ``lags`` over the pairs that lie in one session.

    ρ_k = mean over pairs of (x_t − x̄)(x_{t+k} − x̄), over the variance. Each lag's mean is over its own pairs, so the
    estimate is not pulled to zero at long lags.

    Parameters
    ----------
    values
        (n,); pairs with NaN do not count.
    lags
        Longest lag.
    session
        Label per value, constant over a session; default one session.

    Returns
    -------
    ndarray, (lags + 1,)
        NaN at lags without pairs, and throughout for a constant.

    Raises
    ------
    InvalidInput
        On inf, a negative lag or mismatched lengths.
    """
    x = vector(values, "values", allow_nan=True)
    if isinstance(lags, bool) or not isinstance(lags, (int, np.integer)) or lags < 0:
        raise InvalidInput("not a number of lags", field="lags", value=lags, remedy="pass 0 or more")
    out = np.full(int(lags) + 1, np.nan)
    seen = np.isfinite(x)
    if not seen.any() or np.ptp(x[seen]) == 0:
        return out
    centred = np.where(seen, x - x[seen].mean(), 0.0)
    padded, mask = _apart(centred, seen.astype(np.float64), int(lags), session)
    size = 1 << int(len(padded) + lags).bit_length()
    both = [np.fft.rfft(v, size) for v in (padded, mask)]
    product, pairs = (np.fft.irfft(s * s.conj(), size)[: len(out)] for s in both)
    pairs = np.rint(pairs)
    variance = (centred**2).sum() / seen.sum()
    np.divide(product, pairs * variance, out=out, where=pairs > 0)
    return out


def _apart(x: Float, mask: Float, lags: int, session: Sequence[Any] | npt.NDArray[Any] | None) -> tuple[Float, Float]:
    """Return values and mask with ``lags`` zeros between sessions, so that no pair crosses a night."""
    if session is None:
        return x, mask
    labels = np.asarray(session)
    if len(labels) != len(x):
        raise InvalidInput("not one label per value", field="session", value=len(labels), remedy="give one per value")
    codes = np.append(0, np.cumsum(labels[1:] != labels[:-1])) if len(x) else np.zeros(0, dtype=int)
    place = np.arange(len(x)) + codes * lags
    wide = np.zeros((2, int(place[-1]) + 1))
    wide[0, place], wide[1, place] = x, mask
    return wide[0], wide[1]


def loglog_slope(lags: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the least-squares slope of ln(values) on ln(lags) over the positive ones; −γ of a power law k^−γ.

    Returns
    -------
    float
        NaN where fewer than three values are positive.

    Raises
    ------
    InvalidInput
        On mismatched lengths or lags that are not positive.
    """
    k, y = vector(lags, "lags"), vector(values, "values", len(np.asarray(lags)), allow_nan=True)
    if len(k) and k.min() <= 0:
        raise InvalidInput("must be positive", field="lags", value=float(k.min()), remedy="leave lag 0 out")
    use = np.isfinite(y) & (np.nan_to_num(y) > 0)
    if use.sum() < 3:
        return float("nan")
    return float(np.polyfit(np.log(k[use]), np.log(y[use]), 1)[0])


def epps_curve(
    time_ns: Sequence[Int | pd.DatetimeIndex],
    log_price: Sequence[npt.ArrayLike],
    horizons_s: Iterable[float],
    start_ns: int,
    end_ns: int,
) -> pd.Series[Any]:
    """Return the correlation of two names' returns by sampling horizon, previous-tick sampled.

    Parameters
    ----------
    time_ns, log_price
        Ticks of the two names: times, ascending, and log prices.
    horizons_s
        Sampling intervals [s].
    start_ns, end_ns
        Span; both names must have ticked by its start [ns].

    Returns
    -------
    Series
        Horizon [s] → correlation; NaN where a name does not move or fewer than three returns fit.

    Raises
    ------
    InvalidInput
        If there are not two names, one has no tick by the start, or the span is empty.

    Notes
    -----
    Epps, "Comovements in stock prices in the very short run", JASA 74 (1979): asynchronous ticks pull the correlation
    to zero as the interval shrinks.
    """
    if len(time_ns) != 2 or len(log_price) != 2 or end_ns <= start_ns:
        raise InvalidInput("not two names over a span", field="time_ns", value=len(time_ns), remedy="pass two names")
    ticks = [times(t, "time_ns") for t in time_ns]
    prices = [vector(p, "log_price", len(t)) for p, t in zip(log_price, ticks, strict=True)]
    if any(not len(t) or t[0] > start_ns for t in ticks):
        raise InvalidInput("a name has no tick by the start", field="start_ns", value=start_ns, remedy="start later")
    out = {}
    for h in positives(horizons_s, "horizons_s"):
        grid = np.arange(start_ns, end_ns + 1, round(h * 1e9))
        sampled = [p[np.searchsorted(t, grid, side="right") - 1] for t, p in zip(ticks, prices, strict=True)]
        out[h] = _correlation(*(np.diff(s) for s in sampled))
    return pd.Series(out, name="correlation").rename_axis("horizon_s")


def _correlation(x: Float, y: Float) -> float:
    use = np.isfinite(x) & np.isfinite(y)
    if use.sum() < 3 or np.ptp(x[use]) == 0 or np.ptp(y[use]) == 0:
        return float("nan")
    return float(np.corrcoef(x[use], y[use])[0, 1])


def response_function(
    sign: npt.ArrayLike,
    level: npt.ArrayLike,
    lags: Sequence[int],
    session: Sequence[Any] | npt.NDArray[Any] | None = None,
) -> Float:
    """Return R(h) = E[ε_t (m_{t+h} − m_t)], the mean move after a signed trade.

    Parameters
    ----------
    sign
        ε_t, (n,); rows with 0 do not count.
    level
        m_t, the (log) mid just BEFORE trade t, (n,); NaN where unknown.
    lags
        h ≥ 0, in rows.
    session
        Label per row; pairs never cross a session's end.

    Returns
    -------
    ndarray
        In units of ``level``; NaN at lags without pairs.

    Raises
    ------
    InvalidInput
        On mismatched lengths or negative lags.

    Notes
    -----
    Bouchaud, Gefen, Potters and Wyart, "Fluctuations and response in financial markets", Quantitative Finance 4 (2004).
    """
    m = vector(level, "level", allow_nan=True)
    e = vector(sign, "sign", len(m))
    label = np.zeros(len(m)) if session is None else np.asarray(session)
    if len(label) != len(m):
        raise InvalidInput("not one label per value", field="session", value=len(label), remedy="give one per value")
    out = np.full(len(lags), np.nan)
    for k, lag in enumerate(lags):
        if lag < 0:
            raise InvalidInput("must not be negative", field="lags", value=lag, remedy="pass 0 or more")
        if lag >= len(m):
            continue
        move = m[lag:] - m[: len(m) - lag]
        use = (e[: len(m) - lag] != 0) & np.isfinite(move) & (label[lag:] == label[: len(m) - lag])
        if use.any():
            out[k] = float((e[: len(m) - lag] * move)[use].mean())
    return out
