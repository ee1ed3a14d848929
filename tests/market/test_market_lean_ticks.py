"""LEAN's ticks and bars made by hand: the composite book, best quotes, sources, the report, calendars and damage."""

from __future__ import annotations

import datetime as dt
import zipfile

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read, read_lean_bars, read_lean_futures
from crosswind.problems.market.readers.lean import lean_sources, read_lean
from crosswind.problems.market.readers.lean_composite import composite_quotes
from crosswind.problems.market.readers.lean_futures import read_lean_margins
from crosswind.problems.market.readers.lean_ticks import LeanTicks
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import TickSource
from crosswind.solvers.errors import DataGap, InvalidInput

OPEN_MS = 34_200_000
DAY = "20240308"
SHORT = ("09:30", "09:31")


def put(path, rows, member="a.csv"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, "\n".join(rows) + "\n" if rows else "")
    return path


def bid(ms, price, size=100, venue="Q", suspicious=0):
    return f"{ms},{price},{size},0,0,{venue},1,{suspicious}"


def ask(ms, price, size=200, venue="Q", suspicious=0):
    return f"{ms},0,0,{price},{size},{venue},1,{suspicious}"


def bar(ms, low, high, bid_size=100, ask_size=200):
    return f"{ms},{low},{low},{low},{low},{bid_size},{high},{high},{high},{high},{ask_size}"


TRADES = [
    f"{OPEN_MS},1000200,100,P,1,0",
    f"{OPEN_MS + 500},1000000,100,P,1,1",  # suspicious
    f"{OPEN_MS + 700},0,100,P,1,0",  # zero price
    f"{OPEN_MS + 800},1000200,0,P,1,0",  # zero size
    f"{OPEN_MS + 21_000},1000000,200,P,1,0",
    f"{OPEN_MS + 30_000},1000000,500,P,1000000,0",  # official close
]
QUOTES = [
    bid(OPEN_MS - 5000, 1000000),
    ask(OPEN_MS - 5000, 1000200),
    bid(OPEN_MS + 10_000, 1000300, suspicious=1),
    bid(OPEN_MS + 20_000, 1000000, 300, "N"),
    ask(OPEN_MS + 20_000, 1000100, 400, "K"),
]


@pytest.fixture
def lean(tmp_path):
    base = tmp_path / "Data/equity/usa"
    for name in ("aaa", "bbb"):
        put(base / f"tick/{name}/{DAY}_trade.zip", TRADES)
        put(base / f"second/{name}/{DAY}_quote.zip", [bar(OPEN_MS - 5000, 1000000, 1000200)])
    put(base / f"tick/aaa/{DAY}_quote.zip", QUOTES)
    return tmp_path


def one(lean, names=("AAA",), **options):
    return read(f"lean:{lean}", list(names), "2024-03-08", 20.0, hours=SHORT, **options)


# --- the composite book ----------------------------------------------------------------------------------------------


def plain(time, venue, is_bid, price, size, life_ns):
    """The composite book, one message after the other."""
    book, rows = {}, []
    for k in range(len(time)):
        book[bool(is_bid[k]), int(venue[k])] = (float(price[k]), float(size[k]), int(time[k]))
        if k + 1 < len(time) and time[k + 1] == time[k]:
            continue
        sides = {
            side: {v: q for (s, v), q in book.items() if s == side and q[1] > 0 and time[k] - q[2] <= life_ns}
            for side in (True, False)
        }
        while all(sides.values()):
            best_bid = max(q[0] for q in sides[True].values())
            best_ask = min(q[0] for q in sides[False].values())
            if best_bid <= best_ask:
                rows.append(
                    (
                        time[k],
                        best_bid,
                        best_ask,
                        sum(q[1] for q in sides[True].values() if q[0] == best_bid),
                        sum(q[1] for q in sides[False].values() if q[0] == best_ask),
                    )
                )
                break
            since = {
                side: max(q[2] for q in sides[side].values() if q[0] == best)
                for side, best in ((True, best_bid), (False, best_ask))
            }
            older = since[True] < since[False]
            best = best_bid if older else best_ask
            sides[older] = {v: q for v, q in sides[older].items() if q[0] != best}
    kept = [r for k, r in enumerate(rows) if k == 0 or r[1:] != rows[k - 1][1:]]
    return np.array(kept, dtype=float).reshape(-1, 5)


