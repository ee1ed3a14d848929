"""Backends that fail in every way we know: each is handled, reported with its words, and spoils nothing after it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Session, Status, solve, solve_isolated
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.isolate import IsolatedWorker
from crosswind.solvers.registry import register_backend, unregister_backend

PROGRAM = QuadraticProgram(np.diag([1.0, 3.0]), np.zeros(2), [[1.0, 1.0]], 1.0, 1.0, lb=0.0, ub=[0.7, 1.0])
ANSWER = np.array([0.7, 0.3])


@pytest.fixture(scope="module", autouse=True)
def faulty() -> Iterator[Any]:
    """Make the module importable by name, here and in subprocesses, and its backends known."""
    folder = str(Path(__file__).parent)
    sys.path.append(folder)
    module = importlib.import_module("faulty_backends")
    for kind in module.KINDS:
        register_backend(kind)
    yield module
    for kind in module.KINDS:
        unregister_backend(kind.name)
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def worker() -> Iterator[IsolatedWorker]:
    with IsolatedWorker() as one:
        yield one


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("raises", Status.NUMERICAL, "ZeroDivisionError: inside the solver"),
        ("setup", Status.NUMERICAL, "OSError: cannot open the library"),
        ("licence", Status.NUMERICAL, "no licence found"),
        ("nan", Status.NUMERICAL, "solved"),
        ("wrong", Status.INACCURATE, "OPTIMAL"),
        ("shapes", Status.NUMERICAL, "shape"),
        ("none", Status.NUMERICAL, "Raw"),
    ],
)
def test_in_process_it_is_graded_and_the_chain_goes_on(name, status, words):
    alone = solve(PROGRAM, f"faulty-{name}")
    assert alone.status is status, alone.summary()
    assert any(words in attempt.backend_status for attempt in alone.attempts)
    assert not alone.status.ok
    rescued = solve(PROGRAM, (f"faulty-{name}", "piqp"))
    assert rescued.status is Status.OPTIMAL
    assert rescued.backend == "piqp"
    assert rescued.x == pytest.approx(ANSWER, abs=1e-5)
    assert rescued.attempts[0].backend == f"faulty-{name}"
    assert rescued.attempts[-1].backend == "piqp"


@pytest.mark.parametrize("name", ["wrong", "nan"])
def test_a_false_optimal_is_told(name, caplog):
    found = solve(PROGRAM, f"faulty-{name}")
    assert found.disagrees
    assert f"faulty-{name}" in found.disagreement
    assert found.disagreement in found.summary()
    assert any(f"faulty-{name}" in record.getMessage() for record in caplog.records)
    assert solve(PROGRAM, "piqp").disagreement == ""


@pytest.mark.parametrize(
    ("name", "outcome", "words", "seconds"),
    [
        ("segfault", "crash", "SIGSEGV", 5.0),
        ("abort", "crash", "SIGABRT", 5.0),
        ("exit", "crash", "code 7", 5.0),
        ("loop", "timeout", "killed after", 0.2),
        ("gil", "timeout", "killed after", 0.2),
        ("raises", "ok", "", 5.0),
        ("nan", "ok", "", 5.0),
        ("wrong", "ok", "", 5.0),
        ("shapes", "ok", "", 5.0),
    ],
)
def test_isolated_it_never_reaches_the_caller(worker, name, outcome, words, seconds):
    run = solve_isolated(PROGRAM, f"faulty-{name}", time_limit=seconds, grace=0.1, worker=worker)
    assert run.outcome == outcome, run.summary()
    assert words in run.reason
    assert run.status is (Status.TIME_LIMIT if outcome == "timeout" else run.status)
    assert not run.status.ok
    if outcome != "ok":
        assert np.isnan(run.solution.x).all()
        assert run.solution.attempts[0].note == run.reason
        assert words in run.summary()
    good = solve_isolated(PROGRAM, "piqp", time_limit=20.0, worker=worker)
    assert good.status is Status.OPTIMAL
    assert good.solution.x == pytest.approx(ANSWER, abs=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory limits need Linux")
def test_isolated_memory_is_limited(worker):
    run = solve_isolated(PROGRAM, "faulty-memory", time_limit=20.0, memory_limit=200 * 2**20, worker=worker)
    assert run.outcome == "memory", run.summary()
    assert "memory" in run.reason
    assert solve_isolated(PROGRAM, "piqp", time_limit=20.0, memory_limit=500 * 2**20, worker=worker).status.ok
    with pytest.raises(InvalidInput, match="memory_limit"):
        solve_isolated(PROGRAM, "piqp", memory_limit=0, worker=worker)


def test_isolated_prints_are_kept_from_the_terminal(worker, capfd):
    run = solve_isolated(PROGRAM, "faulty-prints", time_limit=20.0, worker=worker)
    assert run.status is Status.OPTIMAL
    assert "chatty solver" in run.printed
    assert capfd.readouterr().out == ""


def test_missing_packages_are_refused_with_the_remedy(worker):
    for call in (solve, solve_isolated):
        with pytest.raises(MissingDependency, match="pip install a-package-that-is-not-there"):
            call(PROGRAM, "faulty-missing")


def test_a_good_solve_after_a_thousand_bad_ones():
    session = Session(PROGRAM, ("faulty-raises", "piqp"), tol=1e-8)
    before = session.solve()
    bad = Session(PROGRAM, "faulty-nan")
    impossible = Session(PROGRAM, "osqp", tol=1e-4)
    for k in range(1000):
        assert not bad.solve().status.ok
        if k % 50 == 0:
            assert impossible.update(l=5.0, u=5.0).solve().status is Status.INFEASIBLE
    assert session.solve().x == pytest.approx(before.x, abs=1e-12)
    assert impossible.update(l=1.0, u=1.0).solve().x == pytest.approx(ANSWER, abs=1e-2)
    assert solve(PROGRAM).status is Status.OPTIMAL
