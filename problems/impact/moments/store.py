"""One file per `ImpactMoments`: arrays and a description in JSON, no pickles, every array checked when read."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from crosswind.problems.atomic import atomic_file
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.moments.blocks import Block
from crosswind.problems.impact.moments.data import ImpactMoments
from crosswind.problems.impact.moments.sums import Sums
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["load_moments", "save_moments"]

FORMAT = 1
_ARRAYS = ("ZZ", "rZ", "fZ", "rr", "fr", "ff", "uu")
_SYMMETRIC = ("ZZ", "rr", "ff", "uu")


def save_moments(moments: ImpactMoments, path: Path) -> None:
    """Write ``moments`` as ``path``, atomically.

    Raises
    ------
    InvalidInput
        ``path`` cannot be written.
    """
    d = moments.dictionary
    meta = {
        "format": FORMAT,
        "names": moments.names,
        "currency": moments.currency,
        "factors": moments.factors,
        "half_life_days": moments.half_life_days,
        "block_s": moments.block_s,
        "dictionary": {"family": d.family, "bucket_s": d.bucket_s, "rates_per_s": d.rates_per_s, "lags": d.lags},
        "blocks": [
            {
                "days": [day.isoformat() for day in b.days],
                "part": b.part,
                "rows": b.sums.rows,
                "weight": b.sums.weight,
                "square": b.sums.square,
                "left_out": dict(b.left_out),
            }
            for b in moments.blocks
        ],
    }
    arrays = {f"{name}_{k}": getattr(b.sums, name) for k, b in enumerate(moments.blocks) for name in _ARRAYS}
    with atomic_file(path) as work, work.open("wb") as stream:
        np.savez(stream, meta=np.array(json.dumps(meta)), allow_pickle=False, **arrays)


def load_moments(path: Path) -> ImpactMoments:
    """Read what :func:`save_moments` wrote.

    Raises
    ------
    DataGap
        The file is absent.
    InvalidInput
        It does not hold moments, or damaged ones.
    """
    if not path.is_file():
        raise DataGap("no such file", field="path", value=str(path), remedy="save moments first")
    try:
        with np.load(path, allow_pickle=False) as held:
            meta = json.loads(str(held["meta"]))
            if meta["format"] != FORMAT:
                raise ValueError(f"format {meta['format']}")
            told = meta["dictionary"]
            dictionary = Dictionary(
                told["family"], float(told["bucket_s"]), tuple(told["rates_per_s"]), tuple(told["lags"])
            )
            names, factors = tuple(meta["names"]), tuple(meta["factors"])
            empty = Sums.empty(len(names), dictionary.size, len(factors))
            blocks = tuple(_block(k, one, held, empty) for k, one in enumerate(meta["blocks"]))
        return ImpactMoments(
            names, dictionary, str(meta["currency"]), factors, blocks, meta["half_life_days"], meta["block_s"]
        )
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"does not hold impact moments of this version: {error}",
            field="path",
            value=str(path),
            remedy="sum the events again and save",
        ) from error


def _block(k: int, told: dict[str, Any], held: Any, like: Sums) -> Block:
    arrays = {name: np.asarray(held[f"{name}_{k}"], dtype=np.float64) for name in _ARRAYS}
    for name, array in arrays.items():
        if array.shape != getattr(like, name).shape:
            raise ValueError(f"{name} of block {k} has shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of block {k} is not finite")
        if name in _SYMMETRIC and not (np.array_equal(array, array.T) and (np.diag(array) >= 0).all()):
            raise ValueError(f"{name} of block {k} is no sum of squares")
    days = tuple(dt.date.fromisoformat(day) for day in told["days"])
    rows, weight, square = int(told["rows"]), float(told["weight"]), float(told["square"])
    if not days or list(days) != sorted(days) or rows < 0 or not (0 <= weight <= rows and 0 <= square <= weight):
        raise ValueError(f"block {k} has {rows} rows of weight {weight}")
    counts = {str(reason): int(n) for reason, n in told["left_out"].items()}
    return Block(days, int(told["part"]), Sums(rows, weight, square, **arrays), counts)
