"""What a world says about the venue on which a policy's orders are executed: plain numbers, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crosswind.problems.market.simulator.records import check_numbers
from crosswind.solvers.errors import InvalidInput

__all__ = ["VenueParameters"]


@dataclass(frozen=True)
class VenueParameters:
    """Latency, fills, refusals, limits and fees of the venue in one world; the replay's venue is built from it.

    Parameters
    ----------
    latency_s, latency_jitter_s
        Delay from decision to arrival [s], and the standard deviation that it varies by.
    participation
        Largest share of what is displayed or traded in an interval that an order of ours can take.
    reject_probability
        Of an order being refused on arrival.
    retry_delay_s, max_retries
        Wait before a refused order is sent again [s], and how often.
    max_orders_per_minute
        Message limit of the venue; None for no limit.
    fee_per_contract, fee_per_share
        Fees [currency].
    close_spread_multiple
        Spreads paid by a position that is closed by force, as a multiple of the quoted one.
    queue
        Share of the displayed depth that is ahead of a passive order of ours.

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    latency_s: float = 1.0
    latency_jitter_s: float = 0.2
    participation: float = 0.2
    reject_probability: float = 0.0
    retry_delay_s: float = 2.0
    max_retries: int = 3
    max_orders_per_minute: int | None = None
    fee_per_contract: float = 1.0
    fee_per_share: float = 0.0005
    close_spread_multiple: float = 2.0
    queue: float = 0.5

    def __post_init__(self) -> None:
        check_numbers(
            self,
            non_negative=(
                "latency_s",
                "latency_jitter_s",
                "retry_delay_s",
                "fee_per_contract",
                "fee_per_share",
                "close_spread_multiple",
            ),
            shares={"participation": 1.0, "reject_probability": 1.0, "queue": 1.0},
        )
        if self.participation == 0.0:
            raise InvalidInput(
                "lets nothing be filled", field="VenueParameters.participation", value=0.0, remedy="pass e.g. 0.2"
            )
        for name, least in (("max_retries", 0), ("max_orders_per_minute", 1)):
            value = getattr(self, name)
            if value is None and name == "max_orders_per_minute":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInput(
                    "is not a count",
                    field=f"VenueParameters.{name}",
                    value=value,
                    remedy=f"pass an integer of {least} or more",
                )

    def scaled(self, latency: float) -> VenueParameters:
        """Return the venue with its latency and its jitter multiplied by ``latency``; nothing else changes."""
        return replace(self, latency_s=self.latency_s * latency, latency_jitter_s=self.latency_jitter_s * latency)
