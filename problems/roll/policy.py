"""Policies of the roll: the playbook as declared, and the playbook with a price on the tail of waiting."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from crosswind.problems.roll.model import RollAction, RollMarket, RollOrder, RollPolicy, RollState
from crosswind.problems.roll.policy_table import PlaybookRule, PlaybookTable
from crosswind.problems.roll.policy_view import Outlook, RollView, look
from crosswind.problems.roll.program.statistics import RollStatistics
from crosswind.solvers.errors import InvalidInput

__all__ = ["DisplayCap", "PlaybookRoll", "RollPolicyConfig", "TailAwareRoll"]

_NOTHING = RollAction(reason="nothing left")
_FAULTS = (ArithmeticError, ValueError, IndexError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class RollPolicyConfig:
    """Numbers of the roll's policies; what depends on the regime is in the table.

    Parameters
    ----------
    tail_weight
        λ >= 0: weight of the basis' CVaR95 in the choice between resting and crossing.
    edge
        Share of the quoted width that resting saves, in (0, 1]; the rest goes to adverse selection.
    reversion
        Share of the expected reversion of a dislocation that is counted on, >= 0.
    fill_speed
        Factor of the rate at which resting is expected to fill, > 0.
    reference_s
        Window of the mean from which the dislocation is measured [s].
    flow_s
        Window of the flow that fills resting orders [s].
    slice_s
        Slice of the playbook's straight path: what is behind at its start is carried forward into it [s].
    caution
        Share of what resting and crossing can do until the cutoff beyond which the order keeps an even pace at least,
        in (0, 1].
    trust
        In DEADLINE, share of what resting is expected to fill until the cutoff that need not be crossed, in [0, 1).
    reserve_s
        The even pace ends so long before the cutoff [s]: for latency, refusals and the venue's cooldown.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    tail_weight: float = 0.05
    edge: float = 0.7
    reversion: float = 1.0
    fill_speed: float = 1.0
    reference_s: float = 3600.0
    flow_s: float = 600.0
    slice_s: float = 300.0
    caution: float = 0.65
    trust: float = 0.5
    reserve_s: float = 60.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            least = 0.0 if item.name in ("tail_weight", "reversion", "reserve_s", "trust") else 1e-9
            most = 1.0 if item.name in ("edge", "caution", "trust") else math.inf
            if not good or not least <= value <= most:
                raise InvalidInput(
                    "is out of range", field=item.name, value=value, remedy=f"pass a number from {least:g} to {most:g}"
                )
            object.__setattr__(self, item.name, float(value))

    def with_(self, **values: Any) -> RollPolicyConfig:
        """Return a copy with some numbers replaced."""
        return replace(self, **values)


