"""solve: closed forms, backend × problem against tight Clarabel, statuses that nobody's word can buy."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Status, certify, smat, solve, svec
from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Raw
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.proofs import prove_infeasible, prove_unbounded
from crosswind.solvers.registry import backend
from crosswind.solvers.solve import run_chain

DIRECT = ("piqp", "clarabel", "osqp")
# Asked of each backend and what the answer may then be off by, in units of the largest |x|: one table.
ACCURACY = {"piqp": (1e-9, 1e-5), "clarabel": (1e-9, 1e-5), "osqp": (1e-7, 1e-3), "cvxpy": (1e-7, 1e-4)}


def simplex_projection(v: np.ndarray) -> np.ndarray:
    """Return the projection on the unit simplex by sorting (Held, Wolfe, Crowder 1974)."""
    u = np.sort(v)[::-1]
    excess = (np.cumsum(u) - 1.0) / np.arange(1, v.size + 1)
    return np.maximum(v - excess[np.flatnonzero(u > excess)[-1]], 0.0)


def closed_forms() -> dict[str, tuple[QuadraticProgram, np.ndarray]]:
    rng = np.random.default_rng(7)
    n = 12
    G = rng.normal(size=(n, n))
    P = G @ G.T + np.eye(n)
    q, A, b = rng.normal(size=n), rng.normal(size=(3, n)), rng.normal(size=3)
    kkt = np.block([[P, A.T], [A, np.zeros((3, 3))]])
    v = rng.normal(size=n)
    return {
        "no limits": (QuadraticProgram(P, q), np.linalg.solve(P, -q)),
        "equalities": (QuadraticProgram(P, q, A, b, b), np.linalg.solve(kkt, np.r_[-q, b])[:n]),
        "box": (QuadraticProgram(np.eye(n), -3.0 * v, lb=-1.0, ub=1.0), np.clip(3.0 * v, -1.0, 1.0)),
        "simplex": (
            QuadraticProgram(np.eye(n), -v, np.ones((1, n)), 1.0, 1.0, lb=0.0),
            simplex_projection(v),
        ),
        "linear": (QuadraticProgram(None, np.arange(1.0, n + 1), np.ones((1, n)), 1.0, 1.0, lb=0.0), np.eye(n)[0]),
        "all fixed": (QuadraticProgram(P, q, lb=v, ub=v), v),
        "a point": (  # Σx at its largest value within the box: the feasible set is one point
            QuadraticProgram(P, q, np.ones((1, n)), float(n), float(n), lb=0.0, ub=1.0),
            np.ones(n),
        ),
        "free rows": (
            QuadraticProgram(P, q, A, -np.inf, np.inf),
            np.linalg.solve(P, -q),
        ),
        "zero cost": (QuadraticProgram(None, np.zeros(n), lb=v, ub=v), v),
        "currency": (  # trades of 1e8 at 1e-10 per currency
            QuadraticProgram(1e-10 * np.eye(n), np.zeros(n), np.ones((1, n)), 1.2e9, 1.2e9, lb=0.0, ub=1e9),
            np.full(n, 1e8),
        ),
    }


@pytest.mark.parametrize("name", sorted(closed_forms()))
@pytest.mark.parametrize("solver", ["auto", *DIRECT, "cvxpy"])
def test_closed_forms(name, solver):
    program, answer = closed_forms()[name]
    tol, slack = ACCURACY.get(solver, ACCURACY["piqp"])
    found = solve(program, solver, tol=tol)
    assert found.status is Status.OPTIMAL, found.summary()
    assert np.max(np.abs(found.x - answer)) <= slack * max(1.0, np.max(np.abs(answer)))
    assert found.objective == pytest.approx(program.objective(answer), rel=1e-5, abs=1e-5)
    assert found.backend == (solver if solver != "auto" else "piqp")
    assert found.certificate.passes(tol)


@pytest.mark.parametrize("solver", ["piqp", "osqp", "cvxpy:SCS", "cvxpy:OSQP"])
@pytest.mark.parametrize("seed", [3, 8, 21])
def test_every_backend_against_tight_clarabel(make_program, solver, seed):
    program = make_program(seed, span=0.5)
    sure = solve(program, "clarabel", tol=1e-9)
    found = solve(program, solver, tol=1e-6)
    assert sure.status.ok
    assert found.status.ok, found.summary()
    assert found.objective == pytest.approx(sure.objective, rel=1e-5, abs=1e-6 * max(1.0, np.max(np.abs(program.q))))


def test_signs_of_the_multipliers():
    # min ½x² − 3x with x ≤ 1 as a row and, in the second variable, ½x² + 3x with x ≥ −1 as a box.
    program = QuadraticProgram(np.eye(2), [-3.0, 3.0], [[1.0, 0.0]], -5.0, 1.0, lb=-1.0, ub=9.0)
    for solver in (*DIRECT, "cvxpy"):
        found = solve(program, solver, tol=1e-7)
        assert found.x == pytest.approx([1.0, -1.0], abs=1e-5)
        assert found.y == pytest.approx([2.0], abs=1e-5)
        assert found.z == pytest.approx([0.0, -2.0], abs=1e-5)


@pytest.mark.parametrize("seed", range(500))
def test_degenerate_programs_over_fifteen_decades(make_program, seed):
    """Constructed feasible and bounded: never a false claim, and an accuracy of 1e-6 by our certificate."""
    found = solve(make_program(seed))
    assert found.status is Status.OPTIMAL, found.summary()


@pytest.mark.parametrize("solver", DIRECT)
def test_backends_never_call_a_feasible_program_infeasible(make_program, solver):
    for seed in range(1000, 1060):
        found = solve(make_program(seed), solver)
        assert found.status not in (Status.INFEASIBLE, Status.UNBOUNDED), f"{seed}: {found.summary()}"


def planted_optimum(seed: int) -> tuple[QuadraticProgram, float, float]:
    """Return a program with dependent equalities and slivers of boxes, its optimum and the size of its cost terms."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 9)), int(rng.integers(3, 9))
    G, A = rng.normal(size=(int(rng.integers(0, n + 1)), n)), rng.normal(size=(m, n))
    A[1], A[2] = A[0], 0.0
    x, y, z = rng.normal(size=n), rng.normal(size=m), rng.normal(size=n)
    kind, box = rng.integers(0, 3, size=m), rng.integers(0, 4, size=n)
    y, z = np.where(kind == 2, 0.0, y), np.where(box == 3, 0.0, z)
    row, room = A @ x, 10.0 ** rng.choice([-7.0, 0.0, 6.0], size=(2, max(n, m)))
    # 0: equal; 1: active on the side of the multiplier; else: both sides open, or none at all for boxes
    l = np.where((kind == 0) | ((kind == 1) & (y < 0.0)), row, row - room[0, :m])  # noqa: E741
    u = np.where((kind == 0) | ((kind == 1) & (y > 0.0)), row, row + room[1, :m])
    lb = np.where((box == 0) | ((box <= 2) & (z < 0.0)), x, np.where(box == 3, -np.inf, x - room[0, :n]))
    ub = np.where((box == 0) | ((box <= 2) & (z > 0.0)), x, np.where(box == 3, np.inf, x + room[1, :n]))
    q = -(G.T @ (G @ x) + A.T @ y + z)
    length, cost = 10.0 ** rng.uniform(-3.0, 8.0), 10.0 ** rng.uniform(-6.0, 6.0)
    program = QuadraticProgram(
        G.T @ G * (cost / length**2), q * cost / length, A / length, l, u, lb=lb * length, ub=ub * length
    )
    terms = (abs(G @ x).max(initial=0.0) ** 2, abs(q * x).max(), abs(y * row).max(), abs(z * x).max())
    return program, program.objective(x * length), cost * max(terms)


