"""The receding-horizon program over the trades alone, dense: it prices decisions, and active-set methods take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import cho_factor

from crosswind.solvers.mpc.model import Array, MpcModel
from crosswind.solvers.mpc.program import MpcProgram, reachable
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Condensed", "condensed_program"]

# Curvature of |h| and of the excess, relative to a cost of one: it spares an active-set method its proximal steps.
_CURVATURE = 1e-7


class Condensed:
    """½h'Ph + linear'h + constant with gaps and impact states put in.

    Parameters
    ----------
    model
        What stays.

    Attributes
    ----------
    P
        (Hm, Hm).
    to_gap
        (Hk, Hm): what trades take off the gaps.
    inverse
        Cholesky factor of P, with a ridge of 1e-13 of its largest entry.
    """

    def __init__(self, model: MpcModel) -> None:
        m, k, _, H = model.sizes
        E, Sigma = np.asarray(model.exposure), np.asarray(model.covariance)
        self.to_gap = np.kron(np.tril(np.ones((H, H))), E)
        weights = np.kron(np.diag(np.asarray(model.risk_weight)), 2.0 * Sigma)
        weights[-k:, -k:] += np.diag(2.0 * np.asarray(model.terminal_weight))
        self.weights = weights
        P = np.kron(np.eye(H), 2.0 * model.temporary) + self.to_gap.T @ weights @ self.to_gap
        late = np.subtract.outer(np.arange(H), np.arange(H))
        self.loadings, self.powers = np.asarray(model.impact_loadings), np.asarray(model.decays)
        for L, rho in zip(self.loadings, self.powers, strict=True):
            P += np.kron(np.where(late == 0, 1.0, rho ** np.abs(late)), L @ L.T)
        self.fade = self.powers[:, None] ** np.arange(H)
        self.P = P
        ridge = 1e-13 * float(np.abs(np.diag(P)).max(initial=1e-300)) * np.eye(m * H)
        self.inverse: Any = cho_factor(P + ridge)

    def at(self, d: Mapping[str, Array]) -> tuple[Array, Array, float]:
        """Return the gaps without trades (Hk,), the linear cost of trades (Hm,) and the cost without them."""
        free = (d["gap"] + np.cumsum(d["plan"], axis=0)).ravel()
        pull = self.weights @ free + d["carry"].ravel()
        left = np.einsum("jt,jib,jb->ti", self.fade, self.loadings, d["state"])
        linear = d["linear"].ravel() + left.ravel() - self.to_gap.T @ pull
        return free, linear, float(0.5 * free @ self.weights @ free + d["carry"].ravel() @ free)


def _matrices(core: Condensed, program: MpcProgram) -> tuple[Array, Array]:
    """Return dense P and A over (h, t, e): t ∓ h ≥ 0, e ± G ≥ −Gmax, the changes of h."""
    m, k, _, H = program.model.sizes
    n, e = H * m, H * k
    P = np.zeros((2 * n + e, 2 * n + e))
    P[:n, :n] = core.P
    P[n:, n:] = np.diag(np.concatenate([np.zeros(n), program.data["curve"].ravel()]) + _CURVATURE)
    eye, none = np.eye(n), np.zeros
    change = np.kron(np.eye(H) - np.eye(H, k=-1), np.eye(m))
    A = np.vstack([
        np.hstack([-eye, eye, none((n, e))]), np.hstack([eye, eye, none((n, e))]),
        np.hstack([core.to_gap, none((e, n)), np.eye(e)]), np.hstack([-core.to_gap, none((e, n)), np.eye(e)]),
        np.hstack([change, none((n, n + e))]),
    ])  # fmt: skip
    return P, A


def _vectors(core: Condensed, program: MpcProgram) -> dict[str, Any]:
    """Return q, l, u, lb, ub of the condensed program."""
    d, (m, k, _, H) = program.data, program.model.sizes
    n, e = H * m, H * k
    cap, last, _ = reachable(d)
    free, linear, _ = core.at(d)
    room = d["gap_cap"].ravel()
    rate = np.tile(d["rate"], (H, 1))
    low, high = -rate, rate.copy()
    low[0] += last
    high[0] += last
    return {
        "q": np.concatenate([linear, d["spread"].ravel(), d["price"].ravel()]),
        "l": np.concatenate([np.zeros(2 * n), free - room, -free - room, low.ravel()]),
        "u": np.concatenate([np.full(2 * n + 2 * e, np.inf), high.ravel()]),
        "lb": np.concatenate([-cap.ravel(), np.full(n, -np.inf), np.zeros(e)]),
        "ub": np.concatenate([cap.ravel(), np.full(n + e, np.inf)]),
    }


def condensed_program(core: Condensed, program: MpcProgram, like: QuadraticProgram | None = None) -> QuadraticProgram:
    """Return the dense program over (h, t, e); it shares the matrices of ``like``, one of the same model and curve."""
    found = _vectors(core, program)
    if like is not None:
        return like.with_vectors(**found)
    P, A = _matrices(core, program)
    return QuadraticProgram(P, **found, A=A)
