"""``crosswind solvers``: what can solve a program on this machine, found by solving one."""

from __future__ import annotations

import argparse

from crosswind.cli.common import Outcome

NAME = "solvers"
HELP = "list the solver backends that work on this machine"
DESCRIPTION = "Probe each backend with a real small program and print versions, capabilities and licences."
EXAMPLE = "crosswind solvers --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no options of its own."""


def execute(args: argparse.Namespace) -> Outcome:
    """Probe the backends and tabulate what was found."""
    from crosswind.solvers import solver_table

    table = solver_table()
    return Outcome(text=table.to_string(), payload={"solvers": table})
