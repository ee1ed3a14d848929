"""Which model to use: out of sample, by its constraints, and against the truth where there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from crosswind.optim.admissibility import block_toeplitz
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import CrosswindError, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents, SimulatedTruth

__all__ = [
    "Recovery",
    "compare_models",
    "kernel_distance",
    "optimal_schedules",
    "recovery",
    "standard_signs",
    "truth_model",
]

Array = NDArray[np.float64]


def compare_models(
    models: Mapping[str, ImpactEstimator],
    train: MarketEvents,
    test: MarketEvents,
    horizon_s: float | None = None,
    corr_bound: float = 0.6,
    truth: SimulatedTruth | None = None,
) -> pd.DataFrame:
    """Fit every model on ``train`` and score it on ``test``; a baseline that wins is shown winning.

    Parameters
    ----------
    models
        Name → estimator; each is fitted in place.
    train, test
        Events; the test must not begin before the training ends.
    horizon_s
        Score returns summed over horizons of this length, see `ImpactEstimator.score_by_name`.
    corr_bound
        ρ by which the violations of every model are measured, its own or not.
    truth
        The simulator's truth: adds the columns of `recovery`.

    Returns
    -------
    pd.DataFrame
        One row per model. Out-of-sample R² by name against "no impact", "mean", "admissible" (no round trip pays),
        "violation" (worst relative violation of symmetry, PSD and correlation bound), "cross_share", "seconds" of the
        fit, "error" (text where a model could not be fitted; its figures are then NaN).

    Raises
    ------
    InvalidInput
        Overlapping samples, no models.
    """
    if not models:
        raise InvalidInput("no models to compare", field="models")
    if test.flow.index[0] <= train.flow.index[-1]:
        raise InvalidInput(
            "the test sample must begin after the training sample ends",
            field="test",
            value=str(test.flow.index[0]),
            remedy="split with events.on(days[:k]) and events.on(days[k:])",
        )
    rows: dict[str, dict[str, object]] = {}
    for label, estimator in models.items():
        row: dict[str, object] = dict.fromkeys([*train.names, "mean"], float("nan"))
        row |= {"admissible": None, "violation": float("nan"), "cross_share": float("nan")}
        begun = time.perf_counter()
        try:
            estimator.fit(train)
            row["seconds"] = time.perf_counter() - begun
            scores = estimator.score_by_name(test, horizon_s)
            model = estimator.model_
            row |= dict(zip(train.names, scores.to_numpy(float).tolist(), strict=True))
            row |= {
                "mean": float(scores.mean()),
                # With a flow transform some round trip always pays, see `PowerFlow`.
                "admissible": model.transform is None and model.admissible().admissible,
                "violation": float(model.constraint_violations(corr_bound=corr_bound)["worst"]),
                "cross_share": model.cross_share(),
                "error": "",
            }
            if truth is not None:
                row |= vars(recovery(model, truth))
        except CrosswindError as error:
            row |= {"seconds": time.perf_counter() - begun, "error": str(error)}
        rows[label] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def truth_model(truth: SimulatedTruth, bucket_s: float) -> ImpactModel:
    """Return the simulator's kernel as an `ImpactModel`, e.g. to score a schedule under the truth."""
    return ImpactModel(truth.names, truth.rates_per_s, truth.matrices, "exponential", bucket_s)


@dataclass(frozen=True)
class Recovery:
    """How far an estimate is from the truth, in the kernel and in money.

    Parameters
    ----------
    kernel_error
        √(Σ_h ‖Ĝ_h − G_h‖²/Σ_h ‖G_h‖²), names scaled by their true self-impact.
    cross_error
        The same over cross terms alone; 1 for a diagonal estimate.
    excess_cost
        True cost of the schedules optimised on the estimate over that of the true optimum, less 1; inf where the
        estimate sees a round trip that pays without end.
    promised_over_realised
        Estimated over true cost of these schedules: below 1 the model promises too much; −inf for unbounded profit.
    bounded
        Whether the schedules optimised on the estimate exist.
    """

    kernel_error: float
    cross_error: float
    excess_cost: float
    promised_over_realised: float
    bounded: bool

    def to_series(self) -> pd.Series:
        """All figures by name."""
        return pd.Series(vars(self), dtype=object)

    def to_frame(self) -> pd.DataFrame:
        """All figures in one row."""
        return self.to_series().to_frame().T

    def summary(self) -> str:
        """Say it in one line."""
        return (
            f"kernel error {self.kernel_error:.1%} (cross terms {self.cross_error:.1%}); schedules optimised on the "
            f"estimate cost {self.excess_cost:.2%} more than the optimum; promised/realised "
            f"{self.promised_over_realised:.3f}"
        )


