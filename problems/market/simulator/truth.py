"""The truth of a simulated market: what it was drawn from, and every regime, jump and window that it went through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.model import SimulatedTruth
from crosswind.problems.market.simulator.kernel import Kernel
from crosswind.problems.market.simulator.records import plain
from crosswind.problems.market.simulator.shocks import JumpDay
from crosswind.problems.market.simulator.universe import Universe
from crosswind.problems.market.simulator.worlds import World

__all__ = ["ShockLog", "build_truth"]

Array = NDArray[np.float64]


class ShockLog:
    """Collects regimes and shocks while a market is drawn; times are ends of the buckets or bars that hold them.

    Parameters
    ----------
    names
        The N names.
    bucket_s
        Bucket length [s].
    """

    def __init__(self, names: tuple[str, ...], bucket_s: float) -> None:
        self._names = names
        self._bucket = pd.Timedelta(round(bucket_s * 1e9), "ns")
        self.entries: dict[str, list[Any]] = {}

    def add_states(self, stamps: pd.DatetimeIndex, states: NDArray[np.int64]) -> None:
        """Note a session's regime path as ``[end of the first bucket in the state, state]`` at each change."""
        path = self.entries.setdefault("regime_path", [])
        for at in np.flatnonzero(np.append(True, np.diff(states) != 0)).tolist():
            path.append([stamps[at].isoformat(), int(states[at])])

    def add_shocks(self, stamps: pd.DatetimeIndex, jumps: JumpDay | None, coupling: Array | None) -> None:
        """Note a session's jumps as ``[time, "market" or name, size]`` and its break as ``[start, end, coupling]``."""
        if jumps is not None:
            found = self.entries.setdefault("jumps", [])
            for at in np.flatnonzero(jumps.market).tolist():
                found.append([stamps[at].isoformat(), "market", float(jumps.market[at])])
            for at, name in np.argwhere(jumps.own).tolist():
                found.append([stamps[at].isoformat(), self._names[name], float(jumps.own[at, name])])
        if coupling is not None:
            windows = self.entries.setdefault("break_windows", [])
            inside = np.flatnonzero(coupling < 1.0).tolist()
            if inside:
                start = stamps[inside[0]] - self._bucket
                windows.append([start.isoformat(), stamps[inside[-1]].isoformat(), float(coupling[inside[0]])])

    def add_basis_jumps(self, stamps: pd.DatetimeIndex, jumps: Array) -> None:
        """Note a session's basis jumps as ``[end of the first bar that has it, size as a fraction of the index]``."""
        found = self.entries.setdefault("basis_jumps", [])
        found.extend([stamps[at].isoformat(), float(jumps[at])] for at in np.flatnonzero(jumps).tolist())


def build_truth(
    world: World,
    universe: Universe,
    kernel: Kernel,
    shares: Array,
    asked: dict[str, Any],
    seed: int,
    log: ShockLog,
    index: pd.Index[Any],
    *,
    declared: bool,
) -> SimulatedTruth:
    """Return the truth of one drawn market.

    Parameters
    ----------
    world, universe, kernel, shares
        What it was drawn from; ``shares`` are those of the index (N,).
    asked
        The call: names, sectors, days and so on.
    seed
        Seed of the simulation.
    log
        Regimes and shocks that happened.
    index
        The names as the events' columns hold them.
    declared
        Whether to name the world, its digest and all its numbers.

    Returns
    -------
    SimulatedTruth
    """
    settings = world.drawn.to_dict()
    found: dict[str, Any] = dict(log.entries)
    if kernel.by_regime is not None:
        found["covariance_by_regime"] = kernel.by_regime.tolist()
    if kernel.in_break is not None and kernel.betas_in_break is not None:
        found["covariance_in_break"] = kernel.in_break.tolist()
        found["betas_in_break"] = kernel.betas_in_break.tolist()
    if world.mechanisms.power_law is not None:
        found["power_law"] = plain(world.mechanisms.power_law)
    if declared:
        found |= {"world": world.key, "world_digest": world.digest, "world_parameters": world.to_dict()}
    return SimulatedTruth(
        rates_per_s=kernel.rates_per_s,
        matrices=kernel.matrices,
        sectors=pd.Series(asked["sectors"], index=index, name="sector", dtype=object),
        betas=pd.Series(kernel.betas, index=index, name="beta"),
        covariance=kernel.covariance,
        seed=int(seed),
        parameters={
            **asked,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
            "factors": list(universe.factor_names),
            "loadings": universe.loadings.tolist(),
            # The parameter of this name is the typical one; the names' own values stand under names_.
            "names_idio_vol_daily": universe.idio_vol_daily.tolist(),
            "names_adv": universe.adv.tolist(),
            "index_weights": universe.weights.tolist(),
            "index_shares": shares.tolist(),
            "fundamental_covariance_per_s": kernel.fundamental.tolist(),
            **found,
        },
    )
