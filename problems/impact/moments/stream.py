"""`StreamingGram`: one pass over events that do not fit into memory."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary, after_hole, check_returns
from crosswind.problems.impact.intake.masks import EventMask, apply_masks
from crosswind.problems.impact.moments.blocks import Block, check_half_life, coarsened
from crosswind.problems.impact.moments.data import ImpactMoments
from crosswind.problems.impact.moments.sums import RowSums
from crosswind.solvers.errors import DataGap, InvalidInput
from crosswind.solvers.threads import one_blas_thread

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["StreamingGram", "event_moments"]

Array = NDArray[np.float64]
NO_RETURN = "no return"
_EPOCH = dt.date(1970, 1, 1)
_DAY_NS = 86_400_000_000_000


class StreamingGram:
    """Sums the moments of events given in parts: days, or stretches of a day cut anywhere.

    What is kept between parts is the regressors' state and the last mid of the running session; the result does not
    depend on the cuts but for rounding. Memory is that of one part and of blocks × (NM)² numbers, whatever the rows.
    Each session starts from rest, and a bucket with an undefined return of any name, or whose return spans missing
    buckets, is no row but feeds the state.

    Parameters
    ----------
    dictionary
        Decay shapes, of `make_dictionary`.
    names
        Names to use; None: those of the first part.
    masks
        Buckets that are no rows, see `crosswind.problems.impact.intake.masks`.
    block_s
        Cut sessions into parts of this length [s], counted from local midnight, so that folds may lie within days;
        None: each session is a block.
    half_life_days
        Calendar days after which a row counts half; may be changed later on blocks of one session.
    max_blocks
        Join neighbouring blocks with the fewest rows so that no more than these are kept; None: keep all.

    Raises
    ------
    InvalidInput
        Lengths that are not positive.

    Notes
    -----
    For the exponential family a row costs about (M/2 + 5) N² multiplications; forming its regressors and multiplying
    them out costs (M²/2 + M) N². See `crosswind.problems.impact.moments.sums`.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        names: Sequence[str] | None = None,
        *,
        masks: Iterable[EventMask] = (),
        block_s: float | None = None,
        half_life_days: float | None = None,
        max_blocks: int | None = None,
    ) -> None:
        check_half_life(half_life_days)
        if block_s is not None and not block_s >= dictionary.bucket_s:
            raise InvalidInput("must be a bucket or longer", field="block_s", value=block_s, remedy="e.g. 1800.0")
        if max_blocks is not None and max_blocks < 1:
            raise InvalidInput("must be at least 1", field="max_blocks", value=max_blocks)
        self.dictionary, self.masks = dictionary, tuple(masks)
        self.block_s, self.half_life_days, self.max_blocks = block_s, half_life_days, max_blocks
        self.names: tuple[str, ...] | None = None if names is None else tuple(names)
        self._terms: dict[str, Any] = {}
        self._pass: RowSums | None = None
        self._blocks: list[Block] = []
        self._open: tuple[int, int] | None = None  # (day number, part) of the block that is being summed
        self._left_out: Counter[str] = Counter()
        self._last_ns: int | None = None
        self._last_mid: Array | None = None

    def update(self, events: MarketEvents) -> Self:
        """Add the next part, which must not begin before the last one ended.

        Parameters
        ----------
        events
            Buckets with the names, zone, currency and factors of the first part.

        Raises
        ------
        InvalidInput
            Other buckets, currency, zone or factors than before; a part that goes back in time or cuts a session that
            a mask needs whole; products beyond floating point. Nothing of the part is kept then, but in the last case.
        DataGap
            A name is not in the events.
        """
        columns = self._check(events)
        flow, mid = (getattr(events, f)[columns].to_numpy(dtype=np.float64) for f in ("flow", "mid"))
        factors = np.zeros((len(flow), 0)) if events.factors is None else events.factors.to_numpy(dtype=np.float64)
        day = events._day_number()
        resumed = self._last_mid is not None and self._open is not None and self._open[0] == day[0]
        if resumed and any(mask.needs_session for mask in self.masks):
            needing = [mask.reason for mask in self.masks if mask.needs_session]
            raise InvalidInput(
                "the part cuts a session that a mask needs whole",
                field="events",
                value=(str(events.index[0]), needing),
                remedy="give whole sessions, fit Jumps beforehand, or mask by Times",
            )
        returns = np.full(mid.shape, np.nan)
        with np.errstate(over="ignore"):  # refused by name below
            returns[1:] = mid[1:] / mid[:-1] - 1.0
        first = np.append(True, day[1:] != day[:-1])
        returns[first] = np.nan
        stamps = events.index.asi8
        if resumed:
            returns[0] = mid[0] / self._last_mid - 1.0
        check_returns(returns, columns)
        # The last end of the part before stands in front, so that a hole between two parts is one as well.
        before = stamps[0] if self._last_ns is None or not resumed else self._last_ns
        hole = after_hole(np.append(before, stamps), np.append(day[0], day), self.dictionary.bucket_s)[1:]
        returns[hole] = np.nan
        usable: NDArray[np.bool_] = np.asarray(np.isfinite(returns).all(axis=1) & np.isfinite(factors).all(axis=1))
        flags = apply_masks(events, self.masks).flags.to_numpy(dtype=bool)
        masked: NDArray[np.bool_] = np.asarray(flags.any(axis=1))
        part = self._part(events, day)
        starts = np.flatnonzero(first | np.append(True, part[1:] != part[:-1]))
        if self._pass is None:
            self._pass = RowSums(self.dictionary, len(columns), factors.shape[1])
        # What overflows is refused when the block is closed.
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            for a, b in zip(starts, np.append(starts[1:], len(day)), strict=True):
                self._enter((int(day[a]), int(part[a])))
                rows = slice(int(a), int(b))
                keep = usable[rows] & ~masked[rows]
                self._pass.add(flow[rows], returns[rows], factors[rows], keep)
                self._left_out[NO_RETURN] += int((~usable[rows]).sum())
                self._count(flags[rows], usable[rows] & masked[rows])
        self._last_ns, self._last_mid = int(stamps[-1]), mid[-1].copy()
        return self

    def _check(self, events: MarketEvents) -> list[str]:
        d = self.dictionary
        if not hasattr(events, "flow"):
            raise InvalidInput(
                "is not MarketEvents",
                field="events",
                value=type(events).__name__,
                remedy="pass the .events of what crosswind.read returns",
            )
        if abs(events.bucket_s - d.bucket_s) > 1e-9 * d.bucket_s:
            raise InvalidInput(
                "the dictionary is for other buckets",
                field="events.bucket_s",
                value=events.bucket_s,
                remedy=f"resample the events to {d.bucket_s:g} s",
            )
        names = tuple(events.names) if self.names is None else self.names
        missing = [n for n in names if n not in events.flow.columns]
        if missing:
            raise DataGap("names are not in the events", field="events.flow", value=missing, remedy="read these names")
        factors = () if events.factors is None else tuple(str(c) for c in events.factors.columns)
        terms = {"currency": events.currency, "tz": events.tz, "factors": factors}
        for what, value in terms.items():
            if self._terms and self._terms[what] != value:
                remedy = "convert all notionals to one currency" if what == "currency" else "give all parts the same"
                raise InvalidInput(
                    "differs from the parts before",
                    field=f"events.{what}",
                    value=(self._terms[what], value),
                    remedy=remedy,
                )
        if self._last_ns is not None and events.index.asi8[0] <= self._last_ns:
            raise InvalidInput(
                "the part begins before the last one ended",
                field="events.index",
                value=str(events.index[0]),
                remedy="give parts in time order, or sum them apart and merge",
            )
        self.names, self._terms = names, terms
        return list(names)

    def _part(self, events: MarketEvents, day: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.block_s is None:
            return np.zeros(len(day), dtype=np.int64)
        local = (events.index - np.timedelta64(1, "ns")).tz_convert(events.tz).tz_localize(None).asi8
        parts: NDArray[np.int64] = (local - day * _DAY_NS) // max(1, round(self.block_s * 1e9))
        return parts

    def _count(self, flags: NDArray[np.bool_], masked: NDArray[np.bool_]) -> None:
        if masked.any():  # a row counts for the first mask that leaves it out
            first = np.bincount(np.argmax(flags[masked], axis=1), minlength=len(self.masks))
            for mask, n in zip(self.masks, first, strict=True):
                self._left_out[mask.reason] += int(n)

    def _enter(self, block: tuple[int, int]) -> None:
        assert self._pass is not None
        if self._open == block:
            return
        self._flush()
        if self._open is None or self._open[0] != block[0]:
            self._pass.reset()
        self._open = block

    def _flush(self) -> None:
        """Move the sums of the open block to the blocks; it stays open."""
        if self._open is None or self._pass is None:
            return
        day = _EPOCH + dt.timedelta(days=self._open[0])
        sums = self._pass.take()
        if not all(np.isfinite(a).all() for a in (sums.ZZ, sums.rZ, sums.rr, sums.uu, sums.ff)):
            raise InvalidInput(
                "products of flow or returns are beyond floating point",
                field="events",
                value=str(day),
                remedy="look for outliers in that session, e.g. with check_events",
            )
        block = Block((day,), self._open[1], sums, {k: n for k, n in self._left_out.items() if n})
        self._left_out = Counter()
        same = bool(self._blocks) and self._blocks[-1].days[-1] == day and self._blocks[-1].part == block.part
        if same:
            self._blocks[-1] = self._blocks[-1].joined(block, None)
        else:
            self._blocks.append(block)
        if self.max_blocks is not None and len(self._blocks) > self.max_blocks + 1:
            # The last block may still grow, so it is joined with none before the next one is there.
            done = coarsened(self._blocks[:-1], self.max_blocks, self.half_life_days)
            self._blocks = [*done, self._blocks[-1]]

    def moments(self) -> ImpactMoments:
        """Return the moments so far; more parts may follow.

        Raises
        ------
        DataGap
            No part was given.
        """
        if self.names is None or not self._terms:
            raise DataGap("no events were given", field="events", remedy="call update(events) first")
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            self._flush()
        blocks = coarsened(self._blocks, self.max_blocks, self.half_life_days)
        currency, factors = self._terms["currency"], self._terms["factors"]
        return ImpactMoments(self.names, self.dictionary, currency, factors, blocks, self.half_life_days, self.block_s)


def event_moments(
    events: MarketEvents, dictionary: Dictionary, folds: int = 0, masks: Iterable[EventMask] = ()
) -> ImpactMoments:
    """Return the moments of events that are in memory, in blocks short enough for ``folds`` groups of them.

    Parameters
    ----------
    events
        Buckets.
    dictionary
        Decay shapes.
    folds
        Number of time blocks that a cross-validation will want; sessions are cut where there are fewer than four each.
    masks
        Buckets that are no rows.
    """
    days, length = len(events.days), None
    if folds and days < 4 * folds:
        pieces = -(-8 * folds // days)
        longest = len(events.index) / days * events.bucket_s
        length = max(events.bucket_s, float(np.ceil(longest / pieces / events.bucket_s) * events.bucket_s))
    return StreamingGram(dictionary, masks=masks, block_s=length).update(events).moments()
