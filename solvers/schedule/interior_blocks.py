"""The part of a Newton system that is one name's at a time: inverses of T × T blocks, split cells and hard ends."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from crosswind.solvers.schedule.interior_model import Model
from crosswind.solvers.schedule.interior_rows import Weights
from crosswind.solvers.schedule.problem import Array

__all__ = ["Blocks"]


def _inverted(A: Array) -> None:
    """Invert symmetric positive definite blocks (N, T, T) in place, upper triangles only.

    A block that rounding left indefinite is lifted on its diagonal until it is not; refinement takes the lift out.
    """
    diagonal = np.arange(A.shape[1])
    for block in A:
        kept = block[diagonal, diagonal].copy()
        # LAPACK works by columns: the lower triangle of the transpose is the upper one of the block.
        factor, info = lapack.dpotrf(block.T, lower=1, clean=0, overwrite_a=1)
        lift = 1e-15
        while info != 0:
            if not lift < 1.0 or not np.isfinite(kept).all():
                raise np.linalg.LinAlgError("a name's block is not positive definite")
            # The factor overwrote the upper triangle; the lower one still holds the matrix.
            again = np.tril(block, -1).T
            again[diagonal, diagonal] = kept * (1.0 + lift) + 1e-3 * lift * float(kept.max())
            block[:] = again + np.tril(block, -1)
            factor, info = lapack.dpotrf(block.T, lower=1, clean=0, overwrite_a=1)
            lift *= 100.0
        lapack.dpotri(factor, lower=1, overwrite_c=1)  # in place: the factor is the block


class Blocks:
    """Own Hessians of the names with the weights of boxes, changes and split cells, inverted and bordered by the ends.

    A split cell's t leaves by t = (r_t − (b − a)u)/(a + b), a and b the weights of t − u and t + u; what remains on u²
    is 4ab/(a + b). With a_i = A_i⁻¹1 the end's row turns A_i⁻¹ into A_i⁻¹ − a_i a_i'/(1'a_i + give_i).
    """

    def __init__(self, model: Model, weights: Weights) -> None:
        self.model = model
        free, a, b = model.free, weights.above, weights.below
        self.stiff = np.where(model.split, a + b, 1.0)
        self.lean = np.where(model.split, (b - a) / self.stiff, 0.0)
        own = (weights.box + np.where(model.split, 4.0 * a * (b / self.stiff), 0.0)) * free
        A = model.hessian.copy()
        T = len(free)
        diagonal = np.arange(T)
        if weights.change is not None:
            w = weights.change
            own = own + w * free
            own[:-1] += w[1:] * free[:-1]
            both = (w[1:] * (free[1:] & free[:-1])).T
            A[:, diagonal[1:], diagonal[:-1]] -= both
            A[:, diagonal[:-1], diagonal[1:]] -= both
        A[:, diagonal, diagonal] += own.T
        _inverted(A)
        up, right = np.triu_indices(T, 1)
        flat = A.reshape(len(A), -1)
        flat[:, right * T + up] = flat[:, up * T + right]
        A[:, diagonal, diagonal] *= free.T
        self.inverse = A
        self.a = A.sum(axis=2).T
        pivot = self.a.sum(axis=0) + model.give
        self.pivot = np.where(model.complete & (pivot > 0.0), pivot, np.inf)
        border = (self.a / np.sqrt(self.pivot)).T
        A -= border[:, :, None] * border[:, None, :]

    def solve(self, r: Array, need: Array) -> tuple[Array, Array]:
        """Return x (K, T, N) and ν (N,) for right sides r and ``need`` of the ends."""
        split = len(r) > 1
        reduced = r[0] - self.lean * r[1] if split else r[0]
        u = np.matmul(self.inverse, np.ascontiguousarray(reduced.T)[:, :, None])[:, :, 0].T
        u = u + self.a * (need / self.pivot)
        nu = ((self.a * reduced).sum(axis=0) - need) / self.pivot
        x = np.zeros_like(r)
        x[0] = u
        if split:
            x[1] = np.where(self.model.split, r[1] / self.stiff - self.lean * u, 0.0)
        return x, nu
