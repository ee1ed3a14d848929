"""What is left of a basket after some slices: its problem, with the impact that past trades left behind."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["UPDATABLE", "caught_up", "impact_states", "rest_of", "with_impact_states"]

UPDATABLE = (
    *("volume", "covariance", "spread", "temporary", "three_halves", "model", "risk_aversion", "urgency"),
    *("participation", "volume_sd", "volume_quantile", "sector_cap", "cash_band", "beta", "beta_band", "drift"),
    *("drift_half_life_s", "max_change", "blackouts", "must_finish", "factor_exposures", "factor_band", "extra_limits"),
)
"""Arguments of a problem that may be replaced while it is traded."""


def impact_states(problem: BasketProblem, done: FloatArray, over: int) -> FloatArray:
    """Return what the first ``over`` slices of trades (T, N) left in each mode (M, N), just after the last of them."""
    z = np.zeros((len(problem.modes), problem.n_names))
    dt = problem.arrays.dt_s
    for m, mode in enumerate(problem.modes):
        share = np.broadcast_to(np.asarray(mode.share, dtype=np.float64).reshape(-1), (problem.n_slices,))
        z[m] = mode.state
        for t in range(over):
            z[m] = np.exp(-mode.rate_per_s * dt[t]) * z[m] + share[t] * done[t]
    return z


def with_impact_states(problem: BasketProblem, states: FloatArray, gap_s: float) -> BasketProblem:
    """Return the basket with impact states (M, N) left by trades ``gap_s`` seconds before its first slice.

    Its ``replace`` carries the states on, so that prices of limits and what-ifs of the rest see them too.
    """
    twin = copy.copy(problem)
    twin.__dict__.pop("_program", None)
    dt = np.array(problem.arrays.dt_s)
    dt[0] = gap_s
    modes = tuple(replace(mode, state=z) for mode, z in zip(problem.modes, states, strict=True))
    for name, value in (
        ("arrays", replace(problem.arrays, dt_s=dt)),
        ("modes", modes),
        ("replace", partial(_replaced, problem, states, gap_s)),
    ):
        object.__setattr__(twin, name, value)
    return twin


def _replaced(problem: BasketProblem, states: FloatArray, gap_s: float, **changes: Any) -> BasketProblem:
    changed = problem.replace(**changes)
    fits = states.shape == (len(changed.modes), changed.n_names) and changed.times[0] == problem.times[0]
    if not fits or changed.names != problem.names:
        raise InvalidInput(
            "carries the impact of past trades, which another list of names, modes or slices does not have",
            field="problem",
            value=repr(changed),
            remedy="build a new problem",
        )
    return with_impact_states(changed, states, gap_s)


def rest_of(
    problem: BasketProblem, done: FloatArray, left: FloatArray, over: int, forecasts: Mapping[str, Any]
) -> BasketProblem:
    """Return the basket that is left after ``over`` slices.

    Parameters
    ----------
    problem
        The basket before the first slice.
    done
        What each slice traded (T, N) [currency].
    left
        What is still to trade (N,) [currency].
    over
        Number of slices that are over, below T.
    forecasts
        New arguments of the problem.

    Raises
    ------
    InvalidInput
        On malformed forecasts.
    """
    orders = len(problem.order_names)
    times = problem.times[over:]
    changes: dict[str, Any] = dict(forecasts) | {
        "times": times,
        "inventory": pd.Series(left[:orders], index=list(problem.order_names)),
        "auctions": tuple(a for a in problem.auctions if a.time >= times[0]),
    }
    if problem.hedges is not None:
        changes["hedges"] = pd.Series(-left[orders:], index=list(problem.names[orders:]))
    if over == 0:
        return problem.replace(**changes)
    if "drift" not in forecasts and isinstance(problem.drift, pd.Series) and problem.drift_half_life_s is not None:
        elapsed = (times[0] - problem.times[0]).total_seconds()
        changes["drift"] = problem.drift * 0.5 ** (elapsed / problem.drift_half_life_s)
    if changes.get("max_change", problem.max_change) is not None:
        changes["previous_trade"] = pd.Series(done[over - 1], index=list(problem.names))
    if "extra_limits" not in forecasts and problem.extra_limits:
        changes["extra_limits"] = tuple(_later(limit, problem, over, done) for limit in problem.extra_limits)
    elif "extra_limits" in forecasts:
        changes["extra_limits"] = tuple(forecasts["extra_limits"])
    deadlines = changes.get("must_finish", problem.must_finish)
    if isinstance(deadlines, pd.Series):
        changes["must_finish"] = _open_deadlines(deadlines, left, problem)
    rest = problem.replace(**changes)
    gap = (times[0] - problem.times[over - 1]).total_seconds()
    return with_impact_states(rest, impact_states(problem, done, over), gap)


def _open_deadlines(deadlines: pd.Series, left: FloatArray, problem: BasketProblem) -> pd.Series | None:
    """Return the deadlines of names that have something left; a name that is done has met its own."""
    done = {n for n, q, goal in zip(problem.names, left, problem.arrays.target, strict=True) if q == goal}
    kept = deadlines[[str(n) not in done for n in deadlines.index]]
    return None if kept.empty else kept


def _later(limit: Any, problem: BasketProblem, over: int, done: FloatArray) -> Any:
    """Return an extra limit on the slices that are left."""
    changes: dict[str, Any] = {}
    for entry in fields(limit):
        value = getattr(limit, entry.name)
        if entry.name in ("lower", "upper", "cap", "delta") and np.ndim(value) == 2 and len(value) == problem.n_slices:
            changes[entry.name] = np.asarray(value)[over:]
        elif entry.name == "previous":
            changes["previous"] = done[over - 1]
    return replace(limit, **changes)


def caught_up(rest: BasketProblem, plan: FloatArray, slack: FloatArray, beyond: bool = True) -> FloatArray:
    """Return a plan (T, N) changed as little as need be to trade what is left of each order.

    What is too much is scaled away by name. What is missing goes to the slices that trade, in proportion, as far as the
    boxes and group caps leave room, then to others with room; the rest of it, for which there is none, breaks a limit.

    Parameters
    ----------
    rest
        What is left of the basket.
    plan
        The plan as it was.
    slack
        Differences (N,) [currency] that are left as they are.
    beyond
        Whether what finds no room is traded all the same; otherwise it stays, and every trade keeps its box.
    """
    from crosswind.optim.limits import GroupCap, TradeLimit

    out = plan.copy()
    goal, hard = rest.arrays.inventory - rest.arrays.target, rest.arrays.hard
    low, high = np.full_like(out, -np.inf), np.full_like(out, np.inf)
    for limit in rest.limits:
        if isinstance(limit, TradeLimit):
            low, high = np.maximum(low, limit.lower), np.minimum(high, limit.upper)
    if not beyond:
        out = np.clip(out, low, high)
    caps = [limit for limit in rest.limits if isinstance(limit, GroupCap)]
    used = [np.abs(out) @ limit.membership.T for limit in caps]
    planned = out.sum(axis=0)
    for i in np.flatnonzero(hard & (np.abs(goal - planned) > slack)):
        before = np.abs(out[:, i])
        if planned[i] * goal[i] > 0.0 and abs(goal[i]) <= abs(planned[i]):
            out[:, i] *= goal[i] / planned[i]
        elif planned[i] * goal[i] < 0.0 or goal[i] == 0.0:
            out[:, i] = 0.0
        missing = float(goal[i] - out[:, i].sum())
        for _ in range(6):
            if abs(missing) <= slack[i]:
                break
            room = high[:, i] - out[:, i] if missing > 0.0 else out[:, i] - low[:, i]
            for limit, taken in zip(caps, used, strict=True):
                for g in np.flatnonzero(limit.membership[:, i]):
                    free = limit.cap[:, g] - taken[:, g] + limit.membership[g, i] * (before - np.abs(out[:, i]))
                    room = np.minimum(room, np.maximum(free, 0.0) / limit.membership[g, i])
            room = np.maximum(room, 0.0)
            weight = np.where(room > 0.0, np.abs(out[:, i]), 0.0)
            weight = weight if weight.any() else (room > 0.0).astype(np.float64)
            if not weight.any():
                break
            step = np.minimum(room, abs(missing) * weight / weight.sum())
            out[:, i] += np.sign(missing) * step
            missing -= float(np.sign(missing) * step.sum())
        if abs(missing) > slack[i] and beyond:
            out[:, i] += missing / len(out)
        for limit, taken in zip(caps, used, strict=True):
            taken += np.outer(np.abs(out[:, i]) - before, limit.membership[:, i])
    return out


# -- text ------------------------------------------------------------------------------------------------------------


def forecast_text(name: str, value: Any) -> Any:
    """Return a forecast as plain numbers and texts.

    Raises
    ------
    InvalidInput
        For objects that a journal cannot hold (models, extra limits): pass them again after a restart.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, pd.Series):
        return {"series": [_key(k) for k in value.index], "values": [_key(v) for v in value.tolist()]}
    if isinstance(value, pd.DataFrame):
        return {
            "frame": [_key(k) for k in value.index],
            "columns": [str(c) for c in value.columns],
            "values": value.to_numpy(dtype=np.float64).tolist(),
        }
    if type(value).__name__ == "ImpactModel":
        return {
            "impact": list(value.names),
            "rates": value.rates_per_s.tolist(),
            "matrices": value.matrices.tolist(),
            "family": value.family,
            "bucket_s": value.bucket_s,
        }
    raise InvalidInput(
        "cannot be written into a snapshot", field=name, value=type(value).__name__, remedy="use frames and Series"
    )


