"""`calibrate`: every estimator through the same blocks, the same resampling and the same held-out accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.bands import Bands, bootstrap_matrices, drift_table
from crosswind.problems.impact.calibrate.candidates import DIAGONAL, JOINT, OWN_FLOW, checked, default_estimators
from crosswind.problems.impact.calibrate.cells import (
    Cells,
    Resampling,
    affordable_cells,
    cell_moments,
    cell_of_rows,
    resampling_weights,
)
from crosswind.problems.impact.calibrate.costs import Programme, cost_table
from crosswind.problems.impact.calibrate.folds import Scheme, TimeFolds, cut_rows, time_folds
from crosswind.problems.impact.calibrate.model import Calibration
from crosswind.problems.impact.calibrate.refit import fresh
from crosswind.problems.impact.calibrate.scores import HeldOut, Scores, held_out_errors, usable_horizons
from crosswind.problems.impact.calibrate.stability import Halves, fit_halves
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.evaluate import recovery
from crosswind.problems.impact.features import session_rows
from crosswind.problems.impact.program import own_slopes
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents, SimulatedTruth

__all__ = ["calibrate"]

Array = NDArray[np.float64]
Progress = Callable[[str, float], None]

_CELLS = 60
_SCORE_DRAWS = 1000  # resampled sums of errors cost nothing; refits do


def calibrate(
    events: MarketEvents,
    estimators: Mapping[str, ImpactEstimator] | None = None,
    *,
    main: str = JOINT,
    reference: str = OWN_FLOW,
    folds: int = 5,
    scheme: Scheme = "blocked",
    horizons_s: Sequence[float] | None = None,
    purge_s: float | None = None,
    embargo_s: float | None = None,
    bootstrap: Resampling = "moving",
    block_s: float | None = None,
    draws: int = 100,
    level: float = 0.9,
    truth: SimulatedTruth | None = None,
    sectors: pd.Series | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Measure out of sample what each estimator is worth, with intervals, and how well its matrices are known.

    Each fold's block is scored by fits that saw neither the block nor the purged and embargoed rows around it. Scores,
    differences, matrices and costs are resampled by blocks of the same cells; refits use the cells' moments, so that
    the data are read once per fold and model, whatever the number of draws.

    Parameters
    ----------
    events
        Buckets to calibrate on. Keep later data back to verify what is promoted.
    estimators
        Name → estimator, none of which is touched. None: the joint fit, own-flow OLS, diagonal NNLS, Kyle, the tuned
        sequential heuristic and full OLS, over the default decay shapes.
    main
        The estimator whose matrices are resampled and followed through the days.
    reference
        The estimator that differences are taken against; the first one, where it is not among the estimators.
    folds, scheme
        Number of time blocks; "blocked" trains on both sides of a block, "forward" on its past alone.
    horizons_s
        Horizons of the scores [s]; None: the bucket, 1 s, 5 s, 30 s and 5 min, where the buckets allow.
    purge_s
        Time left out on both sides of a block [s]; None: the memory of the slowest shape. Never more than a quarter of
        a block: `Calibration.folds` says what was used.
    embargo_s
        Time left out after a block beyond that [s], against noise correlated over longer; None: the longest horizon.
    bootstrap, block_s
        "moving", "stationary" or "days", and the blocks' (mean) length [s]; None: C^{1/3} of the C cells, the rate that
        balances bias and variance of a variance estimate.
    draws, level
        Number of refits, and the coverage asked of all intervals.
    truth
        The simulator's truth, where there is one: adds the distance to it and the schedules' true costs.
    sectors
        Series name → sector for the default joint fit and the figures' order.
    seed
        Of all resampling and of the standard baskets' signs.
    progress
        Called with (stage, fraction done).

    Returns
    -------
    Calibration
        Tables, fits and figures; hand it to `promote`.

    Raises
    ------
    InvalidInput
        Bad numbers or names; events of the wrong kind.
    DataGap
        Too few rows for the folds, or no estimator that could be fitted.

    References
    ----------
    Lopez de Prado (2018), purged cross-validation; Kunsch (1989) and Politis and Romano (1994), block bootstrap; Hall,
    Horowitz and Jing (1995), block length.
    """
    begun = time.perf_counter()
    if not hasattr(events, "flow"):
        raise InvalidInput("is not MarketEvents", field="events", value=type(events).__name__, remedy="pass .events")
    if not 0.5 <= level < 1.0:
        raise InvalidInput("must lie in [0.5, 1)", field="level", value=level, remedy="0.9 is usual")
    for word, number in (("folds", folds), ("draws", draws)):
        if isinstance(number, bool) or int(number) != number or number < 2:
            raise InvalidInput("must be a whole number ≥ 2", field=word, value=number, remedy=f"give {word}=5 or more")
    two_stage = events.factors is not None and events.factors.shape[1] > 0
    models = checked(default_estimators(sectors=sectors) if estimators is None else estimators, two_stage)
    if main not in models:
        raise InvalidInput("unknown estimator", field="main", value=main, remedy=f"use one of {', '.join(models)}")
    reference = reference if reference in models else next(iter(models))
    report = progress or (lambda stage, done: None)

    bucket = events.bucket_s
    horizons = usable_horizons(events, horizons_s)
    report("fit on all rows", 0.0)
    fitted, seconds, errors = _fit_all(models, events)
    if not fitted:
        raise DataGap("no estimator could be fitted", field="events", value=errors, remedy="see the errors by name")
    memory = max(e.model_.dictionary.memory_buckets for e in fitted.values())
    purge = memory if purge_s is None else _buckets(purge_s, bucket, "purge_s")
    embargo = round(horizons[-1] / bucket) if embargo_s is None else _buckets(embargo_s, bucket, "embargo_s")
    cut = time_folds(events, folds, purge, embargo, scheme)
    shapes = max(e.model_.dictionary.size for e in fitted.values())
    cell = cell_of_rows(events, affordable_cells(len(events.names), shapes, _CELLS))
    resample = _Resample.of(events, cell, bootstrap, block_s, seed)
    resample.weights(draws)  # what cannot be drawn is refused before the long part
    held, failed = _cross_validate({k: models[k] for k in fitted}, events, cut, cell, horizons, report)
    errors |= failed
    if not held:
        raise DataGap("no estimator could be fitted in all folds", field="folds", value=errors, remedy="fewer folds")
    reference = reference if reference in held else next(iter(held))
    scores = Scores(tuple(events.names), held, resample.weights(_SCORE_DRAWS).astype(np.float64), level)

    report("halves and costs", 0.6)
    lead = fitted.get(main, next(iter(fitted.values())))
    base = fitted.get(DIAGONAL, lead).grams_.total
    programme = Programme.standard(
        tuple(events.names), own_slopes(base)[1], lead.model_.dictionary, _session_s(events), seed
    )
    halved: Halves = fit_halves(
        {k: models[k] for k in held},
        events,
        lead.model_.dictionary,
        programme,
        resample.cells_asked,
        draws,
        purge,
        seed,
    )
    errors |= halved.errors

    bands: Bands | None = None
    drift = pd.DataFrame()
    cells: Cells | None = None
    if main in fitted:
        report("resampled refits", 0.75)
        estimator = fitted[main]
        cells = cell_moments(events, estimator.model_.dictionary, cell, estimator._target(events))
        bands = bootstrap_matrices(estimator, cells, resample.weights(draws), level)
        report("drift", 0.9)
        period, labels = _periods(events, cells)
        drift = drift_table(estimator, cells, period, labels, seed)
    report("done", 1.0)

    return Calibration(
        names=tuple(events.names),
        main=main,
        reference=reference,
        fitted=fitted,
        errors=errors,
        scores=scores,
        folds=cut.to_frame(events),
        costs=cost_table(halved.accounts, reference, level),
        halves=halved.table,
        bands=bands,
        drift=drift,
        recovery=None if truth is None else _recovery(fitted, truth),
        sectors=sectors,
        moments=cells,
        settings={
            "folds": folds,
            "scheme": scheme,
            "bucket_s": bucket,
            "purge_s": cut.purge_buckets * bucket,
            "purge_asked_s": cut.asked_buckets * bucket,
            "embargo_s": cut.embargo_buckets * bucket,
            "bootstrap": bootstrap,
            "block_s": resample.length * resample.cell_s,
            "cell_s": resample.cell_s,
            "cells": resample.count,
            "draws": draws,
            "score_draws": _SCORE_DRAWS,
            "level": level,
            "ruler": halved.ruler,
            "seed": seed,
            "days": [str(d) for d in events.days],
            "end": str(events.index[-1]),
            "rows": len(events.index),
        },
        seconds=seconds | {"total": time.perf_counter() - begun},
    )


