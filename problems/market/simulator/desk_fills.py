"""What a cash algorithm does with a plan: noise, lumps, late blocks, catching up, revisions and cancellations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.desk_parameters import DeskParameters

__all__ = ["FillDraws", "FillRun", "run_fills", "to_lots"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_RESIZE = 2.0  # standard deviations: a revision rescales, it does not replace the order


def to_lots(total: Ints, weights: Array) -> Ints:
    """Return whole lots by slice whose running sum follows the weights and ends at ``total``, shape (T, n).

    Parameters
    ----------
    total
        Lots by name (n,), ≥ 0.
    weights
        Relative sizes (T, n), ≥ 0; a column without weight is spread evenly.
    """
    running = np.cumsum(weights, axis=0)
    flat = running[-1] <= 0.0
    if flat.any():
        running[:, flat] = np.arange(1.0, len(weights) + 1.0)[:, None]
    target = np.rint(total * (running / running[-1])).astype(np.int64)
    return np.asarray(np.diff(target, axis=0, prepend=0), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class FillDraws:
    """All chance of one parent's execution, drawn before it runs and in fixed amounts.

    Parameters
    ----------
    noise
        Mean-one factors of the fills (T, n).
    late
        Whether a slice's work is done one slice late (T,).
    lumps
        Lump weight by slice (T,), 0 where there is none.
    revised_at, resize, timing
        Slices of the revisions, ascending (R,), their factors and uniforms that choose stretch, speed-up or neither.
    cancelled_at
        Slice of the cancellation, None if there is none.
    """

    noise: Array
    late: NDArray[np.bool_]
    lumps: Array
    revised_at: Ints
    resize: Array
    timing: Array
    cancelled_at: int | None

    @classmethod
    def draw(
        cls,
        fills: np.random.Generator,
        revisions: np.random.Generator,
        cancel: np.random.Generator,
        slices: int,
        names: int,
        p: DeskParameters,
    ) -> FillDraws:
        """Draw for one parent of ``slices`` × ``names`` from the parent's own streams."""
        z = fills.standard_normal((slices, names))
        late = fills.random(slices) < p.block_delay_probability
        lumps = np.zeros(slices)
        number = min(slices, 1 + int(fills.poisson(p.lumps_mean)))
        at = fills.permutation(slices)[:number]
        lumps[at] = fills.exponential(size=number) + 1e-3
        happens, many = revisions.random(2)
        where, size = revisions.random(p.revisions_max), revisions.standard_normal(p.revisions_max)
        timing = revisions.random(p.revisions_max)
        wanted = 1 + int(many * p.revisions_max) if happens < p.revision_probability and slices > 1 else 0
        chosen, position = np.unique(1 + np.floor(where[:wanted] * (slices - 1)).astype(np.int64), return_index=True)
        dies, when = cancel.random(2)
        cancelled = 1 + int(when * (slices - 1)) if dies < p.cancel_probability and slices > 1 else None
        before = chosen < (slices if cancelled is None else cancelled)
        position = position[before]
        return cls(
            noise=np.exp(p.fill_noise_sd * z - 0.5 * p.fill_noise_sd**2),
            late=late,
            lumps=lumps,
            revised_at=chosen[before],
            resize=np.exp(p.resize_log_sd * np.clip(size[position], -_MOST_RESIZE, _MOST_RESIZE)),
            timing=timing[position],
            cancelled_at=cancelled,
        )


@dataclass(frozen=True, eq=False)
class FillRun:
    """Plan, fills (T, n), revisions ``(k, plan)`` in lots without sign, and the slice of the cancellation."""

    plan: Ints
    fills: Ints
    revisions: tuple[tuple[int, Ints], ...]
    cancelled_at: int | None


def run_fills(kind: str, plan: Ints, draws: FillDraws, p: DeskParameters) -> FillRun:
    """Execute a plan slice by slice; what happens in a slice uses only the plan in force and earlier fills.

    Smooth kinds fill the slice's plan times noise plus a share of the shortfall; lumpy ones a little of it, and in each
    lump slice the lump's share of all that is left; blocks are done as planned or one slice late. The last slice
    completes the plan in force.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    plan
        Lots by slice and name (T, n), ≥ 0.
    draws
        Chance of this parent.
    p
        Parameters of the desk.

    Returns
    -------
    FillRun
        Fills never exceed what is left of the plan in force, and sum to it unless cancelled.
    """
    slices = len(plan)
    changes = zip(draws.revised_at, draws.resize, draws.timing, strict=True)
    revised = {int(k): (float(resize), float(timing)) for k, resize, timing in changes}
    ahead = np.cumsum(draws.lumps[::-1])[::-1]  # lump weight from this slice on
    fills = np.zeros_like(plan)
    current, revisions = plan, []
    done = np.zeros(plan.shape[1], dtype=np.int64)
    for k in range(slices):
        if k == draws.cancelled_at:
            break
        if k in revised:
            changed = _revise(current, k, done, *revised[k], p)
            if not np.array_equal(changed, current):
                revisions.append((k, changed))
                current = changed
        left = current.sum(axis=0) - done
        shortfall = current[:k].sum(axis=0) - done
        if k == slices - 1:
            fill = left
        else:
            fill = np.clip(_wanted(kind, current[k], shortfall, left, k, draws, ahead, p), 0, left)
        fills[k] = fill
        done += fill
    return FillRun(plan, fills, tuple(revisions), draws.cancelled_at)


def _wanted(
    kind: str, planned: Ints, shortfall: Ints, left: Ints, k: int, draws: FillDraws, ahead: Array, p: DeskParameters
) -> Ints:
    if kind == "block":
        return np.zeros_like(planned) if draws.late[k] else planned + shortfall
    if kind == "lumpy":
        even = p.lump_background * planned * draws.noise[k]
        lump = draws.lumps[k] / ahead[k] * left if draws.lumps[k] > 0.0 else 0.0
        return np.asarray(np.rint(np.maximum(even, lump)), dtype=np.int64)
    return np.asarray(np.rint(planned * draws.noise[k] + p.catch_up * shortfall), dtype=np.int64)


def _revise(plan: Ints, k: int, done: Ints, resize: float, timing: float, p: DeskParameters) -> Ints:
    """Return the plan with its rows from k on rescaled and, perhaps, stretched to the deadline or sped up."""
    past, rest = plan[:k].sum(axis=0), plan[k:]
    total = np.maximum(np.rint(rest.sum(axis=0) * resize).astype(np.int64), np.maximum(done - past, 0))
    room = len(rest)
    active = int(np.flatnonzero(rest.any(axis=1))[-1]) + 1 if rest.any() else room
    if timing < p.stretch_probability:
        wanted = room
    elif timing < p.stretch_probability + p.speed_up_probability:
        wanted = (active + 1) // 2
    else:
        wanted = active
    # The shape of what was left, on a shorter or longer clock.
    clock = np.arange(active + 1.0) / active
    running = np.concatenate([np.zeros((1, plan.shape[1])), np.cumsum(rest[:active], axis=0, dtype=np.float64)])
    moved = [np.interp(np.arange(wanted + 1.0) / wanted, clock, column) for column in running.T]
    weights = np.zeros(rest.shape)
    weights[:wanted] = np.diff(np.column_stack(moved), axis=0)
    empty = weights.sum(axis=0) <= 0.0
    weights[:wanted, empty] = 1.0
    return np.concatenate([plan[:k], to_lots(total, weights)])
