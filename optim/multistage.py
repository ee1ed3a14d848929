"""The multistage program in one place: its data, its solve verb and its result.

:mod:`crosswind.optim.program` holds the data, :mod:`crosswind.optim.lowering` the sparse QP,
:mod:`crosswind.optim.solution` the way back, :mod:`crosswind.optim.costs` the exact cost of any trades.
"""

from __future__ import annotations

from crosswind.optim.costs import CostBreakdown
from crosswind.optim.program import FactorRisk, ImpactMode, MultistageProgram, Terminal
from crosswind.optim.solution import MultistageSolution
from crosswind.optim.solve import solve_lowered, solve_multistage

__all__ = [
    "CostBreakdown",
    "FactorRisk",
    "ImpactMode",
    "MultistageProgram",
    "MultistageSolution",
    "Terminal",
    "solve_lowered",
    "solve_multistage",
]
