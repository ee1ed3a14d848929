r"""What holding a hedge earns: funding at its settlements, the basis as it converges, less the trading.

.. math::

    \text{carry} = -\sum_{t_0 < t_k \le t_1} r_k N_k - n\,m\,(F - S)\,\frac{t_1 - t_0}{T - t_0} - \text{trading}

A funding rate r > 0 means that longs pay shorts: a short (N < 0) receives it. It is charged on the notional held just
before a settlement, and at no other time. A dated future converges from F to S at its expiry T; until then the expected
part is taken as linear in time, and an early close realises whatever the basis is then. Positive carry is earned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import HedgeInstrument, number
from crosswind.problems.market.checks import as_utc, utc_index
from crosswind.problems.market.funding import YEAR_S, FundingRates
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.sizing.result import HedgeSize

__all__ = ["BasisFit", "Carry", "carry_of", "fit_basis"]

DAY_S = 86_400.0


@dataclass(frozen=True, eq=False, repr=False)
class Carry(Shown):
    """What a hedge earns over a holding period.

    Parameters
    ----------
    table
        Instrument → ``settlements`` met, and ``funding``, ``basis``, ``trading``, ``total`` [currency; positive:
        earned].
    start, end
        The period (UTC).
    gross
        Gross value of the spot [currency].
    """

    table: pd.DataFrame
    start: pd.Timestamp
    end: pd.Timestamp
    gross: float

    @property
    def days(self) -> float:
        """Length of the period [days]."""
        return (self.end - self.start).total_seconds() / DAY_S

    @property
    def total(self) -> float:
        """Sum over the instruments [currency; positive: earned]."""
        return math.fsum(self.table["total"])

    @property
    def per_year(self) -> float:
        """The total as a share of the spot's gross value, scaled to a year of 365.25 days."""
        return self.total / self.gross * YEAR_S / (self.days * DAY_S)

    @property
    def break_even_days(self) -> float:
        """Days after which funding and basis have paid for the trading; inf where they never do."""
        running = math.fsum(self.table["funding"]) + math.fsum(self.table["basis"])
        cost = -math.fsum(self.table["trading"])
        if cost <= 0.0:
            return 0.0
        return cost / running * self.days if running > 0.0 else math.inf

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def summary(self) -> str:
        """Return the parts by instrument and the yearly rate."""
        head = (
            f"carry over {self.days:.4g} days from {self.start:%Y-%m-%d %H:%M} UTC: {self.total:,.2f} "
            f"({self.per_year:+.2%} of the spot a year; positive: earned), break-even after "
            f"{self.break_even_days:.3g} days"
        )
        return f"{head}\n{self.table.to_string(float_format='{:,.2f}'.format)}"


