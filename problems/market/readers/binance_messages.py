"""Columns out of decoded messages: numbers, integers and texts, with unreadable fields marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Columns", "repeated", "trade_columns"]

_Int = npt.NDArray[np.int64]
_Float = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]
_TRADE = ("s", "E", "T", "p", "q", "m")


class Columns:
    """Fields of messages, column by column.

    Parameters
    ----------
    messages
        Decoded messages (R,).
    keys
        Fields, two or more; ``complete`` marks the messages that have them all.
    """

    def __init__(self, messages: Sequence[Any], keys: tuple[str, ...]) -> None:
        self.complete: _Bool = np.ones(len(messages), dtype=bool)
        try:
            columns = [[m[k] for m in messages] for k in keys]
        except (KeyError, TypeError):
            objects = [m if isinstance(m, dict) else {} for m in messages]
            columns = [[m.get(k) for m in objects] for k in keys]
            self.complete = np.array([all(k in m for k in keys) for m in objects], dtype=bool)
        self._column = dict(zip(keys, columns, strict=True))

    def raw(self, key: str) -> list[Any]:
        """Return a field as it stands in the messages."""
        return self._column[key]

    def numbers(self, *keys: str) -> list[_Float]:
        """Return fields as floats; NaN where they are no finite numbers."""
        out = []
        for key in keys:
            values = self._column[key]
            try:
                column = np.array(list(map(float, values)), dtype=np.float64)
            except (TypeError, ValueError, OverflowError):
                column = np.array([_number(v) for v in values], dtype=np.float64)
            column[~np.isfinite(column)] = np.nan
            out.append(column)
        return out

    def integers(self, key: str) -> _Int:
        """Return a field as integers; −1 where it is none."""
        values = self._column[key]
        if set(map(type, values)) <= {int}:
            try:
                return np.array(values, dtype=np.int64)
            except OverflowError:
                pass
        good = [type(v) is int and 0 <= v < 2**63 for v in values]
        return np.array([v if ok else -1 for v, ok in zip(values, good, strict=True)], dtype=np.int64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def trade_columns(messages: Sequence[Any]) -> Columns:
    """Return the columns of trades: symbol, times, price, quantity, maker; id (``t``, or ``a`` of aggregates)."""
    identity = "a" if messages and isinstance(messages[0], dict) and "a" in messages[0] else "t"
    out = Columns(messages, (*_TRADE, identity))
    out._column["id"] = out._column[identity]
    return out


def repeated(ids: _Int, before: _Int) -> _Bool:
    """Return which ids occurred already, in this part or in ``before``."""
    again = np.ones(len(ids), dtype=bool)
    again[np.unique(ids, return_index=True)[1]] = False
    if len(before) and len(ids) and ids.min() <= before.max():
        again |= np.isin(ids, before)
    return again
