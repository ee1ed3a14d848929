"""The commercial solvers as far as the licences inside their packages reach; absent packages are skipped."""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Session, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options, Raw, guarded
from crosswind.solvers.backends.triangles import lower_by_columns
from crosswind.solvers.cones import svec
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.face import sharpened
from crosswind.solvers.probe import probe
from crosswind.solvers.registry import backend

# Tests are imported by file, so a sibling is on no path.
cones = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("cone_programs.py"))))

PACKAGES = {"gurobi": "gurobipy", "copt": "coptpy", "xpress": "xpress", "cplex": "cplex"}
# Sizes that the free licences do not cover, for quadratic programs.
TOO_LARGE = {"gurobi": 201, "copt": 2001, "xpress": 201, "cplex": 1001}
# The clock's check needs a program larger than the free licences allow; its own test follows.
OWN = ("the_clock_stops_it_with_its_iterate", "an_iteration_limit_gives_its_iterate")


@pytest.fixture(params=PACKAGES)
def name(request):
    pytest.importorskip(PACKAGES[request.param], reason=f"the package {PACKAGES[request.param]} is not installed")
    return request.param


def test_protocol(protocol_check, name):
    if protocol_check.__name__ in OWN:
        pytest.skip("has a test of its own below")
    protocol_check(name)


@pytest.mark.parametrize("half", ["non-degenerate", "degenerate"])
def test_suite(backend_suite, name, half):
    report = backend_suite.check_backend(name, half)
    assert report.share >= (0.98 if half == "non-degenerate" else 0.9), report.summary()
    assert not report.disagreed, report.summary()


def test_limits_stop_it_and_do_not_stay(name):
    rng = np.random.default_rng(0)
    n = 60
    G = rng.normal(size=(n, n))
    program = QuadraticProgram(
        G @ G.T + 0.1 * np.eye(n), 100.0 * rng.normal(size=n), rng.normal(size=(n, n)), -1.0, np.inf, -1.0, 1.0
    )
    prepared = backend(name).prepare(program, Options())
    assert prepared.solve(None, 1e-6).claim in (Claim.TIME, Claim.SOLVED)
    raw = prepared.solve(None, None)
    assert raw.claim is Claim.SOLVED
    assert certify(program, raw.x, raw.y, raw.z).passes()
    key = {
        "gurobi": "BarIterLimit",
        "copt": "BarIterLimit",
        "xpress": "bariterlimit",
        "cplex": "barrier.limits.iteration",
    }[name]
    stopped = backend(name).prepare(program, Options(1e-9, None, {key: 3})).solve(None, None)
    assert stopped.claim is Claim.ITERATIONS, stopped.word
    assert stopped.iterations <= 3
    found = solve(program, name, tol=1e-9, **{key: 3})
    assert found.status in (Status.ITERATION_LIMIT, Status.NUMERICAL)


def test_a_program_beyond_the_licence_is_a_told_failure(name):
    n = TOO_LARGE[name]
    program = QuadraticProgram(np.eye(n), np.ones(n), lb=-1.0, ub=1.0)
    raw = guarded(lambda: backend(name).prepare(program, Options()).solve(None, None))
    if not isinstance(raw, Exception) and raw.claim is Claim.SOLVED:
        pytest.skip("a full licence is present")
    found = solve(program, name)
    assert found.status is Status.NUMERICAL
    assert found.backend_status


def test_says_what_it_is(name):
    found = backend(name)
    assert found.commercial
    assert "licence" in found.limits
    assert found.version()


# -- cones ------------------------------------------------------------------------------------------------------------

SECOND_ORDER = (("zq", 3), ("znqiah", 8), ("qqq", 3), ("zznnqq", 6))
MATRICES = (("p", 4), ("zp", 4), ("znqap", 12), ("pp", 7), ("zqp", 5))


def takes(name: str, program: ConeProgram) -> bool:
    return backend(name).takes(program)


def test_the_probe_finds_all_that_it_declares(name):
    found = probe((name,))[name]
    assert found.works, found.trouble
    assert found.soc == "ok"
    assert found.psd == ("ok" if name == "copt" else "no")
    assert found.repeats
    assert not found.prints