def carry_of(
    size: HedgeSize,
    start: Any,
    end: Any,
    funding: Mapping[str, FundingRates | float] | None = None,
    marks: Mapping[str, pd.Series[float]] | None = None,
    *,
    round_trip: bool = True,
) -> Carry:
    """Return what a hedge that is held from ``start`` to ``end`` earns (formula in the module's text).

    Parameters
    ----------
    size
        The hedge.
    start, end
        Tz-aware; settlements after ``start`` up to and including ``end`` are met.
    funding
        Perpetual → recorded rates, or one rate that is expected at each of the contract's settlements [fraction].
    marks
        Perpetual → mark prices (tz-aware); the latest at or before a settlement sets its notional. Default: the price
        at the sizing.
    round_trip
        Whether closing is charged besides the trades to be done now.

    Raises
    ------
    InvalidInput
        For naive or reversed times, a contract that has expired, a rate that is not finite.
    DataGap
        For a perpetual without rates, rates that do not cover the period, a dated future with a basis but no expiry.
    """
    first, last = as_utc(start, "start"), as_utc(end, "end")
    if last <= first:
        raise InvalidInput("lies not after the start", field="end", value=end, remedy="exchange start and end")
    rates, prices = dict(funding or {}), dict(marks or {})
    names = [tool.name for tool in size.instruments]
    unknown = [name for name in (*rates, *prices) if name not in names]
    if unknown:
        raise InvalidInput("not among the instruments", field="funding", value=unknown, remedy=f"use {names}")
    rows = {}
    for tool in size.instruments:
        n, met, paid, basis = size[tool.name], 0, 0.0, 0.0
        if n != 0.0 and tool.spec.kind == "perpetual":
            met, paid = _funding(tool, n, first, last, rates.get(tool.name), prices.get(tool.name))
        elif n != 0.0:
            basis = _convergence(tool, n, first, last)
        traded = abs(float(size.trades[tool.name])) + (abs(n) if round_trip else 0.0)
        cost = -traded * tool.trade_cost + 0.0
        rows[tool.name] = (met, paid, basis, cost, paid + basis + cost)
    columns = ["settlements", "funding", "basis", "trading", "total"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("instrument")
    return Carry(table, first, last, size.spot.gross)


def _funding(
    tool: HedgeInstrument, n: float, first: pd.Timestamp, last: pd.Timestamp, given: Any, marks: Any
) -> tuple[int, float]:
    """Return the settlements met and what the position receives at them [currency]."""
    if given is None:
        raise DataGap(
            "no funding rate of a perpetual", field="funding", value=tool.name, remedy="pass its rates, or one expected"
        )
    if isinstance(given, FundingRates):
        times, slack = pd.DatetimeIndex(given.rates.index), pd.Timedelta(seconds=given.interval_s or 0.0)
        if not len(times) or times[0] > first + slack or times[-1] < last - slack:
            raise DataGap(
                "the rates do not cover the period",
                field=f"funding of {tool.name}",
                value=f"{times[0]} .. {times[-1]}" if len(times) else "none",
                remedy="read more of them, or shorten the period",
            )
        rates = given.between(first, last)
    else:
        rate = number(given, f"funding of {tool.name}")
        if tool.spec.funding is None:
            raise DataGap("no settlement times", field="funding", value=tool.spec.key, remedy="pass FundingRates")
        times = tool.spec.funding.between(first, last)
        rates = FundingRates(tool.name, pd.Series(rate, index=times, dtype=float))
    if not len(rates.rates):
        return 0, 0.0
    price = np.full(len(rates.rates), tool.price)
    if marks is not None:
        index = utc_index(marks.index, f"marks of {tool.name}")
        at = np.searchsorted(index.asi8, pd.DatetimeIndex(rates.rates.index).asi8, side="right") - 1
        seen = marks.to_numpy(dtype=np.float64)[np.maximum(at, 0)]
        price = np.where(at >= 0, seen, tool.price)
    notional = np.asarray(tool.spec.notional(n, price), dtype=np.float64)
    # Longs pay rate · notional; a short's notional is negative, and what it pays is then negative: received.
    return len(price), -math.fsum((rates.rates.to_numpy() * notional).tolist())


def _convergence(tool: HedgeInstrument, n: float, first: pd.Timestamp, last: pd.Timestamp) -> float:
    if tool.expires is None:
        if tool.basis == 0.0:
            return 0.0
        raise DataGap("a basis, but no expiry", field="expires", value=tool.name, remedy="pass month to listed")
    if tool.expires <= first:
        raise InvalidInput("has expired", field=tool.name, value=tool.expires, remedy="size with the next month")
    share = min((last - first) / (tool.expires - first), 1.0)
    after = tool.price - share * tool.basis
    gain = float(tool.spec.pnl(n, tool.price, after))
    return gain * after if tool.spec.inverse else gain


@dataclass(frozen=True, eq=False, repr=False)
class BasisFit(Shown):
    """A basis that reverts: b_{t+1} − μ = φ(b_t − μ) + e.

    Parameters
    ----------
    level, mean, sd
        Last basis, its mean and standard deviation [fraction].
    z
        (level − mean)/sd.
    phi, step_s
        φ of one step, and the step [s].
    count
        Observations.
    """

    level: float
    mean: float
    sd: float
    z: float
    phi: float
    step_s: float
    count: int

    @property
    def half_life_days(self) -> float:
        """Time in which a deviation halves [days]; 0 where φ <= 0, inf where φ >= 1."""
        if self.phi <= 0.0:
            return 0.0
        return math.inf if self.phi >= 1.0 else math.log(0.5) / math.log(self.phi) * self.step_s / DAY_S

    def vol(self, days: float) -> float:
        """Return the standard deviation of the change over ``days``, sd·√(2(1 − φ^h)) [fraction].

        Raises
        ------
        InvalidInput
            For a time that is not positive.
        """
        steps = number(days, "days", 0.0, above=True) * DAY_S / self.step_s
        return self.sd * math.sqrt(2.0 * (1.0 - max(self.phi, 0.0) ** steps))

    @property
    def change_vol(self) -> float:
        """``vol`` of one day."""
        return self.vol(1.0)

    def to_frame(self) -> pd.DataFrame:
        """Return one row."""
        names = ("level", "mean", "sd", "z", "phi", "half_life_days", "change_vol", "count")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

    def summary(self) -> str:
        """Return one line [bps]."""
        return (
            f"basis {self.level * 1e4:.2f} bps, mean {self.mean * 1e4:.2f}, sd {self.sd * 1e4:.2f}, z {self.z:+.2f}, "
            f"half-life {self.half_life_days:.3g} days, daily change {self.change_vol * 1e4:.2f} bps ({self.count:,} "
            "observations)"
        )


def fit_basis(basis: pd.Series[float]) -> BasisFit:
    """Fit a reverting basis by least squares on its own lag.

    Parameters
    ----------
    basis
        Relative basis (F − S)/S on equal steps (tz-aware index), as from
        :func:`crosswind.problems.market.funding.basis`; a step is the most frequent one, longer ones are left out.

    Raises
    ------
    InvalidInput
        On a naive or unsorted index, values that are not finite, fewer than 20 steps, a basis that never moves.
    """
    index, b = utc_index(basis.index, "basis"), basis.to_numpy(dtype=np.float64)
    if not np.isfinite(b).all():
        raise InvalidInput("is not finite", field="basis", value="NaN or inf", remedy="drop those rows")
    gaps = np.diff(index.asi8)
    if len(gaps) < 20:
        raise InvalidInput("too short", field="basis", value=len(b), remedy="give at least 21 observations")
    steps, counts = np.unique(gaps, return_counts=True)
    step = int(steps[int(np.argmax(counts))])
    near = gaps == step
    mean, sd = float(b.mean()), float(b.std(ddof=1))
    if not sd > 1e-15 * max(1.0, abs(mean)):
        raise InvalidInput("never moves", field="basis", value=mean, remedy="a fixed basis has no risk: use 0")
    x, y = b[:-1][near] - mean, b[1:][near] - mean
    phi = float(np.clip((x @ y) / (x @ x), -1.0, 1.0))
    return BasisFit(float(b[-1]), mean, sd, (float(b[-1]) - mean) / sd, phi, step / 1e9, len(b))
