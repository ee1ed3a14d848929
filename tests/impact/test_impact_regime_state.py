"""The state that impact scales with: definition, causality, the stream against the batch, degenerate markets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact.regimes import FEATURES, StateFilter, StateNorms, market_state
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput


def market(build_events: Any, rows: int = 240, names: int = 4, days: int = 2, seed: int = 0) -> MarketEvents:
    rng = np.random.default_rng(seed)
    flow = 1e6 * rng.standard_normal((rows, names))
    events = build_events(flow, 1e-3 * rng.standard_normal((rows, names)), days)

    def like(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=events.index, columns=list(events.names))

    return replace(
        events,
        spread=like(0.02 * np.exp(0.4 * rng.standard_normal((rows, names)))),
        depth=like(1e5 * np.exp(0.5 * rng.standard_normal((rows, names)))),
        volume=like(np.abs(flow) * (1.0 + rng.uniform(size=flow.shape))),
    )


def norms_of(events: MarketEvents, **kw: Any) -> StateNorms:
    return StateNorms.of(events, events.names, kw.pop("half_life_s", 300.0), kw.pop("warmup", 3))


def test_state_is_what_the_formulas_say(build_events: Any) -> None:
    events = market(build_events)
    norms = norms_of(events)
    state = market_state(events, norms)
    assert list(state.columns) == list(FEATURES)
    t = 100  # the first day has 120 rows: rows 0 … 99 are known
    age = np.arange(t)[::-1]
    w = 0.5 ** (age * 60.0 / 300.0)
    part = slice(0, t)
    relative = (events.spread / events.mid).to_numpy()
    r = events.returns.to_numpy()[part]
    u, V = events.flow.to_numpy()[part], events.volume.to_numpy()[part]
    spread = np.log((w @ relative[part]) / w.sum() / np.median(relative, axis=0))
    depth = np.log((w @ events.depth.to_numpy()[part]) / w.sum() / np.median(events.depth, axis=0))
    usual = np.sqrt(np.nanmean(events.returns.to_numpy() ** 2, axis=0))
    vol = np.log(np.sqrt((w[1:] @ r[1:] ** 2) / w[1:].sum()) / usual)
    imbalance = np.abs(w @ u) / (w @ V)
    x = u / np.sqrt((events.flow.to_numpy() ** 2).mean(axis=0))
    crowding = (w @ x.sum(axis=1) ** 2) / (w @ (4 * (x**2).sum(axis=1)))
    wanted = [np.median(spread), np.median(vol), np.median(depth), imbalance.mean(), crowding]
    np.testing.assert_allclose(state.iloc[t], wanted, rtol=1e-10)


@pytest.mark.parametrize("poison", ["scale", "shuffle", "delete", "flip"])
def test_a_row_knows_nothing_of_itself_or_what_follows(build_events: Any, poison: str) -> None:
    events = market(build_events)
    norms = norms_of(events)
    whole = market_state(events, norms)
    for t in (1, 5, 77, 119, 120, 121, 200):
        if poison == "delete":
            changed = events._rows(np.arange(len(events.index)) <= t)
        else:
            rng = np.random.default_rng(t)
            fields: dict[str, Any] = {}
            for field in ("flow", "mid", "spread", "volume", "depth"):
                values = getattr(events, field).to_numpy().copy()
                if poison == "scale":
                    values[t:] *= 1e6 if field == "volume" else 7.0 if field != "spread" else 1.9
                elif poison == "shuffle":
                    values[t:] = rng.permutation(values[t:])
                elif field == "flow":
                    values[t:] *= -1.0
                fields[field] = pd.DataFrame(values, index=events.index, columns=list(events.names))
            fields["volume"] = np.maximum(fields["volume"], fields["flow"].abs())
            changed = replace(events, **fields)
        pd.testing.assert_frame_equal(market_state(changed, norms).iloc[: t + 1], whole.iloc[: t + 1], rtol=0, atol=0)


def test_the_stream_gives_what_the_batch_gives(build_events: Any) -> None:
    events = market(build_events, days=3)
    norms = norms_of(events, half_life_s=200.0)
    batch = market_state(events, norms)
    live, day = StateFilter(norms), None
    for t, when in enumerate(events.session):
        if when != day:
            live.reset()
            day = when
        np.testing.assert_allclose(list(live.state().values()), batch.iloc[t], rtol=1e-11, equal_nan=True)
        live.push(
            events.flow.to_numpy()[t],
            events.returns.to_numpy()[t],
            (events.spread / events.mid).to_numpy()[t],
            events.volume.to_numpy()[t],
            events.depth.to_numpy()[t],
        )


def test_sessions_start_anew_and_the_warm_up_is_unknown(build_events: Any) -> None:
    events = market(build_events)
    state = market_state(events, norms_of(events, warmup=4))
    known = state.notna().all(axis=1).to_numpy()
    assert not known[:4].any()
    assert known[4:120].all()
    assert not known[120:124].any()
    assert known[124:].all()


def test_crowding_is_one_for_common_flow_and_one_over_n_for_independent(build_events: Any) -> None:
    rng = np.random.default_rng(1)
    common = rng.standard_normal((4000, 1)) @ np.array([[1e6, 2e6, 3e6, 4e6]])
    events = build_events(common, 1e-3 * rng.standard_normal(common.shape))
    np.testing.assert_allclose(market_state(events, norms_of(events))["crowding"].dropna(), 1.0, rtol=1e-12)
    apart = build_events(1e6 * rng.standard_normal((4000, 4)), 1e-3 * rng.standard_normal((4000, 4)))
    crowding = market_state(apart, norms_of(apart, half_life_s=12_000.0))["crowding"].dropna()
    assert abs(crowding.iloc[1000:].mean() - 0.25) < 0.02


def test_one_dead_book_does_not_move_the_state(build_events: Any) -> None:
    events = market(build_events, names=5)
    norms = norms_of(events)
    before = market_state(events, norms)
    depth = events.depth.copy()
    depth.iloc[:, 0] = 0.0
    spread = events.spread.copy()
    spread.iloc[:, 0] = 0.0
    after = market_state(replace(events, depth=depth, spread=spread), norms)
    assert after.notna().sum().equals(before.notna().sum())
    assert (after["depth"] - before["depth"]).abs().max() < 0.5


def test_a_market_without_quotes_has_no_spread_or_depth(build_events: Any) -> None:
    events = market(build_events)
    still = replace(events, depth=0.0 * events.depth, spread=0.0 * events.spread)
    state = market_state(still, norms_of(still))
    assert state[["spread", "depth"]].isna().all().all()
    assert state[["volatility", "imbalance", "crowding"]].iloc[5:100].notna().all().all()


def test_refusals(build_events: Any) -> None:
    events = market(build_events)
    norms = norms_of(events)
    with pytest.raises(InvalidInput, match="bucket_s"):
        market_state(events.resample(120.0), norms)
    with pytest.raises(DataGap, match="not in the events"):
        market_state(events.select(events.names[:2]), norms)
    for bad in (0, 1.5, True):
        with pytest.raises(InvalidInput, match="warmup"):
            norms_of(events, warmup=bad)
    with pytest.raises(InvalidInput, match="half_life_s"):
        norms_of(events, half_life_s=-1.0)
    flow = events.flow.copy()
    flow.iloc[:, 1] = 0.0
    with pytest.raises(DataGap, match="no flow at all"):
        norms_of(replace(events, flow=flow))
    mid = events.mid.copy()
    mid.iloc[:, 2] = 100.0
    with pytest.raises(DataGap, match="no volatility at all"):
        norms_of(replace(events, mid=mid))
