r"""A primal–dual interior point for tail programs, with all scenarios folded into one system of the variables' size.

With slacks t_s = ζ + u_s − c_s(x), u_s ≥ 0 (multipliers w_s, θ_s = λπ_s − w_s) the tail is an epigraph. Newton's
equations give, scenario by scenario,

    Δw_s = D_s (∇c_s'Δx − Δζ + b_s),    D_s = w_s / (t_s + w_s u_s / θ_s),

so that Δζ, Δu, Δt, Δw and Δθ leave the system and

    M = Σ_s (p_s + w_s) ∇²c_s + diag(r) + Σ_s D_s (∇c_s − ḡ)(∇c_s − ḡ)' + G' diag(y/g) G + diag(μ/x)

is what is factorised, ḡ the D-weighted mean of the gradients. The Hessians share one kernel,

    Σ_s (p_s + w_s) ∇²c_s = (P'KP) ∘ (Ψ' diag(p + w) Ψ),

a Hadamard product with one Gram matrix: the scenarios cost two matrix products of S × n, however many cells there are.
Variables that the barrier already holds at zero leave the factorisation. Predictor and corrector are Mehrotra's (1992),
with the curvature of the costs in the corrector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dgetrf, dgetrs

from crosswind.solvers.tail.problem import Array, TailProgram

__all__ = ["Folded", "Point", "begin", "step"]

_DEAD = 1e9  # a variable whose barrier outweighs its curvature so many times moves by itself
_SHORTEN = 0.995
_STIFF = 1e3  # a binding term that outweighs the curvature so many times keeps its multiplier as an unknown
_SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11)  # of the curvature's size, added to the diagonal
_FEEBLE = 1e-13  # scenarios whose share of the largest weight in a Gram matrix is below this are left out of it


@dataclass(frozen=True, eq=False)
class Point:
    """Where the iteration stands: x, g, t, u and the multipliers μ, y, w, θ of their signs, ν and ζ; all scaled."""

    x: Array
    g: Array
    t: Array
    u: Array
    mu: Array
    y: Array
    w: Array
    theta: Array
    nu: Array
    zeta: float


class Folded:
    """A program in units of its own (x of order 1, costs of order 1), with what every iteration needs again.

    Parameters
    ----------
    program
        The program. Scenarios with a cap of zero are not in the tail; where the caps sum to one, the tail is a mean
        and is folded into the probabilities.
    """

    def __init__(self, program: TailProgram) -> None:
        self.program = program
        self.x_unit = max(float(program.equal_to.max(initial=0.0)), 1e-300)
        weight = np.array(program.probabilities)
        caps = np.array(program.caps)
        risk = program.risk
        if risk and caps.sum() <= 1.0 + 1e-9:
            weight += risk * caps / caps.sum()
            risk = 0.0
        self.tail = np.flatnonzero(caps > 0.0) if risk else np.zeros(0, dtype=np.int64)
        self.risk = risk
        mean = np.abs(program.base) + np.abs(weight @ program.linear)
        unit = float(mean.max()) * self.x_unit
        size = float(np.abs(program.kernel).max(initial=0.0)) * self.x_unit**2
        self.c_unit = max(unit, size * 1e-6, 1e-300)
        ratio = self.x_unit / self.c_unit
        self.linear = program.linear * ratio
        self.scale = program.scale
        self.cells, self.cells_t = program.cells, sp_t(program.cells)
        self.kernel = program.kernel * (self.x_unit * ratio)
        self.base, self.ridge = program.base * ratio, program.ridge * (self.x_unit * ratio)
        self.weight, self.cap = weight, risk * caps[self.tail]
        self.equal, self.equal_t = program.equal, sp_t(program.equal)
        self.equal_to = program.equal_to / self.x_unit
        self.rows, self.rows_t = program.rows, sp_t(program.rows)
        self.rows_to = program.rows_to / self.x_unit
        self.constant = program.constant / self.c_unit
        self.curved = bool(np.any(program.kernel))
        self.joined: Any = None
        if self.curved:
            self.joined = np.asarray(self.cells_t @ (self.cells_t @ self.kernel).T)  # P'KP
        self.joined_diagonal = np.diagonal(self.joined) if self.curved else np.zeros(program.n)
        self.scale_squared = self.scale * self.scale
        self.equal_dense, self.rows_dense = self.equal.toarray(), self.rows.toarray()
        self.rows_squared_t = sp_t(self.rows.power(2))
        self.pairs = 2 * len(self.tail) + program.n + len(self.rows_to)

    def values(self, x: Array) -> tuple[Array, Array]:
        """Return costs (S,) and gradients (S, n), scaled."""
        if not self.curved:
            return self.constant + self.linear @ x, self.linear
        v = (self.cells @ (self.scale * x).T).T
        pull = v @ self.kernel
        cost = self.constant + self.linear @ x + 0.5 * np.einsum("sc,sc->s", pull, v)
        gradient = (self.cells_t @ pull.T).T * self.scale
        gradient += self.linear
        return cost, gradient

    def bend(self, dx: Array) -> Array:
        """Return dx'∇²c_s dx (S,)."""
        if not self.curved:
            return np.zeros(len(self.weight))
        v = (self.cells @ (self.scale * dx).T).T
        return np.asarray(np.einsum("sc,sc->s", v @ self.kernel, v))

    def total(self, w: Array) -> Array:
        """Return p + w (S,)."""
        out = self.weight.copy()
        out[self.tail] += w
        return out


