"""The examples run as they stand and open as notebooks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_runs_to_the_end(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(example)],
        cwd=tmp_path,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_opens_as_a_notebook(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # "), "begin with a title"
    assert len(text.splitlines()) <= 70
    head, *cells = re.split(r"^# %%", text, flags=re.M)
    assert head == ""
    kinds = ["markdown" if cell.startswith(" [markdown]\n") else "code" for cell in cells]
    assert len(cells) >= 3
    assert {"markdown", "code"} == set(kinds)
    for kind, cell in zip(kinds, cells, strict=True):
        body = cell.split("\n", 1)[1]
        if kind == "markdown":
            assert all(line.startswith("#") for line in body.splitlines() if line.strip())
        else:
            compile(body, str(example), "exec")
