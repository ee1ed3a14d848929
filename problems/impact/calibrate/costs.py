"""What an optimised schedule promises, and what it costs under a kernel estimated from data the model has not seen.

A schedule's expected cost is linear in the kernel, ½ Σ_m ⟨K_m, W_m⟩. Least squares on held-out data is unbiased for K
and independent of the schedule, so the cost under it is an unbiased estimate of the cost that would be paid: noisy,
but not tilted towards any model, which a shrunk refit would be. Its noise is shown by resampling the held-out cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.cells import Cells
from crosswind.problems.impact.evaluate import optimal_schedules, standard_signs
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.model import ImpactModel

__all__ = ["Programme", "cost_table", "least_squares", "realised_costs", "schedule_weights"]

Array = NDArray[np.float64]
_LARGEST = 3000  # variables of the schedule's dense program


@dataclass(frozen=True, eq=False)
class Programme:
    """The standard baskets, the times they may trade at, and the spread that every model knows.

    Parameters
    ----------
    names
        N names.
    own
        Self-impact k_i [return per currency], (N,): a leg is ±1/√k_i, so that legs cost the same alone.
    times_s
        Trade times (T,) [s].
    signs
        ±1, (N, baskets); the first basket buys every name.
    temporary
        η relative to k: cost ½ Σ_t u_t'ηu_t, known and paid in every account.
    """

    names: tuple[str, ...]
    own: Array
    times_s: Array
    signs: Array
    temporary: float = 0.1

    @classmethod
    def standard(
        cls, names: tuple[str, ...], own: Array, dictionary: Dictionary, session_s: float, seed: int, baskets: int = 16
    ) -> Programme:
        """Return 12 times (fewer for many names) over twice the slowest fading half-life, no longer than a session."""
        fading = [b for b in dictionary.rates_per_s if b > 0]
        bucket = dictionary.bucket_s
        span = 2.0 * np.log(2.0) / min(fading) if fading else 12.0 * bucket
        steps = int(np.clip(_LARGEST // len(names), 3, 12))
        times = np.linspace(0.0, max(min(span, session_s), (steps - 1) * bucket), steps)
        signs = standard_signs(len(names), baskets, seed)
        signs[:, 0] = 1.0
        return cls(names, own, times, signs)

    def schedule(self, model: ImpactModel) -> tuple[Array, float] | None:
        """Optimal schedules (T, N, baskets) [currency] under a model and the cost it promises; None: unbounded."""
        found = optimal_schedules(model, self.times_s, self.signs, np.sqrt(self.own), self.temporary)
        if found is None:
            return None
        u, costs = found
        return u, float(costs.sum())

    def spread_cost(self, u: Array) -> float:
        """½ Σ u'ηu over all baskets."""
        return float(0.5 * self.temporary * np.einsum("tib,i->", u**2, self.own))


def schedule_weights(u: Array, times_s: Array, dictionary: Dictionary) -> Array:
    """W (M, N, N): schedules u (T, N, baskets) have expected impact cost ½ Σ_m ⟨K_m, W_m⟩, K of any symmetry."""
    lags = (times_s[:, None] - times_s[None, :]) / dictionary.bucket_s
    later = np.tril(np.ones_like(lags), -1)
    phi = dictionary.phi(np.abs(lags).ravel()).reshape(-1, *lags.shape)
    share = phi * (2.0 * later + np.eye(len(times_s)))
    return np.asarray(np.einsum("mts,tib,sjb->mij", share, u, u, optimize=True))


def least_squares(gram: Gram) -> Array:
    """Matrices (M, N, N) of X = B S⁻¹, of smallest norm in scaled coordinates where flow is collinear."""
    n = gram.names
    unit = np.sqrt(np.maximum(np.diag(gram.S), np.finfo(float).tiny))
    X = np.linalg.lstsq(gram.S / np.outer(unit, unit), (gram.B / unit).T, rcond=1e-12)[0].T / unit
    return np.ascontiguousarray(X.reshape(n, -1, n).transpose(1, 0, 2))


@dataclass(frozen=True, eq=False)
class Account:
    """One model's promise and payment on one held-out sample, totals over the baskets; NaN promise: unbounded."""

    promised: float
    realised: float
    draws: Array


def realised_costs(
    models: Mapping[str, ImpactModel],
    programme: Programme,
    ruler: Cells,
    dictionary: Dictionary,
    weights: NDArray[np.intp],
) -> dict[str, Account]:
    """Promise of each model's schedules and their cost under least squares on held-out cells.

    Parameters
    ----------
    models
        Fitted on other data than the ruler.
    programme
        Baskets and times.
    ruler, dictionary
        Held-out moments and the decay shapes they were summed for.
    weights
        Draws (B, C) of the ruler's cells.
    """
    once = least_squares(ruler.total().total)
    drawn = [least_squares(ruler.weighted(w).total) for w in weights]
    out = {}
    for label, model in models.items():
        found = None if model.transform is not None else programme.schedule(model)
        if found is None:
            out[label] = Account(float("nan"), float("nan"), np.full(len(drawn), np.nan))
            continue
        u, promised = found
        W = schedule_weights(u, programme.times_s, dictionary)
        fixed = programme.spread_cost(u)
        paid = np.array([fixed + 0.5 * float(np.vdot(K, W)) for K in (once, *drawn)])
        out[label] = Account(promised, float(paid[0]), paid[1:])
    return out


def cost_table(accounts: Mapping[str, Account], reference: str, level: float) -> pd.DataFrame:
    """One row per model, from the sums of accounts over held-out samples.

    Returns
    -------
    pd.DataFrame
        "bounded"; "promised" and "realised", in units in which a leg alone, traded at once, costs ½; "ratio"
        promised/realised with "ratio_low", "ratio_high" (inf where the cost paid may be ≤ 0: the ruler is too noisy to
        say); "saving" of the cost paid against the reference model, relative to the reference's promise, with its
        interval.
    """
    tail = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    base = accounts.get(reference)
    rows: dict[str, dict[str, object]] = {}
    for label, account in accounts.items():
        bounded = bool(np.isfinite(account.promised))
        row: dict[str, object] = {"bounded": bounded, "promised": account.promised, "realised": account.realised}
        if bounded:
            share = np.quantile(account.draws / account.promised, tail)
            row["ratio"] = account.promised / account.realised if account.realised > 0 else float("inf")
            row["ratio_low"] = 1.0 / share[1] if share[1] > 0 else float("inf")
            row["ratio_high"] = 1.0 / share[0] if share[0] > 0 else float("inf")
        else:
            row |= {"ratio": float("-inf"), "ratio_low": float("-inf"), "ratio_high": float("-inf")}
        if bounded and base is not None and np.isfinite(base.promised):
            # In units of the reference's promise, which is fixed: the cost paid may be near zero in a draw.
            gain = (base.draws - account.draws) / base.promised
            low, high = np.quantile(gain, tail)
            row |= {
                "saving": (base.realised - account.realised) / base.promised,
                "saving_low": low,
                "saving_high": high,
            }
        else:
            row |= dict.fromkeys(("saving", "saving_low", "saving_high"), float("nan"))
        rows[label] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
