"""What every backend must keep, whatever its method; a test file asks for the argument ``protocol_check``.

Each check takes the backend's name, asserts, and looks at the backend's own class for what it says it can do.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import QuadraticProgram, Session, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options, Raw, WarmStart
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

# What each backend calls its iteration limit, with a value that stops it early; None where it has none.
ITERATIONS: dict[str, tuple[str, int] | None] = {
    "scs": ("max_iters", 5),
    "proxqp": ("max_iter", 1),
    "daqp": ("iter_limit", 3),
    "highs": ("qp_iteration_limit", 3),
    "ecos": ("max_iters", 3),
    "piqp": ("max_iter", 3),
    "qpalm": ("max_iter", 3),
    "qoco": ("max_iters", 3),
    "qpax": ("max_iter", 3),
    "moreau": ("max_iter", 3),
    "gurobi": ("BarIterLimit", 3),
    "copt": ("BarIterLimit", 3),
    "xpress": ("bariterlimit", 3),
    "cplex": ("barrier.limits.iteration", 3),
}


def ordinary(n: int = 8, seed: int = 3) -> QuadraticProgram:
    """Return a strictly convex program with active rows on both sides, an equality, active boxes and free variables."""
    rng = np.random.default_rng(seed)
    G, A = rng.normal(size=(n, n)), rng.normal(size=(5, n))
    x0 = rng.normal(size=n)
    low, high = A @ x0 - 0.3, A @ x0 + 0.3
    low[0] = high[0] = (A @ x0)[0]
    low[1], high[2] = -np.inf, np.inf
    lb, ub = x0 - 0.5, x0 + 0.5
    lb[0], ub[1], lb[2], ub[2] = -np.inf, np.inf, -np.inf, np.inf
    return QuadraticProgram(G @ G.T + np.eye(n), 8.0 * rng.normal(size=n), A, low, high, lb, ub)


def stream(count: int = 6) -> list[QuadraticProgram]:
    """Return programs that share matrices and finite sides and differ in all vectors."""
    base = ordinary()
    rng = np.random.default_rng(11)
    out = [base]
    for _ in range(count - 1):
        shift = 0.05 * rng.normal(size=base.m)
        out.append(
            base.with_vectors(
                q=base.q + rng.normal(size=base.n), l=base.l + shift, u=base.u + shift, lb=base.lb - 0.01, ub=base.ub
            )
        )
    return out


def contradiction(base: QuadraticProgram) -> QuadraticProgram:
    """Return ``base`` with the same finite sides and no feasible point: its first row lies beyond the boxes' reach."""
    rows = base.A.toarray()
    low = base.l.copy()
    low[3] = base.u[3] + 1e3 * np.abs(rows[3]).sum()
    return base.with_vectors(l=low, u=np.where(np.arange(base.m) == 3, low[3] + 1.0, base.u))


def heavy(n: int) -> QuadraticProgram:
    """Return a full program whose rows and boxes bind in large numbers."""
    rng = np.random.default_rng(0)
    G = rng.normal(size=(n, n))
    return QuadraticProgram(
        G @ G.T + 0.1 * np.eye(n), 100.0 * rng.normal(size=n), rng.normal(size=(n, n)), -1.0, 1.0, -1.0, 1.0
    )


def load_suite() -> ModuleType:
    """Return ``backend_suite``, which the conftest has loaded by its file."""
    return sys.modules["backend_suite"]


def raw_of(name: str, program: QuadraticProgram, tol: float = 1e-6, **settings: object) -> Raw:
    return backend(name).prepare(program, Options(tol, None, settings)).solve(None, None)


@contextmanager
def descriptor_one() -> Iterator[Callable[[], bytes]]:
    """Catch what reaches descriptor 1, past Python's sys.stdout too."""
    kept = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)

        def read() -> bytes:
            file.seek(0)
            return file.read()

        try:
            yield read
        finally:
            os.dup2(kept, 1)
            os.close(kept)


