"""What a reader understood of a source, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.read import read
from crosswind.problems.market.readers.formats import find_format
from crosswind.problems.market.report import InstrumentFacts, ReadReport
from crosswind.problems.market.ticks import Progress

__all__ = ["Description", "describe"]

_FILES_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Description:
    """What was understood of a source: files, instruments, spans, gaps, clock, units, signs, bad rows, buckets.

    Parameters
    ----------
    spec
        What was read.
    format
        What kind of source that is.
    market
        What came out.
    """

    spec: str
    format: str
    market: MarketData

    @property
    def report(self) -> ReadReport:
        """What the reader noted; empty for simulated and stored data."""
        return self.market.report or ReadReport()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per instrument: venue, kind, rows by kind, span (UTC), gaps, and the facts as text."""
        return self.report.to_frame()

    def bad_frame(self) -> pd.DataFrame:
        """Return one row per file and reason: ``file, reason, rows, example``."""
        return self.report.bad_frame()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, text, lists and dicts."""
        report = self.report
        return {
            "spec": self.spec,
            "format": self.format,
            "files": [{"path": path, "bytes": size} for path, size in report.files.items()],
            "instruments": {name: _instrument(one) for name, one in report.instruments.items()},
            "buckets": _buckets(self.market),
            "futures": {root: list(q.expiries) for root, q in self.market.futures.items()},
            "bars": {name: _span(bars.frame.index) for name, bars in self.market.bars.items()},
            "funding": {name: _span(rates.rates.index) for name, rates in self.market.funding.items()},
            "spreads": sorted(self.market.spreads),
            "desk_orders": 0 if self.market.desk is None else len(self.market.desk.orders),
            "simulated": self.market.truth is not None,
            "bad_rows": report.bad_frame().to_dict(orient="records"),
            "notes": list(self.market.notes),
        }

    def summary(self) -> str:
        """Return the description as text of a terminal's width."""
        report = self.report
        lines = [f"{self.spec}: {self.format}"]
        lines += _files(report)
        if report.instruments:
            lines += ["", "instruments", *_table(list(report.instruments.values()))]
            lines += ["", *_facts(list(report.instruments.values()))]
        lines += ["", *_content(self.market)]
        bad = report.bad_frame()
        if len(bad):
            lines += ["", f"not used: {report.bad_rows:,} rows"]
            grouped = bad.groupby("reason", sort=False)
            totals = grouped["rows"].sum().sort_values(ascending=False)
            for reason, count in totals.items():
                example = next((e for e in grouped.get_group(reason)["example"] if e), "")
                lines.append(f"  {count:>10,}  {reason}" + (f"   e.g. {example[:60]}" if example else ""))
        else:
            lines += ["", "not used: no row"] if report.instruments else []
        lines += [f"note: {note}" for note in self.market.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.summary())}</pre>"


