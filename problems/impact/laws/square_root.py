"""The square-root law of market impact, I = Y σ (Q/V)^δ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.problems.impact.laws.least_squares import check_varies, gauss_newton, two_sided_quantile
from crosswind.problems.impact.laws.result import LawFit, binned, parameter_table
from crosswind.problems.impact.laws.tables import orders
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["SquareRootLaw"]

Array = NDArray[np.float64]


class SquareRootLaw(Parameters):
    """I/σ = Y (|Q|/V)^δ + ε: the impact of an order by its share of the day's volume, whatever its duration.

    Weighted least squares of I/σ; the variance of ε grows with the time that the price has to wander, so that orders
    are weighted by 1/duration where the table has that column. Y (and δ) by damped Gauss–Newton, intervals by the
    sandwich, which stays right when that variance is another.

    Parameters
    ----------
    exponent
        δ in (0, 1.5), or "fit".
    target
        Column that is explained: "cost" (average slippage of the order) or "impact" (move by its end).
    confidence
        Of the intervals.

    Attributes
    ----------
    result_
        `LawFit` with parameters "Y" and "delta".

    References
    ----------
    Torre, BARRA market impact model handbook (1997); Tóth et al., "Anomalous price impact and the critical nature of
    liquidity in financial markets", Physical Review X 1 (2011), equation 1.
    """

    result_: LawFit

    def __init__(self, exponent: float | str = 0.5, target: str = "cost", confidence: float = 0.95) -> None:
        self.exponent = exponent
        self.target = target
        self.confidence = confidence

    def _check(self) -> float | None:
        if self.target not in ("cost", "impact"):
            raise InvalidInput('"cost" or "impact"', field="target", value=self.target)
        if self.exponent == "fit":
            return None
        if isinstance(self.exponent, str) or not 0.0 < float(self.exponent) < 1.5:
            raise InvalidInput('a number in (0, 1.5) or "fit"', field="exponent", value=self.exponent)
        return float(self.exponent)

    def fit(self, table: pd.DataFrame) -> Self:
        """Fit Y, and δ if asked, on parent orders.

        Parameters
        ----------
        table
            One row per order: "size", "sigma", "volume", the target, and "duration" where known; see
            `crosswind.problems.impact.laws.COLUMNS`.

        Raises
        ------
        DataGap
            Missing columns or fewer than ten orders.
        InvalidInput
            NaN, numbers out of range, or orders that all have one size while δ is to be fitted.
        SolverFailure
            No convergence.
        """
        fixed = self._check()
        two_sided_quantile(self.confidence)  # refuses a bad confidence before any work
        timed = isinstance(table, pd.DataFrame) and "duration" in table.columns
        data = orders(table, ["size", "sigma", "volume", self.target, *(["duration"] if timed else [])], 10)
        share = np.abs(data["size"]) / data["volume"]
        weight = 1.0 / np.sqrt(data["duration"]) if timed else np.ones(len(share))
        observed = data[self.target] / data["sigma"]
        log_share = np.log(share)
        if fixed is None:
            check_varies(log_share, "delta", "size over volume")
        centre = float(log_share.mean())  # Y and δ are nearly orthogonal around the typical size

        def residuals(theta: Array) -> tuple[Array, Array]:
            delta = fixed if fixed is not None else float(theta[1])
            shape = np.exp(delta * (log_share - centre))
            f = weight * (theta[0] * shape - observed)
            columns = [weight * shape]
            if fixed is None:
                columns.append(weight * theta[0] * shape * (log_share - centre))
            return f, np.column_stack(columns)

        start_shape = np.exp(0.5 * (log_share - centre))
        slope = float((weight**2 * start_shape) @ observed / ((weight**2 * start_shape) @ start_shape))
        if fixed is None and not slope > 0:
            raise InvalidInput(
                "larger orders do not cost more, so that no exponent is identified",
                field=f"orders.{self.target}",
                value=slope,
                remedy="check the sign (a positive cost is money lost), give more orders, or fix the exponent",
            )
        names = ["Y"] if fixed is not None else ["Y", "delta"]
        start = [slope] if fixed is not None else [slope, 0.5]
        found = gauss_newton(residuals, start, names)
        delta = fixed if fixed is not None else float(found.theta[1])
        back = np.exp(-delta * centre)  # Y of the uncentred law, and its covariance by the chain rule
        Y = float(found.theta[0]) * back
        change = np.array([[back]]) if fixed is not None else np.array([[back, -centre * Y], [0.0, 1.0]])
        z = two_sided_quantile(self.confidence, found.dof)
        parameters, covariance = parameter_table(
            {"Y": Y, "delta": delta},
            names,
            change @ found.covariance @ change.T,
            z,
            positive=("Y",) if fixed is None else (),
        )
        total = float(((weight * observed) ** 2).sum())
        self.result_ = LawFit(
            law=f"{self.target} = Y σ (Q/V)^δ",
            parameters=parameters,
            confidence=float(self.confidence),
            covariance=covariance,
            rows=len(share),
            r2=1.0 - found.loss / total if total > 0 else float("nan"),
            noise=float(np.sqrt(found.loss / len(share))),
            curve=binned(Y * data["sigma"] * share**delta, data[self.target]),
        )
        return self

    def predict(self, table: pd.DataFrame) -> pd.Series:
        """Return Y σ (|Q|/V)^δ by order, as a return; positive is money lost."""
        result: LawFit = self._require("result_")
        data = orders(table, ["size", "sigma", "volume"])
        value = result["Y"] * data["sigma"] * (np.abs(data["size"]) / data["volume"]) ** result["delta"]
        return pd.Series(value, index=table.index, name=self.target)

    def score(self, table: pd.DataFrame) -> float:
        """R² of target/σ against "no impact", weighted as in the fit."""
        data = orders(table, ["sigma", self.target], 1)
        weight = 1.0 / data["sigma"] ** 2
        if "duration" in table.columns:
            weight = weight / orders(table, ["duration"])["duration"]
        error = data[self.target] - self.predict(table).to_numpy()
        total = float(weight @ data[self.target] ** 2)
        return 1.0 - float(weight @ error**2) / total if total > 0 else float("nan")

    def to_impact_model(
        self, sigma: Mapping[str, float], volume: Mapping[str, float], bucket_s: float = 60.0, currency: str = "USD"
    ) -> ImpactModel:
        """Return the diagonal `ImpactModel` of a linear law (δ = 1), for schedules.

        K_ii = Y σ_i/V_i for target "impact", permanent. An order that trades evenly under permanent linear impact pays
        half its final impact on average: for target "cost" K_ii = 2 Y σ_i/V_i.

        Parameters
        ----------
        sigma
            Name → daily volatility.
        volume
            Name → daily volume in currency.
        bucket_s, currency
            Of the model.

        Raises
        ------
        InvalidInput
            δ is not 1 (a concave law has no matrix that a convex schedule could use), Y < 0, or bad σ or V.
        DataGap
            A name has σ and no volume.
        """
        from crosswind.problems.impact.laws.convert import diagonal_model, refuse_nonlinear

        result: LawFit = self._require("result_")
        refuse_nonlinear("exponent", result["delta"])
        missing = [n for n in sigma if n not in volume]
        if missing:
            raise DataGap("a name has no volume", field="volume", value=missing)
        times = 2.0 if self.target == "cost" else 1.0
        slopes = {str(n): times * result["Y"] * float(sigma[n]) / float(volume[n]) for n in sigma}
        return diagonal_model(slopes, {}, bucket_s, currency)
