"""The replay's execution on many episodes and many policy parameters at once, compiled by jax.

The same arithmetic as the event kernel's, in float64, for policies that are affine in what they may see at slice k:

    gap_k = target_k + A·position + B·in flight                                                     [units]
    order_k = schedule_k + clip(feed_k + gain_k ∘ [gap_k]_{|gap_k| > threshold_k} + pull_k ∘ displacement)

and at the close ``closing·(target_T + A·position + B_c·in flight)``. Several orders of one instrument in one slice,
rounding to whole contracts and policies of any other form are the event kernel's: here an instrument gets one order a
slice, and nothing is approximated. When and whether an order enters the book is known ahead
(:mod:`crosswind.problems.replay.batch`); the orders of the last W slices are carried along. Where volume is limited an
order may wait for longer than W: then the run is repeated with four times the window, up to T, so the result never
depends on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.replay.batch import ReplayBatch
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers.errors import InvalidInput, LimitBreach

__all__ = ["AffinePolicy", "BatchReplay", "replay_batch"]


@dataclass(frozen=True, eq=False)
class AffinePolicy:
    """Affine policies with P sets of parameters, for E episodes of T slices and n instruments.

    Parameters
    ----------
    schedule
        Units to trade whatever happens, (E, T, n).
    target
        Position that is wanted for a policy's gap, as known at each bound, (E, T+1, n) [units]. None: 0.
    position_weight, flight_weight, close_flight_weight
        A, B and B_c, (E, n, n) [units per unit]. None: 0.
    feed
        Known part of the order, (P, E, T, n) [units].
    gain
        Share of the gap that is traded, (P, E, T, n).
    threshold
        A gap of at most this size counts as none, (P, E, T, n) [units]; −1: every gap counts.
    clip
        Greatest size of what is traded besides the schedule, (P, E, T, n) [units]; inf: no limit.
    pull
        Units traded per unit of displacement of the instrument's mid, (P, E, T, n).
    closing
        1 where the policy closes its gap at the end, 0 where not, (P, E, n).

    Axes of the last six may have length 1 and are then the same for all.

    Raises
    ------
    InvalidInput
        For NaN, or shapes that do not fit.
    """

    schedule: FloatArray
    target: FloatArray | None = None
    position_weight: FloatArray | None = None
    flight_weight: FloatArray | None = None
    close_flight_weight: FloatArray | None = None
    feed: FloatArray | float = 0.0
    gain: FloatArray | float = 0.0
    threshold: FloatArray | float = -1.0
    clip: FloatArray | float = np.inf
    pull: FloatArray | float = 0.0
    closing: FloatArray | float = 0.0

    def __post_init__(self) -> None:
        put = object.__setattr__
        schedule = np.asarray(self.schedule, dtype=np.float64)
        if schedule.ndim != 3:
            raise InvalidInput("must be E × T × n", field="schedule", value=schedule.shape, remedy="add the axes")
        put(self, "schedule", schedule)
        episodes, slices, n = schedule.shape
        shapes = {"target": (episodes, slices + 1, n)}
        shapes |= dict.fromkeys(("position_weight", "flight_weight", "close_flight_weight"), (episodes, n, n))
        for name, shape in shapes.items():
            given = getattr(self, name)
            array = np.zeros(shape) if given is None else np.asarray(given, dtype=np.float64)
            if array.shape != shape:
                raise InvalidInput(f"must be {shape}", field=name, value=array.shape, remedy="reshape it")
            put(self, name, array)
        counts = set()
        for name in ("feed", "gain", "threshold", "clip", "pull", "closing"):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            full = (episodes, n) if name == "closing" else (episodes, slices, n)
            if array.ndim == 0:
                array = array.reshape((1,) * (len(full) + 1))
            fits = array.ndim == len(full) + 1 and all(a in (1, b) for a, b in zip(array.shape[1:], full, strict=True))
            if not fits:
                raise InvalidInput(
                    f"must be P × {' × '.join(map(str, full))}, each of P and these or 1",
                    field=name,
                    value=array.shape,
                    remedy="keep the axes, with length 1 where nothing varies",
                )
            put(self, name, array)
            counts.add(array.shape[0])
        if len(counts - {1}) > 1:
            raise InvalidInput(
                "different numbers of policies", field="P", value=sorted(counts), remedy="give P or 1 of each"
            )
        for field in fields(self):
            if np.isnan(getattr(self, field.name)).any():
                raise InvalidInput("must not be NaN", field=field.name, value="NaN", remedy="fill the gaps")

    @property
    def policies(self) -> int:
        """Number of sets of parameters P."""
        return max(len(getattr(self, name)) for name in ("feed", "gain", "threshold", "clip", "pull", "closing"))


@dataclass(frozen=True, eq=False)
class BatchReplay:
    """What the vectorised execution produced; costs in currency, positive: money lost.

    Parameters
    ----------
    spread, fees
        Half-spreads and fees paid on fills before the close, (P, E, n).
    impact
        Paid on fills of the first instrument for what the second displaced, before the close, (P, E, n, n).
    close_spread, close_fees, close_impact
        The same at the close.
    gain
        What the fills have made since, marked at the last undisplaced mid, (P, E, n).
    throttled
        Orders that the rate limit refused, (P, E, n).
    sent, filled
        Units sent at each bound and filled in each slice, the close last, (P, E, T+1, n); None without paths.
    positions
        Units held after all events at each bound, (P, E, T+1, n); None without paths.
    window
        Slices that orders were carried along, W.
    """

    spread: FloatArray
    fees: FloatArray
    impact: FloatArray
    close_spread: FloatArray
    close_fees: FloatArray
    close_impact: FloatArray
    gain: FloatArray
    throttled: FloatArray
    sent: FloatArray | None
    filled: FloatArray | None
    positions: FloatArray | None
    window: int

    @property
    def own_impact(self) -> FloatArray:
        """Impact paid for an instrument's own displacement, before the close, (P, E, n)."""
        own: FloatArray = np.einsum("...ii->...i", self.impact)
        return own

    @property
    def close_cost(self) -> FloatArray:
        """Half-spreads, impact and fees of the forced close, (P, E)."""
        parts = self.close_spread + self.close_fees + self.close_impact.sum(axis=-1)
        total: FloatArray = parts.sum(axis=-1)
        return total

    @property
    def cost(self) -> FloatArray:
        """Half-spreads, impact and fees of all fills, (P, E)."""
        total: FloatArray = (self.spread + self.fees + self.impact.sum(axis=-1)).sum(axis=-1) + self.close_cost
        return total

    @property
    def wealth(self) -> FloatArray:
        """The ledger's wealth at the end, from 0, (P, E)."""
        change: FloatArray = self.gain.sum(axis=-1) - self.cost
        return change


