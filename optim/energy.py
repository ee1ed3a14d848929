"""The energy identity: the double sum of decaying impact as a sum of squares of states.

With z_t = ρ_t z_{t−1} + u_t (u_t stands for φ_t u_t where a mode has shares), one term of the impact cost is
u_t'Kρ_t z_{t−1} + ½u_t'Ku_t. Insert u_t = z_t − ρ_t z_{t−1}:

    (z − y)'Ky + ½(z − y)'K(z − y) = ½ z'Kz − ½ y'Ky,   y = ρ_t z_{t−1}, z = z_t.

Summing over t and collecting z_t, which appears with weight ½ from trade t and −½ρ²_{t+1} from trade t+1,

    Σ_t (u_t'Kρ_t z_{t−1} + ½u_t'Ku_t)
        = ½ Σ_{t<T−1} (1 − ρ²_{t+1}) z_t'Kz_t + ½ z_{T−1}'Kz_{T−1} − ½ρ_0² z_{−1}'Kz_{−1}.

The left side is indefinite term by term; the right side is convex term by term, which is what a solver needs. A
permanent mode (ρ = 1) keeps its last state only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray
from crosswind.optim.costs import cost, impact_states
from crosswind.optim.factored import image
from crosswind.optim.program import MultistageProgram

__all__ = ["energy_constant", "energy_weights", "impact_cost_by_states", "impact_cost_by_trades"]


def energy_weights(program: MultistageProgram) -> FloatArray:
    """Return the weights (M, T) of ½ z_t'Kz_t: 1 − ρ²_{t+1}, and 1 for the last state."""
    rho = program.decays
    return np.hstack([1.0 - rho[:, 1:] ** 2, np.ones((len(rho), 1))])


def energy_constant(program: MultistageProgram) -> float:
    """Return −½ Σ_m ρ²_{m,0} z_{−1}'K_m z_{−1}: the energy that earlier trades have already paid for."""
    rho = program.decays
    return -0.5 * sum(
        float(rho[m, 0] ** 2 * mode.state @ image(mode.state, mode.matrix)) for m, mode in enumerate(program.impact)
    )


def impact_cost_by_states(program: MultistageProgram, trades: ArrayLike) -> float:
    """Return the right side of the identity (currency): a sum of squares of states and a constant."""
    _, after = impact_states(program, trades)
    weights = energy_weights(program)
    return energy_constant(program) + 0.5 * sum(
        float(np.sum(weights[m][:, None] * after[m] * image(after[m], mode.matrix)))
        for m, mode in enumerate(program.impact)
    )


def impact_cost_by_trades(program: MultistageProgram, trades: ArrayLike) -> float:
    """Return the left side of the identity (currency): what each trade pays for the impact it meets and makes."""
    parts = cost(program, trades)
    return parts.impact_self + parts.impact_cross
