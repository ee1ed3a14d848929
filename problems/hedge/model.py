"""Typed inputs of hedge timing: the parent with its cash plan and betas, and what the desk believes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from crosswind.problems.hedge.pace import FillPace
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.problems.replay.venue import DecayMode
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["HedgeBeliefs", "HedgeParent", "PlanRevision"]


@dataclass(frozen=True, eq=False)
class PlanRevision:
    """A new cash plan that becomes known at a slice start.

    Parameters
    ----------
    slice
        Slice k in 1..T−1 from which the revision is known and holds.
    plan
        T×N like the first plan; rows before ``slice`` are ignored. A cancellation is a plan of zeros.
    settled
        Whether what was planned before ``slice`` and not done is given up: the quantity intended is then what the
        parent's ``fills`` had done by that slice, and the revision's rows.
    """

    slice: int
    plan: pd.DataFrame
    settled: bool = False


@dataclass(frozen=True, eq=False)
class HedgeParent:
    """A parent order in cash names whose beta is hedged with one instrument.

    Parameters
    ----------
    name
        Label of the parent.
    plan
        Planned cash trades, T rows (slices, in order; a DatetimeIndex must equal the market's slice starts), columns:
        cash names; buy positive, in ``unit``.
    betas
        Beta of each cash name to the index; finite, by name.
    hedge
        Name of the hedge instrument in the market; its contract multiplier is the market's.
    index
        Name of the cash index proxy X in the market. None: the hedge itself is the index, and the basis is zero.
    unit
        "units" [shares] or "notional" [currency at the arrival mid].
    revisions
        Changes of the plan, in order of their slice.
    fills
        What the cash algorithm really trades, T×N like the plan, in ``unit``; no policy sees a row before its slice is
        over. None: it trades the plan.
    pace
        How the cash algorithm is expected to fill what is left, where ``fills`` are given; every policy that looks
        ahead reads the same forecast. The default spreads what is behind the plan evenly.

    Raises
    ------
    InvalidInput
        For doubled or missing names, entries that are not finite, an empty plan, a hedge among the cash names, an
        unknown unit or a revision out of order.
    """

    name: str
    plan: pd.DataFrame
    betas: pd.Series
    hedge: str
    index: str | None = None
    unit: str = "units"
    revisions: tuple[PlanRevision, ...] = ()
    fills: pd.DataFrame | None = None
    pace: FillPace = field(default=FillPace())

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names) or not names or len(self.plan) == 0:
            raise InvalidInput(
                "needs distinct names and at least one slice", field="plan", value=names, remedy="merge doubled columns"
            )
        if self.hedge in names:
            raise InvalidInput(
                "the hedge cannot be a cash name", field="hedge", value=self.hedge, remedy="rename one of them"
            )
        if self.unit not in {"units", "notional"}:
            raise InvalidInput("unknown unit", field="unit", value=self.unit, remedy='use "units" or "notional"')
        if self.betas.index.has_duplicates:
            raise InvalidInput(
                "names must be distinct", field="betas", value=list(self.betas.index), remedy="merge them"
            )
        missing = [name for name in names if name not in self.betas.index]
        if missing:
            raise DataGap(
                "no beta for a cash name", field="betas", value=missing, remedy="estimate it or drop the name"
            )
        if not np.isfinite(self.beta).all():
            raise InvalidInput("must be finite", field="betas", value=self.beta, remedy="estimate it from returns")
        last = 0
        for revision in self.revisions:
            if not last < revision.slice < self.slices:
                raise InvalidInput(
                    "revisions must be in order within 1..T-1",
                    field="revisions",
                    value=revision.slice,
                    remedy="sort them; merge those of one slice",
                )
            last = revision.slice
            if tuple(map(str, revision.plan.columns)) != names or len(revision.plan) != self.slices:
                raise InvalidInput(
                    "a revision needs the plan's columns and rows",
                    field=f"revision at slice {revision.slice}",
                    value=revision.plan.shape,
                    remedy="reindex it like the plan",
                )
        if self.fills is None:
            if any(revision.settled for revision in self.revisions):
                raise DataGap("what was done is not known", field="fills", value=None, remedy="give the fills")
        elif tuple(map(str, self.fills.columns)) != names or len(self.fills) != self.slices:
            raise InvalidInput(
                "needs the plan's columns and rows", field="fills", value=self.fills.shape, remedy="reindex it"
            )
        tables = [self.plan, *(revision.plan for revision in self.revisions)]
        for table in tables if self.fills is None else [*tables, self.fills]:
            if not np.isfinite(table.to_numpy(float)).all():
                raise InvalidInput("must be finite", field="plan", value="NaN or inf", remedy="use 0 for no trade")

    @property
    def names(self) -> tuple[str, ...]:
        """Cash names, (N,)."""
        return tuple(str(name) for name in self.plan.columns)

    @property
    def slices(self) -> int:
        """Number of slices T."""
        return len(self.plan)

    @property
    def beta(self) -> FloatArray:
        """Betas in the order of the names, (N,)."""
        beta: FloatArray = self.betas.reindex(list(self.plan.columns)).to_numpy(dtype=np.float64)
        return beta

    def check(self, market: ReplayMarket) -> None:
        """Raise InvalidInput unless the market has the parent's instruments and slices."""
        for name in (*self.names, self.hedge, *(() if self.index is None else (self.index,))):
            market.position_of(name)
        if market.slices != self.slices:
            raise InvalidInput(
                f"the market has {market.slices} slices",
                field=f"plan of {self.name}",
                value=self.slices,
                remedy="cut the market to the parent's horizon",
            )
        if isinstance(self.plan.index, pd.DatetimeIndex) and (
            self.plan.index.tz is None
            or not np.array_equal(self.plan.index.tz_convert("UTC").as_unit("ns").asi8, market.times_ns[:-1])
        ):
            raise InvalidInput(
                "the plan's times must be the market's slice starts",
                field=f"plan of {self.name}",
                value=self.plan.index[:1].tolist(),
                remedy="use market.times[:-1]",
            )

    def arrival(self, market: ReplayMarket) -> FloatArray:
        """Return the currency value of one unit of each cash name at arrival, m_i·S_i(0), (N,)."""
        columns = [market.position_of(name) for name in self.names]
        value: FloatArray = market.multiplier[columns] * market.mid[0, columns]
        return value

    def known_plan(self, k: int, market: ReplayMarket) -> FloatArray:
        """Return the plan as it is known at slice start ``k``, (T, N) [units]; rows before k are what was planned then.

        Causal: revisions after ``k`` do not enter, nor do fills of slice k or later.
        """
        plan = self.plan.to_numpy(dtype=np.float64, copy=True)
        for revision in self.revisions:
            if revision.slice <= k:
                if revision.settled and self.fills is not None:
                    plan[: revision.slice] = self.fills.to_numpy(dtype=np.float64)[: revision.slice]
                plan[revision.slice :] = revision.plan.to_numpy(dtype=np.float64)[revision.slice :]
        units: FloatArray = plan / self.arrival(market) if self.unit == "notional" else plan
        return units

    def executed_plan(self, market: ReplayMarket) -> FloatArray:
        """Return the trades sent in the end, (T, N) [units]: the fills, or else the plan with all its revisions."""
        if self.fills is None:
            return self.known_plan(self.slices, market)
        done = self.fills.to_numpy(dtype=np.float64, copy=True)
        units: FloatArray = done / self.arrival(market) if self.unit == "notional" else done
        return units

    def intended(self, market: ReplayMarket) -> FloatArray:
        """Return the whole quantity intended as known at each bound, (T+1, N) [units].

        It changes at a revision only; the paper portfolio changes with it, at the mid of that time.
        """
        total = np.array([self.known_plan(k, market).sum(axis=0) for k in self._changes()])
        row = np.searchsorted(self._changes(), np.arange(self.slices + 1), side="right") - 1
        path: FloatArray = total[row]
        return path

    def _changes(self) -> list[int]:
        return [0, *(revision.slice for revision in self.revisions)]

    def notional(self, market: ReplayMarket) -> float:
        """Return the parent's gross notional at arrival, Σ_i |q_i|·m_i·S_i(0) [currency].

        The quantity is that of the first plan; where it nets to zero by name, its gross trades.
        """
        value = self.arrival(market)
        plan = self.known_plan(0, market)
        net = math.fsum((np.abs(plan.sum(axis=0)) * value).tolist())
        return net if net > 0.0 else math.fsum((np.abs(plan).sum(axis=0) * value).tolist())


@dataclass(frozen=True, eq=False)
class HedgeBeliefs:
    """What the desk believes about risk and impact: policies decide on it, the venue need not agree.

    Parameters
    ----------
    index_variance_per_s
        Variance of the index return per second [1/s], > 0.
    modes
        Impact modes over ``mode_instruments`` (matrices in return per currency), for own and cross-impact.
    mode_instruments
        Names of the modes' rows; must be given with modes.
    half_spread
        Relative half-spread of the hedge assumed for future slices; None: the one quoted at the decision.
    close_spread_multiple
        Half-spreads expected to be paid at the close.

    Raises
    ------
    InvalidInput
        For a variance that is not positive and finite, or modes without names.
    """

    index_variance_per_s: float
    modes: tuple[DecayMode, ...] = ()
    mode_instruments: tuple[str, ...] = field(default=())
    half_spread: float | None = None
    close_spread_multiple: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.index_variance_per_s) and self.index_variance_per_s > 0.0):
            raise InvalidInput(
                "must be positive and finite",
                field="index_variance_per_s",
                value=self.index_variance_per_s,
                remedy="estimate it from index returns",
            )
        if self.half_spread is not None and not (math.isfinite(self.half_spread) and self.half_spread >= 0.0):
            raise InvalidInput("must be zero or more", field="half_spread", value=self.half_spread, remedy="use None")
        object.__setattr__(self, "modes", tuple(self.modes))
        object.__setattr__(self, "mode_instruments", tuple(self.mode_instruments))
        if self.modes and np.shape(self.modes[0].matrix) != (len(self.mode_instruments),) * 2:
            raise InvalidInput(
                "modes need one name per row",
                field="mode_instruments",
                value=self.mode_instruments,
                remedy="name the rows of the matrices",
            )

    def coupling(self, hedge: str, names: tuple[str, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return rates (M,) [1/s], K of the hedge on itself (M,) and of the names on it (M, N) [return per currency].

        Names without a row have no impact.
        """
        rates = np.array([float(mode.rate_per_s) for mode in self.modes])
        own, cross = np.zeros(len(rates)), np.zeros((len(rates), len(names)))
        if hedge in self.mode_instruments:
            row = self.mode_instruments.index(hedge)
            for m, mode in enumerate(self.modes):
                matrix = np.asarray(mode.matrix, dtype=np.float64)
                own[m] = matrix[row, row]
                for j, name in enumerate(names):
                    if name in self.mode_instruments:
                        cross[m, j] = matrix[row, self.mode_instruments.index(name)]
        return rates, own, cross
