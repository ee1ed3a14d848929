"""Closed forms reproduce the published numbers to their printed digits, alone and through the multistage program."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.optim import (
    ExponentialKernel,
    ImpactMode,
    MultistageProgram,
    ScalarKernel,
    Terminal,
    almgren_chriss,
    almgren_chriss_portfolio,
    almgren_thum_impact,
    block_toeplitz,
    garleanu_pedersen,
    kernel_cost,
    kyle_matrix,
    matrix_exponential_schedule,
    obizhaeva_wang,
    obizhaeva_wang_continuous,
    power_law_rate,
    propagator_cost,
    propagator_schedule,
    schneider_lillo_loop,
    solve_multistage,
    synchronised_schedule,
)
from crosswind.solvers.errors import InvalidInput

PAPER = {
    "quantity": 1e6,
    "horizon": 5.0,
    "slices": 5,
    "volatility": 0.95,
    "temporary": 2.5e-6,
    "permanent": 2.5e-7,
    "half_spread": 0.0625,
}
TABLE = [
    (2e-6, (428598.846, 182932.814, 76295.722, 27643.377), 1140715.1670, 449367.6525),
    (1e-6, (541955.554, 289854.219, 147897.488, 62141.802), 911226.9863, 603430.669),
    (0.0, (800000.0, 600000.0, 400000.0, 200000.0), 662500.0, 1040672.859),
    (-2e-7, (910056.437, 750948.585, 534768.640, 277946.279), 717958.1043, 1258654.325),
]


def paper_program(risk_aversion: float) -> MultistageProgram:
    """Almgren–Chriss as a multistage program: temporary η̃/τ, permanent impact γ at decay rate 0."""
    return MultistageProgram(
        ("X",),
        np.ones(5),
        np.array([-1e6]),
        spread=np.array(0.0625),
        temporary=np.array(2.5e-6 - 2.5e-7 / 2),
        impact=(ImpactMode(0.0, np.array([[2.5e-7]])),),
        covariance=np.array([[0.95**2]]),
        risk_aversion=risk_aversion,
        terminal=Terminal(np.zeros(1)),
    )


@pytest.mark.parametrize(("lam", "inner", "expected", "sd"), TABLE)
def test_almgren_chriss_table(lam: float, inner: tuple[float, ...], expected: float, sd: float) -> None:
    result = almgren_chriss(**PAPER, risk_aversion=lam)
    np.testing.assert_allclose(result.holdings[1:5], inner, atol=5.01e-4, rtol=0)
    assert result.expected_cost == pytest.approx(expected, abs=5.01e-5)
    assert result.sd == pytest.approx(sd, abs=5.01e-4)
    assert result.holdings[0] == 1e6
    assert result.holdings[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("lam", "inner", "expected", "sd"), TABLE[:3])
def test_almgren_chriss_through_the_program(lam: float, inner: tuple[float, ...], expected: float, sd: float) -> None:
    result = solve_multistage(paper_program(lam))
    np.testing.assert_allclose(-result.positions[1:5, 0], inner, atol=5.01e-4, rtol=0)
    assert result.cost.cash == pytest.approx(expected, abs=5.01e-5)
    assert 0.95 * np.linalg.norm(result.positions[1:, 0]) == pytest.approx(sd, abs=5.01e-4)
    assert result.stationarity_rel < 1e-9


def test_program_refuses_risk_seeking() -> None:
    with pytest.raises(InvalidInput, match="risk_aversion"):
        paper_program(-2e-7)


def test_almgren_chriss_kappa() -> None:
    assert almgren_chriss(**PAPER, risk_aversion=2e-6).kappa == pytest.approx(0.8462971345, abs=5e-11)
    assert almgren_chriss(**PAPER, risk_aversion=1e-6).kappa == pytest.approx(0.6070761632, abs=5e-11)
    # The published half-lives belong to the same parameters with one-day slices.
    for lam, expected in ((1e-9, 51.2997), (2e-9, 36.2750), (3e-9, 29.6189)):
        assert 1.0 / almgren_chriss(**PAPER, risk_aversion=lam).kappa == pytest.approx(expected, abs=5.01e-5)


def test_almgren_chriss_drift_level_and_program() -> None:
    result = almgren_chriss(**PAPER, risk_aversion=1e-6, drift=0.02)
    assert result.drift_level == pytest.approx(11080.33, abs=5e-3)
    base = paper_program(1e-6)
    # Selling late at a rising price gains α per unit held: the position is −x, so holding costs +α.
    drifting = MultistageProgram(
        base.instruments,
        base.dt_s,
        base.p0,
        spread=base.spread,
        temporary=base.temporary,
        impact=base.impact,
        covariance=base.covariance,
        risk_aversion=1e-6,
        terminal=base.terminal,
        holding=np.array(0.02),
    )
    solved = solve_multistage(drifting)
    np.testing.assert_allclose(-solved.positions[:, 0], result.holdings, atol=1e-3)
    assert solved.cost.cash + solved.cost.holding == pytest.approx(result.expected_cost, rel=1e-10)


def test_almgren_chriss_is_the_minimum() -> None:
    rng = np.random.default_rng(0)
    for lam in (-2e-7, 0.0, 1e-6):
        best = almgren_chriss(**PAPER, risk_aversion=lam)
        score = best.expected_cost + lam * best.sd**2
        for _ in range(20):
            x = best.holdings.copy()
            x[1:5] += rng.normal(size=4) * 1e3
            n = -np.diff(x)
            cost = 0.5 * 2.5e-7 * 1e12 + 0.0625 * np.abs(n).sum() + best.eta_tilde * (n**2).sum()
            assert cost + lam * 0.95**2 * (x[1:] ** 2).sum() > score


def test_almgren_chriss_limits_do_not_overflow() -> None:
    urgent = almgren_chriss(**{**PAPER, "slices": 200, "horizon": 200.0}, risk_aversion=1.0)
    assert np.isfinite(urgent.holdings).all()
    assert urgent.trades[0] == pytest.approx(1e6, rel=1e-3)
    patient = almgren_chriss(**PAPER, risk_aversion=1e-18)
    np.testing.assert_allclose(patient.holdings, np.linspace(1e6, 0.0, 6), rtol=1e-9, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temporary": 1e-8}, "temporary"),
        ({"risk_aversion": -1e-4}, "risk_aversion"),
        ({"drift": 0.1}, "drift"),
        ({"slices": 0}, "slices"),
        ({"slices": 2.5}, "slices"),
        ({"volatility": np.nan}, "volatility"),
        ({"horizon": 0.0}, "horizon"),
    ],
)
def test_almgren_chriss_bad_input(change: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        almgren_chriss(**{**PAPER, **change})


def test_almgren_chriss_portfolio_equals_program() -> None:
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    C, gamma = A @ A.T * 0.1, B @ B.T * 1e-8
    eta = np.diag([2e-6, 3e-6, 5e-6])
    X, lam = np.array([1e6, -5e5, 2e5]), 1e-6
    holdings = almgren_chriss_portfolio(X, 5.0, 5, C, eta + 0.5 * gamma, gamma, lam)
    solved = solve_multistage(
        MultistageProgram(
            ("A", "B", "C"),
            np.ones(5),
            -X,
            temporary=np.diag(eta),
            impact=(ImpactMode(0.0, gamma),),
            covariance=C,
            risk_aversion=lam,
            terminal=Terminal(np.zeros(3)),
        )
    )
    np.testing.assert_allclose(-solved.positions, holdings, atol=1e-3)


def test_almgren_thum_table() -> None:
    def bps(theta: float, volume: float, sigma: float, T: float) -> tuple[float, ...]:
        cost = almgren_thum_impact(0.1 * volume, volume, theta, sigma, T)
        return tuple(1e4 * value for value in (cost.permanent, cost.temporary, cost.realised))

    for (theta, volume, sigma), ratio, permanent, rows in (
        ((1728e6, 6.561e6, 0.0157), 263.374, 19.86, ((0.1, 22, 32), (0.2, 15, 25), (0.5, 8, 18))),
        ((168e6, 1.929e6, 0.0226), 87.092, 21.679, ((0.1, 32, 43), (0.2, 21, 32), (0.5, 12, 23))),
    ):
        assert theta / volume == pytest.approx(ratio, abs=1e-3)
        for T, k, j in rows:
            got = bps(theta, volume, sigma, T)
            assert got[0] == pytest.approx(permanent, abs=6e-3)
            assert round(got[1]) == k
            assert round(got[2]) == j
    buy, sell = (almgren_thum_impact(x, 1e6, 1e8, 0.02, 0.5) for x in (1e5, -1e5))
    assert buy.realised == -sell.realised > 0.0


@pytest.mark.parametrize("N", [1, 2, 7])
def test_obizhaeva_wang_is_the_propagator_optimum(N: int) -> None:
    rho = 0.3
    lags = np.abs(np.subtract.outer(np.arange(N + 1), np.arange(N + 1)))
    G = 2.0 * np.exp(-rho * lags)
    closed = obizhaeva_wang(1e4, N, rho, q=2.0)
    np.testing.assert_allclose(closed.trades, propagator_schedule(G, 1e4), rtol=1e-12)
    assert closed.cost == pytest.approx(propagator_cost(G, closed.trades), rel=1e-12)
    assert closed.cost == pytest.approx(1e8 / (2.0 * np.linalg.solve(G, np.ones(N + 1)).sum()), rel=1e-12)
    program = MultistageProgram(
        ("X",),
        np.ones(N + 1),
        np.array([-1e4]),
        impact=(ImpactMode(rho, np.array([[2.0]])),),
        terminal=Terminal(np.zeros(1)),
    )
    solved = solve_multistage(program)
    np.testing.assert_allclose(solved.trades[:, 0], closed.trades, rtol=1e-9)
    assert solved.cost.total == pytest.approx(closed.cost, rel=1e-12)
    # dC/dX = 2C/X is the price of completion.
    assert solved.completion_price[0] == pytest.approx(2.0 * closed.cost / 1e4, rel=1e-9)


def test_obizhaeva_wang_continuous_is_the_limit() -> None:
    limit = obizhaeva_wang_continuous(100.0, 0.5, 8.0, q=3.0)
    fine = obizhaeva_wang(100.0, 200_000, 0.5 * 8.0 / 200_000, q=3.0)
    np.testing.assert_allclose(fine.trades[[0, -1]], limit.trades, rtol=1e-4)
    assert fine.trades[5] / (8.0 / 200_000) == pytest.approx(limit.rate, rel=1e-4)
    assert fine.cost == pytest.approx(limit.cost, rel=1e-4)
    assert limit.trades.sum() + limit.rate * 8.0 == pytest.approx(100.0, rel=1e-14)


def test_power_law_rate_integrates_and_solves_abel() -> None:
    from scipy.integrate import quad

    T, gamma = 3.0, 0.4
    # The substitution t = T sin²φ removes the singular ends.
    total = quad(
        lambda f: power_law_rate(T * np.sin(f) ** 2, 7.0, T, gamma)[0] * 2 * T * np.sin(f) * np.cos(f),
        1e-9,
        np.pi / 2 - 1e-9,
    )[0]
    assert total == pytest.approx(7.0, rel=1e-6)

    def price(t: float) -> float:
        """Impact ∫ |t − s|^{−γ} v(s) ds, the same at every t on the optimum (Abel)."""
        left = quad(lambda s: power_law_rate(s, 7.0, T, gamma)[0] * (t - s) ** -gamma, 0, t, limit=400)[0]
        return left + quad(lambda s: power_law_rate(s, 7.0, T, gamma)[0] * (s - t) ** -gamma, t, T, limit=400)[0]

    assert price(0.4) == pytest.approx(price(1.5), rel=1e-4)
    with pytest.raises(InvalidInput, match="exponent"):
        power_law_rate(1.0, 1.0, 2.0, 1.2)
    with pytest.raises(InvalidInput, match="ends"):
        power_law_rate(0.0, 1.0, 2.0, 0.5)


def test_matrix_exponential_schedule_is_optimal() -> None:
    from scipy.linalg import expm

    rng = np.random.default_rng(3)
    A = rng.normal(size=(3, 3))
    B, Q, tau, n = A @ A.T + 0.2 * np.eye(3), np.array([1.0, -2.0, 0.5]), 0.7, 6
    trades = matrix_exponential_schedule(B, tau, n, Q)
    np.testing.assert_allclose(trades.sum(axis=0), Q, rtol=1e-12)

    def kernel(h: np.ndarray) -> np.ndarray:
        return np.stack([expm(-lag * B) for lag in np.atleast_1d(h)])

    H = block_toeplitz(kernel, tau * np.arange(n))
    pull = (H @ trades.ravel()).reshape(n, 3)
    np.testing.assert_allclose(pull, np.tile(pull[0], (n, 1)), rtol=1e-11)


def test_synchronised_schedule_does_not_depend_on_the_matrix() -> None:
    rng = np.random.default_rng(4)
    A = rng.normal(size=(2, 2))
    lags = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    Q = np.array([3.0, -1.0])
    trades = synchronised_schedule((1.0 + lags) ** -0.5, Q)
    H = block_toeplitz(ScalarKernel(lambda h: (1.0 + h) ** -0.5, A @ A.T), np.arange(5.0))
    pull = (H @ trades.ravel()).reshape(5, 2)
    np.testing.assert_allclose(pull, np.tile(pull[0], (5, 1)), rtol=1e-10)
    np.testing.assert_allclose(trades.sum(axis=0), Q)


def test_schneider_lillo_loop() -> None:
    eta = np.array([[1.0, 0.2], [0.5, 2.0]]) * 1e-6
    v_a, v_b, T, steps = 100.0, 80.0, 9.0, 600
    third = np.arange(3 * steps) // steps
    trades = (
        np.stack([np.choose(third, [v_a, -v_a, 0.0]), np.choose(third, [0.0, v_b, -v_b])], axis=1) * T / (3 * steps)
    )
    kernel = ScalarKernel(np.ones_like, eta)
    discrete = kernel_cost(kernel, np.linspace(0.0, T, 3 * steps, endpoint=False), trades)
    closed = schneider_lillo_loop(eta[0, 1], eta[1, 0], v_a, v_b, T)
    assert discrete == pytest.approx(closed, rel=1e-9)
    assert closed == pytest.approx(T**2 / 18 * v_a * v_b * 3e-7, rel=1e-12)
    assert schneider_lillo_loop(eta[1, 0], eta[0, 1], v_b, v_a, T) < 0.0


def test_garleanu_pedersen_numbers_and_program() -> None:
    result = garleanu_pedersen(0.01, 3.0, 0.02)
    assert result.value_coefficient == pytest.approx(0.1412160107, abs=5e-11)
    assert result.rate == pytest.approx(0.0470720036, abs=5e-11)
    undiscounted = garleanu_pedersen(0.01, 3.0)
    assert undiscounted.rate == pytest.approx(0.0560924115, abs=5e-11)
    # ½γx'Σx and ½Δx'ΛΔx: the program's λ and η are half of γ and of λΣ.
    program = MultistageProgram(
        ("X",),
        np.ones(400),
        np.array([1.0]),
        temporary=np.array(1.5),
        covariance=np.array([[1.0]]),
        risk_aversion=0.005,
    )
    solved = solve_multistage(program)
    assert -solved.trades[0, 0] == pytest.approx(undiscounted.rate, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_kyle_identities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, B, P = rng.normal(size=(3, 5, 5))
    sigma, omega = A @ A.T * 1e-8, (B @ B.T + 0.1 * np.eye(5)) * 1e12
    K = kyle_matrix(sigma, omega)
    np.testing.assert_allclose(K, K.T, rtol=1e-12)
    assert np.linalg.eigvalsh(K)[0] > 0.0
    np.testing.assert_allclose(K @ omega @ K, sigma, rtol=1e-8, atol=1e-9 * np.abs(sigma).max())
    L = np.linalg.cholesky(omega)
    values, vectors = np.linalg.eigh(L.T @ sigma @ L)
    textbook = np.linalg.inv(L).T @ (vectors * np.sqrt(values)) @ vectors.T @ np.linalg.inv(L)
    np.testing.assert_allclose(K, textbook, rtol=1e-7)
    inverse = np.linalg.inv(P)
    moved = kyle_matrix(P @ sigma @ P.T, inverse.T @ omega @ inverse)
    np.testing.assert_allclose(moved, P @ K @ P.T, rtol=1e-6, atol=1e-8 * np.abs(P @ K @ P.T).max())


def test_kyle_bad_input() -> None:
    with pytest.raises(InvalidInput, match="return_cov"):
        kyle_matrix(np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(2))
    with pytest.raises(InvalidInput, match="singular"):
        kyle_matrix(np.eye(2), np.ones((2, 2)))
    with pytest.raises(InvalidInput, match="without flow"):
        kyle_matrix(np.eye(2), np.diag([1.0, 0.0]))
    with pytest.raises(InvalidInput, match="flow_cov"):
        kyle_matrix(np.eye(2), np.eye(3))


def test_closed_form_bad_input() -> None:
    with pytest.raises(InvalidInput, match="G"):
        propagator_schedule(np.array([[1.0, 2.0], [2.0, 1.0]]), 1.0)
    with pytest.raises(InvalidInput, match="singular"):
        propagator_schedule(np.ones((2, 2)), 1.0)
    with pytest.raises(InvalidInput, match="intervals"):
        obizhaeva_wang(1.0, 0, 0.1)
    with pytest.raises(InvalidInput, match="discount"):
        garleanu_pedersen(1.0, 1.0, 1.0)
    with pytest.raises(InvalidInput, match="rates_per_s"):
        ExponentialKernel(np.array([-1.0]), np.eye(1)[None])
