"""The fit stage: the joint fit and every baseline on the earlier days, scored on the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    FullOLS,
    ImpactModel,
    KyleImpact,
    OwnFlowOLS,
    SequentialHeuristic,
    compare_models,
    lagged_correlation,
    recovery,
)
from crosswind.problems.impact.diagnose import Diagnosis, diagnose
from crosswind.solvers.errors import CrosswindError

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents, SimulatedTruth

__all__ = ["JOINT", "FitStage", "estimators", "fit_stage"]

JOINT = "joint"
_PRICED = 20  # names up to which the limits' prices, which take a general cone solver, cost a run less than a second


@dataclass(frozen=True)
class FitStage:
    """The fitted estimators and how they did on the day they had not seen."""

    joint: CrossImpact
    out_of_sample: pd.DataFrame
    recovery: pd.DataFrame | None
    diagnosis: Diagnosis
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> ImpactModel:
        """The joint fit's model, which schedules are built on."""
        return self.joint.model_


def estimators(sectors: pd.Series | None = None) -> dict[str, Any]:
    """Return the joint estimator and every baseline, by the name they have in tables.

    All use the same decay dictionary, so that the comparison is about the matrices.
    """
    return {
        JOINT: CrossImpact(sectors=sectors),
        "own-flow OLS": OwnFlowOLS(),
        "full OLS": FullOLS(),
        "sequential heuristic": SequentialHeuristic(),
        "diagonal NNLS": DiagonalNNLS(),
        "Kyle": KyleImpact(),
    }


def fit_stage(
    train: MarketEvents,
    test: MarketEvents,
    truth: SimulatedTruth | None,
    models: Mapping[str, Any] | None = None,
) -> FitStage:
    """Fit all estimators on ``train`` and score them on ``test``; with a known truth, measure the distance to it.

    The sectors handed to the joint fit are public knowledge; nothing else of the truth is used in a fit. ``models``
    replaces the default estimators; one of them must be called ``"joint"``.
    """
    if models is None:
        models = estimators(None if truth is None else truth.sectors)
    table = compare_models(models, train, test)
    joint = models[JOINT]
    if not hasattr(
        joint, "model_"
    ):  # the table keeps the refusals of all models; without the joint fit nothing follows
        joint.fit(train)
    best = table["mean"].idxmax()
    notes = () if best == JOINT else (f"out of sample, {best} has a higher mean R² than the joint fit",)
    sectors = None if truth is None else truth.sectors
    return FitStage(
        diagnosis=diagnose(joint, sectors, lead_lag=clock_curves(train), prices=len(train.names) <= _PRICED),
        joint=joint,
        out_of_sample=table,
        recovery=None if truth is None else _recovery(models, truth),
        settings={k: v for k, v in joint.get_params().items() if not isinstance(v, pd.Series)},
        notes=notes,
    )


def clock_curves(events: MarketEvents, pairs: int = 6) -> pd.DataFrame | None:
    """Return the shifted-bucket curves of the pairs of names that move together most, lag [s] × pair.

    None where there is no pair, or where a name does not move.
    """
    returns = events.returns
    together = returns.corr().abs().to_numpy()
    first, second = np.triu_indices(len(events.names), 1)
    order = np.argsort(-together[first, second], kind="stable")[:pairs]
    names = list(events.names)
    try:
        curves = {
            f"{names[i]}, {names[j]}": lagged_correlation(events, names[i], names[j])
            for i, j in zip(first[order], second[order], strict=True)
        }
    except CrosswindError:
        return None
    return pd.DataFrame(curves).rename_axis("lag_s") if curves else None


def _recovery(models: Mapping[str, Any], truth: SimulatedTruth) -> pd.DataFrame:
    """Return the distance of every fitted estimate to the truth, one row per estimator."""
    rows = {name: vars(recovery(model.model_, truth)) for name, model in models.items() if hasattr(model, "model_")}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
