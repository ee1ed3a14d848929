"""Ticks in a user's tables, part by part: which rows are used, which are not and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.readers.tables import (
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    Clock,
    as_numbers,
    long_table,
    rename_all,
    renamed,
    table_files,
)
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress, QuoteTape, TickChunk, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["TableTicks", "clean_ticks", "first_rows", "refuse_copies", "table_parts"]

PART_ROWS = 250_000
_TOLERATED = 0.01  # a larger share of bad rows means that the table is misunderstood, not that it has blemishes
_JUMP_NS = 3600 * 10**9  # a row that runs ahead of later ones by more than this has a wrong clock
_GAP_NS = 60 * 10**9


@dataclass(frozen=True)
class TableTicks:
    """How a table of ticks is to be understood.

    Parameters
    ----------
    path
        A file or a folder.
    format
        "csv" or "parquet".
    columns
        Standard name → the table's name.
    clock
        How it writes times.
    tz
        The exchange's zone.
    apart
        Whether trades and quotes lie in files of their own.
    rows
        Rows that are held at a time.
    """

    path: Path
    format: str
    columns: Mapping[str, str] | None
    clock: Clock
    tz: str
    apart: bool
    rows: int = PART_ROWS

    def parts(self, report: ReadReport, progress: Progress | None = None) -> Iterator[dict[str, TickChunk]]:
        """Yield name → its next ticks, in one pass over the files.

        Raises
        ------
        InvalidInput
            On malformed columns, or times that decrease from one part to the next.
        DataGap
            On an unreadable or empty file.
        """
        files = table_files(self.path, self.format)
        refuse_copies(files)
        if self.apart:
            by_stem = {f.name.split(".")[0]: f for f in files}
            trades = self._long([by_stem["trades"]], TRADE_COLUMNS, report, progress)
            quotes = self._long([by_stem["quotes"]], QUOTE_COLUMNS, report, None)
            yield from _side_by_side(trades, quotes)
            return
        for table in self._long(files, (*TRADE_COLUMNS, *QUOTE_COLUMNS), report, progress):
            yield {name: TickChunk(_trades(own), _quotes(own)) for name, own in _by_name(table)}

    def _long(
        self, files: Sequence[Path], wanted: tuple[str, ...], report: ReadReport, progress: Progress | None
    ) -> Iterator[pd.DataFrame]:
        total = 0
        last: dict[str, int] = {}
        for k, file in enumerate(files):
            size = file.stat().st_size
            report.file(file, size)
            for raw, done in table_parts(file, self.format, self.rows):
                table = clean_ticks(renamed(raw, self.columns, file.name), self.clock, wanted, file, report)
                total += len(table)
                _note(table, wanted, last, self, report)
                if progress is not None:
                    progress(f"reading {file.name}", (k + min(done, 1.0)) / len(files))
                if len(table):
                    yield table
        if not total:
            raise DataGap("the table is empty", field="file", value=str(files[0]), remedy="write the file again")


def table_parts(file: Path, format: str, rows: int) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield a file's rows in parts of at most ``rows``, with the fraction of it that is read.

    Raises
    ------
    DataGap
        If it cannot be read to its end.
    """
    try:
        if format == "csv":
            with pd.read_csv(file, chunksize=rows) as reader:
                per_row, seen, size = 0.0, 0, file.stat().st_size
                for part in reader:
                    seen += len(part)
                    # Bytes per row are guessed from the first part; of a packed file the fraction is only a guess.
                    per_row = per_row or part.memory_usage(index=False, deep=False).sum() / max(1, len(part))
                    yield part, min(1.0, seen * per_row / max(1, size))
            return
        from pyarrow.parquet import ParquetFile

        with ParquetFile(file) as held:
            count, seen = held.metadata.num_rows, 0
            for batch in held.iter_batches(batch_size=rows):
                part = batch.to_pandas()
                seen += len(part)
                if isinstance(part.index, pd.DatetimeIndex):
                    part = part.rename_axis(index=str(part.index.name or "time")).reset_index()
                yield part, seen / max(1, count)
    except UNREADABLE as error:
        raise DataGap(
            f"cannot be read as {format} ({error})", field="file", value=str(file), remedy="write the file again"
        ) from error


def first_rows(path: Path, format: str, columns: Mapping[str, str] | None) -> dict[str, pd.DataFrame]:
    """Return the first rows of each table, by file name without its ending, columns renamed."""
    raw = {}
    for file in table_files(path, format):
        head = next((part for part, _ in table_parts(file, format, 100)), None)
        if head is None:
            head = pd.read_csv(file, nrows=0) if format == "csv" else pd.read_parquet(file)
        raw[file.name.split(".")[0]] = head
    return rename_all(raw, columns)


def refuse_copies(files: Sequence[Path]) -> None:
    """Refuse a folder that holds the same file twice.

    Raises
    ------
    InvalidInput
        Naming the two.
    """
    sizes: dict[int, list[Path]] = {}
    for file in files:
        sizes.setdefault(file.stat().st_size, []).append(file)
    for group in sizes.values():
        seen: dict[bytes, Path] = {}
        for file in group if len(group) > 1 else ():
            with file.open("rb") as stream:
                key = hashlib.file_digest(stream, "sha256").digest()
            if key in seen:
                raise InvalidInput(
                    "two files hold the same bytes",
                    field="file",
                    value=(seen[key].name, file.name),
                    remedy="delete one of them",
                )
            seen[key] = file


