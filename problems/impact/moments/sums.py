"""Sums of products over rows, and the pass that makes them: far fewer operations than rows of regressors would take.

For an exponential dictionary, y_t = a y_{t−1} + u_t and z_t = u_t + (a − 1) y_{t−1}. With C_m = Σ y^m_{t−1} u_t' and
S⁻_mn = Σ y^m_{t−1} y^n_{t−1}', a run of consecutive rows has

    (1 − a_m a_n) S⁻_mn = a_m C_m + a_n C_n' + Σ u u' − [y^m y^n' at its end − y^m y^n' at its start],
    Σ z^m z^n' = Σ u u' + (a_m − 1) C_m + (a_n − 1) C_n' + (a_m − 1)(a_n − 1) S⁻_mn,

so the M² blocks of Z'Z follow from the M blocks C_m. These in turn, and Σ v y_{t−1}' for v = (u, r, f) alike, need no
rows of regressors: in groups of consecutive rows t = 0..G−1 that start from y,

    Σ_t v_t y_{t−1}' = (Σ_t a^t v_t) y' + Σ_{h ≥ 1} a^{h−1} Σ_{t ≥ h} v_t u_{t−h}',

one product of v by shape per group, and products of v and u within the group that all shapes share. Rows that are left
out break a run in nothing but their own products, which are taken off again. Where many are left out, and for the
other families, Z'Z is summed as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dsyrk

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.moments.recursion import GROUP, RegressorState

__all__ = ["RowSums", "Sums"]

Array = NDArray[np.float64]
TILE = 1024  # rows held at once, a multiple of GROUP: the tile stays in the processor's cache
_MANY = 0.3  # share of rows left out above which a tile is summed as it stands
_LARGE = 100.0  # so it is where Σ u² over the rows left out exceeds that over the others so many times: two digits


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums of products over rows of regressors z, returns r, factor returns f and flow u.

    Parameters
    ----------
    rows
        Number E of rows.
    weight, square
        Σ w and Σ w² over the rows; E and E where no row is weighted.
    ZZ, rZ, fZ
        Σ w z z' (NM, NM), Σ w r z' (N, NM), Σ w f z' (F, NM).
    rr, fr, ff
        Σ w r r' (N, N), Σ w f r' (F, N), Σ w f f' (F, F).
    uu
        Σ w u u' (N, N).
    """

    rows: int
    weight: float
    square: float
    ZZ: Array
    rZ: Array  # noqa: N815
    fZ: Array  # noqa: N815
    rr: Array
    fr: Array
    ff: Array
    uu: Array

    @classmethod
    def empty(cls, names: int, shapes: int, factors: int = 0) -> Sums:
        """Return the sums of no rows."""
        N, K, F = names, names * shapes, factors
        sizes = ((K, K), (N, K), (F, K), (N, N), (F, N), (F, F), (N, N))
        return cls(0, 0.0, 0.0, *(np.zeros(size) for size in sizes))

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Sums)))

    def scaled(self, factor: float) -> Sums:
        """Return the same rows with every weight times ``factor``."""
        if factor == 1.0:
            return self
        arrays = {name: factor * getattr(self, name) for name in ("ZZ", "rZ", "fZ", "rr", "fr", "ff", "uu")}
        return replace(self, weight=factor * self.weight, square=factor**2 * self.square, **arrays)

    @property
    def effective_rows(self) -> float:
        """(Σ w)²/Σ w²: how many equally weighted rows say as much (Kish 1965)."""
        return self.weight**2 / self.square if self.square > 0 else 0.0

    def gram(self, scale: float = 1.0) -> Gram:
        """Return the Gram of flow and raw returns, its sums and rows times ``scale``."""
        return Gram(scale * self.weight, scale * self.ZZ, scale * self.rZ, scale * self.rr, scale * self.uu)


