"""How far two versions of a model lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.plotting import DIVERGING, figure, graph_objects
from crosswind.solvers.errors import DataGap

__all__ = ["ModelDiff", "model_diff"]


@dataclass(frozen=True, eq=False)
class ModelDiff:
    """Drift between two impact models on the names they share.

    Attributes
    ----------
    names, added, removed
        Names in both, only in the new one, only in the old one.
    drift
        ‖D⁻¹(G_new − G_old)D⁻¹‖_F / ‖D⁻¹ G_old D⁻¹‖_F of the immediate impact, D² = diag G_old: liquidity divided out.
    kernel_drift
        The same over a grid of lags from 0 to the memory of the slower model: decay counts too.
    self_ratio
        G_new,ii / G_old,ii by name.
    cross_change
        Change of the normalised cross terms C_ij, (n, n), zero diagonal.
    parameters
        What changed in the parameters: one row each, columns "old" and "new".
    """

    names: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    drift: float
    kernel_drift: float
    self_ratio: pd.Series
    cross_change: pd.DataFrame
    parameters: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return one row per shared name: ratio of self-impact and the largest change of a cross term."""
        return pd.DataFrame({"self_ratio": self.self_ratio, "largest_cross_change": self.cross_change.abs().max()})

    def summary(self) -> str:
        """Return a few lines: drift, self-impact, names and parameters."""
        ratio = self.self_ratio
        return "\n".join(
            [
                f"drift {self.drift:.1%} of the immediate impact, {self.kernel_drift:.1%} over all lags, on "
                f"{len(self.names)} shared names",
                f"  self-impact      × {ratio.median():.3f} in the median, {ratio.min():.3f} to {ratio.max():.3f}",
                f"  names            {len(self.added)} added, {len(self.removed)} removed",
                f"  parameters       {', '.join(self.parameters.index) or 'unchanged'}",
            ]
        )

    def plot(self) -> Any:
        """Return a heatmap of the changes of the normalised cross terms."""
        z = self.cross_change.to_numpy()
        size = float(np.abs(z).max()) or 1.0
        fig = figure("Change of cross-impact, new less old, scaled by self-impact", "flow in", "moves")
        fig.add_trace(
            graph_objects().Heatmap(
                z=z,
                x=list(self.names),
                y=list(self.names),
                zmin=-size,
                zmax=size,
                colorscale=[list(step) for step in DIVERGING],
                colorbar={"title": "ΔC<sub>ij</sub>"},
            )
        )
        fig.update_yaxes(autorange="reversed")
        return fig

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>{self.to_frame().round(4).to_html()}"


def model_diff(
    old: ImpactModel,
    new: ImpactModel,
    old_parameters: Mapping[str, Any] | None = None,
    new_parameters: Mapping[str, Any] | None = None,
    lags: int = 25,
) -> ModelDiff:
    """Compare two models; families and rates may differ, since the kernels G_h are compared.

    Raises
    ------
    DataGap
        They share no name.
    """
    names = tuple(n for n in old.names if n in new.names)
    if not names:
        raise DataGap("the models share no name", field="names", value=(old.names[:3], new.names[:3]))
    a, b = old.subset(names), new.subset(names)
    own = np.maximum(np.diag(a.immediate), np.finfo(float).tiny)
    unit = 1.0 / np.sqrt(np.outer(own, own))
    memory = max(_memory_s(a), _memory_s(b))
    grid = np.append(0.0, np.geomspace(min(a.bucket_s, b.bucket_s), memory, lags - 1))
    before, after = a.impact(grid) * unit, b.impact(grid) * unit
    change = b.correlation - a.correlation
    held, wanted = dict(old_parameters or {}), dict(new_parameters or {})
    changed = {
        k: (held.get(k), wanted.get(k)) for k in sorted({*held, *wanted}) if k not in held or held[k] != wanted.get(k)
    }
    return ModelDiff(
        names=names,
        added=tuple(n for n in new.names if n not in old.names),
        removed=tuple(n for n in old.names if n not in new.names),
        drift=_relative(before[0], after[0]),
        kernel_drift=_relative(before, after),
        self_ratio=pd.Series(np.diag(b.immediate) / own, index=list(names), name="self_ratio"),
        cross_change=change,
        parameters=pd.DataFrame(changed, index=["old", "new"], dtype=object).T,
    )


def _relative(old: Any, new: Any) -> float:
    size = float(np.linalg.norm(old))
    return float(np.linalg.norm(new - old)) / size if size > 0 else float("inf") if np.any(new) else 0.0


def _memory_s(model: ImpactModel) -> float:
    return float(max(model.dictionary.memory_buckets, 2) * model.bucket_s)
