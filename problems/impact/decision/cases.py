"""One fold: what trains, what the schedules are for, and the ruler that saw neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.calibrate.folds import time_folds
from crosswind.problems.impact.decision.parents import ParentBaskets
from crosswind.problems.impact.decision.penalties import Fit, FitPath
from crosswind.problems.impact.decision.ruler import Ruler
from crosswind.problems.impact.decision.schedule import Schedule, ScheduleProgram
from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import factor_loadings
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Account", "Case", "Desk", "build_cases", "training_path"]

Array = NDArray[np.float64]
_LARGEST = 3000  # variables of the schedule's dense program


@dataclass(frozen=True, eq=False)
class Desk:
    """How the parents are traded.

    Parameters
    ----------
    parents
        The baskets.
    times_s
        Trade times (T,) [s]; None: 12 (fewer for many names) over twice the slowest fading half-life, within a session.
    temporary
        Temporary impact η: a number relative to each name's own slope, or a Series by name [return per currency].
    risk
        Σ by name [return per currency] of ½ Σ_t q_t'Σq_t, risk aversion and the length of a slice included; None: none.
    """

    parents: ParentBaskets
    times_s: Array | None = None
    temporary: float | pd.Series = 0.1
    risk: pd.DataFrame | None = None

    def times(self, dictionary: Dictionary, session_s: float, names: int) -> Array:
        """Trade times (T,) [s].

        Raises
        ------
        InvalidInput
            Fewer than two times, or times that do not rise.
        """
        if self.times_s is not None:
            times = np.asarray(self.times_s, dtype=np.float64)
            if times.ndim != 1 or times.size < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise InvalidInput("two rising times at least", field="times_s", value=times.tolist())
            return times
        fading = [b for b in dictionary.rates_per_s if b > 0]
        span = 2.0 * np.log(2.0) / min(fading) if fading else 12.0 * dictionary.bucket_s
        steps = int(np.clip(_LARGEST // names, 3, 12))
        return np.linspace(0.0, max(min(span, session_s), (steps - 1) * dictionary.bucket_s), steps)

    def program(self, names: tuple[str, ...], dictionary: Dictionary, own: Array, session_s: float) -> ScheduleProgram:
        """Return the scheduling problem in units of own = √k_i (N,)."""
        if isinstance(self.temporary, pd.Series):
            held = self.temporary.reindex(list(names)).to_numpy(dtype=np.float64)
            if not np.isfinite(held).all():
                raise InvalidInput("a value is needed for every name", field="temporary", value=list(names))
            eta = held / own**2
        else:
            eta = np.full(len(names), float(self.temporary))
        risk = None
        if self.risk is not None:
            values = self.risk.reindex(index=list(names), columns=list(names)).to_numpy(dtype=np.float64)
            values = 0.5 * (values + values.T)
            if not np.isfinite(values).all() or np.linalg.eigvalsh(values)[0] < -1e-9 * np.trace(values):
                raise InvalidInput("must be PSD, every name in it", field="risk", remedy="give a covariance × aversion")
            risk = values / np.outer(own, own)
        legs = self.parents.scaled(names, own)
        return ScheduleProgram.of(dictionary, self.times(dictionary, session_s, len(names)), legs, eta, risk)


@dataclass(frozen=True, eq=False)
class Account:
    """What one model's schedules promise and cost on one fold.

    Parameters
    ----------
    schedule
        The schedules.
    cost, promised
        By parent, (P,).
    noise
        Cost moved by each cell of the ruler, (C, P).
    r2
        Held-out R² of the model, mean over names.
    """

    schedule: Schedule
    cost: Array
    promised: Array
    noise: Array
    r2: float


@dataclass(frozen=True, eq=False)
class Case:
    """One fold.

    Parameters
    ----------
    path
        Fits of the training rows.
    program
        The parents' scheduling problem, in the training rows' units.
    ruler
        Unbiased account from the block that does not train.
    """

    path: FitPath
    program: ScheduleProgram
    ruler: Ruler

    def schedule(self, matrices: Array) -> Schedule:
        """Return the schedules of K' (M, N, N).

        Raises
        ------
        InvalidInput
            There is none: with no temporary impact a flat kernel has no best schedule.
        """
        found = self.program.solve(matrices)
        if found is None:
            raise InvalidInput(
                "the schedule is not unique under this kernel",
                field="temporary",
                value=float(self.program.temporary.min()),
                remedy="give a temporary impact > 0",
            )
        return found

    def account(self, matrices: Array) -> Account:
        """Schedule K' (M, N, N) and account for it."""
        schedule = self.schedule(matrices)
        impact, noise = self.ruler.account(self.program.weights(schedule.trades))
        cost = impact + self.program.fixed_cost(schedule.trades)
        return Account(schedule, cost, schedule.promised, noise, self.ruler.score(matrices))

    def at(self, penalties: Mapping[str, float]) -> Account:
        """Fit at penalties, schedule, account."""
        return self.account(self.path.at(penalties).matrices)

    def fit(self, penalties: Mapping[str, float], tol: float | None = None) -> Fit:
        """Fit the training rows at penalties."""
        return self.path.at(penalties, tol)


def training_path(
    events: MarketEvents, estimator: CrossImpact, dictionary: Dictionary, tol: float = 1e-6
) -> tuple[FitPath, Sample]:
    """Return the fits of ``events``: scaling, targets, clusters and loadings are learned from these rows alone."""
    names = tuple(str(n) for n in events.names)
    two_stage = estimator.defactor and events.factors is not None and events.factors.shape[1] > 0
    sample = Sample.of(events, names, factor_loadings(events, names) if two_stage else None)
    use = sample.use
    estimator._check_identified(int(use.sum()), (sample.flow[use] ** 2).sum(axis=0), names, dictionary.size)
    grams = sample.dictionary_moments(dictionary)
    recipe = estimator._recipe()
    # The split is added by the path, which has several of them.
    base = replace(recipe, split=0.0).base(grams.total, grams.raw_return_cov, dictionary, names)
    ridge = 0.0 if isinstance(estimator.ridge, str) else float(estimator.ridge)
    return FitPath(recipe, base, dictionary, names, grams.raw_return_cov, tol, ridge), sample


def build_cases(
    events: MarketEvents,
    estimator: CrossImpact,
    dictionary: Dictionary,
    desk: Desk,
    folds: int,
    ruler: str,
    cells: int,
    tol: float = 1e-6,
) -> tuple[Case, ...]:
    """Cut the events into blocked, purged folds; nothing of a block reaches its fold's fits, baskets or schedules."""
    sessions = events.session.to_numpy()
    _, counts = np.unique(sessions, return_counts=True)
    session_s = float(counts.max()) * events.bucket_s
    out = []
    for train, test in time_folds(events, folds, dictionary.memory_buckets).split(events):
        path, _ = training_path(train, estimator, dictionary, tol)
        program = desk.program(path.names, dictionary, path.base.scale, session_s)
        held = Ruler.of(test, path.names, dictionary, path.base.scale, ruler, cells, bool(estimator.defactor))
        out.append(Case(path, program, held))
    return tuple(out)