def describe(
    spec: str,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Description:
    """Read a source and tell what was understood of it.

    Parameters
    ----------
    spec, names, days, bucket_s, progress, **options
        As for :func:`~crosswind.problems.market.read.read`.

    Returns
    -------
    Description
        ``print`` it, or take ``.to_frame()``, ``.bad_frame()``, ``.to_dict()``; ``.market`` is the data itself.

    Raises
    ------
    InvalidInput, DataGap, MissingDependency
        As ``read``: what cannot be read is not described either.
    """
    format, _ = find_format(spec)
    market = read(spec, names, days, bucket_s, progress, **options)
    return Description(spec, format.title, market)


def _stamp(ns: int | None) -> pd.Timestamp | None:
    return None if ns is None else pd.Timestamp(ns, unit="ns", tz="UTC")


def _instrument(one: InstrumentFacts) -> dict[str, Any]:
    first, last = _stamp(one.first_ns), _stamp(one.last_ns)
    return {
        "venue": one.venue,
        "kind": one.kind,
        "rows": dict(one.rows),
        "first": None if first is None else first.isoformat(),
        "last": None if last is None else last.isoformat(),
        "gaps": one.gaps,
        "longest_gap_s": one.longest_gap_s,
        "gap_limit_s": one.gap_limit_s,
        **one.facts,
    }


def _span(index: pd.Index) -> dict[str, Any]:
    edges = {"first": str(index[0]), "last": str(index[-1])} if len(index) else {}
    return {"rows": len(index), **edges}


def _buckets(market: MarketData) -> dict[str, Any] | None:
    events = market.buckets
    if events is None:
        return None
    return {
        "names": list(events.names),
        "days": [str(d) for d in events.days],
        "count": len(events.index),
        "bucket_s": events.bucket_s,
        "stamp": "end",
        "tz": events.tz,
        "currency": events.currency,
        **{k: v for k, v in _span(events.index).items() if k != "rows"},
        "volume": {n: float(v) for n, v in events.volume.sum().items()},
        "signed_share": {n: float(v) for n, v in _signed_share(events.flow, events.volume).items()},
    }


def _signed_share(flow: pd.DataFrame, volume: pd.DataFrame) -> Mapping[str, float]:
    """Return Σ|flow| / Σ volume by name: near 0 all flow nets out within buckets, near 1 none does."""
    total = volume.sum()
    share = flow.abs().sum() / total.where(total > 0, np.nan)
    return {str(k): float(v) for k, v in share.fillna(0.0).items()}


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _files(report: ReadReport) -> list[str]:
    if not report.files:
        return []
    lines = [f"{len(report.files)} file{'s' * (len(report.files) > 1)}, {_size(sum(report.files.values()))}"]
    largest = sorted(report.files.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"  {_size(size):>9}  {_short(path)}" for path, size in largest[:_FILES_SHOWN]]
    more = len(largest) - _FILES_SHOWN
    return lines + ([f"  and {more} smaller one{'s' * (more > 1)}"] if more > 0 else [])


def _short(path: str, width: int = 70) -> str:
    return path if len(path) <= width else "…" + path[1 - width :]


def _when(ns: int | None) -> str:
    stamp = _stamp(ns)
    return "" if stamp is None else f"{stamp:%Y-%m-%d %H:%M:%S}"


def _table(instruments: Sequence[InstrumentFacts]) -> list[str]:
    head = ("name", "venue", "rows", "first (UTC)", "last (UTC)", "gaps")
    rows = [head]
    for one in instruments:
        counted = ", ".join(f"{count:,} {kind}" for kind, count in one.rows.items() if count) or "none"
        gaps = f"{one.gaps} > {one.gap_limit_s:g} s, longest {one.longest_gap_s:,.0f} s" if one.gaps else "none"
        rows.append((one.name, one.venue, counted, _when(one.first_ns), _when(one.last_ns), gaps))
    widths = [max(len(r[k]) for r in rows) for k in range(len(head))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts(instruments: Sequence[InstrumentFacts]) -> list[str]:
    """Return facts line by line; what all instruments share is told once."""
    keys = list(dict.fromkeys(k for one in instruments for k in one.facts))
    lines = []
    for key in keys:
        by_value: dict[str, list[str]] = {}
        for one in instruments:
            if key in one.facts:
                by_value.setdefault(one.facts[key], []).append(one.name)
        label = key.replace("_", " ")
        for value, names in by_value.items():
            everyone = len(names) == len(instruments)
            who = "" if everyone else f" ({', '.join(names[:6])}{', …' * (len(names) > 6)})"
            lines.append(f"  {label}: {value}{who}")
    return lines


def _content(market: MarketData) -> list[str]:
    lines = []
    if market.buckets is not None:
        events = market.buckets
        local = events.index.tz_convert(events.tz)
        lines.append(
            f"buckets: {len(events.index):,} of {events.bucket_s:g} s, stamped at their end, {events.currency}"
        )
        lines.append(f"  {local[0]:%Y-%m-%d %H:%M:%S} .. {local[-1]:%Y-%m-%d %H:%M:%S} {events.tz}")
        days = [str(d) for d in events.days]
        lines.append(f"  {len(days)} session{'s' * (len(days) > 1)}: {', '.join(days[:8])}{', …' * (len(days) > 8)}")
        share = _signed_share(events.flow, events.volume)
        width = max(map(len, events.names))
        for name in events.names[:20]:
            bps = float((events.spread[name] / events.mid[name]).median()) * 1e4
            volume = float(events.volume[name].sum())
            told = f"volume {volume:,.0f} {events.currency}, |flow| {share[name]:.0%} of it, median spread {bps:.3g} bp"
            lines.append(f"  {name.ljust(width)}  {told}")
        lines += [f"  and {len(events.names) - 20} names more"] if len(events.names) > 20 else []
    lines += [quotes.summary() for quotes in market.futures.values()]
    lines += [f"bars {name}: {bars.summary()}" for name, bars in market.bars.items()]
    lines += [f"funding {rates.summary()}" for rates in market.funding.values()]
    lines += [spread.summary() for spread in market.spreads.values()]
    lines += [] if market.desk is None else [market.desk.summary()]
    lines += [] if market.truth is None else [f"simulated: its truth is attached (seed {market.truth.seed})"]
    return lines
