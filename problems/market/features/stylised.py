"""The stylised facts of intraday markets, computed alike on recorded and on simulated buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import check_positive
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, block_of, check_events, positives
from crosswind.problems.market.features.statistics import (
    autocorrelation,
    hill_index,
    kurtosis,
    loglog_slope,
    response_function,
)
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["StylisedFacts", "compare_facts", "stylised_facts"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SLICES = 13  # of a session: half hours of a New York day
HORIZONS_S = (1.0, 10.0, 30.0, 60.0, 300.0)
LONGEST_LAG_S = 1800.0


@dataclass(frozen=True, eq=False, repr=False)
class StylisedFacts(Shown):
    """What buckets show of the regularities that intraday markets share.

    Parameters
    ----------
    scalars
        N rows; one column per fact, see :func:`stylised_facts`.
    tails
        Index (``name``, ``horizon_s``): ``hill`` (tail exponent of the largest 5 %), ``kurtosis``, ``returns``.
    memory
        Index (``quantity``, ``lag_s``), one column per name: autocorrelations of ``return``, ``|return|`` (each over
        its slice-of-day mean, else the U-shape would count as clustering), ``flow``, ``sign``, and ``volume`` and
        ``depth`` over their slice means.
    epps
        Horizon [s] × pair 'A/B': correlation of overlapping returns within sessions.
    response
        Horizon [s] × name: mean move after a bucket of signed flow, from the mid before it [bps].
    shape
        Index (``quantity``, ``slice``), N columns: mean of ``volume`` and ``|return|`` by slice of the session over
        their own mean.
    quantiles
        Index (``quantity``, quantile), N columns: ``spread_ticks``, ``spread_bps``, ``depth`` over its mean.
    bucket_s, days
        Bucket length [s] and number of sessions.
    """

    scalars: pd.DataFrame
    tails: pd.DataFrame
    memory: pd.DataFrame
    epps: pd.DataFrame
    response: pd.DataFrame
    shape: pd.DataFrame
    quantiles: pd.DataFrame
    bucket_s: float
    days: int

    def to_frame(self) -> pd.DataFrame:
        """Return one row per name and one column per fact."""
        return self.scalars.copy()

    def summary(self) -> str:
        """Return the median over the names of every fact, one line each."""
        head = f"{len(self.scalars)} names, {self.days} sessions, buckets of {self.bucket_s:g} s; medians over names"
        return "\n".join([head, *(f"  {fact}: {value:.3g}" for fact, value in self.scalars.median().items())])

    def plot(self) -> Any:
        """Draw the facts as eight panels, one line per name (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.market.features.plots import plot_facts

        return plot_facts({name: self.only(name) for name in self.scalars.index})

    def only(self, name: str) -> StylisedFacts:
        """Return the facts of one name.

        Raises
        ------
        InvalidInput
            If it is not there.
        """
        if name not in self.scalars.index:
            raise InvalidInput("unknown name", field="name", value=name, remedy=f"one of {list(self.scalars.index)}")
        mine = [name]
        pairs = [pair for pair in self.epps if name in str(pair).split("/")]
        tails = self.tails.loc[mine]
        return StylisedFacts(
            self.scalars.loc[mine],
            tails,
            self.memory[mine],
            self.epps[pairs],
            self.response[mine],
            self.shape[mine],
            self.quantiles[mine],
            self.bucket_s,
            self.days,
        )

    def _repr_html_(self) -> str:
        return self.scalars.T.to_html(float_format=lambda v: f"{v:.3g}")


def stylised_facts(
    events: MarketEvents, *, horizons_s: Iterable[float] | None = None, tick: float | None = None
) -> StylisedFacts:
    """Return the stylised facts of a market's buckets.

    Columns of the table of scalars:

    - ``volatility_pct``: realised, of a session, from 5-minute returns (shorter where sessions are); ``return_sd_bps``
      of buckets; ``hill`` and ``kurtosis`` of bucket returns;
    - ``abs_acf_60s``, ``abs_acf_600s``: clustering, the autocorrelation of |r| over its slice's mean; ``return_acf_1``;
    - ``flow_acf_1``, ``sign_acf_1``, ``sign_acf_60s``; ``sign_slope``, the log–log slope of the sign's autocorrelation
      over lags from one bucket to 30 minutes; ``sign_zero``, the share of buckets without net flow;
    - ``impact_corr``: correlation of bucket flow and return; ``response_1_sd``, the response after a bucket over
      ``return_sd_bps``; ``response_60s_ratio``, ``response_300s_ratio``, later responses over it (above 1: impact
      builds up, below 1: it decays);
    - ``correlation``: mean with the other names at the longest horizon; ``epps_ratio``: that at the shortest over it;
    - ``spread_bps``, ``spread_ticks``, ``spread_one_tick`` (share of buckets at one tick), ``spread_cv``, ``depth_cv``
      (sd over mean), ``spread_vol_corr``, ``depth_vol_corr`` (rank correlations with 5-minute mean |r|);
    - ``volume_vol_corr`` (of log volume and log mean |r| over 5 minutes), ``volume_cv`` (sd over mean of bucket volume
      over its slice's mean), ``volume_acf_60s``, ``depth_acf_60s`` (their memory, slices taken out), ``open_volume``,
      ``close_volume``, ``open_vol``, ``close_vol`` (first and last slice of 13 over the middle three).

    Parameters
    ----------
    events
        Buckets of one or more names; all statistics stay within sessions.
    horizons_s
        Horizons of tails, Epps curve and response [s]; rounded to whole buckets. Default those of 1, 10, 30, 60, 300 s
        that are at least a bucket and leave ten returns a session.
    tick
        Price step [currency per share]; default the smallest positive spread of each name: its
        own ``spread_ticks`` then count in that unit.

    Returns
    -------
    StylisedFacts

    Raises
    ------
    InvalidInput
        On anything malformed, or sessions of fewer than 30 buckets.

    Notes
    -----
    The list follows Cont, "Empirical properties of asset returns: stylized facts and statistical issues", Quantitative
    Finance 1 (2001), and Bouchaud, Farmer and Lillo, "How markets slowly digest changes in supply and demand" (2009).
    """
    events = check_events(events)
    session = pd.factorize(events.session.to_numpy())[0]
    longest = int(np.bincount(session).max())
    if longest < 30:
        raise InvalidInput("sessions of fewer than 30 buckets", field="events", value=longest, remedy="shorten buckets")
    asked = HORIZONS_S if horizons_s is None else positives(horizons_s, "horizons_s")
    steps = sorted({max(1, round(h / events.bucket_s)) for h in asked if h >= 0.99 * events.bucket_s})
    steps = [k for k in steps if k <= longest // 10 or horizons_s is not None] or [1]
    level = np.log(events.mid.to_numpy())
    slices = _slices(session)
    facts = _Parts(events, session, slices, level, steps)
    tails, memory, response = facts.tails(), facts.memory(), facts.response()
    epps, shape, quantiles = facts.epps(), facts.shape(), facts.quantiles(tick)
    scalars = facts.scalars(tails, memory, response, epps, shape)
    return StylisedFacts(
        scalars, tails, memory, epps, response, shape, quantiles, events.bucket_s, len(np.unique(session))
    )


def _slices(session: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return which of the 13 equal slices of its session each bucket lies in."""
    count = np.bincount(session)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.arange(len(session)) - first[session]
    return np.asarray((place * SLICES) // count[session], dtype=np.int64)


class _Parts:
    """Buckets as arrays, and each family of facts from them."""

    def __init__(
        self,
        events: MarketEvents,
        session: np.ndarray[Any, Any],
        slices: np.ndarray[Any, Any],
        level: Float,
        steps: list[int],
    ) -> None:
        self.events, self.session, self.slices, self.level, self.steps = events, session, slices, level, steps
        self.names, self.bucket_s = events.names, events.bucket_s
        self.returns = self._moves(1)
        five = max(1, round(300.0 / self.bucket_s))
        self.five = min(five, max(1, int(np.bincount(session).max()) // 6))

    def _moves(self, step: int) -> Float:
        """Return overlapping log returns over ``step`` buckets, stamped at their end, NaN across nights."""
        out = np.full_like(self.level, np.nan)
        out[step:] = self.level[step:] - self.level[:-step]
        out[step:][self.session[step:] != self.session[:-step]] = np.nan
        return out

    def tails(self) -> pd.DataFrame:
        rows = {}
        for k in self.steps:
            moves = self._moves(k)
            for j, name in enumerate(self.names):
                # Overlapping returns use all the data; the moments stay what they are, only their errors grow.
                x = moves[:, j]
                rows[name, k * self.bucket_s] = {
                    "hill": hill_index(x),
                    "kurtosis": kurtosis(x),
                    "returns": int(np.isfinite(x).sum()),
                }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index = pd.MultiIndex.from_tuples(rows, names=["name", "horizon_s"])
        return table.sort_index()

    def _flat(self, values: Float) -> Float:
        """Return values over the mean of their slice of the day (over all days)."""
        frame = pd.DataFrame(values)
        mean = frame.groupby(self.slices).transform("mean").to_numpy()
        flat: Float = np.divide(values, mean, out=np.full(values.shape, np.nan), where=mean > 0)
        return flat

    def memory(self) -> pd.DataFrame:
        longest = int(np.bincount(self.session).max())
        top = min(max(1, round(LONGEST_LAG_S / self.bucket_s)), longest // 3)
        lags = np.unique(np.rint(np.geomspace(1, top, 25)).astype(int))
        lags = np.unique(
            np.append(lags, [k for k in (round(60 / self.bucket_s), round(600 / self.bucket_s)) if 1 <= k <= top])
        )
        flow = self.events.flow.to_numpy()
        series = {
            "return": self.returns,
            "|return|": self._flat(np.abs(self.returns)),
            "flow": flow,
            "sign": np.sign(flow),
            "volume": self._flat(self.events.volume.to_numpy()),
            "depth": self._flat(self.events.depth.to_numpy()),
        }
        blocks = {}
        for what, values in series.items():
            columns = [autocorrelation(values[:, j], top, self.session)[lags] for j in range(len(self.names))]
            blocks[what] = pd.DataFrame(np.column_stack(columns), index=lags * self.bucket_s, columns=list(self.names))
        return pd.concat(blocks, names=["quantity", "lag_s"])

    def response(self) -> pd.DataFrame:
        # The mid before a bucket is that at the end of the bucket before; unknown for a session's first.
        before = np.full_like(self.level, np.nan)
        before[1:] = self.level[:-1]
        before[np.append(True, self.session[1:] != self.session[:-1])] = np.nan
        sign = np.sign(self.events.flow.to_numpy())
        columns = [
            response_function(sign[:, j], before[:, j], self.steps, self.session) for j in range(len(self.names))
        ]
        index = pd.Index([k * self.bucket_s for k in self.steps], name="horizon_s")
        return pd.DataFrame(1e4 * np.column_stack(columns), index=index, columns=list(self.names))

    def epps(self) -> pd.DataFrame:
        rows = {}
        pairs = [(a, b) for a in range(len(self.names)) for b in range(a)]
        for k in self.steps:
            moves = self._moves(k)
            moves = moves[np.isfinite(moves).all(axis=1)]
            with np.errstate(invalid="ignore", divide="ignore"):
                corr = np.atleast_2d(np.corrcoef(moves, rowvar=False))
            rows[k * self.bucket_s] = {f"{self.names[b]}/{self.names[a]}": corr[a, b] for a, b in pairs}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("horizon_s")

    def shape(self) -> pd.DataFrame:
        blocks = {}
        for what, values in (("volume", self.events.volume.to_numpy()), ("|return|", np.abs(self.returns))):
            mean = pd.DataFrame(values, columns=list(self.names)).groupby(self.slices).mean()
            blocks[what] = mean / mean.mean().where(lambda m: m > 0)
        return pd.concat(blocks, names=["quantity", "slice"])

    def quantiles(self, tick: float | None) -> pd.DataFrame:
        spread, depth = self.events.spread, self.events.depth
        step = spread[spread > 0].min() if tick is None else check_positive(tick, "tick")
        self.ticks = spread / step
        blocks = {
            "spread_ticks": self.ticks.quantile(list(QUANTILES)),
            "spread_bps": (1e4 * spread / self.events.mid).quantile(list(QUANTILES)),
            "depth": (depth / depth.mean().where(lambda m: m > 0)).quantile(list(QUANTILES)),
        }
        return pd.concat(blocks, names=["quantity", "quantile"])

    def scalars(
        self,
        tails: pd.DataFrame,
        memory: pd.DataFrame,
        response: pd.DataFrame,
        epps: pd.DataFrame,
        shape: pd.DataFrame,
    ) -> pd.DataFrame:
        events, b = self.events, self.bucket_s
        out = {name: self._of_one(j, name) for j, name in enumerate(self.names)}
        table = pd.DataFrame.from_dict(out, orient="index")
        shortest = tails.xs(min(self.steps) * b, level="horizon_s")
        table["hill"], table["kurtosis"] = shortest["hill"], shortest["kurtosis"]
        for lag in (60.0, 600.0):
            table[f"abs_acf_{lag:.0f}s"] = _at(block_of(memory, "|return|"), lag)
        for what in ("return", "flow", "sign"):
            table[f"{what}_acf_1"] = block_of(memory, what).iloc[0]
        signs = block_of(memory, "sign")
        table["sign_acf_60s"] = _at(signs, 60.0)
        table["sign_slope"] = [loglog_slope(signs.index.to_numpy(), signs[n].to_numpy()) for n in self.names]
        table["response_1_sd"] = response.iloc[0] / table["return_sd_bps"]
        for seconds in (60.0, 300.0):
            table[f"response_{seconds:.0f}s_ratio"] = _at(response, seconds) / response.iloc[0]
        for what in ("volume", "depth"):
            table[f"{what}_acf_60s"] = _at(block_of(memory, what), 60.0)
        table["correlation"] = _mean_correlation(epps.iloc[-1], self.names)
        near = _mean_correlation(epps.iloc[0], self.names)
        table["epps_ratio"] = near / table["correlation"]
        for what, column in (("volume", "volume"), ("|return|", "vol")):
            block = shape.loc[what]
            middle = block.iloc[SLICES // 2 - 1 : SLICES // 2 + 2].mean()
            table[f"open_{column}"], table[f"close_{column}"] = block.iloc[0] / middle, block.iloc[-1] / middle
        assert events.names == tuple(table.index)
        return table

    def _of_one(self, j: int, name: str) -> dict[str, float]:
        """Return the facts of one name that need no table of another family."""
        from scipy.stats import spearmanr

        events, k = self.events, self.five
        r, flow = self.returns[:, j], events.flow.to_numpy()[:, j]
        volume, depth = events.volume.to_numpy()[:, j], events.depth.to_numpy()[:, j]
        spread, ticks = events.spread.to_numpy()[:, j], self.ticks.to_numpy()[:, j]
        use = np.isfinite(r)
        # Blocks of five minutes within sessions: |r| summed, the rest averaged.
        block = pd.factorize(pd.MultiIndex.from_arrays([self.session, _within(self.session) // k]))[0]
        # The spread in currency: in bps it would move with the price alone where it always is one tick.
        parts = pd.DataFrame({"vol": np.abs(r), "volume": volume, "spread": spread, "depth": depth})
        five = parts.groupby(block).mean().dropna()

        def rank(column: str) -> float:
            return _safe(lambda a, c: float(spearmanr(a, c).statistic), five[column], five["vol"])

        moves = self._moves(k)[:, j]
        per_session = self.session.max() + 1
        long = moves[np.isfinite(moves)]
        count = np.isfinite(r).sum() / per_session / k
        busy = five[(five["volume"] > 0) & (five["vol"] > 0)]
        flat = self._flat(volume[:, None])[:, 0]
        return {
            "volatility_pct": 100.0 * float(np.sqrt((long**2).mean() * count)) if len(long) else float("nan"),
            "return_sd_bps": 1e4 * float(r[use].std()) if use.any() else float("nan"),
            "impact_corr": _safe(_pearson, flow[use], r[use]),
            "sign_zero": float((flow == 0).mean()),
            "spread_bps": float(1e4 * (spread / events.mid.to_numpy()[:, j]).mean()),
            "spread_ticks": float(ticks.mean()),
            "spread_one_tick": float((ticks < 1.5).mean()),
            "spread_cv": _over_mean(spread),
            "depth_cv": _over_mean(depth),
            "spread_vol_corr": rank("spread"),
            "depth_vol_corr": rank("depth"),
            "volume_vol_corr": _safe(_pearson, np.log(busy["volume"]), np.log(busy["vol"])),
            "volume_cv": _over_mean(flat[np.isfinite(flat)]),
        }


def _within(session: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return each bucket's number within its session."""
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    return np.asarray(np.arange(len(session)) - np.repeat(first, np.diff(np.append(first, len(session)))))


def _pearson(x: Any, y: Any) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def _safe(measure: Callable[[Any, Any], float], x: Any, y: Any) -> float:
    """Return a correlation, NaN where one side does not vary or there are fewer than three pairs."""
    x, y = np.asarray(x), np.asarray(y)
    return measure(x, y) if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def _over_mean(values: Float) -> float:
    if not len(values) or values.mean() <= 0:
        return float("nan")
    return float(values.std() / values.mean()) if np.ptp(values) > 1e-9 * values.mean() else 0.0


def _at(table: pd.DataFrame, at_s: float) -> pd.Series[Any]:
    """Return the row at ``at_s`` seconds, NaN where there is none within a tenth."""
    place = int(np.argmin(np.abs(table.index.to_numpy() - at_s)))
    row = table.iloc[place]
    return row if abs(float(table.index[place]) - at_s) <= 0.1 * at_s else row * np.nan


def _mean_correlation(row: pd.Series[Any], names: tuple[str, ...]) -> pd.Series[Any]:
    """Return each name's mean correlation with the others."""
    return pd.Series({n: row[[p for p in row.index if n in str(p).split("/")]].mean() for n in names}, dtype=float)


def compare_facts(facts: Mapping[str, StylisedFacts]) -> pd.DataFrame:
    """Return facts side by side: one row per fact, one column per market, medians over its names.

    Parameters
    ----------
    facts
        Label → facts.

    Raises
    ------
    InvalidInput
        If there are none.
    """
    if not facts or not all(isinstance(f, StylisedFacts) for f in facts.values()):
        raise InvalidInput("no facts", field="facts", value=list(facts), remedy="pass {label: stylised_facts(events)}")
    return pd.DataFrame({label: one.scalars.median() for label, one in facts.items()})
