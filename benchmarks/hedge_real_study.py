"""The study behind benchmarks/hedge_real.py: recorded days, drawn desk orders, policies tuned on other days, replays.

Each day is held out once: kernel, betas, variance, volumes and the policies' parameters come from the other two. The
study fails where the components of a replay and its ledger differ by more than 1e-9.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    HedgeBeliefs,
    HedgeParent,
    ImmediateHedge,
    MarginalCostHedge,
    MarginalRule,
    MPCHedge,
    NoHedge,
    PlanHedge,
    PlanRevision,
    SolvedOnceHedge,
    compare_policies,
    tune_policy,
)
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
from crosswind.solvers.errors import CrosswindError

ROOT = Path(__file__).resolve().parents[1]
NAMES, ETF = ("IBM", "BAC", "AIG"), "SPY"
KINDS = ("lumps", "blocks", "drift", "revised", "cancelled", "two-sided")
MINUTES, STRIDE = (30, 60, 120), 15
BUCKETS = ((0.01, 0.03), (0.03, 0.08), (0.08, 0.20))  # share of the names' usual volume over the parent's time
TUNE_EVERY, LEDGER = 7, 1e-9  # seven has no factor in common with the kinds: all of them are tuned on
NATURAL = (0.0, 1.0, float("inf"))  # ends of a range, not of a grid
P4, SO, BF = "P4 MPC", "SO solved once", "BF fraction of the gap"
RULES = ("P1 immediate, clipped", "P2 batched", "P3a marginal costs (jax)", "P3a marginal rule", "P3b trigger")
_LAMBDA = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_FRACTION = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# Six points each, so that no rule is searched less than the controller; SO, with two that matter, has nine.
GRIDS: dict[str, tuple[Any, dict[str, Sequence[Any]]]] = {
    RULES[0]: (ImmediateHedge, {"clip_share": (0.02, 0.05, 0.1, 0.2, 0.5, float("inf"))}),
    RULES[1]: (BatchedHedge, {"every": (1, 2, 3, 5, 8, 12)}),
    RULES[2]: (MarginalCostHedge, {"risk_aversion": (1e-3, 1e-2, 1e-1), "uncertainty": (0.0, 1.0)}),
    RULES[3]: (MarginalRule, {"risk_aversion": (1e-3, 1e-2, 1e-1), "buffer_bps": (0.0, 0.5)}),
    RULES[4]: (AdaptiveTrigger, {"threshold_bps": (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)}),
    BF: (FractionHedge, {"fraction": _FRACTION}),
    "BS plan + fraction": (PlanHedge, {"fraction": _FRACTION}),
    SO: (SolvedOnceHedge, {"risk_aversion": (1e-4, 1e-3, 1e-2), "fraction": (0.3, 0.7, 1.0)}),
    P4: (MPCHedge, {"risk_aversion": _LAMBDA, "engine": ("core",)}),
}


# ---- the days --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Day:
    """One session: its market on the future's minutes, and how its clocks agree."""

    market: ReplayMarket
    leg: FuturesLeg
    correlation: float
    margin: float
    bounce: float  # autocorrelation of the one-minute moves of the basis at lag one


@dataclass(frozen=True, eq=False)
class Known:
    """What the days before the held-out one say."""

    betas: pd.Series
    beliefs: HedgeBeliefs
    usual: np.ndarray  # notional of each name by minute of the day
    depth_ratio: float


def days_of(events: Any, quotes: Any) -> dict[Any, Day]:
    """Put names, index and future of each session on one clock."""
    out = {}
    for day in events.days:
        session = events.on([day])
        level = index_level(session, ETF)
        leg = FuturesLeg.of_session(quotes, quotes.front(events.days[0]), session)
        market = replay_market(session, level, leg, NAMES, FUTURE)
        basis = np.diff(market.mid[:, -1] / market.mid[0, -1] - market.mid[:, -2] / market.mid[0, -2])
        bounce = float(np.corrcoef(basis[1:], basis[:-1])[0, 1])
        out[day] = Day(market, leg, clock_correlation(level, leg), clock_margin(level, leg), bounce)
    return out


def learn(events: Any, days: Mapping[Any, Day], train: Sequence[Any]) -> Known:
    """Estimate kernel, betas, variance and usual volumes on the training days."""
    past = events.on(list(train))
    level = index_level(past, ETF)
    coarse = past.resample(300.0)
    moves = level.reindex(coarse.index).groupby(coarse.session.to_numpy()).pct_change().dropna()
    depth = float(past.volume[ETF].sum()) / sum(days[d].leg.notional() for d in train)
    model = cw.CrossImpact().fit(past).model_
    modes = impact_with_future(model, NAMES, pd.Series(1.0, index=[ETF]), depth)
    beliefs = HedgeBeliefs(float(moves.var() / 300.0), modes, (*NAMES, FUTURE))
    usual = np.mean([days[d].market.volume[:, :3] * days[d].market.mid[:-1, :3] for d in train], axis=0)
    # Half an hour's mean: the profile of two days, minute by minute, would be theirs alone.
    kernel = np.ones(31) / np.convolve(np.ones(len(usual)), np.ones(31), "same")[:, None]
    smooth = np.column_stack([np.convolve(usual[:, i], np.ones(31), "same") for i in range(3)]) * kernel[:, :1]
    return Known(betas_to_index(past, level), beliefs, smooth, min(depth, 1.0))


