"""One file for a `RegimeModel`: the base as `ImpactModel.save` writes it, and the table of multipliers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from crosswind.problems.atomic import atomic_file
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.regimes.state import StateNorms
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.regimes.model import RegimeModel

__all__ = ["read_regime_model", "write_regime_model"]

_FORMAT = 1
_NORMS = ("spread", "depth", "volatility", "flow")
_OPTIONAL = ("returns_map", "loadings", "flow_map")


def write_regime_model(model: RegimeModel, path: Path) -> None:
    """Write the model atomically; `read_regime_model` gives back the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        model.base.save(Path(folder) / "base.npz")
        base = (Path(folder) / "base.npz").read_bytes()
    arrays: dict[str, Any] = {"base": np.frombuffer(base, dtype=np.uint8), "noise": model.noise}
    arrays |= {f"norms.{k}": getattr(model.norms, k) for k in _NORMS}
    arrays |= {k: getattr(model, k) for k in _OPTIONAL if getattr(model, k) is not None}
    for kind in ("edges", "effects", "lower", "upper"):
        arrays |= {f"{kind}.{f}": v for f, v in getattr(model, kind).items()}
    meta = {
        "format": _FORMAT,
        "features": list(model.edges),
        "names": model.norms.names,
        "bucket_s": model.norms.bucket_s,
        "half_life_s": model.norms.half_life_s,
        "warmup": model.norms.warmup,
        "tz": model.norms.tz,
        "bounds": model.bounds,
        "confidence": model.confidence,
        "rows": model.rows,
    }
    arrays["numbers"] = np.array([model.level, model.shrinkage])  # bits, and inf, survive
    with atomic_file(path) as place, place.open("wb") as stream:
        np.savez(stream, meta=np.array(json.dumps(meta)), **arrays)


def read_regime_model(path: Path) -> RegimeModel:
    """Read what `write_regime_model` wrote.

    Raises
    ------
    DataGap
        The file is absent.
    InvalidInput
        It is not a saved regime model, or of another layout.
    """
    from crosswind.problems.impact.regimes.model import RegimeModel

    if not path.is_file():
        raise DataGap("no such file", field="path", value=str(path), remedy="save a model first")
    try:
        with np.load(path, allow_pickle=False) as held:
            meta = json.loads(str(held["meta"]))
            arrays = {k: held[k] for k in held.files if k != "meta"}
        if meta["format"] != _FORMAT:
            raise KeyError("format")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "base.npz").write_bytes(arrays["base"].tobytes())
            base = ImpactModel.load(Path(folder) / "base.npz")
        norms = StateNorms(
            names=tuple(meta["names"]),
            **{k: arrays[f"norms.{k}"] for k in _NORMS},
            **{k: meta[k] for k in ("bucket_s", "half_life_s", "warmup", "tz")},
        )
        features = meta["features"]
        tables: dict[str, Any] = {k: {f: arrays[f"{k}.{f}"] for f in features} for k in ("edges", "effects")}
        tables |= {k: {f: arrays[f"{k}.{f}"] for f in ["level", *features]} for k in ("lower", "upper")}
        level, shrinkage = (float(v) for v in arrays["numbers"])
        return RegimeModel(
            base=base,
            norms=norms,
            **tables,
            level=level,
            shrinkage=shrinkage,
            bounds=(float(meta["bounds"][0]), float(meta["bounds"][1])),
            noise=arrays["noise"],
            returns_map=arrays.get("returns_map"),
            loadings=arrays.get("loadings"),
            flow_map=arrays.get("flow_map"),
            confidence=float(meta["confidence"]),
            rows=int(meta["rows"]),
        )
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise InvalidInput(
            "not a saved regime model", field="path", value=str(path), remedy="give a file written by RegimeModel.save"
        ) from error
