"""From the desk's words to the multistage program: each limit keeps a name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crosswind.problems.basket.arrays import blocked_cells, sector_rows
from crosswind.solvers.errors import InfeasibleProblem

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.optim.multistage import MultistageProgram
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = [
    "BLACKOUT",
    "CASH_BAND",
    "COMPLETION",
    "MAX_CHANGE",
    "MUST_FINISH",
    "NO_REVERSAL",
    "PARTICIPATION",
    "SECTOR_CAP",
    "capacity",
    "check_capacity",
    "money",
    "to_multistage",
    "trade_bounds",
]

PARTICIPATION = "participation"
NO_REVERSAL = "no reversal"
BLACKOUT = "blackout"
MUST_FINISH = "must finish"
SECTOR_CAP = "sector cap"
CASH_BAND = "cash band"
MAX_CHANGE = "max change"
COMPLETION = "completion"


def money(amount: float) -> str:
    """Return an amount of currency as a short text: 1.2 M, 350 k, 12.5.

    Examples
    --------
    >>> money(1_234_000.0), money(-350_000.0), money(12.5)
    ('1.23 M', '-350 k', '12.5')
    """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999.6 k would read "1e+03 k" at three digits, so a unit starts a little below its size.
        if abs(amount) >= 0.9995 * size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.3g}"


def trade_bounds(problem: BasketProblem) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return, per named limit, the box (lower, upper), each (T, N), that it puts on the trades [currency]."""
    arrays, shape = problem.arrays, (problem.n_slices, problem.n_names)
    boxes: dict[str, tuple[FloatArray, FloatArray]] = {}
    if arrays.participation_cap is not None:
        boxes[PARTICIPATION] = (-arrays.participation_cap, arrays.participation_cap)
    # A basket without orders has nothing to hedge: every cost is >= 0, so zero trades are optimal and may be fixed,
    # which spares the solver a program without scale.
    empty = not arrays.inventory.any() and not arrays.target.any() and not problem.extra_limits
    if not problem.allow_reversal or (empty and problem.previous_trade is None):
        lower = np.where(arrays.side < 0.0, -np.inf, 0.0)
        upper = np.where(arrays.side > 0.0, np.inf, 0.0)
        boxes[NO_REVERSAL] = (np.tile(lower, (shape[0], 1)), np.tile(upper, (shape[0], 1)))
    for label, closed in (
        (BLACKOUT, blocked_cells(problem.blackouts, problem.names, problem.times, problem.slice_s)),
        (MUST_FINISH, problem._finish_cells()),
    ):
        if closed.any():
            wall = np.where(closed, 0.0, np.inf)
            boxes[label] = (-wall, wall)
    return boxes


def _limits(problem: BasketProblem) -> tuple[Limit, ...]:
    from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit

    T, N, arrays = problem.n_slices, problem.n_names, problem.arrays
    limits: list[Limit] = [TradeLimit(name, lower, upper) for name, (lower, upper) in trade_bounds(problem).items()]
    late = problem._finish_cells()
    if late.any() and not problem.hard_completion:
        # A hard terminal target together with closed slices already finishes in time; a penalty does not.
        lower, upper = np.full((T, N), -np.inf), np.full((T, N), np.inf)
        for i in np.flatnonzero(late.any(axis=0)):
            last = max(int(np.argmax(late[:, i])) - 1, 0)
            lower[last, i] = upper[last, i] = arrays.target[i]
        limits.append(BandLimit(f"{MUST_FINISH} (inventory)", np.eye(N), lower, upper, problem.names))
    membership, cap, labels = sector_rows(problem.sectors, problem.sector_cap, problem.names)
    if labels:
        limits.append(GroupCap(SECTOR_CAP, membership, np.tile(cap, (T, 1)), labels))
    if problem.cash_band is not None:
        band = np.full((T, 1), problem.cash_band)
        limits.append(BandLimit(CASH_BAND, np.ones((1, N)), -band, band, ("net cash",)))
    change = problem._change_limits()
    if change is not None:
        limits.append(RateLimit(MAX_CHANGE, change[0], change[1]))
    return (*limits, *problem.extra_limits)


