from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import (
    CrossImpact,
    Defactor,
    event_moments,
    make_dictionary,
    noise_edge,
    with_factors,
)
from crosswind.problems.impact.gram import Gram
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)
SECTORS = pd.Series({"AAA": "x", "BBB": "x", "CCC": "y", "DDD": "y", "EEE": "y", "FFF": "z"})
STYLES = pd.DataFrame({"size": [1.0, 0.5, -0.2, 0.0, 0.3, -1.0]}, index=list(SECTORS.index))
STAGES = {
    "given": Defactor(),
    "market": Defactor(market="equal"),
    "liquidity": Defactor(factors=False, market="liquidity"),
    "sectors": Defactor(market="equal", sectors=SECTORS),
    "dummies": Defactor(factors=False, sectors=SECTORS, sector_mode="dummies", styles=STYLES),
    "components": Defactor(factors=False, components=2),
    "purge": Defactor(market="equal", purge="equal"),
    "all": Defactor(market="equal", sectors=SECTORS, styles=STYLES, components=1, purge=2),
}


@pytest.fixture
def events(simulated):
    return simulated(names=6, rows=600, days=2, r2=0.3, factors=2)[0]


def rows_of(events):
    returns = events.returns.to_numpy()
    use = np.isfinite(returns).all(axis=1)
    return returns[use], events.factors.to_numpy()[use], events.flow.to_numpy()[use], use


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_moments_of_residuals_are_the_residuals_of_moments(events, stage: Defactor) -> None:
    """Acting on sums of products must be acting on rows: same fit, same moments of what is left."""
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = event_moments(events, dictionary)
    grams, fitted = moments.fold_grams(0, stage)
    left = stage.fit_transform(events)
    for name in ("Q", "L", "P"):
        np.testing.assert_allclose(getattr(stage.stage_, name), getattr(fitted, name), atol=1e-9)
    use = rows_of(events)[3]
    flow, returns = left.flow.to_numpy(), left.returns.to_numpy()
    assert np.array_equal(np.isfinite(returns).all(axis=1), use)
    Z = np.vstack([dictionary.regressors(flow[:300]), dictionary.regressors(flow[300:])])
    expected = Gram.of(Z[use], returns[use], flow[use])
    for name in ("ZZ", "rZ", "rr", "uu"):
        value = getattr(expected, name)
        np.testing.assert_allclose(getattr(grams.total, name), value, atol=1e-9 * np.abs(value).max())
    raw = rows_of(events)[0]
    np.testing.assert_allclose(grams.raw_return_cov, raw.T @ raw / len(raw), rtol=1e-9)


def test_residuals_are_orthogonal_to_what_was_taken_out(events) -> None:
    r, f, _, use = rows_of(events)
    left = Defactor(market="equal").fit_transform(events).returns.to_numpy()[use]
    for common in (*f.T, r.mean(axis=1)):
        assert np.abs(left.T @ common).max() < 1e-10 * np.linalg.norm(left) * np.linalg.norm(common)
    by_hand = np.linalg.lstsq(np.column_stack([f, r.mean(axis=1)]), r, rcond=None)[0]
    np.testing.assert_allclose(left, r - np.column_stack([f, r.mean(axis=1)]) @ by_hand, atol=1e-12)


def test_given_factors_alone_are_the_plain_two_stage_fit(events) -> None:
    plain = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(events)
    object_ = CrossImpact(half_lives_s=LIVES, ridge=1.0, defactor=Defactor()).fit(events)
    np.testing.assert_allclose(object_.loadings_.to_numpy(), plain.loadings_.to_numpy(), atol=1e-9)
    size = np.abs(plain.model_.matrices).max()
    np.testing.assert_allclose(object_.model_.matrices, plain.model_.matrices, atol=1e-6 * size)
    assert object_.score(events) == pytest.approx(plain.score(events), abs=1e-6)


def test_sector_means_and_exposures(events) -> None:
    use = rows_of(events)[3]
    fitted = Defactor(factors=False, sectors=SECTORS).fit_transform(events).returns.to_numpy()[use]
    r = rows_of(events)[0]
    mean = r[:, 2:5].mean(axis=1)
    beta = (r[:, 3] @ mean) / (mean @ mean)
    np.testing.assert_allclose(fitted[:, 3], r[:, 3] - beta * mean, atol=1e-12)
    np.testing.assert_allclose(fitted[:, 5], r[:, 5], atol=1e-15)  # the only name of its sector is left as it is
    dummies = Defactor(factors=False, sectors=SECTORS, sector_mode="dummies").fit_transform(events).returns
    np.testing.assert_allclose(dummies.to_numpy()[use][:, :2].sum(axis=1), 0.0, atol=1e-15)
    styled = Defactor(factors=False, styles=STYLES).fit_transform(events).returns.to_numpy()[use]
    np.testing.assert_allclose(styled @ STYLES.to_numpy(), 0.0, atol=1e-15)


