"""`calibrate_decision`: penalties, then the kernel, chosen by what their schedules cost on held-out data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.folds import time_folds
from crosswind.problems.impact.decision.cases import Case, Desk, build_cases, training_path
from crosswind.problems.impact.decision.model import DecisionCalibration
from crosswind.problems.impact.decision.parents import ParentBaskets, draw_parents
from crosswind.problems.impact.decision.penalties import check_parameters, penalty_grid
from crosswind.problems.impact.decision.refine import RADII, refine_kernel
from crosswind.problems.impact.decision.search import Bounding, Surface, polish, surface
from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.sample import join_sessions
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.threads import one_blas_thread

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["calibrate_decision"]

Array = NDArray[np.float64]
_TOL = 1e-8


def calibrate_decision(
    events: MarketEvents | Iterable[MarketEvents],
    estimator: CrossImpact | None = None,
    parents: ParentBaskets | pd.DataFrame | pd.Series | None = None,
    objective: str = "realised cost",
    parameters: Sequence[str] = ("ridge", "pool"),
    grid: Mapping[str, Sequence[float]] | pd.DataFrame | None = None,
    folds: int = 3,
    times_s: Sequence[float] | Array | None = None,
    temporary: float | pd.Series = 0.1,
    risk: pd.DataFrame | None = None,
    ruler: str = "symmetric",
    search: str = "grid",
    gradient: str = "difference",
    refine: str | None = None,
    radii: Sequence[float] = RADII,
    cells: int = 12,
    level: float = 0.9,
    resamples: int = 1000,
    seed: int = 0,
) -> DecisionCalibration:
    r"""Choose penalties by the cost of the schedules they lead to, on data that neither fit nor schedule has seen.

    For each fold and each set of penalties θ: fit K(θ) to the training rows; schedule the parents,
    u*(K) = argmin ½u'H(K)u with Σ_t u_t = X (`crosswind.problems.impact.decision.schedule`); account for them under
    unconstrained least squares on the held-out rows, which is unbiased because costs are linear in the kernel
    (`crosswind.problems.impact.decision.ruler`). Of all θ the one with the largest lower bound of its saving against
    the choice by held-out R² is taken, if that is above 0 (`crosswind.problems.impact.decision.search`).

    Parameters
    ----------
    events
        Buckets, or a list of sessions.
    estimator
        A `CrossImpact` with a linear transform and squared loss; its ``ridge`` and ``ridge_grid`` are not used where
        the ridge is chosen here. None: the default one.
    parents
        Baskets: `draw_parents`, or a table names × parents of signed currency. None: 32 drawn with ``seed``.
    objective
        "realised cost", or "likelihood": the choice by held-out R², with the same table beside it.
    parameters
        Penalties to choose among "ridge", "pool", "split", "l1", or "within" and "between", in place of the ridge, by
        whether a pair is in one sector (else cluster). What is not chosen is the estimator's.
    grid
        Parameter → values, or a table of points; defaults for what is not given.
    folds
        Blocked, purged folds, at least 2; each block must hold more rows than N·M regressors.
    times_s, temporary, risk
        Trade times [s], temporary impact and risk of the schedules, see `Desk`.
    ruler
        "symmetric" (default; unbiased where the truth is symmetric, less noise) or "free".
    search
        "grid" (default), or "gradient": also go downhill from its least cost, within a factor of about 3.
    gradient
        "difference" (default; central differences of tight warm fits) or "implicit" (through the optimality of fit and
        schedule; dense, for few names).
    refine
        None, or "kernel": then move the fitted kernel itself, see `crosswind.problems.impact.decision.refine`.
    radii
        Radii of that move, relative to the kernel's norm.
    cells
        Runs of rows by which the ruler's noise is measured.
    level, resamples, seed
        Coverage of the bounds, draws behind them, seed of draws and baskets.

    Raises
    ------
    InvalidInput
        An option out of range, or an estimator whose options read the rows again.
    DataGap
        Too few rows for the folds, or baskets with unknown names.
    SolverFailure
        A fit was not solved.

    Examples
    --------
    >>> from crosswind.problems.market import simulate
    >>> found = calibrate_decision(simulate(names=3, days=3, bucket_s=60.0).events, parameters=("ridge",))
    >>> found.agrees
    True
    """
    estimator = CrossImpact() if estimator is None else estimator
    names = check_parameters(parameters)
    points = penalty_grid(names, grid)
    _check_given(estimator, names)
    _check(estimator, objective, search, gradient, refine, level, resamples, radii)
    events = join_sessions(events)
    dictionary = estimator._dictionary(events.bucket_s, None)
    baskets = draw_parents(events.names, 32, seed) if parents is None else ParentBaskets.of(parents)
    desk = Desk(baskets, None if times_s is None else np.asarray(times_s, dtype=np.float64), temporary, risk)
    bounding = Bounding(baskets.drawn, float(level), int(resamples), int(seed))
    asked = {
        "objective": objective,
        "folds": int(folds),
        "ruler": ruler,
        "search": search,
        "gradient": gradient,
        "refine": refine,
        "cells": int(cells),
        "resamples": int(resamples),
        "seed": int(seed),
    }
    with one_blas_thread():
        return _calibrate(events, estimator, dictionary, desk, points, bounding, asked, [float(r) for r in radii])


def _calibrate(
    events: MarketEvents,
    estimator: CrossImpact,
    dictionary: Dictionary,
    desk: Desk,
    points: list[dict[str, float]],
    bounding: Bounding,
    asked: dict[str, Any],
    radii: list[float],
) -> DecisionCalibration:
    folds, ruler, cells = asked["folds"], asked["ruler"], asked["cells"]
    cases = build_cases(events, estimator, dictionary, desk, folds, ruler, cells)
    found = surface(cases, points, bounding)
    path: pd.DataFrame | None = None
    if asked["search"] == "gradient":
        found, path = polish(cases, found, bounding, asked["gradient"])
    best = found.likelihood if asked["objective"] == "likelihood" else found.chosen
    penalties = found.points[best]

    final, _ = training_path(events, estimator, dictionary, _TOL)
    fit = final.at(penalties)
    K, refinement = fit.matrices, None
    if asked["refine"] == "kernel":
        trains = [train for train, _ in time_folds(events, folds, dictionary.memory_buckets).split(events)]
        K, refinement = refine_kernel(
            events,
            estimator,
            dictionary,
            desk,
            list(zip(trains, cases, strict=True)),
            (final.base, K),
            penalties,
            sorted(radii),
            ruler,
            cells,
            bounding,
        )
    table, bands = found.to_frame(), found.bands
    money = [float(v[best]) / found.unit for v in (bands.saving, bands.low, bands.high)]
    return DecisionCalibration(
        tuple(penalties),
        _series(penalties),
        _series(found.points[found.likelihood]),
        _series(found.points[found.least]),
        table,
        *((0.0, 0.0, 0.0) if best == found.likelihood else (money[0], money[1], money[2])),
        bounding.level,
        _folds(cases, found, best),
        path,
        _model(final.base.unscale(K), dictionary, tuple(str(n) for n in events.names), events.currency),
        fit.gap,
        refinement,
        desk.parents,
        asked,
    )


def _check_given(estimator: CrossImpact, chosen: tuple[str, ...]) -> None:
    """Refuse penalties that are neither chosen here nor numbers."""
    if not isinstance(estimator, CrossImpact):
        raise InvalidInput(
            "has no penalties to choose", field="estimator", value=type(estimator).__name__, remedy="give a CrossImpact"
        )
    for field in ("ridge", "pool", "split"):
        value = getattr(estimator, field)
        if isinstance(value, str) and field not in chosen and not (field == "ridge" and "within" in chosen):
            raise InvalidInput(
                "is chosen neither here nor by the user",
                field=field,
                value=value,
                remedy=f'put "{field}" among the parameters, or give the estimator a number',
            )


def _check(
    estimator: CrossImpact,
    objective: str,
    search: str,
    gradient: str,
    refine: str | None,
    level: float,
    resamples: int,
    radii: Sequence[float],
) -> None:
    rows = estimator._needs_rows()
    if rows or not isinstance(estimator.defactor, bool) or estimator.sparse_threshold:
        raise InvalidInput(
            "a decision-focused calibration works on moments of linear flow",
            field="estimator",
            value=rows or ("defactor" if not isinstance(estimator.defactor, bool) else "sparse_threshold"),
            remedy="leave transform, loss, half-lives in words, a Defactor and the sparse threshold out",
        )
    for field, value, known in (
        ("objective", objective, ("realised cost", "likelihood")),
        ("search", search, ("grid", "gradient")),
        ("gradient", gradient, ("difference", "implicit")),
        ("refine", refine, (None, "kernel")),
    ):
        if value not in known:
            raise InvalidInput("unknown word", field=field, value=value, remedy=f"use one of {known}")
    if not 0.0 < level < 1.0:
        raise InvalidInput("must lie in (0, 1)", field="level", value=level)
    if int(resamples) != resamples or resamples < 100:
        raise InvalidInput("at least 100", field="resamples", value=resamples)
    if not len(radii) or any(not (np.isfinite(r) and r > 0) for r in radii):
        raise InvalidInput("radii must be positive and finite", field="radii", value=list(radii))


def _series(point: Mapping[str, float]) -> pd.Series:
    return pd.Series(dict(point), dtype=float, name="penalty")


def _model(K: Array, dictionary: Dictionary, names: tuple[str, ...], currency: str) -> ImpactModel:
    rates = dictionary.rates_per_s if dictionary.family == "exponential" else (0.0,)
    if dictionary.family in ("monotone", "convex"):
        rates = (float("nan"),) * dictionary.size
    return ImpactModel(names, np.array(rates), K, dictionary.family, dictionary.bucket_s, dictionary.lags, currency)


def _folds(cases: Sequence[Case], found: Surface, best: int) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for k, case in enumerate(cases):
        base, held = found.accounts[found.likelihood][k], found.accounts[best][k]
        saved = base.cost - held.cost
        rows.append(
            {
                "ruler_rows": case.ruler.rows,
                "cost_likelihood": base.cost.sum() / found.unit,
                "cost_chosen": held.cost.sum() / found.unit,
                "saving": saved.sum() / found.unit,
                "parents_better": float(np.mean(saved > 0)),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="fold"))
