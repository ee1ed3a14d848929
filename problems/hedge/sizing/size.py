r"""How many contracts hedge a holding.

.. math::

    \min_n\ (b - Mn)'\Sigma(b - Mn) + n'\Omega n + \tfrac{1}{\lambda}\sum_j c_j|n_j - n^0_j|
    \qquad b = -H\,B'v

v are the values of the lines, B their betas to k factors, H the share to be hedged (by factor), M (k × m) the exposure
of one contract to each factor (loading · notional), Σ the covariance of factor moves and Ω the variance of each
contract's basis. n is signed: a short is negative. With one factor and one contract, n = −H·β·V_spot/V_contract, to
the nearest lot. Costs enter where a risk aversion λ is given; else they are reported only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import FloatArray, HedgeInstrument, SpotBook, number, numbers
from crosswind.problems.hedge.sizing.result import HedgeSize
from crosswind.problems.hedge.sizing.search import best_lots, relaxed_lots
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["size_hedge"]


def size_hedge(
    spot: SpotBook,
    instruments: HedgeInstrument | Sequence[HedgeInstrument],
    betas: pd.Series[float] | pd.DataFrame | Mapping[str, float] | None = None,
    ratio: float | pd.Series[float] | Mapping[str, float] = 1.0,
    covariance: pd.DataFrame | float | None = None,
    *,
    rounding: str = "lots",
    current: pd.Series[float] | Mapping[str, float] | None = None,
    risk_aversion: float | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    residual_vol: pd.Series[float] | Mapping[str, float] | None = None,
    horizon_days: float = 1.0,
    max_nodes: int = 100_000,
) -> HedgeSize:
    """Size a hedge of a holding with one contract or several (formula in the module's text).

    Parameters
    ----------
    spot
        The holding.
    instruments
        Contracts that may be traded, in one currency.
    betas
        Line → beta where there is one factor; lines × factors where there are several. None: each line is its own
        factor with beta 1, as in "BTC is hedged with BTC futures"; the lines then bear the factors' names.
    ratio
        H >= 0, one share for all or by factor; 1 hedges all of the beta.
    covariance
        Factors × factors, covariance of daily moves; with one factor its daily variance will do. None: all factors
        count alike and apart, and figures of risk are None.
    rounding
        "lots": whole lots, proven best; "exact": fractions of a contract.
    current
        Instrument → contracts held already; default none. Costs are charged on the difference.
    risk_aversion
        λ > 0 [1/currency], price of one unit of variance over the horizon; None: size by risk alone.
    limits
        Instrument → (lowest, highest) signed position [contracts].
    residual_vol
        Line → standard deviation of the daily move that no factor explains; for figures of risk.
    horizon_days
        Days over which risk is counted, > 0.
    max_nodes
        As in :func:`crosswind.problems.hedge.sizing.search.best_lots`.

    Returns
    -------
    HedgeSize

    Raises
    ------
    InvalidInput
        For a price that is zero, a negative ratio, values that are not finite, a singular covariance, contracts that
        cannot be told apart, mixed currencies, unknown names.
    DataGap
        For a line without a beta, or a factor without a row in the covariance.
    SolverFailure
        Where ``max_nodes`` do not prove the best lots.
    """
    if not isinstance(spot, SpotBook):
        raise InvalidInput("not a SpotBook", field="spot", value=type(spot).__name__, remedy="use SpotBook(units, …)")
    tools = (instruments,) if isinstance(instruments, HedgeInstrument) else tuple(instruments)
    _check_instruments(tools, spot)
    table = _betas(spot, tools, betas)
    factors = tuple(str(name) for name in table.columns)
    share = _ratio(ratio, factors)
    sigma = _covariance(covariance, factors)
    days = number(horizon_days, "horizon_days", 0.0, above=True)
    names = tuple(tool.name for tool in tools)
    held = np.zeros(len(tools)) if current is None else _current(current, names)
    residual = None if residual_vol is None else numbers(residual_vol, "residual_vol", spot.names)
    if residual is not None and (residual < 0.0).any():
        raise InvalidInput("is negative", field="residual_vol", value=float(residual.min()), remedy="use its size")
    if rounding not in {"lots", "exact"}:
        raise InvalidInput("unknown", field="rounding", value=rounding, remedy='use "lots" or "exact"')
    lam = math.inf if risk_aversion is None else number(risk_aversion, "risk_aversion", 0.0, above=True)

    exposure: FloatArray = table.to_numpy(float).T @ spot.worth.to_numpy(float)
    load = np.array([[tool.loadings.get(f, 0.0) * tool.per_contract for tool in tools] for f in factors])
    step = np.array([tool.step for tool in tools])
    weigh = np.eye(len(factors)) if sigma is None else sigma * days
    omega = np.array([(tool.per_contract * tool.basis_vol) ** 2 for tool in tools]) * days
    if sigma is None:
        omega = np.zeros(len(tools))  # without the size of the factors' risk there is nothing to hold the basis against
    A = load * step
    Q = A.T @ weigh @ A + np.diag(omega * step**2)
    g = A.T @ weigh @ (-share * exposure)
    cost = np.array([tool.trade_cost for tool in tools])
    price = np.zeros(len(tools)) if math.isinf(lam) else cost * step / lam
    low, high = _limits(limits, names, step)
    found = best_lots(Q, g, price, held / step, low, high, max_nodes)
    if rounding == "lots":
        contracts = np.array([_whole(lots, tool.step) for lots, tool in zip(found.lots, tools, strict=True)])
        nodes, gap = found.nodes, found.gap
    else:
        contracts, nodes, gap = relaxed_lots(Q, g, price, held / step, low, high) * step, 0, 0.0
    index = list(names)
    return HedgeSize(
        spot=spot,
        instruments=tools,
        betas=table,
        ratio=pd.Series(share, index=list(factors), name="ratio"),
        contracts=pd.Series(contracts, index=index, name="contracts"),
        exact=pd.Series(found.relaxed * step, index=index, name="exact"),
        current=pd.Series(held, index=index, name="current"),
        covariance=None if sigma is None else pd.DataFrame(sigma, index=list(factors), columns=list(factors)),
        residual_vol=residual,
        horizon_days=days,
        nodes=nodes,
        gap=gap,
    )


def _whole(lots: int, step: float) -> float:
    """Return lots · step as the double nearest to the decimal, so that 1800 lots of 0.001 are 1.8."""
    from crosswind.problems.market.contracts.steps import value_of

    return float(value_of(np.array(lots), step)) + 0.0


def _check_instruments(tools: tuple[HedgeInstrument, ...], spot: SpotBook) -> None:
    if not tools or not all(isinstance(tool, HedgeInstrument) for tool in tools):
        raise InvalidInput("no instruments", field="instruments", value=tools, remedy="use listed('ES', price)")
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidInput("a name occurs twice", field="instruments", value=names, remedy="rename one")
    paid = {tool.spec.currency for tool in tools} | (set() if spot.currency is None else {spot.currency})
    if len(paid) > 1:
        raise InvalidInput(
            "prices are in different currencies",
            field="currency",
            value=sorted(paid),
            remedy="convert the prices, or hedge each currency apart",
        )


def _betas(spot: SpotBook, tools: tuple[HedgeInstrument, ...], betas: Any) -> pd.DataFrame:
    factors = list(dict.fromkeys(name for tool in tools for name in tool.loadings))
    if betas is None:
        factors = [*factors, *(name for name in spot.names if name not in factors)]
        unknown = [name for name in spot.names if not any(name in tool.loadings for tool in tools)]
        if unknown:
            raise DataGap(
                "no beta, and no contract on the line itself",
                field="betas",
                value=unknown,
                remedy="give betas to the factors of the contracts",
            )
        own = [[float(line == factor) for factor in factors] for line in spot.names]
        return pd.DataFrame(own, index=list(spot.names), columns=factors)
    if not isinstance(betas, pd.DataFrame):
        series = numbers(betas, "betas", spot.names)
        if len(factors) != 1:
            raise InvalidInput(
                "one beta per line, but several factors",
                field="betas",
                value=factors,
                remedy="pass lines × factors",
            )
        return pd.DataFrame({factors[0]: series.to_numpy()}, index=list(spot.names))
    columns = [str(name) for name in betas.columns]
    if len(set(columns)) < len(columns):
        raise InvalidInput("a factor occurs twice", field="betas", value=columns, remedy="merge its columns")
    idle = [name for name in factors if name not in columns]
    if idle:
        raise DataGap("no betas to a factor of a contract", field="betas", value=idle, remedy="add its column")
    by = {column: numbers(betas[name], f"betas to {column}", spot.names) for column, name in zip(columns, betas)}  # noqa: B905
    return pd.DataFrame({column: series.to_numpy() for column, series in by.items()}, index=list(spot.names))


def _ratio(ratio: Any, factors: tuple[str, ...]) -> FloatArray:
    if isinstance(ratio, pd.Series | Mapping):
        share = numbers(ratio, "ratio", factors).to_numpy(float)
    else:
        share = np.full(len(factors), number(ratio, "ratio"))
    if (share < 0.0).any():
        raise InvalidInput(
            "is negative: that would add to the exposure",
            field="ratio",
            value=float(share.min()),
            remedy="use 0 for no hedge, 1 for a full one",
        )
    return np.asarray(share, dtype=np.float64)


def _covariance(covariance: Any, factors: tuple[str, ...]) -> FloatArray | None:
    if covariance is None:
        return None
    if not isinstance(covariance, pd.DataFrame):
        variance = number(covariance, "covariance", 0.0, above=True)
        if len(factors) > 1:
            raise InvalidInput("one number, several factors", field="covariance", value=factors, remedy="pass a table")
        return np.array([[variance]])
    rows = [str(name) for name in covariance.index]
    missing = [name for name in factors if name not in rows or name not in map(str, covariance.columns)]
    if missing:
        raise DataGap("no row and column of a factor", field="covariance", value=missing, remedy="add it")
    table = covariance.set_axis(rows, axis=0).set_axis([str(name) for name in covariance.columns], axis=1)
    sigma = table.loc[list(factors), list(factors)].to_numpy(dtype=np.float64)
    if not np.isfinite(sigma).all():
        raise InvalidInput("is not finite", field="covariance", value="NaN or inf", remedy="drop incomplete days")
    if not np.allclose(sigma, sigma.T, rtol=1e-9, atol=0.0):
        raise InvalidInput("is not symmetric", field="covariance", value=sigma.tolist(), remedy="use (C + C')/2")
    sigma = 0.5 * (sigma + sigma.T)
    spread = np.diag(sigma)
    least = -1.0 if (spread <= 0.0).any() else float(np.linalg.eigvalsh(sigma / np.sqrt(np.outer(spread, spread)))[0])
    if least <= 1e-10:
        raise InvalidInput(
            "is singular or not positive definite",
            field="covariance",
            value=least,
            remedy="drop one of the factors that move as one, or shrink it towards its diagonal",
        )
    return np.asarray(sigma, dtype=np.float64)


def _current(current: Any, names: tuple[str, ...]) -> FloatArray:
    series = numbers(current, "current")
    unknown = [name for name in series.index if name not in names]
    if unknown:
        raise InvalidInput("not among the instruments", field="current", value=unknown, remedy="add them or close them")
    return np.asarray(series.reindex(list(names), fill_value=0.0), dtype=np.float64)


def _limits(limits: Any, names: tuple[str, ...], step: FloatArray) -> tuple[FloatArray, FloatArray]:
    low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for name, pair in {} if limits is None else dict(limits).items():
        if name not in names:
            raise InvalidInput("not among the instruments", field="limits", value=name, remedy=f"choose among {names}")
        a, b = (float(bound) for bound in pair)
        if math.isnan(a) or math.isnan(b) or a > b:
            raise InvalidInput("not a lowest and a highest position", field="limits", value=pair, remedy="(-10, 0)")
        low[names.index(name)], high[names.index(name)] = a, b
    return low / step, high / step
