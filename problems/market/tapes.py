"""All ticks of an instrument at once, as the features take them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from crosswind.problems.market.lee_ready import LeeReady
from crosswind.problems.market.merge import sources_of
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import DepthTape, Progress, QuoteTape, Settler, TickChunk, TickSource, TradeTape

__all__ = ["read_tapes"]

_Tape = TypeVar("_Tape", TradeTape, QuoteTape)


def read_tapes(
    spec: str,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    report: ReadReport | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, TickChunk]:
    """Return instrument → all of its ticks: ``.trades``, ``.quotes`` and, where the source has levels, ``.depth``.

    What :func:`~crosswind.problems.market.merge.stream` yields part by part is held in memory here. Crossed,
    non-positive and non-finite quotes are left out and counted in ``report``; trades that the source does not sign are
    signed by Lee and Ready, as in the buckets.

    Parameters
    ----------
    spec
        As for :func:`~crosswind.problems.market.read.read`, of a format that holds ticks.
    names, days
        What to keep; default all.
    report
        Collects files, rows, facts and bad rows.
    progress
        Called with stage and fraction done.
    **options
        Further arguments of the format.

    Raises
    ------
    InvalidInput
        On an unknown spec or option, and on a format without ticks.
    """
    told = ReadReport() if report is None else report
    found = sources_of(spec, names, days, **options)
    return {source.name: _whole(source, told, progress) for source in found}


def _whole(source: TickSource, report: ReadReport, progress: Progress | None) -> TickChunk:
    settler = Settler(source.name)  # refuses times that decrease
    chunks = []
    for chunk in source.chunks(report, progress):
        settler.push(chunk)
        chunks.append(chunk)
    trades = _joined([chunk.trades for chunk in chunks]) or TradeTape.empty()
    quotes, dropped = (_joined([chunk.quotes for chunk in chunks]) or QuoteTape.empty()).usable()
    report.bad(source.name, "crossed, non-positive or non-finite quote", dropped)
    if trades.sign is None:
        use = trades.signable
        sign = np.zeros(len(trades), dtype=np.int8)
        mid = 0.5 * (quotes.bid + quotes.ask)
        sign[use] = LeeReady().sign(trades.price[use], trades.time_ns[use], quotes.known_ns, mid)
        trades = TradeTape(trades.time_ns, trades.price, trades.shares, trades.signable, sign)
    levels = [chunk.depth for chunk in chunks if chunk.depth is not None and len(chunk.depth)]
    return TickChunk(trades, quotes, _depth(levels) if levels else None)


def _joined(parts: list[_Tape]) -> _Tape | None:
    """Return the parts as one, joined in pairs so that no row is copied more than log2(parts) times."""
    while len(parts) > 1:
        parts = [a.then(b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + parts[len(parts) & ~1 :]
    return parts[0] if parts else None


def _depth(parts: list[DepthTape]) -> DepthTape:
    columns = ("known_ns", "bid", "bid_shares", "ask", "ask_shares")
    return DepthTape(*(np.concatenate([getattr(part, c) for part in parts]) for c in columns))
