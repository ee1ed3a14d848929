"""The machine over a whole session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_utc
from crosswind.problems.roll.metrics.config import METRICS, NS
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.regimes.config import PRIORITY, RegimeConfig
from crosswind.problems.roll.regimes.machine import RegimeMachine
from crosswind.solvers.errors import InvalidInput

__all__ = ["RegimeRun", "run_machine"]


@dataclass(frozen=True, eq=False)
class RegimeRun:
    """Regimes of a session with the audit trail.

    Parameters
    ----------
    regimes
        Bar end → :class:`Regime` from then on.
    machine
        The machine after the last bar.
    """

    regimes: pd.Series[Any]
    machine: RegimeMachine

    @property
    def transitions(self) -> pd.DataFrame:
        """The audit trail."""
        return self.machine.to_frame()

    def shares(self) -> pd.Series[Any]:
        """Return the share of the bars spent in each regime."""
        counts = {r.name: float((self.regimes == r).mean()) for r in PRIORITY}
        return pd.Series(counts, name="share")

    def to_frame(self) -> pd.DataFrame:
        """Return bar end → ``regime`` by name."""
        return pd.DataFrame({"regime": [r.name for r in self.regimes]}, index=self.regimes.index)

    def summary(self) -> str:
        """Return the shares in a line, then a line per change."""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares().items())
        return "\n".join([shares, *(t.text() for t in self.machine.transitions)])


def run_machine(config: RegimeConfig | None, metrics: pd.DataFrame, cutoff: pd.Timestamp) -> RegimeRun:
    """Run a fresh machine over the metrics of a session.

    Parameters
    ----------
    config
        Triggers, dwell and deadline rule; None: those that come with the toolkit.
    metrics
        Bar ends (tz-aware) × the metrics, as from :func:`crosswind.problems.roll.metrics.roll_metrics`; what is
        missing is not known.
    cutoff
        End of the roll, tz-aware.

    Raises
    ------
    InvalidInput
        For times without a zone.
    """
    index = metrics.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise InvalidInput("has no tz-aware times", field="metrics", value=type(index).__name__, remedy="localise")
    last = as_utc(cutoff, "cutoff").as_unit("ns").value
    machine = RegimeMachine(config)
    names = [name for name in METRICS if name in metrics.columns]
    rows = metrics[names].to_numpy(dtype=np.float64).tolist()
    ns = index.as_unit("ns").asi8.tolist()
    regimes: list[Regime] = [
        machine.step(at, dict(zip(names, row, strict=True)), (last - at) / (60.0 * NS))
        for at, row in zip(ns, rows, strict=True)
    ]
    return RegimeRun(pd.Series(regimes, index=index, dtype=object, name="regime"), machine)
