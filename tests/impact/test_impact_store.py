"""The versioned model store: lineage, states, age, integrity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, ImpactModel
from crosswind.problems.impact.store import (
    ModelCorrupted,
    ModelStore,
    StaleModel,
    events_digest,
    model_diff,
)
from crosswind.solvers.errors import DataGap, InvalidInput

NOW = pd.Timestamp("2024-03-06 12:00", tz="UTC")
PLACE = ("equity", "calm")


def model(scale: float = 1.0, names: tuple[str, ...] = ("AAA", "BBB"), cross: float = 0.3) -> ImpactModel:
    C = np.full((len(names), len(names)), cross) + (1.0 - cross) * np.eye(len(names))
    return ImpactModel(names, np.array([0.0, 0.01]), scale * 1e-9 * np.stack([C, 2.0 * C]))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", clock=lambda: NOW)


def same(a: ImpactModel, b: ImpactModel) -> bool:
    return a.names == b.names and a.matrices.tobytes() == b.matrices.tobytes() and a.family == b.family


# -- lineage ----------------------------------------------------------------------------------------------------------
def test_a_fit_is_stored_with_all_that_tells_where_it_came_from(store: ModelStore, simulated: Any) -> None:
    events, _ = simulated(names=3, rows=300, r2=0.5)
    fit = CrossImpact(ridge=1.0, half_lives_s=(120.0, 1200.0)).fit(events)
    kept = store.put(fit, *PLACE, events, seed=7, note="first")
    assert (kept.version, kept.state, kept.parent, kept.seed, kept.note) == (1, "candidate", None, 7, "first")
    assert same(kept.model, fit.model_)
    assert kept.data_hash == events_digest(events)
    assert (kept.data_start, kept.data_end) == (events.index[0], events.index[-1])
    assert kept.age == NOW - events.index[-1]
    assert kept.estimator == "CrossImpact"
    assert kept.parameters["ridge"] == 1.0
    assert kept.parameters["half_lives_s"] == [120.0, 1200.0]
    assert kept.code_version.startswith("crosswind ")
    file = store.root / "equity/calm/versions/000001/model.npz"
    assert kept.model_hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "version 1 (candidate)" in kept.summary()
    assert kept.to_frame().loc["parameters.ridge", "value"] == 1.0
    # The parameters read back set up the same estimator.
    again = CrossImpact(**kept.parameters).fit(events)
    np.testing.assert_array_equal(again.model_.matrices, fit.model_.matrices)


def test_lineage_follows_the_live_version_by_default(store: ModelStore) -> None:
    store.put(model(1), *PLACE)
    store.promote(*PLACE, 1)
    store.put(model(2), *PLACE)
    store.promote(*PLACE, 2)
    store.put(model(3), *PLACE)
    store.put(model(4), *PLACE, parent=1)
    store.put(model(5), *PLACE, parent=None)
    assert [v.version for v in store.lineage(*PLACE, 3)] == [3, 2, 1]
    assert [v.version for v in store.lineage(*PLACE, 4)] == [4, 1]
    assert [v.version for v in store.lineage(*PLACE, 5)] == [5]
    with pytest.raises(DataGap, match="parent"):
        store.put(model(), *PLACE, parent=9)


def test_digest_of_events_sees_every_part(simulated: Any) -> None:
    from dataclasses import replace

    events, _ = simulated(names=2, rows=60, factors=1)
    base = events_digest(events)
    assert base == events_digest(replace(events))
    variants = [
        replace(events, currency="EUR"),
        replace(events, tz="UTC"),
        replace(events, factors=None),
        replace(events, mid=events.mid * (1 + 1e-15)),
        replace(events, depth=events.depth + 1e-9),
        replace(events, factors=events.factors.rename(columns={"f0": "g0"})),
        events.select(list(events.names)[::-1]),
        events.between(events.index[0], events.index[-1]),
    ]
    assert len({base, *map(events_digest, variants)}) == len(variants) + 1


def test_parameters_of_every_kind_are_written_or_refused(store: ModelStore) -> None:
    given = {
        "inf": float("inf"),
        "array": np.arange(2),
        "series": pd.Series({"AAA": "x"}),
        "frame": pd.DataFrame({"AAA": [1.0]}),
        "model": model(),
        "nested": {"a": (1, None)},
        "set": {"b", "a"},
        "time": NOW,
        "estimator": CrossImpact(ridge=2.0),
    }
    kept = store.put(model(), *PLACE, parameters=given).parameters
    assert kept["inf"] == "inf"
    assert kept["array"] == [0, 1]
    assert kept["series"] == {"AAA": "x"}
    assert kept["frame"] == {"AAA": {"0": 1.0}}
    assert kept["nested"] == {"a": [1, None]}
    assert kept["set"] == ["a", "b"]
    assert kept["time"] == NOW.isoformat()
    assert kept["estimator"]["CrossImpact"]["ridge"] == 2.0
    assert len(kept["model"]["ImpactModel"]) == 64
    with pytest.raises(InvalidInput, match=r"parameters\[f\]"):
        store.put(model(), *PLACE, parameters={"f": print})
    assert len(store.versions()) == 1  # nothing half-done


# -- states -----------------------------------------------------------------------------------------------------------
def test_one_version_is_live_and_rollback_goes_back_step_by_step(store: ModelStore) -> None:
    for k in (1, 2, 3):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k, reason=f"better {k}")
        assert store.latest(*PLACE).version == k
    assert store.versions()["state"].tolist() == ["retired", "retired", "live"]
    assert store.rollback(*PLACE, reason="worse").version == 2
    assert same(store.latest(*PLACE).model, model(2))
    assert store.rollback(*PLACE).version == 1
    with pytest.raises(InvalidInput, match="no earlier live"):
        store.rollback(*PLACE)
    assert store.latest(*PLACE).version == 1
    history = store.history(*PLACE)
    assert history["action"].tolist() == ["promote"] * 3 + ["rollback"] * 2
    assert history["live"].tolist() == [1, 2, 3, 2, 1]
    assert history["reason"].tolist() == ["better 1", "better 2", "better 3", "worse", ""]
    with pytest.raises(InvalidInput, match="is retired"):
        store.promote(*PLACE, 3)
    with pytest.raises(InvalidInput, match="is live"):
        store.promote(*PLACE, 1)


def test_a_withdrawn_version_is_never_rolled_back_to(store: ModelStore) -> None:
    for k in (1, 2, 3):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k)
    store.retire(*PLACE, 2)
    assert store.rollback(*PLACE).version == 1
    store.retire(*PLACE, 1)
    with pytest.raises(DataGap, match="no model is live"):
        store.latest(*PLACE)
    with pytest.raises(InvalidInput, match="retired already"):
        store.retire(*PLACE, 1)
    store.put(model(4), *PLACE)
    store.retire(*PLACE, 4)
    with pytest.raises(InvalidInput, match="only a candidate"):
        store.promote(*PLACE, 4)
    with pytest.raises(DataGap):
        store.retire(*PLACE, 17)


def test_places_do_not_touch_each_other(store: ModelStore) -> None:
    store.put(model(1), "equity", "calm")
    store.put(model(2), "equity", "stress")
    store.put(model(3), "crypto.perp", "calm")
    store.promote("equity", "stress", 1)
    assert store.slots() == [("crypto.perp", "calm"), ("equity", "calm"), ("equity", "stress")]
    with pytest.raises(DataGap, match="equity/stress"):  # the remedy names what is live
        store.latest("equity", "calm")
    assert len(store.versions("equity")) == 2
    assert len(store.versions(regime="calm")) == 2
    assert list(store.versions("none").index) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 65, "é", "a.", None, 3])
def test_names_that_are_no_folders_are_refused(store: ModelStore, name: Any) -> None:
    with pytest.raises(InvalidInput, match="asset_class"):
        store.put(model(), name, "calm")
    with pytest.raises(InvalidInput, match="regime"):
        store.latest("equity", name)
    assert not store.root.exists()


# -- age --------------------------------------------------------------------------------------------------------------
def test_a_stale_model_is_refused_with_its_age(tmp_path: Path, simulated: Any) -> None:
    events, truth = simulated(names=2, rows=60)
    at = [events.index[-1] + pd.Timedelta("1D")]
    store = ModelStore(tmp_path, clock=lambda: at[0])
    store.put(truth, *PLACE, events)
    store.promote(*PLACE, 1)
    assert store.latest(*PLACE, max_age="1D").age == pd.Timedelta("1D")
    at[0] += pd.Timedelta("2h")
    with pytest.raises(StaleModel, match=r"version 1 is 1 days 02:00:00 old, and at most 1 days"):
        store.latest(*PLACE, max_age=pd.Timedelta("1D"))
    assert store.latest(*PLACE).version == 1  # asked for without a limit
    at[0] = events.index[-1] - pd.Timedelta("1h")
    with pytest.raises(StaleModel, match="ahead of the clock"):
        store.latest(*PLACE, max_age="1D")
    for bad in ("soon", pd.Timedelta("-1s"), pd.NaT):
        with pytest.raises(InvalidInput, match="max_age"):
            store.latest(*PLACE, max_age=bad)


def test_a_naive_clock_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, clock=lambda: pd.Timestamp("2024-03-06"))
    with pytest.raises(InvalidInput, match="naive"):
        store.put(model(), *PLACE)
    assert not store.slots()


# -- integrity --------------------------------------------------------------------------------------------------------
def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: _flip(f / "model.npz"),
        lambda f: _flip(f / "meta.json"),
        lambda f: _flip(f / "SHA256SUMS"),
        lambda f: (f / "model.npz").unlink(),
        lambda f: (f / "SHA256SUMS").unlink(),
        lambda f: (f / "SHA256SUMS").write_text(""),
        lambda f: (f / "model.npz").write_bytes((f / "model.npz").read_bytes()[:-1]),
        lambda f: (f / "extra").write_text("x"),
        lambda f: (f / "model.npz").write_bytes(b""),
    ],
    ids=["model", "meta", "sums", "no model", "no sums", "empty sums", "truncated", "unlisted file", "empty model"],
)
def test_every_damage_is_told_and_the_version_before_is_reachable(store: ModelStore, damage: Any) -> None:
    for k in (1, 2):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k)
    assert store.verify().empty
    damage(store.root / "equity/calm/versions/000002")
    with pytest.raises(ModelCorrupted):
        store.latest(*PLACE)
    assert store.verify()["what"].tolist() == ["version 2"]
    assert store.versions()["state"].tolist() == ["retired", "damaged"]
    assert same(store.rollback(*PLACE).model, model(1))
    assert store.latest(*PLACE).version == 1


def test_a_version_under_a_wrong_number_is_damage(store: ModelStore) -> None:
    store.put(model(), *PLACE)
    folder = store.root / "equity/calm/versions"
    (folder / "000001").rename(folder / "000002")
    with pytest.raises(ModelCorrupted, match="says that it is version 1"):
        store.get(*PLACE, 2)


def test_a_damaged_candidate_is_not_promoted(store: ModelStore) -> None:
    store.put(model(), *PLACE)
    _flip(store.root / "equity/calm/versions/000001/model.npz")
    with pytest.raises(ModelCorrupted):
        store.promote(*PLACE, 1)
    assert store.history(*PLACE).empty


def test_the_log_is_chained(store: ModelStore) -> None:
    for k in (1, 2, 3):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k)
    log = store.root / "equity/calm/log"
    event = log / "000002/event.json"
    content = json.loads(event.read_text())
    # Rewritten with fitting sums, but the chain of the entry after it breaks.
    event.write_text(json.dumps(content | {"reason": "forged"}))
    digest = hashlib.sha256(event.read_bytes()).hexdigest()
    (log / "000002/SHA256SUMS").write_text(f"{digest}  event.json\n")
    with pytest.raises(ModelCorrupted, match="entry 3"):
        store.latest(*PLACE)
    assert store.verify()["what"].tolist() == ["log"]


def test_a_missing_log_entry_is_damage(store: ModelStore) -> None:
    import shutil

    for k in (1, 2):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k)
    shutil.rmtree(store.root / "equity/calm/log/000001")
    with pytest.raises(ModelCorrupted, match="entry 1"):
        store.latest(*PLACE)


def test_what_is_not_a_model_or_not_a_folder_is_refused(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no impact model"):
        store.put({"K": 1}, *PLACE)
    with pytest.raises(InvalidInput, match="holds no impact model"):
        store.put(CrossImpact(), *PLACE)  # not fitted
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InvalidInput, match="is a file"):
        ModelStore(file)
    with pytest.raises(DataGap, match="put a model first"):
        store.get(*PLACE, 1)
    with pytest.raises(InvalidInput, match="not MarketEvents"):
        store.put(model(), *PLACE, "sim")  # type: ignore[arg-type]
    for bad in ("1", 0, -1, True, 1.5, None):
        with pytest.raises(InvalidInput, match="version"):
            store.get(*PLACE, bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="version"):
            store.promote(*PLACE, bad)  # type: ignore[arg-type]


# -- diff -------------------------------------------------------------------------------------------------------------
def test_diff_measures_the_drift_and_names_what_changed(store: ModelStore) -> None:
    store.put(model(1.0), *PLACE, parameters={"ridge": 1.0, "l1": 0.0})
    store.put(model(1.5, ("BBB", "AAA", "CCC")), *PLACE, parameters={"ridge": 3.0, "l1": 0.0, "pool": None})
    found = store.diff(*PLACE, 1, 2)
    assert found.names == ("AAA", "BBB")
    assert (found.added, found.removed) == (("CCC",), ())
    np.testing.assert_allclose(found.drift, 0.5, rtol=1e-12)
    np.testing.assert_allclose(found.kernel_drift, 0.5, rtol=1e-12)
    np.testing.assert_allclose(found.self_ratio, 1.5, rtol=1e-12)
    np.testing.assert_allclose(found.cross_change, 0.0, atol=1e-12)
    assert found.parameters.loc["ridge"].tolist() == [1.0, 3.0]
    assert set(found.parameters.index) == {"ridge", "pool"}
    assert "ridge" in found.summary()
    assert "largest_cross_change" in found.to_frame()
    assert found.plot().data


def test_diff_of_cross_terms_and_of_decay() -> None:
    moved = model_diff(model(cross=0.3), model(cross=0.5))
    np.testing.assert_allclose(moved.cross_change.loc["AAA", "BBB"], 0.2, rtol=1e-12)
    # Two off-diagonal entries move by .2 against a matrix of norm √(2 + 2·.3²).
    np.testing.assert_allclose(moved.drift, 0.2 * np.sqrt(2) / np.sqrt(2 + 2 * 0.09), rtol=1e-12)
    slow, base = model(), model()
    fast = ImpactModel(base.names, np.array([0.0, 0.1]), base.matrices)
    faster = model_diff(slow, fast)
    assert faster.drift == 0.0
    assert faster.kernel_drift > 0.1
    assert model_diff(slow, slow).kernel_drift == 0.0
    with pytest.raises(DataGap, match="share no name"):
        model_diff(model(names=("X",)), model(names=("Y",)))
