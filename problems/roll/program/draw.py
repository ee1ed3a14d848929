"""Scenarios from numbers: an Ornstein–Uhlenbeck basis with shocks and stress, order flow, depth, the queue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from crosswind.problems.roll.model import FloatArray, Regime, RollMarket, RollOrder
from crosswind.problems.roll.program.paths import BookPaths, to_scenarios
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.statistics import RollStatistics
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["RollPresent", "draw_scenarios", "observe"]

_STEP_S = 30.0  # longest step of a path
_STRESSED = {Regime.PRE_ROLL: 1.0, Regime.CROWDED: 1.0, Regime.BASIS_STRESS: 2.0, Regime.DEADLINE: 1.0}


@dataclass(frozen=True)
class RollPresent:
    """Where the book stands when the scenarios begin.

    Parameters
    ----------
    side
        Of the order.
    deviation
        Mid less its slow level [points], not signed by the side.
    stress
        Multiplier now, ≥ 1.
    width_ticks
        Quoted width [whole ticks].
    own_size, other_size
        Displayed on the order's side and on the other one, over what the statistics expect in calm.
    tilt
        Excess of buys over sells lately.
    activity
        Volume lately over what the statistics expect.
    fraction
        Of the session that has passed, 0 … 1.
    session_s
        Length of the session [s].
    ahead
        Contracts ahead of an order that rests already; None for none.
    behind
        Ticks by which the best price has left that order.
    """

    side: int = 1
    deviation: float = 0.0
    stress: float = 1.0
    width_ticks: int = 1
    own_size: float = 1.0
    other_size: float = 1.0
    tilt: float = 0.0
    activity: float = 1.0
    fraction: float = 0.5
    session_s: float = 23400.0
    ahead: float | None = None
    behind: float = 0.0


def observe(
    market: RollMarket,
    order: RollOrder,
    statistics: RollStatistics,
    *,
    bar: int | None = None,
    session_s: float = 23400.0,
    regime: Regime = Regime.PRE_ROLL,
    ahead: float | None = None,
    price: float | None = None,
    look_back_s: float = 600.0,
) -> RollPresent:
    """Return the present state of a market, from its bars up to ``bar``.

    Stress is told by the quoted width, the displayed size and the regime. Recent volume and tilt are pulled towards
    what the statistics say by as much again as was seen.

    Parameters
    ----------
    market
        The market; bars after ``bar`` are not read.
    order
        The order.
    statistics
        What is usual.
    bar
        Default the last one.
    session_s
        Length of the session, of which ``market`` begins at the start [s].
    regime
        Of the day.
    ahead, price
        Contracts ahead of the order's resting contracts, and their price [points]; None without any.
    look_back_s
        What counts as lately [s].

    Raises
    ------
    DataGap
        Where ``bar`` is not in the market.
    """
    k = market.bars - 1 if bar is None else bar
    if not 0 <= k < market.bars:
        raise DataGap("is not in the market", field="bar", value=k, remedy=f"pass 0 … {market.bars - 1}")
    st = statistics
    back = max(1, round(look_back_s / market.bar_s))
    part = slice(max(0, k + 1 - back), k + 1)
    bid, ask = market.bid[part], market.ask[part]
    long = slice(max(0, k + 1 - 3 * back), k + 1)
    slow = float(np.median(0.5 * (market.bid[long] + market.ask[long])))
    mid = 0.5 * (float(market.bid[k]) + float(market.ask[k]))
    width = max(1, round((market.ask[k] - market.bid[k]) / st.tick))
    usual = float(np.median(np.maximum(np.rint((ask - bid) / st.tick), 1.0)))
    size = 0.5 * float((market.bid_size[part] + market.ask_size[part]).mean())
    stress = max(usual / st.width_ticks, 1.0, _STRESSED[regime])
    fraction = float(np.clip((k + 1) * market.bar_s / session_s, 0.0, 1.0))
    expected = float(st.rate(np.array([fraction]))[0]) * market.bar_s * (part.stop - part.start)
    seen = float((market.sold[part] + market.bought[part]).sum())
    net = float((market.bought[part] - market.sold[part]).sum())
    weight = (part.stop - part.start) / (part.stop - part.start + back)
    own, other = (market.bid_size, market.ask_size) if order.side > 0 else (market.ask_size, market.bid_size)
    calm = st.depth * stress**-st.depth_power
    activity = 1.0 + weight * (seen / expected - 1.0) if expected > 0.0 else 1.0
    return RollPresent(
        side=order.side,
        deviation=mid - slow,
        stress=stress,
        width_ticks=width,
        own_size=float(np.clip(0.5 * (own[k] + size) / calm, 0.02, 20.0)),
        other_size=float(np.clip(0.5 * (other[k] + size) / calm, 0.02, 20.0)),
        tilt=float(np.clip(st.tilt + weight * (net / max(seen, 1.0) - st.tilt), -1.0, 1.0)),
        activity=float(np.clip(activity, 0.2, 5.0)),
        fraction=fraction,
        session_s=session_s,
        ahead=ahead,
        behind=_behind(market, order, k, price) if ahead is not None else 0.0,
    )


def _behind(market: RollMarket, order: RollOrder, k: int, price: float | None) -> float:
    if price is None or not np.isfinite(price):
        return 0.0
    best = float(market.bid[k] if order.side > 0 else market.ask[k])
    return float(max(0.0, np.rint(order.side * (best - price) / market.tick)))


def draw_scenarios(
    statistics: RollStatistics,
    *,
    slices: int,
    slice_s: float,
    count: int = 200,
    seed: int = 0,
    present: RollPresent | None = None,
    follow: bool = True,
) -> RollScenarios:
    """Draw scenarios from the present state.

    In steps of at most 30 s, the mid is a slow level (a random walk) with a deviation x and the sum J of shocks,

        x' = ρ x + σ √(1 − ρ²) stress · ε,    J' = ρ_J J + shock,    stress' = 1 + ρ_s (stress − 1) + (a per shock),

    widths grow and depth falls with stress, what others trade in a step has a Gamma law with the mean of the session's
    curve and the variance of the statistics, a share ½ (1 ∓ tilt) of it against the order's side. Basis shocks and
    shocks' signs come in pairs of opposite sign, so that the mean of the basis holds no luck.

    Parameters
    ----------
    statistics
        The numbers.
    slices, slice_s
        T and the length of a slice [s].
    count
        S; odd ones leave one scenario unpaired.
    seed
        Integer ≥ 0; the same seed gives the same scenarios.
    present
        Default: the middle of a calm session, buying.
    follow
        Whether an order at rest follows the best price, or stays and waits for it to come back.

    Raises
    ------
    InvalidInput
        For counts below 1, a slice without length, a seed that is not an integer of 0 or more.
    """
    for name, value in (("slices", slices), ("count", count)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise InvalidInput("is not a count", field=name, value=value, remedy="pass an integer of 1 or more")
    if not (np.isfinite(slice_s) and slice_s > 0.0):
        raise InvalidInput(
            "is not a time > 0", field="slice_s", value=slice_s, remedy="the cutoff must lie after the present"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
    now = present if present is not None else RollPresent()
    paths = draw_paths(statistics, now, int(count), int(slices), float(slice_s), int(seed))
    return scenarios_of(paths, int(slices), statistics, now, follow, int(seed))


def draw_paths(st: RollStatistics, now: RollPresent, count: int, slices: int, slice_s: float, seed: int) -> BookPaths:
    """Return the paths of a draw, in equal steps of at most 30 s."""
    each = max(1, int(np.ceil(slice_s / _STEP_S - 1e-9)))
    return _paths(st, now, count, slices * each, slice_s / each, seed)


def scenarios_of(
    paths: BookPaths, slices: int, st: RollStatistics, now: RollPresent, follow: bool, seed: int
) -> RollScenarios:
    """Return the scenarios of drawn paths for an order that follows the best price, or stays."""
    count = len(paths.hits)
    return to_scenarios(
        paths,
        slices,
        np.full(count, 1.0 / count),
        queue=st.queue,
        share=st.share,
        leg_share=st.leg_share,
        levels=st.levels,
        tick=st.tick,
        leg_tick=st.leg_tick,
        multiplier=st.multiplier,
        refill_half_life_s=st.refill_half_life_s,
        source=f"drawn with the statistics of {st.source}",
        ahead=now.ahead,
        behind=now.behind,
        follow=follow,
        facts={"seed": seed, "stress": now.stress, "activity": now.activity, "tilt": now.tilt},
    )


def _decay(step_s: float, half_life_s: float) -> float:
    return float(0.5 ** (step_s / half_life_s))


def _paths(st: RollStatistics, now: RollPresent, S: int, N: int, dt: float, seed: int) -> BookPaths:
    g = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(7201,))))
    half = (S + 1) // 2
    eps = g.standard_normal((half, N))
    eps = np.concatenate([eps, -eps])[:S]
    hit = g.poisson(st.jumps_per_hour * dt / 3600.0, (half, N))
    sizes = hit * g.laplace(0.0, st.jump_points / np.sqrt(2.0), (half, N))
    shocks = np.concatenate([sizes, -sizes])[:S]
    counts = np.concatenate([hit, hit])[:S]
    tilts, depths = g.standard_normal((S, N)), g.standard_normal((2, S, N))
    uniforms = g.random((S, N))
    moves, offsets = g.standard_normal((S, N)), g.standard_normal((S, N + 1))
    walk = g.standard_normal((half, N)) * st.level_points * np.sqrt(dt / 3600.0)
    slow = np.zeros((S, N + 1))
    slow[:, 1:] = np.cumsum(np.concatenate([walk, -walk])[:S], axis=1)

    x, j, stress = np.full(S, now.deviation), np.zeros(S), np.full(S, now.stress)
    tilt = np.full(S, now.tilt - st.tilt)
    logs = np.log([[now.own_size], [now.other_size]]) * np.ones((2, S))
    rx, rj, rs = (_decay(dt, h) for h in (st.noise_half_life_s, st.jump_half_life_s, st.stress_half_life_s))
    rt, rd = _decay(dt, st.tilt_half_life_s), _decay(dt, st.depth_half_life_s)
    mid, width = np.empty((S, N + 1)), np.empty((S, N + 1))
    shape, hits = np.empty((2, S, N + 1)), np.empty((S, N))
    level, tilted = np.empty((S, N + 1)), np.empty((S, N))
    start = now.fraction
    part = start + (np.arange(N) + 0.5) * dt / now.session_s
    # Unusual activity dies out like a tilt of the flow.
    mean = st.rate(np.minimum(part, 1.0)) * dt * (1.0 + (now.activity - 1.0) * rt ** np.arange(N))
    for k in range(N + 1):
        level[:, k] = stress
        mid[:, k] = now.side * (x + j + slow[:, k])
        shape[:, :, k] = np.exp(logs)
        if k == N:
            break
        tilted[:, k] = np.clip(st.tilt + tilt, -1.0, 1.0)
        x = rx * x + st.noise_points * np.sqrt(1.0 - rx * rx) * stress * eps[:, k]
        j = rj * j + shocks[:, k]
        stress = 1.0 + rs * (stress - 1.0) + st.stress_per_jump * counts[:, k]
        tilt = rt * tilt + st.tilt_sd * np.sqrt(1.0 - rt * rt) * tilts[:, k]
        logs = rd * logs + st.depth_sd * np.sqrt(1.0 - rd * rd) * depths[:, :, k]
    against = 0.5 * (1.0 - now.side * tilted) * mean
    shapes = against / st.dispersion
    hits = np.where(against > 1e-9, _gamma(shapes, uniforms) * st.dispersion, 0.0)

    width = np.maximum(1.0, np.rint(st.width_ticks * level**st.width_power))
    width[:, 0] = now.width_ticks
    # Prices are whole ticks; the present mid lies at the middle of the present quotes.
    shift = mid / st.tick - mid[:, :1] / st.tick + 0.5 * now.width_ticks
    own = np.rint(shift - 0.5 * width)
    sizes_now = st.depth * level**-st.depth_power * shape
    leg_width = np.maximum(1.0, np.rint(np.sqrt(level)))
    off = now.side * st.leg_offset + st.leg_offset_sd * offsets
    leg_half = np.maximum(st.leg_tick * leg_width + off, 0.5 * st.tick * width)
    leg_mid = np.zeros((S, N + 1))
    leg_mid[:, 1:] = np.cumsum(st.leg_points * np.sqrt(dt) * np.sqrt(level[:, :N]) * moves, axis=1)
    return BookPaths(
        step_s=dt,
        own=own,
        other=own + width,
        own_size=sizes_now[0],
        other_size=sizes_now[1],
        hits=hits,
        kept=np.full((S, N), np.exp(-st.cancel_per_s * dt)),
        volume=mean,
        leg_half=leg_half,
        leg_size=st.leg_size * level**-st.depth_power,
        second_half=0.5 * st.leg_tick * leg_width,
        leg_mid=leg_mid,
    )


def _gamma(shape: FloatArray, u: FloatArray) -> FloatArray:
    """Return Gamma quantiles with unit scale: one uniform a draw, so that scenarios share luck across states."""
    return np.asarray(gammaincinv(np.maximum(shape, 1e-6), u))
