"""Our own receding-horizon core as a backend: it takes programs that know the model and the data they are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.backends.base import Claim, Direct, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.horizon import HorizonOnly
from crosswind.solvers.backends.keywords import merged
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    from crosswind.solvers.mpc.program import MpcProgram
    from crosswind.solvers.mpc.solver import MpcStep

__all__ = ["BACKEND", "MpcCore"]

_CLAIMS = {Status.OPTIMAL: Claim.SOLVED, Status.FEASIBLE: Claim.ALMOST, Status.INVALID: Claim.FAILED}
_KNOWN = {"engine": "auto", "work": 40, "tol": 1e-8}


class MpcCore(HorizonOnly):
    """:class:`crosswind.solvers.mpc.MpcSolver`, compiled, or PIQP behind the same call where it was not.

    A step's answer is its trades and the prices of its limits. Point and multipliers of the sparse program follow from
    them and are computed when the answer is fetched; in a stream that is no part of the timed step.

    Settings: ``engine``, ``work``, ``tol`` (default: 1e-8, less where more than 1e-6 is asked for).
    """

    name = "mpc"
    module = "crosswind.solvers.mpc"
    distribution = "crosswind"
    licence = "Apache-2.0, part of this package"
    warm_starts = True
    updates = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set the core up for the model of a receding-horizon program.

        Raises
        ------
        InvalidInput
            When it is another program.
        """
        from crosswind.solvers.mpc.program import as_mpc

        return _MpcPrepared(as_mpc(program, self.name), options)


BACKEND = MpcCore


class _MpcPrepared(Prepared):
    def __init__(self, program: MpcProgram, options: Options) -> None:
        from crosswind.solvers.mpc.solver import MpcSolver

        ours = {"tol": min(1e-8, 1e-2 * options.tol)}
        settings = merged(_KNOWN, _KNOWN | ours, options.settings, "mpc")
        self.program = program
        self.solver = MpcSolver(program.model, settings.pop("engine"))
        self.settings = settings
        self.moved = 0  # slices since the last solve

    def fits(self, program: Program) -> bool:
        from crosswind.solvers.mpc.program import MpcProgram

        return isinstance(program, MpcProgram) and program.model is self.program.model

    def update(self, program: Program) -> None:
        self.program = program  # type: ignore[assignment]
        self.moved += 1

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        if warm is None and self.moved:
            self.solver.reset()
        given: dict[str, Any] = {**self.program.data, **self.settings, "shift": self.moved}
        step = self.solver.step(**given)
        self.moved = 0
        return answer(self.program, step)

    def direct(self, time_limit: float | None) -> Direct | None:
        return _MpcDirect(self)


class _MpcDirect(Direct):
    """``MpcSolver.step`` with its prices, as a controller calls it once a slice."""

    def __init__(self, owner: _MpcPrepared) -> None:
        self.call, self.settings = owner.solver.step, owner.settings
        self.step: MpcStep | None = None

    def load(self, program: Program) -> Any:
        from crosswind.solvers.mpc.program import as_mpc

        return {**as_mpc(program, MpcCore.name).data, **self.settings}

    def run(self, loaded: Any) -> None:
        self.step = self.call(**loaded)

    def take(self, program: Program) -> Callable[[], Raw] | None:
        return partial(answer, program, self.step)  # type: ignore[arg-type]


def answer(program: MpcProgram, step: MpcStep) -> Raw:
    """Return a step as an iterate of the sparse program."""
    if step.prices is None:
        nothing = np.full(program.n, np.nan)
        return Raw(_CLAIMS[step.status], step.status.name, nothing, np.full(program.m, np.nan), nothing)
    y, z = program.multipliers(step.trades, step.prices.gap, step.prices.rate)
    x = program.point(step.trades)
    return Raw(_CLAIMS[step.status], step.status.name, x, y, z, iterations=step.work)
