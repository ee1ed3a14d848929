"""The short way of a session: it never passes what the long one would not, and it leaves no trace but its speed."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers import Session, Status, certify, solve
from crosswind.solvers.certify_fast import ArrayCheck, FastCheck
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import unregister_backend


def moved(program, rng, size=1e-3):
    q = program.q * (1.0 + size * rng.normal(size=program.n))
    width = np.where(np.isfinite(program.l), np.abs(program.l), 0.0)
    shift = np.where(program.l == program.u, size * rng.normal(size=program.m) * width, 0.0)
    return {"q": q, "l": program.l + shift, "u": program.u + shift}


@pytest.mark.parametrize("seed", range(60))
def test_a_yes_of_the_fast_check_is_a_yes_of_certify(make_program, seed):
    program = make_program(seed)
    rng = np.random.default_rng(seed)
    best = solve(program, "clarabel", tol=1e-9)
    if not best.status.usable:
        pytest.skip("no iterate to tamper with")
    yes = 0
    for tol in (1e-3, 1e-6, 1e-9):
        check, plain = FastCheck(program, tol), ArrayCheck(program, tol)
        for size in (0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1):
            x = best.x * (1.0 + size * rng.normal(size=program.n))
            y = best.y * (1.0 + size * rng.normal(size=program.m))
            z = best.z + size * np.abs(best.z).max(initial=0.0) * rng.normal(size=program.n)
            assert check.passes(x, np.concatenate((y, z))) == plain.passes(x, np.concatenate((y, z)))
            if check.passes(x, np.concatenate((y, z))):
                yes += 1
                found = certify(program, x, y, z, tol=tol)
                assert found.passes(), found.summary()
        assert not check.passes(np.full(program.n, np.nan), np.zeros(program.m + program.n))
    assert yes or not best.status.ok or best.certificate.worst > 1e-9


@pytest.mark.parametrize("solver", ["piqp", "osqp"])
@pytest.mark.parametrize("seed", range(8))
def test_short_and_long_way_agree(make_program, solver, seed):
    program = make_program(seed, 1.0)
    session = Session(program, solver, tol=1e-5)
    session.solve()
    rng = np.random.default_rng(seed)
    for _ in range(5):
        change = moved(program, rng)
        found = session.update(**change).solve()
        fresh = solve(program.with_vectors(**change), "clarabel", tol=1e-9)
        if found.status.ok and fresh.status.ok:
            assert found.certificate.passes(), found.summary()
            scale = max(abs(fresh.objective), float(np.abs(program.q) @ np.abs(fresh.x)))
            assert abs(found.objective - fresh.objective) <= 1e-4 * scale
        assert session.program.q == pytest.approx(change["q"], abs=0)
        assert session.program.u == pytest.approx(change["u"], abs=0)


def box_program(make=None):
    from crosswind.solvers import QuadraticProgram

    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    return QuadraticProgram(
        root @ root.T + np.eye(12), rng.normal(size=12), np.ones((1, 12)), 1.0, 1.0, lb=-2.0, ub=2.0
    )


def short(found) -> bool:
    return "_late" in found.__dict__


def test_light_solution_is_a_whole_one():
    program = box_program()
    session = Session(program, "piqp")
    assert not short(session.solve())
    found = session.update(q=1.1 * program.q).solve()
    assert short(found)
    for twin in (pickle.loads(pickle.dumps(copy.copy(found))), found):
        assert not short(twin) or twin is found
        assert twin.certificate.passes()
        assert twin.objective == twin.certificate.objective
        assert twin.attempts[0].backend == "piqp"
        assert twin.settings["tol"] == 1e-6
        assert (twin.y.shape, twin.z.shape, twin.s.shape) == ((1,), (12,), (0,))
        assert "OPTIMAL" in twin.summary()
        assert twin.to_frame().shape == (12, 2)
        assert not twin.disagrees
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = found.nothing_of_the_kind


def test_late_fields_belong_to_their_own_solve():
    program = box_program()
    session = Session(program, "piqp")
    session.solve()
    first = session.update(q=1.1 * program.q, u=np.array([1.2]), l=np.array([1.2])).solve()
    session.update(q=-program.q, u=np.array([0.5]), l=np.array([0.5])).solve()
    assert short(first)
    assert first.certificate.passes()
    assert first.x.sum() == pytest.approx(1.2, abs=1e-6)


def test_the_short_way_refuses_what_the_long_one_refuses():
    program = box_program()
    session = Session(program, "piqp")
    session.solve()
    bad = program.q.copy()
    bad[3] = np.nan
    for change in ({"q": bad}, {"q": bad * np.inf}, {"l": np.array([np.nan])}, {"l": np.array([2.0])}, {"q": bad[:3]}):
        with pytest.raises(InvalidInput):
            session.update(**change)
        assert session.solve().status is Status.OPTIMAL
    assert session.program.q == pytest.approx(program.q, abs=0)
    session.update(q=1e6 * program.q)  # another size of data: set up again, and still right
    assert session.solve().objective == pytest.approx(solve(session.program, "clarabel", tol=1e-9).objective, rel=1e-5)
    assert short(session.update(lb=np.full(12, -1.5), ub=np.full(12, 1.5)).solve()) in (True, False)
    assert session.last is not None
    assert np.abs(session.last.x).max() <= 1.5 + 1e-6


# Forking is tried in a process of its own: this one may hold threads of jax, with which a fork can lock up.
FORKING = """
import multiprocessing, sys
import numpy as np
from crosswind.solvers import QuadraticProgram, Session

