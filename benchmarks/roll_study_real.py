"""The recorded days on the page of benchmarks/roll_study.py, and what its modules share: names and tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
from roll_study import COLUMNS, REAL

TWAP, ADAPTIVE, FIVE, OURS, PLAIN = (
    "TWAP in the spread",
    "adaptive TWAP",
    "adaptive TWAP, 5 min",
    "tail-aware",
    "without the tail term",
)
PARTS = ("spread_fees", "impact", "basis_drift", "legging", "timing")


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown."""
    return [
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
        *("| " + " | ".join(r) + " |" for r in rows),
        "",
    ]


def real_part(found: dict[str, Any]) -> list[str]:
    """Return the recorded days."""
    frame = pd.DataFrame(found["rows"], columns=["day", "policy", *COLUMNS])
    out = [
        "No exchange-quoted calendar spread is at hand: the legs are as recorded, the spread book is "
        f"**{found['source']}**. What rests in a made-up book fills without bad luck in the price: rows of "
        "policies that rest say that they run, not what they would earn. "
        "Six orders a day and size (three windows of two hours, both "
        "sides); with so few, median and worst are shown, and no interval.",
        "",
    ]
    for (day, size), part in frame.groupby(["day", "size"], sort=False):
        out += [f"**{day}**, {REAL[day][0]}, {size:,} spreads, $ a contract:", ""]
        lines = []
        for label, rows in part.groupby("policy", sort=False):
            cost = rows["cost"]
            values = [cost.mean(), cost.median(), cost.max(), *rows[list(PARTS)].mean()]
            lines.append(
                [
                    label,
                    *(f"{v:.2f}" for v in values),
                    f"{rows['completion'].mean():.1%}",
                    f"{rows['forced_share'].mean():.1%}",
                ]
            )
        out += table(
            ["policy", "mean", "median", "worst", *(p.replace("_", " ") for p in PARTS), "done", "forced"], lines
        )
    out += [
        "On 12-02 the far leg shows and trades little. There the tail-aware policy loses to TWAP on large orders: it "
        "rests while the book could still be crossed, because what the book offers now is taken as what it will "
        "offer, and then walks it. `caution`, the share of that capacity beyond which an even pace is kept, decides "
        "how much; the training days hardly tell (last column: their ½ mean + ½ q95):",
        "",
        *table(
            ["2,000 spreads, caution", "mean", "worst", "impact", "through the legs", "training"],
            [
                [f"{d}, {c:g}", f"{m:.2f}", f"{w:.2f}", f"{i:.2f}", f"{g:.0%}", f"{s:.3f}"]
                for d, c, m, w, i, g, s in found["caution"]
            ],
        ),
    ]
    out += [
        "### The machine on 2013-12-18",
        "",
        "Tail-aware, 2,000 spreads from 9:00 to 15:00 in Chicago; RPC is not known, for no earlier roll is recorded:",
        "",
    ]
    out += ["```text", *(t["text"] for t in found["trails"]["2013-12-18"]), "```", ""]
    out += [
        "The depth of the made-up book is the smaller leg's, which jumps by itself: nearly all changes come from CDE. "
        "The "
        "announcement of 14:00 in New York does not show in BDZ here, as it does for the quotes that the legs imply "
        "([regimes](regimes.md)): the made-up quotes stand around a five-minute median. In words:",
        "",
    ]
    for t in found["trails"]["2013-12-18"]:
        out.append(f"- {explained(t)}")
    return [*out, "", "```text", *found["text"].splitlines(), "```", ""]


def real_losses(found: dict[str, Any]) -> list[str]:
    """Return the recorded days on which ours is dearer than TWAP, or that there are none."""
    frame = pd.DataFrame(found["rows"], columns=["day", "policy", *COLUMNS])
    means = frame.pivot_table(index=["day", "size"], columns="policy", values="cost", aggfunc="mean")
    worse = means[means[OURS] > means[TWAP]]
    if worse.empty:
        return ["- On the recorded days it is nowhere dearer than TWAP in the mean."]
    return [
        f"- **It loses** on the recorded {day} with {size:,} spreads: {row[OURS]:.2f} against TWAP's "
        f"{row[TWAP]:.2f} (see below)."
        for (day, size), row in zip(worse.index, worse.to_dict("records"), strict=True)
    ]


def explained(t: dict[str, Any]) -> str:
    """Return a transition in words, from its own values."""
    clock = pd.Timestamp(t["time"]).tz_convert("America/New_York")
    names = {
        "cde": "what aggressors took did not come back into the book",
        "bdz": "the spread stood far from its own level of half an hour",
        "rdp": "what remained was more than the pace of fills could do",
        "rpc": "the roll traded more than usual",
        "late": "in the last hour what remained was twice what the pace of fills could do",
        "deadline": "the cutoff was near",
    }
    trigger = t["trigger"]
    bare = trigger.removeprefix("released ").split("+")
    if trigger.startswith("released"):
        why = f"{', '.join(bare)} had been calm for a minute ({t['value']:.2f} against {t['threshold']:.2f})"
    else:
        why = (
            "; ".join(names.get(name, name) for name in bare)
            + f" ({bare[0]} {t['value']:.2f} against {t['threshold']:.2f})"
        )
    note = (
        " This is the minute of the Federal Reserve's announcement, 14:00."
        if clock.strftime("%H:%M") == "14:00"
        else ""
    )
    return f"{clock:%H:%M} New York, {t['source']} → {t['target']}: {why}.{note}"
