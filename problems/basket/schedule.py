"""The result of a basket: what to trade when, what it costs, which limits bind and at what price."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.evaluate import cost_parts
from crosswind.problems.basket.inputs import FloatArray
from crosswind.problems.basket.lowering import check_capacity, money, trade_bounds
from crosswind.problems.basket.structured import (
    STRUCTURED_SETTINGS,
    StructuredSolution,
    obstacle,
    prefers_structured,
    solve_structured,
)
from crosswind.solvers.errors import CrosswindError, InvalidInput, SolverFailure
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    from crosswind.optim.solution import MultistageSolution
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.solvers.solution import Certificate

__all__ = ["COMPONENTS", "BasketSchedule", "cost_series", "solve_basket"]

COMPONENTS = ("spread", "temporary", "impact_self", "impact_cross", "risk", "terminal")


def cost_series(problem: BasketProblem, trades: FloatArray) -> pd.Series:
    """Return the cost of a schedule (T, N) by component and in total [currency]; components sum to the total.

    What a basket does not use (three-halves cost, drift, urgency, soft extra limits) does not appear. The risk is
    λ Σ q'Σq, a price put on variance, not money paid.
    """
    parts = cost_parts(problem, trades)
    kept = {name: value for name, value in parts.items() if name in COMPONENTS or value != 0.0}
    return pd.Series({**kept, "total": float(sum(kept.values()))}, name="currency")


@dataclass(frozen=True, eq=False)
class BasketSchedule:
    """Optimal schedule of a basket, T slices and N names.

    Attributes
    ----------
    problem
        The problem that was solved.
    trades
        (T × N) signed notional to trade in each slice [currency, buy positive].
    inventory
        (T + 1 × N) remaining signed notional before each slice and after the last [currency].
    costs
        Cost by component and in total [currency, positive is money lost].
    marginal_costs
        (T × N) MC = ∂C/∂u of all costs but a completion penalty [currency per unit of notional bought]; at
        the kink of |u|, the subgradient that optimality needs.
    completion_price
        (N,) what buying one unit more in all would cost, hence what leaving one unit of a buy would save
        (of a sell: minus that) [same unit]. Under a penalty w it is 2w(q_T − target), the price that the penalty sets.
        At the optimum MC = completion price + prices of the limits that bind.
    prices
        Per limit, (T × labels) cost saved per unit of bound relaxed, ≥ 0 [currency per currency].
    certificate
        Our own residuals and gap of the optimum.
    solution
        The multistage solution underneath, or the structured one.
    """

    problem: BasketProblem
    trades: pd.DataFrame
    inventory: pd.DataFrame
    costs: pd.Series
    marginal_costs: pd.DataFrame
    completion_price: pd.Series
    prices: dict[str, pd.DataFrame]
    certificate: Certificate
    solution: MultistageSolution | StructuredSolution

    @property
    def costs_bps(self) -> pd.Series:
        """Cost by component in bps of the parent notional; NaN for an empty basket."""
        return self.costs.map(self.problem.to_bps).rename("bps")

    @property
    def executed(self) -> float:
        """Share of the parent notional that is traded, Σ|q_0 − q_T| / Σ|q_0|; NaN for an empty basket."""
        base = self.problem.parent_notional
        ends = self.inventory.to_numpy()[[0, -1], : len(self.problem.order_names)]
        done = float(np.abs(ends[0] - ends[1]).sum())
        return done / base if base > 0.0 else float("nan")

    @property
    def prices_bps(self) -> pd.DataFrame:
        """Marginal prices of the limits: per limit, label the mean, largest and summed price over slices.

        One bp means: a bound wider by 1 currency saves 0.0001 currency. ``binding`` counts the slices with a price.
        """
        rows = []
        for limit, table in self.prices.items():
            bps = 1e4 * table
            for label in table.columns:
                column = bps[label].to_numpy()
                binding = column > 1e-6
                if binding.any():
                    rows.append((limit, str(label), int(binding.sum()), column.max(), column.sum()))
        return pd.DataFrame(rows, columns=["limit", "label", "binding", "largest_bps", "summed_bps"])

    def price_of_limits(self, solver: str | tuple[str, ...] = "auto") -> pd.Series:
        """Return what each limit costs as a whole: cost saved if it alone were dropped [bps of parent notional].

        Each figure is a re-solve without that limit; they do not add up, because limits stand in for each other.
        """
        return limit_values(self, solver)

    @property
    def participation(self) -> pd.DataFrame | None:
        """|u| / V per slice and name (T × N), NaN where no volume is forecast; None without a forecast."""
        V = self.problem.arrays.volume
        if V is None:
            return None
        used = np.abs(self.trades.to_numpy())
        return self.problem.frame(np.divide(used, V, out=np.full_like(used, np.nan), where=V > 0.0))

    def shares(
        self,
        prices: pd.Series,
        lot: pd.Series | float = 1,
        parent_shares: pd.Series | None = None,
        min_clip: pd.Series | float | None = None,
    ) -> pd.DataFrame:
        """Return the schedule in shares, whole lots per slice, that complete the parent order to the last lot.

        The nearest whole lots are taken, and where these would break a limit by more than 1e-9 of it (participation,
        sector cap, bands, largest change, clip), lots are moved between slices until all of them hold again.

        Parameters
        ----------
        prices
            Price per share by name [currency].
        lot
            Lot size in shares, float or Series by name.
        parent_shares
            Signed shares to trade in all, whole lots; default: the traded notional over the price, to the nearest lot.

        min_clip
            Smallest trade in shares, float or Series by name: a slice trades at least this of a name, or nothing.

        Returns
        -------
        Frame (T × N) of signed shares: int64 where every lot is whole, float64 otherwise (each is lots × lot).

        Raises
        ------
        InvalidInput
            On missing or non-positive prices or lots, or parent shares that are not whole lots or not those scheduled.
        LimitBreach
            When whole lots cannot keep a limit; names the limit, the lot and what is missing.
        """
        from crosswind.problems.basket.lots import shares

        return shares(self, prices, lot, parent_shares, min_clip)

    def to_frame(self) -> pd.DataFrame:
        """Return the long form: one row per slice and name with trade, inventory, participation and marginal cost."""
        long = {
            "trade": self.trades,
            "inventory_after": self.inventory.iloc[1:].set_axis(self.trades.index),
            "marginal_cost_bps": 1e4 * self.marginal_costs,
        }
        if self.participation is not None:
            long["participation"] = self.participation
        rows = pd.MultiIndex.from_product([self.trades.index, self.trades.columns], names=["time", "name"])
        # Row-major ravel of slices × names is the order of the product above.
        return pd.DataFrame({key: value.to_numpy().ravel() for key, value in long.items()}, index=rows).reset_index()

    def summary(self) -> str:
        """Return the schedule in words: size, costs by component, binding limits and the certificate."""
        p = self.problem
        q0 = p.inventory.to_numpy()
        head = (
            f"Basket of {_count(p.n_names, 'name')} in {_count(p.n_slices, 'slice')} of {p.slice_s:g} s: "
            f"buy {money(q0[q0 > 0].sum())}, sell {money(abs(q0[q0 < 0].sum()))}, "
            + (f"executed {self.executed:.2%}" if p.parent_notional > 0.0 else "nothing to execute")
        )
        lines = [head, f"{'cost (positive is money lost)':<30}{'currency':>14}{'bps':>10}"]
        lines += [f"  {part:<28}{value:>14,.0f}{p.to_bps(value):>10.3f}" for part, value in self.costs.items()]
        binding = self.prices_bps
        if binding.empty:
            lines.append("no limit binds")
        else:
            lines.append("limits that bind: how often, largest marginal price [bps per unit of bound]")
            for limit, rows in binding.groupby("limit", sort=False):
                worst = rows.sort_values("largest_bps", ascending=False).iloc[0]
                lines.append(
                    f"  {limit}: {int(rows['binding'].sum())} times, dearest {worst['label']} at "
                    f"{worst['largest_bps']:.3g}" + (f" ({len(rows)} bind)" if len(rows) > 1 else "")
                )
        lines.append(self.certificate_line)
        return "\n".join(lines)

    @property
    def certificate_line(self) -> str:
        """One line that says who solved it and how far from optimal it can be at most."""
        c = self.certificate
        return (
            f"certificate: {self.backend}, primal {c.primal_rel:.1e}, dual {c.dual_rel:.1e}, gap {c.gap_rel:.1e} "
            f"(relative), {self.seconds:.3f} s"
        )

    @property
    def backend(self) -> str:
        """Who solved it."""
        found = self.solution
        return found.backend if isinstance(found, StructuredSolution) else found.solution.backend

    @property
    def seconds(self) -> float:
        """Wall time of the solver [s]."""
        found = self.solution
        return (
            found.seconds if isinstance(found, StructuredSolution) else found.solution.setup_s + found.solution.solve_s
        )

    def __repr__(self) -> str:
        return f"BasketSchedule({self.problem!r}, total {self.costs_bps['total']:.3f} bps; see .summary())"

    def _repr_html_(self) -> str:
        costs = pd.DataFrame({"currency": self.costs.round(0), "bps": self.costs_bps.round(3)})
        return f"{costs.to_html()}<p>{self.certificate_line}</p>{self.trades.round(0).to_html(max_rows=12)}"

    def plot(self) -> Any:
        """Return an overview figure: schedule heatmap, inventory paths, participation and cost waterfall."""
        from crosswind.problems.basket.plots import overview

        return overview(self)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _complete(problem: BasketProblem, trades: FloatArray) -> FloatArray:
    """Return the trades with a hard completion met to rounding: the solver's residual is spread over what is traded.

    A residual of 1e-9 of an order is a few cents; left alone it would stay on the blotter as an open position. It goes
    to the slices that trade, in proportion, within their boxes; where these have no room the trades stay as they are.
    """
    hard = problem.arrays.hard
    if not hard.any():
        return trades
    lower, upper = np.full_like(trades, -np.inf), np.full_like(trades, np.inf)
    for low, high in trade_bounds(problem).values():
        lower, upper = np.maximum(lower, low), np.minimum(upper, high)
    order = problem.arrays.inventory - problem.arrays.target
    done = trades
    for _ in range(2):  # the second pass takes the rounding of the first
        missing = np.where(hard, order - done.sum(axis=0), 0.0)
        room = np.minimum(np.where(missing > 0.0, upper - done, done - lower), np.abs(done))
        room = np.where(np.abs(done) > 1e-6 * np.abs(done).max(axis=0, initial=0.0), np.maximum(room, 0.0), 0.0)
        total = room.sum(axis=0)
        fits = (total > 0.0) & (np.abs(missing) <= total)
        done = np.clip(done + room * np.divide(missing, total, out=np.zeros_like(missing), where=fits), lower, upper)
    return np.asarray(done, dtype=np.float64)


def solve_basket(
    problem: BasketProblem,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-8,
    accept: float = 1e-6,
    **settings: Any,
) -> BasketSchedule:
    """Return the optimal schedule of ``problem``; see :meth:`BasketProblem.solve`."""
    from crosswind.optim.solve import solve_multistage

    check_capacity(problem)
    # A setting that only the sparse path knows decides for it.
    may = solver == "auto" and set(settings) <= STRUCTURED_SETTINGS
    chosen = bool(set(settings) & {"method", "progress"}) or prefers_structured(problem) or _idle(problem)
    if solver == "structured" or (may and chosen):
        return _from_structure(problem, tol, accept, **settings)
    plain = {name: value for name, value in settings.items() if not (may and name == "warm")}
    found = solve_multistage(problem.program(), solver=solver, tol=tol, **plain)
    status = found.solution.status
    if not status.ok and not found.certificate.passes(accept):
        if may and status is not Status.TIME_LIMIT and obstacle(problem) is None:
            # Orders of very different sizes: the structured solver measures each by its own. ``backend`` tells of it.
            return _from_structure(problem, tol, accept, **settings)
        raise SolverFailure(
            f"{status.name}: {status.text}",
            field="solver",
            value=f"{found.solution.backend}, {found.certificate.summary()}",
            remedy=f"give it more time, rescale the data, try another solver, or raise accept (now {accept:g}) "
            "knowingly; math.inf takes any graded iterate",
        )
    trades = _complete(problem, found.trades)
    # The multistage price is per unit of position q_T, and trades lower q: per unit bought it is the negative.
    price, marginal = _with_penalty(problem, trades, -found.completion_price, found.marginal_cost)
    return _handed_out(problem, trades, price, marginal, found.prices, found)


def _idle(problem: BasketProblem) -> bool:
    """Return whether there is nothing to trade: a program without scale, which only its structure certifies."""
    a = problem.arrays
    return not (a.inventory.any() or a.target.any() or a.drift.any()) and obstacle(problem) is None


def _with_penalty(
    problem: BasketProblem, trades: FloatArray, price: FloatArray, marginal: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return completion prices and marginal costs with a penalty on what remains taken for a price, not a cost.

    A penalty is part of the solver's cost, so MC would be zero; a desk asks what trading costs against it.
    """
    weight = problem.arrays.terminal_weight
    priced = np.isfinite(weight) & (weight > 0.0)
    if not priced.any():
        return price, marginal
    gap = problem.remaining(trades)[-1] - problem.arrays.target
    price = np.where(priced, 2.0 * np.where(priced, weight, 0.0) * gap, price)
    return price, marginal + np.where(priced, price, 0.0)