def child(session, q, pipe):
    found = session.update(q=q).solve()
    pipe.send((found.status.name, found.x, session.setups))

if __name__ == "__main__":
    method, solver, path = sys.argv[1:]
    program = QuadraticProgram.load(path)
    session = Session(program, solver, tol=1e-5)
    session.solve()
    expected = session.update(q=1.1 * program.q).solve().x
    before = session.setups
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(session, 1.1 * program.q, theirs))
    process.start()
    assert ours.poll(60)
    status, x, setups = ours.recv()
    process.join()
    assert status == "OPTIMAL", status
    assert np.allclose(x, expected, atol=1e-4)
    assert setups == before + 1, (setups, before)
    assert session.solve().status.ok
    assert session.setups == before
"""


@pytest.mark.parametrize("method", sorted(multiprocessing.get_all_start_methods()))
@pytest.mark.parametrize("solver", ["piqp", "osqp", "clarabel"])
def test_usable_in_a_child_process(solver, method, tmp_path):
    script = tmp_path / "forking.py"
    script.write_text(FORKING)
    box_program().save(tmp_path / "program.npz")
    words = [sys.executable, str(script), method, solver, str(tmp_path / "program.npz")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("solver", ["piqp", "osqp"])
def test_memory_stays_over_ten_thousand_updates(solver):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    program = box_program()
    session = Session(program, solver, tol=1e-4)
    session.solve()
    rng = np.random.default_rng(0)
    for k in range(11_000):
        if k == 1000:
            before = resident()
        session.update(q=program.q * (1.0 + 1e-3 * rng.normal(size=12))).solve()
    assert resident() - before < 4 * 2**20
    assert session.setups == 1


def test_the_example_of_an_own_backend_runs(capsys):
    path = Path(__file__).parents[2] / "examples" / "own_backend.py"
    assert len(path.read_text().splitlines()) < 100
    try:
        names = runpy.run_path(str(path))
    finally:
        unregister_backend("projected-gradient")
    assert names["answer"].status is Status.OPTIMAL
    assert names["answer"].objective == pytest.approx(names["reference"].objective, rel=1e-6)
    assert "('projected-gradient', 'NUMERICAL'), ('piqp', 'OPTIMAL')" in capsys.readouterr().out
