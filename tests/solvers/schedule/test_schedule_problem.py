"""The data of a schedule, its cost and gradient, its limits, and the repair of trades that miss them."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule import Bounder, FactorSchedule
from crosswind.solvers.schedule.certificate import gap
from crosswind.solvers.schedule.instances import schedule_instance
from crosswind.solvers.schedule.restore import FEASIBLE, Restorer, group_order


def direct_cost(p, u):
    """The cost of the class's docstring, trade by trade."""
    total, q = 0.0, np.array(p.start)
    states = np.array(p.impact_state)
    sigma = np.diag(p.risk_own) + p.risk_loadings @ p.risk_loadings.T
    for t in range(p.slices):
        total += p.eta[t] @ u[t] ** 2 + p.spread[t] @ np.abs(u[t]) + p.linear[t] @ u[t]
        for m, L in enumerate(p.impact_loadings):
            K = np.diag(p.impact_own[m]) + L @ L.T
            states[m] *= p.decays[m, t]
            total += u[t] @ K @ states[m] + 0.5 * u[t] @ K @ u[t]
            states[m] += u[t]
        q = q - u[t]
        total += p.risk_weight[t] * q @ sigma @ q
    soft = np.where(np.isinf(p.terminal_weight), 0.0, p.terminal_weight)
    return float(total + soft @ (q - p.target) ** 2)


@pytest.mark.parametrize("kind", [{}, {"modes": 0}, {"modes": 3, "terminal": 5.0, "drift": 2.0}, {"dense": True}])
def test_cost_and_gradient(kind):
    p = schedule_instance(9, 6, rank=2, factors=3, sectors=2, seed=1, **kind)
    rng = np.random.default_rng(0)
    u, d = rng.standard_normal((2, *p.eta.shape))
    assert p.objective(u) == pytest.approx(direct_cost(p, u), rel=1e-12)
    assert sum(p.parts(u).values()) == p.objective(u)
    step = 1e-4
    rise = [p.objective(u + s * step * d) - float(np.sum(p.spread * np.abs(u + s * step * d))) for s in (1.0, -1.0)]
    assert (rise[0] - rise[1]) / (2.0 * step) == pytest.approx(float(np.sum(p.gradient(u) * d)), rel=1e-7)


def test_violations_name_the_limit():
    p = schedule_instance(9, 6, rank=1, factors=2, sectors=2, seed=1, change=0.5)
    rng = np.random.default_rng(0)
    curve = np.full((6, 1), 1.0 / 6.0)
    even = curve * p.start
    plain = dataclasses.replace(p, upper=np.inf, lower=-np.inf, group_caps=np.full((6, 2), np.inf), change=None)
    plain = dataclasses.replace(plain, band_lower=-np.inf, band_upper=np.inf)
    assert plain.violations(even).worst <= 1e-15
    assert plain.violations(even * 1.01).completion == pytest.approx(0.01)
    assert dataclasses.replace(plain, upper=np.abs(even) * 0.5, lower=-np.inf).violations(even).box > 0.0
    sums = plain.group_sums(even)
    assert dataclasses.replace(plain, group_caps=0.9 * sums).violations(even).groups == pytest.approx(
        0.1 / 6.0, rel=0.2
    )
    assert dataclasses.replace(plain, band_upper=-1e3 * np.ones((6, 2))).violations(even).bands > 0.5
    jump = even * np.where(np.arange(6) < 3, 2.0, 0.0)[:, None]
    found = dataclasses.replace(plain, change=np.zeros((6, 9))).violations(jump)
    assert found.change == pytest.approx(2.0 / 6.0)
    first = dataclasses.replace(plain, change=np.zeros((6, 9)), previous=np.zeros(9)).violations(even)
    assert first.change == pytest.approx(1.0 / 6.0)
    assert p.violations(np.full((6, 9), np.nan)).worst == np.inf
    assert p.violations(rng.standard_normal((6, 9))).worst > 0.0


