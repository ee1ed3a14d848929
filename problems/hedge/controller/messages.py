"""What goes into a controller and what comes out of it: plain tuples, cheap to make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from crosswind.problems.hedge.controller.model import HedgeRank
from crosswind.problems.hedge.state import Rung
from crosswind.problems.replay.model import FloatArray

if TYPE_CHECKING:
    from crosswind.problems.hedge.guardrails import Verdict

__all__ = ["HedgeDecision", "HedgeObservation", "HedgeOrder", "OrderReport", "under_verdict"]


class OrderReport(NamedTuple):
    """What is known of an order.

    Attributes
    ----------
    id
        Of the order.
    filled
        Contracts filled so far in all, signed like the order. As it is cumulative, a report may come twice, late or
        out of order.
    done
        Whether nothing more is to be expected: filled, rejected, cancelled or expired.
    """

    id: str
    filled: float
    done: bool = False


class HedgeOrder(NamedTuple):
    """An order to be sent: id (the same after a replay), instrument, signed contracts."""

    id: str
    instrument: str
    contracts: float


class HedgeObservation(NamedTuple):
    """What is known at a step; k exposures, m instruments, amounts in currency.

    Attributes
    ----------
    time_s
        The clock [s].
    required
        Hedge that each exposure requires now, ΣβQ (k,); positive: futures are to be held long.
    mid, half_spread
        Price and relative half-spread (m,). What is not finite or not positive takes its instrument out.
    plan
        The required hedge after each of the coming slices (n, k), by the cash plan known now; any n ≥ 1. None: what
        was given last, moved on by the slices passed.
    reports
        What has become known of orders since the last step.
    regime
        Number of the regime.
    age_s
        Age of the oldest of these data.
    liquidity
        Turnover expected in the coming slices (n, m), the first row for the present one; None: no forecast, no limit.
    linear
        Known cost per unit bought in the coming slices (n, m) [return], such as what the planned cash trades do to the
        future's price.
    funding
        Settlements to come: (instrument's number, time [s], rate). At a positive rate longs pay shorts.
    basis_drift
        Expected rise of the instruments against their exposure per slice (m,) [return]: who is long earns it.
    tradeable
        Whether each instrument trades (m,); None: all do.
    position
        Contracts held by the broker's account (m,), with all reports so far; None: the controller's own count.
    reliance
        Share of the required hedge that is to be held, 0..1.
    trigger_factor
        Multiple of the rule's threshold.
    ceiling
        Best rank that is allowed.
    bounds
        Lowest and highest net trade of each exposure now (k,), each holding 0 [currency]; None: no such bounds.
    """

    time_s: float
    required: tuple[float, ...]
    mid: tuple[float, ...]
    half_spread: tuple[float, ...]
    plan: FloatArray | None = None
    reports: tuple[OrderReport, ...] = ()
    regime: int = 0
    age_s: float = 0.0
    liquidity: FloatArray | None = None
    linear: FloatArray | None = None
    funding: tuple[tuple[int, float, float], ...] = ()
    basis_drift: tuple[float, ...] | None = None
    tradeable: tuple[bool, ...] | None = None
    position: tuple[float, ...] | None = None
    reliance: float = 1.0
    trigger_factor: float = 1.0
    ceiling: int = 0
    bounds: tuple[tuple[float, float], ...] | None = None


class HedgeDecision(NamedTuple):
    """The answer to an observation.

    Attributes
    ----------
    sequence
        Number of the step, from 1.
    time_s
        The observation's clock.
    orders
        What to send.
    lots
        Signed lots by instrument (m,).
    wanted
        What the program or the rule asked for before lots and limits (m,) [currency].
    rank, reason
        How it was found, and why in words.
    alarms
        What a person should see: an excess of the gap cap, late orders, overfills, unknown reports.
    binding
        Limits of the last check that cut the trade, as "limit: instrument".
    gap
        The gap before the trade (k,), orders in flight and the carried rounding counted [currency].
    objective, proven
        Cost of the program's plan, and within how much of the best it is [currency]; NaN and inf without a program.
    work
        Factorisations.
    late
        Whether the watchdog found the solve too slow.
    """

    sequence: int
    time_s: float
    orders: tuple[HedgeOrder, ...]
    lots: tuple[int, ...]
    wanted: tuple[float, ...]
    rank: HedgeRank
    reason: str
    alarms: tuple[str, ...]
    binding: tuple[str, ...]
    gap: tuple[float, ...]
    objective: float
    proven: float
    work: int
    late: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data, the rank by name."""
        out = self._asdict()
        out["orders"] = [list(order) for order in self.orders]
        out["rank"] = self.rank.name
        return out


_CEILINGS = {Rung.RULE: HedgeRank.RULE, Rung.HOLD: HedgeRank.HOLD}


def under_verdict(seen: HedgeObservation, verdict: Verdict) -> HedgeObservation:
    """Return an observation under the guardrails' verdict on a hedge of one exposure.

    Parameters
    ----------
    seen
        The observation.
    verdict
        Of :meth:`crosswind.problems.hedge.guardrails.Guardrails.check`. Its bounds, rung, factor and reliance are taken
        over; its trade is not.
    """
    ceiling = HedgeRank.OPTIMAL if verdict.rung is None else _CEILINGS.get(verdict.rung, HedgeRank.OPTIMAL)
    return seen._replace(
        reliance=verdict.reliance,
        trigger_factor=verdict.trigger_factor,
        ceiling=max(seen.ceiling, int(ceiling)),
        bounds=((verdict.low, verdict.high),),
    )


def sound_bounds(bounds: Any, exposures: tuple[str, ...], alarms: list[str]) -> list[tuple[float, float]]:
    """Return an observation's bounds by exposure; where they are crossed or no numbers, no trade is allowed."""
    out = [(0.0, 0.0)] * len(exposures)
    for i, name in enumerate(exposures):
        try:
            low, high = bounds[i]
            if low <= 0.0 <= high:
                out[i] = (low, high)
                continue
        except (TypeError, ValueError, IndexError):
            pass
        alarms.append(f"bounds of {name} are crossed or no numbers: no trade")
    return out
