"""What the first stage is made of: the regression on factors, components beyond the noise, factors given as series."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.moments.sums import Sums
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["noise_edge", "off_components", "regress", "with_factors"]

Array = NDArray[np.float64]
_TRACY_WIDOM_95 = 0.9793  # of the real law, β = 1


def regress(sums: Sums, A: Array, allowed: NDArray[np.bool_], use: int) -> Array:
    """Return loadings (N, F + S) on the given factors and on the means A r, name by name on those it may load on."""
    F, N = len(sums.ff), len(sums.rr)
    Ar = A @ sums.rr
    xx = np.block([[sums.ff, sums.fr @ A.T], [A @ sums.fr.T, Ar @ A.T]])
    rx = np.hstack([sums.fr.T, Ar.T])
    out = np.zeros((N, F + len(A)))
    size = np.sqrt(np.maximum(np.diag(xx), 0.0))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    for i in range(N):
        at = np.flatnonzero(np.append(np.arange(F) < use, allowed[i]))
        if at.size:
            s = scale[at]
            # Scaled to a correlation, so that collinear factors are told from small ones.
            solved = np.linalg.lstsq(xx[np.ix_(at, at)] * np.outer(s, s), rx[i, at] * s, rcond=1e-10)[0]
            out[i, at] = solved * s
    return out


def noise_edge(correlation: Array, rows: float) -> int:
    """Return the number of eigenvalues of a correlation that noise alone would hardly give.

    Of the n eigenvalues not yet taken out, with mean σ², the largest is taken out while it exceeds

        σ² [(√E + √n)² + 0.98 (√E + √n)(1/√E + 1/√n)^{1/3}]/E,

    the Marchenko–Pastur edge and, for finite n and E, the 95 % quantile of the Tracy–Widom law about it. Eigenvalues
    that are zero (dimensions a first stage took out) do not count, and one dimension is always left.

    Parameters
    ----------
    correlation
        (N, N).
    rows
        E, effective.

    References
    ----------
    Johnstone (2001), on the distribution of the largest eigenvalue in principal components analysis, Annals of
    Statistics 29; Laloux, Cizeau, Bouchaud, Potters (1999), noise dressing of financial correlation matrices.
    """
    values = np.linalg.eigvalsh(correlation)[::-1]
    values = values[values > 1e-10 * max(values[0], 0.0)]
    taken = 0
    while taken < len(values) - 1:
        n, e = np.sqrt(len(values) - taken), np.sqrt(rows)
        edge = ((e + n) ** 2 + _TRACY_WIDOM_95 * (e + n) * (1.0 / e + 1.0 / n) ** (1.0 / 3.0)) / rows
        if values[taken] <= values[taken:].mean() * edge:
            break
        taken += 1
    return taken


def off_components(second: Array, count: int | str, rows: float, field: str) -> tuple[Array, int]:
    """Return the projection off the first components of the correlation, D(I − VV')D⁻¹, and their number."""
    N = len(second)
    size = np.sqrt(np.maximum(np.diag(second), 0.0))
    # What a first stage explained down to rounding has no correlation left.
    live = size > 1e-9 * size.max(initial=0.0)
    inverse = np.divide(1.0, size, out=np.zeros(N), where=live)
    C = second * np.outer(inverse, inverse)
    if isinstance(count, str):
        if count != "noise edge":
            raise InvalidInput('a number or "noise edge"', field=field, value=count)
        number = noise_edge(C, rows)
    else:
        number = int(count)
    if number != (count if not isinstance(count, str) else number) or not 0 <= number < N:
        raise InvalidInput(f"a whole number from 0 to {N - 1}", field=field, value=count, remedy="take out fewer")
    V = np.linalg.eigh(C)[1][:, N - number :]
    return np.eye(N) - (size[:, None] * V) @ (V.T * inverse[None, :]), number


def with_factors(events: MarketEvents, factors: pd.DataFrame) -> MarketEvents:
    """Return the events with further factor returns beside them, e.g. style factors given as series.

    Parameters
    ----------
    events
        Buckets.
    factors
        Returns per bucket (times × factors) on a tz-aware index that holds every bucket's end.

    Raises
    ------
    InvalidInput
        A naive index, or a factor that is there already.
    DataGap
        Buckets without a factor return.
    """
    from crosswind.problems.market.checks import utc_index

    held = factors.set_axis(utc_index(factors.index, "factors index"))
    held.columns = pd.Index([str(c) for c in held.columns], dtype=object)
    old = events.factors
    twice = sorted(set(held.columns) & set(() if old is None else old.columns))
    if twice:
        raise InvalidInput("is there already", field="factors", value=twice, remedy="rename the columns")
    absent = events.index[~events.index.isin(held.index)]
    if len(absent):
        raise DataGap(
            f"{len(absent)} buckets have no factor return",
            field="factors",
            value=str(absent[0]),
            remedy="put the factor returns on the buckets' index",
        )
    placed = held.loc[events.index]
    return replace(events, factors=placed if old is None else pd.concat([old, placed], axis=1))
