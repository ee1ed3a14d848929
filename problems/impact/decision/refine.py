r"""The kernel itself moved by the money: down the projected gradient of unbiased costs, near the fit, still admissible.

Penalties are few numbers; the kernel has many. On one split, from the fit K₀ of the training rows,

.. math:: \min_K \; \sum_p L_p(u^*(K); \hat K) \;\; \text{s.t.} \;\; K \text{ admissible}, \; \|K - K_0\| \le r \|K_0\|,

by projected gradient steps, K̂ the ruler of the rows that did not train. Admissible sets are convex, so a step that is
first projected on the constraints and then drawn towards K₀ until it is inside the ball satisfies all of them.

The ruler's noise is fitted along with its message, hence the radius r is chosen on rows that neither the fit nor the
ruler saw: the whole procedure (split, move, average the moves over splits) runs inside each outer fold, and its saving
there is bounded like that of a penalty. Radius 0, no move, is among the choices and saves 0 for sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.decision.cases import Case, Desk, build_cases
from crosswind.problems.impact.decision.search import Bounding, cautious, savings, simultaneous
from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.program import FitProblem
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.gram import project_admissible

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["RADII", "Refinement", "move_kernel", "nearest_admissible", "refine_kernel"]

Array = NDArray[np.float64]

RADII: tuple[float, ...] = (0.05, 0.1, 0.2)
_SPLITS, _STEPS, _HALVINGS = 2, 4, 6
_TOL, _ROUGH = 1e-7, 1e-4  # of the last projection and of those on the way: either gives exactly admissible matrices


@dataclass(frozen=True, eq=False)
class Refinement:
    """What moving the kernel was worth.

    Attributes
    ----------
    radius
        The radius chosen, relative to the norm of the fitted matrices in scaled coordinates; 0: the fit was kept.
    table
        By radius: "saving" against the fit on rows that nothing had seen, with "low" and "high" that hold for all radii
        together, in units of what the fit's schedules promise.
    moved
        ‖K − K₀‖/‖K₀‖ of the kernel returned.
    """

    radius: float
    table: pd.DataFrame
    moved: float

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return one line."""
        values = self.table["saving"].to_numpy()
        at = int(np.argmax(values)) if self.radius == 0.0 else list(self.table.index).index(self.radius)
        low, high = (float(self.table[bound].to_numpy()[at]) for bound in ("low", "high"))
        saved = f"{float(values[at]):.2%} ({low:.2%} … {high:.2%}) out of sample"
        if self.radius == 0.0:
            return f"kernel kept as fitted: at best (radius {float(self.table.index[at]):g}) a move saved {saved}"
        return f"kernel moved by {self.moved:.1%} of its norm: saves {saved}"


def nearest_admissible(problem: FitProblem, matrices: Array, tol: float = _TOL) -> Array:
    """Nearest K' (M, N, N) that satisfies the problem's constraints, exactly feasible."""
    found = project_admissible(matrices, problem.floor, problem.corr_bound, tol=tol)
    if not found.status.usable:
        raise SolverFailure("the projection was not solved", field="matrices", value=found.status.name)
    return np.asarray(found.matrices)


def move_kernel(case: Case, start: Array, radii: Sequence[float], steps: int = _STEPS) -> list[Array]:
    """Projected gradient descent of one case's cost from ``start`` within each radius in turn, smallest first.

    Returns
    -------
    list of Array
        One K' (M, N, N) per radius, each admissible and of no larger cost than the one before.
    """
    problem, size = case.path.base, float(np.linalg.norm(start))

    def cost(K: Array) -> float:
        return float(case.program.account(case.schedule(K).trades, case.ruler.matrices).sum())

    K, value, out = start, cost(start), []
    for radius in radii:
        reach = radius * size
        for _ in range(steps):
            slope = case.program.gradient(case.schedule(K), case.ruler.matrices)
            length = float(np.linalg.norm(slope))
            if length == 0.0:
                break
            step, after = reach / length, np.inf
            for _ in range(_HALVINGS):
                trial = nearest_admissible(problem, K - step * slope, _ROUGH)
                away = float(np.linalg.norm(trial - start))
                if away > reach:
                    trial = start + (reach / away) * (trial - start)
                after = cost(trial)
                if after < value - 1e-4 * float(np.vdot(slope, K - trial)):
                    break
                step *= 0.5
            if not after < value - 1e-9 * abs(value):
                break
            K, value = trial, after
        out.append(K)
    return out


def _moves(
    events: MarketEvents,
    estimator: CrossImpact,
    dictionary: Dictionary,
    desk: Desk,
    penalties: dict[str, float],
    radii: Sequence[float],
    ruler: str,
    cells: int,
) -> Array:
    """Mean displacement over splits of the events, (R, M, N, N) [return per currency]."""
    total: Array | None = None
    for case in build_cases(events, estimator, dictionary, desk, _SPLITS, ruler, cells):
        start = case.fit(penalties).matrices
        moved = np.stack([case.path.base.unscale(K - start) for K in move_kernel(case, start, radii)])
        total = moved if total is None else total + moved
    assert total is not None  # there are splits
    return np.asarray(total / _SPLITS)


def refine_kernel(
    events: MarketEvents,
    estimator: CrossImpact,
    dictionary: Dictionary,
    desk: Desk,
    outer: Sequence[tuple[MarketEvents, Case]],
    final: tuple[FitProblem, Array],
    penalties: dict[str, float],
    radii: Sequence[float],
    ruler: str,
    cells: int,
    bounding: Bounding,
) -> tuple[Array, Refinement]:
    """Choose a radius on the outer folds and move the final fit by it.

    Parameters
    ----------
    outer
        Training events and case of each outer fold.
    final
        Scaled problem and K' (M, N, N) of the fit to all rows.
    radii
        Rising, > 0.

    Returns
    -------
    tuple
        K' (M, N, N), admissible, and what is known of it.
    """
    base, moved = [], []
    for train, case in outer:
        start = case.fit(penalties).matrices
        scale = np.outer(case.path.base.scale, case.path.base.scale)
        shifts = _moves(train, estimator, dictionary, desk, penalties, radii, ruler, cells) / scale
        base.append(case.account(start))
        moved.append([case.account(nearest_admissible(case.path.base, start + shift)) for shift in shifts])
    pairs = [savings(base, [held[k] for held in moved]) for k in range(len(radii))]
    none = (np.zeros_like(pairs[0][0]), np.zeros_like(pairs[0][1]))
    bands = simultaneous([none, *pairs], bounding.drawn, bounding.level, bounding.resamples, bounding.seed)
    unit = float(np.mean([a.promised.sum() for a in base]))
    table = pd.DataFrame(
        {"saving": bands.saving / unit, "low": bands.low / unit, "high": bands.high / unit},
        index=pd.Index([0.0, *map(float, radii)], name="radius"),
    )
    problem, K = final
    best = cautious(bands, 0)
    if best == 0:
        return K, Refinement(0.0, table, 0.0)
    shift = _moves(events, estimator, dictionary, desk, penalties, radii, ruler, cells)[best - 1]
    after = nearest_admissible(problem, K + shift / np.outer(problem.scale, problem.scale))
    return after, Refinement(float(table.index[best]), table, float(np.linalg.norm(after - K) / np.linalg.norm(K)))
