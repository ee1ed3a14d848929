"""What cross terms are shrunk towards: nothing, sector blocks, or a matrix the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.program import FitProblem, nonnegative_quadratic
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "Target",
    "block_target",
    "correlation_clusters",
    "resolve_previous",
    "resolve_target",
    "sector_groups",
    "with_turnover",
]

Array = NDArray[np.float64]
Target = str | pd.DataFrame | ImpactModel | None


def sector_groups(sectors: pd.Series, names: Sequence[str]) -> NDArray[np.intp]:
    """Group number of each name, (N,), from a Series name → sector.

    Raises
    ------
    InvalidInput
        A name has no sector.
    """
    held = sectors.reindex(list(names))
    if held.isna().any():
        missing = [str(n) for n in held.index[held.isna()]]
        raise InvalidInput("names without a sector", field="sectors", value=missing, remedy="give every name a sector")
    codes, _ = pd.factorize(held)
    return np.asarray(codes, dtype=np.intp)


def correlation_clusters(return_cov: Array) -> NDArray[np.intp]:
    """Group number of each name, (N,): average linkage on 1 − correlation, cut at the widest step between merges.

    Ties and one or two names give one group. Deterministic.
    """
    n = len(return_cov)
    if n < 3:
        return np.zeros(n, dtype=np.intp)
    sd = np.sqrt(np.diag(return_cov))
    unit = np.where(sd > 0, sd, 1.0)  # a name that did not move goes with no other
    distance = np.clip(1.0 - return_cov / np.outer(unit, unit), 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(0.5 * (distance + distance.T), checks=False), method="average")
    heights = tree[:, 2]
    steps = np.diff(heights)
    if steps.max(initial=0.0) <= 0:
        return np.zeros(n, dtype=np.intp)
    cut = int(np.argmax(steps))
    return np.asarray(fcluster(tree, 0.5 * (heights[cut] + heights[cut + 1]), criterion="distance") - 1, dtype=np.intp)


def block_target(problem: FitProblem, groups: NDArray[np.intp]) -> Array:
    """T (M, N, N): one own level, one cross level within groups and one between, per shape, from the same moments.

    K'_m = a_m I + c_m (within) + b_m (between) has 3M free numbers, so it is estimated with little noise even where
    single entries are not. The levels are fitted jointly under a_m ≥ 0, |c_m| ≤ ρ a_m and |b_m| ≤ ρ a_m, that is as
    non-negative combinations of the four corners (1, ±ρ, ±ρ) per shape; a is then raised to the mean floor. Clipping
    a free fit instead would keep the large positive levels of nearly collinear shapes and drop the negative ones that
    offset them.
    """
    n, m = problem.names, problem.shapes
    same = groups[:, None] == groups[None, :]
    eye = np.eye(n, dtype=bool)
    patterns = [eye, same & ~eye, ~same]
    basis = np.zeros((3 * m, n, n * m))
    for k in range(m):
        for p, pattern in enumerate(patterns):
            basis[3 * k + p, :, k * n : (k + 1) * n] = pattern
    moved = np.einsum("ain,np->aip", basis, problem.S)
    H = np.einsum("i,aip,bip->ab", problem.weights, moved, basis)
    g = np.einsum("i,aip,ip->a", problem.weights, basis, problem.B)
    rho = problem.corr_bound
    corners = np.array([(1.0, c, b) for c in (rho, -rho) for b in (rho, -rho)]).T
    R = np.kron(np.eye(m), corners)
    level = R @ nonnegative_quadratic(R.T @ H @ R, R.T @ g)
    level[::3] = np.maximum(level[::3], problem.floor.mean())
    target = np.zeros((m, n, n))
    for k in range(m):
        for value, pattern in zip(level[3 * k : 3 * k + 3], patterns, strict=True):
            target[k][pattern] = value
    return target


def resolve_target(
    target: Target,
    problem: FitProblem,
    return_cov: Array,
    names: Sequence[str],
    sectors: pd.Series | None,
    dictionary: Dictionary,
) -> Array:
    """Return the scaled target T (M, N, N) of what the user asked for.

    Parameters
    ----------
    return_cov
        Second moments (N, N) of returns with factors in them, for the clusters.
    target
        "block" or None (sectors if given, else clusters of the return correlation), "diagonal" (zero cross terms), a
        DataFrame of G_0 (N × N, return per currency), shared out over the shapes like self-impact, or an
        ImpactModel of the same shapes: yesterday's, so that the ridge is a turnover penalty.

    Raises
    ------
    InvalidInput
        Unknown word, names missing, an asymmetric matrix, a model of other shapes.
    """
    n = problem.names
    unit = np.outer(problem.scale, problem.scale)
    if isinstance(target, str) and target not in ("block", "diagonal"):
        raise InvalidInput(
            "unknown target", field="target", value=target, remedy='use "block", "diagonal", a DataFrame or a model'
        )
    groups = correlation_clusters(return_cov) if sectors is None else sector_groups(sectors, names)
    block = block_target(problem, groups)
    if target is None or isinstance(target, str):
        return block * np.eye(n) if target == "diagonal" else block
    if isinstance(target, ImpactModel):
        if target.dictionary != dictionary:
            raise InvalidInput(
                "the target model has other decay shapes", field="target", value=target.dictionary.labels
            )
        return np.asarray(target.subset(names).matrices / unit)
    return _shared_out(_values(target, names, "target"), problem, block)


def _values(frame: pd.DataFrame, names: Sequence[str], field: str) -> Array:
    if not set(names) <= set(frame.index) or not set(names) <= set(frame.columns):
        raise InvalidInput(f"the {field} lacks names of the events", field=field, value=list(frame.columns))
    values = frame.loc[list(names), list(names)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or np.abs(values - values.T).max() > 1e-9 * max(np.abs(values).max(), 1e-300):
        raise InvalidInput(f"the {field} must be finite and symmetric", field=field)
    return values


def _shared_out(values: Array, problem: FitProblem, like: Array) -> Array:
    """G_0 (N, N) in scaled coordinates, shared out over the shapes as self-impact of ``like`` (M, N, N) is."""
    n, m = problem.names, problem.shapes
    own = np.einsum("mii->m", like)
    share = own / own.sum() if own.sum() > 0 else np.full(m, 1.0 / m)
    return np.asarray(share[:, None, None] * (values / np.outer(problem.scale, problem.scale)).reshape(1, n, n))


def resolve_previous(
    previous: ImpactModel | pd.DataFrame, problem: FitProblem, names: Sequence[str], dictionary: Dictionary
) -> Array:
    """Return yesterday's matrices P (M, N, N) in scaled coordinates.

    Entries of names that yesterday did not know are set to the problem's own target: with one strength for all
    entries, they are pulled there as strongly as the others are pulled to yesterday.

    Parameters
    ----------
    previous
        An ImpactModel of the same shapes, or a DataFrame of G_0 [return per currency], shared out over the shapes as
        the target's self-impact is (equally where there is none).
    problem
        The fit, with its target resolved.

    Raises
    ------
    InvalidInput
        A model of other decay shapes, an asymmetric or non-finite DataFrame, no name in common.
    """
    known = [n for n in names if n in (previous.names if isinstance(previous, ImpactModel) else previous.index)]
    if not known:
        raise InvalidInput("no name in common with the events", field="previous", value=list(names))
    where = [list(names).index(n) for n in known]
    unit = np.outer(problem.scale, problem.scale)
    out = problem.target.copy()
    inner = np.ix_(range(problem.shapes), where, where)
    if isinstance(previous, ImpactModel):
        if previous.dictionary != dictionary:
            raise InvalidInput(
                "the previous model has other decay shapes",
                field="previous",
                value=previous.dictionary.labels,
                remedy="fit with its half-lives or lags, or give its .immediate as a DataFrame",
            )
        out[inner] = previous.subset(known).matrices / unit[np.ix_(where, where)]
        return out
    full = np.zeros((problem.names, problem.names))
    full[np.ix_(where, where)] = _values(previous, known, "previous")
    out[inner] = _shared_out(full, problem, problem.target)[inner]
    return out


def with_turnover(problem: FitProblem, previous: Array, turnover: float) -> tuple[FitProblem, float]:
    """Add ½τ Σ_m ‖K_m − P_m‖² over all entries to a fit, without a new term: the square is completed.

    An entry is pulled to T with weight ρ (the ridge off the diagonal, the pool on it) and to P with weight τ:

        ½ρ(k − t)² + ½τ(k − p)²  =  ½(ρ + τ)(k − (ρt + τp)/(ρ + τ))²  +  ½ ρτ/(ρ + τ) (t − p)².

    So the fit with both pulls is the fit with the weights ρ + τ and one target between T and P; the last term does
    not depend on k.

    Parameters
    ----------
    problem
        The fit with its ridge, pool and target T.
    previous
        P, (M, N, N), symmetric, in scaled coordinates.
    turnover
        τ ≥ 0.

    Returns
    -------
    tuple
        The fit with one effective pull, and the constant by which its objective is below that of the two pulls.
    """
    if turnover == 0:
        return problem, 0.0
    eye = np.eye(problem.names, dtype=bool)
    weight = np.where(eye, problem.pool, problem.ridge)
    both = weight + turnover
    target = (weight * problem.target + turnover * previous) / both
    constant = float(0.5 * (weight * turnover / both * (problem.target - previous) ** 2).sum())
    moved = replace(problem, target=target, ridge=problem.ridge + turnover, pool=problem.pool + turnover)
    return moved, constant
