"""Three uses of a standing hedge: defensive, neutral carry, transition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import HedgeInstrument, SpotBook, number
from crosswind.problems.hedge.sizing.result import HedgeSize
from crosswind.problems.hedge.sizing.size import size_hedge
from crosswind.problems.market.checks import utc_index
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["TransitionPlan", "defensive", "neutral_carry", "transition"]


def defensive(
    spot: SpotBook, instruments: HedgeInstrument | Sequence[HedgeInstrument], ratio: float = 0.8, **options: Any
) -> HedgeSize:
    """Hedge most of a holding that is kept through a time of stress.

    Parameters
    ----------
    spot, instruments
        As for :func:`crosswind.problems.hedge.sizing.size_hedge`.
    ratio
        H in [0.7, 0.9]: enough to keep the capital, with some of a recovery left.
    **options
        Further arguments of the same function.

    Raises
    ------
    InvalidInput
        For a ratio outside, or what the sizing refuses.
    """
    share = number(ratio, "ratio")
    if not 0.7 <= share <= 0.9:
        raise InvalidInput(
            "a defensive hedge covers 70 to 90 %", field="ratio", value=ratio, remedy="use size_hedge for other shares"
        )
    return size_hedge(spot, instruments, ratio=share, **options)


def neutral_carry(
    spot: SpotBook, instruments: HedgeInstrument | Sequence[HedgeInstrument], **options: Any
) -> HedgeSize:
    """Hold the spot, short as much of its perpetuals, and earn the funding while the rate is positive.

    Neutral is *long spot and short perpetual*. Long both, as some texts say, doubles the exposure and pays the funding.
    What it earns is ``.carry(start, end, funding)`` of the result, and can be negative.

    Parameters
    ----------
    spot
        Lines that are all held long.
    instruments
        Perpetuals.
    **options
        Further arguments of :func:`crosswind.problems.hedge.sizing.size_hedge`, but for ``ratio``, which is 1.

    Raises
    ------
    InvalidInput
        For a short line, a contract that expires, another ratio, or what the sizing refuses.
    """
    tools = (instruments,) if isinstance(instruments, HedgeInstrument) else tuple(instruments)
    if (spot.units < 0.0).any():
        raise InvalidInput(
            "neutral carry holds the spot long",
            field="units",
            value=float(spot.units.min()),
            remedy="use size_hedge for a short book",
        )
    dated = [tool.name for tool in tools if tool.spec.kind != "perpetual"]
    if dated:
        raise InvalidInput(
            "only perpetuals pay funding", field="instruments", value=dated, remedy="use size_hedge for cash-and-carry"
        )
    if "ratio" in options:
        raise InvalidInput("is 1 for a neutral book", field="ratio", value=options["ratio"], remedy="leave it out")
    size = size_hedge(spot, tools, ratio=1.0, **options)
    wrong = [name for name, n in size.contracts.items() if n > 0.0]
    if wrong:
        raise InvalidInput(
            "the hedge of a long spot came out long",
            field="betas",
            value=wrong,
            remedy="a negative beta or a hedge of one line by two is no carry: size it with size_hedge",
        )
    return size


@dataclass(frozen=True, eq=False, repr=False)
class TransitionPlan(Shown):
    """A hedge that is bought back as the spot is sold.

    Parameters
    ----------
    table
        Time → ``sold``, share of the part that has been sold; ``spot`` and ``short``, signed values; ``net``, their
        sum [currency]; ``contracts``, the signed position in whole lots; ``trade``, its change [contracts].
    share
        Part of the holding that is in transition.
    """

    table: pd.DataFrame
    share: float

    @property
    def net(self) -> pd.Series[float]:
        """Spot and short together [currency]: (1 − share) of the holding throughout, but for whole lots."""
        return self.table["net"]

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def summary(self) -> str:
        """Return one sentence and the table."""
        start, end = float(self.table["net"].iloc[0]), float(self.table["net"].iloc[-1])
        head = f"{self.share:.0%} in transition: net {start:,.0f} at the start, {end:,.0f} at the end"
        return f"{head}\n{self.table.to_string(float_format='{:,.4f}'.format)}"

    def plot(self) -> Any:
        """Return spot, short and net over time (plotly)."""
        from crosswind.problems.hedge.sizing.plots import transition_paths

        return transition_paths(self)


def transition(
    spot: SpotBook, instrument: HedgeInstrument, share: float, sold: pd.Series[float], beta: float = 1.0
) -> TransitionPlan:
    """Plan the hedge of a part of a holding that is to be sold or replaced over time.

    The short covers what is still held of that part: it is full at once and bought back pro rata as the spot goes.
    (Shorting 30 % *and* selling 30 % would leave 40 % net, not 70 %.) Prices stand still in the plan.

    Parameters
    ----------
    spot
        One line.
    instrument
        The contract.
    share
        Part in transition, in (0, 1].
    sold
        Time (tz-aware) → share of that part sold by then, from 0 to at most 1, never falling.
    beta
        Beta of the line to the contract's factor.

    Raises
    ------
    InvalidInput
        For several lines, a share out of range, naive times, a path that falls or leaves [0, 1].
    """
    if len(spot.names) != 1:
        raise InvalidInput("one line at a time", field="spot", value=spot.names, remedy="plan each line apart")
    part = number(share, "share", 0.0, above=True)
    if part > 1.0:
        raise InvalidInput("more than all", field="share", value=share, remedy="use at most 1")
    times, done = utc_index(sold.index, "sold"), sold.to_numpy(dtype=np.float64)
    if not len(done) or not np.isfinite(done).all():
        raise InvalidInput("is empty or not finite", field="sold", value=len(done), remedy="give shares from 0 to 1")
    if done.min() < 0.0 or done.max() > 1.0 or (np.diff(done) < 0.0).any():
        raise InvalidInput(
            "must rise within 0 .. 1", field="sold", value=done.tolist(), remedy="give the cumulated share"
        )
    full = size_hedge(spot, instrument, {spot.names[0]: number(beta, "beta")}, part, rounding="exact")
    exact, value = float(full.contracts.iloc[0]), float(spot.worth.iloc[0])
    each = instrument.per_contract * float(next(iter(instrument.loadings.values())))
    lots = np.rint(exact * (1.0 - done) / instrument.step)
    contracts = np.array([math.copysign(abs(n) * instrument.step, n) for n in lots]) + 0.0
    held = value * (1.0 - part * done)
    table = pd.DataFrame(
        {"sold": done, "spot": held, "short": contracts * each, "net": held * beta + contracts * each}, index=times
    )
    table["contracts"] = contracts
    table["trade"] = np.diff(contracts, prepend=0.0)
    return TransitionPlan(table, part)
