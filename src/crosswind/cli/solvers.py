"""``crosswind solvers``: what can solve a program on this machine, found by solving some."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from crosswind.cli.common import Outcome, split_names

if TYPE_CHECKING:
    from crosswind.solvers.probe import ProbeResult

NAME = "solvers"
HELP = "list the solver backends that work on this machine"
DESCRIPTION = (
    "Make each backend solve small programs in a process of its own, with a time limit, and print versions, licences, "
    "what each can do and what went wrong. A crash, a hang, a missing licence or a wrong answer is a row."
)
EXAMPLE = "crosswind solvers --only piqp,osqp --json"

_YES = {True: "yes", False: "–", None: "?"}
_WAYS = {
    True: "in C",
    False: "in numpy, slower: the C sources were not compiled on installation, or CROSSWIND_NATIVE=0",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which backends, and for how long."""
    parser.add_argument("--only", metavar="NAMES", help="only these backends, as piqp,osqp,cvxpy:SCS")
    parser.add_argument(
        "--limit", type=float, default=60.0, metavar="S", help="seconds for one backend, its import included"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time (default: 2)")


def execute(args: argparse.Namespace) -> Outcome:
    """Probe the backends and tabulate what was found."""
    from dataclasses import asdict

    from crosswind.solvers.errors import InvalidInput
    from crosswind.solvers.mpc.solver import default_engine
    from crosswind.solvers.native import COMPILED
    from crosswind.solvers.probe import probe

    if not args.limit > 0.0 or args.workers < 1:
        raise InvalidInput("must be positive", field="limit, workers", value=(args.limit, args.workers))
    found = probe(split_names(args.only, "only"), workers=args.workers, limit=args.limit)
    payload = {name: asdict(result) for name, result in found.items()}
    core = {True: "the compiled core", False: "PIQP, slower by up to two orders of magnitude"}[COMPILED]
    text = (
        f"{table(tuple(found.values()))}\n\nSessions check their iterates {_WAYS[COMPILED]}.\n"
        f"Receding-horizon steps (crosswind.solvers.mpc) run in {core}."
    )
    return Outcome(text=text, payload={"solvers": payload, "compiled": COMPILED, "mpc": default_engine()})


def table(results: tuple[ProbeResult, ...]) -> str:
    """Return the table for people: one line per backend that works, then those that do not with their words."""
    head = (
        "solver", "version", "licence", "QP", "SOCP", "SDP", "warm", "update", "stops", "proofs", "frees GIL",
        "repeats", "ms",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for one in results:
        if not one.works:
            continue
        kinds = tuple("yes" if text == "ok" else "–" for text in (one.quadratic, one.soc, one.psd))
        flags = (one.warm_start, one.updates, one.time_limit, one.proofs, one.releases_gil, one.repeats)
        licence = one.licence if len(one.licence) <= 24 else one.licence[:23] + "…"
        lines.append(
            (one.solver, one.version, licence, *kinds, *(_YES[flag] for flag in flags), f"{one.milliseconds:.2f}")
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    out = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    out.append("")
    out.append("stops: gives its iterate at a time limit · frees GIL, repeats: measured · ms: a tiny program, cold")
    notes = [f"  {one.solver}: takes {one.only} only" for one in results if one.works and one.only]
    notes += [f"  {one.solver}: {one.limits}" for one in results if one.works and one.limits]
    notes += [f"  {one.solver} prints to stdout: {one.prints}" for one in results if one.prints]
    if notes:
        out += ["", "Limits and remarks:", *notes]
    failed = [one for one in results if not one.works]
    if failed:
        out += ["", "Not working here:"]
        out += [f"  {one.solver}{' ' + one.version if one.version else ''}: {one.trouble}" for one in failed]
    return "\n".join(out)
