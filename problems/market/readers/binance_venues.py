"""Binance's venues and instruments: names, currencies, contract sizes, and the units and steps of their clocks."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.checks import as_dates, check_names
from crosswind.problems.market.hours import midnight_ns
from crosswind.problems.market.report import InstrumentFacts, ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = [
    "DAY_NS",
    "GapMeter",
    "Instrument",
    "InstrumentSieve",
    "common_currency",
    "day_ranges",
    "in_ranges",
    "instrument_of",
    "price_step",
    "select_names",
    "spikes",
    "stamp_factor",
    "venue_of",
]

DAY_NS = 86_400_000_000_000
# Folder names in use: the public archive says 'um' and 'cm', recordings 'usdm' and 'coinm'.
_FOLDERS = {"spot": "spot", "um": "usdm", "usdm": "usdm", "usd-m": "usdm", "cm": "cm", "coinm": "cm", "coin-m": "cm"}
_TITLES = {"spot": "binance spot", "usdm": "binance USD-M futures", "cm": "binance COIN-M futures"}
_QUOTES = (
    "FDUSD",
    "USDT",
    "USDC",
    "BUSD",
    "TUSD",
    "USD1",
    "DAI",
    "USD",
    "EUR",
    "TRY",
    "BRL",
    "JPY",
    "BTC",
    "ETH",
    "BNB",
)
_DOLLARS = frozenset({"USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD"})
_INVERSE = re.compile(r"(?P<base>[A-Z0-9]+)USD_(PERP|\d{6})")
_LINEAR = re.compile(r"(?P<pair>[A-Z0-9]+)(_\d{6})?")
_SPIKE_NS = 10_000_000_000  # a single stamp that is off by more than this from its neighbours is no time of the event

_Int = npt.NDArray[np.int64]
_Float = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Instrument:
    """One instrument of one of Binance's venues.

    Parameters
    ----------
    symbol
        As the venue writes it, e.g. 'BTCUSD_PERP'.
    market
        'spot', 'usdm' or 'cm'.
    currency
        Of prices.
    contract_value
        Value of an inverse contract [currency per contract]; None where the quantity is in the base asset.
    """

    symbol: str
    market: str
    currency: str
    contract_value: float | None = None

    @property
    def name(self) -> str:
        """What it is called in tables, e.g. 'BTCUSDT.spot'."""
        return f"{self.symbol}.{self.market}"

    @property
    def venue(self) -> str:
        """The venue's title."""
        return _TITLES[self.market]

    def shares(self, quantity: _Float, price: _Float) -> _Float:
        """Return sizes in the base asset: price · shares is the notional; inverse: contracts · value / price."""
        if self.contract_value is None:
            return quantity
        # NaN prices mark empty levels: they hold nothing.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(quantity * self.contract_value / price, nan=0.0)

    def note(self, report: ReadReport, kind: str, **facts: str) -> InstrumentFacts:
        """Return its facts in ``report`` with units and contract filled in."""
        unit = "base asset" if self.contract_value is None else "contracts in the file, base asset here"
        more = {} if self.contract_value is None else {"contract": f"{self.contract_value:g} {self.currency}, inverse"}
        known = {"price_unit": f"{self.currency} per base asset", "quantity_unit": unit, **more, **facts}
        return report.instrument(self.name, self.venue, kind, **known)


def venue_of(path: Path, given: str | None) -> str:
    """Return 'spot', 'usdm' or 'cm', from the option or the nearest folder that names one.

    Raises
    ------
    InvalidInput
        If neither says so: the same symbol trades on several venues in different units.
    """
    if given is not None:
        market = _FOLDERS.get(str(given).lower())
        if market is None:
            raise InvalidInput("unknown venue", field="venue", value=given, remedy="say 'spot', 'usdm' or 'cm'")
        return market
    for part in reversed(path.resolve().parent.parts):
        if part.lower() in _FOLDERS:
            return _FOLDERS[part.lower()]
    raise InvalidInput(
        "the venue is unknown: quantities are in the base asset or in contracts, depending on it",
        field="venue",
        value=str(path),
        remedy="pass venue='spot', 'usdm' or 'cm', or keep files in folders of these names",
    )


def instrument_of(symbol: str, market: str, contract_values: Mapping[str, float] | None = None) -> Instrument:
    """Return the instrument behind a symbol.

    COIN-M contracts are worth 100 USD for BTC and 10 USD for all other coins, which ``contract_values`` (symbol →
    currency per contract) overrides.

    Raises
    ------
    InvalidInput
        If the symbol cannot be one of this venue.
    """
    symbol = symbol.upper()
    inverse, linear = _INVERSE.fullmatch(symbol), _LINEAR.fullmatch(symbol)
    if (market == "cm") != (inverse is not None) or (inverse is None and linear is None):
        raise InvalidInput(
            f"is no symbol of {_TITLES[market]}",
            field="symbol",
            value=symbol,
            remedy="COIN-M symbols are written like BTCUSD_PERP, others like BTCUSDT: check venue and file",
        )
    if inverse is not None:
        value = 100.0 if inverse["base"] == "BTC" else 10.0
        given = (contract_values or {}).get(symbol, value)
        if not (np.isfinite(given) and given > 0):
            raise InvalidInput(
                "not positive", field="contract_values", value=given, remedy="give currency per contract"
            )
        return Instrument(symbol, market, "USD", float(given))
    assert linear is not None
    quote = next((q for q in _QUOTES if linear["pair"].endswith(q) and linear["pair"] != q), "quote currency")
    return Instrument(symbol, market, quote)


