"""The main job, end to end: read → fit → schedule → hedge → report.

Everything the schedule and the hedge use is known before the test day begins: the model, the forecasts, the betas and
the policies' parameters come from the earlier days alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pandas as pd

from crosswind.problems.atomic import atomic_directory, check_target
from crosswind.problems.market import MarketData, MarketEvents, read
from crosswind.problems.workflow.fitting import fit_stage
from crosswind.problems.workflow.hedging import HedgeAssumptions, hedge_stage
from crosswind.problems.workflow.model import RunResult
from crosswind.problems.workflow.output import write_json, write_tables
from crosswind.problems.workflow.promises import checks_of
from crosswind.problems.workflow.scheduling import schedule_stage
from crosswind.solvers.errors import DataGap, InvalidInput, MissingDependency

__all__ = ["default_index", "run", "split_days"]

Progress = Callable[[str, float], None]
_PACKAGES = ("crosswind", "numpy", "scipy", "pandas", "cvxpy", "clarabel", "piqp", "osqp", "jax")


class _Clock:
    """Seconds by stage, and the progress line."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, done: float) -> Iterator[None]:
        """Time one stage and announce it with the share of the run that lies behind."""
        if self._progress is not None:
            self._progress(name, done)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - begin


def _spec(data: str, seed: int) -> str:
    """Hand the seed on to the simulator, unless the spec names one itself."""
    scheme, _, rest = data.partition(":")
    if scheme != "sim" or "seed=" in rest:
        return data
    return f"sim:{rest},seed={seed}" if rest else f"sim:seed={seed}"


def _read(data: str | MarketData, seed: int, names: Sequence[str] | None, bucket_s: float | None) -> MarketData:
    if isinstance(data, str):
        simulated = data.partition(":")[0] == "sim"  # its names are drawn, then chosen from
        market = read(_spec(data, seed), names=None if simulated else names, bucket_s=bucket_s)
        if not simulated:
            return market
    else:
        market = data if bucket_s is None else replace(data, buckets=data.events.resample(bucket_s))
    if names is None:
        return market
    return replace(market, buckets=market.events.select(names), truth=None)


def split_days(events: MarketEvents) -> tuple[MarketEvents, MarketEvents]:
    """Return the earlier days, to fit on, and the last day, to test on.

    Raises
    ------
    DataGap
        When there are fewer than two sessions.
    """
    days = events.days
    if len(days) < 2:
        raise DataGap(
            "needs at least two sessions: earlier days to fit on, the last to test",
            field="data",
            value=[str(d) for d in days],
            remedy="add days",
        )
    return events.on(days[:-1]), events.on(days[-1:])


def default_index(events: MarketEvents, index: str | None) -> str | None:
    """Return the name that stands for the index: the given one, else SPY where present, else None.

    Raises
    ------
    InvalidInput
        When the given name is not among the events' names.
    """
    if index is None:
        return "SPY" if "SPY" in events.names else None
    if index not in events.names:
        raise InvalidInput(
            "is not among the names", field="index", value=index, remedy=f"one of {', '.join(events.names)}"
        )
    return index


