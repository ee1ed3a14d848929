"""Episodes of every declared world: what they hold, no look-ahead, and the vectorised costs against the replay's."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    HedgeAction,
    HedgeLeg,
    HedgeParent,
    HedgePolicy,
    HedgeState,
    ImmediateHedge,
    MPCHedge,
    NoHedge,
    PlanHedge,
    PlanRevision,
    replay_hedge,
)
from crosswind.problems.hedge.vectorised import batch
from crosswind.problems.hedge.worlds import Episode, episodes, episodes_of
from crosswind.problems.market.simulator.simulate import simulate
from crosswind.problems.market.simulator.worlds_table import WORLDS
from crosswind.problems.market.simulator.worlds_table import world as declared
from crosswind.problems.replay import AffinePolicy, ReplayMarket, ScheduledPolicy, replay
from crosswind.solvers.errors import DataGap, InvalidInput

COUNT, SEED = 8, 2


@cache
def drawn(world: str) -> tuple[Episode, ...]:
    return episodes(world, COUNT, SEED)


def fingerprint(episode: Episode) -> bytes:
    """Return the bytes of all that an episode's market and parent hold."""
    market, parent = episode.market, episode.parent
    assert parent.fills is not None
    tables = [parent.plan, parent.fills, *(revision.plan for revision in parent.revisions)]
    arrays = [market.times_ns, market.mid, market.half_spread, market.volume, parent.beta]
    arrays += [table.to_numpy() for table in tables]
    text = repr((episode.name, market.instruments, [r.slice for r in parent.revisions], episode.venue.seed))
    return text.encode() + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


# what an episode holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_episodes_of_every_world_run_and_balance(name: str) -> None:
    numbers = WORLDS[name].venue
    for episode in drawn(name)[:3]:
        assert episode.world == WORLDS[name].key
        venue, parent = episode.venue, episode.parent
        assert venue.latency_s == {parent.hedge: numbers.latency_s}
        assert venue.reject_probability == {parent.hedge: numbers.reject_probability}
        assert bool(venue.modes) == (name != "zero_impact")
        run = replay_hedge(parent, ImmediateHedge(0.3), episode.market, episode.beliefs, venue)
        assert run.attribution.ledger_error < 1e-9
        cash = run.result.fills_frame().query("policy == 'cash'")
        assert parent.fills is not None
        got = cash.groupby("instrument")["units"].sum().reindex(list(parent.names)).fillna(0.0)
        np.testing.assert_allclose(got, parent.fills.sum(), atol=1e-9)
        left = parent.intended(episode.market)[-1] - parent.fills.to_numpy().sum(axis=0)
        value = parent.arrival(episode.market) * parent.beta
        assert run.attribution.gap[-1] == pytest.approx(0.0, abs=1e-9 * run.notional)
        # The desk's fills sum to the last plan, and a cancellation gives up the rest: nothing is left to hedge.
        assert left @ value == pytest.approx(0.0, abs=1e-9 * run.notional)


def test_the_limit_of_the_rate_limited_world_binds() -> None:
    limit = WORLDS["rate_limited"].venue.max_orders_per_minute
    assert limit is not None
    for episode in drawn("rate_limited")[:4]:
        run = replay_hedge(episode.parent, ImmediateHedge(1.0), episode.market, episode.beliefs, episode.venue)
        orders = run.result.orders_frame().query("instrument == @episode.parent.hedge")
        refused = orders["state"] == "throttled"
        assert 0.1 < refused.mean() < 0.9
        sent = pd.DatetimeIndex(orders.loc[~refused, "sent"]).asi8
        within = np.arange(1, len(sent) + 1) - np.searchsorted(sent, sent - 60_000_000_000, side="right")
        # The last call, at the close, is never refused.
        assert within[:-1].max() == limit


def test_a_longer_draw_begins_with_the_shorter_and_seeds_differ() -> None:
    short = episodes("stress", 3, SEED)
    assert [fingerprint(e) for e in short] == [fingerprint(e) for e in drawn("stress")[:3]]
    assert fingerprint(episodes("stress", 1, SEED + 1)[0]) != fingerprint(short[0])