def sp_t(matrix: Any) -> Any:
    """Return the transpose in rows, for fast products."""
    return matrix.T.tocsr()


def begin(folded: Folded, warm: Array | None = None) -> Point:
    """Return a start: x spread over its rows (moved towards ``warm``, unscaled), the tail's weights spread evenly."""
    f, p = folded, folded.program
    bounds = p.bounds / f.x_unit
    count = (f.equal_dense != 0.0).sum(axis=1)
    x = bounds / max(1.0, float(count.max(initial=1.0)))
    x = np.maximum(x, 1e-8)
    if warm is not None:
        x = np.maximum(0.9 * np.maximum(warm, 0.0) / f.x_unit + 0.1 * x, 1e-3 * x)
    cost, gradient = f.values(x)
    size = max(float(np.abs(f.weight @ gradient + f.base).mean()), 1e-6)
    level = size * float(x.mean()) * (0.1 if warm is not None else 1.0)
    g = np.maximum(f.rows_to - f.rows @ x, 1e-2 * np.maximum(np.abs(f.rows_to), 1e-2))
    c = cost[f.tail]
    if len(c):
        w = f.cap * (f.risk / f.cap.sum())
        theta = f.cap - w
        zeta = float(np.quantile(c, max(0.0, 1.0 - f.risk / f.cap.sum())))
        spread = max(float(c.std()), level, 1e-6)
        u = np.maximum(c - zeta, 0.0) + 0.3 * spread
        t = zeta + u - c
    else:
        w = theta = u = t = np.zeros(0)
        zeta = 0.0
    return Point(x, g, t, u, level / x, level / g, w, theta, np.zeros(len(f.equal_to)), zeta)


@dataclass(frozen=True, eq=False)
class Residuals:
    """What is missing from the optimality conditions."""

    dual: Array
    zeta: float
    equal: Array
    rows: Array
    tail: Array
    mean: float  # mean complementarity
    cost: Array
    gradient: Array

    @property
    def reach(self) -> float:
        """Largest miss of a primal equation."""
        parts = (self.equal, self.rows, self.tail)
        return max(float(np.abs(part).max(initial=0.0)) for part in parts)


def residuals(f: Folded, at: Point) -> Residuals:
    """Return the residuals at a point."""
    cost, gradient = f.values(at.x)
    dual = f.total(at.w) @ gradient + f.base + f.ridge * at.x + f.rows_t @ at.y - at.mu - f.equal_t @ at.nu
    product = float(at.x @ at.mu + at.g @ at.y + at.t @ at.w + at.u @ at.theta)
    return Residuals(
        dual,
        f.risk - float(at.w.sum()) if len(f.tail) else 0.0,
        f.equal_to - f.equal @ at.x,
        f.rows_to - f.rows @ at.x - at.g,
        at.zeta + at.u - cost[f.tail] - at.t,
        product / f.pairs,
        cost,
        gradient,
    )


