from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    ImpactMoments,
    PowerFlow,
    StreamingGram,
    event_moments,
    event_parts,
    make_dictionary,
    merge_moments,
    stream_moments,
)
from crosswind.problems.impact.gram import accumulate
from crosswind.problems.impact.moments.sums import RowSums
from crosswind.solvers.errors import DataGap, InvalidInput

ARRAYS = ("ZZ", "rZ", "fZ", "rr", "fr", "ff", "uu")
LIVES = (120.0, 1200.0)
FAMILIES = {
    "exponential": {"half_lives_s": (0.2, 1.0, 7.0, 200.0, 30_000.0, float("inf"))},
    "instantaneous": {},
    "monotone": {"lags": (0, 3, 40)},
    "convex": {"lags": (0, 3, 40)},
}


def close(a, b, rtol=1e-12):
    for name in ARRAYS:
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(x, y, atol=rtol * max(np.abs(y).max(initial=0.0), 1e-300), rtol=0)


def same_bits(a: ImpactMoments, b: ImpactMoments) -> bool:
    pairs = zip(a.blocks, b.blocks, strict=True)
    return all(np.array_equal(getattr(x.sums, n), getattr(y.sums, n)) for x, y in pairs for n in ARRAYS)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_those_of_the_rows_of_regressors(family: str, share: float) -> None:
    """The identity behind the fast pass against Z'Z formed row by row, over tile edges and rows left out."""
    rng = np.random.default_rng(3)
    dictionary = make_dictionary(family, 1.0, **FAMILIES[family])
    u, r, f = rng.standard_normal((2500, 3)) + 0.4, rng.standard_normal((2500, 3)), rng.standard_normal((2500, 2))
    keep = rng.random(2500) >= share
    broken = np.where(keep[:, None], r, np.nan)
    one = RowSums(dictionary, 3, 2)
    cuts = [0, 3, 700, 701, 1800, 2500]
    for a, b in pairwise(cuts):
        one.add(u[a:b], broken[a:b], f[a:b], keep[a:b])
    found = one.take()
    Z, r, f, v = dictionary.regressors(u)[keep], r[keep], f[keep], u[keep]
    expected = {"ZZ": Z.T @ Z, "rZ": r.T @ Z, "fZ": f.T @ Z, "rr": r.T @ r, "fr": f.T @ r, "ff": f.T @ f, "uu": v.T @ v}
    assert found.rows == keep.sum()
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-12 * np.abs(value).max(), rtol=0)


def test_slow_decay_and_persistent_flow_lose_no_digits() -> None:
    """The identity divides by 1 − a²; the factor (1 − a)² before it must keep that from mattering."""
    dictionary = make_dictionary("exponential", 1.0, (1e6, 10.0))
    u = 1e6 * (1.0 + 0.1 * np.random.default_rng(0).standard_normal((3000, 2)))
    one = RowSums(dictionary, 2, 0)
    one.add(u, 1e-4 * u, np.zeros((3000, 0)), np.ones(3000, dtype=bool))
    Z = dictionary.regressors(u)
    np.testing.assert_allclose(one.take().ZZ, Z.T @ Z, rtol=1e-10)


@pytest.mark.parametrize("family", ["instantaneous", "exponential"])
def test_a_huge_flow_that_is_left_out_costs_no_digits(family: str) -> None:
    """Products of rows left out are taken off a run again; those of a wild outlier must not be added first."""
    dictionary = make_dictionary(family, 1.0, **FAMILIES[family])
    rng = np.random.default_rng(2)
    u, keep = rng.standard_normal((3000, 2)), np.ones(3000, dtype=bool)
    u[1500, 0], keep[1500] = 1e15, False
    one = RowSums(dictionary, 2, 0)
    one.add(u, np.zeros((3000, 2)), np.zeros((3000, 0)), keep)
    found, Z = one.take(), dictionary.regressors(u)[keep]
    np.testing.assert_allclose(found.uu, u[keep].T @ u[keep], rtol=1e-12)
    np.testing.assert_allclose(np.diag(found.ZZ), np.diag(Z.T @ Z), rtol=1e-9)


