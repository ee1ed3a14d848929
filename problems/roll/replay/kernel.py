"""One order of a roll day, replayed with a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.roll.churn import ChurnGovernor, ChurnLimits
from crosswind.problems.roll.model import Regime, RollAction, RollPolicy, RollState
from crosswind.problems.roll.regimes import RegimeTransition, RegimeWatch
from crosswind.problems.roll.replay.costs import COMPONENTS, RollFill
from crosswind.problems.roll.replay.episodes import RollEpisode
from crosswind.problems.roll.replay.result import RollReplay
from crosswind.problems.roll.replay.rules import RollVenue
from crosswind.problems.roll.replay.session import RollSession
from crosswind.problems.roll.replay.views import see
from crosswind.solvers.errors import InvalidInput, LimitBreach, SolverFailure

__all__ = ["RollReplayConfig", "replay_roll"]

_NO_METRICS: Mapping[str, float] = {}
_LEDGER_RTOL = 1e-9


@dataclass(frozen=True)
class RollReplayConfig:
    """How episodes are replayed.

    Parameters
    ----------
    venue
        Rules of the venue.
    churn
        Anti-churn limits.
    watch
        Watches the day for the policy: metrics and regimes; None leaves every bar in PRE_ROLL without metrics. It is
        started afresh for each order.
    seed
        Of the venue's draws, with the seeds of the episodes.
    """

    venue: RollVenue = field(default_factory=RollVenue)
    churn: ChurnLimits = field(default_factory=ChurnLimits)
    watch: RegimeWatch | None = None
    seed: int = 0


def replay_roll(
    episode: RollEpisode, policy: RollPolicy, config: RollReplayConfig | None = None, *, label: str | None = None
) -> RollReplay:
    """Replay one order.

    At the end of each bar from the last one before the start to the last but one before the cutoff the policy sees the
    market up to that bar and asks for an action, which the next bar executes. What is open at the cutoff is crossed.

    Parameters
    ----------
    episode
        The order and its day.
    policy
        Reset, then asked once a bar.
    config
        Default: :class:`RollReplayConfig` without a watch.
    label
        Name of the policy in the result; default its ``name`` or its class.

    Returns
    -------
    RollReplay

    Raises
    ------
    InvalidInput
        When the policy returns something else than an action.
    LimitBreach
        When a limit of the order was broken: the replay's own fault, so nothing is returned.
    SolverFailure
        When the components do not agree with the ledger to 1e-9.
    """
    settings = RollReplayConfig() if config is None else config
    market, order, first = episode.market, episode.order, episode.first
    governor = ChurnGovernor(settings.churn)
    session = RollSession(episode, settings.venue, governor, settings.seed)
    watch = settings.watch
    known = see(market, first + 1)
    policy.reset(order, known)
    if watch is not None:
        watch.start(order, known)
    bars = episode.bars
    remaining = np.zeros(bars, dtype=np.int64)
    regimes: list[Regime] = []
    seen: list[Mapping[str, float]] = []
    regime, metrics = Regime.PRE_ROLL, _NO_METRICS
    most_replaces = told = 0
    ends, queue = session.ends, session.queue
    for i in range(bars):
        known = see(market, first + i + 1)
        left = session.remaining
        if watch is not None:
            told = _tell(watch, session.costs.fills, told)
            regime, metrics = watch.look(known, session.size - session.done, bars - i)
            seen.append(metrics)
        regimes.append(regime)
        remaining[i] = left
        tickets, lots, now = queue.tickets, session.desk.lots, ends[i]
        recent = governor.replaces_last_minute(now)
        most_replaces = max(most_replaces, recent)
        action = policy.decide(
            RollState(
                first + i,
                known,
                order,
                left,
                session.desk.imbalance if lots else 0,
                (now - lots[0].since_ns) / 1e9 if lots else 0.0,
                queue.working if tickets else 0,
                tickets[0].ahead if tickets else 0,
                session.spread.points(queue.price) if tickets else math.nan,
                bars - i,
                regime,
                metrics,
                recent,
            )
        )
        if not isinstance(action, RollAction):
            raise InvalidInput(
                "is not a RollAction", field="action", value=type(action).__name__, remedy="return RollAction(…)"
            )
        session.submit(i, action)
        most_replaces = max(most_replaces, governor.replaces_last_minute(now))
        session.play(i + 1)
    residual = session.force()
    return _result(
        episode,
        session,
        residual,
        label or str(getattr(policy, "name", type(policy).__name__)),
        remaining,
        tuple(regimes),
        {name: np.array([m.get(name, math.nan) for m in seen]) for name in (seen[0] if seen else ())},
        most_replaces,
        () if watch is None else tuple(watch.machine.transitions),
    )


def _tell(watch: RegimeWatch, fills: list[RollFill], told: int) -> int:
    """Tell the watch the fills that are new; return how many it knows."""
    for fill in fills[told:]:
        near = {"spread": -fill.units, "near": fill.units}.get(fill.instrument, 0)
        far = {"spread": fill.units, "far": fill.units}.get(fill.instrument, 0)
        watch.fill(fill.time_ns, near, far)
    return len(fills)


def _result(
    episode: RollEpisode,
    session: RollSession,
    residual: int,
    label: str,
    remaining: np.ndarray[tuple[int], np.dtype[np.int64]],
    regimes: tuple[Regime, ...],
    metrics: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
    most_replaces: int,
    transitions: tuple[RegimeTransition, ...],
) -> RollReplay:
    market, order, costs = episode.market, episode.order, session.costs
    beyond = session.venue.residual_ticks * market.tick
    parts = costs.components(residual, session.mid[-1], beyond)
    total = math.fsum(parts.values())
    error = _against_ledger(episode, session, residual, beyond, total, parts)
    if session.desk.most_naked > order.max_naked:
        raise LimitBreach(
            "the legs stood apart by more than the order allows",
            field="max_naked",
            value=session.desk.most_naked,
            remedy="report it: the venue cuts every action to this limit",
        )
    return RollReplay(
        episode=episode.name,
        policy=label,
        block=episode.block,
        stress=episode.stress,
        source=market.source,
        size=order.size,
        side=order.side,
        first=episode.first,
        components=parts,
        total=total,
        fees=math.fsum(fill.fees for fill in costs.fills),
        ledger_error=error,
        residual=residual,
        over_cap=residual > order.carry_cap,
        forced=session.forced,
        most_naked=session.desk.most_naked,
        most_replaces=most_replaces,
        counts=session.counts,
        events=tuple(session.events),
        fills=tuple(costs.fills),
        times=market.times[episode.first : episode.last],
        remaining=remaining,
        regimes=regimes,
        metrics=metrics,
        transitions=transitions,
    )


def _against_ledger(
    episode: RollEpisode, session: RollSession, residual: int, beyond: float, total: float, parts: Mapping[str, float]
) -> float:
    """Return the relative difference of the components to a ledger of the fills, which knows legs only.

    A spread is booked as its two legs: near at its bid in the market, far at that and the spread's price. The account
    is marked with near at any price N and far at N + arrival, so its loss is the cost against arrival. A residual is
    booked as a trade at the price that it is charged.
    """
    market, order, fee = episode.market, episode.order, session.venue.fee_per_contract
    near_bid = market.leg_bid[: episode.last + 1, 0].tolist()
    ledger, c = Ledger(), market.multiplier

    def book(units: int, price: float, bar: int, charge: float) -> None:
        ledger.book("near", -units, near_bid[bar], charge, c)
        ledger.book("far", units, near_bid[bar] + price, charge, c)

    for fill in session.costs.fills:
        if fill.instrument == "spread":
            book(fill.units, fill.price, fill.bar, fee * abs(fill.units))
        else:
            ledger.book(fill.instrument, fill.units, fill.price, fee * abs(fill.units), c)
    if residual:
        book(order.side * residual, session.mid[-1] + order.side * beyond, episode.last, 0.0)
    held = ledger.positions
    if held.get("near", 0.0) != -order.quantity or held.get("far", 0.0) != order.quantity:
        raise LimitBreach(
            "the legs do not end at the order's quantity",
            field="quantity",
            value=held,
            remedy="report it with the episode and the policy",
        )
    mark = near_bid[-1]
    loss = -ledger.wealth({"near": mark, "far": mark + session.costs.arrival})
    scale = max(math.fsum(abs(parts[name]) for name in COMPONENTS), c)
    error = abs(loss - total) / scale
    if not error <= _LEDGER_RTOL:
        raise SolverFailure(
            "the components do not sum to what the ledger says",
            field="components",
            value=(total, loss),
            remedy="report it with the episode and the policy",
        )
    return error
