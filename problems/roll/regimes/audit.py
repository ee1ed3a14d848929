"""What the machine writes down: every change of regime with its cause, and every input that it could not use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crosswind.problems.roll.model import Regime

__all__ = ["RegimeNote", "RegimeTransition"]


@dataclass(frozen=True)
class RegimeTransition:
    """One change of regime.

    Parameters
    ----------
    time
        End of the bar at which it happened, UTC.
    source, target
        From which regime into which.
    trigger
        Name of the trigger that called for the target ("deadline", "late" for DEADLINE); on a way down the one that
        now holds the target, and for PRE_ROLL those that let go, joined by "+", with "released " before.
    value
        Metric of that trigger at the time (minutes left for "deadline"); NaN where not known.
    threshold
        What it was held against; of those that let go, the leaving one of the first.
    metrics
        All metrics at the time.
    minutes_left
        Until the cutoff.
    active
        Names of all triggers that held.
    held_s
        For how long ``source`` had lasted [s].
    """

    time: pd.Timestamp
    source: Regime
    target: Regime
    trigger: str
    value: float
    threshold: float
    metrics: Mapping[str, float]
    minutes_left: float
    active: tuple[str, ...]
    held_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            **vars(self),
            "time": self.time.isoformat(),
            "source": self.source.name,
            "target": self.target.name,
            "metrics": dict(self.metrics),
            "active": list(self.active),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> RegimeTransition:
        """Return what :meth:`to_dict` wrote."""
        return cls(
            **{
                **row,
                "time": pd.Timestamp(row["time"]),
                "source": Regime[row["source"]],
                "target": Regime[row["target"]],
                "metrics": dict(row["metrics"]),
                "active": tuple(row["active"]),
            }
        )

    def text(self) -> str:
        """Return the change in a line."""
        why = f"{self.trigger}: {self.value:.4g} against {self.threshold:.4g}"
        return f"{self.time:%Y-%m-%d %H:%M:%S} UTC  {self.source.name} → {self.target.name}  {why}, {self.held_s:.0f} s"


@dataclass(frozen=True)
class RegimeNote:
    """An input that the machine could not use, or could not use fully; the regime stayed.

    Parameters
    ----------
    time
        The step's time, UTC.
    kind
        "clock back", "repeat", "gap", "unknown" (a metric ceased to be known), "known" (it is known again), "after
        deadline".
    text
        In words.
    """

    time: pd.Timestamp
    kind: str
    text: str
