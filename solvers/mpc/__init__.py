"""Receding-horizon control by its structure: a step in microseconds, with bounded work and a proven gap.

The core is one C source and one header without dependencies (``solvers/native/mpc.c``), which a program in C or C++
compiles in as it is; :func:`export_c` writes it out with a model as data. Where the extension was not compiled, PIQP
solves the same program.
"""

from __future__ import annotations

from crosswind.solvers.mpc.export import export_c
from crosswind.solvers.mpc.instances import MpcWorld, mpc_instance
from crosswind.solvers.mpc.model import MpcModel
from crosswind.solvers.mpc.program import MpcProgram
from crosswind.solvers.mpc.solver import MpcPrices, MpcSolver, MpcStep

__all__ = ["MpcModel", "MpcPrices", "MpcProgram", "MpcSolver", "MpcStep", "MpcWorld", "export_c", "mpc_instance"]
