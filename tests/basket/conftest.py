"""Data makers of the basket tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.impact.model import ImpactModel

Maker = Callable[..., BasketProblem]


@pytest.fixture
def make() -> Maker:
    """Return a maker of small baskets with round numbers; any argument of BasketProblem can be replaced."""

    def build(
        inventory: dict[str, float] | None = None, slices: int = 6, cross: float = 0.5, **changes: Any
    ) -> BasketProblem:
        orders = {"IBM": 4e6, "BAC": -3e6, "AIG": 2e6} if inventory is None else inventory
        names = tuple(orders)
        n = len(names)
        shape = np.full((n, n), cross) + (1.0 - cross) * np.eye(n)
        times = pd.date_range("2024-03-04 14:30", periods=slices, freq="15min", tz="UTC")
        sd = 2e-4 * np.linspace(1.0, 1.3, n)
        arguments: dict[str, Any] = {
            "inventory": pd.Series(orders, dtype=float),
            "model": ImpactModel(
                names,
                np.array([np.log(2) / 120, np.log(2) / 1800]),
                np.stack([6e-10 * shape, 4e-10 * shape]),
                "exponential",
                60.0,
            ),
            "times": times,
            "slice_s": 900.0,
            "volume": pd.DataFrame(
                np.linspace(1.2, 0.8, slices)[:, None] * np.linspace(2e7, 3e7, n), times, list(names)
            ),
            "covariance": pd.DataFrame(
                np.outer(sd, sd) * (0.3 + 0.7 * np.eye(n)), index=list(names), columns=list(names)
            )
            / 60.0,
            "spread": 2e-4,
            "risk_aversion": 1e-6,
        }
        return BasketProblem(**(arguments | changes))

    return build


@pytest.fixture(scope="session")
def desk() -> BasketProblem:
    """Return a two-sided basket of eight names under sector caps and a cash band."""
    return basket_instance(8, 10, seed=3)


@pytest.fixture(scope="session")
def random_basket() -> Callable[[int], BasketProblem]:
    """Return the maker of seeded baskets over all options: seed -> problem."""
    spec = importlib.util.spec_from_file_location("random_baskets", Path(__file__).with_name("random_baskets.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[int], BasketProblem] = module.random_basket
    return made
