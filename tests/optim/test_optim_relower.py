"""A receding horizon lowers once: new vectors around the old matrices give the same program as lowering anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crosswind.optim import (
    BandLimit,
    GroupCap,
    ImpactMode,
    MultistageProgram,
    RateLimit,
    SoftPenalty,
    Terminal,
    TradeLimit,
    lower,
    relower,
)
from crosswind.solvers.errors import InvalidInput


def program(rng: np.random.Generator, T: int = 6, n: int = 3) -> MultistageProgram:
    """Return a program with every kind of term; all its matrices are fixed, all its vectors drawn."""
    cap = rng.uniform(2.0, 3.0, (T, n))
    band = rng.uniform(1.0, 4.0, (T, 1))
    return MultistageProgram(
        instruments=tuple("abcdef"[:n]),
        dt_s=np.full(T, 60.0),
        p0=rng.normal(size=n),
        exposure_level=rng.normal(size=(T + 1, n)),
        spread=rng.uniform(0.1, 0.2, (T, n)),
        temporary=np.full((T, n), 0.3),
        drift=rng.normal(scale=0.1, size=(T, n)),
        impact=(
            ImpactMode(0.01, np.eye(n) + 0.2, rng.normal(size=n)),
            ImpactMode(0.0, 0.1 * np.eye(n), rng.normal(size=n)),
        ),
        covariance=0.5 * np.eye(n) + 0.1,
        risk_aversion=0.7,
        holding=rng.normal(scale=0.05, size=(T, n)),
        terminal=Terminal(rng.normal(size=n), np.array([np.inf, 2.0, 0.0])[:n]),
        limits=(
            TradeLimit("clip", -cap, cap),
            BandLimit("cash", np.ones((1, n)), -band, band, soft=SoftPenalty(float(rng.uniform(0.3, 0.5)), 0.1)),
            GroupCap("sector", np.ones((1, n)), rng.uniform(5.0, 6.0, (T, 1))),
            RateLimit("rate", rng.uniform(3.0, 4.0, (T, n)), rng.normal(size=n)),
        ),
    )


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_lowering_anew(seed: int):
    rng = np.random.default_rng(seed)
    first, second = program(rng), program(rng)
    before = lower(first, keep_absolute=True, names=False)
    quick = relower(second, before)
    slow = lower(second, before.scaling, keep_absolute=True, names=False)
    assert quick.qp.P is before.qp.P
    assert quick.qp.A is before.qp.A
    for name in ("P", "A"):
        assert abs(getattr(quick.qp, name) - getattr(slow.qp, name)).max() == 0.0
    for name in ("q", "l", "u", "lb", "ub"):
        np.testing.assert_array_equal(getattr(quick.qp, name), getattr(slow.qp, name), err_msg=name)
    assert quick.qp.constant == slow.qp.constant
    assert quick.program is second
    np.testing.assert_array_equal(quick.box.upper, slow.box.upper)


@pytest.mark.parametrize(
    "change",
    [
        {"risk_aversion": 0.8},
        {"temporary": np.full((6, 3), 0.31)},
        {"covariance": np.eye(3)},
        {"impact": ()},
        {"terminal": Terminal(np.zeros(3), 1.0)},
        {"terminal": None},
        {"dt_s": np.full(6, 61.0)},
        {"limits": ()},
    ],
)
def test_other_matrices_are_refused(change: dict):
    first = program(np.random.default_rng(0))
    before = lower(first, keep_absolute=True, names=False)
    with pytest.raises(InvalidInput, match="more than vectors"):
        relower(replace(first, **change), before)


def test_other_rows_are_refused():
    first = program(np.random.default_rng(0))
    before = lower(first, keep_absolute=True, names=False)
    band = first.limits[1]
    open_end = np.where(np.arange(6)[:, None] == 2, np.inf, band.upper)
    wider = replace(band, lower=-open_end, upper=open_end)
    with pytest.raises(InvalidInput, match="other rows"):
        relower(replace(first, limits=(first.limits[0], wider, *first.limits[2:])), before)
