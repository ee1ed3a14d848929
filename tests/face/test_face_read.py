"""``crosswind read``: what it says, what it writes, how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from crosswind.cli import main


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def ticks(path: Path) -> str:
    when = pd.date_range("2024-03-08 09:29:59", "2024-03-08 09:34:59", freq="1s")
    table = pd.DataFrame({"ts": when, "name": "AAA", "price": 10.01, "size": 5, "bid": 9.99, "ask": 10.01})
    table.assign(bid_size=1, ask_size=2).to_csv(path, index=False)
    return f"csv:{path}"


OPTIONS = ("--option", "source_tz=America/New_York", "--option", "hours=09:30,09:35", "--option", "columns.time=ts")


def test_describe_says_what_was_understood(capsys, tmp_path):
    code, out, err = call(capsys, "read", ticks(tmp_path / "t.csv"), "--describe", "--bucket", "60", *OPTIONS)
    assert code == 0, err
    assert "clock: America/New_York" in out
    assert "buckets: 5 of 60 s" in out
    assert "t.csv" in out


def test_json_is_one_object_and_out_is_read_back(capsys, tmp_path):
    folder = tmp_path / "m"
    words = ("read", ticks(tmp_path / "t.csv"), "--bucket", "60", "--out", str(folder), "--json", *OPTIONS)
    code, out, _ = call(capsys, *words)
    assert code == 0
    told = json.loads(out)
    assert told["folder"] == str(folder)
    assert told["buckets"]["count"] == 5
    code, out, _ = call(capsys, "read", f"parquet:{folder}", "--describe")
    assert code == 0
    assert "clock: America/New_York" in out  # the report is stored with the data


def test_without_describe_it_is_short(capsys):
    code, out, _ = call(capsys, "read", "sim:bucket_s=600", "--days", "1", "--names", "X,Y")
    assert code == 0
    assert "X" in out
    code, out, _ = call(capsys, "read", "sim:names=2,bucket_s=600", "--days", "2", "--json")
    assert len(json.loads(out)["buckets"]["days"]) == 2


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["nothing:x"], "spec"),
        (["csv:absent.csv"], "csv"),
        (["sim:names=2", "--option", "colour"], "--option"),
        (["sim:names=2", "--option", "seed=1", "--option", "seed=2"], "--option"),
        (["sim:names=2", "--names", "A,A"], "--names"),
        (["sim:names=2", "--bucket", "-1"], "bucket_s"),
    ],
)
def test_refusals(capsys, words, field):
    code, out, err = call(capsys, "read", *words, "--json")
    assert code == 2
    told = json.loads(out)["error"]
    assert told["field"] == field
    assert told["remedy"]
    assert "Traceback" not in err


def test_an_unknown_scheme_lists_them_all(capsys):
    _, _, err = call(capsys, "read", "nothing:x")
    for scheme in ("csv:", "lean:", "parquet:", "sim"):
        assert scheme in err
