"""Draw one world: session by session, each part of the market from its own stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.model import MarketData, MarketEvents
from crosswind.problems.market.simulator.basis_shocks import draw_basis_jumps
from crosswind.problems.market.simulator.breaks import draw_coupling
from crosswind.problems.market.simulator.desk import draw_desk
from crosswind.problems.market.simulator.flow import draw_flow
from crosswind.problems.market.simulator.future import ROOT, FutureDay, bar_buckets, draw_future, join_quotes
from crosswind.problems.market.simulator.kernel import Kernel, calibrate
from crosswind.problems.market.simulator.mechanisms import Mechanisms
from crosswind.problems.market.simulator.parts import with_perpetual, with_roll
from crosswind.problems.market.simulator.prices import PriceDay, draw_prices, overnight_returns
from crosswind.problems.market.simulator.regimes import draw_states
from crosswind.problems.market.simulator.sessions import Session, bucket_count, session_ends, trading_sessions
from crosswind.problems.market.simulator.shocks import JumpDay, draw_jumps
from crosswind.problems.market.simulator.spread_book import RollDay, draw_roll
from crosswind.problems.market.simulator.truth import ShockLog, build_truth
from crosswind.problems.market.simulator.universe import draw_universe
from crosswind.problems.market.simulator.worlds import World
from crosswind.solvers.errors import InvalidInput

__all__ = ["draw_world"]

Array = NDArray[np.float64]
_EVENT_FIELDS = ("flow", "mid", "spread", "volume", "depth", "factors")


def draw_world(world: World, days: int, seed: int, *, declared: bool) -> MarketData:
    """Draw ``days`` sessions of ``world``; see :func:`~crosswind.problems.market.simulator.simulate.simulate`.

    Parameters
    ----------
    world
        All numbers and the defaults of the call.
    days
        Number of sessions.
    seed
        Integer of 0 or more.
    declared
        Whether the truth names the world, its digest and all its numbers; the plain simulator's does not.

    Returns
    -------
    MarketData
        Without ``source``.

    Raises
    ------
    InvalidInput
        For bars of the future that do not divide a calendar's short session, and as the parts drawn.
    """
    call, settings, on = world.call, world.drawn, world.mechanisms
    bucket_s = call["bucket_s"]
    sessions = trading_sessions(call, days, settings, bucket_s)
    ends = [session_ends(s.day, s.open_s, bucket_s, s.count, call["tz"]) for s in sessions]
    universe = draw_universe(call["names"], call["sectors"], settings, seed)
    usual = bucket_count(settings.session_s, bucket_s)
    kernel = calibrate(universe, settings, bucket_s, usual, seed, on)
    shares = universe.weights * settings.index_level / universe.price
    # By the usual session, whichever are drawn: a half day to come must not change the bars of the days before it.
    per_bar = bar_buckets(settings, bucket_s, usual)
    for session in sessions:
        if session.count % per_bar:
            raise InvalidInput(
                f"makes bars of {per_bar * bucket_s:g} s that do not divide the session of {session.day}",
                field="future_bar_s",
                value=settings.future_bar_s,
                remedy="pass a divisor of half an hour, e.g. 60",
            )

    blocks: dict[str, list[Array]] = {field: [] for field in _EVENT_FIELDS}
    quotes: list[FutureDay] = []
    rolls: list[RollDay] = []
    log = ShockLog(universe.names, bucket_s)
    opening, state = universe.price, None
    for number, (session, stamps) in enumerate(zip(sessions, ends, strict=True)):
        count = session.count
        volatility = activity = width = None
        if on.regimes is not None:
            states = draw_states(on.regimes, bucket_s, count, seed, number, state)
            state = int(states[-1])
            volatility = np.where(states == 1, on.regimes.volatility, 1.0)
            activity = np.where(states == 1, on.regimes.volume, 1.0)
            width = np.where(states == 1, float(on.regimes.future_ticks), 1.0)
            log.add_states(stamps, states)
        flow = draw_flow(universe, settings, bucket_s, count, seed, number, volatility, activity)
        if number:
            opening = opening * (1.0 + overnight_returns(universe, settings, seed, number))
        jumps, coupling = _shocks(on, len(universe.names), bucket_s, count, seed, number)
        prices = draw_prices(
            universe, kernel, settings, flow, opening, bucket_s, seed, number, jumps=jumps, coupling=coupling
        )
        log.add_shocks(stamps, jumps, coupling)
        for field in ("flow", "volume"):
            blocks[field].append(getattr(flow, field))
        for field in ("mid", "spread", "depth", "factors"):
            blocks[field].append(getattr(prices, field))
        at = slice(per_bar - 1, None, per_bar)
        extra = _extra_basis(on, prices, opening, shares, bucket_s, per_bar, seed, number, stamps[at], log)
        index_points, bar_s = prices.mid[at] @ shares, per_bar * bucket_s
        quote = draw_future(
            index_points,
            stamps[at],
            prices.relative_vol[at],
            bar_s,
            session.day,
            settings,
            seed,
            number,
            extra_basis=extra,
            activity=None if activity is None else activity.reshape(-1, per_bar).mean(axis=1),
            width_ticks=None if width is None else width[at],
        )
        quotes.append(quote)
        if world.roll is not None and quote.fair is not None:
            near = quote.fair[:, 0]
            vol = prices.relative_vol[at]
            rolls.append(draw_roll(index_points, stamps[at], vol, bar_s, session.day, world.roll, seed, number, near))
        opening = prices.mid[-1] * (1.0 - _left_over(kernel, flow.flow, bucket_s))

    index = pd.DatetimeIndex(np.concatenate([stamps.asi8 for stamps in ends]), tz="UTC").as_unit("ns")

    def frame(field: str, columns: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame(np.concatenate(blocks[field]), index=index, columns=list(columns))

    events = MarketEvents(
        **{field: frame(field, universe.names) for field in _EVENT_FIELDS[:-1]},
        bucket_s=float(bucket_s),
        tz=call["tz"],
        currency="USD",
        factors=frame("factors", universe.factor_names) if settings.with_factors else None,
    )
    market = MarketData(
        buckets=events,
        futures={ROOT: join_quotes(quotes, per_bar * bucket_s, settings)},
        notes=("simulated: every price, flow and quote is drawn from .truth",),
    )
    if world.roll is not None:
        market = with_roll(market, rolls, per_bar * bucket_s, world.roll, log)
    if world.perpetual is not None:
        market = with_perpetual(market, shares, world.perpetual, seed, log)
    if world.desk is not None:
        market = replace(market, desk=draw_desk(events, world.desk, seed))
    asked = _asked(call, sessions, universe.names, [universe.sector_labels[code] for code in universe.sector_codes])
    truth = build_truth(world, universe, kernel, shares, asked, seed, log, events.flow.columns, declared=declared)
    return replace(market, truth=truth)


def _shocks(
    on: Mechanisms, names: int, bucket_s: float, count: int, seed: int, day: int
) -> tuple[JumpDay | None, Array | None]:
    jumps = None if on.jumps is None else draw_jumps(on.jumps, names, count, seed, day)
    coupling = None if on.breaks is None else draw_coupling(on.breaks, bucket_s, count, seed, day)
    return jumps, coupling


def _left_over(kernel: Kernel, flow: Array, bucket_s: float) -> Array:
    """Return the transient impact left at the close, which decays overnight: the gap takes it back."""
    transient = kernel.rates_per_s > 0.0
    age_s = bucket_s * np.arange(len(flow) - 1, -1, -1.0)
    left = np.zeros(flow.shape[1])
    for rate, matrix in zip(kernel.rates_per_s[transient], kernel.matrices[transient], strict=True):
        left += matrix @ (np.exp(-rate * age_s) @ flow)
    return left


def _extra_basis(
    on: Mechanisms,
    prices: PriceDay,
    opening: Array,
    shares: Array,
    bucket_s: float,
    per_bar: int,
    seed: int,
    day: int,
    stamps: pd.DatetimeIndex,
    log: ShockLog,
) -> Array | None:
    """Return what basis jumps and correlation breaks add to the basis at the bar ends (B,), decays included."""
    from scipy.signal import lfilter

    total = None
    if on.basis_jumps is not None:
        jumps = draw_basis_jumps(on.basis_jumps, len(stamps), seed, day)
        log.add_basis_jumps(stamps, jumps)
        decay = 0.5 ** (per_bar * bucket_s / on.basis_jumps.half_life_s)
        total = lfilter([1.0], [1.0, -decay], jumps)
    if on.breaks is not None and prices.decoupled is not None:
        before = np.concatenate([opening[None], prices.mid[:-1]]) * shares
        missed = -(before / before.sum(axis=1, keepdims=True) * prices.decoupled).sum(axis=1)
        decay = 0.5 ** (bucket_s / on.breaks.gap_half_life_s)
        gap = lfilter([1.0], [1.0, -decay], missed)[per_bar - 1 :: per_bar]
        total = gap if total is None else total + gap
    return total


def _asked(
    call: Mapping[str, Any], sessions: list[Session], names: tuple[str, ...], labels: list[str]
) -> dict[str, Any]:
    asked = {
        "names": list(names),
        "sectors": labels,
        "days": len(sessions),
        "bucket_s": float(call["bucket_s"]),
        "start": sessions[0].day.isoformat(),
        "tz": call["tz"],
        "holidays": [str(day) for day in call["holidays"]],
    }
    return asked if call["calendar"] is None else {**asked, "calendar": call["calendar"]}
