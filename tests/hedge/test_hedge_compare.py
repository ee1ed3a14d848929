"""Comparison, tuning, figures and benchmark instances."""

from __future__ import annotations

import numpy as np
import pytest
from hedge_cases import BETAS, beliefs_of, market_of, modes_of, parent_of, venue_of

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    HedgeComparison,
    HedgeParent,
    ImmediateHedge,
    MPCHedge,
    NoHedge,
    compare_policies,
    hedge_instances,
    hedge_program,
    replay_hedge,
    score,
    tune_policy,
)
from crosswind.problems.hedge.compare import _same_cash
from crosswind.problems.hedge.plots import component_bars, cost_waterfall, frontier, gap_paths
from crosswind.solvers.errors import CrosswindError, InvalidInput
from crosswind.solvers.solve import solve

PARENTS = [parent_of(seed) for seed in range(5)]
MARKETS = {parent.name: market_of(seed) for seed, parent in enumerate(PARENTS)}
MODES = modes_of()
POLICIES = {"P0": NoHedge(), "P1": ImmediateHedge(), "P2": BatchedHedge(4), "P4": MPCHedge(1e-6, 6)}


@pytest.fixture(scope="module")
def comparison() -> HedgeComparison:
    return compare_policies(PARENTS, POLICIES, MARKETS, beliefs_of(MODES), venue_of(MODES), seed=3, draws=200)


def test_frame_and_table_agree_with_the_replays(comparison: HedgeComparison) -> None:
    frame, table = comparison.to_frame(), comparison.table()
    assert comparison.parents == tuple(parent.name for parent in PARENTS)
    assert list(table.index) == ["P0", "P1", "P2", "P4"]
    run = comparison.replays["p2", "P1"]
    row = frame.loc[("p2", "P1")]
    assert row["net"] == pytest.approx(run.net)
    assert row["net_bps"] == pytest.approx(float(run.components_bps.sum()))
    assert row["hedge_cost"] == pytest.approx(run.net - run.components["cash"] - run.components["residual"])
    own = frame.xs("P1", level="policy")
    assert table.loc["P1", "hedge_cost_q95_bps"] == pytest.approx(np.quantile(own["hedge_cost_bps"], 0.95))
    assert table.loc["P1", "lag_std_bps"] == pytest.approx(own["lag_bps"].to_numpy().std())
    assert frame["ledger_error"].max() < 1e-11
    assert frame["final_gap"].abs().max() < 1e-6
    assert ((frame["basis_share"] >= 0.0) & (frame["basis_share"] <= 1.0)).all()


def test_cash_and_residual_do_not_depend_on_the_policy(comparison: HedgeComparison) -> None:
    wide = comparison.to_frame()[["cash", "residual"]].groupby("parent").agg(np.ptp)
    assert float(wide.abs().max().max()) < 1e-6


def test_paired_differences(comparison: HedgeComparison) -> None:
    table = comparison.differences()
    assert list(table.index) == ["P0", "P2", "P4"]
    frame = comparison.to_frame()["hedge_cost_bps"]
    pairs = frame.xs("P4", level="policy") - frame.xs("P1", level="policy")
    assert table.loc["P4", "mean_bps"] == pytest.approx(pairs.mean())
    assert (table["mean_low"] <= table["mean_bps"]).all()
    assert (table["mean_high"] >= table["mean_bps"]).all()
    assert (table["parents"] == 5).all()
    again = compare_policies(PARENTS, POLICIES, MARKETS, beliefs_of(MODES), venue_of(MODES), seed=3, draws=200)
    assert again.differences().equals(table)
    assert (comparison.differences(0.5)["mean_low"] >= table["mean_low"]).all()
    with pytest.raises(InvalidInput):
        comparison.differences(1.0)


def test_zero_impact_row_is_there(comparison: HedgeComparison) -> None:
    silent = comparison.zero_impact
    assert silent is not None
    assert silent.zero_impact is None
    assert (silent.to_frame()["cross"] == 0.0).all()
    assert (silent.table()["futures_bps"] <= comparison.table()["futures_bps"] + 1e-9).all()
    # the baseline reacts to the gap alone, so only its costs change, not its hedge
    before, after = comparison.replays["p0", "P1"], silent.replays["p0", "P1"]
    np.testing.assert_array_equal(before.held, after.held)
    assert "zero true impact" in comparison.summary()


def test_score_is_half_mean_half_tail(comparison: HedgeComparison) -> None:
    table = comparison.table()
    expected = 0.5 * table["hedge_cost_mean_bps"] + 0.5 * table["hedge_cost_q95_bps"]
    np.testing.assert_allclose(score(comparison), expected)


def test_other_cash_fills_are_not_compared() -> None:
    market = market_of(0)
    twice = HedgeParent(PARENTS[0].name, PARENTS[0].plan * 2.0, BETAS, "ES", "SPY")
    runs = [replay_hedge(parent, NoHedge(), market, beliefs_of()) for parent in (PARENTS[0], twice)]
    with pytest.raises(CrosswindError, match="cash fills differ"):
        _same_cash(*runs)


