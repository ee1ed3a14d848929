"""Crosswind: trade execution as convex programs, solved fast and safely.

The public names below are loaded on first use, so that ``import crosswind`` stays light: cvxpy, jax and plotly are
imported by the call that needs them.

>>> import crosswind as cw
>>> result = cw.run("sim", seed=0)            # doctest: +SKIP
>>> print(result.summary())                   # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that holds it
_EXPORTS = {
    # solving
    "Certificate": "crosswind.solvers",
    "ConeProgram": "crosswind.solvers",
    "QuadraticProgram": "crosswind.solvers",
    "Session": "crosswind.solvers",
    "Solution": "crosswind.solvers",
    "Status": "crosswind.solvers",
    "certify": "crosswind.solvers",
    "differentiable_solve": "crosswind.solvers.differentiate_jax",
    "available_solvers": "crosswind.solvers",
    "read_program": "crosswind.solvers.readers",
    "register_backend": "crosswind.solvers",
    "sensitivities": "crosswind.solvers.differentiate",
    "solve": "crosswind.solvers",
    "solve_isolated": "crosswind.solvers",
    "solver_table": "crosswind.solvers",
    # mathematics of execution
    "ExponentialKernel": "crosswind.optim",
    "ImpactMode": "crosswind.optim",
    "MultistageProgram": "crosswind.optim",
    "almgren_chriss": "crosswind.optim",
    "check_admissible": "crosswind.optim",
    "kyle_matrix": "crosswind.optim",
    "marginal_cost": "crosswind.optim",
    "solve_multistage": "crosswind.optim",
    # market data
    "Format": "crosswind.problems.market",
    "FundingRates": "crosswind.problems.market",
    "FuturesQuotes": "crosswind.problems.market",
    "MarketData": "crosswind.problems.market",
    "MarketEvents": "crosswind.problems.market",
    "WORLDS": "crosswind.problems.market",
    "World": "crosswind.problems.market",
    "basis": "crosswind.problems.market",
    "contract": "crosswind.problems.market.contracts",
    "contract_table": "crosswind.problems.market.contracts",
    "describe": "crosswind.problems.market",
    "markouts": "crosswind.problems.market.features",
    "order_flow_imbalance": "crosswind.problems.market.features",
    "read": "crosswind.problems.market",
    "read_tapes": "crosswind.problems.market",
    "register_format": "crosswind.problems.market",
    "sessions": "crosswind.problems.market.contracts",
    "simulate": "crosswind.problems.market",
    "stream": "crosswind.problems.market",
    "stylised_facts": "crosswind.problems.market.features",
    "trade_markouts": "crosswind.problems.market.features",
    "world": "crosswind.problems.market",
    # impact
    "CrossImpact": "crosswind.problems.impact",
    "ImpactModel": "crosswind.problems.impact",
    "calibrate": "crosswind.problems.impact.calibrate",
    "compare_models": "crosswind.problems.impact",
    "promote": "crosswind.problems.impact.calibrate",
    # basket
    "BasketProblem": "crosswind.problems.basket",
    "BasketSchedule": "crosswind.problems.basket",
    # replay and hedge
    "AffinePolicy": "crosswind.problems.replay",
    "Episode": "crosswind.problems.hedge",
    "HedgeController": "crosswind.problems.hedge.controller",
    "HedgeInstrument": "crosswind.problems.hedge.controller",
    "HedgeObservation": "crosswind.problems.hedge.controller",
    "HedgeParent": "crosswind.problems.hedge",
    "HedgeSetup": "crosswind.problems.hedge.controller",
    "ReplayBatch": "crosswind.problems.replay",
    "SpotBook": "crosswind.problems.hedge.sizing",
    "compare_policies": "crosswind.problems.hedge",
    "episodes": "crosswind.problems.hedge",
    "replay": "crosswind.problems.replay",
    "replay_batch": "crosswind.problems.replay",
    "size_hedge": "crosswind.problems.hedge.sizing",
    # roll
    "RollOrder": "crosswind.problems.roll",
    "RollProblem": "crosswind.problems.roll.program",
    "compare_rolls": "crosswind.problems.roll.replay",
    "roll_episodes": "crosswind.problems.roll.replay",
    "roll_report": "crosswind.problems.roll.report",
    # the main job
    "RunResult": "crosswind.problems.workflow",
    "run": "crosswind.problems.workflow",
    # errors
    "CrosswindError": "crosswind.solvers.errors",
    "DataGap": "crosswind.solvers.errors",
    "InfeasibleProblem": "crosswind.solvers.errors",
    "InvalidInput": "crosswind.solvers.errors",
    "LimitBreach": "crosswind.solvers.errors",
    "MissingDependency": "crosswind.solvers.errors",
    "SolverFailure": "crosswind.solvers.errors",
}

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from crosswind.optim import (
        ExponentialKernel,
        ImpactMode,
        MultistageProgram,
        almgren_chriss,
        check_admissible,
        kyle_matrix,
        marginal_cost,
        solve_multistage,
    )
    from crosswind.problems.basket import BasketProblem, BasketSchedule
    from crosswind.problems.hedge import Episode, HedgeParent, compare_policies, episodes
    from crosswind.problems.hedge.controller import HedgeController, HedgeInstrument, HedgeObservation, HedgeSetup
    from crosswind.problems.hedge.sizing import SpotBook, size_hedge
    from crosswind.problems.impact import CrossImpact, ImpactModel, compare_models
    from crosswind.problems.impact.calibrate import calibrate, promote
    from crosswind.problems.market import (
        WORLDS,
        Format,
        FundingRates,
        FuturesQuotes,
        MarketData,
        MarketEvents,
        World,
        basis,
        describe,
        read,
        read_tapes,
        register_format,
        simulate,
        stream,
        world,
    )
    from crosswind.problems.market.contracts import contract, contract_table, sessions
    from crosswind.problems.market.features import (
        markouts,
        order_flow_imbalance,
        stylised_facts,
        trade_markouts,
    )
    from crosswind.problems.replay import AffinePolicy, ReplayBatch, replay, replay_batch
    from crosswind.problems.roll import RollOrder
    from crosswind.problems.roll.program import RollProblem
    from crosswind.problems.roll.replay import compare_rolls, roll_episodes
    from crosswind.problems.roll.report import roll_report
    from crosswind.problems.workflow import RunResult, run
    from crosswind.solvers import (
        Certificate,
        ConeProgram,
        QuadraticProgram,
        Session,
        Solution,
        Status,
        available_solvers,
        certify,
        register_backend,
        solve,
        solve_isolated,
        solver_table,
    )
    from crosswind.solvers.differentiate import sensitivities
    from crosswind.solvers.differentiate_jax import differentiable_solve
    from crosswind.solvers.errors import (
        CrosswindError,
        DataGap,
        InfeasibleProblem,
        InvalidInput,
        LimitBreach,
        MissingDependency,
        SolverFailure,
    )
    from crosswind.solvers.readers import read_program


def __getattr__(name: str) -> Any:
    """Import a public name on first use and keep it (PEP 562)."""
    try:
        module = _EXPORTS[name]
    except KeyError:
        raise AttributeError(f"module 'crosswind' has no attribute {name!r}") from None
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*__all__, *(n for n in globals() if n.startswith("__"))])