def _key(value: Any) -> Any:
    return {"time": value.isoformat()} if isinstance(value, pd.Timestamp) else value


def _unkey(values: list[Any]) -> list[Any]:
    return [pd.Timestamp(v["time"]) if isinstance(v, dict) else v for v in values]


def parse_forecast(value: Any) -> Any:
    """Return what :func:`forecast_text` wrote."""
    if not isinstance(value, dict):
        return value
    if "series" in value:
        return pd.Series(_unkey(value["values"]), index=_unkey(value["series"]))
    if "frame" in value:
        index = pd.Index(_unkey(value["frame"]))
        return pd.DataFrame(np.array(value["values"], dtype=np.float64), index=index, columns=value["columns"])
    from crosswind.problems.impact.model import ImpactModel

    return ImpactModel(
        tuple(value["impact"]),
        np.array(value["rates"]),
        np.array(value["matrices"]),
        value["family"],
        value["bucket_s"],
    )


def problem_digest(problem: BasketProblem) -> str:
    """Return SHA-256 (hex) of the numbers and names that a problem is made of; equal problems have equal digests."""
    hasher = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, np.ndarray):
            hasher.update(str((value.dtype.str, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
        elif is_dataclass(value) and not isinstance(value, type):
            hasher.update(type(value).__name__.encode())
            for entry in fields(value):
                take(getattr(value, entry.name))
        elif isinstance(value, tuple | list):
            for item in value:
                take(item)
        else:
            hasher.update(repr(value).encode())

    take(problem.names)
    take(problem.times.asi8)
    take(problem.slice_s)
    take(problem.risk_aversion)
    take(problem.arrays)
    take(problem.modes)
    take(problem.limits)
    return hasher.hexdigest()
