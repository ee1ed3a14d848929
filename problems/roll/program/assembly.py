r"""The roll program in the form of a tail program, and the way back.

The order is cut into J slabs by place in the queue. Everything that is not crossed rests, so slab j is filled in
scenario s as soon as the flow that reaches the order's place exceeds what stands before it; ``ψ_sjt`` is the share of
it that is unfilled at the start of slice t. What is decided is, per slab, the distribution of the time at which what
is still unfilled is given up: ``x_cjt ≥ 0`` contracts in channel c (crossing the spread book; both legs; one leg, the
other resting for a slice) at slice t, the last one being the forced cross at the cutoff, with

    Σ_{c,t} x_cjt = slab j.

What goes through the legs is taken evenly from all slabs (a variable for each slice, not for each slab).

In scenario s, ``ψ_sjt x_cjt`` of it is there to be given up, the rest was filled at rest before. So a plan says what to
do after every course of fills, carries forward whatever is unfilled, completes in every scenario, looks at nothing from
the future, and its costs are convex in x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from crosswind.problems.roll.model import FloatArray
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.settings import RollSettings
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput
from crosswind.solvers.tail.problem import TailProgram, tail_caps

__all__ = ["COMPONENTS", "Assembly", "assemble", "survival"]

COMPONENTS = ("spread_fees", "impact", "basis_drift", "legging", "timing")
ALL = -1  # slab of a variable that takes evenly from every slab
CHANNELS = ("spread", "legs at once", "legs one by one")


def survival(scenarios: RollScenarios, sizes: FloatArray) -> FloatArray:
    """Return ψ (S, T + 1, J): the share of each slab that is unfilled at the slices' starts.

    Parameters
    ----------
    scenarios
        The scenarios.
    sizes
        Slabs (J,) in the order of the queue [contracts].
    """
    start = np.cumsum(sizes) - sizes
    passed = np.column_stack([np.zeros(scenarios.count), np.cumsum(scenarios.flow, axis=1)])
    filled = np.clip((passed[:, :, None] - start) / sizes, 0.0, 1.0)
    return np.asarray(1.0 - filled)


@dataclass(frozen=True, eq=False)
class Assembly:
    """A roll program with its meaning.

    Attributes
    ----------
    program
        The :class:`~crosswind.solvers.tail.TailProgram` over the scenarios that can happen.
    scenarios, settings
        What it was made from.
    sizes
        Slabs (J,) [contracts].
    channel, slice, slab
        Of each variable (n,); slab −1 takes evenly from all.
    possible
        Scenarios with probability (S',).
    parts
        Currency per contract of each variable: ``spread_fees``, ``basis_drift``, ``legging``, ``timing`` → (S, n), for
        all scenarios.
    present
        ψ (S, n).
    walk
        √(currency per contract²) of each variable's cell (S, n): what enters the impact's kernel.
    cells, kernel
        Cells of the kernel: spread at t = 0 … T, then legs at t = 0 … T − 1.
    constant
        Basis drift that has happened already [currency].
    rows
        Name of each row of G: 'participation', 'let' or 'deadline', and its slice.
    dropped
        Channels whose variables could not pay in any scenario, and were left out.
    """

    program: TailProgram
    scenarios: RollScenarios
    settings: RollSettings
    sizes: FloatArray
    channel: np.ndarray[tuple[int], np.dtype[np.int64]]
    slice: np.ndarray[tuple[int], np.dtype[np.int64]]
    slab: np.ndarray[tuple[int], np.dtype[np.int64]]
    possible: np.ndarray[tuple[int], np.dtype[np.int64]]
    parts: dict[str, FloatArray]
    present: FloatArray
    walk: FloatArray
    cells: sp.csr_array
    kernel: FloatArray
    constant: float
    rows: tuple[tuple[str, int], ...]
    dropped: tuple[str, ...]

    def components(self, x: FloatArray) -> FloatArray:
        """Return the five components (S, 5) of each scenario at a plan, in the order of :data:`COMPONENTS`."""
        T = self.scenarios.slices
        v = (self.cells @ (self.walk * x).T).T
        pull = v @ self.kernel
        whole = 0.5 * np.einsum("sc,sc->s", pull, v)
        end = v[:, T]
        # What the forced cross adds to the displacement: its own walk and what the earlier crosses left in the book.
        forced = end * (pull[:, T] - 0.5 * self.kernel[T, T] * end)
        out = np.empty((self.scenarios.count, len(COMPONENTS)))
        out[:, 0] = self.parts["spread_fees"] @ x
        out[:, 1] = whole - forced
        out[:, 2] = self.constant + self.parts["basis_drift"] @ x
        out[:, 3] = self.parts["legging"] @ x
        out[:, 4] = forced + self.parts["timing"] @ x
        return out

    def grid(self, x: FloatArray, weight: FloatArray | None = None) -> FloatArray:
        """Return the sums of x, or of ``weight`` (S, n) · x, by channel and slice: (3, T + 1) or (S, 3, T + 1)."""
        T = self.scenarios.slices
        key = self.channel * (T + 1) + self.slice
        if weight is None:
            return np.asarray(np.bincount(key, x, minlength=3 * (T + 1)), dtype=np.float64).reshape(3, T + 1)
        place = sp.csr_array((np.ones(len(key)), (key, np.arange(len(key)))), shape=(3 * (T + 1), len(key)))
        return np.asarray((place @ (weight * x).T).T).reshape(len(weight), 3, T + 1)


def assemble(
    scenarios: RollScenarios,
    quantity: float,
    settings: RollSettings,
    *,
    max_naked: float = 0.0,
    carry_cap: float = 0.0,
    moved: float = 0.0,
    carry: bool = True,
    prune: bool = True,
) -> Assembly:
    """Return the tail program of a roll.

    Parameters
    ----------
    scenarios
        What may happen.
    quantity
        Spreads to be done, > 0.
    settings
        Weights and limits.
    max_naked, carry_cap
        Of the order [contracts].
    moved
        Move of the spread's mid from the arrival price to now, against the order > 0 [points].
    carry
        False plans without looking at fills: what is to be crossed does not rest, what rests is left to the cutoff.
    prune
        Whether variables that cannot pay, or that no volume allows, are left out.

    Raises
    ------
    InfeasibleProblem
        Where crossing at the full pace and the forced cross together cannot do the quantity: by how much, and what
        the forced cross would cost.
    InvalidInput
        For a quantity that is not positive and finite.
    """
    if not (np.isfinite(quantity) and quantity > 0.0):
        raise InvalidInput("is not positive and finite", field="quantity", value=quantity, remedy="roll something")
    sc, se = scenarios, settings
    S, T = sc.count, sc.slices
    J = int(min(se.slabs, max(1, np.floor(quantity))))
    sizes = np.full(J, quantity / J)
    possible = np.flatnonzero(sc.probabilities > 0.0)
    pace = se.participation * sc.volume
    least = float(sc.capacity()[possible].min())
    deadline = min(se.deadline_share * quantity, least + carry_cap)
    if prune:
        _must_fit(sc, quantity, pace, deadline, se)

    psi = survival(sc, sizes)
    fees = 2.0 * se.fee
    worth = sc.multiplier
    # What the fills at rest have cost by the start of each slice, per contract of the slab.
    gone = -np.diff(psi, axis=1)
    rest_fees = _running(gone * (fees - worth * sc.rest_half[:, :, None]))
    rest_drift = _running(gone * (worth * sc.rest_drift[:, :, None]))
    cross_fees = psi * (fees + worth * sc.half_width[:, :, None])
    drift = worth * sc.drift[:, :, None]
    blocks: list[tuple[int, Sequence[int], FloatArray, FloatArray, FloatArray | None, FloatArray]] = []
    if carry:
        blocks.append((0, range(T + 1), rest_fees + cross_fees, rest_drift + psi * drift, None, psi))
    else:
        ones = np.ones_like(psi)
        ones[:, T] = psi[:, T]
        fees_now = fees + worth * sc.half_width[:, :, None] + np.zeros_like(psi)
        drift_now = drift + np.zeros_like(psi)
        fees_now[:, T], drift_now[:, T] = (rest_fees + cross_fees)[:, T], (rest_drift + psi * drift)[:, T]
        blocks.append((0, range(T + 1), fees_now, drift_now, None, ones))
    dropped: list[str] = []
    for kind in se.let_slices if max_naked > 0.0 else ():
        share, first = (psi, rest_fees) if carry else (np.ones_like(psi), np.zeros_like(psi))
        moved_by = rest_drift if carry else np.zeros_like(psi)
        leg_fees, legging = _legs(sc, kind, fees)
        taken = [t for t in range(T) if not (prune and _never_pays(sc, se, t, leg_fees, legging, pace, quantity))]
        if len(taken) < T:
            dropped.append(f"{CHANNELS[1 + kind]} in {T - len(taken)} of {T} slices")
        if taken:
            blocks.append(
                (
                    1 + kind,
                    taken,
                    first + share * leg_fees[:, :, None],
                    moved_by + share * drift,
                    share * legging[:, :, None],
                    share,
                )
            )
    names: dict[str, list[FloatArray]] = {name: [] for name in ("spread_fees", "basis_drift", "legging", "present")}
    channel, when, slab = [], [], []
    for number, slices, fee_part, drift_part, leg_part, share in blocks:
        at = np.asarray(list(slices))
        for name, part in (
            ("spread_fees", fee_part),
            ("basis_drift", drift_part),
            ("legging", leg_part),
            ("present", share),
        ):
            values = np.zeros_like(share) if part is None else part
            values = values[:, at] if number == 0 else values[:, at].mean(axis=2, keepdims=True)
            names[name].append(values.reshape(S, -1))
        width = J if number == 0 else 1
        channel.append(np.full(len(at) * width, number))
        when.append(np.repeat(at, width))
        slab.append(np.tile(np.arange(J), len(at)) if number == 0 else np.full(len(at), ALL))
    grids = {name: np.concatenate(parts, axis=1) for name, parts in names.items()}
    c, t, j = np.concatenate(channel), np.concatenate(when), np.concatenate(slab)
    # A slice without volume allows no crossing; its variables are zero, and an empty interior helps nobody.
    open_ = (t == T) | (np.append(pace, np.inf)[t] > 1e-9 * quantity)
    if deadline <= 1e-9 * quantity:
        open_ &= t < T
    open_ |= not prune
    grids = {name: np.ascontiguousarray(values[:, open_]) for name, values in grids.items()}
    c, t, j = c[open_], t[open_], j[open_]
    return _finish(
        sc, se, quantity, sizes, possible, grids, (c, t, j), pace, deadline, max_naked, moved, tuple(dropped)
    )


def _running(values: FloatArray) -> FloatArray:
    """Return the sums over the slices before each slice's start: (S, T, J) → (S, T + 1, J)."""
    zero = np.zeros((values.shape[0], 1, values.shape[2]))
    return np.concatenate([zero, np.cumsum(values, axis=1)], axis=1)


def _legs(sc: RollScenarios, kind: int, fees: float) -> tuple[FloatArray, FloatArray]:
    """Return fees with half-spreads, and legging, of one spread through the legs (S, T + 1) [currency]."""
    worth = sc.multiplier
    if kind == 0:
        return fees + worth * sc.leg_half, np.zeros_like(sc.leg_half)
    later = np.column_stack([sc.second_half[:, 1:], sc.second_half[:, -1]])
    fill = sc.second_fill
    second = (1.0 - fill) * later - fill * sc.second_half
    return fees + worth * (sc.leg_half - sc.second_half + second), worth * (1.0 - fill) * sc.second_move


def _never_pays(
    sc: RollScenarios,
    se: RollSettings,
    t: int,
    leg_fees: FloatArray,
    legging: FloatArray,
    pace: FloatArray,
    quantity: float,
) -> bool:
    """Tell whether crossing the spread book is cheaper than the legs in every scenario, however much is crossed.

    Both count against the same pace, so each contract of the legs could be moved there. The impact's slope is at most
    what all crossing at the full pace would leave displaced.
    """
    worth = sc.multiplier
    most = np.append(np.minimum(pace, quantity), quantity)
    most *= min(1.0, quantity / max(float(most[: t + 1].sum()), 1e-300)) if np.isinf(sc.refill_half_life_s) else 1.0
    root = np.sqrt(worth * se.slope * sc.tick / sc.depth)
    gaps = np.append(0.0, np.cumsum(sc.dt_s))
    kernel = np.exp(-np.log(2.0) / sc.refill_half_life_s * np.abs(gaps - gaps[t]))
    slope = root[:, t] * (root * kernel * most).sum(axis=1)
    cross = worth * sc.half_width[:, t] + 2.0 * se.fee + slope
    return bool((leg_fees[:, t] + legging[:, t] >= cross).all())


def _finish(
    sc: RollScenarios,
    se: RollSettings,
    quantity: float,
    sizes: FloatArray,
    possible: np.ndarray[tuple[int], np.dtype[np.int64]],
    grids: dict[str, FloatArray],
    index: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...],
    pace: FloatArray,
    deadline: float,
    max_naked: float,
    moved: float,
    dropped: tuple[str, ...],
) -> Assembly:
    T, worth = sc.slices, sc.multiplier
    c, t, j = index
    n = len(c)
    spread_root = np.sqrt(worth * se.slope * sc.tick / sc.depth)
    leg_root = np.sqrt(worth * se.slope * sc.leg_tick / sc.leg_depth)
    walk = grids["present"] * np.where(c == 0, spread_root[:, t], leg_root[:, t])
    # Cells: spread 0 … T, legs 0 … T − 1, the two leg channels in the same book.
    cell = np.where(c == 0, t, T + 1 + t)
    cells = sp.csr_array((np.ones(n), (cell, np.arange(n))), shape=(2 * T + 1, n))
    at = np.append(0.0, np.cumsum(sc.dt_s))
    decay = np.exp(-np.log(2.0) / sc.refill_half_life_s * np.abs(np.subtract.outer(at, at)))
    kernel = np.zeros((2 * T + 1, 2 * T + 1))
    kernel[: T + 1, : T + 1] = decay
    kernel[T + 1 :, T + 1 :] = decay[:T, :T]

    parts = {name: grids[name] for name in ("spread_fees", "basis_drift", "legging")}
    parts["timing"] = np.zeros_like(grids["legging"])
    linear = parts["spread_fees"] + parts["basis_drift"] + parts["legging"]
    p = sc.probabilities
    base = np.zeros(n)
    base += np.where(t == T, se.underfill_price * (p @ grids["present"]), 0.0)
    minutes = np.append(sc.dt_s, 0.0)[t] / 60.0
    base += se.dry * _dry(sc, se, quantity, c, t)
    base += np.where(c == 2, se.let_price * minutes * (p @ grids["present"]), 0.0)

    rows, bounds, labels = [], [], []

    def add(name: str, number: int, mask: np.ndarray[tuple[int], np.dtype[np.bool_]], bound: float) -> None:
        if mask.any() and bound < quantity:
            rows.append(mask.astype(np.float64))
            bounds.append(bound)
            labels.append((name, number))

    for k in range(T):
        add("participation", k, t == k, float(pace[k]))
    for k in range(T):
        add("let", k, (t == k) & (c > 0), float(max_naked))
    add("deadline", T, t == T, deadline)
    slabs = np.where(j == ALL, 1.0 / len(sizes), (j == np.arange(len(sizes))[:, None]).astype(np.float64))
    constant = worth * moved * quantity
    some = p[possible]
    program = TailProgram(
        linear=linear[possible],
        scale=walk[possible],
        cells=cells,
        kernel=kernel,
        probabilities=some / some.sum(),
        caps=tail_caps(some / some.sum(), se.alpha),
        risk=se.tail_weight,
        equal=sp.csr_array(slabs),
        equal_to=sizes,
        rows=sp.csr_array(np.array(rows).reshape(len(rows), n)),
        rows_to=np.array(bounds),
        constant=np.full(len(possible), constant),
        base=base,
        ridge=np.full(n, se.steadiness * sc.tick * worth / quantity),
    )
    return Assembly(
        program=program,
        scenarios=sc,
        settings=se,
        sizes=sizes,
        channel=c,
        slice=t,
        slab=j,
        possible=possible,
        parts=parts,
        present=grids["present"],
        walk=walk,
        cells=cells,
        kernel=kernel,
        constant=constant,
        rows=tuple(labels),
        dropped=dropped,
    )


