"""What every impact estimator has in common: parameters, the pass over the data, prediction, scores."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.problems.impact.features import Dictionary, aligned, make_dictionary, session_rows
from crosswind.problems.impact.gram import FoldGrams, factor_loadings, residual_returns
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.sample import Sample, join_sessions
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.factors import Defactor, FittedStage
    from crosswind.problems.impact.moments import ImpactMoments
    from crosswind.problems.market import MarketEvents

__all__ = ["ImpactEstimator"]

Array = NDArray[np.float64]


class ImpactEstimator(Parameters, ABC):
    """Fit, predict and score; a concrete estimator says only how moments become matrices.

    Follows scikit-learn's conventions without depending on it: ``__init__`` stores its arguments untouched, learned
    attributes end in an underscore, `get_params` reads the signature, so that ``sklearn.base.clone`` works. `fit`,
    `predict` and the scores take whole events or a list of sessions (`by_session`): the latter is what
    ``cross_val_score`` and ``GridSearchCV`` split, e.g. by ``TimeSeriesSplit``. Splits are whole sessions, and the
    regressors start from rest in each, so nothing leaks across a boundary.

    Attributes
    ----------
    model_
        The fitted `ImpactModel`.
    kernel_
        Its decay kernel, h [s] → G_h.
    names_, rows_, seconds_
        Names, number of buckets used, wall-clock seconds of the fit.
    loadings_
        Factor loadings (N, F) of stage one, a DataFrame, or None where the returns were taken as they are.
    stage_
        The fitted first stage where ``defactor`` is a `Defactor` or the fit was from moments; else None.
    """

    kernel: Any
    half_lives_s: Any
    lags: Any
    defactor: bool | Defactor
    _folds: ClassVar[int] = 0

    model_: ImpactModel
    names_: tuple[str, ...]
    rows_: int
    seconds_: float
    loadings_: pd.DataFrame | None
    stage_: FittedStage | None = None
    grams_: FoldGrams

    def __sklearn_tags__(self) -> Any:
        """Say to scikit-learn what this is; called by nobody else."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), input_tags=InputTags(two_d_array=False)
        )

    def __repr__(self) -> str:
        defaults = {n: p.default for n, p in inspect.signature(type(self).__init__).parameters.items()}
        shown = []
        for name, value in self.get_params().items():
            if isinstance(value, (pd.Series, pd.DataFrame, ImpactModel)):
                shown.append(f"{name}=<{type(value).__name__}>")
            elif value is not defaults[name] and value != defaults[name]:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    # -- fit ------------------------------------------------------------------------------------------------------
    @abstractmethod
    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        """Return the matrices (M, N, N) [return per currency] from the moments."""

    def _rows_needed(self, names: int, shapes: int) -> int:
        """Return the smallest number of rows that identifies the estimate."""
        return max(10, 2 * shapes)

    def _fold_count(self) -> int:
        return 0

    def _needs_rows(self) -> list[str]:
        """Return the options for which moments are not enough: they pass over the rows again."""
        return []

    def _dictionary(self, bucket_s: float, longest_session_s: float | None) -> Dictionary:
        """Return the decay shapes to start from; the session's length is unknown where only moments are left."""
        return make_dictionary(self.kernel, bucket_s, self.half_lives_s, self.lags)

    def _shapes(self, sample: Sample, dictionary: Dictionary) -> Dictionary:
        """Return the decay shapes to fit with, learned from the rows where the estimator does so."""
        return dictionary

    def _moments(self, sample: Sample, dictionary: Dictionary) -> FoldGrams:
        return sample.dictionary_moments(dictionary, self._fold_count())

    def _refine(self, sample: Sample, dictionary: Dictionary, matrices: Array) -> Array:
        """Improve on the fit to the moments by further passes over the rows."""
        return matrices

    def _check_identified(
        self, rows: int, flow: Array, names: tuple[str, ...], shapes: int, moves: Array | None = None
    ) -> None:
        """Refuse too few rows, and names whose flow Σu² or moves Σr² (N,) are zero or beyond floating point."""
        needed = self._rows_needed(len(names), shapes)
        if rows < needed:
            raise DataGap(
                f"too few usable buckets: {needed} are needed",
                field="events",
                value=rows,
                remedy="give more days or shorter buckets, or fit fewer decay shapes",
            )
        self._check_alive(flow, moves, names)

    def _check_alive(self, flow: Array, moves: Array | None, names: tuple[str, ...]) -> None:
        """Refuse names without flow or price moves, by Σu² and Σr² (N,)."""
        for what, field, squares in (("flow", "flow", flow), ("price move", "mid", moves)):
            if squares is None:
                continue
            beyond = ~np.isfinite(squares)
            if beyond.any():
                raise InvalidInput(
                    f"squares of a name's {what}s are beyond floating point",
                    field=f"events.{field}",
                    value=[n for n, b in zip(names, beyond, strict=True) if b],
                    remedy="look for outliers of that name, e.g. with check_events",
                )
            if (squares <= 0).any():
                raise InvalidInput(
                    f"a name has no {what} at all, so nothing identifies its impact",
                    field=f"events.{field}",
                    value=[n for n, s in zip(names, squares, strict=True) if s <= 0],
                    remedy='drop the name with events.select(...), or check_events(events, dead="drop").events',
                )

    def _check_sample(self, sample: Sample, shapes: int) -> None:
        """Refuse rows that do not identify every name's impact."""
        use = sample.use
        with np.errstate(over="ignore"):  # what overflows is refused by name
            flow, raw, left = ((a[use] ** 2).sum(axis=0) for a in (sample.flow, sample.returns, sample.target))
        self._check_identified(int(use.sum()), flow, sample.names, shapes, np.where(left > 0, raw, left))

    def _check_currency(self, currency: str) -> None:
        """Refuse models to shrink to whose impact is per unit of another currency."""
        for field in ("previous", "target"):
            given = getattr(self, field, None)
            if isinstance(given, ImpactModel):
                check_currency(currency, given.currency, f"{field}.currency")

    def _refuse_row_options(self, field: str) -> None:
        needed = self._needs_rows()
        if needed:
            raise InvalidInput(
                "moments are not enough for some options, which pass over the rows again",
                field=field,
                value=needed,
                remedy="fit the events themselves, or leave these options at their defaults",
            )

    def _keep(
        self,
        grams: FoldGrams,
        matrices: Array,
        dictionary: Dictionary,
        names: tuple[str, ...],
        currency: str,
        begun: float,
    ) -> Self:
        """Store the fitted model."""
        rates = dictionary.rates_per_s if dictionary.family == "exponential" else (0.0,)
        if dictionary.family in ("monotone", "convex"):
            rates = (float("nan"),) * dictionary.size
        self.model_ = ImpactModel(
            names,
            np.array(rates),
            matrices,
            dictionary.family,
            dictionary.bucket_s,
            dictionary.lags,
            currency,
            dictionary.transform,
        )
        self.names_, self.rows_, self.grams_ = names, round(grams.total.rows), grams
        self.seconds_ = time.perf_counter() - begun
        return self

    def fit(self, events: MarketEvents | Iterable[MarketEvents], y: None = None) -> Self:
        """Estimate the impact matrices from the events.

        Parameters
        ----------
        events
            Synchronised buckets of signed flow and mid, or a list of sessions. Each session starts from rest. Where
            the events carry factor returns and ``defactor`` is true, returns are first regressed on them (the
            two-stage fit).
        y
            Ignored; scikit-learn passes it.

        Raises
        ------
        DataGap
            Fewer usable buckets than the estimate needs.
        InvalidInput
            Bad parameters, or a name without flow or price moves (nothing identifies its impact: drop the name).
        SolverFailure
            No solver gave an iterate that passes our own certificate.
        """
        begun = time.perf_counter()
        events = join_sessions(events)
        self._check_currency(events.currency)
        names = tuple(str(n) for n in events.names)
        if not isinstance(self.defactor, bool) and not self._needs_rows():
            from crosswind.problems.impact.moments import event_moments

            start = self._dictionary(events.bucket_s, None)
            return self.fit_moments(event_moments(events, start, self._fold_count()))
        sample = self._first_stage(events, names)
        start = self._dictionary(sample.bucket_s, sample.longest_session_s)
        self._check_sample(sample, start.size)
        dictionary = self._shapes(sample, start)
        grams = self._moments(sample, dictionary)
        matrices = self._refine(sample, dictionary, self._estimate(grams, dictionary, names))
        return self._keep(grams, matrices, dictionary, names, events.currency, begun)

    def _first_stage(self, events: MarketEvents, names: tuple[str, ...]) -> Sample:
        """Fit the first stage on all rows and return what it leaves of them.

        Options that pass over the rows again cannot refit a stage in each fold, as `fit_moments` does: there their
        held-out blocks have seen the stage, not the impact, of one another.
        """
        self.stage_, self.loadings_ = None, None
        if not isinstance(self.defactor, bool):
            stage = type(self.defactor)(**self.defactor.get_params()).fit(events).stage_
            self.stage_, self.loadings_ = stage, stage.factor_loadings
            plain = Sample.of(events, names)
            flow = stage.purged_flow(plain.flow, names)
            return replace(plain, flow=flow, target=stage.residual_returns(events, names))
        factors = events.factors
        if not self.defactor or factors is None or factors.shape[1] == 0:
            return Sample.of(events, names)
        loadings = factor_loadings(events, names)
        self.loadings_ = pd.DataFrame(loadings, index=list(names), columns=list(factors.columns))
        return Sample.of(events, names, loadings)

    def fit_moments(self, moments: ImpactMoments) -> Self:
        """Estimate from moments that were summed before, without reading the data again.

        Parameters
        ----------
        moments
            Of a `StreamingGram`, merged or loaded. Folds are groups of its blocks in time; with ``defactor`` the first
            stage is fitted on the training rows of each.

        Raises
        ------
        DataGap
            Fewer usable buckets, or fewer blocks, than the estimate needs.
        InvalidInput
            The moments were summed for other decay shapes than this estimator asks for, or an option needs the rows;
            else as :meth:`fit`.
        SolverFailure
            As :meth:`fit`.
        """
        begun = time.perf_counter()
        self._refuse_row_options("moments")
        self._check_currency(moments.currency)
        dictionary = self._dictionary(moments.bucket_s, None)
        grams, self.stage_ = moments.check_dictionary(dictionary).fold_grams(self._fold_count(), self.defactor)
        self.loadings_ = None if self.stage_ is None else self.stage_.factor_loadings
        names, total = moments.names, grams.total
        left = np.diag(total.rr)
        moves = np.where(left > 0, np.diag(grams.raw_return_cov), left)
        self._check_identified(round(total.rows), np.diag(total.uu), names, dictionary.size, moves)
        return self._keep(grams, self._estimate(grams, dictionary, names), dictionary, names, moments.currency, begun)

    # -- after the fit --------------------------------------------------------------------------------------------
    def _fitted(self) -> ImpactModel:
        if not hasattr(self, "model_"):
            raise InvalidInput("not fitted yet", field=type(self).__name__, remedy="call .fit(events) first")
        return self.model_

    @property
    def kernel_(self) -> Any:
        """Decay kernel of the fitted model, h [s] → G_h (L, N, N) [return per currency]."""
        return self._fitted().kernel

    def _target(self, events: MarketEvents) -> Array:
        model = self._fitted()
        check_currency(events.currency, model.currency)
        if self.stage_ is not None:
            return self.stage_.residual_returns(events, model.names)
        loadings = None if self.loadings_ is None else self.loadings_.to_numpy()
        return residual_returns(events, model.names, loadings)

    def predict(self, events: MarketEvents | Iterable[MarketEvents]) -> pd.DataFrame:
        """Impact part of the return of each bucket, r̂_t = Σ_m K_m z^m_t, from flow up to and including that bucket.

        Returns
        -------
        pd.DataFrame
            (T, N) on the events' index; with a two-stage fit it predicts the factor residual of the return.

        Raises
        ------
        DataGap
            A name of the model is not in the events.
        InvalidInput
            The events' buckets or currency are not those of the fit.
        """
        model = self._fitted()
        events = join_sessions(events)
        dictionary = model.dictionary
        check_bucket(events.bucket_s, model.bucket_s)
        check_currency(events.currency, model.currency)
        flow, _, session = aligned(events, model.names)
        if self.stage_ is not None:
            flow = self.stage_.purged_flow(flow, model.names)
        X = model.matrices.transpose(1, 0, 2).reshape(len(model.names), -1)
        out = np.empty_like(flow)
        for part in session_rows(session):
            out[part] = dictionary.regressors(flow[part]) @ X.T
        return pd.DataFrame(out, index=events.flow.index, columns=list(model.names))

    def score_by_name(self, events: MarketEvents | Iterable[MarketEvents], horizon_s: float | None = None) -> pd.Series:
        """R² by name against the forecast "no impact": 1 − Σ(r − r̂)²/Σ r².

        Parameters
        ----------
        events
            Held-out buckets, in which returns are made factor residuals by the loadings of the fit.
        horizon_s
            Score returns summed over whole horizons of this length within each session; None: single buckets.

        Returns
        -------
        pd.Series
            (N,) without unit; negative where the model is worse than no model, NaN where a name did not move.

        Raises
        ------
        InvalidInput
            The horizon is not a positive multiple of the bucket; buckets or currency other than those of the fit.
        DataGap
            No whole horizon in the events.
        """
        events = join_sessions(events)
        actual, forecast = self._target(events), self.predict(events)
        return r2_by_name(actual, forecast, events, horizon_s)

    def score(self, events: MarketEvents | Iterable[MarketEvents], y: None = None) -> float:
        """Mean of `score_by_name` over all names of the model.

        Raises
        ------
        DataGap
            A name did not move in the events: a mean over the others would be a score of another universe.
        InvalidInput
            As :meth:`score_by_name`.
        """
        return mean_score(self.score_by_name(events))


