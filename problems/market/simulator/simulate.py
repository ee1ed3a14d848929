"""The market simulator: prices, flow and an index future from a truth that is handed out with the data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.model import MarketData, MarketEvents, SimulatedTruth
from crosswind.problems.market.simulator.flow import draw_flow
from crosswind.problems.market.simulator.future import ROOT, FutureDay, bar_buckets, draw_future, join_quotes
from crosswind.problems.market.simulator.kernel import Kernel, calibrate
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.prices import draw_prices, overnight_returns
from crosswind.problems.market.simulator.sessions import bucket_count, business_days, session_ends
from crosswind.problems.market.simulator.universe import Universe, draw_universe

__all__ = ["simulate"]


def simulate(
    names: int | Sequence[str] = 8,
    sectors: int | Sequence[str] = 2,
    days: int = 3,
    bucket_s: float = 10.0,
    seed: int = 0,
    start: str | dt.date = "2024-03-04",
    tz: str = "America/New_York",
    holidays: Iterable[str | dt.date] = (),
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
        Number of names, or the names.
    sectors
        Number of sectors, or the label of each name.
    days
        Number of sessions, on business days.
    bucket_s
        Bucket length [s]; it divides the session.
    seed
        Integer of 0 or more.
    start
        First session; a weekend or holiday moves to the next business day.
    tz
        Exchange zone. The session keeps its local hours through clock changes.
    holidays
        Weekdays without a session.
    **parameters
        Any field of :class:`~crosswind.problems.market.simulator.parameters.SimulatorParameters`, e.g.
        ``impact_r2=0.2``, ``market_vol_daily=0.01``.

    Returns
    -------
    MarketData
        ``events`` (bucket ends in UTC), ``futures["SIM"]`` (quotes at the end of bars, two expiries a day) and
        ``truth``. ``truth.betas`` are betas to the index; ``truth.covariance`` is that of bucket returns per second,
        the impact of flow included. ``truth.parameters`` holds the arguments of this call, every simulator parameter
        and, as plain lists: ``factors`` and ``loadings`` (N × F), ``names_idio_vol_daily`` and ``names_adv`` (N),
        ``index_weights`` and ``index_shares`` (N) and ``fundamental_covariance_per_s`` (N × N, without impact).

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
    settings = SimulatorParameters.from_mapping(parameters)
    closed = tuple(holidays)
    dates = business_days(start, days, closed)
    count = bucket_count(settings.session_s, bucket_s)
    ends = [session_ends(day, settings.open_s, bucket_s, count, tz) for day in dates]
    universe = draw_universe(names, sectors, settings, seed)
    kernel = calibrate(universe, settings, bucket_s, count, seed)
    shares = universe.weights * settings.index_level / universe.price
    per_bar = bar_buckets(settings, bucket_s, count)

    blocks: dict[str, list[np.ndarray[Any, Any]]] = {
        field: [] for field in ("flow", "mid", "spread", "volume", "depth", "factors")
    }
    quotes: list[FutureDay] = []
    opening = universe.price
    transient = kernel.rates_per_s > 0.0
    for number, day in enumerate(dates):
        flow = draw_flow(universe, settings, bucket_s, count, seed, number)
        if number:
            opening = opening * (1.0 + overnight_returns(universe, settings, seed, number))
        prices = draw_prices(universe, kernel, settings, flow, opening, bucket_s, seed, number)
        for field in ("flow", "volume"):
            blocks[field].append(getattr(flow, field))
        for field in ("mid", "spread", "depth", "factors"):
            blocks[field].append(getattr(prices, field))
        at = slice(per_bar - 1, None, per_bar)
        quotes.append(
            draw_future(
                prices.mid[at] @ shares,
                ends[number][at],
                prices.relative_vol[at],
                per_bar * bucket_s,
                day,
                settings,
                seed,
                number,
            )
        )
        # What is left of the transient impact at the close decays overnight: the gap takes it back.
        age_s = bucket_s * np.arange(count - 1, -1, -1.0)
        left = np.zeros_like(opening)
        for rate, matrix in zip(kernel.rates_per_s[transient], kernel.matrices[transient], strict=True):
            left += matrix @ (np.exp(-rate * age_s) @ flow.flow)
        opening = prices.mid[-1] * (1.0 - left)

    index = pd.DatetimeIndex(np.concatenate([stamps.asi8 for stamps in ends]), tz="UTC").as_unit("ns")

    def frame(field: str, columns: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame(np.concatenate(blocks[field]), index=index, columns=list(columns))

    events = MarketEvents(
        **{field: frame(field, universe.names) for field in ("flow", "mid", "spread", "volume", "depth")},
        bucket_s=float(bucket_s),
        tz=tz,
        currency="USD",
        factors=frame("factors", universe.factor_names) if settings.with_factors else None,
    )
    call = {
        "names": list(universe.names),
        "sectors": [universe.sector_labels[code] for code in universe.sector_codes],
        "days": len(dates),
        "bucket_s": float(bucket_s),
        "start": dates[0].isoformat(),
        "tz": tz,
        "holidays": [str(day) for day in closed],
    }
    return MarketData(
        buckets=events,
        futures={ROOT: join_quotes(quotes, per_bar * bucket_s, settings)},
        truth=_truth(universe, kernel, settings, shares, call, seed, events.flow.columns),
        source=_source(len(universe.names), len(universe.sector_labels), call, seed, parameters),
        notes=("simulated: every price, flow and quote is drawn from .truth",),
    )


def _truth(
    universe: Universe,
    kernel: Kernel,
    settings: SimulatorParameters,
    shares: np.ndarray[Any, Any],
    call: dict[str, Any],
    seed: int,
    index: pd.Index[Any],
) -> SimulatedTruth:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.to_dict().items()}
    return SimulatedTruth(
        rates_per_s=kernel.rates_per_s,
        matrices=kernel.matrices,
        sectors=pd.Series(call["sectors"], index=index, name="sector", dtype=object),
        betas=pd.Series(kernel.betas, index=index, name="beta"),
        covariance=kernel.covariance,
        seed=int(seed),
        parameters={
            **call,
            **plain,
            "factors": list(universe.factor_names),
            "loadings": universe.loadings.tolist(),
            # The parameter of this name is the typical one; the names' own values stand under names_.
            "names_idio_vol_daily": universe.idio_vol_daily.tolist(),
            "names_adv": universe.adv.tolist(),
            "index_weights": universe.weights.tolist(),
            "index_shares": shares.tolist(),
            "fundamental_covariance_per_s": kernel.fundamental.tolist(),
        },
    )


def _source(names: int, sectors: int, call: dict[str, Any], seed: int, parameters: dict[str, Any]) -> str:
    values = {"names": names, "sectors": sectors, "days": call["days"], "bucket_s": f"{call['bucket_s']:g}"}
    values |= {"seed": seed, "start": call["start"]}
    if call["tz"] != "America/New_York":
        values["tz"] = call["tz"]
    values |= parameters
    return "sim:" + ",".join(f"{name}={value}" for name, value in values.items())
