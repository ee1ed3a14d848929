"""``crosswind roll``: plan the roll of a future, or replay roll days with policies side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from crosswind.cli.common import Outcome
from crosswind.cli.roll_inputs import source_of
from crosswind.cli.roll_plan import plan_roll
from crosswind.cli.roll_replay import POLICIES, replay_rolls

NAME = "roll"
HELP = "plan the roll of a future into its next expiry, or replay roll days with policies side by side"
DESCRIPTION = (
    "plan     what to rest, cross and leg until the cutoff, with mean, q95 and CVaR95, and what the limits are worth\n"
    "replay   policies on the same orders, days and luck, simulated or recorded; a report of one of them\n"
    "\n"
    "Each has --help. Costs are currency per spread, positive: money lost. Exit codes: 4 where a solve fell back or\n"
    "did not reach its tolerance, 5 where components and ledger disagree."
)
EXAMPLE = (
    "crosswind roll plan --contract ES --quantity 2000 --day 2024-03-12 --start 10:00 --cutoff 12:00\n"
    "  crosswind roll replay --contract ES --orders 8 --policies twap,adaptive,tail --out crosswind-out/roll"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two verbs and their options."""
    kinds = parser.add_subparsers(dest="kind", metavar="plan|replay", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    plan = kinds.add_parser(
        "plan",
        help="a plan over scenarios until the cutoff",
        description="Minimise E[C] + λ95 CVaR95(C) + λT E[underfill] over scenarios of fills, basis and books.",
        epilog="example:\n  crosswind roll plan --contract ES --quantity 2000 --start 10:00 --cutoff 12:00",
        formatter_class=raw,
    )
    replay = kinds.add_parser(
        "replay",
        help="policies side by side on roll days",
        description=(
            "Replay orders with policies: drawn orders on simulated days, or with --quantity one order on one day.\n"
            f"Policies: {', '.join(POLICIES)}."
        ),
        epilog="example:\n  crosswind roll replay --contract ES --orders 8 --policies twap,adaptive,tail",
        formatter_class=raw,
    )
    for sub in (plan, replay):
        one = sub is plan
        sub.add_argument(
            "--contract", default="ES", metavar="ROOT", help="of the contracts table: ES, NQ, BTCUSDT_QUARTER"
        )
        sub.add_argument("--quantity", type=int, required=one, metavar="N", help="spreads: > 0 buys far and sells near")
        sub.add_argument("--day", metavar="DATE", default="2024-03-12", help="session (default: 2024-03-12)")
        sub.add_argument("--start", metavar="TIME", default="10:00", help="HH:MM at the exchange (default: 10:00)")
        sub.add_argument("--cutoff", metavar="TIME", default="12:00", help="HH:MM at the exchange (default: 12:00)")
        sub.add_argument(
            "--data",
            default="sim",
            metavar="SPEC",
            help="sim[:seed=N,stress=calm|jumps|thin|one_sided,level=P] or lean:DIR",
        )
        sub.add_argument("--legs", metavar="NEAR,FAR", help="expiries as 202403,202406 (default: the pair of the day)")
        sub.add_argument(
            "--max-naked", type=int, default=0, metavar="N", help="most contracts that legs stand apart by"
        )
        sub.add_argument("--carry-cap", type=int, default=0, metavar="N", help="spreads that may stay undone")
        sub.add_argument("--fee", type=float, metavar="F", help="of one contract of one leg [currency]")
        sub.add_argument("--tail-weight", type=float, default=0.5, metavar="L", help="λ95 of the CVaR (default: 0.5)")
        sub.add_argument("--seed", type=int, default=0, help="of scenarios, orders and intervals (default: 0)")
        sub.add_argument("--dry-run", action="store_true", help="print order, legs and limits, and do nothing else")
        sub.add_argument("--quiet", action="store_true", help="no progress bar")
        sub.add_argument("--out", metavar="DIR", help="write tables, report.html and summary.json, all or nothing")
        # Suppressed where it is not given, so that the word before the kind counts as well.
        sub.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object on stdout"
        )
    plan.add_argument("--now", metavar="TIME", help="plan as of then (default: the start)")
    plan.add_argument("--remaining", type=int, metavar="N", help="spreads still to be done (default: all)")
    plan.add_argument(
        "--participation", type=float, default=0.3, help="cap on crossing over others' volume (default: 0.3)"
    )
    plan.add_argument(
        "--deadline-share", type=float, default=1.0, help="most that may be planned for the forced cross (default: 1)"
    )
    plan.add_argument("--underfill-price", type=float, default=0.0, metavar="L", help="λT [currency a spread]")
    plan.add_argument("--scenarios", type=int, default=200, help="S (default: 200)")
    plan.add_argument("--slices", type=int, default=30, help="largest T (default: 30)")
    replay.add_argument("--orders", type=int, default=8, help="orders drawn without --quantity (default: 8)")
    replay.add_argument("--policies", default="twap,adaptive,tail", metavar="P,…", help="the first one is the baseline")
    replay.add_argument("--show", metavar="P", help="whose report is written (default: the last policy)")
    replay.add_argument("--past", type=int, default=8, help="simulated past rolls behind bands and RPC (default: 8)")


def execute(args: argparse.Namespace) -> Outcome:
    """Plan or replay."""
    from crosswind.problems.atomic import check_target
    from crosswind.problems.roll.contracts import roll_contract

    if args.out:
        check_target(Path(args.out))
    keys = source_of(args.data)
    on = args.day if keys["kind"] == "lean" or args.quantity is not None else None
    terms = roll_contract(args.contract, on, keys.get("level"))
    return plan_roll(args, terms, keys) if args.kind == "plan" else replay_rolls(args, terms, keys)
