"""What a desk asks beside the schedule: prices, sensitivities, frontier, what-ifs, robustness, capacity."""

from __future__ import annotations

from crosswind.problems.basket.analysis.frontier import Frontier, efficient_frontier
from crosswind.problems.basket.analysis.marginal import MarginalCosts, decompose_marginal_costs, marginal_costs
from crosswind.problems.basket.analysis.parameters import PARAMETERS
from crosswind.problems.basket.analysis.pretrade import (
    Capacity,
    CostCurve,
    capacity_within,
    cost_curve,
    within_horizon,
)
from crosswind.problems.basket.analysis.robust import (
    GuardedSchedule,
    ImpactBound,
    bound_from_bands,
    cvar_schedule,
    draws_from_bands,
    entry_bound,
    own_impact_bound,
    robust_schedule,
    scaled_bound,
)
from crosswind.problems.basket.analysis.scenarios import (
    STANDARD_SCENARIOS,
    Scenario,
    ScenarioTable,
    market_scenarios,
    scenario_table,
)
from crosswind.problems.basket.analysis.sensitivity import ScheduleSensitivities, sensitivities
from crosswind.problems.basket.analysis.split import CostSplit, split_costs

__all__ = [
    "PARAMETERS",
    "STANDARD_SCENARIOS",
    "Capacity",
    "CostCurve",
    "CostSplit",
    "Frontier",
    "GuardedSchedule",
    "ImpactBound",
    "MarginalCosts",
    "Scenario",
    "ScenarioTable",
    "ScheduleSensitivities",
    "bound_from_bands",
    "capacity_within",
    "cost_curve",
    "cvar_schedule",
    "decompose_marginal_costs",
    "draws_from_bands",
    "efficient_frontier",
    "entry_bound",
    "marginal_costs",
    "market_scenarios",
    "own_impact_bound",
    "robust_schedule",
    "scaled_bound",
    "scenario_table",
    "sensitivities",
    "split_costs",
    "within_horizon",
]
