"""LEAN's folder layout: where a file lies, what its zip holds, how its columns are called."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_date
from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["Security", "check_scale", "days_of", "find_data", "future_expiries", "instrument_folder", "read_member"]

Security = Literal["equity", "crypto", "cryptofuture", "future"]

_DAY_FILE = re.compile(r"^(\d{8})_(trade|quote|openinterest)\.zip$")
_EXPIRY = re.compile(r"_(\d{6})\.csv$")
_MEMBER = re.compile(r"^(\d{8})_([^_]+)_(?:trade|quote|tick|second|minute)", re.IGNORECASE)

_FEWEST_DOUBLED = 10  # rows, before pairs of equal ones mean that a file was written twice
_BAR = ["open", "high", "low", "close"]
TRADE_BAR = ["ms", *_BAR, "volume"]
QUOTE_BAR = ["ms", *(f"bid_{c}" for c in _BAR), "bid_size", *(f"ask_{c}" for c in _BAR), "ask_size"]
TRADE_TICK = ["ms", "price", "size", "exchange", "condition", "suspicious"]
QUOTE_TICK = ["ms", "bid", "bid_size", "ask", "ask_size", "exchange", "condition", "suspicious"]
OPEN_INTEREST = ["ms", "open_interest"]
TEXT_COLUMNS = frozenset({"exchange", "condition"})


def find_data(root: str | Path) -> Path:
    """Return LEAN's ``Data`` folder: ``root`` itself, or the folder ``Data`` below it.

    Raises
    ------
    InvalidInput
        If there is neither.
    """
    folder = Path(root).expanduser()
    kinds = ("equity", "future", "crypto", "cryptofuture")
    for candidate in (folder, folder / "Data", folder / "data"):
        if any((candidate / kind).is_dir() for kind in kinds):
            return candidate
    state = "holds none of them" if folder.is_dir() else "does not exist"
    raise InvalidInput(
        f"no LEAN data: the folder {state} ({', '.join(kinds)})",
        field="lean",
        value=str(folder),
        remedy="give LEAN's Data folder or the folder that contains it",
    )


def instrument_folder(data: Path, security: Security, market: str, resolution: str, name: str) -> Path:
    """Return the folder of one instrument's daily files.

    Raises
    ------
    InvalidInput
        If it does not exist; the remedy lists what does.
    """
    folder = data / security / market / resolution / name.lower()
    if not folder.is_dir():
        above = folder.parent
        have = sorted(p.name for p in above.iterdir() if p.is_dir()) if above.is_dir() else []
        raise InvalidInput(
            f"no {resolution} data of that name",
            field=f"{security} name",
            value=name,
            remedy=f"choose among {', '.join(have)}" if have else f"there is nothing at {above}",
        )
    return folder


def days_of(folder: Path, kind: str) -> set[dt.date]:
    """Return the days for which ``folder`` holds a file of ``kind`` (trade, quote, openinterest).

    Raises
    ------
    InvalidInput
        If the date in a file's name is none.
    """
    if not folder.is_dir():
        return set()
    found = (_DAY_FILE.match(p.name) for p in folder.iterdir())
    return {as_date(m[1], f"{folder / m[0]}, the date in its name") for m in found if m and m[2] == kind}


def _open(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        have = sorted(days_of(path.parent, path.stem.split("_")[-1]))
        raise DataGap(
            "the day's file is missing",
            field="days",
            value=str(path),
            remedy=f"choose among {', '.join(map(str, have))}" if have else "the folder holds no such file",
        )
    try:
        return zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DataGap(
            f"the zip is truncated or damaged ({error})", field="file", value=str(path), remedy="fetch the file again"
        ) from error


def future_expiries(path: Path) -> tuple[str, ...]:
    """Return the expiries 'YYYYMM' in a future's daily zip, ascending.

    The expiry is the END of the member's name: '201312' occurs in the date 20131218 of every member.

    Raises
    ------
    DataGap
        If the file is missing or damaged.
    """
    with _open(path) as archive:
        found = (_EXPIRY.search(member) for member in archive.namelist())
        return tuple(sorted({m[1] for m in found if m}))


def read_member(
    path: Path,
    columns: Sequence[str],
    *,
    expiry: str | None = None,
    skip: Sequence[str] = (),
    report: ReadReport | None = None,
) -> pd.DataFrame:
    """Return the csv inside a daily zip.

    Parameters
    ----------
    path
        The zip.
    columns
        Names of all columns, in the file's order. Text columns become categorical, all others float64.
    expiry
        'YYYYMM' selects the member of a future; without it the zip must hold one member.
    skip
        Columns that are not needed: they are neither kept nor checked.
    report
        Notes the file.

    Raises
    ------
    DataGap
        If the file is missing, truncated or unreadable, or the expiry is not listed.
    InvalidInput
        If ``ms`` is not sorted or out of the day, every row stands twice, or the member's name tells another day or
        symbol than the file's.
    """
    with _open(path) as archive:
        members = archive.namelist()
        if expiry is not None:
            chosen = [m for m in members if m.endswith(f"_{expiry}.csv")]
            remedy = f"choose among {', '.join(sorted(m[1] for m in map(_EXPIRY.search, members) if m))}"
        else:
            chosen, remedy = members, "name the expiry"
        if len(chosen) != 1:
            raise DataGap(
                f"{len(chosen)} members of the zip fit" if expiry is None else f"expiry {expiry} is not in {path.name}",
                field="expiry",
                value=str(path),
                remedy=remedy,
            )
        _check_member(path, chosen[0])
        try:
            raw = archive.read(chosen[0])
        except UNREADABLE as error:
            raise _unreadable(path, chosen[0], error) from error
    if report is not None:
        report.file(path, path.stat().st_size)
    if not raw.strip():
        raise DataGap("its member is empty", field="file", value=str(path), remedy="leave the day out")
    frame = _parse(raw, columns, skip, path, chosen[0])
    del raw
    ms = frame["ms"].to_numpy()
    if not ((ms >= 0) & (ms <= 86_400_000)).all() or (ms[1:] < ms[:-1]).any():
        raise InvalidInput(
            "its times are not milliseconds of one day in order", field="ms", value=str(path), remedy="fetch it again"
        )
    if len(frame) >= _FEWEST_DOUBLED and frame.iloc[::2].reset_index(drop=True).equals(
        frame.iloc[1::2].reset_index(drop=True)
    ):
        # Two trades of one moment may be equal, but not all of a day in pairs.
        raise InvalidInput("every row stands twice", field="file", value=str(path), remedy="fetch it again")
    return frame


def check_scale(prices: npt.NDArray[np.float64], path: Path) -> None:
    """Refuse plain prices where hundredths of a cent are due: those are whole numbers."""
    if len(prices) and np.mean(prices != np.round(prices)) > 0.5:
        raise InvalidInput(
            "most prices have decimals, but LEAN's equity prices are whole numbers of 1/10000",
            field="price unit",
            value=str(path),
            remedy="multiply the prices by 10000, or read the file as csv:",
        )


def _check_member(path: Path, member: str) -> None:
    """Refuse a member that was written for another day or symbol: a file copied or renamed by mistake."""
    told = _MEMBER.match(Path(member).name)
    day = _DAY_FILE.match(path.name)
    if told and day and (told[1] != day[1] or told[2].lower() != path.parent.name.lower()):
        raise InvalidInput(
            "its member was written for another day or symbol",
            field="file",
            value=f"{path}: {member}",
            remedy="fetch the file again: it was copied or renamed",
        )


def _unreadable(path: Path, member: str, error: Exception) -> DataGap:
    return DataGap(
        f"its member {member} cannot be read ({error})",
        field="file",
        value=str(path),
        remedy="fetch the file again, or check that its columns are LEAN's",
    )


def _parse(raw: bytes, columns: Sequence[str], skip: Sequence[str], path: Path, member: str) -> pd.DataFrame:
    """Return the rows; Arrow's parser takes a tenth of the time of pandas', on one thread."""
    import pyarrow as pa
    from pyarrow import csv

    text = pa.dictionary(pa.int32(), pa.string())
    types = {c: text if c in TEXT_COLUMNS else pa.float64() for c in columns}
    try:
        table = csv.read_csv(
            pa.BufferReader(raw),
            read_options=csv.ReadOptions(column_names=list(columns), use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=types,
                null_values=["", "nan", "NaN"],
                include_columns=[c for c in columns if c not in skip],
            ),
        )
    except pa.ArrowInvalid as error:
        if "columns, got" in str(error):
            raise DataGap(
                f"its rows do not have the {len(columns)} columns {', '.join(columns)} ({error})",
                field="file",
                value=str(path),
                remedy="check that the file is of this kind and resolution, and whole",
            ) from error
        raise _unreadable(path, member, error) from error
    frame: pd.DataFrame = table.to_pandas(use_threads=False, split_blocks=True, self_destruct=True)
    return frame
