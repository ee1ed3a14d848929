"""The hedge stage's parts: the future on the names' clock, the parents' windows, tuning across a roll."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.workflow.fitting import fit_stage
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
from crosswind.problems.workflow.hedging import HedgeAssumptions, _depth_ratio, _variance_per_s, hedge_stage
from crosswind.problems.workflow.run import split_days
from crosswind.problems.workflow.scheduling import schedule_stage
from crosswind.problems.workflow.tuning import at_the_edge, tuning_grids
from crosswind.solvers.errors import DataGap

SPEC = "sim:names=3,sectors=1,days=3,bucket_s=60,seed=5,close_local=11:00"


@pytest.fixture(scope="module")
def market() -> cw.MarketData:
    return cw.read(SPEC)


@pytest.fixture(scope="module")
def session(market: cw.MarketData) -> cw.MarketEvents:
    return market.events.on(market.events.days[:1])


@pytest.fixture(scope="module")
def leg(market: cw.MarketData, session: cw.MarketEvents) -> FuturesLeg:
    quotes = market.futures["SIM"]
    return FuturesLeg.of_session(quotes, quotes.front(session.days[0]), session)


def test_windows_are_in_time_and_fit_any_slice():
    a = HedgeAssumptions()
    assert [(w.start, w.stop) for w in a.windows(78, 300.0)[:3]] == [(0, 12), (6, 18), (12, 24)]
    assert a.windows(78, 300.0)[-1] == slice(66, 78)
    assert a.windows(390, 60.0)[:2] == [slice(0, 60), slice(30, 90)]
    assert a.windows(6, 3600.0) == [slice(k, k + 1) for k in range(6)]
    assert a.windows(3, 300.0) == [slice(0, 3)]  # a session shorter than a parent is one parent


def test_the_market_holds_what_was_traded_between_its_bounds(
    market: cw.MarketData, session: cw.MarketEvents, leg: FuturesLeg
):
    names = session.names
    fine = replay_market(session, index_level(session, None), leg, names)
    assert fine.instruments == (*names, INDEX, leg.name)
    np.testing.assert_allclose(fine.volume[:, -1], leg.volume.iloc[1:])
    shares = session.volume / session.mid
    np.testing.assert_allclose(fine.volume[:, :3], shares.iloc[1:])
    coarse_session = session.resample(300.0)
    coarse = replay_market(coarse_session, index_level(coarse_session, None), leg, names, FUTURE)
    assert coarse.instruments[-1] == FUTURE
    # Buckets of five minutes on bars of one: all bars between two bounds count, for the future as for the names.
    np.testing.assert_allclose(coarse.volume[:, -1], leg.volume.iloc[5:].to_numpy().reshape(-1, 5).sum(axis=1))
    np.testing.assert_allclose(coarse.mid[:, -1], leg.mid.iloc[4::5])
    np.testing.assert_allclose(coarse.half_spread[:, 0], coarse_session.spread.iloc[:, 0] / 2.0)


@pytest.mark.parametrize("how", ["no quotes", "no bars", "no bars at the end"])
def test_a_gap_in_the_future_is_told(market: cw.MarketData, session: cw.MarketEvents, how: str):
    quotes = market.futures["SIM"]
    expiry = quotes.front(session.days[0])
    fields = ("bid", "ask", "bid_size", "ask_size", "volume")

    def without(bars: slice) -> object:
        if how == "no quotes":
            return replace(quotes, **{f: _blank(getattr(quotes, f), bars) for f in fields[:4]})
        drop = quotes.index[bars]
        return replace(quotes, **{f: getattr(quotes, f).drop(drop) for f in fields})

    start = len(session.index) - 6 if how == "no bars at the end" else 20
    short = FuturesLeg.of_session(without(slice(start, start + 5)), expiry, session)  # type: ignore[arg-type]
    assert short.mid.notna().all()
    with pytest.raises(DataGap, match="not quoted all through"):
        FuturesLeg.of_session(without(slice(start, start + 6)), expiry, session)  # type: ignore[arg-type]


def _blank(frame: pd.DataFrame, bars: slice) -> pd.DataFrame:
    out = frame.copy()
    out.iloc[bars] = np.nan
    return out


def test_clocks_that_never_meet_are_told(session: cw.MarketEvents, leg: FuturesLeg):
    shifted = replace(leg, mid=leg.mid.set_axis(leg.mid.index + pd.Timedelta(seconds=1), axis=0))
    with pytest.raises(DataGap, match="in common"):
        replay_market(session, index_level(session, None), shifted, session.names)


@pytest.mark.parametrize("bars", [-60, -1, 1, 3])
def test_a_shifted_clock_shows_whatever_the_proxy(session: cw.MarketEvents, leg: FuturesLeg, bars: int):
    level = index_level(session, None)
    poor = level * (1.0 + np.random.default_rng(0).normal(0.0, 3e-4, len(level)).cumsum())
    shifted = replace(leg, mid=leg.mid.set_axis(leg.mid.index + bars * pd.Timedelta(minutes=1), axis=0))
    assert clock_correlation(level, leg) > 0.9
    for proxy in (level, poor):
        assert clock_margin(proxy, leg) > 0.1
        assert clock_margin(proxy, shifted) < 0.1


def test_the_future_moves_like_its_index(market: cw.MarketData):
    """K̃ = T'KT by hand: with one name as the whole index, the future is that name, √r as strong in each role."""
    from crosswind.problems.impact import truth_model

    model = truth_model(market.truth, 60.0)
    names = tuple(reversed(model.names))
    weights = pd.Series({names[0]: 1.0})
    for mode, base in zip(impact_with_future(model, names, weights, 0.25), model.modes(), strict=True):
        flipped = base.matrix[::-1, ::-1]
        np.testing.assert_allclose(mode.matrix[:-1, :-1], flipped)
        np.testing.assert_allclose(mode.matrix[-1, :-1], 0.5 * flipped[0])
        assert mode.matrix[-1, -1] == pytest.approx(0.25 * flipped[0, 0])
    thick = impact_with_future(model, names, weights, 4.0)
    assert thick[0].matrix[-1, -1] == pytest.approx(model.modes()[0].matrix[::-1, ::-1][0, 0])


