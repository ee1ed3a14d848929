"""The names of the simulator: sectors, loadings, volatilities, sizes, prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["Universe", "draw_universe", "resolve_names"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Universe:
    """Constants of the names, drawn once per seed.

    Parameters
    ----------
    names, sector_labels
        The N names and the S sectors.
    sector_codes
        Sector number of each name (N,).
    loadings
        Loadings on the market and the S sector factors (N, 1 + S).
    idio_vol_daily
        Idiosyncratic volatility per session (N,).
    adv, price
        Daily notional [currency] and first open [currency per share] (N,).
    weights
        Index weights at the first open (N,), with the sum 1.
    """

    names: tuple[str, ...]
    sector_labels: tuple[str, ...]
    sector_codes: NDArray[np.int64]
    loadings: Array
    idio_vol_daily: Array
    adv: Array
    price: Array
    weights: Array

    @property
    def factor_names(self) -> tuple[str, ...]:
        """``market`` and the sectors, in the order of the columns of ``loadings``."""
        return ("market", *self.sector_labels)

    def pair_kind(self) -> NDArray[np.int64]:
        """Return 0 on the diagonal, 1 for two names of one sector, 2 otherwise, (N, N)."""
        kind = np.where(self.sector_codes[:, None] == self.sector_codes[None, :], 1, 2)
        np.fill_diagonal(kind, 0)
        return kind


def resolve_names(
    names: int | Sequence[str], sectors: int | Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int64]]:
    """Return names, sector labels and the sector number of each name.

    Parameters
    ----------
    names
        Number of names, or the names themselves.
    sectors
        Number of sectors (the names are cut into runs of nearly equal length), or the label of each name.

    Returns
    -------
    names : tuple of str (N,)
    labels : tuple of str (S,)
    codes : ndarray (N,)

    Raises
    ------
    InvalidInput
        For no names, duplicates, empty texts, more sectors than names, or labels of another length.
    """
    if isinstance(names, (int, np.integer)) and not isinstance(names, bool):
        width = max(2, len(str(names)))
        chosen = tuple(f"N{i:0{width}d}" for i in range(1, int(names) + 1))
    else:
        chosen = _texts("names", names)
    if not chosen:
        raise InvalidInput("leaves no names", field="names", value=names, remedy="pass 1 or more")
    if len(set(chosen)) < len(chosen):
        raise InvalidInput("holds a name twice", field="names", value=chosen, remedy="pass distinct names")
    if isinstance(sectors, (int, np.integer)) and not isinstance(sectors, bool):
        if not 1 <= sectors <= len(chosen):
            raise InvalidInput(
                f"is not a number of sectors for {len(chosen)} names",
                field="sectors",
                value=sectors,
                remedy=f"pass an integer from 1 to {len(chosen)}",
            )
        codes = np.arange(len(chosen), dtype=np.int64) * int(sectors) // len(chosen)
        return chosen, tuple(f"SEC{i}" for i in range(1, int(sectors) + 1)), codes
    given = _texts("sectors", sectors)
    if len(given) != len(chosen):
        raise InvalidInput(
            f"has not one label for each of the {len(chosen)} names",
            field="sectors",
            value=given,
            remedy="pass a count, or one label per name",
        )
    labels = tuple(dict.fromkeys(given))
    if "market" in labels:
        raise InvalidInput('may not contain "market"', field="sectors", value=given, remedy="rename that sector")
    return chosen, labels, np.array([labels.index(label) for label in given], dtype=np.int64)


def _texts(field: str, values: object) -> tuple[str, ...]:
    if isinstance(values, (str, bytes, bool)) or not isinstance(values, Sequence):
        raise InvalidInput("is neither a count nor a list", field=field, value=values, remedy='pass 8 or ["A", "B"]')
    if not all(isinstance(value, str) and value for value in values):
        raise InvalidInput("holds something else than texts", field=field, value=values, remedy="pass texts")
    return tuple(values)


def draw_universe(
    names: int | Sequence[str], sectors: int | Sequence[str], parameters: SimulatorParameters, seed: int
) -> Universe:
    """Draw the constants of the names; each quantity has its own stream.

    Parameters
    ----------
    names, sectors
        See :func:`resolve_names`.
    parameters
        Parameters of the simulator.
    seed
        Seed of the simulation.

    Returns
    -------
    Universe

    Raises
    ------
    InvalidInput
        As :func:`resolve_names`.
    """
    p = parameters
    chosen, labels, codes = resolve_names(names, sectors)
    number = len(chosen)

    def lognormal(part: Part, dispersion: float) -> Array:
        return np.exp(dispersion * stream(seed, part).standard_normal(number))

    spread = 1.0 + p.beta_dispersion * stream(seed, Part.LOADINGS).uniform(-1.0, 1.0, (number, 2))
    loadings = np.zeros((number, 1 + len(labels)))
    loadings[:, 0] = spread[:, 0]
    loadings[np.arange(number), 1 + codes] = spread[:, 1]
    adv = p.adv * lognormal(Part.ADV, p.adv_dispersion)
    return Universe(
        names=chosen,
        sector_labels=labels,
        sector_codes=codes,
        loadings=loadings,
        idio_vol_daily=p.idio_vol_daily * lognormal(Part.VOLATILITY, p.vol_dispersion),
        adv=adv,
        price=p.price * lognormal(Part.PRICE, p.price_dispersion),
        weights=adv / adv.sum(),
    )
