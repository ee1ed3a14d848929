"""Square root and temporary/permanent laws: reference numbers, recovery within intervals, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.closed_forms import almgren_thum_impact
from crosswind.problems.impact.laws import AlmgrenLaw, SquareRootLaw
from crosswind.problems.impact.laws.least_squares import gauss_newton, two_sided_quantile
from crosswind.solvers.errors import DataGap, InvalidInput, SolverFailure


def parents(count: int, seed: int) -> pd.DataFrame:
    """Orders of 0.1 % to 30 % of the day in names of unlike turnover, without costs."""
    rng = np.random.default_rng(seed)
    volume = np.exp(rng.uniform(13, 17, count))
    share = np.exp(rng.uniform(np.log(1e-3), np.log(0.3), count))
    duration = np.exp(rng.uniform(np.log(0.05), np.log(0.8), count))
    return pd.DataFrame(
        {
            "size": rng.choice([-1, 1], count) * share * volume,
            "sigma": np.exp(rng.uniform(np.log(0.01), np.log(0.04), count)),
            "volume": volume,
            "duration": duration,
            "post": duration + rng.uniform(0.0, 0.2, count),
            "shares_outstanding": volume * np.exp(rng.uniform(np.log(40), np.log(600), count)),
        }
    )


def with_almgren(table: pd.DataFrame, truth: dict[str, float], rng: np.random.Generator) -> pd.DataFrame:
    """Costs by the law plus what a Brownian price adds: B at the later time, and the mean of B over the order."""
    T, P, sigma = (table[c].to_numpy() for c in ("duration", "post", "sigma"))
    rate = np.abs(table["size"].to_numpy()) / (table["volume"].to_numpy() * T)
    turn = (table["shares_outstanding"] / table["volume"]).to_numpy() ** truth["delta"]
    I = truth["gamma"] * sigma * T * rate ** truth["alpha"] * turn  # noqa: E741
    # (mean of B on [0, T], B_P): variances T/3 and P, covariance T/2.
    a, b, c = np.sqrt(P), 0.5 * T / np.sqrt(P), T / 3.0
    x, y = rng.standard_normal((2, len(T)))
    end, mean = a * x, b * x + np.sqrt(np.maximum(c - b**2, 0.0)) * y
    J = 0.5 * I + truth["eta"] * sigma * rate ** truth["beta"] + sigma * mean
    return table.assign(permanent=I + sigma * end, cost=J)


PUBLISHED = {"gamma": 0.314, "alpha": 1.0, "delta": 0.25, "eta": 0.142, "beta": 0.6}


# -- reference numbers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("volume", "shares", "sigma", "bps", "temporary", "realised"),
    [
        (6.561e6, 1728e6, 0.0157, 19.86, (22, 15, 8), (32, 25, 18)),
        (1.929e6, 168e6, 0.0226, 21.679, (32, 21, 12), (43, 32, 23)),
    ],
    ids=["IBM", "DRI"],
)
def test_the_published_law_gives_the_published_table(
    volume: float, shares: float, sigma: float, bps: float, temporary: tuple[int, ...], realised: tuple[int, ...]
) -> None:
    times = np.array([0.1, 0.2, 0.5])
    table = pd.DataFrame({"duration": times}).assign(
        size=-0.1 * volume, volume=volume, sigma=sigma, shares_outstanding=shares
    )
    found = AlmgrenLaw.published().predict(table) * 1e4
    np.testing.assert_allclose(found["permanent"], bps, atol=0.006)
    assert tuple(found["temporary"].round()) == temporary
    assert tuple(found["realised"].round()) == realised
    for t, row in zip(times, found.to_numpy() * 1e-4, strict=True):
        closed = almgren_thum_impact(0.1 * volume, volume, shares, sigma, t)
        np.testing.assert_allclose(row, [closed.permanent, closed.temporary, closed.realised], rtol=1e-14)
    assert round(shares / volume, 3) in (263.374, 87.092)


# -- recovery ---------------------------------------------------------------------------------------------------------
def test_all_five_parameters_lie_within_their_intervals() -> None:
    inside, total = 0, 0
    for seed in range(8):
        table = with_almgren(parents(6000, seed), PUBLISHED, np.random.default_rng(seed + 50))
        fit = AlmgrenLaw(alpha="fit", delta="fit", beta="fit").fit(table).result_
        for name, value in PUBLISHED.items():
            low, high = fit.interval(name)
            inside += low <= value <= high
            total += 1
        assert abs(fit["beta"] - 0.6) < 0.1
    assert inside >= 0.85 * total  # 95 % intervals, 40 of them


def test_fixed_exponents_sharpen_the_coefficients() -> None:
    table = with_almgren(parents(6000, 1), PUBLISHED, np.random.default_rng(2))
    free = AlmgrenLaw(alpha="fit", delta="fit", beta="fit").fit(table).result_
    fixed = AlmgrenLaw().fit(table).result_
    for name in ("gamma", "eta"):
        low, high = fixed.interval(name)
        assert low <= PUBLISHED[name] <= high
        assert high - low < free.interval(name)[1] - free.interval(name)[0]
    assert fixed.parameters["fixed"].to_dict() == {
        "gamma": False, "alpha": True, "delta": True, "eta": False, "beta": True,
    }  # fmt: skip
    assert np.isnan(fixed.interval("beta")).all()


def test_without_noise_the_parameters_are_exact() -> None:
    table = parents(200, 3)
    exact = AlmgrenLaw.published().predict(table)
    table = table.assign(permanent=exact["permanent"], cost=exact["realised"])
    fit = AlmgrenLaw(alpha="fit", delta="fit", beta="fit").fit(table)
    for name, value in PUBLISHED.items():
        assert fit.result_[name] == pytest.approx(value, rel=1e-8)
    assert fit.score(table) == pytest.approx(1.0)
    root = pd.DataFrame(table).assign(cost=0.9 * table["sigma"] * (table["size"].abs() / table["volume"]) ** 0.43)
    found = SquareRootLaw("fit").fit(root).result_
    assert found["Y"] == pytest.approx(0.9, rel=1e-8)
    assert found["delta"] == pytest.approx(0.43, rel=1e-8)


def test_the_weights_are_those_of_the_noise() -> None:
    """The weighted residuals have variance one in both equations when the price is Brownian."""
    table = with_almgren(parents(20_000, 5), PUBLISHED, np.random.default_rng(6))
    law = AlmgrenLaw().fit(table)
    left = table.assign(**law.predict(table).add_prefix("law_"))
    T, P, s = table["duration"], table["post"], table["sigma"]
    first = (left["permanent"] - left["law_permanent"]) / (s * np.sqrt(P))
    second = (left["cost"] - 0.5 * left["permanent"] - left["law_temporary"]) / (s * np.sqrt(T / 3 - T / 2 + P / 4))
    assert first.std() == pytest.approx(1.0, abs=0.03)
    assert second.std() == pytest.approx(1.0, abs=0.03)
    assert law.result_.noise == pytest.approx(1.0, abs=0.03)


def test_square_root_law_is_recovered() -> None:
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        table = parents(3000, seed)
        noise = table["sigma"] * np.sqrt(table["duration"] / 3.0) * rng.standard_normal(3000)
        share = table["size"].abs() / table["volume"]
        table = table.assign(cost=0.8 * table["sigma"] * share**0.5 + noise)
        fit = SquareRootLaw("fit").fit(table)
        for name, value in (("Y", 0.8), ("delta", 0.5)):
            low, high = fit.result_.interval(name)
            inside += low <= value <= high
        assert SquareRootLaw().fit(table).result_["Y"] == pytest.approx(0.8, rel=0.1)
        assert fit.score(table) == pytest.approx(fit.result_.r2)
    assert inside >= 34  # of 40 intervals at 95 %


def test_the_fit_is_the_least_squares_minimum() -> None:
    """Against scipy's general optimiser on the same weighted objective."""
    from scipy.optimize import minimize

    table = with_almgren(parents(500, 9), PUBLISHED, np.random.default_rng(9))
    fit = SquareRootLaw("fit").fit(table).result_
    share, y = table["size"].abs() / table["volume"], table["cost"] / table["sigma"]

    def loss(p: np.ndarray) -> float:
        return float(((y - p[0] * share ** p[1]) ** 2 / table["duration"]).sum())

    best = minimize(loss, [0.5, 0.6], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 5000})
    np.testing.assert_allclose([fit["Y"], fit["delta"]], best.x, rtol=1e-5)


