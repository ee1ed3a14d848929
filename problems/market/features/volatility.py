"""Realised variance of returns: plain, subsampled, robust to jumps, robust to noise, decayed and rolling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_frame, check_positive
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, check_events, vector
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "DailyVolatility",
    "bipower_variance",
    "daily_volatility",
    "ewma_volatility",
    "noise_variance",
    "realised_kernel",
    "realised_variance",
    "rolling_volatility",
    "subsampled_variance",
    "two_scale_variance",
]


def _returns(log_price: npt.ArrayLike, least: int = 2) -> Float:
    values = vector(log_price, "log_price")
    if len(values) < least:
        raise InvalidInput("too few prices", field="log_price", value=len(values), remedy=f"give at least {least}")
    return np.diff(values)


def _every(every: Any, count: int) -> int:
    if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or not 1 <= every <= count:
        raise InvalidInput("not a step within the day", field="every", value=every, remedy=f"pass 1 to {count}")
    return int(every)


def realised_variance(log_price: npt.ArrayLike) -> float:
    """Return RV = Σ r_i², the variance over the whole span, jumps and microstructure noise included.

    Parameters
    ----------
    log_price
        Log prices (n + 1,) of one session, in time order.

    Raises
    ------
    InvalidInput
        On fewer than two prices, NaN or inf.
    """
    return float((_returns(log_price) ** 2).sum())


def subsampled_variance(log_price: npt.ArrayLike, every: int) -> float:
    """Return the mean realised variance over the ``every`` grids of each ``every``-th price, scaled to the span.

    Each grid covers (its returns)·every of the n returns; the sum over all grids is divided by its total coverage, so
    that every return of the session counts alike up to the ends.

    Parameters
    ----------
    log_price
        Log prices (n + 1,).
    every
        Step of the grids; 1 is the plain realised variance.

    Raises
    ------
    InvalidInput
        On malformed prices or a step outside 1 … n.

    Notes
    -----
    Zhang, Mykland and Aït-Sahalia, "A tale of two time scales", JASA 100 (2005), section 2.
    """
    r = _returns(log_price)
    k = _every(every, len(r))
    total = np.append(0.0, np.cumsum(r))
    long = total[k:] - total[:-k]
    return float((long**2).sum() * len(r) / (len(long) * k))


def bipower_variance(log_price: npt.ArrayLike) -> float:
    """Return BV = (π/2) n/(n − 1) Σ |r_i||r_{i−1}|, which a finite number of jumps does not move in the limit.

    RV − BV, cut at 0, estimates the jumps' share.

    Parameters
    ----------
    log_price
        Log prices (n + 1,), n ≥ 2.

    Raises
    ------
    InvalidInput
        On fewer than three prices, NaN or inf.

    Notes
    -----
    Barndorff-Nielsen and Shephard, "Power and bipower variation with stochastic volatility and jumps", Journal of
    Financial Econometrics 2 (2004).
    """
    r = np.abs(_returns(log_price, 3))
    return float(0.5 * np.pi * len(r) / (len(r) - 1) * (r[1:] * r[:-1]).sum())


def noise_variance(log_price: npt.ArrayLike) -> float:
    """Return RV/(2n), the variance of white noise on each log price, biased up by (variance of the span)/(2n).

    Parameters
    ----------
    log_price
        Log prices (n + 1,), as dense as there are.

    Raises
    ------
    InvalidInput
        On fewer than two prices, NaN or inf.
    """
    r = _returns(log_price)
    return float((r**2).sum() / (2 * len(r)))


def two_scale_variance(log_price: npt.ArrayLike, every: int | None = None) -> float:
    """Return the two-scale variance: the mean over K grids less the noise that the dense grid shows.

    TSRV = n/((K − 1) n̄) (RV_K − (n̄/n) RV), n̄ = (n − K + 1)/K: unbiased for steady volatility, where the factor
    (1 − n̄/n)⁻¹ of the first paper loses the share K/n at the two ends. It may be negative in short or still samples.

    Parameters
    ----------
    log_price
        Log prices (n + 1,) of one session at every tick, n ≥ 3.
    every
        K; default about n^(2/3), the rate at which noise and discreteness are balanced, at least 2.

    Raises
    ------
    InvalidInput
        On malformed prices or a K outside 2 … n.

    Notes
    -----
    Zhang, Mykland and Aït-Sahalia, JASA 100 (2005), eq. (55), with the area adjustment of Aït-Sahalia, Mykland and
    Zhang, "Ultra high frequency volatility estimation with dependent microstructure noise", Journal of Econometrics 160
    (2011).
    """
    r = _returns(log_price, 4)
    n = len(r)
    k = _every(min(max(2, round(n ** (2 / 3))), n) if every is None else every, n)
    if k < 2:
        raise InvalidInput("one scale only", field="every", value=k, remedy="pass 2 or more")
    total = np.append(0.0, np.cumsum(r))
    mean = (n - k + 1) / k
    slow = float(((total[k:] - total[:-k]) ** 2).sum() / k)
    return (slow - mean / n * float((r**2).sum())) * n / ((k - 1.0) * mean)


def realised_kernel(log_price: npt.ArrayLike, bandwidth: int | None = None) -> float:
    """Return the Parzen realised kernel Σ_{|h| ≤ H} k(h/(H + 1)) Σ_i r_i r_{i−h}: robust to noise and never negative.

    Parameters
    ----------
    log_price
        Log prices (n + 1,) at every tick.
    bandwidth
        H; default 3.51 ξ^(4/5) n^(3/5) with ξ² = noise variance over the span's variance, the noise from the dense
        returns, the variance from a grid of about 20 returns (subsampled).

    Raises
    ------
    InvalidInput
        On malformed prices or a negative bandwidth.

    Notes
    -----
    Barndorff-Nielsen, Hansen, Lunde and Shephard, "Realized kernels in practice", Econometrics Journal 12 (2009). The
    two end prices are not averaged here, which leaves twice the noise variance at most.
    """
    r = _returns(log_price)
    n = len(r)
    if bandwidth is None:
        slow = subsampled_variance(log_price, max(1, n // 20))
        xi2 = noise_variance(log_price) / slow if slow > 0 else 0.0
        bandwidth = min(int(np.ceil(3.51 * xi2**0.4 * n**0.6)), n - 1)
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, (int, np.integer)) or bandwidth < 0:
        raise InvalidInput("not a whole number of lags", field="bandwidth", value=bandwidth, remedy="pass 0 or more")
    lags = np.arange(min(int(bandwidth), n - 1) + 1)
    x = lags / (bandwidth + 1.0)
    weight = np.where(x <= 0.5, 1.0 - 6.0 * x**2 + 6.0 * x**3, 2.0 * (1.0 - x) ** 3)
    size = 1 << int(2 * n).bit_length()
    spectrum = np.fft.rfft(r, size)
    cross = np.fft.irfft(spectrum * spectrum.conj(), size)[: len(lags)]
    return float(weight[0] * cross[0] + 2.0 * (weight[1:] * cross[1:]).sum())


def _decay(half_life_s: float, bucket_s: float) -> float:
    half_life_s = check_positive(half_life_s, "half_life_s")
    return float(0.5 ** (check_positive(bucket_s, "bucket_s") / half_life_s))


def ewma_volatility(events: MarketEvents, half_life_s: float = 600.0) -> pd.DataFrame:
    """Return the decayed volatility of bucket returns, √(Σ w r²/Σ w), each value from its own and earlier buckets.

    Parameters
    ----------
    events
        The buckets; the return over a night is no bucket's and does not count, the weights run on across nights.
    half_life_s
        Half-life of the weights in trading time [s].

    Returns
    -------
    DataFrame
        T × N, standard deviation per bucket (not per day), NaN before the first return.

    Raises
    ------
    InvalidInput
        On anything malformed.
    """
    from scipy.signal import lfilter

    events = check_events(events)
    keep = _decay(half_life_s, events.bucket_s)
    r = events.returns.to_numpy()
    seen = np.isfinite(r)
    square = lfilter([1.0], [1.0, -keep], np.where(seen, r, 0.0) ** 2, axis=0)
    weight = lfilter([1.0], [1.0, -keep], seen.astype(np.float64), axis=0)
    out = np.sqrt(np.divide(square, weight, out=np.full(r.shape, np.nan), where=weight > 0))
    return pd.DataFrame(out, index=events.index, columns=list(events.names))


def rolling_volatility(events: MarketEvents, window_s: float = 1800.0, kind: str = "plain") -> pd.DataFrame:
    """Return the volatility per bucket over a trailing window that never crosses a night.

    Parameters
    ----------
    events
        The buckets.
    window_s
        Length of the window [s]; at least two buckets. A value needs half a window of returns.
    kind
        ``plain`` (realised) or ``bipower`` (robust to jumps).

    Returns
    -------
    DataFrame
        T × N, standard deviation per bucket; NaN until there are enough returns in the session.

    Raises
    ------
    InvalidInput
        On anything malformed or another ``kind``.
    """
    events = check_events(events)
    width = round(check_positive(window_s, "window_s") / events.bucket_s)
    if width < 2:
        raise InvalidInput("shorter than two buckets", field="window_s", value=window_s, remedy="lengthen it")
    if kind not in ("plain", "bipower"):
        raise InvalidInput("unknown", field="kind", value=kind, remedy="pass 'plain' or 'bipower'")
    session = events.session.to_numpy()
    r = events.returns
    if kind == "plain":
        term = r**2
    else:
        term = 0.5 * np.pi * r.abs() * r.abs().groupby(session).shift(1)
    mean = term.groupby(session).rolling(width, min_periods=max(1, width // 2)).mean()
    mean = mean.droplevel(0)
    mean.index = events.index
    return check_frame(np.sqrt(mean.clip(lower=0.0)), "volatility", allow_nan=True)


@dataclass(frozen=True, eq=False, repr=False)
class DailyVolatility(Shown):
    """Volatility of each session and name by several estimators.

    Parameters
    ----------
    table
        Index: (``day``, ``name``). Columns in per cent of a session (100 √variance): ``realised``, ``subsampled``,
        ``bipower``, ``two_scale``, ``kernel``; ``jump_share`` = max(0, 1 − bipower²/realised²) and ``noise_bps``, the
        standard deviation of white noise on the mid [bps]. NaN where a session has too few buckets.
    every
        Step of the subsampled estimator [buckets].
    """

    table: pd.DataFrame
    every: int

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return one line per name: means over the days."""
        mean = self.table.groupby(level="name").mean()
        return "\n".join(
            f"{name}: {row['realised']:.2f} % a session realised, {row['bipower']:.2f} bipower, "
            f"{row['kernel']:.2f} kernel, jumps {row['jump_share']:.0%}"
            for name, row in mean.iterrows()
        )


