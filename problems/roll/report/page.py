"""The report as one self-contained page."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import pandas as pd

from crosswind.problems.page import Section, render
from crosswind.problems.roll.replay import COMPONENTS
from crosswind.problems.roll.report.plots import COLOURS, report_figure
from crosswind.problems.roll.report.tiles import RollTile, age_text

if TYPE_CHECKING:
    from crosswind.problems.roll.report.report import RollReport

__all__ = ["report_html"]

_STYLE = """
.panel { display: grid; grid-template-columns: repeat(auto-fill, minmax(205px, 1fr)); gap: 10px; margin: 18px 0; }
.lamp { background: #fff; border: 1px solid var(--line); border-left: 7px solid; border-radius: 6px; }
.lamp { padding: 9px 12px; font-size: 12px; color: var(--soft); line-height: 1.35; }
.lamp b { display: block; font-size: 20px; color: var(--ink); line-height: 1.25; }
.lamp em { font-style: normal; font-weight: 600; color: var(--ink); }
.lamp.grey b { color: #9AA5B1; }
.stale { background: #3d4852; color: #fff; border-radius: 6px; padding: 10px 14px; margin: 18px 0 0; }
"""


def report_html(report: RollReport) -> str:
    """Return the page as HTML text.

    Raises
    ------
    MissingDependency
        Without plotly.
    """
    order, track, zone = report.track.order, report.track, report.config.tz
    title = f"Roll {order.name}: {'buy' if order.side > 0 else 'sell'} {order.size:,} spreads"
    subtitle = (
        f"{track.market.legs[0]} into {track.market.legs[1]}, {track.policy}, as of "
        f"{track.as_of.tz_convert(zone):%Y-%m-%d %H:%M:%S %Z}; spread book: {track.market.source}. "
        "A positive cost is money lost."
    )
    page = render(title, subtitle, {}, _sections(report), report.footer)
    stale = (
        f'<div class="stale">The data are {age_text(report.age_s)} old: nothing here is known to hold now.</div>'
        if report.stale
        else ""
    )
    panel = "".join(_lamp(tile) for tile in report.tiles)
    page = page.replace('<div class="tiles"></div>', f'{stale}<div class="panel">{panel}</div>', 1)
    return page.replace("</style>", f"{_STYLE}</style>", 1)


def _lamp(tile: RollTile) -> str:
    parts = []
    if not math.isnan(tile.limit):
        room = "" if math.isnan(tile.headroom) else f", headroom {tile.headroom:,.4g}"
        parts.append(f"limit {tile.limit:,.4g}{room}")
    parts += [tile.note] if tile.note else []
    if tile.last_event:
        ago = age_text(tile.event_age_s)
        parts.append(f"last: {tile.last_event}{f', {ago} ago' if ago else ''}")
    lines = "<br>".join(html.escape(part) for part in parts)
    state = tile.state
    return (
        f'<div class="lamp {state}" style="border-left-color: {COLOURS[state]}" title="{state}, data '
        f'{tile.age_s:.0f} s old"><em>{html.escape(tile.label)}</em><b>{html.escape(tile.text)}</b>{lines}</div>'
    )


def _sections(report: RollReport) -> list[Section]:
    track = report.track
    day = Section(
        "The day",
        "Blue line: the cutoff; dotted: now. Grey bands: past rolls. A cone at the present pace takes the flow as "
        "steady; the plan knows the time of day, and what the order costs in each of its scenarios.",
        figures=[report_figure(report)],
    )
    changes = pd.DataFrame(
        [
            [f"{t.source.name} → {t.target.name}", t.trigger, t.value, t.threshold, t.minutes_left, t.held_s]
            for t in track.transitions
        ],
        index=[f"{t.time.tz_convert(report.config.tz):%H:%M:%S}" for t in track.transitions],
        columns=["change", "trigger", "value", "against", "minutes left", "regime had lasted [s]"],
    ).rename_axis("time")
    parts = report.components
    done = max(report.done, 1)
    cost = pd.DataFrame(
        {
            f"so far [{report.currency}]": {k: parts[k] for k in COMPONENTS} | {"total": math.fsum(parts.values())},
            f"[{report.currency} per spread done]": {k: parts[k] / done for k in COMPONENTS}
            | {"total": math.fsum(parts.values()) / done},
        }
    )
    for name, plan in (("plan at the start", report.plan_start), ("plan now", report.plan_now)):
        if plan is not None:
            means = plan.assembly.scenarios.probabilities @ plan.components.to_numpy() / plan.quantity
            expected = [*means, plan.mean / plan.quantity]
            cost[name] = expected
    tables = {
        f"Cost by component, positive: money lost; plans: expected [{report.currency} per spread left]": cost.round(4)
    }
    tails = {
        name: {"mean": p.mean / p.quantity, "q95": p.q95 / p.quantity, "CVaR95": p.cvar95 / p.quantity}
        | {"left to the forced cross [spreads]": p.expected_underfill, "with a chance of": p.underfill_probability}
        for name, p in (("plan at the start", report.plan_start), ("plan now", report.plan_now))
        if p is not None
    }
    if tails:
        tables[f"What the plans expect [{report.currency} per spread]"] = pd.DataFrame.from_dict(tails, orient="index")
    if len(changes):
        tables["Changes of regime, with the values that caused them"] = changes
    missing = [f"No {part.replace('_', ' ')}: {why}." for part, why in report.notes.items()]
    text = " ".join(["What the fills cost, what the plans expect, and why the regime changed.", *missing])
    return [day, Section("Figures behind it", text, tables=tables)]
