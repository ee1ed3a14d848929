"""The single-name propagator: how the impact of a trade fades, name by name, from flow and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.problems.impact.features import aligned, make_dictionary
from crosswind.problems.impact.gram import factor_loadings, residual_returns
from crosswind.problems.impact.laws.convert import refuse_nonlinear
from crosswind.problems.impact.laws.decays import concave, filtered
from crosswind.problems.impact.laws.least_squares import two_sided_quantile
from crosswind.problems.impact.laws.propagator_fit import (
    Rows,
    free_fit,
    nonnegative_fit,
    power_fit,
    power_on_response,
    shaped_response,
    shapes_on_response,
)
from crosswind.problems.impact.laws.propagator_result import PropagatorFit, decay_shapes
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.market.checks import check_positive
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["PropagatorLaw"]

Array = NDArray[np.float64]
_DECAYS = ("power", "exponential", "convex", "free")


class PropagatorLaw(Parameters):
    """r_t = Σ_{τ ≤ t} [G(t−τ) − G(t−τ−1)] f(u_τ) + ε_t for each name by itself; every session starts from rest.

    Parameters
    ----------
    decay
        "power": G = c (1 + h/t₀)^(−γ); "exponential": Σ_m w_m e^{−β_m h}, w ≥ 0; "convex": any nonnegative, decreasing,
        convex G with corners at ``lags``; "free": G at lags 0 … max(lags), without a shape. The first three never
        admit a paying round trip while impact is linear (c ≥ 0); "free" is for looking.
    method
        "least_squares" on the returns, or "response": invert the response function first, then fit the decay to it.
    concavity
        δ of f(u) = ū sgn(u) |u/ū|^δ; 1 is linear. "fit" with the power law and least squares. Anything but 1 is flagged
        by `PropagatorFit.manipulation` and has no `ImpactModel`.
    scale_s
        t₀ [s] of the power law; None fits it. Data with coarse buckets often do not identify it.
    half_lives_s
        Half-lives [s] of the exponentials, inf for permanent; None: 2, 20 and 200 buckets.
    lags
        Lags [buckets]: corners of "convex"; the largest is where "free" and the response are cut. None: 0, 1, 3, 7, 15,
        31, 63.
    names
        Names to fit; None: all.
    defactor
        Regress returns on the events' factor returns first, where there are any (two-stage fit, as `CrossImpact`).
    resamples
        Block-bootstrap draws of the intervals (not needed by the power law on returns, whose intervals are those of
        the jackknife over the same blocks).
    blocks
        Consecutive blocks of rows.
    confidence, seed
        Of the intervals and of the bootstrap.

    Attributes
    ----------
    fits_
        Name → `PropagatorFit`.
    names_
        The names fitted.
    loadings_
        Factor loadings (N, F) of stage one, a DataFrame, or None where the returns were taken as they are.

    References
    ----------
    Bouchaud, Gefen, Potters and Wyart, "Fluctuations and response in financial markets: the subtle nature of 'random'
    price changes", Quantitative Finance 4 (2004); Gatheral, "No-dynamic-arbitrage and market impact", Quantitative
    Finance 10 (2010).
    """

    fits_: dict[str, PropagatorFit]
    names_: tuple[str, ...]
    loadings_: pd.DataFrame | None

    def __init__(
        self,
        decay: str = "power",
        method: str = "least_squares",
        concavity: float | str = 1.0,
        scale_s: float | None = None,
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        defactor: bool = True,
        resamples: int = 100,
        blocks: int = 40,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.decay = decay
        self.method = method
        self.concavity = concavity
        self.scale_s = scale_s
        self.half_lives_s = half_lives_s
        self.lags = lags
        self.names = names
        self.defactor = defactor
        self.resamples = resamples
        self.blocks = blocks
        self.confidence = confidence
        self.seed = seed

    def _check(self) -> None:
        if self.decay not in _DECAYS:
            raise InvalidInput("unknown decay", field="decay", value=self.decay, remedy=f"one of {', '.join(_DECAYS)}")
        if self.method not in ("least_squares", "response"):
            raise InvalidInput('"least_squares" or "response"', field="method", value=self.method)
        if self.concavity == "fit":
            if self.decay != "power" or self.method != "least_squares":
                raise InvalidInput(
                    "is fitted with the power law and least squares alone", field="concavity", value=self.decay
                )
        elif isinstance(self.concavity, str) or not 0.05 < float(self.concavity) < 2.0:
            raise InvalidInput('a number in (0.05, 2) or "fit"', field="concavity", value=self.concavity)
        if self.scale_s is not None:
            check_positive(self.scale_s, "scale_s")
        for field, least in (("resamples", 2), ("blocks", 4)):
            value = getattr(self, field)
            if isinstance(value, bool) or int(value) != value or value < least:
                raise InvalidInput(f"must be an integer ≥ {least}", field=field, value=value)
        two_sided_quantile(self.confidence)

    def fit(self, events: MarketEvents) -> Self:
        """Fit each name's propagator.

        Raises
        ------
        InvalidInput
            Bad parameters; a decay whose parameters the data do not identify.
        DataGap
            A name is absent, has no flow or no price moves, or too few buckets.
        SolverFailure
            No convergence.
        """
        self._check()
        names = tuple(events.names) if self.names is None else tuple(str(n) for n in self.names)
        flow, _, session = aligned(events, names)
        factors = events.factors
        self.loadings_ = None
        if self.defactor and factors is not None and factors.shape[1] > 0:
            self.loadings_ = pd.DataFrame(factor_loadings(events, names), list(names), list(factors.columns))
        returns = self._target(events, names)
        lags = (0, 1, 3, 7, 15, 31, 63) if self.lags is None else tuple(self.lags)
        corners = make_dictionary("convex", events.bucket_s, None, lags).lags
        fits: dict[str, PropagatorFit] = {}
        for i, name in enumerate(names):
            rows = self._rows(name, flow[:, i], returns[:, i], session, events.bucket_s, max(corners))
            fits[name] = self._fit_one(name, rows, corners, events.currency)
        self.fits_, self.names_ = fits, names
        self.bucket_s_, self.currency_ = float(events.bucket_s), events.currency
        return self

    def _target(self, events: MarketEvents, names: tuple[str, ...]) -> Array:
        return residual_returns(events, names, None if self.loadings_ is None else self.loadings_.to_numpy())

    def _rows(self, name: str, u: Array, r: Array, session: NDArray[Any], bucket_s: float, longest_lag: int) -> Rows:
        use = np.isfinite(r)
        needed = max(10 * self.blocks, 4 * (longest_lag + 1))
        if int(use.sum()) < needed:
            raise DataGap(
                f"too few buckets: {needed} are needed", field=name, value=int(use.sum()), remedy="fewer lags or blocks"
            )
        scale = float(np.sqrt((u**2).mean()))
        if not scale > 0:
            raise DataGap("has no flow at all", field=name, remedy="drop the name")
        if not (r[use] ** 2).sum() > 0:
            raise DataGap("its price never moves", field=name, remedy="drop the name")
        blocks = np.minimum(np.arange(len(u)) * self.blocks // len(u), self.blocks - 1).astype(np.int64)
        return Rows(u, r, session, bucket_s, scale, blocks)

    def _fit_one(self, name: str, rows: Rows, corners: tuple[int, ...], currency: str) -> PropagatorFit:
        delta = None if self.concavity == "fit" else float(self.concavity)
        lags_s = np.arange(max(corners) + 1, dtype=np.float64) * rows.bucket_s
        tail = 0.5 * (1.0 - float(self.confidence))
        knots: tuple[float, ...] = ()
        if self.decay == "power" and self.method == "least_squares":
            values, free, found = power_fit(rows, self.scale_s, delta)
            z = two_sided_quantile(self.confidence, found.dof)
            errors = dict(zip(free, np.sqrt(np.diag(found.covariance)), strict=True))
            ends = {k: (values[k] - z * errors[k], values[k] + z * errors[k]) for k in free}
            if "t0" in ends:  # its logarithm was fitted
                ends["t0"] = (values["t0"] * np.exp(-z * errors["t0"]), values["t0"] * np.exp(z * errors["t0"]))
            table = _table(values, ends, {"c": 1.0 / rows.scale})
            draws = np.random.default_rng(self.seed).multivariate_normal(found.theta, found.covariance, 400)
            at = {k: draws[:, j] for j, k in enumerate(free)}
            # Draws are cut to the range that the fit allows.
            log_t0 = np.log(rows.bucket_s) + np.log(np.array([0.02, 1e4]))
            t0 = np.exp(np.clip(at["t0"], *log_t0)) if "t0" in at else np.full(400, values["t0"])
            gamma = np.clip(at["gamma"], 0.0, 6.0)
            G = at["c"][:, None] * (1.0 + lags_s / t0[:, None]) ** -gamma[:, None] / rows.scale
        elif self.decay == "power":
            solve = power_on_response(lags_s, self.scale_s, rows.bucket_s)
            assert delta is not None
            value, drawn = shaped_response(rows, max(corners), delta, self.resamples, self.seed, solve)
            values = {"c": value[0], "t0": value[1], "gamma": value[2], "delta": delta}
            free = ["c", *(["t0"] if self.scale_s is None else []), "gamma"]
            low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
            ends = {k: (low[j], high[j]) for j, k in enumerate(("c", "t0", "gamma")) if k in free}
            table = _table(values, ends, {"c": 1.0 / rows.scale})
            G = drawn[:, :1] * (1.0 + lags_s / drawn[:, 1:2]) ** -drawn[:, 2:] / rows.scale
        else:
            assert delta is not None
            if self.decay == "free":
                labels = [f"G({h:g} s)" for h in lags_s]
                knots = tuple(lags_s.tolist())
                value, drawn = free_fit(rows, max(corners), delta, self.method == "response", self.resamples, self.seed)
                G = drawn / rows.scale
            else:
                knots, labels = self._knots(rows.bucket_s, corners)
                if self.method == "response":
                    solve = shapes_on_response(decay_shapes(self.decay, lags_s, knots))
                    value, drawn = shaped_response(rows, max(corners), delta, self.resamples, self.seed, solve)
                else:
                    shapes = decay_shapes(self.decay, rows.ages, knots)
                    value, drawn = nonnegative_fit(rows, shapes, delta, self.resamples, self.seed)
                G = drawn @ decay_shapes(self.decay, lags_s, knots).T / rows.scale
            low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
            values = dict(zip([*labels, "delta"], [*value.tolist(), delta], strict=True))
            ends = {k: (low[j], high[j]) for j, k in enumerate(labels)}
            table = _table(values, ends, dict.fromkeys(labels, 1.0 / rows.scale))
        lower, upper = np.quantile(G, [tail, 1.0 - tail], axis=0)
        fit = PropagatorFit(
            name=name,
            decay=self.decay,
            parameters=table,
            knots_s=knots,
            lags_s=lags_s,
            lower=lower,
            upper=upper,
            flow_scale=rows.scale,
            bucket_s=rows.bucket_s,
            rows=int(rows.use.sum()),
            r2=float("nan"),
            confidence=float(self.confidence),
            currency=currency,
        )
        use = rows.use
        error = rows.returns[use] - _forecast(fit, rows.flow, rows.session)[use]
        object.__setattr__(fit, "r2", 1.0 - float(error @ error) / float(rows.returns[use] @ rows.returns[use]))
        return fit

    def _knots(self, bucket_s: float, corners: tuple[int, ...]) -> tuple[tuple[float, ...], list[str]]:
        if self.decay == "convex":
            knots = tuple((lag + 1) * bucket_s for lag in corners)
            return knots, [f"falls to 0 at {k:g} s" for k in knots]
        dictionary = make_dictionary("exponential", bucket_s, self.half_lives_s)
        with np.errstate(divide="ignore"):
            knots = tuple(float(v) for v in np.log(2.0) / np.array(dictionary.rates_per_s))
        return knots, list(dictionary.labels)

    # -- after the fit --------------------------------------------------------------------------------------------
    def predict(self, events: MarketEvents) -> pd.DataFrame:
        """Impact part of each bucket's return (T, N), from flow up to and including that bucket.

        With a two-stage fit it predicts the factor residual of the return.

        Raises
        ------
        InvalidInput
            Other buckets than those of the fit.
        DataGap
            A name is absent.
        """
        fits: dict[str, PropagatorFit] = self._require("fits_")
        if abs(events.bucket_s - self.bucket_s_) > 1e-9 * self.bucket_s_:
            raise InvalidInput(
                "the law was fitted on other buckets",
                field="events.bucket_s",
                value=events.bucket_s,
                remedy=f"resample the events to {self.bucket_s_:g} s",
            )
        flow, _, session = aligned(events, self.names_)
        columns = [_forecast(fits[n], flow[:, i], session) for i, n in enumerate(self.names_)]
        return pd.DataFrame(np.column_stack(columns), index=events.index, columns=list(self.names_))

    def score_by_name(self, events: MarketEvents) -> pd.Series:
        """R² by name against "no impact"; NaN where a name did not move."""
        forecast = self.predict(events).to_numpy()
        actual = self._target(events, self.names_)
        use = np.isfinite(actual)
        error = np.where(use, actual - forecast, 0.0)
        total = (np.where(use, actual, 0.0) ** 2).sum(axis=0)
        r2 = 1.0 - np.divide((error**2).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)
        return pd.Series(r2, index=list(self.names_), name="r2")

    def score(self, events: MarketEvents) -> float:
        """Mean of `score_by_name` over the names that moved."""
        return float(self.score_by_name(events).mean())

    def to_frame(self) -> pd.DataFrame:
        """Return all parameters: rows (name, parameter)."""
        fits: dict[str, PropagatorFit] = self._require("fits_")
        return pd.concat({n: f.parameters for n, f in fits.items()}, names=["name"])

    def summary(self) -> str:
        """Return the summaries of all names."""
        fits: Mapping[str, PropagatorFit] = self._require("fits_")
        return "\n".join(f.summary() for f in fits.values())

    def to_impact_model(self, half_lives_s: Sequence[float] | None = None, horizon_s: float = 23_400.0) -> ImpactModel:
        """Return the `ImpactModel` without cross terms of a linear law, for schedules.

        "exponential" and "convex" carry over exactly. A power law becomes the closest sum of exponentials with
        nonnegative weights up to ``horizon_s``, see `crosswind.optim.kernels.PowerLawKernel.exponential`.

        Parameters
        ----------
        half_lives_s
            Of the exponentials of a power law; None: 12 from half a bucket to the horizon, evenly in logarithm.
        horizon_s
            Largest age that is fitted [s].

        Raises
        ------
        InvalidInput
            δ is not 1, c < 0, or the decay is "free": nothing keeps its round trips from paying.
        """
        from crosswind.optim.kernels import PowerLawKernel

        fits: dict[str, PropagatorFit] = self._require("fits_")
        if self.decay == "free":
            raise InvalidInput(
                "a free decay may pay round trips", field="decay", value="free", remedy='fit decay="convex"'
            )
        for fit in fits.values():
            refuse_nonlinear(f"concavity of {fit.name}", fit.concavity)
        first = next(iter(fits.values()))
        if self.decay == "power":
            horizon = check_positive(horizon_s, "horizon_s")
            lives = np.geomspace(0.5 * self.bucket_s_, horizon, 12) if half_lives_s is None else np.array(half_lives_s)
            weights = np.empty((len(lives), len(fits)))
            for i, fit in enumerate(fits.values()):
                if fit["c"] < 0:
                    raise InvalidInput("impact is negative", field=f"c of {fit.name}", value=fit["c"])
                kernel = PowerLawKernel(fit["gamma"], fit["t0"], np.array([[fit["c"]]]))
                weights[:, i] = kernel.exponential(lives, horizon).matrices[:, 0, 0]
            rates = np.log(2.0) / lives
        else:
            weights = np.column_stack([fit.weights for fit in fits.values()])
            with np.errstate(divide="ignore"):
                rates = np.log(2.0) / np.array(first.knots_s)
        matrices = weights[:, :, None] * np.eye(len(fits))[None]
        if self.decay == "convex":
            lags = tuple(round(k / self.bucket_s_) - 1 for k in first.knots_s)
            unknown = np.full(len(lags), np.nan)
            return ImpactModel(self.names_, unknown, matrices, "convex", self.bucket_s_, lags, self.currency_)
        return ImpactModel(self.names_, rates, matrices, "exponential", self.bucket_s_, (), self.currency_)


def _table(
    values: Mapping[str, float], ends: Mapping[str, tuple[float, float]], units: Mapping[str, float]
) -> pd.DataFrame:
    rows = {}
    for name, value in values.items():
        unit = units.get(name, 1.0)
        low, high = ends.get(name, (np.nan, np.nan))
        rows[name] = {"value": value * unit, "lower": low * unit, "upper": high * unit, "fixed": name not in ends}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _forecast(fit: PropagatorFit, flow: Array, session: NDArray[Any]) -> Array:
    longest = int(pd.Series(session).value_counts().max())
    G = fit.kernel(np.arange(longest, dtype=np.float64) * fit.bucket_s) * fit.flow_scale
    return filtered(concave(flow, fit.flow_scale, fit.concavity), session, G[:, None])[:, 0]
