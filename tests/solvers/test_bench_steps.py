"""Steps of streams: the bare calls that are timed, what interrupts them, and the tables from rows of known content."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, certify, solve
from crosswind.solvers.backends.base import Backend, Claim, Direct, Prepared, Raw
from crosswind.solvers.bench import BenchResult, Plan, Race, Stream, Suite, load_result, run_bench
from crosswind.solvers.bench.messages import Request
from crosswind.solvers.bench.reference import _sharp, references
from crosswind.solvers.bench.report import summary_markdown
from crosswind.solvers.bench.steps import ratio_table, ratio_text, step_table
from crosswind.solvers.bench.tables import summary_text
from crosswind.solvers.bench.worker import Run
from crosswind.solvers.bounds import polished
from crosswind.solvers.registry import backend

RACE = {"lanes": ["ours", "fast", "slow"], "goals": {"g": {"slow": [10.0, 4.0, None]}}, "accuracy": 1e-6}


def step(number: int, us: float, **changes: Any) -> dict[str, Any]:
    made = {
        "step": number,
        "setup_s": 0.0,
        "solve_s": 2e-6 * us,
        "cpu_s": 1e-6 * us,
        "missed": False,
        "updated": number > 0,
        "warmed": number > 0,
        "claimed": "SOLVED",
        "status": "OPTIMAL",
        "worst": 0.0,
        "iterations": 3,
        "action_error": 0.0,
        "solution_error": 1e-8,
        "reference_worst": 1e-13,
        "regret": 0.0,
        "note": "",
    }
    return made | changes


def row(solver: str, case: str, times: list[float] | None, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "key": f"{solver}-{case}",
        "suite": "made",
        "case": case,
        "digest": case,
        "group": "g",
        "solver": solver,
        "mode": "sequence",
        "accuracy": 1e-6,
        "time_limit_s": 1.0,
        "settings": "{}",
        "seed": 0,
        "quick": True,
        "outcome": "timeout" if times is None else "ran",
        "success": times is not None,
        "claimed_wrong": False,
        "claimed": "",
        "status": "TIME_LIMIT" if times is None else "OPTIMAL",
        "note": "",
    }
    if times is not None:
        made["steps"] = [step(k, us) for k, us in enumerate(times)]
    return made | changes


def result(*rows: dict[str, Any]) -> BenchResult:
    facts = {"races": {"made": RACE}, "plan": {}, "machine": {}, "notes": []}
    return BenchResult(tuple(rows), facts, Path("nowhere"))


def raced() -> BenchResult:
    # Set-ups of 1000 µs come first in every stream and belong to no quantile.
    one = [1000.0, *(float(k) for k in range(1, 61))]
    return result(
        row("slow", "s0", [1000.0, *(5.0 * k for k in range(1, 61))]),
        row("slow", "s1", [1000.0, *(5.0 * k for k in range(61, 121))]),
        row("ours", "s0", one),
        row("ours", "s1", [1000.0, *(float(k) for k in range(61, 121))]),
        row("other", "s0", one),
        row("other", "s1", None),
        row("fast", "s0", None),
        row("fast", "s1", None),
    )


def test_steps_are_pooled_over_the_seeds_without_set_ups():
    table = step_table(raced(), "made", 1e-6)
    assert list(table["solver"]) == ["ours", "fast", "slow", "other"]  # the suite's lanes first
    rows = table.set_index("solver")
    assert list(rows["streams"]) == ["2 of 2", "0 of 2", "2 of 2", "1 of 2"]
    assert (rows.loc["ours", "steps"], rows.loc["ours", "setups"]) == (120, 2)
    assert rows.loc["ours", "p50_us"] == pytest.approx(60.0)
    assert rows.loc["ours", "p99_us"] == pytest.approx(119.0)
    assert np.isnan(rows.loc["ours", "p999_us"])
    assert rows.loc["ours", "wall_p50_us"] == pytest.approx(120.0)
    assert np.isnan(rows.loc["other", "p99_us"])  # sixty steps have no p99
    assert rows.loc["fast", "outcome"] == "timeout"
    assert rows.loc["ours", "error_max"] == pytest.approx(1e-8)
    assert rows.loc["ours", "within_1e-6"] == rows.loc["ours", "certified"] == 1.0


def test_ratios_are_those_of_the_quantiles_with_goals_only_at_their_accuracy():
    rows = ratio_table(raced(), "made", 1e-6).set_index("solver")
    assert list(rows.index) == ["fast", "slow", "other"]
    assert [rows.loc["slow", q] for q in ("p50", "p99")] == pytest.approx([5.0, 5.0])
    assert [rows.loc["slow", f"met_{q}"] for q in ("p50", "p99", "p999")] == [False, True, None]
    assert np.isnan(rows.loc["fast", "p50"])
    assert [rows.loc["other", f"goal_{q}"] for q in ("p50", "p99", "p999")] == [None, None, None]
    shown = ratio_text(ratio_table(raced(), "made", 1e-6)).set_index("solver")
    assert list(shown.loc["slow"]) == ["g", "5 (goal 10, missed)", "5 (goal 4)", "–"]
    loose = result(*({**r, "accuracy": 1e-3} for r in raced().rows))
    rows = ratio_table(loose, "made", 1e-3).set_index("solver")
    assert rows.loc["slow", "goal_p50"] is None
    assert rows.loc["slow", "p50"] == pytest.approx(5.0)


def test_there_are_no_ratios_without_the_first_lane_or_without_lanes():
    rest = [r for r in raced().rows if r["solver"] != "ours"]
    assert ratio_table(result(*rest), "made", 1e-6).empty
    without = BenchResult(raced().rows, {"plan": {}, "machine": {}, "notes": []}, Path("nowhere"))
    assert ratio_table(without, "made", 1e-6).empty
    assert "steps by size" in summary_text(without)
    assert "times faster" not in summary_text(without)


def test_rows_of_an_earlier_version_are_read():
    old = []
    for r in raced().rows:
        kept = {k: v for k, v in r.items() if k != "group"}
        if "steps" in kept:
            new = ("cpu_s", "solution_error", "reference_worst")
            kept["steps"] = [{k: v for k, v in s.items() if k not in new} for s in kept["steps"]]
        old.append(kept)
    table = step_table(result(*old), "made", 1e-6)
    assert set(table["group"]) == {"s0", "s1"}
    ours = table[(table["solver"] == "ours") & (table["group"] == "s0")].iloc[0]
    assert np.isnan(ours["p50_us"])
    assert ours["wall_p50_us"] == pytest.approx(60.0)


def test_the_summary_holds_steps_and_ratios():
    text = summary_markdown(result(*raced().rows))
    assert "### made, steps by size, accuracy 1e-06" in text
    assert "### made, how many times faster ours is, accuracy 1e-06" in text
    assert "| g | slow | 5 (goal 10, missed) |" in text


# ---- the worker's bare calls -----------------------------------------------------------------------------------------


def program(seed: int) -> QuadraticProgram:
    return QuadraticProgram(np.eye(3), np.random.default_rng(seed).normal(size=3), lb=-1.0, ub=1.0)


def stream(steps: int) -> tuple[QuadraticProgram, ...]:
    first = program(0)
    return (first, *(first.with_vectors(q=program(k).q) for k in range(1, steps)))


class _Clip(Prepared):
    """The projection of −q on the box, in doubled units, noting who called what in which order."""

    def __init__(self, owner, program):
        self.owner, self.program = owner, program
        owner.log.append("prepare")

    def fits(self, program):
        return program.P is self.program.P

    def update(self, program):
        raise AssertionError("the bare calls are to be used")

    def solve(self, warm, time_limit):
        return self.owner.answer(self.program.q)

    def direct(self, time_limit):
        return _Bare(self.owner)


class _Bare(Direct):
    def __init__(self, owner):
        self.owner, self.log = owner, owner.log
        self.out = np.empty(3)

    def load(self, program):
        self.log.append("load")
        return 2.0 * program.q

    def run(self, loaded):
        self.log.append("run")
        self.out[:] = loaded  # overwritten by every step, as solvers do

    def take(self, program):
        self.log.append("take")
        if self.log.count("take") == self.owner.fails_at:
            return None
        kept = self.out.copy()

        def answer():
            self.log.append("answer")
            return self.owner.answer(0.5 * kept)

        return answer


class Clip(Backend):
    name, module, licence = "clip", "numpy", "test"
    warm_starts = updates = True

    def __init__(self, fails_at=0):
        self.log, self.fails_at = [], fails_at

    def prepare(self, program, options):
        return _Clip(self, program)

    def answer(self, q):
        x = np.clip(-q, -1.0, 1.0)
        return Raw(Claim.SOLVED, "clipped", x, np.zeros(0), -(x + q))


def run(solver: Backend, steps: int, repeats: int = 1, limit: float = 10.0) -> tuple[Any, Any]:
    programs = stream(steps)
    done = Run(solver, Request("sequence", programs, 1e-6, limit, repeats), lambda *_: None).done()
    return programs, done.calls


def test_bare_calls_are_loaded_before_and_translated_after_all_of_them():
    solver = Clip()
    programs, calls = run(solver, 4)
    # The first call is a warm-up; the second set-up is the stream's own.
    assert solver.log == ["prepare", "prepare", *["load"] * 3, *["run", "take"] * 3, *["answer"] * 3]
    assert [call.step for call in calls] == [0, 1, 2, 3]
    assert [call.updated for call in calls] == [False, True, True, True]
    assert [call.warmed for call in calls] == [False, True, True, True]
    for item, call in zip(programs, calls, strict=True):
        assert np.array_equal(call.raw.x, np.clip(-item.q, -1.0, 1.0))
        assert call.solve_s > 0.0
        assert 0.0 <= call.cpu_s < 1.0
    assert all(call.setup_s == 0.0 for call in calls[1:])


def test_passes_start_from_set_ups_of_their_own_and_the_least_time_counts(monkeypatch: pytest.MonkeyPatch):
    waits = iter([0.09, 0.03, 0.03, 0.03, 0.09, 0.03, 0.06, 0.06, 0.03])  # three steps, three passes
    monkeypatch.setattr(_Bare, "run", lambda self, loaded: (time.sleep(next(waits)), self.out.__setitem__(..., loaded)))
    solver = Clip()
    programs, calls = run(solver, 4, repeats=20)
    assert next(waits, None) is None
    assert solver.log.count("prepare") == 4  # the warm-up, and one for each pass
    assert solver.log.count("load") == solver.log.count("answer") == 3
    assert all(0.03 <= call.solve_s < 0.06 for call in calls[1:])
    for item, call in zip(programs, calls, strict=True):
        assert np.array_equal(call.raw.x, np.clip(-item.q, -1.0, 1.0))


def test_a_stream_that_takes_long_is_gone_through_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_Bare, "run", lambda self, loaded: (time.sleep(0.02), self.out.__setitem__(..., loaded)))
    solver = Clip()
    _, calls = run(solver, 6, repeats=20, limit=0.3)
    assert solver.log.count("prepare") == 2
    assert len(calls) == 6


def test_a_step_without_an_iterate_is_set_up_anew_and_the_stream_goes_on():
    solver = Clip(fails_at=2)
    programs, calls = run(solver, 6)
    assert [call.step for call in calls] == list(range(6))
    assert [call.updated for call in calls] == [False, True, False, True, True, True]
    for item, call in zip(programs, calls, strict=True):
        assert np.array_equal(call.raw.x, np.clip(-item.q, -1.0, 1.0))


def test_programs_with_other_matrices_end_the_bare_calls():
    first, other = stream(3), program(7)
    solver = Clip()
    done = Run(solver, Request("sequence", (*first, other), 1e-6, 10.0, 1), lambda *_: None).done()
    assert [call.updated for call in done.calls] == [False, True, True, False]


# ---- the reference ---------------------------------------------------------------------------------------------------


def test_the_reference_is_the_optimum_up_to_rounding():
    rng = np.random.default_rng(5)
    root = rng.normal(size=(8, 8))
    first = QuadraticProgram(root @ root.T + np.eye(8), rng.normal(size=8), lb=-0.1, ub=0.1)
    made = tuple(first.with_vectors(q=rng.normal(size=8)) for _ in range(5))
    for item, found in zip(made, references(made), strict=True):
        assert found.worst <= 1e-12
        # Stationarity where no bound is met, the right sign where one is: to rounding.
        gradient = item.P @ found.x + item.q
        free = np.abs(found.x) < 0.1 - 1e-9
        assert np.abs(gradient[free]).max(initial=0.0) < 1e-13
        assert (gradient[~free] * found.x[~free] < 0.0).all()
        assert np.abs(np.abs(found.x[~free]) - 0.1).max(initial=0.0) < 1e-15


def test_a_reference_adds_the_limits_that_a_newton_step_missed():
    rng = np.random.default_rng(2)
    root, rows = rng.normal(size=(6, 6)), rng.normal(size=(3, 6))
    item = QuadraticProgram(
        root @ root.T + np.eye(6), 10.0 * rng.normal(size=6), rows, -np.ones(3), np.ones(3), lb=-0.5, ub=0.5
    )
    first = solve(item, ("piqp", "clarabel"), tol=1e-10)
    (weak, *_) = np.flatnonzero(np.abs(first.z) > 1e-3)
    # The same optimum with a bound that hardly binds, and an iterate that does not know of it.
    q = item.q.copy()
    q[weak] += first.z[weak] - np.sign(first.z[weak]) * 1e-5
    item = item.with_vectors(q=q)
    exact = solve(item, ("piqp", "clarabel"), tol=1e-10)
    assert abs(exact.x[weak]) == pytest.approx(0.5, abs=1e-6)
    z = exact.z.copy()
    z[weak] = 0.0
    step = polished(item, exact.x, exact.y, z)
    assert certify(item, *step, tol=1e-13).primal > 1e-7
    found = _sharp(item, replace(exact, z=z))
    assert found.worst <= 1e-12
    assert abs(found.x[weak]) == pytest.approx(0.5, abs=1e-14)
    assert np.abs(found.x - exact.x).max() < 1e-6
    assert found.objective == pytest.approx(exact.objective, rel=1e-10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("run")
    race = Race(("daqp", "osqp:direct"), {"boxes": {"osqp:direct": (1e-9, None, None)}})
    flows = tuple(Stream(f"s{s}", lambda: stream(30), (0,), 1.0, True, s, "boxes", 10) for s in range(1))
    plan = Plan(("boxes",), ("daqp", "osqp:direct", "clarabel"), ("sequence",), (1e-6,), 2.0)
    run_bench(plan, where, suites=[Suite("boxes", (), flows, race=race)])
    return where


def test_a_run_keeps_its_race_on_the_disk(folder: Path):
    again = load_result(folder)
    assert json.loads((folder / "run.json").read_text())["races"]["boxes"]["lanes"] == ["daqp", "osqp:direct"]
    rows = ratio_table(again, "boxes", 1e-6).set_index("solver")
    assert rows.loc["osqp:direct", "p50"] > 0.0
    assert rows.loc["osqp:direct", "met_p50"] is True
    steps = step_table(again, "boxes", 1e-6).set_index("solver")
    assert list(steps["steps"]) == [29, 29, 29]
    assert list(steps["setups"]) == [1, 1, 1]
    assert (steps["reference"] <= 1e-10).all()
    assert steps.loc["daqp", "error_max"] <= 1e-9


def test_osqp_as_its_manual_has_it_stops_by_its_own_rule():
    item = program(3)
    found = {}
    for name in ("osqp", "osqp:direct"):
        prepared = backend(name).prepare(item, _options(1e-4))
        found[name] = prepared.solver.settings.eps_abs
    assert found["osqp:direct"] == pytest.approx(1e-4)
    assert found["osqp"] < 1e-6


def _options(tol: float) -> Any:
    from crosswind.solvers.backends.base import Options

    return Options(tol)
