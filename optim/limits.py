"""Named limits of the multistage program; every limit becomes rows or boxes that carry its name.

Trades are u (T, n), positions p_{1..T} (T, P), exposures e_{1..T} (T, k), all in the program's unit (currency notional
unless the program says otherwise). ±inf in a bound means "no bound". Arrays that broadcast to the shape are accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar, unique_names
from crosswind.solvers.errors import InvalidInput

__all__ = ["BandLimit", "GroupCap", "Limit", "RateLimit", "Shape", "SoftPenalty", "TradeLimit", "participation_limit"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a program: T slices, n instruments, P positions, k exposures."""

    slices: int
    instruments: int
    positions: int
    exposures: int


def _bounds(name: str, lower: Any, upper: Any, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    low = finite_array(f"{name}.lower", lower, shape, allow_inf=True)
    high = finite_array(f"{name}.upper", upper, shape, allow_inf=True)
    crossed = (low > high) | (low == np.inf) | (high == -np.inf)
    if crossed.any():
        where = tuple(int(i) for i in np.argwhere(crossed)[0])
        raise InvalidInput(
            f"lower bound above upper bound at index {where}",
            field=name,
            value=(float(low[where]), float(high[where])),
            remedy="swap or widen them",
        )
    return low, high


def _labels(name: str, labels: tuple[str, ...], rows: int) -> tuple[str, ...]:
    if not labels:
        return tuple(str(g) for g in range(rows))
    if len(labels) != rows:
        raise InvalidInput(f"has {len(labels)} labels for {rows} rows", field=f"{name}.labels", remedy="one per row")
    return unique_names(f"{name}.labels", labels)


@dataclass(frozen=True)
class SoftPenalty:
    """Price of breaking a soft limit by s: linear·s + ½·quadratic·s².

    The penalty is exact: when ``linear`` exceeds the limit's hard price, the soft program has the hard solution.

    Parameters
    ----------
    linear
        ≥ 0, currency per unit of excess.
    quadratic
        ≥ 0, currency per unit².
    """

    linear: float
    quadratic: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "linear", finite_scalar("soft.linear", self.linear, minimum=0.0))
        object.__setattr__(self, "quadratic", finite_scalar("soft.quadratic", self.quadratic, minimum=0.0))
        if self.linear == 0.0 and self.quadratic == 0.0:
            raise InvalidInput("has no price at all", field="soft", value=0.0, remedy="set a positive penalty")


@dataclass(frozen=True, eq=False)
class TradeLimit:
    """Box on trades: lower ≤ u ≤ upper (participation, no reversal, do-not-trade windows, clips).

    Parameters
    ----------
    name
        Name of the limit in prices and messages.
    lower, upper
        Bounds (T, n), trade unit; several limits on the same trade intersect, the tightest carries the price.
    """

    name: str
    lower: FloatArray = field(default_factory=lambda: np.array(-np.inf))
    upper: FloatArray = field(default_factory=lambda: np.array(np.inf))

    def shaped(self, shape: Shape) -> TradeLimit:
        """Return the limit with its arrays checked and broadcast to the program's shape."""
        low, high = _bounds(self.name, self.lower, self.upper, (shape.slices, shape.instruments))
        return replace(self, lower=low, upper=high)


