"""Where the money went: cash, futures, lag, basis, cross and residual.

All increments are arithmetic and in units of arrival: ΔS_i, ΔF, ΔX are price changes divided by the mid at arrival,
so that with quantities valued at arrival the identity is exact. Let q_i(t) be what is still to trade of name i, h(t)
the contracts held, Q_i = q_i·m_i·S_i(0), H = h·m·F(0), G = ΣβQ − H. Wealth relative to the paper portfolio, which
trades everything at the arrival mid for nothing, falls by

    net = Σ execution costs + ΣΣ_i Q_i·ΔS_i − ΣH·ΔF

over all times between events. With the identities Δb ≡ ΔF − ΔX and ε_i ≡ ΔS_i − β_i·ΔX this is

    net = cash + futures + cross + ΣG·ΔX (lag) − ΣH·Δb (basis) + ΣΣ_i Q_i·ε_i (residual).

The sign of the basis follows the ledger: who holds H > 0 gains when the future rises against the index, so the cost is
−ΣH·Δb. The desk playbook prints +ΣH·Δb, which no ledger reproduces; a short future (H < 0) gains when the basis
narrows.

Execution costs are split by the leg that caused them: a fill pays its half-spread, its fee and the displacement by
its own leg (all cash names are one leg), booked under cash or futures; the displacement by the *other* leg's trades
is ``cross``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crosswind.problems.hedge.model import HedgeParent
from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.replay.model import FloatArray
from crosswind.problems.replay.result import ReplayResult
from crosswind.solvers.errors import CrosswindError

__all__ = ["COMPONENTS", "Attribution", "attribute"]

COMPONENTS = ("cash", "futures", "lag", "basis", "cross", "residual")


@dataclass(frozen=True, eq=False)
class Attribution:
    """Components of one parent's cost.

    Parameters
    ----------
    components
        By name as in ``COMPONENTS`` [currency], positive: money lost.
    ledger_cost
        −(wealth change of the ledger − wealth change of the paper portfolio's ledger) [currency].
    turnover
        Gross notional of all fills and of the paper portfolio [currency]: the scale of rounding.
    times_ns
        Event times, (K,): all slice bounds and fill times.
    beta_q, held
        ΣβQ and H just after each event, (K,) [currency at arrival].
    integrated_gap
        ∫|G|dt [currency·s].
    """

    components: pd.Series
    ledger_cost: float
    turnover: float
    times_ns: np.ndarray[tuple[int], np.dtype[np.int64]]
    beta_q: FloatArray
    held: FloatArray
    integrated_gap: float

    @property
    def net(self) -> float:
        """Sum of the components [currency]."""
        return math.fsum(self.components.tolist())

    @property
    def gap(self) -> FloatArray:
        """G = ΣβQ − H just after each event, (K,) [currency at arrival]."""
        gap: FloatArray = self.beta_q - self.held
        return gap

    @property
    def ledger_error(self) -> float:
        """|net − ledger cost| relative to Σ|components| (to the turnover where all components vanish)."""
        scale = math.fsum(np.abs(self.components.to_numpy(float)).tolist())
        return abs(self.net - self.ledger_cost) / max(scale, 1e-12 * self.turnover, np.finfo(float).tiny)


def attribute(result: ReplayResult, parent: HedgeParent, tolerance: float = 1e-9) -> Attribution:
    """Split the cost of a whole replay and hold the sum against the ledger.

    Parameters
    ----------
    result
        A replay over the whole horizon in which the parent's names and hedge were traded.
    parent
        Its plan, betas, hedge and index.
    tolerance
        Greatest relative difference between the sum of components and the ledger.

    Returns
    -------
    Attribution

    Raises
    ------
    CrosswindError
        When components and ledger disagree: one of the two is wrong, and neither may be reported.
    """
    market = result.market
    parent.check(market)
    columns = [market.position_of(name) for name in parent.names]
    future = market.position_of(parent.hedge)
    proxy = future if parent.index is None else market.position_of(parent.index)

    fills = result.fills
    bounds = market.times_ns
    events = np.unique(np.concatenate([bounds, np.array([f.time_ns for f in fills], dtype=np.int64)]))
    mids = np.array([market.mid_at(int(t)) for t in events])
    done = np.zeros((len(events), len(market.instruments)))
    for fill in fills:
        done[np.searchsorted(events, fill.time_ns), market.position_of(fill.instrument)] += fill.units
    done = np.cumsum(done, axis=0)
    intended = parent.intended(market)[np.searchsorted(bounds, events, side="right") - 1]

    remaining = (intended - done[:, columns]) * parent.arrival(market)
    held = done[:, future] * (market.multiplier[future] * market.mid[0, future])
    beta_q = remaining @ parent.beta
    moves = np.diff(mids, axis=0) / mids[0]
    dx, db = moves[:, proxy], moves[:, future] - moves[:, proxy]
    eps = moves[:, columns] - dx[:, None] * parent.beta
    gap = beta_q - held
    own = {"cash": [0.0], "futures": [0.0]}
    cross = [0.0]
    for fill in fills:
        notional = fill.units * fill.multiplier * fill.mid
        by_hedge = fill.displacement_by[future]
        by_cash = math.fsum(fill.displacement_by) - by_hedge
        leg = "futures" if fill.instrument == parent.hedge else "cash"
        mine, other = (by_hedge, by_cash) if leg == "futures" else (by_cash, by_hedge)
        own[leg] += [abs(fill.units) * fill.multiplier * fill.half_spread, notional * mine, fill.fee]
        cross.append(notional * other)
    components = pd.Series(
        {
            "cash": math.fsum(own["cash"]),
            "futures": math.fsum(own["futures"]),
            "lag": math.fsum((gap[:-1] * dx).tolist()),
            "basis": -math.fsum((held[:-1] * db).tolist()),
            "cross": math.fsum(cross),
            "residual": math.fsum((remaining[:-1] * eps).ravel().tolist()),
        },
        name=parent.name,
    )
    turnover = math.fsum(abs(f.units) * f.multiplier * f.mid for f in fills) + parent.notional(market)
    seconds = np.diff(events).astype(np.float64) / 1e9
    attribution = Attribution(
        components,
        _ledger_cost(result, parent),
        turnover,
        events,
        beta_q,
        held,
        math.fsum((np.abs(gap[:-1]) * seconds).tolist()),
    )
    # Below the rounding of the prices themselves nothing can be distinguished, whatever the components' size.
    floor = 64.0 * np.finfo(float).eps * turnover
    if abs(attribution.net - attribution.ledger_cost) > floor and attribution.ledger_error > tolerance:
        raise CrosswindError(
            "the components do not sum to the ledger's wealth change",
            field=f"attribution of {parent.name}",
            value=(attribution.net, attribution.ledger_cost),
            remedy="replay with fills from this market and all of the parent's instruments",
        )
    return attribution


def _ledger_cost(result: ReplayResult, parent: HedgeParent) -> float:
    """Return what the account's ledger lost against that of the paper portfolio [currency]."""
    market, paper = result.market, Ledger()
    before = np.zeros(len(parent.names))
    for k, total in enumerate(parent.intended(market)):
        for j, name in enumerate(parent.names):
            if total[j] != before[j]:
                column = market.position_of(name)
                change = float(total[j] - before[j])
                paper.book(name, change, float(market.mid[k, column]), multiplier=float(market.multiplier[column]))
        before = total
    marks = dict(zip(market.instruments, market.mid[-1].tolist(), strict=True))
    return paper.wealth(marks) - result.ledger.wealth(marks)
