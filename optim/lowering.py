"""Lowering of the multistage program to a sparse convex QP, with a map from rows back to named limits.

Variables: trades u; positions p_1..p_T where a term needs them; impact states z^m (one per slice, or only the last
one of a permanent mode); a ≥ |u| only where a spread or a group cap meets a trade whose sign is not known; factor
exposures r = F'e; slacks of soft bands. Impact enters by the energy identity (see :mod:`crosswind.optim.energy`), so
P is positive semidefinite block by block. Everything is scaled inside: x = D x̂, rows / E, cost / s; duals come back
as y = s ŷ / E.
"""

from __future__ import annotations

import numpy as np

from crosswind.optim.assembly import Assembler, IndexArray, VectorAssembler, label_grid
from crosswind.optim.box import trade_box
from crosswind.optim.checks import FloatArray
from crosswind.optim.energy import energy_constant, energy_weights
from crosswind.optim.factored import FactorMatrix
from crosswind.optim.limits import BandLimit, GroupCap, RateLimit
from crosswind.optim.lowered import Lowered, RowBlock
from crosswind.optim.program import MultistageProgram, same_matrices
from crosswind.optim.scaling import Scaling, choose_scaling
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import QuadraticProgram

__all__ = ["lower", "relower"]

_CURVED = 1e4  # largest curvature of a scaled state


def lower(
    program: MultistageProgram, scaling: Scaling | None = None, *, keep_absolute: bool = False, names: bool = True
) -> Lowered:
    """Lower ``program`` to a sparse convex QP.

    Parameters
    ----------
    program
        The program.
    scaling
        Sizes to use; default :func:`crosswind.optim.scaling.choose_scaling`. Pass the first program's scaling to get
        the same matrices for the next one of a receding horizon.
    keep_absolute
        Keep a ≥ |u| for every trade, so that the pattern does not depend on the bounds' signs (receding horizon).
    names
        Whether rows and variables get names.

    Returns
    -------
    Lowered
        The QP and the maps back.

    Raises
    ------
    InfeasibleProblem
        Trade limits that exclude each other.
    """
    return _Lowering(program, scaling or choose_scaling(program), keep_absolute).finish(names)


def relower(program: MultistageProgram, previous: Lowered) -> Lowered:
    """Lower the next program of a receding horizon: only vectors are computed, P and A are taken over.

    A step of a controller changes positions, levels, drifts, spreads, bounds and targets; building and sorting the
    sparse matrices anew would be most of its time.

    Parameters
    ----------
    program
        Like the previous one but for vectors: same sizes, names of limits, finite bounds and matrices.
    previous
        From :func:`lower` with ``keep_absolute=True``, or from here.

    Raises
    ------
    InvalidInput
        When the program has other matrices or rows, so that taking them over would be wrong.
    InfeasibleProblem
        Trade limits that exclude each other.
    """
    if not same_matrices(program, previous.program):
        raise InvalidInput(
            "differs from the previous program in more than vectors",
            field="program",
            value=[limit.name for limit in program.limits],
            remedy="call lower() instead",
        )
    return _Lowering(program, previous.scaling, True, VectorAssembler()).refresh(previous)


