"""`RegimeScales`: multipliers of a fixed structure by bucket of spread, volatility, depth, imbalance, crowding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.problems.impact.features import aligned, session_rows
from crosswind.problems.impact.gram import residual_returns, split_folds
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.regimes.comparison import ScaleComparison, compare_scales
from crosswind.problems.impact.regimes.model import RegimeModel, bucket_codes
from crosswind.problems.impact.regimes.program import Layout, ScaleMoments, solve_scales
from crosswind.problems.impact.regimes.state import FEATURES, StateNorms, market_state
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["DIRECTIONS", "SHRINK_GRID", "RegimeScales"]

Array = NDArray[np.float64]
SHRINK_GRID: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, float("inf"))
# A wide spread, a volatile market and a thin book make trades dearer; of the other two theory does not say.
DIRECTIONS: Mapping[str, int] = {"spread": 1, "volatility": 1, "depth": -1, "imbalance": 0, "crowding": 0}


class RegimeScales(Parameters):
    """Multipliers of a base model by state of the market, r = s(state) ŷ + ε; the structure K_m stays as it is.

    s = level + Σ_f effect_f[bucket], by constrained least squares on the base's predictions, each name and volatility
    bucket weighted by its own noise; see `crosswind.problems.impact.regimes.program` for the quadratic program.

    Parameters
    ----------
    base
        A fitted impact estimator, or an `ImpactModel`. An estimator that is not fitted is fitted on the same events.
    features
        Any of "spread", "volatility", "depth", "imbalance", "crowding", see `market_state`.
    buckets
        Buckets per feature, ≥ 2, cut at the quantiles of the training state and frozen.
    half_life_s
        Memory of the state [s]; None: ten buckets.
    warmup
        Buckets of a session before the state counts; the multiplier is the level until then.
    bounds
        (lo, hi), lo ≤ 1 ≤ hi: the multiplier stays within in every combination of buckets.
    directions
        Feature → +1 rising, −1 falling, 0 free; None: `DIRECTIONS`.
    shrinkage
        λ ≥ 0 of the pull to 1, or "cv" (default) for the best of ``grid`` on time-blocked, purged folds. The grid
        holds inf: where no scaling predicts better, none is made.
    grid, folds
        Of the cross-validation.
    resamples
        Block-bootstrap draws for the intervals; they are NaN with 0 draws, and where nothing is scaled.
    block_rows
        Rows of a bootstrap block; None: a fortieth of the sample.
    confidence
        Coverage of the intervals.
    seed
        Of the bootstrap.

    Attributes
    ----------
    model_
        The fitted `RegimeModel`.
    base_
        The fitted base.
    shrinkage_
        λ used.
    cv_
        DataFrame, held-out gain in R² over the unscaled base by λ (rows) and fold (columns); None without.
    dropped_
        Features whose state hardly varies in training (one name has no crowding): they have no effect.
    """

    model_: RegimeModel
    base_: Any
    cv_: pd.DataFrame | None

    def __init__(
        self,
        base: Any,
        features: Sequence[str] = FEATURES,
        buckets: int = 5,
        half_life_s: float | None = None,
        warmup: int = 3,
        bounds: tuple[float, float] = (0.25, 4.0),
        directions: Mapping[str, int] | None = None,
        shrinkage: float | str = "cv",
        grid: Sequence[float] = SHRINK_GRID,
        folds: int = 5,
        resamples: int = 100,
        block_rows: int | None = None,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.base = base
        self.features = features
        self.buckets = buckets
        self.half_life_s = half_life_s
        self.warmup = warmup
        self.bounds = bounds
        self.directions = directions
        self.shrinkage = shrinkage
        self.grid = grid
        self.folds = folds
        self.resamples = resamples
        self.block_rows = block_rows
        self.confidence = confidence
        self.seed = seed

    # -- fit ------------------------------------------------------------------------------------------------------
    def fit(self, events: MarketEvents) -> Self:
        """Fit the multipliers; the edges of the buckets and each name's usual levels are frozen with them.

        Raises
        ------
        InvalidInput
            Bad parameters, or buckets other than the base's.
        DataGap
            Too few buckets, a dead name, or a base that predicts nothing.
        SolverFailure
            See `solve_scales`.
        """
        self._check()
        self.base_ = _fitted_base(self.base, events)
        base = _model_of(self.base_)
        norms = StateNorms.of(events, base.names, self.half_life_s, self.warmup)
        state = market_state(events, norms)
        actual, forecast = _pair(self.base_, events)
        use = np.isfinite(actual).all(axis=1)
        rows = int(use.sum())
        needed = 20 * max(self.buckets, self._fold_count())
        if rows < needed:
            raise DataGap(f"too few usable buckets: {needed} are needed", field="events", value=rows)
        if not (forecast[use] ** 2).sum(axis=0).all():
            dead = [n for n, f in zip(base.names, (forecast[use] ** 2).sum(axis=0), strict=True) if not f > 0]
            raise DataGap("the base predicts nothing", field="base", value=dead, remedy="drop these names")
        edges = {f: _edges(state[f].to_numpy()[use], self.buckets) for f in self.features}
        self.dropped_ = tuple(f for f, e in edges.items() if not len(e))
        edges = {f: e for f, e in edges.items() if len(e)}
        signs = {**DIRECTIONS, **(self.directions or {})}
        layout = Layout({f: len(e) + 1 for f, e in edges.items()}, {f: signs[f] for f in edges})
        codes = {f: bucket_codes(state[f].to_numpy()[use], e) for f, e in edges.items()}
        r, y = actual[use], forecast[use]
        noise, weights = _weights(r, y, codes.get("volatility"))
        x = layout.rows(codes, rows)
        a, b = (weights * y**2).sum(axis=1), (weights * r * y).sum(axis=1)
        total = ScaleMoments.of(x, a, b)
        shares = np.diag(total.A) / total.energy
        self.cv_ = None
        purge = int(np.ceil(5.0 * norms.half_life_s / norms.bucket_s))
        if isinstance(self.shrinkage, str):
            power = (weights * r**2).sum(axis=1)
            self.shrinkage_ = self._cross_validate(layout, x, a, b, power, purge, shares)
        else:
            self.shrinkage_ = float(self.shrinkage)
        theta = solve_scales(total, layout, self.shrinkage_, self.bounds, shares)
        low, high = self._interval(layout, x, a, b, shares)
        maps = _stage_maps(self.base_)

        def parts(values: Array) -> dict[str, Array]:
            return {f: values[layout.slice_of(f)] for f in edges}

        self.model_ = RegimeModel(
            base=base,
            norms=norms,
            edges=edges,
            level=float(theta[0]),
            effects=parts(theta),
            lower={"level": low[:1], **parts(low)},
            upper={"level": high[:1], **parts(high)},
            bounds=(float(self.bounds[0]), float(self.bounds[1])),
            shrinkage=self.shrinkage_,
            noise=noise,
            returns_map=maps[0],
            loadings=maps[1],
            flow_map=maps[2],
            confidence=float(self.confidence),
            rows=rows,
        )
        return self

    def _fold_count(self) -> int:
        return int(self.folds) if isinstance(self.shrinkage, str) else 0

    def _check(self) -> None:
        unknown = sorted({*self.features, *(self.directions or {})} - set(FEATURES))
        if unknown or not self.features or len(set(self.features)) < len(self.features):
            raise InvalidInput(
                "unknown, repeated or no feature", field="features", value=unknown or tuple(self.features)
            )
        if any(v not in (-1, 0, 1) for v in (self.directions or {}).values()):
            raise InvalidInput("a direction is −1, 0 or 1", field="directions", value=self.directions)
        if int(self.buckets) != self.buckets or self.buckets < 2:
            raise InvalidInput("must be an integer ≥ 2", field="buckets", value=self.buckets)
        low, high = (float(v) for v in self.bounds)
        if not (0.0 <= low <= 1.0 <= high < np.inf):
            raise InvalidInput("must satisfy 0 ≤ lo ≤ 1 ≤ hi < inf", field="bounds", value=self.bounds)
        if isinstance(self.shrinkage, str):
            if self.shrinkage != "cv":
                raise InvalidInput('a number or "cv"', field="shrinkage", value=self.shrinkage)
            if int(self.folds) != self.folds or self.folds < 2:
                raise InvalidInput("cross-validation needs two blocks or more", field="folds", value=self.folds)
        values = self.grid if isinstance(self.shrinkage, str) else (self.shrinkage,)
        if not len(values) or any(not float(v) >= 0 for v in values):
            raise InvalidInput("shrinkage is a number ≥ 0", field="shrinkage", value=tuple(values))
        if int(self.resamples) != self.resamples or self.resamples < 0:
            raise InvalidInput("must be an integer ≥ 0", field="resamples", value=self.resamples)
        if not 0.0 < self.confidence < 1.0:
            raise InvalidInput("lies in (0, 1)", field="confidence", value=self.confidence)

    def _cross_validate(
        self, layout: Layout, x: Array, a: Array, b: Array, power: Array, purge: int, shares: Array
    ) -> float:
        """Return the λ of the best mean held-out gain; rows beside a block neither train nor test."""
        total = ScaleMoments.of(x, a, b)
        one = np.eye(layout.size)[0]
        table: dict[int, dict[float, float]] = {}
        for fold, (low, start, stop, high) in enumerate(split_folds(len(x), int(self.folds), purge)):
            test = ScaleMoments.of(x[start:stop], a[start:stop], b[start:stop])
            train = total - ScaleMoments.of(x[low:high], a[low:high], b[low:high])
            scale = max(float(power[start:stop].sum()), np.finfo(float).tiny)
            table[fold] = {
                float(v): (test.loss(one) - test.loss(solve_scales(train, layout, float(v), self.bounds, shares)))
                / scale
                for v in self.grid
            }
        self.cv_ = pd.DataFrame(table).rename_axis(index="shrinkage", columns="fold")
        # On a tie the stronger pull: nothing is scaled without a reason.
        mean = self.cv_.mean(axis=1)
        return float(max(v for v in mean.index if mean[v] >= mean.max()))

    def _interval(self, layout: Layout, x: Array, a: Array, b: Array, shares: Array) -> tuple[Array, Array]:
        nothing = np.full(layout.size, np.nan)
        if not self.resamples or np.isinf(self.shrinkage_):  # what is set to 1 is not estimated
            return nothing, nothing
        size = max(1, len(x) // 40) if self.block_rows is None else int(self.block_rows)
        cuts = np.arange(0, len(x), size)
        blocks = [ScaleMoments.of(x[c : c + size], a[c : c + size], b[c : c + size]) for c in cuts]
        A, g = np.stack([m.A for m in blocks]), np.stack([m.g for m in blocks])
        generator = np.random.default_rng(self.seed)
        draws = np.empty((int(self.resamples), layout.size))
        for k in range(len(draws)):
            count = np.bincount(generator.integers(0, len(blocks), len(blocks)), minlength=len(blocks)).astype(float)
            drawn = ScaleMoments(np.tensordot(count, A, axes=1), count @ g)
            draws[k] = solve_scales(drawn, layout, self.shrinkage_, self.bounds, shares)
        tail = 0.5 * (1.0 - float(self.confidence))
        return np.quantile(draws, tail, axis=0), np.quantile(draws, 1.0 - tail, axis=0)

    # -- after the fit --------------------------------------------------------------------------------------------
    def at(self, state: Mapping[str, Any] | pd.Series) -> ImpactModel:
        """Return the impact model of a state, see `RegimeModel.at`."""
        model: RegimeModel = self._require("model_")
        return model.at(state)

    def multipliers(self, events: MarketEvents) -> pd.Series:
        """Return s_t by bucket, each from the buckets before it."""
        model: RegimeModel = self._require("model_")
        return model.multipliers(events)

    def predict(self, events: MarketEvents) -> pd.DataFrame:
        """Return s_t ŷ_t (T, N): the base's prediction times the multiplier known before the bucket."""
        scale = self.multipliers(events).to_numpy()
        _, forecast = _pair(self.base_, events)
        return pd.DataFrame(forecast * scale[:, None], index=events.index, columns=list(self.model_.base.names))

    def score_by_name(self, events: MarketEvents) -> pd.Series:
        """R² by name against "no impact", 1 − Σ(r − s ŷ)²/Σ r²; NaN where a name did not move."""
        actual, _ = _pair(self._require("base_"), events)
        use = np.isfinite(actual).all(axis=1)
        if not use.any():
            raise DataGap("no bucket to score on", field="events", remedy="give longer data")
        error = ((actual - self.predict(events).to_numpy())[use] ** 2).sum(axis=0)
        total = (actual[use] ** 2).sum(axis=0)
        r2 = 1.0 - np.divide(error, total, out=np.full(len(total), np.nan), where=total > 0)
        return pd.Series(r2, index=list(self.model_.base.names), name="r2")

    def score(self, events: MarketEvents) -> float:
        """Mean of `score_by_name` over the names that moved."""
        return float(self.score_by_name(events).mean())

    def compare(self, events: MarketEvents, resamples: int = 500) -> ScaleComparison:
        """Score the scaled model beside the base on held-out events, with an interval of the difference."""
        scale = self.multipliers(events).to_numpy()
        actual, forecast = _pair(self.base_, events)
        use = np.isfinite(actual).all(axis=1)
        if not use.any():
            raise DataGap("no bucket to score on", field="events", remedy="give longer data")
        return compare_scales(
            actual[use], forecast[use], scale[use], self.model_.base.names, resamples, self.confidence, self.seed
        )

    def summary(self) -> str:
        """Return the model's summary and what was dropped."""
        model: RegimeModel = self._require("model_")
        dropped = f"\n  without variation {', '.join(self.dropped_)}" if self.dropped_ else ""
        return model.summary() + dropped


