"""Intraday profiles: planted shapes come back, days under way revise, half days and silent days are whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features import IntradayProfile, profile_errors
from crosswind.problems.market.features.profiles import fold, session_values
from crosswind.solvers.errors import DataGap, InvalidInput


def market(volumes: list[np.ndarray], minutes: float = 30.0) -> MarketEvents:
    """Return a market of one or more names with these volumes (K_d, N) on consecutive days, opening 14:30 UTC."""
    names = [f"N{j}" for j in range(volumes[0].shape[1])]
    ends = [
        pd.date_range(f"2024-03-{4 + d} 14:30", periods=len(v) + 1, freq=f"{minutes:g}min", tz="UTC")[1:]
        for d, v in enumerate(volumes)
    ]
    index = ends[0].append(ends[1:]) if len(ends) > 1 else ends[0]
    volume = pd.DataFrame(np.vstack(volumes), index=index, columns=names)
    flat = volume * 0.0
    return MarketEvents(flat, flat + 100.0, flat + 0.01, volume, flat + 1.0, 60.0 * minutes, "America/New_York")


SHAPE = np.array([4.0, 2, 1, 1, 1, 2, 3])[:, None]


def plain(**options: object) -> IntradayProfile:
    return IntradayProfile(smooth_s=0.0, **options)  # type: ignore[arg-type]


def test_a_planted_profile_comes_back() -> None:
    model = plain().fit(market([SHAPE * k for k in (1.0, 2.0, 1.5)]))
    assert model.shape_["N0"].to_numpy() == pytest.approx(SHAPE[:, 0] / 14)
    ages = 0.5 ** (np.array([2, 1, 0]) / 10)
    assert model.level_["N0"] == pytest.approx(14 * (ages @ [1.0, 2.0, 1.5]) / ages.sum())
    # Days of one shape and other levels: the day under way is the best guide.
    assert model.weight_ == 0.01
    assert "3 sessions" in model.summary()


def test_the_day_under_way_revises_the_level() -> None:
    model = plain(weight=0.5).fit(market([SHAPE]))
    today = market([SHAPE, 3.0 * SHAPE]).on("2024-03-05")
    before = model.predict(today.index)
    assert before.total["N0"] == pytest.approx(14.0)
    after = model.predict(today.index, today.volume.iloc[:3])
    level = (0.5 * 14 + 21) / (0.5 + 0.5)  # half of the day is over: 7 of 14 shares
    assert after.level["N0"] == pytest.approx(level)
    assert after.mean["N0"].to_numpy() == pytest.approx(level * SHAPE[3:, 0] / 14)
    assert after.mean.index.equals(today.index[3:])
    done = model.predict(today.index, today.volume)
    assert len(done.mean) == 0
    assert done.total["N0"] == 0.0
    ahead = model.one_ahead(today.volume)
    assert ahead["N0"].iloc[3] == pytest.approx(after.mean["N0"].iloc[0])


def test_a_forecast_does_not_look_ahead() -> None:
    events = simulate(names=2, days=5, bucket_s=300.0, seed=2).events
    model = IntradayProfile().fit(events.on(events.days[:4]))
    today = events.on(events.days[4]).volume
    poisoned = today.copy()
    poisoned.iloc[30:] = 1e15
    a, b = model.one_ahead(today), model.one_ahead(poisoned)
    pd.testing.assert_frame_equal(a.iloc[:31], b.iloc[:31], check_exact=True)
    assert not a.iloc[31:].equals(b.iloc[31:])
    # Errors of earlier sessions do not change when a later one does.
    volume = events.volume.copy()
    volume.iloc[4 * 78 :] *= 50.0
    full, other = (
        profile_errors(events.on(events.days[:4])),
        profile_errors(replace(events, volume=volume).on(events.days[:4])),
    )
    pd.testing.assert_frame_equal(full.table, other.table, check_exact=True)


def test_bands_cover_about_what_they_say() -> None:
    events = simulate(names=4, days=16, bucket_s=300.0, seed=4, vol_regime_sd=0.0).events
    model = IntradayProfile(quantiles=(0.1, 0.9)).fit(events.on(events.days[:12]))
    inside, total = [], []
    for day in events.days[12:]:
        values = events.on(day).volume
        ahead = model.one_ahead(values)
        ratio = values / ahead
        inside.append(
            ((ratio >= model.ratio_quantiles_.loc[0.1]) & (ratio <= model.ratio_quantiles_.loc[0.9])).to_numpy()
        )
        rest = model.predict(values.index, values.iloc[:39])
        actual = values.iloc[39:].sum()
        total.append(((actual >= rest.total_lower) & (actual <= rest.total_upper)).to_numpy())
        assert (rest.lower < rest.mean).all(axis=None)
        assert (rest.mean < rest.upper).all(axis=None)
    assert 0.76 < np.mean(inside) < 0.84
    assert np.mean(total) > 0.5


def test_folding_keeps_open_and_close() -> None:
    assert fold(6, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert fold(6, 3).tolist() == [0, 4, 5]
    assert fold(3, 5).tolist() == [0, 1, 1, 1, 2]
    assert fold(1, 3).tolist() == [0, 0, 0]


def test_half_days_keep_open_and_close() -> None:
    half = SHAPE[fold(7, 4)]  # 4, 2, 2, 3
    model = plain().fit(market([SHAPE, half, SHAPE]))
    assert model.shape_["N0"].to_numpy() == pytest.approx(SHAPE[:, 0] / 14)
    assert model.level_["N0"] == pytest.approx(14.0)  # the half day says the same level
    assert model.shape(4)["N0"].sum() == pytest.approx(11 / 14)
    short = market([half]).index
    assert model.predict(short).total["N0"] == pytest.approx(11.0)
    assert len(model.shape(9)) == 9
    found = profile_errors(market([SHAPE, SHAPE, half]), plain(), slices=2)
    assert found.table.loc[("rest", "all"), "profile"] == pytest.approx(0.0, abs=1e-12)
    assert found.table.loc[("rest", "all"), "yesterday"] == pytest.approx(0.0, abs=1e-12)
    assert found.table.loc[("bucket", "all"), "flat"] > 0.2


def test_silent_days_are_left_out_and_counted() -> None:
    two = np.hstack([SHAPE, SHAPE])
    silent = two * [1.0, 0.0]
    model = plain().fit(market([two, silent, two]))
    assert model.silent_ == {"N0": 0, "N1": 1}
    assert model.level_["N1"] == pytest.approx(14.0)
    assert model.shape_["N1"].to_numpy() == pytest.approx(SHAPE[:, 0] / 14)
    with pytest.raises(DataGap, match="nothing was traded"):
        plain().fit(market([silent, silent]))
    quiet = plain(weight=1.0).fit(market([two])).predict(market([silent]).index, market([silent]).volume.iloc[:3])
    assert quiet.level.tolist() == pytest.approx([14.0, 14.0 / 1.5])
    assert np.isfinite(quiet.mean).all(axis=None)


def test_one_outlying_day_is_trimmed() -> None:
    odd = np.ones_like(SHAPE)
    odd[3] = 1e3
    days = [SHAPE * k for k in (1.0, 1.1, 0.9, 1.2)] + [odd]
    trimmed, mean = plain(trim=0.2).fit(market(days)), plain(trim=0.0).fit(market(days))
    want = SHAPE[:, 0] / 14
    assert np.abs(trimmed.shape_["N0"].to_numpy() - want).max() < 0.02
    assert np.abs(mean.shape_["N0"].to_numpy() - want).max() > 0.1


def test_smoothing_is_the_centred_mean() -> None:
    model = IntradayProfile(smooth_s=90 * 60.0, trim=0.0).fit(market([SHAPE]))
    v = SHAPE[:, 0]
    want = np.array([v[max(0, k - 1) : k + 2].mean() for k in range(7)])
    assert model.shape_["N0"].to_numpy() == pytest.approx(want / want.sum())


def test_variance_profile_skips_the_night() -> None:
    events = simulate(names=2, days=6, bucket_s=300.0, seed=6).events
    values = session_values(events, "variance")
    assert all((v.iloc[0] == 0.0).all() for v in values.values())
    model = IntradayProfile("variance").fit(events)
    day = events.returns.pow(2).groupby(events.session.to_numpy()).sum().mean()
    assert model.level_.to_numpy() == pytest.approx(day.to_numpy(), rel=0.1)
    ends, middle = model.shape_.iloc[[2, -2]].mean(), model.shape_.iloc[30:48].mean()
    assert (ends > 1.3 * middle).all()


def test_errors_rank_as_the_market_was_made() -> None:
    events = simulate(names=4, days=10, bucket_s=300.0, seed=3).events
    found = profile_errors(events, first_day=4)
    rows = found.table.xs("all", level="slice")
    assert found.sessions == 6
    assert list(rows.index) == ["bucket", "slice", "rest"]
    assert rows.loc["slice", "profile"] < 0.8 * rows.loc["slice", "flat"]
    assert rows.loc["slice", "profile"] < 0.9 * rows.loc["slice", "yesterday"]
    assert len(found.table) == 3 * 14
    assert "updated" in found.summary()
    assert found.bias.shape == found.table.shape


def test_errors_by_hand() -> None:
    found = profile_errors(market([SHAPE, 2.0 * SHAPE]), plain(weight=1.0), slices=1)
    assert found.table.loc[("rest", 0), "yesterday"] == pytest.approx(0.5)
    assert found.bias.loc[("rest", 0), "average"] == pytest.approx(-0.5)
    ahead = plain(weight=1.0).fit(market([SHAPE])).one_ahead(market([2.0 * SHAPE]).volume).to_numpy()
    want = np.abs(ahead - 2.0 * SHAPE).mean() / (2.0 * SHAPE).mean()
    assert found.table.loc[("bucket", 0), "updated"] == pytest.approx(want)


def test_parameters_are_kept_as_scikit_learn_does() -> None:
    model = IntradayProfile("variance", trim=0.2, weight=0.5)
    again = IntradayProfile(**model.get_params())
    assert again.get_params() == model.get_params()
    assert again.fit(simulate(days=1, bucket_s=300.0).events) is again


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"what": "spread"}, "what"),
        ({"trim": 0.5}, "trim"),
        ({"smooth_s": -1.0}, "smooth_s"),
        ({"smooth_s": np.nan}, "smooth_s"),
        ({"level_half_life_days": 0.0}, "level_half_life_days"),
        ({"weight": 0.0}, "weight"),
        ({"quantiles": (0.9, 0.1)}, "quantiles"),
    ],
)
def test_bad_options_are_typed(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        IntradayProfile(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_bad_observations_are_typed() -> None:
    events = market([SHAPE])
    model = plain()
    with pytest.raises(InvalidInput, match="not fitted"):
        model.predict(events.index)
    model.fit(events)
    with pytest.raises(InvalidInput, match="first buckets"):
        model.predict(events.index, events.volume.iloc[1:3])
    with pytest.raises(InvalidInput, match="other names"):
        model.predict(events.index, events.volume.rename(columns={"N0": "X"}))
    with pytest.raises(InvalidInput, match="NaN"):
        model.predict(events.index, events.volume.iloc[:2] * np.nan)
    with pytest.raises(InvalidInput, match="naive"):
        model.predict(events.index.tz_localize(None))
    with pytest.raises(InvalidInput, match="number of buckets"):
        model.shape(0)
    with pytest.raises(DataGap, match="too few sessions"):
        profile_errors(events)
    with pytest.raises(InvalidInput, match="more slices"):
        profile_errors(market([SHAPE, SHAPE]))
    with pytest.raises(InvalidInput, match="below 1"):
        profile_errors(events, first_day=0)
    with pytest.raises(InvalidInput, match="not MarketEvents"):
        model.fit(events.volume)  # type: ignore[arg-type]


def test_pictures_are_drawn() -> None:
    pytest.importorskip("plotly")
    events = market([SHAPE, SHAPE, SHAPE])
    model = plain().fit(events)
    forecast = model.predict(market([SHAPE]).index)
    assert len(forecast.plot().data) == 1
    assert set(forecast.to_frame().columns.levels[0]) == {"lower", "mean", "upper"}
    assert "to come" in forecast.summary()
    assert len(profile_errors(events, plain(), slices=2).plot().data) == 5
