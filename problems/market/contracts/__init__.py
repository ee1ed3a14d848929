"""Contract terms, expiries, sessions and funding times, by version."""

from __future__ import annotations

from crosswind.problems.market.contracts.calendars import CALENDARS, CalendarHours, is_session, sessions
from crosswind.problems.market.contracts.codes import contract_code, parse_code
from crosswind.problems.market.contracts.expiries import (
    Expiry,
    RollWindow,
    expiries,
    expiry_of,
    expiry_table,
    front,
    roll_window,
)
from crosswind.problems.market.contracts.funding_times import FundingSchedule
from crosswind.problems.market.contracts.futures_days import contract_sessions, trading_day
from crosswind.problems.market.contracts.hours import TradingHours
from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.problems.market.contracts.steps import round_to_step
from crosswind.problems.market.contracts.table import (
    TABLE_VERSION,
    contract,
    contract_table,
    contract_versions,
    lean_terms,
    table_digest,
)

__all__ = [
    "CALENDARS",
    "TABLE_VERSION",
    "CalendarHours",
    "ContractSpec",
    "Expiry",
    "FundingSchedule",
    "RollWindow",
    "TradingHours",
    "contract",
    "contract_code",
    "contract_sessions",
    "contract_table",
    "contract_versions",
    "expiries",
    "expiry_of",
    "expiry_table",
    "front",
    "is_session",
    "lean_terms",
    "parse_code",
    "roll_window",
    "round_to_step",
    "sessions",
    "table_digest",
    "trading_day",
]
