"""What a market data source delivers: events, futures and, if it was simulated, the truth behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.funding import FundingRates
from crosswind.problems.market.futures import Bars, FuturesQuotes
from crosswind.problems.market.orders import ChildFills, ParentOrders
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market.simulator.desk import DeskOrders
    from crosswind.problems.market.spread_quotes import SpreadQuotes

__all__ = [
    "Bars",
    "ChildFills",
    "FundingRates",
    "FuturesQuotes",
    "MarketData",
    "MarketEvents",
    "ParentOrders",
    "ReadReport",
    "SimulatedTruth",
]

_PARTS = ("futures", "bars", "funding", "spreads")
_EVENTS = ("regime_path", "jumps", "basis_jumps", "break_windows", "power_law", "roll_mid", "perpetual_demand")


def _array(value: Any, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)
    if array.shape != shape:
        raise InvalidInput(f"its shape is not {shape}", field=name, value=array.shape, remedy="check names and rates")
    if not np.isfinite(array).all():
        raise InvalidInput("holds NaN or inf", field=name, remedy="give finite numbers")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedTruth(Shown):
    """The parameters that a simulated market was drawn from.

    The price impact of a unit traded h seconds ago is G(h) = Σ_m exp(−β_m h) K_m.

    Parameters
    ----------
    rates_per_s
        β_m, (M,), ≥ 0 [1/s].
    matrices
        K_m, (M, N, N), symmetric [return per currency].
    sectors
        Name → sector (N,); its index gives the names in order.
    betas
        Name → beta to the index behind the simulated future (N,).
    covariance
        Covariance of bucket returns per second, the impact of flow included, (N, N).
    seed
        Seed of the generator.
    parameters
        All arguments of the simulator, defaults included, and what it drew from them (loadings, sizes, index shares).

    Raises
    ------
    InvalidInput
        On mismatched shapes, NaN or inf, asymmetric matrices, negative rates.
    """

    rates_per_s: npt.NDArray[np.float64]
    matrices: npt.NDArray[np.float64]
    sectors: pd.Series[Any]
    betas: pd.Series[Any]
    covariance: npt.NDArray[np.float64]
    seed: int
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        n, m = len(self.sectors), len(np.atleast_1d(self.rates_per_s))
        set_(self, "rates_per_s", _array(np.atleast_1d(self.rates_per_s), "rates_per_s", (m,)))
        set_(self, "matrices", _array(self.matrices, "matrices", (m, n, n)))
        set_(self, "covariance", _array(self.covariance, "covariance", (n, n)))
        if (self.rates_per_s < 0).any():
            raise InvalidInput(
                "a rate is negative",
                field="rates_per_s",
                value=float(self.rates_per_s.min()),
                remedy="impact must decay",
            )
        for name, stack in (("matrices", self.matrices), ("covariance", self.covariance[None])):
            if np.abs(stack - stack.transpose(0, 2, 1)).max(initial=0.0) > 1e-9 * np.abs(stack).max(initial=0.0):
                raise InvalidInput("not symmetric", field=name, remedy="symmetrise with (A + A') / 2")
        if not self.betas.index.equals(self.sectors.index):
            raise InvalidInput(
                "its names differ from those of sectors", field="betas", value=list(self.betas.index), remedy="reindex"
            )
        set_(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy does not pickle.
        values = (self.rates_per_s, self.matrices, self.sectors, self.betas, self.covariance, self.seed)
        return (type(self), (*values, dict(self.parameters)))

    @property
    def names(self) -> tuple[str, ...]:
        """The N names."""
        return tuple(self.sectors.index)

    def summary(self) -> str:
        """Return a few lines: the world or none, the kernel with its half-lives, betas, and what else was drawn."""
        half = [f"{np.log(2) / rate:.4g} s" if rate > 0 else "permanent" for rate in self.rates_per_s]
        own = 1e10 * np.diagonal(self.matrices, axis1=1, axis2=2).sum(axis=0)  # at once, per million [bps]
        kernel = f"half-lives {', '.join(half)}; self-impact at once {own.min():.3g} to {own.max():.3g} bps per million"
        drawn = [k for k in _EVENTS if k in self.parameters]
        lines = [
            f"truth of {self.parameters.get('world', 'a market without a world')}, seed {self.seed}: "
            f"{len(self.names)} names in {self.sectors.nunique()} sectors",
            f"  {kernel if self.matrices.any() else 'no impact'}",
            f"  betas {self.betas.min():.2f} to {self.betas.max():.2f}",
            *([f"  in .parameters: {', '.join(drawn)}"] if drawn else []),
        ]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class MarketData(Shown):
    """All that one source delivered.

    Parameters
    ----------
    buckets
        The synchronised buckets; None where the source has no order flow (bars, funding).
    futures
        Root symbol → quotes of its expiries.
    truth
        The parameters behind a simulated market, else None.
    source
        The spec it was read from.
    notes
        What the reader repaired or left out, with counts.
    bars
        Instrument → its bars, where the source delivers bars.
    funding
        Perpetual → the funding rates charged at its settlements.
    report
        What the reader understood and what it refused row by row, None for simulated data.
    spreads
        Root symbol, or 'root near far', → quotes of an exchange-listed calendar spread.
    desk
        The desk's parent orders and what it really did, where a simulated world has them.

    Raises
    ------
    InvalidInput
        On parts of another type, a root that differs from its key, or a truth of other names.
    """

    buckets: MarketEvents | None
    futures: dict[str, FuturesQuotes] = field(default_factory=dict)
    truth: SimulatedTruth | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    bars: dict[str, Bars] = field(default_factory=dict)
    funding: dict[str, FundingRates] = field(default_factory=dict)
    report: ReadReport | None = None
    spreads: dict[str, SpreadQuotes] = field(default_factory=dict)
    desk: DeskOrders | None = None

    def __post_init__(self) -> None:
        if self.buckets is not None and not isinstance(self.buckets, MarketEvents):
            raise InvalidInput(
                "not MarketEvents",
                field="buckets",
                value=type(self.buckets).__name__,
                remedy="build MarketEvents first",
            )
        if self.buckets is None and not any(getattr(self, name) for name in _PARTS):
            raise InvalidInput("there is nothing in it", field="buckets", value=None, remedy="give events or bars")
        for root, quotes in self.futures.items():
            if not isinstance(quotes, FuturesQuotes) or quotes.root != root:
                raise InvalidInput(
                    "the key is not the root of FuturesQuotes", field="futures", value=root, remedy="key by .root"
                )
        if self.truth is not None and (self.buckets is None or self.truth.names != self.buckets.names):
            raise InvalidInput(
                "its names differ from those of the events",
                field="truth",
                value=self.truth.names,
                remedy="keep truth and events in the same order of names",
            )
        for name in _PARTS:
            object.__setattr__(self, name, dict(getattr(self, name)))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def events(self) -> MarketEvents:
        """The synchronised buckets of flow, quotes and volume.

        Raises
        ------
        DataGap
            If the source has no order flow.
        """
        if self.buckets is None:
            have = [name for name in _PARTS if getattr(self, name)]
            raise DataGap(
                "the source has no order flow, so there are no events",
                field="events",
                value=self.source or None,
                remedy=f"use .{' or .'.join(have)}, or read trades and quotes",
            )
        return self.buckets

    def to_parquet(self, folder: str | Path) -> Path:
        """Write events, futures and truth below ``folder``, atomically; :func:`read` takes ``parquet:folder``."""
        from crosswind.problems.market.store import write_market

        return write_market(self, Path(folder))

    @classmethod
    def from_parquet(cls, folder: str | Path) -> MarketData:
        """Read what :meth:`to_parquet` wrote; the round trip is exact.

        Raises
        ------
        DataGap
            If a file is absent or unreadable.
        """
        from crosswind.problems.market.store import read_market

        return read_market(Path(folder))

    def __repr__(self) -> str:
        held = [repr(self.buckets)] if self.buckets is not None else []
        held += [f"{len(getattr(self, k))} {k}" for k in _PARTS if getattr(self, k)]
        held += [] if self.desk is None else [f"{len(self.desk.orders)} desk orders"]
        return f"MarketData({self.source or 'unnamed'}: {', '.join(held)})"

    def summary(self) -> str:
        """Return a few lines on events, futures and the reader's notes."""
        parts = [f"source: {self.source or 'unnamed'}"]
        parts += [] if self.buckets is None else [self.buckets.summary()]
        parts += [quotes.summary() for quotes in self.futures.values()]
        parts += [f"{name}: {bars.summary()}" for name, bars in self.bars.items()]
        parts += [rates.summary() for rates in self.funding.values()]
        parts += [spread.summary() for spread in self.spreads.values()]
        parts += [] if self.desk is None else [self.desk.summary()]
        parts += [f"note: {note}" for note in self.notes]
        return "\n".join(parts)