def test_bad_requests() -> None:
    market, beliefs = market_of(0), beliefs_of()
    for call in (
        lambda: compare_policies([], POLICIES, market, beliefs),
        lambda: compare_policies([PARENTS[0], PARENTS[0]], POLICIES, market, beliefs),
        lambda: compare_policies(PARENTS, {}, market, beliefs),
        lambda: compare_policies(PARENTS, POLICIES, market, beliefs, baseline="P9"),
        lambda: compare_policies(PARENTS, POLICIES, {"p0": market}, beliefs),
        lambda: tune_policy(BatchedHedge, {}, PARENTS, MARKETS, beliefs),
        lambda: tune_policy(BatchedHedge, {"every": []}, PARENTS, MARKETS, beliefs),
    ):
        with pytest.raises(InvalidInput):
            call()


def test_tuning_takes_the_least_score_and_freezes_it() -> None:
    beliefs, venue = beliefs_of(MODES), venue_of(MODES)
    tuned = tune_policy(BatchedHedge, {"every": [1, 3, 6], "clip_share": [0.2, 1.0]}, PARENTS, MARKETS, beliefs, venue)
    assert len(tuned.table) == 6
    assert tuned.table["score_bps"].is_monotonic_increasing
    assert tuned.table["score_bps"].iloc[0] == tuned.score_bps
    assert isinstance(tuned.policy, BatchedHedge)
    assert tuned.policy.every == tuned.parameters["every"]
    again = compare_policies(PARENTS, {"t": tuned.policy}, MARKETS, beliefs, venue, zero_impact=False)
    assert float(score(again)["t"]) == pytest.approx(tuned.score_bps, rel=1e-12)
    assert "BatchedHedge(every=" in tuned.summary()


def test_one_parent_and_one_market_for_all() -> None:
    only = compare_policies([PARENTS[0]], {"x": AdaptiveTrigger(1.0)}, market_of(0), beliefs_of())
    assert only.baseline == "x"
    assert only.zero_impact is None
    assert "1 parents" in only.summary()
    assert "<table" in only._repr_html_()


def test_each_parent_may_have_a_venue_of_its_own() -> None:
    """Together on their own venues as each alone; only where one has impact is there a comparison without it."""
    parents = [parent_of(seed) for seed in (1, 2)]
    markets = {p.name: market_of(seed) for p, seed in zip(parents, (1, 2), strict=True)}
    venues = {parents[0].name: venue_of(modes_of(1)), parents[1].name: venue_of((), 30.0)}
    policies = {"P1": ImmediateHedge(), "BF": FractionHedge(0.3)}
    both = compare_policies(parents, policies, markets, beliefs_of(), venues)
    assert both.zero_impact is not None
    for parent in parents:
        name = parent.name
        alone = compare_policies([parent], policies, markets[name], beliefs_of(), venues[name])
        assert (alone.zero_impact is None) == (name == parents[1].name)
        for policy in policies:
            assert both.replays[name, policy].net == alone.replays[name, policy].net
        silent = both.zero_impact.replays[name, "P1"].components
        assert silent["cross"] == 0.0
    with pytest.raises(InvalidInput) as caught:
        compare_policies(parents, policies, markets, beliefs_of(), {parents[0].name: venues[parents[0].name]})
    assert caught.value.field == "venue"
    tuned = tune_policy(FractionHedge, {"fraction": (0.2, 0.6)}, parents, markets, beliefs_of(), venues)
    assert len(tuned.table) == 2


def test_figures_state_unit_and_sign(comparison: HedgeComparison) -> None:
    run = comparison.replays["p0", "P4"]
    for figure in (gap_paths(comparison), component_bars(comparison), cost_waterfall(run), frontier(comparison)):
        titles = str(figure.layout.xaxis.title.text) + str(figure.layout.yaxis.title.text)
        assert "positive" in titles
        assert "[" in titles
        assert len(figure.data) > 0
    bars = component_bars(comparison)
    total = sum(np.asarray(trace.y, dtype=float) for trace in bars.data[:4])
    drawn = comparison.table().drop(index="P0")  # its lag would flatten the others: it stands in the title
    np.testing.assert_allclose(total, drawn["hedge_cost_mean_bps"], atol=1e-12)
    points = frontier(comparison)
    assert [trace.name for trace in points.data] == list(drawn.index)
    assert all(len(trace.x) == 2 for trace in points.data)  # with and without impact
    for figure in (bars, points):
        assert "P0: mean" in figure.layout.title.text
    with pytest.raises(InvalidInput):
        gap_paths(comparison, "nobody")
    assert run.plot().data[0].measure[-1] == "total"
    assert comparison.plot().data


def test_instances_are_seeded_and_solvable() -> None:
    first, again = (list(hedge_instances(((1, 20), (3, 10)), seeds=2)) for _ in range(2))
    assert [name for name, _ in first] == ["hedge-m1-H20-0", "hedge-m1-H20-1", "hedge-m3-H10-0", "hedge-m3-H10-1"]
    for (_, a), (_, b) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.q, b.q)
        np.testing.assert_array_equal(a.A.toarray(), b.A.toarray())
        assert solve(a, tol=1e-6).status.ok
    for _, program in hedge_instances(((1, 20), (3, 10)), seeds=3, hostile=True):
        assert solve(program, tol=1e-6).status.ok
    assert not np.array_equal(hedge_program(seed=0).p0, hedge_program(seed=1).p0)
    with pytest.raises(InvalidInput):
        hedge_program(0, 5)
