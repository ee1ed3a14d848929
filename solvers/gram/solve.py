"""The solve: iterate, certify, stop on the proven gap and on nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput, SolverFailure
from crosswind.solvers.gram.admm import Iteration
from crosswind.solvers.gram.certificate import Bound, Certifier, Multipliers
from crosswind.solvers.gram.level import Level
from crosswind.solvers.gram.problem import Array, GramConeFit, violations
from crosswind.solvers.gram.solution import GramConeSolution, GramProgress, GramState
from crosswind.solvers.solution import Status
from crosswind.solvers.threads import one_blas_thread

__all__ = ["gram_path", "solve_gram"]

_SINGLE = 64  # names from which float32 iterations pay
_PRECISE = 3e-7  # float32 iterations are not asked for gaps below this
_NEAR = 300.0  # multiples of tol within which the dearer feasible point is worth its price
_FIRST, _FIRST_LARGE = 6, 10  # iterations of a cold start before the first certificate
_PACE = 0.45  # fall of log gap per iteration, before any was seen
_WAIT = 12  # most iterations between two certificates
_ROUNDING = 1e-11  # of 1 + |objective|: a bound above the objective by more is no bound
_LARGEST = 1e100  # entries of a warm start whose squares can still be worked with


def solve_gram(
    fit: GramConeFit,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int = 5000,
    progress: Callable[[GramProgress], Any] | None = None,
    warm: GramConeSolution | GramState | None = None,
) -> GramConeSolution:
    """Minimise the Gram fit over its cone to a proven gap.

    Parameters
    ----------
    fit
        The problem.
    tol
        Largest (objective − lower bound)/(1 + |objective|) that counts as OPTIMAL, in (0, 1).
    time_limit
        Seconds after which the best certified iterate is returned, whatever its gap.
    max_iter
        Iterations after which it is.
    progress
        Called with each certified moment, in order.
    warm
        Solution or state of a problem of the same shape: its copies, multipliers and, for the same S, factorisations.

    Returns
    -------
    GramConeSolution
        Always feasible and graded by its own bound; OPTIMAL, TIME_LIMIT or ITERATION_LIMIT. The same problem and
        options give the same bits: nothing but the time limit depends on the clock, and BLAS is held to one thread.

    Raises
    ------
    InvalidInput
        On a tolerance, limit or warm start that makes no sense; on S with a negative eigenvalue.
    SolverFailure
        An eigendecomposition failed or the objective overflowed, as with entries near the largest float.

    Notes
    -----
    Method in `admm`, bound in `certificate`, feasible points in `restore`; the proximal map in `prox`.
    """
    if not 0.0 < tol < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="for example 1e-6")
    if time_limit is not None and not time_limit > 0.0:
        raise InvalidInput("must be > 0", field="time_limit", value=time_limit, remedy="None is no limit")
    if not 1 <= max_iter < math.inf:
        raise InvalidInput("must be ≥ 1 and finite", field="max_iter", value=max_iter, remedy="5000 is usual")
    begin = warm.state if isinstance(warm, GramConeSolution) else warm
    if begin is not None:
        _check_state(begin, fit)
    with one_blas_thread():
        return _Solve(fit, tol, time_limit, max_iter, progress, begin).run()


def _check_state(begin: GramState, fit: GramConeFit) -> None:
    """Refuse a start that the iterations could not leave."""
    if begin.copies.shape != (2, fit.shapes, fit.names, fit.names):
        raise InvalidInput(
            "comes from a problem of another shape",
            field="warm",
            value=begin.copies.shape,
            remedy=f"needs (2, {fit.shapes}, {fit.names}, {fit.names})",
        )
    if not float(np.max(np.abs(begin.copies))) <= _LARGEST:
        raise InvalidInput(
            "has copies that are not finite or near overflow",
            field="warm",
            value=float(np.max(np.abs(begin.copies))),
            remedy="start cold: warm=None",
        )
    if len(begin.tau) != 2 or not all(0.0 < tau < math.inf for tau in begin.tau):
        raise InvalidInput("needs two penalties > 0", field="warm", value=begin.tau, remedy="start cold: warm=None")


def gram_path(
    fit: GramConeFit,
    penalties: Sequence[Mapping[str, float]],
    tol: float = 1e-6,
    time_limit: float | None = None,
    warm: GramConeSolution | GramState | None = None,
) -> list[GramConeSolution]:
    """Solve for each set of penalties in turn, each from the one before; the moments are factorised once.

    Parameters
    ----------
    fit
        The problem; its penalties hold where a set does not name them.
    penalties
        Mappings with any of "ridge", "l1", "pool"; neighbours in value should be neighbours in order.
    tol, time_limit, warm
        See `solve_gram`; the time limit is for each.

    Returns
    -------
    list
        One solution for each set, in order.
    """
    for chosen in penalties:
        if unknown := set(chosen) - {"ridge", "l1", "pool"}:
            raise InvalidInput("unknown penalty", field="penalties", value=sorted(unknown), remedy="ridge, l1, pool")
    out: list[GramConeSolution] = []
    for chosen in penalties:
        out.append(solve_gram(fit.with_penalties(**chosen), tol, time_limit, warm=out[-1] if out else warm))
    return out


class _Solve:
    """One run: best feasible point, best bound, and when to look next."""

    def __init__(
        self,
        fit: GramConeFit,
        tol: float,
        time_limit: float | None,
        max_iter: int,
        progress: Callable[[GramProgress], Any] | None,
        begin: GramState | None,
    ) -> None:
        self.begun = time.perf_counter()
        self.fit, self.tol, self.time_limit, self.max_iter, self.progress = fit, tol, time_limit, max_iter, progress
        # A cold start is free to choose its coordinates.
        self.level = Level.of(fit) if begin is None else None
        if self.level is not None:
            self.fit, self.certifier = self.level.fit, self.level.certifier
            fit = self.fit
        else:
            held = begin.certifier if begin is not None else None
            self.certifier = held if held is not None and held.S is fit.S else Certifier(fit)
        self.handed = self.certifier  # what the next solve starts from, whatever this one sharpens
        single = fit.names >= _SINGLE and tol >= _PRECISE and self.certifier.smooth(min(fit.ridge, fit.pool))
        state = None if begin is None else (begin.copies, *begin.tau)
        self.iteration = Iteration(fit, self.certifier, np.float32 if single else np.float64, state)
        self.done = 0
        if begin is not None and begin.penalties != self._penalties():
            self.iteration.retune()
        self.matrices: Array | None = None
        self.objective = np.inf
        self.trace = 0.0
        self.bound: Bound | None = None  # best within reach of the matrices
        self.proof: Bound | None = None  # best everywhere
        self.history: list[GramProgress] = []
        cold = _FIRST_LARGE if fit.names >= _SINGLE else _FIRST
        self.next = 1 if begin is not None else cold

    def _penalties(self) -> tuple[float, float, float]:
        return self.fit.ridge, self.fit.l1, self.fit.pool

    def run(self) -> GramConeSolution:
        while True:
            self.iteration.project()
            last = self.done + 1 >= self.max_iter
            late = self.time_limit is not None and time.perf_counter() - self.begun >= self.time_limit
            if self.done + 1 >= self.next or last or late:
                gap = self._look(last or late)
                if gap <= self.tol:
                    return self._result(Status.OPTIMAL)
                if late or last:
                    return self._result(Status.TIME_LIMIT if late else Status.ITERATION_LIMIT)
                if self._stalled():
                    self._sharpen()
                    self.iteration.project()
            self.iteration.advance()
            self.done += 1

    def _lower(self) -> float:
        """Return the best bound for the matrices in hand: what is within their reach changes with their trace."""
        lower = -np.inf if self.bound is None else self.bound.within(self.trace)
        return min(lower, self.objective)

    def _gap(self) -> float:
        lower = self._lower()
        return (self.objective - lower) / (1.0 + abs(self.objective)) if np.isfinite(lower) else np.inf

    def _sound(self, bound: Bound | None) -> Bound | None:
        """Drop a bound that the matrices undercut beyond rounding: they are feasible, so it is none."""
        if bound is None or not bound.within(self.trace) <= self.objective + _ROUNDING * (1.0 + abs(self.objective)):
            return None
        return bound

    def _weigh(self, bound: Bound | None) -> None:
        """Keep what is sound, and of that the better: ``bound`` may be new or None."""
        old, self.proof, bound = self._sound(self.bound), self._sound(self.proof), self._sound(bound)
        if bound is not None and (old is None or bound.within(self.trace) > old.within(self.trace)):
            old = bound
        if bound is not None and (self.proof is None or bound.value > self.proof.value):
            self.proof = bound
        self.bound = old

    def _look(self, final: bool) -> float:
        """Certify the state, keep what is best, and decide when to look again."""
        near = bool(self.history) and self.history[-1].gap <= _NEAR * self.tol and self.fit.corr_bound > 0.0
        if not near or final:
            self._keep(*self.iteration.feasible())
        if near or final:
            self._keep(*self.iteration.restored())
        assert self.matrices is not None
        self._weigh(self.iteration.bound())
        gap = self._gap()
        if not (near or final) and self.tol < gap <= _NEAR * self.tol and self.fit.corr_bound > 0.0:
            self._keep(*self.iteration.restored())
            self._weigh(None)
            gap = self._gap()
        done = self.done + 1
        moment = GramProgress(
            done, time.perf_counter() - self.begun, self.objective, self._lower(), gap, str(self.iteration.dtype)
        )
        wait = math.log(gap / self.tol) / _PACE if self.tol < gap < np.inf else 5.0
        if self.history and 0.0 < gap < self.history[-1].gap < np.inf:
            rate = math.log(self.history[-1].gap / gap) / (done - self.history[-1].iteration)
            wait = math.log(gap / self.tol) / rate if gap > self.tol else 1.0
        self.next = done + int(np.clip(round(0.8 * wait), 2, _WAIT))
        self.history.append(moment)
        if self.progress is not None:
            self.progress(moment)
        return gap

    def _keep(self, K: Array, value: float) -> None:
        if value < self.objective or self.matrices is None:
            self.matrices, self.objective = K, value
            self.trace = float(np.einsum("mii->", K))

    def _stalled(self) -> bool:
        """Tell whether float32 iterations have given what they can."""
        if self.iteration.dtype != np.float32 or len(self.history) < 4:
            return False
        return self.history[-1].gap > 0.7 * self.history[-3].gap

    def _sharpen(self) -> None:
        """Go on in float64 from the same state."""
        if not self.iteration.level:
            self.certifier = self.certifier.exact()
        self.iteration = self.iteration.sharpened(self.certifier)

    def _result(self, status: Status) -> GramConeSolution:
        assert self.matrices is not None
        self.iteration.rest()
        fit, K = self.fit, self.matrices
        if self.level is not None:
            fit, K = self.level.original, self.level.matrices(K)
        worst = violations(K, np.asarray(fit.floor), fit.corr_bound)
        if worst.eigenvalue > 1e-13:
            # Rounding of the squares; a lift of its size keeps every limit.
            own = np.linalg.eigvalsh(K)
            K = K + np.maximum(-2.0 * own[:, 0], 0.0)[:, None, None] * np.eye(fit.names)
            self.objective = fit.objective(K)
            worst = violations(K, np.asarray(fit.floor), fit.corr_bound)
            self.trace = float(np.einsum("mii->", K))
        if not np.isfinite(self.objective):
            raise SolverFailure(
                "the objective is not finite", field="objective", value=self.objective, remedy="rescale the data"
            )
        lower, rigorous, prices = self._graded(status)
        if status is Status.OPTIMAL and self._gap() > self.tol:
            status = Status.INACCURATE
        z, tp, tq = self.iteration.state()
        handed: Certifier | None = self.handed
        if self.level is not None:
            prices, handed = self.level.prices(prices), None
            z = self.level.copies(z, (self.iteration.P, self.iteration.Q))
        else:
            z = z.astype(np.float64)
        K.setflags(write=False)
        return GramConeSolution(
            K,
            self.objective,
            lower,
            rigorous,
            status,
            self.tol,
            self.done + 1,
            time.perf_counter() - self.begun,
            prices,
            GramState(z, (tp, tq), self._penalties(), handed),
            tuple(self.history),
            worst,
        )

    def _graded(self, status: Status) -> tuple[float, bool, Multipliers]:
        """Return the bound to report, whether it holds everywhere, and its multipliers.

        The one that holds everywhere where it is as good, or good enough for the tolerance; else the one within reach.
        """
        if self.bound is None:
            none = np.zeros_like(self.matrices)
            return -np.inf, False, Multipliers(none, none.copy(), np.zeros(none.shape[:2]))
        lower, size = self._lower(), 1.0 + abs(self.objective)
        if self.proof is not None and np.isfinite(self.proof.value):
            proven = min(self.proof.value, self.objective)
            close = status is Status.OPTIMAL and self.objective - proven <= self.tol * size
            if close or lower - proven <= _ROUNDING * size:
                return proven, True, self.proof.multipliers
        return lower, False, self.bound.multipliers