# -- the checks -------------------------------------------------------------------------------------------------------


def closed_forms(name: str) -> None:
    rng = np.random.default_rng(7)
    n = 6
    G = rng.normal(size=(n, n))
    P, q, v = G @ G.T + np.eye(n), rng.normal(size=n), rng.normal(size=n)
    A, b = rng.normal(size=(2, n)), rng.normal(size=2)
    kkt = np.block([[P, A.T], [A, np.zeros((2, 2))]])
    forms = {
        "no limits": (QuadraticProgram(P, q), np.linalg.solve(P, -q)),
        "equalities": (QuadraticProgram(P, q, A, b, b), np.linalg.solve(kkt, np.r_[-q, b])[:n]),
        "box": (QuadraticProgram(np.eye(n), -3.0 * v, lb=-1.0, ub=1.0), np.clip(3.0 * v, -1.0, 1.0)),
        "vertex": (QuadraticProgram(None, np.arange(1.0, n + 1), np.ones((1, n)), 1.0, 1.0, lb=0.0), np.eye(n)[0]),
        "all fixed": (QuadraticProgram(P, q, lb=v, ub=v), v),
        "free rows": (QuadraticProgram(P, q, A, -np.inf, np.inf), np.linalg.solve(P, -q)),
        "currency": (  # trades of 1e8 at 1e-10 per currency
            QuadraticProgram(1e-10 * np.eye(n), np.zeros(n), np.ones((1, n)), 6e8, 6e8, lb=0.0, ub=1e9),
            np.full(n, 1e8),
        ),
    }
    for label, (program, answer) in forms.items():
        found = solve(program, name)
        assert found.status is Status.OPTIMAL, f"{label}: {found.summary()}"
        assert found.backend == name
        size = max(1.0, float(np.max(np.abs(answer))))
        assert np.max(np.abs(found.x - answer)) <= 1e-4 * size, f"{label}: {found.x} for {answer}"


def multipliers_are_slopes_of_the_optimal_value(name: str) -> None:
    program = ordinary()
    found = solve(program, name, tol=1e-7)
    assert found.status.ok, found.summary()
    h = 1e-4

    def value(**sides: object) -> float:
        return solve(program.with_vectors(**sides), "clarabel", tol=1e-10).objective  # type: ignore[arg-type]

    checked = {"y": 0, "z": 0}
    for letter, low, high in (("y", "l", "u"), ("z", "lb", "ub")):
        multiplier = getattr(found, letter)
        for j in np.flatnonzero(np.abs(multiplier) > 1e-2):
            slopes = []
            for sign in (1.0, -1.0):
                sides = {low: getattr(program, low).copy(), high: getattr(program, high).copy()}
                for side in sides.values():
                    side[j] += sign * h
                slopes.append(value(**sides))
            # L = f + y'(Ax − side) + …: moving the side up changes the optimum by −y.
            assert multiplier[j] == pytest.approx(-(slopes[0] - slopes[1]) / (2.0 * h), rel=1e-3, abs=1e-3)
            checked[letter] += 1
    assert checked["y"] >= 2
    assert checked["z"] >= 2
    assert np.any(found.y < -1e-2) or np.any(found.z < -1e-2)


def updates_equal_fresh_solves(name: str) -> None:
    programs = stream()
    session = Session(programs[0], name, tol=1e-7)
    for program in programs:
        session.update(q=program.q, l=program.l, u=program.u, lb=program.lb, ub=program.ub)
        found, fresh = session.solve(), solve(program, name, tol=1e-7)
        assert found.status is Status.OPTIMAL, found.summary()
        assert fresh.status is Status.OPTIMAL, fresh.summary()
        assert np.max(np.abs(found.x - fresh.x)) <= 1e-5 * np.max(np.abs(fresh.x))
        assert found.objective == pytest.approx(fresh.objective, rel=1e-6)
    if backend(name).updates:
        assert session.setups == 1