def test_optimal_means_optimal_where_multipliers_are_not_unique():
    solved = 0
    for seed in range(150):
        program, best, size = planted_optimum(seed)
        found = solve(program)
        assert found.status not in (Status.INFEASIBLE, Status.UNBOUNDED), seed
        if found.status.ok:
            solved += 1
            assert abs(found.objective - best) <= 1e-4 * size, seed
        assert found.certificate.lower_bound <= best + 1e-12 * size, seed
    assert solved >= 130


def contradiction(program: QuadraticProgram, seed: int, gap: float) -> QuadraticProgram:
    """Return the program with two rows added that miss each other by the fraction ``gap`` of the data's size."""
    rng = np.random.default_rng(seed)
    sizes = np.abs(np.concatenate((program.l, program.u, program.lb, program.ub)))
    sizes = sizes[(sizes > 0.0) & np.isfinite(sizes)]
    size = float(np.median(sizes)) if sizes.size else 1.0
    w = sparse.csc_matrix(rng.normal(size=(1, program.n)))
    return QuadraticProgram(
        program.P,
        program.q,
        sparse.vstack((program.A, w, -2.0 * w)),
        np.r_[program.l, size, -2.0 * size * (1.0 - gap)],
        np.r_[program.u, np.inf, np.inf],
        lb=program.lb,
        ub=program.ub,
    )


