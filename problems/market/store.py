"""The toolkit's own parquet layout: exact, and written all or nothing.

::

    DIR/market.json                     source, notes, what else is there
    DIR/events/meta.json                bucket_s, tz, currency, names
    DIR/events/{flow,mid,spread,volume,depth[,factors]}.parquet
    DIR/futures/<root>/meta.json        bar_s, multiplier, tick
    DIR/futures/<root>/{bid,ask,bid_size,ask_size,volume[,open_interest,margins]}.parquet
    DIR/truth.json, DIR/truth.npz       of simulated markets
    DIR/bars/<k>/…, DIR/funding/<k>/…, DIR/spreads/<k>/…    key and numbers in meta.json, tables beside it
    DIR/desk.json, DIR/desk.npz         the desk's orders
    DIR/report.json                     what the reader noted
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.atomic import atomic_directory
from crosswind.problems.market import store_parts as parts
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.model import MarketData, SimulatedTruth
from crosswind.problems.market.store_files import (
    FORMAT,
    get_arrays,
    get_frame,
    get_json,
    need,
    plain,
    put_json,
    unreadable,
)

__all__ = ["FORMAT", "read_events", "read_market", "write_events", "write_market"]

_QUOTES = ("bid", "ask", "bid_size", "ask_size", "volume")
_BESIDE = ("open_interest", "margins")  # written where the source has them


def write_events(events: MarketEvents, folder: Path) -> Path:
    """Write ``events`` as ``folder``, atomically; a folder of events that is there is replaced.

    Raises
    ------
    InvalidInput
        If ``folder`` is a file or holds something else, or cannot be written.
    """
    target = folder.expanduser().absolute()
    with atomic_directory(target, marker="meta.json") as work:
        _put_events(events, work)
    return target


def write_market(data: MarketData, folder: Path) -> Path:
    """Write ``data`` as ``folder``, atomically; a folder of market data that is there is replaced.

    Raises
    ------
    InvalidInput
        If ``folder`` is a file or holds something else, or cannot be written.
    """
    target = folder.expanduser().absolute()
    with atomic_directory(target, marker="market.json") as work:
        _put_market(data, work)
    return target


def _put_events(events: MarketEvents, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for field in FIELDS:
        getattr(events, field).to_parquet(folder / f"{field}.parquet")
    if events.factors is not None:
        events.factors.to_parquet(folder / "factors.parquet")
    meta = {"bucket_s": events.bucket_s, "tz": events.tz, "currency": events.currency, "names": list(events.names)}
    put_json(folder / "meta.json", {**meta, "factors": events.factors is not None})


def _put_market(data: MarketData, folder: Path) -> None:
    if data.buckets is not None:
        _put_events(data.buckets, folder / "events")
    for root, quotes in data.futures.items():
        at = folder / "futures" / root
        at.mkdir(parents=True)
        for field in (*_QUOTES, *_BESIDE):
            if getattr(quotes, field) is not None:
                getattr(quotes, field).to_parquet(at / f"{field}.parquet")
        put_json(at / "meta.json", {"bar_s": quotes.bar_s, "multiplier": quotes.multiplier, "tick": quotes.tick})
    if data.truth is not None:
        _put_truth(data.truth, folder)
    parts.put_records(data, folder)
    summary = {"source": data.source, "notes": list(data.notes), "truth": data.truth is not None}
    summary |= {"events": data.buckets is not None, **parts.contents(data)}
    put_json(folder / "market.json", {**summary, "futures": list(data.futures)})


def _put_truth(truth: SimulatedTruth, folder: Path) -> None:
    arrays = {"rates_per_s": truth.rates_per_s, "matrices": truth.matrices, "covariance": truth.covariance}
    np.savez(folder / "truth.npz", allow_pickle=False, **arrays)
    labels = {
        "names": list(truth.names),
        "sectors": [str(s) for s in truth.sectors],
        "betas": [float(b) for b in truth.betas],
        "seed": int(truth.seed),
        "parameters": {k: plain(v) for k, v in truth.parameters.items()},
    }
    put_json(folder / "truth.json", labels)


def read_events(folder: Path) -> MarketEvents:
    """Read what :func:`write_events` wrote.

    Raises
    ------
    DataGap
        If a file is absent, damaged or of another format.
    """
    meta = get_json(folder / "meta.json")
    fields: dict[str, Any] = {field: get_frame(folder / f"{field}.parquet") for field in FIELDS}
    if need(meta, "factors", folder / "meta.json"):
        fields["factors"] = get_frame(folder / "factors.parquet")
    return MarketEvents(**fields, **{k: need(meta, k, folder / "meta.json") for k in ("bucket_s", "tz", "currency")})


def read_market(folder: Path) -> MarketData:
    """Read what :func:`write_market` wrote.

    Raises
    ------
    DataGap
        If a file is absent, damaged or of another format.
    """
    top = folder / "market.json"
    content = get_json(top)
    futures = {}
    for root in need(content, "futures", top):
        at = folder / "futures" / root
        meta = get_json(at / "meta.json")
        frames: dict[str, Any] = {field: get_frame(at / f"{field}.parquet") for field in _QUOTES}
        terms = {k: need(meta, k, at / "meta.json") for k in ("bar_s", "multiplier", "tick")}
        frames |= {f: get_frame(at / f"{f}.parquet") for f in _BESIDE if (at / f"{f}.parquet").is_file()}
        futures[root] = FuturesQuotes(root=root, **frames, **terms)
    truth = _get_truth(folder) if need(content, "truth", top) else None
    # Folders of the first layout, which held events only, have no such entry.
    events = read_events(folder / "events") if content.get("events", True) else None
    return MarketData(
        events,
        futures,
        truth,
        need(content, "source", top),
        tuple(need(content, "notes", top)),
        **parts.get_records(content, folder),
    )


def _get_truth(folder: Path) -> SimulatedTruth:
    path = folder / "truth.json"
    labels = get_json(path)
    names = pd.Index(need(labels, "names", path), dtype=object)
    arrays = get_arrays(folder / "truth.npz")
    held = {k: need(arrays, k, folder / "truth.npz") for k in ("rates_per_s", "matrices", "covariance")}
    try:
        sectors = pd.Series(need(labels, "sectors", path), index=names, dtype=object)
        betas = pd.Series(need(labels, "betas", path), index=names, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise unreadable(path, error) from error
    return SimulatedTruth(
        **held,
        sectors=sectors,
        betas=betas,
        seed=need(labels, "seed", path),
        parameters=need(labels, "parameters", path),
    )
