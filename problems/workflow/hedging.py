"""The hedge stage: parents of the fitting days tune the policies, parents of the last day judge them.

The cash leg of every parent is a basket schedule like the main one, over an hour; each slice trades as one block at a
minute drawn in advance, so that the cash flow is lumpy and known to the desk. Latency, spread and participation act on
both legs. On simulated data the venue moves prices by the true kernel while the policies believe the fitted one; on
recorded data the fitted kernel is assumed true, and the comparison is repeated with no impact at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge import HedgeBeliefs, HedgeComparison, HedgeParent, compare_policies
from crosswind.problems.impact import ImpactModel, truth_model
from crosswind.problems.replay import ReplayMarket, SimulatedVenue
from crosswind.problems.workflow.forecasts import betas_to_index, index_level
from crosswind.problems.workflow.futures_leg import (
    FUTURE,
    INDEX,
    FuturesLeg,
    clock_correlation,
    clock_margin,
    impact_with_future,
    replay_market,
)
from crosswind.problems.workflow.scheduling import ScheduleStage, basket_problem, day_ahead
from crosswind.problems.workflow.tuning import BASELINE, MPC, at_the_edge, part, tuned_policies, tuning_grids

if TYPE_CHECKING:
    from crosswind.problems.market import MarketData, MarketEvents

__all__ = ["HedgeAssumptions", "HedgeStage", "hedge_stage"]


@dataclass(frozen=True)
class HedgeAssumptions:
    """What the hedge stage assumes where no data say it.

    Parameters
    ----------
    latency_s
        From a hedge decision to its arrival at the venue [s].
    fee_per_contract
        Exchange and clearing fee [currency per contract].
    cash_participation, future_participation
        Largest share of a minute's volume that our orders may take; the rest waits.
    parent_s, stride_s
        Length of a parent and time between the starts of two [s], in whole slices of the schedule.
    horizon
        Bars that the MPC looks ahead.
    """

    latency_s: float = 1.0
    fee_per_contract: float = 1.25
    cash_participation: float = 0.3
    future_participation: float = 0.1
    parent_s: float = 3600.0
    stride_s: float = 1800.0
    horizon: int = 20

    def windows(self, slices: int, slice_s: float) -> list[slice]:
        """Return the parents' windows on a day of ``slices`` slices; at least one, the whole day where it is short."""
        length = min(max(round(self.parent_s / slice_s), 1), slices)
        step = max(round(self.stride_s / slice_s), 1)
        return [slice(begin, begin + length) for begin in range(0, slices - length + 1, step)]


@dataclass(frozen=True, eq=False)
class HedgeStage:
    """The tuned policies on the parents of the last day, and on the day's own basket.

    Parameters
    ----------
    comparison
        Overlapping parents of the last day × policies.
    day
        The main basket of the last day × policies.
    parameters
        Tuned parameters by policy.
    betas
        Beta to the index by name.
    clock_correlation, clock_margin
        Correlation of the future's and the index's bar returns on the last day, and how far it exceeds that at any
        lag of up to five bars: below zero a clock is wrong.
    settings
        Everything assumed or chosen.
    notes
        What a reader of the figures must know.
    """

    comparison: HedgeComparison
    day: HedgeComparison
    parameters: Mapping[str, Mapping[str, Any]]
    betas: pd.Series
    clock_correlation: float
    clock_margin: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"HedgeStage({', '.join(self.parameters)}; see .comparison and .day)"

    @property
    def worst_ledger_error(self) -> float:
        """Largest relative difference between a replay's components and its ledger."""
        frames = [self.comparison.to_frame(), self.day.to_frame()]
        if self.comparison.zero_impact is not None:
            frames.append(self.comparison.zero_impact.to_frame())
        return float(max(frame["ledger_error"].max() for frame in frames))

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Rungs below OPTIMAL that the MPC used, with their counts."""
        rungs: dict[str, int] = {}
        for comparison in (self.comparison, self.day):
            for (_, policy), run in comparison.replays.items():
                if policy == MPC:
                    for rung in run.decisions["rung"]:
                        rungs[str(rung)] = rungs.get(str(rung), 0) + 1
        return tuple(
            f"MPC used {rung} {n} times" for rung, n in sorted(rungs.items()) if rung not in ("OPTIMAL", "CLOSE")
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables to be written."""
        tables = {
            "hedge_policies": self.comparison.table(),
            "hedge_parents": self.comparison.to_frame().reset_index(),
            "hedge_differences": self.comparison.differences(),
            "hedge_day": self.day.table(),
        }
        if self.comparison.zero_impact is not None:
            tables["hedge_policies_zero_impact"] = self.comparison.zero_impact.table()
        return tables

    def to_dict(self) -> dict[str, Any]:
        """Return the tables and settings for the summary."""
        zero = self.comparison.zero_impact
        return {
            "policies": self.comparison.table(),
            "differences": self.comparison.differences(),
            "zero_impact": None if zero is None else zero.table(),
            "day": self.day.table(),
            "betas": self.betas,
            "clock_correlation": self.clock_correlation,
            "clock_margin": self.clock_margin,
            "parents": list(self.comparison.parents),
            "settings": dict(self.settings),
        }


