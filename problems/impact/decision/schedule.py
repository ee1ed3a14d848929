r"""The schedule that a kernel asks for, what it costs under another kernel, and how that cost moves with the kernel.

With trades u_t (T slices), G_h = Σ_m φ_m(h) K_m and a fixed known part R (temporary impact and risk),

.. math::

    u^*(K) = \arg\min_u \tfrac12 u' H(K) u \;\; \text{s.t.} \; \sum_t u_t = X, \qquad
    H(K) = \sum_m A_m \otimes K_m + R, \quad A_m[s, t] = \varphi_m(|t - s|).

The columns of V span the round trips, so u* = u₀ − V (V'HV)⁻¹ V'H u₀. By the implicit function theorem
du* = −V (V'HV)⁻¹ V' dH u*, so for any smooth account L(u), with the adjoint a = V (V'HV)⁻¹ V' ∇L(u*),

.. math:: dL = -a' \, dH \, u^*, \qquad \nabla_{K_m} L = -\operatorname{sym} \sum_{s,t} A_m[s,t] \, a_s u_t^{*\prime}.

What is realised is linear in the kernel that is paid: L(u) = ½ Σ_m ⟨K_m, W_m(u)⟩ + ½u'Ru, with W_m(u) quadratic in u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from crosswind.problems.impact.features import Dictionary
from crosswind.solvers.errors import InvalidInput

__all__ = ["Schedule", "ScheduleProgram"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Optimal schedules of P parents and the factor that differentiates them.

    Parameters
    ----------
    trades
        u*, (T, N, P).
    promised
        ½u'H(K)u by parent, (P,).
    factor
        Cholesky factor of V'H(K)V.
    """

    trades: Array
    promised: Array
    factor: tuple[Array, bool]


