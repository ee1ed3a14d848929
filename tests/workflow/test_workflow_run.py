"""The main job: every stage true, repeatable, blind to the future, and written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.workflow.hedging import HedgeAssumptions, _assumed
from crosswind.problems.workflow.model import Check, configuration_hash
from crosswind.problems.workflow.promises import checks_of
from crosswind.solvers.errors import DataGap, InfeasibleProblem, InvalidInput

SPEC = "sim:names=4,sectors=2,days=2,bucket_s=60,seed=3"


@pytest.fixture(scope="module")
def market() -> cw.MarketData:
    return cw.read(SPEC)


@pytest.fixture(scope="module")
def result(market: cw.MarketData, tmp_path_factory: pytest.TempPathFactory) -> cw.RunResult:
    stages: list[tuple[str, float]] = []
    run = cw.run(
        market,
        out=tmp_path_factory.mktemp("run") / "out",
        seed=3,
        progress=lambda name, done: stages.append((name, done)),
    )
    assert list(dict.fromkeys(name for name, _ in stages)) == ["read", "fit", "schedule", "hedge", "write"]
    assert sum(name == "hedge" for name, _ in stages) > 50  # the long stage says how far it is
    assert [done for _, done in stages] == sorted(done for _, done in stages)
    return run


def test_every_check_passes_and_says_its_figure(result: cw.RunResult):
    table = result.checks_frame()
    assert result.passed
    assert len(table) == 9
    assert table["passed"].all()
    assert np.isfinite(table["value"]).all()


def test_a_failed_check_is_a_failed_run(result: cw.RunResult):
    worse = replace(result, checks=(*result.checks, Check("planted", float("nan"), 1.0)))
    assert not worse.passed
    assert not Check("planted", float("nan"), 0.0, at_least=True).passed
    assert "FAIL planted" in worse.summary()


def test_checks_are_measured_not_assumed(result: cw.RunResult):
    """Planting an error in the cost table turns the check that watches it."""
    from crosswind.problems.workflow.fitting import FitStage
    from crosswind.problems.workflow.scheduling import ScheduleStage

    wrong = result.schedule.costs.copy()
    wrong["spread"] += 1.0
    planned = ScheduleStage(replace(result.schedule, costs=wrong), result.schedules, None)  # type: ignore[arg-type]
    joint = cw.CrossImpact(ridge=1.0).fit(result.train)
    found = {c.name: c for c in checks_of(FitStage(joint, result.out_of_sample, None, result.diagnosis), planned, None)}
    assert not found["schedule: components against total, relative"].passed
    assert found["schedule: relative gap"].passed


def test_the_table_holds_every_baseline(result: cw.RunResult):
    expected = {"joint", "own-flow OLS", "full OLS", "sequential heuristic", "diagonal NNLS", "Kyle"}
    assert set(result.out_of_sample.index) == expected
    assert set(result.recovery.index) == expected
    assert result.out_of_sample.loc["joint", "admissible"]
    assert {"crosswind", "TWAP", "VWAP", "POV", "Almgren-Chriss", "diagonal only"} == set(result.schedules.index)


def test_our_schedule_is_the_cheapest_of_those_that_keep_the_limits(result: cw.RunResult):
    kept = result.schedules[(result.schedules["breaches"] == 0) & (result.schedules["executed"] > 1 - 1e-6)]
    assert kept["total"].idxmin() == "crosswind"


def test_the_default_risk_aversion_balances_a_twap(result: cw.RunResult):
    twap = result.schedules.loc["TWAP"]
    assert twap["risk"] == pytest.approx(twap["expected"], rel=1e-9)


def test_policies_share_the_cash_fills_and_end_flat(result: cw.RunResult):
    frame = result.hedge.comparison.to_frame()
    cash = frame["cash"].unstack("policy")  # noqa: PD010
    assert (cash.sub(cash.iloc[:, 0], axis=0).abs().to_numpy() <= 1e-9 * cash.abs().to_numpy().max()).all()
    hedged = frame.drop(index="P0 none", level="policy")
    assert (hedged["final_gap"].abs() <= 1e-6 * hedged["notional"]).all()
    parts = frame[["cash", "futures", "lag", "basis", "cross", "residual"]].sum(axis=1)
    assert np.allclose(parts, frame["net"], rtol=1e-12)
    assert result.hedge.worst_ledger_error <= 1e-9


def test_the_zero_impact_rows_have_no_impact(result: cw.RunResult):
    silent = result.hedge.comparison.zero_impact
    assert silent is not None
    assert (silent.to_frame()["cross"] == 0.0).all()


def test_summary_json_tables_and_report_are_written(result: cw.RunResult):
    assert {p.name for p in result.out.iterdir()} == {"summary.json", "tables", "report.html", "impact.html"}
    summary = json.loads((result.out / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["configuration"] == result.configuration
    assert summary["passed"] is True
    trades = pd.read_parquet(result.out / "tables" / "schedule.parquet")
    pd.testing.assert_frame_equal(trades, result.schedule.trades, check_freq=False, check_names=False)
    page = (result.out / "report.html").read_text()
    for heading in ("Impact", "Out of sample", "Schedule", "Cost", "Hedge policies", "The day", "Checks"):
        assert f"<h2>{heading}" in page
    assert page.count("Plotly.newPlot") >= 12
    assert '<a href="impact.html">' in page
    diagnosis = (result.out / "impact.html").read_text()
    for heading in ("Matrix", "Decay", "Limits and noise", "Clocks"):
        assert f"<h2>{heading}" in diagnosis
    assert diagnosis.count("Plotly.newPlot") >= 5
    assert 'src="http' not in diagnosis
    assert 'src="http' not in page
    assert 'href="http' not in page.split("<script")[0]


def test_the_text_tells_all_stages(result: cw.RunResult):
    text = result.summary()
    for word in ("out-of-sample", "truth", "Schedule", "Hedge", "without any impact", "Checks", "written to"):
        assert word in text
    assert "<pre>" in result._repr_html_()


def test_every_stage_shows_itself_in_a_line(result: cw.RunResult, market: cw.MarketData):
    for shown in (result, result.schedule, result.hedge, market, market.events):
        assert repr(shown).startswith(f"{type(shown).__name__}(")
        assert len(repr(shown)) < 300


def test_the_same_call_gives_the_same_figures(market: cw.MarketData, result: cw.RunResult):
    again = cw.run(market, seed=3)
    first, second = result.to_dict(), again.to_dict()
    for summary in (first, second):
        for row in summary["out_of_sample"].values():
            row.pop("seconds")
        summary.pop("timings_s")
        summary.pop("out")
    assert first == second


def test_nothing_decided_before_the_last_day_looks_at_it(market: cw.MarketData, result: cw.RunResult):
    """Poison: the last day's prices, flow and volume change; fit, schedule and tuning stay as they are."""
    events = market.events
    last = (events.session == events.days[-1]).to_numpy()

    def poisoned(frame: pd.DataFrame, factor: float) -> pd.DataFrame:
        return frame.mul(np.where(last, factor, 1.0), axis=0)

    future = market.futures["SIM"]
    late = future.index > events.on(events.days[-1:]).index[0]
    tripled = {name: getattr(future, name).mul(np.where(late, 3.0, 1.0), axis=0) for name in ("bid", "ask")}
    changed = replace(
        market,
        buckets=replace(
            events,
            flow=poisoned(events.flow, -0.5),
            volume=poisoned(events.volume, 2.0),
            mid=poisoned(events.mid, 3.0),
            spread=poisoned(events.spread, 5.0),
        ),
        futures={"SIM": replace(future, **tripled)},
    )
    other = cw.run(changed, seed=3)
    assert np.array_equal(other.model.matrices, result.model.matrices)
    pd.testing.assert_frame_equal(other.schedule.trades, result.schedule.trades)
    assert other.hedge.parameters == result.hedge.parameters
    pd.testing.assert_series_equal(other.hedge.betas, result.hedge.betas)
    assert not np.allclose(other.out_of_sample["mean"], result.out_of_sample["mean"])


