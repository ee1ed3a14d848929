"""Records, snapshots and replays of a controller: plain data that JSON holds to the last bit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.hedge.controller.messages import HedgeDecision, HedgeObservation, OrderReport
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.controller.control import HedgeController

__all__ = ["canonical", "decode_observation", "decode_state", "encode_state", "record_of", "replay_journal"]

_VERSION = 1
_ARRAYS = ("plan", "liquidity", "linear")
_ODD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _plain(value: Any) -> Any:
    """Return plain data; what JSON has no number for is written as a word."""
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(float(value))
    if value is None or isinstance(value, (bool, int, str)):
        return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(value, dict):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {"unknown": type(value).__name__}


def _number(value: Any) -> Any:
    if isinstance(value, str) and value in _ODD:
        return _ODD[value]
    if isinstance(value, list):
        return [_number(v) for v in value]
    return value


def canonical(value: Any) -> str:
    """Return plain data as JSON with sorted names: equal data are equal strings."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_of(seen: HedgeObservation, decision: HedgeDecision) -> dict[str, Any]:
    """Return a step's record: the observation and the decision."""
    observation = seen._asdict() if isinstance(seen, HedgeObservation) else {"unknown": type(seen).__name__}
    return {"observation": _plain(observation), "decision": _plain(decision.to_dict())}


def decode_observation(record: dict[str, Any]) -> HedgeObservation:
    """Return the observation of a record.

    Raises
    ------
    InvalidInput
        When it holds none.
    """
    body = dict(record.get("observation", {}))
    if set(body) != set(HedgeObservation._fields):
        raise InvalidInput("holds no observation", field="record", value=sorted(body), remedy="give a step's record")
    for name, value in body.items():
        value = _number(value)
        if name in _ARRAYS:
            body[name] = None if value is None else np.array(value, dtype=np.float64)
        elif name == "reports":
            body[name] = tuple(OrderReport(*report) for report in value)
        elif name in ("funding", "bounds") and value is not None:
            body[name] = tuple(tuple(row) for row in value)
        else:
            body[name] = tuple(value) if isinstance(value, list) else value
    return HedgeObservation(**body)


def replay_journal(controller: HedgeController, records: Iterable[dict[str, Any]]) -> Iterator[HedgeDecision]:
    """Give a journal's observations to a controller and yield its decisions.

    Parameters
    ----------
    controller
        New, or restored to where the journal begins. The watchdog's verdicts are the journal's.
    records
        Of :func:`record_of`, as they were or read back from JSON.

    Raises
    ------
    InvalidInput
        For a record without an observation.
    """
    for record in records:
        controller._forced_late = bool(record["decision"]["late"])
        try:
            yield controller.step(decode_observation(record))
        finally:
            controller._forced_late = None


def encode_state(c: HedgeController) -> dict[str, Any]:
    """Return a controller's state as plain data."""
    state: dict[str, Any] = _plain(
        {
            "version": _VERSION,
            "setup": c.setup.fingerprint(),
            "book": c._book.save(),
            "carry": c._carry,
            "quotes": c._quotes.save(),
            "sent": [c._check.before, c._check.sent, c._check.gross],
            "displaced": c._displaced.save(),
            "path": c._path.rows(),
            "clock": c._clock.save(),
            "times": c._check.times,
            "latches": [latch.save() for latch in _latches(c)],
            "sequence": c._sequence,
            "program": c._program.save(),
        }
    )
    return state


def _latches(c: HedgeController) -> tuple[Any, ...]:
    return c._program_latch, c._fallback.latch, c._data_latch


def decode_state(c: HedgeController, saved: dict[str, Any]) -> None:
    """Put a state into a controller; InvalidInput, and nothing changed, where it does not fit."""
    remedy = "give what snapshot() of the same set-up and engine returned"
    try:
        if saved["version"] != _VERSION or saved["setup"] != c.setup.fingerprint():
            raise InvalidInput("is of another set-up or version", field="saved", value=saved["version"], remedy=remedy)
        before = encode_state(c)
    except (KeyError, TypeError):
        raise InvalidInput("is no snapshot", field="saved", value=type(saved).__name__, remedy=remedy) from None
    try:
        _put(c, saved)
    except (KeyError, TypeError, ValueError, IndexError, InvalidInput) as err:
        _put(c, before)
        raise InvalidInput("is damaged", field="saved", value=str(err), remedy=remedy) from err


def _put(c: HedgeController, saved: dict[str, Any]) -> None:
    c._program.restore(saved["program"])
    c._book.restore({name: _number(value) for name, value in saved["book"].items()})
    c._carry = [float(v) for v in _number(saved["carry"])]
    c._quotes.restore(_number(saved["quotes"]))
    check = c._check
    check.before, check.sent, check.gross = ([int(n) for n in lots] for lots in saved["sent"])
    check.times = [float(t) for t in _number(saved["times"])]
    c._displaced.restore(_number(saved["displaced"]))
    path = saved["path"]
    c._path.restore(_number(path))
    c._clock.restore(_number(saved["clock"]))
    c._sequence = int(saved["sequence"])
    for latch, state in zip(_latches(c), saved["latches"], strict=True):
        latch.restore(state)
    c._decision, c._solved = None, False
