"""Newton systems of the interior point: names' blocks, what couples them by a Schur complement, the rest by iteration.

H = blkdiag(A_i) + Ẽ'Ẽ + rest. Ẽ holds the exposures that weigh: the large columns of impact and risk, the bands and
caps whose weight is felt. Their forces y = Ẽx are unknowns of their own, as eliminating them would multiply rounding of
x by weights of 1e12:

    [A, Ẽ'; Ẽ, −1](x, y) = (r, r_y),   (1 + ẼA⁻¹Ẽ') y = ẼA⁻¹r − r_y,   x = A⁻¹(r − Ẽ'y),

with the blocks of ẼA⁻¹Ẽ' equal to U_k'(Σ_i E_ik E_il A_i⁻¹)U_l: one product of (pairs, N) with the triangles of the
inverses. What was left out is small against the blocks, and conjugate gradients on this system see a spectrum near 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from crosswind.solvers.schedule.interior_blocks import Blocks
from crosswind.solvers.schedule.interior_model import Model
from crosswind.solvers.schedule.interior_rows import Rows
from crosswind.solvers.schedule.problem import Array

__all__ = ["Newton", "Step"]

Index = NDArray[np.intp]


@dataclass
class Step:
    """A direction: x (K, T, N), ν (N,), forces y of the couplings, and of the bands and caps that are held."""

    x: Array
    nu: Array
    y: Array
    forces: Array

    def add(self, other: Step, length: float = 1.0) -> None:
        """Move along another one."""
        self.x += length * other.x
        self.nu += length * other.nu
        self.y += length * other.y
        self.forces += length * other.forces


class Newton:
    """One factorised system at weights Θ; columns, bands and caps that weigh less than ``small`` are left out."""

    def __init__(self, model: Model, rows: Rows, theta: Array, small: float) -> None:
        self.model, self.rows, self.theta, self.small = model, rows, theta, small
        self.slices, self.names = model.free.shape
        weights = rows.weights(theta)
        self.blocks = Blocks(model, weights)
        self.slope = model.sign * model.group - model.split * model.group * self.blocks.lean
        self._share()
        self._choose(weights.bands, weights.groups)
        self._schur()
        self.loose = theta.copy()
        self.loose[self.held] = 0.0

    def _share(self) -> None:
        """Sum E_ik E_il A_i⁻¹ over names for all pairs of loadings and bands, triangles packed."""
        T, banded = self.slices, self.rows.banded
        E = np.hstack([*(one.E for one in self.model.couplings), banded])
        p = E.shape[1]
        first, second = np.tril_indices(p)
        self.pair = np.zeros((p, p), dtype=np.intp)
        self.pair[first, second] = self.pair[second, first] = np.arange(first.size)
        up, right = np.triu_indices(T)
        self.triangle = np.zeros((T, T), dtype=np.intp)
        self.triangle[up, right] = self.triangle[right, up] = np.arange(up.size)
        packed = np.take(self.blocks.inverse.reshape(self.names, T * T), up * T + right, axis=1)
        self.shared = (E[:, first] * E[:, second]).T @ packed
        self.E = E

    def _choose(self, bands: Array, groups: Array) -> None:
        """Choose the exposures that weigh, diag(ẼA⁻¹Ẽ') > ``small``; of columns by falling size these are the first."""
        T, rows, small = self.slices, self.rows, self.small
        self.U: list[Array] = []
        dead, k = [], 0
        for one in self.model.couplings:
            for _ in range(one.E.shape[1]):
                own = self.shared[self.pair[k, k]][self.triangle]
                size = np.einsum("tr,tr->r", one.U, own @ one.U)
                count = int(np.flatnonzero(size > small)[-1]) + 1 if (size > small).any() else 0
                self.U.append(one.U[:, :count])
                dead.append(np.arange(one.U.shape[1]) >= count)
                k += 1
        self.dead = np.concatenate(dead) if dead else np.zeros(0, dtype=bool)
        later = np.triu(np.ones((T, T)))
        held = []
        for b in range(bands.shape[1]):
            own = self.shared[self.pair[k, k]][self.triangle]
            size = bands[:, b] * np.cumsum(np.cumsum(own, axis=0), axis=1).diagonal()
            live = np.flatnonzero(size > small)
            self.U.append(later[:, live] * np.sqrt(bands[live, b]))
            held.append(live * bands.shape[1] + b)
            k += 1
        live_bands = np.concatenate([np.zeros(0, dtype=np.intp), *held])
        self.low, self.high = rows.band_low[live_bands], rows.band_high[live_bands]
        split = self.model.split & self.model.group
        self.spare = np.where(split, 1.0 / self.blocks.stiff, 0.0)  # of t itself, beside what u gives it
        give = (self.slope**2 * np.einsum("ntt->tn", self.blocks.inverse) + self.spare) @ rows.sums
        self.caps = np.flatnonzero((groups * give).ravel() > small)
        self.capped = rows.caps[self.caps]
        self.cap_root = np.sqrt(groups.ravel()[self.caps])
        self.roots = np.concatenate([np.sqrt(bands.ravel()[live_bands]), self.cap_root])
        self.held = np.concatenate([self.low[self.low >= 0], self.high[self.high >= 0], self.capped])

    def _schur(self) -> None:
        sizes = [U.shape[1] for U in self.U]
        self.offsets = np.cumsum([0, *sizes])
        self.lifted = int(np.sum(~self.dead))
        total = int(self.offsets[-1]) + int(self.caps.size)
        S = np.zeros((total, total), order="F")
        for k, U in enumerate(self.U):
            if not sizes[k]:
                continue
            for j in range(k + 1):
                if sizes[j]:
                    block = U.T @ (self.shared[self.pair[k, j]][self.triangle] @ self.U[j])
                    S[self.offsets[k] : self.offsets[k + 1], self.offsets[j] : self.offsets[j + 1]] = block
        if self.caps.size:
            self._cap_rows(S)
        S[np.arange(total), np.arange(total)] += 1.0
        self.factor, info = lapack.dpotrf(S, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            raise np.linalg.LinAlgError("the Schur complement is not positive definite")

    def _cap_rows(self, S: Array) -> None:
        """Fill the rows of caps: only names of one group meet in them."""
        rows, inverse = self.rows, self.blocks.inverse
        time, group = np.divmod(self.caps, rows.counted)
        base = int(self.offsets[-1])
        spare = (self.spare @ rows.sums).ravel()[self.caps]
        for g in np.unique(group):
            at = np.flatnonzero(group == g)
            names = np.flatnonzero(rows.sums[:, g] > 0.0)
            t, root = time[at], self.cap_root[at]
            slope = self.slope[:, names].T
            B = inverse[names[:, None], t] * (slope[:, t] * root)[:, :, None]  # (n, caps, T)
            own = np.einsum("nat,nt->at", B, slope)[:, t] * root
            S[np.ix_(base + at, base + at)] = own + np.diag(root**2 * spare[at])
            cross = (self.E[names].T @ B.reshape(names.size, -1)).reshape(-1, at.size, self.slices)
            for k, U in enumerate(self.U):
                S[base + at, self.offsets[k] : self.offsets[k + 1]] = cross[k] @ U

    def _expose(self, x: Array) -> Array:
        """Return Ẽx."""
        traded = x[0] @ self.E
        parts = [U.T @ traded[:, k] for k, U in enumerate(self.U)]
        if self.caps.size:
            gross = (self.rows.absolute(x) * self.model.group) @ self.rows.sums
            parts.append(self.cap_root * gross.ravel()[self.caps])
        return np.concatenate(parts) if parts else np.zeros(0)

    def _less(self, r: Array, y: Array) -> Array:
        """Return r − Ẽ'y."""
        out = r.copy()
        if self.U:
            pull = [U @ y[self.offsets[k] : self.offsets[k + 1]] for k, U in enumerate(self.U)]
            out[0] -= np.stack(pull, axis=1) @ self.E.T * self.model.free
        if self.caps.size:
            caps = np.zeros(self.slices * self.rows.counted)
            caps[self.caps] = self.cap_root * y[self.offsets[-1] :]
            pulled = caps.reshape(self.slices, -1) @ self.rows.sums.T * self.model.group
            out[0] -= self.model.sign * pulled
            if self.rows.splits:
                out[1] -= self.model.split * pulled
        return out

    def _solve(self, r: Array, need: Array, right: Array) -> Step:
        """Solve the factorised system; ``right`` is r_y."""
        x, nu = self.blocks.solve(r, need)
        lifts = np.zeros(self.dead.size)
        if not self.factor.size:
            return Step(x, nu, lifts, np.zeros(0))
        y, _ = lapack.dpotrs(self.factor, self._expose(x) - right, lower=1)
        x, nu = self.blocks.solve(self._less(r, y), need)
        lifts[~self.dead] = y[: self.lifted]
        return Step(x, nu, lifts, -self.roots * y[self.lifted :])

    def _image(self, step: Step) -> Array:
        """Return what a step does to the gradient; forces that are not held follow from x."""
        x = step.x
        step.y[self.dead] = self.model.lift(x[0])[self.dead]
        out = self.rows.adjoint(self.loose * self.rows.apply(x) - self._forced(step.forces))
        out[0] += self.model.own(x[0]) + self.model.drop(step.y) + step.nu * (self.model.free & self.model.complete)
        return out

    def _forced(self, forces: Array) -> Array:
        """Return forces of bands and caps as steps of multipliers, those of a band on its upper row."""
        out = np.zeros(self.loose.size + 1)
        bands = self.high.size
        upper = self.high >= 0
        out[self.high[upper]] = forces[:bands][upper]
        out[self.low[~upper]] = -forces[:bands][~upper]
        out[self.capped] = -forces[bands:]
        return out[:-1]

    def solve(self, r: Array, need: Array, lifts: Array, push: Array, stop: float, most: int) -> tuple[Step, int]:
        """Solve for a step.

        Parameters
        ----------
        r, need
            (K, T, N) of the gradient, (N,) of the ends.
        lifts
            What y of the couplings should miss Ẽx by.
        push
            What the multipliers do where x stays: they act on r where a row is not held.
        stop, most
            Weighted 1-norm of the gradient's residual that is small enough; most iterations.

        Returns
        -------
        Step, int
            The step, and the iterations it took beyond the first solve.
        """
        known = np.append(push, 0.0)
        shared = np.concatenate([known[self.high] - known[self.low], -known[self.capped]])
        known[self.held] = 0.0
        r = r + self.rows.adjoint(known[:-1])
        total = self._solve(r, need, np.concatenate([lifts[~self.dead], shared / self.roots]))
        if not (self.dead.any() or self.model.rest or np.any(self.loose[self.rows.shared])):
            return total, 0
        left = r - self._image(total)
        nothing, none = np.zeros_like(need), np.zeros(self.roots.size + self.lifted)
        direction, slope, count = total, 0.0, 0
        while count < most and float(np.sum(np.abs(left) * self.model.size)) > stop:
            step = self._solve(left, nothing, none)
            last, slope = slope, float(np.sum(left * step.x))
            if count:
                step.add(direction, slope / last)
            direction = step
            # The step keeps its rows, 1'x = give ν and Ẽx = y, so that x'(image) is all of its energy.
            image = self._image(direction)
            energy = float(np.sum(direction.x * image))
            if not (energy > 0.0 and slope > 0.0):
                break
            total.add(direction, slope / energy)
            left = left - (slope / energy) * image
            count += 1
        return total, count

    def multipliers(self, dz: Array, forces: Array) -> Array:
        """Take steps of held multipliers from their own unknowns, not from Θ times a small difference.

        Of a band's two, the one of less weight stays as it is.
        """
        bands = self.high.size
        out, weight = np.append(dz, 0.0), np.append(self.theta, 0.0)
        upper = weight[self.high] >= weight[self.low]
        out[self.high[upper]] = (forces[:bands] + out[self.low])[upper]
        out[self.low[~upper]] = (out[self.high] - forces[:bands])[~upper]
        out[self.capped] = -forces[bands:]
        return out[:-1]
