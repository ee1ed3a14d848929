"""The k-th call of every seam of the hedge loop fails, in every way, once or for good, for k = 1, 2, 3 … to the end.

The seams are the solver, the stopwatch around it, the journal and the observation; for the policy of the replay, the
solver and the state. A run whose fault comes after its last call must be the clean run to the byte: that ends the
count. Whatever fails, no limit is broken, every answer has a named rank and a reason, and once the fault is over the
loop works again. An umpire with code of its own holds the orders against the limits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from controller_cases import PRICE, SCALE, VALUE, Umpire, Venue, future, names_of, seen_of, setup_of
from hedge_cases import VARIANCE_PER_S

from crosswind.problems.hedge import HedgeBeliefs, HedgeContext, HedgeState, MPCHedge, Rung
from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeDecision,
    HedgeObservation,
    HedgeRank,
    HedgeSetup,
    canonical,
    replay_journal,
)
from crosswind.solvers.mpc import MpcSolver
from crosswind.solvers.native import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="the extension was not compiled: PIQP would take minutes")

KINDS = ("raise", "nan", "inf", "stale", "timeout", "shape", "empty", "duplicate", "reorder")
SEAMS = ("solver", "stopwatch", "journal", "observation")
STEPS, QUIET = 8, 12  # steps with the fault armed, and after it is over


class Fault:
    """Fails the ``at``-th call of one seam, and all later ones where it is sticky."""

    def __init__(self, seam: str, kind: str, at: int, sticky: bool) -> None:
        self.seam, self.kind, self.at, self.sticky = seam, kind, at, sticky
        self.calls, self.fired, self.over = 0, 0, False

    def due(self, seam: str) -> bool:
        """Count a call of a seam and return whether it fails."""
        if seam != self.seam or self.over:
            return False
        self.calls += 1
        now = self.calls == self.at or (self.sticky and self.calls > self.at)
        self.fired += now
        return now


class Broken(HedgeObservation):
    """An observation that cannot be read beyond its reports."""

    def __iter__(self) -> Any:
        raise RuntimeError("feed")


class Loop:
    """A controller with a venue, a journal and a stopwatch, each behind its seam."""

    def __init__(self, setup: HedgeSetup, fault: Fault) -> None:
        self.setup, self.fault = setup, fault
        self.m, self.k = len(setup.instruments), len(setup.exposures)
        self.ticks, self.told, self.written = 0.0, 0.0, list[Any]()
        self.controller = HedgeController(setup, journal=self.journal, clock=self.stopwatch)
        self.venue, self.umpire = Venue(self.m, 3, hostile=False), Umpire(setup)
        self.kept: HedgeObservation | None = None
        self.decisions: list[HedgeDecision] = []
        self.asked: dict[str, Any] | None = None
        self.answer: Any = None
        program = self.controller._program
        for number, solver in enumerate(program.solvers):
            program.calls[number] = self.solver(solver.step, program.calls[number])

    def solver(self, plain: Callable[..., Any], whole: Callable[..., Any]) -> Callable[..., Any]:
        program = self.controller._program

        def step(shift: int, tol: float, work: int) -> Any:
            asked: dict[str, Any] = {name: getattr(program, name).copy() for name in program.DATA}
            asked |= {"shift": shift, "tol": tol, "work": work, "out": program.trades}
            before, self.asked = self.asked, asked
            if not self.fault.due("solver"):
                self.answer = whole(shift, tol, work)
                return self.answer
            kind = self.fault.kind
            if kind == "raise":
                raise RuntimeError("solver")
            if kind == "empty":
                return None
            if kind == "stale":
                return self.answer
            if kind == "reorder":  # the answer to the question before
                return plain(**(before or asked))
            answer = whole(shift, tol, work)
            if kind == "duplicate":
                answer = whole(shift, tol, work)
            if kind == "timeout":
                self.ticks += 9.0
            if kind in ("nan", "inf"):
                answer.trades[0] = math.nan if kind == "nan" else math.inf
            return answer[:3] if kind == "shape" else answer

        return step

    def stopwatch(self) -> Any:
        self.ticks += 1e-6
        if self.fault.due("stopwatch"):
            kind = self.fault.kind
            if kind == "raise":
                raise OSError("no clock")
            self.ticks += 9.0 if kind == "timeout" else 0.0
            odd = {"nan": math.nan, "inf": math.inf, "stale": self.told, "shape": (self.ticks,), "empty": None}
            odd |= {"duplicate": self.told, "reorder": self.told - 5.0, "timeout": self.ticks}
            return odd[kind]
        self.told = self.ticks
        return self.ticks

    def journal(self, record: dict[str, Any]) -> None:
        kind = self.fault.kind if self.fault.due("journal") else ""
        if kind == "raise":
            raise OSError("disk full")
        if kind == "timeout":
            raise TimeoutError("journal")
        if kind == "empty":
            return
        self.written.append(copy.deepcopy(record) if kind else record)
        if kind in ("nan", "inf"):
            record["decision"]["lots"][:] = [math.nan if kind == "nan" else math.inf] * self.m
        if kind == "shape":
            record.clear()
        if kind == "stale":
            self.written[-1:] = self.written[-2:-1]
        if kind == "duplicate":
            self.written.append(self.written[-1])
        if kind == "reorder":
            self.written[-2:] = self.written[-2:][::-1]

    def observed(self, seen: HedgeObservation) -> Iterator[Any]:
        kind = self.fault.kind if self.fault.due("observation") else ""
        if kind == "reorder":  # the later one comes first
            if self.kept is None:
                self.kept = seen
                return
            kind = ""
        broken = {
            "raise": lambda: Broken(*seen),
            "nan": lambda: seen._replace(required=(math.nan,) * self.k, half_spread=(math.nan,) * self.m),
            "inf": lambda: seen._replace(mid=(math.inf,) * self.m, plan=np.full((20, self.k), math.inf)),
            "stale": lambda: seen._replace(age_s=99.0),
            "timeout": lambda: seen._replace(time_s=seen.time_s + 600.0, plan=None),
            "shape": lambda: seen._replace(required=(SCALE,) * (self.k + 1), mid=(PRICE,) * (self.m + 2)),
            "empty": lambda: HedgeObservation(seen.time_s, (), (), ()),
        }
        yield broken[kind]() if kind in broken else seen
        if kind == "duplicate":
            yield seen
        if self.kept is not None:
            late, self.kept = self.kept, None
            yield late

    def run(self, steps: range, **change: Any) -> None:
        names = names_of(self.controller)
        for s in steps:
            phase = min(s, STEPS)
            need = SCALE * (1.0 + 0.8 * np.sin(phase + np.arange(self.k)))
            ahead = SCALE * (
                1.0 + 0.8 * np.sin(np.minimum(phase + np.arange(1, 9)[:, None], STEPS) + np.arange(self.k))
            )
            position = {"position": tuple(self.venue.position)} if change.get("broker") else {}
            seen = seen_of(60.0 * s, need, self.m, plan=ahead, reports=self.venue.reports(), **position)
            for told in self.observed(seen):
                decision = self.controller.step(told)
                self.decisions.append(decision)
                assert isinstance(decision.rank, HedgeRank)
                assert decision.reason
                assert len(decision.lots) == self.m
                value = np.array(self.controller._quotes.value)
                # By the true time: what a clock tells that jumps is no measure of a minute.
                self.umpire.judge(self.controller._clock.slice, 60.0 * s, value, decision)
                for order in decision.orders:
                    assert order.id not in self.venue.live, "an id twice"
                self.venue.take(decision, names)


SETUPS: dict[str, HedgeSetup] = {
    "one future": setup_of(
        future(clip=20 * VALUE, rate=12 * VALUE, notional=90 * VALUE, order_lots=15),
        horizon=6, watchdog_s=1.0, trip_after=2, rearm_after=3, max_age_s=5.0, messages=3, late_after_s=300.0,
    ),
    "two futures on two indices": setup_of(
        future("A"), future("B", rate=2e6), exposures=("x", "y"), covariance_per_s=[[1e-8, 5e-9], [5e-9, 2e-8]],
        loadings=[[1.0, 0.2], [0.1, 0.9]], horizon=5, watchdog_s=1.0, trip_after=1, rearm_after=2, max_age_s=5.0,
        late_after_s=300.0,
    ),
}  # fmt: skip


def played(setup: HedgeSetup, fault: Fault) -> Loop:
    """Run a loop to its end: with the fault, then with the fault over and the broker's count of the position."""
    loop = Loop(setup, fault)
    loop.run(range(STEPS))
    fault.over = True
    loop.run(range(STEPS, STEPS + QUIET), broker=True)
    return loop


