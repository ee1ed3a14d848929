"""Loading of plain tables: column mapping, clocks, long and wide shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import check_zone, utc_index
from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.events import FIELDS
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = [
    "QUOTE_COLUMNS",
    "STANDARD_COLUMNS",
    "TRADE_COLUMNS",
    "Clock",
    "as_numbers",
    "load_tables",
    "long_table",
    "pivot",
    "rename_all",
    "renamed",
    "table_files",
    "wide_table",
]

QUOTE_COLUMNS = ("bid", "ask", "bid_size", "ask_size")
TRADE_COLUMNS = ("price", "size")
STANDARD_COLUMNS = ("time", "name", *FIELDS, *TRADE_COLUMNS, "side", *QUOTE_COLUMNS)
_DIGITS = re.compile(r"(\d+)")
_ERA = (315_532_800, 4_102_444_800)  # 1980 to 2100 [s since 1970]
_SIDES = {"buy": 1, "b": 1, "1": 1, "+1": 1, "1.0": 1, "sell": -1, "s": -1, "-1": -1, "-1.0": -1, "0": 0, "0.0": 0}


def _check_mapping(columns: Mapping[str, str] | None) -> dict[str, str]:
    mapping = dict(columns or {})
    unknown = [c for c in mapping if c not in STANDARD_COLUMNS]
    if unknown:
        raise InvalidInput(
            "not a standard column",
            field="columns",
            value=unknown,
            remedy=f"map from {', '.join(STANDARD_COLUMNS)} to the table's names",
        )
    if len(set(mapping.values())) < len(mapping):
        raise InvalidInput("two columns are mapped to one", field="columns", value=mapping, remedy="map one to one")
    return mapping


class Clock:
    """How a table writes its times.

    Parameters
    ----------
    source_tz
        Zone of naive times, or None to refuse them.
    unit
        "s", "ms", "us" or "ns" of numeric times since 1970 UTC, or None to refuse them.

    Raises
    ------
    InvalidInput
        On an unknown zone or unit.
    """

    def __init__(self, source_tz: str | None, unit: str | None) -> None:
        self.source_tz = None if source_tz is None else check_zone(source_tz)
        if unit not in (None, "s", "ms", "us", "ns"):
            raise InvalidInput("unknown unit", field="time_unit", value=unit, remedy="choose s, ms, us or ns")
        self.unit = unit

    def _check_unit(self, seconds: np.ndarray[Any, Any], field: str) -> None:
        """Refuse a unit that puts the times into another age: 1000 times off is 1970 or the year 50 000."""
        middle = float(np.median(seconds)) if len(seconds) else float(_ERA[0])
        if not _ERA[0] <= middle < _ERA[1] or np.abs(seconds).max(initial=0.0) > 9e9:
            raise InvalidInput(
                f"as {self.unit} since 1970 the times lie about the year {1970 + middle / 31_556_952:.0f}",
                field=f"time_unit ({field})",
                value=self.unit,
                remedy="pass the unit in which they are written: s, ms, us or ns",
            )

    def read(self, times: pd.Series[Any], where: str) -> pd.DatetimeIndex:
        """Return ``times`` in UTC, in the order given.

        Raises
        ------
        InvalidInput
            On unreadable times, and on naive or numeric ones if nothing says how to read them.
        """
        field = f"time of {where}"
        if pd.api.types.is_numeric_dtype(times):
            if self.unit is None:
                raise InvalidInput(
                    "times are numbers",
                    field=field,
                    value=times.iloc[0] if len(times) else None,
                    remedy="pass time_unit='ms' (s, us, ns) if they count from 1970 UTC",
                )
            if not np.isfinite(times.to_numpy(dtype=np.float64)).all():
                raise InvalidInput("holds NaN or inf", field=field, remedy="drop those rows")
            scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[self.unit]
            self._check_unit(times.to_numpy(dtype=np.float64) * (scale / 1e9), field)
            whole = times.dtype.kind in "iu"
            ns = (
                times.to_numpy(dtype=np.int64) * scale if whole else np.round(times.to_numpy() * scale).astype(np.int64)
            )
            return pd.DatetimeIndex(ns, tz="UTC").as_unit("ns")
        try:
            if times.dtype.kind != "M" and not isinstance(times.dtype, pd.DatetimeTZDtype):
                # Offsets that change with daylight saving need utc=True, which would also bless naive text: so look.
                zoned = times.astype("str").str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True).to_numpy(dtype=bool)
                if len(times) and zoned.any() and not zoned.all():
                    raise InvalidInput(
                        "some times have a zone and some do not",
                        field=field,
                        value=str(times[~zoned].iloc[0]),
                        remedy="write all with an offset",
                    )
                parsed = pd.to_datetime(times, utc=bool(len(times)) and bool(zoned.all()), format="ISO8601")
                index = pd.DatetimeIndex(parsed)
            else:
                index = pd.DatetimeIndex(times)
            if index.tz is None and self.source_tz is not None:
                index = index.tz_localize(self.source_tz)
        except InvalidInput:
            raise
        except ValueError as error:
            raise InvalidInput(
                f"cannot be read ({error})", field=field, remedy="write times as 2013-10-07T09:30:00-04:00"
            ) from error
        if index.tz is None:
            raise InvalidInput(
                "the timestamps are naive: their time zone is unknown",
                field=field,
                value=index[0] if len(index) else None,
                remedy="pass source_tz='America/New_York', or the zone the clock stood in",
            )
        return utc_index(index, field, strictly_increasing=False)


def load_tables(path: Path, format: str, columns: Mapping[str, str] | None) -> dict[str, pd.DataFrame]:
    """Return the tables at ``path``, by file name without its ending, columns renamed to the standard names.

    Parameters
    ----------
    path
        A file or a folder.
    format
        "csv" or "parquet".
    columns
        Standard name → the table's name. With several files an entry may be meant for some of them only.

    Raises
    ------
    InvalidInput
        On an unknown format or mapping, a mapped column that no table has, a table without times.
    DataGap
        On an absent or unreadable file.
    """
    raw = {file.name.split(".")[0]: _load(file, format) for file in table_files(path, format)}
    return rename_all(raw, columns)


def rename_all(raw: Mapping[str, pd.DataFrame], columns: Mapping[str, str] | None) -> dict[str, pd.DataFrame]:
    """Return the tables with their columns renamed to the standard names.

    Raises
    ------
    InvalidInput
        On an unknown mapping, a mapped column that no table has, a table without times.
    """
    mapping = _check_mapping(columns)
    nowhere = [theirs for theirs in mapping.values() if not any(theirs in table.columns for table in raw.values())]
    if nowhere:
        have = sorted({str(c) for table in raw.values() for c in table.columns})
        raise InvalidInput(
            "no table has the mapped column", field="columns", value=nowhere, remedy=f"choose among {', '.join(have)}"
        )
    return {stem: _rename(table, mapping, stem) for stem, table in raw.items()}


def renamed(table: pd.DataFrame, columns: Mapping[str, str] | None, stem: str) -> pd.DataFrame:
    """Return one table with its columns renamed; a column mapped for another table may be absent."""
    return _rename(table, dict(columns or {}), stem)


def table_files(path: Path, format: str) -> list[Path]:
    """Return the files of a path, 2.csv before 10.csv.

    Raises
    ------
    InvalidInput
        On an unknown format.
    DataGap
        If there is none.
    """
    if format not in ("csv", "parquet"):
        raise InvalidInput("unknown format", field="format", value=format, remedy="say 'csv' or 'parquet'")
    if path.is_file():
        return [path]
    endings = (".csv", ".csv.gz") if format == "csv" else (".parquet", ".pq")
    found = [p for p in path.iterdir() if p.name.endswith(endings)] if path.is_dir() else []
    found.sort(key=lambda p: [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(p.name)])
    if not found:
        what = "the folder holds no such file" if path.is_dir() else "neither a file nor a folder"
        raise DataGap(what, field=format, value=str(path), remedy=f"give a {format} file or a folder of them")
    return found


def _load(file: Path, format: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(file) if format == "csv" else pd.read_parquet(file)
    except UNREADABLE as error:
        raise DataGap(
            f"cannot be read as {format} ({error})", field="file", value=str(file), remedy="write the file again"
        ) from error
    if isinstance(table.index, pd.DatetimeIndex):
        table = table.rename_axis(index=str(table.index.name or "time")).reset_index()
    return table


def _rename(table: pd.DataFrame, mapping: Mapping[str, str], stem: str) -> pd.DataFrame:
    present = {theirs: ours for ours, theirs in mapping.items() if theirs in table.columns}
    # A column that bears a standard name but is not the one mapped to it would collide.
    hidden = [ours for ours in present.values() if ours in table.columns and ours not in present]
    out = table.drop(columns=hidden).rename(columns=present)
    if "time" not in out.columns:
        raise InvalidInput(
            "there is no column of times",
            field="columns",
            value=list(table.columns),
            remedy=f"map it in {stem} with columns={{'time': '…'}}",
        )
    return out


def as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return text as floats; not finite where it is no number, or one of hundreds of digits."""
    try:
        return pd.to_numeric(column, errors="coerce").astype(np.float64)
    except OverflowError:
        return column.map(_number).astype(np.float64)


