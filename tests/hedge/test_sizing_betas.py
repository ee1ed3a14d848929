"""Betas against formulas and simulation, shrinkage, what remains of a basket, proxies."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.hedge.sizing import blume, blume_coefficients, compare_proxies, estimate_betas, vasicek
from crosswind.problems.market import read
from crosswind.solvers.errors import DataGap, InvalidInput

TRUE = np.array([0.6, 0.9, 1.1, 1.5])


def drawn(seed, n=250, betas=TRUE, common=0.5):
    """Returns whose residuals share a factor, so that the errors of the betas are correlated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.01, n)
    e = 0.01 * (math.sqrt(common) * rng.normal(size=(n, 1)) + math.sqrt(1 - common) * rng.normal(size=(n, len(betas))))
    index = pd.date_range("2024-01-01", periods=n, freq="D", tz="UTC")
    names = [f"s{k}" for k in range(len(betas))]
    return pd.DataFrame(np.outer(x, betas) + e, index=index, columns=names), pd.Series(x, index=index)


def test_least_squares_by_the_normal_equations():
    y, x = drawn(0)
    fit = estimate_betas(y, x)
    design = np.column_stack([np.ones(len(x)), x])
    coef, rss, *_ = np.linalg.lstsq(design, y.to_numpy(), rcond=None)
    assert fit.beta.to_numpy() == pytest.approx(coef[1], rel=1e-10)
    s2 = rss / (len(x) - 2)
    assert fit.se.to_numpy() == pytest.approx(np.sqrt(s2 * np.linalg.inv(design.T @ design)[1, 1]), rel=1e-10)
    assert fit.residual_vol.to_numpy() == pytest.approx(np.sqrt(s2), rel=1e-10)
    assert list(fit.to_frame()) == ["beta", "se", "r2", "residual_vol"]
    assert "250 observations" in fit.summary()
    assert fit.r2.to_numpy() == pytest.approx([np.corrcoef(x, y[c])[0, 1] ** 2 for c in y], rel=1e-9)


def test_errors_of_a_basket_are_those_of_simulation():
    values = {"s0": 1e6, "s1": 1e6, "s2": -5e5, "s3": 2e5}
    truth = float(TRUE @ list(values.values()))
    draws = []
    for seed in range(600):
        exposure, se = estimate_betas(*drawn(seed, 120)).of_basket(values)
        draws.append(((exposure - truth) / se, se))
    z = np.array([d[0] for d in draws])
    assert abs(z.mean()) < 0.15
    assert z.std() == pytest.approx(1.0, abs=0.08)
    # Independent errors would be told far too small: the residuals share a factor.
    fit = estimate_betas(*drawn(0, 120))
    apart = 1e6 * math.sqrt(float((fit.se**2).sum()))
    assert fit.of_basket(dict.fromkeys(fit.beta.index, 1e6))[1] > 1.4 * apart


def test_weights_follow_a_beta_that_changes_and_errors_hold():
    changed = []
    for seed in range(200):
        early, x1 = drawn(seed, 300, TRUE)
        late, x2 = drawn(seed + 5_000, 300, TRUE + 0.5)
        late.index = x2.index = late.index + pd.Timedelta("300D")
        y, x = pd.concat([early, late]), pd.concat([x1, x2])
        slow, fast = estimate_betas(y, x), estimate_betas(y, x, half_life=40)
        changed.append([(slow.beta - TRUE - 0.5).abs().mean(), (fast.beta - TRUE - 0.5).abs().mean()])
        assert fast.count < 130
    assert np.mean(changed, axis=0)[1] < 0.6 * np.mean(changed, axis=0)[0]
    z = []
    for seed in range(400):
        fit = estimate_betas(*drawn(seed, 400), half_life=60)
        z.append((fit.beta.to_numpy() - TRUE) / fit.se.to_numpy())
    assert np.std(z) == pytest.approx(1.0, abs=0.1)


