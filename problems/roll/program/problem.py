"""The verb: a roll order and scenarios in, a plan with its tail, its prices and its certificate out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.optim.tails.risk import cvar, value_at_risk
from crosswind.problems.roll.model import FloatArray, Regime, RollMarket, RollOrder
from crosswind.problems.roll.program.assembly import COMPONENTS, Assembly, assemble
from crosswind.problems.roll.program.draw import draw_scenarios, observe
from crosswind.problems.roll.program.plan import RollPlan
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.settings import RollSettings
from crosswind.problems.roll.program.statistics import RollStatistics
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, SolverFailure
from crosswind.solvers.solution import Status
from crosswind.solvers.tail import TailSolution, solve_tail

__all__ = ["QuantileRefinement", "RollProblem", "evaluate"]

_ONE = 1.0  # contracts: less than one left to the cutoff is no underfill
_ROUNDS = 12  # of the refinement


@dataclass(frozen=True, eq=False)
class RollProblem:
    r"""Roll what is left of an order: min E[C] + λ₉₅ CVaR_α[C] + λ_T E[underfill] over scenarios.

    ``C = C_spread/fees + C_impact + C_basis drift + C_legging + C_timing`` per scenario. The plan decides, for each
    part of the order by place in the queue, when what is still unfilled is given up to the spread book, to the legs or
    to the forced cross; until then it rests. See :mod:`crosswind.problems.roll.program.assembly` for the program.
    Q₉₅ is not convex; CVaR₉₅ is, and bounds it from above (Rockafellar and Uryasev 2000). Both are reported.

    Parameters
    ----------
    order
        The order.
    scenarios
        What may happen from now to the cutoff.
    settings
        Weights and limits; default :class:`RollSettings`.
    remaining
        Spreads still to be done; default the whole order.
    moved
        Move of the spread's mid from the arrival price to now, against the order > 0 [points].
    carry
        False plans without looking at fills (for comparison).

    Raises
    ------
    InvalidInput
        For a remaining quantity that is not in 1 … size.

    Examples
    --------
    >>> import pandas as pd
    >>> from crosswind.problems.roll import RollOrder
    >>> from crosswind.problems.roll.program import RollProblem, RollStatistics, draw_scenarios
    >>> start = pd.Timestamp("2024-03-12 14:00", tz="UTC")
    >>> order = RollOrder("roll", 500, start, start + pd.Timedelta("30min"))
    >>> plan = RollProblem(order, draw_scenarios(RollStatistics(), slices=6, slice_s=300.0, count=50, seed=1)).solve()
    >>> bool(abs(plan.components.sum(axis=1) - plan.costs).max() < 1e-9 * abs(plan.costs).max())
    True
    """

    order: RollOrder
    scenarios: RollScenarios
    settings: RollSettings = field(default_factory=RollSettings)
    remaining: int | None = None
    moved: float = 0.0
    carry: bool = True

    def __post_init__(self) -> None:
        left = self.order.size if self.remaining is None else self.remaining
        if isinstance(left, bool) or left != int(left) or not 1 <= left <= self.order.size:
            raise InvalidInput(
                f"is not a count from 1 to {self.order.size}",
                field="remaining",
                value=left,
                remedy="nothing left: done",
            )
        object.__setattr__(self, "remaining", int(left))
        if not np.isfinite(self.moved):
            raise InvalidInput("is not finite", field="moved", value=self.moved, remedy="pass points")

    @classmethod
    def at(
        cls,
        order: RollOrder,
        market: RollMarket,
        *,
        statistics: RollStatistics | None = None,
        settings: RollSettings | None = None,
        remaining: int | None = None,
        arrival: float | None = None,
        expiry: pd.Timestamp | None = None,
        regime: Regime = Regime.PRE_ROLL,
        ahead: float | None = None,
        scenarios: int = 200,
        slices: int = 60,
        seed: int = 0,
        session_s: float = 23400.0,
    ) -> RollProblem:
        """Return the problem at the end of a market's last bar, with scenarios drawn from there.

        Parameters
        ----------
        order
            The order; nothing of it may lie behind the last bar but its start.
        market
            The books up to now.
        statistics
            Of past roll days; default estimated from this market's bars so far.
        settings, remaining
            As in the class.
        arrival
            Arrival price of the spread [points]; default the mid now.
        expiry
            When the near leg stops trading, tz-aware; None does not look.
        regime, ahead
            Of the day; contracts ahead of the order's resting ones.
        scenarios, slices, seed
            S, the largest T, and the seed of the draw.
        session_s
            Length of the session, of which the market begins at the start [s].

        Raises
        ------
        InvalidInput
            Where the cutoff is not after the last bar, or the near leg has expired by then.
        """
        now = market.times[-1]
        left = (order.cutoff - now).total_seconds()
        if left <= 0.0:
            raise InvalidInput(
                f"is not after the last bar {now}: {left:.0f} s are left",
                field="cutoff",
                value=str(order.cutoff),
                remedy="what is open at the cutoff can only be crossed",
            )
        if expiry is not None:
            stamp = pd.Timestamp(expiry)
            if stamp.tzinfo is None:
                raise InvalidInput("has no time zone", field="expiry", value=str(expiry), remedy="localise it")
            if stamp < order.cutoff:
                raise InvalidInput(
                    "lies before the cutoff: the near leg does not trade any more then",
                    field="expiry",
                    value=str(stamp),
                    remedy="bring the cutoff forward; an expired leg cannot be rolled",
                )
        numbers = RollStatistics.from_markets([market]) if statistics is None else statistics
        steps = max(1, min(slices, int(left / market.bar_s + 1e-9)))
        drawn = draw_scenarios(
            numbers,
            slices=steps,
            slice_s=left / steps,
            count=scenarios,
            seed=seed,
            present=observe(market, order, numbers, session_s=session_s, regime=regime, ahead=ahead),
        )
        moved = 0.0 if arrival is None else order.side * (float(market.mid[-1]) - float(arrival))
        return cls(order, drawn, RollSettings() if settings is None else settings, remaining, moved)

    def assembly(self) -> Assembly:
        """Return the tail program with its meaning.

        Raises
        ------
        InfeasibleProblem
            Where the quantity cannot be done at any pace: by how much, and what the forced cross would cost.
        """
        assert self.remaining is not None
        return assemble(
            self.scenarios,
            float(self.remaining),
            self.settings,
            max_naked=float(self.order.max_naked),
            carry_cap=float(self.order.carry_cap),
            moved=float(self.moved),
            carry=self.carry,
        )

    def solve(self, tol: float = 1e-8, max_iter: int = 100, warm: RollPlan | None = None) -> RollPlan:
        """Return the plan.

        Parameters
        ----------
        tol
            Largest relative gap that counts as OPTIMAL.
        max_iter
            Iterations of the structured solver; time never decides.
        warm
            A plan of the same shape to start from.

        Raises
        ------
        InfeasibleProblem
            Where the quantity cannot be done at any pace.
        SolverFailure
            Where no feasible plan came out of the structured solver and its fallback.
        """
        assembly = self.assembly()
        start = warm.plan if warm is not None and len(warm.plan) == assembly.program.n else None
        return self._plan(assembly, solve_tail(assembly.program, tol, max_iter, start))

    def frontier(self, tail_weights: Iterable[float] = (), tol: float = 1e-7) -> pd.DataFrame:
        """Return mean and tail along λ₉₅, each plan started from the one before.

        Parameters
        ----------
        tail_weights
            λ₉₅ ≥ 0; default 30 values from 0 to 10.
        tol
            Largest relative gap.

        Returns
        -------
        DataFrame
            λ₉₅ → ``mean``, ``q95``, ``cvar95`` [currency a spread], ``underfill`` [contracts], ``rest`` and ``cross``
            of the first slice, ``status``, ``gap``, ``iterations``.
        """
        weights = [float(w) for w in tail_weights] or [0.0, *np.geomspace(0.02, 10.0, 29)]
        assembly = self.assembly()
        rows, warm = [], None
        for weight in weights:
            settings = replace(self.settings, tail_weight=weight)
            part = replace(assembly, program=assembly.program.with_risk(weight), settings=settings)
            warm = solve_tail(part.program, tol, warm=warm)
            plan = self._plan(part, warm)
            q = plan.quantity
            rows.append(
                {
                    "mean": plan.mean / q,
                    "q95": plan.q95 / q,
                    "cvar95": plan.cvar95 / q,
                    "underfill": plan.expected_underfill,
                    "rest": plan.first.rest,
                    "cross": plan.first.cross,
                    "status": plan.solution.status.name,
                    "gap": plan.solution.gap,
                    "iterations": plan.solution.iterations,
                }
            )
        return pd.DataFrame(rows, index=pd.Index(weights, name="tail_weight"))

    def refine_to_quantile(
        self, plan: RollPlan | None = None, test: RollScenarios | None = None, tol: float = 1e-8
    ) -> QuantileRefinement:
        """Re-weight the tail towards Q_α, which CVaR_α only bounds from above.

        The worst scenarios of the present plan are let go, more of them from round to round: they take no part in the
        tail any more, and what remains of the tail's mass lies on those next to the quantile (after Larsen, Mausser
        and Uryasev 2002, their algorithm A1). The best plan by E[C] + λ₉₅ Q_α + λ_T E[underfill] is kept; the problem
        is not convex, so it may be a local one, and where no round is better the first plan is returned.

        Parameters
        ----------
        plan
            A plan of this problem; default it is solved.
        test
            Fresh scenarios of the same slices, on which both are judged as well: few scenarios lie beyond the
            quantile, and what is won on them may be luck.
        tol
            Largest relative gap of a round.

        Returns
        -------
        QuantileRefinement
            It says whether and why it failed.
        """
        begin = self.solve(tol) if plan is None else plan
        from crosswind.problems.roll.program.refine import refine

        return refine(self, begin, test, tol, _ROUNDS)

    def plan_of(self, assembly: Assembly, solution: TailSolution) -> RollPlan:
        """Return a solver's answer as a plan."""
        return self._plan(assembly, solution)

    def _plan(self, assembly: Assembly, solution: TailSolution) -> RollPlan:
        if solution.status is Status.INFEASIBLE:
            raise InfeasibleProblem(
                "the limits contradict each other",
                field="limits",
                value=sorted({name for name, _ in assembly.rows}),
                remedy="raise participation, deadline_share or max_naked",
            )
        if solution.status is Status.NUMERICAL or solution.violation > 1e-6:
            raise SolverFailure(
                f"{solution.status.name}: {solution.status.text}",
                field="solver",
                value=[a.backend for a in solution.attempts],
                remedy="look at the scenarios' sizes; widths, depths and prices should be in points and contracts",
            )
        sc, level, p = self.scenarios, self.settings.alpha, self.scenarios.probabilities
        parts = assembly.components(solution.x)
        costs = parts.sum(axis=1)
        left = assembly.grid(solution.x, assembly.present)[:, 0, sc.slices]
        notes = [f"left out, since they pay in no scenario: {text}" for text in assembly.dropped]
        if not solution.status.ok:
            notes.append(f"{solution.status.name}: gap {solution.gap:.1e} where {solution.tol:.0e} was asked")
        notes += [f"{a.backend}: {a.note}" for a in solution.attempts if a.note]
        frame = pd.DataFrame(parts, columns=list(COMPONENTS), index=pd.RangeIndex(sc.count, name="scenario"))
        return RollPlan(
            name=self.order.name,
            quantity=float(self.remaining or 0),
            side=self.order.side,
            assembly=assembly,
            solution=solution,
            plan=solution.x,
            components=frame,
            costs=costs,
            mean=float(p @ costs),
            q95=value_at_risk(costs, level, p) if level else float(costs.min()),
            cvar95=cvar(costs, level, p) if level else float(p @ costs),
            underfill_probability=float(p[left >= _ONE].sum()),
            expected_underfill=float(p @ left),
            beyond_probability=float(p[left > sc.capacity() + 1e-9].sum()),
            prices=_prices(assembly, solution),
            carry=self.carry,
            notes=tuple(notes),
        )


