"""Databento's binary encoding (DBN): what a file says of itself, and its records a block at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput, MissingDependency

__all__ = ["BARS_S", "PRICE_SCALE", "UNDEFINED_PRICE", "DbnFile", "find_files", "open_dbn", "records", "symbol_ids"]

PRICE_SCALE = 1e-9
UNDEFINED_PRICE = np.iinfo(np.int64).max

_HEADER = [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8")]
_EVENT = [
    ("price", "<i8"),
    ("size", "<u4"),
    ("action", "S1"),
    ("side", "S1"),
    ("flags", "u1"),
    ("depth", "u1"),
    ("ts_recv", "<u8"),
    ("ts_in_delta", "<i4"),
    ("sequence", "<u4"),
]
_LEVEL = [("bid", "<i8"), ("ask", "<i8"), ("bid_size", "<u4"), ("ask_size", "<u4"), ("orders", "<u4", (2,))]
_OHLCV = [("open", "<i8"), ("high", "<i8"), ("low", "<i8"), ("close", "<i8"), ("volume", "<u8")]


def _book(levels: int) -> np.dtype[np.void]:
    return np.dtype([*_HEADER, *_EVENT, ("levels", np.dtype(_LEVEL), (levels,))])


# schema → (record type, layout); the layouts are the same in the versions 1 to 3 of the encoding
_LAYOUTS: dict[str, tuple[int, np.dtype[np.void]]] = {
    "trades": (0x00, np.dtype([*_HEADER, *_EVENT])),
    "tbbo": (0x01, _book(1)),
    "mbp-1": (0x01, _book(1)),
    "mbp-10": (0x0A, _book(10)),
    "ohlcv-1s": (0x20, np.dtype([*_HEADER, *_OHLCV])),
    "ohlcv-1m": (0x21, np.dtype([*_HEADER, *_OHLCV])),
    "ohlcv-1h": (0x22, np.dtype([*_HEADER, *_OHLCV])),
    "ohlcv-1d": (0x23, np.dtype([*_HEADER, *_OHLCV])),
}
BARS_S = {"ohlcv-1s": 1.0, "ohlcv-1m": 60.0, "ohlcv-1h": 3600.0, "ohlcv-1d": 86_400.0}


@dataclass(frozen=True)
class DbnFile:
    """What a file's metadata say.

    Parameters
    ----------
    path
        The file.
    dataset, schema
        E.g. 'XNAS.ITCH', 'mbp-1'.
    start_ns
        Start of the request [ns since 1970 UTC].
    symbols
        Raw symbol → (first day, day after the last, instrument id), one or several.
    offset
        Bytes before the first record, after decompression.
    """

    path: Path
    dataset: str
    schema: str
    start_ns: int
    symbols: dict[str, tuple[tuple[dt.date, dt.date, int], ...]]
    offset: int

    @property
    def layout(self) -> np.dtype[np.void]:
        """Layout of its records."""
        return _LAYOUTS[self.schema][1]


def find_files(path: Any) -> tuple[Path, ...]:
    """Return the DBN files at ``path``: itself, or all of a folder in the order of their names.

    Raises
    ------
    DataGap
        If there is none.
    """
    root = Path(path).expanduser()
    found = sorted(p for p in root.iterdir() if p.name.endswith((".dbn", ".dbn.zst"))) if root.is_dir() else [root]
    if not found or not root.exists():
        raise DataGap("there are no DBN files", field="file", value=str(root), remedy="they end in .dbn or .dbn.zst")
    return tuple(found)


def _stream(path: Path) -> Any:
    """Return the file as a stream of plain bytes; zstd is told by its magic number, not by the name."""
    import pyarrow as pa

    with path.open("rb") as handle:
        packed = handle.read(4) == b"\x28\xb5\x2f\xfd"
    return pa.input_stream(str(path), compression="zstd" if packed else None)


def open_dbn(path: Path) -> DbnFile:
    """Return the metadata of a file.

    Raises
    ------
    MissingDependency
        If the package databento-dbn is not installed.
    DataGap
        If the file is empty, truncated or no DBN.
    InvalidInput
        On a schema without a use here.
    """
    try:
        import databento_dbn
    except ImportError as error:
        raise MissingDependency(
            "reading DBN needs the package databento-dbn",
            field="dbn",
            value=str(path),
            remedy="pip install 'crosswind[dbn]'",
        ) from error
    try:
        with _stream(path) as stream:
            head = stream.read(8)
            if head[:3] != b"DBN" or len(head) < 8:
                raise DataGap("no DBN file", field="file", value=str(path), remedy="it begins with the letters DBN")
            length = int.from_bytes(head[4:8], "little")
            body = stream.read(length)
        if len(body) < length:
            raise DataGap("its metadata are cut short", field="file", value=str(path), remedy="fetch it again")
        meta = databento_dbn.Metadata.decode(head + body)
    except DataGap:
        raise
    except (OSError, ValueError, databento_dbn.DBNError) as error:
        raise DataGap(
            f"its metadata cannot be read ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error
    schema = str(meta.schema)
    if schema not in _LAYOUTS:
        raise InvalidInput(
            "its schema has no use here",
            field="schema",
            value=schema,
            remedy=f"request one of {', '.join(_LAYOUTS)}",
        )
    if str(meta.stype_out) != "instrument_id":
        raise InvalidInput(
            "its symbols are not mapped to instrument ids",
            field="stype_out",
            value=str(meta.stype_out),
            remedy="request stype_out='instrument_id', the default",
        )
    # The package hands the mapping out in random order: sort it, or columns would change places from call to call.
    try:
        symbols = {
            name: tuple((one["start_date"], one["end_date"], int(one["symbol"])) for one in intervals if one["symbol"])
            for name, intervals in sorted(meta.mappings.items())
        }
    except ValueError as error:
        raise DataGap(
            f"its symbols are not mapped to numbers ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error
    return DbnFile(path, str(meta.dataset), schema, int(meta.start), symbols, 8 + length)


def symbol_ids(file: DbnFile, symbol: str, rows: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return which records are of ``symbol``: an instrument id means a symbol for some days only."""
    day_ns = 86_400_000_000_000
    keep = np.zeros(len(rows), dtype=bool)
    day = (rows["ts_event"] // day_ns).astype(np.int64)
    for first, after, number in file.symbols.get(symbol, ()):
        epoch = dt.date(1970, 1, 1)
        inside = (day >= (first - epoch).days) & (day < (after - epoch).days)
        keep |= inside & (rows["instrument_id"] == number)
    return keep


def records(file: DbnFile, report: ReadReport, rows: int = 200_000) -> Iterator[npt.NDArray[np.void]]:
    """Yield the records in the file's order, ``rows`` at a time.

    Raises
    ------
    DataGap
        If the file ends within a record, cannot be decompressed, or holds records of another type.
    """
    layout = file.layout
    wanted, number = _LAYOUTS[file.schema][0], 0
    report.file(file.path, file.path.stat().st_size)
    try:
        with _stream(file.path) as stream:
            stream.read(file.offset)
            while block := stream.read(layout.itemsize * rows):
                whole = len(block) // layout.itemsize
                if whole * layout.itemsize < len(block):
                    raise DataGap(
                        f"it ends within record {number + whole + 1}: the file is truncated",
                        field="file",
                        value=str(file.path),
                        remedy="fetch it again",
                    )
                part = np.frombuffer(block, dtype=layout)
                odd = (part["rtype"] != wanted) | (part["length"].astype(np.int64) * 4 != layout.itemsize)
                if odd.any():
                    raise DataGap(
                        f"record {number + int(np.argmax(odd)) + 1} is not of the schema {file.schema}",
                        field="file",
                        value=str(file.path),
                        remedy="fetch one schema per file, without sent-time stamps (ts_out)",
                    )
                number += whole
                yield part
    except OSError as error:
        raise DataGap(f"is damaged ({error})", field="file", value=str(file.path), remedy="fetch it again") from error
