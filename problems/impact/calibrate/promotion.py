"""`promote`: the simplest model that the held-out data cannot tell from the best, among those safe to schedule on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.calibrate.candidates import OWN_FLOW
from crosswind.problems.impact.calibrate.cells import cell_of_rows, resampling_weights
from crosswind.problems.impact.calibrate.model import Calibration
from crosswind.problems.impact.calibrate.scores import Scores, held_out_errors, usable_horizons
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import session_rows
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput, LimitBreach

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.problems.market import MarketEvents

__all__ = ["Promotion", "promote"]


@dataclass(frozen=True, eq=False)
class Promotion:
    """The decision, and why each candidate was or was not taken.

    Parameters
    ----------
    choice
        Name of the promoted estimator.
    estimator
        It, fitted on all rows of the calibration.
    best
        Name of the eligible candidate with the highest score.
    table
        Rows candidates: "score", "behind_best" and its "se", the figures the rule looks at, "eligible", "promoted",
        "reason".
    rule
        The rule's numbers.
    baseline
        The fitted estimator that `verify` compares with.
    calibration
        What the decision was taken on.
    """

    choice: str
    estimator: ImpactEstimator
    best: str
    table: pd.DataFrame
    rule: Mapping[str, Any]
    baseline: tuple[str, ImpactEstimator]
    calibration: Calibration

    @property
    def model(self) -> ImpactModel:
        """The promoted model."""
        return self.estimator.model_

    def to_frame(self) -> pd.DataFrame:
        """Return the decision record, one row per candidate."""
        return self.table

    def verify(self, events: MarketEvents, draws: int = 1000) -> pd.DataFrame:
        """Score the promoted model on later data against the baseline (own flow, where it was calibrated).

        Parameters
        ----------
        events
            Buckets after those calibrated on.
        draws
            Number of resampled draws.

        Returns
        -------
        pd.DataFrame
            Rows horizons [s]: "promoted" and "baseline" mean R², "difference" with "low" and "high", "holds" (the
            promoted model is not worse by more than its interval: high ≥ 0).

        Raises
        ------
        InvalidInput
            The events begin before the calibration's end.
        """
        settings = self.calibration.settings
        if events.index[0] <= pd.Timestamp(settings["end"]):
            raise InvalidInput(
                "begins before the calibration ends",
                field="events",
                value=str(events.index[0]),
                remedy="hold later data back: events.on(days[-1:])",
            )
        cell = cell_of_rows(events)
        session = np.concatenate(
            [np.full(len(np.unique(cell[s])), k) for k, s in enumerate(session_rows(events.session.to_numpy()))]
        )
        horizons = usable_horizons(events)
        label, baseline = self.baseline
        held = {
            "promoted": held_out_errors(self.estimator, events, cell, len(session), horizons),
            "baseline": held_out_errors(baseline, events, cell, len(session), horizons),
        }
        length = max(1, round(len(session) ** (1.0 / 3.0)))
        rng = np.random.default_rng(settings["seed"])
        weights = resampling_weights(session, "moving", length, draws, rng).astype(np.float64)
        scores = Scores(tuple(events.names), held, weights, settings["level"])
        means = scores.table()["mean"]
        rows = {}
        for horizon in horizons:
            found = scores.difference("promoted", "baseline", horizon)
            rows[horizon] = {
                "promoted": float(means["promoted", horizon]),
                "baseline": float(means["baseline", horizon]),
                "difference": found["difference"],
                "low": found["low"],
                "high": found["high"],
                "holds": found["high"] >= 0.0,
            }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("horizon_s")
        table.attrs["baseline"] = label
        return table

    def summary(self) -> str:
        """Say what was promoted and why each other candidate was not."""
        lines = [f"promoted: {self.choice} (highest score among the eligible: {self.best})"]
        lines += [f"  {label:<18} {row['reason']}" for label, row in self.table.iterrows()]
        return "\n".join(lines)

    def plot(self) -> go.Figure:
        """Distance of each candidate's score from the best, with one standard error and the verdict."""
        from crosswind.problems.impact.calibrate.figures import plot_decision

        return plot_decision(self)

    def __repr__(self) -> str:
        return f"Promotion({self.choice!r} of {len(self.table)})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>{self.table.to_html()}"


