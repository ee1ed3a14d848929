"""The roll-day report: one order of a roll as of the end of a bar, in tiles, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.shown import Shown
from crosswind.problems.roll.branches import BranchForecast, BranchForecaster, Decisions, decision_features
from crosswind.problems.roll.metrics import METRICS, metric_bands
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.program import RollPlan, RollProblem
from crosswind.problems.roll.replay import COMPONENTS, RollEpisode, RollReplay
from crosswind.problems.roll.replay.views import see
from crosswind.problems.roll.report.config import RollReportConfig
from crosswind.problems.roll.report.projection import ForcedCross, forced_cross, residual_projection
from crosswind.problems.roll.report.tiles import RollTile, build_tiles
from crosswind.problems.roll.report.track import RollTrack
from crosswind.solvers.errors import CrosswindError, InvalidInput

__all__ = ["RollReport", "roll_report"]

_FORECASTS = 40  # decisions of the day at which the branch forecast is drawn


@dataclass(frozen=True, eq=False, repr=False)
class RollReport(Shown):
    """What a desk looks at on a roll day; make one with :func:`roll_report`.

    Parameters
    ----------
    track
        What was known.
    config
        What it is held against.
    now
        Time of the reader's clock, UTC.
    frame
        Bar end → ``remaining``, ``regime``, the metrics, ``pace`` and ``required`` [spreads per minute], ``left`` with
        ``left_low`` and ``left_high`` [spreads at the cutoff, 5 and 95 %], ``replaces`` and ``rejects`` [in the last 60
        s and 600 s], ``cost`` so far [currency].
    bands
        Metrics of past rolls at the same times, (metric, ``mean`` | ``low`` | ``high``); None without any.
    plan_start, plan_now
        Plan drawn at the first decision and at this bar; None where ``notes`` say why.
    forecast, forecast_times
        Branch forecast of clips at decisions so far [currency per spread], the last one now; None without a forecaster.
    cross_now, cross_projected, cross_low, cross_high
        Forced cross at the book of this bar of all that remains, of what is left at the present pace, and of its
        bounds; None where not known.
    currency
        Of every cost.
    notes
        Part → why it is not there.
    """

    track: RollTrack
    config: RollReportConfig
    now: pd.Timestamp
    frame: pd.DataFrame
    bands: pd.DataFrame | None
    plan_start: RollPlan | None
    plan_now: RollPlan | None
    forecast: BranchForecast | None
    forecast_times: pd.DatetimeIndex
    cross_now: ForcedCross
    cross_projected: ForcedCross | None
    cross_low: ForcedCross | None
    cross_high: ForcedCross | None
    currency: str = "USD"
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def age_s(self) -> float:
        """Age of the data [s]."""
        return (self.now - self.track.as_of).total_seconds()

    @property
    def stale(self) -> bool:
        """Whether the data are older than they may be."""
        return self.age_s > self.config.stale_bars * self.track.market.bar_s

    @property
    def done(self) -> int:
        """Spreads done, a spread whose second leg is open among them."""
        near, far = self.track.legs
        return max(abs(near), abs(far))

    @property
    def components(self) -> dict[str, float]:
        """The five components of what was done so far [currency; positive: money lost]."""
        return {name: math.fsum(getattr(f, name) for f in self.track.fills) for name in COMPONENTS}

    @cached_property
    def tiles(self) -> tuple[RollTile, ...]:
        """The tiles in the order of the panel."""
        return build_tiles(self)

    def tile(self, name: str) -> RollTile:
        """Return one tile by its name.

        Raises
        ------
        InvalidInput
            For a name that no tile bears.
        """
        for tile in self.tiles:
            if tile.name == name:
                return tile
        raise InvalidInput("is no tile", field="name", value=name, remedy=", ".join(t.name for t in self.tiles))

    def band_text(self, name: str) -> str:
        """Return mean and band of past rolls of a metric at this bar, in words; empty without any."""
        if self.bands is None or name not in self.bands.columns.get_level_values(0):
            return ""
        mean, low, high = (float(self.bands[name, part].iloc[-1]) for part in ("mean", "low", "high"))
        if math.isnan(mean):
            return ""
        made_up = " (simulated)" if "simulated" in str(self.bands.attrs.get("market", "")) else ""
        return f"past rolls{made_up} {mean:.2g}, 25–75 % {low:.2g} to {high:.2g}"

    def planned_remaining(self) -> dict[str, float]:
        """Return what the plan of the start expected to remain at this bar: mean with its 5–95 % band [spreads]."""
        assert self.plan_start is not None
        plan = self.plan_start.to_frame()
        at = (self.track.as_of - self.track.times[0]).total_seconds()
        names = ("remaining", "remaining_q05", "remaining_q95")
        return {name: float(np.interp(at, plan["start_s"], plan[name])) for name in names}

    @property
    def footer(self) -> dict[str, Any]:
        """Solver, residuals, seeds, configuration: what lets a reader repeat the page."""
        plan = self.plan_now if self.plan_now is not None else self.plan_start
        out: dict[str, Any] = {"spread book": self.track.market.source}
        if self.bands is not None:
            out["bands"] = f"past rolls: {self.bands.attrs.get('market', 'unknown')}"
        if plan is not None:
            s = plan.solution
            rung = "optimal" if s.status.ok else "feasible"
            out |= {"solver": s.method, "rung": rung, "gap": f"{s.gap:.1e}", "violation": f"{s.violation:.1e}"}
        else:
            out |= {"solver": "none", "rung": self.notes.get("plan_now", "no plan was asked for")}
        seed = "live" if self.track.seed is None else str(self.track.seed)
        out |= {"venue seed": seed, "plan seed": self.config.seed, "configuration": self.config.key(self.track.order)}
        return {**out, "crosswind": metadata.version("crosswind")}

    def panel(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold: order, tiles, regimes, series, footer.

        What is not known is None. Times are ISO, UTC.
        """
        order = self.track.order
        series = self.frame.reset_index(names="time")
        out = {
            "order": {
                "name": order.name,
                "quantity": order.quantity,
                "start": order.start.isoformat(),
                "cutoff": order.cutoff.isoformat(),
                "max_naked": order.max_naked,
                "carry_cap": order.carry_cap,
                "legs": list(self.track.market.legs),
                "policy": self.track.policy,
                "currency": self.currency,
            },
            "as_of": self.track.as_of.isoformat(),
            "now": self.now.isoformat(),
            "stale": self.stale,
            "tiles": [tile.to_dict() for tile in self.tiles],
            "transitions": [t.to_dict() for t in self.track.transitions],
            "series": {str(name): _column(series[name]) for name in series},
            "bands": None
            if self.bands is None
            else {"_".join(map(str, key)): self.bands[key].tolist() for key in self.bands.columns.tolist()},
            "plan": None if self.plan_now is None else _plan_values(self.plan_now),
            "plan_start": None if self.plan_start is None else _plan_values(self.plan_start),
            "forecast": None
            if self.forecast is None
            else {
                "time": [t.isoformat() for t in self.forecast_times],
                **{name: getattr(self.forecast, name).tolist() for name in ("mean", "q50", "q95", "cvar95")},
                **{f"P({name})": values.tolist() for name, values in self.forecast.probabilities.items()},
            },
            "components": self.components,
            "notes": dict(self.notes),
            "footer": self.footer,
        }
        plain: dict[str, Any] = _plain(out)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the series by bar."""
        return self.frame.copy()

    def tiles_frame(self) -> pd.DataFrame:
        """Return the tiles, one row each."""
        return pd.DataFrame([tile.to_dict() for tile in self.tiles]).set_index("name")

    def summary(self) -> str:
        """Return the tiles as lines: state, value, limit, note."""
        order = self.track.order
        head = (
            f"{order.name}: {'buy' if order.side > 0 else 'sell'} {order.size:,} spreads, {self.track.policy}, as of "
            f"{self.track.as_of.tz_convert(self.config.tz):%Y-%m-%d %H:%M:%S %Z} ({self.track.market.source})"
        )
        lines = [head]
        if self.stale:
            lines.append("  DATA ARE STALE: nothing here is known to hold now")
        for tile in self.tiles:
            limit = "" if math.isnan(tile.limit) else f" (limit {tile.limit:g})"
            lines.append(f"  [{tile.state:>5}] {tile.label}: {tile.text}{limit}{'; ' + tile.note if tile.note else ''}")
        return "\n".join([*lines, *(f"  no {part.replace('_', ' ')}: {why}" for part, why in self.notes.items())])

    def plot(self) -> Any:
        """Return one page of figures (plotly): regimes, remaining, pace, metrics, forecast, churn, projection."""
        from crosswind.problems.roll.report.plots import report_figure

        return report_figure(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the page as HTML text, and write it where a path is given, whole or not at all.

        Raises
        ------
        MissingDependency
            Without plotly.
        InvalidInput
            For a path that cannot be written.
        """
        from crosswind.problems.atomic import atomic_file
        from crosswind.problems.roll.report.page import report_html

        text = report_html(self)
        if path is not None:
            with atomic_file(path) as target:
                target.write_text(text, encoding="utf-8")
        return text