def recovery(
    model: ImpactModel,
    truth: SimulatedTruth,
    times_s: ArrayLike | None = None,
    baskets: int = 16,
    temporary: float = 0.1,
    seed: int = 0,
) -> Recovery:
    """Compare a fitted model with the simulator's truth.

    The standard baskets hold ±1/√G_0,ii of each name (equal true self-cost, random signs by ``seed``). Each is
    scheduled exactly, min ½ Σ u_s'Ĝ_{|t−s|}u_t + ½ Σ_t u_t'ηu_t subject to Σ_t u_t = X, with free signs and no other
    limits, and paid for under the truth. η = ``temporary`` · diag G_0 of the truth stands for the spread: it is known
    and paid in both.

    Parameters
    ----------
    model
        The estimate, of the truth's names.
    truth
        The simulator's truth.
    times_s
        Trade times [s]; None: 12 equidistant over twice the slowest finite half-life.
    baskets
        Number of baskets.
    temporary
        η relative to the true immediate self-impact.
    seed
        Seed of the signs.
    """
    true = truth_model(truth, model.bucket_s).subset(model.names)
    if times_s is None:
        fading = true.rates_per_s[true.rates_per_s > 0]
        span = 2.0 * np.log(2.0) / float(fading.min()) if fading.size else 12.0 * model.bucket_s
        times = np.linspace(0.0, span, 12)
    else:
        times = np.asarray(times_s, dtype=np.float64)
    own = np.sqrt(np.diag(true.immediate))
    lags = times - times[0]
    signs = standard_signs(len(own), baskets, seed)
    best = optimal_schedules(true, times, signs, own, temporary)
    assert best is not None  # the truth is PSD and η > 0
    optimum = float(best[1].sum())
    found = optimal_schedules(model, times, signs, own, temporary)
    if found is None:
        excess, promised = float("inf"), float("-inf")
    else:
        H_true = _scaled_toeplitz(true, times, own, temporary)
        realised = float(_costs(H_true, (found[0] * own[:, None]).reshape(len(H_true), -1)).sum())
        excess, promised = realised / optimum - 1.0, float(found[1].sum()) / realised
    return Recovery(
        kernel_error=kernel_distance(model, true, own, lags),
        cross_error=kernel_distance(model, true, own, lags, cross=True),
        excess_cost=excess,
        promised_over_realised=promised,
        bounded=found is not None,
    )


def kernel_distance(
    model: ImpactModel, reference: ImpactModel, own: ArrayLike, lags_s: ArrayLike, cross: bool = False
) -> float:
    """√(Σ_h ‖G_h − R_h‖² / Σ_h ‖R_h‖²), without unit.

    Parameters
    ----------
    model, reference
        G and R, of the same names.
    own
        √k_i, (N,): entry (i, j) is divided by own_i own_j, so that illiquid names do not drown the others.
    lags_s
        Lags h (L,) [s].
    cross
        Over the cross terms alone; NaN where the reference has none.
    """
    root = np.asarray(own, dtype=np.float64)
    unit = np.outer(1.0 / root, 1.0 / root)
    G, R = model.impact(lags_s) * unit, reference.impact(lags_s) * unit
    if cross:
        off = ~np.eye(len(root), dtype=bool)
        G, R = G[:, off], R[:, off]
    size = float(np.linalg.norm(R))
    return float(np.linalg.norm(G - R)) / size if size > 0 else float("nan")


def standard_signs(names: int, baskets: int, seed: int) -> Array:
    """Random signs of the standard baskets' legs, (N, baskets) of ±1."""
    return np.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], size=(names, baskets)))


def optimal_schedules(
    model: ImpactModel, times_s: ArrayLike, signs: Array, own: ArrayLike, temporary: float
) -> tuple[Array, Array] | None:
    """Schedules of least cost, min ½ Σ_{s,t} u_s'G_{|t−s|}u_t + ½ Σ_t u_t'ηu_t subject to Σ_t u_t = X.

    Parameters
    ----------
    model
        G, linear; any symmetry.
    times_s
        Trade times (T,) [s].
    signs
        (N, baskets): the baskets are X_i = sign_i/own_i.
    own
        √k_i, (N,), k the self-impact [return per currency].
    temporary
        η_i = temporary · k_i.

    Returns
    -------
    tuple or None
        u (T, N, baskets) [currency] and the expected costs (baskets,); None where a round trip pays without end.
    """
    times, root = np.asarray(times_s, dtype=np.float64), np.asarray(own, dtype=np.float64)
    H = _scaled_toeplitz(model, times, root, temporary)
    u = _schedules(H, signs, len(times))
    if u is None:
        return None
    return u.reshape(len(times), len(root), -1) / root[:, None], _costs(H, u)


def _scaled_toeplitz(model: ImpactModel, times: Array, own: Array, temporary: float) -> Array:
    wide = np.tile(1.0 / own, len(times))
    return np.asarray(
        block_toeplitz(model.impact, times) * np.outer(wide, wide) + temporary * np.eye(len(wide)), dtype=np.float64
    )


def _schedules(H: Array, X: Array, steps: int) -> Array | None:
    """Return argmin ½u'Hu with Σ_t u_t = X for each column of X, or None where it is unbounded."""
    n = len(X)
    start = np.tile(X / steps, (steps, 1))
    # Differences of adjacent slices span the round trips.
    basis = np.kron(np.eye(steps, steps - 1) - np.eye(steps, steps - 1, k=-1), np.eye(n))
    try:
        factor = cho_factor(basis.T @ H @ basis)
    except LinAlgError:
        return None
    return np.asarray(start - basis @ cho_solve(factor, basis.T @ (H @ start)))


def _costs(H: Array, U: Array) -> Array:
    return np.asarray(0.5 * np.einsum("ij,ij->j", U, H @ U))