def test_intervals_are_those_of_linear_least_squares_where_the_model_is_linear() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, 400)
    y = 3.0 * x + x * rng.standard_normal(400)

    def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta[0] * x - y, x[:, None]

    found = gauss_newton(residuals, [1.0], ["slope"])
    slope = x @ y / (x @ x)
    error = y - slope * x
    hc3 = (x**2 @ (error / (1.0 - x**2 / (x @ x))) ** 2) / (x @ x) ** 2
    np.testing.assert_allclose(found.theta, slope, rtol=1e-8)
    np.testing.assert_allclose(found.covariance, hc3, rtol=1e-7)
    assert found.dof == 399
    groups = np.repeat(np.arange(20), 20)
    clustered = gauss_newton(residuals, [1.0], ["slope"], clusters=groups)
    # For a linear model it is the jackknife itself, around the whole sample's estimate.
    without = np.array([x[groups != g] @ y[groups != g] / (x[groups != g] @ x[groups != g]) for g in range(20)])
    np.testing.assert_allclose(clustered.covariance, 19 / 20 * ((without - slope) ** 2).sum(), rtol=1e-6)
    assert clustered.dof == 19
    assert two_sided_quantile(0.95) == pytest.approx(1.959963985, abs=1e-8)
    assert two_sided_quantile(0.95, 10) == pytest.approx(2.228138852, abs=1e-8)