@pytest.mark.parametrize("seed", range(4))
def test_the_composite_book_is_that_of_a_plain_loop(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    n = 400
    time = np.sort(rng.integers(0, 800, n)) * 1_000_000_000
    venue, is_bid = rng.integers(0, 4, n), rng.random(n) < 0.5
    price = np.round(100 + rng.integers(-6, 7, n) + np.where(is_bid, -2, 2), 2)
    size = rng.integers(0, 4, n).astype(float) * 100
    want = plain(time, venue, is_bid, price, size, 20_000_000_000)
    told = set()
    for block in (1 << 18, 64):
        monkeypatch.setattr("crosswind.problems.market.readers.lean_composite._BLOCK", block)
        tape, counts = composite_quotes(time, venue, is_bid, price, size, life_s=20)
        got = np.column_stack([tape.known_ns, tape.bid, tape.ask, tape.bid_shares, tape.ask_shares])
        np.testing.assert_array_equal(got, want)
        assert counts.crossed > 0
        assert counts.expired > 0
        told.add(counts)
    assert len(told) == 1
    assert (tape.bid <= tape.ask).all()


def test_a_venue_that_stops_quoting_loses_to_the_newer_side():
    ns = np.arange(4) * 1_000_000_000
    venue = np.array([0, 0, 1, 1])
    is_bid = np.array([True, False, True, False])
    price, size = np.array([10.0, 10.1, 10.2, 10.3]), np.full(4, 100.0)
    tape, counts = composite_quotes(ns, venue, is_bid, price, size, life_s=60)
    # The ask of 10.1 stood before the bid of 10.2 came: it is the stale one, and none is left until 10.3 comes.
    assert tape.bid.tolist() == [10.0, 10.2]
    assert tape.ask.tolist() == [10.1, 10.3]
    assert counts.crossed == 2
    empty, none = composite_quotes(ns[:0], venue[:0], is_bid[:0], price[:0], size[:0], life_s=60)
    assert (len(empty), none.crossed) == (0, 0)


# --- best quotes, and both kinds of file -----------------------------------------------------------------------------


def test_quote_ticks_by_hand(lean):
    data = one(lean, quotes="tick")
    e = data.events
    # The ask of 100.01 prevails from 20 s: at the end of the first bucket it is known, size and all.
    np.testing.assert_allclose(e.mid["AAA"], [100.005, 100.005, 100.005])
    np.testing.assert_allclose(e.depth["AAA"], 350 * e.mid["AAA"])
    np.testing.assert_allclose(e.spread["AAA"], 0.01)
    # 100.02 lies above 100.01; 100.00 at 21 s lies below 100.005.
    np.testing.assert_allclose(e.flow["AAA"], [10_002, -20_000, 0])
    bars = one(lean)
    np.testing.assert_allclose(bars.events.mid["AAA"], 100.01)


def test_the_report_tells_what_was_not_used(lean):
    data = one(lean, quotes="tick")
    assert data.report.by_reason() == {
        "suspicious trade": 1,
        "zero or negative price or size": 2,
        "official open or close, repeats a print": 1,
        "suspicious quote": 1,
    }
    facts = data.report.instruments["AAA"]
    assert dict(facts.rows) == {"trades": 2, "quotes": 2}
    assert facts.first_ns == pd.Timestamp("2024-03-08 14:29:55", tz="UTC").value
    assert facts.facts["clock"] == "ms since midnight in New York"
    assert "Lee and Ready" in facts.facts["sign"]
    assert len(data.report.files) == 2
    assert "suspicious trade" in data.report.summary()


def test_names_without_quote_ticks_take_their_bars(lean):
    data = one(lean, ["AAA", "BBB"], quotes="tick")
    assert data.report.instruments["BBB"].facts["quotes"].endswith("no quote ticks")
    np.testing.assert_allclose(data.events.mid["BBB"], 100.01)
    assert read_lean(lean, bucket_s=20.0, hours=SHORT, quotes="tick").events.names == ("AAA", "BBB")


def test_books_of_exchanges_are_refused_as_best_quotes_and_read_as_such(lean):
    rows = [bid(OPEN_MS - 9000, 1000000, venue="P"), ask(OPEN_MS - 9000, 1000100, venue="P")]
    for k in range(20):
        rows += [bid(OPEN_MS - 8000 + 10 * k, 1000000 + 100 * (k % 2), venue="NK"[k % 2])]
        rows += [ask(OPEN_MS - 7995 + 10 * k, 1000050 + 200 * (k % 2), venue="NK"[k % 2])]
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_quote.zip", rows)
    with pytest.raises(InvalidInput, match="no best quotes") as caught:
        one(lean, quotes="tick")
    assert "exchange" in caught.value.remedy
    data = one(lean, quotes="tick", quote_rows="exchange")
    assert data.report.by_reason()["crossed between exchanges, the older side taken out"] > 0
    assert (data.events.spread["AAA"] > 0).all()


def test_a_rare_crossed_state_is_dropped_and_counted(lean):
    many = [row for k in range(60) for row in (bid(OPEN_MS - 5000 + k, 1000000), ask(OPEN_MS - 5000 + k, 1000200))]
    rows = [*many, bid(OPEN_MS + 1000, 1000300), bid(OPEN_MS + 2000, 1000000)]
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_quote.zip", rows)
    data = one(lean, quotes="tick")
    assert data.report.by_reason()["crossed book"] == 1
    np.testing.assert_allclose(data.events.mid["AAA"], 100.01)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([f"{OPEN_MS},1000000,100,1000200,100,Q,1,0"], "quote tick with two sides"),
        ([f"{OPEN_MS},0,0,0,0,Q,1,0"], "quote tick without a price or size"),
        ([f"{OPEN_MS},,,,,Q,1,0"], "quote tick without a price or size"),
        ([f"{OPEN_MS},1000000,-5,0,0,Q,1,0"], "quote tick without a price or size"),
    ],
)
def test_bad_quote_ticks_by_reason(lean, rows, reason):
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_quote.zip", [*QUOTES[:2], *rows])
    assert one(lean, quotes="tick").report.by_reason()[reason] == 1


