"""Derivatives of solutions: finite differences, closed forms, adjointness, envelope theorem, flags, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Status, solve
from crosswind.solvers import differentiate_kkt as kkt_module
from crosswind.solvers.differentiate import Degeneracy, ProgramChange, sensitivities, sensitivities_at
from crosswind.solvers.errors import InvalidInput, SolverFailure

VECTORS = ("q", "l", "u", "lb", "ub")
I2 = np.eye(2)


def mixed(seed: int, n: int = 10, m: int = 7, unit: float = 1.0) -> QuadraticProgram:
    """Two equalities, tight two-sided rows and boxes of which some bind, in units of x and costs of one over them."""
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(n, n))
    A, x0 = rng.normal(size=(m, n)), rng.normal(size=n)
    low, high = A @ x0 - 0.3 * rng.exponential(size=m), A @ x0 + 0.3 * rng.exponential(size=m)
    low[:2] = high[:2] = (A @ x0)[:2]
    return QuadraticProgram(
        (G @ G.T + 0.1 * np.eye(n)) / unit,
        5.0 * rng.normal(size=n),
        A,
        low * unit,
        high * unit,
        lb=(x0 - 0.5) * unit,
        ub=(x0 + 0.5) * unit,
    )


def direction(program: QuadraticProgram, seed: int, unit: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {k: unit * rng.normal(size=getattr(program, k).size) for k in ("l", "u", "lb", "ub")}
    equal = program.l == program.u
    out["l"][equal] = out["u"][equal]
    D = rng.normal(size=(program.n, program.n))
    return out | {
        "q": rng.normal(size=program.n),
        "P": (D + D.T) / unit,
        "A": rng.normal(size=(program.m, program.n)),
    }


def moved(program: QuadraticProgram, by: dict[str, Any], h: float) -> QuadraticProgram:
    values = program.with_values(program.P.toarray() + h * by["P"], program.A.toarray() + h * by["A"])
    return values.with_vectors(**{k: getattr(program, k) + h * by[k] for k in VECTORS})


def product(gradient: ProgramChange, program: QuadraticProgram, by: dict[str, Any]) -> float:
    inner = sum(float(getattr(gradient, k) @ by[k]) for k in VECTORS)
    return inner + float(gradient.P @ by["P"].T.ravel() + gradient.A @ by["A"].T.ravel())


@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-5])
@pytest.mark.parametrize("seed", range(6))
def test_equals_central_differences_in_all_data_at_once(seed, unit):
    program = mixed(seed, unit=unit)
    by = direction(program, 100 + seed, unit)
    made = sensitivities(program, solve(program, tol=1e-8))
    assert not made.degenerate, made.summary()
    assert 4 <= made.active.sum() <= 12
    h = 1e-6
    ends = [sensitivities(p, solve(p, tol=1e-8)) for p in (moved(program, by, h), moved(program, by, -h))]
    slope = made.jvp(**by)
    for part in "xyz":
        difference = (getattr(ends[0], part) - getattr(ends[1], part)) / (2.0 * h)
        exact = getattr(slope, part)
        assert np.max(np.abs(difference - exact)) <= 1e-7 * np.max(np.abs(exact), initial=1e-300), part
    values = [end.program.objective(end.x) for end in ends]
    assert (values[0] - values[1]) / (2.0 * h) == pytest.approx(slope.value, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_products_are_adjoint_of_each_other(seed):
    program = mixed(seed)
    made = sensitivities(program, solve(program))
    rng, by = np.random.default_rng(seed), direction(program, seed)
    out = {"x": rng.normal(size=program.n), "y": rng.normal(size=program.m), "z": rng.normal(size=program.n)}
    weight = float(rng.normal())
    forward = made.jvp(**by)
    left = sum(float(getattr(forward, k) @ g) for k, g in out.items()) + weight * forward.value
    assert product(made.vjp(**out, value=weight), program, by) == pytest.approx(left, rel=1e-10)


@pytest.mark.parametrize("case", ["dependent", "flat", "both"])
@pytest.mark.parametrize("dense", [True, False])
def test_products_stay_adjoint_where_the_system_is_singular(case, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(kkt_module, "DENSE", 0)
    base = mixed(1)
    P, A = base.P.toarray(), base.A.toarray()
    if case != "dependent":
        P[0, :] = P[:, 0] = 0.0
        A[:, 0] = 0.0
    if case != "flat":
        A[1] = A[0]
    q = base.q * (np.arange(base.n) > 0) if case != "dependent" else base.q
    high = np.where(np.arange(base.m) == 1, base.u[0], base.u)
    low = np.where(np.arange(base.m) == 1, base.l[0], base.l)
    program = QuadraticProgram(P, q, sparse.csc_matrix(A + 0.0), low, high, lb=base.lb, ub=base.ub)
    made = sensitivities(program, solve(program))
    assert made.degenerate
    rng = np.random.default_rng(0)
    by = {k: rng.normal(size=getattr(program, k).size) for k in VECTORS}
    by |= {"P": rng.normal(size=program.P.nnz), "A": rng.normal(size=program.A.nnz)}
    by["P"] = sparse.csc_matrix((by["P"], program.P.indices, program.P.indptr), shape=program.P.shape)
    by["P"] = (by["P"] + by["P"].T).tocsc()
    out = {"x": rng.normal(size=program.n), "y": rng.normal(size=program.m), "z": rng.normal(size=program.n)}
    forward, back = made.jvp(**by), made.vjp(**out)
    left = sum(float(getattr(forward, k) @ g) for k, g in out.items())
    right = sum(float(getattr(back, k) @ by[k]) for k in VECTORS) + back.A @ by["A"] + back.P @ by["P"].data
    assert right == pytest.approx(left, rel=1e-9)


def test_value_gradient_is_the_multipliers_and_the_point():
    program = mixed(3)
    made = sensitivities(program, solve(program, tol=1e-9))
    slope = made.value_gradient
    assert np.array_equal(slope.q, made.x)
    assert np.allclose(slope.u + slope.l, -made.y)
    assert np.allclose(slope.ub + slope.lb, -made.z)
    assert (slope.u <= 0.0).all()
    assert (slope.l >= 0.0).all()
    by = direction(program, 9)
    assert product(slope, program, by) == pytest.approx(made.jvp(**by).value, rel=1e-12)
    # It is also what the reverse product of the value alone gives.
    alone = made.vjp(value=1.0)
    assert all(np.array_equal(getattr(alone, k), getattr(slope, k)) for k in (*VECTORS, "P", "A"))


def test_a_loose_solution_is_refined_on_its_active_limits():
    program = mixed(2)
    loose = solve(program, solver="osqp", tol=1e-3)
    exact = sensitivities(program, solve(program, tol=1e-9))
    made = sensitivities(program, loose)
    assert np.max(np.abs(loose.x - exact.x)) > 1e-8
    assert np.max(np.abs(made.x - exact.x)) < 1e-12
    assert made.tolerance == pytest.approx(1e-8)
    assert np.allclose(made.jvp(q=1.0).x, exact.jvp(q=1.0).x, rtol=1e-9, atol=1e-12)


def test_projection_onto_a_box_passes_what_is_inside():
    point = np.array([-2.0, -0.3, 0.4, 3.0])
    program = QuadraticProgram(np.eye(4), -point, lb=-1.0, ub=1.0)
    made = sensitivities(program, solve(program))
    inside = np.diag([0.0, 1.0, 1.0, 0.0])
    jacobian = np.stack([made.jvp(q=-column).x for column in np.eye(4)], axis=1)
    assert np.allclose(jacobian, inside, atol=1e-14)
    assert np.allclose(made.jvp(lb=1.0).x, [1.0, 0.0, 0.0, 0.0])
    assert np.allclose(made.jvp(ub=1.0).x, [0.0, 0.0, 0.0, 1.0])


def test_projection_onto_the_simplex():
    point = np.array([0.9, 0.5, 0.1, -0.4, -2.0])
    program = QuadraticProgram(np.eye(5), -point, np.ones((1, 5)), 1.0, 1.0, lb=0.0)
    made = sensitivities(program, solve(program))
    support = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    assert made.x == pytest.approx([0.7, 0.3, 0.0, 0.0, 0.0], abs=1e-12)
    expected = np.diag(support) - np.outer(support, support) / 2.0
    jacobian = np.stack([made.vjp(x=row).q for row in np.eye(5)])
    assert np.allclose(jacobian, -expected, atol=1e-13)
    assert np.allclose(made.jvp(l=1.0, u=1.0).x, support / 2.0, atol=1e-13)


def test_equality_constrained_program_is_its_inverse_matrix():
    rng = np.random.default_rng(5)
    G, A = rng.normal(size=(6, 6)), rng.normal(size=(2, 6))
    P = G @ G.T + np.eye(6)
    program = QuadraticProgram(P, rng.normal(size=6), A, [1.0, 2.0], [1.0, 2.0])
    made = sensitivities(program, solve(program))
    inverse = np.linalg.inv(np.block([[P, A.T], [A, np.zeros((2, 2))]]))
    by_q = np.stack([made.jvp(q=e).x for e in np.eye(6)], axis=1)
    by_b = np.stack([made.jvp(l=e, u=e).y for e in np.eye(2)], axis=1)
    assert np.allclose(by_q, -inverse[:6, :6], atol=1e-12)
    assert np.allclose(by_b, inverse[6:, 6:], atol=1e-12)


def test_sparse_and_dense_factors_agree(monkeypatch):
    program = mixed(4, n=40, m=20)
    found = solve(program)
    dense = sensitivities(program, found)
    monkeypatch.setattr(kkt_module, "DENSE", 0)
    thin = sensitivities(program, found)
    by = direction(program, 1)
    assert np.allclose(dense.jvp(**by).x, thin.jvp(**by).x, rtol=1e-10, atol=1e-12)
    assert not thin.degenerate


def one_sided() -> QuadraticProgram:
    return QuadraticProgram(np.eye(1), [-1.0], ub=1.0)


DEGENERATE = {
    "box just binds": (one_sided(), Degeneracy.WEAKLY_ACTIVE),
    "row just binds": (QuadraticProgram(I2, [-1.0, 0.0], [[1.0, 0.0]], -np.inf, 1.0), Degeneracy.WEAKLY_ACTIVE),
    "row twice": (
        QuadraticProgram(I2, [-2.0, -2.0], [[1.0, 1.0], [1.0, 1.0]], -np.inf, 1.0),
        Degeneracy.DEPENDENT_LIMITS,
    ),
    "equality twice": (
        QuadraticProgram(I2, [-2.0, -2.0], [[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0], [1.0, 2.0]),
        Degeneracy.DEPENDENT_LIMITS,
    ),
    "feasible set is a point": (
        QuadraticProgram(I2, [-2.0, 1.0], [[1.0, 1.0]], -np.inf, 0.0, lb=0.0),
        Degeneracy.DEPENDENT_LIMITS,
    ),
    "three limits in the plane": (
        QuadraticProgram(I2, [-3.0, -3.0], [[1.0, 1.0]], -np.inf, 2.0, ub=1.0),
        Degeneracy.DEPENDENT_LIMITS,
    ),
    "fixed variables and a row": (
        QuadraticProgram(I2, [-3.0, -3.0], [[1.0, 1.0]], 3.0, 3.0, lb=[1.0, 2.0], ub=[1.0, 2.0]),
        Degeneracy.DEPENDENT_LIMITS,
    ),
    "flat objective": (
        QuadraticProgram(np.diag([1.0, 0.0]), [-2.0, 0.0], lb=-5.0, ub=5.0),
        Degeneracy.FLAT_OBJECTIVE,
    ),
    "edge of a linear program": (
        QuadraticProgram(None, [-1.0, -1.0], [[1.0, 1.0]], -np.inf, 1.0, lb=0.0),
        Degeneracy.FLAT_OBJECTIVE,
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("dense", [True, False])
def test_degenerate_programs_are_flagged_with_the_reason(name, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(kkt_module, "DENSE", 0)
    program, expected = DEGENERATE[name]
    made = sensitivities(program, solve(program, tol=1e-7))
    assert made.degenerate
    assert expected in made.degeneracy
    assert made.value_degenerate == (expected is not Degeneracy.WEAKLY_ACTIVE)
    assert "DEGENERATE" in made.summary()
    slope = made.vjp(x=1.0, y=1.0, z=1.0)
    assert all(np.isfinite(getattr(slope, k)).all() for k in (*VECTORS, "P", "A"))


REGULAR = {
    "vertex of a linear program": QuadraticProgram(None, [-1.0, -2.0], [[1.0, 1.0]], -np.inf, 1.0, lb=0.0),
    "point by two equalities": QuadraticProgram(I2, [-2.0, 1.0], [[1.0, 1.0], [1.0, -1.0]], [1.0, 0.0], [1.0, 0.0]),
    "all fixed": QuadraticProgram(I2, [-3.0, -3.0], lb=[1.0, 2.0], ub=[1.0, 2.0]),
    "nothing binds": QuadraticProgram(I2, [-3.0, -3.0]),
    "thin box": QuadraticProgram(I2, [-3.0, -3.0], lb=0.0, ub=[1e-9, 1.0]),
    "small curvature beside a row": QuadraticProgram(1e-10 * I2, [-3e-4, -3e-4], [[1.0, 1.0]], -np.inf, 1e6, lb=0.0),
    "curvatures far apart": QuadraticProgram(np.diag([1.0, 1e-9]), [-1.0, -1e-9]),
}


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("dense", [True, False])
def test_regular_programs_are_not_flagged(name, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(kkt_module, "DENSE", 0)
    made = sensitivities(REGULAR[name], solve(REGULAR[name], tol=1e-8))
    assert not made.degenerate, made.summary()
    assert made.reason == "regular: the derivative is unique"


def test_weak_limit_gives_either_one_sided_derivative():
    program = one_sided()
    found = solve(program, tol=1e-8)
    assert sensitivities(program, found).jvp(q=1.0).x == pytest.approx([-1.0])
    assert sensitivities(program, found, weak="held").jvp(q=1.0).x == pytest.approx([0.0])
    # Slightly inside and slightly outside there is one derivative, and a wider tolerance flags both.
    for q, slope in ((-1.0 + 1e-4, -1.0), (-1.0 - 1e-4, 0.0)):
        near = program.with_vectors(q=[q])
        made = sensitivities(near, solve(near, tol=1e-9))
        assert not made.degenerate
        assert made.jvp(q=1.0).x == pytest.approx([slope])
        assert sensitivities(near, solve(near, tol=1e-9), tol=1e-3).degeneracy is Degeneracy.WEAKLY_ACTIVE


def test_twin_rows_share_the_least_norm_answer():
    program, _ = DEGENERATE["row twice"]
    slope = sensitivities(program, solve(program)).jvp(u=1.0)
    assert slope.x == pytest.approx([0.5, 0.5])
    assert slope.y == pytest.approx([-0.25, -0.25])


def test_frame_and_reason_name_the_limits():
    program = QuadraticProgram(
        I2, [-1.0, -5.0], [[1.0, 0.0]], -np.inf, 1.0, ub=2.0, row_names=("cap",), var_names=("IBM", "MSFT")
    )
    made = sensitivities(program, solve(program))
    assert made.to_frame().state.to_dict() == {"row cap": "weak", "box of IBM": "away", "box of MSFT": "active"}
    assert "row cap" in made.reason
    assert "Sensitivities" in repr(made)


def test_refusals_are_typed():
    program = mixed(0)
    found = solve(program)
    cone = ConeProgram(np.eye(1), [1.0], [[1.0]], [1.0], (Cone("nonneg", 1),))
    with pytest.raises(InvalidInput, match="quadratic"):
        sensitivities(cone, solve(cone))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="Solution"):
        sensitivities(program, found.x)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="does not solve"):
        sensitivities(program.with_vectors(q=program.q + 1.0), found)
    with pytest.raises(InvalidInput, match="shape"):
        sensitivities(mixed(0, n=11), found)
    for bad in (0.0, 1.0, np.nan):
        with pytest.raises(InvalidInput, match="between 0 and 1"):
            sensitivities(program, found, tol=bad)
    with pytest.raises(InvalidInput, match="free or held"):
        sensitivities(program, found, weak="both")
    with pytest.raises(InvalidInput, match="no solution"):
        sensitivities_at(program, found.x + 1.0, found.y, found.z)
    made = sensitivities(program, found)
    with pytest.raises(InvalidInput, match="shape"):
        made.jvp(q=np.zeros(3))
    with pytest.raises(InvalidInput, match="not finite"):
        made.vjp(x=np.nan)
    with pytest.raises(InvalidInput, match="not finite"):
        made.vjp(value=np.inf)
    thin = QuadraticProgram(np.eye(2), [1.0, 1.0])
    diagonal = sensitivities(thin, solve(thin))
    with pytest.raises(InvalidInput, match="pattern"):
        diagonal.jvp(P=np.ones((2, 2)))


def test_what_is_not_certified_has_no_derivative():
    infeasible = QuadraticProgram(np.eye(1), [0.0], [[1.0], [1.0]], [1.0, -np.inf], [np.inf, 0.0])
    found = solve(infeasible)
    assert found.status is Status.INFEASIBLE
    with pytest.raises(SolverFailure, match="INFEASIBLE"):
        sensitivities(infeasible, found)
    program = mixed(0)
    stopped = solve(program, solver="osqp", tol=1e-9, max_iter=1)
    assert stopped.status is not Status.OPTIMAL
    with pytest.raises(SolverFailure, match="certified"):
        sensitivities(program, stopped)


def test_many_random_degenerate_programs_never_give_what_is_not_finite(make_program):
    flagged = 0
    for seed in range(60):
        program = make_program(seed, span=2.0)
        found = solve(program)
        if found.status is not Status.OPTIMAL:
            continue
        made = sensitivities(program, found)
        flagged += made.degenerate
        slope = made.vjp(x=1.0)
        assert all(np.isfinite(getattr(slope, k)).all() for k in (*VECTORS, "P", "A")), seed
        assert made.error <= 1e-6
    assert flagged >= 10


def test_a_hundred_regular_programs_of_the_shared_suite(backend_suite):
    checked = 0
    for case in backend_suite.cases("non-degenerate"):
        program = case.program
        made = sensitivities(program, solve(program, tol=1e-8))
        assert not made.degenerate, (case.name, made.summary())
        along = np.random.default_rng(0).normal(size=program.n) * float(np.max(np.abs(program.q)))
        h = 1e-6
        near = [program.with_vectors(q=program.q + t * along) for t in (h, -h)]
        ends = [sensitivities(end, solve(end, tol=1e-8)) for end in near]
        if any((end.active != made.active).any() for end in ends):
            continue  # a kink within the step
        slope = made.jvp(q=along).x
        rounding = 1e-9 * float(np.max(np.abs(made.x)))  # of x, divided by the step; a vertex does not move at all
        error = np.max(np.abs((ends[0].x - ends[1].x) / (2.0 * h) - slope))
        assert error <= 1e-6 * np.max(np.abs(slope)) + rounding, case.name
        checked += 1
    assert checked >= 90


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("duplicated rows", Degeneracy.DEPENDENT_LIMITS),
        ("dependent equalities", Degeneracy.DEPENDENT_LIMITS),
        ("a point", Degeneracy.DEPENDENT_LIMITS),
        ("no licq", Degeneracy.DEPENDENT_LIMITS),
        ("zero objective", Degeneracy.FLAT_OBJECTIVE),
        ("flat directions", Degeneracy.FLAT_OBJECTIVE),
    ],
)
def test_degenerate_programs_of_the_shared_suite(backend_suite, kind, flag):
    found = [case.program for case in backend_suite.cases("degenerate") if case.name.startswith(kind)]
    assert len(found) >= 5
    for program in found:
        assert flag in sensitivities(program, solve(program, tol=1e-8)).degeneracy