@pytest.mark.parametrize("solver", ["auto", *DIRECT])
def test_infeasible_programs_are_proved(make_program, solver):
    proved = 0
    for seed in range(40):
        program = contradiction(make_program(seed, span=2.0), seed, gap=0.1)
        found = solve(program, solver)
        assert not found.status.ok
        if found.status is not Status.INFEASIBLE:
            continue
        proved += 1
        y, z = found.proof.y, found.proof.z
        assert np.array_equal(found.y, y)
        assert np.isnan(found.x).all()
        assert found.objective == np.inf
        # Farkas, checked here by hand: A'y + z ≈ 0 and the support value is negative.
        residual = np.abs(program.A.T @ y + z)
        assert np.max(residual) <= 1e-7 * np.max(np.abs(program.A.data))
        value = sum(v * (hi if v > 0 else lo) for v, lo, hi in zip(y, program.l, program.u, strict=True) if v)
        value += sum(v * (hi if v > 0 else lo) for v, lo, hi in zip(z, program.lb, program.ub, strict=True) if v)
        # What is left of A'y + z could only excuse points 1e4 times larger than any bound in the program.
        finite = [b[np.isfinite(b)] for b in (program.l, program.u)]
        assert value + 1e4 * np.max(np.abs(np.concatenate(finite))) * np.sum(residual) / np.max(np.abs(program.A)) < 0.0
    assert proved >= 38


@pytest.mark.parametrize("slope", [1e-3, -1e-3, 1e-5])
def test_multipliers_that_nearly_prove_prove_nothing(slope):
    # x + y ≥ 2 and x + (1 + slope) y ≤ 1 meet where y = −1/slope; within a box of ten they do not.
    program = QuadraticProgram(None, [0.0, 0.0], [[1.0, 1.0], [1.0, 1.0 + slope]], [2.0, -np.inf], [np.inf, 1.0])
    multipliers = np.array([-1.0, 1.0])
    assert prove_infeasible(program, multipliers) is None
    boxed = program.with_vectors(lb=[-10.0, -10.0], ub=[10.0, 10.0])
    assert prove_infeasible(boxed, multipliers) is not None


def test_directions_that_curve_or_meet_limits_prove_nothing():
    start = np.zeros(2)
    flat = QuadraticProgram(np.diag([0.0, 1.0]), [-1.0, 0.0])
    assert prove_unbounded(flat, np.array([1.0, 0.0]), start) is not None
    curved = QuadraticProgram(np.diag([1e-6, 1.0]), [-1.0, 0.0])
    assert prove_unbounded(curved, np.array([1.0, 0.0]), start) is None
    walled = QuadraticProgram(np.diag([0.0, 1.0]), [-1.0, 0.0], [[1e-6, 1.0]], -np.inf, 1.0)
    assert prove_unbounded(walled, np.array([1.0, 0.0]), start) is None