def test_any_cuts_give_the_moments_of_the_whole(simulated) -> None:
    events, _ = simulated(names=3, rows=900, days=3, r2=0.5, factors=2)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    whole = event_moments(events, dictionary)
    rng = np.random.default_rng(1)
    for _ in range(5):
        cuts = np.unique(np.concatenate([[0, 900], rng.choice(900, 8, replace=False)]))
        stream = StreamingGram(dictionary)
        for a, b in pairwise(cuts):
            keep = np.zeros(900, dtype=bool)
            keep[a:b] = True
            stream.update(events._rows(keep))
        parts = stream.moments()
        assert [b.sums.rows for b in parts.blocks] == [b.sums.rows for b in whole.blocks] == [299] * 3
        close(parts.total(), whole.total())
    assert whole.left_out == {"no return": 3}
    gram = accumulate(events, dictionary).total
    np.testing.assert_allclose(whole.total().ZZ, gram.ZZ, rtol=1e-10)
    np.testing.assert_allclose(whole.total().rZ, gram.rZ, rtol=1e-8, atol=1e-12 * np.abs(gram.rZ).max())


def test_looking_at_the_moments_midway_changes_nothing(simulated) -> None:
    events, _ = simulated(names=2, rows=200, days=1, r2=0.5)
    dictionary = make_dictionary("convex", 60.0, lags=(0, 5))
    stream = StreamingGram(dictionary)
    stream.update(events.between(events.index[0] - pd.Timedelta("1h"), events.index[77]))
    assert stream.moments().rows == 77
    stream.update(events.between(events.index[77], events.index[-1]))
    close(stream.moments().total(), event_moments(events, dictionary).total())
    assert len(stream.moments().blocks) == 1