@dataclass(frozen=True, eq=False)
class BandLimit:
    """Band on combinations of positions or exposures: lower_t ≤ G x_t ≤ upper_t, x = p or e, t = 1..T.

    Parameters
    ----------
    name
        Name of the limit.
    matrix
        G (g, P) for ``on="position"``, (g, k) for ``on="exposure"``.
    lower, upper
        (T, g), unit of G x.
    labels
        g names of the rows, such as sectors or factors; default "0", "1", …
    soft
        None for a hard band, else the price of an excess.
    on
        "position" or "exposure".
    """

    name: str
    matrix: FloatArray
    lower: FloatArray = field(default_factory=lambda: np.array(-np.inf))
    upper: FloatArray = field(default_factory=lambda: np.array(np.inf))
    labels: tuple[str, ...] = ()
    soft: SoftPenalty | None = None
    on: str = "position"

    def shaped(self, shape: Shape) -> BandLimit:
        """Return the limit with its arrays checked and broadcast to the program's shape."""
        if self.on not in ("position", "exposure"):
            raise InvalidInput("is unknown", field=f"{self.name}.on", value=self.on, remedy="'position' or 'exposure'")
        columns = shape.positions if self.on == "position" else shape.exposures
        matrix = np.atleast_2d(np.asarray(self.matrix, dtype=np.float64))
        matrix = finite_array(f"{self.name}.matrix", matrix, (matrix.shape[0], columns))
        low, high = _bounds(self.name, self.lower, self.upper, (shape.slices, matrix.shape[0]))
        return replace(
            self, matrix=matrix, lower=low, upper=high, labels=_labels(self.name, self.labels, matrix.shape[0])
        )


@dataclass(frozen=True, eq=False)
class GroupCap:
    """Cap on the traded notional of groups: Σ_i m_gi |u_ti| ≤ cap_tg (sector stagger, gross per slice).

    Parameters
    ----------
    name
        Name of the limit.
    membership
        m (g, n) ≥ 0; an empty group never binds.
    cap
        (T, g) ≥ 0, trade unit; inf for none.
    labels
        g names; default "0", "1", …
    """

    name: str
    membership: FloatArray
    cap: FloatArray
    labels: tuple[str, ...] = ()

    def shaped(self, shape: Shape) -> GroupCap:
        """Return the limit with its arrays checked and broadcast to the program's shape."""
        member = np.atleast_2d(np.asarray(self.membership, dtype=np.float64))
        member = finite_array(f"{self.name}.membership", member, (member.shape[0], shape.instruments), minimum=0.0)
        cap = finite_array(f"{self.name}.cap", self.cap, (shape.slices, member.shape[0]), minimum=0.0, allow_inf=True)
        return replace(self, membership=member, cap=cap, labels=_labels(self.name, self.labels, member.shape[0]))


@dataclass(frozen=True, eq=False)
class RateLimit:
    """Limit on the change of the trade: |u_t − u_{t−1}| ≤ δ_t (maximal delta aggression).

    Parameters
    ----------
    name
        Name of the limit.
    delta
        δ (T, n) ≥ 0, trade unit; inf for none.
    previous
        u_{−1} (n,), the trade before the first slice; None leaves the first trade free.
    """

    name: str
    delta: FloatArray
    previous: FloatArray | None = None

    def shaped(self, shape: Shape) -> RateLimit:
        """Return the limit with its arrays checked and broadcast to the program's shape."""
        delta = finite_array(
            f"{self.name}.delta", self.delta, (shape.slices, shape.instruments), minimum=0.0, allow_inf=True
        )
        previous = (
            None
            if self.previous is None
            else finite_array(f"{self.name}.previous", self.previous, (shape.instruments,))
        )
        return replace(self, delta=delta, previous=previous)


Limit = TradeLimit | BandLimit | GroupCap | RateLimit


def participation_limit(
    volume: ArrayLike, rate: float, quantity: ArrayLike | None = None, name: str = "participation"
) -> TradeLimit:
    """Return the box |u_t| ≤ rate·V_t, one-sided where a reversal is not allowed.

    Parameters
    ----------
    volume
        Forecast volume V (T, n) ≥ 0, trade unit.
    rate
        Participation in (0, ∞), a fraction of the volume.
    quantity
        Signed quantity still to trade (n,); given, trades may only have its sign (0 where it is 0).
    name
        Name of the limit.
    """
    cap = finite_scalar("rate", rate, positive=True) * finite_array("volume", volume, minimum=0.0)
    if quantity is None:
        return TradeLimit(name, -cap, cap)
    sign = np.sign(finite_array("quantity", quantity, (cap.shape[-1],)))
    return TradeLimit(name, np.where(sign < 0.0, -cap, 0.0), np.where(sign > 0.0, cap, 0.0))
