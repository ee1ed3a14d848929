"""Second moments of regressors and returns: all that the data ever say to the convex program.

One pass over the sessions gives S = Z'Z/E, B = r'Z/E (and Σ = r'r/E, Ω = u'u/E for Kyle and the clusters). From then
on the size of the problem does not depend on the number E of buckets, and the loss on held-out folds is a quadratic
form in the same moments: cross-validation needs no further pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary, aligned, factor_values, session_rows
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["FoldGrams", "Gram", "accumulate", "accumulate_rows", "factor_loadings", "split_folds"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums of products over E rows; `+` and `−` join and part sets of rows.

    Parameters
    ----------
    rows
        E, or the effective number of rows where they are weighted: sums are then scaled so that S and B are the
        weighted means.
    ZZ, rZ, rr, uu
        Z'Z (NM, NM), r'Z (N, NM), r'r (N, N), u'u (N, N): sums, not means.
    """

    rows: float
    ZZ: Array
    rZ: Array  # noqa: N815
    rr: Array
    uu: Array

    @classmethod
    def empty(cls, names: int, shapes: int) -> Gram:
        """Return the Gram of no rows."""
        wide = names * shapes
        return cls(
            0, np.zeros((wide, wide)), np.zeros((names, wide)), np.zeros((names, names)), np.zeros((names, names))
        )

    @classmethod
    def of(cls, Z: Array, r: Array, u: Array) -> Gram:
        """Return the Gram of the rows given: Z (E, NM), r (E, N), u (E, N).

        Raises
        ------
        InvalidInput
            Products beyond floating point.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            out = cls(len(Z), Z.T @ Z, r.T @ Z, r.T @ r, u.T @ u)
        if not all(np.isfinite(a).all() for a in (out.ZZ, out.rZ, out.rr, out.uu)):
            raise InvalidInput(
                "products of flow or returns are beyond floating point",
                field="events",
                value=f"|flow| up to {np.abs(u).max():.3g}, |return| up to {np.abs(r).max():.3g}",
                remedy="look for outliers, e.g. with check_events",
            )
        return out

    def __add__(self, other: Gram) -> Gram:
        return Gram(
            self.rows + other.rows, self.ZZ + other.ZZ, self.rZ + other.rZ, self.rr + other.rr, self.uu + other.uu
        )

    def __sub__(self, other: Gram) -> Gram:
        return Gram(
            self.rows - other.rows, self.ZZ - other.ZZ, self.rZ - other.rZ, self.rr - other.rr, self.uu - other.uu
        )

    @property
    def names(self) -> int:
        """N."""
        return len(self.rr)

    @property
    def shapes(self) -> int:
        """M."""
        return int(self.ZZ.shape[0]) // self.names

    @property
    def S(self) -> Array:  # noqa: N802
        """Z'Z/E, (NM, NM) [currency²]."""
        return self.ZZ / self.rows

    @property
    def B(self) -> Array:  # noqa: N802
        """r'Z/E, (N, NM) [return · currency]."""
        return self.rZ / self.rows

    @property
    def return_cov(self) -> Array:
        """r'r/E about zero, (N, N) [return² per bucket]."""
        return self.rr / self.rows

    @property
    def flow_cov(self) -> Array:
        """u'u/E about zero, (N, N) [currency² per bucket]."""
        return self.uu / self.rows

    def squared_error(self, X: Array) -> Array:
        """Σ_t (r_it − x_i'z_t)² by name, (N,), for the stacked matrices X = [K_1 … K_M] (N, NM)."""
        return np.asarray(
            np.diag(self.rr) - 2.0 * np.einsum("ij,ij->i", X, self.rZ) + np.einsum("ij,ij->i", X @ self.ZZ, X)
        )


def factor_loadings(events: MarketEvents, names: Sequence[str]) -> Array:
    """Stage one of the two-stage fit: least squares of returns on factor returns, without intercept.

    Returns
    -------
    Array
        Loadings (N, F); (N, 0) where the events carry no factors.

    Notes
    -----
    Regressing factors out of returns but not out of flow makes the unconstrained map asymmetric; the symmetric fit is
    then its projection.
    """
    factors = factor_values(events)
    _, returns, _ = aligned(events, names)
    if factors.shape[1] == 0:
        return np.zeros((len(names), 0))
    use = np.isfinite(returns).all(axis=1) & np.isfinite(factors).all(axis=1)
    if use.sum() < 2 * factors.shape[1]:
        raise DataGap("too few buckets to remove the factors", field="events", value=int(use.sum()))
    solution, *_ = np.linalg.lstsq(factors[use], returns[use], rcond=None)
    return np.asarray(solution.T)


@dataclass(frozen=True, eq=False)
class FoldGrams:
    """The Gram of all rows and, per time block, of the block and of the guard rows beside it.

    Parameters
    ----------
    total
        All rows.
    blocks
        Consecutive blocks in time.
    guards
        Rows within the purge length of each block, on both sides, that do not belong to it.
    raw_return_cov
        Second moments (N, N) of the returns before any factor is taken out: sectors show in these, not in residuals.
    trains
        The training rows of each fold where they are not the rest of all rows, as when the first stage was fitted on
        each fold's own training rows; () else.
    """

    total: Gram
    blocks: tuple[Gram, ...]
    guards: tuple[Gram, ...]
    raw_return_cov: Array
    trains: tuple[Gram, ...] = ()

    def train(self, fold: int) -> Gram:
        """Return the Gram of what may train against block ``fold``: everything but the block and its guard."""
        if self.trains:
            return self.trains[fold]
        return self.total - self.blocks[fold] - self.guards[fold]


