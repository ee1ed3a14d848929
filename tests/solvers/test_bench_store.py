"""Rows on disk: nothing lost but what was being written, one writer, no foreign folder touched."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers.bench.store import ROWS, RowStore, read_rows
from crosswind.solvers.errors import InvalidInput


def rows(count: int) -> list[dict[str, object]]:
    return [{"key": f"k{i}", "value": float(i), "times_s": [0.5, 1.5]} for i in range(count)]


def test_numbers_come_back_as_they_were(tmp_path: Path):
    store = RowStore(tmp_path / "run")
    row = {"key": "a", "inf": math.inf, "low": -math.inf, "nan": math.nan, "np": np.float64(0.1), "n": np.int64(3)}
    store.append(row | {"steps": [{"worst": math.inf, "ok": np.bool_(True)}]})
    store.close()
    (back,) = read_rows(tmp_path / "run")
    assert back["inf"] == math.inf
    assert back["low"] == -math.inf
    assert back["nan"] is None
    assert back["np"] == 0.1
    assert back["n"] == 3
    assert back["steps"] == [{"worst": math.inf, "ok": True}]


def test_a_write_torn_anywhere_costs_that_row_alone(tmp_path: Path):
    store = RowStore(tmp_path / "whole")
    for row in rows(3):
        store.append(row)
    store.close()
    data = (tmp_path / "whole" / ROWS).read_bytes()
    second = data.index(b"\n", data.index(b"\n") + 1) + 1
    for cut in range(second, len(data)):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / ROWS).write_bytes(data[:cut])
        again = RowStore(folder)
        assert set(again.rows) == {"k0", "k1"}
        again.append(rows(3)[2])
        again.close()
        assert [row["key"] for row in read_rows(folder)] == ["k0", "k1", "k2"]


def test_the_last_row_of_a_key_counts(tmp_path: Path):
    store = RowStore(tmp_path)
    store.append({"key": "a", "value": 1})
    store.append({"key": "a", "value": 2})
    store.close()
    assert [row["value"] for row in read_rows(tmp_path)] == [2]


def test_starting_anew_keeps_the_old_rows_aside(tmp_path: Path):
    store = RowStore(tmp_path)
    store.append(rows(1)[0])
    store.close()
    fresh = RowStore(tmp_path, resume=False)
    assert fresh.rows == {}
    fresh.close()
    aside = [path for path in tmp_path.iterdir() if path.name != ROWS]
    assert len(aside) == 1
    assert b'"k0"' in aside[0].read_bytes()


def test_one_writer_at_a_time(tmp_path: Path):
    store = RowStore(tmp_path)
    with pytest.raises(InvalidInput, match="another run"):
        RowStore(tmp_path)
    store.close()
    RowStore(tmp_path).close()


def test_other_folders_and_files_are_refused_untouched(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not an earlier run"):
        RowStore(tmp_path)
    with pytest.raises(InvalidInput, match="not a folder"):
        RowStore(tmp_path / "letter.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(InvalidInput, match="holds no run"):
        read_rows(tmp_path)


def test_lines_of_something_else_are_passed_over(tmp_path: Path):
    (tmp_path / ROWS).write_bytes(b'[1, 2]\n{"no": "key"}\nnot json\n{"key": "a", "value": 1}\n')
    assert [row["key"] for row in read_rows(tmp_path)] == ["a"]
