"""The declared worlds: every number of each; what a number rests on is said beside it.

"Measured" means on the recorded days by ``benchmarks/calibrate_worlds.py``, whose table stands in the docs; "chosen"
means that the recorded days hold no such event, so that a size was set for the purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from crosswind.problems.market.simulator.basis_shocks import BasisJumps
from crosswind.problems.market.simulator.breaks import CorrelationBreaks
from crosswind.problems.market.simulator.desk_parameters import DeskParameters
from crosswind.problems.market.simulator.mechanisms import Mechanisms
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.perpetual_parameters import PerpetualParameters
from crosswind.problems.market.simulator.power_law import PowerLaw
from crosswind.problems.market.simulator.regimes import VolatilityRegimes
from crosswind.problems.market.simulator.shocks import Jumps
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.venue_parameters import VenueParameters
from crosswind.problems.market.simulator.worlds import World
from crosswind.solvers.errors import InvalidInput

__all__ = ["WORLDS", "world"]

_CALM = SimulatorParameters(
    # Measured: volatility of SPY and of AIG, BAC, IBM, their common share, U-shapes, clustering, tails.
    # An index of eight names keeps an eighth of their own moves: at the recorded correlation it moves more than SPY.
    market_vol_daily=0.0032,
    sector_vol_daily=0.0025,
    idio_vol_daily=0.0077,
    vol_u_shape=0.25,  # between the open's and the close's: the profile is symmetric, the recorded days are not
    vol_regime_sd=0.45,
    regime_half_life_s=450.0,
    tail_dof=12.0,
    # Measured: notional a day, its U-shape and dispersion within 10 s, imbalance, autocorrelation and common part of
    # flow. Signed notional forgets within a minute; the slow mode stands for the long memory of trade signs.
    adv=7.5e8,
    volume_u_shape=0.45,
    volume_regime_sd=0.08,
    volume_noise_sd=1.2,
    imbalance_scale=1.38,
    flow_half_lives_s=(10.0, 60.0, 600.0),
    flow_weights=(0.5, 0.03, 0.02),
    flow_market_share=0.35,
    flow_sector_share=0.15,
    # Measured: R² of returns on own flow over 10 s, and a response to flow that hardly moves within five minutes.
    impact_r2=0.45,
    kernel_half_lives_s=(20.0, 7200.0),
    kernel_weights=(0.43, 0.57),
    # Measured: spreads and depth and how little they follow volatility within ordinary days; prices of the three names.
    # The powers lie between those of the slow common moves (0.2 and 0.28) and those that the names' own ranks show.
    price=50.0,
    price_dispersion=0.6,
    spread_bps=2.5,
    spread_vol_power=0.12,
    depth_s=3.9,
    depth_vol_power=0.13,
    depth_noise_sd=0.48,
    # Measured: ES in October 2013: level, basis to SPY beyond tick bounce, contracts traded and quoted.
    index_level=1650.0,
    basis_vol_bps=0.35,
    basis_half_life_s=300.0,
    calendar_vol_bps=0.1,
    carry_rate=-0.015,  # dividends exceed interest, as they did then
    future_volume_per_day=9.0e5,
    future_depth_contracts=420.0,
)
# Chosen: a second from decision to market and an exchange's and broker's fee of about a dollar a contract.
_VENUE = VenueParameters(fee_per_contract=1.2)
_DESK = DeskParameters()
_CALL = {"start": "2024-01-08"}  # far from a roll of the future

_STRESS = replace(
    _CALM,
    # Chosen: spreads rise in proportion to volatility and depth falls faster, as in no recorded day here.
    spread_vol_power=1.0,
    depth_vol_power=1.5,
    depth_s=2.1,  # the mean over calm times stays near the recorded one
    future_depth_contracts=210.0,
)
_COINS = replace(
    _CALM,
    # Chosen: about 50 % a year, no night and hardly a U-shape, books as of the larger coins.
    market_vol_daily=0.022,
    sector_vol_daily=0.006,
    idio_vol_daily=0.018,
    overnight_vol_ratio=0.0,
    vol_u_shape=0.1,
    volume_u_shape=0.1,
    adv=1.0e9,
    price=100.0,
    price_dispersion=1.0,
    tick=0.001,
    spread_bps=0.6,
    index_level=60_000.0,
    future_tick=0.5,
    future_multiplier=0.1,
    carry_rate=0.05,
    basis_vol_bps=1.6,  # measured: Bybit's perpetual less spot on 2022-12-13
    open_local="00:00",
    close_local="24:00",
)

_ALL = (
    World("calm", 1, "the baseline: ordinary days as recorded", market=_CALM, call=_CALL, desk=_DESK, venue=_VENUE),
    World(
        "stress",
        1,
        "volatility regimes and jumps; spreads widen and depth falls when volatility rises",
        market=_STRESS,
        call=_CALL,
        # Chosen: stressed for a fifth of the time at 2.5 times the volatility and 1.8 times the volume.
        mechanisms=Mechanisms(
            regimes=VolatilityRegimes(calm_s=10_800.0, stressed_s=2_700.0, volatility=2.5, volume=1.8, future_ticks=2),
            jumps=Jumps(market_per_day=1.5, market_sd=0.003, name_per_day=0.5, name_sd=0.006),
        ),
        desk=_DESK,
        venue=replace(_VENUE, reject_probability=0.02, close_spread_multiple=3.0),
    ),
    World(
        "basis_shock",
        1,
        "jumps in the future's basis that decay: hedges that are right on average and wrong at the moment",
        market=_CALM,
        call=_CALL,
        # Chosen: a typical jump is four ticks of the future, gone by half in a quarter of an hour.
        mechanisms=Mechanisms(basis_jumps=BasisJumps(per_day=4.0, sd_bps=6.0, half_life_s=900.0)),
        desk=_DESK,
        venue=_VENUE,
    ),
    World(
        "correlation_break",
        1,
        "a window in each session in which the names let go of the market and of the future",
        market=_CALM,
        call=_CALL,
        mechanisms=Mechanisms(  # chosen
            breaks=CorrelationBreaks(probability=0.8, length_s=5_400.0, coupling=0.3, gap_half_life_s=1_800.0)
        ),
        desk=_DESK,
        venue=_VENUE,
    ),
    World(
        "roll_day",
        1,
        "the days on which volume moves to the next expiry: calendar-spread book and leg books",
        market=replace(_CALM, future_bar_s=10.0),
        call={"start": "2024-03-06"},  # nine days before the expiry of March
        roll=RollParameters(),
        desk=_DESK,
        venue=_VENUE,
    ),
    World(
        "funding",
        1,
        "a market that never closes, with a perpetual, its premium and its funding",
        market=_COINS,
        call={"names": 4, "sectors": 1, "bucket_s": 60.0, "tz": "UTC", "calendar": "24/7"},
        perpetual=PerpetualParameters(),
        desk=replace(_DESK, vwap_u_shape=0.1),  # the market's own volume_u_shape
        venue=replace(_VENUE, fee_per_contract=0.05),
    ),
    World(
        "revisions",
        1,
        "plans are revised and parents cancelled often",
        market=_CALM,
        call=_CALL,
        desk=replace(_DESK, revision_probability=0.7, revisions_max=4, cancel_probability=0.25),  # chosen
        venue=_VENUE,
    ),
    World(
        "rate_limited",
        1,
        "the venue's limits bind: few messages, small clips, slow and sometimes refused",
        # Chosen: three slices a minute, so that two messages a minute are a limit that binds.
        market=replace(_CALM, future_bar_s=20.0, hedge_latency_s=3.0),
        call=_CALL,
        desk=replace(_DESK, slice_s=20.0),
        venue=replace(  # chosen
            _VENUE,
            latency_s=3.0,
            latency_jitter_s=1.0,
            participation=0.05,
            reject_probability=0.05,
            retry_delay_s=10.0,
            max_orders_per_minute=2,
        ),
    ),
    World(
        "zero_impact",
        1,
        "calm without price impact: what a policy gains here it does not owe to an assumed kernel",
        market=replace(_CALM, impact_r2=0.0),
        call=_CALL,
        desk=_DESK,
        venue=_VENUE,
    ),
    World(
        "misspecified",
        1,
        "calm with a power-law kernel whose cross-impact decays otherwise than the own: no estimator's dictionary",
        market=replace(_CALM, kernel_tilt=0.5, kernel_corr_within=0.3),
        call=_CALL,
        # Cited: Bouchaud, Gefen, Potters and Wyart (2004) find impact to decay with an exponent near (1 - γ)/2 for
        # signs that decorrelate with γ of 0.2 to 0.7, so 0.15 to 0.4.
        mechanisms=Mechanisms(power_law=PowerLaw(exponent=0.35, scale_s=15.0)),
        desk=_DESK,
        venue=_VENUE,
    ),
)
_EDITIONS: Mapping[str, World] = MappingProxyType({item.key: item for item in _ALL})
WORLDS: Mapping[str, World] = MappingProxyType({item.name: item for item in sorted(_ALL, key=lambda w: w.version)})
"""Name → the latest version of each declared world."""


def world(name: str) -> World:
    """Return a declared world by name (its latest version) or by key.

    Parameters
    ----------
    name
        ``"stress"`` or ``"stress@1"``.

    Returns
    -------
    World

    Raises
    ------
    InvalidInput
        For an unknown name or version, with those that there are.
    """
    found = None
    if isinstance(name, str):
        found = _EDITIONS.get(name) if "@" in name else WORLDS.get(name)
    if found is None:
        raise InvalidInput(
            "is not a declared world", field="world", value=name, remedy=f"use one of {', '.join(_EDITIONS)}"
        )
    return found
