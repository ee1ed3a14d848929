"""What lies beside the events in the toolkit's own layout: bars, funding, spreads, the desk's orders, the report."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.market.model import Bars, FundingRates, MarketData
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.spread_quotes import SpreadQuotes
from crosswind.problems.market.store_files import get_arrays, get_frame, get_json, need, put_json, unreadable
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market.simulator.desk import DeskOrder, DeskOrders

__all__ = ["contents", "get_records", "put_records"]

_KINDS: dict[str, type] = {"bars": Bars, "funding": FundingRates, "spreads": SpreadQuotes}
_PRICES = ("mid", "spread")


def contents(data: MarketData) -> dict[str, Any]:
    """Return what market.json tells of the parts written by :func:`put_records`."""
    counts = {kind: len(getattr(data, kind)) for kind in _KINDS}
    return {**counts, "desk": data.desk is not None, "report": data.report is not None}


def put_records(data: MarketData, folder: Path) -> None:
    """Write the parts of ``data`` beside the events and futures below ``folder``."""
    for kind in _KINDS:
        # Keys may hold any character, so folders are numbered and the key stands inside.
        for k, (key, record) in enumerate(getattr(data, kind).items()):
            _put_record(key, record, folder / kind / f"{k:04d}")
    if data.desk is not None:
        _put_desk(data.desk, folder)
    if data.report is not None:
        put_json(folder / "report.json", data.report.to_dict())


def get_records(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments of MarketData that :func:`put_records` wrote.

    Raises
    ------
    DataGap
        If a file is absent or damaged.
    """
    out: dict[str, Any] = {}
    for kind, type_ in _KINDS.items():
        number = content.get(kind, 0)
        if not isinstance(number, int):
            raise unreadable(folder / "market.json", ValueError(f"{number!r} is no number of {kind}"))
        pairs = [_get_record(type_, folder / kind / f"{k:04d}") for k in range(number)]
        out[kind] = dict(pairs)
    out["desk"] = _get_desk(folder) if content.get("desk") else None
    if content.get("report"):
        path = folder / "report.json"
        told = get_json(path)
        try:
            out["report"] = ReadReport.from_dict(told)
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(path, error) from error
    return out


def _put_record(key: str, record: Any, folder: Path) -> None:
    """Write a record of tables, series and numbers: each table a file, all else in meta.json."""
    folder.mkdir(parents=True)
    meta: dict[str, Any] = {"key": key}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, pd.Series):
            value.to_frame(field.name).to_parquet(folder / f"{field.name}.parquet")
        elif isinstance(value, pd.DataFrame):
            value.to_parquet(folder / f"{field.name}.parquet")
        else:
            meta[field.name] = value
    put_json(folder / "meta.json", meta)


def _get_record(type_: type[Any], folder: Path) -> tuple[str, Any]:
    path = folder / "meta.json"
    meta = get_json(path)
    values: dict[str, Any] = {}
    for field in fields(type_):
        if field.name in meta:
            values[field.name] = meta[field.name]
            continue
        table = get_frame(folder / f"{field.name}.parquet")
        values[field.name] = table[field.name] if "Series" in str(field.type) else table
    return need(meta, "key", path), type_(**values)


def _put_desk(desk: DeskOrders, folder: Path) -> None:
    arrays: dict[str, Any] = {}
    told = []
    for k, order in enumerate(desk.orders):
        frames = {"plan": order.plan, "fills": order.fills}
        frames |= {p: getattr(order, p) for p in _PRICES if getattr(order, p) is not None}
        frames |= {f"revision{at}": plan for at, plan in order.revisions}
        arrays |= {f"{k}/{name}": frame.to_numpy() for name, frame in frames.items()}
        told.append(
            {
                "name": order.name,
                "names": list(order.plan.columns),
                "start_ns": int(order.start.value),
                "end_ns": int(order.end.value),
                "slice_s": order.slice_s,
                "kind": order.kind,
                "cancelled_at": None if order.cancelled_at is None else int(order.cancelled_at),
                "revisions": [int(at) for at, _ in order.revisions],
            }
        )
    np.savez(folder / "desk.npz", allow_pickle=False, **arrays)
    put_json(folder / "desk.json", {"orders": told})


def _get_desk(folder: Path) -> DeskOrders:
    from crosswind.problems.market.simulator.desk import DeskOrders

    path = folder / "desk.json"
    told, arrays = need(get_json(path), "orders", path), get_arrays(folder / "desk.npz")
    try:
        return DeskOrders(tuple(_order(k, one, arrays) for k, one in enumerate(told)))
    except (KeyError, TypeError, ValueError, InvalidInput) as error:
        raise unreadable(path, error) from error


def _order(k: int, told: dict[str, Any], arrays: dict[str, Any]) -> DeskOrder:
    from crosswind.problems.market.simulator.desk import DeskOrder

    start, names = told["start_ns"], pd.Index(told["names"], dtype=object)
    step = round(told["slice_s"] * 1e9)
    slices = start + step * np.arange(len(arrays[f"{k}/plan"]), dtype=np.int64)
    index = pd.DatetimeIndex(slices, tz="UTC").as_unit("ns")

    def frame(name: str) -> pd.DataFrame:
        return pd.DataFrame(arrays[f"{k}/{name}"], index=index, columns=names)

    prices = {p: frame(p) for p in _PRICES if f"{k}/{p}" in arrays}
    return DeskOrder(
        name=told["name"],
        start=pd.Timestamp(start, unit="ns", tz="UTC"),
        end=pd.Timestamp(told["end_ns"], unit="ns", tz="UTC"),
        slice_s=told["slice_s"],
        plan=frame("plan"),
        fills=frame("fills"),
        revisions=tuple((at, frame(f"revision{at}")) for at in told["revisions"]),
        cancelled_at=told["cancelled_at"],
        kind=told["kind"],
        **prices,
    )
