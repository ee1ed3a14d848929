"""The study's own parts: forecasts of fills, relative risk, the block bootstrap, walks, pieces, and a run of it all."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.hedge import (
    FillPace,
    MPCHedge,
    PlanHedge,
    SolvedOnceHedge,
    batch,
    episodes,
    learn_pace,
    replay_hedge,
)
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


study = loaded("hedge_policies_study")
quickly = loaded("hedge_policies_quick")
tuning_of = loaded("hedge_policies_tuning")
tuned = loaded("hedge_policies_tuned")
report = loaded("hedge_policies")

# forecasts -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.floats(0.0, 1.0),
    st.none() | st.floats(0.01, 1.0),
    st.lists(st.floats(-50.0, 50.0), min_size=2, max_size=2),
)
def test_what_is_expected_sums_to_what_is_left(n, planned, catch_up, left):
    plan = np.arange(2.0 * n).reshape(n, 2)
    coming = FillPace(planned, catch_up).coming(plan, np.array(left))
    assert np.allclose(coming.sum(axis=0), left, rtol=0.0, atol=1e-9)


def test_paces_by_hand():
    plan, left = np.array([[4.0], [0.0], [0.0]]), np.array([10.0])
    assert np.allclose(FillPace().coming(plan, left)[:, 0], [6.0, 2.0, 2.0])
    assert np.allclose(FillPace(1.0, 1.0).coming(plan, left)[:, 0], [10.0, 0.0, 0.0])
    assert np.allclose(FillPace(1.0, 0.5).coming(plan, left)[:, 0], [7.0, 1.5, 1.5])
    assert np.allclose(FillPace(0.25, None).coming(plan, left)[:, 0], [4.0, 3.0, 3.0])


@pytest.mark.parametrize("bad", [{"planned": -0.1}, {"planned": float("nan")}, {"catch_up": 0.0}, {"catch_up": 1.1}])
def test_a_share_out_of_range_is_refused(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        FillPace(**bad)


@pytest.fixture(scope="module")
def drawn():
    return episodes("revisions", 8, seed=5)


def filled_by(episode, pace: FillPace):
    """Return the parent with fills that follow a pace to the letter, whatever was planned before."""
    parent, market = episode.parent, episode.market
    unrevised = replace(parent, revisions=(), fills=None)
    plan = unrevised.plan.to_numpy()
    left, rows = plan.sum(axis=0), []
    for k in range(len(plan)):
        rows.append(pace.coming(plan[k:], left)[0])
        left = left - rows[-1]
    fills = pd.DataFrame(rows, index=parent.plan.index, columns=parent.plan.columns)
    return replace(unrevised, fills=fills), market


@pytest.mark.parametrize("pace", [FillPace(0.4, None), FillPace(0.4, 0.2)])
def test_a_planted_pace_is_found(drawn, pace):
    assert learn_pace([filled_by(e, pace) for e in drawn]) == pace


def test_nothing_to_learn_from_is_refused(drawn):
    with pytest.raises(DataGap, match="fills"):
        learn_pace([(replace(drawn[0].parent, fills=None, revisions=()), drawn[0].market)])


def test_batch_and_event_kernel_share_the_forecast(drawn):
    quick = [replace(e, parent=replace(e.parent, pace=FillPace(0.3, 0.6))) for e in drawn[:3]]
    laid = batch(quick)
    by_batch = laid.run(laid.plan([0.7])).hedge_cost[0]
    done = [replay_hedge(e.parent, PlanHedge(0.7), e.market, e.beliefs, e.venue) for e in quick]
    assert np.allclose(by_batch, [one.hedge_cost for one in done], rtol=1e-9, atol=1e-6)
    evenly = batch(drawn[:3])
    assert not np.allclose(by_batch, evenly.run(evenly.plan([0.7])).hedge_cost[0], rtol=1e-6)


def test_a_better_forecast_lowers_the_spread_of_the_lag():
    """A late block is done at the next chance: who expects it evenly sells its hedge and buys it back."""
    blocks = [e for e in episodes("calm", 40, seed=9) if e.kind == "block"]
    spread = {}
    for pace in (FillPace(), FillPace(1.0, 1.0)):
        policy = MPCHedge(4e3, 30, relative=True)
        parents = [replace(e.parent, pace=pace) for e in blocks]
        done = [replay_hedge(p, policy, e.market, e.beliefs, e.venue) for p, e in zip(parents, blocks, strict=True)]
        spread[pace] = sum(one.futures_traded / one.notional for one in done)
    assert spread[FillPace(1.0, 1.0)] < spread[FillPace()]


# relative risk -------------------------------------------------------------------------------------------------------


def test_relative_risk_is_risk_over_the_beta_notional(drawn):
    episode = drawn[0]
    plan = episode.parent.known_plan(0, episode.market).sum(axis=0)
    scale = float(np.abs(plan * episode.parent.arrival(episode.market) * episode.parent.beta).sum())
    for make in (MPCHedge, SolvedOnceHedge):
        cost = [
            replay_hedge(episode.parent, policy, episode.market, episode.beliefs, episode.venue).hedge_cost
            for policy in (make(2e3, relative=True), make(2e3 / scale))
        ]
        assert cost[0] == pytest.approx(cost[1], rel=1e-9)


def test_both_engines_take_relative_risk(drawn):
    episode = min(drawn, key=lambda e: e.parent.slices)
    cost = [
        replay_hedge(
            episode.parent, MPCHedge(2e3, 10, relative=True, engine=engine), episode.market, episode.beliefs
        ).hedge_cost
        for engine in ("core", "session")
    ]
    assert cost[0] == pytest.approx(cost[1], rel=1e-3)


# statistics ----------------------------------------------------------------------------------------------------------


def table_of(costs: dict[str, np.ndarray], days: np.ndarray, cell: str = "calm") -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "cell": cell,
                "piece": 0,
                "day": days,
                "parent": [f"{cell}{i}" for i in range(len(days))],
                "policy": policy,
                "cost": values,
            }
        )
        for policy, values in costs.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_means_and_tails_are_those_of_the_sample():
    values = np.random.default_rng(0).normal(size=200)
    taken = report.sample(table_of({"a": values}, np.arange(200) // 5), draws=50)
    assert taken.mean("a")[0] == pytest.approx(values.mean())
    assert taken.tail("a")[0] == np.sort(values)[189]
    # A draw that takes every session once is the sample itself.
    plain = report.Sample(taken.costs, np.ones((1, 200), dtype=np.int32))
    assert plain.tail("a")[1][0] == plain.tail("a")[0]
    assert plain.mean("a")[1][0] == pytest.approx(plain.mean("a")[0])


def test_a_draws_tail_is_that_of_the_repeated_parents():
    values = np.random.default_rng(1).normal(size=60)
    taken = report.sample(table_of({"a": values}, np.arange(60) // 3), draws=20, seed=3)
    for weights, tail in zip(taken.weights, taken.tail("a")[1], strict=True):
        repeated = np.sort(np.repeat(taken.costs["a"].to_numpy(), weights))
        assert tail == repeated[int(np.ceil(0.95 * len(repeated) - 1e-9)) - 1]


def test_sessions_are_drawn_whole_and_cells_keep_their_size():
    days = np.arange(40) // 4
    table = pd.concat([table_of({"a": np.arange(40.0)}, days, cell) for cell in ("calm", "stress")])
    taken = report.sample(table, draws=30)
    blocks = taken.weights.reshape(30, 20, 4)
    assert (blocks == blocks[:, :, :1]).all()
    assert (taken.weights.reshape(30, 2, 40).sum(axis=2) == 40).all()


def test_blocks_that_move_together_widen_the_interval():
    rng = np.random.default_rng(2)
    shared = np.repeat(rng.normal(size=40), 25)
    rows = {"a": shared + 0.1 * rng.normal(size=1000), "b": np.ones(1000)}
    wide = report.against(report.sample(table_of(rows, np.repeat(np.arange(40), 25))), "a", "b")[0]
    narrow = report.against(report.sample(table_of(rows, np.arange(1000))), "a", "b")[0]
    assert wide.high - wide.low > 3.0 * (narrow.high - narrow.low)
    assert wide.low <= wide.value <= wide.high


def test_pairing_removes_what_two_policies_share():
    shared = np.random.default_rng(3).normal(size=400)
    taken = report.sample(table_of({"a": shared - 0.5, "b": shared}, np.arange(400)))
    less, _ = report.against(taken, "a", "b")
    assert less.value == pytest.approx(-0.5)
    assert less.high - less.low < 1e-9


def test_the_hardest_rival_has_the_least_tail():
    base = np.abs(np.random.default_rng(4).normal(size=100))
    taken = report.sample(table_of({"a": 2.0 * base, "b": base, "c": 3.0 * base}, np.arange(100)), draws=5)
    assert report.hardest(taken, ("a", "b", "c", "absent")) == "b"


# search and pieces ---------------------------------------------------------------------------------------------------


def test_a_walk_tries_each_parameter_at_the_best_of_those_before():
    tried = list(tuning_of.walk((("x", (0, 1, 2)), ("y", (5, 6)), ("x", (0, 1))), lambda p: abs(p["x"] - 1) + p["y"]))
    assert [p for p, _ in tried] == [
        {"x": 0, "y": 5},
        {"x": 1, "y": 5},
        {"x": 2, "y": 5},
        {"x": 1, "y": 6},
        {"x": 0, "y": 5},
    ]


@pytest.mark.parametrize(
    ("label", "parameters"),
    [
        (study.P0, {}),
        (study.P3A, {"risk_aversion": 1e-3}),
        (study.P4, {"risk_aversion": 2e3, "relative": True, "horizon": 10, "spread_power": 2.0}),
    ],
)
@pytest.mark.parametrize("world", ["stress", "revisions"])
def test_the_quick_replay_is_the_event_kernels(world, label, parameters):
    """Rejects, late and partial fills, revisions and cancellations included."""
    cells = {cell.label: cell for cell in study.CELLS}
    few = study.draw(cells[world], 6, 79)
    bps = quickly.Quick(few).costs(lambda _: study.MAKERS[label](**parameters))
    assert np.allclose(bps, study.costs(few, study.MAKERS[label](**parameters)), rtol=0.0, atol=1e-9)


def test_limited_messages_need_the_event_kernel():
    cells = {cell.label: cell for cell in study.CELLS}
    with pytest.raises(CrosswindError, match="limited"):
        quickly.Quick(study.draw(cells["rate_limited"], 2, 79))


def test_a_quick_replay_that_does_not_agree_stops_the_study(drawn, monkeypatch):
    part = quickly.Quick(study.draw(study.CELLS[0], 2, 79))
    monkeypatch.setattr(tuning_of, "costs", lambda items, policy: np.array([99.0]))
    with pytest.raises(CrosswindError, match="differ"):
        tuning_of.quickly([part], lambda _: study.MAKERS[study.P1]())


def test_a_walks_table_says_what_changed_and_what_was_kept():
    points = [({"x": 1, "y": 0}, 3.0), ({"x": 2, "y": 0}, 2.0), ({"x": 3, "y": 0}, 2.5), ({"x": 2, "y": 5}, 1.0)]
    table = pd.DataFrame(
        [{"policy": study.P4, "parameters": json.dumps(p), "mean": s, "q95": s, "score": s} for p, s in points]
    )
    cells = [row.split("|")[1].strip() + row.split("|")[5].strip() for row in tuned.walk_table(table)[2:-1]]
    assert cells == ["start", "x 2kept", "x 3", "y 5kept"]


def test_points_outside_the_grids_and_the_training_figure_are_said():
    clips = tuning_of.GRIDS[study.P1]["clip_share"]
    rows = [(study.P1, {"clip_share": clip}, 2.0, 4.0, 3.0) for clip in (clips[0], 0.33)]
    rows += [(p, {}, 2.0, 5.0, 3.5) for p in (study.P2, study.P3A, study.P3B)]
    rows += [(study.P4, {}, 9.0, 9.0, 9.0), (study.P4, {"x": 1}, 1.5, 3.0, 2.25)]
    table = pd.DataFrame(rows, columns=["policy", "parameters", "mean", "q95", "score"])
    table["parameters"] = [json.dumps(p) for p in table["parameters"]]
    assert "1 of the 2 points of P1 immediate" in tuned.beyond_grids(table)
    assert "P1 immediate: q95 -25.0%, mean -0.50" in tuned.training_line(table)
    inside = table[table["parameters"] == json.dumps({"clip_share": clips[0]})]
    assert tuned.beyond_grids(inside) == ""


def test_pieces_hold_every_parent_once_with_seeds_apart():
    found = study.pieces(study.CELLS, 1.0)
    for cell in study.CELLS:
        assert sum(count for c, _, count in found if c == cell) == cell.parents
    seeds = {study.seed_of(cell, number) for cell, number, _ in found}
    assert len(seeds) == len(found)
    assert min(seeds) >= study.TEST_SEED >= study.FIRST_SEED + 900_000  # beyond every seed of the first test
    assert study.TRAIN_SEED + len(study.TRAINED) < study.FIRST_SEED
    assert sum(cell.parents for cell in study.CELLS) >= 6000


def test_share_of_stress_counts_slices_by_their_middle():
    times = pd.date_range("2024-01-08 15:00", periods=5, freq="60s", tz="UTC")
    path = [["2024-01-08T14:30:00+00:00", 0], ["2024-01-08T15:02:00+00:00", 1], ["2024-01-08T15:03:00+00:00", 0]]
    assert study.stressed_share(path, times) == 0.25
    assert study.stressed_share([], times) == 0.0


def test_a_ledger_that_does_not_agree_stops_the_study(drawn, monkeypatch):
    done = replay_hedge(drawn[0].parent, PlanHedge(0.5), drawn[0].market, drawn[0].beliefs, drawn[0].venue)
    wrong = replace(done, attribution=replace(done.attribution, ledger_cost=done.net * (1.0 + 1e-6)))
    monkeypatch.setattr(study, "replay_hedge", lambda *_: wrong)
    with pytest.raises(CrosswindError, match="ledger"):
        study.run(drawn[0], PlanHedge(0.5))


CHOSEN = {
    study.P0: {},
    study.P1: {"clip_share": 0.5},
    study.P2: {"every": 2, "clip_share": 1.0},
    study.P3A: {"risk_aversion": 1e-2, "buffer_bps": 0.0},
    study.P3B: {"threshold_bps": 0.05},
    study.BF: {"fraction": 0.8},
    study.BS: {"fraction": 0.9},
    study.SO: {"risk_aversion": 4e3, "relative": False, "fraction": 0.8, "clip_share": 1.0},
    study.P4: {"risk_aversion": 4e3, "relative": True, "horizon": 20},
}


def test_a_small_study_gives_its_page(tmp_path):
    """Every policy on a few parents: batch and event kernel agree where both ran, or the piece raises."""
    cells = {cell.label: cell for cell in study.CELLS}
    paces = study.paces_of(study.draw(cells["calm"], 12, 77))
    paces = {kind: paces.get(kind, FillPace()) for kind in ("twap", "vwap", "lumpy", "block", "two_sided")}
    rows = pd.concat([study.replay_piece(cells[name], 0, 4, CHOSEN, paces) for name in ("revisions", "stress")])
    assert (rows.groupby(["cell", "parent"])["policy"].nunique() == len(study.POLICIES)).all()
    assert rows["cost"].notna().all()
    assert rows["ledger_error"].max() <= 1e-9
    few = study.draw(cells["calm"], 3, 78, paces)
    parts = [tuning_of.variant_piece(cells["calm"], name, few, CHOSEN) for name in ("as it is", "horizon of 5 slices")]
    tuning = pd.DataFrame(
        [
            {"policy": p, "parameters": json.dumps(v), "mean": 1.0, "q95": 2.0, "score": 1.5}
            for p, v in CHOSEN.items()
            if p != study.P0
        ]
    )
    rows["stressed"] = np.where(rows["cell"] == "stress", rows["stressed"].clip(lower=0.5), 0.0)
    extra = rows[rows["cell"] == "stress"].assign(piece=1, stressed=0.0)
    said = {kind: [pace.planned, pace.catch_up] for kind, pace in paces.items()}
    tried = pd.DataFrame([{"tried": "λ ×2", "mean": 1.0, "q95": 2.0, "score": 1.5}])
    text = report.page(pd.concat([rows, extra], ignore_index=True), tuning, pd.concat(parts), tried, said)
    assert "## Against the bars" in text
    assert "nan" not in text
