"""What the main job returns: every stage's result, the checks it passed, and how to repeat it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crosswind.problems.workflow.output import plain

if TYPE_CHECKING:
    from crosswind.problems.basket import BasketSchedule
    from crosswind.problems.impact import ImpactModel
    from crosswind.problems.impact.diagnose import Diagnosis
    from crosswind.problems.market import MarketEvents
    from crosswind.problems.workflow.hedging import HedgeStage

__all__ = ["Check", "RunResult", "configuration_hash"]


@dataclass(frozen=True)
class Check:
    """One promise of the run, as a figure against its limit.

    Parameters
    ----------
    name
        What is promised.
    value
        The figure found.
    limit
        The bar it is held to.
    at_least
        True when the value must reach the limit, False when it must not exceed it.
    """

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the figure is on the right side of its limit; NaN never is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def configuration_hash(settings: Mapping[str, Any]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of the settings in sorted JSON."""
    return hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunResult:
    """The main job's result, stage by stage.

    Parameters
    ----------
    source, notes
        Where the data came from and what the reader had to say about it.
    train, test
        Events of the fitting days and of the last day.
    model
        The fitted cross-impact model [return per currency].
    out_of_sample
        Estimators × (R² by name, mean, admissible, worst violation, seconds) on the last day.
    recovery
        Estimators × distance to the truth, on simulated data; None on recorded data, where no truth is known.
    schedule
        The basket schedule of the last day.
    schedules
        Schedules × cost components under the same model [bps of parent notional].
    hedge
        The hedge stage: policies tuned on the fitting days, replayed on the last; None without a future.
    checks
        The promises and the figures found.
    fallbacks
        Names of fallbacks that were used, empty when none was.
    settings
        Everything that determines the result; ``configuration`` is its hash.
    timings
        Seconds by stage (the only part that differs between two runs).
    versions
        Versions of the packages that computed it.
    sectors
        Sector by name where the data know it; orders the figures.
    diagnosis
        The joint fit looked at from all sides: limits and their prices, noise, decay, clocks.
    out
        Folder written, or None.
    """

    source: str
    notes: tuple[str, ...]
    train: MarketEvents
    test: MarketEvents
    model: ImpactModel
    out_of_sample: pd.DataFrame
    recovery: pd.DataFrame | None
    schedule: BasketSchedule
    schedules: pd.DataFrame
    hedge: HedgeStage | None
    checks: tuple[Check, ...]
    fallbacks: tuple[str, ...]
    settings: Mapping[str, Any]
    timings: Mapping[str, float]
    versions: Mapping[str, str]
    diagnosis: Diagnosis
    sectors: pd.Series | None = None
    out: Path | None = None

    @property
    def configuration(self) -> str:
        """Hash of the settings."""
        return configuration_hash(self.settings)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def checks_frame(self) -> pd.DataFrame:
        """Return the checks as a table: value, rule, limit, passed."""
        rows = {c.name: (c.value, ">=" if c.at_least else "<=", c.limit, c.passed) for c in self.checks}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "rule", "limit", "passed"])
        return table.rename_axis("check")

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every table of the run by name, as they are written to parquet."""
        tables = {
            "out_of_sample": self.out_of_sample,
            "impact_model": self.model.to_frame(),
            "schedule": self.schedule.trades,
            "marginal_costs": self.schedule.marginal_costs,
            "schedules": self.schedules,
            "checks": self.checks_frame(),
        }
        if self.recovery is not None:
            tables["recovery"] = self.recovery
        if self.hedge is not None:
            tables |= self.hedge.tables()
        return tables

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, the content of ``summary.json``."""
        return {
            "source": self.source,
            "notes": list(self.notes),
            "names": list(self.train.names),
            "train_days": [str(d) for d in self.train.days],
            "test_days": [str(d) for d in self.test.days],
            "configuration": self.configuration,
            "settings": plain(self.settings),
            "out_of_sample": plain(self.out_of_sample),
            "recovery": plain(self.recovery),
            "schedule_costs": plain(self.schedule.costs),
            "schedules": plain(self.schedules),
            "hedge": None if self.hedge is None else plain(self.hedge.to_dict()),
            "checks": plain(self.checks_frame()),
            "passed": self.passed,
            "fallbacks": list(self.fallbacks),
            "versions": dict(self.versions),
            "timings_s": plain(self.timings),
            "out": None if self.out is None else str(self.out),
        }

    def summary(self) -> str:
        """Return the whole run as a page of text."""
        from crosswind.problems.workflow.text import summary_text

        return summary_text(self)

    def report(self) -> str:
        """Return the self-contained HTML report.

        Raises
        ------
        MissingDependency
            When plotly is not installed.
        """
        from crosswind.problems.workflow.report import report_html

        return report_html(self)

    def __repr__(self) -> str:
        return (
            f"RunResult({self.source}, {len(self.schedule.trades.columns)} names, passed={self.passed}; see .summary())"
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.summary())}</pre>"
