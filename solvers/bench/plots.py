"""Figures of a run; plotly is imported when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.bench.statistics import performance_profile
from crosswind.solvers.bench.tables import cold_table, profile_times, quality_after, select
from crosswind.solvers.errors import MissingDependency

if TYPE_CHECKING:
    from crosswind.solvers.bench.engine import BenchResult

__all__ = ["anytime_figure", "colours", "mean_bars", "profile_figure", "success_heatmap", "time_steps"]

_PALETTE = (
    *("#17324d", "#d1495b", "#2e8b57", "#e09f3e", "#6a4c93", "#1f9ac9", "#8c564b", "#7f7f7f"),
    *("#b5179e", "#90a955", "#264653", "#f4845f", "#577590", "#9d4edd", "#43aa8b", "#bc6c25"),
)
_DASHES = ("solid", "dash", "dot", "dashdot")


def colours(solvers: Any) -> dict[str, dict[str, str]]:
    """Return solver → line style: the same in every figure of a run, and no two alike."""
    names = sorted(set(solvers))
    return {
        name: {"color": _PALETTE[i % len(_PALETTE)], "dash": _DASHES[(i // len(_PALETTE)) % len(_DASHES)]}
        for i, name in enumerate(names)
    }


def _objects() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as err:
        raise MissingDependency(
            "plotly is not installed", field="report", value="plotly", remedy="pip install 'crosswind[report]'"
        ) from err
    return go


def _styled(fig: Any, title: str, x: str, y: str, height: int = 380) -> Any:
    fig.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 15}},
        height=height,
        margin={"l": 70, "r": 20, "t": 48, "b": 52},
        font={"family": "system-ui, sans-serif", "size": 12},
        legend={"font": {"size": 11}},
    )
    fig.update_xaxes(title=x)
    fig.update_yaxes(title=y)
    return fig


def _styles(result: BenchResult) -> dict[str, dict[str, str]]:
    return colours(row["solver"] for row in result.rows)


def profile_figure(result: BenchResult, suite: str, accuracy: float) -> Any:
    """Return Dolan and Moré's profile of a group: share of programs solved within τ times the fastest."""
    fig = _objects().Figure()
    tau, curves = performance_profile(profile_times(result, suite, accuracy))
    for name in sorted(curves, key=lambda key: -float(curves[key].mean())):
        line = {**_styles(result)[name], "width": 2, "shape": "hv"}
        fig.add_scatter(x=tau, y=curves[name], name=name, mode="lines", line=line)
    fig.update_xaxes(type="log", dtick=1)
    fig.update_yaxes(range=[-0.02, 1.04], tickformat=".0%")
    title = f"{suite}: performance profile at {accuracy:.0e}"
    return _styled(fig, title, "time over the fastest solver's, τ", "programs solved within τ")


def mean_bars(result: BenchResult, suite: str, accuracy: float) -> Any:
    """Return the shifted geometric means, failures at the limit and successes alone, beside each other."""
    fig = _objects().Figure()
    table = cold_table(result, suite, accuracy).sort_values("sgm_all_ms")
    shown = (("sgm_all_ms", "failures at the limit", "#17324d"), ("sgm_ms", "successes alone", "#9fc3e6"))
    for column, label, colour in shown:
        fig.add_bar(x=list(table.index), y=table[column], name=label, marker={"color": colour})
    fig.update_yaxes(type="log")
    title = f"{suite}: shifted geometric mean of set-up and solve at {accuracy:.0e}"
    return _styled(fig, title, "", "ms")


def success_heatmap(result: BenchResult) -> Any:
    """Return the success rate of every solver in every cold group, with its wrong claims written in."""
    from crosswind.solvers.bench.tables import groups

    keys = groups(result, "cold")
    solvers = sorted({row["solver"] for row in result.rows if row["mode"] == "cold"})
    values = np.full((len(solvers), len(keys)), np.nan)
    texts = [["" for _ in keys] for _ in solvers]
    for j, (suite, accuracy) in enumerate(keys):
        table = cold_table(result, suite, accuracy)
        for i, solver in enumerate(solvers):
            if solver not in table.index:
                texts[i][j] = "–"
                continue
            values[i, j] = table.loc[solver, "success"]
            wrong = int(table.loc[solver, "claimed_wrong"])
            texts[i][j] = f"{values[i, j]:.0%}" + (f"<br>{wrong} wrong" if wrong else "")
    fig = _objects().Figure()
    fig.add_heatmap(
        z=values,
        x=[f"{suite} {accuracy:.0e}" for suite, accuracy in keys],
        y=solvers,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 11},
        colorscale=[[0.0, "#f3d3d0"], [0.5, "#f6ecd2"], [1.0, "#cfe6d4"]],
        zmin=0.0,
        zmax=1.0,
        showscale=False,
        hoverongaps=False,
        xgap=2,
        ygap=2,
    )
    fig.update_yaxes(autorange="reversed")
    title = "Success by our certificate; “wrong” counts claims of success that did not pass it"
    return _styled(fig, title, "", "", height=90 + 42 * len(solvers))


def time_steps(result: BenchResult, suite: str, accuracy: float) -> Any:
    """Return the distribution of the time of a step in a stream, by solver, with the shortest deadline drawn in."""
    fig = _objects().Figure()
    frame = select(result, "sequence", suite, accuracy)
    styles = _styles(result)
    for solver, part in frame.groupby("solver"):
        times = [
            1e3 * (step["setup_s"] + step["solve_s"])
            for steps in part.get("steps", [])
            if isinstance(steps, list)
            for step in steps
        ]
        if times:
            colour = styles[str(solver)]["color"]
            fig.add_box(y=times, name=str(solver), marker={"color": colour, "size": 3}, showlegend=False)
    for deadline in sorted({float(d) for d in frame["deadline_s"].dropna()}):
        fig.add_hline(
            y=1e3 * deadline,
            line={"dash": "dot", "color": "#5b6b7b"},
            annotation_text=f"deadline {1e3 * deadline:.3g} ms",
        )
    fig.update_yaxes(type="log")
    return _styled(fig, f"{suite}: time of a step at {accuracy:.0e}", "", "ms")


def anytime_figure(result: BenchResult, suite: str, accuracy: float) -> Any:
    """Return the median over programs of the iterate's worst relative measure against the time given."""
    fig = _objects().Figure()
    frame = select(result, "anytime", suite, accuracy)
    limit = float(frame["time_limit_s"].iloc[0])
    times = np.geomspace(2e-5 * limit, limit, 60)
    styles = _styles(result)
    for solver, part in frame.groupby("solver"):
        values = [[quality_after(points, t) for t in times] for points in part.get("points", [])]
        if not values:
            continue
        middle = np.median(np.array(values), axis=0)
        shown = np.where(np.isfinite(middle), np.clip(middle, 1e-16, 1e6), np.nan)
        line = {**styles[str(solver)], "width": 2, "shape": "hv"}
        fig.add_scatter(x=1e3 * times, y=shown, name=str(solver), mode="lines", line=line)
    fig.add_hline(
        y=accuracy, line={"dash": "dot", "color": "#5b6b7b"}, annotation_text="asked", annotation_position="top left"
    )
    fig.update_xaxes(type="log", dtick=1)
    fig.update_yaxes(type="log", exponentformat="power")
    return _styled(fig, f"{suite}: what the iterate is worth after a given time", "ms", "worst relative measure")