def test_claims_without_vectors_are_proved_by_our_phase_one():
    program = QuadraticProgram(np.eye(2), [1.0, 1.0], [[1.0, 1.0]], 3.0, 3.0, lb=0.0, ub=1.0)
    found = solve(program, "piqp")
    assert found.status is Status.INFEASIBLE
    assert [a.backend for a in found.attempts] == ["piqp", "phase one"]
    assert found.proof.margin > 0.0
    assert "elastic" in found.status.text


def test_unbounded_programs_are_proved():
    falling = QuadraticProgram(np.diag([1.0, 0.0]), [0.0, -1.0], [[1.0, -1.0]], -np.inf, 5.0, lb=[-np.inf, 0.0])
    for solver in ("auto", "clarabel", "osqp"):
        found = solve(falling, solver)
        assert found.status is Status.UNBOUNDED, found.summary()
        d = found.proof.direction
        assert np.max(np.abs(falling.P @ d)) < 1e-9
        assert falling.q @ d < 0.0
        assert (falling.A @ d)[0] <= 1e-9
        assert d[1] >= 0.0
        assert found.objective == -np.inf


def test_unbounded_cost_over_an_empty_set_is_infeasible():
    program = QuadraticProgram(None, [-1.0, 0.0], [[0.0, 1.0], [0.0, 1.0]], [1.0, -np.inf], [np.inf, 0.0])
    for solver in ("auto", "clarabel", "osqp"):
        assert solve(program, solver).status is Status.INFEASIBLE


def test_hardly_bounded_is_not_called_unbounded():
    # A curvature of 1e-7 along the way down: the optimum is far away, but it is there.
    program = QuadraticProgram(np.diag([1.0, 1e-7]), [0.0, -1.0])
    found = solve(program)
    assert found.status is Status.OPTIMAL
    assert found.x[1] == pytest.approx(1e7, rel=1e-4)


def test_stopped_iterates_are_graded_and_not_trusted():
    # cvxpy counts USER_LIMIT as a solution: an OSQP stopped early gave |Σx − 1| = 0.99997.
    rng = np.random.default_rng(0)
    n = 60
    G = rng.normal(size=(n, n))
    program = QuadraticProgram(G @ G.T, 1e4 * rng.normal(size=n), np.ones((1, n)), 1.0, 1.0, lb=-1.0, ub=1.0)
    for solver, name in (
        ("osqp", "max_iter"),
        ("piqp", "max_iter"),
        ("clarabel", "max_iter"),
        ("cvxpy:OSQP", "max_iter"),
    ):
        found = solve(program, solver, **{name: 2})
        assert found.status in (Status.ITERATION_LIMIT, Status.NUMERICAL), solver
        assert not found.status.ok
        if found.status is Status.ITERATION_LIMIT:
            assert found.status.usable
            assert found.certificate.worst > 1e-6
            assert found.certificate.primal >= abs(found.x.sum() - 1.0) * (1.0 - 1e-12)


@pytest.mark.parametrize("solver", ["clarabel", "osqp"])
def test_time_limit_returns_a_graded_iterate(solver):
    rng = np.random.default_rng(0)
    n = 300
    G = rng.normal(size=(n, n))
    program = QuadraticProgram(G @ G.T, rng.normal(size=n), rng.normal(size=(n, n)), -1.0, 1.0)
    found = solve(program, solver, tol=1e-9, time_limit=1e-4)
    assert found.status is Status.TIME_LIMIT, found.summary()
    assert np.isfinite(found.x).all()
    assert found.certificate.worst > 1e-9
    assert found.settings["time_limit"] == 1e-4


def test_auto_keeps_a_time_limit_by_leaving_piqp_out():
    program, answer = closed_forms()["simplex"]
    found = solve(program, time_limit=10.0)
    assert found.backend == "clarabel"
    assert found.x == pytest.approx(answer, abs=1e-5)


