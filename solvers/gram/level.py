r"""Coordinates in which every row of the fit weighs the same.

With r_i = √w_i and K = R⁻¹ K' R⁻¹, R = diag(r), the rows are x_ij = x'_ij/(r_i r_j) and

    w_i (½ x_i S x_i' − x_i b_i') = ½ x'_i S' x'_i' − x'_i b'_i',   S' = R⁻¹SR⁻¹ in each block,  b'_ij = r_i b_ij / r_j.

A congruence by a positive diagonal keeps K ⪰ 0 and |K_ij| ≤ ρ√(K_ii K_jj), and turns the floor into K'_ii ≥ w_i d_i;
penalties are what it does not keep. In the new coordinates the data step of all rows is one product with one inverse,
(S' + τI)⁻¹, where different weights need the eigenvectors of S and two products. Multipliers go the other way:
⟨Y', K'⟩ = ⟨RY'R, K⟩.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.gram.certificate import Certifier, Multipliers, raised, regular_factor
from crosswind.solvers.gram.problem import Array, GramConeFit

__all__ = ["Level"]

_SPREAD = 30.0  # largest weight over the smallest up to which the new coordinates take no more iterations


class Level:
    """The change of coordinates of one problem; `of` tells whether it may be made and saves work.

    Attributes
    ----------
    original, fit
        The problem as given, and in the new coordinates.
    certifier
        The factorisation of the new S.
    """

    certifier: Certifier

    def __init__(self, fit: GramConeFit) -> None:
        self.original = fit
        r = np.sqrt(np.asarray(fit.weights))
        self.pair: Array = np.multiply.outer(r, r)
        across = np.tile(1.0 / r, fit.shapes)
        self.fit = copy.copy(fit)  # its arrays are checked already
        new = {
            "S": (fit.S * across[:, None]) * across,
            "B": fit.B * np.multiply.outer(r, across),
            "weights": np.ones_like(r),
            "floor": np.asarray(fit.floor) * np.asarray(fit.weights),
        }
        for name, value in new.items():
            value.setflags(write=False)
            object.__setattr__(self.fit, name, value)

    @classmethod
    def of(cls, fit: GramConeFit) -> Level | None:
        """Return the change of coordinates; None where penalties, weights or an S without inverse speak against it."""
        weights = np.asarray(fit.weights)
        low, high = float(weights.min()), float(weights.max())
        if fit.ridge or fit.l1 or fit.pool or low == high or high > _SPREAD * low:
            return None
        level = cls(fit)
        factor = regular_factor(level.fit.S)
        if factor is None:
            return None  # small, or too close to singular for the one inverse that this is for
        level.certifier = Certifier(level.fit, factor)
        return level

    def matrices(self, K: Array) -> Array:
        """Return K (M, N, N) of K', with what rounding took from its limits put back."""
        d = np.asarray(self.original.floor)
        return np.stack([raised(block / self.pair, d, self.original.corr_bound) for block in K])

    def prices(self, held: Multipliers) -> Multipliers:
        """Return the multipliers of the original limits."""
        return replace(
            held,
            psd=held.psd * self.pair,
            correlation=held.correlation * self.pair,
            floor=held.floor * np.diag(self.pair),
        )

    def copies(self, z: NDArray[Any], projected: tuple[NDArray[Any], NDArray[Any]]) -> Array:
        """Return the sums of copies and scaled multipliers (2, M, N, N) from those in the new coordinates.

        A copy and its multiplier stay orthogonal, so that the projections of what is returned are the copies again.
        """
        out = z.astype(np.float64)
        for b, part in enumerate(projected):
            own = part.astype(np.float64)
            out[b] -= own
            out[b] *= self.pair
            out[b] += own / self.pair
        return np.asarray(out)