def _handed_out(
    problem: BasketProblem,
    trades: FloatArray,
    price: FloatArray,
    marginal: FloatArray,
    prices: dict[str, FloatArray],
    found: MultistageSolution | StructuredSolution,
) -> BasketSchedule:
    names = problem.names
    # An auction ends when it starts; a nanosecond keeps the index of what remains unique.
    length = pd.Timedelta(problem.arrays.lengths[-1], unit="s") or pd.Timedelta(1, unit="ns")
    ends = problem.times.append(problem.times[-1:] + length)
    columns, slices = pd.Index(names, name="name"), problem.times.rename("time")
    labels = {limit.name: getattr(limit, "labels", names) or names for limit in problem.limits}
    return BasketSchedule(
        problem=problem,
        trades=problem.frame(trades),
        inventory=pd.DataFrame(problem.remaining(trades), index=ends.rename("time"), columns=columns),
        costs=cost_series(problem, trades),
        marginal_costs=problem.frame(marginal),
        completion_price=pd.Series(price + 0.0, index=columns, name="completion_price"),  # no −0
        prices={name: pd.DataFrame(values, slices, list(labels[name])) for name, values in prices.items()},
        certificate=found.certificate,
        solution=found,
    )


def _from_structure(problem: BasketProblem, tol: float, accept: float, **settings: Any) -> BasketSchedule:
    """Return the schedule of the structured solver."""
    unknown = sorted(set(settings) - STRUCTURED_SETTINGS)
    if unknown:
        raise InvalidInput(
            "is no setting of the structured solver",
            field=unknown[0],
            value=settings[unknown[0]],
            remedy=f"one of {', '.join(sorted(STRUCTURED_SETTINGS))}; or another solver",
        )
    if not 0.0 < tol < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="for example 1e-6")
    warm = settings.pop("warm", None)
    if isinstance(warm, BasketSchedule):  # a schedule of another solver has no state to start from: a cold start
        warm = warm.solution if isinstance(warm.solution, StructuredSolution) else None
    found = solve_structured(problem, tol, warm=warm, **settings)
    if not (found.status.ok or found.certificate.passes(accept)):
        raise SolverFailure(
            f"{found.status.name}: {found.status.text}",
            field="solver",
            value=f"{found.backend}, {found.certificate.summary()}",
            remedy=f"give it more time, take another solver, or raise accept (now {accept:g}) knowingly; "
            "math.inf takes any graded iterate",
        )
    price, marginal = _with_penalty(problem, found.trades, found.completion_price, found.marginal_cost)
    return _handed_out(problem, found.trades, price, marginal, found.prices, found)


