"""What a roll program weighs and what it may do."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from crosswind.solvers.errors import InvalidInput

__all__ = ["RollSettings"]


@dataclass(frozen=True)
class RollSettings:
    """Weights and limits of the roll program E[C] + λ₉₅ CVaR_α[C] + λ_T E[underfill].

    Parameters
    ----------
    tail_weight
        λ₉₅ ≥ 0.
    alpha
        Level of the tail, 0 ≤ α < 1.
    underfill_price
        λ_T ≥ 0: price of a spread that is left to the forced cross, beyond what that costs [currency].
    participation
        Planned crossing (spread book and legs) within a slice, as a share of the others' expected volume, > 0.
    deadline_share
        Largest planned share of the order that may be left to the forced cross, 0 … 1; what the book cannot do there
        is never planned, but for the order's ``carry_cap``.
    let_price
        Price of one naked contract for one minute [currency].
    let_slices
        For how many slices a second leg may rest before it is crossed: 0 crosses both at once.
    slabs
        Parts of the order by place in the queue; each has its own plan. More follow the fills more closely.
    fee
        Fee of one contract of one leg [currency]; a spread pays two.
    slope
        Impact of crossing ``x``: slope · ½ x² steps/depth. 1 prices a book that falls off linearly from the best
        price, ½ the staircase of equal levels.
    steadiness
        Ridge on the plan: the share of a step per contract that clips of the whole order would cost, ≥ 0. It makes
        the plan unique; at 1e-3 it moves costs by less than 1e-3 of a step.
    dry
        Weight of the case in which nothing ever fills at rest: it decides what the plan says after courses of fills
        that no scenario shows.

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    tail_weight: float = 0.5
    alpha: float = 0.95
    underfill_price: float = 0.0
    participation: float = 0.3
    deadline_share: float = 1.0
    let_price: float = 0.5
    let_slices: tuple[int, ...] = (0, 1)
    slabs: int = 5
    fee: float = 1.2
    slope: float = 0.5
    steadiness: float = 1e-3
    dry: float = 1e-3

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "let_slices":
                steps = tuple(value)
                if len(set(steps)) != len(steps) or any(step not in (0, 1) for step in steps):
                    raise InvalidInput(
                        "knows 0 and 1", field="let_slices", value=value, remedy="(0, 1), (0,), (1,) or () for no legs"
                    )
                object.__setattr__(self, "let_slices", steps)
                continue
            number = (
                float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else np.nan
            )
            if not (np.isfinite(number) and number >= 0.0):
                raise InvalidInput("must be finite and ≥ 0", field=item.name, value=value, remedy="see RollSettings")
        if not self.alpha < 1.0:
            raise InvalidInput("is not below 1", field="alpha", value=self.alpha, remedy="0.95 is the worst 5 %")
        if self.deadline_share > 1.0:
            raise InvalidInput("is above 1", field="deadline_share", value=self.deadline_share, remedy="it is a share")
        if self.slabs != int(self.slabs) or not 1 <= self.slabs <= 50:
            raise InvalidInput("is not a count from 1 to 50", field="slabs", value=self.slabs, remedy="5 is usual")
        if self.participation == 0.0:
            raise InvalidInput("allows no crossing", field="participation", value=0.0, remedy="pass a positive share")