def test_variants_scale_what_they_name() -> None:
    plain, double = drawn("calm")[0], episodes("calm", 1, SEED, impact=2.0)[0]
    slow = episodes("calm", 1, SEED, latency=2.0)[0]
    np.testing.assert_allclose(double.venue.modes[0].matrix, 2.0 * np.asarray(plain.venue.modes[0].matrix), rtol=1e-12)
    assert (double.name, double.kind, double.market.slices) == (plain.name, plain.kind, plain.market.slices)
    assert double.world != plain.world
    assert slow.venue.latency_s == {plain.parent.hedge: 2.0 * WORLDS["calm"].venue.latency_s}
    assert fingerprint(slow) == fingerprint(plain)


def test_revised_and_cancelled_parents_are_told_when_it_happens() -> None:
    revised = [e for e in drawn("revisions") if e.parent.revisions]
    cancelled = [e for e in revised if e.parent.revisions[-1].settled]
    assert len(revised) >= COUNT // 2
    assert cancelled
    for episode in cancelled:
        parent, market = episode.parent, episode.market
        assert parent.fills is not None
        k = parent.revisions[-1].slice
        before, after = parent.known_plan(k - 1, market), parent.known_plan(k, market)
        assert np.abs(before[k:]).sum() > 0.0
        np.testing.assert_array_equal(after[k:], 0.0)
        np.testing.assert_array_equal(after[:k], parent.fills.to_numpy()[:k])