def check_bucket(given_s: float, fitted_s: float) -> None:
    """Refuse events whose buckets are not those of the fit.

    Raises
    ------
    InvalidInput
        The lengths differ.
    """
    if abs(given_s - fitted_s) > 1e-9 * fitted_s:
        raise InvalidInput(
            "the model was fitted on other buckets",
            field="events.bucket_s",
            value=given_s,
            remedy=f"resample the events to {fitted_s:g} s",
        )


def check_currency(given: str, fitted: str, field: str = "events.currency") -> None:
    """Refuse notionals in another currency than the model's: impact is per unit of it.

    Raises
    ------
    InvalidInput
        The currencies differ.
    """
    if given != fitted:
        there, here = (fitted, given) if field != "events.currency" else (given, fitted)
        raise InvalidInput(
            f"is in another currency than {here}", field=field, value=there, remedy=f"convert the notionals to {here}"
        )


def mean_score(scores: pd.Series) -> float:
    """Mean R² over all names.

    Raises
    ------
    DataGap
        A name has none, since it did not move.
    """
    if scores.isna().any():
        raise DataGap(
            "names whose mid never moves in these events have no R²",
            field="events.mid",
            value=[str(n) for n in scores.index[scores.isna()]],
            remedy="give longer test data, or average score_by_name(events).dropna() over those that moved",
        )
    return float(scores.mean())