def test_components_beyond_the_noise_are_counted_by_the_declared_rule() -> None:
    rng = np.random.default_rng(4)
    E, N = 4000, 30
    noise = rng.standard_normal((E, N))
    false = [noise_edge(np.corrcoef(rng.standard_normal((400, N)).T), 400) for _ in range(200)]
    assert np.mean(np.array(false) > 0) <= 0.05  # a correlation, its trace being fixed, spreads less than a covariance
    common = rng.standard_normal((E, 2)) @ np.vstack([np.ones(N), np.repeat([1.0, -1.0], 15)])
    assert noise_edge(np.corrcoef((noise + 0.5 * common).T), E) == 2
    assert noise_edge(np.eye(1), E) == 0
    assert noise_edge(np.ones((3, 3)), E) == 0  # one dimension alone is never taken out


def test_components_are_taken_off_the_correlation(build_events) -> None:
    rng = np.random.default_rng(6)
    common = rng.standard_normal((500, 1))
    size = np.array([1e-4, 3e-4, 1e-3, 2e-3])
    events = build_events(rng.standard_normal((500, 4)), (common + 0.2 * rng.standard_normal((500, 4))) * size)
    stage = Defactor(components="noise edge").fit(events).stage_
    assert stage.components == 1
    assert (stage.explained > 0.9).all()
    left = stage.transform(events).returns.dropna()
    assert np.abs(np.corrcoef((left / size).to_numpy().T)[np.triu_indices(4, 1)]).max() < 0.9
    assert "1 components" in stage.summary()
    assert stage.plot().data[0].y.min() > 0.9
    assert "explained" in stage.to_frame().columns


def test_a_purge_leaves_no_common_flow(build_events) -> None:
    rng = np.random.default_rng(7)
    common = rng.standard_normal((800, 1))
    flow = 1e6 * (common + 0.3 * rng.standard_normal((800, 4)))
    events = build_events(flow, 1e-4 * rng.standard_normal((800, 4)))
    for purge in ("equal", 1, "noise edge"):
        left = Defactor(purge=purge).fit_transform(events).flow.to_numpy()
        before, after = np.corrcoef(flow.T)[0, 1], np.corrcoef(left.T)
        assert before > 0.85
        assert np.abs(after[np.triu_indices(4, 1)]).max() < 0.6
    a = Defactor(purge="equal").fit(events).stage_
    use = np.isfinite(events.returns.to_numpy()).all(axis=1)
    mean = (flow / np.sqrt((flow[use] ** 2).sum(axis=0))).mean(axis=1)
    purged = a.purged_flow(flow)
    assert np.abs(purged[use].T @ mean[use]).max() < 1e-9 * np.linalg.norm(flow) * np.linalg.norm(mean)


def test_prediction_uses_the_flow_and_the_returns_of_the_fit(events) -> None:
    stage = Defactor(market="equal", purge=1)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, defactor=stage).fit(events)
    left = fit.stage_.transform(events)
    X = np.hstack(list(fit.model_.matrices))
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    by_hand = dictionary.regressors(left.flow.to_numpy()[:300]) @ X.T
    np.testing.assert_allclose(fit.predict(events).to_numpy()[:300], by_hand, rtol=1e-9, atol=1e-18)
    actual, forecast = left.returns.to_numpy(), fit.predict(events).to_numpy()
    use = np.isfinite(actual).all(axis=1)
    r2 = 1 - ((actual - forecast)[use] ** 2).sum(axis=0) / (actual[use] ** 2).sum(axis=0)
    np.testing.assert_allclose(fit.score_by_name(events).to_numpy(), r2, rtol=1e-9)
    assert fit.loadings_ is None


def test_one_day_is_cut_for_the_folds_of_a_cross_validation(events) -> None:
    day = events.on(events.days[0])
    fit = CrossImpact(half_lives_s=LIVES, ridge_grid=(0.3, 3.0), defactor=Defactor(market="equal")).fit(day)
    assert fit.cv_.shape == (2, 3)
    assert np.isfinite(fit.cv_.to_numpy()).all()
    assert len(fit.grams_.trains) == 3


