"""Which policies the hedge stage compares, and how each is tuned before it is judged.

Rules that are not tuned are straw men: all get a grid of the same size on the same training parents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    ImmediateHedge,
    MPCHedge,
    NoHedge,
    PlanHedge,
    tune_policy,
)

if TYPE_CHECKING:
    from crosswind.problems.hedge import HedgeBeliefs, HedgeParent
    from crosswind.problems.replay import ReplayMarket, SimulatedVenue

__all__ = ["BASELINE", "MPC", "at_the_edge", "part", "tuned_policies", "tuning_grids"]

BASELINE, MPC = "P1 immediate", "P4 MPC"


def tuning_grids(risk_aversion: float, horizon: int) -> dict[str, tuple[Any, dict[str, Sequence[Any]]]]:
    """Return class and grid by policy; every grid has four points, so that no policy is searched harder."""
    factors = (10.0, 100.0, 1000.0, 10_000.0)
    return {
        "P2 batched": (BatchedHedge, {"every": (2, 3, 5, 10)}),
        "P3 adaptive trigger": (AdaptiveTrigger, {"threshold_bps": (0.1, 0.3, 1.0, 3.0)}),
        "BF fraction of the gap": (FractionHedge, {"fraction": (0.1, 0.25, 0.5, 0.75)}),
        "BS plan + fraction": (PlanHedge, {"fraction": (0.1, 0.25, 0.5, 0.75)}),
        MPC: (MPCHedge, {"risk_aversion": tuple(f * risk_aversion for f in factors), "horizon": (horizon,)}),
    }


def at_the_edge(
    parameters: Mapping[str, Mapping[str, Any]], grids: Mapping[str, tuple[Any, Mapping[str, Sequence[Any]]]]
) -> list[str]:
    """Return the policies whose tuned value is the first or last of its grid: a wider grid might serve them better."""
    return [
        label
        for label, chosen in parameters.items()
        if any(len(v := grids[label][1][key]) > 1 and value in (v[0], v[-1]) for key, value in chosen.items())
    ]


def part(progress: Callable[[float], None] | None, begin: float, share: float) -> Callable[[float], None] | None:
    """Return what a part of the work reports to: its own 0..1 becomes begin..begin + share of the whole."""
    return None if progress is None else lambda done: progress(begin + share * done)


def tuned_policies(
    parents: Sequence[HedgeParent],
    markets: Mapping[str, ReplayMarket],
    beliefs: HedgeBeliefs,
    venue: SimulatedVenue,
    *,
    risk_aversion: float,
    horizon: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the policies by label, each tuned on ½ mean + ½ q95 of the training parents, and their parameters.

    P0 and P1 have nothing to tune. ``progress`` hears the share done, of which the controller is nearly all.
    """
    grids = tuning_grids(risk_aversion, horizon)
    policies: dict[str, Any] = {"P0 none": NoHedge(), BASELINE: ImmediateHedge()}
    parameters: dict[str, dict[str, Any]] = {}
    begun = 0.0
    for label, (make, grid) in grids.items():
        share = 0.8 if label == MPC else 0.2 / (len(grids) - 1)
        found = tune_policy(make, grid, parents, markets, beliefs, venue, progress=part(progress, begun, share))
        begun += share
        policies[label], parameters[label] = found.policy, found.parameters
    return policies, parameters
