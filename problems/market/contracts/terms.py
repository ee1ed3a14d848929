"""The terms themselves: one chain of versions per contract, with where each number was found.

"Read" names the page or circular whose text was read while this table was written; "in data" means that the recorded
market data show it; "not verified" is common knowledge of the field that no page at hand confirmed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from crosswind.problems.market.contracts.funding_times import EVERY_8_HOURS
from crosswind.problems.market.contracts.hours import TradingHours
from crosswind.problems.market.contracts.model import ContractSpec

__all__ = ["ALL_TERMS"]

_QUARTERS = (3, 6, 9, 12)
_NEW_YORK = "America/New_York"


def _chain(first: ContractSpec, *changes: dict[str, Any]) -> tuple[ContractSpec, ...]:
    """Return the versions of one contract: each change keeps what it does not name, but notes are its own."""
    out = [first]
    for change in changes:
        out.append(replace(out[-1], **({"note": "", "unverified": ()} | change), version=out[-1].version + 1))
    return tuple(out)


# -- CME equity index futures ------------------------------------------------------------------------------------------

# Half days end at 12:15 Chicago time, cash holidays at 10:30 until February 2014 and at 12:00 from 26 May 2014 on: read
# in LEAN's market hours of CME's equity index futures, day by day for 2009–2022, and in CME's notices of 2006–2013.
_GLOBEX_2003 = TradingHours(
    "16:30",
    "16:15",
    _NEW_YORK,
    halts=(("17:30", "18:00"),),
    opens_after_closure="18:00",
    half_day_close="13:15",
    holiday_close="11:30",
)
_GLOBEX_2012 = TradingHours(
    "18:00", "17:15", _NEW_YORK, halts=(("16:15", "16:30"),), half_day_close="13:15", holiday_close="11:30"
)
_GLOBEX_2014 = replace(_GLOBEX_2012, holiday_close="13:00")
_GLOBEX_2015 = replace(_GLOBEX_2014, closes="17:00")
_GLOBEX_2021 = replace(_GLOBEX_2015, halts=())

_HOURS_2003_NOTE = "Globex hours before 2012 as announced in 2003; the Sunday opening as of 2006"
_HOURS_2012 = {"hours": _GLOBEX_2012, "valid_from": dt.date(2012, 11, 19)}
_HOURS_2014 = {"hours": _GLOBEX_2014, "valid_from": dt.date(2014, 5, 26)}
_HOURS_2015 = {"hours": _GLOBEX_2015, "valid_from": dt.date(2015, 9, 21)}
_HOURS_2021 = {
    "hours": _GLOBEX_2021,
    "valid_from": dt.date(2021, 6, 28),
    "note": "pages with and without the 16:15 halt are read; the date of its end is not verified",
    "unverified": ("valid_from",),
}
_ROLL_2022 = {
    "roll": "monday of expiry week",
    "valid_from": dt.date(2022, 6, 13),
    "note": "that the lead month changed its rule that day is read; that the rule is the Monday, from a broker's page",
}
_ROLL_2022_OTHERS = _ROLL_2022 | {"valid_from": dt.date(2022, 7, 18)}

_CME_SOURCE = (
    "read: cmegroup.com contract specifications (unit, ticks, termination at 9:30 New York on the third Friday); "
    "cmegroup.com roll dates 2012–2014 (eight calendar days before expiry); CME's notice of 18 November 2012 and "
    "NinjaTrader advisory 25 of 2015 (hours); LEAN's market hours (half days, holidays); "
    "iqhelp.dtn.com (lead month from 13 June 2022); in data: ES hours 2013"
)


def _cme(
    root: str, title: str, multiplier: float, tick: float, first_month: str, valid_from: dt.date, **other: Any
) -> ContractSpec:
    terms: dict[str, Any] = {"hours": _GLOBEX_2003, "source": _CME_SOURCE} | other
    return ContractSpec(
        root=root,
        symbol=root,
        title=title,
        exchange="cme",
        kind="index future",
        currency="USD",
        settlement_currency="USD",
        multiplier=multiplier,
        tick=tick,
        spread_tick=0.05,
        expiry_rule="third friday",
        expiry_time="09:30",
        months=_QUARTERS,
        first_month=first_month,
        calendar="CMES",
        cash_calendar="XNYS",
        tz=_NEW_YORK,
        roll="thursday before expiry week",
        lean_market="cme",
        valid_from=valid_from,
        **terms,
    )


_OLD = dt.date(2003, 9, 29)
_ES = _chain(
    _cme("ES", "E-mini S&P 500 future", 50.0, 0.25, "200312", _OLD, note=_HOURS_2003_NOTE),
    _HOURS_2012,
    _HOURS_2014,
    _HOURS_2015,
    _HOURS_2021,
    _ROLL_2022,
)
_NQ = _chain(
    _cme(
        "NQ",
        "E-mini Nasdaq-100 future",
        20.0,
        0.25,
        "200703",
        dt.date(2007, 1, 1),
        note="tick and spread tick read for 2007 and later; earlier ones are not in the table",
    ),
    _HOURS_2012,
    _HOURS_2014,
    _HOURS_2015,
    _HOURS_2021,
    _ROLL_2022_OTHERS,
)
_RTY = _chain(
    _cme(
        "RTY",
        "E-mini Russell 2000 future",
        50.0,
        0.1,
        "201709",
        dt.date(2017, 7, 10),
        hours=_GLOBEX_2015,
        source="read: cmegroup.com FAQ 'Return of the Russell 2000' (launch 10 July 2017, $50) and contract "
        "specifications; " + _CME_SOURCE,
        note="the contracts of ICE (TF) and of CME before 2008 (ER2, $100 a point) are not in the table",
    ),
    _HOURS_2021,
    _ROLL_2022_OTHERS,
)


def _micro(root: str, title: str, multiplier: float, tick: float, roll: dict[str, Any]) -> tuple[ContractSpec, ...]:
    first = _cme(
        root,
        title,
        multiplier,
        tick,
        "201906",
        dt.date(2019, 5, 6),
        hours=_GLOBEX_2015,
        source="read: cmegroup.com Micro E-mini page (launch 6 May 2019, size, ticks); " + _CME_SOURCE,
    )
    return _chain(first, _HOURS_2021, roll)


_MES = _micro("MES", "Micro E-mini S&P 500 future", 5.0, 0.25, _ROLL_2022)
_MNQ = _micro("MNQ", "Micro E-mini Nasdaq-100 future", 2.0, 0.25, _ROLL_2022_OTHERS)
_M2K = _micro("M2K", "Micro E-mini Russell 2000 future", 5.0, 0.1, _ROLL_2022_OTHERS)

# -- Eurex -------------------------------------------------------------------------------------------------------------

_EUREX_2006 = TradingHours("08:00", "22:00", "Europe/Berlin")
# 01:15 in winter and 02:15 in summer are one and the same UTC time.
_EUREX_2018 = TradingHours("00:15", "22:00", "Europe/Berlin", opens_tz="UTC")
_EUREX_NOTE = "continuous trading after the opening auction at 00:15 UTC as announced; a later page says 00:10"
_FESX = _chain(
    ContractSpec(
        root="FESX",
        symbol="FESX",
        title="EURO STOXX 50 index future",
        exchange="eurex",
        kind="index future",
        currency="EUR",
        settlement_currency="EUR",
        multiplier=10.0,
        tick=1.0,
        spread_tick=1.0,
        expiry_rule="third friday",
        expiry_time="12:00",
        months=_QUARTERS,
        first_month="200606",
        calendar="XEUR",
        cash_calendar="XEUR",
        hours=_EUREX_2006,
        tz="Europe/Berlin",
        roll="last sessions",
        lean_market="eurex",
        valid_from=dt.date(2006, 6, 1),
        source="read: eurex.com product page (EUR 10, last trading day 12:00); Eurex circulars 124/19 (calendar spread "
        "1.0 to 0.25 on 23 March 2020), 007/21 (tick 1.0 to 0.5 on 21 June 2021), 084/20 and the initiative page on "
        "trading hours from 10 December 2018; Mondo Visione of April 2006 (08:00) and July 2005 (22:00)",
        note="later pages open pre-trading at 07:30 and trading from 07:50; when 08:00 changed is not verified. "
        "The roll convention is the field's habit, no rule of the exchange",
        unverified=("hours", "roll"),
    ),
    {
        "hours": _EUREX_2018,
        "valid_from": dt.date(2018, 12, 10),
        "note": _EUREX_NOTE,
        "unverified": ("hours", "roll"),
    },
    {"spread_tick": 0.25, "valid_from": dt.date(2020, 3, 23), "note": _EUREX_NOTE, "unverified": ("hours", "roll")},
    {"tick": 0.5, "valid_from": dt.date(2021, 6, 21), "note": _EUREX_NOTE, "unverified": ("hours", "roll")},
)

# -- crypto ------------------------------------------------------------------------------------------------------------

_ALWAYS = TradingHours("00:00", "24:00", "UTC")


def _crypto(root: str, exchange: str, title: str, multiplier: float, tick: float, **other: Any) -> ContractSpec:
    coin = root[:3]
    inverse = bool(other.get("inverse"))
    return ContractSpec(
        root=root,
        exchange=exchange,
        title=title,
        multiplier=multiplier,
        tick=tick,
        currency="USD" if inverse else "USDT",
        settlement_currency=coin if inverse else "USDT",
        calendar="24/7",
        hours=_ALWAYS,
        tz="UTC",
        lean_market=exchange,
        **({"symbol": root} | other),
    )


def _perpetual(root: str, exchange: str, title: str, multiplier: float, tick: float, **other: Any) -> ContractSpec:
    return _crypto(
        root, exchange, title, multiplier, tick, kind="perpetual", funding=EVERY_8_HOURS, **({"lot": 1.0} | other)
    )


def _quarterly(root: str, title: str, multiplier: float, tick: float, **other: Any) -> ContractSpec:
    return _crypto(
        root,
        "binance",
        title,
        multiplier,
        tick,
        kind="delivery future",
        expiry_rule="last friday of the quarter",
        expiry_time="08:00",
        months=_QUARTERS,
        roll="delivery week",
        symbol=root.removesuffix("_QUARTER"),
        **other,
    )


_USDM = "read: Binance's USDⓈ-M specifications (one coin per contract, funding every eight hours); "
_ONBOARD = dt.date(2019, 9, 25)
_BTCUSDT = _chain(
    _perpetual(
        "BTCUSDT",
        "binance",
        "Binance USDⓈ-M BTC perpetual",
        1.0,
        0.01,
        lot=0.001,
        valid_from=_ONBOARD,
        source=_USDM + "copies of the exchange's own listing (onboarded 25 September 2019, lot 0.001)",
        note="the first tick of 0.01 is not verified",
        unverified=("tick",),
    ),
    {
        "tick": 0.1,
        "valid_from": dt.date(2022, 3, 1),
        "source": _USDM + "copies of the exchange's own listing (tick 0.10); in data: tick and lot 2024-08-08",
        "note": "the tick of 0.1 is seen in data of 2024-08-08; the day of the change is not verified",
        "unverified": ("valid_from",),
    },
)
_ETHUSDT = (
    _perpetual(
        "ETHUSDT",
        "binance",
        "Binance USDⓈ-M ETH perpetual",
        1.0,
        0.01,
        lot=0.001,
        valid_from=dt.date(2019, 11, 27),
        source=_USDM + "in data: tick and lot 2024-08-08",
        note="the day of the launch is not verified; the exchange's listing gives 25 September 2019 for all early ones",
        unverified=("valid_from",),
    ),
)
_USDM_QUARTER = (
    "read: Binance's USDⓈ-M quarterly rules of 3 February 2021 (last Friday of the quarter, 08:00 UTC, one coin per "
    "contract)"
)
_USDM_QUARTER_NOTE = "tick and lot are not verified; the terms' page is of 3 February 2021, taken as the launch"
_BTCUSDT_QUARTER = (
    _quarterly(
        "BTCUSDT_QUARTER",
        "Binance USDⓈ-M BTC quarterly",
        1.0,
        0.1,
        lot=0.001,
        first_month="202103",
        valid_from=dt.date(2021, 2, 3),
        source=_USDM_QUARTER,
        note=_USDM_QUARTER_NOTE,
        unverified=("tick", "lot", "valid_from", "roll"),
    ),
)
_ETHUSDT_QUARTER = (
    _quarterly(
        "ETHUSDT_QUARTER",
        "Binance USDⓈ-M ETH quarterly",
        1.0,
        0.01,
        lot=0.001,
        first_month="202103",
        valid_from=dt.date(2021, 2, 3),
        source=_USDM_QUARTER,
        note=_USDM_QUARTER_NOTE,
        unverified=("tick", "lot", "valid_from", "roll"),
    ),
)
_COINM = "read: Binance's COIN-M specifications ($100 face value for BTC, $10 for others, funding every eight hours); "
_BTCUSD_PERP = (
    _perpetual(
        "BTCUSD_PERP",
        "binance",
        "Binance COIN-M BTC perpetual",
        100.0,
        0.1,
        inverse=True,
        valid_from=dt.date(2020, 8, 10),
        source=_COINM + "a copy of its listing (onboarded 10 August 2020, $100); in data: tick and lot 2024-08-08",
    ),
)
_ETHUSD_PERP = (
    _perpetual(
        "ETHUSD_PERP",
        "binance",
        "Binance COIN-M ETH perpetual",
        10.0,
        0.01,
        inverse=True,
        valid_from=dt.date(2020, 8, 17),
        source=_COINM + "in data: tick and lot 2024-08-08",
        note="the day of the launch is not verified",
        unverified=("valid_from",),
    ),
)
_BTCUSD_QUARTER = (
    _quarterly(
        "BTCUSD_QUARTER",
        "Binance COIN-M BTC quarterly",
        100.0,
        0.1,
        inverse=True,
        first_month="202009",
        valid_from=dt.date(2020, 6, 11),
        source="read: Binance's COIN-M specifications, blog of 12 June 2020 (first contract 0925, tick 0.1, $100) "
        "and the delivery rules "
        "(last Friday of the quarter, 08:00 UTC)",
        note="the roll convention is the table's own: the week of the delivery",
        unverified=("roll",),
    ),
)
_ETHUSD_QUARTER = (
    _quarterly(
        "ETHUSD_QUARTER",
        "Binance COIN-M ETH quarterly",
        10.0,
        0.01,
        inverse=True,
        first_month="202009",
        valid_from=dt.date(2020, 8, 13),
        source=_COINM + "delivery rules (last Friday of the quarter, 08:00 UTC)",
        note="tick and the day of the launch are not verified",
        unverified=("tick", "valid_from", "roll"),
    ),
)
_BYBIT_BTCUSDT = _chain(
    _perpetual(
        "BTCUSDT",
        "bybit",
        "Bybit BTC USDT perpetual",
        1.0,
        0.5,
        lot=0.001,
        valid_from=dt.date(2020, 3, 30),
        source="read: Bybit's instrument listing (launched 30 March 2020); in data: tick, lot and funding 2022-12-13",
    ),
    {
        "tick": 0.1,
        "valid_from": dt.date(2023, 1, 1),
        "note": "the tick of 0.1 and the day of the change are not verified: 0.5 is seen in data of 2022-12-13",
        "unverified": ("tick", "valid_from"),
    },
)
_BYBIT_BTCUSD = (
    _perpetual(
        "BTCUSD",
        "bybit",
        "Bybit BTC inverse perpetual",
        1.0,
        0.5,
        inverse=True,
        valid_from=dt.date(2018, 11, 14),
        source="read: Bybit's help pages ($1 per contract, settled in BTC); in data: tick, lot and funding 2022-12-13",
        note="the day of the launch is not verified; whether the tick changed after 2022-12-13 neither",
        unverified=("tick", "valid_from"),
    ),
)

ALL_TERMS: tuple[tuple[ContractSpec, ...], ...] = (
    _ES,
    _MES,
    _NQ,
    _MNQ,
    _RTY,
    _M2K,
    _FESX,
    _BTCUSDT,
    _ETHUSDT,
    _BTCUSDT_QUARTER,
    _ETHUSDT_QUARTER,
    _BTCUSD_PERP,
    _ETHUSD_PERP,
    _BTCUSD_QUARTER,
    _ETHUSD_QUARTER,
    _BYBIT_BTCUSDT,
    _BYBIT_BTCUSD,
)