@pytest.mark.parametrize(("kinds", "n"), SECOND_ORDER + MATRICES)
@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-5])
def test_planted_optima(name, kinds, n, quadratic, unit):
    for seed in range(3):
        case = cones.planted(kinds, seed, n, quadratic, unit=unit)
        if not takes(name, case.program):
            pytest.skip("takes no matrices")
        found = solve(case.program, name)
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.backend == name
        assert found.objective == pytest.approx(case.objective, rel=1e-6)
        assert found.s == pytest.approx(case.program.b - case.program.A @ found.x, abs=1e-9 * unit)


def test_projection_on_a_disc(name):
    target = np.array([3.0, 4.0, 0.0])
    A = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    program = ConeProgram(
        np.eye(3), -target, A, [9.0, 1.0, 0.0, 0.0, 2.0], (Cone("nonneg", 1), Cone("soc", 3), Cone("zero", 1))
    )
    found = solve(program, name)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.x == pytest.approx([0.6, 0.8, 2.0], abs=1e-5)
    assert found.y == pytest.approx([0.0, 4.0, -2.4, -3.2, -2.0], abs=1e-4)
    assert not found.z.any()


def test_the_largest_eigenvalue(name):
    rng = np.random.default_rng(1)
    M = rng.normal(size=(12, 12))
    M = M + M.T
    program = ConeProgram(None, [1.0], -svec(np.eye(12))[:, None], -svec(M), (Cone("psd", 12),))
    if not takes(name, program):
        with pytest.raises(InvalidInput, match="does not take these cones"):
            solve(program, name)
        return
    found = solve(program, name)
    values, vectors = np.linalg.eigh(M)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.x[0] == pytest.approx(values[-1], rel=1e-8)
    # The multiplier is the projection on its eigenvector.
    assert found.y == pytest.approx(svec(np.outer(vectors[:, -1], vectors[:, -1])), abs=1e-5)


@pytest.mark.parametrize("order", [15, 20])
def test_larger_matrices(name, order):
    case = cones.planted("znqp", order, 3 * order, True, order=order)
    if not takes(name, case.program):
        pytest.skip("takes no matrices")
    found = solve(case.program, name)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.objective == pytest.approx(case.objective, rel=1e-6)


