"""Checks of arrays at the edge, and the exponentially decayed sum over irregular times that the features share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.ticks import QuoteTape
from crosswind.solvers.errors import InvalidInput

__all__ = ["block_of", "check_events", "check_quotes", "decayed_sum", "positives", "stamps", "times", "vector"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_LIMIT = 300.0  # e^300 is far below the largest float64: a block of the decayed sum never overflows


def vector(value: Any, field: str, length: int | None = None, *, allow_nan: bool = False) -> Float:
    """Return ``value`` as a float64 vector (n,).

    Parameters
    ----------
    value
        Anything that numpy turns into one dimension of numbers.
    field
        Used in messages.
    length
        Required number of entries.
    allow_nan
        Whether NaN may stand for "unknown"; infinities never may.

    Raises
    ------
    InvalidInput
        On another shape or length, text, inf, or NaN where it is not allowed.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("holds no numbers", field=field, value=error, remedy="pass a vector of numbers") from error
    if array.ndim != 1:
        raise InvalidInput("not one-dimensional", field=field, value=array.shape, remedy="pass a vector")
    if length is not None and len(array) != length:
        raise InvalidInput(f"not of length {length}", field=field, value=len(array), remedy="give one value per row")
    bad = np.isinf(array) if allow_nan else ~np.isfinite(array)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInput(f"row {at} is not finite", field=field, value=float(array[at]), remedy="drop those rows")
    return array


def times(value: Any, field: str) -> Int:
    """Return ``value`` as int64 nanoseconds since 1970 UTC, in time order (equal times may follow each other).

    Raises
    ------
    InvalidInput
        On a naive or disordered index, or an array that does not hold whole nanoseconds.
    """
    if isinstance(value, pd.DatetimeIndex):
        if value.tz is None or value.hasnans:
            raise InvalidInput("naive or holds NaT", field=field, remedy="localise with .tz_localize('UTC')")
        array = value.as_unit("ns").asi8
    else:
        array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidInput(
            "not a vector of whole nanoseconds",
            field=field,
            value=str(array.dtype),
            remedy="pass int64 nanoseconds since 1970 UTC or a tz-aware DatetimeIndex",
        )
    steps = np.diff(array.astype(np.int64))
    if (steps < 0).any():
        at = int(np.argmax(steps < 0)) + 1
        raise InvalidInput(f"goes back at row {at}", field=field, value=int(array[at]), remedy="sort by time first")
    return array.astype(np.int64)


def stamps(time_ns: Int) -> pd.DatetimeIndex:
    """Return nanoseconds since 1970 as a UTC index."""
    return pd.DatetimeIndex(time_ns, tz="UTC", name="time").as_unit("ns")


def positives(values: Iterable[float], field: str) -> tuple[float, ...]:
    """Return one or more distinct positive numbers, ascending.

    Raises
    ------
    InvalidInput
        If there is none, one is not positive, or one is given twice.
    """
    numbers = (values,) if isinstance(values, (int, float)) else values
    out = tuple(sorted(check_positive(v, field) for v in numbers))
    if not out or len(set(out)) < len(out):
        raise InvalidInput("empty or repeated", field=field, value=out, remedy="give distinct positive numbers")
    return out


def check_events(events: Any, field: str = "events") -> MarketEvents:
    """Refuse what is not :class:`MarketEvents`.

    Raises
    ------
    InvalidInput
        Otherwise.
    """
    if not isinstance(events, MarketEvents):
        raise InvalidInput("not MarketEvents", field=field, value=type(events).__name__, remedy="pass data.events")
    return events


def check_quotes(quotes: Any) -> QuoteTape:
    """Return the quotes of a tape that are finite, positive and not crossed; refuse a tape with none or disordered.

    Raises
    ------
    InvalidInput
        If it is no QuoteTape, its times go back, or no usable quote is left.
    """
    if not isinstance(quotes, QuoteTape):
        raise InvalidInput("not a QuoteTape", field="quotes", value=type(quotes).__name__, remedy="read ticks first")
    times(quotes.known_ns, "quotes.known_ns")
    good, dropped = quotes.usable()
    if not len(good.known_ns):
        raise InvalidInput(
            "there is no usable quote", field="quotes", value=dropped, remedy="check bid and ask columns"
        )
    return good


def block_of(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the rows under ``what`` in the first level of the index, keyed by the second."""
    part = table.xs(what, level=0)
    assert isinstance(part, pd.DataFrame)
    return part


def decayed_sum(time_ns: Int, values: Float, time_constant_s: float) -> Float:
    """Return ``y_n = Σ_{m ≤ n} x_m exp(−(t_n − t_m)/τ)`` over irregular times, each from data up to its own row.

    Parameters
    ----------
    time_ns
        t, (n,), ascending [ns].
    values
        x, (n,) or (n, k).
    time_constant_s
        τ [s].

    Notes
    -----
    Vectorised over blocks: within one, ``y = e^{−t/τ} cumsum(x e^{t/τ})`` plus what is left of the block before.
    Blocks end where the exponent would pass 300, which only the past decides: appending rows changes no earlier one.
    """
    tau_ns = check_positive(time_constant_s, "time_constant_s") * 1e9
    x = np.asarray(values, dtype=np.float64)
    out = np.empty_like(x)
    first, count = 0, len(time_ns)
    carry: Any = np.zeros(x.shape[1:])
    carried_at = int(time_ns[0]) if count else 0
    while first < count:
        last = int(np.searchsorted(time_ns, time_ns[first] + _LIMIT * tau_ns, side="right"))
        lift = np.exp((time_ns[first:last] - time_ns[first]) / tau_ns)
        lift = lift if x.ndim == 1 else lift[:, None]
        left = carry * np.exp(-(int(time_ns[first]) - carried_at) / tau_ns)
        out[first:last] = (np.cumsum(x[first:last] * lift, axis=0) + left) / lift
        carry, carried_at, first = out[last - 1], int(time_ns[last - 1]), last
    return out
