"""Multinomial logistic regression by Newton, its ridge by cross-validation over whole groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.checks import check_features, check_groups, check_weights
from crosswind.optim.tails.newton import NewtonResult, newton
from crosswind.solvers.errors import InvalidInput, SolverFailure

__all__ = ["LogisticCertificate", "MultinomialLogistic", "softmax"]

# Curvature that fell by this factor from the start to the optimum: the classes are separated and no optimum exists.
_VANISHED = 1e-8


@dataclass(frozen=True)
class LogisticCertificate:
    """Why a fit is an optimum: the loss is convex, so its gradient alone tells.

    Parameters
    ----------
    gradient
        Largest entry of the gradient of the penalised mean loss, in standardised features.
    decrement
        ½ g'H⁻¹g, about what is left to gain.
    loss
        Penalised mean loss.
    iterations
        Newton's steps.
    """

    gradient: float
    decrement: float
    loss: float
    iterations: int


class MultinomialLogistic(Parameters):
    """P(k | x) = exp(a_k + b_k'x) / Σ_l exp(a_l + b_l'x).

    Minimises −Σ_i w_i log P(k_i | x_i) + ½ ridge Σ_k ‖s∘b_k‖², w normalised to sum 1, s the standard deviations of the
    features; intercepts are free and shifted to sum zero.

    Parameters
    ----------
    ridge
        One number, or several from which cross-validation takes the one with the least loss on left-out folds.
    classes
        Labels in the order of the columns; None: those that occur, sorted.
    smoothing
        Weight, in rows, of a row at the features' mean whose class is spread evenly: keeps classes of ``classes`` that
        never occur at a small positive probability.
    folds
        Of the cross-validation, over whole groups.
    tol
        Largest entry of the gradient at the optimum.

    Attributes
    ----------
    classes_
        Labels (K,).
    intercept_, coef_
        (K,) and (K, p).
    ridge_
        Ridge used.
    certificate_
        :class:`LogisticCertificate`.
    cv_
        Ridge → mean log loss on left-out folds; None for a single ridge.
    held_out_
        Probabilities (n, K) of the rows by the fits that left their fold out, at the ridge used: what a calibration may
        learn from. None for a single ridge.
    """

    classes_: NDArray[Any]
    intercept_: FloatArray
    coef_: FloatArray
    ridge_: float
    certificate_: LogisticCertificate
    cv_: pd.Series[Any] | None
    held_out_: FloatArray | None

    def __init__(
        self,
        ridge: Any = 1e-4,
        classes: Any = None,
        smoothing: float = 0.0,
        folds: int = 5,
        tol: float = 1e-8,
    ) -> None:
        self.ridge = ridge
        self.classes = classes
        self.smoothing = smoothing
        self.folds = folds
        self.tol = tol

    def fit(self, X: Any, y: Any, weights: Any = None, groups: Any = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X
            Features (n, p). A constant one keeps the coefficient 0.
        y
            Labels (n,).
        weights
            Not negative (n,), in any scale.
        groups
            Labels (n,) that folds keep together, e.g. the day; None: rows.

        Raises
        ------
        InvalidInput
            NaN or inf, other lengths, a label outside ``classes``, a class that never occurs without smoothing.
        SolverFailure
            Separated classes with ridge 0, or no convergence.
        """
        ridges = np.unique(finite_array("ridge", np.atleast_1d(np.asarray(self.ridge)), minimum=0.0, ndim=1))
        smoothing = finite_scalar("smoothing", self.smoothing, minimum=0.0)
        X = check_features(X)
        codes = self._codes(np.asarray(y), len(X))
        mass = check_weights(weights, len(X)) * len(X)
        K = len(self.classes_)
        Y = np.zeros((len(X), K))
        Y[np.arange(len(X)), codes] = 1.0
        missing = (mass @ Y) == 0.0
        if missing.any() and smoothing == 0.0:
            raise InvalidInput(
                "some never occur, their probability would be 0",
                field="classes",
                value=[str(c) for c in self.classes_[missing]],
                remedy="pass smoothing > 0 or leave them out",
            )
        centre = mass @ X / len(X)
        scale = np.sqrt(np.maximum(mass @ (X - centre) ** 2 / len(X), 0.0))
        used = scale > 1e-12 * np.maximum(1.0, np.abs(centre))
        Z = np.column_stack([np.ones(len(X)), (X[:, used] - centre[used]) / scale[used]])
        self.cv_, self.held_out_ = None, None
        if len(ridges) > 1:
            self.cv_, held_out = self._cross_validate(Z, Y, mass, ridges[::-1], groups, smoothing)
            best = int(self.cv_.argmin())
            self.ridge_, self.held_out_ = float(self.cv_.index[best]), held_out[best]
        else:
            self.ridge_ = float(ridges[0])
        found = _fit(Z, Y, mass, self.ridge_, smoothing, self.tol, None)
        B = found.x.reshape(K, -1)
        self.certificate_ = LogisticCertificate(found.gradient, found.decrement, found.value, found.iterations)
        self.coef_ = np.zeros((K, X.shape[1]))
        self.coef_[:, used] = B[:, 1:] / scale[used]
        intercept = B[:, 0] - self.coef_ @ centre
        self.intercept_ = intercept - intercept.mean()
        self.n_features_in_ = X.shape[1]
        return self

    def _codes(self, labels: NDArray[Any], rows: int) -> NDArray[np.intp]:
        if self.classes is None:
            codes, self.classes_ = check_groups(labels, rows, "y")
            return codes
        self.classes_ = np.asarray(self.classes)
        if labels.shape != (rows,):
            raise InvalidInput("is not one per row", field="y", value=labels.shape, remedy=f"pass shape ({rows},)")
        place = {label: k for k, label in enumerate(self.classes_.tolist())}
        if len(place) < len(self.classes_):
            raise InvalidInput("holds a duplicate", field="classes", value=list(place), remedy="name each once")
        unknown = sorted({str(x) for x in labels.tolist() if x not in place})
        if unknown:
            raise InvalidInput("is none of the classes", field="y", value=unknown[0], remedy=f"one of {list(place)}")
        return np.array([place[x] for x in labels.tolist()], dtype=np.intp)

    def _cross_validate(
        self, Z: FloatArray, Y: FloatArray, mass: FloatArray, ridges: FloatArray, groups: Any, smoothing: float
    ) -> tuple[pd.Series[Any], FloatArray]:
        codes = np.arange(len(Z)) if groups is None else check_groups(groups, len(Z))[0]
        folds = int(min(max(2, self.folds), codes.max() + 1))
        if folds < 2:
            raise InvalidInput(
                "cross-validation needs two groups", field="groups", value=folds, remedy="pass more, or one ridge"
            )
        # Groups dealt out in turn: the folds are as like as the groups and need no seed.
        fold = codes % folds
        loss = np.zeros(len(ridges))
        probabilities = np.zeros((len(ridges), *Y.shape))
        # Each fold's loss is needed to a share of the differences between ridges only.
        tol = max(self.tol, 1e-6)
        for k in range(folds):
            inside, start = fold != k, None
            # A class that the fold lacks would have probability zero: a hundredth of a row keeps the loss finite.
            least = max(smoothing, 0.01)
            for r, ridge in enumerate(ridges):
                start = _fit(Z[inside], Y[inside], mass[inside], float(ridge), least, tol, start).x
                P = softmax(Z[~inside] @ start.reshape(Y.shape[1], -1).T)
                probabilities[r, ~inside] = P
                loss[r] -= float(mass[~inside] @ np.log((P * Y[~inside]).sum(axis=1)))
        table = pd.Series(loss / mass.sum(), index=pd.Index(ridges, name="ridge"), name="log_loss")
        return table, probabilities

    def decision_function(self, X: Any) -> FloatArray:
        """Return the logits a_k + b_k'x (n, K).

        Raises
        ------
        InvalidInput
            Not fitted, NaN or inf, another number of columns.
        """
        self._require("coef_")
        value: FloatArray = self.intercept_ + check_features(X, self.n_features_in_) @ self.coef_.T
        return value

    def predict_proba(self, X: Any) -> FloatArray:
        """Return probabilities (n, K), each row summing to 1, columns in the order of ``classes_``."""
        return softmax(self.decision_function(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest label of each row (n,)."""
        likeliest: NDArray[Any] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return likeliest

    def to_frame(self) -> pd.DataFrame:
        """Return classes × ``intercept`` and slopes ``b0`` to ``b(p−1)``."""
        self._require("coef_")
        names = ["intercept", *(f"b{j}" for j in range(self.coef_.shape[1]))]
        return pd.DataFrame(
            np.column_stack([self.intercept_, self.coef_]), index=pd.Index(self.classes_, name="class"), columns=names
        )


def softmax(logits: FloatArray) -> FloatArray:
    """Return exp(z_k)/Σ exp(z_l) along the last axis, without overflow."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    share: FloatArray = e / e.sum(axis=-1, keepdims=True)
    return share


def _fit(
    Z: FloatArray,
    Y: FloatArray,
    mass: FloatArray,
    ridge: float,
    smoothing: float,
    tol: float,
    start: FloatArray | None,
) -> NewtonResult:
    """Return the minimiser over B (K, p + 1), row by row."""
    K, width = Y.shape[1], Z.shape[1]
    if smoothing > 0.0:
        Z = np.vstack([Z, np.append(1.0, np.zeros(width - 1))])
        Y = np.vstack([Y, np.full(K, 1.0 / K)])
        mass = np.append(mass, smoothing)
    w = mass / mass.sum()
    penalty = np.tile(np.append(0.0, np.full(width - 1, ridge)), K)

    def derivatives(x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        logit = Z @ x.reshape(K, width).T
        top = logit.max(axis=1)
        log_sum = top + np.log(np.exp(logit - top[:, None]).sum(axis=1))
        P = np.exp(logit - log_sum[:, None])
        value = float(w @ (log_sum - (Y * logit).sum(axis=1)) + 0.5 * penalty @ x**2)
        gradient = ((w[:, None] * (P - Y)).T @ Z).ravel() + penalty * x
        H = np.empty((K, width, K, width))
        for k in range(K):
            for m in range(k, K):
                weight = w * P[:, k] * ((k == m) - P[:, m])
                H[k, :, m, :] = Z.T @ (weight[:, None] * Z)
                H[m, :, k, :] = H[k, :, m, :]
        hessian = H.reshape(K * width, K * width)
        hessian[np.diag_indices(K * width)] += penalty
        return value, gradient, hessian

    first = np.zeros(K * width) if start is None else start
    found = newton(derivatives, first, tol)
    if ridge == 0.0 and K > 1:
        curvature = [np.sort(np.linalg.eigvalsh(h))[width] for h in (derivatives(0.0 * first)[2], found.hessian)]
        if curvature[1] < _VANISHED * curvature[0]:
            raise SolverFailure(
                "the classes can be separated: no coefficients are best",
                field="ridge",
                value=ridge,
                remedy="pass a ridge above 0",
            )
    return found