class _Tabled(ABC):
    """What both policies share: rule, display, clip, completion, legs; a subclass says what to cross beyond that."""

    name = "tabled"

    def __init__(
        self,
        config: RollPolicyConfig | None = None,
        table: PlaybookTable | None = None,
        statistics: RollStatistics | None = None,
    ) -> None:
        self.config = RollPolicyConfig() if config is None else config
        self.table = PlaybookTable() if table is None else table
        self.statistics = statistics
        self._order: RollOrder | None = None
        self.faults = 0

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last episode."""
        self._numbers = self.statistics or RollStatistics(
            tick=market.tick,
            leg_tick=market.leg_tick,
            multiplier=market.multiplier,
            width_ticks=max(1.0, float(np.median((market.ask - market.bid) / market.tick))),
        )
        self._order, self._bars = order, 0
        self._taken = 0.0  # of ours that the other side has not shown again
        self._start(order, market)

    def record(self) -> dict[str, Any]:
        """Return configuration and table as plain values, for reports."""
        return {"policy": self.name, "config": asdict(self.config), "table": self.table.to_dict()}

    def decide(self, state: RollState) -> RollAction:
        """Return the action for the next bar; it never raises.

        Where a number cannot be had (a book without size, metrics of another type) an even pace to the cutoff is kept;
        ``faults`` counts those decisions.
        """
        try:
            return self._decide(state)
        except _FAULTS as error:
            self.faults += 1
            return self._even(state, type(error).__name__)

    @abstractmethod
    def _start(self, order: RollOrder, market: RollMarket) -> None:
        """Forget what the subclass knows."""

    @abstractmethod
    def _want(self, state: RollState, view: RollView, rule: PlaybookRule) -> tuple[float, str]:
        """Return the spreads that should be crossed now, and why."""

    def _decide(self, state: RollState) -> RollAction:
        left = state.remaining
        if left <= 0 or state.bars_left <= 0:
            return _NOTHING
        if self._order is not state.order:
            self.reset(state.order, state.market)
        self._bars = self._bars or state.bars_left
        view, rule = self._read(state)
        wanted, why = self._want(state, view, rule)
        cross = self._clip(wanted, state, view, rule)
        pace = self._pace(state, view, rule)
        legs = 0
        if pace > cross:
            legs = self._legs(state, view, rule, pace)
            cross, why = max(cross, pace - legs), "even pace to the cutoff"
        # An order in place is not cut because the book around it has thinned: that would cost its place.
        shown = max(1, int(rule.display * view.own), min(state.working, left))
        rest = min(left - cross - legs, shown)
        self._taken += cross
        chase = view.dislocation <= rule.chase_ticks * self._numbers.tick + 1e-9
        return RollAction(
            rest=rest,
            cross=cross,
            leg=legs,
            max_let_s=(rule.max_let_s or 0.0) if legs else 0.0,
            reprice=view.behind > 0.25 and chase,
            reason=f"{rule.why}; {why}" + ("; legs, as worse prices of the spread cost more" if legs else ""),
        )

    def _read(self, state: RollState) -> tuple[RollView, PlaybookRule]:
        c = self.config
        rdp = float(state.metrics.get("rdp", math.nan))
        rule = self.table.rule(state.regime, rdp)
        view = look(state, self._numbers, display=rule.display, reference_s=c.reference_s, flow_s=c.flow_s)
        if math.isnan(rdp):  # no watch, or it knows none yet: what the book can do tells it
            rule = self.table.rule(state.regime, view.pressure)
        return view, rule

    def _clip(self, wanted: float, state: RollState, view: RollView, rule: PlaybookRule) -> int:
        """Cut a wish to the rule's clip, less what we took and the book has not shown again."""
        numbers = self._numbers
        self._taken *= 0.5 ** (state.market.bar_s / numbers.refill_half_life_s)
        room = min(rule.clip, numbers.share) * view.other - self._taken
        return int(max(0.0, min(wanted, room, state.remaining)))

    def _pace(self, state: RollState, view: RollView, rule: PlaybookRule) -> int:
        """Return the least to be crossed now for an even pace, where the regime or the book asks for one."""
        c, bar_s = self.config, state.market.bar_s
        slots = state.bars_left - math.ceil(c.reserve_s / bar_s)
        if slots <= 1 or view.pressure > c.caution:
            counted = 0.0
        elif rule.mode == "complete":
            counted = c.trust * view.fills * slots * bar_s
        else:
            return 0
        due = max(0.0, state.remaining - counted) / max(1, slots)
        return min(state.remaining, math.ceil(due))

    def _legs(self, state: RollState, view: RollView, rule: PlaybookRule, pace: int) -> int:
        """Return the part of the pace that the legs do cheaper than worse and worse prices of the spread book."""
        market, k, side = state.market, state.bar, state.order.side
        room = state.order.max_naked - abs(state.naked)
        if rule.max_let_s is None or room <= 0:
            return 0
        far, near = (market.leg_ask, market.leg_bid) if side > 0 else (market.leg_bid, market.leg_ask)
        best = float((market.ask if side > 0 else market.bid)[k])
        steps = side * (float(far[k, 1] - near[k, 0]) - best) / self._numbers.tick
        cheaper = math.floor(max(0.0, steps) + 1.0 + 1e-9) * self._numbers.share * view.other
        return int(max(0.0, min(pace - cheaper, room)))

    def _even(self, state: RollState, fault: str) -> RollAction:
        left = max(0, int(state.remaining))
        slots = max(1, int(state.bars_left) - 6)
        cross = min(left, math.ceil(left / slots))
        return RollAction(rest=min(left - cross, max(1, state.working)), cross=cross, reprice=False, reason=fault)


class PlaybookRoll(_Tabled):
    """The playbook's table alone, on a straight path: regime × deadline pressure → action.

    In every mode up to the rule's display rests at the best price. "mixed" crosses what the path's last slice left,
    "urgent" crosses what the best price holds, "complete" keeps an even pace that ends before the cutoff.

    Parameters
    ----------
    config
        Numbers; ``tail_weight``, ``edge``, ``reversion`` and ``fill_speed`` are not read.
    table
        Rules; default those that come with the toolkit.
    statistics
        Of past rolls; default those of the simulator with the ticks of the market.
    """

    name = "playbook"

    def _start(self, order: RollOrder, market: RollMarket) -> None:
        pass

    def _want(self, state: RollState, view: RollView, rule: PlaybookRule) -> tuple[float, str]:
        if rule.mode in ("rest", "complete"):
            return 0.0, "rest"
        slices = max(1, round(self._bars * state.market.bar_s / self.config.slice_s))
        number = (self._bars - state.bars_left) * slices // self._bars
        behind = number * state.order.size // slices - (state.order.size - state.remaining)
        if rule.mode == "urgent":
            return math.inf, "a clip"
        return max(0, behind), "behind the path" if behind > 0 else "on the path"