def test_no_rows_no_variables_no_cost():
    assert solve(QuadraticProgram(None, [])).status is Status.OPTIMAL
    assert solve(QuadraticProgram(None, [], np.zeros((2, 0)), [-1.0, 0.0], [1.0, 0.0], constant=4.0)).objective == 4.0
    empty = solve(QuadraticProgram(None, [], np.zeros((1, 0)), 1.0, 2.0))
    assert empty.status is Status.INFEASIBLE
    assert empty.proof.y.tolist() == [-1.0]
    zero_row = QuadraticProgram(np.eye(1), [1.0], [[0.0]], 1.0, 2.0)
    assert solve(zero_row).status is Status.INFEASIBLE
    free = solve(QuadraticProgram(np.zeros((2, 2)), [0.0, 0.0]))
    assert free.status is Status.OPTIMAL


def test_bad_requests_are_refused():
    program = QuadraticProgram(np.eye(1), [0.0])
    with pytest.raises(InvalidInput, match="piqp"):  # the remedy lists what is there
        solve(program, "no_such_solver")
    with pytest.raises(InvalidInput, match="tuple of names"):
        solve(program, ())
    with pytest.raises(InvalidInput, match="no setting"):
        solve(program, "piqp", epsilon=1e-3)
    with pytest.raises(InvalidInput, match="no setting"):
        solve(program, "osqp", epsilon=1e-3)
    with pytest.raises(InvalidInput, match="tol"):
        solve(program, tol=0.0)
    with pytest.raises(InvalidInput, match="time_limit"):
        solve(program, time_limit=-1.0)
    with pytest.raises(InvalidInput, match="program"):
        solve("a program")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="warm_start"):
        solve(program, "osqp", warm_start=(np.zeros(2), np.zeros(0), np.zeros(1)))
    with pytest.raises(InvalidInput, match="cvxpy does not find"):
        solve(program, "cvxpy:NOSUCH")
    cone = ConeProgram(np.eye(1), [0.0], [[1.0]], [1.0], (Cone("nonneg", 1),))
    with pytest.raises(InvalidInput, match="no cones"):
        solve(cone, "piqp")


class _Liar(Backend):
    """A backend that claims what the test wants it to claim."""

    name, module, licence = "liar", "numpy", "none"

    def __init__(self, make):
        self.make = make

    def prepare(self, program, options):
        make = self.make

        class _Ready(Prepared):
            def fits(self, program):
                return True

            def update(self, program):
                return None

            def solve(self, warm, time_limit):
                return make(program)

        return _Ready()


def _lie(monkeypatch, make, program, chain=("liar",)):
    real = backend
    monkeypatch.setattr(
        import_module("crosswind.solvers.solve"), "backend", lambda name: _Liar(make) if name == "liar" else real(name)
    )
    return run_chain(program, chain, Options(), None, lambda found, how: found.prepare(program, how))


def test_lies_of_a_backend_do_not_pass(monkeypatch):
    program = QuadraticProgram(np.eye(2), [-1.0, 0.0], [[1.0, 1.0]], 1.0, 1.0)

    def wrong(p):
        return Raw(Claim.SOLVED, "solved", np.array([5.0, 5.0]), np.zeros(1), np.zeros(2))

    def empty(p):
        return Raw(Claim.SOLVED, "solved", np.full(2, np.nan), np.zeros(1), np.zeros(2))

    def infeasible(p):
        return Raw(Claim.INFEASIBLE, "no", np.zeros(2), np.zeros(1), np.zeros(2), farkas=(np.ones(1), np.zeros(2)))

    def unbounded(p):
        return Raw(Claim.UNBOUNDED, "falls", np.zeros(2), np.zeros(1), np.zeros(2), ray=np.array([1.0, -1.0]))

    def crash(p):
        raise KeyError("inside the backend")

    assert _lie(monkeypatch, wrong, program).status is Status.INACCURATE
    assert _lie(monkeypatch, empty, program).status is Status.NUMERICAL
    for make in (infeasible, unbounded):
        found = _lie(monkeypatch, make, program)
        assert found.status not in (Status.INFEASIBLE, Status.UNBOUNDED, Status.OPTIMAL)
        assert found.disagrees
    crashed = _lie(monkeypatch, crash, program)
    assert crashed.status is Status.NUMERICAL
    assert "KeyError" in crashed.backend_status
    for make in (wrong, empty, infeasible, unbounded, crash):
        rescued = _lie(monkeypatch, make, program, ("liar", "clarabel"))
        assert rescued.status is Status.OPTIMAL
        assert rescued.backend == "clarabel"
        assert rescued.attempts[0].backend == "liar"
        assert len(rescued.attempts) >= 2
        assert "attempt 1: liar" in rescued.summary()


