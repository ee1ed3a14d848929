"""Legging: which leg's fills wait for which of the other leg, and for how long."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.roll.metrics.config import NS
from crosswind.solvers.errors import InvalidInput

__all__ = ["LegLedger", "legging_exposure", "legging_pairs", "spreads_done"]


class LegLedger:
    """Open and lately closed leg fills, matched first in, first out.

    A fill that moves the imbalance (far + near, signed contracts) away from zero opens, one that moves it back closes
    the oldest that is open; a fill of both legs at once has no exposure.

    Parameters
    ----------
    window_s
        For how long a closed pair is remembered [s].
    """

    def __init__(self, window_s: float) -> None:
        self._window = round(window_s * NS)
        self._open: deque[list[int | float]] = deque()  # [ns, signed contracts]
        self._closed: deque[tuple[int, int]] = deque()  # (second ns, exposure ns), exposures falling: a running maximum

    def fill(self, ns: int, near: float, far: float) -> list[tuple[int, int, float]]:
        """Take a fill [signed contracts of each leg]; return the pairs it closed: (first ns, second ns, contracts)."""
        left, pairs = near + far, []
        while left and self._open and (self._open[0][1] > 0) != (left > 0):
            first, lot = self._open[0]
            done = min(abs(lot), abs(left))
            pairs.append((int(first), ns, done))
            while self._closed and self._closed[-1][1] <= ns - first:
                self._closed.pop()
            self._closed.append((ns, int(ns - first)))
            left -= np.sign(left) * done
            if done == abs(lot):
                self._open.popleft()
            else:
                self._open[0][1] = lot - np.sign(lot) * done
        if left:
            self._open.append([ns, left])
        return pairs

    def open_lots(self) -> list[tuple[int, float]]:
        """Return (ns, signed contracts) of the fills that wait for the other leg."""
        return [(int(ns), float(lot)) for ns, lot in self._open]

    def exposure(self, ns: int) -> float:
        """Return LET at a time [s]: the age of the oldest open fill, else the greatest of the pairs closed lately."""
        while self._closed and self._closed[0][0] <= ns - self._window:
            self._closed.popleft()
        if self._open:
            return float((ns - self._open[0][0]) / NS)
        return self._closed[0][1] / NS if self._closed else 0.0

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"open": [list(lot) for lot in self.open_lots()], "closed": [list(pair) for pair in self._closed]}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._open = deque([int(ns), float(lot)] for ns, lot in state["open"])
        self._closed = deque((int(ns), int(age)) for ns, age in state["closed"])


def legging_pairs(fills: pd.DataFrame) -> pd.DataFrame:
    """Match the fills of both legs first in, first out.

    Parameters
    ----------
    fills
        Time (tz-aware, not decreasing) × ``near``, ``far`` [signed contracts, buys positive; 0 where a leg had none].

    Returns
    -------
    DataFrame
        A row per matched lot and per lot still open: ``first``, ``second`` (NaT: open), ``contracts``, and
        ``let_s`` = second − first [s] (NaN: open).

    Raises
    ------
    InvalidInput
        On fills of another form.
    """
    ns, near, far = _fill_columns(fills)
    ledger = LegLedger(1.0)
    rows: list[tuple[int, int | None, float, float]] = []
    for k in range(len(ns)):
        rows += [(a, b, n, (b - a) / NS) for a, b, n in ledger.fill(int(ns[k]), float(near[k]), float(far[k]))]
    rows += [(a, None, abs(n), np.nan) for a, n in ledger.open_lots()]
    frame = pd.DataFrame(rows, columns=["first", "second", "contracts", "let_s"])
    for name in ("first", "second"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype({"contracts": np.float64, "let_s": np.float64})


def legging_exposure(times: pd.DatetimeIndex, fills: pd.DataFrame, window_s: float) -> NDArray[np.float64]:
    """Return LET at each time (B,) [s].

    LET_t is the age of the oldest fill that waits for its other leg at t; with none waiting, the greatest
    LET = t_second − t_first among the pairs closed in (t − W, t], and 0 without any.

    Parameters
    ----------
    times
        Times (B,), increasing.
    fills
        As in :func:`legging_pairs`.
    window_s
        W [s].
    """
    pairs = legging_pairs(fills)
    ns = times.as_unit("ns").asi8
    far_off = np.iinfo(np.int64).max
    first = pd.DatetimeIndex(pairs["first"]).as_unit("ns").asi8
    second = np.where(pairs["second"].isna(), far_off, pd.DatetimeIndex(pairs["second"]).as_unit("ns").asi8)
    opened, closed = np.searchsorted(ns, first), np.searchsorted(ns, second)
    waiting, finished = np.full(len(ns), far_off), np.zeros(len(ns))
    for k in range(len(pairs)):
        waiting[opened[k] : closed[k]] = np.minimum(waiting[opened[k] : closed[k]], first[k])
        if second[k] < far_off:
            until = np.searchsorted(ns, second[k] + round(window_s * NS))
            finished[closed[k] : until] = np.maximum(finished[closed[k] : until], (second[k] - first[k]) / NS)
    return np.where(waiting < far_off, (ns - waiting) / NS, finished)


def spreads_done(times: pd.DatetimeIndex, fills: pd.DataFrame, side: int) -> NDArray[np.float64]:
    """Return max(far done, near done) of an order at each time (B,): what at least one leg has traded [contracts]."""
    at, near, far = _fill_columns(fills)
    upto = np.searchsorted(at, times.as_unit("ns").asi8, side="right")
    done_near, done_far = (np.append(0.0, np.cumsum(v)) for v in (-side * near, side * far))
    return np.asarray(np.maximum(np.maximum(done_near[upto], done_far[upto]), 0.0), dtype=np.float64)


def _fill_columns(
    fills: pd.DataFrame,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(fills, pd.DataFrame) or not {"near", "far"} <= set(fills.columns):
        raise InvalidInput(
            "is not a frame of near and far", field="fills", value=type(fills).__name__, remedy="time × near, far"
        )
    index = fills.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or not index.is_monotonic_increasing:
        raise InvalidInput(
            "is not tz-aware and in order", field="fills index", value=type(index).__name__, remedy="localise and sort"
        )
    near, far = (fills[name].to_numpy(dtype=np.float64) for name in ("near", "far"))
    if not (np.isfinite(near) & np.isfinite(far)).all():
        raise InvalidInput(
            "hold values that are not finite", field="fills", value=None, remedy="0 where a leg had none"
        )
    return index.as_unit("ns").asi8, near, far
