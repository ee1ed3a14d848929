"""LOBSTER's files: their names, the pairs they form, and their rows a block at a time."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_date, as_dates
from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

__all__ = ["NEW_YORK", "PRICE_SCALE", "Pair", "blocks", "find_pairs", "midnight_ns"]

NEW_YORK = "America/New_York"
PRICE_SCALE = 1e-4
_EMPTY_LEVEL = 9_999_999_999  # LOBSTER's price of a level without orders, negative on the bid side
_MESSAGE = ("seconds", "type", "order_id", "size", "price", "direction")
_NAME = re.compile(
    r"^(?P<name>[A-Za-z.\-]+)_(?P<day>\d{4}-\d{2}-\d{2})_(?P<start>\d+)_(?P<end>\d+)_(?P<what>message|orderbook)"
    r"_(?P<levels>\d+)\.csv$"
)


@dataclass(frozen=True)
class Pair:
    """The message and the order-book file of one stock and day.

    Parameters
    ----------
    name, day
        Ticker and local date.
    start_ms, end_ms
        Hours that the files cover [ms after midnight, New York].
    levels
        Levels of the book.
    container
        Folder or zip in which both lie.
    message_name, book_name
        Their names there.
    """

    name: str
    day: dt.date
    start_ms: int
    end_ms: int
    levels: int
    container: Path
    message_name: str
    book_name: str


def midnight_ns(day: dt.date) -> int:
    """Return New York's midnight such that the session's clock time is right on days when clocks change."""
    # Clocks change at 02:00 on Sundays, when nothing trades: the shift at noon is that of all trading hours.
    noon = pd.Timestamp(day) + pd.Timedelta(hours=12)
    return int(noon.tz_localize(NEW_YORK).as_unit("ns").value) - 12 * 3_600_000_000_000


def find_pairs(path: Any, days: Any = None) -> tuple[Pair, ...]:
    """Return the pairs of files below ``path`` by name and day.

    Parameters
    ----------
    path
        A folder (its zips are looked into), a zip, or one csv file, whose partner lies beside it.
    days
        Dates to keep; default all.

    Raises
    ------
    DataGap
        If nothing is there, a partner is missing, a zip is damaged, a day asked for is absent.
    """
    root = Path(path).expanduser()
    found: dict[tuple[Path, str, str], dict[str, re.Match[str]]] = {}
    for container, name in _members(root):
        match = _NAME.match(Path(name).name)
        if match:
            key = (container, str(Path(name).parent), f"{match['name']}_{match['day']}_{match['start']}_{match['end']}")
            found.setdefault(key, {})[f"{match['what']}|{name}"] = match
    pairs = [_pair(container, members) for (container, _, _), members in found.items()]
    if not pairs:
        raise DataGap(
            "there are no LOBSTER files",
            field="file",
            value=str(root),
            remedy="they are named TICKER_YYYY-MM-DD_START_END_message_LEVELS.csv and …_orderbook_…; unpack a 7z first",
        )
    pairs.sort(key=lambda pair: (pair.name, pair.day))
    twice = [a for a, b in pairwise(pairs) if (a.name, a.day) == (b.name, b.day)]
    if twice:
        raise InvalidInput(
            "one stock and day is there twice",
            field="file",
            value=twice[0].message_name,
            remedy="keep one of them, or name its folder",
        )
    wanted = as_dates(days)
    if wanted is None:
        return tuple(pairs)
    absent = [str(day) for day in wanted if day not in {pair.day for pair in pairs}]
    if absent:
        have = sorted({str(pair.day) for pair in pairs})
        raise DataGap("no such day", field="days", value=absent, remedy=f"choose among {', '.join(have)}")
    return tuple(pair for pair in pairs if pair.day in wanted)


def _members(root: Path) -> Iterator[tuple[Path, str]]:
    if root.is_dir():
        for file in sorted(root.iterdir()):
            if file.suffix == ".csv":
                yield root, file.name
            elif file.suffix == ".zip":
                yield from _members(file)
    elif root.suffix == ".zip" and root.is_file():
        try:
            with zipfile.ZipFile(root) as archive:
                names = archive.namelist()
        except UNREADABLE as error:
            raise DataGap(
                f"the zip is truncated or damaged ({error})", field="file", value=str(root), remedy="fetch it again"
            ) from error
        yield from ((root, name) for name in names)
    elif root.is_file():
        match = _NAME.match(root.name)
        wanted = None if match is None else root.name.replace(match["what"], "")
        for file in sorted(root.parent.glob("*.csv")):
            other = _NAME.match(file.name)
            if other and file.name.replace(other["what"], "") == wanted:
                yield root.parent, file.name
    else:
        raise DataGap("it does not exist", field="file", value=str(root), remedy="give a folder, a zip or a csv file")


def _pair(container: Path, members: dict[str, re.Match[str]]) -> Pair:
    by_kind = {key.partition("|")[0]: key.partition("|")[2] for key in members}
    match = next(iter(members.values()))
    missing = {"message", "orderbook"} - set(by_kind)
    if missing:
        raise DataGap(
            f"its {missing.pop()} file is missing",
            field="file",
            value=str(container / next(iter(by_kind.values()))),
            remedy="put the message and the order-book file side by side",
        )
    return Pair(
        name=match["name"],
        day=as_date(match["day"], f"{container / match[0]}, the date in its name"),
        start_ms=int(match["start"]),
        end_ms=int(match["end"]),
        levels=int(match["levels"]),
        container=container,
        message_name=by_kind["message"],
        book_name=by_kind["orderbook"],
    )


def blocks(pair: Pair, report: ReadReport, rows: int) -> Iterator[tuple[pd.DataFrame, npt.NDArray[np.float64]]]:
    """Yield messages and the book after each, ``rows`` at a time; row k of one belongs to row k of the other.

    Parameters
    ----------
    pair
        The two files.
    report
        Takes their names and sizes.
    rows
        Rows per block.

    Yields
    ------
    DataFrame, ndarray (rows, 4 · levels)
        Messages with prices in currency; the book as ask price, ask size, bid price, bid size per level, NaN and 0
        where a level is empty.

    Raises
    ------
    InvalidInput
        On another number of columns or text among the numbers.
    DataGap
        On an empty or damaged file, or files of different length.
    """
    with ExitStack() as stack:
        messages, books = (
            _csv(stack, pair.container, name, columns, rows, report)
            for name, columns in ((pair.message_name, len(_MESSAGE)), (pair.book_name, 4 * pair.levels))
        )
        total = 0
        while True:
            message, book = next(messages, None), next(books, None)
            left, right = (0 if part is None else len(part) for part in (message, book))
            if left != right:
                short = pair.message_name if left < right else pair.book_name
                raise DataGap(
                    f"it ends after {total + min(left, right)} rows, before its partner: the file is truncated",
                    field="file",
                    value=short,
                    remedy="fetch both files again",
                )
            if message is None or book is None:
                break
            total += left
            # Newer files name the market maker in a seventh column.
            table = message.iloc[:, : len(_MESSAGE)].set_axis(list(_MESSAGE), axis=1)
            _check_unit(table["price"].to_numpy(dtype=np.float64), pair.message_name)
            table["price"] = table["price"] * PRICE_SCALE
            yield table, _levels(book.to_numpy(dtype=np.float64))
    if not total:
        raise DataGap("it is empty", field="file", value=pair.message_name, remedy="leave the day out")


def _check_unit(price: npt.NDArray[np.float64], where: str) -> None:
    """Refuse prices in dollars: those of the files are whole numbers."""
    if np.mean(price != np.round(price)) > 0.5:
        raise InvalidInput(
            "most prices have decimals, but LOBSTER's are whole numbers of 1/10 000 dollar",
            field="price unit",
            value=where,
            remedy="multiply the prices by 10000",
        )


def _levels(book: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    out = book.copy()
    for column in range(0, out.shape[1], 2):
        empty = np.abs(out[:, column]) >= _EMPTY_LEVEL
        out[:, column] *= PRICE_SCALE
        out[empty, column], out[empty, column + 1] = np.nan, 0.0
    return out


def _csv(
    stack: ExitStack, container: Path, name: str, columns: int, rows: int, report: ReadReport
) -> Iterator[pd.DataFrame]:
    where = str(container / name)
    try:
        if container.suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(container))
            handle: Any = stack.enter_context(archive.open(name))
            report.file(where, archive.getinfo(name).file_size)
        else:
            handle = stack.enter_context((container / name).open("rb"))
            report.file(where, (container / name).stat().st_size)
        return _parts(handle, where, columns, rows)
    except UNREADABLE as error:
        raise DataGap(f"cannot be opened ({error})", field="file", value=where, remedy="fetch it again") from error


def _parts(handle: io.BufferedIOBase, where: str, columns: int, rows: int) -> Iterator[pd.DataFrame]:
    try:
        for part in pd.read_csv(handle, header=None, chunksize=rows):
            surplus = part.shape[1] - columns
            if surplus < 0 or surplus > 1:
                raise InvalidInput(
                    f"has {part.shape[1]} columns, not {columns}",
                    field="file",
                    value=where,
                    remedy="check that the file's kind and levels are those of its name",
                )
            numbers = part.iloc[:, :columns]
            if not all(pd.api.types.is_numeric_dtype(kind) for kind in numbers.dtypes):
                raise InvalidInput(
                    "holds text where numbers belong", field="file", value=where, remedy="check for a header or damage"
                )
            if numbers.isna().to_numpy().any():
                raise DataGap("a row is cut short", field="file", value=where, remedy="fetch the file again")
            yield numbers
    except pd.errors.EmptyDataError:
        return
    except CrosswindError:
        raise
    except UNREADABLE as error:
        raise DataGap(f"is damaged ({error})", field="file", value=where, remedy="fetch the file again") from error
