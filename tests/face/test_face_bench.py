"""``crosswind bench`` as a user meets it, and the suites that the face makes from the problems' generators."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from crosswind.bench_suites import SEEDS, register_suites
from crosswind.cli import main
from crosswind.solvers.bench import suite_names
from crosswind.solvers.bench.suites import find_suite

PLUGIN = """
import numpy as np
from crosswind.solvers.bench import Case, Suite, register_suite
from crosswind.solvers.program import QuadraticProgram

def make(seed):
    return lambda: QuadraticProgram(np.eye(3), np.random.default_rng(seed).normal(size=3), lb=0.0, ub=1.0)

register_suite("boxes", lambda: Suite("boxes", tuple(Case(f"box{s}", make(s), s == 0, s) for s in range(2))))
"""


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "boxes.py"
    path.write_text(PLUGIN)
    return str(path)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leave:
        main(["bench", "--help"])
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert "crosswind bench hedge basket impact --quick" in text.split("example:")[1]
    for option in (
        "--solvers",
        "--mode ",
        "--modes",
        "--accuracy",
        "--time-limit",
        "--repeats",
        "--jobs",
        "--resume",
        "--json",
    ):
        assert option in text


def test_a_run_its_files_its_resumption_and_its_comparison(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    words = ["bench", "boxes", "--plugin", plugin, "--solvers", "piqp,osqp", "--accuracy", "1e-3"]
    words += ["--modes", "cold", "--repeats", "2", "--out", str(out), "--json"]
    code, text, _ = call(capsys, *words, "--quick")
    payload = json.loads(text)
    assert code == 0
    assert [row["solver"] for row in payload["rows"]] == ["osqp", "piqp"]
    assert all(row["success"] for row in payload["rows"])
    assert payload["facts"]["plan"]["time_limit_s"] == 2.0
    assert {path.name for path in out.iterdir()} >= {"rows.jsonl", "run.json", "rows.parquet", "summary.md"}
    code, text, _ = call(capsys, *words, "--time-limit", "2")
    payload = json.loads(text)
    assert (payload["facts"]["new"], payload["facts"]["kept"]) == (2, 2)
    code, text, _ = call(capsys, "bench", "compare", str(out), str(out))
    assert code == 0
    assert "no difference" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no-such-suite",), "basket, "),
        (("hedge", "--solvers", "abacus"), "unknown solver"),
        (("hedge", "--modes", "hot"), "cold, sequence, anytime"),
        (("hedge", "--mode", "hot"), "cold, sequence, anytime"),
        (("hedge", "--accuracy", "much"), "expected numbers"),
        (("hedge", "--accuracy", "2"), "between 0 and 1"),
        (("hedge", "--repeats", "0"), "at least 1"),
        (("hedge", "--jobs", "0"), "at least 1"),
        (("hedge", "--time-limit", "-1"), "positive"),
        (("hedge", "--set", "osqp=3"), "solver.key=value"),
        (("hedge", "--solvers", "piqp", "--set", "osqp.max_iter=3"), "does not take part"),
        (("hedge", "--plugin", "no-such-file.py"), "cannot be read"),
        (("compare", "one"), "two folders"),
        (("compare", "one", "two"), "holds no run"),
    ],
)
def test_bad_words_leave_with_2_and_write_nothing(
    words: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = words if "--solvers" in words or words[0] == "compare" else (*words, "--solvers", "piqp")
    out = tmp_path / "run"
    code, text, err = call(capsys, "bench", *given, "--out", str(out))
    assert code == 2
    assert text == ""
    assert told in err
    assert not out.exists()


def test_suites_are_named_seeded_and_repeatable():
    register_suites()
    assert {"hedge", "basket", "impact", "regular", "degenerate"} <= set(suite_names())
    for name in ("hedge", "basket", "impact"):
        first, second = find_suite(name), find_suite(name)
        quick = list(first.items(quick=True))
        assert 0 < len(quick) < len(list(first.items(quick=False)))
        assert {item.seed for item in first.items(quick=False)} == set(SEEDS)
        case = first.cases[0]
        assert case.make().digest == second.cases[0].make().digest
        digests = {item.make().digest for item in first.cases if item.quick}
        assert len(digests) == sum(item.quick for item in first.cases)


@pytest.mark.parametrize(("name", "families"), [("regular", 10), ("degenerate", 13)])
def test_the_suites_of_families_have_a_hundred_programs_and_one_of_each_kind_when_quick(name, families):
    suite = find_suite(name)
    assert len(suite.cases) == 100
    quick = list(suite.items(quick=True))
    assert len({item.name.rsplit(" ", 1)[0] for item in quick}) == len(quick) == families
    again = find_suite(name)
    assert [case.make().digest for case in suite.cases] == [case.make().digest for case in again.cases]


def test_a_stream_keeps_its_matrices_and_moves_its_vectors():
    register_suites()
    stream = find_suite("hedge").streams[0]
    programs = stream.make()
    assert programs[-1].digest == stream.make()[-1].digest
    for one, two in itertools.pairwise(programs):
        assert np.array_equal(one.P.data, two.P.data)
        assert np.array_equal(one.A.data, two.A.data)
        assert not (np.array_equal(one.l, two.l) and np.array_equal(one.q, two.q))
        assert np.array_equal(np.isfinite(one.u), np.isfinite(two.u))


def test_the_streams_of_the_hedge_are_at_four_sizes_with_a_model_per_seed():
    register_suites()
    suite = find_suite("hedge")
    groups = {}
    for stream in suite.streams:
        groups.setdefault(stream.group, []).append(stream)
    assert list(groups) == ["(1, 20)", "(1, 60)", "(3, 30)", "(10, 60)"]
    for group, streams in groups.items():
        assert [stream.seed for stream in streams] == list(SEEDS)
        made = [stream.make() for stream in streams]
        m, horizon = (int(part) for part in group.strip("()").split(", "))
        assert {program.model.sizes for one in made for program in one} == {(m, m, 1, horizon)}
        assert len({one[0].P.data.tobytes() for one in made}) == len(SEEDS)
        assert all(stream.action == tuple(range(m)) for stream in streams)
        # One step of each stream sets up and is not pooled.
        assert sum(len(one) - 1 for one in made) >= (1000 if m < 10 else 100)
    rates = {np.isfinite(stream.make()[0].data["rate"]).all() for stream in suite.streams}
    assert rates == {True, False}
    short = [stream for stream in suite.streams if stream.quick]
    assert 0 < len(short) < len(suite.streams)
    assert all(stream.quick_steps <= 40 for stream in short)
    assert set(suite.race.goals) == set(groups)
    assert {name for goals in suite.race.goals.values() for name in goals} <= set(suite.race.lanes)


RACE = """
from crosswind.solvers.bench import Race, Stream, Suite, register_suite
from crosswind.solvers.mpc import MpcProgram, MpcSolver, MpcWorld, mpc_instance

