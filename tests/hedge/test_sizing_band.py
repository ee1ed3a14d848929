"""Bands against simulation, strategies against the playbook's errors, figures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.hedge.sizing import (
    SpotBook,
    defensive,
    gap_drift,
    listed,
    neutral_carry,
    plots,
    resize_band,
    size_hedge,
    transition,
)
from crosswind.problems.market.funding import FundingRates
from crosswind.solvers.errors import InvalidInput

BTC = SpotBook({"BTC": 5.0}, {"BTC": 65_000.0})
PERP = listed("binance:BTCUSDT", 65_000.0)


# the band ------------------------------------------------------------------------------------------------------------


def simulated(half_width, to_edge, cost, fixed, nu, kappa, days=4_000, steps=400, seed=0):
    """Cost a day and mean of G² of a random walk that is traded back to the edge or the middle."""
    rng = np.random.default_rng(seed)
    move = rng.normal(0.0, nu / math.sqrt(steps), (64, days * steps // 64))
    gap = np.zeros(64)
    traded = hits = squares = 0.0
    for column in move.T:
        gap = gap + column
        out = np.abs(gap) > half_width
        back = np.where(out, np.sign(gap) * (half_width if to_edge else 0.0), gap)
        traded += np.abs(gap - back).sum()
        hits += out.sum()
        gap = back
        squares += (gap**2).sum()
    total_days = move.size / steps
    return (cost * traded + fixed * hits) / total_days, squares / move.size


@pytest.mark.parametrize("fixed", [0.0, 2.0])
def test_the_band_costs_what_its_formula_says(fixed):
    nu, cost, lam, s2 = 1_000.0, 5e-3, 1e-3, 1e-3
    band = resize_band(nu, cost, lam, s2, fixed=fixed)
    money, variance = simulated(band.half_width, band.to_edge, cost, fixed, nu, lam * s2)
    # A walk in steps overshoots the edge by .58 of a step's size; with 400 steps a day that is a few per cent here.
    assert money == pytest.approx(band.cost_per_day, rel=0.1)
    assert variance == pytest.approx(band.variance, rel=0.1)
    assert band.to_edge is (fixed == 0.0)


@pytest.mark.parametrize("fixed", [0.0, 0.1, 50.0])
def test_the_band_is_of_least_cost(fixed):
    nu, cost, lam, s2 = 2_000.0, 2e-3, 1e-4, 9e-4
    band, kappa = resize_band(nu, cost, lam, s2, fixed=fixed), lam * s2

    def total(w):
        if fixed == 0.0:
            return kappa * w * w / 3 + cost * nu**2 / (2 * w)
        return kappa * w * w / 6 + (fixed + cost * w) * nu**2 / w**2

    best = total(band.half_width)
    assert all(total(band.half_width * k) > best for k in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))
    assert kappa * band.variance + band.cost_per_day == pytest.approx(best, rel=1e-9)
    if fixed == 0.0:
        assert band.half_width == pytest.approx((3 * cost * nu**2 / (4 * kappa)) ** (1 / 3))


def test_trades_of_the_band():
    edge = resize_band(1_000.0, 5e-3, 1e-3, 1e-3)
    w = edge.half_width
    assert edge.check(0.999 * w) == 0.0
    assert edge.check(w + 10.0) == pytest.approx(10.0)
    assert edge.check(-w - 10.0) == pytest.approx(-10.0)
    middle = resize_band(1_000.0, 5e-3, 1e-3, 1e-3, fixed=2.0)
    assert middle.check(middle.half_width + 1.0) == pytest.approx(middle.half_width + 1.0)
    assert resize_band(1_000.0, 0.0, 1e-3, 1e-3).half_width == 0.0
    assert resize_band(0.0, 1e-3, 1e-3, 1e-3).trades_per_day == 0.0
    assert resize_band(10.0, 1e-6, 1e-3, 1e-3, step=65_000.0).half_width == 32_500.0
    assert "size again when" in edge.summary()
    assert len(edge.to_frame()) == 1
    with pytest.raises(InvalidInput, match="finite"):
        edge.check(float("nan"))
    for bad in ((-1.0, 0.1, 1.0, 1.0), (1.0, -0.1, 1.0, 1.0), (1.0, 0.1, 0.0, 1.0), (1.0, 0.1, 1.0, float("inf"))):
        with pytest.raises(InvalidInput):
            resize_band(*bad)


def test_the_gap_drifts_as_values_and_composition_do():
    """dG of one day against revaluing everything: betas of .5 and 1.5 that are netted to 1 still drift."""
    book = SpotBook({"A": 100.0, "B": 100.0}, {"A": 50.0, "B": 50.0})
    betas = {"A": 0.5, "B": 1.5}
    rng, held = np.random.default_rng(0), 10_000.0
    x, e = rng.normal(0, 0.02, 100_000), rng.normal(0, 0.01, (100_000, 2))
    b = np.array([0.5, 1.5])
    after = 5_000.0 * (1.0 + np.outer(x, b) + e)
    gap = after @ b - held * (1.0 + x)
    nu = gap_drift(book, betas, held, 0.02, 0.01)
    assert nu == pytest.approx(gap.std(), rel=0.01)
    # Beta one, fully hedged: what the market does to the spot it does to the hedge.
    assert gap_drift(BTC, {"BTC": 1.0}, 325_000.0, 0.03) == 0.0
    assert gap_drift(BTC, {"BTC": 1.0}, 0.5 * 325_000.0, 0.03, ratio=0.5) == 0.0
    assert gap_drift(BTC, {"BTC": 1.0}, 325_000.0, 0.03, beta_drift={"BTC": 0.01}) == pytest.approx(3_250.0)
    with pytest.raises(InvalidInput, match="negative"):
        gap_drift(BTC, {"BTC": 1.0}, 1.0, 0.03, {"BTC": -1.0})
    with pytest.raises(InvalidInput):
        gap_drift(BTC, {"BTC": 1.0}, float("nan"), 0.03)


# strategies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.7, 0.8, 0.9])
def test_defensive(ratio):
    size = defensive(BTC, PERP, ratio)
    assert size["BTCUSDT"] == pytest.approx(-5.0 * ratio)
    assert float(size.what_if(-0.2)["change"].iloc[-1]) == pytest.approx(-0.2 * 325_000 * (1 - ratio))
    with pytest.raises(InvalidInput, match="70 to 90"):
        defensive(BTC, PERP, 0.5)


def test_neutral_carry_is_long_spot_and_short_perpetual():
    """The playbook has long both: that doubles the exposure and pays the funding."""
    size = neutral_carry(BTC, PERP)
    assert size["BTCUSDT"] == -5.0
    for move in (-0.3, 0.3):
        assert float(size.what_if(move)["change"].iloc[-1]) == pytest.approx(0.0, abs=1e-9)
    span = ("2024-03-01T00:00Z", "2024-03-31T00:00Z")
    earned = size.carry(*span, {"BTCUSDT": 1e-4}).total
    assert earned == pytest.approx(90 * 32.5)
    # Long both, by the same functions: a short of −V is hedged with a long of V, beside a long spot.
    both = size_hedge(SpotBook({"BTC": -5.0}, {"BTC": 65_000.0}), PERP)
    assert both["BTCUSDT"] == 5.0
    assert both.carry(*span, {"BTCUSDT": 1e-4}).total == pytest.approx(-earned)
    assert 325_000.0 + float(both.notionals.sum()) == 650_000.0
    for bad, match in (
        (lambda: neutral_carry(SpotBook({"BTC": -5.0}, {"BTC": 65_000.0}), PERP), "spot long"),
        (lambda: neutral_carry(BTC, listed("BTCUSDT_QUARTER", 65_000.0)), "only perpetuals"),
        (lambda: neutral_carry(BTC, PERP, ratio=0.5), "is 1"),
        (lambda: neutral_carry(BTC, PERP, betas={"BTC": -1.0}), "came out long"),
    ):
        with pytest.raises(InvalidInput, match=match):
            bad()


def test_a_transition_keeps_seventy_per_cent():
    """Selling 30 % while the short of 30 % is bought back keeps 70 % net; keeping the short would leave 40 %."""
    times = pd.date_range("2024-03-01", periods=5, freq="7D", tz="UTC")
    sold = pd.Series([0.0, 0.25, 0.5, 0.75, 1.0], index=times)
    plan = transition(BTC, PERP, 0.3, sold)
    assert plan.net.to_numpy() == pytest.approx(np.full(5, 0.7 * 325_000))
    assert plan.table["contracts"].tolist() == pytest.approx([-1.5, -1.125, -0.75, -0.375, 0.0])
    assert plan.table["trade"].sum() == pytest.approx(0.0)
    assert plan.table["spot"].iloc[-1] + plan.table["short"].iloc[0] == pytest.approx(0.4 * 325_000)
    lots = transition(BTC, PERP.with_(lot=0.5), 0.3, sold)
    assert set(lots.table["contracts"] * 2 % 1) == {0.0}
    assert (lots.net - 0.7 * 325_000).abs().max() <= 0.5 * 0.5 * 65_000 + 1e-6
    assert "30% in transition" in plan.summary()
    for bad, match in (
        (lambda: transition(BTC, PERP, 1.3, sold), "more than all"),
        (lambda: transition(BTC, PERP, 0.3, sold[::-1].set_axis(times)), "must rise"),
        (lambda: transition(BTC, PERP, 0.3, sold.tz_localize(None)), "naive"),
        (lambda: transition(BTC, PERP, 0.3, sold * np.nan), "not finite"),
        (lambda: transition(SpotBook({"A": 1, "B": 1}, {"A": 1, "B": 1}), PERP, 0.3, sold), "one line"),
    ):
        with pytest.raises(InvalidInput, match=match):
            bad()


def test_figures_state_units_and_draw_what_is_in_the_tables():
    size = size_hedge(BTC, PERP, ratio=0.5)
    curve = size.plot()
    assert [trace.name for trace in curve.data] == ["spot", "futures", "net"]
    assert curve.data[2].y[0] == pytest.approx(-0.3 * 162_500)
    bars = plots.what_if_bars(size)
    assert bars.data[0].measure[-1] == "total"
    assert list(bars.data[0].y[:2]) == pytest.approx([-32_500.0, 16_250.0])
    assert [trace.name for trace in plots.exposure_bars(size).data] == ["spot", "hedge", "net"]
    times = pd.date_range("2024-03-01", periods=3, freq="8h", tz="UTC")
    plan = transition(BTC, PERP, 0.3, pd.Series([0.0, 0.5, 1.0], index=times))
    assert list(plan.plot().data[2].y) == pytest.approx([227_500.0] * 3)
    paid = plots.funding_path(FundingRates("X", pd.Series([1e-4, 1e-4, -1e-4], index=times)), 1e6)
    assert list(paid.data[0].y) == pytest.approx([100.0, 200.0, 100.0])
    for fig in (curve, bars, plan.plot(), paid):
        assert "[currency" in fig.layout.yaxis.title.text
