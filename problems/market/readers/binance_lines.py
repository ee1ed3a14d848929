"""Recorded websocket lines: from gz or plain files to decoded messages by kind, in bounded memory."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap

__all__ = ["BLOCK", "Messages", "Ordered", "decode", "read_blocks", "read_text", "whole_lines"]

_READ = 1 << 20
BLOCK = 8 << 20  # text in memory at a time, about 30 000 lines
_FEW = 1 << 14  # text read line by line where some line is of another shape
_NOT_USED = "stream not used"
# The usual shape of a line; all others go through the JSON parser one by one. Depth updates are looked into only where
# a book is asked for: otherwise their event time alone is taken, for the clock.
_HEAD = rb'([0-3]?\d{1,18}) \{"stream":"[^"@]*@'
_THIN = re.compile(
    rb"^" + _HEAD + rb'(?:(trade|aggTrade|bookTicker)","data":(\{[^\n]*\})\}|'
    rb'depth(?:@\d+ms)?","data":\{"e":"depthUpdate","E":(\d{1,19}),[^\n]*\}\})\r?$',
    re.MULTILINE,
)
_FULL = re.compile(
    rb"^" + _HEAD + rb'(trade|aggTrade|bookTicker|depth)(?:@\d+ms)?","data":(\{[^\n]*\})\}()\r?$', re.MULTILINE
)

_Int = npt.NDArray[np.int64]


@dataclass
class Messages:
    """Messages of one block in the file's order, by kind.

    Parameters
    ----------
    local, data
        Kind ('trade', 'aggTrade', 'bookTicker', 'depth', 'snapshot') → local receive times [ns] and messages.
    timed
        (local [ns], event time [as in the file]) of depth updates that were not decoded.
    """

    local: dict[str, list[int]] = field(default_factory=dict)
    data: dict[str, list[Any]] = field(default_factory=dict)
    timed: list[tuple[int, int]] = field(default_factory=list)

    def add(self, kind: str, local: int, message: Any) -> None:
        """Append one message."""
        self.local.setdefault(kind, []).append(local)
        self.data.setdefault(kind, []).append(message)


def read_text(
    path: Path, report: ReadReport, *, block: int = BLOCK, step: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """Yield the text of a gz or plain file in pieces of about ``block`` bytes.

    A gz that ends early gives what could be unpacked, and the report counts it; one that is damaged inside is refused,
    as nothing in it can be trusted.

    Parameters
    ----------
    path, report
        File, and where its truncation is noted.
    block
        Size of a piece [bytes].
    step
        Called with the bytes read from disk so far.

    Raises
    ------
    DataGap
        If it is absent, empty or damaged.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise DataGap(
            f"cannot be opened ({error.strerror})", field="file", value=str(path), remedy="fetch it"
        ) from error
    with handle:
        head = handle.read(2)
        handle.seek(0)
        if not head:
            raise DataGap("is empty", field="file", value=str(path), remedy="fetch it again, or take it out")
        packed = head == b"\x1f\x8b"
        if path.suffix == ".gz" and not packed:
            raise DataGap("is no gzip file", field="file", value=str(path), remedy="fetch it again")
        unpack = zlib.decompressobj(31) if packed else None
        done = 0
        while raw := handle.read(_READ if packed else block):
            done += len(raw)
            if step is not None:
                step(done)
            if unpack is None:
                yield raw
                continue
            while raw:
                if unpack.eof:  # members of a gzip file follow each other
                    unpack = zlib.decompressobj(31)
                try:
                    text = unpack.decompress(raw, block)
                except zlib.error as error:
                    raise DataGap(
                        f"is damaged ({error})", field="file", value=str(path), remedy="fetch it again"
                    ) from error
                if text:
                    yield text
                raw = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
        if unpack is not None and not unpack.eof:
            if text := unpack.flush():
                yield text
            report.bad(path, "the gz ends early: the rest of the file is lost", 1, f"{done} bytes")


