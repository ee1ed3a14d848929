"""The dictionary of decay shapes φ_m and the regressors they make of signed flow.

The price impact of a unit traded h buckets ago is G_h = Σ_m φ_m(h) K_m, so the return of bucket t is

    r_t = Σ_m K_m z^m_t + ε_t,      z^m_t = Σ_{τ ≤ t} [φ_m(t − τ) − φ_m(t − τ − 1)] u_τ,   φ_m(−1) = 0.

Only φ differs between the families; everything behind this module sees stacked regressors and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from crosswind.problems.impact.transforms import PowerFlow
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = [
    "FAMILIES",
    "Dictionary",
    "Family",
    "after_hole",
    "aligned",
    "check_returns",
    "factor_values",
    "make_dictionary",
    "session_rows",
]

Family = Literal["instantaneous", "exponential", "monotone", "convex"]
FAMILIES: tuple[str, ...] = get_args(Family)
Array = NDArray[np.float64]

# The slow mode is where a schedule of minutes lives: without it impact fades too early, and the fit promises schedules
# too cheap. Measured in docs/decay-dictionary.md.
DEFAULT_HALF_LIVES_BUCKETS = (2.0, 20.0, 200.0)
DEFAULT_LAGS = (0, 1, 3, 7, 15)
_HOLE = 1.5  # buckets between two ends from which on something is missing; a session's last bucket may be shorter


def _seconds(value: float) -> str:
    """Return four digits, and never a power of ten: 69.31, 12000."""
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


@dataclass(frozen=True)
class Dictionary:
    """The scalar shapes φ_1..φ_M of one kernel family on a grid of buckets.

    Parameters
    ----------
    family
        "instantaneous" (φ = 1, the regressor is u_t), "exponential" (φ = e^{−βh}), "monotone" (φ = 1{h ≤ l}) or
        "convex" (φ = (1 − h/(l+1))⁺). Instantaneous, exponential and convex kernels with PSD matrices admit no price
        manipulation, since each φ is a positive definite function. "monotone" does not promise that: the Fourier
        transform of 1{|h| ≤ l} goes negative, so the admissibility check of the fitted model decides.
    bucket_s
        Length of a bucket [s].
    rates_per_s
        β_m ≥ 0 [1/s] for "exponential" (0 is a permanent mode); () otherwise.
    lags
        l_m ≥ 0 [buckets] for "monotone" and "convex"; () otherwise.
    transform
        What a bucket's flow counts before it is filtered; None: the flow itself.

    Raises
    ------
    InvalidInput
        Unknown family, no shape, a repeated, negative or non-finite rate or lag.
    """

    family: Family
    bucket_s: float
    rates_per_s: tuple[float, ...] = ()
    lags: tuple[int, ...] = ()
    transform: PowerFlow | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InvalidInput(
                "unknown kernel family", field="kernel", value=self.family, remedy=f"use one of {', '.join(FAMILIES)}"
            )
        if not (math.isfinite(self.bucket_s) and self.bucket_s > 0):
            raise InvalidInput("must be finite and positive", field="bucket_s", value=self.bucket_s)
        if self.family == "exponential":
            _refuse_bad_shapes("half_lives_s", self.rates_per_s)
        elif self.family in ("monotone", "convex"):
            _refuse_bad_shapes("lags", self.lags)

    @property
    def size(self) -> int:
        """Number M of shapes."""
        return {"instantaneous": 1, "exponential": len(self.rates_per_s)}.get(self.family, len(self.lags))

    @property
    def labels(self) -> tuple[str, ...]:
        """One readable label per shape."""
        if self.family == "instantaneous":
            return ("permanent",)
        if self.family == "exponential":
            return tuple(
                "permanent" if b == 0 else f"half-life {_seconds(math.log(2) / b)} s" for b in self.rates_per_s
            )
        word = "steps to" if self.family == "monotone" else "falls to"
        return tuple(f"{word} 0 at {_seconds((lag + 1) * self.bucket_s)} s" for lag in self.lags)

    @property
    def memory_buckets(self) -> int:
        """Buckets after which a trade's regressor has forgotten it (to 3 %, for an exponential): the purge length."""
        if self.family == "instantaneous":
            return 0
        if self.family == "exponential":
            fading = [b for b in self.rates_per_s if b > 0]
            return math.ceil(3.5 / (min(fading) * self.bucket_s)) if fading else 0
        return max(self.lags) + 1

    def phi(self, lag_buckets: Array) -> Array:
        """φ_m at lags h ≥ 0 in buckets, shape (M, L)."""
        h = np.asarray(lag_buckets, dtype=np.float64)
        if self.family == "instantaneous":
            return np.ones((1, h.size))
        if self.family == "exponential":
            return np.asarray(np.exp(-np.outer(np.asarray(self.rates_per_s) * self.bucket_s, h)))
        lags = np.asarray(self.lags, dtype=np.float64)[:, None]
        if self.family == "monotone":
            # A step function between buckets; the slack lets lags given in seconds survive the division by the bucket.
            return (np.floor(h[None, :] + 1e-9) <= lags).astype(np.float64)
        return np.maximum(0.0, 1.0 - h[None, :] / (lags + 1.0))

    def regressors(self, flow: Array) -> Array:
        """Regressors of one session, starting from rest.

        Parameters
        ----------
        flow
            Signed flow u, shape (T, N) [currency], in time order and without gaps.

        Returns
        -------
        Array
            Z of shape (T, M·N) [currency]: block m holds z^m_t; so r̂_t = [K_1 … K_M] Z_t.
        """
        u = np.asarray(flow, dtype=np.float64)
        if self.transform is not None:
            u = self.transform.apply(u)
        if self.family == "instantaneous":
            return u.copy()
        blocks: list[Array] = []
        if self.family == "exponential":
            for rate in self.rates_per_s:
                decay = math.exp(-rate * self.bucket_s)
                # (1 − B)/(1 − aB) u; at a = 1 it is u itself, without the rounding of the recursion.
                blocks.append(u if rate == 0 else np.asarray(lfilter([1.0, -1.0], [1.0, -decay], u, axis=0)))
            return np.hstack(blocks)
        for lag in self.lags:
            taps = np.zeros(lag + 2)
            taps[0] = 1.0
            if self.family == "monotone":
                taps[-1] = -1.0
            else:
                taps[1:] = -1.0 / (lag + 1)
            blocks.append(np.asarray(lfilter(taps, [1.0], u, axis=0)))
        return np.hstack(blocks)