def a_new_program_is_not_mistaken_for_an_update(name: str) -> None:
    base = ordinary()
    prepared = backend(name).prepare(base, Options())
    assert prepared.fits(base.with_vectors(q=2.0 * base.q))
    assert not prepared.fits(base.with_values(P_data=2.0 * base.P.data))
    assert not prepared.fits(base.with_vectors(q=1e5 * base.q))


def warm_starts_save_iterations(name: str) -> None:
    if not backend(name).warm_starts:
        pytest.skip("takes no starting point")
    program = ordinary(20)
    cold = raw_of(name, program)
    start = WarmStart(cold.x, cold.y, cold.z)
    warm = backend(name).prepare(program, Options()).solve(start, None)
    assert warm.claim is Claim.SOLVED
    assert warm.iterations < cold.iterations
    assert certify(program, warm.x, warm.y, warm.z).passes(1e-5)
    # A start that is worthless must not spoil the answer.
    rng = np.random.default_rng(1)
    wild = WarmStart(*(1e3 * rng.normal(size=k) for k in (program.n, program.m, program.n)))
    astray = backend(name).prepare(program, Options()).solve(wild, None)
    assert certify(program, astray.x, astray.y, astray.z).passes(1e-5), astray.word


def the_clock_stops_it_with_its_iterate(name: str) -> None:
    if not backend(name).keeps_time:
        pytest.skip("cannot be stopped by the clock")
    program = heavy(300)
    prepared = backend(name).prepare(program, Options(1e-9))
    start = time.perf_counter()
    raw = prepared.solve(None, 2e-3)
    seconds = time.perf_counter() - start
    assert raw.claim is Claim.TIME, raw.word
    assert seconds < 2.0
    assert np.isfinite(raw.x).all()
    found = solve(program, name, tol=1e-9, time_limit=0.05)
    assert found.status in (Status.TIME_LIMIT, Status.FEASIBLE, Status.OPTIMAL, Status.INACCURATE), found.summary()
    # The limit belongs to that solve alone.
    small = ordinary()
    prepared = backend(name).prepare(small, Options())
    prepared.solve(None, 1e-9)
    assert prepared.solve(None, None).claim is Claim.SOLVED


def an_iteration_limit_gives_its_iterate(name: str) -> None:
    setting = ITERATIONS.get(name.partition(":")[0])
    if setting is None:
        pytest.skip("has no iteration limit")
    program = ordinary(20)
    raw = raw_of(name, program, 1e-9, **{setting[0]: setting[1]})
    assert raw.claim is Claim.ITERATIONS, raw.word
    assert np.isfinite(raw.x).all()
    found = solve(program, name, tol=1e-9, **{setting[0]: setting[1]})
    assert found.status in (Status.ITERATION_LIMIT, Status.OPTIMAL)
    assert np.isfinite(found.certificate.worst)


def nothing_without_a_proof(name: str) -> None:
    open_cost = QuadraticProgram(np.diag([1.0, 0.0]), [0.0, -1.0], lb=0.0)
    found = solve(open_cost, name)
    assert found.status not in (Status.OPTIMAL, Status.INFEASIBLE)
    assert (found.status is Status.UNBOUNDED) == (found.proof is not None)
    plain = QuadraticProgram(np.eye(3), np.zeros(3), np.ones((1, 3)), 4.0, 4.0, 0.0, 1.0)
    found = solve(plain, name)
    assert found.status is Status.INFEASIBLE, found.summary()
    assert found.proof is not None
    if backend(name).gives_proofs:
        assert raw_of(name, plain).farkas is not None
    # One that is harder to see: a method may grind on to its limit, and then it is told so.
    found = solve(contradiction(ordinary()), name)
    assert found.status in (Status.INFEASIBLE, Status.ITERATION_LIMIT), found.summary()
    assert (found.status is Status.INFEASIBLE) == (found.proof is not None)


def unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no setting of this name"):
        raw_of(name, ordinary(), no_such_setting=1)
    setting = ITERATIONS.get(name.partition(":")[0])
    if setting is not None:
        with pytest.raises(InvalidInput):
            raw_of(name, ordinary(), **{setting[0]: "many"})


