"""The tiles of the roll panel: value, limit, headroom, state, last event, age."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.regimes import RegimeTrigger

if TYPE_CHECKING:
    from crosswind.problems.roll.report.report import RollReport

__all__ = ["STATES", "RollTile", "build_tiles"]

STATES = ("green", "amber", "red", "safe", "grey")
"""What a tile may be; "grey": not known, or older than the data may be."""
_NAMES = {
    "rpc": ("RPC: roll volume over expected", "×"),
    "cde": ("CDE: depth healed over size taken", "×"),
    "bdz": ("BDZ: basis z-score", "σ"),
    "let_s": ("LET: legging exposure time", "s"),
    "rdp": ("RDP: needed over executable pace", "×"),
}


@dataclass(frozen=True)
class RollTile:
    """One figure of the panel.

    Parameters
    ----------
    name, label
        Key, and what it says.
    value, unit
        NaN or "" where not known. Costs are positive where money is lost.
    limit, headroom
        What it is held against, and how far it is from it, negative beyond; NaN without one.
    state
        One of :data:`STATES`.
    note
        Interval, band of past rolls, or why it is not known.
    last_event, event_age_s
        What happened last to it, and how long ago [s].
    age_s
        Of the data behind it [s].
    """

    name: str
    label: str
    value: float | str
    unit: str
    limit: float = math.nan
    headroom: float = math.nan
    state: str = "green"
    note: str = ""
    last_event: str = ""
    event_age_s: float = math.nan
    age_s: float = math.nan

    @property
    def known(self) -> bool:
        """Whether it has a value."""
        return bool(self.value) if isinstance(self.value, str) else not math.isnan(self.value)

    @property
    def text(self) -> str:
        """Value and unit; a dash where not known."""
        if isinstance(self.value, str):
            return self.value or "–"
        if math.isnan(self.value):
            return "–"
        if math.isinf(self.value):
            return f"{'−' if self.value < 0 else ''}∞ {self.unit}".strip()
        size = abs(self.value)
        digits = 0 if size >= 100 or float(self.value).is_integer() else 1 if size >= 10 else 2
        shown = round(self.value, digits) + 0.0  # no minus before a zero
        return f"{shown:,.{digits}f} {self.unit}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; not known is None, never 0."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def build_tiles(report: RollReport) -> tuple[RollTile, ...]:
    """Return the tiles of a report; where its data are stale, all of them are grey."""
    stale = report.stale
    tiles = [
        _health(report),
        _regime(report),
        *(_metric(report, name) for name in _NAMES),
        _remaining(report),
        _pace(report),
        *_projected(report),
        _forecast(report),
        *_churn(report),
        _legs(report),
        _countdown(report),
        _cost(report),
    ]
    return tuple(
        _with(tile, age_s=report.age_s, state="grey" if stale or not tile.known else tile.state) for tile in tiles
    )


def _with(tile: RollTile, **values: Any) -> RollTile:
    return RollTile(**{**asdict(tile), **values})


def _health(r: RollReport) -> RollTile:
    limit = r.config.stale_bars * r.track.market.bar_s
    note = f"last bar ended {r.track.as_of.tz_convert(r.config.tz):%H:%M:%S %Z}"
    return RollTile("health", "Age of the data", r.age_s, "s", limit, limit - r.age_s, note=note)


def _regime(r: RollReport) -> RollTile:
    if not r.track.regimes:
        return RollTile("regime", "Regime", "", "", note="nobody watches: pass a RegimeWatch")
    regime, changes = r.track.regimes[-1], r.track.transitions
    event = changes[-1].text() if changes else "none yet"
    since = (r.track.as_of - changes[-1].time).total_seconds() if changes else math.nan
    note = f"{len(changes)} changes today"
    return RollTile(
        "regime", "Regime", regime.name, "", state=regime.value, note=note, last_event=event, event_age_s=since
    )


def _metric(r: RollReport, name: str) -> RollTile:
    label, unit = _NAMES[name]
    frame = r.frame
    value = float(frame[name].iloc[-1]) if name in frame else math.nan
    trigger: RegimeTrigger | None = next((t for t in r.config.regimes.triggers if t.metric == name), None)
    limit = math.nan if trigger is None else trigger.enter
    state, room = "green", math.nan
    if trigger is not None and not math.isnan(value):
        size = abs(value) if trigger.side == "outside" else value
        room = size - limit if trigger.side == "below" else limit - size
        state = trigger.regime.value if trigger.entered(value) else "green"
    band = r.band_text(name)
    ended = not r.track.bars_left[-1]
    why = (
        ("the order has ended" if ended else "not known: window not warm, or no baseline") if math.isnan(value) else ""
    )
    events = [t for t in r.track.transitions if trigger is not None and trigger.name in t.trigger.split("+")]
    last = events[-1].text() if events else ""
    since = (r.track.as_of - events[-1].time).total_seconds() if events else math.nan
    note = "; ".join(part for part in (why, band) if part)
    return RollTile(name, label, value, unit, limit, room, state, note, last, since)


def _remaining(r: RollReport) -> RollTile:
    left = float(r.track.remaining[-1])
    share = left / r.track.order.size
    note = f"{share:.0%} of {r.track.order.size:,}"
    row = r.frame.iloc[-1]
    # What the executable pace can do until the cutoff: RDP in spreads.
    limit = float(row["pace"]) * float(r.track.bars_left[-1]) * r.track.market.bar_s / 60.0
    state = "amber" if left > limit else "green"
    if r.plan_start is not None:
        planned = r.planned_remaining()
        low, high = planned["remaining_q05"], planned["remaining_q95"]
        note += f"; the start's plan had {planned['remaining']:,.0f} ({low:,.0f}–{high:,.0f}) here"
    fills = r.track.fills
    last = f"{abs(fills[-1].units):,} {fills[-1].kind}" if fills else "no fill yet"
    since = (r.track.as_of.value - fills[-1].time_ns) / 1e9 if fills else math.nan
    return RollTile("remaining", "Still to be done", left, "spreads", limit, limit - left, state, note, last, since)


def _pace(r: RollReport) -> RollTile:
    pace, needed = (float(r.frame[name].iloc[-1]) for name in ("pace", "required"))
    state = "green" if not pace < needed else "amber"
    return RollTile(
        "pace",
        "Executable pace",
        pace,
        "/min",
        needed,
        pace - needed,
        state,
        f"needed until the cutoff {needed:,.1f} /min",
    )


def _projected(r: RollReport) -> list[RollTile]:
    row, cap = r.frame.iloc[-1], float(r.track.order.carry_cap)
    value = float(row["left"])
    known = not math.isnan(row["left_low"])
    note = f"5–95 %: {row['left_low']:,.0f}–{row['left_high']:,.0f}" if known else "interval not known yet"
    if r.plan_now is not None:
        note += f"; plan {r.plan_now.expected_underfill:,.0f}, chance {r.plan_now.underfill_probability:.0%}"
    cross = r.cross_projected
    state = "green" if value < 1.0 else "amber"
    if cross is not None and cross.left > cap:
        state = "red"
    residual = RollTile("residual", "Left at the cutoff, at this pace", value, "spreads", cap, cap - value, state, note)
    return [residual, _cross(r, state)]


def _cross(r: RollReport, state: str) -> RollTile:
    label, low, high = "Its forced cross, at the book now", r.cross_low, r.cross_high
    cross = r.cross_projected
    if cross is None:
        return RollTile("forced_cross", label, math.nan, "", note="pace not known yet")
    note = "" if low is None or high is None else f"5–95 %: {low.cost:,.0f}–{high.cost:,.0f}; "
    note += f"all that is left now {r.cross_now.cost:,.0f}"
    if cross.left:
        note += f"; the book has {cross.left:,} too few"
    return RollTile("forced_cross", label, cross.cost, r.currency, state=state, note=note)


def _forecast(r: RollReport) -> RollTile:
    label = "Cost of the next clip, median"
    unit = f"{r.currency}/spread"
    if r.forecast is None:
        return RollTile("forecast", label, math.nan, unit, note=r.notes.get("forecast", ""))
    f = r.forecast
    note = f"q95 {f.q95[-1]:.2f}, mean {f.mean[-1]:.2f}; positive: money lost"
    return RollTile("forecast", label, float(f.q50[-1]), unit, note=note)


def _churn(r: RollReport) -> list[RollTile]:
    now, limit = r.track.as_of.value, float(r.config.churn.max_replaces_per_minute)
    times = {kind: [ns for ns, what in r.track.events if what == kind] for kind in ("replace", "reject", "retry")}
    recent = float(sum(now - 60_000_000_000 < ns <= now for ns in times["replace"]))
    ages = {kind: (now - ns[-1]) / 1e9 if ns else math.nan for kind, ns in times.items()}
    moves = RollTile(
        "replaces", "Replaces in the last minute", recent, "/min", limit, limit - recent,
        "green" if recent < limit else "amber", f"{len(times['replace'])} in all, each gives up a place in the queue",
        "replace" if times["replace"] else "", ages["replace"],
    )  # fmt: skip
    last = sum(now - 600_000_000_000 < ns <= now for ns in times["reject"])
    note = f"{len(times['reject'])} refused and {len(times['retry'])} sent again in all"
    refused = RollTile(
        "rejects", "Refusals in the last 10 min", float(last), "", state="amber" if last > 2 else "green", note=note,
        last_event="reject" if times["reject"] else "", event_age_s=ages["reject"],
    )  # fmt: skip
    return [moves, refused]


def _legs(r: RollReport) -> RollTile:
    near, far = r.track.legs
    naked, limit = float(abs(near + far)), float(r.track.order.max_naked)
    state = "green" if naked <= limit else "red"
    note = f"near {near:+,}, far {far:+,} contracts"
    return RollTile("legs", "Legs apart", naked, "contracts", limit, limit - naked, state, note)


def _countdown(r: RollReport) -> RollTile:
    left = (r.track.order.cutoff - r.now).total_seconds() / 60.0
    limit = r.config.regimes.deadline_min
    state = "green" if left > limit else Regime.DEADLINE.value if left >= 0.0 else "red"
    note = f"cutoff {r.track.order.cutoff.tz_convert(r.config.tz):%H:%M %Z}; completion first below {limit:g} min"
    if left <= 0.0 and not r.track.remaining[-1]:
        state, note = "green", "done"
    return RollTile("countdown", "Until the cutoff", left, "min", limit, left - limit, state, note)


def _cost(r: RollReport) -> RollTile:
    parts: Mapping[str, float] = r.components
    done = r.done
    total = math.fsum(parts.values())
    value = total / done if done else math.nan
    note = ", ".join(f"{k.replace('_', ' ')} {v / done:+.2f}" for k, v in parts.items()) if done else "no fill yet"
    return RollTile("cost", "Cost so far (positive: money lost)", value, f"{r.currency}/spread", note=note)


def age_text(seconds: float) -> str:
    """Return an age in words."""
    return "" if math.isnan(seconds) else f"{pd.Timedelta(seconds=round(seconds))}".replace("0 days ", "")