def _refuse_bad_shapes(field: str, values: Sequence[float]) -> None:
    if not values:
        raise InvalidInput("at least one shape is needed", field=field, value=values, remedy="give a non-empty tuple")
    if not all(math.isfinite(v) and v >= 0 for v in values):
        raise InvalidInput("shapes must be finite rates or lags ≥ 0", field=field, value=values)
    if len(set(values)) != len(values):
        raise InvalidInput(
            "shapes must differ: equal shapes share one regressor", field=field, value=values, remedy="drop repeats"
        )


def make_dictionary(
    family: str, bucket_s: float, half_lives_s: Sequence[float] | None = None, lags: Sequence[int] | None = None
) -> Dictionary:
    """Build the dictionary from what a user gives.

    Parameters
    ----------
    family
        See `Dictionary`.
    bucket_s
        Bucket length [s].
    half_lives_s
        Half-lives [s] of the exponential family; inf is a permanent mode. None: 2, 20 and 200 buckets.
    lags
        Lags [buckets] of the monotone and convex families. None: 0, 1, 3, 7, 15.

    Raises
    ------
    InvalidInput
        See `Dictionary`; also a half-life that is not positive, or a lag that is not an integer.
    """
    for field, given in (("half_lives_s", half_lives_s), ("lags", lags)):
        if isinstance(given, str):
            raise InvalidInput("numbers are needed here", field=field, value=given, remedy="give a tuple")
    if family == "exponential":
        lives = tuple(b * bucket_s for b in DEFAULT_HALF_LIVES_BUCKETS) if half_lives_s is None else tuple(half_lives_s)
        if any(not (life > 0) for life in lives):
            raise InvalidInput("half-lives must be positive (inf: permanent)", field="half_lives_s", value=lives)
        return Dictionary("exponential", bucket_s, tuple(math.log(2) / float(life) for life in lives))
    if family in ("monotone", "convex"):
        steps = DEFAULT_LAGS if lags is None else tuple(lags)
        if any(int(lag) != lag for lag in steps):
            raise InvalidInput("lags are whole buckets", field="lags", value=steps)
        return Dictionary(family, bucket_s, (), tuple(int(lag) for lag in steps))  # type: ignore[arg-type]
    return Dictionary(family, bucket_s)  # type: ignore[arg-type]


