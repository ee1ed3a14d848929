"""Sessions: the same answers as fresh solves, set up once, safe after failures, threads and pickles."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Session, Status, solve
from crosswind.solvers.backends.piqp import Piqp
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import register_backend, unregister_backend


def horizon(n: int = 20, seed: int = 0) -> QuadraticProgram:
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(n, n))
    return QuadraticProgram(
        G @ G.T + np.eye(n),
        rng.normal(size=n),
        np.ones((1, n)),
        1.0,
        1.0,
        lb=-2.0,
        ub=np.r_[np.full(n - 1, 2.0), np.inf],
    )


@pytest.mark.parametrize("solver", ["auto", "piqp", "clarabel", "osqp", "cvxpy"])
def test_stream_equals_fresh_solves_with_one_set_up(solver):
    program = horizon()
    session = Session(program, solver, tol=1e-8 if solver != "osqp" else 1e-6)
    rng = np.random.default_rng(1)
    for step in range(12):
        q, total = program.q + 0.1 * rng.normal(size=program.n), 1.0 + 0.05 * step
        found = session.update(q=q, l=total, u=total, ub=np.where(np.isinf(program.ub), np.inf, 1.5)).solve()
        fresh = solve(
            program.with_vectors(q=q, l=total, u=total, ub=np.where(np.isinf(program.ub), np.inf, 1.5)), tol=1e-9
        )
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.x == pytest.approx(fresh.x, abs=1e-4)
        assert found.objective == pytest.approx(fresh.objective, rel=1e-6, abs=1e-6)
    assert session.setups == (12 if solver == "cvxpy" else 1)
    assert session.last is found


@pytest.mark.parametrize("solver", ["piqp", "clarabel", "osqp"])
def test_changed_kinds_of_bounds_and_sizes_set_up_again(solver):
    program = horizon()
    session = Session(program, solver)
    session.solve()
    for change in (
        {"ub": 1.0},  # one more finite bound
        {"lb": np.r_[1.0, np.full(19, -2.0)], "ub": 1.0},  # a variable becomes fixed
        {"l": 0.5, "u": 1.5},  # the equality becomes a range
        {"q": 1e7 * program.q},  # other size of the data
    ):
        found = session.update(**change).solve()
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.objective == pytest.approx(solve(session.program, "clarabel", tol=1e-9).objective, rel=1e-5)
    assert session.setups >= 2


@pytest.mark.parametrize("solver", ["auto", "piqp", "clarabel", "osqp"])
def test_infeasible_moment_does_not_spoil_the_next(solver):
    session = Session(horizon(), solver)
    first = session.solve()
    assert session.update(l=1e3, u=1e3, ub=2.0).solve().status is Status.INFEASIBLE
    again = session.update(l=1.0, u=1.0, ub=np.r_[np.full(19, 2.0), np.inf]).solve()
    assert again.status is Status.OPTIMAL
    assert again.x == pytest.approx(first.x, abs=1e-4)


def test_refused_update_keeps_the_former_vectors():
    session = Session(horizon())
    before = session.program
    for change in ({"q": np.full(20, np.nan)}, {"l": 2.0}, {"lb": 5.0}, {"b": [1.0]}):
        with pytest.raises(InvalidInput):
            session.update(**change)
    assert session.program is before
    assert session.solve().status.ok


def test_non_convex_program_is_refused_at_once():
    with pytest.raises(InvalidInput, match="convex"):
        Session(QuadraticProgram([[-1.0]], [0.0]))


@pytest.mark.parametrize("solver", ["auto", "clarabel", "osqp"])
def test_pickled_session_goes_on(solver):
    session = Session(horizon(), solver)
    found = session.solve()
    other = pickle.loads(pickle.dumps(session))
    assert other.solve().x == pytest.approx(found.x, abs=1e-5)
    assert other.options == session.options
    assert "chain=" in repr(other)


def test_warm_osqp_needs_fewer_iterations_than_cold():
    program = horizon(60)
    session = Session(program, "osqp", tol=1e-6)
    session.solve()
    warm = cold = 0
    rng = np.random.default_rng(2)
    for _ in range(5):
        session.update(q=program.q + 1e-3 * rng.normal(size=program.n))
        warm += session.solve().iterations
        cold += session.solve(warm=False).iterations
    assert warm < cold


def test_given_start_is_used():
    program = horizon(40)
    best = solve(program, "osqp", tol=1e-7)
    session = Session(program, "osqp", tol=1e-6)
    helped = session.warm(best.x, best.y, best.z).solve()
    assert helped.iterations <= Session(program, "osqp", tol=1e-6).solve().iterations
    with pytest.raises(InvalidInput, match="shape"):
        session.warm(best.x[:3], best.y, best.z)


@pytest.mark.parametrize("solver", ["osqp", "clarabel"])
def test_time_limit_of_one_solve_does_not_stay(solver):
    rng = np.random.default_rng(0)
    n = 200
    G = rng.normal(size=(n, n))
    session = Session(QuadraticProgram(G @ G.T, rng.normal(size=n), G, -1.0, 1.0), solver, tol=1e-6)
    assert session.solve(time_limit=1e-5).status is Status.TIME_LIMIT
    assert session.solve().status is Status.OPTIMAL


def test_cone_session_updates_b():
    program = ConeProgram(
        np.eye(2), [-1.0, -1.0], [[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], [1.0, 0.0, 0.0], (Cone("soc", 3),)
    )
    session = Session(program)
    session.solve()
    found = session.update(b=[0.5, 0.0, 0.0]).solve()
    assert np.linalg.norm(found.x) == pytest.approx(0.5, abs=1e-6)
    assert session.setups == 1
    with pytest.raises(InvalidInput):
        session.update(u=[1.0])


@pytest.mark.parametrize("solver", ["piqp", "clarabel", "osqp"])
def test_shared_between_threads(solver):
    session = Session(horizon(), solver)
    answer = session.solve().x
    wrong: list[object] = []

    def work() -> None:
        for _ in range(10):
            found = session.solve()
            if not found.status.ok or np.max(np.abs(found.x - answer)) > 1e-3:
                wrong.append(found.summary())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_dense_programs_take_the_dense_path_and_update():
    program = horizon(40)
    session = Session(program, "piqp", tol=1e-8)
    for step in range(4):
        found = session.update(q=(1.0 + step) * program.q, u=1.0 + step, l=1.0 + step).solve()
        assert found.status is Status.OPTIMAL
        assert found.x == pytest.approx(solve(session.program, "clarabel", tol=1e-9).x, abs=1e-5)
    assert session._ready["piqp", 1e-8].dense
    assert session.setups == 1


class Lazy(Piqp):
    """PIQP that stops at a thousandth of what our certificate asks, unless asked for a thousand times more."""

    name = "lazy"
    asked: ClassVar[list[float]] = []

    def prepare(self, program, options):
        self.asked.append(options.tol)
        loose = options.tol > 1e-8
        return super().prepare(program, replace(options, tol=1e-3 if loose else options.tol))


def test_a_backend_that_stops_early_is_soon_asked_for_more_and_later_given_another_chance(monkeypatch):
    monkeypatch.setattr("crosswind.solvers.session._SHARP_FOR", 6)
    register_backend(Lazy)
    try:
        Lazy.asked.clear()
        session = Session(horizon(12), "lazy", tol=1e-6)
        q = session.program.q
        attempts = []
        for step in range(14):
            found = session.update(q=(1.0 + 0.01 * step) * q).solve()
            assert found.status is Status.OPTIMAL
            assert found.certificate.passes(1e-6)
            attempts.append(len(found.attempts))
        # Twice short of it, then six at once from the sharper set-up, then the looser one again; each is set up once.
        assert attempts == [2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1]
        assert Lazy.asked == [1e-6, 1e-9]
    finally:
        unregister_backend("lazy")


@pytest.mark.parametrize("solver", ["lazy", "piqp"])
def test_vectors_that_came_in_on_the_short_way_outlive_it(solver, monkeypatch):
    """Whenever the short way is left, in the middle of anything, the vectors it took over are those that are solved."""
    monkeypatch.setattr("crosswind.solvers.session._SHARP_FOR", 3)
    register_backend(Lazy)
    try:
        session = Session(horizon(12), solver, tol=1e-6)
        rng, q = np.random.default_rng(0), session.program.q
        for step in range(30):
            change = {"q": q * (1.0 + 0.1 * rng.normal(size=q.size))}
            if step % 3 == 0:
                change |= {"l": np.array([1.0 + 0.01 * step]), "u": np.array([1.0 + 0.01 * step])}
            found = session.update(**change).solve()
            assert np.array_equal(session.program.q, change["q"])
            best = solve(session.program, "clarabel", tol=1e-9)
            assert found.x == pytest.approx(best.x, abs=1e-4)
            assert session.solve().x == pytest.approx(best.x, abs=1e-4)
    finally:
        unregister_backend("lazy")


def test_what_is_no_real_number_is_refused_on_the_short_way_too():
    session = Session(horizon(12), "piqp")
    session.solve()
    before = session.update(q=1.1 * session.program.q).solve().x
    for bad in (np.array(["1.0"] * 12), np.full(12, 1.0 + 1.0j)):
        with pytest.raises(InvalidInput):
            session.update(q=bad)
    assert np.array_equal(session.solve().x, before)