def _number(cell: Any) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return np.nan
    return value if np.isfinite(value) else np.nan


def _numbers(table: pd.DataFrame, wanted: Iterable[str], where: str) -> pd.DataFrame:
    try:
        return table[list(wanted)].astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"holds values that are not numbers ({error})", field=where, remedy="clean the columns"
        ) from error


def long_table(
    table: pd.DataFrame, clock: Clock, wanted: tuple[str, ...], where: str, *, sort: bool = True
) -> pd.DataFrame:
    """Return a long table: index time (UTC, sorted, stable), columns name, the wanted numbers and side if there.

    Raises
    ------
    InvalidInput
        On absent columns, text among numbers, a missing name or an unknown side.
    DataGap
        If it is empty.
    """
    missing = [c for c in ("name", *wanted) if c not in table.columns]
    if missing:
        raise InvalidInput(
            f"columns are missing; the table has {', '.join(map(str, table.columns))}",
            field="columns",
            value=missing,
            remedy="map them with columns={'price': 'px', …}",
        )
    if not len(table):
        raise DataGap("the table is empty", field="file", value=where, remedy="write the file again")
    if table["name"].isna().any():
        raise InvalidInput("a name is missing", field="name", value=where, remedy="drop those rows")
    out = _numbers(table, wanted, where)
    out.insert(0, "name", table["name"].astype("str").astype(object))
    if "side" in table.columns:
        words = table["side"].astype("str").str.strip().str.lower()
        side = words.map(_SIDES)
        if side.isna().any():
            raise InvalidInput(
                "a side is not known",
                field="side",
                value=words[side.isna()].iloc[0],
                remedy="write buy, sell or 0",
            )
        out["side"] = side.astype(np.int8)
    out.index = clock.read(table["time"], where)
    return out.sort_index(kind="stable") if sort else out


