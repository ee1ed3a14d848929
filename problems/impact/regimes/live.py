"""The multiplier in real time: state buckets looked up, the level refreshed by a bounded recursion; nothing raises."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.regimes.model import RegimeModel, scaled
from crosswind.problems.impact.regimes.state import FEATURES, StateFilter
from crosswind.problems.market.checks import as_utc, check_positive
from crosswind.solvers.errors import InvalidInput

__all__ = ["LiveScale", "RegressorStream", "ScaleReading"]

Array = NDArray[np.float64]


class RegressorStream:
    """The regressors z^m_t of one session bucket by bucket: `Dictionary.regressors` in constant memory.

    Parameters
    ----------
    dictionary
        Decay shapes.
    names
        N.
    """

    def __init__(self, dictionary: Dictionary, names: int) -> None:
        self.dictionary, self.names = dictionary, names
        self._decay = np.exp(-np.asarray(dictionary.rates_per_s, dtype=np.float64) * dictionary.bucket_s)[:, None]
        self.reset()

    def reset(self) -> None:
        """Start from rest."""
        self._y = np.zeros((len(self._decay), self.names))
        keep = max(self.dictionary.lags, default=0) + 2
        self._past: deque[Array] = deque([np.zeros(self.names)] * keep, maxlen=keep)

    def push(self, flow: Array) -> Array:
        """Take in one bucket's flow (N,) and return its regressors (M, N)."""
        family = self.dictionary.family
        flow = np.array(flow, dtype=np.float64)
        if self.dictionary.transform is not None:
            flow = self.dictionary.transform.apply(flow[None, :])[0]
        if family == "instantaneous":
            return flow[None, :]
        if family == "exponential":
            before = self._y
            self._y = self._decay * before + flow
            return self._y - before
        self._past.appendleft(flow)
        past = np.stack(self._past)
        if family == "monotone":
            return np.stack([past[0] - past[lag + 1] for lag in self.dictionary.lags])
        return np.stack([past[0] - past[1 : lag + 2].mean(axis=0) for lag in self.dictionary.lags])


@dataclass(frozen=True)
class ScaleReading:
    """What the live multiplier is and why.

    Attributes
    ----------
    multiplier
        s for the next bucket, within the bounds; the last good one where ``frozen``.
    level
        The refreshed factor in it, 1 as fitted.
    time
        End of the last bucket that was taken in [UTC]; None before the first.
    frozen
        Whether this is the last good value instead of a new one.
    reason
        Why it is frozen, or what was left out; "" when all is well.
    """

    multiplier: float
    level: float
    time: pd.Timestamp | None
    frozen: bool
    reason: str


