"""Simulated roll days of a contract in the table: its ticks, its worth per point, books scaled from those of ES."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_date
from crosswind.problems.market.contracts import ContractSpec, contract, expiry_of
from crosswind.problems.market.contracts.clocks import utc_ns
from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.roll.model import RollMarket, RollOrder
from crosswind.problems.roll.replay.episodes import RollEpisode, market_of_day, stressed
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["RollContract", "days_to_expiry", "roll_contract", "roll_instant", "simulated_roll_day"]

# Prices at which a roll is simulated where none is given [points]: assumptions, not quotes.
_LEVELS = {
    "ES": 1800.0, "MES": 1800.0, "NQ": 3500.0, "MNQ": 3500.0, "RTY": 1150.0, "M2K": 1150.0, "YM": 16000.0,
    "MYM": 16000.0, "FESX": 3000.0, "BTCUSDT_QUARTER": 60000.0, "ETHUSDT_QUARTER": 3000.0,
}  # fmt: skip
_CRYPTO_FEE = 2e-4  # of the notional of a contract's leg


@dataclass(frozen=True)
class RollContract:
    """What a roll of a contract is counted in.

    Parameters
    ----------
    spec
        Terms in force.
    parameters
        Of the simulated books. Counts of contracts are those of ES; prices are scaled with the level, ticks and worth
        per point are the contract's.
    unit
        What one contract of an order is: the exchange's contract, or its smallest lot where that is a part of one.
    fee
        Assumed fee of one contract of one leg [currency].
    """

    spec: ContractSpec
    parameters: RollParameters
    unit: str
    fee: float

    @property
    def currency(self) -> str:
        """Of every cost."""
        return self.spec.settlement_currency

    @property
    def name(self) -> str:
        """Exchange and root."""
        return f"{self.spec.exchange}:{self.spec.root}"


def roll_contract(root: str, on: Any = None, level: float | None = None) -> RollContract:
    """Return how a contract's roll is simulated.

    Standard deviations of prices and the flow's impact are those of ES times ``level / 1800``; the quoted width is
    that of ES relative to the price, in whole ticks, at least one. Where the table lists no calendar spread, its tick
    is that of the legs. Where the exchange trades parts of a contract, one contract of an order is its smallest lot.

    Parameters
    ----------
    root
        'ES', 'NQ', 'binance:BTCUSDT_QUARTER', ….
    on
        Trading day; default the latest terms.
    level
        Price [points]; default a declared one.

    Raises
    ------
    InvalidInput
        For an unknown root; a perpetual, which does not expire; an inverse contract, whose worth per point changes with
        the price, so that costs in its coin are not price times a constant; a level that is missing or not positive.
    """
    spec = contract(root, on)
    if spec.inverse:
        raise InvalidInput(
            f"is inverse: a contract of {spec.multiplier:g} {spec.currency} pays in {spec.settlement_currency}, and a "
            "point of a price P is worth multiplier / P², not a constant",
            field="contract",
            value=root,
            remedy="roll the linear one, e.g. binance:BTCUSDT_QUARTER",
        )
    if not spec.expiry_rule:
        raise InvalidInput("does not expire: there is nothing to roll", field="contract", value=root, remedy="e.g. ES")
    price = _LEVELS.get(spec.root) if level is None else level
    if price is None or not (np.isfinite(price) and price > 0.0):
        raise InvalidInput(
            "no positive price to simulate at", field="level", value=level, remedy="pass level= in points, e.g. 1800"
        )
    base = RollParameters()
    scale = price / base.index_level
    tick = spec.tick if spec.spread_tick is None else spec.spread_tick
    part = 1.0 if spec.lot >= 1.0 else spec.lot
    multiplier = spec.multiplier * part
    parameters = replace(
        base,
        tick=tick,
        outright_tick=spec.tick,
        multiplier=multiplier,
        index_level=price,
        noise_vol_points=base.noise_vol_points * scale,
        jump_vol_points=base.jump_vol_points * scale,
        flow_impact_points=base.flow_impact_points * scale,
        width_ticks=max(1.0, float(round(base.width_ticks * base.tick * scale / tick))),
    )
    crypto = spec.kind == "delivery future"
    unit = f"1 contract of {spec.root}" if part == 1.0 else f"{part:g} contracts of {spec.root}, its smallest lot"
    return RollContract(spec, parameters, unit, _CRYPTO_FEE * price * multiplier if crypto else 1.2)


def simulated_roll_day(
    terms: RollContract,
    day: Any,
    start: pd.Timestamp | str,
    cutoff: pd.Timestamp | str,
    quantity: int,
    *,
    seed: int = 0,
    stress: str = "calm",
    bar_s: float = 10.0,
    legs: tuple[str, str] | None = None,
    max_naked: int = 0,
    carry_cap: int = 0,
) -> RollEpisode:
    """Return an order on one simulated day of a contract's roll.

    Parameters
    ----------
    terms
        Of :func:`roll_contract`.
    day
        Date of a session, a business day.
    start, cutoff
        Tz-aware, or wall time 'HH:MM' of the contract's exchange on that day.
    quantity
        > 0 buys far and sells near.
    seed, stress, bar_s
        Of the day: seed of its draws, 'calm' or a stress, length of a bar [s].
    legs
        Near and far 'YYYYMM'; default the pair that the day rolls.
    max_naked, carry_cap
        Of the order.

    Raises
    ------
    InvalidInput
        For a day without a session, a wall time that the day skips or repeats, a cutoff that is not after the start, a
        near leg that has expired by then, legs that the day does not roll.
    DataGap
        For an order outside the session.
    """
    date, spec = as_date(day, "day"), terms.spec
    times = [roll_instant(value, date, spec.tz, name) for name, value in (("start", start), ("cutoff", cutoff))]
    order = RollOrder(f"{spec.root} {date}", quantity, times[0], times[1], max_naked, carry_cap)
    if legs is not None:
        _check_legs(terms, legs, order)
    parameters = stressed(replace(terms.parameters, bar_s=bar_s), stress)
    session = simulate_roll(parameters, days=1, seed=seed, start=date).days[0]
    market = market_of_day(session, bar_s, parameters.multiplier, parameters.outright_tick)
    first = market.times[0].tz_convert("America/New_York").date()
    if first != date:
        raise InvalidInput(
            "has no session: it is not a business day", field="day", value=str(date), remedy=f"the next one is {first}"
        )
    _check_legs(terms, market.legs, order)
    if legs is not None and tuple(legs) != market.legs:
        raise DataGap(
            "are not those that the day rolls", field="legs", value=legs, remedy=f"use {','.join(market.legs)}"
        )
    return RollEpisode(order.name, market, order, str(date), stress, seed)


def days_to_expiry(terms: RollContract, market: RollMarket) -> float:
    """Return calendar days from the market's first bar to the near leg's expiry."""
    return (expiry_of(terms.name, market.legs[0]).at - market.times[0]).total_seconds() / 86400.0


def _check_legs(terms: RollContract, legs: tuple[str, str], order: RollOrder) -> None:
    near, far = legs
    if near >= far:
        raise InvalidInput("is not before far", field="near", value=legs, remedy="write NEAR,FAR as 202403,202406")
    for month in legs:
        expiry = expiry_of(terms.name, month)
        if order.cutoff >= expiry.at:
            raise InvalidInput(
                f"{expiry.code} ends trading at {expiry.at}, before the cutoff {order.cutoff}",
                field="legs",
                value=month,
                remedy="an expired leg cannot be rolled: choose a later pair or an earlier day",
            )


def roll_instant(value: pd.Timestamp | str, day: Any, tz: str, field: str) -> pd.Timestamp:
    """Return a time that was written as 'HH:MM' on a day's wall clock, or with its zone, in UTC.

    Raises
    ------
    InvalidInput
        For what is no time; for a wall time that the day skips or repeats.
    """
    if isinstance(value, str) and len(value) <= 5:
        try:
            return pd.Timestamp(utc_ns(as_date(day, "day"), value, tz), unit="ns", tz="UTC")
        except InvalidInput as err:
            remedy = f"write HH:MM, or the time with its offset as {day}T10:00-05:00"
            raise InvalidInput(err.message, field=field, value=f"{day} {value}", remedy=remedy) from None
    try:
        stamp = pd.Timestamp(value)
    except (TypeError, ValueError):
        stamp = None
    if stamp is None or pd.isna(stamp) or stamp.tzinfo is None:
        raise InvalidInput("is no time", field=field, value=str(value), remedy="write HH:MM, or a time with its zone")
    return stamp.tz_convert("UTC")
