"""Penalties by cost on recorded days: SPY, IBM, BAC and AIG, and a stressed crypto market."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.impact import CrossImpact
from crosswind.problems.impact.decision import calibrate_decision
from crosswind.problems.market import MarketEvents

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def equities(lean_dir: Path) -> MarketEvents:
    return cw.read(f"lean:{lean_dir}").events.resample(30.0)


def test_recorded_equities(equities: MarketEvents) -> None:
    """A pair trade and a basket: the choice is admissible, bounded, and not below the likelihood's for sure."""
    names = list(equities.names)
    parents = pd.DataFrame({"pair": 0.0, "sell all": -1e6}, index=names)
    parents.loc[names[:2], "pair"] = (2e6, -2e6)
    for split in (0.0, 10.0):
        found = calibrate_decision(equities, CrossImpact(split=split), parents, parameters=("ridge",), ruler="free")
        numbers = found.table[["r2", "cost", "promised", "saving", "low", "high"]].to_numpy()
        assert np.isfinite(numbers).all()
        assert found.model.admissible().admissible
        assert found.model.constraint_violations(corr_bound=0.6)["worst"] < 1e-9
        assert found.agrees or found.low > 0.0
        assert found.table["r2"].max() > 0.1
        # A schedule that the model thinks is cheap is not dear: the account is of the promise's order.
        assert 0.2 < found.table["cost"].to_numpy()[0] < 5.0


def test_stressed_market(raw_dir: Path) -> None:
    events = cw.read(f"binance-raw:{raw_dir}", bucket_s=1.0).events
    found = calibrate_decision(events, CrossImpact(half_lives_s=(5.0, 60.0)), parameters=("ridge",), folds=2)
    assert np.isfinite(found.table.to_numpy()).all()
    assert found.model.admissible().admissible
