"""The example runs as it stands and shows what it says; importing the room pulls nothing heavy."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "basket_schedule.py"))
    out = capsys.readouterr().out
    assert "impact_cross" in out
    table = names["table"]
    assert {"crosswind", "TWAP", "VWAP", "POV", "Almgren-Chriss", "diagonal only"} == set(table.index)
    assert table.loc["crosswind", "breaches"] == 0
    assert not names["schedule"].prices_bps.empty
    assert names["figure"].data


def test_import_is_light() -> None:
    heavy = ("cvxpy", "jax", "plotly", "osqp", "piqp", "clarabel", "rich")  # pandas itself imports pyarrow
    code = f"import sys, crosswind.problems.basket; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