def test_vasicek_is_the_posterior_and_beats_least_squares():
    fit = estimate_betas(*drawn(1, 60))
    shrunk = vasicek(fit, 1.0, 0.3)
    se2 = fit.se.to_numpy() ** 2
    assert shrunk.beta.to_numpy() == pytest.approx(
        (1.0 / 0.09 + fit.beta.to_numpy() / se2) / (1 / 0.09 + 1 / se2), rel=1e-12
    )
    assert shrunk.se.to_numpy() == pytest.approx(1 / np.sqrt(1 / 0.09 + 1 / se2), rel=1e-12)
    assert vasicek(fit, 1.0, 0.0).beta.to_numpy() == pytest.approx(1.0)
    assert vasicek(fit, 1.0, 1e9).beta.to_numpy() == pytest.approx(fit.beta.to_numpy(), rel=1e-9)
    # Without a prior given: mean of the lines, and the variance of estimates less their mean squared error.
    own = max(fit.beta.var() - se2.mean(), 0.0)
    k = own / (own + se2)
    assert own > 0.0
    assert vasicek(fit).beta.to_numpy() == pytest.approx(k * fit.beta + (1 - k) * fit.beta.mean(), rel=1e-12)
    raw, ours = [], []
    for seed in range(60):
        truth = np.random.default_rng(seed).normal(1.0, 0.2, 40)
        fit = estimate_betas(*drawn(seed + 1_000, 40, truth, common=0.0))
        raw.append(np.mean((fit.beta - truth) ** 2))
        ours.append(np.mean((vasicek(fit).beta - truth) ** 2))
    assert np.mean(ours) < 0.8 * np.mean(raw)


def test_blume_by_hand_and_fitted():
    fit = estimate_betas(*drawn(2))
    assert blume(fit).beta.to_numpy() == pytest.approx(1 / 3 + 2 / 3 * fit.beta.to_numpy())
    assert blume(fit, 0.1, 0.5).se.to_numpy() == pytest.approx(0.5 * fit.se.to_numpy())
    later = blume(fit, 0.2, 0.7)
    assert blume_coefficients(fit, later) == pytest.approx((0.2, 0.7))


def test_the_beta_of_what_remains():
    """Selling the high betas first: a beta fixed at the start over-hedges what remains."""
    fit = estimate_betas(*drawn(3))
    times = pd.date_range("2024-06-03 14:30", periods=4, freq="min", tz="UTC")
    left = pd.DataFrame({"s0": [1e6, 1e6, 1e6, 0], "s3": [1e6, 5e5, 0, 0], "s1": [0.0] * 4}, index=times)
    table = fit.of_remaining(left)
    assert table["exposure"].to_numpy() == pytest.approx(
        left["s0"].to_numpy() * fit.beta["s0"] + left["s3"].to_numpy() * fit.beta["s3"]
    )
    assert table["se"].iloc[2] == pytest.approx(1e6 * fit.se["s0"])
    assert table["beta"].iloc[2] == pytest.approx(fit.beta["s0"])
    assert np.isnan(table["beta"].iloc[3])
    assert table["static"].iloc[0] == pytest.approx(table["exposure"].iloc[0])
    assert table["static"].iloc[2] > 1.3 * table["exposure"].iloc[2]
    with pytest.raises(DataGap, match="other"):
        fit.of_remaining(left.rename(columns={"s0": "other"}))
    with pytest.raises(DataGap, match="other"):
        fit.of_basket({"other": 1.0})
    with pytest.raises(InvalidInput, match="not finite"):
        fit.of_remaining(left * np.nan)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda y, x: (y.tz_localize(None), x), "naive"),
        (lambda y, x: (y, x.iloc[1:]), "times differ"),
        (lambda y, x: (y * np.nan, x), "not finite"),
        (lambda y, x: (y, x * 0.0), "does not move"),
        (lambda y, x: (y.iloc[:3], x.iloc[:3]), "too few"),
        (lambda y, x: (y.set_axis(["a"] * 4, axis=1), x), "occurs twice"),
    ],
)
def test_bad_returns_are_refused(change, match):
    with pytest.raises(InvalidInput, match=match):
        estimate_betas(*change(*drawn(0)))


