"""Typed inputs of hedge sizing: the spot that is held and the contracts that may hedge it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_utc, check_names, check_positive
from crosswind.problems.market.contracts import ContractSpec, contract, expiry_of
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["HedgeInstrument", "SpotBook", "listed"]

FloatArray = npt.NDArray[np.float64]


def numbers(given: Any, field: str, names: tuple[str, ...] | None = None) -> pd.Series[float]:
    """Return a Series or mapping by name as finite floats, in the order of ``names``.

    Raises
    ------
    InvalidInput
        On what is neither, doubled names, text and values that are not finite.
    DataGap
        Where a name has no value.
    """
    if not isinstance(given, pd.Series | Mapping):
        raise InvalidInput("not by name", field=field, value=type(given).__name__, remedy="pass a Series or a dict")
    series = pd.Series(given, dtype=object)
    known = check_names(series.index, field)
    wanted = known if names is None else names
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DataGap("no value for a name", field=field, value=missing, remedy="estimate it or drop the name")
    try:
        values = series.reindex(list(wanted)).to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("holds no numbers", field=field, value=error, remedy="use pd.to_numeric first") from error
    bad = ~np.isfinite(values)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInput(
            f"is not finite for {wanted[at]}", field=field, value=float(values[at]), remedy="fill it or drop the name"
        )
    return pd.Series(values, index=list(wanted), name=field)


def number(value: Any, field: str, low: float = -math.inf, *, above: bool = False) -> float:
    """Return ``value`` as a finite float of at least (``above``: more than) ``low``, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidInput("not a number", field=field, value=value, remedy="pass a number")
    out = float(value)
    if not math.isfinite(out) or out < low or (above and out == low):
        sense = "" if low == -math.inf else f" and {'more than' if above else 'at least'} {low:g}"
        raise InvalidInput(f"must be finite{sense}", field=field, value=value, remedy="check the value and its unit")
    return out


