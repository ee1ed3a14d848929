"""What becomes of clips: the queue against the simulator's own, costs by hand, features that see no later bar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.spread_book_queue import join_queue
from crosswind.problems.roll import Regime, RollMarket, RollOrder, RollState
from crosswind.problems.roll.branches import (
    BRANCHES,
    FEATURES,
    BranchSamples,
    Decisions,
    ProbingPolicy,
    branch_features,
    branch_samples,
    decision_features,
    draw_decisions,
    follow_decisions,
    simulated_samples,
)
from crosswind.problems.roll.replay.episodes import market_of_day
from crosswind.solvers.errors import DataGap, InvalidInput

P = RollParameters(bar_s=20.0, depth_contracts=400.0, jumps_per_day=6.0)
DAY = simulate_roll(P, days=1, seed=4, start="2024-03-08").days[0]
MARKET = market_of_day(DAY, P.bar_s, P.multiplier, P.outright_tick)
SPREAD, LEGGED, RETRY, FORCED = range(4)
STILL = ProbingPolicy(reprice_s=np.inf, probes=150, warm_s=600.0, timeout_s=(60.0, 900.0), clip=(1.0, 600.0))


def hand_made(bars: int = 12, **changed: object) -> RollMarket:
    """Return a market in which nothing moves or trades, but for what is passed."""
    flat = dict.fromkeys(("sold", "bought"), np.zeros(bars))
    sizes = dict.fromkeys(("bid_size", "ask_size"), np.full(bars, 10.0))
    legs = {
        "leg_bid": np.tile([1800.0, 1795.0], (bars, 1)),
        "leg_ask": np.tile([1800.25, 1795.25], (bars, 1)),
        "leg_bid_size": np.tile([50.0, 80.0], (bars, 1)),
        "leg_ask_size": np.tile([60.0, 90.0], (bars, 1)),
        "leg_volume": np.zeros((bars, 2)),
    }
    given = {
        "times": pd.date_range("2024-03-08 15:00", periods=bars, freq="10s", tz="UTC"),
        "bar_s": 10.0,
        "bid": np.full(bars, -5.05),
        "ask": np.full(bars, -5.0),
        "cancelled": np.zeros((bars, 2)),
        "tick": 0.05,
        "leg_tick": 0.25,
        "multiplier": 50.0,
        "legs": ("202403", "202406"),
        "source": "made by hand",
    }
    return RollMarket(**{**flat, **sizes, **legs, **given, **changed})  # type: ignore[arg-type]


def one(side: int, clip: int, timeout: int, max_let: int, cutoff: int, bar: int = 0) -> Decisions:
    return Decisions(*(np.array([v]) for v in (bar, side, clip, timeout, max_let, cutoff)))


FREE = ProbingPolicy(fee_per_contract=0.0, queue=0.5, participation=1.0, leg_participation=1.0)


# the walk ------------------------------------------------------------------------------------------------------------


def test_passive_fills_are_those_of_the_simulators_queue() -> None:
    d, _ = draw_decisions(MARKET, STILL, np.random.default_rng(0))
    d = replace(d, cutoff=np.full(len(d.bar), MARKET.bars - 1))
    kept = d.bar + 3 * d.timeout.max() + 50 < MARKET.bars
    d = Decisions(*(np.asarray(v)[kept] for v in (d.bar, d.side, d.clip, d.timeout, d.max_let, d.cutoff)))
    out = follow_decisions(MARKET, d, replace(STILL, queue=DAY.queue_fraction))
    seen = set()
    for i in range(len(d.bar)):
        path = join_queue(DAY, int(d.side[i]), int(d.bar[i]), int(d.clip[i]), bars=int(d.timeout[i]))
        filled = int(path["filled"].sum())
        branch = SPREAD if filled == d.clip[i] else RETRY if filled else LEGGED
        assert out.branch[i] == branch
        seen.add(branch)
        if branch == SPREAD:
            mid = 0.5 * (MARKET.bid + MARKET.ask)[d.bar[i]]
            expected = d.side[i] * (path.attrs["price"] - mid) * 50.0 + 2.4
            assert out.cost[i] == pytest.approx(expected, abs=1e-8)
            assert MARKET.times[out.end[i]] == path.index[np.flatnonzero(path["filled"])[-1]]
    assert seen == {SPREAD, RETRY, LEGGED}


def test_spread_fill_by_hand() -> None:
    sold = np.zeros(12)
    sold[[2, 3]] = [6.0, 4.0]  # five are ahead: one fills in bar 2, three of four in bar 3
    out = follow_decisions(hand_made(sold=sold, bid_size=np.full(12, 10.0)), one(1, 4, 5, 1, 11), FREE)
    assert (out.branch[0], out.end[0], out.filled[0]) == (SPREAD, 3, 1.0)
    assert out.cost[0] == pytest.approx(-0.025 * 50.0)
    assert np.isnan(out.let_s[0])


def test_partial_then_retry_crosses_what_is_left() -> None:
    sold = np.zeros(12)
    sold[1] = 7.0
    # Two fill, three join again behind five, nobody comes: after four more bars they take the ask, two at it and one
    # a tick above.
    ask_size = np.full(12, 2.0)
    out = follow_decisions(hand_made(sold=sold, ask_size=ask_size), one(1, 5, 4, 1, 11), FREE)
    assert (out.branch[0], out.end[0], out.filled[0]) == (RETRY, 8, 0.4)
    paid = (2 * -5.05 + 2 * -5.0 + 1 * -4.95) / 5
    assert out.cost[0] == pytest.approx((paid - -5.025) * 50.0)


@pytest.mark.parametrize("side", [1, -1])
def test_forced_cross_at_the_cutoff(side: int) -> None:
    out = follow_decisions(hand_made(), one(side, 4, 9, 1, 3), FREE)
    assert (out.branch[0], out.end[0], out.filled[0]) == (FORCED, 3, 0.0)
    assert out.cost[0] == pytest.approx(0.025 * 50.0)


@pytest.mark.parametrize("side", [1, -1])
def test_legs_cross_the_thin_one_and_rest_the_other(side: int) -> None:
    # A buyer sells the near at its bid (50 shown) and rests a bid for the far; a seller buys the near at its ask (60
    # against 80 at the far's bid) and rests an offer of the far.
    volume = np.zeros((12, 2))
    volume[5, 1] = 400.0  # half of it against each side: beyond what is ahead
    out = follow_decisions(hand_made(leg_volume=volume), one(side, 4, 2, 6, 11), FREE)
    assert (out.branch[0], out.let_s[0]) == (LEGGED, 30.0)
    got = 1795.0 - 1800.0 if side > 0 else -(1795.25 - 1800.25)
    assert out.cost[0] == pytest.approx((got - side * -5.025) * 50.0)
    assert out.legging[0] == pytest.approx(-0.125 * 50.0)


def test_a_leg_that_runs_away_is_crossed_after_max_let_and_walks_its_book() -> None:
    up = np.tile([1800.0, 1795.0], (12, 1))
    up[3:, 1] += 0.5
    market = hand_made(leg_bid=up, leg_ask=up + 0.25, leg_ask_size=np.tile([60.0, 3.0], (12, 1)))
    # The far's offer is the thin side now: the far is bought first, three at the offer and one a tick above.
    out = follow_decisions(market, one(1, 4, 1, 3, 11), FREE)
    assert (out.branch[0], out.let_s[0], out.end[0]) == (LEGGED, 30.0, 4)
    far = (3 * 1795.25 + 1795.5) / 4
    assert out.cost[0] == pytest.approx((far - 1800.0 + 5.025) * 50.0)
    assert out.legging[0] == pytest.approx(0.125 * 50.0)  # the near is sold half a width below its mid
    # With the near thin instead, the far is the one that runs away while it rests: one point more, half a tick.
    away = follow_decisions(hand_made(leg_bid=up, leg_ask=up + 0.25), one(1, 4, 2, 3, 11), FREE)
    assert away.legging[0] == pytest.approx((0.5 + 0.125) * 50.0)
    at_once = follow_decisions(hand_made(leg_bid=up, leg_ask=up + 0.25), one(1, 4, 2, 0, 11), FREE)
    assert (at_once.let_s[0], at_once.end[0]) == (0.0, 2)
    assert at_once.legging[0] == pytest.approx(0.125 * 50.0)


def test_a_naked_leg_at_the_cutoff_is_forced() -> None:
    out = follow_decisions(hand_made(), one(1, 4, 2, 50, 5), FREE)
    assert (BRANCHES[out.branch[0]], out.end[0], out.let_s[0]) == ("forced_cross", 5, 30.0)


def test_a_clip_left_behind_moves_after_its_time_and_loses_its_place() -> None:
    bid = np.full(12, -5.05)
    bid[1:] = -4.95
    market = hand_made(bid=bid, ask=bid + 0.05, sold=np.full(12, 4.0))
    stays = follow_decisions(market, one(1, 2, 8, 0, 11), replace(FREE, reprice_s=np.inf))
    assert stays.branch[0] == LEGGED
    moves = follow_decisions(market, one(1, 2, 8, 0, 11), replace(FREE, reprice_s=20.0))
    # Seen behind at the ends of bars 1, 2 and 3; from bar 4 on it stands behind five: bar 5 fills three of them.
    assert (moves.branch[0], moves.end[0]) == (SPREAD, 5)
    assert moves.cost[0] == pytest.approx((-4.95 - -5.025) * 50.0)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"bar": 11}, "bar"),
        ({"side": 0}, "side"),
        ({"clip": 0}, "clip"),
        ({"timeout": 0}, "timeout"),
        ({"cutoff": 12}, "cutoff"),
        ({"cutoff": 0}, "cutoff"),
    ],
)
def test_decisions_outside_the_session_are_refused(changed: dict[str, int], field: str) -> None:
    values = {"side": 1, "clip": 1, "timeout": 1, "max_let": 0, "cutoff": 5, **changed}
    with pytest.raises(InvalidInput) as caught:
        follow_decisions(hand_made(), one(**values), FREE)
    assert caught.value.field == field


# features ------------------------------------------------------------------------------------------------------------


def known(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(rng.exponential(size=(n, 4)), columns=["rpc", "cde", "bdz", "rdp"])


def cut(market: RollMarket, end: int, scale: float | None = None) -> RollMarket:
    """Return the market up to a bar, or with everything after it scaled."""
    names = [
        *("bid", "ask", "bid_size", "ask_size", "sold", "bought", "cancelled", "leg_bid", "leg_ask"),
        *("leg_bid_size", "leg_ask_size", "leg_volume"),
    ]
    if scale is None:
        return replace(market, times=market.times[:end], **{name: getattr(market, name)[:end] for name in names})
    arrays = {name: np.array(getattr(market, name)) for name in names}
    for name, values in arrays.items():
        values[end:] = values[end:] * scale + (7.0 if name.endswith("ask") else 0.0)
    return replace(market, **arrays)


def test_features_know_nothing_from_after_the_bar() -> None:
    d = Decisions(*(np.array(v) for v in ([400, 400], [1, -1], [20, 300], [9, 3], [3, 9], [700, 402])))
    args = known(2), ["green", "red"]
    whole = decision_features(MARKET, d, *args)
    pd.testing.assert_frame_equal(decision_features(cut(MARKET, 401), d, *args), whole, check_exact=True)
    pd.testing.assert_frame_equal(decision_features(cut(MARKET, 401, 3.0), d, *args), whole, check_exact=True)
    assert list(whole.columns) == list(FEATURES)
    assert np.isfinite(whole.drop(columns="regime").to_numpy()).all()


def test_a_live_state_gives_the_row_of_the_samples() -> None:
    k, left = 500, 120
    order = RollOrder("x", -400, MARKET.times[k - 10], MARKET.times[k + left])
    metrics = {"rpc": 1.4, "cde": -0.3, "bdz": 2.0, "rdp": 0.6}
    seen = cut(MARKET, k + 1)
    state = RollState(k, seen, order, 300, bars_left=left, regime=Regime.CROWDED, metrics=metrics)
    live = branch_features(state, clip=50, timeout_s=200.0, max_let_s=41.0)
    d = Decisions(*(np.array([v]) for v in (k, -1, 50, 10, 3, k + left)))
    row = decision_features(MARKET, d, pd.DataFrame([metrics]), ["amber"])
    pd.testing.assert_frame_equal(live, row, check_exact=True)
    assert live["bdz"].iloc[0] == -2.0  # a high spread is good for who sells it
    resting = replace(state, working=50, ahead=3, resting_price=float(MARKET.ask[k]))
    assert branch_features(resting, 50, 200.0)["log_ahead"].iloc[0] < live["log_ahead"].iloc[0]
    empty = branch_features(replace(state, metrics={}), 50, 200.0)
    assert (empty[["log_rpc", "cde", "bdz", "log_rdp"]] == 0.0).all(axis=None)
    for bad, field in (({"clip": 0}, "clip"), ({"timeout_s": 0.0}, "timeout_s"), ({"max_let_s": -1.0}, "max_let_s")):
        with pytest.raises(InvalidInput) as caught:
            branch_features(state, **{"clip": 50, "timeout_s": 200.0, **bad})
        assert caught.value.field == field


# samples -------------------------------------------------------------------------------------------------------------

SMALL = ProbingPolicy(probes=25)


@pytest.fixture(scope="module")
def small() -> BranchSamples:
    return simulated_samples(4, seed=3, policy=SMALL, baseline_days=2, bar_s=20.0)


def test_samples_repeat_and_more_sessions_begin_with_the_fewer(small: BranchSamples) -> None:
    again = simulated_samples(2, seed=3, policy=SMALL, baseline_days=2, bar_s=20.0)
    pd.testing.assert_frame_equal(again.to_frame(), small.to_frame().iloc[: len(again)], check_exact=True)
    assert len(small) == 100
    assert len(small.days) == 4
    other = simulated_samples(2, seed=4, policy=SMALL, baseline_days=2, bar_s=20.0)
    assert not np.array_equal(other.cost, again.cost)
    assert "4 sessions" in small.summary()
    assert "simulated" in small.source


def test_samples_split_and_join_by_whole_sessions(small: BranchSamples) -> None:
    a, b = small.split(0.5, seed=1)
    assert not set(a.days) & set(b.days)
    assert len(a) + len(b) == len(small)
    joined = BranchSamples.concat([a, b])
    assert sorted(joined.cost) == sorted(small.cost)
    with pytest.raises(InvalidInput, match="twice"):
        BranchSamples.concat([a, a])
    for share in (0.0, 1.0, 0.01):
        with pytest.raises(InvalidInput, match="empty"):
            small.split(share)


def test_rare_regimes_are_drawn_more_often_where_asked() -> None:
    regimes = np.where(np.arange(MARKET.bars) % 50 == 0, "red", "green")
    shares = []
    for share in (0.0, 1.0):
        policy = ProbingPolicy(probes=2000, by_regime=share)
        d, remaining = draw_decisions(MARKET, policy, np.random.default_rng(0), regimes)
        shares.append(np.mean(regimes[d.bar] == "red"))
        assert (d.bar * MARKET.bar_s >= policy.warm_s).all()
        assert (remaining >= d.clip).all()
    assert shares[0] == pytest.approx(0.02, abs=0.012)
    assert shares[1] == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("call", "kind", "field"),
    [
        (lambda: branch_samples([]), DataGap, "markets"),
        (lambda: branch_samples([hand_made()]), DataGap, "market"),
        (lambda: branch_samples([hand_made()], seed=-1), InvalidInput, "seed"),
        (lambda: ProbingPolicy(clip=(0.0, 5.0)), InvalidInput, "clip"),
        (lambda: ProbingPolicy(timeout_s=(9.0, 5.0)), InvalidInput, "timeout_s"),
        (lambda: ProbingPolicy(queue=1.5), InvalidInput, "queue"),
        (lambda: ProbingPolicy(participation=0.0), InvalidInput, "participation"),
        (lambda: ProbingPolicy(probes=0), InvalidInput, "probes"),
        (lambda: ProbingPolicy(warm_s=np.inf), InvalidInput, "warm_s"),
    ],
)
def test_bad_input_names_its_field(call: object, kind: type[Exception], field: str) -> None:
    with pytest.raises(kind) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field  # type: ignore[attr-defined]


def test_samples_refuse_other_shapes(small: BranchSamples) -> None:
    for changed, field in (
        ({"branch": np.full(100, 4)}, "branch"),
        ({"cost": np.full(100, np.nan)}, "cost"),
        ({"day": np.zeros(3)}, "day"),
    ):
        with pytest.raises(InvalidInput) as caught:
            replace(small, **changed)  # type: ignore[arg-type]
        assert caught.value.field == field


@pytest.mark.data
def test_a_recorded_day_with_a_made_up_book(lean_dir: Path) -> None:
    from crosswind.problems.roll.replay import real_roll_day

    day = real_roll_day("2013-12-18", "09:00", "15:00", 100, data=lean_dir, history_s=1800.0)
    found = branch_samples([day.market], ProbingPolicy(probes=300), seed=1, labels=["2013-12-18"])
    assert "synthesised from the legs" in found.source
    assert np.bincount(found.branch, minlength=4).min() > 0
    # Both legs one tick wide: what is legged within a minute or so pays about a tick and a half of 12.50.
    legged = found.cost[(found.branch == LEGGED) & (found.let_s <= 60.0)]
    assert 0.0 < np.median(legged) < 40.0
