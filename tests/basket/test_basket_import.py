"""Importing the room pulls nothing heavy."""

from __future__ import annotations

import subprocess
import sys


def test_import_is_light() -> None:
    heavy = ("cvxpy", "jax", "plotly", "osqp", "piqp", "clarabel", "rich")  # pandas itself imports pyarrow
    code = f"import sys, crosswind.problems.basket; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
