"""``crosswind hedge``: size a hedge of a holding, and compare policies for its timing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswind.cli.common import (
    EXIT_FALLBACK,
    EXIT_INTEGRITY,
    EXIT_OK,
    Outcome,
    data_options,
    progress_on_terminal,
    split_names,
)

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.hedge.sizing import HedgeInstrument, SpotBook

NAME = "hedge"
HELP = "size a hedge of a holding, or compare policies for its timing"
DESCRIPTION = (
    "size      how many contracts hedge a holding's beta, what is left, and what moves of the market do to each line\n"
    "compare   hedge policies side by side on the same cash fills: on a simulated world, or on data with a future\n"
    "\n"
    "Each has --help. Exit codes of compare: 4 where the controller used a rung below its optimum, 5 where components\n"
    "and ledger disagree."
)
EXAMPLE = (
    "crosswind hedge size --holdings book.csv --instrument ES,price=5000,factor=SPX\n"
    "  crosswind hedge compare --world calm --orders 20 --policies P1,P3b,SO,P4 --out crosswind-out/hedge"
)
_LEDGER = 1e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two verbs and their options."""
    kinds = parser.add_subparsers(dest="kind", metavar="size|compare", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    size = kinds.add_parser(
        "size",
        help="contracts that hedge a holding's beta",
        description="Size a hedge in whole lots, proven best, with a table of what moves of the market do.",
        epilog=(
            "example:\n  crosswind hedge size --holdings book.csv --instrument ES,price=5000,factor=SPX --ratio 0.8\n"
            "book.csv has columns name, units, price; beta (or beta_FACTOR for several); residual_vol where known."
        ),
        formatter_class=raw,
    )
    size.add_argument("--holdings", required=True, metavar="FILE", help="csv or parquet: name, units, price, betas")
    size.add_argument(
        "--instrument",
        required=True,
        action="append",
        metavar="ROOT,key=value,…",
        help="contract and its price, as ES,price=5000,factor=SPX,month=202412,basis_vol=2e-4,half_spread=2e-5,fee=1e-5"
        " or binance:BTCUSDT,price=65000; may be repeated",
    )
    size.add_argument("--ratio", default="1", metavar="H", help="share to be hedged, or by factor: BTC=0.6,ETH=0.3")
    size.add_argument("--covariance", metavar="V|FILE", help="daily variance of one factor, or a table by factor")
    size.add_argument("--residual-vol", action="store_true", help="take residual_vol from the holdings")
    size.add_argument("--current", metavar="NAME=N,…", help="contracts held already, by the instrument's name")
    size.add_argument("--risk-aversion", type=float, metavar="L", help="λ in 1/currency: weighs costs against variance")
    size.add_argument("--horizon-days", type=float, default=1.0, metavar="D", help="days of risk (default: 1)")
    size.add_argument("--rounding", choices=("lots", "exact"), default="lots", help="whole lots or fractions")
    size.add_argument("--currency", help="of the holding's prices; checked against the contracts'")
    size.add_argument(
        "--move", type=float, action="append", metavar="M", help="move of the market; repeat (default: -0.1 and 0.1)"
    )
    size.add_argument("--basis-move", type=float, default=0.0, metavar="B", help="change of the basis with them")
    compare = kinds.add_parser(
        "compare",
        help="hedge policies side by side",
        description=(
            "Tune hedge policies on earlier orders and compare them on later ones, with paired differences against\n"
            "P1 and the rows without impact. With --world the simulator's desk draws the orders; with --data baskets\n"
            "over the last session are hedged with the data's future, tuned on the days before."
        ),
        epilog="example:\n  crosswind hedge compare --world stress --orders 30 --policies P1,P3b,SO,P4",
        formatter_class=raw,
    )
    compare.add_argument("--world", metavar="NAME", help="a declared world with a desk (see simulate --list-worlds)")
    data_options(compare)
    compare.add_argument("--index", help="name that stands for the index (default: SPY where present)")
    compare.add_argument("--orders", type=int, default=20, help="orders judged, of a world (default: 20)")
    compare.add_argument("--training", type=int, help="orders tuned on, of a world (default: as many)")
    compare.add_argument("--policies", metavar="P,…", help="P1c,P2,P3a,P3b,BF,BS,SO,P4 (default: all); P0, P1 always")
    compare.add_argument("--no-tune", action="store_true", help="take the middle of each grid instead of tuning")
    compare.add_argument("--risk-aversion", type=float, metavar="L", help="λ in 1/currency that the grid begins at")
    compare.add_argument("--horizon", type=int, default=20, help="slices that P4 looks ahead (default: 20)")
    compare.add_argument("--seed", type=int, default=0, help="seed of orders and intervals (default: 0)")
    for sub in (size, compare):
        sub.add_argument("--out", metavar="DIR", help="write tables and summary.json there, all or nothing")
        # Suppressed where it is not given, so that the word before the kind counts as well.
        sub.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object on stdout"
        )


