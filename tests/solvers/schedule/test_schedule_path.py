"""Schedules along λ and over scenarios: the same answers as one by one, in fewer iterations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule import FactorSchedule, schedule_path, solve_schedule
from crosswind.solvers.schedule.instances import schedule_instance
from crosswind.solvers.solution import Status


def along(scales: np.ndarray, **more: object) -> list[FactorSchedule]:
    base = schedule_instance(60, 26, seed=41, **more)
    return [replace(base, risk_weight=scale * base.risk_weight) for scale in scales]


@pytest.mark.parametrize("two_sided", [False, True])
def test_same_answers_in_fewer_iterations(two_sided: bool) -> None:
    problems = along(np.geomspace(0.3, 3.0, 8), two_sided=two_sided)
    alone = [solve_schedule(problem, 1e-7) for problem in problems]
    path = schedule_path(problems, 1e-7)
    for problem, one, other in zip(problems, alone, path, strict=True):
        assert other.status is Status.OPTIMAL
        assert problem.violations(other.u).worst <= 1e-9
        # Each bound holds for the other's trades.
        slack = 1e-12 * problem.scale(one.u)
        assert other.lower_bound <= one.objective + slack
        assert one.lower_bound <= other.objective + slack
    assert sum(s.iterations for s in path) < sum(s.iterations for s in alone)


def test_cost_rises_with_lambda_and_risk_falls() -> None:
    problems = along(np.geomspace(0.1, 10.0, 6))
    path = schedule_path(iter(problems), 1e-7)
    risk = [problem.parts(s.u)["risk"] / problem.risk_weight[0] for problem, s in zip(problems, path, strict=True)]
    assert (np.diff(risk) < 0.0).all()


def test_a_change_of_shape_starts_cold() -> None:
    first, second = schedule_instance(20, 8, seed=1), schedule_instance(30, 8, seed=2)
    path = schedule_path([first, second], 1e-6)
    assert np.array_equal(path[1].u, solve_schedule(second, 1e-6).u)


def test_an_infeasible_member_does_not_spoil_the_next() -> None:
    good = schedule_instance(40, 13, seed=3, cap=1.1)
    shut = replace(good, group_caps=0.5 * good.group_caps)
    path = schedule_path([good, shut, good], 1e-6)
    assert [s.status.ok for s in path] == [True, False, True]


def test_interior_and_repeatable() -> None:
    problems = along(np.array([1.0, 1.2]))
    path = schedule_path(problems, 1e-9, method="interior")
    assert [s.method for s in path] == ["interior", "interior"]
    assert all(s.status is Status.OPTIMAL for s in path)
    again = schedule_path(problems, 1e-9, method="interior")
    assert all(np.array_equal(a.u, b.u) for a, b in zip(path, again, strict=True))


def test_nothing_and_nonsense() -> None:
    assert schedule_path([]) == []
    with pytest.raises(InvalidInput, match="tol"):
        schedule_path(along(np.ones(1)), tol=2.0)
