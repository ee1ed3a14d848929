"""Flow transforms: what a bucket's signed flow counts before the linear decay acts on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["EXPONENT_GRID", "PowerFlow", "power_flow"]

Array = NDArray[np.float64]

EXPONENT_GRID: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


@dataclass(frozen=True)
class PowerFlow:
    """Concave flow f_j(u) = sign(u) |u|^δ V_j^{1−δ}, still in currency.

    The model becomes r_t = Σ_m K_m z^m_t with z^m the difference form of φ_m filtered over f(u): K_m keeps its unit
    [return per currency] and its constraints.

    Parameters
    ----------
    exponent
        δ in (0, 1); 1 is the linear model, which carries no transform.
    scale
        V_j > 0 by name, (N,) [currency]: the flow that counts as itself.

    Raises
    ------
    InvalidInput
        δ outside (0, 1), a scale that is not finite and positive.

    Notes
    -----
    The fit is a description of returns, not a cost to schedule on: nonlinear impact with a decay kernel that is
    continuous at 0 and positive there always admits price manipulation (arXiv 2510.06879, Theorem 2.4), whatever the
    matrices are. A model that carries a transform therefore refuses `ImpactModel.modes`.
    """

    exponent: float
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0.0 < self.exponent < 1.0:
            raise InvalidInput(
                "δ must lie between 0 and 1", field="exponent", value=self.exponent, remedy="1 is the linear model"
            )
        if not self.scale or not all(math.isfinite(v) and v > 0 for v in self.scale):
            raise InvalidInput("scales must be finite and positive", field="scale", value=self.scale)

    def apply(self, flow: Array) -> Array:
        """f(u) of flow (T, N) [currency].

        Raises
        ------
        InvalidInput
            The flow has another number of names.
        """
        u = np.asarray(flow, dtype=np.float64)
        if u.ndim != 2 or u.shape[1] != len(self.scale):
            raise InvalidInput(f"flow of {len(self.scale)} names is needed", field="flow", value=u.shape)
        scale = np.asarray(self.scale)
        return np.asarray(np.sign(u) * np.abs(u / scale) ** self.exponent * scale)

    def subset(self, where: Sequence[int]) -> PowerFlow:
        """Return the transform of the names at these positions."""
        return PowerFlow(self.exponent, tuple(self.scale[k] for k in where))


def power_flow(flow: Array, exponent: float) -> PowerFlow | None:
    """Return the transform of one exponent with the scale that keeps each name's second moment; None for δ = 1.

    V_j = (Σ_t u_j² / Σ_t |u_j|^{2δ})^{1/(2(1−δ))}, so that Σ_t f_j(u_j)² = Σ_t u_j². A symmetric K relates names per
    unit of flow, so the unit matters: with another V_j per name a symmetric truth would look asymmetric. This choice
    keeps the unit of the linear model, a bucket of usual size.

    Parameters
    ----------
    flow
        Signed flow of the training rows, (T, N) [currency].
    exponent
        δ in (0, 1].

    Raises
    ------
    InvalidInput
        δ outside (0, 1].
    DataGap
        A name has no flow at all.
    """
    if exponent == 1.0:
        return None
    if not 0.0 < exponent < 1.0:
        raise InvalidInput(
            "δ must lie in (0, 1]",
            field="exponent",
            value=exponent,
            remedy="0.5 is the square root, 1 the linear model",
        )
    size = np.abs(np.asarray(flow, dtype=np.float64))
    top = size.max(axis=0, initial=0.0)
    if (top <= 0).any():
        raise DataGap(
            "a name has no flow at all, so nothing identifies its impact",
            field="events.flow",
            value=f"column {int(np.argmin(top))}",
            remedy="drop the name with events.select(...)",
        )
    share = size / top
    moment = (share**2).sum(axis=0) / (share ** (2.0 * exponent)).sum(axis=0)
    return PowerFlow(float(exponent), tuple((top * moment ** (0.5 / (1.0 - exponent))).tolist()))
