"""The toolkit's own parquet layout: exact, and written all or nothing.

::

    DIR/market.json                     source, notes, what else is there
    DIR/events/meta.json                bucket_s, tz, currency, names
    DIR/events/{flow,mid,spread,volume,depth[,factors]}.parquet
    DIR/futures/<root>/meta.json        bar_s, multiplier, tick
    DIR/futures/<root>/{bid,ask,bid_size,ask_size,volume[,open_interest,margins]}.parquet
    DIR/truth.json, DIR/truth.npz       of simulated markets
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.atomic import atomic_directory
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.model import MarketData, SimulatedTruth
from crosswind.solvers.errors import DataGap

__all__ = ["FORMAT", "read_events", "read_market", "write_events", "write_market"]

FORMAT = 1
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


def _put_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps({"format": FORMAT, **content}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _put_events(events: MarketEvents, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for field in FIELDS:
        getattr(events, field).to_parquet(folder / f"{field}.parquet")
    if events.factors is not None:
        events.factors.to_parquet(folder / "factors.parquet")
    meta = {"bucket_s": events.bucket_s, "tz": events.tz, "currency": events.currency, "names": list(events.names)}
    _put_json(folder / "meta.json", {**meta, "factors": events.factors is not None})


def _put_market(data: MarketData, folder: Path) -> None:
    _put_events(data.events, folder / "events")
    for root, quotes in data.futures.items():
        at = folder / "futures" / root
        at.mkdir(parents=True)
        for field in (*_QUOTES, *_BESIDE):
            if getattr(quotes, field) is not None:
                getattr(quotes, field).to_parquet(at / f"{field}.parquet")
        _put_json(at / "meta.json", {"bar_s": quotes.bar_s, "multiplier": quotes.multiplier, "tick": quotes.tick})
    if data.truth is not None:
        _put_truth(data.truth, folder)
    summary = {"source": data.source, "notes": list(data.notes), "truth": data.truth is not None}
    _put_json(folder / "market.json", {**summary, "futures": list(data.futures)})


def _put_truth(truth: SimulatedTruth, folder: Path) -> None:
    arrays = {"rates_per_s": truth.rates_per_s, "matrices": truth.matrices, "covariance": truth.covariance}
    np.savez(folder / "truth.npz", allow_pickle=False, **arrays)
    labels = {
        "names": list(truth.names),
        "sectors": [str(s) for s in truth.sectors],
        "betas": [float(b) for b in truth.betas],
        "seed": int(truth.seed),
        "parameters": {k: _plain(v) for k, v in truth.parameters.items()},
    }
    _put_json(folder / "truth.json", labels)


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: arrays become lists, what it does not know becomes text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _get_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataGap(
            "the file is absent", field="file", value=str(path), remedy="give a folder written by .to_parquet()"
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataGap(
            "written by another version of the layout",
            field="file",
            value=str(path),
            remedy=f"write it again; this version reads format {FORMAT}",
        )
    return content


def _unreadable(path: Path, error: Exception) -> DataGap:
    return DataGap(f"unreadable ({error})", field="file", value=str(path), remedy="write the folder again")


def _get_frame(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataGap("the file is absent", field="file", value=str(path), remedy="write the folder again") from error
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise _unreadable(path, error) from error


def read_events(folder: Path) -> MarketEvents:
    """Read what :func:`write_events` wrote.

    Raises
    ------
    DataGap
        If a file is absent, damaged or of another format.
    """
    meta = _get_json(folder / "meta.json")
    fields: dict[str, Any] = {field: _get_frame(folder / f"{field}.parquet") for field in FIELDS}
    if _need(meta, "factors", folder / "meta.json"):
        fields["factors"] = _get_frame(folder / "factors.parquet")
    return MarketEvents(**fields, **{k: _need(meta, k, folder / "meta.json") for k in ("bucket_s", "tz", "currency")})


def _need(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise DataGap(f"the entry {key!r} is absent", field="file", value=str(path), remedy="write the folder again")
    return content[key]


def read_market(folder: Path) -> MarketData:
    """Read what :func:`write_market` wrote.

    Raises
    ------
    DataGap
        If a file is absent, damaged or of another format.
    """
    top = folder / "market.json"
    content = _get_json(top)
    futures = {}
    for root in _need(content, "futures", top):
        at = folder / "futures" / root
        meta = _get_json(at / "meta.json")
        frames: dict[str, Any] = {field: _get_frame(at / f"{field}.parquet") for field in _QUOTES}
        terms = {k: _need(meta, k, at / "meta.json") for k in ("bar_s", "multiplier", "tick")}
        frames |= {f: _get_frame(at / f"{f}.parquet") for f in _BESIDE if (at / f"{f}.parquet").is_file()}
        futures[root] = FuturesQuotes(root=root, **frames, **terms)
    truth = _get_truth(folder) if _need(content, "truth", top) else None
    events = read_events(folder / "events")
    return MarketData(events, futures, truth, _need(content, "source", top), tuple(_need(content, "notes", top)))


def _get_truth(folder: Path) -> SimulatedTruth:
    path = folder / "truth.json"
    labels = _get_json(path)
    names = pd.Index(_need(labels, "names", path), dtype=object)
    try:
        with np.load(folder / "truth.npz", allow_pickle=False) as arrays:
            held = {k: arrays[k] for k in ("rates_per_s", "matrices", "covariance")}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataGap(
            f"absent or unreadable ({error})", field="file", value=str(folder / "truth.npz"), remedy="write it again"
        ) from error
    return SimulatedTruth(
        **held,
        sectors=pd.Series(_need(labels, "sectors", path), index=names, dtype=object),
        betas=pd.Series(_need(labels, "betas", path), index=names, dtype=np.float64),
        seed=_need(labels, "seed", path),
        parameters=_need(labels, "parameters", path),
    )
