"""The cost of any trades under a multistage program, split by component, and its exact gradient.

The impact is summed trade by trade as the model states it; the solver's path goes through the energy identity
instead, so the two check each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, finite_array
from crosswind.optim.factored import FactorMatrix, dense_of, diagonal_of, image
from crosswind.optim.limits import BandLimit
from crosswind.optim.program import MultistageProgram

__all__ = [
    "CostBreakdown",
    "cost",
    "exposures",
    "gradient_terms",
    "impact_states",
    "jax_cost",
    "marginal_cost",
    "positions",
    "smooth_gradient",
    "soft_excess",
    "suffix_sum",
]


@dataclass(frozen=True)
class CostBreakdown:
    """Components of the cost in the program's currency; positive is money lost, and they sum to ``total`` exactly.

    ``impact_self`` is charged by the diagonals of the K_m, ``impact_cross`` by the rest; ``risk`` (λ Σ e'Σe),
    ``terminal`` and ``soft`` are prices of the program, not cash.
    """

    spread: float
    temporary: float
    impact_self: float
    impact_cross: float
    drift: float
    risk: float
    holding: float
    terminal: float
    soft: float
    three_halves: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the components."""
        return float(sum(getattr(self, f.name) for f in fields(self)))

    @property
    def cash(self) -> float:
        """Expected money lost in trading: spread + temporary (both powers) + impact + drift."""
        return self.spread + self.temporary + self.three_halves + self.impact_self + self.impact_cross + self.drift

    def to_series(self) -> pd.Series[float]:
        """Return the components and the total as a Series."""
        values = {f.name: float(getattr(self, f.name)) for f in fields(self)}
        return pd.Series({**values, "total": self.total}, name="cost", dtype=float)


def _trades(program: MultistageProgram, trades: ArrayLike) -> FloatArray:
    return finite_array("trades", trades, (program.slices, len(program.instruments)))


def positions(program: MultistageProgram, trades: ArrayLike) -> FloatArray:
    """Return positions p_0..p_T (T+1, P) after ``trades`` (T, n)."""
    moved = np.cumsum(_trades(program, trades) @ program.incidence.T, axis=0)
    return np.vstack([program.p0, program.p0 + moved])


def exposures(program: MultistageProgram, trades: ArrayLike) -> FloatArray:
    """Return exposures e_t = B p_t + w_t, t = 0..T, (T+1, k)."""
    return np.asarray(positions(program, trades) @ program.exposure.T + program.exposure_level, dtype=np.float64)


def impact_states(program: MultistageProgram, trades: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the impact states before and after each trade, both (M, T, n), in trade units.

    before[m, t] = ρ_{m,t} z^m_{t−1}, after[m, t] = before[m, t] + φ_{m,t} u_t.
    """
    u = _trades(program, trades)
    before = np.empty((len(program.impact), *u.shape))
    rho, phi = program.decays, program.shares
    for m, mode in enumerate(program.impact):
        z = mode.state
        for t in range(len(u)):
            before[m, t] = rho[m, t] * z
            z = before[m, t] + phi[m, t] * u[t]
    return before, before + phi[:, :, None] * u


def soft_excess(program: MultistageProgram, limit: BandLimit, trades: ArrayLike) -> FloatArray:
    """Return the signed excess of a band (T, g): above the upper bound positive, below the lower one negative."""
    level = positions(program, trades) if limit.on == "position" else exposures(program, trades)
    row = level[1:] @ limit.matrix.T
    return np.asarray(np.maximum(row - limit.upper, 0.0) - np.maximum(limit.lower - row, 0.0), dtype=np.float64)


def _risk_image(program: MultistageProgram, e: FloatArray) -> FloatArray:
    """Return w_t Σ_t e_t for t = 1..T, (T, k)."""
    if program.covariance is None:
        return np.zeros_like(e)
    weighted = program.risk_weight[:, None] * e
    if isinstance(program.covariance, FactorMatrix) or program.covariance.ndim == 2:
        return image(weighted, program.covariance)
    return np.asarray(np.einsum("tij,tj->ti", program.covariance, weighted), dtype=np.float64)


def cost(program: MultistageProgram, trades: ArrayLike) -> CostBreakdown:
    """Return the exact cost of ``trades``, whether they respect the limits or not.

    Parameters
    ----------
    program
        The program; its hard limits and hard completion are not priced, its soft limits are.
    trades
        u (T, n), signed trade unit.

    Returns
    -------
    CostBreakdown
        Components that sum to the total.

    Raises
    ------
    InvalidInput
        Non-finite trades or a wrong shape.
    """
    u = _trades(program, trades)
    e = exposures(program, u)[1:]
    p = positions(program, u)
    before, _ = impact_states(program, u)
    own = cross = 0.0
    for m, mode in enumerate(program.impact):
        # Σ_t v_t'K(ρ z_{t−1} + ½ v_t): the diagonal of K is the self part.
        v = program.shares[m][:, None] * u
        push = before[m] + 0.5 * v
        diagonal = diagonal_of(mode.matrix)
        own += float(np.sum(v * push * diagonal))
        cross += float(np.sum(v * (image(push, mode.matrix) - push * diagonal)))
    soft = 0.0
    for limit in program.limits:
        if isinstance(limit, BandLimit) and limit.soft is not None:
            s = np.abs(soft_excess(program, limit, u))
            soft += float(limit.soft.linear * s.sum() + 0.5 * limit.soft.quadratic * (s**2).sum())
    terminal = 0.0
    if program.terminal is not None:
        terminal = float(np.sum(program.terminal.penalty * (p[-1] - program.terminal.target) ** 2))
    return CostBreakdown(
        spread=float(np.sum(program.spread * np.abs(u))),
        temporary=float(np.sum(program.temporary * u**2)),
        impact_self=own,
        impact_cross=cross,
        drift=float(np.sum(program.drift * u)),
        risk=program.risk_aversion * float(np.sum(e * _risk_image(program, e))),
        holding=float(np.sum(program.holding * p[1:])),
        terminal=terminal,
        soft=soft,
        three_halves=float(np.sum(program.three_halves * np.abs(u) ** 1.5)),
    )


def gradient_terms(
    program: MultistageProgram, trades: ArrayLike, e: FloatArray | None = None, gap: FloatArray | None = None
) -> dict[str, FloatArray]:
    """Return the gradient (T, n) of each smooth component of the cost (all but spread and soft limits), by the adjoint.

    Impact: φ K_m (z^m_t + y^m_t) with the adjoint state y_t = ρ_{t+1}(y_{t+1} + v_{t+1}), y_{T−1} = 0. A term on
    positions comes back to a trade as its sum over the later slices.

    Parameters
    ----------
    program
        The program.
    trades
        u (T, n).
    e, gap
        Exposures e_1..e_T (T, k) and terminal gap p_T − target (P,), where they are known more exactly than the trades,
        which carry the rounding of p_0, imply.
    """
    u = _trades(program, trades)
    T = len(u)
    _, after = impact_states(program, u)
    rho, phi = program.decays, program.shares
    impact = np.zeros_like(u)
    for m, mode in enumerate(program.impact):
        later, v = np.zeros_like(u), phi[m][:, None] * u
        for t in range(T - 2, -1, -1):
            later[t] = rho[m, t + 1] * (later[t + 1] + v[t + 1])
        impact += phi[m][:, None] * image(after[m] + later, mode.matrix)
    e = exposures(program, u)[1:] if e is None else e
    risk = 2.0 * program.risk_aversion * _risk_image(program, e) @ program.exposure
    end = np.zeros(len(program.positions))
    if program.terminal is not None:
        gap = positions(program, u)[-1] - program.terminal.target if gap is None else gap
        end = 2.0 * program.terminal.penalty * gap
    S = program.incidence
    return {
        "temporary": np.asarray(2.0 * program.temporary * u),
        "three_halves": np.asarray(1.5 * program.three_halves * np.sign(u) * np.sqrt(np.abs(u))),
        "drift": program.drift,
        "impact": impact,
        "risk": np.asarray(suffix_sum(risk) @ S),
        "holding": np.asarray(suffix_sum(program.holding) @ S),
        "terminal": np.broadcast_to(end @ S, u.shape),
    }


def smooth_gradient(program: MultistageProgram, trades: ArrayLike) -> FloatArray:
    """Return the gradient (T, n) of the cost without its kinked parts (spread and soft limits)."""
    return np.asarray(sum(gradient_terms(program, trades).values()), dtype=np.float64)


def suffix_sum(rows: FloatArray) -> FloatArray:
    """Return Σ_{s ≥ t} rows_s for each t: what a price on p_{t+1} and later means for trade t."""
    return np.cumsum(rows[::-1], axis=0)[::-1]


def _enable_x64() -> Any:
    """Return jax's local 64-bit context; it moved out of jax.experimental in newer releases."""
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # type: ignore[attr-defined,unused-ignore]

    return enable_x64()


def _power(jnp: Any, u: Any) -> Any:
    """Return |u|^{3/2}, with slope 0 and not NaN at u = 0."""
    safe = jnp.where(u == 0.0, 1.0, jnp.abs(u))
    return jnp.where(u == 0.0, 0.0, safe * jnp.sqrt(safe))


def jax_cost(program: MultistageProgram) -> Callable[[Any], Any]:
    """Return the program's total cost as a pure jax function of the trades.

    The function is differentiable and can be transformed (grad, hessian, vmap, jit); do that inside
    ``with jax.enable_x64(True):`` to stay in float64, as :func:`marginal_cost` does.

    Parameters
    ----------
    program
        The program; hard limits are not part of the cost.

    Returns
    -------
    callable
        u (T, n) → scalar cost in currency.
    """
    import jax
    import jax.numpy as jnp

    rho = program.decays
    soft = [b for b in program.limits if isinstance(b, BandLimit) and b.soft is not None]

    def total(u: Any) -> Any:
        p = program.p0 + jnp.cumsum(u @ program.incidence.T, axis=0)
        e = p @ program.exposure.T + program.exposure_level[1:]
        value = jnp.sum(program.spread * jnp.abs(u)) + jnp.sum(program.temporary * u**2)
        if program.three_halves.any():
            value += jnp.sum(program.three_halves * _power(jnp, u))
        value += jnp.sum(program.drift * u) + jnp.sum(program.holding * p)
        if program.impact:
            matrices = jnp.asarray(np.stack([dense_of(mode.matrix) for mode in program.impact]))

            def step(z: Any, inputs: Any) -> tuple[Any, Any]:
                rho_t, phi_t, u_t = inputs
                before = rho_t[:, None] * z
                v_t = phi_t[:, None] * u_t
                paid = jnp.einsum("mi,mij,mj->", v_t, matrices, before + 0.5 * v_t)
                return before + v_t, paid

            start = jnp.asarray(np.stack([mode.state for mode in program.impact]))
            _, paid = jax.lax.scan(step, start, (jnp.asarray(rho.T), jnp.asarray(program.shares.T), u))
            value += jnp.sum(paid)
        if program.risk_aversion > 0.0 and program.covariance is not None:
            w = program.risk_weight
            if isinstance(program.covariance, FactorMatrix):
                factors, d = e @ program.covariance.loadings, program.covariance.specific
                value += program.risk_aversion * (jnp.sum(w[:, None] * factors**2) + jnp.sum(w[:, None] * d * e**2))
            else:
                per_slice = jnp.broadcast_to(program.covariance, (e.shape[0], e.shape[1], e.shape[1]))
                value += program.risk_aversion * jnp.einsum("t,ti,tij,tj->", w, e, per_slice, e)
        if program.terminal is not None:
            value += jnp.sum(program.terminal.penalty * (p[-1] - program.terminal.target) ** 2)
        for band in soft:
            row = (p if band.on == "position" else e) @ band.matrix.T
            s = jnp.maximum(row - band.upper, 0.0) + jnp.maximum(band.lower - row, 0.0)
            assert band.soft is not None
            value += band.soft.linear * jnp.sum(s) + 0.5 * band.soft.quadratic * jnp.sum(s**2)
        return value

    return total


def marginal_cost(program: MultistageProgram, trades: ArrayLike) -> FloatArray:
    """Return MC_t = ∂C/∂u_t (T, n), currency per unit of trade, by jax in float64.

    At u = 0 the spread's part is the middle subgradient 0, and at a soft bound jax's choice; the solution's own
    ``marginal_cost`` picks the subgradient that the optimality conditions need.

    Parameters
    ----------
    program
        The program.
    trades
        u (T, n).
    """
    import jax
    import jax.numpy as jnp

    u = _trades(program, trades)
    with _enable_x64():
        return np.asarray(jax.grad(jax_cost(program))(jnp.asarray(u, dtype=jnp.float64)), dtype=np.float64)