def split_folds(rows: int, folds: int, purge: int) -> list[tuple[int, int, int, int]]:
    """Row ranges (guard start, block start, block stop, guard stop) of contiguous blocks.

    The purge is cut to a quarter of a block, so that a long memory never purges the training rows away.
    """
    edges = np.linspace(0, rows, folds + 1).round().astype(int).tolist()
    guard = min(purge, (rows // folds) // 4)
    return [(max(0, a - guard), a, b, min(rows, b + guard)) for a, b in pairwise(edges)]


def residual_returns(events: MarketEvents, names: Sequence[str], loadings: Array | None) -> Array:
    """Return the returns (T, N) of ``names`` less loadings × factor returns; NaN where they are undefined.

    Raises
    ------
    DataGap
        Loadings were fitted but the events carry no or other factors.
    """
    _, returns, _ = aligned(events, names)
    if loadings is None or loadings.shape[1] == 0:
        return returns
    factors = factor_values(events)
    if factors.shape[1] != loadings.shape[1]:
        raise DataGap(
            "the model was fitted on factor residuals; the events carry other factors",
            field="events.factors",
            value=factors.shape[1],
            remedy="give the same factors, or fit with defactor=False",
        )
    return np.asarray(returns - factors @ loadings.T)


def accumulate(
    events: MarketEvents,
    dictionary: Dictionary,
    names: Sequence[str] | None = None,
    loadings: Array | None = None,
    folds: int = 0,
) -> FoldGrams:
    """Pass once over the events and sum the moments.

    Parameters
    ----------
    events
        Buckets; the regressors' state starts from rest in each session, and a bucket with an undefined return of any
        name (each session's first, and the one after a hole in it) feeds the state but is no row.
    dictionary
        Decay shapes.
    names
        Names, all by default.
    loadings
        Factor loadings (N, F) to take out of the returns, or None.
    folds
        Number of time blocks kept apart; 0 for none.

    Raises
    ------
    DataGap
        No usable row.
    InvalidInput
        The events' buckets are not those of the dictionary.
    """
    columns = tuple(events.names) if names is None else tuple(names)
    if abs(events.bucket_s - dictionary.bucket_s) > 1e-9 * dictionary.bucket_s:
        raise InvalidInput(
            "the model was fitted on other buckets",
            field="events.bucket_s",
            value=events.bucket_s,
            remedy=f"resample the events to {dictionary.bucket_s:g} s",
        )
    flow, returns, session = aligned(events, columns)
    target = residual_returns(events, columns, loadings)
    memory = dictionary.memory_buckets
    return accumulate_rows(
        lambda part: dictionary.regressors(flow[part]), flow, target, returns, session, folds, memory
    )


def accumulate_rows(
    regress: Callable[[slice], Array],
    flow: Array,
    target: Array,
    returns: Array,
    session: NDArray[Any],
    folds: int = 0,
    memory: int = 0,
) -> FoldGrams:
    """Sum the moments of rows that are given as arrays.

    Parameters
    ----------
    regress
        Rows of one whole session → regressors Z (T', NM) of all of them, starting from rest.
    flow, target, returns
        Flow u, what is fitted, and raw returns, (T, N); a row with an undefined target feeds the state but is no row.
    session
        Labels (T,).
    folds
        Number of time blocks kept apart; 0 for none.
    memory
        Purge length beside a block, in rows.

    Raises
    ------
    DataGap
        No usable row.
    """
    use: NDArray[np.bool_] = np.asarray(np.isfinite(target).all(axis=1))
    rows = int(use.sum())
    if rows == 0:
        raise DataGap("no bucket has a return for every name", field="events", remedy="read more than one bucket a day")
    position = np.asarray(np.cumsum(use) - 1)
    ranges = split_folds(rows, folds, memory) if folds else []
    total: Gram | None = None
    blocks: list[Gram] = []
    guards: list[Gram] = []
    for part in session_rows(session):
        keep = use[part]
        if not keep.any():
            continue
        Z, r, u = regress(part)[keep], target[part][keep], flow[part][keep]
        if total is None:
            total = Gram.empty(r.shape[1], Z.shape[1] // r.shape[1])
            blocks, guards = [total] * folds, [total] * folds
        total = total + Gram.of(Z, r, u)
        at = position[part][keep]
        for k, (low, start, stop, high) in enumerate(ranges):
            inside = slice(*np.searchsorted(at, (start, stop)))
            if inside.start < inside.stop:
                blocks[k] = blocks[k] + Gram.of(Z[inside], r[inside], u[inside])
            for a, b in ((low, start), (stop, high)):
                beside = slice(*np.searchsorted(at, (a, b)))
                if beside.start < beside.stop:
                    guards[k] = guards[k] + Gram.of(Z[beside], r[beside], u[beside])
    assert total is not None  # some row is usable
    raw = returns[use]
    return FoldGrams(total, tuple(blocks), tuple(guards), raw.T @ raw / rows)
