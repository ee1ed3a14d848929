"""The parts of decision-focused calibration: schedules, accounts and their derivatives, penalties, the moved kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, ImpactModel, make_dictionary, recovery, truth_model
from crosswind.problems.impact.decision import ParentBaskets, calibrate_decision, draw_parents
from crosswind.problems.impact.decision.cases import Case, Desk, build_cases
from crosswind.problems.impact.decision.implicit import penalty_derivatives
from crosswind.problems.impact.decision.refine import move_kernel, nearest_admissible
from crosswind.problems.impact.decision.ruler import symmetric_least_squares
from crosswind.problems.impact.decision.schedule import Schedule, ScheduleProgram
from crosswind.problems.impact.decision.search import loss_and_gradient
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.market import MarketEvents, simulate
from crosswind.solvers.errors import DataGap, InvalidInput
from crosswind.solvers.gram import violations

LIVES_S = (60.0, 900.0)
Simulated = Callable[..., tuple[MarketEvents, ImpactModel]]


def kernel(rng: np.random.Generator, shapes: int, n: int) -> np.ndarray:
    root = rng.standard_normal((shapes, n, n))
    return np.einsum("mij,mkj->mik", root, root) / n + 0.2 * np.eye(n)


def program(n: int = 3, parents: int = 5, risk: bool = True, slices: int = 6) -> ScheduleProgram:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((n, n))
    dictionary = make_dictionary("exponential", 60.0, LIVES_S)
    times = np.sort(rng.uniform(0.0, 1500.0, slices))
    return ScheduleProgram.of(
        dictionary,
        times,
        rng.standard_normal((n, parents)),
        rng.uniform(0.05, 0.2, n),
        0.1 * root @ root.T if risk else None,
    )


def solved(held: ScheduleProgram, matrices: np.ndarray) -> Schedule:
    found = held.solve(matrices)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def case(simulated: Simulated) -> Case:
    events = simulated(names=4, rows=900, days=3, r2=0.1, half_lives_s=LIVES_S, seed=3, factors=1)[0]
    dictionary = make_dictionary("exponential", events.bucket_s, LIVES_S)
    desk = Desk(draw_parents(events.names, 6, seed=1))
    return build_cases(events, CrossImpact(half_lives_s=LIVES_S), dictionary, desk, 3, "symmetric", 6)[1]


# -- schedule and account ---------------------------------------------------------------------------------------------
def test_schedule_is_the_constrained_minimum() -> None:
    """KKT by hand: Hu + λ is 0 with the same λ in each slice, trades add up, and the cost is that of the dense form."""
    held, K = program(), kernel(np.random.default_rng(1), 2, 3)
    found = solved(held, K)
    u = found.trades
    np.testing.assert_allclose(u.sum(axis=0), held.parents, atol=1e-12)
    H = held.hessian(K)
    slope = (H @ u.reshape(18, -1)).reshape(6, 3, -1)
    np.testing.assert_allclose(slope, np.broadcast_to(slope.mean(axis=0), slope.shape), atol=1e-10)
    flat = u.reshape(18, -1)
    np.testing.assert_allclose(found.promised, 0.5 * np.einsum("ip,ij,jp->p", flat, H, flat), rtol=1e-12)


def test_obizhaeva_wang() -> None:
    """One name, one exponential, equal times: the ends trade X/((N−1)(1−a)+2), the inside (1−a) of that."""
    dictionary = make_dictionary("exponential", 60.0, (300.0,))
    times = np.arange(8) * 120.0
    held = ScheduleProgram.of(dictionary, times, np.array([[5.0]]), np.zeros(1))
    u = solved(held, np.ones((1, 1, 1))).trades[:, 0, 0]
    a = 2.0 ** (-120.0 / 300.0)
    end = 5.0 / (6 * (1.0 - a) + 2.0)
    np.testing.assert_allclose(u, [end, *([end * (1.0 - a)] * 6), end], rtol=1e-9)
    cost = float(held.account(u[:, None, None], np.ones((1, 1, 1)))[0])
    assert cost == pytest.approx(25.0 * (1.0 + a) / (2.0 * (6 * (1.0 - a) + 2.0)), rel=1e-9)


def test_almgren_chriss_risk() -> None:
    """Temporary impact and risk alone: what is left falls as a sinh, cosh κ − 1 = σ²/2η per slice."""
    T, sigma2, eta = 10, 0.3, 1.0
    held = ScheduleProgram(np.zeros((1, T, T)), np.array([[1.0]]), np.array([eta]), np.array([[sigma2]]))
    u = solved(held, np.zeros((1, 1, 1))).trades[:, 0, 0]
    left = 1.0 - np.concatenate([[0.0], np.cumsum(u)])
    kappa = np.arccosh(1.0 + sigma2 / (2.0 * eta))
    np.testing.assert_allclose(left, np.sinh(kappa * (T - np.arange(T + 1))) / np.sinh(kappa * T), atol=1e-12)


def test_levels_do_not_matter_under_one_decay() -> None:
    """A separable kernel trades every basket along one path in time, whatever its matrix."""
    held = program(risk=False)
    held = ScheduleProgram(held.decay, held.parents, np.zeros(3))
    rng = np.random.default_rng(4)
    share = np.array([0.6, 0.4])[:, None, None]
    first, second = (solved(held, share * kernel(rng, 1, 3)).trades for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-10)


def test_account_is_linear_and_causal() -> None:
    """Costs are ½⟨K, W⟩ plus what is fixed, for any K; the antisymmetric part pays by the order of trades alone."""
    held, rng = program(), np.random.default_rng(2)
    u, K = rng.standard_normal((6, 3, 5)), rng.standard_normal((2, 3, 3))
    by_hand = np.zeros(5)
    for p in range(5):
        for t in range(6):
            for s in range(t + 1):
                G = np.einsum("m,mij->ij", held.decay[:, t, s], K)
                by_hand[p] += (0.5 if s == t else 1.0) * u[t, :, p] @ G @ u[s, :, p]
    np.testing.assert_allclose(held.account(u, K) - held.fixed_cost(u), by_hand, rtol=1e-10)
    flat = 0.5 * held.weights(u).reshape(5, -1) @ K.ravel()
    np.testing.assert_allclose(flat, by_hand, rtol=1e-10)
    anti = K - K.transpose(0, 2, 1)
    backwards = ScheduleProgram(held.decay[:, ::-1, ::-1], held.parents, held.temporary, held.risk)
    forth = held.account(u, anti) - held.fixed_cost(u)
    back = backwards.account(u[::-1], anti) - held.fixed_cost(u[::-1])
    np.testing.assert_allclose(forth, -back, atol=1e-10)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradient_through_the_schedule(symmetric: bool) -> None:
    held, rng = program(), np.random.default_rng(3)
    K, paid = kernel(rng, 2, 3), rng.standard_normal((2, 3, 3))
    paid = paid + paid.transpose(0, 2, 1) if symmetric else paid
    gradient = held.gradient(solved(held, K), paid)
    np.testing.assert_allclose(gradient, gradient.transpose(0, 2, 1), atol=1e-14)
    for _ in range(4):
        d = rng.standard_normal(K.shape)
        d = d + d.transpose(0, 2, 1)
        ends = [held.account(solved(held, K + h * d).trades, paid).sum() for h in (1e-5, -1e-5)]
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(np.vdot(gradient, d)), rel=1e-6, abs=1e-8)


def test_own_account_has_no_gradient() -> None:
    """Where what is paid is what was planned, the schedule is the optimum: no change of the kernel helps."""
    held, K = program(), kernel(np.random.default_rng(5), 2, 3)
    assert np.abs(held.gradient(solved(held, K), K)).max() < 1e-12


def test_agrees_with_recovery() -> None:
    """The same excess cost as the standard comparison with the truth, on its baskets."""
    market = simulate(names=4, days=2, bucket_s=60.0, seed=1)
    assert market.truth is not None
    model = CrossImpact(ridge=1.0).fit(market.events).model_
    true = truth_model(market.truth, 60.0)
    own = np.sqrt(np.diag(true.immediate))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(4, 16))
    fading = float(true.rates_per_s.min())
    times = np.linspace(0.0, 2.0 * np.log(2.0) / fading, 12)
    unit, eta = np.outer(own, own), np.full(4, 0.1)
    best = solved(ScheduleProgram.of(true.dictionary, times, signs, eta), true.matrices / unit)
    ours = solved(ScheduleProgram.of(model.dictionary, times, signs, eta), model.matrices / unit)
    paid = ScheduleProgram.of(true.dictionary, times, signs, eta).account(ours.trades, true.matrices / unit)
    assert paid.sum() / best.promised.sum() - 1.0 == pytest.approx(recovery(model, market.truth).excess_cost, rel=1e-8)


# -- the ruler --------------------------------------------------------------------------------------------------------
def test_symmetric_least_squares_by_brute_force() -> None:
    rng, n, m = np.random.default_rng(6), 3, 2
    Z, w = rng.standard_normal((50, n * m)), rng.uniform(0.5, 2.0, n)
    S, b = Z.T @ Z, rng.standard_normal((n, n * m))
    basis = []
    for k in range(m):
        for i in range(n):
            for j in range(i + 1):
                X = np.zeros((n, n * m))
                X[i, k * n + j] = X[j, k * n + i] = 1.0
                basis.append(X)
    H = np.array([[np.sum(w[:, None] * (a @ S) * c) for c in basis] for a in basis])
    g = np.array([np.sum(w[:, None] * b * a) for a in basis])
    X = np.tensordot(np.linalg.solve(H, g), np.array(basis), axes=1)
    found = symmetric_least_squares(S, b, w)
    np.testing.assert_allclose(found, X.reshape(n, m, n).transpose(1, 0, 2), atol=1e-9)
    many = symmetric_least_squares(S, np.stack([b, 2.0 * b, np.zeros_like(b)]), w)
    np.testing.assert_allclose(many, [found, 2.0 * found, np.zeros_like(found)], atol=1e-9)


# -- penalties --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "point",
    [
        {"ridge": 0.5, "pool": 0.3},
        {"ridge": 2.0},
        {"ridge": 0.7, "split": 5.0},
        {"ridge": 0.2, "split": 2.0, "pool": 0.1, "l1": 0.01},
    ],
    ids=lambda p: "-".join(p),
)
def test_gradient_in_the_penalties(case: Case, point: dict[str, float]) -> None:
    """Through the optimality of fit and schedule, by differences of tight fits, and by hand."""
    names = list(point)
    value, implicit = loss_and_gradient(case, point, names, "implicit")
    other, difference = loss_and_gradient(case, point, names, "difference")
    assert value == pytest.approx(other, rel=1e-5)
    np.testing.assert_allclose(implicit, difference, atol=2e-3 * np.abs(implicit).max())
    step = 1e-3
    ends = [
        case.account(case.fit({p: v * np.exp(h) for p, v in point.items()}, 1e-12).matrices).cost.sum()
        for h in (step, -step)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(implicit.sum(), abs=5e-3 * np.abs(implicit).max())


def test_implicit_derivative_on_every_constraint() -> None:
    """Bounds that bind everywhere (ρ = 0.2, high floor, PSD): the derivative is that of the solution on its face."""
    rng, n, m = np.random.default_rng(7), 4, 2
    Z = rng.standard_normal((60, n * m))
    S, B = Z.T @ Z / 60, rng.standard_normal((n, n * m))
    for rho in (0.2, 1.0, 0.0):
        problem = FitProblem(
            S, B, np.ones(n), np.full(n, 0.3), rho, 0.5, 0.0, np.stack([np.eye(n)] * m), np.ones(n), 0.2
        )
        K, slopes = penalty_derivatives(problem, [{"ridge": 1.0}, {"pool": 1.0}])
        for slope, name in zip(slopes, ("ridge", "pool"), strict=True):
            held = getattr(problem, name)
            ends = [penalty_derivatives(problem.with_penalties(**{name: held + h}), [{}])[0] for h in (1e-4, -1e-4)]
            np.testing.assert_allclose((ends[0] - ends[1]) / 2e-4, slope, atol=1e-4 * max(1.0, np.abs(slope).max()))
        if rho == 0.0:
            assert np.abs(K[:, ~np.eye(n, dtype=bool)]).max() < 1e-8


def test_ridges_within_and_between(case: Case) -> None:
    """Equal ridges are one ridge; unequal ones reach the minimum that Clarabel finds for the weighed program."""
    from dataclasses import replace

    import scipy.sparse as sp

    from crosswind.problems.impact.program import lower, triangle
    from crosswind.solvers.solve import solve

    one = case.fit({"ridge": 2.0, "pool": 0.5}, 1e-10).matrices
    same = case.fit({"within": 2.0, "between": 2.0, "pool": 0.5}, 1e-10).matrices
    np.testing.assert_allclose(same, one, atol=1e-4)

    found = case.fit({"within": 0.3, "between": 6.0, "pool": 0.5}, 1e-9).matrices
    problem = case.path.problem({"ridge": 0.0, "pool": 0.5})
    lowered = lower(problem)
    groups, (rows, columns) = case.path.groups(), triangle(problem.names)
    weight = np.where(groups[rows] == groups[columns], 0.3, 6.0)
    pull = np.tile(np.where(rows == columns, 0.0, 2.0 * weight), problem.shapes)
    q = lowered.program.q - pull * problem.target[:, rows, columns].ravel()
    solution = solve(replace(lowered.program, P=lowered.program.P + sp.diags(pull).tocsc(), q=q), tol=1e-9)
    np.testing.assert_allclose(found, lowered.matrices(np.asarray(solution.x)), atol=2e-3)


def test_split_makes_the_kernel_separable(simulated: Simulated) -> None:
    """At a large split all K_m are one matrix times numbers, sizes still free; at 0 nothing changes; "cv" reports."""
    events, _ = simulated(names=4, rows=900, days=3, r2=0.2, half_lives_s=LIVES_S, seed=1)
    free, tied = (
        CrossImpact(half_lives_s=LIVES_S, ridge=0.1, pool=0.0, split=s).fit(events).model_ for s in (0.0, 1e6)
    )
    plain = CrossImpact(half_lives_s=LIVES_S, ridge=0.1, pool=0.0).fit(events).model_
    assert free.matrices.tobytes() == plain.matrices.tobytes()

    def off_line(model: ImpactModel) -> float:
        flat = model.matrices.reshape(2, -1)
        return float(np.linalg.svd(flat, compute_uv=False)[1] / np.linalg.norm(flat))

    assert off_line(tied) < 1e-3 < 0.05 < off_line(free)
    assert tied.constraint_violations(corr_bound=0.6)["worst"] < 1e-10
    chosen = CrossImpact(half_lives_s=LIVES_S, split="cv").fit(events)
    assert chosen.split_cv_ is not None
    assert chosen.split_ == chosen.split_cv_.mean(axis=1).idxmax()
    again = CrossImpact(half_lives_s=LIVES_S, ridge=chosen.ridge_, split=chosen.split_).fit(events)
    np.testing.assert_allclose(again.model_.matrices, chosen.model_.matrices, rtol=1e-6, atol=1e-15)
    for bad in (-1.0, float("nan"), "best"):
        with pytest.raises(InvalidInput):
            CrossImpact(half_lives_s=LIVES_S, split=bad).fit(events)
    with pytest.raises(InvalidInput, match="split"):
        CrossImpact(half_lives_s="fit", split=1.0).fit(events)


# -- the moved kernel -------------------------------------------------------------------------------------------------
def test_moved_kernel_is_admissible_and_cheaper_in_sample(case: Case) -> None:
    start, problem = case.fit({"ridge": 3.0}).matrices, case.path.base
    size = np.linalg.norm(start)

    def cost(K: Any) -> float:
        return float(case.program.account(case.schedule(K).trades, case.ruler.matrices).sum())

    before = cost(start)
    for radius, K in zip((0.05, 0.2), move_kernel(case, start, (0.05, 0.2)), strict=True):
        assert np.linalg.norm(K - start) <= radius * size * (1.0 + 1e-9)
        assert violations(K, problem.floor, problem.corr_bound).worst < 1e-10
        after = cost(K)
        assert after < before
        before = after
    outside = start - 5.0 * np.eye(problem.names)
    assert violations(nearest_admissible(problem, outside), problem.floor, problem.corr_bound).worst < 1e-10


def test_refinement_through_the_calibration(simulated: Simulated) -> None:
    events, _ = simulated(names=3, rows=900, days=3, r2=0.1, half_lives_s=LIVES_S, seed=6)
    found = calibrate_decision(
        events, CrossImpact(half_lives_s=LIVES_S), parameters=("ridge",), grid={"ridge": (1.0,)}, refine="kernel"
    )
    assert found.refinement is not None
    assert list(found.refinement.to_frame().index) == [0.0, 0.05, 0.1, 0.2]
    assert found.refinement.table.loc[0.0].abs().max() == 0.0
    assert "kernel" in found.summary()
    assert found.model.constraint_violations(corr_bound=0.6)["worst"] < 1e-9
    if found.refinement.radius == 0.0:
        plain = calibrate_decision(
            events, CrossImpact(half_lives_s=LIVES_S), parameters=("ridge",), grid={"ridge": (1.0,)}
        )
        assert plain.model.matrices.tobytes() == found.model.matrices.tobytes()


# -- baskets ----------------------------------------------------------------------------------------------------------
def test_draws() -> None:
    names = tuple("ABCDEF")
    first, second = (draw_parents(names, 50, seed=3, share=0.3) for _ in range(2))
    assert first.sizes.tobytes() == second.sizes.tobytes()
    assert ((first.sizes != 0).sum(axis=0) >= 2).all()
    assert (draw_parents(names, 50, seed=3, dispersion=0.0).sizes ** 2 == 1.0).all()
    assert first.to_frame().shape == (6, 50)
    own = np.arange(1.0, 7.0)
    np.testing.assert_array_equal(first.scaled(names, own), first.sizes)
    table = pd.DataFrame({"x": [10.0, -4.0]}, index=["C", "A"])
    np.testing.assert_array_equal(ParentBaskets.of(table).scaled(names, own)[:, 0], [-4.0, 0.0, 30.0, 0.0, 0.0, 0.0])
    with pytest.raises(DataGap):
        ParentBaskets.of(table).scaled(("A", "B"), own[:2])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: draw_parents((), 3),
        lambda: draw_parents("AB", 0),
        lambda: draw_parents("AB", 3, share=0.0),
        lambda: draw_parents("AB", 3, dispersion=-1.0),
        lambda: ParentBaskets(("A",), np.zeros((1, 1))),
        lambda: ParentBaskets(("A",), np.array([[np.nan]])),
        lambda: ParentBaskets(("A", "B"), np.ones((1, 1))),
    ],
)
def test_bad_baskets(bad: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        bad()
