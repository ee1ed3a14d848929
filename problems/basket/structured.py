"""The basket for the solver made for schedules: thousands of names without a matrix over names × slices.

Risk and impact are handed over as diagonals and factors, limits as boxes, groups, bands and changes. The three-halves
cost is met by the descent of :mod:`crosswind.optim.three_halves`: quadratics around the last schedule, each solved from
the last one's state, and a certificate that adds the conjugate's losses to the gap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.optim.factored import FactorMatrix, columns_of
from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit
from crosswind.optim.three_halves import fenchel_loss
from crosswind.problems.basket.evaluate import slopes
from crosswind.problems.basket.inputs import FloatArray
from crosswind.problems.basket.lowering import priced_risk
from crosswind.problems.basket.structured_prices import (
    DUST,
    EPSILON,
    balanced,
    box_prices,
    limit_prices,
    trade_box,
)
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, SolverFailure
from crosswind.solvers.solution import Certificate, Status

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.solvers.schedule import FactorSchedule, FactorScheduleSolution

__all__ = [
    "STRUCTURED_SETTINGS",
    "StructuredSolution",
    "obstacle",
    "prefers_structured",
    "solve_structured",
    "to_factor_schedule",
]

STRUCTURED_SETTINGS = frozenset({"method", "time_limit", "warm", "max_iter", "progress"})
"""Settings that ``solve("structured")`` takes beside the tolerances."""

_CELLS = 2_500  # names × slices from which "auto" takes the structured solver; the sparse path needs seconds there
_EXACT = 60_000  # names × slices up to which its interior point, exact to 1e-8 and below, takes about a second
_WIDE = 60  # factors of one matrix from which the splitting pays more for them than the interior point for its blocks
_BLOCKS = 3e7  # names × slices² up to which those blocks fit into a gigabyte
_EXPLAINED = 20_000  # names × slices up to which an infeasible basket is explained by an elastic re-solve
_ROUNDS = 40
_IDLE = 4  # rounds without progress after which the descent stops: the inner solves are not exact enough for more
_FLOOR = 1e-6  # smallest |v| by the size of its name; what the quadratic misses below it is 1e-9 of the cost
_PRECISE = 1e-12  # gap that the interior point is asked for at most
_FINEST = 1e-7  # gap that the splitting reaches in sensible time


def obstacle(problem: BasketProblem) -> str | None:
    """Return why a basket does not fit the structured solver, or None when it does."""
    if (problem.arrays.transient_share != 1.0).any() and any(mode.rate_per_s > 0.0 for mode in problem.modes):
        return "an auction takes part in decaying impact in part (Auction.transient < 1)"
    groups = [limit for limit in problem.limits if isinstance(limit, GroupCap)]
    if len(groups) > 1:
        return f"more than one kind of group cap: {', '.join(limit.name for limit in groups)}"
    for limit in groups:
        if not np.isin(limit.membership, (0.0, 1.0)).all() or (limit.membership.sum(axis=0) > 1.0).any():
            return f"the groups of '{limit.name}' overlap or are weighted"
    rates = [limit for limit in problem.limits if isinstance(limit, RateLimit)]
    if len(rates) > 1:
        return f"more than one limit on the change of trades: {', '.join(limit.name for limit in rates)}"
    soft = [x.name for x in problem.limits if isinstance(x, BandLimit) and x.soft is not None]
    return f"soft limits: {', '.join(soft)}" if soft else None


def prefers_structured(problem: BasketProblem) -> bool:
    """Return whether "auto" takes the structured solver: large and without an obstacle.

    Dense matrices of fewer names than there are slices stay sparse in the general program, and go there.
    """
    if problem.n_names * problem.n_slices < _CELLS or obstacle(problem) is not None:
        return False
    factored = all(isinstance(mode.matrix, FactorMatrix) for mode in problem.modes)
    factored &= problem.risk_aversion == 0.0 or isinstance(problem.arrays.covariance, FactorMatrix)
    return factored or problem.n_names >= problem.n_slices


def _preferred_method(schedule: FactorSchedule, tol: float) -> str:
    """Return the method for a tolerance: the interior point where it is exact or the matrices are dense, if it fits."""
    T, N = schedule.eta.shape
    if schedule.change is not None or (tol < _FINEST and N * T <= _EXACT):
        return "interior"
    widest = max(part.shape[1] for part in (schedule.risk_loadings, *schedule.impact_loadings))
    return "interior" if widest > _WIDE and N * T * T <= _BLOCKS else "admm"


def to_factor_schedule(problem: BasketProblem) -> FactorSchedule:
    """Return the basket as :class:`crosswind.solvers.schedule.FactorSchedule`, three-halves cost left out.

    A dense K or Σ is handed over by its root (N columns), which is exact; the interior point then counts in slices.

    Raises
    ------
    InvalidInput
        When the basket does not fit; says why.
    """
    from crosswind.solvers.schedule import FactorSchedule

    reason = obstacle(problem)
    if reason is not None:
        raise InvalidInput(
            f"does not fit this basket: {reason}", field="solver", value="structured", remedy='use solver="auto"'
        )
    a, N, T = problem.arrays, problem.n_names, problem.n_slices
    low, high, _, _ = trade_box(problem)
    rates = np.array([mode.rate_per_s for mode in problem.modes])
    parts = [_split(mode.matrix) for mode in problem.modes]
    covariance, aversion = priced_risk(problem)
    risk_own, risk_loadings = (np.zeros(N), np.zeros((N, 0))) if covariance is None else _split(covariance)
    groups, caps = np.full(N, -1), np.zeros((T, 0))
    vectors, edges = [np.zeros((0, N))], [np.zeros((T, 0))]
    tops = [np.zeros((T, 0))]
    change = previous = None
    for limit in problem.limits:
        if isinstance(limit, GroupCap):
            member = limit.membership > 0.0
            groups = np.where(member.any(axis=0), member.argmax(axis=0), -1)
            caps = limit.cap
        elif isinstance(limit, BandLimit):
            vectors.append(limit.matrix)
            edges.append(limit.lower)
            tops.append(limit.upper)
        elif isinstance(limit, RateLimit):
            change, previous = limit.delta, limit.previous
    return FactorSchedule(
        start=a.inventory,
        eta=a.temporary,
        spread=a.spread,
        linear=-np.cumsum(a.drift[::-1], axis=0)[::-1],
        lower=low,
        upper=high,
        # The solver wants ρ > 0; what an overnight gap leaves of a fast mode is zero to any precision.
        decays=np.maximum(np.exp(-np.outer(rates, a.dt_s)), 1e-300).reshape(len(rates), T),
        impact_own=np.array([own for own, _ in parts]).reshape(len(parts), N),
        impact_loadings=tuple(loadings for _, loadings in parts),
        impact_state=np.array([mode.state for mode in problem.modes]).reshape(len(parts), N),
        risk_own=aversion * risk_own,
        risk_loadings=np.sqrt(aversion) * risk_loadings,
        risk_weight=a.risk_weight,
        terminal_weight=a.terminal_weight,
        target=a.target,
        groups=groups,
        group_caps=caps,
        band_vectors=np.vstack(vectors).T,
        band_lower=np.hstack(edges),
        band_upper=np.hstack(tops),
        change=change,
        previous=previous,
    )


def _split(matrix: Any) -> tuple[FloatArray, FloatArray]:
    if isinstance(matrix, FactorMatrix):
        return matrix.specific, matrix.loadings
    root = columns_of(matrix)
    return np.zeros(len(root)), root[:, np.abs(root).max(axis=0) > 0.0]


@dataclass(frozen=True, eq=False)
class StructuredSolution:
    """A basket solved by structure: what :class:`MultistageSolution` tells, without a lowered program.

    Attributes
    ----------
    trades
        u (T, N).
    solution
        The solver's own result: status, bound, prices, state for a warm start.
    certificate
        Proven: ``lower_bound`` holds for every feasible schedule, whatever the residuals; ``dual`` is therefore zero
        and the stationarity is told beside it. ``gap_rel`` is relative to the sum of the cost's absolute parts.
    marginal_cost
        (T, N) gradient of the cost at the trades, with the subgradient of the spread and of caps that the prices ask.
    completion_price
        (N,) per unit bought.
    prices
        Limit name → (T, columns) ≥ 0.
    stationarity
        (T, N) marginal cost less completion price and prices of limits: how far the prices are from explaining the
        schedule. The bound does not rest on it.
    seconds
        Wall time of all solves.
    rounds
        Quadratic programs solved: one, or more with a three-halves cost.
    """

    trades: FloatArray
    solution: FactorScheduleSolution
    certificate: Certificate
    marginal_cost: FloatArray
    completion_price: FloatArray
    prices: dict[str, FloatArray]
    stationarity: FloatArray
    gradient_scale: float
    seconds: float
    rounds: int = 1

    @property
    def backend(self) -> str:
        """Name of the solver and its method."""
        return f"structured ({self.solution.method})"

    @property
    def status(self) -> Status:
        """What happened."""
        return self.solution.status

    @property
    def gap_currency(self) -> float:
        """Proven distance of the cost from the optimum [currency]."""
        return self.certificate.gap

    @property
    def stationarity_rel(self) -> float:
        """Largest stationarity residual relative to the largest term it is made of."""
        return float(np.abs(self.stationarity).max()) / max(self.gradient_scale, 1e-300)


def solve_structured(
    problem: BasketProblem,
    tol: float = 1e-6,
    *,
    method: str | None = None,
    time_limit: float | None = None,
    warm: Any = None,
    **settings: Any,
) -> StructuredSolution:
    """Solve a basket by structure to a proven relative gap.

    Parameters
    ----------
    problem
        A basket without :func:`obstacle`.
    tol
        Largest gap relative to the sum of the cost's absolute parts; the splitting is asked for 1e-7 at most.
    method
        "admm" or "interior" of :func:`crosswind.solvers.schedule.solve_schedule`; None: "interior" where changes are
        limited, where ``tol`` is below 1e-7 and the basket small enough for it, or where a matrix is dense and slices
        are not too many; else "admm".
    time_limit
        Seconds for all solves together.
    warm
        A former :class:`StructuredSolution` (or its schedule's ``solution``) of the same shape.

    Raises
    ------
    InvalidInput
        When the basket does not fit.
    InfeasibleProblem
        When the limits contradict each other.
    """
    from crosswind.solvers.schedule import FactorScheduleSolution, ScheduleState, solve_schedule

    if not isinstance(warm, StructuredSolution | FactorScheduleSolution | ScheduleState | None):
        raise InvalidInput(
            "is no start", field="warm", value=type(warm).__name__, remedy="a former schedule, its solution, or None"
        )
    begun = time.perf_counter()
    schedule = to_factor_schedule(problem)
    how = method or _preferred_method(schedule, tol)
    # Two digits more of an interior point are an iteration or two, and what prices of 1e-6 need.
    wanted = max(tol, _FINEST) if how == "admm" else tol
    asked = wanted if how == "admm" else max(0.01 * tol, min(tol, _PRECISE))
    start = warm.solution if isinstance(warm, StructuredSolution) else warm
    kappa = problem.arrays.three_halves

    # Inner solves of a descent are asked for more, so that their gap leaves room for that of the quadratic.
    inner = max(0.2 * asked, _FINEST if how == "admm" else 1e-12) if kappa.any() else asked

    def left() -> float | None:
        return None if time_limit is None else max(time_limit - (time.perf_counter() - begun), 1e-3)

    def run(quadratic: FactorSchedule, state: Any) -> FactorScheduleSolution:
        found = solve_schedule(quadratic, inner, left(), warm=state, method=how, **settings)
        if found.status is Status.INFEASIBLE:
            raise explain(problem, schedule, found)
        if not (np.isfinite(found.gap) or found.status.ok or found.status is Status.TIME_LIMIT):
            # No feasible trades, and no proof either: conflicts with limits on changes are found by counting only.
            conflict = find_conflict(problem)
            if conflict is not None:
                raise conflict
        if found.gap <= wanted and not found.status.ok:  # the digits beyond were for the prices
            return replace(found, status=Status.OPTIMAL, tol=wanted)
        stalled = not found.status.ok and found.status is not Status.TIME_LIMIT
        if how == "interior" and method is None and stalled and quadratic.change is None:
            # The interior point stalled: the splitting has the next word, the better bound the last one.
            other = solve_schedule(quadratic, max(inner, _FINEST), left(), method="admm", **settings)
            found = other if other.gap < found.gap else found
        return found

    if not kappa.any():
        found = run(schedule, start)
        return _unpacked(problem, schedule, found, np.zeros_like(kappa), begun, 1)
    return _descent(problem, schedule, run, start, asked, begun, time_limit)


def _descent(
    problem: BasketProblem,
    schedule: FactorSchedule,
    run: Any,
    start: Any,
    tol: float,
    begun: float,
    time_limit: float | None,
) -> StructuredSolution:
    """Lower the cost with |u|^{3/2} by quadratics around the last schedule until its own gap is below ``tol``."""
    kappa = problem.arrays.three_halves
    size = np.broadcast_to(schedule.name_size, kappa.shape)
    v, newton = size / len(kappa), False
    best: StructuredSolution | None = None
    value, idle = np.inf, 0
    for round_ in range(1, _ROUNDS + 1):
        root = np.sqrt(np.maximum(np.abs(v), _FLOOR * size))
        local = newton & (np.abs(v) > 1e-4 * size)
        curvature = np.where(local, 0.75, 1.5) * kappa / root
        linear = np.where(local, 0.75 * kappa * root * np.sign(v), 0.0)
        model = replace(schedule, eta=schedule.eta + 0.5 * curvature, linear=schedule.linear + linear)
        found = run(model, start)
        start = found.state
        slope = linear + curvature * found.u
        done = _unpacked(problem, schedule, found, slope, begun, round_)
        better = best is None or done.certificate.gap_rel < best.certificate.gap_rel
        idle = 0 if best is None or done.certificate.gap_rel < 0.9 * best.certificate.gap_rel else idle + 1
        best = done if best is None or better else best
        total = done.certificate.objective
        late = time_limit is not None and time.perf_counter() - begun > time_limit
        if best.certificate.gap_rel <= tol or late or idle > _IDLE or not np.isfinite(found.gap):
            break
        if newton and not (better or total < value):
            newton = False
            continue
        value, v, newton = min(value, total), found.u, True
    assert best is not None
    return best


def _unpacked(
    problem: BasketProblem,
    schedule: FactorSchedule,
    found: FactorScheduleSolution,
    slope: FloatArray,
    begun: float,
    rounds: int,
) -> StructuredSolution:
    """Turn the solver's result into prices by name, marginal costs and a certificate of the whole cost."""
    a, u, prices = problem.arrays, np.asarray(found.u), found.prices
    loss = fenchel_loss(a.three_halves, u, slope)
    constant = float(np.sum(a.drift * a.inventory))
    parts = schedule.parts(u)
    power = float(np.sum(a.three_halves * np.abs(u) ** 1.5))
    objective = sum(parts.values()) + power + constant
    scale = max(sum(abs(part) for part in parts.values()) + power, 1e-300)
    lower = found.lower_bound + constant
    if a.three_halves.any():
        from crosswind.solvers.schedule import Bounder

        # Its line in place of κ|u|^{3/2}: a program from below, bounded by the prices of the quadratic one.
        line = replace(schedule, linear=schedule.linear + slope)
        bounder = Bounder(line)
        fitted = bounder.prices(prices.groups, prices.bands, prices.completion, prices.change)
        lower = bounder.best(u, fitted)[0] + power - float(np.sum(slope * u + loss)) + constant
    gap = max(objective - lower, 0.0) if np.isfinite(found.gap) else np.inf
    miss = found.violations.worst
    certificate = Certificate(
        primal=miss * float(schedule.name_size.max()),
        dual=0.0,
        gap=gap,
        primal_rel=miss,
        dual_rel=0.0,
        gap_rel=gap / scale,
        tolerance=found.tol,
        objective=objective,
        lower_bound=min(lower, objective),
        excess=gap,
        excess_rel=gap / scale,
    )
    by_name, pull, group = limit_prices(problem, prices, u.shape)
    terms = slopes(problem, u)
    terms["three_halves"] = np.where(loss <= EPSILON * scale, slope, terms["three_halves"])
    smooth = np.asarray(sum(terms.values()))
    completion, box = balanced(
        schedule, u, smooth + group * np.sign(u) + a.spread * np.sign(u) + pull, prices, EPSILON * scale
    )
    by_name |= box_prices(problem, box)
    pull = pull + box
    # The spread's subgradient at u = 0 is what balances the prices, inside its interval.
    kink = a.spread + group
    rest = completion - pull - smooth
    weight = np.divide(rest, kink, out=np.zeros_like(rest), where=kink > 0.0)
    # g is an ε-subgradient of c|u| exactly when |g| ≤ c and c|u| − gu ≤ ε: dust around 0 must not read as a residual.
    near = kink * (np.abs(u) - np.clip(weight, -1.0, 1.0) * u) <= EPSILON * scale
    near &= np.abs(u) <= DUST * schedule.name_size
    fraction = np.where(near, np.clip(weight, -1.0, 1.0), np.sign(u))
    marginal = smooth + a.spread * fraction
    sizes = [
        float(np.abs(term).max(initial=0.0)) for term in (a.spread, completion, *terms.values(), *by_name.values())
    ]
    return StructuredSolution(
        trades=u,
        solution=found,
        certificate=certificate,
        marginal_cost=marginal,
        completion_price=completion,
        prices=by_name,
        stationarity=marginal - completion + pull + group * fraction,
        gradient_scale=max(sizes),
        seconds=time.perf_counter() - begun,
        rounds=rounds,
    )


def find_conflict(problem: BasketProblem) -> InfeasibleProblem | None:
    """Return the error of an elastic re-solve, or None where limits agree or the basket is too large for it.

    Costs do not matter to limits: without impact and risk the program is sparse, whatever K and Σ are.
    """
    if problem.n_names * problem.n_slices > _EXPLAINED:
        return None
    from crosswind.optim.multistage import MultistageProgram, Terminal
    from crosswind.optim.solve import solve_multistage

    a = problem.arrays
    limits_only = MultistageProgram(
        instruments=problem.names,
        dt_s=a.dt_s,
        p0=a.inventory,
        incidence=-np.eye(problem.n_names),
        temporary=1.0 / np.maximum(np.abs(a.inventory).max(), 1.0) * np.ones_like(a.temporary),
        terminal=Terminal(target=a.target, weight=np.where(a.hard, np.inf, 0.0)),
        limits=tuple(x for x in problem.limits if not (isinstance(x, BandLimit) and x.soft is not None)),
    )
    try:
        solve_multistage(limits_only, sharpen=False)
    except InfeasibleProblem as error:
        return error
    except SolverFailure:
        return None
    return None


def explain(problem: BasketProblem, schedule: FactorSchedule, found: FactorScheduleSolution) -> InfeasibleProblem:
    """Return the error that names the limits in conflict and what would cure it.

    Small baskets are explained by an elastic re-solve. For large ones the prices of the proof say it: they show that
    all limits together miss by a margin, so a limit that gives way alone must do so by at least margin / largest price.
    """
    from crosswind.solvers.schedule import Bounder

    conflict = find_conflict(problem)
    if conflict is not None:
        return conflict
    shape = (problem.n_slices, problem.n_names)
    by_name, _, _ = limit_prices(problem, found.prices, shape)
    sizes = {name: float(price.max(initial=0.0)) for name, price in by_name.items()}
    sizes["completion"] = float(np.abs(np.where(schedule.hard, found.prices.completion, 0.0)).max(initial=0.0))
    nothing = replace(
        schedule,
        eta=np.zeros(shape),
        spread=np.zeros(shape),
        linear=np.zeros(shape),
        impact_own=np.zeros_like(schedule.impact_own),
        impact_loadings=tuple(part[:, :0] for part in schedule.impact_loadings),
        risk_own=np.zeros_like(schedule.risk_own),
        risk_loadings=schedule.risk_loadings[:, :0],
    )
    margin = Bounder(nothing).bound(np.zeros(shape), found.prices)
    largest = max(sizes.values(), default=0.0)
    names = [name for name, size in sizes.items() if size > 1e-4 * largest]
    boxes = [limit.name for limit in problem.limits if isinstance(limit, TradeLimit)]
    least = {name: margin / sizes[name] for name in names} if np.isfinite(margin) and margin > 0.0 else {}
    told = ", ".join(f"{name} alone by {amount:,.6g} or more" for name, amount in least.items())
    return InfeasibleProblem(
        f"limits {', '.join(repr(name) for name in names)} contradict each other within the limits on single trades "
        f"({', '.join(boxes)}), proved by prices on them",
        field=" / ".join(names),
        value=least or None,
        remedy=f"relax {told or 'one of them'}; or pass completion as a penalty and read what remains",
    )