def aligned(events: MarketEvents, names: Sequence[str]) -> tuple[Array, Array, NDArray[Any]]:
    """Flow (T, N), returns (T, N) and session labels (T,) of the events in the order of ``names``.

    Returns are NaN in each session's first bucket and in the bucket after a hole, see `after_hole`.

    Raises
    ------
    DataGap
        A name of the model is not in the events.
    InvalidInput
        Flow with NaN or inf, returns with inf.
    """
    missing = [n for n in names if n not in events.flow.columns]
    if missing:
        raise DataGap(
            "names of the model are not in the events", field="events.flow", value=missing, remedy="read these names"
        )
    columns = list(names)
    flow = events.flow[columns].to_numpy(dtype=np.float64)
    if not np.isfinite(flow).all():
        raise InvalidInput(
            "signed flow must be finite", field="events.flow", remedy="fill buckets without trades with 0"
        )
    returns = np.array(events.returns[columns], dtype=np.float64)
    check_returns(returns, columns)
    session = events.session.to_numpy()
    returns[after_hole(events.index.asi8, session, events.bucket_s)] = np.nan
    return flow, returns, session


def check_returns(returns: Array, names: Sequence[str]) -> None:
    """Refuse returns (T, N) that are ±inf: a mid so small or so large is an error of the data, not a gap.

    Raises
    ------
    InvalidInput
        Naming the names.
    """
    beyond: NDArray[np.bool_] = np.asarray(np.isinf(returns).any(axis=0))
    if beyond.any():
        raise InvalidInput(
            "returns are beyond floating point",
            field="events.mid",
            value=[n for n, b in zip(names, beyond.tolist(), strict=True) if b],
            remedy="look for outliers in the mid of these names",
        )


def after_hole(stamps_ns: NDArray[np.int64], session: NDArray[Any], bucket_s: float) -> NDArray[np.bool_]:
    """Mark the buckets (T,) that follow a hole inside a session: the one before ended over 1½ buckets earlier.

    Such a bucket's return spans the hole, while its regressors know the flow of one bucket: it is no row of a fit, as
    a session's first bucket is none, but its flow feeds the state. Flow within the hole is not known and counts as
    none, and the state does not fade over it.

    Parameters
    ----------
    stamps_ns
        Ends of the buckets [ns].
    session
        Session labels.
    bucket_s
        Length of a bucket [s].
    """
    out = np.zeros(len(stamps_ns), dtype=bool)
    out[1:] = (np.diff(stamps_ns) > _HOLE * bucket_s * 1e9) & (session[1:] == session[:-1])
    return out


def session_rows(session: NDArray[Any]) -> Iterator[slice]:
    """Slices of consecutive rows that share a session label: the state of the regressors starts anew in each."""
    if session.size == 0:
        return
    cuts = np.flatnonzero(session[1:] != session[:-1]) + 1
    edges = [0, *cuts.tolist(), session.size]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def factor_values(events: MarketEvents) -> Array:
    """Return the factor returns (T, F), with F = 0 where the events carry none."""
    if events.factors is None:
        return np.zeros((len(events.flow), 0))
    return events.factors.to_numpy(dtype=np.float64)
