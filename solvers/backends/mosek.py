"""MOSEK: its interior point, for quadratic programs and cones; it has no size-limited licence: no solve without one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.backends.epigraph import factor
from crosswind.solvers.backends.one_sided import ConeOrder, refusal
from crosswind.solvers.backends.stacking import Index, Sides
from crosswind.solvers.backends.triangles import lower_by_columns
from crosswind.solvers.face import sharpened
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram

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

    Notes
    -----
    Written to the manual, and tested by reading its task back and solving what that says: no licence was at hand.
    """

    name = "mosek"
    module = "mosek"
    distribution = "Mosek"
    licence = "proprietary"
    kinds = frozenset({"qp", "soc", "psd"})
    updates = True
    keeps_time = True
    gives_proofs = True
    commercial = True
    limits = "no solve without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or cone program up."""
        return (_MosekQuadratic if isinstance(program, QuadraticProgram) else _MosekCones)(program, options)


class _MosekPrepared(Prepared):
    """A task with its parameters; how rows come in and multipliers go out is the business of the two kinds below."""

    def __init__(self, program: Program, options: Options) -> None:
        import mosek

        self.program, self.options = program, options
        self.scaling = Scaling.of(program)
        tol = max(1e-12, 1e-3 * options.tol)
        chosen: dict[str, Any] = {
            "MSK_IPAR_NUM_THREADS": 1,
            "MSK_IPAR_OPTIMIZER": "MSK_OPTIMIZER_INTPNT",
            "MSK_IPAR_INTPNT_BASIS": "MSK_BI_NEVER",
            "MSK_IPAR_LICENSE_WAIT": "MSK_OFF",
        }
        for kind in ("", "QO_", "CO_"):
            chosen |= {f"MSK_DPAR_INTPNT_{kind}TOL_{key}": tol for key in ("PFEAS", "DFEAS", "REL_GAP")}
        self.task = mosek.Env().Task()
        for key, value in (chosen | options.settings).items():
            try:
                self.task.putparam(key, str(value))
            except (mosek.Error, TypeError, ValueError) as err:
                unknown = isinstance(err, mosek.Error) and err.errno == mosek.rescode.err_param_name
                raise refusal("mosek", key, value, err, unknown) from err
        self.forever = self.task.getdouparam(mosek.dparam.optimizer_max_time)
        self.task.appendvars(program.n)
        self.task.putobjsense(mosek.objsense.minimize)
        self.load()
        self.update(program)

    @abstractmethod
    def load(self) -> None:
        """Put the matrices of the program into the task."""

    @abstractmethod
    def multipliers(self) -> tuple[Vector, Vector]:
        """Return y (m,) and z (n,) in MOSEK's scale."""

    def fits(self, program: Program) -> bool:
        old = self.program
        return program.P is old.P and program.A is old.A and self.scaling.suits(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        import mosek

        task, n, scaling = self.task, self.program.n, self.scaling
        limits = [limit for limit in (self.forever, time_limit) if limit is not None and limit >= 0.0]
        task.putdouparam(mosek.dparam.optimizer_max_time, min(limits, default=-1.0))  # less than zero: none
        ended = task.optimize()
        word = str(task.getsolsta(mosek.soltype.itr)).rpartition(".")[2]
        stops = {mosek.rescode.trm_max_time: Claim.TIME, mosek.rescode.trm_max_iterations: Claim.ITERATIONS}
        claim = stops.get(ended) or _CLAIMS.get(word, Claim.FAILED)
        x = np.array(task.getxx(mosek.soltype.itr))[:n]
        y, z = self.multipliers()
        iterations = int(task.getintinf(mosek.iinfitem.intpnt_iter))
        raw = Raw(claim, word, x * scaling.length, y * scaling.dual, z * scaling.dual, iterations=iterations)
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw


class _MosekQuadratic(_MosekPrepared):
    def load(self) -> None:
        program, task = self.program, self.task
        assert isinstance(program, QuadraticProgram)
        self.sides = Sides.of(program)
        task.appendcons(program.m)
        A = program.A
        starts = A.indptr.astype(np.int64)
        task.putacolslice(0, program.n, starts[:-1], starts[1:], A.indices.astype(np.int32), A.data)
        lower = sparse.coo_matrix(sparse.tril(program.P) * self.scaling.quadratic)
        task.putqobj(lower.row.astype(np.int32), lower.col.astype(np.int32), lower.data)

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram) and super().fits(program) and Sides.of(program).key == self.sides.key
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.program = program
        shrink = 1.0 / self.scaling.length
        n, m = program.n, program.m
        self.task.putclist(np.arange(n, dtype=np.int32), program.q * self.scaling.linear)
        self.task.putvarboundslice(0, n, *_bounds(program.lb * shrink, program.ub * shrink))
        self.task.putconboundslice(0, m, *_bounds(program.l * shrink, program.u * shrink))

    def multipliers(self) -> tuple[Vector, Vector]:
        import mosek

        task, kind = self.task, mosek.soltype.itr
        # MOSEK's Lagrangian takes (slc − suc)'Ax off; ours adds y'Ax.
        y = np.array(task.getsuc(kind)) - np.array(task.getslc(kind))
        return y, np.array(task.getsux(kind)) - np.array(task.getslx(kind))