def common_currency(currencies: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return the one currency of several instruments, and a note where dollars and stablecoins are taken as one.

    Raises
    ------
    InvalidInput
        If their notionals cannot be compared.
    """
    found = sorted(set(currencies))
    if len(found) == 1:
        return found[0], ()
    if set(found) <= _DOLLARS:
        return "USD", (f"{', '.join(found)} are counted as one currency, 1:1",)
    raise InvalidInput(
        "the instruments are priced in different currencies", field="names", value=found, remedy="read them apart"
    )


def select_names(have: Sequence[str], names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names asked for, in their order; default all.

    Raises
    ------
    InvalidInput
        On a name that is not there.
    """
    if names is None:
        return tuple(have)
    chosen = check_names(names, "names")
    unknown = [n for n in chosen if n not in have]
    if unknown:
        raise InvalidInput(
            "there are no files of it", field="names", value=unknown, remedy=f"choose among {', '.join(have)}"
        )
    return chosen


def day_ranges(days: Any, tz: str) -> tuple[tuple[int, int], ...] | None:
    """Return [start, end) of each local day asked for [ns since 1970 UTC]; None for all days."""
    listed = as_dates(days)
    if listed is None:
        return None
    return tuple((midnight_ns(day, tz), midnight_ns(day + dt.timedelta(1), tz)) for day in listed)


def in_ranges(time_ns: _Int, ranges: tuple[tuple[int, int], ...] | None) -> _Bool:
    """Return which times lie in one of the ranges; all of them where there is none."""
    keep = np.full(len(time_ns), ranges is None)
    for start, end in ranges or ():
        keep |= (time_ns >= start) & (time_ns < end)
    return keep


def stamp_factor(stamps: _Int, where: object) -> int:
    """Return the nanoseconds of one unit of ``stamps``, by the magnitude of their median.

    Seconds, milliseconds, microseconds and nanoseconds since 1970 are told apart for the years 1973 to 5138.

    Raises
    ------
    InvalidInput
        If no unit gives a time since 1973.
    """
    middle = float(np.median(stamps)) if len(stamps) else 0.0
    for low, factor in ((1e17, 1), (1e14, 10**3), (1e11, 10**6), (1e8, 10**9)):
        if middle >= low:
            return factor
    raise InvalidInput(
        "its stamps are no times since 1970 in s, ms, µs or ns",
        field="time",
        value=f"{middle:.0f} in {where}",
        remedy="check that the file is of this format",
    )


def spikes(values_ns: _Int, *, edges: bool = False) -> _Bool:
    """Return which rows jump away from both neighbours: off the median of five rows around by more than 10 s.

    A lasting step is none: in times it is a silence, or, backward, disorder.

    Parameters
    ----------
    values_ns
        (R,) times, or differences of two clocks [ns].
    edges
        Whether the first and the last row are judged by those inside. In times they are not: they may follow a silence.
    """
    n = len(values_ns)
    jump: _Bool = np.zeros(n, dtype=bool)
    if n < 3 or (np.abs(np.diff(values_ns)) <= _SPIKE_NS).all():
        return jump
    width = 2 if n >= 5 else 1
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values_ns, width, mode="reflect"), 2 * width + 1)
    jump |= np.abs(values_ns - np.median(around, axis=1)) > _SPIKE_NS
    for edge, inside in ((0, slice(1, 4)), (n - 1, slice(max(n - 4, 0), n - 1))):
        near = values_ns[inside]
        far = bool((np.abs(near - values_ns[edge]) > _SPIKE_NS).all() and np.ptp(near) <= _SPIKE_NS)
        jump[edge] = edges and far
    return jump


def price_step(prices: _Float) -> float:
    """Return the greatest common step of prices: their smallest price step, seen in enough of them."""
    scaled = np.round(prices[np.isfinite(prices) & (prices > 0)] * 1e10).astype(np.int64)
    if not len(scaled):
        raise DataGap("there are no prices", field="tick", value=0, remedy="give tick=, or check the file")
    return float(np.gcd.reduce(scaled)) / 1e10


class InstrumentSieve:
    """Drops rows by reason: each is counted once, for the first reason that holds.

    Parameters
    ----------
    report, where
        Where counts go.
    rows
        Number of rows.
    """

    def __init__(self, report: ReadReport, where: object, rows: int) -> None:
        self.keep: _Bool = np.ones(rows, dtype=bool)
        self._report, self._where = report, where

    def drop(self, bad: _Bool, reason: str, example: Any = None) -> None:
        """Drop the rows that ``bad`` marks; ``example`` holds what is shown of them, row by row."""
        hit = bad & self.keep
        count = int(np.count_nonzero(hit))
        if count:
            first = int(np.argmax(hit))
            self._report.bad(self._where, reason, count, "" if example is None else example[first])
            self.keep &= ~hit


class GapMeter:
    """Counts silences of one instrument over all its streams.

    Parameters
    ----------
    facts
        Whose ``gaps`` and ``longest_gap_s`` are filled.
    """

    def __init__(self, facts: InstrumentFacts) -> None:
        self._facts = facts
        self._last: int | None = None

    def see(self, *times_ns: _Int) -> None:
        """Take the next times, each sorted; earlier calls hold no later ones."""
        parts = [t for t in times_ns if len(t)]
        if not parts:
            return
        if self._last is not None:
            parts.append(np.array([self._last]))
        merged = np.sort(np.concatenate(parts), kind="stable")
        self._last = int(merged[-1])
        step = np.diff(merged) / 1e9
        if len(step):
            self._facts.gaps += int((step > self._facts.gap_limit_s).sum())
            self._facts.longest_gap_s = max(self._facts.longest_gap_s, float(step.max()))
