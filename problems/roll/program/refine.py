"""From the tail mean towards the quantile: let the worst scenarios go, and say when that does not help."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.optim.tails.risk import value_at_risk
from crosswind.problems.roll.model import FloatArray
from crosswind.problems.roll.program.plan import RollPlan
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.solvers.tail import TailProgram, solve_tail

if TYPE_CHECKING:
    from crosswind.problems.roll.program.problem import QuantileRefinement, RollProblem

__all__ = ["refine"]

_SHARES = (0.25, 0.5, 0.75)  # of the tail let go in the first rounds; all of it in the later ones
_ENOUGH = 1e-7  # relative gain of a round below which it was none


def refine(
    problem: RollProblem, begin: RollPlan, test: RollScenarios | None, tol: float, rounds: int
) -> QuantileRefinement:
    """Return the better of ``begin`` and what re-weighting found; see `RollProblem.refine_to_quantile`.

    With the worst 1 − α of the mass let go, the largest cost of the others is Q_α at the present plan and no less than
    Q_α anywhere, so minimising it in its place can only lower Q_α: those rounds descend. The first ones let go a part.
    """
    from crosswind.problems.roll.program.problem import QuantileRefinement, evaluate

    settings = problem.settings
    lam, alpha = settings.tail_weight, settings.alpha
    a = begin.assembly
    program, p = a.program, a.program.probabilities

    def judged(x: FloatArray) -> float:
        return _mean_part(program, x) + lam * value_at_risk(program.costs(x), alpha, p)

    log = [_row(0.0, begin, judged(begin.plan))]
    best, worth = begin, judged(begin.plan)
    if lam == 0.0 or alpha == 0.0 or not begin.solution.status.ok:
        why = "the tail has no weight" if lam == 0.0 or alpha == 0.0 else "the plan to start from is not optimal"
        return QuantileRefinement(begin, begin, False, None, f"failed: {why}", pd.DataFrame(log))
    if len(p) < 2.0 / (1.0 - alpha):
        why = f"failed: {len(p)} scenarios have fewer than two beyond the quantile"
        return QuantileRefinement(begin, begin, False, None, why, pd.DataFrame(log))
    scale = abs(worth) + float(np.abs(begin.costs).max())
    now = begin
    for number in range(rounds):
        share = _SHARES[number] if number < len(_SHARES) else 1.0
        caps = _caps(program.costs(now.plan), p, alpha, share)
        solution = solve_tail(program.with_risk(lam, caps), tol, warm=now.plan)
        if not solution.status.ok:
            break
        now = problem.plan_of(replace(a, program=program.with_risk(lam, caps)), solution)
        value = judged(now.plan)
        log.append(_row(share, now, value))
        gained = worth - value > _ENOUGH * scale
        if gained:
            best, worth = now, value
        if share == 1.0 and not gained:
            break
    frame = pd.DataFrame(log).rename_axis("round")
    if best is begin:
        why = "failed: no round has a lower quantile at this weight; the plan of the CVaR stands"
        return QuantileRefinement(begin, begin, False, None, why, frame)
    held = None
    text = f"the objective with the quantile fell from {log[0]['objective']:.2f} to {worth:.2f}"
    if test is not None:
        fresh = [evaluate(plan, test).sum(axis=1).to_numpy() for plan in (begin, best)]
        mass = test.probabilities
        before, after = (float(mass @ c) + lam * value_at_risk(c, alpha, mass) for c in fresh)
        held = after < before
        text += f"; in fresh scenarios it went from {before:.2f} to {after:.2f}"
        if not held:
            text = f"failed out of sample: {text}"
    return QuantileRefinement(best, begin, True, held, text, frame)


def _mean_part(program: TailProgram, x: FloatArray) -> float:
    return program.with_risk(0.0).objective(x)


def _caps(costs: FloatArray, p: FloatArray, alpha: float, share: float) -> FloatArray:
    """Return the tail's caps when the worst ``share`` of its mass is let go."""
    order = np.argsort(-costs, kind="stable")
    mass = np.cumsum(p[order])
    out = mass <= share * (1.0 - alpha) + 1e-12
    gone = float(p[order][out].sum())
    left = 1.0 - alpha - gone
    caps = np.empty_like(p)
    # Nothing left of the tail's mass: the largest of the others is the quantile.
    caps[order] = np.where(out, 0.0, 1.0 if left <= 1e-12 else p[order] / left)
    return np.minimum(caps, 1.0)


def _row(share: float, plan: RollPlan, objective: float) -> dict[str, float]:
    return {
        "let_go": share,
        "mean": plan.mean,
        "q95": plan.q95,
        "cvar95": plan.cvar95,
        "objective": objective,
        "gap": plan.solution.gap,
    }