def bytes_of(loop: Loop, alarms: bool = True) -> list[str]:
    return [canonical((d if alarms else d._replace(alarms=())).to_dict()) for d in loop.decisions]


@pytest.mark.parametrize("name", SETUPS)
def test_a_fault_at_every_call_of_every_seam(name: str) -> None:
    setup = SETUPS[name]
    clean = played(setup, Fault("none", "raise", 0, False))
    expected, last = bytes_of(clean), clean.decisions[-1]
    assert max(d.rank for d in clean.decisions) <= HedgeRank.CERTIFIED
    assert clean.umpire.sent >= STEPS
    runs = steps = 0
    for seam in SEAMS:
        for kind in KINDS:
            for sticky in (False, True):
                for at in count(1):
                    where = (seam, kind, "sticky" if sticky else "once", at)
                    fault = Fault(seam, kind, at, sticky)
                    loop = played(setup, fault)
                    steps += len(loop.decisions)
                    if not fault.fired:
                        assert bytes_of(loop) == expected, where
                        break
                    runs += 1
                    end = loop.decisions[-1]
                    # The fault is over: the program decides again, and holds about what the clean run holds.
                    assert end.rank <= HedgeRank.CERTIFIED, (where, end)
                    assert not any(loop.controller.latches.values()), where
                    gaps = np.abs(np.subtract(end.gap, last.gap))
                    assert (gaps <= 0.2 * SCALE).all(), (
                        where,
                        end.gap,
                        last.gap,
                    )  # where waiting costs no more than trading
                    if seam == "journal":
                        # Decisions do not depend on what becomes of their record.
                        assert bytes_of(loop, alarms=False) == bytes_of(clean, alarms=False), where
                        heard = sum(a.startswith("journal") for d in loop.decisions for a in d.alarms)
                        assert heard == (fault.fired if kind in ("raise", "timeout") else 0), where
                    if seam == "stopwatch" and kind in ("raise", "shape", "empty"):
                        assert any(d.rank is HedgeRank.HOLD for d in loop.decisions), where
                    if seam == "observation" and kind in ("nan", "inf", "stale", "shape", "empty", "raise"):
                        assert loop.decisions[at - 1].rank is HedgeRank.HOLD, where
    assert runs == faults_of(setup), f"{runs} distinct faults over {steps} decisions, none unsafe"


