"""The receding-horizon program as a quadratic program, and the backends that take it for what it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Session, certify, native, solve
from crosswind.solvers.backends.base import Claim, Options
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc import MpcModel, MpcProgram, MpcSolver, MpcWorld, mpc_instance
from crosswind.solvers.registry import backend

LANES = ("mpc", "daqp:condensed")
# instruments, exposures, modes, horizon
SIZES = {
    "one": (1, 1, 1, 12),
    "k<m": (3, 1, 1, 8),
    "k>m": (2, 3, 0, 9),
    "M=2": (2, 2, 2, 10),
    "one slice": (2, 2, 1, 1),
}
LIMITS = ("as they are", "zero caps", "no limits", "gap cap active", "relaxed")


def stream(sizes: tuple[int, int, int, int], limits: str, steps: int = 6, seed: int = 0) -> list[MpcProgram]:
    """Return the programs of some steps under limits of one kind."""
    m, k, M, H = sizes
    model = mpc_instance(m, k, M, H, seed=seed)
    world, solver = MpcWorld(model, steps, seed=seed + 10), MpcSolver(model)
    rng = np.random.default_rng([seed, H, m])
    out: list[MpcProgram] = []
    for _ in range(steps):
        d = world.data()
        if limits == "zero caps":
            d["cap"][rng.random(d["cap"].shape) < 0.4] = 0.0
        elif limits == "no limits":
            d |= {name: np.full_like(d[name], np.inf) for name in ("cap", "rate", "gap_cap")}
        elif limits == "gap cap active":
            d |= {"gap": d["gap"] + 3.0 * rng.standard_normal(k), "gap_cap": np.full((H, k), 0.25)}
        elif limits == "relaxed":
            d |= {"rate": np.full(m, 0.05), "last": d["cap"][0] + 0.5 + rng.random(m)}
        out.append(out[0].at(**d) if out else MpcProgram(model, **d))
        world.execute(solver.step(**d).trades[0])
    return out


def data_of(program: MpcProgram) -> dict[str, np.ndarray]:
    return dict(program.data)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_lanes_answers_certify_and_are_the_optimum(sizes, limits, reference):
    programs = stream(sizes, limits)
    for name in LANES:
        prepared = backend(name).prepare(programs[0], Options(1e-6))
        for number, program in enumerate(programs):
            if prepared.fits(program):
                prepared.update(program)
            else:  # shut caps are equalities for DAQP, and nothing new for the core
                assert (name, limits) == ("daqp:condensed", "zero caps")
                prepared = backend(name).prepare(program, Options(1e-6))
            raw = prepared.solve(None, None)
            assert raw.claim is Claim.SOLVED
            found = certify(program, raw.x, raw.y, raw.z, tol=1e-6)
            assert found.passes(), (name, number, found)
            _, best = reference.optimum(program.model, data_of(program))
            assert found.objective == pytest.approx(best, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_bare_calls_of_a_stream_answer_as_update_and_solve_do(sizes):
    programs = stream(sizes, "as they are")
    for name in (*LANES, "piqp", "osqp", "osqp:direct", "cvxpy:dpp", "daqp"):
        one, two = (backend(name).prepare(programs[0], Options(1e-8)) for _ in range(2))
        one.solve(None, None), two.solve(None, None)
        direct = two.direct(10.0)
        assert direct is not None
        loaded = [direct.load(program) for program in programs[1:]]
        answers = []
        for program, vectors in zip(programs[1:], loaded, strict=True):
            direct.run(vectors)
            answers.append(direct.take(program))
        for program, answer in zip(programs[1:], answers, strict=True):
            one.update(program)
            cold, bare = one.solve(None, None), answer()
            assert bare.claim is Claim.SOLVED
            size = max(1.0, float(np.abs(cold.x).max()))
            assert np.allclose(bare.x, cold.x, atol=2e-5 * size), name
            assert certify(program, bare.x, bare.y, bare.z, tol=1e-3).dual < 1e-3


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_point_and_objective_are_those_of_the_definition(sizes, reference):
    for program in stream(sizes, "gap cap active", steps=3):
        d, (m, _, _, H) = data_of(program), program.model.sizes
        inside = np.clip(np.random.default_rng(H).normal(size=(H, m)), -d["cap"], d["cap"])
        x = program.point(inside)
        assert np.array_equal(program.trades(x), inside)
        assert program.objective(x) == pytest.approx(reference.cost(program.model, d, inside), rel=1e-12, abs=1e-12)
        # All but the limit on the change, which random trades break.
        rows = program.m - H * m
        Ax = program.A @ x
        assert np.all(Ax[:rows] >= program.l[:rows] - 1e-9)
        assert np.all(Ax[:rows] <= program.u[:rows] + 1e-9)


def test_a_step_of_the_core_has_the_objective_of_the_program():
    model = mpc_instance(2, 2, 2, 10, seed=3)
    world = MpcWorld(model, 5, seed=4)
    solver = MpcSolver(model)
    for _ in range(5):
        d = world.data()
        step, program = solver.step(**d), MpcProgram(model, **d)
        assert program.objective(program.point(step.trades)) == pytest.approx(step.objective, rel=1e-12)
        world.execute(step.trades[0])


def test_wrong_prices_and_wrong_trades_do_not_certify():
    program = stream(SIZES["M=2"], "gap cap active")[-1]
    step = MpcSolver(program.model).step(**data_of(program))
    assert np.abs(step.prices.gap).max() > 0.1  # the cap is felt
    x = program.point(step.trades)
    y, z = program.multipliers(step.trades, step.prices.gap, step.prices.rate)
    assert certify(program, x, y, z, tol=1e-6).passes()
    y_wrong, z_wrong = program.multipliers(step.trades, 0.9 * step.prices.gap, step.prices.rate)
    assert not certify(program, x, y_wrong, z_wrong, tol=1e-6).passes()
    other = step.trades.copy()
    other[0] += 1e-3
    y, z = program.multipliers(other, step.prices.gap, step.prices.rate)
    assert not certify(program, program.point(other), y, z, tol=1e-6).passes()


def test_steps_share_matrices_unless_their_curve_differs():
    first, second = stream(SIZES["one"], "as they are", steps=2)
    assert second.P is first.P
    assert second.A is first.A
    assert second.model is first.model
    d = data_of(second)
    same = MpcProgram(second.model, **d)
    assert same.digest == second.digest != first.digest
    other = first.at(**d | {"curve": d["curve"] + 0.1})
    assert other.P is not first.P
    assert other.digest == MpcProgram(first.model, **d | {"curve": d["curve"] + 0.1}).digest


def test_pickles_keep_what_they_share_and_what_must_not_be_written():
    before = stream(SIZES["k<m"], "as they are", steps=3)
    after = pickle.loads(pickle.dumps(before))
    assert [p.digest for p in after] == [p.digest for p in before]
    assert after[1].P is after[0].P
    assert after[2].model is after[0].model
    for array in (*after[0].data.values(), after[0].q, after[0].P.data):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    raw = [backend("mpc").prepare(p, Options(1e-6)).solve(None, None) for p in (before[0], after[0])]
    assert np.array_equal(raw[0].x, raw[1].x)


def test_copies_with_other_vectors_are_plain_programs(tmp_path):
    program = stream(SIZES["one"], "as they are", steps=1)[0]
    for copied in (program.with_vectors(q=program.q + 1.0), program.with_values(P_data=2.0 * program.P.data)):
        assert type(copied) is QuadraticProgram
        assert not backend("mpc").takes(copied)
    assert type(program.plain()) is QuadraticProgram
    assert program.plain().digest == program.digest
    read = QuadraticProgram.load(program.save(tmp_path / "step.npz"))
    assert read.digest == program.digest
    with pytest.raises(InvalidInput, match="hold no model"):
        MpcProgram.load(tmp_path / "step.npz")


@pytest.mark.parametrize("name", LANES)
def test_other_programs_are_refused_with_a_remedy(name):
    plain = QuadraticProgram(np.eye(2), [-1.0, 0.0], lb=0.0, ub=1.0)
    found = backend(name)
    assert not found.takes(plain)
    for ask in (lambda: solve(plain, name), lambda: Session(plain, name), lambda: found.prepare(plain, Options())):
        with pytest.raises(InvalidInput, match="receding-horizon programs") as err:
            ask()
        assert err.value.remedy


def test_solve_and_sessions_take_the_core():
    programs = stream(SIZES["k<m"], "as they are", steps=2)
    found = solve(programs[1], "mpc")
    assert found.status.name == "OPTIMAL"
    assert found.backend == "mpc"
    assert found.objective == pytest.approx(solve(programs[1], "piqp", tol=1e-9).objective, rel=1e-8)


def test_settings_are_checked_and_reach_the_core():
    program = stream(SIZES["M=2"], "gap cap active", steps=1)[0]
    short = backend("mpc").prepare(program, Options(1e-6, settings={"work": 1})).solve(None, None)
    assert short.claim is Claim.ALMOST
    assert short.iterations <= 1
    other = backend("mpc").prepare(program, Options(1e-6, settings={"engine": "piqp"})).solve(None, None)
    assert certify(program, other.x, other.y, other.z, tol=1e-6).passes()
    with pytest.raises(InvalidInput, match="no setting"):
        backend("mpc").prepare(program, Options(settings={"max_iter": 3}))


@pytest.mark.skipif(not native.COMPILED, reason="PIQP takes what the core refuses")
def test_data_beyond_the_core_are_no_answer():
    model = MpcModel(4, [[0.1]], covariance=[[1.0]], risk_weight=0.05, terminal_weight=1.0)
    raw = backend("mpc").prepare(MpcProgram(model, gap=[1e12]), Options()).solve(None, None)
    assert raw.claim is Claim.FAILED
    assert np.isnan(raw.x).all()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"gap": [np.nan]}, "gap"),
        ({"gap": [1.0], "cap": -1.0}, "cap"),
        ({"gap": [1.0], "rate": np.nan}, "rate"),
        ({"gap": [1.0], "spread": np.inf}, "spread"),
        ({"gap": [1.0, 2.0]}, "gap"),
        ({"gap": [1.0], "plan": np.zeros(3)}, "plan"),
    ],
)
def test_unsound_data_are_refused(changed, field):
    model = MpcModel(4, [[0.1]], covariance=[[1.0]], risk_weight=0.05, terminal_weight=1.0)
    with pytest.raises(InvalidInput) as err:
        MpcProgram(model, **changed)
    assert err.value.field == field
    with pytest.raises(InvalidInput):
        MpcProgram(model, gap=[1.0]).at(**changed)


def test_words_that_are_no_data_and_no_model():
    model = mpc_instance(horizon=4)
    with pytest.raises(InvalidInput, match="not the data"):
        MpcProgram(model, gap=[1.0]).at(gap=[1.0], gaps=2.0)
    with pytest.raises(InvalidInput, match="not the data"):
        MpcProgram(model, gap=[1.0]).at(plan=0.0)
    with pytest.raises(InvalidInput, match="no MpcModel"):
        MpcProgram("model", gap=[1.0])
