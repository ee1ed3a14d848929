"""The promoted model on recorded markets, held against own flow on data it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import crosswind as cw
from crosswind.problems.impact.calibrate import default_estimators
from crosswind.problems.market import read


@pytest.mark.data
@pytest.mark.parametrize("bucket_s", [60.0, 300.0])
def test_on_recorded_equities_the_promoted_model_is_not_worse_than_own_flow(lean_dir: Path, bucket_s: float) -> None:
    """Fit on 2013-10-07 and 08, test on 09; SPY, IBM, BAC, AIG."""
    events = read(f"lean:{lean_dir}").events.resample(bucket_s)
    models = default_estimators(kernel="instantaneous")
    decision = cw.promote(cw.calibrate(events.on(events.days[:-1]), models, draws=10))
    verified = decision.verify(events.on(events.days[-1:]))
    assert verified["holds"].all()
    assert decision.model.admissible().admissible
    assert (verified["promoted"] > 0).all()


@pytest.mark.data
def test_on_the_stress_set_nothing_blows_up(raw_dir: Path) -> None:
    """Eleven minutes of Binance: least squares on all flows fails out of sample, what is promoted does not."""
    names = ["BTCUSDT.spot", "ETHUSDT.spot", "BTCUSD_PERP.cm", "ETHUSD_PERP.cm"]
    events = read(f"binance-raw:{raw_dir}", names=names, bucket_s=1.0).events
    middle = events.index[2 * len(events.index) // 3]
    train = events.between(events.index[0], middle)
    test = events.between(middle, events.index[-1])
    found = cw.calibrate(train, default_estimators(ridge=3.0, half_lives_s=(2.0, 20.0)), draws=10)
    decision = cw.promote(found)
    verified = decision.verify(test)
    assert verified["holds"].all()
    assert (verified["promoted"] > -1.0).all()
    assert np.isfinite(decision.model.matrices).all()
    scores = found.out_of_sample()["mean"]
    assert scores["full OLS", 1.0] < scores[decision.choice, 1.0]
