r"""Robust schedules: against a confidence set of the impact matrices, and against the tail of market states.

With the energy identity the impact cost of mode m is ½ ⟨K_m, Z_m(u)⟩ with Z_m(u) ⪰ 0. If all that is known is that the
error Δ_m = K^true_m − K_m satisfies Δ_m ⪯ R_m (in the Loewner order), the worst case is attained at Δ_m = R_m:

.. math::  \max_{\Delta_m \preceq R_m} C_{K + \Delta}(u) = C_{K + R}(u)

so the robust schedule is that of a basket with K + R: an added PSD quadratic, the same convex program. A ball
‖D^{-½} Δ D^{-½}‖₂ ≤ r has R = rD; entries |Δ_ij| ≤ h_ij give the diagonal R_ii = Σ_j h_ij s_j/s_i (weighted diagonal
dominance, s_i = K_ii^{-½}: conservative). Against a list of matrices (bootstrap draws) the worst case is a maximum
of finitely many costs, solved by :mod:`crosswind.problems.basket.analysis.mixture`.

Sources: Ben-Tal, El Ghaoui, Nemirovski (2009), Robust Optimization; Rockafellar and Uryasev (2000) for CVaR.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.analysis.mixture import blend, coherent_risk, guard
from crosswind.problems.basket.analysis.models import enlarge_model
from crosswind.problems.basket.analysis.scenarios import Scenario
from crosswind.problems.basket.inputs import FloatArray, as_scalar
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.impact.calibrate.bands import Bands
    from crosswind.problems.impact.model import ImpactModel

__all__ = [
    "GuardedSchedule",
    "ImpactBound",
    "bound_from_bands",
    "cvar_schedule",
    "draws_from_bands",
    "entry_bound",
    "own_impact_bound",
    "robust_schedule",
    "scaled_bound",
]


@dataclass(frozen=True, eq=False)
class ImpactBound:
    """The set of impact matrices K_m + Δ_m with Δ_m ⪯ R_m.

    Parameters
    ----------
    names
        The N names, in the order of rows.
    matrices
        R_m (M, N, N) symmetric PSD, or their diagonals (M, N) ≥ 0 [return per currency].
    text
        Where it comes from, in words.

    Raises
    ------
    InvalidInput
        On wrong shapes, NaN, or matrices that are not PSD.
    """

    names: tuple[str, ...]
    matrices: FloatArray
    text: str = "given bound"

    def __post_init__(self) -> None:
        names = tuple(str(n) for n in self.names)
        R = np.array(self.matrices, dtype=np.float64)
        N = len(names)
        if R.ndim not in (2, 3) or R.shape[1:] != (N,) * (R.ndim - 1):
            raise InvalidInput(
                f"must be (M, {N}) or (M, {N}, {N})", field="matrices", value=R.shape, remedy="one row per name"
            )
        if not np.isfinite(R).all():
            raise InvalidInput("must be finite", field="matrices", value="NaN or inf", remedy="check the intervals")
        if R.ndim == 2:
            worst = float(R.min(initial=0.0))
        else:
            R = 0.5 * (R + np.swapaxes(R, 1, 2))
            worst = float(np.linalg.eigvalsh(R)[:, 0].min(initial=0.0))
        if worst < -1e-10 * max(float(np.abs(R).max(initial=0.0)), 1e-300):
            raise InvalidInput(
                "must be positive semidefinite", field="matrices", value=worst, remedy="a bound only adds impact"
            )
        R.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "matrices", R)

    def subset(self, names: Sequence[str]) -> ImpactBound:
        """Return the bound on some names in the given order; raises InvalidInput for one that is unknown."""
        missing = [n for n in names if n not in self.names]
        if missing:
            raise InvalidInput("the bound lacks names", field="names", value=missing, remedy="bound all of the basket")
        at = [self.names.index(n) for n in names]
        part = self.matrices[:, at] if self.matrices.ndim == 2 else self.matrices[:, at][:, :, at]
        return ImpactBound(tuple(names), part, self.text)

    def apply(self, problem: BasketProblem) -> BasketProblem:
        """Return the basket under the worst impact of the set."""
        part = self.subset(problem.names)
        if len(part.matrices) != len(problem.model.rates_per_s):
            raise InvalidInput(
                "has another number of modes than the model",
                field="matrices",
                value=len(part.matrices),
                remedy="one matrix per decay rate",
            )
        return problem.replace(model=enlarge_model(problem.model, part.matrices))


def _own(model: Any) -> FloatArray:
    from crosswind.optim.factored import diagonal_of

    return np.stack([diagonal_of(mode.matrix) for mode in model.modes()])


def own_impact_bound(model: Any, radius: float) -> ImpactBound:
    """Return R_m = r diag(K_m): ‖D^{-½} Δ_m D^{-½}‖₂ ≤ r with D = diag(K_m), errors relative to own impact."""
    r = as_scalar(radius, "radius")
    return ImpactBound(model.names, r * _own(model), f"own impact x {r:g}")


def scaled_bound(model: ImpactModel, radius: float) -> ImpactBound:
    """Return R_m = r K_m: the whole of the impact may be larger by the share r."""
    r = as_scalar(radius, "radius")
    return ImpactBound(model.names, r * np.stack([mode.matrix for mode in model.modes()]), f"all impact x {r:g}")


def entry_bound(model: Any, half_widths: FloatArray) -> ImpactBound:
    """Return the diagonal R_m,ii = Σ_j h_ij s_j / s_i that dominates every |Δ_ij| ≤ h_ij; s_i = K_m,ii^{-½}.

    Parameters
    ----------
    model
        The fitted model.
    half_widths
        h (M, N, N) ≥ 0 [return per currency], such as half of the intervals' widths.

    Raises
    ------
    InvalidInput
        On wrong shapes, NaN or negative widths.
    """
    own = _own(model)
    h = np.array(half_widths, dtype=np.float64)
    if h.shape != (*own.shape, own.shape[1]) or not np.isfinite(h).all() or (h < 0.0).any():
        raise InvalidInput(
            f"must be ≥ 0 and of shape {(*own.shape, own.shape[1])}", field="half_widths", value=h.shape, remedy="check"
        )
    floor = np.maximum(own, 1e-12 * own.max(initial=0.0))
    s = 1.0 / np.sqrt(np.where(floor > 0.0, floor, 1.0))
    R = np.einsum("mij,mj->mi", np.maximum(h, np.swapaxes(h, 1, 2)), s) / s
    return ImpactBound(model.names, R, "intervals of the entries")


def bound_from_bands(bands: Bands, level: float | None = None) -> ImpactBound:
    """Return the bound relative to own impact that holds in a share ``level`` of the bootstrap draws.

    r is the quantile over draws of max_m λ_max(D_m^{-½}(K_m^b − K_m)D_m^{-½}), D_m = diag(K_m) with a floor of a
    thousandth of its median. It shares the bias of the draws: what shrinkage took from cross terms it does not know.

    Parameters
    ----------
    bands
        Refits on resampled moments.
    level
        Default the bands' own.
    """
    share = bands.level if level is None else as_scalar(level, "level", strict=True)
    if share >= 1.0:
        raise InvalidInput("must lie below 1", field="level", value=share, remedy="0.9 is usual")
    own = np.stack([np.diag(K) for K in bands.model.matrices])
    D = np.maximum(own, np.maximum(1e-3 * np.median(own, axis=1, keepdims=True), 1e-300))
    root = 1.0 / np.sqrt(D)
    error = (bands.matrices - bands.model.matrices) * root[:, :, None] * root[:, None, :]
    error = 0.5 * (error + np.swapaxes(error, -1, -2))
    r = np.linalg.eigvalsh(error)[..., -1].max(axis=1)
    radius = max(float(np.quantile(r, share)), 0.0)
    return ImpactBound(bands.model.names, radius * D, f"{share:.0%} of {len(r)} draws, own impact x {radius:.3g}")


def draws_from_bands(bands: Bands, most: int = 30, seed: int = 0) -> tuple[ImpactModel, ...]:
    """Return up to ``most`` of the bootstrap draws as models, the fit itself first."""
    rng = np.random.default_rng(seed)
    count = min(int(most), len(bands.matrices))
    pick = np.sort(rng.choice(len(bands.matrices), size=count, replace=False))
    return (bands.model, *(replace(bands.model, matrices=bands.matrices[b]) for b in pick))


@dataclass(frozen=True, eq=False)
class GuardedSchedule:
    """A schedule that guards against a set of states, beside the one that does not.

    Attributes
    ----------
    problem
        The basket as believed.
    kind
        What is guarded against, in words.
    trades, nominal
        The guarded schedule and the unguarded optimum (T × N) [currency].
    table
        Rows ``nominal`` and ``guarded``; columns ``believed`` (total cost as believed, or on average over the
        states) and ``guarded_against`` (worst case or CVaR) [bps of the parent notional].
    states
        Total cost by state of both schedules [bps]; empty for a bound, whose worst case is one matrix.
    weights
        Weights of the states at which the guarded schedule is optimal; empty for a bound.
    gap_rel
        Certified relative distance from the optimum.
    """

    problem: BasketProblem
    kind: str
    trades: pd.DataFrame
    nominal: pd.DataFrame
    table: pd.DataFrame
    states: pd.DataFrame
    weights: pd.Series
    gap_rel: float

    @property
    def price_bps(self) -> float:
        """What the guard costs if the belief is right [bps], ≥ 0 up to the accuracy of the solves."""
        nominal, guarded = self.table["believed"].to_numpy(dtype=np.float64)
        return float(guarded - nominal)

    @property
    def protection_bps(self) -> float:
        """What it saves in what it guards against [bps], ≥ 0 up to the accuracy of the solves."""
        nominal, guarded = self.table["guarded_against"].to_numpy(dtype=np.float64)
        return float(nominal - guarded)

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return price and protection in words."""
        return "\n".join(
            [
                f"guarded against {self.kind} [bps of the parent notional]",
                self.table.round(4).to_string(),
                f"price {self.price_bps:.4f}, protection {self.protection_bps:.4f}, gap {self.gap_rel:.1e} (relative)",
            ]
        )

    def plot(self) -> Any:
        """Return the cost by state of both schedules, or for a bound their two costs."""
        from crosswind.problems.basket.analysis.figures import guard_figure

        return guard_figure(self)

    def _repr_html_(self) -> str:
        return str(self.table.round(4).to_html())


