"""Preconditioned conjugate gradients for a stream of right-hand sides of one matrix, with directions kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crosswind.solvers.schedule.problem import Array

__all__ = ["Recycled"]

_KEPT = 40


class Recycled:
    """Solves Mx = b again and again; conjugate directions of earlier solves are projected out first.

    Parameters
    ----------
    operator, preconditioner
        x → Mx, symmetric and positive definite; an approximation of its inverse.
    """

    def __init__(self, operator: Callable[[Array], Array], preconditioner: Callable[[Array], Array]) -> None:
        self.operator, self.preconditioner = operator, preconditioner
        self.count = 0
        self.directions: Array | None = None  # rows p with p'Mp = 1
        self.images: Array | None = None

    def solve(self, b: Array, tolerance: float, most: int = 60) -> Array | None:
        """Return x with ‖b − Mx‖ in the norm of the preconditioner at most ``tolerance``; None for x = 0."""
        shape = b.shape
        r = b.ravel().copy()
        s = self.preconditioner(r.reshape(shape)).ravel()
        norm = float(r @ s)
        if not norm > tolerance**2:
            return None
        x = np.zeros(r.size)
        if self.directions is None:
            self.directions, self.images = np.empty((_KEPT, r.size)), np.empty((_KEPT, r.size))
        assert self.images is not None
        held = min(self.count, _KEPT)
        if held:
            P, Q = self.directions[:held], self.images[:held]
            part = P @ r
            x += part @ P
            r -= part @ Q
            s = self.preconditioner(r.reshape(shape)).ravel()
            norm = float(r @ s)
        d = np.zeros(r.size)
        beta = 0.0
        for _ in range(most):
            if not norm > tolerance**2:
                break
            d = s + beta * d
            held = min(self.count, _KEPT)
            if held:
                d -= (self.images[:held] @ d) @ self.directions[:held]
            image = self.operator(d.reshape(shape)).ravel()
            bend = float(d @ image)
            if not bend > 0.0 or not np.isfinite(bend):
                break
            scale = 1.0 / np.sqrt(bend)
            place = self.count % _KEPT
            p, q = scale * d, scale * image
            step = float(p @ r)
            x += step * p
            r -= step * q
            self.directions[place], self.images[place] = p, q
            self.count += 1
            s = self.preconditioner(r.reshape(shape)).ravel()
            new = float(r @ s)
            beta, norm = new / norm, new
        return x.reshape(shape)
