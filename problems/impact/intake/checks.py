"""The door of the impact room: what is wrong with the data is said here, by name, before anything is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.features import after_hole, session_rows
from crosswind.problems.impact.intake.clocks import ClockReport, clock_report, shift_clock
from crosswind.problems.impact.intake.masks import Buckets, EventMask, Jumps
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["IntakeReport", "check_events", "events_with_gaps"]

_SAME = 1e-10  # two flows are one where 1 − |correlation| is below
_SINGULAR = 1e-12  # eigenvalue of the flow's correlation, relative to the largest
_HALF = 0.75  # a session is short below this share of the median session's buckets
_CHOICES = {
    "dead": ("refuse", "drop"),
    "duplicates": ("refuse", "drop", "keep"),
    "outliers": ("report", "mask", "refuse"),
    "clocks": ("skip", "report", "repair", "refuse"),
}


@dataclass(frozen=True, eq=False)
class IntakeReport:
    """The events as they may be fitted, and what was found and done.

    Parameters
    ----------
    events
        Without what was dropped, clocks put right where asked.
    findings
        One row per finding: ``what``, ``where`` (name or session), ``value``, ``done`` ("kept", "dropped", "masked",
        "repaired").
    masks
        To hand to `StreamingGram`; () unless outliers are masked.
    flow_condition
        Condition number of the correlation of flow, about zero; inf where it is singular.
    clocks
        The clocks' report, where it was asked for.
    """

    events: MarketEvents
    findings: pd.DataFrame
    masks: tuple[EventMask, ...]
    flow_condition: float
    clocks: ClockReport | None = None

    @property
    def looked_at_clocks(self) -> bool:
        """Whether the names' clocks were compared; one name alone has nothing to be compared with."""
        return self.clocks is not None or len(self.events.names) < 2

    @property
    def dropped(self) -> dict[str, str]:
        """Names that were dropped, and why."""
        rows = self.findings[self.findings["done"] == "dropped"]
        return dict(zip(rows["where"], rows["what"], strict=True))

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the findings."""
        return self.findings.copy()

    def plot(self) -> Any:
        """Return a plotly figure: number of findings by kind, and what was done."""
        from crosswind.problems.plotting import figure

        fig = figure("Findings", "finding", "count")
        for done, rows in self.findings.groupby("done"):
            counts = rows["what"].value_counts()
            fig.add_bar(x=list(counts.index), y=counts.to_numpy(), name=str(done))
        return fig.update_layout(barmode="stack")

    def summary(self) -> str:
        """Say what was found and done, one line each."""
        head = (
            f"{len(self.events.names)} names, {len(self.events.days)} sessions, {len(self.events.index)} buckets; "
            f"condition of flow {self.flow_condition:.3g}"
        )
        lines = [f"  {f.what}: {f.where} ({f.value}), {f.done}" for f in self.findings.itertuples()]
        unseen = "" if self.looked_at_clocks else '  clocks not looked at: clocks="report" does'
        return "\n".join([head, *(lines or ["  nothing found"]), *([unseen] if unseen else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"


def check_events(
    events: MarketEvents,
    *,
    dead: str = "refuse",
    duplicates: str = "refuse",
    outliers: str = "report",
    clocks: str = "skip",
    currency: str | None = None,
    jump_threshold: float = 30.0,
    flow_threshold: float = 1000.0,
) -> IntakeReport:
    """Look for what breaks or bends an impact fit, and refuse, drop, mask or report it as asked.

    Parameters
    ----------
    events
        Buckets.
    dead
        Names without a trade or whose mid never moves: "refuse" or "drop".
    duplicates
        Names whose flows are multiples of each other, or any other exact linear relation of flows: "refuse", "drop"
        (keeps the first of each set of duplicates; other relations are refused), or "keep" (a ridge decides between
        them; the certificate of such a fit is the weaker one).
    outliers
        Buckets with |r| above ``jump_threshold`` robust standard deviations of its name and session, and with |flow|
        above ``flow_threshold`` times the median of its name's non-zero ones: "report", "mask" (jumps only; a flow that
        is wrong must be put right, since the state remembers it) or "refuse".
    clocks
        "skip", or `clock_report` and then "report", "repair" by `shift_clock`, or "refuse".
    currency
        Currency that the flow must be in; None: any. One table holds one currency, so mixed ones are found here or
        where parts are joined.
    jump_threshold, flow_threshold
        See ``outliers``.

    Raises
    ------
    InvalidInput
        What was to be refused; always: no name trades at all, another currency than asked, flow or returns whose
        squares are beyond floating point.
    DataGap
        No session with two buckets, so that there is no return.

    Notes
    -----
    Short sessions are kept and reported: every session starts from rest, so that a half day is no special case. Holes
    inside a session (a lunch break, or buckets that the source lost) are kept and reported by day: the bucket after one
    is no row of any fit, since its return spans the hole.
    """
    if not hasattr(events, "flow"):
        raise InvalidInput("is not MarketEvents", field="events", value=type(events).__name__)
    for field, value in (("dead", dead), ("duplicates", duplicates), ("outliers", outliers), ("clocks", clocks)):
        if value not in _CHOICES[field]:
            raise InvalidInput(f"one of {', '.join(_CHOICES[field])}", field=field, value=value)
    if currency is not None and events.currency != currency:
        raise InvalidInput(
            "notionals are in another currency",
            field="events.currency",
            value=events.currency,
            remedy=f"convert them to {currency}",
        )
    _refuse_huge(events)
    if not np.isfinite(events.returns.to_numpy()).all(axis=1).any():
        raise DataGap(
            "no session has two buckets, so there is no return",
            field="events",
            value=len(events.index),
            remedy="read longer sessions or shorter buckets",
        )
    found: list[dict[str, Any]] = []
    held = _without_dead(events, dead, found)
    held, condition = _without_duplicates(held, duplicates, found)
    _short_sessions(held, found)
    _holes(held, found)
    masks = _outliers(held, outliers, jump_threshold, flow_threshold, found)
    clock = None
    if clocks != "skip" and len(held.names) > 1:
        clock = clock_report(held)
        held = _clocks(held, clock, clocks, found)
    table = pd.DataFrame(found, columns=["what", "where", "value", "done"])
    return IntakeReport(held, table, masks, condition, clock)


def _refuse_huge(events: MarketEvents) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = {"flow": np.abs(events.flow.to_numpy()), "return": np.abs(events.returns.to_numpy())}
        huge = {
            f"{what} of {name}": f"up to {np.nanmax(column):.3g}"
            for what, values in sizes.items()
            for name, column in zip(events.names, values.T, strict=True)
            if not np.isfinite(np.nansum(column**2))
        }
    if huge:
        raise InvalidInput(
            "squares of flow or returns are beyond floating point",
            field="events",
            value=huge,
            remedy="put these buckets right: no trade and no move is that large",
        )


def _without_dead(events: MarketEvents, dead: str, found: list[dict[str, Any]]) -> MarketEvents:
    flow = np.abs(events.flow.to_numpy()).max(axis=0)
    volume = events.volume.to_numpy().max(axis=0)
    moves = np.abs(np.nan_to_num(events.returns.to_numpy())).max(axis=0)
    if not flow.any():
        raise InvalidInput(
            "no name has any signed flow",
            field="events.flow",
            value=0.0,
            remedy="check that the source signs its trades, or give quotes for the Lee–Ready rule",
        )
    why: dict[str, str] = {}
    for name, f, v, m in zip(events.names, flow, volume, moves, strict=True):
        if f == 0:
            why[name] = "no trades" if v == 0 else "no signed flow"
        elif m == 0:
            why[name] = "mid never moves"
    if why and dead == "refuse":
        raise InvalidInput(
            "nothing identifies the impact of some names",
            field="events",
            value=why,
            remedy='drop them: check_events(events, dead="drop").events',
        )
    if len(why) == len(events.names):
        raise InvalidInput("no name is alive", field="events", value=why, remedy="read other names or longer data")
    found += [{"what": reason, "where": name, "value": "dead", "done": "dropped"} for name, reason in why.items()]
    return events.select([n for n in events.names if n not in why]) if why else events


def _without_duplicates(
    events: MarketEvents, duplicates: str, found: list[dict[str, Any]]
) -> tuple[MarketEvents, float]:
    flow = events.flow.to_numpy()
    unit = flow / np.abs(flow).max(axis=0)  # first, so that squares neither over- nor underflow
    unit = unit / np.sqrt((unit**2).sum(axis=0))
    C = unit.T @ unit
    names, first = events.names, {}
    for j in range(len(names)):
        twins = [i for i in range(j) if i not in first and 1.0 - abs(C[i, j]) < _SAME]
        if twins:
            first[j] = twins[0]
    pairs = {names[j]: names[i] for j, i in first.items()}
    if pairs and duplicates == "refuse":
        raise InvalidInput(
            "flows that are multiples of each other: nothing tells their impacts apart",
            field="events.flow",
            value=pairs,
            remedy='drop one of each: check_events(events, duplicates="drop").events, or "keep" with a ridge',
        )
    done = "dropped" if duplicates == "drop" else "kept"
    found += [{"what": f"same flow as {i}", "where": j, "value": "duplicate", "done": done} for j, i in pairs.items()]
    if duplicates == "drop" and pairs:
        at = [k for k in range(len(names)) if k not in first]
        events, C = events.select([names[k] for k in at]), C[np.ix_(at, at)]
    values, vectors = np.linalg.eigh(C)
    singular = values[0] <= _SINGULAR * values[-1]
    if singular and duplicates != "keep":
        relation = np.abs(vectors[:, 0])
        inside = [n for n, v in zip(events.names, relation, strict=True) if v > 1e-3 * relation.max()]
        raise InvalidInput(
            "flows are exactly linearly dependent: nothing tells the names' impacts apart",
            field="events.flow",
            value=inside,
            remedy='drop one of these names, give more buckets than names, or duplicates="keep" with a ridge',
        )
    if singular and not pairs:
        found.append({"what": "dependent flows", "where": "all", "value": f"{values[0]:.1e}", "done": "kept"})
    return events, float("inf") if singular else float(values[-1] / values[0])


def _short_sessions(events: MarketEvents, found: list[dict[str, Any]]) -> None:
    labels = events.session.to_numpy()
    lengths = {labels[part.start]: part.stop - part.start for part in session_rows(labels)}
    usual = float(np.median(list(lengths.values())))
    for day, n in lengths.items():
        if n < _HALF * usual:
            found.append(
                {"what": "short session", "where": str(day), "value": f"{n} of {usual:.0f} buckets", "done": "kept"}
            )


def _holes(events: MarketEvents, found: list[dict[str, Any]]) -> None:
    labels, stamps = events.session.to_numpy(), events.index.asi8
    at = np.flatnonzero(after_hole(stamps, labels, events.bucket_s))
    gone = np.round((stamps[at] - stamps[at - 1]) / (events.bucket_s * 1e9)).astype(np.int64) - 1
    for day in dict.fromkeys(labels[at].tolist()):
        here = gone[labels[at] == day]
        found.append(
            {
                "what": "hole" if len(here) == 1 else "holes",
                "where": str(day),
                "value": f"{len(here)}, {max(1, int(here.sum()))} buckets missing",
                "done": "kept",
            }
        )


def _outliers(
    events: MarketEvents, outliers: str, jump: float, big: float, found: list[dict[str, Any]]
) -> tuple[EventMask, ...]:
    mask = Jumps(jump, reason="jump")
    rows: list[dict[str, Any]] = []
    returns, flow = events.returns, events.flow
    for name, jumps in zip(events.names, mask.by_name(events).sum(axis=0).tolist(), strict=True):
        if jumps:
            top = float(np.nanmax(np.abs(returns[name].to_numpy())))
            rows.append({"what": "jumps", "where": name, "value": f"{jumps}, up to {top:.2%}", "done": "kept"})
        size = np.abs(flow[name].to_numpy())
        over = int((size > big * np.median(size[size > 0])).sum())
        if over:
            rows.append(
                {"what": "huge flow", "where": name, "value": f"{over}, up to {size.max():.3g}", "done": "kept"}
            )
    if rows and outliers == "refuse":
        raise InvalidInput(
            "outliers in returns or flow",
            field="events",
            value={f"{row['what']} of {row['where']}": row["value"] for row in rows},
            remedy='look at these buckets; outliers="mask" leaves jumps out of the sums',
        )
    masking = outliers == "mask" and any(row["what"] == "jumps" for row in rows)
    for row in rows:
        if masking and row["what"] == "jumps":
            row["done"] = "masked"
    found += rows
    return (mask,) if masking else ()


def _clocks(events: MarketEvents, clock: ClockReport, clocks: str, found: list[dict[str, Any]]) -> MarketEvents:
    if clock.flagged and clocks == "refuse":
        raise InvalidInput(
            "clocks are shifted, so that cross-impact is lost or found where it is not",
            field="events",
            value=clock.summary().splitlines()[1:],
            remedy='put them right with shift_clock, or clocks="repair"',
        )
    for name in clock.flagged:
        row = clock.table.loc[name]
        for what, column in (("clock late", "shift_s"), ("trades late", "flow_shift_s")):
            if row["flagged" if column == "shift_s" else "flow_flagged"]:
                done = "repaired" if clocks == "repair" and column == "shift_s" else "kept"
                found.append({"what": what, "where": name, "value": f"{row[column]:+g} s", "done": done})
    return shift_clock(events, clock.corrections) if clocks == "repair" and clock.corrections else events


def events_with_gaps(frames: dict[str, pd.DataFrame], bucket_s: float, tz: str, **terms: Any) -> tuple[Any, Buckets]:
    """Return events from tables with bursts of NaN, and the mask of the buckets that are not known.

    `MarketEvents` refuses NaN. Here quotes are carried forward within the session and unknown flow and volume count as
    none, so that the regressors' state can go on; every bucket with an unknown value, and the next one, whose return
    spans the gap, is in the mask. Buckets of a session before every name was quoted are left out altogether.

    Parameters
    ----------
    frames
        "flow", "mid", "spread", "volume", "depth" as for `MarketEvents`, with NaN where nothing is known.
    bucket_s, tz, **terms
        As for `MarketEvents`.

    Returns
    -------
    tuple
        The events, and a `Buckets` mask for `StreamingGram`.

    Raises
    ------
    InvalidInput
        A table is missing, or malformed in any way but NaN.
    DataGap
        No bucket in which every name is quoted.
    """
    from crosswind.problems.market import MarketEvents
    from crosswind.problems.market.checks import check_frame, check_same_axes

    fields = ("flow", "mid", "spread", "volume", "depth")
    missing = [f for f in fields if f not in frames]
    if missing:
        raise InvalidInput("a table is missing", field="frames", value=missing, remedy=f"give {', '.join(fields)}")
    held: dict[str, Any] = {f: check_frame(frames[f], f, allow_nan=True) for f in fields}
    check_same_axes(held, "flow")
    index = held["flow"].index
    assert isinstance(index, pd.DatetimeIndex)
    unknown = np.zeros(len(index), dtype=bool)
    for frame in held.values():
        unknown |= frame.isna().any(axis=1).to_numpy()
    day = (index - pd.Timedelta(1, "ns")).tz_convert(tz).date
    for field in ("mid", "spread", "depth"):
        held[field] = held[field].groupby(day).ffill()
    for field in ("flow", "volume"):
        held[field] = held[field].fillna(0.0)
    # Volume that is not known but flow that is: at least that much was traded.
    held["volume"] = held["volume"].clip(lower=held["flow"].abs())
    quoted = ~np.column_stack([held[f].isna().any(axis=1) for f in ("mid", "spread", "depth")]).any(axis=1)
    if not quoted.any():
        raise DataGap("no bucket in which every name is quoted", field="frames", remedy="drop names without quotes")
    same_day = np.append(False, day[1:] == day[:-1])
    spans = np.append(False, unknown[:-1]) & same_day
    factors = terms.pop("factors", None)
    kept = {f: frame[quoted] for f, frame in held.items()}
    extra: dict[str, Any] = {"factors": None if factors is None else factors[quoted]}
    events = MarketEvents(**kept, bucket_s=bucket_s, tz=tz, **extra, **terms)
    return events, Buckets(index[(unknown | spans) & quoted], "not known")
