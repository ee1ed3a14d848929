"""The basket problem: a two-sided list of parent orders, what trading it costs, and the limits of the desk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.arrays import BasketArrays, Blackout, derive
from crosswind.problems.basket.inputs import (
    FloatArray,
    as_instant,
    as_inventory,
    as_scalar,
    as_times,
    per_name,
    require_names,
    slice_frame,
)
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.optim.multistage import MultistageProgram
    from crosswind.problems.basket.schedule import BasketSchedule
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["BasketProblem"]


@dataclass(frozen=True, eq=False, repr=False)
class BasketProblem:
    r"""A two-sided basket to be traded over T slices under cross-impact.

    With signed trades u_t ∈ R^N [currency, buy positive] and remaining inventory q_{t+1} = q_t − u_t, minimise

        Σ_t c'|u_t| + Σ_t u_t' diag(η_t) u_t + Σ_m ½ Σ_{s,t} e^{−β_m |t−s|} u_s' K_m u_t + λ Σ_{t=1..T} q_t' Σ q_t

    subject to the limits below. A positive cost is money lost.

    Parameters
    ----------
    inventory
        Series name -> signed notional q_0 to trade [currency]: buy positive, sell negative, zero allowed.
    model
        Impact model whose names include those of the inventory: matrices K_m [return per currency], rates β_m [1/s].
    times
        Starts of the T slices, time-zone-aware, strictly increasing. Impact decays over the real time between them.
    slice_s
        Length of a slice [s]; not longer than the gap between two starts. Risk accrues over it: time between
        sessions carries none.
    volume
        Forecast traded notional per slice and name (T × N) [currency]; needed by ``participation``.
    covariance
        Covariance of relative returns per second (N × N), PSD; needed when ``risk_aversion`` > 0.
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
    model: ImpactModel
    times: pd.DatetimeIndex
    slice_s: float
    volume: pd.DataFrame | None = None
    covariance: pd.DataFrame | None = None
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
    arrays: BasketArrays = field(init=False, repr=False)
    _program: MultistageProgram = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        from crosswind.problems.basket.lowering import to_multistage
        from crosswind.problems.impact.model import ImpactModel

        put(self, "inventory", as_inventory(self.inventory))
        kinds = {"model": ImpactModel, "must_finish": pd.Series | None, "previous_trade": pd.Series | None}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise InvalidInput(
                    "has the wrong type",
                    field=name,
                    value=type(getattr(self, name)).__name__,
                    remedy=f"pass {'an ImpactModel' if name == 'model' else 'a Series by name, or None'}",
                )
        require_names(self.model.names, self.names, "model")
        put(self, "model", self.model.subset(self.names))
        put(self, "times", as_times(self.times))
        put(self, "slice_s", as_scalar(self.slice_s, "slice_s", strict=True))
        put(self, "risk_aversion", as_scalar(self.risk_aversion, "risk_aversion"))
        if self.cash_band is not None:
            put(self, "cash_band", as_scalar(self.cash_band, "cash_band"))
        if isinstance(self.completion, str):
            if self.completion != "hard":
                raise InvalidInput(
                    "unknown word", field="completion", value=self.completion, remedy="'hard', a penalty or a Series"
                )
        elif not isinstance(self.completion, pd.Series):
            put(self, "completion", as_scalar(self.completion, "completion", strict=True))
        put(self, "blackouts", tuple(self.blackouts))
        for window in self.blackouts:
            if not isinstance(window, Blackout):
                raise InvalidInput(
                    "must hold Blackout windows",
                    field="blackouts",
                    value=window,
                    remedy="use Blackout(start, end, names=None)",
                )
        put(self, "extra_limits", tuple(self.extra_limits))
        for table in ("volume", "covariance", "spread", "temporary", "participation", "sectors", "sector_cap"):
            value = getattr(self, table)
            if isinstance(value, (pd.Series, pd.DataFrame)):  # a later edit of the caller's object must not reach us
                put(self, table, value.copy())
        put(self, "arrays", self._derive())
        # Built here so that a malformed limit or an indefinite model is refused at the edge, not at the solve.
        put(self, "_program", to_multistage(self))

    def __repr__(self) -> str:
        return (
            f"BasketProblem({self.n_names} names × {self.n_slices} slices of {self.slice_s:g} s, "
            f"{self.parent_notional:,.0f} gross)"
        )

    def _derive(self) -> BasketArrays:
        return derive(
            names=self.names,
            inventory=self.inventory.to_numpy(dtype=np.float64),
            times=self.times,
            slice_s=self.slice_s,
            volume=self.volume,
            covariance=self.covariance,
            spread=self.spread,
            temporary=self.temporary,
            risk_aversion=self.risk_aversion,
            participation=self.participation,
            completion=self.completion,
        )

    def _finish_cells(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Return the cells (T, N) whose slice ends after the name's deadline."""
        late = np.zeros((self.n_slices, self.n_names), dtype=np.bool_)
        if self.must_finish is None:
            return late
        unknown = [str(n) for n in self.must_finish.index if str(n) not in self.names]
        if unknown:
            raise InvalidInput(
                f"unknown names: {', '.join(unknown)}",
                field="must_finish",
                value=unknown,
                remedy="name only names of the inventory",
            )
        ends = self.times + pd.Timedelta(self.slice_s, unit="s")
        for name, deadline in self.must_finish.items():
            late[:, self.names.index(str(name))] = ends > as_instant(deadline, f"must_finish[{name}]")
        return late

    def _change_limits(self) -> tuple[FloatArray, FloatArray | None] | None:
        """Return the largest change (T, N) and the trade before the first slice (N,) if it counts, or None."""
        if self.max_change is None:
            return None
        delta = np.tile(per_name(self.max_change, self.names, "max_change"), (self.n_slices, 1))
        if self.previous_trade is None:
            delta[0] = np.inf
            return delta, None
        return delta, per_name(self.previous_trade, self.names, "previous_trade", minimum=-np.inf)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the basket in the order of the inventory."""
        return tuple(self.inventory.index)

    @property
    def n_names(self) -> int:
        """Number of names N."""
        return len(self.inventory)

    @property
    def n_slices(self) -> int:
        """Number of slices T."""
        return len(self.times)

    @property
    def parent_notional(self) -> float:
        """Gross notional Σ_i |q_0i| of the parent orders [currency]: the base of every figure in bps."""
        return float(np.abs(self.arrays.inventory).sum())

    @property
    def hard_completion(self) -> bool:
        """Whether the remaining inventory after the last slice is fixed rather than penalised."""
        return not isinstance(self.completion, float)

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
        """Return the multistage program: positions are the remaining inventory, incidence −I, terminal target q_T."""
        return self._program

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
            Backend or chain of :func:`crosswind.solvers.solve`.
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
        Series with spread, temporary, impact_self, impact_cross, risk, terminal, total; components sum to the total.
        """
        from crosswind.problems.basket.schedule import cost_series

        return cost_series(self, self.trade_array(trades))

    def breaches(self, trades: pd.DataFrame, tol: float = 1e-9) -> pd.DataFrame:
        """Return how far a schedule breaks each limit: frame with limit, where, slice and breach [currency].

        Breaches up to ``tol`` of the parent notional count as rounding and are left out; the worst comes first.
        """
        from crosswind.problems.basket.breaches import breaches

        return breaches(self, self.trade_array(trades), tol)
