r"""What a schedule would have cost on data that neither the schedule nor its model has seen: an unbiased account.

The expected cost of a schedule is linear in the true kernel, ½ Σ_m ⟨K_m, W_m⟩ + known terms. Least squares on the
held-out rows, with the factors' part of returns fitted beside it, gives K̂ with E[K̂ | flow, factors] = K whatever the
correlation of the noise, as long as impact is linear in the dictionary's shapes and the noise independent of flow. A
schedule made from other rows is independent of that noise, so

.. math:: E\left[\tfrac12 \sum_m \langle \hat K_m, W_m \rangle\right] = \tfrac12 \sum_m \langle K_m, W_m \rangle .

No constraint is put on K̂: a constrained or shrunk refit would be biased to what it is shrunk to. That K̂ is noisy, and
indefinite as a rule, does no harm, since nothing is optimised under it. Where impact has other shapes than the
dictionary's, K̂ is the best linear approximation under the held-out flow, and the account is off by ½⟨K − E K̂, W⟩.

"symmetric" least squares uses that K is symmetric: it stays unbiased where that is so, with less noise. "free" least
squares does not need it, and prices the order in which names are traded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary, aligned, factor_values, session_rows
from crosswind.solvers.errors import DataGap, InvalidInput, SolverFailure

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Ruler", "symmetric_least_squares"]

Array = NDArray[np.float64]
_TOL, _LIMIT = 1e-11, 2000


@dataclass(frozen=True, eq=False)
class Ruler:
    """Unconstrained least squares on held-out rows, its noise by cell, and its moments, in scaled coordinates.

    Parameters
    ----------
    matrices
        K̂, (M, N, N).
    influence
        (C, M, N, N): what each cell (a run of neighbouring rows) moved K̂ by, to first order; cells sum to 0. Half of
        ⟨influence, W⟩ resampled over cells is the noise of an account, serial and cross-sectional correlation included.
    ZZ, rZ, total
        Moments (NM, NM), (N, NM) and Σr² (N,) of the rows, factors taken out of both sides: for held-out R².
    rows
        Number of rows E.
    """

    matrices: Array
    influence: Array
    ZZ: Array
    rZ: Array  # noqa: N815
    total: Array
    rows: int

    @classmethod
    def of(
        cls,
        events: MarketEvents,
        names: Sequence[str],
        dictionary: Dictionary,
        scale: Array,
        kind: str = "symmetric",
        cells: int = 12,
        factors: bool = True,
    ) -> Ruler:
        """Measure on held-out events.

        Parameters
        ----------
        events
            Rows that no schedule to be measured has seen; the filter starts from rest in each session.
        scale
            √k_i (N,) of the coordinates: K' = K/(scale scale').
        kind
            "symmetric" or "free".
        cells
            C ≥ 2 runs of rows.
        factors
            Whether the factors' part of returns is fitted beside the impact.

        Raises
        ------
        DataGap
            Not enough rows for the N·M regressors: least squares would not be unbiased.
            Neither where a name has no flow in them, or flows are collinear.
        InvalidInput
            An unknown kind, fewer than two cells, products beyond floating point.
        """
        if kind not in ("symmetric", "free"):
            raise InvalidInput("unknown ruler", field="ruler", value=kind, remedy='use "symmetric" or "free"')
        if int(cells) != cells or cells < 2:
            raise InvalidInput("two cells at least", field="cells", value=cells)
        Z, r, x = _rows(events, names, dictionary, factors)
        n, wide = len(names), Z.shape[1]
        if len(Z) < wide + x.shape[1] + max(10, 2 * cells):
            raise DataGap(
                "too few held-out rows for an unbiased account",
                field="events",
                value=f"{len(Z)} rows for {wide} regressors",
                remedy="fewer folds, fewer decay shapes, or more data",
            )
        Z, r = Z / np.tile(1.0 / scale, wide // n), r / scale
        if x.shape[1]:
            # Frisch and Waugh: the same as fitting the factors beside the flow, which purges what they share.
            Q, R = np.linalg.qr(x)
            Q = Q[:, np.abs(np.diag(R)) > 1e-12 * max(np.abs(np.diag(R)).max(), 1e-300)]
            Z, r = Z - Q @ (Q.T @ Z), r - Q @ (Q.T @ r)
        with np.errstate(over="ignore", invalid="ignore"):
            ZZ, rZ, rr = Z.T @ Z, r.T @ Z, (r**2).sum(axis=0)
        if not all(np.isfinite(a).all() for a in (ZZ, rZ, rr)):
            raise InvalidInput(
                "products of held-out flow or returns are beyond floating point",
                field="events",
                value=f"|flow| up to {np.abs(Z * np.tile(1.0 / scale, wide // n)).max():.3g}",
                remedy="look for outliers, e.g. with check_events",
            )
        weights = len(r) / np.maximum(rr, np.finfo(float).tiny)
        square = np.diag(ZZ)
        still: NDArray[np.bool_] = np.asarray((square.reshape(-1, n) <= 0).any(axis=0))
        if still.any():
            idle = [name for name, dead in zip(names, still.tolist(), strict=True) if dead]
            raise DataGap(
                "a name has no flow in a held-out block, so nothing there measures its impact",
                field="events.flow",
                value=f"{', '.join(idle)} up to {events.index[-1]}",
                remedy="fewer folds, longer data, or drop the name",
            )
        values = np.linalg.eigvalsh(ZZ / np.outer(np.sqrt(square), np.sqrt(square)))
        if not values[0] > 1e-10 * values[-1]:
            raise DataGap(
                "held-out flow is collinear, so no account is unbiased",
                field="events.flow",
                value=f"condition {values[-1] / max(values[0], 1e-300):.1e}",
                remedy="drop a duplicated name",
            )

        def fit(moments: Array) -> Array:
            """Matrices (…, M, N, N) of right-hand sides (…, N, NM)."""
            if kind == "symmetric":
                return symmetric_least_squares(ZZ, moments, weights)
            X = np.linalg.solve(ZZ, np.swapaxes(moments, -1, -2).reshape(-1, wide, n)).swapaxes(-1, -2)
            return _blocks(np.asarray(X.reshape(moments.shape)))

        K = fit(rZ)
        residual = r - Z @ K.transpose(1, 0, 2).reshape(n, wide).T
        edges = np.linspace(0, len(r), cells + 1).round().astype(int)
        sums = np.stack([residual[a:b].T @ Z[a:b] for a, b in pairwise(edges)])
        # Few cells and many regressors both make residuals too small.
        free = cells / (cells - 1.0) * len(r) / (len(r) - wide - x.shape[1])
        sums = (sums - sums.mean(axis=0)) * np.sqrt(free)
        return cls(K, fit(sums), ZZ, rZ, rr, len(r))

    def score(self, matrices: Array) -> float:
        """Mean held-out R² over names of symmetric K' (M, N, N), against no impact."""
        X = matrices.transpose(1, 0, 2).reshape(len(self.total), -1)
        error = self.total - 2.0 * np.einsum("ij,ij->i", X, self.rZ) + np.einsum("ij,ij->i", X @ self.ZZ, X)
        moved = self.total > 0
        return float(1.0 - np.mean(error[moved] / self.total[moved]))

    def account(self, weights: Array) -> tuple[Array, Array]:
        """Impact cost by parent (P,) and its noise by cell (C, P) of schedule weights W (P, M, N, N)."""
        P = len(weights)
        flat = 0.5 * weights.reshape(P, -1)
        return flat @ self.matrices.ravel(), self.influence.reshape(len(self.influence), -1) @ flat.T


