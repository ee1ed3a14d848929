"""Roll policies side by side: the same orders, days and luck, another policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.model import Regime, RollPolicy
from crosswind.problems.roll.replay.bootstrap import MEASURES, block_weights, measures
from crosswind.problems.roll.replay.costs import COMPONENTS
from crosswind.problems.roll.replay.episodes import RollEpisode
from crosswind.problems.roll.replay.kernel import RollReplayConfig, replay_roll
from crosswind.problems.roll.replay.result import RollReplay
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollComparison", "compare_rolls"]

_RATES = ("completion", "own_completion", "forced_share")


@dataclass(frozen=True, eq=False)
class RollComparison:
    """Outcome of :func:`compare_rolls`; costs are currency per spread of the order, positive: money lost.

    Parameters
    ----------
    rows
        (episode, policy) → what :meth:`RollReplay.row` holds.
    by_regime
        (policy, regime) → ``contracts`` decided on in it, ``cost`` of them [currency per spread].
    baseline
        Policy that paired differences refer to.
    sources
        Where the spread books come from.
    seed, draws
        Of the bootstrap by day.
    replays
        By (episode, policy), where they were kept.
    """

    rows: pd.DataFrame = field(repr=False)
    by_regime: pd.DataFrame = field(repr=False)
    baseline: str
    sources: tuple[str, ...]
    seed: int
    draws: int
    replays: dict[tuple[str, str], RollReplay] = field(repr=False, default_factory=dict)

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies, in their order."""
        return tuple(dict.fromkeys(self.rows.index.get_level_values("policy")))

    @property
    def episodes(self) -> int:
        """Number of orders."""
        return int(self.rows.index.get_level_values("episode").nunique())

    def of(self, policy: str) -> pd.DataFrame:
        """Return the rows of one policy by episode."""
        if policy not in self.policies:
            raise InvalidInput("was not compared", field="policy", value=policy, remedy=f"use one of {self.policies}")
        rows = self.rows.xs(policy, level="policy")
        assert isinstance(rows, pd.DataFrame)
        return rows

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the rows."""
        return self.rows.copy()

    def only(self, column: str, value: Any) -> RollComparison:
        """Return the comparison of the orders with one value in a column, e.g. ``only("stress", "thin")``.

        Raises
        ------
        InvalidInput
            For an unknown column, or a value that no order has.
        """
        if column not in self.rows.columns:
            raise InvalidInput("is no column", field="column", value=column, remedy="see to_frame().columns")
        kept = self.rows[self.rows[column] == value]
        if kept.empty:
            known = sorted(map(str, self.rows[column].unique()))[:10]
            raise InvalidInput("no order has it", field=column, value=value, remedy=f"choose among {', '.join(known)}")
        return RollComparison(kept, self.by_regime, self.baseline, self.sources, self.seed, self.draws)

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per policy.

        Mean, median, q95 and CVaR95 of the cost with the bounds of a bootstrap by day (``mean_low`` …), the mean
        components and fees [currency per spread]; mean completion, the policy's own before the forced cross, and forced
        share; the least completion; the share of orders over their carry cap; greatest number of replaces in a minute
        and greatest imbalance of the legs.
        """
        bounds = _bounds(level)
        out: dict[str, dict[str, float]] = {}
        for policy in self.policies:
            rows = self.of(policy)
            costs = rows["cost"].to_numpy(float)
            drawn = measures(costs, block_weights(rows["block"].tolist(), self.draws, self.seed))
            low, high = np.quantile(drawn, bounds, axis=0)
            line: dict[str, float] = {"episodes": float(len(rows)), "days": float(rows["block"].nunique())}
            for k, (name, value) in enumerate(zip(MEASURES, measures(costs), strict=True)):
                line |= {name: float(value), f"{name}_low": float(low[k]), f"{name}_high": float(high[k])}
            line |= {name: float(rows[name].mean()) for name in (*COMPONENTS, "fees", *_RATES)}
            line["least_completion"] = float(rows["completion"].min())
            line["over_cap"] = float(rows["over_cap"].mean())
            line |= {name: float(rows[name].max()) for name in ("most_replaces", "most_naked")}
            line |= {name: float(rows[name].mean()) for name in ("replaces", "rejects", "retries", "partials")}
            out[policy] = line
        return pd.DataFrame.from_dict(out, orient="index").rename_axis("policy")

    def differences(self, level: float = 0.95, baseline: str | None = None) -> pd.DataFrame:
        """Return what each policy costs more than the baseline on the same orders, with bounds of the paired bootstrap.

        Columns: ``mean``, ``median``, ``q95``, ``cvar95``, ``completion``, ``own_completion`` and ``forced_share``,
        each the policy's less the baseline's, with ``_low`` and ``_high``. Days are drawn once for both.

        Raises
        ------
        InvalidInput
            For an unknown baseline, or a level that is not within (0, 1).
        """
        bounds, base = _bounds(level), self.baseline if baseline is None else baseline
        of_base = self.of(base)
        weights = block_weights(of_base["block"].tolist(), self.draws, self.seed)
        total = weights.sum(axis=1)

        def columns(rows: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
            costs, rates = rows["cost"].to_numpy(float), rows[list(_RATES)].to_numpy(float)
            point = np.r_[measures(costs), rates.mean(axis=0)]
            return point, np.column_stack([measures(costs, weights), weights @ rates / total[:, None]])

        point0, drawn0 = columns(of_base)
        out: dict[str, dict[str, float]] = {}
        for policy in self.policies:
            if policy == base:
                continue
            point, drawn = columns(self.of(policy).reindex(of_base.index))
            low, high = np.quantile(drawn - drawn0, bounds, axis=0)
            line: dict[str, float] = {}
            for k, name in enumerate((*MEASURES, *_RATES)):
                line |= {
                    name: float(point[k] - point0[k]),
                    f"{name}_low": float(low[k]),
                    f"{name}_high": float(high[k]),
                }
            out[policy] = line
        return pd.DataFrame.from_dict(out, orient="index").rename_axis("policy")

    def by(self, column: str = "stress") -> pd.DataFrame:
        """Return the table of each group of orders: (group, policy) → :meth:`table`."""
        groups = list(dict.fromkeys(self.rows[column])) if column in self.rows.columns else []
        if not groups:
            raise InvalidInput("is no column", field="column", value=column, remedy="use 'stress' or 'size'")
        parts = {group: self.only(column, group).table() for group in groups}
        table: pd.DataFrame = pd.concat(parts, names=[column])
        return table

    def promotion(
        self, policy: str, *, completion_slack: float = 0.0, own_slack: float = 0.05, level: float = 0.95
    ) -> pd.DataFrame:
        """Return whether a policy may replace the baseline: cheaper, and no completion given up in any stress.

        Rows are checks: mean and q95 of the cost over all orders (the upper bound of the paired difference is not
        above 0), and in each stress the completion at the deadline and the policy's own completion before the forced
        cross (the difference is not below minus the slack). Columns: ``value``, ``limit``, ``passed``. A policy that
        buys mean with completion in stress fails.

        Parameters
        ----------
        policy
            Its label.
        completion_slack, own_slack
            Shares of the order that may be given up.
        level
            Of the bootstrap.
        """
        if policy == self.baseline or policy not in self.policies:
            raise InvalidInput("is no candidate", field="policy", value=policy, remedy=f"use one of {self.policies}")
        whole = self.differences(level).loc[policy].to_dict()
        checks: dict[str, tuple[float, float, bool]] = {}
        for name in ("mean", "q95"):
            checks[f"{name} of the cost"] = (whole[f"{name}_high"], 0.0, bool(whole[f"{name}_high"] <= 0.0))
        for stress in dict.fromkeys(self.rows["stress"]):
            own = self.only("stress", stress).differences(level).loc[policy].to_dict()
            for name, slack in (("completion", completion_slack), ("own_completion", own_slack)):
                value = float(own[name])
                checks[f"{name.replace('_', ' ')} in {stress}"] = (value, -slack, value >= -slack - 1e-12)
        return pd.DataFrame.from_dict(checks, orient="index", columns=["value", "limit", "passed"]).rename_axis("check")

    def summary(self) -> str:
        """Return the table and the paired differences as text."""
        shown = ["mean", "median", "q95", "cvar95", *COMPONENTS, "fees", "completion", "forced_share"]
        pairs = [f"{name}{end}" for name in ("mean", "q95") for end in ("", "_low", "_high")]
        days = self.rows["block"].nunique()
        text = [
            f"{self.episodes} orders on {days} days; spread book: {'; '.join(self.sources)}",
            "cost per spread [currency; positive: money lost]",
            self.table()[shown].to_string(float_format="{:.3f}".format),
        ]
        if len(self.policies) > 1:
            text += [
                f"paired against {self.baseline}, 95 % bounds of a bootstrap by day",
                self.differences()[pairs].to_string(float_format="{:.3f}".format),
            ]
        return "\n".join(text)

    def plot(self) -> Any:
        """Return the mean components by policy with q95 (plotly)."""
        from crosswind.problems.roll.replay.plots import comparison_figure

        return comparison_figure(self)

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format="{:.3f}".format))


