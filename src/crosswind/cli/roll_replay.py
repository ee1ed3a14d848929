"""``crosswind roll replay``: policies side by side, and the report of one of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from crosswind.cli.common import EXIT_FALLBACK, EXIT_INTEGRITY, EXIT_OK, Outcome, progress_on_terminal, split_names
from crosswind.cli.roll_inputs import dry_run, episode_of, limits_of, written

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from crosswind.problems.roll import RollAction, RollMarket, RollOrder, RollPolicy, RollState
    from crosswind.problems.roll.contracts import RollContract
    from crosswind.problems.roll.program import ScheduledRoll
    from crosswind.problems.roll.replay import RollEpisode, RollReplay, RollReplayConfig
    from crosswind.problems.roll.report import RollReport

__all__ = ["POLICIES", "replay_rolls"]

POLICIES = ("twap", "adaptive", "passive", "volume", "legged", "early", "late", "playbook", "tail", "scheduled")
_LEDGER = 1e-9


def replay_rolls(args: argparse.Namespace, terms: RollContract, keys: dict[str, Any]) -> Outcome:
    """Replay orders with policies."""
    from crosswind.problems.roll.metrics import RollVolumeBaseline
    from crosswind.problems.roll.regimes import RegimeWatch
    from crosswind.problems.roll.replay import RollReplayConfig, RollVenue, compare_rolls, roll_episodes
    from crosswind.solvers.errors import InvalidInput

    names = split_names(args.policies, "--policies") or ()
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise InvalidInput("are unknown", field="--policies", value=unknown, remedy=f"choose of {', '.join(POLICIES)}")
    shown = names[-1] if args.show is None else args.show
    if shown not in names:
        raise InvalidInput("was not replayed", field="--show", value=shown, remedy=f"choose of {', '.join(names)}")
    one = args.quantity is not None
    if keys["kind"] == "lean" and not one:
        raise InvalidInput("a recorded day needs an order", field="--quantity", value=None, remedy="pass --quantity N")
    episode = episode_of(args, terms, keys) if one else None
    if args.dry_run:
        return dry_run(limits_of(args, terms, episode))
    venue = RollVenue(fee_per_contract=terms.fee if args.fee is None else args.fee)
    with progress_on_terminal(quiet=args.quiet) as progress:
        if progress:
            progress("draw roll days", 0.0)
        stress = {keys["stress"]: 1.0} if keys.get("stress", "calm") != "calm" else None
        seed = keys.get("seed", args.seed)
        bar_s = episode.market.bar_s if episode is not None else 10.0
        drawn: dict[str, Any] = {"parameters": terms.parameters, "bar_s": bar_s}
        # Past rolls are always simulated: no recorded ones are at hand. Their seed is apart from that of orders.
        past = roll_episodes(args.past, seed + 1_000_003, orders_per_day=1, **drawn)
        if "simulated" in past[0].market.source and keys["kind"] == "lean":
            baseline = None  # another book's volume says nothing of the recorded day's congestion
        else:
            baseline = RollVolumeBaseline.fit([e.market for e in past])
        episodes = (
            [episode]
            if episode is not None
            else list(roll_episodes(args.orders, seed, stress=stress, orders_per_day=1, **drawn))
        )
        config = RollReplayConfig(venue=venue, watch=RegimeWatch(baseline=baseline), seed=args.seed)
        policies = _policies(names, args, terms)
        told = None if progress is None else lambda done: progress("replay", done)
        compared = compare_rolls(episodes, policies, config, seed=args.seed, keep=True, progress=told)
    tells: dict[str, int] = {}
    for label, policy in policies.items():
        if isinstance(policy, _Counted):
            policy.count()
            tells |= {label: policy.lower} if policy.lower else {}
    worst = max(replay.ledger_error for replay in compared.replays.values())
    replay = compared.replays[episodes[0].name, shown]
    payload = {
        "contract": terms.name,
        "currency": terms.currency,
        "sign": "a positive cost is money lost",
        "sources": list(compared.sources),
        "orders": compared.episodes,
        "policies": compared.table(),
        "differences": compared.differences() if len(names) > 1 else None,
        "baseline": compared.baseline,
        "shown": {
            "policy": shown,
            "order": replay.episode,
            "components": replay.components,
            "total": replay.total,
            "completion": replay.completion,
            "transitions": [change.to_dict() for change in replay.transitions],
        },
        "worst_ledger_error": worst,
        "fallbacks": tells,
        "limits": limits_of(args, terms, episode),
        "out": args.out,
    }
    text = [f"{terms.name}: {terms.unit}; costs in {terms.currency}", compared.summary(), "", replay.summary()]
    if len(set(compared.rows["block"])) == 1:
        text.append("one day: its bounds say nothing of other days")
    text += ["regimes:", *(f"  {change.text()}" for change in replay.transitions)]
    text += [f"{label}: {count} decisions below a solved plan" for label, count in tells.items()]
    text.append(f"components against the ledger: {worst:.1e} relative at worst")
    code = EXIT_FALLBACK if tells else EXIT_OK
    if not worst <= _LEDGER:
        code = EXIT_INTEGRITY
    tables: dict[str, pd.DataFrame] = {"policies": compared.table(), "orders": compared.to_frame().reset_index()}
    tables["fills"] = replay.to_frame()
    pages: dict[str, Any] = {}
    if args.out:
        pages = {
            "report.html": _page(args, terms, episodes[0], replay, past, config),
            "comparison.html": compared.plot(),
        }
    return written(args.out, Outcome("\n".join(text), payload, code), tables, pages)


class _Counted:
    """A scheduled roll, with the number of its decisions that rested on no solved plan, over all orders."""

    def __init__(self, policy: ScheduledRoll) -> None:
        self.policy, self.lower = policy, 0

    def count(self) -> None:
        """Take in the order that has ended."""
        self.lower += sum(decision.rung not in ("optimal", "feasible") for decision in self.policy.history)
        self.policy.history = []

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        self.count()
        self.policy.reset(order, market)

    def decide(self, state: RollState) -> RollAction:
        return self.policy.decide(state)


def _policies(names: tuple[str, ...], args: argparse.Namespace, terms: RollContract) -> dict[str, Any]:
    from crosswind.problems.roll import replay
    from crosswind.problems.roll.policy import PlaybookRoll, RollPolicyConfig, TailAwareRoll
    from crosswind.problems.roll.program import RollSettings, RollStatistics, ScheduledRoll

    numbers = RollStatistics.from_parameters(terms.parameters)
    config = RollPolicyConfig()
    settings = RollSettings(tail_weight=args.tail_weight, fee=terms.fee if args.fee is None else args.fee)
    made: dict[str, Callable[[], RollPolicy]] = {
        "twap": replay.TwapSpread,
        "adaptive": replay.AdaptiveTwap,
        "passive": replay.PassiveThenCross,
        "volume": replay.VolumeFollowing,
        "legged": replay.Legged,
        "early": replay.AllEarly,
        "late": replay.AllLate,
        "playbook": lambda: PlaybookRoll(config, statistics=numbers),
        "tail": lambda: TailAwareRoll(config, statistics=numbers),
        "scheduled": lambda: _Counted(ScheduledRoll(numbers, settings, seed=args.seed)),
    }
    return {name: made[name]() for name in names}


def _page(
    args: argparse.Namespace,
    terms: RollContract,
    episode: RollEpisode,
    replay: RollReplay,
    past: tuple[RollEpisode, ...],
    config: RollReplayConfig,
) -> RollReport:
    """Return the report of one replay, held against simulated past rolls."""
    from dataclasses import replace

    from crosswind.problems.roll.program import RollStatistics
    from crosswind.problems.roll.report import RollReportConfig, past_roll_metrics, roll_report

    assert config.watch is not None
    metrics = past_roll_metrics(past, config=replace(config, watch=None), baseline=config.watch.baseline)
    recorded = "simulated" not in episode.market.source
    settings = RollReportConfig(
        regimes=config.watch.regimes,
        metrics=config.watch.metrics,
        churn=config.churn,
        venue=config.venue,
        statistics=None if recorded else RollStatistics.from_parameters(terms.parameters),
        seed=args.seed,
    )
    return roll_report(replay, episode, past=metrics, config=settings, currency=terms.currency)
