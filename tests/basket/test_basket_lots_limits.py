"""Whole lots within every limit: random baskets, tight limits that need repair, clips, and refusals by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.limits import TradeLimit
from crosswind.problems.basket import BasketProblem, BasketSchedule
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.repair import LotRounding
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, LimitBreach

Maker = Callable[..., BasketProblem]
Seeded = Callable[[int], BasketProblem]


def check(schedule: BasketSchedule, shares: pd.DataFrame, price: pd.Series, lot: float, clip: float) -> None:
    """Recount every limit in plain numpy from the problem's inputs, to 1e-9 of each."""
    p = schedule.problem
    a = p.arrays
    n = np.rint(shares.to_numpy() / lot)
    np.testing.assert_allclose(n * lot, shares.to_numpy(), rtol=0.0, atol=1e-9)
    worth = price[list(p.names)].to_numpy() * lot
    total = np.rint(schedule.trades.to_numpy().sum(axis=0) / worth)
    assert (n.sum(axis=0) == total).all()
    u = n * worth
    assert (np.abs(n[n != 0]) * lot >= clip * (1.0 - 1e-9)).all()
    if a.participation_cap is not None:
        assert (np.abs(u) <= a.participation_cap * (1.0 + 1e-9) + 1e-9).all()
    if not p.allow_reversal:
        orders = len(p.order_names)
        assert (u[:, :orders] * np.sign(a.inventory - a.target)[:orders] >= 0.0).all()
    assert (u[p._blocked_cells() | p._finish_cells()] == 0.0).all()
    membership, cap, _ = p._sector_rows()
    assert (np.abs(u) @ membership.T <= cap * (1.0 + 1e-9)).all()
    # What is still to trade, in whole lots.
    start = np.where(a.hard, a.target + total * worth, a.inventory)
    q = start - np.cumsum(u, axis=0)
    gross = np.abs(start).sum()
    if p.cash_band is not None:
        assert np.abs(q[:, ~a.hedge].sum(axis=1)).max() <= p.cash_band + 1e-9 * gross
    if p.beta_band is not None:
        assert p.beta is not None
        beta = p.beta[list(p.names)].to_numpy()
        assert np.abs(q @ beta).max() <= p.beta_band + 1e-9 * np.abs(beta) @ np.abs(start)
    if isinstance(p.factor_band, pd.DataFrame):
        assert p.factor_exposures is not None
        for factor in p.factor_band.index:
            row = p.factor_exposures.loc[list(p.names), factor].to_numpy()
            slack = 1e-9 * np.abs(row) @ np.abs(start)
            assert (q @ row).max() <= p.factor_band.loc[factor, "upper"] + slack
            assert (q @ row).min() >= p.factor_band.loc[factor, "lower"] - slack
    change = p._change_limits()
    if change is not None:
        before = u[:1] if change[1] is None else change[1][None, :]
        assert (np.abs(np.diff(np.vstack([before, u]), axis=0)) <= change[0] * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("block", range(6))
def test_random_baskets_in_random_lots(block: int, random_basket: Seeded) -> None:
    kept, named = 0, []
    for seed in range(10 * block, 10 * block + 10):
        problem = random_basket(seed)
        if problem.parent_notional == 0.0:
            continue
        try:
            schedule = problem.solve()
        except InfeasibleProblem:
            continue
        rng = np.random.default_rng(seed)
        price = pd.Series(rng.uniform(5.0, 300.0, problem.n_names), list(problem.names))
        lot = float(rng.choice([1, 10, 100]))
        clip = lot * float(rng.integers(1, 12))
        try:
            shares = schedule.shares(price, lot=lot, min_clip=clip)
        except LimitBreach as refusal:
            named += [bool(refusal.field and refusal.remedy and "a lot of" in str(refusal))]
            continue
        check(schedule, shares, price, lot, clip)
        kept += 1
    assert kept >= 8
    assert all(named)


def tight(names: int, slices: int, seed: int) -> BasketProblem:
    """Return a basket whose sector caps and cash band bind, or, for an odd seed, whose trades ramp up as they may."""
    problem = basket_instance(names, slices, seed=seed)
    if seed % 2:
        ramp = {"max_change": 0.06 * problem.inventory.abs(), "previous_trade": 0.0 * problem.inventory}
        return problem.replace(sector_cap=None, risk_aversion=1e-5, **ramp)
    caps, band = problem.sector_cap, problem.cash_band
    return problem.replace(sector_cap=0.75 * caps, cash_band=0.85 * band)  # type: ignore[operator]


@pytest.mark.parametrize(("names", "slices", "seed"), [(8, 10, 2), (10, 13, 1)])
@pytest.mark.parametrize("lot", [1.0, 100.0, 500.0])
def test_limits_that_bind_are_kept_by_moving_lots(
    names: int, slices: int, seed: int, lot: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = tight(names, slices, seed)
    schedule = problem.solve()
    assert ("max change" if seed % 2 else "sector cap") in set(schedule.prices_bps["limit"])
    price = pd.Series(np.random.default_rng(0).uniform(20.0, 200.0, names), list(problem.names))
    repaired: list[int] = []
    repair = LotRounding._repair
    monkeypatch.setattr(LotRounding, "_repair", lambda self, *a: repaired.append(1) or repair(self, *a))
    check(schedule, schedule.shares(price, lot=lot, min_clip=2.0 * lot), price, lot, 2.0 * lot)
    assert repaired  # the nearest lots alone would have broken a limit


def test_the_repair_stays_near_the_schedule() -> None:
    problem = tight(8, 10, 2)
    schedule = problem.solve()
    price = pd.Series(50.0, list(problem.names))
    shares = schedule.shares(price, lot=100)
    off = (shares * 50.0 - schedule.trades).abs()
    assert off.max().max() < 3 * 5000.0
    assert off.mean().mean() < 5000.0
    whole = problem.score(shares * 50.0)
    assert whole["total"] == pytest.approx(schedule.costs["total"], rel=2e-3)


def test_a_clip_gathers_small_trades(make: Maker) -> None:
    schedule = make({"IBM": 4e5, "BAC": -3e5, "AIG": 2e5}, slices=8, participation=0.2).solve()
    price = pd.Series({"IBM": 100.0, "BAC": 50.0, "AIG": 25.0})
    assert (schedule.shares(price).abs() < 1500).any(axis=None)
    shares = schedule.shares(price, min_clip=1500)
    assert ((shares == 0) | (shares.abs() >= 1500)).all(axis=None)
    assert (shares.sum() == schedule.shares(price).sum()).all()
    by_name = schedule.shares(price, lot=10, min_clip=pd.Series({"IBM": 10, "BAC": 995, "AIG": 1}))
    assert ((by_name["BAC"] == 0) | (by_name["BAC"].abs() >= 1000)).all()  # a clip is rounded up to lots


def test_a_parent_below_the_clip_is_refused(make: Maker) -> None:
    schedule = make({"IBM": 4e5}).solve()
    with pytest.raises(LimitBreach, match="minimum clip") as refusal:
        schedule.shares(pd.Series({"IBM": 100.0}), min_clip=5000)
    assert "IBM" in str(refusal.value)


def test_lots_that_do_not_fit_the_cap_name_it_and_the_lot(make: Maker) -> None:
    # 0.1 of 2.4e7..1.6e7 per slice; lots of 1.5 M: one lot a slice at most, and the order needs more of them.
    schedule = make({"IBM": 1.1e7}, slices=6).solve()
    with pytest.raises(LimitBreach, match="participation") as refusal:
        schedule.shares(pd.Series({"IBM": 1500.0}), lot=1000)
    assert refusal.value.field == "participation"
    assert "a lot of IBM is 1.5 M" in str(refusal.value)


def test_a_band_narrower_than_a_lot_names_it(make: Maker) -> None:
    problem = make({"IBM": 4e6, "BAC": -4e6}, participation=None, cash_band=1e4)
    schedule = problem.solve()
    fine = pd.Series({"IBM": 100.0, "BAC": 100.0})
    check(schedule, schedule.shares(fine), fine, 1.0, 1.0)
    with pytest.raises(LimitBreach, match="cash band") as refusal:
        schedule.shares(pd.Series({"IBM": 170.0, "BAC": 90.0}), lot=5000)
    assert refusal.value.field == "cash band"
    assert "a lot of" in str(refusal.value)


def test_extra_trade_limits_count_too(make: Maker) -> None:
    problem = make({"IBM": 3e6}, participation=None)
    limit = TradeLimit("desk clip", np.full((6, 1), -np.inf), np.full((6, 1), 5.1e5))
    schedule = problem.replace(extra_limits=(limit,)).solve()
    shares = schedule.shares(pd.Series({"IBM": 100.0}), lot=50)
    assert (shares["IBM"] * 100.0 <= 5.1e5).all()
    with pytest.raises(LimitBreach, match="desk clip"):
        schedule.shares(pd.Series({"IBM": 100.0}), lot=3000)


def test_a_bad_clip_is_refused(make: Maker) -> None:
    schedule = make().solve()
    price = pd.Series({"IBM": 187.13, "BAC": 34.57, "AIG": 71.91})
    for clip in (-1.0, np.nan, pd.Series({"IBM": 100.0})):
        with pytest.raises(InvalidInput, match="min_clip"):
            schedule.shares(price, min_clip=clip)
