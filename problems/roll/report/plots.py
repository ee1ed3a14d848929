"""One page of figures for a roll day; axes state unit and sign rule, the title where the spread book comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.problems.roll.model import Regime

if TYPE_CHECKING:
    from crosswind.problems.roll.program import RollPlan
    from crosswind.problems.roll.report.report import RollReport

__all__ = ["COLOURS", "report_figure"]

#: State of a regime or a tile → colour.
COLOURS = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00", "safe": "#0072B2", "grey": "#9AA5B1"}
_BAND, _PAST = "rgba(0,114,178,0.14)", "rgba(127,127,127,0.25)"
_METRICS = {
    "rpc": "RPC [×]",
    "cde": "CDE [×]",
    "bdz": "BDZ [σ]",
    "let_s": "LET [s]",
    "rdp": "RDP [×]",
}
# Part of the page → row, column, title.
_PLACES = {
    "regime": (1, 1, "Regime"),
    "remaining": (2, 1, "Still to be done [spreads]"),
    "pace": (2, 2, "Pace [spreads per minute]"),
    "rpc": (3, 1, "RPC: roll volume over expected [×]"),
    "cde": (3, 2, "CDE: depth healed over size taken [×]"),
    "bdz": (4, 1, "BDZ: basis z-score [σ]"),
    "let_s": (4, 2, "LET: legging exposure time [s]"),
    "rdp": (5, 1, "RDP: needed over executable pace [×]"),
    "forecast": (5, 2, "Cost of the next clip [currency a spread; positive: money lost]"),
    "left": (6, 1, "Left at the cutoff at the pace of then [spreads]"),
    "churn": (6, 2, "Replaces [in 60 s], refusals [in 10 min]"),
}


def report_figure(report: RollReport) -> Any:
    """Return the figures of a report on one page (plotly)."""
    from plotly.subplots import make_subplots

    specs: list[list[dict[str, int] | None]] = [[{"colspan": 2}, None]]
    specs += [[{}, {}] for _ in range(5)]
    fig = make_subplots(
        rows=6,
        cols=2,
        specs=specs,
        row_heights=[0.09, 0.24, 0.165, 0.165, 0.165, 0.175],
        subplot_titles=[title.replace("currency", report.currency) for _, _, title in _PLACES.values()],
        vertical_spacing=0.055,
        horizontal_spacing=0.075,
    )
    order = report.track.order
    house = figure(
        f"{order.name}: {'buy' if order.side > 0 else 'sell'} {order.size:,} spreads, {report.track.policy}"
        f" ({report.track.market.source})",
        height=1480,
    )
    fig.update_layout(house.layout)
    fig.update_layout(
        legend={"orientation": "h", "y": -0.035, "yanchor": "top", "x": 0.0, "xanchor": "left"},
        margin={"l": 60, "r": 24, "t": 84, "b": 70},
        hovermode="x unified",
        bargap=0.0,
    )
    fig.update_annotations(font_size=13)
    _Page(report, fig).draw()
    begin, end = (t.tz_convert(report.config.tz).tz_localize(None) for t in (order.start, order.cutoff))
    pad = 0.01 * (end - begin)
    fig.update_xaxes(
        type="date", range=[begin - pad, end + 3 * pad], tickformat="%H:%M", showgrid=True, gridcolor="#eef1f4"
    )
    for column in (1, 2):
        zone = f"time [{report.track.as_of.tz_convert(report.config.tz):%Z}]"
        fig.update_xaxes(title_text=zone, row=6, col=column)
    return fig


class _Page:
    def __init__(self, report: RollReport, fig: Any) -> None:
        self.r, self.fig, self.go = report, fig, graph_objects()
        self.frame = report.frame
        self.x = self.local(report.frame.index)
        self.named: set[str] = set()

    def local(self, times: Any) -> Any:
        """Return times on the wall clock of the page."""
        return pd.DatetimeIndex(times).tz_convert(self.r.config.tz).tz_localize(None)

    def at(self, part: str) -> dict[str, int]:
        return {"row": _PLACES[part][0], "col": _PLACES[part][1]}

    def line(self, part: str, x: Any, y: Any, name: str, colour: str, **values: Any) -> None:
        """Add a line; a name stands once in the legend."""
        shown = bool(name) and name not in self.named
        self.named.add(name)
        style = {"color": colour, "width": values.pop("width", 1.6), "dash": values.pop("dash", "solid")}
        style["shape"] = values.pop("shape", "linear")
        trace = self.go.Scatter(
            x=x, y=y, name=name, mode="lines", line=style, showlegend=shown, legendgroup=name or None, **values
        )
        self.fig.add_trace(trace, **self.at(part))

    def band(self, part: str, x: Any, low: Any, high: Any, name: str, fill: str) -> None:
        """Add a band between two lines."""
        low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
        known = np.isfinite(low) & np.isfinite(high)
        if not known.any():
            return
        x = pd.DatetimeIndex(x)[known]
        shown = name not in self.named
        self.named.add(name)
        outline = {"x": [*x, *x[::-1]], "y": [*high[known], *low[known][::-1]]}
        trace = self.go.Scatter(
            **outline, name=name, fill="toself", fillcolor=fill, line={"width": 0}, mode="lines", hoverinfo="skip",
            showlegend=shown, legendgroup=name,
        )  # fmt: skip
        self.fig.add_trace(trace, **self.at(part))

    def level(self, part: str, value: float, colour: str, text: str = "") -> None:
        """Add a dashed limit across a part."""
        style = {"color": colour, "width": 1, "dash": "dash"}
        self.fig.add_hline(
            y=value, line=style, annotation_text=text, annotation_position="top left",
            annotation_font={"size": 10, "color": colour}, **self.at(part),
        )  # fmt: skip

    def draw(self) -> None:
        self.regimes()
        self.remaining()
        self.pace()
        for name in _METRICS:
            self.metric(name)
        self.forecast()
        self.left()
        self.churn()
        now = self.local([self.r.track.as_of])[0]
        end = self.local([self.r.track.order.cutoff])[0]
        for part in _PLACES:
            self.fig.add_vline(x=end, line={"color": COLOURS["safe"], "width": 1.5}, **self.at(part))
            if now < end:
                self.fig.add_vline(x=now, line={"color": "#444", "width": 1, "dash": "dot"}, **self.at(part))

    def regimes(self) -> None:
        place = self.at("regime")
        self.fig.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False, zeroline=False, **place)
        regimes = self.r.track.regimes
        if not regimes:
            text = "nobody watches: no regimes"
            self.fig.add_annotation(text=text, x=self.x[0], y=0.5, xanchor="left", showarrow=False, **place)
        edges = [0, *(k for k in range(1, len(regimes)) if regimes[k] is not regimes[k - 1])]
        for begin, end in zip(edges, [*edges[1:], len(regimes) - 1], strict=True):
            if not regimes:
                break
            regime = regimes[begin]
            box = {"x0": self.x[begin], "x1": self.x[end], "y0": 0.15, "y1": 0.85}
            self.fig.add_shape(type="rect", **box, fillcolor=COLOURS[regime.value], line_width=0, opacity=0.85, **place)
        why = {t.time: t for t in self.r.track.transitions if t.time >= self.r.track.times[0]}
        if why:
            self.fig.add_trace(
                self.go.Scatter(
                    x=self.local(list(why)), y=[0.5] * len(why), mode="markers", name="change of regime",
                    marker={"symbol": "line-ns-open", "size": 16, "color": "#1c2733"}, showlegend=False,
                    customdata=[t.text() for t in why.values()], hovertemplate="%{customdata}<extra></extra>",
                ),
                **place,
            )  # fmt: skip
        for regime in Regime:  # the colours' names, whether or not the day has had them
            key = {"symbol": "square", "size": 11, "color": COLOURS[regime.value]}
            self.fig.add_trace(
                self.go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=regime.name), **place
            )

    def plan(self, plan: RollPlan | None, start: pd.Timestamp, name: str, colour: str, fill: str, dash: str) -> None:
        if plan is None:
            return
        frame = plan.to_frame()
        x = self.local(start + pd.to_timedelta(frame["start_s"], unit="s"))
        self.band("remaining", x, frame["remaining_q05"], frame["remaining_q95"], f"{name}, 5–95 %", fill)
        self.line("remaining", x, frame["remaining"], f"{name}, mean", colour, dash=dash)

    def remaining(self) -> None:
        track = self.r.track
        self.plan(self.r.plan_start, track.times[0], "plan at the start", "#7F7F7F", _PAST, "dash")
        self.plan(self.r.plan_now, track.as_of, "plan now", PALETTE[3], "rgba(204,121,167,0.22)", "dash")
        self.line("remaining", self.x, self.frame["remaining"], "still to be done", PALETTE[0], width=2.4, shape="hv")
        row = self.frame.iloc[-1]
        if self.x[-1] < self.local([track.order.cutoff])[0] and np.isfinite(row["left"]):
            x = self.local([track.as_of, track.order.cutoff])
            here = float(row["remaining"])
            cone = ([here, row["left_low"]], [here, row["left_high"]])
            self.band("remaining", x, *cone, "at the present pace, 5–95 %", "rgba(0,158,115,0.18)")
            self.line("remaining", x, [here, row["left"]], "at the present pace", PALETTE[2], dash="dot")
        self.fig.update_yaxes(rangemode="tozero", **self.at("remaining"))

    def pace(self) -> None:
        self.line("pace", self.x, self.frame["pace"], "executable pace", PALETTE[2], shape="hv")
        self.line("pace", self.x, self.frame["required"], "needed until the cutoff", PALETTE[1], shape="hv")
        # Just before the cutoff any remainder needs an endless pace: the axis is that of the executable one.
        top = float(np.nanmax(self.frame["pace"].to_numpy(), initial=0.0))
        needed = self.frame["required"].to_numpy(dtype=float)
        usual = float(np.nanquantile(needed, 0.9)) if np.isfinite(needed).any() else 0.0
        self.fig.update_yaxes(range=[0.0, 1.15 * max(top, usual, 1e-9)], **self.at("pace"))

    def metric(self, name: str) -> None:
        bands = self.r.bands
        if bands is not None and name in bands.columns.get_level_values(0):
            low, high = bands[name, "low"], bands[name, "high"]
            source = str(bands.attrs.get("market", ""))
            label = f"past rolls{' (simulated)' if 'simulated' in source else ''}"
            self.band(name, self.x, low, high, f"{label}, 25–75 %", _PAST)
            self.line(name, self.x, bands[name, "mean"], f"{label}, mean", "#7F7F7F", dash="dash", width=1.2)
        values = self.frame[name].to_numpy(dtype=float)
        values = np.where(np.isfinite(values), values, np.nan)
        if np.isfinite(values).any():
            self.line(name, self.x, values, "today", PALETTE[0], shape="hv")
        else:
            self.missing(name, "not known: window not warm, or no baseline")
        for trigger in self.r.config.regimes.triggers:
            if trigger.metric == name:
                colour = COLOURS[trigger.regime.value]
                self.level(name, trigger.enter, colour, f"{trigger.regime.name} from {trigger.enter:g}")
                if trigger.side == "outside":
                    self.level(name, -trigger.enter, colour)

    def missing(self, part: str, text: str) -> None:
        number = 1 + list(_PLACES).index(part)
        self.fig.add_annotation(
            text=text,
            x=0.5,
            y=0.5,
            xref=f"x{number} domain",
            yref=f"y{number} domain",
            showarrow=False,
            font={"color": "#5b6b7b"},
        )

    def forecast(self) -> None:
        f = self.r.forecast
        if f is None:
            self.missing("forecast", self.r.notes.get("forecast", "not asked for"))
            return
        x = self.local(self.r.forecast_times)
        self.line("forecast", x, f.q95, "clip's cost, q95", PALETTE[1], shape="hv")
        self.line("forecast", x, f.mean, "clip's cost, mean", "#7F7F7F", dash="dash", shape="hv")
        self.line("forecast", x, f.q50, "clip's cost, median", PALETTE[0], shape="hv")

    def left(self) -> None:
        low, high = self.frame["left_low"], self.frame["left_high"]
        self.band("left", self.x, low, high, "at the pace of then, 5–95 %", _BAND)
        self.line("left", self.x, self.frame["left"], "left at the pace of then", PALETTE[0], shape="hv")
        cap = float(self.r.track.order.carry_cap)
        self.level("left", cap, COLOURS["red"], f"carry cap {cap:g}")
        self.fig.update_yaxes(rangemode="tozero", **self.at("left"))

    def churn(self) -> None:
        self.line("churn", self.x, self.frame["replaces"], "replaces in 60 s", PALETTE[0], shape="hv")
        self.line("churn", self.x, self.frame["rejects"], "refusals in 10 min", PALETTE[1], shape="hv")
        limit = float(self.r.config.churn.max_replaces_per_minute)
        self.level("churn", limit, COLOURS["amber"], f"most replaces {limit:g}")
        self.fig.update_yaxes(range=[0, 1.3 * max(limit, 1.0, float(self.frame["rejects"].max()))], **self.at("churn"))