def test_latency_comes_from_the_simulator_or_from_the_caller(market: cw.MarketData):
    slow = replace(market.truth, parameters={**market.truth.parameters, "hedge_latency_s": 90.0})
    brief = HedgeAssumptions(parent_s=7200.0, stride_s=7200.0, latency_s=0.0, horizon=3)
    given = cw.run(replace(market, truth=slow), assumptions=brief).hedge
    assert given.settings["assumptions"]["latency_s"] == 0.0
    assert _assumed(replace(market, truth=slow)).latency_s == 90.0
    assert _assumed(replace(market, truth=None)).latency_s == HedgeAssumptions().latency_s
    run = given.day.replays["basket", "P1 immediate"]
    orders = run.result.orders_frame()
    hedge = orders[orders["policy"] == "hedge"]
    assert (hedge["arrives"] == hedge["sent"]).all()


def test_data_without_a_future_end_at_the_schedule(market: cw.MarketData):
    bare = cw.run(replace(market, futures={}), inventory=pd.Series({"N02": -1e6}))
    assert bare.hedge is None
    assert bare.schedule.trades.sum().to_dict() == pytest.approx({"N02": -1e6})
    assert "Hedge" not in bare.summary()
    assert "<h2>Hedge" not in bare.report()


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"participation": 0.0}, InvalidInput, "participation"),
        ({"participation": float("nan")}, InvalidInput, "participation"),
        ({"basket_adv": 2.0}, InvalidInput, "basket_adv"),
        ({"slice_s": 45.0}, InvalidInput, "slice_s"),
        ({"slice_s": 1e6}, InvalidInput, "slice_s"),
        ({"risk_aversion": -1.0}, InvalidInput, "risk_aversion"),
        ({"names": ["N01", "QQQ"]}, InvalidInput, "names"),
        ({"index": "QQQ"}, InvalidInput, "index"),
        ({"inventory": pd.Series({"QQQ": 1e6})}, InvalidInput, "model"),
        ({"inventory": pd.Series({"N01": np.nan})}, InvalidInput, "inventory"),
        ({"inventory": pd.Series({"N01": 1e12})}, InfeasibleProblem, None),
    ],
)
def test_bad_input_is_refused_with_its_field(market: cw.MarketData, change: dict, error: type, field: str | None):
    with pytest.raises(error) as caught:
        cw.run(market, **change)
    assert caught.value.remedy
    if field is not None:
        assert field in str(caught.value)


