"""Markouts: by hand, dropped at the close, blocked errors that cover, own fills."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import ChildFills, simulate
from crosswind.problems.market.features import fill_markouts, markouts, trade_markouts
from crosswind.problems.market.ticks import QuoteTape, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

S = 1_000_000_000


def at(*seconds: float) -> np.ndarray:
    return (np.array(seconds) * S).astype(np.int64)


def test_by_hand() -> None:
    found = markouts(
        at(10, 20), [100.1, 99.8], [1.0, 3.0], [1, -1],
        at(0, 12, 15, 21, 24, 60), [100.0, 100.4, 100.2, 99.6, 99.9, 99.9], horizons_s=(2, 5),
    )  # fmt: skip
    t = found.table
    buy2, sell2 = 1e4 * (100.4 - 100.1) / 100.1, -1e4 * (99.6 - 99.8) / 99.8
    assert t.loc[("price", "buy", 2.0), "plain_bps"] == pytest.approx(buy2)
    assert t.loc[("price", "sell", 2.0), "plain_bps"] == pytest.approx(sell2)
    assert t.loc[("price", "all", 2.0), "plain_bps"] == pytest.approx(0.5 * (buy2 + sell2))
    weights = np.array([100.1, 3 * 99.8])
    assert t.loc[("price", "all", 2.0), "weighted_bps"] == pytest.approx(weights @ [buy2, sell2] / weights.sum())
    assert t.loc[("mid", "buy", 5.0), "plain_bps"] == pytest.approx(1e4 * (100.2 - 100.0) / 100.0)
    assert t.loc[("mid", "sell", 5.0), "plain_bps"] == pytest.approx(-1e4 * (99.9 - 100.2) / 100.2)
    assert found.labels["bps_2s"].tolist() == pytest.approx([buy2, sell2])
    assert "2 trades" in found.summary()


def test_what_leaves_the_session_is_dropped_and_counted() -> None:
    sessions = [(0, 100 * S), (200 * S, 300 * S)]
    found = markouts(
        at(50, 95, 99, 150, 201, 299.5), np.full(6, 10.0), np.ones(6), [1, 1, -1, 1, 1, -1], at(0, 202), [10.0, 20.0],
        horizons_s=(1, 5), sessions_ns=sessions,
    )  # fmt: skip
    row = found.table.loc[("price", "all")]
    # 150 lies between the sessions; 201 comes before the second session's first quote; 299.5 + 1 s is over.
    assert row.loc[1.0, ["trades", "dropped"]].tolist() == [3, 3]
    assert row.loc[5.0, ["trades", "dropped"]].tolist() == [2, 4]  # 95 + 5 = the close counts, 99 + 5 does not
    assert row["plain_bps"].tolist() == [0.0, 0.0]  # never the other session's mid of 20
    assert found.table.loc[("price", "sell", 5.0), "trades"] == 0
    assert np.isnan(found.table.loc[("price", "sell", 5.0), "plain_bps"])


def test_default_session_ends_with_the_last_mid() -> None:
    found = markouts(at(1, 8), [10.0, 10.0], [1.0, 1.0], [1, 1], at(0, 9), [10.0, 11.0], horizons_s=(1, 3))
    assert found.table.loc[("price", "all", 3.0), "dropped"] == 1
    assert found.table.loc[("price", "all", 1.0), "plain_bps"] == pytest.approx(500.0)


def test_labels_use_nothing_after_their_horizon() -> None:
    rng = np.random.default_rng(0)
    quoted = np.arange(400, dtype=np.int64) * S
    mid = 100.0 + rng.standard_normal(400)
    when = np.sort(rng.integers(0, 300 * S, 100))
    sign = rng.choice([-1, 1], 100)
    late = np.where(quoted > 200 * S, 1e3, mid)
    a, b = (markouts(when, np.full(100, 100.0), np.ones(100), sign, quoted, m, horizons_s=(30,)) for m in (mid, late))
    known = when + 30 * S <= 200 * S
    assert a.labels["bps_30s"][known].equals(b.labels["bps_30s"][known])
    assert not a.labels["bps_30s"].equals(b.labels["bps_30s"])


def test_blocked_errors_cover_dependent_trades() -> None:
    """Trades of one block share their move: the error must be that of the blocks, not that of the trades."""
    rng = np.random.default_rng(1)
    blocks, each, inside = 60, 20, 0
    for _ in range(300):
        move = rng.standard_normal(blocks)
        when = (np.arange(blocks)[:, None] * 60 + np.arange(1, each + 1)).ravel() * S
        quoted = (np.arange(blocks)[:, None] * 60 + np.array([0, 25])).ravel() * S
        mid = 100.0 + np.column_stack([np.zeros(blocks), move]).ravel()
        row = markouts(
            when, np.full(len(when), 100.0), np.ones(len(when)), np.ones(len(when)), quoted, mid, horizons_s=(30,)
        ).table.iloc[0]
        inside += abs(row["plain_bps"]) < 2.0 * row["plain_se_bps"]
        assert row["blocks"] == blocks or row["dropped"] > 0
    assert 0.91 < inside / 300 < 0.985  # 95.4 % for normal means; independent trades would cover about a third


def test_one_block_has_no_error() -> None:
    row = markouts(at(1), [10.0], [1.0], [1], at(0, 100), [10.0, 10.0], horizons_s=(5,)).table.iloc[0]
    assert row["plain_bps"] == 0.0
    assert np.isnan(row["plain_se_bps"])


def test_trades_without_signs_are_signed() -> None:
    quotes = QuoteTape(
        at(0, 3, 60), *(np.array(v) for v in ([99.0, 100.0, 100.0], [101.0, 102.0, 102.0])), np.ones(3), np.ones(3)
    )
    trades = TradeTape(at(1, 2), np.array([101.0, 100.5]), np.ones(2), np.array([True, False]))
    found = trade_markouts(trades, quotes, horizons_s=(5,))
    assert len(found.labels) == 1  # the other is not signable
    assert found.table.loc[("price", "buy", 5.0), "plain_bps"] == pytest.approx(0.0)
    known = TradeTape(trades.time_ns, trades.price, trades.shares, trades.signable, np.array([-1, 0], np.int8))
    assert trade_markouts(known, quotes, horizons_s=(5,)).labels["sign"].tolist() == [-1.0]


def test_no_trades_make_an_empty_table() -> None:
    found = markouts(at(), [], [], [], at(0, 1), [1.0, 1.0])
    assert len(found.table) == 2 * 3 * 4
    assert (found.table["trades"] == 0).all()


def test_fills_against_buckets() -> None:
    events = simulate(names=2, days=2, bucket_s=10.0, seed=3).events
    name = events.names[1]
    row, h = 50, 6
    time = events.index[row]
    price = float(events.mid[name].iloc[row] * 1.001)
    end = events.index[len(events.index) // 2 - 1]
    fills = ChildFills(
        pd.DataFrame({"parent": "p", "name": name, "time": [time, end], "shares": [-5.0, 2.0], "price": [price, 50.0]})
    )
    found = fill_markouts(fills, events, horizons_s=(60,))
    assert list(found) == [name]
    want = -1e4 * (events.mid[name].iloc[row + h] - price) / price
    assert found[name].table.loc[("price", "sell", 60.0), "plain_bps"] == pytest.approx(want)
    assert found[name].table.loc[("price", "buy", 60.0), "dropped"] == 1  # at the first day's close
    with pytest.raises(DataGap, match="no buckets"):
        fill_markouts(fills, events.select([events.names[0]]))
    with pytest.raises(InvalidInput, match="not ChildFills"):
        fill_markouts(fills.frame, events)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sign": [2]}, "sign"),
        ({"price": [0.0]}, "price"),
        ({"price": [np.nan]}, "price"),
        ({"shares": [1.0, 1.0]}, "shares"),
        ({"mid": [-1.0, 1.0]}, "mid"),
        ({"mid_ns": at(5, 0)}, "mid_ns"),
        ({"horizons_s": ()}, "horizons_s"),
        ({"horizons_s": (5, 5)}, "horizons_s"),
        ({"sessions_ns": [(5, 1)]}, "sessions_ns"),
        ({"sessions_ns": [5]}, "sessions_ns"),
        ({"block_s": -1}, "block_s"),
    ],
)
def test_bad_input_is_typed(change: dict[str, object], field: str) -> None:
    good = {"time_ns": at(1), "price": [10.0], "shares": [1.0], "sign": [1], "mid_ns": at(0, 9), "mid": [10.0, 10.0]}
    with pytest.raises(InvalidInput) as caught:
        markouts(**(good | change))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_picture_is_drawn() -> None:
    pytest.importorskip("plotly")
    found = markouts(at(1, 2), [10.0, 10.0], [1.0, 1.0], [1, -1], at(0, 100), [10.0, 10.1])
    assert len(found.plot().data) == 3
