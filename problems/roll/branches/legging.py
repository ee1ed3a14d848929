"""E[cost | legging exposure time] and its tail: what it costs to wait for the second leg."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.checks import finite_array
from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.conformal import ConformalQuantiles
from crosswind.optim.tails.excess import ExcessTail, fit_excess
from crosswind.optim.tails.mixture import TailedQuantiles
from crosswind.optim.tails.quantiles import QuantileRegression
from crosswind.optim.tails.risk import cvar
from crosswind.problems.roll.branches.costs import checked_levels, corrected
from crosswind.problems.roll.branches.model import BranchSamples
from crosswind.solvers.errors import DataGap

__all__ = ["LeggingCost"]

Array = NDArray[np.float64]
_BENDS = (0.25, 0.5, 0.75, 0.95)


class LeggingCost(Parameters):
    """Cost of waiting for the second leg [currency per spread] given how long it took, LET [s].

    With m = σ √LET, σ the leg's volatility known at the decision [currency per √min] and LET in minutes, mean and
    quantiles are linear in m with bends: E[C | LET] = a + b m + Σ_j c_j (m − k_j)⁺, by least squares, the quantiles
    jointly without crossing. Corrections are conformal over whole sessions; beyond the last level the excess in units
    of q − q_50 is generalised Pareto.

    A long exposure is one in which the resting leg was left behind: E[C | LET] is what was paid, given that it took so
    long, and not what waiting longer would cause.

    Parameters
    ----------
    levels
        Of the quantiles; 0.5 and one above it among them.
    calibration_share
        Share of the sessions kept for corrections and the tail.
    edges_s
        Edges of classes of LET [s] in each of which coverage is to hold: each learns its own correction, and the curves
        step there. Empty: one correction.
    least
        Fewest legged decisions in the fit.
    seed
        Draws the sessions that are kept.

    Attributes
    ----------
    mean_
        Coefficients (a, b, c_1, …).
    knots_
        k_j: quantiles of m.
    quantiles_, conformal_, tail_
        As in :class:`~crosswind.problems.roll.branches.costs.BranchCosts`.
    sigma_
        Median σ of the fit: the default of :meth:`predict`.
    bins_
        What the data say, class by class of LET: ``rows``, ``let_s``, ``move`` (mean m), ``mean`` with its standard
        error over sessions, ``q50``, ``q95``, ``cvar95``.
    """

    mean_: Array
    knots_: Array
    quantiles_: QuantileRegression
    conformal_: ConformalQuantiles
    tail_: ExcessTail
    sigma_: float
    bins_: pd.DataFrame

    def __init__(
        self,
        levels: Any = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95),
        calibration_share: float = 0.4,
        edges_s: Any = (),
        least: int = 100,
        seed: int = 0,
    ) -> None:
        self.levels = levels
        self.calibration_share = calibration_share
        self.edges_s = edges_s
        self.least = least
        self.seed = seed

    def fit(self, samples: BranchSamples, calibration: BranchSamples | None = None) -> Self:
        """Fit on the decisions that went through the legs.

        Parameters
        ----------
        samples
            Decisions; those without a LET are left out.
        calibration
            Sessions for corrections and the tail; None: a share of those of ``samples``.

        Raises
        ------
        InvalidInput
            Levels without 0.5 or without one above it, too few sessions to split.
        DataGap
            Fewer than ``least`` legged decisions.
        SolverFailure
            A program without a certificate.
        """
        levels = checked_levels(self.levels)
        inside, outside = samples.parted(calibration, self.calibration_share, self.seed)
        inside, outside = (part.select(np.isfinite(part.let_s)) for part in (inside, outside))
        if len(inside) < self.least or not len(outside):
            raise DataGap(
                "too few decisions went through the legs",
                field="samples",
                value=(len(inside), len(outside)),
                remedy=f"pass more sessions: {self.least} are needed",
            )
        sigma = leg_sigma(inside)
        self.sigma_ = float(np.median(sigma))
        m, y = _move(inside.let_s, sigma), inside.legging.astype(np.float64)
        self.knots_ = np.asarray(np.quantile(m, _BENDS), dtype=np.float64)
        X = self._basis(m)
        D = np.column_stack([np.ones(len(X)), X])
        self.mean_ = np.asarray(np.linalg.lstsq(D, y, rcond=None)[0], dtype=np.float64)
        self.quantiles_ = QuantileRegression(levels).fit(X, y)
        self._median = levels.index(0.5)
        self._floor = 1e-3 * (float(np.abs(y - np.median(y)).mean()) or 1.0)
        raw = self.quantiles_.predict(self._basis(_move(outside.let_s, leg_sigma(outside))))
        scale, classes = self._scale(raw), self._class(outside.let_s)
        y_out = outside.legging.astype(np.float64)
        self.conformal_, _ = corrected(levels, raw, y_out, classes, outside.day, scale, "samples")
        beyond = (y_out - self.conformal_.predict(raw, classes, scale)[:, -1]) / scale
        self.tail_ = fit_excess(beyond[beyond > 1e-9])
        self.bins_ = _bins(inside, m)
        return self

    def _basis(self, m: Array) -> Array:
        return np.column_stack([m, *(np.maximum(0.0, m - knot) for knot in self.knots_)])

    def _scale(self, quantiles: Array) -> Array:
        scale: Array = np.maximum(quantiles[:, -1] - quantiles[:, self._median], self._floor)
        return scale

    def _class(self, let_s: Array) -> NDArray[np.intp]:
        return np.searchsorted(np.asarray(self.edges_s, dtype=np.float64), let_s, side="right")

    def law(self, let_s: Any, sigma: Any = None) -> TailedQuantiles:
        """Return the cost's law at each exposure time.

        Parameters
        ----------
        let_s
            LET [s], ≥ 0 (n,).
        sigma
            σ [currency per √min], ≥ 0, (n,) or one number; None: that of the fit.

        Raises
        ------
        InvalidInput
            Not fitted, negative or missing numbers.
        """
        self._require("tail_")
        let, s = self._inputs(let_s, sigma)
        raw = self.quantiles_.predict(self._basis(_move(let, s)))
        scale = self._scale(raw)
        values = self.conformal_.predict(raw, self._class(let), scale)
        return TailedQuantiles(
            np.asarray(self.levels), values, self.tail_.scale * scale, np.full(len(let), self.tail_.shape)
        )

    def predict(self, let_s: Any, sigma: Any = None) -> pd.DataFrame:
        """Return LET × ``mean``, the levels (``q5`` to ``q95``), ``cvar95`` [currency per spread].

        Raises
        ------
        InvalidInput
            As :meth:`law`.
        """
        law = self.law(let_s, sigma)
        let, s = self._inputs(let_s, sigma)
        X = self._basis(_move(let, s))
        columns = {"mean": self.mean_[0] + X @ self.mean_[1:]}
        columns |= {f"q{100 * level:g}": law.quantile(float(level)) for level in self.levels}
        columns["cvar95"] = law.cvar(0.95)
        return pd.DataFrame(columns, index=pd.Index(let, name="let_s"))

    def _inputs(self, let_s: Any, sigma: Any) -> tuple[Array, Array]:
        let = finite_array("let_s", np.atleast_1d(np.asarray(let_s, dtype=np.float64)), minimum=0.0, ndim=1)
        return let, finite_array("sigma", self.sigma_ if sigma is None else sigma, let.shape, minimum=0.0)

    def summary(self) -> str:
        """Return two lines: the mean's coefficients and costs at three exposure times, the tail."""
        table = self.predict([15.0, 60.0, 180.0])
        shown = "; ".join(
            f"{let:g} s: mean {row['mean']:.1f}, q95 {row['q95']:.1f}, CVaR95 {row['cvar95']:.1f}"
            for let, row in table.iterrows()
        )
        rows = int(self.bins_["rows"].sum())
        return f"second leg, {rows:,} decisions, σ {self.sigma_:.1f} per √min; {shown}\n  {self.tail_.summary()}"

    def plot(self) -> Any:
        """Return E[C | LET] with its quantiles and the data's classes (plotly figure)."""
        from crosswind.problems.roll.branches.plots import plot_legging

        return plot_legging(self)


