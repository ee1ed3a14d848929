"""Tuning: a grid over a policy's parameters on training parents, then frozen.

Rules that are not tuned are straw men: every policy that is compared should come from here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.compare import compare_policies, score
from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent
from crosswind.problems.hedge.state import HedgePolicy
from crosswind.problems.replay.model import ReplayMarket
from crosswind.problems.replay.venue import SimulatedVenue
from crosswind.solvers.errors import InvalidInput

__all__ = ["TunedPolicy", "tune_policy"]


@dataclass(frozen=True, eq=False)
class TunedPolicy:
    """Result of a tuning.

    Parameters
    ----------
    policy
        The policy with the best parameters: use it as it is on held-out parents.
    parameters
        They.
    score_bps
        ½ mean + ½ q95 of the hedge cost on the training parents [bps].
    table
        One row per point of the grid: parameters and score, best first.
    """

    policy: HedgePolicy
    parameters: dict[str, Any]
    score_bps: float
    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def summary(self) -> str:
        """Return one line of text."""
        chosen = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{type(self.policy).__name__}({chosen}): {self.score_bps:.3f} bps on the training parents"


def tune_policy(
    make: Callable[..., HedgePolicy],
    grid: Mapping[str, Sequence[Any]],
    parents: Sequence[HedgeParent],
    markets: Mapping[str, ReplayMarket] | ReplayMarket,
    beliefs: HedgeBeliefs | Mapping[str, HedgeBeliefs],
    venue: SimulatedVenue | Mapping[str, SimulatedVenue] | None = None,
    *,
    integer: bool = False,
    progress: Callable[[float], None] | None = None,
) -> TunedPolicy:
    """Find the parameters with the least ½ mean + ½ q95 of the hedge cost on training parents.

    Parameters
    ----------
    make
        Builds a policy from keyword arguments, for example the class itself.
    grid
        Values to try by keyword; all combinations are replayed, the first wins a tie.
    parents, markets, beliefs, venue, integer, progress
        As in :func:`crosswind.problems.hedge.compare.compare_policies`.

    Returns
    -------
    TunedPolicy

    Raises
    ------
    InvalidInput
        For an empty grid, or what the comparison refuses.
    """
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not grid or not points:
        raise InvalidInput("holds no point", field="grid", value=dict(grid), remedy="give values for each parameter")
    policies = {str(number): make(**point) for number, point in enumerate(points)}
    scores = score(
        compare_policies(
            parents, policies, markets, beliefs, venue, integer=integer, zero_impact=False, progress=progress
        )
    ).to_numpy(float)
    table = pd.DataFrame(points).assign(score_bps=scores)
    best = int(np.argmin(scores))
    return TunedPolicy(
        policy=make(**points[best]),
        parameters=points[best],
        score_bps=float(scores[best]),
        table=table.sort_values("score_bps", kind="stable", ignore_index=True),
    )
