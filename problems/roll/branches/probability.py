"""P(branch | x): a multinomial logistic on a piecewise-linear basis, calibrated on sessions that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.optim.parameters import Parameters
from crosswind.optim.tails.calibration import IsotonicCalibration, TemperatureScaling, VectorScaling
from crosswind.optim.tails.logistic import MultinomialLogistic
from crosswind.optim.tails.scores import BrierScore, Reliability, brier, log_loss, reliability
from crosswind.problems.market.shown import Shown
from crosswind.problems.roll.branches.features import FEATURES
from crosswind.problems.roll.branches.model import BRANCHES, BranchSamples
from crosswind.problems.roll.model import Regime
from crosswind.solvers.errors import InvalidInput

__all__ = ["BranchModel", "BranchScores", "feature_table"]

Array = NDArray[np.float64]
_CALIBRATIONS: dict[str, Any] = {
    "vector": VectorScaling,
    "temperature": TemperatureScaling,
    "isotonic": IsotonicCalibration,
    "none": None,
}
_HINGED = ("log_queue", "log_ahead", "log_clip_depth", "log_slack", "log_timeout", "vol", "flow_tilt")
_MONEY = ("half_spread", "spread_move", "leg_move", "walk", "leg_walk", "horizon_move")


def feature_table(x: Any) -> pd.DataFrame:
    """Return the columns :data:`~crosswind.problems.roll.branches.features.FEATURES` of ``x``, checked.

    Parameters
    ----------
    x
        Samples, or a frame with those columns.

    Raises
    ------
    InvalidInput
        For a column that is missing or not finite, no row, or a regime that is none.
    """
    frame = x.features if isinstance(x, BranchSamples) else x
    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise InvalidInput("is no frame with rows", field="x", value=type(x).__name__, remedy="use branch_features")
    missing = [name for name in FEATURES if name not in frame.columns]
    if missing:
        raise InvalidInput("lacks features", field="x", value=missing, remedy="use branch_features")
    frame = frame[list(FEATURES)]
    numbers = frame.drop(columns="regime").to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        row, column = (int(v) for v in np.argwhere(~np.isfinite(numbers))[0])
        raise InvalidInput(
            f"is not finite in row {row}", field=frame.columns[column], value=numbers[row, column], remedy="repair it"
        )
    known = {regime.value for regime in Regime}
    strange = set(frame["regime"].astype(str)) - known
    if strange:
        raise InvalidInput("is none", field="regime", value=sorted(strange)[0], remedy=f"one of {sorted(known)}")
    return frame


class BranchModel(Parameters):
    """Probabilities of the four branches, from what is known at the decision.

    log P(b | x) is linear in a basis: the features (money replaced by its logarithm), hinges max(0, x − k) at quantiles
    of those that decide, their products with the two flags of the cutoff, and the regimes. The fit is convex; the ridge
    comes from cross-validation over whole sessions. The calibration learns from the probabilities that each session got
    from the fits that left it out.

    Parameters
    ----------
    ridge
        Candidates.
    calibration
        "vector", "temperature", "isotonic" or "none".
    knots
        Hinges of each feature.
    folds
        Of the cross-validation.

    Attributes
    ----------
    logistic_
        :class:`crosswind.optim.tails.MultinomialLogistic`.
    calibration_
        The fitted calibration, or None.
    days_
        Sessions of fit and calibration.
    """

    logistic_: MultinomialLogistic
    calibration_: Any
    days_: NDArray[Any]

    def __init__(
        self,
        ridge: Any = (1e-5, 1e-4, 1e-3),
        calibration: str = "vector",
        knots: int = 4,
        folds: int = 4,
    ) -> None:
        self.ridge = ridge
        self.calibration = calibration
        self.knots = knots
        self.folds = folds

    def fit(self, samples: BranchSamples, calibration: BranchSamples | None = None) -> Self:
        """Fit and calibrate.

        Parameters
        ----------
        samples
            Decisions with their branches.
        calibration
            Other sessions to calibrate on; None: those of ``samples``, each by the fits that left it out.

        Raises
        ------
        InvalidInput
            Unknown calibration, features that are not finite, a single ridge and nothing to calibrate on, less than two
            sessions.
        SolverFailure
            No convergence.
        """
        if self.calibration not in _CALIBRATIONS:
            raise InvalidInput(
                "is unknown", field="calibration", value=self.calibration, remedy=f"one of {list(_CALIBRATIONS)}"
            )
        frame = feature_table(samples)
        names = [name for name in FEATURES if name != "regime"]
        plain = _plain(frame[names])
        at = np.linspace(0.0, 1.0, self.knots + 2)[1:-1]
        self._knots = {name: np.unique(np.quantile(plain[name], at)) for name in _HINGED}
        self.logistic_ = MultinomialLogistic(
            ridge=self.ridge, classes=list(range(len(BRANCHES))), smoothing=1.0, folds=self.folds, tol=1e-7
        ).fit(self._basis(frame), samples.branch, groups=samples.day)
        self.days_, self.calibration_ = samples.days, None
        if self.calibration == "none":
            return self
        raw, came = self.logistic_.held_out_, samples.branch
        if calibration is not None:
            raw, came = self.logistic_.predict_proba(self._basis(feature_table(calibration))), calibration.branch
            self.days_ = np.concatenate([self.days_, calibration.days])
        if raw is None:
            raise InvalidInput(
                "nothing is left out with a single one",
                field="ridge",
                value=self.ridge,
                remedy="pass two or calibration",
            )
        self.calibration_ = _CALIBRATIONS[self.calibration]().fit(raw, came)
        return self

    def _basis(self, frame: pd.DataFrame) -> Array:
        plain = _plain(frame.drop(columns="regime"))
        hinges = {
            f"{name}>{k}": np.maximum(0.0, plain[name].to_numpy() - knot)
            for name, knots in self._knots.items()
            for k, knot in enumerate(knots)
        }
        columns = {**{str(name): plain[name].to_numpy() for name in plain.columns}, **hinges}
        queue = [plain["log_queue"].to_numpy(), *(v for name, v in hinges.items() if name.startswith("log_queue>"))]
        slack = [plain["log_slack"].to_numpy(), *(v for name, v in hinges.items() if name.startswith("log_slack>"))]
        for flag in ("due", "due_again"):
            on = plain[flag].to_numpy()
            for k, values in enumerate(queue):
                columns[f"{flag}·queue{k}"] = on * values
            columns[f"{flag}·slack"] = on * slack[0]
        columns["queue·slack"] = queue[0] * slack[0]
        columns["queue·timeout"] = queue[0] * plain["log_timeout"].to_numpy()
        # log(1 + clip/ahead): how wide the window is in which only a part fills.
        part = queue[0] - plain["log_ahead"].to_numpy()
        columns |= {f"part·queue{k}": part * values for k, values in enumerate(queue)}
        columns["part²"] = part**2
        columns["ahead·depth"] = plain["log_ahead"].to_numpy() * plain["log_clip_depth"].to_numpy()
        regime = frame["regime"].to_numpy(dtype=str)
        for kind in (Regime.CROWDED, Regime.BASIS_STRESS, Regime.DEADLINE):
            columns[kind.value] = (regime == kind.value).astype(np.float64)
        return np.column_stack(list(columns.values()))

    def predict(self, x: Any) -> pd.DataFrame:
        """Return the probabilities (n × :data:`BRANCHES`), each row summing to 1.

        Parameters
        ----------
        x
            Features of decisions, as of :func:`branch_features`, or samples.

        Raises
        ------
        InvalidInput
            Not fitted, or features that are missing or not finite.
        """
        self._require("logistic_")
        frame = feature_table(x)
        P = self.logistic_.predict_proba(self._basis(frame))
        if self.calibration_ is not None:
            P = self.calibration_.predict_proba(P)
        return pd.DataFrame(P, index=frame.index, columns=list(BRANCHES))

    def score(self, samples: BranchSamples, bins: int = 10, confidence: float = 0.95) -> BranchScores:
        """Judge the probabilities on sessions that neither the fit nor the calibration has seen.

        Parameters
        ----------
        samples
            Held-out decisions.
        bins, confidence
            Of the reliability curves.

        Raises
        ------
        InvalidInput
            Where a session was seen before.
        """
        self._require("logistic_")
        seen = np.isin(samples.days, self.days_)
        if seen.any():
            raise InvalidInput(
                "holds sessions of the fit", field="samples", value=samples.days[seen][0], remedy="hold others out"
            )
        P = self.predict(samples).to_numpy()
        curves = {
            name: reliability(P[:, k], samples.branch == k, bins, samples.day, None, confidence)
            for k, name in enumerate(BRANCHES)
        }
        came = np.bincount(samples.branch, minlength=len(BRANCHES)) / len(samples)
        return BranchScores(
            curves, brier(P, samples.branch, bins), log_loss(P, samples.branch), came, len(samples.days)
        )


@dataclass(frozen=True, eq=False, repr=False)
class BranchScores(Shown):
    """How good the probabilities were on held-out sessions.

    Parameters
    ----------
    curves
        Branch → its reliability curve, with intervals over whole sessions.
    brier
        Score over all branches with its parts; its ``uncertainty`` is the score of the held-out frequencies themselves.
    log_loss
        Mean of −log P of what came.
    frequency
        Held-out frequency of each branch.
    sessions
        Number of held-out sessions.
    """

    curves: dict[str, Reliability]
    brier: BrierScore
    log_loss: float
    frequency: Array
    sessions: int

    def to_frame(self) -> pd.DataFrame:
        """Return branch × ``frequency``, ``slope``, ``low``, ``high``, ``intercept``, ``error``."""
        rows = {
            name: (share, c.slope, *c.slope_interval, c.intercept, c.error)
            for (name, c), share in zip(self.curves.items(), self.frequency, strict=True)
        }
        columns = ["frequency", "slope", "low", "high", "intercept", "error"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def summary(self) -> str:
        """Return the Brier score in a line, then a line for each branch."""
        lines = [f"{self.sessions} held-out sessions: {self.brier.summary()}; log loss {self.log_loss:.4f}"]
        return "\n".join([*lines, *(f"  {name}: {curve.summary()}" for name, curve in self.curves.items())])

    def plot(self) -> Any:
        """Return the reliability curves of the four branches (plotly figure)."""
        from crosswind.problems.roll.branches.plots import plot_reliability

        return plot_reliability(self)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    for name in _MONEY:
        out[name] = np.log1p(np.maximum(out[name].to_numpy(), 0.0))
    return out
