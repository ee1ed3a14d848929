"""DBN files, encoded here record by record with Databento's own package."""

from __future__ import annotations

import builtins
import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read
from crosswind.problems.market.readers.dbn import dbn_sources
from crosswind.problems.market.readers.dbn_files import _LAYOUTS
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput, MissingDependency

dbn = pytest.importorskip("databento_dbn", reason="needs the package databento-dbn")

DAY = dt.date(2024, 6, 3)
OPEN_NS = int(pd.Timestamp("2024-06-03 13:30", tz="UTC").value)  # 09:30 in New York
SECOND = 1_000_000_000
UNDEFINED_PRICE, UNDEFINED_TIME = 2**63 - 1, 2**64 - 1


def price(value: float) -> int:
    return UNDEFINED_PRICE if np.isnan(value) else round(value * 1e9)


def level(bid: float, ask: float, bid_size: int = 100, ask_size: int = 200):
    return dbn.BidAskPair(bid_px=price(bid), ask_px=price(ask), bid_sz=bid_size, ask_sz=ask_size, bid_ct=1, ask_ct=1)


def event(
    at_ns: int, *, trade: tuple[float, int, str] | None = None, book=None, symbol: int = 12, flags: int = 0, **more
):
    what, side = dbn.Action.ADD, dbn.Side.NONE
    cost, size = price(100.0), 1
    if trade is not None:
        what, cost, size = dbn.Action.TRADE, price(trade[0]), trade[1]
        side = {"B": dbn.Side.BID, "A": dbn.Side.ASK, "N": dbn.Side.NONE}[trade[2]]
    arguments = {
        "publisher_id": 1,
        "instrument_id": symbol,
        "ts_event": at_ns - 1000,
        "price": cost,
        "size": size,
        "action": what,
        "side": side,
        "depth": 0,
        "ts_recv": at_ns,
        "flags": flags,
        "levels": book or level(100.0, 100.02),
    }
    return dbn.MBP1Msg(**(arguments | more))


def header(schema, symbols: dict[str, int], dataset: str, start: int = OPEN_NS) -> bytes:
    mapped = [
        SimpleNamespace(
            raw_symbol=name,
            intervals=[SimpleNamespace(start_date=DAY, end_date=DAY + dt.timedelta(1), symbol=str(number))],
        )
        for name, number in symbols.items()
    ]
    return dbn.Metadata(
        dataset=dataset,
        start=start,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=schema,
        symbols=list(symbols),
        mappings=mapped,
    ).encode()


def save(
    path: Path, records, schema=None, symbols: dict[str, int] | None = None, dataset: str = "XNAS.ITCH", **more
) -> Path:
    size = _LAYOUTS[str(schema or dbn.Schema.MBP_1)][1].itemsize
    body = b"".join(bytes(one)[:size] for one in records)
    whole = header(schema or dbn.Schema.MBP_1, symbols or {"ABC": 12}, dataset, **more) + body
    if path.suffix == ".zst":
        import pyarrow as pa

        whole = pa.compress(whole, codec="zstd", asbytes=True)
    path.write_bytes(whole)
    return path


def tape(seed: int = 0, symbol: int = 12, count: int = 2000):
    """Return records of one session and the signed notional of each of its trades, by hand."""
    rng = np.random.default_rng(seed)
    records, trades = [event(OPEN_NS + 1, symbol=symbol)], []
    for at in np.sort(rng.integers(SECOND, 23_400 * SECOND, count)):
        bid = 100.0 + 0.01 * int(rng.integers(-20, 20))
        book = level(bid, bid + 0.02, int(rng.integers(1, 500)), int(rng.integers(1, 500)))
        trade = None
        if rng.uniform() < 0.4:
            side = str(rng.choice(["A", "B", "N"], p=[0.45, 0.45, 0.1]))
            trade = (bid + 0.02 * (side == "B"), int(rng.integers(1, 300)), side)
            trades.append((int(at), trade[0] * trade[1] * {"B": 1, "A": -1, "N": 0}[side], trade[0] * trade[1]))
        records.append(event(OPEN_NS + int(at), trade=trade, book=book, symbol=symbol))
    return records, trades


