"""What a calibration found: tables, fits, figures, one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.calibrate.bands import Bands
from crosswind.problems.impact.calibrate.candidates import complexity
from crosswind.problems.impact.calibrate.scores import Scores
from crosswind.problems.impact.estimator import ImpactEstimator

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.problems.impact.calibrate.cells import Cells
    from crosswind.problems.impact.calibrate.promotion import Promotion

__all__ = ["Calibration"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Result of `calibrate`; every table is a DataFrame, every figure states its unit.

    Parameters
    ----------
    names
        The N names.
    main, reference
        The estimator whose matrices were resampled, and the one that differences are taken against.
    fitted
        Name → estimator fitted on all rows.
    errors
        Name → why it could not be fitted, somewhere.
    scores
        Held-out errors by model, horizon, cell and name.
    folds
        Times and sizes of the blocks.
    costs
        Promised and realised costs of optimised schedules, see `cost_table`.
    halves
        Stability between halves, see `Halves`.
    bands
        Resampled matrices of ``main``; None where it could not be fitted.
    drift
        Distance of each day's fit from all days' fit, see `drift_table`.
    recovery
        Distance to the simulator's truth by model, where there is one.
    sectors
        Name → sector, for the order of the figures.
    moments
        Moments of ``main`` by cell.
    settings
        Everything that decides the result, lengths in seconds.
    seconds
        Wall-clock seconds of each fit on all rows, and in all.
    """

    names: tuple[str, ...]
    main: str
    reference: str
    fitted: Mapping[str, ImpactEstimator]
    errors: Mapping[str, str]
    scores: Scores
    folds: pd.DataFrame
    costs: pd.DataFrame
    halves: pd.DataFrame
    bands: Bands | None
    drift: pd.DataFrame
    recovery: pd.DataFrame | None
    sectors: pd.Series | None
    moments: Cells | None
    settings: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def horizons_s(self) -> tuple[float, ...]:
        """Horizons of the scores [s], the bucket first."""
        return self.scores.horizons_s

    def out_of_sample(self) -> pd.DataFrame:
        """Out-of-sample R² by name with intervals: rows (model, horizon_s), see `Scores.table`."""
        return self.scores.table()

    def differences(self, against: str | None = None) -> pd.DataFrame:
        """Paired differences of the mean R² against one model (the reference): rows (model, horizon_s)."""
        return self.scores.differences(self.reference if against is None else against)

    def candidates(self) -> pd.DataFrame:
        """One row per estimator fitted on all rows.

        Returns
        -------
        pd.DataFrame
            "complexity" (0 no cross terms, 1 separable, 2 a matrix for every shape); "admissible" (symmetric, PSD and
            no round trip that pays), "violation" (the worse of asymmetry and PSD, relative), "round_trip_bps" (profit
            of the worst round trip), "cross_share", "condition", "seconds", "error".
        """
        rows: dict[str, dict[str, object]] = {}
        for label, estimator in self.fitted.items():
            model = estimator.model_
            worst = model.constraint_violations()
            broken = float(max(worst["asymmetry"], worst["psd"]))
            row: dict[str, object] = {"complexity": complexity(model)}
            if model.transform is None:
                trip = model.admissible()
                row |= {"admissible": trip.admissible and broken <= 1e-9, "violation": broken}
                row["round_trip_bps"] = float(trip.profit_bps)
            else:
                row |= {"admissible": False, "violation": broken, "round_trip_bps": float("inf")}
            row |= {
                "cross_share": model.cross_share(),
                "condition": model.condition_number,
                "seconds": self.seconds[label],
                "error": self.errors.get(label, ""),
            }
            rows[label] = row
        for label, error in self.errors.items():
            if label not in rows:
                rows[label] = {"admissible": False, "seconds": self.seconds.get(label, float("nan")), "error": error}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    def to_frame(self) -> pd.DataFrame:
        """One row per model: out-of-sample R² at the bucket with its difference to the reference, cost, stability."""
        horizon = self.horizons_s[0]
        table = self.candidates()
        scores = self.out_of_sample().xs(horizon, level="horizon_s")[["mean", "low", "high"]].add_prefix("r2_")
        table = table.join(scores)
        against = self.differences().xs(horizon, level="horizon_s")[["difference", "low", "high"]]
        table = table.join(against.set_axis(["vs_reference", "vs_low", "vs_high"], axis=1))
        table = table.join(self.costs[["ratio", "saving"]].set_axis(["promised_over_realised", "saving"], axis=1))
        return table.join(self.halves[["distance", "r2_across"]].set_axis(["halves_distance", "halves_r2"], axis=1))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name, as `crosswind fit --calibrate --out` writes them."""
        out = {
            "candidates": self.to_frame(),
            "out_of_sample": self.out_of_sample(),
            "differences": self.differences(),
            "costs": self.costs,
            "halves": self.halves,
            "drift": self.drift,
            "folds": self.folds,
        }
        if self.bands is not None:
            out |= {"entries": self.bands.entries(), "eigenvalues": self.bands.eigenvalues()}
            out["decay"] = self.bands.decay(self.bands.lags_s())
        if self.recovery is not None:
            out["recovery"] = self.recovery
        return out

    def promote(self, **rule: Any) -> Promotion:
        """Pick what these results support, see `crosswind.problems.impact.calibrate.promote`."""
        from crosswind.problems.impact.calibrate.promotion import promote

        return promote(self, **rule)

    def summary(self) -> str:
        """Say in a few lines what was done and how the models did."""
        s = self.settings
        table = self.to_frame().sort_values("r2_mean", ascending=False)
        lines = [
            f"calibration of {len(self.names)} names, {s['rows']} buckets of {s['bucket_s']:g} s on {len(s['days'])} "
            f"day{'s' if len(s['days']) > 1 else ''}",
            f"  folds      {len(self.folds)} {s['scheme']}, purge {s['purge_s']:g} s"
            + (f" (of {s['purge_asked_s']:g} s asked)" if s["purge_s"] < s["purge_asked_s"] else "")
            + f", embargo {s['embargo_s']:g} s",
            f"  intervals  {s['level']:.0%}, {s['bootstrap']} blocks of {s['block_s']:g} s, {s['draws']} refits, seed "
            f"{s['seed']}",
            f"  out of sample, mean R² of single buckets; beside it the difference to {self.reference}",
        ]
        for label, row in table.iterrows():
            if np.isfinite(row["r2_mean"]):
                text = f"{row['r2_mean']:8.4f} [{row['r2_low']:.4f}, {row['r2_high']:.4f}]"
                if np.isfinite(row["vs_reference"]):
                    text += f"   {row['vs_reference']:+.4f} [{row['vs_low']:+.4f}, {row['vs_high']:+.4f}]"
            else:
                text = f"not fitted: {row['error']}"
            lines.append(f"    {label:<18} {text}" + ("" if row["admissible"] else "   inadmissible"))
        return "\n".join(lines)

    def plot(self) -> go.Figure:
        """Out-of-sample R² by model and horizon, with intervals."""
        from crosswind.problems.impact.calibrate.figures import plot_out_of_sample

        return plot_out_of_sample(self)

    def to_html(self, path: str | Path, promotion: Promotion | None = None) -> Path:
        """Write the calibration as one self-contained page: the file appears whole or not at all.

        Parameters
        ----------
        path
            File to write.
        promotion
            Adds the decision and its reasons.

        Raises
        ------
        InvalidInput
            The path cannot be written.
        MissingDependency
            plotly is not installed.
        """
        from crosswind.problems.atomic import atomic_file
        from crosswind.problems.impact.calibrate.page import calibration_html

        text = calibration_html(self, promotion)
        with atomic_file(path) as target:
            target.write_text(text, encoding="utf-8")
        return Path(path)

    def __repr__(self) -> str:
        return f"Calibration({len(self.names)} names, {len(self.scores.held)} models, seed {self.settings['seed']})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>{self.to_frame().round(4).to_html()}"
