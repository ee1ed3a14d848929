"""Samples of what becomes of working decisions: clips tried at random on whole sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.roll.branches.features import decision_features
from crosswind.problems.roll.branches.model import BranchSamples, ProbingPolicy
from crosswind.problems.roll.branches.probes import Decisions, follow_decisions
from crosswind.problems.roll.metrics import (
    RollMetricsConfig,
    RollVolumeBaseline,
    deadline_pressure,
    executable_pace,
    roll_metrics,
)
from crosswind.problems.roll.model import Regime, RollMarket
from crosswind.problems.roll.regimes import RegimeConfig, run_machine
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["branch_samples", "draw_decisions", "simulated_samples"]

_STREAM = 7301  # of the probes' random numbers


def branch_samples(
    markets: Iterable[RollMarket],
    policy: ProbingPolicy | None = None,
    seed: int = 0,
    baseline: RollVolumeBaseline | None = None,
    labels: Iterable[Any] | None = None,
    metrics: RollMetricsConfig | None = None,
    regimes: RegimeConfig | None = None,
) -> BranchSamples:
    """Try clips at random on whole sessions and return what became of them.

    Each decision stands alone, with a parent order and a cutoff of its own. The day's regime is that of the machine on
    the market's metrics; a decision's own pressure then calls for CROWDED or DEADLINE by the entering thresholds, as
    for an order that has just come.

    Parameters
    ----------
    markets
        Sessions, simulated or real with a synthesised spread book; an iterator is read one at a time.
    policy
        How clips are drawn and worked; default :class:`ProbingPolicy`.
    seed
        Integer of 0 or more. Session i draws from the seed and i alone: more sessions begin with the fewer.
    baseline
        Expected roll volume of past rolls; None: RPC is not known.
    labels
        Of the sessions, distinct; None: their numbers.
    metrics, regimes
        Windows of the metrics, triggers of the machine.

    Returns
    -------
    BranchSamples

    Raises
    ------
    InvalidInput
        For a bad seed or labels that repeat.
    DataGap
        Where a session is too short for a decision, or there is none.
    """
    p = ProbingPolicy() if policy is None else policy
    config = RollMetricsConfig() if metrics is None else metrics
    triggers = RegimeConfig() if regimes is None else regimes
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
    names = None if labels is None else iter(labels)
    parts = []
    for number, market in enumerate(markets):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(_STREAM, number))))
        label = f"{number:05d}" if names is None else next(names)
        parts.append(_session(market, p, config, triggers, baseline, generator, label))
    if not parts:
        raise DataGap("there is no session", field="markets", value=0, remedy="pass at least one")
    return BranchSamples.concat(parts)


def simulated_samples(
    days: int,
    seed: int = 0,
    policy: ProbingPolicy | None = None,
    baseline_days: int = 20,
    **episodes: Any,
) -> BranchSamples:
    """Return samples of simulated roll days, calm and stressed, as :func:`roll_episodes` of the replay draws them.

    Parameters
    ----------
    days
        Sessions; about 0.2 CPU seconds each.
    seed
        Of the days and the probes.
    policy
        How clips are drawn and worked.
    baseline_days
        Further days of other seeds from which the expected roll volume is taken; 0: RPC is not known.
    **episodes
        Passed on to :func:`crosswind.problems.roll.replay.roll_episodes`, e.g. ``stress={}``.

    Raises
    ------
    InvalidInput
        As :func:`branch_samples` and :func:`roll_episodes` do.
    """
    from crosswind.problems.roll.replay.episodes import roll_episodes

    baseline = None
    if baseline_days:
        past = roll_episodes(baseline_days, seed=10_000_019, orders_per_day=1, **episodes)
        baseline = RollVolumeBaseline.fit([episode.market for episode in past])
    drawn = roll_episodes(days, seed=seed, orders_per_day=1, **episodes)
    labels = [f"{seed}:{episode.block}" for episode in drawn]
    return branch_samples((episode.market for episode in drawn), policy, seed, baseline, labels)


def draw_decisions(
    market: RollMarket, policy: ProbingPolicy, generator: np.random.Generator, regimes: Any = None
) -> tuple[Decisions, NDArray[np.float64]]:
    """Draw the decisions of a session, and what remains of each one's parent order [spreads].

    Parameters
    ----------
    market
        The session; only its length is looked at.
    policy
        Ranges.
    generator
        Source of randomness.
    regimes
        Label of the regime of each bar (B,); None: all bars are drawn evenly.

    Raises
    ------
    DataGap
        Where the session leaves no bar for a decision.
    """
    p, n, bar_s = policy, policy.probes, market.bar_s
    first, last = int(np.ceil(p.warm_s / bar_s)), market.bars - 1
    if first >= last:
        raise DataGap(
            "the session is too short for a decision",
            field="market",
            value=market.bars,
            remedy=f"pass more than {first + 1} bars, or shorten warm_s",
        )

    def drawn(limits: tuple[float, float]) -> NDArray[np.float64]:
        low, high = np.log(limits)
        return np.asarray(np.exp(generator.uniform(low, high, n)), dtype=np.float64)

    def bars(limits: tuple[float, float]) -> NDArray[np.int64]:
        return np.maximum(np.rint(drawn(limits) / bar_s), 1.0).astype(np.int64)

    bar = generator.integers(first, last, n)
    if regimes is not None:
        inside = np.asarray(regimes)[first:last]
        kinds = np.unique(inside)
        kind, u = generator.integers(0, len(kinds), n), generator.random((2, n))
        for number, name in enumerate(kinds):
            of_it = first + np.flatnonzero(inside == name)
            chosen = (kind == number) & (u[0] < p.by_regime)
            bar[chosen] = of_it[np.floor(u[1][chosen] * len(of_it)).astype(np.int64)]
    decisions = Decisions(
        bar=bar,
        side=np.where(generator.random(n) < 0.5, 1, -1),
        clip=np.maximum(np.rint(drawn(p.clip)), 1.0).astype(np.int64),
        timeout=bars(p.timeout_s),
        max_let=bars(p.max_let_s),
        cutoff=np.minimum(bar + bars(p.left_s), last),
    )
    return decisions, np.ceil(decisions.clip * drawn(p.parent))


def _session(
    market: RollMarket,
    p: ProbingPolicy,
    config: RollMetricsConfig,
    triggers: RegimeConfig,
    baseline: RollVolumeBaseline | None,
    generator: np.random.Generator,
    label: Any,
) -> BranchSamples:
    all_bars = roll_metrics(market, baseline=baseline, config=config)
    # The session's own end calls for no deadline: every decision has a cutoff of its own.
    never = all_bars.index[-1] + pd.Timedelta(days=1)
    run = run_machine(triggers, all_bars[["rpc", "cde", "bdz"]], never)
    of_day = np.array([regime.value for regime in run.regimes])
    d, remaining = draw_decisions(market, p, generator, of_day)
    minutes = np.asarray((d.cutoff - d.bar) * market.bar_s / 60.0, dtype=np.float64)
    known = all_bars.iloc[d.bar].reset_index(drop=True)
    least = config.least(config.pace_window_s, market.bar_s)
    pace = {}
    for side, flow in ((1, market.sold), (-1, market.bought)):
        volume = market.volume if config.fillable == "all" else flow
        pace[side] = executable_pace(
            market.times, volume, config.pace_window_s, market.bar_s, config.participation, least
        )[d.bar]
    rdp: NDArray[np.float64] = deadline_pressure(remaining, minutes, np.where(d.side > 0, pace[1], pace[-1]))
    known["rdp"] = rdp
    regime = _own_regimes(of_day[d.bar], rdp, minutes, triggers)
    features = decision_features(
        market,
        d,
        known,
        regime,
        queue=p.queue,
        participation=p.participation,
        leg_participation=p.leg_participation,
    )
    out = follow_decisions(market, d, p)
    return BranchSamples(
        features=features,
        branch=out.branch,
        cost=out.cost,
        let_s=out.let_s,
        legging=out.legging,
        filled=out.filled,
        day=np.full(len(d.bar), label),
        source=market.source,
    )


def _own_regimes(
    day: NDArray[Any], rdp: NDArray[np.float64], minutes: NDArray[np.float64], triggers: RegimeConfig
) -> NDArray[Any]:
    names = day.astype(object)
    pressure = np.nan_to_num(rdp, nan=0.0)
    for trigger in triggers.of(Regime.CROWDED):
        if trigger.metric == "rdp":
            calls = np.array([trigger.entered(float(value)) for value in pressure])
            names[calls & (names == Regime.PRE_ROLL.value)] = Regime.CROWDED.value
    late = (minutes <= triggers.late_min) & (pressure >= triggers.late_rdp)
    names[(minutes <= triggers.deadline_min) | late] = Regime.DEADLINE.value
    return names.astype(str)