def replay_batch(
    batch: ReplayBatch, policy: AffinePolicy, *, paths: bool = True, window: int | None = None
) -> BatchReplay:
    """Execute affine policies on all episodes.

    Parameters
    ----------
    batch
        E episodes.
    policy
        P sets of parameters; every one is run on every episode.
    paths
        Keep orders, fills and positions by slice; without them only the costs are kept.
    window
        Slices that orders are carried along at first; default: the least possible, or 8 where volume is limited.

    Returns
    -------
    BatchReplay
        Equal to :func:`crosswind.problems.replay.replay` up to rounding.

    Raises
    ------
    InvalidInput
        When batch and policy have different shapes.
    LimitBreach
        When impact would move a price to zero or below.
    MissingDependency
        Without jax.
    """
    shape = (batch.episodes, batch.slices, len(batch.instruments))
    if policy.schedule.shape != shape:
        raise InvalidInput(
            "the policy is for another batch", field="schedule", value=policy.schedule.shape, remedy=f"use {shape}"
        )
    limited = bool(np.isfinite(batch.capacity).any())
    # Where no order overtakes another the queue is in order of sending, and no ranks need to be compared.
    ordered = bool((np.diff(batch.rank, axis=1) >= 0).all())
    width = min(batch.slices, max(batch.window, window or (8 if limited else 1)))
    while True:
        static = _Static(width, limited, ordered, bool(np.isfinite(batch.limit).any()), batch.close, paths)
        out = _run(batch, policy, static)
        if not out.pop("overflow").any():
            break
        width = min(batch.slices, 4 * width)
    if out.pop("breach").any():
        raise LimitBreach(
            "impact would move a price to zero or below",
            field="matrices",
            value=float(np.abs(batch.matrices).max(initial=0.0)),
            remedy="give the impact matrices in return per currency",
        )
    if not paths:
        out |= dict.fromkeys(("sent", "filled", "positions"))
    return BatchReplay(**out, window=width)