def roll_report(
    source: RollTrack | RollReplay,
    episode: RollEpisode | None = None,
    at: int | pd.Timestamp | str | None = None,
    *,
    past: Sequence[pd.DataFrame] = (),
    forecaster: BranchForecaster | None = None,
    config: RollReportConfig | None = None,
    plan: bool = True,
    now: pd.Timestamp | str | None = None,
    currency: str = "USD",
) -> RollReport:
    """Report a roll as of the end of a bar; nothing from after that bar is read.

    Parameters
    ----------
    source
        A replay with its ``episode``, or a :class:`RollTrack` of a live order.
    episode, at
        The replayed order and the bar or time of the report; default the cutoff. Not used with a track.
    past
        Metrics of past rolls, as of :func:`past_roll_metrics`; without any there are no bands.
    forecaster
        Fitted; without one there is no branch-cost forecast.
    config
        What the roll is held against; default :class:`RollReportConfig`.
    plan
        Whether to plan at the start and now; a plan that cannot be made is told in ``notes``.
    now
        The reader's clock, tz-aware; default the bar's end: data of age 0.
    currency
        Of the costs, in words.

    Returns
    -------
    RollReport

    Raises
    ------
    InvalidInput
        Without an episode, or for a clock without a zone or before the last bar.
    DataGap
        For a bar outside the order.
    """
    settings = RollReportConfig() if config is None else config
    if isinstance(source, RollTrack):
        track = source
    elif episode is None:
        raise InvalidInput("a replay needs its episode", field="episode", value=None, remedy="pass the replayed one")
    else:
        track = RollTrack.of_replay(episode, source, at)
    clock = track.as_of if now is None else pd.Timestamp(now)
    if clock.tzinfo is None or clock < track.as_of:
        raise InvalidInput(
            "has no zone or lies before the last bar: a clock that went back",
            field="now",
            value=str(clock),
            remedy=f"pass a tz-aware time at or after {track.as_of}",
        )
    notes: dict[str, str] = {}
    projected = residual_projection(track, settings.metrics)
    row, side = projected.iloc[-1], track.order.side
    crosses = [
        None if math.isnan(left) else forced_cross(track.market, side, round(left), settings.venue)
        for left in (float(row[name]) for name in ("left", "left_low", "left_high"))
    ]
    forecast, times = _forecast(track, forecaster, settings, notes)
    return RollReport(
        track=track,
        config=settings,
        now=clock.tz_convert("UTC"),
        frame=_frame(track, projected),
        bands=metric_bands(past, track.times, tz=settings.tz) if past else None,
        plan_start=_plan(track, 0, settings, notes, "plan_start") if plan else None,
        plan_now=_plan(track, len(track.times) - 1, settings, notes, "plan_now") if plan else None,
        forecast=forecast,
        forecast_times=times,
        cross_now=forced_cross(track.market, side, int(track.remaining[-1]), settings.venue),
        cross_projected=crosses[0],
        cross_low=crosses[1],
        cross_high=crosses[2],
        currency=currency,
        notes=notes,
    )


