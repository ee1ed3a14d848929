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
    """Add size, seed, world and target."""
    parser.add_argument("--world", metavar="NAME", help="a declared world, e.g. stress or stress@1 (default: none)")
    parser.add_argument("--list-worlds", action="store_true", help="print the declared worlds with their digests")
    for factor in ("impact", "volatility", "latency"):
        parser.add_argument(f"--{factor}", type=float, default=1.0, metavar="F", help=f"factor of the world's {factor}")
    parser.add_argument("--names", type=int, help="number of names (default: the world's, else 8)")
    parser.add_argument("--sectors", type=int, help="number of sectors (default: the world's, else 2)")
    parser.add_argument("--days", type=int, default=3, help="number of sessions (default: 3)")
    parser.add_argument(
        "--bucket", type=float, metavar="S", help="bucket length in seconds (default: the world's, else 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--out", metavar="DIR", help="folder to write, all or nothing")


def execute(args: argparse.Namespace) -> Outcome:
    """Draw the market and write it, or list the worlds."""
    if args.list_worlds:
        return _list_worlds()
    from crosswind.problems.market import simulate
    from crosswind.solvers.errors import InvalidInput

    if args.out is None:
        raise InvalidInput("is missing", field="--out", remedy="name the folder to write")
    market = simulate(
        names=args.names,
        sectors=args.sectors,
        days=args.days,
        bucket_s=args.bucket,
        seed=args.seed,
        world=args.world,
        impact=args.impact,
        volatility=args.volatility,
        latency=args.latency,
    )
    folder = market.to_parquet(args.out)
    payload = {
        "folder": str(folder),
        "names": list(market.events.names),
        "days": [str(d) for d in market.events.days],
        "buckets": len(market.events.flow),
        "seed": args.seed,
    }
    if args.world is not None and market.truth is not None:
        payload |= {"world": market.truth.parameters["world"], "digest": market.truth.parameters["world_digest"]}
    return Outcome(text=f"{market.summary()}\nwritten to {folder}", payload=payload)


def _list_worlds() -> Outcome:
    from crosswind.problems.market.simulator.worlds_table import WORLDS

    rows = [{"world": item.key, "digest": item.digest, "text": item.text} for item in WORLDS.values()]
    width = max(len(row["world"]) for row in rows)
    lines = [f"{row['world']:<{width}}  {row['digest'][:12]}  {row['text']}" for row in rows]
    return Outcome(text="\n".join(lines), payload={"worlds": rows})