def by_hand(trades, bucket_s: float, column: int) -> np.ndarray:
    out = np.zeros(int(23_400 / bucket_s))
    for row in trades:
        out[int(row[0] // (bucket_s * SECOND))] += row[column]
    return out


def test_flow_has_the_published_signs(tmp_path):
    records, trades = tape()
    data = read(f"dbn:{save(tmp_path / 'a.dbn', records)}", bucket_s=60.0)
    np.testing.assert_allclose(data.events.flow["ABC"], by_hand(trades, 60.0, 1), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(data.events.volume["ABC"], by_hand(trades, 60.0, 2), rtol=1e-9)
    facts = data.report.instruments["ABC"]
    assert facts.rows["trades"] == len(trades)
    assert int(facts.facts["trades_without_aggressor"]) == sum(row[1] == 0 for row in trades)
    assert data.report.bad_rows == 0


def test_zstd_and_several_symbols_and_files(tmp_path):
    one, _ = tape(1, symbol=12)
    two, _ = tape(2, symbol=34)
    plain = save(tmp_path / "one.dbn", one)
    together = sorted([*one, *two], key=lambda record: record.ts_recv)
    packed = save(tmp_path / "both.dbn.zst", together, symbols={"ABC": 12, "XYZ": 34})
    both = read(f"dbn:{packed}", bucket_s=60.0).events
    assert both.names == ("ABC", "XYZ")
    alone = read(f"dbn:{plain}", bucket_s=60.0).events
    pd.testing.assert_frame_equal(both.select(["ABC"]).to_frame(), alone.to_frame())
    folder = tmp_path / "cut"
    folder.mkdir()
    save(folder / "b.dbn", one[900:], start=OPEN_NS + SECOND)
    save(folder / "a.dbn", one[:900])
    pd.testing.assert_frame_equal(read(f"dbn:{folder}", bucket_s=60.0).events.to_frame(), alone.to_frame())


def test_ten_levels_are_handed_on(tmp_path):
    book = [level(100.0 - 0.01 * k, 100.02 + 0.01 * k, 10 + k, 20 + k) for k in range(10)]
    undefined = dbn.BidAskPair(bid_px=UNDEFINED_PRICE, ask_px=price(100.2), bid_sz=0, ask_sz=1, bid_ct=0, ask_ct=1)
    record = dbn.MBP10Msg(
        1, 12, OPEN_NS, price(100.0), 1, dbn.Action.ADD, dbn.Side.BID, 0, OPEN_NS + 5, levels=[*book[:9], undefined]
    )
    path = save(tmp_path / "ten.dbn", [record], schema=dbn.Schema.MBP_10)
    (source,) = dbn_sources(path, levels=10)
    (chunk,) = source.chunks(ReadReport())
    np.testing.assert_allclose(chunk.depth.bid[0, :9], 100.0 - 0.01 * np.arange(9), rtol=1e-12)
    assert np.isnan(chunk.depth.bid[0, 9])
    assert chunk.depth.bid_shares[0, 9] == 0
    np.testing.assert_allclose(chunk.depth.ask_shares[0, :9], 20 + np.arange(9))
    with pytest.raises(InvalidInput, match="levels"):
        dbn_sources(path, levels=11)


def test_bars_keep_their_start_stamps(tmp_path):
    bars = [
        dbn.OHLCVMsg(
            dbn.RType.OHLCV_1M,
            1,
            12,
            OPEN_NS + 60 * SECOND * k,
            price(10.0),
            price(11.0),
            price(9.0),
            price(10.5),
            7 + k,
        )
        for k in range(5)
    ]
    broken = dbn.OHLCVMsg(
        dbn.RType.OHLCV_1M, 1, 12, OPEN_NS + 300 * SECOND, UNDEFINED_PRICE, price(11.0), price(9.0), price(10.5), 1
    )
    path = save(tmp_path / "bars.dbn", [*bars, bars[-1], broken], schema=dbn.Schema.OHLCV_1M)
    data = read(f"dbn:{path}")
    held = data.bars["ABC"]
    assert (held.bar_s, held.stamp) == (60.0, "start")
    assert held.frame["volume"].tolist() == [7, 8, 9, 10, 11]
    assert held.frame.index[0] == pd.Timestamp(OPEN_NS, tz="UTC")
    assert data.report.by_reason() == {"duplicate or out of order": 1, "zero, negative or undefined price": 1}
    with pytest.raises(DataGap, match="no order flow"):
        _ = data.events


def test_futures_need_what_a_contract_is_worth(tmp_path):
    records, _ = tape(3)
    path = save(tmp_path / "fut.dbn", records, symbols={"ESU4": 12}, dataset="GLBX.MDP3")
    with pytest.raises(InvalidInput, match="multiplier"):
        read(f"dbn:{path}")
    one = read(f"dbn:{path}", multiplier=1.0, bucket_s=60.0).events
    fifty = read(f"dbn:{path}", multiplier={"ESU4": 50.0}, bucket_s=60.0).events
    np.testing.assert_allclose(fifty.flow, 50.0 * one.flow, rtol=1e-12)
    np.testing.assert_allclose(fifty.depth, 50.0 * one.depth, rtol=1e-12)
    assert one.tz == "UTC"


@pytest.mark.parametrize(
    ("record", "reason", "trades"),
    [
        (event(OPEN_NS + 5, trade=(0.0, 5, "B")), "zero or negative price or size", 0),
        (event(OPEN_NS + 5, trade=(100.0, 5, "B"), price=UNDEFINED_PRICE), "trade without a price", 0),
        (event(OPEN_NS + 5, trade=(100.0, 5, "B"), ts_recv=UNDEFINED_TIME), "no trustworthy time", 0),
        (event(OPEN_NS + 5, trade=(100.0, 5, "B"), flags=8), "no trustworthy time", 0),
        (event(OPEN_NS + 5, trade=(100.0, 5, "B"), flags=4), "book flagged as doubtful", 1),
        (event(OPEN_NS + 5, book=level(100.02, 100.0)), "crossed book", 0),
        (event(OPEN_NS + 5, book=level(100.0, np.nan)), "one side of the book is empty", 0),
        (event(OPEN_NS - 5, trade=(100.0, 5, "B")), "out of order", 0),
    ],
)
def test_bad_records_are_counted_and_left_out(tmp_path, record, reason, trades):
    path = save(tmp_path / "a.dbn", [event(OPEN_NS), record, event(OPEN_NS + 9)])
    (source,) = dbn_sources(path)
    report = ReadReport()
    chunks = list(source.chunks(report))
    assert report.by_reason() == {reason: 1}
    assert sum(len(chunk.trades) for chunk in chunks) == trades


def test_a_repeated_record_is_a_duplicate(tmp_path):
    one = event(OPEN_NS + 5, trade=(100.0, 5, "B"))
    (source,) = dbn_sources(save(tmp_path / "a.dbn", [event(OPEN_NS), one, one]))
    report = ReadReport()
    assert sum(len(chunk.trades) for chunk in source.chunks(report)) == 1
    assert report.by_reason() == {"duplicate": 1}


def test_an_instrument_id_means_a_symbol_on_its_days_only(tmp_path):
    late = event(OPEN_NS + 86_400 * SECOND, trade=(100.0, 5, "B"))
    (source,) = dbn_sources(save(tmp_path / "a.dbn", [event(OPEN_NS), late]))
    assert sum(len(chunk.trades) for chunk in source.chunks(ReadReport())) == 0


def test_the_clock_can_be_chosen(tmp_path):
    path = save(tmp_path / "a.dbn", [event(OPEN_NS + 5000)])
    for clock, ns in (("receive", OPEN_NS + 5000), ("event", OPEN_NS + 4000)):
        (source,) = dbn_sources(path, clock=clock)
        (chunk,) = source.chunks(ReadReport())
        assert chunk.quotes.known_ns.tolist() == [ns]
    with pytest.raises(InvalidInput, match="clock"):
        dbn_sources(path, clock="wall")


def test_truncated_damaged_and_foreign_files(tmp_path):
    records, _ = tape(4, count=50)
    path = save(tmp_path / "a.dbn", records)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(DataGap, match="truncated"):
        read(f"dbn:{path}")
    path.write_bytes(whole[:100])
    with pytest.raises(DataGap, match="metadata are cut short"):
        read(f"dbn:{path}")
    path.write_bytes(b"")
    with pytest.raises(DataGap, match="no DBN file"):
        read(f"dbn:{path}")
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(DataGap, match="no DBN file"):
        read(f"dbn:{path}")
    packed = save(tmp_path / "b.dbn.zst", records)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataGap):
        read(f"dbn:{packed}")
    with pytest.raises(DataGap, match="no DBN files"):
        read(f"dbn:{tmp_path / 'nowhere.dbn'}")


def test_schemas_without_quotes_or_use_are_refused(tmp_path):
    trade = dbn.TradeMsg(1, 12, OPEN_NS, price(100.0), 5, dbn.Action.TRADE, dbn.Side.BID, 0, OPEN_NS)
    path = save(tmp_path / "t.dbn", [trade], schema=dbn.Schema.TRADES)
    with pytest.raises(InvalidInput, match="no quotes"):
        read(f"dbn:{path}")
    (tmp_path / "m.dbn").write_bytes(header(dbn.Schema.MBO, {"ABC": 12}, "XNAS.ITCH"))
    with pytest.raises(InvalidInput, match="no use here"):
        read(f"dbn:{tmp_path / 'm.dbn'}")
    (tmp_path / "m.dbn").unlink()
    save(tmp_path / "q.dbn", [event(OPEN_NS)])
    with pytest.raises(InvalidInput, match="different schemas"):
        read(f"dbn:{tmp_path}")
    with pytest.raises(InvalidInput, match="no file of that schema"):
        read(f"dbn:{tmp_path}", schema="mbp-10")


def test_records_of_another_kind_inside_are_a_gap(tmp_path):
    bar = dbn.OHLCVMsg(dbn.RType.OHLCV_1M, 1, 12, OPEN_NS, 1, 1, 1, 1, 1)
    path = tmp_path / "a.dbn"
    path.write_bytes(header(dbn.Schema.MBP_1, {"ABC": 12}, "XNAS.ITCH") + bytes(bar).ljust(80, b"\0"))
    with pytest.raises(DataGap, match="not of the schema"):
        read(f"dbn:{path}")


def test_names_are_checked(tmp_path):
    records, _ = tape(5, count=50)
    with pytest.raises(InvalidInput, match="unknown symbol"):
        read(f"dbn:{save(tmp_path / 'a.dbn', records)}", names=["QQQ"])


def test_without_the_package_the_remedy_names_the_extra(tmp_path, monkeypatch):
    path = save(tmp_path / "a.dbn", [event(OPEN_NS)])
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "databento_dbn":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match="databento-dbn"):
        dbn_sources(path)


def test_one_clock_that_runs_ahead_costs_one_record(tmp_path):
    records, _ = tape(3, count=300)
    whole = read(f"dbn:{save(tmp_path / 'a.dbn', records)}", bucket_s=1800.0, stale_limit_s=20_000.0)
    ahead = [*records[:50], event(OPEN_NS + 20_000 * SECOND), *records[50:]]
    data = read(f"dbn:{save(tmp_path / 'b.dbn', ahead)}", bucket_s=1800.0, stale_limit_s=20_000.0)
    assert data.report.by_reason() == {"clock jump": 1}
    pd.testing.assert_frame_equal(data.events.to_frame(), whole.events.to_frame())