def make(seed):
    def programs():
        model = mpc_instance(2, horizon=6, seed=seed)
        world, solver, out = MpcWorld(model, 60, seed), MpcSolver(model), []
        for _ in range(60):
            data = world.data()
            out.append(out[0].at(**data) if out else MpcProgram(model, **data))
            world.execute(solver.step(**data).trades[0])
        return tuple(out)
    return programs

race = Race(("mpc", "osqp:direct", "piqp", "daqp:condensed", "cvxpy:dpp"), {"(2, 6)": {"piqp": (1e-9, 1e9, None)}})
streams = [Stream(f"s{s}", make(s), (0, 1), 1.0, s == 0, s, "(2, 6)", 30) for s in range(2)]
register_suite("race", lambda: Suite("race", (), tuple(streams), race=race))
"""


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("race")
    (folder / "race.py").write_text(RACE)
    return folder, ["bench", "race", "--plugin", str(folder / "race.py"), "--out", str(folder / "run")]


def test_streams_alone_compare_the_suites_lanes_with_its_first(
    raced: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
):
    folder, words = raced
    code, text, _ = call(capsys, *words, "--mode", "sequence", "--json")
    payload = json.loads(text)
    assert code == 0
    assert payload["facts"]["plan"]["accuracies"] == [1e-6]
    steps = {row["solver"]: row for row in payload["steps"]}
    assert list(steps) == ["mpc", "osqp:direct", "piqp", "daqp:condensed", "cvxpy:dpp"]
    for row in steps.values():
        assert (row["group"], row["streams"]) == ("(2, 6)", "2 of 2")
        assert row["steps"] + row["setups"] == 120
        assert 0.0 < row["p50_us"] < row["p99_us"]
        assert row["reference"] <= 1e-10
        assert row["error_p50"] <= row["error_p99"] <= row["error_max"] < 0.01
    for name in ("mpc", "piqp", "daqp:condensed"):
        assert steps[name]["certified"] == 1.0
    assert steps["mpc"]["setups"] == 2
    assert steps["mpc"]["within_1e-6"] == 1.0
    ratios = {row["solver"]: row for row in payload["ratios"]}
    assert list(ratios) == list(steps)[1:]
    for name, row in ratios.items():
        for share in ("p50", "p99"):
            assert row[share] == pytest.approx(steps[name][f"{share}_us"] / steps["mpc"][f"{share}_us"])
        assert row["p999"] is None  # 118 steps have none
    assert [ratios["piqp"][f"met_{q}"] for q in ("p50", "p99", "p999")] == [True, False, None]
    assert [ratios["osqp:direct"][f"goal_{q}"] for q in ("p50", "p99", "p999")] == [None, None, None]
    # The same option by its other name takes the same cells over, and prints the same ratios.
    code, text, _ = call(capsys, *words, "--modes", "sequence")
    assert code == 0
    assert "0 cells measured, 10 taken over" in text
    told = text.split("how many times faster mpc is")[1]
    assert f"{ratios['piqp']['p50']:.3g} (goal 1e-09)" in told
    assert "(goal 1e+09, missed)" in told
    summary = (folder / "run" / "summary.md").read_text()
    assert "how many times faster mpc is" in summary
    assert "| (2, 6) | daqp:condensed |" in summary


def test_a_quick_run_of_streams_is_short_and_other_solvers_can_be_named(
    raced: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, words = raced
    words = [*words[:-1], str(tmp_path / "run"), "--quick", "--json", "--mode", "sequence", "--solvers"]
    code, text, _ = call(capsys, *words, "mpc,clarabel")
    payload = json.loads(text)
    assert code == 0
    assert {row["solver"]: row["steps"] + row["setups"] for row in payload["steps"]} == {"mpc": 30, "clarabel": 30}
    assert [row["solver"] for row in payload["ratios"]] == ["clarabel"]
    code, text, _ = call(capsys, *words, "clarabel")
    payload = json.loads(text)
    assert (code, payload["ratios"]) == (0, [])
    code, text, _ = call(capsys, *words, "clarabel", "--accuracy", "1e-3,1e-8")
    assert sorted({row["accuracy"] for row in json.loads(text)["steps"]}) == [1e-8, 1e-3]


def test_backends_of_one_kind_of_program_are_left_out_elsewhere(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
):
    words = ["bench", "boxes", "--plugin", plugin, "--accuracy", "1e-6", "--mode", "cold", "--repeats", "1", "--json"]
    code, text, _ = call(capsys, *words, "--solvers", "mpc,daqp:condensed,piqp", "--out", str(tmp_path / "run"))
    assert code == 0
    assert {row["solver"] for row in json.loads(text)["rows"]} == {"piqp"}


def test_solvers_tells_what_the_core_takes(capsys: pytest.CaptureFixture[str]):
    code, text, _ = call(capsys, "solvers", "--only", "mpc,osqp")
    assert code == 0
    assert "mpc: takes receding-horizon programs (crosswind.solvers.mpc.MpcProgram) only" in text
    assert "osqp: takes" not in text
    code, text, _ = call(capsys, "solvers", "--only", "mpc,osqp", "--json")
    solvers = json.loads(text)["solvers"]
    assert solvers["mpc"]["works"] is True
    assert (bool(solvers["mpc"]["only"]), solvers["osqp"]["only"]) == (True, "")
