"""MOSEK: its interior point for quadratic programs; there is no size-limited licence, so no solve without one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.backends.one_sided import refusal
from crosswind.solvers.backends.stacking import Sides
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Mosek"]

_CLAIMS = {
    "optimal": Claim.SOLVED,
    "integer_optimal": Claim.SOLVED,
    "prim_infeas_cer": Claim.INFEASIBLE,
    "dual_infeas_cer": Claim.UNBOUNDED,
}


class Mosek(Backend):
    """MOSEK (MOSEK ApS), proprietary; one thread. Without a licence file every solve fails with MOSEK's own message.

    Settings are MOSEK's parameters by their full names, ``MSK_DPAR_…``, ``MSK_IPAR_…``.
    """

    name = "mosek"
    module = "mosek"
    distribution = "Mosek"
    licence = "proprietary"
    kinds = frozenset({"qp"})
    updates = True
    keeps_time = True
    gives_proofs = True
    commercial = True
    limits = "no solve without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _MosekPrepared(program, options)


class _MosekPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import mosek

        self.P, self.A = program.P, program.A
        self.scaling = scaling = Scaling.of(program)
        self.sides = Sides.of(program)
        tol = max(1e-12, 1e-3 * options.tol)
        chosen: dict[str, Any] = {
            "MSK_IPAR_NUM_THREADS": 1,
            "MSK_IPAR_OPTIMIZER": "MSK_OPTIMIZER_INTPNT",
            "MSK_IPAR_INTPNT_BASIS": "MSK_BI_NEVER",
            "MSK_IPAR_LICENSE_WAIT": "MSK_OFF",
        }
        chosen |= {f"MSK_DPAR_INTPNT_QO_TOL_{key}": tol for key in ("PFEAS", "DFEAS", "REL_GAP")}
        chosen |= {f"MSK_DPAR_INTPNT_TOL_{key}": tol for key in ("PFEAS", "DFEAS", "REL_GAP")}
        self.task = task = mosek.Env().Task()
        for key, value in (chosen | options.settings).items():
            try:
                task.putparam(key, str(value))
            except (mosek.Error, TypeError, ValueError) as err:
                unknown = isinstance(err, mosek.Error) and err.errno == mosek.rescode.err_param_name
                raise refusal("mosek", key, value, err, unknown) from err
        n, m = program.n, program.m
        task.appendvars(n)
        task.appendcons(m)
        A = program.A
        starts = A.indptr.astype(np.int64)
        task.putacolslice(0, n, starts[:-1], starts[1:], A.indices.astype(np.int32), A.data)
        lower = sparse.coo_matrix(sparse.tril(program.P) * scaling.quadratic)
        task.putqobj(lower.row.astype(np.int32), lower.col.astype(np.int32), lower.data)
        task.putobjsense(mosek.objsense.minimize)
        self.forever = task.getdouparam(mosek.dparam.optimizer_max_time)
        self.update(program)

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
            and Sides.of(program).key == self.sides.key
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        shrink = 1.0 / self.scaling.length
        n, m = program.n, program.m
        self.task.putclist(np.arange(n, dtype=np.int32), program.q * self.scaling.linear)
        self.task.putvarboundslice(0, n, *_bounds(program.lb * shrink, program.ub * shrink))
        self.task.putconboundslice(0, m, *_bounds(program.l * shrink, program.u * shrink))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        import mosek

        task = self.task
        limit = self.forever if time_limit is None else time_limit
        task.putdouparam(mosek.dparam.optimizer_max_time, limit)
        ended = task.optimize()
        kind = mosek.soltype.itr
        word = str(task.getsolsta(kind)).rpartition(".")[2]
        stops = {mosek.rescode.trm_max_time: Claim.TIME, mosek.rescode.trm_max_iterations: Claim.ITERATIONS}
        claim = stops.get(ended) or _CLAIMS.get(word, Claim.FAILED)
        x = np.array(task.getxx(kind))
        # MOSEK's Lagrangian takes (slc − suc)'Ax off; ours adds y'Ax.
        y = np.array(task.getsuc(kind)) - np.array(task.getslc(kind))
        z = np.array(task.getsux(kind)) - np.array(task.getslx(kind))
        factor = self.scaling.dual
        raw = Raw(
            claim,
            word,
            x * self.scaling.length,
            y * factor,
            z * factor,
            iterations=int(task.getintinf(mosek.iinfitem.intpnt_iter)),
        )
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw


def _bounds(low: Vector, high: Vector) -> tuple[list[Any], Vector, Vector]:
    import mosek

    key = mosek.boundkey
    kinds = []
    for has_low, has_high, same in zip(np.isfinite(low), np.isfinite(high), low == high, strict=True):
        if same:
            kinds.append(key.fx)
        elif has_low:
            kinds.append(key.ra if has_high else key.lo)
        else:
            kinds.append(key.up if has_high else key.fr)
    return kinds, np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


BACKEND = Mosek
