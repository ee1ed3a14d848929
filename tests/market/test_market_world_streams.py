"""Every world: the same bytes in any process, longer runs begin with shorter ones, nothing looks ahead."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator import (
    basis_shocks,
    breaks,
    desk_draw,
    flow,
    future,
    perpetual,
    prices,
    regimes,
    shocks,
    spread_book,
    spread_book_flow,
)
from crosswind.problems.market.simulator.decompose import decompose
from crosswind.problems.market.simulator.worlds_table import WORLDS

SMALL: dict[str, Any] = {"names": 3, "sectors": 1, "bucket_s": 60.0, "seed": 5}
DRAWING = (
    basis_shocks,
    breaks,
    desk_draw,
    flow,
    future,
    perpetual,
    prices,
    regimes,
    shocks,
    spread_book,
    spread_book_flow,
)


def tables(data: MarketData, until: pd.Timestamp | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield every table of a market by name, up to a time."""

    def cut(frame: pd.DataFrame) -> pd.DataFrame:
        kept = frame if until is None else frame[frame.index <= until]
        return kept.dropna(axis=1, how="all").loc[:, lambda f: ~(f == 0.0).all()]

    events = data.events
    for name in ("flow", "mid", "spread", "volume", "depth", "factors"):
        yield name, cut(getattr(events, name))
    for root, quotes in data.futures.items():
        for name in ("bid", "ask", "bid_size", "ask_size", "volume"):
            yield f"{root} {name}", cut(getattr(quotes, name))
    for key, spread in data.spreads.items():
        frame = spread.to_frame()
        if until is None or frame.index[0] <= until:
            yield key, cut(frame)
    for key, bars in data.bars.items():
        yield key, cut(bars.frame)
    for key, funding in data.funding.items():
        yield f"{key} funding", cut(funding.rates.to_frame())
    if data.desk is not None:
        for order in data.desk.orders:
            if until is None or order.end <= until:
                yield f"{order.name} plan", order.plan
                yield f"{order.name} fills", order.fills


def digest(data: MarketData) -> str:
    total = hashlib.sha256()
    for name, frame in tables(data):
        total.update(name.encode())
        total.update(np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).tobytes())
        total.update(pd.DatetimeIndex(frame.index).asi8.tobytes())
    for values in (data.truth.matrices, data.truth.covariance, data.truth.betas.to_numpy()):
        total.update(np.ascontiguousarray(values).tobytes())
    total.update(repr(sorted(data.truth.parameters.items())).encode())
    return total.hexdigest()


