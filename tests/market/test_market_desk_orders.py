"""The desk's orders: the record refuses what cannot be, the draw is causal, sums to its plans and repeats by seed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.simulator.desk import KINDS, DeskOrder, DeskOrders, DeskParameters, draw_desk
from crosswind.problems.market.simulator.sessions import u_shape
from crosswind.solvers.errors import DataGap, InvalidInput

BUSY = DeskParameters(parents_per_day=14.0)


@pytest.fixture(scope="module")
def events() -> MarketEvents:
    """Six names, three sessions, buckets of a minute."""
    return simulate(names=6, days=3, bucket_s=60.0, seed=11).events


@pytest.fixture(scope="module")
def desk(events: MarketEvents) -> DeskOrders:
    """A busy desk with the default habits."""
    return draw_desk(events, BUSY, 5)


def only(kind: str, **values: Any) -> DeskParameters:
    weights = tuple(float(k == kind) for k in KINDS)
    calm: dict[str, Any] = {"revision_probability": 0.0, "cancel_probability": 0.0, "parents_per_day": 12.0}
    return DeskParameters(kind_weights=weights, **{**calm, **values})


def test_fills_sum_to_the_last_plan_unless_cancelled_and_never_pass_it(desk: DeskOrders) -> None:
    assert len(desk) > 20
    for order in desk.orders:
        final, done = order.final_plan.abs().sum(), order.fills.abs().sum()
        if order.cancelled_at is None:
            pd.testing.assert_series_equal(done, final, check_exact=True)
        else:
            assert (done <= final).all()
            assert not order.fills.iloc[order.cancelled_at :].to_numpy().any()


def test_every_slice_is_whole_lots_on_the_orders_own_side(desk: DeskOrders) -> None:
    for order in desk.orders:
        side = np.sign(order.plan.sum()).to_numpy()
        for frame in (order.plan, order.fills, order.final_plan):
            values = frame.to_numpy()
            assert not (values % BUSY.lot_shares).any()
            assert (values * side >= 0.0).all()
            assert not (np.signbit(values) & (values == 0.0)).any()


def test_every_kind_revision_and_cancellation_occurs(desk: DeskOrders) -> None:
    frame = desk.to_frame()
    assert set(frame["kind"]) == set(KINDS)
    assert (frame["revisions"] > 0).any()
    assert frame["cancelled"].astype(bool).any()
    assert (frame["names"] > 1).any()
    assert (frame["names"] == 1).any()


def test_the_draw_repeats_byte_for_byte_and_differs_by_seed(events: MarketEvents, desk: DeskOrders) -> None:
    again = draw_desk(events, BUSY, 5)
    assert again.equals(desk)
    assert [o.fills.to_numpy().tobytes() for o in again.orders] == [o.fills.to_numpy().tobytes() for o in desk.orders]
    assert not draw_desk(events, BUSY, 6).equals(desk)


def test_a_shorter_market_has_the_first_orders_of_the_longer(events: MarketEvents, desk: DeskOrders) -> None:
    for days in (1, 2):
        short = draw_desk(events.on(events.days[:days]), BUSY, 5)
        assert 0 < len(short) < len(desk)
        assert short.equals(DeskOrders(desk.orders[: len(short)]))


def test_poisoning_the_market_after_a_slice_leaves_plans_fills_and_prices_before_it(
    events: MarketEvents, desk: DeskOrders
) -> None:
    at = len(events.index) // 2
    bad = {}
    for field in ("flow", "mid", "spread", "volume", "depth"):
        frame = getattr(events, field).copy()
        frame.iloc[at:] *= 7.0
        bad[field] = frame
    poisoned = draw_desk(replace(events, **bad), BUSY, 5)
    cut = events.index[at]
    compared = 0
    for order in desk.orders:
        if order.start >= cut:
            continue
        other = poisoned[order.name]
        before = order.plan.index < cut
        assert order.plan.equals(other.plan)
        assert order.fills.equals(other.fills)  # the cash algorithm does not look at prices
        assert order.mid is not None
        assert other.mid is not None
        assert order.mid[before].equals(other.mid[before])
        compared += 1
    assert compared > 10


def test_changing_one_habit_leaves_the_others_as_they_were(events: MarketEvents, desk: DeskOrders) -> None:
    calm = draw_desk(events, replace(BUSY, revision_probability=0.0, cancel_probability=0.0), 5)
    assert [o.name for o in calm.orders] == [o.name for o in desk.orders]
    for a, b in zip(calm.orders, desk.orders, strict=True):
        assert a.plan.equals(b.plan)
        first = min([k for k, _ in b.revisions] + [b.slices] + ([b.cancelled_at] if b.cancelled_at else []))
        assert a.fills.iloc[: first - 1].equals(b.fills.iloc[: first - 1])
        if not b.revisions and b.cancelled_at is None:
            assert a.equals(b)
    noisy = draw_desk(events, replace(BUSY, fill_noise_sd=1.5), 5)
    assert all(a.plan.equals(b.plan) for a, b in zip(noisy.orders, desk.orders, strict=True))
    assert [o.cancelled_at for o in noisy.orders] == [o.cancelled_at for o in desk.orders]


def test_what_is_known_at_a_slice(events: MarketEvents) -> None:
    p = only("vwap", revision_probability=1.0, cancel_probability=0.5, revisions_max=3, parents_per_day=20.0)
    orders = draw_desk(events, p, 2).orders
    assert sum(len(o.revisions) for o in orders) > 20
    sizes = set()
    for order in orders:
        before = order.plan
        for k, plan in order.revisions:
            assert order.plan_at(k - 1).equals(before)
            assert order.plan_at(k).equals(plan)
            np.testing.assert_array_equal(plan.to_numpy()[:k], before.to_numpy()[:k])
            sizes.add(np.sign(plan.abs().to_numpy().sum() - before.abs().to_numpy().sum()))
            before = plan
        if order.cancelled_at is not None:
            assert not order.plan_at(order.cancelled_at).iloc[order.cancelled_at :].to_numpy().any()
            assert order.plan_at(order.cancelled_at - 1).equals(before)
    assert {-1.0, 1.0} <= sizes  # sizes go up and down


def test_revisions_stretch_to_the_deadline_and_speed_up(events: MarketEvents) -> None:
    def last(plan: pd.DataFrame) -> int:
        return int(np.flatnonzero(plan.to_numpy().any(axis=1))[-1])

    one = {"revision_probability": 1.0, "revisions_max": 1, "resize_log_sd": 0.0, "lot_shares": 1}
    stretched = draw_desk(events, only("twap", stretch_probability=1.0, speed_up_probability=0.0, **one), 3).orders
    assert all(last(o.final_plan) == o.slices - 1 for o in stretched if o.revisions)
    fast = draw_desk(events, only("twap", stretch_probability=0.0, speed_up_probability=1.0, **one), 3).orders
    pairs = [(k, last(o.plan), last(plan)) for o in fast for k, plan in o.revisions]
    assert len(pairs) > 5
    assert all(after <= k + (before - k + 1) // 2 for k, before, after in pairs if before >= k)
    for order in (*stretched, *fast):
        np.testing.assert_array_equal(order.plan.sum(), order.final_plan.sum())  # only the timing changed


def test_a_smaller_plan_never_takes_back_what_was_done(events: MarketEvents) -> None:
    p = only("lumpy", revision_probability=1.0, resize_log_sd=4.0, lumps_mean=1.0, parents_per_day=30.0)
    floored = 0
    for order in draw_desk(events, p, 3).orders:
        side = np.sign(order.plan.sum())
        assert ((order.fills * side) >= 0.0).all().all()
        assert ((order.final_plan * side) >= 0.0).all().all()
        for k, plan in order.revisions:
            done = order.fills.iloc[:k].abs().sum()
            assert (plan.abs().sum() >= done).all()
            floored += int((plan.abs().sum() == done).any())
    assert floored > 3  # the floor is reached by orders that ran ahead of their plan


def test_twap_is_even_and_vwap_follows_the_profile(events: MarketEvents) -> None:
    fine = {"lot_shares": 1, "slack_max": 0.0}
    for order in draw_desk(events, only("twap", **fine), 1).orders:
        assert (order.plan.abs().max() - order.plan.abs().min()).max() <= 1.0
    late = draw_desk(events, only("vwap", horizon_min_s=20000.0, horizon_max_s=20000.0, **fine), 1).orders
    for order in late:
        shares = order.plan.iloc[:, 0].abs().to_numpy()
        middle = shares[len(shares) // 2 - 20 : len(shares) // 2 + 20].mean()
        assert shares[-20:].mean() > 1.3 * middle


def test_without_noise_smooth_kinds_do_what_they_plan(events: MarketEvents) -> None:
    for kind in ("twap", "vwap", "two_sided"):
        for order in draw_desk(events, only(kind, fill_noise_sd=0.0), 4).orders:
            assert order.fills.equals(order.plan)


def test_lumpy_fills_are_far_lumpier_than_the_plan(events: MarketEvents) -> None:
    def concentration(order: DeskOrder) -> float:
        total = np.sort(order.fills.abs().sum(axis=1).to_numpy())[::-1]
        return float(total[:5].sum() / total.sum())

    lumpy = [concentration(o) for o in draw_desk(events, only("lumpy"), 4).orders]
    smooth = [concentration(o) for o in draw_desk(events, only("twap"), 4).orders]
    assert np.mean(lumpy) > 0.6
    assert np.mean(smooth) < 0.4


def test_blocks_are_planned_at_fixed_slices_and_done_then_or_one_slice_late(events: MarketEvents) -> None:
    orders = draw_desk(events, only("block", block_delay_probability=0.3, block_share=0.8), 4).orders
    on_time = late = 0
    for order in orders:
        plan = order.plan.abs().sum(axis=1).to_numpy()
        fills = order.fills.abs().sum(axis=1).to_numpy()
        blocks = np.flatnonzero(plan > 0.15 * plan.sum())
        assert 1 <= len(blocks) <= 4
        for k in blocks:
            if fills[k] >= plan[k]:
                on_time += 1
            else:
                assert fills[k] == 0.0
                late += 1
    assert on_time > late > 0


def test_a_two_sided_basket_has_both_sides_and_its_sells_lead(events: MarketEvents) -> None:
    p = only("two_sided", two_sided_net_sd=0.2, two_sided_lead=0.2, lot_shares=1)
    orders = draw_desk(events, p, 7).orders
    nets = []
    for order in orders:
        assert order.mid is not None
        total = order.plan.sum() * order.mid.iloc[0]
        assert (total > 0).any()
        assert (total < 0).any()
        nets.append(float(total.sum() / total.abs().sum()))
        sold = order.plan.loc[:, total.lt(0)].to_numpy().any(axis=1)
        bought = order.plan.loc[:, total.gt(0)].to_numpy().any(axis=1)
        assert np.argmax(sold) < np.argmax(bought)
    assert 0.08 < np.std(nets) < 0.35


def expected_volume(events: MarketEvents, order: DeskOrder, u: float) -> Any:
    """Return what is to be expected in the order's window from the volume before it and the usual profile."""
    per_day = 390
    seen = events.volume[list(order.names)][events.index <= order.start]
    usual = np.tile(u_shape(per_day, u), len(events.index) // per_day)[: len(seen)]
    first = (len(seen) - 1) % per_day
    window = u_shape(per_day - 1, u)[first : first + order.slices]  # slices start at the end of the first bucket
    return seen.sum() / usual.sum() * window.sum()


def test_sizes_are_a_share_of_the_volume_seen_before_the_start(events: MarketEvents) -> None:
    p = only("twap", participation_log_sd=0.0, participation_median=0.1, basket_probability=0.0, lot_shares=1)
    for order in draw_desk(events, p, 9).orders:
        assert order.mid is not None
        expected = 0.1 * expected_volume(events, order, p.vwap_u_shape).iloc[0] / float(order.mid.iloc[0, 0])
        assert abs(order.plan.abs().to_numpy().sum() - expected) <= 0.5


def test_sizes_are_as_declared_of_the_volume_that_comes_at_any_hour() -> None:
    steady = simulate(
        names=2, sectors=1, days=2, bucket_s=60.0, seed=4, volume_noise_sd=0.0, volume_regime_sd=0.0, volume_u_shape=0.4
    ).events
    p = only("twap", participation_log_sd=0.0, participation_median=0.1, basket_probability=0.0, lot_shares=1)
    for order in draw_desk(steady, p, 9).orders:
        assert order.mid is not None
        inside = (steady.index > order.start) & (steady.index <= order.end)
        came = steady.volume[list(order.names)][inside].sum().iloc[0]
        done = float((order.plan.abs() * order.mid.iloc[0]).to_numpy().sum())
        assert 0.098 < done / came < 0.102  # at the open of the first day as at noon


def test_participation_is_heavy_tailed_and_capped(events: MarketEvents) -> None:
    p = DeskParameters(parents_per_day=80.0, participation_log_sd=1.0, participation_max=0.2, lot_shares=1)
    ratios = []
    for order in draw_desk(events, p, 9).orders:
        assert order.mid is not None
        expected = expected_volume(events, order, p.vwap_u_shape)
        ratios += list(order.plan.sum().abs() * order.mid.iloc[0] / expected)
    assert max(ratios) <= 0.2 * 1.001
    assert np.isclose(max(ratios), 0.2, rtol=1e-3)
    assert np.quantile(ratios, 0.9) > 2.2 * np.median(ratios)


def test_views_price_fills_at_the_quotes_without_impact(events: MarketEvents, desk: DeskOrders) -> None:
    parents, fills = desk.parents, desk.fills
    assert fills.frame["time"].is_monotonic_increasing
    row = fills.frame.iloc[123]
    order = desk[row["parent"].split("/")[0]]
    at = events.index.searchsorted(row["time"], side="right") - 1
    half = 0.5 * events.spread[row["name"]].iloc[at]
    assert row["price"] == events.mid[row["name"]].iloc[at] + np.sign(row["shares"]) * half
    assert order.fills.loc[row["time"], row["name"]] == row["shares"]
    done = sum(float(o.fills.abs().to_numpy().sum()) for o in desk.orders)
    assert fills.frame["shares"].abs().sum() == done
    own = parents.frame.loc[row["parent"]]
    assert own["notional"] == own["shares"] * own["arrival_price"]
    assert own["arrival_price"] == events.mid[row["name"]].iloc[events.index.searchsorted(order.start, "right") - 1]


def test_degenerate_markets_and_habits(events: MarketEvents) -> None:
    alone = draw_desk(events.select(events.names[:1]), DeskParameters(parents_per_day=10.0), 1)
    assert len(alone)
    assert all(o.names == events.names[:1] and o.kind != "two_sided" for o in alone.orders)
    only_two_sided = draw_desk(events.select(events.names[:1]), only("two_sided"), 1)
    assert {o.kind for o in only_two_sided.orders} == {"twap"}
    one_slice = draw_desk(events, DeskParameters(horizon_min_s=1.0, horizon_max_s=1.0, revision_probability=1.0), 1)
    assert {o.slices for o in one_slice.orders} == {1}
    assert all(o.fills.equals(o.plan) and not o.revisions for o in one_slice.orders)
    assert len(draw_desk(events, DeskParameters(parents_per_day=0.0), 1)) == 0
    silent = replace(events, flow=0.0 * events.flow, volume=0.0 * events.volume)
    assert len(draw_desk(silent, DeskParameters(), 1)) == 0
    half = replace(
        events,
        flow=events.flow.assign(**{events.names[0]: 0.0}),
        volume=events.volume.assign(**{events.names[0]: 0.0}),
    )
    assert all(events.names[0] not in o.names for o in draw_desk(half, BUSY, 5).orders)
    whole_day = draw_desk(events, only("twap", horizon_min_s=1e6, horizon_max_s=1e6), 1)
    assert all(o.end <= events.index[-1] for o in whole_day.orders)
    with pytest.raises(DataGap):
        _ = DeskOrders(()).parents
    with pytest.raises(DataGap):
        _ = DeskOrders(()).fills
    assert "0 parent orders" in DeskOrders(()).summary()


def test_missing_buckets_leave_the_slices_on_their_clock(events: MarketEvents) -> None:
    keep = np.random.default_rng(0).random(len(events.index)) > 0.3
    fields = ("flow", "mid", "spread", "volume", "depth")
    holed = replace(events, **{f: getattr(events, f)[keep] for f in fields}, factors=None)
    orders = draw_desk(holed, BUSY, 5).orders
    assert len(orders) > 20
    for order in orders:
        at = holed.index.searchsorted(order.plan.index, side="right") - 1
        assert order.mid is not None
        np.testing.assert_array_equal(order.mid, holed.mid[list(order.names)].to_numpy()[at])
    short = events.between(events.index[0] - pd.Timedelta("1s"), events.index[0])
    assert len(draw_desk(short, BUSY, 5)) == 0  # one bucket holds no slice


def test_slices_are_whole_buckets() -> None:
    events = simulate(names=2, days=1, bucket_s=300.0, seed=1).events
    orders = draw_desk(events, DeskParameters(parents_per_day=6.0, slice_s=400.0), 1).orders
    assert {o.slice_s for o in orders} == {600.0}


def test_the_figure_ends_at_what_was_planned_and_done(desk: DeskOrders) -> None:
    pytest.importorskip("plotly")
    order = next(o for o in desk.orders if o.revisions)
    fig = order.plot()
    ends = {trace.name: trace.y[-1] for trace in fig.data}
    assert ends["first plan"] == order.plan.abs().to_numpy().sum()
    assert ends["done"] == order.fills.abs().to_numpy().sum()
    assert "<pre>" in desk._repr_html_()


def test_orders_survive_pickling_and_tell_what_they_are(desk: DeskOrders) -> None:
    assert pickle.loads(pickle.dumps(desk)).equals(desk)
    assert not desk.equals(DeskOrders(desk.orders[1:]))
    assert not desk.orders[0].equals("order")
    assert f"{len(desk)} parent orders" in desk.summary()
    assert len(desk.to_frame()) == len(desk)
    with pytest.raises(InvalidInput, match="no such order"):
        desk["nobody"]


INDEX = pd.date_range("2024-03-04 15:00", periods=4, freq="60s", tz="UTC").as_unit("ns")


def order(**values: Any) -> DeskOrder:
    plan = pd.DataFrame({"A": [100.0, 100.0, 100.0, 0.0]}, index=INDEX)
    base = {"name": "P", "start": INDEX[0], "end": INDEX[-1] + pd.Timedelta("60s"), "slice_s": 60.0, "plan": plan}
    return DeskOrder(**{**base, "fills": plan, **values})


def frame(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"A": list(values)}, index=INDEX)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"kind": "iceberg"}, "kind"),
        ({"slice_s": 0.0}, "slice_s"),
        ({"slice_s": 30.0}, "plan index"),
        ({"start": INDEX[1]}, "plan index"),
        ({"start": INDEX[0].tz_localize(None)}, "start"),
        ({"end": INDEX[-1]}, "end"),
        ({"plan": frame(1, 2, np.nan, 4)}, "plan"),
        ({"plan": frame(1, 2, 3, 4).iloc[:0]}, "plan"),
        ({"fills": frame(1, 2, 3, 4).iloc[:3]}, "fills"),
        ({"fills": frame(1, 2, 3, 4).rename(columns={"A": "B"})}, "fills"),
        ({"revisions": ((0, frame(100, 100, 50, 0)),)}, "revisions"),
        ({"revisions": ((4, frame(100, 100, 50, 0)),)}, "revisions"),
        ({"revisions": ((2, frame(100, 90, 50, 0)),)}, "revisions"),
        ({"revisions": ((2, frame(100, 100, 50, 0)), (2, frame(100, 100, 40, 0)))}, "revisions"),
        ({"revisions": ((1, frame(100, 80, 50, 0)), (2, frame(100, 100, 40, 0)))}, "revisions"),
        ({"cancelled_at": 2}, "cancelled_at"),
        ({"cancelled_at": 0}, "cancelled_at"),
        ({"cancelled_at": True}, "cancelled_at"),
        ({"cancelled_at": 2, "fills": frame(1, 1, 0, 0), "revisions": ((2, frame(100, 100, 5, 0)),)}, "revisions"),
        ({"mid": frame(1, 1, 0, 1)}, "mid"),
        ({"spread": frame(1, 1, -1, 1)}, "spread"),
    ],
)
def test_orders_that_cannot_be_are_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        order(**values)
    assert caught.value.field == field
    assert caught.value.remedy