def test_each_fold_fits_its_stage_on_its_own_training_rows(simulated) -> None:
    events, _ = simulated(names=4, rows=900, days=3, r2=0.3, factors=1)
    moments = event_moments(events, make_dictionary("exponential", 60.0, LIVES))
    grams, _ = moments.fold_grams(3, Defactor(components=1))
    for k, day in enumerate(events.days):
        others = [d for d in events.days if d != day]
        own = Defactor(components=1).fit(events.on(others))
        left = own.transform(events.on(day)).returns.dropna().to_numpy()
        np.testing.assert_allclose(grams.blocks[k].rr, left.T @ left, rtol=1e-8, atol=1e-12 * grams.blocks[k].rr.max())
        left = own.transform(events.on(others)).returns.dropna().to_numpy()
        np.testing.assert_allclose(grams.train(k).rr, left.T @ left, rtol=1e-8, atol=1e-12 * grams.train(k).rr.max())


def test_dead_and_collinear_columns_give_no_nan(build_events) -> None:
    rng = np.random.default_rng(8)
    flow, returns = rng.standard_normal((300, 5)), 1e-4 * rng.standard_normal((300, 5))
    flow[:, 1], returns[:, 1] = 0.0, 0.0
    twice = 1e-3 * np.repeat(rng.standard_normal((300, 1)), 2, axis=1)
    events = build_events(flow, returns, factors=twice)
    for stage in (Defactor(market="liquidity", components=1, purge=1), Defactor(purge="equal")):
        fitted = stage.fit(events).stage_
        assert all(np.isfinite(a).all() for a in (fitted.Q, fitted.L, fitted.P))
        assert np.isnan(fitted.explained["BBB"])
    with pytest.raises(InvalidInput, match="explains returns whole"):  # five names, three of them dimensions taken out
        Defactor(market="equal", components=3).fit(events)


def test_a_stage_that_leaves_nothing_is_refused(events) -> None:
    """A fund among the names and among the factors, or a market of one name: no silent fit of rounding."""
    own = events.returns[["CCC"]].fillna(0.0).rename(columns={"CCC": "fund"})
    with pytest.raises(InvalidInput, match=r"explains returns whole.*CCC"):
        Defactor().fit(with_factors(events, own))
    with pytest.raises(InvalidInput, match="AAA"):
        Defactor(market="equal").fit(events.select(["AAA"]))


def test_styles_given_as_series_become_factors(events) -> None:
    style = pd.DataFrame({"momentum": np.linspace(-1e-3, 1e-3, 600)}, index=events.index)
    more = with_factors(events, style)
    assert list(more.factors.columns) == ["f0", "f1", "momentum"]
    assert Defactor().fit(more).stage_.factor_loadings.shape == (6, 3)
    with pytest.raises(InvalidInput, match="there already"):
        with_factors(more, style)
    with pytest.raises(DataGap, match="1 buckets"):
        with_factors(events, style.iloc[1:])
    with pytest.raises(InvalidInput, match="naive"):
        with_factors(events, style.set_axis(style.index.tz_localize(None)))


def test_bad_stages_are_refused(events) -> None:
    for stage, word in (
        (Defactor(market="cap"), "market"),
        (Defactor(market=pd.Series(-1.0, index=SECTORS.index)), "market"),
        (Defactor(sectors=SECTORS, sector_mode="mean"), "sector_mode"),
        (Defactor(sectors=SECTORS.drop("FFF")), "sectors"),
        (Defactor(sectors=pd.concat([SECTORS, SECTORS])), "sectors"),
        (Defactor(sectors=SECTORS.where(SECTORS != "z")), "FFF"),
        (Defactor(styles=STYLES * np.nan), "styles"),
        (Defactor(styles=pd.concat([STYLES.add_suffix(k) for k in "abcdef"], axis=1)), "styles"),
        (Defactor(components=6), "components"),
        (Defactor(components="many"), "components"),
        (Defactor(purge=2.5), "purge"),
    ):
        with pytest.raises(InvalidInput, match=word):
            stage.fit(events)
    with pytest.raises(InvalidInput, match="not fitted"):
        Defactor().transform(events)
    with pytest.raises(InvalidInput, match="unknown parameter"):
        Defactor().set_params(factor=False)
    with pytest.raises(DataGap, match="too few"):
        Defactor().fit(events.on(events.days[0])._rows(np.arange(300) < 3))
    with pytest.raises(DataGap, match="other names"):
        Defactor().fit(events).stage_.residual_returns(events, ("AAA",))
    with pytest.raises(DataGap, match="other factors"):
        Defactor().fit(events).transform(with_factors(events, events.factors.add_prefix("g")))
    with pytest.raises(InvalidInput, match="defactor"):
        CrossImpact(half_lives_s=LIVES, ridge=1.0, defactor="market").fit(events)
    assert Defactor(market="equal").get_params()["market"] == "equal"
    assert repr(Defactor(sectors=SECTORS)).startswith("Defactor(factors=True, market=None, sectors=<Series>")