def daily_volatility(events: MarketEvents, subsample_s: float = 300.0) -> DailyVolatility:
    """Return the volatility of each session, open to close, by five estimators.

    Parameters
    ----------
    events
        The buckets, the shorter the better for the noise-robust estimators.
    subsample_s
        Step of the subsampled estimator [s].

    Raises
    ------
    InvalidInput
        On anything malformed.
    """
    events = check_events(events)
    every = max(1, round(check_positive(subsample_s, "subsample_s") / events.bucket_s))
    rows = {}
    for day, mid in events.mid.groupby(events.session.to_numpy()):
        for name in events.names:
            rows[day, name] = _day(np.log(mid[name].to_numpy()), every)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["day", "name"])
    return DailyVolatility(table, every)


def _day(log_mid: Float, every: int) -> dict[str, float]:
    count = len(log_mid)
    nan = float("nan")
    variances = {
        "realised": realised_variance(log_mid) if count > 1 else nan,
        "subsampled": subsampled_variance(log_mid, min(every, count - 1)) if count > 1 else nan,
        "bipower": bipower_variance(log_mid) if count > 2 else nan,
        "two_scale": two_scale_variance(log_mid) if count > 3 else nan,
        "kernel": realised_kernel(log_mid) if count > 1 else nan,
    }
    out = {name: 100.0 * float(np.sqrt(max(v, 0.0))) for name, v in variances.items()}  # max(nan, 0) keeps the NaN
    plain = variances["realised"]
    out["jump_share"] = max(1.0 - variances["bipower"] / plain, 0.0) if plain > 0 else 0.0
    out["noise_bps"] = 1e4 * float(np.sqrt(noise_variance(log_mid))) if count > 1 else nan
    return out