def test_prices_of_another_unit_are_refused(lean):
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_trade.zip", [f"{OPEN_MS},100.02,100,P,1,0"])
    with pytest.raises(InvalidInput, match="whole numbers of 1/10000"):
        one(lean)


def test_a_file_cut_inside_a_row_is_refused(lean):
    path = lean / f"Data/equity/usa/tick/aaa/{DAY}_trade.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "\n".join(TRADES)[:-9])
    with pytest.raises(DataGap, match="do not have the 6 columns"):
        one(lean)


def test_bars_with_one_side_or_crossed_are_counted(lean):
    rows = [
        bar(OPEN_MS - 5000, 1000000, 1000200),
        f"{OPEN_MS - 4000},,,,,0,1000200,1000200,1000200,1000200,100",
        bar(OPEN_MS - 3000, 1000300, 1000200),
        bar(OPEN_MS - 2000, 1000200, 1000200),
    ]
    put(lean / f"Data/equity/usa/second/aaa/{DAY}_quote.zip", rows)
    data = one(lean)
    assert data.report.by_reason()["quote bar with a missing side"] == 1
    assert data.report.by_reason()["crossed book"] == 1
    assert data.report.instruments["AAA"].facts["locked_quotes"] == "1 (used)"


# --- sources ---------------------------------------------------------------------------------------------------------


