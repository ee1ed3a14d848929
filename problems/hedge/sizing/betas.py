r"""Betas with their errors: least squares, shrunk, weighted to the recent past, and of what remains of a basket.

.. math::

    \hat\beta_i = S_{xy}/S_{xx}, \qquad \mathrm{Cov}(\hat\beta) = E'E / ((n-2)\,S_{xx})

E are the residuals of all lines against one index, so the errors of betas are correlated as the residuals are. A
weighted beta (weights w, half-life) has the sandwich Σ w²x²ee' / (Σ w x²)² · n_eff/(n_eff − 2).

Shrinkage: Vasicek (1973), *A note on using cross-sectional information in Bayesian estimation of security betas*,
J. Finance 28: β = kβ̂ + (1 − k)β̄ with k = τ²/(τ² + se²), error variance k·se². The prior (β̄, τ) is that of true betas:
the cross-sectional variance of estimates less their mean se² (Lally 1998, Financial Review 33, shows that the variance
of estimates is the wrong prior). Blume (1971, J. Finance 26; 1975, J. Finance 30): β = a + b·β̂, where a and b come from
regressing later betas on earlier ones; by custom a = 1/3, b = 2/3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import number, numbers
from crosswind.problems.market.checks import check_names, utc_index
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["BetaEstimate", "blume", "blume_coefficients", "estimate_betas", "vasicek"]


@dataclass(frozen=True, eq=False, repr=False)
class BetaEstimate(Shown):
    """Betas of lines to one index.

    Parameters
    ----------
    beta
        By line, (N,).
    covariance
        Of the errors of the betas, (N, N).
    r2, residual_vol
        Share of variance that the index explains, and standard deviation of the rest per observation, by line, (N,).
    residual_covariance
        Of the residuals per observation, (N, N).
    index_variance
        Variance of the index return per observation.
    count
        Observations; effective ones where they are weighted.
    method
        How the betas were found.
    """

    beta: pd.Series[float]
    covariance: pd.DataFrame
    r2: pd.Series[float]
    residual_vol: pd.Series[float]
    residual_covariance: pd.DataFrame
    index_variance: float
    count: float
    method: str

    @property
    def se(self) -> pd.Series[float]:
        """Standard errors of the betas, (N,)."""
        return pd.Series(np.sqrt(np.diag(self.covariance)), index=self.beta.index, name="se")

    def of_basket(self, values: Any) -> tuple[float, float]:
        """Return ΣβV of a basket and its standard error √(V'CV) [currency].

        Parameters
        ----------
        values
            Line → signed value [currency]; lines of the estimate that are absent count as 0.

        Raises
        ------
        DataGap
            For a line without a beta.
        """
        given = numbers(values, "values")
        missing = [name for name in given.index if name not in self.beta.index]
        if missing:
            raise DataGap("no beta for a line", field="values", value=missing, remedy="estimate it or drop the line")
        v = given.reindex(self.beta.index, fill_value=0.0).to_numpy(float)
        error = float(v @ self.covariance.to_numpy() @ v)
        return float(v @ self.beta.to_numpy()), math.sqrt(max(error, 0.0))

    def of_remaining(self, remaining: pd.DataFrame) -> pd.DataFrame:
        """Return the beta of what remains of a basket at each time.

        Parameters
        ----------
        remaining
            Times × lines: signed value still held or still to trade [currency].

        Returns
        -------
        DataFrame
            ``exposure`` ΣβQ_t and its ``se`` [currency]; ``beta`` = exposure over Σ|Q_t|, NaN where nothing remains;
            ``static``, the exposure that the first composition's beta would give to the gross value that remains.

        Raises
        ------
        InvalidInput
            For values that are not finite.
        DataGap
            For a line without a beta.
        """
        names = check_names(remaining.columns, "remaining")
        missing = [name for name in names if name not in self.beta.index]
        if missing:
            raise DataGap("no beta for a line", field="remaining", value=missing, remedy="estimate it")
        q = remaining.to_numpy(dtype=np.float64)
        if not np.isfinite(q).all() or not len(q):
            raise InvalidInput("is empty or not finite", field="remaining", value=q.shape, remedy="use 0 for nothing")
        beta = self.beta[list(names)].to_numpy(float)
        cov = self.covariance.loc[list(names), list(names)].to_numpy(float)
        exposure, gross = q @ beta, np.abs(q).sum(axis=1)
        safe = np.where(gross > 0.0, gross, np.nan)
        frame = pd.DataFrame({"exposure": exposure}, index=remaining.index)
        frame["se"] = np.sqrt(np.maximum(np.einsum("ti,ij,tj->t", q, cov, q), 0.0))
        frame["beta"] = exposure / safe
        frame["static"] = gross * (exposure[0] / gross[0] if gross[0] > 0.0 else math.nan)
        return frame

    def to_frame(self) -> pd.DataFrame:
        """Return beta, se, r2 and residual_vol, one row per line."""
        parts = {"beta": self.beta, "se": self.se, "r2": self.r2, "residual_vol": self.residual_vol}
        return pd.DataFrame(parts).rename_axis("line")

    def summary(self) -> str:
        """Return method, observations and the table."""
        head = f"betas by {self.method}, {self.count:,.0f} observations"
        return f"{head}\n{self.to_frame().to_string(float_format='{:.4f}'.format)}"


def estimate_betas(
    returns: pd.DataFrame, index: pd.Series[float], *, half_life: float | None = None, demean: bool = True
) -> BetaEstimate:
    """Estimate betas by (weighted) least squares (formulas in the module's text).

    Parameters
    ----------
    returns
        Times (tz-aware) × lines.
    index
        Return of the index on the same times.
    half_life
        Observations after which a weight halves; None: equal weights.
    demean
        Whether an intercept is fitted; over short intervals means are noise and may be left out.

    Returns
    -------
    BetaEstimate

    Raises
    ------
    InvalidInput
        On naive or different times, values that are not finite, an index that does not move, too few observations.
    """
    names = check_names(returns.columns, "returns")
    times = utc_index(returns.index, "returns")
    if not times.equals(utc_index(index.index, "index")):
        raise InvalidInput(
            "its times differ from those of returns",
            field="index",
            value=f"{len(index)} rows against {len(returns)}",
            remedy="reindex it to returns.index",
        )
    y, x = returns.to_numpy(dtype=np.float64), index.to_numpy(dtype=np.float64)
    for field, values in (("returns", y), ("index", x)):
        if not np.isfinite(values).all():
            raise InvalidInput("is not finite", field=field, value="NaN or inf", remedy="drop those rows")
    n = len(x)
    life = math.inf if half_life is None else number(half_life, "half_life", 0.0, above=True)
    w = np.exp2(-(n - 1 - np.arange(n)) / life)
    effective = float(w.sum() ** 2 / (w @ w)) if n else 0.0
    used = 2 if demean else 1
    if effective <= used + 1:
        raise InvalidInput("too few observations", field="returns", value=round(effective, 2), remedy="give more")
    if demean:
        x, y = x - (w @ x) / w.sum(), y - (w @ y) / w.sum()
    sxx = float(w @ x**2)
    if not sxx > 0.0:
        raise InvalidInput("does not move", field="index", value=0.0, remedy="check the index prices")
    beta = (w * x) @ y / sxx
    e = y - np.outer(x, beta)
    correct = effective / (effective - used)
    residual = (e * w[:, None]).T @ e / w.sum() * correct
    if math.isinf(life):
        errors = residual / sxx
    else:
        scores = e * (w * x)[:, None]
        errors = scores.T @ scores / sxx**2 * correct
    total = w @ y**2
    r2 = 1.0 - np.divide(w @ e**2, total, out=np.ones(len(names)), where=total > 0.0)
    label = "least squares" if math.isinf(life) else f"least squares, half-life {life:g}"
    line = list(names)
    return BetaEstimate(
        beta=pd.Series(beta, index=line, name="beta"),
        covariance=pd.DataFrame(errors, index=line, columns=line),
        r2=pd.Series(r2, index=line, name="r2"),
        residual_vol=pd.Series(np.sqrt(np.diag(residual)), index=line, name="residual_vol"),
        residual_covariance=pd.DataFrame(residual, index=line, columns=line),
        index_variance=sxx / float(w.sum()),
        count=effective,
        method=label,
    )


def vasicek(estimate: BetaEstimate, mean: float | None = None, sd: float | None = None) -> BetaEstimate:
    """Shrink betas towards a prior by their errors (Vasicek 1973; formula in the module's text).

    Parameters
    ----------
    estimate
        Unshrunk betas.
    mean, sd
        Prior of the true betas. None: mean of the lines, and the root of the variance of their betas less the mean
        squared error; with errors as large as the spread that is 0, and all betas become the mean.

    Raises
    ------
    InvalidInput
        For a prior that is not finite, a negative sd, or fewer than three lines to take a prior from.
    """
    beta, se2 = estimate.beta.to_numpy(float), np.diag(estimate.covariance.to_numpy(float))
    if (mean is None or sd is None) and len(beta) < 3:
        raise InvalidInput("too few lines for a prior", field="mean", value=len(beta), remedy="give mean and sd")
    centre = float(beta.mean()) if mean is None else number(mean, "mean")
    spread = max(float(beta.var(ddof=1) - se2.mean()), 0.0) if sd is None else number(sd, "sd", 0.0) ** 2
    total = spread + se2
    k = np.divide(spread, total, out=np.ones(len(beta)), where=total > 0.0)
    errors = np.outer(k, k) * estimate.covariance.to_numpy(float) + np.diag((1.0 - k) ** 2 * spread)
    return _shrunk(estimate, k * beta + (1.0 - k) * centre, errors, f"{estimate.method}, Vasicek")


def blume(estimate: BetaEstimate, intercept: float = 1.0 / 3.0, slope: float = 2.0 / 3.0) -> BetaEstimate:
    """Return a + b·β̂ (Blume 1971, 1975).

    The errors are those of the estimate times b; that of a and b, and of what they do not foresee, is not in them.

    Parameters
    ----------
    estimate
        Unshrunk betas.
    intercept, slope
        a and b; from :func:`blume_coefficients`, or by custom 1/3 and 2/3.

    Raises
    ------
    InvalidInput
        For coefficients that are not finite.
    """
    a, b = number(intercept, "intercept"), number(slope, "slope")
    beta = a + b * estimate.beta.to_numpy(float)
    return _shrunk(estimate, beta, b * b * estimate.covariance.to_numpy(float), f"{estimate.method}, Blume")


def blume_coefficients(first: BetaEstimate, second: BetaEstimate) -> tuple[float, float]:
    """Return (a, b) of the regression of later betas on earlier ones over the lines that both have.

    Raises
    ------
    InvalidInput
        For fewer than three common lines, or earlier betas that are all equal.
    """
    both = [name for name in first.beta.index if name in second.beta.index]
    if len(both) < 3:
        raise InvalidInput("too few common lines", field="second", value=both, remedy="estimate the same lines twice")
    x, y = first.beta[both].to_numpy(float), second.beta[both].to_numpy(float)
    if not np.ptp(x) > 0.0:
        raise InvalidInput("all betas are equal", field="first", value=float(x[0]), remedy="use other lines")
    slope = float((x - x.mean()) @ (y - y.mean()) / ((x - x.mean()) @ (x - x.mean())))
    return float(y.mean() - slope * x.mean()), slope


def _shrunk(estimate: BetaEstimate, beta: Any, errors: Any, method: str) -> BetaEstimate:
    line = estimate.beta.index
    return replace(
        estimate,
        beta=pd.Series(beta, index=line, name="beta"),
        covariance=pd.DataFrame(errors, index=line, columns=line),
        method=method,
    )
