"""From the desk's words to the multistage program: each limit keeps a name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crosswind.problems.basket.options import BETA_BAND, CASH_BAND, FACTOR_BAND, bands
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.factored import FactorMatrix
    from crosswind.optim.limits import Limit
    from crosswind.optim.multistage import MultistageProgram
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = [
    "BETA_BAND",
    "BLACKOUT",
    "CASH_BAND",
    "COMPLETION",
    "FACTOR_BAND",
    "MAX_CHANGE",
    "MUST_FINISH",
    "NO_REVERSAL",
    "PARTICIPATION",
    "SECTOR_CAP",
    "all_limits",
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
    empty = not (
        arrays.inventory.any()
        or arrays.target.any()
        or problem.extra_limits
        or arrays.drift.any()
        or problem.factor_band is not None
    )
    if not problem.allow_reversal or (empty and problem.previous_trade is None):
        free = arrays.hedge & (not empty)
        lower = np.where((arrays.side < 0.0) | free, -np.inf, 0.0)
        upper = np.where((arrays.side > 0.0) | free, np.inf, 0.0)
        boxes[NO_REVERSAL] = (np.tile(lower, (shape[0], 1)), np.tile(upper, (shape[0], 1)))
    for label, closed in (
        (BLACKOUT, problem._blocked_cells()),
        (MUST_FINISH, problem._finish_cells()),
    ):
        if closed.any():
            wall = np.where(closed, 0.0, np.inf)
            boxes[label] = (-wall, wall)
    return boxes


def all_limits(problem: BasketProblem) -> tuple[Limit, ...]:
    """Return every limit of a basket with its arrays checked against T and N.

    Raises
    ------
    InvalidInput
        On a malformed extra limit, or two limits of one name.
    """
    from crosswind.optim.limits import Shape

    T, N = problem.n_slices, problem.n_names
    found = tuple(limit.shaped(Shape(T, N, N, N)) for limit in _limits(problem))
    seen: set[str] = set()
    for limit in found:
        if not limit.name or limit.name in seen or limit.name == COMPLETION:
            raise InvalidInput(
                "is empty, reserved or used twice", field="limits.name", value=limit.name, remedy="rename the limit"
            )
        seen.add(limit.name)
    return found


def _limits(problem: BasketProblem) -> tuple[Limit, ...]:
    from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit

    T, N, arrays = problem.n_slices, problem.n_names, problem.arrays
    limits: list[Limit] = [TradeLimit(name, lower, upper) for name, (lower, upper) in trade_bounds(problem).items()]
    late = problem._finish_cells()
    priced = np.flatnonzero(late.any(axis=0) & np.isfinite(arrays.terminal_weight) & (arrays.terminal_weight > 0.0))
    if len(priced):
        # A hard terminal target together with closed slices already finishes in time; a penalty does not.
        rows = np.zeros((len(priced), N))
        rows[np.arange(len(priced)), priced] = 1.0
        lower, upper = np.full((T, len(priced)), -np.inf), np.full((T, len(priced)), np.inf)
        for k, i in enumerate(priced):
            last = max(int(np.argmax(late[:, i])) - 1, 0)
            lower[last, k] = upper[last, k] = arrays.target[i]
        labels = tuple(problem.names[i] for i in priced)
        limits.append(BandLimit(f"{MUST_FINISH} (inventory)", rows, lower, upper, labels))
    membership, cap, labels = problem._sector_rows()
    if labels:
        limits.append(GroupCap(SECTOR_CAP, membership, np.tile(cap, (T, 1)), labels))
    for band in bands(problem):
        limits.append(
            BandLimit(band.name, band.rows, np.tile(band.lower, (T, 1)), np.tile(band.upper, (T, 1)), band.labels)
        )
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
    covariance, aversion = priced_risk(problem)
    return MultistageProgram(
        instruments=problem.names,
        dt_s=arrays.dt_s,
        p0=arrays.inventory,
        incidence=-np.eye(problem.n_names),
        spread=arrays.spread,
        temporary=arrays.temporary,
        three_halves=arrays.three_halves,
        impact=problem.modes,
        covariance=covariance,
        risk_aversion=aversion,
        risk_weight=arrays.risk_weight,
        holding=arrays.drift,
        terminal=Terminal(target=arrays.target, weight=arrays.terminal_weight),
        limits=problem.limits,
    )


def priced_risk(problem: BasketProblem) -> tuple[FloatArray | FactorMatrix | None, float]:
    """Return (Σ', λ') with λ' q'Σ'q = λ q'Σq + Σ υ_i σ_i² q_i²: urgency enters the diagonal."""
    from crosswind.optim.factored import FactorMatrix

    a, lam = problem.arrays, problem.risk_aversion
    if not a.urgency.any():
        return a.covariance, lam
    if lam == 0.0:
        return FactorMatrix(np.zeros((problem.n_names, 0)), a.urgency), 1.0
    if isinstance(a.covariance, FactorMatrix):
        return FactorMatrix(a.covariance.loadings, a.covariance.specific + a.urgency / lam), lam
    assert a.covariance is not None  # urgency needs one
    return a.covariance + np.diag(a.urgency / lam), lam


def capacity(problem: BasketProblem) -> FloatArray:
    """Return the most that each name can trade on its own over all slices (N,) [currency, ≥ 0].

    Counts the boxes (participation, blackout, must finish) and the name's own sector cap, not what names share.
    """
    room = np.full((problem.n_slices, problem.n_names), np.inf)
    for one in _rooms(problem).values():
        room = np.minimum(room, one)
    return np.asarray(room.sum(axis=0), dtype=np.float64)


def _rooms(problem: BasketProblem) -> dict[str, FloatArray]:
    """Return, per limit, the most that each cell can trade towards its order (T, N) [currency, ≥ 0]."""
    rooms = {
        name: np.where(problem.arrays.side < 0.0, -lower, upper)
        for name, (lower, upper) in trade_bounds(problem).items()
    }
    membership, cap, labels = problem._sector_rows()
    if labels:
        rooms[SECTOR_CAP] = np.full((problem.n_slices, problem.n_names), np.inf)
        for row, most in zip(membership, cap, strict=True):
            rooms[SECTOR_CAP][:, row > 0.0] = most
    return rooms


def _in_the_way(rooms: dict[str, FloatArray], i: int) -> list[str]:
    """Return the limits without which name i could trade more, or all that bound it where none does so alone."""
    bounding = {
        name: room[:, i] for name, room in rooms.items() if name != NO_REVERSAL and np.isfinite(room[:, i]).any()
    }
    together = np.minimum.reduce(list(bounding.values())).sum()
    found = []
    for name in bounding:
        others = [room for other, room in bounding.items() if other != name]
        if not others or np.minimum.reduce(others).sum() > together:
            found.append(name)
    return found or list(bounding)


def _of_the_day(problem: BasketProblem, i: int, wanted: float) -> str:
    """Return a remark where an order is larger than all the volume that is forecast."""
    V = problem.arrays.volume
    if V is None or wanted <= V[:, i].sum():
        return ""
    return f"; the order is larger than the forecast volume of all slices ({money(float(V[:, i].sum()))})"


def check_capacity(problem: BasketProblem) -> None:
    """Refuse, before any solve, a hard completion that a name or a sector cannot reach by counting alone.

    Raises
    ------
    InfeasibleProblem
        Naming each name or sector, the limits in its way, and the smallest relaxation of its completion in currency.
    """
    hard = problem.arrays.hard
    if not hard.any():
        return
    wanted = np.where(hard, np.abs(problem.arrays.inventory - problem.arrays.target), 0.0)
    slack = 1e-9 * max(float(wanted.max()), 1.0)
    room = capacity(problem)
    complaints, relaxation = [], {}
    rooms = _rooms(problem)
    membership, cap, labels = problem._sector_rows()
    for i in np.flatnonzero(wanted - room > slack).tolist():
        short = float(wanted[i] - room[i])
        name = problem.names[i]
        relaxation[name] = short
        limits = " and ".join(_in_the_way(rooms, i))
        complaints.append(
            f"completion of {name} conflicts with {limits}: {money(room[i])} of {money(wanted[i])} "
            f"can trade, smallest relaxation {money(short)}{_of_the_day(problem, i, wanted[i])}"
        )
    for row, most, label in zip(membership, cap, labels, strict=True):
        short = float(row @ wanted - most * problem.n_slices)
        if short > slack and not any(problem.names[i] in relaxation for i in np.flatnonzero(row)):
            relaxation[label] = short
            complaints.append(
                f"completion of sector {label} conflicts with {SECTOR_CAP}: {money(most * problem.n_slices)} of "
                f"{money(float(row @ wanted))} can trade, smallest relaxation {money(short)}"
            )
    V = problem.arrays.volume
    if V is not None and not complaints:
        over = np.flatnonzero(wanted > V.sum(axis=0) * (1.0 + 1e-9))
        if len(over):
            i = int(over[0])
            raise InvalidInput(
                f"larger than the forecast volume of all slices for {', '.join(problem.names[k] for k in over[:8])}",
                field="inventory",
                value=f"{money(wanted[i])} of {money(float(V[:, i].sum()))}",
                remedy="check the unit (currency, not shares), take more days, or pass completion as a penalty",
            )
    if complaints:
        raise InfeasibleProblem(
            "; ".join(complaints),
            field=COMPLETION,
            value=relaxation,
            remedy="raise the limit, trade longer, shrink the order, or pass completion as a penalty",
        )
