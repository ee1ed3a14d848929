"""A sized hedge: positions, what is left, and what a move does to each line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import HedgeInstrument, SpotBook, number, numbers
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.sizing.carry import Carry
    from crosswind.problems.hedge.sizing.margin import MarginReport

__all__ = ["HedgeSize"]


@dataclass(frozen=True, eq=False, repr=False)
class HedgeSize(Shown):
    """Result of :func:`crosswind.problems.hedge.sizing.size_hedge`.

    Parameters
    ----------
    spot, instruments, betas, ratio
        What was asked.
    contracts
        Signed position by instrument [contracts]; a short is negative.
    exact
        The same before rounding.
    current
        What was held before.
    covariance, residual_vol, horizon_days
        Risk as given; None where unknown.
    nodes, gap
        Boxes that the search looked at, and by how much its objective (variance over the horizon, currency²) can at
        most be improved.
    """

    spot: SpotBook
    instruments: tuple[HedgeInstrument, ...]
    betas: pd.DataFrame
    ratio: pd.Series[float]
    contracts: pd.Series[float]
    exact: pd.Series[float]
    current: pd.Series[float]
    covariance: pd.DataFrame | None
    residual_vol: pd.Series[float] | None
    horizon_days: float
    nodes: int
    gap: float

    # -- positions ----------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> float:
        """Return the position in one instrument [contracts]."""
        return float(self.contracts[name])

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors."""
        return tuple(str(name) for name in self.betas.columns)

    @property
    def notionals(self) -> pd.Series[float]:
        """Signed notional by instrument [currency]."""
        each = [tool.per_contract for tool in self.instruments]
        return (self.contracts * each).rename("notional")

    @property
    def trades(self) -> pd.Series[float]:
        """What is to be traded now, ``contracts − current`` [contracts]."""
        return (self.contracts - self.current).rename("trade")

    @property
    def trade_cost(self) -> float:
        """Half-spread and fee of the trades, once [currency]."""
        each = np.array([tool.trade_cost for tool in self.instruments])
        return float(np.abs(self.trades.to_numpy()) @ each)

    def exposures(self) -> pd.DataFrame:
        """Return per factor: spot, hedge and net exposure [currency], net beta and hedge ratio.

        Net beta is net exposure over the gross value of the spot; the hedge ratio −hedge/spot is NaN where there is
        nothing to hedge.
        """
        spot = self.betas.to_numpy(float).T @ self.spot.worth.to_numpy(float)
        load = np.array([[tool.loadings.get(f, 0.0) for tool in self.instruments] for f in self.factors])
        hedge = load @ self.notionals.to_numpy(float)
        table = pd.DataFrame({"spot": spot, "hedge": hedge, "net": spot + hedge}, index=list(self.factors))
        table["net_beta"] = table["net"] / self.spot.gross
        table["hedge_ratio"] = -table["hedge"] / table["spot"].where(table["spot"] != 0.0)
        table["wanted_ratio"] = self.ratio
        return table.rename_axis("factor")

    # -- risk ---------------------------------------------------------------------------------------------------------

    def volatility(self) -> pd.Series[float]:
        """Return standard deviations over the horizon: unhedged, hedged, and parts of the latter [currency].

        ``factor`` is what beta leaves, ``basis`` the contracts' own, ``residual`` the lines' own (unhedgeable here;
        taken as independent between lines).

        Raises
        ------
        InvalidInput
            Where no covariance was given.
        """
        if self.covariance is None:
            raise InvalidInput("unknown", field="covariance", remedy="give it to size_hedge")
        table, sigma = self.exposures(), self.covariance.to_numpy() * self.horizon_days
        before, net = table["spot"].to_numpy(), table["net"].to_numpy()
        own = 0.0
        if self.residual_vol is not None:
            own = float(((self.spot.worth * self.residual_vol) ** 2).sum()) * self.horizon_days
        basis = self._basis_variance() * self.horizon_days
        parts = {
            "unhedged": before @ sigma @ before + own,
            "hedged": net @ sigma @ net + basis + own,
            "factor": net @ sigma @ net,
            "basis": basis,
            "residual": own,
        }
        return pd.Series({name: math.sqrt(max(float(value), 0.0)) for name, value in parts.items()}, name="volatility")

    def _basis_variance(self) -> float:
        return float(sum((n * t.basis_vol) ** 2 for n, t in zip(self.notionals, self.instruments, strict=True)))

    def basis_var(self, level: float = 0.95, days: float | None = None) -> float:
        """Return the loss from the basis that is not exceeded with probability ``level`` [currency].

        z·√(Σ (N_j ω_j)² · days): normal moves, independent between contracts and days. A basis that reverts moves less
        over long horizons than √days says (:func:`crosswind.problems.hedge.sizing.fit_basis` measures it).

        Raises
        ------
        InvalidInput
            When ``level`` is not within (0.5, 1) or ``days`` not positive.
        """
        if not 0.5 < level < 1.0:
            raise InvalidInput("must lie within (0.5, 1)", field="level", value=level, remedy="use 0.95")
        span = self.horizon_days if days is None else number(days, "days", 0.0, above=True)
        return NormalDist().inv_cdf(level) * math.sqrt(self._basis_variance() * span)

    # -- what if ------------------------------------------------------------------------------------------------------

    def what_if(
        self,
        move: float | pd.Series[float] | Mapping[str, float] = -0.10,
        basis_move: float | pd.Series[float] | Mapping[str, float] = 0.0,
    ) -> pd.DataFrame:
        """Return what a move does to each line.

        Parameters
        ----------
        move
            Relative move of all factors, or by factor; > −1.
        basis_move
            Change of the basis of all contracts, or by instrument [fraction of the futures price]: negative narrows a
            positive one. A short gains when it falls.

        Returns
        -------
        DataFrame
            Rows: the spot lines, per contract its index and its basis part, and ``net``. Columns: ``value`` before
            (futures: 0, they are margined), ``change``, ``after`` [currency].

        Raises
        ------
        InvalidInput
            For moves of −100 % or below, unknown names and values that are not finite.
        """
        by = self._by(move, "move", self.factors)
        basis = self._by(basis_move, "basis_move", tuple(tool.name for tool in self.instruments))
        if (by <= -1.0).any():
            raise InvalidInput("a price cannot fall by all", field="move", value=float(by.min()), remedy="use > -1")
        rows = []
        moved_by = self.betas.to_numpy(float) @ by.to_numpy(float)
        for name, value, gone in zip(self.spot.names, self.spot.worth, moved_by, strict=True):
            rows.append((name, "spot", float(value), float(value) * float(gone)))
        for tool in self.instruments:
            index = sum(load * float(by[f]) for f, load in tool.loadings.items())
            moved = tool.price * (1.0 + index)
            after = moved + tool.price * float(basis[tool.name])
            if after <= 0.0:
                raise InvalidInput("the future falls to nothing", field="move", value=after, remedy="use less")
            n = self[tool.name]
            if n == 0.0:
                continue
            first, whole = _gain(tool, n, moved), _gain(tool, n, after)
            rows.append((tool.name, "futures", 0.0, first))
            rows.append((tool.name, "basis", 0.0, whole - first))
        table = pd.DataFrame(rows, columns=["line", "part", "value", "change"]).set_index(["line", "part"])
        table.loc[("net", ""), :] = table.sum()
        table["after"] = table["value"] + table["change"]
        return table + 0.0

    def _by(self, given: Any, field: str, names: tuple[str, ...]) -> pd.Series[float]:
        if isinstance(given, pd.Series | Mapping):
            series = numbers(given, field)
            unknown = [name for name in series.index if name not in names]
            if unknown:
                raise InvalidInput("unknown name", field=field, value=unknown, remedy=f"choose among {names}")
            return series.reindex(list(names), fill_value=0.0)
        return pd.Series(number(given, field), index=list(names))

    def grid(self, moves: Sequence[float] = tuple(np.linspace(-0.3, 0.3, 25))) -> pd.DataFrame:
        """Return the change of spot, futures and net [currency] for several moves of all factors."""
        rows = {}
        for move in moves:
            part = self.what_if(float(move))["change"].groupby(level="part", sort=False).sum()
            spot, futures = float(part.get("spot", 0.0)), float(part.get("futures", 0.0))
            rows[float(move)] = {"spot": spot, "futures": futures, "net": spot + futures}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("move")

    # -- carry and margin ---------------------------------------------------------------------------------------------

    def carry(self, start: Any, end: Any, funding: Mapping[str, Any] | None = None, **options: Any) -> Carry:
        """Return what holding the hedge earns; see :func:`crosswind.problems.hedge.sizing.carry_of`."""
        from crosswind.problems.hedge.sizing.carry import carry_of

        return carry_of(self, start, end, funding, **options)

    def margin(self, collateral: Mapping[str, float]) -> MarginReport:
        """Return margins and liquidation distances; see :func:`crosswind.problems.hedge.sizing.margin_of`."""
        from crosswind.problems.hedge.sizing.margin import margin_of

        return margin_of(self, collateral)

    # -- telling ------------------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """Return one row per instrument: contracts, exact, current, trade, notional, cost of the trade [currency]."""
        cost = np.abs(self.trades.to_numpy()) * [tool.trade_cost for tool in self.instruments]
        columns = [self.contracts, self.exact, self.current, self.trades, self.notionals]
        return pd.concat(columns, axis=1).assign(cost=cost).rename_axis("instrument")

    def summary(self) -> str:
        """Return positions, what is left by factor, risk where it is known and a 10 % fall."""
        table = self.exposures()
        lines = []
        for name, row in self.to_frame().iterrows():
            side = "short" if row["contracts"] < 0 else "long" if row["contracts"] > 0 else "flat"
            lines.append(
                f"{name}: {side} {abs(row['contracts']):g} contracts (exact {abs(row['exact']):.6g}), "
                f"notional {abs(row['notional']):,.0f}, trading costs {row['cost']:,.2f}"
            )
        for factor, row in table.iterrows():
            lines.append(
                f"{factor}: exposure {row['spot']:,.0f} → {row['net']:,.0f}, hedge ratio {row['hedge_ratio']:.4g} "
                f"(wanted {row['wanted_ratio']:.4g}), net beta {row['net_beta']:.4g}"
            )
        if self.covariance is not None:
            sd = self.volatility()
            lines.append(
                f"standard deviation over {self.horizon_days:g} days {sd['unhedged']:,.0f} → {sd['hedged']:,.0f} "
                f"(factor {sd['factor']:,.0f}, basis {sd['basis']:,.0f}, residual {sd['residual']:,.0f}); "
                f"basis VaR 95 % {self.basis_var():,.0f}"
            )
        lines.append(f"a 10 % fall changes the net by {float(self.what_if()['change'].iloc[-1]):,.0f}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return what moves of the factors do to spot, futures and net (plotly)."""
        from crosswind.problems.hedge.sizing.plots import move_curve

        return move_curve(self)


def _gain(tool: HedgeInstrument, contracts: float, price: float) -> float:
    """Return the profit in the price's currency: an inverse contract pays coins, worth the new price."""
    gain = float(tool.spec.pnl(contracts, tool.price, price))
    return gain * price if tool.spec.inverse else gain
