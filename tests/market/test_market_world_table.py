"""The declared worlds: their digests are pinned, variants touch what they name, bad names are refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.cli.app import main
from crosswind.problems.market import read, simulate
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.mechanisms import Mechanisms, Scale
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.shocks import Jumps
from crosswind.problems.market.simulator.venue_parameters import VenueParameters
from crosswind.problems.market.simulator.worlds import CALL, World
from crosswind.problems.market.simulator.worlds_digests import DIGESTS
from crosswind.problems.market.simulator.worlds_table import WORLDS, world
from crosswind.solvers.errors import InvalidInput

NAMES = (
    "calm",
    "stress",
    "basis_shock",
    "correlation_break",
    "roll_day",
    "funding",
    "revisions",
    "rate_limited",
    "zero_impact",
    "misspecified",
)
SMALL: dict[str, Any] = {"days": 1, "names": 3, "sectors": 1, "bucket_s": 300.0, "seed": 1}


def test_there_are_ten_worlds() -> None:
    assert tuple(WORLDS) == NAMES
    assert all(item.text and item.key == f"{name}@{item.version}" for name, item in WORLDS.items())
    assert len({item.digest for item in WORLDS.values()}) == 10


@pytest.mark.parametrize("key", list(DIGESTS))
def test_no_number_changes_under_a_version(key: str) -> None:
    assert world(key).digest == DIGESTS[key], "numbers of a released world changed: add a version instead"


def test_every_world_is_pinned() -> None:
    assert {item.key for item in WORLDS.values()} <= set(DIGESTS)


def test_digest_is_that_of_the_canonical_json() -> None:
    import hashlib

    content = world("stress").to_dict()
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == world("stress").digest
    assert json.loads(text) == content
    assert content["mechanisms"]["regimes"]["volatility"] == 2.5
    assert content["venue"]["close_spread_multiple"] == 3.0
    assert content["call"]["bucket_s"] == 10.0


def test_every_number_is_in_the_digest() -> None:
    base = world("stress")
    before = base.digest
    for item in fields(SimulatorParameters):
        value = getattr(base.market, item.name)
        if isinstance(value, float) and 0.0 < value < 0.9:
            assert replace(base, market=replace(base.market, **{item.name: value * 0.999})).digest != before, item.name
    assert replace(base, venue=replace(base.venue, max_orders_per_minute=9)).digest != before
    assert replace(base, desk=None).digest != before
    assert replace(base, text="other words").digest == before


def test_a_power_law_is_drawn_in_place_of_the_kernel_and_can_be_switched_off() -> None:
    law = world("misspecified")
    assert law.to_dict()["mechanisms"]["power_law"]["exponent"] == 0.35
    # The modes' digits depend on the machine's logarithm: they are drawn from, not hashed.
    assert len(law.drawn.kernel_half_lives_s) > 15
    assert law.market.kernel_half_lives_s == world("calm").market.kernel_half_lives_s
    truth = simulate(world="misspecified", power_law=None, **SMALL).truth
    assert np.allclose(np.log(2.0) / truth.rates_per_s, law.market.kernel_half_lives_s)
    assert "power_law" not in truth.parameters
    with pytest.raises(InvalidInput, match="kernel_weights"):
        simulate(world="misspecified", kernel_weights=(0.5, 0.5), **SMALL)


def test_scaled_names_itself_and_multiplies() -> None:
    variant = world("stress").scaled(impact=0.5, latency=2.0)
    assert variant.key == "stress@1[impact×0.5,latency×2]"
    assert variant.digest != world("stress").digest
    assert variant.scaled(impact=2.0, latency=0.5).digest == world("stress").digest
    assert world("stress").scaled().digest == world("stress").digest


def arrays(data: MarketData) -> dict[str, np.ndarray]:
    events = data.events
    out = {name: getattr(events, name).to_numpy() for name in ("flow", "volume", "mid", "spread", "depth")}
    return out | {"matrices": data.truth.matrices}


@pytest.mark.parametrize("name", NAMES)
def test_impact_scales_the_kernel_alone(name: str) -> None:
    base, twice = simulate(world=name, **SMALL), simulate(world=name, impact=2.0, **SMALL)
    assert np.array_equal(twice.truth.matrices, 2.0 * base.truth.matrices)
    for field in ("flow", "volume", "depth"):
        assert np.array_equal(arrays(base)[field], arrays(twice)[field])
    pd.testing.assert_frame_equal(base.events.factors, twice.events.factors, check_exact=True)


@pytest.mark.parametrize("name", NAMES)
def test_volatility_scales_moves_and_leaves_the_kernel(name: str) -> None:
    base, half = simulate(world=name, **SMALL), simulate(world=name, volatility=0.5, **SMALL)
    assert np.allclose(base.truth.matrices, half.truth.matrices, rtol=1e-12, atol=0.0)
    for field in ("flow", "volume", "depth"):
        assert np.array_equal(arrays(base)[field], arrays(half)[field])
    assert np.allclose(0.5 * base.events.factors, half.events.factors, rtol=1e-12)
    found = np.asarray(half.truth.parameters["fundamental_covariance_per_s"])
    assert np.allclose(found, 0.25 * np.asarray(base.truth.parameters["fundamental_covariance_per_s"]), rtol=1e-12)
    for left, right in zip(base.truth.parameters.get("jumps", []), half.truth.parameters.get("jumps", []), strict=True):
        assert left[:2] == right[:2]
        assert right[2] == pytest.approx(0.5 * left[2])


def test_latency_scales_the_venue_alone() -> None:
    base, slow = world("calm"), world("calm").scaled(latency=2.0)
    assert slow.venue == replace(base.venue, latency_s=2.0, latency_jitter_s=0.4)
    assert slow.market == replace(base.market, hedge_latency_s=2.0)
    left, right = simulate(world="calm", **SMALL), simulate(world="calm", latency=2.0, **SMALL)
    for name, values in arrays(left).items():
        assert np.array_equal(values, arrays(right)[name])
    assert right.truth.parameters["hedge_latency_s"] == 2.0


def test_volatility_of_basis_jumps_and_perpetual_scale_too() -> None:
    twice = world("basis_shock").scaled(volatility=2.0)
    assert twice.mechanisms.basis_jumps.sd_bps == 2.0 * world("basis_shock").mechanisms.basis_jumps.sd_bps
    assert twice.market.spread_bps == world("basis_shock").market.spread_bps
    perpetual = world("funding").scaled(volatility=2.0).perpetual
    assert perpetual.basis_vol_bps == 2.0 * world("funding").perpetual.basis_vol_bps


def test_truth_names_the_world_and_holds_every_number() -> None:
    data = simulate(world="stress", **SMALL)
    found = data.truth.parameters
    variant = world("stress").changed(names=3, sectors=1, bucket_s=300.0)
    assert found["world"] == variant.key == "stress@1[names=3,sectors=1,bucket_s=300]"
    assert found["world_digest"] == variant.digest != world("stress").digest
    assert found["world_parameters"] == variant.to_dict()
    assert json.loads(json.dumps(found["world_parameters"])) == variant.to_dict()
    plain = simulate(world="stress", days=1).truth.parameters
    assert plain["world"] == "stress@1"
    assert plain["world_digest"] == DIGESTS["stress@1"]
    assert "world" not in simulate(**SMALL).truth.parameters


def test_caller_overrides_a_world() -> None:
    data = simulate(world="stress", impact_r2=0.0, jumps=None, **SMALL)
    assert not data.truth.matrices.any()
    assert "jumps" not in data.truth.parameters
    assert data.truth.parameters["world"].endswith("impact_r2=0,names=3,sectors=1,bucket_s=300,jumps=off]")
    same = simulate(world="stress", names=8, spread_vol_power=1.0, days=1).truth.parameters
    assert same["world"] == "stress@1"


def test_a_roll_refuses_what_its_books_do_not_use() -> None:
    for name, value in {"future_tick": 0.5, "future_depth_contracts": 9.0, "calendar_vol_bps": 3.0}.items():
        with pytest.raises(InvalidInput, match=name):
            simulate(world="roll_day", **{**SMALL, name: value})
    quotes = simulate(world="roll_day", roll=None, future_tick=0.5, **SMALL).futures["SIM"]
    assert quotes.tick == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_world_agree(name: str) -> None:
    item = world(name)
    assert item.market.hedge_latency_s == item.venue.latency_s, "the workflow's hedge and the replay's venue differ"
    assert item.desk is not None
    assert abs(item.desk.vwap_u_shape - item.market.volume_u_shape) < 0.1, "the desk expects another day"
    if item.roll is not None:
        assert item.roll.carry_rate == item.market.carry_rate
        assert item.roll.multiplier == item.market.future_multiplier


def test_stress_is_as_deep_as_recorded_days_while_it_is_calm() -> None:
    data = simulate(world="stress", days=8, names=2, sectors=1, bucket_s=60.0, seed=2, desk=None)
    path = data.truth.parameters["regime_path"]
    states = pd.Series([state for _, state in path], index=pd.DatetimeIndex([pd.Timestamp(at) for at, _ in path]))
    stressed = states.reindex(data.events.index, method="ffill").to_numpy() == 1
    seconds = data.events.depth.to_numpy() / (np.asarray(data.truth.parameters["names_adv"]) / 23_400.0)
    assert seconds[~stressed].mean() == pytest.approx(3.9, rel=0.1)  # recorded: 3.9 s of the mean volume
    assert seconds[stressed].mean() < 0.3 * seconds[~stressed].mean()


def test_a_source_that_a_text_cannot_say_is_refused_and_never_another_market() -> None:
    small = {key: value for key, value in SMALL.items() if key not in ("names", "sectors")}
    said: tuple[dict[str, Any], ...] = (
        {"flow_weights": (0.4, 0.05, 0.02)},
        {"names": ["A", "B"]},
        {"names": 3, "sectors": ["X", "Y", "X"]},
        {"holidays": ["2024-01-09"]},
        {"jumps": Jumps(market_per_day=9.0)},
    )
    for call in said:
        source = simulate(world="calm", **small, **{"names": 3, **call}).source
        assert "=…" in source
        with pytest.raises(InvalidInput):
            read(source)


def test_a_half_day_to_come_does_not_change_the_bars_before_it() -> None:
    call: dict[str, Any] = {"world": "calm", "calendar": "XNYS", "start": "2024-07-01", "names": 2, "sectors": 1}
    call |= {"bucket_s": 60.0, "desk": None}
    short, long = (simulate(days=days, **call).futures["SIM"].bid for days in (2, 4))  # the third is half a day
    pd.testing.assert_frame_equal(long.iloc[: len(short)], short, check_exact=True)
    assert len(simulate(days=2, future_bar_s=780.0, **call).futures["SIM"].bid) == 60
    with pytest.raises(InvalidInput, match="future_bar_s"):
        simulate(days=4, future_bar_s=780.0, **call)


def test_whole_days_need_a_clock_that_does_not_change() -> None:
    call: dict[str, Any] = {"world": "funding", "names": 1, "bucket_s": 3600.0, "days": 3, "tz": "America/New_York"}
    for start in ("2024-03-09", "2024-11-02"):
        with pytest.raises(InvalidInput, match="24 hours"):
            simulate(start=start, **call)
    assert len(simulate(start="2024-06-01", **call).events.index) == 72


def test_spec_and_source_draw_the_same_market() -> None:
    data = simulate(world="stress", impact=0.5, spread_bps=4.0, **SMALL)
    assert data.source.startswith("sim:world=stress@1,impact=0.5,names=3")
    again = read(data.source)
    pd.testing.assert_frame_equal(data.events.mid, again.events.mid, check_exact=True)
    assert again.truth.parameters["world_digest"] == data.truth.parameters["world_digest"]
    spec = read("sim:world=funding,days=1,bucket_s=300")
    assert spec.truth.parameters["world"] == "funding@1[bucket_s=300]"


def test_worlds_of_ones_own() -> None:
    mine = World("mine", 3, "a test", mechanisms=Mechanisms(jumps=Jumps()), call={"names": 2, "sectors": 1})
    data = simulate(world=mine, days=1)
    assert data.truth.parameters["world"] == "mine@3"
    assert len(data.events.names) == 2
    assert data.desk is None
    assert pickle.loads(pickle.dumps(mine)) == mine
    assert pickle.loads(pickle.dumps(world("misspecified"))).digest == world("misspecified").digest
    assert "mine@3" in mine.summary()


def test_parquet_keeps_worlds_whole(tmp_path: Any) -> None:
    for name in ("stress", "roll_day", "funding"):
        data = simulate(world=name, **SMALL)
        again = MarketData.from_parquet(data.to_parquet(tmp_path / name))
        assert dict(again.truth.parameters) == dict(data.truth.parameters)
        assert again.desk is not None
        assert again.desk.equals(data.desk)
        assert list(again.spreads) == list(data.spreads)
        assert list(again.funding) == list(data.funding)


def test_command_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list-worlds", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["worlds"]
    assert {row["world"]: row["digest"] for row in listed} == {k: v for k, v in DIGESTS.items() if k in _latest()}
    assert main(["simulate", "--world", "calm", "--impact", "2", "--days", "1", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["world"] == "calm@1[impact×2]"
    assert main(["simulate", "--world", "calm@9", "--out", str(tmp_path / "x")]) == 2
    assert "calm@1" in capsys.readouterr().err
    assert main(["simulate", "--world", "calm"]) == 2
    assert "--out" in capsys.readouterr().err


def _latest() -> set[str]:
    return {item.key for item in WORLDS.values()}


@pytest.mark.parametrize("name", ["nope", "calm@2", "calm@", "", "@1", 3, None])
def test_unknown_worlds_are_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidInput, match="misspecified@1"):
        world(name)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("impact", {"world": "calm", "impact": -1.0}),
        ("impact", {"world": "calm", "impact": 0.0}),
        ("volatility", {"world": "calm", "volatility": float("nan")}),
        ("latency", {"world": "calm", "latency": "slow"}),
        ("impact", {"impact": 2.0}),
        ("jumps", {"jumps": None}),
        ("jumps", {"world": "calm", "jumps": 3}),
        ("venue", {"world": "calm", "venue": None}),
        ("world", {"world": 7}),
        ("wolatility", {"world": "calm", "wolatility": 2.0}),
        ("calendar", {"world": "calm", "calendar": "XNIX"}),
        ("start", {"world": "calm", "calendar": "24/7", "start": "soon"}),
        ("days", {"world": "funding", "days": 0}),
        ("calendar", {"world": "calm", "calendar": "XTKS"}),
    ],
)
def test_bad_arguments_are_named(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        simulate(**arguments)
    assert field in str(caught.value).split(" ")[0]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": "a b", "version": 1}),
        ("version", {"name": "a", "version": 0}),
        ("version", {"name": "a", "version": True}),
        ("call", {"name": "a", "version": 1, "call": {"colour": 1}}),
        ("market", {"name": "a", "version": 1, "market": {}}),
        ("desk", {"name": "a", "version": 1, "desk": 1}),
    ],
)
def test_bad_worlds_are_refused(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        World(**values)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"latency_s": -1.0},
        {"participation": 0.0},
        {"participation": 1.5},
        {"reject_probability": float("nan")},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_orders_per_minute": 0},
        {"queue": "front"},
    ],
)
def test_bad_venues_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        VenueParameters(**values)
    (name,) = values
    assert name in str(caught.value)


def test_bad_mechanisms_and_scales_are_refused() -> None:
    with pytest.raises(InvalidInput, match="regimes"):
        Mechanisms(regimes=Jumps())  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="scale"):
        Mechanisms(scale=2.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="impact"):
        Scale(impact=float("inf"))
    assert set(CALL) == set(world("calm").call)