def r2_by_name(
    actual: Array, forecast: pd.DataFrame, events: MarketEvents, horizon_s: float | None = None
) -> pd.Series:
    """1 − Σ(r − r̂)²/Σ r² by name, see `ImpactEstimator.score_by_name`.

    Parameters
    ----------
    actual
        Returns (T, N), NaN where undefined.
    forecast
        (T, N), names as columns.
    events
        Supplies sessions and the bucket.
    horizon_s
        Whole horizons to sum over; None: single buckets.
    """
    use = np.isfinite(actual).all(axis=1)
    known, guessed, session = actual[use], forecast.to_numpy()[use], events.session.to_numpy()[use]
    if horizon_s is not None:
        steps = horizon_s / events.bucket_s
        if steps < 1 or abs(steps - round(steps)) > 1e-9 * steps:
            raise InvalidInput("must be a whole number of buckets", field="horizon_s", value=horizon_s)
        known, guessed = (_sums(a, session, round(steps)) for a in (known, guessed))
    if len(known) == 0:
        raise DataGap("no whole horizon to score on", field="events", remedy="give longer data")
    total = (known**2).sum(axis=0)
    error = ((known - guessed) ** 2).sum(axis=0)
    r2 = np.divide(error, total, out=np.full(len(total), np.nan), where=total > 0)
    return pd.Series(1.0 - r2, index=list(forecast.columns), name="r2")


def _sums(values: Array, session: NDArray[Any], steps: int) -> Array:
    """Sum consecutive whole groups of ``steps`` rows in each session; a remainder at its end is left out."""
    groups = []
    for part in session_rows(session):
        whole = (part.stop - part.start) // steps
        block = values[part][: whole * steps]
        groups.append(block.reshape(whole, steps, values.shape[1]).sum(axis=1))
    return np.concatenate(groups) if groups else values[:0]
