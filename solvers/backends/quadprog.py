r"""quadprog: the dual active-set method of Goldfarb and Idnani for small dense programs, exact to rounding.

The method needs a positive definite P. Where P has no Cholesky factor the program is not altered but solved by proximal
steps: each

.. math::

    x_{k+1} = \arg\min_x\ \tfrac12 x'Px + q'x + \tfrac{\rho}{2} \lVert x - x_k \rVert^2

over the same limits is strictly convex, its multipliers leave :math:`\rho (x_k - x_{k+1})` of the program's own
stationarity, and the steps go on until that is as small as asked (Rockafellar, Monotone operators and the proximal
point algorithm, 1976: for polyhedral limits the sequence ends at an optimum of the program itself). The word says how
many steps it took; ``proximal_steps=0`` forbids them and fails instead.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.keywords import merged
from crosswind.solvers.backends.one_sided import OneSidedPrepared
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Quadprog"]

_KNOWN = {"proximal_steps": 500, "proximal_weight": 1e-2}
_DEFINITE = 1e-11  # smallest pivot of P's factor, relative to the largest, that counts as positive
_DEPENDENT = 1e-11  # of the largest pivot: an equality row below it follows from the others
_CONTRADICTS = 1e-9  # of the terms' size: what two sides of dependent equalities may differ by
_FLAT = 1e-9


class Quadprog(Backend):
    """quadprog (Goldfarb and Idnani, A numerically stable dual method, Math. Prog. 1983), GPL-2.0 or later.

    Matrices become dense. P is factored once at the set-up, so that new vectors cost no factorisation. Equality rows
    that follow from others are left out (their multipliers are zero), since the method takes them for contradictions.

    Notes
    -----
    The package has no iteration limit, no time limit and no start; a solve that it gives up says "infeasible" without a
    proof, unless two equalities contradict each other, which is found here with the multipliers that prove it.
    """

    name = "quadprog"
    module = "quadprog"
    licence = "GPL-2.0-or-later"
    updates = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up; the matrices become dense."""
        assert isinstance(program, QuadraticProgram)
        return _QuadprogPrepared(program, options)