def limit_values(schedule: BasketSchedule, solver: str | tuple[str, ...] = "auto") -> pd.Series:
    """Return the cost saved by dropping each limit alone [bps of parent notional]; see ``price_of_limits``.

    What is within the gaps of the two solves is nothing.
    """
    problem = schedule.problem
    dropped: dict[str, dict[str, object]] = {
        "participation": {
            "participation": None,
            "volume_sd": None,
            "volume_quantile": None,
            "auctions": tuple(replace(auction, participation=None) for auction in problem.auctions),
        },
        "no reversal": {"allow_reversal": True},
        "blackout": {"blackouts": ()},
        "must finish": {"must_finish": None},
        "sector cap": {"sector_cap": None},
        "cash band": {"cash_band": None},
        "beta band": {"beta_band": None},
        "factor band": {"factor_band": None},
        "max change": {"max_change": None},
    }
    saved: dict[str, float] = {}
    for name in schedule.prices:
        others = tuple(limit for limit in problem.extra_limits if limit.name != name)
        changes = dropped.get(name, {"extra_limits": others})
        try:
            freed = problem.replace(**changes).solve(solver)
        except CrosswindError:  # without its limit a problem may have no solution: unknown is not zero
            saved[name] = float("nan")
            continue
        gain = schedule.costs["total"] - freed.costs["total"]
        noise = schedule.certificate.gap + freed.certificate.gap + 1e-12 * abs(schedule.costs["total"])
        saved[name] = problem.to_bps(gain) if gain > noise else 0.0 * problem.to_bps(1.0)
    return pd.Series(saved, name="bps", dtype=np.float64)
