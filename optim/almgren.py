"""Almgren–Chriss 2000 for one name and for portfolios, and the impact law of Almgren, Thum, Hauptmann and Li 2005."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, check_psd, finite_array, finite_scalar
from crosswind.solvers.errors import InvalidInput

__all__ = ["AlmgrenChriss", "AlmgrenThumCost", "almgren_chriss", "almgren_chriss_portfolio", "almgren_thum_impact"]


@dataclass(frozen=True, eq=False)
class AlmgrenChriss:
    """Almgren–Chriss trajectory.

    Attributes
    ----------
    holdings
        x_0..x_N (N+1,), what is still held (or, for X < 0, still to be bought back), units.
    trades
        n_k = x_{k−1} − x_k (N,), units sold per interval.
    times
        t_0..t_N.
    expected_cost
        E, currency; drift included.
    sd
        Standard deviation of the cost, currency.
    kappa
        κ of the discrete solution, 1/time; 1/κ is an e-fold (the paper calls it the half-life). For λ < 0 the
        trajectory is trigonometric and κ is the imaginary part.
    eta_tilde
        η̃ = η − γτ/2.
    drift_level
        x̄ = α/(2λσ²), the holding that the drift asks for; 0 without drift.
    """

    holdings: FloatArray
    trades: FloatArray
    times: FloatArray
    expected_cost: float
    sd: float
    kappa: float
    eta_tilde: float
    drift_level: float

    def to_frame(self) -> pd.DataFrame:
        """Return holdings by time."""
        return pd.DataFrame({"holding": self.holdings}, index=pd.Index(self.times, name="time"))

    def summary(self) -> str:
        """Return one line of text."""
        return f"E {self.expected_cost:,.4f}, sd {self.sd:,.4f}, κ {self.kappa:.10g}"


def almgren_chriss(
    quantity: float,
    horizon: float,
    slices: int,
    volatility: float,
    temporary: float,
    permanent: float = 0.0,
    half_spread: float = 0.0,
    risk_aversion: float = 0.0,
    drift: float = 0.0,
) -> AlmgrenChriss:
    """Return the trajectory that minimises E + λV, with linear permanent and temporary impact.

    η̃ = η − γτ/2, κ̃² = λσ²/η̃, (2/τ²)(cosh κτ − 1) = κ̃², x_j = X sinh κ(T − t_j)/sinh κT, and with drift α the level
    x̄ = α/(2λσ²) enters as x_j += [1 − (sinh κ(T−t_j) + sinh κt_j)/sinh κT] x̄.
    E = ½γX² + ε Σ|n| + (η̃/τ) Σ n² − α τ Σ_{k≥1} x_k, V = σ²τ Σ_{k≥1} x_k².

    Parameters
    ----------
    quantity
        X, units held at the start, to be liquidated.
    horizon
        T > 0.
    slices
        N ≥ 1 intervals of τ = T/N.
    volatility
        σ ≥ 0, currency per unit per √time.
    temporary
        η, (currency per unit) per (unit per time); η̃ must be positive.
    permanent
        γ ≥ 0, (currency per unit) per unit.
    half_spread
        ε ≥ 0, currency per unit.
    risk_aversion
        λ, 1/currency; negative (risk-seeking) values are supported while the trajectory stays optimal.
    drift
        α, currency per unit per time.

    Returns
    -------
    AlmgrenChriss
        Trajectory, cost and deviation.

    Raises
    ------
    InvalidInput
        η̃ ≤ 0, λ so negative that E + λV has no minimum, or drift without risk aversion and volatility.

    References
    ----------
    Almgren & Chriss (2000), equations 13–20 and section 4.
    """
    X, T = finite_scalar("quantity", quantity), finite_scalar("horizon", horizon, positive=True)
    if int(slices) != slices or slices < 1:
        raise InvalidInput("must be an integer ≥ 1", field="slices", value=slices, remedy="use at least one slice")
    N, tau = int(slices), T / int(slices)
    sigma, gamma = (
        finite_scalar("volatility", volatility, minimum=0.0),
        finite_scalar("permanent", permanent, minimum=0.0),
    )
    epsilon, lam = finite_scalar("half_spread", half_spread, minimum=0.0), finite_scalar("risk_aversion", risk_aversion)
    alpha = finite_scalar("drift", drift)
    eta_tilde = finite_scalar("temporary", temporary) - 0.5 * gamma * tau
    if eta_tilde <= 0.0:
        raise InvalidInput(
            "η − γτ/2 must be positive", field="temporary", value=eta_tilde, remedy="use shorter slices or a larger η"
        )
    times = np.linspace(0.0, T, N + 1)
    squared = lam * sigma**2 / eta_tilde
    level = 0.0
    if alpha != 0.0:
        if lam * sigma**2 <= 0.0:
            raise InvalidInput(
                "needs positive risk aversion and volatility",
                field="drift",
                value=alpha,
                remedy="set risk_aversion > 0",
            )
        level = alpha / (2.0 * lam * sigma**2)
    kappa, forward, backward = _profile(squared, tau, N)
    holdings = X * backward + level * (1.0 - backward - forward)
    trades = -np.diff(holdings)
    expected = (
        0.5 * gamma * X**2
        + epsilon * float(np.abs(trades).sum())
        + eta_tilde / tau * float((trades**2).sum())
        - alpha * tau * float(holdings[1:].sum())
    )
    sd = float(sigma * np.sqrt(tau * np.sum(holdings[1:] ** 2)))
    return AlmgrenChriss(holdings, trades, times, expected, sd, kappa, eta_tilde, level)


def _profile(squared: float, tau: float, N: int) -> tuple[float, FloatArray, FloatArray]:
    """Return κ and the profiles sinh κt_j / sinh κT and sinh κ(T−t_j) / sinh κT for κ̃² of any sign."""
    j = np.arange(N + 1)
    if squared == 0.0:
        forward = j / N
        return 0.0, forward, forward[::-1].copy()
    if squared > 0.0:
        # asinh keeps the digits where cosh κτ is 1 to rounding: cosh x − 1 = 2 sinh²(x/2).
        step = 2.0 * float(np.arcsinh(0.5 * tau * np.sqrt(squared)))
        # sinh a/sinh b = e^{a−b}(1 − e^{−2a})/(1 − e^{−2b}) does not overflow for large κT.
        forward = np.exp(step * (j - N)) * np.expm1(-2.0 * step * j) / np.expm1(-2.0 * step * N)
        return step / tau, forward, forward[::-1].copy()
    sine = 0.5 * tau * float(np.sqrt(-squared))
    step = 2.0 * float(np.arcsin(min(sine, 1.0)))
    if sine >= 1.0 or step * N >= np.pi:
        raise InvalidInput(
            "is so negative that E + λV has no minimum", field="risk_aversion", value=squared, remedy="move it to zero"
        )
    forward = np.sin(step * j) / np.sin(step * N)
    return step / tau, forward, forward[::-1].copy()


def almgren_chriss_portfolio(
    quantity: ArrayLike,
    horizon: float,
    slices: int,
    covariance: ArrayLike,
    temporary: ArrayLike,
    permanent: ArrayLike | None = None,
    risk_aversion: float = 0.0,
) -> FloatArray:
    """Return the holdings of a portfolio with cross-impact: one sinh per mode of λH̃^{−½}CH̃^{−½}, H̃ = H − τΓ/2.

    Parameters
    ----------
    quantity
        X (N,), units held at the start.
    horizon, slices
        T > 0 and the number of intervals.
    covariance
        C (N, N), currency² per unit² per time, PSD.
    temporary
        H (N, N) symmetric, with H̃ positive definite.
    permanent
        Γ (N, N) symmetric PSD; default 0.
    risk_aversion
        λ ≥ 0, 1/currency.

    Returns
    -------
    ndarray
        (slices + 1, N) holdings.

    References
    ----------
    Almgren & Chriss (2000), appendix; symmetric Γ.
    """
    T = finite_scalar("horizon", horizon, positive=True)
    if int(slices) != slices or slices < 1:
        raise InvalidInput("must be an integer ≥ 1", field="slices", value=slices, remedy="use at least one slice")
    tau = T / int(slices)
    X = finite_array("quantity", quantity, ndim=1)
    shape = (len(X), len(X))
    C = check_psd("covariance", finite_array("covariance", covariance, shape))
    gamma = (
        np.zeros(shape) if permanent is None else check_psd("permanent", finite_array("permanent", permanent, shape))
    )
    h_tilde = finite_array("temporary", temporary, shape) - 0.5 * tau * gamma
    lam = finite_scalar("risk_aversion", risk_aversion, minimum=0.0)
    values, vectors = np.linalg.eigh(check_psd("temporary − τ permanent/2", h_tilde))
    if values[0] <= 0.0:
        raise InvalidInput("H − τΓ/2 must be positive definite", field="temporary", value=float(values[0]))
    root, inverse = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    middle = lam * inverse @ C @ inverse
    squared, modes = np.linalg.eigh(0.5 * (middle + middle.T))
    start = modes.T @ root @ X
    profiles = np.stack([_profile(max(float(s), 0.0), tau, int(slices))[2] for s in squared], axis=1)
    return np.asarray((profiles * start) @ modes.T @ inverse, dtype=np.float64)


@dataclass(frozen=True)
class AlmgrenThumCost:
    """Impact of an order in fractions of the price: ``permanent`` I, ``temporary`` K = J − I/2, ``realised`` J."""

    permanent: float
    temporary: float
    realised: float


def almgren_thum_impact(
    quantity: float, daily_volume: float, shares_outstanding: float, volatility: float, horizon_days: float
) -> AlmgrenThumCost:
    """Return the fitted impact law I = .314 σ (X/V)(Θ/V)^{1/4}, J = I/2 + sgn(X) .142 σ |X/(VT)|^{.6}.

    Parameters
    ----------
    quantity
        X, signed shares.
    daily_volume
        V > 0, shares per day.
    shares_outstanding
        Θ > 0, shares.
    volatility
        σ ≥ 0, daily return volatility.
    horizon_days
        T > 0, days of volume time.

    Returns
    -------
    AlmgrenThumCost
        Fractions of the price (1e-4 is one basis point), with the sign of X.

    References
    ----------
    Almgren, Thum, Hauptmann & Li (2005).
    """
    X, V = finite_scalar("quantity", quantity), finite_scalar("daily_volume", daily_volume, positive=True)
    theta, T = (
        finite_scalar("shares_outstanding", shares_outstanding, positive=True),
        finite_scalar("horizon_days", horizon_days, positive=True),
    )
    sigma = finite_scalar("volatility", volatility, minimum=0.0)
    permanent = 0.314 * sigma * X / V * (theta / V) ** 0.25
    temporary = float(np.sign(X) * 0.142 * sigma * abs(X / (V * T)) ** 0.6)
    return AlmgrenThumCost(permanent, temporary, 0.5 * permanent + temporary)
