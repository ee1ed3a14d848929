"""The parquet layout: exact round trips, all-or-nothing writing, refusal of damage."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import FuturesQuotes, MarketData, MarketEvents, SimulatedTruth, read
from crosswind.problems.market import store as store_module
from crosswind.solvers.errors import DataGap, InvalidInput


def make(factors: bool = True, seed: int = 0) -> MarketData:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-03-08 14:30:00.25", periods=7, freq="250ms", tz="UTC", name="end")
    names = ["B", "A"]  # not sorted on purpose
    volume = rng.lognormal(10, 2, (7, 2))
    fields = {
        "flow": volume * rng.uniform(-1, 1, (7, 2)),
        "mid": rng.lognormal(3, 1, (7, 2)),
        "spread": rng.uniform(0, 1, (7, 2)),
        "volume": volume,
        "depth": rng.lognormal(10, 2, (7, 2)),
    }
    frames = {k: pd.DataFrame(v, index=index, columns=names) for k, v in fields.items()}
    loadings = pd.DataFrame(rng.normal(size=(7, 1)), index=index, columns=["market"]) if factors else None
    if loadings is not None:
        loadings.iloc[0] = np.nan
    events = MarketEvents(**frames, bucket_s=0.25, tz="Europe/Paris", currency="EUR", factors=loadings)
    minutes = pd.date_range("2024-03-08 14:31", periods=3, freq="min", tz="UTC")
    bid = pd.DataFrame({"202403": [1 / 3, 2 / 3, 1.0], "202406": [np.nan, 1.1, 1.2]}, index=minutes)
    size = bid * 0 + 7
    quotes = FuturesQuotes("FCE", bid, bid + 0.5, size, size, size.fillna(0.0), 60, 10, 0.5)
    labels = pd.Index(names, dtype=object)
    truth = SimulatedTruth(
        rates_per_s=np.array([1 / 7]),
        matrices=np.eye(2)[None] / 3e9,
        sectors=pd.Series(["x", "y"], index=labels, dtype=object),
        betas=pd.Series([1 / 3, 1.0], index=labels),
        covariance=np.eye(2) / 7e8,
        seed=5,
        parameters={"names": 2, "scale": np.float64(0.1), "deep": {"list": [1, (2.0, None)]}, "grid": np.arange(2.0)},
    )
    return MarketData(events, {"FCE": quotes}, truth, "made", ("a note", "another"))


@pytest.mark.parametrize("factors", [True, False])
def test_events_round_trip_exactly(tmp_path, factors):
    events = make(factors).events
    folder = events.to_parquet(tmp_path / "deep" / "events")
    again = MarketEvents.from_parquet(folder)
    assert again.equals(events)
    assert again.index.name == "end"
    assert (again.bucket_s, again.tz, again.currency) == (0.25, "Europe/Paris", "EUR")
    pd.testing.assert_frame_equal(again.mid, events.mid, check_exact=True)


def test_market_data_round_trips_exactly(tmp_path):
    data = make()
    again = MarketData.from_parquet(data.to_parquet(tmp_path / "data"))
    assert again.events.equals(data.events)
    assert list(again.futures) == ["FCE"]
    assert again.futures["FCE"].equals(data.futures["FCE"])
    assert (again.source, again.notes) == (data.source, data.notes)
    assert again.truth is not None
    for field in ("rates_per_s", "matrices", "covariance"):
        np.testing.assert_array_equal(getattr(again.truth, field), getattr(data.truth, field))
    assert again.truth.sectors.equals(data.truth.sectors)
    assert again.truth.betas.equals(data.truth.betas)
    assert again.truth.seed == 5
    want = {"names": 2, "scale": 0.1, "deep": {"list": [1, [2.0, None]]}, "grid": [0.0, 1.0]}
    assert dict(again.truth.parameters) == want


def test_the_simulated_market_round_trips(tmp_path):
    data = read("sim:names=3,days=1,bucket_s=300,seed=2")
    again = read(f"parquet:{data.to_parquet(tmp_path / 'sim')}")
    assert again.events.equals(data.events)
    assert all(again.futures[k].equals(v) for k, v in data.futures.items())
    np.testing.assert_array_equal(again.truth.matrices, data.truth.matrices)


def test_writing_again_replaces_the_folder_and_leaves_nothing_behind(tmp_path):
    make().to_parquet(tmp_path / "data")
    make(seed=1).to_parquet(tmp_path / "data")
    assert MarketData.from_parquet(tmp_path / "data").events.equals(make(seed=1).events)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_failed_write_leaves_the_old_data(tmp_path, monkeypatch):
    make().to_parquet(tmp_path / "data")

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(store_module, "_put_truth", full_disk)
    with pytest.raises(OSError, match="no space"):
        make(seed=1).to_parquet(tmp_path / "data")
    with pytest.raises(OSError, match="no space"):
        make(seed=1).to_parquet(tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert MarketData.from_parquet(tmp_path / "data").events.equals(make().events)


def test_foreign_folders_are_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="not an earlier result"):
        make().to_parquet(tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="is a file"):
        make().events.to_parquet(tmp_path / "file")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    make().to_parquet(tmp_path / "empty")


@pytest.mark.parametrize(
    "file",
    ["market.json", "events/meta.json", "events/flow.parquet", "events/factors.parquet", "futures/FCE/bid.parquet"],
)
@pytest.mark.parametrize("damage", ["absent", "truncated"])
def test_damage_is_named(tmp_path, file, damage):
    folder = make().to_parquet(tmp_path / "data")
    path = folder / file
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataGap) as caught:
        MarketData.from_parquet(folder)
    assert caught.value.value == str(path)
    assert caught.value.remedy


def test_truth_damage_and_versions(tmp_path):
    folder = make().to_parquet(tmp_path / "data")
    (folder / "truth.npz").write_bytes(b"PK")
    with pytest.raises(DataGap, match=r"truth\.npz"):
        MarketData.from_parquet(folder)
    content = json.loads((folder / "market.json").read_text())
    (folder / "market.json").write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(DataGap, match="another version"):
        MarketData.from_parquet(folder)
    (folder / "market.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(DataGap, match="'futures' is absent"):
        MarketData.from_parquet(folder)


def test_read_narrows_stored_data(tmp_path):
    folder = make().to_parquet(tmp_path / "data")
    whole = read(f"parquet:{folder}", names=["B", "A"])
    assert whole.truth is not None
    part = read(f"parquet:{folder}", names=["A"], days="2024-03-08", bucket_s=0.5)
    assert part.events.names == ("A",)
    assert part.events.bucket_s == 0.5
    assert part.truth is None
    with pytest.raises(InvalidInput, match="takes no options"):
        read(f"parquet:{folder}", tick=0.01)
    with pytest.raises(DataGap, match="no such session"):
        read(f"parquet:{folder}", days="2024-03-09")
    events = read(f"parquet:{make().events.to_parquet(tmp_path / 'events')}")
    assert events.events.equals(make().events)
    assert events.futures == {}


# --- what lies beside the events --------------------------------------------------------------------------------------


def beside() -> MarketData:
    """Bars, funding, a calendar spread, desk orders and a report; no events."""
    from crosswind.problems.market.model import Bars, FundingRates, ReadReport
    from crosswind.problems.market.simulator.desk import DeskOrder, DeskOrders
    from crosswind.problems.market.spread_quotes import SpreadQuotes

    rng = np.random.default_rng(3)
    index = pd.date_range("2024-03-08 14:31", periods=4, freq="min", tz="UTC")
    price = rng.lognormal(3, 1, 4)
    frame = pd.DataFrame({"open": price, "high": price * 1.1, "low": price / 1.1, "close": price, "volume": 1 / 3})
    bars = Bars(frame.set_axis(index, axis=0), 60.0, "start")
    rates = FundingRates("BTC/USD", pd.Series(rng.normal(0, 1e-4, 4), index=index))
    bid = pd.Series([np.nan, -6.75, -6.70, -6.65], index=index)
    size, traded = bid * 0 + 12.0, pd.Series([0.0, 3.0, 4.0, 1 / 3], index=index)
    spread = SpreadQuotes(
        "ES", "202403", "202406", bid, bid + 0.05, size, size, traded, traded / 2, traded / 3, 60, 50, 0.05
    )
    plan = pd.DataFrame(rng.integers(-9, 9, (4, 2)) * 100.0, index=index, columns=["Z", "A"])
    mid = pd.DataFrame(rng.lognormal(3, 1, (4, 2)), index=index, columns=["Z", "A"])
    revised = plan.copy()
    revised.iloc[2:] *= 2
    stopped = plan * 0.5
    stopped.iloc[3:] = 0.0
    end = index[-1] + pd.Timedelta(minutes=5)
    orders = (
        DeskOrder("P1", index[0], end, 60.0, plan, stopped, ((2, revised),), 3, "lumpy", mid, mid * 1e-4),
        DeskOrder("P2", index[0], end, 60.0, plan, plan),
    )
    report = ReadReport()
    report.instrument("X", "venue", "ticks", clock="ms", tick="0.1").saw("trades", 7, 1, 2)
    report.instruments["X"].gaps, report.instruments["X"].longest_gap_s = 2, 61.5
    report.file("a.csv", 123)
    report.bad("a.csv", "duplicate", 4, "row 7")
    return MarketData(
        None,
        source="made",
        bars={"a/b c": bars, "b": bars.stamped("end")},
        funding={"BTC/USD": rates},
        report=report,
        spreads={"ES": spread},
        desk=DeskOrders(orders),
    )


def test_all_parts_round_trip_exactly(tmp_path):
    data = beside()
    again = read(f"parquet:{data.to_parquet(tmp_path / 'm')}")
    assert again.buckets is None
    assert list(again.bars) == ["a/b c", "b"]
    for key, bars in data.bars.items():
        pd.testing.assert_frame_equal(again.bars[key].frame, bars.frame, check_exact=True, check_freq=False)
        assert (again.bars[key].bar_s, again.bars[key].stamp) == (bars.bar_s, bars.stamp)
    rates = data.funding["BTC/USD"]
    pd.testing.assert_series_equal(again.funding["BTC/USD"].rates, rates.rates, check_exact=True, check_freq=False)
    assert again.spreads["ES"].equals(data.spreads["ES"])
    assert data.desk is not None
    assert again.desk is not None
    for one, two in zip(again.desk.orders, data.desk.orders, strict=True):
        assert one.equals(two)
    assert again.report is not None
    assert data.report is not None
    assert again.report.to_dict() == data.report.to_dict()
    assert again.report.summary() == data.report.summary()
    assert again.summary() == data.summary()


@pytest.mark.parametrize("name", ["desk.npz", "desk.json", "report.json", "bars/0000/frame.parquet"])
@pytest.mark.parametrize("damage", ["absent", "cut", "empty"])
def test_damaged_parts_are_refused(tmp_path, name, damage):
    folder = beside().to_parquet(tmp_path / "m")
    path = folder / name
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataGap) as caught:
        read(f"parquet:{folder}")
    assert name.rpartition("/")[2] in str(caught.value)


def test_events_and_parts_together_and_narrowed(tmp_path):
    from dataclasses import replace

    one, parts = make(), beside()
    both = replace(one, bars=parts.bars, funding=parts.funding, spreads=parts.spreads, desk=parts.desk)
    folder = both.to_parquet(tmp_path / "m")
    again = read(f"parquet:{folder}")
    assert again.events.equals(one.events)
    assert again.report is None
    narrow = read(f"parquet:{folder}", ["A"])
    assert narrow.events.names == ("A",)
    assert list(narrow.bars) == list(parts.bars)
