"""``crosswind hedge``: sizes as the library's, comparisons that repeat, refusals that name their option."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.cli import main
from crosswind.problems.hedge.sizing import SpotBook, listed, size_hedge

WORLD = ("hedge", "compare", "--world", "calm", "--orders", "2", "--training", "2")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def coins(tmp_path: Path) -> Path:
    path = tmp_path / "coins.csv"
    path.write_text("name,units,price\nBTC,3,65000\nETH,40,3500\n")
    return path


@pytest.fixture
def shares(tmp_path: Path) -> Path:
    table = pd.DataFrame(
        {
            "name": ["IBM", "BAC"], "units": [60_000, 400_000], "price": [190.0, 14.0],
            "beta_SPX": [0.6, 0.9], "beta_NDX": [0.2, 0.3], "residual_vol": [0.01, 0.015],
        }
    )  # fmt: skip
    path = tmp_path / "shares.parquet"
    table.to_parquet(path)
    return path


@pytest.mark.parametrize("words", [("hedge",), ("hedge", "size"), ("hedge", "compare")])
def test_help_shows_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main([*words, "--help"])
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert "crosswind hedge" in text.split("example:")[1]
    assert "--json" in text


def test_the_size_is_the_librarys_and_what_if_adds_up(coins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = ("--instrument", "binance:BTCUSDT,price=65000", "--instrument", "binance:ETHUSDT,price=3500")
    words = ("hedge", "size", "--holdings", str(coins), *tools, "--ratio", "BTC=0.6,ETH=0.3")
    words += ("--move", "-0.2", "--move", "0.1")
    code, out, _ = call(capsys, *words, "--json")
    payload = json.loads(out)
    assert code == 0
    book = SpotBook({"BTC": 3.0, "ETH": 40.0}, {"BTC": 65_000.0, "ETH": 3_500.0})
    both = [listed("binance:BTCUSDT", 65_000.0), listed("binance:ETHUSDT", 3_500.0)]
    size = size_hedge(book, both, ratio={"BTC": 0.6, "ETH": 0.3})
    told = {name: row["contracts"] for name, row in payload["contracts"].items()}
    assert told == size.contracts.to_dict() == {"BTCUSDT": -1.8, "ETHUSDT": -12.0}
    for move in ("-0.2", "+0.1"):
        rows = [row for row in payload["what_if"] if row["move"] == move]
        net = sum(row["change"] for row in rows if row["line"] != "net")
        assert net == pytest.approx(next(row["change"] for row in rows if row["line"] == "net"))
        assert net == pytest.approx(float(move) * (0.4 * 195_000 + 0.7 * 140_000))
    code, text, _ = call(capsys, *words)
    assert code == 0
    assert "BTCUSDT: short 1.8 contracts" in text
    assert "-0.2" in text


def test_several_factors_a_table_of_covariances_and_files_whole(
    shares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sigma = pd.DataFrame([[1.0e-4, 1.1e-4], [1.1e-4, 1.5e-4]], index=["SPX", "NDX"], columns=["SPX", "NDX"])
    sigma.to_csv(tmp_path / "sigma.csv")
    out = tmp_path / "deep" / "size"
    code, text, _ = call(
        capsys, "hedge", "--json", "size", "--holdings", str(shares), "--covariance", str(tmp_path / "sigma.csv"),
        "--instrument", "ES,price=1690,factor=SPX,month=201312,on=2013-10-07,basis_vol=2e-4,half_spread=7e-5,fee=1e-5",
        "--instrument", "NQ,price=3220,factor=NDX,month=201312,on=2013-10-07,basis_vol=3e-4,half_spread=8e-5,fee=1e-5",
        "--ratio", "0.8", "--residual-vol", "--current", "ES 201312=-100", "--out", str(out),
    )  # fmt: skip
    payload = json.loads(text)
    assert code == 0
    es = listed("ES", 1_690.0, "SPX", month="201312", on="2013-10-07", basis_vol=2e-4, half_spread=7e-5, fee=1e-5)
    nq = listed("NQ", 3_220.0, "NDX", month="201312", on="2013-10-07", basis_vol=3e-4, half_spread=8e-5, fee=1e-5)
    book = SpotBook({"IBM": 60_000, "BAC": 400_000}, {"IBM": 190.0, "BAC": 14.0})
    betas = pd.DataFrame({"SPX": [0.6, 0.9], "NDX": [0.2, 0.3]}, index=["IBM", "BAC"])
    size = size_hedge(
        book, [es, nq], betas, 0.8, sigma, current={"ES 201312": -100.0}, residual_vol={"IBM": 0.01, "BAC": 0.015}
    )
    assert payload["volatility"] == pytest.approx(dict(size.volatility()))
    written = pd.read_parquet(out / "tables" / "contracts.parquet")
    np.testing.assert_array_equal(written["contracts"], size.contracts)
    np.testing.assert_array_equal(written["trade"], size.trades)
    assert json.loads((out / "summary.json").read_text()) == payload
    assert {path.name for path in out.iterdir()} == {"summary.json", "tables"}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--holdings", "absent.csv", "--instrument", "ES,price=1690"), "--holdings"),
        (("--instrument", "ES"), "--instrument"),
        (("--instrument", "ES,price=dear"), "--instrument"),
        (("--instrument", "ES,price=1,colour=red"), "--instrument"),
        (("--instrument", "ES,price=1,price=2"), "--instrument"),
        (("--instrument", "ES,price=-1"), "price of ES"),
        (("--instrument", "binance:BTCUSDT,price=65000"), "betas"),  # nothing hedges the ether
        (("--instrument", "ES,price=1690", "--ratio", "most"), "--ratio"),
        (("--instrument", "ES,price=1690", "--ratio", "-1"), "betas"),
        (("--instrument", "ES,price=1690", "--current", "ES"), "--current"),
        (("--instrument", "ES,price=1690", "--covariance", "absent.csv"), "--covariance"),
        (("--instrument", "ES,price=1690", "--residual-vol"), "--holdings"),
        (("--instrument", "binance:BTCUSDT,price=1,factor=X", "--ratio", "-1"), "betas"),
    ],
    ids=str,
)
def test_a_bad_size_names_its_option(
    words: tuple[str, ...], field: str, coins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = () if "--holdings" in words else ("--holdings", str(coins))
    code, out, err = call(capsys, "hedge", "size", *held, *words, "--json")
    error = json.loads(out)["error"]
    assert (code, error["exit_code"]) == (2, 2)
    assert error["field"] == field
    assert error["remedy"]
    assert "Traceback" not in err


def test_files_that_are_no_holdings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "bytes.parquet": (b"no parquet", "cannot be read"),
        "empty.csv": (b"", "cannot be read"),
        "columns.csv": (b"name,units\nBTC,1\n", "lacks columns"),
        "both.csv": (b"name,units,price,beta,beta_X\nA,1,1,1,1\n", "beta and beta_FACTOR"),
        "words.csv": (b"name,units,price\nBTC,many,1\n", "numbers"),
    }
    for name, (body, word) in cases.items():
        path = tmp_path / name
        path.write_bytes(body)
        code, out, err = call(
            capsys, "hedge", "size", "--holdings", str(path), "--instrument", "ES,price=1690", "--json"
        )
        assert code == 2, name
        assert word in json.loads(out)["error"]["message"], name
        assert "Traceback" not in err


def test_policies_in_a_world_repeat_and_are_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare"
    words = (*WORLD, "--policies", "P3b,BF,P4", "--risk-aversion", "1e-5", "--horizon", "8")
    code, text, _ = call(capsys, *words, "--out", str(out), "--json")
    payload = json.loads(text)
    assert code in (0, 4)
    assert code == (4 if payload["fallbacks"] else 0)
    assert list(payload["policies"]) == [
        "P0 none", "P1 immediate", "P3b adaptive trigger", "BF fraction of the gap", "P4 MPC"]  # fmt: skip
    assert payload["worst_ledger_error"] <= 1e-9
    assert payload["parameters"]["P4 MPC"]["horizon"] == 8
    assert len(payload["orders"]) == 2
    assert payload["zero_impact"]["P1 immediate"]["cross_bps"] == 0.0
    parents = pd.read_parquet(out / "tables" / "hedge_parents.parquet")
    mean = parents.groupby("policy")["hedge_cost_bps"].mean()
    assert mean["P4 MPC"] == pytest.approx(payload["policies"]["P4 MPC"]["hedge_cost_mean_bps"])
    assert json.loads((out / "summary.json").read_text()) == payload
    _, again, _ = call(capsys, *words, "--json")
    assert json.loads(again) == payload | {"out": None}
    # Not tuned: the middle of each grid, and a word about it.
    code, told, _ = call(capsys, *words, "--no-tune")
    assert "straw man" in told
    assert "P3b adaptive trigger: threshold_bps=0.3" in told


def test_policies_on_data_with_a_future(capsys: pytest.CaptureFixture[str]) -> None:
    data = "sim:names=3,sectors=1,days=2,bucket_s=60,close_local=12:00"
    code, text, _ = call(capsys, "hedge", "compare", "--data", data, "--policies", "P2", "--no-tune", "--json")
    payload = json.loads(text)
    assert code == 0
    assert list(payload["policies"]) == ["P0 none", "P1 immediate", "P2 batched"]
    assert payload["tuned"] is False
    assert payload["parameters"] == {"P2 batched": {"every": 3}}
    assert payload["worst_ledger_error"] <= 1e-9
    assert any("hedged with SIM" in note for note in payload["notes"])


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--world", "nowhere"), "world"),
        (("--world", "calm", "--orders", "0"), "orders"),
        (("--world", "calm", "--training", "0"), "training"),
        (("--world", "calm", "--policies", "P9"), "policies"),
        (("--world", "calm", "--policies", "P4", "--horizon", "0"), "horizon"),
        (("--data", "csv:absent.csv"), "csv"),
    ],
    ids=str,
)
def test_a_bad_comparison_names_its_option(
    words: tuple[str, ...], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "never"
    code, text, err = call(capsys, "hedge", "compare", *words, "--out", str(out), "--json")
    assert code == 2
    assert json.loads(text)["error"]["field"] == field
    assert "Traceback" not in err
    assert not out.exists()
