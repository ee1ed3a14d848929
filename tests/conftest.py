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
    return _sample(data_dir, "lean", "LEAN sample")


@pytest.fixture(scope="session")
def perp_dir(data_dir: Path) -> Path:
    """Return the folder of perpetuals with funding, or skip."""
    return _sample(data_dir, "perp_carry", "perpetual sample")


@pytest.fixture(scope="session")
def raw_dir(data_dir: Path) -> Path:
    """Return the folder of Binance's recorded streams, or skip."""
    return _sample(data_dir, "hftbacktest", "Binance sample")


def _sample(data_dir: Path, name: str, what: str) -> Path:
    folder = data_dir / name
    if not folder.is_dir():
        pytest.skip(f"the {what} is absent below {data_dir}")
    return folder