@dataclass(frozen=True)
class _Static:
    """What a compiled program is specialised to."""

    window: int
    limited: bool
    ordered: bool
    throttle: bool
    close: bool
    paths: bool


_LANES = 1024
"""Episodes times policies in one call: what they carry along then stays in a core's own cache."""

_EPISODE = (
    "mid",
    "half_spread",
    "capacity",
    "multiplier",
    "fee",
    "limit",
    "close_multiple",
    "rates",
    "matrices",
    "step_s",
    "weight",
    "entry",
    "batch",
    "rank",
    "release",
    "recent",
)
_STRUCTURE = ("schedule", "target", "position_weight", "flight_weight", "close_flight_weight")
_POLICY = ("feed", "gain", "threshold", "clip", "pull", "closing")


def _run(batch: ReplayBatch, policy: AffinePolicy, static: _Static) -> dict[str, Any]:
    from crosswind.optim.costs import _enable_x64

    data = {name: getattr(batch, name) for name in _EPISODE} | {name: getattr(policy, name) for name in _STRUCTURE}
    knobs: dict[str, NDArray[Any]] = {name: getattr(policy, name) for name in _POLICY}
    # An axis of length 1 is dropped, not copied: jax then computes once what does not vary.
    over_policies = tuple((name, len(array) > 1) for name, array in knobs.items())
    over_episodes = tuple((name, array.shape[1] > 1) for name, array in knobs.items())
    knobs = {name: array if array.shape[0] > 1 else array[0] for name, array in knobs.items()}
    for (name, many), (_, each) in zip(over_policies, over_episodes, strict=True):
        if not each:
            knobs[name] = knobs[name].squeeze(axis=1 if many else 0)
    parts: list[dict[str, NDArray[Any]]] = []
    width = min(batch.episodes, max(1, _LANES // policy.policies))
    with _enable_x64():
        run = _compiled(static, over_policies, over_episodes)
        for start in range(0, batch.episodes, width):
            # The last part is filled up with its last episode, so that there is one shape and one compilation.
            rows = np.minimum(np.arange(start, start + width), batch.episodes - 1)
            some = {
                name: np.take(array, rows, axis=int(many)) if each else array
                for (name, array), (_, many), (_, each) in zip(knobs.items(), over_policies, over_episodes, strict=True)
            }
            got = run({name: array[rows] for name, array in data.items()}, some)
            parts.append({name: np.asarray(value) for name, value in got.items()})
    axis = int(policy.policies > 1)
    out = {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}
    out = {name: np.take(value, range(batch.episodes), axis=axis) for name, value in out.items()}
    return {name: value if axis else value[None] for name, value in out.items()}


@functools.lru_cache(maxsize=64)
def _compiled(
    static: _Static, over_policies: tuple[tuple[str, bool], ...], over_episodes: tuple[tuple[str, bool], ...]
) -> Callable[..., dict[str, Any]]:
    """Return the compiled program; jax compiles once per shape."""
    try:
        import jax
    except ImportError as err:
        from crosswind.solvers.errors import MissingDependency

        raise MissingDependency(
            "the vectorised replay needs jax", field="jax", value="not installed", remedy="pip install jax"
        ) from err
    from crosswind.problems.replay.execution import execute_episode

    one = functools.partial(execute_episode, static=static)
    each = jax.vmap(one, in_axes=(0, {name: 0 if many else None for name, many in over_episodes}))
    if any(many for _, many in over_policies):
        each = jax.vmap(each, in_axes=(None, {name: 0 if many else None for name, many in over_policies}))
    compiled: Callable[..., dict[str, Any]] = jax.jit(each)
    return compiled
