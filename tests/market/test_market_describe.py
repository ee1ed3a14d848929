"""What is told of a source, as text, tables and numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import describe, read, simulate
from crosswind.solvers.errors import InvalidInput


def ticks(path, extra: str = ""):
    rng = np.random.default_rng(0)
    when = pd.date_range("2024-03-08 14:29:59", "2024-03-08 14:34:59", freq="500ms", tz="UTC")
    table = pd.DataFrame({"time": when, "name": rng.choice(["AAA", "B"], len(when)), "price": 10.01, "size": 5})
    table = table.assign(bid=9.99, ask=10.01, bid_size=1, ask_size=2)
    table.iloc[0, 1], table.iloc[1, 1] = "AAA", "B"
    table.to_csv(path, index=False)
    with path.open("a") as out:
        out.write(extra)
    return f"csv:{path}"


OPTIONS = {"hours": ("09:30", "09:35"), "bucket_s": 60.0}


def test_the_text_tells_all_that_was_understood(tmp_path):
    told = describe(ticks(tmp_path / "t.csv", "2024-03-08 14:34:59+00:00,AAA,0,5\n"), **OPTIONS)
    text = str(told)
    for part in (
        "plain csv tables",
        "1 file",
        "t.csv",
        "AAA",
        "trades",
        "2024-03-08 14:29:59",
        "clock: with its UTC offset",
        "price unit: currency per share",
        "sign: Lee and Ready",
        "buckets: 5 of 60 s, stamped at their end, USD",
        "America/New_York",
        "not used: 1 rows",
        "price or size that is zero",
        "e.g.",
    ):
        assert part in text, part
    assert max(map(len, text.splitlines())) <= 200
    assert text.replace("<", "&lt;").splitlines()[2] in told._repr_html_()


def test_numbers_agree_with_the_data(tmp_path):
    told = describe(ticks(tmp_path / "t.csv"), ["AAA"], **OPTIONS)
    body = json.loads(json.dumps(told.to_dict()))
    events = told.market.events
    assert body["buckets"]["names"] == ["AAA"]
    assert body["buckets"]["volume"]["AAA"] == pytest.approx(events.volume["AAA"].sum())
    assert body["buckets"]["signed_share"]["AAA"] == pytest.approx(1.0)
    assert body["instruments"]["B"]["rows"]["trades"] == told.to_frame().loc["B", "trades"]
    assert body["bad_rows"] == []
    assert told.bad_frame().empty
    assert body["files"][0]["bytes"] == (tmp_path / "t.csv").stat().st_size
    assert "not used: no row" in told.summary()


def test_simulated_and_stored_data_are_described(tmp_path):
    told = describe("sim:names=25,days=1,bucket_s=600")
    assert "its truth is attached" in str(told)
    assert "5 names more" in str(told)
    assert told.to_dict()["simulated"]
    simulate(names=2, days=1, bucket_s=600).to_parquet(tmp_path / "m")
    assert "buckets: 39 of 600 s" in str(describe(f"parquet:{tmp_path / 'm'}"))


def test_the_report_survives_storing(tmp_path):
    data = read(ticks(tmp_path / "t.csv"), **OPTIONS)
    again = describe(f"parquet:{data.to_parquet(tmp_path / 'm')}")
    assert "Lee and Ready" in str(again)
    assert again.report.to_dict() == data.report.to_dict()


def test_what_cannot_be_read_is_not_described(tmp_path):
    with pytest.raises(InvalidInput, match="unknown scheme"):
        describe("nothing:x")
