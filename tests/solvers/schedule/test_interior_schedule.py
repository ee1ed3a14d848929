"""The interior point against Clarabel on the literal program, closed forms, and at the edges of its limits."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers import Status
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule import FactorSchedule, solve_schedule
from crosswind.solvers.schedule.instances import schedule_instance


def _programs():
    name = "schedule_interior_programs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("interior_programs.py"))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def solve(problem, tol=1e-8, **options):
    return solve_schedule(problem, tol, method="interior", **options)


def changed(problem, **values):
    """The problem with some fields replaced."""
    given = {f.name: getattr(problem, f.name) for f in fields(problem)}
    return FactorSchedule(**{**given, **values})


def good(solution, tol=1e-8):
    """Whether a solution is optimal, feasible, and its bound below its cost."""
    return (
        solution.status is Status.OPTIMAL
        and solution.gap <= tol
        and solution.violations.worst <= 1e-9
        and solution.lower_bound <= solution.objective
    )


@pytest.mark.parametrize("batch", range(8))
def test_cost_is_clarabels(batch):
    programs = _programs()
    count, sizes = (15, (30, 15)) if batch % 2 else (35, (15, 8))
    for seed in range(50 * batch, 50 * batch + count):
        problem = programs.random_schedule(seed, *sizes)
        ours = solve(problem)
        assert good(ours), seed
        below, above = programs.clarabel_bracket(problem)
        room = 1e-8 * problem.scale(ours.u)
        assert below - room <= ours.objective <= above + room, seed
        assert ours.lower_bound <= above + room, seed


@pytest.mark.parametrize("batch", range(4))
def test_weights_over_sixteen_decades(batch):
    programs = _programs()
    for seed in range(1000 + 25 * batch, 1025 + 25 * batch):
        out = solve(programs.random_schedule(seed, extreme=True))
        assert good(out), seed


@pytest.mark.parametrize("aversion", [0.0, 1e-4, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("terminal", [0.0, 1.0, 1e8, np.inf])
def test_aversion_and_end_from_nothing_to_everything(aversion, terminal):
    problem = schedule_instance(40, 12, risk_aversion=aversion, terminal=terminal, two_sided=True, change=0.8, seed=3)
    assert good(solve(problem))


def test_free_trades_solve_the_linear_system():
    rng = np.random.default_rng(0)
    T, N = 6, 4
    problem = FactorSchedule(
        start=rng.normal(size=N),
        eta=rng.uniform(0.5, 1.0, (T, N)),
        linear=rng.normal(size=(T, N)),
        decays=rng.uniform(0.2, 1.0, (2, T)),
        impact_own=rng.uniform(0.1, 1.0, (2, N)),
        impact_loadings=(rng.normal(size=(N, 2)), rng.normal(size=(N, 1))),
        impact_state=rng.normal(size=(2, N)),
        risk_own=rng.uniform(0.1, 1.0, N),
        risk_loadings=rng.normal(size=(N, 2)),
        risk_weight=rng.uniform(0.1, 1.0, T),
        target=rng.normal(size=N),
    )
    # f is quadratic: its Hessian by columns from the gradient, then the saddle point of f and 1'u = need.
    zero = problem.gradient(np.zeros((T, N))).ravel()
    hessian = np.array([problem.gradient(e.reshape(T, N)).ravel() - zero for e in np.eye(T * N)]).T
    ends = np.tile(np.eye(N), T)
    need = problem.start - problem.target
    saddle = np.block([[hessian, ends.T], [ends, np.zeros((N, N))]])
    wanted = np.linalg.solve(saddle, np.concatenate([-zero, need]))[: T * N].reshape(T, N)
    got = solve(problem)
    assert good(got)
    np.testing.assert_allclose(got.u, wanted, atol=1e-7)


def test_dense_impact_is_solved_as_such():
    problem = schedule_instance(60, 5, dense=True, seed=1)
    assert problem.impact_loadings[0].shape == (60, 60)
    ours = solve(problem)
    below, above = _programs().clarabel_bracket(problem)
    room = 1e-8 * problem.scale(ours.u)
    assert good(ours)
    assert below - room <= ours.objective <= above + room


@pytest.mark.parametrize(
    "kind", ["still", "tight_band", "whole_box", "whole_cap", "shut_cap", "blackout", "copies", "nothing", "all_fixed"]
)
def test_sets_without_inner_points(kind):
    base = schedule_instance(12, 6, two_sided=True, sectors=3, seed=5)
    T, N = base.eta.shape
    even = np.tile(base.start / T, (T, 1))
    left = base.start - np.cumsum(even, axis=0)
    wide = {
        "lower": np.full((T, N), -10.0),
        "upper": np.full((T, N), 10.0),
        "band_lower": -np.inf,
        "band_upper": np.inf,
    }
    wide |= {"group_caps": np.full((T, 3), np.inf)}
    sums = np.array([np.abs(even[:, base.groups == g]).sum(axis=1) for g in range(3)]).T
    values = {
        "still": wide | {"change": np.zeros((T, N))},  # only even trading is left
        "tight_band": wide | {"band_lower": left @ base.band_vectors, "band_upper": left @ base.band_vectors},
        "whole_box": wide | {"lower": np.minimum(even, 0.0), "upper": np.maximum(even, 0.0)},
        "whole_cap": wide | {"group_caps": sums},  # the caps sum to what must be traded
        "shut_cap": wide | {"group_caps": np.where(np.arange(T)[:, None] % 2, np.inf, 0.0) * np.ones(3)},
        "blackout": wide | {"upper": np.where(np.arange(T)[:, None] % 2, 10.0, 0.0), "lower": np.zeros((T, N))},
        "copies": wide | {"impact_own": 0.0, "eta": np.zeros((T, N)), "risk_own": 0.0},
        "nothing": {"start": np.zeros(N), "linear": 0.0},
        "all_fixed": wide | {"lower": even, "upper": even},
    }[kind]
    values = {k: np.nan_to_num(v, nan=0.0, posinf=np.inf) if k == "group_caps" else v for k, v in values.items()}
    if kind == "blackout":
        values["start"] = np.abs(base.start)
    problem = changed(base, **values)
    ours = solve(problem)
    assert good(ours), ours.summary()
    if kind in ("still", "whole_box", "all_fixed"):
        np.testing.assert_allclose(ours.u, even, atol=1e-8)
    if kind in ("shut_cap", "blackout"):
        assert not ours.u[::2].any()


@pytest.mark.parametrize("kind", ["box", "cap", "band"])
def test_conflicts_are_proved(kind):
    base = schedule_instance(8, 5, sectors=2, seed=2)
    T, N = base.eta.shape
    values = {
        "box": {"lower": np.zeros((T, N)), "upper": np.full((T, N), 0.1) * np.abs(base.start) / T},
        "cap": {"group_caps": np.full((T, 2), 0.3 * np.abs(base.start).min() / T)},
        "band": {"band_lower": np.full((T, 2), 1.0), "band_upper": np.full((T, 2), 2.0)},
    }[kind]
    out = solve(changed(base, **values))
    assert out.status is Status.INFEASIBLE
    assert out.gap == np.inf
    assert np.isfinite(out.u).all()


def test_a_conflict_with_a_limit_on_changes_is_no_answer():
    base = schedule_instance(6, 5, two_sided=True, seed=4)
    out = solve(changed(base, change=np.full((5, 6), 1e-3), previous=np.zeros(6)))
    assert out.status in (Status.INFEASIBLE, Status.NUMERICAL)
    assert out.gap == np.inf


def test_a_cost_without_a_floor_is_no_answer():
    flat = np.zeros((3, 2))
    problem = FactorSchedule(
        start=np.zeros(2), eta=flat, linear=np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), terminal_weight=np.zeros(2)
    )
    out = solve(problem)
    assert out.status is not Status.OPTIMAL
    assert not out.gap <= 1e-8


def test_limits_of_time_and_iterations_give_graded_trades():
    problem = schedule_instance(60, 13, seed=6)
    seen = []
    few = solve(problem, max_iter=6, progress=seen.append)
    assert few.status is Status.ITERATION_LIMIT
    assert few.iterations == 6
    assert few.violations.worst <= 1e-9
    assert 1e-8 < few.gap < 0.5
    assert few.lower_bound <= solve(problem).objective <= few.objective
    assert tuple(seen) == few.history
    late = solve(problem, time_limit=1e-9)
    assert late.status is Status.TIME_LIMIT
    assert late.violations.worst <= 1e-9


def test_same_bits_again():
    problem = schedule_instance(30, 8, two_sided=True, change=0.7, seed=7)
    one, two = solve(problem), solve(problem)
    assert one.u.tobytes() == two.u.tobytes()
    assert one.lower_bound == two.lower_bound
    assert one.iterations == two.iterations


def test_cost_does_not_depend_on_units():
    base = schedule_instance(20, 6, two_sided=True, seed=8)
    one = solve(base)
    k = 1e6  # trades in cents of a cent: quadratic weights fall by k², linear ones by k
    quadratic = {n: getattr(base, n) / k**2 for n in ("eta", "impact_own", "risk_weight")}
    scaled = {n: getattr(base, n) * k for n in ("start", "lower", "upper", "group_caps", "band_lower", "band_upper")}
    loadings = tuple(L / k for L in base.impact_loadings)
    other = changed(
        base,
        **quadratic,
        **scaled,
        impact_loadings=loadings,
        impact_state=base.impact_state * k,
        spread=base.spread / k,
    )
    two = solve(other)
    assert good(two)
    assert two.objective == pytest.approx(one.objective, rel=3e-8)
    np.testing.assert_allclose(two.u / k, one.u, atol=3e-5 * np.abs(one.u).max())


def test_prices_are_slopes_of_the_cost():
    base = schedule_instance(10, 5, sectors=2, cap=1.05, band=0.01, seed=9, change=0.9, two_sided=True)
    at = solve(base, 1e-12)
    assert at.prices.groups.max() > 0.0
    step = 1e-4
    where = np.unravel_index(np.argmax(at.prices.groups), at.prices.groups.shape)
    cap = base.group_caps[where]
    moved = [base.group_caps.copy(), base.group_caps.copy()]
    moved[0][where] = cap * (1 - step)
    moved[1][where] = cap * (1 + step)
    less, more = (solve(changed(base, group_caps=m), 1e-12).objective for m in moved)
    assert (less - more) / (2 * step * cap) == pytest.approx(at.prices.groups[where], rel=1e-3)
    i = 3
    need = np.array(base.target)
    need[i] = step
    more = solve(changed(base, target=need), 1e-12).objective
    need[i] = -step
    less = solve(changed(base, target=need), 1e-12).objective
    assert (less - more) / (2 * step) == pytest.approx(at.prices.completion[i], rel=1e-3)
    limits = np.array(base.change)
    where = np.unravel_index(np.argmax(np.abs(at.prices.change)), limits.shape)
    moved = [limits.copy(), limits.copy()]
    moved[0][where] *= 1 - step
    moved[1][where] *= 1 + step
    less, more = (solve(changed(base, change=m), 1e-12).objective for m in moved)
    assert (less - more) / (2 * step * limits[where]) == pytest.approx(abs(at.prices.change[where]), rel=1e-3)


@pytest.mark.parametrize("two_sided", [False, True])
def test_a_neighbour_is_a_better_start(two_sided):
    base = schedule_instance(40, 10, two_sided=two_sided, seed=11)
    last = solve(base)
    near = changed(base, risk_weight=1.1 * base.risk_weight)
    cold = solve(near)
    for warm in (last, last.state, solve_schedule(base, 1e-4)):
        out = solve(near, warm=warm)
        assert good(out)
        assert out.iterations < cold.iterations
        assert out.objective == pytest.approx(cold.objective, rel=2e-8)
    far = changed(base, risk_weight=1e6 * base.risk_weight, start=-2.0 * base.start) if two_sided else near
    assert good(solve(far, warm=last)) == good(solve(far))


def test_what_is_left_starts_from_what_was_planned():
    base = schedule_instance(30, 8, two_sided=True, change=0.9, cap=np.inf, band=np.inf, seed=12)
    last = solve(base)
    traded = last.u[0]
    cells = {n: getattr(base, n)[1:] for n in ("eta", "spread", "linear", "lower", "upper", "risk_weight", "change")}
    left = changed(
        base,
        **cells,
        start=base.start - traded,
        decays=base.decays[:, 1:],
        impact_state=base.decays[:, :1] * base.impact_state + traded,
        group_caps=base.group_caps[1:],
        band_lower=base.band_lower[1:],
        band_upper=base.band_upper[1:],
        previous=traded,
    )
    out, cold = solve(left, warm=last.state.shifted()), solve(left)
    assert good(out)
    assert out.iterations < cold.iterations
    np.testing.assert_allclose(out.u, last.u[1:], atol=1e-4)  # the plan was optimal and stays so
    with pytest.raises(InvalidInput, match="another shape"):
        solve(left, warm=last)


def test_the_splitting_goes_on_from_here():
    problem = schedule_instance(40, 10, seed=13)
    cold = solve_schedule(problem, 1e-5)
    warm = solve_schedule(problem, 1e-5, warm=solve(problem))
    assert warm.status is Status.OPTIMAL
    assert warm.iterations < cold.iterations


def test_both_methods_agree():
    problem = schedule_instance(80, 13, two_sided=True, risk_aversion=10.0, seed=10)
    ours, other = solve(problem), solve_schedule(problem, 1e-6)
    assert other.status is Status.OPTIMAL
    assert ours.objective <= other.objective + 1e-8 * problem.scale(ours.u)
    assert other.lower_bound <= ours.objective
