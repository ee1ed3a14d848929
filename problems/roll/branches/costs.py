"""What each branch costs: mean, quantiles that never cross, conformal by regime, and the tail beyond the last."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.conformal import ConformalQuantiles
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
    "log_clip",
    "log_clip_depth",
)
_BENT = {
    "log_queue": (-1.0, 0.0, 1.0, 2.0),
    "log_clip": (4.0, 5.5),
    "log_slack": (-0.5, 0.7),
    "log_clip_depth": (-2.0, 0.0),
}


class BranchCosts(Parameters):
    """Costs [currency per spread] of each branch given what is known at the decision.

    For each branch: the quantiles of ``levels`` by one joint program that keeps them from crossing; corrections by
    regime, from sessions that the program has not seen, so that P(C ≤ q_τ) ≥ τ holds for a decision of a new session;
    and a generalised Pareto law of (C − q)/(q − q_50) beyond the last level. The mean is that of the law before the
    corrections, which lean to the dear side where sessions are few.

    Parameters
    ----------
    levels
        Of the quantiles; 0.5 and at least one above it among them.
    ridge
        Of the quantiles' slopes in standard deviations of the drivers, over the mean absolute deviation of the cost.
    calibration_share
        Share of the sessions kept for corrections and tails.
    least
        Fewest decisions of a branch in the fit.
    seed
        Draws the sessions that are kept.

    Attributes
    ----------
    quantiles_
        Branch → :class:`crosswind.optim.tails.QuantileRegression`.
    conformal_
        Branch → :class:`crosswind.optim.tails.ConformalQuantiles` by regime, sessions as clusters.
    tails_, plain_tails_
        Branch → :class:`crosswind.optim.tails.ExcessTail` beyond the last level, corrected and as fitted.
    weak_
        Branches that came on too few sessions for a level: their corrections take every decision for itself.
    """

    quantiles_: dict[str, QuantileRegression]
    conformal_: dict[str, ConformalQuantiles]
    tails_: dict[str, ExcessTail]
    plain_tails_: dict[str, ExcessTail]
    weak_: list[str]

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
        levels = checked_levels(self.levels)
        inside, outside = samples.parted(calibration, self.calibration_share, self.seed)
        self._median, self._floor = levels.index(0.5), 0.0
        self.quantiles_, self.conformal_, self.tails_, self.plain_tails_, self.weak_ = {}, {}, {}, {}, []
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
            self.quantiles_[name] = QuantileRegression(levels, ridge=self.ridge / _spread(mine.cost)).fit(X, mine.cost)
            raw = self.quantiles_[name].predict(_drivers(other))
            scale = self._scale(raw)
            conformal, strict = corrected(levels, raw, other.cost, other.regime, other.day, scale, name)
            self.conformal_[name] = conformal
            if not strict:
                self.weak_.append(name)
            beyond = (other.cost - conformal.predict(raw, other.regime, scale)[:, -1]) / scale
            self.tails_[name] = fit_excess(beyond[beyond > 1e-9])
            beyond = (other.cost - raw[:, -1]) / scale
            self.plain_tails_[name] = fit_excess(beyond[beyond > 1e-9])
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
        mean = self.mean(frame)
        columns: dict[tuple[str, str], Array] = {}
        for name, law in self.laws(frame).items():
            columns[(name, "mean")] = mean[:, BRANCHES.index(name)]
            columns |= {(name, f"q{100 * level:g}"): law.quantile(float(level)) for level in self.levels}
        return pd.DataFrame(columns, index=frame.index)

    def mean(self, x: Any) -> Array:
        """Return E[C | x, branch] (n, 4) [currency per spread]."""
        self._require("tails_")
        X = _drivers(x)
        means = []
        for name in BRANCHES:
            raw, tail = self.quantiles_[name].predict(X), self.plain_tails_[name]
            law = TailedQuantiles(
                np.asarray(self.levels), raw, tail.scale * self._scale(raw), np.full(len(raw), tail.shape)
            )
            means.append(law.mean)
        return np.column_stack(means)

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
            few += ", sessions too few to stand for themselves" if name in self.weak_ else ""
            lines.append(f"{name}: {rows} decisions for corrections{few}; {self.tails_[name].summary()}")
        return "\n".join(lines)


def checked_levels(levels: Any) -> list[float]:
    """Return levels as numbers; the median and one above it are there, since scales and tails are measured by them.

    Raises
    ------
    InvalidInput
        Otherwise.
    """
    found = [float(v) for v in levels]
    if 0.5 not in found or max(found) <= 0.5:
        raise InvalidInput("need 0.5 and one above it", field="levels", value=found, remedy="e.g. (0.5, 0.9)")
    return found


def corrected(
    levels: list[float], raw: Array, y: Array, groups: Any, sessions: Any, scale: Array, name: str
) -> tuple[ConformalQuantiles, bool]:
    """Return conformal corrections over whole sessions; over single rows where the sessions are too few for a level.

    Returns
    -------
    tuple
        The corrections, and whether they stand on whole sessions.

    Raises
    ------
    DataGap
        Where the rows are too few as well.
    """
    made = ConformalQuantiles(levels, fallback="pooled").fit(raw, y, groups, sessions, scale)
    if np.isfinite(made.pool_).all():
        return made, True
    made = ConformalQuantiles(levels, fallback="pooled").fit(raw, y, groups, None, scale)
    if np.isfinite(made.pool_).all():
        return made, False
    need = int(np.ceil(max(levels) / (1.0 - max(levels)) - 1e-9))
    raise DataGap(
        "came too seldom on the sessions of the calibration",
        field=name,
        value=len(y),
        remedy=f"pass more sessions: {need} rows at least, or lower levels",
    )


def _drivers(x: Any) -> Array:
    frame = feature_table(x)
    regime = frame["regime"].to_numpy(dtype=str)
    kinds = (Regime.CROWDED, Regime.BASIS_STRESS, Regime.DEADLINE)
    hinges = [np.maximum(0.0, frame[name].to_numpy() - bend) for name, bends in _BENT.items() for bend in bends]
    # What a cross walks counts as far as the queue has left something to cross.
    unfilled = 1.0 / (1.0 + np.exp(-frame["log_queue"].to_numpy()))
    hinges += [unfilled * frame[name].to_numpy() for name in ("walk", "half_spread", "horizon_move")]
    flags = [(regime == kind.value).astype(np.float64) for kind in kinds]
    return np.column_stack([frame[list(_DRIVERS)].to_numpy(dtype=np.float64), *hinges, *flags])


def _spread(cost: Array) -> float:
    return float(np.abs(cost - np.median(cost)).mean()) or 1.0
