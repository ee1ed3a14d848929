"""The verb ``read``: schemes, options, and the names the room exports."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import numpy as np
import pytest

from crosswind.problems import market
from crosswind.problems.market import MarketData, read
from crosswind.solvers.errors import CrosswindError, InvalidInput


@pytest.mark.parametrize(
    "spec", ["", "ftp:x", "lean", "lean:", "csv:", "parquet:", "LEAN:x", "data.csv", None, 3, "sim:names", "sim:names="]
)
def test_unknown_specs_tell_the_schemes(spec):
    with pytest.raises(InvalidInput) as caught:
        read(spec)
    assert caught.value.field == "spec"
    assert caught.value.remedy


def test_unknown_options_tell_the_known_ones(tmp_path):
    with pytest.raises(InvalidInput, match="stale_limit_s"):
        read(f"lean:{tmp_path}", colour="blue")
    with pytest.raises(InvalidInput, match="source_tz"):
        read(f"csv:{tmp_path}", colour="blue")
    with pytest.raises(InvalidInput, match="choose among"):
        read(f"csv:{tmp_path}", format="parquet")


def test_the_simulator_is_reached_with_its_arguments():
    data = read("sim:names=3,days=2,bucket_s=300,seed=4")
    assert isinstance(data, MarketData)
    assert len(data.events.names) == 3
    assert len(data.events.days) == 2
    assert data.events.bucket_s == 300
    assert data.truth is not None
    assert data.truth.seed == 4
    same = market.simulate(names=3, days=2, bucket_s=300, seed=4)
    assert same.events.equals(data.events)
    beside = read("sim:seed=4", names=3, days=2, bucket_s=300)
    assert beside.events.equals(data.events)
    named = read("sim:days=1,bucket_s=600", names=("X", "Y"))
    assert named.events.names == ("X", "Y")


def test_arguments_given_twice_or_unknown():
    with pytest.raises(InvalidInput, match="given twice"):
        read("sim:seed=1,seed=2")
    with pytest.raises(InvalidInput, match="in the spec and beside it"):
        read("sim:days=1", days=2)
    with pytest.raises(CrosswindError):
        read("sim:colour=blue")


def test_literals():
    from crosswind.problems.market.readers.simulated import literal as _literal

    assert [_literal(t) for t in ("3", "0.5", "1e-3", "true", "None", "abc", "2024-03-04")] == [
        3,
        0.5,
        1e-3,
        True,
        None,
        "abc",
        "2024-03-04",
    ]


@pytest.mark.parametrize("name", market.__all__)
def test_exports_exist_and_are_documented(name):
    thing = getattr(market, name)
    if name.isupper():  # a table of declared things, each documented by its own type
        assert all(thing.values())
        return
    assert callable(thing)
    assert len(thing.__doc__) > 40


def test_functions_are_not_hidden_by_modules_of_their_name():
    for name in ("read", "lee_ready"):
        importlib.import_module(f"crosswind.problems.market.{name}")
        assert callable(getattr(market, name))


def test_importing_the_room_stays_light():
    heavy = ("pyarrow.parquet", "plotly", "cvxpy", "jax")
    code = f"import sys, crosswind.problems.market; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_same_spec_same_bytes():
    a, b = (read("sim:names=2,days=1,bucket_s=600").events for _ in range(2))
    for field in ("flow", "mid", "spread", "volume", "depth"):
        assert np.array_equal(getattr(a, field).to_numpy(), getattr(b, field).to_numpy())


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: read("lena:somewhere"), "did you mean 'lean'"),
        (lambda: read("/data/of/mine"), "'csv:/data/of/mine'"),
        (lambda: read("sim:spreadbps=3"), "did you mean 'spread_bps'"),
        (lambda: market.simulate(world="calm", volum_noise_sd=1.0), "did you mean 'volume_noise_sd'"),
        (lambda: read("csv:x.csv", colums={}), "did you mean 'columns'"),
    ],
)
def test_misspelt_words_are_answered_by_the_nearest(call, hint):
    with pytest.raises(InvalidInput, match=re.escape(hint)):
        call()
