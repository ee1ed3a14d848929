"""Temporary and permanent impact of equity orders after Almgren, Thum, Hauptmann and Li."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.problems.impact.laws.least_squares import Estimate, check_varies, gauss_newton, two_sided_quantile
from crosswind.problems.impact.laws.result import LawFit, binned, parameter_table
from crosswind.problems.impact.laws.tables import orders
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["AlmgrenLaw"]

Array = NDArray[np.float64]
_PUBLISHED = {"gamma": 0.314, "alpha": 1.0, "delta": 0.25, "eta": 0.142, "beta": 0.6}


class AlmgrenLaw(Parameters):
    """Permanent and temporary impact of an order of size X, traded evenly over T days of volume time.

    The price moves by I from before the order to well after it, and the order costs J on average:

        I = γ σ T |X/(VT)|^α (Θ/V)^δ + noise,        J − I/2 = η σ |X/(VT)|^β + noise,

    all times sgn X. With α = 1 the first is γ σ (|X|/V)(Θ/V)^δ. Price moves give the noise: with the price after the
    order taken at time P ≥ T from its start, I/σ has variance P and (J − I/2)/σ has T/3 − T/2 + P/4. Both equations
    are fitted by damped Gauss–Newton, each observation weighted by the inverse of that, and intervals by the sandwich.

    Parameters
    ----------
    alpha, delta, beta
        The exponents, each a number or "fit". By default the rounded ones that the paper settles on: 1, 1/4, 3/5.
    confidence
        Of the intervals.

    Attributes
    ----------
    result_
        `LawFit` with "gamma", "alpha", "delta", "eta", "beta"; its R² and curve are those of J.
    permanent_, temporary_
        R² of the two equations by themselves, weighted.

    References
    ----------
    Almgren, Thum, Hauptmann and Li, "Direct estimation of equity market impact", Risk 18 (2005): the model and the
    variances of its residuals. They fit γ = .314, η = .142.
    """

    result_: LawFit
    permanent_: float
    temporary_: float

    def __init__(
        self,
        alpha: float | str = 1.0,
        delta: float | str = 0.25,
        beta: float | str = 0.6,
        confidence: float = 0.95,
    ) -> None:
        self.alpha = alpha
        self.delta = delta
        self.beta = beta
        self.confidence = confidence

    @classmethod
    def published(cls) -> AlmgrenLaw:
        """Return the law with the paper's coefficients and no data behind it: nothing has an interval."""
        law = cls()
        parameters, covariance = parameter_table(dict(_PUBLISHED), [], np.zeros((0, 0)), 0.0)
        nothing = pd.DataFrame({"predicted": [], "observed": [], "stderr": []}, dtype=float)
        law.result_ = LawFit(_FORMULA, parameters, law.confidence, covariance, 0, float("nan"), float("nan"), nothing)
        law.permanent_ = law.temporary_ = float("nan")
        return law

    def _exponents(self) -> dict[str, float | None]:
        out: dict[str, float | None] = {}
        for name, value, low, high in (
            ("alpha", self.alpha, 0.0, 2.0),
            ("delta", self.delta, -2.0, 2.0),
            ("beta", self.beta, 0.0, 2.0),
        ):
            if value == "fit":
                out[name] = None
                continue
            if isinstance(value, str) or not low < float(value) < high:
                raise InvalidInput(f'a number in ({low:g}, {high:g}) or "fit"', field=name, value=value)
            out[name] = float(value)
        return out

    def fit(self, table: pd.DataFrame) -> Self:
        """Fit γ, η and the exponents that are asked for.

        Parameters
        ----------
        table
            One row per order: "size", "sigma", "volume", "duration", "shares_outstanding", "permanent" (I), "cost" (J),
            and "post" (P) where the price after the order was taken later than its end.

        Raises
        ------
        DataGap
            Missing columns or fewer than ten orders.
        InvalidInput
            NaN, numbers out of range, or orders that do not identify an exponent.
        SolverFailure
            No convergence.
        """
        fixed = self._exponents()
        two_sided_quantile(self.confidence)  # refuses a bad confidence before any work
        timed = isinstance(table, pd.DataFrame) and "post" in table.columns
        needed = ["size", "sigma", "volume", "duration", "shares_outstanding", "permanent", "cost"]
        data = orders(table, [*needed, *(["post"] if timed else [])], 10)
        T = data["duration"]
        post = data["post"] if timed else T
        rate = np.log(np.abs(data["size"]) / (data["volume"] * T))
        turn = np.log(data["shares_outstanding"] / data["volume"])
        I, J = data["permanent"] / data["sigma"], data["cost"] / data["sigma"]  # noqa: E741 - the paper's letter
        w_I, w_J = 1.0 / np.sqrt(post), 1.0 / np.sqrt(T / 3.0 - T / 2.0 + post / 4.0)
        first = _power_fit(
            I, w_I, T, {"alpha": rate, "delta": turn}, {k: fixed[k] for k in ("alpha", "delta")}, "gamma", _PUBLISHED
        )
        second = _power_fit(
            J - 0.5 * I, w_J, np.ones_like(T), {"beta": rate}, {"beta": fixed["beta"]}, "eta", _PUBLISHED
        )
        values = {**first[0], **second[0]}
        values = {k: values[k] for k in _PUBLISHED}
        free = [*first[1], *second[1]]
        covariance = np.zeros((len(free), len(free)))
        a = len(first[1])
        covariance[:a, :a], covariance[a:, a:] = first[2].covariance, second[2].covariance
        z = two_sided_quantile(self.confidence, first[2].dof)
        bent = (["gamma"] if len(first[1]) > 1 else []) + (["eta"] if len(second[1]) > 1 else [])
        parameters, named = parameter_table(values, free, covariance, z, positive=bent)
        self.permanent_ = _share(first[2].loss, w_I * I)
        self.temporary_ = _share(second[2].loss, w_J * (J - 0.5 * I))
        permanent, temporary = _law(values, data)
        realised = 0.5 * permanent + temporary
        w = 1.0 / (data["sigma"] * np.sqrt(T / 3.0))  # J alone has the variance of the mean of a Brownian path
        loss = float(((w * (data["cost"] - realised)) ** 2).sum())
        self.result_ = LawFit(
            law=_FORMULA,
            parameters=parameters,
            confidence=float(self.confidence),
            covariance=named,
            rows=len(T),
            r2=_share(loss, w * data["cost"]),
            noise=float(np.sqrt(loss / len(T))),
            curve=binned(realised, data["cost"]),
        )
        return self

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return "permanent" I, "temporary" J − I/2 and "realised" J by order, as returns; positive is money lost."""
        result: LawFit = self._require("result_")
        data = orders(table, ["size", "sigma", "volume", "duration", "shares_outstanding"])
        permanent, temporary = _law({k: result[k] for k in _PUBLISHED}, data)
        out = {"permanent": permanent, "temporary": temporary, "realised": 0.5 * permanent + temporary}
        return pd.DataFrame(out, index=table.index)

    def score(self, table: pd.DataFrame) -> float:
        """R² of J against "no impact", each order weighted by 1/(σ² T)."""
        data = orders(table, ["sigma", "duration", "cost"], 1)
        weight = 1.0 / (data["sigma"] * np.sqrt(data["duration"]))
        error = data["cost"] - self.predict(table)["realised"].to_numpy()
        return _share(float(((weight * error) ** 2).sum()), weight * data["cost"])

    def to_impact_model(
        self,
        sigma: Mapping[str, float],
        volume: Mapping[str, float],
        shares_outstanding: Mapping[str, float],
        bucket_s: float = 60.0,
        day_s: float = 23_400.0,
        currency: str = "USD",
    ) -> ImpactModel:
        """Return the diagonal `ImpactModel` of a law with α = β = 1, for schedules.

        The permanent mode has K_ii = γσ(Θ/V)^δ/V. Temporary impact η σ v̂ of the rate v̂ = (u/V)/(Δ/day) costs
        η σ (u/V)(day/Δ) per unit traded in a bucket Δ; a mode that is gone by the next bucket pays half its matrix, so
        that K_ii = 2 η σ (day/Δ)/V, with a decay that leaves e⁻⁴⁰ of it.

        Parameters
        ----------
        sigma, volume, shares_outstanding
            By name; volume and outstanding both in currency.
        bucket_s, day_s
            Bucket of the schedule and trading seconds of a day.
        currency
            Of the model.

        Raises
        ------
        InvalidInput
            An exponent α or β other than 1 (the published law is not linear), negative coefficients.
        """
        from crosswind.problems.impact.laws.convert import diagonal_model, refuse_nonlinear

        result: LawFit = self._require("result_")
        refuse_nonlinear("alpha", result["alpha"])
        refuse_nonlinear("beta", result["beta"])
        permanent, fading = {}, {}
        for name in sigma:
            v = float(volume[name])
            turn = (float(shares_outstanding[name]) / v) ** result["delta"]
            permanent[str(name)] = result["gamma"] * float(sigma[name]) * turn / v
            fading[str(name)] = 2.0 * result["eta"] * float(sigma[name]) * (day_s / bucket_s) / v
        return diagonal_model(permanent, {40.0 / bucket_s: fading}, bucket_s, currency)


_FORMULA = "I = γσT|X/VT|^α(Θ/V)^δ, J − I/2 = ησ|X/VT|^β"


def _law(values: Mapping[str, float], data: Mapping[str, Array]) -> tuple[Array, Array]:
    rate = np.abs(data["size"]) / (data["volume"] * data["duration"])
    turn = (data["shares_outstanding"] / data["volume"]) ** values["delta"]
    permanent = values["gamma"] * data["sigma"] * data["duration"] * rate ** values["alpha"] * turn
    return permanent, values["eta"] * data["sigma"] * rate ** values["beta"]


def _share(loss: float, weighted: Array) -> float:
    total = float((weighted**2).sum())
    return 1.0 - loss / total if total > 0 else float("nan")


def _power_fit(
    y: Array,
    weight: Array,
    factor: Array,
    logs: Mapping[str, Array],
    fixed: Mapping[str, float | None],
    coefficient: str,
    start: Mapping[str, float],
) -> tuple[dict[str, float], list[str], Estimate]:
    """Fit y ≈ c · factor · Π_k exp(e_k log_k) by weighted Gauss–Newton; the logs are centred for the iteration."""
    free = [k for k, v in fixed.items() if v is None]
    for k in free:
        check_varies(logs[k], k, "shares outstanding over volume" if k == "delta" else "the rate of trading")
    centres = {k: float(logs[k].mean()) for k in logs}

    def shape(theta: Array) -> Array:
        exponents = {k: v if v is not None else float(theta[1 + free.index(k)]) for k, v in fixed.items()}
        return np.asarray(factor * np.exp(sum(exponents[k] * (logs[k] - centres[k]) for k in logs)))

    def residuals(theta: Array) -> tuple[Array, Array]:
        g = shape(theta)
        columns = [weight * g, *(weight * theta[0] * g * (logs[k] - centres[k]) for k in free)]
        return weight * (theta[0] * g - y), np.column_stack(columns)

    begin = np.array([0.0, *(start[k] for k in free)])
    g = weight * shape(begin)
    begin[0] = float(g @ (weight * y) / (g @ g))
    if free and not begin[0] > 0:
        raise InvalidInput(
            "larger orders do not move the price more, so that no exponent is identified",
            field=coefficient,
            value=float(begin[0]),
            remedy="check the sign (a positive cost is money lost), give more orders, or fix the exponents",
        )
    names = [coefficient, *free]
    found = gauss_newton(residuals, begin.tolist(), names)
    exponents = {k: v if v is not None else float(found.theta[1 + free.index(k)]) for k, v in fixed.items()}
    back = float(np.exp(-sum(exponents[k] * centres[k] for k in logs)))
    value = float(found.theta[0]) * back
    change = np.eye(len(names))
    change[0, 0] = back
    for j, k in enumerate(free, start=1):
        change[0, j] = -centres[k] * value
    covariance = change @ found.covariance @ change.T
    estimate = replace(found, covariance=covariance)
    return {coefficient: value, **exponents}, names, estimate