def nothing_is_printed(name: str) -> None:
    with descriptor_one() as read:
        raw_of(name, ordinary())
        raw_of(name, contradiction(ordinary()))
        raw_of(name, QuadraticProgram(None, [-1.0, 1.0], lb=0.0))
        setting = ITERATIONS.get(name.partition(":")[0])
        if setting is not None:
            raw_of(name, ordinary(20), 1e-9, **{setting[0]: setting[1]})
        printed = read()
    assert printed == b""


def two_runs_agree_bit_by_bit(name: str) -> None:
    if not backend(name).deterministic:
        pytest.skip("says itself that it is not")

    def run() -> bytes:
        prepared = backend(name).prepare(ordinary(20), Options())
        raws = [prepared.solve(None, None)]
        prepared.update(ordinary(20).with_vectors(q=1.1 * ordinary(20).q))
        raws.append(prepared.solve(WarmStart(raws[0].x, raws[0].y, raws[0].z), None))
        return b"".join(part.tobytes() for raw in raws for part in (raw.x, raw.y, raw.z))

    assert run() == run()


def a_good_solve_after_bad_ones(name: str) -> None:
    good = ordinary()
    bad = contradiction(good)
    prepared = backend(name).prepare(good, Options())
    for _ in range(20):
        prepared.update(bad)
        raw = prepared.solve(None, None)
        assert not certify(bad, raw.x, raw.y, raw.z).passes()
    prepared.update(good)
    raw = prepared.solve(None, None)
    assert certify(good, raw.x, raw.y, raw.z).passes(1e-5), raw.word
    session = Session(good, name)
    for _ in range(20):
        assert not session.update(l=bad.l, u=bad.u).solve().status.ok
        assert session.update(l=good.l, u=good.u).solve().status.ok


def the_world_is_left_as_it_was(name: str) -> None:
    from threadpoolctl import threadpool_info

    def state() -> tuple[object, ...]:
        pools = sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())
        return np.geterr(), len(warnings.filters), pools, os.getcwd(), sorted(os.listdir("."))

    raw_of(name, ordinary())  # what it loads at first comes with pools of its own
    before = state()
    program = ordinary()
    kept = (program.P.data.copy(), program.A.data.copy(), program.q.copy(), program.lb.copy())
    raw_of(name, program)
    assert state() == before
    for was, now in zip(kept, (program.P.data, program.A.data, program.q, program.lb), strict=True):
        assert np.array_equal(was, now)


def sparse_zeros_are_no_trouble(name: str) -> None:
    """Stored zeros and empty columns of A and P."""
    A = sparse.csc_matrix((np.array([1.0, 0.0, 1.0]), np.array([0, 0, 0]), np.array([0, 1, 2, 3, 3])), shape=(1, 4))
    program = QuadraticProgram(np.diag([1.0, 2.0, 0.0, 1.0]), [0.0, -1.0, 1.0, 0.0], A, 1.0, 1.0, 0.0, 1.0)
    found = solve(program, name)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.x == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-4)


def solves_the_ordinary_half(name: str) -> None:
    report = load_suite().check_backend(name, "non-degenerate")
    assert report.share >= 0.9, report.summary()
    assert not report.disagreed, report.disagreed


PROTOCOL = (
    solves_the_ordinary_half,
    closed_forms,
    multipliers_are_slopes_of_the_optimal_value,
    updates_equal_fresh_solves,
    a_new_program_is_not_mistaken_for_an_update,
    warm_starts_save_iterations,
    the_clock_stops_it_with_its_iterate,
    an_iteration_limit_gives_its_iterate,
    nothing_without_a_proof,
    unknown_settings_are_refused,
    nothing_is_printed,
    two_runs_agree_bit_by_bit,
    a_good_solve_after_bad_ones,
    the_world_is_left_as_it_was,
    sparse_zeros_are_no_trouble,
)