def promote(
    calibration: Calibration,
    *,
    horizon_s: float | None = None,
    errors: float = 1.0,
    ratio: tuple[float, float] = (0.5, 2.0),
    distance: float = 1.0,
    stability_loss: float = 0.5,
) -> Promotion:
    """Pick the model that out-of-sample data support, be it the diagonal.

    Eligible is a candidate that (1) could be fitted on all rows, every fold and both halves; (2) is admissible:
    symmetric, PSD, and no round trip pays; (3) promises costs whose ratio to those realised on held-out data is within
    ``ratio``, or cannot be told from it: only an interval that lies wholly outside excludes. Cross terms must also
    (4) score above 0, for below it no model at all does better, and (5) be stable: the kernels of the two halves
    differ by at most ``distance`` of their mean, or the score on the half not fitted is at least
    ``1 − stability_loss`` of that on the half fitted. A model without cross terms need not, being what is left.

    Of the eligible the simplest is promoted whose score is within ``errors`` standard errors of the best one's, the
    error being that of their paired difference; simpler is fewer cross terms (see `complexity`), then the higher score.
    So a model with cross terms is promoted only where it beats every simpler one by more than its own noise.

    Parameters
    ----------
    calibration
        From `calibrate`.
    horizon_s
        Horizon of the score [s]; None: the bucket.
    errors
        Standard errors within which two scores are the same, ≥ 0.
    ratio
        Bounds of promised/realised.
    distance, stability_loss
        Bounds of the halves' distance and of the share of R² lost from half to half.

    Raises
    ------
    InvalidInput
        Bad numbers, a horizon that was not scored.
    LimitBreach
        No candidate is eligible; the message gives each one's reason.
    """
    horizon = calibration.horizons_s[0] if horizon_s is None else float(horizon_s)
    if horizon not in calibration.horizons_s:
        raise InvalidInput("was not scored", field="horizon_s", value=horizon_s, remedy=str(calibration.horizons_s))
    if not (np.isfinite(errors) and errors >= 0):
        raise InvalidInput("must be finite and ≥ 0", field="errors", value=errors, remedy="1 is usual")
    if not 0 < ratio[0] <= 1 <= ratio[1]:
        raise InvalidInput("must hold 1 between positive bounds", field="ratio", value=ratio, remedy="(0.5, 2)")
    if not (distance > 0 and 0 <= stability_loss <= 1):
        raise InvalidInput(
            "must be positive, and a share of the R²",
            field="distance, stability_loss",
            value=(distance, stability_loss),
            remedy="1 and 0.5 are usual",
        )
    found = calibration.candidates()
    scores = calibration.out_of_sample()["mean"].xs(horizon, level="horizon_s")
    rows: dict[str, dict[str, Any]] = {}
    for label in found.index:
        score = float(scores.get(label, float("nan")))
        why = _refusal(calibration, str(label), found.loc[label], score, ratio, distance, stability_loss)
        rows[str(label)] = {
            "complexity": found.loc[label, "complexity"],
            "score": score,
            "eligible": not why,
            "reason": why,
        }
    eligible = {label: row for label, row in rows.items() if row["eligible"]}
    if not eligible:
        raise LimitBreach(
            "no candidate may be promoted",
            field="calibration",
            value="; ".join(f"{label}: {row['reason']}" for label, row in rows.items()),
            remedy="give more data or other candidates; the desk's fallback is a diagonal model of yesterday",
        )
    best = max(eligible, key=lambda label: eligible[label]["score"])
    for label, row in rows.items():
        known = label in calibration.scores.held
        gap = (
            calibration.scores.difference(label, best, horizon)
            if known and label != best
            else {"difference": 0.0 if known else float("nan"), "se": 0.0 if known else float("nan")}
        )
        row |= {"behind_best": gap["difference"], "se": gap["se"]}
        # Two models that are the same to rounding are level, whatever their error.
        row["level_with_best"] = bool(row["eligible"] and -gap["difference"] <= errors * gap["se"] + 1e-12)
    level = [label for label in eligible if rows[label]["level_with_best"]]
    choice = min(level, key=lambda label: (rows[label]["complexity"], -rows[label]["score"]))
    for label, row in rows.items():
        row["promoted"] = label == choice
        if row["eligible"]:
            row["reason"] = _reason(label, choice, best, rows, errors)
    settings: dict[str, Any] = {"horizon_s": horizon, "errors": errors, "ratio": ratio}
    settings |= {"distance": distance, "stability_loss": stability_loss}
    against = OWN_FLOW if OWN_FLOW in calibration.fitted else calibration.reference
    columns = ["score", "behind_best", "se", "complexity", "eligible", "level_with_best", "promoted", "reason"]
    table = pd.DataFrame.from_dict(rows, orient="index")[columns].rename_axis("model")
    table = table.sort_values("score", ascending=False)
    return Promotion(
        choice, calibration.fitted[choice], best, table, settings, (against, calibration.fitted[against]), calibration
    )


