"""Steps against the program's definition, Clarabel and a closed form: optimum, bound, exact limits, bits, refusals."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest

from crosswind.solvers import Status, certify, native
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.mpc import MpcModel, MpcProgram, MpcSolver, MpcWorld, mpc_instance

SIZES = [(1, 1, 0), (1, 1, 1), (1, 1, 2), (2, 1, 2), (3, 3, 1), (2, 2, 2), (2, 3, 1), (1, 2, 0)]
compiled = pytest.mark.skipif(not native.COMPILED, reason="the package was built without a compiler")
ENGINES = [pytest.param("C", marks=compiled), "piqp"]


def size_of(model, reference, d, h):
    """The sum of the absolute parts of the cost: what tolerances are relative to."""
    positive = {n: np.abs(v) if n in ("gap", "plan", "state", "linear", "carry") else v for n, v in d.items()}
    return abs(reference.cost(model, d, h)) + abs(reference.cost(model, positive, np.zeros_like(h))) + 1e-9


def keeps_limits(d, step):
    h, cap, rate, last = step.trades, d["cap"], d["rate"], d["last"]
    change = np.abs(np.diff(h, axis=0, prepend=last[None]))
    inside = (np.abs(h) <= cap).all() and (change[1:] <= rate).all()
    return bool(inside and (step.relaxed or (change[0] <= rate).all()))


@compiled
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("hostile", [False, True])
def test_the_optimum_is_that_of_clarabel(sizes, hostile, reference):
    for horizon, seed in ((1, 0), (2, 1), (7, 2), (12, 3)):
        model = mpc_instance(*sizes, horizon, seed)
        world, solver = MpcWorld(model, 12, seed, hostile), MpcSolver(model)
        for _ in range(12):
            d = world.data()
            step = solver.step(**d, tol=1e-10)
            h, best = reference.optimum(model, d)
            size = size_of(model, reference, d, h)
            assert step.status is Status.OPTIMAL
            assert abs(step.objective - reference.cost(model, d, step.trades)) <= 1e-12 * size
            assert abs(step.objective - best) <= 1e-10 * (size + 1.0)
            assert np.abs(step.trades - h).max() <= 1e-5 * max(1.0, np.abs(h).max())
            assert step.work <= 40
            assert keeps_limits(d, step)
            world.execute(step.trades[0])


@compiled
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2), (3, 3, 1)], ids=str)
def test_the_fallback_equals_the_core(sizes):
    model = mpc_instance(*sizes, 10, 5)
    world, core, plain = MpcWorld(model, 25, 6, hostile=True), MpcSolver(model), MpcSolver(model, "piqp")
    assert (core.engine, plain.engine) == ("C", "piqp")
    for _ in range(25):
        d = world.data()
        one, two = core.step(**d), plain.step(**d)
        assert one.status is two.status is Status.OPTIMAL
        assert one.relaxed == two.relaxed
        assert one.trades == pytest.approx(two.trades, abs=2e-6)
        assert one.objective == pytest.approx(two.objective, rel=1e-7, abs=1e-8)
        assert keeps_limits(d, two)
        world.execute(one.trades[0])


def test_the_fallback_can_be_left_to_the_package(monkeypatch):
    monkeypatch.setattr(native, "COMPILED", False)
    model = mpc_instance(horizon=5)
    assert MpcSolver(model).engine == "piqp"
    with pytest.raises(MissingDependency, match="compiler"):
        MpcSolver(model, "C")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_horizon_converges_to_garleanu_and_pedersen(engine):
    """Undiscounted, unconstrained: G_1 = (1 − a/λ) G_0 with a/λ = .0560924115 for g = .01, λ = 3 (Λ = λΣ)."""
    g, lam = 0.01, 3.0
    horizon = 150 if engine == "piqp" else 400
    # They charge ½ h'Λh and ½ g G'ΣG.
    model = MpcModel(horizon, [[0.5 * lam]], covariance=[[1.0]], risk_weight=0.5 * g)
    step = MpcSolver(model, engine).step([1.0], tol=1e-12)
    assert step.trades[0, 0] == pytest.approx(0.0560924115, abs=1e-6)
    assert step.status.usable


@compiled
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2), (3, 3, 1)], ids=str)
def test_the_gap_is_a_bound_however_little_work_is_done(sizes, reference):
    model = mpc_instance(*sizes, 9, 8)
    world, solver = MpcWorld(model, 30, 9, hostile=True), MpcSolver(model)
    early = 0
    for k in range(30):
        d = world.data()
        solver.reset()
        step = solver.step(**d, work=k % 6)
        h, best = reference.optimum(model, d)
        slack = 1e-10 * size_of(model, reference, d, h)
        assert step.work <= k % 6
        assert step.objective - step.gap <= best + slack
        assert step.objective >= best - slack
        assert keeps_limits(d, step)
        assert step.status is Status.FEASIBLE or step.objective - best <= 1e-8 * slack * 1e10
        early += step.status is Status.FEASIBLE and np.isfinite(step.gap)
        world.execute(step.trades[0])
    assert early > 10


@compiled
@pytest.mark.parametrize(
    ("sizes", "steps"), [((1, 1, 1, 20), 9000), ((1, 1, 2, 12), 4000), ((2, 1, 2, 15), 4000), ((3, 3, 1, 30), 3000)]
)
def test_twenty_thousand_steps_without_a_failure(sizes, steps):
    model = mpc_instance(*sizes, seed=11)
    world, solver = MpcWorld(model, steps, 12, hostile=True), MpcSolver(model)
    work = np.zeros(steps, dtype=int)
    for k in range(steps):
        d = world.data()
        step = solver.step(**d)
        assert step.status is Status.OPTIMAL, (k, step.gap, step.objective)
        assert keeps_limits(d, step), k
        work[k] = step.work
        world.execute(step.trades[0])
    assert work.max() <= 40
    assert np.median(work) <= 12


HOSTILE = {
    "no trade is allowed": {"cap": 0.0},
    "no change is allowed": {"rate": 0.0, "last": 0.2},
    "caps shut in turns, with a rate": {"cap": np.tile([[0.0], [1.0], [1.0]], (4, 1)), "rate": 0.03},
    "a chain of rates down to a shut end": {"cap": np.r_[np.ones(11), 0.0][:, None], "rate": 0.05, "last": 2.0},
    "the last trade breaks the rate": {"last": 5.0, "rate": 0.1, "cap": 1.0},
    "the last trade breaks the cap, without a rate": {"last": 5.0, "cap": 0.1},
    "a far gap": {"gap": 1e4, "gap_cap": 1.0, "price": 1.0, "curve": 0.5, "cap": 1.0},
    "a gap beyond all": {"gap": 1e8, "cap": 1.0},
    "gap caps of zero": {"gap_cap": 0.0, "price": 2.0, "curve": 1.0},
    "gap caps with a kink alone": {"gap_cap": 0.1, "price": 2.0},
    "gap caps with a curve alone": {"gap_cap": 0.1, "curve": 2.0},
    "gap caps without a price": {"gap_cap": 0.1},
    "nothing costs": {"spread": 0.0},
    "a spread beyond any gain": {"spread": 1e6},
    "huge drift": {"linear": 1e6, "cap": 1.0},
    "tiny caps": {"cap": 1e-12},
    "denormal limits": {"cap": 5e-324, "rate": 5e-324},
    "caps with a digit too many": {"cap": 0.1 + 0.2, "rate": 0.1, "last": 0.3},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_data_get_an_answer_within_the_limits(engine, name, reference):
    model = mpc_instance(1, 1, 1, 12, seed=2)
    d = reference.full(model, **({"gap": 1.5, "spread": 0.05, "cap": 0.4} | HOSTILE[name]))
    solver = MpcSolver(model, engine)
    for shift in (0, 0, 1):
        step = solver.step(**d, shift=shift)
        assert step.status in (Status.OPTIMAL, Status.FEASIBLE)
        assert np.isfinite(step.trades).all()
        assert np.isfinite([step.objective, step.gap]).all()
        assert all(np.isfinite(p).all() for p in step.prices)
        assert keeps_limits(d, step)
        assert abs(step.objective - reference.cost(model, d, step.trades)) <= 1e-9 * (1.0 + abs(step.objective))
        if engine == "C":
            assert step.work <= 40
            if name not in ("a gap beyond all", "huge drift"):
                assert step.status is Status.OPTIMAL


REFUSED = {
    "gap": [np.nan, np.inf, -np.inf, 1e30], "plan": [np.nan, np.inf], "state": [np.nan, -np.inf],
    "last": [np.nan, 1e300],
    "linear": [np.nan, np.inf], "carry": [np.nan, np.inf], "spread": [np.nan, -1e-9, np.inf],
    "cap": [np.nan, -1e-300, -np.inf], "rate": [np.nan, -1.0], "gap_cap": [np.nan, -1.0],
    "price": [np.nan, -1.0, np.inf], "curve": [np.nan, -1.0, np.inf],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("engine", ENGINES)
def test_refused_data_leave_everything_as_it_was(engine, name, reference):
    model = mpc_instance(2, 2, 1, 6, seed=3)
    d = reference.full(model, gap=1.0, spread=0.05, cap=0.4, rate=0.3, gap_cap=1.0, price=1.0, curve=1.0)
    solver = MpcSolver(model, engine)
    solver.step(**d)
    saved = solver.snapshot()
    for bad in REFUSED[name]:
        spoiled = {n: v.copy() for n, v in d.items()}
        spoiled[name].flat[-1] = bad
        out = np.full((6, 2), 7.0)
        step = solver.step(**spoiled, out=out)
        assert step.status is Status.INVALID
        assert (out == 7.0).all()
        assert step.prices is None
        assert np.isnan(solver.step(**spoiled).trades).all()
        assert solver.snapshot() == saved
    again = solver.step(**d, shift=0)
    assert again.status is Status.OPTIMAL


@compiled
def test_the_same_steps_give_the_same_bits_also_over_a_restart():
    model = mpc_instance(2, 1, 2, 15, seed=4)
    world, solver = MpcWorld(model, 120, 5, hostile=True), MpcSolver(model)
    stream, answers, saved = [], [], {}
    for k in range(120):
        stream.append(world.data())
        if k % 10 == 0:
            saved[k] = solver.snapshot()
        answers.append(solver.step(**stream[-1]))
        world.execute(answers[-1].trades[0])
    for start, state in saved.items():
        other = MpcSolver(model)
        other.restore(state)
        for k in range(start, min(start + 12, 120)):
            step = other.step(**stream[k])
            assert step.trades.tobytes() == answers[k].trades.tobytes()
            assert step[3:7] == answers[k][3:7]
            assert all(a.tobytes() == b.tobytes() for a, b in zip(step.prices, answers[k].prices, strict=True))
    twin = pickle.loads(pickle.dumps(solver))
    assert twin.step(**stream[-1]).trades.tobytes() == solver.step(**stream[-1]).trades.tobytes()


@compiled
def test_units_a_power_of_two_apart_give_the_same_bits():
    model = mpc_instance(2, 2, 1, 10, seed=6)
    a = model.arrays()
    # Costs stay, trades are counted in 1024ths: quadratic weights are divided by 1024², L by 1024 for z in √cost.
    small = 1.0 / 1024.0
    other = MpcModel(
        10, a["temporary"] * small**2, a["exposure"], a["covariance"], a["risk_weight"] * small**2,
        a["terminal_weight"] * small**2, a["impact_loadings"] * small, a["decays"], unit=1024.0,
    )  # fmt: skip
    world = MpcWorld(model, 20, 7, hostile=True)
    one, two = MpcSolver(model), MpcSolver(other)
    powers = {"state": 1.0, "linear": small, "carry": small, "spread": small, "price": small, "curve": small**2}
    for _ in range(20):
        d = world.data()
        step = one.step(**d)
        twin = two.step(**{n: v * powers.get(n, 1024.0) for n, v in d.items()})
        assert (step.trades * 1024.0).tobytes() == twin.trades.tobytes()
        assert step.objective == twin.objective
        world.execute(step.trades[0])


@compiled
@pytest.mark.parametrize("damage", ["cut", "long", "model", "engine", "nan", "regime", "version", "empty"])
def test_damaged_snapshots_are_refused_and_change_nothing(damage, reference):
    model = mpc_instance(2, 2, 1, 6, seed=3)
    solver, d = MpcSolver(model), reference.full(model, gap=1.0, spread=0.05, cap=0.4)
    solver.step(**d)
    good = solver.snapshot()
    bad = {
        "cut": good[:-1],
        "long": good + b"x",
        "model": MpcSolver(mpc_instance(2, 2, 1, 6, seed=4)).snapshot(),
        "engine": b"piqp:",
        "nan": good[:100] + np.float64(np.nan).tobytes() + good[108:],
        "regime": good[:-1] + b"\x07",
        "version": good[:30] + b"\x09" + good[31:],
        "empty": b"",
    }[damage]
    with pytest.raises(InvalidInput, match="fit"):
        solver.restore(bad)
    assert solver.snapshot() == good


@compiled
def test_a_wrong_shift_costs_work_and_not_the_answer(reference):
    model = mpc_instance(1, 1, 1, 20, seed=8)
    world, fresh, solver = MpcWorld(model, 40, 9), MpcSolver(model), MpcSolver(model)
    for shift in (-5, 0, 1, 2, 19, 20, 21, 10**12) * 5:
        d = world.data()
        fresh.reset()
        one, two = fresh.step(**d), solver.step(**d, shift=shift)
        assert one.status is two.status is Status.OPTIMAL
        assert one.trades == pytest.approx(two.trades, abs=1e-6)
        world.execute(one.trades[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_given_is_at_rest_and_arrays_are_broadcast(engine, reference):
    model = mpc_instance(2, 2, 1, 8, seed=1)
    d = reference.full(model, gap=1.0, cap=0.3, spread=0.05)
    solver = MpcSolver(model, engine)
    one = solver.step(**d)
    solver.reset()
    two = solver.step([1.0, 1.0], cap=0.3, spread=[0.05, 0.05])
    assert one.trades.tobytes() == two.trades.tobytes()
    narrow = {n: v.astype(np.float32) if n == "gap" else np.asfortranarray(v) for n, v in d.items()}
    solver.reset()
    assert solver.step(**narrow).trades.tobytes() == one.trades.tobytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_shapes_that_do_not_fit_are_refused_by_name(engine):
    model = mpc_instance(2, 2, 1, 8)
    solver = MpcSolver(model, engine)
    for name, bad in (
        ("gap", [1.0, 2.0, 3.0]), ("plan", np.zeros((2, 8))), ("plan", np.zeros(16)), ("cap", "far"),
        ("rate", np.zeros((8, 2))), ("state", np.zeros((2, 1))),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=name):
            solver.step(**({"gap": [1.0, 1.0]} | {name: bad}))
    for name, bad in (("shift", 1.5), ("work", "much"), ("tol", None), ("out", np.zeros(16)), ("out", [0.0])):
        with pytest.raises(InvalidInput, match=name):
            solver.step([1.0, 1.0], **{name: bad})
    read_only = np.zeros((8, 2))
    read_only.setflags(write=False)
    with pytest.raises(InvalidInput, match="out"):
        solver.step([1.0, 1.0], out=read_only)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sizes", [(1, 1, 0), (1, 1, 1), (2, 3, 2)], ids=str)
def test_a_bound_step_is_the_step_to_the_last_bit(sizes, engine):
    """Arrays that are filled in place, hostile data and refused ones among them; prices when they are asked for."""
    steps = 40 if engine == "C" else 4
    model = mpc_instance(*sizes, 9, seed=6)
    world, plain, solver = MpcWorld(model, steps, 7, hostile=True), MpcSolver(model, engine), MpcSolver(model, engine)
    arrays = {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in world.data().items()}
    out = np.zeros((9, sizes[0]))
    bound = solver.bind(out, **arrays)
    for k in range(steps):
        d = world.data()
        if k % 7 == 3:
            d["gap"] = np.full(sizes[1], np.nan)
        for name, value in d.items():
            arrays[name][...] = value
        before = out.copy()
        step, found = plain.step(**d, shift=k % 3, tol=1e-9, work=20), bound(k % 3, 1e-9, 20)
        assert found.trades is out
        if k % 7 == 3:
            assert step.status is found.status is Status.INVALID
            assert (found.work, found.prices) == (0, None)
            np.testing.assert_array_equal(out, before)
            continue
        assert found[1:7] == step[1:7]
        np.testing.assert_array_equal(out, step.trades)
        for one, two in zip(solver.prices(), step.prices, strict=True):
            np.testing.assert_array_equal(one, two)
        world.execute(step.trades[0])
    assert solver.snapshot() == plain.snapshot()


@pytest.mark.parametrize("engine", ENGINES)
def test_only_arrays_that_can_be_filled_in_place_are_bound(engine):
    solver, out = MpcSolver(mpc_instance(2, 2, 1, 8), engine), np.zeros((8, 2))
    step = solver.bind(out, gap=np.ones(2), spread=np.full((8, 2), 1e-3))
    assert step(0, 1e-8, 40).status is Status.OPTIMAL
    for name, bad in (
        ("gap", [1.0, 1.0]), ("gap", np.ones(3)), ("plan", np.zeros((2, 8)).T), ("cap", np.ones((8, 2), np.float32)),
        ("price", 1.0), ("colour", np.ones(2)),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=name):
            solver.bind(out, **{name: bad})
    with pytest.raises(InvalidInput, match="out"):
        solver.bind(np.zeros((2, 8)))


@compiled
def test_prices_are_what_a_little_more_of_a_limit_saves(reference):
    model = mpc_instance(1, 1, 1, 12, seed=2)
    base = {"gap": 3.0, "spread": 0.05, "cap": 0.4, "rate": 0.15, "gap_cap": 1.0, "price": 1.0, "curve": 0.5}
    d = reference.full(model, **base)
    solver = MpcSolver(model)
    step = solver.step(**d, tol=1e-12)
    eps = 1e-5

    def saves(name, at):
        sides = []
        for sign in (1.0, -1.0):
            moved = {n: v.copy() for n, v in d.items()}
            moved[name][at] += sign * eps
            sides.append(MpcSolver(model).step(**moved, tol=1e-12).objective)
        return (sides[1] - sides[0]) / (2.0 * eps)

    checked = 0
    for t in range(12):
        for name, prices in (("cap", step.prices.trade), ("gap_cap", step.prices.gap)):
            price = abs(prices[t, 0])
            if price > 1e-3:
                assert saves(name, (t, 0)) == pytest.approx(price, rel=1e-3)
                checked += 1
    assert abs(step.prices.rate).sum() == pytest.approx(saves("rate", (0,)), rel=1e-3)
    assert checked >= 3


@compiled
def test_more_work_never_makes_the_decision_worse():
    model = mpc_instance(3, 3, 1, 20, seed=3)
    world, solver = MpcWorld(model, 10, 4), MpcSolver(model)
    for _ in range(10):
        d = world.data()
        costs = []
        for work in (0, 2, 4, 8, 40):
            solver.reset()
            costs.append(solver.step(**d, work=work).objective)
        assert all(b <= a + 1e-12 * abs(a) for a, b in itertools.pairwise(costs))
        world.execute(solver.step(**d).trades[0])


@compiled
@pytest.mark.parametrize("sizes", [(2, 1, 2, 30, 7093, 110), (3, 3, 1, 30, 41, 120), (10, 10, 1, 60, 4210, 40)])
def test_hostile_streams_are_proven_step_by_step_and_their_prices_prove_it_again(sizes):
    """The first stream has a step whose regimes never settle: two instruments on one exposure, no spread, shut caps."""
    *shape, seed, steps = sizes
    prove_all(mpc_instance(*shape, seed=seed), seed, steps)


@compiled
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_instruments_with_several_exposures_are_proven_too(m, seed):
    """A gap that is held weighs on all instruments then: products of such weights cancel in a cofactor."""
    model = mpc_instance(m, m, 1, 20, seed=seed)
    prove_all(replace(model, exposure=np.eye(m) + 0.5 * np.triu(np.ones((m, m)), 1)), seed, 40, gap_cap=0.3)


@compiled
@pytest.mark.parametrize("m", [2, 3])
def test_instruments_that_are_nearly_the_same_are_taken(m):
    near = np.full((m, m), 1.0 - 1e-8) + 1e-8 * np.eye(m)
    values, vectors = np.linalg.eigh(near)
    loadings = 0.6 * vectors * np.sqrt(np.maximum(values, 0.0))
    model = MpcModel(
        20, np.zeros((m, m)), covariance=near, risk_weight=0.1, terminal_weight=0.5, impact_loadings=[loadings],
        decays=[0.9],
    )  # fmt: skip
    prove_all(model, 5, 20)


def prove_all(model, seed, steps, **fixed):
    world, solver = MpcWorld(model, steps, seed + 1, hostile=True), MpcSolver(model)
    for _ in range(steps):
        d = world.data()
        d |= {name: np.full_like(d[name], value) for name, value in fixed.items()}
        step = solver.step(**d)
        assert (step.status, step.work <= 40) == (Status.OPTIMAL, True)
        program = MpcProgram(model, **d)
        y, z = program.multipliers(step.trades, step.prices.gap, step.prices.rate)
        assert certify(program, program.point(step.trades), y, z, tol=1e-5).passes()
        world.execute(step.trades[0])