def test_one_session_is_too_few(market: cw.MarketData):
    with pytest.raises(DataGap, match="two sessions"):
        cw.run(replace(market, buckets=market.events.on(market.events.days[:1])))


def test_the_hash_depends_on_settings_alone():
    settings = {"b": 2, "a": [1.0, {"x": None}]}
    assert configuration_hash(settings) == configuration_hash(dict(reversed(settings.items())))
    assert configuration_hash(settings) != configuration_hash({**settings, "b": 3})
    assert len(configuration_hash({})) == 12


@pytest.mark.data
def test_recorded_equities_hedged_with_their_future(lean_dir: Path, tmp_path: Path):
    """The promise on real data: SPY, IBM, BAC, AIG fitted on two days, IBM, BAC, AIG hedged with ES on the third."""
    run = cw.run(f"lean:{lean_dir}", out=tmp_path / "out")
    assert [str(d) for d in (*run.train.days, *run.test.days)] == ["2013-10-07", "2013-10-08", "2013-10-09"]
    assert set(run.model.names) == {"SPY", "IBM", "BAC", "AIG"}
    assert set(run.schedule.problem.names) == {"IBM", "BAC", "AIG"}
    assert run.hedge.settings["future"] == "ES 201312"
    assert run.passed, run.checks_frame()
    assert run.hedge.clock_correlation > 0.97
    assert run.out_of_sample["error"].eq("").all()
    assert run.recovery is None
    assert (run.out_of_sample[["SPY", "IBM", "BAC", "AIG"]] < 0.9).all(axis=None)