def _frame(track: RollTrack, projected: pd.DataFrame) -> pd.DataFrame:
    ns = track.times.asi8
    frame = pd.DataFrame({"remaining": track.remaining}, index=track.times)
    if track.regimes:
        frame["regime"] = [regime.name for regime in track.regimes]
    for name in METRICS:
        frame[name] = track.metrics.get(name, np.full(len(frame), np.nan))
    frame = frame.join(projected)
    for name, kind, window in (("replaces", "replace", 60), ("rejects", "reject", 600)):
        at = np.sort(np.array([when for when, what in track.events if what == kind], dtype=np.int64))
        before = np.searchsorted(at, ns - window * 1_000_000_000, side="right")
        frame[name] = np.searchsorted(at, ns, side="right") - before
    fills = sorted((f.time_ns, math.fsum(getattr(f, name) for name in COMPONENTS)) for f in track.fills)
    spent = np.append(0.0, np.cumsum([cost for _, cost in fills]))
    frame["cost"] = spent[np.searchsorted(np.array([at for at, _ in fills], dtype=np.int64), ns, side="right")]
    return frame


def _plan(track: RollTrack, row: int, c: RollReportConfig, notes: dict[str, str], name: str) -> RollPlan | None:
    remaining = int(track.remaining[row])
    if remaining == 0 or track.bars_left[row] == 0:
        notes[name] = "nothing is left to be planned"
        return None
    end = track.first + row + 1
    try:
        problem = RollProblem.at(
            track.order,
            see(track.market, end),
            statistics=c.statistics,
            settings=c.settings,
            remaining=remaining,
            arrival=track.arrival,
            regime=track.regimes[row] if track.regimes else Regime.PRE_ROLL,
            scenarios=c.scenarios,
            slices=c.slices,
            seed=c.seed,
        )
        return problem.solve(tol=1e-6)
    except CrosswindError as error:  # the rest of the page is due all the same
        notes[name] = str(error)
        return None