def test_data_cannot_change():
    given = np.ones((3, 2))
    p = FactorSchedule(np.ones(2), given)
    given[0, 0] = 9.0
    assert p.eta[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        p.eta[0, 0] = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.eta = given
    again = pickle.loads(pickle.dumps(schedule_instance(6, 4, rank=1, factors=1, sectors=1)))
    assert again.objective(np.ones((4, 6))) == schedule_instance(6, 4, rank=1, factors=1, sectors=1).objective(
        np.ones((4, 6))
    )


GOOD = {
    "start": np.ones(3),
    "eta": np.ones((2, 3)),
    "decays": np.full((1, 2), 0.5),
    "impact_own": np.ones((1, 3)),
    "impact_loadings": (np.ones((3, 1)),),
    "groups": np.zeros(3, dtype=int),
    "group_caps": np.ones((2, 1)),
    "band_vectors": np.ones((3, 1)),
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start", [1.0, np.nan, 1.0]),
        ("start", np.ones(4)),
        ("start", ["a", "b", "c"]),
        ("eta", -np.ones((2, 3))),
        ("eta", np.ones(3)),
        ("eta", np.ones((0, 3))),
        ("spread", -1.0),
        ("linear", np.inf),
        ("lower", 2.0 * np.ones((2, 3)) * np.inf),
        ("lower", np.nan),
        ("upper", np.full((2, 3), -np.inf)),
        ("decays", np.full((1, 2), 1.5)),
        ("decays", np.zeros((1, 2))),
        ("impact_own", -np.ones((1, 3))),
        ("impact_loadings", (np.ones((3, 1)), np.ones((3, 1)))),
        ("impact_loadings", (np.ones((2, 1)),)),
        ("impact_state", np.ones((2, 3))),
        ("risk_own", -np.ones(3)),
        ("risk_loadings", np.ones(3)),
        ("risk_weight", [1.0, -1.0]),
        ("terminal_weight", -1.0),
        ("terminal_weight", np.nan),
        ("target", np.inf),
        ("groups", np.array([0, 1, 0])),
        ("groups", np.array([0.0, 0.0, 0.0])),
        ("groups", np.array([0, -2, 0])),
        ("group_caps", -np.ones((2, 1))),
        ("group_caps", np.ones(2)),
        ("band_lower", np.full((2, 1), 1.0)),
        ("change", -np.ones((2, 3))),
        ("previous", np.ones(3)),
    ],
)
def test_malformed_data_is_refused_with_its_name(field, value):
    FactorSchedule(**GOOD)
    more = {"band_upper": np.zeros((2, 1))} if field == "band_lower" else {}
    with pytest.raises(InvalidInput) as caught:
        FactorSchedule(**(GOOD | {field: value} | more))
    assert str(caught.value.field).startswith(field) or (field, caught.value.field) == ("upper", "lower")
    assert caught.value.remedy


@pytest.mark.parametrize("seed", range(5))
def test_repaired_trades_keep_every_limit_and_stay_near(seed):
    p = schedule_instance(
        40, 10, sectors=4, cap=1.05, band=1e-3, two_sided=bool(seed % 2), terminal=(np.inf, 5.0)[seed % 2], seed=seed
    )
    order, first = group_order(p)
    p = p.take(order)
    rng = np.random.default_rng(seed)
    curve = 1.0 + 1.2 * (2.0 * (np.arange(10) + 0.5) / 10 - 1.0) ** 2
    even = np.outer(curve / curve.sum(), p.start)
    restorer = Restorer(p, first, 1.0 / (2.0 * p.eta))
    for noise in (0.0, 1e-6, 1e-3, 1e-2):
        u = even + noise * rng.standard_normal(p.eta.shape) * np.abs(even)
        done = restorer.restored(u)
        assert done is not None
        assert p.violations(done).worst <= FEASIBLE
        assert np.abs(done - u).max() <= 50.0 * noise * np.abs(even).max() + 1e-9


def test_bounds_hold_from_any_point_and_prices():
    """A feasible schedule costs more than any bound, whatever the bound was made from."""
    for seed in range(6):
        p = schedule_instance(
            15, 7, rank=1, factors=2, sectors=3, cap=1.2, band=0.05, modes=seed % 4, terminal=(np.inf, 3.0)[seed % 2],
            change=1.0 if seed % 3 == 0 else None, eta=float(seed > 1), seed=seed,
        )  # fmt: skip
        curve = 1.0 + 1.2 * (2.0 * (np.arange(7) + 0.5) / 7 - 1.0) ** 2
        even = np.outer(curve / curve.sum(), p.start)
        assert p.violations(even).worst <= 1e-12
        cost, rng, bounder = p.objective(even), np.random.default_rng(seed), Bounder(p)
        scale = float(np.abs(p.gradient(even)).mean())
        for size in (0.0, 0.1, 1.0, 30.0):
            u = even + size * rng.standard_normal(p.eta.shape)
            shapes = p.group_caps.shape, p.band_lower.shape, (p.names,), p.eta.shape
            prices = bounder.prices(*(size * scale * rng.standard_normal(shape) for shape in shapes))
            for bound in (bounder.bound(u, prices), bounder.best(u, prices)[0]):
                assert bound <= cost + 1e-12 * p.scale(even)
                assert gap(p, even, bound) >= 0.0
    assert gap(p, even, -np.inf) == np.inf
