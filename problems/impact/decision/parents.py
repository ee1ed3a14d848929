"""The baskets that a calibration is for: drawn with a seed from the desk's distribution, or the desk's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["ParentBaskets", "draw_parents"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ParentBaskets:
    """P parent orders over N names.

    Parameters
    ----------
    names
        The N names.
    sizes
        (N, P), signed, buy positive: currency, or, with ``relative``, units in which a leg of ±1 traded alone and at
        once costs ½ (±1/√k_i of currency, k_i the name's own slope in the training rows).
    relative
        Whether sizes are in those units, so that they follow each name's liquidity.
    drawn
        Whether the baskets are a draw from a distribution (an interval then covers other draws), or all there is.

    Raises
    ------
    InvalidInput
        Mixed shapes, entries that are not finite, a basket without a leg.
    """

    names: tuple[str, ...]
    sizes: Array
    relative: bool = False
    drawn: bool = False

    def __post_init__(self) -> None:
        sizes = np.array(self.sizes, dtype=np.float64)
        if sizes.ndim != 2 or sizes.shape[0] != len(self.names) or sizes.shape[1] == 0:
            raise InvalidInput("must be (N, P)", field="sizes", value=sizes.shape, remedy="one row per name")
        if not np.isfinite(sizes).all():
            raise InvalidInput("must be finite", field="sizes", remedy="0 is no leg")
        empty = ~(sizes != 0.0).any(axis=0)
        if empty.any():
            raise InvalidInput("a basket has no leg", field="sizes", value=f"column {int(np.argmax(empty))}")
        sizes.flags.writeable = False
        object.__setattr__(self, "names", tuple(str(n) for n in self.names))
        object.__setattr__(self, "sizes", sizes)

    @classmethod
    def of(cls, parents: ParentBaskets | pd.DataFrame | pd.Series) -> ParentBaskets:
        """Return parents as they are, or from a table names × parents (or one Series by name) of signed currency."""
        if isinstance(parents, ParentBaskets):
            return parents
        frame = parents.to_frame() if isinstance(parents, pd.Series) else parents
        if not isinstance(frame, pd.DataFrame):
            raise InvalidInput(
                "not baskets",
                field="parents",
                value=type(parents).__name__,
                remedy="give a DataFrame names × parents [currency], or draw_parents(names)",
            )
        return cls(tuple(str(n) for n in frame.index), frame.to_numpy(dtype=np.float64))

    @property
    def count(self) -> int:
        """P."""
        return int(self.sizes.shape[1])

    def scaled(self, names: Sequence[str], own: Array) -> Array:
        """Legs (N, P) in units of 1/own, own = √k_i (N,), in the order of ``names``; names without a leg hold 0.

        Raises
        ------
        DataGap
            A basket trades a name that is not among ``names``.
        """
        missing = [n for n in self.names if n not in names]
        if missing:
            raise DataGap(
                "the baskets trade names that the events lack", field="parents", value=missing, remedy="drop these legs"
            )
        out = np.zeros((len(names), self.count))
        where = [list(names).index(n) for n in self.names]
        out[where] = self.sizes if self.relative else self.sizes * own[where, None]
        return out

    def to_frame(self) -> pd.DataFrame:
        """Sizes, names × parents."""
        return pd.DataFrame(self.sizes, index=list(self.names)).rename_axis(index="name", columns="parent")


def draw_parents(
    names: Sequence[str], count: int = 32, seed: int = 0, share: float = 1.0, dispersion: float = 0.5
) -> ParentBaskets:
    """Draw two-sided baskets: random legs, random sides, lognormal sizes in units of equal self-cost.

    Parameters
    ----------
    names
        Names that may be traded.
    count
        P ≥ 1.
    seed
        Seed of the draw.
    share
        Probability in (0, 1] that a basket trades a name; a basket has two legs at least, where there are two names.
    dispersion
        Standard deviation ≥ 0 of the logarithm of a leg's size; 0: all legs alike.

    Raises
    ------
    InvalidInput
        A number out of range, no names.
    """
    n = len(names)
    if n == 0 or count < 1 or not 0.0 < share <= 1.0 or not (np.isfinite(dispersion) and dispersion >= 0.0):
        raise InvalidInput(
            "need names, count ≥ 1, 0 < share ≤ 1, dispersion ≥ 0",
            field="draw_parents",
            value=(n, count, share, dispersion),
        )
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(n, count))
    sizes = np.exp(dispersion * rng.standard_normal((n, count)))
    held = rng.random((n, count)) < share
    first = np.argsort(rng.random((n, count)), axis=0)[: min(2, n)]
    np.put_along_axis(held, first, True, axis=0)
    return ParentBaskets(tuple(names), signs * sizes * held, relative=True, drawn=True)
