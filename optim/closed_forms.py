"""Schedules that are known in closed form: what the programs are tested against, and quick answers for a desk.

A quantity X > 0 is bought, X < 0 sold. Costs are positive when money is lost. The Almgren–Chriss family stands in
:mod:`crosswind.optim.almgren`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from crosswind.optim.almgren import (
    AlmgrenChriss,
    AlmgrenThumCost,
    almgren_chriss,
    almgren_chriss_portfolio,
    almgren_thum_impact,
)
from crosswind.optim.checks import FloatArray, check_psd, finite_array, finite_scalar
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "AlmgrenChriss",
    "AlmgrenThumCost",
    "GarleanuPedersen",
    "ObizhaevaWang",
    "almgren_chriss",
    "almgren_chriss_portfolio",
    "almgren_thum_impact",
    "garleanu_pedersen",
    "matrix_exponential_schedule",
    "obizhaeva_wang",
    "obizhaeva_wang_continuous",
    "power_law_rate",
    "propagator_cost",
    "propagator_schedule",
    "schneider_lillo_loop",
    "synchronised_schedule",
]


def _count(field: str, value: int, minimum: int) -> int:
    if int(value) != value or value < minimum:
        raise InvalidInput(f"must be an integer ≥ {minimum}", field=field, value=value, remedy="use more trades")
    return int(value)


def propagator_schedule(G: ArrayLike, X: float) -> FloatArray:
    """Return the trades x* = X G⁻¹1 / (1'G⁻¹1) that minimise ½ x'Gx subject to Σ x = X.

    Parameters
    ----------
    G
        (T, T) symmetric positive definite, G[s, t] = impact at lag |τ_t − τ_s| per unit.
    X
        Signed quantity.

    Returns
    -------
    ndarray
        (T,) signed trades; their cost is X²/(2·1'G⁻¹1).

    Raises
    ------
    InvalidInput
        G is not symmetric positive definite.
    """
    matrix = check_psd("G", finite_array("G", G, ndim=2))
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise InvalidInput("is singular", field="G", remedy="use distinct times or add a temporary cost") from error
    ones = np.ones(len(matrix))
    solution = np.linalg.solve(factor.T, np.linalg.solve(factor, ones))
    return np.asarray(finite_scalar("X", X) * solution / solution.sum(), dtype=np.float64)


def propagator_cost(G: ArrayLike, trades: ArrayLike) -> float:
    """Return ½ x'Gx, currency, of trades (T,) under G (T, T)."""
    x = finite_array("trades", trades, ndim=1)
    return float(0.5 * x @ finite_array("G", G, (len(x), len(x))) @ x)


@dataclass(frozen=True, eq=False)
class ObizhaevaWang:
    """Obizhaeva–Wang schedule: blocks at the ends, an even flow between.

    Attributes
    ----------
    trades
        Discrete: (N+1,) signed trades. Continuous: the two blocks at 0 and T.
    rate
        Continuous: signed trading rate between the blocks, units per unit of time; discrete: NaN.
    cost
        Expected impact cost, currency.
    """

    trades: FloatArray
    rate: float
    cost: float


def obizhaeva_wang(X: float, intervals: int, decay: float, q: float = 1.0) -> ObizhaevaWang:
    """Return the optimal trades at N+1 equal times under the kernel q e^{−ρ|t−s|}.

    With a = e^{−ρτ}: the ends trade X/((N−1)(1−a)+2), the interior ones (1−a) times that, and the cost is
    q X²(1+a)/(2((N−1)(1−a)+2)).

    Parameters
    ----------
    X
        Signed quantity.
    intervals
        N ≥ 1, so N+1 trades.
    decay
        ρτ ≥ 0, decay over one interval, dimensionless.
    q
        Impact of a unit trade, currency per unit²; > 0.
    """
    n, a = _count("intervals", intervals, 1), float(np.exp(-finite_scalar("decay", decay, minimum=0.0)))
    quantity, scale = finite_scalar("X", X), finite_scalar("q", q, positive=True)
    denominator = (n - 1) * (1.0 - a) + 2.0
    trades = np.full(n + 1, (1.0 - a) * quantity / denominator)
    trades[[0, -1]] = quantity / denominator
    return ObizhaevaWang(trades, float("nan"), scale * quantity**2 * (1.0 + a) / (2.0 * denominator))


def obizhaeva_wang_continuous(X: float, rate_per_s: float, horizon_s: float, q: float = 1.0) -> ObizhaevaWang:
    """Return the continuous limit: blocks X/(ρT+2) at both ends, rate ρX/(ρT+2), cost qX²/(ρT+2).

    Parameters
    ----------
    X
        Signed quantity.
    rate_per_s
        ρ ≥ 0, 1/s.
    horizon_s
        T > 0, seconds.
    q
        Impact of a unit trade, currency per unit²; > 0.
    """
    rho = finite_scalar("rate_per_s", rate_per_s, minimum=0.0)
    denominator = rho * finite_scalar("horizon_s", horizon_s, positive=True) + 2.0
    quantity, scale = finite_scalar("X", X), finite_scalar("q", q, positive=True)
    blocks = np.full(2, quantity / denominator)
    return ObizhaevaWang(blocks, rho * quantity / denominator, scale * quantity**2 / denominator)


def power_law_rate(t: ArrayLike, X: float, horizon: float, exponent: float) -> FloatArray:
    """Return the optimal trading rate under the kernel t^{−γ}, 0 < γ < 1: ∝ [t(T − t)]^{−(1−γ)/2}, integrating to X.

    Parameters
    ----------
    t
        Times in (0, T).
    X
        Signed quantity.
    horizon
        T > 0, same unit as t.
    exponent
        γ in (0, 1).

    Returns
    -------
    ndarray
        Rates, units per unit of time.

    References
    ----------
    Gatheral, Schied & Slynko (2012).
    """
    from scipy.special import beta

    gamma, T = finite_scalar("exponent", exponent, positive=True), finite_scalar("horizon", horizon, positive=True)
    if gamma >= 1.0:
        raise InvalidInput("must be below 1", field="exponent", value=gamma, remedy="the kernel is not integrable")
    times = np.atleast_1d(finite_array("t", t))
    if (times <= 0.0).any() or (times >= T).any():
        raise InvalidInput("must lie inside (0, T)", field="t", value=times, remedy="the rate is infinite at the ends")
    shape = (1.0 + gamma) / 2.0
    # ∫ [t(T−t)]^{−(1−γ)/2} dt = T^γ B((1+γ)/2, (1+γ)/2)
    total = T**gamma * float(beta(shape, shape))
    return np.asarray(finite_scalar("X", X) * (times * (T - times)) ** (-(1.0 - gamma) / 2.0) / total, dtype=np.float64)


def matrix_exponential_schedule(B: ArrayLike, tau: float, n: int, Q: ArrayLike) -> FloatArray:
    """Return the optimal trades of several names under G(t) = e^{−tB}, B symmetric positive definite.

    With A = e^{−τB}: ξ_1 = ξ_n = [(n−2)(I − A) + 2I]⁻¹Q and (I − A)ξ_1 in between.

    Parameters
    ----------
    B
        (N, N) symmetric positive definite, 1/time.
    tau
        Time between trades, > 0.
    n
        Number of trades, ≥ 2.
    Q
        (N,) signed quantities.

    Returns
    -------
    ndarray
        (n, N) signed trades.

    References
    ----------
    Alfonsi, Klöck & Schied (2016).
    """
    decay = check_psd("B", finite_array("B", B, ndim=2))
    count, step = _count("n", n, 2), finite_scalar("tau", tau, positive=True)
    quantity = finite_array("Q", Q, (len(decay),))
    values, vectors = np.linalg.eigh(decay)
    a = np.exp(-step * values)
    ends = vectors @ ((vectors.T @ quantity) / ((count - 2) * (1.0 - a) + 2.0))
    inner = vectors @ ((1.0 - a) * (vectors.T @ ends))
    return np.vstack([ends, np.tile(inner, (count - 2, 1)), ends])


def synchronised_schedule(Phi: ArrayLike, Q: ArrayLike) -> FloatArray:
    """Return the optimal trades under a factorised kernel φ(t)Λ: all names follow w = Φ⁻¹1/(1'Φ⁻¹1).

    Parameters
    ----------
    Phi
        (T, T) symmetric positive definite, Φ[s, t] = φ(|τ_t − τ_s|).
    Q
        (N,) signed quantities.

    Returns
    -------
    ndarray
        (T, N), row t = w_t Q; it does not depend on Λ.
    """
    return np.outer(propagator_schedule(Phi, 1.0), finite_array("Q", Q, ndim=1))


def schneider_lillo_loop(eta_ab: float, eta_ba: float, v_a: float, v_b: float, horizon: float) -> float:
    """Return the cost (T²/18) v_a v_b (η_ba − η_ab) of the three-phase loop in two names under permanent linear impact.

    Each phase lasts T/3: buy a at rate v_a; sell a at v_a while buying b at v_b; sell b at v_b. η_ij is the impact on
    name i of one unit in name j. A negative cost is a free lunch, and running the loop in the other order flips the
    sign: only η_ab = η_ba is free of dynamic arbitrage.

    Parameters
    ----------
    eta_ab, eta_ba
        Cross-impact coefficients, currency per unit².
    v_a, v_b
        Trading rates, units per unit of time.
    horizon
        T > 0.

    References
    ----------
    Schneider & Lillo (2019).
    """
    T = finite_scalar("horizon", horizon, positive=True)
    rates = finite_scalar("v_a", v_a) * finite_scalar("v_b", v_b)
    return T**2 / 18.0 * rates * (finite_scalar("eta_ba", eta_ba) - finite_scalar("eta_ab", eta_ab))


@dataclass(frozen=True)
class GarleanuPedersen:
    """Optimal tracking with quadratic costs: each period trades ``rate`` of the distance to the aim.

    Attributes
    ----------
    value_coefficient
        a, the coefficient of Σ in the value function's quadratic form.
    rate
        a/λ, the fraction traded per period.
    """

    value_coefficient: float
    rate: float


def garleanu_pedersen(risk_aversion: float, cost: float, discount: float = 0.0) -> GarleanuPedersen:
    """Return the trading rate of Gârleanu–Pedersen for costs Λ = λΣ.

    Maximises Σ_t (1−ρ)^{t+1}(x'r − ½γ x'Σx) − ½(1−ρ)^t Δx'ΛΔx:
    a = [−(γρ̄ + λρ) + √((γρ̄ + λρ)² + 4γλρ̄²)]/(2ρ̄), ρ̄ = 1 − ρ.

    Parameters
    ----------
    risk_aversion
        γ > 0.
    cost
        λ > 0, Λ = λΣ.
    discount
        ρ in [0, 1).

    References
    ----------
    Gârleanu & Pedersen (2013), proposition 2.
    """
    g, lam = finite_scalar("risk_aversion", risk_aversion, positive=True), finite_scalar("cost", cost, positive=True)
    rho = finite_scalar("discount", discount, minimum=0.0)
    if rho >= 1.0:
        raise InvalidInput("must be below 1", field="discount", value=rho, remedy="use a rate per period")
    kept = 1.0 - rho
    linear = g * kept + lam * rho
    a = (-linear + np.sqrt(linear**2 + 4.0 * g * lam * kept**2)) / (2.0 * kept)
    return GarleanuPedersen(float(a), float(a / lam))
