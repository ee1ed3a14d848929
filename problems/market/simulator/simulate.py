"""The market simulator: prices, flow and an index future from a truth that is handed out with the data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.engine import draw_world
from crosswind.problems.market.simulator.universe import resolve_names
from crosswind.problems.market.simulator.worlds import MECHANISMS, PARTS, World
from crosswind.solvers.errors import InvalidInput

__all__ = ["simulate"]

_UNSAID = "…"
_PLAIN = World("plain", 1, "the simulator's own defaults")


def simulate(
    names: int | Sequence[str] | None = None,
    sectors: int | Sequence[str] | None = None,
    days: int = 3,
    bucket_s: float | None = None,
    seed: int = 0,
    start: str | dt.date | None = None,
    tz: str | None = None,
    holidays: Iterable[str | dt.date] | None = None,
    *,
    world: str | World | None = None,
    calendar: str | None = None,
    impact: float = 1.0,
    volatility: float = 1.0,
    latency: float = 1.0,
    **parameters: Any,
) -> MarketData:
    """Simulate correlated names with flow, transient cross-impact and an index future.

    Returns of bucket t in a session are ``r_t = L f_t + Σ_τ≤t (G_{t-τ} - G_{t-τ-1}) u_τ + ε_t`` with
    ``G_h = Σ_m K_m exp(-β_m h Δ)``, ``K_m`` symmetric positive semidefinite, ``G_{-1} = 0``: market and sector
    factors ``f``, price impact of the signed flow ``u``, idiosyncratic noise ``ε``. The kernel is completely monotone,
    so no round trip pays. Flow is persistent, has common components and is independent of ``f`` and ``ε`` unless
    ``flow_factor_corr`` says otherwise.

    Every part of the market draws from its own stream, each day from a child of it: the same call gives the same
    bytes, changing one parameter does not reshuffle the other parts, and a longer simulation begins with the shorter.

    Parameters
    ----------
    names
        Number of names, or the names; default the world's, else 8.
    sectors
        Number of sectors, or the label of each name; default the world's, else 2.
    days
        Number of sessions, on business days.
    bucket_s
        Bucket length [s]; it divides the session. Default the world's, else 10.
    seed
        Integer of 0 or more.
    start
        First session; a weekend or holiday moves to the next business day. Default the world's, else 2024-03-04.
    tz
        Exchange zone; default the world's, else New York. The session keeps its local hours through clock changes.
    holidays
        Weekdays without a session.
    world
        A declared world, ``"stress"`` or ``"stress@1"``, or one of your own; None for the plain market. What else is
        passed overrides it and makes a modified world, with a key and a digest of its own in the truth.
    calendar
        A calendar such as ``"XNYS"``, whose days, opens and early closes take the place of business days and of the
        parameters' hours; ``"24/7"`` trades on every day.
    impact, volatility, latency
        Factors of a variant of the world, see :meth:`~crosswind.problems.market.simulator.worlds.World.scaled`.
    **parameters
        Any field of :class:`~crosswind.problems.market.simulator.parameters.SimulatorParameters`, e.g.
        ``impact_r2=0.2``, ``market_vol_daily=0.01``; with a world also its mechanisms and parts as records, or None
        to switch one off: ``jumps=None``.

    Returns
    -------
    MarketData
        ``events`` (bucket ends in UTC), ``futures["SIM"]`` (quotes at the end of bars, two expiries a day) and
        ``truth``. ``truth.betas`` are betas to the index; ``truth.covariance`` is that of bucket returns per second,
        the impact of flow included. ``truth.parameters`` holds the arguments of this call, every simulator parameter
        and, as plain lists: ``factors`` and ``loadings`` (N × F), ``names_idio_vol_daily`` and ``names_adv`` (N),
        ``index_weights`` and ``index_shares`` (N) and ``fundamental_covariance_per_s`` (N × N, without impact).
        A world adds its key, digest and numbers, and what happened: ``regime_path``, ``jumps``, ``basis_jumps``,
        ``break_windows``, with ``covariance_by_regime``, ``covariance_in_break``, ``betas_in_break`` and
        ``power_law``. It may bring ``spreads``, ``funding``, ``desk`` and further ``futures`` too.

    Raises
    ------
    InvalidInput
        Naming the argument or the parameter at fault.

    Examples
    --------
    >>> market = simulate(names=4, days=1, bucket_s=60.0, seed=7)
    >>> market.events.flow.shape
    (390, 4)
    """
    asked: dict[str, Any] = {
        "names": names,
        "sectors": sectors,
        "bucket_s": bucket_s,
        "start": start,
        "tz": tz,
        "holidays": None if holidays is None else tuple(holidays),
        "calendar": calendar,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    factors = {"impact": impact, "volatility": volatility, "latency": latency}
    off = {name: value for name, value in factors.items() if value != 1.0}
    if world is None:
        for name, value in off.items():
            raise InvalidInput(
                "scales a world, and there is none",
                field=name,
                value=value,
                remedy='name one, e.g. world="calm", or pass the parameter itself',
            )
        for name in sorted(set(parameters) & {*MECHANISMS, *PARTS}):
            raise InvalidInput(
                "belongs to a world, and there is none",
                field=name,
                value=parameters[name],
                remedy='name one, e.g. world="calm"',
            )
        market = draw_world(_PLAIN.changed(**asked, **parameters), days, seed, declared=False)
        return replace(market, source=_source(market, seed, parameters))
    base = _found(world)
    market = draw_world(base.changed(**asked, **parameters).scaled(**factors), days, seed, declared=True)
    named = {"world": base.key, **{name: f"{value:g}" for name, value in off.items()}}
    return replace(market, source=_source(market, seed, parameters, named))


def _found(name: str | World) -> World:
    if isinstance(name, World):
        return name
    from crosswind.problems.market.simulator.worlds_table import world

    return world(name)


def _source(market: MarketData, seed: int, parameters: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """Return the spec that draws this market again; what a text cannot say stands as ``…``, which is refused."""
    truth = market.truth
    call = truth.parameters if truth is not None else {}
    values = dict(before or {})
    count, groups = len(call["names"]), len(set(call["sectors"]))
    usual, labels, codes = resolve_names(count, groups)
    values["names"] = count if list(usual) == call["names"] else _UNSAID
    values["sectors"] = groups if [labels[code] for code in codes] == call["sectors"] else _UNSAID
    values["days"] = call["days"]
    values |= {"bucket_s": f"{call['bucket_s']:g}", "seed": seed, "start": call["start"]}
    if call["tz"] != "America/New_York":
        values["tz"] = call["tz"]
    if "calendar" in call:
        values["calendar"] = call["calendar"]
    if call["holidays"]:
        values["holidays"] = _UNSAID
    said = (str, Real, type(None))
    values |= {name: value if isinstance(value, said) else _UNSAID for name, value in parameters.items()}
    return "sim:" + ",".join(f"{name}={value}" for name, value in values.items())