@dataclass(frozen=True, eq=False, repr=False)
class SpotBook(Shown):
    """What is held.

    Parameters
    ----------
    units
        Name → signed units, long positive (shares, coins).
    prices
        Name → price, > 0 [currency per unit].
    currency
        Currency of the prices; None: not checked against the contracts'.

    Raises
    ------
    InvalidInput
        On doubled names, values that are not finite, a price that is not positive, a book without any value.
    DataGap
        Where a name has no price.
    """

    units: pd.Series[float]
    prices: pd.Series[float]
    currency: str | None = None

    def __post_init__(self) -> None:
        units = numbers(self.units, "units")
        prices = numbers(self.prices, "prices", tuple(units.index))
        if (prices <= 0.0).any():
            name = str(prices.index[int(np.argmax(prices.to_numpy() <= 0.0))])
            raise InvalidInput(
                f"must be positive for {name}", field="prices", value=float(prices[name]), remedy="check the quote"
            )
        if not units.to_numpy().any():
            raise InvalidInput("nothing is held", field="units", value=0.0, remedy="there is nothing to hedge")
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "prices", prices)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the lines, (N,)."""
        return tuple(str(name) for name in self.units.index)

    @property
    def worth(self) -> pd.Series[float]:
        """Signed value by name, units · price [currency]."""
        return (self.units * self.prices).rename("value")

    @property
    def gross(self) -> float:
        """Σ|value| [currency]."""
        return float(self.worth.abs().sum())

    def to_frame(self) -> pd.DataFrame:
        """Return units, price and value [currency], one row per line."""
        return pd.DataFrame({"units": self.units, "price": self.prices, "value": self.worth}).rename_axis("line")

    def summary(self) -> str:
        """Return the value of the book and its lines."""
        unit = "" if self.currency is None else f" {self.currency}"
        head = f"{len(self.names)} lines worth {float(self.worth.sum()):,.0f}{unit} net, {self.gross:,.0f} gross"
        return f"{head}\n{self.to_frame().to_string(float_format='{:,.6g}'.format)}"


@dataclass(frozen=True, eq=False, repr=False)
class HedgeInstrument(Shown):
    """One contract that may be traded as a hedge.

    Parameters
    ----------
    name
        Label in results.
    spec
        Its terms: multiplier, lot, inverse or not, funding times.
    price
        Futures price F, > 0 [points].
    loadings
        Factor → relative move of the future per relative move of the factor; 1 for the index that it is written on.
    spot
        Price S of what it is written on, > 0 [points]; None: F, so that the basis is zero. Basis b = F − S.
    basis_vol
        Standard deviation of the daily change of the basis [fraction of the price], >= 0.
    half_spread
        Half of the quoted spread [fraction of the price], >= 0.
    fee
        Fee of a trade [fraction of the notional], >= 0.
    initial, maintenance
        Margin [fraction of the notional], 0 < maintenance <= initial; None: unknown.
    expires
        When it is settled (tz-aware); None for a perpetual. The expiry of a listed month comes from :func:`listed`.
    lot
        Step of a position [contracts]; None: the exchange's smallest.

    Raises
    ------
    InvalidInput
        For prices, margins and costs out of range, a loading that is not finite, all loadings zero, a naive expiry, and
        a lot that is not a multiple of the exchange's.
    """

    name: str
    spec: ContractSpec
    price: float
    loadings: Mapping[str, float]
    spot: float | None = None
    basis_vol: float = 0.0
    half_spread: float = 0.0
    fee: float = 0.0
    initial: float | None = None
    maintenance: float | None = None
    expires: pd.Timestamp | None = None
    lot: float | None = field(default=None)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput("no name", field="name", value=self.name, remedy="name the instrument")
        if not isinstance(self.spec, ContractSpec):
            raise InvalidInput("not a ContractSpec", field="spec", value=self.spec, remedy="use contract('ES')")
        put(self, "price", check_positive(self.price, f"price of {self.name}"))
        put(self, "spot", self.price if self.spot is None else check_positive(self.spot, f"spot of {self.name}"))
        loadings = numbers(self.loadings, f"loadings of {self.name}")
        if not loadings.to_numpy().any():
            raise InvalidInput("loads on nothing", field="loadings", value=self.name, remedy="use 1.0 on its index")
        put(self, "loadings", MappingProxyType({str(k): float(v) for k, v in loadings.items()}))
        for name in ("basis_vol", "half_spread", "fee"):
            put(self, name, number(getattr(self, name), f"{name} of {self.name}", 0.0))
        for name in ("initial", "maintenance"):
            if getattr(self, name) is not None:
                put(self, name, number(getattr(self, name), f"{name} of {self.name}", 0.0, above=True))
        if self.initial is not None and self.maintenance is not None and self.maintenance > self.initial:
            raise InvalidInput(
                "exceeds the initial margin", field="maintenance", value=self.maintenance, remedy="exchange the two"
            )
        if self.expires is not None:
            put(self, "expires", as_utc(self.expires, f"expires of {self.name}"))
            if self.spec.kind == "perpetual":
                raise InvalidInput("a perpetual has no expiry", field="expires", value=self.expires, remedy="use None")
        lot = self.spec.lot if self.lot is None else check_positive(self.lot, f"lot of {self.name}")
        if abs(lot / self.spec.lot - round(lot / self.spec.lot)) > 1e-9 or lot < self.spec.lot * (1.0 - 1e-9):
            raise InvalidInput(
                f"is no multiple of the exchange's lot of {self.spec.lot:g}", field="lot", value=lot, remedy="use None"
            )
        put(self, "lot", lot)

    @property
    def step(self) -> float:
        """Step of a position [contracts]."""
        return float(self.spec.lot if self.lot is None else self.lot)

    @property
    def per_contract(self) -> float:
        """Notional of one contract at F [currency]: m·F, or the face value of an inverse contract."""
        return float(self.spec.notional(1.0, self.price))

    @property
    def basis(self) -> float:
        """Basis F − S [points]; positive: contango."""
        return self.price - (self.price if self.spot is None else float(self.spot))

    @property
    def trade_cost(self) -> float:
        """Cost of trading one contract once, half-spread and fee [currency]."""
        return (self.half_spread + self.fee) * self.per_contract

    def with_(self, **changes: Any) -> HedgeInstrument:
        """Return a copy with other fields."""
        return replace(self, **changes)

    def to_frame(self) -> pd.DataFrame:
        """Return one row with what the sizing uses."""
        row = {
            "contract": self.spec.key,
            "price": self.price,
            "spot": self.spot,
            "notional per contract": self.per_contract,
            "lot": self.step,
            "basis_vol": self.basis_vol,
            "cost per contract": self.trade_cost,
        }
        return pd.DataFrame([row], index=pd.Index([self.name], name="instrument"))

    def summary(self) -> str:
        """Return one line: contract, price, basis and what it loads on."""
        loads = ", ".join(f"{value:g} {factor}" for factor, value in self.loadings.items())
        return (
            f"{self.name}: {self.spec.key} at {self.price:,.8g}, basis {self.basis:+,.6g}, one contract is "
            f"{self.per_contract:,.8g} {self.spec.currency} on {loads}, lot {self.step:g}"
        )


def listed(
    root: str, price: float, factor: str | None = None, *, month: str | None = None, on: Any = None, **terms: Any
) -> HedgeInstrument:
    """Return a contract of the table as a hedge instrument.

    Parameters
    ----------
    root
        'ES', 'binance:BTCUSDT', …, as for :func:`crosswind.problems.market.contracts.contract`.
    price
        Its price [points].
    factor
        What it loads on with 1; default: the coin of a crypto contract ('BTC'), else the root.
    month
        'YYYYMM' of a contract that expires; its expiry is then known.
    on
        Trading day whose terms hold; default the latest.
    **terms
        Further fields of :class:`HedgeInstrument`.

    Returns
    -------
    HedgeInstrument
        Named by its root, and the month where there is one.

    Raises
    ------
    InvalidInput
        For an unknown contract, or values out of range.
    DataGap
        For a day or month that the table does not know.
    """
    spec = contract(root, on)
    if month is not None:
        if spec.kind == "perpetual":
            raise InvalidInput("a perpetual has no month", field="month", value=month, remedy="leave it out")
        terms.setdefault("expires", expiry_of(root, month).at)
    coin = spec.root[:3] if spec.calendar == "24/7" else spec.root
    name = terms.pop("name", spec.root if month is None else f"{spec.root} {month}")
    loadings = terms.pop("loadings", {coin if factor is None else factor: 1.0})
    return HedgeInstrument(name, spec, price, loadings, **terms)