@dataclass(frozen=True, eq=False)
class _Desk:
    """What stays the same for all parents of a run."""

    names: tuple[str, ...]
    betas: pd.Series
    planned: ScheduleStage
    model: ImpactModel
    assumptions: HedgeAssumptions

    def parents(
        self, session: MarketEvents, market: ReplayMarket, ahead: Any, rng: np.random.Generator
    ) -> tuple[list[HedgeParent], dict[str, ReplayMarket]]:
        """Return the parents of one session and their markets."""
        a = self.assumptions
        base = self.planned.schedule.problem
        parents, markets = [], {}
        for window in a.windows(len(ahead.times), ahead.slice_s):
            share = (window.stop - window.start) / len(ahead.times) * rng.uniform(0.5, 1.5) * rng.choice([-1.0, 1.0])
            schedule = basket_problem(
                ahead,
                base.inventory * share,
                self.model,
                participation=0.5 * a.cash_participation,
                # A smaller basket gets the same urgency: λ times size is what matters.
                risk_aversion=base.risk_aversion / abs(share),
                window=window,
            ).solve()
            name = f"{session.days[0]} {ahead.times[window.start].tz_convert(session.tz):%H:%M}"
            parent, markets[name] = self.parent(name, schedule.trades, ahead.slice_s, market, rng)
            parents.append(parent)
        return parents, markets

    def parent(
        self, name: str, trades: pd.DataFrame, slice_s: float, market: ReplayMarket, rng: np.random.Generator
    ) -> tuple[HedgeParent, ReplayMarket]:
        """Turn a schedule into blocks at drawn minutes, on the bars that it spans."""
        end = trades.index[-1] + pd.Timedelta(seconds=slice_s)
        inside = np.flatnonzero((market.times >= trades.index[0]) & (market.times <= end))
        part = market.part(int(inside[0]), int(inside[-1] - inside[0]))
        starts = part.times[:-1]
        number = pd.DatetimeIndex(trades.index).searchsorted(starts, side="right") - 1
        plan = np.zeros((len(starts), trades.shape[1]))
        for t in range(len(trades)):
            bars = np.flatnonzero(number == t)
            # A slice without a bar of its own (the session's first seconds) trades with the next bar.
            at = int(rng.choice(bars)) if len(bars) else min(int(np.searchsorted(number, t)), len(starts) - 1)
            plan[at] += trades.iloc[t].to_numpy()
        parent = HedgeParent(
            name=name,
            plan=pd.DataFrame(plan, index=starts, columns=list(trades.columns)),
            betas=self.betas,
            hedge=part.instruments[-1],
            index=INDEX,
            unit="notional",
        )
        return parent, part