class LiveScale:
    """Follow a market and hold the current multiplier.

    After each bucket the multiplier is level × s(new state). The level, 1 at first, follows the data by

        A ← δA + Σ_i s² ŷ_i²/σ_i²,   B ← δB + Σ_i s r_i ŷ_i/σ_i²,   level ← (B + κ)/(A + κ),

    moved by at most ``max_step`` per bucket and kept within ``level_bounds``; κ, the weight of a level of 1, is the
    predicted energy of ``prior_buckets`` buckets. A thinning book raises the multiplier in the same bucket; the level
    needs many.

    Nothing here raises once it is set up: unusable input gives the last good multiplier with the reason.

    Parameters
    ----------
    model
        The fitted `RegimeModel`.
    half_life_s
        Of the level's memory [s].
    prior_buckets
        Weight of a level of 1, in buckets of average predicted impact.
    max_step
        Largest relative move of the level in one bucket.
    level_bounds
        (lo, hi), lo ≤ 1 ≤ hi.
    stale_s
        Age of the last bucket from which `reading` and `model` say "stale" and freeze.

    Raises
    ------
    InvalidInput
        At set-up only: a parameter out of range.
    """

    def __init__(
        self,
        model: RegimeModel,
        half_life_s: float = 3600.0,
        prior_buckets: float = 200.0,
        max_step: float = 0.02,
        level_bounds: tuple[float, float] = (0.5, 2.0),
        stale_s: float | None = None,
    ) -> None:
        if not isinstance(model, RegimeModel):
            raise InvalidInput("is no RegimeModel", field="model", value=type(model).__name__, remedy="pass .model_")
        self.regime = model
        bucket = model.base.bucket_s
        self._keep = float(0.5 ** (bucket / check_positive(half_life_s, "half_life_s")))
        self._prior_buckets = check_positive(prior_buckets, "prior_buckets")
        self._step = check_positive(max_step, "max_step")
        low, high = (float(v) for v in level_bounds)
        if not 0.0 < low <= 1.0 <= high < np.inf:
            raise InvalidInput("must satisfy 0 < lo ≤ 1 ≤ hi", field="level_bounds", value=level_bounds)
        self._bounds = (low, high)
        self._stale = pd.Timedelta(check_positive(10.0 * bucket if stale_s is None else stale_s, "stale_s"), "s")
        self._filter = StateFilter(model.norms)
        self._stream = RegressorStream(model.base.dictionary, len(model.base.names))
        self._stacked = model.base.matrices
        self._A = self._B = 0.0
        self._energy, self._buckets = 0.0, 0
        self._scale = model.multiplier({})  # s of the state before the bucket to come
        self._mid: Array | None = None
        self._day: Any = None
        self._last = ScaleReading(self._scale, 1.0, None, False, "")

    # -- in -------------------------------------------------------------------------------------------------------
    def update(
        self, time: Any, flow: Any, mid: Any, spread: Any, volume: Any, depth: Any, factors: Any = None
    ) -> ScaleReading:
        """Take in one finished bucket and return the multiplier for the next; never raises.

        Parameters
        ----------
        time
            End of the bucket, tz-aware, after the last one.
        flow, mid, spread, volume, depth
            (N,) in the order of the model's names, units as in `MarketEvents`; NaN where unknown.
        factors
            Factor returns (F,) of the bucket, where the base was fitted on factor residuals; without them the level
            rests and the state goes on.
        """
        try:
            with np.errstate(all="ignore"):
                self._last = self._update(time, flow, mid, spread, volume, depth, factors)
        except Exception as error:  # the live path: whatever a feed sends, the desk keeps its last good number
            self._last = self._freeze(f"{type(error).__name__}: {error}")
        return self._last

    def _freeze(self, reason: str) -> ScaleReading:
        last = self._last
        return ScaleReading(last.multiplier, last.level, last.time, True, reason)

    def _update(
        self, time: Any, flow: Any, mid: Any, spread: Any, volume: Any, depth: Any, factors: Any
    ) -> ScaleReading:
        model, n = self.regime, len(self.regime.base.names)
        stamp = as_utc(time, "time")
        if self._last.time is not None and stamp <= self._last.time:
            return self._freeze(f"time does not advance: {stamp} after {self._last.time}")
        u, m, s, v, d = (_vector(x, n) for x in (flow, mid, spread, volume, depth))
        m, s, v, d = (np.where(x >= 0, x, np.nan) for x in (m, s, v, d))
        m = np.where(m > 0, m, np.nan)
        usable = np.isfinite(u) & np.isfinite(m)
        if not usable.any():
            return self._freeze("no name has flow and mid")
        day = (stamp - pd.Timedelta(1, "ns")).tz_convert(model.norms.tz).date()
        gap = self._last.time is not None and (stamp - self._last.time).total_seconds() > 20.0 * model.base.bucket_s
        if day != self._day or gap:
            self._filter.reset()
            self._stream.reset()
            self._mid, self._day = None, day
            self._scale = model.multiplier({})
        r = np.full(n, np.nan) if self._mid is None else m / self._mid - 1.0
        self._mid = m if self._mid is None else np.where(np.isfinite(m), m, self._mid)
        known = np.where(np.isfinite(u), u, 0.0)
        z = self._stream.push(known if model.flow_map is None else model.flow_map @ known)
        level, reason = self._last.level, "" if usable.all() else f"{int((~usable).sum())} names without data"
        forecast = np.einsum("mij,mj->i", self._stacked, z)
        residual, why = self._residual(r, factors)
        if why:
            reason = why
        else:
            level = self._refresh(residual, self._scale * forecast)
        self._filter.push(u, r, s / m, v, d)
        self._scale = model.multiplier(self._filter.state())
        multiplier = float(np.clip(level * self._scale, *model.bounds))
        if not np.isfinite(multiplier):
            return self._freeze("the multiplier is not finite")
        return ScaleReading(multiplier, level, stamp, False, reason)

    def _residual(self, r: Array, factors: Any) -> tuple[Array, str]:
        Q, L = self.regime.returns_map, self.regime.loadings
        r = r if Q is None else Q @ r
        if L is None or L.shape[1] == 0:
            return r, ""
        if factors is None:
            return r, "no factor returns: the level rests"
        f = _vector(factors, L.shape[1])
        return (r - L @ f, "") if np.isfinite(f).all() else (r, "factor returns not finite: the level rests")

    def _refresh(self, r: Array, forecast: Array) -> float:
        """One step of the bounded recursion; an outlier of ten deviations counts as one of ten."""
        last, noise = self._last.level, self.regime.noise
        used = np.isfinite(r) & np.isfinite(forecast)
        if not used.any():
            return last
        sd = np.sqrt(noise[used])
        y = forecast[used] / sd
        error = np.clip(r[used] / sd - y, -10.0, 10.0)
        energy = float((y**2).sum())
        self._A = self._keep * self._A + energy
        self._B = self._keep * self._B + energy + float((error * y).sum())
        self._buckets += 1
        self._energy += (energy - self._energy) / self._buckets
        prior = self._prior_buckets * max(self._energy, np.finfo(float).tiny)
        wanted = (self._B + prior) / (self._A + prior)
        if not np.isfinite(wanted):
            return last
        wanted = float(np.clip(wanted, last * (1.0 - self._step), last * (1.0 + self._step)))
        return float(np.clip(wanted, *self._bounds))

    # -- out ------------------------------------------------------------------------------------------------------
    @property
    def state(self) -> dict[str, float]:
        """The state after the last bucket, feature → value; NaN where it is not known yet."""
        try:
            return self._filter.state()
        except Exception:  # as above
            return dict.fromkeys(FEATURES, float("nan"))

    def reading(self, now: Any = None) -> ScaleReading:
        """Return the current multiplier; frozen with the reason "stale" when its last bucket is too old at ``now``."""
        if now is None:
            return self._last
        try:
            moment = as_utc(now, "now")
        except Exception as error:  # as above
            return self._freeze(f"{type(error).__name__}: {error}")
        if self._last.time is None:
            return self._freeze("stale: no bucket has been taken in")
        age = moment - self._last.time
        if age > self._stale:
            return self._freeze(f"stale: the last bucket is {age.total_seconds():g} s old")
        return self._last

    def model(self, now: Any = None) -> ImpactModel:
        """Return the base model times the current multiplier: admissible whenever the base is."""
        return scaled(self.regime.base, self.reading(now).multiplier)


def _vector(value: Any, length: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (length,):
        raise InvalidInput(f"is not of shape ({length},)", field="bucket", value=array.shape)
    return array
