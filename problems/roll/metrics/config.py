"""What the roll metrics are computed over: windows, warm-up, the floor of the basis' scale, participation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from crosswind.solvers.errors import InvalidInput

__all__ = ["METRICS", "NS", "RollMetricsConfig"]

NS = 1_000_000_000
METRICS = ("rpc", "cde", "bdz", "let_s", "rdp")
_WINDOWS = ("rpc_window_s", "cde_window_s", "bdz_window_s", "pace_window_s", "let_window_s")


@dataclass(frozen=True)
class RollMetricsConfig:
    """Windows and scales of the five metrics.

    A window of length W holds the bars that end in (t − W, t]; that of the basis reference those in [t − W, t), without
    the bar that is judged.

    Parameters
    ----------
    rpc_window_s, cde_window_s, bdz_window_s, pace_window_s, let_window_s
        Lengths W [s] for congestion, elasticity, basis reference, executable pace, and memory of finished legging.
    warm
        Share of a window's bars that must be known, in (0, 1]; below it the metric is NaN.
    robust
        Whether the basis reference is median and 1.4826 · MAD; else mean and standard deviation.
    sigma_floor_points
        Least scale of the basis [points]; None: tick/√12, the rounding noise of a quote: a book that has not moved
        for a while must not make one tick a dislocation.
    cde_least_share
        Elasticity is NaN where aggressors took no more than this share of the depth before, >= 0: what they took is
        then smaller than the book's own noise.
    participation
        Share of the fillable volume that the order can count on, in (0, 1].
    fillable
        Which volume is fillable: "passive", what aggressors send against the order's own side; "all", both sides.
    max_gap_s
        Bars further apart than this are a gap [s]: counted, and depth is not compared across it. None: three bars.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    rpc_window_s: float = 300.0
    cde_window_s: float = 300.0
    bdz_window_s: float = 1800.0
    pace_window_s: float = 600.0
    let_window_s: float = 600.0
    warm: float = 0.5
    robust: bool = False
    sigma_floor_points: float | None = None
    cde_least_share: float = 0.1
    participation: float = 0.1
    fillable: Literal["passive", "all"] = "passive"
    max_gap_s: float | None = None

    def __post_init__(self) -> None:
        for name in _WINDOWS:
            _check(name, getattr(self, name), lower=1e-9)
        _check("warm", self.warm, lower=1e-9, upper=1.0)
        _check("participation", self.participation, lower=1e-9, upper=1.0)
        _check("cde_least_share", self.cde_least_share, lower=0.0)
        for name in ("sigma_floor_points", "max_gap_s"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), lower=1e-12)
        if not isinstance(self.robust, bool):
            raise InvalidInput("is not a truth value", field="robust", value=self.robust, remedy="pass True or False")
        if self.fillable not in ("passive", "all"):
            raise InvalidInput("is unknown", field="fillable", value=self.fillable, remedy="pass 'passive' or 'all'")

    def least(self, window_s: float, bar_s: float) -> int:
        """Return how many bars of a window must be known, at least 1."""
        return max(1, math.ceil(self.warm * window_s / bar_s - 1e-9))

    def floor(self, tick: float) -> float:
        """Return the least scale of the basis [points]."""
        return tick / math.sqrt(12.0) if self.sigma_floor_points is None else self.sigma_floor_points

    def gap_ns(self, bar_s: float) -> int:
        """Return the greatest distance of two bars that is no gap [ns]."""
        return round((3.0 * bar_s if self.max_gap_s is None else self.max_gap_s) * NS)


def _check(name: str, value: object, lower: float, upper: float = math.inf) -> None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not lower <= float(value) <= upper:  # type: ignore[arg-type]
        raise InvalidInput(
            "is out of range", field=name, value=value, remedy=f"pass a finite number from {lower:g} to {upper:g}"
        )
