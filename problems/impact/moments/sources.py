"""Where the parts come from: days of a spec, folders larger than memory, anything that yields events; in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.intake.masks import EventMask
from crosswind.problems.impact.moments.data import ImpactMoments, merge_moments
from crosswind.problems.impact.moments.stream import StreamingGram
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["EventSource", "ReadDay", "by_day", "event_parts", "stream_moments"]

#: Events, a folder of them, or a function that yields them part by part; for workers it must be picklable.
EventSource: TypeAlias = "MarketEvents | str | Path | Callable[[], Iterable[MarketEvents]]"


@dataclass(frozen=True)
class ReadDay:
    """One session of a spec, read when it is called: a source that costs a worker nothing to receive.

    Parameters
    ----------
    spec
        As for `crosswind.problems.market.read`.
    day
        Local date.
    options
        Further arguments of the format.
    """

    spec: str
    day: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Iterator[MarketEvents]:
        """Yield the session's events."""
        from crosswind.problems.market import read

        yield read(self.spec, days=[self.day], **self.options).events


def by_day(spec: str, days: Sequence[Any], **options: Any) -> tuple[ReadDay, ...]:
    """Return one source per day of a spec, for :func:`stream_moments`.

    Raises
    ------
    InvalidInput
        No days.
    """
    if isinstance(days, str) or not len(days):
        raise InvalidInput("a list of days is needed", field="days", value=days, remedy="e.g. ['2013-10-07']")
    return tuple(ReadDay(spec, day, dict(options)) for day in days)


def event_parts(folder: str | Path, rows: int = 20_000) -> Iterator[MarketEvents]:
    """Yield the buckets of a folder written by ``MarketEvents.to_parquet`` in parts that fit into memory.

    Parameters
    ----------
    folder
        Of events.
    rows
        Buckets of one part, at most.

    Raises
    ------
    DataGap
        A file is absent, damaged or shorter than the others.
    """
    import pyarrow.parquet as pq

    from crosswind.problems.market import MarketEvents
    from crosswind.problems.market.events import FIELDS
    from crosswind.problems.market.store_files import get_json, need, unreadable

    place = Path(folder)
    meta = get_json(place / "meta.json")
    terms = {k: need(meta, k, place / "meta.json") for k in ("bucket_s", "tz", "currency")}
    fields = [*FIELDS, *(["factors"] if need(meta, "factors", place / "meta.json") else [])]
    files = []
    try:
        for name in fields:
            path = place / f"{name}.parquet"
            if not path.is_file():
                raise DataGap("the file is absent", field="file", value=str(path), remedy="write the events again")
            files.append(pq.ParquetFile(path))
        batches = [file.iter_batches(batch_size=rows) for file in files]
        for held in zip_longest(*batches):
            short = [name for name, batch in zip(fields, held, strict=True) if batch is None]
            if short:
                raise DataGap("a file is shorter than the others", field="file", value=short, remedy="write them again")
            yield MarketEvents(**{n: b.to_pandas() for n, b in zip(fields, held, strict=True)}, **terms)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise unreadable(place, error) from error
    finally:
        for file in files:
            file.close()


def _parts(source: EventSource) -> Iterable[MarketEvents]:
    if isinstance(source, (str, Path)):
        return event_parts(source)
    if callable(source):
        return source()
    return (source,)


@dataclass(frozen=True)
class _Job:
    """Sums one source; picklable, so that it runs in a worker as it runs here."""

    dictionary: Dictionary
    names: tuple[str, ...] | None
    settings: Mapping[str, Any]

    def __call__(self, source: EventSource) -> ImpactMoments:
        stream = StreamingGram(self.dictionary, self.names, **self.settings)
        for part in _parts(source):
            stream.update(part)
        return stream.moments()


def stream_moments(
    sources: Iterable[EventSource],
    dictionary: Dictionary,
    names: Sequence[str] | None = None,
    *,
    masks: Iterable[EventMask] = (),
    block_s: float | None = None,
    half_life_days: float | None = None,
    max_blocks: int | None = None,
    workers: int = 1,
) -> ImpactMoments:
    """Sum several sources, at once in several processes, and merge them in the order given.

    Parameters
    ----------
    sources
        Each with whole sessions of its own: events, folders written by ``MarketEvents.to_parquet`` (read part by part),
        or functions that yield events (see :func:`by_day`).
    dictionary
        Decay shapes.
    names, masks, block_s, half_life_days, max_blocks
        As for `StreamingGram`.
    workers
        Processes; 1: none but this one. The result is the same to the last bit for every number.

    Raises
    ------
    InvalidInput
        No sources, sources that differ in names, currency or factors, or share a session; no positive worker number.
    DataGap
        A source that cannot be read, or is empty.
    """
    if int(workers) != workers or workers < 1:
        raise InvalidInput("must be a whole number of at least 1", field="workers", value=workers)
    settings = {"masks": tuple(masks), "block_s": block_s, "half_life_days": half_life_days, "max_blocks": max_blocks}
    job = _Job(dictionary, None if names is None else tuple(names), settings)
    given = list(sources)
    if not given:
        raise InvalidInput("nothing to sum", field="sources", value=0, remedy="give at least one source")
    if workers == 1 or len(given) == 1:
        return merge_moments((job(source) for source in given), max_blocks)
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # A fresh interpreter, not a fork: threads of the parent's libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(int(workers), len(given)), mp_context=context) as pool:
        return merge_moments(pool.map(job, given), max_blocks)
