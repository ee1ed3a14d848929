"""The versioned table: which terms were in force, and that numbers do not change without a version."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import pytest

from crosswind.problems.market.contracts import (
    TABLE_VERSION,
    contract,
    contract_table,
    contract_versions,
    lean_terms,
    table_digest,
)
from crosswind.problems.market.contracts.table import DIGESTS
from crosswind.problems.market.contracts.terms import ALL_TERMS
from crosswind.solvers.errors import DataGap, InvalidInput


def test_numbers_do_not_change_without_a_new_version():
    assert table_digest() == DIGESTS[TABLE_VERSION], (
        "a number in terms.py changed: give the table a new TABLE_VERSION and add its digest, keeping the old ones"
    )


@pytest.mark.parametrize("chain", ALL_TERMS, ids=lambda chain: chain[0].key)
def test_versions_are_numbered_ordered_and_sourced(chain):
    assert [spec.version for spec in chain] == list(range(1, len(chain) + 1))
    days = [spec.valid_from for spec in chain]
    assert days == sorted(set(days))
    assert len({(spec.exchange, spec.root) for spec in chain}) == 1
    for before, after in itertools.pairwise(chain):
        assert before.digest != after.digest
    for spec in chain:
        assert spec.source.startswith("read: ")
        assert contract(f"{spec.exchange}:{spec.root}", on=spec.valid_from) == spec
    first = chain[0]
    with pytest.raises(DataGap, match=str(first.valid_from)):
        contract(f"{first.exchange}:{first.root}", on=first.valid_from - dt.timedelta(days=1))


@pytest.mark.parametrize(
    ("root", "multiplier", "tick", "spread"),
    [
        ("ES", 50, 0.25, 0.05),
        ("MES", 5, 0.25, 0.05),
        ("NQ", 20, 0.25, 0.05),
        ("MNQ", 2, 0.25, 0.05),
        ("RTY", 50, 0.1, 0.05),
        ("M2K", 5, 0.1, 0.05),
        ("FESX", 10, 0.5, 0.25),
        ("BTCUSD_PERP", 100, 0.1, None),
        ("ETHUSD_PERP", 10, 0.01, None),
        ("BTCUSD_QUARTER", 100, 0.1, None),
        ("binance:BTCUSDT", 1, 0.1, None),
        ("ETHUSDT", 1, 0.01, None),
        ("bybit:BTCUSD", 1, 0.5, None),
    ],
)
def test_terms_today(root, multiplier, tick, spread):
    spec = contract(root)
    assert (spec.multiplier, spec.tick, spec.spread_tick) == (multiplier, tick, spread)


def test_terms_that_changed():
    assert contract("ES", on="2013-10-07").hours.closes == "17:15"
    assert contract("ES", on="2012-11-16").hours.closes == "16:15"
    assert contract("ES", on="2015-09-21").hours.closes == "17:00"
    assert contract("ES", on="2021-06-25").hours.halts == (("16:15", "16:30"),)
    assert contract("ES", on="2021-06-28").hours.halts == ()
    assert contract("ES", on="2022-06-12").roll == "thursday before expiry week"
    assert contract("ES", on="2022-06-13").roll == "monday of expiry week"
    assert contract("NQ", on="2022-06-13").roll == "thursday before expiry week"
    ticks = [contract("FESX", on=day).tick for day in ("2021-06-18", "2021-06-21")]
    assert ticks == [1.0, 0.5]
    spreads = [contract("FESX", on=day).spread_tick for day in ("2020-03-20", "2020-03-23")]
    assert spreads == [1.0, 0.25]


def test_launches():
    for root, day in (("MES", "2019-05-03"), ("RTY", "2017-07-07"), ("BTCUSD_PERP", "2020-08-09")):
        with pytest.raises(DataGap):
            contract(root, on=day)


def test_unknown_ambiguous_and_malformed():
    with pytest.raises(InvalidInput, match="no such contract"):
        contract("FTSE")
    with pytest.raises(InvalidInput, match="bybit:BTCUSDT"):
        contract("BTCUSDT")
    with pytest.raises(InvalidInput):
        contract("bybit:ES")
    with pytest.raises(InvalidInput):
        contract("")
    with pytest.raises(InvalidInput):
        contract("ES", on="yesterday")
    assert contract("es") is contract("CME:ES")
    assert contract("bybit:BTCUSDT").exchange == "bybit"
    assert contract("binance:BTCUSDT").exchange == "binance"


def test_the_table_as_a_frame():
    everything = contract_table()
    assert len(everything) == sum(len(chain) for chain in ALL_TERMS)
    assert everything.index.is_unique
    then = contract_table(on="2013-10-07")
    assert set(then["root"]) == {"ES", "NQ", "FESX"}
    assert contract_table(on="1999-01-04").empty
    assert len(contract_versions("ES")) == 6
    assert everything.loc["bybit:BTCUSDT@2", "unverified"] == "tick, valid_from"


def test_what_a_reader_of_leans_layout_needs():
    assert lean_terms("ES", on="2013-10-07") == (50.0, 0.25, "cme")
    assert lean_terms("NQ") == (20.0, 0.25, "cme")
    assert lean_terms("FESX", on="2013-10-07") == (10.0, 1.0, "eurex")


def test_the_printed_table_is_the_table():
    page = (Path(__file__).resolve().parents[2] / "docs" / "contracts.md").read_text(encoding="utf-8")
    columns = ["valid_from", "multiplier", "inverse", "tick", "spread_tick", "opens", "closes", "roll"]
    printed = "\n".join(line.rstrip() for line in contract_table()[columns].to_string().splitlines())
    assert printed in page