def hedge_stage(
    market: MarketData,
    train: MarketEvents,
    test: MarketEvents,
    model: ImpactModel,
    planned: ScheduleStage,
    *,
    index: str | None,
    seed: int,
    assumptions: HedgeAssumptions | None = None,
    grids: Mapping[str, tuple[Any, Mapping[str, Sequence[Any]]]] | None = None,
    tune: bool = True,
    progress: Callable[[float], None] | None = None,
) -> HedgeStage | None:
    """Tune the hedge policies on the fitting days and replay them on the last.

    Parameters
    ----------
    market
        Data with at least one future; the first root is used, and on each day the expiry with most volume on the day
        before (on the first day, on that day itself).
    train, test
        Fitting days and the last day.
    model
        Fitted impact model: what the policies believe.
    planned
        The basket and its forecasts.
    index
        Name that stands for the index, or None for the index of the names.
    seed
        Seed of the parents' sizes, sides and minutes.
    assumptions
        Latency, fees, participation, size of the parents; by default :class:`HedgeAssumptions`, with the latency that a
        simulated market was given.
    grids
        Class and grid of parameters by policy, beside P0 and P1; by default those of the main job.
    tune
        Tune on the parents of the fitting days; else every policy takes the middle of its grid.
    progress
        Called with the share of the stage that is done.

    Returns
    -------
    HedgeStage or None
        None when the data hold no future.

    Raises
    ------
    DataGap
        When the future is not quoted in a session.
    """
    if not market.futures:
        return None
    a = _assumed(market) if assumptions is None else assumptions
    if grids is None:
        grids = tuning_grids(planned.schedule.problem.risk_aversion, a.horizon)
    root, quotes = next(iter(market.futures.items()))
    shares = _index_shares(market, index)
    rng = np.random.default_rng([seed, 2])
    names = planned.schedule.problem.names
    past = index_level(train, index, shares)
    betas = betas_to_index(train, past)
    desk = _Desk(names, betas, planned, model, a)

    legs, markets = {}, {}
    days = (*train.days, *test.days)
    for number, day in enumerate(days):
        session = market.events.on([day])
        # Which expiry is in front is known from the day before; on the first day there is none to look at.
        leg = FuturesLeg.of_session(quotes, quotes.front(days[max(number - 1, 0)]), session)
        legs[day] = leg
        # One name for the future on all days: what is tuned before a roll serves after it.
        markets[day] = replay_market(session, index_level(session, index, shares), leg, names, FUTURE)
    last = test.days[0]
    ratio = _depth_ratio(train, [legs[d] for d in train.days], index)
    weights = _weights(train, index, shares)
    believed = impact_with_future(model, names, weights, ratio)
    true = (
        believed
        if market.truth is None
        else impact_with_future(truth_model(market.truth, model.bucket_s), names, weights, ratio)
    )
    variance = _variance_per_s(train, past)

    beliefs = HedgeBeliefs(variance, believed, (*names, FUTURE))
    venue = SimulatedVenue(
        latency_s={FUTURE: a.latency_s},
        modes=true,
        mode_instruments=(*names, FUTURE),
        participation=dict.fromkeys(names, a.cash_participation) | {FUTURE: a.future_participation},
        fee_per_unit={FUTURE: a.fee_per_contract},
    )
    ahead = day_ahead(train, test, planned.ahead.slice_s)
    training: list[HedgeParent] = []
    training_markets: dict[str, ReplayMarket] = {}
    for day in train.days:
        session = train.on([day])
        parents, cut = desk.parents(session, markets[day], day_ahead(train, session, ahead.slice_s), rng)
        training += parents
        training_markets |= cut
    policies, parameters = tuned_policies(
        training,
        training_markets,
        beliefs,
        venue,
        grids=grids,
        tune=tune,
        progress=part(progress, 0.0, 0.7),
    )
    parents, cut = desk.parents(test, markets[last], ahead, rng)
    comparison = compare_policies(
        parents, policies, cut, beliefs, venue, baseline=BASELINE, seed=seed, progress=part(progress, 0.7, 0.2)
    )
    whole, day_market = desk.parent("basket", planned.schedule.trades, ahead.slice_s, markets[last], rng)
    basket = compare_policies(
        [whole],
        policies,
        day_market,
        beliefs,
        venue,
        baseline=BASELINE,
        seed=seed,
        zero_impact=False,
    )
    before = sorted({legs[d].name for d in train.days} - {legs[last].name})
    notes = [f"hedged with {legs[last].name}; {len(training)} training and {len(parents)} test parents"]
    if before:
        notes.append(f"hedge: the fitting days were hedged with {', '.join(before)}")
    if len(parents) > 1 and a.stride_s < a.parent_s:
        notes.append("hedge: parents overlap in time, so that intervals over them are too narrow")
    if not tune:
        notes.append("hedge: policies are not tuned; a rule that is not tuned is a straw man")
    elif edge := at_the_edge(parameters, grids):
        notes.append(f"hedge: tuned to an end of its grid: {', '.join(edge)}")
    if market.truth is None:
        notes.append("hedge: impact on recorded data is assumed (the fitted kernel); see the rows without impact")
    level = index_level(test, index, shares)
    return HedgeStage(
        comparison=comparison,
        day=basket,
        parameters=parameters,
        betas=betas[list(names)],
        clock_correlation=clock_correlation(level, legs[last]),
        clock_margin=clock_margin(level, legs[last]),
        settings={
            "root": root,
            "future": legs[last].name,
            "parent_minutes": max(map(_minutes, parents)),
            "depth_ratio": ratio,
            "assumptions": {k: getattr(a, k) for k in a.__dataclass_fields__},
            "tuned": parameters,
        },
        notes=tuple(notes),
    )


