"""Sizes of hedges: the playbook's examples to the digit, closed forms, what-ifs, and refusals."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.hedge.sizing import SpotBook, listed, size_hedge
from crosswind.problems.market.contracts import contract
from crosswind.solvers.errors import DataGap, InvalidInput

BTC = SpotBook({"BTC": 5.0}, {"BTC": 65_000.0})
PERP = listed("binance:BTCUSDT", 65_000.0)
ETH = listed("binance:ETHUSDT", 3_500.0)
MIXED = SpotBook({"BTC": 3.0, "ETH": 40.0}, {"BTC": 65_000.0, "ETH": 3_500.0})


# the playbook's worked examples --------------------------------------------------------------------------------------


def test_five_bitcoin_are_five_contracts():
    size = size_hedge(BTC, PERP.with_(lot=1.0))
    assert BTC.worth["BTC"] == 325_000.0
    assert PERP.per_contract == 65_000.0
    assert size["BTCUSDT"] == -5.0
    assert size.exposures().loc["BTC", "net_beta"] == 0.0


def test_half_a_hedge_is_two_and_a_half_contracts_and_halves_the_loss():
    size = size_hedge(BTC, PERP, ratio=0.5)
    assert size["BTCUSDT"] == -2.5
    table = size.what_if(-0.10)
    assert table.loc[("BTC", "spot")].tolist() == pytest.approx([325_000.0, -32_500.0, 292_500.0])
    assert table.loc[("BTCUSDT", "futures"), "change"] == pytest.approx(16_250.0)
    assert table.loc[("net", "")].tolist() == pytest.approx([325_000.0, -16_250.0, 308_750.0])
    # One contract of a whole coin cannot do halves: the nearest lots are as good as each other, and one is taken.
    assert size_hedge(BTC, PERP.with_(lot=1.0), ratio=0.5)["BTCUSDT"] in (-2.0, -3.0)
    assert size_hedge(BTC, PERP.with_(lot=1.0), ratio=0.5, rounding="exact")["BTCUSDT"] == pytest.approx(-2.5)


def test_a_mixed_portfolio_at_sixty_per_cent():
    size = size_hedge(MIXED, [PERP, ETH], ratio=0.6)
    assert MIXED.worth.tolist() == [195_000.0, 140_000.0]
    assert float(MIXED.worth.sum()) == 335_000.0
    assert size.contracts.tolist() == [-1.8, -24.0]
    assert size.exposures()["hedge_ratio"].tolist() == pytest.approx([0.6, 0.6], abs=1e-12)
    covered = pd.DataFrame(np.array([[9e-4, 7e-4], [7e-4, 1.2e-3]]), index=["BTC", "ETH"], columns=["BTC", "ETH"])
    assert size_hedge(MIXED, [PERP, ETH], ratio=0.6, covariance=covered).contracts.tolist() == [-1.8, -24.0]
    apart = size_hedge(MIXED, [PERP, ETH], ratio={"BTC": 0.6, "ETH": 0.0})
    assert apart.contracts.tolist() == [-1.8, 0.0]


# closed forms --------------------------------------------------------------------------------------------------------


def test_index_futures_by_hand():
    """N = H·β·V/(m·F), to the nearest whole contract, through the contract table."""
    book = SpotBook({"IBM": 60_000.0, "BAC": 400_000.0}, {"IBM": 190.0, "BAC": 14.0}, currency="USD")
    es = listed("ES", 1_690.0, "SPX", month="201312", on="2013-10-07")
    size = size_hedge(book, es, {"IBM": 0.7, "BAC": 1.4})
    beta_value = 0.7 * 60_000 * 190 + 1.4 * 400_000 * 14
    assert size.exact.iloc[0] == pytest.approx(-beta_value / (50 * 1_690))
    assert size["ES 201312"] == -float(round(beta_value / (50 * 1_690)))
    assert str(es.expires) == "2013-12-20 14:30:00+00:00"
    short = size_hedge(SpotBook(-book.units, book.prices), es, {"IBM": 0.7, "BAC": 1.4})
    assert short["ES 201312"] == -size["ES 201312"]


def test_one_factor_over_two_contracts_shares_by_basis_risk():
    """With h_j = β exposures and basis variances ω², the best split of one exposure is in inverse proportion to ω²."""
    near = PERP.with_(name="perp", basis_vol=0.001)
    far = listed("BTCUSDT_QUARTER", 66_000.0, month="202409", basis_vol=0.002)
    size = size_hedge(BTC, [near, far], covariance=0.03**2, rounding="exact")
    split = size.notionals
    assert split["perp"] / split.iloc[1] == pytest.approx(4.0, rel=1e-9)
    s2, w1, w2, e = 0.03**2, 1e-6, 4e-6, 325_000.0
    both = e * s2 / (s2 + 1.0 / (1 / w1 + 1 / w2))
    assert -float(split.sum()) == pytest.approx(both, rel=1e-9)
    assert size.volatility()["basis"] == pytest.approx(np.hypot(split["perp"] * 0.001, split.iloc[1] * 0.002))


def test_a_proxy_hedge_over_two_factors_is_the_regression():
    """SOL with betas to BTC and ETH, hedged with BTC alone: n = −(β_b + β_e·Σ_be/Σ_bb)·V/F."""
    sigma = pd.DataFrame([[9e-4, 8e-4], [8e-4, 1.6e-3]], index=["BTC", "ETH"], columns=["BTC", "ETH"])
    betas = pd.DataFrame({"BTC": [0.4], "ETH": [0.7]}, index=["SOL"])
    book = SpotBook({"SOL": 1_000.0}, {"SOL": 150.0})
    size = size_hedge(book, PERP, betas, covariance=sigma, rounding="exact")
    assert size["BTCUSDT"] == pytest.approx(-(0.4 + 0.7 * 8 / 9) * 150_000 / 65_000, rel=1e-12)
    left = size.exposures()
    assert left.loc["ETH", "hedge"] == 0.0
    assert left.loc["ETH", "net"] == pytest.approx(105_000.0)
    assert size.volatility()["hedged"] == pytest.approx(105_000 * np.sqrt(1.6e-3 - 8e-4**2 / 9e-4), rel=1e-9)


def test_costs_hold_back_by_the_closed_form():
    """With cost c on |n − n⁰| the optimum stops where the marginal variance is c: e = c/(2λσ²F)."""
    tool, lam, s2 = PERP.with_(half_spread=1e-3, lot=0.001), 1e-5, 9e-4
    size = size_hedge(BTC, tool, covariance=s2, risk_aversion=lam, rounding="exact")
    left = float(size.exposures().loc["BTC", "net"])
    assert left == pytest.approx(1e-3 / (2 * lam * s2), rel=1e-9)
    kept = size_hedge(BTC, tool, covariance=s2, risk_aversion=lam, current={"BTCUSDT": -5.2})
    assert kept["BTCUSDT"] == -5.2  # within the region where a correction is not worth its spread
    assert kept.trade_cost == 0.0
    free = size_hedge(BTC, PERP, covariance=s2, risk_aversion=lam, current={"BTCUSDT": -5.2})
    assert free["BTCUSDT"] == -5.0


def test_a_coin_and_a_short_of_its_value_keep_their_dollars():
    """Inverse contracts: face value, whatever the price; the what-if pays coins at the new price."""
    coin = listed("BTCUSD_PERP", 60_000.0)
    size = size_hedge(SpotBook({"BTC": 2.0}, {"BTC": 60_000.0}), coin)
    assert size["BTCUSD_PERP"] == -1_200.0
    for move in (-0.5, -0.1, 0.3):
        assert float(size.what_if(move)["change"].iloc[-1]) == pytest.approx(0.0, abs=1e-6)


def test_a_short_gains_when_the_basis_narrows():
    """The playbook has it the other way round; the ledger decides: a short of N loses N·Δb."""
    size = size_hedge(BTC, PERP.with_(price=65_650.0, spot=65_000.0), rounding="exact")
    narrows = size.what_if(0.0, basis_move=-0.01)
    assert narrows.loc[("BTCUSDT", "basis"), "change"] == pytest.approx(3_250.0)
    assert narrows.loc[("net", ""), "change"] == pytest.approx(3_250.0)
    assert size.what_if(0.0, {"BTCUSDT": 0.01}).loc[("net", ""), "change"] == pytest.approx(-3_250.0)
    from crosswind.problems.replay import Ledger

    book = Ledger()
    book.book("future", size["BTCUSDT"], 65_650.0, multiplier=1.0)
    assert book.wealth({"future": 65_650.0 * 0.99}) == pytest.approx(3_250.0)


@settings(max_examples=60, deadline=None)
@given(
    units=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=3).filter(lambda u: max(map(abs, u)) > 1e-3),
    ratio=st.floats(0.0, 2.0),
    lot=st.sampled_from([0.001, 0.1, 1.0]),
)
def test_rounding_is_to_the_nearest_lot_and_the_identities_hold(units, ratio, lot):
    names = [f"c{k}" for k in range(len(units))]
    book = SpotBook(dict(zip(names, units, strict=True)), dict.fromkeys(names, 100.0))
    betas = {name: 0.5 + k for k, name in enumerate(names)}
    tool = PERP.with_(price=100.0, loadings={"X": 1.0}, lot=lot)
    size = size_hedge(book, tool, betas, ratio)
    n, exact = size["BTCUSDT"], float(size.exact.iloc[0])
    wanted = -ratio * sum(betas[a] * u for a, u in zip(names, units, strict=True))
    assert exact == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert abs(n - wanted) <= 0.5 * lot * (1 + 1e-6) + 1e-9 * abs(wanted)
    assert abs(n / lot - round(n / lot)) < 1e-6
    table = size.exposures()
    assert table.loc["X", "net"] == pytest.approx(table.loc["X", "spot"] + n * 100.0, abs=1e-6)
    changes = size.what_if(0.07)["change"]
    assert float(changes.iloc[-1]) == pytest.approx(0.07 * float(table.loc["X", "net"]), abs=1e-6)


def test_two_index_futures_in_whole_contracts_against_enumeration():
    rng = np.random.default_rng(1)
    names = [f"s{k}" for k in range(6)]
    book = SpotBook(dict.fromkeys(names, 4_000.0), dict(zip(names, rng.uniform(20, 90, 6), strict=True)))
    betas = pd.DataFrame(rng.uniform(0, 1, (6, 2)), index=names, columns=["SPX", "NDX"])
    sigma = pd.DataFrame([[1e-4, 1.1e-4], [1.1e-4, 1.5e-4]], index=betas.columns, columns=betas.columns)
    tools = [listed("ES", 4_500.0, "SPX", basis_vol=2e-4), listed("NQ", 15_000.0, "NDX", basis_vol=3e-4)]
    size = size_hedge(book, tools, betas, 0.85, sigma)
    M = np.diag([50 * 4_500.0, 20 * 15_000.0])
    omega = np.diag((np.diag(M) * [2e-4, 3e-4]) ** 2)
    b = -0.85 * betas.to_numpy().T @ book.worth.to_numpy()

    def variance(n):
        d = b - M @ np.asarray(n, float)
        return float(d @ sigma.to_numpy() @ d + np.asarray(n) @ omega @ np.asarray(n))

    best = min(itertools.product(range(-12, 4), repeat=2), key=variance)
    assert tuple(size.contracts) == tuple(map(float, best))
    assert size.gap <= 1e-9 * variance(best)


def test_limits_are_kept():
    size = size_hedge(BTC, PERP, limits={"BTCUSDT": (-2.0, 0.0)})
    assert size["BTCUSDT"] == -2.0
    assert size.exposures().loc["BTC", "hedge_ratio"] == pytest.approx(0.4)


def test_reports_show_themselves():
    tool = PERP.with_(basis_vol=5e-4, half_spread=1e-4, fee=5e-4, lot=0.01)
    size = size_hedge(BTC, tool, ratio=0.8, covariance=9e-4, residual_vol={"BTC": 0.001}, horizon_days=4)
    text = size.summary()
    for word in ("short 4 contracts", "hedge ratio 0.8", "net beta 0.2", "basis VaR 95 %", "a 10 % fall"):
        assert word in text
    assert size.basis_var() == pytest.approx(1.6448536269514722 * 260_000 * 5e-4 * 2.0)
    assert size.basis_var(0.99, days=1.0) == pytest.approx(2.3263478740408408 * 260_000 * 5e-4)
    sd = size.volatility()
    assert sd["hedged"] ** 2 == pytest.approx(sd["factor"] ** 2 + sd["basis"] ** 2 + sd["residual"] ** 2)
    assert sd["unhedged"] == pytest.approx(2.0 * np.hypot(325_000 * 0.03, 325_000 * 0.001))
    assert size.to_frame().loc["BTCUSDT", "cost"] == pytest.approx(6e-4 * 260_000)
    grid = size.grid([-0.1, 0.0, 0.1])
    assert grid["net"].tolist() == pytest.approx([-6_500.0, 0.0, 6_500.0])
    assert "5" in BTC.summary()
    assert "BTCUSDT" in repr(tool)
    assert len(tool.to_frame()) == 1
    with pytest.raises(FrozenInstanceError):
        size.gap = 1.0  # type: ignore[misc]
    unknown = size_hedge(BTC, PERP)
    with pytest.raises(InvalidInput, match="covariance"):
        unknown.volatility()


# refusals ------------------------------------------------------------------------------------------------------------

SIGMA = pd.DataFrame([[1.0, 1.0], [1.0, 1.0]], index=["BTC", "ETH"], columns=["BTC", "ETH"])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SpotBook({"BTC": 1.0}, {"BTC": 0.0}), "must be positive for BTC"),
        (lambda: SpotBook({"BTC": 1.0}, {"BTC": -5.0}), "must be positive"),
        (lambda: SpotBook({"BTC": float("nan")}, {"BTC": 1.0}), "not finite for BTC"),
        (lambda: SpotBook({"BTC": 0.0}, {"BTC": 1.0}), "nothing is held"),
        (lambda: SpotBook({"BTC": "x"}, {"BTC": 1.0}), "no numbers"),
        (lambda: SpotBook([1.0], {"BTC": 1.0}), "not by name"),
        (lambda: listed("DOGEUSDT", 1.0), "no such contract"),
        (lambda: listed("binance:BTCUSDT", 0.0), "price of BTCUSDT: must be positive"),
        (lambda: listed("binance:BTCUSDT", 1.0, month="202409"), "no month"),
        (lambda: PERP.with_(lot=0.0005), "no multiple"),
        (lambda: PERP.with_(loadings={"BTC": 0.0}), "loads on nothing"),
        (lambda: PERP.with_(basis_vol=-1.0), "at least 0"),
        (lambda: PERP.with_(initial=0.05, maintenance=0.1), "exceeds the initial"),
        (lambda: listed("ES", 1.0, expires=pd.Timestamp("2024-01-01")), "naive"),
        (lambda: size_hedge(BTC, PERP, ratio=-0.1), "negative"),
        (lambda: size_hedge(BTC, PERP, ratio=float("nan")), "finite"),
        (lambda: size_hedge(BTC, PERP, {"BTC": float("inf")}), "not finite"),
        (lambda: size_hedge(MIXED, [PERP, ETH], covariance=SIGMA), "singular"),
        (lambda: size_hedge(MIXED, [PERP, ETH], covariance=-SIGMA), "singular or not positive"),
        (lambda: size_hedge(MIXED, [PERP, ETH], covariance=SIGMA * np.nan), "not finite"),
        (lambda: size_hedge(MIXED, [PERP, ETH], covariance=0.1), "several factors"),
        (lambda: size_hedge(MIXED, [PERP, ETH], {"BTC": 1.0, "ETH": 1.0}), "several factors"),
        (lambda: size_hedge(BTC, [PERP, PERP.with_(name="twin")]), "cannot be told apart"),
        (lambda: size_hedge(BTC, [PERP, PERP]), "occurs twice"),
        (lambda: size_hedge(BTC, []), "no instruments"),
        (lambda: size_hedge(BTC, [PERP, listed("FESX", 5_000.0, "BTC")]), "different currencies"),
        (lambda: size_hedge(SpotBook(BTC.units, BTC.prices, "EUR"), PERP), "different currencies"),
        (lambda: size_hedge(BTC, PERP, current={"x": 1.0}), "not among"),
        (lambda: size_hedge(BTC, PERP, limits={"x": (0, 1)}), "not among"),
        (lambda: size_hedge(BTC, PERP, limits={"BTCUSDT": (1, 0)}), "lowest and a highest"),
        (lambda: size_hedge(BTC, PERP, rounding="up"), "unknown"),
        (lambda: size_hedge(BTC, PERP, risk_aversion=0.0), "more than 0"),
        (lambda: size_hedge(BTC, PERP, covariance=0.0), "more than 0"),
        (lambda: size_hedge(BTC, PERP, residual_vol={"BTC": -0.1}), "negative"),
        (lambda: size_hedge(BTC, PERP).what_if(-1.0), "cannot fall by all"),
        (lambda: size_hedge({"BTC": 5.0}, PERP), "not a SpotBook"),
        (
            lambda: size_hedge(MIXED, [PERP, ETH], covariance=SIGMA * np.array([[1.0, 0.3], [0.1, 1.0]])),
            "not symmetric",
        ),
        (lambda: size_hedge(BTC, PERP, pd.DataFrame([[1.0, 1.0]], ["BTC"], ["BTC", "BTC"])), "factor occurs twice"),
        (lambda: size_hedge(BTC, PERP, ratio="half"), "not a number"),
        (lambda: PERP.with_(name=""), "no name"),
        (lambda: PERP.with_(spec="BTCUSDT"), "not a ContractSpec"),
        (lambda: PERP.with_(expires=pd.Timestamp("2024-06-28", tz="UTC")), "no expiry"),
        (lambda: size_hedge(BTC, PERP).what_if({"X": 0.1}), "unknown name"),
        (lambda: size_hedge(BTC, PERP).what_if(0.0, -1.5), "falls to nothing"),
        (lambda: size_hedge(BTC, PERP).basis_var(0.3), "within"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(make, match):
    with pytest.raises(InvalidInput, match=match) as caught:
        make()
    assert caught.value.field


def test_gaps_are_named():
    book = SpotBook({"SOL": 1.0, "BTC": 1.0}, {"SOL": 100.0, "BTC": 1.0})
    with pytest.raises(DataGap, match="SOL"):
        size_hedge(book, PERP)
    with pytest.raises(DataGap, match="SOL"):
        size_hedge(book, PERP, {"BTC": 1.0})
    with pytest.raises(DataGap, match="BTC"):
        SpotBook({"BTC": 1.0}, {"ETH": 1.0})
    with pytest.raises(DataGap, match="ETH"):
        size_hedge(MIXED, [PERP, ETH], pd.DataFrame({"BTC": [1.0, 1.0]}, index=["BTC", "ETH"]))
    with pytest.raises(DataGap, match="ETH"):
        size_hedge(MIXED, [PERP, ETH], covariance=SIGMA.loc[["BTC"], ["BTC"]])
    with pytest.raises(DataGap):
        listed("ES", 4_000.0, month="201312", on="1990-01-01")


def test_the_lot_is_the_exchanges():
    assert contract("binance:BTCUSDT").lot == PERP.step == 0.001
    assert listed("ES", 4_000.0).step == 1.0
