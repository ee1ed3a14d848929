"""Files of Binance's public archive: names, periods, columns and units of time; csv or zip, in bounded memory."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.readers import binance_venues as venues
from crosswind.problems.market.readers.binance_lines import BLOCK, read_text, whole_lines
from crosswind.problems.market.readers.tables import as_numbers
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

__all__ = ["INTERVALS", "PublicFile", "list_files", "read_tables"]

_NAME = re.compile(
    r"(?P<symbol>[A-Z0-9_]+)-(?P<kind>aggTrades|trades|bookTicker|\d+(?:s|mo|m|h|d|w))-"
    r"(?P<date>\d{4}-\d{2}(?:-\d{2})?)\.(?:zip|csv)"
)
#: Lengths of klines [s]; months ('1mo') differ in length and are no bars of one.
INTERVALS = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14_400,
    "6h": 21_600, "8h": 28_800, "12h": 43_200, "1d": 86_400, "3d": 259_200, "1w": 604_800,
}  # fmt: skip
_OTHER_KLINES = ("markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
_MAKER = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_UNITS = {"ms": 10**6, "us": 10**3}


@dataclass(frozen=True)
class _Layout:
    """Columns of one kind of file, and the words that a header must hold where there is one."""

    columns: tuple[str, ...]
    widths: tuple[int, ...]
    time: str
    words: Mapping[int, str]


_KLINE = (
    *("time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
    *("taker", "taker_quote", "ignore"),
)
_LAYOUTS = {
    "klines": _Layout(
        _KLINE,
        (12,),
        "time",
        {0: "open", 1: "open", 2: "high", 3: "low", 4: "close", 5: "vol", 6: "close", 9: "taker", 10: "taker"},
    ),
    "aggTrades": _Layout(
        ("id", "price", "quantity", "first_id", "last_id", "time", "maker", "best"),
        (7, 8),
        "time",
        {1: "price", 2: "q", 5: "time", 6: "maker"},
    ),
    "trades": _Layout(
        ("id", "price", "quantity", "quote_quantity", "time", "maker", "best"),
        (6, 7),
        "time",
        {1: "price", 2: "q", 4: "time", 5: "maker"},
    ),
    "bookTicker": _Layout(
        ("id", "bid", "bid_quantity", "ask", "ask_quantity", "time", "event_time"),
        (6, 7),
        "time",
        {1: "bid", 2: "bid", 3: "ask", 4: "ask", 5: "time"},
    ),
}


@dataclass(frozen=True)
class PublicFile:
    """One file of the archive.

    Parameters
    ----------
    path
        Where it lies.
    instrument
        What it holds.
    kind
        'klines', 'aggTrades', 'trades' or 'bookTicker'.
    interval
        Of klines, e.g. '1m'; else ''.
    start_ns, end_ns
        The day or month in its name, [start, end) [ns since 1970 UTC].
    """

    path: Path
    instrument: venues.Instrument
    kind: str
    interval: str
    start_ns: int
    end_ns: int


def list_files(
    root: Path, venue: str | None, contract_values: Mapping[str, float] | None
) -> tuple[tuple[PublicFile, ...], tuple[str, ...]]:
    """Return the files of the archive below ``root`` in order of time, and notes on those left out.

    Raises
    ------
    InvalidInput
        On an unknown venue, or a file asked for by itself whose name is not of the archive's form.
    DataGap
        If there is none.
    """
    if not root.exists():
        raise DataGap("there is no such file or folder", field="path", value=str(root), remedy="check the path")
    paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix in (".zip", ".csv"))
    found: list[PublicFile] = []
    left: list[str] = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            left.append(path.name)
            continue
        if any(part in _OTHER_KLINES for part in path.parent.parts):
            left.append(f"{path.parent.name}/{path.name}")  # prices of indices and marks: nothing is traded in them
            continue
        kind, interval = match["kind"], ""
        if kind not in _LAYOUTS:
            kind, interval = "klines", kind
            if interval not in INTERVALS:
                left.append(path.name)
                continue
        start, end = _period(match["date"], path)
        instrument = venues.instrument_of(match["symbol"], venues.venue_of(path, venue), contract_values)
        found.append(PublicFile(path, instrument, kind, interval, start, end))
    if not found:
        raise DataGap(
            "holds no files of Binance's public archive",
            field="path",
            value=", ".join(left[:3]) or str(root),
            remedy="names are like BTCUSDT-aggTrades-2024-08-08.zip or BTCUSDT-1m-2024-08.zip",
        )
    kept, covered = _without_covered(found)
    notes = [f"{len(left)} files are not of a kind that is read: {', '.join(left[:3])}"] if left else []
    notes += [f"{len(covered)} daily files lie in monthly ones and are left out: {covered[0]}"] if covered else []
    return tuple(sorted(kept, key=lambda f: (f.start_ns, f.path.name))), tuple(notes)


def _period(text: str, path: Path) -> tuple[int, int]:
    try:
        start = np.datetime64(text)
        edges = [(start + k).astype("datetime64[ns]").astype(np.int64) for k in (0, 1)]
    except ValueError as error:
        raise InvalidInput(
            "the date in the file's name is none", field="file", value=str(path), remedy="fetch it again"
        ) from error
    return int(edges[0]), int(edges[1])


def _without_covered(files: list[PublicFile]) -> tuple[list[PublicFile], list[str]]:
    """Return the files whose period does not lie in that of another of the same series, and the names of the others."""
    kept: list[PublicFile] = []
    covered: list[str] = []
    last: dict[tuple[str, str, str], PublicFile] = {}
    for one in sorted(files, key=lambda f: (f.start_ns, -f.end_ns, f.path.name)):
        key = (one.instrument.name, one.kind, one.interval)
        if key in last and one.end_ns <= last[key].end_ns:
            covered.append(one.path.name)
        else:
            last[key] = one
            kept.append(one)
    return kept, covered


def _text(path: Path, report: ReadReport, block: int, step: Callable[[int], None] | None) -> Iterator[bytes]:
    """Yield the text of a csv, or of the one csv in a zip."""
    if path.suffix != ".zip":
        yield from read_text(path, report, block=block, step=step)
        return
    if not path.stat().st_size:
        raise DataGap("is empty", field="file", value=str(path), remedy="fetch it again, or take it out")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if m.endswith(".csv")]
            if len(members) != 1:
                raise InvalidInput(
                    "does not hold one csv",
                    field="file",
                    value=f"{archive.namelist()} in {path}",
                    remedy="fetch it again",
                )
            with archive.open(members[0]) as handle:
                size = max(archive.getinfo(members[0]).file_size, 1)
                done = 0
                while piece := handle.read(block):
                    done += len(piece)
                    if step is not None:
                        step(path.stat().st_size * done // size)
                    yield piece
    except CrosswindError:
        raise
    except UNREADABLE as error:
        raise DataGap(
            f"is truncated or damaged ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error


def _verify(path: Path) -> None:
    """Hold a file against the checksum beside it, where there is one."""
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.is_file():
        return
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(BLOCK):
            digest.update(piece)
    told = beside.read_text(errors="replace").split()
    if not told or told[0].lower() != digest.hexdigest():
        raise DataGap(
            "its checksum is not that of the file beside it", field="file", value=str(path), remedy="fetch it again"
        )


def read_tables(
    file: PublicFile,
    report: ReadReport,
    *,
    unit: str | None = None,
    block: int = BLOCK,
    step: Callable[[int], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of one file, in parts: columns as floats, ``id`` and ``time`` as integers, time in ns.

    The unit of time is decided by the magnitude of the stamps (spot files tell microseconds from 2025 on, others
    milliseconds) and held against the period in the file's name.

    Parameters
    ----------
    file, report
        File, and where rows that are not used are counted.
    unit
        'ms' or 'us' to be held against the stamps; None to decide by them.
    block
        Text in memory at a time [bytes].
    step
        Called with the bytes of the file done so far.

    Raises
    ------
    InvalidInput
        On other columns, or stamps that do not lie in the file's period in the unit found or given.
    DataGap
        On an empty, truncated or damaged file, or one whose checksum is wrong.
    """
    if unit is not None and unit not in _UNITS:
        raise InvalidInput("unknown unit", field="unit", value=unit, remedy="say 'ms' or 'us', or leave it out")
    _verify(file.path)
    layout = _LAYOUTS[file.kind]
    factor: int | None = None
    width = 0
    for text in whole_lines(_text(file.path, report, block, step), block):
        if not width:
            text, width = _head(text, layout, file)
            if not text.strip():
                break
        frame = _rows(text, layout, width, file.path, report)
        if factor is None and len(frame):
            factor = _factor(frame, layout, file, unit)
        if factor is None:
            continue
        for column in ("time", "close_time", "event_time"):
            if column in frame:
                # Stamps too large for the unit would wrap around: they become times outside any period.
                frame[column] = frame[column].clip(-1, 2**62 // factor).astype(np.int64) * factor
        time = frame["time"].to_numpy()
        sieve = venues.InstrumentSieve(report, file.path, len(frame))
        sieve.drop((time < file.start_ns) | (time >= file.end_ns), "outside the file's day", time)
        frame = frame[sieve.keep]
        if len(frame):
            yield frame
    if not width:
        raise DataGap("its table is empty", field="file", value=str(file.path), remedy="fetch it again")


def _head(text: bytes, layout: _Layout, file: PublicFile) -> tuple[bytes, int]:
    """Return the text without its header, and the number of columns; refuse those of another kind of file."""
    first, _, rest = text.partition(b"\n")
    cells = first.decode(errors="replace").strip().lower().split(",")
    if len(cells) not in layout.widths:
        raise InvalidInput(
            f"has {len(cells)} columns, not {' or '.join(map(str, layout.widths))}",
            field="columns",
            value=f"{cells[:4]} … in {file.path}",
            remedy=f"check that it is a file of {file.kind}",
        )
    if cells[0].strip().lstrip("-").replace(".", "").isdigit():
        return text, len(cells)
    wrong = [cells[at] for at, word in layout.words.items() if word not in cells[at]]
    if wrong:
        raise InvalidInput(
            "its header names other columns",
            field="columns",
            value=f"{wrong} in {file.path}",
            remedy=f"check that it is a file of {file.kind}",
        )
    return rest, len(cells)


def _rows(text: bytes, layout: _Layout, width: int, path: Path, report: ReadReport) -> pd.DataFrame:
    names = list(layout.columns[:width])
    try:
        frame = pd.read_csv(
            BytesIO(text),
            header=None,
            names=[*names, "more"],
            index_col=False,
            on_bad_lines="skip",
            quoting=3,
            low_memory=False,
            encoding_errors="replace",
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=names)
    lines = sum(1 for line in text.split(b"\n") if line.strip()) if b"\n\n" in text else text.rstrip().count(b"\n") + 1
    report.bad(path, "unreadable row", lines - len(frame), "too many cells")
    needed = [n for n in names if n not in ("best", "ignore", "event_time")]
    for name in needed:
        frame[name] = _numbers(frame[name], maker=name == "maker")
    values = frame[needed].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values).all(axis=1) | frame["more"].notna().to_numpy()
    for name in ("id", "time"):
        if name in frame:
            bad |= ~(np.abs(frame[name].to_numpy(dtype=np.float64)) < 2.0**53)
    if bad.any():
        report.bad(path, "unreadable row", int(bad.sum()), frame[bad].iloc[0].astype(str).str.cat(sep=","))
        frame = frame[~bad]
    whole = {name: frame[name].to_numpy(dtype=np.float64).astype(np.int64) for name in ("id", "time") if name in frame}
    return frame[needed].assign(**whole)


