"""Figures of a basket schedule; each states its unit and sign rule, a positive cost is money lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.baselines import twap, vwap
from crosswind.problems.basket.lowering import NO_REVERSAL
from crosswind.problems.plotting import DIVERGING, PALETTE, figure, graph_objects

if TYPE_CHECKING:
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = [
    "band_paths",
    "comparison",
    "cost_waterfall",
    "frontier_curve",
    "inventory_paths",
    "limit_prices",
    "marginal_costs",
    "overview",
    "participation",
    "schedule_bars",
    "schedule_heatmap",
]

_TIME = "slice start [UTC]"
_PARTS = {
    "spread": "spread",
    "temporary": "temporary",
    "three_halves": "square-root",
    "impact_self": "self-impact",
    "impact_cross": "cross-impact",
    "drift": "drift",
    "risk": "risk",
    "urgency": "urgency",
    "terminal": "unfinished",
    "soft": "soft limits",
}


_REST = ("#4D4D4D", "#A6A6A6")  # buys and sells of the names that have no colour of their own


def _unit(largest: float) -> tuple[float, str]:
    """Return the factor and the name of the unit in which amounts up to ``largest`` [currency] have few digits."""
    for size, label in ((1e9, "B currency"), (1e6, "M currency"), (1e3, "k currency")):
        if largest >= size:
            return 1.0 / size, label
    return 1.0, "currency"


def _ticks(times: pd.DatetimeIndex) -> list[str]:
    """Return slice labels: the clock alone within a day, with the date where the schedule spans several."""
    one_day = len({t.date() for t in times}) == 1
    return [t.strftime("%H:%M" if one_day else "%m-%d %H:%M") for t in times]


def _legend_below(fig: Any) -> Any:
    """Move the legend under the axis: a wrapped legend above the panel would run into the title."""
    fig.update_layout(
        legend={"orientation": "h", "x": 0.0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
        margin={"b": 110},
        height=(fig.layout.height or 420) + 40,
    )
    return fig


def _largest(schedule: BasketSchedule, most: int) -> list[str]:
    """Return the names with the largest parent orders, so that a line chart of a big basket stays readable."""
    size = schedule.problem.inventory.abs().sort_values(ascending=False, kind="stable")
    return [str(n) for n in size.index[:most]]


def _by_sector(schedule: BasketSchedule) -> list[str]:
    """Return the names ordered by sector and then as given."""
    names, sectors = list(schedule.problem.names), schedule.problem.sectors
    if sectors is None:
        return names
    label = {str(n): str(s) for n, s in sectors.items()}
    place = {n: i for i, n in enumerate(names)}
    return sorted(names, key=lambda n: (n not in label, label.get(n, ""), place[n]))  # hedges have no sector: last


def _binding_slices(schedule: BasketSchedule) -> dict[int, list[str]]:
    """Return slice -> limits with a price there; no reversal is left out, as it binds wherever a name rests."""
    found: dict[int, list[str]] = {}
    for name, table in schedule.prices.items():
        if name != NO_REVERSAL:
            for t in np.flatnonzero((1e4 * table.to_numpy() > 1e-6).any(axis=1)).tolist():
                found.setdefault(t, []).append(name)
    return dict(sorted(found.items()))


def schedule_heatmap(schedule: BasketSchedule, relative: bool = False) -> Any:
    """Return the schedule as a heatmap, names by sector × slices, red buys and blue sells.

    Parameters
    ----------
    schedule
        A solved basket.
    relative
        Whether trades are shown in % of each name's parent order, so that small orders are seen beside large ones;
        otherwise in currency.
    """
    order = _by_sector(schedule)
    values = schedule.trades[order].to_numpy().T
    if relative:
        size = np.abs(schedule.inventory[order].iloc[0].to_numpy())[:, None]
        values = 100.0 * np.divide(values, size, out=np.zeros_like(values), where=size > 0.0)
        factor, unit = 1.0, "% of parent order"
    else:
        factor, unit = _unit(float(np.abs(values).max(initial=0.0)))
    values = factor * values
    bound = max(float(np.abs(values).max()), 1e-12)
    fig = figure("Schedule by name and slice", _TIME, "name", height=max(320, min(22 * len(order) + 140, 1400)))
    fig.add_trace(
        graph_objects().Heatmap(
            z=values,
            x=_ticks(schedule.problem.times),
            y=order,
            zmin=-bound,
            zmax=bound,
            colorscale=[list(stop) for stop in DIVERGING],
            colorbar={"title": {"text": f"trade [{unit}, buy > 0]", "side": "right"}},
            hovertemplate=f"%{{y}} at %{{x}}: %{{z:,.3g}} {unit}<extra></extra>",
        )
    )
    fig.update_xaxes(type="category", nticks=14)
    fig.update_yaxes(autorange="reversed", type="category", zeroline=False)
    return fig


def schedule_bars(schedule: BasketSchedule, most: int = 6) -> Any:
    """Return trades per slice as stacked bars (largest names, the rest as one), with TWAP and VWAP gross as lines.

    Diamonds on the zero line mark the slices where a limit has a price; hovering names it.
    """
    p = schedule.problem
    x = _ticks(p.times)
    go = graph_objects()
    gross = schedule.trades.abs().sum(axis=1)
    factor, unit = _unit(float(gross.max()))
    fig = figure("Schedule against TWAP and VWAP", _TIME, f"trade [{unit}, buy > 0]", height=460)
    chosen = _largest(schedule, most)
    parts: dict[str, pd.Series] = {name: schedule.trades[name] for name in chosen}
    others = [n for n in p.names if n not in chosen]
    if others:
        # Buys and sells of the rest are kept apart: netted, a two-sided rest would look like nothing.
        rest = schedule.trades[others]
        parts["other buys"], parts["other sells"] = rest.clip(lower=0.0).sum(axis=1), rest.clip(upper=0.0).sum(axis=1)
    colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(chosen)}
    colours |= dict(zip(("other buys", "other sells"), _REST, strict=True))
    for name, values in parts.items():
        fig.add_trace(go.Bar(x=x, y=factor * values.to_numpy(), name=name, marker_color=colours[name]))
    lines = {"TWAP": twap(p)} | ({"VWAP": vwap(p)} if p.arrays.volume is not None else {})
    for (name, trades), dash in zip(lines.items(), ("dash", "dot"), strict=False):
        for sign, part in ((1.0, trades.clip(lower=0.0)), (-1.0, trades.clip(upper=0.0))):
            if part.to_numpy().any():
                fig.add_trace(
                    go.Scatter(
                        x=x,
                        y=factor * part.sum(axis=1).to_numpy(),
                        name=f"{name}, all names",
                        legendgroup=name,
                        showlegend=sign > 0.0 or not (trades.to_numpy() > 0.0).any(),
                        mode="lines",
                        line={"color": "#000", "dash": dash, "width": 1.5},
                    )
                )
    bound = _binding_slices(schedule)
    if bound:
        fig.add_scatter(
            x=[x[t] for t in bound],
            y=[0.0] * len(bound),
            mode="markers",
            name="a limit binds",
            marker={"symbol": "diamond", "size": 8, "color": "#FFF", "line": {"color": "#000", "width": 1.5}},
            text=[", ".join(labels) for labels in bound.values()],
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    fig.update_layout(barmode="relative")
    fig.update_xaxes(type="category", nticks=14)
    return _legend_below(fig)


def inventory_paths(schedule: BasketSchedule, most: int = 8) -> Any:
    """Return the remaining inventory after each slice [% of the parent order] of the largest names.

    Where the basket holds more names than lines, a band spans the middle 80 % of all its paths.
    """
    fig = figure("Remaining inventory", "slices done", "remaining [% of parent order]")
    orders = schedule.problem.inventory
    orders = orders[orders != 0.0]
    if len(orders) > most:
        paths = 100.0 * schedule.inventory[list(orders.index)].to_numpy() / orders.to_numpy()
        low, high = np.quantile(paths, [0.1, 0.9], axis=1)
        x = np.arange(len(low))
        fig.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor="rgba(127,127,127,0.2)",
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="middle 80 % of names",
        )
    for k, name in enumerate(_largest(schedule, most)):
        start = schedule.problem.inventory[name]
        if start == 0.0:
            continue
        path = 100.0 * schedule.inventory[name].to_numpy() / start
        side, line = "buy" if start > 0 else "sell", {"color": PALETTE[k % len(PALETTE)]}
        fig.add_scatter(x=np.arange(len(path)), y=path, mode="lines", name=f"{name} ({side})", line=line)
    steps = np.arange(schedule.problem.n_slices + 1)
    even = 100.0 * (1.0 - steps / schedule.problem.n_slices)
    fig.add_scatter(x=steps, y=even, mode="lines", name="TWAP", line={"dash": "dash", "color": "#000", "width": 1})
    return _legend_below(fig)


def band_paths(schedule: BasketSchedule) -> Any:
    """Return what the bands of the desk hold (net cash, beta, factors), with their edges as dashed lines.

    Every band of the problem is drawn, extra ones included; a problem without bands has its net cash drawn alone.
    """
    from crosswind.optim.limits import BandLimit

    p = schedule.problem
    left = schedule.inventory.to_numpy()[1:]
    bands = [limit for limit in p.limits if isinstance(limit, BandLimit) and limit.on == "position"]
    rows: list[tuple[str, Any, Any, Any]] = []
    for band in bands:
        values = left @ band.matrix.T
        for g, label in enumerate(band.labels):
            name = band.name if len(band.labels) == 1 else f"{band.name}: {label}"
            rows.append((name, values[:, g], band.lower[:, g], band.upper[:, g]))
    if not rows:
        rows = [("net cash", left.sum(axis=1), np.full(len(left), -np.inf), np.full(len(left), np.inf))]
    edges = [np.abs(e[np.isfinite(e)]).max(initial=0.0) for _, _, low, high in rows for e in (low, high)]
    factor, unit = _unit(max([*edges, *(np.abs(v).max() for _, v, _, _ in rows)]))
    fig = figure("What remains against its bands", _TIME, f"after the slice [{unit}, buy > 0]")
    x = _ticks(p.times)
    for k, (name, values, low, high) in enumerate(rows):
        colour = PALETTE[k % len(PALETTE)]
        fig.add_scatter(x=x, y=factor * values, mode="lines", name=name, legendgroup=name, line={"color": colour})
        for edge in (low, high):
            if np.isfinite(edge).any():
                fig.add_scatter(
                    x=x,
                    y=np.where(np.isfinite(edge), factor * edge, np.nan),
                    mode="lines",
                    name=f"{name}, edge",
                    legendgroup=name,
                    showlegend=False,
                    line={"color": colour, "dash": "dash", "width": 1.5},
                )
    fig.update_xaxes(type="category", nticks=14)
    return _legend_below(fig)


def participation(schedule: BasketSchedule, most: int = 8) -> Any:
    """Return the share of forecast volume per slice [%] of the largest names, with the cap as a line.

    A cap that differs by name is drawn at its largest value.
    """
    used = schedule.participation
    fig = figure("Participation against its cap", _TIME, "|trade| / forecast volume [%]")
    x = _ticks(schedule.problem.times)
    if used is None:
        fig.add_annotation(text="no volume forecast", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
        return fig
    for name in _largest(schedule, most):
        fig.add_scatter(x=x, y=100.0 * used[name].to_numpy(), mode="lines+markers", name=name, marker={"size": 4})
    limit = schedule.problem.participation
    if limit is not None:
        top = 100.0 * float(limit.max() if isinstance(limit, pd.Series) else limit)
        fig.add_scatter(x=x, y=[top] * len(x), mode="lines", name="cap", line={"dash": "dash", "color": "#000"})
    fig.update_xaxes(type="category", nticks=14)
    fig.update_yaxes(rangemode="tozero")
    return _legend_below(fig)


def marginal_costs(schedule: BasketSchedule, most: int = 8) -> Any:
    """Return the marginal cost of executing one more unit per slice [bps], signed towards the parent order.

    Flat lines are the sign of an optimum without binding limits; steps are prices of limits.
    """
    fig = figure("Marginal cost of trading more of the order", _TIME, "marginal cost [bps, > 0 costs money]")
    x = _ticks(schedule.problem.times)
    for name in _largest(schedule, most):
        side = np.sign(schedule.problem.inventory[name]) or 1.0
        fig.add_scatter(x=x, y=1e4 * side * schedule.marginal_costs[name].to_numpy(), mode="lines", name=name)
    fig.update_xaxes(type="category", nticks=14)
    return _legend_below(fig)


def _waterfall(schedule: BasketSchedule) -> tuple[list[str], list[float], list[str]]:
    bps = schedule.costs_bps
    used = [part for part in bps.index if part != "total" and (part not in ("terminal", "soft") or bps[part] != 0.0)]
    labels = [_PARTS.get(part, part) for part in used]
    return [*labels, "total"], [*(float(bps[part]) for part in used), 0.0], ["relative"] * len(used) + ["total"]


def _waterfall_trace(schedule: BasketSchedule) -> Any:
    x, y, measure = _waterfall(schedule)
    shown = [*y[:-1], float(schedule.costs_bps["total"])]
    return graph_objects().Waterfall(
        x=x,
        y=y,
        measure=measure,
        text=[f"{value:.2f}" for value in shown],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": PALETTE[1]}},
        decreasing={"marker": {"color": PALETTE[2]}},
        totals={"marker": {"color": PALETTE[0]}},
        connector={"line": {"color": "#999", "width": 1}},
        showlegend=False,
        name="cost",
    )


def cost_waterfall(schedule: BasketSchedule) -> Any:
    """Return the cost by component up to the total [bps of parent notional, positive is money lost]."""
    fig = figure("Cost by component", "", "cost [bps of parent notional, > 0 is money lost]")
    fig.add_trace(_waterfall_trace(schedule))
    return fig


def limit_prices(schedule: BasketSchedule, solver: str | tuple[str, ...] = "auto") -> Any:
    """Return what each limit costs as a whole [bps of parent notional], by re-solving without it."""
    values = schedule.price_of_limits(solver).sort_values()
    fig = figure(
        "What each limit costs", "cost saved if it alone were dropped [bps of parent notional]", "", height=320
    )
    fig.add_bar(
        x=values.to_numpy(),
        y=list(values.index),
        orientation="h",
        marker_color=PALETTE[0],
        text=["unknown" if np.isnan(v) else f"{round(v, 3) + 0.0:.3f}" for v in values],
        textposition="outside",
        cliponaxis=False,
    )
    most = float(values.max()) if values.notna().any() else 0.0
    fig.update_xaxes(range=[min(0.0, 1.2 * float(values.min()) if values.notna().any() else 0.0), 1.15 * most or 1.0])
    fig.update_layout(margin={"l": 120})
    return fig


def comparison(table: pd.DataFrame) -> Any:
    """Return stacked cost components of a :func:`compare` table [bps of parent notional]; breaches are marked.

    Parameters
    ----------
    table
        Result of ``compare``.
    """
    height = 34 * len(table) + 130
    fig = figure(
        "Same basket, same cost function", "cost [bps of parent notional, > 0 is money lost]", "", height=height
    )
    y = [f"{name} *" if n else str(name) for name, n in zip(table.index, table["breaches"], strict=True)]
    for k, (part, label) in enumerate(_PARTS.items()):
        if part in table and table[part].fillna(0.0).any():
            fig.add_bar(
                y=y, x=table[part].to_numpy(), name=label, orientation="h", marker_color=PALETTE[k % len(PALETTE)]
            )
    fig.update_layout(barmode="relative", margin={"l": 140})
    fig.update_yaxes(autorange="reversed", zeroline=False)
    if table["breaches"].any():
        fig.update_xaxes(title="cost [bps of parent notional, > 0 is money lost]; * breaks a limit")
    fig = _legend_below(fig)
    # The legend hangs below the axis title by a share of the height: short figures need a larger one.
    return fig.update_layout(legend={"y": -75.0 / max(height - 110, 60)})


def frontier_curve(table: pd.DataFrame, points: Mapping[str, tuple[float, float]] | None = None) -> Any:
    """Return the efficient frontier of a :func:`frontier` table.

    Parameters
    ----------
    table
        Frame with ``sd_bps`` and ``expected_bps``.
    points
        Further schedules by name as (sd, expected cost) [bps].
    """
    fig = figure("Efficient frontier", "risk [bps of parent notional, 1 sd]", "expected cost [bps, > 0 is money lost]")
    fig.add_scatter(
        x=table["sd_bps"], y=table["expected_bps"], mode="lines+markers", name="optimal", marker={"size": 5}
    )
    for name, (sd, expected) in (points or {}).items():
        fig.add_scatter(x=[sd], y=[expected], mode="markers+text", text=[name], textposition="top right", name=name)
    return fig


def overview(schedule: BasketSchedule) -> Any:
    """Return one figure of four panels: heatmap, inventory, participation, cost waterfall."""
    from plotly.subplots import make_subplots

    p = schedule.problem
    title = f"Basket of {p.n_names} names, {p.n_slices} slices, {schedule.costs_bps['total']:.2f} bps incl. risk"
    base = figure(title, height=840)
    heat = schedule_heatmap(schedule)
    fig = make_subplots(
        rows=2,
        cols=2,
        horizontal_spacing=0.16,
        vertical_spacing=0.16,
        subplot_titles=(
            f"Schedule: {heat.data[0].colorbar.title.text}",
            "Remaining inventory",
            "Participation",
            "Cost by component",
        ),
    )
    fig.update_layout(base.layout)
    panels = ((heat, 1, 1), (inventory_paths(schedule), 1, 2), (participation(schedule), 2, 1))
    seen: dict[str, str] = {}
    for panel, row, col in panels:
        for trace in panel.data:
            if trace.type == "scatter" and trace.fill is None:
                # One colour per name through all panels, one entry in the legend.
                key = str(trace.name).removesuffix(" (buy)").removesuffix(" (sell)")
                first = key not in seen
                colour = seen.setdefault(key, PALETTE[len(seen) % len(PALETTE)])
                trace.update(legendgroup=key, showlegend=first)
                if trace.line.dash is None:
                    trace.line.color = colour
                else:
                    seen[key] = "#000"
            fig.add_trace(trace, row=row, col=col)
        fig.update_xaxes(title_text=panel.layout.xaxis.title.text, type=panel.layout.xaxis.type, row=row, col=col)
        fig.update_yaxes(title_text=panel.layout.yaxis.title.text, row=row, col=col)
    fig.add_trace(_waterfall_trace(schedule), row=2, col=2)
    fig.update_yaxes(title_text="cost [bps, > 0 is money lost]", row=2, col=2)
    fig.update_yaxes(autorange="reversed", type="category", row=1, col=1)
    fig.update_xaxes(nticks=12)
    bar = {"len": 0.42, "y": 0.8, "x": 0.435, "thickness": 10, "title": {"text": ""}}
    fig.update_traces(colorbar=bar, selector={"type": "heatmap"})
    fig.update_layout(legend={"orientation": "h", "y": -0.1, "yanchor": "top", "x": 0.0, "xanchor": "left"})
    fig.add_annotation(
        text=schedule.certificate_line,
        showarrow=False,
        x=0.0,
        y=-0.22,
        xref="paper",
        yref="paper",
        xanchor="left",
        font={"size": 10, "color": "#666"},
    )
    fig.update_layout(margin={"b": 140, "t": 90})
    return fig
