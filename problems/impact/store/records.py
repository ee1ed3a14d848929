"""What a stored model says of itself, and the digest of the events it was fitted on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["StoredModel", "check_slot", "events_digest", "json_value"]

_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_slot(value: Any, field: str) -> str:
    """Return the name of an asset class or regime, which becomes a folder: letters, digits, dot, dash, underscore.

    Raises
    ------
    InvalidInput
        Otherwise, and when it is longer than 64 characters.
    """
    if not isinstance(value, str) or not _SLOT.fullmatch(value) or value.endswith("."):
        raise InvalidInput(
            "is not a name for a folder", field=field, value=value, remedy="use letters, digits, '.', '-' and '_'"
        )
    return value


def events_digest(events: MarketEvents) -> str:
    """Return the SHA-256 (hex) of all that a fit can read from the events: times, names, every number, metadata.

    Equal events give equal digests on every platform; one changed bit gives another.
    """
    hasher = hashlib.sha256()
    head = {
        "names": list(events.names),
        "bucket_s": float(events.bucket_s),
        "tz": events.tz,
        "currency": events.currency,
        "factors": None if events.factors is None else [str(c) for c in events.factors.columns],
    }
    hasher.update(json.dumps(head, sort_keys=True).encode())
    hasher.update(np.ascontiguousarray(events.index.asi8, dtype="<i8").tobytes())
    frames = [events.flow, events.mid, events.spread, events.volume, events.depth]
    for frame in [*frames, *([] if events.factors is None else [events.factors])]:
        values = np.ascontiguousarray(frame.to_numpy(dtype=np.float64), dtype="<f8")
        values = np.where(np.isnan(values), np.nan, values)  # NaN has many bit patterns
        hasher.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return hasher.hexdigest()


def json_value(value: Any, field: str) -> Any:
    """Return ``value`` as JSON holds it, exactly enough to set up the same estimator again.

    Series and frames become mappings, a model its digest, inf and NaN their names as text.

    Raises
    ------
    InvalidInput
        For an object without such a form, e.g. a function: the lineage would not tell what it was.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, ImpactModel):
        stacked = np.ascontiguousarray(value.matrices, dtype="<f8").tobytes()
        return {"ImpactModel": hashlib.sha256(stacked).hexdigest(), "names": list(value.names)}
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, pd.Series):
        return {str(k): json_value(v, f"{field}[{k}]") for k, v in value.items()}
    if isinstance(value, pd.DataFrame):
        return {str(c): json_value(value[c], f"{field}[{c}]") for c in value.columns}
    if isinstance(value, np.ndarray):
        return json_value(value.tolist(), field)
    if isinstance(value, Mapping):
        return {str(k): json_value(v, f"{field}[{k}]") for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [json_value(v, f"{field}[{k}]") for k, v in enumerate(items)]
    if hasattr(value, "get_params"):
        return {type(value).__name__: json_value(value.get_params(), field)}
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        return {type(value).__name__: json_value(held, field)}
    raise InvalidInput(
        "cannot be written down as JSON",
        field=field,
        value=type(value).__name__,
        remedy="pass numbers, texts, lists, mappings, pandas objects or impact models",
    )


@dataclass(frozen=True, eq=False)
class StoredModel:
    """One version of one model, with all that tells where it came from.

    Attributes
    ----------
    asset_class, regime, version
        Its place; versions count from 1 within the place.
    state
        "candidate", "live" or "retired".
    model
        The model, bit for bit as it was put.
    created
        When it was put [UTC].
    data_start, data_end
        First and last bucket of the events it was fitted on [UTC]; None where it was put without events.
    data_hash
        `events_digest` of these events, or what the caller gave.
    parent
        Version it descends from; None for a first one.
    estimator, parameters
        Class name and ``get_params()`` of the estimator.
    code_version
        Version of the code that fitted it.
    seed
        Seed of the fit, where there was one.
    note
        Free text.
    model_hash
        SHA-256 of the model's file.
    age
        Time since ``data_end`` (since ``created`` without events) when it was read.
    """

    asset_class: str
    regime: str
    version: int
    state: str
    model: ImpactModel
    created: pd.Timestamp
    data_start: pd.Timestamp | None
    data_end: pd.Timestamp | None
    data_hash: str | None
    parent: int | None
    estimator: str | None
    parameters: Mapping[str, Any]
    code_version: str
    seed: int | None
    note: str
    model_hash: str
    age: pd.Timedelta

    def to_frame(self) -> pd.DataFrame:
        """Return everything but the model as one column."""
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("model", "parameters")}
        held |= {f"parameters.{k}": v for k, v in self.parameters.items()}
        return pd.DataFrame({"value": pd.Series(held, dtype=object)})

    def summary(self) -> str:
        """Return a few lines: place, state, age, lineage, data."""
        data = "no events" if self.data_end is None else f"{self.data_start} .. {self.data_end}"
        digest = "none" if self.data_hash is None else self.data_hash[:12]
        return "\n".join(
            [
                f"{self.asset_class}/{self.regime} version {self.version} ({self.state}), "
                f"{len(self.model.names)} names",
                f"  put              {self.created}, age of the data {self.age}",
                f"  parent           {self.parent if self.parent is not None else 'none'}",
                f"  data             {data}, SHA-256 {digest}",
                f"  fitted by        {self.estimator or 'unknown'}, code {self.code_version}, seed {self.seed}",
                f"  model            SHA-256 {self.model_hash[:12]}",
            ]
        )

    def plot(self) -> Any:
        """Return the model's figure: normalised impact beside its spectrum."""
        return self.model.plot()

    def __repr__(self) -> str:
        return f"StoredModel({self.asset_class}/{self.regime} version {self.version}, {self.state})"

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"