class TailAwareRoll(_Tabled):
    """The playbook, with the tail of waiting priced against what resting saves.

    Contracts that rest fill one after the other, at ``fills`` a second (:func:`~.policy_view.look`). The last of ``q``
    waits for ``q / fills``. Waiting is worth while up to the patience ``τ`` of :class:`~.policy_view.Outlook`, so that

        keep ``fills · τ`` resting, cross the excess now,

    at the pace that the best price refills and within the rule's clip. Risk is remaining × volatility × time: large
    orders cross at once what would wait too long, a dislocation against the order makes it wait for the reversion, one
    in its favour makes it cross, stress shortens the patience. Unfilled quantity is carried forward by construction:
    the rule looks at what is left.

    Parameters
    ----------
    config
        Numbers.
    table
        Rules; their ``tail`` multiplies ``tail_weight``.
    statistics
        Of past rolls.
    schedule
        In place of the patience: another policy, such as
        :class:`~crosswind.problems.roll.program.ScheduledRoll`, whose crossing gives the pace within the rules.
    carry
        False, for comparison: the crossing follows the course expected at the start, without looking at fills.
    name
        In reports.
    """

    name = "tail-aware"

    def __init__(
        self,
        config: RollPolicyConfig | None = None,
        table: PlaybookTable | None = None,
        statistics: RollStatistics | None = None,
        *,
        schedule: RollPolicy | None = None,
        carry: bool = True,
        name: str = "tail-aware",
    ) -> None:
        super().__init__(config, table, statistics)
        self.schedule, self.carry, self.name = schedule, bool(carry), str(name)
        self._planned = math.nan

    def _start(self, order: RollOrder, market: RollMarket) -> None:
        c = self.config
        self._outlook = Outlook(self._numbers, c.edge, c.reversion)
        self._planned, self._first = float(order.size), math.nan
        if self.schedule is not None:
            self.schedule.reset(order, market)

    def _want(self, state: RollState, view: RollView, rule: PlaybookRule) -> tuple[float, str]:
        if self.schedule is not None:
            asked = self.schedule.decide(state)
            return float(asked.cross), f"schedule: {asked.reason}"
        rate = self.config.fill_speed * view.fills
        patience = self._outlook.patience_s(view, self.config.tail_weight * rule.tail)
        if not self.carry:
            return self._expected(state, rate, patience, view)
        keep = rate * patience if patience < math.inf else math.inf
        excess = state.remaining - keep
        if excess <= 0.0:
            return 0.0, f"rest: all fill within {patience:.0f} s" if patience < math.inf else "rest: waiting is cheap"
        return excess, f"cross what would wait beyond {patience:.0f} s"

    def _expected(self, state: RollState, rate: float, patience: float, view: RollView) -> tuple[float, str]:
        """Return what the course expected at the start crosses now: rates and patience of the first decision."""
        if math.isnan(self._first):
            self._first = rate * patience if patience < math.inf else math.inf
            self._rate, self._cross = rate * state.market.bar_s, view.crosses * state.market.bar_s
        cross = min(max(0.0, self._planned - self._first), max(self._cross, 1.0))
        self._planned = max(0.0, self._planned - self._rate - cross)
        return cross, "course expected at the start"

    def _pace(self, state: RollState, view: RollView, rule: PlaybookRule) -> int:
        return super()._pace(state, view, rule) if self.carry else 0


class DisplayCap:
    """Another policy, which shows no more than a share of what its own side of the book displays.

    A simulated book does not answer to a large order that rests in it; a real one does. The cap lets schedules that
    rest their clips be compared under the same rule as the playbook's ``display``.

    Parameters
    ----------
    policy
        The policy.
    share
        Of the displayed size, > 0.

    Raises
    ------
    InvalidInput
        For a share that is not positive and finite.
    """

    def __init__(self, policy: RollPolicy, share: float = 0.2) -> None:
        if isinstance(share, bool) or not np.isfinite(share) or share <= 0.0:
            raise InvalidInput("must be positive and finite", field="share", value=share, remedy="e.g. 0.2")
        self.policy, self.share = policy, float(share)
        self.name = str(getattr(policy, "name", type(policy).__name__))

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last episode."""
        self.policy.reset(order, market)

    def decide(self, state: RollState) -> RollAction:
        """Return the policy's action with what rests cut to the cap; an order in place keeps its size."""
        action = self.policy.decide(state)
        market = state.market
        own = float((market.bid_size if state.order.side > 0 else market.ask_size)[state.bar])
        cap = max(1, int(self.share * own), min(state.working, action.rest))
        return replace(action, rest=cap) if action.rest > cap else action