class _QuadprogPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        super().__init__(program, boxes=True)
        settings = merged(_KNOWN, _KNOWN, options.settings, "quadprog")
        self.steps, self.weight = int(settings["proximal_steps"]), float(settings["proximal_weight"])
        if self.steps < 0 or not 0.0 < self.weight < np.inf:
            raise InvalidInput(
                "quadprog does not take this value", field="proximal_weight", value=settings, remedy="steps ≥ 0, ρ > 0"
            )
        self.tol = max(1e-13, 1e-4 * options.tol)
        self.dense = (program.P * self.scaling.quadratic).toarray()
        equal, other = (part.toarray() for part in self.rows.matrices(program.A))
        self.kept = self._independent(equal)
        self.out = np.setdiff1d(np.arange(equal.shape[0]), self.kept)
        # How each equality that is left out follows from those that are kept.
        self.follows = np.linalg.lstsq(equal[self.kept].T, equal[self.out].T, rcond=None)[0].T
        # The package reads past the end where there is no limit at all; 0'x ≥ −1 says nothing.
        self.padded = self.kept.size + other.shape[0] == 0
        rows = np.zeros((1, program.n)) if self.padded else np.vstack((equal[self.kept], -other))
        self.columns = np.asfortranarray(rows.T)
        self.inverse = _inverse_factor(self.dense)
        self.definite = self.inverse is not None
        if not self.definite and self.steps:
            # A diagonal of P + ρI is at least ρ, whatever rounding has left of P.
            self.inverse = _inverse_factor(self.dense + self.weight * np.eye(program.n), 0.0)
        self.q, self.e, self.g = self.vectors(program)

    @staticmethod
    def _independent(equal: Vector) -> Vector:
        """Return the indices of equality rows that span all of them."""
        if equal.shape[0] == 0:
            return np.zeros(0, dtype=np.intp)
        size = np.linalg.norm(equal, axis=1)
        rows = equal / np.where(size > 0.0, size, 1.0)[:, None]
        _, factor, order = linalg.qr(rows.T, mode="economic", pivoting=True)
        pivots = np.abs(np.diag(factor))
        return np.sort(order[: np.count_nonzero(pivots > _DEPENDENT * max(pivots.max(initial=0.0), _DEPENDENT))])

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.q, self.e, self.g = self.vectors(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        against = self._contradiction()
        if against is not None:
            return self._no_point("equalities contradict", against)
        if self.inverse is None:
            return self._no_point("P is not positive definite", None)
        if self.definite:
            return self._stepped(np.zeros_like(self.q), 0.0, 1)
        return self._stepped(np.zeros_like(self.q), self.weight, self.steps)

    def _stepped(self, x: Vector, weight: float, limit: int) -> Raw:
        import quadprog

        right = -np.ones(1) if self.padded else np.concatenate((self.e[self.kept], -self.g))
        inner, dual, word, claim = 0, np.zeros(right.size), "solved", Claim.SOLVED
        ray: Vector | None = None
        for step in range(1, limit + 1):
            try:
                new, _, _, counts, dual, _ = quadprog.solve_qp(
                    self.inverse, weight * x - self.q, self.columns, right, self.kept.size, True
                )
            except ValueError as err:
                return self._no_point(str(err), None)
            inner += int(counts[0])
            move, x = new - x, new
            if weight == 0.0:
                break
            if weight * float(np.max(np.abs(move))) <= self.tol:
                word = f"solved by {step} proximal steps"
                break
            if self._recedes(move):
                word, claim, ray = f"endless descent after {step} proximal steps", Claim.UNBOUNDED, move
                break
        else:
            word, claim = f"stopped after {limit} proximal steps", Claim.ITERATIONS
        multipliers = np.zeros(self.e.size)
        multipliers[self.kept] = -dual[: self.kept.size]
        y, z = self.rows.multipliers(multipliers, dual[self.kept.size : self.kept.size + self.g.size])
        scale = self.scaling
        return Raw(claim, word, x * scale.length, y * scale.dual, z * scale.dual, iterations=inner, ray=ray)

    def _recedes(self, move: Vector) -> bool:
        """Tell whether the cost falls along ``move`` while P is flat and no limit is ever met."""
        d = move / float(np.max(np.abs(move)))
        if float(self.q @ d) >= -_FLAT or float(np.max(np.abs(self.dense @ d), initial=0.0)) > _FLAT:
            return False
        along = self.columns.T @ d
        equal, other = along[: self.kept.size], along[self.kept.size :]
        return bool(np.all(np.abs(equal) <= _FLAT) and np.all(other >= -_FLAT))

    def _contradiction(self) -> Vector | None:
        """Return multipliers v with v'E = 0 and v'e < 0 of an equality that was left out and does not hold."""
        if self.out.size == 0:
            return None
        base = self.e[self.kept]
        off = self.e[self.out] - self.follows @ base
        size = np.abs(self.follows) @ np.abs(base) + np.abs(self.e[self.out])
        worst = int(np.argmax(np.abs(off) - _CONTRADICTS * size))
        if abs(off[worst]) <= _CONTRADICTS * size[worst]:
            return None
        v = np.zeros(self.e.size)
        v[self.out[worst]] = 1.0
        v[self.kept] = -self.follows[worst]
        return v if off[worst] < 0.0 else -v

    def _no_point(self, word: str, against: Vector | None) -> Raw:
        nothing = np.full(self.q.size, np.nan)
        raw = Raw(Claim.FAILED, word, nothing, np.full(self.rows.m, np.nan), nothing)
        if "inconsistent" in word:
            raw.claim = Claim.INFEASIBLE
        if against is not None:
            raw.claim, raw.farkas = Claim.INFEASIBLE, self.rows.multipliers(against, np.zeros(self.g.size))
        return raw


def _inverse_factor(P: Vector, least: float = _DEFINITE) -> Vector | None:
    """Return R⁻¹ of P = R'R, or ``None`` where P is not positive definite beyond rounding."""
    try:
        factor = linalg.cholesky(P)
    except linalg.LinAlgError:
        return None
    pivots = np.diag(factor) ** 2
    if pivots.min() <= least * pivots.max():
        return None
    return np.asfortranarray(linalg.solve_triangular(factor, np.eye(P.shape[0])))


BACKEND = Quadprog
