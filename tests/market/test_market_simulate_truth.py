"""The truth handed out with simulated data is the truth of the data: kernel, moments, betas."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.optim.admissibility import check_admissible
from crosswind.optim.kernels import ExponentialKernel
from crosswind.problems.market import simulate
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.decompose import decompose
from crosswind.problems.market.simulator.flow import flow_autocovariance, flow_factor_covariance
from crosswind.problems.market.simulator.kernel import calibrate, kernel_correlations
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.prices import impact_regressors
from crosswind.problems.market.simulator.streams import ar1, lag_correlation, mixture
from crosswind.problems.market.simulator.universe import draw_universe, resolve_names

PER_DAY = 2340
# With a short regime half-life sixty days hold thousands of regimes, and sample moments are sharp.
SHARP = {"regime_half_life_s": 60.0}


@pytest.fixture(scope="module")
def long_market() -> MarketData:
    return simulate(names=6, sectors=2, days=60, bucket_s=30.0, seed=11, **SHARP)


def _by_session(values: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(values, len(values) // count)


@pytest.mark.parametrize("seed", range(4))
def test_kernel_matrices_are_admissible_and_bounded(seed: int) -> None:
    truth = simulate(names=12, sectors=3, days=1, bucket_s=300.0, seed=seed).truth
    for matrix in truth.matrices:
        assert np.array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > 0.0
        own = np.sqrt(np.diag(matrix))
        correlation = matrix / np.outer(own, own)
        assert np.abs(correlation - np.eye(12)).max() <= 0.6
        same = truth.sectors.to_numpy()[:, None] == truth.sectors.to_numpy()[None, :]
        within = correlation[same & ~np.eye(12, dtype=bool)]
        assert within.min() > correlation[~same].max()


def test_no_round_trip_pays() -> None:
    """The block Toeplitz matrix of G on round trips is positive semidefinite, built here without the library."""
    truth = simulate(names=4, sectors=2, days=1, bucket_s=300.0).truth
    steps = 12
    lags = 300.0 * np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    kernel = np.tensordot(np.exp(-lags[..., None] * truth.rates_per_s), truth.matrices, axes=1)
    cost = kernel.transpose(0, 2, 1, 3).reshape(4 * steps, 4 * steps)
    centre = np.kron(np.eye(steps) - 1.0 / steps, np.eye(4))
    eigenvalues = np.linalg.eigvalsh(centre @ cost @ centre)
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()


def test_admissible_by_the_library() -> None:
    truth = simulate(names=4, sectors=2, days=1, bucket_s=300.0).truth
    kernel = ExponentialKernel(truth.rates_per_s, truth.matrices)
    assert check_admissible(kernel, np.arange(10) * 60.0).admissible


def test_slow_mode_carries_more_cross_impact() -> None:
    parameters = SimulatorParameters()
    universe = draw_universe(6, 2, parameters, 0)
    fast, slow = kernel_correlations(universe, parameters, 0)
    off = ~np.eye(6, dtype=bool)
    assert np.allclose(slow[off] / fast[off], 1.2 / 0.8)
    (one,) = kernel_correlations(universe, SimulatorParameters(kernel_half_lives_s=(9.0,), kernel_weights=(1.0,)), 0)
    assert np.allclose(one[off], fast[off] / 0.8)


def test_regression_on_true_regressors_recovers_the_kernel() -> None:
    data = simulate(names=4, sectors=2, days=8, bucket_s=10.0, impact_r2=0.9, seed=2)
    truth, events = data.truth, data.events
    returns = (events.returns - decompose(data).factor).to_numpy()
    stacked = [impact_regressors(day, truth.rates_per_s, 10.0) for day in _by_session(events.flow.to_numpy(), PER_DAY)]
    design = np.concatenate([np.concatenate(list(block), axis=1) for block in stacked])
    inside = ~np.isnan(returns).any(axis=1)
    solution, *_ = np.linalg.lstsq(design[inside], returns[inside], rcond=None)
    estimate = solution.reshape(2, 4, 4).transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("mii,mjj->mij", truth.matrices, truth.matrices))
    assert np.abs((estimate - truth.matrices) / scale).max() < 0.1
    noise = returns[inside] - design[inside] @ solution
    inverse = np.diag(np.linalg.inv(design[inside].T @ design[inside])).reshape(2, 4, 1)
    error_sd = np.sqrt(inverse * noise.var(axis=0)).transpose(0, 2, 1)
    in_sd = (estimate - truth.matrices) / error_sd
    assert np.abs(in_sd).max() < 5.0
    assert 0.5 < np.sqrt((in_sd**2).mean()) < 2.0
    # The flow of one market is not the flow of another: the wrong regressors do not recover it.
    wrong, *_ = np.linalg.lstsq(design[inside][::-1], returns[inside], rcond=None)
    assert np.abs((wrong.reshape(2, 4, 4) - truth.matrices) / scale).max() > 0.5


@pytest.mark.parametrize("target", [0.0, 0.05, 0.12, 0.4])
def test_impact_explains_the_share_asked_for(target: float) -> None:
    data = simulate(names=4, sectors=2, days=40, bucket_s=60.0, impact_r2=target, seed=1)
    shares = decompose(data).shares()
    assert shares["impact"].mean() == pytest.approx(target, rel=0.1, abs=1e-15)
    if target == 0.0:
        assert not data.truth.matrices.any()


def test_covariance_is_that_of_bucket_returns(long_market: MarketData) -> None:
    truth = long_market.truth
    sample = long_market.events.returns.cov().to_numpy() / 30.0
    own = np.sqrt(np.diag(truth.covariance))
    assert np.abs((sample - truth.covariance) / np.outer(own, own)).max() < 0.04
    fundamental = np.asarray(truth.parameters["fundamental_covariance_per_s"])
    assert np.linalg.eigvalsh(truth.covariance).min() > 0.0
    assert np.linalg.eigvalsh(truth.covariance - fundamental).min() > 0.0
    assert np.mean(1.0 - np.diag(fundamental) / np.diag(truth.covariance)) == pytest.approx(0.12, abs=1e-12)


def test_covariance_holds_with_endogenous_flow() -> None:
    data = simulate(names=4, sectors=2, days=60, bucket_s=30.0, flow_factor_corr=0.6, impact_r2=0.3, seed=4, **SHARP)
    sample = data.events.returns.cov().to_numpy() / 30.0
    own = np.sqrt(np.diag(data.truth.covariance))
    assert np.abs((sample - data.truth.covariance) / np.outer(own, own)).max() < 0.04
    flow, market = data.events.flow, data.events.factors["market"]
    assert flow.apply(lambda column: column.corr(market)).min() > 0.1
    exogenous = simulate(names=4, sectors=2, days=60, bucket_s=30.0, seed=4).events
    assert exogenous.flow.apply(lambda column: column.corr(exogenous.factors["market"])).abs().max() < 0.02


def test_betas_are_those_of_the_index(long_market: MarketData) -> None:
    truth = long_market.truth
    weights = np.asarray(truth.parameters["index_weights"])
    assert weights @ truth.betas.to_numpy() == pytest.approx(1.0)
    returns = long_market.events.returns.dropna().to_numpy()
    index = returns @ weights
    sample = (returns * index[:, None]).mean(axis=0) / (index**2).mean()
    assert np.abs(sample - truth.betas.to_numpy()).max() < 0.05


def test_flow_moments_match_their_closed_form(long_market: MarketData) -> None:
    truth, count = long_market.truth, 780
    volume = np.asarray(truth.parameters["names_adv"]) * 30.0 / 23400.0
    flow = long_market.events.flow.to_numpy() / volume
    lags = np.array([0.0, 1.0, 5.0, 20.0])
    expected = flow_autocovariance(SimulatorParameters(**SHARP), 30.0, count, lags)
    days = _by_session(flow, count)
    same = truth.sectors.to_numpy()[:, None] == truth.sectors.to_numpy()[None, :]
    masks = (np.eye(6, dtype=bool), same & ~np.eye(6, dtype=bool), ~same)
    for at, lag in enumerate(lags.astype(int)):
        moment = np.mean([day[: count - lag].T @ day[lag:] / (count - lag) for day in days], axis=0)
        for row, mask in enumerate(masks):
            assert moment[mask].mean() == pytest.approx(expected[row, at], abs=0.02)
    assert expected[0, 0] > 0.3
    assert expected[0, 3] > 0.01


def test_endogenous_moment_matches_simulation() -> None:
    parameters = {"flow_factor_corr": 0.8, "names": 3, "sectors": 1, "days": 60, "bucket_s": 60.0, "seed": 6} | SHARP
    data = simulate(**parameters)
    volume = np.asarray(data.truth.parameters["names_adv"]) * 60.0 / 23400.0
    market = data.events.factors["market"].to_numpy()
    sample = (data.events.flow.to_numpy() / volume * market[:, None]).mean() / (0.008 * np.sqrt(60.0 / 23400.0))
    assert sample == pytest.approx(flow_factor_covariance(SimulatorParameters(flow_factor_corr=0.8), 390), abs=0.02)
    assert flow_factor_covariance(SimulatorParameters(), 390) == 0.0


def test_first_bucket_length_does_not_matter_for_the_rates() -> None:
    coarse, fine = (calibrate(draw_universe(3, 1, p, 0), p, s, n, 0) for p, s, n in _two_clocks())
    assert np.array_equal(coarse.rates_per_s, fine.rates_per_s)
    assert np.allclose(coarse.fundamental, fine.fundamental, rtol=1e-12)


def _two_clocks() -> list[tuple[SimulatorParameters, float, int]]:
    return [(SimulatorParameters(), 60.0, 390), (SimulatorParameters(), 1.0, 23400)]


def test_ar1_and_mixture_are_stationary_with_the_stated_autocorrelation() -> None:
    generator = np.random.default_rng(0)
    paths = ar1(generator.standard_normal((20_000, 5)), 0.8)
    assert np.allclose(paths.var(axis=0), 1.0, atol=0.05)
    assert np.mean(paths[:, 0] * paths[:, 3]) == pytest.approx(0.8**3, abs=0.03)
    mixed, white = mixture(generator, 20_000, 4, (0.5, 0.9), (0.3, 0.2))
    expected = lag_correlation((0.5, 0.9), (0.3, 0.2), np.arange(4.0))
    assert expected.tolist() == pytest.approx([1.0, 0.33, 0.237, 0.1833])
    assert [np.mean(mixed[:, 0] * mixed[:, h]) for h in range(4)] == pytest.approx(expected.tolist(), abs=0.03)
    assert np.mean(mixed[:, 2] * white[:, 2]) == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_resolve_names_cuts_sectors_in_runs() -> None:
    names, labels, codes = resolve_names(5, 2)
    assert names[0] == "N01"
    assert labels == ("SEC1", "SEC2")
    assert codes.tolist() == [0, 0, 0, 1, 1]
