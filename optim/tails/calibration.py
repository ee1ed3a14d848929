"""Calibration of class probabilities on rows that the model has not seen: temperature, vector, isotonic."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.checks import FloatArray, finite_scalar
from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.checks import check_features, check_weights
from crosswind.optim.tails.logistic import softmax
from crosswind.optim.tails.newton import newton
from crosswind.solvers.errors import InvalidInput

__all__ = ["IsotonicCalibration", "TemperatureScaling", "VectorScaling", "check_classes", "check_probabilities"]

_LEAST = 1e-12  # probabilities below it have no usable logarithm
_SUM = 1e-6


def check_probabilities(probabilities: Any, classes: int | None = None) -> FloatArray:
    """Return probabilities (n, K) with rows summing to 1 (renormalised within 1e-6).

    Raises
    ------
    InvalidInput
        Negative entries, rows that do not sum to 1, another number of columns.
    """
    P = check_features(probabilities, classes, "probabilities")
    total = P.sum(axis=1)
    off = float(np.abs(total - 1.0).max())
    if P.shape[1] < 2 or (P < 0.0).any() or off > _SUM:
        raise InvalidInput(
            "are not rows of two or more classes that sum to 1",
            field="probabilities",
            value=float(P.min()) if (P < 0.0).any() else off,
            remedy="pass one column for each class",
        )
    scaled: FloatArray = P / total[:, None]
    return scaled


def check_classes(outcomes: Any, rows: int, classes: int) -> NDArray[np.intp]:
    """Return class numbers (n,) in 0 … K − 1.

    Raises
    ------
    InvalidInput
        Of another length, not whole, or out of range.
    """
    codes = np.asarray(outcomes)
    whole = codes.dtype.kind in "iu" or (codes.dtype.kind == "f" and bool(np.all(codes == np.floor(codes))))
    if codes.shape != (rows,) or not whole or (codes < 0).any() or (codes >= classes).any():
        raise InvalidInput(
            "are not class numbers, one per row",
            field="outcomes",
            value=codes.shape if codes.shape != (rows,) else codes[:3].tolist(),
            remedy=f"pass integers 0 … {classes - 1}, {rows} of them",
        )
    return codes.astype(np.intp)


class _Scaling(Parameters):
    """Convex calibration of log-probabilities l: softmax(a∘l + b), penalised towards a = 1, b = 0."""

    ridge: float
    tol: float
    slope_: FloatArray
    shift_: FloatArray
    gradient_: float

    def _fit(self, probabilities: Any, outcomes: Any, weights: Any, shared: bool) -> None:
        P = check_probabilities(probabilities)
        n, K = P.shape
        codes = check_classes(outcomes, n, K)
        w, ridge = check_weights(weights, n), finite_scalar("ridge", self.ridge, minimum=0.0)
        L = _logarithms(P)
        Y = np.zeros((n, K))
        Y[np.arange(n), codes] = 1.0

        def derivatives(x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
            a, b = (np.full(K, x[0]), np.zeros(K)) if shared else (x[:K], x[K:])
            logit = a * L + b
            Q = softmax(logit)
            off = x - home
            log_sum = logit.max(axis=1) + np.log(np.exp(logit - logit.max(axis=1)[:, None]).sum(axis=1))
            value = float(w @ (log_sum - (Y * logit).sum(axis=1)) + 0.5 * ridge * off @ off)
            R = w[:, None] * (Q - Y)
            if shared:
                mean = (Q * L).sum(axis=1)
                curvature = float(w @ ((Q * L**2).sum(axis=1) - mean**2))
                return value, np.array([(R * L).sum()]) + ridge * off, np.array([[curvature + ridge]])
            gradient = np.concatenate([(R * L).sum(axis=0), R.sum(axis=0)]) + ridge * off
            J = np.concatenate([L * Q, Q], axis=1)
            H = -(w[:, None] * J).T @ J
            for k in range(K):
                d = w * Q[:, k]
                H[k, k] += d @ L[:, k] ** 2
                H[k, K + k] += d @ L[:, k]
                H[K + k, k] += d @ L[:, k]
                H[K + k, K + k] += d.sum()
            H[np.diag_indices(2 * K)] += ridge
            return value, gradient, H

        home = np.ones(1) if shared else np.append(np.ones(K), np.zeros(K))
        found = newton(derivatives, home, self.tol)
        self.slope_ = np.full(K, found.x[0]) if shared else found.x[:K]
        self.shift_ = np.zeros(K) if shared else found.x[K:]
        self.gradient_ = found.gradient

    def predict_proba(self, probabilities: Any) -> FloatArray:
        """Return calibrated probabilities (n, K), rows summing to 1.

        Raises
        ------
        InvalidInput
            Not fitted, or other columns.
        """
        self._require("slope_")
        P = check_probabilities(probabilities, len(self.slope_))
        return softmax(self.slope_ * _logarithms(P) + self.shift_)


def _logarithms(P: FloatArray) -> FloatArray:
    # Less their mean over the classes: with slopes of their own, a shift that is common to all would matter.
    L = np.log(np.maximum(P, _LEAST))
    centred: FloatArray = L - L.mean(axis=1, keepdims=True)
    return centred


class TemperatureScaling(_Scaling):
    """p_k ∝ p_k^(1/T): one number that sharpens (T < 1) or softens (T > 1) all probabilities.

    Minimises the mean log loss in 1/T, which is convex, plus ½ ridge (1/T − 1)².

    Parameters
    ----------
    ridge
        Pull towards T = 1.
    tol
        Of the gradient.

    Attributes
    ----------
    temperature_
        T; infinite where the probabilities tell nothing, negative where they are upside down.
    gradient_
        Gradient at the optimum.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2.
    """

    temperature_: float

    def __init__(self, ridge: float = 1e-6, tol: float = 1e-9) -> None:
        self.ridge = ridge
        self.tol = tol

    def fit(self, probabilities: Any, outcomes: Any, weights: Any = None) -> Self:
        """Fit T on probabilities (n, K) and class numbers (n,) of rows that the model has not seen.

        Raises
        ------
        InvalidInput
            Rows that do not sum to 1, classes out of range, bad weights.
        SolverFailure
            No convergence.
        """
        self._fit(probabilities, outcomes, weights, shared=True)
        inverse = float(self.slope_[0])
        self.temperature_ = 1.0 / inverse if inverse else float("inf")
        return self


class VectorScaling(_Scaling):
    """p_k ∝ exp(a_k l_k + b_k), l the log-probabilities less their mean: a slope and a shift for each class.

    Minimises the mean log loss plus ½ ridge (‖a − 1‖² + ‖b‖²).

    Parameters
    ----------
    ridge
        Pull towards no change; it also settles the common shift of all b.
    tol
        Of the gradient.

    Attributes
    ----------
    slope_, shift_
        a and b (K,).
    gradient_
        Largest entry of the gradient at the optimum.
    """

    def __init__(self, ridge: float = 1e-4, tol: float = 1e-9) -> None:
        self.ridge = ridge
        self.tol = tol

    def fit(self, probabilities: Any, outcomes: Any, weights: Any = None) -> Self:
        """Fit a and b on probabilities (n, K) and class numbers (n,) of rows that the model has not seen.

        Raises
        ------
        InvalidInput
            Rows that do not sum to 1, classes out of range, bad weights.
        SolverFailure
            No convergence.
        """
        self._fit(probabilities, outcomes, weights, shared=False)
        return self

    def to_frame(self) -> pd.DataFrame:
        """Return class number × ``slope``, ``shift``."""
        self._require("slope_")
        return pd.DataFrame({"slope": self.slope_, "shift": self.shift_})


class IsotonicCalibration(Parameters):
    """A rising step function for each class (one against the rest), joined by lines, renormalised to sum 1.

    Least squares among rising functions (pool adjacent violators), shrunk to the class's frequency by ``smoothing``
    rows so that no block has probability 0 or 1.

    Parameters
    ----------
    smoothing
        Rows at the class's frequency that are added to every block.

    Attributes
    ----------
    knots_
        By class, the blocks' mean probabilities and frequencies (2, m).

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates" (2002).
    """

    knots_: list[FloatArray]

    def __init__(self, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def fit(self, probabilities: Any, outcomes: Any, weights: Any = None) -> Self:
        """Fit the functions on probabilities (n, K) and class numbers (n,) of rows that the model has not seen.

        Raises
        ------
        InvalidInput
            Rows that do not sum to 1, classes out of range, bad weights, negative smoothing.
        """
        from scipy.optimize import isotonic_regression

        P = check_probabilities(probabilities)
        codes = check_classes(outcomes, *P.shape)
        mass = check_weights(weights, len(P)) * len(P)
        extra = finite_scalar("smoothing", self.smoothing, minimum=0.0)
        P, codes, mass = P[mass > 0.0], codes[mass > 0.0], mass[mass > 0.0]
        knots = []
        for k in range(P.shape[1]):
            # Equal probabilities get one value: they are joined first.
            at, inverse = np.unique(P[:, k], return_inverse=True)
            w = np.bincount(inverse, weights=mass)
            hit = np.bincount(inverse, weights=mass * (codes == k)) / w
            fitted = isotonic_regression(hit, weights=w).x
            base = float(mass @ (codes == k) / mass.sum())
            edges = np.flatnonzero(np.append(True, np.diff(fitted) > 1e-15))
            rows = np.add.reduceat(w, edges)
            centre = np.add.reduceat(w * at, edges) / rows
            value = (np.add.reduceat(w * fitted, edges) + extra * base) / (rows + extra)
            # Shrinking small blocks more can break the order at the ends: fit once more, by their rows.
            knots.append(np.vstack([centre, isotonic_regression(value, weights=rows).x]))
        self.knots_ = knots
        return self

    def predict_proba(self, probabilities: Any) -> FloatArray:
        """Return calibrated probabilities (n, K), rows summing to 1.

        Where all functions are zero the given row is kept.

        Raises
        ------
        InvalidInput
            Not fitted, or other columns.
        """
        self._require("knots_")
        P = check_probabilities(probabilities, len(self.knots_))
        out = np.column_stack([np.interp(P[:, k], *self.knots_[k]) for k in range(P.shape[1])])
        total = out.sum(axis=1, keepdims=True)
        return np.where(total > 0.0, out / np.where(total > 0.0, total, 1.0), P)