def test_half_life_weights_are_those_of_the_days(simulated) -> None:
    events, _ = simulated(names=2, rows=400, days=4, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    plain = event_moments(events, dictionary)
    weighted = StreamingGram(dictionary, half_life_days=2.0).update(events).moments()
    w = 0.5 ** (np.array([3, 2, 1, 0]) / 2.0)
    total = weighted.total()
    np.testing.assert_allclose(total.ZZ, sum(x * b.sums.ZZ for x, b in zip(w, plain.blocks, strict=True)), rtol=1e-12)
    assert total.effective_rows == pytest.approx(99 * w.sum() ** 2 / (w**2).sum())
    assert plain.effective_rows == plain.rows == 396
    close(plain.with_half_life(2.0).total(), total)
    grams, _ = weighted.fold_grams(2)
    np.testing.assert_allclose(grams.total.S, total.ZZ / total.weight, rtol=1e-12)
    assert grams.total.rows == pytest.approx(total.effective_rows)
    assert sum(b.rows for b in grams.blocks) == pytest.approx(grams.total.rows)


@pytest.mark.parametrize("half_life", [None, 1.5])
def test_few_blocks_hold_the_same_total(simulated, half_life: float | None) -> None:
    events, _ = simulated(names=2, rows=600, days=6, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    stream = StreamingGram(dictionary, half_life_days=half_life, max_blocks=2)
    for day in events.days:
        stream.update(events.on(day))
        assert len(stream._blocks) <= 3
    few = stream.moments()
    assert len(few.blocks) == 2
    assert few.days == events.days
    close(few.total(), event_moments(events, dictionary).with_half_life(half_life).total())
    with pytest.raises(InvalidInput, match="joined"):
        few.with_half_life(9.0)


def test_merging_is_the_same_in_every_order_and_has_an_empty_element(simulated) -> None:
    events, _ = simulated(names=2, rows=400, days=4, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    a, b, c, d = (event_moments(events.on(day), dictionary) for day in events.days)
    none = replace(a, blocks=())
    one = ((a + b) + c) + d
    assert same_bits(one, d + (b + (c + a)))
    assert same_bits(one, pickle.loads(pickle.dumps(none + one)))
    assert same_bits(one, event_moments(events, dictionary))
    assert merge_moments([none]).rows == 0
    with pytest.raises(InvalidInput, match="two of the parts"):
        one + a


def test_parts_that_do_not_belong_together_are_refused(simulated) -> None:
    events, _ = simulated(names=2, rows=200, days=2, r2=0.5, factors=1)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    first, second = (events.on(day) for day in events.days)
    for other, word in (
        (replace(second, currency="EUR"), "currency"),
        (replace(second, tz="Europe/London"), "tz"),
        (replace(second, factors=None), "factors"),
    ):
        with pytest.raises(InvalidInput, match=word):
            StreamingGram(dictionary).update(first).update(other)
    euro = event_moments(replace(second, currency="EUR"), dictionary)
    with pytest.raises(InvalidInput, match="one currency"):
        event_moments(first, dictionary) + euro
    with pytest.raises(InvalidInput, match="dictionary"):
        event_moments(first, dictionary) + event_moments(second, make_dictionary("instantaneous", 60.0))
    with pytest.raises(InvalidInput, match="before the last"):
        StreamingGram(dictionary).update(second).update(first)
    with pytest.raises(InvalidInput, match="resample"):
        StreamingGram(make_dictionary("exponential", 30.0)).update(first)
    with pytest.raises(DataGap, match="ZZZ"):
        StreamingGram(dictionary, names=("ZZZ",)).update(first)
    with pytest.raises(InvalidInput, match="MarketEvents"):
        StreamingGram(dictionary).update(first.flow)
    with pytest.raises(DataGap, match="no events"):
        StreamingGram(dictionary).moments()
    for kwargs in ({"half_life_days": -1.0}, {"block_s": 1.0}, {"max_blocks": 0}):
        with pytest.raises(InvalidInput):
            StreamingGram(dictionary, **kwargs)


def test_products_beyond_floating_point_are_an_error_not_a_nan(build_events) -> None:
    flow = np.full((40, 2), 1e200)
    events = build_events(flow, np.full((40, 2), 1e-4))
    with pytest.raises(InvalidInput, match="beyond floating point"):
        StreamingGram(make_dictionary("instantaneous", 60.0)).update(events).moments()


def test_a_transform_of_flow_is_refused_before_anything_is_summed(simulated) -> None:
    events, _ = simulated(names=2, rows=40, days=1)
    dictionary = replace(make_dictionary("exponential", 60.0, LIVES), transform=PowerFlow(0.5, (1.0, 1.0)))
    with pytest.raises(InvalidInput, match="passes over the rows"):
        StreamingGram(dictionary).update(events)


def test_one_bucket_is_a_gap(build_events) -> None:
    moments = event_moments(build_events(np.ones((1, 2)), np.zeros((1, 2))), make_dictionary("instantaneous", 60.0))
    assert moments.rows == 0
    with pytest.raises(DataGap, match="no bucket"):
        CrossImpact("instantaneous", ridge=1.0).fit_moments(moments)


def test_workers_give_the_same_bits(simulated, tmp_path: Path) -> None:
    events, _ = simulated(names=3, rows=300, days=3, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    for k, day in enumerate(events.days):
        events.on(day).to_parquet(tmp_path / str(k))
    sources = [tmp_path / str(k) for k in range(3)]
    alone = stream_moments(sources, dictionary)
    assert same_bits(alone, stream_moments(sources, dictionary, workers=2))
    assert same_bits(alone, event_moments(events, dictionary))
    with pytest.raises(DataGap, match="absent"):
        stream_moments([*sources, tmp_path / "none"], dictionary)
    with pytest.raises(InvalidInput, match="at least 1"):
        stream_moments(sources, dictionary, workers=0)
    with pytest.raises(InvalidInput, match="at least one source"):
        stream_moments([], dictionary)


def test_dask_sums_by_day_to_the_same_bits(simulated) -> None:
    dask = pytest.importorskip("dask")
    events, _ = simulated(names=3, rows=300, days=3, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    tasks = [dask.delayed(event_moments)(events.on(day), dictionary) for day in events.days]
    found = dask.delayed(merge_moments)(tasks[::-1]).compute(scheduler="threads")
    assert same_bits(found, event_moments(events, dictionary))


def test_memory_does_not_grow_with_the_days(build_events) -> None:
    rng = np.random.default_rng(0)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    events = build_events(rng.standard_normal((1600, 20)), 1e-4 * rng.standard_normal((1600, 20)), days=16)
    parts = [events.on(day) for day in events.days]
    peaks = []
    for days in (4, 16):
        stream = StreamingGram(dictionary, max_blocks=2)
        tracemalloc.start()
        for part in parts[:days]:
            stream.update(part)
        stream.moments()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_folders_are_read_part_by_part(simulated, tmp_path: Path) -> None:
    events, _ = simulated(names=2, rows=300, days=2, r2=0.5, factors=1)
    folder = events.to_parquet(tmp_path / "events")
    parts = list(event_parts(folder, rows=47))
    assert max(len(p.index) for p in parts) == 47
    assert sum(len(p.index) for p in parts) == 300
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    close(stream_moments([lambda: iter(parts)], dictionary).total(), event_moments(events, dictionary).total())
    (folder / "mid.parquet").write_bytes(b"PAR1 damaged PAR1")
    with pytest.raises(DataGap):
        list(event_parts(folder))
    (folder / "mid.parquet").unlink()
    with pytest.raises(DataGap, match="absent"):
        list(event_parts(folder))


def test_saved_moments_come_back_to_the_bit_and_damage_is_refused(simulated, tmp_path: Path) -> None:
    events, _ = simulated(names=2, rows=200, days=2, r2=0.5, factors=1)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = StreamingGram(dictionary, half_life_days=3.0).update(events).moments()
    path = tmp_path / "moments.npz"
    moments.save(path)
    back = ImpactMoments.load(path)
    assert same_bits(moments, back)
    assert replace(back, blocks=()).__dict__ == replace(moments, blocks=()).__dict__
    assert [b.left_out for b in back.blocks] == [b.left_out for b in moments.blocks]
    with np.load(path) as held:
        content = dict(held)
    for name, value in (
        ("ZZ_0", np.full_like(content["ZZ_0"], np.nan)),
        ("uu_1", -content["uu_1"]),
        ("rZ_0", content["rZ_0"][:, :1]),
        ("meta", np.array("{}")),
    ):
        np.savez(tmp_path / "bad.npz", **(content | {name: value}))
        with pytest.raises(InvalidInput, match="does not hold impact moments"):
            ImpactMoments.load(tmp_path / "bad.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidInput, match="does not hold"):
        ImpactMoments.load(path)
    with pytest.raises(DataGap, match="no such file"):
        ImpactMoments.load(tmp_path / "none.npz")


@pytest.mark.parametrize("factors", [0, 2])
def test_a_fit_from_moments_is_the_fit_from_events(simulated, factors: int) -> None:
    events, _ = simulated(names=4, rows=800, days=4, r2=0.3, factors=factors)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = event_moments(events, dictionary)
    for estimator in (CrossImpact(half_lives_s=LIVES, ridge=1.0), DiagonalNNLS(half_lives_s=LIVES)):
        direct, later = estimator.fit(events).model_, estimator.fit_moments(moments).model_
        size = np.abs(direct.matrices).max()
        np.testing.assert_allclose(later.matrices, direct.matrices, atol=1e-7 * size)
        assert later.currency == "USD"
        assert estimator.rows_ == 796
        assert (estimator.loadings_ is None) == (factors == 0)
        assert np.isfinite(estimator.score(events))
    with pytest.raises(InvalidInput, match="other decay shapes"):
        CrossImpact(half_lives_s=(60.0, 1200.0)).fit_moments(moments)


def test_cross_validation_from_the_blocks(simulated) -> None:
    events, _ = simulated(names=3, rows=900, days=3, r2=0.3)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    fit = CrossImpact(half_lives_s=LIVES, folds=3, ridge_grid=(0.1, 10.0)).fit_moments(
        event_moments(events, dictionary)
    )
    assert fit.cv_.shape == (2, 3)
    assert np.isfinite(fit.cv_.to_numpy()).all()
    held = fit.grams_
    np.testing.assert_allclose(held.train(1).ZZ, held.total.ZZ - held.blocks[1].ZZ, rtol=1e-9)
    with pytest.raises(DataGap, match="4 folds need as many blocks"):
        CrossImpact(half_lives_s=LIVES, folds=4).fit_moments(event_moments(events, dictionary))


def test_folds_within_days_keep_a_guard_only_inside_the_session(simulated) -> None:
    events, _ = simulated(names=2, rows=800, days=2, r2=0.5)
    moments = StreamingGram(make_dictionary("exponential", 60.0, (120.0,)), block_s=1800.0).update(events).moments()
    assert len(moments.blocks) == 2 * 14
    grams, _ = moments.fold_grams(4)
    everything = sum(moments.total([b]).rows for b in moments.blocks)
    assert everything == 798
    for k in range(4):
        assert grams.train(k).rows + grams.blocks[k].rows + grams.guards[k].rows == 798
        assert 20 < grams.guards[k].rows <= 2 * 30
    assert moments.fold_grams(2)[0].guards[0].rows == 0  # the edge between the folds is the night


def test_names_and_days_are_chosen_without_reading_again(simulated) -> None:
    events, _ = simulated(names=4, rows=300, days=3, r2=0.5, factors=1)
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = event_moments(events, dictionary)
    some = ("CCC", "AAA")
    close(moments.select(some).total(), event_moments(events.select(some), dictionary).total())
    close(moments.on(events.days[1:]).total(), event_moments(events.on(events.days[1:]), dictionary).total())
    for names in ((), ("AAA", "AAA"), ("ZZZ",)):
        with pytest.raises(InvalidInput, match="names"):
            moments.select(names)
    with pytest.raises(DataGap, match="choose among"):
        moments.on([events.days[0].replace(year=1999)])


def test_dead_names_are_told_and_refused_by_the_fit(simulated) -> None:
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((200, 3)) * [1.0, 0.0, 1.0]
    events, _ = simulated(names=3, rows=200, days=1, r2=0.5, flow=1e6 * flow)
    moments = event_moments(events, make_dictionary("exponential", 60.0, LIVES))
    assert moments.dead_names == {"BBB": "no flow"}
    assert "BBB: no flow" in moments.summary()
    with pytest.raises(InvalidInput, match="BBB"):
        CrossImpact(half_lives_s=LIVES, ridge=1.0).fit_moments(moments)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit_moments(moments.select(("AAA", "CCC")))
    assert np.isfinite(fit.model_.matrices).all()


def test_tables_and_text_of_the_moments(simulated) -> None:
    events, _ = simulated(names=2, rows=200, days=2, r2=0.5)
    moments = event_moments(events, make_dictionary("exponential", 60.0, LIVES)).with_half_life(1.0)
    table = moments.to_frame()
    assert table["weight"].tolist() == [49.5, 99.0]
    assert table["left_out"].tolist() == [1, 1]
    assert "half-life 1 days" in moments.summary()
    assert len(moments.plot().data) == 2
    assert "<pre>" in moments._repr_html_()
