"""``crosswind run``: the main job, from order flow to a cost report."""

from __future__ import annotations

import argparse

from crosswind.cli.common import (
    EXIT_FALLBACK,
    EXIT_INTEGRITY,
    EXIT_OK,
    Outcome,
    data_options,
    progress_on_terminal,
    split_names,
)

NAME = "run"
HELP = "the main job: fit impact, schedule a basket, time its hedge, report the cost"
DESCRIPTION = (
    "Read order flow, fit cross-impact on the earlier days, schedule a basket on the last day, replay its hedge under\n"
    "seven policies and report what it cost. With --out DIR: summary.json, parquet tables and report.html."
)
EXAMPLE = "crosswind run --data sim:names=4,days=2,bucket_s=60 --out crosswind-out/run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the main job."""
    data_options(parser)
    parser.add_argument("--out", metavar="DIR", help="write summary.json, tables and report.html there, all or nothing")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument(
        "--index", help="the name that stands for the index (default: SPY where present, else the data's own)"
    )
    parser.add_argument(
        "--adv", type=float, default=0.02, help="basket size per name, share of daily volume (default: 0.02)"
    )
    parser.add_argument("--participation", type=float, default=0.10, help="cap on our share of volume (default: 0.10)")
    parser.add_argument(
        "--risk-aversion", type=float, default=None, metavar="L", help="λ in 1/currency (default: from the basket)"
    )


def execute(args: argparse.Namespace) -> Outcome:
    """Run the main job and summarise it."""
    from crosswind.problems.workflow import run

    with progress_on_terminal(quiet=args.quiet) as progress:
        result = run(
            args.data,
            out=args.out,
            seed=args.seed,
            names=split_names(args.names, "--names"),
            index=args.index,
            bucket_s=args.bucket,
            basket_adv=args.adv,
            participation=args.participation,
            risk_aversion=args.risk_aversion,
            progress=progress,
        )
    code = EXIT_OK
    if result.fallbacks:
        code = EXIT_FALLBACK
    if not result.passed:
        code = EXIT_INTEGRITY
    return Outcome(text=result.summary(), payload=result.to_dict(), exit_code=code)
