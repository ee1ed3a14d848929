"""The engine with fast, faulty and hanging backends: every trouble is a row, nothing is lost, nothing is believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram
from crosswind.solvers.bench import BenchResult, Case, Plan, Stream, Suite, load_result, run_bench
from crosswind.solvers.bench.plan import read_plugins, run_plugins
from crosswind.solvers.bench.store import ROWS
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import own_backends, unregister_backend

PLUGIN = Path(__file__).with_name("bench_plugin.py")
PLUGINS = read_plugins((str(PLUGIN),))
TROUBLES = ("liar", "denier", "nan", "shape", "raiser", "crasher", "sleeper", "leaver", "printer")
TIMES = {
    *("import_s", "first_s", "setup_s", "solve_s", "total_s", "total_p99_s", "total_p999_s", "total_max_s", "times_s"),
    *("base_mb", "peak_mb", "samples", "miss_rate", "steps"),
}


@pytest.fixture(scope="module", autouse=True)
def fakes() -> Iterator[None]:
    run_plugins(PLUGINS)
    yield
    for name in list(own_backends()):
        if name.startswith("fake-"):
            unregister_backend(name)
    sys.modules.pop("crosswind_plugin_bench_plugin", None)


def program(seed: int, n: int = 3) -> QuadraticProgram:
    rng = np.random.default_rng(seed)
    return QuadraticProgram(np.diag(rng.uniform(1.0, 2.0, n)), rng.normal(size=n), np.ones((1, n)), 1.0, 1.0)


def stream(steps: int = 5) -> tuple[QuadraticProgram, ...]:
    first = program(0)
    return tuple(first.with_vectors(q=np.random.default_rng(k).normal(size=3)) for k in range(steps))


def suite(cases: int = 2, streams: bool = False) -> Suite:
    made = tuple(Case(f"p{i}", lambda i=i: program(i), quick=i == 0, seed=i) for i in range(cases))  # type: ignore[misc]
    flow = (Stream("s", stream, action=(0,), deadline_s=5.0),) if streams else ()
    return Suite("tiny", made, flow, "tiny programs")


def plan(*solvers: str, **changes: Any) -> Plan:
    kept = {"modes": ("cold",), "accuracies": (1e-6,), "time_limit_s": 1.0, "repeats": 3, "plugins": PLUGINS}
    return Plan(("tiny",), solvers, **{**kept, **changes})


def timeless(result: BenchResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in result.rows]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return solver → row of one program under every trouble, with one that is fine at the start and at the end."""
    names = ("fake-fine", *(f"fake-{name}" for name in TROUBLES), "fake-warm")
    found = run_bench(plan(*names), tmp_path_factory.mktemp("out") / "run", suites=[suite(1)], jobs=2)
    assert len(found.rows) == len(names)
    return {row["solver"].removeprefix("fake-"): row for row in found.rows}


def test_a_right_answer_is_a_success_before_and_after_trouble(troubled: dict[str, dict[str, Any]]):
    for name in ("fine", "warm", "printer"):
        row = troubled[name]
        assert row["outcome"] == "ran"
        assert row["status"] == "OPTIMAL"
        assert row["success"] is True
        assert row["claimed_wrong"] is False
        assert row["worst"] <= 1e-12
        assert row["samples"] == 3
        assert len(row["times_s"]) == 3
        assert 0.0 < row["solve_s"] <= row["total_s"] <= row["total_max_s"]
        assert row["objective_error"] <= 1e-12
        assert row["peak_mb"] >= row["base_mb"] > 1.0