def _minutes(parent: HedgeParent) -> int:
    """Return the length of a parent in minutes, to the nearest."""
    times = pd.DatetimeIndex(parent.plan.index)
    step = (times[1] - times[0]).total_seconds() if len(times) > 1 else 60.0
    return round(((times[-1] - times[0]).total_seconds() + step) / 60.0)


def _assumed(market: MarketData) -> HedgeAssumptions:
    """Return the standing assumptions, with the hedge's latency from the simulator where there is one."""
    known = {} if market.truth is None else market.truth.parameters
    return HedgeAssumptions(latency_s=float(known.get("hedge_latency_s", HedgeAssumptions.latency_s)))


def _index_shares(market: MarketData, index: str | None) -> pd.Series | None:
    """Return the index's published shares, where the data carry them."""
    if index is not None or market.truth is None or "index_shares" not in market.truth.parameters:
        return None
    return pd.Series(market.truth.parameters["index_shares"], index=list(market.truth.names))


def _weights(train: MarketEvents, index: str | None, shares: pd.Series | None) -> pd.Series:
    """Return index weights by name at the end of the fitting days, summing to 1."""
    if index is not None:
        return pd.Series(1.0, index=[index])
    last = train.mid.iloc[-1]
    value = last * (1.0 / train.mid.iloc[0] if shares is None else shares)
    return value / value.sum()


def _depth_ratio(train: MarketEvents, legs: Sequence[FuturesLeg], index: str | None) -> float:
    """Return the index's notional over the future's, from the fitting days; at most 1."""
    cash = train.volume if index is None else train.volume[[index]]
    future = sum(leg.notional() for leg in legs)
    return float(min(1.0, cash.to_numpy().sum() / future)) if future > 0.0 else 1.0


def _variance_per_s(train: MarketEvents, level: pd.Series, horizon_s: float = 300.0) -> float:
    """Return the variance of the index's return per second, from returns over ``horizon_s`` within sessions."""
    coarse = train.resample(horizon_s)
    moves = level.reindex(coarse.index).groupby(coarse.session.to_numpy()).pct_change().dropna()
    return float(moves.var() / horizon_s)
