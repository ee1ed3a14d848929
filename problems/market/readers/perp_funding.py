"""Funding at its settlements, out of hourly tables in which it is repeated and of tables stamped a little late."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "FundingRules",
    "check_rate_unit",
    "far_from_all",
    "hourly_settlements",
    "listed_settlements",
    "settlement_interval_h",
]

_HOUR_NS = 3_600_000_000_000
_INTERVALS_H = (24, 12, 8, 6, 4, 3, 2, 1)
_ON_SCHEDULE = 0.99  # share of changes that must fall on the schedule
_UNIT_LIMIT = 0.003  # a median of 0.3 % per settlement is 330 % a year: a percentage, no fraction of the notional


class FundingRules(NamedTuple):
    """How funding is read: limit of a rate, days after which it counts as frozen, interval, snapping, outliers."""

    limit: float
    frozen_days: float
    interval_h: int | None
    snap_s: float
    drop: bool


def far_from_all(stamps: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which of the sorted stamps (L,) lie more than 30 days from all others: the clock jumped for them."""
    if len(stamps) < 3:
        return np.zeros(len(stamps), dtype=bool)
    steps = np.diff(stamps) > 30 * 24 * _HOUR_NS
    far: npt.NDArray[np.bool_] = np.append(True, steps) & np.append(steps, True)
    return far


def check_rate_unit(name: str, rates: pd.Series[Any]) -> None:
    """Refuse rates whose median size is that of percentages or annual rates.

    Raises
    ------
    InvalidInput
        If the median of |rate| exceeds 0.003 per settlement.
    """
    typical = float(rates.abs().median()) if len(rates) else 0.0
    if typical > _UNIT_LIMIT:
        raise InvalidInput(
            "the median rate exceeds 0.3 % per settlement: these are percentages or annual rates",
            field=f"funding of {name}",
            value=typical,
            remedy="divide percentages by 100, annual rates by the settlements of a year",
        )


def settlement_interval_h(changes: pd.DatetimeIndex, name: str) -> int:
    """Return the longest interval [h] on whose multiples, counted from 00 UTC, at least 99 % of the changes fall.

    Raises
    ------
    InvalidInput
        If there are fewer than 10 changes to tell it from.
    """
    if len(changes) < 10:
        raise InvalidInput(
            f"the rate changes only {len(changes)} times: the interval of settlements cannot be told",
            field=f"funding of {name}",
            value=len(changes),
            remedy="say interval_h=8, or what the venue's contract says",
        )
    hours = changes.hour.to_numpy()
    return next(h for h in _INTERVALS_H if (hours % h == 0).mean() >= _ON_SCHEDULE)


def hourly_settlements(
    coin: str,
    venue: str,
    table: pd.DataFrame,
    basis: pd.Series[Any],
    rules: FundingRules,
    file: Path,
    report: ReadReport,
    notes: list[str],
) -> pd.Series[Any]:
    """Return the rates at the settlements of an hourly table in which each is repeated until the next.

    Parameters
    ----------
    coin, venue
        For messages and the report.
    table
        Hours (UTC, strictly increasing, stamped at the start) × columns, with ``funding_rate_raw`` and perhaps
        ``funding_rate_1h``.
    basis
        (perp − spot)/spot on the same hours; NaN where one is missing.
    rules, file, report, notes
        See :class:`FundingRules`; what is not used is counted in ``report``, what is odd but used told in ``notes``.

    Returns
    -------
    Series
        Settlement (UTC) → rate [fraction of the notional].

    Raises
    ------
    InvalidInput
        If the interval is unknown and cannot be told from the changes, or does not divide the day.
    """
    raw = table["funding_rate_raw"].astype(np.float64)
    report.bad(file, "no funding rate in the row", int(raw.isna().sum()), _first(raw.isna()))
    raw = raw.dropna()
    if not len(raw):
        return raw
    check_rate_unit(coin, raw)
    index = pd.DatetimeIndex(raw.index)
    changed = raw.ne(raw.shift()).to_numpy(copy=True)
    changed[0] = False
    hours = rules.interval_h or settlement_interval_h(index[changed], coin)
    if hours not in _INTERVALS_H:
        raise InvalidInput(
            "does not divide the day", field="interval_h", value=hours, remedy=f"choose among {_INTERVALS_H}"
        )
    facts = report.instrument(
        coin,
        venue,
        "funding",
        clock="settlement in UTC",
        stamp="event",
        rate_unit="fraction of the notional per settlement; above zero: longs pay shorts",
        funding_interval=f"{hours} h",
    )
    facts.gap_limit_s = hours * 3600.0
    at = index.hour.to_numpy() % hours == 0
    off = changed & ~at
    # Rows between settlements repeat the rate and are no charges of their own; those that differ are told.
    held = raw.where(at).ffill()
    differs = held.notna() & (held != raw)
    report.bad(file, "rate changed between settlements", int(differs.sum()), _first(differs))
    if "funding_rate_1h" in table:
        per_hour = table["funding_rate_1h"].reindex(raw.index)
        apart = (per_hour * hours - raw).abs() > 1e-9 * raw.abs().clip(lower=1e-9)
        report.bad(file, "the two columns of funding disagree", int((apart & at).sum()), _first(apart))
        at = at & ~apart.to_numpy()
    facts.facts["repeated_rows"] = f"{int((~at).sum()):,} rows between settlements, {int(off.sum())} changes in them"
    rates = raw[at]
    rates = _thaw(rates, rules.frozen_days * 24 / hours, file, report)
    return _extremes(coin, rates, basis, rules, file, report, notes)