def _model_of(base: Any) -> ImpactModel:
    model = getattr(base, "model_", base)
    assert isinstance(model, ImpactModel)
    return model


def _fitted_base(base: Any, events: MarketEvents) -> Any:
    if isinstance(getattr(base, "model_", base), ImpactModel):
        return base
    if hasattr(base, "fit") and hasattr(base, "get_params") and not isinstance(base, type):
        fitted = type(base)(**base.get_params(deep=False)).fit(events)
        if isinstance(getattr(fitted, "model_", None), ImpactModel):
            return fitted
    raise InvalidInput(
        "is no impact model", field="base", value=type(base).__name__, remedy="pass an ImpactModel or an estimator"
    )


def _pair(base: Any, events: MarketEvents) -> tuple[Array, Array]:
    """Return the returns that the base explains and its predictions, both (T, N)."""
    model = _model_of(base)
    stage, loadings = getattr(base, "stage_", None), getattr(base, "loadings_", None)
    if stage is not None:
        actual = np.asarray(stage.residual_returns(events, model.names), dtype=np.float64)
    else:
        actual = residual_returns(events, model.names, None if loadings is None else np.asarray(loadings))
    if hasattr(base, "predict"):
        return actual, np.asarray(base.predict(events), dtype=np.float64)
    if abs(events.bucket_s - model.bucket_s) > 1e-9 * model.bucket_s:
        raise InvalidInput(
            "the model was fitted on other buckets",
            field="events.bucket_s",
            value=events.bucket_s,
            remedy=f"resample the events to {model.bucket_s:g} s",
        )
    flow, _, session = aligned(events, model.names)
    stacked = model.matrices.transpose(1, 0, 2).reshape(len(model.names), -1)
    out = np.empty_like(flow)
    for part in session_rows(session):
        out[part] = model.dictionary.regressors(flow[part]) @ stacked.T
    return actual, out