class _Lowering:
    """One lowering in progress; each method adds one term of the program."""

    def __init__(
        self, program: MultistageProgram, scaling: Scaling, keep_absolute: bool, assembler: Assembler | None = None
    ) -> None:
        self.program, self.scaling = program, scaling
        self.box = trade_box(program)
        self.asm = Assembler() if assembler is None else assembler
        self.T, self.n, self.P = program.slices, len(program.instruments), len(program.positions)
        self.limits: dict[str, RowBlock] = {}
        self.exposures: IndexArray | None = None
        self.gaps = np.full(self.P, -1)
        self.u = self.asm.variables(
            (self.T, self.n),
            label_grid("u", program.instruments, self.T),
            scaling.trades,
            self.box.lower,
            self.box.upper,
        )
        self.p = self._positions() if self._needs_positions() else None
        self._trade_costs()
        self.absolute, self.sign, self.epigraph = self._absolute(keep_absolute)
        self._impact()
        self._risk()
        self.completion = self._terminal()
        for limit in program.limits:
            if isinstance(limit, BandLimit):
                self._band(limit)
            elif isinstance(limit, GroupCap):
                self._group(limit)
            elif isinstance(limit, RateLimit):
                self._rate(limit)

    def finish(self, names: bool) -> Lowered:
        """Scale, build the QP and hand out the maps."""
        asm = self.asm
        D, E, s = asm.var_scale(), asm.row_scale(), self.scaling.cost
        A, P = asm.coefficients().tocoo(), asm.quadratic_cost().tocoo()
        # A state of huge curvature (λ or a terminal weight of 1e8) is small at the optimum: size it by its curvature.
        curvature = np.zeros(asm.n)
        on_diagonal = P.row == P.col
        curvature[P.row[on_diagonal]] = P.data[on_diagonal]
        curvature[self.u] = 0.0
        D = np.sqrt(s / np.maximum(curvature / _CURVED, s / D**2))
        A.data = A.data * D[A.col]
        # Rows between small states must be held to their size, not to that of the inventory.
        largest = np.zeros(asm.m)
        np.maximum.at(largest, A.row, np.abs(A.data))
        E = np.where(largest > 0.0, np.minimum(E, largest), E)
        A.data = A.data / E[A.row]
        P.data = P.data * (D[P.row] * D[P.col] / s)
        (lo, hi), (lb, ub) = asm.row_bounds(), asm.var_bounds()
        qp = QuadraticProgram(
            P=P.tocsc(),
            q=asm.linear_cost() * D / s,
            A=A.tocsc(),
            l=lo / E,
            u=hi / E,
            lb=lb / D,
            ub=ub / D,
            constant=asm.constant / s,
            row_names=asm.row_names() if names else None,
            var_names=asm.var_names() if names else None,
        )
        return self._handed_out(qp, D, E)

    def refresh(self, previous: Lowered) -> Lowered:
        """Put this program's vectors around the previous one's matrices."""
        asm, qp = self.asm, previous.qp
        D, E, s = previous.var_scale, previous.row_scale, previous.cost_scale
        same = (asm.n, asm.m) == (qp.n, qp.m) and np.array_equal(self.absolute, previous.absolute)
        if not same or any(not np.array_equal(b.rows, previous.limits[k].rows) for k, b in self.limits.items()):
            raise InvalidInput(
                "has other rows than the previous program",
                field="limits",
                value=(asm.n, asm.m),
                remedy="keep the same bounds finite, or call lower()",
            )
        (lo, hi), (lb, ub) = asm.row_bounds(), asm.var_bounds()
        q = asm.linear_cost() * D / s
        fresh = qp.with_vectors(q=q, l=lo / E, u=hi / E, lb=lb / D, ub=ub / D, constant=asm.constant / s)
        return self._handed_out(fresh, D, E)

    def _handed_out(self, qp: QuadraticProgram, D: FloatArray, E: FloatArray) -> Lowered:
        return Lowered(
            qp=qp,
            program=self.program,
            scaling=self.scaling,
            box=self.box,
            var_scale=D,
            row_scale=E,
            cost_scale=self.scaling.cost,
            trades=self.u,
            absolute=self.absolute,
            epigraph=self.epigraph,
            completion=self.completion,
            limits=self.limits,
            exposures=self.exposures,
            gaps=self.gaps,
        )

    # terms of the cost -------------------------------------------------------------------------------------------

    def _needs_positions(self) -> bool:
        g = self.program
        risky = g.risk_aversion > 0.0 and g.covariance is not None
        soft_end = g.terminal is not None and bool(g.terminal.penalty.any())
        return risky or soft_end or bool(g.holding.any()) or any(isinstance(b, BandLimit) for b in g.limits)

    def _positions(self) -> IndexArray:
        """Add p_1..p_T with p_{t+1} − p_t − S u_t = 0 (p_0 on the right-hand side)."""
        g, size = self.program, self.scaling.positions
        p = self.asm.variables((self.T, self.P), label_grid("p", g.positions, self.T, 1), size)
        right = np.zeros((self.T, self.P))
        right[0] = g.p0
        rows = self.asm.rows((self.T, self.P), label_grid("position", g.positions, self.T, 1), size, right, right)
        self.asm.add_coefficients(rows, p, 1.0)
        self.asm.add_coefficients(rows[1:], p[:-1], -1.0)
        i, j = np.nonzero(g.incidence)
        self.asm.add_coefficients(rows[:, i], self.u[:, j], -g.incidence[i, j])
        self.asm.add_linear(p, g.holding)
        return p

    def _trade_costs(self) -> None:
        self.asm.add_linear(self.u, self.program.drift)
        if self.program.temporary.any():
            self.asm.add_quadratic(self.u, self.u, 2.0 * self.program.temporary)

    def _absolute(self, keep: bool) -> tuple[IndexArray, FloatArray, IndexArray]:
        """Price |u|: by the sign where the box fixes it, else by a ≥ |u|."""
        g, asm = self.program, self.asm
        grouped = np.zeros((self.T, self.n), dtype=bool)
        for limit in g.limits:
            if isinstance(limit, GroupCap):
                capped = np.isfinite(limit.cap).astype(float) @ (limit.membership > 0.0)
                grouped |= np.asarray(capped > 0.0)
        needed = (g.spread > 0.0) | grouped
        sign = np.where(self.box.lower >= 0.0, 1.0, np.where(self.box.upper <= 0.0, -1.0, 0.0))
        if keep:
            needed, sign = np.full_like(needed, bool(needed.any())), np.zeros_like(sign)
        asm.add_linear(self.u, g.spread * sign)
        absolute, epigraph = np.full((self.T, self.n), -1), np.full((2, self.T, self.n), -1)
        t, j = np.nonzero(needed & (sign == 0.0))
        if len(t):
            size = self.scaling.trades[j]
            pairs = list(zip(t.tolist(), j.tolist(), strict=True))
            a = asm.variables((len(t),), lambda: [f"abs[{g.instruments[b]},{c}]" for c, b in pairs], size)
            rows = asm.rows(
                (2, len(t)),
                lambda: [f"{side}[{g.instruments[b]},{c}]" for side in ("buy", "sell") for c, b in pairs],
                size,
                -np.inf,
                0.0,
            )
            asm.add_coefficients(rows, np.stack([self.u[t, j]] * 2), np.array([[1.0], [-1.0]]))
            asm.add_coefficients(rows, np.stack([a] * 2), -1.0)
            asm.add_linear(a, g.spread[t, j])
            absolute[t, j], epigraph[:, t, j] = a, rows
        return absolute, sign, epigraph

    def _impact(self) -> None:
        g, asm = self.program, self.asm
        rho, phi, weights = g.decays, g.shares, energy_weights(g)
        asm.constant += energy_constant(g)
        for m, mode in enumerate(g.impact):
            if mode.empty:
                continue
            name = f"z{m}"
            if not (weights[m, :-1] > 0.0).any():
                # Permanent: only the last state is charged, and it is z_{−1} plus everything traded.
                z = asm.variables((1, self.n), label_grid(name, g.instruments, 1, self.T - 1), self.scaling.trades)
                rows = asm.rows(
                    (1, self.n), label_grid(name, g.instruments, 1), self.scaling.trades, mode.state, mode.state
                )
                asm.add_coefficients(rows, z, 1.0)
                asm.add_coefficients(np.broadcast_to(rows, self.u.shape), self.u, -phi[m][:, None])
                self._priced(name, z, np.ones(1), mode.matrix, self.scaling.trades)
                continue
            z = asm.variables((self.T, self.n), label_grid(name, g.instruments, self.T), self.scaling.trades)
            right = np.zeros((self.T, self.n))
            right[0] = rho[m, 0] * mode.state
            rows = asm.rows(
                (self.T, self.n), label_grid(name, g.instruments, self.T), self.scaling.trades, right, right
            )
            asm.add_coefficients(rows, z, 1.0)
            asm.add_coefficients(rows, self.u, -phi[m][:, None])
            asm.add_coefficients(rows[1:], z[:-1], -rho[m, 1:, None])
            self._priced(name, z, weights[m], mode.matrix, self.scaling.trades)

    def _priced(
        self, name: str, x: IndexArray, weights: FloatArray, matrix: FloatArray | FactorMatrix, size: FloatArray
    ) -> None:
        """Add ½ Σ_t weights_t x_t'Mx_t; a factored M is lifted to r = F'x, so that P and A stay sparse."""
        if not isinstance(matrix, FactorMatrix):
            self.asm.add_quadratic_block(x, weights, matrix)
            return
        asm, F, d = self.asm, matrix.loadings, matrix.specific
        own = np.flatnonzero(d)
        asm.add_quadratic(x[:, own], x[:, own], weights[:, None] * d[own])
        f = F.shape[1]
        if f == 0:
            return
        typical = np.sqrt(((F.T * size) ** 2).sum(axis=1))
        typical = np.where(typical > 0.0, typical, 1.0)
        labels = tuple(f"{name}.{i}" for i in range(f))
        r = asm.variables((len(x), f), label_grid("factor", labels, len(x), 1), typical)
        rows = asm.rows((len(x), f), label_grid("factor", labels, len(x), 1), typical, 0.0, 0.0)
        asm.add_coefficients(rows, r, 1.0)
        i, j = np.nonzero(F.T)
        asm.add_coefficients(rows[:, i], x[:, j], -F.T[i, j])
        asm.add_quadratic(r, r, weights[:, None])

    def _risk(self) -> None:
        """Add λ Σ w e'Σe on e = Bp + w."""
        g, asm = self.program, self.asm
        if g.risk_aversion == 0.0 or g.covariance is None:
            return
        weights = 2.0 * g.risk_aversion * g.risk_weight
        e, size = self._exposures()
        self.exposures = e
        if isinstance(g.covariance, FactorMatrix) or g.covariance.ndim == 2:
            self._priced("risk", e, weights, g.covariance, size)
        else:
            for t in range(self.T):
                asm.add_quadratic_block(e[t : t + 1], weights[t : t + 1], g.covariance[t])

    def _exposures(self) -> tuple[IndexArray, FloatArray]:
        """Return the variables of e_1..e_T and their sizes (k,): the positions themselves where e = p."""
        g, asm, p = self.program, self.asm, self.p
        assert p is not None
        w, B = g.exposure_level[1:], g.exposure
        k = len(B)
        if k == self.P and not w.any() and np.array_equal(B, np.eye(k)):
            return p, self.scaling.positions
        size = self.scaling.exposures
        labels = tuple(str(i) for i in range(k))
        e = asm.variables((self.T, k), label_grid("e", labels, self.T, 1), size)
        rows = asm.rows((self.T, k), label_grid("exposure", labels, self.T, 1), size, w, w)
        asm.add_coefficients(rows, e, 1.0)
        i, j = np.nonzero(B)
        asm.add_coefficients(rows[:, i], p[:, j], -B[i, j])
        return e, size

    def _terminal(self) -> IndexArray:
        g, asm = self.program, self.asm
        if g.terminal is None:
            return np.empty(0, dtype=np.int64)
        target, penalty = g.terminal.target, g.terminal.penalty
        priced = np.flatnonzero(penalty)
        if len(priced) and self.p is not None:
            # The gap p_T − target is its own variable: a weight of any size then meets a variable of its own scale.
            size, labels = self.scaling.positions[priced], [f"{g.positions[i]}" for i in priced]
            gap = asm.variables((len(priced),), lambda: [f"gap[{label}]" for label in labels], size)
            rows = asm.rows(
                (len(priced),), lambda: [f"gap[{label}]" for label in labels], size, target[priced], target[priced]
            )
            asm.add_coefficients(rows, self.p[-1, priced], 1.0)
            asm.add_coefficients(rows, gap, -1.0)
            asm.add_quadratic(gap, gap, 2.0 * penalty[priced])
            self.gaps[priced] = gap
        hard = np.flatnonzero(g.terminal.hard)
        names = [f"completion[{g.positions[i]}]" for i in hard]
        if self.p is not None:
            right = target[hard]
        else:
            right = (target - g.p0)[hard]
        rows = asm.rows((len(hard),), lambda: names, self.scaling.positions[hard], right, right)
        if self.p is not None:
            asm.add_coefficients(rows, self.p[-1, hard], 1.0)
        else:
            i, j = np.nonzero(g.incidence[hard])
            asm.add_coefficients(np.broadcast_to(rows[i], (self.T, len(i))), self.u[:, j], g.incidence[hard][i, j])
        return rows

    # limits ------------------------------------------------------------------------------------------------------

    def _pick(self, name: str, columns: tuple[str, ...], kept: np.ndarray, start: int, scale: FloatArray,
              low: FloatArray, high: FloatArray) -> tuple[IndexArray, IndexArray, IndexArray]:  # fmt: skip
        """Add rows only where a bound is finite; return (row numbers, slices, columns) of those."""
        t, g = np.nonzero(kept)
        pairs = list(zip(t.tolist(), g.tolist(), strict=True))
        rows = self.asm.rows(
            (len(t),), lambda: [f"{name}[{columns[b]},{c + start}]" for c, b in pairs], scale[g], low[t, g], high[t, g]
        )
        grid = np.full(kept.shape, -1)
        grid[t, g] = rows
        self.limits[name] = RowBlock(name, grid, columns)
        return rows, t, g

    def _band(self, band: BandLimit) -> None:
        asm, g, p = self.asm, self.program, self.p
        assert p is not None
        matrix, shift = band.matrix, np.zeros((self.T, len(band.matrix)))
        if band.on == "exposure":
            shift = g.exposure_level[1:] @ matrix.T
            matrix = matrix @ g.exposure
        low, high = band.lower - shift, band.upper - shift
        scale = np.abs(matrix * self.scaling.positions).max(axis=1, initial=0.0)
        scale = np.where(scale > 0.0, scale, 1.0)
        rows, t, i = self._pick(band.name, band.labels, np.isfinite(low) | np.isfinite(high), 1, scale, low, high)
        for column in range(self.P):
            hit = matrix[i, column] != 0.0
            asm.add_coefficients(rows[hit], p[t[hit], column], matrix[i[hit], column])
        if band.soft is None:
            return
        for side, sign, bound in (("over", -1.0, high), ("under", 1.0, low)):
            hit = np.isfinite(bound[t, i])
            if not hit.any():
                continue
            pairs = list(zip(t[hit].tolist(), i[hit].tolist(), strict=True))
            labels = [f"{band.name}_{side}[{band.labels[b]},{c + 1}]" for c, b in pairs]
            s = asm.variables((len(pairs),), lambda labels=labels: labels, scale[i[hit]], 0.0)  # type: ignore[misc]
            asm.add_coefficients(rows[hit], s, sign)
            asm.add_linear(s, band.soft.linear)
            if band.soft.quadratic > 0.0:
                asm.add_quadratic(s, s, band.soft.quadratic)

    def _group(self, cap: GroupCap) -> None:
        member = cap.membership
        scale = np.abs(member * self.scaling.trades).max(axis=1, initial=0.0)
        scale = np.where(scale > 0.0, scale, 1.0)
        kept = np.isfinite(cap.cap) & member.any(axis=1)
        low = np.full_like(cap.cap, -np.inf)
        rows, t, i = self._pick(cap.name, cap.labels, kept, 0, scale, low, cap.cap)
        for column in range(self.n):
            hit = member[i, column] != 0.0
            r, s, weight = rows[hit], t[hit], member[i[hit], column]
            lifted = self.absolute[s, column] >= 0
            target = np.where(lifted, self.absolute[s, column], self.u[s, column])
            self.asm.add_coefficients(r, target, weight * np.where(lifted, 1.0, self.sign[s, column]))

    def _rate(self, rate: RateLimit) -> None:
        before = np.zeros((self.T, self.n))
        bounded = np.isfinite(rate.delta)
        if rate.previous is None:
            bounded = bounded.copy()
            bounded[0] = False
        else:
            before[0] = rate.previous
        rows, t, j = self._pick(
            rate.name,
            self.program.instruments,
            bounded,
            0,
            self.scaling.trades,
            before - rate.delta,
            before + rate.delta,
        )
        self.asm.add_coefficients(rows, self.u[t, j], 1.0)
        later = t > 0
        self.asm.add_coefficients(rows[later], self.u[t[later] - 1, j[later]], -1.0)