def pivot(long: pd.DataFrame, field: str) -> pd.DataFrame:
    """Return times × names of one column of a long table; NaN where a name has no row.

    Raises
    ------
    InvalidInput
        If a name has two rows at one time.
    """
    keys = pd.MultiIndex.from_arrays([long.index, long["name"]])
    if keys.has_duplicates:
        raise InvalidInput(
            "a bucket occurs twice for one name",
            field="time",
            value=tuple(map(str, keys[keys.duplicated()][0])),
            remedy="aggregate duplicates before",
        )
    row, times = pd.factorize(long.index, sort=True)
    col, names = pd.factorize(long["name"].to_numpy(dtype=object), sort=True)
    values = np.full((len(times), len(names)), np.nan)
    values[row, col] = long[field].to_numpy()
    return pd.DataFrame(values, index=pd.DatetimeIndex(times), columns=pd.Index(names, dtype=object))


def wide_table(table: pd.DataFrame, clock: Clock, where: str) -> pd.DataFrame:
    """Return times × names of a wide table.

    Raises
    ------
    InvalidInput
        On unreadable or naive times and on text.
    """
    index = clock.read(table["time"], where)
    rest = [c for c in table.columns if c != "time"]
    return _numbers(table, rest, where).set_axis(index, axis=0)
