"""Components against hand-computed numbers, against the ledger, and their signs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hedge_cases import BETAS, VARIANCE_PER_S, beliefs_of, market_of, modes_of, parent_of, venue_of
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    HedgeAction,
    HedgeBeliefs,
    HedgeContext,
    HedgeParent,
    HedgeReplay,
    HedgeState,
    ImmediateHedge,
    MPCHedge,
    NoHedge,
    PlanHedge,
    PlanRevision,
    attribute,
    replay_hedge,
)
from crosswind.problems.replay import ReplayMarket, SimulatedVenue
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput


class Fixed:
    """Trade given contracts, whatever happens."""

    closes = True

    def __init__(self, *contracts: float, contract: float) -> None:
        self.trades = [c * contract for c in contracts]

    def reset(self, context: HedgeContext) -> None:
        pass

    def decide(self, state: HedgeState) -> HedgeAction:
        return HedgeAction(self.trades[state.slice])


def tiny(
    s: list[float], x: list[float], f: list[float], units: list[float], beta: float
) -> tuple[HedgeParent, ReplayMarket]:
    times = pd.date_range("2024-03-08 14:30", periods=len(s), freq="60s", tz="UTC")
    mid = pd.DataFrame({"A": s, "X": x, "F": f}, index=times)
    market = ReplayMarket.from_frames(mid, pd.Series({"A": 0.1, "X": 0.0, "F": 1.0}), multiplier={"F": 0.5})
    plan = pd.DataFrame({"A": units}, index=times[:-1])
    return HedgeParent("tiny", plan, pd.Series({"A": beta}), "F", "X"), market


def hedge(
    parent: HedgeParent, market: ReplayMarket, policy: object, venue: SimulatedVenue | None = None
) -> HedgeReplay:
    return replay_hedge(parent, policy, market, beliefs_of(), venue)  # type: ignore[arg-type]


def test_every_component_by_hand() -> None:
    # Buy 10 and 10 of A (β = 2) while holding 4, then 3 contracts worth 500 each.
    parent, market = tiny([100.0, 101.0, 103.0], [50.0, 50.5, 51.0], [1000.0, 1012.0, 1025.0], [10.0, 10.0], 2.0)
    run = hedge(parent, market, Fixed(4.0, -1.0, contract=500.0))
    expected = {
        "cash": 2.0,  # 20 shares at a half-spread of 0.1
        "futures": 4.0,  # 8 contracts at 0.5 currency a half-spread
        "lag": -15.0,  # G: 0 then −1500; ΔX: 0.01 twice
        "basis": -8.5,  # −(2000·0.002 + 1500·0.003)
        "cross": 0.0,
        "residual": -10.0,  # 1000·(0.01 − 2·0.01)
    }
    for name, value in expected.items():
        assert run.components[name] == pytest.approx(value, abs=1e-10), name
    # paper gains 60; the account: 48 on the shares and 39.5 on the futures
    assert run.attribution.ledger_cost == pytest.approx(60.0 - 48.0 - 39.5, abs=1e-10)
    np.testing.assert_allclose(run.gap, [0.0, -1500.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(run.held, [2000.0, 1500.0, 0.0], atol=1e-9)
    assert run.attribution.integrated_gap == pytest.approx(1500.0 * 60.0)
    assert run.futures_traded == 8 * 500.0
    assert "tiny" in run.summary()


def test_a_short_future_gains_when_the_basis_narrows() -> None:
    """Selling 10 of A: the hedge is short. The index stands still, only the future falls."""
    parent, market = tiny([100.0, 100.0, 100.0], [50.0] * 3, [1000.0, 990.0, 990.0], [-5.0, -5.0], 1.0)
    run = hedge(parent, market, Fixed(-1.0, 0.0, contract=500.0))
    # H = −500, Δb = −0.01: the short gains 5, so the cost is −ΣH·Δb = −5; the playbook's +ΣHΔb would book a loss
    assert run.components["basis"] == pytest.approx(-5.0, abs=1e-12)
    assert run.components["lag"] == 0.0
    assert run.net == pytest.approx(run.attribution.ledger_cost, abs=1e-10)


def test_a_late_buyer_loses_when_the_index_rises() -> None:
    parent, market = tiny([100.0, 101.0, 101.0], [50.0, 50.5, 50.5], [1000.0, 1010.0, 1010.0], [0.0, 10.0], 1.0)
    unhedged, hedged = hedge(parent, market, NoHedge()), hedge(parent, market, ImmediateHedge())
    assert unhedged.components["lag"] == pytest.approx(1000.0 * 0.01, abs=1e-10)
    assert hedged.components["lag"] == pytest.approx(0.0, abs=1e-10)


def test_no_hedge_leaves_the_whole_move_as_lag() -> None:
    parent, market = parent_of(1), market_of(1)
    run = hedge(parent, market, NoHedge())
    units = parent.plan.to_numpy()
    left = units.sum(axis=0) - np.cumsum(units, axis=0)
    beta_q = (left * market.mid[0, :3]) @ BETAS.to_numpy()
    move = np.diff(market.mid[:, 3]) / market.mid[0, 3]
    assert run.components["lag"] == pytest.approx(float(beta_q @ move), rel=1e-12)
    assert run.components["futures"] == run.components["basis"] == run.components["cross"] == 0.0
    assert run.futures_traded == 0.0


def test_immediate_hedge_without_latency_lags_by_the_slice_alone() -> None:
    parent, market = parent_of(2), market_of(2)
    run = hedge(parent, market, ImmediateHedge())
    traded = (parent.plan.to_numpy() * market.mid[0, :3]) @ BETAS.to_numpy()
    move = np.diff(market.mid[:, 3]) / market.mid[0, 3]
    assert run.components["lag"] == pytest.approx(-float(traded @ move), rel=1e-10)


def test_hedge_that_is_the_index_has_no_basis() -> None:
    parent, market = parent_of(3), market_of(3)
    own = HedgeParent("own", parent.plan, parent.betas, "ES")
    assert hedge(own, market, ImmediateHedge()).components["basis"] == 0.0


def test_one_sided_parents_of_both_signs_have_opposite_lag() -> None:
    market, plan = market_of(4), parent_of(4).plan.abs()
    runs = [hedge(HedgeParent("x", s * plan, BETAS, "ES", "SPY"), market, NoHedge()) for s in (1.0, -1.0)]
    assert runs[0].components["lag"] == pytest.approx(-runs[1].components["lag"], rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    latency=st.floats(0.0, 400.0),
    volatility=st.floats(0.0, 30.0),
    policy=st.sampled_from(["P0", "P1", "P3", "BS"]),
    integer=st.booleans(),
    revise=st.sampled_from([None, 3, 7]),
    close=st.booleans(),
)
def test_components_equal_the_ledger(
    seed: int, latency: float, volatility: float, policy: str, integer: bool, revise: int | None, close: bool
) -> None:
    kinds = {"P0": NoHedge(), "P1": ImmediateHedge(0.4), "P3": AdaptiveTrigger(1.0), "BS": PlanHedge(0.3)}
    modes = modes_of(seed)
    venue = venue_of(modes, latency)
    if not close:
        venue = SimulatedVenue(venue.latency_s, modes, venue.mode_instruments, fee_per_unit=1e-3, close=False)
    run = replay_hedge(
        parent_of(seed, revise=revise), kinds[policy], market_of(seed, volatility=volatility), beliefs_of(modes), venue,
        integer=integer,
    )  # fmt: skip
    gross = float(np.abs(run.components).sum())
    difference = abs(run.net - run.attribution.ledger_cost)
    assert difference <= 1e-12 * gross + 1e-15 * run.attribution.turnover
    contract = 50.0 * 5000.0
    if close and policy != "P0":
        # whole contracts can miss the target by half of one, but here ΣβQ_T is zero
        assert abs(run.attribution.gap[-1]) <= 1e-6
        assert run.attribution.held[-1] == pytest.approx(0.0, abs=1e-6)
    if integer:
        sent = run.decisions["contracts"].to_numpy(float)
        np.testing.assert_array_equal(sent, np.rint(sent))
        assert abs(float(run.held.iloc[-1]) / contract - round(float(run.held.iloc[-1]) / contract)) < 1e-9


def test_rounding_error_is_carried() -> None:
    """Whole contracts follow the ideal hedge within half a contract in every slice."""
    parent, market = parent_of(5, size=300.0), market_of(5)
    whole = replay_hedge(parent, ImmediateHedge(), market, beliefs_of(), integer=True)
    ideal = replay_hedge(parent, ImmediateHedge(), market, beliefs_of(), integer=False)
    contract = 250_000.0
    assert float((whole.held - ideal.held).abs().max()) <= 0.5 * contract * (1.0 + 1e-9)
    smooth = replay_hedge(parent, MPCHedge(1e-6), market, beliefs_of(), integer=True)
    assert abs(smooth.attribution.gap[-1]) < 1e-6


def test_cross_is_the_other_leg_alone() -> None:
    parent, market = parent_of(6), market_of(6)
    k = np.zeros((4, 4))
    k[0, 0] = k[3, 3] = 4e-11
    k[0, 3] = k[3, 0] = 2e-11
    from crosswind.optim.program import ImpactMode

    coupled, own = ImpactMode(0.01, k), ImpactMode(0.01, np.diag(np.diag(k)))
    runs = [replay_hedge(parent, ImmediateHedge(), market, beliefs_of(), venue_of((m,))) for m in (coupled, own)]
    assert runs[1].components["cross"] == 0.0
    assert runs[0].components["cross"] != 0.0
    for name in ("cash", "futures", "lag", "basis", "residual"):
        assert runs[0].components[name] == pytest.approx(runs[1].components[name], rel=1e-9), name
    impact = sum(
        f.units * f.multiplier * f.mid * (f.displacement_by[4] if f.instrument == "A" else f.displacement_by[0])
        for f in runs[0].result.fills
        if f.instrument in ("A", "ES")
    )
    assert runs[0].components["cross"] == pytest.approx(impact, rel=1e-9)


def test_a_cancellation_leaves_paper_and_account_together() -> None:
    """A name cancelled before it traded costs its move until then, as the paper portfolio gives it up at that mid."""
    parent, market = tiny([100.0, 101.0, 105.0], [50.0] * 3, [1000.0] * 3, [0.0, 10.0], 0.5)
    cancelled = HedgeParent("c", parent.plan, parent.betas, "F", "X", revisions=(PlanRevision(1, parent.plan * 0.0),))
    run = hedge(cancelled, market, NoHedge())
    assert run.components["residual"] == pytest.approx(10.0 * 1.0, abs=1e-10)
    assert run.attribution.ledger_cost == pytest.approx(10.0, abs=1e-10)
    assert not run.result.fills


def test_a_wrong_parent_is_not_reported() -> None:
    """Attributing fills of another hedge than the parent's fails against the ledger, and says so."""
    parent, market = parent_of(7), market_of(7)
    run = replay_hedge(parent, ImmediateHedge(), market, beliefs_of())
    other = HedgeParent("other", parent.plan, parent.betas, "SPY", "ES")
    with pytest.raises(CrosswindError, match="do not sum"):
        attribute(run.result, other)


