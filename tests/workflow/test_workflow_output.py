"""Outputs appear whole or not at all."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.atomic import atomic_directory, atomic_file
from crosswind.problems.workflow.output import plain, write_json, write_tables
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


def test_runs_that_end_at_the_same_time_leave_one_whole_result(tmp_path: Path):
    target = tmp_path / "out"

    def write(number: int) -> None:
        with atomic_directory(target) as work:
            for part in ("summary.json", "other"):
                (work / part).write_text(str(number))

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(write, number) for number in range(16)]:
                done.result()
        assert len({(target / part).read_text() for part in ("summary.json", "other")}) == 1
    assert listing(tmp_path) == ["out"]


def test_an_earlier_result_comes_back_when_the_new_one_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target, rename = tmp_path / "out", Path.replace
    with atomic_directory(target) as work:
        (work / "summary.json").write_text("1")

    def broken(self: Path, to: Path) -> Path:
        if (self / "new").exists() and not target.exists():  # only once the old one has been moved aside
            raise OSError(5, "Input/output error")
        return rename(self, to)

    def fail() -> None:
        with atomic_directory(target) as work:
            (work / "summary.json").write_text("2")
            (work / "new").write_text("")
            monkeypatch.setattr(Path, "replace", broken)

    with pytest.raises(OSError, match="Input/output"):
        fail()
    assert (target / "summary.json").read_text() == "1"
    assert listing(tmp_path) == ["out"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    with atomic_file(tmp_path / "deep" / "model.npz") as path:
        path.write_text("1")
        assert not (tmp_path / "deep" / "model.npz").exists()
    assert (tmp_path / "deep" / "model.npz").read_text() == "1"

    def fail() -> None:
        with atomic_file(tmp_path / "deep" / "model.npz") as path:
            path.write_text("2")
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        fail()
    assert (tmp_path / "deep" / "model.npz").read_text() == "1"
    assert listing(tmp_path / "deep") == ["model.npz"]
    for bad in (tmp_path / "deep", tmp_path / "deep" / "model.npz" / "x"):
        with pytest.raises(InvalidInput), atomic_file(bad):
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


def test_table_cells_say_nothing_twice():
    """A missing value is a dash, rounding dust is zero, small numbers keep their digits, text cannot become markup."""
    from crosswind.problems.page import table_html

    page = table_html(pd.DataFrame({"a": [np.nan, -4e-16, 3.2e-5, 12345.678], "b": ["<i>", True, 1, "x"]}))
    for cell in ("–", "0.000", "3.2e-05", "12,346", "&lt;i&gt;", "yes"):
        assert f"<td>{cell}</td>" in page
