"""The promises of a run as figures: each stage is held to the bar that the docs state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosswind.problems.workflow.model import Check

if TYPE_CHECKING:
    from crosswind.problems.workflow.fitting import FitStage
    from crosswind.problems.workflow.hedging import HedgeStage
    from crosswind.problems.workflow.scheduling import ScheduleStage

__all__ = ["checks_of"]


def checks_of(fitted: FitStage, planned: ScheduleStage, hedge: HedgeStage | None) -> tuple[Check, ...]:
    """Measure what the run promises.

    - the kernel satisfies every constraint, and no round trip on 32 buckets pays;
    - the fit's objective is certified close to optimal;
    - the schedule's certificate, and marginal cost = completion price + limit prices at the optimum;
    - the schedule's cost components sum to its total;
    - in every replay the hedge's components equal the ledger, and the cash fills are the same under all policies;
    - the future moves with its index in the same bar, which it does not when a clock is wrong.
    """
    trip = fitted.model.admissible()
    schedule = planned.schedule
    total = float(schedule.costs["total"])
    parts = float(schedule.costs.drop("total").sum())
    checks = [
        Check(
            "kernel: worst relative constraint violation", float(fitted.joint.constraint_violations()["worst"]), 1e-8
        ),
        Check(
            "kernel: smallest round-trip eigenvalue over the largest",
            trip.smallest_eigenvalue / trip.largest_eigenvalue,
            -1e-9,
            at_least=True,
        ),
        Check("fit: certified relative suboptimality", fitted.joint.suboptimality_, 1e-6),
        Check("schedule: relative primal residual", schedule.certificate.primal_rel, 1e-8),
        Check("schedule: relative gap", schedule.certificate.gap_rel, 1e-8),
        Check("schedule: marginal costs against prices, relative", schedule.solution.stationarity_rel, 1e-6),
        Check("schedule: components against total, relative", abs(parts - total) / max(abs(total), 1e-300), 1e-9),
    ]
    if hedge is not None:
        checks += [
            Check("hedge: components against ledger, worst relative", hedge.worst_ledger_error, 1e-9),
            Check("clocks: correlation of future and index over other lags", hedge.clock_margin, 0.1, at_least=True),
        ]
    return tuple(checks)