def _buckets(value_s: float, bucket_s: float, name: str) -> int:
    if not (np.isfinite(value_s) and value_s >= 0):
        raise InvalidInput("must be finite and ≥ 0", field=name, value=value_s, remedy="give it in seconds")
    return int(np.ceil(value_s / bucket_s - 1e-9))


@dataclass(frozen=True)
class _Resample:
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
    ) -> _Resample:
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
        rng = np.random.default_rng(self.seed)
        return resampling_weights(self.session, self.method, self.length, draws, rng)


def _fit_all(
    models: Mapping[str, ImpactEstimator], events: MarketEvents
) -> tuple[dict[str, ImpactEstimator], dict[str, float], dict[str, str]]:
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


def _cross_validate(
    models: Mapping[str, ImpactEstimator],
    events: MarketEvents,
    cut: TimeFolds,
    cell: NDArray[np.intp],
    horizons: Sequence[float],
    report: Progress,
) -> tuple[dict[str, dict[float, HeldOut]], dict[str, str]]:
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


def _session_s(events: MarketEvents) -> float:
    longest = max(s.stop - s.start for s in session_rows(events.session.to_numpy()))
    return float(longest * events.bucket_s)


def _periods(events: MarketEvents, cells: Cells) -> tuple[NDArray[np.intp], list[str]]:
    """Days, or four equal parts where there is one day."""
    days = [str(d) for d in events.days]
    if len(days) > 1:
        return cells.session, days
    parts = min(4, len(cells.grams))
    edges = cut_rows([slice(0, len(cells.grams))], parts)
    period = np.searchsorted(edges, np.arange(len(cells.grams)), side="right") - 1
    return period.astype(np.intp), [f"{days[0]} part {k + 1}" for k in range(parts)]


def _recovery(fitted: Mapping[str, ImpactEstimator], truth: SimulatedTruth) -> pd.DataFrame:
    rows: dict[str, Any] = {
        label: vars(recovery(e.model_, truth)) for label, e in fitted.items() if e.model_.transform is None
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