def clean_ticks(
    table: pd.DataFrame, clock: Clock, wanted: tuple[str, ...], where: Path | str, report: ReadReport
) -> pd.DataFrame:
    """Return the rows of one part that can be used, sorted by time; the others are counted by reason.

    A few bad rows are counted and left out. Where more than one in a hundred is bad, the table is not what it seems
    to be, and it is refused.

    Raises
    ------
    InvalidInput
        On absent columns, and where too many rows are bad.
    """
    if not len(table):
        return pd.DataFrame()
    table = _readable(table, clock, wanted, where, report)
    long = long_table(table, clock, wanted, str(where), sort=False)
    time = pd.DatetimeIndex(long.index).asi8
    keep = np.ones(len(long), dtype=bool)
    first, last = pd.Timestamp("1980-01-01", tz="UTC").value, pd.Timestamp("2100-01-01", tz="UTC").value
    checks = [("clock far off", (time < first) | (time >= last)), ("clock jump", _jumps(time, long["name"]))]
    if "price" in wanted:
        pair = long[["price", "size"]].to_numpy()
        with np.errstate(invalid="ignore"):
            checks.append(("price or size that is zero, negative or missing", ~(np.isfinite(pair) & (pair > 0)).all(1)))
    for reason, bad in checks:
        bad = bad & keep
        if bad.any():
            at = int(np.argmax(bad))
            example = f"{long.index[at]} {' '.join(f'{c}={long[c].iloc[at]}' for c in wanted[:2])}"
            _tolerate(int(bad.sum()), len(long), reason, example, where, report)
        keep &= ~bad
    long, time = long[keep], time[keep]
    if (time[1:] < time[:-1]).any():
        order = np.argsort(time, kind="stable")
        long = long.iloc[order]
    if "price" not in wanted:
        again = long.reset_index(names="time").duplicated().to_numpy()
        if again.any():  # a quote that says nothing new; trades of one time, price and size may be two trades
            report.bad(where, "duplicate", int(again.sum()), str(long.index[int(np.argmax(again))]))
            long = long[~again]
    elif len(long) > 1 and _doubled(long):
        raise InvalidInput(
            "every row occurs more than once: the table was written twice",
            field="file",
            value=str(where),
            remedy="drop the copies",
        )
    return long


def _tolerate(count: int, of: int, reason: str, example: str, where: Path | str, report: ReadReport) -> None:
    if count > _TOLERATED * of:
        word = "trades without a positive price and size" if reason.startswith("price") else f"rows: {reason}"
        raise InvalidInput(
            f"{count} of {of} {word}, first {example}",
            field="price/size" if reason.startswith("price") else "time" if "clock" in reason else "rows",
            value=str(where),
            remedy="check columns, time_unit and source_tz, or drop those rows",
        )
    report.bad(where, reason, count, example)


def _readable(
    table: pd.DataFrame, clock: Clock, wanted: tuple[str, ...], where: Path | str, report: ReadReport
) -> pd.DataFrame:
    """Return the rows whose numbers and times can be read at all; a truncated last line, say, cannot."""
    bad = np.zeros(len(table), dtype=bool)
    parsed = {}
    for column in wanted:
        if column in table.columns and not pd.api.types.is_numeric_dtype(table[column]):
            numbers = as_numbers(table[column])
            odd = (numbers.isna() & table[column].notna()).to_numpy()
            if odd.mean() <= _TOLERATED:  # else long_table refuses the column
                parsed[column] = numbers
                bad |= odd
    if "name" in table.columns:
        nameless = table["name"].isna().to_numpy()
        bad |= nameless if nameless.mean() <= _TOLERATED else False
    if "time" in table.columns and not pd.api.types.is_numeric_dtype(table["time"]):
        lost = table["time"].isna().to_numpy()
        if table["time"].dtype.kind != "M" and not isinstance(table["time"].dtype, pd.DatetimeTZDtype):
            text = table["time"].astype("str")
            lost = lost | (text.str.len() < 8).to_numpy() | ~text.str.match(r"\d{4}-?\d{2}-?\d{2}").to_numpy(dtype=bool)
        bad |= lost if lost.mean() <= _TOLERATED else False
    if not bad.any():
        return table.assign(**parsed) if parsed else table
    at = int(np.argmax(bad))
    report.bad(where, "unreadable row", int(bad.sum()), ",".join(map(str, table.iloc[at])))
    return table.assign(**parsed)[~bad]


