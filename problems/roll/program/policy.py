"""The plan as a policy: solved again as the roll goes on, in whole contracts, and never without an action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.model import FloatArray, RollAction, RollMarket, RollOrder, RollState
from crosswind.problems.roll.program.draw import draw_paths, observe, scenarios_of
from crosswind.problems.roll.program.plan import RollPlan
from crosswind.problems.roll.program.problem import RollProblem
from crosswind.problems.roll.program.settings import RollSettings
from crosswind.problems.roll.program.statistics import RollStatistics
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput

__all__ = ["MODES", "RUNGS", "Decision", "ScheduledRoll"]

RUNGS = ("optimal", "feasible", "last plan", "pace", "cross")
"""What a decision rests on: a plan solved to tolerance; one that keeps its limits; the plan before, a step on; the pace
rule, which carries forward what is unfilled; crossing what the best price holds."""

MODES = ("follow", "stay", "move once")
"""What the resting order does when the best price leaves it."""


@dataclass(frozen=True)
class Decision:
    """One solve of the policy.

    Parameters
    ----------
    bar
        At which bar.
    rung
        One of :data:`RUNGS`.
    remaining
        Spreads still to be done.
    mode
        One of :data:`MODES`.
    status, gap, iterations
        Of the solver; empty, NaN and 0 without one.
    mean, cvar
        Of what is left, per spread [currency].
    note
        Why a lower rung was taken.
    """

    bar: int
    rung: str
    remaining: int
    mode: str = ""
    status: str = ""
    gap: float = float("nan")
    iterations: int = 0
    mean: float = float("nan")
    cvar: float = float("nan")
    note: str = ""


class ScheduledRoll:
    """Plan over scenarios of what is left, act for a while, plan again.

    Every ``every_s`` seconds, or when the regime changes, scenarios are drawn from the present state and the roll
    program is solved for what remains: for an order that follows the best price when that leaves it, and for one that
    stays and waits for it to come back, where it is or at the best price now. The lowest objective decides. In between
    the plan is followed as the fills come in: slabs count as filled from the front of the queue, what is due is crossed
    in clips of what the best price holds, the rest rests. Whole contracts, the fractions carried forward.

    It never raises. Where a solve fails, the ladder of :data:`RUNGS` goes down, and ``history`` tells.

    Parameters
    ----------
    statistics
        Of past roll days; default those of the simulator with the ticks of the market.
    settings
        Weights and limits.
    scenarios, slices
        S and the largest T of a solve.
    every_s
        Time between two solves [s].
    seed
        Of the scenarios, with the bar's index.
    session_s
        Length of a session [s], for the volume's curve.
    max_iter
        Iterations of a solve; time never decides.
    resting
        Which of :data:`MODES` are tried.

    Raises
    ------
    InvalidInput
        For numbers out of range.
    """

    def __init__(
        self,
        statistics: RollStatistics | None = None,
        settings: RollSettings | None = None,
        *,
        scenarios: int = 100,
        slices: int = 24,
        every_s: float = 600.0,
        seed: int = 0,
        session_s: float = 23400.0,
        max_iter: int = 60,
        resting: Sequence[str] = MODES,
        name: str = "scheduled roll",
    ) -> None:
        for field, value in (("scenarios", scenarios), ("slices", slices), ("max_iter", max_iter)):
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise InvalidInput("is not a count", field=field, value=value, remedy="pass an integer of 1 or more")
        for field, number in (("every_s", every_s), ("session_s", session_s)):
            if not (np.isfinite(number) and number > 0.0):
                raise InvalidInput("is not a time > 0", field=field, value=number, remedy="pass seconds")
        if isinstance(seed, bool) or seed != int(seed) or seed < 0:
            raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
        modes = tuple(resting)
        if not modes or any(mode not in MODES for mode in modes) or not {"follow", "stay"} & set(modes):
            raise InvalidInput("knows other modes", field="resting", value=modes, remedy=f"use {', '.join(MODES)}")
        self.resting = modes
        self.statistics = statistics
        self.settings = RollSettings() if settings is None else settings
        self.scenarios, self.slices, self.every_s = int(scenarios), int(slices), float(every_s)
        self.seed, self.session_s, self.max_iter, self.name = int(seed), float(session_s), int(max_iter), name
        self.history: list[Decision] = []
        self._clear()

    def _clear(self) -> None:
        self.plan: RollPlan | None = None
        self._numbers = self.statistics
        self._solved = -(10**9)  # bar of the last solve
        self._span = 1.0  # bars of a slice of the plan
        self._slice = -1
        self._due = np.zeros(3)  # contracts still due in this slice, by channel; fractions carried
        self._regime: Any = None
        self._mode = "follow"
        self._arrival = float("nan")

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last episode."""
        self.history = []
        self._clear()
        self._arrival = 0.5 * float(market.bid[-1] + market.ask[-1])
        if self._numbers is None:
            self._numbers = RollStatistics(
                tick=market.tick,
                leg_tick=market.leg_tick,
                multiplier=market.multiplier,
                width_ticks=max(1.0, float(np.median((market.ask - market.bid) / market.tick))),
            )

    def decide(self, state: RollState) -> RollAction:
        """Return the action for the next bar; it never raises."""
        if state.remaining <= 0 or state.bars_left <= 0:
            return RollAction(reason="nothing left")
        bar_s = state.market.bar_s
        if (
            self.plan is None
            or (state.bar - self._solved) * bar_s >= self.every_s - 1e-9
            or state.regime is not self._regime
        ):
            self._solve(state)
        try:
            return self._follow(state)
        except (ArithmeticError, ValueError, IndexError, TypeError) as error:
            self._record(state, "pace", note=f"{type(error).__name__}: {error}")
            return self._pace(state)

    # -- planning ------------------------------------------------------------------------------------------------------

    def _solve(self, state: RollState) -> None:
        self._regime = state.regime
        kept, at, span = self.plan, self._solved, self._span
        try:
            plan = self._plan(state)
        except InfeasibleProblem as error:
            # No pace does it: everything that the best price holds, now, and the rest is the forced cross's.
            self.plan, self._solved = None, state.bar
            self._record(state, "cross", note=str(error))
            return
        except Exception as error:  # a decision is due whatever a solver, a draw or the data does
            self.plan, self._solved, self._span = kept, at, span
            self._record(state, "pace" if kept is None else "last plan", note=f"{type(error).__name__}: {error}")
            return
        status = plan.solution.status
        self.plan, self._solved, self._slice = plan, state.bar, -1
        self._span = state.bars_left / plan.assembly.scenarios.slices
        self._due = np.modf(self._due)[0]  # whole contracts that were due are in the new plan
        self._record(
            state,
            "optimal" if status.ok else "feasible",
            mode=self._mode,
            status=status.name,
            gap=plan.solution.gap,
            iterations=plan.solution.iterations,
            mean=plan.mean / plan.quantity,
            cvar=plan.cvar95 / plan.quantity,
        )

    def _plan(self, state: RollState) -> RollPlan:
        numbers = self._numbers
        assert numbers is not None
        market, order = state.market, state.order
        slices = max(1, min(self.slices, state.bars_left))
        ahead = float(state.ahead) if state.working > 0 else None
        present = observe(
            market,
            order,
            numbers,
            bar=state.bar,
            session_s=self.session_s,
            regime=state.regime,
            ahead=ahead,
            price=state.resting_price,
        )
        seed = self.seed + 1_000_003 * (state.bar + 1)
        paths = draw_paths(numbers, present, self.scenarios, slices, state.bars_left * market.bar_s / slices, seed)
        mid = 0.5 * float(market.bid[state.bar] + market.ask[state.bar])
        moved = order.side * (mid - self._arrival)
        anew = replace(present, ahead=None, behind=0.0)
        choices = {"follow": (present, True), "stay": (present, False)}
        if present.behind > 0.0:
            choices["move once"] = (anew, False)
        best: RollPlan | None = None
        for mode in self.resting:
            if mode not in choices:
                continue
            now, follow = choices[mode]
            scenarios = scenarios_of(paths, slices, numbers, now, follow, seed)
            problem = RollProblem(
                order, scenarios, self.settings, remaining=state.remaining, moved=moved if np.isfinite(moved) else 0.0
            )
            plan = problem.solve(tol=1e-6, max_iter=self.max_iter, warm=best or self.plan)
            if best is None or plan.objective < best.objective:
                best, self._mode = plan, mode
        assert best is not None
        return best

    def _record(self, state: RollState, rung: str, **values: Any) -> None:
        self.history.append(Decision(state.bar, rung, state.remaining, **values))

    # -- acting --------------------------------------------------------------------------------------------------------

    def _follow(self, state: RollState) -> RollAction:
        if self.plan is None:
            rung = self.history[-1].rung if self.history else "pace"
            return self._cross_now(state) if rung == "cross" else self._pace(state)
        gone = state.bar - self._solved
        number = min(int(gone / self._span + 1e-9), self.plan.assembly.scenarios.slices - 1)
        if number != self._slice:
            for missed in range(max(self._slice + 1, 0), number + 1):
                self._due = self._due + self._owed(state, missed)
            self._slice = number
        left = state.remaining
        room = self._best(state)
        cross = int(min(self._due[0] + 1e-9, left, room))
        if self._due[0] >= 1.0 and cross == 0:
            cross = min(1, left)  # a book that shows almost nothing still trades a contract
        naked = max(0, state.order.max_naked - abs(state.naked))
        legs = int(min(self._due[1] + self._due[2] + 1e-9, left - cross, naked))
        kind = 2 if self._due[2] > self._due[1] else 1
        self._due[0] -= cross
        share = self._due[1:] / max(float(self._due[1:].sum()), 1e-12)
        self._due[1:] -= legs * share
        step = self._span * state.market.bar_s
        return RollAction(
            rest=left - cross - legs,
            cross=cross,
            leg=legs,
            max_let_s=step if kind == 2 and legs else 0.0,
            reprice=self._behind(state),
            reason=f"slice {number + 1} of {self.plan.assembly.scenarios.slices}, planned at bar {self._solved}",
        )

    def _owed(self, state: RollState, number: int) -> FloatArray:
        """Return what the plan gives up in a slice (3,), for what is still unfilled by slab."""
        plan = self.plan
        assert plan is not None
        a = plan.assembly
        J = len(a.sizes)
        taken = np.zeros((3, a.scenarios.slices + 1, J))
        one = a.slab >= 0
        np.add.at(taken, (a.channel[one], a.slice[one], a.slab[one]), plan.plan[one])
        np.add.at(taken, (a.channel[~one], a.slice[~one]), np.repeat(plan.plan[~one, None] / J, J, axis=1))
        still = taken[:, number:].sum(axis=(0, 1))
        # The front of the queue fills first, so what is left lies at the back; more than planned is overdue.
        left = max(0.0, state.remaining - float(self._due.sum()))
        unfilled = np.zeros(J)
        for j in range(J - 1, -1, -1):
            unfilled[j] = min(still[j], left)
            left -= unfilled[j]
        share = np.divide(unfilled, still, out=np.zeros(J), where=still > 1e-12)
        owed: FloatArray = (taken[:, number] * share).sum(axis=1)
        owed[0] += max(0.0, left)
        return owed

    def _best(self, state: RollState) -> float:
        """Return what the best price of the crossed side holds for us [contracts]."""
        m, k = state.market, state.bar
        shown = m.ask_size[k] if state.order.side > 0 else m.bid_size[k]
        share = self._numbers.share if self._numbers is not None else 0.2
        return max(1.0, share * float(shown))

    def _behind(self, state: RollState) -> bool:
        """Tell whether the resting order is to be moved, since the best price has left it and the plan follows."""
        if state.working <= 0 or not np.isfinite(state.resting_price):
            return False
        m, k, side = state.market, state.bar, state.order.side
        left = side * (float(m.bid[k] if side > 0 else m.ask[k]) - state.resting_price) > 0.25 * m.tick
        once = self._mode == "move once" and state.bar == self._solved
        return bool(left and (self.plan is None or self._mode == "follow" or once))

    def _pace(self, state: RollState) -> RollAction:
        """Rest all, cross what a straight path to the cutoff asks for; what was missed is in the next quotient."""
        left = state.remaining
        self._due[0] += left / max(1, state.bars_left)
        cross = int(min(self._due[0], left, self._best(state)))
        self._due[0] = min(self._due[0] - cross, float(left))
        return RollAction(rest=left - cross, cross=cross, reprice=self._behind(state), reason="pace rule")

    def _cross_now(self, state: RollState) -> RollAction:
        cross = int(min(state.remaining, self._best(state)))
        return RollAction(
            rest=state.remaining - cross, cross=cross, reprice=self._behind(state), reason="no pace does it: cross"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the solves of the last episode, one row each, columns as in :class:`Decision`."""
        names = list(Decision.__dataclass_fields__)
        return pd.DataFrame([[getattr(d, n) for n in names] for d in self.history], columns=names)

    def summary(self) -> str:
        """Return how often each rung was taken."""
        counts = {rung: sum(d.rung == rung for d in self.history) for rung in RUNGS}
        return f"{self.name}: " + ", ".join(f"{n} {rung}" for rung, n in counts.items() if n)
