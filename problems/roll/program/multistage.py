"""One scenario of a roll as the multistage program: the same costs, and what perfect foresight would do with it."""

from __future__ import annotations

import numpy as np

from crosswind.optim.limits import BandLimit, GroupCap, TradeLimit
from crosswind.optim.program import ImpactMode, MultistageProgram, Terminal
from crosswind.problems.roll.model import FloatArray
from crosswind.problems.roll.program.assembly import Assembly
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.settings import RollSettings
from crosswind.solvers.errors import InvalidInput

__all__ = ["INSTRUMENTS", "scenario_program", "scenario_trades"]

INSTRUMENTS = ("rest", "spread", "near", "far", "far_late")
"""Fills at rest and crosses of the listed spread (near −1, far +1), the near leg, the far leg crossed with it, and the
far leg that was left resting for a slice."""
_INCIDENCE = np.array([[-1.0, -1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 1.0]])


def scenario_program(
    scenarios: RollScenarios,
    scenario: int,
    quantity: float,
    settings: RollSettings,
    *,
    side: int = 1,
    max_naked: float = 0.0,
    carry_cap: float = 0.0,
) -> MultistageProgram:
    """Return one scenario as a multistage program with T + 1 slices, the last one the forced cross.

    Solved, it is the schedule of someone who knows the scenario: fills at rest as far as the flow reaches, everything
    else chosen with foresight, a second leg held open for as long as it pays. Its cost bounds from below what any plan
    pays in this scenario. With a single scenario, no flow and legs at once only, there is nothing to know, and it is
    the roll program itself.

    Parameters
    ----------
    scenarios, scenario
        Which one, 0 … S − 1.
    quantity
        Spreads to be done, > 0.
    settings
        Fees, participation, slope, prices; the tail's weight is not used.
    side
        +1 buys spreads, −1 sells.
    max_naked, carry_cap
        Of the order [contracts].

    Returns
    -------
    MultistageProgram
        Instruments :data:`INSTRUMENTS`, positions near and far from (quantity, 0) to (0, quantity), times ``side``;
        limits 'reach', 'participation', 'let', 'legs', 'deadline' by name.

    Raises
    ------
    InvalidInput
        For a scenario that is not there.
    """
    sc, se = scenarios, settings
    if not 0 <= scenario < sc.count:
        raise InvalidInput("is not there", field="scenario", value=scenario, remedy=f"pass 0 … {sc.count - 1}")
    s, T, worth, fee = scenario, sc.slices, sc.multiplier, se.fee
    drift, half = worth * sc.drift[s], worth * sc.half_width[s]
    leg, second, fill = worth * sc.leg_half[s], worth * sc.second_half[s], sc.second_fill[s]
    price = np.zeros((T + 1, len(INSTRUMENTS)))  # per contract, positive: money lost
    price[:T, 0] = worth * (sc.rest_drift[s] - sc.rest_half[s]) + 2.0 * fee
    price[:, 1] = drift + half + 2.0 * fee
    price[T, 1] += se.underfill_price
    price[:, 2] = drift + leg - second + fee
    price[:, 3] = second + fee
    waited = (1.0 - fill[:T]) * second[1:] - fill[:T] * second[:T] + worth * (1.0 - fill[:T]) * sc.second_move[s, :T]
    price[1:, 4] = waited + fee + se.let_price * sc.dt_s / 60.0
    signs = side * np.array([1.0, 1.0, -1.0, 1.0, 1.0])

    reach = np.minimum(np.append(sc.flow[s], 0.0), quantity)
    pace = se.participation * sc.volume
    last = min(se.deadline_share * quantity, float(sc.capacity()[s]) + carry_cap)
    most = np.full((T + 1, len(INSTRUMENTS)), quantity)
    most[:, 0] = reach
    most[T, 2:4] = 0.0
    most[0, 4] = 0.0
    if max_naked <= 0.0 or not se.let_slices:
        most[:, 2:] = 0.0
    if 0 not in se.let_slices:
        most[:, 3] = 0.0
    if 1 not in se.let_slices:
        most[:, 4] = 0.0
    ends = np.append(np.full(T, quantity), last)
    crossing = np.array([[0.0, 1.0, 1.0, 0.0, 0.0]])
    flat = side * quantity
    open_ = max_naked if 1 in se.let_slices else 0.0  # legs that trade at once are never apart
    spread_root = np.sqrt(worth * se.slope * sc.tick / sc.depth[s])
    leg_root = np.sqrt(worth * se.slope * sc.leg_tick / sc.leg_depth[s])
    rate = float(np.log(2.0) / sc.refill_half_life_s)
    return MultistageProgram(
        instruments=INSTRUMENTS,
        dt_s=np.append(0.0, sc.dt_s),
        p0=np.array([flat, 0.0]),
        positions=("near", "far"),
        incidence=_INCIDENCE,
        exposure=np.eye(2),
        drift=price * signs,
        impact=(
            ImpactMode(rate, np.diag([0.0, 1.0, 0.0, 0.0, 0.0]), share=spread_root),
            ImpactMode(rate, np.diag([0.0, 0.0, 1.0, 0.0, 0.0]), share=leg_root),
        ),
        terminal=Terminal(np.array([0.0, flat])),
        limits=(
            TradeLimit("reach", np.minimum(0.0, signs * most), np.maximum(0.0, signs * most)),
            GroupCap("participation", crossing, np.append(pace, quantity)[:, None]),
            GroupCap("legs", np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), np.full((T + 1, 1), max_naked)),
            GroupCap("deadline", np.array([[0.0, 1.0, 0.0, 0.0, 0.0]]), ends[:, None]),
            BandLimit("let", np.array([[1.0, 1.0]]), np.array(flat - open_), np.array(flat + open_)),
        ),
    )


def scenario_trades(assembly: Assembly, x: FloatArray, scenario: int, side: int = 1) -> FloatArray:
    """Return the trades (T + 1, 5) that a plan makes in one scenario, in the order of :data:`INSTRUMENTS`."""
    a, s = assembly, scenario
    T = a.scenarios.slices
    given = a.grid(x, a.present[s : s + 1])[0]
    out = np.zeros((T + 1, len(INSTRUMENTS)))
    out[:, 1] = given[0]
    out[:, 2] = -(given[1] + given[2])
    out[:, 3] = given[1]
    out[1:, 4] = given[2, :T]
    out[:T, 0] = _fills(a, x, s)
    return side * out


def _fills(a: Assembly, x: FloatArray, s: int) -> FloatArray:
    """Return the contracts that fill at rest in each slice (T,)."""
    from crosswind.problems.roll.program.assembly import survival

    T, J = a.scenarios.slices, len(a.sizes)
    later = np.zeros((T + 1, J))
    one = a.slab >= 0
    np.add.at(later, (a.slice[one], a.slab[one]), x[one])
    np.add.at(later, a.slice[~one], np.repeat(x[~one, None] / J, J, axis=1))
    still = np.cumsum(later[::-1], axis=0)[::-1]
    psi = survival(a.scenarios.take([s]), a.sizes)[0]
    out: FloatArray = ((psi[:T] - psi[1:]) * still[1:]).sum(axis=1)
    return out