def test_a_desk_of_unpriced_repeated_or_unordered_orders() -> None:
    with pytest.raises(DataGap):
        _ = DeskOrders((order(),)).fills
    with pytest.raises(InvalidInput, match="twice"):
        DeskOrders((order(), order()))
    later = order(name="Q")
    earlier = replace(
        order(),
        start=INDEX[0] - pd.Timedelta("60s"),
        plan=order().plan.shift(freq="-60s"),
        fills=order().fills.shift(freq="-60s"),
    )
    with pytest.raises(InvalidInput, match="order of their start"):
        DeskOrders((later, earlier))
    with pytest.raises(InvalidInput):
        DeskOrders(("P",))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        order().plan_at(4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parents_per_day", -1.0),
        ("parents_per_day", float("nan")),
        ("parents_per_day", float("inf")),
        ("parents_per_day", "many"),
        ("slice_s", 0.0),
        ("horizon_max_s", 60.0),
        ("slack_max", 1.0),
        ("participation_max", 0.0),
        ("cancel_probability", 1.5),
        ("revision_probability", True),
        ("names_max", 0),
        ("names_max", 2.5),
        ("revisions_max", 0),
        ("lot_shares", 0),
        ("kind_weights", (1.0,)),
        ("kind_weights", (0.0,) * 5),
        ("kind_weights", (1.0, -1.0, 0.0, 0.0, 0.0)),
        ("kind_weights", None),
        ("speed_up_probability", 0.9),
    ],
)
def test_habits_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        DeskParameters(**{field: value})
    assert caught.value.field == field


def test_arguments_of_the_draw(events: MarketEvents) -> None:
    for bad in (-1, 1.5, True):
        with pytest.raises(InvalidInput):
            draw_desk(events, DeskParameters(), bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        draw_desk(events, {}, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        draw_desk("events", DeskParameters(), 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        draw_desk(events, DeskParameters(parents_per_day=1e9), 1)