def test_priors_are_refused():
    fit = estimate_betas(*drawn(0))
    with pytest.raises(InvalidInput, match="at least 0"):
        vasicek(fit, 1.0, -1.0)
    two = estimate_betas(drawn(0)[0][["s0", "s1"]], drawn(0)[1])
    with pytest.raises(InvalidInput, match="too few lines"):
        vasicek(two)
    with pytest.raises(InvalidInput, match="too few common"):
        blume_coefficients(two, fit)
    with pytest.raises(InvalidInput, match="all betas are equal"):
        blume_coefficients(vasicek(fit, 1.0, 0.0), fit)
    with pytest.raises(InvalidInput, match="half_life"):
        estimate_betas(*drawn(0), half_life=0.0)


# proxies -------------------------------------------------------------------------------------------------------------


def test_the_better_proxy_comes_first_and_a_break_is_told():
    y, x = drawn(4, 400)
    rng = np.random.default_rng(9)
    noise = pd.Series(rng.normal(0, 0.01, 400), index=x.index)
    broken = x.where(np.arange(400) < 340, noise)
    report = compare_proxies(y["s3"], pd.DataFrame({"broken": broken, "index": x, "noise": noise}), window=60)
    table = report.table
    assert report.best == "index"
    assert table.index[0] == "index"
    assert table["broken"].to_dict() == {"index": False, "broken": True, "noise": False}
    assert table.loc["index", "r2"] == pytest.approx(np.corrcoef(x, y["s3"])[0, 1] ** 2)
    assert table.loc["index", "beta"] == pytest.approx(estimate_betas(y, x).beta["s3"])
    words = " ".join(report.warnings())
    assert "broken: correlation fell" in words
    assert "noise: explains" in words
    assert "rely on it less" in report.summary()
    # Against a negative relation: an inverse proxy that holds is as good, and one that weakens is broken too.
    turned = compare_proxies(y["s3"], pd.DataFrame({"a": -x, "b": -broken}), window=60).table
    assert turned["broken"].to_dict() == {"a": False, "b": True}


def test_quiet_relations_are_rarely_called_broken():
    alarms = 0
    for seed in range(200):
        y, x = drawn(seed, 300)
        alarms += bool(compare_proxies(y["s1"], x.to_frame("x"), window=60).table["broken"].iloc[0])
    assert alarms == 0


def test_a_still_proxy_hedges_nothing_and_bad_windows_are_refused():
    y, x = drawn(5)
    with pytest.raises(InvalidInput, match="does not move"):
        compare_proxies(y["s0"], (x * 0.0).to_frame("x"))
    with pytest.raises(InvalidInput, match="window"):
        compare_proxies(y["s0"], x.to_frame("x"), window=200)
    with pytest.raises(InvalidInput, match="times differ"):
        compare_proxies(y["s0"].iloc[1:], x.to_frame("x"))
    stopped = x.where(np.arange(250) < 190, 0.0)
    assert compare_proxies(y["s0"], stopped.to_frame("x")).table["recent"].iloc[0] == 0.0


@pytest.mark.data
def test_recorded_coins_are_partial_proxies_of_each_other(perp_dir):
    market = read(f"perp:{perp_dir}", names=["SOL", "BNB"])
    close = pd.concat({c: market.bars[f"{c}.perp"].frame["close"] for c in ("SOL", "BNB")}, axis=1, join="inner")
    daily = close.loc["2024"].resample("1D").last().pct_change().dropna()
    report = compare_proxies(daily["SOL"], daily[["BNB"]])
    row = report.table.loc["BNB"]
    assert 0.2 < row["r2"] < 0.9
    assert row["residual_vol"] < daily["SOL"].std()
