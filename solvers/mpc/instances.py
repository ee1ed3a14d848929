"""Seeded models and the worlds they act in: the streams of data that tests, benchmarks and the export share."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc.model import Array, MpcModel

__all__ = ["MpcWorld", "mpc_instance"]

_DECAYS = (0.6, 0.9, 1.0, 0.3)


def mpc_instance(
    instruments: int = 1, exposures: int | None = None, modes: int = 1, horizon: int = 20, seed: int = 0
) -> MpcModel:
    """Return a random model in units of a usual trade.

    Parameters
    ----------
    instruments, exposures, modes, horizon
        m, k (m by default, each instrument on its own exposure), M up to 4, H.
    seed
        Of all draws.

    Raises
    ------
    InvalidInput
        For sizes that make no sense.
    """
    m, k, M, H = instruments, instruments if exposures is None else exposures, modes, horizon
    if min(m, k, H) < 1 or not 0 <= M <= len(_DECAYS):
        raise InvalidInput("are out of range", field="sizes", value=(m, k, M, H), remedy="use m, k, H ≥ 1 and M ≤ 4")
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((k, k + 2))
    L = np.empty((M, m, m))
    for j in range(M):
        B = rng.standard_normal((m, m))
        L[j] = np.linalg.cholesky(0.3 * np.eye(m) + 0.1 * B @ B.T / m)
    return MpcModel(
        horizon=H,
        temporary=np.diag(rng.uniform(0.05, 0.3, m)),
        exposure=np.eye(m) if m == k else rng.uniform(0.5, 1.5, (k, m)),
        covariance=A @ A.T / (k + 2) + 0.2 * np.eye(k),
        risk_weight=np.full(H, rng.choice([0.02, 0.1, 0.5])),
        terminal_weight=np.full(k, 0.5),
        impact_loadings=L,
        decays=np.array(_DECAYS[:M]),
    )


class MpcWorld:
    """A plan with blocks and revisions, noisy fills, limits that now and then are hostile.

    Parameters
    ----------
    model
        Whose gaps and impact states are kept.
    steps
        How many steps there will be.
    seed
        Of all draws.
    hostile
        Whether a fifth of the steps brings a far gap, shut caps, a last trade beyond the rate, a tight rate or no
        spread.

    Examples
    --------
    >>> from crosswind.solvers.mpc.solver import MpcSolver
    >>> model = mpc_instance(seed=1)
    >>> world, solver = MpcWorld(model, 5), MpcSolver(model)
    >>> for _ in range(5):
    ...     step = solver.step(**world.data())
    ...     world.execute(step.trades[0])
    >>> step.status.name
    'OPTIMAL'
    """

    def __init__(self, model: MpcModel, steps: int, seed: int = 0, hostile: bool = False) -> None:
        self.model, self.hostile = model, hostile
        self._rng = rng = np.random.default_rng(seed)
        m, k, M, H = model.sizes
        ahead = steps + H
        self._plan = 0.2 * rng.standard_normal((ahead, k))
        blocks = rng.integers(0, ahead, max(1, ahead // 15))
        self._plan[blocks] += 1.5 * rng.standard_normal((blocks.size, k))
        self._base: dict[str, Array] = {
            "linear": 0.02 * rng.standard_normal((H, m)),
            "carry": 0.01 * rng.standard_normal((H, k)),
            "spread": np.full((H, m), 0.1) * rng.uniform(0.5, 2.0, m),
            "cap": np.full((H, m), 0.5) * rng.uniform(0.5, 3.0, m),
            "rate": np.full(m, np.inf) if rng.random() < 0.5 else rng.uniform(0.1, 0.5, m),
            "gap_cap": np.full((H, k), rng.choice([0.5, 1.0, np.inf])),
            "price": np.full((H, k), 1.0),
            "curve": np.full((H, k), 0.5),
        }
        self._now = 0
        self._gap, self._state, self._last = np.zeros(k), np.zeros((M, m)), np.zeros(m)
        self._given: dict[str, Array] = {}

    def data(self) -> dict[str, Any]:
        """Return what :meth:`MpcSolver.step` takes at this step; every call draws anew, so call it once a step."""
        rng, H = self._rng, self.model.horizon
        if rng.random() < 0.1:  # the plan is revised
            at = self._now + int(rng.integers(0, H))
            self._plan[at] += 0.5 * rng.standard_normal(self._gap.size)
        plan = self._plan[self._now : self._now + H]
        given = self._base | {"gap": self._gap, "state": self._state, "last": self._last, "plan": plan}
        given = {name: np.array(value) for name, value in given.items()}
        if self.hostile and rng.random() < 0.2:
            self._spoil(given)
        self._given = given
        return dict(given)

    def _spoil(self, given: dict[str, Array]) -> None:
        rng, (m, k, _, H) = self._rng, self.model.sizes
        if rng.random() < 0.3:
            given["gap"] = 10.0 * rng.standard_normal(k)
        if rng.random() < 0.4:
            given["cap"][rng.integers(0, H, max(1, H // 3))] = 0.0
        if rng.random() < 0.3:
            given["last"] = 5.0 * rng.standard_normal(m)
        if rng.random() < 0.5:
            given["rate"] = np.full(m, 0.02) if rng.random() < 0.4 else rng.uniform(0.1, 0.5, m)
        if rng.random() < 0.2:
            given["spread"] = np.zeros((H, m))
        if rng.random() < 0.1:
            given["gap_cap"] = np.zeros((H, k))

    def execute(self, trade: Array) -> None:
        """Fill a trade (m,) up to 2 % of noise and move on by a slice."""
        model, given, rng = self.model, self._given, self._rng
        done = np.asarray(trade, dtype=np.float64) * (1.0 + 0.02 * rng.standard_normal(model.instruments))
        self._gap = given["gap"] + given["plan"][0] - np.asarray(model.exposure) @ done
        if self.hostile:
            self._gap = np.clip(self._gap, -3.0, 3.0)
        moved = given["state"] + np.einsum("jib,i->jb", np.asarray(model.impact_loadings), done)
        self._state = np.asarray(model.decays)[:, None] * moved
        self._last = done
        self._now += 1