def read_blocks(
    path: Path, report: ReadReport, *, block: int = BLOCK, step: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """Yield whole lines, in blocks of about ``block`` bytes; a last line that is cut short is left to the parser."""
    return whole_lines(read_text(path, report, block=block, step=step), block)


def whole_lines(pieces: Iterator[bytes], block: int = BLOCK) -> Iterator[bytes]:
    """Join pieces of text to blocks of whole lines of about ``block`` bytes; the last may end without a line break."""
    parts: list[bytes] = []
    size = 0
    for text in pieces:
        parts.append(text)
        size += len(text)
        if size < block:
            continue
        whole = b"".join(parts)
        cut = whole.rfind(b"\n") + 1
        if cut:
            yield whole[:cut]
        parts, size = [whole[cut:]], len(whole) - cut
    rest = b"".join(parts)
    if rest:
        yield rest


def decode(text: bytes, report: ReadReport, where: object, *, depth: bool) -> Messages:
    """Return the messages of whole lines ``<local ns> <json>``, by kind; count lines that cannot be read.

    Parameters
    ----------
    text
        Lines.
    report, where
        Where unreadable lines and unused streams are counted.
    depth
        Whether depth updates and snapshots are decoded.
    """
    out = Messages()
    rows = _rows(text, _FULL if depth else _THIN, report, where, out, depth)
    payloads: dict[bytes, list[tuple[int, bytes]]] = {}
    for local, kind, payload, event in rows:
        if kind:
            payloads.setdefault(kind, []).append((int(local), payload))
        else:
            out.timed.append((int(local), int(event)))
    for kind, pairs in payloads.items():
        _unpack(kind.decode(), pairs, report, where, out)
    return out


def _rows(
    text: bytes, pattern: re.Pattern[bytes], report: ReadReport, where: object, out: Messages, depth: bool
) -> list[tuple[bytes, ...]]:
    """Return the lines of the usual shape in order; others are looked for by halves and read one by one."""
    rows: list[tuple[bytes, ...]] = pattern.findall(text)
    if len(rows) == text.count(b"\n") + (not text.endswith(b"\n")):
        return rows
    cut = text.rfind(b"\n", 0, len(text) // 2) + 1
    if len(text) < _FEW or not cut:
        return _line_by_line(text, pattern, report, where, out, depth)
    halves = (_rows(part, pattern, report, where, out, depth) for part in (text[:cut], text[cut:]))
    return [row for half in halves for row in half]


def _line_by_line(
    text: bytes, pattern: re.Pattern[bytes], report: ReadReport, where: object, out: Messages, depth: bool
) -> list[tuple[bytes, ...]]:
    """Return the usual lines as ``findall`` would; put the others that can be read into the same order."""
    rows: list[tuple[bytes, ...]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = pattern.fullmatch(line)
        if match is not None:
            rows.append(tuple(g or b"" for g in match.groups()))
            continue
        stamp, _, body = line.partition(b" ")
        if not stamp.isdigit() or len(stamp) > 19 or int(stamp) >= 2**62:
            report.bad(where, "no local time before the message", 1, line[:80].decode(errors="replace"))
            continue
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            report.bad(where, "unreadable JSON", 1, line[-80:].decode(errors="replace"))
            continue
        kind, data = _kind_of(message)
        if kind == "depth" and not depth:
            if isinstance(data.get("E"), int):
                out.timed.append((int(stamp), data["E"]))
        elif kind in ("trade", "aggTrade", "bookTicker", "depth"):
            rows.append((stamp, kind.encode(), json.dumps(data).encode(), b""))
        elif kind == "snapshot":
            if depth:
                out.add("snapshot", int(stamp), data)
        else:
            report.bad(where, f"{_NOT_USED}: {kind}", 1, line[:100].decode(errors="replace"))
    return rows


def _kind_of(message: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind of one message, wrapped into its stream's name or bare, and its data."""
    if not isinstance(message, dict):
        return "not an object", {}
    data = message.get("data", message)
    if not isinstance(data, dict):
        return "not an object", {}
    event = data.get("e")
    if event == "depthUpdate":
        return "depth", data
    if isinstance(event, str):
        return event, data
    if "lastUpdateId" in data and "bids" in data and "asks" in data:
        # A partial book (depth5, …) repeats itself in a stream of its own; a snapshot was asked for once.
        return (str(message["stream"]).partition("@")[2], data) if "stream" in message else ("snapshot", data)
    if {"u", "b", "B", "a", "A"} <= data.keys():
        return "bookTicker", data  # spot sends it without a name
    return str(message.get("stream", "unknown")).partition("@")[2] or "unknown", data


def _unpack(kind: str, pairs: Sequence[tuple[int, bytes]], report: ReadReport, where: object, out: Messages) -> None:
    # One call of the parser for all of them; should it refuse, each by itself to find the ones at fault.
    try:
        messages = json.loads(b"[" + b",".join([payload for _, payload in pairs]) + b"]")
    except (ValueError, RecursionError):
        messages = []
    if len(messages) == len(pairs):
        out.local.setdefault(kind, []).extend([local for local, _ in pairs])
        out.data.setdefault(kind, []).extend(messages)
        return
    for local, payload in pairs:
        try:
            out.add(kind, local, json.loads(payload))
        except (ValueError, RecursionError):
            report.bad(where, "unreadable JSON", 1, payload[-80:].decode(errors="replace"))


class Ordered:
    """Sorts rows by time within a window, and refuses those that come later than it.

    Rows are given as tuples of arrays of one length, the first being the time [ns]. Equal times keep their order.
    """

    def __init__(self) -> None:
        self._held: list[tuple[npt.NDArray[Any], ...]] = []
        self._floor = np.iinfo(np.int64).min

    def push(self, columns: tuple[npt.NDArray[Any], ...]) -> int:
        """Take rows; return how many came after the window had closed, which are left out."""
        if not len(columns[0]):
            return 0
        late = columns[0] < self._floor
        count = int(np.count_nonzero(late))
        self._held.append(tuple(c[~late] for c in columns) if count else columns)
        return count

    def pop(self, before_ns: int | None) -> tuple[npt.NDArray[Any], ...] | None:
        """Return the rows earlier than ``before_ns`` (None: all) in order of time, or None if there are none."""
        if not self._held:
            return None
        whole = self._held[0] if len(self._held) == 1 else tuple(map(np.concatenate, zip(*self._held, strict=True)))
        time = whole[0]
        if (time[1:] < time[:-1]).any():
            order = np.argsort(time, kind="stable")
            whole = tuple(c[order] for c in whole)
        if before_ns is None:
            self._held = []
            return whole
        self._floor = max(self._floor, before_ns)
        cut = int(np.searchsorted(whole[0], before_ns, side="left"))
        self._held = [tuple(c[cut:] for c in whole)] if cut < len(whole[0]) else []
        return tuple(c[:cut] for c in whole) if cut else None
