"""What one contract is: its terms, what a position in it is worth, and exact arithmetic on its ticks and lots."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive, check_zone
from crosswind.problems.market.contracts.funding_times import FundingSchedule
from crosswind.problems.market.contracts.hours import TradingHours
from crosswind.problems.market.contracts.steps import Number, Rounding, on_step, round_to_step, step_counts, value_of
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["ContractSpec"]

_Float = npt.NDArray[np.float64]
KINDS = ("index future", "perpetual", "delivery future")
EXPIRY_RULES = ("third friday", "last friday of the quarter")
ROLLS = ("thursday before expiry week", "monday of expiry week", "last sessions", "delivery week")


@dataclass(frozen=True, repr=False)
class ContractSpec(Shown):
    """Terms of one contract while they were in force.

    A linear contract is worth ``multiplier · price`` in its currency. An inverse one has a face value of ``multiplier``
    units of currency and is worth ``multiplier / price`` coins.

    Parameters
    ----------
    root, symbol, title, exchange
        Name in the table; stem of contract codes; full name; exchange, in small letters.
    kind
        'index future', 'perpetual' or 'delivery future'.
    currency, settlement_currency
        In which prices are quoted; in which profit is paid.
    multiplier
        Linear: currency per point and contract. Inverse: face value [currency per contract].
    inverse
        Whether profit is paid in the coin.
    tick, spread_tick
        Smallest price step of an outright and of a listed calendar spread [points]; None where none is listed.
    lot
        Smallest step of a position [contracts].
    expiry_rule, expiry_time, months
        Rule ('third friday', 'last friday of the quarter', None for a perpetual), wall time in ``tz``, months of the
        cycle (1..12).
    first_month
        First contract in the table, 'YYYYMM'; '' for a perpetual.
    calendar, cash_calendar
        Calendar of trading days, and that of the underlying market, which moves expiries and shortens days.
    hours
        Trading day on the exchange's clock.
    tz
        Zone of the exchange.
    funding
        Settlements of a perpetual; None else.
    roll
        Convention: 'thursday before expiry week' (eight calendar days before the third Friday), 'monday of expiry
        week', 'last sessions', 'delivery week', or None.
    version, valid_from
        Number of these terms, and the first trading day on which they hold.
    lean_market
        Folder of the market in LEAN's layout.
    source, note
        Where the terms were found; what is uncertain in them.
    unverified
        Names of the fields above that no page and no data at hand confirmed.

    Raises
    ------
    InvalidInput
        If terms are missing, not finite, or contradict each other.
    """

    root: str
    symbol: str
    title: str
    exchange: str
    kind: str
    currency: str
    settlement_currency: str
    multiplier: float
    tick: float
    calendar: str
    hours: TradingHours
    tz: str
    valid_from: dt.date
    version: int = 1
    inverse: bool = False
    spread_tick: float | None = None
    lot: float = 1.0
    expiry_rule: str | None = None
    expiry_time: str | None = None
    months: tuple[int, ...] = ()
    first_month: str = ""
    cash_calendar: str | None = None
    funding: FundingSchedule | None = None
    roll: str | None = None
    lean_market: str = ""
    source: str = ""
    note: str = ""
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("root", "symbol", "title", "exchange", "currency", "settlement_currency", "calendar", "source"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidInput("is empty", field=name, value=value, remedy="give a text")
        for name in ("multiplier", "tick", "lot"):
            object.__setattr__(self, name, check_positive(getattr(self, name), name))
        if self.spread_tick is not None:
            object.__setattr__(self, "spread_tick", check_positive(self.spread_tick, "spread_tick"))
        check_zone(self.tz)
        self._choice("kind", self.kind, KINDS)
        if self.expiry_rule is not None:
            self._choice("expiry_rule", self.expiry_rule, EXPIRY_RULES)
        if self.roll is not None:
            self._choice("roll", self.roll, ROLLS)
        for name in self.unverified:
            if name not in self.__dataclass_fields__:
                raise InvalidInput("no such field", field="unverified", value=name, remedy="name fields of the spec")
        if self.unverified and not self.note:
            raise InvalidInput(
                "what is not verified needs a note", field="note", value=self.unverified, remedy="say what is uncertain"
            )
        if self.version < 1 or not isinstance(self.valid_from, dt.date):
            raise InvalidInput("no valid version", field="version", value=self.version, remedy="count versions from 1")
        expires = self.kind != "perpetual"
        if expires != (
            self.expiry_rule is not None and self.expiry_time is not None and bool(self.months and self.first_month)
        ):
            raise InvalidInput(
                "a perpetual has no expiry, every other kind has a rule, a time and months",
                field="expiry_rule",
                value=self.expiry_rule,
                remedy="give expiry_rule, expiry_time, months and first_month, or kind='perpetual'",
            )
        if any(month not in range(1, 13) for month in self.months) or list(self.months) != sorted(set(self.months)):
            raise InvalidInput("not months in order", field="months", value=self.months, remedy="e.g. (3, 6, 9, 12)")
        if self.funding is not None and expires:
            raise InvalidInput("only a perpetual pays funding", field="funding", remedy="leave it out")
        if self.inverse == (self.currency == self.settlement_currency):
            raise InvalidInput(
                "an inverse contract settles in the coin, a linear one in the currency of its price",
                field="settlement_currency",
                value=self.settlement_currency,
                remedy="check inverse, currency and settlement_currency",
            )

    @staticmethod
    def _choice(field: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            raise InvalidInput("unknown", field=field, value=value, remedy=f"choose among {', '.join(known)}")

    # -- worth ---------------------------------------------------------------------------------------------------------

    def _numbers(self, value: Any, field: str, *, positive: bool = False) -> _Float:
        out = np.asarray(value, dtype=np.float64)
        if not np.isfinite(out).all():
            raise InvalidInput("is not finite", field=field, value=value, remedy="drop or fill such values")
        if positive and (out <= 0).any():
            raise InvalidInput("must be positive", field=field, value=value, remedy="check the price")
        return out

    @staticmethod
    def _plain(value: Any) -> Any:
        return float(value) if np.ndim(value) == 0 else value

    def value(self, contracts: Any, price: Any) -> Any:
        """Return the signed worth of a position in the settlement currency.

        Linear: ``N · m · p`` [currency]. Inverse: ``N · V / p`` [coins].

        Parameters
        ----------
        contracts
            Signed position N [contracts]; number or array.
        price
            Price p [points]; > 0 for inverse contracts.

        Raises
        ------
        InvalidInput
            On values that are not finite, and an inverse price that is not positive.
        """
        n, p = self._numbers(contracts, "contracts"), self._numbers(price, "price", positive=self.inverse)
        return self._plain(n * self.multiplier / p if self.inverse else n * self.multiplier * p)

    def notional(self, contracts: Any, price: Any) -> Any:
        """Return the signed notional in the price's currency: ``N · m · p``, or ``N · V`` if inverse [currency]."""
        n, p = self._numbers(contracts, "contracts"), self._numbers(price, "price", positive=self.inverse)
        return self._plain(n * self.multiplier * (np.ones_like(p) if self.inverse else p))

    def units(self, contracts: Any, price: Any) -> Any:
        """Return units of the underlying with units · price = notional: ``N · m``, or ``N · V / p`` if inverse."""
        n, p = self._numbers(contracts, "contracts"), self._numbers(price, "price", positive=self.inverse)
        return self._plain(n * self.multiplier / p if self.inverse else n * self.multiplier * np.ones_like(p))

    def pnl(self, contracts: Any, entry: Any, exit: Any) -> Any:
        """Return the profit of a signed position from price ``entry`` to ``exit`` in the settlement currency.

        Linear: ``N · m · (p1 − p0)`` [currency]. Inverse: ``N · V · (1/p0 − 1/p1)`` [coins].

        Raises
        ------
        InvalidInput
            On values that are not finite, and inverse prices that are not positive.
        """
        n = self._numbers(contracts, "contracts")
        p0 = self._numbers(entry, "entry", positive=self.inverse)
        p1 = self._numbers(exit, "exit", positive=self.inverse)
        if self.inverse:
            # (p1 − p0)/(p0 p1), not 1/p0 − 1/p1: the difference of two nearly equal reciprocals loses digits.
            return self._plain(n * self.multiplier * ((p1 - p0) / p0 / p1))
        return self._plain(n * self.multiplier * (p1 - p0))

    def contracts_for(self, notional: Any, price: Any, how: Rounding | Literal["exact"] = "nearest") -> Any:
        """Return the signed contracts whose notional is ``notional`` [currency] at ``price``, in whole lots.

        Parameters
        ----------
        notional
            Signed notional in the currency of the price.
        price
            Price [points], > 0.
        how
            'nearest', 'down' (not more than asked for), 'up', or 'exact' for the fraction.

        Raises
        ------
        InvalidInput
            On a price that is not positive, values that are not finite, unknown rounding.
        """
        q, p = self._numbers(notional, "notional"), self._numbers(price, "price", positive=True)
        exact = q / (self.multiplier * (np.ones_like(p) if self.inverse else p))
        return self._plain(exact) if how == "exact" else self.round_contracts(self._plain(exact), how)

    # -- ticks and lots ------------------------------------------------------------------------------------------------

    def round_price(self, price: Number, how: Rounding = "nearest") -> Number:
        """Return ``price`` on the grid of ticks: 'nearest' (a tie goes up), 'down' or 'up'."""
        return round_to_step(price, self.tick, how, field="price")

    def round_spread(self, price: Number, how: Rounding = "nearest") -> Number:
        """Return a calendar spread's price on the grid of spread ticks; signed.

        Raises
        ------
        InvalidInput
            If no calendar spread is listed.
        """
        if self.spread_tick is None:
            raise InvalidInput(
                "no calendar spread is listed", field="root", value=self.root, remedy="trade the two legs"
            )
        return round_to_step(price, self.spread_tick, how, field="price")

    def ticks(self, price: Any) -> Any:
        """Return ``price`` as an integer number of ticks.

        Raises
        ------
        InvalidInput
            If a price does not lie on the grid.
        """
        count = step_counts(price, self.tick, "nearest", "price")
        if not on_step(price, self.tick).all():
            raise InvalidInput(
                f"does not lie on the grid of {self.tick:g}", field="price", value=price, remedy="use round_price first"
            )
        return int(count) if count.ndim == 0 else count

    def price_of(self, ticks: Any) -> Any:
        """Return the price of an integer number of ticks [points]; the inverse of :meth:`ticks`."""
        return self._plain(value_of(np.asarray(ticks, dtype=np.int64), self.tick))

    def tick_value(self, price: float | None = None) -> float:
        """Return what one contract gains over one tick in the settlement currency.

        Linear: ``m · tick`` [currency]. Inverse: ``V · (1/p − 1/(p + tick))`` [coins], so a price is needed.

        Raises
        ------
        InvalidInput
            If the contract is inverse and ``price`` is absent or not positive.
        """
        if not self.inverse:
            return float(self.round_price(self.tick) * self.multiplier)
        if price is None:
            raise InvalidInput(
                "a tick of an inverse contract is worth V·(1/p − 1/(p + tick)): it depends on the price",
                field="price",
                remedy="pass the price",
            )
        return float(self.pnl(1.0, price, price + self.tick))

    def round_contracts(self, contracts: Number, how: Rounding = "nearest") -> Number:
        """Return ``contracts`` in whole lots.

        Parameters
        ----------
        contracts
            Signed [contracts].
        how
            On the size, whatever the sign: 'nearest' (a tie away from 0), 'down' (never more than asked for), 'up'.

        Raises
        ------
        InvalidInput
            On values that are not finite, and unknown rounding.
        """
        size = round_to_step(np.abs(np.asarray(contracts, dtype=np.float64)), self.lot, how, field="contracts")
        # Adding 0.0 turns −0.0 into 0.0.
        out = np.copysign(size, contracts) + 0.0
        return out if isinstance(contracts, np.ndarray) else float(out)

    # -- telling -------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the terms as plain values that JSON can hold."""
        out = asdict(self)
        out["valid_from"] = self.valid_from.isoformat()
        return out

    @property
    def key(self) -> str:
        """Exchange, root and version, e.g. 'cme:ES@2'."""
        return f"{self.exchange}:{self.root}@{self.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of the terms as canonical JSON; texts on sources and notes are left out."""
        terms = {
            name: value
            for name, value in self.to_dict().items()
            if name not in ("source", "note", "title", "unverified")
        }
        text = json.dumps(terms, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """Return one row with the terms, indexed by :attr:`key`."""
        plain = {k: v for k, v in self.to_dict().items() if k not in ("hours", "funding")}
        plain["opens"], plain["closes"] = self.hours.opens, self.hours.closes
        plain["funding"] = ", ".join(self.funding.times) if self.funding else ""
        plain["unverified"] = ", ".join(self.unverified)
        plain["months"] = ", ".join(str(m) for m in self.months)
        return pd.DataFrame([plain], index=pd.Index([self.key], name="contract"))

    def summary(self) -> str:
        """Return the terms as text."""
        unit = f"{self.multiplier:g} {self.currency} " + ("face value" if self.inverse else "per point")
        hours = f"{self.hours.opens}–{self.hours.closes} {self.hours.tz}"
        halts = "".join(f", halt {a}–{b}" for a, b in self.hours.halts)
        lines = [
            f"{self.key}: {self.title}, {self.kind}, from {self.valid_from}",
            f"  {unit}, tick {self.tick:g}"
            + (f", calendar spread {self.spread_tick:g}" if self.spread_tick else "")
            + f", lot {self.lot:g}, settled in {self.settlement_currency}",
            f"  {hours}{halts}; calendar {self.calendar}",
        ]
        if self.expiry_rule:
            lines.append(f"  expires {self.expiry_rule}, {self.expiry_time} {self.tz}; roll: {self.roll}")
        if self.funding:
            lines.append(f"  funding at {', '.join(self.funding.times)} UTC")
        lines.append(f"  source: {self.source}")
        if self.note:
            lines.append(f"  note: {self.note}")
        if self.unverified:
            lines.append(f"  not verified: {', '.join(self.unverified)}")
        return "\n".join(lines)
