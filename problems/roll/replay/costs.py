"""What each fill of a roll costs, split into the five components as it happens.

With the order's side s, the arrival price A of the spread, the undisplaced mid M of the spread and m of a leg in the
book that the fill met, contracts q and c the currency per point, a spread that fills at P costs ``s q c (P − A)`` and
its fees, which is

- spread_fees ``s q c (B − M)`` and the fees, B the best price of the book (for a resting order its own price),
- impact ``s q c (P − B)``: the worse prices walked to, our own displacement among them; at the cutoff's forced cross
  this part is timing,
- basis_drift ``s q c (M − A)``.

Legs: the first leg of side σ₁ fills at P₁ with the book's best price B₁ and mids m₁, m₂; then the second, of side σ₂,
at P₂ when its own mid is m₂′. The pair costs ``q c (σ₁ P₁ + σ₂ P₂ − s A)`` and fees:

- spread_fees ``q c (σ₁ B₁ + σ₂ m₂ − s M)``, the first leg's half-spread and what the legs' mids stand off the spread's
  mid (the legs have the coarser ticks), then ``σ₂ q c (B₂ − m₂′)``, and the fees of both,
- impact ``σ₁ q c (P₁ − B₁)`` and ``σ₂ q c (P₂ − B₂)``,
- basis_drift ``s q c (M − A)``,
- legging ``σ₂ q c (m₂′ − m₂)``, the move of the second leg while it was open.

What cannot be done at all is charged as if done at M and ``residual_ticks`` beyond: drift and timing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["COMPONENTS", "Costs", "RollFill"]

COMPONENTS = ("spread_fees", "impact", "basis_drift", "legging", "timing")


@dataclass(frozen=True, slots=True)
class RollFill:
    """One fill.

    Parameters
    ----------
    time_ns, bar
        When: arrival of the order that crossed, or the end of the part of a bar for a resting one [ns since 1970 UTC;
        index in the market].
    instrument
        'spread', 'near' or 'far'.
    units
        Signed contracts, buy > 0.
    price
        Paid [points].
    kind
        'passive', 'cross', 'first leg', 'second leg passive', 'second leg cross', 'forced' or 'forced leg'.
    attempt
        Number of refusals that its order had met.
    decided
        Bar of the decision behind it.
    let_s
        Second legs: time since the first leg's fill [s]; else NaN.
    spread_fees, impact, basis_drift, legging, timing
        Components [currency].
    fees
        Fees within ``spread_fees`` [currency].
    """

    time_ns: int
    bar: int
    instrument: str
    units: int
    price: float
    kind: str
    attempt: int
    decided: int
    let_s: float
    spread_fees: float
    impact: float
    basis_drift: float
    legging: float
    timing: float
    fees: float


@dataclass(slots=True)
class Costs:
    """Fills of one replay, each with its components.

    Parameters
    ----------
    side
        Of the order.
    multiplier
        Currency per point and contract.
    fee
        Of one contract of one leg [currency].
    arrival
        Arrival price of the spread [points].
    first
        Index of the window's bar 0 in its market.
    """

    side: int
    multiplier: float
    fee: float
    arrival: float
    first: int = 0
    fills: list[RollFill] = field(default_factory=list)

    def spread(
        self,
        when: tuple[int, int],
        quantity: int,
        price: float,
        best: float,
        mid: float,
        kind: str,
        attempt: int,
        decided: int,
    ) -> None:
        """Record spreads filled at ``price`` where the best price was ``best`` and the mid ``mid``."""
        worth = self.side * quantity * self.multiplier
        fees = 2.0 * self.fee * quantity
        walk = worth * (price - best) + 0.0  # no −0.0 in tables
        forced = kind == "forced"
        self.fills.append(
            RollFill(
                when[0],
                self.first + when[1],
                "spread",
                self.side * quantity,
                price,
                kind,
                attempt,
                self.first + decided,
                math.nan,
                worth * (best - mid) + fees,
                0.0 if forced else walk,
                worth * (mid - self.arrival) + 0.0,
                0.0,
                walk if forced else 0.0,
                fees,
            )
        )

    def first_leg(
        self,
        when: tuple[int, int],
        instrument: str,
        side: int,
        quantity: int,
        price: float,
        best: float,
        other_mid: float,
        mid: float,
        attempt: int,
        decided: int,
    ) -> None:
        """Record first legs; ``other_mid`` is the second leg's mid now, ``mid`` that of the spread."""
        worth, fees = quantity * self.multiplier, self.fee * quantity
        self.fills.append(
            RollFill(
                when[0],
                self.first + when[1],
                instrument,
                side * quantity,
                price,
                "first leg",
                attempt,
                self.first + decided,
                math.nan,
                worth * (side * best - side * other_mid - self.side * mid) + fees,
                side * worth * (price - best) + 0.0,
                self.side * worth * (mid - self.arrival) + 0.0,
                0.0,
                0.0,
                fees,
            )
        )

    def second_leg(
        self,
        when: tuple[int, int],
        instrument: str,
        side: int,
        quantity: int,
        price: float,
        best: float,
        mid: float,
        mid_at_first: float,
        kind: str,
        attempt: int,
        decided: int,
        let_s: float,
    ) -> None:
        """Record second legs; ``mid`` is that leg's mid now, ``mid_at_first`` what it was at the first leg's fill."""
        worth, fees = side * quantity * self.multiplier, self.fee * quantity
        walk = worth * (price - best) + 0.0  # no −0.0 in tables
        forced = kind == "forced leg"
        self.fills.append(
            RollFill(
                when[0],
                self.first + when[1],
                instrument,
                side * quantity,
                price,
                kind,
                attempt,
                self.first + decided,
                let_s,
                worth * (best - mid) + fees,
                0.0 if forced else walk,
                0.0,
                worth * (mid - mid_at_first) + 0.0,
                walk if forced else 0.0,
                fees,
            )
        )

    def components(self, residual: int, mid: float, beyond: float) -> dict[str, float]:
        """Return the five sums [currency].

        Parameters
        ----------
        residual
            Spreads that were not done.
        mid
            Mid of the spread at the cutoff [points].
        beyond
            What a residual is charged beyond it [points].
        """
        out = {name: math.fsum(getattr(fill, name) for fill in self.fills) for name in COMPONENTS}
        left = residual * self.multiplier
        out["basis_drift"] += self.side * left * (mid - self.arrival)
        out["timing"] += left * beyond
        return out