def compare_rolls(
    episodes: Sequence[RollEpisode],
    policies: Mapping[str, RollPolicy] | Sequence[RollPolicy],
    config: RollReplayConfig | None = None,
    *,
    baseline: str | None = None,
    seed: int = 0,
    draws: int = 1000,
    keep: bool = False,
    progress: Callable[[float], None] | None = None,
) -> RollComparison:
    """Replay every order with every policy.

    Latency, refusals and the moments at which quotes change are keyed by what they befall, so policies share their luck
    and the differences are paired.

    Parameters
    ----------
    episodes
        With distinct names.
    policies
        By label, or policies with a ``name``; they are reset for each order.
    config
        As in :func:`~crosswind.problems.roll.replay.kernel.replay_roll`.
    baseline
        Label that differences refer to; default the first.
    seed, draws
        Of the bootstrap by day.
    keep
        Whether to keep every replay with its fills.
    progress
        Called after each order with the share of the work done, in (0, 1].

    Returns
    -------
    RollComparison

    Raises
    ------
    InvalidInput
        Without an order or a policy, for doubled names and an unknown baseline.
    """
    named = _named(policies)
    names = [episode.name for episode in episodes]
    if not names or len(set(names)) != len(names):
        raise InvalidInput(
            "are none or have doubled names", field="episodes", value=len(names), remedy="pass distinct episodes"
        )
    base = next(iter(named)) if baseline is None else baseline
    if base not in named:
        raise InvalidInput("was not compared", field="baseline", value=base, remedy=f"use one of {tuple(named)}")
    rows: list[dict[str, Any]] = []
    kept: dict[tuple[str, str], RollReplay] = {}
    regimes: dict[tuple[str, str], list[float]] = {}
    for number, episode in enumerate(episodes):
        for label, policy in named.items():
            replay = replay_roll(episode, policy, config, label=label)
            rows.append(replay.row())
            for regime, (contracts, cost) in replay.by_regime().items():
                held = regimes.setdefault((label, regime.name), [0.0, 0.0])
                held[0] += contracts
                held[1] += cost
            if keep:
                kept[episode.name, label] = replay
        if progress is not None:
            progress((number + 1) / len(names))
    places = [(label, regime.name) for label in named for regime in Regime if (label, regime.name) in regimes]
    index = pd.MultiIndex.from_tuples(places, names=["policy", "regime"])
    table = pd.DataFrame([regimes[place] for place in places], index=index, columns=["contracts", "cost"])
    table["cost"] = table["cost"] / table["contracts"].where(table["contracts"] > 0.0)
    return RollComparison(
        rows=pd.DataFrame(rows).set_index(["episode", "policy"]),
        by_regime=table,
        baseline=base,
        sources=tuple(dict.fromkeys(episode.market.source for episode in episodes)),
        seed=seed,
        draws=draws,
        replays=kept,
    )


def _named(policies: Mapping[str, RollPolicy] | Sequence[RollPolicy]) -> dict[str, RollPolicy]:
    if isinstance(policies, Mapping):
        named = dict(policies)
    else:
        given = list(policies)
        named = {str(getattr(policy, "name", type(policy).__name__)): policy for policy in given}
        if len(named) != len(given):
            raise InvalidInput(
                "have the same name", field="policies", value=list(named), remedy="pass a mapping label → policy"
            )
    if not named:
        raise InvalidInput("are none", field="policies", value=0, remedy="pass at least one")
    return named


def _bounds(level: float) -> tuple[float, float]:
    if not 0.0 < level < 1.0:
        raise InvalidInput("must lie within (0, 1)", field="level", value=level, remedy="use 0.95")
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0
