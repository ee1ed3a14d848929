"""The parser, the verbs and the exit codes.

Every verb has ``--help`` with an example and ``--json`` (one object on stdout, nothing else). Exit codes: 0 ok, 2 bad
input, 3 a guard refused, 4 a fallback was used, 5 a result failed its own integrity check.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from crosswind.cli import bench, export_c, fit, hedge, read, roll, run, schedule, simulate, solvers
from crosswind.cli.common import EXIT_GUARD, EXIT_INPUT, Outcome, emit, emit_error
from crosswind.solvers.errors import CrosswindError, InvalidInput, LimitBreach

__all__ = ["main"]

_VERBS = (run, read, simulate, fit, schedule, hedge, roll, solvers, bench, export_c)


def _parser() -> argparse.ArgumentParser:
    from crosswind import __version__

    parser = argparse.ArgumentParser(
        prog="crosswind",
        description="Trade execution as convex programs: fit impact, schedule baskets, time hedges, roll futures.",
        epilog="Try: crosswind run --data sim --out crosswind-out/demo",
    )
    parser.add_argument("--version", action="version", version=f"crosswind {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in _VERBS:
        sub = verbs.add_parser(
            verb.NAME,
            help=verb.HELP,
            description=verb.DESCRIPTION,
            epilog=f"example:\n  {verb.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
        sub.set_defaults(execute=verb.execute)
    return parser


def _silence_stdout() -> int:
    """Point stdout to the null device after the reader of a pipe went away, so that the shutdown flush is quiet."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        The words after the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 ok, 2 bad input, 3 a guard refused, 4 a fallback was used, 5 an integrity check failed. argparse leaves by
        ``SystemExit`` with code 2 for words it does not know, and 0 for ``--help``.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.verb is None:
        parser.print_help(sys.stderr)
        return EXIT_INPUT
    try:
        # Whatever a library prints while it works belongs on stderr: stdout carries the answer alone.
        with contextlib.redirect_stdout(sys.stderr):
            outcome: Outcome = args.execute(args)
        emit(outcome, as_json=args.json)
    except CrosswindError as err:
        code = EXIT_GUARD if isinstance(err, LimitBreach) else EXIT_INPUT
        emit_error(err, code, as_json=args.json)
        return code
    except BrokenPipeError:
        return _silence_stdout()
    except OSError as err:
        refusal = InvalidInput(
            err.strerror or type(err).__name__,
            field="file",
            value=err.filename,
            remedy="check the path, who may read or write it, and the space left",
        )
        emit_error(refusal, EXIT_INPUT, as_json=args.json)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("crosswind: interrupted; nothing was written", file=sys.stderr)
        return 130
    return outcome.exit_code