def to_multistage(problem: BasketProblem) -> MultistageProgram:
    """Return the multistage program of a basket: positions q, incidence −I, all in currency.

    Parameters
    ----------
    problem
        The validated basket, T slices and N names.

    Returns
    -------
    Program with trades (T, N), positions q (T + 1, N), p0 = q_0, terminal target q_T.
    """
    from crosswind.optim.multistage import MultistageProgram, Terminal

    arrays = problem.arrays
    weight = problem.completion if isinstance(problem.completion, float) else np.inf
    return MultistageProgram(
        instruments=problem.names,
        dt_s=arrays.dt_s,
        p0=arrays.inventory,
        incidence=-np.eye(problem.n_names),
        spread=arrays.spread,
        temporary=arrays.temporary,
        impact=problem.model.modes(),
        covariance=arrays.covariance,
        risk_aversion=problem.risk_aversion,
        terminal=Terminal(target=arrays.target, weight=weight),
        limits=_limits(problem),
    )


def capacity(problem: BasketProblem) -> FloatArray:
    """Return the most that each name can trade on its own over all slices (N,) [currency, ≥ 0].

    Counts the boxes (participation, blackout, must finish) and the name's own sector cap, not what names share.
    """
    room = np.full((problem.n_slices, problem.n_names), np.inf)
    for lower, upper in trade_bounds(problem).values():
        room = np.minimum(room, np.where(problem.arrays.side < 0.0, -lower, upper))
    membership, cap, _ = sector_rows(problem.sectors, problem.sector_cap, problem.names)
    for row, most in zip(membership, cap, strict=True):
        room[:, row > 0.0] = np.minimum(room[:, row > 0.0], most)
    return np.asarray(room.sum(axis=0), dtype=np.float64)


def check_capacity(problem: BasketProblem) -> None:
    """Refuse, before any solve, a hard completion that a name or a sector cannot reach by counting alone.

    Raises
    ------
    InfeasibleProblem
        Naming each name or sector, the limits in its way, and the smallest relaxation of its completion in currency.
    """
    if not problem.hard_completion:
        return
    wanted = np.abs(problem.arrays.inventory - problem.arrays.target)
    slack = 1e-9 * max(float(wanted.max()), 1.0)
    room = capacity(problem)
    complaints, relaxation = [], {}
    in_the_way = [n for n in trade_bounds(problem) if n != NO_REVERSAL]
    membership, cap, labels = sector_rows(problem.sectors, problem.sector_cap, problem.names)
    if labels:
        in_the_way.append(SECTOR_CAP)
    for i in np.flatnonzero(wanted - room > slack):
        short = float(wanted[i] - room[i])
        name = problem.names[i]
        relaxation[name] = short
        complaints.append(
            f"completion of {name} conflicts with {' and '.join(in_the_way)}: {money(room[i])} of {money(wanted[i])} "
            f"can trade, smallest relaxation {money(short)}"
        )
    for row, most, label in zip(membership, cap, labels, strict=True):
        short = float(row @ wanted - most * problem.n_slices)
        if short > slack and not any(problem.names[i] in relaxation for i in np.flatnonzero(row)):
            relaxation[label] = short
            complaints.append(
                f"completion of sector {label} conflicts with {SECTOR_CAP}: {money(most * problem.n_slices)} of "
                f"{money(float(row @ wanted))} can trade, smallest relaxation {money(short)}"
            )
    if complaints:
        raise InfeasibleProblem(
            "; ".join(complaints),
            field=COMPLETION,
            value=relaxation,
            remedy="raise the limit, trade longer, shrink the order, or pass completion as a penalty",
        )
