"""Forecast errors of intraday profiles against simple rivals, by slice of the session and by horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, check_events
from crosswind.problems.market.features.profiles import IntradayProfile, fold, session_values
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["ProfileErrors", "profile_errors"]

HORIZONS = ("bucket", "slice", "rest")


@dataclass(frozen=True, eq=False, repr=False)
class ProfileErrors(Shown):
    """Errors of forecasts made walking forward: every session forecast from those before it.

    Parameters
    ----------
    table
        Index (``horizon``, ``slice``); columns: one per model, the mean absolute error over the mean actual of that
        name and horizon, averaged over names and sessions. Horizons: ``bucket`` (the next bucket, from every bucket),
        ``slice`` (the next slice, from its start) and ``rest`` (from the slice's start to the close). The slice 'all'
        averages over the slices.
    bias
        Same shape: signed, forecast less actual.
    sessions
        Number of sessions forecast.
    """

    table: pd.DataFrame
    bias: pd.DataFrame
    sessions: int

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of errors."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the error of every model over all slices, one line per horizon."""
        rows = self.table.xs("all", level="slice")
        lines = [f"{self.sessions} sessions forecast; mean absolute error over the mean actual"]
        for horizon, row in rows.iterrows():
            lines.append(f"  {horizon}: " + ", ".join(f"{model} {value:.1%}" for model, value in row.items()))
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw the error of the rest of the session over the slice (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Error of the rest of the session", "slice in which it is made", "mean |error| over mean actual")
        rest = self.table.loc["rest"].drop(index="all")
        for k, model in enumerate(rest):
            line = {"color": PALETTE[k % len(PALETTE)]}
            fig.add_scatter(x=list(rest.index), y=rest[model], name=str(model), mode="lines+markers", line=line)
        return fig


def profile_errors(
    events: MarketEvents, profile: IntradayProfile | None = None, *, first_day: int = 1, slices: int = 13
) -> ProfileErrors:
    """Score a profile walking forward, beside simple rivals.

    Models: ``updated`` (level revised as the day unfolds), ``profile`` (level × profile as before the open), ``flat``
    (the same level spread evenly), ``yesterday`` (the same bucket of the day before), ``average`` (the mean of the same
    bucket over all earlier days). Rivals of other lengths than the session are aligned with its open and its close.

    Parameters
    ----------
    events
        Whole sessions, at least ``first_day + 1``.
    profile
        Its parameters are used; it is fitted anew before every session. Default ``IntradayProfile()``.
    first_day
        Number of sessions before the first that is forecast.
    slices
        Slices of a session.

    Raises
    ------
    InvalidInput
        On an argument out of range.
    DataGap
        If there are too few sessions.
    """
    events = check_events(events)
    maker = IntradayProfile() if profile is None else profile
    values = session_values(events, maker.what)
    days = list(values)
    if not isinstance(first_day, int) or first_day < 1 or not isinstance(slices, int) or slices < 1:
        raise InvalidInput("below 1", field="first_day, slices", value=(first_day, slices), remedy="pass 1 or more")
    if len(days) <= first_day:
        raise DataGap("too few sessions", field="events", value=len(days), remedy=f"give more than {first_day}")
    rows: list[pd.DataFrame] = []
    for i in range(first_day, len(days)):
        actual = values[days[i]].to_numpy()
        if len(actual) < slices:
            raise InvalidInput("more slices than buckets", field="slices", value=slices, remedy="lower it")
        fitted = IntradayProfile(**maker.get_params()).fit(events.on(days[:i]))
        past = [values[d].to_numpy()[fold(len(values[d]), len(actual))] for d in days[:i]]
        rows.append(_one_day(fitted, values[days[i]], past, slices))
    each = pd.concat(rows)
    scale = each.groupby(["horizon", "name"])["actual"].transform("mean")
    models = [c for c in each.columns if c not in ("horizon", "slice", "name", "actual")]
    miss = each[models].sub(each["actual"], axis=0).div(scale.where(scale > 0), axis=0)
    keys = [each["horizon"], each["slice"]]
    return ProfileErrors(_table(miss.abs(), keys), _table(miss, keys), len(days) - first_day)


def _table(values: pd.DataFrame, keys: list[pd.Series[Any]]) -> pd.DataFrame:
    by_slice = values.groupby(keys).mean()
    total = values.groupby(keys[0]).mean()
    total.index = pd.MultiIndex.from_product([total.index, ["all"]], names=["horizon", "slice"])
    both = pd.concat([by_slice, total])
    order = [(h, s) for h in HORIZONS for s in [*sorted(set(keys[1])), "all"]]
    return both.reindex(pd.MultiIndex.from_tuples(order, names=["horizon", "slice"]))


def _one_day(fitted: IntradayProfile, day: pd.DataFrame, past: list[Float], slices: int) -> pd.DataFrame:
    actual, count = day.to_numpy(), len(day)
    shape = fitted.shape(count).to_numpy()
    level = fitted.level_.to_numpy()
    fixed = {
        "profile": level * shape,
        "flat": np.repeat((level * shape.sum(axis=0) / count)[None], count, axis=0),
        "yesterday": past[-1],
        "average": np.mean(past, axis=0),
    }
    starts = np.arange(slices) * count // slices
    ends = np.append(starts[1:], count)
    place = np.searchsorted(starts, np.arange(count), side="right") - 1
    revised = fitted._levels(actual, shape, fitted.weight_)
    parts = [_frame("bucket", place, actual, {"updated": revised * shape} | fixed, day.columns)]
    for horizon, until in (("slice", ends), ("rest", np.full(slices, count))):

        def over(v: Float, until: Any = until) -> Float:
            total = np.vstack([np.zeros(v.shape[1]), np.cumsum(v, axis=0)])
            return np.asarray(total[until] - total[starts])

        sums = {"updated": revised[starts] * over(shape)} | {name: over(v) for name, v in fixed.items()}
        parts.append(_frame(horizon, np.arange(slices), over(actual), sums, day.columns))
    return pd.concat(parts)


def _frame(horizon: str, place: Any, actual: Float, models: dict[str, Float], names: Any) -> pd.DataFrame:
    rows, width = actual.shape
    table = {"horizon": horizon, "slice": np.repeat(place, width), "name": np.tile(np.asarray(names), rows)}
    return pd.DataFrame(table | {"actual": actual.ravel()} | {m: v.ravel() for m, v in models.items()})
