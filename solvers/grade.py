"""The verdict on a backend's answer: our certificate and our proofs decide, its claim is evidence."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.backends.base import Claim, Program, Raw
from crosswind.solvers.certify import certify
from crosswind.solvers.matrices import Vector
from crosswind.solvers.phase_one import find_feasible
from crosswind.solvers.program import ConeProgram
from crosswind.solvers.proofs import prove_infeasible, prove_unbounded
from crosswind.solvers.solution import Certificate, Proof, Status

__all__ = ["grade"]


def grade(program: Program, raw: Raw, tol: float) -> tuple[Status, Certificate, Proof | None, str]:
    """Say what an answer is worth, whatever its backend says.

    Parameters
    ----------
    program
        What was asked.
    raw
        The backend's answer in the program's units.
    tol
        Asked relative accuracy.

    Returns
    -------
    tuple
        Our status; our certificate of the iterate; the verified proof behind INFEASIBLE or UNBOUNDED, else ``None``;
        a note that says why, empty where the backend's word is ours.
    """
    conic = isinstance(program, ConeProgram)
    certificate = certify(program, raw.x, raw.y, None if conic else raw.z, raw.s, tol=tol)
    if certificate.passes():
        note = (
            "" if raw.claim is Claim.SOLVED else f"the backend claimed only {raw.claim.value}; our certificate passes"
        )
        return Status.OPTIMAL, certificate, None, note
    if raw.claim is Claim.INFEASIBLE and raw.farkas is not None:
        proof = prove_infeasible(program, raw.farkas[0])
        if proof is not None:
            return Status.INFEASIBLE, certificate, proof, "Farkas certificate verified"
    if raw.claim is Claim.UNBOUNDED and raw.ray is not None:
        status, proof, note = _grade_ray(program, raw.ray)
        if proof is not None:
            return status, certificate, proof, note
    finite = np.isfinite(certificate.worst)
    if raw.claim is Claim.TIME and finite:
        return Status.TIME_LIMIT, certificate, None, f"stopped; {certificate.summary()}"
    if raw.claim is Claim.ITERATIONS and finite:
        return Status.ITERATION_LIMIT, certificate, None, f"stopped; {certificate.summary()}"
    note = f"claimed {raw.claim.value}, not confirmed: {certificate.summary()}"
    if not finite:
        return Status.NUMERICAL, certificate, None, note
    if certificate.feasible():
        return Status.FEASIBLE, certificate, None, note
    if raw.claim in (Claim.SOLVED, Claim.ALMOST) or certificate.worst < 1.0:
        return Status.INACCURATE, certificate, None, note
    return Status.NUMERICAL, certificate, None, note


def _grade_ray(program: Program, ray: Vector) -> tuple[Status, Proof | None, str]:
    point, no_point = find_feasible(program)
    if no_point is not None:
        return Status.INFEASIBLE, no_point, "claimed unbounded; phase one proved that there is no feasible point"
    if point is None:
        return Status.NUMERICAL, None, ""
    proof = prove_unbounded(program, ray, point)
    return Status.UNBOUNDED, proof, "direction verified from a feasible point"
