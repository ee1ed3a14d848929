"""One verb for every source: ``read("lean:DIR")``, ``read("parquet:DIR")``, ``read("csv:FILE")``, ``read("sim:…")``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers.formats import call_options, find_format
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress
from crosswind.solvers.errors import InvalidInput

__all__ = ["read"]


def read(
    spec: str,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> MarketData:
    """Read market data from the source that ``spec`` names.

    Parameters
    ----------
    spec
        ``"scheme:path"``: :func:`~crosswind.problems.market.readers.formats.formats` lists the schemes.
        ``"lean:DIR"``: LEAN's folder layout, see :func:`~crosswind.problems.market.readers.lean.read_lean`.
        ``"parquet:DIR"``: what ``MarketData.to_parquet`` or ``MarketEvents.to_parquet`` wrote, else plain tables.
        ``"csv:FILE"`` or a folder: plain tables, see :func:`~crosswind.problems.market.readers.tabular.read_table`.
        ``"sim"`` or ``"sim:key=value,…"``: :func:`~crosswind.problems.market.simulator.simulate.simulate` with these
        arguments.
    names
        Names to read, in this order; default all. For simulations: the names, or their number.
    days
        Local dates; default all. For simulations: their number.
    bucket_s
        Bucket length [s]. Default: 10 for ticks, otherwise the source's own; own buckets are resampled.
    progress
        Called with the stage and the fraction of it that is done.
    **options
        Further arguments of the reader.

    Returns
    -------
    MarketData
        With the reader's report of what it understood and which rows it did not use.

    Raises
    ------
    InvalidInput
        On an unknown scheme, option or name, and on malformed data.
    DataGap
        On missing days or damaged files.
    MissingDependency
        If the format needs a package that is not installed.

    Examples
    --------
    >>> read("sim:names=4,days=1,seed=1").events.names[:2]  # doctest: +SKIP
    """
    format, rest = find_format(spec)
    reader = format.load("reader")
    assert reader is not None  # a Format has a reader
    report = ReadReport()
    given = {k: v for k, v in {"names": names, "days": days, "bucket_s": bucket_s}.items() if v is not None}
    data = reader(rest, **call_options(reader, spec, given, options, report=report, progress=progress))
    if not isinstance(data, MarketData):
        raise InvalidInput(
            f"the reader of {format.scheme} returned no MarketData",
            field="spec",
            value=type(data).__name__,
            remedy="return MarketData(events, …)",
        )
    if data.report is None and (report.instruments or report.files or report.bad_rows):
        data = replace(data, report=report)
    return data
