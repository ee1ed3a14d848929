"""Kyle's multi-asset impact matrix from the covariances of returns and flows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, check_psd, finite_array
from crosswind.solvers.errors import InvalidInput

__all__ = ["kyle_matrix"]


def kyle_matrix(return_cov: ArrayLike, flow_cov: ArrayLike) -> FloatArray:
    """Return Λ = L^{−T}(L'ΣL)^{½}L^{−1} with LL' = Ω: the symmetric PSD matrix with ΛΩΛ = Σ.

    It does not depend on the basis: Λ(PΣP', P^{−T}ΩP^{−1}) = PΛP'. It blows up as the flow of a name dries out, so
    regularise Ω before the call.

    Parameters
    ----------
    return_cov
        Σ (N, N), covariance of returns per bucket, PSD.
    flow_cov
        Ω (N, N), covariance of signed flow per bucket, currency², positive definite.

    Returns
    -------
    ndarray
        Λ (N, N), return per currency; multiply by one fitted scalar to meet the data.

    Raises
    ------
    InvalidInput
        Not symmetric PSD, unequal shapes, or a singular flow covariance.

    References
    ----------
    Caballé & Krishnan (1994); del Molino, Mastromatteo, Benzaquen & Bouchaud (2020).
    """
    sigma = check_psd("return_cov", finite_array("return_cov", return_cov, ndim=2))
    omega = check_psd("flow_cov", finite_array("flow_cov", flow_cov, ndim=2))
    if sigma.shape != omega.shape:
        raise InvalidInput(
            f"has shape {omega.shape} where {sigma.shape} is needed", field="flow_cov", remedy="same names in both"
        )
    # Flows of names differ by orders of magnitude: work in units of their deviations, which the identity allows.
    scale = np.sqrt(np.diag(omega))
    if (scale <= 0.0).any():
        raise InvalidInput("has a name without flow", field="flow_cov", value=0.0, remedy="drop or regularise it")
    correlation = omega / np.outer(scale, scale)
    if np.linalg.eigvalsh(correlation)[0] <= 1e-13:
        raise InvalidInput("is singular", field="flow_cov", remedy="add a ridge to its diagonal")
    factor = np.linalg.cholesky(correlation)
    middle = factor.T @ (sigma * np.outer(scale, scale)) @ factor
    values, vectors = np.linalg.eigh(0.5 * (middle + middle.T))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inverse = np.linalg.solve(factor, np.eye(len(factor)))
    result = inverse.T @ root @ inverse / np.outer(scale, scale)
    return np.asarray(0.5 * (result + result.T), dtype=np.float64)
