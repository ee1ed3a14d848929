"""Flow by venue: how much a unit traded on each venue says, in one kernel for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.estimator import check_bucket, check_currency, mean_score, r2_by_name
from crosswind.problems.impact.families.alternating import alternate, collapse_folds
from crosswind.problems.impact.families.venue_events import VenueEvents, join_venues
from crosswind.problems.impact.features import aligned, session_rows
from crosswind.problems.impact.gram import residual_returns
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput

__all__ = ["VenueImpact"]

Array = NDArray[np.float64]


class VenueImpact:
    """Cross-impact of flow that counts by venue: u_t = Σ_v θ_v u^v_t, one kernel, θ ≥ 0 fitted with it.

    r_t = Σ_m K_m z^m_t + ε_t with z^m filtered over the weighted flow; K_1..K_M under every constraint and penalty of
    the estimator given. θ is normalised by Σ_v share_v θ_v = 1, share_v the venue's share of Σ|flow|: θ = 1 for all is
    the consolidated fit, and θ_v = 2 says that a unit on venue v moves prices as two consolidated units do. Alternates
    two exact half-steps, the joint fit of K and a quadratic program on the simplex {share_v θ_v}, from θ = 1;
    ``history_`` never rises.

    Why not a kernel per venue: V kernels have V·M·N(N+1)/2 free numbers, and most venues trade most names thinly;
    V − 1 weights are told by all names and buckets together. And a kernel per venue offers more round trips, see the
    notes.

    Parameters
    ----------
    estimator
        A `CrossImpact` with the options for K; None: its defaults. Options that read the rows again (Huber loss, power
        flow, half-lives in words) are refused. It is not changed by the fit.
    limit, tol
        Most full steps of the alternation, and the relative decrease that ends it.

    Attributes
    ----------
    weights_, shares_
        θ, and the share of each venue in Σ|flow| of the fit: Series by venue.
    history_, converged_
        Objective after each half-step; whether the alternation ended by itself.
    estimator_
        The estimator that holds the fit of K given θ: ridge, certificate, repair, violations.
    model_
        Its `ImpactModel`, of weighted flow.

    Notes
    -----
    θ describes the market's flow. A trader who picks venues could buy where flow counts much and sell where it counts
    little: the cost (Σ_v u^v)'K(Σ_v θ_v u^v) is indefinite in (u^a, u^b) whenever θ_a ≠ θ_b, since the determinant of
    [[θ_a, (θ_a+θ_b)/2], [(θ_a+θ_b)/2, θ_b]] is −(θ_a − θ_b)²/4. So ``model_`` serves a schedule whose trades are split
    over the venues in fixed proportions, see `at_mix`; it is no licence to choose venues by θ.
    """

    def __init__(self, estimator: CrossImpact | None = None, limit: int = 100, tol: float = 1e-8) -> None:
        self.estimator = estimator
        self.limit = limit
        self.tol = tol

    def __repr__(self) -> str:
        shown = [] if self.estimator is None else [repr(self.estimator)]
        shown += [f"limit={self.limit!r}"] * (self.limit != 100) + [f"tol={self.tol!r}"] * (self.tol != 1e-8)
        return f"VenueImpact({', '.join(shown)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments; with ``deep`` those of the estimator too, as ``estimator__ridge``."""
        out: dict[str, Any] = {"estimator": self.estimator, "limit": self.limit, "tol": self.tol}
        if deep and self.estimator is not None:
            out |= {f"estimator__{name}": value for name, value in self.estimator.get_params().items()}
        return out

    def set_params(self, **params: Any) -> Self:
        """Set arguments, those of the estimator as ``estimator__ridge``, and return self.

        Raises
        ------
        InvalidInput
            Unknown parameter.
        """
        for name, value in params.items():
            head, _, tail = name.partition("__")
            if tail and head == "estimator":
                self.estimator = CrossImpact() if self.estimator is None else self.estimator
                self.estimator.set_params(**{tail: value})
            elif name in ("estimator", "limit", "tol"):
                setattr(self, name, value)
            else:
                raise InvalidInput("unknown parameter", field=name, remedy="use estimator, limit, tol, estimator__…")
        return self

    def __sklearn_tags__(self) -> Any:
        """Say to scikit-learn what this is; called by nobody else."""
        return CrossImpact().__sklearn_tags__()

    def fit(self, events: VenueEvents | Iterable[VenueEvents], y: None = None) -> Self:
        """Estimate K_1..K_M and θ.

        Parameters
        ----------
        events
            Flow by venue, or a list of its sessions.
        y
            Ignored; scikit-learn passes it.

        Raises
        ------
        InvalidInput
            A venue without any flow, an option that reads the rows again; else as `CrossImpact.fit`.
        DataGap, SolverFailure
            As `CrossImpact.fit`.
        """
        begun = time.perf_counter()
        given, inner = join_venues(events), self._inner()
        inner._check_currency(given.events.currency)
        market, venues, share = given.events, given.venues, given.shares()
        names = market.names
        sample = inner._first_stage(market, names)
        dictionary = inner._dictionary(sample.bucket_s, None)
        inner._check_sample(sample, dictionary.size)
        # In units of the venue's share, the weights of the groups lie on the simplex: a_v = share_v θ_v.
        flow = given.stacked(venues) / share.to_numpy()[:, None]
        grams = sample.moments(
            lambda part: np.hstack([dictionary.regressors(flow[part, k]) for k in range(len(venues))]),
            inner._fold_count(),
            dictionary.memory_buckets,
        )
        start = share.to_numpy()
        problem, inner.cv_ = inner._problem(collapse_folds(grams, len(venues), start), dictionary, names)
        found = alternate(grams.total, len(venues), problem, start, int(self.limit), self.tol, inner.solver, inner.tol)
        self.shares_ = share
        self.weights_ = (pd.Series(found.weights, index=list(venues)) / share).rename("weight")
        self.history_, self.converged_ = found.history, found.converged
        matrices = inner._kept(found.fitted, names)
        weighted = collapse_folds(grams, len(venues), found.weights)
        self.estimator_ = inner._keep(weighted, matrices, dictionary, names, market.currency, begun)
        self.model_ = self.estimator_.model_
        return self

    def _inner(self) -> CrossImpact:
        if int(self.limit) != self.limit or self.limit < 1:
            raise InvalidInput("at least one step is needed", field="limit", value=self.limit)
        inner = CrossImpact(**({} if self.estimator is None else self.estimator.get_params()))
        inner._refuse_row_options("estimator")
        if not isinstance(inner.defactor, bool):
            raise InvalidInput("True or False is needed with venues", field="defactor", value=inner.defactor)
        return inner

    def _fitted(self) -> CrossImpact:
        if not hasattr(self, "estimator_"):
            raise InvalidInput("not fitted yet", field=type(self).__name__, remedy="call .fit(events) first")
        return self.estimator_

    def predict(self, events: VenueEvents | Iterable[VenueEvents]) -> pd.DataFrame:
        """Impact part of the return of each bucket, from flow up to and including that bucket, (T, N).

        Raises
        ------
        DataGap
            A name or a venue of the model is not in the events.
        InvalidInput
            The events' buckets or currency are not those of the fit.
        """
        inner, given = self._fitted(), join_venues(events)
        model, market = inner.model_, given.events
        check_bucket(market.bucket_s, model.bucket_s)
        check_currency(market.currency, model.currency)
        _, _, session = aligned(market, model.names)
        where = [market.names.index(n) for n in model.names]
        weights = self.weights_.to_numpy()
        flow = np.einsum("v,tvn->tn", weights, given.stacked(list(self.weights_.index)))[:, where]
        X = model.matrices.transpose(1, 0, 2).reshape(len(model.names), -1)
        out = np.empty_like(flow)
        for part in session_rows(session):
            out[part] = model.dictionary.regressors(flow[part]) @ X.T
        return pd.DataFrame(out, index=market.index, columns=list(model.names))

    def score_by_name(self, events: VenueEvents | Iterable[VenueEvents], horizon_s: float | None = None) -> pd.Series:
        """R² by name against the forecast "no impact", as `ImpactEstimator.score_by_name`."""
        inner, given = self._fitted(), join_venues(events)
        loadings = None if inner.loadings_ is None else inner.loadings_.to_numpy()
        actual = residual_returns(given.events, inner.names_, loadings)
        return r2_by_name(actual, self.predict(given), given.events, horizon_s)

    def score(self, events: VenueEvents | Iterable[VenueEvents], y: None = None) -> float:
        """Mean of `score_by_name` over all names, as `ImpactEstimator.score`."""
        return mean_score(self.score_by_name(events))

    def at_mix(self, proportions: Mapping[str, float]) -> ImpactModel:
        """Return the model of trades split over the venues in fixed proportions π: all matrices times Σ_v π_v θ_v.

        Parameters
        ----------
        proportions
            Venue → π_v ≥ 0, summing to 1; venues left out get 0.

        Raises
        ------
        InvalidInput
            Unknown venues, or proportions that are negative or do not sum to 1.
        """
        inner = self._fitted()
        unknown = [v for v in proportions if v not in self.weights_.index]
        values = np.array(list(proportions.values()), dtype=np.float64)
        if unknown or not np.isfinite(values).all() or (values < 0).any() or abs(values.sum() - 1.0) > 1e-9:
            raise InvalidInput(
                "shares of the venues are needed, ≥ 0 and summing to 1", field="proportions", value=dict(proportions)
            )
        factor = float(values @ self.weights_[list(proportions)].to_numpy())
        return replace(inner.model_, matrices=inner.model_.matrices * factor)

    def constraint_violations(self) -> pd.Series:
        """Worst relative violation of each constraint by the matrices: at rounding level after the repair."""
        return self._fitted().constraint_violations()

    def summary(self) -> str:
        """Return the estimator's summary with the venues' weights."""
        pairs = zip(self.weights_.index, self.weights_, self.shares_, strict=True)
        text = ", ".join(f"{venue} {weight:.3g} ({share:.0%} of flow)" for venue, weight, share in pairs)
        ended = "converged" if self.converged_ else f"stopped at the limit of {self.limit}"
        return f"{self._fitted().summary()}\n  venues           {text}; {len(self.history_) // 2} steps, {ended}"
