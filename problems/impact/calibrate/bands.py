"""How well the matrices are known: refits on resampled moments, and how they drift from one period to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.problems.impact.calibrate.cells import Cells
from crosswind.problems.impact.calibrate.refit import fit_from_moments, with_fixed_penalties
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.evaluate import kernel_distance
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

__all__ = ["Bands", "bootstrap_matrices", "drift_table"]

Array = NDArray[np.float64]
_LOST = 0.2  # share of the draws that may fail


@dataclass(frozen=True, eq=False)
class Bands:
    """Refits of one estimator on resampled moments, penalties held at what all data chose.

    Percentile intervals show the estimate's sampling spread. Where cross terms are shrunk they do not cover the truth
    at the level stated: shrinkage moves the whole interval.

    Parameters
    ----------
    model
        The fit on all rows.
    matrices
        K_m of the draws, (B, M, N, N) [return per currency].
    level
        Coverage asked of the intervals.
    lost
        Draws that could not be fitted, and are left out.
    """

    model: ImpactModel
    matrices: Array
    level: float
    lost: int = 0

    def _quantiles(self, draws: Array) -> Array:
        tail = 0.5 * (1.0 - self.level)
        return np.asarray(np.quantile(draws, [tail, 1.0 - tail], axis=0))

    def _kernel(self, lags_s: Array) -> Array:
        phi = self.model.dictionary.phi(lags_s / self.model.bucket_s)
        return np.asarray(np.einsum("ml,bmij->blij", phi, self.matrices))

    def entries(self) -> pd.DataFrame:
        """Entries of G_0 [return per currency]: rows (moves, flow_in); "estimate", "low", "high", "significant".

        "significant": the interval does not hold 0.
        """
        names = list(self.model.names)
        low, high = self._quantiles(self._kernel(np.zeros(1))[:, 0])
        estimate = self.model.immediate
        index = pd.MultiIndex.from_product([names, names], names=["moves", "flow_in"])
        return pd.DataFrame(
            {
                "estimate": estimate.ravel(),
                "low": low.ravel(),
                "high": high.ravel(),
                "significant": ((low > 0) | (high < 0)).ravel(),
            },
            index=index,
        )

    def eigenvalues(self) -> pd.DataFrame:
        """Eigenvalues, largest first, of the symmetric part of G_0 scaled by the estimate's self-impact; no unit."""
        own = np.sqrt(np.maximum(np.diag(self.model.immediate), np.finfo(float).tiny))
        unit = np.outer(own, own)

        def spectrum(G: Array) -> Array:
            C = G / unit
            return np.asarray(np.linalg.eigvalsh(0.5 * (C + np.swapaxes(C, -1, -2)))[..., ::-1])

        low, high = self._quantiles(spectrum(self._kernel(np.zeros(1))[:, 0]))
        index = pd.RangeIndex(1, len(own) + 1, name="rank")
        return pd.DataFrame({"estimate": spectrum(self.model.immediate), "low": low, "high": high}, index=index)

    def lags_s(self, points: int = 61) -> Array:
        """Lags (points,) [s] to look at: from half a bucket to where the slowest fading shape has fallen to a tenth."""
        model = self.model
        fading = model.rates_per_s[model.rates_per_s > 0] if model.family == "exponential" else np.zeros(0)
        last = np.log(10.0) / fading.min() if fading.size else (max(model.lags, default=18) + 2) * model.bucket_s
        return np.geomspace(0.5 * model.bucket_s, max(float(last), model.bucket_s), points)

    def decay(self, lags_s: ArrayLike) -> pd.DataFrame:
        """Impact by lag [return per currency]: median self-impact and mean cross-impact, each with its interval.

        Parameters
        ----------
        lags_s
            Lags h ≥ 0 (L,) [s].

        Raises
        ------
        InvalidInput
            Negative or non-finite lags.
        """
        lags = np.atleast_1d(np.asarray(lags_s, dtype=np.float64))
        if not np.isfinite(lags).all() or (lags < 0).any():
            raise InvalidInput("must be finite and ≥ 0", field="lags_s", value=lags_s, remedy="give seconds")
        n = len(self.model.names)

        def curves(G: Array) -> tuple[Array, Array]:
            own = np.diagonal(G, axis1=-2, axis2=-1)
            pairs = max(n * (n - 1), 1)
            return np.median(own, axis=-1), (G.sum(axis=(-2, -1)) - own.sum(axis=-1)) / pairs

        columns: dict[str, Array] = {}
        for label, once, draws in zip(
            ("self", "cross"), curves(self.model.impact(lags)), curves(self._kernel(lags)), strict=True
        ):
            low, high = self._quantiles(draws)
            columns |= {label: once, f"{label}_low": low, f"{label}_high": high}
        return pd.DataFrame(columns, index=pd.Index(lags, name="lag_s"))


