"""Linear quantile regression at several levels at once that never cross, as one certified convex program."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.checks import check_features, check_levels, check_weights
from crosswind.solvers import Certificate, QuadraticProgram, Solution, solve
from crosswind.solvers.errors import InvalidInput, SolverFailure

__all__ = ["QuantileRegression"]

_MAX_ROUNDS = 30


class QuantileRegression(Parameters):
    """Conditional quantiles q_τ(x) = a_τ + b_τ'x of the levels τ_1 < … < τ_K, fitted jointly without crossing.

    Minimises Σ_k Σ_i w_i ρ_τk(y_i − a_k − b_k'x_i) + ½ ridge Σ_k ‖s∘b_k‖² with ρ_τ(r) = max(τ r, (τ − 1) r), w
    normalised to sum 1 and s the features' standard deviations, subject to q_τk(x_i) ≤ q_τ(k+1)(x_i) at every row. The
    functions are linear, so that they do not cross anywhere in the convex hull of the rows. Rows of that limit are
    added where an optimum breaks them until none does, which solves the whole program.

    Parameters
    ----------
    levels
        τ, strictly increasing in (0, 1).
    ridge
        Penalty of the slopes in the features' standard deviations [unit of y]⁻¹; 0 is a linear program.
    non_crossing
        False leaves the limits out: K separate regressions.
    solver, tol
        As in :func:`crosswind.solvers.solve`; the certificate is ours, whatever the backend says.

    Attributes
    ----------
    intercept_, coef_
        (K,) and (K, p).
    certificate_
        :class:`crosswind.solvers.Certificate` of the last program, in units of the y that were centred and scaled.
    loss_
        Weighted mean pinball loss by level (K,) [unit of y].
    active_
        Pairs (row, level) of the limit that were needed.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978); Bondell, Reich and Wang, "Noncrossing quantile
    regression curve estimation", Biometrika 97 (2010).
    """

    intercept_: FloatArray
    coef_: FloatArray
    certificate_: Certificate
    loss_: FloatArray
    active_: int

    def __init__(
        self,
        levels: Any = (0.5, 0.9, 0.95),
        ridge: float = 0.0,
        non_crossing: bool = True,
        solver: str | tuple[str, ...] = "auto",
        tol: float = 1e-6,
    ) -> None:
        self.levels = levels
        self.ridge = ridge
        self.non_crossing = non_crossing
        self.solver = solver
        self.tol = tol

    def fit(self, X: Any, y: Any, weights: Any = None) -> Self:
        """Fit all levels.

        Parameters
        ----------
        X
            Features (n, p); p = 0 fits the sample's quantiles. A constant feature keeps the slope 0.
        y
            Values (n,).
        weights
            Not negative (n,), in any scale.

        Raises
        ------
        InvalidInput
            NaN or inf, other lengths, bad levels, weights or ridge.
        SolverFailure
            No iterate passed our certificate.
        """
        levels, ridge = check_levels(self.levels), finite_scalar("ridge", self.ridge, minimum=0.0)
        X = check_features(X)
        y = finite_array("y", y, ndim=1)
        if y.shape != (X.shape[0],):
            raise InvalidInput("is not one per row", field="y", value=y.shape, remedy=f"pass shape ({X.shape[0]},)")
        w = check_weights(weights, len(y))
        X, y, w = X[w > 0.0], y[w > 0.0], w[w > 0.0]
        centre, scale = w @ X, np.sqrt(np.maximum(w @ (X - w @ X) ** 2, 0.0))
        used = scale > 1e-12 * np.maximum(1.0, np.abs(centre))
        Z = (X[:, used] - centre[used]) / scale[used]
        middle = float(np.median(y))
        size = float(w @ np.abs(y - middle)) or 1.0
        # Times the number of rows: the multipliers, between 0 and n w, are then about 1 whatever n.
        program = _Pinball(Z, (y - middle) / size, w * len(w), levels, ridge * size * len(w))
        found = self._solve(program)
        theta = found.x[: program.width].reshape(len(levels), -1)
        self.coef_ = np.zeros((len(levels), X.shape[1]))
        self.coef_[:, used] = size * theta[:, 1:] / scale[used]
        self.intercept_ = middle + size * theta[:, 0] - self.coef_ @ centre
        if self.non_crossing:
            self._uncross(X)
        self.certificate_ = found.certificate
        self.active_ = len(program.limits)
        residual = y[:, None] - self._value(X)
        self.loss_ = w @ np.maximum(levels * residual, (levels - 1.0) * residual)
        self.n_features_in_ = X.shape[1]
        return self

    def _solve(self, program: _Pinball) -> Solution:
        for _ in range(_MAX_ROUNDS):
            found = solve(program.build(), solver=self.solver, tol=self.tol, verify=False)
            if not found.status.ok:
                raise SolverFailure(
                    found.status.text,
                    field="quantile regression",
                    value=found.certificate.summary() if found.certificate else None,
                    remedy="add a small ridge, loosen tol, or name another solver",
                )
            if not self.non_crossing or not program.add_broken(found.x[: program.width], 10.0 * self.tol):
                return found
        raise SolverFailure(
            "limits of crossing were still broken",
            field="quantile regression",
            value=len(program.limits),
            remedy="pass fewer levels or loosen tol",
        )

    def _uncross(self, X: FloatArray) -> None:
        # The program keeps the limits within its tolerance; intercepts raised by what is left keep them exactly.
        for k in range(1, len(self.intercept_)):
            gap = self._value(X)[:, k] - self._value(X)[:, k - 1]
            self.intercept_[k:] += max(0.0, -float(gap.min()))

    def _value(self, X: FloatArray) -> FloatArray:
        value: FloatArray = self.intercept_ + X @ self.coef_.T
        return value

    def predict(self, X: Any) -> FloatArray:
        """Return the quantiles (n, K), not decreasing along each row.

        Beyond the hull of the training rows the lines may cross: there the larger one is carried on to the levels above
        (a running maximum; nothing changes within the hull).

        Raises
        ------
        InvalidInput
            Not fitted, NaN or inf, another number of columns.
        """
        self._require("coef_")
        value = self._value(check_features(X, self.n_features_in_))
        return np.maximum.accumulate(value, axis=1) if self.non_crossing else value

    def to_frame(self) -> pd.DataFrame:
        """Return levels × ``intercept``, slopes ``b0``…, ``loss``."""
        self._require("coef_")
        names = ["intercept", *(f"b{j}" for j in range(self.coef_.shape[1])), "loss"]
        table = np.column_stack([self.intercept_, self.coef_, self.loss_])
        return pd.DataFrame(table, index=pd.Index(check_levels(self.levels), name="level"), columns=names)


class _Pinball:
    """The program over θ (K blocks of intercept and slopes) and s (K n): ρ_τ(r) = τ r + s, s ≥ 0, s ≥ −r."""

    def __init__(self, Z: FloatArray, y: FloatArray, w: FloatArray, levels: FloatArray, ridge: float) -> None:
        self.D = np.column_stack([np.ones(len(y)), Z])
        self.y, self.w, self.levels, self.ridge = y, w, levels, ridge
        self.n, self.block = self.D.shape
        self.width = self.block * len(levels)
        self.limits: list[tuple[int, int]] = []
        self._held: set[tuple[int, int]] = set()
        eye = sparse.identity(len(levels), format="csr")
        # s ≥ −r is s − Dθ ≥ −y.
        self.rows: Any = sparse.hstack(
            [sparse.kron(eye, sparse.csr_array(-self.D)), sparse.identity(self.n * len(levels))], format="csr"
        )

    def build(self) -> QuadraticProgram:
        K, n, b = len(self.levels), self.n, self.block
        size = self.width + K * n
        penalty = np.zeros((K, b))
        penalty[:, 1:] = self.ridge
        P = sparse.diags_array(np.append(penalty.ravel(), np.zeros(K * n)), format="csc")
        mean = self.w @ self.D
        q = np.concatenate([np.outer(-self.levels, mean).ravel(), np.tile(self.w, K)])
        A, lower = self.rows, np.tile(-self.y, K)
        if self.limits:
            i, k = np.array(self.limits).T
            block = sparse.lil_array((len(i), size))
            for row, (at, level) in enumerate(zip(i, k, strict=True)):
                block[row, level * b : (level + 1) * b] = -self.D[at]
                block[row, (level + 1) * b : (level + 2) * b] = self.D[at]
            A = sparse.vstack([A, block.tocsr()])
            lower = np.append(lower, np.zeros(len(i)))
        box = np.append(np.full(self.width, -np.inf), np.zeros(K * n))
        constant = float(self.levels.sum() * (self.w @ self.y))
        return QuadraticProgram(P, q, A, lower, np.full(len(lower), np.inf), box, np.full(size, np.inf), constant)

    def add_broken(self, theta: FloatArray, slack: float) -> bool:
        """Add the worst broken limit of each pair of levels and those at its edges; False when none is broken."""
        value = self.D @ theta.reshape(len(self.levels), -1).T
        added = False
        for k in range(len(self.levels) - 1):
            gap = value[:, k + 1] - value[:, k]
            worst = np.argsort(gap)[: 4 * self.block]
            for i in worst[gap[worst] < -slack]:
                if (int(i), k) not in self._held:
                    self._held.add((int(i), k))
                    self.limits.append((int(i), k))
                    added = True
        return added
