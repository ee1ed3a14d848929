"""The versioned table of contracts: which terms were in force on a day."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import pandas as pd

from crosswind.problems.market.checks import as_date
from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.problems.market.contracts.terms import ALL_TERMS
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = [
    "DIGESTS",
    "TABLE_VERSION",
    "contract",
    "contract_table",
    "contract_versions",
    "lean_terms",
    "table_digest",
]

#: Version of the whole table; a change of any number needs a new one, with its digest below.
TABLE_VERSION = "1"

#: Version → :func:`table_digest` of it, so that results can say by which numbers they were computed.
DIGESTS = {
    "1": "75b6a74def1e0ba06405cd8719fa3cfb77ab9d80a36d99175db31d8324879309",
}

_CHAINS: dict[str, tuple[ContractSpec, ...]] = {f"{chain[0].exchange}:{chain[0].root}": chain for chain in ALL_TERMS}


def _key(root: str) -> str:
    """Return 'exchange:root' of a root with or without its exchange, or refuse it."""
    if not isinstance(root, str) or not root:
        raise InvalidInput("not a root", field="root", value=root, remedy="e.g. 'ES' or 'bybit:BTCUSDT'")
    venue, _, name = root.rpartition(":")
    matches = [key for key in _CHAINS if key.split(":")[1] == name.upper() and venue.lower() in ("", key.split(":")[0])]
    if not matches:
        raise InvalidInput(
            "no such contract in the table",
            field="root",
            value=root,
            remedy=f"choose among {', '.join(sorted(_CHAINS))}, or build a ContractSpec of your own",
        )
    if len(matches) > 1:
        raise InvalidInput(
            "several exchanges list this root, with different terms",
            field="root",
            value=root,
            remedy=f"name the exchange: {' or '.join(sorted(matches))}",
        )
    return matches[0]


def contract_versions(root: str) -> tuple[ContractSpec, ...]:
    """Return all versions of one contract, oldest first.

    Parameters
    ----------
    root
        'ES', or with its exchange 'bybit:BTCUSDT'; the exchange is needed where two list the same root.

    Raises
    ------
    InvalidInput
        On an unknown or ambiguous root.
    """
    return _CHAINS[_key(root)]


def contract(root: str, on: Any = None) -> ContractSpec:
    """Return the terms of a contract in force on a trading day.

    Parameters
    ----------
    root
        'ES', or with its exchange 'bybit:BTCUSDT'.
    on
        Trading day (date or '2013-10-07'); default the latest version in the table.

    Raises
    ------
    InvalidInput
        On an unknown or ambiguous root, or a malformed date.
    DataGap
        On a day before the first version: the contract was not listed, or its terms then are not known here.
    """
    versions = contract_versions(root)
    if on is None:
        return versions[-1]
    day = as_date(on, "on")
    in_force = [spec for spec in versions if spec.valid_from <= day]
    if not in_force:
        raise DataGap(
            f"the table knows {versions[0].exchange}:{versions[0].root} from {versions[0].valid_from} only",
            field="on",
            value=day,
            remedy="ask for a later day, or build a ContractSpec with the terms of that time",
        )
    return in_force[-1]


def contract_table(on: Any = None) -> pd.DataFrame:
    """Return the terms of all contracts as a table, one row per version, or those in force on a day.

    Parameters
    ----------
    on
        Trading day; default all versions.
    """
    if on is None:
        specs = [spec for chain in ALL_TERMS for spec in chain]
    else:
        day: dt.date = as_date(on, "on")
        latest = ([spec for spec in chain if spec.valid_from <= day] for chain in ALL_TERMS)
        specs = [chain[-1] for chain in latest if chain]
    return pd.concat([spec.to_frame() for spec in specs]) if specs else ALL_TERMS[0][0].to_frame().iloc[:0]


def table_digest() -> str:
    """Return the SHA-256 over the digests of all versions, in order."""
    text = "\n".join(f"{spec.key} {spec.digest}" for chain in ALL_TERMS for spec in chain)
    return hashlib.sha256(text.encode()).hexdigest()


def lean_terms(root: str, on: Any = None) -> tuple[float, float, str]:
    """Return (multiplier, tick, market folder), what a reader of LEAN's layout needs of a contract.

    Parameters
    ----------
    root, on
        As in :func:`contract`.
    """
    spec = contract(root, on)
    return spec.multiplier, spec.tick, spec.lean_market
