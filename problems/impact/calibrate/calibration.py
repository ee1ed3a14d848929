"""`calibrate`: every estimator through the same blocks, the same resampling and the same held-out accounts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.bands import Bands, bootstrap_matrices, drift_table
from crosswind.problems.impact.calibrate.candidates import DIAGONAL, JOINT, OWN_FLOW, checked, default_estimators
from crosswind.problems.impact.calibrate.cells import (
    CellDraws,
    Cells,
    Resampling,
    affordable_cells,
    cell_moments,
    cell_of_rows,
)
from crosswind.problems.impact.calibrate.costs import Programme, cost_table
from crosswind.problems.impact.calibrate.folds import Scheme, time_folds
from crosswind.problems.impact.calibrate.model import Calibration
from crosswind.problems.impact.calibrate.passes import (
    Progress,
    cross_validate,
    fit_all,
    periods,
    recoveries,
    session_s,
)
from crosswind.problems.impact.calibrate.scores import Scores, usable_horizons
from crosswind.problems.impact.calibrate.stability import Halves, fit_halves
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.program import own_slopes
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents, SimulatedTruth

__all__ = ["calibrate"]

Array = NDArray[np.float64]

_CELLS = 60
_DRIFT_DRAWS = 40  # enough for one quantile; of these there is a set for each day
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
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("must be a whole number ≥ 0", field="seed", value=seed, remedy="give seed=0")
    two_stage = events.factors is not None and events.factors.shape[1] > 0
    models = checked(default_estimators(sectors=sectors) if estimators is None else estimators, two_stage)
    if main not in models:
        raise InvalidInput("unknown estimator", field="main", value=main, remedy=f"use one of {', '.join(models)}")
    reference = reference if reference in models else next(iter(models))
    report = progress or (lambda stage, done: None)

    bucket = events.bucket_s
    horizons = usable_horizons(events, horizons_s)
    report("fit on all rows", 0.0)
    fitted, seconds, errors = fit_all(models, events)
    if not fitted:
        raise DataGap("no estimator could be fitted", field="events", value=errors, remedy="see the errors by name")
    memory = max(e.model_.dictionary.memory_buckets for e in fitted.values())
    purge = memory if purge_s is None else _buckets(purge_s, bucket, "purge_s")
    embargo = round(horizons[-1] / bucket) if embargo_s is None else _buckets(embargo_s, bucket, "embargo_s")
    cut = time_folds(events, folds, purge, embargo, scheme)
    shapes = max(e.model_.dictionary.size for e in fitted.values())
    cell = cell_of_rows(events, affordable_cells(len(events.names), shapes, _CELLS))
    resample = CellDraws.of(events, cell, bootstrap, block_s, seed)
    resample.weights(draws)  # what cannot be drawn is refused before the long part
    held, failed = cross_validate({k: models[k] for k in fitted}, events, cut, cell, horizons, report)
    errors |= failed
    if not held:
        raise DataGap("no estimator could be fitted in all folds", field="folds", value=errors, remedy="fewer folds")
    reference = reference if reference in held else next(iter(held))
    scores = Scores(tuple(events.names), held, resample.weights(_SCORE_DRAWS).astype(np.float64), level)

    report("halves and costs", 0.6)
    lead = fitted.get(main, next(iter(fitted.values())))
    base = fitted.get(DIAGONAL, lead).grams_.total
    programme = Programme.standard(
        tuple(events.names), own_slopes(base)[1], lead.model_.dictionary, session_s(events), seed
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
        period, labels = periods(events, cells)
        drift = drift_table(estimator, cells, period, labels, seed, min(draws, _DRIFT_DRAWS))
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
        recovery=None if truth is None else recoveries(fitted, truth),
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
