"""Stability and cost: each estimator fitted on one half of the data and held against the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.cells import cell_moments, cell_of_rows, resampling_weights
from crosswind.problems.impact.calibrate.costs import Account, Programme, realised_costs
from crosswind.problems.impact.calibrate.folds import halves
from crosswind.problems.impact.calibrate.refit import fresh
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import Dictionary
from crosswind.solvers.errors import CrosswindError

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Halves", "fit_halves"]

Array = NDArray[np.float64]

_COLUMNS = ("distance", "cross_distance", "cross_agreement", "r2_within", "r2_across")


@dataclass(frozen=True, eq=False)
class Halves:
    """What the two halves say of each other.

    Parameters
    ----------
    table
        Rows models: "distance" and "cross_distance" of the two kernels relative to their mean, "cross_agreement" (the
        correlation of their scaled cross terms; NaN without), "r2_within" and "r2_across" (mean R² on the half fitted
        and on the other, averaged over both directions).
    accounts
        Model → promise and payment, summed over both directions.
    ruler
        What the payment is measured with.
    errors
        Model → why it could not be fitted on a half.
    """

    table: pd.DataFrame
    accounts: Mapping[str, Account]
    ruler: str
    errors: Mapping[str, str]


def fit_halves(
    models: Mapping[str, ImpactEstimator],
    events: MarketEvents,
    dictionary: Dictionary,
    programme: Programme,
    cells: int,
    draws: int,
    purge: int,
    seed: int,
) -> Halves:
    """Fit on each half, score on the other, and pay for the schedules under least squares on the other.

    Parameters
    ----------
    models
        Estimators, not touched.
    events
        All buckets.
    dictionary
        Decay shapes of the ruler.
    programme
        Baskets and times.
    cells, draws, seed
        For the noise of the ruler: cells of all rows, number of draws, seed.
    purge
        Kernel memory left out between the halves [buckets].
    """
    parts = halves(events, purge)
    fits: list[dict[str, ImpactEstimator]] = [{}, {}]
    errors: dict[str, str] = {}
    for part, found in zip(parts, fits, strict=True):
        for label, estimator in models.items():
            try:
                found[label] = fresh(estimator).fit(part)
            except CrosswindError as error:
                errors[label] = f"half: {error}"
    both = [label for label in models if label not in errors]
    rows = {label: _row(fits[0][label], fits[1][label], parts, programme) for label in both}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(_COLUMNS)).rename_axis("model")

    totals: dict[str, Account] = {}
    rng = np.random.default_rng(seed)
    for mine, other in ((0, 1), (1, 0)):
        cell = cell_of_rows(parts[other], max(8, cells // 2))
        # The ruler's returns are made residuals by a fit on its own half.
        target = fits[other][both[0]]._target(parts[other]) if both else None
        ruler = cell_moments(parts[other], dictionary, cell, target)
        count = len(ruler.grams)
        length = max(1, round(count ** (1.0 / 3.0)))
        weights = resampling_weights(ruler.session, "moving", length, draws, rng)
        fitted = {label: fits[mine][label].model_ for label in both}
        for label, account in realised_costs(fitted, programme, ruler, dictionary, weights).items():
            before = totals.get(label)
            totals[label] = account if before is None else _sum(before, account)
    return Halves(table, totals, "least squares on the other half", errors)


def _sum(a: Account, b: Account) -> Account:
    return Account(a.promised + b.promised, a.realised + b.realised, a.draws + b.draws)


def _row(
    first: ImpactEstimator, second: ImpactEstimator, parts: tuple[MarketEvents, MarketEvents], programme: Programme
) -> dict[str, float]:
    own = np.sqrt(programme.own)
    a, b = first.model_, second.model_
    lags = programme.times_s - programme.times_s[0]
    unit = np.outer(own, own)
    off = ~np.eye(len(own), dtype=bool)
    A, B = a.impact(lags) / unit, b.impact(lags) / unit
    x, y = A[0][off], B[0][off]
    agreement = float(np.corrcoef(x, y)[0, 1]) if x.size > 1 and x.std() > 0 and y.std() > 0 else float("nan")
    return {
        "distance": _apart(A, B),
        "cross_distance": _apart(A[:, off], B[:, off]),
        "cross_agreement": agreement,
        "r2_within": 0.5 * (first.score(parts[0]) + second.score(parts[1])),
        "r2_across": 0.5 * (first.score(parts[1]) + second.score(parts[0])),
    }


def _apart(A: Array, B: Array) -> float:
    """Return ‖A − B‖ / ‖(A + B)/2‖; NaN where both vanish."""
    size = float(np.linalg.norm(0.5 * (A + B)))
    return float(np.linalg.norm(A - B)) / size if size > 0 else float("nan")
