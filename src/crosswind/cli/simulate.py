"""``crosswind simulate``: write a simulated market with its truth."""

from __future__ import annotations

import argparse

from crosswind.cli.common import Outcome

NAME = "simulate"
HELP = "write a simulated market, with the truth behind it, as parquet"
DESCRIPTION = (
    "Draw correlated heavy-tailed order flow, factor moves, price impact by a known kernel and an index future, and\n"
    "write them in the layout that --data parquet:DIR reads. The same arguments give the same bytes."
)
EXAMPLE = "crosswind simulate --names 8 --days 3 --seed 7 --out crosswind-out/market"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add size, seed and target."""
    parser.add_argument("--names", type=int, default=8, help="number of names (default: 8)")
    parser.add_argument("--sectors", type=int, default=2, help="number of sectors (default: 2)")
    parser.add_argument("--days", type=int, default=3, help="number of sessions (default: 3)")
    parser.add_argument(
        "--bucket", type=float, default=10.0, metavar="S", help="bucket length in seconds (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write, all or nothing")


def execute(args: argparse.Namespace) -> Outcome:
    """Draw the market and write it."""
    from crosswind.problems.market import simulate

    market = simulate(names=args.names, sectors=args.sectors, days=args.days, bucket_s=args.bucket, seed=args.seed)
    folder = market.to_parquet(args.out)
    payload = {
        "folder": str(folder),
        "names": list(market.events.names),
        "days": [str(d) for d in market.events.days],
        "buckets": len(market.events.flow),
        "seed": args.seed,
    }
    return Outcome(text=f"{market.summary()}\nwritten to {folder}", payload=payload)
