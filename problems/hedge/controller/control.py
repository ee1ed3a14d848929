"""The controller of a hedge: observations in, decisions out, whatever happens.

Each step books the reports, forms the gap with orders in flight and the carried rounding, solves the program
(:mod:`crosswind.problems.hedge.controller.program`), turns its first trades into whole lots and passes them through the
last check (:mod:`crosswind.problems.hedge.controller.limits`).

The ladder, best first, is :class:`crosswind.problems.hedge.controller.model.HedgeRank`. What took a step down is
remembered in latches: the program and the rule each go out after ``trip_after`` failures in a row and come back after
``rearm_after`` good attempts in the shade; bad data release after ``fresh_after`` good observations; a clock that went
back is believed again once it has passed the old one, or has gone on evenly ``rearm_after`` times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from crosswind.problems.hedge.controller.ahead import PlannedPath
from crosswind.problems.hedge.controller.book import FlightBook
from crosswind.problems.hedge.controller.clock import SliceClock
from crosswind.problems.hedge.controller.displaced import Displaced
from crosswind.problems.hedge.controller.explain import HedgeExplanation, explain_decision
from crosswind.problems.hedge.controller.fallback import FallbackRules
from crosswind.problems.hedge.controller.journal import decode_state, encode_state, record_of
from crosswind.problems.hedge.controller.ladder import Latch
from crosswind.problems.hedge.controller.limits import LastCheck
from crosswind.problems.hedge.controller.messages import (
    HedgeDecision,
    HedgeObservation,
    HedgeOrder,
    sound_bounds,
)
from crosswind.problems.hedge.controller.model import HedgeRank, HedgeSetup
from crosswind.problems.hedge.controller.program import ControllerProgram
from crosswind.problems.hedge.controller.quotes import QuoteCheck
from crosswind.problems.hedge.core_step import proven
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc import MpcStep
from crosswind.solvers.solution import Status

__all__ = ["HedgeController"]

# Bound once: to look up a member of an Enum costs a quarter of a microsecond.
_OPTIMAL, _CERTIFIED, _RELAXED, _FEASIBLE = list(HedgeRank)[:4]
_HOLD, _SOLVED, _REFUSED = HedgeRank.HOLD, Status.OPTIMAL, Status.INVALID
_WHOLE = (int, np.integer)
_tuple = tuple.__new__  # a NamedTuple's own constructor takes twice as long
_FAR = 1e9  # times the scale: what the core refuses, and no position is
_REASONS = (
    "first trade of the program",
    "first trade of the program, its work used up, its gap known",
    "first trade of the program, a limit on the change gave way",
)


class HedgeController:
    """Receding-horizon control of one hedge with one or several futures.

    Parameters
    ----------
    setup
        What stays the same.
    engine
        As for :class:`crosswind.solvers.mpc.MpcSolver`.
    journal
        Called with each step's record, a plain dict; what it raises becomes an alarm.
    clock
        Read around each solve where the set-up has a watchdog [s].

    Raises
    ------
    InvalidInput
        For a set-up that is none, or one that the core refuses.

    Notes
    -----
    :meth:`step` never raises and always answers, with a rank and a reason. Its work is bounded: ``setup.work``
    factorisations. Decisions depend on the set-up and the observations alone, but for the watchdog, whose verdict is in
    the journal. One controller serves one thread.

    Examples
    --------
    >>> from crosswind.problems.hedge.controller import HedgeInstrument, HedgeObservation, HedgeSetup
    >>> future = HedgeInstrument("ES", multiplier=50.0, clip=2e6, temporary=1e-11)
    >>> setup = HedgeSetup((future,), scale=1e7, risk_aversion=1e-6, covariance_per_s=1e-8)
    >>> seen = HedgeObservation(0.0, (1e7,), (5000.0,), (1e-5,), plan=np.full((20, 1), 1e7))
    >>> decision = HedgeController(setup).step(seen)
    >>> decision.rank.name, decision.orders
    ('OPTIMAL', (HedgeOrder(id='h-1-0', instrument='ES', contracts=8.0),))
    """

    def __init__(
        self,
        setup: HedgeSetup,
        engine: str = "auto",
        journal: Callable[[dict[str, Any]], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not isinstance(setup, HedgeSetup):
            raise InvalidInput("is no HedgeSetup", field="setup", value=type(setup).__name__, remedy="build one first")
        self.setup, self.journal, self._stopwatch = setup, journal, clock
        self._program = ControllerProgram(setup, engine)
        m, k = self._program.m, self._program.k
        self._m, self._k, self._instruments, self._exposures = m, k, range(m), range(k)
        self._names = [i.name for i in setup.instruments]
        self._lot = [i.lot for i in setup.instruments]
        # By instrument: the exposures that it has.
        self._reach = [[(i, e) for i, e in enumerate(column) if e] for column in setup.loadings.T.tolist()]
        self._prefix = f"{setup.name}-"
        self._watched = setup.watchdog_s < math.inf
        self._unit, self._per = self._program.unit, 1.0 / self._program.unit
        self._rated = [j for j, i in enumerate(setup.instruments) if i.rate < math.inf]
        self._severe, self._far = len(setup.regimes) - 1, _FAR * setup.scale
        self._forced_late: bool | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after the construction."""
        m, setup = self._m, self.setup
        self._book = FlightBook(m, tuple(i.expected_fill for i in setup.instruments), setup.late_after_s)
        self._carry = [0.0] * m  # lots that the program counts as held and that rounding left out
        self._quotes = QuoteCheck(setup)
        self._check = LastCheck(setup)
        self._flying, self._nothing = [0.0] * m, [0.0] * m
        self._displaced = Displaced(self._program)
        self._path = PlannedPath(self._k, self._unit)
        self._clock = SliceClock(setup.dt_s, setup.rearm_after)
        self._program_latch = Latch(setup.trip_after, setup.rearm_after)
        self._fallback = FallbackRules(setup)
        self._data_latch = Latch(1, setup.fresh_after)
        self._sequence, self._solved = 0, False
        self._decision: HedgeDecision | None = None
        self._program.reset()
        self._program.last_solved = [0] * len(setup.regimes)

    # ---- the step ----------------------------------------------------------------------------------------------------

    def step(self, seen: HedgeObservation) -> HedgeDecision:
        """Return the decision for an observation; never raises."""
        self._sequence += 1
        self._solved = False
        alarms: list[str] = []
        try:
            decision = self._step(seen, alarms)
        except Exception as err:
            # The loop must answer whatever breaks; what broke is in the reason.
            self._data_latch.report(False)
            decision = self._hold(seen, f"{type(err).__name__}: {err}", alarms)
        self._decision = decision
        if self.journal is not None:
            try:
                self.journal(record_of(seen, decision))
            except Exception as err:
                self._decision = decision = decision._replace(alarms=(*decision.alarms, f"journal: {err}"))
        return decision

    def _hold(self, seen: Any, reason: str, alarms: list[str]) -> HedgeDecision:
        m, when = self._m, getattr(seen, "time_s", math.nan)
        when = float(when) if isinstance(when, (int, float)) else math.nan
        return HedgeDecision(
            self._sequence, when, (), (0,) * m, (0.0,) * m, _HOLD, reason, tuple(alarms), (), (math.nan,) * self._k,
            math.nan, math.inf, 0, False,
        )  # fmt: skip

    def _step(self, seen: HedgeObservation, alarms: list[str]) -> HedgeDecision:
        k, book, latch = self._k, self._book, self._data_latch
        # Reports are facts: they are booked even where the rest of the observation is not believed.
        reports = seen.reports
        if reports:
            self._take_reports(reports, alarms)
        # All the rest at once: an attribute of a NamedTuple is looked up in thirty nanoseconds, and there are many.
        (
            time_s, needed, mid, half_spread, plan, _, regime, age_s, liquidity, linear, funding, drift, tradeable,
            broker, reliance, factor, ceiling, bounds,
        ) = seen  # fmt: skip
        now = float(time_s)
        trouble = self._pass_time(now)
        if trouble:
            return self._hold(seen, trouble, alarms)
        if plan is not None:
            self._path.keep(plan)
        value = self._quotes.value
        usable, spread, trouble = self._quotes.take(mid, half_spread, tradeable, book, alarms)
        required, sound = [], True
        for amount in needed:
            required.append(float(amount))
            sound = sound and abs(required[-1]) <= self._far
        reliance = float(reliance)
        if not (sound and len(required) == k and 0.0 <= reliance <= 1.0):
            trouble = "the required hedge is no number or beyond measure, or of another number of exposures"
        if not (isinstance(ceiling, _WHOLE) and 0 <= ceiling <= _HOLD):
            trouble = f"the best rank that is allowed is none: {ceiling!r}"
        if not 0.0 <= age_s <= self.setup.max_age_s:
            trouble = f"data are {age_s:.6g} s old"
        if (trouble or latch.tripped) and latch.report(not trouble):
            return self._hold(seen, trouble or "data have only just become good again", alarms)
        if broker is not None:
            self._adopt(broker, alarms)

        if reliance != 1.0:
            required = [reliance * r for r in required]
        flying = self._nothing
        if book.open:
            flying = self._flying
            book.expected(now, flying, alarms)
        carry, lot, position = self._carry, self._lot, book.position
        held = [0.0] * k
        for j in self._instruments:
            if not usable[j]:
                carry[j] = 0.0  # another instrument is to have it
            on = ((position[j] + flying[j]) / lot[j] + carry[j]) * value[j]
            for i, e in self._reach[j]:
                held[i] += e * on
        if not (isinstance(regime, _WHOLE) and 0 <= regime <= self._severe):
            alarms.append(f"unknown regime {regime!r}: the most severe is taken")
            regime = self._severe
        caps, gap = self._program.gap_caps[regime], required.copy()
        for i in self._exposures:
            gap[i] -= held[i]
            if abs(gap[i]) > caps[i]:
                alarms.append(f"gap cap of {self.setup.exposures[i]} exceeded by {abs(gap[i]) - caps[i]:.6g}")
        room = self._quotes.room(liquidity, usable, self._check.gross, now)

        rank, wanted, late = _HOLD, None, False
        objective, proof, work = math.nan, math.inf, 0
        if ceiling <= _FEASIBLE:
            out = self._program_latch.tripped
            found, reason, late = self._ask_program(
                out, required, held, regime, usable, spread, room, reliance, liquidity, linear, funding, drift
            )
            if found is not None and not out:
                rank, wanted, objective, proof, work = found
                if rank < ceiling:
                    rank = HedgeRank(ceiling)
        else:
            reason = "the program is not allowed"
        if wanted is None:
            rank, wanted, why = self._fallback.trades(gap, caps, regime, factor, ceiling, usable, spread, room)
            reason = f"{reason}; {why}"
        return self._send(
            bounds, now, rank, wanted, reason, alarms, gap, caps, usable, room, objective, proof, work, late
        )

    # ---- facts -------------------------------------------------------------------------------------------------------

    def _take_reports(self, reports: Any, alarms: list[str]) -> None:
        take, add, lot, value, per = self._book.take, self._displaced.add, self._lot, self._quotes.value, self._per
        for report in reports:
            try:
                j, filled = take(report, alarms)
            except (TypeError, ValueError) as err:
                alarms.append(f"report is of no known form: {err}")
                continue
            if filled:
                add(j, filled / lot[j] * value[j] * per)

    def _adopt(self, position: Any, alarms: list[str]) -> None:
        if len(position) != self._m:
            alarms.append(f"reported positions are of {len(position)} instruments, not of {self._m}")
            return
        for j, contracts in enumerate(position):
            known = self._book.position[j]
            if not abs(contracts) * self._quotes.value[j] <= self._far:
                alarms.append(f"reported position of {self._names[j]} makes no sense: {contracts}")
            elif abs(contracts - known) > 1e-9 * self._lot[j]:
                alarms.append(f"position of {self._names[j]} taken over: {contracts:.6g} for {known:.6g}")
                self._book.position[j] = float(contracts)

    def _pass_time(self, now: float) -> str:
        """Move on to ``now``; return what is wrong with the clock."""
        clock = self._clock
        trouble = clock.move(now)
        if clock.adopted:
            self._check.times = [now] * len(self._check.times)
        if clock.gone_s > 0.0:
            self._displaced.fade(clock.gone_s)
        if clock.passed:
            self._check.next_slice(clock.passed)
            self._path.move(clock.passed)
        return trouble

    # ---- the rungs ---------------------------------------------------------------------------------------------------

    def _ask_program(
        self,
        out: bool,
        required: list[float],
        held: list[float],
        regime: int,
        usable: list[bool],
        spread: list[float],
        room: list[float],
        reliance: float,
        liquidity: Any,
        linear: Any,
        funding: Any,
        drift: Any,
    ) -> tuple[tuple[HedgeRank, list[float], float, float, int] | None, str, bool]:
        """Return rank, trades [currency], cost, proof and work; or None with the reason, and whether it was late."""
        program, path = self._program, self._path.rows()
        watched = self._watched and self._forced_late is None
        began = self._stopwatch() if watched else 0.0
        if path is None:
            self._program_latch.report(False)
            return None, "no plan", False
        try:
            if reliance != 1.0:
                path = path * reliance
            program.fill(
                required, held, path, regime, usable, spread, room, self._clock.now, liquidity, linear, funding, drift
            )
            value = self._quotes.value
            if self._rated:
                check = self._check
                for j in self._rated:
                    program.last_at[j] = (check.before[j] - check.sent[j]) * value[j] * self._per
            if self._book.open or self._displaced.lifted:
                flying = self._flying if self._book.open else self._nothing
                self._displaced.lift(
                    [n / self._lot[j] * value[j] * self._per if n else 0.0 for j, n in enumerate(flying)]
                )
            step = program.solve(self._clock.slice)
            self._solved = step.status is not _REFUSED
            found, reason = self._ranked(step, usable, spread, regime)
        except Exception as err:
            # Data of a wrong shape or kind come out here: the rule needs none of them.
            found, reason = None, f"{type(err).__name__}: {err}"
        late = self._forced_late is True
        if watched:
            # A stopwatch that goes back, or tells no number, has not seen a solve in time.
            late = not 0.0 <= self._stopwatch() - began <= self.setup.watchdog_s
        good = found is not None and not late
        self._program_latch.report(good)
        if out:
            reason = "the program is out until it has worked for a while" if good else reason
        elif late:
            reason = f"{reason}, slower than the watchdog"
        return found, reason, late

    def _ranked(
        self, step: MpcStep, usable: list[bool], spread: list[float], regime: int
    ) -> tuple[tuple[HedgeRank, list[float], float, float, int] | None, str]:
        _, status, relaxed, objective, proof, work, _, _ = step
        if status is _REFUSED:
            return None, "the program refused its data as not finite, negative or too large"
        unit, finite = self._unit, math.isfinite
        first: list[float] = self._program.first.tolist()  # type: ignore[assignment]
        sound = finite(objective) and finite(proof)
        for j in self._instruments:
            first[j] *= unit
            sound = sound and finite(first[j])
        if not sound:
            return None, "the program answered with what is not a number"
        rank = _OPTIMAL
        if status is not _SOLVED:
            rank = _CERTIFIED
            if not proven(step, 1e-4 * self.setup.accept_bps * self.setup.scale * self._per):
                rival = self._fallback.plan(self._program, regime, usable, spread)
                if not objective <= self._program.cost(rival):
                    return None, "the stopped program costs more than the rule"
                rank = _FEASIBLE
        if relaxed and rank < _RELAXED:
            rank = _RELAXED
        if rank > _RELAXED:
            reason = f"stopped program, better than the rule, within {proof * unit:.3g} of the best"
        else:
            reason = _REASONS[rank]
        return (rank, first, objective * unit, proof * unit, work), reason

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _send(
        self,
        bounds: Any,
        now: float,
        rank: HedgeRank,
        wanted: list[float],
        reason: str,
        alarms: list[str],
        gap: list[float],
        caps: tuple[float, ...],
        usable: list[bool],
        room: list[float],
        objective: float,
        proof: float,
        work: int,
        late: bool,
    ) -> HedgeDecision:
        m, carry, value, check, send = self._m, self._carry, self._quotes.value, self._check, False
        lots, ideal = [0] * m, [0.0] * m
        for j in self._instruments:
            if usable[j]:
                ideal[j] = asked = wanted[j] / value[j] + carry[j]
                lots[j] = n = round(asked)
                send = send or n != 0
        binding: tuple[str, ...] = ()
        if send:
            within = None if bounds is None else sound_bounds(bounds, self.setup.exposures, alarms)
            lots, binding = check.cut(lots, value, room, gap, caps, self._book, now, within)
            if rank < _RELAXED and not check.keeps_rate(lots, value):
                rank = _RELAXED
        orders: list[HedgeOrder] = []
        for j in self._instruments:
            n = lots[j]
            rest = ideal[j] - n
            # What a limit cut off stays in the gap; only rounding is carried.
            if -0.5 <= rest <= 0.5:
                carry[j] = rest
            elif abs(carry[j]) > 0.5:
                carry[j] = 0.0
            if n:
                name, contracts = f"{self._prefix}{self._sequence}-{j}", n * self._lot[j]
                orders.append(_tuple(HedgeOrder, (name, self._names[j], contracts)))
                self._book.send(name, j, contracts, now)
        if orders:
            check.book(lots, now)
        return _tuple(HedgeDecision, (
            self._sequence, now, tuple(orders), tuple(lots), tuple(wanted), rank, reason, tuple(alarms),
            binding, tuple(gap), objective, proof, work, late,
        ))  # fmt: skip

    # ---- looking back ------------------------------------------------------------------------------------------------

    @property
    def position(self) -> tuple[float, ...]:
        """Contracts held, by reports so far (m,)."""
        return tuple(self._book.position)

    @property
    def in_flight(self) -> tuple[float, ...]:
        """Contracts sent and neither filled nor done (m,)."""
        out = [0.0] * self._m
        for j, sent, filled, _ in self._book.open.values():
            out[j] += sent - filled
        return tuple(out)

    @property
    def carried(self) -> tuple[float, ...]:
        """Lots that rounding left out so far, each within half a lot (m,)."""
        return tuple(self._carry)

    @property
    def latches(self) -> dict[str, bool]:
        """Which parts are out: program, rule, data, clock."""
        return {
            "program": self._program_latch.tripped,
            "rule": self._fallback.latch.tripped,
            "data": self._data_latch.tripped,
            "clock": self._clock.latch.tripped,
        }

    def explain(self, decision: HedgeDecision) -> HedgeExplanation:
        """Return why the latest decision trades what it trades.

        Raises
        ------
        InvalidInput
            When the decision is not the latest: the arrays behind an older one have been overwritten. Restore a
            snapshot and give its observation again.
        """
        if self._decision is None or decision.sequence != self._decision.sequence:
            raise InvalidInput(
                "is not the latest decision",
                field="decision",
                value=decision.sequence,
                remedy="explain it before the next step, or replay the journal up to it",
            )
        return explain_decision(self.setup, self._program, self._program.prices() if self._solved else None, decision)

    def snapshot(self) -> dict[str, Any]:
        """Return all that later decisions depend on, as plain data that JSON holds to the last bit."""
        return encode_state(self)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a snapshot: the same observations give the same decisions to the last bit.

        Raises
        ------
        InvalidInput
            When the snapshot is damaged, or of another set-up, engine or version.
        """
        decode_state(self, saved)

    def __reduce__(self) -> tuple[Any, ...]:
        # The solvers hold on to the arrays that are filled for them: a copy gets its own, and the state.
        engine = self._program.solvers[0].engine
        return _restored, (self.setup, engine, self.journal, self._stopwatch, self.snapshot())


def _restored(setup: HedgeSetup, engine: str, journal: Any, clock: Any, saved: dict[str, Any]) -> HedgeController:
    controller = HedgeController(setup, engine, journal, clock)
    controller.restore(saved)
    return controller
