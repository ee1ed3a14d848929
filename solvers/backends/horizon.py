"""What backends share that take steps of a receding horizon alone."""

from __future__ import annotations

from crosswind.solvers.backends.base import Backend, Program
from crosswind.solvers.matrices import Vector

__all__ = ["HorizonOnly"]


class HorizonOnly(Backend):
    """A backend that takes :class:`crosswind.solvers.mpc.MpcProgram` and no other program."""

    only = "receding-horizon programs (crosswind.solvers.mpc.MpcProgram)"

    def takes(self, program: Program) -> bool:
        """Tell whether it is an MpcProgram."""
        from crosswind.solvers.mpc.program import MpcProgram

        return isinstance(program, MpcProgram)

    def sample(self) -> tuple[Program, Vector]:
        """Return a step of one slice with a known trade."""
        from crosswind.solvers.mpc.program import sample_program

        return sample_program()
