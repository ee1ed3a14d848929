"""What each branch costs: mean, quantiles that never cross, conformal by regime, and the tail beyond the last."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.tails.conformal import ConformalQuantiles
from crosswind.optim.tails.estimator import Estimator
from crosswind.optim.tails.excess import ExcessTail, fit_excess
from crosswind.optim.tails.mixture import TailedQuantiles
from crosswind.optim.tails.quantiles import QuantileRegression
from crosswind.problems.roll.branches.model import BRANCHES, BranchSamples
from crosswind.problems.roll.branches.probability import feature_table
from crosswind.problems.roll.model import Regime
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["BranchCosts"]

Array = NDArray[np.float64]
_DRIVERS = (
    "half_spread",
    "spread_move",
    "horizon_move",
    "leg_move",
    "walk",
    "leg_walk",
    "bdz",
    "imbalance",
    "flow_tilt",
    "mean_width",
    "log_queue",
    "log_slack",
    "log_clip_depth",
)


class BranchCosts(Estimator):
    """Costs [currency per spread] of each branch given what is known at the decision.

    For each branch: the mean by least squares; the quantiles of ``levels`` by one joint linear program that keeps them
    from crossing; corrections by regime, from sessions that the program has not seen, so that P(C ≤ q_τ) ≥ τ holds for
    a decision of a new session; and a generalised Pareto law of (C − q)/(q − q_50) beyond the last level.

    Parameters
    ----------
    levels
        Of the quantiles; 0.5 and at least one above it among them.
    ridge
        Of mean and quantiles, in standard deviations of the drivers, over the mean absolute deviation of the cost.
    calibration_share
        Share of the sessions kept for corrections and tails.
    least
        Fewest decisions of a branch in the fit.
    seed
        Draws the sessions that are kept.

    Attributes
    ----------
    mean_
        Branch → coefficients of the mean, intercept first.
    quantiles_
        Branch → :class:`crosswind.optim.tails.QuantileRegression`.
    conformal_
        Branch → :class:`crosswind.optim.tails.ConformalQuantiles` by regime, sessions as clusters.
    tails_
        Branch → :class:`crosswind.optim.tails.ExcessTail`.
    """

    mean_: dict[str, Array]
    quantiles_: dict[str, QuantileRegression]
    conformal_: dict[str, ConformalQuantiles]
    tails_: dict[str, ExcessTail]

    def __init__(
        self,
        levels: Any = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95),
        ridge: float = 1e-4,
        calibration_share: float = 0.4,
        least: int = 50,
        seed: int = 0,
    ) -> None:
        self.levels = levels
        self.ridge = ridge
        self.calibration_share = calibration_share
        self.least = least
        self.seed = seed

    def fit(self, samples: BranchSamples, calibration: BranchSamples | None = None) -> Self:
        """Fit all branches.

        Parameters
        ----------
        samples
            Decisions with branches and costs.
        calibration
            Sessions for corrections and tails; None: a share of those of ``samples``.

        Raises
        ------
        InvalidInput
            Levels without 0.5 or without one above it, too few sessions to split.
        DataGap
            A branch that came less than ``least`` times.
        SolverFailure
            A program without a certificate.
        """
        levels = [float(v) for v in self.levels]
        if 0.5 not in levels or max(levels) <= 0.5:
            raise InvalidInput("need 0.5 and one above it", field="levels", value=levels, remedy="e.g. (0.5, 0.9)")
        inside, outside = samples, calibration
        if outside is None:
            outside, inside = samples.split(self.calibration_share, self.seed)
        self._median, self._floor = levels.index(0.5), 0.0
        self.mean_, self.quantiles_, self.conformal_, self.tails_ = {}, {}, {}, {}
        money = inside.features["half_spread"].to_numpy()
        self._floor = 0.5 * float(money.min())  # a quarter of a tick's money: no scale below it
        for k, name in enumerate(BRANCHES):
            mine, other = inside.select(inside.branch == k), outside.select(outside.branch == k)
            if len(mine) < self.least or len(other) < 1:
                raise DataGap(
                    "came too seldom",
                    field=name,
                    value=(len(mine), len(other)),
                    remedy=f"pass more sessions: {self.least} decisions of each branch are needed",
                )
            X = _drivers(mine)
            self.mean_[name] = _least_squares(X, mine.cost, self.ridge)
            self.quantiles_[name] = QuantileRegression(levels, ridge=self.ridge / _spread(mine.cost)).fit(X, mine.cost)
            raw = self.quantiles_[name].predict(_drivers(other))
            scale = self._scale(raw)
            conformal = ConformalQuantiles(levels, fallback="pooled")
            conformal.fit(raw, other.cost, other.regime, clusters=other.day, scale=scale)
            self.conformal_[name] = conformal
            last = conformal.predict(raw, other.regime, scale)[:, -1]
            finite = np.isfinite(last)
            beyond = ((other.cost - last) / scale)[finite]
            self.tails_[name] = fit_excess(beyond[beyond > 1e-9])
        return self

    def _scale(self, quantiles: Array) -> Array:
        scale: Array = np.maximum(quantiles[:, -1] - quantiles[:, self._median], self._floor)
        return scale

    def predict(self, x: Any) -> pd.DataFrame:
        """Return (branch, "mean" or level) → cost [currency per spread], one row for each decision.

        Raises
        ------
        InvalidInput
            Not fitted, or features that are missing or not finite.
        """
        self._require("tails_")
        frame = feature_table(x)
        X = _drivers(frame)
        columns: dict[tuple[str, str], Array] = {}
        for name, law in self.laws(frame).items():
            beta = self.mean_[name]
            columns[(name, "mean")] = beta[0] + X @ beta[1:]
            columns |= {(name, f"q{100 * level:g}"): law.quantile(float(level)) for level in self.levels}
        return pd.DataFrame(columns, index=frame.index)

    def mean(self, x: Any) -> Array:
        """Return E[C | x, branch] (n, 4) [currency per spread]."""
        self._require("tails_")
        X = _drivers(feature_table(x))
        return np.column_stack([self.mean_[name][0] + X @ self.mean_[name][1:] for name in BRANCHES])

    def laws(self, x: Any) -> dict[str, TailedQuantiles]:
        """Return each branch's law: corrected quantiles with the tail beyond the last.

        Raises
        ------
        InvalidInput
            Not fitted, or features that are missing or not finite.
        """
        self._require("tails_")
        frame = feature_table(x)
        X, regime = _drivers(frame), frame["regime"].to_numpy(dtype=str)
        out = {}
        for name in BRANCHES:
            raw = self.quantiles_[name].predict(X)
            scale = self._scale(raw)
            values = self.conformal_[name].predict(raw, regime, scale)
            values = np.where(np.isfinite(values), values, raw + 3.0 * scale[:, None])
            tail = self.tails_[name]
            out[name] = TailedQuantiles(np.asarray(self.levels), values, tail.scale * scale, np.asarray(tail.shape))
        return out

    def summary(self) -> str:
        """Return a line for each branch: rows, drivers' program, tail."""
        self._require("tails_")
        lines = []
        for name in BRANCHES:
            rows = int(self.conformal_[name].rows_.sum())
            pooled = self.conformal_[name].pooled_
            few = f", pooled in {', '.join(map(str, pooled))}" if pooled else ""
            lines.append(f"{name}: {rows} decisions for corrections{few}; {self.tails_[name].summary()}")
        return "\n".join(lines)


def _drivers(x: Any) -> Array:
    frame = feature_table(x)
    regime = frame["regime"].to_numpy(dtype=str)
    kinds = (Regime.CROWDED, Regime.BASIS_STRESS, Regime.DEADLINE)
    flags = [(regime == kind.value).astype(np.float64) for kind in kinds]
    return np.column_stack([frame[list(_DRIVERS)].to_numpy(dtype=np.float64), *flags])


def _spread(cost: Array) -> float:
    return float(np.abs(cost - np.median(cost)).mean()) or 1.0


def _least_squares(X: Array, y: Array, ridge: float) -> Array:
    centre, scale = X.mean(axis=0), X.std(axis=0)
    used = scale > 1e-12
    Z = (X[:, used] - centre[used]) / scale[used]
    gram = Z.T @ Z / len(y) + ridge * np.eye(int(used.sum()))
    beta = np.zeros(X.shape[1])
    beta[used] = np.linalg.solve(gram, Z.T @ (y - y.mean()) / len(y)) / scale[used]
    return np.append(y.mean() - beta @ centre, beta)
