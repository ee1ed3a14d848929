"""Run the main job on the simulator and on recorded equities, and print what the docs show.

    python benchmarks/main_job.py            # print the page
    python benchmarks/main_job.py --write    # also write docs/main-job.md and docs/img/run.png

The recorded data are read from CROSSWIND_DATA, else from ../shared/data beside the project; without them only the
simulator's part is printed, and nothing is written. The picture needs kaleido and a Chromium.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

import crosswind as cw

ROOT = Path(__file__).resolve().parents[1]
COSTS = ["spread", "temporary", "impact_self", "impact_cross", "expected", "risk", "total", "breaches"]


def data_dir() -> Path:
    """Return the folder of recorded data, there or not."""
    return Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))


def cell(value: Any) -> str:
    """Return a table cell: three decimals, powers of ten where that would read zero, a dash for nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "–"
        return f"{value:.1e}" if 0.0 < abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown with its index first."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    rows = [
        [str(i), *(cell(v) for v in row)] for i, row in zip(table.index, table.astype(object).to_numpy(), strict=True)
    ]
    lines = ["| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def part(title: str, command: str, result: cw.RunResult) -> list[str]:
    """Return the page's part on one run."""
    from crosswind.problems.workflow.text import policy_table

    shown = result.out_of_sample.sort_values("mean", ascending=False)
    shown = shown[[*result.train.names, "mean", "admissible", "violation"]]
    lines = [f"## {title}", "", f"`{command}`", ""]
    lines += [
        f"Fitted on {', '.join(map(str, result.train.days))}, tested on {', '.join(map(str, result.test.days))}; "
        f"buckets of {result.train.bucket_s:g} s; configuration `{result.configuration}`.",
        "",
        "Out-of-sample R² of bucket returns, best mean first. *Violation* is the worst relative break of symmetry, PSD "
        "or the correlation bound.",
        "",
        markdown(shown),
        "",
    ]
    if result.recovery is not None:
        lines += ["Distance to the simulator's truth (lower is better):", "", markdown(result.recovery), ""]
    lines += ["Costs of the basket under the fitted model [bps of parent notional]:", ""]
    lines += [markdown(result.schedules[COSTS]), ""]
    hedge = result.hedge
    assert hedge is not None
    lines += [
        f"Hedge with {hedge.settings['future']} over {len(hedge.comparison.parents)} parents of the last day "
        "[bps of parent notional]; policies tuned on the fitting days, then frozen:",
        "",
        markdown(policy_table(hedge.comparison.table())),
        "",
        f"Paired difference of the hedge cost against {hedge.comparison.baseline}, with 95 % bootstrap intervals over "
        "parents [bps]:",
        "",
        markdown(hedge.comparison.differences()),
        "",
        "The same on a venue without any impact:",
        "",
        markdown(policy_table(hedge.comparison.zero_impact.table())),
        "",
        "Checks:",
        "",
        markdown(result.checks_frame()),
        "",
    ]
    if result.notes:
        lines += ["Notes of the run:", "", *(f"- {note}" for note in result.notes), ""]
    return lines


def picture(result: cw.RunResult, target: Path) -> None:
    """Draw matrix, schedule and hedge of one run side by side."""
    from plotly.subplots import make_subplots

    from crosswind.problems.basket import twap
    from crosswind.problems.plotting import DIVERGING, PALETTE, graph_objects

    go = graph_objects()
    titles = (
        "cross-impact, scaled by self-impact",
        "remaining basket [% of order], TWAP dashed",
        "hedge cost [bps], dash: q95",
    )
    fig = make_subplots(rows=1, cols=3, subplot_titles=titles, column_widths=[0.27, 0.33, 0.4], horizontal_spacing=0.09)
    matrix = result.model.correlation
    values = matrix.to_numpy().copy()
    for i in range(len(values)):
        values[i, i] = float("nan")
    top = float(pd.DataFrame(values).abs().max(axis=None))
    heat = go.Heatmap(
        z=values,
        x=list(matrix.columns),
        y=list(matrix.index),
        zmin=-top,
        zmax=top,
        colorscale=[list(step) for step in DIVERGING],
        texttemplate="%{z:.2f}",
        showscale=False,
    )
    fig.add_trace(heat, row=1, col=1)
    fig.update_yaxes(autorange="reversed", row=1, col=1)
    left = 100.0 * result.schedule.inventory / result.schedule.inventory.iloc[0]
    zone = result.test.tz
    for colour, name in zip(PALETTE, left.columns, strict=False):
        line = go.Scatter(
            x=left.index.tz_convert(zone).tz_localize(None), y=left[name], name=name, line={"color": colour}
        )
        fig.add_trace(line, row=1, col=2)
    flat = 100.0 * (1.0 - twap(result.schedule.problem).cumsum() / result.schedule.problem.inventory)
    dashed = {"color": "#555", "dash": "dash", "width": 1}
    clock = left.index[1:].tz_convert(zone).tz_localize(None)
    fig.add_trace(go.Scatter(x=clock, y=flat.iloc[:, 0], line=dashed, showlegend=False), row=1, col=2)
    fig.update_xaxes(tickformat="%H:%M", row=1, col=2)
    table = result.hedge.comparison.table().drop(index="P0 none")
    labels = [name.replace(" of the", "").replace(" trigger", "").replace(" ", "<br>") for name in table.index]
    for colour, name in zip(PALETTE[3:], ("futures", "lag", "basis", "cross"), strict=False):
        fig.add_trace(go.Bar(x=labels, y=table[f"{name}_bps"], name=name, marker_color=colour), row=1, col=3)
    tail = go.Scatter(
        x=labels,
        y=table["hedge_cost_q95_bps"],
        mode="markers",
        showlegend=False,
        marker={"symbol": "line-ew-open", "size": 26, "color": "#000"},
    )
    fig.add_trace(tail, row=1, col=3)
    fig.update_xaxes(tickangle=0, row=1, col=3)
    fig.update_layout(
        template="plotly_white",
        barmode="relative",
        width=1500,
        height=460,
        font={"family": "sans-serif", "size": 13},
        margin={"l": 50, "r": 20, "t": 50, "b": 80},
        legend={"orientation": "h", "y": -0.2, "x": 0.5, "xanchor": "center"},
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    fig.write_image(target, scale=1.3)


def main() -> None:
    """Print the page, and write it where asked and possible."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/main-job.md and docs/img/run.png")
    write = parser.parse_args().write
    lines = [
        "# The main job",
        "",
        "`crosswind run` reads order flow, fits cross-impact on the earlier days, schedules a basket on the last, "
        "replays its hedge under several policies and accounts for the cost. With `--out DIR` it writes "
        "`summary.json`, tables and a self-contained `report.html`. From Python: `cw.run(...)`.",
        "",
        "Printed by `benchmarks/main_job.py --write`; nothing on this page is typed by hand. A positive cost is money "
        "lost. One test day is one draw: read the intervals, and the rows without impact, before the means.",
        "",
    ]
    lines += part("Simulated market", "crosswind run --data sim", cw.run("sim", seed=0))
    folder = data_dir() / "lean"
    recorded = cw.run(f"lean:{folder}") if folder.is_dir() else None
    if recorded is None:
        lines += ["The recorded data are absent: that part is left out.", ""]
    else:
        lines += part("Recorded US equities and ES futures", "crosswind run --data lean:DIR", recorded)
        lines += ["![Matrix, schedule and hedge of this run](img/run.png)", ""]
    versions = ", ".join(f"{n} {v}" for n, v in (recorded or cw.run("sim")).versions.items() if n != "crosswind")
    lines += [f"Python {platform.python_version()}, {versions}, {platform.machine()}."]
    page = "\n".join(lines) + "\n"
    print(page)
    if write and recorded is not None:
        (ROOT / "docs" / "main-job.md").write_text(page, encoding="utf-8")
        picture(recorded, ROOT / "docs" / "img" / "run.png")


if __name__ == "__main__":
    main()
