"""``crosswind roll``: plans and replays as the library's, reports whole or not at all, refusals by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.cli import main
from crosswind.problems.roll.contracts import days_to_expiry, roll_contract, simulated_roll_day
from crosswind.problems.roll.program import RollProblem, RollSettings, RollStatistics
from crosswind.problems.roll.replay.views import see
from crosswind.solvers.errors import InvalidInput

PLAN = ("roll", "plan", "--quantity", "500", "--scenarios", "40", "--slices", "8", "--quiet")
REPLAY = ("roll", "replay", "--quiet", "--past", "2")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("words", [("roll",), ("roll", "plan"), ("roll", "replay")])
def test_help_shows_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main([*words, "--help"])
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert "crosswind roll" in text.split("example:")[1]
    assert "--json" in text


def test_the_plan_is_the_librarys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "plan"
    words = (*PLAN, "--data", "sim:seed=3,stress=thin", "--tail-weight", "1", "--max-naked", "50", "--seed", "2")
    code, text, _ = call(capsys, *words, "--json", "--out", str(out))
    told = json.loads(text)
    assert code == 0
    terms = roll_contract("ES", "2024-03-12")
    episode = simulated_roll_day(terms, "2024-03-12", "10:00", "12:00", 500, seed=3, stress="thin", max_naked=50)
    plan = RollProblem.at(
        episode.order,
        see(episode.market, episode.first + 1),
        statistics=RollStatistics.from_parameters(terms.parameters, days_to_expiry(terms, episode.market)),
        settings=RollSettings(tail_weight=1.0),
        arrival=episode.arrival,
        scenarios=40,
        slices=8,
        seed=2,
    ).solve(tol=1e-6)
    assert told["per_spread"]["cvar95"] == pytest.approx(plan.cvar95 / 500, rel=1e-9)
    assert sum(told["components"].values()) == pytest.approx(told["per_spread"]["mean"])
    assert told["per_spread"]["mean"] <= told["per_spread"]["cvar95"]
    assert told["per_spread"]["q95"] <= told["per_spread"]["cvar95"]
    assert told["solver"]["method"] == "interior"
    assert set(told["binding_limits"]) <= {"participation", "let", "deadline"}
    written = pd.read_parquet(out / "tables" / "schedule.parquet")
    np.testing.assert_allclose(written["cross"], plan.to_frame()["cross"])
    assert json.loads((out / "summary.json").read_text()) == told
    assert {path.name for path in out.iterdir()} == {"summary.json", "plan.html", "tables"}
    code, text, _ = call(capsys, *words)
    assert code == 0
    assert "positive: money lost" in text


@pytest.mark.parametrize(
    ("contract", "tick", "worth", "currency"),
    [
        ("ES", 0.05, 50.0, "USD"),
        ("NQ", 0.05, 20.0, "USD"),
        ("BTCUSDT_QUARTER", 0.1, 0.001, "USDT"),
    ],
)
def test_contracts_bring_their_ticks_and_worth(
    contract: str, tick: float, worth: float, currency: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--contract", contract, "--start", "15:00", "--cutoff", "15:40")
    code, text, _ = call(capsys, *PLAN, *words, "--dry-run", "--json")
    told = json.loads(text)
    assert code == 0
    assert told["dry_run"] is True
    limits = told["limits"]
    assert (limits["spread tick [points]"], limits["currency per point"]) == (tick, worth)
    assert limits["currency"] == currency
    assert "per_spread" not in told  # nothing was solved
    code, text, _ = call(capsys, *PLAN, *words, "--json")
    plan = json.loads(text)
    assert code == 0
    # Fees alone are the least that a spread of two legs costs in the mean of a calm book; ticks give its scale.
    fees = 2.0 * limits["fee per contract of a leg"]
    assert 0.0 < plan["components"]["spread_fees"] <= fees + 20.0 * tick * worth
    assert plan["components"]["spread_fees"] > 0.5 * fees


def test_books_scale_with_the_price_of_the_contract() -> None:
    low, high = roll_contract("binance:BTCUSDT_QUARTER", None, 30_000.0), roll_contract("binance:BTCUSDT_QUARTER")
    assert high.parameters.index_level == 2.0 * low.parameters.index_level
    assert high.parameters.noise_vol_points == pytest.approx(2.0 * low.parameters.noise_vol_points)
    assert high.fee == pytest.approx(2.0 * low.fee)
    assert "0.001 contracts" in high.unit
    assert roll_contract("ES").parameters.noise_vol_points == 0.035
    with pytest.raises(InvalidInput, match="multiplier / P²"):
        roll_contract("BTCUSD_QUARTER")


def test_replays_repeat_and_write_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "roll"
    words = (*REPLAY, "--orders", "2", "--policies", "adaptive,tail", "--seed", "4")
    code, text, _ = call(capsys, *words, "--json", "--out", str(out))
    told = json.loads(text)
    assert code == 0
    assert told["baseline"] == "adaptive"
    assert set(told["policies"]) == {"adaptive", "tail"}
    for row in told["policies"].values():
        parts = ("spread_fees", "impact", "basis_drift", "legging", "timing")
        assert sum(row[name] for name in parts) == pytest.approx(row["mean"])
        assert row["mean_low"] <= row["mean"] <= row["mean_high"]
    assert told["worst_ledger_error"] <= 1e-9
    assert told["sources"] == ["simulated listed spread"]
    assert told["shown"]["transitions"][-1]["target"] == "DEADLINE"
    assert json.loads((out / "summary.json").read_text()) == told
    panel = json.loads((out / "panel.json").read_text())
    assert panel["order"]["name"] == told["shown"]["order"]
    assert {tile["name"] for tile in panel["tiles"]} >= {
        "regime",
        "rdp",
        "residual",
        "forced_cross",
        "countdown",
        "health",
    }
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Until the cutoff" in page
    assert "past rolls (simulated)" in page
    assert {path.name for path in (out / "tables").iterdir()} == {"policies.parquet", "orders.parquet", "fills.parquet"}
    code, again, _ = call(capsys, *words, "--json")
    repeated = json.loads(again)
    assert {k: v for k, v in repeated.items() if k != "out"} == {k: v for k, v in told.items() if k != "out"}


def test_one_order_with_a_scheduled_roll(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--quantity", "-300", "--start", "10:00", "--cutoff", "10:40", "--policies", "scheduled", "--data")
    code, text, _ = call(capsys, *REPLAY, *words, "sim:seed=5")
    assert code == 0
    assert "300 spreads" in text
    assert "one day: its bounds say nothing" in text
    # No pace does it: every decision falls back, and the exit code says so.
    words = ("--quantity", "4000000", *words[2:])
    code, text, _ = call(capsys, *REPLAY, *words, "sim:seed=5", "--json")
    told = json.loads(text)
    assert code == 4
    assert told["fallbacks"]["scheduled"] >= 1
    assert told["shown"]["completion"] < 1.0


def test_a_recorded_day_is_told_as_such(lean_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = ("--data", f"lean:{lean_dir}", "--day", "2013-12-18", "--start", "10:00", "--cutoff", "11:00")
    code, text, _ = call(capsys, *REPLAY, *day, "--quantity", "200", "--policies", "twap", "--json")
    told = json.loads(text)
    assert code == 0
    assert told["sources"][0].startswith("synthesised from the legs")
    assert told["limits"]["legs"] == "201312 into 201403"
    code, text, _ = call(capsys, *PLAN, *day, "--quantity", "100", "--json")
    assert code == 0
    assert json.loads(text)["spreads"] == 100
    for words, field, said in (
        (("--start", "15:00", "--cutoff", "18:30"), "ES 201312", "missing"),
        (("--day", "2013-12-19"), "days", "missing"),
        (("--day", "2013-12-20", "--legs", "201312,201403"), "days", "missing"),
        (("--legs", "201403,201312"), "near", "swap"),
        (("--legs", "201403,209912"), "far", "no such expiry"),
    ):
        code, _, err = call(capsys, *PLAN, *day, *words)
        assert code == 2
        assert err.startswith(f"crosswind: {field}")
        assert said in err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--quantity", "0"), "quantity"),
        (("--start", "12:00", "--cutoff", "10:00"), "cutoff"),
        (("--now", "12:30"), "cutoff"),  # negative time to the cutoff
        (("--now", "09:00"), "--now"),
        (("--quantity", "5000000"), "quantity"),
        (("--legs", "202312,202403"), "legs"),  # an expiry past
        (("--legs", "202409,202406"), "near"),
        (("--legs", "202406,202409"), "legs"),
        (("--legs", "202406"), "--legs"),
        (("--legs", "march,june"), "--legs"),
        (("--day", "2024-03-10", "--start", "02:30"), "start"),  # skipped by the change of the clock
        (("--day", "2024-11-03", "--start", "01:30"), "start"),  # comes twice
        (("--day", "2024-03-16"), "day"),
        (("--day", "never"), "on"),
        (("--start", "soon"), "start"),
        (("--start", "06:00", "--cutoff", "08:00"), "start"),
        (("--cutoff", "18:00"), "cutoff"),
        (("--contract", "BTCUSD_QUARTER"), "contract"),
        (("--contract", "bybit:BTCUSDT"), "contract"),
        (("--contract", "XX"), "root"),
        (("--data", "lean:/nowhere"), "--data"),
        (("--data", "csv:x"), "--data"),
        (("--data", "sim:seed=x"), "--data"),
        (("--data", "sim:seed=1,seed=2"), "--data"),
        (("--data", "sim:stress=blue"), "stress"),
        (("--data", "sim:level=-3"), "level"),
        (("--remaining", "900"), "remaining"),
        (("--tail-weight", "nan"), "tail_weight"),
        (("--participation", "0"), "participation"),
        (("--fee", "-1"), "fee"),
        (("--max-naked", "-1"), "max_naked"),
    ],
)
def test_bad_plans_are_refused_by_name(
    words: tuple[str, ...], field: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, err = call(capsys, *PLAN, *words, "--json", "--out", str(out))
    assert code == 2
    told = json.loads(text)["error"]
    assert told["field"] == field
    assert told["remedy"]
    assert err.startswith(f"crosswind: {field}: ")
    assert not out.exists()


def test_what_cannot_be_done_is_told_with_its_forced_cross(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *PLAN, "--quantity", "5000000")
    assert code == 2
    assert "are short" in err
    assert "forced cross" in err
    assert "a spread" in err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--policies", "twap,best"), "--policies"),
        (("--policies", "twap,twap"), "--policies"),
        (("--policies", "twap", "--show", "tail"), "--show"),
        (("--data", "lean:."), "--quantity"),
        (("--orders", "0"), "count"),
        (("--quantity", "100", "--cutoff", "09:00"), "cutoff"),
    ],
)
def test_bad_replays_are_refused_by_name(
    words: tuple[str, ...], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, err = call(capsys, *REPLAY, *words, "--json")
    assert code == 2
    assert json.loads(text)["error"]["field"] == field
    assert err.startswith(f"crosswind: {field}: ")
