"""Ĉ of a decision: mean Σ P·E and the tail of the mixture of its branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.mixture import Mixture, TailedQuantiles
from crosswind.problems.market.shown import Shown
from crosswind.problems.roll.branches.costs import BranchCosts
from crosswind.problems.roll.branches.model import BRANCHES, BranchSamples
from crosswind.problems.roll.branches.probability import BranchModel, feature_table

__all__ = ["BranchForecast", "BranchForecaster"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class BranchForecast(Shown):
    """What n decisions are expected to cost [currency per spread], positive: money lost.

    Parameters
    ----------
    probabilities
        (n × 4), rows summing to 1.
    means
        E[C | x, branch] (n × 4).
    mean
        Ĉ = Σ_b P_b E_b (n,).
    q50, q90, q95, cvar95
        Of the mixture Σ_b P_b F_b (n,).
    naive_q95
        Σ_b P_b q95_b (n,): what adding quantiles would give. It is no quantile of anything and is here to be compared.
    branch_q95
        q95 of each branch (n × 4).
    """

    probabilities: pd.DataFrame
    means: pd.DataFrame
    mean: Array
    q50: Array
    q90: Array
    q95: Array
    cvar95: Array
    naive_q95: Array
    branch_q95: pd.DataFrame

    def __len__(self) -> int:
        return len(self.mean)

    def to_frame(self) -> pd.DataFrame:
        """Return decisions × probabilities, ``mean``, ``q50``, ``q90``, ``q95``, ``cvar95``."""
        frame = self.probabilities.copy()
        for name in ("mean", "q50", "q90", "q95", "cvar95"):
            frame[name] = getattr(self, name)
        return frame

    def summary(self) -> str:
        """Return the first decision: cost and tail in a line, then a line for each branch."""
        lines = [
            f"Ĉ {self.mean[0]:.2f}, q50 {self.q50[0]:.2f}, q95 {self.q95[0]:.2f}, CVaR95 {self.cvar95[0]:.2f} a spread"
            + (f" (first of {len(self):,} decisions)" if len(self) > 1 else "")
        ]
        for name in BRANCHES:
            lines.append(
                f"  {name}: P {self.probabilities[name].iloc[0]:.1%}, mean {self.means[name].iloc[0]:.2f}, "
                f"q95 {self.branch_q95[name].iloc[0]:.2f}"
            )
        return "\n".join(lines)

    def plot(self, row: int = 0) -> Any:
        """Return probabilities and costs of the branches of one decision, with the mixture (plotly figure)."""
        from crosswind.problems.roll.branches.plots import plot_forecast

        return plot_forecast(self, row)


class BranchForecaster(Parameters):
    """Branch probabilities and costs in one, fitted on the same sessions.

    Parameters
    ----------
    model
        :class:`BranchModel`; None: one with its defaults.
    costs
        :class:`BranchCosts`; None: one with its defaults.
    calibration_share
        Share of the sessions on which the costs' corrections and tails are learnt.
    seed
        Draws them.

    Attributes
    ----------
    model_, costs_
        The fitted parts.
    """

    model_: BranchModel
    costs_: BranchCosts

    def __init__(
        self,
        model: BranchModel | None = None,
        costs: BranchCosts | None = None,
        calibration_share: float = 0.35,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.costs = costs
        self.calibration_share = calibration_share
        self.seed = seed

    def fit(self, samples: BranchSamples) -> Self:
        """Fit both parts.

        Raises
        ------
        InvalidInput, DataGap, SolverFailure
            As :meth:`BranchModel.fit` and :meth:`BranchCosts.fit` do.
        """
        outside, inside = samples.split(self.calibration_share, self.seed)  # refuses too few before any work
        model = BranchModel() if self.model is None else BranchModel(**self.model.get_params())
        costs = BranchCosts() if self.costs is None else BranchCosts(**self.costs.get_params())
        self.model_ = model.fit(samples)
        self.costs_ = costs.fit(inside, outside)
        return self

    def mixture(self, x: Any) -> Mixture:
        """Return the cost's law of each decision.

        Raises
        ------
        InvalidInput
            Not fitted, or features that are missing or not finite.
        """
        self._require("costs_")
        frame = feature_table(x)
        laws: dict[str, TailedQuantiles] = self.costs_.laws(frame)
        return Mixture(self.model_.predict(frame).to_numpy(), [laws[name] for name in BRANCHES])

    def predict(self, x: Any) -> BranchForecast:
        """Return the forecast of decisions.

        Parameters
        ----------
        x
            Features, as of :func:`branch_features`, or samples.

        Raises
        ------
        InvalidInput
            Not fitted, or features that are missing or not finite.
        """
        self._require("costs_")
        frame = feature_table(x)
        mixture = self.mixture(frame)
        P, means = mixture.weights, self.costs_.mean(frame)
        each = np.column_stack([law.quantile(0.95) for law in mixture.parts])
        names = list(BRANCHES)
        return BranchForecast(
            probabilities=pd.DataFrame(P, frame.index, names),
            means=pd.DataFrame(means, frame.index, names),
            mean=(P * means).sum(axis=1),
            q50=mixture.quantile(0.5),
            q90=mixture.quantile(0.9),
            q95=mixture.quantile(0.95),
            cvar95=mixture.cvar(0.95),
            naive_q95=(P * each).sum(axis=1),
            branch_q95=pd.DataFrame(each, frame.index, names),
        )
