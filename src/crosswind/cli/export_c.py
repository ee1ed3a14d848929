"""``crosswind export-c``: the receding-horizon core with a model as data, to be compiled into an algo in C or C++."""

from __future__ import annotations

import argparse

from crosswind.cli.common import Outcome

NAME = "export-c"
HELP = "write the receding-horizon core and a model as C sources with an example loop"
DESCRIPTION = (
    "Write mpc.c and mpc.h (no dependencies, no allocation in a step), the model and example data as a header, a loop, "
    "what it must print to the last bit, a Makefile and a CMakeLists.txt. Without --model: a seeded one of these sizes."
)
EXAMPLE = "crosswind export-c crosswind-out/core --instruments 2 --horizon 30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the model or its sizes, and the length of the example."""
    parser.add_argument("directory", metavar="DIR", help="folder to write, as a whole or not at all")
    parser.add_argument("--model", metavar="FILE", help="JSON that MpcModel.save wrote")
    parser.add_argument("--instruments", type=int, default=1, metavar="M", help="of a seeded model (default: 1)")
    parser.add_argument("--exposures", type=int, metavar="K", help="of a seeded model (default: one each)")
    parser.add_argument("--modes", type=int, default=1, metavar="N", help="impact modes, 0 to 4 (default: 1)")
    parser.add_argument("--horizon", type=int, default=20, metavar="H", help="slices ahead (default: 20)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of the example loop (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the seeded model and of the example (default: 0)")


def execute(args: argparse.Namespace) -> Outcome:
    """Write the folder and list it."""
    from pathlib import Path

    from crosswind.problems.atomic import atomic_directory
    from crosswind.solvers.mpc import MpcModel, export_c, mpc_instance

    if args.model:
        model = MpcModel.load(args.model)
    else:
        model = mpc_instance(args.instruments, args.exposures, args.modes, args.horizon, args.seed)
    with atomic_directory(args.directory, marker="problem.h") as work:
        names = [path.name for path in export_c(Path(work), model, steps=args.steps, seed=args.seed)]
    m, k, M, H = model.sizes
    sizes = {"instruments": m, "exposures": k, "modes": M, "horizon": H}
    text = [f"written to {args.directory}/: {', '.join(names)}", f"build and compare: make -C {args.directory} check"]
    payload = {"out": args.directory, "files": names, "model": sizes, "steps": args.steps}
    return Outcome(text="\n".join(text), payload=payload)