def test_feasible_but_not_optimal_is_called_feasible(monkeypatch):
    program = QuadraticProgram(np.eye(2), [-1.0, 0.0], [[1.0, 1.0]], 1.0, 1.0)
    found = _lie(
        monkeypatch, lambda p: Raw(Claim.SOLVED, "ok", np.array([0.0, 1.0]), np.zeros(1), np.zeros(2)), program
    )
    assert found.status is Status.FEASIBLE
    assert found.status.usable
    assert not found.status.ok


def test_results_repeat_to_the_bit(make_program):
    for seed in (1, 2, 3):
        program = make_program(seed, span=1.0)
        for solver in DIRECT:
            one, two = solve(program, solver), solve(program, solver)
            assert one.x.tobytes() == two.x.tobytes()
            assert one.y.tobytes() == two.y.tobytes()


def test_warm_start_helps_osqp(make_program):
    program, _ = closed_forms()["simplex"]
    cold = solve(program, "osqp", tol=1e-6)
    warm = solve(program, "osqp", tol=1e-6, warm_start=cold)
    assert warm.status.ok
    assert warm.iterations <= cold.iterations


def nearest_correlation() -> tuple[ConeProgram, np.ndarray]:
    """Return the nearest correlation matrix of order 2 to off-diagonal 2: the answer is all ones."""
    M = np.array([[1.0, 2.0], [2.0, 1.0]])
    A = np.vstack((np.eye(3)[[0, 2]], -np.eye(3)))
    b = np.r_[1.0, 1.0, np.zeros(3)]
    return ConeProgram(np.eye(3), -svec(M), A, b, (Cone("zero", 2), Cone("psd", 2))), np.ones((2, 2))


@pytest.mark.parametrize("solver", ["auto", "clarabel", "cvxpy", "cvxpy:SCS"])
def test_semidefinite_program(solver):
    program, answer = nearest_correlation()
    found = solve(program, solver, tol=1e-6)
    assert found.status is Status.OPTIMAL, found.summary()
    assert smat(found.x) == pytest.approx(answer, abs=1e-3)
    y = found.y[2:]
    assert np.linalg.eigvalsh(smat(y))[0] >= -1e-6
    assert abs(smat(y)[0, 1] - (-1.0)) < 1e-3  # dual of the PSD block: x − M + A'y = 0 off the diagonal


@pytest.mark.parametrize("solver", ["clarabel", "cvxpy:SCS"])
def test_semidefinite_order_three_uses_the_same_svec(solver):
    rng = np.random.default_rng(5)
    M = rng.normal(size=(3, 3))
    M = M + M.T
    values, vectors = np.linalg.eigh(M)
    program = ConeProgram(np.eye(6), -svec(M), -np.eye(6), np.zeros(6), (Cone("psd", 3),))
    found = solve(program, solver, tol=1e-7)
    assert smat(found.x) == pytest.approx((vectors * np.maximum(values, 0.0)) @ vectors.T, abs=1e-4)


def test_cone_proofs():
    # x ≥ 1 and ‖(x)‖ ≤ ½
    infeasible = ConeProgram(
        np.eye(1), [0.0], [[-1.0], [0.0], [-1.0]], [-1.0, 0.5, 0.0], (Cone("nonneg", 1), Cone("soc", 2))
    )
    found = solve(infeasible)
    assert found.status is Status.INFEASIBLE
    assert np.abs(infeasible.A.T @ found.proof.y).max() < 1e-9
    assert infeasible.b @ found.proof.y < 0.0
    unbounded = ConeProgram(None, [-1.0], [[-1.0]], [0.0], (Cone("nonneg", 1),))
    assert solve(unbounded).status is Status.UNBOUNDED