def test_multipliers_beside_a_matrix_are_in_their_rows(name):
    """COPT 8.0.7 gives those of linear rows one row too late where it has dualised the program by itself."""
    for kinds, n in (("zp", 4), ("znp", 5), ("zqp", 5)):
        case = cones.planted(kinds, 3, n)
        if not takes(name, case.program):
            pytest.skip("takes no matrices")
        raw = backend(name).prepare(case.program, Options()).solve(None, None)
        assert raw.y == pytest.approx(case.y, abs=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_against_clarabel(name, seed):
    case = cones.planted("zznqiqhq", seed, 9, True)
    rng = np.random.default_rng(seed)
    moved = case.program.with_vectors(q=case.program.q + 0.2 * rng.normal(size=9), b=case.program.b + 0.05)
    sure, found = solve(moved, "clarabel", tol=1e-9), solve(moved, name)
    if sure.status is not Status.OPTIMAL:
        assert found.status is not Status.OPTIMAL or sure.proof is None
        return
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.objective == pytest.approx(sure.objective, rel=1e-6)


@pytest.mark.parametrize("label", list(cones.hopeless()))
def test_hopeless_programs_are_proved_to_be(name, label):
    program, what = cones.hopeless()[label]
    if not takes(name, program):
        pytest.skip("takes no matrices")
    found = solve(program, name)
    assert found.status.name.lower() == what, found.summary()
    assert found.proof is not None
    assert found.proof.kind == what


def test_a_linear_program_without_end(name):
    program = QuadraticProgram(None, [-1.0, -1.0], [[1.0, -1.0]], -1.0, 1.0, lb=0.0)
    raw = backend(name).prepare(program, Options()).solve(None, None)
    assert raw.claim is Claim.UNBOUNDED
    assert raw.ray == pytest.approx([1.0, 1.0], abs=1e-6)
    assert solve(program, name).status is Status.UNBOUNDED


@pytest.mark.parametrize("kinds", ["znqiq", "zqp"])
def test_a_session_of_cones(name, kinds):
    case = cones.planted(kinds, 1, 6, True)
    if not takes(name, case.program):
        pytest.skip("takes no matrices")
    session = Session(case.program, name)
    rng = np.random.default_rng(0)
    for _ in range(4):
        q = case.program.q + 0.1 * rng.normal(size=6)
        found, fresh = session.update(q=q).solve(), solve(case.program.with_vectors(q=q), name)
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.objective == pytest.approx(fresh.objective, rel=1e-6)
    assert session.setups == (4 if "p" in kinds else 1)  # COPT would keep every matrix it was ever given


def test_limits_stop_cones_and_do_not_stay(name):
    case = cones.planted("znq" + 8 * "q", 0, 30, True)
    prepared = backend(name).prepare(case.program, Options())
    assert prepared.solve(None, 1e-6).claim in (Claim.TIME, Claim.SOLVED)
    raw = prepared.solve(None, None)
    assert raw.claim is Claim.SOLVED
    assert certify(case.program, raw.x, raw.y, s=raw.s).passes()


def test_cones_are_silent_and_repeat_bit_by_bit(name):
    programs = [cones.planted("znqiah", 1, 8, True).program, cones.hopeless()["disc"][0], cones.hopeless()["cone"][0]]
    programs += [cones.planted("znqp", 1, 8, True).program, cones.hopeless()["matrix, open"][0]]
    programs = [program for program in programs if takes(name, program)]
    kept = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            runs = [
                [backend(name).prepare(program, Options()).solve(None, None) for program in programs] for _ in range(2)
            ]
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        assert file.read() == b""
    for one, two in zip(*runs, strict=True):
        assert one.claim is two.claim
        assert np.array_equal(one.x, two.x, equal_nan=True)
        assert np.array_equal(one.y, two.y, equal_nan=True)


def test_the_processor_is_left_as_it_was(name):
    """Xpress sets the x87 unit to 53 bits, for the whole thread and for good."""
    tiny = np.finfo(np.longdouble).eps
    for program in (cones.planted("znq", 0, 5, True).program, QuadraticProgram(np.eye(2), [1.0, 1.0], lb=0.0)):
        prepared = backend(name).prepare(program, Options())
        assert np.longdouble(1.0) + tiny > np.longdouble(1.0)
        prepared.solve(None, None)
        prepared.update(program.with_vectors(q=2.0 * program.q))
        prepared.solve(None, None)
        assert np.longdouble(1.0) + tiny > np.longdouble(1.0)


def test_cones_beyond_the_licence_are_a_told_failure(name):
    n = TOO_LARGE[name]
    ball = ConeProgram(
        None,
        np.eye(n)[0],
        np.vstack((np.zeros((1, n)), -np.eye(n))),
        np.append(1.0, np.zeros(n)),
        (Cone("soc", n + 1),),
    )
    found = solve(ball, name)
    if found.status is Status.OPTIMAL:
        pytest.skip("a full licence is present")
    assert found.status is Status.NUMERICAL
    assert found.backend_status


# -- MOSEK: no licence was at hand, so its task is read back ----------------------------------------------------------


def test_mosek_takes_the_program_and_fails_cleanly_without_a_licence():
    mosek = pytest.importorskip("mosek", reason="the package mosek is not installed")
    rng = np.random.default_rng(1)
    A = sparse.random_array((4, 5), density=0.5, rng=rng)
    P = np.diag(np.arange(5.0)) + 0.1
    program = QuadraticProgram(
        P, np.arange(5.0), A, [-1, -np.inf, 0, -9], [1, 3, 0, np.inf], [-2, -np.inf, -1, 0, -1], 2
    )
    prepared = backend("mosek").prepare(program, Options())
    task, scaling = prepared.task, prepared.scaling
    assert (task.getnumvar(), task.getnumcon(), task.getnumanz()) == (5, 4, program.A.nnz)
    rows, columns, values = task.getaijtriplets() if hasattr(task, "getaijtriplets") else task.getatrip()
    read = sparse.coo_array((values, (rows, columns)), shape=(4, 5)).toarray()
    assert np.array_equal(read, program.A.toarray())
    assert np.allclose(task.getclist(list(range(5))), program.q * scaling.linear)
    key = mosek.boundkey
    assert task.getconboundslice(0, 4)[0] == [key.ra, key.up, key.fx, key.lo]
    assert task.getvarboundslice(0, 5)[0] == [key.ra, key.up, key.ra, key.ra, key.ra]
    found = solve(program, "mosek")
    if found.status is Status.OPTIMAL:  # there is a licence after all
        return
    assert found.status is Status.NUMERICAL
    assert "licen" in found.backend_status.lower()


def test_mosek_refuses_settings():
    pytest.importorskip("mosek", reason="the package mosek is not installed")
    program = QuadraticProgram(np.eye(1), [1.0])
    with pytest.raises(InvalidInput, match="no setting of this name"):
        solve(program, "mosek", no_such_setting=1)
    with pytest.raises(InvalidInput, match="does not take this value"):
        solve(program, "mosek", MSK_DPAR_INTPNT_TOL_PFEAS="small")


def read_back(task) -> tuple[ConeProgram, list[np.ndarray]]:
    """Return what a MOSEK task says, as a program of ours, and for each of its domains our order of its rows."""
    domain = pytest.importorskip("mosek").domaintype
    k, total = task.getnumvar(), task.getaccntot()
    row, column, value = task.getaccftrip()
    F = sparse.coo_array((value, (row, column)), shape=(total, k)).tocsr()
    g, start = np.array(task.getaccgvector()), 0
    parts, orders, rows = [], [], []
    for i in range(task.getnumacc()):
        size, kind = task.getaccn(i), task.getdomaintype(task.getaccdomain(i))
        order, turn = np.arange(size), np.eye(size)
        if kind == domain.rquadratic_cone:  # 2 u v ≥ ‖w‖² turned by 45 degrees
            turn[:2, :2] = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2.0)
        if kind == domain.svec_psd_cone:
            side = int((np.sqrt(8 * size + 1) - 1) / 2)
            order[lower_by_columns(side)] = np.arange(size)
            cone = Cone("psd", side)
        else:
            names = {domain.rzero: "zero", domain.rplus: "nonneg"}
            cone = Cone(names.get(kind, "soc"), size)
        block = (turn[order], F[start : start + size], g[start : start + size])
        parts.append(cone)
        rows.append((block[0] @ block[1], block[0] @ block[2]))
        orders.append(order)
        start += size
    A = sparse.vstack([-sparse.csr_array(part) for part, _ in rows])
    return ConeProgram(None, task.getclist(list(range(k))), A, np.concatenate([b for _, b in rows]), parts), orders


