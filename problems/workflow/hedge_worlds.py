"""Hedge policies on a world's orders: tuned on some episodes, compared on later ones.

The episodes are those of :mod:`crosswind.problems.hedge.worlds`; each has its own market, beliefs and venue, and the
beliefs are the truth. Training episodes are the first of the draw, the judged ones follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crosswind.problems.hedge import HedgeComparison, compare_policies, episodes
from crosswind.problems.workflow.tuning import BASELINE, MPC, at_the_edge, part, rival_grids, tuned_policies
from crosswind.solvers.errors import InvalidInput

__all__ = ["HedgeRivalry", "compare_in_world"]


@dataclass(frozen=True, eq=False)
class HedgeRivalry:
    """Outcome of :func:`compare_in_world`.

    Parameters
    ----------
    comparison
        Policies on the judged orders.
    parameters
        Chosen parameters by policy.
    settings
        World, orders, seed.
    notes
        What a reader of the figures must know.
    """

    comparison: HedgeComparison
    parameters: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def worst_ledger_error(self) -> float:
        """Largest relative difference between a replay's components and its ledger."""
        both = [self.comparison, self.comparison.zero_impact]
        return float(max(c.to_frame()["ledger_error"].max() for c in both if c is not None))

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Rungs below OPTIMAL that P4 used, with their counts."""
        rungs: dict[str, int] = {}
        for (_, policy), run in self.comparison.replays.items():
            for rung in run.decisions["rung"] if policy == MPC else ():
                rungs[str(rung)] = rungs.get(str(rung), 0) + 1
        return tuple(
            f"MPC used {rung} {n} times" for rung, n in sorted(rungs.items()) if rung not in ("OPTIMAL", "CLOSE")
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables to be written."""
        found = self.comparison
        tables = {
            "hedge_policies": found.table(),
            "hedge_parents": found.to_frame().reset_index(),
            "hedge_differences": found.differences(),
        }
        if found.zero_impact is not None:
            tables["hedge_policies_zero_impact"] = found.zero_impact.table()
        return tables


def compare_in_world(
    world: str,
    orders: int = 20,
    training: int | None = None,
    seed: int = 0,
    *,
    policies: Sequence[str] | None = None,
    tune: bool = True,
    risk_aversion: float = 1e-6,
    horizon: int = 20,
    impact: float = 1.0,
    volatility: float = 1.0,
    latency: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> HedgeRivalry:
    """Tune hedge policies on a world's first orders and compare them on the next.

    Parameters
    ----------
    world
        Name or key of a declared world with a desk.
    orders
        Orders that the policies are compared on, at least 1.
    training
        Orders before them that they are tuned on; default as many.
    seed
        Of the simulation.
    policies
        Keys, as for :func:`crosswind.problems.workflow.tuning.rival_grids`; None: all.
    tune
        False: every policy takes the middle of its grid, and no order is used for training.
    risk_aversion
        λ that the controllers' grid begins at [1/currency].
    horizon
        Slices that P4 looks ahead.
    impact, volatility, latency
        Factors of the world's variant.
    progress
        Called with the share done, in (0, 1].

    Returns
    -------
    HedgeRivalry

    Raises
    ------
    InvalidInput
        For an unknown world or policy, fewer than one order, a factor out of range.
    DataGap
        When the world has no desk.
    CrosswindError
        When components and ledger of a replay disagree.
    """
    grids = rival_grids(policies, risk_aversion, horizon)
    learnt = 0 if not tune else orders if training is None else training
    for name, value, low in (("orders", orders, 1), ("training", learnt, 1 if tune else 0)):
        if value < low:
            raise InvalidInput(
                f"must be at least {low}", field=name, value=value, remedy="ask for more, or do not tune"
            )
    drawn = episodes(world, learnt + orders, seed, impact=impact, volatility=volatility, latency=latency)
    names = [episode.parent.name for episode in drawn]
    markets = {e.parent.name: e.market for e in drawn}
    beliefs = {e.parent.name: e.beliefs for e in drawn}
    venues = {e.parent.name: e.venue for e in drawn}
    parents = [e.parent for e in drawn]
    chosen, parameters = tuned_policies(
        parents[:learnt], markets, beliefs, venues, grids=grids, tune=tune, progress=part(progress, 0.0, 0.7)
    )
    comparison = compare_policies(
        parents[learnt:],
        chosen,
        markets,
        beliefs,
        venues,
        baseline=BASELINE,
        seed=seed,
        progress=part(progress, 0.7, 0.3),
    )
    notes = [f"{learnt} orders to tune on, {orders} judged; policies believe the world's own impact and variance"]
    if not tune:
        notes.append("policies are not tuned: a rule that is not tuned is a straw man")
    elif edge := at_the_edge(parameters, grids):
        notes.append(f"tuned to an end of its grid: {', '.join(edge)}")
    return HedgeRivalry(
        comparison,
        parameters,
        {"world": drawn[0].world, "seed": seed, "training": names[:learnt], "judged": names[learnt:], "tuned": tune},
        tuple(notes),
    )