@pytest.mark.parametrize(
    ("name", "outcome", "wrong", "word"),
    [
        ("liar", "ran", True, ""),
        ("denier", "ran", True, ""),
        ("nan", "ran", True, "claimed solved"),
        ("shape", "ran", True, "shapes"),
        ("raiser", "raised", False, "RuntimeError: the factorisation broke"),
        ("crasher", "crash", False, "SIGSEGV"),
        ("leaver", "crash", False, "exit code 3; goodbye"),
        ("sleeper", "timeout", False, "killed after"),
    ],
)
def test_every_trouble_is_a_row(name: str, outcome: str, wrong: bool, word: str, troubled: dict[str, dict[str, Any]]):
    row = troubled[name]
    assert row["outcome"] == outcome
    assert row["claimed_wrong"] is wrong
    assert word in row["note"]
    if name != "denier":  # its iterate is right, and ours is the word that counts
        assert row["success"] is False
        assert row["status"] != "OPTIMAL"


def test_a_right_iterate_with_a_wrong_word_is_a_success_and_a_wrong_claim(troubled: dict[str, dict[str, Any]]):
    assert troubled["denier"]["success"] is True
    assert troubled["denier"]["claimed"] == "INFEASIBLE"


def test_a_worker_that_eats_memory_is_killed(tmp_path: Path):
    hungry = plan("fake-eater", memory_limit_mb=300.0, time_limit_s=20.0)
    (row,) = run_bench(hungry, tmp_path / "run", suites=[suite(1)]).rows
    assert row["outcome"] == "memory"
    assert "300 MB" in row["note"]


def test_the_liar_is_measured_against_the_best_certified(troubled: dict[str, dict[str, Any]]):
    assert troubled["liar"]["objective_error"] > 1e-3
    assert troubled["liar"]["best_objective"] == troubled["fine"]["objective"]


def test_streams_start_warm_keep_set_ups_and_know_regret(tmp_path: Path):
    found = run_bench(
        plan("fake-warm", "fake-liar", "osqp", modes=("sequence",)), tmp_path / "run", suites=[suite(0, streams=True)]
    )
    rows = {row["solver"]: row for row in found.rows}
    warm, liar = rows["fake-warm"], rows["fake-liar"]
    assert warm["success"] is True
    assert warm["warm_share"] == warm["update_share"] == 0.8
    assert [step["iterations"] for step in warm["steps"]] == [1, 0, 0, 0, 0]
    assert warm["action_error_max"] <= 1e-8
    assert warm["regret_max"] <= 1e-8
    assert warm["miss_rate"] == 0.0
    assert liar["success"] is False
    assert liar["claimed_wrong"] is True
    assert liar["step_claimed_wrong"] == 1.0
    assert liar["warm_share"] == 0.0
    # The regret by hand: the first variable is held one too high, the others do their best.
    expected = []
    for item, step in zip(stream(), liar["steps"], strict=True):
        d, q = item.P.diagonal(), item.q
        best = _equality(d, q, 1.0)
        held = best[0] + 1.0
        rest = _equality(d[1:], q[1:], 1.0 - held)
        value = item.objective(np.concatenate(([held], rest))) - item.objective(best)
        expected.append(value / abs(item.objective(best)))
        assert step["regret"] == pytest.approx(expected[-1], rel=1e-5)
    assert liar["regret_max"] == pytest.approx(max(expected), rel=1e-5)


def _equality(d: np.ndarray, q: np.ndarray, total: float) -> np.ndarray:
    """Return argmin ½Σ d x² + q'x subject to Σ x = total."""
    price = (total + np.sum(q / d)) / np.sum(1.0 / d)
    return (price - q) / d


def test_anytime_shows_the_iterate_grow_better(tmp_path: Path):
    found = run_bench(
        plan("fake-timed", "fake-fine", modes=("anytime",), accuracies=(1e-3, 1e-6)),
        tmp_path / "run",
        suites=[suite(1)],
    )
    rows = {row["solver"]: row for row in found.rows}
    assert {row["accuracy"] for row in found.rows} == {1e-6}
    points = rows["fake-timed"]["points"]
    stopped = [point for point in points if point["claimed"] == "TIME"]
    assert len(stopped) >= 3
    worst = [point["worst"] for point in stopped]
    assert worst[-1] < 1e-2 * worst[0]
    assert points[-1]["limit_s"] is None
    assert points[-1]["worst"] <= 1e-12
    # One that cannot be stopped is run once, and has that iterate alone.
    assert len(rows["fake-fine"]["points"]) == 1


