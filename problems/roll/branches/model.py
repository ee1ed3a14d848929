"""What may become of a working decision, the declared way of trying it out, and the samples that this gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["BRANCHES", "Branch", "BranchSamples", "ProbingPolicy"]


class Branch(Enum):
    """What became of a clip that was placed passively in the spread book."""

    SPREAD_FILL = "spread_fill"
    LEGGED_FILL = "legged_fill"
    PARTIAL_RETRY = "partial_retry"
    FORCED_CROSS = "forced_cross"


BRANCHES: tuple[str, ...] = tuple(branch.value for branch in Branch)
"""Names of the branches, in the order of all columns."""


@dataclass(frozen=True)
class ProbingPolicy:
    """How a clip is worked and at which decisions it is tried; every number is an assumption, declared here.

    The clip rests at the best price of its own side, behind ``queue`` of what is displayed. It moves to a better price
    of its own side when it has stood behind one for ``reprice_s``, and loses its place. At the time-out

    - all filled: ``spread_fill``;
    - nothing filled: it goes through the legs. The leg with less displayed is crossed at once, the other rests until
      ``max_let`` and is crossed then: ``legged_fill``;
    - a part filled: the rest joins the best price anew for another time-out, then crosses the spread:
      ``partial_retry``.

    What is open at the cutoff, in whichever of these, is crossed at once: ``forced_cross``. Ranges are drawn
    log-uniformly. Neither latency nor refusals are drawn, and the books do not react.

    Parameters
    ----------
    clip
        Range of sizes [spreads].
    timeout_s
        Range of time-outs [s], the first and the retry's alike.
    max_let_s
        Range of the greatest legging exposure time [s].
    left_s
        Range of the time to the cutoff [s], cut at the session's end.
    parent
        Range of what remains of the parent order over the clip.
    probes
        Decisions of a session, at random bars and of random sides.
    by_regime
        Share of them whose bar is drawn from a regime of the session, each regime with the same chance, so that rare
        ones are seen; the other bars are drawn evenly.
    warm_s
        Time from the open without decisions: windows fill [s].
    reprice_s
        Time behind a better price before the clip moves [s]; inf: it stays.
    queue, leg_queue
        Share of the displayed size that is ahead of an order that joins, in the spread and in a leg.
    participation, leg_participation
        Share of the displayed size that a cross can take at each price; the rest pays one tick more for each further
        price.
    fee_per_contract
        Of one contract of one leg [currency]; a spread pays two.

    Raises
    ------
    InvalidInput
        For a range that is not ordered and positive, a share outside its range.
    """

    clip: tuple[float, float] = (5.0, 1000.0)
    timeout_s: tuple[float, float] = (15.0, 600.0)
    max_let_s: tuple[float, float] = (5.0, 300.0)
    left_s: tuple[float, float] = (30.0, 14400.0)
    parent: tuple[float, float] = (1.0, 15.0)
    probes: int = 80
    by_regime: float = 0.5
    warm_s: float = 1800.0
    reprice_s: float = 15.0
    queue: float = 0.9
    leg_queue: float = 1.0
    participation: float = 0.2
    leg_participation: float = 0.5
    fee_per_contract: float = 1.2

    def __post_init__(self) -> None:
        for name in ("clip", "timeout_s", "max_let_s", "left_s", "parent"):
            value = getattr(self, name)
            ok = isinstance(value, Sequence) and len(value) == 2 and all(np.isfinite(v) for v in value)
            if not ok or not 0.0 < value[0] <= value[1] or (name in ("clip", "parent") and value[0] < 1.0):
                raise InvalidInput(
                    "is not a positive range", field=name, value=value, remedy="pass (low, high), clips and parents ≥ 1"
                )
        if isinstance(self.probes, bool) or not isinstance(self.probes, (int, np.integer)) or self.probes < 1:
            raise InvalidInput("is not a count", field="probes", value=self.probes, remedy="pass 1 or more")
        for name in ("by_regime", "queue", "leg_queue", "participation", "leg_participation"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0 or (value == 0.0 and name.endswith("participation")):
                raise InvalidInput("is not a share", field=name, value=value, remedy="pass a number from 0 to 1")
        for name in ("warm_s", "reprice_s", "fee_per_contract"):
            value = getattr(self, name)
            if not value >= 0.0 or (np.isinf(value) and name != "reprice_s"):
                raise InvalidInput("must be 0 or more", field=name, value=value, remedy="check sign and unit")


@dataclass(frozen=True, eq=False, repr=False)
class BranchSamples(Shown):
    """Decisions, what was known at each, and what became of it; n rows in all.

    Parameters
    ----------
    features
        What was known (n, p), columns :data:`~crosswind.problems.roll.branches.features.FEATURES`.
    branch
        What became of it (n,), places in :data:`BRANCHES`.
    cost
        Realised cost [currency per spread] against the spread's mid at the decision, fees included (n,).
    let_s
        Legging exposure time [s] (n,); NaN where nothing went through the legs.
    legging
        From the second leg's mid at the first leg's fill to the best price at which it was filled itself [currency per
        spread], positive: money lost (n,); NaN where nothing went through the legs.
    filled
        Share of the clip that was filled passively in the spread book (n,).
    day
        Label of the session (n,): what may depend on each other shares one.
    source
        Where the spread book came from, in words.
    """

    features: pd.DataFrame
    branch: NDArray[np.intp]
    cost: NDArray[np.float64]
    let_s: NDArray[np.float64]
    legging: NDArray[np.float64]
    filled: NDArray[np.float64]
    day: NDArray[Any]
    source: str = ""

    def __post_init__(self) -> None:
        n = len(self.features)
        for item in fields(self)[1:-1]:
            array = np.array(getattr(self, item.name))
            if array.shape != (n,):
                raise InvalidInput(
                    "is not one per row", field=item.name, value=array.shape, remedy=f"pass shape ({n},)"
                )
            array.flags.writeable = False
            object.__setattr__(self, item.name, array)
        whole = self.branch.dtype.kind in "iu"
        if not whole or ((self.branch < 0) | (self.branch >= len(BRANCHES))).any():
            raise InvalidInput(
                "is no branch", field="branch", value=self.branch[:3].tolist(), remedy=f"0 … {len(BRANCHES) - 1}"
            )
        if not np.isfinite(self.cost).all():
            raise InvalidInput("is not finite", field="cost", value=float(self.cost.sum()), remedy="drop those rows")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def regime(self) -> NDArray[Any]:
        """Regime at the decision (n,), values of :class:`~crosswind.problems.roll.model.Regime`."""
        return self.features["regime"].to_numpy(dtype=str)

    @property
    def days(self) -> NDArray[Any]:
        """Labels of the sessions, in the order of their first row."""
        _, first = np.unique(self.day, return_index=True)
        return np.asarray(self.day[np.sort(first)])

    def select(self, rows: Any) -> BranchSamples:
        """Return some rows, by a mask or by numbers."""
        values = {item.name: getattr(self, item.name)[rows] for item in fields(self)[1:-1]}
        kept = self.features.iloc[np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows]
        return BranchSamples(kept.reset_index(drop=True), **values, source=self.source)

    def split(self, share: float, seed: int = 0) -> tuple[BranchSamples, BranchSamples]:
        """Return two sets of whole sessions, the first with ``share`` of them, drawn by the seed.

        Raises
        ------
        InvalidInput
            For a share that leaves one of them empty.
        """
        days = self.days
        first = round(share * len(days)) if 0.0 < share < 1.0 else 0
        if not 0 < first < len(days):
            raise InvalidInput("leaves a part empty", field="share", value=share, remedy="pass more days, or e.g. 0.7")
        chosen = np.random.default_rng(seed).permutation(days)[:first]
        inside = np.isin(self.day, chosen)
        return self.select(inside), self.select(~inside)

    def parted(
        self, calibration: BranchSamples | None, share: float, seed: int = 0
    ) -> tuple[BranchSamples, BranchSamples]:
        """Return what to fit and what to calibrate on: all and ``calibration``, or two shares of the sessions.

        Raises
        ------
        InvalidInput
            As :meth:`split` does.
        """
        if calibration is not None:
            return self, calibration
        outside, inside = self.split(share, seed)
        return inside, outside

    @staticmethod
    def concat(parts: Sequence[BranchSamples]) -> BranchSamples:
        """Return the rows of all parts.

        Raises
        ------
        InvalidInput
            Without a part, or where two bear the same session's label.
        """
        parts = [part for part in parts if len(part)]
        labels = [label for part in parts for label in part.days]
        if not parts or len(set(labels)) < len(labels):
            raise InvalidInput(
                "is empty or holds a session twice", field="parts", value=len(parts), remedy="name each session once"
            )
        values = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(parts[0])[1:-1]}
        sources = ", ".join(sorted({part.source for part in parts}))
        return BranchSamples(pd.concat([part.features for part in parts], ignore_index=True), **values, source=sources)

    def to_frame(self) -> pd.DataFrame:
        """Return features, ``branch`` (name), ``cost``, ``let_s``, ``legging``, ``filled``, ``day``."""
        frame = self.features.copy()
        frame["branch"] = np.asarray(BRANCHES)[self.branch]
        for name in ("cost", "let_s", "legging", "filled", "day"):
            frame[name] = getattr(self, name)
        return frame

    def summary(self) -> str:
        """Return a line, and one for each branch: share, mean cost and its quantiles."""
        lines = [f"{len(self):,} decisions on {len(self.days):,} sessions, {self.source}"]
        for k, name in enumerate(BRANCHES):
            cost = self.cost[self.branch == k]
            if not len(cost):
                lines.append(f"  {name}: none")
                continue
            q50, q95 = np.quantile(cost, [0.5, 0.95])
            lines.append(
                f"  {name}: {len(cost) / len(self):.1%}, mean {cost.mean():.2f}, q50 {q50:.2f}, q95 {q95:.2f} a spread"
            )
        return "\n".join(lines)