def _jumps(time: np.ndarray[Any, Any], names: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Return which rows run ahead of later rows of their name by more than an hour, if they are few."""
    out = np.zeros(len(time), dtype=bool)
    codes, _ = pd.factorize(names)
    for code in range(codes.max(initial=-1) + 1):
        own = np.flatnonzero(codes == code)
        later = np.minimum.accumulate(time[own][::-1])[::-1]
        ahead = time[own] - later > _JUMP_NS
        # Many of them: the table is in another order, which sorting mends.
        if ahead.mean() <= _TOLERATED:
            out[own[ahead]] = True
    return out


def _doubled(long: pd.DataFrame) -> bool:
    if not long.duplicated().any():
        return False
    hashes = pd.util.hash_pandas_object(long, index=True).to_numpy()
    counts = np.unique(hashes, return_counts=True)[1]
    return bool((counts > 1).all())


def _note(
    table: pd.DataFrame, wanted: tuple[str, ...], last: dict[str, int], of: TableTicks, report: ReadReport
) -> None:
    """Note rows, spans and silences of each name; refuse parts that go back in time."""
    if not len(table):
        return
    clock = f"numbers, {of.clock.unit} since 1970 UTC" if of.clock.unit else of.clock.source_tz or "with its UTC offset"
    for name, own in _by_name(table):
        time = pd.DatetimeIndex(own.index).asi8
        before = last.get(name)
        if before is not None and time[0] < before:
            raise InvalidInput(
                f"the times of {name} go back from one part of {of.rows:,} rows to the next",
                field="time",
                value=str(own.index[0]),
                remedy="sort the table by time, or read it in larger parts with chunk_rows=…",
            )
        facts = report.instrument(name, "", "ticks", clock=clock, stamp="event", price_unit="currency per share")
        facts.facts["quantity_unit"] = "shares"
        if "price" in wanted:
            facts.facts["sign"] = "column side" if "side" in own.columns else "Lee and Ready"
            facts.saw("trades", len(own), int(time[0]), int(time[-1]))
        if "bid" in wanted:
            facts.saw("quotes", len(own), int(time[0]), int(time[-1]))
        steps = np.diff(time, prepend=time[0] if before is None else before)
        shift = own.index[0].tz_convert(of.tz).utcoffset().total_seconds() * 1e9
        same_day = (time + shift) // 86_400e9 == (time - steps + shift) // 86_400e9
        silent = steps[same_day & (steps > _GAP_NS)]
        if not of.apart or "bid" in wanted:
            facts.gaps += len(silent)
            facts.longest_gap_s = max(facts.longest_gap_s, float(silent.max(initial=0)) / 1e9)
        last[name] = int(time[-1])


def _by_name(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    codes, names = pd.factorize(table["name"].to_numpy(dtype=object), sort=True)
    for code, name in enumerate(names):
        yield str(name), (table if len(names) == 1 else table[codes == code])


def _trades(own: pd.DataFrame) -> TradeTape:
    sign = own["side"].to_numpy(dtype=np.int8) if "side" in own.columns else None
    price, size = (own[c].to_numpy() for c in TRADE_COLUMNS)
    return TradeTape(pd.DatetimeIndex(own.index).asi8, price, size, np.ones(len(own), dtype=bool), sign)


def _quotes(own: pd.DataFrame) -> QuoteTape:
    return QuoteTape(pd.DatetimeIndex(own.index).asi8, *(own[c].to_numpy() for c in QUOTE_COLUMNS))


def _side_by_side(trades: Iterator[pd.DataFrame], quotes: Iterator[pd.DataFrame]) -> Iterator[dict[str, TickChunk]]:
    """Yield the parts of two tables that are each in time order, cut at common times."""
    left, right = next(trades, None), next(quotes, None)
    while left is not None or right is not None:
        # A table that has ended sets no limit; ties at the end of a part wait for the next one.
        ends = [pd.DatetimeIndex(t.index).asi8[-1] for t in (left, right) if t is not None]
        at = min(ends)
        parts: list[pd.DataFrame | None] = []
        after: list[pd.DataFrame | None] = []
        for table, more in ((left, trades), (right, quotes)):
            if table is None:
                parts.append(None)
                after.append(None)
                continue
            time = pd.DatetimeIndex(table.index).asi8
            cut = int(np.searchsorted(time, at, side="left"))
            parts.append(table.iloc[:cut])
            rest: pd.DataFrame | None = table.iloc[cut:]
            if time[-1] == at:
                following = next(more, None)
                if following is not None:
                    if pd.DatetimeIndex(following.index).asi8[0] < at:
                        raise InvalidInput(
                            "trades and quotes in files of their own must each be in time order over all names",
                            field="time",
                            value=str(following.index[0]),
                            remedy="sort both files by time, or read larger parts with chunk_rows=…",
                        )
                    rest = pd.concat([table.iloc[cut:], following])
                else:
                    parts[-1], rest = table, None
            after.append(rest)
        yield _chunks(*parts)
        left, right = after


def _chunks(trades: pd.DataFrame | None, quotes: pd.DataFrame | None) -> dict[str, TickChunk]:
    sold = {n: _trades(own) for n, own in _by_name(trades)} if trades is not None and len(trades) else {}
    quoted = {n: _quotes(own) for n, own in _by_name(quotes)} if quotes is not None and len(quotes) else {}
    return {
        name: TickChunk(sold.get(name, TradeTape.empty()), quoted.get(name, QuoteTape.empty()))
        for name in sorted({*sold, *quoted})
    }
