r"""Which penalties: a surface of unbiased costs over a grid, a cautious choice on it, and a polish by the gradient.

Costs of neighbouring penalties share most of the ruler's noise, so they are compared in pairs. Near the optimum costs
differ in second order of the distance and their noise in first order: the least of many noisy costs lies too far away,
and on average it is worse than the choice by held-out R². So the choice has the largest **lower bound** of the saving
against the likelihood's choice, which saves 0 for sure. The bounds hold for all points together: with s_k the saving
of point k and e_k its standard error, c is the ``level`` quantile of max_k |s_k* − s_k|/e_k over resampled cells and,
where baskets are drawn, resampled baskets; then s_k ∈ s_k ± c e_k for all k, the chosen one included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.decision.cases import Account, Case
from crosswind.problems.impact.decision.implicit import penalty_derivatives
from crosswind.solvers.errors import InvalidInput

__all__ = ["Bands", "Surface", "cautious", "polish", "savings", "simultaneous", "surface"]

Array = NDArray[np.float64]
Penalties = dict[str, float]
_STEP, _TIGHT = 0.005, 1e-12  # of the logarithm of a penalty, and the gap of fits that are differenced


def savings(reference: Sequence[Account], other: Sequence[Account]) -> tuple[Array, Array]:
    """Paired savings by fold and parent, (F, P), of ``other`` against ``reference``, and their noise (F, C, P)."""
    saved = np.stack([a.cost - b.cost for a, b in zip(reference, other, strict=True)])
    noise = np.stack([a.noise - b.noise for a, b in zip(reference, other, strict=True)])
    return saved, noise


@dataclass(frozen=True, eq=False)
class Bands:
    """Savings of several choices with bounds that hold together.

    Parameters
    ----------
    saving, error
        s and its standard error by choice, (K,): sum over parents, mean over folds.
    critical
        c: the bounds are s ± c·error.
    """

    saving: Array
    error: Array
    critical: float

    @property
    def low(self) -> Array:
        """Lower bounds, (K,)."""
        return self.saving - self.critical * self.error

    @property
    def high(self) -> Array:
        """Upper bounds, (K,)."""
        return self.saving + self.critical * self.error


def simultaneous(pairs: Sequence[tuple[Array, Array]], drawn: bool, level: float, resamples: int, seed: int) -> Bands:
    """Bound the savings of all choices at once.

    Parameters
    ----------
    pairs
        `savings` of each choice.
    drawn
        Whether other baskets could have been drawn, so that they are resampled too.
    level
        Coverage of all bounds together.
    resamples, seed
        Number of draws and their seed: normal multipliers on cells (a wild bootstrap), multinomial weights on baskets.
    """
    folds, cells, parents = pairs[0][1].shape
    rng = np.random.default_rng(seed)
    shake = rng.standard_normal((resamples, folds * cells))
    held = np.ones((resamples, parents))
    if drawn and parents > 1:
        held = rng.multinomial(parents, np.full(parents, 1.0 / parents), size=resamples).astype(float)
    saving = np.array([float(saved.sum(axis=1).mean()) for saved, _ in pairs])
    moved = np.empty((len(pairs), resamples))
    for k, (saved, noise) in enumerate(pairs):
        drawn_noise = shake @ noise.reshape(folds * cells, parents)
        moved[k] = ((saved.sum(axis=0) + drawn_noise) * held).sum(axis=1) / folds - saving[k]
    error = np.sqrt((moved**2).mean(axis=1))
    differs = error > 1e-12 * max(float(error.max(initial=0.0)), np.finfo(float).tiny)
    if not differs.any():
        return Bands(saving, error, 0.0)
    worst = np.abs(moved[differs] / error[differs, None]).max(axis=0)
    return Bands(saving, error, float(np.quantile(worst, level)))


def cautious(bands: Bands, reference: int) -> int:
    """Index of the largest lower bound if that is above 0, else of the reference."""
    best = int(np.argmax(bands.low))
    return best if bands.low[best] > 0.0 else reference


@dataclass(frozen=True, eq=False)
class Surface:
    """Accounts at every penalty tried.

    Parameters
    ----------
    points
        Penalties by name.
    accounts
        One per point and fold.
    likelihood, least, chosen
        Index of the best held-out R², of the least cost, and of the cautious choice.
    unit
        What the likelihood's schedules promise, mean over folds.
    bands
        Savings against the likelihood's choice, in money.
    """

    points: tuple[Penalties, ...]
    accounts: tuple[tuple[Account, ...], ...]
    likelihood: int
    least: int
    chosen: int
    unit: float
    bands: Bands

    def to_frame(self) -> pd.DataFrame:
        """Penalties, "r2", and in the likelihood's promise "cost", "promised", "saving", "low" and "high", by point."""
        rows = []
        for k, (point, held) in enumerate(zip(self.points, self.accounts, strict=True)):
            money = {
                "cost": float(np.mean([a.cost.sum() for a in held])),
                "promised": float(np.mean([a.promised.sum() for a in held])),
                "saving": self.bands.saving[k],
                "low": self.bands.low[k],
                "high": self.bands.high[k],
            }
            r2 = float(np.mean([a.r2 for a in held]))
            rows.append(point | {"r2": r2} | {what: value / self.unit for what, value in money.items()})
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Bounding:
    """How savings are bounded: whether baskets are drawn, the level, the number of draws, the seed."""

    drawn: bool = True
    level: float = 0.9
    resamples: int = 1000
    seed: int = 0


