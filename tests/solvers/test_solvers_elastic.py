"""Elastic relaxation and the registry: conflicts in the user's names, backends that prove themselves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Status, elastic, solve
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput


def crowded() -> QuadraticProgram:
    """Return a sale of 10 in three slices that may take 2 each, with a cap of 5 on the first two."""
    return QuadraticProgram(
        np.eye(3),
        np.zeros(3),
        [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]],
        [10.0, -np.inf],
        [10.0, 5.0],
        lb=0.0,
        ub=2.0,
        row_names=("complete", "early cap"),
        var_names=("t0", "t1", "t2"),
    )


def test_smallest_relaxation_is_named():
    program = crowded()
    assert solve(program).status is Status.INFEASIBLE
    report = elastic(program)
    assert report.amounts == pytest.approx({"complete": -4.0})
    assert report.total == pytest.approx(4.0)
    assert "lower complete by 4" in report.summary()
    assert report.certificate.passes()
    mended = program.with_vectors(l=program.l + np.array([report.amounts["complete"], 0.0]))
    assert solve(mended).status is Status.OPTIMAL
    assert np.allclose(report.to_frame()["amount"], [-4.0])


def test_boxes_may_move_too():
    report = elastic(crowded(), rows=["early cap"], variables=["t0", "t1", "t2"])
    assert report.total == pytest.approx(4.0)
    assert "complete" not in report.amounts
    relaxed = {"t0": 2.0, "t1": 2.0, "t2": 2.0}
    for name, amount in report.amounts.items():
        assert amount > 0.0
        if name in relaxed:
            relaxed[name] += amount
    assert sum(relaxed.values()) + 1e-9 >= 10.0


def test_weights_decide_what_moves():
    program = crowded()
    dear = elastic(program, variables=["t2"], weights={"complete": 10.0})
    assert dear.amounts == pytest.approx({"t2": 4.0})


def test_feasible_program_needs_nothing():
    report = elastic(QuadraticProgram(np.eye(1), [0.0], [[1.0]], -1.0, 1.0))
    assert report.feasible
    assert report.total == 0.0
    assert report.summary() == "nothing needs to be relaxed"
    assert report.to_frame().empty


def test_limits_that_may_not_move_and_contradict():
    with pytest.raises(InfeasibleProblem, match="contradict"):
        elastic(crowded(), rows=["early cap"])
    for bad in ({"rows": ["no such"]}, {"rows": [7]}, {"weights": {"complete": -1.0}}, {"weights": {"x": 1.0}}):
        with pytest.raises(InvalidInput):
            elastic(crowded(), **bad)


@pytest.mark.parametrize("seed", range(15))
def test_total_equals_the_violation_of_a_planted_conflict(seed):
    rng = np.random.default_rng(seed)
    n = 6
    w = np.abs(rng.normal(size=n)) + 0.1
    top = float(w @ np.ones(n))
    excess = float(rng.uniform(0.1, 5.0))
    program = QuadraticProgram(None, np.zeros(n), [w], top + excess, np.inf, lb=-1.0, ub=1.0)
    assert elastic(program).total == pytest.approx(excess, rel=1e-9)


def test_import_is_light():
    code = (
        "import sys, crosswind.solvers; "
        "heavy = {'cvxpy', 'jax', 'plotly', 'osqp', 'piqp', 'clarabel', 'pyarrow', 'rich', 'pandas'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_functions_are_not_shadowed_by_their_modules():
    import crosswind.solvers as room
    import crosswind.solvers.certify
    import crosswind.solvers.elastic
    import crosswind.solvers.solve  # noqa: F401

    assert all(callable(getattr(room, name)) for name in ("solve", "certify", "elastic"))
    assert all(hasattr(room, name) for name in room.__all__)


def test_statuses_say_what_to_do():
    assert all(len(status.text) > 40 for status in Status)
    assert [status for status in Status if status.ok] == [Status.OPTIMAL]
    assert not Status.INFEASIBLE.usable


def test_solution_frame_and_summary():
    found = solve(QuadraticProgram(np.eye(2), [-2.0, 0.0], ub=1.0, var_names=("a", "b")))
    frame = found.to_frame()
    assert frame.index.tolist() == ["a", "b"]
    assert frame.loc["a", "value"] == pytest.approx(1.0, abs=1e-6)
    assert frame.loc["a", "reduced_cost"] == pytest.approx(1.0, abs=1e-5)
    assert found.summary().startswith("OPTIMAL")