def test_sources_give_one_chunk_per_day(lean):
    for kind in ("trade", "quote"):
        source = lean / f"Data/equity/usa/tick/aaa/{DAY}_{kind}.zip"
        (source.parent / f"20240311_{kind}.zip").write_bytes(source.read_bytes())
    (source,) = lean_sources(lean, ["AAA"], quotes="tick")
    assert isinstance(source, LeanTicks)
    assert isinstance(source, TickSource)
    assert (source.name, source.venue, source.tz, source.currency, source.tick) == (
        *("AAA", "usa", "America/New_York", "USD"),
        0.01,
    )
    stages = []
    chunks = list(source.chunks(ReadReport(), lambda stage, done: stages.append((stage, done))))
    assert len(chunks) == 2
    # Daylight saving began in between: the same wall times are an hour earlier in UTC.
    assert chunks[1].trades.time_ns[0] - chunks[0].trades.time_ns[0] == (3 * 24 - 1) * 3_600_000_000_000
    assert stages == [("read AAA of 2024-03-08", 0.5), ("read AAA of 2024-03-11", 1.0)]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"quotes": "minute"}, "quotes"),
        ({"quote_rows": "venue"}, "quote_rows"),
        ({"venue_life_s": 0.0}, "venue_life_s"),
        ({"tick": -1.0}, "tick"),
        ({"kind": "trade"}, "kind"),
        ({"security": "option"}, "security"),
        ({"security": "crypto", "bucket_s": 60.0}, "bucket_s"),
        ({"security": "crypto", "expiries": ["201312"]}, "expiries"),
        ({"resolution": "minute", "futures": ["ES"]}, "futures"),
        ({"resolution": "hour"}, "resolution"),
    ],
)
def test_bad_options(lean, options, field):
    with pytest.raises(InvalidInput) as caught:
        read_lean(lean, ["AAA"], **options)
    assert caught.value.field == field
    assert caught.value.remedy


def test_calendars_with_half_days(lean):
    """On the day after Thanksgiving New York closes at 13:00; on Thanksgiving it does not open."""
    base = lean / "Data/equity/usa"
    for day in ("20241128", "20241129"):
        put(base / f"tick/aaa/{day}_trade.zip", TRADES)
        put(
            base / f"second/aaa/{day}_quote.zip",
            [bar(OPEN_MS - 5000 + 60_000 * k, 1000000, 1000200) for k in range(420)],
        )
    half = read_lean(lean, ["AAA"], "2024-11-29", 300.0, hours="XNYS").events
    assert half.index[-1] == pd.Timestamp("2024-11-29 18:00", tz="UTC")
    assert len(half.index) == 42
    assert len(read_lean(lean, ["AAA"], "2024-11-29", 300.0).events.index) == 78
    with pytest.raises((InvalidInput, DataGap)):
        read_lean(lean, ["AAA"], "2024-11-28", 300.0, hours="XNYS")


# --- bars, funding, futures ------------------------------------------------------------------------------------------


@pytest.fixture
def crypto(tmp_path):
    base = tmp_path / "Data/cryptofuture/bybit"
    trades = [f"{60_000 * k},17000.5,17001,17000,17000.5,2.5" for k in range(5)]
    put(base / "minute/btcusdt/20221213_trade.zip", [*trades, "360000,17000,16000,17001,17000,1", "420000,0,0,0,0,1"])
    put(base / "minute/btcusdt/20221213_quote.zip", [bar(60_000 * k, 17000.5, 17001) for k in range(3)])
    put(base / "minute/ethusd/20221213_trade.zip", trades)
    (base / "margin_interest").mkdir()
    (base / "margin_interest/btcusdt.csv").write_text("20221213 00:00:00,0.0001\n20221213 08:00:00,0.0002")
    return tmp_path


def test_bars_and_funding_through_the_public_call(crypto):
    data = read(f"lean:{crypto}", security="cryptofuture")
    assert sorted(data.bars) == ["BTCUSDT.quote", "BTCUSDT.trade", "ETHUSD.trade"]
    assert data.funding["BTCUSDT"].rates.tolist() == [1e-4, 2e-4]
    assert data.bars["BTCUSDT.trade"].frame["close"].tolist() == [17000.5] * 5
    assert data.report.by_reason() == {"zero or negative price": 1, "high and low do not hold open and close": 1}
    assert data.report.instruments["BTCUSDT.trade"].rows["bars"] == 5
    assert data.report.instruments["BTCUSDT"].rows["funding"] == 2
    some = read(f"lean:{crypto}", ["btcusdt"], "2022-12-13", security="cryptofuture", kind="quote")
    assert list(some.bars) == ["BTCUSDT.quote"]
    with pytest.raises(InvalidInput, match="no minute data of that name"):
        read(f"lean:{crypto}", ["QQQ"], security="cryptofuture")
    with pytest.raises(DataGap, match="no such bars"):
        read(f"lean:{crypto}", security="crypto")
    assert len(read_lean_bars(crypto, "btcusdt", security="cryptofuture").frame) == 5


