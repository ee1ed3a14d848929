"""Formats: found by being there, registered by the user, refused where they cannot work."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import MarketData, read, simulate, stream
from crosswind.problems.market.merge import sources_of
from crosswind.problems.market.readers import formats as module
from crosswind.problems.market.readers.formats import Format, find_format, formats, register_format
from crosswind.problems.market.ticks import QuoteTape, TickChunk, TradeTape
from crosswind.solvers.errors import InvalidInput, MissingDependency


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(module, "_own", {})


def own(path, names=None, days=None, bucket_s=None, *, report, shout=False):
    report.file(path, 12)
    report.bad(path, "duplicate", 3, "line 4")
    data = simulate(names=2, days=1, bucket_s=bucket_s or 600, seed=1)
    return MarketData(data.events, source=f"own:{path}", notes=(str(shout), str(names), str(days)))


class Source:
    name, venue, tz, currency, tick = "A", "v", "UTC", "USD", 0.01

    def chunks(self, report, progress=None):
        one, at = np.ones(1), np.array([pd.Timestamp("2024-03-04 12:00", tz="UTC").value])
        yield TickChunk(TradeTape(at, one * 10, one, one > 0), QuoteTape(at, one * 9, one * 11, one, one))


def own_sources(path, names=None, days=None, *, loud=False):
    return (Source(),)


def test_the_formats_of_the_package_are_there():
    known = formats()
    assert {"sim", "lean", "csv", "parquet"} <= set(known)
    assert list(known) == sorted(known)
    for scheme, one in known.items():
        assert one.scheme == scheme
        assert one.example.startswith(scheme)
        assert one.title
        if not one.needs:
            assert callable(one.load("reader"))
            assert one.sources is None or callable(one.load("sources"))


def test_a_registered_format_is_read_with_its_options_and_report():
    register_format(Format("own", "mine", "own:FILE", own))
    data = read("own:here", names=["X"], bucket_s=1800, shout=True)
    assert data.source == "own:here"
    assert data.notes == ("True", "['X']", "None")
    assert data.events.bucket_s == 1800
    assert data.report is not None
    assert data.report.files == {"here": 12}
    assert data.report.by_reason() == {"duplicate": 3}
    with pytest.raises(InvalidInput, match=r"unknown options.*shout"):
        read("own:here", whisper=True)
    register_format(Format("own", "replaced", "own:FILE", own))
    assert formats()["own"].title == "replaced"


def test_arguments_that_mean_nothing_are_refused():
    register_format(Format("plain", "no names", "plain:FILE", lambda path: simulate(names=2, days=1, bucket_s=600)))
    assert read("plain:x").events.names
    for given in ({"names": ["A"]}, {"days": "2024-03-04"}, {"bucket_s": 60.0}):
        with pytest.raises(InvalidInput, match="means nothing") as caught:
            read("plain:x", **given)
        assert caught.value.field == next(iter(given))
    register_format(Format("wrong", "returns no data", "wrong:FILE", lambda path: 3))
    with pytest.raises(InvalidInput, match="no MarketData"):
        read("wrong:x")


def test_ticks_of_a_registered_format_are_streamed():
    register_format(Format("own", "mine", "own:FILE", own, own_sources))
    table = pd.concat(list(stream("own:x", loud=True)))
    assert list(table["kind"]) == ["quote", "trade"]
    with pytest.raises(InvalidInput, match="unknown options"):
        stream("own:x", silent=True)
    with pytest.raises(InvalidInput, match="occurs twice"):
        stream(["own:x", "own:y"])
    with pytest.raises(InvalidInput, match="holds no ticks"):
        sources_of("sim:names=2")


def test_what_is_no_format_is_refused():
    for scheme in ("", "Own", "o:n", "o n", None):
        with pytest.raises(InvalidInput, match="not a scheme"):
            Format(scheme, "t", "e", own)
    for reader in ("module", None, 3, "a:b:c"):
        with pytest.raises(InvalidInput, match="not a function"):
            Format("own", "t", "e", reader)
    with pytest.raises(InvalidInput, match="not a Format"):
        register_format("own")
    for scheme in ("csv", "sim", "lean"):
        with pytest.raises(InvalidInput, match="belongs to a reader"):
            register_format(Format(scheme, "t", "e", own))


def test_functions_and_packages_that_are_absent():
    for target in ("nowhere.at.all:read", "crosswind.problems.market:nothing"):
        register_format(Format("own", "t", "own:x", target))
        with pytest.raises(InvalidInput, match="is not there"):
            read("own:x")
    register_format(Format("own", "t", "own:x", own, needs=("a_package_nobody_has",)))
    with pytest.raises(MissingDependency, match="a_package_nobody_has") as caught:
        read("own:x")
    assert "pip install" in caught.value.remedy


def test_specs():
    assert find_format("csv:a:b")[1] == "a:b"
    assert find_format("sim")[1] == ""
    for spec in ("csv", "csv:", "nothing:x", "", None, 3):
        with pytest.raises(InvalidInput) as caught:
            find_format(spec)
        assert caught.value.field == "spec"
