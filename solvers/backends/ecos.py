r"""ECOS: interior point for second-order cones; a quadratic objective is lowered to an epigraph, exactly.

ECOS has a linear objective only. With a factor :math:`P = F'F` the cost :math:`\tfrac12 x'Px` becomes a variable t with

.. math::

    \lVert (Fx,\ t - \tfrac12) \rVert_2 \le t + \tfrac12 \iff \tfrac12 \lVert Fx \rVert^2 \le t .

F is made block by block: variables that P does not couple get a number each, a coupled block of k variables a dense
factor of k(k+1)/2 entries (up to k² where it is singular) at a cost of k³ once per set-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.backends.epigraph import factor
from crosswind.solvers.backends.keywords import merged
from crosswind.solvers.backends.one_sided import ConeOrder, OneSided
from crosswind.solvers.backends.stacking import Sides
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram

__all__ = ["Ecos"]

_CLAIMS = {
    0: Claim.SOLVED,
    1: Claim.INFEASIBLE,
    2: Claim.UNBOUNDED,
    10: Claim.ALMOST,
    11: Claim.INFEASIBLE,
    12: Claim.UNBOUNDED,
    -1: Claim.ITERATIONS,
}
_ROUNDS = 3  # of solving again around the point found
_STEP = 1e-4  # unit of length of those rounds, in the program's own
_KNOWN: dict[str, Any] = {
    "feastol": 1e-8,
    "abstol": 1e-8,
    "reltol": 1e-8,
    "feastol_inacc": 1e-4,
    "abstol_inacc": 5e-5,
    "reltol_inacc": 5e-5,
    "max_iters": 100,
    "nitref": 9,
    "verbose": False,
}


class Ecos(Backend):
    """ECOS (Domahidi, Chu, Boyd, ECOS: an SOCP solver for embedded systems, ECC 2013), GPL-3.0.

    Notes
    -----
    Nothing is kept between two solves but our own lowering: no vector update, no start, no time limit.

    The epigraph sees a distance from the optimum only by its square: at a gap of 1e-12 the stationarity Px + q + … is
    still off by 1e-6, and 14 of 100 ordinary programs missed that. Where it misses, the program is solved again for
    x = x₀ + 1e-4 d around the point found, which is the same program, up to three times; 99 of 100 then pass.
    """

    name = "ecos"
    module = "ecos"
    licence = "GPL-3.0"
    kinds = frozenset({"qp", "soc"})
    gives_proofs = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Lower a quadratic or second-order cone program."""
        return _EcosPrepared(program, options)


