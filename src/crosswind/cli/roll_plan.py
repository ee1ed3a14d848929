"""``crosswind roll plan``: one order, a plan over scenarios."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from crosswind.cli.common import EXIT_FALLBACK, EXIT_INTEGRITY, EXIT_OK, Outcome
from crosswind.cli.roll_inputs import dry_run, episode_of, limits_of, written

if TYPE_CHECKING:
    from crosswind.problems.roll.contracts import RollContract
    from crosswind.problems.roll.program import RollPlan, RollProblem, RollSettings
    from crosswind.problems.roll.replay import RollEpisode

__all__ = ["plan_roll"]

_LEDGER, _TOL = 1e-9, 1e-6


def plan_roll(args: argparse.Namespace, terms: RollContract, keys: dict[str, Any]) -> Outcome:
    """Solve the roll program of an order."""
    from crosswind.problems.roll.program import RollSettings

    episode = episode_of(args, terms, keys)
    settings = RollSettings(
        tail_weight=args.tail_weight,
        participation=args.participation,
        deadline_share=args.deadline_share,
        underfill_price=args.underfill_price,
        fee=terms.fee if args.fee is None else args.fee,
    )
    problem = _problem(args, terms, keys, episode, settings)
    limits = limits_of(args, terms, episode)
    if args.dry_run:
        return dry_run(limits)
    plan = problem.solve(tol=_TOL)
    payload = _told(plan, terms.currency) | {"limits": limits, "out": args.out}
    head = f"{terms.name}: {terms.unit}; costs in {terms.currency}; {' into '.join(episode.market.legs)}"
    code = EXIT_OK if plan.solution.status.ok and plan.solution.method == "interior" else EXIT_FALLBACK
    error = abs(plan.components.sum(axis=1) - plan.costs).max()
    if not error <= _LEDGER * max(1.0, float(abs(plan.components).sum(axis=1).max())):
        code = EXIT_INTEGRITY
    outcome = Outcome(f"{head}\n{plan.summary()}", payload, code)
    schedule = plan.to_frame()
    tables = {"schedule": schedule, "components": plan.components}
    return written(args.out, outcome, tables, {"plan.html": plan.plot()} if args.out else {})


def _problem(
    args: argparse.Namespace,
    terms: RollContract,
    keys: dict[str, Any],
    episode: RollEpisode,
    settings: RollSettings,
) -> RollProblem:
    from crosswind.problems.market.contracts import expiry_of
    from crosswind.problems.roll.contracts import roll_instant
    from crosswind.problems.roll.program import RollProblem
    from crosswind.problems.roll.replay.views import see
    from crosswind.solvers.errors import DataGap, InvalidInput

    order, market = episode.order, episode.market
    now = order.start if args.now is None else roll_instant(args.now, args.day, terms.spec.tz, "--now")
    if now < order.start:
        raise InvalidInput(
            "lies before the start", field="--now", value=str(now), remedy=f"pass {order.start} or later"
        )
    bar = int(market.times.searchsorted(now, side="right")) - 1
    if bar < 0:
        raise DataGap("no bar is known then", field="--now", value=str(now), remedy=f"the first ends {market.times[0]}")
    return RollProblem.at(
        order,
        see(market, bar + 1),
        statistics=_statistics(terms, keys, episode),
        settings=settings,
        remaining=args.remaining,
        arrival=episode.arrival,
        expiry=expiry_of(terms.name, market.legs[0]).at,
        scenarios=args.scenarios,
        slices=args.slices,
        seed=args.seed,
    )


def _statistics(terms: RollContract, keys: dict[str, Any], episode: RollEpisode) -> Any:
    """Return the statistics that a plan draws from: the simulator's, or None to take the recorded books so far."""
    if keys["kind"] == "lean":
        return None
    from crosswind.problems.roll.contracts import days_to_expiry
    from crosswind.problems.roll.program import RollStatistics

    return RollStatistics.from_parameters(terms.parameters, days_to_expiry(terms, episode.market))


def _told(plan: RollPlan, currency: str) -> dict[str, Any]:
    q, p = plan.quantity, plan.assembly.scenarios.probabilities
    binding = {
        name: {"slices": int((price > _LEDGER).sum()), "worth_up_to": float(price.max())}
        for name, price in plan.prices.items()
        if name != "completion" and price.max() > _LEDGER
    }
    first, s = plan.first, plan.solution
    return {
        "spreads": q,
        "currency": currency,
        "sign": "a positive cost is money lost",
        "now": {name: getattr(first, name) for name in ("rest", "cross", "legs_at_once", "legs_one_by_one", "seconds")},
        "per_spread": {"mean": plan.mean / q, "q95": plan.q95 / q, "cvar95": plan.cvar95 / q},
        "components": {name: float(p @ plan.components[name]) / q for name in plan.components},
        "completion_price": float(plan.prices["completion"].max()),
        "binding_limits": binding,
        "expected_underfill": plan.expected_underfill,
        "underfill_probability": plan.underfill_probability,
        "beyond_probability": plan.beyond_probability,
        "solver": {
            "status": s.status.name, "method": s.method, "gap": s.gap, "violation": s.violation,
            "iterations": s.iterations,
        },
        "notes": list(plan.notes),
    }  # fmt: skip