def _numbers(column: pd.Series[Any], *, maker: bool) -> pd.Series[Any]:
    if column.dtype == np.bool_:
        return column.astype(np.float64)
    if maker:
        return column.astype(str).str.strip().str.lower().map(_MAKER).astype(np.float64)
    if pd.api.types.is_numeric_dtype(column):
        return column
    return as_numbers(column)


def _factor(frame: pd.DataFrame, layout: _Layout, file: PublicFile, unit: str | None) -> int:
    """Return the nanoseconds of one unit of time, decided by magnitude and held against the file's period."""
    stamps: npt.NDArray[np.int64] = frame[layout.time].to_numpy(dtype=np.int64)
    factor = venues.stamp_factor(stamps, file.path)
    if unit is not None and _UNITS[unit] != factor:
        raise InvalidInput(
            f"its stamps are not in {unit}: they would not be times of its period",
            field="unit",
            value=f"{int(np.median(stamps))} in {file.path}",
            remedy="leave unit= out: it is decided by the stamps",
        )
    times = stamps.astype(np.float64) * factor
    inside = (times >= file.start_ns) & (times < file.end_ns)
    if inside.mean() < 0.5:
        first = pd.Timestamp(int(np.median(stamps)) * factor, tz="UTC")
        raise InvalidInput(
            "its stamps do not lie in the period of its name: another unit of time, or another file",
            field="time",
            value=f"{first} in {file.path.name}",
            remedy="check the file's name against what it holds",
        )
    return factor
