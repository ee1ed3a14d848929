"""A base model and its multipliers by state: `RegimeModel.at(state)` is an ordinary impact model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.regimes.state import FEATURES, StateNorms, market_state
from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["RegimeModel", "bucket_codes", "scaled"]

Array = NDArray[np.float64]


def scaled(model: ImpactModel, factor: float) -> ImpactModel:
    """Return ``factor`` × every K_m: symmetry, PSD, the correlation bound and decay hold as before for factor ≥ 0.

    Raises
    ------
    InvalidInput
        A factor that is negative or not finite.
    """
    if not (np.isfinite(factor) and factor >= 0):
        raise InvalidInput("must be finite and ≥ 0", field="factor", value=factor)
    return replace(model, matrices=factor * model.matrices)


def bucket_codes(values: Array, edges: Array) -> NDArray[np.int64]:
    """Return the bucket of each value, 0 … len(edges); −1 where the value is NaN."""
    codes = np.searchsorted(edges, values, side="right").astype(np.int64)
    return np.where(np.isfinite(values), codes, -1)


@dataclass(frozen=True, eq=False)
class RegimeModel:
    """Impact as structure × state: G_h(t) = s(state_t) Σ_m φ_m(h) K_m, s = level + Σ_f effect_f[bucket].

    Attributes
    ----------
    base
        The model whose structure is kept.
    norms
        What is usual for each name, and the memory of the state.
    edges
        Feature → inner edges of its buckets, ascending: quantiles of the training state.
    level
        Multiplier at the average state of the training, 1 where the base model is right on average.
    effects
        Feature → additive effect of each of its buckets; they average to 0, weighted by predicted impact.
    lower, upper
        Block-bootstrap interval of the level and the effects: "level" and feature → (B,).
    bounds
        (lo, hi): the multiplier stays within in every state.
    shrinkage
        λ that was used; inf: the data did not support any scaling.
    noise
        Residual variance of each name's return per bucket (N,).
    returns_map, loadings, flow_map
        First stage of the base, r̃ = Q r − L f and ũ = P u: Q (N, N), L (N, F), P (N, N); None for what it leaves.
    confidence
        Coverage asked of the intervals.
    rows
        Buckets of the fit.
    """

    base: ImpactModel
    norms: StateNorms
    edges: Mapping[str, Array]
    level: float
    effects: Mapping[str, Array]
    lower: Mapping[str, Array]
    upper: Mapping[str, Array]
    bounds: tuple[float, float]
    shrinkage: float
    noise: Array
    returns_map: Array | None
    loadings: Array | None
    flow_map: Array | None
    confidence: float
    rows: int

    def factors(self, state: Mapping[str, Any] | pd.Series) -> dict[str, float]:
        """Return the level and each feature's effect in a state; a feature that is unknown (NaN, absent) adds 0.

        Raises
        ------
        InvalidInput
            A key that is no feature, or a value that is no number.
        """
        given = {str(k): state[k] for k in state.keys()}  # noqa: SIM118 - a Series iterates over its values
        unknown = sorted(set(given) - set(FEATURES))
        if unknown:
            raise InvalidInput(
                "is no feature of the state", field="state", value=unknown, remedy=f"use {', '.join(FEATURES)}"
            )
        out = {"level": self.level}
        for feature, effect in self.effects.items():
            try:
                value = np.array([float(given.get(feature, np.nan))])
            except (TypeError, ValueError) as error:
                raise InvalidInput("is not a number", field=f"state[{feature}]", value=given[feature]) from error
            code = int(bucket_codes(value, self.edges[feature])[0])
            out[feature] = 0.0 if code < 0 else float(effect[code])
        return out

    def multiplier(self, state: Mapping[str, Any] | pd.Series) -> float:
        """Return s(state), within the bounds."""
        return float(np.clip(sum(self.factors(state).values()), *self.bounds))

    def at(self, state: Mapping[str, Any] | pd.Series) -> ImpactModel:
        """Return the impact model of a state: the base times s(state), with every constraint of the base.

        Parameters
        ----------
        state
            Feature → value, e.g. a row of `state` or ``{"depth": -0.7}`` (books half as deep as usual).
        """
        return scaled(self.base, self.multiplier(state))

    def floor_at(self, floor: pd.Series | float, state: Mapping[str, Any] | pd.Series) -> Any:
        """Return the floor of self-impact in a state: it scales as the model does."""
        return floor * self.multiplier(state)

    def state(self, events: MarketEvents) -> pd.DataFrame:
        """Return the state before each bucket, T × features."""
        return market_state(events, self.norms)

    def multipliers(self, events: MarketEvents) -> pd.Series:
        """Return s_t by bucket (T,), each from the buckets before it."""
        state = self.state(events)
        total = np.full(len(state), self.level)
        for feature, effect in self.effects.items():
            code = bucket_codes(state[feature].to_numpy(), self.edges[feature])
            total += np.where(code >= 0, effect[code], 0.0)
        return pd.Series(np.clip(total, *self.bounds), index=state.index, name="multiplier")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per feature and bucket: its range, its effect, interval and the multiplier it gives alone."""
        rows = []
        level: dict[str, Any] = {"feature": "level", "bucket": 0, "from": np.nan, "to": np.nan, "effect": self.level}
        level |= {"lower": float(self.lower["level"][0]), "upper": float(self.upper["level"][0])}
        rows.append(level | {"multiplier": self.level})
        for feature, effect in self.effects.items():
            ends = np.concatenate([[-np.inf], self.edges[feature], [np.inf]])
            for b, value in enumerate(effect):
                row = {"feature": feature, "bucket": b, "from": ends[b], "to": ends[b + 1], "effect": float(value)}
                row |= {"lower": float(self.lower[feature][b]), "upper": float(self.upper[feature][b])}
                rows.append(row | {"multiplier": self.level + float(value)})
        return pd.DataFrame(rows).set_index(["feature", "bucket"])

    def summary(self) -> str:
        """Return a few lines: level, range by feature, shrinkage."""
        low, high = float(self.lower["level"][0]), float(self.upper["level"][0])
        interval = f" ({self.confidence:.0%} {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
        if np.isinf(self.shrinkage):
            interval = ": the data do not support scaling"
        lines = [
            f"impact of {len(self.base.names)} names by state, {self.rows} buckets, shrinkage {self.shrinkage:g}",
            f"  level            {self.level:.3f}{interval}",
        ]
        for feature, effect in self.effects.items():
            values = " ".join(f"{v:+.2f}" for v in effect)
            lines.append(f"  {feature:<16} {values}")
        lines.append(f"  bounds           {self.bounds[0]:g} to {self.bounds[1]:g}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a plotly figure: the multiplier by bucket of each feature, others at their average, with intervals."""
        go = graph_objects()
        fig = figure(
            "Impact multiplier by state, other features at their average",
            "bucket of the feature (0 lowest; quantiles of the training)",
            "multiplier of the base model, no unit",
        )
        for k, (feature, effect) in enumerate(self.effects.items()):
            fig.add_trace(
                go.Scatter(
                    x=list(range(len(effect))),
                    y=self.level + effect,
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": np.maximum(self.upper[feature] - effect, 0.0),
                        "arrayminus": np.maximum(effect - self.lower[feature], 0.0),
                    },
                    mode="lines+markers",
                    name=feature,
                    line={"color": PALETTE[k % len(PALETTE)]},
                )
            )
        fig.add_hline(y=1.0, line_dash="dot", line_color="#777")
        return fig

    def save(self, path: str | Path) -> None:
        """Write base and multipliers to one .npz file, atomically; `load` gives back the same bits."""
        from crosswind.problems.impact.regimes.storage import write_regime_model

        write_regime_model(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> RegimeModel:
        """Read a model written by `save`.

        Raises
        ------
        DataGap
            The file is absent.
        InvalidInput
            The file is not a saved regime model.
        """
        from crosswind.problems.impact.regimes.storage import read_regime_model

        return read_regime_model(Path(path))

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>{self.to_frame().round(3).to_html()}"
