"""All ticks of an instrument at once equal what the stream tells of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read_tapes, stream
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import InvalidInput


def ticks(path: Path, *, side: bool, crossed: int = 0) -> str:
    rng = np.random.default_rng(5)
    count = 700
    when = pd.date_range("2024-03-04 14:30:05", periods=count, freq="7s", tz="UTC")
    bid = 50.0 + 0.01 * rng.integers(-1, 2, count).cumsum()
    table = pd.DataFrame(
        {
            "time": when,
            "name": np.where(np.arange(count) % 2, "ABC", "XYZ"),
            "price": bid + 0.02 * rng.integers(0, 2, count),
            "size": rng.integers(1, 9, count) * 100,
            "bid": bid,
            "ask": bid + 0.02,
            "bid_size": 500,
            "ask_size": 400,
        }
    )
    table.loc[1 : 2 * crossed : 2, "bid"] += 1.0
    if side:
        table["side"] = rng.choice(["buy", "sell"], count)
    table.to_csv(path, index=False)
    return f"csv:{path}"


@pytest.mark.parametrize("side", [True, False])
def test_tapes_hold_what_the_stream_tells(tmp_path: Path, side: bool) -> None:
    spec = ticks(tmp_path / "ticks.csv", side=side)
    tapes = read_tapes(spec)
    assert set(tapes) == {"ABC", "XYZ"}
    told = pd.concat(list(stream(spec, rows=50)))
    for name, tape in tapes.items():
        mine = told[told["name"] == name]
        trades, quotes = mine[mine["kind"] == "trade"], mine[mine["kind"] == "quote"]
        assert tape.trades.sign is not None
        assert tape.depth is None
        np.testing.assert_array_equal(tape.trades.time_ns, trades.index.asi8)
        np.testing.assert_array_equal(tape.trades.price, trades["price"])
        np.testing.assert_array_equal(tape.trades.sign, trades["side"])
        np.testing.assert_array_equal(tape.quotes.known_ns, quotes.index.asi8)
        np.testing.assert_array_equal(tape.quotes.bid, quotes["bid"])


def test_names_are_kept_and_crossed_quotes_left_out_and_counted(tmp_path: Path) -> None:
    spec = ticks(tmp_path / "ticks.csv", side=True, crossed=2)
    whole = read_tapes(spec, names=["XYZ"])
    assert list(whole) == ["XYZ"]
    assert len(whole["XYZ"].quotes) == 350
    report = ReadReport()
    part = read_tapes(spec, names=["ABC"], report=report)["ABC"]
    assert len(part.quotes) == 348
    assert report.bad_rows == 2


def test_levels_of_the_book_come_along(tmp_path: Path) -> None:
    stem = "ABC_2012-06-21_34200000_57600000_{}_2.csv"
    rows = range(3)
    messages = [f"{34200 + k}.5,1,{k},100,500000,1" for k in rows]
    book = [f"{500100 + 100 * k},200,{500000 + 100 * k},300,{500300 + 100 * k},10,{499900 + 100 * k},20" for k in rows]
    for kind, lines in (("message", messages), ("orderbook", book)):
        (tmp_path / stem.format(kind)).write_text("\n".join(lines) + "\n")
    depth = read_tapes(f"lobster:{tmp_path}", levels=2)["ABC"].depth
    assert depth is not None
    assert depth.bid.shape == (3, 2)
    np.testing.assert_allclose(depth.ask[:, 0], [50.01, 50.02, 50.03])
    np.testing.assert_array_equal(depth.bid_shares, [[300, 20]] * 3)


def test_a_format_without_ticks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no ticks"):
        read_tapes("sim:names=2,days=1")