def execute(args: argparse.Namespace) -> Outcome:
    """Size or compare."""
    from crosswind.problems.atomic import check_target

    if args.out:
        check_target(Path(args.out))
    return _size(args) if args.kind == "size" else _compare(args)


# ---- size ------------------------------------------------------------------------------------------------------------


def _size(args: argparse.Namespace) -> Outcome:
    import pandas as pd

    from crosswind.problems.hedge.sizing import size_hedge

    book, betas, residual = _holdings(args.holdings, args.currency, args.residual_vol)
    tools = [_instrument(text) for text in args.instrument]
    found = size_hedge(
        book,
        tools,
        betas,
        _by_name(args.ratio, "--ratio"),
        _covariance(args.covariance),
        rounding=args.rounding,
        current=None if args.current is None else _amounts(args.current, "--current"),
        risk_aversion=args.risk_aversion,
        residual_vol=residual,
        horizon_days=args.horizon_days,
    )
    moves = (-0.1, 0.1) if args.move is None else args.move
    by_move = {f"{m:+.4g}": found.what_if(m, args.basis_move) for m in moves}
    what_if = pd.concat(by_move, names=["move"])
    tables = {"contracts": found.to_frame(), "exposures": found.exposures(), "what_if": what_if.reset_index()}
    risk = None if found.covariance is None else found.volatility()
    payload = {
        "holdings": args.holdings,
        "contracts": tables["contracts"],
        "exposures": tables["exposures"],
        "what_if": tables["what_if"].to_dict(orient="records"),
        "trade_cost": found.trade_cost,
        "volatility": risk,
        "basis_var": None if found.covariance is None else found.basis_var(),
        "nodes": found.nodes,
        "gap": found.gap,
        "out": args.out,
    }
    lines = pd.DataFrame({move: part["change"] for move, part in by_move.items()})
    text = [found.summary(), "", f"change of each line [currency], basis {args.basis_move:+g}"]
    text.append(lines.to_string(float_format="{:,.0f}".format, na_rep="0"))
    return _written(args.out, Outcome("\n".join(text), payload), tables)


def _holdings(path: str, currency: str | None, residual: bool) -> tuple[SpotBook, Any, Any]:
    """Return the book, its betas (None where the file has none) and its residual volatilities where asked for."""
    from crosswind.problems.hedge.sizing import SpotBook
    from crosswind.solvers.errors import DataGap, InvalidInput

    table = _table(path, "--holdings")
    missing = [column for column in ("name", "units", "price") if column not in table]
    if missing:
        raise DataGap("lacks columns", field="--holdings", value=missing, remedy="give name, units, price")
    table = table.set_axis(table["name"].astype(str), axis=0)
    factors = [str(column) for column in table if str(column).startswith("beta_")]
    if "beta" in table and factors:
        raise InvalidInput("has beta and beta_FACTOR", field="--holdings", value=factors, remedy="keep one of the two")
    betas: Any = None
    if "beta" in table:
        betas = table["beta"]
    elif factors:
        betas = table[factors].rename(columns=lambda column: str(column).removeprefix("beta_"))
    if residual and "residual_vol" not in table:
        raise DataGap("lacks the column", field="--holdings", value="residual_vol", remedy="leave the option out")
    book = SpotBook(table["units"], table["price"], currency=currency)
    return book, betas, table["residual_vol"] if residual else None


def _table(path: str, field: str) -> pd.DataFrame:
    """Read a table by its suffix."""
    import pandas as pd
    import pyarrow

    from crosswind.solvers.errors import DataGap, InvalidInput

    file = Path(path)
    if not file.is_file():
        raise DataGap("is no file", field=field, value=path, remedy="give a csv or parquet file")
    try:
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    except (ValueError, pyarrow.ArrowException) as err:
        raise InvalidInput(f"cannot be read: {err}", field=field, value=path, remedy="give csv or parquet") from err


def _instrument(text: str) -> HedgeInstrument:
    from crosswind.problems.hedge.sizing import listed
    from crosswind.solvers.errors import InvalidInput

    root, *terms = text.split(",")
    given: dict[str, Any] = {}
    words, figures = ("factor", "month", "on", "name"), ("price", "basis_vol", "half_spread", "fee", "lot", "spot")
    for term in terms:
        key, _, value = term.partition("=")
        if key not in (*words, *figures) or key in given or not value:
            remedy = f"give each of {', '.join((*figures, *words))} at most once"
            raise InvalidInput("is not understood", field="--instrument", value=term, remedy=remedy)
        given[key] = value if key in words else _figure(value, "--instrument")
    if "price" not in given:
        raise InvalidInput("has no price", field="--instrument", value=text, remedy=f"write {root},price=…")
    return listed(root, given.pop("price"), given.pop("factor", None), **given)


def _figure(text: str, field: str) -> float:
    from crosswind.solvers.errors import InvalidInput

    try:
        return float(text)
    except ValueError:
        raise InvalidInput("expected a number", field=field, value=text, remedy="write 0.8") from None


