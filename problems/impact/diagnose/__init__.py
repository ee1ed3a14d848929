"""Diagnosis of a fit: which limits bind at which price, what stands above the noise, how impact decays."""

from __future__ import annotations

from crosswind.problems.impact.diagnose.model import Diagnosis, diagnose
from crosswind.problems.impact.diagnose.noise import CrossSignal, cross_signal, effective_rank
from crosswind.problems.impact.diagnose.prices import LimitPrices, limit_prices

__all__ = ["CrossSignal", "Diagnosis", "LimitPrices", "cross_signal", "diagnose", "effective_rank", "limit_prices"]