def test_a_known_cell_is_taken_over_and_a_changed_one_is_not(tmp_path: Path):
    told: list[str] = []
    first = run_bench(plan("fake-fine"), tmp_path / "run", suites=[suite()])
    again = run_bench(plan("fake-fine"), tmp_path / "run", suites=[suite()], progress=lambda *p: told.append(p[2]))
    assert (first.facts["new"], first.facts["kept"]) == (2, 0)
    assert (again.facts["new"], again.facts["kept"]) == (0, 2)
    assert again.rows == first.rows
    assert told == ["done"]
    more = run_bench(plan("fake-fine", "fake-warm"), tmp_path / "run", suites=[suite()])
    assert (more.facts["new"], more.facts["kept"]) == (2, 2)
    for change in ({"accuracies": (1e-5,)}, {"time_limit_s": 2.0}, {"settings": {"fake-fine": {"wait_s": 0.01}}}):
        other = run_bench(plan("fake-fine", **change), tmp_path / "run", suites=[suite()])
        assert other.facts["new"] == 2
    anew = run_bench(plan("fake-fine"), tmp_path / "run", suites=[suite()], resume=False)
    assert anew.facts["new"] == 2
    assert len(load_result(tmp_path / "run").rows) == 2


def test_a_refused_setting_is_a_row(tmp_path: Path):
    found = run_bench(plan("fake-fine", settings={"fake-fine": {"speed": 11}}), tmp_path / "run", suites=[suite(1)])
    assert found.rows[0]["outcome"] == "refused"
    assert "speed" in found.rows[0]["note"]


def test_two_jobs_and_dask_give_what_one_gives(tmp_path: Path):
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    names = ("fake-warm", "fake-liar", "fake-crasher")
    chosen = {"modes": ("cold", "sequence")}
    tiny = suite(1, streams=True)
    one = run_bench(plan(*names, **chosen), tmp_path / "one", suites=[tiny])
    two = run_bench(plan(*names, **chosen), tmp_path / "two", suites=[tiny], jobs=2)
    assert timeless(one) == timeless(two)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        far = run_bench(plan(*names, **chosen), tmp_path / "far", suites=[tiny], scheduler=cluster.scheduler_address)
    assert timeless(far) == timeless(one)
    assert far.facts["executor"].startswith("dask")


