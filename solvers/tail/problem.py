"""The pure problem: a convex tail measure over scenarios whose costs share one quadratic kernel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["Array", "TailProgram", "tail_caps", "worst_mean"]

Array = NDArray[np.float64]


def _frozen(value: Any, name: str, shape: tuple[int, ...], minimum: float | None = None) -> Array:
    try:
        out = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInput("must be numeric", field=name, value=value, remedy="give an array of floats") from error
    if out.shape != shape:
        raise InvalidInput(f"must have the shape {shape}", field=name, value=out.shape, remedy="see TailProgram")
    bad = ~np.isfinite(out) if minimum is None else ~(np.isfinite(out) & (out >= minimum))
    if bad.any():
        at = tuple(int(k) for k in np.argwhere(bad)[0])
        raise InvalidInput(
            f"{int(bad.sum())} entries are not finite" + ("" if minimum is None else f" or below {minimum:g}"),
            field=name,
            value=(at, float(out[at])),
            remedy="find where they come from",
        )
    out.setflags(write=False)
    return out


def _sparse(value: Any, name: str, columns: int) -> sp.csr_array:
    matrix = sp.csr_array(value, dtype=np.float64)
    if matrix.shape[1] != columns or not np.isfinite(matrix.data).all():
        raise InvalidInput(f"must be finite with {columns} columns", field=name, value=matrix.shape, remedy="see rows")
    return matrix


@dataclass(frozen=True, eq=False)
class TailProgram:
    r"""A tail program over S scenarios with one decision x (n,).

    .. math::

        \min_x\ q'x + \tfrac12 x'\,\mathrm{diag}(r)\,x + \sum_s p_s c_s(x)
            + \lambda \max\{ \textstyle\sum_s w_s c_s(x) : 0 \le w \le \pi,\ \sum_s w_s = 1 \}

    .. math::

        c_s(x) = c^0_s + a_s'x + \tfrac12 v_s' K v_s,\qquad v_s = P\,(\psi_s \circ x)

    subject to ``x ≥ 0``, ``E x = e``, ``G x ≤ h``. With ``π_s = p_s / (1 − α)`` the maximum is CVaR_α of the costs
    (Rockafellar and Uryasev 2000, eq. 17; the maximum is its dual form): see :func:`tail_caps`.

    Parameters
    ----------
    linear
        a (S, n), finite.
    scale
        ψ (S, n) ≥ 0: how much of each variable is there in each scenario.
    cells
        P (c, n), sparse: which variables meet in one cell of the kernel.
    kernel
        K (c, c), symmetric PSD.
    probabilities
        p (S,) > 0, summing to 1 up to 1e-9; scenarios without probability are left out by the caller.
    caps
        π (S,) ≥ 0, summing to at least 1: largest weight of each scenario in the tail.
    risk
        λ ≥ 0.
    constant
        c⁰ (S,); default 0.
    base
        q (n,); default 0.
    ridge
        r (n,) ≥ 0; default 0.
    equal, equal_to
        E (J, n) sparse with entries ≥ 0, e (J,) ≥ 0: every variable stands in one of these rows at least, so that it
        is bounded.
    rows, rows_to
        G (R, n) sparse, h (R,).

    Raises
    ------
    InvalidInput
        On NaN, other shapes, negative probabilities or caps, an indefinite kernel, a variable without a bound.
    """

    linear: Array
    scale: Array
    cells: sp.csr_array
    kernel: Array
    probabilities: Array
    caps: Array
    risk: float
    equal: sp.csr_array
    equal_to: Array
    rows: sp.csr_array
    rows_to: Array
    constant: Array = field(default_factory=lambda: np.zeros(0))
    base: Array = field(default_factory=lambda: np.zeros(0))
    ridge: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        shape = np.shape(self.linear)
        if len(shape) != 2 or 0 in shape:
            raise InvalidInput(
                "must have scenarios and variables", field="linear", value=shape, remedy="give (S, n), neither zero"
            )
        S, n = shape
        put("linear", _frozen(self.linear, "linear", (S, n)))
        put("scale", _frozen(self.scale, "scale", (S, n), 0.0))
        put("cells", _sparse(self.cells, "cells", n))
        put("equal", _sparse(self.equal, "equal", n))
        put("rows", _sparse(self.rows, "rows", n))
        c = self.cells.shape[0]
        put("kernel", _frozen(self.kernel, "kernel", (c, c)))
        put("probabilities", _frozen(self.probabilities, "probabilities", (S,), 0.0))
        put("caps", _frozen(self.caps, "caps", (S,), 0.0))
        put("equal_to", _frozen(self.equal_to, "equal_to", (self.equal.shape[0],), 0.0))
        put("rows_to", _frozen(self.rows_to, "rows_to", (self.rows.shape[0],)))
        for name, length, low in (("constant", S, None), ("base", n, None), ("ridge", n, 0.0)):
            value = getattr(self, name)
            put(name, _frozen(np.zeros(length) if np.size(value) == 0 else value, name, (length,), low))
        risk = float(self.risk)
        if not (np.isfinite(risk) and risk >= 0.0):
            raise InvalidInput("must be finite and ≥ 0", field="risk", value=risk, remedy="0 leaves the mean alone")
        put("risk", risk)
        self._check()

    def _check(self) -> None:
        p = self.probabilities
        if not (p > 0.0).all() or abs(p.sum() - 1.0) > 1e-9:
            raise InvalidInput(
                "must be positive and sum to 1",
                field="probabilities",
                value=(float(p.min()), float(p.sum())),
                remedy="drop scenarios without probability and normalise",
            )
        if self.caps.sum() < 1.0 - 1e-12:
            raise InvalidInput(
                "leave no tail of weight 1", field="caps", value=float(self.caps.sum()), remedy="raise them"
            )
        if not np.allclose(self.kernel, self.kernel.T, rtol=1e-12, atol=0.0):
            raise InvalidInput("is not symmetric", field="kernel", remedy="symmetrise it")
        size = float(np.abs(self.kernel).max(initial=0.0))
        if size > 0.0:
            # A Cholesky of the shifted matrix is a proof; eigenvalues are asked only where it fails.
            try:
                np.linalg.cholesky(self.kernel + 1e-12 * size * len(self.kernel) * np.eye(len(self.kernel)))
            except np.linalg.LinAlgError:
                least = float(np.linalg.eigvalsh(self.kernel)[0])
                raise InvalidInput(
                    "is indefinite: the costs would not be convex", field="kernel", value=least, remedy="repair it"
                ) from None
        if (self.equal.data < 0.0).any() or np.isinf(self.bounds).any():
            raise InvalidInput(
                "must be ≥ 0 and hold every variable", field="equal", remedy="bound each variable by a row of E"
            )

    @property
    def scenarios(self) -> int:
        """S."""
        return int(self.linear.shape[0])

    @property
    def n(self) -> int:
        """Number of variables."""
        return int(self.linear.shape[1])

    @property
    def bounds(self) -> Array:
        """Upper bounds (n,) that follow from E x = e, x ≥ 0; inf where none does."""
        coo = self.equal.tocoo()
        out = np.full(self.n, np.inf)
        used = coo.data > 0.0
        np.minimum.at(out, coo.col[used], self.equal_to[coo.row[used]] / coo.data[used])
        return out

    def with_risk(self, risk: float, caps: Array | None = None) -> TailProgram:
        """Return the program with another λ, and other caps where given."""
        return replace(self, risk=risk, caps=self.caps if caps is None else caps)

    def cell_values(self, x: Array) -> Array:
        """Return v (S, c)."""
        out: Array = (self.cells @ (self.scale * x).T).T
        return out

    def costs(self, x: Array) -> Array:
        """Return c_s(x) (S,)."""
        v = self.cell_values(x)
        out: Array = self.constant + self.linear @ x + 0.5 * np.einsum("sc,sc->s", v @ self.kernel, v)
        return out

    def objective(self, x: Array) -> float:
        """Return the whole objective at x."""
        c = self.costs(x)
        value = float(self.base @ x + 0.5 * self.ridge @ (x * x) + self.probabilities @ c)
        return value + self.risk * worst_mean(c, self.caps)[0] if self.risk else value

    def violation(self, x: Array) -> float:
        """Return the largest miss of a limit, relative to the largest bound (or 1)."""
        size = max(1.0, float(np.abs(self.equal_to).max(initial=0.0)))
        worst = max(0.0, float(-x.min(initial=0.0)))
        worst = max(worst, float(np.abs(self.equal @ x - self.equal_to).max(initial=0.0)))
        return max(worst, float((self.rows @ x - self.rows_to).max(initial=0.0))) / size


def tail_caps(probabilities: Array, alpha: float) -> Array:
    """Return π = p/(1 − α) (S,), with which the tail term is CVaR_α.

    Raises
    ------
    InvalidInput
        For α outside [0, 1).
    """
    if not 0.0 <= alpha < 1.0:
        raise InvalidInput("is outside [0, 1)", field="alpha", value=alpha, remedy="0.95 looks at the worst 5 %")
    return np.asarray(probabilities, dtype=np.float64) / (1.0 - alpha)


def worst_mean(costs: Array, caps: Array) -> tuple[float, Array]:
    """Return max { Σ w c : 0 ≤ w ≤ π, Σ w = 1 } and the weights (S,) that reach it: the dearest first."""
    order = np.argsort(-costs, kind="stable")
    room = caps[order]
    before = np.cumsum(room) - room
    weight = np.empty_like(room)
    weight[order] = np.clip(1.0 - before, 0.0, room)
    used = weight > 0.0
    return float(weight[used] @ costs[used]), weight