# -- conversion -------------------------------------------------------------------------------------------------------
def test_linear_laws_become_models_that_charge_what_the_law_says() -> None:
    table = parents(300, 4)
    share = table["size"].abs() / table["volume"]
    linear = SquareRootLaw(1.0).fit(table.assign(cost=0.5 * table["sigma"] * share))
    model = linear.to_impact_model({"AAA": 0.02, "BBB": 0.03}, {"AAA": 1e8, "BBB": 4e7})
    x = 2e6  # bought evenly: ½ K x² is cost × x
    np.testing.assert_allclose(0.5 * model.immediate[0, 0] * x**2, 0.5 * 0.02 * (x / 1e8) * x, rtol=1e-9)
    assert model.family == "exponential"
    assert len(model.modes()) == 1
    end = SquareRootLaw(1.0, target="impact").fit(table.assign(impact=0.5 * table["sigma"] * share))
    np.testing.assert_allclose(
        end.to_impact_model({"AAA": 0.02}, {"AAA": 1e8}).immediate[0, 0], 0.5 * 0.02 / 1e8, rtol=1e-9
    )


def test_a_linear_almgren_law_charges_its_costs_through_the_program() -> None:
    from crosswind.optim.admissibility import kernel_cost

    table = with_almgren(parents(4000, 8), PUBLISHED | {"beta": 1.0}, np.random.default_rng(8))
    law = AlmgrenLaw(beta=1.0).fit(table)
    model = law.to_impact_model({"AAA": 0.02}, {"AAA": 1e8}, {"AAA": 2e10}, bucket_s=60.0)
    buckets = 39  # a tenth of the day
    order = pd.DataFrame({"size": [5e6], "sigma": 0.02, "volume": 1e8, "duration": 0.1, "shares_outstanding": 2e10})
    wanted = float(law.predict(order)["realised"].iloc[0]) * 5e6
    times = np.arange(buckets) * 60.0
    trades = np.full((buckets, 1), 5e6 / buckets)
    np.testing.assert_allclose(kernel_cost(model.kernel, times, trades), wanted, rtol=1e-9)
    assert model.admissible().admissible


def test_laws_that_are_not_linear_are_not_converted() -> None:
    sigma, volume = {"AAA": 0.02}, {"AAA": 1e8}
    table = with_almgren(parents(300, 4), PUBLISHED, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="not linear"):
        SquareRootLaw().fit(table).to_impact_model(sigma, volume)
    with pytest.raises(InvalidInput, match="beta"):
        AlmgrenLaw.published().to_impact_model(sigma, volume, {"AAA": 1e10})
    linear = SquareRootLaw(1.0).fit(table.assign(cost=-table["cost"].abs()))
    with pytest.raises(InvalidInput, match="finite and ≥ 0"):
        linear.to_impact_model(sigma, volume)
    with pytest.raises(DataGap, match="no volume"):
        SquareRootLaw(1.0).fit(table).to_impact_model(sigma, {})


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("column", "value"),
    [("size", 0.0), ("size", np.nan), ("sigma", 0.0), ("volume", -1.0), ("duration", np.inf), ("cost", np.nan),
     ("shares_outstanding", 0.0), ("permanent", np.inf), ("post", 0.0)],
)  # fmt: skip
def test_a_bad_row_is_named(column: str, value: float) -> None:
    table = with_almgren(parents(50, 0), PUBLISHED, np.random.default_rng(0))
    table.index = pd.Index([f"order{k}" for k in range(50)])
    table.loc["order7", column] = value
    with pytest.raises(InvalidInput, match="order7") as caught:
        AlmgrenLaw().fit(table)
    assert caught.value.field == f"orders.{column}"


