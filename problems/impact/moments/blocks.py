"""A block of time and its sums, and how neighbouring blocks are joined."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crosswind.problems.impact.moments.sums import Sums
from crosswind.solvers.errors import InvalidInput

__all__ = ["Block", "check_half_life", "coarsened", "decay"]


@dataclass(frozen=True, eq=False)
class Block:
    """Sums over one stretch of time.

    Parameters
    ----------
    days
        Sessions in it, ascending (local dates); its weights are relative to the last.
    part
        Which part of the session, counted from local midnight in steps of ``block_s``; 0 where blocks are sessions.
    sums
        Sums of products over its rows.
    left_out
        Reason → number of buckets that fed the state but are no rows.
    """

    days: tuple[dt.date, ...]
    part: int
    sums: Sums
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[dt.date, int]:
        """Order in time."""
        return self.days[0], self.part

    def joined(self, later: Block, half_life_days: float | None) -> Block:
        """Return both as one block, the earlier rows' weights decayed to the later block's last day."""
        factor = decay((later.days[-1] - self.days[-1]).days, half_life_days)
        counts = Counter(self.left_out) + Counter(later.left_out)
        days = tuple(sorted({*self.days, *later.days}))
        return Block(days, self.part, self.sums.scaled(factor) + later.sums, dict(counts))


def decay(days: float, half_life_days: float | None) -> float:
    """Return the weight of a row so many days old: 2^(−days/half-life)."""
    return 1.0 if half_life_days is None else 0.5 ** (days / half_life_days)


def check_half_life(value: float | None) -> None:
    """Refuse a half-life that is neither None nor positive.

    Raises
    ------
    InvalidInput
        Otherwise.
    """
    if value is not None and not (isinstance(value, (int, float)) and value > 0):
        raise InvalidInput("must be positive, or None", field="half_life_days", value=value, remedy="e.g. 20.0")


def coarsened(blocks: Sequence[Block], max_blocks: int | None, half_life_days: float | None) -> tuple[Block, ...]:
    """Return at most ``max_blocks`` blocks, joining neighbours with the fewest rows together, the earliest first."""
    held = list(blocks)
    while max_blocks is not None and len(held) > max_blocks:
        at = min(range(len(held) - 1), key=lambda k: held[k].sums.rows + held[k + 1].sums.rows)
        held[at : at + 2] = [held[at].joined(held[at + 1], half_life_days)]
    return tuple(held)
