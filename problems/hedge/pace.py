"""How a cash algorithm is expected to fill: with its plan, or behind it and catching up.

What is still to come of a parent is known, q left by name; when, is a forecast. With the plan's rows p_0..p_{n−1} for
the slices left, a share a of the plan that is done as planned, and what the plan does not place, d = q − aΣp,

    u_j = a·p_j + w_j·d,     Σ_j w_j = 1

with w_j = 1/n (evenly), or w_j = c(1 − c)^j with the rest in the last slice: a share c of what is behind is made up in
each slice. An algorithm that waits for liquidity has a small a; one that does a late block at the next chance has a = 1
and c near 1. Whoever expects a late block evenly over the rest of the day sells the hedge that was bought for it, and
buys it back a slice later.

:func:`learn_pace` chooses a and c on fills of other parents by the squared error of the next slice's fill.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.model import HedgeParent

__all__ = ["FillPace", "learn_pace"]

PLANNED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
CATCH_UP = (None, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class FillPace:
    """A forecast of fills (formula in the module's text).

    Parameters
    ----------
    planned
        a, share of the plan that is expected as planned, in [0, 1].
    catch_up
        c, share of what is behind that is made up per slice, in (0, 1]; None: evenly over the slices left.

    Raises
    ------
    InvalidInput
        For a share out of range.
    """

    planned: float = 1.0
    catch_up: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.planned) and 0.0 <= self.planned <= 1.0):
            raise InvalidInput("must lie in [0, 1]", field="planned", value=self.planned, remedy="use 1.0")
        if self.catch_up is not None and not (math.isfinite(self.catch_up) and 0.0 < self.catch_up <= 1.0):
            raise InvalidInput("must lie in (0, 1]", field="catch_up", value=self.catch_up, remedy="use None")

    def coming(self, plan: FloatArray, left: FloatArray) -> FloatArray:
        """Return the fills expected in the slices left, (n, N).

        Parameters
        ----------
        plan
            The plan's rows for them, (n, N), n ≥ 1.
        left
            What is still to be filled by name, (N,), in the plan's unit.

        Returns
        -------
        ndarray, (n, N)
            Its columns sum to ``left``.
        """
        base = plan if self.planned == 1.0 else self.planned * plan
        behind, n = left - base.sum(axis=0), len(plan)
        if self.catch_up is None:
            return np.asarray(base + behind / n)
        weights = self.catch_up * (1.0 - self.catch_up) ** np.arange(n)
        weights[-1] = 1.0 - weights[:-1].sum()
        return np.asarray(base + weights[:, None] * behind)


def learn_pace(done: Iterable[tuple[HedgeParent, ReplayMarket]]) -> FillPace:
    """Return the pace with the least squared error of the next slice's fill, in shares of each parent's notional.

    Parameters
    ----------
    done
        Parents with their fills, and their markets. The last slice is left out, as whatever is left is done in it, and
        so is what comes after a parent's end by cancellation.

    Returns
    -------
    FillPace
        From a grid of a and c; the first wins a tie.

    Raises
    ------
    DataGap
        When no parent has fills, or none has two slices.
    """
    grid = [FillPace(a, c) for a, c in itertools.product(PLANNED, CATCH_UP)]
    errors, seen = np.zeros(len(grid)), 0
    for parent, market in done:
        if parent.fills is None:
            continue
        value = parent.arrival(market) / parent.notional(market)
        filled = parent.executed_plan(market) * value
        so_far = np.vstack([np.zeros(filled.shape[1]), np.cumsum(filled, axis=0)])
        changes = {revision.slice: revision for revision in parent.revisions}
        plan = parent.known_plan(0, market) * value
        for k in range(parent.slices - 1):
            if k in changes:
                if changes[k].settled:
                    break
                plan = parent.known_plan(k, market) * value
            left = plan.sum(axis=0) - so_far[k]
            rest, n = plan[k:].sum(axis=0), parent.slices - k
            seen += 1
            for number, pace in enumerate(grid):
                share = 1.0 / n if pace.catch_up is None else pace.catch_up
                miss = pace.planned * plan[k] + share * (left - pace.planned * rest) - filled[k]
                errors[number] += float(miss @ miss)
    if not seen:
        raise DataGap("no fills to learn from", field="done", value=seen, remedy="give parents with fills")
    return grid[int(np.argmin(errors))]