def run(
    data: str | MarketData = "sim",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    index: str | None = None,
    bucket_s: float | None = None,
    inventory: pd.Series | None = None,
    basket_adv: float = 0.02,
    slice_s: float = 300.0,
    participation: float = 0.10,
    risk_aversion: float | None = None,
    assumptions: HedgeAssumptions | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Fit impact on the earlier days, schedule a basket on the last, replay its hedge, and account for the cost.

    Parameters
    ----------
    data
        What :func:`crosswind.read` takes (``"sim"``, ``"lean:DIR"``, ``"parquet:DIR"``, ``"csv:FILE"``) or market data
        already read. At least two sessions.
    out
        Folder for ``summary.json``, ``tables/*.parquet``, ``report.html`` and ``impact.html``; written whole or not at
        all. None writes nothing.
    seed
        Seed of the simulator and of the hedge's parents.
    names
        Names to use; all by default.
    index
        Name that stands for the cash index in the hedge. By default SPY where present, else the index of the names.
        An index ETF is fitted like any name but not traded in the basket.
    bucket_s
        Length of an event bucket in seconds; by default the source's own, 10 for ticks.
    inventory
        Signed notional to trade by name [currency]; by default two-sided, ``basket_adv`` of each name's daily volume.
    basket_adv
        Size of the default basket as a share of average daily volume.
    slice_s
        Length of a schedule slice in seconds.
    participation
        Cap on our trades as a share of the forecast volume of a slice.
    risk_aversion
        λ in 1/currency. By default the value at which the risk term of a TWAP equals its other costs.
    assumptions
        Latency, fees, participation and parents of the hedge stage.
    progress
        Called with (stage, share done) as stages begin.

    Returns
    -------
    RunResult
        Each stage's result, the checks it passed, and the settings that repeat it.

    Raises
    ------
    InvalidInput
        On a malformed argument or table.
    DataGap
        When fewer than two sessions are there.
    InfeasibleProblem
        When the basket cannot be completed within its limits.
    MissingDependency
        When ``out`` is given and plotly is not installed.

    Notes
    -----
    With the same data, settings and seed every figure is the same; only ``timings`` differ.
    """
    if not 0.0 < participation <= 1.0:
        raise InvalidInput("must lie in (0, 1]", field="participation", value=participation, remedy="e.g. 0.1")
    if out is not None:
        check_target(Path(out))
        _require_report()
    clock = _Clock(progress)
    with clock.stage("read", 0.0):
        market = _read(data, seed, names, bucket_s)
        train, test = split_days(market.events)
        index = default_index(market.events, index)
    with clock.stage("fit", 0.1):
        fitted = fit_stage(train, test, market.truth)
    with clock.stage("schedule", 0.4):
        planned = schedule_stage(
            train,
            test,
            fitted.model,
            index=index,
            inventory=inventory,
            basket_adv=basket_adv,
            slice_s=slice_s,
            participation=participation,
            risk_aversion=risk_aversion,
        )
    with clock.stage("hedge", 0.5):
        hedge = hedge_stage(
            market,
            train,
            test,
            fitted.model,
            planned,
            index=index,
            seed=seed,
            assumptions=assumptions,
            progress=None if progress is None else lambda done: progress("hedge", 0.5 + 0.45 * done),
        )
    result = RunResult(
        source=market.source if isinstance(data, MarketData) else data,
        notes=market.notes + fitted.notes + planned.notes + (() if hedge is None else hedge.notes),
        train=train,
        test=test,
        model=fitted.model,
        out_of_sample=fitted.out_of_sample,
        recovery=fitted.recovery,
        schedule=planned.schedule,
        schedules=planned.comparison,
        hedge=hedge,
        checks=checks_of(fitted, planned, hedge),
        fallbacks=() if hedge is None else hedge.fallbacks,
        settings={
            "data": market.source,
            "seed": seed,
            "names": list(market.events.names),
            "index": index,
            "bucket_s": market.events.bucket_s,
            "inventory": planned.schedule.problem.inventory.to_dict(),
            "slice_s": slice_s,
            "participation": participation,
            "risk_aversion": planned.schedule.problem.risk_aversion,
            "impact": fitted.settings,
            "hedge": None if hedge is None else hedge.settings,
        },
        timings=clock.seconds,
        versions={name: metadata.version(name) for name in _PACKAGES},
        diagnosis=fitted.diagnosis,
        sectors=None if market.truth is None else market.truth.sectors,
    )
    if out is None:
        return result
    result = replace(result, out=Path(out))
    with clock.stage("write", 0.95):
        _write(result, Path(out))
    return result


def _require_report() -> None:
    try:
        metadata.version("plotly")
    except metadata.PackageNotFoundError as err:
        raise MissingDependency(
            "the report needs plotly", field="out", value="plotly", remedy="pip install 'crosswind[report]'"
        ) from err


def _write(result: RunResult, out: Path) -> None:
    from crosswind.problems.workflow.report import impact_html

    page, impact = result.report(), impact_html(result)
    with atomic_directory(out) as work:
        write_tables(work / "tables", result.tables())
        write_json(work / "summary.json", result.to_dict())
        (work / "report.html").write_text(page, encoding="utf-8")
        (work / "impact.html").write_text(impact, encoding="utf-8")
