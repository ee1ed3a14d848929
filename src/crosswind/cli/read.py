"""``crosswind read``: read market data, say what was understood, store it."""

from __future__ import annotations

import argparse
from typing import Any

from crosswind.cli.common import Outcome, progress_on_terminal, split_names
from crosswind.solvers.errors import InvalidInput

NAME = "read"
HELP = "read market data of any format, say what was understood, store it as parquet"
DESCRIPTION = (
    "Read a source and put it on synchronised buckets. With --describe: files, instruments, spans, gaps, clock,\n"
    "units, signs, bad rows by reason. With --out DIR: write it in the layout that --data parquet:DIR reads."
)
EXAMPLE = "crosswind read sim:names=3,days=1 --describe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, what to keep of it and the target."""
    parser.add_argument("spec", metavar="SPEC", help="scheme:path, e.g. lean:DIR; an unknown one lists them all")
    parser.add_argument("--describe", action="store_true", help="say what was understood, in full")
    parser.add_argument("--names", help="only these names, as IBM,BAC,AIG")
    parser.add_argument("--days", help="only these local dates, as 2013-10-07,2013-10-08; for sim their number")
    parser.add_argument(
        "--bucket", type=float, metavar="S", help="bucket length in seconds (default: the source's own)"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the reader; may be repeated"
    )
    parser.add_argument("--out", metavar="DIR", help="write it there as parquet, all or nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _options(parts: list[str]) -> dict[str, Any]:
    """Return the reader's options; a key with a dot, columns.time=ts, fills a mapping."""
    from crosswind.problems.market.readers.simulated import literal

    options: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        outer, dot, inner = key.partition(".")
        if not equals or not outer.isidentifier() or (dot and not inner):
            raise InvalidInput("not key=value", field="--option", value=part, remedy="write --option tick=0.01")
        value: Any = literal(text)
        if isinstance(value, str) and "," in value:
            value = tuple(literal(t) for t in value.split(","))
        into = options.setdefault(outer, {}) if dot else options
        if not isinstance(into, dict) or (inner if dot else outer) in into:
            raise InvalidInput("given twice", field="--option", value=key, remedy="give every option once")
        into[inner if dot else outer] = value
    return options


def _days(text: str | None, spec: str) -> Any:
    if text is None:
        return None
    return int(text) if spec.partition(":")[0] == "sim" and text.isdigit() else split_names(text, "--days")


def execute(args: argparse.Namespace) -> Outcome:
    """Read, describe, store."""
    from crosswind.problems.market.describe import describe

    with progress_on_terminal(quiet=args.quiet) as progress:
        told = describe(
            args.spec,
            split_names(args.names, "--names"),
            _days(args.days, args.spec),
            args.bucket,
            progress,
            **_options(args.option),
        )
        if args.out is not None and progress is not None:
            progress("writing", 1.0)
        folder = None if args.out is None else told.market.to_parquet(args.out)
    text = told.summary() if args.describe else told.market.summary()
    if folder is not None:
        text += f"\nwritten to {folder}"
    return Outcome(text=text, payload={**told.to_dict(), "folder": None if folder is None else str(folder)})