class _EcosPrepared(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        self.P, self.A = program.P, program.A
        self.scaling = Scaling.of(program)
        self.rows: OneSided | None = None
        self.cones: tuple[Cone, ...] = ()
        soc: list[int] = []
        if isinstance(program, QuadraticProgram):
            self.rows = OneSided.of(program, boxes=True)
            equal, other = self.rows.matrices(program.A)
            self.linear = self.rows.inequalities
        else:
            assert isinstance(program, ConeProgram)
            self.cones = program.cones
            self.order = ConeOrder.of(program.cones)
            equal, other = program.A[self.order.zero], program.A[self.order.cone_rows]
            self.linear = self.order.nonneg.size
            soc = [rows.size for rows in self.order.soc]
        self.factor = factor(program.P * self.scaling.quadratic)
        self.lifted = self.factor.shape[0] > 0
        self.quadratic, self.plain = program.P * self.scaling.quadratic, sparse.csc_matrix(other)
        if self.lifted:
            soc = [*soc, self.factor.shape[0] + 2]
            equal = sparse.hstack((equal, sparse.csc_matrix((equal.shape[0], 1))))
        self.dims = {"l": int(self.linear), "q": soc}
        self.G = self._epigraph(1.0) if self.lifted else _readable(other)
        self.near = self._epigraph(_STEP) if self.lifted else self.G
        self.E = _readable(equal) if equal.shape[0] else None
        tol = max(1e-12, 1e-4 * options.tol)
        self.tol = 0.1 * options.tol
        ours = {"feastol": tol, "abstol": tol, "reltol": tol, "max_iters": 200, "verbose": False}
        self.settings = merged(_KNOWN, ours, options.settings, "ecos")
        self.update(program)

    def _epigraph(self, weight: float) -> Csc:
        """Return the rows of the plain cones and those that say t ≥ ½ weight ‖Fx‖²."""
        one = sparse.csc_matrix([[-1.0]])
        return _readable(
            sparse.bmat([[self.plain, None], [None, one], [-np.sqrt(weight) * self.factor, None], [None, one]])
        )

    def fits(self, program: Program) -> bool:
        if program.P is not self.P or program.A is not self.A or not self.scaling.suits(program):
            return False
        if isinstance(program, QuadraticProgram):
            return self.rows is not None and Sides.of(program).key == self.rows.sides.key
        return self.rows is None and program.cones == self.cones

    def update(self, program: Program) -> None:
        shrink = 1.0 / self.scaling.length
        if isinstance(program, QuadraticProgram):
            assert self.rows is not None
            equal, other = self.rows.vectors(program)
        else:
            equal, other = program.b[self.order.zero], program.b[self.order.cone_rows]
        self.c = program.q * self.scaling.linear
        self.h, self.e = other * shrink, equal * shrink
        if self.lifted:
            self.c = np.append(self.c, 1.0)
            self.h = np.concatenate((self.h, [0.5], np.zeros(self.factor.shape[0]), [-0.5]))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        n, scaling = self.A.shape[1], self.scaling
        found = self._run(self.G, self.c, self.h, self.e)
        info = found["info"]
        word, claim = str(info["infostring"]), _CLAIMS.get(int(info["exitFlag"]), Claim.FAILED)
        x, y, z, s = (np.asarray(found[key]) for key in "xyzs")
        x, iterations = x[:n], int(info["iter"])
        left = self._left(x, y, z)
        for _ in range(_ROUNDS):
            if not self.lifted or claim not in (Claim.SOLVED, Claim.ALMOST, Claim.FAILED) or not self.tol < left < 1.0:
                break
            closer = self._closer(x)
            if closer is None:
                break
            new, count = closer
            iterations += count
            better = self._left(*new[:3])
            if not better < left:
                break
            (x, y, z, s), left = new, better
        y, z = self._scattered(y, z)
        raw = Raw(claim, word, x * scaling.length, y * scaling.dual, z * scaling.dual, iterations=iterations)
        if self.rows is None:
            raw.s = np.zeros(self.A.shape[0])
            rows = self.order.cone_rows
            raw.s[rows] = s[: rows.size] * scaling.length
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw

    def _run(self, G: Csc, c: Vector, h: Vector, e: Vector) -> Any:
        import ecos

        cones = (G, h) if G.shape[0] else (None, None)
        equal = (self.E, e) if self.E is not None else (None, None)
        return ecos.solve(c, *cones, self.dims, *equal, **self.settings)

    def _left(self, x: Vector, y: Vector, z: Vector) -> float:
        """Return the stationarity of the program itself, not of the epigraph, relative to its cost terms."""
        n = x.size
        curved = self.quadratic @ x
        size = max(float(np.max(np.abs(curved))), float(np.max(np.abs(self.c[:n]))))
        r = curved + self.c[:n] + self.plain.T @ z[: self.plain.shape[0]]
        if self.E is not None:
            r = r + self.E[:, :n].T @ y
        off = float(np.max(np.abs(r)))
        return off / size if size > 0.0 else off

    def _closer(self, x: Vector) -> tuple[tuple[Vector, Vector, Vector, Vector], int] | None:
        """Solve for the distance from ``x`` in units of _STEP; the multipliers stay what they are."""
        n, first = x.size, self.plain.shape[0]
        c = np.append(self.quadratic @ x + self.c[:n], 1.0)
        h = self.h.copy()
        h[:first] = (h[:first] - self.plain @ x) / _STEP
        e = self.e if self.E is None else (self.e - self.E[:, :n] @ x) / _STEP
        found = self._run(self.near, c, h, e)
        d, y, z, s = (np.asarray(found[key]) for key in "xyzs")
        if not all(np.isfinite(part).all() for part in (d, y, z, s)):
            return None
        return (x + _STEP * d[:n], y, z, _STEP * s), int(found["info"]["iter"])

    def _scattered(self, equal: Vector, other: Vector) -> tuple[Vector, Vector]:
        """Bring ECOS's multipliers, those of the epigraph left out, to the program's rows and boxes."""
        if self.rows is not None:
            return self.rows.multipliers(equal, other[: self.linear])
        y = np.zeros(self.A.shape[0])
        rows = self.order.cone_rows
        y[self.order.zero], y[rows] = equal, other[: rows.size]
        return y, np.zeros(self.A.shape[1])


def _readable(matrix: Any) -> Csc:
    """Return a CSC matrix with sorted 64-bit indices, as ECOS reads them."""
    out = sparse.csc_matrix(matrix, dtype=np.float64)
    out.sort_indices()
    out.indices, out.indptr = out.indices.astype(np.int64), out.indptr.astype(np.int64)
    return out


BACKEND = Ecos