def _dry(
    sc: RollScenarios,
    se: RollSettings,
    quantity: float,
    c: np.ndarray[tuple[int], np.dtype[np.int64]],
    t: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> FloatArray:
    """Return what a contract costs in the mean when nothing has filled at rest (n,) [currency].

    Where no scenario leaves anything unfilled at a slice, what is planned for it costs nothing and could be anything;
    this decides.
    """
    p, worth, fees = sc.probabilities, sc.multiplier, 2.0 * se.fee
    spread = worth * (p @ (sc.half_width + sc.drift)) + fees
    spread[-1] += 0.5 * worth * se.slope * sc.tick * quantity * float(p @ (1.0 / sc.depth[:, -1])) + se.underfill_price
    drift = worth * (p @ sc.drift)
    at_once, one_by_one = (p @ sum(_legs(sc, kind, fees)) + drift for kind in (0, 1))
    return np.asarray(np.stack([spread, at_once, one_by_one])[c, t])


def _must_fit(sc: RollScenarios, quantity: float, pace: FloatArray, deadline: float, se: RollSettings) -> None:
    able = float(pace.sum()) + deadline
    short = quantity - able
    if short <= 1e-9 * quantity:
        return
    p = sc.probabilities
    most = sc.levels * sc.depth[:, -1]
    forced = np.minimum(quantity, most)
    walked = 0.5 * se.slope * sc.tick * forced / sc.depth[:, -1]
    each = float(p @ (sc.multiplier * (sc.half_width[:, -1] + walked))) + 2.0 * se.fee
    raise InfeasibleProblem(
        f"{quantity:.0f} spreads cannot be done at any pace: at most {pace.sum():.0f} can be crossed at "
        f"{se.participation:g} of the volume and {deadline:.0f} left to the forced cross, {short:.0f} are short; "
        f"a forced cross of all of it would do {float(p @ forced):.0f} in the mean and cost {each:.2f} a spread before "
        "any move of the basis",
        field="quantity",
        value={"quantity": quantity, "short": short, "forced": float(p @ forced), "forced_cost_per_spread": each},
        remedy="start earlier, raise participation or deadline_share, or let the order carry the rest (carry_cap)",
    )
