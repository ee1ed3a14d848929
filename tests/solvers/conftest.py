"""Seeded programs of known solvability that the solver tests share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram


def random_program(seed: int, span: float = 6.0) -> QuadraticProgram:
    """Return a solvable, often degenerate program: a feasible x0 and multipliers that bound the cost are planted.

    Rank-deficient P, zero rows and columns of P and A, duplicated rows, equalities, fixed variables, missing bounds,
    and units of x and of the cost between 1e-6 and 1e9 (``span`` scales the exponents).
    """
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 25)), int(rng.integers(0, 25))
    length, cost = (10.0 ** (rng.uniform(-6.0, 9.0) * span / 6.0) for _ in range(2))
    G = rng.normal(size=(n, int(rng.integers(0, n + 1))))
    P = G @ G.T
    if n > 2 and rng.random() < 0.3:
        P[:, 0] = P[0, :] = 0.0
    A = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.5)
    if m > 3:
        A[1] = A[0]
    if n > 2 and rng.random() < 0.3:
        A[:, 1] = 0.0
    x0 = rng.normal(size=n)

    def sides(value: np.ndarray, open_share: float, tight_share: float) -> tuple[np.ndarray, np.ndarray]:
        room = rng.exponential(size=(2, value.size)) * (rng.random((2, value.size)) > tight_share)
        shut = rng.random((2, value.size)) > open_share
        return np.where(shut[0], value - room[0], -np.inf), np.where(shut[1], value + room[1], np.inf)

    l, u = sides(A @ x0, 0.3, 0.4)  # noqa: E741
    lb, ub = sides(x0, 0.4, 0.2)
    y = np.isfinite(u) * rng.exponential(size=m) - np.isfinite(l) * rng.exponential(size=m)
    z = np.isfinite(ub) * rng.exponential(size=n) - np.isfinite(lb) * rng.exponential(size=n)
    q = -(P @ rng.normal(size=n) + A.T @ y + z)
    return QuadraticProgram(
        P * cost / length**2, q * cost / length, A, l * length, u * length, lb * length, ub * length
    )


@pytest.fixture(scope="session")
def make_program() -> Callable[..., QuadraticProgram]:
    return random_program


@pytest.fixture(scope="session")
def backend_suite() -> ModuleType:
    """Return the module ``backend_suite.py`` of this folder: two hundred programs and a check of a backend on them."""
    return load_sibling("backend_suite")


def load_sibling(name: str) -> ModuleType:
    """Load a module of this folder once; it is on no import path, since tests are imported by file."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``protocol_check`` once for each of the checks in ``backend_checks.py``."""
    if "protocol_check" in metafunc.fixturenames:
        load_sibling("backend_suite")
        checks = load_sibling("backend_checks").PROTOCOL
        metafunc.parametrize("protocol_check", checks, ids=[check.__name__ for check in checks])
