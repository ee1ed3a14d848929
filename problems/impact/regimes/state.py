"""The state of the market that impact scales with: five numbers per bucket, each from earlier buckets alone.

With w the decayed weights of the session's earlier buckets, and every name against its own usual level:

    spread      median_i ln( Σ w spread/mid / usual )         volatility  median_i ln( √(Σ w r²/Σ w) / usual )
    depth       median_i ln( Σ w depth / usual )              imbalance   mean_i |Σ w u_i| / Σ w V_i
    crowding    Σ w (Σ_i x_i)² / Σ w N Σ_i x_i²,  x = u/usual: 1/N for independent flow, 1 when all names push alike

The median over names keeps one dead or one wild name from moving the state. The filter starts anew in each session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import aligned, session_rows
from crosswind.problems.market.checks import check_positive
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["FEATURES", "StateFilter", "StateNorms", "market_state"]

Array = NDArray[np.float64]
FEATURES: tuple[str, ...] = ("spread", "volatility", "depth", "imbalance", "crowding")
_COLUMNS = ("spread", "depth", "square")  # averaged by name


@dataclass(frozen=True, eq=False)
class StateNorms:
    """The usual level of each name, frozen at training.

    Attributes
    ----------
    names
        N names.
    spread, depth, volatility, flow
        (N,): median of spread/mid [1] and of depth [currency], root mean square of returns [1] and of flow [currency].
    bucket_s
        Bucket length [s].
    half_life_s
        Half-life of the weights [s].
    warmup
        Buckets of a session before the state is known.
    tz
        Zone whose dates are the sessions.
    """

    names: tuple[str, ...]
    spread: Array
    depth: Array
    volatility: Array
    flow: Array
    bucket_s: float
    half_life_s: float
    warmup: int
    tz: str

    @classmethod
    def of(cls, events: MarketEvents, names: tuple[str, ...], half_life_s: float | None, warmup: int) -> StateNorms:
        """Measure the usual levels.

        Parameters
        ----------
        events
            Training buckets.
        names
            The model's names.
        half_life_s
            None: ten buckets.
        warmup
            ≥ 1 buckets.

        Raises
        ------
        DataGap
            A name never moved or never traded: nothing says what is usual.
        InvalidInput
            A bad half-life or warm-up.
        """
        life = 10.0 * events.bucket_s if half_life_s is None else check_positive(half_life_s, "half_life_s")
        if isinstance(warmup, bool) or int(warmup) != warmup or warmup < 1:
            raise InvalidInput("is not a number of buckets ≥ 1", field="warmup", value=warmup)
        flow, returns, _ = aligned(events, names)
        columns = list(names)
        relative = events.spread[columns].to_numpy() / events.mid[columns].to_numpy()
        seen = np.isfinite(returns)
        counts = seen.sum(axis=0)
        if not counts.all():
            raise DataGap("no bucket has a return for every name", field="events", remedy="read longer sessions")
        square = np.where(seen, returns, 0.0) ** 2
        found = {
            "spread": _usual(relative),
            "depth": _usual(events.depth[columns].to_numpy()),
            "volatility": np.sqrt(square.sum(axis=0) / counts),
            "flow": np.sqrt((flow**2).mean(axis=0)),
        }
        for what in ("volatility", "flow"):
            if not (found[what] > 0).all():
                dead = [n for n, v in zip(names, found[what], strict=True) if not v > 0]
                raise DataGap(f"a name has no {what} at all", field="events", value=dead, remedy="drop the name")
        for value in found.values():
            value.flags.writeable = False
        return cls(tuple(names), **found, bucket_s=events.bucket_s, half_life_s=life, warmup=int(warmup), tz=events.tz)


def _usual(values: Array) -> Array:
    """Median of the positive values by name; 1 where there are none: such a name never counts, as its log is none."""
    out = np.ones(values.shape[1])
    for i, column in enumerate(values.T):
        good = column[column > 0]
        if len(good):
            out[i] = np.median(good)
    return out


class StateFilter:
    """The state, bucket by bucket: what `market_state` gives for whole events, in constant memory.

    Parameters
    ----------
    norms
        Usual levels and weights.
    """

    def __init__(self, norms: StateNorms) -> None:
        self.norms = norms
        self._keep = float(0.5 ** (norms.bucket_s / norms.half_life_s))
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new session begins."""
        n = len(self.norms.names)
        self._sums = {c: np.zeros(n) for c in _COLUMNS}
        self._weights = {c: np.zeros(n) for c in _COLUMNS}
        self._flow, self._volume = np.zeros(n), np.zeros(n)
        self._common, self._total = 0.0, 0.0
        self.buckets = 0

    def push(self, flow: Array, returns: Array, spread: Array, volume: Array, depth: Array) -> None:
        """Take in one bucket; an entry that is not finite counts as not seen.

        Parameters
        ----------
        flow, volume, depth
            (N,) [currency].
        returns
            (N,) return of the bucket; NaN in a session's first.
        spread
            (N,) spread/mid.
        """
        keep = self._keep
        for column, value in (("spread", spread), ("depth", depth), ("square", returns**2)):
            seen = np.isfinite(value)
            self._sums[column] = keep * self._sums[column] + np.where(seen, value, 0.0)
            self._weights[column] = keep * self._weights[column] + seen
        traded = np.isfinite(flow) & np.isfinite(volume)
        self._flow = keep * self._flow + np.where(traded, flow, 0.0)
        self._volume = keep * self._volume + np.where(traded, volume, 0.0)
        x = np.where(traded, flow, 0.0) / self.norms.flow
        self._common = keep * self._common + float(x.sum()) ** 2
        self._total = keep * self._total + float(traded.sum()) * float((x**2).sum())
        self.buckets += 1

    def state(self) -> dict[str, float]:
        """Return the five features of the next bucket; NaN where nothing says."""
        if self.buckets < self.norms.warmup:
            return dict.fromkeys(FEATURES, float("nan"))
        norms = self.norms
        mean = {c: _ratio(self._sums[c], self._weights[c]) for c in _COLUMNS}
        values = (
            _log_median(mean["spread"][None], norms.spread),
            0.5 * _log_median(mean["square"][None], norms.volatility**2),
            _log_median(mean["depth"][None], norms.depth),
            _mean(_ratio(np.abs(self._flow), self._volume)[None]),
            _ratio(np.array([self._common]), np.array([self._total])),
        )
        return {f: float(v[0]) for f, v in zip(FEATURES, values, strict=True)}