def test_ends_of_the_grid_are_named():
    grids = tuning_grids(1e-6, 20)
    assert len({len(next(iter(grid.values()))) for _, grid in grids.values()}) == 1
    inner = {label: {k: v[len(v) // 2] for k, v in grid.items()} for label, (_, grid) in grids.items()}
    assert at_the_edge(inner, grids) == []
    inner["P2 batched"] = {"every": 10}
    assert at_the_edge(inner, grids) == ["P2 batched"]


def test_a_roll_between_the_days_keeps_all_training_parents(market: cw.MarketData):
    """The front expiry changes before the last day: what was tuned on the old contract is judged on the new one."""
    quotes = market.futures["SIM"]
    first, second = sorted(quotes.volume.columns)[:2]
    days = market.events.days
    volume = quotes.volume.copy()
    swapped = quotes.index.tz_convert(market.events.tz).date == days[1]  # volume of the eve of the last day decides
    volume.loc[swapped, [first, second]] = volume.loc[swapped, [second, first]].to_numpy()
    rolled = replace(market, futures={"SIM": replace(quotes, volume=volume)})
    train, test = split_days(rolled.events)
    fitted = fit_stage(train, test, rolled.truth, {"joint": cw.CrossImpact(ridge=1.0)})
    planned = schedule_stage(
        train,
        test,
        fitted.model,
        index=None,
        inventory=None,
        basket_adv=0.02,
        slice_s=300.0,
        participation=0.1,
        risk_aversion=None,
    )
    few = HedgeAssumptions(parent_s=2700.0, stride_s=2700.0, horizon=5)
    stage = hedge_stage(rolled, train, test, fitted.model, planned, index=None, seed=0, assumptions=few)
    assert stage is not None
    assert stage.settings["future"] == f"SIM {second}"
    assert stage.settings["parent_minutes"] == 45
    assert any(f"fitting days were hedged with SIM {first}" in note for note in stage.notes)
    assert any("4 training and 2 test parents" in note for note in stage.notes)
    assert not any("overlap" in note for note in stage.notes)
    assert stage.worst_ledger_error <= 1e-9
    # Buying the cash later means a long future now: at the first bounds the hedge has the sign of ΣβQ.
    for (_, policy), run in stage.comparison.replays.items():
        if policy in ("P1 immediate", "P4 MPC"):
            assert np.sign(run.held.iloc[2]) == np.sign(run.to_frame()["beta_q"].iloc[0])


def test_the_leg_is_half_of_the_quoted_spread(market: cw.MarketData, session: cw.MarketEvents, leg: FuturesLeg):
    quotes = market.futures["SIM"]
    expiry = quotes.front(session.days[0])
    wide = (quotes.ask[expiry] - quotes.bid[expiry]).reindex(leg.half_spread.index)
    np.testing.assert_allclose(2.0 * leg.half_spread, wide)


def test_forecasts_by_hand(market: cw.MarketData, leg: FuturesLeg):
    """Betas, variance and depth ratio from returns and volumes within sessions, by loops over the sessions."""
    train = market.events.on(market.events.days[:2])
    level = index_level(train, None)
    own, index = [], []
    for day in train.days:
        inside = (train.session == day).to_numpy()
        own.append(train.mid[inside].iloc[4::5].pct_change().dropna())
        index.append(level[inside].iloc[4::5].pct_change().dropna())
    returns, x = pd.concat(own), pd.concat(index)
    raw = returns.apply(lambda r: np.cov(r, x)[0, 1] / np.var(x, ddof=1))
    np.testing.assert_allclose(betas_to_index(train, level), (raw + 0.1) / 1.1, rtol=1e-9)
    assert _variance_per_s(train, level) == pytest.approx(np.var(x, ddof=1) / 300.0)
    traded = float((leg.volume * leg.mid).sum() * leg.multiplier)
    expected = min(1.0, float(train.volume["N01"].sum()) / (1e3 * traded))
    many = [leg] * 1000
    assert expected < 1.0
    assert _depth_ratio(train, many, "N01") == pytest.approx(expected)