@dataclass(frozen=True, eq=False)
class ScheduleProgram:
    """The fixed part of the scheduling problem, in coordinates in which every name's own slope is 1.

    Parameters
    ----------
    decay
        A_m, (M, T, T): φ_m at the distance of slices.
    parents
        X, (N, P).
    temporary
        η ≥ 0, (N,): cost ½ Σ_t u_t'ηu_t, known, so paid in every account.
    risk
        Σ (N, N) PSD or None: cost ½ Σ_t q_t'Σq_t of what is still to trade after slice t, known too.

    Raises
    ------
    InvalidInput
        Mixed shapes, fewer than two slices, a negative η.
    """

    decay: Array
    parents: Array
    temporary: Array
    risk: Array | None = None

    def __post_init__(self) -> None:
        n = self.parents.shape[0]
        if self.decay.ndim != 3 or self.decay.shape[1] != self.decay.shape[2] or self.decay.shape[1] < 2:
            raise InvalidInput("two slices at least", field="times_s", value=self.decay.shape[1:])
        if self.temporary.shape != (n,) or (self.temporary < 0).any() or not np.isfinite(self.temporary).all():
            raise InvalidInput("η must be finite and ≥ 0 for every name", field="temporary", value=self.temporary.shape)
        if self.risk is not None and self.risk.shape != (n, n):
            raise InvalidInput("must be (N, N)", field="risk", value=self.risk.shape)

    @classmethod
    def of(
        cls,
        dictionary: Dictionary,
        times_s: Array,
        parents: Array,
        temporary: Array,
        risk: Array | None = None,
    ) -> ScheduleProgram:
        """Return the program for trade times (T,) [s] under the shapes of a dictionary."""
        lags = np.abs(times_s[:, None] - times_s[None, :]) / dictionary.bucket_s
        decay = dictionary.phi(lags.ravel()).reshape(dictionary.size, len(times_s), len(times_s))
        return cls(decay, parents, temporary, risk)

    @property
    def slices(self) -> int:
        """T."""
        return int(self.decay.shape[1])

    @property
    def names(self) -> int:
        """N."""
        return int(self.parents.shape[0])

    # -- the fixed part -------------------------------------------------------------------------------------------
    def _remaining(self) -> Array:
        """Σ over t of what is left: q_t = Σ_{s>t} u_s where Σ u = X, so Σ_t q_t'Σq_t = u'(C ⊗ Σ)u."""
        upper = np.triu(np.ones((self.slices, self.slices)), 1)
        return np.asarray(upper.T @ upper)

    def _fixed_product(self, u: Array) -> Array:
        out = self.temporary[:, None] * u
        if self.risk is not None:
            out = out + np.einsum("ts,ij,sjp->tip", self._remaining(), self.risk, u, optimize=True)
        return np.asarray(out)

    def fixed_cost(self, u: Array) -> Array:
        """½u'Ru by parent, (P,), of schedules (T, N, P): what every account pays alike."""
        return np.asarray(0.5 * np.einsum("tip,tip->p", u, self._fixed_product(u)))

    # -- the schedule ---------------------------------------------------------------------------------------------
    def hessian(self, matrices: Array) -> Array:
        """H(K), (TN, TN), of symmetric matrices (M, N, N)."""
        T, n = self.slices, self.names
        H = np.einsum("mst,mij->sitj", self.decay, matrices, optimize=True).reshape(T * n, T * n)
        H = H + np.diag(np.tile(self.temporary, T))
        if self.risk is not None:
            H = H + np.kron(self._remaining(), self.risk)
        return np.asarray(H)

    def _round(self, y: Array) -> Array:
        """V y: differences of adjacent slices span the round trips; y (T−1, N, P) → (T, N, P)."""
        out = np.zeros((self.slices, *y.shape[1:]))
        out[:-1] = y
        out[1:] -= y
        return out

    def _against(self, u: Array) -> Array:
        """V'u, (T−1, N, P)."""
        return np.asarray(u[:-1] - u[1:])

    def solve(self, matrices: Array) -> Schedule | None:
        """Schedules of least cost under symmetric K (M, N, N); None where a round trip pays without end."""
        T, n = self.slices, self.names
        H = self.hessian(matrices).reshape(T, n, T, n)
        left = H[:-1] - H[1:]
        reduced = (left[:, :, :-1] - left[:, :, 1:]).reshape((T - 1) * n, (T - 1) * n)
        start = np.repeat(self.parents[None] / T, T, axis=0)
        slope = np.tensordot(left, start, axes=([2, 3], [0, 1]))
        try:
            factor = cho_factor(reduced)
        except LinAlgError:
            return None
        u = start - self._round(cho_solve(factor, slope.reshape((T - 1) * n, -1)).reshape(T - 1, n, -1))
        promised = self.account(u, matrices)
        return Schedule(u, promised, (factor[0], bool(factor[1])))

    # -- accounts -------------------------------------------------------------------------------------------------
    def weights(self, u: Array) -> Array:
        """W_m(u) by parent, (P, M, N, N): impact costs ½ Σ_m ⟨K_m, W_m⟩ under any K, symmetric or not.

        A trade pays for what came before it, and half of its own immediate impact: row i of W is what is traded now,
        column j what was traded before. The symmetric part is Σ_{s,t} A_m[s,t] u_s u_t'.
        """
        causal = self.decay * (2.0 * np.tril(np.ones((self.slices, self.slices)), -1) + np.eye(self.slices))
        return np.asarray(np.einsum("mts,tip,sjp->pmij", causal, u, u, optimize=True))

    def account(self, u: Array, matrices: Array) -> Array:
        """Return the expected cost by parent, (P,), of schedules (T, N, P) under K (M, N, N)."""
        causal = self.decay * (2.0 * np.tril(np.ones((self.slices, self.slices)), -1) + np.eye(self.slices))
        moved = np.einsum("mij,sjp->msip", matrices, u, optimize=True)
        impact = 0.5 * np.einsum("mts,tip,msip->p", causal, u, moved, optimize=True)
        return np.asarray(impact + self.fixed_cost(u))

    def gradient(self, schedule: Schedule, paid: Array) -> Array:
        """∂/∂K_m of Σ_p account(u*(K), paid), (M, N, N) symmetric: what a change of the model does to the money paid.

        Parameters
        ----------
        schedule
            The optimum under K.
        paid
            Matrices (M, N, N), of any symmetry, of the account.
        """
        u, T, n = schedule.trades, self.slices, self.names
        both = 0.5 * (paid + paid.transpose(0, 2, 1))
        slope = np.einsum("mts,mij,sjp->tip", self.decay, both, u, optimize=True)
        if not np.array_equal(both, paid):
            # The antisymmetric part pays by order: +K below the diagonal of time, −K above it.
            order = np.tril(np.ones((T, T)), -1) - np.triu(np.ones((T, T)), 1)
            slope = slope + np.einsum("mts,mij,sjp->tip", self.decay * order, paid - both, u, optimize=True)
        slope = slope + self._fixed_product(u)
        y = cho_solve(schedule.factor, self._against(slope).reshape((T - 1) * n, -1)).reshape(T - 1, n, -1)
        raw = -np.einsum("mst,sip,tjp->mij", self.decay, self._round(y), u, optimize=True)
        return np.asarray(0.5 * (raw + raw.transpose(0, 2, 1)))
