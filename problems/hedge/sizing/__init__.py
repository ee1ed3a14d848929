"""Hedge sizing: how many contracts, with which beta, at what carry, margin and risk, and when to size again."""

from __future__ import annotations

from crosswind.problems.hedge.sizing.band import ResizeBand, gap_drift, resize_band
from crosswind.problems.hedge.sizing.betas import BetaEstimate, blume, blume_coefficients, estimate_betas, vasicek
from crosswind.problems.hedge.sizing.carry import BasisFit, Carry, carry_of, fit_basis
from crosswind.problems.hedge.sizing.margin import MarginReport, liquidation_price, margin_of
from crosswind.problems.hedge.sizing.model import HedgeInstrument, SpotBook, listed
from crosswind.problems.hedge.sizing.proxies import ProxyReport, compare_proxies
from crosswind.problems.hedge.sizing.result import HedgeSize
from crosswind.problems.hedge.sizing.search import LotSearch, best_lots
from crosswind.problems.hedge.sizing.size import size_hedge
from crosswind.problems.hedge.sizing.strategies import TransitionPlan, defensive, neutral_carry, transition

__all__ = [
    "BasisFit",
    "BetaEstimate",
    "Carry",
    "HedgeInstrument",
    "HedgeSize",
    "LotSearch",
    "MarginReport",
    "ProxyReport",
    "ResizeBand",
    "SpotBook",
    "TransitionPlan",
    "best_lots",
    "blume",
    "blume_coefficients",
    "carry_of",
    "compare_proxies",
    "defensive",
    "estimate_betas",
    "fit_basis",
    "gap_drift",
    "liquidation_price",
    "listed",
    "margin_of",
    "neutral_carry",
    "resize_band",
    "size_hedge",
    "transition",
    "vasicek",
]
