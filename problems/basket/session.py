"""Intraday use: fills and new forecasts in, the next slices out, without churn when nothing has changed.

A session holds the facts (fills by slice, the clock) and the plan. Each :meth:`ScheduleSession.step` books what was
traded, rebuilds what is left of the basket, with the impact that past trades left behind, and asks whether another
plan is worth it:

1. the rest of the present plan is repaired for what was filled short or over, in the slices that have room for it;
2. the rest of the basket is solved anew, unless it is optimal by the principle of optimality: the fills are those of an
   optimal plan, and no forecast is new;
3. the plan changes only when that saves more than the hysteresis, or when the repaired plan breaks a limit.

While fills and forecasts are as planned, the plan is kept bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.fills import bucketed, refuse_overfill
from crosswind.problems.basket.inputs import FloatArray, as_instant, as_scalar
from crosswind.problems.basket.remainder import (
    UPDATABLE,
    caught_up,
    forecast_text,
    impact_states,
    parse_forecast,
    rest_of,
)
from crosswind.solvers.errors import CrosswindError, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["ScheduleSession", "SessionStep"]

_NOISE = 1e-7  # of the cost: gains below it are the solver's accuracy, not a reason to change a plan
_ROUNDING = 1e-7  # of the parent notional: breaches below it are rounding
_DUST = 1e-9  # of an order: what is left below it is done
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class SessionStep:
    """What a session decided at one step.

    Attributes
    ----------
    time
        The clock.
    plan
        Trades of the slices from now on (T_left × N) [currency]; empty when the last slice is over.
    changed
        Whether the plan is another one than the rest of the former, repaired for the fills.
    reason
        Why, in words.
    gain_bps
        What the new optimum saves against keeping the plan [bps of the parent notional]; NaN where there was nothing to
        compare.
    left
        Signed notional still to trade by name [currency].
    """

    time: pd.Timestamp
    plan: pd.DataFrame
    changed: bool
    reason: str
    gain_bps: float
    left: pd.Series

    @property
    def next_slice(self) -> pd.Series:
        """Trades of the next slice [currency]; zero where the last one is over."""
        return self.plan.iloc[0] if len(self.plan) else 0.0 * self.left


class ScheduleSession:
    """A basket that is being traded.

    Parameters
    ----------
    problem
        The basket as it was before the first slice.
    solver, tol, accept, settings
        As ``BasketProblem.solve``.
    hysteresis_bps
        Gain that a new plan must bring [bps of the parent notional] before the present one is left.

    warm
        Whether a structured solve starts from the last one, brought forward. It saves time, and a session that is
        resumed from a snapshot then agrees within the gap of the solves and not bit by bit.

    Raises
    ------
    InvalidInput
        On a negative hysteresis.
    InfeasibleProblem
        When the basket has no schedule.

    Attributes
    ----------
    now
        The clock.
    forecasts
        Arguments of the problem that were replaced since the start.
    last
        The latest optimum of what was left, for its prices and certificate; ``None`` after a restart until the next
        step.

    Notes
    -----
    Call :meth:`step` at the starts of slices; a slice that is under way counts as over. Not for several threads at
    once. Everything that decides is in :meth:`to_dict`; the same facts give the same plan.

    Examples
    --------
    >>> from crosswind.problems.basket.instances import basket_instance
    >>> problem = basket_instance(3, 4)
    >>> session = ScheduleSession(problem)
    >>> step = session.step(problem.times[1], session.next_slice)   # filled as planned
    >>> step.changed, len(step.plan)
    (False, 3)
    """

    def __init__(
        self,
        problem: BasketProblem,
        solver: str | tuple[str, ...] = "auto",
        tol: float = 1e-8,
        accept: float = 1e-6,
        *,
        hysteresis_bps: float = 0.0,
        warm: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.problem = problem
        self.solver, self.tol, self.accept = solver, tol, accept
        self.hysteresis_bps = as_scalar(hysteresis_bps, "hysteresis_bps")
        self.settings, self.warm = dict(settings or {}), bool(warm)
        self.now = problem.times[0]
        self.forecasts: dict[str, Any] = {}
        self._done = np.zeros((problem.n_slices, problem.n_names))
        self.last: BasketSchedule | None = problem.solve(solver, tol, accept, **self.settings)
        self._plan = self.last.trades.to_numpy().copy()
        self._slack, self._fresh = _gap(self.last), True
        self._seen, self._decided = self._done.copy(), 0

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def slices_over(self) -> int:
        """Number of slices that start before the clock: what they did not trade is not coming."""
        return int(np.searchsorted(self.problem.times.asi8, self.now.value, side="left"))

    @property
    def plan(self) -> pd.DataFrame:
        """Trades of the slices from now on (T_left × N) [currency]."""
        return self.problem.frame(self._plan).iloc[self.slices_over :]

    @property
    def next_slice(self) -> pd.Series:
        """Trades of the next slice [currency]; zero where the last one is over."""
        plan = self.plan
        return plan.iloc[0] if len(plan) else pd.Series(0.0, index=list(self.problem.names))

    @property
    def fills(self) -> pd.DataFrame:
        """What was traded, by slice (T × N) [currency]."""
        return self.problem.frame(self._done.copy())

    @property
    def left(self) -> pd.Series:
        """Signed notional still to trade [currency]; of a hedge, minus the position."""
        return pd.Series(self._left(), index=list(self.problem.names), name="left")

    @property
    def impact(self) -> pd.DataFrame:
        """What past trades have left in each mode of impact at the next slice, modes × names [currency traded]."""
        start = self.slices_over
        states = impact_states(self.problem, self._done, start)
        if start < self.problem.n_slices and start > 0:
            gap = (self.problem.times[start] - self.problem.times[start - 1]).total_seconds()
            rates = np.array([mode.rate_per_s for mode in self.problem.modes])
            states = states * np.exp(-rates * gap)[:, None]
        return pd.DataFrame(states, columns=list(self.problem.names)).rename_axis("mode")

    def realised(self) -> pd.Series:
        """Return what the slices that are over cost by the first forecasts, by component [currency].

        While these hold, it is with :meth:`expected` the score of fills and plan as one schedule.
        """
        whole = self._whole()
        over = self.slices_over
        if over == 0:
            return 0.0 * whole
        if over >= self.problem.n_slices:
            return whole
        rest = rest_of(self.problem, self._done, self._raw_left(), over, {})
        return whole - rest.score(self.plan).reindex(whole.index, fill_value=0.0)

    def expected(self) -> pd.Series:
        """Return what the rest of the plan costs by the model and the present forecasts, by component [currency].

        It includes what past trades left in the price. Zero when the last slice is over.
        """
        whole = self._whole()
        if self.slices_over >= self.problem.n_slices:
            return 0.0 * whole
        rest = rest_of(self.problem, self._done, self._raw_left(), self.slices_over, self.forecasts)
        return rest.score(self.plan).reindex(whole.index, fill_value=0.0)

    def _whole(self) -> pd.Series:
        merged = self._done.copy()
        merged[self.slices_over :] = self._plan[self.slices_over :]
        return self.problem.score(self.problem.frame(merged))

    def _raw_left(self) -> FloatArray:
        return np.asarray(self.problem.arrays.inventory - self._done.sum(axis=0), dtype=np.float64)

    def _left(self) -> FloatArray:
        left = self._raw_left()
        goal = left - self.problem.arrays.target
        # What remains of a finished order is rounding; it must not come back as a trade of a millionth of a cent.
        return np.where(np.abs(goal) <= _DUST * np.abs(self._order()), self.problem.arrays.target, left)

    def _order(self) -> FloatArray:
        return self.problem.arrays.inventory - self.problem.arrays.target

    # -- what happens -------------------------------------------------------------------------------------------------

    def book(self, now: object, fills: pd.Series | pd.DataFrame | None = None, *, allow_overfill: bool = False) -> None:
        """Take in the clock and what was traded, and decide nothing.

        Parameters
        ----------
        now
            The time, tz-aware, not before the last one.
        fills
            Signed notional [currency, buy positive]: a Series by name for the last slice that has started, or a frame
            with tz-aware times in the past (several rows per slice, and late ones, are summed) and names as columns.
            Names left out traded nothing.
        allow_overfill
            Take in what goes beyond an order, or against it; the rest of it is then traded back.

        Raises
        ------
        InvalidInput
            A clock that goes back, fills of unknown names, in the future, before the first slice, or not finite. The
            session is then as it was.
        LimitBreach
            Fills beyond an order or against it.
        """
        time = as_instant(now, "now")
        if time < self.now:
            raise InvalidInput(
                "the clock goes back", field="now", value=time, remedy=f"the session is at {self.now}; sort the events"
            )
        done = self._done + bucketed(self.problem, time, fills)
        if not allow_overfill:
            refuse_overfill(self.problem, done)
        self._done, self.now = done, time

    def step(
        self,
        now: object,
        fills: pd.Series | pd.DataFrame | None = None,
        *,
        allow_overfill: bool = False,
        resolve: bool = False,
        **forecasts: Any,
    ) -> SessionStep:
        """Book what happened and return the plan from now on.

        Parameters
        ----------
        now, fills, allow_overfill
            As :meth:`book`.
        resolve
            Solve in any case. Otherwise nothing is solved where the fills are those of an optimal plan and no forecast
            is new: its rest is optimal.
        **forecasts
            New arguments of the problem for what is left, such as ``volume``, ``covariance``, ``spread``,
            ``temporary``, ``model``, ``risk_aversion``, ``participation``, and limits; frames need only the slices
            that are left. They hold until replaced.

        Returns
        -------
        SessionStep
            The plan, whether it changed, and why.

        Raises
        ------
        InvalidInput, LimitBreach
            As :meth:`book`; or a forecast that is malformed. Nothing is taken in then.
        InfeasibleProblem, SolverFailure
            What is left has no schedule, or none was found. The fills are booked and the present plan, repaired for
            them, stays, as far as participation, windows and group caps leave room: it may fall short of completion.
            The new forecasts are not taken over.
        """
        unknown = [name for name in forecasts if name not in UPDATABLE]
        if unknown:
            raise InvalidInput(
                f"cannot be updated: {', '.join(unknown)}",
                field="forecasts",
                value=unknown,
                remedy=f"one of {', '.join(UPDATABLE)}",
            )
        before = (self._done, self.now)
        self.book(now, fills, allow_overfill=allow_overfill)
        over, T = self.slices_over, self.problem.n_slices
        if over >= T:
            return self._stands("the last slice is over", float("nan"), False)
        merged = self.forecasts | forecasts
        try:
            rest = rest_of(self.problem, self._done, self._left(), over, merged)
        except CrosswindError:
            self._done, self.now = before
            raise
        if self._on_plan(over) and not forecasts and not resolve:
            self._seen, self._decided = self._done.copy(), over
            return self._stands("on plan", 0.0, False)
        slack, kept = _DUST * np.maximum(np.abs(self._order()), 1e-300), self._plan[over:].copy()
        repaired = caught_up(rest, kept, slack)
        self._plan[over:], self._fresh = repaired, False
        self._seen, self._decided = self._done.copy(), over
        try:
            found = rest.solve(self.solver, self.tol, self.accept, **self.settings | self._start(rest))
        except CrosswindError:
            # Whoever trades on after this error must not break limits: completion gives way to them.
            present = rest if not forecasts else rest_of(self.problem, self._done, self._left(), over, self.forecasts)
            self._plan[over:] = caught_up(present, kept, slack, beyond=False)
            raise
        self.forecasts, self.last = merged, found
        return self._decide(rest, repaired, found, over)

    def _on_plan(self, over: int) -> bool:
        """Whether the plan was optimal at the last decision and has been filled since as it stood."""
        if not self._fresh:
            return False
        slack = _DUST * np.maximum(np.abs(self._order()), 1e-300)
        # Slices that were over at the last decision must stand as they did then; later ones, as they were planned.
        expected = np.vstack([self._seen[: self._decided], self._plan[self._decided : over]])
        return bool((np.abs(self._done[:over] - expected) <= slack).all())

    def _start(self, rest: BasketProblem) -> dict[str, Any]:
        """Return the warm start of a structured solve, where one is asked for and fits."""
        from crosswind.problems.basket.structured import StructuredSolution, prefers_structured

        if not self.warm or self.last is None or not isinstance(self.last.solution, StructuredSolution):
            return {}
        if not (self.solver == "structured" or (self.solver == "auto" and prefers_structured(rest))):
            return {}
        state = self.last.solution.solution.state
        if state is None:
            return {}
        ahead = len(state.trades) - rest.n_slices
        if ahead < 0 or state.trades.shape[1:] != (rest.n_names,):
            return {}
        return {"warm": state.shifted(ahead) if ahead else state}

    def _decide(self, rest: BasketProblem, kept: FloatArray, found: BasketSchedule, over: int) -> SessionStep:
        """Keep the repaired plan, or change to the new one."""
        new = found.trades.to_numpy()
        old_cost = float(rest.score(rest.frame(kept))["total"])
        new_cost = float(rest.score(rest.frame(new))["total"])
        gain = self.problem.to_bps(old_cost - new_cost)
        broken = rest.breaches(rest.frame(kept), tol=0.0)
        # Rounding is judged by the whole order: what is left near the end is small.
        broken = broken[broken["breach"] > _ROUNDING * max(self.problem.parent_notional, 1.0)].reset_index(drop=True)
        if not broken.empty:
            self._plan[over:], self._slack, self._fresh = new, _gap(found), True
            return self._stands(f"the plan would break {broken['limit'][0]}: {broken['where'][0]}", gain, True)
        # Two optima of one basket may differ by their gaps: that is no reason to change a plan.
        apart = _gap(found)
        noise = self.problem.to_bps(max(_NOISE * abs(old_cost), apart + self._slack))
        noise = noise if np.isfinite(noise) else 0.0
        if not gain > max(self.hysteresis_bps, noise):
            self._fresh = bool(gain <= noise)
            return self._stands("nothing to gain" if gain <= noise else "the gain is below the hysteresis", gain, False)
        self._plan[over:], self._slack, self._fresh = new, apart, True
        return self._stands(f"saves {gain:.4g} bps", gain, True)

    def _stands(self, reason: str, gain: float, changed: bool) -> SessionStep:
        return SessionStep(self.now, self.plan, changed, reason, gain, self.left)

    # -- journal ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides, as plain numbers and texts that survive JSON bit by bit.

        The problem itself is not in it; its digest is, so that a snapshot is not put beside another basket.
        """
        return {
            "format": _FORMAT,
            "digest": digest(self.problem),
            "now": self.now.isoformat(),
            "solver": list(self.solver) if isinstance(self.solver, tuple) else self.solver,
            "tol": self.tol,
            "accept": self.accept,
            "hysteresis_bps": self.hysteresis_bps,
            "settings": dict(self.settings),
            "done": self._done.tolist(),
            "plan": self._plan.tolist(),
            "slack": self._slack,
            "fresh": self._fresh,
            "seen": self._seen.tolist(),
            "decided": self._decided,
            "warm": self.warm,
            "forecasts": {name: forecast_text(name, value) for name, value in self.forecasts.items()},
        }

    @classmethod
    def from_dict(cls, problem: BasketProblem, snapshot: Mapping[str, Any]) -> ScheduleSession:
        """Return the session of a snapshot; its next step is that of the session it was taken from.

        Parameters
        ----------
        problem
            The basket that the session was started with.
        snapshot
            From :meth:`to_dict`, also after JSON.

        Raises
        ------
        InvalidInput
            When the snapshot is none, or belongs to another basket.
        """
        try:
            if snapshot["format"] != _FORMAT:
                raise InvalidInput(
                    "unknown format", field="snapshot", value=snapshot["format"], remedy=f"this version reads {_FORMAT}"
                )
            if snapshot["digest"] != digest(problem):
                raise InvalidInput(
                    "belongs to another basket",
                    field="snapshot",
                    value=snapshot["digest"],
                    remedy="build the problem from the same inputs",
                )
            out = cls.__new__(cls)
            out.last = None
            out.problem = problem
            solver = snapshot["solver"]
            out.solver = solver if isinstance(solver, str) else tuple(solver)
            out.tol, out.accept = float(snapshot["tol"]), float(snapshot["accept"])
            out.hysteresis_bps = float(snapshot["hysteresis_bps"])
            out._slack, out._fresh = float(snapshot["slack"]), bool(snapshot["fresh"])
            out._decided = int(snapshot["decided"])
            out.warm = bool(snapshot["warm"])
            out.settings = dict(snapshot["settings"])
            out.now = as_instant(snapshot["now"], "snapshot.now")
            out.forecasts = {name: parse_forecast(value) for name, value in snapshot["forecasts"].items()}
            shape = (problem.n_slices, problem.n_names)
            out._done = np.array(snapshot["done"], dtype=np.float64).reshape(shape)
            out._seen = np.array(snapshot["seen"], dtype=np.float64).reshape(shape)
            out._plan = np.array(snapshot["plan"], dtype=np.float64).reshape(shape)
        except (KeyError, TypeError, ValueError) as err:
            if isinstance(err, InvalidInput):
                raise
            raise InvalidInput(
                "is no snapshot of a session", field="snapshot", value=str(err), remedy="pass what to_dict() gave"
            ) from err
        return out

    def __repr__(self) -> str:
        order = float(np.abs(self._order()).sum())
        share = 1.0 - float(np.abs(self._left() - self.problem.arrays.target).sum()) / order if order else float("nan")
        return f"ScheduleSession({self.problem!r}, at {self.now}, {share:.1%} done)"


def _gap(schedule: BasketSchedule) -> float:
    """Return how far a schedule may be from its optimum [currency]."""
    return max(float(schedule.certificate.gap_rel), 0.0) * abs(float(schedule.costs["total"]))


def digest(problem: BasketProblem) -> str:
    """Return a digest of what the problem asks: names, slices, orders, costs, limits."""
    from crosswind.problems.basket.remainder import problem_digest

    return problem_digest(problem)
