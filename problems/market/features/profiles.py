"""Intraday profiles of volume and variance, the forecast of the rest of the day from them, and its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import check_positive, utc_index
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, check_events
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["IntradayProfile", "ProfileForecast", "fold", "session_values"]

WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 30.0)  # candidates for κ, in sessions
_WITHOUT_EVIDENCE = 0.3  # κ where there are not two days to learn it from
_ORIGINS = 13


def session_values(events: MarketEvents, what: str) -> dict[Any, pd.DataFrame]:
    """Return per session what is profiled: traded notional or squared returns.

    Parameters
    ----------
    events
        The buckets.
    what
        ``volume`` [currency] or ``variance`` (squared bucket returns; 0 in a session's first bucket, which has none).

    Returns
    -------
    dict
        Local date → buckets × names, in time order.

    Raises
    ------
    InvalidInput
        On another ``what``.
    """
    events = check_events(events)
    if what not in ("volume", "variance"):
        raise InvalidInput("unknown", field="what", value=what, remedy="pass 'volume' or 'variance'")
    values = events.volume if what == "volume" else events.returns.pow(2).fillna(0.0)
    return dict(iter(values.groupby(events.session.to_numpy())))


def fold(count: int, wanted: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return which of ``count`` buckets stand for the ``wanted`` ones of a session of another length.

    A half day keeps its opening and its close: the first half is aligned with the open, the second with the close, and
    the middle is cut out (or repeated, where the session is longer).

    Examples
    --------
    >>> fold(6, 4).tolist(), fold(4, 6).tolist()
    ([0, 1, 4, 5], [0, 1, 2, 2, 2, 3])
    """
    if wanted <= count:
        half = wanted // 2
        return np.concatenate([np.arange(half), np.arange(count - (wanted - half), count)])
    half = count // 2
    return np.concatenate([np.arange(half), np.full(wanted - count, half), np.arange(half, count)])


@dataclass(frozen=True, eq=False, repr=False)
class ProfileForecast(Shown):
    """Forecast of a session's remaining buckets.

    Parameters
    ----------
    mean
        Remaining buckets × names [currency, or variance].
    lower, upper
        Band of each single bucket at the quantiles asked for; NaN without two past days.
    level
        Expected total of a whole session of usual length, per name.
    total
        Expected sum over the remaining buckets, per name; ``total_lower``, ``total_upper`` its band.
    total_lower, total_upper
        See ``total``.
    """

    mean: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    level: pd.Series[Any]
    total: pd.Series[Any]
    total_lower: pd.Series[Any]
    total_upper: pd.Series[Any]

    def to_frame(self) -> pd.DataFrame:
        """Return (mean, lower, upper) × name side by side."""
        frames: dict[str, pd.DataFrame] = {"mean": self.mean, "lower": self.lower, "upper": self.upper}
        return pd.concat(frames, axis=1)

    def summary(self) -> str:
        """Return the remaining total of each name with its band."""
        return "\n".join(
            f"{n}: {self.total[n]:.4g} to come ({self.total_lower[n]:.4g} … {self.total_upper[n]:.4g})"
            for n in self.mean.columns
        )

    def plot(self) -> Any:
        """Draw the forecast of each name over its mean (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Forecast of the rest of the session", "time, UTC", "forecast per bucket over the session's mean")
        when = self.mean.index.tz_localize(None)  # type: ignore[attr-defined]
        for k, name in enumerate(self.mean):
            base = self.mean[name].mean() or 1.0
            line = {"color": PALETTE[k % len(PALETTE)], "width": 1.4}
            fig.add_scatter(x=when, y=self.mean[name] / base, name=str(name), mode="lines", line=line)
        return fig


class IntradayProfile:
    """The usual course of a day, and how a day under way revises it.

    With s_k the share of bucket k in a usual session (Σ s = 1), c_k = Σ_{i ≤ k} s_i, L the expected total of the day
    and S_k what has come up to bucket k, the forecast of a later bucket j is

        L_k s_j,  L_k = (κ L + S_k)/(κ + c_k):

    the mean of a Gamma prior on the level that is worth κ sessions of data. κ → ∞ never revises, κ → 0 scales the day
    up by what has come. κ is chosen on the past days, each forecast from the others.

    Parameters
    ----------
    what
        ``volume`` or ``variance``.
    smooth_s
        Width of the moving average over a day's shares before days are averaged [s]; 0 leaves them.
    trim
        Share of days cut at each end of each bucket's shares, in [0, 0.5); 0.5 is refused, use 0.49 for the median.
    level_half_life_days
        Half-life of the weights of past days in L; ``inf`` weighs them alike.
    weight
        κ; default None learns it.
    quantiles
        Lower and upper level of the bands.

    Attributes
    ----------
    shape_
        K × N: s_k, each column sums to 1; K is the usual number of buckets.
    level_
        L per name.
    weight_
        κ, common to the names.
    ratio_quantiles_, total_quantiles_
        Quantiles per name of (actual/forecast) of single buckets one ahead, and of the rest of the day by origin
        (index: the fraction of the session over, names pooled); NaN without two past days.
    days_, silent_
        Number of past sessions, and name → how many of them were left out because nothing was traded.

    Raises
    ------
    InvalidInput
        On an argument out of range.
    """

    shape_: pd.DataFrame
    level_: pd.Series[Any]
    weight_: float
    ratio_quantiles_: pd.DataFrame
    total_quantiles_: pd.DataFrame
    days_: int
    silent_: dict[str, int]

    def __init__(
        self,
        what: str = "volume",
        *,
        smooth_s: float = 300.0,
        trim: float = 0.1,
        level_half_life_days: float = 10.0,
        weight: float | None = None,
        quantiles: tuple[float, float] = (0.1, 0.9),
    ) -> None:
        if what not in ("volume", "variance"):
            raise InvalidInput("unknown", field="what", value=what, remedy="pass 'volume' or 'variance'")
        if not 0.0 <= trim < 0.5:
            raise InvalidInput("not within [0, 0.5)", field="trim", value=trim, remedy="pass e.g. 0.1")
        if not 0.0 <= smooth_s < np.inf:
            raise InvalidInput("negative or not finite", field="smooth_s", value=smooth_s, remedy="pass seconds or 0")
        if not level_half_life_days > 0:
            raise InvalidInput(
                "must be positive", field="level_half_life_days", value=level_half_life_days, remedy="pass days or inf"
            )
        if len(quantiles) != 2 or not 0.0 < quantiles[0] < quantiles[1] < 1.0:
            raise InvalidInput("not two levels", field="quantiles", value=quantiles, remedy="pass e.g. (0.1, 0.9)")
        self.what, self.smooth_s, self.trim = what, float(smooth_s), float(trim)
        self.level_half_life_days, self.quantiles = float(level_half_life_days), tuple(quantiles)
        self.weight = None if weight is None else check_positive(weight, "weight")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("what", "smooth_s", "trim", "level_half_life_days", "weight", "quantiles")
        return {name: getattr(self, name) for name in names}

    def fit(self, events: MarketEvents) -> IntradayProfile:
        """Learn shape, level, κ and bands from past sessions.

        Parameters
        ----------
        events
            Whole past sessions. Shorter ones than usual inform the level, not the shape.

        Raises
        ------
        InvalidInput
            On anything malformed.
        DataGap
            If nothing was ever traded in a name.
        """
        days = list(session_values(events, self.what).values())
        width = max(1, round(self.smooth_s / events.bucket_s))
        self._learn(days, width)
        self.days_ = len(days)
        self.silent_ = {n: sum(not d[n].sum() > 0 for d in days) for n in events.names}
        self.weight_ = _WITHOUT_EVIDENCE if self.weight is None else self.weight
        outs = [self._without(days, i, width) for i in range(len(days))] if len(days) > 1 else []
        pairs = [(one, day) for one, day in zip(outs, days, strict=False) if one is not None]
        if self.weight is None and pairs:
            losses = [sum(one._loss(day, weight) for one, day in pairs) for weight in WEIGHTS]
            self.weight_ = WEIGHTS[int(np.argmin(losses))]
        self._bands(pairs, events.names)
        return self

    def _without(self, days: list[pd.DataFrame], left_out: int, width: int) -> IntradayProfile | None:
        """Return the profile of all days but one; None if a name is silent in the rest or on that day."""
        one = IntradayProfile(**self.get_params())
        try:
            one._learn(days[:left_out] + days[left_out + 1 :], width)
        except DataGap:
            return None
        return one if (days[left_out].sum() > 0).all() else None

    def _learn(self, days: list[pd.DataFrame], width: int) -> None:
        lengths = [len(d) for d in days]
        usual = max(set(lengths), key=lambda k: (lengths.count(k), k))
        shape, level = {}, {}
        for name in days[0].columns:
            full = [d[name].to_numpy() for d in days if len(d) == usual and d[name].sum() > 0]
            if not full:
                raise DataGap("nothing was traded", field=f"{self.what} of {name}", value=0, remedy="leave it out")
            shares = np.sort(np.array([_smooth(v / v.sum(), width) for v in full]), axis=0)
            cut = int(self.trim * len(shares))
            mean = shares[cut : len(shares) - cut].mean(axis=0)
            shape[name] = mean / mean.sum()
            # A day's level is its total over the share of a usual session that its length covers.
            sums = [(d[name].sum(), shape[name][fold(usual, len(d))].sum()) for d in days]
            ages = np.arange(len(days))[::-1]
            use = np.array([s > 0 and c > 0 for s, c in sums])
            worth = np.where(use, 0.5 ** (ages / self.level_half_life_days), 0.0)
            each = np.array([s / c if c > 0 else 0.0 for s, c in sums])
            level[name] = float((worth * each).sum() / worth.sum())
        self.shape_ = pd.DataFrame(shape)
        self.level_ = pd.Series(level, name="level")

    def _levels(self, day: Float, shape: Float, weight: float) -> Float:
        """Return L_k for k = 0 … K − 1: before each bucket, from the buckets before it, (K, N)."""
        seen = np.vstack([np.zeros(day.shape[1]), np.cumsum(day, axis=0)[:-1]])
        share = np.vstack([np.zeros(day.shape[1]), np.cumsum(shape, axis=0)[:-1]])
        return np.asarray((weight * self.level_.to_numpy() + seen) / (weight + share))

    def _rest(self, day: pd.DataFrame, weight: float) -> tuple[Float, Float, Float]:
        """Return, at the origins, the fraction of the session over, the forecast rest and the actual rest, (O, N)."""
        shape = self.shape(len(day)).to_numpy()
        values = day.to_numpy()
        at = np.unique(np.arange(_ORIGINS) * len(day) // _ORIGINS)
        level = self._levels(values, shape, weight)[at]
        to_come = np.cumsum(shape[::-1], axis=0)[::-1][at]
        actual = np.cumsum(values[::-1], axis=0)[::-1][at]
        return at / len(day), level * to_come, actual

    def _loss(self, day: pd.DataFrame, weight: float) -> float:
        _, forecast, actual = self._rest(day, weight)
        return float((np.abs(forecast - actual) / self.level_.to_numpy()).sum())

    def _bands(self, pairs: list[tuple[IntradayProfile, pd.DataFrame]], names: tuple[str, ...]) -> None:
        levels = list(self.quantiles)
        self.ratio_quantiles_ = pd.DataFrame(np.nan, index=levels, columns=list(names))
        self.total_quantiles_ = pd.DataFrame(np.nan, index=[0.0], columns=levels)
        if not pairs:
            return
        ratios, totals = [], []
        for one, day in pairs:
            ahead = one.one_ahead(day, self.weight_).to_numpy()
            ratios.append(np.divide(day.to_numpy(), ahead, out=np.full(ahead.shape, np.nan), where=ahead > 0))
            over, forecast, actual = one._rest(day, self.weight_)
            ratio = np.divide(actual, forecast, out=np.full(actual.shape, np.nan), where=forecast > 0)
            totals.append(pd.DataFrame(ratio, index=np.round(over, 6)))
        with np.errstate(all="ignore"):
            self.ratio_quantiles_[:] = np.nanquantile(np.vstack(ratios), levels, axis=0)
        pooled = pd.concat(totals)
        groups = {at: np.nanquantile(part.to_numpy(), levels) for at, part in pooled.groupby(level=0)}
        self.total_quantiles_ = pd.DataFrame.from_dict(groups, orient="index", columns=levels)

    def shape(self, buckets: int) -> pd.DataFrame:
        """Return the shares for a session of ``buckets`` buckets; a shorter one than usual sums to less than 1.

        Raises
        ------
        InvalidInput
            Before :meth:`fit`, or on a length below 1.
        """
        if not hasattr(self, "shape_"):
            raise InvalidInput("not fitted", field="IntradayProfile", remedy="call .fit(past_events) first")
        if isinstance(buckets, bool) or not isinstance(buckets, (int, np.integer)) or buckets < 1:
            raise InvalidInput("not a number of buckets", field="buckets", value=buckets, remedy="pass 1 or more")
        return self.shape_.iloc[fold(len(self.shape_), int(buckets))].reset_index(drop=True)

    def one_ahead(self, day: pd.DataFrame, weight: float | None = None) -> pd.DataFrame:
        """Return the forecast of each bucket of a session from the buckets before it.

        Parameters
        ----------
        day
            All buckets × names of one session.
        weight
            κ; default the learned one.

        Raises
        ------
        InvalidInput
            On other names than fitted.
        """
        self._same_names(day)
        shape = self.shape(len(day)).to_numpy()
        level = self._levels(day.to_numpy(), shape, self.weight_ if weight is None else weight)
        return pd.DataFrame(level * shape, index=day.index, columns=day.columns)

    def _same_names(self, frame: pd.DataFrame) -> None:
        if list(frame.columns) != list(self.shape_.columns):
            raise InvalidInput(
                "other names than fitted", field="observed", value=list(frame.columns), remedy="select the fitted ones"
            )

    def predict(self, index: pd.DatetimeIndex, observed: pd.DataFrame | None = None) -> ProfileForecast:
        """Forecast the rest of a session.

        Parameters
        ----------
        index
            ENDs of ALL buckets of the session, tz-aware: its length tells a half day.
        observed
            Values of its first k buckets × names: their index equals ``index[:k]``. None or empty: before the open.

        Returns
        -------
        ProfileForecast
            Of the buckets after k.

        Raises
        ------
        InvalidInput
            Before :meth:`fit`, on a naive index, or on observations that are not the session's first buckets.
        """
        ends = utc_index(index, "index")
        shape = self.shape(len(ends))
        seen = pd.DataFrame(columns=shape.columns, dtype=float) if observed is None else observed
        self._same_names(seen)
        k = len(seen)
        if k and not utc_index(pd.DatetimeIndex(seen.index), "observed").equals(ends[:k]):
            raise InvalidInput("not the session's first buckets", field="observed", value=k, remedy="give index[:k]")
        values = seen.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise InvalidInput("NaN, inf or negative", field="observed", remedy="repair those buckets")
        past, rest = shape.iloc[:k], shape.iloc[k:].set_axis(ends[k:])
        level = (self.weight_ * self.level_ + values.sum(axis=0)) / (self.weight_ + past.sum())
        mean = rest * level
        low, high = self.quantiles
        total = mean.sum()
        place = max(0, int(np.searchsorted(self.total_quantiles_.index, k / len(ends) + 1e-6, side="right")) - 1)
        band = self.total_quantiles_.iloc[place]
        return ProfileForecast(
            mean,
            mean * self.ratio_quantiles_.loc[low],
            mean * self.ratio_quantiles_.loc[high],
            level.rename("level"),
            total,
            total * float(band[low]),
            total * float(band[high]),
        )

    def summary(self) -> str:
        """Return the learned numbers in a few lines."""
        return "\n".join(
            [f"{self.what} profile of {self.days_} sessions, {len(self.shape_)} buckets, κ = {self.weight_:g} sessions"]
            + [f"  {n}: level {self.level_[n]:.4g}, {self.silent_[n]} silent sessions" for n in map(str, self.shape_)]
        )


def _smooth(values: Float, width: int) -> Float:
    """Return the centred moving average over ``width`` buckets, shortened at the ends."""
    if width <= 1:
        return values
    total = np.append(0.0, np.cumsum(values))
    place = np.arange(len(values))
    first = np.maximum(place - width // 2, 0)
    last = np.minimum(place + (width + 1) // 2, len(values))
    return np.asarray((total[last] - total[first]) / (last - first))
