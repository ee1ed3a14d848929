"""What a reader understood: instruments, spans, gaps, clocks and units, and the rows that it did not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from crosswind.problems.market.shown import Shown

__all__ = ["InstrumentFacts", "ReadReport"]


@dataclass
class InstrumentFacts:
    """What was read of one instrument.

    Parameters
    ----------
    name, venue, kind
        E.g. 'BTCUSDT.spot', 'binance spot', 'ticks'.
    rows
        Kind of row ('trades', 'quotes', 'bars', 'depth', 'funding') → rows used.
    first_ns, last_ns
        Span of the rows used [ns since 1970 UTC]; None before any.
    gaps
        Number of silences longer than ``gap_limit_s``, and the longest of them [s].
    longest_gap_s, gap_limit_s
        See ``gaps`` [s].
    facts
        Clock ('exchange time, ms since 1970 UTC'), stamp, price unit, quantity unit, tick, multiplier, …: as text.
    """

    name: str
    venue: str
    kind: str
    rows: Counter[str] = field(default_factory=Counter)
    first_ns: int | None = None
    last_ns: int | None = None
    gaps: int = 0
    longest_gap_s: float = 0.0
    gap_limit_s: float = 60.0
    facts: dict[str, str] = field(default_factory=dict)

    def saw(self, kind: str, count: int, first_ns: int | None = None, last_ns: int | None = None) -> None:
        """Count ``count`` used rows of one kind and widen the span by theirs."""
        self.rows[kind] += count
        if first_ns is not None and last_ns is not None:
            self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
            self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)


class ReadReport(Shown):
    """Collected while reading; afterwards part of :class:`MarketData`.

    A bad row is told by file and reason with its count and one example; none is used silently.
    """

    def __init__(self) -> None:
        self.instruments: dict[str, InstrumentFacts] = {}
        self.files: dict[str, int] = {}
        self._bad: Counter[tuple[str, str]] = Counter()
        self._example: dict[tuple[str, str], str] = {}

    def instrument(self, name: str, venue: str = "", kind: str = "", **facts: str) -> InstrumentFacts:
        """Return the facts of one instrument, made on first use; further facts are added as text."""
        known = self.instruments.setdefault(name, InstrumentFacts(name, venue, kind))
        known.venue, known.kind = known.venue or venue, known.kind or kind
        known.facts.update({key: str(value) for key, value in facts.items()})
        return known

    def file(self, path: Any, size: int) -> None:
        """Note a file that was opened and its size [bytes]."""
        self.files[str(path)] = int(size)

    def bad(self, where: Any, reason: str, count: int = 1, example: object = "") -> None:
        """Count rows of one file that were not used, with the first as an example."""
        if count > 0:
            key = (str(where), reason)
            self._bad[key] += int(count)
            self._example.setdefault(key, str(example)[:120])

    @property
    def bad_rows(self) -> int:
        """Rows that were not used, over all files."""
        return sum(self._bad.values())

    def by_reason(self) -> Mapping[str, int]:
        """Return reason → rows not used, over all files."""
        total: Counter[str] = Counter()
        for (_, reason), count in self._bad.items():
            total[reason] += count
        return dict(total)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, text, lists and dicts; :meth:`from_dict` takes it back."""
        return {
            "instruments": [{**vars(one), "rows": dict(one.rows)} for one in self.instruments.values()],
            "files": dict(self.files),
            "bad": [[where, why, n, self._example[where, why]] for (where, why), n in self._bad.items()],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ReadReport:
        """Return the report that :meth:`to_dict` told."""
        out = cls()
        for one in content["instruments"]:
            out.instruments[one["name"]] = InstrumentFacts(**{**one, "rows": Counter(one["rows"])})
        for path, size in content["files"].items():
            out.file(path, size)
        for where, reason, count, example in content["bad"]:
            out.bad(where, reason, count, example)
        return out

    def bad_frame(self) -> pd.DataFrame:
        """Return one row per file and reason: ``file, reason, rows, example``."""
        rows = [(where, reason, n, self._example[where, reason]) for (where, reason), n in self._bad.items()]
        return pd.DataFrame(rows, columns=["file", "reason", "rows", "example"])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per instrument: venue, kind, rows by kind, first, last, gaps and the facts told as text."""
        table = {}
        for name, one in self.instruments.items():
            span = {
                edge: pd.NaT if ns is None else pd.Timestamp(ns, unit="ns", tz="UTC")
                for edge, ns in (("first", one.first_ns), ("last", one.last_ns))
            }
            gaps = {"gaps": one.gaps, "longest_gap_s": one.longest_gap_s}
            table[name] = {"venue": one.venue, "kind": one.kind, **one.rows, **span, **gaps, **one.facts}
        return pd.DataFrame.from_dict(table, orient="index")

    def summary(self) -> str:
        """Return the whole report as text: files, instruments, bad rows by reason."""
        size = sum(self.files.values())
        lines = [f"{len(self.files)} files, {size / 1e6:.1f} MB"] if self.files else []
        for one in self.instruments.values():
            rows = ", ".join(f"{count:,} {kind}" for kind, count in one.rows.items()) or "no rows"
            lines.append(f"{one.name} ({', '.join(filter(None, (one.venue, one.kind)))}): {rows}")
            if one.first_ns is not None and one.last_ns is not None:
                first, last = (pd.Timestamp(ns, unit="ns", tz="UTC") for ns in (one.first_ns, one.last_ns))
                lines.append(f"  span {first} .. {last}")
            if one.gaps:
                lines.append(f"  {one.gaps} gaps over {one.gap_limit_s:g} s, the longest {one.longest_gap_s:,.1f} s")
            lines += [f"  {key.replace('_', ' ')}: {value}" for key, value in one.facts.items()]
        lines += [f"not used: {count:,} rows: {reason}" for reason, count in self.by_reason().items()]
        return "\n".join(lines)