def _bad_parent(kind: str) -> None:
    parent, market = parent_of(8), market_of(8)
    plan = parent.plan
    if kind == "hedge among the cash":
        HedgeParent("x", plan, BETAS, "A")
    elif kind == "unit":
        HedgeParent("x", plan, BETAS, "ES", unit="lots")
    elif kind == "nan plan":
        HedgeParent("x", plan.where(plan == 0.0), BETAS, "ES")
    elif kind == "nan beta":
        HedgeParent("x", plan, BETAS * math.nan, "ES")
    elif kind == "doubled beta":
        HedgeParent("x", plan, pd.concat([BETAS, BETAS]), "ES")
    elif kind == "doubled name":
        HedgeParent("x", plan.set_axis(["A", "A", "C"], axis=1), BETAS, "ES")
    elif kind == "empty":
        HedgeParent("x", plan.iloc[:0], BETAS, "ES")
    elif kind == "revision order":
        HedgeParent("x", plan, BETAS, "ES", revisions=(PlanRevision(5, plan), PlanRevision(5, plan)))
    elif kind == "revision at the start":
        HedgeParent("x", plan, BETAS, "ES", revisions=(PlanRevision(0, plan),))
    elif kind == "revision shape":
        HedgeParent("x", plan, BETAS, "ES", revisions=(PlanRevision(5, plan.iloc[1:]),))
    elif kind == "unknown hedge":
        replay_hedge(HedgeParent("x", plan, BETAS, "NQ"), NoHedge(), market, beliefs_of())
    elif kind == "unknown index":
        replay_hedge(HedgeParent("x", plan, BETAS, "ES", "QQQ"), NoHedge(), market, beliefs_of())
    elif kind == "slices":
        replay_hedge(parent, NoHedge(), market.truncated(5), beliefs_of())
    elif kind == "times":
        shifted = plan.set_axis(market.times[:-1] + pd.Timedelta("1s"))
        replay_hedge(HedgeParent("x", shifted, BETAS, "ES"), NoHedge(), market, beliefs_of())
    elif kind == "no beta to hedge":
        replay_hedge(HedgeParent("x", plan, BETAS * 0.0, "ES"), NoHedge(), market, beliefs_of())
    elif kind == "variance":
        HedgeBeliefs(0.0)
    elif kind == "nan variance":
        HedgeBeliefs(math.nan)
    elif kind == "mode names":
        HedgeBeliefs(VARIANCE_PER_S, modes_of(), ("A",))
    elif kind == "spread":
        HedgeBeliefs(VARIANCE_PER_S, half_spread=-1.0)
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "hedge among the cash", "unit", "nan plan", "nan beta", "doubled beta", "doubled name", "empty",
        "revision order", "revision at the start", "revision shape", "unknown hedge", "unknown index", "slices",
        "times", "no beta to hedge", "variance", "nan variance", "mode names", "spread",
    ],
)  # fmt: skip
def test_bad_parents_are_refused(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _bad_parent(kind)
    assert caught.value.field
    assert caught.value.remedy


def test_a_missing_beta_is_a_gap() -> None:
    with pytest.raises(DataGap, match="beta"):
        HedgeParent("x", parent_of(0).plan, BETAS.drop("B"), "ES")


def test_notional_plans_are_converted_at_arrival() -> None:
    parent, market = parent_of(9), market_of(9)
    money = HedgeParent("m", parent.plan * market.mid[0, :3], BETAS, "ES", "SPY", unit="notional")
    np.testing.assert_allclose(money.executed_plan(market), parent.plan, rtol=1e-14)
    assert money.notional(market) == pytest.approx(parent.notional(market), rel=1e-12)


def test_revisions_are_known_from_their_slice_only() -> None:
    market, plain, revised = market_of(10), parent_of(10), parent_of(10, revise=6)
    np.testing.assert_array_equal(revised.known_plan(5, market), plain.known_plan(5, market))
    assert (revised.known_plan(6, market)[6:] != plain.known_plan(6, market)[6:]).any()
    intended = revised.intended(market)
    assert (intended[:6] == intended[0]).all()
    assert (intended[6] != intended[0]).any()
    trades = [replay_hedge(p, MPCHedge(1e-6), market, beliefs_of()).decisions["trade"] for p in (plain, revised)]
    np.testing.assert_array_equal(trades[0][:6], trades[1][:6])
    assert (trades[0] != trades[1]).any()