class RowSums:
    """The pass over the rows of one part of a session after another, in buffers that are made once.

    Parameters
    ----------
    dictionary
        Decay shapes.
    names, factors
        N and F.
    """

    def __init__(self, dictionary: Dictionary, names: int, factors: int) -> None:
        self.dictionary, self.names, self.factors = dictionary, names, factors
        self.state = RegressorState(dictionary, names)
        self._recursive = dictionary.family in ("instantaneous", "exponential")
        N, self._wide = names, 2 * names + factors
        fading, groups = len(self.state.fading), TILE // GROUP
        self._V = np.empty((TILE, self._wide))
        self._byplace = np.empty((GROUP, groups, self._wide))
        self._U = np.empty((GROUP, groups, N))
        self._starts = np.empty((fading, groups, N))
        self._tilted = np.empty((fading, groups, self._wide))
        self._tilt = self.state.decay[:, None] ** np.arange(GROUP)
        self._Z = np.empty((TILE if not self._recursive else 0, dictionary.size * N))
        self._clear()

    def _clear(self) -> None:
        K, N = self.dictionary.size * self.names, self.names
        self._rows = 0
        # Over the runs: Σ v y_{t−1}' by shape but for what lies within a group; that by h.
        self._C = [np.zeros((self._wide, N), order="F") for _ in self.state.fading]
        self._within = [np.zeros((self._wide, N), order="F") for _ in range(1, GROUP)]
        self._VV = np.zeros((self._wide, self._wide), order="F")  # Σ v v' over the runs, upper triangle
        self._edge: Array | None = None  # Σ y y' at ends less starts of the runs
        self._start: Array | None = None  # y where the open run began
        self._ZZ = np.zeros((K, K), order="F")  # of the rows summed as they stand, less those left out of a run
        self._VZ = np.zeros((self._wide, K), order="F")
        self._vv = np.zeros((self._wide, self._wide), order="F")

    def reset(self) -> None:
        """Start a session from rest."""
        self._close_run()
        self.state.reset()

    def add(self, u: Array, r: Array, f: Array, keep: NDArray[np.bool_]) -> None:
        """Add the next rows of the session.

        Parameters
        ----------
        u, r, f
            Flow (T, N), returns (T, N), factor returns (T, F); r and f may be undefined where a row is left out.
        keep
            (T,) whether a row counts; its flow feeds the state in any case.
        """
        for start in range(0, len(u), TILE):
            part = slice(start, start + TILE)
            self._tile(u[part], r[part], f[part], keep[part])

    def _tile(self, u: Array, r: Array, f: Array, keep: NDArray[np.bool_]) -> None:
        N, rows = self.names, len(u)
        V = self._V[:rows]
        V[:, :N], V[:, N : 2 * N], V[:, 2 * N :] = u, r, f
        out = ~keep
        count = int(np.count_nonzero(out))
        if count:
            V[out, N:] = 0.0
        self._rows += rows - count
        if self._recursive and count <= _MANY * rows and not self._dominate(V[:, :N], out, count):
            self._run_tile(u, V, out, count)
        else:
            self._plain_tile(u, V, keep)

    @staticmethod
    def _dominate(u: Array, out: NDArray[np.bool_], count: int) -> bool:
        """Return whether the flow of rows left out is so large that taking it off again would cost digits."""
        if not count:
            return False
        left = np.einsum("ij,ij->j", u[out], u[out])
        return bool((left > _LARGE * (np.einsum("ij,ij->j", u, u) - left)).any())

    def _run_tile(self, u: Array, V: Array, out: NDArray[np.bool_], count: int) -> None:
        if self._start is None:
            self._start = self.state.y.copy()
        whole = len(u) - len(u) % GROUP
        if self.state.fading and whole:
            self._groups(u[:whole], V[:whole], out[:whole])
        if self.state.fading and whole < len(u):
            Y = np.empty((len(u) - whole, len(self.state.fading) * self.names))
            self.state.lagged(u[whole:], Y)
            self._sum_products(V[whole:], Y)
            self._take_off(u[whole:][out[whole:]], Y[out[whole:]])
        if not self.state.fading:
            self._take_off(u[out], np.empty((count, 0)))
        self._VV = dsyrk(1.0, V.T, beta=1.0, c=self._VV, overwrite_c=1)

    def _groups(self, u: Array, V: Array, out: NDArray[np.bool_]) -> None:
        groups, N = len(u) // GROUP, self.names
        starts, tilted = self._starts[:, :groups], self._tilted[:, :groups]
        if groups < self._starts.shape[1]:  # the buffers' rows must lie beside each other
            starts, tilted = np.empty(starts.shape), np.empty(tilted.shape)
            byplace, flow = np.empty((GROUP, groups, self._wide)), np.empty((GROUP, groups, N))
        else:
            byplace, flow = self._byplace, self._U
        byplace[:] = V.reshape(groups, GROUP, self._wide).transpose(1, 0, 2)
        flow[:] = u.reshape(groups, GROUP, N).transpose(1, 0, 2)
        self.state.group_starts(u, starts)
        np.matmul(self._tilt, byplace.reshape(GROUP, -1), out=tilted.reshape(len(tilted), -1))
        for k in range(len(tilted)):
            self._C[k] = dgemm(1.0, tilted[k].T, starts[k].T, trans_b=1, beta=1.0, c=self._C[k], overwrite_c=1)
        for t in range(1, GROUP):
            for s in range(t):
                held = self._within[t - s - 1]
                self._within[t - s - 1] = dgemm(
                    1.0, byplace[t].T, flow[s].T, trans_b=1, beta=1.0, c=held, overwrite_c=1
                )
        if out.any():
            at = np.flatnonzero(out)
            group, place = at // GROUP, at % GROUP
            Y = np.empty((len(at), len(tilted), N))
            for k, a in enumerate(self.state.decay):
                Y[:, k] = a ** place[:, None] * starts[k, group]
                for s in range(GROUP - 1):
                    late = place > s
                    Y[late, k] += a ** (place[late] - 1 - s)[:, None] * flow[s, group[late]]
            self._take_off(u[at], Y.reshape(len(at), -1))

    def _sum_products(self, V: Array, Y: Array) -> None:
        """Add Σ v y_{t−1}' of single rows."""
        for k in range(len(self._C)):
            self._C[k] += V.T @ Y[:, k * self.names : (k + 1) * self.names]

    def _take_off(self, u: Array, Y: Array) -> None:
        """Take rows out of a run again: flow and regressors, their returns and factors being zero already."""
        if not len(u):
            return
        N, Z = self.names, np.tile(u, self.dictionary.size)
        for k, m in enumerate(self.state.fading):
            Z[:, m * N : (m + 1) * N] += (self.state.decay[k] - 1.0) * Y[:, k * N : (k + 1) * N]
        self._ZZ = dsyrk(-1.0, Z.T, beta=1.0, c=self._ZZ, overwrite_c=1)
        self._vv[:N, :N] -= np.triu(u.T @ u)

    def _plain_tile(self, u: Array, V: Array, keep: NDArray[np.bool_]) -> None:
        self._close_run()
        Z = self._Z[: len(u)] if len(self._Z) else np.empty((len(u), self.dictionary.size * self.names))
        self.state.regressors(u, Z)
        if not keep.all():
            Z, V = np.ascontiguousarray(Z[keep]), np.ascontiguousarray(V[keep])
        if len(Z):
            self._ZZ = dsyrk(1.0, Z.T, beta=1.0, c=self._ZZ, overwrite_c=1)
            self._VZ = dgemm(1.0, V.T, Z.T, trans_b=1, beta=1.0, c=self._VZ, overwrite_c=1)
            self._vv = dsyrk(1.0, V.T, beta=1.0, c=self._vv, overwrite_c=1)

    def _close_run(self) -> None:
        if self._start is None:
            return
        first, last = self._start.reshape(-1), self.state.y.reshape(-1)
        if self._edge is None:
            self._edge = np.zeros((first.size, first.size))
        self._edge += np.outer(last, last) - np.outer(first, first)
        self._start = None

    def _lagged_products(self) -> list[Array]:
        """Return Σ v y_{t−1}' (2N + F, N) by fading shape."""
        out = [held.copy() for held in self._C]
        for k, a in enumerate(self.state.decay):
            for h, inner in enumerate(self._within):
                out[k] += a**h * inner
        return out

    def take(self) -> Sums:
        """Return the sums of all rows since the last call and begin anew; the session's state stays."""
        self._close_run()
        N, M = self.names, self.dictionary.size
        runs, vv = _full(self._VV), _full(self._VV) + _full(self._vv)
        ZZ = _full(self._ZZ).reshape(M, N, M, N)
        vZ = self._VZ.reshape(self._wide, M, N).copy()
        if self._recursive:
            a, place = self.state.decay, {m: k for k, m in enumerate(self.state.fading)}
            uu, C = runs[:N, :N], self._lagged_products()
            for m in range(M):
                vZ[:, m] += runs[:, :N]
                ZZ[m] += uu[:, None, :]
                ZZ_m = ZZ[m]
                if m in place:
                    k = place[m]
                    vZ[:, m] += (a[k] - 1.0) * C[k]
                    ZZ_m += ((a[k] - 1.0) * C[k][:N].T)[:, None, :]
                for n, j in place.items():
                    ZZ_m[:, n] += (a[j] - 1.0) * C[j][:N]
                    if m in place and self._edge is not None:
                        edge = self._edge[k * N : (k + 1) * N, j * N : (j + 1) * N]
                        inner = a[k] * C[k][:N].T + a[j] * C[j][:N] + uu - edge
                        ZZ_m[:, n] += (a[k] - 1.0) * (a[j] - 1.0) / (1.0 - a[k] * a[j]) * inner
        both = ZZ.reshape(M * N, M * N)
        vZ2 = vZ.reshape(self._wide, M * N)
        r, f = slice(N, 2 * N), slice(2 * N, None)
        parts: dict[str, Any] = {"ZZ": 0.5 * (both + both.T), "rZ": vZ2[r], "fZ": vZ2[f], "rr": vv[r, r]}
        parts |= {"fr": vv[f, r], "ff": vv[f, f], "uu": vv[:N, :N]}
        rows = self._rows
        self._clear()
        return Sums(rows, float(rows), float(rows), **{k: np.ascontiguousarray(v) for k, v in parts.items()})


def _full(upper: Array) -> Array:
    """Return the symmetric matrix whose upper triangle is given, the rest of it being zero."""
    return np.ascontiguousarray(upper + np.triu(upper, 1).T)
