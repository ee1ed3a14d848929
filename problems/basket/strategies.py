"""The schedules a desk knows, as objects with one protocol, so that they can be listed, named and scored alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from crosswind.problems.basket import baselines
from crosswind.problems.basket.inputs import FloatArray, as_scalar, per_name
from crosswind.problems.basket.lowering import trade_bounds
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = [
    "POV",
    "PRIORITIES",
    "TWAP",
    "VWAP",
    "AlmgrenChriss",
    "DiagonalOnly",
    "Optimal",
    "SectorStagger",
    "Sequential",
    "Strategy",
    "standard_strategies",
]


@runtime_checkable
class Strategy(Protocol):
    """Anything that turns a basket into a schedule.

    ``name`` labels it in tables and figures; ``schedule`` returns the signed trades, slices × names (T × N) [currency].
    """

    @property
    def name(self) -> str:
        """Label in tables and figures."""

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the signed trades (T × N) [currency] of ``problem``."""


@dataclass(frozen=True)
class TWAP:
    """Equal trades over the slices, see :func:`twap`."""

    name: str = "TWAP"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return u_it = (q_0i − q_Ti) / T (T × N) [currency]."""
        return baselines.twap(problem)


@dataclass(frozen=True)
class VWAP:
    """Trades in proportion to the volume forecast, see :func:`vwap`."""

    name: str = "VWAP"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; raises InvalidInput without a volume forecast."""
        return baselines.vwap(problem)


@dataclass(frozen=True)
class POV:
    """A fixed share of the volume until done, see :func:`pov`.

    Parameters
    ----------
    rate
        Share of the volume; ``None``: the problem's participation, or 10 %.
    """

    rate: float | None = None
    name: str = "POV"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; raises InvalidInput without a volume forecast or for a bad rate."""
        return baselines.pov(problem, self.rate)


@dataclass(frozen=True)
class AlmgrenChriss:
    """The closed form of Almgren and Chriss (2000), name by name, see :func:`almgren_chriss`.

    Parameters
    ----------
    risk_aversion
        λ [1/currency] in place of the problem's own.
    """

    risk_aversion: float | None = None
    name: str = "Almgren-Chriss"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]."""
        if self.risk_aversion is not None:
            problem = problem.replace(risk_aversion=self.risk_aversion)
        return baselines.almgren_chriss(problem)


@dataclass(frozen=True)
class DiagonalOnly:
    """The optimum of a desk that ignores cross-impact, see :func:`diagonal_only`."""

    solver: str | tuple[str, ...] = "auto"
    name: str = "diagonal only"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; raises as ``BasketProblem.solve``."""
        return baselines.diagonal_only(problem, self.solver)


@dataclass(frozen=True)
class Optimal:
    """The optimum of the problem itself."""

    solver: str | tuple[str, ...] = "auto"
    name: str = "crosswind"

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; raises as ``BasketProblem.solve``."""
        return problem.solve(self.solver).trades


def _order(problem: BasketProblem) -> FloatArray:
    return problem.arrays.inventory - problem.arrays.target


def _largest_risk(problem: BasketProblem) -> FloatArray:
    """Return each name's part of the starting variance, q_i (Σq)_i: a hedge of the rest comes last."""
    cov = problem.arrays.covariance
    if cov is None:
        raise InvalidInput(
            "an order by risk needs a covariance", field="covariance", value=None, remedy="pass it, or order by size"
        )
    from crosswind.optim.factored import image

    order = _order(problem)
    return np.asarray(order * image(order, cov), dtype=np.float64)


def _most_liquid(problem: BasketProblem) -> FloatArray:
    """Return minus the share of the forecast volume that each order takes."""
    V = problem.arrays.volume
    if V is None:
        raise InvalidInput(
            "an order by liquidity needs the volume forecast", field="volume", value=None, remedy="pass volume"
        )
    total, size = V.sum(axis=0), np.abs(_order(problem))
    return np.asarray(-np.divide(size, total, out=np.full(len(size), np.inf), where=total > 0.0), dtype=np.float64)


PRIORITIES: dict[str, Callable[[BasketProblem], FloatArray]] = {
    "most liquid first": _most_liquid,
    "least liquid first": lambda problem: -_most_liquid(problem),
    "largest risk first": _largest_risk,
    "largest order first": lambda problem: np.abs(_order(problem)),
    "sells before buys": lambda problem: -np.sign(_order(problem)),
    "buys before sells": lambda problem: np.sign(_order(problem)),
}
"""Named priorities of :class:`Sequential`: problem -> score (N,), highest first, ties in the order of the inventory."""


def _caps(problem: BasketProblem) -> FloatArray:
    """Return the most that each name may trade per slice by its boxes (T, N) [currency]; inf where none bounds it."""
    cap = np.full((problem.n_slices, problem.n_names), np.inf)
    sell = np.tile(_order(problem) < 0.0, (problem.n_slices, 1))
    for lower, upper in trade_bounds(problem).values():
        cap = np.minimum(cap, np.where(sell, -lower, upper))
    return np.asarray(np.maximum(cap, 0.0), dtype=np.float64)