def market_state(events: MarketEvents, norms: StateNorms) -> pd.DataFrame:
    """Return the state before each bucket, T × 5: row t knows the buckets before t of its own session and no other.

    Parameters
    ----------
    events
        Buckets of the norms' length.
    norms
        Usual levels by name.

    Raises
    ------
    InvalidInput
        Other buckets than those of the norms.
    DataGap
        A name is absent.
    """
    from scipy.signal import lfilter

    if abs(events.bucket_s - norms.bucket_s) > 1e-9 * norms.bucket_s:
        raise InvalidInput(
            "the state was fitted on other buckets",
            field="events.bucket_s",
            value=events.bucket_s,
            remedy=f"resample the events to {norms.bucket_s:g} s",
        )
    flow, returns, session = aligned(events, norms.names)
    columns = list(norms.names)
    spread = events.spread[columns].to_numpy() / events.mid[columns].to_numpy()
    volume, depth = events.volume[columns].to_numpy(), events.depth[columns].to_numpy()
    keep = float(0.5 ** (norms.bucket_s / norms.half_life_s))
    out = np.full((len(flow), len(FEATURES)), np.nan)

    def decayed(values: Array) -> Array:
        return np.asarray(lfilter([1.0], [1.0, -keep], values, axis=0))

    for part in session_rows(session):
        u, r = flow[part], returns[part]
        seen = np.isfinite(r)
        weight = decayed(np.ones(len(u)))[:, None]
        x = u / norms.flow
        common, total = x.sum(axis=1) ** 2, x.shape[1] * (x**2).sum(axis=1)
        found = np.column_stack(
            [
                _log_median(decayed(spread[part]) / weight, norms.spread),
                0.5
                * _log_median(
                    _ratio(decayed(np.where(seen, r, 0.0) ** 2), decayed(seen.astype(np.float64))), norms.volatility**2
                ),
                _log_median(decayed(depth[part]) / weight, norms.depth),
                _mean(_ratio(np.abs(decayed(u)), decayed(volume[part]))),
                _ratio(decayed(common), decayed(total)),
            ]
        )
        found[: norms.warmup - 1] = np.nan
        out[part.start + 1 : part.stop] = found[:-1]
    return pd.DataFrame(out, index=events.index, columns=list(FEATURES))


def _ratio(top: Array, bottom: Array) -> Array:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0))


def _log_median(values: Array, usual: Array) -> Array:
    """Median over names of ln(value/usual), (T,); names at zero do not count."""
    logs = np.log(values, out=np.full(values.shape, np.nan), where=values > 0) - np.log(usual)
    return _over_names(logs, np.nanmedian)


def _mean(values: Array) -> Array:
    return _over_names(values, np.nanmean)


def _over_names(values: Array, what: object) -> Array:
    out = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    if known.any():
        out[known] = what(values[known], axis=1)  # type: ignore[operator]
    return out
