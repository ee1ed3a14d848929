"""The command line as a user meets it: exit codes, one JSON object on stdout, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from crosswind.cli import main
from crosswind.solvers import native

SMALL = "sim:names=3,sectors=1,days=2,bucket_s=60"


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("verb", ["run", "read", "simulate", "fit", "schedule", "hedge", "solvers", "export-c"])
def test_help_shows_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leave:
        main([verb, "--help"])
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert f"crosswind {verb}" in text.split("example:")[1]
    assert "--json" in text


def test_no_words_show_the_verbs(capsys: pytest.CaptureFixture[str]):
    code, out, err = call(capsys)
    assert code == 2
    assert out == ""
    assert all(verb in err for verb in ("run", "simulate", "fit", "schedule", "solvers"))


def test_unknown_words_leave_with_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leave:
        main(["fly"])
    assert leave.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_fit_saves_a_model_that_schedule_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = tmp_path / "deep" / "model.npz"
    code, out, _ = call(capsys, "fit", "--data", SMALL, "--ridge", "1.0", "--out", str(model), "--json")
    payload = json.loads(out)
    assert code == 0
    assert model.is_file()
    assert set(payload["out_of_sample"]) >= {"joint", "own-flow OLS", "full OLS", "sequential heuristic", "Kyle"}
    assert payload["violations"]["worst"] <= 1e-8
    assert payload["suboptimality"] <= 1e-6

    folder = tmp_path / "schedule"
    words = [
        "schedule",
        "--data",
        SMALL,
        "--model",
        str(model),
        "--inventory",
        "N01=1e6,N03=-5e5",
        "--out",
        str(folder),
    ]
    code, out, _ = call(capsys, *words, "--slice", "1800", "--json")
    payload = json.loads(out)
    assert code == 0
    trades = pd.read_parquet(folder / "tables" / "schedule.parquet")
    assert trades.sum().to_dict() == pytest.approx({"N01": 1e6, "N03": -5e5}, rel=1e-9)
    assert payload["costs"]["total"] == pytest.approx(sum(v for k, v in payload["costs"].items() if k != "total"))
    assert json.loads((folder / "summary.json").read_text()) == payload


def test_simulate_writes_what_fit_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "market"
    code, out, _ = call(
        capsys,
        "simulate",
        "--names",
        "3",
        "--sectors",
        "1",
        "--days",
        "2",
        "--bucket",
        "60",
        "--out",
        str(folder),
        "--json",
    )
    assert code == 0
    assert json.loads(out)["buckets"] == 780
    code, out, _ = call(capsys, "fit", "--data", f"parquet:{folder}", "--ridge", "1")
    assert code == 0
    assert "out-of-sample" in out


def test_solvers_lists_what_works(capsys: pytest.CaptureFixture[str]):
    code, out, _ = call(capsys, "solvers", "--json", "--only", "piqp,clarabel,osqp")
    answer = json.loads(out)
    table = answer["solvers"]
    assert code == 0
    assert answer["compiled"] is native.COMPILED
    assert {"piqp", "clarabel", "osqp"} <= {name for name, row in table.items() if row["quadratic"] == "ok"}


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied", "a.csv"), OSError(28, "No space left")])
def test_a_refusal_of_the_system_is_told_like_bad_input(
    failure: OSError, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def refuse(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr("crosswind.problems.market.simulate", refuse)
    code, out, err = call(capsys, "simulate", "--out", str(tmp_path / "somewhere"), "--json")
    assert code == 2
    assert failure.strerror in err
    assert json.loads(out)["error"]["remedy"]


def make_zip_short(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


BAD = {
    "unknown scheme": (["run", "--data", "foo:bar"], "unknown scheme"),
    "no folder": (["run", "--data", "lean:{tmp}/none"], "does not exist"),
    "empty folder": (["run", "--data", "lean:{tmp}/empty"], "LEAN"),
    "empty parquet folder": (["run", "--data", "parquet:{tmp}/empty"], "parquet"),
    "unknown simulator parameter": (["run", "--data", "sim:nmaes=3"], "nmaes"),
    "one day only": (["run", "--data", "sim:names=3,days=1,bucket_s=60"], "two sessions"),
    "unknown name": (["run", "--data", SMALL, "--names", "N01,QQQ"], "QQQ"),
    "doubled name": (["run", "--data", SMALL, "--names", "N01,N01"], "distinct"),
    "unknown index": (["run", "--data", SMALL, "--index", "QQQ"], "QQQ"),
    "participation": (["run", "--data", SMALL, "--participation", "1.5"], "participation"),
    "negative risk aversion": (["run", "--data", SMALL, "--risk-aversion", "-1"], "risk_aversion"),
    "share of volume": (["run", "--data", SMALL, "--adv", "0"], "basket_adv"),
    "bad inventory": (["schedule", "--data", SMALL, "--inventory", "N01=x"], "NAME=AMOUNT"),
    "inventory names a name twice": (["schedule", "--data", SMALL, "--inventory", "N01=1e6,N01=2e6"], "give N01 once"),
    "ridge that is a word": (["fit", "--data", SMALL, "--ridge", "strong"], "a number or cv"),
    "inventory of nobody": (["schedule", "--data", SMALL, "--inventory", "QQQ=1e6"], "QQQ"),
    "infeasible completion": (
        ["schedule", "--data", SMALL, "--inventory", "N01=9e9", "--participation", "0.01"],
        "N01",
    ),
    "bad half-lives": (["fit", "--data", SMALL, "--half-lives", "20,x"], "half-lives"),
    "model that is not there": (["schedule", "--data", SMALL, "--model", "{tmp}/none.json"], "none.json"),
    "model into a folder": (["fit", "--data", SMALL, "--ridge", "1", "--out", "{tmp}/full"], "is a folder"),
    "model below a file": (["fit", "--data", SMALL, "--ridge", "1", "--out", "{tmp}/file/m.npz"], "cannot be written"),
    "result below a file": (["run", "--data", SMALL, "--out", "{tmp}/file/out"], "cannot be written"),
    "a million buckets a second": (["simulate", "--bucket", "1e-6", "--out", "{tmp}/market"], "bucket_s"),
    "no seed": (["run", "--data", "sim:seed=x"], "seed"),
    "no days": (["run", "--data", "sim:days=0"], "days"),
    "csv that is a folder": (["run", "--data", "csv:{tmp}/empty"], "csv"),
    "csv without a time": (["run", "--data", "csv:{tmp}/file"], "column of times"),
    "target is a file": (["run", "--data", SMALL, "--out", "{tmp}/file"], "is a file"),
    "target holds other files": (["run", "--data", SMALL, "--out", "{tmp}/full"], "not an earlier result"),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_bad_input_is_told_and_leaves_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    words, expected = BAD[case]
    code, out, err = call(capsys, *(w.replace("{tmp}", str(tmp_path)) for w in words), "--json")
    error = json.loads(out)["error"]
    assert code == error["exit_code"] == 2
    assert expected in err
    assert "Traceback" not in err
    assert error["field"]
    assert error["remedy"]
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


@pytest.mark.data
def test_damaged_lean_data_is_told(lean_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    part = Path("equity/usa/tick/ibm/20131008_trade.zip")
    for kind in ("tick", "second"):
        for path in (lean_dir / "Data" / "equity" / "usa" / kind / "ibm").iterdir():
            link = tmp_path / "Data" / "equity" / "usa" / kind / "ibm" / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    short = tmp_path / "Data" / part
    short.unlink()
    make_zip_short(lean_dir / "Data" / part, short)
    code, _, err = call(capsys, "run", "--data", f"lean:{tmp_path}", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "20131008_trade.zip" in err
    assert not (tmp_path / "out").exists()
    with zipfile.ZipFile(lean_dir / "Data" / part) as good:
        assert good.testzip() is None


def test_json_stays_alone_on_stdout_in_a_real_process(tmp_path: Path):
    """Whatever a backend prints goes to stderr; a pipe that closes early leaves no traceback."""
    words = [sys.executable, "-m", "crosswind", "schedule", "--data", SMALL, "--slice", "1800", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gap"] <= 1e-6
    assert "Traceback" not in done.stderr