def surface(cases: Sequence[Case], points: Sequence[Penalties], how: Bounding) -> Surface:
    """Fit, schedule and account for every point on every fold, and choose."""
    return _chosen(tuple(points), tuple(tuple(case.at(point) for case in cases) for point in points), how)


def _chosen(points: tuple[Penalties, ...], accounts: tuple[tuple[Account, ...], ...], how: Bounding) -> Surface:
    r2 = np.array([np.mean([a.r2 for a in held]) for held in accounts])
    likelihood = int(np.argmax(r2))
    base = accounts[likelihood]
    pairs = [savings(base, held) for held in accounts]
    bands = simultaneous(pairs, how.drawn, how.level, how.resamples, how.seed)
    unit = float(np.mean([a.promised.sum() for a in base]))
    return Surface(points, accounts, likelihood, int(np.argmax(bands.saving)), cautious(bands, likelihood), unit, bands)


def loss_and_gradient(case: Case, point: Mapping[str, float], names: Sequence[str], how: str) -> tuple[float, Array]:
    """Cost of one fold, summed over parents, and its gradient in the logarithms of the penalties.

    Parameters
    ----------
    how
        "implicit": through the optimality of fit and schedule; "difference": central, from tight fits.
    """
    if how == "difference":

        def cost(shift: Mapping[str, float]) -> float:
            moved = {p: v * float(np.exp(shift.get(p, 0.0))) for p, v in point.items()}
            return float(case.account(case.fit(moved, _TIGHT).matrices).cost.sum())

        gradient = np.array([(cost({p: _STEP}) - cost({p: -_STEP})) / (2.0 * _STEP) for p in names])
        return cost({}), gradient
    if "within" in point:
        raise InvalidInput(
            "weighed pairs have no implicit derivative here",
            field="gradient",
            value=how,
            remedy='use gradient="difference"',
        )
    problem = case.path.problem(point)
    split = point.get("split", case.path.recipe.split)
    follows = "pool" not in point and case.path.recipe.pool is None and not split
    moves = [{p: point[p]} | ({"pool": point[p]} if p == "ridge" and follows else {}) for p in names]
    across = (problem.S - case.path.base.S) / split if split else None
    matrices, changes = penalty_derivatives(problem, moves, across)
    account = case.account(matrices)
    steepest = case.program.gradient(account.schedule, case.ruler.matrices)
    return float(account.cost.sum()), np.array([float(np.vdot(steepest, change)) for change in changes])


def polish(
    cases: Sequence[Case],
    found: Surface,
    bounding: Bounding,
    how: str,
    steps: int = 12,
    reach: float = 3.2,
    progress: Callable[[Penalties, float], None] | None = None,
) -> tuple[Surface, pd.DataFrame]:
    """Go downhill from the least cost on the grid by its gradient, within a factor ``reach``, and choose again.

    Returns
    -------
    tuple
        The surface with the end of the path as one more point, and the path: penalties and cost by step, in the unit
        of the surface.
    """
    from scipy.optimize import minimize

    start = found.points[found.least]
    names = list(start)
    unit = found.unit
    path: list[dict[str, float]] = []

    def loss(logs: Array) -> tuple[float, Array]:
        point = dict(zip(names, np.exp(logs).tolist(), strict=True))
        parts = [loss_and_gradient(case, point, names, how) for case in cases]
        value = float(np.mean([p[0] for p in parts])) / unit
        path.append(point | {"cost": value})
        if progress is not None:
            progress(point, value)
        return value, np.mean([p[1] for p in parts], axis=0) / unit

    origin = np.log([start[n] for n in names])
    bounds = [(o - np.log(reach), o + np.log(reach)) for o in origin]
    ended = minimize(loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": int(steps)})
    last = dict(zip(names, np.exp(ended.x).tolist(), strict=True))
    points = (*found.points, last)
    accounts = (*found.accounts, tuple(case.at(last) for case in cases))
    return _chosen(points, accounts, bounding), pd.DataFrame(path).rename_axis("step")