def robust_schedule(
    problem: BasketProblem,
    uncertainty: ImpactBound | Iterable[ImpactModel],
    *,
    tol: float = 1e-6,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> GuardedSchedule:
    """Return the schedule whose worst cost over a set of impact models is least.

    Parameters
    ----------
    problem
        The basket as believed.
    uncertainty
        An :class:`ImpactBound`, or models (draws of one fit), to which the believed one is added.
    tol
        Relative gap of the worst case over models.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        On a bound of other names or modes, no model, or models of other names or rates.
    SolverFailure
        When the gap is not closed.
    """
    nominal = problem.solve(solver, **settings)
    if isinstance(uncertainty, ImpactBound):
        worst = uncertainty.apply(problem)
        found = worst.solve(solver, **settings)
        pairs = {"nominal": nominal.trades, "guarded": found.trades}
        table = _table(problem, {k: (problem.score(t)["total"], worst.score(t)["total"]) for k, t in pairs.items()})
        empty = pd.DataFrame(columns=list(pairs), dtype=np.float64)
        gap = max(float(found.certificate.gap_rel), 0.0)
        nothing = pd.Series(dtype=np.float64)
        return GuardedSchedule(
            problem, f"impact within {uncertainty.text}", found.trades, nominal.trades, table, empty, nothing, gap
        )
    models = list(uncertainty)
    if not models:
        raise InvalidInput("holds no model", field="uncertainty", value=0, remedy="pass draws, or an ImpactBound")
    states = [problem, *(problem.replace(model=model) for model in models)]
    labels = ["believed", *(f"draw {k}" for k in range(len(models)))]
    start = np.eye(len(states))[0]
    return _guarded(
        problem, states, labels, np.ones(len(states)), start, start, "the worst model", nominal, tol, solver, settings
    )


def cvar_schedule(
    problem: BasketProblem,
    scenarios: Iterable[Scenario],
    probabilities: Sequence[float] | None = None,
    *,
    level: float = 0.9,
    tol: float = 1e-6,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> GuardedSchedule:
    """Return the schedule with the least CVaR of cost over scenarios: the mean of the dearest share 1 − ``level``.

    CVaR_α(C) = min_ζ ζ + E(C − ζ)⁺/(1 − α). The limits are those of the forecast: a plan is made before the day is
    known. The unguarded schedule beside it has the least mean cost over the same scenarios.

    Parameters
    ----------
    problem
        The basket as forecast.
    scenarios
        States of the market, see :func:`market_scenarios`.
    probabilities
        One per scenario, summing to one; default equal.
    level
        α in [0, 1); 0 is the mean.
    tol
        Relative gap.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        On no scenario, bad probabilities or a level outside [0, 1).
    SolverFailure
        When the gap is not closed.
    """
    listed = list(scenarios)
    if not listed or not all(isinstance(s, Scenario) for s in listed):
        raise InvalidInput(
            "needs at least one Scenario", field="scenarios", value=len(listed), remedy="market_scenarios(50)"
        )
    share = as_scalar(level, "level")
    if share >= 1.0:
        raise InvalidInput("must lie in [0, 1)", field="level", value=level, remedy="robust_schedule takes the worst")
    S = len(listed)
    p = np.full(S, 1.0 / S) if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    if p.shape != (S,) or not np.isfinite(p).all() or (p < 0.0).any() or abs(float(p.sum()) - 1.0) > 1e-9:
        raise InvalidInput(
            "must be >= 0 and sum to one, one per scenario", field="probabilities", value=p, remedy="None: equal ones"
        )
    states = [s.apply(problem) for s in listed]
    labels = [s.name for s in listed]
    mean = blend(problem, states, p).solve(solver, **settings)
    cap = np.minimum(p / (1.0 - share), 1.0)
    kind = f"the dearest {1.0 - share:.0%} of {S} scenarios" if share > 0.0 else f"the mean of {S} scenarios"
    return _guarded(problem, states, labels, cap, p, p, kind, mean, tol, solver, settings)


def _table(problem: BasketProblem, rows: dict[str, tuple[float, float]]) -> pd.DataFrame:
    values = {k: [problem.to_bps(float(v)) for v in pair] for k, pair in rows.items()}
    return pd.DataFrame.from_dict(values, orient="index", columns=["believed", "guarded_against"])


def _guarded(
    problem: BasketProblem,
    states: list[BasketProblem],
    labels: list[str],
    cap: FloatArray,
    belief: FloatArray,
    start: FloatArray,
    kind: str,
    nominal: Any,
    tol: float,
    solver: str | tuple[str, ...],
    settings: dict[str, Any],
) -> GuardedSchedule:
    found = guard(problem, states, cap, start, tol=as_scalar(tol, "tol", strict=True), solver=solver, **settings)
    pairs = {"nominal": nominal.trades, "guarded": problem.frame(found.trades)}
    costs = {k: np.array([float(s.score(t)["total"]) for s in states]) for k, t in pairs.items()}
    table = _table(problem, {k: (float(belief @ c), coherent_risk(c, cap)[0]) for k, c in costs.items()})
    by_state = pd.DataFrame({k: [problem.to_bps(v) for v in c] for k, c in costs.items()}, index=labels)
    return GuardedSchedule(
        problem,
        kind,
        pairs["guarded"],
        nominal.trades,
        table,
        by_state.rename_axis("state"),
        pd.Series(found.weights, index=labels, name="weight"),
        found.gap_rel,
    )
