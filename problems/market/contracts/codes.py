"""Contract codes: ESZ3 is ES of December 2013, BTCUSDT_240927 the quarterly delivered on 27 September 2024."""

from __future__ import annotations

import re
from typing import Any

from crosswind.problems.market.checks import as_date
from crosswind.problems.market.contracts.cycle import MONTH_LETTERS, check_month
from crosswind.problems.market.contracts.expiries import expiry_of
from crosswind.problems.market.contracts.table import contract_versions
from crosswind.solvers.errors import InvalidInput

__all__ = ["contract_code", "parse_code"]

_LETTERED = re.compile(r"([A-Z0-9]+?)([FGHJKMNQUVXZ])(\d{1,2}|\d{4})")
_DATED = re.compile(r"([A-Z]+)_(\d{6})")


def contract_code(root: str, month: str, *, digits: int = 1) -> str:
    """Return the code of one contract: 'ESZ3', with ``digits=2`` 'ESZ13'; 'BTCUSDT_240927' where codes carry the day.

    Parameters
    ----------
    root
        Root in the table.
    month
        'YYYYMM'.
    digits
        Digits of the year in lettered codes: 1, 2 or 4.

    Raises
    ------
    InvalidInput, DataGap
        On an unknown root, a month outside its cycle, before its first version, or a perpetual.
    """
    if digits not in (1, 2, 4):
        raise InvalidInput("must be 1, 2 or 4", field="digits", value=digits, remedy="exchanges write one digit")
    spec = contract_versions(root)[-1]
    year, number = check_month(spec, month)
    if spec.kind == "delivery future":
        return f"{spec.symbol}_{expiry_of(root, month).day:%y%m%d}"
    return f"{spec.symbol}{MONTH_LETTERS[number - 1]}{str(year)[-digits:]}"


def parse_code(code: str, on: Any = None) -> tuple[str, str]:
    """Return (root, 'YYYYMM') of a contract code.

    Parameters
    ----------
    code
        'ESZ3', 'ESZ13', 'ESZ2013' or 'BTCUSDT_240927'.
    on
        Day on which the code was in use; a one-digit year means the first such year whose month is not before it.

    Raises
    ------
    InvalidInput
        If the code cannot be read, its root or month is unknown, or a one-digit year comes without ``on``.
    """
    dated = _DATED.fullmatch(code) if isinstance(code, str) else None
    if dated:
        root = f"{dated[1]}_QUARTER"
        month = f"20{dated[2][:4]}"
        if contract_code(root, month) != code:
            raise InvalidInput(
                "no contract is delivered on that day",
                field="code",
                value=code,
                remedy=f"that quarter's is {contract_code(root, month)}",
            )
        return root, month
    lettered = _LETTERED.fullmatch(code) if isinstance(code, str) else None
    if not lettered:
        raise InvalidInput(
            "not a contract code", field="code", value=code, remedy="write it as 'ESZ3' or 'BTCUSDT_240927'"
        )
    root, number, digits = lettered[1], MONTH_LETTERS.index(lettered[2]) + 1, lettered[3]
    spec = contract_versions(root)[-1]
    if len(digits) == 1:
        if on is None:
            raise InvalidInput(
                "one digit of the year is ambiguous: it comes round every ten years",
                field="code",
                value=code,
                remedy="say on=… when the code was in use, or write two digits",
            )
        day = as_date(on, "on")
        year = next(y for y in range(day.year, day.year + 11) if y % 10 == int(digits))
        month = f"{year}{number:02d}"
        check_month(spec, month)
        # In the year itself the contract may have expired already: then the code means the next decade.
        if expiry_of(root, month).day < day:
            month = f"{year + 10}{number:02d}"
    else:
        month = f"{int(digits) if len(digits) == 4 else 2000 + int(digits)}{number:02d}"
    check_month(spec, month)
    return spec.root, month
