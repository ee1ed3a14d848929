"""The same step through PIQP, where the core was not compiled: the same limits, certificate and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_solve

from crosswind.solvers.mpc.condensed import Condensed
from crosswind.solvers.mpc.data import DATA
from crosswind.solvers.mpc.model import Array, MpcModel
from crosswind.solvers.mpc.program import beside, matrices, reachable, vectors
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.session import Session

__all__ = ["PiqpEngine"]

_BIG = 1e9
_ROUNDING = 1e-15
_OPTIMAL, _CERTIFIED, _REFUSED = 0, 1, 3


class PiqpEngine:
    """What :class:`crosswind.solvers.mpc.solver.MpcSolver` calls; it keeps nothing from step to step but the set-up.

    Parameters
    ----------
    model
        As for the core.

    Notes
    -----
    PIQP takes no warm start, so :meth:`save` is empty and ``shift`` changes nothing. ``work`` counts PIQP's own
    iterations and does not bound them.
    """

    def __init__(self, model: MpcModel) -> None:
        self.model = model
        self.condensed = Condensed(model)
        self._session: Session | None = None
        self._curve: Array | None = None
        m, k, M, H = model.sizes
        self._at = np.cumsum([0, H * m, H * m, H * k, H * k, H * M * m])
        self._scale = self._scales()
        self._prices = (np.zeros((H, m)), np.zeros((H, k)), np.zeros((H, m)))

    def _scales(self) -> dict[str, float]:
        """Return what a unit of each kind of data is; beyond 1e9 of it data are refused, as the core does."""
        model, u = self.model, self.model.unit
        cost = max(float(np.mean(np.diag(self.condensed.P))) * u * u, 1e-200)
        names = {"gap": u, "last": u, "plan": u, "cap": u, "rate": u, "gap_cap": u, "state": np.sqrt(cost)}
        names |= {"linear": cost / u, "carry": cost / u, "spread": cost / u, "price": cost / u}
        return names | {"curve": cost / model.unit**2}

    # ---- data -------------------------------------------------------------------------------------------------------

    def _sound(self, d: dict[str, Array]) -> bool:
        for name, array in d.items():
            low = 0.0 if name in ("spread", "cap", "rate", "gap_cap", "price", "curve") else -_BIG
            v = array / self._scale[name]
            if not (v >= low).all() or (name not in ("cap", "rate", "gap_cap") and not (v <= _BIG).all()):
                return False
        return True

    def _clip(self, h: Array, cap: Array, rate: Array, last: Array) -> Array:
        out, before = np.empty_like(h), last
        for t in range(len(h)):
            v = np.clip(h[t], -beside(-before, rate), beside(before, rate))
            out[t] = before = np.clip(v, -cap[t], cap[t])
        return out

    # ---- the step ---------------------------------------------------------------------------------------------------

    def step(self, *args: Any) -> tuple[int, int, int, int, float, float]:
        """Solve into ``trades``; as the core's step, with the same arguments in the same order."""
        m, k, M, H = self.model.sizes
        shapes = {"gap": (k,), "state": (M, m), "last": (m,), "rate": (m,)}
        d: dict[str, Array] = {}
        for name, value in zip(DATA, args, strict=False):
            shape = shapes.get(name, (H, k if name in ("plan", "carry", "gap_cap", "price", "curve") else m))
            if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.size != np.prod(shape):
                raise ValueError(name)
            if value.ndim > 1 and value.shape != shape:
                raise ValueError(name)
            d[name] = value.reshape(shape)
        trades, _, tol, _ = args[12:]
        if not isinstance(trades, np.ndarray) or trades.shape != (H, m) or not isinstance(tol, (int, float)):
            raise ValueError("trades")
        if not self._sound(d):
            return _REFUSED, 0, 0, 0, 0.0, np.inf
        cap, last, relaxed = reachable(d)
        if self._session is None or self._curve is None or not np.array_equal(self._curve, d["curve"]):
            self._curve = d["curve"].copy()
            P, A = matrices(self.model, self._curve)
            rows, n = A.shape
            open_rows = QuadraticProgram(P, np.zeros(n), A, np.full(rows, -np.inf), np.full(rows, np.inf))
            self._session = Session(open_rows, "piqp", tol=1e-9)
        found = self._session.update(**vectors(self.model, d, cap, last)).solve()
        x = np.asarray(found.x)
        good = x.size == self._at[-1] and bool(np.isfinite(x).all())
        h = self._clip(x[: H * m].reshape(H, m) if good else np.zeros((H, m)), cap, d["rate"], last)
        y = np.asarray(found.y) if good else np.zeros(self._session.program.m)
        z = np.asarray(found.z)[: H * m] if good else np.zeros(H * m)
        objective, gap, size = self._bound(d, h, cap, last, y, z)
        trades[:] = h
        word = _OPTIMAL if gap <= tol * max(size, 1e-200) else _CERTIFIED
        work = 0 if found.iterations is None else int(found.iterations)
        return word, int(relaxed), work, work, objective, gap + _ROUNDING * size

    def _bound(
        self, d: dict[str, Array], h: Array, cap: Array, last: Array, y: Array, z: Array
    ) -> tuple[float, float, float]:
        """Return cost, gap and size of trades; the gap by Fenchel's inequality row by row, as the core has it."""
        m, k, M, H = self.model.sizes
        c = self.condensed
        free, linear, constant = c.at(d)
        flat = h.ravel()
        G = (free - c.to_gap @ flat).reshape(H, k)
        r = np.diff(h, axis=0, prepend=last[None])
        rows = np.cumsum([H * k, H * M * m, H * m, H * m, H * k, H * k])
        y_h = (y[rows[2] : rows[3]] - y[rows[1] : rows[2]] + z).reshape(H, m)
        y_G = (y[rows[4] : rows[5]] - y[rows[3] : rows[4]]).reshape(H, k)
        y_r = y[rows[5] :].reshape(H, m)
        over = np.maximum(np.abs(G) - d["gap_cap"], 0.0)
        soft = over * (d["price"] + 0.5 * d["curve"] * over)
        spread = d["spread"] * np.abs(h)
        quadratic = float(0.5 * flat @ (c.P @ flat))
        objective = constant + quadratic + float(linear @ flat) + float(spread.sum() + soft.sum())
        size = abs(constant) + quadratic + float(np.abs(linear * flat).sum() + spread.sum() + soft.sum())
        # Prices that lean on no limit are cut to what remains finite.
        y_h = np.where(np.isfinite(cap), y_h, np.clip(y_h, -d["spread"], d["spread"]))
        beyond = np.maximum(np.abs(y_h) - d["spread"], 0.0)
        gap = float((spread + np.where(beyond > 0.0, cap, 0.0) * beyond - h * y_h).sum())
        rated = np.isfinite(d["rate"])
        y_r = np.where(rated, y_r, 0.0)
        gap += float((np.where(rated, d["rate"], 0.0) * np.abs(y_r) - r * y_r).sum())
        capped = np.isfinite(d["gap_cap"])
        y_G = np.where(capped, y_G, 0.0)
        y_G = np.where(d["curve"] > 0.0, y_G, np.clip(y_G, -d["price"], d["price"]))
        past = np.maximum(np.abs(y_G) - d["price"], 0.0)
        bend = np.divide(0.5 * past**2, d["curve"], out=np.zeros_like(past), where=past > 0.0)
        gap += float((soft + np.where(capped, d["gap_cap"], 0.0) * np.abs(y_G) + bend - G * y_G).sum())
        residual = c.P @ flat + linear + y_h.ravel() - c.to_gap.T @ y_G.ravel()
        residual += (y_r - np.vstack((y_r[1:], np.zeros((1, m))))).ravel()
        gap += float(0.5 * residual @ cho_solve(c.inverse, residual))
        self._prices = (np.sign(y_h) * beyond, y_G, y_r)
        return objective, max(gap, 0.0), size

    def prices(self, trade: Array, gap: Array, rate: Array, /) -> None:
        """Write the prices of the last step."""
        for out, found in zip((trade, gap, rate), self._prices, strict=True):
            out[:] = found

    def reset(self) -> None:
        """Set up anew, so that what follows is as in the beginning to the last bit."""
        self._session = None

    def save(self) -> bytes:
        """Return nothing: there is no warm start."""
        return b""

    def restore(self, saved: bytes, /) -> bool:
        """Tell whether the bytes are those of :meth:`save`."""
        return saved == b""
