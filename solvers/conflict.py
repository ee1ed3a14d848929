"""Which limits cannot hold together, in their own names: a verified and, where cheap, irreducible subset.

The multipliers of the smallest L1 relaxation are a Farkas certificate: the limits they lean on contradict each other.
Members are then left out one by one; what is left is kept only when a new certificate for it is verified, so no step
rests on a solver's word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.proofs import prove_infeasible
from crosswind.solvers.solution import Proof

__all__ = ["Conflict", "cone_conflict", "find_conflict"]

_MOST = 60  # members up to which leaving out one by one is cheap
_SMALL = 1e-9  # of the largest multiplier


@dataclass(frozen=True, eq=False)
class Conflict:
    """Limits that cannot hold together.

    Attributes
    ----------
    members
        Name of a row or variable (for cones: of a cone's first row) → ``"at least 5"``, ``"at most 2"`` or the cone.
    irreducible
        True when leaving out any one member makes the rest feasible, as far as our proofs can tell.
    proof
        Verified Farkas certificate that leans on these limits only.
    """

    members: dict[str, str]
    irreducible: bool
    proof: Proof

    @property
    def text(self) -> str:
        """One sentence: who conflicts with whom."""
        parts = [f"{name} ({limit})" for name, limit in self.members.items()]
        if len(parts) == 1:
            return f"{parts[0]} cannot hold at all"
        rest = parts[1] if len(parts) == 2 else f"{', '.join(parts[1:-1])} and {parts[-1]}"
        return f"{parts[0]} conflicts with {rest}"


def find_conflict(program: QuadraticProgram, y: Vector) -> Conflict | None:
    """Return the conflict behind multipliers ``y`` (m,) of a smallest relaxation, or ``None`` where none is proved.

    Parameters
    ----------
    program
        An infeasible quadratic program; its cost plays no part.
    y
        Row multipliers, positive where the upper bound presses; box multipliers follow from them.
    """
    from crosswind.solvers.elastic import relaxation_duals

    kept = _leaning_on(program, y)
    if kept is None:
        return None
    part, proof = kept
    members = _members(part)
    irreducible = len(members) <= _MOST
    if irreducible:
        for member in members:
            if member not in _members(part):
                continue
            less = _without(part, member)
            duals = relaxation_duals(less)
            found = None if duals is None else _leaning_on(less, duals)
            if found is not None:
                part, proof = found
    return Conflict(_named(part, proof), irreducible, proof)


def cone_conflict(program: ConeProgram, proof: Proof) -> Conflict:
    """Return the rows and cones that a verified certificate leans on, not reduced any further."""
    from crosswind.solvers.cones import blocks

    names = program.row_names or tuple(f"row {i}" for i in range(program.m))
    top = float(np.max(np.abs(proof.y)))
    sized: list[tuple[float, str, str]] = []
    for cone, rows in blocks(program.cones):
        price = np.abs(proof.y[rows]) / top
        if cone.kind in ("zero", "nonneg"):
            word = "equal to" if cone.kind == "zero" else "at most"
            sized += [
                (p, names[rows.start + k], f"{word} {program.b[rows.start + k]:.6g}")
                for k, p in enumerate(price)
                if p > _SMALL
            ]
        elif float(np.max(price)) > _SMALL:
            word = "second-order cone" if cone.kind == "soc" else "semidefinite cone"
            sized.append((float(np.max(price)), names[rows.start], word))
    sized.sort(key=lambda item: -item[0])
    return Conflict({name: word for _, name, word in sized}, False, proof)


def _leaning_on(program: QuadraticProgram, y: Vector) -> tuple[QuadraticProgram, Proof] | None:
    """Prove infeasibility from ``y`` and return the program with only those sides that the proof leans on."""
    top = float(np.max(np.abs(y), initial=0.0))
    if top == 0.0 or not np.isfinite(top):
        return None
    proof = prove_infeasible(program, np.where(np.abs(y) > _SMALL * top, y, 0.0))
    if proof is None:
        return None
    small = _SMALL * float(np.max(np.abs(proof.z), initial=0.0))
    z = np.where(np.abs(proof.z) > small, proof.z, 0.0)
    part = program.with_vectors(
        l=np.where(proof.y < 0.0, program.l, -np.inf),
        u=np.where(proof.y > 0.0, program.u, np.inf),
        lb=np.where(z < 0.0, program.lb, -np.inf),
        ub=np.where(z > 0.0, program.ub, np.inf),
    )
    again = prove_infeasible(part, proof.y)
    return None if again is None else (part, again)


def _members(part: QuadraticProgram) -> list[tuple[str, int]]:
    rows = np.flatnonzero(np.isfinite(part.l) | np.isfinite(part.u))
    boxes = np.flatnonzero(np.isfinite(part.lb) | np.isfinite(part.ub))
    # Boxes first: a short list of rows is what a reader can act on.
    return [("box", int(j)) for j in boxes] + [("row", int(i)) for i in rows]


def _without(part: QuadraticProgram, member: tuple[str, int]) -> QuadraticProgram:
    kind, at = member
    low, high = (part.l.copy(), part.u.copy()) if kind == "row" else (part.lb.copy(), part.ub.copy())
    low[at], high[at] = -np.inf, np.inf
    return part.with_vectors(l=low, u=high) if kind == "row" else part.with_vectors(lb=low, ub=high)


def _named(part: QuadraticProgram, proof: Proof) -> dict[str, str]:
    row_names = part.row_names or tuple(f"row {i}" for i in range(part.m))
    var_names = part.var_names or tuple(f"variable {j}" for j in range(part.n))
    rows = np.flatnonzero(np.isfinite(part.l) | np.isfinite(part.u))
    boxes = np.flatnonzero(np.isfinite(part.lb) | np.isfinite(part.ub))
    out = {}
    for i in rows[np.argsort(-np.abs(proof.y[rows]), kind="stable")]:
        out[row_names[i]] = _limit(part.l[i], part.u[i])
    for j in boxes[np.argsort(-np.abs(proof.z[boxes]), kind="stable")]:
        name = var_names[j] if var_names[j] not in out else f"variable {var_names[j]}"
        out[name] = _limit(part.lb[j], part.ub[j])
    return out


def _limit(lower: float, upper: float) -> str:
    return f"at least {lower:.6g}" if np.isfinite(lower) else f"at most {upper:.6g}"
