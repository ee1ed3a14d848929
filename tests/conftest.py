"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _data_dir() -> Path:
    return Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of recorded market data, or skip."""
    folder = _data_dir()
    if not folder.is_dir():
        pytest.skip(f"recorded market data is absent: set CROSSWIND_DATA or lay it at {folder}")
    return folder


@pytest.fixture(scope="session")
def lean_dir(data_dir: Path) -> Path:
    """Return the folder in LEAN's layout, or skip."""
    folder = data_dir / "lean"
    if not folder.is_dir():
        pytest.skip(f"the LEAN sample is absent below {data_dir}")
    return folder
