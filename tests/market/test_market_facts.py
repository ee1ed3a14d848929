"""What is known of the recorded data, fact by fact; and that each of its files is read through the public call."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read, read_lean_bars, read_lean_funding, read_lean_futures, read_lean_ticks
from crosswind.problems.market.funding import basis
from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.readers.lean_futures import read_lean_margins
from crosswind.problems.market.readers.lean_ticks import LeanTicks
from crosswind.problems.market.report import ReadReport

pytestmark = pytest.mark.data

DAYS = ("2013-10-07", "2013-10-08", "2013-10-09")
COINS = ("ADA", "ARB", "ATOM", "AVAX", "BNB", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "POL", "SOL", "UNI", "XRP")


@pytest.fixture(scope="module")
def equities(lean_dir):
    return read(f"lean:{lean_dir}")


@pytest.fixture(scope="module")
def minutes(lean_dir):
    return read(f"lean:{lean_dir}", resolution="minute")


@pytest.fixture(scope="module")
def es(lean_dir):
    return read(f"lean:{lean_dir}", security="future")


@pytest.fixture(scope="module")
def perpetuals(lean_dir):
    options = {"security": "cryptofuture"}
    return {market: read(f"lean:{lean_dir}", market=market, **options) for market in ("bybit", "binance")}


@pytest.fixture(scope="module")
def carry(perp_dir):
    return read(f"perp:{perp_dir}")


@pytest.fixture(scope="module")
def raw(raw_dir):
    return read(f"binance-raw:{raw_dir}", bucket_s=1.0)


# --- what is there ---------------------------------------------------------------------------------------------------


def test_equity_days_and_names(equities, minutes):
    assert equities.events.names == ("AIG", "BAC", "IBM", "SPY")
    assert [str(d) for d in equities.events.days] == list(DAYS)
    for name in equities.events.names:
        local = pd.DatetimeIndex(minutes.bars[f"{name}.quote"].frame.index).tz_convert("America/New_York")
        # Bars of the next UTC date's first minute belong to the evening before.
        assert sorted({str(d) for d in local.date}) == ["2013-10-04", *DAYS]


def test_spy_has_no_quote_ticks(lean_dir):
    data = files.find_data(lean_dir)
    for name, present in (("SPY", False), ("IBM", True), ("BAC", True), ("AIG", True)):
        found = {str(d) for d in files.days_of(data / "equity/usa/tick" / name.lower(), "quote")}
        assert found == (set(DAYS) if present else set())
    day = read(f"lean:{lean_dir}", ["SPY"], DAYS[0], quotes="tick")
    assert "no quote ticks" in day.report.instruments["SPY"].facts["quotes"]


def test_es_days_and_expiries(es):
    found = [str(d) for d in es.futures["ES"].days]
    assert found == [
        *("2013-10-06", *DAYS, "2013-10-14", "2013-10-29", "2013-10-30"),
        *("2013-11-18", "2013-12-02", "2013-12-03", "2013-12-18"),
    ]
    assert es.futures["ES"].expiries == ("201312", "201403", "201406", "201409", "201412")


def test_there_is_no_quoted_calendar_spread(lean_dir):
    for path in sorted((files.find_data(lean_dir) / "future/cme/minute/es").glob("*_quote.zip")):
        assert all(len(expiry) == 6 for expiry in files.future_expiries(path))


# --- trades and quotes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"), [("SPY", 241e3, 443e3), ("BAC", 86e3, 125e3), ("AIG", 25e3, 54e3), ("IBM", 19e3, 33.5e3)]
)
def test_trades_in_regular_hours(lean_dir, name, low, high):
    counts = [len(read_lean_ticks(lean_dir, name, day)) for day in DAYS]
    assert low <= min(counts) < max(counts) <= high
    # The range is that of these days, not a loose one.
    assert min(counts) < low * (1.3 if name == "IBM" else 1.1)
    assert max(counts) > high * 0.9


@pytest.mark.parametrize("name", ["IBM", "BAC", "AIG"])
def test_quote_ticks_are_the_national_best_and_bars_are_stamped_at_their_start(lean_dir, name):
    report, data, day = ReadReport(), files.find_data(lean_dir), dt.date(2013, 10, 7)
    (ticks,) = LeanTicks(data, name, (day,), "tick").chunks(report)
    (bars,) = LeanTicks(data, name, (day,), "second").chunks(report)
    known, tape = bars.quotes.known_ns, ticks.quotes
    regular = (known > pd.Timestamp("2013-10-07 13:30", tz="UTC").value) & (
        known <= pd.Timestamp("2013-10-07 20:00", tz="UTC").value
    )

    def agreement(shift_s):
        at = np.searchsorted(tape.known_ns, known[regular] + int(shift_s * 1e9), side="left") - 1
        same = [
            np.isclose(getattr(tape, c)[at], getattr(bars.quotes, c)[regular]) for c in ("bid", "ask", "ask_shares")
        ]
        return float(np.all(same, axis=0).mean())

    # The last bid and the last ask before a bar's end are its close; before its start, they are not.
    assert agreement(0) > 0.9998
    assert agreement(-1) < 0.5
    # Read as one book per exchange, bids lie above asks most of the time.
    wrong = LeanTicks(data, name, (day,), "tick", quote_rows="exchange", life_s=1800)
    own = ReadReport()
    list(wrong.chunks(own))
    crossed = own.by_reason()["crossed between exchanges, the older side taken out"]
    assert crossed > 0.3 * len(tape)


def test_a_price_is_in_ten_thousandths(equities, lean_dir):
    raw = files.read_member(files.find_data(lean_dir) / "equity/usa/tick/spy/20131007_trade.zip", files.TRADE_TICK)
    assert raw["price"].median() == pytest.approx(1e4 * 167.9, rel=0.01)
    assert equities.events.mid["SPY"].median() == pytest.approx(166, rel=0.03)
    assert equities.futures["ES"].mid["201312"].median() == pytest.approx(1660, rel=0.03)


def test_about_ten_bars_a_day_have_no_spread(es, minutes):
    bad = es.report.bad_frame()
    closed = bad[bad["reason"].isin(["locked book", "crossed book"])]
    by_day = closed.groupby(closed["file"].str.extract(r"(\d{8})_quote", expand=False))["rows"].sum()
    assert by_day.to_dict() == {"20131006": 5, "20131007": 9, "20131008": 20, "20131009": 30}
    total = 0
    for name in ("SPY", "IBM", "BAC", "AIG"):
        frame = minutes.bars[f"{name}.quote"].frame.tz_convert("America/New_York").between_time("09:30", "15:59")
        total += int((frame["ask_close"] - frame["bid_close"] < 1e-9).sum())
    assert total == 23  # four names over four days


# --- clocks ----------------------------------------------------------------------------------------------------------


def correlation(es_mid: pd.Series, spy: pd.Series) -> float:
    both = pd.concat([es_mid.rename("es"), spy.rename("spy")], axis=1, join="inner").pct_change().dropna()
    assert len(both) > 150
    return float(both["es"].corr(both["spy"]))


@pytest.mark.parametrize("day", DAYS)
def test_es_is_utc_and_equities_new_york(equities, day):
    spy = equities.events.resample(60).on(day).mid["SPY"]
    mid = equities.futures["ES"].mid["201312"]
    assert 0.97 < correlation(mid, spy) < 0.995
    unshifted = mid.set_axis(mid.index - pd.Timedelta(hours=4), axis=0)
    assert abs(correlation(unshifted, spy)) < 0.15
    winter = mid.set_axis(mid.index + pd.Timedelta(hours=1), axis=0)  # as if it were five hours in October
    assert abs(correlation(winter, spy)) < 0.15
    late = mid.set_axis(mid.index - pd.Timedelta(minutes=1), axis=0)  # as if its stamps were ends
    assert correlation(late, spy) < 0.5


# --- futures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "front", "volume"),
    [
        ("2013-10-07", "201312", {"201312": 788e3, "201403": 2.4e3}),
        ("2013-12-18", "201403", {"201312": 284e3, "201403": 2.26e6}),
    ],
)
def test_es_volume_and_the_roll(lean_dir, day, front, volume):
    quotes, _ = read_lean_futures(lean_dir, "ES", day)
    assert quotes.front(day) == front
    for expiry, contracts in volume.items():
        assert quotes.volume[expiry].sum() == pytest.approx(contracts, rel=0.01)


def test_an_expiry_is_not_chosen_by_the_date_in_its_name(lean_dir):
    path = files.find_data(lean_dir) / "future/cme/minute/es/20131218_trade.zip"
    import zipfile

    with zipfile.ZipFile(path) as archive:
        trap = [m for m in archive.namelist() if "201312" in m]
    assert len(trap) > 1  # every member's name: '201312' stands in its date
    bars = read_lean_bars(lean_dir, "ES", "2013-12-18", security="future", expiry="201312")
    assert bars.frame["volume"].sum() == pytest.approx(284e3, rel=0.01)


@pytest.mark.parametrize(
    ("day", "mean", "sd"),
    [
        ("2013-10-07", -6.71, 0.10),
        ("2013-11-18", -6.63, 0.09),
        ("2013-12-02", -6.38, 0.08),
        ("2013-12-18", -6.25, 0.11),
    ],
)
def test_calendar_mid(lean_dir, day, mean, sd):
    quotes, _ = read_lean_futures(lean_dir, "ES", day, expiries=["201312", "201403"], stale_limit_s=0)
    gap = (quotes.mid["201403"] - quotes.mid["201312"]).dropna()
    assert gap.mean() == pytest.approx(mean, abs=0.006)
    assert gap.std() == pytest.approx(sd, abs=0.006)


def test_open_interest_rolls_with_the_volume(es):
    held = es.futures["ES"].open_interest
    assert held.loc["2013-10-07", "201312"].max() == 2_691_941
    ratio = held["201403"] / held["201312"]
    assert ratio.loc["2013-10-07"].max() < 0.01
    assert ratio.loc["2013-12-18"].min() > 1
    assert es.futures["ES"].on("2013-12-18").open_interest.index.date.tolist() == [dt.date(2013, 12, 18)] * 3
    margins = es.futures["ES"].margins
    assert margins.loc[pd.Timestamp("2013-10-03", tz="UTC")].tolist() == [4180.0, 3800.0]


# --- perpetuals of one day -------------------------------------------------------------------------------------------


def test_bybit_bars_of_the_perpetual_stop_at_noon(perpetuals, lean_dir):
    for name in ("BTCUSD", "BTCUSDT"):
        for kind in ("trade", "quote"):
            last = perpetuals["bybit"].bars[f"{name}.{kind}"].frame.index[-1]
            assert last == pd.Timestamp("2022-12-13 12:00", tz="UTC")
    spot = read(f"lean:{lean_dir}", security="crypto")
    assert spot.bars["BTCUSDT.trade"].frame.index[-1] == pd.Timestamp("2022-12-13 23:59", tz="UTC")


def test_bybit_basis(perpetuals, lean_dir):
    spot = read(f"lean:{lean_dir}", security="crypto").bars["BTCUSDT.quote"]
    perp = perpetuals["bybit"].bars["BTCUSDT.quote"]
    premium = 1e4 * basis(perp, spot)
    assert premium.mean() == pytest.approx(-7.4, abs=0.15)
    assert premium.std() == pytest.approx(1.6, abs=0.1)


def test_bybit_and_binance_funding(perpetuals, lean_dir):
    rates = perpetuals["bybit"].funding["BTCUSDT"].rates
    assert rates.tolist() == [-0.0002016, -0.00022398, -0.00038555]
    assert [f"{t:%Y-%m-%d %H:%M}" for t in rates.index] == [f"2022-12-13 {h}:00" for h in ("00", "08", "16")]
    pd.testing.assert_series_equal(rates, read_lean_funding(lean_dir, "btcusdt").rename("BTCUSDT"))
    assert len(perpetuals["binance"].funding["BTCUSD"].rates) == 12
    # The basis and the rate have one sign: shorts pay while the perpetual is cheap.
    assert (rates < 0).all()


# --- the recorded streams of Binance ---------------------------------------------------------------------------------


def test_stream_counts(raw):
    trades = {name: one.rows["trades"] for name, one in raw.report.instruments.items()}
    expected = {
        "BTCUSDT.spot": 19.9e3,
        "ETHUSDT.spot": 14.5e3,
        "BTCUSD_PERP.cm": 5.2e3,
        "ETHUSD_PERP.cm": 3.6e3,
        "BTCUSDT.usdm": 21.3e3,
        "ETHUSDT.usdm": 14.1e3,
    }
    assert set(trades) == set(expected)
    for name, count in expected.items():
        assert trades[name] == pytest.approx(count, abs=50)


def test_unconstrained_least_squares_fails_out_of_sample_on_six_minutes(raw):
    """Collinear flows of six contracts on two coins: a plain regression on the first half is worse than no model."""
    flow, returns = raw.events.flow.to_numpy(), raw.events.returns.to_numpy()
    flow, returns = flow[-len(returns) :] / flow.std(axis=0), returns
    for lags in (1, 5):
        lagged = np.hstack([np.roll(flow, k, axis=0) for k in range(lags)])[lags:]
        answer, half = returns[lags:], (len(returns) - lags) // 2
        fitted = np.linalg.lstsq(lagged[:half], answer[:half], rcond=None)[0]
        held_out = answer[half:]
        error = float(((held_out - lagged[half:] @ fitted) ** 2).sum())
        total = float(((held_out - held_out.mean(axis=0)) ** 2).sum())
        assert 1 - error / total < -2


# --- years of perpetuals ---------------------------------------------------------------------------------------------


def test_carry_spans(carry):
    assert sorted(carry.bars) == ["BNB.perp", "BNB.spot", "SOL.perp", "SOL.spot"]
    assert sorted(carry.funding) == sorted([*(f"{c}USDT" for c in COINS), "SOL", "BNB"])
    assert {k: len(b.frame) for k, b in carry.bars.items()} == {
        "BNB.spot": 28_100,
        "BNB.perp": 28_049,
        "SOL.spot": 47_580,
        "SOL.perp": 44_849,
    }
    first = {k: f"{b.frame.index[0]:%Y-%m-%d}" for k, b in carry.bars.items()}
    assert (first["SOL.spot"], first["BNB.spot"]) == ("2020-09-30", "2022-12-21")
    assert all(f"{b.frame.index[-1]:%Y-%m}" == "2026-03" for b in carry.bars.values())


def test_funding_is_charged_at_settlements_though_it_is_written_every_hour(carry, perp_dir):
    path = next(perp_dir.glob("okx_SOL_*"))
    table = pd.read_parquet(path)
    known = table.dropna(subset=["funding_rate_raw_okx"])
    np.testing.assert_allclose(known["funding_rate_raw_okx"], 8 * known["funding_rate_1h_okx"], rtol=1e-12)
    rates = carry.funding["SOL"].rates
    assert set(rates.index.hour) == {0, 8, 16}
    assert carry.funding["SOL"].interval_s == 28_800
    # Charged every hour a long would be paid eightfold.
    hourly = known["funding_rate_raw_okx"].sum()
    assert hourly == pytest.approx(8 * known["funding_rate_raw_okx"].to_numpy()[::8].sum(), rel=0.01)
    assert dict(carry.report.by_reason())["rate changed between settlements"] == 6


def test_bad_rows_of_the_third_hand(carry):
    assert carry.report.by_reason() == {
        "no spot in the row": 2,
        "no perpetual in the row": 2_785,
        "no funding rate in the row": 12_473,
        "funding filled forward over a hole": 769,
        "outlier: spot low or high far from open and close": 1,
        "rate changed between settlements": 6,
    }
    bad = carry.report.bad_frame().set_index("reason")
    assert bad.loc["outlier: spot low or high far from open and close", "example"] == "2020-10-28 22:00:00+00:00"
    spot = carry.bars["SOL.spot"].frame
    assert pd.Timestamp("2020-10-28 22:00", tz="UTC") not in spot.index
    assert any("3 rates beyond ±0.03 that the basis supports are kept, the largest 0.06" in n for n in carry.notes)
    assert carry.funding["SOL"].rates.min() == -0.06


def test_tails_hold_marks_only(perp_dir):
    for path in perp_dir.glob("okx_*"):
        last = pd.read_parquet(path).iloc[-1]
        assert np.isfinite(last["mark_price_okx"])
        assert np.isnan(last[["close_perp_okx", "close_spot_okx", "funding_rate_raw_okx"]].astype(float)).all()


def test_vwap_is_the_close_nine_times_in_ten(perp_dir):
    for path in perp_dir.glob("okx_*"):
        table = pd.read_parquet(path).dropna(subset=["close_perp_okx"])
        share = (table["vwap_perp_okx"] == table["close_perp_okx"]).mean()
        assert 0.9 < share < 0.95


def test_bars_are_stamped_at_their_start_in_utc(carry, perp_dir):
    for coin in ("SOL", "BNB"):
        frame = carry.bars[f"{coin}.perp"].frame
        apart = {
            c: float((frame["mark"] / frame[c] - 1).abs().median()) for c in ("close", "open")
        }  # the mark is the bar's end
        assert apart["close"] < 1e-4 < 2e-3 < apart["open"]
        # The crash of 10 October 2025 after 21 h UTC.
        crash = frame.loc["2025-10-10"]
        assert (crash["low"] / crash["open"]).idxmin() == pd.Timestamp("2025-10-10 21:00", tz="UTC")
        table = pd.read_parquet(next(perp_dir.glob(f"okx_{coin}_*")))
        rate = table["funding_rate_raw_okx"]
        changed = rate.ne(rate.shift()) & rate.notna() & rate.shift().notna()
        assert (table["timestamp"][changed].dt.hour % 8 == 0).mean() > 0.999


def test_the_rate_lags_the_basis_until_2025_and_not_in_2026(carry):
    premium = basis(carry.bars["SOL.perp"], carry.bars["SOL.spot"]).rolling(8).mean()
    rates = carry.funding["SOL"].rates

    def best_lag_h(year):
        own = rates[rates.index.year == year]
        own = own[own != own.shift()]
        fit = {}
        for lag in (0, 8, 16, 24, 32):
            moved = own.set_axis(own.index - pd.Timedelta(hours=lag))
            both = pd.concat([moved, premium], axis=1, join="inner").dropna()
            fit[lag] = both.rank().corr().iloc[0, 1]
        return max(fit, key=fit.get)

    assert [best_lag_h(year) for year in (2022, 2023, 2024, 2026)] == [16, 16, 16, 0]


def test_binance_settlements(carry):
    for coin in COINS:
        name = f"{coin}USDT"
        index = carry.funding[name].rates.index
        assert carry.funding[name].interval_s == (14_400 if coin == "POL" else 28_800)
        assert set(index.minute) == {0}
        facts = carry.report.instruments[name].facts
        assert facts["snapped"].split(" ")[-6] in {"24", "29", "47"}  # milliseconds late at most
        assert carry.report.instruments[name].gaps == 0
    # The days after the collapse of November 2022 had settlements every two hours.
    assert (
        carry.report.instruments["SOLUSDT"].facts["funding_interval"]
        == "8 h (5,944 times), 2 h (98 times), 4 h (3 times)"
    )
    assert carry.funding["SOLUSDT"].rates.min() == -0.02


def test_shorts_earned_carry(carry):
    assert 0.10 < carry.funding["BTCUSDT"].annualised() < 0.15
    assert 0.12 < carry.funding["ETHUSDT"].annualised() < 0.18
    assert abs(carry.funding["SOLUSDT"].annualised()) < 0.02


# --- each file, through the public call ------------------------------------------------------------------------------


def test_every_file_is_read_with_rows_used(data_dir, raw):
    """All that MANIFEST.sha256 lists, licences and notes apart, is opened by a public call, and nothing is refused."""
    manifest = data_dir / "MANIFEST.sha256"
    if not manifest.is_file():
        pytest.skip("there is no list of the files")
    listed = {line.split(maxsplit=1)[1].strip() for line in manifest.read_text().splitlines() if line.strip()}
    expected = {p.removeprefix("./") for p in listed if Path(p).name not in {"LICENSE", "readme.md", "README.md"}}
    lean, reports = f"lean:{data_dir / 'lean'}", [raw.report]
    tick = read(lean, quotes="tick", futures=())
    second = read(lean, futures=())
    reports += [tick.report, second.report]
    for options in (
        {"resolution": "minute"},
        {"resolution": "second"},
        {"security": "future"},
        {"security": "crypto"},
        {"security": "crypto", "market": "binance"},
        {"security": "cryptofuture"},
        {"security": "cryptofuture", "market": "binance"},
    ):
        reports.append(read(lean, **options).report)
    reports.append(read(f"perp:{data_dir / 'perp_carry'}").report)
    nordic = ReadReport()
    read_lean_margins(data_dir / "lean", "ESK", report=nordic)  # margins of a future whose prices are not here
    reports.append(nordic)
    opened = {str(Path(p).resolve().relative_to(data_dir.resolve())) for r in reports for p in r.files}
    assert opened == expected
    for report in reports:
        assert report.instruments
        for one in report.instruments.values():
            assert sum(one.rows.values()) > 0
            assert one.first_ns is not None
            assert one.last_ns >= one.first_ns
            assert {"clock", "stamp"} <= set(one.facts)


def test_a_tick_day_of_four_names_is_read_signed_and_bucketed_in_seconds(lean_dir):
    import time

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        began = time.process_time()
        day = read(f"lean:{lean_dir}", days=DAYS[0], quotes="tick", futures=())
        took = time.process_time() - began
    rows = sum(sum(one.rows.values()) for one in day.report.instruments.values())
    assert rows > 0.8e6  # states of the quote; the files hold two million rows
    assert took < 10
