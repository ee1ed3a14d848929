"""Benchmark programs of the roll: repeatable, solvable, and the same optimum by another solver."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.bench_suites import SEEDS, register_suites
from crosswind.problems.roll.instances import SIZES, roll_instance, roll_instances, roll_problem
from crosswind.solvers import solve
from crosswind.solvers.bench.suites import find_suite
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.tail import solve_tail


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_cone_solver_finds_what_the_structured_one_does(seed: int, hostile: bool) -> None:
    shape = SIZES["roll-20x6"]
    program = roll_problem(*shape, seed, hostile).assembly().program
    own = solve_tail(program, 1e-8)
    other = solve(roll_instance(*shape, seed, hostile), ("clarabel",), tol=1e-9)
    assert own.status.ok
    assert other.status.ok
    x = other.x[: program.n]
    assert program.violation(np.maximum(x, 0.0)) < 1e-6
    scale = abs(own.costs).max()
    assert program.objective(np.maximum(x, 0.0)) == pytest.approx(own.objective, abs=1e-5 * scale)
    assert own.lower_bound <= own.objective + 1e-9 * scale


def test_hostile_ones_are_nearer_to_their_limits() -> None:
    def left(seed: int, hostile: bool) -> float:
        problem = roll_problem(*SIZES["roll-20x6"], seed, hostile)
        sc, most = problem.scenarios, problem.settings.participation
        return problem.order.size / (most * float(sc.volume.sum()) + float(sc.capacity().min()))

    assert all(left(seed, True) > left(seed, False) for seed in range(8))


def test_the_same_seed_gives_the_same_program() -> None:
    sizes = {"roll-5x3": (5, 3, 2)}
    first, again = (list(roll_instances(sizes, seeds=3, hostile=True)) for _ in range(2))
    assert [name for name, _ in first] == [f"roll-5x3-hostile-{seed}" for seed in range(3)]
    for (_, one), (_, two) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.q, two.q)
        np.testing.assert_array_equal(one.A.toarray(), two.A.toarray())
    assert not np.array_equal(first[0][1].q, first[1][1].q)
    with pytest.raises(InvalidInput, match="sizes"):
        roll_problem(0, 3, 2)


def test_the_suite_is_known_to_the_benchmark() -> None:
    register_suites()
    suite = find_suite("roll")
    assert len(suite.cases) == 2 * (2 * len(SEEDS) + 2)
    assert sum(case.quick for case in suite.cases) == 2 * 3
    case = next(case for case in suite.cases if case.quick)
    assert case.make().q.size == roll_instance(*SIZES["roll-20x6"], 0).q.size
