"""The page of benchmarks/roll_study.py: tables, verdicts and pictures from its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from roll_study import (
    CHUNK,
    DISPLAY,
    FRONTIER_SLICE,
    FRONTIER_TAIL,
    SEEDS,
    TAIL_GRID,
    TEST,
    TRAIN,
    WHOLE,
    Study,
)
from roll_study_real import ADAPTIVE, FIVE, OURS, PARTS, PLAIN, TWAP, real_losses, real_part, table

from crosswind.problems.roll.replay import STRESS_RATES
from crosswind.problems.roll.replay.bootstrap import MEASURES, block_weights, measures

DRAWS = 1000
Rows = dict[str, pd.DataFrame]


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Return value and 95 % bounds of ours less theirs on the orders that both have; days are drawn once for both.

    Names: mean, median, q95, cvar95, ``cut`` (1 − our q95 / theirs), completion, forced.
    """
    common = ours.index.intersection(theirs.index)
    a, b = ours.loc[common], theirs.loc[common]
    weights = block_weights(a["block"].tolist(), DRAWS, 0)

    def both(rows: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        rates = rows[["completion", "forced_share"]].to_numpy(float)
        costs = rows["cost"].to_numpy(float)
        point = np.r_[measures(costs), rates.mean(axis=0)]
        drawn = np.column_stack([measures(costs, weights), weights @ rates / weights.sum(axis=1)[:, None]])
        return point, drawn

    (p, drawn), (p0, drawn0) = both(a), both(b)
    names = (*MEASURES, "completion", "forced")
    out = {}
    for k, name in enumerate(names):
        low, high = np.quantile(drawn[:, k] - drawn0[:, k], (0.025, 0.975))
        out[name] = (float(p[k] - p0[k]), float(low), float(high))
    low, high = np.quantile(1.0 - drawn[:, 2] / drawn0[:, 2], (0.025, 0.975))
    out["cut"] = (float(1.0 - p[2] / p0[2]), float(low), float(high))
    return out


def span(value: tuple[float, float, float], form: str = "+.2f") -> str:
    """Return a value with its interval."""
    return f"{value[0]:{form}} ({value[1]:{form}} … {value[2]:{form}})"


def numbers(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return mean, median, q95, CVaR95 of the cost."""
    return measures(frame["cost"].to_numpy(float))


def main_table(rows: Rows) -> list[str]:
    """Return the comparison."""
    head = [
        "policy",
        "orders",
        "mean",
        "median",
        "q95",
        "CVaR95",
        *(p.replace("_", " ") for p in PARTS),
        "done",
        "forced",
    ]
    lines = []
    for label, frame in rows.items():
        values = [f"{v:.2f}" for v in (*numbers(frame), *frame[list(PARTS)].mean())]
        lines.append(
            [
                label,
                f"{len(frame):,}",
                *values,
                f"{frame['completion'].mean():.2%}",
                f"{frame['forced_share'].mean():.2%}",
            ]
        )
    return table(head, lines)


def difference_table(rows: Rows, base: str, labels: list[str]) -> list[str]:
    """Return paired differences to one policy."""
    lines = []
    for label in labels:
        d = paired(rows[label], rows[base])
        lines.append(
            [
                label,
                *(span(d[name]) for name in ("mean", "q95", "cvar95")),
                span(d["cut"], ".0%"),
                span(d["forced"], "+.2%"),
            ]
        )
    return table(["policy", "mean", "q95", "CVaR95", "q95 lower by", "forced share"], lines)


def by_group(rows: Rows, column: str, base: str) -> list[str]:
    """Return completion and tails of ours and a rival by group of orders, with the difference."""
    ours, theirs = rows[OURS], rows[base]
    worst = ours["worst"]
    lines = []
    groups = worst if column == "worst" else ours[column]
    for group in sorted(groups.unique(), key=lambda g: (isinstance(g, str), g)):
        index = groups.index[groups == group].intersection(theirs.index)
        a, b = ours.loc[index], theirs.loc[index]
        d = paired(a, b)
        lines.append(
            [
                str(group),
                f"{len(a):,}",
                f"{a['completion'].mean():.2%} / {b['completion'].mean():.2%}",
                f"{a['completion'].min():.1%} / {b['completion'].min():.1%}",
                f"{a['forced_share'].mean():.2%} / {b['forced_share'].mean():.2%}",
                span(d["mean"]),
                span(d["q95"]),
            ]
        )
    head = ["orders", "number", "done", "least done", "forced", "mean less theirs", "q95 less theirs"]
    return table([f"by {column}" if column != "worst" else "by regime", *head[1:]], lines)


def losses(rows: Rows, base: str) -> list[str]:
    """Return the buckets in which ours is dearer in mean or q95 than a rival, worst first."""
    ours, theirs = rows[OURS], rows[base]
    common = ours.index.intersection(theirs.index)
    a, b = ours.loc[common], theirs.loc[common]
    found = []
    for columns in (
        ("size",),
        ("stress",),
        ("worst",),
        ("side",),
        ("size", "stress"),
        ("size", "side"),
        ("stress", "side"),
    ):
        for key, part in a.groupby(list(columns)):
            if len(part) < 25:
                continue
            d = paired(part, b.loc[part.index])
            if d["mean"][0] > 0.0 or d["q95"][0] > 0.0:
                label = ", ".join(f"{c} {k}" for c, k in zip(columns, key, strict=True))
                found.append(
                    (max(d["mean"][0], d["q95"][0]), [label, f"{len(part):,}", span(d["mean"]), span(d["q95"])])
                )
    if not found:
        return [f"Against {base}: in none of the buckets (25 orders or more) is it dearer in mean or q95.", ""]
    found.sort(key=lambda entry: -entry[0])
    worse = int((a["cost"] > b["cost"] + 1e-9).sum())
    text = f"Against {base} it is dearer on {worse:,} of {len(a):,} orders, and in these buckets (25 orders or more):"
    return [text, "", *table(["bucket", "orders", "mean", "q95"], [line for _, line in found[:14]])]


def verdicts(rows: Rows, half: Rows) -> list[str]:
    """Return each bar with what was measured, in plain words."""
    ours, twap = rows[OURS], rows[TWAP]
    d = paired(ours, twap)
    out = []

    def say(met: bool, text: str) -> None:
        out.append(f"- **{'Met' if met else 'MISSED'}**: {text}")

    sure = d["cut"][1] >= 0.2
    say(
        d["cut"][0] >= 0.2,
        f"q95 at least 20 % below TWAP's: {span(d['cut'], '.0%')} below"
        f"{'' if sure else '; the interval reaches under the bar'}.",
    )
    say(d["mean"][2] <= 0.15, f"mean not above TWAP's by more than .15: {span(d['mean'])} $ a contract.")
    for label, words in (
        (FIVE, "the adaptive TWAP path of five-minute slices"),
        (ADAPTIVE, "the adaptive TWAP as tuned"),
    ):
        e = paired(ours, rows[label])
        say(e["q95"][2] < 0.0, f"q95 below {words}: {span(e['q95'])} $, mean {span(e['mean'])}.")
    groups = {
        **{f"stress {s}": p for s, p in ours.groupby("stress")},
        **{f"regime {s}": p for s, p in ours.groupby("worst")},
    }
    least = min(groups, key=lambda g: groups[g]["completion"].mean())
    done = groups[least]["completion"].mean()
    say(done >= 0.999, f"completion at the deadline ≥ 99.9 % in every regime: least {done:.3%} ({least}).")
    say(
        d["forced"][0] <= 1e-12 and d["forced"][2] <= 5e-4,
        f"forced-cross share not above TWAP's: {ours['forced_share'].mean():.3%} against "
        f"{twap['forced_share'].mean():.3%}, "
        f"difference {span(d['forced'], '+.3%')}.",
    )
    for stress, part in ours.groupby("stress"):
        gap = part["completion"].mean() - twap.loc[part.index, "completion"].mean()
        if gap < 0.0:
            say(False, f"no mean bought with completion in stress: {stress} completes {-gap:.3%} less than TWAP.")
            break
    else:
        say(True, "no mean bought with completion in stress: in no stress does it complete less than TWAP.")
    t = paired(ours, rows[PLAIN])
    out.append(f"- The tail term alone: q95 {span(t['q95'])}, CVaR95 {span(t['cvar95'])}, mean {span(t['mean'])}.")
    h = paired(half[OURS], half[PLAIN])
    out.append(f"- The tail term alone with volatility halved: q95 {span(h['q95'])}, mean {span(h['mean'])}.")
    return out


def frontier_frame(points: Rows) -> pd.DataFrame:
    """Return family, urgency, mean, q95, CVaR95 of each point."""
    rows = []
    for label, frame in points.items():
        family, urgency = label.split("|")
        mean, _, q95, cvar = numbers(frame)
        rows.append((family, float(urgency), mean, q95, cvar, frame["completion"].mean()))
    return pd.DataFrame(rows, columns=["family", "urgency", "mean", "q95", "cvar95", "completion"])


def page(study: Study) -> str:
    """Return the page."""
    chosen = study.tuned()
    rows, points, loose, real = study.main(), study.frontier(), study.volatility(), study.real()
    ours = rows[OURS]
    front = frontier_frame(points)
    rivals = [label for label in rows if label not in (TWAP,)]
    ablations = [PLAIN, "without reversion", "without carry-forward", "without regimes", "playbook"]
    ablations += [label for label in rows if "program" in label]
    stress = ", ".join(f"{k} {v:.0%}" for k, v in STRESS_RATES.items())
    out = [
        "# Roll policies, measured",
        "",
        "Printed by `benchmarks/roll_study.py --write`. Costs in $ a contract (spread) of the order against the "
        "arrival mid, positive: money lost, fees of 2.40 included. "
        "In brackets: 95 % intervals of a bootstrap by day, paired where "
        "two policies are "
        "compared. [How a replay works](replay.md).",
        "",
        f"{len(ours):,} orders on {ours['block'].nunique()} simulated days of the world `roll_day@1` (seed "
        f"{SEEDS['test']}); "
        f"stressed days: {stress}. Every parameter, the baselines' as well, was chosen on {TRAIN} orders of seed "
        f"{SEEDS['train']} by ½ mean + ½ q95 subject to 99.9 % completion, and frozen.",
        "",
        f"Whatever rests shows at most {DISPLAY:.0%} of what its side of the book displays, in every "
        "policy of this page: a simulated book does not "
        "answer to a large order that rests in it, so that showing the whole order at once would be free.",
        "",
        "## Verdict",
        "",
        *verdicts(rows, loose[0.5]),
        *real_losses(real),
        "",
        "## Comparison",
        "",
        *main_table(rows),
        f"Less {TWAP}, on the orders that both have:",
        "",
        *difference_table(rows, TWAP, rivals),
        f"Less {ADAPTIVE} as tuned:",
        "",
        *difference_table(rows, ADAPTIVE, [OURS, PLAIN, FIVE, "playbook", "rest, then the forced cross"]),
        "## Completion",
        "",
        f"Ours / {TWAP}. The regime is the worst that the order met before DEADLINE, as the machine saw "
        "it with ours; DEADLINE: from the start.",
        "",
        *by_group(rows, "worst", TWAP),
        *by_group(rows, "stress", TWAP),
        f"No order was replaced more than {int(ours['most_replaces'].max())} times in a minute; the legs stood apart "
        "by "
        f"{int(ours['most_naked'].max())} contracts at most; {int((ours['legging'] != 0).sum())} orders used legs; "
        f"{int(ours['faults'].max())} decisions fell back to the even pace for a fault. A replay of ours took "
        f"{1e3 * ours['seconds'].mean():.0f} ms of CPU, one of TWAP {1e3 * rows[TWAP]['seconds'].mean():.0f} ms.",
        "",
        "## Frontier",
        "",
        "![Mean and q95 of both families](../img/roll-study-frontier.png)",
        "",
        f"The first {len(next(iter(points.values()))):,} test orders; all other parameters as tuned.",
        "",
    ]
    for family, axis in ((OURS, "λ"), (ADAPTIVE, "slice [s]")):
        part = front[front["family"] == family]
        lines = [
            ["whole" if u == WHOLE else f"{u:g}", f"{m:.2f}", f"{q:.2f}", f"{c:.2f}", f"{done:.2%}"]
            for u, m, q, c, done in part[["urgency", "mean", "q95", "cvar95", "completion"]].to_numpy()
        ]
        out += table([f"{family}: {axis}", "mean", "q95", "CVaR95", "done"], lines)
    own = front[front["family"] == OURS]
    least = {name: own.loc[own[name].idxmin(), "urgency"] for name in ("mean", "q95", "cvar95")}
    out += [
        f"Along λ the mean is least at {least['mean']:g}, q95 at {least['q95']:g} and CVaR95 at {least['cvar95']:g}: "
        "beyond, crossing costs more than the tail that it saves, and both grow. The whole curve lies below that of "
        "the adaptive TWAP in q95 at equal mean.",
        "",
    ]
    out += [
        "## Volatility of the calendar",
        "",
        "All price volatilities of the day halved and doubled; parameters as frozen, not told.",
        "",
    ]
    for factor, part in loose.items():
        out += [
            f"Times {factor:g}:",
            "",
            *main_table(part),
            *difference_table(part, TWAP, [label for label in part if label != TWAP]),
        ]
        d = paired(part[OURS], part[PLAIN])
        out += [f"The tail term: mean {span(d['mean'])}, q95 {span(d['q95'])}, CVaR95 {span(d['cvar95'])}.", ""]
    out += ["## What each part brings", "", f"Each variant less {OURS}: positive means that the part pays.", ""]
    out += [
        "The simulated basis reverts by construction: what waiting for a dislocation to pass brings (the row without "
        "reversion) hangs on that, and a market whose basis wanders would not pay it. Without it the bars against TWAP "
        "still hold in the table above. The price on the tail itself moves little: resting early, carrying forward and "
        "an even pace in time do most of the work.",
        "",
    ]
    out += difference_table(rows, OURS, ablations)
    out += ["## Where it loses", "", *losses(rows, TWAP), *losses(rows, ADAPTIVE)]
    out += [
        "## Parameters",
        "",
        *table(
            ["family", "chosen"],
            [[k, ", ".join(f"{a} {b}" for a, b in v.items()) or "none to choose"] for k, v in chosen.items()],
        ),
    ]
    out += [
        f"A slice of {WHOLE:g} s is longer than any window: the whole order rests from the start, within the "
        f"display. The tail-aware policy was tuned over {', '.join(TAIL_GRID)}, one after the other.",
        "",
    ]
    out += ["## Recorded days", "", *real_part(real)]
    return "\n".join(line.rstrip() for line in out).rstrip() + "\n"


def pictures(study: Study, folder: Path) -> None:
    """Write the frontier's picture."""
    import plotly.graph_objects as go

    front = frontier_frame(study.frontier())
    figure = go.Figure()
    for family, colour in ((OURS, "#1f5fa8"), (ADAPTIVE, "#c05a1c")):
        part = front[front["family"] == family].sort_values("urgency")
        texts = ["whole" if u == WHOLE else f"{u:g}" for u in part["urgency"]]
        figure.add_trace(
            go.Scatter(
                x=part["mean"],
                y=part["q95"],
                mode="lines+markers+text",
                text=texts,
                textposition="top center",
                textfont={"size": 9},
                name=f"{family}, {'λ' if family == OURS else 'slice in s'}",
                line={"color": colour},
            )
        )
    frame = study.main()[TWAP]
    few = frame.iloc[: len(next(iter(study.frontier().values())))]
    mean, _, q95, _ = numbers(few)
    figure.add_trace(
        go.Scatter(x=[mean], y=[q95], mode="markers", name=TWAP, marker={"color": "#555555", "symbol": "x", "size": 10})
    )
    figure.update_layout(
        template="plotly_white",
        width=860,
        height=520,
        xaxis_title="mean cost [$ a contract; positive: money lost]",
        yaxis_title="q95 of the cost [$ a contract]",
        legend={"x": 0.02, "y": 0.98},
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
    )
    figure.write_image(folder / "roll-study-frontier.png", scale=1.2)


assert len(FRONTIER_TAIL) + len(FRONTIER_SLICE) >= 30
assert TEST % CHUNK == 0