def _first(mask: pd.Series[Any]) -> object:
    return mask.index[int(np.argmax(mask.to_numpy()))] if len(mask) else ""


def _thaw(rates: pd.Series[Any], longest: float, file: Path, report: ReadReport) -> pd.Series[Any]:
    """Drop all but the first of runs of equal rates that are longer than ``longest`` settlements."""
    run = rates.ne(rates.shift()).cumsum()
    place, size = rates.groupby(run).cumcount(), rates.groupby(run).transform("size")
    frozen = (size > longest) & (place > 0)
    report.bad(file, "funding filled forward over a hole", int(frozen.sum()), _first(frozen))
    return rates[~frozen]


def _extremes(
    coin: str,
    rates: pd.Series[Any],
    basis: pd.Series[Any],
    rules: FundingRules,
    file: Path,
    report: ReadReport,
    notes: list[str],
) -> pd.Series[Any]:
    """Drop extreme rates that no basis of the day before supports; tell those that one does."""
    far = rates[rates.abs() > rules.limit]
    supported: list[pd.Timestamp] = []
    alone: list[pd.Timestamp] = []
    for when, rate in zip(pd.DatetimeIndex(far.index), far.to_numpy(), strict=True):
        before = basis[(basis.index >= when - pd.Timedelta(hours=24)) & (basis.index < when)]
        (supported if (np.sign(rate) * before >= abs(rate)).any() else alone).append(when)
    if supported:
        notes.append(
            f"{coin}: {len(supported)} rates beyond ±{rules.limit:g} that the basis supports are kept, "
            f"the largest {far[supported].abs().max():g}"
        )
    if alone:
        what = "outlier: extreme funding without a basis to match" + ("" if rules.drop else " (kept)")
        report.bad(file, what, len(alone), alone[0])
    return rates.drop(alone) if rules.drop else rates


def listed_settlements(
    name: str,
    clock: pd.DatetimeIndex,
    rates: pd.Series[Any],
    rules: FundingRules,
    file: Path,
    report: ReadReport,
) -> pd.Series[Any]:
    """Return the rates of a table with one row per settlement, its stamps set to their full hours.

    Parameters
    ----------
    name
        The contract.
    clock
        Stamps (UTC), in the file's order.
    rates
        Rates in the same order [fraction of the notional].
    rules, file, report
        See :func:`hourly_settlements`.

    Returns
    -------
    Series
        Settlement (UTC) → rate.
    """
    check_rate_unit(name, rates)
    series = pd.Series(rates.to_numpy(dtype=np.float64), index=clock).sort_index(kind="stable")
    disorder = int((np.diff(clock.asi8) < 0).sum())
    stamps = pd.DatetimeIndex(series.index).asi8
    hour = (stamps + _HOUR_NS // 2) // _HOUR_NS * _HOUR_NS
    off_ns = np.abs(stamps - hour)
    checks = (
        (~far_from_all(stamps), "clock jump: over 30 days from all other rows"),
        (off_ns <= rules.snap_s * 1e9, "settlement off the full hour"),
        (np.isfinite(series.to_numpy()), "no funding rate in the row"),
        (~pd.Index(hour).duplicated(), "repeated settlement"),
        ((series.abs() <= rules.limit).to_numpy() | ~np.isfinite(series.to_numpy()), "outlier: extreme funding"),
    )
    keep = np.ones(len(series), dtype=bool)
    for good, reason in checks:
        bad = keep & ~good
        tolerated = reason.startswith("outlier") and not rules.drop
        if bad.any():
            report.bad(
                file, f"{reason} (kept)" if tolerated else reason, int(bad.sum()), series.index[int(np.argmax(bad))]
            )
        keep &= good | tolerated
    index = pd.DatetimeIndex(hour[keep], tz="UTC").as_unit("ns")
    steps = pd.Series(np.diff(index.asi8) // _HOUR_NS).value_counts()
    late = off_ns[keep & (off_ns > 0)]
    report.instrument(
        name,
        file.parent.name.removesuffix("_funding"),
        "funding",
        clock="settlement in UTC",
        stamp="event",
        rate_unit="fraction of the notional per settlement; above zero: longs pay shorts",
        funding_interval=", ".join(f"{h} h ({n:,} times)" for h, n in steps.items()),
        snapped=f"{len(late):,} stamps off by up to {late.max(initial=0) / 1e6:g} ms, set to their hour",
        **({"sorted": f"{disorder} stamps out of order"} if disorder else {}),
    )
    return pd.Series(series.to_numpy()[keep], index=index)