def _stage_maps(base: Any) -> tuple[Array | None, Array | None, Array | None]:
    """Return Q, L, P of the base's first stage r̃ = Q r − L f, ũ = P u; None for what it leaves as it is."""
    stage, loadings = getattr(base, "stage_", None), getattr(base, "loadings_", None)
    if stage is not None:
        return stage.Q, stage.L, stage.P
    return None, None if loadings is None else np.asarray(loadings, dtype=np.float64), None


def _edges(values: Array, buckets: int) -> Array:
    """Inner quantiles without repeats; none where the feature hardly varies."""
    seen = values[np.isfinite(values)]
    if len(seen) < 2 * buckets or float(np.ptp(seen)) <= 1e-9 * max(1.0, float(np.abs(seen).max())):
        return np.zeros(0)
    edges = np.unique(np.quantile(seen, np.arange(1, buckets) / buckets))
    return np.asarray(edges[edges > seen.min()])


def _weights(r: Array, y: Array, volatility: NDArray[np.int64] | None) -> tuple[Array, Array]:
    """Return the noise by name (N,) and weights (T, N) = 1/(noise of the name × of the volatility bucket)."""
    square = (r - y) ** 2
    noise = square.mean(axis=0)
    floor = 1e-12 * (r**2).mean(axis=0)  # a base that fits exactly must not divide by zero
    noise = np.maximum(noise, np.maximum(floor, np.finfo(float).tiny))
    by_bucket = np.ones(len(r))
    if volatility is not None:
        relative = (square / noise).mean(axis=1)
        for code in np.unique(volatility):
            rows = volatility == code
            by_bucket[rows] = max(float(relative[rows].mean()), 1e-3)
    return noise, 1.0 / (noise[None, :] * by_bucket[:, None])