@pytest.fixture
def future(tmp_path):
    base = tmp_path / "Data/future/cme"
    minute = base / "minute/es"
    for day in ("20131007", "20131008"):
        put(minute / f"{day}_quote.zip", [bar(52_200_000, 1650, 1650.25)], f"{day}_es_minute_quote_201312.csv")
        put(minute / f"{day}_trade.zip", ["52200000,1650,1651,1649,1650,7"], f"{day}_es_minute_trade_201312.csv")
    put(
        minute / "20131007_openinterest.zip",
        ["21960000,100", "42660000,120", "49320000,-1"],
        "x_openinterest_201312.csv",
    )
    (base / "margins").mkdir()
    (base / "margins/ES.csv").write_text("date,initial,maintenance\n# a note\n20131003,4180,3800\n20131015,4510,4100")
    return tmp_path


def test_open_interest_and_margins(future):
    data = read(f"lean:{future}", security="future")
    quotes = data.futures["ES"]
    assert quotes.open_interest["201312"].tolist() == [100.0, 120.0]
    assert quotes.open_interest.index[0] == pd.Timestamp("2013-10-07 06:06", tz="UTC")
    assert quotes.margins["initial"].tolist() == [4180.0, 4510.0]
    assert data.report.by_reason()["negative or absent open interest"] == 1
    assert len(quotes.on("2013-10-07").open_interest) == 2
    assert len(quotes.on("2013-10-08").open_interest) == 0
    part = quotes.between(pd.Timestamp("2013-10-07 10:00", tz="UTC"), pd.Timestamp("2013-10-07 20:00", tz="UTC"))
    assert part.open_interest["201312"].tolist() == [120.0]
    bare, _ = read_lean_futures(future, "ES", "2013-10-08")
    assert bare.open_interest is None
    assert not bare.equals(quotes.on("2013-10-08"))
    assert bare.equals(read_lean_futures(future, "ES", "2013-10-08")[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,initial,maintenance\n20131003,0,3800", "not positive"),
        ("date,initial,maintenance\n20131015,4510,4100\n20131003,4180,3800", "not in order"),
        ("date,initial\n20131003,4180", "not rows of"),
        ("date,initial,maintenance\n3.10.2013,4180,3800", "not rows of"),
    ],
)
def test_bad_margins(future, text, message):
    (future / "Data/future/cme/margins/ES.csv").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_lean_margins(future)
    with pytest.raises(DataGap, match="no margins of that name"):
        read_lean_margins(future, "NQ")


def test_terms_come_from_the_contract_table(future):
    base = future / "Data/future/cme/minute/nq"
    put(base / "20131007_quote.zip", [bar(52_200_000, 3230, 3230.25)], "20131007_nq_minute_quote_201312.csv")
    put(base / "20131007_trade.zip", ["52200000,3230,3231,3229,3230,7"], "20131007_nq_minute_trade_201312.csv")
    quotes, _ = read_lean_futures(future, "NQ")
    assert (quotes.multiplier, quotes.tick) == (20.0, 0.25)
    assert quotes.days == (dt.date(2013, 10, 7),)
    assert sorted(read(f"lean:{future}", security="future").futures) == ["ES", "NQ"]
    (base.parent / "zzq").mkdir()
    with pytest.raises(InvalidInput, match="contract terms are not known"):
        read_lean_futures(future, "ZZQ")


@pytest.mark.parametrize("member", ["20240307_aaa_Trade_Tick.csv", "20240308_bbb_Trade_Tick.csv"])
def test_files_of_another_day_or_symbol_are_refused(lean, member):
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_trade.zip", TRADES, member)
    with pytest.raises(InvalidInput, match="another day or symbol"):
        one(lean)
    put(lean / f"Data/equity/usa/tick/aaa/{DAY}_trade.zip", TRADES, "20240308_AAA_Trade_Tick.csv")
    assert len(one(lean).events.index) == 3


def test_repeated_bars_are_refused(crypto):
    rows = ["0,17000,17001,17000,17000,1"] * 2
    put(crypto / "Data/cryptofuture/bybit/minute/btcusdt/20221213_trade.zip", rows)
    with pytest.raises(InvalidInput, match="repeats a time"):
        read_lean(crypto, ["BTCUSDT"], security="cryptofuture")