def _amounts(text: str, field: str) -> dict[str, float]:
    from crosswind.solvers.errors import InvalidInput

    out: dict[str, float] = {}
    for part in split_names(text, field) or ():
        name, mark, value = part.partition("=")
        if not mark or name in out:
            raise InvalidInput("needs NAME=NUMBER, each once", field=field, value=part, remedy="write BTC=0.6,ETH=0.3")
        out[name] = _figure(value, field)
    return out


def _by_name(text: str, field: str) -> float | dict[str, float]:
    return _amounts(text, field) if "=" in text else _figure(text, field)


def _covariance(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        table = _table(text, "--covariance")
        return table.set_axis(table.iloc[:, 0].astype(str), axis=0).iloc[:, 1:]


# ---- compare ---------------------------------------------------------------------------------------------------------


def _compare(args: argparse.Namespace) -> Outcome:
    keys = split_names(args.policies, "--policies")
    with progress_on_terminal(quiet=args.quiet) as progress:
        told = None if progress is None else lambda done: progress("tune and compare", done)
        if args.world is not None:
            from crosswind.problems.workflow.hedge_worlds import compare_in_world

            found: Any = compare_in_world(
                args.world,
                args.orders,
                args.training,
                args.seed,
                policies=keys,
                tune=not args.no_tune,
                risk_aversion=1e-6 if args.risk_aversion is None else args.risk_aversion,
                horizon=args.horizon,
                progress=told,
            )
            source = str(found.settings["world"])
        else:
            found, source = _on_data(args, keys, told)
    comparison = found.comparison
    zero = comparison.zero_impact
    payload = {
        "source": source,
        "orders": list(comparison.parents),
        "policies": comparison.table(),
        "differences": comparison.differences(),
        "zero_impact": None if zero is None else zero.table(),
        "tuned": not args.no_tune,
        "parameters": found.parameters,
        "worst_ledger_error": found.worst_ledger_error,
        "fallbacks": list(found.fallbacks),
        "notes": list(found.notes),
        "out": args.out,
    }
    chosen = [f"{label}: {', '.join(f'{k}={v:g}' for k, v in p.items())}" for label, p in found.parameters.items()]
    text = [comparison.summary(), "", "tuned" if not args.no_tune else "not tuned", *chosen, *found.notes]
    text += list(found.fallbacks)
    text.append(f"components against the ledger: {found.worst_ledger_error:.1e} relative at worst")
    code = EXIT_FALLBACK if found.fallbacks else EXIT_OK
    if not found.worst_ledger_error <= _LEDGER:
        code = EXIT_INTEGRITY
    return _written(args.out, Outcome("\n".join(text), payload, code), found.tables())


def _on_data(args: argparse.Namespace, keys: tuple[str, ...] | None, told: Any) -> tuple[Any, str]:
    """Return the hedge stage of the main job on data with a future."""
    from dataclasses import replace

    from crosswind.problems.impact import CrossImpact
    from crosswind.problems.market import read
    from crosswind.problems.workflow.hedging import HedgeAssumptions, hedge_stage
    from crosswind.problems.workflow.run import default_index, split_days
    from crosswind.problems.workflow.scheduling import schedule_stage
    from crosswind.problems.workflow.tuning import rival_grids
    from crosswind.solvers.errors import DataGap

    market = read(args.data, names=split_names(args.names, "--names"), bucket_s=args.bucket)
    if not market.futures:
        raise DataGap("has no future to hedge with", field="--data", value=market.source, remedy="add one, or --world")
    train, test = split_days(market.events)
    index = default_index(market.events, args.index)
    sectors = None if market.truth is None else market.truth.sectors
    model = CrossImpact(sectors=sectors).fit(train).model_
    planned = schedule_stage(
        train,
        test,
        model,
        index=index,
        inventory=None,
        basket_adv=0.02,
        slice_s=300.0,
        participation=0.1,
        risk_aversion=None,
    )
    begin = planned.schedule.problem.risk_aversion if args.risk_aversion is None else args.risk_aversion
    latency = {} if market.truth is None else market.truth.parameters
    assumed = replace(
        HedgeAssumptions(horizon=args.horizon),
        latency_s=float(latency.get("hedge_latency_s", HedgeAssumptions.latency_s)),
    )
    stage = hedge_stage(
        market,
        train,
        test,
        model,
        planned,
        index=index,
        seed=args.seed,
        assumptions=assumed,
        grids=rival_grids(keys, begin, args.horizon),
        tune=not args.no_tune,
        progress=told,
    )
    return stage, market.source


def _written(out: str | None, outcome: Outcome, tables: dict[str, pd.DataFrame]) -> Outcome:
    """Write tables and summary where asked, whole or not at all, and say so."""
    if out is None:
        return outcome
    from crosswind.problems.atomic import atomic_directory
    from crosswind.problems.workflow.output import write_json, write_tables

    with atomic_directory(out) as work:
        write_tables(work / "tables", tables)
        write_json(work / "summary.json", outcome.payload)
    return Outcome(f"{outcome.text}\nwritten to {out}/", outcome.payload, outcome.exit_code)