def _forecast(
    track: RollTrack, forecaster: BranchForecaster | None, c: RollReportConfig, notes: dict[str, str]
) -> tuple[BranchForecast | None, pd.DatetimeIndex]:
    none = track.times[:0]
    if forecaster is None:
        notes["forecast"] = "no branch forecaster was given"
        return None, none
    open_ = np.flatnonzero((track.remaining > 0) & (track.bars_left > 0))
    if not len(open_) or open_[-1] != len(track.remaining) - 1:
        notes["forecast"] = "nothing is left to be decided"
        return None, none
    # Every so many bars back from this one: the last is the decision at hand.
    rows = open_[::-1][:: max(1, len(open_) // _FORECASTS)][::-1]
    market, n, bar_s = track.market, len(rows), track.market.bar_s
    bar = track.first + rows
    shown = (market.bid_size if track.order.side > 0 else market.ask_size)[bar]
    clip = np.clip(np.floor(c.clip_share * shown), 1, track.remaining[rows]).astype(np.int64)
    decisions = Decisions(
        bar=bar,
        side=np.full(n, track.order.side),
        clip=clip,
        timeout=np.full(n, math.ceil(c.timeout_s / bar_s - 1e-9)),
        max_let=np.full(n, math.ceil(c.max_let_s / bar_s - 1e-9)),
        cutoff=bar + track.bars_left[rows],
    )
    unknown = np.full(len(track.remaining), np.nan)
    known = pd.DataFrame({name: track.metrics.get(name, unknown)[rows] for name in ("rpc", "cde", "bdz", "rdp")})
    regimes = track.regimes or (Regime.PRE_ROLL,) * len(track.remaining)
    features = decision_features(
        market, decisions, known, np.array([regimes[i].value for i in rows]), queue=c.venue.queue
    )
    return forecaster.predict(features), track.times[rows]


def _column(values: pd.Series[Any]) -> list[Any]:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return [value.isoformat() for value in values]
    return list(values)


def _plan_values(plan: RollPlan) -> dict[str, Any]:
    frame = plan.to_frame()
    return {
        "spreads": plan.quantity,
        **{name: getattr(plan, name) for name in ("mean", "q95", "cvar95", "underfill_probability")},
        "expected_underfill": plan.expected_underfill,
        "status": plan.solution.status.name,
        "gap": plan.solution.gap,
        "schedule": {name: frame[name].tolist() for name in frame.columns},
    }


def _plain(value: Any) -> Any:
    """Return a value in the types that JSON has; what is not finite is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):  # most of them, so asked first
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return str(value)
