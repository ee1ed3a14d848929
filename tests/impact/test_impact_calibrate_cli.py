"""``crosswind fit --calibrate --promote``: what is printed, what is written, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from crosswind.cli.app import main
from crosswind.problems.impact import ImpactModel, OwnFlowOLS
from crosswind.problems.impact.calibrate import Promotion
from crosswind.problems.impact.calibrate.calibration import calibrate as real_calibrate

SMALL = "sim:names=3,days=3,seed=1,close_local=10:15"
FAST = ("--ridge", "1.0", "--half-lives", "20,200", "--draws", "4", "--folds", "3")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_promote_writes_a_page_tables_and_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "cal"
    code, out, _ = call(capsys, "fit", "--data", SMALL, *FAST, "--promote", "--out", str(folder), "--json")
    payload = json.loads(out)
    assert code == 0
    assert payload["holds"] is True
    assert payload["promoted"] in payload["candidates"]
    assert payload["test_days"] == ["2024-03-06"]
    assert payload["settings"]["folds"] == 3
    assert {row["model"] for row in payload["out_of_sample"]} >= {"joint", "diagonal NNLS", "own-flow OLS"}
    assert json.loads((folder / "summary.json").read_text())["promoted"] == payload["promoted"]
    assert "<!doctype html>" in (folder / "calibration.html").read_text(encoding="utf-8")
    model = ImpactModel.load(folder / "model.npz")
    assert model.names == ("N01", "N02", "N03")
    assert model.modes()
    decision = pd.read_parquet(folder / "tables" / "decision.parquet")
    assert decision["promoted"].sum() == 1
    assert len(pd.read_parquet(folder / "tables" / "entries.parquet")) == 9


def test_calibrate_alone_promotes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cal"
    code, out, _ = call(capsys, "fit", "--data", SMALL, *FAST, "--calibrate", "--out", str(folder))
    assert code == 0
    assert "out of sample" in out
    assert "promoted" not in out
    assert not (folder / "model.npz").exists()
    assert (folder / "calibration.html").is_file()


def test_a_promoted_model_that_fails_later_is_refused_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last day says no: nothing is written to schedule on, the record is."""
    original = Promotion.verify

    def worse(self: Promotion, *args: object, **kw: object) -> pd.DataFrame:
        table = original(self, *args, **kw)
        return table.assign(high=-0.1, holds=False)

    monkeypatch.setattr(Promotion, "verify", worse)
    folder = tmp_path / "cal"
    code, out, _ = call(capsys, "fit", "--data", SMALL, *FAST, "--promote", "--out", str(folder))
    assert code == 3
    assert "REFUSED" in out
    assert not (folder / "model.npz").exists()
    assert json.loads((folder / "summary.json").read_text())["holds"] is False


def test_no_candidate_leaves_3_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_own_flow(**kw: object) -> dict[str, OwnFlowOLS]:
        return {"joint": OwnFlowOLS(half_lives_s=(20.0, 21.0, 200.0))}

    monkeypatch.setattr("crosswind.problems.impact.calibrate.default_estimators", only_own_flow)
    folder = tmp_path / "cal"
    code, out, err = call(capsys, "fit", "--data", SMALL, *FAST, "--promote", "--out", str(folder), "--json")
    assert code == 3
    assert json.loads(out)["error"]["kind"] == "LimitBreach"
    assert "joint: inadmissible" in err
    assert not folder.exists()


def test_a_joint_fit_that_fails_leaves_4(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def without_joint(events: object, estimators: dict[str, object], **kw: object) -> object:
        from crosswind.problems.impact import CrossImpact

        return real_calibrate(events, {**estimators, "joint": CrossImpact(half_lives_s=(-1.0,))}, **kw)

    monkeypatch.setattr("crosswind.problems.impact.calibrate.calibrate", without_joint)
    code, out, _ = call(capsys, "fit", "--data", SMALL, *FAST, "--promote", "--json")
    payload = json.loads(out)
    assert code == 4
    assert "half_lives_s" in payload["errors"]["joint"]
    assert payload["promoted"] != "joint"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--calibrate", "--folds", "1"], "folds"),
        (["--calibrate", "--draws", "1"], "draws"),
        (["--calibrate", "--out", "{tmp}/file"], "is a file"),
        (["--calibrate", "--out", "{tmp}/full"], "not an earlier result"),
        (["--promote", "--ridge", "strong"], "number or cv"),
    ],
)
def test_bad_words_leave_2(words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    code, out, err = call(capsys, "fit", "--data", SMALL, *(w.replace("{tmp}", str(tmp_path)) for w in words), "--json")
    assert code == 2
    assert expected in err
    assert json.loads(out)["error"]["remedy"] is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]
