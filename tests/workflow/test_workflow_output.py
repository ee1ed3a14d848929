"""Outputs appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.workflow.output import atomic_directory, plain, write_json, write_tables
from crosswind.solvers.errors import InvalidInput


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_result_appears_when_the_block_ends(tmp_path: Path):
    target = tmp_path / "deep" / "out"
    with atomic_directory(target) as work:
        (work / "summary.json").write_text("{}")
        assert not target.exists()
    assert listing(target) == ["summary.json"]
    assert listing(tmp_path / "deep") == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with atomic_directory(tmp_path / "out") as work:
            (work / "summary.json").write_text("{}")
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        fail()
    assert listing(tmp_path) == []


def test_an_earlier_result_survives_a_failure_and_is_replaced_whole_by_success(tmp_path: Path):
    target = tmp_path / "out"
    with atomic_directory(target) as work:
        (work / "summary.json").write_text("1")
        (work / "old.txt").write_text("old")

    def fail() -> None:
        with atomic_directory(target) as work:
            (work / "summary.json").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "summary.json").read_text() == "1"
    with atomic_directory(target) as work:
        (work / "summary.json").write_text("2")
    assert listing(target) == ["summary.json"]
    assert listing(tmp_path) == ["out"]


def test_a_folder_that_is_not_ours_is_refused_and_kept(tmp_path: Path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InvalidInput, match="not an earlier result"), atomic_directory(tmp_path):
        pass
    assert listing(tmp_path) == ["precious.txt"]
    with pytest.raises(InvalidInput, match="is a file"), atomic_directory(tmp_path / "precious.txt"):
        pass


def test_json_is_strict(tmp_path: Path):
    value = {
        "nan": float("nan"),
        "inf": np.inf,
        "array": np.array([1.0, np.nan]),
        "frame": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
        "series": pd.Series({"k": np.float64(2.5)}),
        "time": pd.Timestamp("2024-01-02", tz="UTC"),
        "flag": np.bool_(True),
        "none": None,
    }
    write_json(tmp_path / "s.json", value)
    back = json.loads((tmp_path / "s.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert back["nan"] is None
    assert back["inf"] is None
    assert back["array"] == [1.0, None]
    assert back["frame"] == {"x": {"a": 1}, "y": {"a": 2}}
    assert back["series"] == {"k": 2.5}
    assert back["flag"] is True
    assert back == plain(value)


def test_tables_round_trip(tmp_path: Path):
    table = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2024-01-02", periods=2, tz="UTC", name="time"))
    write_tables(tmp_path / "tables", {"t": table})
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables" / "t.parquet"), table, check_freq=False)
