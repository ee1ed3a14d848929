"""Elastic relaxation and the registry: conflicts in the user's names, backends that prove themselves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Status, elastic, solve, svec
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput
from crosswind.solvers.explain import explain


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


def test_conflict_is_told_in_the_users_words():
    program = QuadraticProgram(
        np.eye(4),
        np.zeros(4),
        [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]],
        [5e6, -np.inf, 1.0],
        [5e6, 3.8e6, 1.0],
        row_names=("completion of IBM", "participation cap", "completion of MSFT"),
    )
    found = solve(program)
    assert found.status is Status.INFEASIBLE
    report = elastic(program)
    assert set(report.conflict.members) == {"completion of IBM", "participation cap"}
    assert report.conflict.irreducible
    assert report.total == pytest.approx(1.2e6)
    text = explain(program, found)
    assert "completion of IBM (at least 5e+06)" in text
    assert "conflicts with participation cap (at most 3.8e+06)" in text or "participation cap" in text
    assert "smallest relaxation 1.2e+06" in text
    assert "MSFT" not in text


def test_conflict_of_a_row_with_boxes_names_them():
    report = elastic(crowded())
    assert "complete" in report.conflict.members
    assert report.conflict.members["complete"] == "at least 10"
    assert "conflicts with" in report.summary()
    alone = QuadraticProgram(None, [0.0], [[0.0]], 1.0, 2.0, row_names=("never",))
    assert elastic(alone).conflict.text == "never (at least 1) cannot hold at all"


@pytest.mark.parametrize("seed", range(20))
def test_conflicts_are_irreducible_and_proved(seed):
    rng = np.random.default_rng(seed)
    n, m = 6, 12
    A = rng.normal(size=(m, n))
    x = rng.normal(size=n)
    A[3] = A[0] + 2.0 * A[1]  # planted: rows 0 and 1 from below, 3 from above
    low, high = A @ x - rng.random(m), A @ x + rng.random(m)
    low[:2], high[3] = A[:2] @ x, A[3] @ x - 0.5
    low[3] = -np.inf
    program = QuadraticProgram(None, np.zeros(n), A, low, high)
    report = elastic(program)
    assert not report.feasible
    members = [int(name.split()[1]) for name in report.conflict.members]
    proof = report.conflict.proof
    assert np.max(np.abs(A.T @ proof.y)) < 1e-9
    assert set(np.flatnonzero(proof.y)) == set(members)
    for left_out in members:
        keep = [i for i in members if i != left_out]
        part = QuadraticProgram(None, np.zeros(n), A[keep], low[keep], high[keep])
        assert solve(part).status is Status.OPTIMAL, "without any one member the rest must be feasible"


def test_rays_name_their_variables():
    program = QuadraticProgram(
        np.diag([1.0, 0.0]), [0.0, -1.0], [[1.0, -1.0]], -np.inf, 5.0, lb=[-np.inf, 0.0], var_names=("stock", "cash")
    )
    text = explain(program, solve(program))
    assert "raising cash" in text
    assert "stock" not in text
    assert "no limit is ever met" in text
    fine = QuadraticProgram(np.eye(1), [0.0])
    assert explain(fine, solve(fine)) == Status.OPTIMAL.text


def test_cone_programs_are_relaxed_and_explained_too():
    # x ≥ 3 and ‖x‖ ≤ 1: the radius must grow by 2, or the floor fall by 2.
    program = ConeProgram(
        np.eye(1),
        [0.0],
        [[-1.0], [0.0], [-1.0]],
        [-3.0, 1.0, 0.0],
        (Cone("nonneg", 1), Cone("soc", 2)),
        row_names=("floor", "risk", "risk of x"),
    )
    found = solve(program)
    assert found.status is Status.INFEASIBLE
    report = elastic(program)
    assert report.total == pytest.approx(2.0, rel=1e-4)
    assert set(report.amounts) <= {"floor", "risk"}
    assert set(report.conflict.members) == {"floor", "risk"}
    assert "second-order cone" in explain(program, found)
    # trace X = −1 with X positive semidefinite
    d = svec(np.eye(2)).size
    matrix = ConeProgram(
        None,
        np.zeros(d),
        np.vstack((svec(np.eye(2))[None, :], -np.eye(d))),
        np.r_[-1.0, np.zeros(d)],
        (Cone("zero", 1), Cone("psd", 2)),
        row_names=("trace", "X", "X01", "X11"),
    )
    assert elastic(matrix).total == pytest.approx(0.5, rel=1e-3)  # each eigenvalue may fall to −½
    happy = ConeProgram(None, [1.0], [[-1.0]], [0.0], (Cone("nonneg", 1),))
    assert elastic(happy).feasible
    with pytest.raises(InvalidInput, match="as a whole"):
        elastic(program, rows=[0])
