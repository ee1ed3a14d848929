"""What becomes of a working decision: probabilities of the branches, their costs and the tail of their mixture."""

from __future__ import annotations

from crosswind.problems.roll.branches.costs import BranchCosts
from crosswind.problems.roll.branches.features import FEATURES, branch_features, decision_features
from crosswind.problems.roll.branches.forecast import BranchForecast, BranchForecaster
from crosswind.problems.roll.branches.legging import LeggingCost
from crosswind.problems.roll.branches.model import BRANCHES, Branch, BranchSamples, ProbingPolicy
from crosswind.problems.roll.branches.probability import BranchModel, BranchScores
from crosswind.problems.roll.branches.probes import Decisions, Outcomes, follow_decisions
from crosswind.problems.roll.branches.samples import branch_samples, draw_decisions, simulated_samples

__all__ = [
    "BRANCHES",
    "FEATURES",
    "Branch",
    "BranchCosts",
    "BranchForecast",
    "BranchForecaster",
    "BranchModel",
    "BranchSamples",
    "BranchScores",
    "Decisions",
    "LeggingCost",
    "Outcomes",
    "ProbingPolicy",
    "branch_features",
    "branch_samples",
    "decision_features",
    "draw_decisions",
    "follow_decisions",
    "simulated_samples",
]