def venue_of(known: Known) -> SimulatedVenue:
    """Return the assumed true venue: what is believed of impact is true, and only the future has delay and limit."""
    return SimulatedVenue(
        latency_s={FUTURE: 1.0},
        modes=known.beliefs.modes,
        mode_instruments=known.beliefs.mode_instruments,
        participation={FUTURE: 0.1},
        fee_per_unit={FUTURE: 1.25},
    )


# ---- the parents -----------------------------------------------------------------------------------------------------


def lumpy(smooth: np.ndarray, rng: np.random.Generator, every: int = 5) -> np.ndarray:
    """Trade every five minutes' amount as one block at a drawn minute."""
    out = np.zeros_like(smooth)
    for begin in range(0, len(smooth), every):
        stop = min(begin + every, len(smooth))
        out[int(rng.integers(begin, stop))] = smooth[begin:stop].sum(axis=0)
    return out


def drawn(kind: str, amount: np.ndarray, profile: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return plan, revisions and fills of one kind of order, (T, 3) each [currency at arrival].

    ``amount`` is signed by name, ``profile`` the share of it in each minute by the names' usual volume.
    """
    T, smooth = len(profile), profile * amount
    middle = int(rng.integers(T // 3, 2 * T // 3))
    if kind == "blocks":
        plan = np.zeros_like(smooth)
        minutes = np.sort(rng.choice(T, 4, replace=False))
        plan[minutes] = rng.dirichlet(np.full(4, 3.0))[:, None] * amount
        return {"plan": plan}
    if kind == "drift":
        # The algorithm trades around its volume schedule in lumps, up to twice or half as fast, and ends with it.
        pace = np.exp(np.cumsum(0.15 * rng.standard_normal(T)))
        fills = lumpy(smooth * pace[:, None], rng, 3)
        return {"plan": smooth, "fills": fills * (smooth.sum(axis=0) / fills.sum(axis=0))}
    plan = lumpy(smooth, rng)
    if kind == "revised":
        new = plan.copy()
        new[middle:] = lumpy(smooth[middle:], rng) * rng.uniform(0.2, 2.0)
        return {"plan": plan, "revisions": ((middle, new, False),)}
    if kind == "cancelled":
        fills = np.where(np.arange(T)[:, None] < middle, plan, 0.0)
        return {"plan": plan, "fills": fills, "revisions": ((middle, np.zeros_like(plan), True),)}
    return {"plan": plan}


@dataclass(frozen=True, eq=False)
class Orders:
    """Parents of one day with their markets, and one row on each."""

    parents: list[HedgeParent]
    markets: dict[str, ReplayMarket]
    facts: pd.DataFrame


def orders_of(label: str, day: Day, known: Known, seed: Sequence[int]) -> Orders:
    """Draw every kind of order at every start, on both sides."""
    market, zone = day.market, "America/New_York"
    parents, markets, facts = [], {}, {}
    for start in range(0, market.slices - MINUTES[0] + 1, STRIDE):
        for number, kind in enumerate(KINDS):
            rng = np.random.default_rng([*seed, start, number])
            T = int(rng.choice([m for m in MINUTES if start + m <= market.slices]))
            part = market.part(start, T)
            usual = known.usual[start : start + T]
            bucket = int(rng.integers(len(BUCKETS)))
            size = float(np.exp(rng.uniform(*np.log(BUCKETS[bucket]))))
            tilt = rng.dirichlet(np.full(3, 5.0)) * 3.0
            sides = np.array([1.0, -1.0, 1.0])[rng.permutation(3)] if kind == "two-sided" else np.ones(3)
            amount = size * tilt * usual.sum(axis=0) * sides
            made = drawn(kind, amount, usual / usual.sum(axis=0), rng)
            # A bounce at the very minute of arrival must not size the order.
            arrival = np.median(market.mid[max(start - 5, 0) : start + 1, :3], axis=0)
            at = part.times[0].tz_convert(zone)
            for side in (1.0, -1.0):
                name = f"{label} {at:%H:%M} {kind} {'buys' if side > 0 else 'sells'}"
                parents.append(parent_of(name, side, made, part, known.betas, arrival))
                markets[name] = part
                block = f"{label} {at:%H}"
                facts[name] = {"block": block, "kind": kind, "side": side, "bucket": bucket, "share": size, "slices": T}
    return Orders(parents, markets, pd.DataFrame.from_dict(facts, orient="index"))


def parent_of(
    name: str, side: float, made: dict[str, Any], market: ReplayMarket, betas: pd.Series, arrival: np.ndarray
) -> HedgeParent:
    """Return one side of a drawn order, in shares at the ``arrival`` prices."""

    def table(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(side * values / arrival, index=market.times[:-1], columns=list(NAMES))

    revisions = tuple(PlanRevision(k, table(plan), settled) for k, plan, settled in made.get("revisions", ()))
    fills = table(made["fills"]) if "fills" in made else None
    return HedgeParent(name, table(made["plan"]), betas, FUTURE, INDEX, "units", revisions, fills)


# ---- the study -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Study:
    """All held-out days together.

    ``frame`` has one row per (parent, policy, impact), ``facts`` one per parent; the rest is what the page says.
    """

    frame: pd.DataFrame
    facts: pd.DataFrame
    tuned: pd.DataFrame
    rungs: dict[str, int]
    days: pd.DataFrame
    beliefs: pd.DataFrame
    cpu_s: float


def study(every: int = 1) -> Study:
    """Tune on two days, judge on the third, for each of the three."""
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "lean"
    if not folder.is_dir():
        raise SystemExit(f"no recorded data at {folder}: set CROSSWIND_DATA")
    began = time.process_time()
    data = cw.read(f"lean:{folder}")
    events, days = data.events, days_of(data.events, data.futures["ES"])
    frames, facts, tuned, believed, rungs = [], [], [], [], dict[str, int]()
    for fold, held in enumerate(events.days):
        train = [d for d in events.days if d != held]
        known = learn(events, days, train)
        venue = venue_of(known)
        own = sum(float(np.asarray(m.matrix)[-1, -1]) for m in known.beliefs.modes)
        believed.append(
            {
                "held out": str(held),
                **{f"beta {n}": float(known.betas[n]) for n in NAMES},
                "σ a day [%]": 100.0 * (known.beliefs.index_variance_per_s * 23400.0) ** 0.5,
                "SPY over ES [notional]": known.depth_ratio,
                "ES moves for $30 m [bps]": own * 3e7 * 1e4,
                "√ law [bps]": 1e4
                * 0.7
                * (
                    known.beliefs.index_variance_per_s
                    * 23400.0
                    * 3e7
                    / np.mean([days[d].leg.notional() for d in train])
                )
                ** 0.5,
            }
        )
        training = [orders_of(str(d), days[d], known, (1, fold, i)) for i, d in enumerate(train)]
        policies: dict[str, Any] = {"P0 none": NoHedge()}
        # Both sides of an order stay together.
        chosen = [p for o in training for p in some(o.parents, TUNE_EVERY * every)]
        markets = {k: v for o in training for k, v in o.markets.items()}
        for label, (make, grid) in GRIDS.items():
            found = tune_policy(make, grid, chosen, markets, known.beliefs, venue, integer=True)
            policies[label] = found.policy
            values = {k: v for k, v in found.parameters.items() if k != "engine"}
            ends = [
                k for k, v in values.items() if len(grid[k]) > 2 and v in (grid[k][0], grid[k][-1]) and v not in NATURAL
            ]
            tuned.append({"held out": str(held), "policy": label, "chosen": values, "at an end": bool(ends)})
            print(f"{held} {label} {found.parameters} {time.process_time() - began:.0f} s", flush=True)
        orders = orders_of(str(held), days[held], known, (2, fold))
        kept = some(orders.parents, every)
        for begin in range(0, len(kept), 24):
            batch = kept[begin : begin + 24]
            done = compare_policies(batch, policies, orders.markets, known.beliefs, venue, integer=True, draws=1)
            assert done.zero_impact is not None
            for impact, comparison in (("assumed", done), ("none", done.zero_impact)):
                frames.append(comparison.to_frame().assign(impact=impact))
                for (_, policy), run in comparison.replays.items():
                    for rung in run.decisions["rung"] if policy == P4 else ():
                        rungs[rung] = rungs.get(rung, 0) + 1
        facts.append(orders.facts.loc[[p.name for p in kept]].assign(day=str(held)))
        print(f"{held} replayed {time.process_time() - began:.0f} s", flush=True)
    frame = pd.concat(frames).reset_index().set_index(["impact", "parent", "policy"]).sort_index()
    if not (worst := float(frame["ledger_error"].max())) <= LEDGER:
        raise CrosswindError("components and ledger differ", field="ledger_error", value=worst, remedy="report it")
    clocks = {
        str(d): {
            "correlation of index and future": v.correlation,
            "above any other lag": v.margin,
            "basis, lag-1 autocorrelation": v.bounce,
            "ES traded [$ bn]": v.leg.notional() / 1e9,
        }
        for d, v in days.items()
    }
    return Study(
        frame,
        pd.concat(facts),
        pd.DataFrame(tuned),
        rungs,
        pd.DataFrame.from_dict(clocks, orient="index").rename_axis("day"),
        pd.DataFrame(believed).set_index("held out"),
        time.process_time() - began,
    )


def some(parents: Sequence[HedgeParent], every: int) -> list[HedgeParent]:
    """Return every so many orders with both sides."""
    return [p for i, p in enumerate(parents) if (i // 2) % every == 0]
