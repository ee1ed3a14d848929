"""The report of a run: what was fitted, scheduled and hedged, in figures that state their units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.basket import plots as basket_plots
from crosswind.problems.hedge import plots as hedge_plots
from crosswind.problems.impact import plots as impact_plots
from crosswind.problems.impact.diagnose.page import diagnosis_html
from crosswind.problems.page import Section, render
from crosswind.problems.workflow.text import one_parent_table, policy_table
from crosswind.problems.workflow.tuning import MPC

if TYPE_CHECKING:
    from crosswind.problems.workflow.model import RunResult

__all__ = ["impact_html", "report_html", "sections"]


def sections(result: RunResult) -> list[Section]:
    """Return the parts of the report in order; figures are plotly figures."""
    parts = [_impact(result), _scores(result), _schedule(result), _costs(result)]
    if result.hedge is not None:
        parts += [_policies(result), _basket_hedge(result)]
    return [*parts, _checks(result)]


def _impact(result: RunResult) -> Section:
    trip = result.model.admissible()
    return Section(
        "Impact",
        "The matrix of immediate impact, each name scaled by its own, with its spectrum; beside it how impact fades. "
        f"On a grid of 32 buckets {trip.summary()}.",
        figures=[impact_plots.plot_matrix(result.model, result.sectors), impact_plots.plot_decay(result.model)],
        link=("Its diagnosis: limits and their prices, noise, clocks.", "impact.html"),
    )


def _scores(result: RunResult) -> Section:
    table = result.out_of_sample.sort_values("mean", ascending=False)
    if not table["error"].any():
        table = table.drop(columns="error")
    tables = {"R² of bucket returns on the last day; violation: worst relative break of a constraint": table}
    if result.recovery is not None:
        tables["Distance to the simulator's truth, lower is better; excess cost of schedules optimised on it"] = (
            result.recovery
        )
    return Section(
        "Out of sample",
        "Every estimator, fitted on the earlier days and scored on the last; the best mean comes first, whichever it "
        "is. An estimator that breaks the constraints can score well and still promise profits that are not there.",
        figures=[impact_plots.plot_scores(table)],
        tables=tables,
    )


def _schedule(result: RunResult) -> Section:
    schedule = result.schedule
    return Section(
        "Schedule",
        "Trades by slice and name against TWAP and VWAP, what is left, our share of the forecast volume, and marginal "
        "costs: at the optimum they equal the price of completion plus the prices of the limits that bind.",
        figures=[
            basket_plots.schedule_heatmap(schedule),
            basket_plots.schedule_bars(schedule),
            basket_plots.inventory_paths(schedule),
            basket_plots.participation(schedule),
            basket_plots.marginal_costs(schedule),
        ],
    )


def _costs(result: RunResult) -> Section:
    return Section(
        "Cost",
        "The schedule's cost by component, and the standard schedules under the same model and the same ruler. "
        "Risk is the price put on variance, not money paid.",
        figures=[basket_plots.cost_waterfall(result.schedule), basket_plots.comparison(result.schedules)],
        tables={"Costs in bps of parent notional, a positive cost is money lost": result.schedules},
    )


def _policies(result: RunResult) -> Section:
    hedge = result.hedge
    assert hedge is not None
    comparison = hedge.comparison
    tables = {
        f"{len(comparison.parents)} parents of {hedge.settings['parent_minutes']} minutes on the last day "
        "[bps of parent notional]": policy_table(comparison.table()),
        f"Paired difference against {comparison.baseline}, 95 % bootstrap intervals, too narrow where "
        "parents overlap [bps]": comparison.differences(),
    }
    if comparison.zero_impact is not None:
        tables["The same without any impact: what a policy gains only where impact is assumed is the difference"] = (
            policy_table(comparison.zero_impact.table())
        )
    return Section(
        "Hedge policies",
        f"The cash fills are the same under every policy; only the hedge with {hedge.settings['future']} differs. "
        "Policies were tuned on the fitting days (half mean, half q95) and then frozen.",
        figures=[hedge_plots.component_bars(comparison), hedge_plots.frontier(comparison)],
        tables=tables,
    )


def _basket_hedge(result: RunResult) -> Section:
    hedge = result.hedge
    assert hedge is not None
    day = hedge.day
    figures: list[Any] = [hedge_plots.gap_paths(day)]
    figures.append(hedge_plots.cost_waterfall(day.replays[day.parents[0], MPC]))
    return Section(
        "The day's basket",
        "The main basket hedged through the day: its beta gap under each policy, and where the cost of the whole "
        "(cash, futures, lag, basis, cross-impact between the legs, residual) came from under MPC. One day is one "
        "draw: lag and residual are luck with a variance, not a ranking.",
        figures=figures,
        tables={"One parent [bps of parent notional]": one_parent_table(day.table())},
    )


def _checks(result: RunResult) -> Section:
    return Section(
        "Checks",
        "What the run promises, as figures against their limits.",
        tables={"": result.checks_frame()},
    )


def report_html(result: RunResult) -> str:
    """Return the report as one self-contained HTML page.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    costs = result.schedule.costs_bps
    joint = float(result.out_of_sample["mean"]["joint"])
    passed = sum(check.passed for check in result.checks)
    tiles = {
        "names": str(len(result.train.names)),
        "mean R² out of sample, joint fit": f"{joint:.3f}",
        "expected cost of the basket": f"{costs['total'] - costs['risk']:.2f} bps",
        "of it cross-impact": f"{costs['impact_cross']:.2f} bps",
        "checks passed": f"{passed} of {len(result.checks)}",
    }
    if result.hedge is not None:
        table = result.hedge.comparison.table()
        mean, tail = (float(table[f"hedge_cost_{part}_bps"][MPC]) for part in ("mean", "q95"))
        tiles["hedge cost [bps], MPC, mean / q95"] = f"{mean:.2f} / {tail:.2f}"
    footer = _footer(result) | {
        "solver": result.schedule.backend,
        "gap": f"{result.schedule.certificate.gap_rel:.1e}",
    }
    if result.notes:
        footer["notes"] = "; ".join(result.notes)
    days = f"fitted on {', '.join(map(str, result.train.days))}, tested on {', '.join(map(str, result.test.days))}"
    return render(f"Crosswind: {result.source}", days, tiles, sections(result), footer)


def impact_html(result: RunResult) -> str:
    """Return the fit's own page: its diagnosis, self-contained.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    days = f"fitted on {', '.join(map(str, result.train.days))}"
    return diagnosis_html(result.diagnosis, days, _footer(result))


def _footer(result: RunResult) -> dict[str, object]:
    return {"configuration": result.configuration, "seed": result.settings["seed"], **result.versions}
