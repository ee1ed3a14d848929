"""Policies side by side: the same parents, the same cash fills, another hedge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.attribution import COMPONENTS
from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent
from crosswind.problems.hedge.run import HedgeReplay, replay_hedge
from crosswind.problems.hedge.state import HedgePolicy
from crosswind.problems.replay.model import Fill, ReplayMarket
from crosswind.problems.replay.venue import SimulatedVenue
from crosswind.solvers.errors import CrosswindError, InvalidInput

__all__ = ["HedgeComparison", "compare_policies", "score"]


@dataclass(frozen=True, eq=False)
class HedgeComparison:
    """Outcome of :func:`compare_policies`.

    Parameters
    ----------
    replays
        By (parent, policy).
    baseline
        Policy that paired differences refer to.
    seed, draws
        Of the bootstrap.
    zero_impact
        The same comparison on a venue without impact, or None. What a policy gains only where impact is assumed shows
        as the difference of the two.
    """

    replays: dict[tuple[str, str], HedgeReplay]
    baseline: str
    seed: int
    draws: int
    zero_impact: HedgeComparison | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the parents."""
        return tuple(dict.fromkeys(parent for parent, _ in self.replays))

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies."""
        return tuple(dict.fromkeys(policy for _, policy in self.replays))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per parent and policy.

        Columns: components, ``net`` and ``hedge_cost`` [currency], the same with ``_bps`` [bps of parent notional],
        ``integrated_gap`` [currency·s], ``futures_traded`` [currency], ``basis_share`` = |basis|/Σ|components|,
        ``final_gap`` [currency], ``ledger_error`` [relative]. Positive cost: money lost.
        """
        rows = []
        for (parent, policy), run in self.replays.items():
            row: dict[str, Any] = {"parent": parent, "policy": policy, "notional": run.notional}
            costs = {**run.components.to_dict(), "net": run.net, "hedge_cost": run.hedge_cost}
            row |= {str(name): float(value) for name, value in costs.items()}
            row |= {f"{name}_bps": float(value) * 1e4 / run.notional for name, value in costs.items()}
            gross = sum(abs(float(run.components[name])) for name in COMPONENTS)
            row["integrated_gap"] = run.attribution.integrated_gap
            row["futures_traded"] = run.futures_traded
            row["basis_share"] = abs(float(run.components["basis"])) / gross if gross > 0.0 else 0.0
            row["final_gap"] = float(run.attribution.gap[-1])
            row["ledger_error"] = run.attribution.ledger_error
            rows.append(row)
        return pd.DataFrame(rows).set_index(["parent", "policy"])

    def table(self) -> pd.DataFrame:
        """Return one row per policy.

        Mean, median and q95 of the hedge cost and of the net cost [bps], mean components [bps], standard deviation of
        lag [bps], mean integrated gap [currency·s], mean futures traded [currency], mean basis share.
        """
        by = self.to_frame().groupby(level="policy", sort=False)
        out = pd.DataFrame(index=pd.Index(self.policies, name="policy"))
        for cost in ("hedge_cost", "net"):
            column = by[f"{cost}_bps"]
            out[f"{cost}_mean_bps"], out[f"{cost}_median_bps"] = column.mean(), column.median()
            out[f"{cost}_q95_bps"] = column.quantile(0.95)
        for name in COMPONENTS:
            out[f"{name}_bps"] = by[f"{name}_bps"].mean()
        out["lag_std_bps"] = by["lag_bps"].std(ddof=0)
        for name in ("integrated_gap", "futures_traded", "basis_share"):
            out[name] = by[name].mean()
        return out

    def differences(self, level: float = 0.95) -> pd.DataFrame:
        """Return paired differences of the hedge cost against the baseline, policy − baseline [bps].

        Columns: mean, q95 of the policy minus q95 of the baseline, each with the bounds of a percentile interval at
        ``level`` from a bootstrap over parents, and the number of parents. Few parents make the interval too narrow.

        Raises
        ------
        InvalidInput
            When ``level`` is not within (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise InvalidInput("must lie within (0, 1)", field="level", value=level, remedy="use 0.95")
        wide = self.to_frame()["hedge_cost_bps"].unstack("policy")[list(self.policies)]  # noqa: PD010
        base = wide[self.baseline].to_numpy(float)
        draws = np.random.default_rng(self.seed).integers(0, len(base), size=(self.draws, len(base)))
        tails = [100.0 * (1.0 - level) / 2.0, 100.0 * (1.0 + level) / 2.0]
        rows = {}
        for policy in self.policies:
            if policy == self.baseline:
                continue
            own = wide[policy].to_numpy(float)
            mean = (own - base)[draws].mean(axis=1)
            q95 = np.quantile(own[draws], 0.95, axis=1) - np.quantile(base[draws], 0.95, axis=1)
            rows[policy] = [
                float((own - base).mean()),
                *np.percentile(mean, tails),
                float(np.quantile(own, 0.95) - np.quantile(base, 0.95)),
                *np.percentile(q95, tails),
                len(base),
            ]
        columns = ["mean_bps", "mean_low", "mean_high", "q95_bps", "q95_low", "q95_high", "parents"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("policy")

    def summary(self) -> str:
        """Return the table and the paired differences as text."""
        shown = ["hedge_cost_mean_bps", "hedge_cost_q95_bps", "futures_bps", "lag_bps", "basis_bps", "cross_bps"]
        text = [
            f"{len(self.parents)} parents, hedge cost in bps of parent notional (positive: money lost)",
            self.table()[shown].to_string(float_format="{:.3f}".format),
        ]
        if len(self.policies) > 1:
            text += [f"paired against {self.baseline}", self.differences().to_string(float_format="{:.3f}".format)]
        if self.zero_impact is not None:
            text += ["with zero true impact", self.zero_impact.table()[shown].to_string(float_format="{:.3f}".format)]
        return "\n".join(text)

    def plot(self) -> Any:
        """Return the component bars per policy (plotly)."""
        from crosswind.problems.hedge.plots import component_bars

        return component_bars(self)

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format="{:.3f}".format))


def compare_policies(
    parents: Sequence[HedgeParent],
    policies: Mapping[str, HedgePolicy],
    markets: Mapping[str, ReplayMarket] | ReplayMarket,
    beliefs: HedgeBeliefs | Mapping[str, HedgeBeliefs],
    venue: SimulatedVenue | Mapping[str, SimulatedVenue] | None = None,
    *,
    baseline: str | None = None,
    integer: bool = False,
    zero_impact: bool = True,
    seed: int = 0,
    draws: int = 2000,
    progress: Callable[[float], None] | None = None,
) -> HedgeComparison:
    """Replay every parent with every policy and compare the costs.

    Parameters
    ----------
    parents
        With distinct names.
    policies
        By label; they are reset for each parent.
    markets
        By parent name, or one for all.
    beliefs
        What the policies believe, by parent name or one for all.
    venue
        True rules of execution, by parent name or one for all; default: no latency, no impact.
    baseline
        Label that differences refer to; default "P1" where present, else the first.
    integer
        Whole contracts.
    zero_impact
        Repeat everything on the venue without impact (the policies still believe in theirs) where it has any.
    seed, draws
        Of the bootstrap by parent.
    progress
        Called after each parent with the share of the work done, in (0, 1].

    Returns
    -------
    HedgeComparison

    Raises
    ------
    InvalidInput
        For no parents or policies, doubled names, an unknown baseline or a missing market.
    CrosswindError
        When the cash fills differ between policies, or components and ledger disagree.
    """
    names = [parent.name for parent in parents]
    if not names or len(set(names)) != len(names) or not policies:
        raise InvalidInput(
            "parents with distinct names and at least one policy are needed",
            field="parents",
            value=names,
            remedy="name each parent once",
        )
    if baseline is None:
        baseline = "P1" if "P1" in policies else next(iter(policies))
    if baseline not in policies:
        raise InvalidInput("is not compared", field="baseline", value=baseline, remedy=f"use one of {list(policies)}")
    venue = SimulatedVenue() if venue is None else venue
    true = {name: _pick(venue, name, "venue") for name in names}
    replays: dict[tuple[str, str], HedgeReplay] = {}
    again = zero_impact and any(rules.modes for rules in true.values())
    for number, parent in enumerate(parents, start=1):
        market = _pick(markets, parent.name, "markets")
        believed = _pick(beliefs, parent.name, "beliefs")
        first: HedgeReplay | None = None
        for label, policy in policies.items():
            run = replay_hedge(parent, policy, market, believed, true[parent.name], integer=integer, label=label)
            first = run if first is None else first
            _same_cash(first, run)
            replays[parent.name, label] = run
        if progress is not None:
            progress(number / len(parents) * (0.5 if again else 1.0))
    silent = None
    if again:
        silent = compare_policies(
            parents,
            policies,
            markets,
            beliefs,
            {name: rules.without_impact() for name, rules in true.items()},
            baseline=baseline,
            integer=integer,
            seed=seed,
            draws=draws,
            progress=None if progress is None else lambda done: progress(0.5 + 0.5 * done),
        )
    return HedgeComparison(replays, baseline, seed, draws, silent)


def score(comparison: HedgeComparison) -> pd.Series:
    """Return ½ mean + ½ q95 of the hedge cost by policy [bps of parent notional]: what tuning minimises."""
    table = comparison.table()
    total: pd.Series = 0.5 * (table["hedge_cost_mean_bps"] + table["hedge_cost_q95_bps"])
    return total.rename("score_bps")


def _pick(given: Any, name: str, field: str) -> Any:
    if not isinstance(given, Mapping):
        return given
    if name not in given:
        raise InvalidInput(
            "has no entry for a parent", field=field, value=name, remedy="add it under the parent's name"
        )
    return given[name]


def _same_cash(first: HedgeReplay, other: HedgeReplay) -> None:
    """Hold the cash leg of two replays against each other; only the hedge's cross-impact on it may differ."""
    legs = [run.result.fills_of("cash") for run in (first, other)]
    same = len(legs[0]) == len(legs[1])
    if same and legs[0]:
        columns = [first.result.market.position_of(name) for name in first.parent.names]
        same = all(_terms(a) == _terms(b) for a, b in zip(*legs, strict=True))
        own = [np.array([np.take(fill.displacement_by, columns) for fill in leg]) for leg in legs]
        # The decay between two cash fills takes more steps where the hedge trades in between: equal to rounding.
        same = same and np.allclose(own[0], own[1], rtol=1e-9, atol=1e-15)
    if not same:
        raise CrosswindError(
            "the cash fills differ between policies, so their costs cannot be compared",
            field=f"parent {first.parent.name}",
            value=(first.policy, other.policy),
            remedy="let the hedge trade other instruments than the cash leg",
        )


def _terms(fill: Fill) -> tuple[object, ...]:
    return (fill.instrument, fill.units, fill.time_ns, fill.mid, fill.half_spread, fill.fee, fill.forced)
