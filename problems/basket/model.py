"""The basket problem: a two-sided list of parent orders, what trading it costs, and the limits of the desk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.arrays import BasketArrays, derive, sector_rows
from crosswind.problems.basket.auctions import Auction
from crosswind.problems.basket.inputs import (
    FloatArray,
    as_inventory,
    as_scalar,
    as_times,
    per_name,
    require_names,
    slice_frame,
)
from crosswind.problems.basket.lowering import all_limits, to_multistage
from crosswind.problems.basket.options import as_hedges, as_list, check_kinds
from crosswind.problems.basket.windows import Blackout, BoolArray, blocked_cells, late_cells
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.factored import FactorMatrix
    from crosswind.optim.limits import Limit
    from crosswind.optim.multistage import ImpactMode, MultistageProgram
    from crosswind.problems.basket.factors import FactorCovariance, FactorImpact
    from crosswind.problems.basket.schedule import BasketSchedule
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["BasketProblem"]


@dataclass(frozen=True, eq=False, repr=False)
class BasketProblem:
    r"""A two-sided basket to be traded over T slices under cross-impact.

    With signed trades u_t ∈ R^N [currency, buy positive] and remaining inventory q_{t+1} = q_t − u_t, minimise

        Σ_t c'|u_t| + Σ_t u_t' diag(η_t) u_t + Σ_t κ_t'|u_t|^{3/2} + Σ_m ½ Σ_{s,t} e^{−β_m |t−s|} u_s' K_m u_t
        + Σ_t b_t'q_{t+1} + Σ_{t=1..T} w_t ( λ q_t' Σ q_t + Σ_i υ_i σ_i² q_ti² )

    subject to the limits below. A positive cost is money lost. Every table covers the orders and the hedges.

    Parameters
    ----------
    inventory
        Series name -> signed notional q_0 to trade [currency]: buy positive, sell negative, zero allowed.
    model
        Impact model whose names include those of the inventory: matrices K_m [return per currency], rates β_m [1/s];
        an :class:`ImpactModel`, or a :class:`FactorImpact` (diagonal + low rank) for thousands of names.
    times
        Starts of the T slices, time-zone-aware, strictly increasing. Impact decays over the real time between them.
    slice_s
        Length of a slice [s]; not longer than the gap between two starts. Risk accrues over it: time between
        sessions carries none.
    volume
        Forecast traded notional per slice and name (T × N) [currency]; needed by ``participation``.
    covariance
        Covariance of relative returns per second, PSD; needed when ``risk_aversion`` > 0: a frame (N × N); or, kept
        factorised, a :class:`FactorCovariance`, a tuple (loadings, factor covariance, specific) of it, or optim's
        ``FactorRisk`` with rows in the order of ``names``.
    spread
        Relative half-spread c per name, paid per unit of notional traded (float or Series).
    temporary
        Coefficient η of the temporary cost ηu² [1/currency]: float, Series by name or frame by slice. ``None``: η_it =
        0.1 σ_i / V_it with σ_i the volatility over a slice: per unit traded, a participation of 5 % pays 0.005 σ_i.
    risk_aversion
        λ ≥ 0 [1/currency]; 0 minimises expected cost alone.
    participation
        Largest |u_it| / V_it (float or Series by name), or ``None`` for no such limit.
    sectors
        Series name -> sector, needed by ``sector_cap``.
    sector_cap
        Largest Σ_{i∈s} |u_it| per slice [currency]: float for every sector or Series sector -> cap.
    cash_band
        Largest |1'q_t| after any slice [currency].
    completion
        ``"hard"``: q_T = 0. A float w > 0 [1/currency]: pay Σ w q_T² instead. A Series: q_T equals it.
    allow_reversal
        Whether a name may trade against its parent order, and a name without inventory may trade at all.
    blackouts
        Windows in which names must not trade.
    must_finish
        Series name -> time by which the name is done; no slice that ends later may trade it.
    max_change
        Largest |u_t − u_{t−1}| per name [currency] (float or Series): the desk's hysteresis.
    previous_trade
        Series name -> trade of the slice before the first, bounding the first change; ``None`` leaves the first free.
    extra_limits
        Further limits of :mod:`crosswind.optim.limits`, passed through as they are.
    hedges
        Further instruments that trade with either sign and towards no order of their own: a list of names, or a Series
        name -> position held now [currency, long positive]. They stand behind the orders in ``names`` and share K, Σ,
        bands and prices; their q is minus the position.
    hedge_target
        Series hedge -> position [currency] after the last slice; hedges it leaves out end wherever is cheapest.
    volume_sd, volume_quantile
        Standard deviation s of log volume (float, Series or frame) and p in (0, 1): participation is then of the
        p-quantile V exp(z_p s) of a log-normal volume with median V, so |u| ≤ participation · V exp(z_p s).
    three_halves
        κ of the cost κ|u|^{3/2} [1/√currency]: float, Series or frame; see ``square_root_cost``.
    drift, drift_half_life_s
        Expected return α per second (Series), decaying with a half-life [s] if given; or a frame of the return b
        expected over each slice after its trade. What remains pays it: Σ_t b_t'q_{t+1}, which is Σ_t A_t'u_t + A_T'q_T
        with A_t the expected move up to slice t. A rise costs a buyer who waits.
    urgency
        υ ≥ 0 [1/currency], float or Series: υ_i σ_i² q_i² per slice on top of the risk of the basket.
    beta, beta_band
        Series name -> beta, and the largest |β'q_t| after any slice [currency].
    factor_exposures, factor_band
        Frame names × factors X, and edges of X'q_t after any slice [currency]: a width, a Series by factor, or a frame
        with ``lower`` and ``upper`` by factor.
    auctions
        Slices that are call auctions, see :class:`Auction`.

    Raises
    ------
    InvalidInput
        On anything malformed: unknown names, NaN, negative caps, naive times, an indefinite covariance.

    Notes
    -----
    Almgren and Chriss (2000) for risk and temporary cost; cross-impact as in Benzaquen et al. (2018) with symmetric PSD
    matrices per exponential rate, which excludes profitable round trips.
    """

    inventory: pd.Series
    model: ImpactModel | FactorImpact
    times: pd.DatetimeIndex
    slice_s: float
    volume: pd.DataFrame | None = None
    covariance: pd.DataFrame | FactorCovariance | FactorMatrix | tuple[object, object, object] | None = None
    spread: pd.Series | float = 0.0
    temporary: pd.DataFrame | pd.Series | float | None = None
    risk_aversion: float = 0.0
    participation: pd.Series | float | None = 0.1
    sectors: pd.Series | None = None
    sector_cap: pd.Series | float | None = None
    cash_band: float | None = None
    completion: str | float | pd.Series = "hard"
    allow_reversal: bool = False
    blackouts: Sequence[Blackout] = ()
    must_finish: pd.Series | None = None
    max_change: pd.Series | float | None = None
    previous_trade: pd.Series | None = None
    extra_limits: tuple[Limit, ...] = ()
    hedges: pd.Series | Sequence[str] | None = None
    hedge_target: pd.Series | None = None
    volume_sd: pd.DataFrame | pd.Series | float | None = None
    volume_quantile: float | None = None
    three_halves: pd.DataFrame | pd.Series | float | None = None
    drift: pd.DataFrame | pd.Series | None = None
    drift_half_life_s: pd.Series | float | None = None
    urgency: pd.Series | float = 0.0
    beta: pd.Series | None = None
    beta_band: float | None = None
    factor_exposures: pd.DataFrame | None = None
    factor_band: pd.DataFrame | pd.Series | float | None = None
    auctions: Sequence[Auction] = ()
    arrays: BasketArrays = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "inventory", as_inventory(self.inventory))
        put(self, "hedges", as_hedges(self.hedges, self.inventory))
        check_kinds(self)
        require_names(self.model.names, self.names, "model")
        put(self, "model", self.model.subset(self.names))
        put(self, "times", as_times(self.times))
        put(self, "slice_s", as_scalar(self.slice_s, "slice_s", strict=True))
        for name in ("risk_aversion", "cash_band", "beta_band"):
            if getattr(self, name) is not None:
                put(self, name, as_scalar(getattr(self, name), name))
        if isinstance(self.completion, str):
            if self.completion != "hard":
                raise InvalidInput(
                    "unknown word", field="completion", value=self.completion, remedy="'hard', a penalty or a Series"
                )
        elif not isinstance(self.completion, pd.Series):
            put(self, "completion", as_scalar(self.completion, "completion", strict=True))
        for name in ("blackouts", "auctions", "extra_limits"):
            put(self, name, as_list(getattr(self, name), name))
        for entry in fields(self):
            value = getattr(self, entry.name, None)
            if isinstance(value, (pd.Series, pd.DataFrame)):  # a later edit of the caller's object must not reach us
                put(self, entry.name, value.copy())
        put(self, "arrays", derive(self))
        # Taken here so that a malformed limit or an indefinite model is refused at the edge, not at the solve.
        _ = self.modes, self.limits

    def __repr__(self) -> str:
        return (
            f"BasketProblem({self.n_names} names × {self.n_slices} slices of {self.slice_s:g} s, "
            f"{self.parent_notional:,.0f} gross)"
        )

    def _finish_cells(self) -> BoolArray:
        """Return the cells (T, N) whose slice ends after the name's deadline."""
        return late_cells(self.must_finish, self.names, self.times, self.arrays.lengths)

    def _blocked_cells(self) -> BoolArray:
        """Return the cells (T, N) in a blackout."""
        return blocked_cells(self.blackouts, self.names, self.times, self.arrays.lengths)

    def _sector_rows(self) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
        """Return membership (g, N), cap (g,) and labels of the capped sectors."""
        hedges = self.n_names - len(self.order_names)
        return sector_rows(self.sectors, self.sector_cap, self.names, hedges)

    def _change_limits(self) -> tuple[FloatArray, FloatArray | None] | None:
        """Return the largest change (T, N) and the trade before the first slice (N,) if it counts, or None."""
        if self.max_change is None:
            return None
        delta = np.tile(per_name(self.max_change, self.names, "max_change"), (self.n_slices, 1))
        call = self.arrays.lengths == 0.0
        delta[call | np.concatenate([[False], call[:-1]])] = np.inf  # hysteresis is between two slices of the book
        if self.previous_trade is None:
            delta[0] = np.inf
            return delta, None
        return delta, per_name(self.previous_trade, self.names, "previous_trade", minimum=-np.inf)

    @cached_property
    def order_names(self) -> tuple[str, ...]:
        """Names of the parent orders, in the order of the inventory."""
        return tuple(self.inventory.index)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all instruments: the orders, then the hedges."""
        return self.order_names + (() if self.hedges is None else tuple(pd.Series(self.hedges).index))

    @property
    def n_names(self) -> int:
        """Number of instruments N, hedges included."""
        return len(self.names)

    @property
    def n_slices(self) -> int:
        """Number of slices T."""
        return len(self.times)

    @property
    def parent_notional(self) -> float:
        """Gross notional Σ_i |q_0i| of the parent orders [currency]: the base of every figure in bps."""
        return float(np.abs(self.inventory.to_numpy()).sum())

    @property
    def hard_completion(self) -> bool:
        """Whether the remaining inventory of the orders after the last slice is fixed rather than penalised."""
        return not isinstance(self.completion, float)

    @cached_property
    def modes(self) -> tuple[ImpactMode, ...]:
        """Modes (β_m, K_m, φ_m) of the impact: what of each trade enters a decaying mode is less than one in auctions.

        Raises
        ------
        InvalidInput
            When a schedule must not be built on the model, with the way to repair it.
        """
        try:
            modes = self.model.modes()
        except InvalidInput as error:
            raise InvalidInput(
                error.message,
                field=f"model.{error.field}",
                value=error.value,
                remedy=f"{error.remedy}; or take the nearest admissible one, crosswind.problems.basket.project(model)",
            ) from error
        share = self.arrays.transient_share
        return tuple(m if m.rate_per_s == 0.0 else replace(m, share=share) for m in modes)

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        """All limits of the desk by name, and the extra ones."""
        return all_limits(self)

    def replace(self, **changes: Any) -> BasketProblem:
        """Return a copy with some arguments changed, validated anew."""
        return replace(self, **changes)

    def to_bps(self, amount: float) -> float:
        """Return a cost in bps of the parent notional; NaN for a basket without inventory, where it has no meaning."""
        base = self.parent_notional
        return 1e4 * amount / base if base > 0.0 else float("nan")

    def trade_array(self, trades: pd.DataFrame, label: str = "trades") -> FloatArray:
        """Return a schedule (T, N) [currency] in the order of the problem, refused when malformed.

        Raises
        ------
        InvalidInput
            On missing slices, missing names or non-finite values.
        """
        return slice_frame(trades, self.times, self.names, label, signed=True)

    def frame(self, values: FloatArray) -> pd.DataFrame:
        """Return a (T, N) array as a frame of slice starts × names."""
        return pd.DataFrame(values, index=self.times.rename("time"), columns=pd.Index(self.names, name="name"))

    def remaining(self, trades: FloatArray) -> FloatArray:
        """Return the remaining inventory (T + 1, N) [currency] after trading a schedule (T, N)."""
        return np.vstack([self.arrays.inventory, self.arrays.inventory - np.cumsum(trades, axis=0)])

    def program(self) -> MultistageProgram:
        """Return the multistage program: positions are the remaining inventory, incidence −I, terminal target q_T.

        Made when first asked for; it holds N × N matrices, which the structured solver does without.
        """
        return self._program

    @cached_property
    def _program(self) -> MultistageProgram:
        return to_multistage(self)

    def solve(
        self,
        solver: str | tuple[str, ...] = "auto",
        tol: float = 1e-8,
        accept: float = 1e-6,
        **settings: Any,
    ) -> BasketSchedule:
        """Return the cheapest schedule within the limits.

        Parameters
        ----------
        solver
            Backend or chain of :func:`crosswind.solvers.solve`, or ``"structured"``: the solver made for schedules,
            which never forms a matrix over names × slices. ``"auto"`` takes it on large baskets that fit it.
        tol
            Tolerance asked of the solver.
        accept
            Tolerance at which our own certificate is good enough to trade on when a solver stops short of ``tol``; the
            schedule's ``certificate`` says how good it is. ``math.inf`` takes any graded iterate, for a time limit.
        **settings
            Passed on to the solver.

        Raises
        ------
        InfeasibleProblem
            When the limits contradict each other; names them and the smallest relaxation in currency.
        SolverFailure
            When no backend returns an iterate that passes the certificate.
        """
        from crosswind.problems.basket.schedule import solve_basket

        return solve_basket(self, solver, tol, accept, **settings)

    def score(self, trades: pd.DataFrame) -> pd.Series:
        """Return what any schedule costs under this problem, by component [currency]; the ruler for every baseline.

        Parameters
        ----------
        trades
            Signed trades, slices × names (T × N) [currency]. Limits are not checked here: see ``breaches``.

        Returns
        -------
        Series with spread, temporary, impact_self, impact_cross, risk, terminal, total, and three_halves, drift,
        urgency and soft where they are not zero; components sum to the total.
        """
        from crosswind.problems.basket.schedule import cost_series

        return cost_series(self, self.trade_array(trades))

    def breaches(self, trades: pd.DataFrame, tol: float = 1e-9) -> pd.DataFrame:
        """Return how far a schedule breaks each limit: frame with limit, where, slice and breach [currency].

        Breaches up to ``tol`` of the parent notional count as rounding and are left out; the worst comes first.
        """
        from crosswind.problems.basket.breaches import breaches

        return breaches(self, self.trade_array(trades), tol)