class _MosekCones(_MosekPrepared):
    """b − Ax in a product of domains; a quadratic objective is one domain more, 2 t 1 ≥ ‖Fx‖² with t in the costs.

    MOSEK takes no quadratic objective beside cones. The digits that this costs come back by :mod:`.face`.
    """

    def load(self) -> None:
        import mosek

        program, task, n = self.program, self.task, self.program.n
        assert isinstance(program, ConeProgram)
        order = ConeOrder.of(program.cones)
        task.appendafes(program.m)
        rows = sparse.coo_matrix(program.A)
        task.putafefentrylist(rows.row.astype(np.int64), rows.col.astype(np.int32), -rows.data)
        domains = []
        if order.zero.size:
            domains.append((task.appendrzerodomain(order.zero.size), order.zero))
        if order.nonneg.size:
            domains.append((task.appendrplusdomain(order.nonneg.size), order.nonneg))
        domains += [(task.appendquadraticconedomain(index.size), index) for index in order.soc]
        for index, size in zip(order.psd, order.orders, strict=True):
            # MOSEK stacks lower triangles by columns, off-diagonals × √2 as we do.
            domains.append((task.appendsvecpsdconedomain(index.size), index[lower_by_columns(size)]))
        for domain, index in domains:
            task.appendacc(domain, index.astype(np.int64), np.zeros(index.size))
        self.places: Index = np.concatenate([np.zeros(0, dtype=np.intp), *(index for _, index in domains)])
        task.putvarboundsliceconst(0, n, mosek.boundkey.fr, 0.0, 0.0)
        if program.P.nnz:
            self._lift(factor(program.P * self.scaling.quadratic))

    def _lift(self, F: Csc) -> None:
        """Add the variable t and the rotated cone (t, 1, Fx)."""
        import mosek

        task, n, m, rank = self.task, self.program.n, self.program.m, F.shape[0]
        task.appendvars(1)
        task.putvarbound(n, mosek.boundkey.fr, 0.0, 0.0)
        task.putcj(n, 1.0)
        task.appendafes(rank + 2)
        task.putafefentry(m, n, 1.0)
        task.putafeg(m + 1, 1.0)
        entries = sparse.coo_matrix(F)
        task.putafefentrylist((m + 2 + entries.row).astype(np.int64), entries.col.astype(np.int32), entries.data)
        task.appendaccseq(task.appendrquadraticconedomain(rank + 2), m, np.zeros(rank + 2))

    def fits(self, program: Program) -> bool:
        old = self.program
        return (
            isinstance(program, ConeProgram)
            and isinstance(old, ConeProgram)
            and super().fits(program)
            and program.cones == old.cones
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, ConeProgram)
        self.program = program
        self.task.putclist(np.arange(program.n, dtype=np.int32), program.q * self.scaling.linear)
        self.task.putafegslice(0, program.m, program.b / self.scaling.length)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        raw, program = super().solve(warm, time_limit), self.program
        assert isinstance(program, ConeProgram)
        raw.s = program.b - program.A @ raw.x
        return sharpened(raw, program, self.options.tol)

    def multipliers(self) -> tuple[Vector, Vector]:
        import mosek

        return self.scattered(np.array(self.task.getaccdotys(mosek.soltype.itr))), np.zeros(self.program.n)

    def scattered(self, doty: Vector) -> Vector:
        """Bring MOSEK's multipliers of all domains, that of the lifted objective last, to the program's rows.

        MOSEK asks q = F'doty of them with F = −A here, so they are ours as they are.
        """
        y = np.empty(self.program.m)
        y[self.places] = doty[: self.places.size]
        return y


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
