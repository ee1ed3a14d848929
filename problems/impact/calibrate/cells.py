"""Cells: the moments of short runs of buckets, kept apart, so that resampling never reads the data again.

A bootstrap draw is a vector of whole weights w over the cells; its moments are Σ_c w_c Gram_c. The same weights serve
every model and every figure, so that differences between models are paired.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary, aligned, session_rows
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["CellDraws", "Cells", "Resampling", "affordable_cells", "cell_moments", "cell_of_rows", "resampling_weights"]

Array = NDArray[np.float64]
Resampling = Literal["moving", "stationary", "days"]
_BYTES = 400e6  # of moments kept apart at most


def cell_of_rows(events: MarketEvents, cells: int = 60) -> NDArray[np.intp]:
    """Cell number of each row, (T,): about ``cells`` contiguous cells, none across a session's end.

    Each session gets a share in proportion to its rows, at least one cell.
    """
    if int(cells) != cells or cells < 1:
        raise InvalidInput("must be a whole number ≥ 1", field="cells", value=cells, remedy="60 is usual")
    sessions = list(session_rows(events.session.to_numpy()))
    rows = sessions[-1].stop
    out = np.empty(rows, dtype=np.intp)
    used = 0
    for part in sessions:
        length = part.stop - part.start
        pieces = max(1, min(length, round(cells * length / rows)))
        out[part] = used + (np.arange(length) * pieces) // length
        used += pieces
    return out


def affordable_cells(names: int, shapes: int, cells: int) -> int:
    """Return how many cells' moments fit into the memory set aside for them, at least 8 and at most ``cells``."""
    each = 8.0 * (names * shapes) ** 2 * (1.0 + 1.0 / shapes + 3.0 / shapes**2)
    return int(max(8, min(cells, _BYTES // each)))


@dataclass(frozen=True, eq=False)
class Cells:
    """Moments by cell, in time order.

    Parameters
    ----------
    grams
        One `Gram` per cell.
    raw
        Per cell, sums (N, N) of products of the returns before factors are taken out.
    session
        Number of the session of each cell, (C,), ascending from 0.
    """

    grams: tuple[Gram, ...]
    raw: Array
    session: NDArray[np.intp]

    def weighted(self, weights: NDArray[np.intp] | Array) -> FoldGrams:
        """Return the moments of a draw: Σ_c w_c of each cell's sums, as an estimator takes them."""
        total = Gram.empty(self.grams[0].names, self.grams[0].shapes)
        for gram, w in zip(self.grams, np.asarray(weights).tolist(), strict=True):
            if w:
                total = total + Gram(int(w) * gram.rows, w * gram.ZZ, w * gram.rZ, w * gram.rr, w * gram.uu)
        raw = np.tensordot(np.asarray(weights, dtype=np.float64), self.raw, axes=1)
        return FoldGrams(total, (), (), raw / max(total.rows, 1))

    def total(self) -> FoldGrams:
        """Return the moments of all rows."""
        return self.weighted(np.ones(len(self.grams), dtype=np.intp))

    def of(self, keep: NDArray[np.bool_]) -> Cells:
        """Return some of the cells."""
        return Cells(tuple(g for g, k in zip(self.grams, keep, strict=True) if k), self.raw[keep], self.session[keep])


def cell_moments(
    events: MarketEvents, dictionary: Dictionary, cell: NDArray[np.intp], target: Array | None = None
) -> Cells:
    """Pass once over the events and sum the moments by cell; each session starts from rest.

    Parameters
    ----------
    events
        Buckets.
    dictionary
        Decay shapes.
    cell
        Cell of each row (T,), see `cell_of_rows`.
    target
        What is fitted, (T, N): the returns less what a first stage takes out, which stays as it is in every draw;
        None: the returns.

    Raises
    ------
    DataGap
        No usable row.
    """
    names = list(events.names)
    flow, returns, session = aligned(events, names)
    target = returns if target is None else target
    use: NDArray[np.bool_] = np.asarray(np.isfinite(target).all(axis=1))
    if not use.any():
        raise DataGap("no bucket has a return for every name", field="events", remedy="read more than one bucket a day")
    grams: list[Gram] = []
    raw: list[Array] = []
    days: list[int] = []
    for day, part in enumerate(session_rows(session)):
        Z = dictionary.regressors(flow[part])
        for c in np.unique(cell[part]):
            at = np.flatnonzero((cell[part] == c) & use[part])
            r = returns[part][at]
            grams.append(Gram.of(Z[at], target[part][at], flow[part][at]))
            raw.append(r.T @ r)
            days.append(day)
    return Cells(tuple(grams), np.stack(raw), np.array(days, dtype=np.intp))


def resampling_weights(
    session: NDArray[np.intp], method: Resampling, length: int, draws: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """How often each cell is drawn, (draws, C) whole numbers; each row sums to C, or with "days" to about C.

    Parameters
    ----------
    session
        Session number of each cell, (C,).
    method
        "moving" (Künsch's blocks of ``length`` consecutive cells, on a circle so that the ends are drawn as often as
        the middle), "stationary" (Politis and Romano: the same with geometric lengths of that mean) or "days" (whole
        sessions with replacement).
    length
        Block length [cells].
    draws
        Number of draws.
    rng
        Source of randomness.

    Raises
    ------
    InvalidInput
        Unknown method, bad numbers, or "days" with fewer than two sessions.
    """
    count = len(session)
    if method not in get_args(Resampling):
        raise InvalidInput(
            "unknown resampling", field="bootstrap", value=method, remedy=", ".join(get_args(Resampling))
        )
    if not 1 <= length <= count:
        raise InvalidInput(
            f"must lie between 1 and the {count} cells", field="length", value=length, remedy="C^(1/3) is usual"
        )
    if int(draws) != draws or draws < 2:
        raise InvalidInput("two draws or more are needed", field="draws", value=draws, remedy="100 is usual")
    out = np.zeros((int(draws), count), dtype=np.intp)
    if method == "days":
        labels = np.unique(session)
        if len(labels) < 2:
            raise InvalidInput(
                "one session cannot be resampled by days", field="bootstrap", value=method, remedy='use "moving"'
            )
        drawn = rng.integers(len(labels), size=(int(draws), len(labels)))
        times = np.stack([np.bincount(row, minlength=len(labels)) for row in drawn])
        return np.asarray(times[:, np.searchsorted(labels, session)], dtype=np.intp)
    for row in out:
        filled = 0
        while filled < count:
            size = length if method == "moving" else int(rng.geometric(1.0 / length))
            begin, size = int(rng.integers(count)), min(size, count - filled)
            np.add.at(row, (begin + np.arange(size)) % count, 1)
            filled += size
    return out


@dataclass(frozen=True)
class CellDraws:
    """Cells of the events and how they are drawn; every call starts from the seed."""

    session: NDArray[np.intp]
    method: Resampling
    length: int
    cell_s: float
    cells_asked: int
    seed: int
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", len(self.session))

    @classmethod
    def of(
        cls, events: MarketEvents, cell: NDArray[np.intp], method: Resampling, block_s: float | None, seed: int
    ) -> CellDraws:
        """Return the draws for the cells of some events; blocks hold C^{1/3} cells unless ``block_s`` [s] says else."""
        session = np.concatenate(
            [np.full(len(np.unique(cell[s])), k) for k, s in enumerate(session_rows(events.session.to_numpy()))]
        )
        count = len(session)
        cell_s = len(cell) / count * events.bucket_s
        if block_s is None:
            length = max(1, round(count ** (1.0 / 3.0)))
        else:
            if not (np.isfinite(block_s) and block_s > 0):
                raise InvalidInput("must be finite and > 0", field="block_s", value=block_s, remedy="give seconds")
            length = int(np.clip(round(block_s / cell_s), 1, count))
        return cls(session, method, length, cell_s, count, seed)

    def weights(self, draws: int) -> NDArray[np.intp]:
        """Return cell weights (draws, C), the same on every call."""
        rng = np.random.default_rng(self.seed)
        return resampling_weights(self.session, self.method, self.length, draws, rng)
