"""What a lowering hands out: the QP for a solver, and the maps from its rows and variables back to the program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.optim.assembly import IndexArray
from crosswind.optim.box import TradeBox
from crosswind.optim.checks import FloatArray
from crosswind.optim.program import MultistageProgram
from crosswind.optim.scaling import Scaling
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Lowered", "RowBlock"]


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows of one limit: ``rows`` (T, columns) holds row numbers, −1 where there is none; ``columns`` the labels."""

    name: str
    rows: IndexArray
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A lowered program: the QP that is handed to a solver, and the maps back.

    Attributes
    ----------
    qp
        The scaled :class:`crosswind.solvers.program.QuadraticProgram`.
    program, scaling, box
        What it was made from.
    var_scale, row_scale, cost_scale
        D, E, s of the scaling x = D x̂, rows / E, cost / s.
    trades
        Variable numbers of u (T, n).
    absolute
        Variable numbers of a ≥ |u| (T, n), −1 where |u| needs none; ``epigraph`` (2, T, n) the rows ±u − a ≤ 0.
    completion
        Row numbers of the hard terminal condition, one per hard position.
    limits
        Row blocks by limit (bands, group caps, rates); trade limits are boxes and have none.
    exposures, gaps
        Variable numbers of the priced exposures (T, k), None without risk, and of p_T − target (P,), −1 where unpriced.
    """

    qp: QuadraticProgram
    program: MultistageProgram
    scaling: Scaling
    box: TradeBox
    var_scale: FloatArray
    row_scale: FloatArray
    cost_scale: float
    trades: IndexArray
    absolute: IndexArray
    epigraph: IndexArray
    completion: IndexArray
    limits: dict[str, RowBlock]
    exposures: IndexArray | None
    gaps: IndexArray

    def unpack_state(self, x: FloatArray) -> tuple[FloatArray | None, FloatArray | None]:
        """Return the priced exposures e_1..e_T and terminal gaps p_T − target as the solver holds them.

        A huge λ or terminal weight multiplies them; recomputed from the trades they would carry the rounding of p_0.
        """
        exposures = None if self.exposures is None else x[self.exposures] * self.var_scale[self.exposures]
        gap = None
        if (self.gaps >= 0).any():
            gap = np.where(self.gaps >= 0, x[self.gaps] * self.var_scale[self.gaps], 0.0)
        return exposures, gap

    def unpack_trades(self, x: FloatArray) -> FloatArray:
        """Return the trades (T, n) in the program's unit from a solver's point (n_vars,)."""
        return np.asarray(x[self.trades] * self.var_scale[self.trades], dtype=np.float64)

    def unpack_rows(self, y: FloatArray) -> FloatArray:
        """Return row duals in currency per unit of each row's bound."""
        return np.asarray(y * self.cost_scale / self.row_scale, dtype=np.float64)

    def unpack_boxes(self, z: FloatArray) -> FloatArray:
        """Return box duals of the trades (T, n), currency per unit of trade."""
        return np.asarray(z[self.trades] * self.cost_scale / self.var_scale[self.trades], dtype=np.float64)