def bootstrap_matrices(estimator: ImpactEstimator, cells: Cells, weights: NDArray[np.intp], level: float) -> Bands:
    """Refit an estimator on each draw of the cells; the data are not read again.

    Parameters
    ----------
    estimator
        Fitted; parameters that were "cv" are held at what it chose.
    cells
        Moments by cell, summed for its decay shapes.
    weights
        Cell weights (B, C).
    level
        Coverage asked of the intervals.

    Raises
    ------
    DataGap
        More than a fifth of the draws cannot be fitted.
    """
    held = with_fixed_penalties(estimator)
    out = []
    reason = ""
    for draw in weights:
        try:
            out.append(fit_from_moments(held, cells.weighted(draw), estimator.model_).matrices)
        except CrosswindError as error:
            reason = str(error)
    lost = len(weights) - len(out)
    if lost > _LOST * len(weights):
        raise DataGap(
            f"{lost} of {len(weights)} resampled fits failed: {reason}",
            field="draws",
            value=lost,
            remedy="longer data, or longer cells",
        )
    return Bands(estimator.model_, np.stack(out), level, lost)


def drift_table(
    estimator: ImpactEstimator, cells: Cells, period: NDArray[np.intp], labels: list[str], seed: int, draws: int = 40
) -> pd.DataFrame:
    """Fit each period by itself and measure its distance from the fit on all rows.

    Parameters
    ----------
    estimator
        Fitted on all rows; parameters that were "cv" are held at what it chose.
    cells, period
        Moments by cell and the period (0, 1, …) of each cell.
    labels
        Name of each period.
    seed, draws
        For the noise level: as many cells as the period has, drawn from all periods.

    Returns
    -------
    pd.DataFrame
        Rows periods: "rows", "distance" and "cross_distance" (see `kernel_distance`), "noise_q90" (the 90 % quantile
        of the distance that a period of this length has where nothing drifts), "self_ratio" (median of the period's
        self-impact over that of all rows), "cross_share", "r2_all" (mean R² in the period of the fit on all rows) and
        "error" (text where the period could not be fitted).
    """
    held = with_fixed_penalties(estimator)
    model = estimator.model_
    own = np.sqrt(np.maximum(np.diag(model.immediate), np.finfo(float).tiny))
    lags = np.linspace(0.0, 12.0 * model.bucket_s, 13)
    X = model.matrices.transpose(1, 0, 2).reshape(len(own), -1)
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[str, object]] = {}
    for k, label in enumerate(labels):
        part = cells.of(period == k)
        moments = part.total()
        moved = np.diag(moments.total.rr)
        row: dict[str, object] = dict.fromkeys(
            ("distance", "cross_distance", "noise_q90", "self_ratio", "cross_share", "r2_all"), float("nan")
        )
        row = {"rows": round(moments.total.rows)} | row
        try:
            found = fit_from_moments(held, moments, model)
            row |= {
                "distance": kernel_distance(found, model, own, lags),
                "cross_distance": kernel_distance(found, model, own, lags, cross=True),
                "self_ratio": float(np.median(np.diag(found.immediate) / own**2)),
                "cross_share": found.cross_share(),
                "r2_all": float(np.mean(1.0 - moments.total.squared_error(X)[moved > 0] / moved[moved > 0])),
                "error": "",
            }
            noise = []
            for _ in range(draws):
                pick = rng.integers(len(cells.grams), size=len(part.grams))
                weights = np.bincount(pick, minlength=len(cells.grams))
                try:
                    noise.append(
                        kernel_distance(fit_from_moments(held, cells.weighted(weights), model), model, own, lags)
                    )
                except CrosswindError:
                    continue  # a draw may miss a name's flow altogether
            # A period is part of all rows, so its distance from their fit is smaller than that of a draw.
            apart = np.sqrt(max(0.0, 1.0 - len(part.grams) / len(cells.grams)))
            row["noise_q90"] = apart * float(np.quantile(noise, 0.9)) if noise else float("nan")
        except CrosswindError as error:
            row["error"] = str(error)
        rows[label] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("period")
