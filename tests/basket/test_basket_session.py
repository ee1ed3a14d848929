"""A basket while it is traded: no churn on plan, exact costs, hysteresis, typed refusals, snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.limits import BandLimit
from crosswind.problems.basket import BasketProblem, Blackout
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.session import ScheduleSession
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, LimitBreach

Maker = Callable[..., BasketProblem]


def on_plan(problem: BasketProblem, resolve: bool = True, **options: Any) -> ScheduleSession:
    """Trade a whole session as planned, solving what is left at every step, and return it."""
    session = ScheduleSession(problem, **options)
    for time in [*problem.times[1:], problem.times[-1] + pd.Timedelta(problem.slice_s, unit="s")]:
        before = session.plan.iloc[1:]
        first = session.last
        step = session.step(time, session.next_slice, resolve=resolve)
        assert not step.changed, step.reason
        assert resolve or session.last is first
        pd.testing.assert_frame_equal(step.plan, before)  # bit by bit
    return session


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalty": {"completion": 1e-8},
    "hysteresis limit": {"max_change": 3e6},
    "two-sided": {"allow_reversal": True},
    "urgent": {"urgency": 1e-7},
    "drift": {"drift": pd.Series({f"N{i:03d}": (-1) ** i * 1e-8 for i in range(6)}), "drift_half_life_s": 7200.0},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("seed", range(2))
def test_no_churn_when_all_goes_to_plan(seed: int, variant: str) -> None:
    problem = basket_instance(6, 7, seed=seed).replace(**VARIANTS[variant])
    first = problem.solve().trades
    session = on_plan(problem)
    pd.testing.assert_frame_equal(session.fills, first)
    pd.testing.assert_frame_equal(on_plan(problem, resolve=False).fills, first)
    if variant != "penalty":
        np.testing.assert_allclose(session.left, 0.0, atol=1e-6)


def test_rest_is_the_tail_of_the_whole_optimum(desk: BasketProblem) -> None:
    """The principle of optimality, by fresh solves that see only the impact left behind."""
    session = ScheduleSession(desk)
    plan = session.plan
    for k in range(1, desk.n_slices):
        session.step(desk.times[k], plan.iloc[k - 1], resolve=True)
        assert session.last is not None
        np.testing.assert_allclose(session.last.trades, plan.iloc[k:], atol=1e-5 * desk.parent_notional / 80)


def test_realised_and_expected_add_up_to_the_score(desk: BasketProblem) -> None:
    session = ScheduleSession(desk)
    rng = np.random.default_rng(3)
    for k in range(1, 6):
        session.step(desk.times[k], session.next_slice * rng.uniform(0.6, 1.0, desk.n_names))
        merged = session.fills
        merged.iloc[k:] = session.plan.to_numpy()
        whole = desk.score(merged)
        total = session.realised() + session.expected()
        np.testing.assert_allclose(total[whole.index], whole, rtol=1e-9, atol=1e-6)
    assert session.realised()["total"] > 0.0


def test_impact_left_behind_is_the_state_of_the_model(make: Maker) -> None:
    problem = make()
    session = ScheduleSession(problem)
    u = session.next_slice
    session.step(problem.times[1], u)
    decays = np.exp(-problem.model.rates_per_s * 900.0)
    np.testing.assert_allclose(session.impact, decays[:, None] * u.to_numpy()[None, :], rtol=1e-12)
    # Against a fresh basket, the rest knows that its prices have been moved, and waits for them to decay.
    fresh = problem.replace(times=problem.times[1:], inventory=problem.inventory - u).solve().trades
    assert float((fresh - session.plan).abs().to_numpy().max()) > 1e-3 * float(u.abs().max())


def test_short_fills_are_caught_up(make: Maker) -> None:
    problem = make()
    session = ScheduleSession(problem)
    step = session.step(problem.times[1], 0.5 * session.next_slice)
    assert step.changed
    np.testing.assert_allclose(step.plan.sum(), step.left, rtol=1e-9)
    assert problem.breaches(session.fills.add(step.plan, fill_value=0.0), tol=1e-7).empty
    assert step.next_slice.equals(session.next_slice)


def test_hysteresis_keeps_small_gains_and_takes_large_ones(make: Maker) -> None:
    problem = make()
    wide = 3.0 * problem.covariance
    eager, calm = ScheduleSession(problem), ScheduleSession(problem, hysteresis_bps=0.05)
    moved, kept = (s.step(problem.times[1], s.next_slice, covariance=wide) for s in (eager, calm))
    assert moved.changed
    assert 1e-4 < moved.gain_bps < 0.05
    assert not kept.changed
    assert kept.gain_bps == pytest.approx(moved.gain_bps, rel=1e-3)
    assert "hysteresis" in kept.reason
    big = calm.step(problem.times[2], calm.next_slice, covariance=1e3 * problem.covariance)
    assert big.changed
    assert big.gain_bps > 0.05


def test_a_plan_that_would_break_a_limit_is_left_whatever_the_hysteresis(make: Maker) -> None:
    problem = make(participation=0.08)
    session = ScheduleSession(problem, hysteresis_bps=1e6)
    thin = problem.volume * np.where(np.arange(6) == 2, 0.3, 1.0)[:, None]
    step = session.step(problem.times[1], session.next_slice, volume=thin.iloc[1:])
    assert step.changed
    assert "participation" in step.reason
    assert (step.plan.abs() <= 0.08 * thin.iloc[1:] + 1.0).all(axis=None)
    # The forecast holds until replaced.
    again = session.step(problem.times[2], session.next_slice)
    assert not again.changed


def test_infeasible_rest_leaves_a_usable_session(make: Maker) -> None:
    problem = make(participation=0.06)
    session = ScheduleSession(problem)
    fills = 0.9 * session.next_slice
    with pytest.raises(InfeasibleProblem):
        session.step(problem.times[1], fills, volume=0.2 * problem.volume)
    np.testing.assert_allclose(session.fills.iloc[0], fills)
    np.testing.assert_allclose(session.plan.sum(), session.left, rtol=1e-9)
    assert session.forecasts == {}
    session.step(problem.times[2], session.next_slice)


def test_a_desk_that_trades_on_after_a_refusal_keeps_its_limits(make: Maker) -> None:
    """Nothing is filled for hours: completion is out of reach, and the plan must not chase it over the caps."""
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"})
    problem = make(participation=0.05, sectors=sectors, sector_cap=pd.Series({"fin": 1.2e6}))
    session = ScheduleSession(problem)
    refused = 0
    for start in problem.times[1:]:
        try:
            session.step(start, 0.0 * session.next_slice)
        except InfeasibleProblem:
            refused += 1
        plan = session.plan
        assert (plan.abs() <= 0.05 * problem.volume.loc[plan.index] * (1 + 1e-9)).all().all()  # type: ignore[union-attr]
        assert (plan[["BAC", "AIG"]].abs().sum(axis=1) <= 1.2e6 * (1 + 1e-9)).all()
        assert (plan * np.sign(problem.inventory) >= 0.0).all().all()
    assert refused >= 3
    last = problem.times[-1]
    assert session.next_slice["IBM"] == pytest.approx(0.05 * problem.volume.loc[last, "IBM"])  # type: ignore[union-attr]
    session.step(last + pd.Timedelta("1h"), session.next_slice)
    assert (session.left.abs() > 1e5).all()  # it says what was not done


def test_fills_by_time_are_bucketed_and_late_ones_found(make: Maker) -> None:
    problem = make()
    t = problem.times
    session = ScheduleSession(problem)
    stamps = t[[0, 0]] + pd.to_timedelta([10, 500], unit="s")
    session.book(t[1], pd.DataFrame({"IBM": [1e5, 2e5]}, index=stamps))
    late = pd.DataFrame({"BAC": [-4e4]}, index=[t[0] + pd.Timedelta("899s")])
    session.book(t[2], late)
    assert session.fills.loc[t[0], "IBM"] == 3e5
    assert session.fills.loc[t[0], "BAC"] == -4e4
    assert session.left["IBM"] == 4e6 - 3e5
    local = pd.DataFrame({"IBM": [1.0]}, index=[(t[1] + pd.Timedelta("5s")).tz_convert("America/New_York")])
    session.book(t[2], local)
    assert session.fills.loc[t[1], "IBM"] == 1.0


def test_refusals_leave_the_session_as_it_was(make: Maker) -> None:
    problem = make()
    session = ScheduleSession(problem)
    t = problem.times
    session.step(t[1], session.next_slice)
    before = json.dumps(session.to_dict())
    stamp = [t[0] + pd.Timedelta("1s")]
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (InvalidInput, "clock goes back", {"now": t[0]}),
        (InvalidInput, "naive", {"now": pd.Timestamp("2024-03-04 15:00")}),
        (InvalidInput, "unknown or doubled names", {"now": t[2], "fills": pd.Series({"XYZ": 1.0})}),
        (InvalidInput, "not finite", {"now": t[2], "fills": pd.Series({"IBM": np.nan})}),
        (InvalidInput, "numeric", {"now": t[2], "fills": pd.Series({"IBM": "many"})}),
        (InvalidInput, "future", {"now": t[2], "fills": pd.DataFrame({"IBM": [1.0]}, index=[t[3]])}),
        (InvalidInput, "still to come", {"now": t[2], "fills": pd.DataFrame({"IBM": [1.0]}, index=[t[2]])}),
        (InvalidInput, "tz-aware", {"now": t[2], "fills": pd.DataFrame({"IBM": [1.0]})}),
        (InvalidInput, "Series by name", {"now": t[2], "fills": 3.0}),
        (LimitBreach, "go beyond the order", {"now": t[2], "fills": pd.Series({"IBM": 5e6})}),
        (LimitBreach, "against it", {"now": t[2], "fills": pd.DataFrame({"BAC": [4e6]}, index=stamp)}),
        (InvalidInput, "cannot be updated", {"now": t[2], "inventory": problem.inventory}),
        (InvalidInput, "volume", {"now": t[2], "fills": 0.0 * problem.inventory, "volume": -problem.volume}),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            session.step(**call)
        assert json.dumps(session.to_dict()) == before, text
    with pytest.raises(InvalidInput, match="before the first slice"):
        ScheduleSession(problem).step(t[0], pd.Series({"IBM": 1.0}))
    with pytest.raises(InvalidInput, match="hysteresis"):
        ScheduleSession(problem, hysteresis_bps=-1.0)


def test_overfill_taken_in_knowingly_is_traded_back(make: Maker) -> None:
    problem = make(participation=None)
    session = ScheduleSession(problem)
    step = session.step(problem.times[1], pd.Series({"IBM": 4.5e6}), allow_overfill=True)
    assert step.left["IBM"] == pytest.approx(-5e5)
    np.testing.assert_allclose(step.plan["IBM"].sum(), -5e5)
    assert (step.plan["IBM"] <= 1e-6).all()


def test_finished_names_rest(make: Maker) -> None:
    problem = make(participation=None, must_finish=pd.Series({"BAC": make().times[3]}))
    session = ScheduleSession(problem)
    step = session.step(problem.times[1], pd.Series({"IBM": 4e6 - 1e-4, "BAC": -3e6, "AIG": 2e6}))
    assert (step.plan == 0.0).all(axis=None)
    assert step.left.tolist() == [0.0, 0.0, 0.0]
    end = session.step(problem.times[-1] + pd.Timedelta("1h"))
    assert end.reason == "the last slice is over"
    assert end.plan.empty
    assert (end.next_slice == 0.0).all()


def test_blackouts_hedges_and_extra_limits_follow(make: Maker) -> None:
    base = make()
    band = BandLimit("tilt", np.array([[1.0, 1.0, 1.0]]), np.full((6, 1), -6e6), np.linspace(6e6, 1e6, 6)[:, None])
    problem = make(
        {"IBM": 4e6, "BAC": -3e6},
        hedges=pd.Series({"AIG": 1e5}),
        model=base.model,
        volume=base.volume,
        covariance=base.covariance,
        blackouts=(Blackout(base.times[3], base.times[4], ("IBM",)),),
        extra_limits=(band,),
        cash_band=2e6,
    )
    session = on_plan(problem)
    assert session.fills.loc[base.times[3], "IBM"] == 0.0
    np.testing.assert_allclose(session.left["AIG"], -1e5 - session.fills["AIG"].sum())


def test_same_facts_same_bytes_also_through_a_journal(desk: BasketProblem) -> None:
    rng = np.random.default_rng(11)
    shares = rng.uniform(0.7, 1.0, (desk.n_slices, desk.n_names))
    straight, resumed = ScheduleSession(desk), ScheduleSession(desk)
    for k in range(1, 6):
        fills = straight.next_slice * shares[k]
        update: dict[str, Any] = {"volume": 1.1 * desk.volume.iloc[k:]} if k == 2 else {}
        if k == 4:
            update = {"risk_aversion": 2e-6, "model": desk.model.diagonal()}
        one = straight.step(desk.times[k], fills, **update)
        resumed = ScheduleSession.from_dict(desk, json.loads(json.dumps(resumed.to_dict())))
        other = resumed.step(desk.times[k], fills, **update)
        pd.testing.assert_frame_equal(one.plan, other.plan, rtol=0.0, atol=0.0)
        assert (one.changed, one.reason) == (other.changed, other.reason)
    assert json.dumps(straight.to_dict()) == json.dumps(resumed.to_dict())


def test_snapshots_are_checked(make: Maker) -> None:
    problem = make()
    snapshot = ScheduleSession(problem).to_dict()
    with pytest.raises(InvalidInput, match="another basket"):
        ScheduleSession.from_dict(make(participation=0.09), snapshot)
    with pytest.raises(InvalidInput, match="format"):
        ScheduleSession.from_dict(problem, snapshot | {"format": 99})
    with pytest.raises(InvalidInput, match="no snapshot"):
        ScheduleSession.from_dict(problem, {})
    with pytest.raises(InvalidInput, match="no snapshot"):
        ScheduleSession.from_dict(problem, snapshot | {"done": [[1.0]]})
    # The same inputs built again are the same basket.
    assert ScheduleSession.from_dict(make(), snapshot).to_dict() == snapshot


def test_prices_of_limits_see_the_impact_left_behind(make: Maker) -> None:
    problem = make(participation=0.05)
    session = ScheduleSession(problem)
    session.step(problem.times[1], 0.9 * session.next_slice)
    assert session.last is not None
    values = session.last.price_of_limits()
    assert values["participation"] > 0.0
    # Dropping the cap must start from the same displaced prices: the cost saved is that of one and the same rest.
    free = session.last.problem.replace(participation=None)
    assert free.score(session.plan)["total"] == pytest.approx(session.last.costs["total"], rel=1e-6)
    with pytest.raises(InvalidInput, match="past trades"):
        session.last.problem.replace(times=problem.times)


def test_nothing_is_solved_on_plan_and_late_fills_are_noticed(make: Maker) -> None:
    problem = make()
    session = ScheduleSession(problem)
    first = session.last
    assert session.step(problem.times[1], session.next_slice).reason == "on plan"
    assert session.last is first
    moved = pd.DataFrame({"IBM": [1e4]}, index=[problem.times[0] + pd.Timedelta("1s")])
    late = session.step(problem.times[2], moved)  # late for the first slice, and nothing of the second
    assert late.reason != "on plan"
    assert session.last is not first
    short = ScheduleSession(problem, hysteresis_bps=1e9)
    short.step(problem.times[1], 0.8 * short.next_slice)
    # A plan that only the hysteresis keeps is not optimal: it is asked again at every step.
    held = short.last
    short.step(problem.times[2], short.next_slice)
    assert short.last is not held


@pytest.mark.parametrize("warm", [False, True])
def test_structured_solver_in_a_session(warm: bool) -> None:
    from crosswind.problems.basket import FactorImpact

    problem = basket_instance(12, 8, seed=4)
    problem = problem.replace(model=FactorImpact.approximate(problem.model, 3))
    sparse = ScheduleSession(problem, "auto")
    session = ScheduleSession(problem, "structured", 1e-7, warm=warm)
    rng = np.random.default_rng(0)
    for k in range(1, 6):
        fills = session.next_slice * rng.uniform(0.7, 1.0, 12)
        step = session.step(problem.times[k], fills, resolve=True)
        other = sparse.step(problem.times[k], fills, resolve=True)
        assert session.last is not None
        assert "structured" in session.last.certificate_line
        # The same rest of the basket, impact left behind included: the costs agree within the gaps.
        assert session.last.costs["total"] == pytest.approx(sparse.last.costs["total"], rel=1e-5)  # type: ignore[union-attr]
        np.testing.assert_allclose(step.plan.sum(), other.plan.sum(), rtol=1e-6)
        assert problem.breaches(session.fills.add(step.plan, fill_value=0.0), tol=1e-6).empty


def test_catching_up_keeps_caps_where_there_is_room(make: Maker) -> None:
    """A short fill under binding caps does not force a new plan: the rest finds room, and the hysteresis can hold."""
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"})
    problem = make(sectors=sectors, sector_cap=pd.Series({"fin": 1.05e6}), participation=0.05, risk_aversion=1e-5)
    session = ScheduleSession(problem, hysteresis_bps=100.0)
    assert session.last is not None
    assert (session.last.prices["sector cap"]["fin"] > 0.0).any()
    step = session.step(problem.times[1], 0.9 * session.next_slice)
    assert "hysteresis" in step.reason
    assert problem.breaches(session.fills.add(step.plan, fill_value=0.0), tol=1e-7).empty
    np.testing.assert_allclose(step.plan.sum(), step.left, rtol=1e-9)


def test_catching_up_by_hand(make: Maker) -> None:
    from crosswind.problems.basket.remainder import caught_up

    cap = pd.DataFrame(1e6, make().times, ["IBM", "BAC", "AIG"])
    problem = make({"IBM": 3e6, "BAC": -1e6, "AIG": 0.0}, volume=cap, participation=1.0)
    plan = np.zeros((6, 3))
    plan[:, 0] = [9e5, 9e5, 1e5, 0.0, 0.0, 0.0]
    plan[:, 1] = -4e5  # more than the order by 1.4 M: scaled away
    out = caught_up(problem, plan, np.full(3, 1e-3))
    np.testing.assert_allclose(out.sum(axis=0), [3e6, -1e6, 0.0])
    np.testing.assert_allclose(out[:, 1], -1e6 / 6)
    assert out[:, 0].max() <= 1e6 + 1e-6
    np.testing.assert_allclose(out[:3, 0], 1e6)  # the slices that traded are filled up to the cap, and just suffice
    np.testing.assert_array_equal(out[3:, 0], 0.0)
    # The other way round, and beyond all room: the limit is broken, and the session would see it.
    over = make({"IBM": 7e6, "BAC": 1e6, "AIG": 0.0}, volume=2.0 * cap, participation=0.5)
    out = caught_up(over, plan, np.full(3, 1e-3))
    np.testing.assert_allclose(out.sum(axis=0), [7e6, 1e6, 0.0])
    assert out[:, 0].max() > 1e6
    assert (out[:, 1] >= 0.0).all()


@pytest.mark.parametrize("seed", range(8))
def test_any_session_keeps_its_promises(seed: int) -> None:
    """Random fills (short, none), clocks and forecasts: what is left is planned, limits hold, a journal resumes."""
    rng = np.random.default_rng(seed)
    problem = basket_instance(int(rng.integers(1, 6)), int(rng.integers(1, 7)), seed=seed)
    problem = problem.replace(participation=0.4, cash_band=None)
    session = ScheduleSession(problem, hysteresis_bps=float(rng.choice([0.0, 0.1])))
    end = problem.times[-1] + pd.Timedelta(problem.slice_s, unit="s")
    starts = [*problem.times[1:], end]
    booked = np.zeros(problem.n_names)
    for k, time in enumerate(starts):
        if rng.random() < 0.15 and k < len(starts) - 1:
            continue  # a step that nobody took: the slice went by unfilled
        fills = session.next_slice * rng.choice([0.0, 0.5, 0.9, 1.0], problem.n_names)
        forecasts: dict[str, Any] = {}
        if rng.random() < 0.5:
            forecasts["spread"] = problem.spread * float(rng.uniform(0.5, 2.0))
        if rng.random() < 0.5:
            forecasts["risk_aversion"] = float(rng.choice([0.0, 1e-7, 1e-5]))
        try:
            step = session.step(time, fills, **forecasts)
        except (InfeasibleProblem, InvalidInput):  # too little time is left for what was not filled
            step = None
        booked += fills.to_numpy()
        np.testing.assert_allclose(session.fills.sum(), booked, atol=1e-6 * problem.parent_notional)
        np.testing.assert_allclose(session.left, problem.inventory - booked, atol=1e-6 * problem.parent_notional)
        if len(session.plan) and step is not None:
            np.testing.assert_allclose(session.plan.sum(), session.left, atol=1e-6 * problem.parent_notional)
        elif len(session.plan):  # as much of it as the limits leave room for, and not more
            dust = 1e-6 * problem.parent_notional
            assert (session.plan.sum().abs() <= session.left.abs() + dust).all()
            broken = problem.breaches(session.fills.add(session.plan, fill_value=0.0), tol=1e-6)
            assert set(broken["limit"]) <= {"completion"}, broken
        if step is not None and len(step.plan):
            rest = problem.breaches(session.fills.add(step.plan, fill_value=0.0), tol=1e-6)
            assert rest.empty, rest
            assert np.isfinite(step.plan.to_numpy()).all()
        assert (
            ScheduleSession.from_dict(problem, json.loads(json.dumps(session.to_dict()))).to_dict() == session.to_dict()
        )