@pytest.mark.parametrize("law", [SquareRootLaw(), AlmgrenLaw()], ids=["root", "almgren"])
def test_tables_that_are_none(law: Any) -> None:
    table = with_almgren(parents(50, 0), PUBLISHED, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="not a DataFrame"):
        law.fit([1, 2])
    with pytest.raises(DataGap, match=r"sigma: volatility of a day's return"):
        law.fit(table.drop(columns="sigma"))
    with pytest.raises(DataGap, match="at least 10"):
        law.fit(table.iloc[:9])
    with pytest.raises(InvalidInput, match="holds no numbers"):
        law.fit(table.assign(size="big"))
    with pytest.raises(InvalidInput, match="not fitted"):
        type(law)().predict(table)


def test_orders_that_do_not_identify_an_exponent_are_refused() -> None:
    table = with_almgren(parents(200, 0), PUBLISHED, np.random.default_rng(0))
    one_size = table.assign(size=table["volume"] * 0.1, cost=table["sigma"] * 0.3)
    with pytest.raises(InvalidInput, match="do not identify"):
        SquareRootLaw("fit").fit(one_size)
    exact = AlmgrenLaw.published().predict(table)
    exact_table = table.assign(permanent=exact["permanent"], cost=exact["realised"])
    with pytest.raises(InvalidInput, match="do not identify"):
        AlmgrenLaw(delta="fit").fit(exact_table.assign(shares_outstanding=100.0 * table["volume"]))
    with pytest.raises(InvalidInput, match="cost more"):
        SquareRootLaw("fit").fit(table.assign(cost=-table["sigma"] * 0.3))
    with pytest.raises(InvalidInput, match="move the price more"):
        AlmgrenLaw(alpha="fit").fit(exact_table.assign(permanent=-exact["permanent"]))
    with pytest.raises(SolverFailure, match="did not converge"):
        gauss_newton(lambda t: (np.exp(-t), -np.exp(-t)[:, None]), [0.0], ["t"], iterations=3, tol=1e-300)
    with pytest.raises(SolverFailure, match="not defined"):
        gauss_newton(lambda t: (np.array([np.inf]), np.ones((1, 1))), [0.0], ["t"])


@pytest.mark.parametrize(
    "law",
    [
        SquareRootLaw(exponent=0.0),
        SquareRootLaw(exponent="half"),
        SquareRootLaw(target="price"),
        SquareRootLaw(confidence=1.0),
        AlmgrenLaw(alpha=-1.0),
        AlmgrenLaw(beta="free"),
        AlmgrenLaw(confidence=0.0),
    ],
    ids=repr,
)
def test_bad_parameters(law: Any) -> None:
    table = with_almgren(parents(50, 0), PUBLISHED, np.random.default_rng(0))
    with pytest.raises(InvalidInput):
        law.fit(table)


def test_laws_behave_like_estimators_and_show_themselves() -> None:
    table = with_almgren(parents(400, 0), PUBLISHED, np.random.default_rng(0))
    for law in (SquareRootLaw("fit"), AlmgrenLaw(beta="fit")):
        again = type(law)(**law.get_params()).fit(table)
        law.fit(table)
        assert again.result_.parameters.equals(law.result_.parameters)
        assert law.set_params(confidence=0.5).confidence == 0.5
        with pytest.raises(InvalidInput, match="unknown parameter"):
            law.set_params(colour=1)
        assert len(law.result_.plot().data) == 2
        assert "95%" in law.result_.summary()
        assert "<pre>" in law.result_._repr_html_()
        assert law.result_.to_frame().equals(law.result_.parameters)
        assert law.result_.covariance.shape[0] == (~law.result_.parameters["fixed"]).sum()
    assert repr(SquareRootLaw("fit")) == "SquareRootLaw(exponent='fit')"
    assert "fixed" in AlmgrenLaw.published().result_.summary()