def test_other_processes_and_hash_seeds_give_the_same_bytes() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_market_world_streams import SMALL, WORLDS, digest, simulate\n"
        "print(*[digest(simulate(world=name, days=1, **SMALL)) for name in WORLDS])\n"
    )
    here = [digest(simulate(world=name, days=1, **SMALL)) for name in WORLDS]
    assert len(set(here)) == 10
    folder = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "PYTHONHASHSEED": "77"}  # this process has another
    run = subprocess.run(
        [sys.executable, "-c", script, folder], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == here


@pytest.mark.parametrize("name", list(WORLDS))
def test_a_longer_simulation_begins_with_the_shorter(name: str) -> None:
    short, long = simulate(world=name, days=2, **SMALL), simulate(world=name, days=4, **SMALL)
    close = short.events.index[-1]
    left, right = dict(tables(short, close)), dict(tables(long, close))
    assert left.keys() == right.keys()
    assert any("plan" in key for key in left)
    for key, frame in left.items():
        pd.testing.assert_frame_equal(frame, right[key], check_exact=True, obj=key)
    for entry in ("regime_path", "jumps", "basis_jumps", "break_windows", "roll_shocks"):
        before = short.truth.parameters.get(entry, [])
        assert before == long.truth.parameters.get(entry, [])[: len(before)]
    for field in ("rates_per_s", "matrices", "covariance"):
        assert np.array_equal(getattr(short.truth, field), getattr(long.truth, field))


@pytest.mark.parametrize("name", list(WORLDS))
def test_a_poisoned_future_changes_nothing_before_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = simulate(world=name, days=3, **SMALL)

    def poisoned(original: Any) -> Any:
        return lambda seed, part, day=-1: original(seed + (10_000 if day >= 2 else 0), part, day)

    for module in DRAWING:
        monkeypatch.setattr(module, "stream", poisoned(module.stream))
    other = simulate(world=name, days=3, **SMALL)
    last = honest.events.session.to_numpy() == honest.events.days[2]
    assert (honest.events.mid[last] != other.events.mid[last]).all().all()
    close = honest.events.index[~last][-1]
    left, right = dict(tables(honest, close)), dict(tables(other, close))
    for key in left.keys() & right.keys():
        pd.testing.assert_frame_equal(left[key], right[key], check_exact=True, obj=key)
    assert {key for key in left if "plan" not in key and "fills" not in key} <= set(right)


@pytest.mark.parametrize("name", ["stress", "basis_shock", "correlation_break", "roll_day", "funding", "revisions"])
def test_switching_a_mechanism_off_leaves_the_other_parts(name: str) -> None:
    on = simulate(world=name, days=2, **SMALL)
    mechanisms = ("regimes", "jumps", "basis_jumps", "breaks", "roll", "perpetual", "desk")
    off = simulate(world=name, days=2, **SMALL, **dict.fromkeys(mechanisms))
    left, right = decompose(on), decompose(off)
    if name != "stress":
        pd.testing.assert_frame_equal(on.events.flow, off.events.flow, check_exact=True)
        pd.testing.assert_frame_equal(on.events.depth, off.events.depth, check_exact=True)
        pd.testing.assert_frame_equal(on.events.factors, off.events.factors, check_exact=True)
    sign = np.sign(on.events.flow.to_numpy())
    assert np.array_equal(sign, np.sign(off.events.flow.to_numpy()))
    assert np.array_equal(on.truth.matrices, off.truth.matrices)
    if name not in ("stress", "correlation_break"):
        pd.testing.assert_frame_equal(left.noise, right.noise, check_exact=True)
    assert off.desk is None
    assert not off.spreads
    assert not off.funding


def test_changing_one_mechanism_leaves_the_others() -> None:
    from dataclasses import replace

    base = simulate(world="stress", days=3, **SMALL)
    chosen = WORLDS["stress"].mechanisms
    bigger = simulate(world="stress", days=3, **SMALL, jumps=replace(chosen.jumps, market_sd=0.01))
    assert base.truth.parameters["regime_path"] == bigger.truth.parameters["regime_path"]
    times = [(time, name) for time, name, _ in base.truth.parameters["jumps"]]
    assert times == [(time, name) for time, name, _ in bigger.truth.parameters["jumps"]]
    pd.testing.assert_frame_equal(base.events.volume, bigger.events.volume, check_exact=True)
    quick = simulate(world="stress", days=3, **SMALL, regimes=replace(chosen.regimes, stressed_s=600.0))
    assert base.truth.parameters["jumps"] == quick.truth.parameters["jumps"]
    assert base.truth.parameters["regime_path"] != quick.truth.parameters["regime_path"]


def test_volume_and_desk_know_nothing_of_the_truth() -> None:
    """What the desk does depends on what it sees, so the kernel reaches it through prices alone."""
    calm, zero = (simulate(world=name, days=2, **SMALL).desk for name in ("calm", "zero_impact"))
    assert calm is not None
    assert zero is not None
    assert [order.kind for order in calm.orders] == [order.kind for order in zero.orders]
    assert [order.start for order in calm.orders] == [order.start for order in zero.orders]


@pytest.mark.parametrize("name", list(WORLDS))
def test_truth_is_complete_and_the_parts_add_up(name: str) -> None:
    data = simulate(world=name, days=2, **SMALL)
    truth, on = data.truth, WORLDS[name].mechanisms
    found = truth.parameters
    expected = {"loadings", "names_adv", "index_weights", "fundamental_covariance_per_s", "world", "world_digest"}
    if on.regimes is not None:
        expected |= {"regime_path", "covariance_by_regime"}
    if on.jumps is not None:
        expected |= {"jumps"}
    if on.basis_jumps is not None:
        expected |= {"basis_jumps"}
    if on.breaks is not None:
        expected |= {"break_windows", "covariance_in_break", "betas_in_break"}
    if on.power_law is not None:
        expected |= {"power_law"}
    if WORLDS[name].roll is not None:
        expected |= {"roll_shocks", "roll_mid", "roll_stress"}
    if WORLDS[name].perpetual is not None:
        expected |= {"perpetual_demand", "perpetual_basis", "perpetual_mark"}
    assert expected <= set(found)
    assert data.desk is not None
    parts = decompose(data)
    total = parts.factor + parts.impact + parts.noise + (0.0 if parts.jumps is None else parts.jumps)
    inside = parts.noise.notna().all(axis=1)
    assert np.allclose(total[inside], data.events.returns[inside], atol=1e-15)
    # The noise is white: no part of the truth is left in it, which impact or factors would be.
    noise = parts.noise[inside].to_numpy()
    correlation = np.corrcoef(noise.T, parts.impact[inside].to_numpy().T)[:3, 3:] if truth.matrices.any() else 0.0
    assert np.abs(correlation).max() < 0.2
    assert np.linalg.eigvalsh(truth.covariance).min() > 0.0
