"""Order-flow imbalance: the published cases by hand, books whose flow is known, levels and their integration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.features import (
    IntegratedOFI,
    book_ofi,
    bucket_ofi,
    event_ofi,
    order_flow_imbalance,
)
from crosswind.problems.market.ticks import DepthTape, QuoteTape
from crosswind.solvers.errors import InvalidInput

S = 1_000_000_000


@pytest.mark.parametrize(
    ("after", "want"),
    [
        ((100, 7, 101, 4), 2),  # 2 joined the bid
        ((100, 1, 101, 4), -4),  # 4 left the bid
        ((100, 5, 101, 9), -5),  # 5 joined the ask
        ((100, 5, 101, 1), 3),  # 3 left the ask
        ((100.5, 6, 101, 4), 6),  # a better bid of 6
        ((99, 6, 101, 4), -5),  # the bid of 5 went
        ((100, 5, 100.5, 2), -2),  # a better ask of 2
        ((100, 5, 102, 8), 4),  # the ask of 4 went
        ((101, 3, 102, 8), 7),  # both moved up: 3 new on the bid, 4 gone from the ask
        ((100, 5, 101, 4), 0),  # nothing happened
        ((np.nan, 0, 101, 4), -5),  # the whole bid side went
        ((100, 5, np.nan, 0), 4),  # the whole ask side went
    ],
)
def test_each_case_of_one_update(after: tuple[float, ...], want: float) -> None:
    rows = np.array([(100, 5, 101, 4), after], dtype=float)
    assert event_ofi(*rows.T).tolist() == [0.0, want]


def test_an_empty_side_comes_back() -> None:
    assert event_ofi([np.nan, 100.0], [0.0, 3.0], [101.0, 101.0], [2.0, 2.0]).tolist() == [0.0, 3.0]
    assert event_ofi([np.nan] * 2, [0.0] * 2, [np.nan] * 2, [0.0] * 2).tolist() == [0.0, 0.0]


def test_a_queue_at_one_price_keeps_the_books() -> None:
    """While prices stand, the sum of contributions is the change of the bid's size less that of the ask's."""
    rng = np.random.default_rng(0)
    bid, ask = rng.integers(1, 50, (2, 500)).astype(float)
    flat = np.full(500, 100.0)
    total = event_ofi(flat, bid, flat + 1, ask).sum()
    assert total == (bid[-1] - bid[0]) - (ask[-1] - ask[0])


def test_a_simulated_book_gives_back_its_flow() -> None:
    """Orders, cancellations and trades at the best of a book whose next levels are known: OFI is their signed sum."""
    rng = np.random.default_rng(1)
    deep = 10.0  # size of every level behind the best
    level, sizes = 0, {1: 10.0, -1: 10.0}  # +1 the bid, −1 the ask
    rows, flow = [(100.0, 10.0, 101.0, 10.0)], [0.0]
    for _ in range(5000):
        side, size = (1 if rng.random() < 0.5 else -1), float(rng.integers(1, 8))
        if rng.random() < 0.5:  # an order joins
            sizes[side] += size
            flow.append(side * size)
        else:  # a trade or a cancellation takes at most the queue
            size = min(size, sizes[side])
            sizes[side] -= size
            flow.append(-side * size)
            if sizes[side] == 0.0:  # the queue is gone: both best prices shift by a tick, away from that side
                level -= side
                sizes = {side: deep, -side: 3.0}
                # The other side improves by a new order of 3, which is flow on that side.
                flow[-1] += -side * 3.0
        rows.append((100.0 + level, sizes[1], 101.0 + level, sizes[-1]))
    got = event_ofi(*np.array(rows).T)
    assert got == pytest.approx(np.array(flow), abs=1e-12)


def test_buckets_hold_what_separates_their_quotes() -> None:
    known = np.array([0, 5, 10, 11, 20, 31], dtype=np.int64) * S
    sums = bucket_ofi(known, np.array([100.0, 1, 2, 4, 8, 16]), np.array([0, 10, 20, 30], dtype=np.int64) * S)
    assert sums.tolist() == [3.0, 12.0, 0.0]  # (0, 10], (10, 20], (20, 30]
    two = bucket_ofi(known, np.ones((6, 2)), np.array([0, 40], dtype=np.int64) * S)
    assert two.tolist() == [[5.0, 5.0]]
    with pytest.raises(InvalidInput, match="one row per time"):
        bucket_ofi(known, np.ones(5), np.array([0, 1], dtype=np.int64))
    with pytest.raises(InvalidInput, match="different edges"):
        bucket_ofi(known, np.ones(6), np.array([0], dtype=np.int64))


def book(count: int = 300, levels: int = 3, seed: int = 2) -> DepthTape:
    rng = np.random.default_rng(seed)
    best = 100.0 + np.cumsum(rng.integers(-1, 2, count))
    steps = np.arange(levels)
    sizes = rng.integers(1, 30, (2, count, levels)).astype(float)
    time = np.arange(1, count + 1, dtype=np.int64) * S
    bid, ask = best[:, None] - steps, best[:, None] + 1 + steps
    return DepthTape(time, bid, sizes[0], ask, sizes[1])


def test_levels_of_a_book_and_its_best_quotes_agree() -> None:
    depth = book()
    edges = np.arange(0, 301, 10, dtype=np.int64) * S
    levels = book_ofi(depth, edges)
    quotes = QuoteTape(depth.known_ns, depth.bid[:, 0], depth.ask[:, 0], depth.bid_shares[:, 0], depth.ask_shares[:, 0])
    best = order_flow_imbalance(quotes, edges)
    assert levels.frame.shape == (30, 3)
    assert levels.frame["level_1"].equals(best.frame["level_1"])
    assert best.depth.iloc[0] == pytest.approx(0.5 * (quotes.bid_shares[:10] + quotes.ask_shares[:10]).mean())
    assert levels.scaled().iloc[3, 1] == pytest.approx(levels.frame.iloc[3, 1] / levels.depth.iloc[3])
    assert "3 levels" in levels.summary()
    assert list(levels.to_frame()) == ["level_1", "level_2", "level_3", "depth"]


def test_empty_buckets_are_zero() -> None:
    levels = book_ofi(book(5), np.array([0, 10, 20, 30], dtype=np.int64) * S)
    assert np.isnan(levels.depth.iloc[2])
    assert levels.frame.iloc[2].tolist() == [0.0, 0.0, 0.0]
    assert (levels.scaled().iloc[2] == 0.0).all()


@pytest.mark.parametrize("row", [1, 77])
def test_contributions_do_not_look_ahead(row: int) -> None:
    depth = book()
    late = (np.arange(300) > row)[:, None]
    parts = (depth.bid, depth.bid_shares, depth.ask, depth.ask_shares)
    bad = [np.where(late, v * 3.0 + 1.0, v) for v in parts]
    assert np.array_equal(event_ofi(*parts)[: row + 1], event_ofi(*bad)[: row + 1])
    assert not np.array_equal(event_ofi(*parts), event_ofi(*bad))


def test_integration_finds_the_common_factor() -> None:
    rng = np.random.default_rng(4)
    common = rng.standard_normal(4000)
    loadings = np.array([3.0, 2.0, 1.0])
    x = pd.DataFrame(common[:, None] * loadings + 0.01 * rng.standard_normal((4000, 3)), columns=["a", "b", "c"])
    model = IntegratedOFI().fit(x.iloc[:2000])
    assert model.weights_.to_numpy() == pytest.approx(loadings / 6.0, abs=1e-3)
    assert model.explained_share_ > 0.999
    one = model.transform(x.iloc[2000:])
    assert np.corrcoef(one, common[2000:])[0, 1] > 0.9999
    # Weights come from the fitted rows alone.
    other = x.copy()
    other.iloc[2000:] = -7.0
    assert IntegratedOFI().fit(other.iloc[:2000]).weights_.equals(model.weights_)
    single = IntegratedOFI().fit(x[["a"]])
    assert single.weights_.tolist() == [1.0]


def test_bad_input_is_typed() -> None:
    with pytest.raises(InvalidInput, match="differ in shape"):
        event_ofi([1.0, 1.0], [1.0], [2.0, 2.0], [1.0, 1.0])
    with pytest.raises(InvalidInput, match="negative or NaN size"):
        event_ofi([1.0], [-1.0], [2.0], [1.0])
    with pytest.raises(InvalidInput, match="size without a price"):
        event_ofi([np.nan], [1.0], [2.0], [1.0])
    with pytest.raises(InvalidInput, match="not a DepthTape"):
        book_ofi(QuoteTape(*(np.zeros(1) for _ in range(5))), np.array([0, 1]))
    model = IntegratedOFI()
    frame = pd.DataFrame(np.eye(3), columns=["a", "b", "c"])
    with pytest.raises(InvalidInput, match="not fitted"):
        model.transform(frame)
    with pytest.raises(InvalidInput, match="nothing varies"):
        model.fit(frame * 0.0)
    with pytest.raises(InvalidInput, match="other levels"):
        model.fit(frame).transform(frame[["a", "b"]])
    with pytest.raises(InvalidInput, match="NaN"):
        model.fit(frame * np.nan)


def test_picture_is_drawn() -> None:
    pytest.importorskip("plotly")
    assert len(book_ofi(book(), np.arange(0, 301, 10, dtype=np.int64) * S).plot().data) == 3
