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
    for option in ("--solvers", "--modes", "--accuracy", "--time-limit", "--repeats", "--jobs", "--resume", "--json"):
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
    assert len(programs) == 40
    assert programs[-1].digest == stream.make()[-1].digest
    for one, two in itertools.pairwise(programs):
        assert np.array_equal(one.P.data, two.P.data)
        assert np.array_equal(one.A.data, two.A.data)
        assert not (np.array_equal(one.l, two.l) and np.array_equal(one.q, two.q))
        assert np.array_equal(np.isfinite(one.u), np.isfinite(two.u))
