"""The mathematics of execution as convex pieces: kernels, closed forms, the multistage program."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "kernels": ("ExponentialKernel", "Kernel", "PowerLawKernel", "SampledKernel", "ScalarKernel"),
    "admissibility": ("Admissibility", "block_toeplitz", "check_admissible", "kernel_cost"),
    "kyle": ("kyle_matrix",),
    "closed_forms": (
        "AlmgrenChriss",
        "almgren_chriss",
        "almgren_chriss_portfolio",
        "almgren_thum_impact",
        "garleanu_pedersen",
        "matrix_exponential_schedule",
        "obizhaeva_wang",
        "obizhaeva_wang_continuous",
        "power_law_rate",
        "propagator_cost",
        "propagator_schedule",
        "schneider_lillo_loop",
        "synchronised_schedule",
    ),
    "factored": ("FactorMatrix", "FactorRisk"),
    "program": ("ImpactMode", "MultistageProgram", "Terminal"),
    "limits": ("BandLimit", "GroupCap", "RateLimit", "SoftPenalty", "TradeLimit", "participation_limit"),
    "lowered": ("Lowered",),
    "lowering": ("lower", "relower"),
    "scaling": ("Scaling", "choose_scaling"),
    "solution": ("MultistageSolution",),
    "solve": ("solve_lowered", "solve_multistage"),
    "costs": ("CostBreakdown", "cost", "jax_cost", "marginal_cost"),
    "energy": ("impact_cost_by_states", "impact_cost_by_trades"),
    "reference": ("reference_multistage",),
    "infeasible": ("Conflict", "find_conflict"),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crosswind.optim' has no attribute '{name}'")
    value = getattr(import_module(f"crosswind.optim.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