@dataclass(frozen=True)
class Sequential:
    """Names one after the other by a priority: the blotter's rule of thumb.

    Every slice has the same gross budget, ``pace`` × Σ|order| / T. First comes what can no longer wait, so that an
    order which the boxes (participation, blackout, must finish) allow to complete does complete:
    (left_i − Σ_{s>t} cap_is)⁺. Then the names in order of priority trade up to their caps until the budget is spent.
    Limits that several names share (sector caps, bands) are not known to it.

    Parameters
    ----------
    priority
        A key of :data:`PRIORITIES`, or a function problem -> Series or array of scores, highest first.
    pace
        Gross budget per slice relative to an even one, ≥ 1; 2 is done after half of the slices where caps allow it.
    name
        Label; default the priority's own.

    Raises
    ------
    InvalidInput
        On an unknown priority, a pace below 1, or scores that are not one finite number per name.
    """

    priority: str | Callable[[BasketProblem], FloatArray | pd.Series] = "most liquid first"
    pace: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.priority, str) and self.priority not in PRIORITIES:
            raise InvalidInput(
                "unknown priority", field="priority", value=self.priority, remedy=f"one of {', '.join(PRIORITIES)}"
            )
        as_scalar(self.pace, "pace", minimum=1.0)
        if not self.name:
            label = self.priority if isinstance(self.priority, str) else getattr(self.priority, "__name__", "by rule")
            object.__setattr__(self, "name", label)

    def ranking(self, problem: BasketProblem) -> tuple[str, ...]:
        """Return the names, first to trade first."""
        return tuple(problem.names[i] for i in self._ranks(problem))

    def _ranks(self, problem: BasketProblem) -> list[int]:
        rule = PRIORITIES[self.priority] if isinstance(self.priority, str) else self.priority
        score = rule(problem)
        if isinstance(score, pd.Series):
            score = per_name(score, problem.names, "priority", minimum=-np.inf)
        values = np.asarray(score, dtype=np.float64)
        if values.shape != (problem.n_names,) or np.isnan(values).any():
            raise InvalidInput(
                "must give one number per name", field="priority", value=values.shape, remedy="return a Series by name"
            )
        return [int(i) for i in np.argsort(-values, kind="stable")]

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; what the boxes leave no room for stays undone."""
        ranks, cap = self._ranks(problem), _caps(problem)
        order = _order(problem)
        left = np.abs(order)
        budget = self.pace * left.sum() / problem.n_slices
        done = np.zeros(cap.shape)
        later = _later(cap)
        for t in range(problem.n_slices):
            most = np.minimum(cap[t], left)
            trade = np.clip(left - later[t], 0.0, most)
            room = budget - trade.sum()
            for i in ranks:
                more = min(most[i] - trade[i], room)
                if more > 0.0:
                    trade[i] += more
                    room -= more
            done[t] = trade
            left = left - trade
        return problem.frame(done * np.sign(order))


def _later(cap: FloatArray) -> FloatArray:
    """Return Σ_{s>t} cap_s (T, N); caps may be infinite, so nothing is subtracted."""
    out = np.zeros_like(cap)
    for t in range(len(cap) - 2, -1, -1):
        out[t] = out[t + 1] + cap[t + 1]
    return out


@dataclass(frozen=True)
class SectorStagger:
    """Sectors take turns: each trades evenly in a window of its own, in the order of first appearance.

    T slices are cut into one window per sector that has an order; with more sectors than slices, windows share a slice.

    Parameters
    ----------
    overlap
        Slices by which each window reaches into the one before it.
    """

    overlap: int = 0
    name: str = "sector stagger"

    def __post_init__(self) -> None:
        as_scalar(self.overlap, "overlap")

    def schedule(self, problem: BasketProblem) -> pd.DataFrame:
        """Return the trades (T × N) [currency]; raises InvalidInput without sectors."""
        if problem.sectors is None:
            raise InvalidInput("needs the sectors", field="sectors", value=None, remedy="pass a Series name -> sector")
        label = {str(n): str(s) for n, s in problem.sectors.items()}
        missing = [n for n in problem.names if n not in label]
        if missing:
            raise InvalidInput("names without a sector", field="sectors", value=missing, remedy="give each a sector")
        T, order = problem.n_slices, _order(problem)
        turns = list(dict.fromkeys(label[n] for n, q in zip(problem.names, order, strict=True) if q != 0.0))
        trades = np.zeros((T, problem.n_names))
        for k, sector in enumerate(turns):
            start = k * T // len(turns)
            stop = max((k + 1) * T // len(turns), start + 1)
            start = max(start - int(self.overlap), 0)
            members = [i for i, n in enumerate(problem.names) if label[n] == sector]
            trades[start:stop, members] = order[members] / (stop - start)
        return problem.frame(trades)


def standard_strategies(problem: BasketProblem, solver: str | tuple[str, ...] = "auto") -> tuple[Strategy, ...]:
    """Return every strategy that the inputs of ``problem`` allow, the optimum last.

    Parameters
    ----------
    problem
        The basket; VWAP, POV and the order by liquidity need a volume forecast, the order by risk a covariance, the
        stagger sectors.
    solver
        Backend of those that solve.
    """
    volume, sectors = problem.arrays.volume is not None, problem.sectors is not None
    listed: list[Strategy] = [TWAP()]
    listed += [VWAP(), POV()] if volume else []
    listed += [AlmgrenChriss()]
    listed += [Sequential("most liquid first")] if volume else []
    listed += [Sequential("largest risk first")] if problem.arrays.covariance is not None else []
    listed += [Sequential("sells before buys")]
    listed += [SectorStagger()] if sectors else []
    return (*listed, DiagonalOnly(solver), Optimal(solver))
