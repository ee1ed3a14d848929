"""What stands above the noise: cross-impact in coordinates where noise has a known spectrum.

Own-flow residuals e and regressors z, both whitened, have the sample canonical correlations σ_k as singular values of

    T = R^{−½} (B − X_own S) S^{−½},     R = e'e/E,  S = z'z/E.

Where returns know nothing of other names' flow, their squares follow Wachter's law, whose edge

    λ₊ = (√(p(1 − q)) + √(q(1 − p)))²,    p = N/E,  q = NM/E

is Marchenko and Pastur's (√p + √q)² for E ≫ NM; the largest one wavers about it by Johnstone's (2008) approximation,
logit σ₁² ≈ μ + s·TW₁, whose 95 % quantile is drawn as the noise edge. What lies above is cross-impact that the data can
tell from noise; the fitted matrices in the same coordinates, R^{−½}(X − X_own)S^{½}, show how much of it the fit keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["CrossSignal", "canonical_edge", "cross_signal", "effective_rank"]

Array = NDArray[np.float64]
_SINGULAR = 1e-12
_TRACY_WIDOM_95 = 0.9793  # of the law with β = 1


@dataclass(frozen=True, eq=False)
class CrossSignal:
    """Singular values of the cross terms before and after the constrained fit, with the edge of pure noise.

    Parameters
    ----------
    raw
        Of least squares, (N,), largest first, no unit: the sample canonical correlations.
    fitted
        Of the fitted matrices in the same coordinates.
    edge
        What the largest of pure noise stays below in 95 % of all samples.
    limit
        √λ₊, where the spectrum of pure noise ends for many names and rows.
    rows
        E.
    """

    raw: Array
    fitted: Array
    edge: float
    limit: float
    rows: int

    @property
    def above(self) -> int:
        """Number of directions of cross-impact above the edge."""
        return int((self.raw > self.edge).sum())

    @property
    def kept(self) -> float:
        """Share of the squared signal above the edge that the fit keeps; NaN where none stands above."""
        over = self.raw > self.edge
        total = float((self.raw[over] ** 2).sum())
        return float((self.fitted[over] ** 2).sum()) / total if total > 0 else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """One row per direction: "raw", "fitted", "above_noise"."""
        index = pd.RangeIndex(1, len(self.raw) + 1, name="rank")
        return pd.DataFrame({"raw": self.raw, "fitted": self.fitted, "above_noise": self.raw > self.edge}, index=index)

    def summary(self) -> str:
        """Say it in one line."""
        kept = f", of whose size the fit keeps {self.kept:.0%}" if self.above else ""
        count = f"{self.above} of {len(self.raw)} directions of cross-impact"
        return f"{count} stand above the noise edge {self.edge:.3g}{kept}"


def cross_signal(gram: Gram, model: ImpactModel) -> CrossSignal:
    """Compare least squares and a fitted model with the edge of noise.

    Parameters
    ----------
    gram
        Moments of the rows fitted on, ``estimator.grams_.total``.
    model
        The fitted model.

    Raises
    ------
    InvalidInput
        Moments of other names or shapes than the model's.
    DataGap
        No more rows than regressors, or returns that are collinear.
    """
    n, m, rows = gram.names, gram.shapes, float(gram.rows)
    if model.matrices.shape != (m, n, n):
        raise InvalidInput("moments of another model", field="gram", value=(m, n), remedy="pass estimator.grams_.total")
    if rows <= n * m + n:
        raise DataGap("noise needs more rows than regressors", field="gram", value=rows, remedy="give longer data")
    S, B = gram.S, gram.B
    own = np.zeros((n, n * m))
    for i in range(n):
        at = np.arange(m) * n + i
        own[i, at] = np.linalg.lstsq(S[np.ix_(at, at)], B[i, at], rcond=None)[0]
    R = gram.return_cov - own @ B.T - B @ own.T + own @ S @ own.T
    left = _inverse_root(R, "returns")
    root, inverse = _roots(S)
    X = model.matrices.transpose(1, 0, 2).reshape(n, -1)
    raw = np.linalg.svd(left @ (B - own @ S) @ inverse, compute_uv=False)
    fitted = np.linalg.svd(left @ (X - own) @ root, compute_uv=False)
    p, q = n / rows, n * m / rows
    limit = np.sqrt(p * (1.0 - q)) + np.sqrt(q * (1.0 - p))
    edge = canonical_edge(n, n * m, rows)
    return CrossSignal(np.asarray(raw, np.float64), np.asarray(fitted, np.float64), edge, float(limit), round(rows))


def canonical_edge(names: int, regressors: int, rows: float) -> float:
    """Return the 95 % quantile of the largest canonical correlation of two sets of independent Gaussian variables.

    Parameters
    ----------
    names, regressors, rows
        Sizes of the sets, and number of rows, more than both together.

    References
    ----------
    Johnstone (2008), multivariate analysis and Jacobi ensembles, equations (4) to (6).
    """
    total = rows - 1.0
    small, large = sorted((float(names), float(regressors)))
    gamma = 2.0 * np.arcsin(np.sqrt((small - 0.5) / total))
    phi = 2.0 * np.arcsin(np.sqrt((large - 0.5) / total))
    centre = 2.0 * np.log(np.tan(0.5 * (phi + gamma)))
    spread = (16.0 / total**2 / (np.sin(phi + gamma) ** 2 * np.sin(phi) * np.sin(gamma))) ** (1.0 / 3.0)
    return float(np.sqrt(1.0 / (1.0 + np.exp(-(centre + _TRACY_WIDOM_95 * spread)))))


def _inverse_root(R: Array, what: str) -> Array:
    values, vectors = np.linalg.eigh(0.5 * (R + R.T))
    if values[0] <= _SINGULAR * values[-1]:
        raise DataGap(f"{what} are collinear or constant", field="gram", value=f"{values[0]:.2g}", remedy="drop a name")
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def _roots(S: Array) -> tuple[Array, Array]:
    """S^{½} and its pseudo-inverse, after each regressor is brought to its own size; directions without flow are 0."""
    unit = np.sqrt(np.maximum(np.diag(S), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(0.5 * (S + S.T) / np.outer(unit, unit))
    keep = values > _SINGULAR * values[-1]
    size = np.sqrt(values[keep])
    # Any root serves: singular values do not change under a rotation on the right.
    return unit[:, None] * vectors[:, keep] * size, (vectors[:, keep] / size) / unit[:, None]


def effective_rank(model: ImpactModel) -> float:
    """Exponential of the entropy of the normalised impact matrix's eigenvalues: N for no cross terms, 1 for one mode.

    References
    ----------
    Roy and Vetterli (2007), the effective rank.
    """
    C = model.correlation.to_numpy()
    values = np.maximum(np.linalg.eigvalsh(0.5 * (C + C.T)), 0.0)
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