def test_no_scheduler_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("crosswind.solvers.bench.execute.CONNECT_LIMIT_S", 1.0)
    with pytest.raises(InvalidInput, match="cannot be reached"):
        run_bench(plan("fake-fine"), tmp_path / "run", suites=[suite(1)], scheduler="tcp://127.0.0.1:1")


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import test_bench_engine as t
t.run_plugins(t.PLUGINS)
t.run_bench(
    t.plan("fake-fine", "fake-warm", settings={{"fake-fine": {{"wait_s": 0.05}}, "fake-warm": {{"wait_s": 0.05}}}}),
    {out!r}, suites=[t.suite(6)],
)
"""


def test_killed_in_mid_run_it_goes_on_where_it_was(tmp_path: Path):
    out = tmp_path / "run"
    code = SCRIPT.format(folder=str(Path(__file__).parent), out=str(out))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60.0
    while (not (out / ROWS).is_file() or (out / ROWS).read_bytes().count(b"\n") < 3) and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert child.poll() is None, child.stderr.read().decode()[-2000:] if child.stderr else ""
    workers = _children(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = [json.loads(line) for line in (out / ROWS).read_bytes().splitlines() if line.endswith(b"}")]
    assert 3 <= len(before) < 12
    wait = {"fake-fine": {"wait_s": 0.05}, "fake-warm": {"wait_s": 0.05}}
    found = run_bench(plan("fake-fine", "fake-warm", settings=wait), out, suites=[suite(6)])
    assert found.facts["kept"] == len(before)
    assert found.facts["new"] == 12 - len(before)
    assert len(found.rows) == 12
    times = {row["key"]: row["times_s"] for row in found.rows}
    assert all(times[row["key"]] == row["times_s"] for row in before)
    # The workers went with the engine.
    assert workers
    assert not [pid for pid in workers if _alive(pid)]


def _children(pid: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_programs_that_cannot_be_made_are_told(tmp_path: Path):
    def broken() -> QuadraticProgram:
        raise InvalidInput("is torn", field="file", value="x.qps")

    def bent() -> QuadraticProgram:
        return QuadraticProgram(np.diag([1.0, -1.0]), np.zeros(2))

    mixed = Suite("mixed", (Case("broken", broken), Case("bent", bent), *suite(1).cases))
    counts: list[tuple[int, int]] = []
    found = run_bench(
        plan("fake-fine"), tmp_path / "run", suites=[mixed], progress=lambda d, n, w: counts.append((d, n))
    )
    assert [row["case"] for row in found.rows] == ["p0"]
    assert len([note for note in found.facts["notes"] if "left out" in note]) == 2
    assert any("mixed/broken left out: file: is torn" in note for note in found.facts["notes"])
    assert counts[-1] == (1, 1)


def test_solvers_are_spared_programs_they_cannot_take(tmp_path: Path):
    from crosswind.solvers import Cone, ConeProgram

    disc = ConeProgram(
        np.eye(2), [-1.0, -1.0], [[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], [1.0, 0.0, 0.0], (Cone("soc", 3),)
    )
    conic = Suite("conic", (Case("disc", lambda: disc),))
    found = run_bench(plan("piqp", "clarabel"), tmp_path / "run", suites=[conic])
    assert [(row["solver"], row["success"]) for row in found.rows] == [("clarabel", True)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"modes": ("warm",)}, "modes"),
        ({"modes": ()}, "modes"),
        ({"accuracies": (0.0,)}, "accuracy"),
        ({"accuracies": (1e-3, 1e-3)}, "accuracies"),
        ({"time_limit_s": 0.0}, "time_limit_s"),
        ({"time_limit_s": float("nan")}, "time_limit_s"),
        ({"repeats": 0}, "repeats"),
        ({"settings": {"osqp": {}}}, "settings"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as info:
        plan("fake-fine", **change)
    assert info.value.field == field


def test_unknown_names_are_refused_before_anything_is_written(tmp_path: Path):
    for bad in (plan("no-such-solver"), Plan(("no-such-suite",), ("fake-fine",))):
        with pytest.raises(InvalidInput):
            run_bench(bad, tmp_path / "run", suites=[suite()] if bad.suites == ("tiny",) else None)
    with pytest.raises(InvalidInput, match="at least 1"):
        run_bench(plan("fake-fine"), tmp_path / "run", suites=[suite()], jobs=0)
    assert not (tmp_path / "run").exists()


def test_left_in_the_middle_it_stops_its_workers_at_once(tmp_path: Path):
    """An interrupt, or an error of the caller's own, ends a run with its rows kept and nothing left running."""

    class Enough(Exception):
        pass

    def stop(done: int, total: int, text: str) -> None:
        if done >= 1:
            raise Enough

    slow = plan("fake-fine", "fake-sleeper", time_limit_s=30.0)
    begin = time.monotonic()
    with pytest.raises(Enough):
        run_bench(slow, tmp_path / "run", suites=[suite(3)], jobs=2, progress=stop)
    assert time.monotonic() - begin < 25.0
    assert (tmp_path / "run" / ROWS).read_bytes().count(b"\n") >= 1
    assert not [pid for pid in _children(os.getpid()) if b"bench.worker" in _command(pid) and _alive(pid)]
    assert run_bench(plan("fake-fine", time_limit_s=30.0), tmp_path / "run", suites=[suite(3)]).facts["kept"] >= 1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
