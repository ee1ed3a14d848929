"""The general way: a tail program as a cone program, for any registered backend; slow, explicit, recorded."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from crosswind.solvers.program import Cone, ConeProgram
from crosswind.solvers.solution import Attempt, Status
from crosswind.solvers.solve import solve
from crosswind.solvers.tail.grade import graded
from crosswind.solvers.tail.problem import Array, TailProgram
from crosswind.solvers.tail.solution import TailSolution

__all__ = ["cone_program", "solve_lowered_tail"]


def _root(kernel: Array) -> Array:
    """Return R with R R' = K, of as many columns as K has rank."""
    value, vector = np.linalg.eigh(kernel)
    kept = value > 1e-14 * max(float(value.max(initial=0.0)), 1e-300)
    out: Array = vector[:, kept] * np.sqrt(value[kept])
    return out


def cone_program(program: TailProgram) -> ConeProgram:
    """Return the epigraph form: variables (x, v, t, ζ, u), one second-order cone per scenario.

    ``t_s − c⁰_s − a_s'x ≥ ½ |R'v_s|²`` with K = RR', ``v_s = P(ψ_s ∘ x)``, ``u_s ≥ t_s − ζ``, ``u ≥ 0``; without risk
    ζ and u are held at zero. Rows: E, v's definition, (ζ and u = 0) | G, x ≥ 0, the tail, u ≥ 0 | the cones.
    """
    p = program
    S, n = p.scenarios, p.n
    root = _root(p.kernel)
    k = root.shape[1]
    x0, v0, t0, z0, u0 = 0, n, n + S * k, n + S * k + S, n + S * k + S + 1
    total = u0 + S
    half = 1.0 / np.sqrt(2.0)

    def at(start: int, count: int) -> sp.csr_array:
        return sp.csr_array((np.ones(count), (np.arange(count), np.arange(start, start + count))), shape=(count, total))

    pull = sp.csr_array(root.T) @ p.cells
    defined = sp.vstack([pull @ sp.diags_array(p.scale[s]) for s in range(S)]).tocsr()
    x, t, u = at(x0, n), at(t0, S), at(u0, S)
    zeta = sp.csr_array((np.ones(S), (np.arange(S), np.full(S, z0))), shape=(S, total))
    zeros = [p.equal @ x, defined @ x - at(v0, S * k)]
    zero_to = [p.equal_to, np.zeros(S * k)]
    if p.risk == 0.0:
        zeros += [zeta[:1], u]
        zero_to += [np.zeros(1 + S)]
    signs = [p.rows @ x, -x, t - zeta - u, -u] if p.risk else [p.rows @ x, -x]
    sign_to = [p.rows_to, np.zeros(n)] + ([np.zeros(2 * S)] if p.risk else [])
    # 2 (t − c⁰ − a'x) ≥ |z|² as |(½(r − 2), z)| ≤ ½(r + 2) in the scaling with 1/√2.
    room = t - sp.csr_array(p.linear) @ x
    cones, cone_to = [], []
    for s in range(S):
        row = half * room[s : s + 1]
        z = sp.csr_array((np.ones(k), (np.arange(k), np.arange(v0 + s * k, v0 + (s + 1) * k))), shape=(k, total))
        cones += [-row, -row, -z]
        head = -half * p.constant[s]
        cone_to += [np.array([head + half, head - half]), np.zeros(k)]
    A = sp.vstack([*zeros, *signs, *cones]).tocsc()
    q = np.zeros(total)
    q[:n], q[t0:z0] = p.base, p.probabilities
    if p.risk:
        q[z0], q[u0:] = p.risk, p.risk * p.caps
    ridge = np.zeros(total)
    ridge[:n] = p.ridge
    kinds = [
        Cone("zero", sum(len(b) for b in zero_to)),
        Cone("nonneg", sum(len(b) for b in sign_to)),
        *[Cone("soc", k + 2) for _ in range(S)],
    ]
    return ConeProgram(
        P=sp.diags_array(ridge).tocsc(),
        q=q,
        A=A,
        b=np.concatenate([*zero_to, *sign_to, *cone_to]),
        cones=tuple(kinds),
    )


def solve_lowered_tail(
    program: TailProgram, tol: float, chain: str | tuple[str, ...], before: TailSolution
) -> TailSolution:
    """Solve by the registry, grade by our own bound, and keep the better of the two; every attempt is recorded."""
    begun = time.perf_counter()
    answer = solve(cone_program(program), chain, tol=min(tol, 1e-8))
    tried = (*before.attempts, *answer.attempts)
    if answer.status is Status.INFEASIBLE:
        return replace(before, status=Status.INFEASIBLE, method=answer.backend, attempts=tried)
    if not answer.status.usable:
        return replace(before, attempts=tried)
    S, n = program.scenarios, program.n
    J, R = len(program.equal_to), len(program.rows_to)
    y = answer.y
    zero = len(y) - R - n - (2 * S if program.risk else 0) - sum(c.rows for c in cone_program(program).cones[2:])
    weights = np.zeros(S)
    if program.risk:
        weights = y[zero + R + n : zero + R + n + S] / program.risk
    found = graded(
        program,
        np.maximum(answer.x[:n], 0.0),
        weights,
        -y[:J],
        y[zero : zero + R],
        tol,
        answer.iterations,
        begun,
        answer.backend,
    )
    note = f"took over from the structured iteration, gap {found.gap:.1e}"
    done = replace(found, attempts=(*tried, Attempt(answer.backend, answer.backend_status, found.status, 0.0, note)))
    better = (done.violation <= 1e-9, -done.gap) >= (before.violation <= 1e-9, -before.gap)
    return done if better else replace(before, attempts=done.attempts)
