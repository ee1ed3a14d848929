"""Each option of the basket against a closed form, and every refusal by the name of its field."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim import FactorRisk
from crosswind.problems.basket import (
    Auction,
    BasketProblem,
    FactorCovariance,
    FactorImpact,
    project,
    square_root_cost,
)
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import CrosswindError, DataGap, InfeasibleProblem, InvalidInput

Maker = Callable[..., BasketProblem]
NAMES = ["IBM", "BAC", "AIG"]


def still(names: tuple[str, ...]) -> ImpactModel:
    """Return a model without impact: the closed forms below have none."""
    n = len(names)
    return ImpactModel(names, np.array([0.0]), np.zeros((1, n, n)), "exponential", 60.0)


def plain(make: Maker, orders: dict[str, float], slices: int = 5, **changes: Any) -> BasketProblem:
    """Return a basket that pays a temporary cost alone, without limits."""
    base: dict[str, Any] = {
        "model": still(tuple(orders)),
        "participation": None,
        "risk_aversion": 0.0,
        "spread": 0.0,
        "temporary": 1e-9,
        "allow_reversal": True,
    }
    return make(orders, slices=slices, **(base | changes))


# factor models -------------------------------------------------------------------------------------------------------


def factor_pair() -> tuple[FactorCovariance, pd.DataFrame]:
    B = pd.DataFrame([[1.0, 0.2], [0.8, -0.5], [1.2, 0.1]], NAMES, ["market", "banks"])
    C = pd.DataFrame([[3e-10, 5e-11], [5e-11, 2e-10]], B.columns, B.columns)
    d = pd.Series([2e-10, 1e-10, 3e-10], NAMES)
    return FactorCovariance(B, C, d), B @ C @ B.T + np.diag(d)


def test_factor_risk_in_every_form_is_the_dense_one(make: Maker) -> None:
    factored, dense = factor_pair()
    whole = make(covariance=dense).solve()
    root = np.linalg.cholesky(factored.factors.to_numpy())
    forms = [
        factored,
        (factored.loadings, factored.factors, factored.specific),
        FactorRisk(factored.loadings.to_numpy() @ root, factored.specific.to_numpy()),
    ]
    for form in forms:
        problem = make(covariance=form)
        np.testing.assert_allclose(problem.arrays.covariance.dense(), 900.0 * dense, rtol=1e-12)  # type: ignore[union-attr]
        schedule = problem.solve()
        assert schedule.costs["total"] == pytest.approx(whole.costs["total"], rel=1e-9)
        # η by default needs σ, which the factor form must give too.
        np.testing.assert_allclose(problem.arrays.temporary, whole.problem.arrays.temporary, rtol=1e-12)


def test_factor_impact_is_the_dense_model_and_stays_factorised(make: Maker) -> None:
    rng = np.random.default_rng(0)
    rates = np.array([0.0, 0.004])
    model = FactorImpact(
        tuple(NAMES), rates, rng.uniform(1e-10, 5e-10, (2, 3)), tuple(1e-5 * rng.normal(size=(2, 3, 2)))
    )
    one, two = make(model=model), make(model=model.to_model())
    assert one.solve().costs["total"] == pytest.approx(two.solve().costs["total"], rel=1e-9)
    lowered = one.program().impact
    assert all(type(mode.matrix).__name__ == "FactorMatrix" for mode in lowered)
    np.testing.assert_allclose(model.diagonal().to_model().matrices, model.to_model().diagonal().matrices, rtol=1e-14)
    assert model.subset(["AIG", "IBM"]).names == ("AIG", "IBM")
    with pytest.raises(DataGap, match="XXX"):
        model.subset(["XXX"])


def test_an_approximation_keeps_the_diagonal_and_is_exact_at_its_own_rank() -> None:
    rng = np.random.default_rng(3)
    names = tuple(f"N{i}" for i in range(12))
    own, L = rng.uniform(1e-10, 9e-10, (1, 12)), (2e-5 * rng.normal(size=(12, 2)),)
    model = FactorImpact(names, np.array([0.01]), own, L).to_model()
    exact = FactorImpact.approximate(model, 2, rounds=2000).to_model()
    np.testing.assert_allclose(exact.matrices, model.matrices, atol=1e-3 * model.matrices.max())
    for rank in (0, 1, 12):
        rough = FactorImpact.approximate(model, rank).to_model()
        np.testing.assert_allclose(np.diag(rough.matrices[0]), np.diag(model.matrices[0]), rtol=1e-9)
        assert np.linalg.eigvalsh(rough.matrices[0])[0] >= -1e-20
    with pytest.raises(InvalidInput, match="rank"):
        FactorImpact.approximate(model, 13)


def test_an_indefinite_model_is_refused_and_project_mends_it(make: Maker) -> None:
    bad = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) * 1e-10
    model = ImpactModel(tuple(NAMES), np.array([0.01]), bad[None], "exponential", 60.0)
    with pytest.raises(InvalidInput, match=r"model\.matrices.*project\(model\)"):
        make(model=model)
    mended = project(model)
    assert make(model=mended).solve().certificate.passes(1e-8)
    # The nearest one: clipping eigenvalues of the block gives 1.5 everywhere in it.
    np.testing.assert_allclose(mended.matrices[0][:2, :2], 1.5e-10, rtol=1e-6)


# costs ---------------------------------------------------------------------------------------------------------------


def test_three_halves_alone_splits_by_the_inverse_square(make: Maker) -> None:
    # min Σ κ_t u_t^{3/2}, Σ u = X: 3/2 κ_t √u_t equal, so u_t = X κ_t^{−2} / Σ κ^{−2}.
    kappa = np.array([1.0, 2.0, 0.5, 1.5, 1.0]) * 1e-7
    times = make(slices=5).times
    frame = pd.DataFrame(np.column_stack([kappa, kappa[::-1]]), times, ["A", "B"])
    problem = plain(make, {"A": 3e6, "B": -2e6}, temporary=0.0, three_halves=frame)
    schedule = problem.solve()
    for name, size in (("A", 3e6), ("B", -2e6)):
        share = frame[name].to_numpy() ** -2.0
        np.testing.assert_allclose(schedule.trades[name], size * share / share.sum(), rtol=1e-6)
    assert schedule.costs["three_halves"] == pytest.approx(
        float((frame * schedule.trades.abs() ** 1.5).sum().sum()), rel=1e-12
    )
    assert schedule.solution.stationarity_rel < 1e-9


def test_square_root_cost_is_the_law_whatever_the_slice(make: Maker) -> None:
    problem = make()
    assert problem.volume is not None
    kappa = square_root_cost(problem.covariance, problem.volume, 900.0, 0.7)  # type: ignore[arg-type]
    u, V = 1e5, problem.volume["IBM"].iloc[0]
    sigma = np.sqrt(problem.covariance.loc["IBM", "IBM"] * 900.0)  # type: ignore[union-attr]
    assert kappa["IBM"].iloc[0] * u**1.5 == pytest.approx(0.7 * sigma * np.sqrt(u / V) * u, rel=1e-12)
    double = square_root_cost(problem.covariance, 2.0 * problem.volume, 1800.0, 0.7)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(kappa, double)
    with pytest.raises(InvalidInput, match="volume"):
        square_root_cost(problem.covariance, 0.0 * problem.volume, 900.0)  # type: ignore[arg-type]


def test_drift_tilts_the_even_schedule(make: Maker) -> None:
    # min Σ η u² + A_t u, Σ u = X: u_t = X/T + (Ā − A_t)/2η.
    alpha, life, eta = 2e-7, 1800.0, 1e-9
    problem = plain(make, {"A": 3e6}, drift=pd.Series({"A": alpha}), drift_half_life_s=life, temporary=eta)
    seconds = np.arange(5) * 900.0
    A = alpha * life / np.log(2.0) * (1.0 - 2.0 ** (-seconds / life))
    schedule = problem.solve()
    np.testing.assert_allclose(schedule.trades["A"], 6e5 + (A.mean() - A) / (2.0 * eta), rtol=1e-7)
    assert schedule.costs["drift"] == pytest.approx(float(A @ schedule.trades["A"]), rel=1e-9)
    # The same path as a frame of the returns over each slice.
    ends = alpha * life / np.log(2.0) * (1.0 - 2.0 ** (-(seconds + 900.0) / life))
    path = pd.DataFrame({"A": ends - A}, problem.times)
    framed = problem.replace(drift=path, drift_half_life_s=None).solve()
    np.testing.assert_allclose(framed.trades, schedule.trades, rtol=1e-7)
    # Without a half-life it is linear in time; for a sell the sign turns.
    steady = plain(make, {"A": -3e6}, drift=pd.Series({"A": alpha}), temporary=eta).solve()
    np.testing.assert_allclose(steady.trades["A"], -6e5 + alpha * (seconds.mean() - seconds) / (2.0 * eta), rtol=1e-7)


def test_what_is_never_traded_pays_the_drift_to_the_end(make: Maker) -> None:
    problem = plain(make, {"A": 3e6}, drift=pd.Series({"A": 1e-7}), completion=pd.Series({"A": 1e6}))
    none = problem.frame(np.zeros((5, 1)))
    assert problem.score(none)["drift"] == pytest.approx(1e-7 * 4500.0 * 3e6, rel=1e-12)


def test_urgency_of_one_name_is_risk_aversion(make: Maker) -> None:
    calm = plain(make, {"A": 3e6, "B": -2e6}, temporary=1e-9)
    uncorrelated = pd.DataFrame(np.diag([4e-9, 1e-9]), ["A", "B"], ["A", "B"])
    risky = calm.replace(covariance=uncorrelated, risk_aversion=2e-6).solve()
    urgent = calm.replace(covariance=uncorrelated, urgency=2e-6).solve()
    np.testing.assert_allclose(urgent.trades, risky.trades, rtol=1e-6)
    assert urgent.costs["urgency"] == pytest.approx(risky.costs["risk"], rel=1e-6)
    assert urgent.costs["risk"] == 0.0
    # Almgren and Chriss: q_j = X sinh(κ(T−j))/sinh(κT), 2(cosh κ − 1) = υσ²/η per slice.
    kappa = np.arccosh(1.0 + 0.5 * 2e-6 * 4e-9 * 900.0 / 1e-9)
    left = 3e6 * np.sinh(kappa * (5 - np.arange(6))) / np.sinh(5 * kappa)
    np.testing.assert_allclose(urgent.inventory["A"], left, rtol=1e-6, atol=1.0)
    alone = calm.replace(covariance=uncorrelated, urgency=pd.Series({"A": 2e-6, "B": 0.0})).solve()
    np.testing.assert_allclose(alone.trades["A"], urgent.trades["A"], rtol=1e-6)
    np.testing.assert_allclose(alone.trades["B"], -4e5, rtol=1e-6)


# limits --------------------------------------------------------------------------------------------------------------


def test_participation_is_of_the_quantile_of_a_log_normal_volume(make: Maker) -> None:
    sd = pd.Series({"IBM": 0.3, "BAC": 0.0, "AIG": 0.5})
    problem = make(participation=0.2, volume_sd=sd, volume_quantile=0.1)
    plain_cap = make(participation=0.2).arrays.participation_cap
    expected = plain_cap * np.exp(NormalDist().inv_cdf(0.1) * sd.to_numpy())
    np.testing.assert_allclose(problem.arrays.participation_cap, expected, rtol=1e-12)
    # Of volumes drawn from that law, a tenth falls below: the cap is a share of the quantile, by its definition.
    rng = np.random.default_rng(1)
    draws = problem.arrays.volume[0, 2] * np.exp(0.5 * rng.normal(size=200_000))  # type: ignore[index]
    assert np.mean(draws < expected[0, 2] / 0.2) == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize("kind", ["beta", "factors"])
def test_bands_hold_and_carry_the_price_that_a_wider_band_saves(make: Maker, kind: str) -> None:
    base = make({"IBM": 5e6, "BAC": -3e6}, risk_aversion=3e-6, temporary=2e-10)
    loadings = pd.Series({"IBM": 1.3, "BAC": 0.7})

    def banded(width: float) -> BasketProblem:
        if kind == "beta":
            return base.replace(beta=loadings, beta_band=width)
        band = pd.DataFrame({"lower": [-width], "upper": [width]}, ["value"])
        return base.replace(factor_exposures=loadings.to_frame("value"), factor_band=band)

    free = base.solve()
    level = np.abs(free.inventory.to_numpy()[1:] @ loadings.to_numpy()).max()
    width = 0.8 * level
    tight = banded(width).solve()
    name = f"{'beta' if kind == 'beta' else 'factor'} band"
    assert np.abs(tight.inventory.to_numpy()[1:] @ loadings.to_numpy()).max() <= width * (1.0 + 1e-9)
    step = 1e-3 * width
    slope = (banded(width - step).solve().costs["total"] - banded(width + step).solve().costs["total"]) / (2.0 * step)
    assert float(tight.prices[name].sum().sum()) == pytest.approx(slope, rel=2e-2)
    assert tight.price_of_limits()[name] == pytest.approx(
        tight.problem.to_bps(tight.costs["total"] - free.costs["total"]), rel=1e-5
    )


def test_a_factor_band_may_name_some_factors_and_one_side(make: Maker) -> None:
    X = pd.DataFrame({"value": [1.0, 0.5, 0.2], "size": [0.3, -1.0, 0.8]}, NAMES)
    one = make(factor_exposures=X, factor_band=pd.Series({"size": 9e6}))
    limit = next(x for x in one.limits if x.name == "factor band")
    assert limit.labels == ("size",)  # type: ignore[union-attr]
    side = make(factor_exposures=X, factor_band=pd.DataFrame({"lower": [-np.inf], "upper": [8e6]}, ["value"]))
    assert side.solve().certificate.passes(1e-8)
    every = make(factor_exposures=X, factor_band=9e6)
    assert len(next(x for x in every.limits if x.name == "factor band").labels) == 2  # type: ignore[union-attr]


# hedges --------------------------------------------------------------------------------------------------------------


def hedged(make: Maker, **changes: Any) -> BasketProblem:
    """Return an order that is not to be traded, and a hedge without cost: the textbook ratio must come out."""
    every = ["A", "ES"]
    covariance = pd.DataFrame([[4e-9, 1.2e-9], [1.2e-9, 1e-9]], every, every)
    base: dict[str, Any] = {
        "model": still(tuple(every)),
        "volume": None,
        "covariance": covariance,
        "hedges": ["ES"],
        "completion": pd.Series({"A": 3e6}),
        "risk_aversion": 1e-6,
        "temporary": 0.0,
        "allow_reversal": False,
        "participation": None,
        "spread": 0.0,
    }
    return make({"A": 3e6}, slices=3, **(base | changes))


def test_a_free_hedge_takes_the_minimum_variance_position(make: Maker) -> None:
    schedule = hedged(make).solve()
    # 3e6 of A is still to be bought: long β·3e6 of the hedge until then, so q_ES = −1.2·3e6.
    np.testing.assert_allclose(schedule.inventory["ES"].iloc[1:], -1.2 * 3e6, rtol=1e-6)
    np.testing.assert_allclose(schedule.trades["ES"], [3.6e6, 0.0, 0.0], atol=10.0)
    assert schedule.problem.parent_notional == 3e6  # the hedge is no parent order


def test_a_hedge_starts_from_its_position_and_may_have_to_end_flat(make: Maker) -> None:
    held = hedged(make, hedges=pd.Series({"ES": 1e6}))
    np.testing.assert_allclose(held.solve().trades["ES"].iloc[0], 2.6e6, rtol=1e-6)
    flat = held.replace(
        hedge_target=pd.Series({"ES": 0.0}),
        completion="hard",
        risk_aversion=1e-3,
        temporary=pd.Series({"A": 1e-7, "ES": 1e-11}),
    ).solve()
    assert flat.trades["ES"].sum() == pytest.approx(-1e6, rel=1e-9)
    assert flat.trades["ES"].iloc[0] > 0.0  # long first: the order is still to come
    assert flat.completion_price["ES"] != 0.0
    assert flat.executed == pytest.approx(1.0)


def test_a_hedge_shares_the_impact_of_the_basket(make: Maker) -> None:
    every = ("A", "ES")
    crossed = ImpactModel(every, np.array([0.0]), np.array([[[4e-10, 1e-10], [1e-10, 2e-10]]]), "exponential", 60.0)
    schedule = hedged(make, completion="hard", temporary=1e-10, model=crossed, risk_aversion=1e-4).solve()
    net = schedule.trades.sum().to_numpy()  # permanent impact is charged on what is traded in all
    expected = 0.5 * net @ crossed.matrices[0] @ net
    assert schedule.costs["impact_self"] + schedule.costs["impact_cross"] == pytest.approx(expected, rel=1e-9)
    assert schedule.costs["impact_cross"] != 0.0
    # The hedge's first-order condition sees the order: without the cross terms the position differs.
    apart = schedule.problem.replace(model=crossed.diagonal()).solve()
    assert abs(apart.trades["ES"].sum() - schedule.trades["ES"].sum()) > 1e3


# auctions ------------------------------------------------------------------------------------------------------------


def test_an_auction_has_its_own_cost_volume_and_no_part_in_decaying_impact(make: Maker) -> None:
    times = make(slices=3).times
    fast = ImpactModel(("A",), np.array([np.log(2) / 600.0]), np.array([[[4e-9]]]), "exponential", 60.0)
    base: dict[str, Any] = {"model": fast, "temporary": 1e-9, "slices": 3}
    call = Auction(times[-1], pd.Series({"A": 1e8}), participation=0.02, temporary=5e-10, spread=1e-5)
    problem = plain(make, {"A": 3e6}, **base, auctions=[call], allow_reversal=False)
    schedule = problem.solve()
    assert schedule.trades["A"].iloc[-1] <= 2e6 * (1.0 + 1e-9)
    u = schedule.trades["A"].to_numpy()
    rho = 2.0 ** (-900.0 / 600.0)
    impact = 4e-9 * (0.5 * u[0] ** 2 + 0.5 * u[1] ** 2 + rho * u[0] * u[1])  # nothing of the auction
    assert schedule.costs["impact_self"] == pytest.approx(impact, rel=1e-9)
    assert schedule.costs["temporary"] == pytest.approx(1e-9 * (u[0] ** 2 + u[1] ** 2) + 5e-10 * u[2] ** 2, rel=1e-9)
    assert schedule.costs["spread"] == pytest.approx(1e-5 * u[2], rel=1e-9)
    # By symmetry the two slices of the book are equal; the auction stands where the marginal costs meet, or at its cap.
    assert u[0] == pytest.approx(u[1], rel=1e-6)
    half = problem.replace(auctions=[Auction(times[-1], pd.Series({"A": 1e8}), temporary=5e-10, transient=1.0)])
    inside = half.replace(auctions=[Auction(times[-1], pd.Series({"A": 1e8}), temporary=5e-10)])
    assert half.solve().costs["total"] > inside.solve().costs["total"]


def test_permanent_impact_counts_in_an_auction_and_no_risk_passes_over_it(make: Maker) -> None:
    times = make(slices=3).times
    lasting = ImpactModel(("A",), np.array([0.0]), np.array([[[2e-9]]]), "exponential", 60.0)
    call = Auction(times[-1], pd.Series({"A": 1e9}), temporary=1e-9)
    problem = plain(make, {"A": 3e6}, slices=3, model=lasting, auctions=[call])
    rng = np.random.default_rng(0)
    u = 1e6 * rng.normal(size=(3, 1))
    costs = problem.score(problem.frame(u))
    assert costs["impact_self"] == pytest.approx(0.5 * 2e-9 * float(u.sum()) ** 2, rel=1e-12)
    risky = problem.replace(covariance=pd.DataFrame([[1e-9]], ["A"], ["A"]), risk_aversion=1e-6)
    left = 3e6 - np.cumsum(u[:, 0])
    expected = 1e-6 * 1e-9 * 900.0 * float(left[0] ** 2 + left[1] ** 2)
    assert risky.score(problem.frame(u))["risk"] == pytest.approx(expected, rel=1e-12)


def test_an_opening_auction_may_stand_just_before_the_book(make: Maker) -> None:
    book = make(slices=3)
    times = book.times.insert(0, book.times[0] - pd.Timedelta(1, unit="s"))
    problem = make(
        slices=3,
        volume=None if book.volume is None else book.volume,
        times=times,
        auctions=[Auction(times[0], pd.Series({"IBM": 1e8, "BAC": 1e8, "AIG": 0.0}))],
        participation=0.5,
    )
    schedule = problem.solve()
    assert schedule.trades["AIG"].iloc[0] == 0.0  # no volume in the call, no trade in it
    assert schedule.trades["IBM"].iloc[0] > 0.0
    assert problem.breaches(schedule.trades).empty


# refusals ------------------------------------------------------------------------------------------------------------

X = pd.DataFrame({"value": [1.0, 0.5, 0.2]}, NAMES)
CALL = pd.Series({"IBM": 1e8, "BAC": 1e8, "AIG": 1e8})
NOON = pd.Timestamp("2024-03-04 14:30", tz="UTC")
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"hedges": ["IBM"]}, "hedges"),
    ({"hedges": "ES"}, "hedges"),
    ({"hedges": ["ES"]}, "model"),
    ({"hedge_target": pd.Series({"ES": 0.0})}, "hedge_target"),
    ({"volume_sd": 0.2}, "volume_quantile"),
    ({"volume_quantile": 0.1}, "volume_quantile"),
    ({"volume_quantile": 1.0, "volume_sd": 0.2}, "volume_quantile"),
    ({"volume_quantile": 0.1, "volume_sd": -0.2}, "volume_sd"),
    ({"volume_quantile": 0.1, "volume_sd": pd.Series({"IBM": 0.1})}, "volume_sd"),
    ({"three_halves": -1e-8}, "three_halves"),
    ({"three_halves": np.nan}, "three_halves"),
    ({"drift": pd.Series({"IBM": 1e-7})}, "drift"),
    ({"drift": pd.Series({"IBM": np.nan, "BAC": 0.0, "AIG": 0.0})}, "drift"),
    ({"drift": 1e-7}, "drift"),
    ({"drift_half_life_s": 600.0}, "drift_half_life_s"),
    ({"drift": pd.Series(0.0, NAMES), "drift_half_life_s": 0.0}, "drift_half_life_s"),
    ({"urgency": -1.0}, "urgency"),
    ({"urgency": 1e-6, "covariance": None, "risk_aversion": 0.0, "temporary": 0.0}, "covariance"),
    ({"beta_band": 1e6}, "beta"),
    ({"beta": pd.Series({"IBM": 1.0}), "beta_band": 1e6}, "beta"),
    ({"beta": pd.Series(1.0, NAMES), "beta_band": -1.0}, "beta_band"),
    ({"factor_band": 1e6}, "factor_exposures"),
    ({"factor_exposures": X.iloc[:2], "factor_band": 1e6}, "factor_exposures"),
    ({"factor_exposures": X, "factor_band": -1e6}, "factor_band"),
    ({"factor_exposures": X, "factor_band": pd.Series({"size": 1e6})}, "factor_band"),
    ({"factor_exposures": X, "factor_band": pd.DataFrame({"lower": [1.0], "upper": [0.0]}, ["value"])}, "factor_band"),
    ({"factor_exposures": X, "factor_band": pd.Series({"value": np.nan})}, "factor_band"),
    ({"auctions": ["close"]}, "auctions"),
    ({"auctions": [Auction(NOON + pd.Timedelta(1, unit="s"), CALL)]}, "auctions"),
    ({"auctions": [Auction(NOON, CALL), Auction(NOON, CALL)]}, "auctions"),
    ({"auctions": [Auction(NOON, CALL.iloc[:2])]}, "auction.volume"),
    ({"auctions": [Auction(NOON, -CALL)]}, "auction.volume"),
    ({"covariance": FactorRisk(np.zeros((2, 1)), np.ones(2))}, "covariance"),
    ({"covariance": (X, pd.DataFrame([[-1.0]], ["value"], ["value"]), pd.Series(1.0, NAMES))}, "covariance"),
    ({"covariance": FactorCovariance(X.iloc[:2], X.iloc[:1].T @ X.iloc[:1], pd.Series(1.0, NAMES))}, "covariance"),
    ({"max_change": -1.0}, "max_change"),
    ({"cash_band": -1.0}, "cash_band"),
    ({"model": FactorImpact(("IBM", "BAC"), np.array([0.1]), np.ones((1, 2)), (np.zeros((2, 0)),))}, "model"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=[f"{i}-{f}" for i, (_, f) in enumerate(REFUSED)])
def test_bad_options_name_their_field_and_a_remedy(make: Maker, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        make(**changes)
    assert str(refusal.value.field).startswith(field)
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"time": pd.Timestamp("2024-03-04 14:30"), "volume": CALL}, "auction.time"),
        ({"time": NOON, "volume": 1e8}, "auction.volume"),
        ({"time": NOON, "volume": CALL, "participation": 1.5}, "auction.participation"),
        ({"time": NOON, "volume": CALL, "transient": -0.1}, "auction.transient"),
    ],
)
def test_bad_auctions(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Auction(**arguments)
    assert refusal.value.field == field


def test_bad_factor_impact() -> None:
    good = {"names": ("A", "B"), "rates_per_s": np.array([0.1]), "own": np.ones((1, 2)), "loadings": (np.ones((2, 1)),)}
    for change, field in (
        ({"names": ("A", "A")}, "names"),
        ({"own": -np.ones((1, 2))}, "own"),
        ({"own": np.ones((2, 2))}, "loadings"),
        ({"rates_per_s": np.array([-0.1])}, "rates_per_s"),
        ({"loadings": (np.full((2, 1), np.nan),)}, "loadings"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            FactorImpact(**(good | change))  # type: ignore[arg-type]
        assert refusal.value.field == field


EDGES = pd.DataFrame({"lower": [1e6], "upper": [2e6]}, ["value"])  # nothing remains at the end
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"beta": pd.Series(1.0, NAMES), "beta_band": 1e5, "max_change": 2e5}, "beta band"),
    ({"factor_exposures": X, "factor_band": EDGES}, "factor band"),
    ({"participation": 0.05, "volume_sd": 1.5, "volume_quantile": 0.02}, "participation"),
]


@pytest.mark.parametrize(("changes", "limit"), IMPOSSIBLE, ids=[name for _, name in IMPOSSIBLE])
def test_impossible_limits_are_named_with_the_smallest_relaxation(
    make: Maker, changes: dict[str, Any], limit: str
) -> None:
    with pytest.raises(InfeasibleProblem, match=limit) as refusal:
        make(**changes).solve()
    assert "smallest relaxation" in str(refusal.value)


def test_an_order_above_the_volume_of_the_day_is_refused_whatever_the_limits(make: Maker) -> None:
    with pytest.raises(InvalidInput, match="inventory: larger than the forecast volume"):
        make({"IBM": 5e9}, participation=None).solve()
    with pytest.raises(InfeasibleProblem, match="larger than the forecast volume"):
        make({"IBM": 5e9}).solve()


def test_a_name_without_volume_is_named(make: Maker) -> None:
    volume = make().volume
    assert volume is not None
    volume["BAC"] = 0.0
    with pytest.raises(InfeasibleProblem, match="BAC") as refusal:
        make(volume=volume).solve()
    assert refusal.value.remedy


def test_every_error_is_ours(make: Maker) -> None:
    # Options that exclude each other end in a typed error as well, never in a traceback of numpy or scipy.
    for changes in ({"covariance": 3.0}, {"volume": 1e8}, {"sectors": "tech", "sector_cap": 1e6}, {"temporary": "x"}):
        with pytest.raises(CrosswindError):
            make(**changes)
