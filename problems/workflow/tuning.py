"""Which policies the hedge stage compares, and how each is tuned before it is judged.

Rules that are not tuned are straw men: all get a grid of the same size on the same training parents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    ImmediateHedge,
    MarginalRule,
    MPCHedge,
    NoHedge,
    PlanHedge,
    SolvedOnceHedge,
    tune_policy,
)
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge import HedgeBeliefs, HedgeParent
    from crosswind.problems.replay import ReplayMarket, SimulatedVenue

__all__ = ["BASELINE", "MPC", "at_the_edge", "part", "rival_grids", "tuned_policies", "tuning_grids"]

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


def rival_grids(
    keys: Sequence[str] | None, risk_aversion: float, horizon: int
) -> dict[str, tuple[Any, dict[str, Sequence[Any]]]]:
    """Return class and grid, of four points each, by policy: those of the main job, some wider, and further rivals.

    Parameters
    ----------
    keys
        First words of the labels, of P1c (a clip), P2, P3a, P3b, BF, BS, SO, P4; None: all. P0 and P1 have no
        parameters: they may be named, and are always compared.
    risk_aversion
        λ that the controllers' grid begins at [1/currency].
    horizon
        Slices that P4 looks ahead.

    Raises
    ------
    InvalidInput
        For a key that is unknown.
    """
    main = tuning_grids(risk_aversion, horizon)
    factors = main[MPC][1]["risk_aversion"]
    grids: dict[str, tuple[Any, dict[str, Sequence[Any]]]] = {
        "P1c immediate, clipped": (ImmediateHedge, {"clip_share": (0.05, 0.1, 0.3, math.inf)}),
        "P2 batched": main["P2 batched"],
        "P3a marginal rule": (MarginalRule, {"risk_aversion": factors}),
        "P3b adaptive trigger": main["P3 adaptive trigger"],
        "BF fraction of the gap": (FractionHedge, {"fraction": (0.1, 0.3, 0.6, 1.0)}),
        "BS plan + fraction": (PlanHedge, {"fraction": (0.1, 0.3, 0.6, 1.0)}),
        # Where plans are revised, how much of the deviation is corrected matters more than the plan's λ.
        "SO solved once": (SolvedOnceHedge, {"risk_aversion": factors[1:3], "fraction": (0.3, 1.0)}),
        MPC: main[MPC],
    }
    known = {label.split()[0]: label for label in grids}
    if keys is None:
        return grids
    unknown = [key for key in keys if key not in (*known, "P0", "P1")]
    if unknown:
        raise InvalidInput("is unknown", field="policies", value=unknown, remedy=f"use some of {', '.join(known)}")
    return {label: grids[label] for key, label in known.items() if key in keys}


def at_the_edge(
    parameters: Mapping[str, Mapping[str, Any]], grids: Mapping[str, tuple[Any, Mapping[str, Sequence[Any]]]]
) -> list[str]:
    """Return the policies whose tuned value is the first or last of its grid: a wider grid might serve them better.

    Ends that are those of the parameter itself, a whole gap or no clip, and grids of two do not count.
    """
    return [
        label
        for label, chosen in parameters.items()
        if any(
            len(v := grids[label][1][key]) > 2 and value in (v[0], v[-1]) and value not in (1.0, math.inf)
            for key, value in chosen.items()
        )
    ]


def part(progress: Callable[[float], None] | None, begin: float, share: float) -> Callable[[float], None] | None:
    """Return what a part of the work reports to: its own 0..1 becomes begin..begin + share of the whole."""
    return None if progress is None else lambda done: progress(begin + share * done)


def tuned_policies(
    parents: Sequence[HedgeParent],
    markets: Mapping[str, ReplayMarket],
    beliefs: HedgeBeliefs | Mapping[str, HedgeBeliefs],
    venue: SimulatedVenue | Mapping[str, SimulatedVenue],
    *,
    grids: Mapping[str, tuple[Any, Mapping[str, Sequence[Any]]]],
    tune: bool = True,
    progress: Callable[[float], None] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the policies by label, each tuned on ½ mean + ½ q95 of the training parents, and their parameters.

    P0 and P1 have nothing to tune. ``progress`` hears the share done, of which the controller is nearly all. Without
    ``tune`` every policy takes the middle of its grid, and nothing is replayed.
    """
    policies: dict[str, Any] = {"P0 none": NoHedge(), BASELINE: ImmediateHedge()}
    parameters: dict[str, dict[str, Any]] = {}
    begun = 0.0
    weights = {label: 0.8 if label == MPC else 0.2 / max(len(grids) - 1, 1) for label in grids}
    for label, (make, grid) in grids.items():
        if not tune:
            parameters[label] = {key: values[(len(values) - 1) // 2] for key, values in grid.items()}
            policies[label] = make(**parameters[label])
            continue
        share = weights[label] / sum(weights.values())
        found = tune_policy(make, grid, parents, markets, beliefs, venue, progress=part(progress, begun, share))
        begun += share
        policies[label], parameters[label] = found.policy, found.parameters
    return policies, parameters