def test_an_algorithm_behind_its_plan_is_expected_to_catch_up() -> None:
    """Half of the plan's first trade is missing: the path still ends at nothing, and the gap counts what is left."""
    seen: list[HedgeState] = []

    class Note(NoHedge):
        def decide(self, state: HedgeState) -> HedgeAction:
            seen.append(state)
            return super().decide(state)

    times = pd.date_range("2024-03-08 14:30", periods=5, freq="60s", tz="UTC")
    market = ReplayMarket.from_frames(pd.DataFrame({"A": 100.0, "F": 100.0}, index=times))
    plan = pd.DataFrame({"A": [4.0, 2.0, 2.0, 2.0]}, index=times[:-1])
    fills = pd.DataFrame({"A": [1.0, 2.0, 2.0, 5.0]}, index=times[:-1])
    parent = HedgeParent("p", plan, pd.Series({"A": 1.0}), "F", fills=fills)
    beliefs = replace(drawn("calm")[0].beliefs, modes=(), mode_instruments=())
    replay_hedge(parent, Note(), market, beliefs)
    assert [s.beta_q for s in seen] == [1000.0, 900.0, 700.0, 500.0]
    np.testing.assert_allclose(seen[0].planned_beta_q, [600.0, 400.0, 200.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(seen[1].planned_beta_q, [600.0, 300.0, 0.0], atol=1e-9)


def test_bad_requests_are_typed() -> None:
    episode = drawn("calm")[0]
    parent = episode.parent
    assert parent.fills is not None
    short, other = parent.fills.iloc[1:], parent.fills.rename(columns=lambda c: f"{c}x")
    settled = (PlanRevision(1, parent.plan * 0.0, settled=True),)
    calls: list[tuple[type[Exception], Callable[[], object]]] = [
        (InvalidInput, lambda: episodes("calmer", 1)),
        (InvalidInput, lambda: episodes("calm", 0)),
        (InvalidInput, lambda: episodes("calm", 1, depth_ratio=0.0)),
        (InvalidInput, lambda: episodes("calm", 1, impact=-1.0)),
        (DataGap, lambda: episodes(declared("calm").changed(desk=None), 1)),
        (DataGap, lambda: episodes_of(simulate(names=2, days=1, bucket_s=60.0), declared("calm"))),
        (InvalidInput, lambda: replace(parent, fills=short)),
        (InvalidInput, lambda: replace(parent, fills=other)),
        (InvalidInput, lambda: replace(parent, fills=parent.fills * np.nan)),
        (DataGap, lambda: replace(parent, fills=None, revisions=settled)),
        (InvalidInput, lambda: batch([])),
        (InvalidInput, lambda: batch([replace(episode, venue=replace(episode.venue, latency_s=1.0))])),
        (InvalidInput, lambda: batch([replace(episode, venue=replace(episode.venue, max_orders_per_minute=5))])),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()


# look-ahead ---------------------------------------------------------------------------

POLICIES: dict[str, Callable[[], HedgePolicy]] = {
    "P0": NoHedge,
    "P1": lambda: ImmediateHedge(0.3),
    "P2": lambda: BatchedHedge(3),
    "P3b": lambda: AdaptiveTrigger(0.2),
    "MPC": lambda: MPCHedge(1e-5, horizon=4),
}
WAYS = ("nan", "scaled", "shuffled", "truncated")


def spoil(values: np.ndarray, start: int, how: str) -> np.ndarray:
    """Return a copy whose rows from ``start`` on are spoilt; "truncated" leaves zeros, as if nothing had come."""
    out = np.array(values, dtype=np.float64)
    later = out[start:]
    if how == "nan":
        out[start:] = np.nan
    elif how == "scaled":
        out[start:] = later * 1e6 + 1.0
    elif how == "shuffled":
        out[start:] = np.random.default_rng(0).permutation(later.ravel()).reshape(later.shape)[::-1]
    else:
        out[start:] = 0.0
    return out


def poisoned(episode: Episode, k: int, how: str) -> Episode:
    """Spoil all that is not known at ``times[k]``: quotes after it, volume, fills and revisions from slice k on."""
    market, parent = copy(episode.market), copy(episode.parent)
    put = object.__setattr__
    for name, start in (("mid", k + 1), ("half_spread", k), ("volume", k)):
        put(market, name, spoil(getattr(market, name), start, how))
    assert parent.fills is not None
    put(parent, "fills", pd.DataFrame(spoil(parent.fills.to_numpy(), k, how), columns=parent.fills.columns))
    revisions = [
        r if r.slice < k else replace(r, plan=pd.DataFrame(spoil(r.plan.to_numpy(), 0, how), columns=r.plan.columns))
        for r in parent.revisions
    ]
    put(parent, "revisions", tuple(revisions))
    return replace(episode, market=market, parent=parent)


def decided(episode: Episode, policy: HedgePolicy, k: int) -> str:
    """Return all decisions, orders, fills and paths before ``times[k]``, as text."""
    market, parent = episode.market, episode.parent
    trades = parent.executed_plan(market)
    trades[k:] = 0.0  # never sent before times[k]; the schedule itself refuses what is not finite
    cash = ScheduledPolicy(pd.DataFrame(trades, columns=list(parent.names)))
    leg = HedgeLeg(parent, policy, episode.beliefs, market)
    result = replay(market, {"cash": cash, "hedge": leg}, episode.venue, until=k)
    return repr(leg.records) + result.digest()


def revised(name: str) -> Episode:
    """Return an episode of the world that is revised in its first half, or else the first."""
    found = [e for e in drawn(name) if any(2 <= r.slice <= 8 for r in e.parent.revisions)]
    return found[0] if found else drawn(name)[0]


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_nothing_before_t_depends_on_what_comes_after(name: str) -> None:
    episode = revised(name)
    for label, make in POLICIES.items():
        for k in (3, 9):
            clean = decided(episode, make(), k)
            for how in WAYS:
                with np.errstate(all="ignore"):
                    assert decided(poisoned(episode, k, how), make(), k) == clean, (label, k, how)


def test_planted_leaks_are_caught() -> None:
    """One policy is handed the market by its author, another takes what will be filled for the plan."""

    class Peek(ImmediateHedge):
        def __init__(self, market: ReplayMarket) -> None:
            super().__init__()
            self.market = market

        def decide(self, state: HedgeState) -> HedgeAction:
            ahead = self.market.mid[state.slice + 2, -1] - self.market.mid[state.slice, -1]
            return HedgeAction(float(np.nan_to_num(ahead)) * 1e4)

    episode = drawn("calm")[0]
    bad = {how: poisoned(episode, 9, how) for how in WAYS}
    clean = decided(episode, Peek(episode.market), 9)
    assert decided(episode, Peek(episode.market), 9) == clean
    for spoilt in bad.values():
        assert decided(spoilt, Peek(spoilt.market), 9) != clean

    def clairvoyant(of: Episode) -> Episode:
        parent = copy(of.parent)
        object.__setattr__(parent, "plan", parent.fills)
        object.__setattr__(parent, "revisions", ())
        return replace(of, parent=parent)

    clean = decided(clairvoyant(episode), MPCHedge(1e-5, horizon=4), 9)
    for how in ("scaled", "shuffled"):
        assert decided(clairvoyant(bad[how]), MPCHedge(1e-5, horizon=4), 9) != clean


def test_a_market_cut_short_gives_the_same_episodes_as_far_as_it_goes() -> None:
    record = declared("stress")
    whole = {e.name: e for e in episodes_of(simulate(world=record, days=3, seed=SEED), record)}
    part = {e.name: e for e in episodes_of(simulate(world=record, days=2, seed=SEED), record)}
    assert len(part) < len(whole)
    for name, episode in part.items():
        assert fingerprint(episode) == fingerprint(whole[name])


# the vectorised replay ---------------------------------------------------------------------------


def test_vectorised_costs_equal_the_replay_in_every_world() -> None:
    """All worlds in one batch: names, slices, numbers of modes and limits differ."""
    sample = [drawn(name)[0 if name != "rate_limited" else 3] for name in sorted(WORLDS)]
    laid = batch(sample)
    assert len({e.market.slices for e in sample}) > 1
    assert len({len(e.parent.names) for e in sample}) > 1
    rules: list[tuple[AffinePolicy, list[HedgePolicy]]] = [
        (laid.batched(4, [0.05, np.inf]), [BatchedHedge(4, 0.05), BatchedHedge(4)]),
        (laid.plan([0.2, 0.8], 0.3), [PlanHedge(0.2, 0.3), PlanHedge(0.8, 0.3)]),
        (laid.trigger([0.1, 1.0]), [AdaptiveTrigger(0.1), AdaptiveTrigger(1.0)]),
    ]
    for affine, policies in rules:
        costs = laid.run(affine, window=laid.replay.slices)
        for p, policy in enumerate(policies):
            for e, episode in enumerate(sample):
                run = replay_hedge(episode.parent, policy, episode.market, episode.beliefs, episode.venue)
                scale = float(run.components.abs().sum())
                assert costs.hedge_cost[p, e] == pytest.approx(run.hedge_cost, rel=1e-9, abs=1e-12 * scale)
                frame = run.result.fills_frame()
                forced = frame[frame["forced"].astype(bool)]
                paid = float(forced[["spread_cost", "impact_self", "impact_cross", "fee"]].to_numpy().sum())
                assert costs.close_cost[p, e] == pytest.approx(paid, rel=1e-9, abs=1e-12 * scale)


def test_a_plan_solved_once_with_feedback_is_the_fraction_rule_where_the_plan_is_empty() -> None:
    laid = batch(drawn("calm"))
    nothing = np.zeros(laid.planned.shape)
    one, other = laid.run(laid.solved_once(nothing, nothing, 0.3), window=99), laid.run(laid.fraction(0.3), window=99)
    np.testing.assert_allclose(one.hedge_cost, other.hedge_cost, rtol=1e-12)
    shifted = laid.run(laid.solved_once(nothing, laid.wanted[:, :-1] * 0.5, 0.3), window=99)
    assert (np.abs(shifted.hedge_cost - one.hedge_cost) > 1e-9 * laid.notional).all()


def test_costs_in_bps_and_their_score() -> None:
    laid = batch(drawn("calm"))
    costs = laid.run(laid.fraction([0.1, 0.5, 1.0]))
    frame = costs.to_frame()
    np.testing.assert_allclose(frame["mean_bps"], (costs.hedge_cost / laid.notional * 1e4).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(frame["score_bps"], 0.5 * (frame["mean_bps"] + frame["q95_bps"]), rtol=1e-12)
