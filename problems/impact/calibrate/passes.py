"""The passes over the data: all rows, each fold, each model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.cells import Cells
from crosswind.problems.impact.calibrate.folds import TimeFolds, cut_rows
from crosswind.problems.impact.calibrate.refit import fresh
from crosswind.problems.impact.calibrate.scores import HeldOut, held_out_errors
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.evaluate import recovery
from crosswind.problems.impact.features import session_rows
from crosswind.solvers.errors import CrosswindError

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents, SimulatedTruth

__all__ = ["Progress", "cross_validate", "fit_all", "periods", "recoveries", "session_s"]

Progress = Callable[[str, float], None]


def fit_all(
    models: Mapping[str, ImpactEstimator], events: MarketEvents
) -> tuple[dict[str, ImpactEstimator], dict[str, float], dict[str, str]]:
    """Fit a copy of each model on all rows: fitted, seconds, and the reasons of those that could not be."""
    fitted: dict[str, ImpactEstimator] = {}
    seconds: dict[str, float] = {}
    errors: dict[str, str] = {}
    for label, estimator in models.items():
        begun = time.perf_counter()
        try:
            fitted[label] = fresh(estimator).fit(events)
        except CrosswindError as error:
            errors[label] = str(error)
        seconds[label] = time.perf_counter() - begun
    return fitted, seconds, errors


def cross_validate(
    models: Mapping[str, ImpactEstimator],
    events: MarketEvents,
    cut: TimeFolds,
    cell: NDArray[np.intp],
    horizons: Sequence[float],
    report: Progress,
) -> tuple[dict[str, dict[float, HeldOut]], dict[str, str]]:
    """Sum each model's held-out errors over all folds, by horizon; a model that fails in one fold is left out."""
    count = int(cell.max()) + 1
    held: dict[str, dict[float, HeldOut]] = {}
    errors: dict[str, str] = {}
    for k, (fold, (train, test)) in enumerate(zip(cut.folds, cut.split(events), strict=True)):
        report(f"fold {k + 1} of {len(cut.folds)}", 0.1 + 0.5 * k / len(cut.folds))
        at = cell[fold.test[0] : fold.test[1]]
        for label, estimator in models.items():
            if label in errors:
                continue
            try:
                found = held_out_errors(fresh(estimator).fit(train), test, at, count, horizons)
            except CrosswindError as error:
                errors[label] = f"fold {k + 1}: {error}"
                held.pop(label, None)
                continue
            before = held.get(label)
            held[label] = found if before is None else {h: before[h] + found[h] for h in found}
    return held, errors


def session_s(events: MarketEvents) -> float:
    """Length of the longest session [s]."""
    longest = max(s.stop - s.start for s in session_rows(events.session.to_numpy()))
    return float(longest * events.bucket_s)


def periods(events: MarketEvents, cells: Cells) -> tuple[NDArray[np.intp], list[str]]:
    """Days, or four equal parts where there is one day."""
    days = [str(d) for d in events.days]
    if len(days) > 1:
        return cells.session, days
    parts = min(4, len(cells.grams))
    edges = cut_rows([slice(0, len(cells.grams))], parts)
    period = np.searchsorted(edges, np.arange(len(cells.grams)), side="right") - 1
    return period.astype(np.intp), [f"{days[0]} part {k + 1}" for k in range(parts)]


def recoveries(fitted: Mapping[str, ImpactEstimator], truth: SimulatedTruth) -> pd.DataFrame:
    """Distance of each linear model from the simulator's truth, one row per model."""
    rows: dict[str, Any] = {
        label: vars(recovery(e.model_, truth)) for label, e in fitted.items() if e.model_.transform is None
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