def faults_of(setup: HedgeSetup) -> int:
    """Return how many faults a set-up can have: the calls of a clean run by seam, in every way, once and for good."""
    calls = 0
    for seam in SEAMS:
        never = Fault(seam, "raise", 10**9, False)
        played(setup, never)
        calls += never.calls
    return calls * len(KINDS) * 2


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("kind", KINDS)
def test_good_after_a_thousand_bad_calls(seam: str, kind: str) -> None:
    fault = Fault(seam, kind, 1, True)
    loop = Loop(setup_of(horizon=4, watchdog_s=1.0, max_age_s=5.0, late_after_s=300.0), fault)
    loop.run(range(1000))
    assert fault.fired >= 500  # where each failure holds the next step as well, every other one asks
    assert not any(d.orders for d in loop.decisions[3:1000] if d.rank is HedgeRank.HOLD)
    fault.over = True
    loop.run(range(1000, 1025), broker=True)
    assert loop.decisions[-1].rank <= HedgeRank.CERTIFIED
    assert not any(loop.controller.latches.values())


def test_a_journal_with_a_record_twice_or_lost_is_noticed_and_the_rest_replays() -> None:
    """What was written whole and in order replays to the byte, up to where it was spoiled."""
    import json

    for kind in ("duplicate", "empty", "reorder", "stale"):
        loop = played(SETUPS["one future"], Fault("journal", kind, 5, False))
        records = [json.loads(canonical(record)) for record in loop.written]
        numbers = [record["decision"]["sequence"] for record in records]
        assert numbers != list(range(1, len(numbers) + 1)), kind
        whole = next(i for i, n in enumerate(numbers) if n != i + 1)
        again = list(replay_journal(HedgeController(SETUPS["one future"]), records[:whole]))
        assert [canonical(d.to_dict()) for d in again] == [canonical(r["decision"]) for r in records[:whole]]
        assert whole >= 3


# the policy of the replay ---------------------------------------------------------------------------------------------

POLICY_STEPS = 12
POLICIES: dict[str, dict[str, Any]] = {
    "core": {"engine": "core", "clip_share": 0.3, "rate_share": 0.2, "gap_cap_share": 0.5},
    "auto": {"engine": "auto", "clip_share": 0.25},
}


