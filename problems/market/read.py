"""One verb for every source: ``read("lean:DIR")``, ``read("parquet:DIR")``, ``read("csv:FILE")``, ``read("sim:…")``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from crosswind.problems.market.checks import check_names
from crosswind.problems.market.model import MarketData, MarketEvents
from crosswind.problems.market.readers.lean import read_lean
from crosswind.problems.market.readers.tabular import read_table
from crosswind.solvers.errors import InvalidInput

__all__ = ["SCHEMES", "read"]

SCHEMES = ("sim", "lean", "parquet", "csv")
_GIVEN = ("names", "days", "bucket_s")


def read(
    spec: str, names: Iterable[str] | None = None, days: Any = None, bucket_s: float | None = None, **options: Any
) -> MarketData:
    """Read market data from the source that ``spec`` names.

    Parameters
    ----------
    spec
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
    **options
        Further arguments of the reader.

    Returns
    -------
    MarketData

    Raises
    ------
    InvalidInput
        On an unknown scheme, option or name, and on malformed data.
    DataGap
        On missing days or damaged files.

    Examples
    --------
    >>> read("sim:names=4,days=1,seed=1").events.names[:2]  # doctest: +SKIP
    """
    if not isinstance(spec, str) or not spec:
        raise InvalidInput("not a source", field="spec", value=spec, remedy=f"one of {_remedy()}")
    scheme, _, rest = spec.partition(":")
    if scheme not in SCHEMES:
        raise InvalidInput(f"unknown scheme {scheme!r}", field="spec", value=spec, remedy=f"one of {_remedy()}")
    if scheme == "sim":
        return _simulated(rest, names, days, bucket_s, options)
    if not rest:
        raise InvalidInput("the path is missing", field="spec", value=spec, remedy=f"one of {_remedy()}")
    if scheme == "lean":
        _check_options(read_lean, options, spec)
        return read_lean(rest, names, days, 10.0 if bucket_s is None else bucket_s, **options)
    if scheme == "parquet":
        folder = Path(rest).expanduser()
        own = next((m for m in ("market.json", "meta.json") if (folder / m).is_file()), None)
        if own is not None:
            if options:
                raise InvalidInput(
                    "our own layout takes no options",
                    field="options",
                    value=sorted(options),
                    remedy="leave them out",
                )
            data = MarketData.from_parquet(folder) if own == "market.json" else _bare(folder, spec)
            return _narrow(data, names, days, bucket_s)
    _check_options(read_table, options, spec)
    return read_table(rest, names, days, bucket_s, format="parquet" if scheme == "parquet" else "csv", **options)


def _remedy() -> str:
    return "'sim[:key=value,…]', 'lean:DIR', 'parquet:DIR', 'csv:FILE or DIR'"


def _bare(folder: Path, spec: str) -> MarketData:
    return MarketData(MarketEvents.from_parquet(folder), source=spec)


def _narrow(data: MarketData, names: Iterable[str] | None, days: Any, bucket_s: float | None) -> MarketData:
    """Return stored data with some names and days only; the truth goes with it only if all names are kept."""
    events, truth = data.events, data.truth
    if names is not None:
        chosen = check_names(names, "names")
        if chosen != events.names:
            events, truth = events.select(chosen), None
    if days is not None:
        events = events.on(days)
    if bucket_s is not None:
        events = events.resample(bucket_s)
    return MarketData(events, data.futures, truth, data.source, data.notes)


def _check_options(reader: Callable[..., MarketData], options: dict[str, Any], spec: str) -> None:
    known = [p for p in inspect.signature(reader).parameters if p not in (*_GIVEN, "path", "root", "format")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidInput(
            f"unknown options for {spec}", field="options", value=unknown, remedy=f"choose among {', '.join(known)}"
        )


def _simulated(text: str, names: Any, days: Any, bucket_s: float | None, options: dict[str, Any]) -> MarketData:
    from crosswind.problems.market.simulator.simulate import simulate

    arguments: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise InvalidInput("not key=value", field="spec", value=part, remedy="write sim:names=8,days=3,seed=0")
        if key in arguments:
            raise InvalidInput("given twice", field="spec", value=key, remedy="give every argument once")
        arguments[key] = _literal(value)
    more = {k: v for k, v in {"names": names, "days": days, "bucket_s": bucket_s, **options}.items() if v is not None}
    twice = sorted(set(more) & set(arguments))
    if twice:
        raise InvalidInput("given twice, in the spec and beside it", field="spec", value=twice, remedy="give it once")
    arguments |= more
    return simulate(**arguments)  # refuses unknown arguments itself


def _literal(text: str) -> Any:
    """Return a number, a truth value, None or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
