"""A simulated venue: latency, rejects, spread, transient impact across instruments, participation and the close.

What happens to an order of ``n`` units sent at time s:

1. It is admitted or throttled, arrives after its latency and is accepted, retried or rejected, as in
   :mod:`crosswind.problems.replay.gateway`. What arrives at one time and is accepted forms one batch.
2. In the slice that contains the arrival it fills up to what is left of ``participation × volume``; the remainder stays
   in flight and arrives again at the start of the next slice.
3. The undisplaced mid ``M`` at the arrival is interpolated linearly between the slice bounds; the half-spread is the
   one quoted at the slice start.
4. With ``u`` the batch's signed notional at M [currency] and one state per exponential mode m, decayed to the arrival,

   ``d = Σ_m K_m (z_m + ½u)`` [return],  price = M·(1 + d) + sign(n)·half-spread,  then ``z_m ← z_m + u``.

   A trade pays half of its own immediate impact, and the matrices K_m [return per currency] move every instrument: the
   batch pays ``u'd``, which is the impact cost of the multistage program for the same trades.
5. At the end of the horizon the close fills all that is in flight, at the last mid, without limit of participation or
   rate, without rejects, and at ``close_spread_multiple`` half-spreads; a venue without a close cancels it.

The recorded mids are never changed: results are marked at the undisplaced mid, or own impact would be credited as gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from crosswind.problems.replay.gateway import MAX_RETRIES, Gateway
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.solvers.errors import InvalidInput, LimitBreach

__all__ = ["Arrival", "DecayMode", "Execution", "SimulatedVenue", "VenueSession"]


class DecayMode(Protocol):
    """One exponential mode of impact; :class:`crosswind.optim.program.ImpactMode` is one."""

    @property
    def rate_per_s(self) -> float:
        """Decay rate [1/s], at least 0."""

    @property
    def matrix(self) -> Any:
        """Symmetric PSD matrix K, (n, n) [return per currency]."""


@dataclass(frozen=True)
class Arrival:
    """An order (or what is left of it) at the venue: its id, instrument column and signed units."""

    order_id: int
    column: int
    units: float


@dataclass(frozen=True)
class Execution:
    """What the venue did with one arrival: units filled and their price, in the terms of :class:`Fill`."""

    order_id: int
    column: int
    units: float
    price: float
    mid: float
    half_spread: float
    displacement_by: tuple[float, ...]
    fee: float


@dataclass(frozen=True)
class SimulatedVenue:
    """Rules of the simulated venue (see the module's text).

    Parameters
    ----------
    latency_s
        Time from decision to arrival [s], >= 0; one number or by instrument (0 where not named).
    modes
        Impact modes; empty for a venue without impact.
    mode_instruments
        Names of the modes' rows; None: the market's instruments in order. Others in the market have no impact.
    participation
        Greatest share of a slice's volume, in (0, 1]; None: no limit. One number or by instrument.
    fee_per_unit
        Charge per unit traded [currency], >= 0; one number or by instrument (0 where not named).
    close
        Whether the end of the horizon fills all that is in flight, and gives policies a last call.
    close_spread_multiple
        Half-spreads paid at the close, >= 1 to make it a cost.
    latency_jitter_s
        Mean and standard deviation of an exponential addition to the latency, drawn for each order [s], >= 0; one
        number or by instrument.
    reject_probability
        Probability that an attempt of an order is refused, in [0, 1]; one number or by instrument.
    retry_delay_s
        Time from a refused attempt to the arrival of the next [s]; > 0 where there are retries.
    max_retries
        Greatest number of retries of an order, in 0..14; then it ends "rejected".
    max_orders_per_minute
        Greatest number of new orders of one instrument within 60 s, >= 1; None: no limit. One number or by instrument
        (no limit where not named). More are refused at once, as "throttled".
    seed
        Of the draws of jitter and rejects, in 0..2⁶⁴−1.

    Raises
    ------
    InvalidInput
        For negative or non-finite numbers, retries without a delay, matrices that are not symmetric PSD of one shape;
        at open: unknown names.
    """

    latency_s: float | Mapping[str, float] = 0.0
    modes: Sequence[DecayMode] = ()
    mode_instruments: tuple[str, ...] | None = None
    participation: float | Mapping[str, float] | None = None
    fee_per_unit: float | Mapping[str, float] = 0.0
    close: bool = True
    close_spread_multiple: float = 1.0
    latency_jitter_s: float | Mapping[str, float] = 0.0
    reject_probability: float | Mapping[str, float] = 0.0
    retry_delay_s: float = 0.0
    max_retries: int = 0
    max_orders_per_minute: float | Mapping[str, float] | None = None
    seed: int = 0
    _rates: FloatArray = field(init=False, repr=False, compare=False)
    _matrices: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, low, high, given in (
            ("latency_s", 0.0, math.inf, self.latency_s),
            ("fee_per_unit", 0.0, math.inf, self.fee_per_unit),
            ("participation", 0.0, 1.0, 1.0 if self.participation is None else self.participation),
            ("close_spread_multiple", 0.0, math.inf, self.close_spread_multiple),
            ("latency_jitter_s", 0.0, math.inf, self.latency_jitter_s),
            ("reject_probability", 0.0, 1.0, self.reject_probability),
            ("retry_delay_s", 0.0, math.inf, self.retry_delay_s),
            ("max_retries", 0.0, float(MAX_RETRIES), self.max_retries),
            (
                "max_orders_per_minute",
                1.0,
                math.inf,
                1.0 if self.max_orders_per_minute is None else self.max_orders_per_minute,
            ),
            ("seed", 0.0, 2.0**64 - 2049.0, self.seed),
        ):
            for value in given.values() if isinstance(given, Mapping) else (given,):
                if not (math.isfinite(value) and low <= value <= high) or (name == "participation" and value == 0.0):
                    raise InvalidInput(
                        f"must lie within {low:g}..{high:g} and be finite",
                        field=name,
                        value=value,
                        remedy="give it in the unit of its name",
                    )
        for name, number in (("max_retries", self.max_retries), ("seed", self.seed)):
            if number != int(number):
                raise InvalidInput("must be a whole number", field=name, value=number, remedy="round it")
            object.__setattr__(self, name, int(number))
        if self.max_retries > 0 and round(self.retry_delay_s * 1e9) < 1:
            raise InvalidInput(
                "a retry needs a delay", field="retry_delay_s", value=self.retry_delay_s, remedy="give it in seconds"
            )
        object.__setattr__(self, "modes", tuple(self.modes))
        object.__setattr__(self, "_rates", np.array([float(mode.rate_per_s) for mode in self.modes]))
        object.__setattr__(self, "_matrices", _matrices(self.modes))
        if not np.isfinite(self._rates).all() or (self._rates < 0).any():
            raise InvalidInput(
                "rates must be zero or more", field="modes", value=self._rates, remedy="use rates in 1/s"
            )
        n = self._matrices.shape[1]
        if self.modes and self.mode_instruments is not None and len(self.mode_instruments) != n:
            raise InvalidInput(
                f"the matrices have {n} rows", field="mode_instruments", value=self.mode_instruments, remedy="name each"
            )

    def without_impact(self) -> SimulatedVenue:
        """Return the same venue with no impact at all: the zero row that every comparison should show."""
        return replace(self, modes=(), mode_instruments=None)

    def gateway(self, market: ReplayMarket) -> Gateway:
        """Return a fresh gateway to this venue; InvalidInput when the venue names an unknown instrument."""
        limit = math.inf if self.max_orders_per_minute is None else self.max_orders_per_minute
        return Gateway(
            market.instruments,
            market.slices,
            _ns(_by_instrument(self.latency_s, market, 0.0, "latency_s")),
            _ns(_by_instrument(self.latency_jitter_s, market, 0.0, "latency_jitter_s")),
            _by_instrument(self.reject_probability, market, 0.0, "reject_probability"),
            _by_instrument(limit, market, math.inf, "max_orders_per_minute"),
            round(self.retry_delay_s * 1e9),
            self.max_retries,
            self.seed,
        )

    def open(self, market: ReplayMarket) -> VenueSession:
        """Return a fresh session on ``market``; InvalidInput when the venue names an unknown instrument."""
        return VenueSession(self, market)


class VenueSession:
    """State of a venue during one replay: impact states and the volume used in the present slice."""

    def __init__(self, venue: SimulatedVenue, market: ReplayMarket) -> None:
        n = len(market.instruments)
        self.venue, self.market = venue, market
        self.gateway = venue.gateway(market)
        self.fee = _by_instrument(venue.fee_per_unit, market, 0.0, "fee_per_unit")
        share = math.inf if venue.participation is None else venue.participation
        self.share = _by_instrument(share, market, math.inf, "participation")
        self.rates: FloatArray = venue._rates
        self.matrices = np.zeros((len(venue.modes), n, n))
        if venue.modes:
            names = market.instruments if venue.mode_instruments is None else venue.mode_instruments
            if len(names) != venue._matrices.shape[1]:
                raise InvalidInput(
                    f"the impact matrices have {venue._matrices.shape[1]} rows, the market {n} instruments",
                    field="modes",
                    value=market.instruments,
                    remedy="name the rows by mode_instruments",
                )
            columns = [market.position_of(name) for name in names]
            self.matrices[np.ix_(range(len(venue.modes)), columns, columns)] = venue._matrices
        self.state = np.zeros((len(venue.modes), n))
        self._time_ns = int(market.times_ns[0])
        self._slice = -1
        self._used = np.zeros(n)

    def displacement(self, time_ns: int) -> FloatArray:
        """Return the displacement of every mid at ``time_ns`` by past trades, (n,) [return]."""
        moved: FloatArray = np.einsum("mij,mj->i", self.matrices, self._decayed(time_ns))
        return moved

    def _decayed(self, time_ns: int) -> FloatArray:
        decay: FloatArray = np.exp(-self.rates * ((time_ns - self._time_ns) / 1e9))
        decayed: FloatArray = self.state * decay[:, None]
        return decayed

    def execute(self, batch: Sequence[Arrival], time_ns: int, forced: bool = False) -> list[Execution]:
        """Fill what can be filled of a batch that arrives at one time.

        Parameters
        ----------
        batch
            Arrivals in the order of their sequence: earlier ones use the volume first.
        time_ns
            Arrival time [ns], not before that of the last call.
        forced
            True at the close: no participation limit, and the close's multiple of the half-spread.

        Returns
        -------
        list of Execution
            One per arrival of which anything filled.

        Raises
        ------
        LimitBreach
            When the displacement would make a price negative, which means that the matrices have the wrong unit.
        """
        market, k = self.market, self.market.slice_of(time_ns)
        if k != self._slice:
            self._slice, self._used = k, np.zeros_like(self._used)
        filled = [(arrival, self._available(arrival, k, forced)) for arrival in batch]
        filled = [(arrival, units) for arrival, units in filled if units != 0.0]
        mid = market.mid_at(time_ns)
        half = market.half_spread[k] * (self.venue.close_spread_multiple if forced else 1.0)
        traded = np.zeros(len(market.instruments))
        for arrival, units in filled:
            traded[arrival.column] += units
        notional = traded * market.multiplier * mid
        self.state, self._time_ns = self._decayed(time_ns), time_ns
        # row i, column j: what the account's trading in j does to the price of i
        by = np.einsum("mij,mj->ij", self.matrices, self.state + 0.5 * notional)
        self.state = self.state + notional
        out = []
        for arrival, units in filled:
            i = arrival.column
            price = float(mid[i] * (1.0 + math.fsum(by[i])) + math.copysign(half[i], units))
            if not price > 0.0:
                raise LimitBreach(
                    "impact would move the price to zero or below",
                    field=f"impact on {market.instruments[i]}",
                    value=price,
                    remedy="give the impact matrices in return per currency",
                )
            fee = float(self.fee[i] * abs(units))
            out.append(
                Execution(arrival.order_id, i, units, price, float(mid[i]), float(half[i]), tuple(by[i].tolist()), fee)
            )
        return out

    def _available(self, arrival: Arrival, k: int, forced: bool) -> float:
        i, limit = arrival.column, self.share[arrival.column]
        if forced or not math.isfinite(limit):
            return arrival.units
        room = max(0.0, limit * self.market.volume[k, i] - self._used[i])
        units = math.copysign(min(abs(arrival.units), room), arrival.units) if room > 0.0 else 0.0
        self._used[i] += abs(units)
        return float(units)


def _matrices(modes: Sequence[DecayMode]) -> FloatArray:
    if not modes:
        return np.zeros((0, 0, 0))
    arrays = [np.asarray(mode.matrix, dtype=np.float64) for mode in modes]
    shape = arrays[0].shape
    if len(shape) != 2 or shape[0] != shape[1] or any(array.shape != shape for array in arrays):
        raise InvalidInput(
            "the matrices must be square and of one size",
            field="modes",
            value=[array.shape for array in arrays],
            remedy="embed them in one set of instruments",
        )
    for array in arrays:
        scale = float(np.abs(array).max(initial=0.0))
        if not np.isfinite(array).all() or np.abs(array - array.T).max(initial=0.0) > 1e-12 * scale:
            raise InvalidInput(
                "a matrix must be finite and symmetric", field="modes", value=scale, remedy="symmetrise it"
            )
        lowest = float(np.linalg.eigvalsh(array)[0])
        if lowest < -1e-9 * scale:
            raise InvalidInput(
                "a matrix must be positive semi-definite, or round trips make money",
                field="modes",
                value=lowest,
                remedy="project it or fit it under the constraint",
            )
    return np.stack([0.5 * (array + array.T) for array in arrays])


def _ns(seconds: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.rint(seconds * 1e9).astype(np.int64)


def _by_instrument(
    given: float | Mapping[str, float], market: ReplayMarket, default: float, field_name: str
) -> FloatArray:
    if not isinstance(given, Mapping):
        return np.full(len(market.instruments), float(given))
    unknown = sorted(set(given) - set(market.instruments))
    if unknown:
        raise InvalidInput(
            "unknown instrument", field=field_name, value=unknown, remedy=f"use names of {market.instruments}"
        )
    return np.array([float(given.get(name, default)) for name in market.instruments])
