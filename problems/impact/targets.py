"""What cross terms are shrunk towards: nothing, sector blocks, or a matrix the user gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.program import FitProblem
from crosswind.solvers.errors import InvalidInput

__all__ = ["Target", "block_target", "correlation_clusters", "resolve_target", "sector_groups"]

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
    distance = np.clip(1.0 - return_cov / np.outer(sd, sd), 0.0, 2.0)
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
    single entries are not; a is kept above the mean floor, |c| and |b| below ρ a.
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
    level, *_ = np.linalg.lstsq(H, g, rcond=1e-10)
    target = np.zeros((m, n, n))
    for k in range(m):
        own, within, between = level[3 * k : 3 * k + 3]
        own = max(float(own), float(problem.floor.mean()))
        cap = problem.corr_bound * own
        target[k][eye] = own
        target[k][same & ~eye] = np.clip(within, -cap, cap)
        target[k][~same] = np.clip(between, -cap, cap)
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
    n, m = problem.names, problem.shapes
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
    if not set(names) <= set(target.index) or not set(names) <= set(target.columns):
        raise InvalidInput("the target lacks names of the events", field="target", value=list(target.columns))
    values = target.loc[list(names), list(names)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or np.abs(values - values.T).max() > 1e-9 * max(np.abs(values).max(), 1e-300):
        raise InvalidInput("the target must be finite and symmetric", field="target")
    share = block[:, :1, :1] / block[:, 0, 0].sum() if block[:, 0, 0].sum() > 0 else np.full((m, 1, 1), 1.0 / m)
    return np.asarray(share * (values / unit))
