"""Rules of the venue on which a roll is replayed: latency, refusals, queue, depth, fees, and anti-churn limits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.venue_parameters import VenueParameters
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollVenue"]


@dataclass(frozen=True)
class RollVenue:
    """What happens to the orders of a roll; every number is an assumption, declared here.

    Parameters
    ----------
    latency_s, latency_jitter_s
        Least time from decision to arrival, and mean of an exponential addition [s].
    reject_probability
        Of one attempt being refused.
    retry_delay_s, max_retries
        Time from a refused attempt to the next [s], and how often it is sent again. A second leg is sent again until it
        is accepted.
    queue
        Share of the displayed size that is ahead of an order that joins.
    participation, leg_participation
        Share of the displayed size that an order of ours can take at each price, in the spread and in the leg books;
        one contract at least where any is displayed.
    forced_participation
        The same at the cutoff's forced cross of the spread.
    level_depth
        Size at each worse price over that at the best one; the legs' books go on for ever, the spread's has
        ``levels`` prices.
    levels
        Prices of the spread book that can be crossed, the best one included.
    refill_half_life_s
        Half of what we took is offered again after this time [s]; inf: never.
    fee_per_contract
        Fee of one contract of one leg [currency]; a spread pays two.
    residual_ticks
        What a spread that cannot be done at the cutoff is charged beyond the spread's mid [spread ticks].

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    latency_s: float = 1.0
    latency_jitter_s: float = 0.2
    reject_probability: float = 0.01
    retry_delay_s: float = 2.0
    max_retries: int = 3
    queue: float = 0.9
    participation: float = 0.2
    leg_participation: float = 0.5
    forced_participation: float = 1.0
    level_depth: float = 1.0
    levels: int = 10
    refill_half_life_s: float = 30.0
    fee_per_contract: float = 1.2
    residual_ticks: float = 20.0

    def __post_init__(self) -> None:
        shares = ("reject_probability", "queue", "participation", "leg_participation", "forced_participation")
        for item in fields(self):
            value = getattr(self, item.name)
            number = _number(value)
            endless = item.name == "refill_half_life_s" and value == np.inf
            if not (np.isfinite(number) or endless) or number < 0.0 or (item.name in shares and number > 1.0):
                raise InvalidInput(
                    "is out of range",
                    field=f"RollVenue.{item.name}",
                    value=value,
                    remedy="pass a number from 0 to 1" if item.name in shares else "pass a number of 0 or more",
                )
        for name, least, most in (("max_retries", 0, 14), ("levels", 1, 1000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
                raise InvalidInput(
                    "is not a count in range",
                    field=f"RollVenue.{name}",
                    value=value,
                    remedy=f"pass an integer from {least} to {most}",
                )
        for name in ("participation", "leg_participation", "forced_participation", "refill_half_life_s"):
            if getattr(self, name) == 0.0:
                raise InvalidInput("is zero", field=f"RollVenue.{name}", value=0.0, remedy="pass a positive number")

    @classmethod
    def of(cls, venue: VenueParameters, roll: RollParameters, **values: Any) -> RollVenue:
        """Return the rules of a declared world: its venue, with the queue and the refill of its spread book.

        Parameters
        ----------
        venue, roll
            Parts of a world.
        **values
            Fields that differ.
        """
        taken = {
            name: getattr(venue, name)
            for name in ("latency_s", "latency_jitter_s", "retry_delay_s", "max_retries", "participation")
        }
        # The worlds' venues refuse nothing; a roll's replay must have that branch, so its own default stays then.
        refuses = {"reject_probability": venue.reject_probability} if venue.reject_probability > 0.0 else {}
        own: dict[str, Any] = {
            **taken,
            **refuses,
            "fee_per_contract": venue.fee_per_contract,
            "queue": roll.queue_fraction,
            "refill_half_life_s": roll.refill_half_life_s,
        }
        return cls(**{**own, **values})


def _number(value: Any) -> float:
    if isinstance(value, (bool, str)) or value is None:
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