def driven(limits: dict[str, Any], fault: Fault, patch: pytest.MonkeyPatch) -> list[tuple[float, str, str]]:
    """Decide over a parent with a falling requirement; each trade is filled; return trade, rung and reason."""
    scale, T = 1e6, POLICY_STEPS
    policy = MPCHedge(2e-6, 5, **limits)
    policy.reset(HedgeContext(T, np.full(T, 60.0), scale, HedgeBeliefs(VARIANCE_PER_S), np.zeros(0), np.zeros(0)))
    path = scale * np.linspace(1.0, 0.0, T + 1) ** 2
    whole, kept = MpcSolver.step, dict[str, Any]()

    def step(self: MpcSolver, *args: Any, **named: Any) -> Any:
        if not fault.due("solver"):
            kept["answer"], kept["asked"] = whole(self, *args, **named), (copy.deepcopy(args), copy.deepcopy(named))
            return kept["answer"]
        kind = fault.kind
        if kind in ("raise", "timeout"):
            raise RuntimeError("solver") if kind == "raise" else TimeoutError("solver")
        if kind in ("empty", "stale"):
            return None if kind == "empty" else kept.get("answer")
        if kind == "reorder" and "asked" in kept:
            args, named = kept["asked"]
        answer = whole(self, *args, **named)
        if kind == "duplicate":
            answer = whole(self, *args, **named)
        if kind in ("nan", "inf"):
            answer.trades[0] = math.nan if kind == "nan" else math.inf
        return answer[:3] if kind == "shape" else answer

    patch.setattr(MpcSolver, "step", step)
    held, last, before = 0.0, 0.0, None
    out: list[tuple[float, str, str]] = []
    for k in range(T):
        state = HedgeState(k, float(path[k]), held, path[k + 1 :], 1e-5, np.zeros(T - k))
        told: Any = state
        if fault.due("state"):
            told = {
                "raise": None,
                "nan": replace(state, held=math.nan),
                "inf": replace(state, planned_beta_q=np.full(T - k, math.inf)),
                "stale": before or state,
                "timeout": replace(state, slice=k + 50),
                "shape": replace(state, drift=np.zeros((2, 2))),
                "empty": replace(state, planned_beta_q=np.zeros(0), drift=np.zeros(0)),
                "duplicate": state,
                "reorder": before or state,
            }[fault.kind]
            if fault.kind == "duplicate":
                last = policy.decide(told).trade
        before = state
        action = policy.decide(told)
        assert isinstance(action.rung, Rung)
        assert action.reason
        assert math.isfinite(action.trade)
        assert abs(action.trade) <= limits["clip_share"] * scale * (1.0 + 1e-9)
        rate = limits.get("rate_share", math.inf) * scale
        assert action.trade == 0.0 or abs(action.trade - last) <= rate * (1.0 + 1e-9)
        held, last = held + action.trade, action.trade
        out.append((action.trade, action.rung.name, action.reason))
    return out


@pytest.mark.parametrize("name", POLICIES)
def test_a_fault_at_every_call_of_the_policys_seams(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, runs = POLICIES[name], 0

    def run(fault: Fault) -> list[tuple[float, str, str]]:
        with monkeypatch.context() as patch:
            return driven(limits, fault, patch)

    clean = run(Fault("none", "raise", 0, False))
    assert {rung for _, rung, _ in clean} == {"OPTIMAL"}
    for seam in ("solver", "state"):
        for kind in KINDS:
            for sticky in (False, True):
                for at in count(1):
                    fault = Fault(seam, kind, at, sticky)
                    out = run(fault)
                    if not fault.fired:
                        assert out == clean, (seam, kind, sticky, at)
                        break
                    runs += 1
                    if not sticky and at < fault.calls:
                        # One failure does not poison the next step.
                        assert out[at][1] == "OPTIMAL", (seam, kind, at, out[at])
    assert runs == policy_faults_of(run), f"{runs} distinct faults of the policy, none unsafe"


def policy_faults_of(run: Callable[[Fault], object]) -> int:
    """Return how many faults a policy can have, as above."""
    seams = [Fault(seam, "raise", 10**9, False) for seam in ("solver", "state")]
    for never in seams:
        run(never)
    return sum(never.calls for never in seams) * len(KINDS) * 2


def test_the_faults_are_two_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar: distinct (seam, kind, mode, call, set-up), each of which the loops above play to its end."""
    total = sum(map(faults_of, SETUPS.values()))
    for limits in POLICIES.values():

        def run(fault: Fault, limits: dict[str, Any] = limits) -> object:
            with monkeypatch.context() as patch:
                return driven(limits, fault, patch)

        total += policy_faults_of(run)
    assert total >= 2000, f"{total} distinct faults"


def test_reports_of_a_lost_observation_are_made_good_by_the_broker() -> None:
    """The fills of a step that never arrived: the order counts as late, and the broker's count is taken over."""
    loop = played(SETUPS["one future"], Fault("observation", "empty", 3, False))
    assert any("taken over" in alarm for d in loop.decisions for alarm in d.alarms)
    assert loop.controller.position == tuple(loop.venue.position)
