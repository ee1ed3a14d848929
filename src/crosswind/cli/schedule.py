"""``crosswind schedule``: a basket on the last day's clock, with prices on its limits."""

from __future__ import annotations

import argparse

from crosswind.cli.common import EXIT_INTEGRITY, EXIT_OK, Outcome, data_options, progress_on_terminal, split_names

NAME = "schedule"
HELP = "schedule a basket under the fitted impact, beside the standard schedules"
DESCRIPTION = (
    "Forecast volume, spread and risk from all days but the last, and schedule the basket over the last session.\n"
    "Without --inventory: two-sided, 2 % of each name's daily volume. Without --model: fitted on the same days."
)
EXAMPLE = "crosswind schedule --data sim:names=6 --inventory N01=2e6,N02=-1e6 --participation 0.05"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add basket, limits and model."""
    data_options(parser)
    parser.add_argument("--inventory", metavar="NAME=AMOUNT,…", help="signed notional to trade by name, buy positive")
    parser.add_argument("--model", metavar="FILE", help="impact model written by crosswind fit --out")
    parser.add_argument("--participation", type=float, default=0.10, help="cap on our share of volume (default: 0.10)")
    parser.add_argument(
        "--slice", type=float, default=300.0, metavar="S", help="slice length in seconds (default: 300)"
    )
    parser.add_argument("--risk-aversion", type=float, metavar="L", help="λ in 1/currency (default: balanced)")
    parser.add_argument("--index", help="name that stands for the index and is not traded (default: SPY where present)")
    parser.add_argument("--out", metavar="DIR", help="write the schedule as parquet and the costs as json")


def execute(args: argparse.Namespace) -> Outcome:
    """Solve the basket and compare it."""
    import pandas as pd

    from crosswind.problems.atomic import atomic_directory
    from crosswind.problems.impact import CrossImpact, ImpactModel
    from crosswind.problems.market import read
    from crosswind.problems.workflow.output import write_json, write_tables
    from crosswind.problems.workflow.run import default_index, split_days
    from crosswind.problems.workflow.scheduling import schedule_stage
    from crosswind.solvers.errors import InvalidInput

    amounts: dict[str, float] = {}
    for part in split_names(args.inventory, "--inventory") or ():
        name, _, value = part.partition("=")
        if name in amounts:
            raise InvalidInput("names one name twice", field="--inventory", value=part, remedy=f"give {name} once")
        try:
            amounts[name] = float(value)
        except ValueError:
            raise InvalidInput(
                "needs NAME=AMOUNT", field="--inventory", value=part, remedy="write IBM=2e6,BAC=-1e6"
            ) from None
    with progress_on_terminal(quiet=args.quiet) as progress:
        if progress:
            progress("read", 0.0)
        market = read(args.data, names=split_names(args.names, "--names"), bucket_s=args.bucket)
        train, test = split_days(market.events)
        if progress:
            progress("fit and schedule", 0.4)
        sectors = None if market.truth is None else market.truth.sectors
        model = ImpactModel.load(args.model) if args.model else CrossImpact(sectors=sectors).fit(train).model_
        stage = schedule_stage(
            train,
            test,
            model,
            index=default_index(market.events, args.index),
            inventory=pd.Series(amounts) if amounts else None,
            basket_adv=0.02,
            slice_s=args.slice,
            participation=args.participation,
            risk_aversion=args.risk_aversion,
        )
    schedule = stage.schedule
    payload = {
        "data": market.source,
        "inventory": schedule.problem.inventory,
        "costs": schedule.costs,
        "costs_bps": schedule.costs_bps,
        "completion_price": schedule.completion_price,
        "binding_limits": schedule.prices_bps,
        "comparison": stage.comparison,
        "gap": schedule.certificate.gap_rel,
        "out": args.out,
    }
    if args.out:
        with atomic_directory(args.out) as work:
            write_tables(work / "tables", {"schedule": schedule.trades, "comparison": stage.comparison})
            write_json(work / "summary.json", payload)
    text = [schedule.summary(), "", stage.comparison.to_string(float_format="{:.3f}".format)]
    text += [f"written to {args.out}/"] if args.out else []
    ok = schedule.certificate.gap_rel <= 1e-6
    return Outcome(text="\n".join(text), payload=payload, exit_code=EXIT_OK if ok else EXIT_INTEGRITY)