def test_missing_package_is_told_with_its_remedy(monkeypatch):
    from crosswind.solvers.backends.osqp import Osqp

    backend.cache_clear()
    monkeypatch.setattr(Osqp, "installed", lambda self: False)
    try:
        with pytest.raises(MissingDependency, match="pip install osqp"):
            solve(QuadraticProgram(np.eye(1), [0.0]), "osqp")
    finally:
        backend.cache_clear()


def test_poisoned_solves_do_not_spoil_the_next():
    good, answer = closed_forms()["simplex"]
    bad = QuadraticProgram(np.eye(2), [1.0, 1.0], [[1.0, 1.0]], 3.0, 3.0, lb=0.0, ub=1.0)
    before = solve(good)
    for _ in range(100):
        assert solve(bad).status is Status.INFEASIBLE
    after = solve(good)
    assert after.x.tobytes() == before.x.tobytes()
    assert after.x == pytest.approx(answer, abs=1e-6)


def test_large_cash_neutral_row_is_kept():
    # OSQP at its defaults was off by up to 0.72 in this row with |q| ~ 1e4 and said "solved".
    rng = np.random.default_rng(0)
    n = 50
    G = rng.normal(size=(n, 5))
    program = QuadraticProgram(G @ G.T + np.eye(n), 1e4 * rng.normal(size=n), np.ones((1, n)), 0.0, 0.0)
    for solver in DIRECT:
        found = solve(program, solver)
        assert found.status.ok
        assert abs(found.x.sum()) <= 1e-6 * np.max(np.abs(found.x))
        assert certify(program, found.x, found.y, found.z) == found.certificate


@pytest.mark.parametrize("solver", DIRECT)
def test_bounds_of_rounding_size_do_not_set_the_scale(solver):
    """Most bounds are what a difference left of zero; the few real ones must set the length the backend sees."""
    n = 30
    noise = 1e-16 * np.random.default_rng(2).uniform(0.5, 1.5, n)
    noise[0] = 0.04
    chain = np.eye(n) - np.eye(n, k=-1)  # x_0 = .04, x_t = x_{t-1} + noise
    program = QuadraticProgram(np.eye(n), np.ones(n), chain, noise, noise)
    found = solve(program, solver=solver, tol=1e-8)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.x, 0.04, rtol=1e-8)


def planted_lmi(seed: int, n: int = 60, k: int = 15) -> tuple[ConeProgram, float]:
    """A linear cost, one equality and one dense matrix inequality of order k; x0 is optimal by its multipliers."""
    rng = np.random.default_rng(seed)
    m = 1 + k * (k + 1) // 2
    A, x0 = rng.normal(size=(m, n)), rng.normal(size=n)
    vectors, _ = np.linalg.qr(rng.normal(size=(k, k)))
    values, half = rng.random(k) + 0.1, k // 2
    columns, rows = np.tril_indices(k)
    root = np.where(rows == columns, 1.0, np.sqrt(2.0))
    parts = (
        (vectors[:, :half] * values[:half]) @ vectors[:, :half].T,
        (vectors[:, half:] * values[half:]) @ vectors[:, half:].T,
    )
    slack, dual = (root * part[rows, columns] for part in parts)
    q = -A.T @ np.concatenate(([rng.normal()], dual))
    program = ConeProgram(None, q, A, A @ x0 + np.concatenate(([0.0], slack)), (Cone("zero", 1), Cone("psd", k)))
    return program, float(q @ x0)


@pytest.mark.parametrize("seed", range(6))
def test_clarabel_is_helped_over_an_equality_beside_a_matrix_without_curvature(seed):
    """By itself it gives up in its first iteration on most of these, or stops a digit short."""
    program, best = planted_lmi(seed)
    found = solve(program, tol=1e-6)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.objective == pytest.approx(best, rel=1e-5)
    assert {attempt.backend for attempt in found.attempts} == {"clarabel"}