def _rows(
    events: MarketEvents, names: Sequence[str], dictionary: Dictionary, factors: bool
) -> tuple[Array, Array, Array]:
    """Regressors (E, NM), returns (E, N) and factors (E, F) of the usable rows."""
    flow, returns, session = aligned(events, names)
    x = factor_values(events) if factors else np.zeros((len(flow), 0))
    use: NDArray[np.bool_] = np.asarray(np.isfinite(returns).all(axis=1) & np.isfinite(x).all(axis=1))
    if not use.any():
        raise DataGap("no bucket has a return for every name", field="events", remedy="longer blocks")
    Z = np.vstack([dictionary.regressors(flow[part])[use[part]] for part in session_rows(session)])
    return Z, returns[use], x[use]


def _blocks(X: Array) -> Array:
    """(…, M, N, N) of stacked (…, N, NM)."""
    n = X.shape[-2]
    return np.ascontiguousarray(np.swapaxes(X.reshape(*X.shape[:-1], X.shape[-1] // n, n), -2, -3))


def symmetric_least_squares(ZZ: Array, rZ: Array, weights: Array) -> Array:
    """Symmetric K_m that minimise Σ_i w_i (½ x_i ZZ x_i' − x_i b_i'), x_i the rows of X = [K_1 … K_M], b_i those of rZ.

    Conjugate gradients on sym(wXZZ) = sym(w rZ), preconditioned with the free solution X ↦ sym(w⁻¹X ZZ⁻¹).

    Parameters
    ----------
    ZZ
        (NM, NM) positive definite.
    rZ
        (N, NM), or (…, N, NM) for several right-hand sides.
    weights
        w (N,) > 0.

    Returns
    -------
    Array
        (M, N, N), or (…, M, N, N).

    Raises
    ------
    SolverFailure
        No convergence: the moments are close to singular.
    """
    n, wide = rZ.shape[-2:]
    w = weights[:, None]
    unit = np.trace(ZZ) / wide
    S, inverse = ZZ / unit, np.linalg.inv(ZZ / unit)

    def symmetric(X: Array) -> Array:
        K = _blocks(X)
        return np.asarray(0.5 * (K + np.swapaxes(K, -1, -2)))

    def stacked(K: Array) -> Array:
        return np.swapaxes(K, -2, -3).reshape(*K.shape[:-3], n, wide)

    def inner(a: Array, b: Array) -> Array:
        return np.asarray((a * b).sum(axis=(-3, -2, -1), keepdims=True))

    right = symmetric(w * rZ / unit)
    K = symmetric((stacked(right) / w) @ inverse)
    residual = right - symmetric(w * (stacked(K) @ S))
    ready = symmetric((stacked(residual) / w) @ inverse)
    direction, rho = ready, inner(residual, ready)
    size = np.maximum(inner(right, symmetric((stacked(right) / w) @ inverse)), np.finfo(float).tiny)
    for _ in range(_LIMIT):
        if (rho <= _TOL**2 * size).all():
            return K
        moved = symmetric(w * (stacked(direction) @ S))
        curvature = inner(direction, moved)
        step = np.divide(rho, curvature, out=np.zeros_like(rho), where=curvature > 0)
        K = K + step * direction
        residual = residual - step * moved
        ready = symmetric((stacked(residual) / w) @ inverse)
        after = inner(residual, ready)
        direction = ready + np.divide(after, rho, out=np.zeros_like(rho), where=rho > 0) * direction
        rho = after
    raise SolverFailure(
        "symmetric least squares did not converge",
        field="events",
        value=f"{_LIMIT} steps",
        remedy='use ruler="free", or drop nearly duplicated names',
    )
