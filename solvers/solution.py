"""What a solve returns: a status that says what happened and what to do, a certificate of ours, timings, attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ABSOLUTE_FLOOR", "Attempt", "Certificate", "Proof", "Solution", "Status"]

ABSOLUTE_FLOOR = 1e-11
"""A residual below this passes whatever its relative size: a program whose optimum is exactly zero has no scale.

It shrinks with the program: see :attr:`Certificate.floors`.
"""


class Status(Enum):
    """What happened, by our own check; ``text`` says it in words together with what to do."""

    OPTIMAL = "our own residuals and gap are within the asked tolerance; use the solution"
    INACCURATE = "the iterate is worse than asked; read its certificate, loosen tol, rescale the data or try a chain"
    FEASIBLE = (
        "the iterate keeps all limits within tolerance but its gap or dual residual is too large; usable with care"
    )
    INFEASIBLE = "no point keeps all limits, proved by a certificate we verified; elastic() names the rows to relax"
    UNBOUNDED = "the cost falls forever along a verified direction; bound the variables or add the missing cost"
    TIME_LIMIT = "stopped by the time limit; the iterate is graded by its certificate, do not trade on it ungraded"
    ITERATION_LIMIT = "stopped by the iteration limit; the iterate is graded, raise max_iter or loosen tol"
    NUMERICAL = "no backend gave a usable iterate or a claim that we could verify; rescale the data or try another"
    INVALID = "the program or the request was refused before any backend ran; read the message"

    @property
    def text(self) -> str:
        """What happened and what to do."""
        return str(self.value)

    @property
    def ok(self) -> bool:
        """True for OPTIMAL only."""
        return self is Status.OPTIMAL

    @property
    def usable(self) -> bool:
        """True when a finite iterate with a certificate comes along."""
        return self in _USABLE


_USABLE = frozenset(
    {Status.OPTIMAL, Status.INACCURATE, Status.FEASIBLE, Status.TIME_LIMIT, Status.ITERATION_LIMIT},
)


@dataclass(frozen=True)
class Certificate:
    """Our own measure of an iterate (x, y, z), whatever the backend says; never NaN.

    Attributes
    ----------
    primal, dual, gap
        Largest violation of a limit, largest entry of the stationarity residual, |primal − dual objective|: absolute.
    primal_rel, dual_rel, gap_rel
        The same relative to the terms they are made of (see :func:`crosswind.solvers.certify.certify`).
    tolerance
        What was asked.
    objective
        ½x'Px + q'x + constant.
    lower_bound
        A number that no feasible point can undercut (up to rounding), or −inf where none follows from (y, z).
    floors
        Absolute (primal, dual, gap) that pass whatever their relative size.
    lower_bound_within
        A number that no feasible point within a thousand times the size of x can undercut; at least ``lower_bound``.
    excess
        By how much the objective may be off: |objective − lower bound| (``lower_bound_within`` where ``lower_bound`` is
        −inf), or, where larger, what the multipliers say that the missed limits are worth.
    excess_rel
        The same relative to the gap's scale.
    """

    primal: float
    dual: float
    gap: float
    primal_rel: float
    dual_rel: float
    gap_rel: float
    tolerance: float
    objective: float
    lower_bound: float
    floors: tuple[float, float, float] = (ABSOLUTE_FLOOR, ABSOLUTE_FLOOR, ABSOLUTE_FLOOR)
    lower_bound_within: float = -np.inf
    excess: float = 0.0
    excess_rel: float = 0.0

    @property
    def worst(self) -> float:
        """The largest of the four relative measures, with those below their absolute floor counted as zero."""
        pairs = (
            (self.primal, self.primal_rel, self.floors[0]),
            (self.dual, self.dual_rel, self.floors[1]),
            (self.gap, self.gap_rel, self.floors[2]),
            (self.excess, self.excess_rel, self.floors[2]),
        )
        return max(0.0 if value <= floor else relative for value, relative, floor in pairs)

    def passes(self, tol: float | None = None) -> bool:
        """Tell whether all three measures are within ``tol`` (default: the asked tolerance) or the absolute floor."""
        return self.worst <= (self.tolerance if tol is None else tol)

    def feasible(self, tol: float | None = None) -> bool:
        """Tell whether the limits hold within ``tol`` (default: the asked tolerance) or the absolute floor."""
        return self.primal <= self.floors[0] or self.primal_rel <= (self.tolerance if tol is None else tol)

    def summary(self) -> str:
        """Return one line of text; the excess is named where it, and not a residual, decides."""
        short = f", excess {self.excess:.2e} ({self.excess_rel:.1e} rel)" if self.excess_rel > self.tolerance else ""
        return (
            f"primal {self.primal:.2e} ({self.primal_rel:.1e} rel), dual {self.dual:.2e} ({self.dual_rel:.1e} rel), "
            f"gap {self.gap:.2e} ({self.gap_rel:.1e} rel){short}, asked {self.tolerance:.0e}"
        )

    def in_units(self, cost: float = 1.0, limit: float = 1.0, notional: float | None = None) -> dict[str, float]:
        """Return the absolute measures in the units of a desk.

        Parameters
        ----------
        cost
            Currency per unit of the objective.
        limit
            Currency (or shares) per unit of the rows and boxes.
        notional
            Currency traded; where given, basis points of it are added.

        Returns
        -------
        dict
            ``violation`` (in units of ``limit``), ``gap``, ``excess`` and ``objective`` (currency), and the last three
            as ``*_bps``, 1e4 × currency / notional.

        Raises
        ------
        InvalidInput
            On scales that are not positive and finite.
        """
        given = {"cost": cost, "limit": limit} | ({} if notional is None else {"notional": notional})
        for name, value in given.items():
            if not (np.isfinite(value) and value > 0.0):
                raise InvalidInput("must be positive", field=name, value=value, remedy="give a finite scale")
        money = {"gap": self.gap * cost, "excess": self.excess * cost, "objective": self.objective * cost}
        out = {"violation": self.primal * limit} | money
        if notional is not None:
            out |= {f"{name}_bps": 1e4 * value / notional for name, value in money.items()}
        return out


@dataclass(frozen=True, eq=False)
class Proof:
    """A verified reason why there is no solution.

    Attributes
    ----------
    kind
        ``"infeasible"`` or ``"unbounded"``.
    y, z
        For infeasible: multipliers (m,), (n,) with A'y + z = 0 and a negative support value (Farkas).
    direction
        For unbounded: (n,) with Pd = 0, q'd < 0, along which no limit is ever met.
    margin
        The negative support value, or −q'd, positive, after scaling the vector to length one (inf norm).
    residual
        What is left of the equation that should vanish, in the same scaling.
    """

    kind: str
    y: Vector
    z: Vector
    direction: Vector
    margin: float
    residual: float


@dataclass(frozen=True)
class Attempt:
    """One backend call of a chain: who, its own word, our grade, and why it was or was not enough.

    ``claim`` is its word in one of ours: solved, infeasible, unbounded, time limit, …; empty where it said nothing.
    """

    backend: str
    backend_status: str
    status: Status
    seconds: float
    note: str = ""
    claim: str = ""

    def contradicts(self, verdict: Status) -> bool:
        """Tell whether our grade, or our ``verdict`` on the program, does not bear its claim out."""
        if self.claim == "solved":
            return self.status is not Status.OPTIMAL
        if self.claim == "infeasible":
            return verdict is not Status.INFEASIBLE
        # What has an unbounded direction may still have no feasible point: many solvers cannot tell the two apart.
        return self.claim == "unbounded" and verdict not in (Status.UNBOUNDED, Status.INFEASIBLE)


@dataclass(frozen=True, eq=False)
class Solution:
    """The result of :func:`crosswind.solvers.solve.solve`.

    Attributes
    ----------
    x
        (n,) the iterate; NaN where there is none, as with INFEASIBLE and UNBOUNDED.
    y
        (m,) row multipliers, positive where the upper bound binds, negative where the lower one does
        (L = f + y'(Ax) + z'x). For cones: the dual of Ax + s = b, y ∈ K*. With INFEASIBLE, y and z are the verified
        Farkas multipliers.
    z
        (n,) box multipliers with the same sign rule; zeros for cones.
    s
        (m,) cone slack; empty for a quadratic program.
    status, certificate, objective
        Our grade, our measures of the backend's last iterate, ½x'Px + q'x + constant (+∞ for INFEASIBLE, −∞ for
        UNBOUNDED).
    backend, backend_status
        Who gave the iterate, and its own word for it.
    setup_s, solve_s
        Seconds spent by that backend, converting data included in the first.
    iterations
        As counted by that backend.
    attempts
        Every call of the chain in order.
    settings
        Tolerances and options as they were passed on.
    proof
        The verified certificate behind INFEASIBLE or UNBOUNDED.
    """

    x: Vector
    y: Vector
    z: Vector
    status: Status
    certificate: Certificate
    objective: float
    backend: str
    backend_status: str
    setup_s: float = 0.0
    solve_s: float = 0.0
    iterations: int = 0
    attempts: tuple[Attempt, ...] = field(default_factory=tuple)
    settings: dict[str, Any] = field(default_factory=dict)
    s: Vector = field(default_factory=lambda: np.zeros(0))
    proof: Proof | None = None
    var_names: tuple[str, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        # A session's fast lane leaves out what few callers look at; it is computed when it is asked for.
        late = self.__dict__.get("_late")
        if late is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        del self.__dict__["_late"]
        self.__dict__.update(late.fields(self.__dict__))
        return getattr(self, name)

    def __getstate__(self) -> dict[str, Any]:
        if "_late" in self.__dict__:
            _ = self.certificate
        return self.__dict__

    @property
    def disagrees(self) -> bool:
        """True when a backend of the chain claimed what our certificate or our proofs do not bear out."""
        return any(a.contradicts(self.status) for a in self.attempts)

    @property
    def disagreement(self) -> str:
        """Whose word is not ours, both words, and our measures; empty when all agree. Ours decides."""
        return "; ".join(
            f"{a.backend} said {a.backend_status!r}, we say {a.status.name}" + (f" ({a.note})" if a.note else "")
            for a in self.attempts
            if a.contradicts(self.status)
        )

    def summary(self) -> str:
        """Return a few lines: status and what to do, certificate, who solved it and how long it took."""
        lines = [
            f"{self.status.name}: {self.status.text}",
            f"objective {self.objective:.10g}; {self.certificate.summary()}",
            f"backend {self.backend} said {self.backend_status!r} after {self.iterations} iterations, "
            f"set-up {1e3 * self.setup_s:.2f} ms, solve {1e3 * self.solve_s:.2f} ms",
        ]
        if len(self.attempts) > 1:
            lines += [
                f"  attempt {i + 1}: {a.backend} {a.backend_status!r} → {a.status.name} {a.note}".rstrip()
                for i, a in enumerate(self.attempts)
            ]
        if self.disagrees:
            lines.append(f"disagreement: {self.disagreement}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per variable with columns ``value`` and ``reduced_cost`` (the box multiplier)."""
        import pandas as pd

        index = pd.Index(self.var_names if self.var_names else range(self.x.shape[0]), name="variable")
        return pd.DataFrame({"value": self.x, "reduced_cost": self.z}, index=index)
