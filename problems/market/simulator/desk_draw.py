"""Draws the desk's parents: arrivals, names, sizes and plans, and hands them to the execution that fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.simulator.desk_fills import FillDraws, run_fills, to_lots
from crosswind.problems.market.simulator.desk_order import DeskOrder
from crosswind.problems.market.simulator.desk_parameters import KINDS, DeskParameters
from crosswind.problems.market.simulator.sessions import u_shape
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["draw_orders"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_TWO_SIDED = KINDS.index("two_sided")
_MOST_NET = 0.9  # |net| / gross of a two-sided parent: beyond it one side would all but vanish
_MOST_PARENTS = 100_000  # of one session: more is a slip in the rate


@dataclass(frozen=True, eq=False)
class _Session:
    """One session cut into slices: starts (K,), quotes at them, the volume profile, the volume rate known (K, N)."""

    number: int
    label: str
    starts_ns: Ints
    step_ns: int
    mid: Array
    spread: Array
    profile: Array
    volume_per_s: Array


def draw_orders(events: MarketEvents, parameters: DeskParameters, seed: int) -> tuple[DeskOrder, ...]:
    """Draw the parents of all sessions; see :func:`~crosswind.problems.market.simulator.desk.draw_desk`.

    Parameters
    ----------
    events
        Buckets with quotes and volume.
    parameters
        Rates and sizes.
    seed
        Integer of 0 or more.

    Returns
    -------
    tuple of DeskOrder
        In order of their start.

    Raises
    ------
    InvalidInput
        On arguments of another type and on a bad seed.
    """
    if not isinstance(parameters, DeskParameters):
        raise InvalidInput(
            "not DeskParameters", field="parameters", value=type(parameters).__name__, remedy="pass DeskParameters()"
        )
    if not isinstance(events, MarketEvents):
        raise InvalidInput(
            "not MarketEvents", field="events", value=type(events).__name__, remedy="pass MarketData.events"
        )
    if parameters.parents_per_day > _MOST_PARENTS:
        raise InvalidInput(
            f"exceeds {_MOST_PARENTS}", field="parents_per_day", value=parameters.parents_per_day, remedy="lower it"
        )
    stream(seed, Part.DESK_ARRIVALS)  # a bad seed is refused even where no order is drawn
    orders: list[DeskOrder] = []
    for session in _sessions(events, parameters):
        orders += _draw_session(session, events.names, parameters, seed)
    return tuple(orders)


def _sessions(events: MarketEvents, p: DeskParameters) -> list[_Session]:
    ends, dates = events.index.asi8, events.session.to_numpy()
    step_s = events.bucket_s * max(1, int(np.ceil(p.slice_s / events.bucket_s - 1e-9)))
    step = round(step_s * 1e9)
    mid, spread, volume = (getattr(events, field).to_numpy() for field in ("mid", "spread", "volume"))
    cumulative = np.cumsum(volume, axis=0)
    first = np.append(0, np.flatnonzero(dates[1:] != dates[:-1]) + 1)
    last = np.append(first[1:], len(ends))
    # Time in which volume comes at its mean rate: an hour at the open counts for more than one at noon.
    usual = np.concatenate([u_shape(b - a, p.vwap_u_shape) for a, b in zip(first, last, strict=True)])
    elapsed = events.bucket_s * np.cumsum(usual)
    sessions = []
    for number, (a, b) in enumerate(zip(first, last, strict=True)):
        count = int((ends[b - 1] - ends[a]) // step)
        starts = ends[a] + step * np.arange(count, dtype=np.int64)
        at = a + np.searchsorted(ends[a:b], starts, side="right") - 1
        sessions.append(
            _Session(
                number=number,
                label=f"{dates[a]:%Y%m%d}",
                starts_ns=starts,
                step_ns=step,
                mid=mid[at],
                spread=spread[at],
                profile=u_shape(max(count, 1), p.vwap_u_shape),
                # All volume seen by then, over the usual time seen by then: nothing of the order's own window.
                volume_per_s=cumulative[at] / elapsed[at][:, None],
            )
        )
    return sessions


def _draw_session(session: _Session, names: tuple[str, ...], p: DeskParameters, seed: int) -> list[DeskOrder]:
    slices, day = len(session.starts_ns), session.number
    if slices < 1:
        return []  # a session of one bucket, or shorter than a slice
    arrivals = stream(seed, Part.DESK_ARRIVALS, day)
    count = int(arrivals.poisson(p.parents_per_day))
    u = arrivals.random((count, 2))
    slice_s = session.step_ns / 1e9
    earliest = min(int(np.ceil(p.earliest_start_s / slice_s)), slices - 1)
    horizon_s = p.horizon_min_s * (p.horizon_max_s / p.horizon_min_s) ** u[:, 0]
    lengths = np.clip(np.rint(horizon_s / slice_s).astype(np.int64), 1, slices - earliest)
    starts = earliest + np.floor(u[:, 1] * (slices - earliest - lengths + 1)).astype(np.int64)
    draws = [stream(seed, part, day).spawn(count) for part in _PARTS]
    orders: list[DeskOrder] = []
    for number in np.argsort(starts, kind="stable"):
        name = f"{session.label}-{len(orders) + 1:02d}"
        children = [part[number] for part in draws]
        order = _draw_order(name, session, names, int(starts[number]), int(lengths[number]), p, children)
        if order is not None:
            orders.append(order)
    return orders


_PARTS = (Part.DESK_KIND, Part.DESK_SIZE, Part.DESK_PLAN, Part.DESK_FILLS, Part.DESK_REVISIONS, Part.DESK_CANCEL)


def _draw_order(
    name: str,
    session: _Session,
    names: tuple[str, ...],
    start: int,
    length: int,
    p: DeskParameters,
    children: list[np.random.Generator],
) -> DeskOrder | None:
    kind, columns, signs = _draw_kind(children[0], len(names), p)
    window_s = float(session.profile[start : start + length].sum()) * session.step_ns / 1e9
    mid = session.mid[start]
    lots = _draw_lots(children[1], kind, signs, columns, session.volume_per_s[start] * window_s, mid, p)
    keep = lots > 0
    if not keep.any():
        return None  # names that never trade carry no order
    columns, signs, lots = columns[keep], signs[keep], lots[keep]
    weights = _draw_weights(children[2], kind, signs, session.profile[start : start + length], p)
    result = run_fills(
        kind,
        to_lots(lots, weights),
        FillDraws.draw(children[3], children[4], children[5], length, len(columns), p),
        p,
    )
    rows = slice(start, start + length)
    index = pd.DatetimeIndex(session.starts_ns[rows], tz="UTC").as_unit("ns")
    chosen = [names[column] for column in columns]

    def frame(values: NDArray[Any]) -> pd.DataFrame:
        return pd.DataFrame(np.ascontiguousarray(values, dtype=np.float64), index=index, columns=chosen)

    def shares(values: Ints) -> pd.DataFrame:
        return frame(values * (signs * p.lot_shares) + 0.0)  # + 0.0: no negative zeros

    return DeskOrder(
        name=name,
        start=index[0],
        end=pd.Timestamp(int(session.starts_ns[start]) + length * session.step_ns, tz="UTC"),
        slice_s=session.step_ns / 1e9,
        plan=shares(result.plan),
        fills=shares(result.fills),
        revisions=tuple((k, shares(plan)) for k, plan in result.revisions),
        cancelled_at=result.cancelled_at,
        kind=kind,
        mid=frame(session.mid[rows][:, columns]),
        spread=frame(session.spread[rows][:, columns]),
    )


def _draw_kind(generator: np.random.Generator, names: int, p: DeskParameters) -> tuple[str, Ints, Ints]:
    """Return the kind, the chosen columns (n,) and their sides (n,) in {−1, 1}."""
    u = generator.random(4)
    order = generator.permutation(names)
    weights = np.array(p.kind_weights)
    most = min(p.names_max, names)
    if most < 2:
        weights[_TWO_SIDED] = 0.0
        if not weights.any():
            weights[0] = 1.0
    kind = KINDS[int(np.searchsorted(np.cumsum(weights) / weights.sum(), u[0], side="right"))]
    size = 1
    if most >= 2 and (u[1] < p.basket_probability or kind == "two_sided"):
        size = 2 + int(u[2] * (most - 1))
    if kind == "two_sided":
        signs = np.where(np.arange(size) < (size + int(u[3] < 0.5)) // 2, 1, -1)
    else:
        signs = np.full(size, 1 if u[3] < p.buy_probability else -1)
    columns = order[:size]
    rank = np.argsort(columns, kind="stable")
    return kind, columns[rank].astype(np.int64), signs[rank].astype(np.int64)


def _draw_lots(
    generator: np.random.Generator,
    kind: str,
    signs: Ints,
    columns: Ints,
    expected: Array,
    mid: Array,
    p: DeskParameters,
) -> Ints:
    """Return the whole lots of each chosen name (n,), 0 where no volume is expected."""
    net = float(np.clip(p.two_sided_net_sd * generator.standard_normal(), -_MOST_NET, _MOST_NET))
    z = generator.standard_normal(len(columns))
    participation = np.minimum(p.participation_max, p.participation_median * np.exp(p.participation_log_sd * z))
    notional = participation * expected[columns]
    bought, sold = notional[signs > 0].sum(), notional[signs < 0].sum()
    if kind == "two_sided" and bought > 0.0 and sold > 0.0:
        # Both sides are scaled to the net wanted, the larger factor being 1: no name exceeds its participation.
        factors = np.array([(1.0 - net) / sold, (1.0 + net) / bought])
        notional = notional * (factors / factors.max())[(signs > 0).astype(np.int64)]
    lots = np.rint(notional / (mid[columns] * p.lot_shares)).astype(np.int64)
    return np.where(expected[columns] > 0.0, np.maximum(lots, 1), 0)


def _draw_weights(generator: np.random.Generator, kind: str, signs: Ints, profile: Array, p: DeskParameters) -> Array:
    """Return the relative sizes of the slices (T, n), zero after the plan's own end; ``profile`` is the window's."""
    u, length = generator.random(2), len(profile)
    active = max(1, int(np.ceil(length * (1.0 - p.slack_max * u[0]))))
    weights = np.zeros((length, len(signs)))
    weights[:active] = 1.0
    if kind == "vwap":
        weights[:active] = profile[:active, None]
    elif kind == "block":
        blocks = min(1 + int(u[1] * p.blocks_max), active)
        at = np.floor((np.arange(blocks) + 0.5) / blocks * active).astype(np.int64)
        weights[:active] = (1.0 - p.block_share) / active
        weights[at] += p.block_share / blocks
    elif kind == "two_sided":
        lead = min(int(p.two_sided_lead * active), active - 1)
        weights[:lead, signs > 0] = 0.0
        weights[active - lead :, signs < 0] = 0.0
    return weights
