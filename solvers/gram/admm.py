"""The iterations: two-block consensus with one eigendecomposition per matrix, accelerated, in the precision asked for.

X = P with P ⪰ 0 and X = Q with Q in the floor and correlation bound. The state is (AP, AQ), the over-relaxed sums of
copies and scaled multipliers; from it

    P = PSD(sym AP),  Q = prox_{g/τ_Q}(sym AQ),
    X = [(wB + cT + τ_P(2P − AP) + τ_Q(2Q − AQ)) V ./ (w_i s_j + c + τ_P + τ_Q)] V',
    AP += α(X − P),  AQ += α(X − Q),

with c = min(ridge, pool), the part of the quadratic penalties that is the same on all entries and thus belongs to the
data term, S = V diag(s) V'. Where all rows weigh the same and c = 0 the middle line is one product with one inverse,
and `level` brings fits without penalties there. X need not be symmetric, so no Sylvester equation appears for any M.
Every choice of the state gives a valid bound (see `certificate`), so that acceleration and float32 are free to fail.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.gram.certificate import Bound, Certifier
from crosswind.solvers.gram.problem import Array, GramConeFit
from crosswind.solvers.gram.prox import clip_to_diagonal, penalised, shrink
from crosswind.solvers.gram.restore import restored
from crosswind.solvers.gram.spectral import Spectrum, shifted_inverse

__all__ = ["ALPHA", "Iteration"]

ALPHA = 1.6
_FAVOUR = 0.5
_FIRST = (2.5, 0.5)
_MEMORY = 5
_EVERY = 16  # rows of the least squares of the acceleration, for large problems
_BALANCE = (8, 16, 28, 44, 64, 90, 130, 190, 280, 400, 600, 900, 1400, 2100, 3200)
Floats = NDArray[Any]


class Iteration:
    """State and step of the splitting for one problem.

    Parameters
    ----------
    fit, certifier
        The problem and the factorisations of its moments.
    dtype
        float32 or float64.
    state
        (AP, AQ, τ_P, τ_Q) to start from; None: zeros with the diagonal of the own slopes.
    """

    def __init__(self, fit: GramConeFit, certifier: Certifier, dtype: Any, state: Any = None) -> None:
        self.fit, self.certifier = fit, certifier
        self.dtype = np.dtype(dtype)
        n, m = fit.names, fit.shapes
        self.weights, self.floor = np.asarray(fit.weights), np.asarray(fit.floor)
        # At ρ = 1 the bound follows from P ⪰ 0.
        self.rho = np.inf if fit.corr_bound == 1.0 else fit.corr_bound
        self.c = min(fit.ridge, fit.pool)
        target = np.asarray(fit.target)
        self.base = (fit.blocks(self.weights[:, None] * fit.B) + self.c * target).astype(self.dtype)
        self.level = certifier.root is not None and self.c == 0.0 and bool((self.weights == self.weights[0]).all())
        self.V = None if self.level else certifier.vectors.astype(self.dtype, copy=False)
        self.ridge, self.pool = fit.ridge - self.c, fit.pool - self.c
        self.target = target.astype(self.dtype) if self.ridge or self.pool else None
        self.count = 0
        self._history: list[tuple[Floats, Array]] = []
        self._last: tuple[Floats, Floats, float] | None = None
        self._before: tuple[Floats, Floats] | None = None
        self.inverse: Floats = np.empty((0, 0))
        self.P = np.zeros((m, n, n), dtype=self.dtype)
        self.Q = np.zeros_like(self.P)
        self._rotated = np.empty((n, n * m), dtype=self.dtype)
        self.X = self._rotated.reshape(n, m, n).transpose(1, 0, 2) if self.level else np.empty_like(self.P)
        self.diagonals: list[Array | None] = [None] * m
        self.spectra: list[Spectrum] = []
        if state is None:
            self.z = np.zeros((2, m, n, n), dtype=self.dtype)
            self.tau = self._first_tau()
            np.einsum("bmii->bmi", self.z)[:] = self._own()
        else:
            self.z = np.array(state[0], dtype=self.dtype)
            self.tau = [float(state[1]), float(state[2])]
        self._denominator()

    def _own(self) -> Array:
        """Diagonals (M, N) of the fit of each name by itself, clipped at the floor: where the iterations start."""
        fit = self.fit
        n, m = fit.names, fit.shapes
        d = np.einsum("mnmn->mn", np.asarray(fit.S).reshape(m, n, m, n))
        b = np.einsum("nmn->mn", np.asarray(fit.B).reshape(n, m, n))
        slope = np.divide(b, m * d, out=np.zeros_like(b), where=d > 0.0)
        return np.asarray(np.maximum(slope, self.floor))

    def _first_tau(self) -> list[float]:
        # S = 0: nothing but penalties gives a scale.
        middle = self.certifier.middle(self.weights, self.c) or max(self.fit.ridge, self.fit.pool) or 1.0
        return [_FIRST[0] * middle, _FIRST[1] * middle]

    def _denominator(self) -> None:
        if self.level:
            self.inverse = np.empty((0, 0))  # the old one is not held beside the new
            self.inverse = shifted_inverse(self.fit.S, float(self.weights[0]), sum(self.tau), self.dtype)
            return
        s = self.certifier.spectrum
        self.inverse = (1.0 / (np.multiply.outer(self.weights, s) + self.c + sum(self.tau))).astype(self.dtype)

    def project(self) -> None:
        """Compute P and Q of the current state."""
        fit = self.fit
        tau = self.tau[1]
        kappa = (1.0 + self.ridge / tau) / (1.0 + self.pool / tau)
        self.spectra = []
        for k in range(fit.shapes):
            Z = self.z[0, k] + self.z[0, k].T
            Z *= self.dtype.type(0.5)
            spectrum = Spectrum(Z)
            spectrum.positive(Z, self.P[k])
            self.spectra.append(spectrum)
            s = self.z[1, k] + self.z[1, k].T
            s *= self.dtype.type(0.5)
            if self.target is not None:
                penalised(s, self.target[k], self.ridge / tau, self.pool / tau)
            shrink(s, fit.l1 / (tau + self.ridge))
            self.diagonals[k], _ = clip_to_diagonal(s, self.floor, self.rho, kappa, self.Q[k], self.diagonals[k])

    def data_step(self) -> None:
        """Compute X from P, Q and the state."""
        tp, tq = (self.dtype.type(t) for t in self.tau)
        n = self.fit.names
        for k in range(self.fit.shapes):
            R = self.base[k] + (2 * tp) * self.P[k]
            R -= tp * self.z[0, k]
            R += (2 * tq) * self.Q[k]
            R -= tq * self.z[1, k]
            block = (self.inverse if self.V is None else self.V)[k * n : (k + 1) * n]
            if k == 0:
                np.matmul(R, block, out=self._rotated)
            else:
                self._rotated += R @ block
        if self.V is None:
            return  # X is a view of what was rotated
        self._rotated *= self.inverse
        for k in range(self.fit.shapes):
            np.matmul(self._rotated, self.V[k * n : (k + 1) * n].T, out=self.X[k])

    def advance(self) -> None:
        """Move the state by one step from the P and Q of `project`."""
        self.data_step()
        self.count += 1
        f = np.empty_like(self.z)
        np.subtract(self.X, self.P, out=f[0])
        np.subtract(self.X, self.Q, out=f[1])
        taus = self._balanced(f, self._before) if self.count in _BALANCE and self._before is not None else self.tau
        if self.count + 1 in _BALANCE:
            self._before = (self.P.copy(), self.Q.copy())
        f *= self.dtype.type(ALPHA)
        if taus == self.tau:
            self._accelerate(f)
            return
        self.z += f
        self._rescale(taus)

    def _rescale(self, taus: list[float]) -> None:
        """Take other penalties: the same multipliers, and nothing kept of what the acceleration remembers."""
        for b, copy in enumerate((self.P, self.Q)):
            self.z[b] -= copy
            self.z[b] *= self.dtype.type(self.tau[b] / taus[b])
            self.z[b] += copy
        self.tau = taus
        self._denominator()
        self._history.clear()
        self._last = None

    def retune(self) -> None:
        """Give a state that comes from other penalty weights the penalties that a cold start would take."""
        self.project()
        self._rescale(self._first_tau())

    def _balanced(self, f: Floats, before: tuple[Floats, Floats]) -> list[float]:
        """Return penalties closer to equal relative primal and dual residuals of each copy."""
        tp, tq = self.tau
        squares = 0.0
        for k in range(self.fit.shapes):
            squares += float(np.linalg.norm(tp * (self.z[0, k] - self.P[k]) + tq * (self.z[1, k] - self.Q[k]))) ** 2
        size = max(squares**0.5, 1e-30)
        taus = list(self.tau)
        for b, copy in enumerate((self.P, self.Q)):
            primal = float(np.linalg.norm(f[b])) / max(float(np.linalg.norm(copy)), 1e-30)
            moved = float(np.linalg.norm(copy - before[b])) * self.tau[b] / size
            ratio = _FAVOUR * primal / max(moved, 1e-30)
            # At rounding level the ratio of the two says nothing.
            if max(primal, moved) > 1e-11 and not 0.4 <= ratio <= 2.5:
                taus[b] = self.tau[b] * float(np.clip(np.sqrt(ratio), 0.25, 4.0))
        taus[1] = max(taus[1], 0.1 * taus[0])
        return taus

    def _norm(self, f: Floats) -> float:
        a, b = float(np.linalg.norm(f[0])), float(np.linalg.norm(f[1]))
        return float(np.sqrt(self.tau[0] * a * a + self.tau[1] * b * b))

    def _accelerate(self, f: Floats) -> None:
        """Type-II Anderson step on z ← z + f, undone when the residual more than doubles."""
        length = self._norm(f)
        if self._last is not None:
            old_z, old_f, old_length = self._last
            if length > 2.0 * old_length and self._history:
                # The extrapolation failed: take the plain step of the state before it.
                self.z = old_z + old_f
                self._history.clear()
                self._last = None
                return
            # In the place of the last state, which is not needed any more: what the step and its residual changed.
            old_z += old_f
            np.subtract(f, old_f, out=old_f)
            change = self._thin(old_f)
            np.subtract(self.z, old_z, out=old_z)
            old_z += f
            self._history.append((old_z, change))
            if len(self._history) > _MEMORY:
                self._history.pop(0)
        self._last = (self.z, f, length)
        plain = self.z + f
        if self._history:
            gamma = self._weights(f)
            for g, (moved, _) in zip(gamma, self._history, strict=True):
                plain -= self.dtype.type(g) * moved
        self.z = plain

    def _thin(self, x: Floats) -> Array:
        """Return some rows of x as one float64 vector, weighted by the penalties, for the least squares."""
        every = _EVERY if self.fit.names >= 16 * _EVERY else (4 if self.fit.names >= 64 else 1)
        scale = np.sqrt(np.array(self.tau))[:, None, None, None]
        return np.asarray((x[:, :, ::every].astype(np.float64) * scale).ravel())

    def _weights(self, f: Floats) -> Array:
        D = np.stack([change for _, change in self._history], axis=1)
        gram = D.T @ D
        gram[np.diag_indices_from(gram)] *= 1.0 + 1e-10
        gram[np.diag_indices_from(gram)] += 1e-300
        try:
            return np.asarray(np.linalg.solve(gram, D.T @ self._thin(f)))
        except np.linalg.LinAlgError:
            return np.zeros(len(self._history))

    def feasible(self) -> tuple[Array, float]:
        """Return P with its diagonal raised until every limit holds, and its objective."""
        return self.certifier.primal(self.fit, (s.plus() for s in self.spectra))

    def bound(self) -> Bound:
        """Return the bound of the state's multipliers; like `feasible`, between `project` and `advance`."""
        tp, tq = self.tau
        A, W, y = (np.empty(self.P.shape) for _ in range(3))
        Q = self.Q
        for k, spectrum in enumerate(self.spectra):  # one at a time: at a thousand names every copy counts
            np.multiply(spectrum.minus(), tp, out=A[k])
            zp, zq = (self.z[b, k].astype(np.float64) for b in (0, 1))
            np.subtract(zp.T, zp, out=W[k])
            W[k] *= 0.5 * tp
            W[k] += (0.5 * tq) * (zq.T - zq)
            np.add(zq, zq.T, out=y[k])
            y[k] *= 0.5
            y[k] -= Q[k]
            y[k] *= tq
        if self.dtype == np.float32 and self.fit.l1 > 0.0:
            y += self._snapped(y, Q)
        return self.certifier.bound(self.fit, A, W, y, Q)

    def _snapped(self, y: Array, Q: Floats) -> Array:
        """Return what puts multipliers of free entries on ±l1, from which float32 keeps them by a rounding.

        Any y is valid in the bound; but a rounding beyond l1 counts as a price there, N² times.
        """
        l1, tq = self.fit.l1, self.tau[1]
        inner = y - self.ridge * (Q - np.asarray(self.fit.target)) if self.ridge else y
        grain = 4.0 * float(np.finfo(np.float32).eps) * (tq * np.abs(self.z[1]).astype(np.float64) + l1)
        near = np.abs(np.abs(inner) - l1) <= grain
        np.einsum("mii->mi", near)[:] = False
        return np.asarray(np.where(near, np.copysign(l1, inner) - inner, 0.0))

    def restored(self) -> tuple[Array, float]:
        """Return feasible matrices from P moved within its face first, and their objective."""
        fit, tq = self.fit, self.tau[1]
        # With an l1 penalty every rounding of a zero costs: float32 noise on N² entries would be what decides.
        exact = fit.l1 > 0.0 and self.dtype == np.float32
        found = []
        for k in range(fit.shapes):
            spectrum, P, Q = self.spectra[k], self.P[k], self.Q[k]
            if exact:
                Z = self.z[0, k].astype(np.float64)
                Z = 0.5 * (Z + Z.T)
                spectrum, Q = Spectrum(Z), Q.astype(np.float64)
                P = spectrum.positive(Z, np.empty_like(Z))
            inner = (0.5 * tq) * (self.z[1, k] + self.z[1, k].T) - tq * self.Q[k]
            if self.target is not None and self.ridge:
                inner -= self.dtype.type(self.ridge) * (self.Q[k] - self.target[k])
            found.append(restored(spectrum, P, Q, inner, fit.l1, self.floor, fit.corr_bound))
        return self.certifier.primal(fit, (s.plus() for s in found))

    def sharpened(self, certifier: Certifier) -> Iteration:
        """Return float64 iterations that go on from here, with ``certifier``'s eigenvectors."""
        out = Iteration(self.fit, certifier, np.float64, self.state())
        out.count, out.diagonals = self.count, self.diagonals
        if self._before is not None:
            P, Q = self._before
            out._before = (P.astype(np.float64), Q.astype(np.float64))
        return out

    def state(self) -> tuple[Floats, float, float]:
        """Return what `Iteration` starts again from, in its precision."""
        return self.z, self.tau[0], self.tau[1]

    def rest(self) -> None:
        """Let go of what only further steps need."""
        self._history.clear()
        self._last = self._before = None
        self.inverse = self.X = self._rotated = np.empty((0, 0))