@dataclass(frozen=True, eq=False)
class QuantileRefinement:
    """What re-weighting towards the quantile brought.

    Attributes
    ----------
    plan
        The better plan: the refined one, or the first where none was better.
    first
        The plan of the CVaR.
    improved
        Whether Q_α in the objective fell, in the scenarios planned on.
    held
        Whether it fell in the test scenarios too; None without any.
    reason
        In words.
    rounds
        One row per round: share of the tail let go, mean, q95, cvar95, objective with the quantile.
    """

    plan: RollPlan
    first: RollPlan
    improved: bool
    held: bool | None
    reason: str
    rounds: pd.DataFrame

    def summary(self) -> str:
        """Return both plans' tails and the verdict."""
        q = self.first.quantity
        return (
            f"{self.reason}\n  CVaR plan: mean {self.first.mean / q:+.3f}, Q {self.first.q95 / q:+.3f}, CVaR "
            f"{self.first.cvar95 / q:+.3f} a spread\n"
            f"  kept: mean {self.plan.mean / q:+.3f}, Q {self.plan.q95 / q:+.3f}, "
            f"CVaR {self.plan.cvar95 / q:+.3f} a spread"
        )


def evaluate(plan: RollPlan, scenarios: RollScenarios) -> pd.DataFrame:
    """Return the five components (S', 5) of a plan in other scenarios of the same slices [currency].

    Raises
    ------
    InvalidInput
        For scenarios of other slices.
    """
    a = plan.assembly
    if scenarios.slices != a.scenarios.slices or not np.allclose(scenarios.dt_s, a.scenarios.dt_s):
        raise InvalidInput(
            "have other slices than the plan",
            field="scenarios",
            value=scenarios.slices,
            remedy=f"draw {a.scenarios.slices} slices of the same lengths",
        )
    # The same variables, whether or not they could pay in these scenarios: every channel is laid out in full.
    full = assemble(
        scenarios,
        plan.quantity,
        replace(a.settings, participation=np.finfo(float).max ** 0.25, deadline_share=1.0),
        max_naked=plan.quantity if (a.channel > 0).any() else 0.0,
        carry_cap=plan.quantity,
        moved=a.constant / (a.scenarios.multiplier * plan.quantity),
        carry=plan.carry,
        prune=False,
    )

    def keys(of: Assembly) -> list[tuple[int, int, int]]:
        return list(zip(of.channel.tolist(), of.slice.tolist(), of.slab.tolist(), strict=True))

    where = {key: i for i, key in enumerate(keys(full))}
    x = np.zeros(full.program.n)
    x[[where[key] for key in keys(a)]] = plan.plan
    return pd.DataFrame(
        full.components(x), columns=list(COMPONENTS), index=pd.RangeIndex(scenarios.count, name="scenario")
    )


def _prices(assembly: Assembly, solution: TailSolution) -> dict[str, FloatArray]:
    T = assembly.scenarios.slices
    out: dict[str, Any] = {"completion": solution.equal_prices}
    for name in ("participation", "let", "deadline"):
        out[name] = np.zeros(T + 1)
    for (name, at), price in zip(assembly.rows, solution.row_prices, strict=True):
        out[name][at] = price
    return out
