"""What a desk asks beside the schedule: prices, sensitivities, frontier, what-ifs, robustness, capacity."""

from __future__ import annotations

from crosswind.problems.basket.analysis.frontier import Frontier, efficient_frontier
from crosswind.problems.basket.analysis.marginal import MarginalCosts, decompose_marginal_costs, marginal_costs
from crosswind.problems.basket.analysis.parameters import PARAMETERS
from crosswind.problems.basket.analysis.sensitivity import ScheduleSensitivities, sensitivities
from crosswind.problems.basket.analysis.split import CostSplit, split_costs

__all__ = [
    "PARAMETERS",
    "CostSplit",
    "Frontier",
    "MarginalCosts",
    "ScheduleSensitivities",
    "decompose_marginal_costs",
    "efficient_frontier",
    "marginal_costs",
    "sensitivities",
    "split_costs",
]