@pytest.mark.parametrize(("kinds", "n"), SECOND_ORDER + MATRICES)
@pytest.mark.parametrize("quadratic", [False, True])
def test_mosek_is_told_the_program_in_cones(kinds, n, quadratic):
    pytest.importorskip("mosek", reason="the package mosek is not installed")
    case = cones.planted(kinds, 2, n, quadratic)
    prepared = backend("mosek").prepare(case.program, Options())
    told, orders = read_back(prepared.task)
    raw = backend("clarabel").prepare(told, Options(1e-9)).solve(None, None)
    assert raw.claim in (Claim.SOLVED, Claim.ALMOST), raw.word
    scaling = prepared.scaling
    x = raw.x[:n] * scaling.length
    assert case.program.objective(x) == pytest.approx(case.objective, rel=1e-5)
    # MOSEK's multipliers are those of its rows, in its order: back to ours.
    doty, start = [], 0
    for order in orders:
        part = np.empty(order.size)
        part[order] = raw.y[start : start + order.size]
        doty.append(part)
        start += order.size
    y = prepared.scattered(np.concatenate(doty)) * scaling.dual
    assert certify(case.program, x, y).passes(1e-3 if quadratic else 1e-5)
    raw = sharpened(Raw(Claim.SOLVED, "", x, y, np.zeros(n)), case.program, 1e-6)
    assert certify(case.program, raw.x, raw.y).passes()
    moved = case.program.with_vectors(q=1.5 * case.program.q, b=1.25 * case.program.b)
    assert prepared.fits(moved)
    prepared.update(moved)
    again, _ = read_back(prepared.task)
    assert np.allclose(again.q[:n], 1.5 * told.q[:n])
    assert np.allclose(again.b[: case.program.m], 1.25 * told.b[: case.program.m])


def test_mosek_says_that_its_licence_is_missing():
    pytest.importorskip("mosek", reason="the package mosek is not installed")
    found = probe(("mosek",))["mosek"]
    if found.works:
        return
    for trouble in (found.quadratic, found.soc, found.psd):
        assert "licen" in trouble.lower()
    assert not found.prints