def _refusal(
    calibration: Calibration,
    label: str,
    found: pd.Series,
    score: float,
    ratio: tuple[float, float],
    distance: float,
    stability_loss: float,
) -> str:
    """Return why a candidate is not eligible; empty where it is."""
    if label in calibration.errors:
        return f"not fitted: {calibration.errors[label]}"
    if not found["admissible"]:
        if found["violation"] > 1e-9:
            return f"inadmissible: asymmetric or not PSD by {found['violation']:.2g} of its diagonal"
        if np.isinf(found["round_trip_bps"]):
            return "inadmissible: impact is a power of the flow, so some round trip always pays"
        return f"inadmissible: a round trip earns {found['round_trip_bps']:.3g} bps"
    cost = calibration.costs.loc[label]
    if not cost["bounded"]:
        return "a schedule optimised on it promises profit without end"
    if cost["ratio_high"] < ratio[0] or cost["ratio_low"] > ratio[1]:
        return (
            f"promised/realised {cost['ratio']:.2f} [{cost['ratio_low']:.2f}, {cost['ratio_high']:.2f}] lies outside "
            f"{ratio[0]:g} to {ratio[1]:g}"
        )
    if found["complexity"] == 0:
        return ""
    if not score > 0.0:
        return f"R² {score:.4f}: cross terms that do worse than no model at all"
    half = calibration.halves.loc[label]
    kept = half["r2_across"] >= (1.0 - stability_loss) * half["r2_within"]
    if not (half["distance"] <= distance or kept):
        return (
            f"unstable: halves differ by {half['distance']:.2f} of their mean, R² falls from {half['r2_within']:.4f} "
            f"to {half['r2_across']:.4f} on the other half"
        )
    return ""


def _reason(label: str, choice: str, best: str, rows: Mapping[str, Mapping[str, Any]], errors: float) -> str:
    row = rows[label]
    score = f"R² {row['score']:.4f}"
    behind = f"{-row['behind_best']:.4f} (se {row['se']:.4f}) behind {best}"
    if label == choice:
        if label == best:
            return f"promoted: {score} is the highest, and no simpler one is within {errors:g} standard errors"
        return f"promoted: {score}, {behind}: within {errors:g} standard errors, and the simplest such"
    if not row["level_with_best"]:
        return f"{score}, {behind}: more than {errors:g} standard errors"
    if row["complexity"] > rows[choice]["complexity"]:
        return f"{score} is not told from {choice}, which is simpler"
    return f"{score}, as simple as {choice} but lower"