def _factor(M: Array, size: float) -> Any:
    """Return the Cholesky factor of M + δI; refinement takes δ out again, so it is the smallest that goes through."""
    at = np.diag_indices(len(M))
    for shift in _SHIFTS[:-1]:
        part = M.copy()
        part[at] += shift * size
        try:
            return cho_factor(part, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
    part = M.copy()
    part[at] += _SHIFTS[-1] * size
    return cho_factor(part, lower=True, overwrite_a=True, check_finite=False)


class _System:
    """The factorised Newton equations at one point.

    Scenarios and rows whose term would drown the rest of the matrix (D or y/g large: those that bind) keep their
    multiplier as an unknown beside E's and ζ; a small second system, a Schur complement, decides them. Folded in, they
    would cost the digits that they are large by.
    """

    def __init__(self, f: Folded, at: Point, r: Residuals) -> None:
        self.f, self.at, self.r = f, at, r
        n = len(at.x)
        barrier = at.mu / at.x + f.ridge
        weight = f.total(at.w)
        self.g = r.gradient[f.tail]
        self.theta = np.maximum(at.theta, 1e-300)
        self.d = at.w / (at.t + at.w * at.u / self.theta) if len(f.tail) else np.zeros(0)
        held = at.y / at.g
        curved = (weight @ f.scale_squared) * f.joined_diagonal if f.curved else np.zeros(n)
        size = max(float(curved.max(initial=0.0)), float(np.median(barrier)), 1e-8)
        reach = np.einsum("sn,sn->s", self.g, self.g) / n
        stiff = self.d * reach > _STIFF * size
        self.stiff, self.loose = np.flatnonzero(stiff), np.flatnonzero(~stiff)
        tight = held > _STIFF * size
        self.tight, self.slack = np.flatnonzero(tight), np.flatnonzero(~tight)
        d, g = self.d[self.loose], self.g[self.loose]
        self.dead = curved + (d @ (g * g) if len(d) else 0.0)
        if len(self.slack):
            self.dead = self.dead + f.rows_squared_t[:, self.slack] @ held[self.slack]
        self.live = live = np.flatnonzero(barrier < _DEAD * np.maximum(self.dead, 1e-12 * size))
        self.dead = self.dead + barrier
        M = np.zeros((len(live), len(live)))
        whole = len(live) == n
        if f.curved:
            keep = np.flatnonzero(weight > _FEEBLE * weight.max())
            half = (f.scale[keep] if whole else f.scale[np.ix_(keep, live)]) * np.sqrt(weight[keep])[:, None]
            M = half.T @ half  # one factor twice: the symmetric product, half the work
            M *= f.joined if whole else f.joined[np.ix_(live, live)]
        if len(d):
            keep = np.flatnonzero(d > _FEEBLE * d.max())
            half = (g[keep] if whole else g[np.ix_(keep, live)]) * np.sqrt(d[keep])[:, None]
            M += half.T @ half
        if len(self.slack):
            part = f.rows_dense[np.ix_(self.slack, live)]
            M += (part.T * held[self.slack]) @ part
        M[np.diag_indices(len(live))] += barrier[live]
        self.M = M
        self.factor = _factor(M, size)
        self._small(d, g)

    def _small(self, d: Array, g: Array) -> None:
        """Factorise the Schur complement of (ν, w of the stiff, y of the tight, ζ)."""
        f, at = self.f, self.at
        parts = [-f.equal_dense, self.g[self.stiff], f.rows_dense[self.tight]]
        diagonal = [np.zeros(len(f.equal_to)), 1.0 / self.d[self.stiff], (at.g / at.y)[self.tight]]
        if len(f.tail):
            parts.append(-(d @ g)[None, :])
            diagonal.append(np.array([-float(d.sum())]))
        self.C = np.concatenate(parts)
        self.solved = self._inverse(self.C.T)
        S = self.C @ self.solved
        S[np.diag_indices(len(S))] += np.concatenate(diagonal)
        if len(f.tail):
            first = len(f.equal_to)
            S[-1, first : first + len(self.stiff)] += 1.0
            S[first : first + len(self.stiff), -1] += 1.0
        self.schur: tuple[Any, Any] | None = None
        if len(S):
            lu, pivots, info = dgetrf(S)
            if info != 0:
                raise np.linalg.LinAlgError("the small system is singular")
            self.schur = (lu, pivots)

    def _inverse(self, rhs: Array) -> Array:
        """Return M⁻¹ rhs, refined once."""
        out = rhs / (self.dead if rhs.ndim == 1 else self.dead[:, None])
        live = self.live
        part = rhs[live]
        found = cho_solve(self.factor, part, check_finite=False)
        found += cho_solve(self.factor, part - self.M @ found, check_finite=False)
        out[live] = found
        return out

    def direction(self, cm: Array, cg: Array, ct: Array, cu: Array, tail: Array, dual: Array) -> Point:
        """Return the Newton direction for the given complementarity targets and right sides."""
        f, at, r = self.f, self.at, self.r
        gap = f.cap - at.w - at.theta
        b = ct / at.w - tail - (cu - at.u * gap) / self.theta
        pull = (cg - at.y * r.rows) / at.g
        rhs = -dual + cm / at.x
        if len(self.slack):
            rhs = rhs - f.rows_t[:, self.slack] @ pull[self.slack]
        aims = [-r.equal, -b[self.stiff], -(pull * at.g / at.y)[self.tight]]
        if len(f.tail):
            loose = self.d[self.loose] * b[self.loose]
            rhs = rhs - loose @ self.g[self.loose]
            aims.append(np.array([-(r.zeta - float(loose.sum()))]))
        dx = self._inverse(rhs)
        dzeta, eta = 0.0, np.zeros(0)
        if self.schur is not None:
            eta, _ = dgetrs(*self.schur, self.C @ dx - np.concatenate(aims))
            dx = dx - self.solved @ eta
        nu = eta[: len(f.equal_to)]
        dw = dtheta = du = dt = at.w
        if len(f.tail):
            dzeta = float(eta[-1])
            along = self.g @ dx
            dw = self.d * (along - dzeta + b)
            dw[self.stiff] = eta[len(nu) : len(nu) + len(self.stiff)]
            dtheta = gap - dw
            du = (cu - at.u * dtheta) / self.theta
            dt = tail + dzeta + du - along
        dg = r.rows - f.rows @ dx
        dy = (cg - at.y * dg) / at.g
        if len(self.tight):
            first = len(nu) + len(self.stiff)
            dy[self.tight] = eta[first : first + len(self.tight)]
        return Point(dx, dg, dt, du, (cm - at.mu * dx) / at.x, dy, dw, dtheta, nu, dzeta)


def _longest(at: Point, d: Point) -> float:
    longest = 1.0
    for name in ("x", "g", "t", "u", "mu", "y", "w", "theta"):
        value, change = getattr(at, name), getattr(d, name)
        falling = change < 0.0
        if falling.any():
            longest = min(longest, float(_SHORTEN * (-value[falling] / change[falling]).min()))
    return longest


def step(f: Folded, at: Point, r: Residuals) -> tuple[Point, float]:
    """Return the next point and the length of the step; LinAlgError where the matrix is not positive definite."""
    system = _System(f, at, r)
    products = (at.x * at.mu, at.g * at.y, at.t * at.w, at.u * at.theta)
    aim = system.direction(-products[0], -products[1], -products[2], -products[3], r.tail, r.dual)
    reach = _longest(at, aim)
    after = (
        sum(
            float((getattr(at, a) + reach * getattr(aim, a)) @ (getattr(at, b) + reach * getattr(aim, b)))
            for a, b in (("x", "mu"), ("g", "y"), ("t", "w"), ("u", "theta"))
        )
        / f.pairs
    )
    sigma = (max(after, 0.0) / r.mean) ** 3 if r.mean > 0.0 else 0.0
    target = sigma * r.mean
    tail = r.tail - 0.5 * f.bend(aim.x)[f.tail] * reach**2 if len(f.tail) and f.curved else r.tail
    second = (aim.x * aim.mu, aim.g * aim.y, aim.t * aim.w, aim.u * aim.theta)
    aims = [target - value - reach**2 * cross for value, cross in zip(products, second, strict=True)]
    d = system.direction(aims[0], aims[1], aims[2], aims[3], tail, r.dual)
    length = _longest(at, d)
    moved = {
        name: getattr(at, name) + length * getattr(d, name)
        for name in ("x", "g", "t", "u", "mu", "y", "w", "theta", "nu", "zeta")
    }
    return replace(at, **moved), length
