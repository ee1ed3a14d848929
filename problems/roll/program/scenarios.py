"""What may happen until the cutoff: S scenarios over T slices, seen from the order's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.model import FloatArray
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollScenarios"]

_GRIDS = ("drift", "half_width", "depth", "leg_half", "leg_depth", "second_half", "second_move", "second_fill")

_RESTING = ("rest_drift", "rest_half")


@dataclass(frozen=True, eq=False)
class RollScenarios:
    """Scenarios of the spread book, the legs' books and the basis over the slices that are left.

    Everything is seen from the order's side: prices and moves are signed so that positive is against the order, the
    resting side is the order's own. Slice t runs from its start to the start of slice t + 1; column T is the cutoff.

    Parameters
    ----------
    dt_s
        Lengths of the slices (T,), > 0 [s].
    probabilities
        (S,) ≥ 0, summing to 1 up to 1e-9; scenarios with zero are kept and weigh nothing.
    drift
        Move of the spread's mid since now at the slices' starts (S, T + 1), against the order > 0 [points]; column 0
        is 0.
    half_width
        Half of the quoted width there (S, T + 1), ≥ 0 [points].
    depth
        Contracts that the order can take per price step of the side it crosses (S, T + 1), > 0.
    flow
        Contracts that reach the order's own resting contracts within the slice, whatever stands ahead taken off
        (S, T), ≥ 0; inf where the book trades through them.
    rest_drift
        Move of the spread's mid since now at the moment of those fills (S, T), against the order > 0 [points].
    rest_half
        By how much their price is better than that mid (S, T) [points]; below zero where the book had come through it.
    volume
        Spreads that others trade within a slice, expected (T,), ≥ 0 [contracts].
    leg_half
        Cost of crossing both legs at once above the spread's mid (S, T + 1) [points]: half-spreads of both, and what
        the legs' mids stand off the spread's.
    leg_depth
        Contracts per price step of the thinner leg (S, T + 1), > 0.
    second_half
        Half-spread of the second leg (S, T + 1), ≥ 0 [points].
    second_move
        Move of the second leg's mid against the order from the slice's start to its end (S, T + 1) [points].
    second_fill
        Share of the second legs that fill at rest within the slice (S, T + 1), 0 … 1.
    levels
        Prices of the spread book that the forced cross can reach.
    tick, leg_tick
        Price steps [points].
    multiplier
        Currency per point and contract.
    refill_half_life_s
        Half of what we took is offered again after this time [s]; inf: never.
    source
        How they were made, in words.
    facts
        Anything worth printing.

    Raises
    ------
    InvalidInput
        Without a slice or a scenario, on NaN, other shapes, negative widths or probabilities, a slice of no length.
    """

    dt_s: FloatArray
    probabilities: FloatArray
    drift: FloatArray
    half_width: FloatArray
    depth: FloatArray
    flow: FloatArray
    rest_drift: FloatArray
    rest_half: FloatArray
    volume: FloatArray
    leg_half: FloatArray
    leg_depth: FloatArray
    second_half: FloatArray
    second_move: FloatArray
    second_fill: FloatArray
    levels: int
    tick: float
    leg_tick: float
    multiplier: float
    refill_half_life_s: float
    source: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dt = _array("dt_s", self.dt_s, (np.size(self.dt_s),), np.nextafter(0.0, 1.0))
        T = len(dt)
        if T == 0:
            raise InvalidInput("holds no slice", field="dt_s", value=0, remedy="leave at least one before the cutoff")
        S = np.size(self.probabilities)
        if S == 0:
            raise InvalidInput("there is no scenario", field="probabilities", value=0, remedy="draw at least one")
        object.__setattr__(self, "dt_s", dt)
        p = _array("probabilities", self.probabilities, (S,), 0.0)
        if abs(float(p.sum()) - 1.0) > 1e-9:
            raise InvalidInput(
                "do not sum to 1", field="probabilities", value=float(p.sum()), remedy="divide by their sum"
            )
        object.__setattr__(self, "probabilities", p)
        least = {"drift": None, "leg_half": None, "second_move": None, "depth": 1e-9, "leg_depth": 1e-9}
        for name in _GRIDS:
            object.__setattr__(self, name, _array(name, getattr(self, name), (S, T + 1), least.get(name, 0.0)))
        object.__setattr__(self, "flow", _array("flow", self.flow, (S, T), 0.0, endless=True))
        for name in _RESTING:
            object.__setattr__(self, name, _array(name, getattr(self, name), (S, T), None))
        object.__setattr__(self, "volume", _array("volume", self.volume, (T,), 0.0))
        if self.second_fill.max() > 1.0:
            raise InvalidInput(
                "is above 1", field="second_fill", value=float(self.second_fill.max()), remedy="it is a share"
            )
        if np.abs(self.drift[:, 0]).max() > 0.0:
            raise InvalidInput(
                "does not begin at 0", field="drift", value=float(self.drift[0, 0]), remedy="measure it from now"
            )
        for name in ("tick", "leg_tick", "multiplier"):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value > 0.0):
                raise InvalidInput("must be positive and finite", field=name, value=value, remedy="see the contract")
        if not float(self.refill_half_life_s) > 0.0:
            raise InvalidInput(
                "must be positive", field="refill_half_life_s", value=self.refill_half_life_s, remedy="inf: never"
            )
        if int(self.levels) < 1:
            raise InvalidInput("is below 1", field="levels", value=self.levels, remedy="the best price counts")
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def count(self) -> int:
        """S."""
        return len(self.probabilities)

    @property
    def slices(self) -> int:
        """T."""
        return len(self.dt_s)

    def fill_fraction(self, quantity: float) -> FloatArray:
        """Return the share of ``quantity`` resting contracts that fills within each slice (S, T), the first ones first.

        Shares refer to what still rests at the slice's start.
        """
        done = np.minimum(np.cumsum(self.flow, axis=1), quantity)
        before = np.column_stack([np.zeros(self.count), done[:, :-1]])
        left = quantity - before
        return np.asarray(np.divide(done - before, left, out=np.ones_like(left), where=left > 0.0))

    def capacity(self) -> FloatArray:
        """Return the spreads that the forced cross can do in each scenario (S,) [contracts]."""
        return np.asarray(self.levels * self.depth[:, -1])

    def take(self, rows: Any) -> RollScenarios:
        """Return some scenarios, their probabilities normalised; with a repetition they weigh more."""
        index = np.atleast_1d(np.asarray(rows))
        p = self.probabilities[index]
        if p.sum() <= 0.0:
            raise InvalidInput("have no probability", field="rows", value=len(index), remedy="take one that can happen")
        grids = {name: getattr(self, name)[index] for name in _GRIDS + _RESTING}
        return replace(self, probabilities=p / p.sum(), flow=self.flow[index], **grids)

    def mean(self) -> RollScenarios:
        """Return the one scenario of the means (medians of the flow): what a plan without scenarios looks at."""
        p = self.probabilities
        grids = {name: (p @ getattr(self, name))[None] for name in _GRIDS + _RESTING}
        flow = np.median(np.minimum(self.flow, 1e9), axis=0)[None]
        return replace(self, probabilities=np.ones(1), flow=flow, source=f"means of: {self.source}", **grids)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per slice: probability-weighted mean and 5–95 % band of drift, width, depth and flow."""
        rows: dict[str, Any] = {"start_s": np.append(0.0, np.cumsum(self.dt_s))[:-1], "volume": self.volume}
        for name in ("drift", "half_width", "depth", "flow"):
            values = np.minimum(getattr(self, name)[:, : self.slices], 1e9)
            rows[f"{name}_mean"] = self.probabilities @ values
            rows[f"{name}_q05"], rows[f"{name}_q95"] = np.quantile(values, (0.05, 0.95), axis=0)
        return pd.DataFrame(rows).rename_axis("slice")

    def summary(self) -> str:
        """Return a few lines: how many, how made, what they say about the cutoff."""
        end = self.drift[:, -1] * self.multiplier
        return "\n".join(
            [
                f"{self.count} scenarios × {self.slices} slices of {self.dt_s.mean():.0f} s ({self.source})",
                f"  basis move to the cutoff: sd {end.std():.2f}, 95 % {np.quantile(end, 0.95):+.2f} currency a spread "
                "(positive: against the order)",
                f"  a resting order of any size is filled in {np.isinf(self.flow).any(axis=1).mean():.0%} of them; "
                f"else {np.median(_finite(self.flow).sum(axis=1)):.0f} contracts reach it in the median",
            ]
        )


def _finite(flow: FloatArray) -> FloatArray:
    return np.where(np.isinf(flow), 0.0, flow)


def _array(name: str, value: Any, shape: tuple[int, ...], least: float | None, *, endless: bool = False) -> FloatArray:
    try:
        out = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), shape), order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"does not have the shape {shape}", field=name, value=np.shape(value), remedy="see RollScenarios"
        ) from error
    bad = np.isnan(out) | (np.isinf(out) & ~(endless & (out > 0.0)))
    if least is not None:
        bad |= out < least
    if bad.any():
        at = tuple(int(k) for k in np.argwhere(bad)[0])
        raise InvalidInput(
            f"{int(bad.sum())} entries are not finite" + ("" if least is None else f" or below {least:g}"),
            field=name,
            value=(at, float(out[at])),
            remedy="repair or drop those scenarios",
        )
    out.flags.writeable = False
    return out