def leg_sigma(samples: BranchSamples) -> Array:
    """Return σ of the near leg at each decision (n,) [currency per √min]."""
    features = samples.features
    sigma: Array = features["leg_move"].to_numpy() / np.sqrt(np.exp(features["log_max_let"].to_numpy()))
    return sigma


def _move(let_s: Array, sigma: Array) -> Array:
    move: Array = sigma * np.sqrt(let_s / 60.0)
    return move


def _bins(samples: BranchSamples, move: Array) -> pd.DataFrame:
    edges = np.array([0.0, 7.5, 12.5, 17.5, 25.0, 35.0, 50.0, 75.0, 105.0, 150.0, 225.0, np.inf])
    where = np.searchsorted(edges, samples.let_s, side="right")
    rows = []
    for b in np.unique(where):
        inside = where == b
        y = samples.legging[inside]
        mean = float(y.mean())
        by_day = pd.Series(y - mean).groupby(samples.day[inside]).sum().to_numpy()
        error = float(np.sqrt(by_day @ by_day)) / len(y)
        q50, q95 = np.quantile(y, [0.5, 0.95])
        let = float(samples.let_s[inside].mean())
        rows.append((len(y), let, float(move[inside].mean()), mean, error, q50, q95, cvar(y, 0.95)))
    return pd.DataFrame(rows, columns=["rows", "let_s", "move", "mean", "error", "q50", "q95", "cvar95"])
