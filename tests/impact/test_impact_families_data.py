"""Families and options on recorded days: constraints hold, nothing blows up, and planted prints are seen through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import crosswind as cw
from crosswind.problems.impact import CrossImpact, DiagonalNNLS, ImpactEstimator, SeparableImpact

pytestmark = pytest.mark.data

OPTIONS: dict[str, ImpactEstimator] = {
    "fitted": CrossImpact(half_lives_s="fit", ridge=1.0),
    "log-grid": CrossImpact(half_lives_s="log-grid", ridge=1.0),
    "huber": CrossImpact(loss="huber", ridge=1.0),
    "power": CrossImpact(transform="power", exponent=0.5, ridge=1.0),
    "sparse": CrossImpact(sparse_threshold=0.1, ridge=1.0),
    "separable": SeparableImpact(kernel="exponential", ridge=1.0),
    "separable-convex": SeparableImpact(ridge=1.0),
}


@pytest.fixture(scope="module")
def equities(lean_dir: Path):
    events = cw.read(f"lean:{lean_dir}").events.resample(30.0)
    return events.on(events.days[:-1]), events.on(events.days[-1:])


@pytest.mark.parametrize("label", OPTIONS)
def test_every_option_keeps_its_constraints_and_predicts_on_recorded_equities(equities, label: str) -> None:
    train, test = equities
    fit = OPTIONS[label].fit(train)
    assert fit.constraint_violations()["worst"] <= 1e-12  # type: ignore[attr-defined]
    assert np.isfinite(fit.model_.matrices).all()
    assert fit.score(test) > DiagonalNNLS().fit(train).score(test) - 0.05
    assert fit.score(test) > 0.1


@pytest.fixture(scope="module")
def stress(raw_dir: Path):
    """Six minutes of Binance in 1 s buckets, halved: volatility doubles and flows grow in the second half."""
    events = cw.read(f"binance-raw:{raw_dir}", bucket_s=1.0).events
    cut = events.index[len(events.index) // 2]
    return events.between(events.index[0], cut), events.between(cut, events.index[-1])


@pytest.mark.parametrize("label", OPTIONS)
def test_constraints_hold_on_the_stress_set(stress, label: str) -> None:
    fit = OPTIONS[label].fit(stress[0])
    assert fit.constraint_violations()["worst"] <= 1e-12  # type: ignore[attr-defined]
    assert np.isfinite(fit.model_.matrices).all()
    assert (np.diag(fit.model_.immediate) > 0).all()
    assert np.isfinite(fit.score_by_name(stress[1])).all()


def test_concave_flow_survives_a_doubling_of_activity_where_linear_flow_does_not(stress) -> None:
    """Linear impact fitted in the calm half overshoots in the wild one, own flow too: the model says too much."""
    train, test = stress
    bent = OPTIONS["power"].fit(train).score_by_name(test)
    own = DiagonalNNLS().fit(train).score_by_name(test)
    assert bent.min() > 0.2
    assert own.mean() < 0.0
    chosen = CrossImpact(transform="power", exponent="cv", ridge=1.0).fit(train)
    assert chosen.exponent_ < 0.7
    assert chosen.score(test) > 0.2
