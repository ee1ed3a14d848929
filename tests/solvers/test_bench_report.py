"""Tables, pages and comparisons from rows of known content; suites and folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram
from crosswind.solvers.bench import BenchResult, Case, Suite, compare, folder_suite, register_suite, suite_names
from crosswind.solvers.bench.finish import finish
from crosswind.solvers.bench.report import parts, summary_markdown, tiles
from crosswind.solvers.bench.suites import find_suite
from crosswind.solvers.bench.tables import (
    anytime_table,
    cold_table,
    disagreements,
    profile_times,
    quality_after,
    sequence_table,
    summary_text,
)
from crosswind.solvers.errors import InvalidInput

LIMIT = 8.0


def row(solver: str, case: str, seconds: float | None, **changes: Any) -> dict[str, Any]:
    """Return a cold row; without seconds the solver was killed at its limit."""
    won = seconds is not None
    made: dict[str, Any] = {
        "key": f"{solver}-{case}-{changes.get('mode', 'cold')}-{changes.get('accuracy', 1e-6)}",
        "suite": "made",
        "case": case,
        "digest": f"d-{case}",
        "solver": solver,
        "mode": "cold",
        "accuracy": 1e-6,
        "time_limit_s": LIMIT,
        "settings": "{}",
        "seed": 0,
        "quick": True,
        "deadline_s": None,
        "outcome": "ran" if won else "timeout",
        "success": won,
        "claimed_wrong": False,
        "note": "",
        "claimed": "SOLVED" if won else "",
        "word": "solved",
        "status": "OPTIMAL" if won else "TIME_LIMIT",
    }
    if won:
        made |= {"total_s": seconds, "setup_s": 0.25 * seconds, "solve_s": 0.75 * seconds, "first_s": 2.0 * seconds}
        made |= {"times_s": [seconds] * 3, "samples": 3, "worst": 1e-9, "objective": 5.0, "iterations": 7}
        made |= {"peak_mb": 50.0, "repeatable": True}
    return made | changes


def result(*rows: dict[str, Any], folder: Path = Path("nowhere"), **facts: Any) -> BenchResult:
    known = {"plan": {"time_limit_s": LIMIT}, "machine": {"processor": "P1"}, "solvers": {"a": "1"}, "notes": []}
    return BenchResult(tuple(finish(rows)), {**known, **facts}, folder)


def two_solvers() -> BenchResult:
    lying = {"success": False, "claimed_wrong": True, "status": "INACCURATE", "worst": 0.5, "objective": 6.0}
    return result(
        row("a", "one", 0.001),
        row("a", "two", 0.004),
        row("b", "one", 0.002),
        row("b", "two", None),
        row("c", "one", 0.0005, **lying),
    )


def test_the_cold_table_by_hand():
    table = cold_table(two_solvers(), "made", 1e-6)
    assert list(table.index) == ["a", "b", "c"]
    shift = 0.1 * 0.002  # the median of the successes 1, 2, 4 ms
    assert table.loc["a", "sgm_ms"] == pytest.approx(1e3 * (np.sqrt((1e-3 + shift) * (4e-3 + shift)) - shift))
    assert table.loc["b", "sgm_ms"] == pytest.approx(2.0)
    assert table.loc["b", "sgm_all_ms"] == pytest.approx(1e3 * (np.sqrt((2e-3 + shift) * (LIMIT + shift)) - shift))
    assert table.loc["a", "success"] == 1.0
    assert table.loc["b", "success"] == 0.5
    assert table.loc["b", "crash_or_killed"] == 1
    assert table.loc["c", "success"] == 0.0
    assert table.loc["c", "claimed_wrong"] == 1
    # A wrong answer in no time wins nothing: it counts at the limit, and has no time of success.
    assert table.loc["c", "sgm_all_ms"] == pytest.approx(1e3 * LIMIT)
    assert np.isnan(table.loc["c", "sgm_ms"])
    assert table.loc["c", "programs"] == "1 of 2"
    assert np.isnan(table.loc["a", "p99_ms"])


def test_profiles_count_wrong_answers_as_failures():
    times = profile_times(two_solvers(), "made", 1e-6)
    assert times == {"a": [0.001, 0.004], "b": [0.002, np.inf], "c": [np.inf, np.inf]}


def test_finish_knows_the_best_and_contradicts_false_infeasibility():
    rows = finish(
        [
            row("a", "one", 0.1, objective=2.0, worst=1e-7),
            row("b", "one", 0.1, objective=2.2, worst=1e-3, status="INACCURATE", success=False),
            row("c", "one", 0.1, objective=1.9, worst=1e-12),
            row("d", "one", 0.1, claimed="INFEASIBLE", status="NUMERICAL", success=False, objective=np.inf),
            row("d", "two", 0.1, claimed="INFEASIBLE", status="INFEASIBLE", objective=np.inf),
        ]
    )
    known = {(r["solver"], r["case"]): r for r in rows}
    assert known["b", "one"]["objective_error"] == pytest.approx(0.3 / 1.9)
    assert known["c", "one"]["objective_error"] == 0.0
    assert known["d", "one"]["claimed_wrong"] is True
    assert known["d", "one"]["objective_error"] is None
    assert known["d", "two"]["claimed_wrong"] is False


def test_disagreements_name_row_and_reason():
    odd = disagreements(two_solvers())
    assert set(zip(odd["what"], odd["solver"], odd["case"], strict=True)) == {
        ("claimed but wrong", "c", "one"),
        ("timeout", "b", "two"),
    }
    modest = result(row("a", "one", 0.1, claimed="ALMOST"))
    assert list(disagreements(modest)["what"]) == ["right but not claimed"]


def streamed() -> dict[str, Any]:
    steps = [
        {"step": i, "setup_s": 1e-4, "solve_s": s, "missed": s > 1e-3, "updated": i > 0, "warmed": i > 0}
        | {"claimed": "SOLVED", "status": "OPTIMAL" if i else "INACCURATE", "worst": 1e-8, "iterations": 4}
        | {"action_error": 1e-7 * i, "regret": 1e-6 * i, "note": ""}
        for i, s in enumerate([5e-3, 1e-4, 3e-4])
    ]
    return row("a", "flow", 0.001, mode="sequence", steps=steps, deadline_s=1e-3)


def test_the_sequence_table_by_hand():
    table = sequence_table(result(streamed(), row("b", "flow", None, mode="sequence")), "made", 1e-6)
    assert table.loc["a", "step_success"] == pytest.approx(2 / 3)
    assert table.loc["a", "claimed_wrong"] == 1
    assert table.loc["a", "missed"] == pytest.approx(1 / 3)
    assert table.loc["a", "median_ms"] == pytest.approx(0.4)
    assert table.loc["a", "regret_max"] == pytest.approx(2e-6)
    assert table.loc["b", "streams"] == "0 of 1"


def curve() -> dict[str, Any]:
    points = [
        {"limit_s": 0.01, "used_s": 0.02, "worst": 1.0, "claimed": "TIME", "primal_rel": 0.0, "objective": 1.0},
        {"limit_s": 0.1, "used_s": 0.1, "worst": 1e-2, "claimed": "TIME", "primal_rel": 0.0, "objective": 1.0},
        {"limit_s": None, "used_s": 0.05, "worst": 1e-9, "claimed": "SOLVED", "primal_rel": 0.0, "objective": 1.0},
    ]
    return row("a", "one", 0.05, mode="anytime", points=points)


def test_what_an_iterate_is_worth_after_a_time():
    points = curve()["points"]
    assert quality_after(points, 0.01) == np.inf  # given 10 ms, it came after 20
    assert quality_after(points, 0.03) == 1.0
    assert quality_after(points, 0.05) == 1e-9  # its own end comes before the longer limit
    assert quality_after(None, 1.0) == np.inf
    table = anytime_table(result(curve()), "made", 1e-6, shares=(0.03 / LIMIT, 1.0))
    assert list(table.loc["a"]) == [1.0, 1e-9]


def test_the_page_holds_all_it_needs(tmp_path: Path):
    pytest.importorskip("plotly")
    from crosswind.bench_report import report_html, write_report

    whole = two_solvers()
    found = result(*whole.rows, streamed(), curve(), folder=tmp_path)
    page = report_html(found)
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    for word in ("Success", "made: cold", "made: sequence", "made: anytime", "Disagreements", "Setting", "P1"):
        assert word in page
    assert page.count("plotly.js v") == 1
    written = {path.name for path in write_report(found)}
    assert written == {"rows.parquet", "times.parquet", "steps.parquet", "points.parquet", "summary.md", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == written
    import pandas as pd

    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(rows) == len(found.rows)
    assert set(pd.read_parquet(tmp_path / "times.parquet")["key"]) <= set(rows["key"])


def test_markdown_and_text_say_the_same_figures():
    text = summary_markdown(two_solvers())
    assert "| b | 2 of 2 | 0.5 | 0 | 1 |" in text
    assert "## made, cold, accuracy 1e-06" in text
    assert "P1" in text
    plain = summary_text(two_solvers())
    assert "1 claimed but wrong" in plain
    assert "1 timeout" in plain
    assert tiles(two_solvers())["claimed but wrong"] == "1 of 4"


def test_a_clean_run_says_so():
    pytest.importorskip("plotly")
    clean = result(row("a", "one", 0.1))
    (part,) = [p for p in parts(clean) if p.title == "Disagreements"]
    assert part.text.startswith("No backend")
    assert "None." in summary_markdown(clean)


def test_a_run_that_is_twice_as_slow_is_called_slower(tmp_path: Path):
    rng = np.random.default_rng(0)
    base = 10.0 ** rng.uniform(-4, -1, 30)
    noise = np.exp(rng.normal(0, 0.05, 30))
    a = result(*(row("a", f"p{i}", t) for i, t in enumerate(base)), row("a", "lost", 0.1), row("a", "only", 0.1))
    slower = [row("a", f"p{i}", t) for i, t in enumerate(2.0 * base * noise)]
    b = result(*slower, row("a", "lost", None), machine={"processor": "P2"}, solvers={"a": "2"})
    found = compare(a, b)
    line = found.ratios.iloc[0]
    assert line["pairs"] == 30
    assert line["low"] < 2.0 < line["high"]
    assert line["high"] / line["low"] < 1.1
    assert line["B is"] == "slower"
    assert list(found.changed["case"]) == ["lost"]
    assert any("processor differs" in note for note in found.notes)
    assert any("versions of solvers differ: a" in note for note in found.notes)
    assert "1 cells are in A alone" in found.notes
    same = compare(a, a)
    assert same.ratios.iloc[0]["B is"] == "no difference"
    assert not same.notes
    assert "slower" in found.summary()


def test_runs_without_a_common_cell_cannot_be_compared(tmp_path: Path):
    with pytest.raises(InvalidInput, match="share no cell"):
        compare(result(row("a", "one", 0.1)), result(row("b", "one", 0.1)))
    with pytest.raises(InvalidInput, match="holds no run"):
        compare(tmp_path, tmp_path)


def small(n: int) -> QuadraticProgram:
    return QuadraticProgram(np.eye(n), np.ones(n), lb=0.0)


def test_a_folder_is_a_suite_that_reads_when_asked(tmp_path: Path):
    for n in range(1, 13):
        small(n).save(tmp_path / f"p{n:02d}.npz")
    (tmp_path / "notes.txt").write_text("not a program")
    (tmp_path / "torn.qps").write_text("NAME X\nROWS\n")
    found = folder_suite(tmp_path)
    assert len(found.cases) == 13
    assert sum(case.quick for case in found.cases) == 10
    assert {case.name: case for case in found.cases}["p03"].make().digest == small(3).digest
    with pytest.raises(InvalidInput):
        {case.name: case for case in found.cases}["torn"].make()
    assert find_suite(str(tmp_path)).name == tmp_path.name
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInput, match="holds no program"):
        folder_suite(empty)


def test_names_of_suites():
    register_suite("made-for-test", lambda: Suite("made-for-test", (Case("a", lambda: small(1)),)))
    assert "made-for-test" in suite_names()
    assert find_suite("made-for-test").cases[0].name == "a"
    with pytest.raises(InvalidInput, match="made-for-test"):
        find_suite("no-such-thing")
    for bad in ("", "a/b", "a b", "x.y"):
        with pytest.raises(InvalidInput, match="no name"):
            register_suite(bad, lambda: Suite("x"))
    with pytest.raises(InvalidInput, match="twice"):
        Suite("s", (Case("a", lambda: small(1)), Case("a", lambda: small(2))))


def test_facts_are_plain_json():
    from crosswind.solvers.bench.machine import machine_facts

    facts = json.loads(json.dumps(machine_facts()))
    assert facts["cores"] >= 1
    assert facts["threads"]["OPENBLAS_NUM_THREADS"] == "1"
    assert "numpy" in facts["versions"]
